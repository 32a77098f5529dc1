/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of libmobohv: the partition and VP objects, engine vtable, and who may touch what.
 *
 * Lock order: partition.map_lock -> vp.lapic.lock (none is held while a callback of hv_ops runs).
 * Attention: another thread asks something of a VP by setting a bit in vp->attention and calling
 * hv_vp_wake(); the VP looks at the word at every block boundary and while halted. */
#ifndef MOBO_HV_INT_H
#define MOBO_HV_INT_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <mobo/hv.h>

#include "hv/x86/cpu.h"
#include "hv/x86/mmu.h"
#include "hv/hyperv/hyperv.h"
#include "hv/lapic.h"

enum {
    HV_ATT_CANCEL = 1u << 0,  /* hv_vp_cancel */
    HV_ATT_INTR = 1u << 1,    /* look at the local APIC, ExtINT, NMI, INIT, SIPI again */
    HV_ATT_TIMER = 1u << 2,   /* the local APIC timer's deadline may have come */
    HV_ATT_SYNC = 1u << 3,    /* engine request: TLB or code of this VP must be dropped (mmu.c) */
    HV_ATT_EXIT = 1u << 4     /* vp->exit is filled in: leave hv_vp_run */
};

struct hv_vp;

/* An engine executes VPs.  All functions run on the VP's thread unless said. */
struct hv_engine {
    const char *name, *summary;
    bool (*probe)(char *reason, size_t len); /* usable on this host? */
    int (*vp_create)(struct hv_vp *vp);      /* any thread */
    void (*vp_destroy)(struct hv_vp *vp);
    /* Run until vp->attention has HV_ATT_EXIT or HV_ATT_CANCEL; see hv_vp_events. */
    void (*run)(struct hv_vp *vp);
    void (*reset)(struct hv_vp *vp);         /* drop everything derived from state */
    /* Forget translations that were made from the 64-byte lines @lines of a RAM page (more may go). */
    void (*code_drop)(struct hv_vp *vp, uint64_t ram_page, uint64_t lines);
    void (*stop_block)(struct hv_vp *vp);    /* leave the current block after this instruction */
    /* hva-based engines (KVM) learn of map changes here; NULL for software engines. */
    int (*map_changed)(struct hv_partition *p);
    /* State that lives outside vp->cpu (KVM); NULL for software engines. */
    int (*get_state)(struct hv_vp *vp);
    int (*set_state)(struct hv_vp *vp);
    int (*set_hyperv)(struct hv_vp *vp); /* vp->hyperv or the partition's were set (with VP 0) */

    /* For engines that have more than registers outside (KVM: local APICs, SynIC, clocks, memory slots); NULL for
     * software engines.  Any thread unless said. */
    int (*partition_create)(struct hv_partition *p); /* before the first VP */
    void (*partition_destroy)(struct hv_partition *p); /* after the last */
    void (*kick)(struct hv_vp *vp);          /* attention is set: leave the guest; async-signal-safe */
    int (*interrupt)(struct hv_partition *p, const struct hv_interrupt *irq);
    void (*nmi)(struct hv_partition *p);
    void (*sint)(struct hv_vp *vp, unsigned sint); /* raise a SINT */
    void (*dirty_sync)(struct hv_partition *p, uint64_t gpa, uint64_t len); /* into our dirty log */
    int (*cpuid_changed)(struct hv_vp *vp); /* hv_features_limit; before the VP has run */
    void (*cpuid_filter)(const struct hv_vp *vp, uint32_t leaf, uint32_t sub, uint32_t r[4]);
    uint64_t (*tsc_hz)(const struct hv_partition *p);
    uint64_t (*tsc_at)(struct hv_vp *vp, uint64_t ns); /* what RDTSC gives at guest time @ns; the VP does not run */
    int (*posted_port)(struct hv_partition *p, uint16_t port, unsigned len, bool on);
    void (*counters)(struct hv_vp *vp, void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx);
    void (*differences)(void (*line)(void *ctx, const char *text), void *ctx); /* without a partition */
};
extern const struct hv_engine hv_engine_interp, hv_engine_jit, hv_engine_kvm;

/* An exception on its way: filled by x86_raise, consumed by x86_exception_entry. */
struct x86_pending {
    uint8_t valid;
    uint8_t vector;
    uint8_t type;       /* enum x86_event_type */
    uint8_t has_error;
    uint32_t error;
    uint64_t cr2;       /* #PF only, committed to CR2 at delivery */
    uint64_t dr6;       /* #DB only: bits to set at delivery */
    uint8_t ilen;       /* software interrupts: length of the instruction */
};

struct hv_vp {
    struct x86_cpu cpu;
    struct x86_mmu mmu;

    _Atomic uint32_t attention;
    _Atomic uint32_t wake_seq;        /* futex word of a halted VP */
    _Atomic uint64_t kicked_ns;       /* host time at which a running VP was first asked for attention; 0: it was not */
    uint8_t want_window;              /* an interrupt waits for IF or the end of a shadow */
    uint8_t rep_begun;                /* cpu.rip is a repeated string instruction with iterations done and to do */

    struct hv_partition *p;
    unsigned index;
    struct hv_lapic lapic;
    struct hv_hyperv_vp hyperv;
    uint8_t idle;                     /* halted by the guest idle MSR: any interrupt ends it, IF or not */
    enum hv_run_state run_state;      /* RUNNING, HALTED, WAIT_SIPI, SHUTDOWN */
    _Atomic bool running;             /* a thread is inside hv_vp_run */
    void *engine_data;                /* owned by the engine (the interpreter's, when it is the translator) */
    struct jit *jit;                  /* hv/jit: owned by the translator */

    /* Exceptions leave instruction code by longjmp to here; the engine's run loop sets it. */
    jmp_buf jmp;
    struct x86_pending exc;           /* raised, not yet delivered */
    struct x86_pending delivering;    /* delivery under way: for double faults (6.15, table 6-5) */

    struct hv_exit exit;
    uint64_t counters[HV_CTR_COUNT];
    struct x86_insn scratch_insn;
    struct x86_vec *vec;              /* hv/x86/vec.c: host stubs of vector instructions */
};

enum { HV_CLAIMS = 256 };

struct hv_partition {
    const struct hv_engine *engine;
    void *engine_data;                /* owned by the engine */
    struct hv_ops ops;
    void *ctx;
    bool enlightened;
    uint64_t code_cache;              /* as in struct hv_config */
    bool limited;                     /* CPUID shows no feature that is not in limit: hv_features_limit */
    uint32_t limit[HV_FEATURE_WORDS];
    unsigned nvps;
    struct hv_vp *vps[HV_MAX_VPS];
    struct hv_gpa_space *gpa;         /* gpa.c */
    struct hv_clock *clock;           /* clock.c */
    struct hv_timer_thread *_Atomic timers; /* timer.c: kicks VPs at their deadlines */
    struct hv_hyperv *hyperv;         /* NULL when not enlightened */
    _Atomic bool extint;              /* the 8259 pair's INTR */
    _Atomic bool a20_masked;
    struct x86_page *pages;           /* by RAM page number, lazily backed (mmu.c) */
    pthread_mutex_t excl_lock;        /* mmu.c: one VP runs alone */
    _Atomic bool excl_active;
    _Atomic uint32_t claims[HV_CLAIMS]; /* of code, under way: by RAM page, see x86_code_claim */
    unsigned excl_depth;              /* of the owner: nested */
    struct hv_vp *excl_owner;         /* an exception inside: the run loop calls x86_mmu_exclusive_end */
    _Atomic uint64_t first_insn_ns;
    const char *check;                /* hv_config.check, while VPs are made; the others too: */
    bool jit_trace;
    const char *jit_dump, *symbols;
    unsigned native;                  /* enum hv_native */
};

/** Bytes of RAM so far. */
uint64_t hv_ram_len(const struct hv_partition *p);
/** Record a sentence for hv_last_error. */
void hv_fail_text(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
/** The same with the value @err (negative errno): a macro, so that an analyzer sees that it comes back. */
#define hv_fail(err, ...) hv_err((hv_fail_text(__VA_ARGS__), (err)))
static inline int hv_err(int err) { return err; }
void hv_log(struct hv_partition *p, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** Set attention bits of @vp and wake it if it sleeps.  Any thread, async-signal-safe. */
void hv_vp_kick(struct hv_vp *vp, uint32_t bits);

/** Called by an engine at an instruction boundary when vp->attention is not zero, and always after HLT
 * (vp->run_state = HV_VP_HALTED).  Clears what it handles: INIT and SIPI, timer expiry, NMI, interrupts
 * (delivered through x86_interrupt when IF and shadows allow, else vp->want_window is set), engine
 * requests (x86_mmu_sync), and waits on the futex while the VP is halted or waits for SIPI.
 * @return true when the engine has to return from run(): HV_ATT_CANCEL or HV_ATT_EXIT is set. */
bool hv_vp_events(struct hv_vp *vp);

/** To be called by whatever may open the interrupt window (STI, POPF, IRET, CR8 write, ...): sets
 * HV_ATT_INTR when vp->want_window. */
static inline void hv_vp_window(struct hv_vp *vp)
{
    if (vp->want_window)
        atomic_fetch_or_explicit(&vp->attention, HV_ATT_INTR, memory_order_relaxed);
}

/** Guest time at which this VP has to look at its timers, UINT64_MAX: never. */
static inline uint64_t hv_vp_deadline_ns(const struct hv_vp *vp)
{
    uint64_t a = hv_lapic_deadline_ns(&vp->lapic);
    uint64_t b = atomic_load_explicit(&vp->hyperv.deadline_ns, memory_order_relaxed);

    return a < b ? a : b;
}

/** Leave hv_vp_run with @reason; formats vp->exit.text, sets HV_ATT_EXIT.  Returns. */
void hv_vp_exit(struct hv_vp *vp, enum hv_exit_reason reason, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- CPUID, MSRs (cpuid.c, msr.c) ---- */
void hv_cpuid_query(const struct hv_vp *vp, uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);
/** Is an instruction-set feature shown to the guest?  (enum x86_feature) */
bool hv_feature(const struct hv_partition *p, unsigned feature);
/** Names of the features of @saved that @p does not offer, each behind a space.  @return their number, -EINVAL. */
int hv_features_missing(struct hv_partition *p, const struct hv_cpu_features *saved, char *names, size_t len);
/** @return 0, or -1: #GP(0).  Writes take effect (modes, TLB) at once. */
int hv_msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val);
int hv_msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val);
/** Which XCR0 bits can be set; bits allowed in CR4. */
uint64_t hv_xcr0_mask(const struct hv_partition *p);
uint64_t hv_cr4_mask(const struct hv_partition *p);
unsigned hv_maxphyaddr(const struct hv_partition *p);

/* ---- time (clock.c) ---- */
uint64_t hv_tsc_read(struct hv_vp *vp); /* guest TSC of this VP, offset and adjust applied */
uint64_t hv_tsc_at(struct hv_vp *vp, uint64_t ns); /* the same, by any engine, at guest time @ns */

/* ---- outside world (vp.c): counted, x87 state of the host saved around the callback ---- */
uint32_t hv_pio_read(struct hv_vp *vp, uint16_t port, unsigned len);
void hv_pio_write(struct hv_vp *vp, uint16_t port, unsigned len, uint32_t val);
/** MMIO including the local APIC page (checked first). */
uint64_t hv_mmio_read(struct hv_vp *vp, uint64_t gpa, unsigned len);
void hv_mmio_write(struct hv_vp *vp, uint64_t gpa, unsigned len, uint64_t val);

/* ---- GPA space (gpa.c) ---- */
struct hv_gpa_ref { void *hva; unsigned flags; uint64_t ram_page; /* RAM offset / 4096 */ };
/** Translate one page.  @return false when nothing is mapped at @gpa (MMIO).  Any thread, lock-free. */
bool hv_gpa_lookup(struct hv_partition *p, uint64_t gpa, struct hv_gpa_ref *ret);
/** Lay one page of backing memory over whatever is mapped at @gpa, whose contents stay (TLFS 3.5, 5.2.1);
 * @offset identifies the overlay: mapping it again moves it.  Not while the calling VP is in the guest
 * (x86_mmu_leave).  @return 0, -EINVAL, -ENOSPC. */
int hv_overlay_map(struct hv_partition *p, uint64_t gpa, uint64_t offset, unsigned flags);
void hv_overlay_unmap(struct hv_partition *p, uint64_t offset);
/** Each range that the guest sees, in order, overlays included.  @fn runs with the map locked. */
struct hv_gpa_range { uint64_t gpa, len, offset; unsigned flags; };
void hv_gpa_ranges(struct hv_partition *p, void (*fn)(void *ctx, const struct hv_gpa_range *r), void *ctx);
/** Set the dirty bits of a range of RAM, by RAM offset. */
void hv_gpa_mark_dirty_range(struct hv_partition *p, uint64_t offset, uint64_t len);
/** Note a guest store for the dirty log (only called when the region logs). */
void hv_gpa_mark_dirty(struct hv_partition *p, uint64_t gpa);

#endif
