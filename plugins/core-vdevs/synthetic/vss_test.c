/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the backup service. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void expect(unsigned op, uint32_t status)
{
    assert_true(take());
    assert_int_equal(wire_get(msg + M_TYPE, 2), 5);
    assert_int_equal(msg[M_BODY], op);
    answer_with(status);
}

static void test_freeze(void **state)
{
    (void)state;
    assert_int_equal(cmd("freeze", ""), -ENOTCONN);
    connect_ic(0x50000);
    assert_int_equal(cmd("thaw", ""), -EALREADY);
    assert_int_equal(cmd("freeze", ""), 0);
    has("file_systems: freezing");
    expect(2, 0);
    check_state();
    expect(5, 0);
    has("file_systems: frozen");
    assert_int_equal(cmd("freeze", ""), -EALREADY);
    check_state();
    assert_int_equal(cmd("thaw", ""), 0);
    expect(6, 0);
    expect(4, 0);
    has("file_systems: thawed");
    has("freezes: 0x1");
    check_state();
}

static void test_refused(void **state)
{
    (void)state;
    connect_ic(0x50000);
    assert_int_equal(cmd("freeze", ""), 0);
    expect(2, 0x80004005);
    has("file_systems: thawed");
    has("last_result: failed");
    assert_int_equal(cmd("freeze", ""), 0);
    expect(2, 0);
    expect(5, 0x80004005);
    has("file_systems: thawed");
    assert_false(take());
}

static void test_limit(void **state)
{
    (void)state;
    connect_ic(0x50000);
    assert_int_equal(cmd("freeze", ""), 0);
    expect(2, 0);
    expect(5, 0);
    mobo_fake_step(f, 59000000000);
    assert_false(take());
    mobo_fake_step(f, 2000000000);
    expect(6, 0);
    has("file_systems: thawed");
}

static void test_thaw_at_once(void **state)
{
    (void)state;
    connect_ic(0x50000);
    assert_int_equal(cmd("freeze", ""), 0);
    expect(2, 0);
    assert_int_equal(cmd("thaw", ""), 0);
    expect(5, 0);
    expect(6, 0);
    has("file_systems: thawed");
    assert_int_equal(cmd("melt", ""), -ENOSYS);
    check_refused(1, 0, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_freeze), T(test_refused), T(test_limit),
                                        T(test_thaw_at_once) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
