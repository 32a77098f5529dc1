/* SPDX-License-Identifier: MIT */
/* Time, work, descriptors, character backends, system requests of the fake host. */
#include "sdk/test/fake_int.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

/* ---- time, work, watches ------------------------------------------------------------------------ */

uint64_t fake_clock_ns(struct mobo_vdev *dev)
{
    return dev->f->now;
}

int64_t fake_wall_ns(struct mobo_vdev *dev)
{
    return dev->f->wall + (int64_t)dev->f->now;
}

int fake_timer_create(struct mobo_vdev *dev, void (*fired)(void *ctx, uint64_t now), void *ctx,
                      mobo_timer_t *ret)
{
    struct mobo_timer *t = fake_zalloc(sizeof(*t));

    t->dev = dev;
    t->fired = fired;
    t->ctx = ctx;
    t->deadline = UINT64_MAX;
    t->next = dev->f->timers;
    dev->f->timers = t;
    *ret = t;
    return 0;
}

void fake_timer_set(mobo_timer_t t, uint64_t deadline)
{
    t->deadline = deadline;
}

void fake_timer_cancel(mobo_timer_t t)
{
    t->deadline = UINT64_MAX;
}

static struct mobo_timer *next_timer(struct mobo_fake *f)
{
    struct mobo_timer *best = NULL;

    for (struct mobo_timer *t = f->timers; t; t = t->next)
        if (t->deadline != UINT64_MAX && (!best || t->deadline < best->deadline))
            best = t;
    return best;
}

uint64_t mobo_fake_next_timer(struct mobo_fake *f)
{
    struct mobo_timer *t = next_timer(f);

    return t ? t->deadline : UINT64_MAX;
}

int fake_work_post(struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx)
{
    struct work *w = fake_zalloc(sizeof(*w));

    w->dev = dev;
    w->fn = fn;
    w->ctx = ctx;
    *dev->f->work_tail = w;
    dev->f->work_tail = &w->next;
    return 0;
}

int fake_fd_watch(struct mobo_vdev *dev, int fd, uint32_t events,
                  void (*ready)(void *ctx, int fd, uint32_t events), void *ctx, mobo_watch_t *ret)
{
    struct mobo_watch *w = fake_zalloc(sizeof(*w));

    w->dev = dev;
    w->fd = fd;
    w->events = events;
    w->ready = ready;
    w->ctx = ctx;
    w->next = dev->f->watches;
    dev->f->watches = w;
    *ret = w;
    return 0;
}

void fake_fd_watch_set(mobo_watch_t w, uint32_t events)
{
    w->events = events;
}

void fake_fd_unwatch(mobo_watch_t w)
{
    w->events = 0;
    w->fd = -1;
}

void mobo_fake_work(struct mobo_fake *f)
{
    struct work *w;

    if (f->paused)
        return;
    while ((w = f->work)) {
        f->work = w->next;
        if (!f->work)
            f->work_tail = &f->work;
        w->fn(w->ctx);
        free(w);
    }
    fake_net_work(f);
    for (struct mobo_watch *x = f->watches; x; x = x->next) {
        struct pollfd p = { x->fd, 0, 0 };
        uint32_t ev = 0;

        if (x->fd < 0 || !x->events)
            continue;
        p.events = (short)((x->events & MOBO_WATCH_READ ? POLLIN : 0) |
                           (x->events & MOBO_WATCH_WRITE ? POLLOUT : 0));
        if (poll(&p, 1, 0) <= 0)
            continue;
        if (p.revents & (POLLIN | POLLHUP | POLLERR))
            ev |= MOBO_WATCH_READ;
        if (p.revents & POLLOUT)
            ev |= MOBO_WATCH_WRITE;
        if (ev & x->events)
            x->ready(x->ctx, x->fd, ev & x->events);
    }
}

uint64_t mobo_fake_now(struct mobo_fake *f)
{
    return f->now;
}

void mobo_fake_step(struct mobo_fake *f, uint64_t ns)
{
    uint64_t end = f->now + ns;
    struct mobo_timer *t;

    if (f->paused)
        fake_die("time cannot pass while paused");
    mobo_fake_work(f);
    while ((t = next_timer(f)) && t->deadline <= end) {
        if (t->deadline > f->now)
            f->now = t->deadline;
        t->deadline = UINT64_MAX;
        t->fired(t->ctx, f->now);
    }
    f->now = end;
}

void mobo_fake_wall(struct mobo_fake *f, int64_t ns)
{
    f->wall = ns;
}

/* ---- character backends -------------------------------------------------------------------------- */

static struct mobo_char *chr_at(struct mobo_vdev *dev, unsigned n)
{
    if (n >= CHARS || !dev->chr[n].open)
        fake_die("%s has no character backend %u", dev->name, n);
    return &dev->chr[n];
}

int fake_char_open(struct mobo_vdev *dev, const char *key, const struct mobo_char_ops *ops,
                   void *ctx, mobo_char_t *ret)
{
    unsigned n = 0;

    fake_find_param(dev, key, 1 << MOBO_CHAR);
    while (n < CHARS && dev->chr[n].open)
        n++;
    if (n == CHARS || ops->size < sizeof(*ops) || !ops->can_read || !ops->read)
        return -EINVAL;
    dev->chr[n].ops = *ops;
    dev->chr[n].ctx = ctx;
    dev->chr[n].open = 1;
    dev->chr[n].room = UINT32_MAX;
    *ret = &dev->chr[n];
    return 0;
}

uint32_t fake_char_write(mobo_char_t c, const uint8_t *buf, uint32_t len)
{
    uint32_t n = len < c->room ? len : c->room;

    c->out = realloc(c->out, c->out_len + n + 1);
    if (!c->out)
        fake_die("out of memory");
    memcpy(c->out + c->out_len, buf, n);
    c->out_len += n;
    if (c->room != UINT32_MAX)
        c->room -= n;
    return n;
}

static void char_pump(struct mobo_char *c)
{
    if (c->pumping)
        return;
    c->pumping = 1;
    while (c->in_len) {
        uint32_t n = c->ops.can_read(c->ctx);

        if (!n)
            break;
        if (n > c->in_len)
            n = c->in_len;
        /* a copy, so that overruns show in sanitizer builds */
        uint8_t *buf = fake_zalloc(n);

        memcpy(buf, c->in, n);
        memmove(c->in, c->in + n, c->in_len - n);
        c->in_len -= n;
        c->ops.read(c->ctx, buf, n);
        free(buf);
    }
    c->pumping = 0;
}

void fake_char_ready(mobo_char_t c)
{
    char_pump(c);
}

uint32_t mobo_fake_char_send(struct mobo_vdev *dev, unsigned n, const void *buf, uint32_t len)
{
    struct mobo_char *c = chr_at(dev, n);

    c->in = realloc(c->in, c->in_len + len + 1);
    if (!c->in)
        fake_die("out of memory");
    memcpy(c->in + c->in_len, buf, len);
    c->in_len += len;
    char_pump(c);
    return c->in_len;
}

uint32_t mobo_fake_char_recv(struct mobo_vdev *dev, unsigned n, void *buf, uint32_t max)
{
    struct mobo_char *c = chr_at(dev, n);
    uint32_t len = c->out_len < max ? c->out_len : max;

    if (!len)
        return 0;
    memcpy(buf, c->out, len);
    memmove(c->out, c->out + len, c->out_len - len);
    c->out_len -= len;
    return len;
}

void mobo_fake_char_event(struct mobo_vdev *dev, unsigned n, uint32_t event)
{
    struct mobo_char *c = chr_at(dev, n);

    if (c->ops.event)
        c->ops.event(c->ctx, event);
}

void mobo_fake_char_room(struct mobo_vdev *dev, unsigned n, uint32_t room)
{
    struct mobo_char *c = chr_at(dev, n);
    int was = c->room == 0;

    c->room = room;
    if (was && room)
        mobo_fake_char_event(dev, n, MOBO_CHAR_WRITABLE);
}

/* ---- system and ACPI ----------------------------------------------------------------------------- */

void fake_system_request(struct mobo_vdev *dev, uint32_t kind, uint32_t code, const char *text)
{
    struct mobo_fake *f = dev->f;

    (void)text;
    if (f->nsys == SYS_LOG)
        return;
    f->sys[f->nsys].kind = kind;
    f->sys[f->nsys++].code = code;
}

uint32_t mobo_fake_system(struct mobo_fake *f, uint32_t *ret_code)
{
    uint32_t kind;

    if (!f->nsys)
        return 0;
    kind = f->sys[0].kind;
    if (ret_code)
        *ret_code = f->sys[0].code;
    memmove(f->sys, f->sys + 1, --f->nsys * sizeof(f->sys[0]));
    return kind;
}

int fake_acpi_add(struct mobo_vdev *dev, const struct mobo_acpi *desc)
{
    struct acpi *a, **tail;

    if (desc->size < sizeof(*desc) || desc->size > 4096)
        return -EINVAL;
    for (tail = &dev->f->acpi; *tail; tail = &(*tail)->next)
        ;
    a = *tail = fake_zalloc(sizeof(*a));
    a->dev = dev;
    a->desc = fake_zalloc(desc->size);
    memcpy(a->desc, desc, desc->size);
    return 0;
}

const struct mobo_acpi *mobo_fake_acpi(struct mobo_fake *f, uint32_t kind, unsigned n)
{
    for (struct acpi *a = f->acpi; a; a = a->next)
        if (a->desc->kind == kind && n-- == 0)
            return a->desc;
    return NULL;
}
