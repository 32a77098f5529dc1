/* SPDX-License-Identifier: BSD-2-Clause */
/* Synthetic network adapter: NVSP over VMBus, RNDIS inside.
 *
 * The protocol as the Linux client speaks it (drivers/net/hyperv/netvsc.c, hyperv_net.h, cited as NV);
 * versions 1, 2, 4, 5, 6 and 6.1.  The guest lends two buffers by GPADL: what it sends lies in sections of
 * the one, or in memory that the packet names (GPA-direct), or in both, one behind the other; what it gets
 * is put into sections of the other, each the guest's until it completes the packet that told of it.
 *
 * Everything that the guest sends is copied once, then checked and worked on. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "netpkt.h"
#include "rndis.h"
#include "wire.h"

enum nvsp_type { /* NV */
    NVSP_INIT = 1,
    NVSP_INIT_COMPLETE = 2,
    NVSP_NDIS_VERSION = 100,
    NVSP_RECV_BUF = 101,
    NVSP_RECV_BUF_COMPLETE = 102,
    NVSP_REVOKE_RECV_BUF = 103,
    NVSP_SEND_BUF = 104,
    NVSP_SEND_BUF_COMPLETE = 105,
    NVSP_REVOKE_SEND_BUF = 106,
    NVSP_RNDIS = 107,
    NVSP_RNDIS_COMPLETE = 108,
    NVSP_NDIS_CONFIG = 125,
    NVSP_SWITCH_DATA_PATH = 129,
    NVSP_OID_QUERY_EX = 131,
    NVSP_OID_QUERY_EX_COMPLETE = 132,
    NVSP_SUBCHANNEL = 133,
    NVSP_SEND_TABLE = 134,
    NVSP_PD_API = 135
};

enum nvsp_status { /* NV */
    NVSP_OK = 1,
    NVSP_FAIL = 2,
    NVSP_TOO_NEW = 3,
    NVSP_TOO_OLD = 4,
    NVSP_BAD_PACKET = 5,
    NVSP_UNSUPPORTED = 7
};

static const uint32_t versions[] = { 0x00002, 0x30002, 0x40000, 0x50000, 0x60000, 0x60001 };

enum {
    MESSAGE_LEN = 40, /* NV sizeof(struct nvsp_message) */
    MESSAGE_MIN = 28, /* of older clients */
    TABLE_LEN = 16,   /* NV VRSS_SEND_TAB_SIZE */
    CHANNELS_MAX = 64,
    SEND_SECTION = 6144,
    RECV_SECTION = 1728, /* a frame of 1514 bytes and its head; larger with the MTU */
    RECV_SLACK = RECV_SECTION - 1514,
    RECV_MAX = 32768, /* sections */
    IOVS_MAX = 256,
    ANSWERS_MAX = 64,
    NO_SECTION = -1,
    CAP_8021Q = 8 /* in the configuration's capabilities */
};

struct netvsp;

struct nv_channel {
    struct netvsp *nv;
    mobo_vmbus_t vm; /* NULL: not offered */
    uint16_t index;  /* 0: primary */
    bool open;
    bool owes; /* a completion that had no room yet; nothing is received before it is sent */
    uint64_t owed_transaction;
    uint8_t owed[MESSAGE_LEN];
    uint64_t tx, rx;
};

/* An RNDIS answer for which there was no room yet. */
struct nv_answer {
    struct nv_answer *next;
    uint32_t len;
    uint8_t data[RNDIS_ANSWER_MAX];
};

/* A frame that the network had no room for. */
struct nv_frame {
    struct nv_frame *next;
    uint32_t len;
    uint8_t data[];
};

/* Negotiated with the guest; saved. */
struct nv_saved {
    uint32_t version; /* 0: none yet */
    uint32_t ndis_version;
    uint32_t mtu; /* of a frame's payload */
    uint64_t capabilities;
    uint32_t recv_gpadl, recv_section, recv_count; /* count 0: no buffer */
    uint16_t recv_id, send_id;
    uint32_t send_gpadl, send_count;
    uint16_t sub_channels; /* offered to the guest */
    uint8_t link;          /* 1: a person has not pulled the cable */
    uint8_t table_due;     /* the send table goes out when all sub-channels are open */
    /* while saving and restoring only */
    uint32_t answers; /* how many wait */
    uint64_t owing;   /* bit n: channel n owes a completion */
    uint64_t open;    /* bit n: channel n is open */
};

struct netvsp {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const uint32_t *trace;
    mobo_net_t net;
    struct mobo_net_info info;
    uint8_t instance[16];
    bool paused;
    bool network_up;
    bool told_up; /* what the guest heard last */
    bool rx_held; /* the backend waits for net_ready() */
    bool tx_held; /* the network waits: nothing is taken from the guest */
    struct nv_saved s;
    struct rndis rndis;
    struct nv_channel ch[CHANNELS_MAX];
    /* receive sections */
    uint16_t *free; /* owned; a stack of section numbers */
    uint32_t nfree;
    uint8_t *lent; /* owned; by section: 1: the guest's */
    struct nv_answer *answers, **answers_tail;
    uint32_t nanswers;
    struct nv_frame *tx_queue, **tx_tail;
    uint32_t tx_vlan; /* of the packet being sent */
    bool tx_has_vlan;
    uint8_t *message; /* owned; RNDIS_MESSAGE_MAX bytes */
    struct mobo_iov iov[IOVS_MAX];
    uint64_t tx_messages, tx_bytes, tx_large, tx_cut, rx_bytes, rx_dropped, signals;
    bool warned;
};

static const struct mobo_field nv_fields[] = {
    MOBO_FIELD(1, struct nv_saved, version), /* since 1.1 */
    MOBO_FIELD(2, struct nv_saved, ndis_version),
    MOBO_FIELD(3, struct nv_saved, mtu),
    MOBO_FIELD(4, struct nv_saved, capabilities),
    MOBO_FIELD(5, struct nv_saved, recv_gpadl),
    MOBO_FIELD(6, struct nv_saved, recv_section),
    MOBO_FIELD(7, struct nv_saved, recv_count),
    MOBO_FIELD(8, struct nv_saved, recv_id),
    MOBO_FIELD(9, struct nv_saved, send_id),
    MOBO_FIELD(10, struct nv_saved, send_gpadl),
    MOBO_FIELD(11, struct nv_saved, send_count),
    MOBO_FIELD(12, struct nv_saved, sub_channels),
    MOBO_FIELD(13, struct nv_saved, link),
    MOBO_FIELD(14, struct nv_saved, table_due),
    MOBO_FIELD_FLAGS(15, struct nv_saved, answers, MOBO_FIELD_HIDDEN),
    MOBO_FIELD_FLAGS(16, struct nv_saved, owing, MOBO_FIELD_HIDDEN),
    MOBO_FIELD_FLAGS(17, struct nv_saved, open, MOBO_FIELD_HIDDEN),
};
enum { TAG_RNDIS = 0x100, TAG_LENT = 0x101, TAG_ANSWER = 0x200, TAG_OWED = 0x300 };

static void pump(struct nv_channel *ch);
static void fault(struct nv_channel *ch, const char *why);

/* ---- to the guest -------------------------------------------------------------------------------- */

static uint16_t section_take(struct netvsp *v)
{
    uint16_t n = v->free[--v->nfree];

    v->lent[n] = 1;
    return n;
}

static void section_give(struct netvsp *v, uint32_t n)
{
    v->lent[n] = 0;
    v->free[v->nfree++] = (uint16_t)n;
}

/* Put head and body into a section and tell the guest.  @return 0; -EAGAIN: no section, or no room in the
 * ring; another: the channel is not usable, or was faulted. */
static int rx_send(struct nv_channel *ch, bool control, const void *head, uint32_t head_len,
                   const void *body, uint32_t body_len)
{
    struct netvsp *v = ch->nv;
    uint8_t desc[16] = { 0 }, msg[MESSAGE_LEN] = { 0 };
    mobo_vmbus_t primary = v->ch[0].vm;
    uint32_t n, off;
    int err;

    if (!v->s.recv_count || !ch->open)
        return -ENOTCONN;
    if (!v->nfree)
        return -EAGAIN;
    n = section_take(v);
    off = n * v->s.recv_section;
    err = v->host->vmbus_gpadl_write(primary, v->s.recv_gpadl, off, head, head_len);
    if (!err && body_len)
        err = v->host->vmbus_gpadl_write(primary, v->s.recv_gpadl, (uint64_t)off + head_len, body,
                                         body_len);
    if (err) {
        section_give(v, n);
        fault(&v->ch[0], "the receive buffer is gone");
        return -ENOTCONN;
    }
    wire_put(desc, v->s.recv_id, 2);
    wire_put(desc + 4, 1, 4); /* one range */
    wire_put(desc + 8, head_len + body_len, 4);
    wire_put(desc + 12, off, 4);
    wire_put(msg, NVSP_RNDIS, 4);
    wire_put(msg + 4, control, 4);
    wire_put(msg + 8, 0xffffffff, 4);
    err = v->host->vmbus_send(ch->vm, MOBO_VMBUS_XFER_PAGES, MOBO_VMBUS_WANTS_COMPLETION, n + 1,
                              desc, sizeof(desc), msg, sizeof(msg));
    if (err)
        section_give(v, n);
    return err;
}

static void answers_drop(struct netvsp *v)
{
    while (v->answers) {
        struct nv_answer *a = v->answers;

        v->answers = a->next;
        free(a);
    }
    v->answers_tail = &v->answers;
    v->nanswers = 0;
}

static void answers_send(struct netvsp *v)
{
    while (v->answers) {
        struct nv_answer *a = v->answers;

        if (rx_send(&v->ch[0], true, a->data, a->len, NULL, 0) == -EAGAIN)
            return;
        if (!v->answers) /* a fault dropped them */
            return;
        v->answers = a->next;
        if (!v->answers)
            v->answers_tail = &v->answers;
        v->nanswers--;
        free(a);
    }
}

static void answer(struct netvsp *v, const uint8_t *msg, uint32_t len)
{
    struct nv_answer *a;

    if (!len)
        return;
    if (v->nanswers == ANSWERS_MAX) {
        fault(&v->ch[0], "it does not take the answers to its RNDIS messages");
        return;
    }
    a = calloc(1, sizeof(*a));
    if (!a)
        return;
    memcpy(a->data, msg, len);
    a->len = len;
    *v->answers_tail = a;
    v->answers_tail = &a->next;
    v->nanswers++;
    answers_send(v);
}

static void tell_link(struct netvsp *v)
{
    uint8_t msg[RNDIS_ANSWER_MAX];
    bool up = v->network_up && v->s.link;

    v->rndis.up = up;
    if (!v->rndis.s.initialized || v->told_up == up)
        return;
    v->told_up = up;
    answer(v, msg, rndis_indicate_link(up, msg));
}

/* ---- frames for the guest ------------------------------------------------------------------------ */

static struct nv_channel *channel_for(struct netvsp *v, const uint8_t *frame,
                                      const struct netpkt *p, uint32_t *hash, bool *has_hash)
{
    const struct rndis_state *r = &v->rndis.s;
    uint32_t i;

    *has_hash = r->rss && netpkt_hash(frame, p, r->rss_types, r->rss_key, hash);
    if (!*has_hash)
        return &v->ch[0];
    i = r->rss_table[*hash & (r->rss_entries - 1u)];
    return i < CHANNELS_MAX && v->ch[i].open ? &v->ch[i] : &v->ch[0];
}

/* From the backend. */
static int nv_receive(void *ctx, const uint8_t *frame, uint32_t len)
{
    struct netvsp *v = ctx;
    struct rndis *r = &v->rndis;
    uint8_t head[RNDIS_RX_HEAD + 12];
    uint32_t head_len, sum, hash = 0, vlan = 0, skip = 0, good, mask = 0;
    bool has_hash, has_vlan = false;
    struct nv_channel *ch;
    struct netpkt p;
    int err;

    if (!r->s.filter || !r->up || !v->s.recv_count || !rndis_wants(r, frame))
        return 1;
    if (v->answers) { /* they come first */
        v->rx_held = true;
        return 0;
    }
    netpkt_parse(frame, len, &p);
    ch = channel_for(v, frame, &p, &hash, &has_hash);
    good = netpkt_verify(frame, &p);
    if (p.ip == 4)
        mask = NETPKT_IP_GOOD | NETPKT_IP_BAD;
    if (p.ip && r->s.rx_sum[p.ip == 6 ? 2 : 0])
        mask |= NETPKT_TCP_GOOD | NETPKT_TCP_BAD;
    if (p.ip && r->s.rx_sum[p.ip == 6 ? 3 : 1])
        mask |= NETPKT_UDP_GOOD | NETPKT_UDP_BAD;
    sum = good & mask;
    if (len >= 18 && frame[12] == 0x81 && frame[13] == 0 && (v->s.capabilities & CAP_8021Q)) {
        uint32_t tci = (uint32_t)frame[14] << 8 | frame[15];

        vlan = tci >> 13 | (tci >> 12 & 1) << 3 | (tci & 0xfff) << 4;
        has_vlan = true;
        skip = 4;
    }
    head_len = rndis_packet_head(head, len - skip, sum ? &sum : NULL, has_hash ? &hash : NULL,
                                 has_vlan ? &vlan : NULL);
    if (len - skip > v->s.recv_section - head_len) {
        r->rx_errors++;
        v->rx_dropped++;
        return 1;
    }
    if (skip) { /* the addresses without the tag behind them */
        memcpy(head + head_len, frame, 12);
        head_len += 12;
        frame += 12 + skip;
        len -= 12 + skip;
    }
    err = rx_send(ch, false, head, head_len, frame, len);
    if (err == -EAGAIN) {
        r->rx_no_buffer++;
        v->rx_held = true;
        return 0;
    }
    if (err) {
        v->rx_dropped++;
        return 1;
    }
    ch->rx++;
    r->rx_frames++;
    v->rx_bytes += len;
    return 1;
}

/* There may be room for the guest's frames again. */
static void rx_go(struct netvsp *v)
{
    answers_send(v);
    if (v->rx_held && !v->answers) {
        v->rx_held = false;
        v->host->net_ready(v->net);
    }
}

/* ---- frames of the guest ------------------------------------------------------------------------- */

static void tx_drop(struct netvsp *v)
{
    while (v->tx_queue) {
        struct nv_frame *f = v->tx_queue;

        v->tx_queue = f->next;
        free(f);
    }
    v->tx_tail = &v->tx_queue;
    v->tx_held = false;
}

static int tx_now(struct netvsp *v, const uint8_t *frame, uint32_t len)
{
    struct mobo_iov iov = { (void *)(uintptr_t)frame, len, MOBO_NO_GPA };

    return v->host->net_send(v->net, &iov, 1);
}

/* One frame as it goes to the network; see netpkt_segment(). */
static void tx_frame(void *ctx, uint8_t *frame, uint32_t len)
{
    struct netvsp *v = ctx;
    struct nv_frame *f;
    uint8_t tagged[18];
    int err = -EAGAIN;

    v->rndis.tx_frames++;
    v->tx_bytes += len;
    if (v->tx_has_vlan) { /* NV struct ndis_pkt_8021q_info: priority, CFI, VLAN */
        uint32_t tci = (v->tx_vlan & 7) << 13 | (v->tx_vlan >> 3 & 1) << 12 |
                       (v->tx_vlan >> 4 & 0xfff);
        struct mobo_iov iov[2] = { { tagged, 16, MOBO_NO_GPA },
                                   { frame + 12, len - 12, MOBO_NO_GPA } };

        memcpy(tagged, frame, 12);
        tagged[12] = 0x81;
        tagged[13] = 0;
        tagged[14] = (uint8_t)(tci >> 8);
        tagged[15] = (uint8_t)tci;
        if (!v->tx_held)
            err = v->host->net_send(v->net, iov, 2);
    } else if (!v->tx_held) {
        err = tx_now(v, frame, len);
    }
    if (err == -EMSGSIZE)
        v->rndis.tx_errors++;
    if (err != -EAGAIN)
        return;
    v->tx_held = true;
    f = malloc(sizeof(*f) + len + 4);
    if (!f)
        return;
    f->next = NULL;
    f->len = len;
    memcpy(f->data, frame, len);
    if (v->tx_has_vlan) {
        memcpy(f->data, tagged, 16);
        memcpy(f->data + 16, frame + 12, len - 12);
        f->len += 4;
    }
    *v->tx_tail = f;
    v->tx_tail = &f->next;
}

/* A packet of the guest: do what it wants done, and send it. */
static void tx_packet(struct netvsp *v, uint8_t *frame, const struct rndis_tx *t)
{
    enum { SUM_V4 = 1, SUM_V6 = 2, SUM_TCP = 4, SUM_UDP = 8, SUM_IP = 0x10 };
    struct netpkt p;

    if (t->len < 14) {
        v->rndis.tx_errors++;
        return;
    }
    if (!v->rndis.up)
        return;
    v->tx_has_vlan = t->has_vlan;
    v->tx_vlan = t->vlan;
    if (t->has_lso && (t->lso & 0xfffff)) {
        uint64_t before = v->rndis.tx_frames;

        v->tx_large++;
        if (!netpkt_segment(frame, t->len, t->lso & 0xfffff,
                            t->has_vlan ? 0 : v->info.max_tcp, tx_frame, v))
            v->rndis.tx_errors++;
        else if (v->rndis.tx_frames - before > 1)
            v->tx_cut++;
        return;
    }
    if (t->has_sum && (t->sum & (SUM_TCP | SUM_UDP | SUM_IP))) {
        netpkt_parse(frame, t->len, &p);
        if ((t->sum & SUM_IP) && p.ip == 4)
            netpkt_sum_ip(frame, &p);
        if (((t->sum & SUM_TCP) && p.proto == NETPKT_TCP) ||
            ((t->sum & SUM_UDP) && p.proto == NETPKT_UDP))
            netpkt_sum_l4(frame, &p);
    }
    tx_frame(v, frame, t->len);
}

/* Get the message together.  @return its length, or -errno. */
static int64_t gather(struct nv_channel *ch, const struct mobo_vmbus_packet *p, uint32_t section,
                      uint32_t section_len)
{
    struct netvsp *v = ch->nv;
    uint64_t total = 0, direct = 0;
    uint32_t n = 0;
    int err;

    if (section != (uint32_t)NO_SECTION) {
        if (section >= v->s.send_count || section_len > SEND_SECTION)
            return -EINVAL;
        err = v->host->vmbus_gpadl_read(v->ch[0].vm, v->s.send_gpadl,
                                        (uint64_t)section * SEND_SECTION, v->message, section_len);
        if (err)
            return err;
        total = section_len;
    }
    if (p->type == MOBO_VMBUS_GPA_DIRECT) {
        err = v->host->vmbus_gpa_direct(ch->vm, p, v->iov, IOVS_MAX, &n, &direct);
        if (err)
            return err;
    }
    if (direct > RNDIS_MESSAGE_MAX - total)
        return -E2BIG;
    for (uint32_t i = 0; i < n; i++) {
        memcpy(v->message + total, v->iov[i].base, v->iov[i].len);
        total += v->iov[i].len;
    }
    return (int64_t)total;
}

/* NVSP_RNDIS.  @return status for the completion, 0 after a fault. */
static uint32_t rndis_message(struct nv_channel *ch, const struct mobo_vmbus_packet *p)
{
    struct netvsp *v = ch->nv;
    uint32_t channel_type = (uint32_t)wire_get(p->data + 4, 4), ret;
    uint8_t out[RNDIS_ANSWER_MAX];
    int64_t len;

    len = gather(ch, p, (uint32_t)wire_get(p->data + 8, 4), (uint32_t)wire_get(p->data + 12, 4));
    if (len == -EINVAL || len == -ENOENT) {
        fault(ch, "a message lies outside of the send buffer, or its ranges are malformed");
        return 0;
    }
    if (len < 0) {
        if (!v->warned)
            v->host->log(v->dev, MOBO_WARNING, "a message is too large or names memory that is not "
                                               "RAM: refused");
        v->warned = true;
        return NVSP_FAIL;
    }
    v->tx_messages++;
    if (channel_type) { /* control */
        bool was = v->rndis.s.initialized;

        if (ch->index) {
            fault(ch, "an RNDIS control message on a sub-channel");
            return 0;
        }
        if (rndis_control(&v->rndis, v->message, (uint32_t)len, out, &ret))
            return NVSP_BAD_PACKET;
        MOBO_TRACE(v->host, v->dev, v->trace, "rndis type %u oid 0x%x: status 0x%x",
                   (unsigned)v->message[0], len >= 16 ? (unsigned)wire_get(v->message + 12, 4) : 0,
                   ret >= 16 ? (unsigned)wire_get(out + 12, 4) : 0);
        if (!was && v->rndis.s.initialized)
            v->told_up = v->rndis.up;
        answer(v, out, ret);
        return ch->open ? NVSP_OK : 0;
    }
    if (!v->rndis.s.initialized)
        return NVSP_FAIL;
    ch->tx++;
    for (uint32_t at = 0, n = 0; at < (uint32_t)len; n++) {
        struct rndis_tx t;
        uint32_t size = rndis_packet_parse(v->message + at, (uint32_t)len - at, &t);

        if (!size || n > 4 * RNDIS_PACKETS_MAX) {
            v->rndis.tx_errors++;
            return NVSP_BAD_PACKET;
        }
        tx_packet(v, v->message + at + t.data, &t);
        at += size;
    }
    return NVSP_OK;
}

/* ---- the protocol -------------------------------------------------------------------------------- */

static void recv_drop(struct netvsp *v)
{
    free(v->free);
    free(v->lent);
    v->free = NULL;
    v->lent = NULL;
    v->nfree = 0;
    v->s.recv_count = 0;
    answers_drop(v);
}

static bool recv_make(struct netvsp *v, uint32_t count)
{
    v->free = calloc(count, sizeof(*v->free));
    v->lent = calloc(count, 1);
    if (!v->free || !v->lent) {
        recv_drop(v);
        return false;
    }
    for (uint32_t i = 0; i < count; i++) /* the first ones first */
        v->free[i] = (uint16_t)(count - 1 - i);
    v->nfree = count;
    v->s.recv_count = count;
    return true;
}

static uint32_t recv_buffer(struct netvsp *v, uint32_t gpadl, uint16_t id)
{
    uint64_t len, n;

    if (v->s.recv_count || !v->s.version || v->host->vmbus_gpadl_len(v->ch[0].vm, gpadl, &len))
        return NVSP_FAIL;
    v->s.recv_section = v->s.mtu + 14 + RECV_SLACK;
    if (v->s.recv_section < RECV_SECTION)
        v->s.recv_section = RECV_SECTION;
    v->s.recv_section = (v->s.recv_section + 7) & ~7u;
    n = len / v->s.recv_section;
    if (n > RECV_MAX)
        n = RECV_MAX;
    if (!n || !recv_make(v, (uint32_t)n))
        return NVSP_FAIL;
    v->s.recv_gpadl = gpadl;
    v->s.recv_id = id;
    return NVSP_OK;
}

static uint32_t send_buffer(struct netvsp *v, uint32_t gpadl, uint16_t id)
{
    uint64_t len, n;

    if (v->s.send_count || !v->s.version || v->host->vmbus_gpadl_len(v->ch[0].vm, gpadl, &len))
        return NVSP_FAIL;
    n = len / SEND_SECTION;
    if (!n)
        return NVSP_FAIL;
    v->s.send_count = n > 0xffff ? 0xffff : (uint32_t)n;
    v->s.send_gpadl = gpadl;
    v->s.send_id = id;
    return NVSP_OK;
}

static uint32_t negotiate(struct netvsp *v, uint32_t min, uint32_t max)
{
    if (v->s.recv_count || v->s.send_count)
        return NVSP_FAIL;
    for (unsigned i = sizeof(versions) / sizeof(versions[0]); i--;)
        if (versions[i] >= min && versions[i] <= max) {
            v->s.version = v->rndis.nvsp_version = versions[i];
            return NVSP_OK;
        }
    return min > versions[5] ? NVSP_TOO_NEW : max < versions[0] ? NVSP_TOO_OLD : NVSP_UNSUPPORTED;
}

static int channel_offer(struct netvsp *v, uint16_t index);

static uint32_t sub_channels(struct netvsp *v, uint32_t op, uint32_t count, uint32_t *ret_count)
{
    if (op != 1 || !count || v->s.version < 0x50000 || v->s.sub_channels || !v->s.recv_count ||
        v->rndis.channels < 2)
        return NVSP_FAIL;
    if (count > v->rndis.channels - 1)
        count = v->rndis.channels - 1;
    for (uint32_t i = 1; i <= count; i++) {
        if (channel_offer(v, (uint16_t)i))
            break;
        v->s.sub_channels = i;
    }
    v->s.table_due = v->s.sub_channels != 0;
    *ret_count = v->s.sub_channels;
    return v->s.sub_channels ? NVSP_OK : NVSP_FAIL;
}

static void drop_sub_channels(struct netvsp *v)
{
    for (unsigned i = 1; i <= v->s.sub_channels; i++) {
        struct nv_channel *ch = &v->ch[i];

        if (ch->vm)
            v->host->vmbus_rescind(ch->vm);
        ch->vm = NULL;
        ch->open = ch->owes = false;
    }
    v->s.sub_channels = 0;
    v->s.table_due = 0;
}

/* Over which channels the guest should send, when it knows them all. */
static void send_table(struct netvsp *v)
{
    uint8_t msg[MESSAGE_LEN + 4 * TABLE_LEN] = { 0 };

    if (!v->s.table_due)
        return;
    for (unsigned i = 1; i <= v->s.sub_channels; i++)
        if (!v->ch[i].open)
            return;
    wire_put(msg, NVSP_SEND_TABLE, 4);
    wire_put(msg + 4, TABLE_LEN, 4);
    wire_put(msg + 8, MESSAGE_LEN, 4);
    for (unsigned i = 0; i < TABLE_LEN; i++)
        wire_put(msg + MESSAGE_LEN + 4 * i, i % (v->s.sub_channels + 1u), 4);
    if (!v->host->vmbus_send(v->ch[0].vm, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, msg, sizeof(msg)))
        v->s.table_due = 0;
}

/* Send the completion that is owed.  @return false: no room yet. */
static bool pay(struct nv_channel *ch)
{
    struct netvsp *v = ch->nv;

    if (!ch->owes)
        return true;
    if (v->host->vmbus_send(ch->vm, MOBO_VMBUS_COMPLETION, 0, ch->owed_transaction, NULL, 0,
                            ch->owed, sizeof(ch->owed)) == -EAGAIN)
        return false;
    ch->owes = false;
    return true;
}

/* A message of the guest.  Its answer is in @m when it wants one. */
static bool control(struct nv_channel *ch, uint8_t m[MESSAGE_LEN])
{
    struct netvsp *v = ch->nv;
    uint32_t type = (uint32_t)wire_get(m, 4), a = (uint32_t)wire_get(m + 4, 4),
             b = (uint32_t)wire_get(m + 8, 4), status, count = 0;
    uint16_t id = (uint16_t)wire_get(m + 8, 2);
    uint64_t caps = wire_get(m + 12, 8);

    memset(m, 0, MESSAGE_LEN);
    switch (type) {
    case NVSP_INIT:
        status = negotiate(v, a, b);
        wire_put(m, NVSP_INIT_COMPLETE, 4);
        wire_put(m + 4, v->s.version, 4);
        wire_put(m + 8, 34, 4); /* pieces of a packet, at most */
        wire_put(m + 12, status, 4);
        break;
    case NVSP_NDIS_VERSION: v->s.ndis_version = a << 16 | (b & 0xffff); return true;
    case NVSP_NDIS_CONFIG:
        if (v->s.version >= 0x30002) {
            a = a > 65535 ? 65535 : a < 68 + 14 ? 68 + 14 : a;
            v->s.mtu = v->rndis.mtu = a - 14 < 1500 ? 1500 : a - 14;
            v->s.capabilities = caps;
        }
        return true;
    case NVSP_RECV_BUF:
        status = recv_buffer(v, a, id);
        wire_put(m, NVSP_RECV_BUF_COMPLETE, 4);
        wire_put(m + 4, status, 4);
        if (status == NVSP_OK) {
            wire_put(m + 8, 1, 4); /* one run of sections */
            wire_put(m + 16, v->s.recv_section, 4);
            wire_put(m + 20, v->s.recv_count, 4);
            wire_put(m + 24, (uint64_t)v->s.recv_section * v->s.recv_count, 4);
        }
        break;
    case NVSP_SEND_BUF:
        status = send_buffer(v, a, id);
        wire_put(m, NVSP_SEND_BUF_COMPLETE, 4);
        wire_put(m + 4, status, 4);
        wire_put(m + 8, SEND_SECTION, 4);
        break;
    case NVSP_REVOKE_RECV_BUF: recv_drop(v); return true;
    case NVSP_REVOKE_SEND_BUF: v->s.send_count = 0; return true;
    case NVSP_SWITCH_DATA_PATH: return true; /* there is only the synthetic one */
    case NVSP_OID_QUERY_EX:
        wire_put(m, NVSP_OID_QUERY_EX_COMPLETE, 4);
        wire_put(m + 4, NVSP_UNSUPPORTED, 4);
        break;
    case NVSP_SUBCHANNEL:
        status = sub_channels(v, a, b, &count);
        wire_put(m, NVSP_SUBCHANNEL, 4);
        wire_put(m + 4, status, 4);
        wire_put(m + 8, count, 4);
        break;
    case NVSP_PD_API:
        wire_put(m, NVSP_PD_API, 4);
        wire_put(m + 4, a, 4);
        wire_put(m + 8, NVSP_UNSUPPORTED, 4);
        break;
    default: return false;
    }
    return true;
}

static void handle(struct nv_channel *ch, const struct mobo_vmbus_packet *p)
{
    struct netvsp *v = ch->nv;
    uint8_t m[MESSAGE_LEN] = { 0 };
    uint32_t type, status;

    if (p->type == MOBO_VMBUS_COMPLETION) { /* of a packet that we sent: the section is ours again */
        if (!p->transaction || p->transaction > v->s.recv_count || !v->lent[p->transaction - 1])
            fault(ch, "it completes a packet that it was not sent");
        else
            section_give(v, (uint32_t)p->transaction - 1);
        return;
    }
    if (p->type == MOBO_VMBUS_CANCEL)
        return;
    if ((p->type != MOBO_VMBUS_INBAND && p->type != MOBO_VMBUS_GPA_DIRECT) || p->len < 16) {
        fault(ch, "a packet of a type or length that a network adapter does not have");
        return;
    }
    memcpy(m, p->data, p->len < MESSAGE_LEN ? p->len : MESSAGE_LEN);
    type = (uint32_t)wire_get(m, 4);
    if (type == NVSP_RNDIS) {
        status = rndis_message(ch, p);
        memset(m, 0, sizeof(m));
        wire_put(m, NVSP_RNDIS_COMPLETE, 4);
        wire_put(m + 4, status, 4);
        if (!status)
            return;
    } else {
        if (ch->index) {
            fault(ch, "a control message on a sub-channel");
            return;
        }
        if (!control(ch, m)) {
            fault(ch, "a message of unknown type");
            return;
        }
        MOBO_TRACE(v->host, v->dev, v->trace, "nvsp message %u", type);
    }
    if ((p->flags & MOBO_VMBUS_WANTS_COMPLETION) && ch->open) {
        ch->owes = true;
        ch->owed_transaction = p->transaction;
        memcpy(ch->owed, m, sizeof(m));
        pay(ch);
    }
}

static void pump(struct nv_channel *ch)
{
    struct netvsp *v = ch->nv;

    while (ch->open && ch->vm && !v->paused && !v->tx_held && pay(ch)) {
        struct mobo_vmbus_packet p = { .size = sizeof(p) };

        if (v->host->vmbus_receive(ch->vm, &p))
            break;
        handle(ch, &p);
    }
}

static void pump_all(struct netvsp *v)
{
    for (unsigned i = 0; i <= v->s.sub_channels; i++)
        pump(&v->ch[i]);
    rx_go(v);
}

/* ---- channels ------------------------------------------------------------------------------------ */

/* The adapter as a guest finds it. */
static void forget(struct netvsp *v)
{
    uint8_t link = v->s.link;

    recv_drop(v);
    tx_drop(v);
    drop_sub_channels(v);
    v->s = (struct nv_saved){ .mtu = 1500, .link = link };
    v->rndis.mtu = 1500;
    v->rndis.nvsp_version = 0;
    rndis_reset(&v->rndis);
    v->ch[0].owes = false;
    v->told_up = v->rndis.up;
    if (v->rx_held) { /* frames are dropped now */
        v->rx_held = false;
        v->host->net_ready(v->net);
    }
}

static void fault(struct nv_channel *ch, const char *why)
{
    ch->nv->host->vmbus_fault(ch->vm, why);
    ch->open = false; /* close() follows */
    ch->owes = false;
}

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct nv_channel *ch = ctx;
    struct netvsp *v = ch->nv;

    (void)user_data;
    if (ch->index && !v->s.recv_count)
        return -EINVAL;
    if (!ch->index)
        forget(v);
    ch->open = true;
    ch->owes = false;
    return 0;
}

static void channel_close(void *ctx)
{
    struct nv_channel *ch = ctx;

    ch->open = ch->owes = false;
    if (!ch->index)
        forget(ch->nv);
}

static void channel_signal(void *ctx)
{
    struct nv_channel *ch = ctx;

    ch->nv->signals++;
    pump(ch);
    send_table(ch->nv);
    rx_go(ch->nv);
}

static int channel_offer(struct netvsp *v, uint16_t index)
{
    static const uint8_t class_id[16] = MOBO_GUID(0xf8615163, 0xdf3e, 0x46c5, 0x91, 0x3f, 0xf2,
                                                  0xd2, 0xf9, 0x65, 0xed, 0x0e);
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    struct mobo_vmbus_offer offer = { .size = sizeof(offer), .sub_index = index };
    struct nv_channel *ch = &v->ch[index];

    memcpy(offer.class_id, class_id, 16);
    memcpy(offer.instance_id, v->instance, 16);
    offer.flags = index ? 0 : MOBO_VMBUS_ENUMERATE_DEVICE;
    offer.host_flags = v->host->param_bool(v->dev, "monitored") ? MOBO_VMBUS_MONITORED : 0;
    ch->nv = v;
    ch->index = index;
    return v->host->vmbus_offer(v->dev, &offer, &ops, ch, &ch->vm);
}

/* ---- the network --------------------------------------------------------------------------------- */

static void nv_event(void *ctx, uint32_t event)
{
    struct netvsp *v = ctx;

    switch (event) {
    case MOBO_NET_UP:
    case MOBO_NET_DOWN:
        v->network_up = event == MOBO_NET_UP;
        tell_link(v);
        break;
    case MOBO_NET_WRITABLE:
        while (v->tx_queue) {
            struct nv_frame *f = v->tx_queue;

            if (tx_now(v, f->data, f->len) == -EAGAIN)
                return;
            v->tx_queue = f->next;
            free(f);
        }
        v->tx_tail = &v->tx_queue;
        if (v->tx_held) {
            v->tx_held = false;
            pump_all(v);
        }
        break;
    }
}

/* ---- construction -------------------------------------------------------------------------------- */

/* The same bytes each time for the same names, and others for other names. */
static void hash_names(const char *vm, const char *dev, uint8_t ret[16])
{
    uint64_t h[2] = { 0xcbf29ce484222325u, 0x84222325cbf29ce4u };
    const char *text[2] = { vm ? vm : "", dev };

    for (unsigned i = 0; i < 4; i++) /* twice, so that the first letters reach all bits */
        for (const char *p = text[i & 1];; p++) {
            h[0] = (h[0] ^ (uint8_t)*p) * 0x100000001b3u;
            h[0] ^= h[0] >> 29;
            h[1] = (h[1] + (uint8_t)*p + (h[0] & 0xff)) * 0x9e3779b97f4a7c15u;
            h[1] ^= h[1] >> 32;
            if (!*p)
                break;
        }
    memcpy(ret, h, 16);
}

static int parse_mac(const char *text, uint8_t mac[6])
{
    for (unsigned i = 0; i < 6; i++) {
        unsigned v = 0;

        for (unsigned d = 0; d < 2; d++, text++) {
            char c = *text;
            int n = c >= '0' && c <= '9'               ? c - '0'
                    : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10
                                                         : -1;

            if (n < 0)
                return -EINVAL;
            v = v << 4 | (unsigned)n;
        }
        mac[i] = (uint8_t)v;
        if (i < 5 && *text != ':' && *text != '-')
            return -EINVAL;
        text += i < 5;
    }
    return *text ? -EINVAL : 0;
}

static void nv_destroy(void *self)
{
    struct netvsp *v = self;

    recv_drop(v);
    tx_drop(v);
    free(v->message);
    free(v);
}

static int nv_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret)
{
    static const struct mobo_net_ops ops = { sizeof(ops), 0, nv_receive, nv_event };
    struct mobo_board_info board = { .size = sizeof(board) };
    uint8_t id[16];
    const char *mac;
    struct netvsp *v;
    int err = 0;

    if (!MOBO_HAS(host, net_ready) || !MOBO_HAS(host, vmbus_gpa_direct))
        return host->fail(dev, -ENOTSUP, "this host has no networks for devices");
    v = calloc(1, sizeof(*v));
    if (v)
        v->message = malloc(RNDIS_MESSAGE_MAX);
    if (!v || !v->message) {
        free(v);
        return host->fail(dev, -ENOMEM, "no memory");
    }
    v->dev = dev;
    v->host = host;
    v->trace = host->trace_word(dev);
    v->answers_tail = &v->answers;
    v->tx_tail = &v->tx_queue;
    v->info.size = sizeof(v->info);
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        v->ch[i].nv = v;
    host->board_info(dev, &board);
    hash_names("instance", host->name(dev), v->instance);
    v->instance[7] = (uint8_t)((v->instance[7] & 0x0f) | 0x80);
    v->instance[8] = (uint8_t)((v->instance[8] & 0x3f) | 0x80);
    hash_names(board.vm, host->name(dev), id);
    memcpy(v->rndis.permanent_mac, id, 6);
    v->rndis.permanent_mac[0] = (uint8_t)((id[0] & 0xfc) | 2); /* one station, locally administered */
    mac = host->param_str(dev, "mac");
    if (mac && (parse_mac(mac, v->rndis.permanent_mac) || (v->rndis.permanent_mac[0] & 1)))
        err = host->fail(dev, -EINVAL, "mac: '%s' is not the address of a station (XX:XX:XX:XX:XX:XX)",
                         mac);
    v->rndis.friendly_name = host->name(dev);
    v->rndis.speed = (uint32_t)host->param_uint(dev, "speed") * 10000; /* Mbit/s */
    v->rndis.channels = host->param_is_set(dev, "channels")
                            ? (uint32_t)host->param_uint(dev, "channels")
                        : board.vps > 8 ? 8
                        : board.vps     ? board.vps
                                        : 1;
    v->s.link = 1;
    if (!err)
        err = host->net_open(dev, "backend", &ops, v, &v->net, &v->info);
    if (!err) {
        v->network_up = v->info.up;
        v->rndis.up = v->network_up;
        forget(v);
        err = channel_offer(v, 0);
    }
    if (err) {
        nv_destroy(v);
        return err;
    }
    *ret = v;
    return 0;
}

/* ---- life ---------------------------------------------------------------------------------------- */

/* The bus has closed the channels. */
static void nv_reset(void *self)
{
    struct netvsp *v = self;

    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        v->ch[i].open = v->ch[i].owes = false;
    forget(v);
}

static int nv_pause(void *self)
{
    struct netvsp *v = self;

    v->paused = true;
    return 0;
}

static void resumed(void *ctx)
{
    pump_all(ctx);
}

static void nv_resume(void *self)
{
    struct netvsp *v = self;

    v->paused = false;
    v->host->work_post(v->dev, resumed, v); /* frames are sent on the I/O thread */
}

static int nv_command(void *self, const char *verb, const char *arg, char *ret, uint32_t ret_len)
{
    struct netvsp *v = self;

    (void)ret;
    (void)ret_len;
    if (strcmp(verb, "link"))
        return v->host->fail(v->dev, -ENOSYS, "unknown command '%s': link up, link down", verb);
    if (strcmp(arg, "up") && strcmp(arg, "down"))
        return v->host->fail(v->dev, -EINVAL, "link: up or down");
    v->s.link = arg[0] == 'u';
    tell_link(v);
    return 0;
}

/* ---- state --------------------------------------------------------------------------------------- */

static int nv_save(void *self, struct mobo_writer *out)
{
    struct netvsp *v = self;
    struct nv_saved s = v->s;
    unsigned n = 0;
    int err;

    s.answers = v->nanswers;
    s.owing = s.open = 0;
    for (unsigned i = 0; i <= v->s.sub_channels; i++) {
        s.owing |= (uint64_t)v->ch[i].owes << i;
        s.open |= (uint64_t)v->ch[i].open << i;
    }
    err = v->host->save_fields(out, MOBO_ARRAY(nv_fields), &s);
    if (!err)
        err = v->host->save_begin(out, TAG_RNDIS, 0);
    if (!err)
        err = v->host->save_fields(out, rndis_fields, rndis_nfields, sizeof(struct mobo_field),
                                   &v->rndis.s);
    if (!err)
        err = v->host->save_end(out);
    if (!err && v->s.recv_count)
        err = v->host->save_bytes(out, TAG_LENT, 0, v->lent, v->s.recv_count);
    for (struct nv_answer *a = v->answers; !err && a; a = a->next)
        err = v->host->save_bytes(out, TAG_ANSWER + n++, 0, a->data, a->len);
    for (unsigned i = 0; !err && i <= v->s.sub_channels; i++)
        if (v->ch[i].owes) {
            uint8_t b[8 + MESSAGE_LEN];

            wire_put(b, v->ch[i].owed_transaction, 8);
            memcpy(b + 8, v->ch[i].owed, MESSAGE_LEN);
            err = v->host->save_bytes(out, TAG_OWED + i, 0, b, sizeof(b));
        }
    return err; /* frames on their way are lost, as on a wire */
}

static bool valid(const struct netvsp *v, const struct nv_saved *s)
{
    bool known = !s->version;

    for (unsigned i = 0; i < sizeof(versions) / sizeof(versions[0]); i++)
        known |= s->version == versions[i];
    return known && s->mtu >= 1500 && s->mtu <= 65535 && s->recv_count <= RECV_MAX &&
           (!s->recv_count ||
            (s->recv_section >= RECV_SECTION && s->recv_section <= 65535 + 14 + RECV_SLACK + 8)) &&
           s->send_count <= 0xffff && s->sub_channels < v->rndis.channels && s->link <= 1 &&
           s->table_due <= 1 && !(s->open >> 1 >> s->sub_channels) && !(s->owing & ~s->open);
}

static int nv_restore(void *self, struct mobo_reader *in)
{
    struct netvsp *v = self;
    const struct mobo_host *h = v->host;
    struct nv_saved s = v->s;
    struct rndis_state r = v->rndis.s;
    uint8_t *lent = calloc(1, RECV_MAX), owed[CHANNELS_MAX][8 + MESSAGE_LEN];
    bool owes[CHANNELS_MAX] = { false };
    struct nv_answer *answers = NULL, **tail = &answers, *a;
    uint32_t len = 0, nlent = 0, count = 0;
    uint64_t owing = 0;
    int err = lent ? h->load_bytes(in, TAG_LENT, lent, RECV_MAX, &nlent)
                   : h->fail(v->dev, -ENOMEM, "no memory");

    if (err == -ENOENT)
        err = 0;
    while (!err && count < ANSWERS_MAX) {
        a = calloc(1, sizeof(*a));
        if (!a) {
            err = h->fail(v->dev, -ENOMEM, "no memory");
            break;
        }
        err = h->load_bytes(in, TAG_ANSWER + count, a->data, sizeof(a->data), &a->len);
        if (err) {
            free(a);
            err = err == -ENOENT ? 0 : err;
            break;
        }
        *tail = a;
        tail = &a->next;
        count++;
    }
    for (unsigned i = 0; !err && i < CHANNELS_MAX; i++) {
        err = h->load_bytes(in, TAG_OWED + i, owed[i], sizeof(owed[i]), &len);
        owes[i] = !err;
        if (!err && len != sizeof(owed[i]))
            err = h->fail(v->dev, -EINVAL, "a saved completion makes no sense");
        else if (err == -ENOENT)
            err = 0;
    }
    if (!err) /* the last of this group: it finds what nobody knows */
        err = h->load_fields(in, MOBO_ARRAY(nv_fields), &s);
    for (unsigned i = 0; i < CHANNELS_MAX; i++)
        owing |= (uint64_t)owes[i] << i;
    if (!err && (!valid(v, &s) || nlent != s.recv_count || count != s.answers || owing != s.owing))
        err = h->fail(v->dev, -EINVAL, "saved protocol state makes no sense");
    if (!err) {
        err = h->load_begin(in, TAG_RNDIS);
        if (err == -ENOENT)
            err = h->fail(v->dev, -EINVAL, "the saved state has no RNDIS part");
    }
    if (!err)
        err = h->load_fields(in, rndis_fields, rndis_nfields, sizeof(struct mobo_field), &r);
    if (!err)
        err = h->load_end(in);
    if (!err && !rndis_state_valid(&v->rndis, &r))
        err = h->fail(v->dev, -EINVAL, "saved RNDIS state makes no sense");
    if (!err)
        err = h->load_done(in);
    if (!err) {
        forget(v);
        if (s.recv_count && !recv_make(v, s.recv_count))
            err = h->fail(v->dev, -ENOMEM, "no memory");
    }
    if (err) {
        while ((a = answers)) {
            answers = a->next;
            free(a);
        }
        free(lent);
        return err;
    }
    v->nfree = 0;
    for (uint32_t i = 0; i < s.recv_count; i++) {
        v->lent[i] = lent[i] != 0;
        if (!v->lent[i])
            v->free[v->nfree++] = (uint16_t)i;
    }
    free(lent);
    v->s = s;
    v->s.sub_channels = 0;
    for (uint16_t i = 1; i <= s.sub_channels && !channel_offer(v, i); i++)
        v->s.sub_channels = i;
    v->rndis.s = r;
    v->rndis.mtu = s.mtu;
    v->rndis.nvsp_version = s.version;
    v->rndis.up = v->told_up = v->network_up && s.link;
    v->answers = answers;
    v->answers_tail = answers ? tail : &v->answers;
    v->nanswers = count;
    for (unsigned i = 0; i <= v->s.sub_channels; i++) /* the bus has its half of it */
        v->ch[i].open = s.open >> i & 1;
    for (unsigned i = 0; i <= v->s.sub_channels; i++)
        if (owes[i]) {
            v->ch[i].owes = true;
            v->ch[i].owed_transaction = wire_get(owed[i], 8);
            memcpy(v->ch[i].owed, owed[i] + 8, MESSAGE_LEN);
        }
    return 0;
}

static void nv_inspect(void *self, struct mobo_inspect *out)
{
    struct netvsp *v = self;
    const struct mobo_host *h = v->host;
    static const char digits[] = "0123456789abcdef";
    char mac[18] = "";

    for (unsigned i = 0; i < 6; i++) {
        mac[3 * i] = digits[v->rndis.s.mac[i] >> 4];
        mac[3 * i + 1] = digits[v->rndis.s.mac[i] & 15];
        mac[3 * i + 2] = i < 5 ? ':' : 0;
    }
    h->inspect_str(out, "address", mac);
    h->inspect_str(out, "carrier", v->rndis.up ? "up" : "down");
    h->inspect_fields(out, MOBO_ARRAY(nv_fields), &v->s);
    h->inspect_uint(out, "initialized", v->rndis.s.initialized);
    h->inspect_uint(out, "filter", v->rndis.s.filter);
    h->inspect_uint(out, "rss", v->rndis.s.rss);
    h->inspect_uint(out, "channels at most", v->rndis.channels);
    h->inspect_uint(out, "sections lent", v->s.recv_count - v->nfree);
    h->inspect_uint(out, "tx messages", v->tx_messages);
    h->inspect_uint(out, "tx frames", v->rndis.tx_frames);
    h->inspect_uint(out, "tx bytes", v->tx_bytes);
    h->inspect_uint(out, "tx large sends", v->tx_large);
    h->inspect_uint(out, "tx large sends cut", v->tx_cut);
    h->inspect_uint(out, "tx errors", v->rndis.tx_errors);
    h->inspect_uint(out, "rx frames", v->rndis.rx_frames);
    h->inspect_uint(out, "rx bytes", v->rx_bytes);
    h->inspect_uint(out, "rx dropped", v->rx_dropped);
    h->inspect_uint(out, "rx waited", v->rndis.rx_no_buffer);
    h->inspect_uint(out, "signals", v->signals);
    for (unsigned i = 0; i <= v->s.sub_channels; i++) {
        char name[] = "channel00";

        name[7] = (char)('0' + i / 10);
        name[8] = (char)('0' + i % 10);
        h->inspect_begin(out, name);
        h->inspect_uint(out, "open", v->ch[i].open);
        h->inspect_uint(out, "tx", v->ch[i].tx);
        h->inspect_uint(out, "rx", v->ch[i].rx);
        h->inspect_end(out);
    }
}

/* ---- descriptor ---------------------------------------------------------------------------------- */

static const struct mobo_param nv_params[] = {
    { "backend", MOBO_STRING, 0, NULL, "user", 0, 0, NULL,
      "network: user, tap:NAME, switch:PATH or null" },
    { "mac", MOBO_STRING, 0, NULL, NULL, 0, 17, NULL,
      "address; made from the names of VM and device if not set" },
    { "hostfwd", MOBO_STRING, 0, NULL, NULL, 0, 0, NULL,
      "with user: ports of the host that lead to the guest, tcp:[ADDR:]PORT-[ADDR:]PORT, ..." },
    { "network", MOBO_STRING, 0, NULL, NULL, 0, 0, NULL,
      "with user: the private network; 10.0.2.0/24 if not set" },
    { "ipv6", MOBO_BOOL, 0, NULL, NULL, 0, 0, NULL, "with user: IPv6 as well" },
    { "restrict", MOBO_BOOL, 0, NULL, NULL, 0, 0, NULL,
      "with user: no way out but the forwarded ports" },
    { "pcap", MOBO_PATH, 0, NULL, NULL, 0, 0, NULL, "file that gets a copy of all frames" },
    { "speed", MOBO_UINT, 0, "Mbit/s", "10000", 1, 400000, NULL, "what the guest is told" },
    { "channels", MOBO_UINT, 0, NULL, NULL, 1, CHANNELS_MAX, NULL,
      "VMBus channels at most; as many as processors (up to 8) if not set" },
    { "monitored", MOBO_BOOL, 0, NULL, "no", 0, 0, NULL,
      "for a driver in the guest's user space, which cannot signal otherwise; costs a look each millisecond" },
};

static const struct mobo_vdev_ops nv_ops = {
    .size = sizeof(nv_ops),
    .create = nv_create,
    .destroy = nv_destroy,
    .reset = nv_reset,
    .pause = nv_pause,
    .resume = nv_resume,
    .save = nv_save,
    .restore = nv_restore,
    .inspect = nv_inspect,
    .command = nv_command,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "netvsp",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "synthetic network adapter (VMBus)",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .params = MOBO_ARRAY(nv_params),
    .ops = &nv_ops,
};
