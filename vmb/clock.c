/* SPDX-License-Identifier: BSD-2-Clause */
/* Timers on guest time: a heap, and one timerfd for the earliest. */
#include "vmb/board.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

/* ---- heap ---------------------------------------------------------------------------------------- */

static void heap_put(struct clock *c, unsigned at, struct mobo_timer *t)
{
    c->heap[at] = t;
    t->at = (int)at;
}

static void heap_up(struct clock *c, unsigned at)
{
    struct mobo_timer *t = c->heap[at];

    while (at && c->heap[(at - 1) / 2]->deadline > t->deadline) {
        heap_put(c, at, c->heap[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    heap_put(c, at, t);
}

static void heap_down(struct clock *c, unsigned at)
{
    struct mobo_timer *t = c->heap[at];

    for (;;) {
        unsigned kid = at * 2 + 1;

        if (kid >= c->nheap)
            break;
        if (kid + 1 < c->nheap && c->heap[kid + 1]->deadline < c->heap[kid]->deadline)
            kid++;
        if (c->heap[kid]->deadline >= t->deadline)
            break;
        heap_put(c, at, c->heap[kid]);
        at = kid;
    }
    heap_put(c, at, t);
}

static void heap_remove(struct clock *c, struct mobo_timer *t)
{
    unsigned at = (unsigned)t->at;
    struct mobo_timer *last = c->heap[--c->nheap];

    t->at = -1;
    if (last == t)
        return;
    heap_put(c, at, last);
    heap_up(c, at);
    heap_down(c, (unsigned)last->at);
}

/* ---- the timerfd --------------------------------------------------------------------------------- */

static void program_locked(struct vmb *v)
{
    struct clock *c = &v->clock;
    struct itimerspec its = { 0 };
    uint64_t host = UINT64_MAX;

    if (c->fd < 0)
        return;
    if (c->nheap && !c->stopped)
        host = hv_time_to_host_ns(v->part, c->heap[0]->deadline);
    if (host != UINT64_MAX) {
        if (host == 0)
            host = 1; /* all zero would disarm */
        if (host > (uint64_t)INT64_MAX)
            host = (uint64_t)INT64_MAX;
        its.it_value.tv_sec = (time_t)(host / 1000000000);
        its.it_value.tv_nsec = (long)(host % 1000000000);
    }
    timerfd_settime(c->fd, TFD_TIMER_ABSTIME, &its, NULL);
}

/* I/O thread: run what is due.  The lock of a vdev is taken with clock.lock free, so a timer may be
 * set or cancelled in between; its generation tells. */
static void expired(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb *v = ctx;
    struct clock *c = &v->clock;
    uint64_t ticks, now;
    ssize_t n = read(fd, &ticks, sizeof(ticks));

    (void)what;
    (void)n;
    pthread_mutex_lock(&c->lock);
    now = hv_time_ns(v->part);
    while (!c->stopped && c->nheap && c->heap[0]->deadline <= now) {
        struct mobo_timer *t = c->heap[0];
        unsigned gen = t->gen;
        struct vdev_enter e;
        bool run;

        heap_remove(c, t);
        pthread_mutex_unlock(&c->lock);
        e = vdev_enter(t->dev);
        pthread_mutex_lock(&c->lock);
        run = t->gen == gen && !c->stopped;
        if (!run && t->gen == gen && t->at < 0) { /* stopped meanwhile: keep it for later */
            heap_put(c, c->nheap++, t);
            heap_up(c, (unsigned)t->at);
        }
        pthread_mutex_unlock(&c->lock);
        if (run)
            t->fired(t->ctx, hv_time_ns(v->part));
        vdev_leave(t->dev, e);
        pthread_mutex_lock(&c->lock);
    }
    program_locked(v);
    pthread_mutex_unlock(&c->lock);
}

int clock_init(struct vmb *v)
{
    struct clock *c = &v->clock;

    c->stopped = true;
    c->fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (c->fd < 0)
        return -errno;
    c->ev = event_new(v->io.base, c->fd, EV_READ | EV_PERSIST, expired, v);
    if (!c->ev || event_add(c->ev, NULL))
        return -ENOMEM;
    return 0;
}

void clock_fini(struct vmb *v)
{
    struct clock *c = &v->clock;

    if (c->ev)
        event_free(c->ev);
    if (c->fd >= 0)
        close(c->fd);
    for (struct mobo_timer *t = c->all, *next; t; t = next) {
        next = t->next;
        free(t);
    }
    free(c->heap);
    pthread_mutex_destroy(&c->lock);
}

int timer_add(struct mobo_vdev *dev, void (*fired)(void *ctx, uint64_t now), void *ctx,
              struct mobo_timer **ret)
{
    struct clock *c = &dev->board->clock;
    struct mobo_timer *t, **heap;

    if (vdev_creating(dev, "timer_create"))
        return -EPERM;
    t = calloc(1, sizeof(*t));
    if (!t)
        return vdev_fail(dev, -ENOMEM, "timer: no memory");
    t->dev = dev;
    t->fired = fired;
    t->ctx = ctx;
    t->at = -1;
    pthread_mutex_lock(&c->lock);
    if (c->ntimers == c->cap) { /* the heap has room for all timers that there are */
        /* an array of pointers: NOLINTNEXTLINE(bugprone-sizeof-expression) */
        heap = realloc(c->heap, (c->cap + 32) * sizeof(*heap));
        if (!heap) {
            pthread_mutex_unlock(&c->lock);
            free(t);
            return vdev_fail(dev, -ENOMEM, "timer: no memory");
        }
        c->heap = heap;
        c->cap += 32;
    }
    c->ntimers++;
    t->next = c->all;
    c->all = t;
    pthread_mutex_unlock(&c->lock);
    *ret = t;
    return 0;
}

void timer_arm(struct mobo_timer *t, uint64_t deadline)
{
    struct vmb *v = t->dev->board;
    struct clock *c = &v->clock;
    struct mobo_timer *first;

    vdev_check(t->dev, "timer_set");
    pthread_mutex_lock(&c->lock);
    first = c->nheap ? c->heap[0] : NULL;
    t->gen++;
    if (t->at >= 0)
        heap_remove(c, t);
    t->deadline = deadline;
    heap_put(c, c->nheap++, t);
    heap_up(c, (unsigned)t->at);
    if (c->heap[0] != first || first == t)
        program_locked(v);
    pthread_mutex_unlock(&c->lock);
}

void timer_disarm(struct mobo_timer *t)
{
    struct clock *c = &t->dev->board->clock;

    vdev_check(t->dev, "timer_cancel");
    pthread_mutex_lock(&c->lock);
    t->gen++;
    if (t->at >= 0)
        heap_remove(c, t);
    pthread_mutex_unlock(&c->lock);
}

void clock_stop(struct vmb *v, bool stop)
{
    pthread_mutex_lock(&v->clock.lock);
    hv_time_pause(v->part, stop);
    v->clock.stopped = stop;
    program_locked(v);
    pthread_mutex_unlock(&v->clock.lock);
}

void clock_clear(struct vmb *v)
{
    struct clock *c = &v->clock;

    pthread_mutex_lock(&c->lock);
    while (c->nheap) {
        c->heap[0]->gen++;
        heap_remove(c, c->heap[0]);
    }
    program_locked(v);
    pthread_mutex_unlock(&c->lock);
}
