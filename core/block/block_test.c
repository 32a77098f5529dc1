/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images on files in memory: each format against a flat array, damage, parents, full disks. */
#include "core/block/block.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/block/block_int.h"
#include "core/block/queue.h"
#include "tests/disk/memfile.h"

static struct diag diag;

static struct memfile *image(const struct block_create_options *o, struct block *parent)
{
    struct memfile *m = memfile_create("/dev/zero");

    assert_int_equal(block_create_file(&m->f, o, parent, &diag), 0);
    return m;
}

static struct block *open_as(struct memfile *m, enum block_format format, bool read_only)
{
    struct block_options o = { .format = format, .read_only = read_only, .no_parent = true };
    struct block *b;

    if (block_open_file(&m->f, &o, &b, &diag) != 0)
        fail_msg("%s", diag.text);
    return b;
}

static void refused(struct memfile *m, enum block_format format, int err, const char *text)
{
    struct block_options o = { .format = format, .no_parent = true };
    unsigned before = m->changes;
    struct block *b;

    diag.text[0] = '\0';
    assert_int_equal(block_open_file(&m->f, &o, &b, &diag), err);
    if (!strstr(diag.text, text))
        fail_msg("'%s' is not about '%s'", diag.text, text);
    assert_int_equal(m->changes, before); /* never made worse */
}

static struct block_check checked(struct memfile *m, enum block_format format, bool repair)
{
    struct block_options o = { .format = format };
    struct block_check c = { .repair = repair };

    if (block_check_file(&m->f, &o, &c, &diag) != 0)
        fail_msg("%s", diag.text);
    return c;
}

static void clean(struct memfile *m, enum block_format format)
{
    struct block_check c = checked(m, format, false);

    assert_int_equal(c.errors, 0);
}

/* ---- each format against an array ------------------------------------------------------------------- */

struct variant {
    enum block_format format;
    enum block_type type;
    uint64_t size;
    uint32_t block_size, sector;
};

static void random_requests(struct block **pb, struct memfile *m, const struct variant *v,
                            uint8_t *model, uint64_t seed, struct block *parent)
{
    static uint8_t buf[3 << 20];
    struct block *b = *pb;

    for (int i = 0; i < 400; i++) {
        unsigned r = (unsigned)(rnd(&seed) >> 16) % 20;
        uint64_t len = (1 + (rnd(&seed) >> 16) % (rnd(&seed) & 0x700 ? 64 : 512)) * v->sector;
        uint64_t off = (rnd(&seed) >> 16) % (v->size / v->sector) * v->sector;
        if (r < 4 && b->block_size) /* whole blocks */
            off -= off % b->block_size, len = b->block_size;
        if (len > v->size - off)
            len = v->size - off;
        if (len > sizeof(buf))
            len = sizeof(buf);
        if (r < 9) {
            struct iovec iov[3] = { { buf, v->sector / 2 }, { buf, 0 }, { buf, 0 } };
            for (uint64_t k = 0; k < len; k += 8)
                put_le64(buf + k, rnd(&seed));
            iov[1].iov_base = buf + v->sector / 2;
            iov[1].iov_len = len - v->sector / 2;
            assert_int_equal(block_writev(b, off, iov, 3), 0);
            memcpy(model + off, buf, len);
        } else if (r < 15) {
            assert_int_equal(block_read(b, off, buf, len), 0);
            assert_memory_equal(buf, model + off, len);
        } else if (r < 17) {
            assert_int_equal(block_write_zeroes(b, off, len, r & 1), 0);
            memset(model + off, 0, len);
        } else if (r == 17) { /* what is left is any of both: made known again */
            assert_int_equal(block_discard(b, off, len), 0);
            assert_int_equal(block_read(b, off, model + off, len), 0);
        } else if (r == 18) {
            assert_int_equal(block_flush(b), 0);
        } else {
            b->parent = NULL;
            assert_int_equal(block_close(b), 0);
            if (v->format != BLOCK_RAW)
                clean(m, v->format);
            *pb = b = open_as(m, v->format, false);
            b->parent = parent;
        }
    }
    for (uint64_t off = 0; off < v->size;) {
        uint64_t len;
        unsigned flags;
        assert_int_equal(block_map(b, off, v->size - off, &flags, &len), 0);
        assert_true(len > 0 && len <= v->size - off && len % v->sector == 0);
        for (uint64_t k = off; !(flags & BLOCK_MAP_DATA) && k < off + len; k++)
            assert_int_equal(model[k], 0);
        off += len;
    }
}

static void against_array(void **state)
{
    static const struct variant variants[] = {
        { BLOCK_VHDX, BLOCK_TYPE_DYNAMIC, 24 << 20, 1 << 20, 512 },
        { BLOCK_VHDX, BLOCK_TYPE_DYNAMIC, (9 << 20) + 4096, 2 << 20, 4096 },
        { BLOCK_VHDX, BLOCK_TYPE_FIXED, (5 << 20) + 512, 4 << 20, 512 },
        { BLOCK_VHDX, BLOCK_TYPE_FIXED, 5 << 20, 1 << 20, 4096 },
        { BLOCK_VHDX, BLOCK_TYPE_DIFFERENCING, 16 << 20, 2 << 20, 512 },
        { BLOCK_VHDX, BLOCK_TYPE_DIFFERENCING, 16 << 20, 1 << 20, 4096 },
        { BLOCK_VHD, BLOCK_TYPE_DYNAMIC, (12 << 20) + 512, 512 << 10, 512 },
        { BLOCK_VHD, BLOCK_TYPE_DYNAMIC, 8 << 20, 2 << 20, 512 },
        { BLOCK_VHD, BLOCK_TYPE_FIXED, (3 << 20) + 512, 0, 512 },
        { BLOCK_VHD, BLOCK_TYPE_DIFFERENCING, 12 << 20, 512 << 10, 512 },
        { BLOCK_RAW, BLOCK_TYPE_DYNAMIC, (7 << 20) + 512, 0, 512 },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(variants); i++) {
        const struct variant *v = &variants[i];
        struct block_create_options o = { .format = v->format, .type = v->type, .size = v->size,
                                          .block_size = v->block_size,
                                          .logical_sector_size = v->sector };
        struct memfile *pm = NULL, *m;
        struct block *parent = NULL, *b;
        uint8_t *model = calloc(1, v->size);
        uint64_t seed = 0x1234567 + i;
        if (v->type == BLOCK_TYPE_DIFFERENCING) {
            struct block_create_options po = o;
            po.type = BLOCK_TYPE_DYNAMIC;
            po.size = v->size - (1 << 20); /* smaller than the child */
            pm = memfile_create("/dev/null");
            assert_int_equal(block_create_file(&pm->f, &po, NULL, &diag), 0);
            parent = open_as(pm, v->format, false);
            for (uint64_t off = 0; off < po.size; off += 3 << 20)
                for (uint64_t k = 0; k < 4; k++) {
                    uint64_t at = off + k * 3 * v->sector;
                    memset(model + at, (int)(off >> 20) + 1, v->sector);
                    assert_int_equal(block_write(parent, at, model + at, v->sector), 0);
                }
            block_close(parent);
            parent = open_as(pm, v->format, true);
        }
        m = image(&o, parent);
        b = open_as(m, v->format, false);
        assert_int_equal(block_size(b), v->size);
        assert_int_equal(block_sector_size(b), v->sector);
        if (parent)
            assert_int_equal(b->driver->check_parent(b, parent, &diag), 0);
        b->parent = parent;
        random_requests(&b, m, v, model, seed, parent);
        b->parent = NULL;
        assert_int_equal(block_close(b), 0);
        if (v->format != BLOCK_RAW)
            clean(m, v->format);
        block_close(parent);
        memfile_destroy(m);
        memfile_destroy(pm);
        free(model);
    }
}

static void bad_requests(void **state)
{
    struct block_create_options o = { .format = BLOCK_VHDX, .size = 4 << 20,
                                      .logical_sector_size = 4096 };
    struct memfile *m = image(&o, NULL);
    struct block *b = open_as(m, BLOCK_VHDX, false);
    uint8_t buf[8192] = { 1 };

    (void)state;
    assert_int_equal(block_read(b, 512, buf, 4096), -EINVAL);
    assert_int_equal(block_read(b, 0, buf, 512), -EINVAL);
    assert_int_equal(block_read(b, 4 << 20, buf, 4096), -ENXIO);
    assert_int_equal(block_read(b, (4 << 20) - 4096, buf, 8192), -ENXIO);
    assert_int_equal(block_write(b, UINT64_MAX - 4095, buf, 8192), -ENXIO);
    assert_int_equal(block_discard(b, 4096, UINT64_MAX - 4095), -ENXIO);
    block_close(b);
    b = open_as(m, BLOCK_VHDX, true);
    assert_int_equal(block_write(b, 0, buf, 4096), -EROFS);
    assert_int_equal(block_discard(b, 0, 4096), -EROFS);
    assert_int_equal(block_flush(b), 0);
    block_close(b);
    memfile_destroy(m);
}

/* Big numbers of blocks and big blocks; the data is sparse. */
static void extremes(void **state)
{
    static const struct {
        enum block_format format;
        uint64_t size;
        uint32_t block_size;
    } e[] = { { BLOCK_VHDX, 64ULL << 40, 256 << 20 }, { BLOCK_VHDX, 64ULL << 40, 1 << 20 },
              { BLOCK_VHDX, 512, 1 << 20 },           { BLOCK_VHD, 2040ULL << 30, 2 << 20 },
              { BLOCK_VHD, 512, 64 << 10 } };

    (void)state;
    for (size_t i = 0; i < COUNT(e); i++) {
        struct block_create_options o = { .format = e[i].format, .type = BLOCK_TYPE_DYNAMIC,
                                          .size = e[i].size, .block_size = e[i].block_size };
        struct memfile *m = image(&o, NULL);
        struct block *b = open_as(m, o.format, false);
        uint8_t a[512], c[512];
        memset(a, 0x77, sizeof(a));
        assert_int_equal(block_write(b, o.size - 512, a, 512), 0);
        assert_int_equal(block_write(b, 0, a, 512), 0);
        assert_int_equal(block_close(b), 0);
        b = open_as(m, o.format, true);
        assert_int_equal(block_read(b, o.size - 512, c, 512), 0);
        assert_memory_equal(a, c, 512);
        block_close(b);
        memfile_destroy(m);
    }
    struct block_create_options o = { .format = BLOCK_VHDX, .size = (64ULL << 40) + 512 };
    struct memfile *m = memfile_create("x");
    assert_int_equal(block_create_file(&m->f, &o, NULL, &diag), -EFBIG);
    o = (struct block_create_options){ .format = BLOCK_VHD, .size = (2040ULL << 30) + 512 };
    assert_int_equal(block_create_file(&m->f, &o, NULL, &diag), -EFBIG);
    o = (struct block_create_options){ .format = BLOCK_VHD, .size = 1000 };
    assert_int_equal(block_create_file(&m->f, &o, NULL, &diag), -EINVAL);
    memfile_destroy(m);
}

/* ---- VHDX: damage ------------------------------------------------------------------------------------- */

enum { H1 = 64 << 10, H2 = 128 << 10, R1 = 192 << 10, R2 = 256 << 10, LOG = 1 << 20,
       META = 2 << 20, BAT = 3 << 20 };

static struct memfile *vhdx_with_data(void)
{
    struct block_create_options o = { .format = BLOCK_VHDX, .type = BLOCK_TYPE_DYNAMIC,
                                      .size = 16 << 20, .block_size = 1 << 20 };
    struct memfile *m = image(&o, NULL);
    struct block *b = open_as(m, BLOCK_VHDX, false);
    uint8_t buf[4096];

    memset(buf, 0xab, sizeof(buf));
    assert_int_equal(block_write(b, 0, buf, sizeof(buf)), 0);
    assert_int_equal(block_write(b, 5 << 20, buf, sizeof(buf)), 0);
    assert_int_equal(block_close(b), 0);
    return m;
}

/* A copy as the host leaves it that dies after a flush: the log is in use. */
static struct memfile *vhdx_with_log(void)
{
    struct memfile *m = vhdx_with_data(), *crashed;
    struct block *b = open_as(m, BLOCK_VHDX, false);
    uint8_t buf[4096];

    memset(buf, 0xcd, sizeof(buf));
    assert_int_equal(block_write(b, 9 << 20, buf, sizeof(buf)), 0);
    assert_int_equal(block_flush(b), 0);
    crashed = memfile_copy(m);
    memset(crashed->map + BAT, 0, 4096); /* and the table in place did not get there */
    block_close(b);
    memfile_destroy(m);
    return crashed;
}

static void fix_crc(struct memfile *m, uint64_t at, size_t len)
{
    put_le32(m->map + at + 4, 0);
    put_le32(m->map + at + 4, crc32c(0, m->map + at, len));
}

static void vhdx_headers(void **state)
{
    struct memfile *m = vhdx_with_data();
    struct block_check c;

    (void)state;
    m->map[H1 + 100] ^= 1;
    clean(m, BLOCK_VHDX); /* torn: the other one counts */
    c = checked(m, BLOCK_VHDX, true);
    assert_int_equal(c.fixed, 1);
    m->map[H2 + 100] ^= 1;
    block_close(open_as(m, BLOCK_VHDX, true));
    m->map[H1 + 100] ^= 1;
    refused(m, BLOCK_VHDX, -EUCLEAN, "both headers");
    m->map[H1 + 100] ^= 1;
    put_le16(m->map + H1 + 66, 2);
    fix_crc(m, H1, 4096);
    refused(m, BLOCK_VHDX, -ENOTSUP, "version 2");
    memfile_destroy(m);

    m = vhdx_with_data();
    m->map[R1 + 20] ^= 1;
    c = checked(m, BLOCK_VHDX, false);
    assert_int_equal(c.errors, 1);
    c = checked(m, BLOCK_VHDX, true);
    assert_int_equal(c.errors, 0);
    assert_int_equal(c.fixed, 1);
    assert_memory_equal(m->map + R1, m->map + R2, 64 << 10);
    m->map[R1 + 20] ^= 1;
    m->map[R2 + 20] ^= 1;
    refused(m, BLOCK_VHDX, -EUCLEAN, "both region tables");
    m->map[0] = 'V';
    refused(m, BLOCK_VHDX, -EINVAL, "signature");
    memfile_destroy(m);
}

static void vhdx_regions(void **state)
{
    static const struct {
        unsigned at, len;
        uint64_t value;
        int err;
        const char *text;
    } bad[] = {
        { 8, 4, 3000, -EUCLEAN, "3000 regions" },  { 8, 4, 1, -EUCLEAN, "no metadata region" },
        { 32, 8, BAT + 512, -EUCLEAN, "region 0" }, { 32, 8, 1ULL << 62, -EUCLEAN, "region 0" },
        { 40, 4, 0, -EUCLEAN, "region 0" },         { 40, 4, 0xfff00000u, -EUCLEAN, "region 0" },
        { 32, 8, LOG, -EUCLEAN, "overlap" },        { 32, 8, META, -EUCLEAN, "overlap" },
        { 16, 4, 1, -ENOTSUP, "not known" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct memfile *m = vhdx_with_data();
        memcpy(m->map + R1 + bad[i].at, &bad[i].value, bad[i].len);
        fix_crc(m, R1, 64 << 10);
        refused(m, BLOCK_VHDX, bad[i].err, bad[i].text);
        memfile_destroy(m);
    }
}

static void vhdx_metadata(void **state)
{
    static const struct {
        unsigned at, len;
        uint64_t value;
        int err;
        const char *text;
    } bad[] = {
        { 0, 1, 'M', -EUCLEAN, "metadata table" },     { 10, 2, 2048, -EUCLEAN, "metadata table" },
        { 10, 2, 4, -EUCLEAN, "no physical sector" },  { 32, 4, 9, -ENOTSUP, "not known" },
        { 48, 4, 0x100, -EUCLEAN, "file parameters" }, { 48, 4, 0xfffff, -EUCLEAN, "file param" },
        { 52, 4, 7, -EUCLEAN, "file parameters" },     { 65536, 4, 3 << 20, -EUCLEAN, "blocks of" },
        { 65536, 4, 512 << 20, -EUCLEAN, "blocks of" }, { 65536, 4, 0, -EUCLEAN, "blocks of" },
        { 65540, 4, 2, -EUCLEAN, "no parent locator" }, { 65544, 8, 0, -EUCLEAN, "a disk of" },
        { 65544, 8, 513, -EUCLEAN, "a disk of" },      { 65544, 8, 1ULL << 60, -EUCLEAN, "a disk" },
        { 65544, 8, 1ULL << 38, -EUCLEAN, "BAT is too small" },
        { 65568, 4, 520, -EUCLEAN, "sectors of" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct memfile *m = vhdx_with_data();
        memcpy(m->map + META + bad[i].at, &bad[i].value, bad[i].len);
        refused(m, BLOCK_VHDX, bad[i].err, bad[i].text);
        memfile_destroy(m);
    }
}

static void vhdx_bat(void **state)
{
    static const struct {
        uint64_t entry;
        const char *text;
    } bad[] = { { 4, "unknown state" },
                { 7 | 5ULL << 20, "unknown state" },
                { 6, "outside" },
                { 6 | 1ULL << 20, "in use" },       /* the log */
                { 6 | 4ULL << 20, "in use" },       /* another block */
                { 6 | 1000ULL << 20, "outside" },
                { ~0ULL << 20 | 6, "outside" } };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct memfile *m = vhdx_with_data();
        struct block_check c;
        unsigned before;
        put_le64(m->map + BAT + 2 * 8, bad[i].entry);
        refused(m, BLOCK_VHDX, -EUCLEAN, bad[i].text);
        before = m->changes;
        c = checked(m, BLOCK_VHDX, false);
        assert_int_equal(c.errors, 1);
        c = checked(m, BLOCK_VHDX, true); /* nothing can be done, and nothing is */
        assert_int_equal(c.errors, 1);
        assert_int_equal(m->changes, before);
        memfile_destroy(m);
    }
}

static void vhdx_log(void **state)
{
    struct memfile *m = vhdx_with_log(), *c;
    struct block_check k = checked(m, BLOCK_VHDX, false);
    uint8_t buf[4096];
    unsigned before = m->changes;
    struct block *b;

    (void)state;
    assert_int_equal(k.errors, 0);
    assert_true(k.log_pending);
    b = open_as(m, BLOCK_VHDX, true); /* seen through the log, not changed */
    assert_true(b->log_pending);
    assert_int_equal(block_read(b, 9 << 20, buf, sizeof(buf)), 0);
    assert_int_equal(buf[17], 0xcd);
    block_close(b);
    assert_int_equal(m->changes, before);
    c = memfile_copy(m);
    k = checked(c, BLOCK_VHDX, true);
    assert_int_equal(k.fixed, 1);
    k = checked(c, BLOCK_VHDX, false);
    assert_false(k.log_pending);
    memfile_destroy(c);
    b = open_as(m, BLOCK_VHDX, false);
    assert_int_equal(block_read(b, 0, buf, sizeof(buf)), 0);
    assert_int_equal(buf[17], 0xab);
    block_close(b);
    memfile_destroy(m);
}

static void vhdx_bad_log(void **state)
{
    static const struct {
        unsigned at, len;
        uint64_t value;
        bool crc;
        const char *text;
    } bad[] = {
        { 40, 1, 0xee, true, "no valid entry" },          /* another log's */
        { 4096 + 100, 1, 0x55, false, "no valid entry" }, /* checksum */
        { 48, 8, 1ULL << 40, true, "cut off" },           /* flushed size */
        { 56, 8, 1ULL << 62, true, "for a file of" },
        { 64 + 16, 8, 0, true, "must not" },              /* over the signature */
        { 64 + 16, 8, LOG, true, "must not" },            /* over the log */
        { 64 + 16, 8, 1ULL << 45, true, "must not" },
        { 64 + 16, 8, BAT + 1, true, "no valid entry" },
        { 64 + 24, 8, 77, true, "no valid entry" },       /* sequence number */
        { 24, 4, 0xffffffff, true, "no valid entry" },    /* descriptors */
        { 12, 4, 4096, true, "no valid entry" },          /* tail */
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct memfile *m = vhdx_with_log();
        memcpy(m->map + LOG + bad[i].at, &bad[i].value, bad[i].len);
        if (bad[i].crc)
            fix_crc(m, LOG, 8192);
        refused(m, BLOCK_VHDX, -EUCLEAN, bad[i].text);
        memfile_destroy(m);
    }
}

/* An entry of three sectors that goes around the end of the log, with data and zeroes, after one that
 * its sequence begins with. */
static void vhdx_foreign_log(void **state)
{
    struct memfile *m = vhdx_with_data();
    uint8_t guid[16] = { 1, 2, 3, 4 }, *e, two[8192], buf[512];
    struct block *b;

    (void)state;
    for (int i = 0; i < 2; i++) { /* first: two sectors at -12K; second: at -4K, going around */
        uint64_t seq = 70 + (uint64_t)i;
        memset(two, 0, sizeof(two));
        e = two;
        memcpy(e, "loge", 4);
        put_le32(e + 8, 8192);
        put_le32(e + 12, (1 << 20) - 12288);
        put_le64(e + 16, seq);
        put_le32(e + 24, 2);
        memcpy(e + 32, guid, 16);
        put_le64(e + 48, 4 << 20);
        put_le64(e + 56, 8 << 20);
        memcpy(e + 64, "zero", 4);
        put_le64(e + 72, 4096);
        put_le64(e + 80, BAT + 8192 + (uint64_t)i * 4096);
        put_le64(e + 88, seq);
        memcpy(e + 96, "desc", 4);
        put_le32(e + 100, 0x44332211);
        put_le64(e + 104, 0x8877665544332211);
        put_le64(e + 112, BAT + 4096 * 16);
        put_le64(e + 120, seq);
        memcpy(e + 4096, "data", 4);
        memset(e + 4104, 0x30 + i, 4084);
        put_le32(e + 8188, (uint32_t)seq);
        put_le32(e + 4, crc32c(0, e, 8192));
        memcpy(m->map + LOG + (1 << 20) - 12288 + i * 8192, two, i ? 4096 : 8192);
        if (i)
            memcpy(m->map + LOG, two + 4096, 4096);
    }
    for (int h = 0; h < 2; h++) {
        memcpy(m->map + (h ? H2 : H1) + 48, guid, 16);
        fix_crc(m, h ? H2 : H1, 4096);
    }
    memset(m->map + BAT + 8192, 0xff, 8192);
    b = open_as(m, BLOCK_VHDX, false);
    assert_int_equal(block_read(b, 0, buf, 512), 0);
    assert_int_equal(buf[0], 0xab);
    assert_int_equal(m->map[BAT + 8192], 0);
    assert_int_equal(m->map[BAT + 12288], 0);
    assert_int_equal(m->map[BAT + 65536], 0x11);
    assert_int_equal(m->map[BAT + 65536 + 8], 0x31);
    assert_int_equal(m->map[BAT + 65536 + 4095], 0x44);
    assert_true(m->size >= 8 << 20);
    block_close(b);
    memfile_destroy(m);
}

static void vhdx_space(void **state)
{
    struct memfile *m = vhdx_with_data();
    struct block *b = open_as(m, BLOCK_VHDX, false);
    struct block_check c;
    uint64_t size = m->size;
    uint8_t *buf = malloc(1 << 20);

    (void)state;
    /* discarded space is used again, and does not show what was in it */
    for (int i = 0; i < 40; i++) {
        assert_int_equal(block_discard(b, (uint64_t)(5 + i % 3) << 20, 1 << 20), 0);
        assert_int_equal(block_flush(b), 0);
        memset(buf, 0x99, 512);
        assert_int_equal(block_write(b, (uint64_t)(6 + i % 3) << 20, buf, 512), 0);
        assert_int_equal(block_read(b, (uint64_t)(6 + i % 3) << 20, buf, 1 << 20), 0);
        assert_int_equal(buf[511], 0x99);
        assert_int_equal(buf[512], 0);
        assert_int_equal(buf[4095], 0);
    }
    assert_true(m->size <= size + (4 << 20));
    assert_int_equal(block_close(b), 0);
    m->size += 3 << 20;
    c = checked(m, BLOCK_VHDX, true);
    assert_int_equal(c.errors, 0);
    assert_true(c.fixed);
    c = checked(m, BLOCK_VHDX, false);
    assert_int_equal(c.leaked, 0);
    free(buf);
    memfile_destroy(m);
}

/* ---- VHD: damage ------------------------------------------------------------------------------------ */

static struct memfile *vhd_with_data(void)
{
    struct block_create_options o = { .format = BLOCK_VHD, .type = BLOCK_TYPE_DYNAMIC,
                                      .size = 16 << 20 };
    struct memfile *m = image(&o, NULL);
    struct block *b = open_as(m, BLOCK_VHD, false);
    uint8_t buf[4096];

    memset(buf, 0xab, sizeof(buf));
    assert_int_equal(block_write(b, 0, buf, sizeof(buf)), 0);
    assert_int_equal(block_write(b, 5 << 20, buf, sizeof(buf)), 0);
    assert_int_equal(block_close(b), 0);
    return m;
}

static void vhd_sum(uint8_t *p, size_t len, size_t at)
{
    uint32_t sum = 0;

    put_be32(p + at, 0);
    for (size_t i = 0; i < len; i++)
        sum += p[i];
    put_be32(p + at, ~sum);
}

static void vhd_damage(void **state)
{
    struct memfile *m = vhd_with_data();
    struct block_check c;
    uint64_t size = m->size;

    (void)state;
    m->size -= 512; /* no footer at the end */
    clean(m, BLOCK_VHD);
    c = checked(m, BLOCK_VHD, true);
    assert_int_equal(c.fixed, 1);
    assert_int_equal(m->size, size);
    m->map[3] ^= 1; /* no copy at the beginning */
    c = checked(m, BLOCK_VHD, false);
    assert_int_equal(c.errors, 1);
    c = checked(m, BLOCK_VHD, true);
    assert_int_equal(c.errors, 0);
    assert_memory_equal(m->map, m->map + m->size - 512, 512);
    m->map[60 + 3] = 2; /* the copy says fixed: ignored; and of another disk: refused */
    vhd_sum(m->map, 512, 64);
    block_close(open_as(m, BLOCK_VHD, true));
    m->map[60 + 3] = 3;
    m->map[70] ^= 1;
    vhd_sum(m->map, 512, 64);
    refused(m, BLOCK_VHD, -EUCLEAN, "different disks");
    m->map[70] ^= 1;
    vhd_sum(m->map, 512, 64);
    m->map[m->size - 1] ^= 1;
    m->map[9] ^= 1;
    refused(m, BLOCK_VHD, -EUCLEAN, "no valid VHD footer");
    memfile_destroy(m);
}

static void vhd_header(void **state)
{
    static const struct {
        unsigned at, len;
        uint64_t value; /* as stored */
        bool sum;
        const char *text;
    } bad[] = {
        { 512, 1, 'x', true, "dynamic disk header" },
        { 512 + 100, 1, 'x', false, "dynamic disk header" },
        { 512 + 16, 8, 0, true, "BAT is not in the file" },
        { 512 + 16, 8, 0xff, true, "BAT is not in the file" },
        { 512 + 28, 4, 0, true, "BAT is too small" },
        { 512 + 28, 4, 0xffffffff, true, "BAT is not in the file" },
        { 512 + 32, 4, 0x00020000, true, "blocks of 512" },
        { 512 + 32, 4, 0x010020, true, "blocks of" },
        { 1536, 4, 0, false, "lies over the tables" },
        { 1540, 4, 0xfeffffff, false, "is not in the file" },
    };

    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct memfile *m = vhd_with_data();
        memcpy(m->map + bad[i].at, &bad[i].value, bad[i].len);
        if (bad[i].sum)
            vhd_sum(m->map + 512, 1024, 36);
        refused(m, BLOCK_VHD, strstr(bad[i].text, "blocks") ? -ENOTSUP : -EUCLEAN, bad[i].text);
        memfile_destroy(m);
    }
    struct memfile *m = vhd_with_data();
    memcpy(m->map + 1540, m->map + 1536, 4);
    refused(m, BLOCK_VHD, -EUCLEAN, "overlaps");
    memfile_destroy(m);
}

/* Any damage to the structures: refused or not, nothing else happens. */
static void random_damage(void **state)
{
    struct memfile *base[2] = { vhdx_with_log(), vhd_with_data() };
    static const uint64_t places[2][8] = {
        { H1, H2, R1, META, META + 65536, BAT, LOG, LOG + 4096 },
        { 0, 512, 576, 1536, 1100, 0, 512, 1536 },
    };
    uint64_t seed = 99;

    (void)state;
    for (int i = 0; i < 3000; i++) {
        enum block_format format = i % 2 ? BLOCK_VHD : BLOCK_VHDX;
        struct memfile *m = memfile_view(base[i % 2]);
        struct block_options o = { .format = format, .no_parent = true };
        struct block *b;
        for (unsigned k = 0; k < 1 + rnd(&seed) % 3; k++) {
            uint64_t at = places[i % 2][(rnd(&seed) >> 9) % 8] + (rnd(&seed) >> 9) % 128;
            m->map[at] = (uint8_t)(rnd(&seed) >> 17);
        }
        for (int k = 0; k < 8; k++) { /* mostly with good checksums */
            uint64_t at = places[0][k];
            if (format == BLOCK_VHDX && rnd(&seed) & 0xc00 && (k < 3 || k == 6))
                fix_crc(m, at, k == 2 ? 64 << 10 : k == 6 ? 8192 : 4096);
        }
        if (format == BLOCK_VHD && rnd(&seed) & 0xc00) {
            vhd_sum(m->map, 512, 64);
            vhd_sum(m->map + 512, 1024, 36);
        }
        if (i % 7 == 0)
            m->size = rnd(&seed) % m->size;
        diag.text[0] = '\0';
        if (block_open_file(&m->f, &o, &b, &diag) == 0) {
            uint8_t buf[4096];
            uint64_t size = block_size(b);
            for (uint64_t at = 0; at < size && at < 32 << 20; at += 1 << 20)
                (void)block_read(b, at, buf, b->logical);
            if (b->logical <= size)
                (void)block_write(b, size - b->logical, buf, b->logical);
            (void)block_flush(b);
            block_close(b);
        } else {
            assert_true(diag.text[0]);
        }
        memfile_destroy(m);
    }
    memfile_destroy(base[0]);
    memfile_destroy(base[1]);
}

/* ---- the host's trouble -------------------------------------------------------------------------------- */

static void full_disk(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        enum block_format format = i ? BLOCK_VHD : BLOCK_VHDX;
        struct memfile *m = i ? vhd_with_data() : vhdx_with_data();
        struct block *b = open_as(m, format, false);
        uint8_t buf[4096], back[4096];

        memset(buf, 0x42, sizeof(buf));
        m->limit = m->size;
        assert_int_equal(block_write(b, 10 << 20, buf, sizeof(buf)), -ENOSPC);
        assert_int_equal(block_flush(b), 0);
        assert_int_equal(block_read(b, 0, back, sizeof(back)), 0);
        assert_int_equal(back[0], 0xab);
        clean(m, format);
        m->limit = 0; /* there is room again: the same request goes through */
        assert_int_equal(block_write(b, 10 << 20, buf, sizeof(buf)), 0);
        assert_int_equal(block_close(b), 0);
        b = open_as(m, format, true);
        assert_int_equal(block_read(b, 10 << 20, back, sizeof(back)), 0);
        assert_memory_equal(buf, back, sizeof(buf));
        block_close(b);
        clean(m, format);
        memfile_destroy(m);
    }
}

static void failed_sync(void **state)
{
    struct memfile *m = vhdx_with_data();
    struct block *b = open_as(m, BLOCK_VHDX, false);
    uint8_t buf[512] = { 1 };

    (void)state;
    assert_int_equal(block_write(b, 11 << 20, buf, sizeof(buf)), 0);
    m->sync_error = -EIO;
    assert_int_equal(block_flush(b), -EIO);
    assert_int_equal(block_flush(b), -EIO); /* the data is gone: not forgotten */
    assert_int_equal(block_write(b, 0, buf, sizeof(buf)), -EIO);
    assert_int_equal(block_read(b, 0, buf, sizeof(buf)), 0);
    assert_int_equal(block_close(b), -EIO);
    clean(m, BLOCK_VHDX);
    memfile_destroy(m);
}

/* ---- parents on real files, probing, copying -------------------------------------------------------------- */

static char dir[64], names[4][128];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/mobo-block.XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    return 0;
}

static int remove_dir(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++)
        unlink(names[i]);
    return rmdir(dir);
}

static void chain(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct block_create_options o = { .type = BLOCK_TYPE_DYNAMIC, .size = 64 << 20 };
        struct block_options ro = { .read_only = true };
        struct block *b, *c;
        uint8_t buf[512];

        for (int k = 0; k < 4; k++)
            snprintf(names[k], sizeof(names[k]), "%s/\xc3\xa4%d.%s", dir, k, i ? "vhd" : "vhdx");
        for (int k = 0; k < 3; k++) {
            assert_int_equal(block_create(names[k], &o, &diag), 0);
            o.type = BLOCK_TYPE_DIFFERENCING;
            o.parent = names[k];
            o.size = 0;
            assert_int_equal(block_open(names[k], NULL, &b, &diag), 0);
            memset(buf, k + 1, sizeof(buf));
            for (int s = k; s < 3; s++) /* sector s is last written in image s */
                assert_int_equal(block_write(b, (uint64_t)s * 7 * 512, buf, 512), 0);
            /* one writer, and nobody else */
            assert_int_equal(block_open(names[k], &ro, &c, &diag), -EBUSY);
            assert_int_equal(block_close(b), 0);
        }
        assert_int_equal(block_create(names[2], &o, &diag), -EEXIST);
        assert_int_equal(block_open(names[2], &ro, &b, &diag), 0);
        assert_int_equal(block_open(names[1], NULL, &c, &diag), -EBUSY); /* it is a parent */
        for (int s = 0; s < 3; s++) {
            assert_int_equal(block_read(b, (uint64_t)s * 7 * 512, buf, 512), 0);
            assert_int_equal(buf[5], s + 1);
        }
        struct block_range r[4];
        size_t n;
        uint64_t next;
        assert_int_equal(block_allocated_ranges(b, 0, b->size, r, 4, &n, &next), 0);
        assert_int_equal(next, b->size);
        assert_true(n >= 1 && r[0].off == 0 && r[0].len < 4 << 20);
        block_close(b);
        if (!i) { /* a parent that changes is no parent any more */
            assert_int_equal(block_open(names[0], NULL, &b, &diag), 0);
            assert_int_equal(block_write(b, 0, buf, 512), 0);
            block_close(b);
            assert_int_equal(block_open(names[2], &ro, &b, &diag), -ESTALE);
        }
        unlink(names[1]);
        assert_int_equal(block_open(names[2], &ro, &b, &diag), -ENOENT);
        assert_non_null(strstr(diag.text, "parent of"));
        unlink(names[0]);
        unlink(names[2]);
    }
}

/* A process that is killed while it writes: what it flushed is there.  On O_DIRECT where the host
 * has it, with requests that fit it and some that do not. */
static void writer(const char *path, int out, uint64_t seed)
{
    struct block_options o = { .direct = true };
    uint8_t *buf = NULL;
    struct block *b;

    if (posix_memalign((void **)&buf, 4096, 64 << 10) || block_open(path, &o, &b, &diag) != 0)
        _exit(1);
    for (uint32_t n = 1;; n++) {
        uint32_t slot = (uint32_t)(rnd(&seed) >> 9) % 512, record[2] = { slot, n };
        uint64_t off = (uint64_t)slot << 16;
        size_t len = slot % 3 ? 64 << 10 : 512;
        memset(buf, 0, 512);
        put_le32(buf, n);
        put_le32(buf + len - 4, n);
        if (block_write(b, off, buf, len) != 0 || (n % 4 == 0 && block_flush(b) != 0))
            _exit(2);
        if (write(out, record, sizeof(record)) != sizeof(record))
            _exit(3);
    }
}

static void killed(void **state)
{
    static uint32_t durable[512], written[512];
    uint64_t seed = 77;

    (void)state;
    for (int round = 0; round < 12; round++) {
        struct block_create_options o = { .type = BLOCK_TYPE_DYNAMIC, .size = 32 << 20,
                                          .block_size = 1 << 20 };
        struct block_check c = { .report = NULL };
        uint32_t stop = 1 + (uint32_t)(rnd(&seed) >> 8) % 200, record[2];
        uint8_t buf[512];
        struct block *b;
        int fds[2], status;
        pid_t pid;

        snprintf(names[0], sizeof(names[0]), "%s/k.%s", dir, round & 1 ? "vhd" : "vhdx");
        assert_int_equal(block_create(names[0], &o, &diag), 0);
        memset(durable, 0, sizeof(durable));
        memset(written, 0, sizeof(written));
        assert_int_equal(pipe(fds), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
            writer(names[0], fds[1], seed | 1);
        close(fds[1]);
        for (bool dying = false; read(fds[0], record, sizeof(record)) == sizeof(record);) {
            written[record[0]] = record[1];
            if (record[1] % 4 == 0)
                memcpy(durable, written, sizeof(durable));
            if (record[1] >= stop && !dying) {
                kill(pid, SIGKILL);
                dying = true;
            }
        }
        close(fds[0]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(block_check(names[0], NULL, &c, &diag), 0);
        assert_int_equal(c.errors, 0);
        assert_int_equal(block_open(names[0], NULL, &b, &diag), 0);
        for (uint32_t slot = 0; slot < 512; slot++) {
            assert_int_equal(block_read(b, (uint64_t)slot << 16, buf, 512), 0);
            assert_true(get_le32(buf) >= durable[slot]);
        }
        assert_int_equal(block_close(b), 0);
        assert_int_equal(block_check(names[0], NULL, &c, &diag), 0);
        assert_int_equal(c.errors, 0);
        unlink(names[0]);
    }
}

static void probing(void **state)
{
    struct block_create_options o = { .type = BLOCK_TYPE_DYNAMIC, .size = 1 << 20 };
    struct block *b;
    uint8_t buf[1024] = "vhdxfile";

    (void)state;
    snprintf(names[0], sizeof(names[0]), "%s/a.img", dir);
    assert_int_equal(block_create(names[0], &o, &diag), 0);
    assert_int_equal(block_open(names[0], NULL, &b, &diag), 0);
    assert_string_equal(b->driver->name, "raw");
    assert_int_equal(block_write(b, 0, buf, 1024), -EPERM);
    memmove(buf + 512, "conectix", 8);
    assert_int_equal(block_write(b, (1 << 20) - 1024, buf, 1024), -EPERM);
    assert_int_equal(block_write(b, 512, buf, 1024), 0);
    block_close(b);
    snprintf(names[1], sizeof(names[1]), "%s/a.vhdx", dir);
    assert_int_equal(rename(names[0], names[1]), 0);
    assert_int_equal(block_open(names[1], NULL, &b, &diag), -EINVAL);
    assert_non_null(strstr(diag.text, "no VHDX signature"));
    unlink(names[1]);
    assert_int_equal(block_open(dir, NULL, &b, &diag), -EISDIR);
    assert_int_equal(block_open("/dev/null", NULL, &b, &diag), -EINVAL);
}

/* A file whose writes take long enough for a guest to change what is written. */
static const struct bfile_ops *below;
static uint8_t *guest;

static int late_writev(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    memcpy(guest, "vhdxfile", 8);
    memcpy(guest + 512 + 300, "conectix", 8);
    memcpy(guest + 1024, "conectix", 8);
    return below->writev(f, iov, niov, off);
}

static void probing_late(void **state)
{
    enum { SIZE = 1024 + 300 };
    struct bfile_ops ops;
    struct block *b;
    struct block_info info;
    uint8_t buf[1536], now[1536];
    struct iovec v[] = { { buf, 3 }, { buf + 3, 0 }, { buf + 3, 2 }, { buf + 5, 1018 }, { buf + 1023, 513 } };
    int fd;

    (void)state;
    snprintf(names[0], sizeof(names[0]), "%s/a.img", dir);
    fd = open(names[0], O_RDWR | O_CREAT | O_EXCL, 0600);
    assert_int_equal(ftruncate(fd, SIZE), 0); /* the end, and so the signature of a VHD, within a sector */
    assert_int_equal(block_open(names[0], NULL, &b, &diag), 0);
    assert_int_equal(block_size(b), 1536);
    for (unsigned i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 7 + 1);
    memcpy(buf + SIZE - 512, "conectix", 8);
    assert_int_equal(block_write(b, 512, buf + 512, 512), -EPERM);
    assert_int_equal(block_writev(b, 0, v, 5), -EPERM);
    buf[SIZE - 512] = 'C';
    below = b->file->ops;
    ops = *below;
    ops.writev = late_writev;
    b->file->ops = &ops;
    guest = buf;
    memcpy(now, buf, sizeof(now));
    assert_int_equal(block_writev(b, 0, v, 5), 0);
    assert_memory_equal(buf, "vhdxfile", 8);
    b->file->ops = below;
    assert_int_equal(block_read(b, 0, buf, sizeof(buf)), 0);
    assert_memory_equal(buf, now, sizeof(buf));
    block_get_info(b, &info);
    assert_int_equal(info.file_size, 1536);
    block_close(b);
    close(fd);
    unlink(names[0]);
}

/* What a raw image promises of discarded data. */
static void discarding(void **state)
{
    struct block_info info;
    struct block *b;
    uint8_t buf[4096];
    char sub[80];
    bool own;

    (void)state;
    snprintf(sub, sizeof(sub), "%s/ramfs", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    own = unshare(CLONE_NEWNS) == 0 && mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 &&
          mount("ramfs", sub, "ramfs", 0, NULL) == 0;
    for (int i = 0; i < (own ? 2 : 1); i++) {
        int fd;

        snprintf(names[0], sizeof(names[0]), "%s/a.img", i ? sub : dir);
        fd = open(names[0], O_RDWR | O_CREAT | O_EXCL, 0600);
        memset(buf, 0x55, sizeof(buf));
        assert_int_equal(pwrite(fd, buf, sizeof(buf), 0), sizeof(buf));
        close(fd);
        assert_int_equal(block_open(names[0], NULL, &b, &diag), 0);
        block_get_info(b, &info);
        assert_int_equal(info.file_size, sizeof(buf));
        if (i) /* it makes no holes */
            assert_false(info.discard_zeroes);
        assert_int_equal(block_discard(b, 0, sizeof(buf)), 0);
        assert_int_equal(block_read(b, 0, buf, sizeof(buf)), 0);
        assert_int_equal(buf[0], info.discard_zeroes ? 0 : 0x55);
        assert_int_equal(buf[4095], info.discard_zeroes ? 0 : 0x55);
        assert_int_equal(block_write_zeroes(b, 0, sizeof(buf), true), 0);
        assert_int_equal(block_read(b, 0, buf, sizeof(buf)), 0);
        assert_int_equal(buf[0], 0);
        block_close(b);
        unlink(names[0]);
        snprintf(names[0], sizeof(names[0]), "%s/a.img", dir);
    }
    if (own)
        assert_int_equal(umount(sub), 0);
    else
        print_message("no ramfs can be mounted here: only the file system of %s\n", dir);
    rmdir(sub);
}

static void copying(void **state)
{
    static const enum block_format formats[] = { BLOCK_RAW, BLOCK_VHD, BLOCK_VHDX };
    struct block_create_options o = { .format = BLOCK_VHDX, .size = 20 << 20,
                                      .block_size = 1 << 20 };
    struct memfile *m = image(&o, NULL);
    struct block *from = open_as(m, BLOCK_VHDX, false);
    uint8_t *a = malloc(20 << 20), *c = malloc(20 << 20);
    uint64_t seed = 5;

    (void)state;
    for (int i = 0; i < 60; i++) {
        uint64_t off = rnd(&seed) % (40000 - 64) * 512;
        for (int k = 0; k < 64 * 512; k++)
            a[k] = (uint8_t)(rnd(&seed) >> 11);
        assert_int_equal(block_write(from, off, a, 512 * (1 + i % 64)), 0);
    }
    assert_int_equal(block_read(from, 0, a, 20 << 20), 0);
    for (size_t i = 0; i < COUNT(formats) + 1; i++) {
        struct block_create_options to_o = {
            .format = i < COUNT(formats) ? formats[i] : BLOCK_VHDX, .type = BLOCK_TYPE_DYNAMIC,
            .size = 20 << 20, .logical_sector_size = i == COUNT(formats) ? 4096 : 512 };
        struct memfile *tm = image(&to_o, NULL);
        struct block *to = open_as(tm, to_o.format, false);
        assert_int_equal(block_copy(from, to, NULL, NULL, &diag), 0);
        assert_int_equal(block_read(to, 0, c, 20 << 20), 0);
        assert_memory_equal(a, c, 20 << 20);
        block_close(to);
        memfile_destroy(tm);
    }
    block_close(from);
    memfile_destroy(m);
    free(a);
    free(c);
}

/* What a read that does not wait gives is what a read gives, and nothing that a format would have to make up. */
static void at_hand(void **state)
{
    static const char *const files[] = { "at-hand.raw", "at-hand.vhdx", "at-hand.vhd" };
    uint8_t *a = malloc(MIB), *c = malloc(MIB);
    uint64_t seed = 9;

    (void)state;
    for (size_t f = 0; f < COUNT(files); f++) {
        struct block_create_options o = { .size = 64 << 20, .block_size = f ? 1 << 21 : 0,
                                          .type = BLOCK_TYPE_DYNAMIC };
        struct iovec v[2];
        struct block *b;
        unsigned got = 0;
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", dir, files[f]);
        assert_int_equal(block_create(path, &o, &diag), 0);
        assert_int_equal(block_open(path, NULL, &b, &diag), 0);
        v[0] = (struct iovec){ c, 512 };
        if (f) /* a block that is not there */
            assert_int_equal(block_readv_nowait(b, 0, v, 1), -EAGAIN);
        for (size_t k = 0; k < MIB; k++)
            a[k] = (uint8_t)(rnd(&seed) >> 11);
        assert_int_equal(block_write(b, (4 << 20) + 512, a, MIB - 1024), 0);
        assert_int_equal(block_read(b, (4 << 20) + 512, a, MIB - 1024), 0);
        for (int i = 0; i < 500; i++) {
            uint64_t at = rnd(&seed) % 2000 * 512;
            size_t n = 512 * (1 + rnd(&seed) % 40);

            v[0] = (struct iovec){ c, 100 };
            v[1] = (struct iovec){ c + 100, n - 100 };
            memset(c, 0xee, n);
            if (block_readv_nowait(b, (4 << 20) + 512 + at, v, 2))
                continue;
            got++;
            if (at + n <= MIB - 1024)
                assert_memory_equal(c, a + at, n);
        }
        assert_true(got == 0 || f < 2); /* a host without such reads has none */
        v[0] = (struct iovec){ c, 4096 };
        if (f) /* from one block to the next */
            assert_int_equal(block_readv_nowait(b, (2 << 20) - 512, v, 1), -EAGAIN);
        assert_int_equal(block_readv_nowait(b, (64 << 20) - 512, v, 1), -EAGAIN);
        assert_int_equal(block_readv_nowait(b, 256, v, 1), -EAGAIN);
        block_close(b);
        unlink(path);
    }
    free(a);
    free(c);
}

/* ---- the queue, many threads --------------------------------------------------------------------------- */

enum { REQUESTS = 64, AREA = 96 << 10 };

struct job {
    struct block_request r;
    struct iovec iov;
    uint8_t buf[AREA];
    unsigned index, step, *left;
    struct block_queue *q;
};

/* Each request has an area of its own: write, read back, and again; flushes and discards between. */
static void next_step(struct block_request *r, int err)
{
    struct job *j = r->ctx;

    assert_int_equal(err, 0);
    if (r->op == BLOCK_OP_READ)
        for (unsigned i = 0; i < AREA; i += 512)
            assert_int_equal(j->buf[i + 7], (uint8_t)(j->index + j->step));
    if (++j->step == 24) {
        --*j->left;
        return;
    }
    switch (j->step % 4) {
    case 0: r->op = j->index % 3 ? BLOCK_OP_DISCARD : BLOCK_OP_FLUSH; break;
    case 1:
        r->op = BLOCK_OP_WRITE;
        r->fua = j->index % 5 == 0;
        memset(j->buf, (int)(j->index + j->step + 1), AREA);
        break;
    case 2: r->op = BLOCK_OP_READ; break;
    case 3: r->op = BLOCK_OP_FLUSH; break;
    }
    block_queue_submit(j->q, r);
}

static void queue(void **state)
{
    static struct job jobs[REQUESTS];

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct block_create_options o = { .format = i ? BLOCK_VHD : BLOCK_VHDX,
                                          .type = BLOCK_TYPE_DYNAMIC, .size = 16 << 20,
                                          .block_size = 1 << 20 };
        struct memfile *m = image(&o, NULL);
        struct block *b = open_as(m, o.format, false);
        unsigned left = REQUESTS;
        struct block_queue *q;
        assert_int_equal(block_queue_create(b, 0, &q), 0);
        for (unsigned k = 0; k < REQUESTS; k++) {
            struct job *j = &jobs[k];
            *j = (struct job){ .index = k, .left = &left, .q = q };
            j->iov = (struct iovec){ j->buf, AREA };
            j->r = (struct block_request){ .op = BLOCK_OP_FLUSH, .off = (uint64_t)k * AREA,
                                           .len = AREA, .iov = &j->iov, .niov = 1,
                                           .done = next_step, .ctx = j };
            block_queue_submit(q, &j->r);
        }
        block_queue_drain(q);
        assert_int_equal(left, 0);
        block_queue_destroy(q);
        assert_int_equal(block_close(b), 0);
        clean(m, o.format);
        memfile_destroy(m);
    }
}

/* ---- tools ------------------------------------------------------------------------------------------------ */

static void tools(void **state)
{
    uint8_t u[64];
    char *s;
    uint32_t c, h, n;

    (void)state;
    assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283); /* RFC 3720 */
    assert_int_equal(block_utf16("a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80", u, sizeof(u), false), 10);
    s = block_utf8(u, 10, false);
    assert_string_equal(s, "a\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80");
    free(s);
    assert_int_equal(block_utf16("\xff", u, sizeof(u), false), -1);
    assert_int_equal(block_utf16("\xc0\x80", u, sizeof(u), false), -1);
    assert_int_equal(block_utf16("abc", u, 4, true), -1);
    assert_null(block_utf8((const uint8_t *)"\0\xd8z\0", 4, false));
    assert_null(block_utf8((const uint8_t *)"a\0b", 3, false));
    /* VHD, appendix: small, middle, and the largest disks */
    block_chs((100 << 20) / 512, &c, &h, &n);
    assert_int_equal(c, 1003);
    assert_int_equal(h, 12);
    assert_int_equal(n, 17);
    block_chs(4ULL << 31, &c, &h, &n);
    assert_int_equal(c, 65535);
    assert_int_equal(h, 16);
    assert_int_equal(n, 255);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tools),         cmocka_unit_test(against_array),
        cmocka_unit_test(bad_requests),  cmocka_unit_test(extremes),
        cmocka_unit_test(vhdx_headers),  cmocka_unit_test(vhdx_regions),
        cmocka_unit_test(vhdx_metadata), cmocka_unit_test(vhdx_bat),
        cmocka_unit_test(vhdx_log),      cmocka_unit_test(vhdx_bad_log),
        cmocka_unit_test(vhdx_foreign_log), cmocka_unit_test(vhdx_space),
        cmocka_unit_test(vhd_damage),    cmocka_unit_test(vhd_header),
        cmocka_unit_test(random_damage), cmocka_unit_test(full_disk),
        cmocka_unit_test(failed_sync),   cmocka_unit_test(chain),
        cmocka_unit_test(killed),
        cmocka_unit_test(probing), cmocka_unit_test(probing_late),
        cmocka_unit_test(discarding),       cmocka_unit_test(copying),
        cmocka_unit_test(at_hand),       cmocka_unit_test(queue),
    };

    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
