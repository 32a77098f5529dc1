/* SPDX-License-Identifier: BSD-2-Clause */
/* VHDX: headers, region table, metadata, the scan of the BAT; creation and checks.
 * Reference: [MS-VHDX] 2.2, 2.4, 2.5, 2.6. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/block/vhdx_int.h"

/* Header, 2.2.2. */
enum {
    H_SIGNATURE = 0,
    H_CHECKSUM = 4,
    H_SEQUENCE = 8,
    H_FILE_GUID = 16,
    H_DATA_GUID = 32,
    H_LOG_GUID = 48,
    H_LOG_VERSION = 64,
    H_VERSION = 66,
    H_LOG_LENGTH = 68,
    H_LOG_OFFSET = 72,
};

#define GUID(a, b, c, ...)                                                                         \
    {                                                                                              \
        (a) & 0xff, (a) >> 8 & 0xff, (a) >> 16 & 0xff, (a) >> 24 & 0xff, (b) & 0xff,               \
            (b) >> 8 & 0xff, (c) & 0xff, (c) >> 8 & 0xff, __VA_ARGS__                              \
    }

/* 2.2.3.2 */
const uint8_t vhdx_guid_bat[16] =
    GUID(0x2dc27766, 0xf623, 0x4200, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08);
const uint8_t vhdx_guid_meta[16] =
    GUID(0x8b7ca206, 0x4790, 0x4b9a, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e);

/* 2.6.2 */
enum item {
    ITEM_PARAMETERS,
    ITEM_SIZE,
    ITEM_DISK_ID,
    ITEM_LOGICAL,
    ITEM_PHYSICAL,
    ITEM_PARENT,
    NITEMS,
};
static const struct {
    uint8_t guid[16];
    uint32_t len, flags; /* flags: 2 virtual disk, 4 required */
    const char *name;
} items[NITEMS] = {
    { GUID(0xcaa16737, 0xfa36, 0x4d43, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b), 8, 4,
      "file parameters" },
    { GUID(0x2fa54224, 0xcd1b, 0x4876, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8), 8, 6,
      "disk size" },
    { GUID(0xbeca12ab, 0xb2e6, 0x4523, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46), 16, 6,
      "disk id" },
    { GUID(0x8141bf1d, 0xa96f, 0x4709, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f), 4, 6,
      "logical sector size" },
    { GUID(0xcda348c7, 0x445d, 0x4471, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56), 4, 6,
      "physical sector size" },
    { GUID(0xa8d35f2d, 0xb30b, 0x454d, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c), 0, 4,
      "parent locator" },
};
/* 2.6.2.6.1 */
static const uint8_t guid_locator[16] =
    GUID(0xb04aefb7, 0xd19e, 0x4a81, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13);

enum { PARAM_LEAVE_ALLOCATED = 1, PARAM_HAS_PARENT = 2 };

void vhdx_guid_text(const uint8_t g[16], char text[39])
{
    snprintf(text, 39, "{%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x}", get_le32(g),
             get_le16(g + 4), get_le16(g + 6), g[8], g[9], g[10], g[11], g[12], g[13], g[14],
             g[15]);
}

static bool guid_parse(const char *s, uint8_t g[16])
{
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };
    unsigned n = 0;

    for (s += *s == '{'; *s && *s != '}'; s++) {
        char pair[3] = { s[0], s[1], 0 };
        if (*s == '-')
            continue;
        if (n == 16 || !isxdigit((unsigned char)s[0]) || !isxdigit((unsigned char)s[1]))
            return false;
        g[order[n++]] = (uint8_t)strtoul(pair, NULL, 16);
        s++;
    }
    return n == 16;
}

/* ---- headers ------------------------------------------------------------------------------------- */

static void encode_header(const struct vhdx *v, uint8_t h[VHDX_HEADER_LEN])
{
    memset(h, 0, VHDX_HEADER_LEN);
    memcpy(h + H_SIGNATURE, "head", 4);
    put_le64(h + H_SEQUENCE, v->seq);
    memcpy(h + H_FILE_GUID, v->file_guid, 16);
    memcpy(h + H_DATA_GUID, v->data_guid, 16);
    if (v->log_active)
        memcpy(h + H_LOG_GUID, v->log_guid, 16);
    put_le16(h + H_VERSION, 1);
    put_le32(h + H_LOG_LENGTH, v->log_len);
    put_le64(h + H_LOG_OFFSET, v->log_off);
    put_le32(h + H_CHECKSUM, crc32c(0, h, VHDX_HEADER_LEN));
}

/* The one that is not current is written; torn, the current one still counts (2.2.2). */
int vhdx_write_headers(struct vhdx *v, struct bfile *f)
{
    uint8_t h[VHDX_HEADER_LEN];
    int err;

    for (int i = 0; i < 2; i++) {
        v->seq++;
        encode_header(v, h);
        err = bfile_write(f, h, sizeof(h), v->current ? VHDX_HEADER_OFF1 : VHDX_HEADER_OFF2);
        if (!err)
            err = v->b ? block_sync(v->b) : f->ops->sync(f);
        if (err)
            return err;
        v->current ^= 1;
    }
    return 0;
}

static bool checksum_good(uint8_t *p, size_t len, size_t at)
{
    uint32_t want = get_le32(p + at), is;

    put_le32(p + at, 0);
    is = crc32c(0, p, len);
    put_le32(p + at, want);
    return is == want;
}

static int read_headers(struct vhdx *v, struct bfile *f, struct diag *diag)
{
    uint8_t h[2][VHDX_HEADER_LEN];
    uint64_t seq[2] = { 0, 0 };
    const uint8_t *c;

    for (int i = 0; i < 2; i++) {
        if (bfile_read(f, h[i], VHDX_HEADER_LEN, i ? VHDX_HEADER_OFF2 : VHDX_HEADER_OFF1) != 0)
            continue;
        v->good[i] = memcmp(h[i], "head", 4) == 0 &&
                     checksum_good(h[i], VHDX_HEADER_LEN, H_CHECKSUM);
        seq[i] = get_le64(h[i] + H_SEQUENCE);
    }
    if (!v->good[0] && !v->good[1])
        return diag_set(diag, -EUCLEAN, "%s: is damaged: both headers are", f->path);
    v->current = v->good[1] && (!v->good[0] || seq[1] > seq[0]);
    v->same_seq = v->good[0] && v->good[1] && seq[0] == seq[1];
    if (v->same_seq && memcmp(h[0], h[1], VHDX_HEADER_LEN) != 0)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: two headers claim to be the newest",
                        f->path);
    c = h[v->current];
    v->seq = seq[v->current];
    memcpy(v->file_guid, c + H_FILE_GUID, 16);
    memcpy(v->data_guid, c + H_DATA_GUID, 16);
    memcpy(v->log_guid, c + H_LOG_GUID, 16);
    v->log_len = get_le32(c + H_LOG_LENGTH);
    v->log_off = get_le64(c + H_LOG_OFFSET);
    if (get_le16(c + H_VERSION) != 1)
        return diag_set(diag, -ENOTSUP, "%s: VHDX version %u (known: 1)", f->path,
                        get_le16(c + H_VERSION));
    if (get_le16(c + H_LOG_VERSION) != 0)
        return diag_set(diag, -ENOTSUP, "%s: VHDX log version %u (known: 0)", f->path,
                        get_le16(c + H_LOG_VERSION));
    if (v->log_len == 0 || v->log_len % MIB || v->log_off < MIB || v->log_off % MIB)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the log's place in the header", f->path);
    return 0;
}

/* ---- regions --------------------------------------------------------------------------------------- */

static bool overlaps(uint64_t a, uint64_t alen, uint64_t b, uint64_t blen)
{
    return a < b + blen && b < a + alen;
}

static int take_regions(struct vhdx *v, const uint8_t *t, uint64_t size, struct diag *diag)
{
    uint32_t n = get_le32(t + 8);
    struct {
        uint64_t off;
        uint32_t len;
    } seen[64];
    const char *path = v->b->file->path;
    size_t nseen = 0;

    if (n > VHDX_ENTRIES_MAX)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: %u regions", path, n);
    if (n >= COUNT(seen))
        return diag_set(diag, -ENOTSUP, "%s: %u regions are too many", path, n);
    seen[nseen].off = v->log_off;
    seen[nseen++].len = v->log_len;
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *e = t + 16 + i * 32;
        uint64_t off = get_le64(e + 16);
        uint32_t len = get_le32(e + 24);
        bool required = get_le32(e + 28) & 1;
        bool bat = memcmp(e, vhdx_guid_bat, 16) == 0, meta = memcmp(e, vhdx_guid_meta, 16) == 0;
        char name[39];

        if (!bat && !meta && required) {
            vhdx_guid_text(e, name);
            return diag_set(diag, -ENOTSUP, "%s: needs region %s, which is not known", path, name);
        }
        if (off < MIB || off % MIB || len == 0 || len % MIB || len > size || off > size - len)
            return diag_set(diag, -EUCLEAN, "%s: is damaged: region %u is not in the file", path, i);
        for (size_t k = 0; k < nseen; k++)
            if (overlaps(off, len, seen[k].off, seen[k].len))
                return diag_set(diag, -EUCLEAN, "%s: is damaged: regions overlap", path);
        seen[nseen].off = off;
        seen[nseen++].len = len;
        if ((bat && v->bat_len) || (meta && v->meta_len))
            return diag_set(diag, -EUCLEAN, "%s: is damaged: a region is there twice", path);
        if (bat) {
            v->bat_off = off;
            v->bat_len = len;
        } else if (meta) {
            v->meta_off = off;
            v->meta_len = len;
        }
    }
    if (!v->bat_len || !v->meta_len)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: it has no %s region", path,
                        v->bat_len ? "metadata" : "BAT");
    return 0;
}

/* Other regions hold data that we do not know: their space is taken. */
static void mark(struct vhdx *v, uint64_t off, uint64_t len);

static int read_regions(struct vhdx *v, struct bfile *f, uint64_t size, uint8_t **ret_table,
                        struct diag *diag)
{
    uint8_t *t = malloc(2 * VHDX_REGION_LEN);
    int err = -EUCLEAN;

    if (!t)
        return diag_set(diag, -ENOMEM, "%s: no memory", f->path);
    for (int i = 0; i < 2; i++) {
        uint8_t *p = t + i * VHDX_REGION_LEN;
        v->region_good[i] =
            bfile_read(f, p, VHDX_REGION_LEN, i ? VHDX_REGION_OFF2 : VHDX_REGION_OFF1) == 0 &&
            memcmp(p, "regi", 4) == 0 && checksum_good(p, VHDX_REGION_LEN, 4);
    }
    if (!v->region_good[0] && !v->region_good[1]) {
        diag_set(diag, err, "%s: is damaged: both region tables are", f->path);
    } else {
        if (!v->region_good[0])
            memcpy(t, t + VHDX_REGION_LEN, VHDX_REGION_LEN);
        err = take_regions(v, t, size, diag);
    }
    if (err) {
        free(t);
        return err;
    }
    *ret_table = t;
    return 0;
}

/* ---- metadata -------------------------------------------------------------------------------------- */

static int read_locator(struct vhdx *v, const uint8_t *p, uint32_t len, struct diag *diag)
{
    static const char *const wanted[] = { "relative_path", "absolute_win32_path" };
    const char *path = v->b->file->path;
    char *found[COUNT(wanted)] = { NULL };
    uint32_t n;
    int err = 0;

    if (len < 20)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the parent locator", path);
    if (memcmp(p, guid_locator, 16) != 0)
        return diag_set(diag, -ENOTSUP, "%s: a parent locator of an unknown type", path);
    n = get_le16(p + 18);
    for (uint32_t i = 0; !err && i < n; i++) {
        const uint8_t *e = p + 20 + i * 12;
        uint32_t koff, voff, klen, vlen;
        char *key, *value;
        if (20 + (i + 1) * 12 > len) {
            err = diag_set(diag, -EUCLEAN, "%s: is damaged: the parent locator", path);
            break;
        }
        koff = get_le32(e);
        voff = get_le32(e + 4);
        klen = get_le16(e + 8);
        vlen = get_le16(e + 10);
        if (klen > len || koff > len - klen || vlen > len || voff > len - vlen) {
            err = diag_set(diag, -EUCLEAN, "%s: is damaged: the parent locator", path);
            break;
        }
        key = block_utf8(p + koff, klen, false);
        value = block_utf8(p + voff, vlen, false);
        if (key && value && strcmp(key, "parent_linkage") == 0)
            v->has_linkage = guid_parse(value, v->parent_linkage);
        else if (key && value && strcmp(key, "parent_linkage2") == 0)
            v->has_linkage2 = guid_parse(value, v->parent_linkage2);
        for (size_t k = 0; key && value && k < COUNT(wanted); k++) {
            if (strcmp(key, wanted[k]) == 0 && !found[k]) {
                found[k] = value;
                value = NULL;
            }
        }
        free(key);
        free(value);
    }
    for (size_t k = 0; k < COUNT(wanted); k++) {
        if (!found[k])
            continue;
        for (char *c = found[k]; *c; c++)
            if (*c == '\\')
                *c = '/';
        if (err)
            free(found[k]);
        else if (block_add_parent_name(v->b, found[k]) != 0)
            err = diag_set(diag, -ENOMEM, "%s: no memory", path);
    }
    if (!err && !v->has_linkage)
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: no identity of its parent", path);
    return err;
}

static int read_metadata(struct vhdx *v, struct bfile *f, struct diag *diag)
{
    struct block *b = v->b;
    uint8_t *t = malloc(64 << 10), *value = NULL, small[16];
    bool have[NITEMS] = { false };
    uint32_t params = 0, parent_len = 0;
    uint16_t n;
    int err = t ? bfile_read(f, t, 64 << 10, v->meta_off) : -ENOMEM;

    if (err) {
        diag_set(diag, err, "%s: the metadata: %s", f->path, strerror(-err));
        goto out;
    }
    n = get_le16(t + 10);
    if (memcmp(t, "metadata", 8) != 0 || n > VHDX_ENTRIES_MAX) {
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: the metadata table", f->path);
        goto out;
    }
    for (uint32_t i = 0; i < n; i++) {
        const uint8_t *e = t + 32 + i * 32;
        uint32_t off = get_le32(e + 16), len = get_le32(e + 20), flags = get_le32(e + 24);
        unsigned k;
        char name[39];

        for (k = 0; k < NITEMS; k++)
            if (memcmp(e, items[k].guid, 16) == 0 && !(flags & 1))
                break;
        if (k == NITEMS) {
            if (!(flags & 4))
                continue;
            vhdx_guid_text(e, name);
            err = diag_set(diag, -ENOTSUP, "%s: needs metadata %s, which is not known", f->path,
                           name);
            goto out;
        }
        if (have[k] || off < 64 << 10 || len > MIB || len > v->meta_len ||
            off > v->meta_len - len || (items[k].len && len != items[k].len)) {
            err = diag_set(diag, -EUCLEAN, "%s: is damaged: metadata: %s", f->path, items[k].name);
            goto out;
        }
        have[k] = true;
        if (k == ITEM_PARENT) {
            parent_len = len;
            value = malloc(len + 1);
        }
        err = k == ITEM_PARENT && !value
                  ? -ENOMEM
                  : bfile_read(f, k == ITEM_PARENT ? value : small, len, v->meta_off + off);
        if (err) {
            diag_set(diag, err, "%s: the metadata: %s", f->path, strerror(-err));
            goto out;
        }
        switch (k) {
        case ITEM_PARAMETERS:
            b->block_size = get_le32(small);
            params = get_le32(small + 4);
            break;
        case ITEM_SIZE: b->size = get_le64(small); break;
        case ITEM_DISK_ID: memcpy(b->disk_id, small, 16); break;
        case ITEM_LOGICAL: b->logical = get_le32(small); break;
        case ITEM_PHYSICAL: b->physical = get_le32(small); break;
        }
    }
    v->has_parent = params & PARAM_HAS_PARENT;
    v->leave_allocated = params & PARAM_LEAVE_ALLOCATED;
    for (unsigned k = 0; k < NITEMS; k++) {
        if (!have[k] && (k != ITEM_PARENT || v->has_parent)) {
            err = diag_set(diag, -EUCLEAN, "%s: is damaged: metadata has no %s", f->path,
                           items[k].name);
            goto out;
        }
    }
    if ((b->block_size & (b->block_size - 1)) || b->block_size < MIB || b->block_size > 256 * MIB)
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: blocks of %u bytes", f->path,
                       b->block_size);
    else if ((b->logical != 512 && b->logical != 4096) ||
             (b->physical != 512 && b->physical != 4096))
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: sectors of %u and %u bytes", f->path,
                       b->logical, b->physical);
    else if (b->size == 0 || b->size > VHDX_SIZE_MAX || b->size % b->logical)
        err = diag_set(diag, -EUCLEAN, "%s: is damaged: a disk of %llu bytes", f->path,
                       (unsigned long long)b->size);
    else if (v->has_parent)
        err = read_locator(v, value, parent_len, diag);
out:
    free(t);
    free(value);
    return err;
}

/* ---- the BAT ------------------------------------------------------------------------------------------ */

static void mark(struct vhdx *v, uint64_t off, uint64_t len)
{
    for (uint64_t m = off / MIB; m < div_up(off + len, MIB) && m < v->file_mib; m++)
        v->used[m / 8] |= (uint8_t)(1 << m % 8);
}

static bool marked(const struct vhdx *v, uint64_t off, uint64_t len)
{
    for (uint64_t m = off / MIB; m < (off + len) / MIB; m++)
        if (v->used[m / 8] >> m % 8 & 1)
            return true;
    return false;
}

/* Whether entry @i makes sense; what it refers to is marked. */
static const char *judge(struct vhdx *v, uint64_t i, uint64_t e, uint64_t size)
{
    uint64_t off = (e >> 20) * MIB, len = v->b->block_size;
    bool bitmap = i % (v->chunk_ratio + 1) == v->chunk_ratio;
    unsigned state = e & 7;

    if (bitmap) {
        len = MIB;
        if (state != VHDX_NOT_PRESENT && state != VHDX_PRESENT)
            return "has an unknown state";
        if (state == VHDX_PRESENT && !v->has_parent)
            return "is for a bitmap, which only a differencing image has";
    } else if (state == 4 || (state == VHDX_PARTIAL && !v->has_parent)) {
        return "has an unknown state";
    }
    if (state != VHDX_PRESENT && state != VHDX_PARTIAL) {
        /* 2.5.1.1: an unmapped block may still name its place */
        if (off >= MIB && off < size && len <= size - off)
            mark(v, off, len);
        return NULL;
    }
    if (off < MIB || off > size || len > size - off)
        return "points outside of the file";
    if (marked(v, off, len))
        return "points to space that is in use";
    mark(v, off, len);
    v->nallocated += !bitmap;
    return NULL;
}

/* Two passes: places that are in use for sure come first. */
static int scan_bat(struct vhdx *v, struct bfile *f, uint64_t size, struct block_check *check,
                    struct diag *diag)
{
    const size_t piece = MIB;
    uint8_t *buf = malloc(piece);
    int err = buf ? 0 : -ENOMEM;

    for (int pass = 0; !err && pass < 2; pass++) {
        for (uint64_t at = 0; !err && at < v->nentries * 8; at += piece) {
            size_t n = v->nentries * 8 - at < piece ? (size_t)(v->nentries * 8 - at) : piece;
            err = bfile_read(f, buf, n, v->bat_off + at);
            for (size_t i = 0; !err && i < n; i += 8) {
                uint64_t e = get_le64(buf + i), idx = (at + i) / 8;
                bool live = (e & 7) >= VHDX_PRESENT;
                const char *wrong;
                if (e == 0 || live != (pass == 0))
                    continue;
                wrong = judge(v, idx, e, size);
                if (wrong && check)
                    block_report(check, BLOCK_ERROR, "BAT entry %llu (0x%llx) %s",
                                 (unsigned long long)idx, (unsigned long long)e, wrong);
                else if (wrong)
                    err = diag_set(diag, -EUCLEAN, "%s: is damaged: BAT entry %llu (0x%llx) %s",
                                   f->path, (unsigned long long)idx, (unsigned long long)e, wrong);
            }
        }
    }
    /* a partly present block needs its bitmap */
    for (uint64_t c = 0; !err && v->has_parent && c < v->nchunks; c++) {
        uint64_t sb = vhdx_sb_index(v, c), left = v->npayload - c * v->chunk_ratio;
        uint64_t count = left < v->chunk_ratio ? left : v->chunk_ratio, e = 0;
        uint8_t one[8];
        err = bfile_read(f, one, 8, v->bat_off + sb * 8);
        if (err || (get_le64(one) & 7) == VHDX_PRESENT)
            continue;
        for (uint64_t k = 0; !err && k < count; k++) {
            if (k % (piece / 8) == 0) {
                size_t n = count - k < piece / 8 ? (size_t)(count - k) * 8 : piece;
                err = bfile_read(f, buf, n, v->bat_off + (c * (v->chunk_ratio + 1) + k) * 8);
                if (err)
                    break;
            }
            e = get_le64(buf + k % (piece / 8) * 8);
            if ((e & 7) != VHDX_PARTIAL)
                continue;
            if (!check)
                err = diag_set(diag, -EUCLEAN, "%s: is damaged: block %llu has no sector bitmap",
                               f->path, (unsigned long long)c * v->chunk_ratio + k);
            else
                block_report(check, BLOCK_ERROR, "block %llu has no sector bitmap",
                             (unsigned long long)c * v->chunk_ratio + k);
        }
    }
    free(buf);
    if (err && err != -EUCLEAN)
        diag_set(diag, err, "%s: the BAT: %s", f->path, strerror(-err));
    return err;
}

static int prepare(struct vhdx *v, struct bfile *f, uint64_t size, const uint8_t *regions,
                   struct diag *diag)
{
    struct block *b = v->b;

    v->chunk_ratio = (uint64_t)b->logical * (1 << 23) / b->block_size;
    v->npayload = div_up(b->size, b->block_size);
    v->nchunks = div_up(v->npayload, v->chunk_ratio);
    v->nentries = v->has_parent ? v->nchunks * (v->chunk_ratio + 1)
                                : v->npayload + (v->npayload - 1) / v->chunk_ratio;
    if (v->nentries * 8 > v->bat_len)
        return diag_set(diag, -EUCLEAN, "%s: is damaged: the BAT is too small for the disk",
                        f->path);
    b->type = v->has_parent        ? BLOCK_TYPE_DIFFERENCING
              : v->leave_allocated ? BLOCK_TYPE_FIXED
                                   : BLOCK_TYPE_DYNAMIC;
    if (size > VHDX_FILE_MAX)
        return diag_set(diag, -EFBIG, "%s: the file is too large", f->path);
    v->file_mib = div_up(size, MIB);
    v->used_room = v->file_mib / 8 + 4096;
    v->used = calloc(1, v->used_room);
    v->bat = calloc(v->bat_len / VHDX_PAGE, sizeof(*v->bat));
    v->bitmaps = v->has_parent ? calloc(v->nchunks, sizeof(*v->bitmaps)) : NULL;
    if (!v->used || !v->bat || (v->has_parent && !v->bitmaps))
        return diag_set(diag, -ENOMEM, "%s: no memory", f->path);
    mark(v, 0, MIB);
    mark(v, v->log_off, v->log_len);
    for (uint32_t i = 0; i < get_le32(regions + 8); i++)
        mark(v, get_le64(regions + 16 + i * 32 + 16), get_le32(regions + 16 + i * 32 + 24));
    return 0;
}

/* ---- opening ---------------------------------------------------------------------------------------------- */

void vhdx_free(struct vhdx *v)
{
    if (!v)
        return;
    for (uint64_t i = 0; v->bat && i < v->bat_len / VHDX_PAGE; i++)
        free(v->bat[i]);
    for (uint64_t c = 0; v->bitmaps && c < v->nchunks; c++) {
        for (unsigned i = 0; v->bitmaps[c] && i < VHDX_BITMAP_PAGES; i++)
            free(v->bitmaps[c][i]);
        free(v->bitmaps[c]);
    }
    free(v->bat);
    free(v->bitmaps);
    free(v->used);
    free(v->freed);
    pthread_rwlock_destroy(&v->lock);
    pthread_mutex_destroy(&v->load_lock);
    pthread_mutex_destroy(&v->flush_lock);
    free(v);
}

/* All structures, as the log says that they are, are checked before anything is written. */
int vhdx_open(struct block *b, const struct block_options *opt, struct block_check *check,
              struct diag *diag)
{
    struct vhdx *v = calloc(1, sizeof(*v));
    struct bfile *base = b->file, *f = base, *changes = NULL;
    uint8_t sig[8], *regions = NULL;
    uint64_t size;
    int err;

    (void)opt;
    if (!v)
        return diag_set(diag, -ENOMEM, "%s: no memory", base->path);
    v->b = b;
    block_lock_init(&v->lock);
    pthread_mutex_init(&v->load_lock, NULL);
    pthread_mutex_init(&v->flush_lock, NULL);
    err = bfile_read(base, sig, 8, 0);
    if (err || memcmp(sig, "vhdxfile", 8) != 0) {
        err = diag_set(diag, -EINVAL, "%s: has no VHDX signature", base->path);
        goto fail;
    }
    err = read_headers(v, base, diag);
    if (!err)
        err = base->ops->size(base, &size);
    if (!err && (v->log_len > size || v->log_off > size - v->log_len))
        err = diag_set(diag, -EUCLEAN, "%s: is cut off: its log is not in the file", base->path);
    if (!err)
        err = vhdx_log_read(v, base, &changes, diag);
    if (err)
        goto fail;
    if (changes)
        f = changes;
    err = f->ops->size(f, &size);
    if (!err)
        err = read_regions(v, f, size, &regions, diag);
    if (!err)
        err = read_metadata(v, f, diag);
    if (!err)
        err = prepare(v, f, size, regions, diag);
    if (!err)
        err = scan_bat(v, f, size, check, diag);
    if (err)
        goto fail;
    b->log_pending = changes != NULL;
    if (b->read_only) {
        b->file = f;
    } else if (changes) {
        if (check && check->errors) {
            err = diag_set(diag, -EUCLEAN, "%s: is damaged beyond what its log can repair",
                           base->path);
            goto fail;
        }
        err = overlay_apply(changes);
        if (!err) {
            v->log_active = false;
            err = vhdx_write_headers(v, base);
        }
        if (err) {
            diag_set(diag, err, "%s: replaying the log: %s", base->path, strerror(-err));
            goto fail;
        }
        overlay_detach(changes);
        if (check) {
            check->fixed++;
            block_report(check, BLOCK_NOTE, "the log was applied");
        }
        v->good[0] = v->good[1] = true;
        changes = NULL;
    }
    for (uint64_t m = 0; m < v->file_mib; m++)
        v->nfree += !(v->used[m / 8] >> m % 8 & 1);
    v->free_hint = 0;
    b->state = v;
    free(regions);
    return 0;
fail:
    if (changes)
        overlay_detach(changes);
    free(regions);
    vhdx_free(v);
    return err;
}

/* ---- checking ----------------------------------------------------------------------------------------------- */

/* Space that nothing refers to: cut off at the end, holes in between. */
static int free_leaks(struct vhdx *v, uint64_t size)
{
    struct bfile *f = v->b->file;
    uint64_t end = v->file_mib;
    int err = 0;

    while (end && !(v->used[(end - 1) / 8] >> (end - 1) % 8 & 1))
        end--;
    for (uint64_t m = 0; !err && m < end; m++)
        if (!(v->used[m / 8] >> m % 8 & 1))
            err = bfile_zero(f, m * MIB, MIB, true);
    if (!err && end * MIB < size)
        err = f->ops->truncate(f, end * MIB);
    if (!err)
        err = block_sync(v->b);
    if (!err) {
        v->file_mib = end;
        v->nfree = 0;
    }
    return err;
}

static int repair_copies(struct vhdx *v)
{
    struct bfile *f = v->b->file;
    uint8_t *t;
    int err = 0;

    if (!v->good[0] || !v->good[1])
        err = vhdx_write_headers(v, f);
    if (err || v->region_good[0] == v->region_good[1])
        return err;
    t = malloc(VHDX_REGION_LEN);
    if (!t)
        return -ENOMEM;
    err = bfile_read(f, t, VHDX_REGION_LEN, v->region_good[0] ? VHDX_REGION_OFF1
                                                              : VHDX_REGION_OFF2);
    if (!err)
        err = bfile_write(f, t, VHDX_REGION_LEN, v->region_good[0] ? VHDX_REGION_OFF2
                                                                   : VHDX_REGION_OFF1);
    free(t);
    return err ? err : block_sync(v->b);
}

int vhdx_check(struct block *b, struct block_check *check, struct diag *diag)
{
    struct vhdx *v = b->state;
    bool copies = v->good[0] && v->good[1] && v->region_good[0] && v->region_good[1];
    uint64_t size, leaks = 0;
    bool damaged = check->errors;
    int err = b->file->ops->size(b->file, &size);

    if (err)
        return diag_set(diag, err, "%s: %s", b->file->path, strerror(-err));
    check->blocks = v->npayload;
    check->blocks_allocated = v->nallocated;
    if (b->log_pending && b->read_only)
        block_report(check, BLOCK_NOTE, "the log holds changes that are not applied yet");
    for (int i = 0; i < 2; i++) {
        /* a torn header is what an interrupted update leaves: the other one counts */
        if (!v->good[i])
            block_report(check, BLOCK_NOTE, "header %d is not valid, the other one is", i + 1);
        if (!v->region_good[i])
            block_report(check, BLOCK_ERROR, "region table %d is damaged, the other one is not",
                         i + 1);
    }
    for (uint64_t m = 0; m < v->file_mib; m++)
        leaks += !(v->used[m / 8] >> m % 8 & 1);
    if (leaks)
        block_report(check, BLOCK_LEAK, "%llu MiB of the file are not in use",
                     (unsigned long long)leaks);
    check->leaked = leaks * MIB;
    if (!check->repair || (copies && !leaks))
        return 0;
    if (damaged)
        return 0; /* what is in use cannot be told: nothing is freed, nothing is written */
    if (!copies) {
        err = repair_copies(v);
        if (!err) {
            check->fixed++;
            check->errors = 0;
            block_report(check, BLOCK_NOTE, "headers and region tables were restored");
        }
    }
    if (!err && leaks) {
        err = free_leaks(v, size);
        if (!err) {
            check->fixed++;
            check->leaked = 0;
            block_report(check, BLOCK_NOTE, "unused space was given back");
        }
    }
    return err ? diag_set(diag, err, "%s: %s", b->file->path, strerror(-err)) : 0;
}

/* ---- creation ------------------------------------------------------------------------------------------------- */

enum { LOG_OFF = 1 << 20, LOG_LEN = 1 << 20, META_OFF = 2 << 20, META_LEN = 1 << 20,
       BAT_OFF = 3 << 20, ITEM_OFF = 64 << 10, LOCATOR_MAX = 8192 };

struct locator {
    uint8_t data[LOCATOR_MAX];
    uint32_t n, at;
};

static bool locator_add(struct locator *l, uint32_t total, const char *key, const char *value)
{
    uint8_t *e = l->data + 20 + l->n * 12;
    uint32_t strings = 20 + total * 12;
    int k, val;

    if (!l->n)
        l->at = strings;
    k = block_utf16(key, l->data + l->at, LOCATOR_MAX - l->at, false);
    if (k < 0)
        return false;
    val = block_utf16(value, l->data + l->at + k, LOCATOR_MAX - l->at - (uint32_t)k, false);
    if (val <= 0)
        return false;
    put_le32(e, l->at);
    put_le32(e + 4, l->at + (uint32_t)k);
    put_le16(e + 8, (uint16_t)k);
    put_le16(e + 10, (uint16_t)val);
    l->at += (uint32_t)(k + val);
    l->n++;
    return true;
}

static int make_locator(struct locator *l, struct bfile *f, struct block *parent, struct diag *diag)
{
    const struct vhdx *pv = parent->state;
    char *rel, id[39];
    bool ok;

    if (parent->driver != &block_vhdx)
        return diag_set(diag, -EINVAL, "%s: the parent of a VHDX image is one, too", f->path);
    if (strchr(f->path, '\\') || strchr(parent->file->path, '\\'))
        return diag_set(diag, -EINVAL, "%s: a path with a backslash cannot be stored", f->path);
    rel = block_relative_path(f->path, parent->file->path);
    if (!rel)
        return diag_set(diag, -ENOENT, "%s: no way to the parent", f->path);
    for (char *c = rel; *c; c++)
        if (*c == '/')
            *c = '\\';
    vhdx_guid_text(pv->data_guid, id);
    memcpy(l->data, guid_locator, 16);
    ok = locator_add(l, 2, "parent_linkage", id) && locator_add(l, 2, "relative_path", rel);
    put_le16(l->data + 18, (uint16_t)l->n);
    free(rel);
    return ok ? 0 : diag_set(diag, -ENAMETOOLONG, "%s: the parent's path is too long, or not UTF-8",
                             f->path);
}

static int write_metadata(struct bfile *f, const struct block_create_options *o, uint32_t block,
                          uint32_t physical, const struct locator *loc, bool parent)
{
    uint8_t *m = calloc(1, ITEM_OFF + 4096 + LOCATOR_MAX);
    uint32_t at = ITEM_OFF, n = parent ? NITEMS : NITEMS - 1;
    int err;

    if (!m)
        return -ENOMEM;
    memcpy(m, "metadata", 8);
    put_le16(m + 10, (uint16_t)n);
    for (unsigned k = 0; k < n; k++) {
        uint8_t *e = m + 32 + k * 32, *p = m + at;
        uint32_t len = k == ITEM_PARENT ? loc->at : items[k].len;
        memcpy(e, items[k].guid, 16);
        put_le32(e + 16, at);
        put_le32(e + 20, len);
        put_le32(e + 24, items[k].flags);
        switch (k) {
        case ITEM_PARAMETERS:
            put_le32(p, block);
            put_le32(p + 4, parent                          ? PARAM_HAS_PARENT
                            : o->type == BLOCK_TYPE_FIXED ? PARAM_LEAVE_ALLOCATED
                                                          : 0);
            break;
        case ITEM_SIZE: put_le64(p, o->size); break;
        case ITEM_DISK_ID: block_random_id(p); break;
        case ITEM_LOGICAL: put_le32(p, o->logical_sector_size); break;
        case ITEM_PHYSICAL: put_le32(p, physical); break;
        case ITEM_PARENT: memcpy(p, loc->data, loc->at); break;
        }
        at += (len + 7) & ~7u;
    }
    err = bfile_write(f, m, at, META_OFF);
    free(m);
    return err;
}

static int write_fixed_bat(struct bfile *f, uint64_t npayload, uint64_t ratio, uint32_t block,
                           uint64_t data_off)
{
    const uint64_t n = npayload + (npayload - 1) / ratio;
    uint8_t *buf = malloc(MIB);
    uint64_t blk = 0;
    int err = buf ? 0 : -ENOMEM;

    for (uint64_t at = 0; !err && at < n; at += MIB / 8) {
        uint64_t count = n - at < MIB / 8 ? n - at : MIB / 8;
        for (uint64_t i = 0; i < count; i++) {
            uint64_t e = 0;
            if ((at + i) % (ratio + 1) != ratio)
                e = ((data_off + blk++ * block) / MIB) << 20 | VHDX_PRESENT;
            put_le64(buf + i * 8, e);
        }
        err = bfile_write(f, buf, count * 8, BAT_OFF + at * 8);
    }
    free(buf);
    return err;
}

static int write_regions(struct bfile *f, uint32_t bat_len)
{
    uint8_t *t = calloc(1, VHDX_REGION_LEN);
    int err;

    if (!t)
        return -ENOMEM;
    memcpy(t, "regi", 4);
    put_le32(t + 8, 2);
    memcpy(t + 16, vhdx_guid_bat, 16);
    put_le64(t + 32, BAT_OFF);
    put_le32(t + 40, bat_len);
    put_le32(t + 44, 1);
    memcpy(t + 48, vhdx_guid_meta, 16);
    put_le64(t + 64, META_OFF);
    put_le32(t + 72, META_LEN);
    put_le32(t + 76, 1);
    put_le32(t + 4, crc32c(0, t, VHDX_REGION_LEN));
    err = bfile_write(f, t, VHDX_REGION_LEN, VHDX_REGION_OFF1);
    if (!err)
        err = bfile_write(f, t, VHDX_REGION_LEN, VHDX_REGION_OFF2);
    free(t);
    return err;
}

int vhdx_create(struct bfile *f, const struct block_create_options *o, struct block *parent,
                struct diag *diag)
{
    uint32_t block = o->block_size         ? o->block_size
                     : parent              ? 2 * MIB
                     : o->size > 64 * MIB ? 32 * MIB
                                           : MIB;
    uint32_t physical = o->physical_sector_size ? o->physical_sector_size : 4096;
    struct vhdx v = { .log_len = LOG_LEN, .log_off = LOG_OFF };
    uint64_t npayload, ratio, nchunks, entries, bat_len, end;
    uint8_t id[4096] = "vhdxfile";
    struct locator loc = { .n = 0 };
    int err = 0;

    if ((block & (block - 1)) || block < MIB || block > 256 * MIB)
        return diag_set(diag, -EINVAL,
                        "%s: VHDX blocks have a power of two from 1M to 256M, not %s", f->path,
                        DIAG_SIZE(block));
    if (o->size > VHDX_SIZE_MAX)
        return diag_set(diag, -EFBIG, "%s: a VHDX disk has at most 64T", f->path);
    if (parent && (err = make_locator(&loc, f, parent, diag)) != 0)
        return err;
    npayload = div_up(o->size, block);
    ratio = (uint64_t)o->logical_sector_size * (1 << 23) / block;
    nchunks = div_up(npayload, ratio);
    entries = parent ? nchunks * (ratio + 1) : npayload + (npayload - 1) / ratio;
    bat_len = round_up(entries * 8, MIB);
    end = BAT_OFF + bat_len;
    if (o->type == BLOCK_TYPE_FIXED)
        end += npayload * block;
    err = f->ops->truncate(f, end);
    if (!err) { /* room for what must not fail later; all of a fixed image */
        err = f->ops->allocate(f, 0, o->type == BLOCK_TYPE_FIXED ? end : BAT_OFF + bat_len);
        if (err == -EOPNOTSUPP)
            err = 0;
    }
    if (!err)
        err = write_metadata(f, o, block, physical, &loc, parent != NULL);
    if (!err && o->type == BLOCK_TYPE_FIXED)
        err = write_fixed_bat(f, npayload, ratio, block, BAT_OFF + bat_len);
    if (!err)
        err = write_regions(f, (uint32_t)bat_len);
    block_random_id(v.file_guid);
    block_random_id(v.data_guid);
    if (!err)
        err = vhdx_write_headers(&v, f);
    /* the signature last: without it, it is no image */
    block_utf16("mobo", id + 8, 512, false);
    if (!err)
        err = bfile_write(f, id, sizeof(id), 0);
    if (!err)
        err = f->ops->sync(f);
    return err ? diag_set(diag, err, "%s: %s", f->path, strerror(-err)) : 0;
}
