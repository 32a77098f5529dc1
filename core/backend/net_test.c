/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of the network backends: keys, the switch between several, the user network's own services,
 * back-pressure, captures.  No network of the host is used. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/backend/net.h"

enum { FRAMES = 4096 };

struct peer {
    struct vmb_net *n;
    uint8_t mac[6];
    unsigned got, events[4];
    int room; /* frames that it takes; -1: all */
    uint8_t last[2048];
    size_t last_len;
};

static struct event_base *base;
static char dir[] = "/tmp/mobo-net-test-XXXXXX";
static char msg[512];

static int on_receive(void *ctx, const uint8_t *frame, size_t len)
{
    struct peer *p = ctx;

    if (!p->room)
        return 0;
    if (p->room > 0)
        p->room--;
    p->got++;
    p->last_len = len;
    memcpy(p->last, frame, len < sizeof(p->last) ? len : sizeof(p->last));
    return 1;
}

static void on_event(void *ctx, unsigned event)
{
    struct peer *p = ctx;

    p->events[event & 3]++;
}

static const struct vmb_net_sink sink = { on_receive, on_event };

static int net_open(struct peer *p, const struct vmb_net_config *cfg, bool check_only)
{
    struct mobo_net_info info = { .size = sizeof(info) };
    uint8_t id = p->mac[5];
    int err;

    memset(p, 0, sizeof(*p));
    p->room = -1;
    p->mac[0] = 2;
    p->mac[5] = id;
    msg[0] = 0;
    err = netb_open(dir, base, cfg, check_only, &sink, p, &p->n, &info, msg, sizeof(msg));
    if (!err && !check_only)
        assert_true(info.max_frame >= 65536);
    return err;
}

static int spec(struct peer *p, const char *text)
{
    const struct vmb_net_config cfg = { .spec = text };

    return net_open(p, &cfg, false);
}

/* Let the loop run until nothing more happens; the I/O thread of these tests is this one. */
static void settle(void)
{
    for (unsigned idle = 0; idle < 3;) {
        struct timeval tv = { 0, 2000 };

        event_base_loopexit(base, &tv);
        event_base_loop(base, 0);
        idle++;
    }
}

/* How often the loop wakes up in a while in which it has nothing to do. */
static unsigned wakes(void)
{
    struct timeval tv = { 0, 50000 };
    unsigned n = 0;

    event_base_loopexit(base, &tv);
    do
        n++;
    while (event_base_loop(base, EVLOOP_ONCE) == 0 && !event_base_got_exit(base));
    return n;
}

static uint32_t frame_of(const struct peer *from, const uint8_t *to, uint8_t *b, uint32_t len)
{
    memset(b, 0x5a, len);
    memcpy(b, to, 6);
    memcpy(b + 6, from->mac, 6);
    b[12] = 0x88;
    b[13] = 0xb5; /* an experimental type */
    return len;
}

static int net_send(struct peer *p, uint8_t *b, uint32_t len)
{
    struct mobo_iov iov[2] = { { b, 10, MOBO_NO_GPA }, { b + 10, len - 10, MOBO_NO_GPA } };

    return netb_send(p->n, iov, 2, len);
}

static const uint8_t all[6] = { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff };

/* ---- tests --------------------------------------------------------------------------------------- */

static void test_specs(void **state)
{
    static const struct {
        struct vmb_net_config cfg;
        const char *says;
    } bad[] = {
        { { .spec = "usr" }, "'usr' is not a network" },
        { { .spec = "tap" }, "'tap' wants 'tap:'" },
        { { .spec = "switch:" }, "wants 'switch:'" },
        { { .spec = "null:x" }, "nothing follows" },
        { { .spec = "null", .hostfwd = "tcp:1-2" }, "hostfwd goes with a 'user' network only" },
        { { .spec = "tap:a-name-that-is-too-long" }, "is not the name of an interface" },
        { { .spec = "null", .pcap = "/nonexistent/x" }, "capture file /nonexistent/x" },
#ifdef HAVE_SLIRP
        { { .spec = "user", .hostfwd = "tcp:80" }, "'tcp:80' is not" },
        { { .spec = "user", .hostfwd = "tcp:127.0.0.1:0-80" }, "is not" },
        { { .spec = "user", .hostfwd = "tcp:127.0.0.1:65536-80" }, "is not" },
        { { .spec = "user", .hostfwd = "tcp:1.2.3:99-80" }, "is not" },
        { { .spec = "user", .hostfwd = "tcp:8080-80, sctp:1-2" }, "'sctp:1-2' is not" },
        { { .spec = "user", .network = "10.0.2.0" }, "is not a network" },
        { { .spec = "user", .network = "10.0.2.1/24" }, "is not a network" },
        { { .spec = "user", .network = "10.0.2.0/31" }, "is not a network" },
#endif
    };
    struct peer p = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_true(net_open(&p, &bad[i].cfg, false) < 0);
        if (!strstr(msg, bad[i].says))
            fail_msg("'%s' does not say '%s'", msg, bad[i].says);
    }
}

static void test_check_only(void **state)
{
    const struct vmb_net_config good = { .spec = "switch:x" };
    char path[128];
    struct peer p = { 0 };

    (void)state;
    assert_int_equal(net_open(&p, &good, true), 0);
    assert_null(p.n);
    snprintf(path, sizeof(path), "%s/x", dir);
    assert_int_not_equal(access(path, F_OK), 0);
}

static void test_switch(void **state)
{
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } }, b = { .mac = { 0, 0, 0, 0, 0, 2 } },
                c = { .mac = { 0, 0, 0, 0, 0, 3 } };
    uint8_t f[2000];
    uint32_t len;

    (void)state;
    assert_int_equal(spec(&a, "switch:sw"), 0);
    assert_int_equal(spec(&b, "switch:sw"), 0);
    assert_int_equal(spec(&c, "switch:sw"), 0);
    settle();
    len = frame_of(&b, all, f, 100); /* from a port to everybody */
    assert_int_equal(net_send(&b, f, len), 0);
    settle();
    assert_int_equal(a.got, 1);
    assert_int_equal(b.got, 0);
    assert_int_equal(c.got, 1);
    assert_int_equal(a.last_len, 100);
    assert_memory_equal(a.last, f, 100);
    len = frame_of(&c, b.mac, f, 1500); /* from a port to a port that is known */
    assert_int_equal(net_send(&c, f, len), 0);
    settle();
    assert_int_equal(a.got, 1);
    assert_int_equal(b.got, 1);
    assert_int_equal(b.last_len, 1500);
    len = frame_of(&a, c.mac, f, 60); /* from the hub */
    assert_int_equal(net_send(&a, f, len), 0);
    settle();
    assert_int_equal(b.got, 1);
    assert_int_equal(c.got, 2);
    /* the hub goes: another takes its place */
    netb_close(a.n);
    for (unsigned i = 0; i < 300 && (b.events[MOBO_NET_UP] == 0 || c.events[MOBO_NET_UP] == 0); i++)
        settle();
    assert_int_equal(b.events[MOBO_NET_DOWN], 1);
    assert_int_equal(c.events[MOBO_NET_DOWN], 1);
    assert_int_equal(b.events[MOBO_NET_UP], 1);
    assert_int_equal(c.events[MOBO_NET_UP], 1);
    /* what is sent before the new hub has taken up the port is lost, as on a wire */
    len = frame_of(&b, c.mac, f, 64);
    for (unsigned i = 0; i < 300 && c.got < 3; i++) {
        assert_int_equal(net_send(&b, f, len), 0);
        settle();
    }
    assert_int_equal(c.got, 3);
    netb_close(b.n);
    netb_close(c.n);
}

/* A device that takes nothing: the sender hears of it, nothing is lost, all arrives in the end. */
static void test_back_pressure(void **state)
{
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } }, b = { .mac = { 0, 0, 0, 0, 0, 2 } };
    static uint8_t f[60000];
    unsigned sent = 0;

    (void)state;
    assert_int_equal(spec(&a, "switch:bp"), 0);
    assert_int_equal(spec(&b, "switch:bp"), 0);
    a.room = 0;
    frame_of(&b, a.mac, f, sizeof(f));
    while (sent < FRAMES && net_send(&b, f, sizeof(f)) == 0)
        sent++;
    assert_true(sent > 0 && sent < FRAMES);
    assert_int_equal(a.got, 0);
    a.room = -1;
    netb_ready(a.n);
    settle();
    settle();
    assert_int_equal(b.events[MOBO_NET_WRITABLE], 1);
    assert_int_equal(a.got, sent);
    netb_close(a.n);
    netb_close(b.n);
}

/* A device that takes nothing for long: what waits is not looked at again and again, and goes on later. */
static void test_refused(void **state)
{
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } }, b = { .mac = { 0, 0, 0, 0, 0, 2 } };
    struct peer *const to[] = { &b, &a }, *const from[] = { &a, &b }; /* to a port, to the hub */
    static uint8_t f[60000];

    (void)state;
    assert_int_equal(spec(&a, "switch:bp"), 0);
    assert_int_equal(spec(&b, "switch:bp"), 0);
    settle();
    for (unsigned i = 0; i < 2; i++) {
        unsigned sent = 0;

        to[i]->room = 0;
        frame_of(from[i], to[i]->mac, f, sizeof(f));
        for (; sent < 40; sent++) {
            assert_int_equal(net_send(from[i], f, sizeof(f)), 0);
            settle();
        }
        assert_true(wakes() < 20);
        to[i]->room = 1; /* one, and none again */
        netb_ready(to[i]->n);
        settle();
        assert_int_equal(to[i]->got, 1);
        assert_true(wakes() < 20);
        to[i]->room = -1;
        netb_ready(to[i]->n);
        settle();
        assert_int_equal(to[i]->got, sent);
        assert_int_equal(net_send(from[i], f, sizeof(f)), 0);
        settle();
        assert_int_equal(to[i]->got, sent + 1);
    }
    netb_close(a.n);
    netb_close(b.n);
}

static void test_capture(void **state)
{
    char path[128];
    const struct vmb_net_config cfg = { .spec = "null", .pcap = path };
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } };
    uint8_t f[200];
    uint32_t head[6], rec[4];
    struct stat st;
    FILE *fp;

    (void)state;
    snprintf(path, sizeof(path), "%s/pcap", dir);
    assert_int_equal(net_open(&a, &cfg, false), 0);
    frame_of(&a, all, f, sizeof(f));
    assert_int_equal(net_send(&a, f, 200), 0);
    assert_int_equal(net_send(&a, f, 60), 0);
    netb_close(a.n);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 24 + 16 + 200 + 16 + 60);
    assert_int_equal(st.st_mode & 077, 0);
    fp = fopen(path, "rb");
    assert_non_null(fp);
    assert_int_equal(fread(head, sizeof(head), 1, fp), 1);
    assert_int_equal(head[0], 0xa1b23c4d);
    assert_int_equal(head[5], 1);
    assert_int_equal(fread(rec, sizeof(rec), 1, fp), 1);
    assert_int_equal(rec[2], 200);
    fclose(fp);
    unlink(path);
}

#ifdef HAVE_SLIRP
static void put16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static unsigned checksum(const uint8_t *p, uint32_t len)
{
    uint32_t sum = 0;

    for (uint32_t i = 0; i < len; i += 2)
        sum += (uint32_t)p[i] << 8 | p[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    return ~(sum + (sum >> 16)) & 0xffff;
}

/* Ethernet and IP in front of @len bytes.  @return the length of the frame. */
static uint32_t ip_frame(const struct peer *from, uint8_t *f, uint8_t protocol, const char src[4],
                         const char dst[4], uint32_t len)
{
    memset(f, 0xff, 6);
    memcpy(f + 6, from->mac, 6);
    put16(f + 12, 0x800);
    memset(f + 14, 0, 20);
    f[14] = 0x45;
    put16(f + 16, 20 + len);
    f[22] = 64;
    f[23] = protocol;
    memcpy(f + 26, src, 4);
    memcpy(f + 30, dst, 4);
    put16(f + 24, checksum(f + 14, 20));
    return 34 + len;
}

/* Who has 192.168.77.2?  The answer tells the other end about @a, too. */
static void ask_arp(struct peer *a)
{
    uint8_t f[60] = { 0 };

    memset(f, 0xff, 6);
    memcpy(f + 6, a->mac, 6);
    memcpy(f + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
    memcpy(f + 22, a->mac, 6);
    memcpy(f + 28, "\xc0\xa8\x4d\x0f", 4);
    memcpy(f + 38, "\xc0\xa8\x4d\x02", 4);
    assert_int_equal(net_send(a, f, 60), 0);
    settle();
    assert_int_equal(a->got, 1);
}

/* ARP and DHCP of the private network. */
static void test_user(void **state)
{
    const struct vmb_net_config cfg = { .spec = "user", .network = "192.168.77.0/24", .vm = "t" };
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } };
    uint8_t f[400] = { 0 };
    uint32_t len;

    (void)state;
    assert_int_equal(net_open(&a, &cfg, false), 0);
    ask_arp(&a);
    assert_memory_equal(a.last, a.mac, 6);
    assert_memory_equal(a.last + 20, "\0\2", 2);
    assert_memory_equal(a.last + 28, "\xc0\xa8\x4d\x02", 4);
    /* DHCPDISCOVER */
    len = ip_frame(&a, f, 17, "\0\0\0\0", "\xff\xff\xff\xff", 8 + 244);
    put16(f + 34, 68);
    put16(f + 36, 67);
    put16(f + 38, 8 + 244);
    memcpy(f + 42, "\1\1\6\0", 4);
    memcpy(f + 70, a.mac, 6);
    memcpy(f + 278, "\x63\x82\x53\x63\x35\1\1\xff", 8);
    assert_int_equal(net_send(&a, f, len), 0);
    settle();
    assert_int_equal(a.got, 2);
    assert_memory_equal(a.last + 58, "\xc0\xa8\x4d\x0f", 4); /* yours */
    /* nothing in it takes frames for good: any bytes are taken */
    for (unsigned i = 0; i < 300; i++) {
        f[12 + i % 60] ^= (uint8_t)(i * 37 + 1);
        assert_int_equal(net_send(&a, f, 14 + i), 0);
    }
    settle();
    netb_close(a.n);
}

/* A device that takes nothing, while a socket of the host has something for it. */
static void test_user_refused(void **state)
{
    const struct vmb_net_config cfg = { .spec = "user", .network = "192.168.77.0/24", .vm = "t" };
    struct sockaddr_in addr = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } };
    socklen_t addr_len = sizeof(addr);
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK, 0);
    uint8_t f[1500] = { 0 };
    uint32_t len;

    (void)state;
    assert_int_equal(bind(fd, (struct sockaddr *)&addr, addr_len), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &addr_len), 0);
    assert_int_equal(net_open(&a, &cfg, false), 0);
    ask_arp(&a);
    len = ip_frame(&a, f, 17, "\xc0\xa8\x4d\x0f", "\xc0\xa8\x4d\x02", 8 + 4); /* UDP to this test */
    put16(f + 34, 1234);
    memcpy(f + 36, &addr.sin_port, 2);
    put16(f + 38, 8 + 4);
    assert_int_equal(net_send(&a, f, len), 0);
    settle();
    assert_int_equal(recvfrom(fd, f, sizeof(f), 0, (struct sockaddr *)&addr, &addr_len), 4);
    a.room = 0;
    memset(f + 34, 0, 1400);
    len = ip_frame(&a, f, 1, "\xc0\xa8\x4d\x0f", "\xc0\xa8\x4d\x02", 1400); /* echo requests */
    f[34] = 8;
    put16(f + 36, checksum(f + 34, 1400));
    for (unsigned i = 0; i < 800; i++) {
        assert_int_equal(net_send(&a, f, len), 0);
        if (i % 100 == 0)
            settle();
    }
    settle();
    assert_int_equal(sendto(fd, "pong", 4, 0, (struct sockaddr *)&addr, addr_len), 4);
    assert_true(wakes() < 20);
    assert_int_equal(a.got, 1);
    a.room = -1;
    netb_ready(a.n);
    settle();
    assert_int_equal(a.got, 1 + 800 + 1);
    assert_memory_equal(a.last + 42, "pong", 4);
    netb_close(a.n);
    close(fd);
}
#endif

static int setup(void **state)
{
    (void)state;
    evthread_use_pthreads();
    base = event_base_new();
    return !base || !mkdtemp(dir);
}

static int done(void **state)
{
    static const char *const left[] = { "sw.lock", "bp.lock", "sw", "bp" };
    char path[128];

    (void)state;
    for (unsigned i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, left[i]);
        unlink(path);
    }
    event_base_free(base);
    return rmdir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_specs),   cmocka_unit_test(test_check_only),
        cmocka_unit_test(test_switch),  cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_refused), cmocka_unit_test(test_capture),
#ifdef HAVE_SLIRP
        cmocka_unit_test(test_user),    cmocka_unit_test(test_user_refused),
#endif
    };

    return cmocka_run_group_tests(tests, setup, done);
}
