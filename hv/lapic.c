/* SPDX-License-Identifier: BSD-2-Clause */
/* The local APIC: Intel SDM volume 3A chapter 11 (numbers without a document name are its sections).
 *
 * Who may do what without a lock is said in lapic.h.  The timer counts the core crystal clock of 1 GHz, so a
 * count is one nanosecond of guest time and every division is exact. */
#include <string.h>

#include "hv/infra.h"
#include "hv/x86/vec.h"

static uint32_t rd(const struct hv_lapic *a, unsigned n)
{
    return atomic_load_explicit(&a->reg[n], memory_order_relaxed);
}

static void wr(struct hv_lapic *a, unsigned n, uint32_t val)
{
    atomic_store_explicit(&a->reg[n], val, memory_order_relaxed);
}

static uint64_t base_of(const struct hv_lapic *a)
{
    return atomic_load_explicit(&a->base, memory_order_relaxed);
}

static bool hw_enabled(const struct hv_lapic *a)
{
    return base_of(a) & APIC_BASE_EN;
}

static bool x2_mode(const struct hv_lapic *a)
{
    return (base_of(a) & (APIC_BASE_EN | APIC_BASE_X2)) == (APIC_BASE_EN | APIC_BASE_X2);
}

static bool sw_enabled(const struct hv_lapic *a)
{
    return hw_enabled(a) && (rd(a, APIC_SVR) & APIC_SVR_ENABLE);
}

/* Index of the highest bit set in a 256-bit register, or -1. */
static int highest(const struct hv_lapic *a, unsigned first)
{
    for (int i = 7; i >= 0; i--) {
        uint32_t w = rd(a, first + (unsigned)i);

        if (w)
            return i * 32 + 31 - __builtin_clz(w);
    }
    return -1;
}

static void bit_set(struct hv_lapic *a, unsigned first, unsigned n)
{
    atomic_fetch_or(&a->reg[first + n / 32], 1u << (n % 32));
}

static bool bit_clear(struct hv_lapic *a, unsigned first, unsigned n)
{
    return atomic_fetch_and(&a->reg[first + n / 32], ~(1u << (n % 32))) & (1u << (n % 32));
}

/* ---- priorities (11.8.3) ---- */

static uint32_t ppr_of(const struct hv_lapic *a)
{
    uint32_t tpr = rd(a, APIC_TPR) & 0xff;
    int isr = highest(a, APIC_ISR);
    uint32_t isrv = isr < 0 ? 0 : (uint32_t)isr;

    return (tpr >> 4) >= (isrv >> 4) ? tpr : isrv & 0xf0;
}

/* Arbitration priority, 11.6.2.4. */
static uint32_t apr_of(const struct hv_lapic *a)
{
    uint32_t tpr = rd(a, APIC_TPR) & 0xff;
    int isr = highest(a, APIC_ISR), irr = highest(a, APIC_IRR);
    uint32_t isrv = isr < 0 ? 0 : (uint32_t)isr, irrv = irr < 0 ? 0 : (uint32_t)irr;

    if ((tpr >> 4) >= (irrv >> 4) && (tpr >> 4) > (isrv >> 4))
        return tpr;
    isrv &= tpr & 0xf0;
    irrv &= 0xf0;
    return isrv > irrv ? isrv : irrv;
}

int hv_lapic_pending(const struct hv_vp *vp)
{
    const struct hv_lapic *a = &vp->lapic;
    int irr;

    if (!hw_enabled(a))
        return -1;
    irr = highest(a, APIC_IRR);
    return irr >= 0 && ((uint32_t)irr >> 4) > (ppr_of(a) >> 4) ? irr : -1;
}

int hv_lapic_ack(struct hv_vp *vp)
{
    int vec = hv_lapic_pending(vp);

    if (vec < 0)
        return -1;
    bit_clear(&vp->lapic, APIC_IRR, (unsigned)vec);
    /* A SINT with auto-EOI is never in service (TLFS 11.5). */
    if (!(atomic_load_explicit(&vp->hyperv.auto_eoi[vec / 32], memory_order_relaxed) &
          (1u << (vec % 32))))
        bit_set(&vp->lapic, APIC_ISR, (unsigned)vec);
    return vec;
}

bool hv_lapic_irr_any(const struct hv_vp *vp)
{
    return highest(&vp->lapic, APIC_IRR) >= 0;
}

bool hv_lapic_only_edge(const struct hv_vp *vp, unsigned vector)
{
    const struct hv_lapic *a = &vp->lapic;
    uint32_t bit = 1u << (vector % 32);

    for (unsigned i = 0; i < 8; i++)
        if (rd(a, APIC_ISR + i) != (i == vector / 32 ? bit : 0))
            return false;
    return !(rd(a, APIC_TMR + vector / 32) & bit);
}

/* ---- accepting (any thread) ---- */

static void lvt_deliver(struct hv_vp *vp, unsigned lvt);

/* An error bit: ESR shows it after the next write to it (11.5.3). */
static void error(struct hv_vp *vp, uint32_t bit)
{
    if (!(atomic_fetch_or(&vp->lapic.esr_pending, bit) & bit))
        lvt_deliver(vp, APIC_LVT_ERROR);
}

static void accept_fixed(struct hv_vp *vp, unsigned vector, bool level)
{
    struct hv_lapic *a = &vp->lapic;

    if (vector < 16) {
        error(vp, APIC_ESR_RECV_ILLEGAL);
        return;
    }
    if (level)
        bit_set(a, APIC_TMR, vector);
    else if (rd(a, APIC_TMR + vector / 32) & (1u << (vector % 32)))
        bit_clear(a, APIC_TMR, vector);
    bit_set(a, APIC_IRR, vector);
    hv_vp_kick(vp, HV_ATT_INTR);
}

void hv_lapic_fixed(struct hv_vp *vp, unsigned vector)
{
    if (hw_enabled(&vp->lapic) && sw_enabled(&vp->lapic))
        accept_fixed(vp, vector, false);
}

static void raise_flag(struct hv_vp *vp, _Atomic uint8_t *flag)
{
    atomic_store(flag, 1);
    hv_vp_kick(vp, HV_ATT_INTR);
}

static void accept(struct hv_vp *vp, unsigned delivery, unsigned vector, bool level)
{
    struct hv_lapic *a = &vp->lapic;

    switch (delivery) {
    case HV_FIXED:
    case HV_LOWEST:
        if (sw_enabled(a)) /* 11.4.7.2 */
            accept_fixed(vp, vector, level);
        break;
    case HV_NMI: raise_flag(vp, &a->nmi_pending); break;
    case HV_INIT:
        atomic_store(&a->sipi_pending, 0);
        raise_flag(vp, &a->init_pending);
        break;
    case HV_SIPI:
        atomic_store(&a->sipi_vector, (uint8_t)vector);
        raise_flag(vp, &a->sipi_pending);
        break;
    case HV_EXTINT: raise_flag(vp, &a->extint_pending); break;
    default: /* SMI: there is no system-management mode */ break;
    }
}

static void lvt_deliver(struct hv_vp *vp, unsigned lvt)
{
    uint32_t v = rd(&vp->lapic, lvt);

    if (!hw_enabled(&vp->lapic) || (v & APIC_LVT_MASKED))
        return;
    if (lvt == APIC_LVT_TIMER || lvt == APIC_LVT_ERROR)
        v &= ~(uint32_t)APIC_LVT_MODE;
    accept(vp, (v & APIC_LVT_MODE) >> 8, v & 0xff,
           lvt == APIC_LVT_LINT0 && (v & APIC_LVT_MODE) == 0 && (v & APIC_LVT_LEVEL));
}

void hv_lapic_lint(struct hv_vp *vp, unsigned pin)
{
    lvt_deliver(vp, pin ? APIC_LVT_LINT1 : APIC_LVT_LINT0);
}

bool hv_lapic_takes_extint(const struct hv_vp *vp)
{
    const struct hv_lapic *a = &vp->lapic;

    /* 11.4.3: with the APIC disabled the LINT0 pin is INTR again. */
    return !hw_enabled(a) ||
           (rd(a, APIC_LVT_LINT0) & (APIC_LVT_MASKED | APIC_LVT_MODE)) == (uint32_t)HV_EXTINT << 8;
}

/* ---- destinations (11.6.2) ---- */

/* @wide: the message comes from a local APIC in x2APIC mode, else destinations have 8 bits. */
static bool dest_matches(const struct hv_vp *vp, uint32_t dest, bool logical, bool wide)
{
    const struct hv_lapic *a = &vp->lapic;
    uint32_t ldr;

    if (!hw_enabled(a))
        return false;
    if (dest == (wide ? 0xffffffffu : 0xffu))
        return true;
    if (!logical)
        return dest == vp->index;
    ldr = rd(a, APIC_LDR);
    if (x2_mode(a))
        return dest >> 16 == ldr >> 16 && (dest & ldr & 0xffff);
    if (dest > 0xff)
        return false;
    ldr >>= 24;
    switch (rd(a, APIC_DFR) >> 28) {
    case 0xf: /* flat */ return dest & ldr;
    case 0: /* cluster */ return (dest >> 4 == ldr >> 4 || dest >> 4 == 0xf) && (dest & ldr & 0x0f);
    default: return false;
    }
}

/* Deliver to all that match; with @lowest to the one of lowest priority.  @skip may be NULL. */
static int deliver(struct hv_partition *p, uint32_t dest, bool logical, bool wide,
                   unsigned delivery, unsigned vector, bool level, const struct hv_vp *skip)
{
    static _Atomic unsigned turn; /* ties go round */
    struct hv_vp *best = NULL;
    uint32_t best_apr = ~0u;
    unsigned first =
        delivery == HV_LOWEST ? atomic_fetch_add_explicit(&turn, 1, memory_order_relaxed) : 0;
    int taken = 0;

    for (unsigned n = 0; n < p->nvps; n++) {
        struct hv_vp *vp = p->vps[(first + n) % p->nvps];

        if (vp == skip || !dest_matches(vp, dest, logical, wide))
            continue;
        if (delivery != HV_LOWEST) {
            accept(vp, delivery, vector, level);
            taken++;
        } else if (sw_enabled(&vp->lapic) && apr_of(&vp->lapic) < best_apr) {
            best = vp;
            best_apr = apr_of(&vp->lapic);
        }
    }
    if (best) {
        accept(best, HV_LOWEST, vector, level);
        taken = 1;
    }
    return taken;
}

int hv_interrupt_request(struct hv_partition *p, const struct hv_interrupt *irq)
{
    if (p->engine->interrupt)
        return p->engine->interrupt(p, irq);
    return deliver(p, irq->dest, irq->logical, irq->dest > 0xff, irq->delivery, irq->vector,
                   irq->level, NULL);
}

int hv_msi(struct hv_partition *p, uint64_t addr, uint32_t data)
{
    struct hv_interrupt irq = {
        .dest = (addr >> 12) & 0xff,
        .logical = (addr & 0xc) == 0xc, /* 11.11.1: DM counts only with RH */
        .delivery = (data >> 8) & 7,
        .vector = data & 0xff,
        .level = (data >> 15) & 1,
    };

    if (addr >> 20 != 0xfee)
        return 0;
    if ((addr & 0xc) == 4)
        irq.logical = 1; /* what chipsets and other VMMs do with RH = 0, DM = 1 */
    if (irq.level && !(data & (1u << 14)))
        return 0; /* level deasserted: nothing to accept */
    return hv_interrupt_request(p, &irq);
}

void hv_extint_set(struct hv_partition *p, bool level)
{
    bool was = atomic_exchange(&p->extint, level);
    uint32_t lvt;

    if (!level || was)
        return;
    if (p->engine->interrupt) { /* its local APIC knows what LINT0 is */
        hv_vp_kick(p->vps[0], HV_ATT_INTR);
        return;
    }
    lvt = rd(&p->vps[0]->lapic, APIC_LVT_LINT0);
    if (hv_lapic_takes_extint(p->vps[0]))
        hv_vp_kick(p->vps[0], HV_ATT_INTR);
    else if ((lvt & APIC_LVT_MODE) != (uint32_t)HV_EXTINT << 8)
        hv_lapic_lint(p->vps[0], 0);
}

void hv_nmi(struct hv_partition *p)
{
    if (p->engine->nmi) {
        p->engine->nmi(p);
        return;
    }
    for (unsigned i = 0; i < p->nvps; i++) {
        if (hw_enabled(&p->vps[i]->lapic))
            hv_lapic_lint(p->vps[i], 1);
        else if (i == 0)
            raise_flag(p->vps[i], &p->vps[i]->lapic.nmi_pending);
    }
}

/* ---- timer (11.5.4) ---- */

static uint64_t timer_divide(const struct hv_lapic *a)
{
    uint32_t d = rd(a, APIC_DCR);
    unsigned code = (d & 3) | ((d >> 1) & 4);

    return code == 7 ? 1 : 2ull << code;
}

static uint32_t timer_mode(const struct hv_lapic *a)
{
    return rd(a, APIC_LVT_TIMER) & APIC_TIMER_MODE;
}

static void timer_set(struct hv_vp *vp, uint64_t deadline_ns)
{
    if (hv_lapic_deadline_ns(&vp->lapic) == deadline_ns)
        return;
    atomic_store(&vp->lapic.timer_deadline_ns, deadline_ns);
    if (deadline_ns != UINT64_MAX)
        hv_timers_update(vp);
}

/* The counting modes: next expiry after @now. */
static void timer_place(struct hv_vp *vp, uint64_t now)
{
    struct hv_lapic *a = &vp->lapic;
    uint64_t period = rd(a, APIC_TMICT) * timer_divide(a), past;

    if (!period || timer_mode(a) > APIC_TIMER_PERIODIC) {
        timer_set(vp, UINT64_MAX);
        return;
    }
    past = now - a->timer_start_ns;
    if (timer_mode(a) == APIC_TIMER_PERIODIC)
        timer_set(vp, a->timer_start_ns + (past / period + 1) * period);
    else
        timer_set(vp, past < period ? a->timer_start_ns + period : UINT64_MAX);
}

static uint32_t timer_count(const struct hv_vp *vp, uint64_t now)
{
    const struct hv_lapic *a = &vp->lapic;
    uint64_t div = timer_divide(a), period = rd(a, APIC_TMICT) * div,
             past = now - a->timer_start_ns;

    if (!period || timer_mode(a) > APIC_TIMER_PERIODIC)
        return 0;
    if (timer_mode(a) == APIC_TIMER_PERIODIC)
        past %= period;
    else if (past >= period)
        return 0;
    return (uint32_t)(rd(a, APIC_TMICT) - past / div);
}

static void timer_start(struct hv_vp *vp, uint32_t count)
{
    struct hv_lapic *a = &vp->lapic;

    if (timer_mode(a) > APIC_TIMER_PERIODIC)
        return; /* 11.5.4.1: ignored in TSC-deadline mode */
    wr(a, APIC_TMICT, count);
    a->timer_start_ns = hv_time_ns(vp->p);
    timer_place(vp, a->timer_start_ns);
}

static void deadline_place(struct hv_vp *vp)
{
    uint64_t now = hv_time_ns(vp->p);
    uint64_t tsc = hv_ns_to_tsc(now) + vp->cpu.tsc_offset + vp->cpu.tsc_adjust;
    uint64_t d = vp->lapic.tsc_deadline;

    if (!d || timer_mode(&vp->lapic) != APIC_TIMER_DEADLINE)
        timer_set(vp, UINT64_MAX);
    else if (d <= tsc)
        timer_set(vp, now);
    else if (d - tsc > 1ull << 62)
        timer_set(vp, UINT64_MAX - 1);
    else /* in terms of the unadjusted TSC, so that rounding never lets it expire early */
        timer_set(vp, hv_tsc_to_ns(hv_ns_to_tsc(now) + (d - tsc)));
}

void hv_lapic_timer_poll(struct hv_vp *vp, uint64_t now)
{
    struct hv_lapic *a = &vp->lapic;
    uint64_t d = hv_lapic_deadline_ns(a);

    if (d == UINT64_MAX)
        return;
    if (d > now) {
        /* Woken for an earlier value of it, or guest time was set back: announce it again. */
        atomic_store(&a->timer_told_ns, UINT64_MAX);
        hv_timers_update(vp);
        return;
    }
    if (timer_mode(a) == APIC_TIMER_DEADLINE) {
        a->tsc_deadline = 0;
        timer_set(vp, UINT64_MAX);
    } else {
        timer_place(vp, now);
    }
    lvt_deliver(vp, APIC_LVT_TIMER);
}

uint64_t hv_lapic_deadline_read(struct hv_vp *vp)
{
    if (timer_mode(&vp->lapic) != APIC_TIMER_DEADLINE)
        return 0;
    hv_lapic_timer_poll(vp, hv_time_ns(vp->p));
    return vp->lapic.tsc_deadline;
}

void hv_lapic_deadline_write(struct hv_vp *vp, uint64_t val)
{
    struct hv_lapic *a = &vp->lapic;

    if (timer_mode(a) != APIC_TIMER_DEADLINE)
        return;
    a->tsc_deadline = val;
    deadline_place(vp);
    if (hv_lapic_deadline_ns(a) != UINT64_MAX && hv_lapic_deadline_ns(a) <= hv_time_ns(vp->p))
        hv_lapic_timer_poll(vp, hv_time_ns(vp->p));
}

void hv_lapic_tsc_changed(struct hv_vp *vp)
{
    if (timer_mode(&vp->lapic) == APIC_TIMER_DEADLINE)
        deadline_place(vp);
}

static void lvt_timer_write(struct hv_vp *vp, uint32_t val)
{
    struct hv_lapic *a = &vp->lapic;
    uint64_t now = hv_time_ns(vp->p);
    uint32_t old;

    hv_lapic_timer_poll(vp, now);
    old = timer_mode(a);
    if ((val & APIC_TIMER_MODE) == APIC_TIMER_MODE) /* reserved: keep what was */
        val = (val & ~(uint32_t)APIC_TIMER_MODE) | old;
    wr(a, APIC_LVT_TIMER, val);
    if (timer_mode(a) == old)
        return;
    if (old == APIC_TIMER_DEADLINE || timer_mode(a) == APIC_TIMER_DEADLINE) {
        a->tsc_deadline = 0; /* 11.5.4.1: a change to or from this mode disarms */
        wr(a, APIC_TMICT, 0);
        timer_set(vp, UINT64_MAX);
    } else {
        timer_place(vp, now);
    }
}

static void divide_write(struct hv_vp *vp, uint32_t val)
{
    struct hv_lapic *a = &vp->lapic;
    uint64_t now = hv_time_ns(vp->p);
    uint32_t count;

    hv_lapic_timer_poll(vp, now);
    count = timer_count(vp, now);
    wr(a, APIC_DCR, val & 0xb);
    if (!count)
        return;
    a->timer_start_ns =
        now - (rd(a, APIC_TMICT) - count) * timer_divide(a); /* goes on from the same count */
    timer_place(vp, now);
}

/* ---- EOI ---- */

/* @return the vector that was in service, or -1. */
static int service_end(struct hv_vp *vp)
{
    struct hv_lapic *a = &vp->lapic;
    int vec = highest(a, APIC_ISR);

    if (vec < 0)
        return -1;
    bit_clear(a, APIC_ISR, (unsigned)vec);
    if (highest(a, APIC_IRR) >= 0)
        atomic_fetch_or_explicit(&vp->attention, HV_ATT_INTR, memory_order_relaxed);
    return vec;
}

static void eoi(struct hv_vp *vp)
{
    struct hv_lapic *a = &vp->lapic;
    int vec;

    if (vp->hyperv.lazy_eoi) /* the guest wrote what it need not have written; the offer ends with it */
        hv_lazy_eoi_withdraw(vp);
    vec = service_end(vp);
    if (vec < 0)
        return;
    if (!(rd(a, APIC_TMR + (unsigned)vec / 32) & (1u << (vec % 32))) ||
        (rd(a, APIC_SVR) & APIC_SVR_NO_EOI_BROADCAST))
        return;
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
    vp->p->ops.eoi(vp->p->ctx, vp->index, (unsigned)vec);
    x86_mmu_enter(vp);
}

void hv_lapic_eoi(struct hv_vp *vp)
{
    eoi(vp);
}

void hv_lapic_eoi_edge(struct hv_vp *vp)
{
    service_end(vp);
}

uint8_t hv_lapic_tpr_get(const struct hv_vp *vp)
{
    return (uint8_t)rd(&vp->lapic, APIC_TPR);
}

void hv_lapic_tpr_set(struct hv_vp *vp, uint8_t tpr)
{
    struct hv_lapic *a = &vp->lapic;
    bool lower = tpr < rd(a, APIC_TPR);

    wr(a, APIC_TPR, tpr);
    if (lower && highest(a, APIC_IRR) >= 0)
        atomic_fetch_or_explicit(&vp->attention, HV_ATT_INTR, memory_order_relaxed);
}

/* ---- interrupt command register (11.6.1) ---- */

static void icr_send(struct hv_vp *vp, uint32_t low, uint32_t dest)
{
    struct hv_partition *p = vp->p;
    unsigned delivery = (low >> 8) & 7, vector = low & 0xff, shorthand = (low >> 18) & 3;
    bool logical = low & (1u << 11), wide = x2_mode(&vp->lapic);
    bool level = low & (1u << 15), assert_bit = low & (1u << 14);

    switch (delivery) {
    case HV_FIXED:
    case HV_LOWEST:
        if (vector < 16) {
            error(vp, APIC_ESR_SEND_ILLEGAL);
            return;
        }
        break;
    case HV_NMI:
    case HV_SIPI: break;
    case HV_INIT:
        if (level && !assert_bit)
            return; /* INIT level de-assert: only old arbitration ids cared */
        break;
    default: /* SMI, reserved: nothing takes them */ return;
    }
    switch (shorthand) {
    case 0:
        deliver(p, wide ? dest : dest >> 24, logical, wide, delivery, vector, false, NULL);
        break;
    case 1: accept(vp, delivery, vector, false); break;
    default:
        /* Lowest priority with a broadcast shorthand is not valid on current processors: as fixed. */
        deliver(p, 0xffffffff, false, true, delivery == HV_LOWEST ? HV_FIXED : delivery, vector,
                false, shorthand == 3 ? vp : NULL);
        break;
    }
}

/* ---- registers ---- */

static bool lvt_valid_bits(unsigned n, uint32_t *ret)
{
    switch (n) {
    case APIC_LVT_TIMER: *ret = 0xff | APIC_LVT_MASKED | APIC_TIMER_MODE; return true;
    case APIC_LVT_THERMAL:
    case APIC_LVT_PMC: *ret = 0xff | APIC_LVT_MODE | APIC_LVT_MASKED; return true;
    case APIC_LVT_LINT0:
    case APIC_LVT_LINT1:
        *ret = 0xff | APIC_LVT_MODE | 1u << 13 | APIC_LVT_LEVEL | APIC_LVT_MASKED;
        return true;
    case APIC_LVT_ERROR: *ret = 0xff | APIC_LVT_MASKED; return true;
    default: return false;
    }
}

static bool reg_exists(unsigned n, bool x2)
{
    switch (n) {
    case APIC_ID:
    case APIC_VERSION:
    case APIC_TPR:
    case APIC_PPR:
    case APIC_EOI:
    case APIC_LDR:
    case APIC_SVR:
    case APIC_ESR:
    case APIC_ICR:
    case APIC_LVT_TIMER:
    case APIC_LVT_THERMAL:
    case APIC_LVT_PMC:
    case APIC_LVT_LINT0:
    case APIC_LVT_LINT1:
    case APIC_LVT_ERROR:
    case APIC_TMICT:
    case APIC_TMCCT:
    case APIC_DCR: return true;
    case APIC_APR:
    case APIC_RRD:
    case APIC_DFR:
    case APIC_ICR_HI: return !x2;
    case APIC_SELF_IPI: return x2;
    default: return n >= APIC_ISR && n < APIC_IRR + 8;
    }
}

static uint32_t reg_read(struct hv_vp *vp, unsigned n)
{
    struct hv_lapic *a = &vp->lapic;

    if (vp->hyperv.lazy_eoi) /* what is in service depends on it */
        hv_lazy_eoi_check(vp);
    switch (n) {
    case APIC_ID: return x2_mode(a) ? vp->index : vp->index << 24;
    case APIC_VERSION: return APIC_VERSION_VALUE;
    case APIC_APR: return apr_of(a);
    case APIC_PPR: return ppr_of(a);
    case APIC_TMCCT: {
        uint64_t now = hv_time_ns(vp->p);

        hv_lapic_timer_poll(vp, now);
        return timer_count(vp, now);
    }
    case APIC_EOI:
    case APIC_RRD: return 0;
    default: return rd(a, n);
    }
}

/* Values are already free of what only x2APIC mode refuses. */
static void reg_write(struct hv_vp *vp, unsigned n, uint32_t val)
{
    struct hv_lapic *a = &vp->lapic;
    uint32_t bits;

    switch (n) {
    case APIC_TPR: hv_lapic_tpr_set(vp, (uint8_t)val); break;
    case APIC_EOI: eoi(vp); break;
    case APIC_LDR: wr(a, APIC_LDR, val & 0xff000000); break;
    case APIC_DFR: wr(a, APIC_DFR, val | 0x0fffffff); break;
    case APIC_SVR:
        wr(a, APIC_SVR, val & APIC_SVR_VALID);
        if (!(val & APIC_SVR_ENABLE)) /* 11.4.7.2: all LVT entries are masked */
            for (n = APIC_LVT_TIMER; n <= APIC_LVT_ERROR; n++)
                wr(a, n, rd(a, n) | APIC_LVT_MASKED);
        break;
    case APIC_ESR: wr(a, APIC_ESR, atomic_exchange(&a->esr_pending, 0)); break;
    case APIC_ICR:
        wr(a, APIC_ICR, val & 0xccfff);
        icr_send(vp, val, rd(a, APIC_ICR_HI));
        break;
    case APIC_ICR_HI: wr(a, APIC_ICR_HI, val & 0xff000000); break;
    case APIC_TMICT:
        hv_lapic_timer_poll(vp, hv_time_ns(vp->p));
        timer_start(vp, val);
        break;
    case APIC_DCR: divide_write(vp, val); break;
    case APIC_SELF_IPI: icr_send(vp, 1u << 18 | (val & 0xff), 0); break;
    default:
        if (!lvt_valid_bits(n, &bits))
            break; /* read-only */
        val &= bits;
        if (!(rd(a, APIC_SVR) & APIC_SVR_ENABLE))
            val |= APIC_LVT_MASKED;
        if (n == APIC_LVT_TIMER) {
            lvt_timer_write(vp, val);
        } else {
            wr(a, n, val);
            if (n == APIC_LVT_LINT0 && atomic_load(&vp->p->extint))
                atomic_fetch_or_explicit(&vp->attention, HV_ATT_INTR, memory_order_relaxed);
        }
        break;
    }
}

/* ---- xAPIC page (11.4.1): aligned 32-bit accesses; reads of parts of a register work, too ---- */

uint64_t hv_lapic_mmio_read(struct hv_vp *vp, unsigned off, unsigned len)
{
    uint64_t val;

    if ((off & 0xf) + len > 4 && len <= 4)
        return 0;
    if ((off & 0xf) >= 4)
        return 0;
    if (!reg_exists(off >> 4, false)) {
        error(vp, APIC_ESR_ILLEGAL_REG);
        return 0;
    }
    val = (uint64_t)reg_read(vp, off >> 4) >> ((off & 3) * 8);
    return len >= 4 ? val : val & ((1ull << (len * 8)) - 1);
}

void hv_lapic_mmio_write(struct hv_vp *vp, unsigned off, unsigned len, uint64_t val)
{
    if ((off & 0xf) || len < 4)
        return;
    if (!reg_exists(off >> 4, false)) {
        error(vp, APIC_ESR_ILLEGAL_REG);
        return;
    }
    reg_write(vp, off >> 4, (uint32_t)val);
}

/* ---- x2APIC MSRs (11.12.1.2) ---- */

int hv_lapic_msr_read(struct hv_vp *vp, uint32_t msr, uint64_t *val)
{
    unsigned n = msr - 0x800;

    if (!x2_mode(&vp->lapic) || n >= APIC_NREGS || !reg_exists(n, true) || n == APIC_EOI ||
        n == APIC_SELF_IPI)
        return -1;
    *val = reg_read(vp, n);
    if (n == APIC_ICR)
        *val |= (uint64_t)rd(&vp->lapic, APIC_ICR_HI) << 32;
    return 0;
}

int hv_lapic_msr_write(struct hv_vp *vp, uint32_t msr, uint64_t val)
{
    struct hv_lapic *a = &vp->lapic;
    unsigned n = msr - 0x800;
    uint64_t allowed;
    uint32_t bits;

    if (!x2_mode(a) || n >= APIC_NREGS || !reg_exists(n, true))
        return -1;
    switch (n) {
    case APIC_TPR:
    case APIC_SELF_IPI: allowed = 0xff; break;
    case APIC_SVR: allowed = APIC_SVR_VALID; break;
    case APIC_EOI:
    case APIC_ESR: allowed = 0; break;
    case APIC_TMICT: allowed = 0xffffffff; break;
    case APIC_DCR: allowed = 0xb; break;
    case APIC_ICR:
        /* 31:20, 17:16 and 13 are reserved; 12 was the delivery status and is ignored. */
        if (val & 0xfff32000)
            return -1;
        wr(a, APIC_ICR_HI, (uint32_t)(val >> 32));
        wr(a, APIC_ICR, (uint32_t)val & 0xccfff & ~(1u << 12));
        icr_send(vp, (uint32_t)val, (uint32_t)(val >> 32));
        return 0;
    default:
        if (!lvt_valid_bits(n, &bits))
            return -1;             /* read-only */
        allowed = bits | 1u << 12; /* the read-only delivery status may be written back */
        if (n == APIC_LVT_LINT0 || n == APIC_LVT_LINT1)
            allowed |= 1u << 14;
        break;
    }
    if (val & ~allowed)
        return -1;
    reg_write(vp, n, (uint32_t)val);
    return 0;
}

int hv_lapic_icr_read(struct hv_vp *vp, uint64_t *val)
{
    if (!hw_enabled(&vp->lapic))
        return -1;
    *val = (uint64_t)rd(&vp->lapic, APIC_ICR_HI) << 32 | rd(&vp->lapic, APIC_ICR);
    return 0;
}

int hv_lapic_icr_write(struct hv_vp *vp, uint64_t val)
{
    if (!hw_enabled(&vp->lapic))
        return -1;
    wr(&vp->lapic, APIC_ICR_HI, (uint32_t)(val >> 32));
    wr(&vp->lapic, APIC_ICR, (uint32_t)val & 0xccfff & ~(1u << 12));
    icr_send(vp, (uint32_t)val, (uint32_t)(val >> 32));
    return 0;
}

/* ---- modes (11.12.5) ---- */

static void x2_identity(struct hv_vp *vp)
{
    wr(&vp->lapic, APIC_LDR, (vp->index >> 4) << 16 | 1u << (vp->index & 15)); /* 11.12.10.2 */
}

int hv_lapic_base_write(struct hv_vp *vp, uint64_t val)
{
    struct hv_lapic *a = &vp->lapic;
    uint64_t old = base_of(a);
    uint64_t allowed = (((1ull << hv_maxphyaddr(vp->p)) - 1) & ~0xfffull) | APIC_BASE_BSP |
                       APIC_BASE_X2 | APIC_BASE_EN;
    unsigned from = (old >> 10) & 3, to = (val >> 10) & 3; /* bit 0 EXTD, bit 1 EN */

    if ((val & ~allowed) || to == 1 || (from == 3 && to == 2) || (from == 0 && to == 3))
        return -1;
    atomic_store(&a->base, val);
    if (to == from)
        return 0;
    if (to == 0) /* its state is lost; when enabled again it is as after a reset */
        hv_lapic_reset(vp, true);
    if (to == 3) {
        x2_identity(vp);
        wr(a, APIC_ICR_HI, 0);
    }
    return 0;
}

void hv_lapic_reset(struct hv_vp *vp, bool init)
{
    struct hv_lapic *a = &vp->lapic;

    if (!init) {
        atomic_store(&a->base,
                     APIC_DEFAULT_BASE | APIC_BASE_EN | (vp->index == 0 ? APIC_BASE_BSP : 0));
        atomic_store(&a->init_pending, 0);
        atomic_store(&a->sipi_pending, 0);
        atomic_store(&a->nmi_pending, 0);
    }
    atomic_store(&a->extint_pending, 0);
    atomic_store(&a->esr_pending, 0);
    for (unsigned i = 0; i < APIC_NREGS; i++)
        wr(a, i, 0);
    wr(a, APIC_DFR, 0xffffffff);
    wr(a, APIC_SVR, 0xff);
    for (unsigned i = APIC_LVT_TIMER; i <= APIC_LVT_ERROR; i++)
        wr(a, i, APIC_LVT_MASKED);
    if (vp->index == 0) {
        /* Virtual wire, as firmware leaves it (MP specification 3.6.2.2): a guest that never touches the
         * local APIC has the 8259 pair on LINT0 and NMI on LINT1. */
        wr(a, APIC_LVT_LINT0, (uint32_t)HV_EXTINT << 8);
        wr(a, APIC_LVT_LINT1, (uint32_t)HV_NMI << 8);
    }
    if (x2_mode(a))
        x2_identity(vp);
    a->tsc_deadline = 0;
    a->timer_start_ns = 0;
    atomic_store(&a->timer_told_ns, UINT64_MAX);
    atomic_store(&a->timer_deadline_ns, UINT64_MAX);
}

/* ---- saved form ---- */

static const uint8_t saved_regs[] = { APIC_TPR,       APIC_LDR,       APIC_DFR,
                                      APIC_SVR,       APIC_ESR,       APIC_ICR,
                                      APIC_ICR_HI,    APIC_LVT_TIMER, APIC_LVT_THERMAL,
                                      APIC_LVT_PMC,   APIC_LVT_LINT0, APIC_LVT_LINT1,
                                      APIC_LVT_ERROR, APIC_TMICT,     APIC_DCR };

static void page_put(uint8_t page[4096], unsigned n, uint32_t val)
{
    memcpy(page + n * 16, &val, 4);
}

static uint32_t page_get(const uint8_t page[4096], unsigned n)
{
    uint32_t val;

    memcpy(&val, page + n * 16, 4);
    return val;
}

/* What has no place in the page travels in its unused words at 0xff0 (SDM table 11-1 leaves them free). */
enum { PAGE_PENDING = 0xff0, PAGE_ESR_PENDING = 0xff4 };

void hv_lapic_save(struct hv_vp *vp, uint8_t page[4096])
{
    struct hv_lapic *a = &vp->lapic;
    uint32_t pending, esr;

    hv_lapic_timer_poll(
        vp, hv_time_ns(vp->p)); /* an expiry that nobody noticed yet becomes a request */
    memset(page, 0, 4096);
    page_put(page, APIC_ID, reg_read(vp, APIC_ID));
    page_put(page, APIC_VERSION, APIC_VERSION_VALUE);
    page_put(page, APIC_PPR, ppr_of(a));
    page_put(page, APIC_TMCCT, timer_count(vp, hv_time_ns(vp->p)));
    for (unsigned i = 0; i < COUNT(saved_regs); i++)
        page_put(page, saved_regs[i], rd(a, saved_regs[i]));
    for (unsigned i = APIC_ISR; i < APIC_IRR + 8; i++)
        page_put(page, i, rd(a, i));
    pending = atomic_load(&a->init_pending) | (uint32_t)atomic_load(&a->sipi_pending) << 1 |
              (uint32_t)atomic_load(&a->extint_pending) << 2 |
              (uint32_t)atomic_load(&a->sipi_vector) << 8;
    esr = atomic_load(&a->esr_pending);
    memcpy(page + PAGE_PENDING, &pending, 4);
    memcpy(page + PAGE_ESR_PENDING, &esr, 4);
}

void hv_lapic_trim(uint8_t page[4096])
{
    uint32_t bits;

    page_put(page, APIC_TPR, page_get(page, APIC_TPR) & 0xff);
    page_put(page, APIC_SVR, page_get(page, APIC_SVR) & APIC_SVR_VALID);
    page_put(page, APIC_DCR, page_get(page, APIC_DCR) & 0xb);
    for (unsigned n = APIC_LVT_TIMER; n <= APIC_LVT_ERROR; n++)
        if (lvt_valid_bits(n, &bits))
            page_put(page, n, page_get(page, n) & bits);
    if ((page_get(page, APIC_LVT_TIMER) & APIC_TIMER_MODE) == APIC_TIMER_MODE) /* reserved: no timer runs */
        page_put(page, APIC_LVT_TIMER, page_get(page, APIC_LVT_TIMER) & ~(uint32_t)APIC_TIMER_PERIODIC);
    for (unsigned n = APIC_ISR; n < APIC_IRR + 8; n += 8)
        page_put(page, n, page_get(page, n) & ~0xffffu);
}

const char *hv_lapic_check(const struct hv_vp *vp, const uint8_t page[4096], uint64_t base)
{
    uint64_t allowed = (((1ull << hv_maxphyaddr(vp->p)) - 1) & ~0xfffull) | APIC_BASE_BSP |
                       APIC_BASE_X2 | APIC_BASE_EN;
    uint32_t bits;

    if ((base & ~allowed) || (base & (APIC_BASE_X2 | APIC_BASE_EN)) == APIC_BASE_X2)
        return "local APIC base";
    if (page_get(page, APIC_TPR) > 0xff || (page_get(page, APIC_SVR) & ~(uint32_t)APIC_SVR_VALID) ||
        (page_get(page, APIC_DCR) & ~0xbu))
        return "local APIC register";
    for (unsigned n = APIC_LVT_TIMER; n <= APIC_LVT_ERROR; n++)
        if (lvt_valid_bits(n, &bits) && (page_get(page, n) & ~bits))
            return "local vector table";
    if ((page_get(page, APIC_LVT_TIMER) & APIC_TIMER_MODE) == APIC_TIMER_MODE)
        return "local APIC timer mode";
    for (unsigned n = APIC_ISR; n < APIC_IRR + 8; n += 8)
        if (page_get(page, n) & 0xffff)
            return "local APIC request below vector 16";
    return NULL;
}

void hv_lapic_load(struct hv_vp *vp, const uint8_t page[4096], uint64_t base, uint64_t tsc_deadline,
                   uint64_t timer_start_ns)
{
    struct hv_lapic *a = &vp->lapic;
    uint32_t pending, esr;

    hv_lapic_reset(vp, false);
    atomic_store(&a->base, base);
    for (unsigned i = 0; i < COUNT(saved_regs); i++)
        wr(a, saved_regs[i], page_get(page, saved_regs[i]));
    for (unsigned i = APIC_ISR; i < APIC_IRR + 8; i++)
        wr(a, i, page_get(page, i));
    wr(a, APIC_DFR, rd(a, APIC_DFR) | 0x0fffffff);
    if (x2_mode(a))
        x2_identity(vp);
    memcpy(&pending, page + PAGE_PENDING, 4);
    memcpy(&esr, page + PAGE_ESR_PENDING, 4);
    atomic_store(&a->init_pending, pending & 1);
    atomic_store(&a->sipi_pending, (pending >> 1) & 1);
    atomic_store(&a->extint_pending, (pending >> 2) & 1);
    atomic_store(&a->sipi_vector, (uint8_t)(pending >> 8));
    atomic_store(&a->esr_pending, esr & 0xff);
    a->tsc_deadline = tsc_deadline;
    a->timer_start_ns = timer_start_ns;
    if (timer_mode(a) == APIC_TIMER_DEADLINE) {
        deadline_place(vp);
    } else {
        uint64_t now = hv_time_ns(vp->p);

        if (timer_start_ns > now)
            a->timer_start_ns = now;
        timer_place(vp, now);
    }
}
