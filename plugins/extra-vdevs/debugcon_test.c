/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the debugcon device. */
#include "plugins/test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void test_output(void **state)
{
    char buf[8] = "";

    (void)state;
    assert_int_equal(in(0xe9), 0xe9);
    out(0xe9, 'o');
    out(0xe9, 'k');
    assert_int_equal(mobo_fake_char_recv(dev, 0, buf, sizeof(buf)), 2);
    assert_memory_equal(buf, "ok", 2);
    mobo_fake_char_send(dev, 0, "ignored", 7);
}

static void test_back_pressure(void **state)
{
    static char buf[8192];
    char *text;

    (void)state;
    mobo_fake_char_room(dev, 0, 0);
    for (int i = 0; i < 5000; i++)
        out(0xe9, 'a' + (uint32_t)i % 26);
    check_state();
    mobo_fake_char_room(dev, 0, 1000);
    mobo_fake_char_room(dev, 0, 0);
    mobo_fake_char_room(dev, 0, UINT32_MAX);
    assert_int_equal(mobo_fake_char_recv(dev, 0, buf, sizeof(buf)), 4096);
    for (int i = 0; i < 4096; i++)
        assert_int_equal(buf[i], 'a' + i % 26);
    text = mobo_fake_inspect(dev);
    assert_non_null(strstr(text, "lost: 0x388")); /* 904, and said so */
    free(text);
}

static void test_state(void **state)
{
    (void)state;
    check_state();
    check_refused(2, 0, 1);
    check_monkey();
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_output), T(test_back_pressure), T(test_state) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
