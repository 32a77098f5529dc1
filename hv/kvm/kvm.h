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

enum { KVM_CPUID_MAX = 256, KVM_LEVEL_VECTORS = 256, KVM_PORTS_MAX = 512,
       KVM_SYNC_ALL = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS | KVM_SYNC_X86_EVENTS };

#ifndef KVM_CAP_DIRTY_LOG_RING_ACQ_REL
#define KVM_CAP_DIRTY_LOG_RING_ACQ_REL 223
#endif

/* A memory slot as KVM has it. */
struct kvm_slot {
    uint64_t gpa, len, offset; /* len 0: free */
    uint32_t flags;            /* HV_MAP_* */
};

struct kvm_part {
    int fd, vm;
    size_t run_size;
    unsigned max_slots;
    unsigned phys_bits;                /* of the guest's physical addresses */
    bool tsc_scaling, tsc_attr, deadline, xcrs, apic_in_hardware;
    uint64_t host_khz, tsc_khz;        /* of the host and of the guest */
    struct kvm_cpuid2 *supported;      /* owned */
    struct kvm_cpuid2 *hv_supported;   /* owned; NULL when not enlightened */
    pthread_mutex_t map_lock;          /* slots; one change at a time */
    struct kvm_slot *slots;            /* owned: max_slots */
    unsigned nslots;                   /* in use: [0, nslots) may be free or taken */
    _Atomic bool broken;               /* the last change of the map failed: slots and map differ */
    _Atomic uint32_t stop;             /* VPs stay out of the guest while it is 1; a futex word */
    pthread_mutex_t route_lock;        /* the interrupt routing table */
    _Atomic uint32_t level[8];         /* vectors that are routed as level-triggered */
    bool sint_routed;
    _Atomic bool page_refused;         /* said once that KVM did not take a hypercall page */
    pthread_mutex_t time_lock;
    uint32_t clock_seq;                /* of the guest clock, at the last time_base */
    uint64_t time_base;                /* guest TSC less (scaled) host TSC, of a VP without delta */
    uint32_t ring_len;                 /* entries of a VP's dirty ring, 0: bitmaps */
    bool sync_regs;
    struct kvm_coalesced_mmio_ring *posted; /* in VP 0's run area; NULL: this KVM has none */
    pthread_mutex_t posted_lock;
    struct kvm_ports *ports;           /* signals that do not stop the guest; NULL: none yet, or not here */
    pthread_mutex_t ports_lock;
    bool ports_can;
};

struct kvm_vcpu {
    struct hv_vp *vp;
    int fd;
    int stats;              /* KVM's counters, or -1; opened early: while the VP runs its fd answers nobody */
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
    uint32_t unknown;       /* exits without a reason, in a row */
    bool inside;            /* the run loop: kvm_run holds an exit that is being handled */
    struct kvm_dirty_gfn *ring;
    uint32_t ring_at;       /* map_lock */
};

static inline struct kvm_part *kvm_part(const struct hv_partition *p) { return p->engine_data; }
static inline struct kvm_vcpu *kvm_vcpu(const struct hv_vp *vp) { return vp->engine_data; }

int kvm_ioctl(int fd, unsigned long req, void *arg); /* -errno; EINTR is passed on */

/* probe.c */
bool kvm_probe(char *reason, size_t len);

/* caps.c: capabilities by name; MOBO_KVM_WITHOUT in the environment, a list of names, hides some (tests of older
 * kernels). */
int kvm_cap(int fd, unsigned cap); /* KVM_CHECK_EXTENSION: 0 no, else yes or a number */
/* Those without which the engine does not work, or does less: a list of names, or "".  @return how many. */
int kvm_missing(int fd, bool needed, char *buf, size_t len);

/* cpuid.c */
int kvm_cpuid_load(struct hv_partition *p);
int kvm_cpuid_set(struct hv_vp *vp);
int kvm_cpuid_changed(struct hv_vp *vp);
void kvm_cpuid_filter(const struct hv_vp *vp, uint32_t leaf, uint32_t sub, uint32_t r[4]);

/* mem.c */
int kvm_mem_changed(struct hv_partition *p);
void kvm_mem_dirty_sync(struct hv_partition *p, uint64_t gpa, uint64_t len);
/* Keep all VPs out of the guest until kvm_resume.  Not by a VP that is inside. */
void kvm_stop(struct hv_partition *p);
int kvm_ring_init(struct hv_vp *vp);
void kvm_ring_fini(struct hv_vp *vp);
void kvm_ring_full(struct hv_partition *p);
void kvm_resume(struct hv_partition *p);

/* irq.c */
int kvm_irq_request(struct hv_partition *p, const struct hv_interrupt *irq);
void kvm_irq_sint(struct hv_vp *vp, unsigned sint);
int kvm_irq_routes(struct hv_partition *p);
/* KVM tells of the end of level-triggered interrupts with this vector.  Any thread. */
void kvm_irq_level(struct hv_partition *p, unsigned vector);

/* ports.c */
/* The guest has signalled @connection and was heard: from now on without an exit, where KVM can. */
void kvm_port_add(struct hv_partition *p, uint32_t connection);
/* All signals that were sent are delivered when it returns. */
void kvm_ports_drain(struct hv_partition *p);
void kvm_ports_clear(struct hv_partition *p);
void kvm_ports_fini(struct hv_partition *p);
/* Posted writes of all VPs reach their devices. */
void kvm_posted_drain(struct hv_vp *vp);
int kvm_posted_port(struct hv_partition *p, uint16_t port, unsigned len, bool on);

/* stats.c */
void kvm_counters(struct hv_vp *vp, void (*fn)(void *ctx, const char *name, uint64_t val), void *ctx);
void kvm_differences(void (*line)(void *ctx, const char *text), void *ctx);

/* state.c */
int kvm_state_push(struct hv_vp *vp);
int kvm_state_pull(struct hv_vp *vp);
/* The edge-triggered interrupt in service has ended; the rest of the local APIC stays as it is. */
int kvm_lapic_eoi(struct hv_vp *vp);
int kvm_msr_get(struct hv_vp *vp, uint32_t msr, uint64_t *val);
int kvm_msr_set(struct hv_vp *vp, uint32_t msr, uint64_t val);
/* The guest clock was stopped, started or set since this VP ran: KVM's clocks follow. */
void kvm_time_sync(struct hv_vp *vp);
/* The guest's TSC at guest time @ns, by the guest clock, whether it runs or not. */
uint64_t kvm_tsc_at(struct hv_vp *vp, uint64_t ns);

/* hyperv.c */
int kvm_hyperv_init(struct hv_partition *p);
int kvm_hyperv_vp_init(struct hv_vp *vp);
int kvm_hyperv_push(struct hv_vp *vp);
void kvm_hyperv_pull(struct hv_vp *vp);
void kvm_hyperv_exit(struct hv_vp *vp);
/* A filtered or unknown MSR.  Fills kvm_run. */
void kvm_msr_exit(struct hv_vp *vp, bool write);

#endif
