/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of synthetic video: the guest's messages against the picture, the pointer and the state. */
#include <errno.h>

#include "plugins/core-vdevs/synthetic/ic_test.h"
#include "plugins/core-vdevs/synthetic/synthvideo.h"

enum { MIB = 1 << 20 };
#define FAR 0xf8000000ull /* where no RAM is */

static int setup(void **state)
{
    (void)state;
    return plug(NULL);
}

/* A message with its two headers. */
static void say(unsigned type, const void *body, uint32_t len)
{
    static uint8_t m[40960];

    memset(m, 0, 16);
    wire_put(m, 1, 4);
    wire_put(m + 4, 8 + len, 4);
    wire_put(m + 8, type, 4);
    wire_put(m + 12, 8 + len, 4);
    memcpy(m + 16, body, len);
    send_msg(m, 16 + len);
}

/* The device's next message. */
static void expect(unsigned type, uint32_t len)
{
    assert_true(take());
    assert_int_equal(wire_get(msg, 4), 1);
    assert_int_equal(wire_get(msg + 4, 4), 8 + len);
    assert_int_equal(wire_get(msg + 8, 4), type);
    assert_int_equal(wire_get(msg + 12, 4), 8 + len);
}

static int version(unsigned major, unsigned minor)
{
    uint8_t b[4];

    wire_put(b, minor << 16 | major, 4);
    say(1, b, 4);
    expect(2, 6);
    assert_int_equal(wire_get(msg + 16, 4), minor << 16 | major);
    assert_int_equal(msg[21], 1);
    return msg[20];
}

static void hello(void)
{
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    assert_int_not_equal(version(3, 5), 0);
}

static void vram(uint64_t gpa)
{
    uint8_t b[17];

    wire_put(b, 0x1234567890, 8);
    b[8] = 1;
    wire_put(b + 9, gpa, 8);
    say(3, b, sizeof(b));
}

/* Video memory placed, its acknowledgement and the first feature change taken. */
static void placed(uint64_t gpa)
{
    vram(gpa);
    expect(4, 8);
    assert_int_equal(wire_get(msg + 16, 8), 0x1234567890);
    expect(9, 4);
    assert_memory_equal(msg + 16, "\0\1\1\1", 4);
}

static void situation(int active, uint32_t off, uint8_t depth, uint32_t w, uint32_t h,
                      uint32_t pitch)
{
    uint8_t b[27] = { 7, 0, 0, 0, 0, 0, 0, 0, 1 };

    b[9] = (uint8_t)active;
    wire_put(b + 10, off, 4);
    b[14] = depth;
    wire_put(b + 15, w, 4);
    wire_put(b + 19, h, 4);
    wire_put(b + 23, pitch, 4);
    say(5, b, sizeof(b));
    expect(6, 8);
    assert_int_equal(wire_get(msg + 16, 8), 7);
}

static void dirt(int32_t x1, int32_t y1, int32_t x2, int32_t y2)
{
    uint8_t b[18] = { 0, 1 };

    wire_put(b + 2, (uint32_t)x1, 4);
    wire_put(b + 6, (uint32_t)y1, 4);
    wire_put(b + 10, (uint32_t)x2, 4);
    wire_put(b + 14, (uint32_t)y2, 4);
    say(10, b, sizeof(b));
}

static int no_dirt(void)
{
    int32_t r[4];

    return !mobo_fake_display_dirty(dev, 0, r);
}

static void assert_dirt(int32_t x, int32_t y, int32_t w, int32_t h)
{
    int32_t r[4];

    assert_true(mobo_fake_display_dirty(dev, 0, r));
    assert_int_equal(r[0], x);
    assert_int_equal(r[1], y);
    assert_int_equal(r[2], w);
    assert_int_equal(r[3], h);
}

static void test_versions(void **state)
{
    (void)state;
    assert_int_equal(mobo_fake_vmbus_offer(dev, 0)->mmio_megabytes, 8);
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    assert_int_equal(version(4, 0), 0);
    assert_int_equal(version(3, 6), 0);
    assert_int_equal(version(3, 1), 0);
    for (unsigned minor = 0; minor <= 5; minor++)
        if (minor != 1)
            assert_int_not_equal(version(3, minor), 0);
    assert_int_equal(version(2, 5), 0);
    /* the last one was refused: nothing else is served */
    say(13, "\x40", 1);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_picture(void **state)
{
    const struct mobo_surface *s;

    (void)state;
    hello();
    assert_null(mobo_fake_display_surface(dev, 0));
    placed(FAR);
    situation(1, 0, 32, 1024, 768, 4096);
    s = mobo_fake_display_surface(dev, 0);
    assert_non_null(s);
    assert_int_equal(s->format, MOBO_PIXEL_XRGB8888);
    assert_int_equal(s->width, 1024);
    assert_int_equal(s->height, 768);
    assert_int_equal(s->stride, 4096);
    /* what the guest writes there is in the picture */
    mobo_fake_mmio_write(f, FAR + 4096 * 5 + 4 * 3, 4, 0x00123456);
    assert_int_equal(((const uint32_t *)s->pixels)[1024 * 5 + 3], 0x00123456);
    /* the last pixel at the very end of the memory, and one beyond */
    situation(1, 8 * MIB - 800 * 600 * 2, 16, 800, 600, 1600);
    s = mobo_fake_display_surface(dev, 0);
    assert_non_null(s);
    assert_int_equal(s->format, MOBO_PIXEL_RGB565);
    situation(1, 8 * MIB - 800 * 600 * 2 + 1, 16, 800, 600, 1600);
    assert_null(mobo_fake_display_surface(dev, 0));
    assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), 1);
    situation(1, 0, 32, 0x40000001, 1, 4); /* the line's length overflows 32 bits */
    assert_null(mobo_fake_display_surface(dev, 0));
    situation(1, 0xffffffff, 32, 640, 480, 2560);
    assert_null(mobo_fake_display_surface(dev, 0));
    situation(1, 0, 8, 640, 480, 640);
    assert_null(mobo_fake_display_surface(dev, 0));
    situation(1, 0, 24, 640, 480, 1920);
    assert_non_null(mobo_fake_display_surface(dev, 0));
    situation(0, 0, 0, 0, 0, 0);
    assert_null(mobo_fake_display_surface(dev, 0));
    assert_int_equal(mobo_fake_logged(f, MOBO_WARNING), 1); /* once */
    situation(1, 0, 32, 640, 480, 2560);
    mobo_fake_vmbus_close(dev, 0); /* who draws without a driver is still seen */
    assert_non_null(mobo_fake_display_surface(dev, 0));
    mobo_fake_reset(f);
    assert_null(mobo_fake_display_surface(dev, 0));
}

static void test_ram_as_vram(void **state)
{
    const struct mobo_surface *s;

    (void)state;
    hello();
    placed(4 * MIB);
    situation(1, 0x100, 32, 640, 480, 2560);
    s = mobo_fake_display_surface(dev, 0);
    assert_ptr_equal(s->pixels, mobo_fake_ram(f) + 4 * MIB + 0x100);
    check_state();
    vram(FAR); /* and elsewhere */
    expect(4, 8);
    s = mobo_fake_display_surface(dev, 0);
    assert_ptr_not_equal(s->pixels, mobo_fake_ram(f) + 4 * MIB + 0x100);
}

static void test_nowhere(void **state)
{
    (void)state;
    hello();
    vram(FAR + 1);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    vram(UINT64_MAX - 4095);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    placed(FAR);
}

static void test_dirt(void **state)
{
    uint8_t many[2 + 16 * 255] = { 0, 255 };

    (void)state;
    hello();
    placed(FAR);
    situation(1, 0, 32, 1024, 768, 4096);
    /* somebody looks: the guest is told, and its answer brings all that it drew in the meantime */
    mobo_fake_display_watch(dev, 0, 1);
    expect(9, 4);
    assert_memory_equal(msg + 16, "\1\1\1\1", 4);
    assert_true(no_dirt());
    say(7, "\1\0\0\0\0\0\0\0\0\0", 10);
    assert_dirt(0, 0, 1024, 768);
    dirt(10, 20, 30, 50);
    assert_dirt(10, 20, 20, 30);
    dirt(30, 20, 10, 50); /* empty, turned round */
    dirt(10, 20, 10, 50);
    assert_true(no_dirt());
    dirt(INT32_MIN, INT32_MIN, INT32_MAX, INT32_MAX); /* the host cuts it */
    assert_false(no_dirt());
    say(10, many, sizeof(many));
    assert_true(no_dirt());
    /* nobody looks any more, and again; a guest that does not answer is caught up with by itself */
    mobo_fake_display_watch(dev, 0, 0);
    expect(9, 4);
    assert_int_equal(msg[16], 0);
    mobo_fake_display_watch(dev, 0, 1);
    expect(9, 4);
    mobo_fake_step(f, 400000000);
    assert_true(no_dirt());
    mobo_fake_step(f, 200000000);
    assert_dirt(0, 0, 1024, 768);
    /* no room in the ring now: when there is */
    mobo_fake_vmbus_room(dev, 0, 0);
    mobo_fake_display_watch(dev, 0, 0);
    assert_false(take());
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    expect(9, 4);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    say(10, many, 17); /* one rectangle is more than that */
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_modes(void **state)
{
    const char *params[] = { "width=1366", "height=768", "vram=5M", NULL };
    unsigned sum = 0, n;

    (void)state;
    teardown(NULL);
    assert_int_equal(plug(params), 0);
    assert_int_equal(mobo_fake_vmbus_offer(dev, 0)->mmio_megabytes, 5);
    hello();
    say(13, "\x40", 1);
    assert_true(take());
    n = msg[16 + 128];
    assert_int_equal(wire_get(msg + 12, 4), 8 + 131 + 4 * n);
    assert_true(n > 5 && n <= 64);
    assert_true(msg[16 + 129] < n);
    assert_int_equal(wire_get(msg + 16 + 131 + 4 * msg[16 + 129], 2), 1366);
    for (unsigned i = 0; i < n; i++)
        assert_true(wire_get(msg + 16 + 131 + 4 * i, 2) * wire_get(msg + 16 + 133 + 4 * i, 2) * 4 <=
                    5 * MIB);
    for (unsigned i = 0; i < 128; i++)
        sum += msg[16 + i];
    assert_int_equal(sum & 0xff, 0); /* EDID 3.11 */
    assert_memory_equal(msg + 16, "\0\xff\xff\xff\xff\xff\xff\0", 8);
    assert_int_equal(msg[16 + 54 + 2] | (msg[16 + 54 + 4] & 0xf0) << 4, 1366);
    assert_int_equal(msg[16 + 54 + 5] | (msg[16 + 54 + 7] & 0xf0) << 4, 768);
    say(13, "\x02", 1);
    assert_true(take());
    assert_int_equal(msg[16 + 128], 2);
    say(13, "\0", 1);
    assert_true(take());
    assert_int_equal(msg[16 + 128], 0);
    /* a viewer's wish is the default next time, if it fits */
    mobo_fake_display_hint(dev, 0, 800, 500);
    mobo_fake_display_hint(dev, 0, 4000, 4000);
    say(13, "\x40", 1);
    assert_true(take());
    assert_int_equal(wire_get(msg + 16 + 131 + 4 * msg[16 + 129], 4), 500 << 16 | 800);
    say(11, "", 0);
    expect(12, 16);
    assert_int_equal(msg[16], 0);
    say(15, "", 0);
    expect(16, 64);
    say(99, "", 0); /* of the future */
    assert_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_keys(void **state)
{
    const char *const bad[][4] = {
        { "width=1920", "height=1200", "vram=8M", NULL },
        { "vram=1536K", NULL },
        { "vram=64M", NULL },
        { "width=100", NULL },
    };
    const char *big[] = { "width=1920", "height=1200", NULL };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "other", bad[i]));
        assert_string_not_equal(mobo_fake_error(f), "");
    }
    teardown(NULL);
    assert_int_equal(plug(big), 0); /* as much memory as it takes */
    assert_int_equal(mobo_fake_vmbus_offer(dev, 0)->mmio_megabytes, 9);
}

static void shape(unsigned part, int argb, uint32_t w, uint32_t h, uint32_t hot_x, uint32_t hot_y,
                  const void *data, uint32_t len)
{
    static uint8_t b[18 + 40000];

    b[0] = (uint8_t)part;
    b[1] = (uint8_t)argb;
    wire_put(b + 2, w, 4);
    wire_put(b + 6, h, 4);
    wire_put(b + 10, hot_x, 4);
    wire_put(b + 14, hot_y, 4);
    memcpy(b + 18, data, len);
    say(8, b, 18 + len);
}

static void test_pointer(void **state)
{
    static uint32_t big[96 * 96];
    const struct mobo_cursor *c;
    int32_t x, y;

    (void)state;
    hello();
    placed(FAR);
    assert_null(mobo_fake_display_cursor(dev, 0));
    shape(255, 1, 1, 1, 0, 0, "\0\1\1\1", 4);
    c = mobo_fake_display_cursor(dev, 0);
    assert_int_equal(c->argb[0], 0x01010100);
    say(7, "\1\0\x10\0\0\0\xf0\xff\xff\xff", 10);
    assert_true(mobo_fake_display_pointer(dev, 0, &x, &y));
    assert_int_equal(x, 16);
    assert_int_equal(y, -16);
    /* in parts; the position is that of the corner, viewers get that of the hot spot */
    for (unsigned i = 0; i < 96 * 96; i++)
        big[i] = i;
    shape(0, 1, 96, 96, 95, 2, big, 16000);
    shape(1, 1, 96, 96, 95, 2, (const uint8_t *)big + 16000, 16000);
    assert_int_equal(mobo_fake_display_cursor(dev, 0)->width, 1);
    check_state(); /* half a pointer is state */
    shape(255, 1, 96, 96, 95, 2, (const uint8_t *)big + 32000, sizeof(big) - 32000);
    c = mobo_fake_display_cursor(dev, 0);
    assert_int_equal(c->width, 96);
    assert_memory_equal(c->argb, big, sizeof(big));
    mobo_fake_display_pointer(dev, 0, &x, &y);
    assert_int_equal(x, 16 + 95);
    assert_int_equal(y, -16 + 2);
    check_state();
    /* two masks: transparent, inverted, black, white */
    shape(255, 0, 4, 1, 0, 0, "\xc0\x50", 2);
    c = mobo_fake_display_cursor(dev, 0);
    assert_int_equal(c->argb[0], 0);
    assert_int_equal(c->argb[1], 0xff000000);
    assert_int_equal(c->argb[2], 0xff000000);
    assert_int_equal(c->argb[3], 0xffffffff);
    /* far away: no overflow */
    say(7, "\1\0\xff\xff\xff\x7f\0\0\0\x80", 10);
    mobo_fake_display_pointer(dev, 0, &x, &y);
    assert_true(x > 8192 && y < -8192);
    shape(255, 1, 97, 1, 0, 0, big, 4);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    shape(255, 1, 4, 4, 4, 0, big, 4);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    shape(1, 1, 4, 4, 0, 0, big, 4); /* the second part first */
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_malformed(void **state)
{
    static const struct {
        uint8_t type, len;
    } list[] = { { 1, 3 }, { 3, 16 }, { 5, 8 }, { 7, 9 }, { 8, 17 }, { 10, 1 }, { 13, 0 } };
    uint8_t b[40] = { 0, 0, 0, 0, 0, 0, 0, 0, 1 };

    (void)state;
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        hello();
        say(list[i].type, b, list[i].len);
        assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    }
    hello();
    say(5, b, 16); /* a situation with a screen but no description */
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    send_msg("\2\0\0\0\x10\0\0\0\1\0\0\0\x10\0\0\0", 16); /* no data of a pipe */
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    send_msg("\1\0\0\0\x10\0\0\0\xb\0\0\0\x11\0\0\0\0\0\0\0\0\0\0\0", 24);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
    send_msg("\1\0\0\0\x11\0\0\0\xb\0\0\0\x11\0\0\0", 16); /* more than the packet has */
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    hello();
    send_msg(b, 8);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_state(void **state)
{
    (void)state;
    check_state();
    hello();
    check_state();
    placed(FAR);
    situation(1, 4096, 32, 800, 600, 3200);
    shape(255, 0, 16, 16, 1, 1, "abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz01",
          64);
    check_state();
    assert_non_null(mobo_fake_display_surface(dev, 0));
    assert_non_null(mobo_fake_display_cursor(dev, 0));
    check_refused(1, 0, 2);  /* open */
    check_refused(14, 0, 1); /* a place that is no page */
    check_refused(17, 0, 97);
    check_refused(19, 0, 16);
    check_refused(33, 1, 1);
    check_flips();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_versions), T(test_picture), T(test_ram_as_vram), T(test_nowhere),   T(test_dirt),
        T(test_modes),    T(test_keys),    T(test_pointer),     T(test_malformed), T(test_state),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
