/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of the Hyper-V interface: hypercall input, messages and event flags, synthetic timers, overlay pages, what
 * is shown.  The processor does not run: MSRs and hypercalls are called as the engine would. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "hv/infra.h"
#include "hv/x86/exec.h"

enum { RAM = 1 << 20, SIMP = 0x10000, SIEFP = 0x11000, IN = 0x20000, OUT = 0x21000, VEC = 0x40 };

static struct hv_partition *p;
static struct hv_vp *vp;
static uint8_t *ram;
static uint64_t now_ns;
static unsigned posts, signals;

static uint64_t fake_ns(void) { return now_ns; }

static uint16_t post_message(void *ctx, unsigned v, uint32_t conn, uint32_t type, const void *payload, unsigned len)
{
    (void)ctx, (void)v, (void)type, (void)payload, (void)len;
    posts++;
    return conn == 4 ? 0 : 18;
}

static uint16_t signal_event(void *ctx, unsigned v, uint32_t conn, uint16_t flag)
{
    (void)ctx, (void)v, (void)flag;
    signals++;
    return conn == 0x10001 ? 0 : 18;
}

static int make(uint32_t hide, uint32_t show)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .post_message = post_message, .signal_event = signal_event };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = "interp", .vps = 2, .enlightened = true, .ops = &ops,
                             .enl_hide = hide, .enl_show = show };
    uint64_t off;

    if (hv_partition_create(&cfg, &p) || hv_ram_alloc(p, RAM, &off) || hv_gpa_map(p, 0, RAM, off, HV_MAP_RWX))
        return -1;
    ram = hv_ram_hva(p, off, RAM);
    vp = p->vps[0];
    now_ns = 1000000000;
    p->clock->host_ns = fake_ns;
    hv_time_pause(p, false);
    posts = signals = 0;
    vp->cpu.cr0 |= CR0_PE;
    vp->cpu.cpl = 0;
    vp->cpu.mode = X86_MODE_64;
    return 0;
}

static int setup(void **state) { return (void)state, make(0, 0); }
static int teardown(void **state) { return (void)state, hv_partition_destroy(p), 0; }

static void wr(uint32_t msr, uint64_t val) { assert_int_equal(hv_hyperv_msr_write(vp, msr, val), 0); }

static uint64_t rd(uint32_t msr)
{
    uint64_t val = 0;

    assert_int_equal(hv_hyperv_msr_read(vp, msr, &val), 0);
    return val;
}

static bool taken(unsigned vector)
{
    int v = hv_lapic_ack(vp);

    if (v >= 0)
        hv_lapic_eoi(vp);
    return v == (int)vector;
}

static void synic_on(void)
{
    wr(0x40000083, SIMP | 1);
    wr(0x40000082, SIEFP | 1);
    wr(0x40000090 + 2, VEC);
    wr(0x40000090 + 3, VEC + 1);
    wr(0x40000080, 1);
    assert_int_equal(hv_msr_write(vp, 0x1b, 0xfee00000 | 0x900), 0);
    hv_lapic_mmio_write(vp, 0xf0, 4, 0x1ff);
}

static uint8_t *page(uint64_t gpa) { return hv_gpa_hva(p, gpa, 4096, true); }
static uint32_t word(uint64_t gpa) { uint32_t v; memcpy(&v, page(gpa & ~4095ull) + (gpa & 4095), 4); return v; }
static void zero(uint64_t gpa) { memset(page(gpa & ~4095ull) + (gpa & 4095), 0, 4); }

static uint16_t call(uint64_t input, uint64_t a, uint64_t b, unsigned *done)
{
    vp->cpu.gpr[X86_RCX] = input;
    vp->cpu.gpr[X86_RDX] = a;
    vp->cpu.gpr[X86_R8] = b;
    x86_mmu_enter(vp);
    assert_true(hv_hypercall(vp));
    x86_mmu_leave(vp);
    if (done)
        *done = (unsigned)(vp->cpu.gpr[X86_RAX] >> 32) & 0xfff;
    return (uint16_t)vp->cpu.gpr[X86_RAX];
}

static void messages(void **state)
{
    uint8_t pay[240];

    (void)state;
    memset(pay, 7, sizeof(pay));
    assert_int_equal(hv_message_post(p, 0, 2, 1, pay, 240), -ENXIO);
    assert_int_equal(hv_event_signal(p, 0, 2, 5), -ENXIO);
    synic_on();
    assert_int_equal(hv_message_post(p, 0, 16, 1, pay, 1), -EINVAL);
    assert_int_equal(hv_message_post(p, 0, 2, 1, pay, 241), -EINVAL);
    assert_int_equal(hv_message_post(p, 9, 2, 1, pay, 1), -EINVAL);
    assert_int_equal(hv_message_post(p, 0, 2, 1, pay, 240), 0);
    assert_true(taken(VEC));
    assert_int_equal(word(SIMP + 512), 1);
    assert_int_equal(page(SIMP)[512 + 4], 240);
    assert_int_equal(page(SIMP)[512 + 5] & 1, 0);
    /* a second one waits and says so; another SINT is not held up */
    assert_int_equal(hv_message_post(p, 0, 2, 2, pay, 8), 0);
    assert_int_equal(page(SIMP)[512 + 5] & 1, 1);
    assert_int_equal(hv_message_post(p, 0, 3, 9, pay, 8), 0);
    assert_int_equal(word(SIMP + 768), 9);
    assert_true(taken(VEC + 1));
    wr(0x40000084, 0); /* an EOM while the slot is taken */
    assert_int_equal(word(SIMP + 512), 1);
    zero(SIMP + 512);
    wr(0x40000084, 0);
    assert_int_equal(word(SIMP + 512), 2);
    assert_true(taken(VEC));
    /* page moves: the contents go with it, and the RAM below comes back */
    wr(0x40000083, 0x30000 | 1);
    assert_int_equal(word(0x30000 + 512), 2);
    assert_int_equal(word(SIMP + 512), 0);
    /* off with messages waiting, and on again */
    assert_int_equal(hv_message_post(p, 0, 2, 3, pay, 8), 0);
    wr(0x40000080, 0);
    zero(0x30000 + 512);
    wr(0x40000084, 0);
    assert_int_equal(word(0x30000 + 512), 0);
    assert_int_equal(hv_message_post(p, 0, 2, 4, pay, 8), -ENXIO);
    wr(0x40000080, 1);
    assert_int_equal(word(0x30000 + 512), 3);
    /* a flood ends */
    unsigned n = 0;

    while (hv_message_post(p, 0, 2, 5, pay, 8) == 0)
        n++;
    assert_int_equal(n, HV_QUEUE_MAX);
    assert_int_equal(hv_message_post(p, 0, 3, 5, pay, 8), 0);
    hv_partition_reset(p);
    assert_int_equal(hv_message_post(p, 0, 2, 5, pay, 8), -ENXIO);
    assert_int_not_equal(hv_hyperv_msr_write(vp, 0x40000092, 3), 0); /* vector below 16 */
    assert_int_not_equal(hv_hyperv_msr_write(vp, 0x40000081, 1), 0);
}

/* An engine whose own SynIC fills slots, too: ours does so when the processor is not in the guest. */
static unsigned sints;
static void other_sint(struct hv_vp *v, unsigned sint) { (void)v, sints += sint == 2; }

static void messages_wait(void **state)
{
    static struct hv_hyperv_vp_state s;
    static struct hv_message m[2];
    const struct hv_engine *engine = p->engine;
    struct hv_engine other = *engine;
    uint8_t pay[8] = { 0 };

    (void)state;
    other.sint = other_sint;
    p->engine = &other;
    synic_on();
    sints = 0;
    atomic_store(&vp->attention, 0);
    for (uint32_t type = 1; type <= 3; type++)
        assert_int_equal(hv_message_post(p, 0, 2, type, pay, 8), 0);
    assert_int_equal(word(SIMP + 512), 0);
    assert_int_equal(sints, 0);
    assert_true(atomic_load(&vp->attention) & HV_ATT_INTR);
    hv_synic_run(vp);
    assert_int_equal(word(SIMP + 512), 1);
    assert_int_equal(sints, 1);
    /* a timer's message got in between, and does not say that more waits */
    zero(SIMP + 512 + 4);
    assert_true(atomic_load(&vp->hyperv.waits));
    hv_synic_run(vp);
    assert_int_equal(page(SIMP)[512 + 5] & 1, 1);
    zero(SIMP + 512);
    hv_synic_run(vp);
    assert_int_equal(word(SIMP + 512), 2);
    /* what waits in a state comes to its slot under another engine, too */
    zero(SIMP + 512);
    assert_int_equal(hv_hyperv_vp_get(p, 0, &s), 0);
    assert_int_equal(hv_hyperv_messages(p, 0, m, 2), 1);
    p->engine = engine;
    assert_int_equal(hv_hyperv_vp_set(p, 0, &s, m, 1), 0);
    assert_int_equal(word(SIMP + 512), 3);
    assert_true(taken(VEC));
    assert_false(atomic_load(&vp->hyperv.waits));
}

static void flags(void **state)
{
    (void)state;
    synic_on();
    assert_int_equal(hv_event_signal(p, 0, 2, 2048), -EINVAL);
    assert_int_equal(hv_event_signal(p, 0, 2, 2047), 0);
    assert_true(taken(VEC));
    assert_int_equal(page(SIEFP)[512 + 255], 0x80);
    assert_int_equal(hv_event_signal(p, 0, 2, 2047), 0); /* set already: no interrupt */
    assert_int_equal(hv_lapic_pending(vp), -1);
    wr(0x40000092, VEC | 1 << 16); /* masked: the flag is set still */
    assert_int_equal(hv_event_signal(p, 0, 2, 1), 0);
    assert_int_equal(page(SIEFP)[512], 2);
    assert_int_equal(hv_lapic_pending(vp), -1);
    wr(0x40000092, VEC | 1 << 17); /* auto-EOI: never in service */
    assert_int_equal(hv_event_signal(p, 0, 2, 2), 0);
    assert_int_equal(hv_lapic_ack(vp), VEC);
    assert_int_equal(hv_event_signal(p, 0, 2, 3), 0);
    assert_int_equal(hv_lapic_ack(vp), VEC);
}

static void step(uint64_t ns)
{
    now_ns += ns;
    hv_stimer_poll(vp, hv_time_ns(p));
}

static void timers(void **state)
{
    uint64_t t;

    (void)state;
    synic_on();
    t = rd(0x40000020);
    wr(0x400000b0, 8 | 2 << 16);       /* auto-enable, SINT 2 */
    wr(0x400000b1, t + 10000);         /* in 1 ms */
    assert_int_equal(rd(0x400000b0) & 1, 1);
    step(999900);
    assert_int_equal(word(SIMP + 512), 0);
    step(200);
    assert_int_equal(word(SIMP + 512), 0x80000010);
    assert_true(taken(VEC));
    assert_int_equal(rd(0x400000b0) & 1, 0); /* one shot */
    assert_int_equal(rd(0x40000010 + 0x10), t + 10001);
    /* periodic against a slot that is never freed: one message waits, not many */
    wr(0x400000b3, 10000);
    wr(0x400000b2, 3 | 2 << 16);
    for (unsigned i = 0; i < 50; i++)
        step(1000000);
    assert_int_equal(vp->hyperv.queue[2].n, 1);
    zero(SIMP + 512);
    wr(0x40000084, 0);
    assert_int_equal(word(SIMP + 512), 0x80000010);
    assert_int_equal(word(SIMP + 512 + 16), 1); /* timer 1 */
    wr(0x400000b3, 0);                          /* a count of 0 stops it */
    assert_int_equal(rd(0x400000b2) & 1, 0);
    while (hv_lapic_pending(vp) >= 0)
        taken(VEC);
    /* direct mode; lazy leaves out what was missed */
    wr(0x400000b5, 10000);
    wr(0x400000b4, 7 | 0x60 << 4 | 1 << 12);
    step(1000000);
    assert_true(taken(0x60));
    step(10500000);
    assert_true(taken(0x60));
    step(100000);
    assert_int_equal(hv_lapic_pending(vp), -1);
    /* SINT 0 takes no timer */
    wr(0x400000b7, 1);
    wr(0x400000b6, 1);
    assert_int_equal(rd(0x400000b6) & 1, 0);
    wr(0x400000b6, 8); /* not by auto-enable either */
    wr(0x400000b7, 1);
    assert_int_equal(rd(0x400000b6), 8);
    wr(0x400000b6, 8 | 1 << 12 | 0x60 << 4); /* direct mode needs none */
    wr(0x400000b7, UINT64_MAX);
    assert_int_equal(rd(0x400000b6) & 1, 1);
    /* far away and overflowing counts */
    wr(0x400000b6, 3 | 2 << 16);
    wr(0x400000b7, UINT64_MAX);
    wr(0x400000b7, UINT64_MAX / 200);
    wr(0x400000b7, 1);
    step(1000000000);
}

static void hypercalls(void **state)
{
    uint64_t v[4] = { 0 };
    unsigned done;

    (void)state;
    vp->cpu.gpr[X86_RCX] = 0x5c;
    assert_false(hv_hypercall(vp)); /* no hypercall page: #UD */
    wr(0x40000001, 0x50001);
    assert_int_equal(rd(0x40000001) & 1, 0); /* no identity */
    wr(0x40000000, 0x8100000000000000ull);
    wr(0x40000001, 0x50001);
    assert_int_equal(rd(0x40000001), 0x50001);
    assert_null(hv_gpa_hva(p, 0x50000, 4096, true)); /* read-only */
    vp->cpu.cpl = 3;
    assert_false(hv_hypercall(vp));
    vp->cpu.cpl = 0;

    /* every code with every odd form: an answer, and nothing breaks */
    for (unsigned code = 0; code < 0x10000; code += code < 0x100 || code >= 0x8000 ? 1 : 97) {
        static const uint64_t forms[] = { 0, 1ull << 16, 1ull << 17, 1ull << 31, 1ull << 32, 1ull << 48, 0xfffull << 32,
                                          0xfffull << 32 | 0xffeull << 48, 0x3ffull << 17 | 0xfffull << 32, 1ull << 60,
                                          1ull << 44, 1ull << 27 };

        if (code == 0x100)
            code = 0x101;
        for (unsigned i = 0; i < sizeof(forms) / 8; i++) {
            static const uint64_t at[] = { IN, IN + 4, IN + 4088, 1ull << 45, UINT64_MAX, RAM - 8 };

            for (unsigned k = 0; k < 6; k++)
                call(code | forms[i], at[k], at[(k + i) % 6], &done);
        }
    }
    memset(ram + IN, 0, 8192);
    assert_int_equal(call(0x77, 0, 0, NULL), 2);
    assert_int_equal(call(0x5c | 1ull << 16, IN, 0, NULL), 3);   /* never fast */
    assert_int_equal(call(0x5c | 1ull << 32, IN, 0, NULL), 3);   /* no rep call */
    assert_int_equal(call(0x02 | 1ull << 17, IN, 0, NULL), 3);   /* no variable header */
    assert_int_equal(call(0x03, IN, 0, NULL), 3);                /* rep call without reps */
    assert_int_equal(call(0x03 | 2ull << 32 | 2ull << 48, IN, 0, NULL), 3);
    assert_int_equal(call(0x03 | 4ull << 32 | 1ull << 48, IN, 0, &done), 0);
    assert_int_equal(done, 4);
    assert_int_equal(call(0x02, IN + 4, 0, NULL), 4);
    assert_int_equal(call(0x02, 1ull << 40, 0, NULL), 5);
    assert_int_equal(call(0x8001, 0, OUT, NULL), 6);             /* not shown */
    assert_int_equal(call(0x7e, IN, 0, NULL), 5);

    posts = 0;
    memcpy(ram + IN, (uint32_t[]){ 4, 0, 1, 240 }, 16);
    assert_int_equal(call(0x5c, IN, 0, NULL), 0);
    memcpy(ram + IN, (uint32_t[]){ 5, 0, 1, 240 }, 16);
    assert_int_equal(call(0x5c, IN, 0, NULL), 18);
    memcpy(ram + IN, (uint32_t[]){ 4, 0, 1, 241 }, 16);
    assert_int_equal(call(0x5c, IN, 0, NULL), 5);
    assert_int_equal(posts, 2);
    assert_int_equal(call(0x5d | 1ull << 16, 0x10001, 0, NULL), 0);
    assert_int_equal(call(0x5d | 1ull << 16, 0x10002, 0, NULL), 18);

    /* IPIs: fast, by set in XMM, bad vectors and sets */
    assert_int_equal(call(0x0b | 1ull << 16, 0x70, 2, NULL), 0);
    assert_int_equal(call(0x0b | 1ull << 16, 0x70, 4, NULL), 5);
    assert_int_equal(call(0x0b | 1ull << 16, 15, 1, NULL), 5);
    assert_int_equal(call(0x0b | 1ull << 16, 0x100000070, 1, NULL), 5);
    v[0] = 1;
    v[1] = 2;
    memcpy(&vp->cpu.ymm[0], v, 16);
    assert_int_equal(call(0x15 | 1ull << 16 | 1ull << 17, 0x71, 0, NULL), 0);
    assert_int_equal(call(0x15 | 1ull << 16, 0x71, 0, NULL), 5); /* a bank is missing */
    assert_int_equal(call(0x15 | 1ull << 16, 0x71, 1, NULL), 0); /* all */

    /* APIC ids, with a start, and 32-bit registers */
    memcpy(ram + IN, (uint64_t[]){ ~0ull, 0 }, 16);
    memcpy(ram + IN + 16, (uint32_t[]){ 1, 0, 7 }, 12);
    memset(ram + OUT, 0xff, 16);
    assert_int_equal(call(0x9a | 3ull << 32 | 1ull << 48, IN, OUT, &done), 5);
    assert_int_equal(done, 2);
    assert_int_equal(word(OUT), 0xffffffff);
    assert_int_equal(word(OUT + 4), 0);
    vp->cpu.mode = X86_MODE_32;
    vp->cpu.gpr[X86_RAX] = 0x9a;
    vp->cpu.gpr[X86_RDX] = 2;
    vp->cpu.gpr[X86_RBX] = vp->cpu.gpr[X86_RDI] = 0;
    vp->cpu.gpr[X86_RCX] = IN;
    vp->cpu.gpr[X86_RSI] = OUT;
    x86_mmu_enter(vp);
    assert_true(hv_hypercall(vp));
    x86_mmu_leave(vp);
    assert_int_equal(vp->cpu.gpr[X86_RAX], 0);
    assert_int_equal(vp->cpu.gpr[X86_RDX], 2);
    assert_int_equal(word(OUT), 1);
    vp->cpu.mode = X86_MODE_64;
    wr(0x40000000, 0); /* the identity takes the page along */
    assert_int_equal(rd(0x40000001) & 1, 0);
}

static void shown(void **state)
{
    uint32_t r[4];
    uint64_t val;

    (void)state;
    hv_cpuid(p, 0, 0x40000003, 0, r);
    assert_int_equal(r[0], 0xeff);
    assert_int_equal(r[1], 0x30);
    assert_int_equal(r[3], 1 << 4 | 1 << 5 | 1 << 8 | 1 << 10 | 1 << 19);
    assert_int_not_equal(hv_hyperv_msr_read(vp, 0x40000118, &val), 0);
    hv_partition_destroy(p);
    assert_int_equal(make(HV_ENL_ALL, HV_ENL_TSC_INVARIANT | HV_ENL_EXTENDED), 0);
    hv_cpuid(p, 0, 0x40000003, 0, r);
    assert_int_equal(r[0], 1 << 1 | 7 << 4 | 1 << 15);
    assert_int_equal(r[1], 1 << 20);
    assert_int_equal(r[3], 1 << 4);
    hv_cpuid(p, 0, 0x40000004, 0, r);
    assert_int_equal(r[0], 1 << 9 | 1 << 3);
    static const uint32_t gone[] = { 0x40000003, 0x40000010, 0x40000021, 0x40000022, 0x40000023, 0x40000080,
                                     0x4000009f, 0x400000b0, 0x400000b7, 0x400000f0, 0x40000100, 0x40000105 };

    for (unsigned i = 0; i < sizeof(gone) / 4; i++) {
        assert_int_not_equal(hv_hyperv_msr_read(vp, gone[i], &val), 0);
        assert_int_not_equal(hv_hyperv_msr_write(vp, gone[i], 0), 0);
    }
    hv_cpuid(p, 0, 0x80000007, 0, r);
    assert_int_equal(r[3], 0);
    wr(0x40000118, 1);
    hv_cpuid(p, 0, 0x80000007, 0, r);
    assert_int_equal(r[3], 1 << 8);
    wr(0x40000000, 1);
    wr(0x40000001, 0x50001);
    assert_int_equal(call(0x8001, 0, OUT, NULL), 0);
    assert_int_equal(word(OUT), 3);
    assert_int_equal(call(0x8001, 0, OUT + 4092, NULL), 4);
    assert_int_equal(call(0x8002, 0, OUT, NULL), 0);
    assert_int_equal(call(0x8003 | 2ull << 32, IN, 0, NULL), 0);
    assert_int_equal(call(0x0b | 1ull << 16, 0x70, 1, NULL), 6);
}

static void crash_msrs(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 5; i++)
        wr(0x40000100 + i, i + 1);
    wr(0x40000103, IN);
    wr(0x40000104, 12);
    memcpy(ram + IN, "it is\nover!", 12);
    wr(0x40000105, 0);
    assert_int_equal(vp->exit.reason, 0);
    wr(0x40000105, 3ull << 62);
    assert_int_equal(vp->exit.reason, HV_EXIT_CRASH);
    assert_string_equal(vp->exit.text, "over!");
    assert_true(vp->exit.param[0] == 1 && vp->exit.param[4] == 12);
    wr(0x40000103, 1ull << 50); /* no memory there; a length that wraps */
    wr(0x40000104, UINT64_MAX);
    wr(0x40000105, 3ull << 62);
    wr(0x40000003, 1);
    assert_int_equal(vp->exit.reason, HV_EXIT_RESET);
}

/* Everything that a guest can set, into a second partition, and out of it again. */
static void state_round_trip(void **state)
{
    static struct hv_hyperv_vp_state v1[2], v2, bad;
    static struct hv_message m1[8], m2[8];
    struct hv_hyperv_state s1, s2;
    struct hv_vp_state *regs = malloc(2 * sizeof(*regs));
    uint8_t pay[240];
    uint64_t off, ref, tsc;
    struct hv_partition *old;
    const struct { uint32_t seq, reserved; uint64_t scale; int64_t offset; } *page0;

    (void)state;
    assert_non_null(regs);
    synic_on();
    memset(pay, 7, sizeof(pay));
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(hv_message_post(p, 0, 2, 1 + i, pay, 200 + i), 0);
    assert_int_equal(hv_message_post(p, 0, 3, 9, pay, 3), 0);
    assert_int_equal(hv_message_post(p, 0, 3, 10, pay, 4), 0);
    assert_int_equal(hv_event_signal(p, 0, 2, 77), 0);
    wr(0x40000000, 0x8100000000000000ull);
    wr(0x40000001, 0x50001);
    wr(0x40000021, 0x51001);
    wr(0x40000073, 0x52001);
    memset(page(0x52000), 0x5a, 4096);
    memset(ram + 0x52000, 0x11, 4096); /* under the overlay */
    wr(0x40000102, 1234);
    now_ns += 123456789;
    wr(0x400000b0, 3 << 16 | 8);
    wr(0x400000b1, rd(0x40000020) + 50000); /* one shot in 5 ms */
    wr(0x400000b2, 3 << 16 | 3);
    wr(0x400000b3, 200000);                 /* every 20 ms */
    now_ns += 1000000;
    hv_time_pause(p, true);
    assert_int_equal(hv_hyperv_get(p, &s1), 0);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(hv_vp_get_state(p, i, &regs[i]), 0);
        assert_int_equal(hv_hyperv_vp_get(p, i, &v1[i]), 0);
    }
    assert_int_equal(hv_hyperv_messages(p, 0, m1, 2), 4); /* one of each SINT is in its slot */
    assert_int_equal(hv_hyperv_messages(p, 0, m1, 8), 4);
    assert_int_equal(hv_hyperv_messages(p, 1, m1 + 4, 4), 0);
    assert_true(m1[0].type == 2 && m1[0].sint == 2 && m1[2].type == 4 && m1[3].type == 10 && m1[3].len == 4);
    ref = hv_reference_time(p);
    tsc = hv_tsc_read(vp);

    old = p;
    assert_int_equal(make(0, 0), 0);
    hv_time_pause(p, true);
    /* what a guest cannot have done is refused, and nothing has changed */
    bad = v1[0];
    bad.sint[4] = 3;
    assert_int_equal(hv_hyperv_vp_set(p, 0, &bad, m1, 4), -EINVAL);
    bad = v1[0];
    bad.version++;
    assert_int_equal(hv_hyperv_vp_set(p, 0, &bad, m1, 4), -EINVAL);
    bad = v1[0];
    bad.stimer[1].config = 1; /* SINT 0 */
    assert_int_equal(hv_hyperv_vp_set(p, 0, &bad, m1, 4), -EINVAL);
    bad = v1[0];
    bad.scontrol = 2;
    assert_int_equal(hv_hyperv_vp_set(p, 0, &bad, m1, 4), -EINVAL);
    bad = v1[0];
    bad.idle = 1; /* runs */
    assert_int_equal(hv_hyperv_vp_set(p, 0, &bad, m1, 4), -EINVAL);
    memcpy(m2, m1, sizeof(m1));
    m2[1].sint = 16;
    assert_int_equal(hv_hyperv_vp_set(p, 0, &v1[0], m2, 4), -EINVAL);
    m2[1] = m1[1];
    m2[1].len = 241;
    assert_int_equal(hv_hyperv_vp_set(p, 0, &v1[0], m2, 4), -EINVAL);
    assert_int_equal(hv_hyperv_vp_set(p, 2, &v1[0], m1, 4), -EINVAL);
    s2 = s1;
    s2.shown ^= HV_ENL_IPI | HV_ENL_EXTENDED;
    assert_int_equal(hv_hyperv_set(p, &s2), -EINVAL);
    assert_non_null(strstr(hv_last_error(), "missing: extended_hypercalls"));
    assert_non_null(strstr(hv_last_error(), "too many: ipi"));
    s2 = s1;
    s2.guest_os_id = 0;
    assert_int_equal(hv_hyperv_set(p, &s2), -EINVAL);
    assert_int_equal(rd(0x40000080), 0);
    assert_int_equal(rd(0x40000001), 0);

    hv_time_set_ns(p, hv_time_ns(old));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(hv_vp_set_state(p, i, &regs[i]), 0);
    assert_int_equal(hv_hyperv_set(p, &s1), 0);
    assert_int_equal(hv_hyperv_vp_set(p, 0, &v1[0], m1, 4), 0);
    assert_int_equal(hv_hyperv_vp_set(p, 1, &v1[1], NULL, 0), 0);
    hv_partition_destroy(old);

    assert_int_equal(hv_hyperv_get(p, &s2), 0);
    assert_memory_equal(&s1, &s2, sizeof(s1));
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(hv_hyperv_vp_get(p, i, &v2), 0);
        assert_memory_equal(&v1[i], &v2, sizeof(v2));
    }
    assert_int_equal(hv_hyperv_messages(p, 0, m2, 8), 4);
    assert_memory_equal(m1, m2, 4 * sizeof(m1[0]));
    assert_int_equal(rd(0x40000102), 1234);
    assert_int_equal(page(0x52000)[5], 0x5a);
    assert_int_equal(word(SIMP + 512), 1);

    /* clocks go on where they were, and agree */
    hv_time_pause(p, false);
    assert_int_equal(hv_reference_time(p), ref);
    assert_int_equal(hv_tsc_read(vp), tsc);
    now_ns += 3000000000ull;
    page0 = hv_ram_hva(p, p->hyperv->tsc_off, 4096);
    off = (uint64_t)(((__uint128_t)hv_tsc_read(vp) * page0->scale) >> 64) + (uint64_t)page0->offset;
    assert_in_range(off - hv_reference_time(p) + 10, 9, 11);
    now_ns -= 3000000000ull;

    /* the timers, at their time */
    zero(SIMP + 768);
    wr(0x40000084, 0);
    zero(SIMP + 768); /* the message that waited */
    step(3999000);
    assert_int_equal(word(SIMP + 768), 0);
    step(2000);
    assert_int_equal(word(SIMP + 768), 0x80000010u);
    zero(SIMP + 768);
    assert_int_equal(rd(0x400000b0) & 1, 0);
    step(14000000);
    assert_int_equal(word(SIMP + 768), 0);
    step(2000000);
    assert_int_equal(word(SIMP + 768), 0x80000010u);
    /* and the messages in the order in which they were posted */
    for (unsigned i = 1; i <= 4; i++) {
        assert_int_equal(word(SIMP + 512), i);
        zero(SIMP + 512);
        wr(0x40000084, 0);
    }
    assert_int_equal(word(SIMP + 512), 0);
    free(regs);
}

/* What a SynIC that takes more holds becomes a state that can be restored. */
static void state_trimmed(void **state)
{
    static struct hv_hyperv_vp_state s;
    struct hv_hyperv_vp *v = &vp->hyperv;

    (void)state;
    for (unsigned i = 0; i < HV_NSINTS; i++)
        v->sint[i] = UINT64_MAX;
    v->stimer[0].config = UINT64_MAX;
    v->stimer[1].config = 3; /* SINT 0 */
    v->stimer[2].config = 3 | 2 << 16;
    hv_synic_trim(v);
    assert_int_equal(v->stimer[1].config, 2);
    assert_int_equal(v->stimer[2].config, 3 | 2 << 16);
    assert_int_equal(hv_hyperv_vp_get(p, 0, &s), 0);
    assert_int_equal(hv_hyperv_vp_set(p, 0, &s, NULL, 0), 0);
}

/* A reference TSC page made by an engine with another TSC: made anew, never back in time. */
static void state_other_tsc(void **state)
{
    struct hv_hyperv_state s;
    const struct { uint32_t seq, reserved; uint64_t scale; int64_t offset; } *page0;
    uint64_t t;

    (void)state;
    wr(0x40000000, 0x8100000000000000ull);
    wr(0x40000021, 0x51001);
    now_ns += 777777777;
    hv_time_pause(p, true);
    assert_int_equal(hv_hyperv_get(p, &s), 0);
    s.tsc_scale /= 3;
    s.tsc_seq = UINT32_MAX;
    assert_int_equal(hv_hyperv_set(p, &s), 0);
    page0 = (const void *)(hv_gpa_hva(p, 0x51000, 4096, false));
    assert_int_equal(page0->seq, 1);
    t = (uint64_t)(((__uint128_t)hv_tsc_read(vp) * page0->scale) >> 64) + (uint64_t)page0->offset;
    assert_in_range(t, hv_reference_time(p), hv_reference_time(p) + 1);
}

/* An engine whose TSC runs at another pace, and that fills in the page itself, later: a processor that reads it before
 * gets the right time.  A page that is not to be used stays so. */
static uint64_t other_hz(const struct hv_partition *q) { return (void)q, 2100000000; }
static uint64_t other_tsc(struct hv_vp *v, uint64_t ns) { return ns * 21 / 10 + v->cpu.tsc_offset; }
static int other_hyperv(struct hv_vp *v) { return (void)v, 0; }

static void state_to_other_tsc(void **state)
{
    const struct hv_engine *engine = p->engine;
    struct hv_engine other = *engine;
    struct hv_hyperv_state s;
    const struct { uint32_t seq, reserved; uint64_t scale; int64_t offset; } *page0;
    uint64_t t;

    (void)state;
    other.tsc_hz = other_hz;
    other.tsc_at = other_tsc;
    other.set_hyperv = other_hyperv;
    wr(0x40000000, 0x8100000000000000ull);
    wr(0x40000021, 0x51001);
    now_ns += 77777777777;
    hv_time_pause(p, true);
    assert_int_equal(hv_hyperv_get(p, &s), 0);
    p->engine = &other;
    assert_int_equal(hv_hyperv_set(p, &s), 0);
    page0 = (const void *)(hv_gpa_hva(p, 0x51000, 4096, false));
    assert_int_equal(page0->seq, s.tsc_seq + 1);
    t = (uint64_t)(((__uint128_t)other_tsc(vp, hv_time_ns(p)) * page0->scale) >> 64) + (uint64_t)page0->offset;
    assert_in_range(t, hv_reference_time(p), hv_reference_time(p) + 1);
    s.tsc_seq = 0;
    assert_int_equal(hv_hyperv_set(p, &s), 0);
    assert_int_equal(page0->seq, 0);
    p->engine = engine;
}

/* The page says what the counter says, also when the thread lost its processor while it was made. */
static uint64_t slow_ns(void) { return now_ns += 1000000; }

static void reference_tsc(void **state)
{
    const struct { uint32_t seq, reserved; uint64_t scale; int64_t offset; } *page0;
    uint64_t t;

    (void)state;
    p->clock->host_ns = slow_ns;
    wr(0x40000021, 0x51001);
    p->clock->host_ns = fake_ns;
    page0 = (const void *)(hv_gpa_hva(p, 0x51000, 4096, false));
    t = (uint64_t)(((__uint128_t)hv_tsc_read(vp) * page0->scale) >> 64) + (uint64_t)page0->offset;
    assert_in_range(t, rd(0x40000020) - 1, rd(0x40000020) + 1);
}

static void features(void **state)
{
    struct hv_cpu_features f;

    (void)state;
    hv_features_get(p, &f);
    assert_int_equal(hv_features_check(p, &f), 0);
    f.word[0] &= ~(1u << 20); /* less is no harm */
    assert_int_equal(hv_features_check(p, &f), 0);
    f.word[2] |= 1u << 16; /* AVX-512 */
    f.word[3] |= 1u << 10; /* VPCLMULQDQ */
    assert_int_equal(hv_features_check(p, &f), -ENOTSUP);
    assert_non_null(strstr(hv_last_error(), "cpuid:7.ebx[16] vpclmulqdq"));
    f.size--;
    assert_int_equal(hv_features_check(p, &f), -EINVAL);
}

/* A guest that goes on with less finds the processor that it had. */
static void features_limit(void **state)
{
    struct hv_cpu_features f, now;
    uint32_t r[4];

    (void)state;
    hv_features_get(p, &f);
    f.word[0] |= 1u << 5; /* VMX */
    assert_int_equal(hv_features_limit(p, &f), -ENOTSUP);
    hv_cpuid(p, 1, 1, 0, r);
    assert_true(r[2] & 1u << 21);
    f.word[0] &= ~(1u << 5 | 1u << 21); /* x2APIC */
    assert_int_equal(hv_features_limit(p, &f), 0);
    hv_cpuid(p, 1, 1, 0, r);
    assert_false(r[2] & 1u << 21);
    assert_true(r[2] & 1u << 31); /* a hypervisor: no feature, and still there */
    hv_features_get(p, &now);
    assert_memory_equal(&now, &f, sizeof(f));
    f.word[0] |= 1u << 21;
    assert_int_equal(hv_features_limit(p, &f), -ENOTSUP);
}

static void *cancel_late(void *arg)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += 20;
    if (pthread_mutex_timedlock(arg, &ts))
        hv_vp_cancel(p, 0);
    else
        pthread_mutex_unlock(arg);
    return NULL;
}

/* A processor that waits for a lock sleeps with IF clear, perhaps in the handler of an interrupt: the one that wakes it
 * may be of the same class. */
static void idle_ends(void **state)
{
    pthread_mutex_t awake = PTHREAD_MUTEX_INITIALIZER;
    pthread_t t;
    uint64_t val;

    (void)state;
    for (unsigned held = 0; held < 2; held++) {
        synic_on();
        if (held) {
            hv_lapic_fixed(vp, 0xf3);
            assert_int_equal(hv_lapic_ack(vp), 0xf3);
        }
        vp->cpu.eflags &= ~(uint32_t)EF_IF;
        assert_int_equal(hv_hyperv_msr_read(vp, 0x400000f0, &val), 0);
        assert_int_equal(vp->run_state, HV_VP_HALTED);
        pthread_mutex_lock(&awake);
        assert_int_equal(pthread_create(&t, NULL, cancel_late, &awake), 0);
        hv_lapic_fixed(vp, 0xf7);
        x86_mmu_enter(vp);
        assert_false(hv_vp_events(vp));
        x86_mmu_leave(vp);
        pthread_mutex_unlock(&awake);
        pthread_join(t, NULL);
        assert_int_equal(vp->run_state, HV_VP_RUNNING);
        assert_int_equal(vp->idle, 0);
        hv_partition_reset(p);
    }
}

static int cancel_and_ack(void *ctx, unsigned v) { return (void)ctx, hv_vp_cancel(p, v), VEC; }

/* Stopped while the interrupt that ends the sleep is delivered: the state can be restored. */
static void idle_canceled(void **state)
{
    static struct hv_vp_state s;
    static struct hv_hyperv_vp_state h;
    uint64_t val;

    (void)state;
    p->ops.extint_ack = cancel_and_ack;
    vp->cpu.eflags |= EF_IF;
    vp->cpu.gpr[X86_RSP] = 0x8000;
    vp->cpu.cr0 &= ~(uint64_t)CR0_PE;
    x86_update_mode(vp);
    assert_int_equal(hv_hyperv_msr_read(vp, 0x400000f0, &val), 0);
    hv_extint_set(p, true);
    x86_mmu_enter(vp);
    if (setjmp(vp->jmp))
        fail();
    assert_true(hv_vp_events(vp));
    x86_mmu_leave(vp);
    assert_int_equal(hv_vp_get_state(p, 0, &s), 0);
    assert_int_equal(s.run_state, HV_VP_RUNNING);
    assert_int_equal(hv_hyperv_vp_get(p, 0, &h), 0);
    assert_int_equal(hv_vp_set_state(p, 0, &s), 0);
    assert_int_equal(hv_hyperv_vp_set(p, 0, &h, NULL, 0), 0);
}

enum { ASSIST = 0x52000, LAZY = 0x51, HIGHER = 0x71 };

static bool in_service(unsigned vector)
{
    return hv_lapic_mmio_read(vp, 0x100 + vector / 32 * 16, 4) >> (vector % 32) & 1;
}

/* What the run loop does before it delivers an interrupt. */
static int deliver(void)
{
    int vec;

    hv_lazy_eoi_check(vp);
    vec = hv_lapic_ack(vp);
    if (vec >= 0)
        hv_lazy_eoi_offer(vp, (unsigned)vec);
    return vec;
}

/* EOIs that need not be written (TLFS 10.3.5). */
static void lazy_eoi(void **state)
{
    static struct hv_vp_state s;
    static struct hv_hyperv_vp_state h;

    (void)state;
    synic_on();
    hv_lapic_fixed(vp, LAZY);
    assert_int_equal(deliver(), LAZY); /* no assist page: no offer */
    hv_lapic_eoi(vp);
    wr(0x40000073, ASSIST | 1);

    /* offered, and left out: over when somebody looks */
    hv_lapic_fixed(vp, LAZY);
    assert_int_equal(deliver(), LAZY);
    assert_int_equal(word(ASSIST), 1);
    assert_true(in_service(LAZY));
    zero(ASSIST);
    assert_false(in_service(LAZY));

    /* offered, and written all the same: the offer is gone with it */
    hv_lapic_fixed(vp, LAZY);
    assert_int_equal(deliver(), LAZY);
    wr(0x40000070, 0);
    assert_false(in_service(LAZY));
    assert_int_equal(word(ASSIST), 0);

    /* something waits that the EOI lets through: it has to be written */
    hv_lapic_fixed(vp, LAZY);
    assert_int_equal(deliver(), LAZY);
    hv_lapic_fixed(vp, LAZY);
    assert_int_equal(deliver(), -1);
    assert_int_equal(word(ASSIST), 0);
    wr(0x40000070, 0);
    assert_int_equal(deliver(), LAZY);
    assert_int_equal(word(ASSIST), 1);

    /* a second one between the look at the page and the acknowledge: both EOIs are written, in their order */
    hv_lazy_eoi_check(vp);
    hv_lapic_fixed(vp, HIGHER);
    assert_int_equal(hv_lapic_ack(vp), HIGHER);
    hv_lazy_eoi_offer(vp, HIGHER);
    assert_int_equal(word(ASSIST), 0);
    wr(0x40000070, 0);
    assert_true(in_service(LAZY) && !in_service(HIGHER));
    wr(0x40000070, 0);
    assert_false(in_service(LAZY));

    /* not for a level-triggered one */
    assert_int_equal(hv_interrupt_request(p, &(struct hv_interrupt){ .vector = LAZY, .level = 1 }), 1);
    assert_int_equal(deliver(), LAZY);
    assert_int_equal(word(ASSIST), 0);
    hv_lapic_eoi(vp);

    /* a state has no offer in it, and not the interrupt whose EOI was left out */
    for (unsigned left = 0; left < 2; left++) {
        hv_lapic_fixed(vp, LAZY);
        assert_int_equal(deliver(), LAZY);
        if (left)
            zero(ASSIST);
        assert_int_equal(hv_vp_get_state(p, 0, &s), 0);
        assert_int_equal(hv_hyperv_vp_get(p, 0, &h), 0);
        assert_int_equal(s.apic[0x100 + LAZY / 32 * 16 + LAZY % 32 / 8] >> LAZY % 8 & 1, !left);
        assert_int_equal(h.lazy_eoi, 0);
        assert_int_equal(h.assist_page[0], 0);
        if (!left)
            wr(0x40000070, 0);
        assert_false(in_service(LAZY));
    }
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(messages), T(messages_wait), T(flags), T(timers), T(hypercalls), T(shown),
                                        T(crash_msrs), T(state_round_trip), T(state_trimmed), T(state_other_tsc),
                                        T(state_to_other_tsc), T(reference_tsc), T(features), T(features_limit),
                                        T(lazy_eoi), T(idle_ends), T(idle_canceled) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
