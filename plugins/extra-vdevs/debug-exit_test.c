/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the debug-exit device. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void expect_exit(uint32_t status)
{
    uint32_t code = 0;

    assert_int_equal(mobo_fake_system(f, &code), MOBO_SYS_EXIT);
    assert_int_equal(code, status);
}

static void test_exit(void **state)
{
    (void)state;
    out(0xf4, 0);
    expect_exit(1);
    out(0xf4, 0x10);
    expect_exit(0x21);
    mobo_fake_out(f, 0xf4, 2, 0x003f);
    expect_exit(0x7f);
    mobo_fake_out(f, 0xf4, 4, 3);
    expect_exit(7);
    assert_int_equal(mobo_fake_in(f, 0xf4, 4), 0);
}

static void test_params(void **state)
{
    const char *narrow[] = { "port=0x501", "width=1", NULL };
    const char *bad[] = { "port=0x600", "width=3", NULL };

    (void)state;
    assert_non_null(mobo_fake_add(f, &mobo_vdev_descriptor, "narrow", narrow));
    assert_int_equal(in(0x502), 0xff);
    out(0x501, 2);
    expect_exit(5);
    assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "bad", bad));
    assert_string_equal(mobo_fake_error(f), "width: 3 is not 1, 2 or 4");
}

static void test_state(void **state)
{
    (void)state;
    check_state();
    check_refused(1, 0, 2);
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_exit), T(test_params), T(test_state) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
