/* SPDX-License-Identifier: BSD-2-Clause */
/* VHDX: the log.  Reference: [MS-VHDX] 2.3. */
#include <errno.h>
#include <stdlib.h>

#include "core/block/vhdx_int.h"

/* Entry header, 2.3.1.1. */
enum {
    LE_SIGNATURE = 0,
    LE_CHECKSUM = 4,
    LE_LENGTH = 8,
    LE_TAIL = 12,
    LE_SEQUENCE = 16,
    LE_DESC_COUNT = 24,
    LE_GUID = 32,
    LE_FLUSHED_SIZE = 48,
    LE_LAST_SIZE = 56,
    LE_HEADER_LEN = 64,
};
/* Descriptors, 2.3.1.2 and 2.3.1.3. */
enum {
    LD_SIGNATURE = 0,
    LD_TRAILING = 4,   /* data: bytes 4092 to 4095 */
    LD_LEADING = 8,    /* data: bytes 0 to 7; zero: length */
    LD_FILE_OFFSET = 16,
    LD_SEQUENCE = 24,
    LD_LEN = 32,
};
/* Data sector, 2.3.1.4. */
enum { LS_SIGNATURE = 0, LS_SEQ_HIGH = 4, LS_DATA = 8, LS_DATA_LEN = 4084, LS_SEQ_LOW = 4092 };

enum { SECTOR = 4096, DESCS_MAX = 1 << 16 };

struct entry {
    bool valid;
    uint32_t len, tail, ndescs;
    uint64_t seq, flushed, last;
};

struct log {
    uint8_t *buf;
    uint32_t len, nsect;
    struct entry *at; /* for each sector */
};

static const uint8_t *sector(const struct log *l, uint64_t off)
{
    return l->buf + off % l->len;
}

static uint32_t desc_sectors(uint32_t ndescs)
{
    return (uint32_t)div_up(LE_HEADER_LEN + (uint64_t)ndescs * LD_LEN, SECTOR);
}

/* Descriptor @i of the entry at @off; none crosses a sector. */
static const uint8_t *descriptor(const struct log *l, uint64_t off, uint32_t i)
{
    return sector(l, off + LE_HEADER_LEN + (uint64_t)i * LD_LEN);
}

static uint32_t entry_crc(const struct log *l, uint32_t off, uint32_t len)
{
    uint8_t first[SECTOR];
    uint32_t crc;

    memcpy(first, sector(l, off), SECTOR);
    put_le32(first + LE_CHECKSUM, 0);
    crc = crc32c(0, first, SECTOR);
    for (uint32_t i = SECTOR; i < len; i += SECTOR)
        crc = crc32c(crc, sector(l, (uint64_t)off + i), SECTOR);
    return crc;
}

/* Is there an entry at @off?  Structure first: data sectors cannot begin as entries do, so that the
 * checksums of all of a log cost one pass over it. */
static void read_entry(const struct vhdx *v, const struct log *l, uint32_t off)
{
    const uint8_t *h = sector(l, off);
    struct entry *e = &l->at[off / SECTOR];
    uint32_t nsect, ndesc_sect, ndata = 0;

    if (memcmp(h + LE_SIGNATURE, "loge", 4) != 0 || memcmp(h + LE_GUID, v->log_guid, 16) != 0)
        return;
    *e = (struct entry){ .len = get_le32(h + LE_LENGTH), .tail = get_le32(h + LE_TAIL),
                         .ndescs = get_le32(h + LE_DESC_COUNT), .seq = get_le64(h + LE_SEQUENCE),
                         .flushed = get_le64(h + LE_FLUSHED_SIZE),
                         .last = get_le64(h + LE_LAST_SIZE) };
    if (e->len == 0 || e->len % SECTOR || e->len > l->len || e->tail % SECTOR ||
        e->tail >= l->len || e->seq == 0 || e->ndescs > e->len / LD_LEN)
        return;
    nsect = e->len / SECTOR;
    ndesc_sect = desc_sectors(e->ndescs);
    if (ndesc_sect > nsect)
        return;
    for (uint32_t i = 0; i < e->ndescs; i++) {
        const uint8_t *d = descriptor(l, off, i);
        if (get_le64(d + LD_SEQUENCE) != e->seq || get_le64(d + LD_FILE_OFFSET) % SECTOR)
            return;
        if (memcmp(d, "desc", 4) == 0)
            ndata++;
        else if (memcmp(d, "zero", 4) != 0 || get_le64(d + LD_LEADING) % SECTOR)
            return;
    }
    if (ndata != nsect - ndesc_sect)
        return;
    for (uint32_t i = ndesc_sect; i < nsect; i++) {
        const uint8_t *s = sector(l, off + (uint64_t)i * SECTOR);
        if (memcmp(s, "data", 4) != 0 || get_le32(s + LS_SEQ_HIGH) != (uint32_t)(e->seq >> 32) ||
            get_le32(s + LS_SEQ_LOW) != (uint32_t)e->seq)
            return;
    }
    e->valid = entry_crc(l, off, e->len) == get_le32(h + LE_CHECKSUM);
}

static const struct entry *following(const struct log *l, uint32_t off, uint32_t *ret_off)
{
    const struct entry *e = &l->at[off / SECTOR];
    uint32_t next = (uint32_t)(((uint64_t)off + e->len) % l->len);
    const struct entry *n = &l->at[next / SECTOR];

    if (!n->valid || n->seq != e->seq + 1)
        return NULL;
    *ret_off = next;
    return n;
}

/* 2.3.2: the sequence that begins at the tail of its last entry, and has the highest number. */
static bool find_sequence(const struct log *l, uint32_t *ret_first, uint32_t *ret_last)
{
    uint64_t best = 0;

    for (uint32_t i = 0; i < l->nsect; i++) {
        const struct entry *head = &l->at[i];
        uint32_t off, at = i * SECTOR, steps = 0;
        if (!head->valid || head->seq <= best || following(l, at, &off))
            continue;
        if (!l->at[head->tail / SECTOR].valid)
            continue;
        for (off = head->tail; off != at && steps < l->nsect; steps++)
            if (!following(l, off, &off))
                break;
        if (off != at)
            continue;
        best = head->seq;
        *ret_first = head->tail;
        *ret_last = at;
    }
    return best != 0;
}

/* What an entry may change: inside the file as it will be, not headers, not the log. */
static bool allowed(const struct vhdx *v, uint64_t off, uint64_t len, uint64_t size)
{
    if (len > size || off > size - len || off < VHDX_REGION_OFF1)
        return false;
    return off + len <= v->log_off || off >= v->log_off + v->log_len;
}

static int add_changes(const struct vhdx *v, const struct log *l, uint32_t off, uint64_t size,
                       struct bfile *overlay, uint32_t *total)
{
    const struct entry *e = &l->at[off / SECTOR];
    uint64_t data_off = (uint64_t)off + (uint64_t)desc_sectors(e->ndescs) * SECTOR;
    int err = 0;

    *total += e->ndescs;
    if (*total > DESCS_MAX)
        return -E2BIG;
    for (uint32_t i = 0; !err && i < e->ndescs; i++) {
        const uint8_t *d = descriptor(l, off, i);
        uint64_t at = get_le64(d + LD_FILE_OFFSET);
        uint64_t len = d[0] == 'd' ? SECTOR : get_le64(d + LD_LEADING);
        uint8_t data[SECTOR];
        if (!allowed(v, at, len, size))
            return -ERANGE;
        if (d[0] == 'd') {
            memcpy(data, d + LD_LEADING, 8);
            memcpy(data + 8, sector(l, data_off) + LS_DATA, LS_DATA_LEN);
            memcpy(data + LS_SEQ_LOW, d + LD_TRAILING, 4);
            data_off += SECTOR;
        }
        if (len)
            err = overlay_add(overlay, at, len, d[0] == 'd' ? data : NULL);
    }
    return err;
}

int vhdx_log_read(struct vhdx *v, struct bfile *f, struct bfile **ret_changes, struct diag *diag)
{
    static const uint8_t none[16];
    struct log l = { .len = v->log_len, .nsect = v->log_len / SECTOR };
    uint32_t first = 0, last = 0, total = 0;
    struct bfile *overlay = NULL;
    uint64_t file_size, size;
    int err;

    *ret_changes = NULL;
    if (memcmp(v->log_guid, none, 16) == 0)
        return 0;
    if (v->log_len > VHDX_LOG_MAX)
        return diag_set(diag, -ENOTSUP, "%s: a log of %s is too large", f->path,
                        DIAG_SIZE(v->log_len));
    l.buf = malloc(l.len);
    l.at = calloc(l.nsect, sizeof(*l.at));
    err = l.buf && l.at ? bfile_read(f, l.buf, l.len, v->log_off) : -ENOMEM;
    if (!err)
        err = f->ops->size(f, &file_size);
    if (err) {
        diag_set(diag, err, "%s: the log: %s", f->path, strerror(-err));
        goto out;
    }
    for (uint32_t i = 0; i < l.nsect; i++)
        read_entry(v, &l, i * SECTOR);
    if (!find_sequence(&l, &first, &last)) {
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: the log that it needs has no valid entry",
                       f->path);
        goto out;
    }
    v->log_seq = l.at[last / SECTOR].seq;
    size = l.at[last / SECTOR].last;
    if (l.at[last / SECTOR].flushed > file_size) {
        err = diag_set(diag, -EUCLEAN, "%s: is cut off: the log was written for %llu bytes, it has %llu",
                       f->path, (unsigned long long)l.at[last / SECTOR].flushed,
                       (unsigned long long)file_size);
        goto out;
    }
    if (size < file_size)
        size = file_size;
    overlay = size <= VHDX_FILE_MAX ? overlay_create(f) : NULL;
    if (!overlay) {
        err = size <= VHDX_FILE_MAX ? diag_set(diag, -ENOMEM, "%s: no memory", f->path)
                                    : diag_set(diag, -EUCLEAN, "%s: is damaged: its log is for a "
                                               "file of %llu bytes", f->path,
                                               (unsigned long long)size);
        goto out;
    }
    overlay_size(overlay, size);
    for (uint32_t off = first;; following(&l, off, &off)) {
        err = add_changes(v, &l, off, size, overlay, &total);
        if (err || off == last)
            break;
    }
    if (err == -ERANGE)
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: its log writes where it must not", f->path);
    else if (err == -E2BIG)
        err = diag_set(diag, -ENOTSUP, "%s: its log has too many entries", f->path);
    else if (err)
        diag_set(diag, err, "%s: no memory", f->path);
    else
        *ret_changes = overlay;
out:
    if (err && overlay)
        overlay_detach(overlay);
    free(l.buf);
    free(l.at);
    return err;
}

int vhdx_log_write(struct vhdx *v, struct vhdx_page *const *pages, unsigned n, uint64_t file_size)
{
    uint32_t len = (n + 1) * SECTOR, at = v->slot ? v->log_len / 2 / SECTOR * SECTOR : 0;
    struct bfile *f = v->b->file;
    uint8_t *e = calloc(1, len), *d, *s;
    uint64_t seq = v->log_seq + 1;
    int err;

    if (!e)
        return -ENOMEM;
    memcpy(e + LE_SIGNATURE, "loge", 4);
    put_le32(e + LE_LENGTH, len);
    put_le32(e + LE_TAIL, at);
    put_le64(e + LE_SEQUENCE, seq);
    put_le32(e + LE_DESC_COUNT, n);
    memcpy(e + LE_GUID, v->log_guid, 16);
    put_le64(e + LE_FLUSHED_SIZE, file_size);
    put_le64(e + LE_LAST_SIZE, file_size);
    for (unsigned i = 0; i < n; i++) {
        const uint8_t *p = pages[i]->data;
        d = e + LE_HEADER_LEN + i * LD_LEN;
        s = e + (i + 1) * SECTOR;
        memcpy(d + LD_SIGNATURE, "desc", 4);
        memcpy(d + LD_TRAILING, p + LS_SEQ_LOW, 4);
        memcpy(d + LD_LEADING, p, 8);
        put_le64(d + LD_FILE_OFFSET, pages[i]->off);
        put_le64(d + LD_SEQUENCE, seq);
        memcpy(s + LS_SIGNATURE, "data", 4);
        put_le32(s + LS_SEQ_HIGH, (uint32_t)(seq >> 32));
        memcpy(s + LS_DATA, p + 8, LS_DATA_LEN);
        put_le32(s + LS_SEQ_LOW, (uint32_t)seq);
    }
    put_le32(e + LE_CHECKSUM, crc32c(0, e, len));
    err = bfile_write(f, e, len, v->log_off + at);
    free(e);
    if (err)
        return err;
    err = block_sync(v->b);
    if (err)
        return err;
    v->log_seq = seq;
    v->slot ^= 1;
    return 0;
}
