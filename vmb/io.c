/* SPDX-License-Identifier: BSD-2-Clause */
/* The I/O thread: deferred work, watched file descriptors, character backends.
 *
 * During a pause nothing of a vdev runs here: work stays in the queue, watches are taken out of the
 * event loop, backends are told that the device takes no bytes, their events are kept. */
#include "vmb/board.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

enum { IN_A_ROW = 32 }; /* callbacks of events between two looks at descriptors */

static bool on_io_thread(struct vmb *v)
{
    return v->io.running && pthread_equal(v->io.thread, pthread_self());
}

static void wake(struct vmb *v)
{
    uint64_t one = 1;
    ssize_t n = write(v->io.wake_fd, &one, sizeof(one));

    (void)n; /* a full counter wakes as well */
}

/* The timer's thread of the kernel wakes the I/O thread, not the caller. */
static void wake_in(struct vmb *v, uint32_t ns)
{
    const struct itimerspec t = { .it_value = { 0, ns } };

    if (timerfd_settime(v->io.soon_fd, 0, &t, NULL))
        wake(v);
}

/* ---- work ---------------------------------------------------------------------------------------- */

/* The first piece of work that may run now. */
static struct work *take(struct io *io)
{
    bool paused = atomic_load(&io->paused);

    for (struct work **at = &io->head, *w; (w = *at); at = &w->next) {
        if (w->dev && paused)
            continue;
        *at = w->next;
        if (io->tail == &w->next)
            io->tail = at;
        return w;
    }
    return NULL;
}

static void woken(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb *v = ctx;
    struct work *w;
    uint64_t count;
    ssize_t n = read(fd, &count, sizeof(count));

    (void)n;
    (void)what;
    for (unsigned left = 1000; left; left--) { /* then let other events have their turn */
        pthread_mutex_lock(&v->io.lock);
        w = take(&v->io);
        v->io.awake = w != NULL;
        if (!w)
            atomic_store_explicit(&v->io.soon, false, memory_order_relaxed);
        pthread_mutex_unlock(&v->io.lock);
        if (!w)
            return;
        if (w->dev) {
            struct vdev_enter e = vdev_enter(w->dev);

            w->fn(w->ctx);
            vdev_leave(w->dev, e);
        } else {
            w->fn(w->ctx);
        }
        free(w);
    }
    wake(v);
}

int io_post_soon(struct vmb *v, struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx, uint32_t ns)
{
    struct work *w = calloc(1, sizeof(*w));
    bool asleep, soon;

    if (!w)
        return -ENOMEM;
    w->dev = dev;
    w->fn = fn;
    w->ctx = ctx;
    pthread_mutex_lock(&v->io.lock);
    *v->io.tail = w;
    v->io.tail = &w->next;
    asleep = !v->io.awake;
    soon = atomic_load_explicit(&v->io.soon, memory_order_relaxed);
    if (ns)
        atomic_store_explicit(&v->io.soon, asleep || soon, memory_order_relaxed);
    else
        v->io.awake = true;
    pthread_mutex_unlock(&v->io.lock);
    if (asleep && !ns) /* one of a batch wakes it */
        wake(v);
    else if (asleep && !soon)
        wake_in(v, ns);
    return 0;
}

int io_post(struct vmb *v, struct mobo_vdev *dev, void (*fn)(void *ctx), void *ctx)
{
    return io_post_soon(v, dev, fn, ctx, 0);
}

void io_idle(void *ctx, unsigned vp)
{
    struct vmb *v = ctx;
    bool asleep = false;

    (void)vp;
    if (!atomic_load_explicit(&v->io.soon, memory_order_relaxed))
        return;
    pthread_mutex_lock(&v->io.lock);
    if (atomic_load_explicit(&v->io.soon, memory_order_relaxed)) {
        asleep = !v->io.awake;
        v->io.awake = true;
        atomic_store_explicit(&v->io.soon, false, memory_order_relaxed);
    }
    pthread_mutex_unlock(&v->io.lock);
    if (asleep)
        wake(v);
}

struct call {
    struct vmb *v;
    void (*fn)(void *ctx);
    void *ctx;
    bool done;
};

static void call_run(void *ctx)
{
    struct call *c = ctx;

    c->fn(c->ctx);
    pthread_mutex_lock(&c->v->io.lock);
    c->done = true;
    pthread_cond_broadcast(&c->v->io.cond);
    pthread_mutex_unlock(&c->v->io.lock);
}

void io_call(struct vmb *v, void (*fn)(void *ctx), void *ctx)
{
    struct call c = { v, fn, ctx, false };

    if (!v->io.running || on_io_thread(v) || io_post(v, NULL, call_run, &c)) {
        fn(ctx);
        return;
    }
    pthread_mutex_lock(&v->io.lock);
    while (!c.done)
        pthread_cond_wait(&v->io.cond, &v->io.lock);
    pthread_mutex_unlock(&v->io.lock);
}

/* ---- watches ------------------------------------------------------------------------------------- */

static void watch_ready(evutil_socket_t fd, short what, void *ctx)
{
    struct mobo_watch *w = ctx;
    struct vmb *v = w->dev->board;
    struct vdev_enter e;
    uint32_t ev = 0;

    if (atomic_load(&v->io.paused))
        return;
    if (what & EV_READ)
        ev |= MOBO_WATCH_READ;
    if (what & EV_WRITE)
        ev |= MOBO_WATCH_WRITE;
    e = vdev_enter(w->dev);
    ev &= atomic_load(&w->events); /* under the lock: nothing comes after fd_watch_set() */
    if (ev && !atomic_load(&w->dead))
        w->ready(w->ctx, fd, ev);
    vdev_leave(w->dev, e);
}

/* Put the watch into the event loop as it should be.  event_del() would wait for a callback that
 * may wait for the caller's vdev lock; the _noblock kind does not. */
static void watch_apply(struct mobo_watch *w)
{
    struct vmb *v = w->dev->board;
    uint32_t events = atomic_load(&w->events);
    short what = EV_PERSIST;

    event_del_noblock(w->ev);
    if (atomic_load(&w->dead) || atomic_load(&v->io.paused) || !events)
        return;
    if (events & MOBO_WATCH_READ)
        what |= EV_READ;
    if (events & MOBO_WATCH_WRITE)
        what |= EV_WRITE;
    event_assign(w->ev, v->io.base, w->fd, what, watch_ready, w);
    event_add(w->ev, NULL);
}

static void watch_apply_work(void *ctx)
{
    watch_apply(ctx);
}

int io_watch(struct mobo_vdev *dev, int fd, uint32_t events,
             void (*ready)(void *ctx, int fd, uint32_t events), void *ctx, struct mobo_watch **ret)
{
    struct vmb *v = dev->board;
    struct mobo_watch *w;

    if (fd < 0 || !ready || (events & ~(uint32_t)(MOBO_WATCH_READ | MOBO_WATCH_WRITE)))
        return vdev_fail(dev, -EINVAL, "bad file descriptor watch");
    w = calloc(1, sizeof(*w));
    if (w)
        w->ev = event_new(v->io.base, fd, EV_PERSIST, watch_ready, w);
    if (!w || !w->ev) {
        free(w);
        return vdev_fail(dev, -ENOMEM, "watch: no memory");
    }
    w->dev = dev;
    w->fd = fd;
    w->ready = ready;
    w->ctx = ctx;
    atomic_store(&w->events, events);
    pthread_mutex_lock(&v->io.lock);
    w->next = v->io.watches;
    v->io.watches = w;
    pthread_mutex_unlock(&v->io.lock);
    io_post(v, NULL, watch_apply_work, w);
    *ret = w;
    return 0;
}

void io_watch_set(struct mobo_watch *w, uint32_t events)
{
    if (atomic_exchange(&w->events, events) != events)
        io_post(w->dev->board, NULL, watch_apply_work, w);
}

/* Behind its callback, and behind all that was posted for it. */
static void watch_free(void *ctx)
{
    struct mobo_watch *w = ctx, **pp;
    struct vmb *v = w->dev->board;

    pthread_mutex_lock(&v->io.lock);
    for (pp = &v->io.watches; *pp && *pp != w;)
        pp = &(*pp)->next;
    if (*pp)
        *pp = w->next;
    pthread_mutex_unlock(&v->io.lock);
    event_free(w->ev);
    free(w);
}

void io_unwatch(struct mobo_watch *w)
{
    if (!w || atomic_exchange(&w->dead, true))
        return;
    atomic_store(&w->events, 0);
    event_del_noblock(w->ev); /* at once: the owner closes the descriptor next */
    io_post(w->dev->board, NULL, watch_free, w);
}

/* ---- character backends -------------------------------------------------------------------------- */

static size_t sink_can_read(void *dev)
{
    struct mobo_char *c = dev;
    struct vdev_enter e;
    uint32_t n;

    if (atomic_load(&c->dev->board->io.paused))
        return 0;
    e = vdev_enter(c->dev);
    n = c->ops.can_read(c->ctx);
    vdev_leave(c->dev, e);
    return n;
}

static void sink_read(void *dev, const uint8_t *buf, size_t len)
{
    struct mobo_char *c = dev;
    struct vdev_enter e = vdev_enter(c->dev);

    c->ops.read(c->ctx, buf, (uint32_t)len);
    vdev_leave(c->dev, e);
}

static void sink_event(void *dev, unsigned event)
{
    struct mobo_char *c = dev;
    struct vdev_enter e;

    if (!c->ops.event || event > 31)
        return;
    if (atomic_load(&c->dev->board->io.paused)) {
        if (event == MOBO_CHAR_OPENED || event == MOBO_CHAR_CLOSED) /* the last one counts */
            atomic_fetch_and(&c->pending, ~(1u << MOBO_CHAR_OPENED | 1u << MOBO_CHAR_CLOSED));
        atomic_fetch_or(&c->pending, 1u << event);
        return;
    }
    e = vdev_enter(c->dev);
    c->ops.event(c->ctx, event);
    vdev_leave(c->dev, e);
}

static const struct vmb_char_sink char_sink = { sink_can_read, sink_read, sink_event };

int char_open(struct mobo_vdev *dev, const char *key, const struct mobo_char_ops *ops, void *ctx,
              struct mobo_char **ret)
{
    struct vmb *v = dev->board;
    struct vdev_param *p = vdev_param_find(dev, key);
    struct mobo_char *c;
    char msg[VMB_MSG_LEN] = "";

    if (vdev_creating(dev, "char_open"))
        return -EPERM;
    if (!p || p->kind != MOBO_CHAR || ops->size < sizeof(*ops) || !ops->can_read || !ops->read)
        return vdev_fail(dev, -EINVAL, "%s: bad use of char_open", key);
    c = calloc(1, sizeof(*c));
    if (!c)
        return vdev_fail(dev, -ENOMEM, "%s: no memory", key);
    c->dev = dev;
    memcpy(&c->ops, ops, sizeof(c->ops));
    c->ctx = ctx;
    if (p->text && v->ops->char_open) {
        int err = v->ops->char_open(v->ctx, v->io.base, dev->name, p->text, v->check_only,
                                    &char_sink, c, &c->backend, msg, sizeof(msg));

        if (err) {
            free(c);
            return vdev_fail(dev, err, "%s: %s", key, msg[0] ? msg : strerror(-err));
        }
    }
    c->next = v->io.chars;
    v->io.chars = c;
    *ret = c;
    return 0;
}

uint32_t char_write(struct mobo_char *c, const uint8_t *buf, uint32_t len)
{
    vdev_check(c->dev, "char_write");
    return c->backend ? (uint32_t)c->dev->board->ops->char_write(c->backend, buf, len) : len;
}

void char_ready(struct mobo_char *c)
{
    if (c->backend)
        c->dev->board->ops->char_ready(c->backend);
}

/* ---- life ---------------------------------------------------------------------------------------- */

/* Events that make themselves active again leave time to look at descriptors. */
static struct event_base *base_new(void)
{
    struct event_config *c = event_config_new();
    struct event_base *b = NULL;

    if (c && !event_config_set_max_dispatch_interval(c, NULL, IN_A_ROW, 0))
        b = event_base_new_with_config(c);
    if (c)
        event_config_free(c);
    return b;
}

int io_init(struct vmb *v, char *msg, size_t len)
{
    struct io *io = &v->io;

    pthread_mutex_init(&io->lock, NULL);
    pthread_cond_init(&io->cond, NULL);
    io->tail = &io->head;
    atomic_store(&io->paused, true); /* until power-on */
    if (evthread_use_pthreads())
        goto fail;
    io->base = base_new();
    io->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    io->soon_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (!io->base || io->wake_fd < 0 || io->soon_fd < 0)
        goto fail;
    io->wake = event_new(io->base, io->wake_fd, EV_READ | EV_PERSIST, woken, v);
    io->soon_wake = event_new(io->base, io->soon_fd, EV_READ | EV_PERSIST, woken, v);
    if (!io->wake || event_add(io->wake, NULL) || !io->soon_wake || event_add(io->soon_wake, NULL))
        goto fail;
    return 0;
fail:
    snprintf(msg, len, "cannot set up the I/O event loop: %s", strerror(errno ? errno : ENOMEM));
    return -ENOMEM;
}

static void *io_main(void *arg)
{
    struct vmb *v = arg;

    event_base_loop(v->io.base, EVLOOP_NO_EXIT_ON_EMPTY);
    return NULL;
}

int io_start(struct vmb *v)
{
    sigset_t old;
    int err;

    board_block_signals(&old);
    v->io.running = true; /* the thread may ask at once */
    err = pthread_create(&v->io.thread, NULL, io_main, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err) {
        v->io.running = false;
        return -err;
    }
    pthread_setname_np(v->io.thread, "mobo-io");
    return 0;
}

static void io_break(void *ctx)
{
    event_base_loopbreak(((struct vmb *)ctx)->io.base);
}

void io_stop(struct vmb *v)
{
    if (!v->io.running)
        return;
    io_post(v, NULL, io_break, v);
    pthread_join(v->io.thread, NULL);
    v->io.running = false;
}

void io_fini(struct vmb *v)
{
    struct io *io = &v->io;

    for (struct mobo_char *c = io->chars, *next; c; c = next) {
        next = c->next;
        if (c->backend)
            v->ops->char_close(c->backend);
        free(c);
    }
    bus_tick_fini(v);
    net_fini(v);
    disp_fini(v);
    input_fini(v);
    for (struct mobo_watch *w = io->watches, *next; w; w = next) {
        next = w->next;
        event_free(w->ev);
        free(w);
    }
    for (struct work *w = io->head, *next; w; w = next) {
        next = w->next;
        free(w);
    }
    if (io->wake)
        event_free(io->wake);
    if (io->wake_fd >= 0)
        close(io->wake_fd);
    if (io->soon_wake)
        event_free(io->soon_wake);
    if (io->soon_fd >= 0)
        close(io->soon_fd);
    clock_fini(v);
    if (io->base)
        event_base_free(io->base);
    pthread_cond_destroy(&io->cond);
    pthread_mutex_destroy(&io->lock);
}

static void apply_all(struct vmb *v)
{
    pthread_mutex_lock(&v->io.lock);
    for (struct mobo_watch *w = v->io.watches; w; w = w->next)
        if (!atomic_load(&w->dead))
            watch_apply(w);
    pthread_mutex_unlock(&v->io.lock);
}

static void pause_here(void *ctx)
{
    struct vmb *v = ctx;

    atomic_store(&v->io.paused, true);
    apply_all(v);
}

static void resume_here(void *ctx)
{
    struct vmb *v = ctx;

    atomic_store(&v->io.paused, false);
    apply_all(v);
    for (struct mobo_char *c = v->io.chars; c; c = c->next) {
        unsigned pending = atomic_exchange(&c->pending, 0);

        for (unsigned ev = 0; ev < 32; ev++)
            if (pending >> ev & 1)
                sink_event(c, ev);
        char_ready(c);
    }
    net_resume(v);
    input_resume(v);
    wake(v); /* work that waited */
}

void io_pause(struct vmb *v)
{
    io_call(v, pause_here, v);
}

void io_resume(struct vmb *v)
{
    io_call(v, resume_here, v);
}
