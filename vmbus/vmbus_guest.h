/* SPDX-License-Identifier: BSD-2-Clause */
/* For tests of the VMBus: a guest in plain memory, with the embedder's functions around it. */
#ifndef MOBO_VMBUS_GUEST_H
#define MOBO_VMBUS_GUEST_H

#include <stdlib.h>
#include <string.h>

#include "vmbus/vmbus_int.h"

enum { G_PAGES = 64, G_RING = 4, G_REPLIES = 4096 };

struct guest {
    struct vmbus *v;
    uint8_t *mem; /* G_PAGES pages from GPA 0 */
    uint8_t reply[G_REPLIES][240];
    unsigned reply_len[G_REPLIES], nreplies;
    unsigned signals, last_flag, lines, opens, closes, owner_signals, released;
    int open_err, monitors;
    struct vmbus_channel *rescind_in_open;
    void (*on_dirty)(struct guest *); /* what the guest does while the host is in the ring, NULL */
    bool wanted, flood;
};

static int g_post(void *ctx, unsigned vp, const void *payload, unsigned len)
{
    struct guest *g = ctx;

    (void)vp;
    if (g->flood) { /* another processor is faster than the host */
        static const uint32_t again[2] = { 3, 0 };

        vmbus_post_message(g->v, 0, 4, 1, again, 8);
        return 0;
    }
    if (g->nreplies == G_REPLIES)
        return -1;
    memset(g->reply[g->nreplies], 0, 240);
    memcpy(g->reply[g->nreplies], payload, len);
    g->reply_len[g->nreplies++] = len;
    return 0;
}

static int g_signal(void *ctx, unsigned vp, unsigned flag)
{
    struct guest *g = ctx;

    (void)vp;
    g->signals++;
    g->last_flag = flag;
    return 0;
}

static void *g_page(void *ctx, uint64_t gpa)
{
    struct guest *g = ctx;

    return gpa < G_PAGES * 4096ull ? g->mem + (gpa & ~4095ull) : NULL;
}

static void g_dirty(void *ctx, uint64_t gpa, unsigned len)
{
    struct guest *g = ctx;

    (void)gpa, (void)len;
    if (g->on_dirty)
        g->on_dirty(g);
}

static void g_wanted(void *ctx) { ((struct guest *)ctx)->wanted = true; }
static void g_log(void *ctx, int level, const char *line) { (void)level, (void)line, ((struct guest *)ctx)->lines++; }

static void g_monitor(void *ctx, bool on) { ((struct guest *)ctx)->monitors += on ? 1 : -1; }

static int g_open(void *ctx, const uint8_t *user)
{
    struct guest *g = ctx;

    (void)user;
    g->opens++;
    if (g->rescind_in_open)
        vmbus_rescind(g->rescind_in_open);
    g->rescind_in_open = NULL;
    return g->open_err;
}

static void g_close(void *ctx) { ((struct guest *)ctx)->closes++; }
static void g_owner_signal(void *ctx) { ((struct guest *)ctx)->owner_signals++; }
static void g_released(void *ctx) { ((struct guest *)ctx)->released++; }

static const struct vmbus_channel_ops g_ops = { g_open, g_close, g_owner_signal, g_released };

static inline struct guest *g_new(void)
{
    static const struct vmbus_ops ops = { g_post, g_signal, g_page, g_dirty, g_wanted, g_log, g_monitor };
    struct guest *g = calloc(1, sizeof(*g));

    g->mem = aligned_alloc(4096, G_PAGES * 4096);
    memset(g->mem, 0, G_PAGES * 4096);
    if (vmbus_create(&ops, g, 2, &g->v))
        abort();
    return g;
}

static inline void g_free(struct guest *g)
{
    vmbus_destroy(g->v);
    free(g->mem);
    free(g);
}

static inline struct vmbus_channel *g_offer(struct guest *g, unsigned n)
{
    struct vmbus_offer o = { .name = "test" };
    struct vmbus_channel *ch = NULL;

    memset(o.class_id, 0xc1, 16);
    o.instance_id[0] = (uint8_t)n;
    if (vmbus_offer(g->v, &o, &g_ops, g, &ch))
        abort();
    return ch;
}

static inline void g_send(struct guest *g, const void *msg, unsigned len)
{
    vmbus_post_message(g->v, 0, 4, 1, msg, len);
    vmbus_service(g->v);
}

/* A message of 32-bit words, the first its type; a zero is put behind it. */
#define G_MSG(g, len, type, ...) \
    do { \
        uint32_t w_[60] = { type, 0, __VA_ARGS__ }; \
        g_send(g, w_, len); \
    } while (0)

static inline uint32_t g_word(const struct guest *g, unsigned back, unsigned off)
{
    uint32_t val;

    memcpy(&val, g->reply[g->nreplies - 1 - back] + off, 4);
    return val;
}

static inline void g_connect(struct guest *g, uint32_t version)
{
    G_MSG(g, 40, 14, version, 0, 2);
    G_MSG(g, 8, 3, 0);
}

/* A GPADL of one range over @n pages from page @first. */
static inline void g_gpadl(struct guest *g, uint32_t relid, uint32_t id, unsigned first, unsigned n)
{
    uint32_t w[60] = { 8, 0, relid, id, (8 + 8 * n) | 1u << 16, n * 4096, 0 };
    uint64_t pfn;

    for (unsigned i = 0; i < n; i++) {
        pfn = first + i;
        memcpy(&w[7 + 2 * i], &pfn, 8);
    }
    g_send(g, w, 28 + 8 * n);
}

/* Ring of @relid: pages 0 to 3 in, 4 to 7 out. */
static inline void g_open_channel(struct guest *g, uint32_t relid, uint32_t gpadl)
{
    G_MSG(g, 148, 5, relid, 77, gpadl, 0, G_RING);
}

static inline struct ring_page *g_ring(struct guest *g, bool out) { return (void *)(g->mem + (out ? G_RING * 4096 : 0)); }

#endif
