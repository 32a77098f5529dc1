/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of dynamic memory.  The fake board has 16 MiB: 4096 pages. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

static int setup(void **state)
{
    static const char *const params[] = { "minimum=4M", NULL };

    (void)state;
    return plug(params);
}

static uint8_t m[4096];
static uint64_t most_pages = 4096;

static void say(unsigned type, uint32_t len)
{
    wire_put(m, type, 2);
    wire_put(m + 2, len, 2);
    wire_put(m + 4, 55, 4);
    send_msg(m, len);
    memset(m, 0, sizeof(m));
}

static void hello(void)
{
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    wire_put(m + 8, 0x30000, 4);
    say(1, 16);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 2);
    assert_int_equal(wire_get(msg + 8, 8), 0);
    wire_put(m + 8, 0x20000, 4);
    say(1, 16);
    assert_true(take());
    assert_int_equal(wire_get(msg + 4, 4), 55);
    assert_int_equal(wire_get(msg + 8, 8), 1);
    wire_put(m + 8, 3, 8);
    say(3, 32);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 4);
    assert_int_equal(wire_get(msg + 8, 8), 1);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 12);
    assert_int_equal(wire_get(msg + 24, 8), most_pages);
}

static void expect_ask(uint32_t pages)
{
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 6);
    assert_int_equal(wire_get(msg + 8, 4), pages);
}

static void give(uint64_t first, uint64_t count, int more)
{
    wire_put(m + 12, 1u << 1 | (unsigned)more, 4);
    wire_put(m + 16, first | count << 40, 8);
    say(7, 24);
}

static void faulted(const char *why)
{
    const char *got = mobo_fake_vmbus_fault(dev, 0);

    assert_non_null(got);
    if (!strstr(got, why))
        fail_msg("'%s' is not '%s'", got, why);
    mobo_fake_vmbus_close(dev, 0);
    mobo_fake_reset(f);
}

static void test_take_and_give(void **state)
{
    (void)state;
    assert_int_equal(cmd("take", "1M"), -ENOTCONN);
    hello();
    mobo_fake_ram(f)[0x300000] = 7;
    assert_int_equal(cmd("take", "1M"), 0);
    expect_ask(256);
    check_state();
    give(0x300, 100, 1);
    check_state();
    give(0x500, 156, 0);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    assert_int_equal(mobo_fake_ram(f)[0x300000], 0); /* the host has it back */
    has("ballooned: 0x100000");
    check_state();
    assert_false(take());
    assert_int_equal(cmd("give", "200K"), 0);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 8);
    assert_int_equal(wire_get(msg + 8, 8), 1ull << 32); /* no more; one range */
    assert_int_equal(wire_get(msg + 16, 8), 0x300 | 50ull << 40);
    say(9, 8);
    check_state();
    assert_int_equal(cmd("give", ""), 0);
    assert_true(take());
    assert_int_equal(wire_get(msg + 16, 8), 0x332 | 50ull << 40);
    assert_int_equal(wire_get(msg + 24, 8), 0x500 | 156ull << 40);
    say(9, 8);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    has("assigned: 0x1000000");
}

static void test_short(void **state)
{
    (void)state;
    hello();
    assert_int_equal(cmd("target", "4M"), 0);
    expect_ask(3072);
    give(0x100, 10, 0); /* that is all it has */
    assert_false(take());
    has("ballooned: 0xa000");
    has("activity: idle");
    assert_int_equal(cmd("target", "3M"), -ERANGE);
    assert_int_equal(cmd("target", "17M"), -ERANGE);
    assert_int_equal(cmd("take", "x"), -EINVAL);
    assert_int_equal(cmd("take", ""), -EINVAL);
    assert_int_equal(cmd("take", "99999999999G"), -EINVAL);
    assert_int_equal(cmd("frob", ""), -ENOSYS);
}

/* Ranges of all positions and lengths against the words of the map. */
static void test_positions(void **state)
{
    static const struct { unsigned first, count; } range[] = { { 1, 1 }, { 0x40, 64 }, { 0x81, 62 }, { 0xc0, 1 }, { 0x13f, 130 }, { 0x200, 65 },
                                                               { 0x27f, 1 }, { 0x281, 255 }, { 0x800, 32 }, { 4096 - 3, 3 } };
    const unsigned n = sizeof(range) / sizeof(range[0]);

    (void)state;
    hello();
    assert_int_equal(cmd("take", "2456K"), 0);
    expect_ask(614);
    for (unsigned i = 0; i < n; i++)
        give(range[i].first, range[i].count, i < n - 1);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    check_state();
    assert_int_equal(cmd("give", ""), 0);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 8);
    assert_int_equal(wire_get(msg + 8, 8), (uint64_t)n << 32);
    for (unsigned i = 0; i < n; i++)
        assert_true(wire_get(msg + 16 + 8 * i, 8) == (range[i].first | (uint64_t)range[i].count << 40));
    say(9, 8);
    has("assigned: 0x1000000");
    /* One page of many that is there already. */
    for (unsigned at = 0x3f; at < 0x42; at++) {
        assert_int_equal(cmd("take", "4K"), 0);
        expect_ask(1);
        give(at, 1, 0);
        assert_int_equal(cmd("take", "2M"), 0);
        expect_ask(512);
        give(0, 512, 0);
        faulted("not its own");
        hello();
    }
}

static void test_many_ranges(void **state)
{
    unsigned n = 0;

    (void)state;
    hello();
    assert_int_equal(cmd("take", "3M"), 0);
    expect_ask(768);
    for (unsigned i = 0; i < 768; i++)
        give(2 * i, 1, i < 767);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    check_state();
    mobo_fake_vmbus_room(dev, 0, 1);
    assert_int_equal(cmd("give", ""), 0);
    check_state();
    mobo_fake_vmbus_room(dev, 0, 10);
    mobo_fake_vmbus_signal(dev, 0);
    while (take()) {
        n += (unsigned)wire_get(msg + 12, 4);
        assert_int_equal(wire_get(msg + 8, 4), n < 768);
    }
    assert_int_equal(n, 768);
    say(9, 8);
    has("activity: idle");
}

/* 256 MiB more on top of 16 MiB, in blocks of 128 MiB at 4 GiB. */
static int setup_hot(void **state)
{
    static const char *const params[] = { "minimum=4M", "maximum=300M", NULL };

    (void)state;
    return plug(params);
}

static void say_added(uint64_t pages)
{
    wire_put(m + 8, pages, 4);
    wire_put(m + 12, pages != 0, 4);
    say(11, 16);
}

static void test_hot_add(void **state)
{
    (void)state;
    most_pages = 4096 + 65536;
    hello();
    has("maximum: 0x11000000");
    assert_int_equal(cmd("target", "273M"), -ERANGE);
    assert_int_equal(cmd("target", "100M"), 0); /* a block, and 44 MiB of it back */
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 10);
    assert_int_equal(msg_len, 16);
    assert_int_equal(wire_get(msg + 8, 8), 1ull << 20 | 32768ull << 40);
    assert_int_equal(mobo_fake_plugged(f), 128 << 20);
    has("activity: adding");
    check_state();
    say_added(32768);
    has("added: 0x8000000");
    expect_ask(44 * 256);
    give((1 << 20) + 100, 44 * 256, 0);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    has("assigned: 0x6400000");
    check_state();
    /* all: first what is in the balloon, then the other block; the guest takes a part of it and no more */
    assert_int_equal(cmd("target", "272M"), 0);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 8);
    say(9, 8);
    assert_true(take());
    assert_int_equal(wire_get(msg, 2), 10);
    assert_int_equal(wire_get(msg + 8, 8), ((1ull << 20) + 32768) | 32768ull << 40);
    assert_int_equal(mobo_fake_plugged(f), 256 << 20);
    say_added(0);
    assert_int_equal(mobo_fake_plugged(f), 128 << 20);
    assert_false(take());
    has("target: 0x9000000");
    /* the driver goes and comes: its memory stays; a reset takes it away */
    mobo_fake_vmbus_close(dev, 0);
    hello();
    has("assigned: 0x9000000");
    assert_int_equal(mobo_fake_plugged(f), 128 << 20);
    mobo_fake_reset(f);
    assert_int_equal(mobo_fake_plugged(f), 0);
    has("assigned: 0x1000000");
    /* hostile */
    hello();
    say_added(1);
    faulted("nobody offered");
    hello();
    assert_int_equal(cmd("target", "20M"), 0);
    say_added(32769);
    faulted("more memory than offered");
    hello();
    assert_int_equal(cmd("take", "1M"), 0);
    give(1 << 20, 1, 0); /* not added yet */
    faulted("not its own");
    most_pages = 4096;
}

static void test_status(void **state)
{
    (void)state;
    hello();
    wire_put(m + 8, 1000, 8);
    wire_put(m + 16, 2048, 8);
    say(5, 48);
    has("guest_available: 0x3e8000");
    has("pressure_percent: 0x32");
    check_state();
}

/* One line for all errors of a channel. */
static void test_errors(void **state)
{
    (void)state;
    for (unsigned opened = 1; opened < 3; opened++) {
        hello();
        for (unsigned i = 0; i < 5; i++)
            say(0, 8);
        assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), opened);
        has("reported_errors: 0x5");
        check_state();
        mobo_fake_vmbus_close(dev, 0);
    }
}

static void test_hostile(void **state)
{
    static const struct {
        uint64_t first, count;
        const char *why;
    } bad[] = {
        { 4096, 1, "not its own" },        { 4095, 2, "not its own" },
        { 0xffffffffffull, 1, "not its own" }, { 0, 257, "more pages" },
        { 10, 0, "not its own" },
    };

    (void)state;
    hello();
    give(1, 1, 0);
    faulted("nobody asked");
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        hello();
        assert_int_equal(cmd("take", "1M"), 0);
        expect_ask(256);
        give(bad[i].first, bad[i].count, 0);
        faulted(bad[i].why);
    }
    hello();
    assert_int_equal(cmd("take", "1M"), 0);
    give(1, 5, 1);
    give(3, 1, 1); /* twice the same page */
    faulted("not its own");
    hello();
    assert_int_equal(cmd("take", "1M"), 0);
    wire_put(m + 12, 0xffffffff, 4);
    say(7, 24);
    faulted("longer than its message");
    hello();
    say(9, 8);
    faulted("did not get");
    hello();
    say(6, 16);
    faulted("only the host");
    hello();
    say(1, 16);
    faulted("later");
    hello();
    send_msg("\x05\x00\xff\xff\0\0\0\0", 8);
    faulted("wrong size");
    mobo_fake_vmbus_open(dev, 0, NULL);
    say(3, 32);
    faulted("out of order");
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_take_and_give), T(test_short), T(test_positions), T(test_many_ranges),
                                        T(test_status), T(test_errors), T(test_hostile),
                                        cmocka_unit_test_setup_teardown(test_hot_add, setup_hot, teardown) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
