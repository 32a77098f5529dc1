/* SPDX-License-Identifier: BSD-2-Clause */
/* Network backends of vdevs: between their frames and the provider (vmb_ops.net_...).
 *
 * During a pause a device takes no frames, and events are kept for it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/board.h"

static int sink_receive(void *net, const uint8_t *frame, size_t len)
{
    struct mobo_net *n = net;
    struct vdev_enter e;
    int taken;

    if (atomic_load(&n->dev->board->io.paused))
        return 0;
    e = vdev_enter(n->dev);
    taken = n->ops.receive(n->ctx, frame, (uint32_t)len);
    vdev_leave(n->dev, e);
    return taken;
}

static void sink_event(void *net, unsigned event)
{
    struct mobo_net *n = net;
    struct vdev_enter e;

    if (!n->ops.event || event > 31)
        return;
    if (atomic_load(&n->dev->board->io.paused)) {
        if (event == MOBO_NET_UP || event == MOBO_NET_DOWN) /* the last one counts */
            atomic_fetch_and(&n->pending, ~(1u << MOBO_NET_UP | 1u << MOBO_NET_DOWN));
        atomic_fetch_or(&n->pending, 1u << event);
        return;
    }
    e = vdev_enter(n->dev);
    n->ops.event(n->ctx, event);
    vdev_leave(n->dev, e);
}

static const struct vmb_net_sink net_sink = { sink_receive, sink_event };

static const char *text_of(struct mobo_vdev *dev, const char *key)
{
    struct vdev_param *p = vdev_param_find(dev, key);

    return p ? p->text : NULL;
}

static bool flag_of(struct mobo_vdev *dev, const char *key)
{
    struct vdev_param *p = vdev_param_find(dev, key);

    return p && p->kind == MOBO_BOOL && p->val.set && p->val.num;
}

int net_open(struct mobo_vdev *dev, const char *key, const struct mobo_net_ops *ops, void *ctx,
             struct mobo_net **ret, struct mobo_net_info *info)
{
    struct vmb *v = dev->board;
    struct vdev_param *p = vdev_param_find(dev, key);
    struct mobo_net_info got = { .size = sizeof(got), .up = 1, .max_frame = 65550 };
    struct vmb_net_config cfg = { .spec = p && p->text ? p->text : "null",
                                  .hostfwd = text_of(dev, "hostfwd"),
                                  .network = text_of(dev, "network"),
                                  .pcap = text_of(dev, "pcap"),
                                  .ipv6 = flag_of(dev, "ipv6"),
                                  .restricted = flag_of(dev, "restrict"),
                                  .vm = v->name };
    uint32_t size = info->size;
    char msg[VMB_MSG_LEN] = "";
    struct mobo_net *n;

    if (vdev_creating(dev, "net_open"))
        return -EPERM;
    if (!p || p->kind != MOBO_STRING || ops->size < sizeof(*ops) || !ops->receive ||
        size < sizeof(uint32_t) || size > 4096)
        return vdev_fail(dev, -EINVAL, "%s: bad use of net_open", key);
    if (!v->ops->net_open)
        return vdev_fail(dev, -ENOTSUP, "%s: there are no network backends here", key);
    n = calloc(1, sizeof(*n));
    if (!n)
        return vdev_fail(dev, -ENOMEM, "%s: no memory", key);
    n->dev = dev;
    memcpy(&n->ops, ops, sizeof(n->ops));
    n->ctx = ctx;
    int err = v->ops->net_open(v->ctx, v->io.base, dev->name, &cfg, v->check_only, &net_sink, n,
                               &n->net, &got, msg, sizeof(msg));

    if (err) {
        free(n);
        return vdev_fail(dev, err, "%s: %s", key, msg[0] ? msg : strerror(-err));
    }
    n->max_frame = got.max_frame;
    got.size = size;
    memset(info, 0, size);
    memcpy(info, &got, size < sizeof(got) ? size : sizeof(got));
    n->next = v->io.nets;
    v->io.nets = n;
    *ret = n;
    return 0;
}

int net_send(struct mobo_net *n, const struct mobo_iov *iov, uint32_t niov)
{
    uint64_t len = 0;

    vdev_check(n->dev, "net_send");
    for (uint32_t i = 0; i < niov; i++) {
        if (iov[i].len > n->max_frame - len)
            return -EMSGSIZE;
        len += iov[i].len;
    }
    return n->net ? n->dev->board->ops->net_send(n->net, iov, niov, (size_t)len) : 0;
}

void net_ready(struct mobo_net *n)
{
    if (n->net)
        n->dev->board->ops->net_ready(n->net);
}

/* I/O thread, after a pause. */
void net_resume(struct vmb *v)
{
    for (struct mobo_net *n = v->io.nets; n; n = n->next) {
        unsigned pending = atomic_exchange(&n->pending, 0);

        for (unsigned ev = 0; ev < 32; ev++)
            if (pending >> ev & 1)
                sink_event(n, ev);
        net_ready(n);
    }
}

/* The I/O thread does not run any more, the vdevs are gone. */
void net_fini(struct vmb *v)
{
    for (struct mobo_net *n = v->io.nets, *next; n; n = next) {
        next = n->next;
        if (n->net)
            v->ops->net_close(n->net);
        free(n);
    }
    v->io.nets = NULL;
}
