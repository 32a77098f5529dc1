/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the key-value service. */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

enum { B_OP = M_BODY, B_POOL = M_BODY + 1, B_VALUE = M_BODY + 4 };

static int setup(void **state)
{
    static const char *const params[] = { "values=Color=blue, Size=10", "host-name=tower", NULL };

    (void)state;
    return plug(params);
}

static void put_text(uint8_t *at, const char *text)
{
    do
        wire_put(at, (uint8_t)*text, 2), at += 2;
    while (*text++);
}

static int is_text(const uint8_t *at, const char *text)
{
    do
        if (wire_get(at, 2) != (uint8_t)*text)
            return 0;
        else
            at += 2;
    while (*text++);
    return 1;
}

static void answer_set(unsigned pool, const char *key, const char *value, uint32_t status)
{
    assert_true(take());
    assert_int_equal(msg[B_OP], 1);
    assert_int_equal(msg[B_POOL], pool);
    assert_int_equal(wire_get(msg + B_VALUE, 4), 1);
    assert_int_equal(wire_get(msg + B_VALUE + 4, 4), 2 * strlen(key) + 2);
    assert_int_equal(wire_get(msg + B_VALUE + 8, 4), 2 * strlen(value) + 2);
    assert_true(is_text(msg + B_VALUE + 12, key));
    assert_true(is_text(msg + B_VALUE + 524, value));
    answer_with(status);
}

static void expect_set(unsigned pool, const char *key, const char *value)
{
    answer_set(pool, key, value, 0);
}

static void expect_enumerate(unsigned pool, unsigned index, const char *key, const char *value)
{
    assert_true(take());
    assert_int_equal(msg[B_OP], 3);
    assert_int_equal(msg[B_POOL], pool);
    assert_int_equal(wire_get(msg + B_VALUE, 4), index);
    if (key) {
        wire_put(msg + B_VALUE + 4, 1, 4);
        wire_put(msg + B_VALUE + 8, 2 * strlen(key) + 2, 4);
        wire_put(msg + B_VALUE + 12, 2 * strlen(value) + 2, 4);
        put_text(msg + B_VALUE + 16, key);
        put_text(msg + B_VALUE + 528, value);
    }
    answer_with(key ? 0 : 0x80070103);
}

static void start(void)
{
    connect_ic(0x40000);
    expect_set(0, "Color", "blue");
    expect_set(0, "Size", "10");
    expect_set(3, "HostName", "tower");
    expect_enumerate(2, 0, "OSName", "Linux");
    expect_enumerate(2, 1, "OSVersion", "6.1");
    expect_enumerate(2, 2, NULL, NULL);
    expect_enumerate(1, 0, "mine", "yes");
    expect_enumerate(1, 1, NULL, NULL);
    assert_false(take());
}

static void test_start(void **state)
{
    (void)state;
    start();
    has("OSName: Linux");
    has("OSVersion: 6.1");
    has("mine: yes");
    check_state();
}

static void test_again(void **state)
{
    (void)state;
    start();
    mobo_fake_step(f, 60000000000);
    expect_enumerate(2, 0, "OSName", "Plan9");
    check_state(); /* a restore forgets what the guest told: from the beginning */
    expect_enumerate(2, 1, NULL, NULL);
    expect_enumerate(2, 0, "OSName", "Plan9");
    expect_enumerate(2, 1, NULL, NULL);
    expect_enumerate(1, 0, NULL, NULL);
    has("OSName: Plan9");
    assert_false(take());
}

/* Values that the guest refuses are sent again when its pools are read, until it takes them all. */
static void test_refused(void **state)
{
    static const uint32_t fail = 0x80004005; /* HV_E_FAIL */
    unsigned lines;

    (void)state;
    lines = mobo_fake_logged(f, MOBO_INFO);
    connect_ic(0x40000);
    answer_set(0, "Color", "blue", fail);
    answer_set(0, "Size", "10", fail);
    answer_set(3, "HostName", "tower", fail);
    expect_enumerate(2, 0, NULL, NULL);
    expect_enumerate(1, 0, NULL, NULL);
    assert_int_equal(mobo_fake_logged(f, MOBO_INFO), lines + 1);
    mobo_fake_step(f, 59000000000);
    assert_false(take());
    check_state();
    check_refused(4, 0, 2);
    mobo_fake_step(f, 1000000000);
    expect_set(0, "Color", "blue");
    check_state();
    answer_set(0, "Size", "10", fail);
    expect_set(3, "HostName", "tower");
    expect_enumerate(2, 0, NULL, NULL);
    expect_enumerate(1, 0, NULL, NULL);
    mobo_fake_step(f, 60000000000);
    expect_set(0, "Color", "blue");
    expect_set(0, "Size", "10");
    expect_set(3, "HostName", "tower");
    expect_enumerate(2, 0, NULL, NULL);
    expect_enumerate(1, 0, NULL, NULL);
    assert_int_equal(mobo_fake_logged(f, MOBO_INFO), lines + 1);
    /* all taken: no more; what a person commands is not sent again */
    assert_int_equal(cmd("set", "external Motto none"), 0);
    answer_set(0, "Motto", "none", fail);
    has("last_command: set Motto: failed");
    mobo_fake_step(f, 60000000000);
    expect_enumerate(2, 0, NULL, NULL);
    expect_enumerate(1, 0, NULL, NULL);
    assert_false(take());
    /* a guest that comes anew gets them in any case */
    mobo_fake_vmbus_close(dev, 0);
    start();
}

static unsigned many[2]; /* values, host-values */

/* As many values as a line has. */
static int setup_many(void **state)
{
    static char text[2][4096];
    static const char *const params[] = { text[0], text[1], "host-name=tower", NULL };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        int len = sprintf(text[i], i ? "host-values=" : "values=");

        for (many[i] = 0; len < 4080; many[i]++)
            len += sprintf(text[i] + len, "%c%u=%u, ", "AB"[i], many[i], many[i]);
        text[i][len - 2] = 0;
    }
    return plug(params);
}

static void test_many(void **state)
{
    char key[16], value[16];

    (void)state;
    connect_ic(0x40000);
    for (unsigned i = 0; i < 2; i++)
        for (unsigned n = 0; n < many[i]; n++) {
            bool command = n == 40; /* done before the rest */

            if (command) {
                check_state();
                assert_int_equal(cmd("set", "external Motto none"), 0);
            }
            sprintf(key, "%c%u", "AB"[i], n);
            sprintf(value, "%u", n);
            expect_set(i ? 3 : 0, key, value);
            if (command)
                expect_set(0, "Motto", "none");
        }
    expect_set(3, "HostName", "tower");
    expect_enumerate(2, 0, NULL, NULL);
    expect_enumerate(1, 0, NULL, NULL);
    assert_false(take());
}

static void test_commands(void **state)
{
    (void)state;
    assert_int_equal(cmd("get", "guest a"), -ENOTCONN);
    start();
    assert_int_equal(cmd("set", "external Motto a long one"), 0);
    expect_set(0, "Motto", "a long one");
    has("last_command: set Motto: ok");
    assert_int_equal(cmd("get", "guest mine"), 0);
    expect_enumerate(1, 0, "other", "1");
    expect_enumerate(1, 1, "mine", "yes");
    has("last_command: get mine: ok yes");
    assert_int_equal(cmd("get", "guest none"), 0);
    expect_enumerate(1, 0, NULL, NULL);
    has("last_command: get none: nothing there");
    assert_int_equal(cmd("delete", "external Size"), 0);
    assert_true(take());
    assert_int_equal(msg[B_OP], 2);
    assert_int_equal(wire_get(msg + B_VALUE, 4), 10);
    assert_true(is_text(msg + B_VALUE + 4, "Size"));
    answer_with(0);
    assert_int_equal(cmd("set", "nowhere a b"), -EINVAL);
    assert_int_equal(cmd("get", "guest"), -EINVAL);
    assert_int_equal(cmd("frob", "guest"), -ENOSYS);
}

static void test_addresses(void **state)
{
    (void)state;
    start();
    assert_int_equal(cmd("get-ip", "{1234}"), 0);
    assert_true(take());
    assert_int_equal(msg_len, 28 + 7428);
    assert_int_equal(msg[B_OP], 4);
    assert_true(is_text(msg + M_BODY + 2, "{1234}"));
    assert_int_equal(msg[M_BODY + 258], 1);
    put_text(msg + M_BODY + 260, "10.0.2.15");
    put_text(msg + M_BODY + 4356, "10.0.2.2");
    answer_with(0);
    has("address: 10.0.2.15");
    has("gateway: 10.0.2.2");
    assert_int_equal(cmd("set-ip", "{1234} 10.1.1.1 255.0.0.0 10.1.1.2"), 0);
    check_state();
    assert_true(take());
    assert_int_equal(msg[B_OP], 5);
    assert_int_equal(msg[M_BODY + 259], 0);
    assert_true(is_text(msg + M_BODY + 260, "10.1.1.1"));
    assert_true(is_text(msg + M_BODY + 2308, "255.0.0.0"));
    assert_true(is_text(msg + M_BODY + 4356, "10.1.1.2"));
    assert_true(is_text(msg + M_BODY + 5380, ""));
    answer_with(0);
    assert_int_equal(cmd("set-ip", "{1234} dhcp"), 0);
    assert_true(take());
    assert_int_equal(msg[M_BODY + 259], 1);
    answer_with(0x80041002);
    has("set-ip {1234}: not found");
    assert_int_equal(cmd("set-ip", "{1234}"), -EINVAL);
}

static void test_hostile(void **state)
{
    (void)state;
    connect_ic(0x40000);
    assert_true(take());
    msg_len = 40;
    wire_put(msg + 4, 32, 4);
    answer_with(0);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    mobo_fake_vmbus_close(dev, 0);
    connect_ic(0x40000);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(take());
        answer_with(0);
    }
    /* sizes far beyond, an enumeration without an end */
    for (unsigned i = 0; i < 64; i++) {
        assert_true(take());
        memset(msg + B_VALUE + 4, 0xff, 2572);
        answer_with(0);
    }
    expect_enumerate(1, 0, NULL, NULL);
    assert_false(take());
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    check_state();
}

static void test_params(void **state)
{
    static const char *const bad[] = { "values=Color", NULL };

    (void)state;
    assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "second", bad));
    assert_non_null(strstr(mobo_fake_error(f), "values: 'Color' is not KEY=VALUE"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_start),     T(test_again),
        T(test_refused),   T(test_commands),
        T(test_addresses), T(test_hostile),
        T(test_params),    cmocka_unit_test_setup_teardown(test_many, setup_many, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
