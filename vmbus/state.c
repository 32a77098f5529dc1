/* SPDX-License-Identifier: BSD-2-Clause */
/* The VMBus as a saved state: decoded aside, checked, then taken over.
 *
 * Groups: 1 connection, 2 channels by relid.  In a channel: its fields, and from 0x100 on its GPADLs. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/lib/state.h"
#include "vmbus/vmbus_int.h"

enum { T_CONNECTION = 1, T_CHANNELS = 2, T_MONITOR = 4, T_GPADL = 0x100, T_RANGES = 0x40, T_PAGES };

struct connection {
    uint32_t version, target_vp;
    uint8_t offers_wanted;
};

static const struct mobo_field connection_fields[] = {
    MOBO_FIELD(1, struct connection, version),
    MOBO_FIELD(2, struct connection, target_vp),
    MOBO_FIELD(3, struct connection, offers_wanted),
};

struct saved_channel {
    uint8_t class_id[16], instance_id[16];
    uint16_t flags, sub_index;
    uint8_t offered, rescinded, open, broken, room_wanted;
    uint32_t target_vp, ring_gpadl, ring_down, in_index, out_index;
    /* not fields */
    struct vmbus_channel ring; /* rings and buffer, until they are taken over */
    struct gpadl *gpadls;
    uint32_t ngpadls;
    struct vmbus_channel *match;
};

static const struct mobo_field channel_fields[] = {
    MOBO_FIELD(1, struct saved_channel, class_id),     MOBO_FIELD(2, struct saved_channel, instance_id),
    MOBO_FIELD(3, struct saved_channel, flags),        MOBO_FIELD(4, struct saved_channel, sub_index),
    MOBO_FIELD(5, struct saved_channel, offered),      MOBO_FIELD(6, struct saved_channel, rescinded),
    MOBO_FIELD(7, struct saved_channel, open),         MOBO_FIELD(8, struct saved_channel, broken),
    MOBO_FIELD(9, struct saved_channel, room_wanted),  MOBO_FIELD(10, struct saved_channel, target_vp),
    MOBO_FIELD(11, struct saved_channel, ring_gpadl),  MOBO_FIELD(12, struct saved_channel, ring_down),
    MOBO_FIELD(13, struct saved_channel, in_index),    MOBO_FIELD(14, struct saved_channel, out_index),
};

struct saved_gpadl {
    uint32_t id, want_ranges, npages;
    uint8_t created;
};

static const struct mobo_field gpadl_fields[] = {
    MOBO_FIELD(1, struct saved_gpadl, id),
    MOBO_FIELD(2, struct saved_gpadl, want_ranges),
    MOBO_FIELD(3, struct saved_gpadl, npages),
    MOBO_FIELD(4, struct saved_gpadl, created),
};

struct vmbus_saved {
    struct connection c;
    uint64_t monitor_gpa;
    struct saved_channel *channel[VMBUS_MAX_CHANNELS]; /* by relid */
    uint32_t total_pages, total_gpadls;
};

/* ---- save -------------------------------------------------------------------------------------------------- */

static int save_gpadl(struct mobo_writer *w, const struct gpadl *g)
{
    const struct saved_gpadl s = { g->id, g->want_ranges, g->npages, g->created };
    uint32_t *r = calloc(g->nranges ? g->nranges : 1, 8);

    if (!r)
        return -ENOMEM;
    for (uint32_t i = 0; i < g->nranges; i++) {
        r[2 * i] = g->range[i].len;
        r[2 * i + 1] = g->range[i].offset;
    }
    mobo_save_fields(w, MOBO_ARRAY(gpadl_fields), &s);
    mobo_save_bytes(w, T_RANGES, 0, r, g->nranges * 8);
    mobo_save_bytes(w, T_PAGES, 0, g->pfn, g->have * 8);
    free(r);
    return 0;
}

static int save_channel(struct mobo_writer *w, const struct vmbus_channel *ch)
{
    struct saved_channel s = { .flags = ch->offer.flags,
                               .sub_index = ch->offer.sub_index,
                               .offered = ch->offered,
                               .rescinded = ch->rescinded,
                               .open = ch->state == CH_OPEN };
    uint32_t tag = T_GPADL;
    int err = 0;

    memcpy(s.class_id, ch->offer.class_id, 16);
    memcpy(s.instance_id, ch->offer.instance_id, 16);
    if (s.open) {
        s.broken = ch->broken;
        s.room_wanted = ch->room_wanted;
        s.target_vp = ch->target_vp;
        s.ring_gpadl = ch->ring_gpadl;
        s.ring_down = ch->in.size / 4096 + 1;
        s.in_index = ch->in.index;
        s.out_index = ch->out.index;
    }
    mobo_save_fields(w, MOBO_ARRAY(channel_fields), &s);
    for (const struct gpadl *g = ch->gpadls; g && !err; g = g->next) {
        mobo_save_begin(w, tag++, 0);
        err = save_gpadl(w, g);
        mobo_save_end(w);
    }
    return err;
}

int vmbus_save(struct vmbus *v, struct mobo_writer *w)
{
    struct connection c;
    int err = 0;

    vmbus_service(v);
    pthread_mutex_lock(&v->lock);
    c = (struct connection){ v->version, v->target_vp, v->offers_wanted };
    mobo_save_begin(w, T_CONNECTION, 0);
    mobo_save_fields(w, MOBO_ARRAY(connection_fields), &c);
    if (v->monitor_gpa)
        mobo_save_bytes(w, T_MONITOR, 0, &v->monitor_gpa, sizeof(v->monitor_gpa));
    mobo_save_end(w);
    mobo_save_begin(w, T_CHANNELS, 0);
    for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS && !err; i++)
        if (v->channel[i]) {
            mobo_save_begin(w, i, 0);
            pthread_mutex_lock(&v->channel[i]->lock);
            err = save_channel(w, v->channel[i]);
            pthread_mutex_unlock(&v->channel[i]->lock);
            mobo_save_end(w);
        }
    mobo_save_end(w);
    pthread_mutex_unlock(&v->lock);
    return err ? err : w->err;
}

/* ---- load -------------------------------------------------------------------------------------------------- */

static void gpadls_free(struct gpadl *g)
{
    for (struct gpadl *next; g; g = next) {
        next = g->next;
        free(g->range);
        free(g->pfn);
        free(g);
    }
}

void vmbus_saved_free(struct vmbus_saved *s)
{
    for (unsigned i = 0; s && i < VMBUS_MAX_CHANNELS; i++)
        if (s->channel[i]) {
            ring_close(&s->channel[i]->ring);
            gpadls_free(s->channel[i]->gpadls);
            free(s->channel[i]);
        }
    free(s);
}

/* Of a sound group, everything that gpadl_words() would have seen to.  NULL: malformed, or no memory. */
static struct gpadl *load_gpadl(struct mobo_reader *r, uint32_t relid)
{
    struct saved_gpadl s = { 0 };
    struct gpadl *g = calloc(1, sizeof(*g));
    const uint8_t *ranges, *pages;
    uint32_t nr, np;

    if (!g || mobo_load_view(r, T_RANGES, &ranges, &nr) || mobo_load_view(r, T_PAGES, &pages, &np) ||
        mobo_load_fields(r, MOBO_ARRAY(gpadl_fields), &s) || nr % 8 || np % 8 || s.created > 1 || !s.want_ranges ||
        s.want_ranges > VMBUS_GPADL_MAX_RANGES || nr / 8 > s.want_ranges || s.npages > VMBUS_GPADL_MAX_PAGES ||
        np / 8 > s.npages)
        goto bad;
    g->id = s.id;
    g->relid = relid;
    g->want_ranges = s.want_ranges;
    g->range = calloc(nr ? nr / 8 : 1, sizeof(*g->range));
    g->pfn = calloc(s.npages ? s.npages : 1, sizeof(*g->pfn));
    if (!g->range || !g->pfn)
        goto bad;
    for (; g->nranges < nr / 8; g->nranges++) {
        struct gpadl_range *q = &g->range[g->nranges];
        uint64_t n;

        memcpy(&q->len, ranges + 8 * g->nranges, 4);
        memcpy(&q->offset, ranges + 8 * g->nranges + 4, 4);
        q->start = g->len;
        q->first_page = g->npages;
        n = ((uint64_t)q->offset + q->len + 4095) / 4096;
        if (!q->len || q->offset >= 4096 || g->npages + n > s.npages)
            goto bad;
        g->npages += (uint32_t)n;
        g->len += q->len;
    }
    g->have = np / 8;
    memcpy(g->pfn, pages, np);
    for (uint32_t i = 0; i < g->have; i++)
        if (g->pfn[i] >> 40)
            goto bad;
    g->created = s.created;
    /* page numbers come in order: those of all ranges but the last are there */
    if (g->npages != s.npages || g->created != vmbus_gpadl_complete(g) ||
        (g->nranges && g->have < g->range[g->nranges - 1].first_page))
        goto bad;
    return g;
bad:
    gpadls_free(g);
    return NULL;
}

/* Why it cannot be, or NULL.  s->total_pages and s->total_gpadls are the whole bus's. */
static const char *load_channel(struct vmbus *v, struct mobo_reader *r, struct vmbus_saved *s, uint32_t relid)
{
    struct saved_channel *c = calloc(1, sizeof(*c));
    struct gpadl **tail, *g, *ring = NULL;

    if (!c)
        return "out of memory";
    s->channel[relid] = c;
    c->ring.bus = v;
    tail = &c->gpadls;
    if (mobo_load_fields(r, MOBO_ARRAY(channel_fields), c))
        return r->msg;
    for (uint32_t i = 0; i < VMBUS_GPADLS_PER_CHANNEL && !mobo_load_begin(r, T_GPADL + i); i++) {
        g = load_gpadl(r, relid);
        if (!g)
            return "a GPADL makes no sense";
        for (const struct gpadl *q = c->gpadls; q; q = q->next)
            if (q->id == g->id)
                ring = g; /* twice: not sound */
        *tail = g;
        tail = &g->next;
        c->ngpadls++;
        s->total_gpadls++;
        s->total_pages += g->npages;
        if (ring || s->total_pages > VMBUS_TOTAL_PAGES || s->total_gpadls > VMBUS_TOTAL_GPADLS || mobo_load_end(r))
            return "its GPADLs make no sense";
    }
    if (c->offered > 1 || c->rescinded > 1 || c->open > 1 || c->broken > 1 || c->room_wanted > 1 ||
        c->target_vp >= v->vps || (c->open && (!c->offered || c->rescinded)) || (c->gpadls && !c->offered) ||
        (c->rescinded && !c->offered) || (!s->c.version && c->offered))
        return "its flags make no sense";
    if (!c->open)
        return NULL;
    for (g = c->gpadls; g; g = g->next)
        if (g->id == c->ring_gpadl)
            ring = g;
    if (!ring || ring_restore(&c->ring, ring, c->ring_down, c->in_index, c->out_index))
        return "its rings make no sense";
    return NULL;
}

/* Not there: the guest has none. */
static int load_monitor(struct mobo_reader *r, uint64_t *ret_gpa)
{
    uint32_t n = 0;
    int err = mobo_load_bytes(r, T_MONITOR, ret_gpa, sizeof(*ret_gpa), &n);

    if (err == -ENOENT)
        return 0;
    return err ? err : n != sizeof(*ret_gpa) || *ret_gpa % 4096 || *ret_gpa >> 52 ? -EINVAL : 0;
}

int vmbus_load(struct vmbus *v, struct mobo_reader *r, struct vmbus_saved **ret, char *msg, size_t len)
{
    struct vmbus_saved *s = calloc(1, sizeof(*s));
    const char *why = s ? NULL : "out of memory";

    if (!why && (mobo_load_begin(r, T_CONNECTION) || load_monitor(r, &s->monitor_gpa) || mobo_load_fields(r, MOBO_ARRAY(connection_fields), &s->c) ||
                 mobo_load_end(r)))
        why = "the connection is missing or incomplete";
    if (!why && ((s->c.version && !vmbus_known_version(s->c.version)) || s->c.target_vp >= v->vps ||
                 s->c.offers_wanted > 1 || (!s->c.version && s->c.offers_wanted)))
        why = "the connection makes no sense";
    if (!why && mobo_load_begin(r, T_CHANNELS))
        why = "the channels are missing";
    if (why)
        snprintf(msg, len, "saved VMBus: %s", why);
    for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS && !why; i++) {
        if (mobo_load_begin(r, i))
            continue;
        why = load_channel(v, r, s, i);
        if (!why && mobo_load_end(r))
            why = r->msg;
        if (why)
            snprintf(msg, len, "saved VMBus: channel %u: %s", i, why);
    }
    if (!why && mobo_load_end(r)) {
        why = r->msg;
        snprintf(msg, len, "saved VMBus: %s", why);
    }
    if (why) {
        vmbus_saved_free(s);
        return s ? -EINVAL : -ENOMEM;
    }
    *ret = s;
    return 0;
}

/* ---- commit ------------------------------------------------------------------------------------------------ */

static bool same(const struct vmbus_channel *ch, const struct saved_channel *c)
{
    return !memcmp(ch->offer.class_id, c->class_id, 16) && !memcmp(ch->offer.instance_id, c->instance_id, 16) &&
           ch->offer.sub_index == c->sub_index && !ch->rescinded;
}

/* A channel that has no owner any more; the guest is yet to let go of it. */
static struct vmbus_channel *orphan(struct vmbus *v, const struct saved_channel *c)
{
    struct vmbus_channel *ch = calloc(1, sizeof(*ch));

    if (!ch)
        return NULL;
    ch->bus = v;
    memcpy(ch->offer.class_id, c->class_id, 16);
    memcpy(ch->offer.instance_id, c->instance_id, 16);
    ch->offer.flags = c->flags;
    ch->offer.sub_index = c->sub_index;
    snprintf(ch->name, sizeof(ch->name), "vmbus");
    ch->offer.name = ch->name;
    ch->rescinded = true;
    pthread_mutex_init(&ch->lock, NULL);
    return ch;
}

static void guid_text(const uint8_t g[16], char text[40])
{
    snprintf(text, 40, "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", g[3], g[2], g[1], g[0],
             g[5], g[4], g[7], g[6], g[8], g[9], g[10], g[11], g[12], g[13], g[14], g[15]);
}

/* Find or make the channel of each saved one.  @return those of the board that are in no saved one, -errno. */
static int match(struct vmbus *v, struct vmbus_saved *s, bool taken[VMBUS_MAX_CHANNELS], char *msg, size_t len)
{
    int extra = 0, count = 0;

    for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS; i++)
        extra += v->channel[i] != NULL;
    for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS; i++) {
        struct saved_channel *c = s->channel[i];
        char text[40];

        if (!c)
            continue;
        count++;
        for (uint32_t n = 1; n < VMBUS_MAX_CHANNELS && !c->match && !c->rescinded; n++)
            if (v->channel[n] && !taken[n] && same(v->channel[n], c)) {
                c->match = v->channel[n];
                taken[n] = true;
                extra--;
            }
        if (c->match)
            continue;
        if (!c->rescinded && !(c->flags & VMBUS_CHANNEL_TLNPI)) {
            guid_text(c->instance_id, text);
            snprintf(msg, len, "saved VMBus: no device of this board offers channel %u, instance %s, sub-channel %u", i,
                     text, c->sub_index);
            return -ENOENT;
        }
        if (!c->offered)
            continue; /* the guest never heard of it */
        c->match = orphan(v, c);
        if (!c->match) {
            snprintf(msg, len, "saved VMBus: out of memory");
            return -ENOMEM;
        }
    }
    if (extra + count < VMBUS_MAX_CHANNELS - 1)
        return extra;
    snprintf(msg, len, "saved VMBus: too many channels");
    return -EINVAL;
}

static void take_over(struct vmbus *v, struct saved_channel *c, uint32_t relid)
{
    struct vmbus_channel *ch = c->match;

    v->channel[relid] = ch;
    ch->relid = relid;
    ch->offered = c->offered;
    ch->gpadls = c->gpadls;
    ch->ngpadls = c->ngpadls;
    v->total_gpadls += c->ngpadls;
    for (const struct gpadl *g = c->gpadls; g; g = g->next)
        v->total_pages += g->npages;
    c->gpadls = NULL;
    if (!c->open || ch->rescinded)
        return;
    pthread_mutex_lock(&ch->lock);
    ch->in = c->ring.in;
    ch->out = c->ring.out;
    ch->buf = c->ring.buf;
    ch->buf_len = c->ring.buf_len;
    memset(&c->ring, 0, sizeof(c->ring));
    ch->room_wanted = c->room_wanted;
    ch->target_vp = c->target_vp;
    ch->ring_gpadl = c->ring_gpadl;
    ch->broken = c->broken;
    ch->state = CH_OPEN;
    pthread_mutex_unlock(&ch->lock);
    if (c->broken)
        atomic_store(&v->broken_channels, true);
}

int vmbus_commit(struct vmbus *v, struct vmbus_saved *s, char *msg, size_t len)
{
    struct vmbus_channel **own = calloc(1, sizeof(v->channel));
    bool taken[VMBUS_MAX_CHANNELS] = { false };
    uint32_t relid = 1;
    int n = -ENOMEM;

    pthread_mutex_lock(&v->lock);
    if (own)
        n = match(v, s, taken, msg, len);
    else
        snprintf(msg, len, "saved VMBus: out of memory");
    if (n < 0) {
        for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS; i++)
            if (s->channel[i] && s->channel[i]->match && s->channel[i]->match->rescinded) {
                pthread_mutex_destroy(&s->channel[i]->match->lock);
                free(s->channel[i]->match);
            }
    } else {
        memcpy(own, v->channel, sizeof(v->channel));
        memset(v->channel, 0, sizeof(v->channel));
        v->version = s->c.version;
        v->target_vp = s->c.target_vp;
        v->offers_wanted = s->c.offers_wanted;
        v->monitor_gpa = s->monitor_gpa;
        for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS; i++)
            if (s->channel[i] && s->channel[i]->match) {
                take_over(v, s->channel[i], i);
                if (!s->channel[i]->rescinded && v->channel[i]->rescinded)
                    vmbus_rescind_send(v, v->channel[i]);
            }
        for (uint32_t i = 1; i < VMBUS_MAX_CHANNELS; i++)
            if (own[i] && !taken[i]) { /* new since then */
                while (v->channel[relid])
                    relid++;
                v->channel[relid] = own[i];
                own[i]->relid = relid;
                if (v->offers_wanted)
                    vmbus_offer_send(v, own[i]);
            }
        vmbus_monitor_update(v);
    }
    pthread_mutex_unlock(&v->lock);
    free(own);
    vmbus_saved_free(s);
    return n < 0 ? n : 0;
}
