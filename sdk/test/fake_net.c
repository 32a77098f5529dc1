/* SPDX-License-Identifier: MIT */
/* Network backends of the fake host: the test is the network. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/test/fake_int.h"

static struct mobo_net *net_at(struct mobo_vdev *dev, unsigned n)
{
    struct mobo_net *t = dev->nets;

    while (n-- && t)
        t = t->next;
    if (!t)
        fake_die("%s has no such network backend", dev->name);
    return t;
}

int fake_net_open(struct mobo_vdev *dev, const char *key, const struct mobo_net_ops *ops, void *ctx,
                  struct mobo_net **ret, struct mobo_net_info *info)
{
    struct mobo_net_info got = { info->size, 1, 65550, dev->f->net_max_tcp };
    struct mobo_net **at = &dev->nets, *t;

    fake_find_param(dev, key, 1 << MOBO_STRING);
    if (ops->size < sizeof(*ops) || !ops->receive || info->size < sizeof(uint32_t))
        return -EINVAL;
    while (*at)
        at = &(*at)->next;
    t = fake_zalloc(sizeof(*t));
    t->dev = dev;
    t->ops = *ops;
    t->ctx = ctx;
    t->room = UINT32_MAX;
    t->in_tail = &t->in;
    t->out_tail = &t->out;
    *at = *ret = t;
    memcpy(info, &got, info->size < sizeof(got) ? info->size : sizeof(got));
    return 0;
}

static void append(struct net_frame ***tail, uint32_t len, struct net_frame **ret)
{
    struct net_frame *n = fake_zalloc(sizeof(*n) + len);

    n->len = len;
    **tail = n;
    *tail = &n->next;
    *ret = n;
}

int fake_net_send(struct mobo_net *t, const struct mobo_iov *iov, uint32_t niov)
{
    struct net_frame *n;
    uint64_t len = 0;

    for (uint32_t i = 0; i < niov; i++)
        len += iov[i].len;
    if (len > 65550)
        return -EMSGSIZE;
    if (!t->room) {
        t->starved = 1;
        return -EAGAIN;
    }
    if (t->room != UINT32_MAX)
        t->room--;
    append(&t->out_tail, (uint32_t)len, &n);
    len = 0;
    for (uint32_t i = 0; i < niov; i++) {
        memcpy(n->data + len, iov[i].base, iov[i].len);
        len += iov[i].len;
    }
    return 0;
}

static void pump(struct mobo_net *t)
{
    if (t->pumping || t->dev->f->paused)
        return;
    t->pumping = 1;
    while (t->in) {
        struct net_frame *n = t->in;
        /* a copy, so that overruns show in sanitizer builds */
        uint8_t *buf = fake_zalloc(n->len ? n->len : 1);
        int taken;

        memcpy(buf, n->data, n->len);
        taken = t->ops.receive(t->ctx, buf, n->len);
        free(buf);
        if (!taken)
            break;
        t->in = n->next;
        if (!t->in)
            t->in_tail = &t->in;
        free(n);
    }
    t->pumping = 0;
}

void fake_net_ready(struct mobo_net *t)
{
    t->posted = 1; /* as a real host: later, never within the call */
}

void fake_net_work(struct mobo_fake *f)
{
    for (struct mobo_vdev *d = f->devs; d; d = d->next)
        for (struct mobo_net *t = d->nets; t; t = t->next)
            if (t->posted) {
                t->posted = 0;
                pump(t);
            }
}

unsigned mobo_fake_net_send(struct mobo_vdev *dev, unsigned n, const void *frame, uint32_t len)
{
    struct mobo_net *t = net_at(dev, n);
    struct net_frame *fr;
    unsigned waiting = 0;

    append(&t->in_tail, len, &fr);
    memcpy(fr->data, frame, len);
    pump(t);
    for (fr = t->in; fr; fr = fr->next)
        waiting++;
    return waiting;
}

uint32_t mobo_fake_net_recv(struct mobo_vdev *dev, unsigned n, void *buf, uint32_t max)
{
    struct mobo_net *t = net_at(dev, n);
    struct net_frame *fr = t->out;
    uint32_t len;

    if (!fr)
        return 0;
    len = fr->len;
    memcpy(buf, fr->data, len < max ? len : max);
    t->out = fr->next;
    if (!t->out)
        t->out_tail = &t->out;
    free(fr);
    return len;
}

void mobo_fake_net_room(struct mobo_vdev *dev, unsigned n, uint32_t frames)
{
    struct mobo_net *t = net_at(dev, n);

    t->room = frames;
    if (frames && t->starved) {
        t->starved = 0;
        mobo_fake_net_event(dev, n, MOBO_NET_WRITABLE);
    }
}

void mobo_fake_net_event(struct mobo_vdev *dev, unsigned n, uint32_t event)
{
    struct mobo_net *t = net_at(dev, n);

    if (t->ops.event)
        t->ops.event(t->ctx, event);
}

void mobo_fake_net_max_tcp(struct mobo_fake *f, uint32_t max_tcp)
{
    f->net_max_tcp = max_tcp;
}

static void frames_free(struct net_frame *n)
{
    while (n) {
        struct net_frame *next = n->next;

        free(n);
        n = next;
    }
}

void fake_net_free(struct mobo_vdev *dev)
{
    while (dev->nets) {
        struct mobo_net *t = dev->nets;

        dev->nets = t->next;
        frames_free(t->in);
        frames_free(t->out);
        free(t);
    }
}
