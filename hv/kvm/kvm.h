/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the KVM engine.  Reference: the Linux kernel's Documentation/virt/kvm/api.rst, cited as API.
 *
 * The local APIC, the SynIC with its timers, the hypercall page, the TSC page and the flush and IPI hypercalls are
 * KVM's; PIC and I/O APIC are the embedder's ("split irqchip", API 7.5).  Registers live in KVM: vp->cpu,
 * vp->lapic and vp->hyperv are filled from there when somebody asks (kvm_state_pull) and written there at reset and
 * by hv_vp_set_state (kvm_state_push). */
#ifndef MOBO_HV_KVM_KVM_H
#define MOBO_HV_KVM_KVM_H

#include <linux/kvm.h>
#include <stdatomic.h>
#include <sys/types.h>

#include "hv/infra.h"

enum { KVM_CPUID_MAX = 256, KVM_LEVEL_VECTORS = 256 };

/* A memory slot as KVM has it. */
struct kvm_slot {
    uint64_t gpa, len, offset; /* len 0: free */
    uint32_t flags;            /* HV_MAP_* */
};

struct kvm_part {
    int fd, vm;
    size_t run_size;
    unsigned max_slots;
    bool tsc_scaling, tsc_attr, deadline, xcrs;
    uint64_t host_khz, tsc_khz;        /* of the host and of the guest */
    struct kvm_cpuid2 *supported;      /* owned */
    struct kvm_cpuid2 *hv_supported;   /* owned; NULL when not enlightened */
    pthread_mutex_t map_lock;          /* slots; one change at a time */
    struct kvm_slot *slots;            /* owned: max_slots */
    unsigned nslots;                   /* in use: [0, nslots) may be free or taken */
    _Atomic uint32_t stop;             /* VPs stay out of the guest while it is 1; a futex word */
    pthread_mutex_t route_lock;        /* the interrupt routing table */
    _Atomic uint32_t level[8];         /* vectors that are routed as level-triggered */
    bool sint_routed;
    pthread_mutex_t time_lock;
    uint32_t clock_seq;                /* of the guest clock, at the last time_base */
    uint64_t time_base;                /* guest TSC less (scaled) host TSC, of a VP without delta */
};

struct kvm_vcpu {
    struct hv_vp *vp;
    int fd;
    struct kvm_run *run;
    bool cpuid_set;
    bool pending;           /* KVM has to be entered once more to finish an access */
    _Atomic uint32_t in_run;
    _Atomic int32_t tid;
    _Atomic uint8_t nmi;    /* hv_nmi */
    uint32_t clock_seq;
    uint64_t time_base;     /* the partition's, when this VP took it over */
    uint64_t tsc_delta;     /* guest TSC less the partition's: offset and adjust of the VP */
    bool tsc_delta_set;     /* tsc_delta is to be pushed as it is, else read from KVM first */
};

static inline struct kvm_part *kvm_part(const struct hv_partition *p) { return p->engine_data; }
static inline struct kvm_vcpu *kvm_vcpu(const struct hv_vp *vp) { return vp->engine_data; }

int kvm_ioctl(int fd, unsigned long req, void *arg); /* -errno; EINTR is passed on */

/* probe.c */
bool kvm_probe(char *reason, size_t len);
/* Which features of this KVM are missing for an engine of ours, as a list of names, or "". */
int kvm_missing(int fd, char *buf, size_t len);

/* cpuid.c */
int kvm_cpuid_load(struct hv_partition *p);
int kvm_cpuid_set(struct hv_vp *vp);
void kvm_cpuid_filter(const struct hv_vp *vp, uint32_t leaf, uint32_t sub, uint32_t r[4]);

/* mem.c */
int kvm_mem_changed(struct hv_partition *p);
void kvm_mem_dirty_sync(struct hv_partition *p, uint64_t gpa, uint64_t len);
/* Keep all VPs out of the guest until kvm_resume.  Not by a VP that is inside. */
void kvm_stop(struct hv_partition *p);
void kvm_resume(struct hv_partition *p);

/* irq.c */
int kvm_irq_request(struct hv_partition *p, const struct hv_interrupt *irq);
void kvm_irq_sint(struct hv_vp *vp, unsigned sint);
int kvm_irq_routes(struct hv_partition *p);

/* state.c */
int kvm_state_push(struct hv_vp *vp);
int kvm_state_pull(struct hv_vp *vp);
int kvm_msr_get(struct hv_vp *vp, uint32_t msr, uint64_t *val);
int kvm_msr_set(struct hv_vp *vp, uint32_t msr, uint64_t val);
/* The guest clock was stopped, started or set since this VP ran: KVM's clocks follow. */
void kvm_time_sync(struct hv_vp *vp);

/* hyperv.c */
int kvm_hyperv_init(struct hv_partition *p);
int kvm_hyperv_vp_init(struct hv_vp *vp);
int kvm_hyperv_push(struct hv_vp *vp);
void kvm_hyperv_pull(struct hv_vp *vp);
void kvm_hyperv_exit(struct hv_vp *vp);
/* A filtered or unknown MSR.  Fills kvm_run. */
void kvm_msr_exit(struct hv_vp *vp, bool write);

#endif
