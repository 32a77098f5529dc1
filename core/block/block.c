/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images: choosing the format, the chain of parents, checks of requests, copying. */
#include "core/block/block.h"

#include <errno.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block/block_int.h"

enum { CHAIN_MAX = 64, ZERO_BUFFER = 1 << 20 };

static const struct block_driver *const drivers[] = { &block_vhdx, &block_vhd, &block_raw };

static const char *const format_names[] = { "auto", "raw", "vhd", "vhdx" };
static const char *const type_names[] = { "fixed", "dynamic", "differencing" };

const char *block_format_name(enum block_format f)
{
    return format_names[f];
}

int block_format_parse(const char *name, enum block_format *ret)
{
    for (size_t i = 0; i < COUNT(format_names); i++) {
        if (strcmp(name, format_names[i]) == 0) {
            *ret = (enum block_format)i;
            return 0;
        }
    }
    return -EINVAL;
}

enum block_format block_format_of_name(const char *path)
{
    const char *dot = strrchr(path, '.');

    if (!dot || strchr(dot, '/'))
        return BLOCK_RAW;
    return strcasecmp(dot, ".vhdx") == 0 || strcasecmp(dot, ".avhdx") == 0 ? BLOCK_VHDX
           : strcasecmp(dot, ".vhd") == 0 || strcasecmp(dot, ".avhd") == 0 ? BLOCK_VHD
                                                                           : BLOCK_RAW;
}

static const struct block_driver *driver_of(enum block_format f)
{
    for (size_t i = 0; i < COUNT(drivers); i++)
        if (drivers[i]->format == f)
            return drivers[i];
    return NULL;
}

/* By content.  An image that lost its signature must not be taken for a raw disk, hence the name. */
static int probe(struct bfile *f, const struct block_driver **ret, struct diag *diag)
{
    enum block_format named = block_format_of_name(f->path);
    uint8_t head[8] = { 0 }, tail[8] = { 0 };
    uint64_t size;
    int err = f->ops->size(f, &size);

    if (!err && size >= 8)
        err = bfile_read(f, head, 8, 0);
    if (!err && size >= 512)
        err = bfile_read(f, tail, 8, size - 512);
    if (f->device) { /* what is on a device is the disk */
        *ret = &block_raw;
        return 0;
    }
    if (err)
        return diag_set(diag, err, "%s: %s", f->path, strerror(-err));
    if (memcmp(head, "vhdxfile", 8) == 0)
        *ret = &block_vhdx;
    else if (memcmp(head, "conectix", 8) == 0 || memcmp(tail, "conectix", 8) == 0)
        *ret = &block_vhd;
    else if (named == BLOCK_RAW)
        *ret = &block_raw;
    else
        return diag_set(diag, -EINVAL, "%s: has no %s signature (damaged, or another format)",
                        f->path, named == BLOCK_VHDX ? "VHDX" : "VHD");
    return 0;
}

static void free_block(struct block *b)
{
    for (size_t i = 0; b->parent_names && b->parent_names[i]; i++)
        free(b->parent_names[i]);
    free(b->parent_names);
    free(b->parent_path);
    free(b);
}

/* The file stays with the caller on failure. */
static int open_one(struct bfile *file, const struct block_options *opt, struct block_check *check,
                    struct block **ret, struct diag *diag)
{
    struct block *b = calloc(1, sizeof(*b));
    int err = 0;

    if (!b)
        return diag_set(diag, -ENOMEM, "%s: no memory", file->path);
    b->file = file;
    b->read_only = opt->read_only || file->read_only;
    b->logical = b->physical = 512;
    b->probed = opt->format == BLOCK_AUTO && !file->device;
    if (opt->format == BLOCK_AUTO)
        err = probe(file, &b->driver, diag);
    else
        b->driver = driver_of(opt->format);
    if (!err)
        err = b->driver->open(b, opt, check, diag);
    if (!err && !b->cyls)
        block_chs(b->size / 512, &b->cyls, &b->heads, &b->spt);
    if (err) {
        free_block(b);
        return err;
    }
    b->opened = true;
    *ret = b;
    return 0;
}

/* ---- parents ---------------------------------------------------------------------------------- */

static int open_chain(const char *path, const struct block_options *opt, struct block_check *check,
                      const struct block *child, unsigned depth, struct block **ret,
                      struct diag *diag);

static char *beside(const char *child, const char *name)
{
    char *copy, *out = NULL;

    if (name[0] == '/')
        return strdup(name);
    copy = strdup(child);
    if (copy && asprintf(&out, "%s/%s", dirname(copy), name) < 0)
        out = NULL;
    free(copy);
    return out;
}

static int find_parent(struct block *b, const struct block_options *opt, struct diag *diag)
{
    static char *const none[] = { NULL };
    char *const *names = b->parent_names ? b->parent_names : none;
    char *path;

    if (opt->parent) {
        free(b->parent_path);
        b->parent_path = strdup(opt->parent);
        return b->parent_path ? 0 : diag_set(diag, -ENOMEM, "no memory");
    }
    for (size_t i = 0; names[i]; i++) {
        path = beside(b->file->path, names[i]);
        if (!path)
            return diag_set(diag, -ENOMEM, "no memory");
        if (access(path, F_OK) == 0 || !names[i + 1]) {
            free(b->parent_path);
            b->parent_path = path;
            return 0;
        }
        free(path);
    }
    return diag_set(diag, -ENOENT, "%s: names no parent that can be found here", b->file->path);
}

static int open_parent(struct block *b, const struct block_options *opt, unsigned depth,
                       struct diag *diag)
{
    struct block_options popt = { .format = b->driver->format, .read_only = true,
                                  .direct = opt->direct, .no_lock = opt->no_lock };
    int err = find_parent(b, opt, diag);
    struct diag why = { "" };

    if (err)
        return opt->no_parent ? 0 : err;
    if (opt->no_parent)
        return 0;
    if (depth >= CHAIN_MAX)
        return diag_set(diag, -ELOOP, "%s: more than %d parents", b->file->path, CHAIN_MAX);
    err = open_chain(b->parent_path, &popt, NULL, b, depth + 1, &b->parent, &why);
    if (err)
        return diag_set(diag, err, "parent of %s: %s", b->file->path, why.text);
    if (b->parent->logical != b->logical)
        return diag_set(diag, -EINVAL, "%s: sectors of %u bytes, but its parent %s has %u",
                        b->file->path, b->logical, b->parent_path, b->parent->logical);
    return b->driver->check_parent ? b->driver->check_parent(b, b->parent, diag) : 0;
}

static int open_chain(const char *path, const struct block_options *opt, struct block_check *check,
                      const struct block *child, unsigned depth, struct block **ret,
                      struct diag *diag)
{
    struct bfile *f;
    struct block *b;
    int err;

    if (child && child->file->ino) {
        bool same;

        err = bfile_open(path, false, opt->read_only, opt->direct, false, &f, diag);
        if (err)
            return err;
        same = child->file->dev == f->dev && child->file->ino == f->ino;
        bfile_close(f);
        if (same)
            return diag_set(diag, -ELOOP, "%s: is its own parent", path);
    }
    err = bfile_open(path, false, opt->read_only, opt->direct, !opt->no_lock, &f, diag);
    if (err)
        return err;
    err = open_one(f, opt, check, &b, diag);
    if (err) {
        bfile_close(f);
        return err;
    }
    if (b->type == BLOCK_TYPE_DIFFERENCING && (err = open_parent(b, opt, depth, diag)) != 0) {
        block_close(b);
        return err;
    }
    *ret = b;
    return 0;
}

int block_open(const char *path, const struct block_options *opt, struct block **ret,
               struct diag *diag)
{
    static const struct block_options defaults;

    return open_chain(path, opt ? opt : &defaults, NULL, NULL, 0, ret, diag);
}

int block_open_file(struct bfile *file, const struct block_options *opt, struct block **ret,
                    struct diag *diag)
{
    static const struct block_options defaults;
    struct block *b;
    int err = open_one(file, opt ? opt : &defaults, NULL, &b, diag);

    if (err)
        return err;
    if (b->type == BLOCK_TYPE_DIFFERENCING &&
        (err = open_parent(b, opt ? opt : &defaults, 0, diag)) != 0) {
        b->driver->close(b); /* nothing was written: the file stays as it is */
        if (b->file != file)
            overlay_detach(b->file);
        block_close(b->parent);
        free_block(b);
        return err;
    }
    *ret = b;
    return 0;
}

int block_close(struct block *b)
{
    int err;

    if (!b)
        return 0;
    err = b->driver->close(b);
    bfile_close(b->file);
    block_close(b->parent);
    free_block(b);
    return err;
}

/* ---- creation ----------------------------------------------------------------------------------- */

int block_create_file(struct bfile *file, const struct block_create_options *opt,
                      struct block *parent, struct diag *diag)
{
    struct block_create_options o = *opt;
    const struct block_driver *d;
    uint64_t unit;

    if (o.format == BLOCK_AUTO)
        o.format = block_format_of_name(file->path);
    d = driver_of(o.format);
    if (o.type == BLOCK_TYPE_DIFFERENCING && !parent)
        return diag_set(diag, -EINVAL, "%s: a differencing image needs a parent", file->path);
    if (parent && o.type != BLOCK_TYPE_DIFFERENCING)
        return diag_set(diag, -EINVAL, "%s: only a differencing image has a parent", file->path);
    if (parent && o.logical_sector_size && o.logical_sector_size != parent->logical)
        return diag_set(diag, -EINVAL, "%s: the sector size is the parent's, %u bytes", file->path,
                        parent->logical);
    if (parent) {
        o.logical_sector_size = parent->logical;
        if (!o.physical_sector_size)
            o.physical_sector_size = parent->physical;
        if (!o.size)
            o.size = parent->size;
        if (o.size < parent->size)
            return diag_set(diag, -EINVAL, "%s: smaller than its parent", file->path);
    }
    if (!o.logical_sector_size)
        o.logical_sector_size = 512;
    if (o.logical_sector_size != 512 && o.logical_sector_size != 4096)
        return diag_set(diag, -EINVAL, "%s: sectors have 512 or 4096 bytes, not %u", file->path,
                        o.logical_sector_size);
    if (o.physical_sector_size && o.physical_sector_size != 512 && o.physical_sector_size != 4096)
        return diag_set(diag, -EINVAL, "%s: physical sectors have 512 or 4096 bytes, not %u",
                        file->path, o.physical_sector_size);
    if (!o.size)
        return diag_set(diag, -EINVAL, "%s: a disk of no size", file->path);
    unit = o.logical_sector_size;
    if (o.size % unit)
        return diag_set(diag, -EINVAL, "%s: the size is not a multiple of the sector size, %u",
                        file->path, o.logical_sector_size);
    return d->create(file, &o, parent, diag);
}

int block_create(const char *path, const struct block_create_options *opt, struct diag *diag)
{
    struct block_options popt = { .read_only = true };
    struct block_create_options o = *opt;
    struct block *parent = NULL;
    struct bfile *f;
    int err;

    if (o.format == BLOCK_AUTO)
        o.format = block_format_of_name(path);
    if (o.parent) {
        popt.format = o.format;
        err = block_open(o.parent, &popt, &parent, diag);
        if (err)
            return err;
    }
    err = bfile_open(path, true, false, false, true, &f, diag);
    if (!err) {
        err = block_create_file(f, &o, parent, diag);
        if (!err && (err = f->ops->sync(f)) != 0)
            diag_set(diag, err, "%s: %s", path, strerror(-err));
        bfile_close(f);
        if (err)
            unlink(path);
    }
    block_close(parent);
    return err;
}

/* ---- requests ------------------------------------------------------------------------------------- */

static int check_request(const struct block *b, uint64_t off, uint64_t len)
{
    if ((off | len) & (b->logical - 1))
        return -EINVAL;
    return len <= b->size && off <= b->size - len ? 0 : -ENXIO;
}

static int check_write(struct block *b, uint64_t off, uint64_t len)
{
    int err = check_request(b, off, len);

    if (err)
        return err;
    return b->read_only ? -EROFS : atomic_load(&b->failed);
}

int block_readv(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    uint64_t len = iov_bytes(iov, niov);
    int err = check_request(b, off, len);

    return err || !len ? err : b->driver->readv(b, off, iov, niov);
}

int block_writev(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    uint64_t len = iov_bytes(iov, niov);
    int err = check_write(b, off, len);

    return err || !len ? err : b->driver->writev(b, off, iov, niov);
}

int block_read(struct block *b, uint64_t off, void *buf, size_t len)
{
    struct iovec v = { buf, len };

    return block_readv(b, off, &v, 1);
}

int block_write(struct block *b, uint64_t off, const void *buf, size_t len)
{
    struct iovec v = { (void *)(uintptr_t)buf, len };

    return block_writev(b, off, &v, 1);
}

int block_flush(struct block *b)
{
    int err = atomic_load(&b->failed);

    return err || b->read_only ? err : b->driver->flush(b);
}

int block_discard(struct block *b, uint64_t off, uint64_t len)
{
    int err = check_write(b, off, len);

    return err || !len ? err : b->driver->discard(b, off, len);
}

int block_write_zeroes(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
    int err = check_write(b, off, len);

    return err || !len ? err : b->driver->write_zeroes(b, off, len, unmap);
}

int block_readv_nowait(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    uint64_t len = iov_bytes(iov, niov);

    if (!b->driver->readv_nowait || !len || check_request(b, off, len))
        return -EAGAIN;
    return b->driver->readv_nowait(b, off, iov, niov);
}

int block_submit(struct block *b, struct block_request *r)
{
    uint64_t len = r->op == BLOCK_OP_READ || r->op == BLOCK_OP_WRITE ? iov_bytes(r->iov, r->niov)
                                                                     : r->len;
    int err;

    if (!b->driver->submit)
        return -EAGAIN;
    if (r->op == BLOCK_OP_FLUSH)
        err = atomic_load(&b->failed);
    else if (r->op == BLOCK_OP_READ)
        err = check_request(b, r->off, len);
    else
        err = check_write(b, r->off, len);
    return err ? err : b->driver->submit(b, r);
}

void block_hurry(struct block *b, bool on)
{
    for (; b; b = b->parent)
        if (b->file->ops->hurry)
            b->file->ops->hurry(b->file, on);
}

int block_map(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags, uint64_t *ret_len)
{
    int err = check_request(b, off, len);

    if (err || !len)
        return err ? err : -EINVAL;
    return b->driver->map(b, off, len, ret_flags, ret_len);
}

int block_allocated_ranges(struct block *b, uint64_t off, uint64_t len, struct block_range *ranges,
                           size_t max, size_t *ret_count, uint64_t *ret_next)
{
    uint64_t end = off + len;
    size_t n = 0;
    int err = check_request(b, off, len);

    while (!err && off < end) {
        unsigned flags;
        uint64_t run;
        err = block_map(b, off, end - off, &flags, &run);
        if (err)
            return err;
        if (flags & BLOCK_MAP_DATA) {
            if (n && ranges[n - 1].off + ranges[n - 1].len == off)
                ranges[n - 1].len += run;
            else if (n == max)
                break;
            else
                ranges[n++] = (struct block_range){ off, run };
        }
        off += run;
    }
    if (err)
        return err;
    *ret_count = n;
    *ret_next = off;
    return 0;
}

uint64_t block_size(const struct block *b)
{
    return b->size;
}

uint32_t block_sector_size(const struct block *b)
{
    return b->logical;
}

bool block_read_only(const struct block *b)
{
    return b->read_only;
}

void block_get_info(struct block *b, struct block_info *ret)
{
    *ret = (struct block_info){
        .format = b->driver->name, .type = type_names[b->type], .size = b->size,
        .logical_sector_size = b->logical, .physical_sector_size = b->physical,
        .block_size = b->block_size, .cylinders = b->cyls, .heads = b->heads, .sectors = b->spt,
        .read_only = b->read_only, .direct = b->file->direct, .device = b->file->device,
        .log_pending = b->log_pending, .host_bytes = bfile_host_bytes(b->file),
        .parent = b->parent_path,
    };
    memcpy(ret->disk_id, b->disk_id, 16);
    b->file->ops->size(b->file, &ret->file_size);
    if (b->driver->info)
        b->driver->info(b, ret);
}

/* ---- for the formats ------------------------------------------------------------------------------- */

int block_sync(struct block *b)
{
    int err = b->file->ops->sync(b->file);

    if (err == -ENOTCONN)
        return err; /* nothing is known to be lost, and it can be tried again */
    /* the kernel drops what it could not write and says so once: there is no second try */
    if (err) {
        atomic_store(&b->failed, -EIO);
        return -EIO;
    }
    return 0;
}

int block_read_parent(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    struct iov_cursor c = { iov, niov, 0 };
    uint64_t len = iov_bytes(iov, niov), here = 0;
    struct iovec v[IOV_SLICE];
    int nv;

    if (b->type == BLOCK_TYPE_DIFFERENCING && !b->parent)
        return -ENXIO; /* opened without its parent */
    if (b->parent && off < b->parent->size)
        here = len < b->parent->size - off ? len : b->parent->size - off;
    iov_fill(iov, niov, here, 0);
    while (here) {
        size_t n = iov_take(&c, here, v, &nv);
        int err = b->parent->driver->readv(b->parent, off, v, nv);
        if (err)
            return err;
        off += n;
        here -= n;
    }
    return 0;
}

int block_map_parent(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags,
                     uint64_t *ret_len)
{
    int err;

    *ret_flags = 0;
    *ret_len = len;
    if (!b->parent || off >= b->parent->size)
        return 0;
    if (len > b->parent->size - off)
        len = b->parent->size - off;
    err = b->parent->driver->map(b->parent, off, len, ret_flags, ret_len);
    *ret_flags &= ~(unsigned)BLOCK_MAP_OWN;
    return err;
}

int block_map_file(struct block *b, uint64_t file_off, uint64_t len, unsigned *ret_flags,
                   uint64_t *ret_len)
{
    bool data = true;
    int err = b->file->ops->extent(b->file, file_off, len, &data, ret_len);

    if (err)
        return err;
    /* whole sectors; one that is partly data is data */
    if (*ret_len < len) {
        if (data)
            *ret_len = round_up(*ret_len, b->logical);
        else if (*ret_len < b->logical)
            *ret_len = b->logical, data = true;
        else
            *ret_len -= *ret_len % b->logical;
        if (*ret_len > len)
            *ret_len = len;
    }
    *ret_flags = BLOCK_MAP_OWN | (data ? BLOCK_MAP_DATA : 0);
    return 0;
}

int block_write_zero_buffers(struct block *b, uint64_t off, uint64_t len)
{
    size_t room = len < ZERO_BUFFER ? (size_t)len : ZERO_BUFFER;
    void *zeroes = calloc(1, room);
    int err = zeroes ? 0 : -ENOMEM;

    while (!err && len) {
        struct iovec v = { zeroes, len < room ? (size_t)len : room };
        err = b->driver->writev(b, off, &v, 1);
        off += v.iov_len;
        len -= v.iov_len;
    }
    free(zeroes);
    return err;
}

/* ---- checking --------------------------------------------------------------------------------------- */

static int check_one(struct block *b, struct block_check *check, struct diag *diag)
{
    check->log_pending = b->log_pending;
    return b->driver->check ? b->driver->check(b, check, diag) : 0;
}

static void check_reset(struct block_check *c)
{
    c->errors = c->fixed = 0;
    c->leaked = c->blocks = c->blocks_allocated = 0;
    c->log_pending = false;
}

int block_check(const char *path, const struct block_options *opt, struct block_check *check,
                struct diag *diag)
{
    struct block_options o = opt ? *opt : (struct block_options){ 0 };
    struct bfile *f;
    int err;

    o.read_only = !check->repair;
    err = bfile_open(path, false, o.read_only, false, !o.no_lock, &f, diag);
    if (err)
        return err;
    err = block_check_file(f, &o, check, diag);
    bfile_close(f);
    return err;
}

int block_check_file(struct bfile *file, const struct block_options *opt, struct block_check *check,
                     struct diag *diag)
{
    struct block_options o = opt ? *opt : (struct block_options){ 0 };
    struct block *b;
    int err, close_err;

    o.no_parent = true;
    o.read_only = !check->repair;
    check_reset(check);
    err = open_one(file, &o, check, &b, diag);
    if (err)
        return err;
    err = check_one(b, check, diag);
    close_err = b->driver->close(b);
    if (b->file != file) /* seen through its log */
        overlay_detach(b->file);
    if (!err && close_err)
        err = diag_set(diag, close_err, "%s: %s", file->path, strerror(-close_err));
    free_block(b);
    return err;
}

/* ---- copying ------------------------------------------------------------------------------------------ */

static bool all_zero(const uint8_t *p, size_t n)
{
    return n == 0 || (p[0] == 0 && memcmp(p, p + 1, n - 1) == 0);
}

/* Write @len bytes to a new image, but not the 4 KiB pieces (or @unit ones) that are zero. */
static int write_sparse(struct block *to, uint64_t off, const uint8_t *buf, size_t len)
{
    const size_t unit = 4096;

    for (size_t i = 0; i < len;) {
        size_t n = len - i < unit ? len - i : unit, run;
        if (all_zero(buf + i, n)) {
            i += n;
            continue;
        }
        for (run = n; i + run < len; run += n) {
            n = len - i - run < unit ? len - i - run : unit;
            if (all_zero(buf + i + run, n))
                break;
        }
        int err = block_write(to, off + i, buf + i, run);
        if (err)
            return err;
        i += run;
    }
    return 0;
}

int block_copy(struct block *from, struct block *to,
               int (*progress)(void *ctx, uint64_t done, uint64_t total), void *ctx,
               struct diag *diag)
{
    /* What the host caches of a file is in pieces as large as the writes that made them, and ext4 looks at each block of
     * a piece for every small write to it later. */
    const size_t chunk = 256 << 10;
    uint8_t *buf = NULL;
    uint64_t off = 0, run;
    unsigned flags;
    int err = 0;

    if (from->size > to->size)
        return diag_set(diag, -EINVAL, "%s: too small for %s", to->file->path, from->file->path);
    if (posix_memalign((void **)&buf, 4096, chunk))
        return diag_set(diag, -ENOMEM, "no memory");
    while (off < from->size) {
        if (progress && progress(ctx, off, from->size)) {
            err = diag_set(diag, -ECANCELED, "interrupted");
            break;
        }
        err = block_map(from, off, from->size - off, &flags, &run);
        if (!err && (flags & BLOCK_MAP_DATA)) {
            run = run < chunk ? run : chunk;
            err = block_read(from, off, buf, (size_t)run);
        }
        if (err) {
            diag_set(diag, err, "%s: reading at %llu: %s", from->file->path,
                     (unsigned long long)off, strerror(-err));
            break;
        }
        if (flags & BLOCK_MAP_DATA) {
            /* sectors of the target may be larger than those of the source */
            uint64_t tail = run % to->logical;
            if (tail && off + run < to->size) {
                if (run > tail)
                    run -= tail;
                else { /* shorter than a sector there: complete it */
                    uint64_t more = to->logical - tail, have = from->size - off - run;
                    if (more > have)
                        memset(buf + run + have, 0, more - have), more = have;
                    err = more ? block_read(from, off + run, buf + run, (size_t)more) : 0;
                    run = to->logical;
                }
            }
            err = err ? err : write_sparse(to, off, buf, (size_t)run);
        } else if (run % to->logical) {
            if (run > to->logical) {
                run -= run % to->logical;
            } else { /* a hole shorter than a sector there */
                uint64_t have = from->size - off;
                memset(buf, 0, to->logical);
                err = block_read(from, off, buf,
                                 (size_t)(have < to->logical ? have : to->logical));
                run = to->logical;
                err = err ? err : write_sparse(to, off, buf, (size_t)run);
            }
        }
        if (err) {
            diag_set(diag, err, "%s: writing at %llu: %s", to->file->path,
                     (unsigned long long)off, strerror(-err));
            break;
        }
        off += run;
    }
    free(buf);
    if (!err && (err = block_flush(to)) != 0)
        diag_set(diag, err, "%s: %s", to->file->path, strerror(-err));
    if (!err && progress)
        progress(ctx, from->size, from->size);
    return err;
}
