/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the file copy service. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"

enum { LEN = 2 * 6144 + 100 };
static char path[64];
static uint8_t content[LEN];

static int setup(void **state)
{
    FILE *file;

    (void)state;
    snprintf(path, sizeof(path), "/tmp/mobo-fcopy-%ld", (long)getpid());
    for (unsigned i = 0; i < LEN; i++)
        content[i] = (uint8_t)(i * 7 + i / 256);
    file = fopen(path, "wb");
    if (!file || fwrite(content, 1, LEN, file) != LEN || fclose(file))
        return -1;
    return plug(NULL);
}

static int cleanup(void **state)
{
    unlink(path);
    return teardown(state);
}

static int copy(const char *rest)
{
    char arg[256];

    snprintf(arg, sizeof(arg), "%s %s", path, rest);
    return cmd("copy", arg);
}

static void expect(unsigned op)
{
    assert_true(take());
    assert_int_equal(wire_get(msg + M_TYPE, 2), 7);
    assert_int_equal(wire_get(msg + M_BODY, 4), op);
}

static void test_copy(void **state)
{
    uint8_t got[LEN];
    uint32_t off = 0;

    (void)state;
    assert_int_equal(copy("/tmp/x"), -ENOTCONN);
    connect_ic(0x10001);
    assert_int_equal(copy("\"/a b/c\" create-path overwrite"), 0);
    assert_int_equal(copy("/tmp/x"), -EBUSY);
    expect(0);
    assert_int_equal(wire_get(msg + M_BODY + 36, 4), 'c');
    assert_int_equal(wire_get(msg + M_BODY + 556, 8), 0x00200061002full | (uint64_t)'b' << 48);
    assert_int_equal(wire_get(msg + M_BODY + 564, 4), '/');
    assert_int_equal(wire_get(msg + M_BODY + 1076, 4), 3);
    assert_int_equal(wire_get(msg + M_BODY + 1080, 8), LEN);
    answer_with(0);
    while (off < LEN) {
        uint32_t n;

        expect(1);
        assert_true(msg_len >= 28 + 52 + 6144);
        n = (uint32_t)wire_get(msg + M_BODY + 48, 4);
        assert_int_equal(wire_get(msg + M_BODY + 40, 8), off);
        assert_true(n && n <= 6144 && n <= LEN - off);
        memcpy(got + off, msg + M_BODY + 52, n);
        off += n;
        answer_with(0);
    }
    expect(2);
    check_refused(1, 0, 9);
    answer_with(0);
    assert_memory_equal(got, content, LEN);
    has("result: done");
    has("files: 0x1");
    check_state();
}

static void test_refusals(void **state)
{
    (void)state;
    connect_ic(0x10001);
    assert_int_equal(copy("/tmp/x"), 0);
    expect(0);
    answer_with(0x80070050);
    has("result: the guest says: exists already");
    assert_false(take());
    assert_int_equal(copy("/tmp/x"), 0);
    expect(0);
    answer_with(0);
    expect(1);
    answer_with(0x80070070);
    expect(3);
    answer_with(0);
    has("result: the guest says: disk full");
    assert_int_equal(copy("/tmp/x"), 0);
    expect(0);
    answer_with(0);
    expect(1);
    assert_int_equal(cmd("cancel", ""), 0);
    answer_with(0);
    expect(3);
    answer_with(0);
    has("result: cancelled");
    assert_int_equal(cmd("cancel", ""), -EALREADY);
    assert_int_equal(copy("x"), -EINVAL);
    assert_int_equal(copy("/x/"), -EINVAL);
    assert_int_equal(copy("/x often"), -EINVAL);
    assert_int_equal(cmd("copy", "/nonexistent/file /x"), -ENOENT);
    assert_int_equal(cmd("copy", "/tmp /x"), -EINVAL);
    assert_int_equal(cmd("paste", ""), -ENOSYS);
}

static void test_shrinks(void **state)
{
    (void)state;
    connect_ic(0x10001);
    assert_int_equal(copy("/tmp/x"), 0);
    expect(0);
    assert_int_equal(truncate(path, 10), 0);
    answer_with(0);
    expect(3);
    answer_with(0);
    has("became shorter");
}

/* A copy does not survive a restore: it is cancelled. */
static void test_restore(void **state)
{
    void *buf;
    size_t len;

    (void)state;
    connect_ic(0x10001);
    assert_int_equal(copy("/tmp/x"), 0);
    expect(0);
    assert_int_equal(mobo_fake_save(dev, &buf, &len), 0);
    assert_int_equal(mobo_fake_restore(dev, buf, len), 0);
    free(buf);
    answer_with(0);
    expect(3);
    answer_with(0);
    has("result: interrupted");
}

#define TC(name) cmocka_unit_test_setup_teardown(name, setup, cleanup)

int main(void)
{
    const struct CMUnitTest tests[] = { TC(test_copy), TC(test_refusals), TC(test_shrinks),
                                        TC(test_restore) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
