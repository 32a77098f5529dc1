/* SPDX-License-Identifier: BSD-2-Clause */
/* RNDIS: the control messages of a network adapter, and the form of its packets. */
#ifndef SYNTHETIC_RNDIS_H
#define SYNTHETIC_RNDIS_H

#include <mobo/vdev.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    RNDIS_PACKET = 1,
    RNDIS_INIT = 2,
    RNDIS_HALT = 3,
    RNDIS_QUERY = 4,
    RNDIS_SET = 5,
    RNDIS_RESET = 6,
    RNDIS_INDICATE = 7,
    RNDIS_KEEPALIVE = 8
};
#define RNDIS_DONE 0x80000000u /* in the type: the answer */

enum {
    RNDIS_HEAD = 8,                         /* type, length; offsets count from behind it */
    RNDIS_PACKET_HEAD = 44,                 /* of a packet message, the first 8 included */
    RNDIS_PPI_LEN = 16,                     /* per-packet information with one u32 */
    RNDIS_RX_HEAD = RNDIS_PACKET_HEAD + 48, /* as rndis_packet_head() makes it, at most */
    RNDIS_ANSWER_MAX = 1024,
    RNDIS_PACKETS_MAX = 8, /* in a message of the guest */
    RNDIS_MESSAGE_MAX = 256 << 10,
    RNDIS_TABLE_MAX = 256, /* entries of the RSS indirection table */
    RNDIS_KEY_LEN = 40
};

enum { /* packet filter: RNDIS_OID_GEN_CURRENT_PACKET_FILTER */
    RNDIS_DIRECTED = 1,
    RNDIS_MULTICAST = 2,
    RNDIS_ALL_MULTICAST = 4,
    RNDIS_BROADCAST = 8,
    RNDIS_PROMISCUOUS = 0x20
};

/* Negotiated with the guest; saved. */
struct rndis_state {
    uint32_t initialized;
    uint32_t filter; /* 0: no packets */
    uint8_t mac[8];  /* the present one, 6 bytes */
    uint8_t rx_sum[4]; /* tell of the checksums of TCP4, UDP4, TCP6, UDP6 */
    uint8_t rss;       /* on */
    uint8_t reserved;
    uint16_t rss_entries; /* a power of two */
    uint32_t rss_types;
    uint8_t rss_key[RNDIS_KEY_LEN];
    uint16_t rss_table[RNDIS_TABLE_MAX]; /* channel numbers, below `channels` */
};
extern const struct mobo_field rndis_fields[];
extern const uint32_t rndis_nfields;

struct rndis {
    struct rndis_state s;
    /* set by the owner */
    uint8_t permanent_mac[6];
    const char *friendly_name;
    uint32_t nvsp_version;
    uint32_t mtu;      /* of IP packets */
    uint32_t speed;    /* in units of 100 bit/s */
    uint32_t channels; /* at most */
    bool up;
    uint64_t tx_frames, rx_frames, tx_errors, rx_errors, rx_no_buffer;
};

void rndis_reset(struct rndis *r);
bool rndis_state_valid(const struct rndis *r, const struct rndis_state *s);
/** A control message.  @return 0 with an answer in @out (RNDIS_ANSWER_MAX bytes) or *@ret_len 0: none;
 * -EPROTO: malformed. */
int rndis_control(struct rndis *r, const uint8_t *msg, uint32_t len, uint8_t *out, uint32_t *ret_len);
/** The message that tells of the link. @return its length. */
uint32_t rndis_indicate_link(bool up, uint8_t *out);

/* What comes with a packet of the guest. */
struct rndis_tx {
    uint32_t data, len;     /* offset in the message, and length */
    bool has_sum, has_lso, has_vlan;
    uint32_t sum, lso, vlan; /* as NDIS has them */
};
/** Take apart the packet message at @msg. @return its length, 0: malformed. */
uint32_t rndis_packet_parse(const uint8_t *msg, uint32_t len, struct rndis_tx *ret);
/** The head of a packet message for the guest: up to RNDIS_RX_HEAD bytes; NULL: no such information.
 * @return its length; the frame follows. */
uint32_t rndis_packet_head(uint8_t *out, uint32_t frame_len, const uint32_t *sum,
                           const uint32_t *hash, const uint32_t *vlan);
/** Whether the filter lets a frame for this address pass. */
bool rndis_wants(const struct rndis *r, const uint8_t dest[6]);

#endif
