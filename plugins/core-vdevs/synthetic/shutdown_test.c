/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the shutdown service. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

static void test_requests(void **state)
{
    static const struct {
        const char *verb, *arg;
        uint32_t flags;
    } all[] = {
        { "shutdown", "", 0 },          { "shutdown", "force", 1 },
        { "reboot", "forceful text", 2 }, { "reboot", "force Now", 3 },
        { "hibernate", "", 4 },
    };

    (void)state;
    assert_int_equal(cmd("shutdown", ""), -ENOTCONN);
    connect_ic(0x30002);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(cmd(all[i].verb, all[i].arg), 0);
        assert_int_equal(cmd(all[i].verb, all[i].arg), -EBUSY);
        has("answer: none yet");
        check_state();
        assert_true(take());
        assert_int_equal(msg_len, 28 + 12 + 2048);
        assert_int_equal(wire_get(msg + M_TYPE, 2), 3);
        assert_int_equal(wire_get(msg + M_BODY + 8, 4), all[i].flags);
        answer_with(i == 4 ? 0x80004005 : 0);
        has(i == 4 ? "answer: failed" : "answer: ok");
    }
    assert_int_equal(cmd("explode", ""), -ENOSYS);
    assert_string_not_equal(mobo_fake_error(f), "");
}

static void test_text(void **state)
{
    static const char word[] = "force it";
    char text[1200];

    (void)state;
    connect_ic(0x30002);
    memset(text, 'x', sizeof(text));
    text[1024] = 0;
    assert_int_equal(cmd("shutdown", text), -E2BIG);
    text[1023] = 0;
    assert_int_equal(cmd("shutdown", text), 0);
    assert_true(take());
    answer_with(0);
    /* two bytes, three bytes, a surrogate pair, a broken byte */
    assert_int_equal(cmd("shutdown", "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80\xff"), 0);
    assert_true(take());
    assert_int_equal(wire_get(msg + M_BODY + 12, 8), 0xde00d83d20ac00e9);
    assert_int_equal(wire_get(msg + M_BODY + 20, 4), '?');
    answer_with(0);
    /* the word as text: a space comes before it */
    for (int force = 0; force < 2; force++) {
        assert_int_equal(cmd("shutdown", force ? "force force it" : " force it"), 0);
        assert_true(take());
        assert_int_equal(wire_get(msg + M_BODY + 8, 4), force);
        for (unsigned i = 0; i < sizeof(word); i++)
            assert_int_equal(wire_get(msg + M_BODY + 12 + 2 * i, 2), word[i]);
        answer_with(0);
    }
}

static void test_old_guest(void **state)
{
    (void)state;
    connect_ic(0x10000);
    assert_int_equal(cmd("hibernate", ""), -EOPNOTSUPP);
    assert_int_equal(cmd("reboot", ""), 0);
    check_refused(3, 0, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = { T(test_requests), T(test_text), T(test_old_guest) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
