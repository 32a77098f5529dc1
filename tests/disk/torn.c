/* SPDX-License-Identifier: BSD-2-Clause */
/* Crash tests of the image formats.  A guest writes, flushes, discards and zeroes; every write below
 * is recorded.  Then the host dies after each of them, with any part of what was not synced lost or
 * torn: the image must check clean, open, have all that was flushed, and go on working; also when the
 * host dies again while the image recovers.
 *
 *   torn [SEED [ROUNDS]]     a longer run by hand */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/block/block_int.h"
#include "tests/disk/memfile.h"

enum { SECTOR = 512, EVENTS = 48, MAX_RUN = 96, ZEROES = 0x7fffffff };
#define DISK_SIZE (8 * MIB)
#define NSECT ((uint32_t)(DISK_SIZE / SECTOR))

enum what { WRITE, ZERO, DISCARD, FLUSH };
struct event {
    enum what what;
    uint32_t sector, count, version;
    size_t first_op, end_op; /* of the record */
};

struct scenario {
    const char *name;
    enum block_format format;
    bool differencing, no_punch;
    uint32_t block_size;
};

static struct event events[EVENTS];
static struct block *parent;
static unsigned points;

static void content(uint8_t *p, uint32_t sector, uint32_t version)
{
    uint64_t s = ((uint64_t)sector << 32 | version) * 0x9e3779b97f4a7c15ULL | 1;

    if (version == ZEROES || (version == 0 && (!parent || sector % 3 == 0))) {
        memset(p, 0, SECTOR);
        return;
    }
    for (int i = 0; i < SECTOR; i += 8) {
        put_le64(p + i, s);
        s += 0x9e3779b97f4a7c15ULL;
    }
}

static bool is(const uint8_t *p, uint32_t sector, uint32_t version)
{
    uint8_t want[SECTOR];

    content(want, sector, version);
    return memcmp(p, want, SECTOR) == 0;
}

static void die(const struct scenario *sc, size_t point, uint64_t seed, const char *fmt, ...)
    __attribute__((format(printf, 4, 5), noreturn));
static void die(const struct scenario *sc, size_t point, uint64_t seed, const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "torn: %s, crash after write %zu, seed 0x%llx: ", sc->name, point,
            (unsigned long long)seed);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    exit(1);
}

static struct block *open_image(const struct scenario *sc, struct memfile *m, struct diag *diag)
{
    struct block_options opt = { .format = sc->format, .no_parent = true };
    struct block *b = NULL;

    if (block_open_file(&m->f, &opt, &b, diag) == 0)
        b->parent = parent;
    return b;
}

static int close_image(struct block *b)
{
    b->parent = NULL;
    return block_close(b);
}

static struct memfile *make_parent(const struct scenario *sc)
{
    struct memfile *m = memfile_create("/dev/null");
    struct block_create_options o = { .format = sc->format, .type = BLOCK_TYPE_DYNAMIC,
                                      .size = DISK_SIZE, .block_size = sc->block_size };
    struct block_options opt = { .format = sc->format };
    uint8_t buf[SECTOR];
    struct diag diag = { "" };

    parent = NULL;
    if (block_create_file(&m->f, &o, NULL, &diag) || block_open_file(&m->f, &opt, &parent, &diag)) {
        fprintf(stderr, "torn: %s\n", diag.text);
        exit(1);
    }
    for (uint32_t s = 0; s < NSECT; s++) {
        content(buf, s, 0);
        if (s % 3 && block_write(parent, (uint64_t)s * SECTOR, buf, SECTOR))
            exit(1);
    }
    return m;
}

/* A guest's life; its writes stay within one version number each. */
static void run_guest(const struct scenario *sc, struct memfile *m, uint64_t *seed)
{
    static uint8_t buf[MAX_RUN * SECTOR];
    struct diag diag = { "" };
    struct block *b = open_image(sc, m, &diag);
    uint32_t per_block = sc->block_size / SECTOR;

    if (!b)
        die(sc, 0, *seed, "%s", diag.text);
    for (uint32_t i = 0; i < EVENTS; i++) {
        struct event *e = &events[i];
        unsigned r = (unsigned)(rnd(seed) >> 16) % 16;
        uint64_t off, len;
        int err = 0;
        *e = (struct event){ .version = i + 1, .first_op = m->nops };
        e->what = i == EVENTS - 1 ? FLUSH : r < 9 ? WRITE : r < 13 ? FLUSH : r < 14 ? DISCARD : ZERO;
        e->count = 1 + (uint32_t)(rnd(seed) >> 8) % MAX_RUN;
        e->sector = (uint32_t)(rnd(seed) >> 8) % (NSECT - e->count);
        if (e->what != WRITE && rnd(seed) & 0x300) { /* mostly whole blocks */
            e->sector = e->sector / per_block * per_block;
            e->count = per_block;
        }
        off = (uint64_t)e->sector * SECTOR;
        len = (uint64_t)e->count * SECTOR;
        switch (e->what) {
        case WRITE:
            for (uint32_t s = 0; s < e->count; s++)
                content(buf + s * SECTOR, e->sector + s, e->version);
            err = block_write(b, off, buf, len);
            break;
        case ZERO:
            e->version = ZEROES;
            err = block_write_zeroes(b, off, len, i & 1);
            break;
        case DISCARD: err = block_discard(b, off, len); break;
        case FLUSH: err = block_flush(b); break;
        }
        if (err)
            die(sc, i, *seed, "event %u: %s", i, strerror(-err));
        e->end_op = m->nops;
    }
    if (close_image(b))
        die(sc, m->nops, *seed, "closing failed");
}

/* Each sector has the version of the last flush before @point, or a later one. */
static void verify(const struct scenario *sc, struct block *b, size_t point, uint64_t seed)
{
    static uint8_t disk[8 << 20];
    static uint32_t flushed[8 << 11];
    static bool loose[8 << 11]; /* discarded: any version of this sector, or zeroes */
    int last = -1;
    int err = block_read(b, 0, disk, sizeof(disk));

    if (err)
        die(sc, point, seed, "reading: %s", strerror(-err));
    memset(flushed, 0, sizeof(flushed));
    memset(loose, 0, sizeof(loose));
    for (int i = 0; i < EVENTS; i++)
        if (events[i].what == FLUSH && events[i].end_op <= point)
            last = i;
    for (int i = 0; i < EVENTS && events[i].first_op <= point; i++) {
        const struct event *e = &events[i];
        for (uint32_t s = e->sector; e->what != FLUSH && s < e->sector + e->count; s++) {
            if (e->what == DISCARD)
                loose[s] = true;
            else if (i < last) {
                flushed[s] = e->version;
                loose[s] = false;
            }
        }
    }
    for (uint32_t s = 0; s < NSECT; s++) {
        const uint8_t *p = disk + (size_t)s * SECTOR;
        bool good = is(p, s, flushed[s]) || (loose[s] && (is(p, s, ZEROES) || is(p, s, 0)));
        for (int i = loose[s] ? 0 : last + 1; !good && i < EVENTS; i++) {
            const struct event *e = &events[i];
            if (e->first_op > point)
                break;
            if ((e->what == WRITE || e->what == ZERO) && s >= e->sector &&
                s < e->sector + e->count)
                good = is(p, s, e->version);
        }
        if (!good)
            die(sc, point, seed, "sector %u is not what was flushed (version %u)", s, flushed[s]);
    }
}

static void no_errors(const struct scenario *sc, struct memfile *m, size_t point, uint64_t seed,
                      const char *when)
{
    struct block_options opt = { .format = sc->format };
    struct block_check c = { .report = NULL };
    struct diag diag = { "" };
    unsigned before = m->changes;

    if (block_check_file(&m->f, &opt, &c, &diag))
        die(sc, point, seed, "check %s: %s", when, diag.text);
    if (c.errors)
        die(sc, point, seed, "check %s: %u errors", when, c.errors);
    if (m->changes != before)
        die(sc, point, seed, "check %s: wrote to the image", when);
}

static void recover(const struct scenario *sc, struct memfile *m, size_t point, uint64_t seed,
                    bool again)
{
    static uint8_t buf[MAX_RUN * SECTOR], back[MAX_RUN * SECTOR];
    struct diag diag = { "" };
    struct block *b;

    points++;
    no_errors(sc, m, point, seed, "after the crash");
    b = open_image(sc, m, &diag);
    if (!b)
        die(sc, point, seed, "opening: %s", diag.text);
    verify(sc, b, point, seed);
    if (again) {
        memset(buf, 0x5a, sizeof(buf));
        for (int i = 0; i < 4; i++) {
            uint64_t off = rnd(&seed) % (NSECT - MAX_RUN) * SECTOR;
            if (block_write(b, off, buf, sizeof(buf)) || block_flush(b) ||
                block_read(b, off, back, sizeof(back)) || memcmp(buf, back, sizeof(buf)) != 0)
                die(sc, point, seed, "does not work after recovery");
        }
    }
    if (close_image(b))
        die(sc, point, seed, "closing after recovery failed");
    no_errors(sc, m, point, seed, "after recovery");
}

/* The host dies again while the image is opened, read and closed. */
static void crash_in_recovery(const struct scenario *sc, const struct memfile *crashed,
                              size_t point, uint64_t seed)
{
    struct memfile *durable = memfile_copy(crashed), *m = memfile_copy(crashed);
    struct diag diag = { "" };
    struct block *b;
    uint8_t byte[SECTOR];
    size_t synced = 0;

    m->record = true;
    b = open_image(sc, m, &diag);
    if (!b)
        die(sc, point, seed, "opening: %s", diag.text);
    /* a write that changes nothing makes the image go through all that precedes the first change */
    if (block_read(b, 0, byte, SECTOR) || block_write(b, 0, byte, SECTOR) || block_flush(b))
        die(sc, point, seed, "first write after recovery failed");
    close_image(b);
    for (size_t k = 0; k <= m->nops; k++) {
        struct memfile *v = memfile_view(durable);
        for (size_t i = synced; i < k; i++)
            memfile_apply(v, &m->ops[i], &seed);
        recover(sc, v, point, seed, false);
        memfile_destroy(v);
        if (k < m->nops && m->ops[k].kind == MEM_SYNC)
            for (; synced <= k; synced++)
                memfile_apply(durable, &m->ops[synced], NULL);
    }
    memfile_destroy(m);
    memfile_destroy(durable);
}

static void run(const struct scenario *sc, uint64_t seed)
{
    struct block_create_options o = { .format = sc->format, .size = DISK_SIZE,
                                      .block_size = sc->block_size,
                                      .type = sc->differencing ? BLOCK_TYPE_DIFFERENCING
                                                               : BLOCK_TYPE_DYNAMIC };
    struct memfile *base = sc->differencing ? make_parent(sc) : NULL, *m, *durable;
    struct diag diag = { "" };
    size_t synced = 0;

    m = memfile_create("/dev/zero");
    if (block_create_file(&m->f, &o, parent, &diag))
        die(sc, 0, seed, "%s", diag.text);
    durable = memfile_copy(m);
    m->record = true;
    m->no_punch = sc->no_punch;
    run_guest(sc, m, &seed);
    for (size_t k = 0; k <= m->nops; k++) {
        for (int variant = 0; variant < 3; variant++) {
            struct memfile *v = memfile_view(durable);
            uint64_t s = rnd(&seed) | 1, s0 = s;
            /* first: all that was written, as after SIGKILL */
            for (size_t i = synced; i < k; i++)
                memfile_apply(v, &m->ops[i], variant ? &s : NULL);
            if (variant == 2 && k % 16 == 5)
                crash_in_recovery(sc, v, k, s0);
            recover(sc, v, k, s0, true);
            memfile_destroy(v);
        }
        if (k < m->nops && m->ops[k].kind == MEM_SYNC)
            for (; synced <= k; synced++)
                memfile_apply(durable, &m->ops[synced], NULL);
    }
    memfile_destroy(durable);
    memfile_destroy(m);
    block_close(parent);
    parent = NULL;
    memfile_destroy(base);
}

int main(int argc, char **argv)
{
    static const struct scenario scenarios[] = {
        { "dynamic VHDX", BLOCK_VHDX, false, false, MIB },
        { "dynamic VHDX without hole punching", BLOCK_VHDX, false, true, MIB },
        { "differencing VHDX", BLOCK_VHDX, true, false, MIB },
        { "differencing VHDX, blocks of 2M", BLOCK_VHDX, true, false, 2 * MIB },
        { "dynamic VHD", BLOCK_VHD, false, false, 512 << 10 },
        { "differencing VHD", BLOCK_VHD, true, false, 512 << 10 },
    };
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : 0x6d6f626f;
    unsigned rounds = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 0) : 1;

    for (unsigned r = 0; r < rounds; r++) {
        for (size_t i = 0; i < COUNT(scenarios); i++) {
            points = 0;
            run(&scenarios[i], seed + r * 0x9e3779b97f4a7c15ULL);
            printf("%-38s %5u crashes survived\n", scenarios[i].name, points);
            fflush(stdout);
        }
    }
    return 0;
}
