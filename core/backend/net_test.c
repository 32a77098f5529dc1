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

/* ARP and DHCP of the private network. */
static void test_user(void **state)
{
    const struct vmb_net_config cfg = { .spec = "user", .network = "192.168.77.0/24", .vm = "t" };
    struct peer a = { .mac = { 0, 0, 0, 0, 0, 1 } };
    uint8_t f[400] = { 0 };
    uint32_t sum = 0;

    (void)state;
    assert_int_equal(net_open(&a, &cfg, false), 0);
    memset(f, 0xff, 6); /* who has 192.168.77.2? */
    memcpy(f + 6, a.mac, 6);
    memcpy(f + 12, "\x08\x06\0\1\x08\0\6\4\0\1", 10);
    memcpy(f + 22, a.mac, 6);
    memcpy(f + 28, "\xc0\xa8\x4d\x0f", 4);
    memcpy(f + 38, "\xc0\xa8\x4d\x02", 4);
    assert_int_equal(net_send(&a, f, 60), 0);
    settle();
    assert_int_equal(a.got, 1);
    assert_memory_equal(a.last, a.mac, 6);
    assert_memory_equal(a.last + 20, "\0\2", 2);
    assert_memory_equal(a.last + 28, "\xc0\xa8\x4d\x02", 4);
    /* DHCPDISCOVER */
    memset(f, 0, sizeof(f));
    memset(f, 0xff, 6);
    memcpy(f + 6, a.mac, 6);
    f[12] = 8;
    f[14] = 0x45;
    put16(f + 16, 20 + 8 + 244);
    f[22] = 64;
    f[23] = 17;
    memset(f + 30, 0xff, 4);
    for (unsigned i = 14; i < 34; i += 2)
        sum += (uint32_t)f[i] << 8 | f[i + 1];
    sum = (sum & 0xffff) + (sum >> 16);
    put16(f + 24, ~sum & 0xffff);
    put16(f + 34, 68);
    put16(f + 36, 67);
    put16(f + 38, 8 + 244);
    memcpy(f + 42, "\1\1\6\0", 4);
    memcpy(f + 70, a.mac, 6);
    memcpy(f + 278, "\x63\x82\x53\x63\x35\1\1\xff", 8);
    assert_int_equal(net_send(&a, f, 14 + 20 + 8 + 244), 0);
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
        cmocka_unit_test(test_specs),         cmocka_unit_test(test_check_only),
        cmocka_unit_test(test_switch),        cmocka_unit_test(test_back_pressure),
        cmocka_unit_test(test_capture),
#ifdef HAVE_SLIRP
        cmocka_unit_test(test_user),
#endif
    };

    return cmocka_run_group_tests(tests, setup, done);
}
