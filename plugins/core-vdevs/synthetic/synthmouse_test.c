/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the synthetic mouse. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void say(unsigned type, uint32_t val)
{
    uint8_t m[24] = { 1, 0, 0, 0, 12 };

    wire_put(m + 8, type, 4);
    wire_put(m + 16, val, 4);
    send_msg(m, 24);
}

static void hello(void)
{
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    say(0, 0x20000);
    assert_true(take());
    assert_int_equal(wire_get(msg, 4), 1);
    assert_int_equal(wire_get(msg + 8, 4), 1);
    assert_int_equal(msg[20], 1);
    assert_true(take());
    assert_int_equal(wire_get(msg + 8, 4), 2);
    assert_int_equal(wire_get(msg + 4, 4), 8 + wire_get(msg + 12, 4));
    assert_int_equal(msg[48], 9); /* HID descriptor, then the report descriptor to the end */
    assert_int_equal(wire_get(msg + 55, 2), wire_get(msg + 12, 4) - 32 - 9);
    assert_int_equal(wire_get(msg + 57, 4), 0x02090105);
    say(3, 0);
}

static void report(unsigned buttons, unsigned x, unsigned y, int wheel, int pan)
{
    assert_true(take());
    assert_int_equal(wire_get(msg + 8, 4), 4);
    assert_int_equal(wire_get(msg + 12, 4), 7);
    assert_int_equal(msg[16], buttons);
    assert_int_equal(wire_get(msg + 17, 2), x);
    assert_int_equal(wire_get(msg + 19, 2), y);
    assert_int_equal((int8_t)msg[21], wheel);
    assert_int_equal((int8_t)msg[22], pan);
}

static void test_reports(void **state)
{
    (void)state;
    assert_int_equal(cmd("move", "1 2"), -ENOTCONN);
    hello();
    assert_int_equal(cmd("move", "100 32767"), 0);
    report(0, 100, 32767, 0, 0);
    mobo_fake_step(f, 20000000);
    assert_int_equal(cmd("click", "right"), 0);
    report(2, 100, 32767, 0, 0);
    report(0, 100, 32767, 0, 0);
    mobo_fake_step(f, 20000000);
    assert_int_equal(cmd("down", ""), 0);
    report(1, 100, 32767, 0, 0);
    mobo_fake_step(f, 20000000);
    check_state();
    assert_int_equal(cmd("wheel", "-3"), 0);
    mobo_fake_step(f, 20000000);
    report(1, 100, 32767, -3, 0);
    assert_int_equal(cmd("pan", "5"), 0);
    mobo_fake_step(f, 20000000);
    report(1, 100, 32767, 0, 5);
    assert_int_equal(cmd("up", "left"), 0);
    mobo_fake_step(f, 20000000);
    report(0, 100, 32767, 0, 0);
    assert_false(take());
    assert_int_equal(cmd("move", "1"), -EINVAL);
    assert_int_equal(cmd("move", "1 32768"), -EINVAL);
    assert_int_equal(cmd("wheel", "many"), -EINVAL);
    assert_int_equal(cmd("click", "third"), -EINVAL);
    assert_int_equal(cmd("jump", ""), -ENOSYS);
}

static void test_full(void **state)
{
    int err = 0;

    (void)state;
    hello();
    mobo_fake_vmbus_room(dev, 0, 0);
    for (unsigned i = 0; i < 300 && !err; i++)
        err = cmd("click", "");
    assert_int_equal(err, -EAGAIN);
    check_state();
    check_refused(3, 1, 0xff);
}

static void test_hostile(void **state)
{
    (void)state;
    mobo_fake_vmbus_open(dev, 0, NULL);
    say(3, 0);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    mobo_fake_vmbus_close(dev, 0);
    mobo_fake_vmbus_open(dev, 0, NULL);
    say(0, 0x30000);
    assert_true(take());
    assert_int_equal(msg[20], 0);
    assert_false(take());
    say(77, 0);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_reports), T(test_full), T(test_hostile) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
