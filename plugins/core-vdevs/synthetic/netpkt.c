/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: headers, checksums, segmentation, receive-side-scaling hash.
 * RFC 791 (IPv4), 8200 (IPv6), 9293 (TCP), 768 (UDP), 1071 (checksum). */
#include "netpkt.h"

#include <stdlib.h>
#include <string.h>

enum { HEADERS_MAX = 256, MSS_MIN = 48 };

static uint16_t be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static void put16(uint8_t *p, uint32_t val)
{
    p[0] = (uint8_t)(val >> 8);
    p[1] = (uint8_t)val;
}

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)be16(p) << 16 | be16(p + 2);
}

static void put32(uint8_t *p, uint32_t val)
{
    put16(p, val >> 16);
    put16(p + 2, val);
}

void netpkt_parse(const uint8_t *f, uint32_t len, struct netpkt *p)
{
    uint32_t at = 12, type = 0, n, next;

    memset(p, 0, sizeof(*p));
    p->end = len;
    for (unsigned tags = 0; tags < 3 && at + 2 <= len; tags++, at += 4) {
        type = be16(f + at);
        if (type != 0x8100 && type != 0x88a8)
            break;
    }
    at += 2;
    p->l3 = p->l4 = at;
    if (type == 0x0800 && at + 20 <= len && f[at] >> 4 == 4) {
        uint32_t head = (f[at] & 15u) * 4;

        n = be16(f + at + 2);
        if (head < 20 || at + head > len)
            return;
        p->ip = 4;
        p->l4 = at + head;
        p->proto = f[at + 9];
        p->fragment = (be16(f + at + 6) & 0x3fff) != 0;
        p->whole = n >= head && n <= len - at;
        if (p->whole)
            p->end = at + n;
    } else if (type == 0x86dd && at + 40 <= len && f[at] >> 4 == 6) {
        p->ip = 6;
        n = be16(f + at + 4);
        p->whole = n <= len - at - 40;
        if (p->whole)
            p->end = at + 40 + n;
        next = f[at + 6];
        at += 40;
        /* hop-by-hop, routing, destination options; a fragment header ends the walk */
        for (unsigned i = 0; i < 8 && (next == 0 || next == 43 || next == 60 || next == 44); i++) {
            if (at + 8 > p->end) {
                next = 0;
                break;
            }
            if (next == 44) {
                p->fragment = true;
                break;
            }
            next = f[at];
            at += (f[at + 1] + 1u) * 8;
            if (at > p->end) {
                next = 0;
                break;
            }
        }
        p->l4 = at > p->end ? p->end : at;
        p->proto = (uint8_t)next;
    }
}

/* ---- checksums ----------------------------------------------------------------------------------- */

static uint64_t sum(const uint8_t *b, uint32_t len, uint64_t s)
{
    for (; len >= 4; b += 4, len -= 4) {
        uint32_t w;

        memcpy(&w, b, 4);
        s += w;
    }
    if (len) {
        uint8_t rest[4] = { 0 };
        uint32_t w;

        memcpy(rest, b, len);
        memcpy(&w, rest, 4);
        s += w;
    }
    return s;
}

/* In the byte order of the sum's words, which is that of the packet. */
static uint16_t fold(uint64_t s)
{
    s = (s & 0xffffffff) + (s >> 32);
    s = (s & 0xffffffff) + (s >> 32);
    s = (s & 0xffff) + (s >> 16);
    s = (s & 0xffff) + (s >> 16);
    return (uint16_t)s;
}

static uint64_t pseudo(const uint8_t *f, const struct netpkt *p)
{
    uint8_t tail[8] = { 0 };

    put32(tail, p->end - p->l4);
    tail[7] = p->proto;
    return sum(tail, 8, p->ip == 4 ? sum(f + p->l3 + 12, 8, 0) : sum(f + p->l3 + 8, 32, 0));
}

/* Offset of the checksum field in the TCP or UDP header, 0 when there is none within the packet. */
static uint32_t field(const struct netpkt *p)
{
    uint32_t off = p->proto == NETPKT_TCP ? 16 : 6, head = p->proto == NETPKT_TCP ? 20 : 8;

    if (!p->ip || p->fragment || !p->whole || (p->proto != NETPKT_TCP && p->proto != NETPKT_UDP) ||
        p->end < p->l4 || p->end - p->l4 < head)
        return 0;
    return p->l4 + off;
}

bool netpkt_sum_ip(uint8_t *f, const struct netpkt *p)
{
    uint16_t s;

    if (p->ip != 4)
        return false;
    memset(f + p->l3 + 10, 0, 2);
    s = (uint16_t)~fold(sum(f + p->l3, p->l4 - p->l3, 0));
    memcpy(f + p->l3 + 10, &s, 2);
    return true;
}

bool netpkt_sum_l4(uint8_t *f, const struct netpkt *p)
{
    uint32_t at = field(p);
    uint16_t s;

    if (!at)
        return false;
    memset(f + at, 0, 2);
    s = (uint16_t)~fold(sum(f + p->l4, p->end - p->l4, pseudo(f, p)));
    if (!s && p->proto == NETPKT_UDP)
        s = 0xffff; /* RFC 768: zero says that there is none */
    memcpy(f + at, &s, 2);
    return true;
}

uint32_t netpkt_verify(const uint8_t *f, const struct netpkt *p)
{
    uint32_t ret = 0, at = field(p);
    bool good;

    if (p->ip == 4)
        ret |= fold(sum(f + p->l3, p->l4 - p->l3, 0)) == 0xffff ? NETPKT_IP_GOOD : NETPKT_IP_BAD;
    if (!at || (p->proto == NETPKT_UDP && !f[at] && !f[at + 1])) /* UDP without one: say nothing */
        return ret;
    good = fold(sum(f + p->l4, p->end - p->l4, pseudo(f, p))) == 0xffff;
    if (p->proto == NETPKT_TCP)
        ret |= good ? NETPKT_TCP_GOOD : NETPKT_TCP_BAD;
    else
        ret |= good ? NETPKT_UDP_GOOD : NETPKT_UDP_BAD;
    return ret;
}

/* ---- segmentation -------------------------------------------------------------------------------- */

/* Lengths and checksums of a segment that has taken its place behind its headers. */
static void finish(uint8_t *f, struct netpkt *p, uint32_t len)
{
    p->end = len;
    p->whole = true;
    if (p->ip == 4) {
        put16(f + p->l3 + 2, len - p->l3);
        netpkt_sum_ip(f, p);
    } else {
        put16(f + p->l3 + 4, len - p->l3 - 40);
    }
    netpkt_sum_l4(f, p);
}

bool netpkt_segment(uint8_t *f, uint32_t len, uint32_t mss, uint32_t uncut,
                    void (*out)(void *ctx, uint8_t *frame, uint32_t len), void *ctx)
{
    uint8_t head[HEADERS_MAX];
    struct netpkt p;
    uint32_t hlen, seq, flags, at;
    uint16_t id;

    netpkt_parse(f, len, &p);
    p.end = len; /* the length field of a large packet may be zero */
    p.whole = true;
    if (!p.ip || p.fragment || p.proto != NETPKT_TCP || len - p.l4 < 20 || mss < MSS_MIN)
        return false;
    hlen = p.l4 + (f[p.l4 + 12] >> 4) * 4u;
    if (hlen < p.l4 + 20 || hlen > len || hlen > HEADERS_MAX)
        return false;
    if (len - hlen <= mss || (len <= uncut && len - p.l3 <= 65535)) {
        finish(f, &p, len);
        out(ctx, f, len);
        return true;
    }
    memcpy(head, f, hlen);
    seq = be32(head + p.l4 + 4);
    flags = head[p.l4 + 13];
    id = be16(head + p.l3 + 4);
    /* Each segment is built in place: its headers go where the bytes of the one before have been. */
    for (at = hlen; at < len; at += mss) {
        uint32_t n = len - at < mss ? len - at : mss;
        uint8_t *s = f + at - hlen;
        uint32_t fl = flags;

        if (at + n < len)
            fl &= ~0x09u; /* FIN and PSH belong to the last */
        if (at > hlen)
            fl &= ~0x80u; /* CWR to the first */
        memcpy(s, head, hlen);
        put32(s + p.l4 + 4, seq + (at - hlen));
        s[p.l4 + 13] = (uint8_t)fl;
        if (p.ip == 4)
            put16(s + p.l3 + 4, id++);
        finish(s, &p, hlen + n);
        out(ctx, s, hlen + n);
    }
    return true;
}

/* ---- hash ---------------------------------------------------------------------------------------- */

bool netpkt_hash(const uint8_t *f, const struct netpkt *p, uint32_t types, const uint8_t key[40],
                 uint32_t *ret)
{
    uint8_t in[36];
    uint32_t n, h = 0, window = be32(key);
    bool tcp = p->ip && p->proto == NETPKT_TCP && !p->fragment && p->end >= p->l4 + 4;

    if (p->ip == 4 && (types & (tcp ? NETPKT_HASH_IPV4 | NETPKT_HASH_TCP_IPV4 : NETPKT_HASH_IPV4))) {
        memcpy(in, f + p->l3 + 12, 8);
        n = 8;
        tcp = tcp && (types & NETPKT_HASH_TCP_IPV4);
    } else if (p->ip == 6 &&
               (types & (tcp ? NETPKT_HASH_IPV6 | NETPKT_HASH_TCP_IPV6 : NETPKT_HASH_IPV6))) {
        memcpy(in, f + p->l3 + 8, 32);
        n = 32;
        tcp = tcp && (types & NETPKT_HASH_TCP_IPV6);
    } else {
        return false;
    }
    if (tcp) {
        memcpy(in + n, f + p->l4, 4);
        n += 4;
    }
    for (uint32_t i = 0; i < n; i++)
        for (unsigned bit = 0; bit < 8; bit++) {
            if (in[i] >> (7 - bit) & 1)
                h ^= window;
            window = window << 1 | (key[(i + 4) % 40] >> (7 - bit) & 1);
        }
    *ret = h;
    return true;
}
