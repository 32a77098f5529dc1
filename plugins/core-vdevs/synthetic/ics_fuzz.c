/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for integration services, balloon, keyboard and mouse: a guest that says anything, at
 * any time, while somebody commands the device and saves it.  Without libFuzzer: random inputs, or
 * the files on the command line. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "plugins/core-vdevs/synthetic/wire.h"
#include "sdk/test/mobo_fakehost.h"
#include "tests/fuzz/input.h"

enum { PACKET_MAX = 20480 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct mobo_fake *f;
static struct mobo_vdev *dev;
static uint8_t last[PACKET_MAX]; /* what the device said last */
static uint32_t last_len;
static uint64_t last_transaction;

static void drain(void)
{
    struct mobo_vmbus_packet p = { .size = sizeof(p) };

    while (mobo_fake_vmbus_recv(dev, 0, &p)) {
        if (p.type != MOBO_VMBUS_INBAND || p.len > sizeof(last))
            continue;
        memcpy(last, p.data, p.len);
        last_len = p.len;
        last_transaction = p.transaction;
    }
}

static void say(uint32_t type, uint32_t flags, const void *buf, uint32_t n)
{
    if (mobo_fake_vmbus_fault(dev, 0)) {
        mobo_fake_vmbus_close(dev, 0);
        mobo_fake_vmbus_open(dev, 0, NULL);
        mobo_fake_vmbus_signal(dev, 0);
        drain();
    }
    mobo_fake_vmbus_send(dev, 0, type, flags, last_transaction, NULL, 0, buf, n);
    drain();
}

/* What a proper driver says first. */
static void hello(const char *type)
{
    uint8_t m[64] = { 0 };

    if (!strcmp(type, "synthkbd")) {
        wire_put(m, 1, 4);
        wire_put(m + 4, 0x10000, 4);
        say(MOBO_VMBUS_INBAND, MOBO_VMBUS_WANTS_COMPLETION, m, 8);
    } else if (!strcmp(type, "synthmouse")) {
        wire_put(m, 1, 4);
        wire_put(m + 4, 12, 4);
        wire_put(m + 16, 0x20000, 4);
        say(MOBO_VMBUS_INBAND, MOBO_VMBUS_WANTS_COMPLETION, m, 24);
        wire_put(m + 8, 3, 4);
        say(MOBO_VMBUS_INBAND, 0, m, 24);
    } else if (!strcmp(type, "balloon")) {
        wire_put(m, 1, 2);
        wire_put(m + 2, 16, 2);
        wire_put(m + 8, 0x20000, 4);
        say(MOBO_VMBUS_INBAND, 0, m, 16);
        memset(m, 0, sizeof(m));
        wire_put(m, 3, 2);
        wire_put(m + 2, 32, 2);
        wire_put(m + 8, 3, 8);
        say(MOBO_VMBUS_INBAND, 0, m, 32);
    } else if (last_len >= 48) {
        unsigned frames = (unsigned)wire_get(last + 28, 2);

        if (frames < 4)
            memcpy(last + 40, last + 36 + 4 * frames, 4); /* our newest version */
        wire_put(last + 28, 1, 2);
        wire_put(last + 30, 1, 2);
        last[25] = 5;
        say(MOBO_VMBUS_INBAND, 0, last, last_len);
    }
}

/* A balloon driver that gives pages; some of them are not its own. */
static void give_pages(struct input *in)
{
    uint8_t m[16 + 8 * 8] = { 0 };
    unsigned n = take(in, 1) % 9;

    wire_put(m, 7, 2);
    wire_put(m + 2, 16 + 8 * n, 2);
    wire_put(m + 12, n << 1 | take(in, 1) % 2, 4);
    for (unsigned i = 0; i < n; i++)
        wire_put(m + 16 + 8 * i, take(in, 2) % 4200 | (uint64_t)(take(in, 1) % 40) << 40, 8);
    say(MOBO_VMBUS_INBAND, 0, m, 16 + 8 * n);
    wire_put(m, 9, 2);
    wire_put(m + 2, 8, 2);
    if (take(in, 1) % 4 == 0)
        say(MOBO_VMBUS_INBAND, 0, m, 8);
}

/* A balloon driver that adds of the memory that it was offered, and gives of what was added. */
static void add_memory(struct input *in)
{
    uint8_t m[16 + 8] = { 0 };
    unsigned how = take(in, 1), blocks = how % 4, pages = how & 4 ? take(in, 2) : 0;

    if (how & 8) {
        wire_put(m, 7, 2);
        wire_put(m + 2, 24, 2);
        wire_put(m + 12, 1u << 1 | (how >> 4 & 1), 4);
        wire_put(m + 16, ((1 << 20) + blocks * 32768 + pages) | (uint64_t)take(in, 2) << 40, 8);
        say(MOBO_VMBUS_INBAND, 0, m, 24);
        return;
    }
    wire_put(m, 11, 2);
    wire_put(m + 2, 16, 2);
    wire_put(m + 8, blocks * 32768 + pages, 4);
    wire_put(m + 12, 1, 4);
    say(MOBO_VMBUS_INBAND, 0, m, 16);
}

/* A service that answers with what was asked for: a pair, addresses, the next heartbeat. */
static void tell(struct input *in, const char *type)
{
    enum { BODY = 28, PAIR = BODY + 8 };
    static const uint16_t texts[] = { PAIR + 12, PAIR + 524, BODY + 260, BODY + 2308, BODY + 4356, BODY + 5380 };
    static const uint8_t types[] = { 1, 4, 8, 0 };
    unsigned how = take(in, 1), times = how & 0x80 ? 1 + take(in, 1) % 80 : 1;
    uint8_t text[2][32];

    take_bytes(in, text[0], how & 31);
    take_bytes(in, text[1], how >> 2 & 31);
    while (times-- && last_len >= BODY) {
        last[25] = 5;
        wire_put(last + 20, 0, 4);
        if (!strcmp(type, "heartbeat"))
            wire_put(last + BODY, wire_get(last + BODY, 8) + 1, 8);
        for (unsigned i = 0; i < 6; i++) {
            unsigned n = i % 2 ? how >> 2 & 31 : how & 31;

            if (texts[i] + n <= last_len)
                memcpy(last + texts[i], text[i % 2], n);
        }
        if (PAIR + 12 <= last_len && last_len < BODY + 4096) {
            wire_put(last + PAIR, types[how >> 5 & 3], 4);
            wire_put(last + PAIR + 4, how & 31, 4);
            wire_put(last + PAIR + 8, how >> 2 & 31, 4);
        }
        say(MOBO_VMBUS_INBAND, 0, last, last_len);
    }
}

/* Keys or movements of somebody. */
static void inject(struct input *in, const char *type)
{
    struct mobo_input_event e = { .size = sizeof(e) };
    unsigned n = 1 + take(in, 1) % 64;

    if (!strcmp(type, "synthkbd")) {
        e.kind = MOBO_INPUT_KEY;
        e.key = 1 + take(in, 2) % (MOBO_KEY_COUNT - 1);
    } else {
        e.kind = MOBO_INPUT_POINT;
        e.x = (int32_t)(take(in, 2) % (MOBO_POINT_MAX + 1));
        e.y = (int32_t)(take(in, 2) % (MOBO_POINT_MAX + 1));
        e.buttons = take(in, 1) % 32;
        e.wheel = (int32_t)(take(in, 1) % 255) - 127;
    }
    while (n--) {
        e.down = e.kind == MOBO_INPUT_KEY && (n & 1);
        mobo_fake_input(dev, 0, &e);
        drain();
    }
}

static void command(const char *type, unsigned n)
{
    static const struct {
        const char *type, *verb, *arg;
    } all[] = {
        { "shutdown", "shutdown", "" },
        { "shutdown", "reboot", "force now" },
        { "shutdown", "hibernate", "\xc3\xa4 \xe2\x82\xac \xf0\x9f\x98\x80 \xff" },
        { "timesync", "sync", "" },
        { "synthkbd", "type", "Hello, World\n" },
        { "synthkbd", "key", "ctrl+alt+delete" },
        { "synthkbd", "down", "shift" },
        { "synthkbd", "up", "shift" },
        { "synthmouse", "move", "1 2" },
        { "synthmouse", "click", "left" },
        { "synthmouse", "wheel", "-3" },
        { "balloon", "take", "1M" },
        { "balloon", "take", "15M" },
        { "balloon", "take", "64K" },
        { "balloon", "target", "8M" },
        { "balloon", "target", "100M" },
        { "balloon", "target", "272M" },
        { "balloon", "give", "" },
        { "balloon", "give", "4K" },
        { "balloon", "give", "1x" },
        { "vss", "freeze", "" },
        { "vss", "thaw", "" },
        { "kvp", "set", "external a b" },
        { "kvp", "get", "guest a" },
        { "kvp", "get", "external k" },
        { "kvp", "delete", "external a" },
        { "kvp", "get-ip", "{0}" },
        { "kvp", "get-ip", "{0} ipv6" },
        { "kvp", "set-ip", "{0} 1.2.3.4 255.0.0.0" },
        { "kvp", "set-ip", "{0} fe80::1 64 :: ::1" },
        { "kvp", "set-ip", "{0} dhcp" },
        { "kvp", "refresh", "" },
        { "fcopy", "copy", "/proc/version /tmp/x" },
        { "fcopy", "copy", "/etc/passwd /tmp/x overwrite" },
        { "fcopy", "copy", "/proc/self/exe \"/tmp/a b/x\" create-path" },
        { "fcopy", "copy", "/proc/self /tmp/x" },
        { "fcopy", "cancel", "" },
        { "", "dance", "" },
    };
    char ret[200] = "";
    unsigned i = 0;

    for (n %= 16;; i = (i + 1) % (sizeof(all) / sizeof(all[0]))) /* of those that this device knows, and one */
        if ((!*all[i].type || !strcmp(all[i].type, type)) && !n--)
            break;
    mobo_fake_command(dev, all[i].verb, all[i].arg, ret, sizeof(ret));
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
    static const char *const balloon_params[] = { "minimum=1M", "maximum=272M", NULL };
    static const char *const fixed_params[] = { "minimum=1M", NULL };
    static const char *const kvp_params[] = { "values=a=b, c=d", "host-values=e=f", NULL };
    static uint8_t raw[PACKET_MAX];
    struct input in = { data, len };
    const char *type = mobo_vdev_descriptor.type;
    const char *const *params = !strcmp(type, "balloon") ? (len % 4 ? fixed_params : balloon_params)
                                : !strcmp(type, "kvp")   ? kvp_params
                                                         : NULL;
    char *text;
    uint32_t n;

    f = mobo_fake_create();
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", params);
    if (!dev)
        abort();
    last_len = 0;
    mobo_fake_vmbus_open(dev, 0, NULL);
    mobo_fake_vmbus_signal(dev, 0);
    drain();
    for (unsigned steps = 0; in.left && steps < 400; steps++) {
        unsigned what = take(&in, 1);

        switch (what < 195 ? what % 13 : 13 + what % 5) {
        case 0: hello(type); break;
        case 1:
        case 2: /* an answer, with a few bytes changed */
            last[25] = 5;
            if (take(&in, 1) % 4)
                wire_put(last + 20, 0, 4);
            for (n = take(&in, 1) % 4; n && last_len; n--) {
                uint32_t at = take(&in, 2) % (last_len < 64 || take(&in, 1) % 4 ? last_len : 64);

                last[at] = (uint8_t)take(&in, 1);
            }
            say(MOBO_VMBUS_INBAND, 0, last, last_len);
            break;
        case 3: /* any bytes */
            n = take(&in, 1);
            for (uint32_t i = 0; i < n; i++)
                raw[i] = (uint8_t)take(&in, 1);
            say(MOBO_VMBUS_INBAND, take(&in, 1) & 1, raw, n);
            break;
        case 4: /* a long message with a sound beginning */
            memset(raw, 0, sizeof(raw));
            for (uint32_t i = 0; i < 48; i++)
                raw[i] = (uint8_t)take(&in, 1);
            wire_put(raw, take(&in, 1) % 14, 2);
            n = take(&in, 2) % 4097;
            wire_put(raw + 2, n, 2);
            say(MOBO_VMBUS_INBAND, 0, raw, n);
            break;
        case 5: say(take(&in, 1) % 16, 0, last, last_len); break;
        case 6: mobo_fake_step(f, (uint64_t)take(&in, 2) * 1000000); break;
        case 7:
            mobo_fake_vmbus_close(dev, 0);
            mobo_fake_vmbus_open(dev, 0, NULL);
            mobo_fake_vmbus_signal(dev, 0);
            break;
        case 8:
        case 9: command(type, take(&in, 1)); break;
        case 10:
            mobo_fake_vmbus_room(dev, 0, take(&in, 1) % 4 ? UINT32_MAX : take(&in, 1) % 3);
            break;
        case 11: restore_mutated(&in); break;
        case 12:
            if (strstr(type, "synth"))
                inject(&in, type);
            else
                give_pages(&in);
            break;
        case 13:
        case 14:
            if (!strcmp(type, "balloon"))
                add_memory(&in);
            else
                tell(&in, type);
            break;
        case 15: restore_same(); break;
        case 16: mobo_fake_wall(f, (int64_t)take64(&in, 8) / 2); break;
        case 17:
            mobo_fake_pause(f);
            restore_same();
            mobo_fake_resume(f);
            break;
        }
        drain();
    }
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    text = mobo_fake_inspect(dev);
    if (!text)
        abort();
    free(text);
    mobo_fake_reset(f);
    restore_same();
    /* A restore a byte of the state takes more time than all else. */
    if (len % 16 == 1 && mobo_fake_roundtrip(dev)) {
        fprintf(stderr, "%s\n", mobo_fake_error(f));
        abort();
    }
    mobo_fake_destroy(f);
    return 0;
}
