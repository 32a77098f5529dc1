/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk backends: raw files and block devices, and the threads that all images share.
 *
 * Requests go into one queue; a thread takes the oldest.  The last image that is closed ends the
 * threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/backend/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { THREADS = 4, IOVS = 256, BOUNCE = 1 << 20, DIRECT_ALIGN = 4096 };

struct vmb_disk {
    const struct vmb_block_sink *sink;
    void *block;
    int fd;
    bool device, direct;
    uint64_t len;
    char path[]; /* for messages */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct mobo_block_req *head, **tail;
    unsigned users, idle;
    bool stop;
    pthread_t thread[THREADS];
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static struct vmb_block_link *link_of(struct mobo_block_req *r)
{
    return (struct vmb_block_link *)(void *)r->host;
}

/* ---- a request ------------------------------------------------------------------------------- */

static int transfer(int fd, bool write, struct iovec *v, int n, uint64_t off)
{
    while (n) {
        ssize_t did = write ? pwritev(fd, v, n, (off_t)off) : preadv(fd, v, n, (off_t)off);

        if (did < 0 && errno == EINTR)
            continue;
        if (did < 0)
            return -errno;
        if (did == 0)
            return write ? -ENOSPC : -EIO; /* the file is shorter than it was */
        off += (uint64_t)did;
        while (n && (size_t)did >= v->iov_len) {
            did -= (ssize_t)v->iov_len;
            v++;
            n--;
        }
        if (n && did) {
            v->iov_base = (char *)v->iov_base + did;
            v->iov_len -= (size_t)did;
        }
    }
    return 0;
}

/* Guest memory that O_DIRECT does not take goes through a buffer. */
static int transfer_bounced(struct vmb_disk *d, const struct mobo_block_req *r)
{
    bool write = r->op == MOBO_BLOCK_WRITE;
    uint64_t left = r->len, off = r->off;
    uint32_t at = 0;
    uint64_t skip = 0;
    char *buf = aligned_alloc(DIRECT_ALIGN, BOUNCE);
    int err = buf ? 0 : -ENOMEM;

    while (!err && left) {
        uint64_t n = left < BOUNCE ? left : BOUNCE;
        struct iovec v = { buf, n };

        if (!write)
            err = transfer(d->fd, false, &v, 1, off);
        for (uint64_t did = 0; !err && did < n;) {
            uint64_t part = r->iov[at].len - skip;

            if (part > n - did)
                part = n - did;
            if (write)
                memcpy(buf + did, (char *)r->iov[at].base + skip, part);
            else
                memcpy((char *)r->iov[at].base + skip, buf + did, part);
            did += part;
            skip += part;
            if (skip == r->iov[at].len) {
                at++;
                skip = 0;
            }
        }
        if (!err && write)
            err = transfer(d->fd, true, &v, 1, off);
        off += n;
        left -= n;
    }
    free(buf);
    return err;
}

static int move(struct vmb_disk *d, const struct mobo_block_req *r)
{
    uint64_t off = r->off;
    int err = 0;

    if (d->direct)
        for (uint32_t i = 0; i < r->niov; i++)
            if (((uintptr_t)r->iov[i].base | r->iov[i].len) & 511)
                return transfer_bounced(d, r);
    for (uint32_t i = 0; !err && i < r->niov;) {
        struct iovec v[IOVS];
        int n = 0;
        uint64_t sum = 0;

        for (; n < IOVS && i < r->niov; i++, n++) {
            v[n] = (struct iovec){ r->iov[i].base, r->iov[i].len };
            sum += r->iov[i].len;
        }
        err = transfer(d->fd, r->op == MOBO_BLOCK_WRITE, v, n, off);
        off += sum;
    }
    return err;
}

static int sync_file(struct vmb_disk *d)
{
    return fdatasync(d->fd) ? -errno : 0;
}

static int discard(struct vmb_disk *d, uint64_t off, uint64_t len)
{
    uint64_t range[2] = { off, len };
    int err = d->device ? ioctl(d->fd, BLKDISCARD, range)
                        : fallocate(d->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)off,
                                    (off_t)len);

    return err && errno != EOPNOTSUPP && errno != ENOTTY ? -errno : 0; /* only a hint */
}

static int write_zeroes(struct vmb_disk *d, uint64_t off, uint64_t len, bool unmap)
{
    uint64_t range[2] = { off, len };
    int err;
    char *zero;

    if (d->device)
        err = ioctl(d->fd, BLKZEROOUT, range);
    else
        err = fallocate(d->fd,
                        (unmap ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE) | FALLOC_FL_KEEP_SIZE,
                        (off_t)off, (off_t)len);
    if (!err)
        return 0;
    if (errno != EOPNOTSUPP && errno != ENOTTY)
        return -errno;
    zero = aligned_alloc(DIRECT_ALIGN, BOUNCE);
    if (!zero)
        return -ENOMEM;
    memset(zero, 0, BOUNCE);
    for (err = 0; !err && len;) {
        struct iovec v = { zero, len < BOUNCE ? len : BOUNCE };
        uint64_t n = v.iov_len;

        err = transfer(d->fd, true, &v, 1, off);
        off += n;
        len -= n;
    }
    free(zero);
    return err;
}

static int execute(struct vmb_disk *d, const struct mobo_block_req *r)
{
    int err = -EINVAL;

    switch (r->op) {
    case MOBO_BLOCK_READ:
    case MOBO_BLOCK_WRITE: err = move(d, r); break;
    case MOBO_BLOCK_FLUSH: err = sync_file(d); break;
    case MOBO_BLOCK_DISCARD_RANGE: err = discard(d, r->off, r->len); break;
    case MOBO_BLOCK_WRITE_ZEROES:
        err = write_zeroes(d, r->off, r->len, r->flags & MOBO_BLOCK_MAY_UNMAP);
        break;
    }
    if (!err && r->op != MOBO_BLOCK_READ && (r->flags & MOBO_BLOCK_FUA))
        err = sync_file(d);
    if (err == -EDQUOT || err == -EFBIG)
        err = -ENOSPC;
    return err;
}

/* ---- threads --------------------------------------------------------------------------------- */

static void *pool_main(void *arg)
{
    (void)arg;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct mobo_block_req *r = pool.head;
        struct vmb_disk *d;
        int err;

        if (!r) {
            if (pool.stop)
                break;
            pool.idle++;
            pthread_cond_wait(&pool.cond, &pool.lock);
            pool.idle--;
            continue;
        }
        pool.head = link_of(r)->next;
        if (!pool.head)
            pool.tail = &pool.head;
        pthread_mutex_unlock(&pool.lock);
        d = link_of(r)->disk;
        err = execute(d, r);
        d->sink->done(d->block, r, err);
        pthread_mutex_lock(&pool.lock);
    }
    pthread_mutex_unlock(&pool.lock);
    return NULL;
}

static int pool_enter(void)
{
    sigset_t all, old;
    int err = 0;

    pthread_mutex_lock(&pool.lock);
    if (pool.users++ == 0) {
        unsigned n = 0;

        pool.stop = false;
        pool.head = NULL;
        pool.tail = &pool.head;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        while (n < THREADS && !(err = pthread_create(&pool.thread[n], NULL, pool_main, NULL)))
            pthread_setname_np(pool.thread[n++], "mobo-disk");
        pthread_sigmask(SIG_SETMASK, &old, NULL);
        if (err) {
            pool.stop = true;
            pool.users = 0;
            pthread_cond_broadcast(&pool.cond);
            pthread_mutex_unlock(&pool.lock);
            while (n)
                pthread_join(pool.thread[--n], NULL);
            return -err;
        }
    }
    pthread_mutex_unlock(&pool.lock);
    return 0;
}

static void pool_leave(void)
{
    bool last;

    pthread_mutex_lock(&pool.lock);
    last = --pool.users == 0;
    pool.stop = last;
    pthread_cond_broadcast(&pool.cond);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; last && i < THREADS; i++)
        pthread_join(pool.thread[i], NULL);
}

void disk_submit(struct vmb_disk *d, struct mobo_block_req *r)
{
    bool wake;

    link_of(r)->next = NULL;
    link_of(r)->disk = d;
    pthread_mutex_lock(&pool.lock);
    *pool.tail = r;
    pool.tail = &link_of(r)->next;
    wake = pool.idle > 0;
    pthread_mutex_unlock(&pool.lock);
    if (wake)
        pthread_cond_signal(&pool.cond);
}

/* ---- opening --------------------------------------------------------------------------------- */

struct spec {
    char path[PATH_MAX];
    bool read_only, cdrom, direct;
    uint32_t sector;
};

/* Options are taken from the end, as long as they are ones: file names may have commas. */
static int parse(const char *text, struct spec *s, char *msg, size_t msg_len)
{
    char *comma;

    *s = (struct spec){ .sector = 512 };
    if (snprintf(s->path, sizeof(s->path), "%s", text) >= (int)sizeof(s->path)) {
        snprintf(msg, msg_len, "the file name is too long");
        return -EINVAL;
    }
    while ((comma = strrchr(s->path, ','))) {
        if (!strcmp(comma, ",ro")) {
            s->read_only = true;
        } else if (!strcmp(comma, ",cdrom")) {
            s->cdrom = s->read_only = true;
        } else if (!strcmp(comma, ",direct")) {
            s->direct = true;
        } else if (!strncmp(comma, ",sector=", 8)) {
            if (strcmp(comma + 8, "512") && strcmp(comma + 8, "4096")) {
                snprintf(msg, msg_len, "sector size '%s': 512 or 4096", comma + 8);
                return -EINVAL;
            }
            s->sector = comma[8] == '4' ? 4096 : 512;
        } else {
            break;
        }
        *comma = 0;
    }
    if (s->path[0])
        return 0;
    snprintf(msg, msg_len, "the file name is missing");
    return -EINVAL;
}

/* Formats that are not a plain sequence of sectors must not be taken for one. */
static const char *other_format(int fd, uint64_t len)
{
    char head[8] = "", foot[8] = "";

    if (pread(fd, head, 8, 0) == 8 && !memcmp(head, "vhdxfile", 8))
        return "VHDX";
    if (!memcmp(head, "conectix", 8) ||
        (len >= 512 && pread(fd, foot, 8, (off_t)(len - 512)) == 8 && !memcmp(foot, "conectix", 8)))
        return "VHD";
    return NULL;
}

/* One writer, or any number of readers. */
static int lock_file(int fd, bool read_only)
{
    struct flock l = { .l_type = read_only ? F_RDLCK : F_WRLCK, .l_whence = SEEK_SET };

    if (!fcntl(fd, F_OFD_SETLK, &l))
        return 0;
    return errno == EAGAIN || errno == EACCES ? -EBUSY : 0; /* no locks there: go without */
}

int disk_open(const char *text, uint32_t flags, bool check_only, const struct vmb_block_sink *sink,
              void *block, struct vmb_disk **ret, struct mobo_block_info *info, char *msg,
              size_t msg_len)
{
    struct spec s;
    struct stat st;
    struct vmb_disk *d;
    const char *format;
    int fd = -1, err = parse(text, &s, msg, msg_len);

    if (err)
        return err;
    if (flags & MOBO_BLOCK_READ_ONLY)
        s.read_only = true;
    d = calloc(1, sizeof(*d) + strlen(s.path) + 1);
    if (!d)
        return -ENOMEM;
    strcpy(d->path, s.path);
    d->sink = sink;
    d->block = block;
    d->direct = s.direct;
    fd = d->fd = open(s.path, (s.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &st)) {
        err = -errno;
        snprintf(msg, msg_len, "cannot open %s: %s%s", s.path, strerror(-err),
                 err == -EACCES || err == -EROFS ? " (read-only: append ',ro')" : "");
        goto fail;
    }
    err = -EINVAL;
    d->device = S_ISBLK(st.st_mode);
    if (!S_ISREG(st.st_mode) && !d->device) {
        snprintf(msg, msg_len, "%s is neither a file nor a block device", s.path);
        goto fail;
    }
    d->len = (uint64_t)st.st_size;
    if (d->device && ioctl(fd, BLKGETSIZE64, &d->len)) {
        err = -errno;
        snprintf(msg, msg_len, "%s: %s", s.path, strerror(-err));
        goto fail;
    }
    format = other_format(fd, d->len);
    if (format) {
        err = -ENOTSUP;
        snprintf(msg, msg_len, "%s: %s images are not available yet", s.path, format);
        goto fail;
    }
    if (!d->len || d->len % s.sector) {
        snprintf(msg, msg_len, "%s: its size, %llu bytes, is not a multiple of %u", s.path,
                 (unsigned long long)d->len, s.sector);
        goto fail;
    }
    if (!check_only && lock_file(fd, s.read_only)) {
        err = -EBUSY;
        snprintf(msg, msg_len, "%s is in use by another process", s.path);
        goto fail;
    }
    if (d->direct && fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_DIRECT)) {
        snprintf(msg, msg_len, "%s: this file system has no direct access: %s", s.path,
                 strerror(errno));
        goto fail;
    }
    *info = (struct mobo_block_info){
        .size = info->size,
        .flags = (s.read_only ? MOBO_BLOCK_READ_ONLY : 0) | (s.cdrom ? MOBO_BLOCK_CDROM : 0) |
                 (s.read_only ? 0 : MOBO_BLOCK_DISCARD) |
                 (s.read_only || d->device ? 0 : MOBO_BLOCK_DISCARD_ZEROES),
        .len = d->len,
        .sector = s.sector,
        .physical = st.st_blksize > 512 && st.st_blksize <= 65536 ? 4096 : 512,
        .discard_unit = d->device ? 0 : 4096,
    };
    if (check_only) {
        close(fd);
        free(d);
        return 0;
    }
    err = pool_enter();
    if (err) {
        snprintf(msg, msg_len, "cannot start disk threads: %s", strerror(-err));
        goto fail;
    }
    *ret = d;
    return 0;
fail:
    if (fd >= 0)
        close(fd);
    free(d);
    return err;
}

void disk_close(struct vmb_disk *d)
{
    if (!d)
        return;
    pool_leave();
    fdatasync(d->fd);
    close(d->fd);
    free(d);
}
