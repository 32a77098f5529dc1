/* SPDX-License-Identifier: BSD-2-Clause */
/* Raw images: a file or a block device is the disk. */
#include <errno.h>
#include <stdlib.h>

#include "core/block/block_int.h"

enum { SIGNATURE = 8, MARKS = 3 };

struct raw {
    uint64_t mark[MARKS]; /* where the signature of another format would be looked for */
    int nmark;
    bool punches; /* the host makes holes in the file */
};

static int raw_open(struct block *b, const struct block_options *opt, struct block_check *check,
                    struct diag *diag)
{
    struct raw *raw;
    uint64_t size;
    int err = b->file->ops->size(b->file, &size);

    (void)opt;
    if (err)
        return diag_set(diag, err, "%s: %s", b->file->path, strerror(-err));
    if (check)
        return diag_set(diag, -ENOTSUP, "%s: a raw image has nothing to check", b->file->path);
    if (!size)
        return diag_set(diag, -EINVAL, "%s: is empty", b->file->path);
    raw = b->state = calloc(1, sizeof(*raw));
    if (!raw)
        return diag_set(diag, -ENOMEM, "%s: no memory", b->file->path);
    if (b->file->logical) {
        b->logical = b->file->logical;
        b->physical = b->file->physical;
    }
    /* the last sector of a file may be short: its end reads as zeroes */
    b->size = round_up(size, b->logical);
    b->type = BLOCK_TYPE_FIXED;
    if (b->probed) {
        raw->mark[raw->nmark++] = 0;
        raw->mark[raw->nmark++] = b->size - 512;
        if (size >= 512 && size != b->size) /* until the last sector is written */
            raw->mark[raw->nmark++] = size - 512;
    }
    /* behind the end there is nothing that a hole would take away */
    raw->punches = !b->read_only && !b->file->device &&
                   b->file->ops->zero(b->file, round_up(size, MIB), MIB, true) == 0;
    return 0;
}

static int raw_close(struct block *b)
{
    struct raw *raw = (struct raw *)b->state;
    int err = !raw || b->read_only || atomic_load(&b->failed) ? 0 : block_sync(b);

    free(raw);
    b->state = NULL;
    return err;
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

/* The same vector with the SIGNATURE bytes at @at, which it has, copied to @sig and taken from there.
 * @return owned by the caller; NULL: no memory. */
static struct iovec *hold(const struct iovec *iov, int niov, uint64_t at, uint8_t *sig, int *ret)
{
    struct iovec *v = calloc((size_t)niov + 2, sizeof(*v));
    uint64_t pos = 0;
    int n = 0;

    for (int i = 0; v && i < niov; pos += iov[i++].iov_len) {
        uint8_t *p = (uint8_t *)iov[i].iov_base;
        uint64_t len = iov[i].iov_len;
        uint64_t from = at <= pos ? 0 : at - pos < len ? at - pos : len;
        uint64_t to = at + SIGNATURE <= pos         ? 0
                      : at + SIGNATURE - pos < len ? at + SIGNATURE - pos
                                                   : len;

        if (from)
            v[n++] = (struct iovec){ p, from };
        if (from < to) {
            if (pos + from == at)
                v[n++] = (struct iovec){ sig, SIGNATURE };
            memcpy(sig + (pos + from - at), p + from, to - from);
        }
        if (to < len)
            v[n++] = (struct iovec){ p + to, len - to };
    }
    *ret = n;
    return v;
}

/* A guest must not turn its disk into an image of another format for the next start.  Its memory may change at any
 * time: what is written is what was looked at. */
static int raw_writev(struct block *b, uint64_t off, const struct iovec *iov, int niov)
{
    const struct raw *raw = (const struct raw *)b->state;
    uint64_t len = iov_bytes(iov, niov);
    uint8_t sig[MARKS][SIGNATURE];
    struct iovec *held = NULL;
    int err = 0;

    for (int i = 0; !err && i < raw->nmark; i++) {
        struct iovec *v;

        if (raw->mark[i] < off || len < SIGNATURE || raw->mark[i] - off > len - SIGNATURE)
            continue;
        v = hold(held ? held : iov, niov, raw->mark[i] - off, sig[i], &niov);
        free(held);
        held = v;
        if (!v)
            err = -ENOMEM;
        else if (memcmp(sig[i], "conectix", SIGNATURE) == 0 || memcmp(sig[i], "vhdxfile", SIGNATURE) == 0)
            err = -EPERM;
    }
    if (!err)
        err = b->file->ops->writev(b->file, held ? held : iov, niov, off);
    free(held);
    return err;
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

static void raw_info(struct block *b, struct block_info *ret)
{
    ret->discard_zeroes = ((const struct raw *)b->state)->punches;
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
    .readv_nowait = raw_readv_nowait, .info = raw_info,
};
