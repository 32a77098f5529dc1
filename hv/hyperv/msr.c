/* SPDX-License-Identifier: BSD-2-Clause */
/* Hyper-V CPUID leaves, synthetic MSRs, overlay pages other than those of the SynIC (TLFS 2, 3.13, 5, 12). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hv/hyperv/hyperv.h"
#include "hv/infra.h"
#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

enum {
    MSR_OS_ID = 0x40000000, MSR_HYPERCALL = 0x40000001, MSR_VP_INDEX = 0x40000002, MSR_RESET = 0x40000003,
    MSR_VP_RUNTIME = 0x40000010, MSR_REF_COUNT = 0x40000020, MSR_REF_TSC = 0x40000021,
    MSR_TSC_FREQ = 0x40000022, MSR_APIC_FREQ = 0x40000023, MSR_EOI = 0x40000070, MSR_ICR = 0x40000071,
    MSR_TPR = 0x40000072, MSR_ASSIST = 0x40000073, MSR_SCONTROL = 0x40000080, MSR_SINT15 = 0x4000009f,
    MSR_STIMER0 = 0x400000b0, MSR_STIMER3_COUNT = 0x400000b7, MSR_IDLE = 0x400000f0,
    MSR_CRASH_P0 = 0x40000100, MSR_CRASH_P4 = 0x40000104, MSR_CRASH_CTL = 0x40000105,
    MSR_TSC_INVARIANT = 0x40000118
};
#define CRASH_NOTIFY (1ull << 63)
#define CRASH_MESSAGE (1ull << 62)

/* Partition privileges and features, TLFS 4.2.2: what is served, and nothing else. */
static uint32_t pick(uint32_t shown, const uint32_t (*t)[2])
{
    uint32_t ret = 0;

    for (; (*t)[0]; t++)
        if (((*t)[1] & shown) == (*t)[1])
            ret |= (*t)[0];
    return ret;
}

static const uint32_t priv_eax[][2] = {
    { 1u << 0, HV_ENL_VP_RUNTIME },
    { 1u << 1, 0 },            /* reference counter */
    { 1u << 2, HV_ENL_SYNIC },
    { 1u << 3, HV_ENL_STIMERS | HV_ENL_SYNIC },
    { 1u << 4, 0 },            /* APIC MSRs */
    { 1u << 5, 0 },            /* hypercall MSRs */
    { 1u << 6, 0 },            /* VP index */
    { 1u << 7, HV_ENL_RESET },
    { 1u << 9, HV_ENL_REFERENCE_TSC },
    { 1u << 10, HV_ENL_IDLE },
    { 1u << 11, HV_ENL_FREQUENCIES },
    { 1u << 15, HV_ENL_TSC_INVARIANT },
    { 0, 0 }
};
static const uint32_t priv_ebx[][2] = {
    { 1u << 4 | 1u << 5, HV_ENL_SYNIC }, /* PostMessages, SignalEvents */
    { 1u << 20, HV_ENL_EXTENDED },
    { 0, 0 }
};
static const uint32_t feat_edx[][2] = {
    { 1u << 4, 0 },            /* XMM hypercall input */
    { 1u << 5, HV_ENL_IDLE },
    { 1u << 8, HV_ENL_FREQUENCIES },
    { 1u << 10, HV_ENL_CRASH },
    { 1u << 19, HV_ENL_DIRECT_STIMERS | HV_ENL_STIMERS | HV_ENL_SYNIC },
    { 0, 0 }
};

/* The enlightenment that an MSR belongs to, 0: it is always there. */
static uint32_t msr_needs(uint32_t msr)
{
    if (msr >= MSR_SCONTROL && msr <= MSR_SINT15)
        return HV_ENL_SYNIC;
    if (msr >= MSR_STIMER0 && msr <= MSR_STIMER3_COUNT)
        return HV_ENL_STIMERS | HV_ENL_SYNIC;
    if (msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_CTL)
        return HV_ENL_CRASH;
    switch (msr) {
    case MSR_RESET: return HV_ENL_RESET;
    case MSR_VP_RUNTIME: return HV_ENL_VP_RUNTIME;
    case MSR_REF_TSC: return HV_ENL_REFERENCE_TSC;
    case MSR_TSC_FREQ:
    case MSR_APIC_FREQ: return HV_ENL_FREQUENCIES;
    case MSR_IDLE: return HV_ENL_IDLE;
    case MSR_TSC_INVARIANT: return HV_ENL_TSC_INVARIANT;
    default: return 0;
    }
}

uint64_t hv_reference_time(const struct hv_partition *p) { return hv_time_ns(p) / 100; }

bool hv_hyperv_cpuid(const struct hv_vp *vp, uint32_t leaf, uint32_t r[4])
{
    const struct hv_partition *p = vp->p;
    const uint32_t shown = p->hyperv->shown;

    switch (leaf) {
    case 0x40000000u:
        r[0] = 0x4000000au;
        memcpy(&r[1], "Micr", 4);
        memcpy(&r[2], "osof", 4);
        memcpy(&r[3], "t Hv", 4);
        return true;
    case 0x40000001u:
        memcpy(&r[0], "Hv#1", 4);
        return true;
    case 0x40000002u: /* 10.0, build 20348 */
        r[0] = 20348;
        r[1] = 10u << 16;
        return true;
    case 0x40000003u:
        r[0] = pick(shown, priv_eax);
        r[1] = pick(shown, priv_ebx);
        r[3] = pick(shown, feat_edx);
        return true;
    case 0x40000004u:
        /* Remote flushes and IPIs by hypercall, also of sets; relaxed timing; no auto-EOI.  The APIC's MSRs: with
         * them comes the EOI that need not be written (lazy EOI, below). */
        r[0] = (shown & HV_ENL_RELAXED_TIMING ? 1u << 5 : 0) | 1u << 9 | 1u << 3;
        if (p->nvps > 1 && (shown & HV_ENL_REMOTE_FLUSH))
            r[0] |= 1u << 2 | 1u << 11;
        if (p->nvps > 1 && (shown & HV_ENL_IPI))
            r[0] |= 1u << 10 | 1u << 11;
        r[1] = 0xffffffffu; /* never tell us of spinning */
        return true;
    case 0x40000005u:
        r[0] = HV_MAX_VPS;
        r[1] = HV_MAX_VPS;
        return true;
    case 0x40000006u: /* no hardware features that a guest has to know of */
    case 0x40000007u:
    case 0x40000008u:
    case 0x40000009u:
    case 0x4000000au:
        return true;
    default:
        return false;
    }
}

/* ---- overlays ----------------------------------------------------------------------------------------- */

void hv_overlay_place(struct hv_vp *vp, struct hv_partition *p, uint64_t val, uint64_t offset, unsigned flags)
{
    bool inside = vp && atomic_load(&vp->mmu.in_guest);

    if (inside)
        x86_mmu_leave(vp);
    if (val & 1)
        hv_overlay_map(p, val & ~0xfffull & ((1ull << HV_MAXPHYADDR) - 1), offset, flags);
    else
        hv_overlay_unmap(p, offset);
    if (inside)
        x86_mmu_enter(vp);
}

void hv_hypercall_place(struct hv_vp *vp, uint64_t val)
{
    /* vmcall; ret */
    static const uint8_t code[] = { 0x0f, 0x01, 0xc1, 0xc3 };
    struct hv_hyperv *h = vp->p->hyperv;

    memcpy(hv_ram_hva(vp->p, h->hypercall_off, HV_PAGE_SIZE), code, sizeof(code));
    atomic_store(&h->hypercall, val);
    hv_overlay_place(vp, vp->p, val, h->hypercall_off, HV_MAP_READ | HV_MAP_EXEC);
}

static void hypercall_write(struct hv_vp *vp, uint64_t val)
{
    struct hv_hyperv *h = vp->p->hyperv;

    if (atomic_load(&h->hypercall) & 2) /* locked until reset */
        return;
    if (!atomic_load(&h->guest_os_id))
        val &= ~1ull;
    hv_hypercall_place(vp, val);
}

uint64_t hv_reference_tsc_scale(const struct hv_partition *p)
{
    uint64_t hz = hv_tsc_hz(p);

    return hz > 10000000 ? (uint64_t)(((__uint128_t)10000000 << 64) / hz) : 0;
}

/* TLFS 12.6.3: reference time = (tsc * scale >> 64) + offset. */
void hv_reference_tsc_start(struct hv_vp *vp, uint32_t seq)
{
    struct hv_reference_tsc_page *page = hv_ram_hva(vp->p, vp->p->hyperv->tsc_off, HV_PAGE_SIZE);
    uint64_t scale = hv_reference_tsc_scale(vp->p), ns = hv_time_ns(vp->p);

    page->seq = 0;
    atomic_thread_fence(memory_order_release);
    page->scale = scale;
    page->offset = (int64_t)(ns / 100 - (uint64_t)(((__uint128_t)hv_tsc_at(vp, ns) * scale) >> 64));
    atomic_thread_fence(memory_order_release);
    page->seq = scale ? seq : 0;
}

static void reference_tsc_write(struct hv_vp *vp, uint64_t val)
{
    struct hv_hyperv *h = vp->p->hyperv;

    pthread_mutex_lock(&h->lock);
    if (val & 1)
        hv_reference_tsc_start(vp, 1);
    h->reference_tsc = val;
    pthread_mutex_unlock(&h->lock);
    hv_overlay_place(vp, vp->p, val, h->tsc_off, HV_MAP_READ);
}

void hv_assist_write(struct hv_vp *vp, uint64_t val)
{
    struct hv_hyperv_vp *v = &vp->hyperv;

    hv_lazy_eoi_end(vp); /* what the guest has left out on the page that goes */
    if ((val & 1) && !(v->assist & 1))
        memset(hv_ram_hva(vp->p, v->assist_off, HV_PAGE_SIZE), 0, HV_PAGE_SIZE);
    v->assist = val;
    hv_overlay_place(vp, vp->p, val, v->assist_off, HV_MAP_READ | HV_MAP_WRITE);
}

/* ---- lazy EOI (TLFS 10.3.5) -------------------------------------------------------------------------------- */

static _Atomic uint32_t *assist_word(struct hv_vp *vp)
{
    return hv_ram_hva(vp->p, vp->hyperv.assist_off, HV_PAGE_SIZE);
}

bool hv_lazy_eoi_withdraw(struct hv_vp *vp)
{
    struct hv_hyperv_vp *v = &vp->hyperv;

    if (!v->lazy_eoi)
        return false;
    v->lazy_eoi = false;
    return !(atomic_fetch_and(assist_word(vp), ~1u) & 1);
}

void hv_lazy_eoi_check(struct hv_vp *vp)
{
    struct hv_hyperv_vp *v = &vp->hyperv;

    /* Something waits that an EOI may let through: the guest has to write it. */
    if (v->lazy_eoi && (!(atomic_load(assist_word(vp)) & 1) || hv_lapic_irr_any(vp)))
        hv_lazy_eoi_end(vp);
}

void hv_lazy_eoi_end(struct hv_vp *vp)
{
    if (hv_lazy_eoi_withdraw(vp))
        hv_lapic_eoi_edge(vp);
}

void hv_lazy_eoi_offer(struct hv_vp *vp, unsigned vector)
{
    struct hv_hyperv_vp *v = &vp->hyperv;

    if (!(v->assist & 1))
        return;
    if (v->lazy_eoi) {
        /* @vector came behind the check and interrupts one whose EOI need not be written: of two, both are. */
        hv_lazy_eoi_withdraw(vp);
        return;
    }
    if (hv_lapic_irr_any(vp) || !hv_lapic_only_edge(vp, vector)) {
        /* Left over when the guest wrote an EOI that it could have saved. */
        atomic_fetch_and(assist_word(vp), ~1u);
        return;
    }
    v->lazy_eoi = true;
    atomic_fetch_or(assist_word(vp), 1u);
}

/* ---- crash (TLFS 2.5.x, crash enlightenment) ------------------------------------------------------------------ */

/* The guest's message, its lines to the log; the one that says what happened (Linux: "Kernel panic"), else the last,
 * to @text. */
static void crash_message(struct hv_vp *vp, uint64_t gpa, uint64_t len, char *text, size_t size)
{
    char buf[HV_PAGE_SIZE + 1];
    bool found = false;

    if (len > HV_PAGE_SIZE) { /* the end says most */
        gpa += len - HV_PAGE_SIZE;
        len = HV_PAGE_SIZE;
    }
    if (hv_gpa_read(vp->p, gpa, buf, len))
        return;
    buf[len] = 0;
    for (char *line = buf, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        for (char *c = line; *c; c++)
            if ((unsigned char)*c < ' ' || (unsigned char)*c > '~')
                *c = ' ';
        if (!*line)
            continue;
        hv_log(vp->p, 1, "the guest's last words: %.200s", line);
        if (!found)
            snprintf(text, size, "%.*s", (int)size - 1, line);
        found = found || strstr(line, "panic");
    }
}

static void crash(struct hv_vp *vp, uint64_t ctl)
{
    struct hv_hyperv *h = vp->p->hyperv;
    char text[160] = "no message";

    if (!(ctl & CRASH_NOTIFY))
        return;
    if (ctl & CRASH_MESSAGE)
        crash_message(vp, h->crash[3], h->crash[4], text, sizeof(text));
    for (unsigned i = 0; i < 5; i++)
        vp->exit.param[i] = h->crash[i];
    hv_vp_exit(vp, HV_EXIT_CRASH, "%s", text);
}

/* CPU time of the VP; its thread changes when the VM is paused. */
static uint64_t runtime(struct hv_vp *vp)
{
    struct hv_hyperv_vp *v = &vp->hyperv;
    struct timespec ts;
    uint64_t now;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    now = (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
    v->runtime_ns += now >= v->runtime_thread_ns ? now - v->runtime_thread_ns : now;
    v->runtime_thread_ns = now;
    return v->runtime_ns;
}

/* ---- MSRs -------------------------------------------------------------------------------------------------------- */

int hv_hyperv_msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val)
{
    struct hv_hyperv *h = vp->p->hyperv;

    if ((msr_needs(msr) & h->shown) != msr_needs(msr))
        return -1;
    if (msr >= MSR_SCONTROL && msr <= MSR_SINT15)
        return hv_synic_read(vp, msr, val);
    if (msr >= MSR_STIMER0 && msr <= MSR_STIMER3_COUNT) {
        const struct hv_stimer *t = &vp->hyperv.stimer[(msr - MSR_STIMER0) / 2];

        *val = (msr - MSR_STIMER0) & 1 ? t->count : t->config;
        return 0;
    }
    if (msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_P4) {
        *val = h->crash[msr - MSR_CRASH_P0];
        return 0;
    }
    switch (msr) {
    case MSR_OS_ID: *val = atomic_load(&h->guest_os_id); return 0;
    case MSR_HYPERCALL: *val = atomic_load(&h->hypercall); return 0;
    case MSR_VP_INDEX: *val = vp->index; return 0;
    case MSR_RESET: *val = 0; return 0;
    case MSR_VP_RUNTIME:
        *val = runtime(vp) / 100;
        return 0;
    case MSR_REF_COUNT: *val = hv_reference_time(vp->p); return 0;
    case MSR_REF_TSC: *val = h->reference_tsc; return 0;
    case MSR_TSC_FREQ: *val = HV_TSC_HZ; return 0;
    case MSR_APIC_FREQ: *val = APIC_TIMER_HZ; return 0;
    case MSR_EOI: return -1; /* write only */
    case MSR_ICR: return hv_lapic_icr_read(vp, val);
    case MSR_TPR: *val = hv_lapic_tpr_get(vp); return 0;
    case MSR_ASSIST: *val = vp->hyperv.assist; return 0;
    case MSR_IDLE: /* sleeps until an interrupt, even with IF clear (TLFS 10.1.4) */
        vp->run_state = HV_VP_HALTED;
        vp->idle = 1;
        *val = 0;
        return 0;
    case MSR_CRASH_CTL: *val = CRASH_NOTIFY | CRASH_MESSAGE; return 0;
    case MSR_TSC_INVARIANT: *val = atomic_load(&h->tsc_invariant); return 0;
    default: return -1;
    }
}

int hv_hyperv_msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    struct hv_hyperv *h = vp->p->hyperv;

    if ((msr_needs(msr) & h->shown) != msr_needs(msr))
        return -1;
    if (msr >= MSR_SCONTROL && msr <= MSR_SINT15)
        return hv_synic_write(vp, msr, val);
    if (msr >= MSR_STIMER0 && msr <= MSR_STIMER3_COUNT) {
        if ((msr - MSR_STIMER0) & 1)
            hv_stimer_count(vp, (msr - MSR_STIMER0) / 2, val);
        else
            hv_stimer_config(vp, (msr - MSR_STIMER0) / 2, val);
        return 0;
    }
    if (msr >= MSR_CRASH_P0 && msr <= MSR_CRASH_P4) {
        h->crash[msr - MSR_CRASH_P0] = val;
        return 0;
    }
    switch (msr) {
    case MSR_OS_ID:
        atomic_store(&h->guest_os_id, val);
        if (!val) { /* TLFS 3.13: the hypercall page goes with the identity */
            atomic_fetch_and(&h->hypercall, ~3ull);
            hypercall_write(vp, 0);
        }
        return 0;
    case MSR_HYPERCALL: hypercall_write(vp, val); return 0;
    case MSR_RESET:
        if (val & 1)
            hv_vp_exit(vp, HV_EXIT_RESET, "the guest asked for a reset by its hypervisor MSR");
        return 0;
    case MSR_REF_TSC: reference_tsc_write(vp, val); return 0;
    case MSR_TSC_INVARIANT:
        if (val & ~1ull)
            return -1;
        atomic_store(&h->tsc_invariant, val & 1);
        return 0;
    case MSR_EOI:
        if (val >> 32)
            return -1;
        hv_lapic_eoi(vp);
        return 0;
    case MSR_ICR: return hv_lapic_icr_write(vp, val);
    case MSR_TPR:
        if (val & ~0xffull)
            return -1;
        hv_lapic_tpr_set(vp, (uint8_t)val);
        return 0;
    case MSR_ASSIST: hv_assist_write(vp, val); return 0;
    case MSR_CRASH_CTL: crash(vp, val); return 0;
    default: return -1; /* VP_INDEX, times, frequencies, IDLE: read only */
    }
}

/* ---- life cycle ------------------------------------------------------------------------------------------------------ */

void hv_hyperv_vp_reset(struct hv_vp *vp)
{
    if (!vp->p->hyperv)
        return;
    hv_assist_write(vp, 0);
    hv_stimer_reset(vp);
    hv_synic_reset(vp);
}

void hv_hyperv_reset(struct hv_partition *p)
{
    struct hv_hyperv *h = p->hyperv;

    if (!h)
        return;
    atomic_store(&h->guest_os_id, 0);
    atomic_store(&h->hypercall, 0);
    atomic_store(&h->tsc_invariant, false);
    h->reference_tsc = 0;
    memset(h->crash, 0, sizeof(h->crash));
    hv_overlay_unmap(p, h->hypercall_off);
    hv_overlay_unmap(p, h->tsc_off);
}

int hv_hyperv_create(struct hv_partition *p, uint32_t shown)
{
    struct hv_hyperv *h = calloc(1, sizeof(*h));
    uint64_t off;
    int err;

    if (!h)
        return hv_fail(-ENOMEM, "Hyper-V interface: out of memory");
    pthread_mutex_init(&h->lock, NULL);
    h->shown = shown & HV_ENL_ALL;
    p->hyperv = h;
    err = hv_ram_alloc(p, (2 + 3 * (uint64_t)p->nvps) * HV_PAGE_SIZE, &off);
    if (err)
        return err;
    h->hypercall_off = off;
    h->tsc_off = off + HV_PAGE_SIZE;
    for (unsigned i = 0; i < p->nvps; i++) {
        struct hv_hyperv_vp *v = &p->vps[i]->hyperv;

        v->simp_off = off + (2 + 3 * (uint64_t)i) * HV_PAGE_SIZE;
        v->siefp_off = v->simp_off + HV_PAGE_SIZE;
        v->assist_off = v->siefp_off + HV_PAGE_SIZE;
    }
    return 0;
}

void hv_hyperv_destroy(struct hv_partition *p)
{
    if (!p->hyperv)
        return;
    pthread_mutex_destroy(&p->hyperv->lock);
    free(p->hyperv);
    p->hyperv = NULL;
}
