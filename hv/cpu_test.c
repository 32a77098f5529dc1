/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of what a processor says about itself: clock, CPUID, MSRs, register state. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hv/infra.h"

static struct hv_partition *p;
static struct hv_vp *vp;
static _Atomic uint64_t fake_ns;

static uint64_t fake_clock(void)
{
    return fake_ns;
}

static int setup(void **state)
{
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "interp", .vps = 3 };

    (void)state;
    if (hv_partition_create(&cfg, &p))
        return -1;
    vp = p->vps[0];
    fake_ns = 5000000000;
    p->clock->host_ns = fake_clock;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hv_partition_destroy(p);
    return 0;
}

/* ---- clock ---- */

static void clock_pauses(void **state)
{
    (void)state;
    assert_int_equal(hv_time_ns(p), 0);
    fake_ns += 1000;
    assert_int_equal(hv_time_ns(p), 0); /* a new partition is paused */
    assert_true(hv_time_to_host_ns(p, 10) == UINT64_MAX);
    hv_time_pause(p, false);
    assert_int_equal(hv_time_ns(p), 0);
    fake_ns += 1000;
    assert_int_equal(hv_time_ns(p), 1000);
    assert_true(hv_time_to_host_ns(p, 1500) == fake_ns + 500);
    assert_true(hv_time_to_host_ns(p, UINT64_MAX) == UINT64_MAX);
    hv_time_pause(p, true);
    hv_time_pause(p, true);
    fake_ns += 5000;
    assert_int_equal(hv_time_ns(p), 1000);
    hv_time_set_ns(p, 1000000);
    assert_int_equal(hv_time_ns(p), 1000000);
    hv_time_pause(p, false);
    fake_ns += 7;
    assert_int_equal(hv_time_ns(p), 1000007);
}

/* A state of a host that had run for longer than this one: the guest's time is more than the host's. */
static void clock_ahead(void **state)
{
    uint64_t ahead = fake_ns + 1000000000000000;

    (void)state;
    hv_time_set_ns(p, ahead);
    hv_time_pause(p, false);
    fake_ns += 20;
    assert_true(hv_time_ns(p) == ahead + 20);
    assert_true(hv_time_to_host_ns(p, ahead + 500) == fake_ns + 480);
    assert_true(hv_time_to_host_ns(p, ahead) == fake_ns - 20);
    assert_int_equal(hv_time_to_host_ns(p, 1), 0); /* before the host's time began */
    assert_true(hv_time_to_host_ns(p, UINT64_MAX) == UINT64_MAX);
    hv_time_set_ns(p, ahead + 1000);
    assert_true(hv_time_to_host_ns(p, ahead + 1000) == fake_ns);
    hv_time_set_ns(p, 10); /* and less again */
    assert_true(hv_time_to_host_ns(p, 30) == fake_ns + 20);
    assert_true(hv_time_to_host_ns(p, UINT64_MAX - 1) == UINT64_MAX);
}

static void tsc_ratio(void **state)
{
    (void)state;
    hv_time_pause(p, false);
    assert_true(hv_tsc_hz(p) == 2500000000ull);
    fake_ns += 1000000000;
    assert_true(hv_tsc_read(vp) == 2500000000ull);
    for (uint64_t t = 0; t < 100000; t++) { /* the inverse never comes early, nor a whole ns late */
        uint64_t ns = hv_tsc_to_ns(t);

        assert_true(hv_ns_to_tsc(ns) >= t);
        assert_true(ns == 0 || hv_ns_to_tsc(ns - 1) < t);
    }
    assert_true(hv_tsc_to_ns(1ull << 63) == (1ull << 63) / 5 * 2 + ((1ull << 63) % 5 * 2 + 4) / 5);
}

static void tsc_writes(void **state)
{
    uint64_t v;

    (void)state;
    hv_time_pause(p, false);
    fake_ns += 400;
    assert_int_equal(hv_msr_write(vp, 0x10, 1000000), 0);
    assert_int_equal(hv_msr_read(vp, 0x10, &v), 0);
    assert_int_equal(v, 1000000);
    assert_int_equal(hv_msr_read(vp, 0x3b, &v), 0);
    assert_int_equal(v, 1000000 - 1000); /* 18.17.3 */
    assert_int_equal(hv_msr_write(vp, 0x3b, 0), 0);
    assert_int_equal(hv_msr_read(vp, 0x10, &v), 0);
    assert_int_equal(v, 1000);
    assert_int_equal(hv_tsc_read(p->vps[1]), 1000); /* only this processor's changed */
}

/* ---- CPUID ---- */

static void cpuid_identity(void **state)
{
    uint32_t r[4];
    char text[49] = "";

    (void)state;
    hv_cpuid(p, 0, 0, 0, r);
    assert_true(r[0] >= 0x16 && r[0] <= 0x1f);
    assert_memory_equal(&r[1], "Genu", 4);
    assert_memory_equal(&r[3], "ineI", 4);
    assert_memory_equal(&r[2], "ntel", 4);
    hv_cpuid(p, 0, 1, 0, r);
    assert_int_equal(r[0], HV_CPU_SIGNATURE);
    assert_int_equal((r[0] >> 8) & 0xf, 6);
    assert_false(r[2] & (1u << 31)); /* no hypervisor bit yet */
    for (unsigned i = 0; i < 3; i++) {
        hv_cpuid(p, 0, 0x80000002 + i, 0, r);
        memcpy(text + i * 16, r, 16);
    }
    assert_non_null(strstr(text, "mobo"));
    hv_cpuid(p, 0, 0x40000000, 0, r);
    assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
    hv_cpuid(p, 9, 1, 0, r); /* no such processor */
    assert_int_equal(r[0] | r[1] | r[2] | r[3], 0);
}

static void cpuid_topology(void **state)
{
    uint32_t r[4];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        hv_cpuid(p, i, 1, 0, r);
        assert_int_equal(r[1] >> 24, i);
        assert_int_equal((r[1] >> 16) & 0xff, 4);
        assert_true(r[3] & (1u << 28));
        hv_cpuid(p, i, 0x0b, 0, r);
        assert_int_equal(r[2], 1u << 8);
        assert_int_equal(r[3], i);
        hv_cpuid(p, i, 0x0b, 1, r);
        assert_int_equal(r[0], 2);
        assert_int_equal(r[1], 3);
        assert_int_equal(r[2], 2u << 8 | 1);
        hv_cpuid(p, i, 0x0b, 2, r);
        assert_int_equal(r[0] | r[1], 0);
        assert_int_equal(r[2], 2);
    }
}

/* What depends on what must not be shown without it. */
static void cpuid_consistency(void **state)
{
    uint32_t l1[4], l7[4], x[4], d0[4], d1[4], d2[4];
    bool avx;

    (void)state;
    hv_cpuid(p, 0, 1, 0, l1);
    hv_cpuid(p, 0, 7, 0, l7);
    hv_cpuid(p, 0, 0x80000001, 0, x);
    hv_cpuid(p, 0, 0x0d, 0, d0);
    hv_cpuid(p, 0, 0x0d, 1, d1);
    hv_cpuid(p, 0, 0x0d, 2, d2);
    avx = l1[2] & (1u << 28);
    assert_int_equal(l7[0], 2);
    assert_int_equal(l1[3] & 0x07808111, 0x07808111); /* FPU TSC CX8 CMOV MMX FXSR SSE SSE2 */
    assert_true(x[3] & (1u << 29));
    if (l7[1] & (1u << 5)) /* AVX2 */
        assert_true(avx);
    if (l1[2] & (1u << 12 | 1u << 29)) /* FMA, F16C */
        assert_true(avx);
    if (avx)
        assert_true(l1[2] & (1u << 26));
    assert_int_equal(d0[0], hv_xcr0_mask(p));
    assert_int_equal(d0[1], 576); /* XCR0 = 1 after reset */
    assert_int_equal(d0[2], avx ? 832 : 576);
    if (avx)
        assert_true(d2[0] == 256 && d2[1] == 576 && d2[1] + d2[0] == d0[2]);
    assert_false(d1[0] & 8); /* no XSAVES */
    assert_false(l1[2] & (1u << 27));
    vp->cpu.cr4 |= CR4_OSXSAVE;
    vp->cpu.xcr0 = hv_xcr0_mask(p);
    hv_cpuid(p, 0, 1, 0, l1);
    hv_cpuid(p, 0, 0x0d, 0, d0);
    assert_true(l1[2] & (1u << 27));
    assert_int_equal(d0[1], d0[2]);
    /* every bit of CR4 that may be set has its feature */
    assert_true(!(hv_cr4_mask(p) & CR4_SMEP) == !(l7[1] & (1u << 7)));
    assert_true(!(hv_cr4_mask(p) & CR4_SMAP) == !(l7[1] & (1u << 20)));
    assert_true(!(hv_cr4_mask(p) & CR4_UMIP) == !(l7[2] & (1u << 2)));
    assert_true(!(hv_cr4_mask(p) & CR4_PCIDE) == !(l1[2] & (1u << 17)));
    assert_true(!(hv_cr4_mask(p) & CR4_FSGSBASE) == !(l7[1] & 1));
}

static void cpuid_frequencies(void **state)
{
    uint32_t r[4];

    (void)state;
    hv_cpuid(p, 0, 0x15, 0, r);
    assert_true((uint64_t)r[2] * r[1] / r[0] == hv_tsc_hz(p));
    assert_true(r[2] == APIC_TIMER_HZ); /* Linux takes the APIC timer's rate from here */
    hv_cpuid(p, 0, 0x16, 0, r);
    assert_int_equal(r[0], 2500);
    hv_cpuid(p, 0, 0x80000007, 0, r);
    assert_int_equal(r[3], 1u << 8);
    hv_cpuid(p, 0, 0x80000008, 0, r);
    assert_int_equal(r[0], 0x3000 | hv_maxphyaddr(p));
}

static void cpuid_features(void **state)
{
    static const struct {
        uint32_t leaf;
        uint8_t reg, bit, feature;
    } rows[] = {
        { 1, 2, 0, X86_FEAT_SSE3 },
        { 1, 2, 1, X86_FEAT_PCLMUL },
        { 1, 2, 3, X86_FEAT_MONITOR },
        { 1, 2, 9, X86_FEAT_SSSE3 },
        { 1, 2, 12, X86_FEAT_FMA },
        { 1, 2, 13, X86_FEAT_CX16 },
        { 1, 2, 19, X86_FEAT_SSE41 },
        { 1, 2, 20, X86_FEAT_SSE42 },
        { 1, 2, 22, X86_FEAT_MOVBE },
        { 1, 2, 23, X86_FEAT_POPCNT },
        { 1, 2, 25, X86_FEAT_AES },
        { 1, 2, 28, X86_FEAT_AVX },
        { 1, 2, 29, X86_FEAT_F16C },
        { 1, 2, 30, X86_FEAT_RDRAND },
        { 7, 1, 3, X86_FEAT_BMI1 },
        { 7, 1, 5, X86_FEAT_AVX2 },
        { 7, 1, 8, X86_FEAT_BMI2 },
        { 7, 1, 10, X86_FEAT_INVPCID },
        { 7, 1, 18, X86_FEAT_RDSEED },
        { 7, 1, 19, X86_FEAT_ADX },
        { 7, 1, 29, X86_FEAT_SHA },
        { 7, 2, 22, X86_FEAT_RDPID },
        { 0x80000001, 2, 5, X86_FEAT_LZCNT },
        { 0x80000001, 2, 8, X86_FEAT_PREFETCHW },
        { 0x80000001, 3, 27, X86_FEAT_RDTSCP },
        { 0x0d, 0, 1, X86_FEAT_XSAVEC },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint32_t r[4];

        hv_cpuid(p, 0, rows[i].leaf, rows[i].leaf == 0x0d, r);
        assert_int_equal((r[rows[i].reg] >> rows[i].bit) & 1, hv_feature(p, rows[i].feature));
    }
    assert_false(hv_feature(p, X86_FEAT_COUNT));
    assert_true(hv_feature(p, X86_FEAT_NONE));
}

/* ---- MSRs ---- */

static void msr_masks(void **state)
{
    static const struct {
        uint32_t msr;
        uint64_t good, bad;
    } rows[] = {
        { 0x1b, 0xfee00900, 0xfee00901 },
        { 0x48, 0x407, 8 },
        { 0x49, 1, 2 },
        { 0x175, 0xffff800000000000, 0x0000800000000000 },
        { 0x176, 0x00007fffffffffff, 0xffff000000000000 },
        { 0x17a, 7, 8 },
        { 0x1d9, 3, 4 },
        { 0x200, 0xc0000006, 0xc0000002 },
        { 0x201, 0x3fff80000800, 1ull << 46 },
        { 0x20f, 0x800, 1 },
        { 0x250, 0x0606060606060606, 0x0706060606060606 },
        { 0x26f, 0x0505050505050505, 2 },
        { 0x277, 0x0007010600070106, 0x0000000000000002 },
        { 0x2ff, 0xc06, 0x1000 },
        { 0xc0000080, 0x901, 0x2 },
        { 0xc0000082, 0xffffffff81000000, 0x8000000000000000 },
        { 0xc0000084, 0x47700, 1ull << 32 },
        { 0xc0000100, 0x7fff00000000, 1ull << 47 },
        { 0xc0000102, 0xffff888000000000, 1ull << 48 },
        { 0xc0000103, 0xffffffff, 1ull << 32 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint64_t v;

        assert_int_equal(hv_msr_write(vp, rows[i].msr, rows[i].good), 0);
        if (rows[i].msr != 0x49 && rows[i].msr != 0x1d9) {
            assert_int_equal(hv_msr_read(vp, rows[i].msr, &v), 0);
            assert_true(v == rows[i].good);
        }
        assert_int_equal(hv_msr_write(vp, rows[i].msr, rows[i].bad), -1);
        if (rows[i].msr != 0x49 && rows[i].msr != 0x1d9) {
            assert_int_equal(hv_msr_read(vp, rows[i].msr, &v), 0);
            assert_true(v == rows[i].good);
        }
    }
}

static void msr_read_only(void **state)
{
    static const uint32_t ro[] = { 0x17, 0x3a, 0xfe, 0x10a, 0x179 };
    static const uint32_t absent[] = { 0x2b,  0x33,  0x122, 0x186,      0x345,
                                       0x38f, 0x400, 0xda0, 0xc0010015, 0x40000000 };
    uint64_t v;

    (void)state;
    for (size_t i = 0; i < COUNT(ro); i++) {
        assert_int_equal(hv_msr_read(vp, ro[i], &v), 0);
        assert_int_equal(hv_msr_write(vp, ro[i], v), -1);
    }
    for (size_t i = 0; i < COUNT(absent); i++) {
        assert_int_equal(hv_msr_read(vp, absent[i], &v), -1);
        assert_int_equal(hv_msr_write(vp, absent[i], 0), -1);
    }
    assert_int_equal(hv_msr_read(vp, 0x10a, &v), 0);
    assert_true((v & 0x13b) == 0x13b); /* RDCL_NO IBRS_ALL SKIP_L1DFL SSB_NO MDS_NO TAA_NO */
    assert_false(v & (1u << 2));       /* not RSBA */
}

static void efer_rules(void **state)
{
    (void)state;
    vp->cpu.cr0 = CR0_PE | CR0_PG | CR0_ET;
    assert_int_equal(hv_msr_write(vp, 0xc0000080, EFER_LME), -1); /* with paging on */
    assert_int_equal(hv_msr_write(vp, 0xc0000080, EFER_NXE), 0);
    vp->cpu.cr0 = CR0_PE | CR0_ET;
    assert_int_equal(hv_msr_write(vp, 0xc0000080, EFER_LME | EFER_LMA), 0);
    assert_int_equal(vp->cpu.efer, EFER_LME); /* LMA is read-only */
    hv_vp_reset(vp, false);
    assert_int_equal(hv_msr_write(vp, 0x1a0, 1ull << 34 | 1), 0); /* XD disabled */
    assert_int_equal(hv_msr_write(vp, 0xc0000080, EFER_NXE), -1);
    uint32_t r[4];
    hv_cpuid(p, 0, 0x80000001, 0, r);
    assert_false(r[3] & (1u << 20));
}

/* ---- state ---- */

static void state_round_trip(void **state)
{
    static struct hv_vp_state a, b;

    (void)state;
    assert_int_equal(hv_vp_get_state(p, 0, &a), 0);
    for (unsigned i = 0; i < 16; i++)
        a.gpr[i] = 0x1111111111111111ull * i;
    a.rflags = 0x2 | EF_CF | EF_ZF | EF_OF | EF_DF;
    a.cr2 = 0x123456789a;
    a.star = 0x0023001000000000;
    a.tsc_aux = 5;
    a.dr[0] = 0x401000;
    a.mtrr_fixed[3] = 0x0606060606060606;
    a.int_shadow = 1;
    a.nmi_pending = 1;
    a.pending_valid = 1;
    a.pending_vector = 14;
    a.pending_type = 3;
    a.pending_has_error = 1;
    a.pending_error = 2;
    assert_int_equal(hv_vp_set_state(p, 0, &a), 0);
    assert_int_equal(hv_vp_get_state(p, 0, &b), 0);
    assert_memory_equal(&a, &b, sizeof(a));
}

static void state_refused(void **state)
{
    static struct hv_vp_state good, s, after;

    (void)state;
    assert_int_equal(hv_vp_get_state(p, 0, &good), 0);
#define BAD(change)                                           \
    do {                                                      \
        s = good;                                             \
        s.gpr[0] = 0x77;                                      \
        change;                                               \
        assert_int_equal(hv_vp_set_state(p, 0, &s), -EINVAL); \
        assert_int_equal(hv_vp_get_state(p, 0, &after), 0);   \
        assert_memory_equal(&good, &after, sizeof(good));     \
    } while (0)
    BAD(s.version = 2);
    BAD(s.size--);
    BAD(s.cr0 |= CR0_PG);
    BAD(s.cr0 = 1ull << 40);
    BAD(s.cr4 = 1u << 31);
    BAD(s.cr4 = CR4_PCIDE);
    BAD(s.efer = EFER_LMA);
    BAD(s.efer = 2);
    BAD(s.cr3 = 1ull << 50);
    BAD(s.cr8 = 16);
    BAD(s.xcr0 = 0);
    BAD(s.xcr0 = 5);
    BAD(s.rflags = 0);
    BAD(s.rflags |= EF_VM);
    BAD(s.rip = 1ull << 40);
    BAD(s.gs.base = 1ull << 50);
    BAD(s.cs.attr |= 0x200);
    BAD(s.gdtr_limit = 0x10000);
    BAD(s.dr[7] = 1ull << 32);
    BAD(s.pat = 2);
    BAD(s.lstar = 1ull << 50);
    BAD(s.mtrr_var[3] = 1);
    BAD(s.mtrr_var[2] = 1ull << 60);
    BAD(s.mtrr_def = 1ull << 12);
    BAD(s.spec_ctrl = 8);
    BAD(s.misc_enable = 2);
    BAD(s.int_shadow = 3);
    BAD(s.run_state = 9);
    BAD((s.pending_valid = 1, s.pending_vector = 256));
    BAD(s.xsave[27] = 0xff);
    assert_int_equal(hv_vp_set_state(p, 3, &good), -EINVAL);
}

static void dump_fits(void **state)
{
    char big[4096], small[64];
    int n = hv_vp_dump(p, 0, big, sizeof(big));

    (void)state;
    assert_true(n > 200 && n < (int)sizeof(big));
    assert_int_equal(strlen(big), n);
    assert_non_null(strstr(big, "rip 000000000000fff0"));
    assert_int_equal(hv_vp_dump(p, 0, small, sizeof(small)), n);
    assert_int_equal(strlen(small), sizeof(small) - 1);
    assert_int_equal(hv_vp_dump(p, 0, NULL, 0), n);
}

static void configs(void **state)
{
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "warp", .vps = 1 };
    struct hv_engine_info info[8], one;
    struct hv_partition *q = NULL;
    unsigned n = hv_engines(info, 8);

    (void)state;
    assert_int_equal(hv_partition_create(&cfg, &q), -ENOENT);
    assert_non_null(strstr(hv_last_error(), "warp"));
    cfg.engine = "auto";
    cfg.vps = 0;
    assert_int_equal(hv_partition_create(&cfg, &q), -EINVAL);
    cfg.vps = HV_MAX_VPS + 1;
    assert_int_equal(hv_partition_create(&cfg, &q), -EINVAL);
    assert_null(q);
    assert_true(n >= 3);
    assert_int_equal(hv_engine_query("warp", &one), -ENOENT);
    for (unsigned i = 0; i < n; i++) {
        assert_true(info[i].reason[0] != 0);
        assert_int_equal(hv_engine_query(info[i].name, &one), 0);
        assert_string_equal(one.name, info[i].name);
        assert_string_equal(one.reason, info[i].reason);
        assert_int_equal(one.usable, info[i].usable);
        cfg.vps = 1;
        cfg.engine = info[i].name;
        if (!info[i].usable)
            assert_int_equal(hv_partition_create(&cfg, &q), -ENOTSUP);
    }
    assert_string_equal(hv_partition_engine(p), "interp");
    assert_int_equal(hv_partition_vps(p), 3);
    for (unsigned i = 0; i < HV_CTR_COUNT; i++)
        assert_true(strlen(hv_counter_name(i)) > 2);
    hv_partition_destroy(NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(clock_pauses),   T(clock_ahead),       T(tsc_ratio),         T(tsc_writes),        T(cpuid_identity),
        T(cpuid_topology), T(cpuid_consistency), T(cpuid_frequencies), T(cpuid_features),
        T(msr_masks),      T(msr_read_only),     T(efer_rules),        T(state_round_trip),
        T(state_refused),  T(dump_fits),         T(configs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
