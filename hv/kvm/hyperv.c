/* SPDX-License-Identifier: BSD-2-Clause */
/* The Hyper-V interface under KVM (TLFS; API 4.126, 8.x KVM_CAP_HYPERV_*).
 *
 * KVM serves the MSRs, the timers, the TSC page, flushes and IPIs itself.  Its pages are plain guest memory; to make
 * them overlays, as TLFS says and the other engines do, writes of the MSRs that place one come here first (MSR
 * filter): the overlay becomes a memory slot, then KVM gets the write.  SIMP and SIEFP writes come here after KVM
 * has taken them (KVM_EXIT_HYPERV_SYNIC).  The crash and reset MSRs are ours alone, and a write of EOM also moves
 * our queue of messages.  KVM has no guest idle MSR: CPUID does not show it, but a guest that was begun under another
 * engine reads it, and goes on at once. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "hv/kvm/kvm.h"

enum {
    MSR_OS_ID = 0x40000000, MSR_HYPERCALL = 0x40000001, MSR_RESET = 0x40000003, MSR_REF_TSC = 0x40000021,
    MSR_ASSIST = 0x40000073, MSR_SCONTROL = 0x40000080, MSR_SIEFP = 0x40000082, MSR_SIMP = 0x40000083,
    MSR_EOM = 0x40000084, MSR_SINT0 = 0x40000090, MSR_STIMER0 = 0x400000b0, MSR_IDLE = 0x400000f0,
    MSR_CRASH_P0 = 0x40000100, MSR_CRASH_CTL = 0x40000105, MSR_TSC_INVARIANT = 0x40000118,
    MSR_FIRST = 0x40000000, MSR_COUNT = 0x140 /* KVM reads the bitmaps in units of 64 */
};
enum { CALL_POST_MESSAGE = 0x5c, CALL_SIGNAL_EVENT = 0x5d };
enum { HV_STATUS_INVALID_CODE = 2, HV_STATUS_INVALID_INPUT = 3, HV_STATUS_INVALID_ALIGNMENT = 4,
       HV_STATUS_INVALID_PARAMETER = 5, HV_STATUS_INVALID_CONNECTION = 18 };

static void deny(uint8_t *bitmap, uint32_t msr)
{
    bitmap[(msr - MSR_FIRST) / 8] &= (uint8_t) ~(1u << ((msr - MSR_FIRST) % 8));
}

int kvm_hyperv_init(struct hv_partition *p)
{
    static const uint32_t writes[] = { MSR_OS_ID, MSR_HYPERCALL, MSR_REF_TSC, MSR_ASSIST, MSR_EOM };
    struct kvm_part *kp = kvm_part(p);
    uint8_t rd[MSR_COUNT / 8], wr[MSR_COUNT / 8];
    struct kvm_msr_filter f = { .flags = KVM_MSR_FILTER_DEFAULT_ALLOW };
    int err;

    if (!kvm_cap(kp->fd, KVM_CAP_HYPERV_SYNIC2))
        return hv_fail(-ENOTSUP, "this KVM has no Hyper-V interface (KVM_CAP_HYPERV_SYNIC2); "
                                 "take another engine, or enlightened = no");
    memset(rd, 0xff, sizeof(rd));
    memset(wr, 0xff, sizeof(wr));
    for (uint32_t m = MSR_CRASH_P0; m <= MSR_CRASH_CTL; m++) {
        deny(rd, m);
        deny(wr, m);
    }
    deny(rd, MSR_IDLE);
    deny(rd, MSR_RESET);
    deny(wr, MSR_RESET);
    for (unsigned i = 0; i < COUNT(writes); i++)
        deny(wr, writes[i]);
    f.ranges[0] = (struct kvm_msr_filter_range){ .flags = KVM_MSR_FILTER_READ, .nmsrs = MSR_COUNT,
                                                 .base = MSR_FIRST, .bitmap = rd };
    f.ranges[1] = (struct kvm_msr_filter_range){ .flags = KVM_MSR_FILTER_WRITE, .nmsrs = MSR_COUNT,
                                                 .base = MSR_FIRST, .bitmap = wr };
    err = kvm_ioctl(kp->vm, KVM_X86_SET_MSR_FILTER, &f);
    return err < 0 ? hv_fail(err, "KVM_X86_SET_MSR_FILTER: %s", strerror(-err)) : 0;
}

int kvm_hyperv_vp_init(struct hv_vp *vp)
{
    struct kvm_part *kp = kvm_part(vp->p);
    struct kvm_enable_cap cap = { .cap = KVM_CAP_HYPERV_SYNIC2 };
    int err = kvm_ioctl(kvm_vcpu(vp)->fd, KVM_ENABLE_CAP, &cap);

    if (err < 0)
        return hv_fail(err, "processor %u: KVM_CAP_HYPERV_SYNIC2: %s", vp->index, strerror(-err));
    /* What CPUID does not show is not there: MSRs that were hidden raise #GP, as under every engine. */
    if (kvm_cap(kp->fd, KVM_CAP_HYPERV_ENFORCE_CPUID)) {
        struct kvm_enable_cap enforce = { .cap = KVM_CAP_HYPERV_ENFORCE_CPUID, .args[0] = 1 };

        err = kvm_ioctl(kvm_vcpu(vp)->fd, KVM_ENABLE_CAP, &enforce);
        if (err < 0)
            return hv_fail(err, "processor %u: KVM_CAP_HYPERV_ENFORCE_CPUID: %s", vp->index, strerror(-err));
    }
    if (!kp->hv_supported) {
        kp->hv_supported = calloc(1, sizeof(*kp->hv_supported) +
                                         KVM_CPUID_MAX * sizeof(kp->hv_supported->entries[0]));
        if (!kp->hv_supported)
            return hv_fail(-ENOMEM, "KVM: out of memory");
        kp->hv_supported->nent = KVM_CPUID_MAX;
        err = kvm_ioctl(kvm_vcpu(vp)->fd, KVM_GET_SUPPORTED_HV_CPUID, kp->hv_supported);
        if (err < 0)
            return hv_fail(err, "KVM_GET_SUPPORTED_HV_CPUID: %s", strerror(-err));
    }
    return 0;
}

/* ---- MSRs ---------------------------------------------------------------------------------------------------- */

/* KVM writes the page when it gets the MSR: it has to be writable until then. */
static void hypercall_write(struct hv_vp *vp, uint64_t val)
{
    struct hv_hyperv *h = vp->p->hyperv;

    if (atomic_load(&h->hypercall) & 2) /* locked until reset */
        return;
    if (!atomic_load(&h->guest_os_id))
        val &= ~1ull;
    if (val & 1)
        hv_overlay_place(vp, vp->p, val, h->hypercall_off, HV_MAP_RWX);
    if (kvm_msr_set(vp, MSR_HYPERCALL, val) && !atomic_exchange(&kvm_part(vp->p)->page_refused, true))
        hv_log(vp->p, 1, "vp%u: KVM did not take the hypercall page at 0x%llx", vp->index,
               (unsigned long long)val);
    atomic_store(&h->hypercall, val);
    hv_overlay_place(vp, vp->p, val, h->hypercall_off, HV_MAP_READ | HV_MAP_EXEC);
}

static int msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    struct hv_hyperv *h = vp->p->hyperv;
    uint64_t now;

    if ((msr == MSR_REF_TSC || msr == MSR_EOM) && hv_hyperv_msr_read(vp, msr, &now))
        return -1; /* not shown to this guest */
    switch (msr) {
    case MSR_OS_ID:
        atomic_store(&h->guest_os_id, val);
        kvm_msr_set(vp, MSR_OS_ID, val);
        if (!val) {
            atomic_fetch_and(&h->hypercall, ~3ull);
            hypercall_write(vp, 0);
        }
        return 0;
    case MSR_HYPERCALL: hypercall_write(vp, val); return 0;
    case MSR_REF_TSC:
        h->reference_tsc = val;
        hv_overlay_place(vp, vp->p, val, h->tsc_off, HV_MAP_READ | HV_MAP_WRITE);
        return kvm_msr_set(vp, msr, val);
    case MSR_ASSIST:
        hv_assist_write(vp, val);
        return kvm_msr_set(vp, msr, val);
    case MSR_EOM:
        hv_synic_write(vp, msr, val);
        return kvm_msr_set(vp, msr, val);
    default: return hv_hyperv_msr_write(vp, msr, val);
    }
}

static int msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val)
{
    if (msr != MSR_IDLE)
        return hv_hyperv_msr_read(vp, msr, val);
    *val = 0;
    return vp->p->hyperv->shown & HV_ENL_IDLE ? 0 : -1;
}

/* MSRs that KVM does not know and that have one value for ever. */
static int fixed_read(uint32_t msr, uint64_t *val)
{
    switch (msr) {
    case 0: case 1: case 0x17: case 0x2a: case 0x1d9: *val = 0; return 0;
    case 0x3a: *val = 1; return 0;
    default:
        *val = 0;
        return msr >= 0x1db && msr <= 0x1de ? 0 : -1;
    }
}

void kvm_msr_exit(struct hv_vp *vp, bool write)
{
    static _Atomic uint64_t seen[64];
    struct kvm_run *run = kvm_vcpu(vp)->run;
    uint32_t msr = run->msr.index, h = (msr * 0x9e3779b1u) >> 20;
    uint64_t bit = 1ull << (h & 63), val = 0;
    bool ours = vp->p->hyperv && run->msr.reason == KVM_MSR_EXIT_REASON_FILTER;
    int err;

    if (write)
        err = ours ? msr_write(vp, msr, run->msr.data) : -1;
    else
        err = ours ? msr_read(vp, msr, &val) : fixed_read(msr, &val);
    if (!write)
        run->msr.data = val;
    run->msr.error = err ? 1 : 0;
    if (err && !(atomic_fetch_or(&seen[(h >> 6) & 63], bit) & bit))
        hv_log(vp->p, 3, "vp%u: %s of MSR 0x%x (0x%llx) refused", vp->index, write ? "write" : "read", msr,
               (unsigned long long)run->msr.data);
}

/* ---- exits ----------------------------------------------------------------------------------------------------- */

static void page_move(struct hv_vp *vp, uint64_t *reg, uint64_t val, uint64_t offset)
{
    if (*reg == val)
        return;
    if ((val & 1) && !(*reg & 1))
        memset(hv_ram_hva(vp->p, offset, HV_PAGE_SIZE), 0, HV_PAGE_SIZE);
    pthread_mutex_lock(&vp->hyperv.lock);
    *reg = val;
    pthread_mutex_unlock(&vp->hyperv.lock);
    hv_overlay_place(vp, vp->p, val, offset, HV_MAP_READ | HV_MAP_WRITE);
}

static void synic(struct hv_vp *vp)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    struct kvm_run *run = kvm_vcpu(vp)->run;

    page_move(vp, &v->siefp, run->hyperv.u.synic.evt_page, v->siefp_off);
    page_move(vp, &v->simp, run->hyperv.u.synic.msg_page, v->simp_off);
    hv_synic_write(vp, MSR_SCONTROL, run->hyperv.u.synic.control);
}

/* KVM has checked that there is no repetition and no variable header (TLFS 3.7 for the control word). */
static uint64_t hypercall(struct hv_vp *vp, uint64_t input, uint64_t in, uint64_t out)
{
    struct hv_partition *p = vp->p;
    bool fast = input & (1u << 16);
    uint16_t status;
    struct {
        uint32_t connection, reserved, type, len;
        uint8_t payload[HV_MESSAGE_PAYLOAD];
    } m;

    switch (input & 0xffff) {
    case CALL_POST_MESSAGE:
        if (fast)
            return HV_STATUS_INVALID_INPUT;
        if ((in & 7) || (in & 4095) + sizeof(m) > 4096)
            return HV_STATUS_INVALID_ALIGNMENT;
        if (hv_gpa_read(p, in, &m, sizeof(m)))
            return HV_STATUS_INVALID_PARAMETER;
        if (m.len > HV_MESSAGE_PAYLOAD || (m.type & 0x80000000u))
            return HV_STATUS_INVALID_PARAMETER;
        if (!p->ops.post_message)
            return HV_STATUS_INVALID_CONNECTION;
        return p->ops.post_message(p->ctx, vp->index, m.connection, m.type, m.payload, m.len);
    case CALL_SIGNAL_EVENT:
        (void)out;
        if (!fast) {
            if ((in & 7) || (in & 4095) + 8 > 4096)
                return HV_STATUS_INVALID_ALIGNMENT;
            if (hv_gpa_read(p, in, &in, 8))
                return HV_STATUS_INVALID_PARAMETER;
        }
        if (!p->ops.signal_event)
            return HV_STATUS_INVALID_CONNECTION;
        status = p->ops.signal_event(p->ctx, vp->index, (uint32_t)in, (uint16_t)(in >> 32));
        if (!status && !(in >> 32))
            kvm_port_add(p, (uint32_t)in);
        return status;
    default: return HV_STATUS_INVALID_CODE;
    }
}

void kvm_hyperv_exit(struct hv_vp *vp)
{
    struct kvm_run *run = kvm_vcpu(vp)->run;

    switch (run->hyperv.type) {
    case KVM_EXIT_HYPERV_SYNIC: synic(vp); break;
    case KVM_EXIT_HYPERV_HCALL:
        run->hyperv.u.hcall.result = hypercall(vp, run->hyperv.u.hcall.input, run->hyperv.u.hcall.params[0],
                                               run->hyperv.u.hcall.params[1]);
        break;
    default: break;
    }
}

/* ---- state ----------------------------------------------------------------------------------------------------- */

/* A value that KVM refuses is what a state holds that no guest could have set: @return -ENOTSUP with the reason. */
static int push_msr(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    uint64_t have;

    if (!kvm_msr_set(vp, msr, val) || (!kvm_msr_get(vp, msr, &have) && have == val) || !val)
        return 0;
    return hv_fail(-ENOTSUP, "processor %u: this KVM does not take MSR 0x%x with 0x%llx", vp->index, msr,
                   (unsigned long long)val);
}

/* A halt by the guest idle MSR ends by an interrupt that IF holds off, too; KVM's does not.  The guest may go on at any
 * time (TLFS 10.1.4). */
static int idle_end(struct hv_vp *vp)
{
    struct kvm_mp_state mp = { KVM_MP_STATE_RUNNABLE };
    int err;

    if (!vp->idle)
        return 0;
    vp->idle = 0;
    vp->run_state = HV_VP_RUNNING;
    err = kvm_ioctl(kvm_vcpu(vp)->fd, KVM_SET_MP_STATE, &mp);
    return err < 0 ? hv_fail(err, "processor %u: KVM_SET_MP_STATE: %s", vp->index, strerror(-err)) : 0;
}

int kvm_hyperv_push(struct hv_vp *vp)
{
    struct hv_hyperv *h = vp->p->hyperv;
    struct hv_hyperv_vp *v = &vp->hyperv;
    uint64_t have;
    int err = idle_end(vp);

    for (unsigned i = 0; i < HV_NSTIMERS; i++) /* off before their SINTs and counts change */
        kvm_msr_set(vp, MSR_STIMER0 + 2 * i, 0);
    /* KVM takes its offer back at every exit, and does not know of one made by another engine (TLFS 10.3.5). */
    if (!err && hv_lazy_eoi_withdraw(vp))
        err = kvm_lapic_eoi(vp);
    if (!err && vp->index == 0) {
        if (!kvm_msr_get(vp, MSR_HYPERCALL, &have) && have != atomic_load(&h->hypercall)) {
            kvm_msr_set(vp, MSR_HYPERCALL, 0);
            kvm_msr_set(vp, MSR_OS_ID, atomic_load(&h->guest_os_id));
            if (atomic_load(&h->hypercall) & 1) {
                hv_overlay_place(vp, vp->p, atomic_load(&h->hypercall), h->hypercall_off, HV_MAP_RWX);
                err = push_msr(vp, MSR_HYPERCALL, atomic_load(&h->hypercall));
                hv_overlay_place(vp, vp->p, atomic_load(&h->hypercall), h->hypercall_off,
                                 HV_MAP_READ | HV_MAP_EXEC);
            }
        } else {
            kvm_msr_set(vp, MSR_OS_ID, atomic_load(&h->guest_os_id));
        }
        err = err ? err : push_msr(vp, MSR_REF_TSC, h->reference_tsc);
        err = err ? err : push_msr(vp, MSR_TSC_INVARIANT, atomic_load(&h->tsc_invariant));
    }
    err = err ? err : push_msr(vp, MSR_SIEFP, v->siefp);
    err = err ? err : push_msr(vp, MSR_SIMP, v->simp);
    for (unsigned i = 0; !err && i < HV_NSINTS; i++)
        err = push_msr(vp, MSR_SINT0 + i, v->sint[i]);
    err = err ? err : push_msr(vp, MSR_SCONTROL, v->scontrol);
    err = err ? err : push_msr(vp, MSR_ASSIST, v->assist);
    for (unsigned i = 0; !err && i < HV_NSTIMERS; i++) {
        err = push_msr(vp, MSR_STIMER0 + 2 * i + 1, v->stimer[i].count);
        err = err ? err : push_msr(vp, MSR_STIMER0 + 2 * i, v->stimer[i].config);
    }
    return err;
}

void kvm_hyperv_pull(struct hv_vp *vp)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    uint64_t val;

    if (vp->index == 0 && !kvm_msr_get(vp, MSR_TSC_INVARIANT, &val))
        atomic_store(&vp->p->hyperv->tsc_invariant, val & 1);
    for (unsigned i = 0; i < HV_NSINTS; i++)
        kvm_msr_get(vp, MSR_SINT0 + i, &v->sint[i]);
    for (unsigned i = 0; i < HV_NSTIMERS; i++) {
        kvm_msr_get(vp, MSR_STIMER0 + 2 * i + 1, &v->stimer[i].count);
        kvm_msr_get(vp, MSR_STIMER0 + 2 * i, &v->stimer[i].config);
        v->stimer[i].deadline_ns = UINT64_MAX; /* runs in KVM */
    }
    hv_synic_trim(v);
}
