/* SPDX-License-Identifier: BSD-2-Clause */
/* The Hyper-V interface of a partition: CPUID leaves, MSRs, hypercalls, SynIC, synthetic timers, overlay pages.
 * Reference: Hypervisor Top Level Functional Specification 6.0b, cited as TLFS. */
#ifndef MOBO_HV_HYPERV_H
#define MOBO_HV_HYPERV_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct hv_vp;
struct hv_partition;
struct hv_hyperv_vp_state;
struct hv_message;

/* TLFS 12.6.1 */
struct hv_reference_tsc_page { uint32_t seq, reserved; uint64_t scale; int64_t offset; };

enum { HV_NSINTS = 16, HV_NSTIMERS = 4, HV_MESSAGE_PAYLOAD = 240, HV_QUEUE_MAX = 2560 };

struct hv_stimer {
    uint64_t config, count;  /* TLFS 12.4.2 */
    uint64_t deadline_ns;    /* guest time, UINT64_MAX: not running */
};

struct hv_queued_message;

struct hv_hyperv_vp {
    pthread_mutex_t lock;    /* SynIC registers against other threads; the queue */
    uint64_t scontrol, siefp, simp, sint[HV_NSINTS];
    uint64_t assist;         /* VP assist page MSR */
    struct hv_stimer stimer[HV_NSTIMERS]; /* VP thread only */
    _Atomic uint64_t deadline_ns;         /* of the timers, for the timer thread */
    _Atomic uint32_t auto_eoi[8];         /* vectors of SINTs with auto-EOI */
    struct { struct hv_queued_message *head, *tail; unsigned n; } queue[HV_NSINTS];
    _Atomic bool waits;      /* there may be something in a queue: hv_synic_run */
    uint64_t runtime_ns, runtime_thread_ns; /* CPU time; of the thread at the last look */
    uint64_t simp_off, siefp_off, assist_off; /* backing of the overlay pages */
    bool lazy_eoi;           /* the assist page says that no EOI is needed (TLFS 10.3.5) */
};

struct hv_hyperv {
    pthread_mutex_t lock;
    uint32_t shown;          /* enum hv_enlightenment */
    _Atomic uint64_t guest_os_id, hypercall;
    _Atomic bool tsc_invariant; /* the guest has asked for the CPUID bit */
    uint64_t reference_tsc, crash[5];
    uint64_t hypercall_off, tsc_off; /* backing of the overlay pages */
};

/** Allocate backing for the overlay pages and reset everything.  Only for enlightened partitions. */
int hv_hyperv_create(struct hv_partition *p, uint32_t shown);
void hv_hyperv_destroy(struct hv_partition *p);
/** Partition-wide registers to their reset values; overlays removed.  No VP runs. */
void hv_hyperv_reset(struct hv_partition *p);
/** The same for one VP; from its own thread, or while it does not run. */
void hv_hyperv_vp_reset(struct hv_vp *vp);

/** Leaves 0x40000000 to 0x4000000a.  @return false: not one of them. */
bool hv_hyperv_cpuid(const struct hv_vp *vp, uint32_t leaf, uint32_t ret[4]);
/** MSRs 0x40000000 to 0x400001ff.  @return 0 or -1: #GP(0). */
int hv_hyperv_msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val);
int hv_hyperv_msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val);
/** VMCALL: does the hypercall in the registers.  @return false: raise #UD. */
bool hv_hypercall(struct hv_vp *vp);

/** Synthetic timers whose time has come at guest time @now_ns.  VP thread. */
void hv_stimer_poll(struct hv_vp *vp, uint64_t now_ns);
/** The timers of a VP: MSRs.  VP thread. */
void hv_stimer_config(struct hv_vp *vp, unsigned n, uint64_t config);
void hv_stimer_count(struct hv_vp *vp, unsigned n, uint64_t count);
void hv_stimer_reset(struct hv_vp *vp);
static inline bool hv_stimer_direct(uint64_t config) { return config & (1u << 12); }

/** SynIC registers by MSR.  @return 0 or -1. */
int hv_synic_read(struct hv_vp *vp, uint32_t msr, uint64_t *val);
int hv_synic_write(struct hv_vp *vp, uint32_t msr, uint64_t val);
void hv_synic_reset(struct hv_vp *vp);
void hv_synic_fini(struct hv_vp *vp);
/** The messages that wait, SINT by SINT; fills up to @max.  @return their number. */
unsigned hv_synic_queued(struct hv_vp *vp, struct hv_message *ret, unsigned max);
/** SynIC registers, queue and timers of a checked state; overlay pages have their place.  @return 0, -ENOMEM. */
int hv_synic_set(struct hv_vp *vp, const struct hv_hyperv_vp_state *s, const struct hv_message *m, unsigned n);
/** Why no guest can have brought the SynIC or a timer into this state, or NULL. */
const char *hv_synic_check(const struct hv_hyperv_vp_state *s, const struct hv_message *m, unsigned n);
/** SINTs and timers come from a SynIC that takes more from guests (KVM's): clear what the check would refuse. */
void hv_synic_trim(struct hv_hyperv_vp *v);
/** The code of the hypercall page, its place, and the reference TSC page after a restore. */
void hv_hypercall_place(struct hv_vp *vp, uint64_t val);
void hv_reference_tsc_start(struct hv_vp *vp, uint32_t seq);
/** What that page multiplies this engine's TSC with, 0: there is no such number. */
uint64_t hv_reference_tsc_scale(const struct hv_partition *p);

/** A timer's message: at most one of each timer waits (TLFS 12.4: a timer has one buffer). */
int hv_synic_post_timer(struct hv_vp *vp, unsigned sint, const void *payload, unsigned len);
/** Put a message into the slot of @sint, or queue it until the slot is free; under an engine with a SynIC of its own,
 * until the VP's thread calls hv_synic_run.  Any thread.
 * @return 0, -ENXIO (SynIC or its message page is off), -ENOBUFS. */
int hv_synic_post(struct hv_vp *vp, unsigned sint, uint32_t type, const void *payload, unsigned len);
/** Move messages from the queues to free slots.  VP thread. */
void hv_synic_run(struct hv_vp *vp);
/** Set an event flag (0-2047) of @sint and interrupt if it was clear.  @return 0, -ENXIO. */
int hv_synic_signal(struct hv_vp *vp, unsigned sint, unsigned flag);

/** VP assist page and lazy EOI.  VP thread. */
void hv_assist_write(struct hv_vp *vp, uint64_t val);
/** Before the local APIC is looked at: has the guest ended an interrupt by the assist page? */
void hv_lazy_eoi_check(struct hv_vp *vp);
/** The guest has to write the EOI that it was told it need not.  @return it has left it out already. */
bool hv_lazy_eoi_withdraw(struct hv_vp *vp);
/** The same, and what it has left out is done.  The VP may stand. */
void hv_lazy_eoi_end(struct hv_vp *vp);
/** An edge-triggered interrupt was acknowledged: offer the guest to leave out the EOI. */
void hv_lazy_eoi_offer(struct hv_vp *vp, unsigned vector);

/** Move an overlay page: to val & ~0xfff when bit 0 is set, else away.  VP thread or none running. */
void hv_overlay_place(struct hv_vp *vp, struct hv_partition *p, uint64_t val, uint64_t offset, unsigned flags);

/** Reference time in 100 ns (TLFS 12.3). */
uint64_t hv_reference_time(const struct hv_partition *p);

#endif
