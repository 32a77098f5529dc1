/* SPDX-License-Identifier: BSD-2-Clause */
/* Display backends of vdevs: between their pictures and the provider (vmb_ops.display_...). */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/board.h"

/* ---- from the provider --------------------------------------------------------------------------- */

static void tell(void *ctx)
{
    struct mobo_display *d = ctx;
    uint64_t hint;
    int watched;

    atomic_store(&d->posted, false);
    watched = atomic_load(&d->watched);
    if (watched != d->told && d->ops.watch) {
        d->told = watched;
        d->ops.watch(d->ctx, watched);
    }
    hint = atomic_exchange(&d->hint, 0);
    if (hint && d->ops.size_hint)
        d->ops.size_hint(d->ctx, (uint32_t)(hint >> 32), (uint32_t)hint);
}

static void post(struct mobo_display *d)
{
    if (!atomic_exchange(&d->posted, true) && io_post(d->dev->board, d->dev, tell, d))
        atomic_store(&d->posted, false); /* the next one takes it along */
}

static void sink_watch(void *dev, bool watched)
{
    struct mobo_display *d = dev;

    atomic_store(&d->watched, watched);
    post(d);
}

static bool sink_size_hint(void *dev, uint32_t width, uint32_t height)
{
    struct mobo_display *d = dev;

    if (!d->ops.size_hint || !width || !height || width > MOBO_DISPLAY_MAX ||
        height > MOBO_DISPLAY_MAX)
        return false;
    atomic_store(&d->hint, (uint64_t)width << 32 | height);
    post(d);
    return true;
}

static const struct vmb_display_sink sink = { sink_watch, sink_size_hint };

/* ---- from the vdev ------------------------------------------------------------------------------- */

int disp_open(struct mobo_vdev *dev, const char *key, const struct mobo_display_ops *ops, void *ctx,
              struct mobo_display **ret)
{
    struct vmb *v = dev->board;
    struct vdev_param *p = vdev_param_find(dev, key);
    char msg[VMB_MSG_LEN] = "";
    struct mobo_display *d;
    int err;

    if (vdev_creating(dev, "display_open"))
        return -EPERM;
    if (!p || p->kind != MOBO_STRING || ops->size < sizeof(*ops))
        return vdev_fail(dev, -EINVAL, "%s: bad use of display_open", key);
    if (!v->ops->display_open)
        return vdev_fail(dev, -ENOTSUP, "%s: there are no displays here", key);
    d = calloc(1, sizeof(*d));
    if (!d)
        return vdev_fail(dev, -ENOMEM, "%s: no memory", key);
    d->dev = dev;
    memcpy(&d->ops, ops, sizeof(d->ops));
    d->ctx = ctx;
    err = v->ops->display_open(v->ctx, dev->name, p->text ? p->text : "null", v->check_only, &sink,
                               d, &d->display, msg, sizeof(msg));
    if (err) {
        free(d);
        return vdev_fail(dev, err, "%s: %s", key, msg[0] ? msg : strerror(-err));
    }
    d->next = v->displays;
    v->displays = d;
    *ret = d;
    return 0;
}

static uint32_t bytes_per_pixel(uint32_t format)
{
    switch (format) {
    case MOBO_PIXEL_XRGB8888: return 4;
    case MOBO_PIXEL_RGB888: return 3;
    case MOBO_PIXEL_RGB565:
    case MOBO_PIXEL_XRGB1555: return 2;
    }
    return 0;
}

static bool surface_sound(const struct mobo_surface *s)
{
    uint64_t line = (uint64_t)s->width * bytes_per_pixel(s->format);

    return s->size >= sizeof(*s) && line && s->width <= MOBO_DISPLAY_MAX && s->height &&
           s->height <= MOBO_DISPLAY_MAX && s->pixels && s->stride >= line &&
           (s->height - 1) * (uint64_t)s->stride + line <= s->len;
}

int disp_surface(struct mobo_display *d, const struct mobo_surface *s)
{
    struct vmb *v = d->dev->board;
    int err = s && !surface_sound(s) ? -EINVAL : 0;

    vdev_check(d->dev, "display_surface");
    if (err)
        s = NULL;
    d->width = s ? s->width : 0;
    d->height = s ? s->height : 0;
    if (s)
        input_screen(v, s->width, s->height);
    if (d->display)
        v->ops->display_surface(d->display, s);
    return err;
}

void disp_dirty(struct mobo_display *d, int32_t x, int32_t y, uint32_t width, uint32_t height)
{
    int64_t x2 = (int64_t)x + width, y2 = (int64_t)y + height;

    vdev_check(d->dev, "display_dirty");
    x = x < 0 ? 0 : x;
    y = y < 0 ? 0 : y;
    x2 = x2 > d->width ? d->width : x2;
    y2 = y2 > d->height ? d->height : y2;
    if (d->display && x < x2 && y < y2)
        d->dev->board->ops->display_dirty(d->display, (unsigned)x, (unsigned)y, (unsigned)(x2 - x),
                                          (unsigned)(y2 - y));
}

int disp_cursor(struct mobo_display *d, const struct mobo_cursor *c)
{
    vdev_check(d->dev, "display_cursor");
    if (c &&
        (c->size < sizeof(*c) || !c->width || !c->height || c->width > MOBO_CURSOR_MAX ||
         c->height > MOBO_CURSOR_MAX || c->hot_x >= c->width || c->hot_y >= c->height || !c->argb))
        return -EINVAL;
    if (d->display)
        d->dev->board->ops->display_cursor(d->display, c);
    return 0;
}

void disp_cursor_move(struct mobo_display *d, int32_t x, int32_t y, int visible)
{
    vdev_check(d->dev, "display_cursor_move");
    if (d->display)
        d->dev->board->ops->display_cursor_move(d->display, x, y, visible != 0);
}

/* The I/O thread does not run any more, the vdevs are gone. */
void disp_fini(struct vmb *v)
{
    for (struct mobo_display *d = v->displays, *next; d; d = next) {
        next = d->next;
        if (d->display)
            v->ops->display_close(d->display);
        free(d);
    }
    v->displays = NULL;
}
