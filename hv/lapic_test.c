/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the local APIC: priorities, destinations, timer modes on a clock that the test steps. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "hv/infra.h"

enum { NVPS = 4 };

static struct hv_partition *p;
static _Atomic uint64_t fake_ns;
static unsigned eois[256], last_eoi_vp;

static uint64_t fake_clock(void)
{
    return fake_ns;
}

static void on_eoi(void *ctx, unsigned vp, unsigned vector)
{
    (void)ctx;
    eois[vector]++;
    last_eoi_vp = vp;
}

static int setup(void **state)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .eoi = on_eoi };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "interp", .vps = NVPS, .ops = &ops };

    (void)state;
    memset(eois, 0, sizeof(eois));
    fake_ns = 1000000;
    if (hv_partition_create(&cfg, &p))
        return -1;
    p->clock->host_ns = fake_clock;
    hv_time_pause(p, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hv_partition_destroy(p);
    return 0;
}

static uint32_t get(unsigned vp, unsigned reg)
{
    return (uint32_t)hv_lapic_mmio_read(p->vps[vp], reg << 4, 4);
}

static void set(unsigned vp, unsigned reg, uint32_t val)
{
    hv_lapic_mmio_write(p->vps[vp], reg << 4, 4, val);
}

static bool requested(unsigned vp, unsigned vector)
{
    return atomic_load(&p->vps[vp]->lapic.reg[APIC_IRR + vector / 32]) & (1u << (vector % 32));
}

/* Which VPs have @vector requested, as a bit mask; forgets them. */
static unsigned takers(unsigned vector)
{
    unsigned mask = 0;

    for (unsigned i = 0; i < NVPS; i++) {
        if (requested(i, vector))
            mask |= 1u << i;
        atomic_fetch_and(&p->vps[i]->lapic.reg[APIC_IRR + vector / 32], ~(1u << (vector % 32)));
    }
    return mask;
}

static void enable_all(void)
{
    for (unsigned i = 0; i < NVPS; i++)
        set(i, APIC_SVR, 0x1ff);
}

static void x2apic_all(void)
{
    for (unsigned i = 0; i < NVPS; i++) {
        struct hv_vp *vp = p->vps[i];

        assert_int_equal(hv_lapic_base_write(vp, atomic_load(&vp->lapic.base) | APIC_BASE_X2), 0);
        assert_int_equal(hv_lapic_msr_write(vp, 0x80f, 0x1ff), 0);
    }
}

static void reset_values(void **state)
{
    (void)state;
    for (unsigned i = 0; i < NVPS; i++) {
        assert_int_equal(get(i, APIC_ID), i << 24);
        assert_int_equal(get(i, APIC_VERSION), 0x00050014);
        assert_int_equal(get(i, APIC_TPR), 0);
        assert_int_equal(get(i, APIC_SVR), 0xff);
        assert_int_equal(get(i, APIC_DFR), 0xffffffff);
        assert_int_equal(get(i, APIC_LVT_TIMER), 0x10000);
        assert_int_equal(get(i, APIC_LVT_LINT0), i == 0 ? 0x700 : 0x10000);
        assert_int_equal(get(i, APIC_TMICT), 0);
        assert_int_equal(atomic_load(&p->vps[i]->lapic.base), 0xfee00800 | (i == 0 ? 0x100 : 0));
    }
}

static void register_masks(void **state)
{
    static const struct {
        unsigned reg;
        uint32_t val;
    } rows[] = {
        { APIC_TPR, 0xff },
        { APIC_LDR, 0xff000000 },
        { APIC_DFR, 0xffffffff },
        { APIC_SVR, 0x13ff },
        { APIC_LVT_THERMAL, 0x107ff },
        { APIC_LVT_PMC, 0x107ff },
        { APIC_LVT_LINT0, 0x1a7ff },
        { APIC_LVT_LINT1, 0x1a7ff },
        { APIC_LVT_ERROR, 0x100ff },
        { APIC_DCR, 0xb },
        { APIC_ICR_HI, 0xff000000 },
        { APIC_ID, 0 },
        { APIC_VERSION, 0x50014 },
        { APIC_PPR, 0xf0 },
    };

    (void)state;
    enable_all();
    for (size_t i = 0; i < COUNT(rows); i++) {
        set(0, rows[i].reg, 0xffffffff);
        if (rows[i].reg == APIC_PPR)
            assert_int_equal(get(0, APIC_PPR) & 0xf0, 0xf0); /* TPR was set above */
        else
            assert_int_equal(get(0, rows[i].reg), rows[i].val);
    }
}

static void software_disable_masks(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_LVT_ERROR, 0x30);
    assert_int_equal(get(0, APIC_LVT_ERROR), 0x30);
    set(0, APIC_SVR, 0xff);
    assert_int_equal(get(0, APIC_LVT_ERROR), 0x10030);
    set(0, APIC_LVT_ERROR, 0x30);
    assert_int_equal(get(0, APIC_LVT_ERROR), 0x10030);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 0x40 });
    assert_int_equal(takers(0x40), 0);
}

static void odd_accesses(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_TPR, 0x5a);
    assert_int_equal(hv_lapic_mmio_read(p->vps[0], 0x80, 1), 0x5a);
    assert_int_equal(hv_lapic_mmio_read(p->vps[0], 0x81, 1), 0);
    assert_int_equal(hv_lapic_mmio_read(p->vps[0], 0x84, 4), 0);
    assert_int_equal(hv_lapic_mmio_read(p->vps[0], 0x80, 8), 0x5a);
    hv_lapic_mmio_write(p->vps[0], 0x80, 1, 0x11); /* only 32-bit stores count */
    hv_lapic_mmio_write(p->vps[0], 0x84, 4, 0x11);
    assert_int_equal(get(0, APIC_TPR), 0x5a);
    for (unsigned off = 0; off < 4096; off++)
        for (unsigned len = 1; len <= 8; len *= 2)
            hv_lapic_mmio_read(p->vps[1], off, len);
}

static void priorities(void **state)
{
    struct hv_vp *vp = p->vps[0];

    (void)state;
    enable_all();
    for (unsigned v = 0x31; v <= 0x71; v += 0x20)
        hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = (uint8_t)v });
    assert_int_equal(hv_lapic_pending(vp), 0x71);
    set(0, APIC_TPR, 0x70);
    assert_int_equal(hv_lapic_pending(vp), -1);
    set(0, APIC_TPR, 0x6f);
    assert_int_equal(hv_lapic_ack(vp), 0x71);
    assert_int_equal(get(0, APIC_PPR), 0x70);
    assert_int_equal(hv_lapic_ack(vp), -1);
    set(0, APIC_EOI, 0);
    assert_int_equal(get(0, APIC_PPR), 0x6f);
    set(0, APIC_TPR, 0);
    assert_int_equal(hv_lapic_ack(vp), 0x51);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 0x91 });
    assert_int_equal(hv_lapic_ack(vp), 0x91); /* nests */
    assert_int_equal(hv_lapic_ack(vp), -1);
    set(0, APIC_EOI, 0);
    assert_int_equal(get(0, APIC_PPR), 0x50);
    set(0, APIC_EOI, 0);
    assert_int_equal(hv_lapic_ack(vp), 0x31);
    set(0, APIC_EOI, 0);
    set(0, APIC_EOI, 0); /* one too many does nothing */
    assert_int_equal(hv_lapic_pending(vp), -1);
}

static void level_eoi(void **state)
{
    (void)state;
    enable_all();
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 1, .vector = 0x55, .level = 1 });
    assert_int_equal(hv_lapic_ack(p->vps[1]), 0x55);
    assert_int_equal(get(1, APIC_TMR + 2), 1u << 0x15);
    set(1, APIC_EOI, 0);
    assert_int_equal(eois[0x55], 1);
    assert_int_equal(last_eoi_vp, 1);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 1, .vector = 0x55 });
    assert_int_equal(hv_lapic_ack(p->vps[1]), 0x55);
    set(1, APIC_EOI, 0);
    assert_int_equal(eois[0x55], 1); /* edge */
}

/* What a guest sets that was begun under KVM, whose version register offers it: it writes to the I/O APIC itself. */
static void directed_eoi(void **state)
{
    static struct hv_vp_state s;
    struct hv_vp *vp = p->vps[1];

    (void)state;
    enable_all();
    set(1, APIC_SVR, 0x11ff);
    for (unsigned x2 = 0; x2 < 2; x2++) {
        if (x2) {
            x2apic_all();
            assert_int_equal(hv_lapic_msr_write(vp, 0x80f, 0x11ff), 0);
        }
        assert_int_equal(hv_vp_get_state(p, 1, &s), 0);
        assert_int_equal(hv_vp_set_state(p, 1, &s), 0);
        hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 1, .vector = 0x55, .level = 1 });
        assert_int_equal(hv_lapic_ack(vp), 0x55);
        hv_lapic_eoi(vp);
        assert_int_equal(hv_lapic_pending(vp), -1);
        assert_int_equal(eois[0x55], 0);
    }
}

static void physical_and_shorthands(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_ICR_HI, 2u << 24);
    set(0, APIC_ICR, 0x41);
    assert_int_equal(takers(0x41), 1 << 2);
    set(0, APIC_ICR_HI, 0xffu << 24);
    set(0, APIC_ICR, 0x42);
    assert_int_equal(takers(0x42), 0xf);
    set(1, APIC_ICR, 1u << 18 | 0x43);
    assert_int_equal(takers(0x43), 1 << 1);
    set(1, APIC_ICR, 2u << 18 | 0x44);
    assert_int_equal(takers(0x44), 0xf);
    set(1, APIC_ICR, 3u << 18 | 0x45);
    assert_int_equal(takers(0x45), 0xd);
    set(0, APIC_ICR_HI, 9u << 24);
    set(0, APIC_ICR, 0x46);
    assert_int_equal(takers(0x46), 0);
    assert_int_equal(get(0, APIC_ICR), 0x46);
    assert_int_equal(hv_msi(p, 0xfee03000, 0x47), 1);
    assert_int_equal(takers(0x47), 1 << 3);
    assert_int_equal(hv_msi(p, 0xfed03000, 0x47), 0);
}

static void logical_flat(void **state)
{
    (void)state;
    enable_all();
    for (unsigned i = 0; i < NVPS; i++)
        set(i, APIC_LDR, 1u << (24 + i));
    set(0, APIC_ICR_HI, 0x0au << 24);
    set(0, APIC_ICR, 1u << 11 | 0x51);
    assert_int_equal(takers(0x51), 0xa);
    hv_msi(p, 0xfee0500c, 0x52); /* RH, DM: to the set 5 */
    assert_int_equal(takers(0x52), 5);
}

static void logical_cluster(void **state)
{
    static const uint8_t ids[NVPS] = { 0x11, 0x12, 0x21, 0x22 };

    (void)state;
    enable_all();
    for (unsigned i = 0; i < NVPS; i++) {
        set(i, APIC_DFR, 0x0fffffff);
        set(i, APIC_LDR, (uint32_t)ids[i] << 24);
    }
    set(0, APIC_ICR_HI, 0x13u << 24);
    set(0, APIC_ICR, 1u << 11 | 0x51);
    assert_int_equal(takers(0x51), 3);
    set(0, APIC_ICR_HI, 0x22u << 24);
    set(0, APIC_ICR, 1u << 11 | 0x52);
    assert_int_equal(takers(0x52), 8);
    set(0, APIC_ICR_HI, 0xf1u << 24); /* member 0 of all clusters */
    set(0, APIC_ICR, 1u << 11 | 0x53);
    assert_int_equal(takers(0x53), 5);
}

static void lowest_priority(void **state)
{
    (void)state;
    enable_all();
    for (unsigned i = 0; i < NVPS; i++) {
        set(i, APIC_LDR, 1u << (24 + i));
        set(i, APIC_TPR, i == 2 ? 0x10 : 0x40);
    }
    for (unsigned i = 0; i < 4; i++) {
        hv_interrupt_request(
            p, &(struct hv_interrupt){
                   .dest = 0xf, .logical = 1, .delivery = HV_LOWEST, .vector = 0x61 });
        assert_int_equal(takers(0x61), 1 << 2);
    }
    set(2, APIC_TPR, 0x40); /* all alike: they take turns */
    unsigned all = 0;
    for (unsigned i = 0; i < NVPS; i++) {
        hv_interrupt_request(
            p, &(struct hv_interrupt){
                   .dest = 0xf, .logical = 1, .delivery = HV_LOWEST, .vector = 0x62 });
        all |= takers(0x62);
    }
    assert_int_equal(all, 0xf);
}

static void init_sipi_nmi(void **state)
{
    struct hv_lapic *a = &p->vps[1]->lapic;

    (void)state;
    enable_all();
    set(0, APIC_ICR_HI, 1u << 24);
    set(0, APIC_ICR, 0xc500); /* INIT, level, assert */
    assert_int_equal(atomic_load(&a->init_pending), 1);
    atomic_store(&a->init_pending, 0);
    set(0, APIC_ICR, 0x8500); /* de-assert: nothing */
    assert_int_equal(atomic_load(&a->init_pending), 0);
    set(0, APIC_ICR, 0x4699);
    assert_int_equal(atomic_load(&a->sipi_pending), 1);
    assert_int_equal(atomic_load(&a->sipi_vector), 0x99);
    set(0, APIC_ICR, 0x4400);
    assert_int_equal(atomic_load(&a->nmi_pending), 1);
    hv_nmi(p);
    assert_int_equal(atomic_load(&p->vps[0]->lapic.nmi_pending), 1); /* LINT1 of VP 0 */
}

static void init_resets(void **state)
{
    struct hv_vp *vp = p->vps[0];

    (void)state;
    enable_all();
    set(0, APIC_TPR, 0x20);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 0x40 });
    vp->cpu.pat = 0x0606060606060606;
    vp->cpu.cr0 = CR0_PE | CR0_ET;
    hv_vp_reset(vp, true);
    assert_int_equal(get(0, APIC_SVR), 0xff);
    assert_int_equal(get(0, APIC_TPR), 0);
    assert_false(requested(0, 0x40));
    assert_true(vp->cpu.pat == 0x0606060606060606);
    assert_int_equal(vp->cpu.cr0, CR0_ET);
    assert_int_equal(vp->cpu.rip, 0xfff0);
    assert_int_equal(vp->cpu.gpr[X86_RDX], HV_CPU_SIGNATURE);
}

static void errors(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_LVT_ERROR, 0x3e);
    set(0, APIC_ICR, 0x0f); /* vector below 16 */
    assert_true(requested(0, 0x3e));
    assert_int_equal(get(0, APIC_ESR), 0);
    set(0, APIC_ESR, 0);
    assert_int_equal(get(0, APIC_ESR), APIC_ESR_SEND_ILLEGAL);
    set(0, APIC_ESR, 0);
    assert_int_equal(get(0, APIC_ESR), 0);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 3 });
    set(0, APIC_ESR, 0);
    assert_int_equal(get(0, APIC_ESR), APIC_ESR_RECV_ILLEGAL);
    get(0, 0x01);
    set(0, APIC_ESR, 0);
    assert_int_equal(get(0, APIC_ESR), APIC_ESR_ILLEGAL_REG);
}

static void extint(void **state)
{
    struct hv_vp *vp = p->vps[0];

    (void)state;
    assert_true(hv_lapic_takes_extint(vp)); /* as after power-on */
    enable_all();
    set(0, APIC_LVT_LINT0, 0x10700);
    assert_false(hv_lapic_takes_extint(vp));
    set(0, APIC_LVT_LINT0, 0x35); /* fixed */
    assert_false(hv_lapic_takes_extint(vp));
    hv_extint_set(p, true);
    assert_true(requested(0, 0x35));
    hv_extint_set(p, false);
    assert_int_equal(hv_lapic_base_write(vp, 0xfee00100), 0);
    assert_true(hv_lapic_takes_extint(vp));
}

/* ---- timer ---- */

static void step(uint64_t ns)
{
    fake_ns += ns;
    hv_lapic_timer_poll(p->vps[0], hv_time_ns(p));
}

static void timer_oneshot(void **state)
{
    static const struct {
        uint32_t dcr;
        unsigned div;
    } divs[] = {
        { 0, 2 }, { 1, 4 }, { 2, 8 }, { 3, 16 }, { 8, 32 }, { 9, 64 }, { 10, 128 }, { 11, 1 },
    };

    (void)state;
    enable_all();
    for (size_t i = 0; i < COUNT(divs); i++) {
        set(0, APIC_LVT_TIMER, 0x60);
        set(0, APIC_DCR, divs[i].dcr);
        set(0, APIC_TMICT, 1000);
        assert_int_equal(get(0, APIC_TMCCT), 1000);
        step(300ull * divs[i].div);
        assert_int_equal(get(0, APIC_TMCCT), 700);
        step(700ull * divs[i].div - 1);
        assert_int_equal(get(0, APIC_TMCCT), 1);
        assert_false(requested(0, 0x60));
        step(1);
        assert_int_equal(get(0, APIC_TMCCT), 0);
        assert_int_equal(takers(0x60), 1);
        step(5000);
        assert_int_equal(takers(0x60), 0);
        assert_int_equal(get(0, APIC_TMICT), 1000);
    }
    set(0, APIC_TMICT, 500);
    set(0, APIC_TMICT, 0); /* stops it */
    step(10000);
    assert_int_equal(takers(0x60), 0);
}

static void timer_periodic(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_DCR, 11);
    set(0, APIC_LVT_TIMER, APIC_TIMER_PERIODIC | 0x61);
    set(0, APIC_TMICT, 1000);
    for (unsigned i = 0; i < 5; i++) {
        step(999);
        assert_int_equal(takers(0x61), 0);
        assert_int_equal(get(0, APIC_TMCCT), 1);
        step(1);
        assert_int_equal(takers(0x61), 1);
        assert_int_equal(get(0, APIC_TMCCT), 1000);
    }
    step(2500); /* late: one request, then on the grid again */
    assert_int_equal(takers(0x61), 1);
    assert_int_equal(get(0, APIC_TMCCT), 500);
    step(500);
    assert_int_equal(takers(0x61), 1);
    set(0, APIC_LVT_TIMER, APIC_LVT_MASKED | APIC_TIMER_PERIODIC | 0x61);
    step(1000);
    assert_int_equal(takers(0x61), 0);
    assert_int_equal(get(0, APIC_TMCCT), 1000); /* counts on */
}

static void timer_divide_change(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_DCR, 11);
    set(0, APIC_LVT_TIMER, 0x62);
    set(0, APIC_TMICT, 1000);
    step(400);
    set(0, APIC_DCR, 0); /* by 2 from here */
    assert_int_equal(get(0, APIC_TMCCT), 600);
    step(600);
    assert_int_equal(get(0, APIC_TMCCT), 300);
    step(599);
    assert_int_equal(takers(0x62), 0);
    step(1);
    assert_int_equal(takers(0x62), 1);
}

static void timer_deadline(void **state)
{
    struct hv_vp *vp = p->vps[0];
    uint64_t now;

    (void)state;
    enable_all();
    hv_lapic_deadline_write(vp, 12345); /* not in this mode: ignored */
    assert_int_equal(hv_lapic_deadline_read(vp), 0);
    set(0, APIC_LVT_TIMER, APIC_TIMER_DEADLINE | 0x63);
    set(0, APIC_TMICT, 100); /* ignored */
    assert_int_equal(get(0, APIC_TMCCT), 0);
    now = hv_tsc_read(vp);
    hv_lapic_deadline_write(vp, now + 2501); /* just above 1000 ns */
    assert_int_equal(hv_lapic_deadline_read(vp), now + 2501);
    step(1000);
    assert_int_equal(takers(0x63), 0);
    step(1);
    assert_int_equal(takers(0x63), 1);
    assert_true(hv_tsc_read(vp) >= now + 2501);
    assert_int_equal(hv_lapic_deadline_read(vp), 0); /* disarmed itself */
    hv_lapic_deadline_write(vp, 1);                  /* in the past: at once */
    assert_int_equal(takers(0x63), 1);
    hv_lapic_deadline_write(vp, UINT64_MAX); /* never */
    step(1000000000);
    assert_int_equal(takers(0x63), 0);
    hv_lapic_deadline_write(vp, hv_tsc_read(vp) + 2500);
    assert_int_equal(hv_msr_write(vp, 0x3b, 2500), 0); /* TSC_ADJUST moves the TSC to it */
    step(0);
    assert_int_equal(takers(0x63), 1);
    hv_lapic_deadline_write(vp, hv_tsc_read(vp) + 2500);
    set(0, APIC_LVT_TIMER, 0x63); /* leaving the mode disarms */
    step(5000);
    assert_int_equal(takers(0x63), 0);
}

static void timer_pauses(void **state)
{
    (void)state;
    enable_all();
    set(0, APIC_DCR, 11);
    set(0, APIC_LVT_TIMER, 0x64);
    set(0, APIC_TMICT, 1000);
    step(600);
    hv_time_pause(p, true);
    step(100000);
    assert_int_equal(get(0, APIC_TMCCT), 400);
    hv_time_pause(p, false);
    step(399);
    assert_int_equal(takers(0x64), 0);
    step(1);
    assert_int_equal(takers(0x64), 1);
}

/* ---- x2APIC ---- */

static void x2apic_registers(void **state)
{
    struct hv_vp *vp = p->vps[3];
    uint64_t v;

    (void)state;
    assert_int_equal(hv_lapic_msr_read(vp, 0x802, &v), -1); /* not in this mode yet */
    x2apic_all();
    assert_int_equal(hv_lapic_msr_read(vp, 0x802, &v), 0);
    assert_int_equal(v, 3);
    assert_int_equal(hv_lapic_msr_read(vp, 0x80d, &v), 0);
    assert_int_equal(v, 1 << 3);
    for (unsigned msr = 0x800; msr < 0x900; msr++) { /* what does not exist raises #GP both ways */
        bool ro = msr == 0x802 || msr == 0x803 || msr == 0x80a || msr == 0x80d ||
                  (msr >= 0x810 && msr <= 0x827) || msr == 0x839;
        bool wo = msr == 0x80b || msr == 0x83f;
        bool rw = msr == 0x808 || msr == 0x80f || msr == 0x828 || msr == 0x830 ||
                  (msr >= 0x832 && msr <= 0x838) || msr == 0x83e;

        assert_int_equal(hv_lapic_msr_read(vp, msr, &v), ro || rw ? 0 : -1);
        if (msr != 0x830 && msr != 0x83f)
            assert_int_equal(hv_lapic_msr_write(vp, msr, 0), wo || rw ? 0 : -1);
        if (msr != 0x830)
            assert_int_equal(hv_lapic_msr_write(vp, msr, 1ull << 32), -1);
    }
    assert_int_equal(hv_lapic_msr_write(vp, 0x808, 0x100), -1);
    assert_int_equal(hv_lapic_msr_write(vp, 0x80b, 1), -1);
    assert_int_equal(hv_lapic_msr_write(vp, 0x828, 1), -1);
    assert_int_equal(hv_lapic_msr_write(vp, 0x830, 1u << 20), -1);
    assert_int_equal(hv_lapic_msr_write(vp, 0x832, 1u << 8), -1);
    assert_int_equal(hv_lapic_msr_write(vp, 0x83e, 4), -1);
}

static void x2apic_ipi(void **state)
{
    (void)state;
    x2apic_all();
    hv_lapic_msr_write(p->vps[0], 0x830, 2ull << 32 | 0x71);
    assert_int_equal(takers(0x71), 4);
    hv_lapic_msr_write(p->vps[0], 0x830, 0xffffffffull << 32 | 0x72);
    assert_int_equal(takers(0x72), 0xf);
    hv_lapic_msr_write(p->vps[0], 0x830,
                       0x0000000aull << 32 | 1u << 11 | 0x73); /* cluster 0, members 1 and 3 */
    assert_int_equal(takers(0x73), 0xa);
    hv_lapic_msr_write(p->vps[0], 0x830, 0x0001000aull << 32 | 1u << 11 | 0x74); /* cluster 1 */
    assert_int_equal(takers(0x74), 0);
    hv_lapic_msr_write(p->vps[2], 0x83f, 0x75);
    assert_int_equal(takers(0x75), 4);
    hv_msi(p, 0xfee0300c, 0x76); /* an 8-bit logical destination is cluster 0 */
    assert_int_equal(takers(0x76), 3);
    hv_msi(p, 0xfeeff000, 0x77);
    assert_int_equal(takers(0x77), 0xf);
}

static void base_transitions(void **state)
{
    static const uint64_t modes[4] = { 0, APIC_BASE_EN, APIC_BASE_EN | APIC_BASE_X2, APIC_BASE_X2 };
    static const int ok[3][4] = { { 1, 1, 0, 0 },
                                  { 1, 1, 1, 0 },
                                  { 1, 0, 1, 0 } }; /* figure 11-27 */
    struct hv_vp *vp = p->vps[1];

    (void)state;
    for (unsigned from = 0; from < 3; from++)
        for (unsigned to = 0; to < 4; to++) {
            hv_lapic_reset(vp, false);
            if (from == 0)
                assert_int_equal(hv_lapic_base_write(vp, APIC_DEFAULT_BASE), 0);
            if (from == 2)
                assert_int_equal(hv_lapic_base_write(vp, APIC_DEFAULT_BASE | modes[2]), 0);
            assert_int_equal(hv_lapic_base_write(vp, APIC_DEFAULT_BASE | modes[to]),
                             ok[from][to] ? 0 : -1);
        }
    hv_lapic_reset(vp, false);
    assert_int_equal(hv_lapic_base_write(vp, 1ull << 60 | APIC_BASE_EN), -1);
    assert_int_equal(hv_lapic_base_write(vp, APIC_DEFAULT_BASE | APIC_BASE_EN | 1), -1);
    uint32_t r[4];
    hv_cpuid(p, 1, 1, 0, r);
    assert_true(r[3] & (1u << 9));
    hv_lapic_base_write(vp, APIC_DEFAULT_BASE);
    hv_cpuid(p, 1, 1, 0, r);
    assert_false(r[3] & (1u << 9));
}

static void save_restore(void **state)
{
    static struct hv_vp_state a, b;

    (void)state;
    enable_all();
    set(0, APIC_TPR, 0x20);
    set(0, APIC_DCR, 11);
    set(0, APIC_LVT_TIMER, APIC_TIMER_PERIODIC | 0x61);
    set(0, APIC_TMICT, 5000);
    step(1200);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 0x99, .level = 1 });
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 0x49 });
    assert_int_equal(hv_lapic_ack(p->vps[0]), 0x99);
    assert_int_equal(hv_vp_get_state(p, 0, &a), 0);
    hv_partition_reset(p);
    assert_int_equal(hv_vp_set_state(p, 0, &a), 0);
    assert_int_equal(hv_vp_get_state(p, 0, &b), 0);
    assert_memory_equal(&a, &b, sizeof(a));
    assert_int_equal(get(0, APIC_TMCCT), 3800);
    step(3800);
    assert_true(requested(0, 0x61));
    assert_true(requested(0, 0x49));
    set(0, APIC_EOI, 0);
    assert_int_equal(eois[0x99], 1);

    b = a;
    b.apic[APIC_LVT_TIMER * 16 + 3] = 0x80;
    assert_int_equal(hv_vp_set_state(p, 0, &b), -22);
    b = a;
    b.apic[APIC_IRR * 16] = 1;
    assert_int_equal(hv_vp_set_state(p, 0, &b), -22);
    b = a;
    b.apic_base = APIC_DEFAULT_BASE | APIC_BASE_X2;
    assert_int_equal(hv_vp_set_state(p, 0, &b), -22);
}

/* Whatever another local APIC holds becomes a state that can be restored; the rest stays as it is. */
static void trimmed(void **state)
{
    static struct hv_vp_state s;
    static uint8_t page[4096];

    (void)state;
    enable_all();
    set(0, APIC_LVT_LINT0, 0x8000 | 0x44);
    set(0, APIC_LVT_TIMER, APIC_TIMER_PERIODIC | 0x61);
    hv_interrupt_request(p, &(struct hv_interrupt){ .dest = 0, .vector = 0x10 });
    assert_int_equal(hv_vp_get_state(p, 0, &s), 0);
    memcpy(page, s.apic, sizeof(page));
    hv_lapic_trim(page);
    assert_memory_equal(page, s.apic, sizeof(page));
    memset(page, 0xff, sizeof(page));
    assert_non_null(hv_lapic_check(p->vps[0], page, s.apic_base));
    hv_lapic_trim(page);
    assert_null(hv_lapic_check(p->vps[0], page, s.apic_base));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(reset_values),
        T(register_masks),
        T(software_disable_masks),
        T(odd_accesses),
        T(priorities),
        T(level_eoi),
        T(directed_eoi),
        T(physical_and_shorthands),
        T(logical_flat),
        T(logical_cluster),
        T(lowest_priority),
        T(init_sipi_nmi),
        T(init_resets),
        T(errors),
        T(extint),
        T(timer_oneshot),
        T(timer_periodic),
        T(timer_divide_change),
        T(timer_deadline),
        T(timer_pauses),
        T(x2apic_registers),
        T(x2apic_ipi),
        T(base_transitions),
        T(save_restore),
        T(trimmed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
