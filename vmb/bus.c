/* SPDX-License-Identifier: BSD-2-Clause */
/* VMBus on the board: connects the bus (vmbus/) with the hypervisor and with vdevs.
 *
 * The bus's service thread is the I/O thread.  A channel's callbacks run there under its vdev's lock. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "vmb/board.h"

#include <errno.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>

/* Packets that a channel gives before others have their turn: a guest that sends as fast as a device takes
 * does not keep the I/O thread. */
enum { RECEIVE_BUDGET = 512 };

/* A guest signals when its ring was empty, so that a host that is quick is signalled for each packet, and interrupts the
 * guest for each answer.  Where packets come by several, a signal wakes the I/O thread LAZY_NS later, or when the VP has
 * nothing to do; whether they do is tried again and again, the less often the less they did. */
enum { LAZY_NS = 50000, LAZY_FIRST = 32, LAZY_LAST = 4096, LAZY_LONE = 4 };

static int post_to_guest(void *ctx, unsigned vp, const void *payload, unsigned len)
{
    struct vmb *v = ctx;

    return hv_message_post(v->part, vp, VMBUS_SINT, 1, payload, len);
}

static int signal_guest(void *ctx, unsigned vp, unsigned flag)
{
    struct vmb *v = ctx;

    return hv_event_signal(v->part, vp, VMBUS_SINT, flag);
}

static void *guest_page(void *ctx, uint64_t gpa)
{
    struct vmb *v = ctx;

    return hv_gpa_hva(v->part, gpa, HV_PAGE_SIZE, true);
}

static void page_dirty(void *ctx, uint64_t gpa, unsigned len)
{
    struct vmb *v = ctx;

    hv_gpa_dirty(v->part, gpa, len);
}

static void service(void *ctx)
{
    struct vmb *v = ctx;

    atomic_store(&v->bus_posted, false);
    vmbus_service(v->bus);
}

static void service_wanted(void *ctx)
{
    struct vmb *v = ctx;

    if (!atomic_exchange(&v->bus_posted, true) && io_post(v, NULL, service, v))
        atomic_store(&v->bus_posted, false);
}

static void bus_log(void *ctx, int level, const char *line)
{
    vmb_log(ctx, level < 0 ? 0 : (unsigned)level, "vmbus", "%s", line);
}

static void tick(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb *v = ctx;

    (void)fd, (void)what;
    if (!atomic_load(&v->io.paused))
        vmbus_monitor_poll(v->bus);
}

static void monitor(void *ctx, bool on)
{
    static const struct timeval period = { 0, 1000 };
    struct vmb *v = ctx;

    if (!v->bus_tick)
        v->bus_tick = event_new(v->io.base, -1, EV_PERSIST, tick, v);
    if (v->bus_tick && on)
        event_add(v->bus_tick, &period);
    else if (v->bus_tick)
        event_del_noblock(v->bus_tick);
}

void bus_tick_fini(struct vmb *v)
{
    if (v->bus_tick)
        event_free(v->bus_tick);
    v->bus_tick = NULL;
}

int bus_init(struct vmb *v)
{
    static const struct vmbus_ops ops = { post_to_guest,  signal_guest, guest_page, page_dirty,
                                          service_wanted, bus_log,      monitor };

    return vmbus_create(&ops, v, v->vps, &v->bus);
}

void bus_fini(struct vmb *v)
{
    vmbus_destroy(v->bus);
    v->bus = NULL;
    while (v->bus_channels) {
        struct mobo_vmbus *m = v->bus_channels;

        v->bus_channels = m->next;
        free(m);
    }
}

static void reset(void *ctx)
{
    struct vmb *v = ctx;

    vmbus_reset(v->bus);
}

void bus_reset(struct vmb *v)
{
    if (v->bus)
        io_call(v, reset, v);
}

static void settle(void *ctx)
{
    struct vmb *v = ctx;

    vmbus_service(v->bus);
}

void bus_settle(struct vmb *v)
{
    if (v->bus)
        io_call(v, settle, v);
}

struct save {
    struct vmb *v;
    struct mobo_writer *w;
    int err;
};

static void save(void *ctx)
{
    struct save *s = ctx;

    s->err = vmbus_save(s->v->bus, s->w);
}

int bus_save(struct vmb *v, struct mobo_writer *w)
{
    struct save s = { v, w, 0 };

    io_call(v, save, &s);
    return s.err;
}

static void channel_signal(void *ctx);

int bus_commit(struct vmb *v, struct vmbus_saved *s, char *msg, size_t len)
{
    int err = vmbus_commit(v->bus, s, msg, len);

    /* Packets may wait, room may have come: all look, once the board goes on. */
    for (struct mobo_vmbus *m = v->bus_channels; m && !err; m = m->next)
        if (m->ch && vmbus_is_open(m->ch))
            channel_signal(m);
    if (!err)
        service_wanted(v);
    return err;
}

uint16_t bus_post_message(void *ctx, unsigned vp, uint32_t connection, uint32_t type,
                          const void *payload, unsigned len)
{
    struct vmb *v = ctx;

    return vmbus_post_message(v->bus, vp, connection, type, payload, len);
}

uint16_t bus_signal_event(void *ctx, unsigned vp, uint32_t connection, uint16_t flag)
{
    struct vmb *v = ctx;

    return vmbus_signal_event(v->bus, vp, connection, flag);
}

/* ---- channels ------------------------------------------------------------------------------------ */

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct mobo_vmbus *m = ctx;
    struct vdev_enter e = vdev_enter(m->dev);
    int err = m->dead ? -ENODEV : m->ops.open ? m->ops.open(m->ctx, user_data) : 0;

    vdev_leave(m->dev, e);
    return err;
}

static void channel_close(void *ctx)
{
    struct mobo_vmbus *m = ctx;
    struct vdev_enter e = vdev_enter(m->dev);

    if (!m->dead && m->ops.close)
        m->ops.close(m->ctx);
    vdev_leave(m->dev, e);
}

/* Under the vdev lock, on the I/O thread: @n packets came with a signal. */
static void adapt(struct mobo_vmbus *m, uint32_t n)
{
    bool lazy = atomic_load_explicit(&m->lazy, memory_order_relaxed);

    if (n > 1) {
        m->lone = 0;
        m->wait = m->backoff = LAZY_FIRST;
        lazy = true;
    } else if (lazy && ++m->lone >= LAZY_LONE) {
        lazy = false;
        m->lone = 0;
        m->wait = m->backoff;
        m->backoff = m->backoff < LAZY_LAST ? m->backoff * 2 : LAZY_LAST;
    } else if (!lazy && (!m->wait || !--m->wait)) {
        lazy = true;
        m->lone = LAZY_LONE - 1; /* one try */
        m->backoff = m->backoff ? m->backoff : LAZY_FIRST;
    }
    atomic_store_explicit(&m->lazy, lazy, memory_order_relaxed);
}

/* Under the vdev lock, on the I/O thread. */
static void channel_work(void *ctx)
{
    struct mobo_vmbus *m = ctx;

    atomic_store(&m->posted, false);
    m->budget = RECEIVE_BUDGET;
    if (!m->dead && m->ops.signal)
        m->ops.signal(m->ctx);
    if (m->dev->board->lazy_signals)
        adapt(m, RECEIVE_BUDGET - m->budget);
}

static void channel_signal(void *ctx)
{
    struct mobo_vmbus *m = ctx;

    if (!atomic_exchange(&m->posted, true) &&
        io_post_soon(m->dev->board, m->dev, channel_work, m, atomic_load_explicit(&m->lazy, memory_order_relaxed) ? LAZY_NS : 0))
        atomic_store(&m->posted, false);
}

/* Nobody calls back any more, and what was posted before has run. */
static void channel_gone(void *ctx)
{
    struct mobo_vmbus *m = ctx, **pp = &m->dev->board->bus_channels;

    while (*pp && *pp != m)
        pp = &(*pp)->next;
    if (*pp)
        *pp = m->next;
    free(m);
}

static void channel_released(void *ctx)
{
    struct mobo_vmbus *m = ctx;

    /* With the device, so that it stays behind channel_work() in a pause.  No memory: bus_fini() frees it. */
    (void)io_post(m->dev->board, m->dev, channel_gone, m);
}

int bus_offer(struct mobo_vdev *dev, const struct mobo_vmbus_offer *offer,
              const struct mobo_vmbus_ops *ops, void *ctx, struct mobo_vmbus **ret)
{
    static const struct vmbus_channel_ops channel_ops = { channel_open, channel_close,
                                                          channel_signal, channel_released };
    struct vmb *v = dev->board;
    struct vmbus_offer o = { .name = dev->name };
    struct mobo_vmbus *m;
    int err;

    vdev_check(dev, "vmbus_offer");
    if (!v->bus)
        return vdev_fail(dev, -ENODEV, "there is no VMBus: the board is not enlightened");
    m = calloc(1, sizeof(*m));
    if (!m)
        return vdev_fail(dev, -ENOMEM, "out of memory");
    m->dev = dev;
    m->ctx = ctx;
    m->budget = RECEIVE_BUDGET;
    memcpy(&m->ops, ops, ops->size < sizeof(m->ops) ? ops->size : sizeof(m->ops));
    memcpy(o.class_id, offer->class_id, 16);
    memcpy(o.instance_id, offer->instance_id, 16);
    o.flags = offer->flags;
    o.mmio_megabytes = offer->mmio_megabytes;
    o.sub_index = offer->sub_index;
    o.monitored = offer->host_flags & MOBO_VMBUS_MONITORED;
    memcpy(o.user_data, offer->user_data, sizeof(o.user_data));
    err = vmbus_offer(v->bus, &o, &channel_ops, m, &m->ch);
    if (err) {
        free(m);
        return vdev_fail(dev, err, "no VMBus channel is free");
    }
    m->next = v->bus_channels;
    v->bus_channels = m;
    *ret = m;
    return 0;
}

void bus_rescind(struct mobo_vmbus *m)
{
    struct vmbus_channel *ch = m->ch;

    m->dead = true;
    m->ch = NULL;
    vmbus_rescind(ch);
}

int bus_receive(struct mobo_vmbus *m, struct mobo_vmbus_packet *ret)
{
    struct vmbus_packet p;
    int err;

    if (m->ch && !m->budget) {
        channel_signal(m); /* with a new budget, after others had their turn */
        return -EAGAIN;
    }
    err = m->ch ? vmbus_receive(m->ch, &p) : -ENOTCONN;
    if (err)
        return err;
    m->budget--;
    ret->type = p.type;
    ret->flags = p.flags;
    ret->transaction = p.transaction;
    ret->desc = p.desc;
    ret->data = p.data;
    ret->desc_len = p.desc_len;
    ret->len = p.len;
    return 0;
}

int bus_send(struct mobo_vmbus *m, uint32_t type, uint32_t flags, uint64_t transaction,
             const void *desc, uint32_t desc_len, const void *data, uint32_t len)
{
    if (!m->ch)
        return -ENOTCONN;
    return vmbus_send(m->ch, (uint16_t)type, (uint16_t)flags, transaction, desc, desc_len, data,
                      len);
}

void bus_fault(struct mobo_vmbus *m, const char *why)
{
    if (m->ch)
        vmbus_fault(m->ch, why);
}

int bus_gpadl_read(struct mobo_vmbus *m, uint32_t gpadl, uint64_t off, void *buf, uint32_t len)
{
    return m->ch ? vmbus_gpadl_read(m->ch, gpadl, off, buf, len) : -ENOENT;
}

int bus_gpadl_write(struct mobo_vmbus *m, uint32_t gpadl, uint64_t off, const void *buf,
                    uint32_t len)
{
    return m->ch ? vmbus_gpadl_write(m->ch, gpadl, off, buf, len) : -ENOENT;
}

int bus_gpadl_len(struct mobo_vmbus *m, uint32_t gpadl, uint64_t *ret_len)
{
    return m->ch ? vmbus_gpadl_len(m->ch, gpadl, ret_len) : -ENOENT;
}

int bus_gpa_direct(struct mobo_vmbus *m, const struct mobo_vmbus_packet *packet,
                   struct mobo_iov *iov, uint32_t max, uint32_t *ret_n, uint64_t *ret_len)
{
    const struct vmbus_packet p = { packet->type, packet->flags,    packet->transaction,
                                    packet->desc, packet->desc_len, packet->data,
                                    packet->len };

    _Static_assert(sizeof(struct mobo_iov) == sizeof(struct vmbus_iov), "the same layout");
    return m->ch ? vmbus_gpa_direct(m->ch, &p, (struct vmbus_iov *)iov, max, ret_n, ret_len)
                 : -EINVAL;
}

uint32_t bus_version(struct mobo_vmbus *m)
{
    return m->dev->board->bus ? vmbus_version(m->dev->board->bus) : 0;
}

void bus_mem_dirty(struct mobo_vdev *dev, uint64_t gpa, uint64_t len)
{
    hv_gpa_dirty(dev->board->part, gpa, len);
}

/* ---- hvsocket ------------------------------------------------------------------------------------ */

static void tl_connect(void *ctx, const uint8_t *endpoint, const uint8_t *service)
{
    struct vmb *v = ctx;
    struct vdev_enter e = vdev_enter(v->tl_dev);

    v->tl_connect(v->tl_ctx, endpoint, service);
    vdev_leave(v->tl_dev, e);
}

int bus_tl_listen(struct mobo_vdev *dev,
                  void (*connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service),
                  void *ctx)
{
    struct vmb *v = dev->board;

    vdev_check(dev, "vmbus_tl_listen");
    if (!v->bus)
        return vdev_fail(dev, -ENODEV, "there is no VMBus: the board is not enlightened");
    if (v->tl_dev)
        return vdev_fail(dev, -EBUSY, "the guest's socket connections go to '%s' already",
                         v->tl_dev->name);
    v->tl_dev = dev;
    v->tl_connect = connect;
    v->tl_ctx = ctx;
    vmbus_tl_listen(v->bus, tl_connect, v);
    return 0;
}

void bus_tl_result(struct mobo_vdev *dev, const uint8_t *endpoint, const uint8_t *service,
                   uint32_t status)
{
    if (dev->board->bus)
        vmbus_tl_result(dev->board->bus, endpoint, service, (int32_t)status);
}
