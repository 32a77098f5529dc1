/* SPDX-License-Identifier: BSD-2-Clause */
/* VHDX: reading and writing.  Reference: [MS-VHDX] 2.5 (BAT, sector bitmaps). */
#include <errno.h>
#include <stdlib.h>

#include "core/block/vhdx_int.h"

enum {
    BITS_PER_PAGE = VHDX_PAGE * 8,
    ALLOC_PAGES = 20,     /* that an allocation can mark: two of the BAT, a block's bitmap bits */
    CHUNK_SECTORS_LOG = 23,
};

/* ---- pages -------------------------------------------------------------------------------------- */

/* The page behind @slot, read on first use. */
static int get_page(struct vhdx *v, _Atomic(struct vhdx_page *) *slot, uint64_t off,
                    struct vhdx_page **ret)
{
    struct vhdx_page *p = atomic_load_explicit(slot, memory_order_acquire);
    int err = 0;

    if (p) {
        *ret = p;
        return 0;
    }
    pthread_mutex_lock(&v->load_lock);
    p = atomic_load_explicit(slot, memory_order_relaxed);
    if (!p) {
        p = calloc(1, sizeof(*p));
        err = p ? bfile_read(v->b->file, p->data, VHDX_PAGE, off) : -ENOMEM;
        if (err) {
            free(p);
        } else {
            p->off = off;
            atomic_store_explicit(slot, p, memory_order_release);
        }
    }
    pthread_mutex_unlock(&v->load_lock);
    if (!err)
        *ret = p;
    return err;
}

static int bat_page(struct vhdx *v, uint64_t idx, struct vhdx_page **ret)
{
    uint64_t n = idx / (VHDX_PAGE / 8);

    return get_page(v, &v->bat[n], v->bat_off + n * VHDX_PAGE, ret);
}

static int bat_get(struct vhdx *v, uint64_t idx, uint64_t *ret)
{
    struct vhdx_page *p;
    int err = bat_page(v, idx, &p);

    if (!err)
        *ret = get_le64(p->data + idx % (VHDX_PAGE / 8) * 8);
    return err;
}

/* The caller saw to it that there is room. */
static void mark_dirty_locked(struct vhdx *v, struct vhdx_page *p)
{
    if (p->dirty)
        return;
    p->dirty = true;
    v->dirty[v->ndirty++] = p;
}

static int bat_set_locked(struct vhdx *v, uint64_t idx, uint64_t e)
{
    struct vhdx_page *p;
    int err = bat_page(v, idx, &p);

    if (err)
        return err;
    put_le64(p->data + idx % (VHDX_PAGE / 8) * 8, e);
    mark_dirty_locked(v, p);
    return 0;
}

static bool room_locked(const struct vhdx *v, unsigned n)
{
    return v->ndirty + v->nflushing + n <= VHDX_LOG_DESCS;
}

/* The bitmap page of a sector.  Its chunk's bitmap is present. */
static int bitmap_page(struct vhdx *v, uint64_t sector, struct vhdx_page **ret)
{
    uint64_t chunk = sector >> CHUNK_SECTORS_LOG, e;
    unsigned n = (unsigned)(sector & ((1u << CHUNK_SECTORS_LOG) - 1)) / BITS_PER_PAGE;
    int err = 0;

    pthread_mutex_lock(&v->load_lock);
    if (!v->bitmaps[chunk]) {
        v->bitmaps[chunk] = calloc(VHDX_BITMAP_PAGES, sizeof(*v->bitmaps[chunk]));
        err = v->bitmaps[chunk] ? 0 : -ENOMEM;
    }
    pthread_mutex_unlock(&v->load_lock);
    if (!err)
        err = bat_get(v, vhdx_sb_index(v, chunk), &e);
    if (!err && (e & 7) != VHDX_PRESENT)
        err = -EIO;
    if (!err)
        err = get_page(v, &v->bitmaps[chunk][n], (e >> 20) * MIB + (uint64_t)n * VHDX_PAGE, ret);
    return err;
}

/* How many sectors from @sector on, at most @n, have the same bit; *ret_set: which. */
static int bitmap_run(struct vhdx *v, uint64_t sector, uint64_t n, bool *ret_set, uint64_t *ret_run)
{
    struct vhdx_page *p;
    uint32_t bit = sector % BITS_PER_PAGE;
    uint64_t run = 1;
    bool set;
    int err = bitmap_page(v, sector, &p);

    if (err)
        return err;
    if (n > BITS_PER_PAGE - bit)
        n = BITS_PER_PAGE - bit;
    set = p->data[bit / 8] >> bit % 8 & 1;
    while (run < n) {
        uint32_t k = bit + (uint32_t)run;
        if (k % 8 == 0 && n - run >= 8 && p->data[k / 8] == (set ? 0xff : 0)) {
            run += 8;
            continue;
        }
        if ((p->data[k / 8] >> k % 8 & 1) != set)
            break;
        run++;
    }
    *ret_set = set;
    *ret_run = run;
    return 0;
}

static int bitmap_fill_locked(struct vhdx *v, uint64_t sector, uint64_t n, bool set)
{
    while (n) {
        struct vhdx_page *p;
        uint64_t run;
        bool is;
        int err = bitmap_run(v, sector, n, &is, &run);
        if (!err && is != set) {
            err = bitmap_page(v, sector, &p);
            for (uint64_t i = 0; !err && i < run; i++) {
                uint32_t bit = (uint32_t)((sector + i) % BITS_PER_PAGE);
                p->data[bit / 8] = (uint8_t)(set ? p->data[bit / 8] | 1 << bit % 8
                                                 : p->data[bit / 8] & ~(1 << bit % 8));
            }
            if (!err)
                mark_dirty_locked(v, p);
        }
        if (err)
            return err;
        sector += run;
        n -= run;
    }
    return 0;
}

/* ---- making tables durable ------------------------------------------------------------------------ */

/* 2.2.2: new identities before the first change of a session. */
static int begin_write(struct vhdx *v)
{
    int err = 0;

    if (atomic_load(&v->written))
        return 0;
    pthread_mutex_lock(&v->flush_lock);
    if (!atomic_load(&v->written)) {
        block_random_id(v->file_guid);
        block_random_id(v->data_guid);
        block_random_id(v->log_guid);
        v->log_seq = 0;
        err = vhdx_write_headers(v, v->b->file);
        if (!err)
            atomic_store(&v->written, true);
    }
    pthread_mutex_unlock(&v->flush_lock);
    return err;
}

static int write_pages(struct vhdx *v, struct vhdx_page *const *copies, unsigned n, uint64_t size)
{
    struct bfile *f = v->b->file;
    int err = vhdx_log_write(v, copies, n, size);

    /* the headers name the log only once there is an entry in it */
    if (!err && !v->log_active) {
        v->log_active = true;
        err = vhdx_write_headers(v, f);
        if (err)
            v->log_active = false; /* tried again: the log keeps its identity */
    }
    for (unsigned i = 0; !err && i < n; i++)
        err = bfile_write(f, copies[i]->data, VHDX_PAGE, copies[i]->off);
    return err;
}

/* Space is free once nothing durable refers to it. */
static void release(struct vhdx *v, const struct vhdx_run *runs, size_t n)
{
    for (size_t i = 0; i < n; i++)
        (void)v->b->file->ops->zero(v->b->file, runs[i].first * MIB, runs[i].count * MIB, true);
    pthread_rwlock_wrlock(&v->lock);
    for (size_t i = 0; i < n; i++) {
        for (uint64_t m = runs[i].first; m < runs[i].first + runs[i].count; m++)
            v->used[m / 8] &= (uint8_t)~(1 << m % 8);
        v->nfree += runs[i].count;
        if (runs[i].first < v->free_hint)
            v->free_hint = runs[i].first;
    }
    pthread_rwlock_unlock(&v->lock);
}

static int vhdx_flush(struct block *b)
{
    struct vhdx *v = b->state;
    struct vhdx_page *live[VHDX_LOG_DESCS], *copies[VHDX_LOG_DESCS] = { NULL };
    struct vhdx_run *freed;
    uint64_t size;
    size_t nfreed;
    unsigned n;
    int err;

    pthread_mutex_lock(&v->flush_lock);
    pthread_rwlock_wrlock(&v->lock);
    /* what the sync makes durable; the file may grow before the log is written */
    err = b->file->ops->size(b->file, &size);
    n = v->ndirty;
    for (unsigned i = 0; i < n; i++) {
        live[i] = v->dirty[i];
        copies[i] = malloc(sizeof(*copies[i]));
        if (!copies[i])
            err = -ENOMEM;
        else
            memcpy(copies[i], live[i], sizeof(*copies[i]));
    }
    if (err)
        n = 0;
    for (unsigned i = 0; i < n; i++) {
        live[i]->dirty = false;
        live[i]->flushing = true;
    }
    v->ndirty -= n;
    v->nflushing = n;
    freed = err ? NULL : v->freed;
    nfreed = err ? 0 : v->nfreed;
    if (!err) {
        v->freed = NULL;
        v->nfreed = v->freed_room = 0;
    }
    pthread_rwlock_unlock(&v->lock);

    if (!err)
        err = block_sync(b);
    if (!err && n)
        err = write_pages(v, copies, n, size);

    pthread_rwlock_wrlock(&v->lock);
    v->nflushing = 0;
    for (unsigned i = 0; i < n; i++) {
        live[i]->flushing = false;
        if (err)
            mark_dirty_locked(v, live[i]);
    }
    pthread_rwlock_unlock(&v->lock);
    if (!err)
        release(v, freed, nfreed); /* on failure it stays in use until the next opening */
    pthread_mutex_unlock(&v->flush_lock);
    for (unsigned i = 0; i < VHDX_LOG_DESCS; i++)
        free(copies[i]);
    free(freed);
    return err;
}

/* Take the lock for a change that marks up to @n pages. */
static int lock_for_change(struct vhdx *v, unsigned n)
{
    int err = begin_write(v);

    while (!err) {
        pthread_rwlock_wrlock(&v->lock);
        if (room_locked(v, n))
            return 0;
        pthread_rwlock_unlock(&v->lock);
        err = vhdx_flush(v->b);
    }
    return err;
}

/* ---- space ------------------------------------------------------------------------------------------ */

static bool used_mib(const struct vhdx *v, uint64_t m)
{
    return v->used[m / 8] >> m % 8 & 1;
}

/* @n consecutive MiB that read as zeroes. */
static int take_space_locked(struct vhdx *v, uint64_t n, uint64_t *ret_mib)
{
    struct bfile *f = v->b->file;
    uint64_t first = 0, run = 0, m;
    int err = 0;

    if (v->nfree >= n) {
        for (m = v->free_hint; m < v->file_mib && run < n; m++) {
            if (used_mib(v, m)) {
                run = 0;
            } else {
                if (run++ == 0)
                    first = m;
            }
        }
        if (run == n) {
            uint64_t size, end = (first + n) * MIB;
            err = f->ops->size(f, &size);
            if (!err && size < end)
                err = f->ops->truncate(f, end);
            if (!err)
                err = bfile_zero(f, first * MIB, n * MIB, true);
            if (err)
                return err;
            v->nfree -= n;
            if (n == 1)
                v->free_hint = first + 1;
            goto found;
        }
        if (n == 1)
            v->free_hint = v->file_mib;
    }
    first = v->file_mib;
    if (first + n > VHDX_FILE_MAX / MIB)
        return -EFBIG;
    if ((first + n) / 8 + 1 > v->used_room) {
        uint64_t room = (first + n) / 8 * 2;
        uint8_t *more = realloc(v->used, room);
        if (!more)
            return -ENOMEM;
        memset(more + v->used_room, 0, room - v->used_room);
        v->used = more;
        v->used_room = room;
    }
    err = f->ops->truncate(f, (first + n) * MIB);
    if (err)
        return err;
    v->file_mib = first + n;
found:
    for (m = first; m < first + n; m++)
        v->used[m / 8] |= (uint8_t)(1 << m % 8);
    *ret_mib = first;
    return 0;
}

static int give_space_locked(struct vhdx *v, uint64_t first, uint64_t count)
{
    if (v->nfreed == v->freed_room) {
        size_t room = v->freed_room ? v->freed_room * 2 : 16;
        struct vhdx_run *more = realloc(v->freed, room * sizeof(*more));
        if (!more)
            return -ENOMEM;
        v->freed = more;
        v->freed_room = room;
    }
    v->freed[v->nfreed++] = (struct vhdx_run){ first, count };
    return 0;
}

/* Give a block a place in the file.  What its other sectors read as does not change. */
static int allocate(struct vhdx *v, uint64_t blk)
{
    struct block *b = v->b;
    uint64_t e, sb, chunk = blk / v->chunk_ratio, mib, spb = b->block_size / b->logical;
    bool partial;
    int err = lock_for_change(v, ALLOC_PAGES);

    if (err)
        return err;
    err = bat_get(v, vhdx_bat_index(v, blk), &e);
    if (err || (e & 7) >= VHDX_PRESENT)
        goto out;
    partial = v->has_parent && (e & 7) == VHDX_NOT_PRESENT;
    if (partial) {
        err = bat_get(v, vhdx_sb_index(v, chunk), &sb);
        if (!err && (sb & 7) == VHDX_PRESENT) {
            err = bitmap_fill_locked(v, blk * spb, spb, false);
        } else if (!err) {
            err = take_space_locked(v, 1, &mib);
            if (!err)
                err = bat_set_locked(v, vhdx_sb_index(v, chunk), mib << 20 | VHDX_PRESENT);
        }
    }
    if (!err)
        err = take_space_locked(v, b->block_size / MIB, &mib);
    if (!err)
        err = bat_set_locked(v, vhdx_bat_index(v, blk),
                             mib << 20 | (partial ? VHDX_PARTIAL : VHDX_PRESENT));
    if (!err)
        v->nallocated++;
out:
    pthread_rwlock_unlock(&v->lock);
    return err;
}

/* Sectors of a partly present block were written. */
static int now_present(struct vhdx *v, uint64_t blk, uint64_t off, uint64_t len)
{
    struct block *b = v->b;
    uint64_t e;
    int err = lock_for_change(v, ALLOC_PAGES);

    if (err)
        return err;
    err = bat_get(v, vhdx_bat_index(v, blk), &e);
    if (!err && (e & 7) == VHDX_PARTIAL) {
        if (len == b->block_size)
            err = bat_set_locked(v, vhdx_bat_index(v, blk), (e & ~7ULL) | VHDX_PRESENT);
        else
            err = bitmap_fill_locked(v, off / b->logical, len / b->logical, true);
    }
    pthread_rwlock_unlock(&v->lock);
    return err;
}

/* ---- requests ------------------------------------------------------------------------------------------ */

/* Move the next @len bytes of @c between memory and the file. */
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

static int read_absent(struct block *b, struct iov_cursor *c, uint64_t off, uint64_t len,
                       bool parent)
{
    struct iovec v[IOV_SLICE];
    int nv;

    while (len) {
        size_t n = iov_take(c, len, v, &nv);
        if (parent) {
            int err = block_read_parent(b, off, v, nv);
            if (err)
                return err;
        } else {
            iov_fill(v, nv, 0, 0);
        }
        off += n;
        len -= n;
    }
    return 0;
}

static int read_partial(struct vhdx *v, struct iov_cursor *c, uint64_t off, uint64_t len,
                        uint64_t file_off)
{
    struct block *b = v->b;

    while (len) {
        uint64_t run;
        bool set;
        int err = bitmap_run(v, off / b->logical, len / b->logical, &set, &run);
        if (err)
            return err;
        run *= b->logical;
        err = set ? transfer(b, c, file_off, run, false) : read_absent(b, c, off, run, true);
        if (err)
            return err;
        off += run;
        file_off += run;
        len -= run;
    }
    return 0;
}

static int vhdx_readv(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t left = iov_bytes(iov, niov), e = 0;
    struct vhdx *v = b->state;
    int err = 0;

    while (!err && left) {
        uint64_t within = off % b->block_size, n = b->block_size - within, pos;
        if (n > left)
            n = left;
        pthread_rwlock_rdlock(&v->lock);
        err = bat_get(v, vhdx_bat_index(v, off / b->block_size), &e);
        pos = (e >> 20) * MIB + within;
        if (err)
            ;
        else if ((e & 7) == VHDX_PRESENT)
            err = transfer(b, &c, pos, n, false);
        else if ((e & 7) == VHDX_PARTIAL)
            err = read_partial(v, &c, off, n, pos);
        else
            err = read_absent(b, &c, off, n, v->has_parent && (e & 7) == VHDX_NOT_PRESENT);
        pthread_rwlock_unlock(&v->lock);
        off += n;
        left -= n;
    }
    return err;
}

/* Of one block that is there, whose table page has been read. */
static int vhdx_readv_nowait(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    uint64_t len = iov_bytes(iov, niov), within = off % b->block_size, idx, e;
    struct vhdx *v = b->state;
    const struct vhdx_page *p;
    int err = -EAGAIN;

    if (len > b->block_size - within || !b->file->ops->readv_nowait)
        return -EAGAIN;
    if (pthread_rwlock_tryrdlock(&v->lock))
        return -EAGAIN;
    idx = vhdx_bat_index(v, off / b->block_size);
    p = atomic_load_explicit(&v->bat[idx / (VHDX_PAGE / 8)], memory_order_acquire);
    if (p) {
        e = get_le64(p->data + idx % (VHDX_PAGE / 8) * 8);
        if ((e & 7) == VHDX_PRESENT)
            err = b->file->ops->readv_nowait(b->file, iov, niov, (e >> 20) * MIB + within);
    }
    pthread_rwlock_unlock(&v->lock);
    return err;
}

static int vhdx_writev(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t left = iov_bytes(iov, niov), e;
    struct vhdx *v = b->state;
    int err = begin_write(v);

    while (!err && left) {
        uint64_t blk = off / b->block_size, within = off % b->block_size;
        uint64_t n = b->block_size - within, run;
        bool present, new_sectors = false;
        if (n > left)
            n = left;
        pthread_rwlock_rdlock(&v->lock);
        err = bat_get(v, vhdx_bat_index(v, blk), &e);
        present = !err && (e & 7) >= VHDX_PRESENT;
        if (present) {
            err = transfer(b, &c, (e >> 20) * MIB + within, n, true);
            if (!err && (e & 7) == VHDX_PARTIAL) {
                err = bitmap_run(v, off / b->logical, n / b->logical, &new_sectors, &run);
                new_sectors = !new_sectors || run < n / b->logical;
            }
        }
        pthread_rwlock_unlock(&v->lock);
        if (err)
            break;
        if (!present) {
            err = allocate(v, blk);
            continue;
        }
        /* after the data: a flush in between must not make the parent's sectors go away */
        if (new_sectors)
            err = now_present(v, blk, off, n);
        off += n;
        left -= n;
    }
    return err;
}

/* Make a whole block read as zeroes without a place in the file. */
static int drop_block(struct vhdx *v, uint64_t blk, bool zero)
{
    uint64_t e;
    int err = lock_for_change(v, 1);

    if (err)
        return err;
    err = bat_get(v, vhdx_bat_index(v, blk), &e);
    if (!err && (e & 7) >= VHDX_PRESENT) {
        err = give_space_locked(v, e >> 20, v->b->block_size / MIB);
        if (!err) {
            err = bat_set_locked(v, vhdx_bat_index(v, blk), VHDX_ZERO);
            v->nallocated--;
        }
    } else if (!err && zero && v->has_parent && (e & 7) == VHDX_NOT_PRESENT) {
        err = bat_set_locked(v, vhdx_bat_index(v, blk), VHDX_ZERO);
    }
    pthread_rwlock_unlock(&v->lock);
    return err;
}

static int vhdx_discard(struct block *b, uint64_t off, uint64_t len)
{
    struct vhdx *v = b->state;
    int err = v->leave_allocated ? 0 : begin_write(v);

    if (v->leave_allocated)
        return 0;
    while (!err && len) {
        uint64_t blk = off / b->block_size, within = off % b->block_size;
        uint64_t n = b->block_size - within, e, from, to;
        if (n > len)
            n = len;
        if (within == 0 && (n == b->block_size || off + n == b->size)) {
            err = drop_block(v, blk, false);
        } else {
            pthread_rwlock_rdlock(&v->lock);
            err = bat_get(v, vhdx_bat_index(v, blk), &e);
            from = round_up(within, 4096);
            to = (within + n) / 4096 * 4096;
            if (!err && (e & 7) == VHDX_PRESENT && from < to)
                err = b->file->ops->zero(b->file, (e >> 20) * MIB + from, to - from, true);
            if (err == -EOPNOTSUPP)
                err = 0;
            pthread_rwlock_unlock(&v->lock);
        }
        off += n;
        len -= n;
    }
    return err;
}

static int vhdx_write_zeroes(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
    struct vhdx *v = b->state;
    int err = begin_write(v);

    while (!err && len) {
        uint64_t blk = off / b->block_size, within = off % b->block_size;
        uint64_t n = b->block_size - within, e;
        bool whole, as_data = false;
        if (n > len)
            n = len;
        whole = within == 0 && (n == b->block_size || off + n == b->size);
        pthread_rwlock_rdlock(&v->lock);
        err = bat_get(v, vhdx_bat_index(v, blk), &e);
        if (!err && (e & 7) == VHDX_PRESENT && (!whole || !unmap || v->leave_allocated)) {
            err = bfile_zero(b->file, (e >> 20) * MIB + within, n, unmap && !v->leave_allocated);
            whole = false;
        } else if (!err && !whole) {
            as_data = (e & 7) == VHDX_PARTIAL || (v->has_parent && (e & 7) == VHDX_NOT_PRESENT);
        }
        pthread_rwlock_unlock(&v->lock);
        if (!err && whole)
            err = drop_block(v, blk, true);
        else if (!err && as_data)
            err = block_write_zero_buffers(b, off, n);
        off += n;
        len -= n;
    }
    return err;
}

static int map_locked(struct vhdx *v, uint64_t off, uint64_t len, unsigned *ret_flags,
                      uint64_t *ret_len)
{
    struct block *b = v->b;
    uint64_t within = off % b->block_size, n = b->block_size - within, e, run;
    bool set;
    int err = bat_get(v, vhdx_bat_index(v, off / b->block_size), &e);

    if (n > len)
        n = len;
    if (err)
        return err;
    switch (e & 7) {
    case VHDX_PRESENT:
        return block_map_file(b, (e >> 20) * MIB + within, n, ret_flags, ret_len);
    case VHDX_PARTIAL:
        err = bitmap_run(v, off / b->logical, n / b->logical, &set, &run);
        if (err)
            return err;
        run *= b->logical;
        return set ? block_map_file(b, (e >> 20) * MIB + within, run, ret_flags, ret_len)
                   : block_map_parent(b, off, run, ret_flags, ret_len);
    case VHDX_NOT_PRESENT:
        if (v->has_parent)
            return block_map_parent(b, off, n, ret_flags, ret_len);
    }
    *ret_flags = v->has_parent ? BLOCK_MAP_OWN : 0;
    *ret_len = n;
    return 0;
}

static int vhdx_map(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags,
                    uint64_t *ret_len)
{
    struct vhdx *v = b->state;
    int err;

    pthread_rwlock_rdlock(&v->lock);
    err = map_locked(v, off, len, ret_flags, ret_len);
    /* long holes are common: join them */
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

static void vhdx_info(struct block *b, struct block_info *ret)
{
    struct vhdx *v = b->state;

    pthread_rwlock_rdlock(&v->lock);
    ret->blocks = v->npayload;
    ret->blocks_allocated = v->nallocated;
    pthread_rwlock_unlock(&v->lock);
}

static int vhdx_check_parent(struct block *b, struct block *parent, struct diag *diag)
{
    struct vhdx *v = b->state, *p = parent->state;

    if ((v->has_linkage && memcmp(v->parent_linkage, p->data_guid, 16) == 0) ||
        (v->has_linkage2 && memcmp(v->parent_linkage2, p->data_guid, 16) == 0))
        return 0;
    return diag_set(diag, -ESTALE, "%s: its parent %s was written to since, or is another disk",
                    b->file->path, parent->file->path);
}

static int vhdx_close(struct block *b)
{
    struct vhdx *v = b->state;
    int err = 0;

    if (!b->read_only && atomic_load(&v->written)) {
        err = atomic_load(&b->failed);
        if (!err)
            err = vhdx_flush(b);
        /* the tables in place become durable, then the log goes */
        if (!err && v->log_active) {
            err = block_sync(b);
            if (!err) {
                v->log_active = false;
                err = vhdx_write_headers(v, b->file);
            }
        }
    }
    vhdx_free(v);
    return err;
}

const struct block_driver block_vhdx = {
    .name = "vhdx", .format = BLOCK_VHDX, .open = vhdx_open, .close = vhdx_close,
    .readv = vhdx_readv, .writev = vhdx_writev, .flush = vhdx_flush, .discard = vhdx_discard,
    .write_zeroes = vhdx_write_zeroes, .map = vhdx_map, .info = vhdx_info, .check = vhdx_check,
    .create = vhdx_create, .check_parent = vhdx_check_parent, .readv_nowait = vhdx_readv_nowait,
};
