/* SPDX-License-Identifier: BSD-2-Clause */
/* Displays and input on the board: which device gets what, queues, what reaches the provider. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "vmb/fakehv.h"
#include "vmb/vmb.h"

enum { LOW = 0x100, HIGH = 0x200, ACTIVE = 1, FULL = 2, ROOM = 4, KEYS_FULL = 128, SAME = 256 };

static char plugin_dir[512], msg[VMB_MSG_LEN];
static struct vmb *v;
/* the display of "low", as its provider sees it */
static const struct vmb_display_sink *sink;
static void *sink_dev;
static unsigned surfaces, darks, dirts, cursors, open_displays;
static unsigned dirty[4];
static int pointer[3];

static void on_log(void *ctx, unsigned level, const char *from, const char *line)
{
    (void)ctx;
    (void)level;
    (void)from;
    (void)line;
}

static void on_request(void *ctx, const struct vmb_request *req)
{
    (void)ctx;
    (void)req;
}

static int on_open(void *ctx, const char *name, const char *spec, bool check_only,
                   const struct vmb_display_sink *s, void *display, struct vmb_display **ret,
                   char *m, size_t len)
{
    (void)ctx;
    if (!strcmp(spec, "bad")) {
        snprintf(m, len, "no such display");
        return -EINVAL;
    }
    if (!strcmp(name, "low")) {
        sink = s;
        sink_dev = display;
    }
    if (!check_only) {
        *ret = (struct vmb_display *)&surfaces;
        open_displays++;
    }
    return 0;
}

static void on_surface(struct vmb_display *d, const struct mobo_surface *s)
{
    (void)d;
    surfaces += s != NULL;
    darks += s == NULL;
}

static void on_dirty(struct vmb_display *d, unsigned x, unsigned y, unsigned w, unsigned h)
{
    (void)d;
    dirts++;
    dirty[0] = x;
    dirty[1] = y;
    dirty[2] = w;
    dirty[3] = h;
}

static void on_cursor(struct vmb_display *d, const struct mobo_cursor *c)
{
    (void)d;
    cursors += c != NULL;
}

static void on_move(struct vmb_display *d, int x, int y, bool visible)
{
    (void)d;
    pointer[0] = x;
    pointer[1] = y;
    pointer[2] = visible;
}

static void on_close(struct vmb_display *d)
{
    (void)d;
    open_displays--;
}

static const struct vmb_ops ops = {
    .log = on_log,
    .request = on_request,
    .display_open = on_open,
    .display_surface = on_surface,
    .display_dirty = on_dirty,
    .display_cursor = on_cursor,
    .display_cursor_move = on_move,
    .display_close = on_close,
};

static int make(const char *display)
{
    static const char *dirs[2];
    const struct vmb_kv low[] = { { "port", "0x100", NULL, 0 }, { "display", display, NULL, 0 } };
    const struct vmb_kv high[] = { { "port", "0x200", NULL, 0 } };
    const struct vmb_dev_config devs[] = {
        { .name = "low", .type = "testscreen-low", .kv = low, .nkv = 2 },
        { .name = "high", .type = "testscreen-high", .kv = high, .nkv = 1 },
    };
    struct vmb_config cfg = { .engine = "auto",
                              .memory = 16 << 20,
                              .vps = 1,
                              .generation = 1,
                              .direct_boot = true,
                              .devs = devs,
                              .ndevs = 2,
                              .plugin_dirs = dirs,
                              .ops = &ops };

    dirs[0] = plugin_dir;
    v = NULL;
    surfaces = darks = dirts = cursors = 0;
    return vmb_create(&cfg, &v, msg, sizeof(msg));
}

static int setup(void **state)
{
    (void)state;
    if (make("x") || vmb_power_on(v, msg, sizeof(msg)))
        fail_msg("%s", msg);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    vmb_destroy(v);
    assert_int_equal(open_displays, 0);
    return 0;
}

static void nap(void)
{
    nanosleep(&(struct timespec){ 0, 2000000 }, NULL);
}

/* The next word of an event that the device got, after a while if need be. */
static uint32_t word(unsigned port)
{
    uint32_t w = 0xffffffff;

    for (unsigned i = 0; i < 2500 && w == 0xffffffff; i++) {
        w = fakehv_in(port + 4, 4);
        if (w == 0xffffffff)
            nap();
    }
    return w;
}

/* Nothing came, for a while. */
static void assert_quiet(unsigned port)
{
    for (unsigned i = 0; i < 15; i++) {
        assert_int_equal(fakehv_in(port + 4, 4), 0xffffffff);
        nap();
    }
}

static int key(unsigned k, unsigned down)
{
    const struct mobo_input_event e = {
        .size = sizeof(e), .kind = MOBO_INPUT_KEY, .key = k, .down = down
    };

    return vmb_input(v, &e, 1);
}

static int point(int x, int y, unsigned buttons)
{
    const struct mobo_input_event e = {
        .size = sizeof(e), .kind = MOBO_INPUT_POINT, .x = x, .y = y, .buttons = buttons
    };

    return vmb_input(v, &e, 1);
}

static void assert_key(unsigned port, unsigned k, unsigned down)
{
    assert_int_equal(word(port), MOBO_INPUT_KEY << 16 | k);
    assert_int_equal(word(port), down);
    assert_int_equal(word(port), 0);
}

static void test_choice(void **state)
{
    (void)state;
    assert_int_equal(key(1, 1), -ENODEV);
    fakehv_out(LOW, 4, ACTIVE);
    assert_int_equal(vmb_input_leds(v), MOBO_LED_CAPS);
    assert_int_equal(key(1, 1), 0);
    assert_key(LOW, 1, 1);
    /* the synthetic one takes over; the key that is held is let go where it is */
    fakehv_out(HIGH, 4, ACTIVE);
    assert_int_equal(key(2, 1), 0);
    assert_int_equal(key(1, 0), 0);
    assert_key(HIGH, 2, 1);
    assert_key(LOW, 1, 0);
    assert_quiet(HIGH);
    /* its driver goes: what it held is forgotten, the rest goes to the other */
    fakehv_out(HIGH, 4, 0);
    assert_int_equal(key(2, 0), 0);
    assert_int_equal(key(MOBO_KEY_PAUSE, 1), 0);
    assert_key(LOW, MOBO_KEY_PAUSE, 1);
    assert_quiet(HIGH);
    assert_int_equal(key(0, 1), -EINVAL);
    assert_int_equal(key(MOBO_KEY_COUNT, 1), -EINVAL);
    assert_int_equal(key(1, 2), -EINVAL);
    assert_int_equal(point(-1, 0, 0), -EINVAL);
    assert_int_equal(point(0, MOBO_POINT_MAX + 1, 0), -EINVAL);
    assert_int_equal(point(0, 0, 32), -EINVAL);
}

static void test_full(void **state)
{
    struct mobo_input_event many[4096];

    (void)state;
    fakehv_out(LOW, 4, ACTIVE | FULL);
    for (unsigned i = 0; i < 4096; i++)
        many[i] = (struct mobo_input_event){ .size = sizeof(many[0]),
                                             .kind = MOBO_INPUT_KEY,
                                             .key = 1 + i / 2 % 100,
                                             .down = !(i & 1) };
    assert_int_equal(vmb_input(v, many, 4090), 0);
    assert_int_equal(vmb_input(v, many, 7), -EAGAIN); /* all or none */
    assert_int_equal(vmb_input(v, many, 6), 0);
    assert_int_equal(vmb_input_waiting(v), 4096);
    assert_quiet(LOW);
    assert_int_equal(point(5, 5, 0),
                     0); /* the mouse does not wait for the keyboard, but here it is one */
    fakehv_out(LOW, 4, ACTIVE | ROOM);
    for (unsigned i = 0; i < 100; i++)
        assert_key(LOW, many[i].key, many[i].down);
    /* a better device gets what the other had no room for */
    fakehv_out(LOW, 4, ACTIVE | FULL);
    fakehv_out(HIGH, 4, ACTIVE);
    assert_int_not_equal(word(HIGH), 0xffffffff);
    /* a reset empties the queues */
    fakehv_out(HIGH, 4, ACTIVE | FULL);
    assert_int_equal(vmb_reset(v, msg, sizeof(msg)), 0);
    assert_int_equal(vmb_input_waiting(v), 0);
    assert_int_equal(key(1, 1), -ENODEV);
}

/* Keys that a device has no room for come when it says so, whatever its pointer did meanwhile. */
static void test_full_keys(void **state)
{
    (void)state;
    fakehv_out(LOW, 4, ACTIVE | KEYS_FULL);
    assert_int_equal(key(1, 1), 0);
    assert_quiet(LOW);
    assert_int_equal(point(8192, 8192, 1), 0);
    assert_int_equal(word(LOW), MOBO_INPUT_MOVE << 16 | 1);
    assert_int_equal(word(LOW), 256);
    assert_int_equal(word(LOW), 192);
    assert_quiet(LOW);
    fakehv_out(LOW, 4, ROOM | SAME);
    assert_key(LOW, 1, 1);
}

static void test_pointer(void **state)
{
    struct mobo_input_event move = {
        .size = sizeof(move), .kind = MOBO_INPUT_MOVE, .x = 1, .y = -1
    };

    (void)state;
    /* 1024 x 768 as long as there is no picture: a quarter of it is 256, 192 */
    fakehv_out(LOW, 4, ACTIVE);
    assert_int_equal(point(8192, 8192, 1), 0);
    assert_int_equal(word(LOW), MOBO_INPUT_MOVE << 16 | 1);
    assert_int_equal(word(LOW), 256);
    assert_int_equal(word(LOW), 192);
    assert_int_equal(point(0, 8192, 0), 0);
    assert_int_equal(word(LOW), MOBO_INPUT_MOVE << 16);
    assert_int_equal((int32_t)word(LOW), -256);
    assert_int_equal(word(LOW), 0);
    /* a movement becomes a place, at most at the edge */
    fakehv_out(HIGH, 4, ACTIVE);
    assert_int_equal(vmb_input(v, &move, 1), 0);
    assert_int_equal(word(HIGH), MOBO_INPUT_POINT << 16);
    assert_int_equal(word(HIGH), 32);
    assert_int_equal(word(HIGH), 8192 - 42);
    move.x = -30000;
    move.y = 30000;
    assert_int_equal(vmb_input(v, &move, 1), 0);
    assert_int_equal(word(HIGH), MOBO_INPUT_POINT << 16);
    assert_int_equal(word(HIGH), 0);
    assert_int_equal(word(HIGH), MOBO_POINT_MAX);
    /* a pointer that nobody takes: the last place counts, buttons are not lost */
    fakehv_out(HIGH, 4, ACTIVE | FULL);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(point(i, 7, i >= 5000), 0);
    fakehv_out(HIGH, 4, ACTIVE | ROOM);
    for (unsigned last = 0, n = 0; last != 9999; n++) {
        assert_true(n < 100);
        word(HIGH);
        last = word(HIGH);
        assert_int_equal(word(HIGH), 7);
    }
}

static void test_paused(void **state)
{
    (void)state;
    fakehv_out(LOW, 4, ACTIVE);
    assert_int_equal(vmb_pause(v), 0);
    assert_int_equal(key(3, 1), 0);
    assert_quiet(LOW);
    assert_int_equal(vmb_resume(v), 0);
    assert_key(LOW, 3, 1);
}

static void test_display(void **state)
{
    (void)state;
    fakehv_out(LOW, 4, 32);
    assert_int_equal(dirts, 0); /* no picture */
    fakehv_out(LOW, 4, 8);
    assert_int_equal(surfaces, 1);
    fakehv_out(LOW, 4, 32);
    assert_int_equal(dirts, 1);
    assert_int_equal(dirty[0], 0);
    assert_int_equal(dirty[1], 1);
    assert_int_equal(dirty[2], 4);
    assert_int_equal(dirty[3], 1);
    darks = 0;
    fakehv_out(LOW, 4, 16);
    assert_int_equal(darks, 2);
    fakehv_out(LOW, 4, 64);
    assert_int_equal(cursors, 1);
    assert_int_equal(pointer[0], -1);
    assert_int_equal(pointer[1], 7);
    assert_int_equal(pointer[2], 1);
    sink->watch(sink_dev, true);
    assert_true(sink->size_hint(sink_dev, 800, 600));
    assert_false(sink->size_hint(sink_dev, 0, 600));
    assert_false(sink->size_hint(sink_dev, 9000, 600));
    for (unsigned i = 0; i < 2500 && fakehv_in(LOW, 4) != 3; i++)
        nap();
    assert_int_equal(fakehv_in(LOW, 4), 3);
    sink->watch(sink_dev, false);
    for (unsigned i = 0; i < 2500 && fakehv_in(LOW, 4) != 2; i++)
        nap();
    assert_int_equal(fakehv_in(LOW, 4), 2);
}

static void test_refused(void **state)
{
    (void)state;
    assert_int_equal(make("bad"), -EINVAL);
    assert_non_null(strstr(msg, "display: no such display"));
    assert_int_equal(open_displays, 0);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        T(test_choice), T(test_full),    T(test_full_keys), T(test_pointer),
        T(test_paused), T(test_display), cmocka_unit_test(test_refused),
    };
    char *exe = realpath(argv[0], NULL), *slash = exe ? strrchr(exe, '/') : NULL;

    (void)argc;
    if (!slash)
        return 1;
    *slash = 0;
    if ((slash = strstr(exe, "/.libs")))
        *slash = 0;
    snprintf(plugin_dir, sizeof(plugin_dir), "%s/tests/screen/.libs", exe);
    free(exe);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
