/* SPDX-License-Identifier: BSD-2-Clause */
/* Displays: the picture of a device, who looks at it, and what of it they have not seen. */
#include "core/display/display_int.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- pixels -------------------------------------------------------------------------------------- */

/* Guest memory: each byte is read once, and every value of it is a colour. */
static void convert_line(uint32_t *out, const uint8_t *in, unsigned n, unsigned format)
{
    switch (format) {
    case MOBO_PIXEL_XRGB8888:
        memcpy(out, in, (size_t)n * 4);
        for (unsigned i = 0; i < n; i++)
            out[i] &= 0xffffff;
        break;
    case MOBO_PIXEL_RGB888:
        for (unsigned i = 0; i < n; i++, in += 3)
            out[i] = in[0] | (uint32_t)in[1] << 8 | (uint32_t)in[2] << 16;
        break;
    case MOBO_PIXEL_RGB565:
    case MOBO_PIXEL_XRGB1555:
        for (unsigned i = 0; i < n; i++, in += 2) {
            unsigned v = in[0] | (unsigned)in[1] << 8, r, g, b = v & 31;

            r = format == MOBO_PIXEL_RGB565 ? v >> 11 : v >> 10 & 31;
            g = format == MOBO_PIXEL_RGB565 ? v >> 5 & 63 : (v >> 5 & 31) << 1 | (v >> 9 & 1);
            out[i] = (r << 3 | r >> 2) << 16 | (g << 2 | g >> 4) << 8 | (b << 3 | b >> 2);
        }
    }
}

static unsigned pixel_bytes(unsigned format)
{
    return format == MOBO_PIXEL_XRGB8888 ? 4 : format == MOBO_PIXEL_RGB888 ? 3 : 2;
}

/* A rectangle that is within @s and within the target, whose lines have @width pixels. */
static void convert(const struct mobo_surface *s, uint32_t *pixels, unsigned width, struct rect r)
{
    const uint8_t *line =
        (const uint8_t *)s->pixels + (size_t)r.y * s->stride + (size_t)r.x * pixel_bytes(s->format);
    uint32_t *out = pixels + (size_t)r.y * width + r.x;

    for (unsigned y = 0; y < r.h; y++, line += s->stride, out += width)
        convert_line(out, line, r.w, s->format);
}

int display_grab(struct vmb_display *d, struct picture *ret)
{
    int err = 0;

    *ret = (struct picture){ 0 };
    pthread_mutex_lock(&d->lock);
    if (!d->surface.size) {
        err = -ENODATA;
    } else {
        ret->width = d->surface.width;
        ret->height = d->surface.height;
        ret->pixels = malloc((size_t)ret->width * ret->height * 4);
        if (ret->pixels)
            convert(&d->surface, ret->pixels, ret->width,
                    (struct rect){ 0, 0, ret->width, ret->height });
        else
            err = -ENOMEM;
    }
    pthread_mutex_unlock(&d->lock);
    return err;
}

void picture_free(struct picture *p)
{
    free(p->pixels);
    *p = (struct picture){ 0 };
}

/* ---- views --------------------------------------------------------------------------------------- */

/* d->lock is held, as in the next ones. */
static void wake(struct view *v)
{
    uint64_t one = 1;

    if (v->wake_fd >= 0 && write(v->wake_fd, &one, sizeof(one)) < 0)
        return; /* it is full: then it is awake */
}

static unsigned max(unsigned a, unsigned b)
{
    return a > b ? a : b;
}

static unsigned min(unsigned a, unsigned b)
{
    return a < b ? a : b;
}

static struct rect join(struct rect a, struct rect b)
{
    unsigned x = min(a.x, b.x), y = min(a.y, b.y);

    return (struct rect){ x, y, max(a.x + a.w, b.x + b.w) - x, max(a.y + a.h, b.y + b.h) - y };
}

static uint64_t area(struct rect r)
{
    return (uint64_t)r.w * r.h;
}

/* Add a rectangle: into one that grows little by it, into a free place, or else into the one that grows
 * least. */
static void add(struct view *v, struct rect r)
{
    unsigned best = 0;
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < v->nrects; i++) {
        uint64_t sum = area(v->rects[i]) + area(r), grown = area(join(v->rects[i], r));
        uint64_t cost = grown > sum ? grown - sum : 0;

        if (cost < least) {
            least = cost;
            best = i;
        }
    }
    if (v->nrects && (least <= area(r) / 2 || v->nrects == VIEW_RECTS))
        v->rects[best] = join(v->rects[best], r);
    else
        v->rects[v->nrects++] = r;
}

static void all_new(struct view *v)
{
    v->resized = v->hurt = true;
    v->nrects = 0;
    wake(v);
}

void view_attach(struct vmb_display *d, struct view *v)
{
    bool first;

    pthread_mutex_lock(&d->lock);
    v->next = d->views;
    d->views = v;
    first = !d->nviews++;
    v->cursor = v->moved = true;
    all_new(v);
    pthread_mutex_unlock(&d->lock);
    if (first)
        d->sink->watch(d->dev, true);
}

void view_detach(struct vmb_display *d, struct view *v)
{
    bool last;

    pthread_mutex_lock(&d->lock);
    for (struct view **at = &d->views; *at; at = &(*at)->next)
        if (*at == v) {
            *at = v->next;
            break;
        }
    last = !--d->nviews;
    pthread_mutex_unlock(&d->lock);
    if (last)
        d->sink->watch(d->dev, false);
}

void view_size(struct vmb_display *d, unsigned *ret_width, unsigned *ret_height)
{
    pthread_mutex_lock(&d->lock);
    *ret_width = d->surface.size ? d->surface.width : 0;
    *ret_height = d->surface.size ? d->surface.height : 0;
    pthread_mutex_unlock(&d->lock);
}

unsigned view_update(struct vmb_display *d, struct view *v, uint32_t *pixels, unsigned width,
                     unsigned height, struct rect *rects)
{
    unsigned w, h, n = 0;

    pthread_mutex_lock(&d->lock);
    w = d->surface.size ? min(d->surface.width, width) : 0;
    h = d->surface.size ? min(d->surface.height, height) : 0;
    if (v->hurt) {
        for (unsigned y = 0; y < height; y++) /* what the picture does not cover */
            memset(pixels + (size_t)y * width + (y < h ? w : 0), 0,
                   (width - (y < h ? w : 0)) * sizeof(*pixels));
        if (w && h)
            convert(&d->surface, pixels, width, (struct rect){ 0, 0, w, h });
        rects[n++] = (struct rect){ 0, 0, width, height };
    }
    for (unsigned i = 0; !v->hurt && i < v->nrects; i++) {
        struct rect r = v->rects[i];

        if (r.x >= w || r.y >= h)
            continue;
        r.w = min(r.w, w - r.x);
        r.h = min(r.h, h - r.y);
        convert(&d->surface, pixels, width, r);
        rects[n++] = r;
    }
    v->hurt = false;
    v->nrects = 0;
    pthread_mutex_unlock(&d->lock);
    return n;
}

unsigned display_viewers(struct vmb_display *d)
{
    unsigned n;

    pthread_mutex_lock(&d->lock);
    n = d->nviews;
    pthread_mutex_unlock(&d->lock);
    return n;
}

/* ---- from the device ------------------------------------------------------------------------------ */

void display_surface(struct vmb_display *d, const struct mobo_surface *s)
{
    pthread_mutex_lock(&d->lock);
    d->surface = s ? *s : (struct mobo_surface){ 0 };
    for (struct view *v = d->views; v; v = v->next)
        all_new(v);
    pthread_mutex_unlock(&d->lock);
}

void display_dirty(struct vmb_display *d, unsigned x, unsigned y, unsigned w, unsigned h)
{
    pthread_mutex_lock(&d->lock);
    for (struct view *v = d->views; v; v = v->next)
        if (!v->hurt) {
            add(v, (struct rect){ x, y, w, h });
            wake(v);
        }
    pthread_mutex_unlock(&d->lock);
}

void display_cursor(struct vmb_display *d, const struct mobo_cursor *c)
{
    uint32_t *copy = NULL;

    if (c) {
        copy = malloc((size_t)c->width * c->height * 4);
        if (copy)
            memcpy(copy, c->argb, (size_t)c->width * c->height * 4);
    }
    pthread_mutex_lock(&d->lock);
    free((void *)d->cursor.argb);
    d->cursor = copy ? *c : (struct mobo_cursor){ 0 };
    d->cursor.argb = copy;
    for (struct view *v = d->views; v; v = v->next) {
        v->cursor = true;
        wake(v);
    }
    pthread_mutex_unlock(&d->lock);
}

void display_cursor_move(struct vmb_display *d, int x, int y, bool visible)
{
    pthread_mutex_lock(&d->lock);
    for (struct view *v = d->views; v; v = v->next) {
        v->moved = true;
        v->cursor |= visible != d->visible;
        wake(v);
    }
    d->x = x;
    d->y = y;
    d->visible = visible;
    pthread_mutex_unlock(&d->lock);
}

/* ---- life ---------------------------------------------------------------------------------------- */

int display_open(struct display_env *env, const char *dev_name, const char *spec, bool check_only,
                 const struct vmb_display_sink *sink, void *dev, struct vmb_display **ret,
                 char *msg, size_t msg_len)
{
    struct vmb_display *d, **at = &env->list;
    bool vnc = strncmp(spec, "vnc:", 4) == 0;
    int err = 0;

    if (!vnc && strcmp(spec, "null") != 0) {
        snprintf(msg, msg_len, "'%s' is not a display: vnc:ADDRESS:DISPLAY, vnc:unix:PATH or null",
                 spec);
        return -EINVAL;
    }
    d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->env = env;
    d->sink = sink;
    d->dev = dev;
    snprintf(d->name, sizeof(d->name), "%s", dev_name);
    pthread_mutex_init(&d->lock, NULL);
    if (vnc)
        err = vnc_open(d, spec + 4, check_only, msg, msg_len);
    if (err || check_only) {
        pthread_mutex_destroy(&d->lock);
        free(d);
        return err;
    }
    while (*at)
        at = &(*at)->next;
    *at = *ret = d;
    return 0;
}

void display_close(struct vmb_display *d)
{
    if (!d)
        return;
    vnc_close(d->vnc);
    for (struct vmb_display **at = &d->env->list; *at; at = &(*at)->next)
        if (*at == d) {
            *at = d->next;
            break;
        }
    pthread_mutex_destroy(&d->lock);
    free((void *)d->cursor.argb);
    free(d);
}

int display_start(struct display_env *env)
{
    int err = 0;

    for (struct vmb_display *d = env->list; d && !err; d = d->next)
        err = vnc_start(d->vnc);
    return err;
}

struct vmb_display *display_find(struct display_env *env, const char *name)
{
    struct vmb_display *d = env->list;

    while (d && name && strcmp(d->name, name) != 0)
        d = d->next;
    return d;
}

bool display_size(struct vmb_display *d, unsigned *ret_width, unsigned *ret_height)
{
    *ret_width = *ret_height = 0;
    if (d)
        view_size(d, ret_width, ret_height);
    return *ret_width != 0;
}

const char *display_name(const struct vmb_display *d)
{
    return d->name;
}
