/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of the VMBus: messages in every state, GPADLs, channels, rings with hostile indices, saved state. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "sdk/lib/state.h"
#include "vmbus/vmbus_guest.h"

static struct guest *g;
static struct vmbus_channel *ch;

static int setup(void **state)
{
    (void)state;
    g = g_new();
    ch = g_offer(g, 1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    g_free(g);
    return 0;
}

static void opened(void)
{
    g_connect(g, 0x50003);
    g_gpadl(g, 1, 5, 0, 8);
    g_open_channel(g, 1, 5);
    assert_int_equal(g_word(g, 0, 0), 6);
    assert_int_equal(g_word(g, 0, 16), 0);
    assert_true(vmbus_is_open(ch));
}

static void versions(void **state)
{
    static const uint32_t good[] = { 0x20004, 0x30000, 0x40000, 0x40001, 0x50000, 0x50001, 0x50002, 0x50003 };

    (void)state;
    for (unsigned i = 0; i < 8; i++) {
        G_MSG(g, 40, 14, good[i], 0, 2);
        assert_int_equal(g_word(g, 0, 0), 15);
        assert_int_equal(g_word(g, 0, 8), 1);
        assert_int_equal(vmbus_version(g->v), good[i]);
    }
    G_MSG(g, 40, 14, 0x70000, 0, 2);
    assert_int_equal(g_word(g, 0, 8), 0);
    assert_int_equal(vmbus_version(g->v), 0);
    G_MSG(g, 40, 14, 0x50003, 0, 9); /* another SINT */
    assert_int_equal(g_word(g, 0, 8), 0);
    /* before a version nothing else is heard */
    unsigned n = g->nreplies;

    for (uint32_t t = 0; t < 40; t++)
        if (t != 14 && t != 16)
            G_MSG(g, 200, t, 1, 1, 1, 1, 1);
    assert_int_equal(g->nreplies, n);
    g_connect(g, 0x50003);
    assert_int_equal(g_word(g, 1, 0), 1); /* the offer */
    assert_int_equal(g_word(g, 1, 184), 1);
    assert_int_equal(g_word(g, 0, 0), 4);
    G_MSG(g, 8, 16, 0);
    assert_int_equal(g_word(g, 0, 0), 17);
    assert_int_equal(vmbus_version(g->v), 0);
}

static void short_messages(void **state)
{
    (void)state;
    g_connect(g, 0x50003);
    for (uint32_t t = 0; t < 32; t++)
        for (unsigned len = 0; len < 8; len++)
            G_MSG(g, len, t, 1, 1, 1);
    for (unsigned i = 0; i < 500; i++)
        G_MSG(g, 8, 99, 0);
    assert_true(g->lines < VMBUS_COMPLAINTS + 20);
    assert_int_equal(vmbus_post_message(g->v, 0, 77, 1, "x", 1), 18);
    for (unsigned i = 0; i < VMBUS_QUEUE; i++)
        assert_int_equal(vmbus_post_message(g->v, 0, 4, 1, "x", 1), 0);
    assert_int_equal(vmbus_post_message(g->v, 0, 4, 1, "x", 1), 19);
    vmbus_service(g->v);
}

static void gpadls(void **state)
{
    uint64_t len;
    uint8_t buf[8192];

    (void)state;
    g_connect(g, 0x50003);
    g_gpadl(g, 1, 5, 0, 8);
    assert_int_equal(g_word(g, 0, 0), 10);
    assert_int_equal(g_word(g, 0, 16), 0);
    g_gpadl(g, 1, 5, 0, 8); /* twice */
    assert_int_not_equal(g_word(g, 0, 16), 0);
    g_gpadl(g, 9, 6, 0, 8); /* no such channel */
    assert_int_not_equal(g_word(g, 0, 16), 0);
    assert_int_equal(vmbus_gpadl_len(ch, 5, &len), 0);
    assert_true(len == 8 * 4096);
    assert_int_equal(vmbus_gpadl_read(ch, 5, len - 8, buf, 8), 0);
    assert_int_equal(vmbus_gpadl_read(ch, 5, len - 7, buf, 8), -EFAULT);
    assert_int_equal(vmbus_gpadl_read(ch, 5, UINT64_MAX - 3, buf, 8), -EFAULT);
    assert_int_equal(vmbus_gpadl_read(ch, 6, 0, buf, 8), -ENOENT);
    g_gpadl(g, 1, 7, G_PAGES - 1, 2); /* half outside RAM */
    assert_int_equal(vmbus_gpadl_read(ch, 7, 0, buf, 4096), 0);
    assert_int_equal(vmbus_gpadl_read(ch, 7, 4000, buf, 200), -EFAULT);
    /* huge, zero, offset too big, page number too big */
    G_MSG(g, 28, 8, 1, 20, 8 | 1u << 16, 0xffffffff, 0);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 28, 8, 1, 21, 8 | 1u << 16, 0, 0);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 28, 8, 1, 22, 8 | 1u << 16, 8, 4096);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 36, 8, 1, 23, 16 | 1u << 16, 8, 0, 0, 0x80000000);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 28, 8, 1, 24, 8, 8, 0); /* no range */
    assert_int_not_equal(g_word(g, 0, 16), 0);
    /* bodies: two pages at 8 and 9, one message each; an id that is being set up is taken */
    G_MSG(g, 28, 8, 1, 30, 24 | 1u << 16, 8192, 0);
    unsigned n = g->nreplies;

    G_MSG(g, 24, 9, 0, 30, 8, 0);
    assert_int_equal(g->nreplies, n);
    assert_int_equal(vmbus_gpadl_len(ch, 30, &len), -ENOENT);
    G_MSG(g, 24, 9, 1, 30, 9, 0);
    assert_int_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 24, 9, 2, 30, 9, 0); /* one too many */
    memset(g->mem + 8 * 4096, 0x11, 4096);
    memset(g->mem + 9 * 4096, 0x22, 4096);
    assert_int_equal(vmbus_gpadl_read(ch, 30, 0, buf, 8192), 0);
    assert_true(buf[0] == 0x11 && buf[4095] == 0x11 && buf[4096] == 0x22);
    G_MSG(g, 16, 11, 1, 30);
    assert_int_equal(g_word(g, 0, 0), 12);
    assert_int_equal(vmbus_gpadl_len(ch, 30, &len), -ENOENT);
}

static void many_ranges(void **state)
{
    /* 100 bytes at 4000 of pages 10 and 12, then 50 at 8 of page 14 */
    uint32_t w[] = { 8, 0, 1, 40, 40 | 2u << 16, 100, 4000, 10, 0, 12, 0, 50, 8, 14, 0 };
    uint8_t buf[150], out[150];
    uint64_t len;

    (void)state;
    g_connect(g, 0x50003);
    g_send(g, w, sizeof(w));
    assert_int_equal(g_word(g, 0, 16), 0);
    assert_int_equal(vmbus_gpadl_len(ch, 40, &len), 0);
    assert_int_equal(len, 150);
    for (unsigned i = 0; i < 150; i++)
        out[i] = (uint8_t)(i + 1);
    assert_int_equal(vmbus_gpadl_write(ch, 40, 0, out, 150), 0);
    assert_int_equal(g->mem[10 * 4096 + 4000], 1);
    assert_int_equal(g->mem[10 * 4096 + 4095], 96);
    assert_int_equal(g->mem[12 * 4096], 97);
    assert_int_equal(g->mem[12 * 4096 + 4], 0);
    assert_int_equal(g->mem[14 * 4096 + 8], 101);
    assert_int_equal(vmbus_gpadl_read(ch, 40, 90, buf, 60), 0);
    assert_memory_equal(buf, out + 90, 60);
    assert_int_equal(vmbus_gpadl_read(ch, 40, 91, buf, 60), -EFAULT);
    G_MSG(g, 148, 5, 1, 1, 40, 0, 2); /* no ring */
    assert_int_not_equal(g_word(g, 0, 16), 0);
}

/* A header that announces ranges costs nothing before they come, and the bus has no more GPADLs than its limit. */
static void gpadl_limits(void **state)
{
    enum { CHANNELS = VMBUS_TOTAL_GPADLS / VMBUS_GPADLS_PER_CHANNEL + 1 };
    uint32_t id = 0;

    (void)state;
    for (unsigned i = 2; i <= CHANNELS; i++)
        (void)g_offer(g, i);
    g_connect(g, 0x50003);
    for (uint32_t relid = 1; relid < CHANNELS; relid++) {
        g->nreplies = 0;
        for (unsigned i = 0; i < VMBUS_GPADLS_PER_CHANNEL; i++)
            G_MSG(g, 20, 8, relid, ++id, VMBUS_GPADL_MAX_RANGES << 16);
        assert_int_equal(g->nreplies, 0); /* all wait for their ranges */
        G_MSG(g, 20, 8, relid, id + 1, VMBUS_GPADL_MAX_RANGES << 16);
        assert_int_not_equal(g_word(g, 0, 16), 0);
        for (const struct gpadl *q = g->v->channel[relid]->gpadls; q; q = q->next)
            assert_null(q->range);
    }
    assert_int_equal(id, VMBUS_TOTAL_GPADLS);
    g->lines = 0;
    atomic_store(&g->v->complaints, 0);
    g_gpadl(g, CHANNELS, 0x8000, 0, 2);
    assert_int_equal(g_word(g, 0, 0), 10);
    assert_int_equal(g_word(g, 0, 12), 0x8000);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    assert_int_equal(g->lines, 1);
    /* a torn down one makes room, and so does a channel that is let go of, whose GPADLs stayed until then */
    G_MSG(g, 16, 11, 1, 7);
    g_gpadl(g, CHANNELS, 0x8000, 0, 2);
    assert_int_equal(g_word(g, 0, 16), 0);
    vmbus_rescind(ch);
    g_gpadl(g, CHANNELS, 0x8001, 0, 2);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 12, 13, 1);
    g_gpadl(g, CHANNELS, 0x8001, 0, 2);
    assert_int_equal(g_word(g, 0, 16), 0);
    assert_int_equal(g->v->total_gpadls, VMBUS_TOTAL_GPADLS - VMBUS_GPADLS_PER_CHANNEL + 2);
    assert_int_equal(g->v->total_pages, 4);
    vmbus_reset(g->v);
    assert_int_equal(g->v->total_gpadls, 0);
    assert_int_equal(g->v->total_pages, 0);
}

static void open_close(void **state)
{
    (void)state;
    g_connect(g, 0x50003);
    g_open_channel(g, 1, 5); /* no GPADL */
    assert_int_not_equal(g_word(g, 0, 16), 0);
    g_gpadl(g, 1, 5, 0, 8);
    static const uint32_t down[] = { 0, 1, 7, 8, 0xffffffff };

    for (unsigned i = 0; i < 5; i++) {
        G_MSG(g, 148, 5, 1, 1, 5, 0, down[i]);
        assert_int_not_equal(g_word(g, 0, 16), 0);
    }
    g_ring(g, false)->read_index = 12; /* not a multiple of 8 */
    g_open_channel(g, 1, 5);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    g_ring(g, false)->read_index = 0;
    g->open_err = -EIO;
    g_open_channel(g, 1, 5);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    g->open_err = 0;
    g_open_channel(g, 1, 5);
    assert_int_equal(g_word(g, 0, 16), 0);
    g_open_channel(g, 1, 5); /* twice */
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 16, 22, 1, 1); /* modify */
    assert_int_equal(g_word(g, 0, 0), 24);
    assert_int_equal(g_word(g, 0, 12), 0);
    G_MSG(g, 16, 22, 1, 99);
    assert_int_not_equal(g_word(g, 0, 12), 0);
    assert_int_equal(vmbus_signal_event(g->v, 0, VMBUS_CONNECTION_BASE + 1, 0), 0);
    assert_int_equal(vmbus_signal_event(g->v, 0, VMBUS_CONNECTION_BASE + 2, 0), 18);
    assert_int_equal(vmbus_signal_event(g->v, 0, 3, 0), 18);
    G_MSG(g, 16, 11, 1, 5); /* takes the ring away: closed, and torn down */
    assert_int_equal(g_word(g, 0, 0), 12);
    assert_int_equal(g->closes, 1);
    G_MSG(g, 12, 7, 1); /* a close of what is closed */
    assert_int_equal(g->closes, 1);
    g_gpadl(g, 1, 5, 0, 8);
    g_open_channel(g, 1, 5);
    assert_int_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 8, 16, 0); /* unload */
    assert_int_equal(g->closes, 2);
    opened();
    vmbus_reset(g->v);
    assert_int_equal(g->closes, 3);
    opened();
}

/* A guest that signals by its monitor page. */
static void monitor(void **state)
{
    struct vmbus_offer o = { .name = "monitored", .monitored = true };
    static const struct vmbus_channel_ops ops = { g_open, g_close, g_owner_signal, g_released };
    struct monitor_page *page = (void *)(g->mem + 60 * 4096);
    struct vmbus_channel *m;
    unsigned before;

    (void)state;
    assert_int_equal(vmbus_offer(g->v, &o, &ops, g, &m), 0); /* relid 2 */
    G_MSG(g, 40, 14, 0x50003, 0, VMBUS_SINT, 0, 59 * 4096, 0, 60 * 4096, 0);
    G_MSG(g, 8, 3, 0);
    assert_int_equal(g->reply[1][188] | g->reply[1][189], 0);
    assert_int_equal(g->reply[2][188], 2);
    assert_int_equal(g->reply[2][189], 1);
    assert_int_equal(g->monitors, 0);
    g_gpadl(g, 2, 7, 0, 8);
    g_open_channel(g, 2, 7);
    assert_int_equal(g->monitors, 1);
    before = g->owner_signals;
    vmbus_monitor_poll(g->v);
    assert_int_equal(g->owner_signals, before);
    page->group[0].pending = 1u << 2 | 1u << 1; /* 1 has no monitor, nor is it open */
    page->group[3].pending = ~0u;
    vmbus_monitor_poll(g->v);
    assert_int_equal(g->owner_signals, before + 1);
    assert_int_equal(page->group[0].pending | page->group[3].pending, 0);
    G_MSG(g, 12, 7, 2); /* closed */
    assert_int_equal(g->monitors, 0);
    page->group[0].pending = ~0u;
    vmbus_monitor_poll(g->v);
    assert_int_equal(g->owner_signals, before + 1);
    /* a page that is not RAM, and what is no page */
    G_MSG(g, 40, 14, 0x50003, 0, VMBUS_SINT, 0, 0, 0, 0x70000000, 0);
    G_MSG(g, 8, 3, 0);
    g_gpadl(g, 2, 7, 0, 8);
    g_open_channel(g, 2, 7);
    assert_int_equal(g->monitors, 1);
    vmbus_monitor_poll(g->v);
    G_MSG(g, 40, 14, 0x50003, 0, VMBUS_SINT, 0, 0, 0, 60 * 4096 + 8, 0);
    G_MSG(g, 8, 3, 0);
    g_gpadl(g, 2, 7, 0, 8);
    g_open_channel(g, 2, 7);
    assert_int_equal(g->monitors, 0);
}

/* A guest that posts as fast as it is served. */
static void flood(void **state)
{
    (void)state;
    opened();
    g->flood = true;
    g->wanted = false;
    G_MSG(g, 8, 3, 0);
    assert_true(g->wanted); /* it came back, and wants to be called again */
    g->flood = false;
    vmbus_service(g->v);
    G_MSG(g, 12, 7, 1);
    assert_int_equal(g->closes, 1);
}

static void rescind(void **state)
{
    struct vmbus_channel *two;

    (void)state;
    vmbus_rescind(g_offer(g, 3)); /* never heard of: released at once */
    assert_int_equal(g->released, 1);
    opened();
    two = g_offer(g, 2); /* hot add */
    assert_int_equal(g_word(g, 0, 0), 1);
    vmbus_rescind(ch);
    assert_int_equal(g_word(g, 0, 0), 2);
    assert_int_equal(vmbus_send(ch, 6, 0, 0, NULL, 0, "x", 1), -ENOTCONN);
    g_gpadl(g, 1, 8, 10, 2);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    G_MSG(g, 12, 13, 1);
    assert_int_equal(g->released, 2);
    G_MSG(g, 12, 13, 1); /* again: nothing there */
    assert_int_equal(g->released, 2);
    /* a rescind that overtakes an open */
    g_gpadl(g, 2, 9, 0, 8);
    g->rescind_in_open = two;
    g_open_channel(g, 2, 9);
    assert_int_equal(g_word(g, 0, 0), 6);
    assert_int_not_equal(g_word(g, 0, 16), 0);
    assert_false(vmbus_is_open(two));
    G_MSG(g, 8, 16, 0);
    assert_int_equal(g->released, 3);
}

static void put(uint32_t at, const void *buf, unsigned len) { memcpy(g->mem + 4096 + at, buf, len); }

static void packets(void **state)
{
    struct { uint16_t type, off, len, flags; uint64_t id; uint8_t data[16]; uint64_t trailer; } p = {
        6, 2, 4, 1, 42, "hello", 0 };
    struct vmbus_packet r;

    (void)state;
    opened();
    assert_int_equal(vmbus_receive(ch, &r), -EAGAIN);
    put(0, &p, sizeof(p));
    g_ring(g, false)->write_index = sizeof(p);
    assert_int_equal(vmbus_receive(ch, &r), 0);
    assert_int_equal(r.type, 6);
    assert_int_equal(r.transaction, 42);
    assert_int_equal(r.len, 16);
    assert_string_equal((const char *)r.data, "hello");
    assert_int_equal(g_ring(g, false)->read_index, sizeof(p));
    assert_int_equal(vmbus_receive(ch, &r), -EAGAIN);
    /* out: one signal for the first packet of a batch */
    assert_int_equal(vmbus_send(ch, 6, 0, 7, NULL, 0, "abc", 3), 0);
    assert_int_equal(g->signals, 1);
    assert_int_equal(vmbus_send(ch, 6, 0, 8, NULL, 0, "abc", 3), 0);
    assert_int_equal(g->signals, 1);
    assert_int_equal(vmbus_send(ch, 6, 0, 8, NULL, 0, "abc", 0xfffffff9), -EMSGSIZE);
    assert_int_equal(vmbus_send(ch, 6, 0, 8, "x", 4, NULL, 0), -EMSGSIZE);
    /* fill it; a small one still goes, and the owner hears that a larger one may be tried again */
    static uint8_t big[4000];
    unsigned n = g->owner_signals;

    while (vmbus_send(ch, 6, 0, 9, NULL, 0, big, sizeof(big)) == 0)
        ;
    assert_true(g_ring(g, true)->pending_send_size > 4000);
    assert_int_equal(vmbus_send(ch, 6, 0, 9, NULL, 0, "s", 1), 0);
    assert_int_equal(g->owner_signals, n + 1);
    g_ring(g, true)->read_index = 4;
    assert_int_equal(vmbus_send(ch, 6, 0, 9, NULL, 0, "s", 1), -EPROTO);
    vmbus_service(g->v);
    assert_int_equal(g->closes, 1);
}

/* What is to be alone goes when the guest has read all before, and the owner hears of it as of any room. */
static void alone(void **state)
{
    struct ring_page *out = g_ring(g, true);
    uint16_t h[4];

    (void)state;
    opened();
    assert_int_equal(vmbus_send(ch, 6, VMBUS_PKT_ALONE | 1, 7, NULL, 0, "abc", 3), 0); /* 32 bytes with all */
    memcpy(h, g->mem + (G_RING + 1) * 4096, sizeof(h));
    assert_int_equal(h[3], 1); /* its flags */
    assert_int_equal(vmbus_send(ch, 6, 0, 8, NULL, 0, "abc", 3), 0);
    out->read_index = 32;
    assert_int_equal(vmbus_send(ch, 6, VMBUS_PKT_ALONE, 9, NULL, 0, NULL, 0), -EAGAIN);
    assert_int_equal(out->write_index, 64);
    assert_int_equal(out->pending_send_size, 3 * 4096 - 8); /* free bytes are more when, and only when, all is read */
    out->read_index = 64;
    assert_int_equal(vmbus_send(ch, 6, VMBUS_PKT_ALONE, 9, NULL, 0, NULL, 0), 0);
    assert_int_equal(out->write_index, 88);
    assert_int_equal(out->pending_send_size, 0);
}

static void fill_in_ring(struct guest *q)
{
    g_ring(q, false)->write_index = 3 * 4096 - 96;
}

/* A guest that waits for room is signalled once there is enough, also if it filled the ring and fell asleep, by the
 * old read index, while the host was taking a packet. */
static void room_signal(void **state)
{
    struct { uint16_t type, off, len, flags; uint64_t id; uint8_t data[16]; uint64_t trailer; } p = {
        6, 2, 4, 1, 42, "hello", 0 };
    struct ring_page *in = g_ring(g, false);
    struct vmbus_packet r;

    (void)state;
    opened();
    for (unsigned i = 0; i < 5; i++)
        put(i * (unsigned)sizeof(p), &p, sizeof(p));
    in->feature_bits = 1;
    in->pending_send_size = 100;
    in->write_index = 2 * sizeof(p); /* room enough before: nobody waits */
    assert_int_equal(vmbus_receive(ch, &r), 0);
    assert_int_equal(g->signals, 0);
    /* 96 + 40 bytes are free before, by then, and 96 + 80 behind */
    in->pending_send_size = 140;
    g->on_dirty = fill_in_ring;
    assert_int_equal(vmbus_receive(ch, &r), 0);
    assert_int_equal(g->signals, 1);
    g->on_dirty = NULL;
    in->pending_send_size = 300; /* not yet enough */
    assert_int_equal(vmbus_receive(ch, &r), 0);
    assert_int_equal(g->signals, 1);
    in->pending_send_size = 220; /* 216 before, 256 behind */
    assert_int_equal(vmbus_receive(ch, &r), 0);
    assert_int_equal(g->signals, 2);
    assert_int_equal(vmbus_receive(ch, &r), 0); /* it was told */
    assert_int_equal(g->signals, 2);
}

static void bad_rings(void **state)
{
    static const uint32_t bad_write[] = { 3 * 4096, 0xffffffff, 0xfffffff8, 4, 8, 16 };
    static const uint16_t bad_head[][2] = { /* offset8, len8 */
        { 2, 0 }, { 2, 1 }, { 1, 4 }, { 0, 4 }, { 5, 4 }, { 0xffff, 4 }, { 2, 0xffff }, { 2, 9 } };
    struct vmbus_packet r;

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        opened();
        g_ring(g, false)->write_index = bad_write[i];
        assert_int_equal(vmbus_receive(ch, &r), -EPROTO);
        assert_int_equal(vmbus_receive(ch, &r), -ENOTCONN);
        vmbus_service(g->v);
        assert_int_equal(g->closes, i + 1);
        memset(g->mem, 0, 8 * 4096);
        vmbus_reset(g->v);
    }
    for (unsigned i = 0; i < 8; i++) {
        uint16_t h[8] = { 6, bad_head[i][0], bad_head[i][1] };

        opened();
        put(0, h, sizeof(h));
        g_ring(g, false)->write_index = 64;
        assert_int_equal(vmbus_receive(ch, &r), -EPROTO);
        memset(g->mem, 0, 8 * 4096);
        vmbus_reset(g->v);
    }
}

static void gpa_direct(void **state)
{
    struct { uint32_t reserved, count; struct { uint32_t len, off; uint64_t pfn[2]; } r; } d = {
        0, 1, { 5000, 100, { 3, 4 } } };
    struct vmbus_packet p = { .type = VMBUS_PKT_GPA_DIRECT, .desc = (const uint8_t *)&d, .desc_len = sizeof(d) };
    struct vmbus_iov iov[4];
    uint32_t n;
    uint64_t len;

    (void)state;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), 0);
    assert_int_equal(n, 1); /* joined */
    assert_int_equal(len, 5000);
    assert_ptr_equal(iov[0].base, g->mem + 3 * 4096 + 100);
    d.r.pfn[1] = 9;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), 0);
    assert_int_equal(n, 2);
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 1, &n, &len), -E2BIG);
    d.r.pfn[1] = 1ull << 52;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), -EFAULT);
    d.r.off = 4096;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), -EINVAL);
    d.r.off = 4095;
    d.r.len = 0xffffffff;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), -EINVAL);
    d.count = 0xffffffff;
    d.r.len = 8;
    d.r.off = 0;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), -EINVAL);
    d.r.len = 0; /* nothing of no page */
    d.count = 1;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), 0);
    assert_true(n == 0 && len == 0);
    p.desc_len = 4;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), -EINVAL);
    p.desc_len = sizeof(d);
    p.type = 6;
    assert_int_equal(vmbus_gpa_direct(ch, &p, iov, 4, &n, &len), -EINVAL);
}

static void tl_connect(void **state)
{
    (void)state;
    g_connect(g, 0x50003);
    G_MSG(g, 40, 21, 1, 2, 3, 4, 5, 6, 7, 8);
    assert_int_equal(g_word(g, 0, 0), 23);
    assert_int_equal(g_word(g, 0, 8), 1);
    assert_int_equal(g_word(g, 0, 24), 5);
    assert_true(g_word(g, 0, 40) == 0xc0000236u);
}

/* ---- saved state ------------------------------------------------------------------------------------- */

static void save(struct guest *from, struct mobo_writer *w)
{
    mobo_writer_init(w);
    assert_int_equal(vmbus_save(from->v, w), 0);
    assert_int_equal(w->depth, 0);
}

static int load(struct guest *to, const void *buf, size_t len, struct vmbus_saved **ret, char *msg)
{
    static struct mobo_reader r;
    int err;

    memset(&r, 0, sizeof(r));
    err = mobo_reader_init(&r, buf, len);
    snprintf(msg, 200, "%s", r.msg);
    if (!err)
        err = vmbus_load(to->v, &r, ret, msg, 200);
    if (!err && mobo_load_done(&r)) {
        vmbus_saved_free(*ret);
        err = -EINVAL;
    }
    return err;
}

static int restore(struct guest *to, const struct mobo_writer *w)
{
    struct vmbus_saved *s;
    char msg[200] = "";
    int err = load(to, w->buf, w->len, &s, msg);

    return err ? err : vmbus_commit(to->v, s, msg, sizeof(msg));
}

/* A guest's board, as another one that is to take its place sees it. */
static struct guest *twin(const struct guest *of)
{
    struct guest *t = g_new();

    memcpy(t->mem, of->mem, G_PAGES * 4096);
    return t;
}

static void state_round_trip(void **state)
{
    struct guest *t;
    struct mobo_writer w, again;
    struct vmbus_channel *two, *moved, *first;
    struct vmbus_packet pkt;
    uint8_t buf[24] = "hello", got[8];
    uint64_t len = 0;

    (void)state;
    two = g_offer(g, 2);
    (void)g_offer(g, 3);
    opened();
    g_gpadl(g, 2, 9, 20, 3);
    /* one that waits for its body: 30 pages announced, 20 there */
    {
        uint32_t m[58] = { 8, 0, 2, 10, 1u << 16, 30 * 4096, 0 };

        for (uint64_t i = 0; i < 20; i++)
            memcpy(&m[7 + 2 * i], &i, 8);
        g_send(g, m, 28 + 160);
    }
    vmbus_rescind(two);
    g_ring(g, false)->write_index = 0;
    assert_int_equal(vmbus_send(ch, 6, 0, 1, NULL, 0, buf, 16), 0);
    save(g, &w);

    t = twin(g);
    first = g_offer(t, 3); /* in another order */
    moved = g_offer(t, 1);
    assert_int_equal(restore(t, &w), 0);
    assert_int_equal(moved->relid, 1);
    assert_int_equal(first->relid, 3);
    assert_true(vmbus_is_open(moved));
    assert_int_equal(vmbus_version(t->v), 0x50003);
    assert_int_equal(t->nreplies, 0);
    save(t, &again);
    assert_int_equal(w.len, again.len);
    assert_memory_equal(w.buf, again.buf, w.len);
    mobo_writer_fini(&again);

    /* it goes on: rings, the GPADL whose body comes, the rescinded channel that is released */
    assert_int_equal(vmbus_send(moved, 6, 0, 2, NULL, 0, buf, 16), 0);
    assert_int_equal(g_ring(t, true)->write_index, 80);
    assert_int_equal(vmbus_receive(moved, &pkt), -EAGAIN);
    {
        uint32_t m[58] = { 9, 0, 5, 10 };

        for (uint64_t i = 0; i < 10; i++)
            memcpy(&m[4 + 2 * i], &i, 8);
        g_send(t, m, 16 + 80);
        assert_int_equal(g_word(t, 0, 0), 10);
        assert_int_equal(g_word(t, 0, 16), 0);
    }
    assert_int_equal(vmbus_gpadl_len(t->v->channel[2], 9, &len), 0);
    assert_int_equal(len, 3 * 4096);
    assert_int_equal(vmbus_gpadl_read(t->v->channel[2], 9, 0, got, 8), 0);
    G_MSG(t, 12, 13, 2); /* released */
    assert_null(t->v->channel[2]);
    assert_int_equal(t->released, 0); /* nobody's */
    (void)g_offer(t, 7); /* its number is free again */
    assert_non_null(t->v->channel[2]);
    G_MSG(t, 12, 7, 1);
    assert_int_equal(t->closes, 1);
    g_free(t);

    /* a channel that the board does not have is refused, and nothing changes */
    t = twin(g);
    (void)g_offer(t, 1);
    assert_int_equal(restore(t, &w), -ENOENT);
    assert_int_equal(vmbus_version(t->v), 0);
    assert_int_equal(t->v->total_gpadls, 0);
    g_free(t);

    /* one more than there were is offered */
    t = twin(g);
    (void)g_offer(t, 1);
    (void)g_offer(t, 3);
    (void)g_offer(t, 4);
    assert_int_equal(restore(t, &w), 0);
    assert_int_equal(g_word(t, 0, 0), 1);
    assert_int_equal(g_word(t, 0, 184), 4);
    g_free(t);
    mobo_writer_fini(&w);
}

/* A connection of hvsocket is rescinded; so is nothing else. */
static void state_hvsocket(void **state)
{
    struct vmbus_offer o = { .name = "socket", .flags = VMBUS_CHANNEL_TLNPI, .instance_id = { 0x55 } };
    struct vmbus_channel *socket;
    struct mobo_writer w;
    struct guest *t;

    (void)state;
    opened();
    assert_int_equal(vmbus_offer(g->v, &o, &g_ops, g, &socket), 0);
    save(g, &w);
    t = twin(g);
    (void)g_offer(t, 1);
    assert_int_equal(restore(t, &w), 0);
    assert_int_equal(t->nreplies, 1);
    assert_int_equal(g_word(t, 0, 0), 2);
    assert_int_equal(g_word(t, 0, 8), 2);
    G_MSG(t, 12, 13, 2);
    assert_null(t->v->channel[2]);
    g_free(t);
    mobo_writer_fini(&w);
}

/* Limits of the guest are limits of a state. */
static void state_gpadl_limit(void **state)
{
    enum { CHANNELS = VMBUS_TOTAL_GPADLS / VMBUS_GPADLS_PER_CHANNEL + 1 };
    struct vmbus_saved *s = NULL;
    struct mobo_writer w;
    char msg[200];
    struct guest *t;

    (void)state;
    for (unsigned i = 2; i <= CHANNELS; i++)
        (void)g_offer(g, i);
    g_connect(g, 0x50003);
    for (unsigned i = 0; i < VMBUS_TOTAL_GPADLS; i++)
        G_MSG(g, 20, 8, 1 + i / VMBUS_GPADLS_PER_CHANNEL, i, 1u << 16);
    save(g, &w);
    t = twin(g);
    for (unsigned i = 1; i <= CHANNELS; i++)
        (void)g_offer(t, i);
    assert_int_equal(restore(t, &w), 0);
    assert_int_equal(t->v->total_gpadls, VMBUS_TOTAL_GPADLS);
    mobo_writer_fini(&w);
    g_gpadl(t, CHANNELS, 0x8000, 0, 2);
    assert_int_not_equal(g_word(t, 0, 16), 0);
    t->v->total_gpadls--; /* one more than there can be */
    g_gpadl(t, CHANNELS, 0x8000, 0, 2);
    assert_int_equal(g_word(t, 0, 16), 0);
    save(t, &w);
    assert_int_equal(load(g, w.buf, w.len, &s, msg), -EINVAL);
    assert_non_null(strstr(msg, "its GPADLs make no sense"));
    mobo_writer_fini(&w);
    g_free(t);
}

/* Each byte of a state broken in turn, and each length: no crash, and refused before anything changes or sound. */
static void state_hostile(void **state)
{
    struct mobo_writer w;
    char msg[200];
    unsigned good = 0, bad = 0;

    (void)state;
    (void)g_offer(g, 2);
    opened();
    g_gpadl(g, 2, 9, 20, 3);
    save(g, &w);
    for (size_t i = 0; i < 2 * w.len; i++) {
        struct guest *t = twin(g);
        uint8_t *copy = malloc(w.len + 1);
        size_t len = i < w.len ? w.len : i - w.len;
        struct vmbus_saved *s = NULL;
        struct vmbus_channel *a = g_offer(t, 1);

        (void)g_offer(t, 2);
        memcpy(copy, w.buf, w.len);
        if (i < w.len)
            copy[i] ^= (uint8_t)(1u << i % 8);
        msg[0] = 0;
        if (load(t, copy, len, &s, msg)) {
            bad++;
            assert_true(msg[0] != 0);
            assert_int_equal(vmbus_version(t->v), 0);
            assert_false(vmbus_is_open(a));
        } else if (!vmbus_commit(t->v, s, msg, sizeof(msg))) {
            struct vmbus_packet pkt;

            good++;
            vmbus_service(t->v);
            vmbus_send(a, 6, 0, 2, NULL, 0, "x", 1);
            vmbus_receive(a, &pkt);
            g_connect(t, 0x50003);
        }
        free(copy);
        g_free(t);
    }
    assert_true(bad > w.len && good > 10);
    mobo_writer_fini(&w);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = { T(versions), T(short_messages), T(gpadls),    T(many_ranges), T(gpadl_limits), T(open_close),
                                        T(rescind), T(monitor), T(flood), T(packets), T(alone), T(room_signal), T(bad_rings), T(gpa_direct),  T(tl_connect),
                                        T(state_round_trip), T(state_hvsocket), T(state_gpadl_limit), T(state_hostile) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
