/* SPDX-License-Identifier: BSD-2-Clause */
/* VHD images: fixed, dynamic, differencing.
 * Reference: "Virtual Hard Disk Image Format Specification", version 1.0, cited as VHD.
 *
 * There is no log: order does it.  A flush syncs the file (data, new blocks, the footer behind them),
 * then writes the sectors of the BAT and of bitmaps that refer to them, and syncs again.  A block that
 * was not linked in before a crash is cut off again; the footer that its allocation overwrote is
 * restored from the copy at the beginning, which is what that copy is for. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>

#include "core/block/block_int.h"

enum { SECTOR = 512 };

/* Footer, VHD "Hard Disk Footer Format". */
enum {
    F_COOKIE = 0,
    F_FEATURES = 8,
    F_VERSION = 12,
    F_DATA_OFFSET = 16,
    F_TIME = 24,
    F_CREATOR = 28,
    F_CREATOR_VERSION = 32,
    F_CREATOR_OS = 36,
    F_ORIGINAL_SIZE = 40,
    F_SIZE = 48,
    F_GEOMETRY = 56,
    F_TYPE = 60,
    F_CHECKSUM = 64,
    F_ID = 68,
    F_LEN = 512,
};
enum { TYPE_FIXED = 2, TYPE_DYNAMIC = 3, TYPE_DIFFERENCING = 4 };

/* Dynamic disk header, VHD "Dynamic Disk Header Format". */
enum {
    D_COOKIE = 0,
    D_DATA_OFFSET = 8,
    D_TABLE_OFFSET = 16,
    D_VERSION = 24,
    D_ENTRIES = 28,
    D_BLOCK_SIZE = 32,
    D_CHECKSUM = 36,
    D_PARENT_ID = 40,
    D_PARENT_TIME = 56,
    D_PARENT_NAME = 64,
    D_LOCATORS = 576, /* 8 of 24 bytes: code, space, length, reserved, offset */
    D_LEN = 1024,
};
enum { PARENT_NAME_LEN = 512, LOCATORS = 8, LOCATOR_LEN = 24, LOCATOR_DATA_MAX = 64 << 10 };

#define VERSION_1 0x00010000u
#define UNUSED_ENTRY 0xffffffffu
#define VHD_SIZE_MAX (2040ULL << 30)
#define VHD_EPOCH 946684800 /* 2000-01-01 */

enum { BLOCK_MIN = 64 << 10, BLOCK_MAX = 256 << 20, DIRTY_MAX = 512 };

struct vhd {
    struct block *b;
    uint8_t footer[F_LEN], parent_id[16];
    bool head_good, tail_good; /* the two copies of the footer */
    uint64_t bat_off, end;     /* end: behind the last structure; the footer goes there */
    uint32_t nentries, bitmap_len;
    uint64_t used;             /* bytes of structures and blocks */
    uint64_t nallocated;

    pthread_rwlock_t lock;     /* reading: data moves; writing: tables change */
    pthread_mutex_t load_lock, flush_lock;
    atomic_bool written;

    uint32_t *bat;             /* guarded by lock; host order */
    uint8_t *bat_dirty;        /* one for each 512-byte sector of the BAT */
    _Atomic(uint8_t *) *bitmaps; /* one each block, read on first use */
    uint8_t *bitmap_dirty;     /* one for each block */
    uint32_t dirty[DIRTY_MAX]; /* what is marked: BAT sectors, or blocks | DIRTY_BITMAP */
    unsigned ndirty;
};
#define DIRTY_BITMAP 0x80000000u

static uint32_t checksum(const uint8_t *p, size_t len, size_t at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < len; i++)
        if (i < at || i >= at + 4)
            sum += p[i];
    return ~sum;
}

static bool footer_good(const uint8_t *f)
{
    return memcmp(f, "conectix", 8) == 0 && get_be32(f + F_CHECKSUM) == checksum(f, F_LEN, F_CHECKSUM);
}

/* ---- opening ---------------------------------------------------------------------------------------- */

static int read_footer(struct vhd *v, uint64_t size, struct diag *diag)
{
    struct bfile *f = v->b->file;
    uint8_t head[F_LEN], tail[F_LEN];
    int err = 0;

    if (size < F_LEN)
        return diag_set(diag, -EUCLEAN, "%s: is cut off: too small for a VHD footer", f->path);
    err = bfile_read(f, head, F_LEN, 0);
    if (!err)
        err = bfile_read(f, tail, F_LEN, size - F_LEN);
    if (err)
        return diag_set(diag, err, "%s: %s", f->path, strerror(-err));
    v->tail_good = size % SECTOR == 0 && footer_good(tail);
    v->head_good = footer_good(head) && get_be32(head + F_TYPE) != TYPE_FIXED;
    if (!v->tail_good && !v->head_good)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: it has no valid VHD footer", f->path);
    /* One of the two may be a guest's: a sector 0 of a fixed disk, or a sector of a new block that a
     * crash left at the end.  Which one cannot be told. */
    if (v->tail_good && v->head_good &&
        (memcmp(head + F_DATA_OFFSET, tail + F_DATA_OFFSET, 8) != 0 ||
         memcmp(head + F_SIZE, tail + F_SIZE, F_CHECKSUM - F_SIZE) != 0 ||
         memcmp(head + F_ID, tail + F_ID, 16) != 0))
        return diag_set(diag, -EUCLEAN, "%s: is damaged: its two footers are of different disks",
                        f->path);
    memcpy(v->footer, v->tail_good ? tail : head, F_LEN);
    if (get_be32(v->footer + F_VERSION) >> 16 != 1)
        return diag_set(diag, -ENOTSUP, "%s: VHD version %u (known: 1)", f->path,
                        get_be32(v->footer + F_VERSION) >> 16);
    return 0;
}

static int read_locator(struct vhd *v, const uint8_t *l, uint64_t size, uint64_t *end,
                        struct diag *diag)
{
    uint32_t code = get_be32(l), len = get_be32(l + 8);
    uint64_t off = get_be64(l + 16);
    struct bfile *f = v->b->file;
    uint8_t *data;
    char *name;
    int err;

    if (code == 0)
        return 0;
    if (len > LOCATOR_DATA_MAX || len > size || off > size - len)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: a parent locator", f->path);
    if (round_up(off + len, SECTOR) > *end)
        *end = round_up(off + len, SECTOR);
    if (code != 0x57327275 && code != 0x57326b75) /* W2ru, W2ku: relative, absolute */
        return 0;
    data = malloc(len + 1);
    if (!data)
        return diag_set(diag, -ENOMEM, "%s: no memory", f->path);
    err = bfile_read(f, data, len, off);
    name = err ? NULL : block_utf8(data, len & ~1u, false);
    free(data);
    if (err)
        return diag_set(diag, err, "%s: a parent locator: %s", f->path, strerror(-err));
    if (!name)
        return 0;
    for (char *c = name; *c; c++)
        if (*c == '\\')
            *c = '/';
    return block_add_parent_name(v->b, name) ? diag_set(diag, -ENOMEM, "no memory") : 0;
}

static int read_header(struct vhd *v, uint64_t size, struct diag *diag)
{
    uint64_t off = get_be64(v->footer + F_DATA_OFFSET), table_len;
    struct block *b = v->b;
    struct bfile *f = b->file;
    uint8_t h[D_LEN];
    int err;

    if (off % SECTOR || size < D_LEN || off > size - D_LEN)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: its header is not in the file", f->path);
    err = bfile_read(f, h, D_LEN, off);
    if (err)
        return diag_set(diag, err, "%s: %s", f->path, strerror(-err));
    if (memcmp(h, "cxsparse", 8) != 0 || get_be32(h + D_CHECKSUM) != checksum(h, D_LEN, D_CHECKSUM))
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the dynamic disk header", f->path);
    v->bat_off = get_be64(h + D_TABLE_OFFSET);
    v->nentries = get_be32(h + D_ENTRIES);
    b->block_size = get_be32(h + D_BLOCK_SIZE);
    if ((b->block_size & (b->block_size - 1)) || b->block_size < BLOCK_MIN ||
        b->block_size > BLOCK_MAX)
        return diag_set(diag, -ENOTSUP, "%s: blocks of %u bytes (known: powers of two, 64K to 256M)",
                        f->path, b->block_size);
    if (v->nentries < div_up(b->size, b->block_size))
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the BAT is too small for the disk",
                        f->path);
    /* more entries than blocks are allowed, and not looked at */
    table_len = round_up((uint64_t)v->nentries * 4, SECTOR);
    if (v->bat_off % SECTOR || v->bat_off < F_LEN || table_len > size ||
        v->bat_off > size - table_len)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the BAT is not in the file", f->path);
    v->bitmap_len = (uint32_t)round_up(b->block_size / SECTOR / 8, SECTOR);
    v->end = v->bat_off + table_len;
    if (off + D_LEN > v->end)
        v->end = off + D_LEN;
    memcpy(v->parent_id, h + D_PARENT_ID, 16);
    if (b->type != BLOCK_TYPE_DIFFERENCING)
        return 0;
    for (unsigned i = 0; !err && i < LOCATORS; i++)
        err = read_locator(v, h + D_LOCATORS + i * LOCATOR_LEN, size, &v->end, diag);
    if (!err && !b->parent_names) { /* only the name, beside the image */
        size_t n = 0;
        char *name;
        while (n < PARENT_NAME_LEN && (h[D_PARENT_NAME + n] || h[D_PARENT_NAME + n + 1]))
            n += 2;
        name = n ? block_utf8(h + D_PARENT_NAME, n, true) : NULL;
        if (name && block_add_parent_name(b, name) != 0)
            err = diag_set(diag, -ENOMEM, "no memory");
    }
    return err;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static int wrong(struct vhd *v, struct block_check *check, struct diag *diag, uint32_t sector,
                 const char *what)
{
    if (!check)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the block at sector %u %s",
                        v->b->file->path, sector, what);
    block_report(check, BLOCK_ERROR, "the block at sector %u %s", sector, what);
    return 0;
}

static int read_bat(struct vhd *v, uint64_t size, struct block_check *check, struct diag *diag)
{
    uint64_t n = div_up(v->b->size, v->b->block_size);
    uint64_t meta_end = v->end, block_len = v->bitmap_len + (uint64_t)v->b->block_size;
    struct bfile *f = v->b->file;
    uint32_t *sorted;
    size_t count = 0;
    int err;

    v->nentries = (uint32_t)n;
    v->bat = malloc(round_up(n * 4, SECTOR));
    v->bat_dirty = calloc(1, div_up(n * 4, SECTOR));
    v->bitmaps = calloc(n, sizeof(*v->bitmaps));
    v->bitmap_dirty = calloc(1, n);
    sorted = malloc(n * 4);
    err = v->bat && v->bat_dirty && v->bitmaps && v->bitmap_dirty && sorted
              ? bfile_read(f, v->bat, round_up(n * 4, SECTOR), v->bat_off)
              : -ENOMEM;
    if (err) {
        diag_set(diag, err, "%s: the BAT: %s", f->path, strerror(-err));
        goto out;
    }
    for (uint64_t i = 0; i < round_up(n * 4, SECTOR) / 4; i++)
        v->bat[i] = __builtin_bswap32(v->bat[i]);
    for (uint64_t i = 0; i < n; i++)
        if (v->bat[i] != UNUSED_ENTRY)
            sorted[count++] = v->bat[i];
    qsort(sorted, count, sizeof(*sorted), by_value);
    v->used = meta_end;
    for (size_t i = 0; !err && i < count; i++) {
        uint64_t off = (uint64_t)sorted[i] * SECTOR;
        if (off < meta_end)
            err = wrong(v, check, diag, sorted[i], "lies over the tables");
        else if (block_len > size || off > size - block_len)
            err = wrong(v, check, diag, sorted[i], "is not in the file");
        else if (i && off < (uint64_t)sorted[i - 1] * SECTOR + block_len)
            err = wrong(v, check, diag, sorted[i], "overlaps another");
        else if (off + block_len > v->end)
            v->end = off + block_len;
        v->used += block_len;
    }
    v->nallocated = count;
out:
    free(sorted);
    return err;
}

static void vhd_free(struct vhd *v)
{
    for (uint32_t i = 0; v->bitmaps && i < v->nentries; i++)
        free(v->bitmaps[i]);
    free(v->bitmaps);
    free(v->bitmap_dirty);
    free(v->bat);
    free(v->bat_dirty);
    pthread_rwlock_destroy(&v->lock);
    pthread_mutex_destroy(&v->load_lock);
    pthread_mutex_destroy(&v->flush_lock);
    free(v);
}

static int vhd_open(struct block *b, const struct block_options *opt, struct block_check *check,
                    struct diag *diag)
{
    struct vhd *v = calloc(1, sizeof(*v));
    struct bfile *f = b->file;
    uint64_t size;
    uint32_t type;
    int err;

    (void)opt;
    if (!v)
        return diag_set(diag, -ENOMEM, "%s: no memory", f->path);
    v->b = b;
    block_lock_init(&v->lock);
    pthread_mutex_init(&v->load_lock, NULL);
    pthread_mutex_init(&v->flush_lock, NULL);
    err = f->ops->size(f, &size);
    if (err)
        diag_set(diag, err, "%s: %s", f->path, strerror(-err));
    else
        err = read_footer(v, size, diag);
    if (err)
        goto fail;
    type = get_be32(v->footer + F_TYPE);
    b->size = get_be64(v->footer + F_SIZE) / SECTOR * SECTOR;
    b->cyls = get_be16(v->footer + F_GEOMETRY);
    b->heads = v->footer[F_GEOMETRY + 2];
    b->spt = v->footer[F_GEOMETRY + 3];
    memcpy(b->disk_id, v->footer + F_ID, 16);
    if (b->size == 0 || b->size > VHD_SIZE_MAX) {
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: a disk of %llu bytes", f->path,
                       (unsigned long long)b->size);
        goto fail;
    }
    switch (type) {
    case TYPE_FIXED:
        b->type = BLOCK_TYPE_FIXED;
        v->end = b->size;
        if (b->size > size - F_LEN)
            err = diag_set(diag, -EUCLEAN, "%s: is cut off: a disk of %llu bytes in a file of %llu",
                           f->path, (unsigned long long)b->size, (unsigned long long)size);
        break;
    case TYPE_DYNAMIC:
    case TYPE_DIFFERENCING:
        b->type = type == TYPE_DYNAMIC ? BLOCK_TYPE_DYNAMIC : BLOCK_TYPE_DIFFERENCING;
        err = read_header(v, size, diag);
        if (!err)
            err = read_bat(v, size, check, diag);
        break;
    default:
        err = diag_set(diag, -ENOTSUP, "%s: VHD type %u is not known", f->path, type);
    }
    if (err)
        goto fail;
    b->state = v;
    return 0;
fail:
    vhd_free(v);
    return err;
}

/* ---- tables -------------------------------------------------------------------------------------------- */

static uint64_t block_off(const struct vhd *v, uint32_t blk)
{
    return (uint64_t)v->bat[blk] * SECTOR;
}

static int get_bitmap(struct vhd *v, uint32_t blk, uint8_t **ret)
{
    uint8_t *m = atomic_load_explicit(&v->bitmaps[blk], memory_order_acquire);
    int err = 0;

    if (!m) {
        pthread_mutex_lock(&v->load_lock);
        m = atomic_load_explicit(&v->bitmaps[blk], memory_order_relaxed);
        if (!m) {
            m = malloc(v->bitmap_len);
            err = m ? bfile_read(v->b->file, m, v->bitmap_len, block_off(v, blk)) : -ENOMEM;
            if (err)
                free(m);
            else
                atomic_store_explicit(&v->bitmaps[blk], m, memory_order_release);
        }
        pthread_mutex_unlock(&v->load_lock);
    }
    if (!err)
        *ret = m;
    return err;
}

/* How many sectors of a block from @s on, at most @n, have the same bit.  Most significant first. */
static int bitmap_run(struct vhd *v, uint32_t blk, uint32_t s, uint64_t n, bool *ret_set,
                      uint64_t *ret_run)
{
    uint64_t run = 1;
    uint8_t *m;
    bool set;
    int err = get_bitmap(v, blk, &m);

    if (err)
        return err;
    set = m[s / 8] & 0x80 >> s % 8;
    while (run < n) {
        uint32_t k = s + (uint32_t)run;
        if (k % 8 == 0 && n - run >= 8 && m[k / 8] == (set ? 0xff : 0)) {
            run += 8;
            continue;
        }
        if (!(m[k / 8] & 0x80 >> k % 8) == set)
            break;
        run++;
    }
    *ret_set = set;
    *ret_run = run;
    return 0;
}

static void mark_bat_locked(struct vhd *v, uint32_t blk)
{
    uint32_t s = blk / (SECTOR / 4);

    if (!v->bat_dirty[s]) {
        v->bat_dirty[s] = 1;
        v->dirty[v->ndirty++] = s;
    }
}

static void mark_bitmap_locked(struct vhd *v, uint32_t blk)
{
    if (!v->bitmap_dirty[blk]) {
        v->bitmap_dirty[blk] = 1;
        v->dirty[v->ndirty++] = blk | DIRTY_BITMAP;
    }
}

static int write_table(struct vhd *v, uint32_t what)
{
    struct bfile *f = v->b->file;
    uint8_t sector[SECTOR];
    uint32_t blk = what & ~DIRTY_BITMAP;

    if (what & DIRTY_BITMAP)
        return bfile_write(f, v->bitmaps[blk], v->bitmap_len, block_off(v, blk));
    for (uint32_t i = 0; i < SECTOR / 4; i++)
        put_be32(sector + i * 4, v->bat[what * (SECTOR / 4) + i]);
    return bfile_write(f, sector, SECTOR, v->bat_off + (uint64_t)what * SECTOR);
}

/* The first sync covers what the tables refer to: nothing may be marked between it and the writing of
 * the tables, so that requests that change them wait. */
static int vhd_flush(struct block *b)
{
    struct vhd *v = b->state;
    uint32_t list[DIRTY_MAX];
    unsigned n, done = 0;
    int err;

    if (b->type == BLOCK_TYPE_FIXED)
        return block_sync(b);
    pthread_mutex_lock(&v->flush_lock);
    pthread_rwlock_rdlock(&v->lock);
    n = v->ndirty;
    pthread_rwlock_unlock(&v->lock);
    if (n == 0) {
        err = block_sync(b);
        pthread_mutex_unlock(&v->flush_lock);
        return err;
    }
    pthread_rwlock_wrlock(&v->lock);
    err = block_sync(b);
    n = v->ndirty;
    memcpy(list, v->dirty, n * sizeof(*list));
    for (; !err && done < n; done++)
        err = write_table(v, list[done]);
    if (!err) {
        for (unsigned i = 0; i < n; i++) {
            if (list[i] & DIRTY_BITMAP)
                v->bitmap_dirty[list[i] & ~DIRTY_BITMAP] = 0;
            else
                v->bat_dirty[list[i]] = 0;
        }
        v->ndirty = 0;
    }
    pthread_rwlock_unlock(&v->lock);
    if (!err)
        err = block_sync(b);
    pthread_mutex_unlock(&v->flush_lock);
    return err;
}

/* The first change of a session: a good footer at each end, nothing behind it. */
static int begin_write(struct vhd *v)
{
    struct bfile *f = v->b->file;
    uint64_t size;
    int err = 0;

    if (v->b->type == BLOCK_TYPE_FIXED || atomic_load(&v->written))
        return 0;
    pthread_mutex_lock(&v->flush_lock);
    if (!atomic_load(&v->written)) {
        err = f->ops->size(f, &size);
        if (!err && !v->head_good) {
            err = bfile_write(f, v->footer, F_LEN, 0);
            if (!err)
                err = block_sync(v->b);
        }
        if (!err && (!v->tail_good || size != v->end + F_LEN)) {
            err = f->ops->truncate(f, v->end);
            if (!err)
                err = bfile_write(f, v->footer, F_LEN, v->end);
            if (!err)
                err = block_sync(v->b);
        }
        if (!err) {
            v->head_good = v->tail_good = true;
            atomic_store(&v->written, true);
        }
    }
    pthread_mutex_unlock(&v->flush_lock);
    return err;
}

static int lock_for_change(struct vhd *v, unsigned n)
{
    int err = 0;

    while (!err) {
        pthread_rwlock_wrlock(&v->lock);
        if (v->ndirty + n <= DIRTY_MAX)
            return 0;
        pthread_rwlock_unlock(&v->lock);
        err = vhd_flush(v->b);
    }
    return err;
}

/* A new block takes the place of the footer, which moves behind it. */
static int allocate(struct vhd *v, uint32_t blk)
{
    bool ones = v->b->type == BLOCK_TYPE_DYNAMIC;
    struct bfile *f = v->b->file;
    uint64_t end;
    uint8_t *m;
    int err = lock_for_change(v, 2);

    if (err)
        return err;
    if (v->bat[blk] != UNUSED_ENTRY)
        goto out;
    end = v->end + v->bitmap_len + v->b->block_size;
    if (v->end / SECTOR >= UNUSED_ENTRY) {
        err = -EFBIG;
        goto out;
    }
    m = malloc(v->bitmap_len);
    if (!m) {
        err = -ENOMEM;
        goto out;
    }
    memset(m, ones ? 0xff : 0, v->bitmap_len);
    err = bfile_write(f, v->footer, F_LEN, end);
    if (!err)
        err = bfile_write(f, m, v->bitmap_len, v->end);
    if (err) {
        free(m);
        /* as it was, or at the next opening */
        if (bfile_write(f, v->footer, F_LEN, v->end) == 0)
            (void)f->ops->truncate(f, v->end + F_LEN);
        goto out;
    }
    atomic_store(&v->bitmaps[blk], m);
    v->bat[blk] = (uint32_t)(v->end / SECTOR);
    v->end = end;
    v->used += v->bitmap_len + v->b->block_size;
    v->nallocated++;
    mark_bat_locked(v, blk);
out:
    pthread_rwlock_unlock(&v->lock);
    return err;
}

static int now_present(struct vhd *v, uint32_t blk, uint32_t s, uint64_t n)
{
    uint8_t *m;
    int err = lock_for_change(v, 1);

    if (err)
        return err;
    err = get_bitmap(v, blk, &m);
    for (uint64_t i = 0; !err && i < n; i++)
        m[(s + i) / 8] |= (uint8_t)(0x80 >> (s + i) % 8);
    if (!err)
        mark_bitmap_locked(v, blk);
    pthread_rwlock_unlock(&v->lock);
    return err;
}

/* ---- requests -------------------------------------------------------------------------------------------- */

static int transfer(struct block *b, struct iov_cursor *c, uint64_t file_off, uint64_t len,
                    bool write)
{
    struct iovec v[IOV_SLICE];
    int nv;

    while (len) {
        size_t n = iov_take(c, len, v, &nv);
        if (write) {
            int err = b->file->ops->writev(b->file, v, nv, file_off);
            if (err)
                return err;
        } else {
            ssize_t got = b->file->ops->readv(b->file, v, nv, file_off);
            if (got < 0)
                return (int)got;
            iov_fill(v, nv, (size_t)got, 0);
        }
        file_off += n;
        len -= n;
    }
    return 0;
}

static int read_absent(struct block *b, struct iov_cursor *c, uint64_t off, uint64_t len)
{
    struct iovec v[IOV_SLICE];
    int nv, err = 0;

    while (!err && len) {
        size_t n = iov_take(c, len, v, &nv);
        err = block_read_parent(b, off, v, nv);
        off += n;
        len -= n;
    }
    return err;
}

static int read_block(struct vhd *v, struct iov_cursor *c, uint64_t off, uint64_t len)
{
    struct block *b = v->b;
    uint32_t blk = (uint32_t)(off / b->block_size);
    int err = 0;

    if (v->bat[blk] == UNUSED_ENTRY)
        return read_absent(b, c, off, len);
    while (!err && len) {
        uint32_t s = (uint32_t)(off % b->block_size / SECTOR);
        uint64_t run = 0;
        bool set;
        err = bitmap_run(v, blk, s, len / SECTOR, &set, &run);
        if (err)
            break;
        run *= SECTOR;
        err = set ? transfer(b, c, block_off(v, blk) + v->bitmap_len + off % b->block_size, run,
                             false)
                  : read_absent(b, c, off, run);
        off += run;
        len -= run;
    }
    return err;
}

static int vhd_readv(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t left = iov_bytes(iov, niov);
    struct vhd *v = b->state;
    int err = 0;

    if (b->type == BLOCK_TYPE_FIXED)
        return transfer(b, &c, off, left, false);
    while (!err && left) {
        uint64_t n = b->block_size - off % b->block_size;
        if (n > left)
            n = left;
        pthread_rwlock_rdlock(&v->lock);
        err = read_block(v, &c, off, n);
        pthread_rwlock_unlock(&v->lock);
        off += n;
        left -= n;
    }
    return err;
}

static int vhd_writev(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t left = iov_bytes(iov, niov);
    struct vhd *v = b->state;
    int err;

    if (b->type == BLOCK_TYPE_FIXED)
        return transfer(b, &c, off, left, true);
    err = begin_write(v);
    while (!err && left) {
        uint32_t blk = (uint32_t)(off / b->block_size);
        uint64_t within = off % b->block_size, n = b->block_size - within, run = 0;
        bool present, set = true;
        if (n > left)
            n = left;
        pthread_rwlock_rdlock(&v->lock);
        present = v->bat[blk] != UNUSED_ENTRY;
        if (present) {
            err = transfer(b, &c, block_off(v, blk) + v->bitmap_len + within, n, true);
            if (!err)
                err = bitmap_run(v, blk, (uint32_t)(within / SECTOR), n / SECTOR, &set, &run);
            set = err || (set && run >= n / SECTOR);
        }
        pthread_rwlock_unlock(&v->lock);
        if (err)
            break;
        if (!present) {
            err = allocate(v, blk);
            continue;
        }
        if (!set)
            err = now_present(v, blk, (uint32_t)(within / SECTOR), n / SECTOR);
        off += n;
        left -= n;
    }
    return err;
}

/* A block cannot be given back, but its place on the host can. */
static int vhd_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct vhd *v = b->state;
    int err = b->type == BLOCK_TYPE_DYNAMIC ? begin_write(v) : 0;

    if (b->type != BLOCK_TYPE_DYNAMIC)
        return 0;
    while (!err && len) {
        uint32_t blk = (uint32_t)(off / b->block_size);
        uint64_t within = off % b->block_size, n = b->block_size - within;
        if (n > len)
            n = len;
        pthread_rwlock_rdlock(&v->lock);
        if (v->bat[blk] != UNUSED_ENTRY) {
            err = b->file->ops->zero(b->file, block_off(v, blk) + v->bitmap_len + within, n, true);
            if (err == -EOPNOTSUPP)
                err = 0;
        }
        pthread_rwlock_unlock(&v->lock);
        off += n;
        len -= n;
    }
    return err;
}

static int vhd_write_zeroes(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
    struct vhd *v = b->state;
    int err;

    if (b->type == BLOCK_TYPE_FIXED)
        return bfile_zero(b->file, off, len, false);
    if (b->type == BLOCK_TYPE_DIFFERENCING)
        return block_write_zero_buffers(b, off, len);
    err = begin_write(v);
    while (!err && len) {
        uint32_t blk = (uint32_t)(off / b->block_size);
        uint64_t within = off % b->block_size, n = b->block_size - within;
        if (n > len)
            n = len;
        pthread_rwlock_rdlock(&v->lock);
        if (v->bat[blk] != UNUSED_ENTRY)
            err = bfile_zero(b->file, block_off(v, blk) + v->bitmap_len + within, n, unmap);
        pthread_rwlock_unlock(&v->lock);
        off += n;
        len -= n;
    }
    return err;
}

static int map_locked(struct vhd *v, uint64_t off, uint64_t len, unsigned *ret_flags,
                      uint64_t *ret_len)
{
    struct block *b = v->b;
    uint64_t within = off % b->block_size, n = b->block_size - within, run = 0;
    uint32_t blk = (uint32_t)(off / b->block_size);
    bool set;
    int err;

    if (n > len)
        n = len;
    if (v->bat[blk] == UNUSED_ENTRY)
        return block_map_parent(b, off, n, ret_flags, ret_len);
    err = bitmap_run(v, blk, (uint32_t)(within / SECTOR), n / SECTOR, &set, &run);
    if (err)
        return err;
    run *= SECTOR;
    return set ? block_map_file(b, block_off(v, blk) + v->bitmap_len + within, run, ret_flags,
                                ret_len)
               : block_map_parent(b, off, run, ret_flags, ret_len);
}

static int vhd_map(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags,
                   uint64_t *ret_len)
{
    struct vhd *v = b->state;
    int err;

    if (b->type == BLOCK_TYPE_FIXED)
        return block_map_file(b, off, len, ret_flags, ret_len);
    pthread_rwlock_rdlock(&v->lock);
    err = map_locked(v, off, len, ret_flags, ret_len);
    while (!err && *ret_len < len && !(*ret_flags & BLOCK_MAP_DATA)) {
        unsigned flags;
        uint64_t n;
        err = map_locked(v, off + *ret_len, len - *ret_len, &flags, &n);
        if (err || flags != *ret_flags)
            break;
        *ret_len += n;
    }
    pthread_rwlock_unlock(&v->lock);
    return err;
}

static void vhd_info(struct block *b, struct block_info *ret)
{
    struct vhd *v = b->state;

    if (b->type == BLOCK_TYPE_FIXED)
        return;
    pthread_rwlock_rdlock(&v->lock);
    ret->blocks = v->nentries;
    ret->blocks_allocated = v->nallocated;
    pthread_rwlock_unlock(&v->lock);
}

static int vhd_check_parent(struct block *b, struct block *parent, struct diag *diag)
{
    struct vhd *v = b->state;

    if (memcmp(v->parent_id, parent->disk_id, 16) == 0)
        return 0;
    return diag_set(diag, -ESTALE, "%s: its parent %s is another disk", b->file->path,
                    parent->file->path);
}

static int vhd_close(struct block *b)
{
    struct vhd *v = b->state;
    int err = 0;

    if (!b->read_only && b->opened) {
        err = atomic_load(&b->failed);
        if (!err && (atomic_load(&v->written) || b->type == BLOCK_TYPE_FIXED))
            err = vhd_flush(b);
    }
    vhd_free(v);
    return err;
}

/* ---- checking ------------------------------------------------------------------------------------------------ */

static int vhd_check(struct block *b, struct block_check *check, struct diag *diag)
{
    struct vhd *v = b->state;
    bool fixed = b->type == BLOCK_TYPE_FIXED, footers;
    uint64_t size, whole;
    int err = b->file->ops->size(b->file, &size);

    if (err)
        return diag_set(diag, err, "%s: %s", b->file->path, strerror(-err));
    footers = fixed || (v->head_good && v->tail_good);
    check->blocks = fixed ? 0 : v->nentries;
    check->blocks_allocated = fixed ? 0 : v->nallocated;
    /* an interrupted allocation leaves no footer at the end: opening for writing restores it */
    if (!fixed && !v->tail_good)
        block_report(check, BLOCK_NOTE, "no footer at the end, the copy at the beginning is valid");
    if (!fixed && !v->head_good)
        block_report(check, BLOCK_ERROR, "the copy of the footer at the beginning is damaged");
    whole = (fixed ? b->size : v->used) + F_LEN;
    if (size > whole && check->errors == (!fixed && !v->head_good)) {
        check->leaked = size - whole;
        block_report(check, BLOCK_LEAK, "%llu bytes of the file are not in use",
                     (unsigned long long)check->leaked);
    }
    if (!check->repair || fixed || check->errors > !v->head_good ||
        (footers && size == v->end + F_LEN))
        return 0;
    err = begin_write(v);
    if (err)
        return diag_set(diag, err, "%s: %s", b->file->path, strerror(-err));
    if (!footers)
        block_report(check, BLOCK_NOTE, "the footers were restored");
    if (size > v->end + F_LEN)
        block_report(check, BLOCK_NOTE, "unused space was cut off");
    check->fixed++;
    check->errors = 0;
    check->leaked = v->end + F_LEN > whole ? v->end + F_LEN - whole : 0;
    return 0;
}

/* ---- creation ---------------------------------------------------------------------------------------------------- */

static void make_footer(uint8_t f[F_LEN], const struct block_create_options *o, uint32_t type)
{
    uint32_t cyls, heads, spt;
    time_t now = time(NULL);

    memset(f, 0, F_LEN);
    memcpy(f, "conectix", 8);
    put_be32(f + F_FEATURES, 2); /* reserved, always set */
    put_be32(f + F_VERSION, VERSION_1);
    put_be64(f + F_DATA_OFFSET, type == TYPE_FIXED ? UINT64_MAX : F_LEN);
    put_be32(f + F_TIME, now > VHD_EPOCH ? (uint32_t)(now - VHD_EPOCH) : 0);
    /* Who has this name means the size field, not the geometry: others cut a disk off there. */
    memcpy(f + F_CREATOR, "win ", 4);
    put_be32(f + F_CREATOR_VERSION, 0x000a0000);
    memcpy(f + F_CREATOR_OS, "Wi2k", 4);
    put_be64(f + F_ORIGINAL_SIZE, o->size);
    put_be64(f + F_SIZE, o->size);
    block_chs(o->size / SECTOR, &cyls, &heads, &spt);
    put_be16(f + F_GEOMETRY, (uint16_t)cyls);
    f[F_GEOMETRY + 2] = (uint8_t)heads;
    f[F_GEOMETRY + 3] = (uint8_t)spt;
    put_be32(f + F_TYPE, type);
    block_random_id(f + F_ID);
    put_be32(f + F_CHECKSUM, checksum(f, F_LEN, F_CHECKSUM));
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash ? slash + 1 : path;
}

static int link_parent(struct bfile *f, struct block *parent, uint8_t h[D_LEN], uint8_t *text,
                       size_t room, int *ret_len, struct diag *diag)
{
    struct stat st;
    char *rel;

    if (parent->driver != &block_vhd)
        return diag_set(diag, -EINVAL, "%s: the parent of a VHD image is one, too", f->path);
    if (strchr(f->path, '\\') || strchr(parent->file->path, '\\'))
        return diag_set(diag, -EINVAL, "%s: a path with a backslash cannot be stored", f->path);
    rel = block_relative_path(f->path, parent->file->path);
    if (!rel)
        return diag_set(diag, -ENOENT, "%s: no way to the parent", f->path);
    for (char *c = rel; *c; c++)
        if (*c == '/')
            *c = '\\';
    *ret_len = block_utf16(rel, text, room, false);
    free(rel);
    if (*ret_len < 0 ||
        block_utf16(base_name(parent->file->path), h + D_PARENT_NAME, PARENT_NAME_LEN, true) < 0)
        return diag_set(diag, -ENAMETOOLONG, "%s: the parent's path is too long, or not UTF-8",
                        f->path);
    memcpy(h + D_PARENT_ID, parent->disk_id, 16);
    if (stat(parent->file->path, &st) == 0 && st.st_mtime > VHD_EPOCH)
        put_be32(h + D_PARENT_TIME, (uint32_t)(st.st_mtime - VHD_EPOCH));
    return 0;
}

static int create_fixed(struct bfile *f, const struct block_create_options *o)
{
    uint8_t footer[F_LEN];
    int err = f->ops->truncate(f, o->size + F_LEN);

    if (!err) {
        err = f->ops->allocate(f, 0, o->size + F_LEN);
        if (err == -EOPNOTSUPP)
            err = 0;
    }
    make_footer(footer, o, TYPE_FIXED);
    return err ? err : bfile_write(f, footer, F_LEN, o->size);
}

static int vhd_create(struct bfile *f, const struct block_create_options *o, struct block *parent,
                      struct diag *diag)
{
    uint32_t block = o->block_size ? o->block_size : 2 << 20;
    uint64_t entries, bat_len, locator_off, end;
    uint8_t footer[F_LEN], h[D_LEN] = { 0 }, locator[2048] = { 0 }, *bat;
    int err, len = 0;

    if (o->logical_sector_size != 512)
        return diag_set(diag, -EINVAL, "%s: a VHD image has sectors of 512 bytes", f->path);
    if (o->physical_sector_size && o->physical_sector_size != 512)
        return diag_set(diag, -EINVAL, "%s: a VHD image has physical sectors of 512 bytes", f->path);
    if (o->size > VHD_SIZE_MAX)
        return diag_set(diag, -EFBIG, "%s: a VHD disk has at most 2040G", f->path);
    if (o->type == BLOCK_TYPE_FIXED) {
        if (o->block_size)
            return diag_set(diag, -EINVAL, "%s: a fixed VHD image has no blocks", f->path);
        err = create_fixed(f, o);
        return err ? diag_set(diag, err, "%s: %s", f->path, strerror(-err)) : 0;
    }
    if ((block & (block - 1)) || block < BLOCK_MIN || block > BLOCK_MAX)
        return diag_set(diag, -EINVAL, "%s: VHD blocks have a power of two from 64K to 256M, not %s",
                        f->path, DIAG_SIZE(block));
    entries = div_up(o->size, block);
    bat_len = round_up(entries * 4, SECTOR);
    locator_off = F_LEN + D_LEN + bat_len;
    memcpy(h, "cxsparse", 8);
    put_be64(h + D_DATA_OFFSET, UINT64_MAX);
    put_be64(h + D_TABLE_OFFSET, F_LEN + D_LEN);
    put_be32(h + D_VERSION, VERSION_1);
    put_be32(h + D_ENTRIES, (uint32_t)entries);
    put_be32(h + D_BLOCK_SIZE, block);
    end = locator_off;
    if (parent) {
        err = link_parent(f, parent, h, locator, sizeof(locator), &len, diag);
        if (err)
            return err;
        put_be32(h + D_LOCATORS, 0x57327275); /* W2ru */
        put_be32(h + D_LOCATORS + 4, sizeof(locator) / SECTOR);
        put_be32(h + D_LOCATORS + 8, (uint32_t)len);
        put_be64(h + D_LOCATORS + 16, locator_off);
        end += sizeof(locator);
    }
    put_be32(h + D_CHECKSUM, checksum(h, D_LEN, D_CHECKSUM));
    make_footer(footer, o, parent ? TYPE_DIFFERENCING : TYPE_DYNAMIC);
    bat = malloc(bat_len);
    err = bat ? 0 : -ENOMEM;
    if (bat)
        memset(bat, 0xff, bat_len);
    if (!err)
        err = bfile_write(f, bat, bat_len, F_LEN + D_LEN);
    free(bat);
    if (!err)
        err = bfile_write(f, h, D_LEN, F_LEN);
    if (!err && parent)
        err = bfile_write(f, locator, sizeof(locator), locator_off);
    if (!err)
        err = bfile_write(f, footer, F_LEN, end);
    if (!err)
        err = bfile_write(f, footer, F_LEN, 0);
    return err ? diag_set(diag, err, "%s: %s", f->path, strerror(-err)) : 0;
}

const struct block_driver block_vhd = {
    .name = "vhd", .format = BLOCK_VHD, .open = vhd_open, .close = vhd_close, .readv = vhd_readv,
    .writev = vhd_writev, .flush = vhd_flush, .discard = vhd_discard,
    .write_zeroes = vhd_write_zeroes, .map = vhd_map, .info = vhd_info, .check = vhd_check,
    .create = vhd_create, .check_parent = vhd_check_parent,
};
