/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the synthetic keyboard. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void hello(uint32_t version)
{
    uint8_t m[8];

    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    wire_put(m, 1, 4);
    wire_put(m + 4, version, 4);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_INBAND, MOBO_VMBUS_WANTS_COMPLETION, 7, NULL, 0, m, 8);
    assert_true(take());
    assert_int_equal(wire_get(msg, 4), 2);
    assert_int_equal(wire_get(msg + 4, 4), version == 0x10000);
}

/* All keys that come, one code each: scan code, 0x80 released, 0x100 E0. */
static unsigned keys(uint16_t *ret, unsigned max)
{
    unsigned n = 0;

    for (unsigned i = 0; i < 1000; i++) {
        while (take()) {
            uint32_t info = (uint32_t)wire_get(msg + 8, 4);

            assert_int_equal(wire_get(msg, 4), 3);
            assert_true(n < max);
            ret[n++] = (uint16_t)(wire_get(msg + 4, 2) | (info & 2 ? 0x80 : 0) |
                                  (info & 4 ? 0x100 : 0));
        }
        mobo_fake_step(f, 10000000);
    }
    return n;
}

static void test_type(void **state)
{
    static const uint16_t want[] = { 0x2a, 0x1e, 0x9e, 0xaa, 0x30, 0xb0, 0x2a, 2, 0x82, 0xaa, 0x1c,
                                     0x9c };
    uint16_t got[64];

    (void)state;
    assert_int_equal(cmd("type", "x"), -ENOTCONN);
    hello(0x10000);
    assert_int_equal(cmd("type", "Ab!\n"), 0);
    check_state();
    assert_int_equal(keys(got, 64), 12);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(cmd("type", "\x01"), -EINVAL);
    has("keys_sent: 0xc");
}

static void test_chords(void **state)
{
    static const uint16_t want[] = { 0x1d, 0x38, 0x153, 0x1d3, 0xb8, 0x9d, 0x2a, 0xaa };
    uint16_t got[64];

    (void)state;
    hello(0x10000);
    assert_int_equal(cmd("key", "ctrl+alt+delete"), 0);
    assert_int_equal(cmd("down", "shift"), 0);
    assert_int_equal(cmd("up", "shift"), 0);
    assert_int_equal(keys(got, 64), 8);
    assert_memory_equal(got, want, sizeof(want));
    assert_int_equal(cmd("key", "nokey"), -EINVAL);
    assert_int_equal(cmd("key", ""), -EINVAL);
    assert_int_equal(cmd("frob", ""), -ENOSYS);
}

static void test_full(void **state)
{
    static uint16_t got[4096];
    char text[600];

    (void)state;
    hello(0x10000);
    memset(text, 'a', sizeof(text));
    text[513] = 0;
    assert_int_equal(cmd("type", text), -E2BIG);
    text[500] = 0;
    mobo_fake_vmbus_room(dev, 0, 0);
    assert_int_equal(cmd("type", text), 0);
    assert_int_equal(cmd("type", text), -EAGAIN);
    check_state();
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    mobo_fake_vmbus_signal(dev, 0);
    assert_int_equal(keys(got, 4096), 1000);
}

static void test_hostile(void **state)
{
    uint8_t m[8] = { 9 };

    (void)state;
    hello(0x20000);
    assert_int_equal(cmd("type", "x"), -ENOTCONN);
    send_msg(m, 8);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    mobo_fake_vmbus_close(dev, 0);
    hello(0x10000);
    m[0] = 4;
    m[4] = 7;
    send_msg(m, 8);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    has("leds: 0x7");
    check_state();
    check_refused(3, 0, 8);
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_type), T(test_chords), T(test_full),
                                        T(test_hostile) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
