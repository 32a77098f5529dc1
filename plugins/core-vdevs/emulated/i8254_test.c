/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the i8254 device.  A tick is 88000/105 ns. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static uint64_t tick_ns(uint64_t ticks)
{
    return (ticks * 88000 + 104) / 105;
}

/* Go to @ticks after @start. */
static void go(uint64_t start, uint64_t ticks)
{
    uint64_t at = start + tick_ns(ticks);

    if (at > mobo_fake_now(f))
        mobo_fake_step(f, at - mobo_fake_now(f));
}

static void program(unsigned ch, unsigned mode, unsigned count)
{
    out(0x43, ch << 6 | 3 << 4 | mode << 1);
    out(0x40 + ch, count & 0xff);
    out(0x40 + ch, count >> 8);
}

static unsigned latched(unsigned ch)
{
    unsigned v;

    out(0x43, ch << 6);
    v = in(0x40 + ch);
    return v | in(0x40 + ch) << 8;
}

static unsigned status(unsigned ch)
{
    out(0x43, 0xe0 | 2u << ch);
    return in(0x40 + ch);
}

static void test_direct_boot(void **state)
{
    unsigned before = mobo_fake_edges(f, 0);

    (void)state;
    assert_int_equal(in(0x61) & 0x0f, 0);
    mobo_fake_step(f, 1000000000);
    assert_in_range(mobo_fake_edges(f, 0) - before, 18, 19);
    assert_int_equal(in(0x43), 0xff);
    assert_non_null(mobo_fake_acpi(f, MOBO_ACPI_ISA, 0));
}

/* Firmware boots find an unprogrammed chip. */
static void test_power_on(void **state)
{
    struct mobo_board_info info = { .size = sizeof(info), .vps = 1, .generation = 1 };

    (void)state;
    mobo_fake_destroy(f);
    f = mobo_fake_create();
    mobo_fake_board(f, &info);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "pit", NULL);
    assert_int_equal(mobo_fake_next_timer(f), UINT64_MAX);
    assert_int_equal(status(0) & 0x40, 0x40); /* null count */
}

static void test_mode0(void **state)
{
    uint64_t t0;

    (void)state;
    program(0, 0, 1000);
    t0 = mobo_fake_now(f);
    assert_int_equal(mobo_fake_line(f, 0), 0);
    assert_int_equal(status(0), 0x30);
    go(t0, 501);
    assert_int_equal(latched(0), 500);
    go(t0, 1000);
    assert_int_equal(mobo_fake_line(f, 0), 0);
    go(t0, 1002);
    assert_int_equal(mobo_fake_line(f, 0), 1);
    assert_int_equal(status(0), 0xb0);
    go(t0, 1011);
    assert_int_equal(latched(0), 0x10000 - 10); /* it counts on */
    assert_int_equal(mobo_fake_next_timer(f), UINT64_MAX);
    /* a new count starts it again; the first byte already lowers the output */
    out(0x40, 0x10);
    assert_int_equal(mobo_fake_line(f, 0), 0);
}

static void test_mode2(void **state)
{
    unsigned n;
    uint64_t t0;

    (void)state;
    program(0, 2, 11932); /* 100 Hz, as Linux */
    t0 = mobo_fake_now(f);
    n = mobo_fake_edges(f, 0);
    mobo_fake_step(f, 10000000000);
    assert_in_range(mobo_fake_edges(f, 0) - n, 999, 1000);
    go(t0, 11932 * 1001 + 1 + 932);
    assert_int_equal(latched(0), 11000);
}

static void test_mode3(void **state)
{
    uint64_t t0;

    (void)state;
    program(2, 3, 1000);
    out(0x61, 1);
    t0 = mobo_fake_now(f);
    go(t0, 101);
    assert_int_equal(latched(2), 800); /* by two */
    assert_int_equal(in(0x61) & 0x20, 0x20);
    go(t0, 502);
    assert_int_equal(in(0x61) & 0x20, 0);
    assert_in_range(latched(2), 996, 1000);
    /* odd: one tick longer high than low */
    program(2, 3, 5);
    t0 = mobo_fake_now(f);
    go(t0, 3);
    assert_int_equal(in(0x61) & 0x20, 0x20);
    go(t0, 5);
    assert_int_equal(in(0x61) & 0x20, 0);
    go(t0, 7);
    assert_int_equal(in(0x61) & 0x20, 0x20);
}

static void test_mode1_and_5_trigger(void **state)
{
    uint64_t t0;

    (void)state;
    out(0x61, 0);
    program(2, 1, 100);
    assert_int_equal(in(0x61) & 0x20, 0x20);
    mobo_fake_step(f, 1000000);
    assert_int_equal(in(0x61) & 0x20, 0x20);
    out(0x61, 1); /* the trigger */
    t0 = mobo_fake_now(f);
    go(t0, 50);
    assert_int_equal(in(0x61) & 0x20, 0);
    out(0x61, 0); /* low again: no effect */
    go(t0, 90);
    assert_int_equal(in(0x61) & 0x20, 0);
    go(t0, 102);
    assert_int_equal(in(0x61) & 0x20, 0x20);
    program(2, 5, 100);
    out(0x61, 1);
    t0 = mobo_fake_now(f);
    go(t0, 101);
    assert_int_equal(in(0x61) & 0x20, 0);
    go(t0, 103);
    assert_int_equal(in(0x61) & 0x20, 0x20);
}

static void test_mode4(void **state)
{
    unsigned n;
    uint64_t t0;

    (void)state;
    program(0, 4, 100);
    t0 = mobo_fake_now(f);
    n = mobo_fake_edges(f, 0);
    assert_int_equal(mobo_fake_line(f, 0), 1);
    go(t0, 90);
    assert_int_equal(mobo_fake_edges(f, 0), n);
    go(t0, 103);
    assert_int_equal(mobo_fake_edges(f, 0), n + 1);
    go(t0, 70000);
    assert_int_equal(mobo_fake_edges(f, 0), n + 1);
}

static void test_gate(void **state)
{
    uint64_t t0;
    unsigned v;

    (void)state;
    out(0x61, 1);
    program(2, 0, 1000);
    t0 = mobo_fake_now(f);
    go(t0, 101);
    out(0x61, 0);
    v = latched(2);
    assert_int_equal(v, 900);
    mobo_fake_step(f, 1000000);
    assert_int_equal(latched(2), v);
    out(0x61, 1);
    t0 = mobo_fake_now(f);
    go(t0, 100);
    assert_in_range(latched(2), 799, 801);
    /* modes 2 and 3 start anew */
    program(2, 2, 1000);
    out(0x61, 0);
    assert_int_equal(in(0x61) & 0x20, 0x20);
    out(0x61, 1);
    t0 = mobo_fake_now(f);
    go(t0, 11);
    assert_int_equal(latched(2), 990);
}

/* pit_calibrate_tsc() of Linux: 50 ms of mode 0 on channel 2, polled through port 0x61. */
static void test_calibration(void **state)
{
    uint64_t t0;

    (void)state;
    out(0x61, (in(0x61) & ~2u) | 1);
    out(0x43, 0xb0);
    out(0x42, 59659 & 0xff);
    out(0x42, 59659 >> 8);
    t0 = mobo_fake_now(f);
    while (!(in(0x61) & 0x20))
        mobo_fake_step(f, 1000);
    assert_in_range(mobo_fake_now(f) - t0, 49999000, 50003000);
}

/* quick_pit_calibrate(): both bytes read unlatched, high bytes count down in order. */
static void test_unlatched_read(void **state)
{
    uint64_t t0;

    (void)state;
    out(0x61, 1);
    out(0x43, 0xb0);
    out(0x42, 0xff);
    out(0x42, 0xff);
    t0 = mobo_fake_now(f);
    for (unsigned i = 0; i < 20; i++) {
        go(t0, 1 + 256 * i + 128);
        in(0x42);
        assert_int_equal(in(0x42), 0xff - i);
    }
}

static void test_bcd(void **state)
{
    uint64_t t0;

    (void)state;
    out(0x61, 1);
    out(0x43, 0xb1); /* mode 0, BCD */
    out(0x42, 0x00);
    out(0x42, 0x10);
    t0 = mobo_fake_now(f);
    go(t0, 2);
    assert_int_equal(latched(2), 0x0999);
    go(t0, 1002);
    assert_int_equal(latched(2), 0x9999);
    assert_int_equal(status(2), 0xb1);
}

static void test_single_bytes(void **state)
{
    uint64_t t0;

    (void)state;
    out(0x61, 1);
    out(0x43, 0x90); /* low byte only */
    out(0x42, 200);
    t0 = mobo_fake_now(f);
    go(t0, 101);
    assert_int_equal(in(0x42), 100);
    out(0x43, 0xa0); /* high byte only */
    out(0x42, 2);
    t0 = mobo_fake_now(f);
    go(t0, 257);
    assert_int_equal(in(0x42), 1);
}

static void test_latches(void **state)
{
    uint64_t t0;

    (void)state;
    out(0x61, 1);
    program(2, 0, 5000);
    t0 = mobo_fake_now(f);
    go(t0, 1001);
    out(0x43, 0x80);
    go(t0, 2001);
    out(0x43, 0x80); /* ignored: the first latch has not been read */
    assert_int_equal(in(0x42) | in(0x42) << 8, 4000);
    assert_int_equal(in(0x42) | in(0x42) << 8, 3000); /* live again */
    out(0x43, 0xc8);                                  /* read-back of count and status */
    go(t0, 3001);
    assert_int_equal(in(0x42), 0x30);
    assert_int_equal(in(0x42) | in(0x42) << 8, 3000);
    /* of two channels at once */
    out(0x43, 0xec);
    assert_int_equal(in(0x42), 0x30);
    assert_int_equal(in(0x41) & 0x3f, 0x14);
}

/* A count that is written while modes 2 and 3 run comes into force at the end of the cycle. */
static void test_new_count_waits(void **state)
{
    uint64_t t0;
    unsigned n;

    (void)state;
    program(0, 2, 1000);
    t0 = mobo_fake_now(f);
    go(t0, 101);
    out(0x40, 2000 & 0xff);
    out(0x40, 2000 >> 8);
    assert_int_equal(status(0) & 0x40, 0x40);
    assert_int_equal(latched(0), 900);
    n = mobo_fake_edges(f, 0);
    go(t0, 1003);
    assert_int_equal(mobo_fake_edges(f, 0), n + 1);
    assert_int_equal(status(0) & 0x40, 0);
    go(t0, 1101);
    assert_int_equal(latched(0), 1900);
    go(t0, 2900);
    assert_int_equal(mobo_fake_edges(f, 0), n + 1);
    go(t0, 3003);
    assert_int_equal(mobo_fake_edges(f, 0), n + 2);
}

/* In mode 3 at the end of the half cycle: no edge of the old count follows. */
static void test_new_count_waits_half(void **state)
{
    uint64_t t0;
    unsigned n;

    (void)state;
    program(0, 3, 0);
    t0 = mobo_fake_now(f);
    n = mobo_fake_edges(f, 0);
    go(t0, 1000);
    out(0x40, 1193 & 0xff);
    out(0x40, 1193 >> 8);
    check_state();
    go(t0, 32768 + 500);
    assert_int_equal(mobo_fake_edges(f, 0), n);
    go(t0, 32768 + 700);
    assert_int_equal(mobo_fake_edges(f, 0), n + 1);
    go(t0, 32768 + 3 * 1193);
    assert_int_equal(mobo_fake_edges(f, 0), n + 3);
}

/* A guest may ask for more than a host can deliver; it must not drown in timers. */
static void test_fast_counts(void **state)
{
    unsigned n = mobo_fake_edges(f, 0);

    (void)state;
    program(0, 2, 2);
    mobo_fake_step(f, 100000000);
    assert_in_range(mobo_fake_edges(f, 0) - n, 1000, 10002);
    program(0, 2, 1); /* not a count; taken as 2 */
    mobo_fake_step(f, 1000000);
    assert_true(latched(0) <= 2);
}

static void test_refresh_toggles(void **state)
{
    unsigned changes = 0, last = in(0x61) & 0x10;

    (void)state;
    for (unsigned i = 0; i < 1000; i++) {
        mobo_fake_step(f, 1000);
        changes += (in(0x61) & 0x10) != last;
        last = in(0x61) & 0x10;
    }
    assert_in_range(changes, 64, 68); /* every 15.1 us */
}

static void test_port61_masks(void **state)
{
    (void)state;
    out(0x61, 0xff);
    assert_int_equal(in(0x61) & 0xcf, 0x0f);
}

static void test_state(void **state)
{
    uint64_t t0;

    (void)state;
    program(0, 2, 5000);
    out(0x61, 1);
    program(2, 3, 777);
    t0 = mobo_fake_now(f);
    go(t0, 1001);
    out(0x40, 1);
    out(0x43, 0xc8);
    check_state();
    assert_int_equal(in(0x42) & 0x3f, 0x36);
    assert_true(mobo_fake_next_timer(f) <= t0 + tick_ns(5001));
    check_refused(32 + 0, 0, 6);
    check_refused(32 + 2, 0, 0);
    check_refused(32 + 16, 3, 0xff);
    check_refused(96 + 17, 7, 0xff);
    check_refused(2, 3, 1);
}

/* The count of a mode that takes 1 is still there when another has been chosen. */
static void test_state_between_modes(void **state)
{
    (void)state;
    program(0, 0, 1);
    out(0x43, 0x34);
    check_state();
    out(0x40, 5000 & 0xff);
    out(0x40, 5000 >> 8);
    check_state();
    mobo_fake_step(f, tick_ns(1001));
    assert_int_equal(latched(0), 4000);
}

/* Almost four years. */
static void test_state_after_long(void **state)
{
    (void)state;
    program(0, 0, 1000); /* nothing is due meanwhile */
    mobo_fake_step(f, UINT64_C(1400) * 86400 * 1000000000);
    mobo_fake_reset(f);
    check_state();
}

static void test_monkey(void **state)
{
    (void)state;
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_direct_boot),  T(test_power_on),
        T(test_mode0),        T(test_mode2),
        T(test_mode3),        T(test_mode1_and_5_trigger),
        T(test_mode4),        T(test_gate),
        T(test_calibration),  T(test_unlatched_read),
        T(test_bcd),          T(test_single_bytes),
        T(test_latches),      T(test_new_count_waits),
        T(test_new_count_waits_half),
        T(test_fast_counts),  T(test_refresh_toggles),
        T(test_port61_masks), T(test_state),
        T(test_state_between_modes), T(test_state_after_long),
        T(test_monkey),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
