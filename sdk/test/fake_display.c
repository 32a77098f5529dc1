/* SPDX-License-Identifier: MIT */
/* Display backends and input of the fake host: the test looks at the picture and presses the keys. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/test/fake_int.h"

/* ---- displays ------------------------------------------------------------------------------------- */

static struct mobo_display *display_at(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_display *d = dev->displays;

    while (n-- && d)
        d = d->next;
    if (!d)
        fake_die("%s has no such display", dev->name);
    return d;
}

int fake_display_open(struct mobo_vdev *dev, const char *key, const struct mobo_display_ops *ops,
                      void *ctx, struct mobo_display **ret)
{
    struct mobo_display **at = &dev->displays, *d;

    fake_find_param(dev, key, 1 << MOBO_STRING);
    if (ops->size < sizeof(*ops))
        return -EINVAL;
    while (*at)
        at = &(*at)->next;
    d = fake_zalloc(sizeof(*d));
    d->dev = dev;
    d->ops = *ops;
    d->ctx = ctx;
    d->dirty_tail = &d->dirty;
    *at = *ret = d;
    return 0;
}

int fake_display_surface(struct mobo_display *d, const struct mobo_surface *s)
{
    static const uint8_t bytes[] = { 0, 4, 3, 2, 2 };
    uint64_t line;

    d->surface.size = 0;
    if (!s)
        return 0;
    if (s->size < sizeof(*s) || !s->format || s->format > MOBO_PIXEL_XRGB1555 || !s->width ||
        !s->height || s->width > MOBO_DISPLAY_MAX || s->height > MOBO_DISPLAY_MAX || !s->pixels)
        return -EINVAL;
    line = (uint64_t)s->width * bytes[s->format];
    if (s->stride < line || (s->height - 1) * (uint64_t)s->stride + line > s->len)
        return -EINVAL;
    /* what the device promises to be readable is read, so that overruns show */
    for (uint32_t y = 0; y < s->height; y++)
        d->visible ^= ((const volatile uint8_t *)s->pixels)[y * (uint64_t)s->stride + line - 1] & 0;
    d->surface = *s;
    return 0;
}

void fake_display_dirty(struct mobo_display *d, int32_t x, int32_t y, uint32_t w, uint32_t h)
{
    struct dirty *r = fake_zalloc(sizeof(*r));

    *r = (struct dirty){ NULL, { x, y, (int32_t)w, (int32_t)h } };
    *d->dirty_tail = r;
    d->dirty_tail = &r->next;
}

int fake_display_cursor(struct mobo_display *d, const struct mobo_cursor *c)
{
    if (c && (c->size < sizeof(*c) || !c->width || !c->height || c->width > MOBO_CURSOR_MAX ||
              c->height > MOBO_CURSOR_MAX || c->hot_x >= c->width || c->hot_y >= c->height))
        return -EINVAL;
    d->cursor.size = 0;
    if (c) {
        d->cursor = *c;
        memcpy(d->argb, c->argb, (size_t)c->width * c->height * 4);
        d->cursor.argb = d->argb;
    }
    return 0;
}

void fake_display_cursor_move(struct mobo_display *d, int32_t x, int32_t y, int visible)
{
    d->x = x;
    d->y = y;
    d->visible = visible != 0;
}

const struct mobo_surface *mobo_fake_display_surface(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_display *d = display_at(dev, n);

    return d->surface.size ? &d->surface : NULL;
}

int mobo_fake_display_dirty(struct mobo_vdev *dev, unsigned n, int32_t ret_rect[4])
{
    struct mobo_display *d = display_at(dev, n);
    struct dirty *r = d->dirty;

    if (!r)
        return 0;
    memcpy(ret_rect, r->rect, sizeof(r->rect));
    d->dirty = r->next;
    if (!d->dirty)
        d->dirty_tail = &d->dirty;
    free(r);
    return 1;
}

const struct mobo_cursor *mobo_fake_display_cursor(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_display *d = display_at(dev, n);

    return d->cursor.size ? &d->cursor : NULL;
}

int mobo_fake_display_pointer(struct mobo_vdev *dev, unsigned n, int32_t *ret_x, int32_t *ret_y)
{
    struct mobo_display *d = display_at(dev, n);

    *ret_x = d->x;
    *ret_y = d->y;
    return d->visible;
}

void mobo_fake_display_watch(struct mobo_vdev *dev, unsigned n, int watched)
{
    struct mobo_display *d = display_at(dev, n);

    if (d->ops.watch)
        d->ops.watch(d->ctx, watched);
    mobo_fake_work(dev->f);
}

void mobo_fake_display_hint(struct mobo_vdev *dev, unsigned n, uint32_t width, uint32_t height)
{
    struct mobo_display *d = display_at(dev, n);

    if (d->ops.size_hint)
        d->ops.size_hint(d->ctx, width, height);
    mobo_fake_work(dev->f);
}

/* ---- input ---------------------------------------------------------------------------------------- */

static struct mobo_input *input_at(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_input *in = dev->inputs;

    while (n-- && in)
        in = in->next;
    if (!in)
        fake_die("%s takes no such input", dev->name);
    return in;
}

int fake_input_add(struct mobo_vdev *dev, const struct mobo_input_ops *ops, void *ctx,
                   struct mobo_input **ret)
{
    struct mobo_input **at = &dev->inputs, *in;

    if (ops->size < sizeof(*ops) || !ops->event || !ops->kinds)
        return -EINVAL;
    while (*at)
        at = &(*at)->next;
    in = fake_zalloc(sizeof(*in));
    in->dev = dev;
    in->ops = *ops;
    in->ctx = ctx;
    *at = *ret = in;
    return 0;
}

void fake_input_active(struct mobo_input *in, int active)
{
    in->active = active != 0;
    if (!active)
        in->leds = 0;
}

void fake_input_ready(struct mobo_input *in)
{
    in->readies++;
}

void fake_input_leds(struct mobo_input *in, uint32_t leds)
{
    in->leds = leds;
}

int mobo_fake_input(struct mobo_vdev *dev, unsigned n, const struct mobo_input_event *event)
{
    struct mobo_input *in = input_at(dev, n);
    int err;

    if (event->kind > 31 || !(in->ops.kinds & 1u << event->kind))
        fake_die("%s: an input event of a kind that it does not take", dev->name);
    err = in->ops.event(in->ctx, event);
    mobo_fake_work(dev->f);
    return err;
}

int mobo_fake_input_active(struct mobo_vdev *dev, unsigned n)
{
    return input_at(dev, n)->active;
}

unsigned mobo_fake_input_readies(struct mobo_vdev *dev, unsigned n)
{
    return input_at(dev, n)->readies;
}

uint32_t mobo_fake_input_leds(struct mobo_vdev *dev, unsigned n)
{
    return input_at(dev, n)->leds;
}

void fake_display_free(struct mobo_vdev *dev)
{
    while (dev->displays) {
        struct mobo_display *d = dev->displays;

        dev->displays = d->next;
        while (d->dirty) {
            struct dirty *r = d->dirty;

            d->dirty = r->next;
            free(r);
        }
        free(d);
    }
    while (dev->inputs) {
        struct mobo_input *in = dev->inputs;

        dev->inputs = in->next;
        free(in);
    }
}
