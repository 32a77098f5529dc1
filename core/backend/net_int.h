/* SPDX-License-Identifier: BSD-2-Clause */
/* The inside of the network backends. */
#ifndef CORE_BACKEND_NET_INT_H
#define CORE_BACKEND_NET_INT_H

#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>

#include "core/backend/net.h"

enum {
    NET_FRAME_MIN = 14,
    NET_FRAME_MAX = 65550,    /* an IP packet of 64 KiB with its Ethernet and VLAN headers */
    NET_QUEUE_HIGH = 1 << 20, /* bytes for the device at which a backend stops reading */
    NET_QUEUE_LOW = 1 << 18,
    NET_QUEUE_FULL = 4 << 20 /* bytes at which frames are lost */
};

/* A kind of backend. */
struct net_kind {
    const char *name;
    bool has_arg; /* "name:ARG" */
    /* Check @arg and the keys, and with @check_only stop there.  Sets n->priv. */
    int (*open)(struct vmb_net *n, const struct vmb_net_config *cfg, const char *arg,
                bool check_only, char *msg, size_t msg_len);
    /* n->lock is held.  @return 0, or -EAGAIN: net_writable() follows. */
    int (*send)(struct vmb_net *n, const uint8_t *frame, size_t len);
    /* I/O thread, no lock held: n->throttled has changed.  May be NULL. */
    void (*throttle)(struct vmb_net *n, bool on);
    void (*close)(struct vmb_net *n);
};
extern const struct net_kind net_kind_user, net_kind_tap, net_kind_switch;

struct net_frame {
    struct net_frame *next;
    uint32_t len;
    uint8_t data[];
};

struct vmb_net {
    const struct net_kind *kind;
    void *priv; /* the kind's */
    const char *base_dir; /* borrowed, during open */
    const struct vmb_net_sink *sink;
    void *dev;
    struct event_base *base;
    struct event *ev_deliver; /* active: frames or events for the device */
    pthread_mutex_t lock;     /* guards what follows and the kind's state; a leaf for callers */
    struct net_frame *head, **tail; /* for the device */
    size_t queued;                  /* bytes */
    unsigned events;                /* for the device, bit n: event n */
    bool throttled;                 /* the kind does not read now; written on the I/O thread */
    bool starved;                   /* net_send() said -EAGAIN */
    bool device_full;               /* the device took no frame; net_ready() follows */
    uint8_t *flat;                  /* a frame of several pieces */
    uint64_t lost;
    /* capture */
    FILE *pcap;
    struct event *ev_flush;
    bool dirty;
};

/** A frame for the device; n->lock is held.  Any thread. */
void net_input(struct vmb_net *n, const uint8_t *frame, size_t len);
/** An event for the device; n->lock is held. */
void net_tell(struct vmb_net *n, unsigned event);
/** There is room again after -EAGAIN; n->lock is held. */
void net_writable(struct vmb_net *n);

#endif
