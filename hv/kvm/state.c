/* SPDX-License-Identifier: BSD-2-Clause */
/* Register state between KVM and vp->cpu, vp->lapic, vp->exc; clocks (API 4.3 to 4.36, 4.64; vcpu device attribute
 * KVM_VCPU_TSC_OFFSET in devices/vcpu.rst). */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>

#include "hv/kvm/kvm.h"
#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

/* ---- MSRs, one at a time: which one KVM refuses is worth knowing, and this is no fast path ---- */

union one_msr {
    struct kvm_msrs list;
    uint8_t room[sizeof(struct kvm_msrs) + sizeof(struct kvm_msr_entry)];
};

int kvm_msr_get(struct hv_vp *vp, uint32_t msr, uint64_t *val)
{
    union one_msr m = { .list.nmsrs = 1 };

    m.list.entries[0].index = msr;
    if (kvm_ioctl(kvm_vcpu(vp)->fd, KVM_GET_MSRS, &m) != 1)
        return -1;
    *val = m.list.entries[0].data;
    return 0;
}

int kvm_msr_set(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    union one_msr m = { .list.nmsrs = 1 };

    m.list.entries[0].index = msr;
    m.list.entries[0].data = val;
    return kvm_ioctl(kvm_vcpu(vp)->fd, KVM_SET_MSRS, &m) == 1 ? 0 : -1;
}

enum { TSC_SNAP = 2500000 }; /* 1 ms */
enum { MSR_TSC = 0x10, MSR_TSC_ADJUST = 0x3b, MSR_BIOS_SIGN = 0x8b, MSR_TSC_DEADLINE = 0x6e0 };

/* What is in struct x86_cpu: MSR number and place.  @weak: KVM may lack it when it has its reset value. */
#define CPU_MSR(msr, member) { msr, offsetof(struct x86_cpu, member) }
static const struct cpu_msr { uint32_t msr; size_t at; } cpu_msrs[] = {
    CPU_MSR(0xc0000081u, star), CPU_MSR(0xc0000082u, lstar), CPU_MSR(0xc0000083u, cstar),
    CPU_MSR(0xc0000084u, sfmask), CPU_MSR(0xc0000102u, kernel_gs_base), CPU_MSR(0xc0000103u, tsc_aux),
    CPU_MSR(0x277, pat), CPU_MSR(0x174, sysenter_cs), CPU_MSR(0x175, sysenter_esp),
    CPU_MSR(0x176, sysenter_eip), CPU_MSR(0x1a0, misc_enable), CPU_MSR(0x48, spec_ctrl),
    CPU_MSR(0x17a, mcg_status), CPU_MSR(0x2ff, mtrr_def), CPU_MSR(0x250, mtrr_fixed[0]),
    CPU_MSR(0x258, mtrr_fixed[1]), CPU_MSR(0x259, mtrr_fixed[2]), CPU_MSR(0x268, mtrr_fixed[3]),
    CPU_MSR(0x269, mtrr_fixed[4]), CPU_MSR(0x26a, mtrr_fixed[5]), CPU_MSR(0x26b, mtrr_fixed[6]),
    CPU_MSR(0x26c, mtrr_fixed[7]), CPU_MSR(0x26d, mtrr_fixed[8]), CPU_MSR(0x26e, mtrr_fixed[9]),
    CPU_MSR(0x26f, mtrr_fixed[10]), CPU_MSR(0x200, mtrr_var[0]), CPU_MSR(0x201, mtrr_var[1]),
    CPU_MSR(0x202, mtrr_var[2]), CPU_MSR(0x203, mtrr_var[3]), CPU_MSR(0x204, mtrr_var[4]),
    CPU_MSR(0x205, mtrr_var[5]), CPU_MSR(0x206, mtrr_var[6]), CPU_MSR(0x207, mtrr_var[7]),
    CPU_MSR(0x208, mtrr_var[8]), CPU_MSR(0x209, mtrr_var[9]), CPU_MSR(0x20a, mtrr_var[10]),
    CPU_MSR(0x20b, mtrr_var[11]), CPU_MSR(0x20c, mtrr_var[12]), CPU_MSR(0x20d, mtrr_var[13]),
    CPU_MSR(0x20e, mtrr_var[14]), CPU_MSR(0x20f, mtrr_var[15]),
};
enum { MISC_RO = 1 << 11 | 1 << 12 }; /* BTS and PEBS are not there */

/* ---- time ------------------------------------------------------------------------------------------------ */

static uint64_t host_tsc(const struct kvm_part *kp)
{
    uint64_t t = __builtin_ia32_rdtsc();

    return kp->tsc_scaling ? (uint64_t)((__uint128_t)t * kp->tsc_khz / kp->host_khz) : t;
}

static uint64_t time_tsc(const struct hv_partition *p, uint64_t ns)
{
    const struct kvm_part *kp = kvm_part(p);

    return (uint64_t)((__uint128_t)ns * kp->tsc_khz / 1000000);
}

/* Without TSC scaling the guest's TSC has the host's rate, in a saved state it has ours: what is between the two at
 * this guest time.  Read while the guest clock stands, the value is the same for all VPs. */
static uint64_t tsc_rate_gap(const struct hv_partition *p)
{
    uint64_t now = hv_time_ns(p);

    return hv_ns_to_tsc(now) - time_tsc(p, now);
}

static int tsc_offset(struct hv_vp *vp, uint64_t *val, bool set)
{
    struct kvm_device_attr a = { .group = KVM_VCPU_TSC_CTRL, .attr = KVM_VCPU_TSC_OFFSET,
                                 .addr = (uintptr_t)val };

    if (!kvm_part(vp->p)->tsc_attr)
        return -ENXIO;
    return kvm_ioctl(kvm_vcpu(vp)->fd, set ? KVM_SET_DEVICE_ATTR : KVM_GET_DEVICE_ATTR, &a);
}

/* The VP's own displacement of its TSC, which a guest changes by writing TSC or TSC_ADJUST. */
static uint64_t tsc_delta(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    uint64_t off;

    if (!kv->tsc_delta_set && tsc_offset(vp, &off, false) >= 0)
        kv->tsc_delta = off - kv->time_base;
    return kv->tsc_delta;
}

uint64_t kvm_tsc_at(struct hv_vp *vp, uint64_t ns) { return time_tsc(vp->p, ns) + tsc_delta(vp); }

/* The guest's TSC less the host's, of a VP without delta: of some readings that in which the thread lost least time. */
static uint64_t time_base(const struct hv_partition *p)
{
    const struct kvm_part *kp = kvm_part(p);
    uint64_t base = 0, best = UINT64_MAX;

    for (unsigned i = 0; i < 4; i++) {
        uint64_t before = host_tsc(kp), now = hv_time_ns(p), took = host_tsc(kp) - before;

        if (took < best) {
            best = took;
            base = time_tsc(p, now) - (before + took / 2);
        }
    }
    return base;
}

void kvm_time_sync(struct hv_vp *vp)
{
    struct hv_partition *p = vp->p;
    struct kvm_part *kp = kvm_part(p);
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    uint32_t seq = atomic_load(&p->clock->seq);
    uint64_t base, deadline;

    if (kv->clock_seq == seq && !kv->tsc_delta_set)
        return;
    pthread_mutex_lock(&kp->time_lock);
    if (kp->clock_seq != seq || !kp->time_base) {
        struct kvm_clock_data c = { 0 };

        kp->clock_seq = seq;
        kp->time_base = time_base(p);
        c.clock = hv_time_ns(p);
        kvm_ioctl(kp->vm, KVM_SET_CLOCK, &c);
    }
    base = kp->time_base;
    pthread_mutex_unlock(&kp->time_lock);
    kv->tsc_delta = tsc_delta(vp);
    kv->time_base = base;
    base += kv->tsc_delta;
    if (tsc_offset(vp, &base, true) < 0)
        kvm_msr_set(vp, MSR_TSC, host_tsc(kp) + base);
    kv->tsc_delta_set = false;
    kv->clock_seq = seq;
    /* KVM has placed the deadline by the TSC as it was when it got the one or the other; it wants it anew. */
    if (!kvm_msr_get(vp, MSR_TSC_DEADLINE, &deadline) && deadline)
        kvm_msr_set(vp, MSR_TSC_DEADLINE, deadline);
}

/* ---- segments ---------------------------------------------------------------------------------------------- */

static struct kvm_segment seg_to(const struct x86_seg *s)
{
    return (struct kvm_segment){
        .base = s->base, .limit = s->limit, .selector = s->sel, .type = s->attr & 15,
        .s = s->attr >> 4 & 1, .dpl = s->attr >> 5 & 3, .present = s->attr >> 7 & 1,
        .unusable = s->attr >> 8 & 1, .avl = s->attr >> 12 & 1, .l = s->attr >> 13 & 1,
        .db = s->attr >> 14 & 1, .g = s->attr >> 15 & 1 };
}

static struct x86_seg seg_from(const struct kvm_segment *k)
{
    return (struct x86_seg){
        .base = k->base, .limit = k->limit, .sel = k->selector,
        .attr = (uint16_t)((k->type & 15) | (k->s & 1) << 4 | (k->dpl & 3) << 5 | (k->present & 1) << 7 |
                           (k->unusable & 1) << 8 | (k->avl & 1) << 12 | (k->l & 1) << 13 |
                           (k->db & 1) << 14 | (k->g & 1) << 15) };
}

/* ---- push ------------------------------------------------------------------------------------------------------ */

#define CALL(req, arg)                                                                        \
    do {                                                                                      \
        int e_ = kvm_ioctl(fd, req, arg);                                                     \
        if (e_ < 0)                                                                           \
            return hv_fail(e_, "processor %u: %s: %s", vp->index, #req, strerror(-e_));       \
    } while (0)

/* KVM's order is RAX RBX RCX RDX RSI RDI RSP RBP; ours that of the encoding. */
static void regs_swap(struct kvm_regs *k, uint64_t *g, bool to_kvm)
{
    __u64 *at[8] = { &k->rax, &k->rcx, &k->rdx, &k->rbx, &k->rsp, &k->rbp, &k->rsi, &k->rdi };
    __u64 *high = &k->r8;

    for (unsigned i = 0; i < 16; i++) {
        __u64 *r = i < 8 ? at[i] : high + (i - 8);

        if (to_kvm)
            *r = g[i];
        else
            g[i] = *r;
    }
}

static int push_regs(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;
    int fd = kvm_vcpu(vp)->fd;
    struct kvm_sregs s;
    struct kvm_regs r;

    CALL(KVM_GET_SREGS, &s);
    s.es = seg_to(&c->seg[X86_ES]);
    s.cs = seg_to(&c->seg[X86_CS]);
    s.ss = seg_to(&c->seg[X86_SS]);
    s.ds = seg_to(&c->seg[X86_DS]);
    s.fs = seg_to(&c->seg[X86_FS]);
    s.gs = seg_to(&c->seg[X86_GS]);
    s.ldt = seg_to(&c->ldtr);
    s.tr = seg_to(&c->tr);
    s.gdt.base = c->gdtr.base;
    s.gdt.limit = (uint16_t)c->gdtr.limit;
    s.idt.base = c->idtr.base;
    s.idt.limit = (uint16_t)c->idtr.limit;
    s.cr0 = c->cr0;
    s.cr2 = c->cr2;
    s.cr3 = c->cr3;
    s.cr4 = c->cr4;
    s.cr8 = hv_lapic_tpr_get(vp) >> 4;
    s.efer = c->efer;
    s.apic_base = atomic_load(&vp->lapic.base);
    memset(s.interrupt_bitmap, 0, sizeof(s.interrupt_bitmap));
    CALL(KVM_SET_SREGS, &s);

    memset(&r, 0, sizeof(r));
    regs_swap(&r, c->gpr, true);
    r.rip = c->rip;
    r.rflags = x86_flags_get(c);
    CALL(KVM_SET_REGS, &r);
    return 0;
}

static int push_vector(struct hv_vp *vp)
{
    int fd = kvm_vcpu(vp)->fd;
    struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0] = { .xcr = 0, .value = vp->cpu.xcr0 } };
    struct kvm_debugregs d = { .dr6 = vp->cpu.dr[6], .dr7 = vp->cpu.dr[7] };
    struct kvm_xsave xs;
    uint8_t area[1024];

    memset(&xs, 0, sizeof(xs));
    x86_xsave_get(vp, area);
    if (!kvm_part(vp->p)->xcrs)
        area[512] &= 3; /* XSTATE_BV: the upper halves of vector registers do not exist */
    memcpy(&xs, area, sizeof(area));
    if (kvm_part(vp->p)->xcrs) /* else the host has no XSAVE */
        CALL(KVM_SET_XCRS, &x);
    else if (vp->cpu.xcr0 != 1)
        return hv_fail(-ENOTSUP, "processor %u: this host has no XSAVE, the state has", vp->index);
    CALL(KVM_SET_XSAVE, &xs);
    memcpy(d.db, vp->cpu.dr, sizeof(d.db));
    CALL(KVM_SET_DEBUGREGS, &d);
    return 0;
}

static int push_msrs(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    uint32_t r[4] = { HV_MAXPHYADDR, 0, 0, 0 };
    uint64_t phys;

    kvm_cpuid_filter(vp, 0x80000008u, 0, r);
    phys = (1ull << (r[0] & 0x3f)) - 1;
    for (unsigned i = 0; i < COUNT(cpu_msrs); i++) {
        uint64_t val, have = 0;

        memcpy(&val, (const uint8_t *)&vp->cpu + cpu_msrs[i].at, 8);
        if (cpu_msrs[i].msr == 0x1a0)
            val |= MISC_RO;
        if (cpu_msrs[i].msr > 0x200 && cpu_msrs[i].msr < 0x210 && (cpu_msrs[i].msr & 1))
            val &= phys; /* an MTRR mask made for more address bits than there are here */
        if (kvm_msr_set(vp, cpu_msrs[i].msr, val) && (val || !kvm_msr_get(vp, cpu_msrs[i].msr, &have)) &&
            val != have)
            return hv_fail(-ENOTSUP, "processor %u: this KVM does not take MSR 0x%x with 0x%llx",
                           vp->index, cpu_msrs[i].msr, (unsigned long long)val);
    }
    kvm_msr_set(vp, MSR_BIOS_SIGN, (uint64_t)HV_UCODE_REV << 32);
    kvm_msr_set(vp, MSR_TSC_ADJUST, vp->cpu.tsc_adjust);
    kv->tsc_delta = vp->cpu.tsc_offset + vp->cpu.tsc_adjust;
    if (vp->cpu.tsc_offset || atomic_load(&vp->p->clock->paused)) { /* a state: its TSC goes on, and what is due by it */
        kv->tsc_delta += tsc_rate_gap(vp->p);
        /* Taken while the clock ran, the gap is not exact; processors must not differ by that. */
        if (!atomic_load(&vp->p->clock->paused) && kv->tsc_delta - vp->cpu.tsc_adjust + TSC_SNAP < 2 * TSC_SNAP)
            kv->tsc_delta = vp->cpu.tsc_adjust;
    }
    kv->tsc_delta_set = true;
    return 0;
}

static uint32_t page_get(const void *page, unsigned reg)
{
    uint32_t v;

    memcpy(&v, (const uint8_t *)page + reg * 16, 4);
    return v;
}

static void page_put(void *page, unsigned reg, uint32_t v)
{
    memcpy((uint8_t *)page + reg * 16, &v, 4);
}

static int push_lapic(struct hv_vp *vp)
{
    int fd = kvm_vcpu(vp)->fd;
    struct kvm_lapic_state l;
    uint8_t page[4096];

    hv_lapic_save(vp, page);
    memcpy(&l, page, sizeof(l));
    page_put(&l, APIC_ID, vp->index << 24);
    CALL(KVM_SET_LAPIC, &l);
    for (unsigned i = 0; i < 8; i++) { /* level-triggered ones that the guest has not ended: I/O APICs wait for it */
        uint32_t level = page_get(page, APIC_TMR + i) & (page_get(page, APIC_ISR + i) | page_get(page, APIC_IRR + i));

        for (; level; level &= level - 1)
            kvm_irq_level(vp->p, i * 32 + (unsigned)__builtin_ctz(level));
    }
    if (vp->lapic.tsc_deadline)
        kvm_msr_set(vp, MSR_TSC_DEADLINE, vp->lapic.tsc_deadline);
    return 0;
}

int kvm_lapic_eoi(struct hv_vp *vp)
{
    int fd = kvm_vcpu(vp)->fd;
    struct kvm_lapic_state l;

    CALL(KVM_GET_LAPIC, &l);
    for (unsigned i = 8; i-- > 0;) {
        uint32_t isr = page_get(&l, APIC_ISR + i);

        if (!isr)
            continue;
        page_put(&l, APIC_ISR + i, isr & ~(0x80000000u >> __builtin_clz(isr)));
        CALL(KVM_SET_LAPIC, &l); /* timers go on: the count is that of now, the deadline is an MSR */
        break;
    }
    return 0;
}

static int push_events(struct hv_vp *vp)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    int fd = kv->fd;
    struct kvm_vcpu_events e;
    struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };

    memset(&e, 0, sizeof(e));
    e.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SHADOW;
    if (vp->exc.valid) {
        switch (vp->exc.type) {
        case X86_EV_EXTINT:
        case X86_EV_SOFTINT:
            e.interrupt.injected = 1;
            e.interrupt.nr = vp->exc.vector;
            e.interrupt.soft = vp->exc.type == X86_EV_SOFTINT;
            break;
        case X86_EV_NMI: e.nmi.injected = 1; break;
        default:
            e.exception.injected = 1;
            e.exception.nr = vp->exc.vector;
            e.exception.has_error_code = vp->exc.has_error;
            e.exception.error_code = vp->exc.error;
        }
    }
    e.interrupt.shadow = vp->cpu.int_shadow == 2   ? KVM_X86_SHADOW_INT_MOV_SS
                         : vp->cpu.int_shadow == 1 ? KVM_X86_SHADOW_INT_STI
                                                   : 0;
    e.nmi.masked = vp->cpu.nmi_masked;
    e.nmi.pending = atomic_load(&vp->lapic.nmi_pending);
    CALL(KVM_SET_VCPU_EVENTS, &e);
    switch (vp->run_state) {
    case HV_VP_RUNNING: break;
    case HV_VP_HALTED: mp.mp_state = KVM_MP_STATE_HALTED; break;
    case HV_VP_WAIT_SIPI: mp.mp_state = KVM_MP_STATE_INIT_RECEIVED; break;
    case HV_VP_SHUTDOWN:
        return hv_fail(-ENOTSUP, "processor %u: KVM cannot go on from the shutdown state", vp->index);
    }
    CALL(KVM_SET_MP_STATE, &mp);
    atomic_store(&kv->nmi, 0);
    kv->pending = false;
    return 0;
}

int kvm_state_push(struct hv_vp *vp)
{
    int err = kvm_cpuid_set(vp);

    if (!err)
        err = push_regs(vp);
    if (!err)
        err = push_vector(vp);
    if (!err)
        err = push_msrs(vp);
    if (!err)
        err = push_lapic(vp);
    if (!err && vp->p->hyperv)
        err = kvm_hyperv_push(vp);
    if (!err)
        err = push_events(vp);
    return err;
}

/* ---- pull ------------------------------------------------------------------------------------------------------ */

/* Registers, and what is about to be delivered. */
struct pulled { struct kvm_regs r; struct kvm_sregs s; struct kvm_vcpu_events e; struct kvm_mp_state mp; };

static int pull_all(struct hv_vp *vp, struct pulled *t)
{
    struct kvm_vcpu *kv = kvm_vcpu(vp);
    int fd = kv->fd;

    CALL(KVM_GET_MP_STATE, &t->mp); /* first: it takes a waiting INIT or SIPI, which changes the others */
    if (kvm_part(vp->p)->sync_regs && !kv->inside) {
        int r;

        kv->run->kvm_valid_regs = KVM_SYNC_ALL;
        __atomic_store_n(&kv->run->immediate_exit, 1, __ATOMIC_RELAXED);
        r = kvm_ioctl(fd, KVM_RUN, NULL);
        __atomic_store_n(&kv->run->immediate_exit, 0, __ATOMIC_RELAXED);
        kv->run->kvm_valid_regs = 0;
        if (r == -EINTR) {
            t->r = kv->run->s.regs.regs;
            t->s = kv->run->s.regs.sregs;
            t->e = kv->run->s.regs.events;
            return 0;
        }
    }
    CALL(KVM_GET_REGS, &t->r);
    CALL(KVM_GET_SREGS, &t->s);
    CALL(KVM_GET_VCPU_EVENTS, &t->e);
    return 0;
}

static void pull_regs(struct hv_vp *vp, const struct pulled *t)
{
    struct x86_cpu *c = &vp->cpu;
    struct kvm_regs r = t->r;
    struct kvm_sregs s = t->s;

    regs_swap(&r, c->gpr, false);
    c->rip = r.rip;
    c->fl = x86_eflags_to_fl((uint32_t)r.rflags);
    c->eflags = ((uint32_t)r.rflags & ~(uint32_t)EF_ARITH) | EF_R1;
    c->seg[X86_ES] = seg_from(&s.es);
    c->seg[X86_CS] = seg_from(&s.cs);
    c->seg[X86_SS] = seg_from(&s.ss);
    c->seg[X86_DS] = seg_from(&s.ds);
    c->seg[X86_FS] = seg_from(&s.fs);
    c->seg[X86_GS] = seg_from(&s.gs);
    c->ldtr = seg_from(&s.ldt);
    c->tr = seg_from(&s.tr);
    c->gdtr = (struct x86_dtr){ s.gdt.base, s.gdt.limit };
    c->idtr = (struct x86_dtr){ s.idt.base, s.idt.limit };
    c->cr0 = s.cr0 | CR0_ET;
    c->cr2 = s.cr2;
    c->cr3 = s.cr3;
    c->cr4 = s.cr4;
    c->efer = s.efer & (uint64_t)(EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE);
    atomic_store(&vp->lapic.base, s.apic_base);
    if ((c->cr4 & CR4_PAE) && (c->cr0 & CR0_PG) && !(c->efer & EFER_LMA))
        hv_gpa_read(vp->p, c->cr3 & 0xffffffe0u, c->pdpte, sizeof(c->pdpte));
    else
        memset(c->pdpte, 0, sizeof(c->pdpte));
}

static int pull_vector(struct hv_vp *vp)
{
    int fd = kvm_vcpu(vp)->fd;
    struct kvm_xcrs x = { 0 };
    struct kvm_debugregs d;
    struct kvm_xsave xs;
    uint8_t area[1024] = { 0 };
    uint64_t bv;

    if (kvm_part(vp->p)->xcrs)
        CALL(KVM_GET_XCRS, &x);
    CALL(KVM_GET_XSAVE, &xs);
    CALL(KVM_GET_DEBUGREGS, &d);
    for (unsigned i = 0; i < x.nr_xcrs && i < KVM_MAX_XCRS; i++)
        if (x.xcrs[i].xcr == 0)
            vp->cpu.xcr0 = x.xcrs[i].value;
    memcpy(area, &xs, 832);
    memset(area + 464, 0, 48); /* for software; KVM may leave its own there */
    memset(area + 520, 0, 56); /* header behind XSTATE_BV */
    memcpy(&bv, area + 512, 8);
    bv &= hv_xcr0_mask(vp->p);
    memcpy(area + 512, &bv, 8);
    if (x86_xsave_put(vp, area) < 0)
        return hv_fail(-EIO, "processor %u: KVM gave a bad XSAVE area", vp->index);
    memcpy(vp->cpu.dr, d.db, sizeof(d.db));
    vp->cpu.dr[6] = (d.dr6 & 0xe00f) | 0xffff0ff0;
    vp->cpu.dr[7] = d.dr7;
    return 0;
}

static void pull_msrs(struct hv_vp *vp)
{
    uint64_t val;

    for (unsigned i = 0; i < COUNT(cpu_msrs); i++) {
        if (kvm_msr_get(vp, cpu_msrs[i].msr, &val))
            continue;
        if (cpu_msrs[i].msr == 0x1a0)
            val &= 0x400400001ull;
        if (cpu_msrs[i].msr == 0x2ff)
            val &= 0xcff;
        memcpy((uint8_t *)&vp->cpu + cpu_msrs[i].at, &val, 8);
    }
    if (!kvm_msr_get(vp, MSR_TSC_ADJUST, &val))
        vp->cpu.tsc_adjust = val;
    vp->cpu.tsc_offset = tsc_delta(vp) - vp->cpu.tsc_adjust - tsc_rate_gap(vp->p);
    if (kvm_msr_get(vp, MSR_TSC_DEADLINE, &vp->lapic.tsc_deadline))
        vp->lapic.tsc_deadline = 0;
}

static int pull_lapic(struct hv_vp *vp)
{
    static const uint8_t divide[8] = { 1, 2, 3, 4, 5, 6, 7, 0 }; /* log2, by DCR bits 3, 1, 0 */
    int fd = kvm_vcpu(vp)->fd;
    struct kvm_lapic_state l;
    uint8_t page[4096] = { 0 };
    uint64_t base = atomic_load(&vp->lapic.base), now = hv_time_ns(vp->p), ran;
    uint8_t init = atomic_load(&vp->lapic.init_pending), sipi = atomic_load(&vp->lapic.sipi_pending);
    uint8_t vector = atomic_load(&vp->lapic.sipi_vector);
    uint32_t dcr;

    CALL(KVM_GET_LAPIC, &l);
    memcpy(page, &l, sizeof(l));
    memset(page + APIC_NREGS * 16, 0, sizeof(page) - APIC_NREGS * 16);
    hv_lapic_trim(page);
    dcr = page_get(page, APIC_DCR);
    ran = (uint64_t)(page_get(page, APIC_TMICT) - page_get(page, APIC_TMCCT))
          << divide[(dcr & 3) | (dcr >> 1 & 4)];
    if (!page_get(page, APIC_TMCCT)) { /* expired, or not running */
        ran = (uint64_t)page_get(page, APIC_TMICT) << divide[(dcr & 3) | (dcr >> 1 & 4)];
        /* KVM makes the interrupt of it when it enters the guest next, and does not tell whether it has: rather once
         * more than never, as KVM_SET_LAPIC does. */
        if (ran && (page_get(page, APIC_LVT_TIMER) & APIC_TIMER_MODE) == APIC_TIMER_ONESHOT)
            ran--;
    }
    hv_lapic_load(vp, page, base, vp->lapic.tsc_deadline, now > ran ? now - ran : 0);
    atomic_store(&vp->lapic.init_pending, init); /* restored, and the VP has not run since */
    atomic_store(&vp->lapic.sipi_pending, sipi);
    atomic_store(&vp->lapic.sipi_vector, vector);
    /* The timer is KVM's: ours does not run. */
    atomic_store(&vp->lapic.timer_deadline_ns, UINT64_MAX);
    return 0;
}

static void pull_events(struct hv_vp *vp, const struct pulled *t)
{
    struct kvm_vcpu_events e = t->e;

    memset(&vp->exc, 0, sizeof(vp->exc));
    if (e.exception.injected) {
        bool soft = e.exception.nr == X86_EXC_BP || e.exception.nr == X86_EXC_OF;

        vp->exc = (struct x86_pending){ .valid = 1, .vector = e.exception.nr,
                                        .type = soft ? X86_EV_SOFTEXC : X86_EV_FAULT,
                                        .has_error = e.exception.has_error_code,
                                        .error = e.exception.error_code, .cr2 = vp->cpu.cr2 };
    } else if (e.interrupt.injected) {
        vp->exc = (struct x86_pending){ .valid = 1, .vector = e.interrupt.nr,
                                        .type = e.interrupt.soft ? X86_EV_SOFTINT : X86_EV_EXTINT };
    } else if (e.nmi.injected) {
        vp->exc = (struct x86_pending){ .valid = 1, .vector = X86_EXC_NMI, .type = X86_EV_NMI };
    }
    vp->cpu.int_shadow = e.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? 2
                         : e.interrupt.shadow & KVM_X86_SHADOW_INT_STI  ? 1
                                                                        : 0;
    vp->cpu.nmi_masked = e.nmi.masked != 0;
    atomic_store(&vp->lapic.nmi_pending, e.nmi.pending || atomic_load(&kvm_vcpu(vp)->nmi));
    switch (t->mp.mp_state) {
    case KVM_MP_STATE_HALTED: vp->run_state = HV_VP_HALTED; break;
    case KVM_MP_STATE_UNINITIALIZED:
    case KVM_MP_STATE_INIT_RECEIVED: vp->run_state = HV_VP_WAIT_SIPI; break;
    default: vp->run_state = HV_VP_RUNNING; break;
    }
}

int kvm_state_pull(struct hv_vp *vp)
{
    struct pulled t;
    int err = pull_all(vp, &t);

    if (err)
        return err;
    pull_regs(vp, &t);
    err = pull_vector(vp);
    if (err)
        return err;
    pull_msrs(vp);
    err = pull_lapic(vp);
    pull_events(vp, &t);
    if (!err && vp->p->hyperv)
        kvm_hyperv_pull(vp);
    x86_update_mode(vp);
    return err;
}
