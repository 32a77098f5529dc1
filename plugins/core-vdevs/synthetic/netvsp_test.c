/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of netvsp: the protocol, frames both ways, offloads, RSS, bad input, saved state. */
#include <errno.h>
#include <mobo/vdev.h>
#include <stdbool.h>

#include "netpkt.h"
#include "plugins/test.h"
#include "rndis.h"
#include "wire.h"

enum {
    RECV_GPADL = 11, SEND_GPADL = 12, RECV_AT = 0x200000, SEND_AT = 0x400000, DATA = 0x600000,
    RECV_LEN = 16 * 1728, SEND_LEN = 4 * 6144
};

static const uint8_t mac[6] = { 2, 0x11, 0x22, 0x33, 0x44, 0x55 };
static uint64_t transaction;

static int setup(void **state)
{
    static const char *const params[] = { "mac=02:11:22:33:44:55", "channels=4", NULL };

    (void)state;
    transaction = 0;
    return plug(params);
}

/* ---- the guest's side ---------------------------------------------------------------------------- */

static uint32_t u32(const uint8_t *p)
{
    return (uint32_t)wire_get(p, 4);
}

static uint8_t *ram(uint32_t at)
{
    return mobo_fake_ram(f) + at;
}

/* An NVSP message, and its completion (40 bytes) if there is one. */
static bool nvsp(unsigned ch, const uint32_t *m, unsigned n, uint8_t reply[40])
{
    struct mobo_vmbus_packet p;
    uint8_t b[40] = { 0 };

    for (unsigned i = 0; i < n; i++)
        wire_put(b + 4 * i, m[i], 4);
    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_INBAND, 1, ++transaction, NULL, 0, b, sizeof(b));
    if (!mobo_fake_vmbus_recv(dev, ch, &p))
        return false;
    assert_int_equal(p.type, MOBO_VMBUS_COMPLETION);
    assert_int_equal(p.transaction, transaction);
    assert_int_equal(p.len, 40);
    if (reply)
        memcpy(reply, p.data, 40);
    return true;
}
#define NVSP(ch, reply, ...) \
    nvsp(ch, (const uint32_t[]){ __VA_ARGS__ }, \
         sizeof((const uint32_t[]){ __VA_ARGS__ }) / 4, reply)

/* What the device put into the receive buffer; the guest gives the section back. */
static uint32_t received(unsigned ch, uint8_t *buf, bool give_back)
{
    struct mobo_vmbus_packet p;
    uint32_t len, off;
    uint8_t done[8] = { 108, 0, 0, 0, 1 };
    uint64_t t;

    if (!mobo_fake_vmbus_recv(dev, ch, &p))
        return 0;
    assert_int_equal(p.type, MOBO_VMBUS_XFER_PAGES);
    assert_int_equal(p.flags, MOBO_VMBUS_WANTS_COMPLETION);
    assert_int_equal(p.desc_len, 16);
    assert_int_equal(wire_get(p.desc, 2), 0xcafe);
    assert_int_equal(u32(p.desc + 4), 1);
    assert_int_equal(u32(p.data), 107);
    len = u32(p.desc + 8);
    off = u32(p.desc + 12);
    assert_true(off + len <= RECV_LEN && len <= 1728);
    memcpy(buf, ram(RECV_AT + off), len);
    t = p.transaction;
    if (give_back)
        mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_COMPLETION, 0, t, NULL, 0, done, sizeof(done));
    return len;
}

/* A message through the send buffer.  @return the completion's status, 0: there was none. */
static uint32_t send_section(unsigned ch, uint32_t control, uint32_t section, uint32_t len)
{
    uint8_t b[40] = { 107 };
    struct mobo_vmbus_packet p = { 0 };

    wire_put(b + 4, control, 4);
    wire_put(b + 8, section, 4);
    wire_put(b + 12, len, 4);
    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_INBAND, 1, ++transaction, NULL, 0, b, sizeof(b));
    if (control)
        return 1;
    if (!mobo_fake_vmbus_recv(dev, ch, &p))
        return 0;
    assert_int_equal(p.type, MOBO_VMBUS_COMPLETION);
    assert_int_equal(u32(p.data), 108);
    return u32(p.data + 4);
}

/* A control message; its answer. */
static uint32_t control(const uint8_t *m, uint32_t len, uint8_t *answer)
{
    struct mobo_vmbus_packet p;
    uint32_t n;

    memcpy(ram(SEND_AT), m, len);
    send_section(0, 1, 0, len);
    n = received(0, answer, false);
    if (n) { /* the completion is behind it */
        assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    } else {
        return 0;
    }
    assert_int_equal(p.type, MOBO_VMBUS_COMPLETION);
    uint8_t done[8] = { 108, 0, 0, 0, 1 };

    for (uint32_t t = 1; t <= 1; t++) /* the section that was used is the first one */
        mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_COMPLETION, 0, t, NULL, 0, done, sizeof(done));
    return n;
}

static uint32_t query(uint32_t oid, uint8_t *val, uint32_t *ret_len)
{
    uint8_t m[28] = { 4, 0, 0, 0, 28 }, a[RNDIS_ANSWER_MAX];
    uint32_t n;

    wire_put(m + 8, 77, 4);
    wire_put(m + 12, oid, 4);
    wire_put(m + 20, 20, 4);
    n = control(m, sizeof(m), a);
    assert_true(n >= 24);
    assert_int_equal(u32(a), 0x80000004);
    assert_int_equal(u32(a + 4), n);
    assert_int_equal(u32(a + 8), 77);
    *ret_len = u32(a + 16);
    assert_int_equal(n, 24 + *ret_len);
    memcpy(val, a + 24, *ret_len);
    return u32(a + 12);
}

static uint32_t set(uint32_t oid, const void *val, uint32_t len)
{
    uint8_t m[1024] = { 5 }, a[RNDIS_ANSWER_MAX];

    wire_put(m + 4, 28 + len, 4);
    wire_put(m + 8, 78, 4);
    wire_put(m + 12, oid, 4);
    wire_put(m + 16, len, 4);
    wire_put(m + 20, 20, 4);
    memcpy(m + 28, val, len);
    assert_int_equal(control(m, 28 + len, a), 16);
    assert_int_equal(u32(a), 0x80000005);
    return u32(a + 12);
}

static void connect_nvsp(uint32_t version)
{
    uint8_t r[40] = { 0 };

    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    mobo_fake_vmbus_gpadl(dev, 0, RECV_GPADL, RECV_AT, RECV_LEN);
    mobo_fake_vmbus_gpadl(dev, 0, SEND_GPADL, SEND_AT, SEND_LEN);
    assert_true(NVSP(0, r, 1, 0x70000, 0x70000));
    assert_int_equal(u32(r), 2);
    assert_int_not_equal(u32(r + 12), 1);
    assert_true(NVSP(0, r, 1, version, version));
    assert_int_equal(u32(r + 4), version);
    assert_int_equal(u32(r + 12), 1);
    NVSP(0, r, 125, 1514, 0, 8, 0);
    NVSP(0, r, 100, 6, 0x1e);
    assert_true(NVSP(0, r, 101, RECV_GPADL, 0xcafe));
    assert_int_equal(u32(r), 102);
    assert_int_equal(u32(r + 4), 1);
    assert_int_equal(u32(r + 8), 1);
    assert_int_equal(u32(r + 12), 0);
    assert_int_equal(u32(r + 16), 1728);
    assert_int_equal(u32(r + 20), 16);
    assert_true(NVSP(0, r, 104, SEND_GPADL, 0));
    assert_int_equal(u32(r), 105);
    assert_int_equal(u32(r + 4), 1);
    assert_int_equal(u32(r + 8), 6144);
}

static void connect_rndis(uint32_t filter)
{
    static const uint8_t init[24] = { 2, 0, 0, 0, 24, 0, 0, 0, 9, 0, 0, 0, 1 };
    uint8_t a[RNDIS_ANSWER_MAX], f4[4];

    assert_int_equal(control(init, sizeof(init), a), 52);
    assert_int_equal(u32(a), 0x80000002);
    assert_int_equal(u32(a + 8), 9);
    assert_int_equal(u32(a + 12), 0);
    assert_int_equal(u32(a + 32), 8);
    assert_int_equal(u32(a + 40), 3);
    wire_put(f4, filter, 4);
    assert_int_equal(set(0x1010e, f4, 4), 0);
}

static void connect_guest(void)
{
    connect_nvsp(0x60001);
    connect_rndis(RNDIS_DIRECTED | RNDIS_BROADCAST | RNDIS_ALL_MULTICAST);
}

/* ---- frames -------------------------------------------------------------------------------------- */

/* TCP over IPv4 or IPv6 with @n bytes of payload and right checksums. */
static uint32_t tcp(uint8_t *b, int ip, uint32_t n)
{
    uint32_t l3 = 14, l4 = ip == 4 ? 34 : 54;
    struct netpkt p;

    memset(b, 0, l4 + 32);
    memcpy(b, mac, 6);
    b[6] = 2;
    b[12] = ip == 4 ? 0x08 : 0x86;
    b[13] = ip == 4 ? 0x00 : 0xdd;
    if (ip == 4) {
        b[l3] = 0x45;
        b[l3 + 2] = (uint8_t)((n + 52) >> 8);
        b[l3 + 3] = (uint8_t)(n + 52);
        b[l3 + 5] = 7;
        b[l3 + 8] = 64;
        b[l3 + 9] = 6;
        memcpy(b + l3 + 12, "\x0a\x00\x02\x02\x0a\x00\x02\x0f", 8);
    } else {
        b[l3] = 0x60;
        b[l3 + 4] = (uint8_t)((n + 32) >> 8);
        b[l3 + 5] = (uint8_t)(n + 32);
        b[l3 + 6] = 6;
        memset(b + l3 + 8, 0x11, 16);
        memset(b + l3 + 24, 0x22, 16);
    }
    b[l4 + 1] = 80;
    b[l4 + 3] = 99;
    b[l4 + 7] = 1;
    b[l4 + 12] = 0x80;      /* 32 bytes of header */
    b[l4 + 13] = 0x18 | 1; /* ACK, PSH, FIN */
    for (uint32_t i = 0; i < n; i++)
        b[l4 + 32 + i] = (uint8_t)(i * 7 + (i >> 8));
    netpkt_parse(b, l4 + 32 + n, &p);
    netpkt_sum_ip(b, &p);
    netpkt_sum_l4(b, &p);
    return l4 + 32 + n;
}

/* A packet message around a frame. @return its length. */
static uint32_t packet(uint8_t *m, const uint8_t *frame, uint32_t len, int ppi, uint32_t val)
{
    uint32_t head = 44 + (ppi >= 0 ? 16 : 0);

    memset(m, 0, head);
    wire_put(m, 1, 4);
    wire_put(m + 4, head + len, 4);
    wire_put(m + 8, head - 8, 4);
    wire_put(m + 12, len, 4);
    if (ppi >= 0) {
        wire_put(m + 28, 36, 4);
        wire_put(m + 32, 16, 4);
        wire_put(m + 44, 16, 4);
        wire_put(m + 48, (uint32_t)ppi, 4);
        wire_put(m + 52, 12, 4);
        wire_put(m + 56, val, 4);
    }
    memcpy(m + head, frame, len);
    return head + len;
}

static uint32_t ppi_of(const uint8_t *m, uint32_t type, bool *found)
{
    uint32_t at = 8 + u32(m + 28), left = u32(m + 32);

    *found = true;
    for (; left; left -= u32(m + at), at += u32(m + at))
        if (u32(m + at + 4) == type)
            return u32(m + at + u32(m + at + 8));
    *found = false;
    return 0;
}

static void check_sums(const uint8_t *b, uint32_t len)
{
    struct netpkt p;
    uint32_t v;

    netpkt_parse(b, len, &p);
    assert_true(p.whole);
    v = netpkt_verify(b, &p);
    assert_true(v & (NETPKT_TCP_GOOD | NETPKT_UDP_GOOD));
    assert_false(v & (NETPKT_TCP_BAD | NETPKT_UDP_BAD | NETPKT_IP_BAD));
}

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_offer(void **state)
{
    static const uint8_t class_id[16] = { 0x63, 0x51, 0x61, 0xf8, 0x3e, 0xdf, 0xc5, 0x46,
                                          0x91, 0x3f, 0xf2, 0xd2, 0xf9, 0x65, 0xed, 0x0e };
    uint8_t val[600];
    uint32_t len;

    (void)state;
    assert_int_equal(mobo_fake_vmbus_count(dev), 1);
    assert_memory_equal(mobo_fake_vmbus_offer(dev, 0)->class_id, class_id, 16);
    connect_guest();
    assert_int_equal(query(0x01010101, val, &len), 0);
    assert_int_equal(len, 6);
    assert_memory_equal(val, mac, 6);
    assert_int_equal(query(0x10106, val, &len), 0);
    assert_int_equal(u32(val), 1500);
    assert_int_equal(query(0x10107, val, &len), 0);
    assert_int_equal(u32(val), 100000000); /* 10 Gbit/s */
    assert_int_equal(query(0x10114, val, &len), 0);
    assert_int_equal(u32(val), 0);
    assert_int_equal(query(0x20216, val, &len), 0);
    assert_memory_equal(val, "d\0u\0t\0\0", 8);
    assert_int_equal(query(0xfc01020d, val, &len), 0);
    assert_int_equal(len, 156);
    assert_int_equal(val[0], 0xa7);
    assert_int_equal(query(0x10203, val, &len), 0);
    assert_int_equal(len, 18);
    assert_int_equal(u32(val + 12), 4);
    assert_int_equal(query(0x10101, val, &len), 0);
    for (uint32_t i = 0; i < len; i += 4) { /* what is listed is there, or can be set */
        uint8_t other[600];
        uint32_t n, oid = u32(val + i), s = query(oid, other, &n);

        if (s)
            assert_true(oid == 0x10204 || oid == 0x1021b || oid == 0xfc01020c || oid == 0x10118 ||
                        oid == 0x01010103);
    }
    assert_int_equal(query(0x12345678, val, &len), 0xc00000bb);
    assert_int_equal(len, 0);
}

static void test_versions(void **state)
{
    static const uint32_t all[] = { 2, 0x30002, 0x40000, 0x50000, 0x60000, 0x60001 };
    static const uint32_t caps_len[] = { 112, 112, 144, 156, 156, 156 };

    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        uint8_t val[600];
        uint32_t len;

        connect_nvsp(all[i]);
        connect_rndis(1);
        assert_int_equal(query(0xfc01020d, val, &len), 0);
        assert_int_equal(len, caps_len[i]);
        assert_int_equal(query(0x10203, val, &len) == 0, i >= 3);
        mobo_fake_vmbus_close(dev, 0);
    }
}

static void test_receive(void **state)
{
    uint8_t b[2000], m[2000], on[32] = { 0x80, 3, 32, 0, 0, 4, 4, 4, 4 };
    uint32_t len = tcp(b, 4, 100), n;
    bool found;

    (void)state;
    assert_int_equal(mobo_fake_net_send(dev, 0, b, len), 0); /* nobody listens */
    connect_guest();
    mobo_fake_net_send(dev, 0, b, len);
    n = received(0, m, true);
    assert_int_equal(u32(m), 1);
    assert_int_equal(u32(m + 4), n);
    assert_int_equal(u32(m + 12), len);
    assert_memory_equal(m + 8 + u32(m + 8), b, len);
    assert_int_equal(ppi_of(m, 0, &found), NETPKT_IP_GOOD); /* TCP only when wanted */
    assert_int_equal(set(0xfc01020c, on, sizeof(on)), 0);
    mobo_fake_net_send(dev, 0, b, len);
    assert_true(received(0, m, true));
    assert_int_equal(ppi_of(m, 0, &found), NETPKT_IP_GOOD | NETPKT_TCP_GOOD);
    b[60] ^= 1;
    mobo_fake_net_send(dev, 0, b, len);
    assert_true(received(0, m, true));
    assert_int_equal(ppi_of(m, 0, &found), NETPKT_IP_GOOD | NETPKT_TCP_BAD);
    /* other addresses */
    b[5] ^= 1;
    mobo_fake_net_send(dev, 0, b, len);
    assert_false(received(0, m, true));
    memset(b, 0xff, 6);
    mobo_fake_net_send(dev, 0, b, len);
    assert_true(received(0, m, true));
    memcpy(b, "\1\0\x5e\0\0\1", 6);
    mobo_fake_net_send(dev, 0, b, len);
    assert_true(received(0, m, true));
    /* too long for a section */
    len = tcp(b, 4, 1650);
    mobo_fake_net_send(dev, 0, b, len);
    assert_false(received(0, m, true));
    /* a tag becomes information */
    len = tcp(b, 6, 64);
    memmove(b + 16, b + 12, len - 12);
    memcpy(b + 12, "\x81\0\x60\x2a", 4);
    mobo_fake_net_send(dev, 0, b, len + 4);
    assert_true(received(0, m, true));
    assert_int_equal(ppi_of(m, 6, &found), 3 | 42 << 4);
    assert_true(found);
    assert_int_equal(u32(m + 12), len);
    assert_int_equal(ppi_of(m, 0, &found), NETPKT_TCP_GOOD);
    assert_memory_equal(m + 8 + u32(m + 8) + 12, b + 16, len - 12);
}

static void test_back_pressure(void **state)
{
    uint8_t b[2000], m[2000], done[8] = { 108, 0, 0, 0, 1 };
    uint32_t len = tcp(b, 4, 100);

    (void)state;
    connect_guest();
    for (unsigned i = 0; i < 16; i++)
        assert_int_equal(mobo_fake_net_send(dev, 0, b, len), 0);
    assert_int_equal(mobo_fake_net_send(dev, 0, b, len), 1); /* no section is left */
    for (unsigned i = 0; i < 16; i++)
        assert_true(received(0, m, false));
    for (unsigned i = 1; i <= 16; i++)
        mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_COMPLETION, 0, i, NULL, 0, done, 8);
    mobo_fake_work(f);
    assert_true(received(0, m, true));
    assert_false(received(0, m, true));
    /* no room in the ring */
    mobo_fake_vmbus_room(dev, 0, 0);
    assert_int_equal(mobo_fake_net_send(dev, 0, b, len), 1);
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    assert_true(received(0, m, true));
    /* a section that is not the guest's */
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_COMPLETION, 0, 5, NULL, 0, done, 8);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    /* sections that are the guest's are saved as such */
    mobo_fake_vmbus_close(dev, 0);
    connect_guest();
    for (unsigned i = 0; i < 5; i++)
        mobo_fake_net_send(dev, 0, b, len);
    check_state();
}

static void test_send(void **state)
{
    uint8_t b[2000], got[2000];
    uint32_t len = tcp(b, 4, 100), at;

    (void)state;
    connect_nvsp(0x60001);
    at = packet(ram(SEND_AT + 6144), b, len, -1, 0);
    assert_int_equal(send_section(0, 0, 1, at), 2); /* RNDIS is not there yet */
    connect_rndis(1);
    assert_int_equal(send_section(0, 0, 1, at), 1);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    assert_memory_equal(got, b, len);
    /* several in one message, each at a multiple of 8 */
    at = packet(ram(SEND_AT), b, len, -1, 0);
    wire_put(ram(SEND_AT + 4), (at + 7) & ~7u, 4);
    at = (at + 7) & ~7u;
    at += packet(ram(SEND_AT + at), b, len, 6, 5 | 1 << 3 | 0x123 << 4);
    assert_int_equal(send_section(0, 0, 0, at), 1);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len + 4);
    assert_memory_equal(got + 12, "\x81\0\xb1\x23", 4);
    assert_memory_equal(got + 16, b + 12, len - 12);
    /* checksums */
    b[14 + 10] = b[34 + 16] = 0x55;
    at = packet(ram(SEND_AT), b, len, 0, 1 | 4 | 0x10 | 34 << 16);
    assert_int_equal(send_section(0, 0, 0, at), 1);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    check_sums(got, len);
}

static void test_gpa_direct(void **state)
{
    uint8_t b[5000], m[5100], got[5100], desc[8 + 2 * 24] = { 0 }, head[40] = { 107 };
    struct mobo_vmbus_packet p;
    uint32_t len = tcp(b, 6, 4000), n;

    (void)state;
    connect_guest();
    /* the head in the send buffer, the rest in two pages far from each other */
    n = packet(m, b, len, -1, 0);
    memcpy(ram(SEND_AT + 6144), m, 50);
    memcpy(ram(DATA + 100), m + 50, 3000);
    memcpy(ram(DATA + 0x5000), m + 3050, n - 3050);
    wire_put(desc + 4, 2, 4);
    wire_put(desc + 8, 3000, 4);
    wire_put(desc + 12, 100, 4);
    wire_put(desc + 16, DATA >> 12, 8);
    wire_put(desc + 24, n - 3050, 4);
    wire_put(desc + 32, (DATA + 0x5000) >> 12, 8);
    wire_put(head + 8, 1, 4);
    wire_put(head + 12, 50, 4);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_GPA_DIRECT, 1, 500, desc, 40, head, 40);
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_int_equal(p.transaction, 500);
    assert_int_equal(u32(p.data + 4), 1);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    assert_memory_equal(got, b, len);
    /* memory that is not there */
    wire_put(desc + 32, 1 << 20, 8);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_GPA_DIRECT, 1, 501, desc, 40, head, 40);
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_int_equal(u32(p.data + 4), 2);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
}

/* A large send through GPA-direct, as Linux does; @return frames that came out. */
static unsigned large(int ip, uint32_t n, uint32_t mss, uint8_t *back)
{
    uint8_t *b = malloc(70000), *got = malloc(70000), desc[16 + 8 * 20] = { 0 }, head[40] = { 107 };
    uint32_t len = tcp(b, ip, n), l4 = ip == 4 ? 34 : 54, size, at = 0, seq = 1;
    struct mobo_vmbus_packet p;
    unsigned count = 0;
    uint16_t id = 7;

    if (ip == 4)
        b[16] = b[17] = 0;
    else
        b[18] = b[19] = 0;
    size = packet(ram(DATA), b, len, 2, mss | l4 << 20 | 1u << 30 | (ip == 6 ? 1u << 31 : 0));
    wire_put(desc + 4, 1, 4);
    wire_put(desc + 8, size, 4);
    for (uint32_t i = 0; i < (size + 4095) / 4096; i++)
        wire_put(desc + 16 + 8 * i, (DATA >> 12) + i, 8);
    wire_put(head + 8, 0xffffffff, 4);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_GPA_DIRECT, 1, ++transaction, desc,
                         16 + 8 * ((size + 4095) / 4096), head, 40);
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_int_equal(u32(p.data + 4), 1);
    while ((size = mobo_fake_net_recv(dev, 0, got, 70000))) {
        uint32_t part = size - l4 - 32;

        check_sums(got, size);
        assert_int_equal(got[l4 + 4] << 24 | got[l4 + 5] << 16 | got[l4 + 6] << 8 | got[l4 + 7], seq);
        assert_int_equal(got[l4 + 13], at + part == n ? 0x19 : 0x10);
        if (ip == 4)
            assert_int_equal(got[18] << 8 | got[19], id++);
        memcpy(back + at, got + l4 + 32, part);
        at += part;
        seq += part;
        count++;
    }
    assert_int_equal(at, n);
    assert_memory_equal(back, b + l4 + 32, n);
    free(b);
    free(got);
    return count;
}

static void test_large_send(void **state)
{
    static uint8_t back[70000];

    (void)state;
    connect_guest();
    assert_int_equal(large(4, 20000, 1448, back), 14);
    assert_int_equal(large(6, 62000, 1428, back), 44);
    assert_int_equal(large(4, 1000, 1448, back), 1);
    assert_int_equal(large(4, 1000, 50, back), 20);
    teardown(NULL);
    f = mobo_fake_create();
    mobo_fake_net_max_tcp(f, 65550);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", NULL);
    connect_guest();
    assert_int_equal(large(4, 62000, 1448, back), 1);
}

static void test_network_full(void **state)
{
    uint8_t b[2000], got[2000], msg[40] = { 107 };
    uint32_t len = tcp(b, 4, 100), size;
    struct mobo_vmbus_packet p;

    (void)state;
    connect_guest();
    size = packet(ram(SEND_AT), b, len, -1, 0);
    wire_put(msg + 12, size, 4);
    mobo_fake_net_room(dev, 0, 1);
    for (unsigned i = 0; i < 4; i++)
        mobo_fake_vmbus_queue(dev, 0, MOBO_VMBUS_INBAND, 1, 900 + i, NULL, 0, msg, 40);
    mobo_fake_vmbus_signal(dev, 0);
    for (unsigned i = 0; i < 2; i++) /* the second waits in the device, the others in the ring */
        assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_false(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), 0);
    mobo_fake_net_room(dev, 0, UINT32_MAX);
    for (unsigned i = 0; i < 2; i++)
        assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    /* a completion for which there is no room holds up the rest */
    mobo_fake_vmbus_room(dev, 0, 0);
    for (unsigned i = 0; i < 3; i++)
        mobo_fake_vmbus_queue(dev, 0, MOBO_VMBUS_INBAND, 1, 910 + i, NULL, 0, msg, 40);
    mobo_fake_vmbus_signal(dev, 0);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), len);
    assert_int_equal(mobo_fake_net_recv(dev, 0, got, sizeof(got)), 0);
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_int_equal(p.transaction, 910);
    mobo_fake_vmbus_room(dev, 0, 0);
    mobo_fake_vmbus_signal(dev, 0);
    check_state();
}

static void test_link(void **state)
{
    uint8_t m[2000], b[200], ret[64];
    uint32_t len = tcp(b, 4, 10);

    (void)state;
    connect_guest();
    mobo_fake_net_event(dev, 0, MOBO_NET_DOWN);
    assert_int_equal(received(0, m, true), 20);
    assert_int_equal(u32(m), 7);
    assert_int_equal(u32(m + 8), 0x4001000c);
    mobo_fake_net_send(dev, 0, b, len);
    assert_false(received(0, m, true));
    assert_int_equal(mobo_fake_command(dev, "link", "down", (char *)ret, sizeof(ret)), 0);
    mobo_fake_net_event(dev, 0, MOBO_NET_UP);
    assert_false(received(0, m, true)); /* the cable is still out */
    assert_int_equal(mobo_fake_command(dev, "link", "up", (char *)ret, sizeof(ret)), 0);
    assert_int_equal(received(0, m, true), 20);
    assert_int_equal(u32(m + 8), 0x4001000b);
    mobo_fake_net_send(dev, 0, b, len);
    assert_true(received(0, m, true));
    assert_int_equal(mobo_fake_command(dev, "link", "sideways", (char *)ret, sizeof(ret)), -EINVAL);
    assert_int_equal(mobo_fake_command(dev, "hop", "", (char *)ret, sizeof(ret)), -ENOSYS);
}

static void test_rss(void **state)
{
    /* the verification suite of the RSS specification: 66.9.149.187:2794 to 161.142.100.80:1766 */
    static const uint8_t key[40] = {
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3,
        0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3,
        0x80, 0x30, 0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa
    };
    uint8_t b[200], m[2000], rss[40 + 4 * 4 + 40] = { 0x89, 2, 40 }, r[40];
    uint32_t len = tcp(b, 4, 10), hash = 0;
    struct mobo_vmbus_packet p;
    struct netpkt n;
    bool found;

    (void)state;
    memcpy(b + 26, "\x42\x09\x95\xbb\xa1\x8e\x64\x50\x0a\xea\x06\xe6", 12);
    netpkt_parse(b, len, &n);
    assert_true(netpkt_hash(b, &n, NETPKT_HASH_IPV4 | NETPKT_HASH_TCP_IPV4, key, &hash));
    assert_int_equal(hash, 0x51ccc178);
    assert_true(netpkt_hash(b, &n, NETPKT_HASH_IPV4, key, &hash));
    assert_int_equal(hash, 0x323e8fc2);
    assert_false(netpkt_hash(b, &n, NETPKT_HASH_IPV6, key, &hash));

    connect_guest();
    assert_true(NVSP(0, r, 133, 1, 7));
    assert_int_equal(u32(r + 4), 1);
    assert_int_equal(u32(r + 8), 3);
    assert_int_equal(mobo_fake_vmbus_count(dev), 4);
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(mobo_fake_vmbus_offer(dev, i)->sub_index, i);
        assert_int_equal(mobo_fake_vmbus_open(dev, i, NULL), 0);
        mobo_fake_vmbus_signal(dev, i);
    }
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p)); /* the send table */
    assert_int_equal(u32(p.data), 134);
    assert_int_equal(u32(p.data + 4), 16);
    assert_int_equal(u32(p.data + u32(p.data + 8) + 4 * 3), 3);
    wire_put(rss + 8, 1 | 0x100 | 0x200, 4);
    wire_put(rss + 12, 16, 2);
    wire_put(rss + 16, 40, 4);
    wire_put(rss + 20, 40, 2);
    wire_put(rss + 24, 56, 4);
    wire_put(rss + 40, 2, 4); /* 0x...78 & 3 == 0 */
    wire_put(rss + 44, 1, 4);
    memcpy(rss + 56, key, 40);
    assert_int_equal(set(0x10204, rss, sizeof(rss)), 0);
    mobo_fake_net_send(dev, 0, b, len);
    assert_true(received(2, m, true));
    assert_int_equal(ppi_of(m, 8, &found), 0x51ccc178);
    assert_true(found);
    /* and a frame of the guest over a sub-channel */
    assert_int_equal(send_section(3, 0, 0, packet(ram(SEND_AT), b, len, -1, 0)), 1);
    assert_int_equal(mobo_fake_net_recv(dev, 0, m, sizeof(m)), len);
    wire_put(rss + 44, 4, 4); /* no such channel */
    assert_int_not_equal(set(0x10204, rss, sizeof(rss)), 0);
    wire_put(rss + 12, 12, 2); /* not a power of two */
    assert_int_not_equal(set(0x10204, rss, sizeof(rss)), 0);
    check_state();
    mobo_fake_vmbus_open(dev, 0, NULL);
    mobo_fake_vmbus_close(dev, 0);
    for (unsigned i = 1; i < 4; i++)
        assert_null(mobo_fake_vmbus_offer(dev, i));
}

static void test_mac(void **state)
{
    static const char name[] = "NetworkAddress", val[] = "02aAbBcCdD0e";
    uint8_t m[20 + 28 + 24] = { 20, 0, 0, 0, 28, 0, 0, 0, 2, 0, 0, 0, 48, 0, 0, 0, 24 }, got[600], b[200];
    uint32_t len;

    (void)state;
    connect_guest();
    for (unsigned i = 0; i < 14; i++)
        m[20 + 2 * i] = (uint8_t)name[i];
    for (unsigned i = 0; i < 12; i++)
        m[48 + 2 * i] = (uint8_t)val[i];
    assert_int_equal(set(0x1021b, m, sizeof(m)), 0);
    assert_int_equal(query(0x01010102, got, &len), 0);
    assert_memory_equal(got, "\x02\xaa\xbb\xcc\xdd\x0e", 6);
    assert_int_equal(query(0x01010101, got, &len), 0);
    assert_memory_equal(got, mac, 6);
    len = tcp(b, 4, 1);
    mobo_fake_net_send(dev, 0, b, len);
    assert_false(received(0, got, true));
    m[48] = 'x';
    assert_int_not_equal(set(0x1021b, m, sizeof(m)), 0);
    assert_int_not_equal(set(0x1021b, m, 30), 0);
}

static void test_bad_packets(void **state)
{
    static const struct {
        uint32_t type, len;
        uint8_t b[40];
    } bad[] = {
        { MOBO_VMBUS_INBAND, 8, { 1 } },
        { MOBO_VMBUS_INBAND, 40, { 99 } },
        { MOBO_VMBUS_XFER_PAGES, 40, { 107 } },
        { MOBO_VMBUS_INBAND, 40, { 107, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 8 } }, /* section */
        { MOBO_VMBUS_INBAND, 40, { 107, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0x18 } }, /* its length */
        { MOBO_VMBUS_COMPLETION, 8, { 108 } },
    };

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        connect_guest();
        mobo_fake_vmbus_send(dev, 0, bad[i].type, 1, 3000, NULL, 0, bad[i].b, bad[i].len);
        assert_non_null(mobo_fake_vmbus_fault(dev, 0));
        mobo_fake_vmbus_close(dev, 0);
    }
}

/* Messages with each byte of the head changed: none is believed that points outside. */
static void test_bad_rndis(void **state)
{
    uint8_t b[200], m[300], a[RNDIS_ANSWER_MAX];
    uint32_t len = tcp(b, 4, 20), size = packet(m, b, len, 0, 5), n;
    struct rndis r = { .friendly_name = "x", .nvsp_version = 0x60001, .channels = 4, .mtu = 1500 };
    struct rndis_tx t;

    (void)state;
    for (unsigned at = 0; at < 60; at++)
        for (unsigned v = 0; v < 256; v++) {
            uint8_t old = m[at];

            m[at] = (uint8_t)v;
            if (rndis_packet_parse(m, size, &t))
                assert_true(t.data <= size && t.len <= size - t.data);
            m[at] = old;
        }
    for (n = 0; n < size; n++)
        assert_int_equal(rndis_packet_parse(m, n, &t), 0);
    rndis_reset(&r);
    r.s.initialized = 1;
    for (unsigned type = 0; type < 12; type++)
        for (unsigned at = 4; at < 24; at += 4)
            for (unsigned v = 0; v < 40; v++) {
                uint8_t c[40] = { (uint8_t)type, 0, 0, 0, 36 };

                wire_put(c + 12, 0x10204, 4);
                wire_put(c + at, v < 36 ? v : 0u - v, 4);
                rndis_control(&r, c, sizeof(c), a, &n);
                assert_true(n <= sizeof(a));
            }
}

static void test_saved_state(void **state)
{
    (void)state;
    check_state();
    connect_guest();
    check_state();
    check_refused(1, 0, 9);      /* version */
    check_refused(7, 3, 0xff);   /* sections */
    check_refused(12, 0, 200);   /* sub-channels */
    check_flips();
}

static void test_params(void **state)
{
    static const char *const bad[] = { "mac=02:11:22:33:44", "mac=01:11:22:33:44:55",
                                       "mac=02:11:22:33:44:5g", "mac=02-11-22-33-44-5" };
    struct mobo_fake *g = mobo_fake_create();

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        const char *const params[] = { bad[i], NULL };

        assert_null(mobo_fake_add(g, &mobo_vdev_descriptor, "n", params));
        assert_non_null(strstr(mobo_fake_error(g), "mac"));
    }
    mobo_fake_destroy(g);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_offer),      T(test_versions),     T(test_receive),   T(test_back_pressure),
        T(test_send),       T(test_gpa_direct),   T(test_large_send), T(test_network_full),
        T(test_link),       T(test_rss),          T(test_mac),       T(test_bad_packets),
        T(test_bad_rndis),  T(test_saved_state),  T(test_params),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
