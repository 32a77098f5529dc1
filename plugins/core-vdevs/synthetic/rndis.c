/* SPDX-License-Identifier: BSD-2-Clause */
/* RNDIS: control messages and packets.
 * "Remote NDIS Specification" 1.1, and the client: <linux/rndis.h>, drivers/net/hyperv/rndis_filter.c (cited
 * as RF), hyperv_net.h (HN) for the NDIS structures that travel in it. */
#include "rndis.h"

#include <errno.h>
#include <string.h>

#include "netpkt.h"
#include "wire.h"

#define STATUS_SUCCESS        0x00000000u
#define STATUS_NOT_SUPPORTED  0xc00000bbu
#define STATUS_INVALID_DATA   0xc0010015u
#define STATUS_INVALID_LENGTH 0xc0010014u
#define STATUS_CONNECT        0x4001000bu
#define STATUS_DISCONNECT     0x4001000cu

enum oid {
    OID_SUPPORTED_LIST = 0x00010101,
    OID_HARDWARE_STATUS = 0x00010102,
    OID_MEDIA_SUPPORTED = 0x00010103,
    OID_MEDIA_IN_USE = 0x00010104,
    OID_MAXIMUM_LOOKAHEAD = 0x00010105,
    OID_MAXIMUM_FRAME_SIZE = 0x00010106,
    OID_LINK_SPEED = 0x00010107,
    OID_TRANSMIT_BUFFER_SPACE = 0x00010108,
    OID_RECEIVE_BUFFER_SPACE = 0x00010109,
    OID_TRANSMIT_BLOCK_SIZE = 0x0001010a,
    OID_RECEIVE_BLOCK_SIZE = 0x0001010b,
    OID_VENDOR_ID = 0x0001010c,
    OID_VENDOR_DESCRIPTION = 0x0001010d,
    OID_PACKET_FILTER = 0x0001010e,
    OID_CURRENT_LOOKAHEAD = 0x0001010f,
    OID_DRIVER_VERSION = 0x00010110,
    OID_MAXIMUM_TOTAL_SIZE = 0x00010111,
    OID_PROTOCOL_OPTIONS = 0x00010112,
    OID_MAC_OPTIONS = 0x00010113,
    OID_MEDIA_CONNECT_STATUS = 0x00010114,
    OID_MAXIMUM_SEND_PACKETS = 0x00010115,
    OID_VENDOR_DRIVER_VERSION = 0x00010116,
    OID_NETWORK_ADDRESSES = 0x00010118,
    OID_PHYSICAL_MEDIUM = 0x00010202,
    OID_RSS_CAPABILITIES = 0x00010203,
    OID_RSS_PARAMETERS = 0x00010204,
    OID_CONFIG_PARAMETER = 0x0001021b,
    OID_XMIT_OK = 0x00020101,
    OID_RCV_OK = 0x00020102,
    OID_XMIT_ERROR = 0x00020103,
    OID_RCV_ERROR = 0x00020104,
    OID_RCV_NO_BUFFER = 0x00020105,
    OID_FRIENDLY_NAME = 0x00020216,
    OID_PERMANENT_ADDRESS = 0x01010101,
    OID_CURRENT_ADDRESS = 0x01010102,
    OID_MULTICAST_LIST = 0x01010103,
    OID_MAXIMUM_LIST_SIZE = 0x01010104,
    OID_ENCAPSULATION = 0x0101010a,
};
#define OID_OFFLOAD_CURRENT      0xfc01020bu
#define OID_OFFLOAD_PARAMETERS   0xfc01020cu
#define OID_OFFLOAD_CAPABILITIES 0xfc01020du

static const uint32_t supported[] = {
    OID_SUPPORTED_LIST,     OID_HARDWARE_STATUS,       OID_MEDIA_SUPPORTED,
    OID_MEDIA_IN_USE,       OID_MAXIMUM_LOOKAHEAD,     OID_MAXIMUM_FRAME_SIZE,
    OID_LINK_SPEED,         OID_TRANSMIT_BUFFER_SPACE, OID_RECEIVE_BUFFER_SPACE,
    OID_TRANSMIT_BLOCK_SIZE, OID_RECEIVE_BLOCK_SIZE,   OID_VENDOR_ID,
    OID_VENDOR_DESCRIPTION, OID_PACKET_FILTER,         OID_CURRENT_LOOKAHEAD,
    OID_DRIVER_VERSION,     OID_MAXIMUM_TOTAL_SIZE,    OID_PROTOCOL_OPTIONS,
    OID_MAC_OPTIONS,        OID_MEDIA_CONNECT_STATUS,  OID_MAXIMUM_SEND_PACKETS,
    OID_VENDOR_DRIVER_VERSION, OID_NETWORK_ADDRESSES,  OID_PHYSICAL_MEDIUM,
    OID_RSS_CAPABILITIES,   OID_RSS_PARAMETERS,        OID_CONFIG_PARAMETER,
    OID_XMIT_OK,            OID_RCV_OK,                OID_XMIT_ERROR,
    OID_RCV_ERROR,          OID_RCV_NO_BUFFER,         OID_FRIENDLY_NAME,
    OID_PERMANENT_ADDRESS,  OID_CURRENT_ADDRESS,       OID_MULTICAST_LIST,
    OID_MAXIMUM_LIST_SIZE,  OID_ENCAPSULATION,         OID_OFFLOAD_CURRENT,
    OID_OFFLOAD_PARAMETERS, OID_OFFLOAD_CAPABILITIES,
};

enum {
    LSO_MAX = 62780, /* bytes of one large send */
    ENCAP_8023 = 2,
    ENCAP_8023PQ_OOB = 8,
    OFFLOAD_60 = 112, /* length of NDIS_OFFLOAD, by revision: HN */
    OFFLOAD_61 = 144,
    OFFLOAD_630 = 156,
    RSS_CAPABILITIES_LEN = 18,
    RSS_PARAMETERS_LEN = 40
};

const struct mobo_field rndis_fields[] = {
    MOBO_FIELD(1, struct rndis_state, initialized), /* since 1.1 */
    MOBO_FIELD(2, struct rndis_state, filter),
    MOBO_FIELD_ARRAY(3, struct rndis_state, mac),
    MOBO_FIELD_ARRAY(4, struct rndis_state, rx_sum),
    MOBO_FIELD(5, struct rndis_state, rss),
    MOBO_FIELD(6, struct rndis_state, rss_entries),
    MOBO_FIELD(7, struct rndis_state, rss_types),
    MOBO_FIELD_ARRAY(8, struct rndis_state, rss_key),
    MOBO_FIELD_ARRAY(9, struct rndis_state, rss_table),
};
const uint32_t rndis_nfields = sizeof(rndis_fields) / sizeof(rndis_fields[0]);

static uint32_t get(const uint8_t *p)
{
    return (uint32_t)wire_get(p, 4);
}

static void put(uint8_t *p, uint32_t val)
{
    wire_put(p, val, 4);
}

void rndis_reset(struct rndis *r)
{
    memset(&r->s, 0, sizeof(r->s));
    memcpy(r->s.mac, r->permanent_mac, 6);
}

bool rndis_state_valid(const struct rndis *r, const struct rndis_state *s)
{
    if (s->rss > 1 || s->rss_entries > RNDIS_TABLE_MAX || (s->rss_entries & (s->rss_entries - 1)) ||
        (s->rss && !s->rss_entries))
        return false;
    for (unsigned i = 0; i < s->rss_entries; i++)
        if (s->rss_table[i] >= r->channels)
            return false;
    return true;
}

bool rndis_wants(const struct rndis *r, const uint8_t dest[6])
{
    static const uint8_t broadcast[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };
    uint32_t f = r->s.filter;

    if (f & RNDIS_PROMISCUOUS)
        return true;
    if (!memcmp(dest, broadcast, 6))
        return f & RNDIS_BROADCAST;
    if (dest[0] & 1) /* lists of addresses are not kept: the guest sorts out */
        return f & (RNDIS_MULTICAST | RNDIS_ALL_MULTICAST);
    return (f & RNDIS_DIRECTED) && !memcmp(dest, r->s.mac, 6);
}

/* ---- queries ------------------------------------------------------------------------------------- */

static uint32_t offload_caps(const struct rndis *r, uint32_t asked, uint8_t *b)
{
    uint32_t len = r->nvsp_version >= 0x50000   ? OFFLOAD_630
                   : r->nvsp_version >= 0x40000 ? OFFLOAD_61
                                                : OFFLOAD_60;

    if (asked >= OFFLOAD_60 && asked < len) /* the revision that the guest knows */
        len = asked >= OFFLOAD_61 ? OFFLOAD_61 : OFFLOAD_60;
    memset(b, 0, len);
    b[0] = 0xa7;
    b[1] = len == OFFLOAD_630 ? 3 : len == OFFLOAD_61 ? 2 : 1;
    wire_put(b + 2, len, 2);
    for (unsigned way = 0; way < 2; way++) { /* transmit, receive */
        put(b + 4 + 8 * way, ENCAP_8023 | ENCAP_8023PQ_OOB);
        put(b + 8 + 8 * way, 0x001 | 0x004 | 0x010 | 0x040 | 0x100); /* IPv4, TCP, UDP, options */
        put(b + 20 + 8 * way, ENCAP_8023 | ENCAP_8023PQ_OOB);
        put(b + 24 + 8 * way, 0x001 | 0x004 | 0x010 | 0x040); /* IPv6 extensions, TCP, UDP, options */
    }
    put(b + 36, ENCAP_8023 | ENCAP_8023PQ_OOB); /* large send, version 1 */
    put(b + 40, LSO_MAX);
    put(b + 44, 2);
    put(b + 80, ENCAP_8023 | ENCAP_8023PQ_OOB); /* version 2, IPv4 */
    put(b + 84, LSO_MAX);
    put(b + 88, 2);
    put(b + 92, ENCAP_8023 | ENCAP_8023PQ_OOB); /* IPv6 */
    put(b + 96, LSO_MAX);
    put(b + 100, 2);
    put(b + 104, 0x001 | 0x004);
    return len;
}

static uint32_t rss_caps(const struct rndis *r, uint8_t *b)
{
    memset(b, 0, RSS_CAPABILITIES_LEN);
    b[0] = 0x88;
    b[1] = 2;
    wire_put(b + 2, RSS_CAPABILITIES_LEN, 2);
    put(b + 4, 0x01000000 | 0x00000100 | 0x00000200 | 1); /* by message; TCP over IPv4, IPv6; Toeplitz */
    put(b + 8, r->channels);
    put(b + 12, r->channels);
    wire_put(b + 16, 128, 2);
    return RSS_CAPABILITIES_LEN;
}

/* @return status; the value is in @b with *len bytes. */
static uint32_t query(struct rndis *r, uint32_t oid, uint32_t asked, uint8_t *b, uint32_t *len)
{
    uint32_t val = 0;

    switch (oid) {
    case OID_SUPPORTED_LIST:
        for (unsigned i = 0; i < sizeof(supported) / 4; i++)
            put(b + 4 * i, supported[i]);
        *len = sizeof(supported);
        return STATUS_SUCCESS;
    case OID_HARDWARE_STATUS: /* ready */
    case OID_MEDIA_SUPPORTED: /* 802.3 */
    case OID_MEDIA_IN_USE:
    case OID_PHYSICAL_MEDIUM: break;
    case OID_MAXIMUM_LOOKAHEAD:
    case OID_CURRENT_LOOKAHEAD:
    case OID_MAXIMUM_FRAME_SIZE: val = r->mtu; break;
    case OID_LINK_SPEED: val = r->speed; break;
    case OID_TRANSMIT_BLOCK_SIZE:
    case OID_RECEIVE_BLOCK_SIZE:
    case OID_MAXIMUM_TOTAL_SIZE: val = r->mtu + 14; break;
    case OID_TRANSMIT_BUFFER_SPACE:
    case OID_RECEIVE_BUFFER_SPACE: val = 1 << 20; break;
    case OID_VENDOR_ID: val = 0xffffff; break; /* none */
    case OID_VENDOR_DESCRIPTION:
        *len = sizeof("mobo network adapter");
        memcpy(b, "mobo network adapter", *len);
        return STATUS_SUCCESS;
    case OID_PACKET_FILTER: val = r->s.filter; break;
    case OID_DRIVER_VERSION:
        wire_put(b, 0x0600, 2);
        *len = 2;
        return STATUS_SUCCESS;
    case OID_VENDOR_DRIVER_VERSION: val = 0x00010000; break;
    case OID_PROTOCOL_OPTIONS: break;
    case OID_MAC_OPTIONS: val = 0x01 | 0x04 | 0x08; break; /* copy lookahead, transfers, no loopback */
    case OID_MEDIA_CONNECT_STATUS: val = r->up ? 0 : 1; break;
    case OID_MAXIMUM_SEND_PACKETS: val = RNDIS_PACKETS_MAX; break;
    case OID_XMIT_OK: val = (uint32_t)r->tx_frames; break;
    case OID_RCV_OK: val = (uint32_t)r->rx_frames; break;
    case OID_XMIT_ERROR: val = (uint32_t)r->tx_errors; break;
    case OID_RCV_ERROR: val = (uint32_t)r->rx_errors; break;
    case OID_RCV_NO_BUFFER: val = (uint32_t)r->rx_no_buffer; break;
    case OID_FRIENDLY_NAME:
        *len = 0;
        for (const char *p = r->friendly_name; *p && *len < 250; p++, *len += 2)
            wire_put(b + *len, (uint8_t)*p < 0x80 ? (uint8_t)*p : '?', 2);
        wire_put(b + *len, 0, 2);
        *len += 2;
        return STATUS_SUCCESS;
    case OID_PERMANENT_ADDRESS:
    case OID_CURRENT_ADDRESS:
        memcpy(b, oid == OID_CURRENT_ADDRESS ? r->s.mac : r->permanent_mac, 6);
        *len = 6;
        return STATUS_SUCCESS;
    case OID_MAXIMUM_LIST_SIZE: val = 64; break;
    case OID_ENCAPSULATION: val = 0; break;
    case OID_OFFLOAD_CURRENT:
    case OID_OFFLOAD_CAPABILITIES: *len = offload_caps(r, asked, b); return STATUS_SUCCESS;
    case OID_RSS_CAPABILITIES:
        if (r->nvsp_version < 0x50000)
            return STATUS_NOT_SUPPORTED;
        *len = rss_caps(r, b);
        return STATUS_SUCCESS;
    default: return STATUS_NOT_SUPPORTED;
    }
    put(b, val);
    *len = 4;
    return STATUS_SUCCESS;
}

/* ---- settings ------------------------------------------------------------------------------------ */

static bool inside(uint32_t off, uint32_t n, uint32_t len)
{
    return n <= len && off <= len - n;
}

/* HN struct ndis_recv_scale_param. */
static uint32_t set_rss(struct rndis *r, const uint8_t *b, uint32_t len)
{
    struct rndis_state s = r->s;
    uint32_t flags, table_len, table, key_len, key;

    if (len < RSS_PARAMETERS_LEN)
        return STATUS_INVALID_LENGTH;
    flags = (uint32_t)wire_get(b + 4, 2);
    table_len = (uint32_t)wire_get(b + 12, 2);
    table = get(b + 16);
    key_len = (uint32_t)wire_get(b + 20, 2);
    key = get(b + 24);
    if (flags & 0x10) { /* off */
        r->s.rss = 0;
        return STATUS_SUCCESS;
    }
    if (!(flags & 2))
        s.rss_types = get(b + 8);
    if (!(flags & 4)) {
        uint32_t n = table_len / 4;

        if (!n || n > RNDIS_TABLE_MAX || (n & (n - 1)) || table_len % 4 ||
            !inside(table, table_len, len))
            return STATUS_INVALID_DATA;
        for (uint32_t i = 0; i < n; i++) {
            uint32_t ch = get(b + table + 4 * i);

            if (ch >= r->channels)
                return STATUS_INVALID_DATA;
            s.rss_table[i] = (uint16_t)ch;
        }
        s.rss_entries = (uint16_t)n;
    }
    if (!(flags & 8)) {
        if (key_len > RNDIS_KEY_LEN || !inside(key, key_len, len))
            return STATUS_INVALID_DATA;
        memset(s.rss_key, 0, sizeof(s.rss_key));
        memcpy(s.rss_key, b + key, key_len);
    }
    if (!s.rss_entries)
        return STATUS_INVALID_DATA;
    s.rss = 1;
    r->s = s;
    return STATUS_SUCCESS;
}

/* HN struct ndis_offload_params: of what a guest may switch only reports of checksums matter here; the
 * rest says itself in each packet. */
static uint32_t set_offload(struct rndis *r, const uint8_t *b, uint32_t len)
{
    if (len < 13)
        return STATUS_INVALID_LENGTH;
    for (unsigned i = 0; i < 4; i++) {
        uint8_t how = b[5 + i];

        if (how) /* 0: as it is; 3, 4: receive */
            r->s.rx_sum[i] = how == 3 || how == 4;
    }
    return STATUS_SUCCESS;
}

static int hex(uint32_t c)
{
    return c >= '0' && c <= '9' ? (int)c - '0'
           : c >= 'a' && c <= 'f' ? (int)c - 'a' + 10
           : c >= 'A' && c <= 'F' ? (int)c - 'A' + 10 : -1;
}

/* "NetworkAddress" = 12 hexadecimal digits, both UTF-16: the guest's own MAC address. */
static uint32_t set_config(struct rndis *r, const uint8_t *b, uint32_t len)
{
    static const char key[] = "NetworkAddress";
    uint32_t name, name_len, val, val_len;
    uint8_t mac[6];

    if (len < 20)
        return STATUS_INVALID_LENGTH;
    name = get(b);
    name_len = get(b + 4);
    val = get(b + 12);
    val_len = get(b + 16);
    if (!inside(name, name_len, len) || !inside(val, val_len, len))
        return STATUS_INVALID_DATA;
    if (name_len != 28 || get(b + 8) != 2)
        return STATUS_NOT_SUPPORTED;
    for (unsigned i = 0; i < 14; i++)
        if (wire_get(b + name + 2 * i, 2) != (uint8_t)key[i])
            return STATUS_NOT_SUPPORTED;
    if (val_len != 24)
        return STATUS_INVALID_DATA;
    for (unsigned i = 0; i < 6; i++) {
        int hi = hex((uint32_t)wire_get(b + val + 4 * i, 2));
        int lo = hex((uint32_t)wire_get(b + val + 4 * i + 2, 2));

        if (hi < 0 || lo < 0)
            return STATUS_INVALID_DATA;
        mac[i] = (uint8_t)(hi << 4 | lo);
    }
    if (mac[0] & 1)
        return STATUS_INVALID_DATA;
    memcpy(r->s.mac, mac, 6);
    return STATUS_SUCCESS;
}

static uint32_t set(struct rndis *r, uint32_t oid, const uint8_t *b, uint32_t len)
{
    switch (oid) {
    case OID_PACKET_FILTER:
        if (len < 4)
            return STATUS_INVALID_LENGTH;
        r->s.filter = get(b);
        return STATUS_SUCCESS;
    case OID_OFFLOAD_PARAMETERS: return set_offload(r, b, len);
    case OID_RSS_PARAMETERS:
        return r->nvsp_version >= 0x50000 ? set_rss(r, b, len) : STATUS_NOT_SUPPORTED;
    case OID_CONFIG_PARAMETER: return set_config(r, b, len);
    case OID_MULTICAST_LIST:
    case OID_NETWORK_ADDRESSES:
    case OID_PROTOCOL_OPTIONS:
    case OID_CURRENT_LOOKAHEAD:
    case OID_ENCAPSULATION: return STATUS_SUCCESS; /* taken note of */
    }
    return STATUS_NOT_SUPPORTED;
}

/* ---- messages ------------------------------------------------------------------------------------ */

static void answer_head(uint8_t *out, uint32_t type, uint32_t len)
{
    put(out, type | RNDIS_DONE);
    put(out + 4, len);
}

int rndis_control(struct rndis *r, const uint8_t *m, uint32_t room, uint8_t *out, uint32_t *ret)
{
    uint32_t type, len, off, n, status;

    *ret = 0;
    if (room < RNDIS_HEAD + 4)
        return -EPROTO;
    type = get(m);
    len = get(m + 4);
    if (len < RNDIS_HEAD + 4 || len > room)
        return -EPROTO;
    switch (type) {
    case RNDIS_INIT:
        if (len < 24)
            return -EPROTO;
        rndis_reset(r);
        r->s.initialized = 1;
        memset(out, 0, 52);
        answer_head(out, type, 52);
        memcpy(out + 8, m + 8, 4); /* request id */
        put(out + 16, 1);          /* version 1.0 */
        put(out + 24, 1);          /* connectionless */
        put(out + 32, RNDIS_PACKETS_MAX);
        put(out + 36, RNDIS_MESSAGE_MAX);
        put(out + 40, 3); /* packets begin at multiples of 8 */
        *ret = 52;
        return 0;
    case RNDIS_HALT: rndis_reset(r); return 0;
    case RNDIS_RESET:
        r->s.filter = 0;
        answer_head(out, type, 16);
        put(out + 8, STATUS_SUCCESS);
        put(out + 12, 1); /* the filter has to be set anew */
        *ret = 16;
        return 0;
    case RNDIS_KEEPALIVE:
        answer_head(out, type, 16);
        memcpy(out + 8, m + 8, 4);
        put(out + 12, STATUS_SUCCESS);
        *ret = 16;
        return 0;
    case RNDIS_QUERY:
    case RNDIS_SET:
        if (len < 28)
            return -EPROTO;
        n = get(m + 16);
        off = get(m + 20); /* from behind the first 8 bytes */
        if (n && !inside(off, n, len - RNDIS_HEAD))
            return -EPROTO;
        memcpy(out + 8, m + 8, 4);
        if (type == RNDIS_SET) {
            status = r->s.initialized ? set(r, get(m + 12), m + RNDIS_HEAD + (n ? off : 0), n)
                                      : STATUS_NOT_SUPPORTED;
            answer_head(out, type, 16);
            put(out + 12, status);
            *ret = 16;
            return 0;
        }
        off = n;
        n = 0;
        status = r->s.initialized ? query(r, get(m + 12), off, out + 24, &n) : STATUS_NOT_SUPPORTED;
        answer_head(out, type, 24 + n);
        put(out + 12, status);
        put(out + 16, n);
        put(out + 20, 16);
        *ret = 24 + n;
        return 0;
    }
    return -EPROTO;
}

uint32_t rndis_indicate_link(bool up, uint8_t *out)
{
    memset(out, 0, 20);
    put(out, RNDIS_INDICATE);
    put(out + 4, 20);
    put(out + 8, up ? STATUS_CONNECT : STATUS_DISCONNECT);
    return 20;
}

/* ---- packets ------------------------------------------------------------------------------------- */

enum { PPI_CHECKSUM = 0, PPI_LSO = 2, PPI_VLAN = 6, PPI_HASH = 8 };

uint32_t rndis_packet_parse(const uint8_t *m, uint32_t room, struct rndis_tx *t)
{
    uint32_t len, off, n, at, left;

    memset(t, 0, sizeof(*t));
    if (room < RNDIS_PACKET_HEAD || get(m) != RNDIS_PACKET)
        return 0;
    len = get(m + 4);
    if (len < RNDIS_PACKET_HEAD || len > room)
        return 0;
    off = get(m + 8);
    n = get(m + 12);
    if (off < RNDIS_PACKET_HEAD - RNDIS_HEAD || !inside(off, n, len - RNDIS_HEAD))
        return 0;
    t->data = RNDIS_HEAD + off;
    t->len = n;
    at = get(m + 28);
    left = get(m + 32);
    if (!left)
        return len;
    if (at < RNDIS_PACKET_HEAD - RNDIS_HEAD || !inside(at, left, len - RNDIS_HEAD))
        return 0;
    for (at += RNDIS_HEAD; left >= 12;) {
        uint32_t size = get(m + at), type = get(m + at + 4), val = get(m + at + 8);

        if (size < 12 || size > left || val > size || val < 12)
            return 0;
        if (size - val >= 4) {
            val = get(m + at + val);
            if (type == PPI_CHECKSUM) {
                t->has_sum = true;
                t->sum = val;
            } else if (type == PPI_LSO) {
                t->has_lso = true;
                t->lso = val;
            } else if (type == PPI_VLAN) {
                t->has_vlan = true;
                t->vlan = val;
            }
        }
        at += size;
        left -= size;
    }
    return len;
}

static uint32_t add_ppi(uint8_t *out, uint32_t at, uint32_t type, const uint32_t *val)
{
    if (!val)
        return at;
    put(out + at, RNDIS_PPI_LEN);
    put(out + at + 4, type);
    put(out + at + 8, 12);
    put(out + at + 12, *val);
    return at + RNDIS_PPI_LEN;
}

uint32_t rndis_packet_head(uint8_t *out, uint32_t frame_len, const uint32_t *sum,
                           const uint32_t *hash, const uint32_t *vlan)
{
    uint32_t at = RNDIS_PACKET_HEAD;

    memset(out, 0, RNDIS_PACKET_HEAD);
    at = add_ppi(out, at, PPI_CHECKSUM, sum);
    at = add_ppi(out, at, PPI_HASH, hash);
    at = add_ppi(out, at, PPI_VLAN, vlan);
    put(out, RNDIS_PACKET);
    put(out + 4, at + frame_len);
    put(out + 8, at - RNDIS_HEAD);
    put(out + 12, frame_len);
    if (at > RNDIS_PACKET_HEAD) {
        put(out + 28, RNDIS_PACKET_HEAD - RNDIS_HEAD);
        put(out + 32, at - RNDIS_PACKET_HEAD);
    }
    return at;
}
