/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the time service. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

enum { SYNC = 1, SAMPLE = 2 };
#define EPOCH 116444736000000000ull

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void expect(unsigned flags)
{
    assert_true(take());
    assert_int_equal(wire_get(msg + M_TYPE, 2), 4);
    assert_int_equal(wire_get(msg + M_BODY + 8, 8), mobo_fake_now(f) / 100);
    assert_int_equal(msg[M_BODY + 16], flags);
    answer_with(0);
}

static void test_samples(void **state)
{
    (void)state;
    mobo_fake_wall(f, 1000000000ll * 1000);
    mobo_fake_step(f, 3000000000);
    connect_ic(0x40000);
    assert_true(take());
    assert_int_equal(wire_get(msg + M_BODY, 8), EPOCH + 1003ull * 10000000);
    assert_int_equal(wire_get(msg + M_BODY + 8, 8), 30000000);
    assert_int_equal(msg[M_BODY + 16], SYNC);
    answer_with(0);
    mobo_fake_step(f, 5000000000);
    expect(SAMPLE);
    check_state();
    mobo_fake_step(f, 5000000000);
    expect(SAMPLE);
}

static void test_jump_and_pause(void **state)
{
    (void)state;
    mobo_fake_wall(f, 0);
    connect_ic(0x40000);
    expect(SYNC);
    mobo_fake_wall(f, 5000000000); /* somebody set the host's clock */
    mobo_fake_step(f, 5000000000);
    expect(SYNC);
    mobo_fake_step(f, 5000000000);
    expect(SAMPLE);
    mobo_fake_pause(f);
    mobo_fake_resume(f);
    mobo_fake_step(f, 1);
    expect(SYNC);
    assert_int_equal(cmd("sync", ""), 0);
    expect(SYNC);
    assert_int_equal(cmd("stop", ""), -ENOSYS);
}

static void test_old_version(void **state)
{
    (void)state;
    assert_int_equal(cmd("sync", ""), -ENOTCONN);
    connect_ic(0x30000);
    assert_true(take());
    assert_int_equal(wire_get(msg + M_SIZE, 2), 25);
    assert_int_equal(msg[M_BODY + 24], SYNC);
    mobo_fake_step(f, 30000000000); /* no answer: no more of them */
    assert_false(take());
    check_refused(5, 0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_samples), T(test_jump_and_pause),
                                        T(test_old_version) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
