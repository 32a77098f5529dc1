/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for synthetic video: a guest that sends any message at any time, while viewers come and go and
 * somebody saves it.  The fake host reads what the device says is a picture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/core-vdevs/synthetic/wire.h"
#include "sdk/test/mobo_fakehost.h"
#include "tests/fuzz/input.h"

enum { PACKET_MAX = 16384, HEAD = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct mobo_fake *f;
static struct mobo_vdev *dev;

/* What the device says, and what it shows, has to be sound. */
static void drain(void)
{
    struct mobo_vmbus_packet p = { .size = sizeof(p) };
    int32_t r[4];

    while (mobo_fake_vmbus_recv(dev, 0, &p))
        if (p.type == MOBO_VMBUS_INBAND && (p.len < HEAD || wire_get(p.data + 4, 4) > p.len - 8 ||
                                            wire_get(p.data + 4, 4) != wire_get(p.data + 12, 4)))
            abort();
    while (mobo_fake_display_dirty(dev, 0, r))
        if (r[2] == 0 || r[3] == 0)
            abort();
    if (mobo_fake_vmbus_fault(dev, 0)) {
        mobo_fake_vmbus_close(dev, 0);
        mobo_fake_vmbus_open(dev, 0, NULL);
    }
}

static void say(uint32_t type, const uint8_t *body, uint32_t len)
{
    static uint8_t m[HEAD + PACKET_MAX];

    wire_put(m, 1, 4);
    wire_put(m + 4, 8 + len, 4);
    wire_put(m + 8, type, 4);
    wire_put(m + 12, 8 + len, 4);
    memcpy(m + HEAD, body, len);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m, HEAD + len);
    drain();
}

/* Numbers that matter, or any. */
static uint32_t number(struct input *in)
{
    static const uint32_t list[] = {
        0,    1,    2,    16,   96,   97,   480,        640,        768,        1024,   4095,
        4096, 8192, 8193, 1600, 3200, 2560, 0x7fffffff, 0x80000000, 0xffffffff, 8 << 20
    };
    unsigned n = take(in, 1);

    return n < sizeof(list) / sizeof(list[0]) ? list[n] : n < 128 ? n : take(in, 4);
}

static void situation(struct input *in)
{
    static const uint8_t depths[] = { 32, 32, 24, 16, 15, 8 };
    uint8_t b[27] = { 0 };

    b[8] = (uint8_t)(take(in, 1) % 3);
    b[9] = (uint8_t)(take(in, 1) % 4);
    wire_put(b + 10, number(in), 4);
    b[14] = depths[take(in, 1) % sizeof(depths)];
    for (unsigned i = 0; i < 3; i++)
        wire_put(b + 15 + 4 * i, number(in), 4);
    say(5, b, sizeof(b));
}

static void place(struct input *in)
{
    static const uint64_t list[] = { 0,          0x1000,        4 << 20, 8 << 20, 12 << 20,
                                     0xf8000000, 0xfffffff000u, 0xa0000, 1,       UINT64_MAX };
    unsigned n = take(in, 1);
    uint8_t b[17] = { 0 };

    b[8] = n % 8 != 0;
    wire_put(b + 9, n < 200 ? list[n % 10] : take64(in, 8), 8);
    say(3, b, sizeof(b));
}

static void shape(struct input *in)
{
    static uint8_t b[18 + 16000];
    uint32_t len;

    b[0] = (uint8_t)(take(in, 1) % 4 ? 255 : take(in, 1) % 5);
    b[1] = (uint8_t)(take(in, 1) % 2);
    for (unsigned i = 0; i < 4; i++)
        wire_put(b + 2 + 4 * i, number(in), 4);
    len = take(in, 2) % 16001;
    memset(b + 18, (int)take(in, 1), len);
    say(8, b, 18 + len);
}

static void any(struct input *in)
{
    uint8_t b[256];
    uint32_t type = take(in, 1) % 20, len = take(in, 1);

    for (uint32_t i = 0; i < len; i++)
        b[i] = (uint8_t)take(in, 1);
    say(type, b, len);
}

/* Bytes that are no message at all. */
static void noise(struct input *in)
{
    uint8_t b[256];
    uint32_t len = take(in, 1);

    for (uint32_t i = 0; i < len; i++)
        b[i] = (uint8_t)take(in, 1);
    mobo_fake_vmbus_send(dev, 0, take(in, 1) % 16, take(in, 1) & 1, 7, NULL, 0,
                         b, len);
    drain();
}

/* What a device saves it takes, and it is the same then. */
static void restore_same(void)
{
    if (mobo_fake_same(dev)) {
        fprintf(stderr, "%s\n", mobo_fake_error(f));
        abort();
    }
}

static void restore_mutated(struct input *in)
{
    uint8_t *buf;
    size_t len;

    if (mobo_fake_save(dev, (void **)&buf, &len))
        abort();
    for (unsigned n = take(in, 1) % 8; n && len; n--) {
        size_t at = take(in, 2) % len;

        buf[at] = (uint8_t)take(in, 1);
    }
    mobo_fake_restore(dev, buf, len);
    free(buf);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static const char *const params[] = { "vram=4M", NULL };
    static const uint8_t versions[] = { 5, 5, 5, 4, 3, 2, 0, 1 };
    struct input in = { data, len };
    uint8_t b[4] = { 3, 0, 5, 0 };
    char *text;

    f = mobo_fake_create();
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", params);
    if (!dev)
        abort();
    mobo_fake_vmbus_open(dev, 0, NULL);
    say(1, b, 4);
    for (unsigned steps = 0; in.left && steps < 300; steps++) {
        switch (take(&in, 1) % 14) {
        case 0:
            b[2] = versions[take(&in, 1) % sizeof(versions)];
            say(1, b, 4);
            break;
        case 1: place(&in); break;
        case 2:
        case 3: situation(&in); break;
        case 4: shape(&in); break;
        case 5:
        case 6: any(&in); break;
        case 7: noise(&in); break;
        case 8: mobo_fake_display_watch(dev, 0, take(&in, 1) & 1); break;
        case 9: mobo_fake_display_hint(dev, 0, number(&in), number(&in)); break;
        case 10: mobo_fake_step(f, take64(&in, 2) * 1000000); break;
        case 11:
            mobo_fake_vmbus_close(dev, 0);
            mobo_fake_vmbus_open(dev, 0, NULL);
            b[2] = 5;
            say(1, b, 4);
            break;
        case 12: mobo_fake_vmbus_room(dev, 0, take(&in, 1) % 4 ? UINT32_MAX : 1); break;
        case 13: restore_mutated(&in); break;
        }
        drain();
    }
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    text = mobo_fake_inspect(dev);
    if (!text)
        abort();
    free(text);
    restore_same();
    /* A restore a byte of the state takes more time than all else. */
    if (len % 8 == 1 && mobo_fake_roundtrip(dev)) {
        fprintf(stderr, "%s\n", mobo_fake_error(f));
        abort();
    }
    mobo_fake_reset(f);
    if (mobo_fake_display_surface(dev, 0))
        abort();
    mobo_fake_destroy(f);
    return 0;
}
