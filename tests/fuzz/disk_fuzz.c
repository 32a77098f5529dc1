/* SPDX-License-Identifier: BSD-2-Clause */
/* What the fuzz targets of the image formats share. */
#include "tests/fuzz/disk_fuzz.h"

#include <stdio.h>
#include <stdlib.h>

static void say(void *ctx, enum block_problem kind, const char *text)
{
    (void)ctx;
    if (getenv("FUZZ_VERBOSE"))
        fprintf(stderr, "%d: %s\n", kind, text);
}

/* What must be true, with any input. */
static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "fuzz: %s\n", what);
        abort();
    }
}

struct memfile *fuzz_image(enum block_format format, enum block_type type, bool log)
{
    struct block_create_options o = { .format = format, .type = BLOCK_TYPE_DYNAMIC,
                                      .size = 4 << 20,
                                      .block_size = format == BLOCK_VHDX ? 1 << 20 : 512 << 10 };
    struct block_options opt = { .format = format, .no_parent = true };
    struct memfile *pm = memfile_create("/dev/null"), *m = memfile_create("/dev/zero"), *copy;
    struct block *parent = NULL, *b;
    struct diag diag = { "" };
    uint8_t buf[4096];

    memset(buf, 0x42, sizeof(buf));
    if (type == BLOCK_TYPE_DIFFERENCING) {
        must(block_create_file(&pm->f, &o, NULL, &diag) == 0, diag.text);
        must(block_open_file(&pm->f, &opt, &parent, &diag) == 0, diag.text);
    }
    o.type = type;
    if (type == BLOCK_TYPE_FIXED && format == BLOCK_VHD)
        o.block_size = 0;
    must(block_create_file(&m->f, &o, parent, &diag) == 0, diag.text);
    must(block_open_file(&m->f, &opt, &b, &diag) == 0, diag.text);
    must(block_write(b, 0, buf, sizeof(buf)) == 0, "write");
    must(block_write(b, 3 << 20, buf, sizeof(buf)) == 0, "write");
    must(block_flush(b) == 0, "flush");
    copy = memfile_copy(m);
    block_close(b);
    block_close(parent);
    memfile_destroy(pm);
    if (log) {
        memfile_destroy(m);
        return copy;
    }
    memfile_destroy(copy);
    return m;
}

static void use(struct block *b)
{
    static uint8_t buf[8192], back[8192];
    uint64_t size = block_size(b), step, len;
    unsigned flags;

    must(size > 0 && size % b->logical == 0, "size");
    step = round_up(size / 16 + 1, b->logical);
    for (uint64_t at = 0; at < size; at += step) {
        size_t n = size - at < sizeof(buf) ? (size_t)(size - at) : sizeof(buf);
        if (block_map(b, at, size - at, &flags, &len) == 0)
            must(len > 0 && len <= size - at && len % b->logical == 0, "map");
        if (block_read(b, at, buf, n) == 0) {
            const struct iovec v = { back, n };

            if (block_readv_nowait(b, at, &v, 1) == 0)
                must(memcmp(buf, back, n) == 0, "what is read without waiting is something else");
        }
    }
    for (uint64_t at = 0; at < size; at += step * 3) {
        memset(buf, (int)at + 1, b->logical);
        if (block_write(b, at, buf, b->logical) == 0) {
            must(block_read(b, at, back, b->logical) == 0, "reading back");
            must(memcmp(buf, back, b->logical) == 0, "what was written is not there");
        }
    }
    (void)block_write_zeroes(b, 0, b->logical, true);
    (void)block_discard(b, 0, size < (8 << 20) ? size : 8 << 20);
    (void)block_flush(b);
}

void fuzz_one(const struct fuzz_format *f, const uint8_t *data, size_t len)
{
    static struct memfile *base[4];
    struct block_options opt = { .format = f->format, .no_parent = true };
    struct diag diag = { "" };
    struct memfile *m;
    unsigned before, errors = 0;
    struct block *b;
    uint8_t how;

    if (len < 1)
        return;
    how = *data++;
    len--;
    if (!base[how & 3])
        base[how & 3] = f->make(how & 3);
    m = memfile_view(base[how & 3]);
    m->limit = m->size + (64 << 20);
    opt.read_only = how & 4;
    if (how & 16 && len >= 2) {
        uint64_t size = get_le16(data) * 512ULL;
        m->size = size < m->size ? size : (uint64_t)m->size;
        data += 2;
        len -= 2;
    }
    while (len >= 4) {
        uint64_t at = f->places[data[0] % f->nplaces] + get_le16(data + 1) % 4096;
        size_t n = data[3];
        data += 4;
        len -= 4;
        if (n > len)
            n = len;
        memcpy(m->map + at, data, n);
        data += n;
        len -= n;
    }
    if (!(how & 8))
        f->checksums(m);
    before = m->changes;
    if (how & 32) {
        struct block_check c = { .repair = !opt.read_only };
        int err = block_check_file(&m->f, &opt, &c, &diag);
        must(!opt.read_only || m->changes == before, "a check wrote");
        if (!err && !c.errors && c.repair) {
            c = (struct block_check){ .report = say };
            must(block_check_file(&m->f, &opt, &c, &diag) == 0 && !c.errors,
                 "a repaired image is damaged");
        }
        memfile_destroy(m);
        return;
    }
    if (!opt.read_only) { /* one of two copies may be damaged */
        struct block_check c = { .repair = false };
        if (block_check_file(&m->f, &opt, &c, &diag) == 0)
            errors = c.errors;
    }
    diag.text[0] = '\0';
    if (block_open_file(&m->f, &opt, &b, &diag) == 0) {
        use(b);
        (void)block_close(b);
        must(!opt.read_only || m->changes == before, "a read-only image was written to");
        if (!opt.read_only && m->size < m->limit) { /* what we wrote to is clean */
            struct block_check c = { .report = say };
            must(block_check_file(&m->f, &opt, &c, &diag) == 0 && c.errors <= errors,
                 "an image is damaged after use");
        }
    } else {
        must(diag.text[0], "an error without a message");
        must(m->changes == before, "a refused image was written to");
    }
    memfile_destroy(m);
}
