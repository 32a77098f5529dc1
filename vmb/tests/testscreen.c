/* SPDX-License-Identifier: BSD-2-Clause */
/* A vdev for screen_test: takes input and shows a picture, by ports from `port` on.
 *   +0 write: bit 0 active, bit 1 full, bit 2 say that there is room, bit 3 show 4x2 pixels, bit 4 an impossible
 *      picture, bit 5 dirty, bit 6 a pointer, bit 7 full for keys alone, bit 8 activity stays as it is; read: 1 watched, 2 was given a size
 *   +4 read, dwords: the words of the events so far, three each; then all ones */
#include <errno.h>
#include <mobo/vdev.h>
#include <stdlib.h>

#ifndef TYPE /* the Makefile builds two plug-ins of this file */
#define TYPE "testscreen"
#define CLASS MOBO_CLASS_EMULATED
#define KINDS (1u << MOBO_INPUT_MOVE)
#endif

enum { WORDS = 1024 };

struct dev {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    mobo_input_t in;
    mobo_display_t display;
    uint32_t words[WORDS], first, count;
    uint8_t full, keys_full, watched, hinted;
    uint8_t pixels[4 * 2 * 4];
};

static int event(void *ctx, const struct mobo_input_event *e)
{
    struct dev *d = ctx;

    if (d->full || (d->keys_full && e->kind == MOBO_INPUT_KEY) || d->count + 3 > WORDS)
        return -EAGAIN;
    d->words[d->count++] = e->kind << 16 | (e->kind == MOBO_INPUT_KEY ? e->key : e->buttons);
    d->words[d->count++] = e->kind == MOBO_INPUT_KEY ? e->down : (uint32_t)e->x;
    d->words[d->count++] = (uint32_t)e->y;
    return 0;
}

static void watch(void *ctx, int watched)
{
    ((struct dev *)ctx)->watched = (uint8_t)watched;
}

static void size_hint(void *ctx, uint32_t width, uint32_t height)
{
    ((struct dev *)ctx)->hinted = width == 800 && height == 600 ? 2 : 0;
}

static uint64_t port_read(void *ctx, uint64_t off, uint32_t len)
{
    struct dev *d = ctx;

    (void)len;
    if (!off)
        return d->watched | d->hinted;
    return d->first < d->count ? d->words[d->first++] : 0xffffffff;
}

static void port_write(void *ctx, uint64_t off, uint32_t len, uint64_t val)
{
    struct dev *d = ctx;
    struct mobo_surface s = { .size = sizeof(s),
                              .format = MOBO_PIXEL_XRGB8888,
                              .width = 4,
                              .height = 2,
                              .stride = 16,
                              .pixels = d->pixels,
                              .len = sizeof(d->pixels) };
    static const uint32_t argb[4];
    struct mobo_cursor c = { .size = sizeof(c), .width = 2, .height = 2, .argb = argb };

    (void)off;
    (void)len;
    d->full = val >> 1 & 1;
    d->keys_full = val >> 7 & 1;
    if (!(val & 256)) {
        d->host->input_active(d->in, val & 1);
        d->host->input_leds(d->in, val & 1 ? MOBO_LED_CAPS : 0);
    }
    if (val & 4)
        d->host->input_ready(d->in);
    if (val & 8 && d->host->display_surface(d->display, &s))
        abort();
    if (val & 16) {
        s.len--;
        if (d->host->display_surface(d->display, &s) != -EINVAL)
            abort();
        s.len++;
        s.width = 5;
        if (d->host->display_surface(d->display, &s) != -EINVAL)
            abort();
    }
    if (val & 32) {
        d->host->display_dirty(d->display, -5, 1, 100, 100);
        d->host->display_dirty(d->display, 4, 0, 1, 1);
        d->host->display_dirty(d->display, INT32_MIN, INT32_MIN, 1, 1);
        d->host->display_dirty(d->display, INT32_MAX, INT32_MAX, UINT32_MAX, UINT32_MAX);
    }
    if (val & 64) {
        if (d->host->display_cursor(d->display, &c))
            abort();
        c.hot_x = 2;
        if (d->host->display_cursor(d->display, &c) != -EINVAL)
            abort();
        d->host->display_cursor_move(d->display, -1, 7, 1);
    }
}

static int create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret)
{
    static const struct mobo_io_ops ops = { sizeof(ops), MOBO_W32, port_read, port_write };
    static const struct mobo_input_ops input_ops = { sizeof(input_ops),
                                                     1u << MOBO_INPUT_KEY | KINDS, event };
    static const struct mobo_display_ops display_ops = { sizeof(display_ops), 0, watch, size_hint };
    struct dev *d = calloc(1, sizeof(*d));
    int err;

    d->dev = dev;
    d->host = host;
    if ((err = host->pio_add(dev, "p", (uint32_t)host->param_uint(dev, "port"), 8, 0, &ops, d,
                             NULL)) ||
        (err = host->input_add(dev, &input_ops, d, &d->in)) ||
        (err = host->display_open(dev, "display", &display_ops, d, &d->display))) {
        free(d);
        return err;
    }
    *ret = d;
    return 0;
}

static void reset(void *self)
{
    struct dev *d = self;

    d->host->input_active(d->in, 0);
    d->full = d->keys_full = 0;
    d->first = d->count = 0;
}

static int save(void *self, struct mobo_writer *out)
{
    (void)self;
    (void)out;
    return 0;
}

static int restore(void *self, struct mobo_reader *in)
{
    (void)self;
    (void)in;
    return 0;
}

static const struct mobo_param params[] = {
    { "port", MOBO_UINT, 0, NULL, "0x100", 0, 0xfff0, NULL, "base port" },
    { "display", MOBO_STRING, 0, NULL, NULL, 0, 0, NULL, "display" },
};

static const struct mobo_vdev_ops ops = { .size = sizeof(ops),
                                          .create = create,
                                          .destroy = free,
                                          .reset = reset,
                                          .save = save,
                                          .restore = restore };

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = TYPE,
    .vendor = "mobo",
    .version = "1",
    .licence = "BSD-2-Clause",
    .summary = "input and a picture for tests",
    .dev_class = CLASS,
    .params = MOBO_ARRAY(params),
    .ops = &ops,
};
