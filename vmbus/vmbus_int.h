/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef MOBO_VMBUS_INT_H
#define MOBO_VMBUS_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "vmbus/vmbus.h"

enum {
    VMBUS_GPADL_MAX_PAGES = 32768, VMBUS_GPADLS_PER_CHANNEL = 256, VMBUS_TOTAL_PAGES = 1u << 20,
    VMBUS_TOTAL_GPADLS = 4096, VMBUS_GPADL_MAX_RANGES = 1024,
    VMBUS_QUEUE = 64, VMBUS_CONNECTION_BASE = 0x10000, VMBUS_COMPLAINTS = 100, VMBUS_MAX_PACKET = 0xffff * 8
};

enum { VMBUS_CHANNEL_TLNPI = 0x2000 }; /* offer flag: a connection of hvsocket */

struct gpadl_range {
    uint64_t start;        /* offset of its first byte in the GPADL */
    uint32_t len, offset;  /* bytes; in its first page */
    uint32_t first_page;   /* index in pfn */
};

struct gpadl {
    struct gpadl *next;
    uint32_t id, relid;
    uint32_t npages, have; /* pages announced, page numbers received */
    uint32_t nranges, want_ranges;
    uint64_t len;          /* bytes */
    bool created;
    struct gpadl_range *range; /* owned: nranges of them, each with a page at least */
    uint64_t *pfn;             /* owned */
};

/* One direction of a channel.  HV struct hv_ring_buffer: one page of indices, then data. */
struct ring_page {
    _Atomic uint32_t write_index, read_index, interrupt_mask, pending_send_size;
    uint32_t reserved[12];
    _Atomic uint32_t feature_bits;
};

struct ring {
    struct ring_page *page; /* guest memory */
    uint64_t page_gpa;
    uint8_t **data;         /* owned: one address a page */
    uint64_t *gpa;          /* owned */
    uint32_t size;          /* bytes of data */
    uint32_t index;         /* ours: read index of the guest's ring, write index of the other */
};

enum channel_state { CH_CLOSED, CH_OPENING, CH_OPEN };

struct vmbus_channel {
    struct vmbus *bus;
    struct vmbus_offer offer;
    char name[48];
    struct vmbus_channel_ops ops;
    void *ctx;
    uint32_t relid;
    bool offered;            /* the guest has heard of it */
    bool rescinded, broken;
    pthread_mutex_t lock;    /* state, rings */
    _Atomic uint32_t state;  /* enum channel_state */
    bool room_wanted;        /* a send found no room */
    unsigned target_vp;
    struct gpadl *gpadls;    /* owned; lock of the bus */
    uint32_t ngpadls;        /* the same */
    uint32_t ring_gpadl;
    struct ring in, out;     /* guest to host, host to guest */
    uint8_t *buf;            /* owned: the packet received last */
    uint32_t buf_len;
};

/* HV struct hv_monitor_page, as far as it is used. */
enum { VMBUS_MONITORS = 128 };
struct monitor_page {
    uint32_t state, reserved;
    struct { _Atomic uint32_t pending, armed; } group[VMBUS_MONITORS / 32];
};

struct queued { unsigned vp; uint32_t len; uint8_t payload[240]; };

struct vmbus {
    struct vmbus_ops ops;
    void *ctx;
    unsigned vps;
    pthread_mutex_t lock;    /* all below; outside a channel's lock */
    struct vmbus_channel *channel[VMBUS_MAX_CHANNELS]; /* by relid */
    uint32_t total_pages, total_gpadls; /* of all channels' GPADLs */
    uint32_t version;        /* 0: not connected */
    unsigned target_vp;
    bool offers_wanted;
    uint64_t monitor_gpa;    /* the page by which the guest signals, 0: none */
    bool monitored;          /* a channel that does so is open */
    void (*tl_connect)(void *ctx, const uint8_t *endpoint, const uint8_t *service);
    void *tl_ctx;
    pthread_mutex_t queue_lock;
    struct queued queue[VMBUS_QUEUE];
    unsigned qhead, qlen;
    _Atomic bool broken_channels;
    _Atomic unsigned complaints; /* lines logged about the guest since the reset */
};

void vmbus_logf(struct vmbus *v, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* ring.c: lock of the channel held. */
int ring_open(struct vmbus_channel *ch, struct gpadl *g, uint32_t downstream_page);
/** With the host's indices as they were; leaves the pages alone. */
int ring_restore(struct vmbus_channel *ch, const struct gpadl *g, uint32_t down, uint32_t in, uint32_t out);
void ring_close(struct vmbus_channel *ch);
/* vmbus.c: lock of the bus held. */
struct gpadl *vmbus_gpadl_find(const struct vmbus_channel *ch, uint32_t id);
bool vmbus_known_version(uint32_t version);
bool vmbus_gpadl_complete(const struct gpadl *g);
void vmbus_monitor_update(struct vmbus *v);
void vmbus_offer_send(struct vmbus *v, struct vmbus_channel *ch);
void vmbus_rescind_send(struct vmbus *v, struct vmbus_channel *ch);

#endif
