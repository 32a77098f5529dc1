/* SPDX-License-Identifier: BSD-2-Clause */
/* The file below an image, on a POSIX file or a Linux block device; and a file seen through changes
 * that are not in it yet. */
#include "core/block/file.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/block/nbd.h"

struct posix_file {
    struct bfile f;
    int fd;        /* through the page cache */
    int direct_fd; /* -1: none */
    uint32_t align;
};

/* ---- vectors ---------------------------------------------------------------------------------- */

uint64_t iov_bytes(const struct iovec *iov, int niov)
{
    uint64_t n = 0;

    for (int i = 0; i < niov; i++)
        n += iov[i].iov_len;
    return n;
}

size_t iov_take(struct iov_cursor *c, uint64_t len, struct iovec *out, int *ret_n)
{
    size_t got = 0;
    int n = 0;

    while (c->niov && got < len && n < IOV_SLICE) {
        size_t have = c->iov->iov_len - c->skip;
        size_t use = have < len - got ? have : (size_t)(len - got);
        if (use) {
            out[n].iov_base = (uint8_t *)c->iov->iov_base + c->skip;
            out[n++].iov_len = use;
            got += use;
        }
        c->skip += use;
        if (c->skip == c->iov->iov_len) {
            c->iov++;
            c->niov--;
            c->skip = 0;
        }
    }
    *ret_n = n;
    return got;
}

void iov_fill(const struct iovec *iov, int niov, size_t from, int byte)
{
    for (int i = 0; i < niov; i++) {
        if (from >= iov[i].iov_len) {
            from -= iov[i].iov_len;
            continue;
        }
        memset((uint8_t *)iov[i].iov_base + from, byte, iov[i].iov_len - from);
        from = 0;
    }
}

/* ---- POSIX ------------------------------------------------------------------------------------ */

static int pick_fd(const struct posix_file *p, const struct iovec *iov, int niov, uint64_t off)
{
    if (p->direct_fd < 0 || off % p->align)
        return p->fd;
    for (int i = 0; i < niov; i++)
        if (((uintptr_t)iov[i].iov_base | iov[i].iov_len) % p->align)
            return p->fd;
    return p->direct_fd;
}

/* A host call that moved @n bytes: the vector without them.  @v has room for IOV_SLICE. */
static int advance(struct iovec *v, int nv, size_t n)
{
    int skip = 0;

    while (skip < nv && n >= v[skip].iov_len)
        n -= v[skip++].iov_len;
    memmove(v, v + skip, (size_t)(nv - skip) * sizeof(*v));
    if (skip < nv) {
        v[0].iov_base = (uint8_t *)v[0].iov_base + n;
        v[0].iov_len -= n;
    }
    return nv - skip;
}

static ssize_t transfer(struct posix_file *p, const struct iovec *iov, int niov, uint64_t off,
                        bool write)
{
    struct iov_cursor c = { iov, niov, 0 };
    int fd = pick_fd(p, iov, niov, off);
    struct iovec v[IOV_SLICE];
    ssize_t total = 0;
    int nv;

    if (off > INT64_MAX || iov_bytes(iov, niov) > INT64_MAX - off)
        return -EFBIG;
    while (iov_take(&c, SSIZE_MAX, v, &nv)) {
        while (nv) {
            ssize_t n = write ? pwritev(fd, v, nv, (off_t)off) : preadv(fd, v, nv, (off_t)off);
            if (n < 0 && errno == EINTR)
                continue;
            if (n < 0 && errno == EINVAL && fd != p->fd) { /* the file system changed its mind */
                fd = p->fd;
                continue;
            }
            if (n < 0)
                return errno == EDQUOT ? -ENOSPC : -errno;
            if (n == 0)
                return write ? -ENOSPC : total;
            total += n;
            off += (uint64_t)n;
            nv = advance(v, nv, (size_t)n);
            /* a short direct transfer leaves what may not be aligned any more */
            if (nv && fd != p->fd)
                fd = pick_fd(p, v, nv, off);
        }
    }
    return total;
}

static ssize_t posix_readv(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    return transfer((struct posix_file *)f, iov, niov, off, false);
}

static int posix_writev(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    ssize_t n = transfer((struct posix_file *)f, iov, niov, off, true);

    return n < 0 ? (int)n : 0;
}

/* What the page cache has. */
static int posix_readv_nowait(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    struct posix_file *p = (struct posix_file *)f;

    if (niov > IOV_MAX || off > INT64_MAX || pick_fd(p, iov, niov, off) != p->fd)
        return -EAGAIN;
    return preadv2(p->fd, iov, niov, (off_t)off, RWF_NOWAIT) == (ssize_t)iov_bytes(iov, niov)
               ? 0
               : -EAGAIN;
}

static int posix_sync(struct bfile *f)
{
    struct posix_file *p = (struct posix_file *)f;

    while (fdatasync(p->fd) < 0)
        if (errno != EINTR)
            return -errno;
    return 0;
}

static int posix_truncate(struct bfile *f, uint64_t size)
{
    struct posix_file *p = (struct posix_file *)f;

    if (size > INT64_MAX)
        return -EFBIG;
    while (ftruncate(p->fd, (off_t)size) < 0)
        if (errno != EINTR)
            return errno == EDQUOT ? -ENOSPC : -errno;
    return 0;
}

static int posix_size(struct bfile *f, uint64_t *ret)
{
    struct posix_file *p = (struct posix_file *)f;
    struct stat st;
    uint64_t n;

    if (f->device) {
        if (ioctl(p->fd, BLKGETSIZE64, &n) < 0)
            return -errno;
        *ret = n;
        return 0;
    }
    if (fstat(p->fd, &st) < 0)
        return -errno;
    *ret = (uint64_t)st.st_size;
    return 0;
}

static int posix_zero(struct bfile *f, uint64_t off, uint64_t len, bool punch)
{
    struct posix_file *p = (struct posix_file *)f;
    int mode = punch ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;

    if (off > INT64_MAX || len > INT64_MAX - off)
        return -EFBIG;
    while (fallocate(p->fd, mode | FALLOC_FL_KEEP_SIZE, (off_t)off, (off_t)len) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == EOPNOTSUPP || errno == ENOSYS || errno == EINVAL || errno == ENODEV)
            return -EOPNOTSUPP;
        return errno == EDQUOT ? -ENOSPC : -errno;
    }
    return 0;
}

static int posix_allocate(struct bfile *f, uint64_t off, uint64_t len)
{
    struct posix_file *p = (struct posix_file *)f;

    if (off > INT64_MAX || len > INT64_MAX - off)
        return -EFBIG;
    while (fallocate(p->fd, 0, (off_t)off, (off_t)len) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == EOPNOTSUPP || errno == ENOSYS || errno == ENODEV)
            return -EOPNOTSUPP;
        return errno == EDQUOT ? -ENOSPC : -errno;
    }
    return 0;
}

static int posix_extent(struct bfile *f, uint64_t off, uint64_t len, bool *ret_data,
                        uint64_t *ret_len)
{
    struct posix_file *p = (struct posix_file *)f;
    off_t data, hole;

    *ret_data = true;
    *ret_len = len;
    if (f->device)
        return 0;
    data = lseek(p->fd, (off_t)off, SEEK_DATA);
    if (data < 0) {
        *ret_data = errno != ENXIO; /* ENXIO: no data behind; else: cannot tell */
        return 0;
    }
    if ((uint64_t)data > off) {
        *ret_data = false;
        if ((uint64_t)data - off < len)
            *ret_len = (uint64_t)data - off;
        return 0;
    }
    hole = lseek(p->fd, (off_t)off, SEEK_HOLE);
    if (hole > 0 && (uint64_t)hole > off && (uint64_t)hole - off < len)
        *ret_len = (uint64_t)hole - off;
    return 0;
}

static void posix_close(struct bfile *f)
{
    struct posix_file *p = (struct posix_file *)f;

    if (p->direct_fd >= 0)
        close(p->direct_fd);
    if (p->fd >= 0)
        close(p->fd);
    free(f->path);
    free(p);
}

static const struct bfile_ops posix_ops = {
    posix_readv, posix_writev,   posix_sync,   posix_truncate, posix_size,
    posix_zero,  posix_allocate, posix_extent, posix_close,    NULL, posix_readv_nowait, NULL,
};

/* One writer or many readers, of ours and of others that take such locks. */
static int claim(int fd, bool read_only)
{
    struct flock l = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

    if (fcntl(fd, F_OFD_SETLK, &l) == 0)
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : 0; /* else: a host without locks */
}

static void open_direct(struct posix_file *p, const char *path, bool read_only)
{
    int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_DIRECT | O_CLOEXEC);
    struct stat st;

    p->align = p->f.logical > 512 ? p->f.logical : 4096;
    if (fd >= 0 && (fstat(fd, &st) < 0 || st.st_dev != p->f.dev || st.st_ino != p->f.ino)) {
        close(fd); /* another file took the name */
        fd = -1;
    }
    p->direct_fd = fd;
    p->f.direct = fd >= 0;
}

int bfile_open(const char *path, bool create, bool read_only, bool direct, bool lock,
               struct bfile **ret, struct diag *diag)
{
    int flags = (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK;
    struct posix_file *p;
    unsigned physical = 0;
    struct stat st;
    int err, logical = 0;

    if (block_is_uri(path))
        return create ? diag_set(diag, -EEXIST, "%s: exports are made by their server", path)
                      : bfile_open_nbd(path, read_only, ret, diag);
    p = calloc(1, sizeof(*p));
    if (!p || !(p->f.path = strdup(path))) {
        free(p);
        return diag_set(diag, -ENOMEM, "%s: no memory", path);
    }
    p->direct_fd = -1;
    p->f.ops = &posix_ops;
    p->f.read_only = read_only;
    p->fd = open(path, create ? flags | O_CREAT | O_EXCL : flags, 0666);
    if (p->fd < 0 || fstat(p->fd, &st) < 0) {
        err = diag_set(diag, -errno, "%s: %s", path, strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
        err = diag_set(diag, -EINVAL, "%s: neither a file nor a block device", path);
        goto fail;
    }
    fcntl(p->fd, F_SETFL, fcntl(p->fd, F_GETFL) & ~O_NONBLOCK);
    p->f.dev = st.st_dev;
    p->f.ino = st.st_ino;
    p->f.device = S_ISBLK(st.st_mode);
    if (p->f.device) {
        p->f.logical = ioctl(p->fd, BLKSSZGET, &logical) == 0 ? (uint32_t)logical : 512;
        p->f.physical = ioctl(p->fd, BLKPBSZGET, &physical) == 0 ? physical : p->f.logical;
    }
    if (lock && claim(p->fd, read_only) < 0) {
        err = diag_set(diag, -EBUSY, "%s: in use by another process", path);
        goto fail;
    }
    if (direct)
        open_direct(p, path, read_only);
    *ret = &p->f;
    return 0;
fail:
    posix_close(&p->f);
    return err;
}

void bfile_close(struct bfile *f)
{
    if (f)
        f->ops->close(f);
}

uint64_t bfile_host_bytes(struct bfile *f)
{
    uint64_t n = 0;
    struct stat st;

    if (f->ops == &posix_ops && !f->device && fstat(((struct posix_file *)f)->fd, &st) == 0)
        return (uint64_t)st.st_blocks * 512;
    f->ops->size(f, &n);
    return n;
}

int bfile_read(struct bfile *f, void *buf, size_t len, uint64_t off)
{
    struct iovec v = { buf, len };
    ssize_t n = f->ops->readv(f, &v, 1, off);

    if (n < 0)
        return (int)n;
    return (size_t)n == len ? 0 : -EIO;
}

int bfile_write(struct bfile *f, const void *buf, size_t len, uint64_t off)
{
    struct iovec v = { (void *)(uintptr_t)buf, len };

    return f->ops->writev(f, &v, 1, off);
}

int bfile_write_zero_data(struct bfile *f, uint64_t off, uint64_t len)
{
    static const uint8_t zeroes[64 << 10];

    while (len) {
        size_t n = len < sizeof(zeroes) ? (size_t)len : sizeof(zeroes);
        int err = bfile_write(f, zeroes, n, off);
        if (err)
            return err;
        off += n;
        len -= n;
    }
    return 0;
}

int bfile_zero(struct bfile *f, uint64_t off, uint64_t len, bool punch)
{
    int err = len ? f->ops->zero(f, off, len, punch) : 0;

    if (err == -EOPNOTSUPP && !punch)
        err = bfile_write_zero_data(f, off, len);
    else if (err == -EOPNOTSUPP && (err = f->ops->zero(f, off, len, false)) == -EOPNOTSUPP)
        err = bfile_write_zero_data(f, off, len);
    return err;
}

/* ---- overlay ------------------------------------------------------------------------------------ */

struct overlay_change {
    uint64_t off, len;
    uint8_t *data; /* owned; NULL: zeroes */
};

struct overlay {
    struct bfile f;
    struct bfile *below;
    struct overlay_change *list; /* in order of application */
    size_t count, room;
    uint64_t size;
};

/* Copy [from, from + n) of a flat buffer, or zeroes, to the place @at in a vector. */
static void scatter(const struct iovec *iov, int niov, uint64_t at, const uint8_t *from, uint64_t n)
{
    for (int i = 0; i < niov && n; i++) {
        if (at >= iov[i].iov_len) {
            at -= iov[i].iov_len;
            continue;
        }
        size_t use = iov[i].iov_len - (size_t)at;
        if (use > n)
            use = (size_t)n;
        if (from) {
            memcpy((uint8_t *)iov[i].iov_base + at, from, use);
            from += use;
        } else {
            memset((uint8_t *)iov[i].iov_base + at, 0, use);
        }
        n -= use;
        at = 0;
    }
}

static ssize_t overlay_readv(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    struct overlay *o = (struct overlay *)f;
    uint64_t len = iov_bytes(iov, niov), size = 0;
    ssize_t n = o->below->ops->readv(o->below, iov, niov, off);
    int err = f->ops->size(f, &size);

    if (n < 0 || err)
        return n < 0 ? n : err;
    if (off >= size)
        return 0;
    if (len > size - off)
        len = size - off;
    if ((uint64_t)n < len)
        scatter(iov, niov, (uint64_t)n, NULL, len - (uint64_t)n);
    for (size_t i = 0; i < o->count; i++) {
        const struct overlay_change *c = &o->list[i];
        uint64_t a = c->off > off ? c->off : off;
        uint64_t b = c->off + c->len < off + len ? c->off + c->len : off + len;
        if (a < b)
            scatter(iov, niov, a - off, c->data ? c->data + (a - c->off) : NULL, b - a);
    }
    return (ssize_t)len;
}

static int overlay_size_of(struct bfile *f, uint64_t *ret)
{
    struct overlay *o = (struct overlay *)f;
    uint64_t n;
    int err = o->below->ops->size(o->below, &n);

    if (err)
        return err;
    *ret = n > o->size ? n : o->size;
    return 0;
}

static int overlay_extent(struct bfile *f, uint64_t off, uint64_t len, bool *ret_data,
                          uint64_t *ret_len)
{
    (void)f;
    (void)off;
    *ret_data = true;
    *ret_len = len;
    return 0;
}

static int overlay_writev(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    (void)f;
    (void)iov;
    (void)niov;
    (void)off;
    return -EROFS;
}

static int overlay_sync(struct bfile *f)
{
    (void)f;
    return 0;
}

static int overlay_truncate(struct bfile *f, uint64_t size)
{
    (void)f;
    (void)size;
    return -EROFS;
}

static int overlay_zero(struct bfile *f, uint64_t off, uint64_t len, bool punch)
{
    (void)f;
    (void)off;
    (void)len;
    (void)punch;
    return -EROFS;
}

static int overlay_allocate(struct bfile *f, uint64_t off, uint64_t len)
{
    return overlay_zero(f, off, len, false);
}

struct bfile *overlay_detach(struct bfile *f)
{
    struct overlay *o = (struct overlay *)f;
    struct bfile *below = o->below;

    for (size_t i = 0; i < o->count; i++)
        free(o->list[i].data);
    free(o->list);
    free(o);
    return below;
}

static void overlay_close(struct bfile *f)
{
    bfile_close(overlay_detach(f));
}

static const struct bfile_ops overlay_ops = {
    overlay_readv, overlay_writev,   overlay_sync,   overlay_truncate, overlay_size_of,
    overlay_zero,  overlay_allocate, overlay_extent, overlay_close,    NULL, NULL, NULL,
};

struct bfile *overlay_create(struct bfile *below)
{
    struct overlay *o = calloc(1, sizeof(*o));

    if (!o)
        return NULL;
    o->f = *below;
    o->f.ops = &overlay_ops;
    o->below = below;
    return &o->f;
}

int overlay_add(struct bfile *f, uint64_t off, uint64_t len, const void *data)
{
    struct overlay *o = (struct overlay *)f;
    uint8_t *copy = NULL;

    if (o->count == o->room) {
        size_t room = o->room ? o->room * 2 : 64;
        struct overlay_change *more = realloc(o->list, room * sizeof(*more));
        if (!more)
            return -ENOMEM;
        o->list = more;
        o->room = room;
    }
    if (data) {
        copy = malloc(len);
        if (!copy)
            return -ENOMEM;
        memcpy(copy, data, len);
    }
    o->list[o->count++] = (struct overlay_change){ off, len, copy };
    return 0;
}

void overlay_size(struct bfile *f, uint64_t size)
{
    struct overlay *o = (struct overlay *)f;

    if (size > o->size)
        o->size = size;
}

int overlay_apply(struct bfile *f)
{
    struct overlay *o = (struct overlay *)f;
    uint64_t size;
    int err = o->below->ops->size(o->below, &size);

    if (!err && size < o->size) {
        err = o->below->ops->truncate(o->below, o->size);
        size = o->size;
    }
    for (size_t i = 0; !err && i < o->count; i++) {
        const struct overlay_change *c = &o->list[i];
        if (c->data)
            err = bfile_write(o->below, c->data, c->len, c->off);
        else if (c->off < size)
            err = bfile_zero(o->below, c->off, c->len < size - c->off ? c->len : size - c->off,
                             true);
    }
    return err ? err : o->below->ops->sync(o->below);
}
