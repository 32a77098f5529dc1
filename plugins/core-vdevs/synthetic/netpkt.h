/* SPDX-License-Identifier: BSD-2-Clause */
/* Frames: headers, checksums, segmentation, receive-side-scaling hash.  All functions take any bytes. */
#ifndef SYNTHETIC_NETPKT_H
#define SYNTHETIC_NETPKT_H

#include <stdbool.h>
#include <stdint.h>

enum { NETPKT_TCP = 6, NETPKT_UDP = 17 };

/* Where the headers of a frame are. */
struct netpkt {
    uint32_t l3;    /* offset of the IP header */
    uint32_t l4;    /* offset behind it and its extensions */
    uint32_t end;   /* offset behind the IP packet, at most the frame's length */
    uint8_t ip;     /* 4, 6; 0: not IP */
    uint8_t proto;  /* NETPKT_..., another number, 0: unknown */
    bool fragment;
    bool whole; /* the IP packet says the length that it has */
};

/** Find the headers, behind up to two VLAN tags. */
void netpkt_parse(const uint8_t *frame, uint32_t len, struct netpkt *ret);

/* What a receiver hears of checksums: bits of RNDIS's receive information. */
enum {
    NETPKT_TCP_BAD = 1,
    NETPKT_UDP_BAD = 2,
    NETPKT_IP_BAD = 4,
    NETPKT_TCP_GOOD = 8,
    NETPKT_UDP_GOOD = 0x10,
    NETPKT_IP_GOOD = 0x20
};
uint32_t netpkt_verify(const uint8_t *frame, const struct netpkt *p);

/** Fill in the checksum of the IPv4 header, and that of TCP or UDP.  @return false: not such a frame. */
bool netpkt_sum_ip(uint8_t *frame, const struct netpkt *p);
bool netpkt_sum_l4(uint8_t *frame, const struct netpkt *p);

/** Make TCP segments of at most @mss bytes out of one frame, with correct lengths and checksums, and hand
 * them to @out, which may change them.  When frame and headers fit within @uncut, one frame comes out.
 * @frame's headers are changed; its IP length need not be valid.  @return false: not such a frame. */
bool netpkt_segment(uint8_t *frame, uint32_t len, uint32_t mss, uint32_t uncut,
                    void (*out)(void *ctx, uint8_t *frame, uint32_t len), void *ctx);

/** Toeplitz hash of the flow. @types: NDIS hash types wanted.  @return false: none applies. */
bool netpkt_hash(const uint8_t *frame, const struct netpkt *p, uint32_t types, const uint8_t key[40],
                 uint32_t *ret);
enum { /* NDIS hash types */
    NETPKT_HASH_IPV4 = 0x100,
    NETPKT_HASH_TCP_IPV4 = 0x200,
    NETPKT_HASH_IPV6 = 0x400,
    NETPKT_HASH_TCP_IPV6 = 0x1000
};

#endif
