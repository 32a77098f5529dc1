/* SPDX-License-Identifier: BSD-2-Clause */
/* Raw images: a file or a block device is the disk. */
#include <errno.h>
#include <stdlib.h>

#include "core/block/block_int.h"

static int raw_open(struct block *b, const struct block_options *opt, struct block_check *check,
                    struct diag *diag)
{
    uint64_t size;
    int err = b->file->ops->size(b->file, &size);

    (void)opt;
    if (err)
        return diag_set(diag, err, "%s: %s", b->file->path, strerror(-err));
    if (check)
        return diag_set(diag, -ENOTSUP, "%s: a raw image has nothing to check", b->file->path);
    if (!size)
        return diag_set(diag, -EINVAL, "%s: is empty", b->file->path);
    if (b->file->logical) {
        b->logical = b->file->logical;
        b->physical = b->file->physical;
    }
    /* the last sector of a file may be short: its end reads as zeroes */
    b->size = round_up(size, b->logical);
    b->type = BLOCK_TYPE_FIXED;
    return 0;
}

static int raw_close(struct block *b)
{
    return b->read_only || atomic_load(&b->failed) ? 0 : block_sync(b);
}

static int raw_readv(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    ssize_t n = b->file->ops->readv(b->file, iov, niov, off);

    if (n < 0)
        return (int)n;
    iov_fill(iov, niov, (size_t)n, 0);
    return 0;
}

static int raw_readv_nowait(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    return b->file->ops->readv_nowait ? b->file->ops->readv_nowait(b->file, iov, niov, off)
                                      : -EAGAIN;
}

/* A guest must not turn its disk into an image of another format for the next start. */
static bool forges(const struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    uint64_t len = iov_bytes(iov, niov), at[2] = { 0, b->size - 512 };

    for (int i = 0; b->probed && i < 2; i++) {
        struct iov_cursor c = { iov, niov, 0 };
        struct iovec v[IOV_SLICE];
        uint8_t sig[8];
        size_t got = 0;
        if (at[i] < off || at[i] - off >= len)
            continue;
        for (uint64_t skip = at[i] - off; skip;) {
            int nv;
            skip -= iov_take(&c, skip, v, &nv);
        }
        while (got < sizeof(sig)) { /* an element may have a single byte */
            int nv;
            size_t n = iov_take(&c, 1, v, &nv);
            if (!n)
                break;
            memcpy(sig + got, v[0].iov_base, n);
            got += n;
        }
        if (got == 8 && (memcmp(sig, "conectix", 8) == 0 || memcmp(sig, "vhdxfile", 8) == 0))
            return true;
    }
    return false;
}

static int raw_writev(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    if (forges(b, off, iov, niov))
        return -EPERM;
    return b->file->ops->writev(b->file, iov, niov, off);
}

static int raw_write_zeroes(struct block *b, uint64_t off, uint64_t len, bool unmap)
{
    return bfile_zero(b->file, off, len, unmap);
}

static int raw_discard(struct block *b, uint64_t off, uint64_t len)
{
    int err = b->file->ops->zero(b->file, off, len, true);

    return err == -EOPNOTSUPP ? 0 : err;
}

static int raw_map(struct block *b, uint64_t off, uint64_t len, unsigned *ret_flags,
                   uint64_t *ret_len)
{
    return block_map_file(b, off, len, ret_flags, ret_len);
}

static int raw_submit(struct block *b, struct block_request *r)
{
    /* what is beyond a short last sector, or could forge a signature, is not for this way */
    return b->file->ops->submit && b->file->device ? b->file->ops->submit(b->file, r) : -EAGAIN;
}

static int raw_create(struct bfile *f, const struct block_create_options *opt, struct block *parent,
                      struct diag *diag)
{
    int err;

    (void)parent;
    if (opt->type == BLOCK_TYPE_DIFFERENCING)
        return diag_set(diag, -EINVAL, "%s: a raw image has no parent", f->path);
    if (opt->block_size)
        return diag_set(diag, -EINVAL, "%s: a raw image has no blocks", f->path);
    if (opt->logical_sector_size != 512)
        return diag_set(diag, -EINVAL, "%s: a raw file has sectors of 512 bytes", f->path);
    err = f->ops->truncate(f, opt->size);
    if (!err && opt->type == BLOCK_TYPE_FIXED) {
        err = f->ops->allocate(f, 0, opt->size);
        if (err == -EOPNOTSUPP)
            err = 0;
    }
    return err ? diag_set(diag, err, "%s: %s", f->path, strerror(-err)) : 0;
}

const struct block_driver block_raw = {
    .name = "raw", .format = BLOCK_RAW, .open = raw_open, .close = raw_close, .readv = raw_readv,
    .writev = raw_writev, .flush = block_sync, .discard = raw_discard,
    .write_zeroes = raw_write_zeroes, .map = raw_map, .create = raw_create, .submit = raw_submit,
    .readv_nowait = raw_readv_nowait,
};
