/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for netvsp: a guest that sends any packet in any state, a network that sends any frame and
 * fills up, commands of people, saved states with changed bytes. */
#include <errno.h>
#include <mobo/vdev.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/test/mobo_fakehost.h"
#include "tests/fuzz/input.h"
#include "wire.h"

enum {
    RECV_GPADL = 11,
    SEND_GPADL = 12,
    RECV_AT = 0x200000,
    SEND_AT = 0x400000,
    DATA = 0x600000,
    RECV_LEN = 8 * 1728,
    SEND_LEN = 4 * 6144
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct mobo_fake *f;
static struct mobo_vdev *dev;
static bool changed; /* a state with changed bytes was taken: it may have any transaction */
static uint64_t transaction;
static uint64_t lent[64];
static unsigned nlent;

/* What the device sends lies within the guest's buffer, and answers something. */
static void drain(void)
{
    static uint8_t frame[65600];

    for (unsigned ch = 0; ch < mobo_fake_vmbus_count(dev); ch++) {
        struct mobo_vmbus_packet p = { .size = sizeof(p) };

        while (mobo_fake_vmbus_recv(dev, ch, &p)) {
            if (p.type == MOBO_VMBUS_COMPLETION && p.transaction > transaction && !changed)
                abort();
            if (p.type != MOBO_VMBUS_XFER_PAGES)
                continue;
            if (wire_get(p.desc + 8, 4) + wire_get(p.desc + 12, 4) > RECV_LEN)
                abort();
            if (nlent < 64)
                lent[nlent++] = p.transaction;
        }
    }
    while (mobo_fake_net_recv(dev, 0, frame, sizeof(frame)))
        ;
}

static void nvsp(unsigned ch, uint32_t type, uint32_t a, uint32_t b, uint64_t c)
{
    uint8_t m[40] = { 0 };

    wire_put(m, type, 4);
    wire_put(m + 4, a, 4);
    wire_put(m + 8, b, 4);
    wire_put(m + 12, c, 8);
    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_INBAND, 1, ++transaction, NULL, 0, m, sizeof(m));
}

/* The guest's message is in the send buffer (and the memory at DATA). */
static void rndis(unsigned ch, uint32_t control, uint32_t section, uint32_t len, uint32_t direct)
{
    uint8_t m[40] = { 107 }, d[16 + 8 * 16] = { 0 };
    uint32_t pages = (direct + 4095) / 4096;

    wire_put(m + 4, control, 4);
    wire_put(m + 8, section, 4);
    wire_put(m + 12, len, 4);
    wire_put(d + 4, 1, 4);
    wire_put(d + 8, direct, 4);
    for (uint32_t i = 0; i < pages; i++)
        wire_put(d + 16 + 8 * i, DATA / 4096 + i, 8);
    mobo_fake_vmbus_send(dev, ch, direct ? MOBO_VMBUS_GPA_DIRECT : MOBO_VMBUS_INBAND, 1,
                         ++transaction, direct ? d : NULL, direct ? 16 + 8 * pages : 0, m, 40);
}

static void hello(unsigned version, int init)
{
    static const uint32_t versions[] = { 0x60001, 2, 0x30002, 0x40000, 0x50000, 0x60000 };
    static const uint8_t start[24] = { 2, 0, 0, 0, 24, 0, 0, 0, 9, 0, 0, 0, 1 };
    static const uint8_t filter[32] = { 5, 0, 0, 0, 32, 0, 0, 0, 3, 0, 0, 0, 0x0e, 1, 1, 0,
                                        4, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0x20 };

    if (mobo_fake_vmbus_fault(dev, 0))
        mobo_fake_vmbus_close(dev, 0);
    mobo_fake_vmbus_open(dev, 0, NULL);
    mobo_fake_vmbus_gpadl(dev, 0, RECV_GPADL, RECV_AT, RECV_LEN);
    mobo_fake_vmbus_gpadl(dev, 0, SEND_GPADL, SEND_AT, SEND_LEN);
    nvsp(0, 1, versions[version % 6], versions[version % 6], 0);
    nvsp(0, 125, 1514, 0, 8);
    nvsp(0, 101, RECV_GPADL, 0xcafe, 0);
    nvsp(0, 104, SEND_GPADL, 0, 0);
    if (!init)
        return;
    memcpy(mobo_fake_ram(f) + SEND_AT, start, sizeof(start));
    rndis(0, 1, 0, sizeof(start), 0);
    memcpy(mobo_fake_ram(f) + SEND_AT, filter, sizeof(filter));
    rndis(0, 1, 0, sizeof(filter), 0);
}

/* A frame that is about right. */
static uint32_t make_frame(struct input *in, uint8_t *b)
{
    uint32_t how = take(in, 1), n = take(in, 2) % 3000, l3 = how & 1 ? 18 : 14, len;

    memset(b, 0, l3 + 60);
    b[0] = (uint8_t)(how & 2 ? 0xff : 2);
    if (how & 1)
        b[12] = 0x81;
    b[l3 - 2] = how & 4 ? 0x86 : 0x08;
    b[l3 - 1] = how & 4 ? 0xdd : 0;
    len = l3 + (how & 4 ? 40 : 20);
    b[l3] = how & 4 ? 0x60 : 0x45;
    if (how & 4) {
        wire_put(b + l3 + 4, (n + 20) >> 8 | (n + 20) << 8, 2);
        b[l3 + 6] = how & 8 ? 17 : 6;
    } else {
        wire_put(b + l3 + 2, (n + 40) >> 8 | (n + 40) << 8, 2);
        b[l3 + 9] = how & 8 ? 17 : 6;
    }
    b[len + 12] = 0x50;
    for (unsigned i = how >> 4 & 7; i; i--) {
        unsigned at = take(in, 1) % (len + 20);

        b[at] = (uint8_t)take(in, 1);
    }
    memset(b + len + 20, how, n);
    return len + 20 + n;
}

static void send_packets(struct input *in, unsigned ch)
{
    static uint8_t b[65536];
    uint32_t at = 0, count = take(in, 1) % 3 + 1, how = take(in, 1), split;

    for (uint32_t i = 0; i < count && at < 20000; i++) {
        uint32_t head = 60, n = make_frame(in, b + at + head);

        memset(b + at, 0, head);
        wire_put(b + at, 1, 4);
        wire_put(b + at + 4, (head + n + 7) & ~7u, 4);
        wire_put(b + at + 8, head - 8, 4);
        wire_put(b + at + 12, n, 4);
        wire_put(b + at + 28, 36, 4);
        wire_put(b + at + 32, 16, 4);
        wire_put(b + at + 44, 16, 4);
        wire_put(b + at + 48, take(in, 1) % 9, 4);
        wire_put(b + at + 52, 12, 4);
        wire_put(b + at + 56, take(in, 4), 4);
        for (unsigned k = how >> 5; k; k--) {
            unsigned off = take(in, 1) % head;

            b[at + off] = (uint8_t)take(in, 1);
        }
        at += (head + n + 7) & ~7u;
    }
    split = how & 1 ? at : take(in, 2) % (at + 1);
    if (split > 6144)
        split = 6144;
    memcpy(mobo_fake_ram(f) + SEND_AT + 6144, b, split);
    memcpy(mobo_fake_ram(f) + DATA, b + split, at - split);
    rndis(ch, 0, split ? 1 : UINT32_MAX, split, at - split);
}

/* A TCP packet that is right and larger than a frame, to be cut. */
static void send_large(struct input *in, unsigned ch)
{
    enum { HEAD = 60, L3 = 14 };
    static uint8_t b[16384];
    uint32_t how = take(in, 1), n = take(in, 2) % 12000, l4 = L3 + (how & 1 ? 40 : 20), at;
    uint8_t *f8 = b + HEAD;

    memset(b, 0, sizeof(b));
    f8[0] = 2;
    f8[L3 - 2] = how & 1 ? 0x86 : 0x08;
    f8[L3 - 1] = how & 1 ? 0xdd : 0;
    f8[L3] = how & 1 ? 0x60 : 0x45;
    f8[how & 1 ? L3 + 6 : L3 + 9] = 6;
    f8[l4 + 12] = (uint8_t)(how & 2 ? take(in, 1) : 0x50);
    f8[l4 + 13] = (uint8_t)take(in, 1);
    wire_put(b, 1, 4);
    wire_put(b + 4, HEAD + l4 + 20 + n, 4);
    wire_put(b + 8, HEAD - 8, 4);
    wire_put(b + 12, l4 + 20 + n, 4);
    wire_put(b + 28, 36, 4);
    wire_put(b + 32, how & 4 ? 16 : 0, 4);
    wire_put(b + 44, 16, 4);
    wire_put(b + 48, 2, 4);
    wire_put(b + 52, 12, 4);
    wire_put(b + 56, take(in, 2) % 2000, 4);
    if (how & 8)
        mobo_fake_net_room(dev, 0, take(in, 1) % 4);
    n += HEAD + l4 + 20;
    at = n < 6144 ? n : 6144; /* what a section holds */
    memcpy(mobo_fake_ram(f) + SEND_AT + 6144, b, at);
    memcpy(mobo_fake_ram(f) + DATA, b + at, n - at);
    rndis(ch, 0, 1, at, n - at);
}

/* The guest asks for more channels, and opens those it gets. */
static void more_channels(struct input *in)
{
    unsigned how = take(in, 1);

    nvsp(0, 133, 1, 1 + how % 4, 0);
    for (unsigned ch = 1; ch < mobo_fake_vmbus_count(dev); ch++)
        if (mobo_fake_vmbus_offer(dev, ch) && !((uint64_t)how >> 2 >> (ch & 63) & 1))
            mobo_fake_vmbus_open(dev, ch, NULL);
}

static void send_control(struct input *in, unsigned ch)
{
    static const uint32_t oids[] = { 0x1010e,    0x10204,    0x1021b,    0xfc01020c,
                                     0xfc01020d, 0x10203,    0x10101,    0x20216,
                                     0x1010101,  0x10106 };
    uint8_t b[300] = { 0 };
    uint32_t n = take(in, 1), len = 28 + n, oid;

    wire_put(b, take(in, 1) % 10, 4);
    wire_put(b + 4, len, 4);
    wire_put(b + 8, take(in, 1), 4);
    oid = take(in, 1);
    wire_put(b + 12,
             oid < 192   ? oids[oid % 10]
             : oid < 224 ? 0x10100 + (oid & 31)
             : oid < 240 ? 0x20100 + (oid & 15)
                         : 0x1010100 + (oid & 15),
             4);
    wire_put(b + 16, n, 4);
    wire_put(b + 20, 20, 4);
    take_bytes(in, b + 28, n);
    if (take(in, 1) & 1)
        b[take(in, 1) % 28] = (uint8_t)take(in, 1);
    memcpy(mobo_fake_ram(f) + SEND_AT, b, sizeof(b));
    rndis(ch, 1, 0, len, 0);
}

static void send_raw(struct input *in, unsigned ch)
{
    uint8_t d[64], p[128];
    uint32_t dlen = (take(in, 1) % 9) * 8, len = take(in, 1) % 129, type = take(in, 1) % 13;

    take_bytes(in, d, dlen);
    take_bytes(in, p, len);
    mobo_fake_vmbus_send(dev, ch, type, take(in, 1) & 1, ++transaction, d, dlen, p, len);
}

static void give_back(struct input *in, unsigned ch)
{
    uint8_t done[8] = { 108, 0, 0, 0, 1 };
    uint64_t t = take(in, 1) & 1 || !nlent ? take(in, 1) : lent[--nlent];

    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_COMPLETION, 0, t, NULL, 0, done, sizeof(done));
}

/* The channels that were open are open again, or none of them. */
static void restore(struct input *in)
{
    unsigned n = take(in, 1) % 8, how;
    uint8_t *buf;
    size_t len;

    mobo_fake_pause(f);
    if (mobo_fake_save(dev, (void **)&buf, &len))
        abort();
    changed |= n > 0;
    for (unsigned i = n; i && len; i--) {
        size_t at = take(in, 2) % len;

        buf[at] = (uint8_t)take(in, 1);
    }
    how = take(in, 1);
    if (how & 1)
        len -= take(in, 1) % (len + 1);
    mobo_fake_reset(f);
    if (mobo_fake_restore(dev, buf, len) && !n && !(how & 1))
        abort(); /* its own state */
    for (unsigned ch = 0; how & 2 && ch < mobo_fake_vmbus_count(dev); ch++)
        mobo_fake_vmbus_restored(dev, ch);
    mobo_fake_resume(f);
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const params[] = { "mac=02:00:00:00:00:01", "channels=3", NULL };
    static const char *const links[] = { "up", "down" };
    static uint8_t frame[4096];
    struct input in = { bytes, len };
    char ret[64] = "";

    f = mobo_fake_create();
    if (take(&in, 1) & 1)
        mobo_fake_net_max_tcp(f, 65550);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", params);
    if (!dev)
        abort();
    transaction = 1000;
    nlent = 0;
    changed = false;
    hello(0, 1);
    for (unsigned steps = 0; in.left && steps < 200; steps++) {
        unsigned count = mobo_fake_vmbus_count(dev), ch = 0, what = take(&in, 1);

        if (what & 0x80) { /* a sub-channel, if there is one */
            ch = take(&in, 1) % count;
            if (!mobo_fake_vmbus_offer(dev, ch))
                ch = 0;
        }
        switch (what & 15) {
        case 0: hello(take(&in, 1), (int)take(&in, 1) & 1); break;
        case 1: nvsp(ch, take(&in, 1), take(&in, 2), take(&in, 2), take(&in, 4)); break;
        case 2: send_raw(&in, ch); break;
        case 3: mobo_fake_vmbus_close(dev, ch); break;
        case 4: mobo_fake_vmbus_open(dev, ch, NULL); break;
        case 5:
            mobo_fake_command(dev, "link", links[take(&in, 1) & 1], ret, sizeof(ret));
            break;
        case 6: restore(&in); break;
        case 7: mobo_fake_net_room(dev, 0, take(&in, 1) & 1 ? UINT32_MAX : take(&in, 1)); break;
        case 8:
            mobo_fake_pause(f);
            mobo_fake_resume(f);
            break;
        case 9:
            if (count > 20) /* channels that were taken back add up here */
                in.left = 0;
            else
                mobo_fake_reset(f);
            break;
        case 10: mobo_fake_vmbus_room(dev, ch, take(&in, 1) & 1 ? UINT32_MAX : take(&in, 1)); break;
        case 11: give_back(&in, ch); break;
        case 12: mobo_fake_net_event(dev, 0, take(&in, 1) % 4); break;
        case 13: send_control(&in, ch); break;
        case 14: mobo_fake_net_send(dev, 0, frame, make_frame(&in, frame)); break;
        default:
            if ((what & 0x30) == 0x30)
                send_large(&in, ch);
            else if ((what & 0x30) == 0x20)
                more_channels(&in);
            else
                send_packets(&in, ch);
            break;
        }
        if (what & 0x40)
            mobo_fake_work(f);
        drain();
    }
    free(mobo_fake_inspect(dev));
    mobo_fake_destroy(f);
    return 0;
}
