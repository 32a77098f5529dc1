/* SPDX-License-Identifier: BSD-2-Clause */
/* libmobohv: partitions, guest-physical memory, virtual processors.
 *
 * The shape follows the Windows Hypervisor Platform and the partition services of the Hypervisor
 * Top Level Functional Specification (TLFS).  The library knows no device, no file format and no
 * configuration: what the guest does outside memory reaches the embedder through struct hv_ops.
 *
 * Errors are negative errno values; hv_last_error() has a sentence for the calling thread. */
#ifndef MOBO_HV_H
#define MOBO_HV_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HV_API __attribute__((visibility("default")))

enum { HV_MAX_VPS = 64, HV_PAGE_SIZE = 4096 };

struct hv_partition;
struct hv_vp;

/* ---- what the embedder provides -------------------------------------------------------------- */

/* Every callback runs on the thread of the VP that caused it, with no hv lock held; callbacks of
 * different VPs run at the same time.  A callback may call any hv function but hv_vp_run and
 * hv_partition_destroy. */
struct hv_ops {
    size_t size; /* sizeof(struct hv_ops) */

    /* Port access; @len is 1, 2 or 4.  A read returns the value in the low bits; an unclaimed port
     * reads all ones. */
    uint32_t (*pio_read)(void *ctx, unsigned vp, uint16_t port, unsigned len);
    void (*pio_write)(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val);

    /* Access to guest-physical memory that no RAM or ROM is mapped at (or a write to ROM); @len is
     * 1 to 8 and never crosses a page. */
    uint64_t (*mmio_read)(void *ctx, unsigned vp, uint64_t gpa, unsigned len);
    void (*mmio_write)(void *ctx, unsigned vp, uint64_t gpa, unsigned len, uint64_t val);

    /* The 8259 pair acknowledges: returns the vector of the pending external interrupt, or -1 when
     * it went away (the VP then goes on without an interrupt).  See hv_extint_set. */
    int (*extint_ack)(void *ctx, unsigned vp);

    /* A local APIC ended a level-triggered interrupt: broadcast to the I/O APICs. */
    void (*eoi)(void *ctx, unsigned vp, unsigned vector);

    /* A line for the embedder's log; @level 0 error, 1 warning, 2 info, 3 debug, 4 trace (only if asked for). */
    void (*log)(void *ctx, int level, const char *line);

    /* Hypercalls PostMessage and SignalEvent (TLFS 11.10, 11.11) of an enlightened guest; @payload is a copy of
     * @len (at most 240) bytes.  @return a hypercall status (TLFS appendix B): 0 success, 18 invalid connection
     * id, 19 insufficient buffers.  NULL: every connection id is invalid.  An engine may deliver signals after the
     * first of a connection from a thread of its own, with @vp 0; hv_vp_run returns only when all are delivered. */
    uint16_t (*post_message)(void *ctx, unsigned vp, uint32_t connection, uint32_t type, const void *payload,
                             unsigned len);
    uint16_t (*signal_event)(void *ctx, unsigned vp, uint32_t connection, uint16_t flag);

    /* The VP has nothing to do and its thread goes to sleep: what was put off while it was busy may be done now.
     * Software engines only.  NULL: nobody is told. */
    void (*idle)(void *ctx, unsigned vp);
};

/* ---- engines --------------------------------------------------------------------------------- */

struct hv_engine_info {
    const char *name;    /* "interp", "jit", "kvm" */
    const char *summary;
    bool usable;         /* works on this host, now */
    char reason[160];    /* why or why not, one line */
};

/** The engines known to this build, fastest first.  @return their number; fills up to @max. */
HV_API unsigned hv_engines(struct hv_engine_info *info, unsigned max);

/** One of them, without a look at the others (KVM's verdict takes milliseconds).  @return 0, -ENOENT. */
HV_API int hv_engine_query(const char *name, struct hv_engine_info *info);

/** The engine that "auto" takes on this host.  Static string. */
HV_API const char *hv_engine_auto(void);

/** What a guest sees differently under an engine than under the software engines, one line each.  None, when there is
 * no such engine or it is not usable here.  Makes machines to find out. */
HV_API void hv_engine_differences(const char *engine, void (*line)(void *ctx, const char *text), void *ctx);

/* ---- partition ------------------------------------------------------------------------------- */

struct hv_config {
    size_t size;           /* sizeof(struct hv_config) */
    const char *engine;    /* "auto" or a name */
    unsigned vps;          /* 1..HV_MAX_VPS */
    bool enlightened;      /* Hyper-V CPUID leaves, MSRs, hypercalls, SynIC */
    const struct hv_ops *ops; /* copied */
    void *ctx;             /* passed to every callback */
    /* What an enlightened guest sees is (HV_ENL_DEFAULT & ~hide) | show. */
    uint32_t enl_hide, enl_show; /* enum hv_enlightenment */
    uint64_t code_cache;   /* bytes of translated code that a VP of engine jit keeps at most; 0: by the guest's memory */
    /* Compare the translator with the reference while it runs: "interp" every block, "interp:MS" some every MS
     * milliseconds, "interp:blocks[:TIMES[:MS]]" besides each block the first times, "interp:from:ADDRESS" every block as
     * soon as code from there on runs.  A difference ends the process with status 2 and a report on standard error.  NULL: no.  Another
     * engine than the translator: -EINVAL. */
    const char *check;
    /* What the translator shows of its work; another engine: -EINVAL.
     * jit_trace: lines of level 4 through hv_ops.log for each block that is made, chained, dropped, and for resets.
     * jit_dump: FILE or FILE:ADDRESS-ADDRESS (hexadecimal), blocks with guest and host code as text.
     * symbols: with commas "map" (/tmp/perf-PID.map), "dump" or "dump=FOLDER" (jit-PID.dump for perf inject), "gdb". */
    bool jit_trace;
    const char *jit_dump, *symbols;
    /* Programs of the guest that compute run in a process of their own, as they are, by the host's processor (engine jit; Linux
     * 6.6): enum hv_native. */
    unsigned native;
};
enum hv_native { HV_NATIVE_AUTO, HV_NATIVE_NO, HV_NATIVE_ALWAYS /* all programs, at once: for tests */ };
enum { HV_CODE_CACHE_MIN = 4 << 20, HV_CODE_CACHE_MAX = 96 << 20 };

/* Parts of the Hyper-V interface that can be shown or not; hypercalls and VP index are always there. */
enum hv_enlightenment {
    HV_ENL_VP_RUNTIME = 1 << 0,
    HV_ENL_REFERENCE_TSC = 1 << 1,   /* the page; the counter is always there */
    HV_ENL_SYNIC = 1 << 2,           /* without it there is no VMBus */
    HV_ENL_STIMERS = 1 << 3,
    HV_ENL_DIRECT_STIMERS = 1 << 4,
    HV_ENL_IDLE = 1 << 5,
    HV_ENL_RESET = 1 << 6,
    HV_ENL_FREQUENCIES = 1 << 7,
    HV_ENL_CRASH = 1 << 8,
    HV_ENL_REMOTE_FLUSH = 1 << 9,
    HV_ENL_IPI = 1 << 10,
    HV_ENL_RELAXED_TIMING = 1 << 11,
    HV_ENL_TSC_INVARIANT = 1 << 12,  /* a guest then prefers the TSC to the reference TSC page */
    HV_ENL_EXTENDED = 1 << 13,       /* extended hypercalls */
    HV_ENL_ALL = (1 << 14) - 1,
    HV_ENL_DEFAULT = HV_ENL_ALL & ~(HV_ENL_TSC_INVARIANT | HV_ENL_EXTENDED)
};

/** Create a partition whose VPs are in the power-on state, VP 0 the bootstrap processor.
 * @return 0, -EINVAL (no VPs, too many, a code cache beyond its bounds), -ENOENT (no such engine), -ENOTSUP (engine not usable here), -ENOMEM. */
HV_API int hv_partition_create(const struct hv_config *cfg, struct hv_partition **ret);

/** Free everything.  No VP may be running.  NULL is allowed. */
HV_API void hv_partition_destroy(struct hv_partition *p);

HV_API const char *hv_partition_engine(const struct hv_partition *p);
HV_API unsigned hv_partition_vps(const struct hv_partition *p);

/** A sentence about the last error of the calling thread.  Valid until its next hv call. */
HV_API const char *hv_last_error(void);

/* ---- guest-physical memory --------------------------------------------------------------------
 * RAM is one memfd a partition, so that another process can map it.  A "RAM offset" is an offset in
 * that memfd.  Map changes are allowed while VPs run; they are complete on return. */

enum { HV_MAP_READ = 1, HV_MAP_WRITE = 2, HV_MAP_EXEC = 4, HV_MAP_RWX = 7, HV_MAP_DIRTY_LOG = 8 };

/** Reserve @len bytes of zeroed backing memory (page multiple), not yet visible to the guest.
 * @param ret_offset  its RAM offset
 * @return 0, -EINVAL, -ENOMEM.  Host memory is used when touched, not before. */
HV_API int hv_ram_alloc(struct hv_partition *p, uint64_t len, uint64_t *ret_offset);

/** The memfd (borrowed) and the VMM's own read-write mapping of a RAM range (borrowed, stable). */
HV_API int hv_ram_fd(struct hv_partition *p);
HV_API void *hv_ram_hva(struct hv_partition *p, uint64_t offset, uint64_t len);

/** Make backing memory visible at @gpa.  Replaces what overlaps.  @return 0 or -EINVAL, -ENOSPC. */
HV_API int hv_gpa_map(struct hv_partition *p, uint64_t gpa, uint64_t len, uint64_t offset, unsigned flags);
HV_API int hv_gpa_unmap(struct hv_partition *p, uint64_t gpa, uint64_t len);
/** Change the access flags of what is mapped in the range. */
HV_API int hv_gpa_protect(struct hv_partition *p, uint64_t gpa, uint64_t len, unsigned flags);

/** Copy to or from mapped guest memory; crosses regions; writes honour HV_MAP_WRITE, log dirty
 * pages and drop translated code.  @return 0, or -EFAULT when a byte is not mapped (nothing done).
 * Thread: any. */
HV_API int hv_gpa_read(struct hv_partition *p, uint64_t gpa, void *buf, size_t len);
HV_API int hv_gpa_write(struct hv_partition *p, uint64_t gpa, const void *buf, size_t len);

/** Host address of @len bytes of guest memory within one mapped region, or NULL.  After writing
 * through it call hv_gpa_dirty.  Valid until the region is unmapped. */
HV_API void *hv_gpa_hva(struct hv_partition *p, uint64_t gpa, size_t len, bool write);
HV_API void hv_gpa_dirty(struct hv_partition *p, uint64_t gpa, size_t len);

/** Fetch and clear the dirty bits of [gpa, gpa+len): bit n of @bitmap is page n.  Regions without
 * HV_MAP_DIRTY_LOG answer all ones. */
HV_API int hv_gpa_dirty_log(struct hv_partition *p, uint64_t gpa, uint64_t len, uint64_t *bitmap);

/** Writes to these ports may reach ops.pio_write late, but in order and before any other access of the guest to ports
 * or MMIO does, and before hv_vp_run returns.  An engine that has no use for it ignores it.  @return 0 or -errno. */
HV_API int hv_pio_posted(struct hv_partition *p, uint16_t port, unsigned len, bool on);

/** Gate A20 (default open).  Thread: any. */
HV_API void hv_a20_set(struct hv_partition *p, bool enabled);

/* ---- time ------------------------------------------------------------------------------------- */

/** Guest time in ns: 0 at creation, stops while paused.  Every guest clock derives from it. */
HV_API uint64_t hv_time_ns(const struct hv_partition *p);
HV_API void hv_time_set_ns(struct hv_partition *p, uint64_t ns); /* restore; only while paused */
/** The CLOCK_MONOTONIC instant of a guest time, for waiting; UINT64_MAX while paused. */
HV_API uint64_t hv_time_to_host_ns(const struct hv_partition *p, uint64_t guest_ns);
/** Stop or start guest time.  A new partition is paused.  Does not stop VPs. */
HV_API void hv_time_pause(struct hv_partition *p, bool paused);
HV_API uint64_t hv_tsc_hz(const struct hv_partition *p);

/* ---- virtual processors ----------------------------------------------------------------------- */

enum hv_exit_reason {
    HV_EXIT_CANCELED = 1,   /* hv_vp_cancel */
    HV_EXIT_TRIPLE_FAULT,
    HV_EXIT_RESET,          /* the guest asked through a Hyper-V MSR */
    HV_EXIT_CRASH,          /* the guest reported a crash through the crash MSRs */
    HV_EXIT_ERROR           /* the engine cannot go on; see text */
};

struct hv_exit {
    enum hv_exit_reason reason;
    char text[256];         /* one line, no line feed */
    uint64_t param[5];      /* HV_EXIT_CRASH: the crash parameters */
};

/** Run VP @vp on the calling thread until something ends it.  A halted or not yet started VP waits
 * inside.  One thread a VP at a time.  @return 0 with *ret_exit set, or -errno. */
HV_API int hv_vp_run(struct hv_partition *p, unsigned vp, struct hv_exit *ret_exit);

/** Make hv_vp_run return soon with HV_EXIT_CANCELED; when it is not running, its next call returns
 * at once.  Thread: any; also async-signal-safe. */
HV_API void hv_vp_cancel(struct hv_partition *p, unsigned vp);

/** Power-on state for every VP: registers, local APIC, MSRs.  No VP may be running. */
HV_API void hv_partition_reset(struct hv_partition *p);

/* ---- interrupts -------------------------------------------------------------------------------- */

enum hv_delivery { HV_FIXED = 0, HV_LOWEST = 1, HV_SMI = 2, HV_NMI = 4, HV_INIT = 5, HV_SIPI = 6, HV_EXTINT = 7 };

struct hv_interrupt {
    uint32_t dest;       /* APIC id (physical) or logical destination */
    uint8_t logical;     /* destination mode */
    uint8_t delivery;    /* enum hv_delivery */
    uint8_t vector;
    uint8_t level;       /* trigger mode: 1 level */
};

/** Deliver an interrupt message to the local APICs.  @return VPs that took it (0: none).  Thread: any. */
HV_API int hv_interrupt_request(struct hv_partition *p, const struct hv_interrupt *irq);
/** The same from an MSI address and data pair (SDM 3A 11.11). */
HV_API int hv_msi(struct hv_partition *p, uint64_t addr, uint32_t data);
/** Drive the INTR line of the 8259 pair (VP 0's LINT0).  Thread: any. */
HV_API void hv_extint_set(struct hv_partition *p, bool level);
/** Pulse NMI (LINT1 of every local APIC).  Thread: any. */
HV_API void hv_nmi(struct hv_partition *p);

/* ---- synthetic interrupts of an enlightened guest (TLFS 11) --------------------------------------- */

/** Post a message of @len (at most 240) bytes to @sint of VP @vp; waits in a queue while the slot is taken.
 * @return 0; -EINVAL; -ENXIO: the guest has no SynIC on; -ENOBUFS: too many wait.  Thread: any. */
HV_API int hv_message_post(struct hv_partition *p, unsigned vp, unsigned sint, uint32_t type, const void *payload,
                           unsigned len);
/** Set event flag @flag (0-2047) of @sint; interrupts when it was clear.  @return as above.  Thread: any. */
HV_API int hv_event_signal(struct hv_partition *p, unsigned vp, unsigned sint, unsigned flag);

/* ---- register state ----------------------------------------------------------------------------
 * One structure a VP, version HV_STATE_VERSION, same for all engines.  Little-endian host layout. */

enum { HV_STATE_VERSION = 1 };

struct hv_segment {
    uint64_t base;
    uint32_t limit;      /* in bytes, granularity applied */
    uint16_t selector;
    uint16_t attr;       /* descriptor bits 8-15 in 0-7, bits 20-23 in 12-15; bit 8: unusable */
};

enum hv_run_state { HV_VP_RUNNING = 0, HV_VP_HALTED = 1, HV_VP_WAIT_SIPI = 2, HV_VP_SHUTDOWN = 3 };

struct hv_vp_state {
    uint32_t version;    /* HV_STATE_VERSION */
    uint32_t size;       /* sizeof(struct hv_vp_state) */
    uint64_t gpr[16], rip, rflags;
    struct hv_segment es, cs, ss, ds, fs, gs, ldtr, tr;
    uint64_t gdtr_base, idtr_base;
    uint32_t gdtr_limit, idtr_limit;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, xcr0;
    uint64_t dr[8];
    uint64_t pdpte[4];
    uint8_t xsave[1024]; /* standard format, XCR0 components 0-2 (832 bytes used) */
    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, pat;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc_adjust, tsc_offset, apic_base, misc_enable, spec_ctrl, mcg_status;
    uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[16];
    uint64_t tsc_deadline;
    uint32_t run_state;     /* enum hv_run_state */
    uint8_t int_shadow, nmi_masked, nmi_pending, pending_valid;
    uint32_t pending_vector, pending_error; /* an exception or interrupt whose delivery had begun */
    uint8_t pending_has_error, pending_type, reserved0[6];
    uint8_t apic[4096];     /* local APIC register page (SDM table 11-1), x2APIC in the same layout */
    uint64_t apic_timer_start_ns; /* guest time at which the running count began */
};

/** @return 0; -EINVAL with a sentence when the state is not one that a processor can be in (then
 * nothing has changed).  The VP must not be running. */
HV_API int hv_vp_get_state(struct hv_partition *p, unsigned vp, struct hv_vp_state *ret);
HV_API int hv_vp_set_state(struct hv_partition *p, unsigned vp, const struct hv_vp_state *state);

/* ---- state of the Hyper-V interface --------------------------------------------------------------
 * What an enlightened partition has besides the registers of its VPs: one structure for the partition and one for each
 * VP, the same for all engines, and the messages that wait for a slot.  The contents of overlay pages belong to it,
 * they hide the RAM under them and are no part of it.
 *
 * To restore: RAM and hv_time_set_ns first, then hv_vp_set_state of every VP, hv_hyperv_set, and hv_hyperv_vp_set of
 * every VP.  Guest time, TSC, reference counter, reference TSC page and synthetic timers then agree as they did when
 * the state was taken, also where the engine that goes on counts its TSC in another way.
 *
 * An engine that keeps part of it outside (KVM) has it filled in before it is read (hv_engine.get_state) and learns
 * of what was set by hv_engine.set_hyperv. */

enum { HV_HYPERV_STATE_VERSION = 1, HV_STATE_SINTS = 16, HV_STATE_STIMERS = 4 };

struct hv_hyperv_state {
    uint32_t version, size;      /* HV_HYPERV_STATE_VERSION, sizeof(struct hv_hyperv_state) */
    uint32_t shown;              /* enum hv_enlightenment */
    uint8_t tsc_invariant;       /* the guest has asked for the CPUID bit */
    uint8_t reserved[3];
    uint64_t guest_os_id, hypercall, reference_tsc, crash[5]; /* MSRs */
    uint32_t tsc_seq, reserved1; /* the reference TSC page (TLFS 12.6.1), 0: never filled in */
    uint64_t tsc_scale;
    int64_t tsc_offset;
};

struct hv_stimer_state {
    uint64_t config, count;      /* MSRs (TLFS 12.4.2) */
    uint64_t deadline_ns;        /* guest time; UINT64_MAX: not running, or by configuration and count */
};

struct hv_hyperv_vp_state {
    uint32_t version, size;
    uint64_t scontrol, siefp, simp, sint[HV_STATE_SINTS], assist; /* MSRs */
    struct hv_stimer_state stimer[HV_STATE_STIMERS];
    uint64_t runtime_ns;         /* of the VP runtime MSR */
    uint8_t lazy_eoi;            /* the assist page says that no EOI is needed (TLFS 10.3.5) */
    uint8_t idle;                /* halted by the guest idle MSR: any interrupt ends it, IF or not */
    uint8_t reserved[6];
    uint8_t message_page[HV_PAGE_SIZE], event_page[HV_PAGE_SIZE], assist_page[HV_PAGE_SIZE];
};

/* A message that waits until the slot of its SINT is free. */
struct hv_message {
    uint32_t type;
    uint8_t sint, len, reserved[2];
    uint8_t payload[240];
};

/** @return 0; -EINVAL: not an enlightened partition; set: no such state, or enlightenments that differ (then nothing
 * has changed); -EBUSY: a VP runs; -ENOMEM; of get and set also what the engine says. */
HV_API int hv_hyperv_get(struct hv_partition *p, struct hv_hyperv_state *ret);
HV_API int hv_hyperv_set(struct hv_partition *p, const struct hv_hyperv_state *state);
HV_API int hv_hyperv_vp_get(struct hv_partition *p, unsigned vp, struct hv_hyperv_vp_state *ret);
/** @param messages  @n of them, in the order in which they were posted */
HV_API int hv_hyperv_vp_set(struct hv_partition *p, unsigned vp, const struct hv_hyperv_vp_state *state,
                            const struct hv_message *messages, unsigned n);
/** The messages that wait, in order; fills up to @max.  @return their number. */
HV_API unsigned hv_hyperv_messages(struct hv_partition *p, unsigned vp, struct hv_message *ret, unsigned max);

/* CPU features that a guest has been shown, as CPUID words; part of a saved state. */
enum { HV_FEATURE_WORDS = 12 };
struct hv_cpu_features {
    uint32_t version, size;          /* HV_STATE_VERSION, sizeof(struct hv_cpu_features) */
    uint32_t word[HV_FEATURE_WORDS];
};
HV_API void hv_features_get(struct hv_partition *p, struct hv_cpu_features *ret);
/** Can a guest go on here that has seen these?  @return 0; -EINVAL; -ENOTSUP with a sentence that names what is
 * missing. */
HV_API int hv_features_check(struct hv_partition *p, const struct hv_cpu_features *saved);
/** Check, and from now on show no others: a guest that goes on must not find another processor, and what it is saved
 * with next is what it has seen.  Before any VP runs.  @return as hv_features_check. */
HV_API int hv_features_limit(struct hv_partition *p, const struct hv_cpu_features *saved);

/** CPU features as shown to the guest, as CPUID answers; the embedder reads it for tables and for
 * saved states. */
HV_API void hv_cpuid(struct hv_partition *p, unsigned vp, uint32_t leaf, uint32_t subleaf, uint32_t ret[4]);

/** A register dump of some lines, for logs.  VP not running, or called from its own callback.
 * @return length written, as snprintf. */
HV_API int hv_vp_dump(struct hv_partition *p, unsigned vp, char *buf, size_t len);

/* ---- counters ----------------------------------------------------------------------------------- */

enum hv_counter {
    HV_CTR_INSNS,        /* guest instructions that the interpreter executed; translated code does not count */
    HV_CTR_BLOCKS_BUILT,
    HV_CTR_TLB_FILLS, HV_CTR_TLB_FLUSHES, HV_CTR_EXCEPTIONS, HV_CTR_INTERRUPTS,
    HV_CTR_PIO, HV_CTR_MMIO, HV_CTR_HLT, HV_CTR_CODE_WRITES, HV_CTR_RUN_NS,
    /* How often translated code went to C: for an instruction, an access that the TLB did not serve, the first run of
     * a branch, a target that its cache did not have, a dropped block. */
    HV_CTR_EXIT_INSN, HV_CTR_EXIT_MISS, HV_CTR_EXIT_LINK, HV_CTR_EXIT_DISPATCH, HV_CTR_EXIT_DROP,
    HV_CTR_CODE_STORES,  /* stores beside code, by C */
    HV_CTR_TRANSLATE_NS, HV_CTR_CODE_BYTES, HV_CTR_CODE_RESETS, HV_CTR_CODE_EVICTIONS,
    HV_CTR_EVENTS, HV_CTR_EVENT_NS, /* other threads asked for attention; until a running VP gave it, in all */
    HV_CTR_EVENT_MAX_NS, /* and the longest */
    /* Hardware virtualization: how often a VP left the kernel, and why. */
    HV_CTR_VMEXITS, HV_CTR_VMEXIT_PIO, HV_CTR_VMEXIT_MMIO, HV_CTR_VMEXIT_MSR, HV_CTR_VMEXIT_HYPERCALL, HV_CTR_VMEXIT_SYNIC,
    HV_CTR_VMEXIT_EOI, HV_CTR_VMEXIT_WINDOW, HV_CTR_VMEXIT_KICK, HV_CTR_VMEXIT_DIRTY_RING, HV_CTR_VMEXIT_OTHER,
    HV_CTR_COUNT
};
HV_API const char *hv_counter_name(enum hv_counter c);
/** Racy but never torn; thread: any. */
HV_API uint64_t hv_counter_get(struct hv_partition *p, unsigned vp, enum hv_counter c);

/** Counters that the engine has elsewhere (KVM: in the kernel), by name.  Thread: any, while @p lives. */
HV_API void hv_engine_counters(struct hv_partition *p, unsigned vp,
                               void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx);

/** CLOCK_MONOTONIC when the first guest instruction ran, 0 before. */
HV_API uint64_t hv_first_insn_ns(const struct hv_partition *p);

#ifdef __cplusplus
}
#endif
#endif
