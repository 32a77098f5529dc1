/* SPDX-License-Identifier: MIT */
/* Unit test of the template device, on a host in memory. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void test_register(void **state)
{
    (void)state;
    assert_int_equal(in(0x5000), 0x55);
    out(0x5000, 0xa7);
    assert_int_equal(in(0x5000), 0xa7);
    check_state();
    mobo_fake_reset(f);
    assert_int_equal(in(0x5000), 0x55);
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_register) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
