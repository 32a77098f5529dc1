/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target for storvsp: a guest that sends any packet in any state, disks that fail, commands of
 * people, saved states with changed bytes. */
#include <errno.h>
#include <mobo/vdev.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "sdk/test/mobo_fakehost.h"
#include "tests/fuzz/input.h"

enum { DISK_LEN = 256 << 10, DATA = 0x100000 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static struct mobo_fake *f;
static struct mobo_vdev *dev;
static uint8_t disk[DISK_LEN];
static uint64_t transaction;
static bool changed; /* a state with changed bytes was taken: it may have any transaction */

/* Answers are complete, and to something that was asked. */
static void drain(void)
{
    for (unsigned ch = 0; ch < mobo_fake_vmbus_count(dev); ch++) {
        struct mobo_vmbus_packet p = { .size = sizeof(p) };

        while (mobo_fake_vmbus_recv(dev, ch, &p)) {
            if (p.type == MOBO_VMBUS_COMPLETION && p.transaction > transaction && !changed)
                abort();
            if (p.len != 64 && p.len != 48)
                abort();
        }
    }
}

static void send_control(unsigned ch, uint32_t op, uint16_t val, unsigned len)
{
    uint8_t p[64] = { (uint8_t)op };

    memcpy(p + 12, &val, 2);
    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_INBAND, 1, ++transaction, NULL, 0, p, len);
}

static void hello(uint16_t version)
{
    unsigned len = version < 0x0501 ? 48 : 64;

    if (mobo_fake_vmbus_fault(dev, 0))
        mobo_fake_vmbus_close(dev, 0);
    mobo_fake_vmbus_open(dev, 0, NULL);
    send_control(0, 7, 0, len);
    send_control(0, 9, version, len);
    send_control(0, 10, 0, len);
    send_control(0, 8, 0, len);
}

/* Commands that are about right: the length in sectors fits the memory now and then. */
static const uint8_t opcodes[] = {
    0x00, 0x03, 0x04, 0x08, 0x0a, 0x0b, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x1d,
    0x1e, 0x25, 0x28, 0x2a, 0x2b, 0x2e, 0x2f, 0x35, 0x41, 0x42, 0x43, 0x46, 0x4a,
    0x51, 0x52, 0x55, 0x56, 0x57, 0x5a, 0x5c, 0x5e, 0x5f, 0x88, 0x8a, 0x8e, 0x8f,
    0x91, 0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xac, 0xad, 0xae, 0xaf, 0xb6, 0xbd,
};

static void send_srb(struct input *in, unsigned ch)
{
    static const uint8_t luns[] = { 0, 1, 9, 63 };
    uint8_t p[64] = { 3 }, d[16 + 8 * 16] = { 0 };
    uint32_t mem = take(in, 2), off = take(in, 2) & 0xfff, one = 1, n, bytes = take(in, 2), pages;
    uint8_t how = (uint8_t)take(in, 1);

    mem %= 16 * 4096 - off;
    pages = (off + mem + 4095) / 4096;
    if (how & 1)
        bytes = mem;
    p[12 + 7] = luns[how >> 1 & 3];
    p[12 + 8] = how & 8 ? (uint8_t)take(in, 1) : 16;
    p[12 + 9] = 20;
    p[12 + 10] = how >> 4 & 1;
    memcpy(p + 12 + 12, &bytes, 4);
    n = take(in, 1) % 17;
    take_bytes(in, p + 12 + 16, n);
    p[12 + 16] = n & 3 ? opcodes[p[12 + 16] % sizeof(opcodes)] : p[12 + 16];
    if (how & 0x20) /* a parameter list */
        take_bytes(in, mobo_fake_ram(f) + DATA + off, take(in, 1) % 64);
    memcpy(d + 4, &one, 4);
    memcpy(d + 8, &mem, 4);
    memcpy(d + 12, &off, 4);
    for (uint32_t i = 0; i < pages; i++) {
        uint64_t pfn = DATA / 4096 + (how & 0x40 ? i * 2 : i);

        memcpy(d + 16 + 8 * i, &pfn, 8);
    }
    mobo_fake_vmbus_queue(dev, ch, mem ? MOBO_VMBUS_GPA_DIRECT : MOBO_VMBUS_INBAND, 1,
                          ++transaction, mem ? d : NULL, mem ? 16 + 8 * pages : 0, p, 64);
    if (how & 0x80)
        mobo_fake_vmbus_signal(dev, ch);
}

static void send_raw(struct input *in, unsigned ch)
{
    uint8_t d[64], p[128];
    uint32_t dlen = (take(in, 1) % 9) * 8, len = take(in, 1) % 129, type = take(in, 1) % 13;

    take_bytes(in, d, dlen);
    take_bytes(in, p, len);
    mobo_fake_vmbus_send(dev, ch, type, take(in, 1) & 1, ++transaction, d, dlen, p, len);
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

/* A request that is right, which may have to wait: for space on the host, or for room for its answer. */
static void send_sound(struct input *in, unsigned ch)
{
    uint8_t how = (uint8_t)take(in, 1), p[64] = { 3 }, d[16 + 16] = { 0 }, *cdb = p + 12 + 16;
    uint8_t *mem = mobo_fake_ram(f) + DATA;
    uint32_t one = 1, len = 512 * (1 + take(in, 1) % 16);
    uint64_t pfn = DATA / 4096;

    p[12 + 8] = 10;
    p[12 + 9] = 20;
    switch (how & 3) {
    case 0: /* READ and WRITE */
        cdb[0] = how & 4 ? 0x2a : 0x28;
        cdb[5] = (uint8_t)take(in, 1);
        cdb[8] = (uint8_t)(len / 512);
        break;
    case 1: /* PERSISTENT RESERVE OUT */
        cdb[0] = 0x5f;
        cdb[1] = (uint8_t)(take(in, 1) % 8);
        cdb[2] = (uint8_t)(take(in, 1) % 10);
        cdb[8] = (uint8_t)(len = 24);
        memset(mem, 0, len);
        mem[7] = (uint8_t)(take(in, 1) % 2);
        mem[15] = (uint8_t)(take(in, 1) % 2);
        break;
    case 2: /* READ DVD STRUCTURE */
        p[12 + 7] = 9;
        p[12 + 8] = 12;
        cdb[0] = 0xad;
        cdb[6] = (uint8_t)(take(in, 1) % 2);
        cdb[7] = (uint8_t)(take(in, 1) % 6);
        cdb[8] = (uint8_t)(len >> 8);
        break;
    case 3: /* UNMAP */
        cdb[0] = 0x42;
        cdb[8] = (uint8_t)(len = 24);
        memset(mem, 0, len);
        mem[1] = 22;
        mem[3] = 16;
        mem[15] = (uint8_t)take(in, 1);
        mem[19] = (uint8_t)take(in, 1);
        break;
    }
    p[12 + 10] = cdb[0] == 0x28 || cdb[0] == 0xad;
    memcpy(p + 12 + 12, &len, 4);
    memcpy(d + 4, &one, 4);
    memcpy(d + 8, &len, 4);
    for (unsigned i = 0; i < 2; i++, pfn++)
        memcpy(d + 16 + 8 * i, &pfn, 8);
    if (how & 0x10)
        mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -ENOSPC);
    if (how & 0x20)
        mobo_fake_vmbus_room(dev, ch, 0);
    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_GPA_DIRECT, 1, ++transaction, d, len > 4096 ? 32 : 24, p, 64);
    if (how & 0x40) {
        mobo_fake_work(f);
        restore(in);
    }
}

static void command(unsigned n)
{
    static const char *const all[][2] = {
        { "add", "5 disk" }, { "add", "63 disc" },   { "remove", "5" },  { "remove", "0" },
        { "eject", "9" },    { "insert", "9 disc" }, { "remove", "63" }, { "add", "0 disk" },
        { "insert", "9" },   { "add", "99 disk" },
    };
    char ret[100] = "";

    n %= sizeof(all) / sizeof(all[0]);
    mobo_fake_command(dev, all[n][0], all[n][1], ret, sizeof(ret));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    static const char *const params[] = { "image=disk", "lun1=disk",        "lun9=disc",
                                          "channels=3", "max-transfer=64K", NULL };
    static const char *const ide_params[] = { "form=ide", "image=disk", NULL };
    static const uint16_t versions[] = { 0x0602, 0x0200, 0x0402, 0x0501 };
    static const int errors[] = { -EIO, -ENOSPC, -ENOMEM, -EINVAL };
    struct mobo_block_info di = { .size = sizeof(di),
                                  .flags = MOBO_BLOCK_DISCARD,
                                  .len = DISK_LEN,
                                  .sector = 512,
                                  .physical = 4096 };
    struct mobo_block_info ci = { .size = sizeof(ci),
                                  .flags = MOBO_BLOCK_CDROM | MOBO_BLOCK_READ_ONLY,
                                  .len = DISK_LEN,
                                  .sector = 512,
                                  .physical = 512 };
    struct input in = { bytes, len };
    char *text;

    f = mobo_fake_create();
    mobo_fake_disk(f, "disk", disk, &di);
    mobo_fake_disk(f, "disc", disk, &ci);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "dut", len % 8 ? params : ide_params);
    if (!dev)
        abort();
    transaction = 0;
    changed = false;
    hello(versions[0]);
    for (unsigned steps = 0; in.left && steps < 200; steps++) {
        unsigned count = mobo_fake_vmbus_count(dev), ch = 0, what = take(&in, 1);

        if (what & 0x80) { /* a sub-channel, if there is one */
            ch = take(&in, 1) % count;
            if (!mobo_fake_vmbus_offer(dev, ch))
                ch = 0;
        }
        switch (what & 15) {
        case 0: hello(versions[take(&in, 1) & 3]); break;
        case 1: send_control(ch, take(&in, 1) % 16, (uint16_t)take(&in, 2), 64); break;
        case 2: send_raw(&in, ch); break;
        case 3: mobo_fake_vmbus_close(dev, ch); break;
        case 4: mobo_fake_vmbus_open(dev, ch, NULL); break;
        case 5: command(take(&in, 1)); break;
        case 6: restore(&in); break;
        case 7: mobo_fake_disk_fail(f, "disk", take(&in, 1) % 6, errors[take(&in, 1) & 3]); break;
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
        case 10: mobo_fake_work(f); break;
        case 11: mobo_fake_vmbus_room(dev, ch, take(&in, 1) & 1 ? UINT32_MAX : take(&in, 1)); break;
        default:
            if ((what & 0x3f) == 0x3c)
                send_sound(&in, ch);
            else
                send_srb(&in, ch);
            break;
        }
        if (what & 0x40)
            mobo_fake_work(f);
        drain();
    }
    mobo_fake_disk_fail(f, "disk", 0, 0);
    text = mobo_fake_inspect(dev);
    free(text);
    mobo_fake_destroy(f);
    return 0;
}
