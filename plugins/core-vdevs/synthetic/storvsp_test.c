/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of storvsp: the protocol, every command of disks and discs, bad input, saved state. */
#include <errno.h>
#include <mobo/vdev.h>
#include <stdbool.h>

#include "plugins/test.h"

enum { DISK_LEN = 1 << 20, CD_LEN = 64 * 2048, DATA = 0x100000 /* guest address of data */ };
enum { OP_SRB = 3, OP_BEGIN = 7, OP_END = 8, OP_VERSION = 9, OP_PROPERTIES = 10, OP_SUB = 13 };

static uint8_t *disk, *disc;

struct answer {
    uint32_t op, status;
    uint8_t srb_status, scsi_status, sense_len;
    uint32_t len;
    uint8_t sense[20];
    uint8_t body[52];
};

static int setup(void **state)
{
    static const char *const params[] = { "lun0=disk", "lun3=ro", "lun9=disc", "channels=3", NULL };
    struct mobo_block_info di = { .size = sizeof(di),
                                  .flags = MOBO_BLOCK_DISCARD | MOBO_BLOCK_DISCARD_ZEROES,
                                  .len = DISK_LEN,
                                  .sector = 512,
                                  .physical = 4096,
                                  .discard_unit = 4096 };
    struct mobo_block_info ci = { .size = sizeof(ci),
                                  .flags = MOBO_BLOCK_CDROM | MOBO_BLOCK_READ_ONLY,
                                  .len = CD_LEN,
                                  .sector = 512,
                                  .physical = 512 };
    struct mobo_block_info ri = di;

    (void)state;
    ri.flags = MOBO_BLOCK_READ_ONLY;
    disk = calloc(1, DISK_LEN);
    disc = calloc(1, CD_LEN);
    for (unsigned i = 0; i < DISK_LEN; i++)
        disk[i] = (uint8_t)(i >> 9 ^ i * 7);
    for (unsigned i = 0; i < CD_LEN; i++)
        disc[i] = (uint8_t)(i >> 11);
    f = mobo_fake_create();
    mobo_fake_disk(f, "disk", disk, &di);
    mobo_fake_disk(f, "ro", disk, &ri);
    mobo_fake_disk(f, "disc", disc, &ci);
    mobo_fake_disk(f, "other", disc, &ci);
    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "disk0", params);
    return dev ? 0 : -1;
}

static int done(void **state)
{
    teardown(state);
    free(disk);
    free(disc);
    return 0;
}

/* ---- the guest's side ---------------------------------------------------------------------------- */

static uint64_t next_transaction = 100;
static unsigned packet_len = 64;

static bool get_answer(unsigned ch, uint64_t transaction, struct answer *a)
{
    struct mobo_vmbus_packet p;

    memset(a, 0, sizeof(*a));
    if (!mobo_fake_vmbus_recv(dev, ch, &p))
        return false;
    assert_int_equal(p.type, MOBO_VMBUS_COMPLETION);
    assert_int_equal(p.transaction, transaction);
    assert_int_equal(p.len, packet_len);
    memcpy(&a->op, p.data, 4);
    memcpy(&a->status, p.data + 8, 4);
    memcpy(a->body, p.data + 12, p.len - 12);
    a->srb_status = p.data[12 + 2];
    a->scsi_status = p.data[12 + 3];
    a->sense_len = p.data[12 + 9];
    memcpy(&a->len, p.data + 12 + 12, 4);
    memcpy(a->sense, p.data + 12 + 16, 20);
    assert_int_equal(a->op, 1);
    return true;
}

static uint32_t control(unsigned ch, uint32_t op, uint16_t val, struct answer *a)
{
    uint8_t p[64] = { (uint8_t)op };
    struct answer mine;

    p[4] = 1;
    memcpy(p + 12, &val, 2);
    mobo_fake_vmbus_send(dev, ch, MOBO_VMBUS_INBAND, 1, ++next_transaction, NULL, 0, p, packet_len);
    assert_true(get_answer(ch, next_transaction, a ? a : &mine));
    return (a ? a : &mine)->status;
}

static void connect_guest(void)
{
    struct answer a;
    uint16_t max;
    uint32_t flags, transfer;

    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    assert_int_equal(control(0, OP_BEGIN, 0, NULL), 0);
    assert_int_equal(control(0, OP_VERSION, 0x0703, NULL), 0xc0000059);
    assert_int_equal(control(0, OP_VERSION, 0x0602, NULL), 0);
    assert_int_equal(control(0, OP_PROPERTIES, 0, &a), 0);
    memcpy(&max, a.body + 4, 2);
    memcpy(&flags, a.body + 8, 4);
    memcpy(&transfer, a.body + 12, 4);
    assert_int_equal(max, 2);
    assert_int_equal(flags, 1);
    assert_int_equal(transfer, 8 << 20);
    assert_int_equal(control(0, OP_END, 0, NULL), 0);
}

struct srb {
    uint8_t path, target, lun, cdb_len, dir, cdb[16];
    uint32_t len; /* of the command */
    uint32_t mem; /* of the memory that the packet names */
    uint32_t off; /* of the data in its first page */
};

static void send_srb_to(unsigned ch, const struct srb *s)
{
    uint8_t p[64] = { OP_SRB }, d[8 + 8 + 8 * 32] = { 0 };
    uint32_t one = 1, pages = (s->off + s->mem + 4095) / 4096;

    assert_true(pages <= 32);
    p[4] = 1;
    p[12] = 0x34;
    p[12 + 5] = s->path;
    p[12 + 6] = s->target;
    p[12 + 7] = s->lun;
    p[12 + 8] = s->cdb_len;
    p[12 + 9] = 20;
    p[12 + 10] = s->dir;
    memcpy(p + 12 + 12, &s->len, 4);
    memcpy(p + 12 + 16, s->cdb, 16);
    memcpy(d + 4, &one, 4);
    memcpy(d + 8, &s->mem, 4);
    memcpy(d + 12, &s->off, 4);
    for (uint32_t i = 0; i < pages; i++) {
        uint64_t pfn = DATA / 4096 + i;

        memcpy(d + 16 + 8 * i, &pfn, 8);
    }
    mobo_fake_vmbus_queue(dev, ch, s->mem ? MOBO_VMBUS_GPA_DIRECT : MOBO_VMBUS_INBAND, 1,
                          ++next_transaction, s->mem ? d : NULL, s->mem ? 16 + 8 * pages : 0, p,
                          packet_len);
}

static void send_srb(const struct srb *s)
{
    send_srb_to(0, s);
}

static uint8_t *data(void)
{
    return mobo_fake_ram(f) + DATA;
}

/* Run a command to its end.  @dir 1: from the device. */
static struct answer cmd_at(uint8_t lun, const uint8_t *cdb, uint8_t cdb_len, uint8_t dir,
                            uint32_t len)
{
    struct srb s = { .lun = lun, .cdb_len = cdb_len, .dir = dir, .len = len, .mem = len };
    struct answer a;

    memcpy(s.cdb, cdb, cdb_len);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.status, 0);
    return a;
}

#define CMD(lun, dir, len, ...)                                                               \
    cmd_at((lun), (const uint8_t[]){ __VA_ARGS__ }, sizeof((const uint8_t[]){ __VA_ARGS__ }), \
           (dir), (len))
#define GOOD(...)                            \
    do {                                     \
        struct answer g_ = CMD(__VA_ARGS__); \
        assert_int_equal(g_.srb_status, 1);  \
        assert_int_equal(g_.scsi_status, 0); \
    } while (0)
#define SENSE(key, asc, ...)                                       \
    do {                                                           \
        struct answer s_ = CMD(__VA_ARGS__);                       \
        assert_int_equal(s_.srb_status, 0x84);                     \
        assert_int_equal(s_.scsi_status, 2);                       \
        assert_int_equal(s_.sense_len, 18);                        \
        assert_int_equal(s_.sense[2], (key));                      \
        assert_int_equal(s_.sense[12] << 8 | s_.sense[13], (asc)); \
    } while (0)

static uint32_t be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* A person's. */
static int command(const char *verb, const char *arg)
{
    char ret[128] = "";

    return mobo_fake_command(dev, verb, arg, ret, sizeof(ret));
}

static void take_all(void)
{
    struct mobo_vmbus_packet p;

    while (mobo_fake_vmbus_recv(dev, 0, &p))
        ;
}

/* ---- protocol ------------------------------------------------------------------------------------- */

static void test_connect(void **state)
{
    const struct mobo_vmbus_offer *o = mobo_fake_vmbus_offer(dev, 0);
    static const uint8_t class_id[16] =
        MOBO_GUID(0xba6163d9, 0x04a1, 0x4d29, 0xb6, 0x05, 0x72, 0xe2, 0xff, 0xb1, 0xdc, 0x7f);

    (void)state;
    assert_memory_equal(o->class_id, class_id, 16);
    assert_int_equal(o->flags, MOBO_VMBUS_ENUMERATE_DEVICE);
    connect_guest();
    /* out of order */
    assert_int_equal(control(0, OP_PROPERTIES, 0, NULL), 0xc0000184);
    assert_int_equal(control(0, 99, 0, NULL), 0xc0000010);
    /* sub-channels: as many as there are, once */
    assert_int_equal(control(0, OP_SUB, 3, NULL), 0xc000000d);
    assert_int_equal(control(0, OP_SUB, 0, NULL), 0xc000000d);
    assert_int_equal(control(0, OP_SUB, 2, NULL), 0);
    assert_int_equal(control(0, OP_SUB, 1, NULL), 0xc0000184);
    assert_int_equal(mobo_fake_vmbus_count(dev), 3);
    assert_int_equal(mobo_fake_vmbus_offer(dev, 2)->sub_index, 2);
    assert_int_equal(mobo_fake_vmbus_open(dev, 1, NULL), 0);
    assert_int_equal(control(1, OP_BEGIN, 0, NULL), 0xc0000010); /* not there */
    /* closing the primary takes them back */
    mobo_fake_vmbus_close(dev, 0);
    assert_null(mobo_fake_vmbus_offer(dev, 1));
    assert_null(mobo_fake_vmbus_offer(dev, 2));
    connect_guest();
}

static void test_old_versions(void **state)
{
    static const uint16_t old[] = { 0x0200, 0x0402 };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        struct answer a;

        packet_len = 48;
        assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
        assert_int_equal(control(0, OP_BEGIN, 0, NULL), 0);
        assert_int_equal(control(0, OP_VERSION, old[i], NULL), 0);
        assert_int_equal(control(0, OP_PROPERTIES, 0, &a), 0);
        assert_int_equal(a.body[4] | a.body[8], 0); /* no more channels */
        assert_int_equal(control(0, OP_END, 0, NULL), 0);
        GOOD(0, 1, 512, 0x28, 0, 0, 0, 0, 5, 0, 0, 1, 0);
        assert_memory_equal(data(), disk + 5 * 512, 512);
        mobo_fake_vmbus_close(dev, 0);
        packet_len = 64;
    }
}

static void test_too_early(void **state)
{
    struct answer a;
    struct srb s = { .cdb_len = 6, .len = 0 };

    (void)state;
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    assert_int_equal(control(0, OP_VERSION, 0x0602, NULL), 0xc0000184);
    assert_int_equal(control(0, OP_END, 0, NULL), 0xc0000184);
    assert_int_equal(control(0, OP_SUB, 1, NULL), 0xc0000184);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.status, 0xc0000184);
}

static void test_bad_packets(void **state)
{
    uint8_t p[64] = { OP_SRB }, d[64] = { 0 };
    struct srb s = { .cdb_len = 10, .dir = 1, .len = 512, .mem = 512, .cdb = { 0x28 } };
    struct answer a;

    (void)state;
    connect_guest();
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_INBAND, 1, 1, NULL, 0, p, 40);
    assert_string_equal(mobo_fake_vmbus_fault(dev, 0), "a packet is too short");
    connect_guest();
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_XFER_PAGES, 1, 1, NULL, 0, p, 64);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    connect_guest();
    d[4] = 200; /* ranges that are not there */
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_GPA_DIRECT, 1, 1, d, 16, p, 64);
    assert_non_null(mobo_fake_vmbus_fault(dev, 0));
    connect_guest();
    d[4] = 1; /* memory that is not RAM */
    d[9] = 16;
    memset(d + 16, 0x77, 4);
    mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_GPA_DIRECT, 1, 7, d, 24, p, 64);
    assert_true(get_answer(0, 7, &a));
    assert_int_equal(a.srb_status, 6);
    /* command blocks and lengths that cannot be */
    s.cdb_len = 17;
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.srb_status, 6);
    s.cdb_len = 10;
    s.len = 513;
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.srb_status, 6);
    assert_null(mobo_fake_vmbus_fault(dev, 0));
}

static void test_nobody(void **state)
{
    struct answer a;
    struct srb s = { .path = 3,
                     .target = 1,
                     .cdb_len = 12,
                     .dir = 1,
                     .len = 64,
                     .mem = 64,
                     .cdb = { 0xa0, [9] = 64 } };

    (void)state;
    connect_guest();
    a = CMD(7, 1, 36, 0x12, 0, 0, 0, 36, 0);
    assert_int_equal(a.srb_status, 1);
    assert_int_equal(data()[0], 0x7f);
    a = CMD(7, 1, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    assert_int_equal(a.srb_status, 0x20);
    assert_int_equal(a.len, 0);
    /* another target has an empty list */
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.len, 8);
    assert_int_equal(be32(data()), 0);
    /* this one's list */
    a = CMD(0, 1, 64, 0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0);
    assert_int_equal(be32(data()), 24);
    assert_int_equal(a.len, 32);
    assert_int_equal(data()[8 + 1], 0);
    assert_int_equal(data()[16 + 1], 3);
    assert_int_equal(data()[24 + 1], 9);
}

/* ---- disks ---------------------------------------------------------------------------------------- */

static void test_read_write(void **state)
{
    struct srb s = { .cdb_len = 10,
                     .dir = 1,
                     .len = 8192,
                     .mem = 12288,
                     .off = 512,
                     .cdb = { 0x28, [5] = 16, [8] = 16 } };
    struct answer a;

    (void)state;
    connect_guest();
    GOOD(0, 1, 1024, 0x08, 0, 0, 3, 2, 0);
    assert_memory_equal(data(), disk + 3 * 512, 1024);
    GOOD(0, 1, 4096, 0x28, 0, 0, 0, 1, 0, 0, 0, 8, 0);
    assert_memory_equal(data(), disk + 256 * 512, 4096);
    GOOD(0, 1, 512, 0xa8, 0, 0, 0, 7, 0xff, 0, 0, 0, 1, 0, 0);
    assert_memory_equal(data(), disk + 2047 * 512, 512);
    GOOD(0, 1, 512, 0x88, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 1, 0, 0);
    assert_memory_equal(data(), disk + 9 * 512, 512);
    /* memory that begins within a page and is more than asked for */
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.len, 8192);
    assert_memory_equal(data() + 512, disk + 16 * 512, 8192);
    /* writes */
    memset(data(), 0x5a, 4096);
    GOOD(0, 0, 1024, 0x0a, 0, 0, 20, 2, 0);
    GOOD(0, 0, 512, 0x2a, 8, 0, 0, 0, 30, 0, 0, 1, 0);
    GOOD(0, 0, 512, 0xaa, 0, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0);
    GOOD(0, 0, 512, 0x8a, 0, 0, 0, 0, 0, 0, 0, 0, 50, 0, 0, 0, 1, 0, 0);
    assert_memory_equal(disk + 20 * 512, data(), 1024);
    assert_memory_equal(disk + 30 * 512, data(), 512);
    assert_memory_equal(disk + 40 * 512, data(), 512);
    assert_memory_equal(disk + 50 * 512, data(), 512);
    /* nothing to do */
    GOOD(0, 0, 0, 0x2a, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    /* the end of the disk, and what is outside */
    SENSE(5, 0x2100, 0, 1, 1024, 0x28, 0, 0, 0, 7, 0xff, 0, 0, 2, 0);
    SENSE(5, 0x2100, 0, 1, 512, 0x88, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 2,
          0, 0);
    /* less memory than the command moves; the wrong direction */
    SENSE(5, 0x2400, 0, 1, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 2, 0);
    SENSE(5, 0x2400, 0, 0, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    SENSE(5, 0x2400, 0, 1, 512, 0x28, 0x20, 0, 0, 0, 0, 0, 0, 1, 0);
    /* a disk that must not be written */
    SENSE(7, 0x2700, 3, 0, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    SENSE(7, 0x2700, 3, 0, 24, 0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0);
}

static void test_errors(void **state)
{
    (void)state;
    connect_guest();
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_READ, -EIO);
    SENSE(3, 0x1100, 0, 1, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -EIO);
    SENSE(3, 0x0300, 0, 0, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_FLUSH, -EIO);
    SENSE(3, 0x0300, 0, 0, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    mobo_fake_disk_fail(f, "disk", 0, 0);
    SENSE(5, 0x2000, 0, 0, 0, 0xc1, 0, 0, 0, 0, 0);
}

static void test_no_space(void **state)
{
    struct srb s = { .cdb_len = 10, .dir = 0, .len = 512, .mem = 512, .cdb = { 0x2a, [8] = 1 } };
    struct answer a;

    (void)state;
    connect_guest();
    memset(data(), 0x66, 512);
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -ENOSPC);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    assert_false(get_answer(0, next_transaction, &a)); /* it waits */
    mobo_fake_disk_fail(f, "disk", 0, 0);
    mobo_fake_pause(f);
    mobo_fake_resume(f);
    mobo_fake_work(f);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.srb_status, 1);
    assert_int_equal(disk[0], 0x66);
    /* a reset forgets it */
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -ENOSPC);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    mobo_fake_reset(f);
    mobo_fake_disk_fail(f, "disk", 0, 0);
    mobo_fake_work(f);
    connect_guest();
    GOOD(0, 0, 512, 0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0);
}

/* A guest that does not read its answers is served on when it does. */
static void test_full_ring(void **state)
{
    struct srb s = { .cdb_len = 10, .dir = 1, .len = 512, .mem = 512, .cdb = { 0x28, [8] = 1 } };
    uint64_t first;
    struct answer a;

    (void)state;
    connect_guest();
    first = next_transaction + 1;
    mobo_fake_vmbus_room(dev, 0, 3);
    for (unsigned i = 0; i < 8; i++)
        send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    for (unsigned i = 0; i < 8; i++)
        send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_READ), 8);
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    mobo_fake_work(f);
    for (unsigned i = 0; i < 16; i++)
        assert_true(get_answer(0, first + i, &a));
    assert_false(get_answer(0, 0, &a));
    /* answers that wait are part of the state, and forgotten with the guest */
    mobo_fake_vmbus_room(dev, 0, 0);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    mobo_fake_pause(f);
    check_state();
    mobo_fake_resume(f);
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    assert_true(get_answer(0, next_transaction, &a));
    assert_false(get_answer(0, 0, &a));
    mobo_fake_vmbus_room(dev, 0, 0);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    mobo_fake_vmbus_room(dev, 0, UINT32_MAX);
    mobo_fake_reset(f);
    connect_guest();
}

/* @return the number of a sub-channel that is open. */
static unsigned connect_with_sub(void)
{
    unsigned sub = mobo_fake_vmbus_count(dev);

    connect_guest();
    assert_int_equal(control(0, OP_SUB, 2, NULL), 0);
    assert_int_equal(mobo_fake_vmbus_open(dev, sub, NULL), 0);
    return sub;
}

/* A channel is closed: nothing of its requests touches the guest's memory or the disk from then on. */
static void test_close(void **state)
{
    static const struct srb rd = { .cdb_len = 10, .dir = 1, .len = 512, .mem = 512, .cdb = { 0x28, [8] = 1 } };
    static const struct srb wr = { .cdb_len = 10, .dir = 0, .len = 512, .mem = 512, .cdb = { 0x2a, [5] = 9, [8] = 1 } };
    uint8_t was[512], mine[512];
    struct answer a;
    uint64_t first;
    unsigned sub;

    (void)state;
    memcpy(was, disk + 9 * 512, sizeof(was));
    memset(mine, 0x3c, sizeof(mine));
    for (unsigned i = 0; i < 8; i++) {
        bool paused = i & 1, restart = i & 2, stalled = i & 4;

        sub = connect_with_sub();
        mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -ENOSPC);
        send_srb_to(0, &wr);
        send_srb_to(sub, &wr);
        mobo_fake_vmbus_signal(dev, 0);
        mobo_fake_vmbus_signal(dev, sub);
        if (stalled)
            mobo_fake_work(f);
        send_srb_to(0, &rd);
        send_srb_to(sub, &rd);
        mobo_fake_vmbus_signal(dev, 0);
        mobo_fake_vmbus_signal(dev, sub);
        if (paused)
            mobo_fake_pause(f);
        if (restart) /* it comes back before it is done with */
            mobo_fake_reset(f);
        else
            mobo_fake_vmbus_close(dev, 0);
        memcpy(data(), mine, sizeof(mine));
        mobo_fake_disk_fail(f, "disk", 0, 0);
        if (!paused)
            mobo_fake_pause(f);
        mobo_fake_resume(f);
        mobo_fake_work(f);
        assert_memory_equal(data(), mine, sizeof(mine));
        assert_memory_equal(disk + 9 * 512, was, sizeof(was));
    }
    /* a sub-channel: requests of the other go on, also one that waits for space */
    for (unsigned i = 0; i < 4; i++) {
        sub = connect_with_sub();
        memset(data(), (int)i, 512);
        mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -ENOSPC);
        send_srb(&wr);
        first = next_transaction;
        mobo_fake_vmbus_signal(dev, 0);
        mobo_fake_work(f);
        send_srb_to(sub, &rd);
        mobo_fake_vmbus_signal(dev, sub);
        if (i & 1)
            mobo_fake_pause(f);
        if (i & 2) {
            send_srb_to(sub, &wr);
            if (!(i & 1))
                mobo_fake_vmbus_signal(dev, sub);
        }
        mobo_fake_vmbus_close(dev, sub);
        memset(data(), 0x40 + (int)i, 512);
        memcpy(mine, data(), 512);
        mobo_fake_disk_fail(f, "disk", 0, 0);
        mobo_fake_resume(f);
        mobo_fake_work(f);
        assert_true(get_answer(0, first, &a));
        assert_int_equal(a.srb_status, 1);
        assert_false(get_answer(0, 0, &a));
        assert_memory_equal(data(), mine, sizeof(mine));
        assert_memory_equal(disk + 9 * 512, mine, sizeof(mine));
        mobo_fake_vmbus_close(dev, 0);
    }
    /* sub-channels are taken back when the guest begins anew on an open channel */
    sub = connect_with_sub();
    memcpy(data(), mine, sizeof(mine));
    send_srb_to(sub, &rd);
    mobo_fake_vmbus_signal(dev, sub);
    assert_int_equal(control(0, OP_BEGIN, 0, NULL), 0);
    memset(data(), 0x11, 512);
    memcpy(mine, data(), 512);
    mobo_fake_work(f);
    assert_memory_equal(data(), mine, sizeof(mine));
}

static void test_unmap(void **state)
{
    static const uint8_t zero[4096];
    uint8_t *p;

    (void)state;
    connect_guest();
    p = data();
    memset(p, 0, 64);
    p[1] = 38;
    p[3] = 32;
    p[8 + 7] = 8;
    p[8 + 11] = 8;
    p[24 + 7] = 64;
    p[24 + 11] = 1;
    GOOD(0, 0, 40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0);
    assert_memory_equal(disk + 8 * 512, zero, 4096);
    assert_memory_equal(disk + 64 * 512, zero, 512);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_DISCARD_RANGE), 2);
    p[24 + 5] = 0xff; /* all or nothing */
    SENSE(5, 0x2100, 0, 0, 40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_DISCARD_RANGE), 2);
    SENSE(5, 0x1a00, 0, 0, 4, 0x42, 0, 0, 0, 0, 0, 0, 0, 4, 0);
    p[2] = p[3] = 0xff; /* longer than the list */
    SENSE(5, 0x2600, 0, 0, 40, 0x42, 0, 0, 0, 0, 0, 0, 0, 40, 0);
    SENSE(5, 0x2400, 0, 0, 40, 0x42, 1, 0, 0, 0, 0, 0, 0, 40, 0);
    GOOD(0, 0, 0, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0);
}

static void test_write_same(void **state)
{
    static const uint8_t zero[512];

    (void)state;
    connect_guest();
    for (unsigned i = 0; i < 512; i++)
        data()[i] = (uint8_t)(i * 3 + 1);
    GOOD(0, 0, 512, 0x41, 0, 0, 0, 0, 100, 0, 1, 44, 0); /* 300 sectors, in pieces */
    for (unsigned i = 0; i < 300; i++)
        assert_memory_equal(disk + (100 + i) * 512, data(), 512);
    assert_memory_not_equal(disk + 400 * 512, data(), 512);
    memset(data(), 0, 512);
    GOOD(0, 0, 512, 0x93, 8, 0, 0, 0, 0, 0, 0, 0, 100, 0, 0, 0, 2, 0, 0);
    assert_memory_equal(disk + 101 * 512, zero, 512);
    GOOD(0, 0, 0, 0x93, 1, 0, 0, 0, 0, 0, 0, 0, 110, 0, 0, 0, 1, 0, 0); /* NDOB */
    assert_memory_equal(disk + 110 * 512, zero, 512);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_WRITE_ZEROES), 2);
    SENSE(5, 0x2400, 0, 0, 512, 0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0); /* WSNZ */
    SENSE(5, 0x2400, 0, 0, 512, 0x41, 0x10, 0, 0, 0, 0, 0, 0, 1, 0);
    SENSE(5, 0x1a00, 0, 0, 8, 0x41, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    SENSE(5, 0x2100, 0, 0, 512, 0x41, 0, 0, 0, 7, 0xff, 0, 0, 2, 0);
}

static void test_verify(void **state)
{
    (void)state;
    connect_guest();
    GOOD(0, 0, 0, 0x2f, 0, 0, 0, 0, 0, 0, 4, 0, 0);
    memcpy(data(), disk + 512, 8192);
    GOOD(0, 0, 8192, 0x2f, 2, 0, 0, 0, 1, 0, 0, 16, 0);
    data()[8191] ^= 1;
    SENSE(14, 0x1d00, 0, 0, 8192, 0x2f, 2, 0, 0, 0, 1, 0, 0, 16, 0);
    GOOD(0, 0, 8192, 0x2e, 2, 0, 0, 0, 1, 0, 0, 16, 0); /* writes, then it is so */
    GOOD(0, 0, 8192, 0xaf, 2, 0, 0, 0, 1, 0, 0, 0, 16, 0, 0);
    GOOD(0, 0, 512, 0x8e, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0);
    SENSE(5, 0x2400, 0, 0, 512, 0x2f, 4, 0, 0, 0, 1, 0, 0, 1, 0);
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_READ, -EIO);
    SENSE(3, 0x1100, 0, 0, 0, 0x2f, 0, 0, 0, 0, 0, 0, 4, 0, 0);
}

/* The chain of a command that goes on in pieces stops when the device is to stand still, however long it would be. */
static void test_stopped(void **state)
{
    static const uint8_t unmap[40] = { [1] = 38, [3] = 32, [15] = 8, [19] = 8, [31] = 64, [35] = 1 };
    static const struct srb cmds[] = {
        /* VERIFY, compared; 200 sectors in four pieces */
        { .cdb_len = 10, .dir = 0, .len = 102400, .mem = 102400, .cdb = { 0x2f, 2, [5] = 1, [8] = 200 } },
        /* the same, and more memory than that */
        { .cdb_len = 10, .dir = 0, .len = 104448, .mem = 106496, .cdb = { 0x2f, 2, [5] = 1, [8] = 200 } },
        /* WRITE AND VERIFY */
        { .cdb_len = 10, .dir = 0, .len = 102400, .mem = 102400, .cdb = { 0x2e, 2, [5] = 1, [8] = 200 } },
        /* WRITE SAME */
        { .cdb_len = 10, .dir = 0, .len = 512, .mem = 512, .cdb = { 0x41, 0, [4] = 2, [7] = 1, [8] = 44 } },
        /* UNMAP */
        { .cdb_len = 10, .dir = 0, .len = 40, .mem = 40, .cdb = { 0x42, [8] = 40 } },
    };
    static const struct srb endless = { .lun = 5, .cdb_len = 16, .cdb = { 0x8f, [10] = 0xff, 0xff, 0xff, 0xff } };
    struct mobo_block_info bi = { .size = sizeof(bi), .len = 0xffffffffull * 512, .sector = 512, .physical = 512 };
    struct answer a;
    unsigned ops;

    (void)state;
    connect_guest();
    for (unsigned i = 0; i < 2 * sizeof(cmds) / sizeof(cmds[0]); i++) {
        const struct srb *s = &cmds[i / 2];
        void *buf;
        size_t len;

        memcpy(data(), disk + 512, 102400);
        if (s->cdb[0] == 0x42)
            memcpy(data(), unmap, sizeof(unmap));
        send_srb(s);
        mobo_fake_vmbus_signal(dev, 0);
        mobo_fake_pause(f);
        assert_false(get_answer(0, next_transaction, &a));
        if (i & 1) { /* it is in the saved state */
            assert_int_equal(mobo_fake_save(dev, &buf, &len), 0);
            mobo_fake_reset(f);
            if (mobo_fake_restore(dev, buf, len))
                fail_msg("%s", mobo_fake_error(f));
            mobo_fake_vmbus_restored(dev, 0);
            free(buf);
        }
        mobo_fake_resume(f);
        mobo_fake_work(f);
        assert_true(get_answer(0, next_transaction, &a));
        assert_int_equal(a.srb_status, 1);
        assert_int_equal(a.len, s->len == 104448 ? 102400 : s->len);
    }
    for (unsigned i = 0; i < 300; i++) /* the WRITE SAME */
        assert_memory_equal(disk + (512 + i) * 512, disk + 512 * 512, 512);

    mobo_fake_disk(f, "huge", NULL, &bi);
    assert_int_equal(command("add", "5 huge"), 0);
    take_all();
    send_srb(&endless);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_pause(f);
    assert_int_equal(mobo_fake_disk_ops(f, "huge", MOBO_BLOCK_READ), 1);
    mobo_fake_disk_fail(f, "huge", MOBO_BLOCK_READ, -EIO);
    mobo_fake_resume(f);
    mobo_fake_work(f);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.scsi_status, 2);
    assert_int_equal(a.sense[2], 3);
    mobo_fake_disk_fail(f, "huge", 0, 0);
    /* the unit is taken away */
    send_srb(&endless);
    mobo_fake_vmbus_signal(dev, 0);
    assert_int_equal(command("remove", "5"), 0);
    assert_int_equal(mobo_fake_disk_ops(f, "huge", MOBO_BLOCK_READ), 3);
    assert_true(get_answer(0, next_transaction, &a));
    assert_int_equal(a.scsi_status, 2);
    assert_int_equal(a.sense[2], 11);
    assert_int_equal(command("add", "5 huge"), 0);
    take_all();
    /* a reset, also of what was stopped before */
    for (unsigned i = 0; i < 2; i++) {
        send_srb(&endless);
        mobo_fake_vmbus_signal(dev, 0);
        if (i)
            mobo_fake_pause(f);
        mobo_fake_reset(f);
        mobo_fake_resume(f);
        mobo_fake_work(f);
        assert_int_equal(mobo_fake_disk_ops(f, "huge", MOBO_BLOCK_READ), 4 + i);
        connect_guest();
    }
    /* memory for as many requests as ever */
    for (unsigned i = 0; i < 2000; i++) {
        ops = mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_READ);
        send_srb(&cmds[0]);
        mobo_fake_vmbus_signal(dev, 0);
        mobo_fake_pause(f);
        assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_READ), ops + 1);
        mobo_fake_reset(f);
        mobo_fake_resume(f);
        connect_guest();
    }
}

static void test_inquiry(void **state)
{
    struct answer a;

    (void)state;
    connect_guest();
    a = CMD(0, 1, 96, 0x12, 0, 0, 0, 96, 0);
    assert_int_equal(a.len, 68);
    assert_memory_equal(data() + 8, "Msft    Virtual Disk    1.0 ", 28);
    assert_int_equal(data()[0], 0);
    a = CMD(9, 1, 36, 0x12, 0, 0, 0, 36, 0);
    assert_int_equal(a.len, 36);
    assert_int_equal(data()[0], 5);
    assert_int_equal(data()[1], 0x80);
    for (unsigned i = 0; i < 256; i++) { /* exactly those pages that the list names */
        uint8_t list[16];
        bool listed = false;

        CMD(0, 1, 255, 0x12, 1, 0, 0, 255, 0);
        memcpy(list, data(), sizeof(list));
        a = CMD(0, 1, 255, 0x12, 1, (uint8_t)i, 0, 255, 0);
        for (unsigned n = 0; n < list[3]; n++)
            listed |= list[4 + n] == i;
        assert_int_equal(a.scsi_status, listed ? 0 : 2);
        if (listed) {
            assert_int_equal(data()[1], i);
            assert_int_equal(a.len, 4 + data()[3]);
        }
    }
    CMD(0, 1, 64, 0x12, 1, 0xb2, 0, 64, 0);
    assert_int_equal(data()[5], 0xe4);
    SENSE(5, 0x2400, 9, 1, 64, 0x12, 1, 0xb0, 0, 64, 0);
    SENSE(5, 0x2400, 0, 1, 64, 0x12, 0, 0x80, 0, 64, 0);
}

static void test_capacity(void **state)
{
    struct answer a;

    (void)state;
    connect_guest();
    GOOD(0, 1, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(be32(data()), DISK_LEN / 512 - 1);
    assert_int_equal(be32(data() + 4), 512);
    a = CMD(0, 1, 32, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0);
    assert_int_equal(a.len, 32);
    assert_int_equal(be32(data() + 4), DISK_LEN / 512 - 1);
    assert_int_equal(data()[13], 3);
    assert_int_equal(data()[14], 0xc0);
    a = CMD(0, 1, 12, 0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0);
    assert_int_equal(a.len, 12);
    GOOD(0, 1, 24, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 24, 0, 0);
    assert_int_equal(be32(data() + 16), DISK_LEN / 512 - 8);
    SENSE(5, 0x2100, 0, 1, 24, 0x9e, 0x12, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 0, 24, 0, 0);
    SENSE(5, 0x2400, 0, 1, 24, 0x9e, 0x13, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 24, 0, 0);
    GOOD(9, 1, 8, 0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(be32(data()), CD_LEN / 2048 - 1);
    assert_int_equal(be32(data() + 4), 2048);
}

static void test_mode(void **state)
{
    struct answer a;
    uint8_t page[20];

    (void)state;
    connect_guest();
    a = CMD(0, 1, 192, 0x1a, 0, 0x3f, 0, 192, 0);
    assert_int_equal(a.len, data()[0] + 1);
    assert_int_equal(data()[2], 0x10);
    assert_int_equal(data()[3], 8);
    a = CMD(3, 1, 192, 0x1a, 8, 0x08, 0, 192, 0);
    assert_int_equal(a.len, 24);
    assert_int_equal(data()[2], 0x90); /* write protected */
    a = CMD(0, 1, 192, 0x5a, 8, 0x08, 0, 0, 0, 0, 0, 192, 0);
    assert_int_equal(a.len, 28);
    assert_int_equal(data()[8 + 2], 4);
    memcpy(page, data() + 8, 20);
    SENSE(5, 0x3900, 0, 1, 192, 0x1a, 0, 0xc8, 0, 192, 0);
    SENSE(5, 0x2400, 0, 1, 192, 0x1a, 0, 0x05, 0, 192, 0);
    /* the write cache off: every write is on the medium at once */
    memset(data(), 0, 4);
    memcpy(data() + 4, page, 20);
    data()[4 + 2] = 0;
    GOOD(0, 0, 24, 0x15, 0x10, 0, 0, 24, 0);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_FLUSH), 1);
    CMD(0, 1, 192, 0x1a, 8, 0x08, 0, 192, 0);
    assert_int_equal(data()[4 + 2], 0);
    /* nothing else changes */
    memcpy(data() + 4, page, 20);
    memset(data(), 0, 4);
    data()[4 + 3] = 1;
    SENSE(5, 0x2600, 0, 0, 24, 0x15, 0x10, 0, 0, 24, 0);
    SENSE(5, 0x2600, 0, 0, 20, 0x15, 0x10, 0, 0, 20, 0);
    SENSE(5, 0x2400, 0, 0, 24, 0x15, 0x11, 0, 0, 24, 0);
    SENSE(5, 0x1a00, 0, 0, 2, 0x15, 0x10, 0, 0, 2, 0);
}

static void test_start_stop(void **state)
{
    (void)state;
    connect_guest();
    GOOD(0, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(0, 0, 0, 0x1b, 0, 0, 0, 0, 0);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_FLUSH), 1);
    SENSE(2, 0x0402, 0, 0, 0, 0x00, 0, 0, 0, 0, 0);
    SENSE(2, 0x0402, 0, 1, 512, 0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0);
    GOOD(0, 1, 18, 0x03, 0, 0, 0, 18, 0);
    assert_int_equal(data()[2], 2);
    GOOD(0, 0, 0, 0x1b, 0, 0, 0, 1, 0);
    GOOD(0, 0, 0, 0x00, 0, 0, 0, 0, 0);
    SENSE(5, 0x2400, 0, 0, 0, 0x1b, 0, 0, 0, 2, 0);
}

static void test_others(void **state)
{
    (void)state;
    connect_guest();
    GOOD(0, 0, 0, 0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    GOOD(0, 0, 0, 0x91, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    assert_int_equal(mobo_fake_disk_ops(f, "disk", MOBO_BLOCK_FLUSH), 2);
    GOOD(0, 0, 0, 0x2b, 0, 0, 0, 7, 0xff, 0, 0, 0, 0);
    SENSE(5, 0x2100, 0, 0, 0, 0x2b, 0, 0, 0, 8, 0, 0, 0, 0, 0);
    GOOD(0, 0, 0, 0x1d, 4, 0, 0, 0, 0);
    GOOD(0, 0, 0, 0x16, 0, 0, 0, 0, 0);
    GOOD(0, 0, 0, 0x17, 0, 0, 0, 0, 0);
    GOOD(0, 0, 0, 0x1e, 0, 0, 0, 1, 0);
    GOOD(0, 0, 0, 0x04, 0, 0, 0, 0, 0);
    assert_memory_equal(disk + 512 * 2, disk + 512 * 2, 1);
    SENSE(5, 0x2400, 0, 0, 0, 0x04, 0x40, 0, 0, 0, 0);
}

static void test_reservations(void **state)
{
    struct answer a;

    (void)state;
    connect_guest();
    memset(data(), 0, 24);
    data()[15] = 0x42; /* new key */
    GOOD(0, 0, 24, 0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0);
    a = CMD(0, 1, 64, 0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0);
    assert_int_equal(a.len, 16);
    assert_int_equal(data()[15], 0x42);
    memset(data(), 0, 24);
    data()[7] = 0x41; /* not the key */
    a = CMD(0, 0, 24, 0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0);
    assert_int_equal(a.scsi_status, 0x18);
    data()[7] = 0x42;
    GOOD(0, 0, 24, 0x5f, 1, 5, 0, 0, 0, 0, 0, 24, 0);
    a = CMD(0, 1, 64, 0x5e, 1, 0, 0, 0, 0, 0, 0, 64, 0);
    assert_int_equal(a.len, 24);
    assert_int_equal(data()[21], 5);
    check_state();
    memset(data(), 0, 24);
    data()[7] = 0x42;
    SENSE(5, 0x2604, 0, 0, 24, 0x5f, 2, 1, 0, 0, 0, 0, 0, 24, 0);
    GOOD(0, 0, 24, 0x5f, 3, 0, 0, 0, 0, 0, 0, 24, 0);
    a = CMD(0, 1, 64, 0x5e, 0, 0, 0, 0, 0, 0, 0, 64, 0);
    assert_int_equal(a.len, 8);
}

/* ---- discs ---------------------------------------------------------------------------------------- */

static void test_disc(void **state)
{
    struct answer a;

    (void)state;
    connect_guest();
    GOOD(9, 1, 4096, 0x28, 0, 0, 0, 0, 3, 0, 0, 2, 0);
    assert_memory_equal(data(), disc + 3 * 2048, 4096);
    SENSE(5, 0x2100, 9, 1, 4096, 0x28, 0, 0, 0, 0, 63, 0, 0, 2, 0);
    SENSE(5, 0x2000, 9, 0, 2048, 0x2a, 0, 0, 0, 0, 3, 0, 0, 1, 0);
    a = CMD(9, 1, 64, 0x43, 0, 0, 0, 0, 0, 0, 0, 64, 0); /* TOC */
    assert_int_equal(a.len, 20);
    assert_int_equal(be32(data() + 16), CD_LEN / 2048);
    a = CMD(9, 1, 64, 0x43, 2, 1, 0, 0, 0, 0, 0, 64, 0);
    assert_int_equal(a.len, 12);
    assert_int_equal(data()[10], 2); /* two seconds in */
    a = CMD(9, 1, 64, 0x43, 0, 2, 0, 0, 0, 0, 0, 64, 0);
    assert_int_equal(a.len, 48);
    SENSE(5, 0x2400, 9, 1, 64, 0x43, 0, 5, 0, 0, 0, 0, 0, 64, 0);
    a = CMD(9, 1, 255, 0x46, 0, 0, 0, 0, 0, 0, 0, 255, 0);
    assert_int_equal(a.len, be32(data()) + 4);
    assert_int_equal(data()[7], 0x08); /* a CD */
    CMD(9, 1, 8, 0x4a, 1, 0, 0, 0x10, 0, 0, 0, 8, 0);
    assert_int_equal(data()[5], 2);
    SENSE(5, 0x2400, 9, 1, 8, 0x4a, 0, 0, 0, 0x10, 0, 0, 0, 8, 0);
    GOOD(9, 1, 34, 0x51, 0, 0, 0, 0, 0, 0, 0, 34, 0);
    GOOD(9, 1, 36, 0x52, 1, 0, 0, 0, 1, 0, 0, 36, 0);
    SENSE(5, 0x2400, 9, 1, 36, 0x52, 1, 0, 0, 0, 2, 0, 0, 36, 0);
    SENSE(5, 0x2400, 9, 1, 36, 0xad, 0, 0, 0, 0, 0, 0, 0, 0, 36, 0, 0); /* no DVD */
    GOOD(9, 1, 12, 0x5c, 0, 0, 0, 0, 0, 0, 0, 12, 0);
    GOOD(9, 1, 8, 0xbd, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0);
    GOOD(9, 1, 24, 0xac, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0);
    a = CMD(9, 1, 255, 0x5a, 0, 0x2a, 0, 0, 0, 0, 0, 255, 0);
    assert_int_equal(a.len, 28);
    /* the tray */
    GOOD(9, 0, 0, 0x1e, 0, 0, 0, 1, 0);
    SENSE(5, 0x5302, 9, 0, 0, 0x1b, 0, 0, 0, 2, 0);
    GOOD(9, 0, 0, 0x1e, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x1b, 0, 0, 0, 2, 0);
    SENSE(2, 0x3a00, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    check_state();
    GOOD(9, 0, 0, 0x1b, 0, 0, 0, 3, 0);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
}

/* ---- the whole ------------------------------------------------------------------------------------ */

static void test_commands(void **state)
{
    struct mobo_vmbus_packet p;

    (void)state;
    connect_guest();
    assert_int_equal(command("add", "5 other"), 0);
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p)); /* the guest is told */
    assert_int_equal(p.type, MOBO_VMBUS_INBAND);
    assert_int_equal(p.transaction, 0);
    assert_int_equal(p.data[0], 11);
    GOOD(5, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(command("add", "5 other"), -EBUSY);
    assert_int_equal(command("add", "6"), -EINVAL);
    assert_int_equal(command("add", "64 other"), -EINVAL);
    assert_int_equal(command("add", "6 nowhere"), -ENOENT);
    assert_int_equal(command("remove", "6"), -ENODEV);
    assert_int_equal(command("remove", "5"), 0);
    assert_true(mobo_fake_vmbus_recv(dev, 0, &p));
    assert_int_equal(CMD(5, 0, 0, 0x00, 0, 0, 0, 0, 0).srb_status, 0x20);
    assert_int_equal(command("eject", "0"), -EINVAL);
    assert_int_equal(command("eject", "9"), 0);
    SENSE(2, 0x3a00, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(command("insert", "9 other"), 0);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(command("dance", "9"), -ENOSYS);
}

static void test_state(void **state)
{
    struct srb s = { .cdb_len = 10, .dir = 0, .len = 512, .mem = 512, .cdb = { 0x2a, [8] = 1 } };

    (void)state;
    check_state();
    connect_guest();
    GOOD(0, 0, 0, 0x1b, 0, 0, 0, 0, 0);
    check_state();
    GOOD(0, 0, 0, 0x1b, 0, 0, 0, 1, 0);
    /* with a request that waits for space */
    mobo_fake_disk_fail(f, "disk", MOBO_BLOCK_WRITE, -ENOSPC);
    send_srb(&s);
    mobo_fake_vmbus_signal(dev, 0);
    mobo_fake_work(f);
    {
        void *buf, *again;
        size_t len, len2;

        mobo_fake_pause(f);
        assert_int_equal(mobo_fake_save(dev, &buf, &len), 0);
        mobo_fake_reset(f);
        if (mobo_fake_restore(dev, buf, len))
            fail_msg("%s", mobo_fake_error(f));
        assert_int_equal(mobo_fake_save(dev, &again, &len2), 0);
        assert_int_equal(len, len2);
        assert_memory_equal(buf, again, len);
        mobo_fake_disk_fail(f, "disk", 0, 0);
        memset(data(), 0x77, 512);
        mobo_fake_resume(f);
        mobo_fake_work(f);
        assert_int_equal(disk[0], 0x77); /* it was done after all */
        free(buf);
        free(again);
    }
    check_refused(1, 0, 9);    /* protocol state */
    check_refused(2, 0, 0x33); /* version */
}

/* Restore a state on another device with @lun9 in its reader.  @return how many warnings came of it. */
static unsigned restore_elsewhere(const char *lun9, const void *buf, size_t len)
{
    const char *const params[] = { "lun0=disk", "lun3=ro", lun9, "channels=3", NULL };
    unsigned was = mobo_fake_logged(f, MOBO_WARNING);

    dev = mobo_fake_add(f, &mobo_vdev_descriptor, "disk1", params);
    assert_non_null(dev);
    mobo_fake_pause(f);
    if (mobo_fake_restore(dev, buf, len))
        fail_msg("%s", mobo_fake_error(f));
    mobo_fake_vmbus_restored(dev, 0);
    mobo_fake_resume(f);
    return mobo_fake_logged(f, MOBO_WARNING) - was;
}

/* The disc that was inserted is not in a reader after a restore: the guest is told. */
static void test_state_disc(void **state)
{
    static const uint8_t sectors[] = { 0x10, 0, 1, 0, 8, 0, 0, 0 }, inserted[] = { 0x11, 0, 1, 0, 5, 0, 0, 0 };
    struct mobo_block_info ci = { .size = sizeof(ci),
                                  .flags = MOBO_BLOCK_CDROM | MOBO_BLOCK_READ_ONLY,
                                  .len = CD_LEN,
                                  .sector = 512,
                                  .physical = 512 };
    struct mobo_vdev *first = dev;
    uint8_t *buf, *at;
    size_t len;

    (void)state;
    mobo_fake_disk(f, "/dir/other,cdrom,ro", disc, &ci);
    mobo_fake_disk(f, "/dir/an-other,cdrom", disc, &ci);
    ci.len /= 2;
    mobo_fake_disk(f, "/dir/disc", disc, &ci);
    mobo_fake_disk(f, "/less/other", disc, &ci);
    connect_guest();
    /* the VM file's */
    assert_int_equal(mobo_fake_save(dev, (void **)&buf, &len), 0);
    assert_int_equal(restore_elsewhere("lun9=disc", buf, len), 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(restore_elsewhere("lun9=other", buf, len), 0); /* files may have moved */
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(restore_elsewhere("lun9=/dir/disc", buf, len), 1);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    free(buf);
    /* a person's */
    dev = first;
    assert_int_equal(command("insert", "9 other"), 0);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    check_state();
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(mobo_fake_save(dev, (void **)&buf, &len), 0);
    assert_int_equal(restore_elsewhere("lun9=disc", buf, len), 1);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(restore_elsewhere("lun9=other", buf, len), 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(restore_elsewhere("lun9=/dir/other,cdrom,ro", buf, len), 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(restore_elsewhere("lun9=/dir/an-other,cdrom", buf, len), 1);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    assert_int_equal(restore_elsewhere("lun9=/less/other", buf, len), 1);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    /* with names that are none */
    at = memmem(buf, len, inserted, sizeof(inserted));
    assert_non_null(at);
    at[8 + 2] = 0;
    assert_int_equal(mobo_fake_restore(dev, buf, len), -EINVAL);
    /* from before these fields */
    at[0] = 0x21;
    at = memmem(buf, len, sectors, sizeof(sectors));
    assert_non_null(at);
    at[0] = 0x20;
    assert_int_equal(restore_elsewhere("lun9=/less/other", buf, len), 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    free(buf);
    /* an open tray: told when it is closed */
    dev = first;
    assert_int_equal(command("eject", "9"), 0);
    assert_int_equal(mobo_fake_save(dev, (void **)&buf, &len), 0);
    assert_int_equal(restore_elsewhere("lun9=disc", buf, len), 1);
    SENSE(2, 0x3a00, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x1b, 0, 0, 0, 3, 0);
    SENSE(6, 0x2800, 9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    GOOD(9, 0, 0, 0x00, 0, 0, 0, 0, 0);
    free(buf);
}

/* Random requests, among them many that are nearly right. */
static void test_random(void **state)
{
    uint32_t seed = 1;

    (void)state;
    connect_guest();
    for (unsigned i = 0; i < 20000; i++) {
        struct srb s = { 0 };
        struct answer a;
        uint8_t *b = (uint8_t *)&s;

        for (unsigned n = 0; n < sizeof(s); n++) {
            seed = seed * 1664525 + 1013904223;
            b[n] = (uint8_t)(seed >> 24);
        }
        s.path = s.target = 0;
        s.lun = (uint8_t[]){ 0, 3, 9, 7 }[s.lun & 3];
        s.cdb_len = s.cdb_len % 18;
        s.dir &= 1;
        s.mem = s.len % 65536;
        s.len = (s.off & 0x100) ? s.mem : s.mem / 2;
        s.off = s.off % 4096;
        if (s.cdb[15] & 1)
            memset(s.cdb + 2, 0, 3);
        if (s.cdb[15] & 2)
            memset(s.cdb + 6, 0, 2);
        for (unsigned n = 0; n < 256 && s.mem; n++)
            data()[n] = (uint8_t)(seed >> (n & 15));
        send_srb(&s);
        mobo_fake_vmbus_signal(dev, 0);
        mobo_fake_work(f);
        assert_true(get_answer(0, next_transaction, &a));
        assert_true(a.len <= s.mem);
    }
    check_state();
}

static void test_bad_parameters(void **state)
{
    static const char *const bad[][3] = {
        { "image=disk", "lun0=disk", NULL },
        { "lun0=nowhere", NULL },
        { "form=ide", "lun1=disk", NULL },
        { "instance=12", NULL },
        { "channels=0", NULL },
        { "max-transfer=1K", NULL },
        { "lun1=tiny", NULL },
    };
    struct mobo_block_info ti = {
        .size = sizeof(ti), .flags = MOBO_BLOCK_CDROM, .len = 512, .sector = 512, .physical = 512
    };
    static const char *const ide[] = { "form=ide", "image=disk", "drive=1", NULL };
    struct mobo_vdev *d;

    (void)state;
    mobo_fake_disk(f, "tiny", disk, &ti);
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_null(mobo_fake_add(f, &mobo_vdev_descriptor, "x", bad[i]));
        assert_true(mobo_fake_error(f)[0] != 0);
    }
    d = mobo_fake_add(f, &mobo_vdev_descriptor, "ide0", ide);
    assert_non_null(d);
    assert_int_equal(mobo_fake_vmbus_offer(d, 0)->class_id[1], 0x26);
    assert_int_equal(mobo_fake_vmbus_offer(d, 0)->instance_id[4], 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define ST(name) cmocka_unit_test_setup_teardown(name, setup, done)
        ST(test_connect),    ST(test_old_versions), ST(test_too_early),     ST(test_bad_packets),
        ST(test_nobody),     ST(test_read_write),  ST(test_errors),         ST(test_no_space),
        ST(test_full_ring),  ST(test_unmap),       ST(test_write_same),     ST(test_verify),
        ST(test_stopped),    ST(test_close),       ST(test_inquiry),        ST(test_capacity),
        ST(test_mode),       ST(test_start_stop),  ST(test_others),         ST(test_reservations),
        ST(test_disc),       ST(test_commands),    ST(test_state),          ST(test_state_disc),
        ST(test_random),     ST(test_bad_parameters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
