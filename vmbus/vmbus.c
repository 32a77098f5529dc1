/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMBus connection: versions, offers, GPADLs, opening and closing channels.
 *
 * Message layouts are those of HV (enum vmbus_channel_message_type and the structs behind it): each begins
 * with u32 type, u32 padding.  Messages are queued on VP threads and handled one after the other on the
 * service thread. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmbus/vmbus_int.h"

enum {
    MSG_OFFER = 1, MSG_RESCIND, MSG_REQUEST_OFFERS, MSG_ALL_OFFERS_DELIVERED, MSG_OPEN, MSG_OPEN_RESULT, MSG_CLOSE,
    MSG_GPADL_HEADER, MSG_GPADL_BODY, MSG_GPADL_CREATED, MSG_GPADL_TEARDOWN, MSG_GPADL_TORNDOWN, MSG_RELID_RELEASED,
    MSG_INITIATE_CONTACT, MSG_VERSION_RESPONSE, MSG_UNLOAD, MSG_UNLOAD_RESPONSE, MSG_TL_CONNECT = 21,
    MSG_MODIFY_CHANNEL, MSG_TL_CONNECT_RESULT, MSG_MODIFY_CHANNEL_RESPONSE
};
enum { V2_4 = 0x20004, V3_0 = 0x30000, V4_0 = 0x40000, V4_1 = 0x40001, V5_0 = 0x50000, V5_3 = 0x50003 };
static const uint32_t versions[] = { V2_4, V3_0, V4_0, V4_1, V5_0, 0x50001, 0x50002, V5_3 };

enum { STATUS_SUCCESS = 0, STATUS_INVALID_CONNECTION_ID = 18, STATUS_INSUFFICIENT_BUFFERS = 19 };
#define NT_UNSUCCESSFUL 0xc0000001u

bool vmbus_known_version(uint32_t version)
{
    bool known = false;

    for (unsigned i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
        known = known || versions[i] == version;
    return known;
}

void vmbus_logf(struct vmbus *v, int level, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    if (level <= 1) { /* a guest cannot fill the log */
        unsigned n = atomic_fetch_add(&v->complaints, 1);

        if (n > VMBUS_COMPLAINTS)
            atomic_store(&v->complaints, VMBUS_COMPLAINTS + 1);
        if (n == VMBUS_COMPLAINTS)
            v->ops.log(v->ctx, 1, "more of the guest's mistakes are not shown until it is reset");
        if (n >= VMBUS_COMPLAINTS)
            return;
    }
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    v->ops.log(v->ctx, level, line);
}

static uint32_t u32_at(const uint8_t *m, unsigned off)
{
    uint32_t val;

    memcpy(&val, m + off, 4);
    return val;
}

static void put32(uint8_t *m, unsigned off, uint32_t val) { memcpy(m + off, &val, 4); }

static void post(struct vmbus *v, const void *msg, unsigned len)
{
    int err = v->ops.message_post(v->ctx, v->target_vp, msg, len);

    if (err)
        vmbus_logf(v, 1, "a message to the guest is lost (error %d)", -err);
}

/* ---- GPADLs ----------------------------------------------------------------------------------------- */

struct gpadl *vmbus_gpadl_find(const struct vmbus_channel *ch, uint32_t id)
{
    for (struct gpadl *g = ch->gpadls; g; g = g->next)
        if (g->id == id)
            return g;
    return NULL;
}

/* The one of this id that is being set up, in any channel: bodies name none. */
static struct gpadl *gpadl_begun(struct vmbus *v, uint32_t id)
{
    for (unsigned i = 0; i < VMBUS_MAX_CHANNELS; i++) {
        struct gpadl *g = v->channel[i] ? vmbus_gpadl_find(v->channel[i], id) : NULL;

        if (g && !g->created)
            return g;
    }
    return NULL;
}

static void gpadl_free(struct vmbus *v, struct gpadl *g)
{
    struct vmbus_channel *ch = v->channel[g->relid];
    struct gpadl **pp = &ch->gpadls;

    while (*pp != g)
        pp = &(*pp)->next;
    *pp = g->next;
    ch->ngpadls--;
    v->total_gpadls--;
    v->total_pages -= g->npages;
    free(g->range);
    free(g->pfn);
    free(g);
}

bool vmbus_gpadl_complete(const struct gpadl *g) { return g->nranges == g->want_ranges && g->have == g->npages; }

static void gpadl_result(struct vmbus *v, uint32_t relid, uint32_t id, uint32_t status)
{
    uint8_t m[20] = { MSG_GPADL_CREATED };

    put32(m, 8, relid);
    put32(m, 12, id);
    put32(m, 16, status);
    post(v, m, sizeof(m));
}

/* Take the 64-bit words of a header or body message: for each range a word with byte count (low half) and byte
 * offset, then its page numbers (HV struct gpa_range).  @return false: malformed. */
static bool gpadl_words(struct vmbus *v, struct gpadl *g, const uint8_t *p, unsigned len)
{
    for (; len >= 8 && !vmbus_gpadl_complete(g); p += 8, len -= 8) {
        struct gpadl_range *r;
        uint64_t word, pages, *more;

        memcpy(&word, p, 8);
        if (g->have < g->npages) {
            if (word >> 40)
                return false;
            g->pfn[g->have++] = word;
            continue;
        }
        r = realloc(g->range, (g->nranges + 1) * sizeof(*r));
        if (!r)
            return false;
        g->range = r;
        r += g->nranges++;
        r->start = g->len;
        r->len = (uint32_t)word;
        r->offset = (uint32_t)(word >> 32);
        r->first_page = g->npages;
        pages = ((uint64_t)r->offset + r->len + 4095) / 4096;
        if (r->offset >= 4096 || !r->len || g->npages + pages > VMBUS_GPADL_MAX_PAGES ||
            v->total_pages + pages > VMBUS_TOTAL_PAGES)
            return false;
        more = realloc(g->pfn, (g->npages + pages) * sizeof(*more));
        if (!more)
            return false;
        g->pfn = more;
        g->npages += (uint32_t)pages;
        g->len += r->len;
        v->total_pages += (uint32_t)pages;
    }
    return true;
}

static void gpadl_take(struct vmbus *v, struct gpadl *g, const uint8_t *p, unsigned len)
{
    if (!gpadl_words(v, g, p, len)) {
        vmbus_logf(v, 1, "GPADL 0x%x of channel %u is malformed or too big", g->id, g->relid);
        gpadl_result(v, g->relid, g->id, NT_UNSUCCESSFUL);
        gpadl_free(v, g);
    } else if (vmbus_gpadl_complete(g)) {
        /* Whether a page is RAM is asked at each use. */
        g->created = true;
        gpadl_result(v, g->relid, g->id, 0);
    }
}

static void gpadl_header(struct vmbus *v, const uint8_t *m, unsigned len)
{
    uint32_t relid = u32_at(m, 8), id = u32_at(m, 12);
    struct vmbus_channel *ch = relid < VMBUS_MAX_CHANNELS ? v->channel[relid] : NULL;
    struct gpadl *g = NULL;
    uint16_t ranges;

    memcpy(&ranges, m + 18, 2);
    if (ch && ch->offered && !ch->rescinded && ranges && ranges <= VMBUS_GPADL_MAX_RANGES &&
        ch->ngpadls < VMBUS_GPADLS_PER_CHANNEL && v->total_gpadls < VMBUS_TOTAL_GPADLS &&
        !vmbus_gpadl_find(ch, id) && !gpadl_begun(v, id))
        g = calloc(1, sizeof(*g));
    if (!g) {
        vmbus_logf(v, 1, "GPADL 0x%x of channel %u with %u ranges is refused", id, relid, ranges);
        gpadl_result(v, relid, id, NT_UNSUCCESSFUL);
        return;
    }
    g->id = id;
    g->relid = relid;
    g->want_ranges = ranges;
    g->next = ch->gpadls;
    ch->gpadls = g;
    ch->ngpadls++;
    v->total_gpadls++;
    gpadl_take(v, g, m + 20, len - 20);
}

static void gpadl_body(struct vmbus *v, const uint8_t *m, unsigned len)
{
    uint32_t id = u32_at(m, 12);
    struct gpadl *g = gpadl_begun(v, id);

    if (g)
        gpadl_take(v, g, m + 16, len - 16);
    else
        vmbus_logf(v, 1, "GPADL body for 0x%x, which is not being set up", id);
}

static void gpadls_drop(struct vmbus_channel *ch)
{
    while (ch->gpadls)
        gpadl_free(ch->bus, ch->gpadls);
}

/* ---- channels ------------------------------------------------------------------------------------------ */

void vmbus_offer_send(struct vmbus *v, struct vmbus_channel *ch)
{
    uint8_t m[196] = { MSG_OFFER };
    uint16_t w;

    memcpy(m + 8, ch->offer.class_id, 16);
    memcpy(m + 24, ch->offer.instance_id, 16);
    w = ch->offer.flags;
    memcpy(m + 56, &w, 2);
    w = ch->offer.mmio_megabytes;
    memcpy(m + 58, &w, 2);
    memcpy(m + 60, ch->offer.user_data, VMBUS_USER_DATA);
    w = ch->offer.sub_index;
    memcpy(m + 180, &w, 2);
    put32(m, 184, ch->relid);
    /* Dedicated interrupt: every version that is served (2.4 and later) has it, so that the shared interrupt page
     * of older clients is never used.  A monitor page only on request: its purpose is to save hypercalls by making
     * the host poll, at the price of latency and of a host that never sleeps; here a hypercall is the cheaper of both. */
    m[188] = (uint8_t)(ch->offer.monitored ? ch->relid % VMBUS_MONITORS : 0);
    m[189] = ch->offer.monitored;
    m[190] = 1;
    put32(m, 192, VMBUS_CONNECTION_BASE + ch->relid);
    ch->offered = true;
    post(v, m, sizeof(m));
}

void vmbus_monitor_update(struct vmbus *v)
{
    bool on = false;

    for (unsigned i = 0; i < VMBUS_MAX_CHANNELS && !on && v->monitor_gpa; i++)
        on = v->channel[i] && v->channel[i]->offer.monitored && v->channel[i]->state == CH_OPEN;
    if (on != v->monitored && v->ops.monitor)
        v->ops.monitor(v->ctx, on);
    v->monitored = on;
}

void vmbus_monitor_poll(struct vmbus *v)
{
    uint32_t pending[VMBUS_MONITORS / 32], any = 0;
    struct monitor_page *page;

    pthread_mutex_lock(&v->lock);
    page = v->monitored ? v->ops.page(v->ctx, v->monitor_gpa) : NULL;
    for (unsigned i = 0; page && i < VMBUS_MONITORS / 32; i++) {
        pending[i] = atomic_load(&page->group[i].pending) ? atomic_exchange(&page->group[i].pending, 0) : 0;
        any |= pending[i];
    }
    if (any)
        v->ops.page_dirty(v->ctx, v->monitor_gpa, sizeof(*page));
    /* More channels than monitors share one; a signal too many does no harm. */
    for (unsigned i = 0; any && i < VMBUS_MAX_CHANNELS; i++) {
        struct vmbus_channel *ch = v->channel[i];
        unsigned id = i % VMBUS_MONITORS;

        if (ch && ch->offer.monitored && ch->state == CH_OPEN && (pending[id / 32] >> id % 32 & 1) && ch->ops.signal)
            ch->ops.signal(ch->ctx);
    }
    pthread_mutex_unlock(&v->lock);
}

void vmbus_rescind_send(struct vmbus *v, struct vmbus_channel *ch)
{
    uint8_t m[12] = { MSG_RESCIND };

    put32(m, 8, ch->relid);
    post(v, m, sizeof(m));
}

static void channel_free(struct vmbus_channel *ch)
{
    gpadls_drop(ch);
    ch->bus->channel[ch->relid] = NULL;
    ring_close(ch);
    pthread_mutex_destroy(&ch->lock);
    free(ch);
}

/* v->lock held; released around the owner's callback. */
static void channel_close(struct vmbus *v, struct vmbus_channel *ch)
{
    bool was;

    pthread_mutex_lock(&ch->lock);
    was = ch->state == CH_OPEN;
    ch->state = CH_CLOSED;
    ch->broken = false;
    ring_close(ch);
    pthread_mutex_unlock(&ch->lock);
    vmbus_monitor_update(v);
    if (was && ch->ops.close) {
        pthread_mutex_unlock(&v->lock);
        ch->ops.close(ch->ctx);
        pthread_mutex_lock(&v->lock);
    }
}

static void gpadl_teardown(struct vmbus *v, const uint8_t *m)
{
    uint32_t relid = u32_at(m, 8), id = u32_at(m, 12);
    uint8_t r[12] = { MSG_GPADL_TORNDOWN };
    struct vmbus_channel *ch = relid < VMBUS_MAX_CHANNELS ? v->channel[relid] : NULL;
    struct gpadl *g = ch ? vmbus_gpadl_find(ch, id) : NULL;

    if (g && ch->state != CH_CLOSED && ch->ring_gpadl == id) {
        vmbus_logf(v, 1, "%s: the guest takes away the ring of the open channel: it is closed", ch->name);
        channel_close(v, ch);
        ch = v->channel[relid]; /* the lock was given up */
        g = ch ? vmbus_gpadl_find(ch, id) : NULL;
    }
    if (g)
        gpadl_free(v, g);
    put32(r, 8, id);
    post(v, r, sizeof(r));
}

static struct vmbus_channel *channel_of(struct vmbus *v, const uint8_t *m, const char *what)
{
    uint32_t relid = u32_at(m, 8);
    struct vmbus_channel *ch = relid < VMBUS_MAX_CHANNELS ? v->channel[relid] : NULL;

    if (!ch || !ch->offered) {
        vmbus_logf(v, 1, "%s of channel %u, which was not offered", what, relid);
        return NULL;
    }
    return ch;
}

static void channel_open(struct vmbus *v, const uint8_t *m)
{
    struct vmbus_channel *ch = channel_of(v, m, "open");
    uint8_t r[20] = { MSG_OPEN_RESULT };
    struct gpadl *g;
    int err = 0;

    if (!ch)
        return;
    memcpy(r + 8, m + 8, 8); /* channel and open id */
    g = vmbus_gpadl_find(ch, u32_at(m, 16));
    pthread_mutex_lock(&ch->lock);
    if (ch->state != CH_CLOSED || ch->rescinded || !g)
        err = -EINVAL;
    if (!err)
        err = ring_open(ch, g, u32_at(m, 24));
    if (!err) {
        ch->ring_gpadl = g->id;
        ch->target_vp = u32_at(m, 20) < v->vps ? u32_at(m, 20) : 0;
        ch->state = CH_OPENING;
        ch->broken = false;
    }
    pthread_mutex_unlock(&ch->lock);
    if (!err) {
        pthread_mutex_unlock(&v->lock);
        err = ch->ops.open ? ch->ops.open(ch->ctx, m + 28) : 0;
        pthread_mutex_lock(&v->lock);
        pthread_mutex_lock(&ch->lock);
        if (ch->state != CH_OPENING) { /* rescinded meanwhile, which closed the rings */
            err = err ? err : -ENODEV;
        } else {
            if (err)
                ring_close(ch);
            ch->state = err ? CH_CLOSED : CH_OPEN;
        }
        pthread_mutex_unlock(&ch->lock);
    }
    if (err)
        vmbus_logf(v, 1, "%s: the guest's open is refused (error %d)", ch->name, -err);
    vmbus_monitor_update(v);
    put32(r, 16, err ? NT_UNSUCCESSFUL : 0);
    post(v, r, sizeof(r));
    if (!err && ch->ops.signal) /* packets may have come with the open */
        ch->ops.signal(ch->ctx);
}

static void channel_release(struct vmbus *v, const uint8_t *m)
{
    struct vmbus_channel *ch = channel_of(v, m, "release");
    struct vmbus_channel_ops ops;
    void *ctx;

    if (!ch)
        return;
    if (ch->state != CH_CLOSED)
        channel_close(v, ch);
    gpadls_drop(ch);
    ch->offered = false;
    if (!ch->rescinded)
        return;
    ops = ch->ops;
    ctx = ch->ctx;
    channel_free(ch);
    if (ops.released) {
        pthread_mutex_unlock(&v->lock);
        ops.released(ctx);
        pthread_mutex_lock(&v->lock);
    }
}

static void channel_modify(struct vmbus *v, const uint8_t *m)
{
    struct vmbus_channel *ch = channel_of(v, m, "modify");
    uint32_t vp = u32_at(m, 12);
    uint8_t r[16] = { MSG_MODIFY_CHANNEL_RESPONSE };
    bool ok = ch && vp < v->vps && ch->state == CH_OPEN;

    if (ok) {
        pthread_mutex_lock(&ch->lock);
        ch->target_vp = vp;
        pthread_mutex_unlock(&ch->lock);
    }
    if (v->version < V5_3)
        return;
    put32(r, 8, u32_at(m, 8));
    put32(r, 12, ok ? 0 : NT_UNSUCCESSFUL);
    post(v, r, sizeof(r));
}

/* ---- connection ------------------------------------------------------------------------------------------ */

static void disconnect(struct vmbus *v)
{
    v->version = 0;
    v->offers_wanted = false;
    for (unsigned i = 0; i < VMBUS_MAX_CHANNELS; i++) {
        struct vmbus_channel *ch = v->channel[i];

        if (!ch)
            continue;
        if (ch->state != CH_CLOSED)
            channel_close(v, ch);
        gpadls_drop(ch);
        ch->offered = false;
        if (ch->rescinded) {
            struct vmbus_channel_ops ops = ch->ops;
            void *ctx = ch->ctx;

            channel_free(ch);
            if (ops.released) {
                pthread_mutex_unlock(&v->lock);
                ops.released(ctx);
                pthread_mutex_lock(&v->lock);
            }
        }
    }
}

static void initiate_contact(struct vmbus *v, const uint8_t *m)
{
    uint32_t want = u32_at(m, 8), vp = u32_at(m, 12);
    uint8_t r[20] = { MSG_VERSION_RESPONSE };
    bool ok;

    if (v->version)
        disconnect(v);
    if (want >= V5_0 && m[16] != VMBUS_SINT) { /* from 5.0 on the interrupt page's place names the SINT */
        vmbus_logf(v, 1, "the guest wants messages at SINT %u, which is not %d", m[16], VMBUS_SINT);
        want = 0;
    }
    ok = vmbus_known_version(want);
    v->target_vp = vp < v->vps ? vp : 0;
    if (ok) {
        v->version = want;
        memcpy(&v->monitor_gpa, m + 32, 8); /* the second page is the one from guest to host */
        if (v->monitor_gpa % 4096 || v->monitor_gpa >> 52)
            v->monitor_gpa = 0;
    }
    vmbus_logf(v, ok ? 2 : 3, "the guest asks for version %u.%u: %s", want >> 16, want & 0xffff, ok ? "yes" : "no");
    r[8] = ok;
    put32(r, 12, want >= V5_0 ? 4 : 1); /* connection id for the messages that follow */
    post(v, r, 16);
}

static void request_offers(struct vmbus *v)
{
    uint8_t m[8] = { MSG_ALL_OFFERS_DELIVERED };

    v->offers_wanted = true;
    for (unsigned i = 0; i < VMBUS_MAX_CHANNELS; i++)
        if (v->channel[i] && !v->channel[i]->rescinded && !v->channel[i]->offered)
            vmbus_offer_send(v, v->channel[i]);
    post(v, m, sizeof(m));
}

static void unload(struct vmbus *v)
{
    uint8_t m[8] = { MSG_UNLOAD_RESPONSE };

    disconnect(v);
    post(v, m, sizeof(m));
}

static void tl_connect(struct vmbus *v, const uint8_t *m)
{
    void (*fn)(void *, const uint8_t *, const uint8_t *) = v->tl_connect;
    void *ctx = v->tl_ctx;

    pthread_mutex_unlock(&v->lock);
    if (fn)
        fn(ctx, m + 8, m + 24);
    else
        vmbus_tl_result(v, m + 8, m + 24, (int32_t)0xc0000236); /* connection refused */
    pthread_mutex_lock(&v->lock);
}

void vmbus_tl_result(struct vmbus *v, const uint8_t endpoint[16], const uint8_t service[16], int32_t status)
{
    uint8_t m[44] = { MSG_TL_CONNECT_RESULT };

    memcpy(m + 8, endpoint, 16);
    memcpy(m + 24, service, 16);
    put32(m, 40, (uint32_t)status);
    pthread_mutex_lock(&v->lock);
    if (v->version >= V4_1)
        post(v, m, sizeof(m));
    pthread_mutex_unlock(&v->lock);
}

void vmbus_tl_listen(struct vmbus *v, void (*connect)(void *, const uint8_t *, const uint8_t *), void *ctx)
{
    pthread_mutex_lock(&v->lock);
    v->tl_connect = connect;
    v->tl_ctx = ctx;
    pthread_mutex_unlock(&v->lock);
}

/* Shortest length of each message that a guest may send, 0: not one of them. */
static const uint8_t shortest[] = {
    [MSG_REQUEST_OFFERS] = 8, [MSG_OPEN] = 148, [MSG_CLOSE] = 12, [MSG_GPADL_HEADER] = 20, [MSG_GPADL_BODY] = 16,
    [MSG_GPADL_TEARDOWN] = 16, [MSG_RELID_RELEASED] = 12, [MSG_INITIATE_CONTACT] = 40, [MSG_UNLOAD] = 8,
    [MSG_TL_CONNECT] = 40, [MSG_MODIFY_CHANNEL] = 16,
};

static void handle(struct vmbus *v, const struct queued *q)
{
    uint8_t m[240] = { 0 };
    uint32_t type;

    memcpy(m, q->payload, q->len);
    type = u32_at(m, 0);
    if (q->len < 8 || type >= sizeof(shortest) || !shortest[type] || q->len < shortest[type]) {
        vmbus_logf(v, 1, "message type %u of %u bytes is not one that a guest sends", type, q->len);
        return;
    }
    if (!v->version && type == MSG_RELID_RELEASED)
        return; /* Linux lets go of its channels after the unload, which released them all */
    if (!v->version && type != MSG_INITIATE_CONTACT && type != MSG_UNLOAD) {
        vmbus_logf(v, 1, "message type %u before a version was agreed on", type);
        return;
    }
    switch (type) {
    case MSG_INITIATE_CONTACT: initiate_contact(v, m); break;
    case MSG_REQUEST_OFFERS: request_offers(v); break;
    case MSG_OPEN: channel_open(v, m); break;
    case MSG_CLOSE: {
        struct vmbus_channel *ch = channel_of(v, m, "close");

        if (ch && ch->state != CH_CLOSED)
            channel_close(v, ch);
        break;
    }
    case MSG_GPADL_HEADER: gpadl_header(v, m, q->len); break;
    case MSG_GPADL_BODY: gpadl_body(v, m, q->len); break;
    case MSG_GPADL_TEARDOWN: gpadl_teardown(v, m); break;
    case MSG_RELID_RELEASED: channel_release(v, m); break;
    case MSG_UNLOAD: unload(v); break;
    case MSG_TL_CONNECT: tl_connect(v, m); break;
    case MSG_MODIFY_CHANNEL: channel_modify(v, m); break;
    }
}

void vmbus_service(struct vmbus *v)
{
    bool more = true;

    pthread_mutex_lock(&v->lock);
    /* As many as can wait: a guest that posts as fast as they are handled does not keep the thread. */
    for (unsigned n = 0; more && n < VMBUS_QUEUE; n++) {
        struct queued q;
        bool have;

        pthread_mutex_lock(&v->queue_lock);
        have = v->qlen > 0;
        if (have) {
            q = v->queue[v->qhead];
            v->qhead = (v->qhead + 1) % VMBUS_QUEUE;
            v->qlen--;
        }
        more = v->qlen > 0;
        pthread_mutex_unlock(&v->queue_lock);
        if (!have)
            break;
        handle(v, &q);
    }
    if (more)
        v->ops.service_wanted(v->ctx);
    if (v->broken_channels) {
        v->broken_channels = false;
        for (unsigned i = 0; i < VMBUS_MAX_CHANNELS; i++) {
            struct vmbus_channel *ch = v->channel[i];
            bool broken = false;

            if (ch) {
                pthread_mutex_lock(&ch->lock);
                broken = ch->broken && ch->state == CH_OPEN;
                pthread_mutex_unlock(&ch->lock);
            }
            if (broken)
                channel_close(v, ch);
        }
    }
    pthread_mutex_unlock(&v->lock);
}

uint16_t vmbus_post_message(struct vmbus *v, unsigned vp, uint32_t connection, uint32_t type, const void *payload,
                            unsigned len)
{
    uint16_t st = STATUS_SUCCESS;

    if (connection != 1 && connection != 4)
        return STATUS_INVALID_CONNECTION_ID;
    if (type != 1 || len > 240)
        return STATUS_SUCCESS; /* taken and ignored, as any port may */
    pthread_mutex_lock(&v->queue_lock);
    if (v->qlen == VMBUS_QUEUE) {
        st = STATUS_INSUFFICIENT_BUFFERS;
    } else {
        struct queued *q = &v->queue[(v->qhead + v->qlen++) % VMBUS_QUEUE];

        q->vp = vp;
        q->len = len;
        memcpy(q->payload, payload, len);
    }
    pthread_mutex_unlock(&v->queue_lock);
    v->ops.service_wanted(v->ctx);
    return st;
}

uint16_t vmbus_signal_event(struct vmbus *v, unsigned vp, uint32_t connection, uint16_t flag)
{
    uint32_t relid = connection - VMBUS_CONNECTION_BASE;
    struct vmbus_channel *ch;

    (void)vp, (void)flag;
    if (connection < VMBUS_CONNECTION_BASE || relid >= VMBUS_MAX_CHANNELS)
        return STATUS_INVALID_CONNECTION_ID;
    pthread_mutex_lock(&v->lock);
    ch = v->channel[relid];
    if (ch && ch->state == CH_OPEN && ch->ops.signal)
        ch->ops.signal(ch->ctx);
    pthread_mutex_unlock(&v->lock);
    return ch ? STATUS_SUCCESS : STATUS_INVALID_CONNECTION_ID;
}

/* ---- offers and life cycle ---------------------------------------------------------------------------------- */

int vmbus_offer(struct vmbus *v, const struct vmbus_offer *offer, const struct vmbus_channel_ops *ops, void *ctx,
                struct vmbus_channel **ret)
{
    struct vmbus_channel *ch = calloc(1, sizeof(*ch));
    uint32_t relid = 0, sockets = 0;

    if (!ch)
        return -ENOMEM;
    ch->bus = v;
    ch->offer = *offer;
    snprintf(ch->name, sizeof(ch->name), "%s", offer->name ? offer->name : "vmbus");
    ch->offer.name = ch->name;
    ch->ops = *ops;
    ch->ctx = ctx;
    pthread_mutex_init(&ch->lock, NULL);
    pthread_mutex_lock(&v->lock);
    for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS; i++) {
        if (!v->channel[i])
            relid = relid ? relid : i;
        else if (v->channel[i]->offer.flags & VMBUS_CHANNEL_TLNPI)
            sockets++;
    }
    /* A guest that never lets go of its connections cannot use up the channels of all devices. */
    if ((offer->flags & VMBUS_CHANNEL_TLNPI) && sockets >= VMBUS_MAX_SOCKETS)
        relid = 0;
    if (relid) {
        ch->relid = relid;
        v->channel[relid] = ch;
        if (v->offers_wanted)
            vmbus_offer_send(v, ch);
    }
    pthread_mutex_unlock(&v->lock);
    if (!relid) {
        pthread_mutex_destroy(&ch->lock);
        free(ch);
        return -ENOSPC;
    }
    *ret = ch;
    return 0;
}

void vmbus_rescind(struct vmbus_channel *ch)
{
    struct vmbus *v = ch->bus;
    void (*released)(void *) = NULL;
    void *ctx = NULL;

    pthread_mutex_lock(&v->lock);
    if (!ch->rescinded) {
        ch->rescinded = true;
        pthread_mutex_lock(&ch->lock);
        ch->state = CH_CLOSED;
        ring_close(ch);
        pthread_mutex_unlock(&ch->lock);
        vmbus_monitor_update(v);
        if (!ch->offered) {
            released = ch->ops.released;
            ctx = ch->ctx;
            channel_free(ch);
        } else if (v->version) { /* else the guest is leaving and disconnect() frees it */
            vmbus_rescind_send(v, ch);
        }
    }
    pthread_mutex_unlock(&v->lock);
    if (released)
        released(ctx);
}

uint32_t vmbus_version(struct vmbus *v)
{
    uint32_t ver;

    pthread_mutex_lock(&v->lock);
    ver = v->version;
    pthread_mutex_unlock(&v->lock);
    return ver;
}

void vmbus_reset(struct vmbus *v)
{
    pthread_mutex_lock(&v->queue_lock);
    v->qhead = v->qlen = 0;
    pthread_mutex_unlock(&v->queue_lock);
    pthread_mutex_lock(&v->lock);
    disconnect(v);
    atomic_store(&v->complaints, 0);
    pthread_mutex_unlock(&v->lock);
}

int vmbus_create(const struct vmbus_ops *ops, void *ctx, unsigned vps, struct vmbus **ret)
{
    struct vmbus *v = calloc(1, sizeof(*v));

    if (!v)
        return -ENOMEM;
    v->ops = *ops;
    v->ctx = ctx;
    v->vps = vps;
    pthread_mutex_init(&v->lock, NULL);
    pthread_mutex_init(&v->queue_lock, NULL);
    *ret = v;
    return 0;
}

void vmbus_destroy(struct vmbus *v)
{
    if (!v)
        return;
    for (unsigned i = 0; i < VMBUS_MAX_CHANNELS; i++)
        if (v->channel[i])
            channel_free(v->channel[i]);
    pthread_mutex_destroy(&v->lock);
    pthread_mutex_destroy(&v->queue_lock);
    free(v);
}
