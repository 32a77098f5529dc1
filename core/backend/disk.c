/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk backends: images of all formats (core/block) and the threads that they share.
 *
 * Requests go into one queue; a thread takes the oldest.  What is written usually goes to the host's page cache, in a
 * fraction of the time that it takes to wake a thread: one thread does all of these of an image, and reports what it
 * has done when nothing is left or a moment has passed.  Another is woken for what stands behind a request that may
 * take its time, or behind another image's, and while requests are slow.  The last image that is closed ends the
 * threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/backend/disk.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "core/block/block.h"
#include "core/block/nbd.h"

enum {
    THREADS = 4,
    IOVS = 256,
    NOW_BYTES = 64 << 10, /* a read of up to this is tried on the submitter's thread */
    NOW_IOVS = 17,
    NOW_FAILURES = 4,
    NOW_SKIP = 64,
    SMALL_BYTES = 64 << 10, /* a write of up to this is expected to be quick */
    SLOW_NS = 200000,       /* what took longer was not */
    SLOW_COUNT = 64,        /* quick ones until that is forgotten */
    REPORT_NS = 50000,      /* how long something done waits for more */
    REPORT_COUNT = 32
};

struct vmb_disk {
    const struct vmb_block_sink *sink;
    void *block;         /* the board's */
    struct block *image; /* owned */
    uint32_t sector;
    unsigned now_failed, now_skip; /* under the lock of the vdev that submits */
    bool direct; /* the image takes requests without a thread */
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t cond;
    struct mobo_block_req *head, **tail;
    unsigned users;
    unsigned idle;  /* threads that wait and that nobody has woken yet */
    unsigned woken; /* threads that somebody has woken and that do not run yet */
    unsigned slow;  /* requests until a thread is expected to be quick again */
    const struct vmb_disk *quick[THREADS]; /* whose quick request a thread is at, NULL: none; to compare */
    bool stop;
    pthread_t thread[THREADS];
} pool = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };

static struct vmb_block_link *link_of(struct mobo_block_req *r)
{
    return (struct vmb_block_link *)(void *)r->host;
}

/* ---- a request ------------------------------------------------------------------------------- */

static int move(struct vmb_disk *d, const struct mobo_block_req *r)
{
    uint64_t off = r->off;
    int err = 0;

    for (uint32_t i = 0; !err && i < r->niov;) {
        struct iovec v[IOVS];
        uint64_t sum = 0;
        int n = 0;

        for (; n < IOVS && i < r->niov; i++, n++) {
            v[n] = (struct iovec){ r->iov[i].base, r->iov[i].len };
            sum += r->iov[i].len;
        }
        if (sum % d->sector) { /* the pieces do not meet at a sector: all at once */
            struct iovec *all = n == IOVS && i < r->niov ? calloc(r->niov, sizeof(*all)) : NULL;

            if (n == IOVS && i < r->niov) {
                if (!all)
                    return -ENOMEM;
                memcpy(all, v, sizeof(v));
                for (; i < r->niov; i++, n++) {
                    all[n] = (struct iovec){ r->iov[i].base, r->iov[i].len };
                    sum += r->iov[i].len;
                }
            }
            err = r->op == MOBO_BLOCK_WRITE ? block_writev(d->image, off, all ? all : v, n)
                                            : block_readv(d->image, off, all ? all : v, n);
            free(all);
        } else {
            err = r->op == MOBO_BLOCK_WRITE ? block_writev(d->image, off, v, n)
                                            : block_readv(d->image, off, v, n);
        }
        off += sum;
    }
    return err;
}

static int execute(struct vmb_disk *d, const struct mobo_block_req *r)
{
    int err = -EINVAL;

    switch (r->op) {
    case MOBO_BLOCK_READ:
    case MOBO_BLOCK_WRITE: err = move(d, r); break;
    case MOBO_BLOCK_FLUSH: err = block_flush(d->image); break;
    case MOBO_BLOCK_DISCARD_RANGE: err = block_discard(d->image, r->off, r->len); break;
    case MOBO_BLOCK_WRITE_ZEROES:
        err = block_write_zeroes(d->image, r->off, r->len, r->flags & MOBO_BLOCK_MAY_UNMAP);
        break;
    }
    if (!err && r->op != MOBO_BLOCK_READ && (r->flags & MOBO_BLOCK_FUA))
        err = block_flush(d->image);
    return err == -EDQUOT ? -ENOSPC : err;
}

/* ---- requests that need no thread ------------------------------------------------------------- */

struct direct {
    struct block_request r;
    struct mobo_block_req *req;
    struct iovec iov[];
};

static void direct_done(struct block_request *r, int err)
{
    struct direct *x = (struct direct *)r->ctx;
    struct mobo_block_req *req = x->req;
    struct vmb_disk *d = link_of(req)->disk;

    free(x);
    d->sink->done(d->block, req, err == -EDQUOT ? -ENOSPC : err);
}

/* @return whether it is on its way. */
static bool submit_direct(struct vmb_disk *d, struct mobo_block_req *req)
{
    static const enum block_op ops[] = {
        [MOBO_BLOCK_READ] = BLOCK_OP_READ,
        [MOBO_BLOCK_WRITE] = BLOCK_OP_WRITE,
        [MOBO_BLOCK_FLUSH] = BLOCK_OP_FLUSH,
        [MOBO_BLOCK_DISCARD_RANGE] = BLOCK_OP_DISCARD,
        [MOBO_BLOCK_WRITE_ZEROES] = BLOCK_OP_ZERO,
    };
    bool data = req->op == MOBO_BLOCK_READ || req->op == MOBO_BLOCK_WRITE;
    uint32_t niov = data ? req->niov : 0;
    struct direct *x = malloc(sizeof(*x) + niov * sizeof(x->iov[0]));

    if (!x)
        return false;
    x->req = req;
    for (uint32_t i = 0; i < niov; i++)
        x->iov[i] = (struct iovec){ req->iov[i].base, req->iov[i].len };
    x->r = (struct block_request){
        .op = ops[req->op],
        .fua = (req->flags & MOBO_BLOCK_FUA) != 0,
        .unmap = (req->flags & MOBO_BLOCK_MAY_UNMAP) != 0,
        .off = req->off,
        .len = data ? 0 : req->len,
        .iov = x->iov,
        .niov = (int)niov,
        .done = direct_done,
        .ctx = x,
    };
    if (block_submit(d->image, &x->r) == 0)
        return true;
    free(x); /* a thread finds out what is wrong with it, too */
    return false;
}

/* ---- reads of what the host has in memory ---------------------------------------------------- */

/* A reader of a disk that is not in memory is not asked each time: after some failures some requests go without. */
static bool read_now(struct vmb_disk *d, struct mobo_block_req *r)
{
    struct iovec v[NOW_IOVS];

    if (r->op != MOBO_BLOCK_READ || r->len > NOW_BYTES || r->niov > NOW_IOVS)
        return false;
    if (d->now_skip) {
        d->now_skip--;
        return false;
    }
    for (uint32_t i = 0; i < r->niov; i++)
        v[i] = (struct iovec){ r->iov[i].base, r->iov[i].len };
    if (block_readv_nowait(d->image, r->off, v, (int)r->niov)) {
        if (++d->now_failed >= NOW_FAILURES)
            d->now_skip = NOW_SKIP;
        return false;
    }
    d->now_failed = 0;
    d->sink->done(d->block, r, 0);
    return true;
}

/* ---- threads --------------------------------------------------------------------------------- */

static uint64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000000 + (uint64_t)ts.tv_nsec;
}

static bool quick(const struct mobo_block_req *r)
{
    return r->op == MOBO_BLOCK_WRITE && r->len <= SMALL_BYTES && !(r->flags & MOBO_BLOCK_FUA);
}

/* What a thread has done and did not tell of yet. */
struct batch {
    struct mobo_block_req *first, **tail;
    unsigned n;
    uint64_t since_ns;
};

static void report(struct batch *b)
{
    struct mobo_block_req *r = b->first, *next;

    for (unsigned n = b->n; n; n--, r = next) {
        struct vmb_disk *d = link_of(r)->disk;

        next = link_of(r)->next;
        d->sink->done(d->block, r, (int)link_of(r)->err);
    }
    b->tail = &b->first;
    b->n = 0;
}

static void do_request(struct batch *b, struct mobo_block_req *r, bool *ret_slow)
{
    uint64_t from, to;

    if (b->n && (!quick(r) || link_of(b->first)->disk != link_of(r)->disk))
        report(b);
    from = now_ns();
    link_of(r)->err = execute(link_of(r)->disk, r);
    to = now_ns();
    *b->tail = r;
    b->tail = &link_of(r)->next;
    if (b->n++ == 0)
        b->since_ns = to;
    *ret_slow = to - from > SLOW_NS;
    if (b->n >= REPORT_COUNT || to - b->since_ns > REPORT_NS)
        report(b);
}

/* Under the lock. */
static void wake_one(void)
{
    if (!pool.idle)
        return;
    pool.idle--; /* so that each call wakes another one */
    pool.woken++;
    pthread_cond_signal(&pool.cond);
}

/* Under the lock: until wake_one() or the end, whatever else makes the wait return. */
static void wait_idle(void)
{
    pool.idle++;
    while (!pool.woken && !pool.stop)
        pthread_cond_wait(&pool.cond, &pool.lock);
    if (pool.woken)
        pool.woken--;
    else
        pool.idle--;
}

/* Under the lock: whether a thread looks into the queue soon, if no request but quick ones of @d keeps it. */
static bool looked_after(const struct vmb_disk *d)
{
    bool yes = pool.woken > 0;

    for (unsigned i = 0; !yes && i < THREADS; i++)
        yes = pool.quick[i] == d;
    return yes;
}

static void *pool_main(void *arg)
{
    const struct vmb_disk **mine = (const struct vmb_disk **)arg;
    struct batch b = { .tail = &b.first };

    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct mobo_block_req *r = pool.head;
        bool slow;

        if (!r && b.n) {
            pthread_mutex_unlock(&pool.lock);
            report(&b);
            pthread_mutex_lock(&pool.lock);
            continue;
        }
        if (!r) {
            if (pool.stop)
                break;
            wait_idle();
            continue;
        }
        pool.head = link_of(r)->next;
        *mine = quick(r) ? link_of(r)->disk : NULL;
        if (!pool.head)
            pool.tail = &pool.head;
        else if (pool.slow || *mine != link_of(pool.head)->disk)
            wake_one();
        pthread_mutex_unlock(&pool.lock);
        do_request(&b, r, &slow);
        pthread_mutex_lock(&pool.lock);
        *mine = NULL;
        if (slow)
            pool.slow = SLOW_COUNT;
        else if (pool.slow)
            pool.slow--;
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
        pool.idle = pool.woken = pool.slow = 0;
        pool.head = NULL;
        pool.tail = &pool.head;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &old);
        while (n < THREADS &&
               !(err = pthread_create(&pool.thread[n], NULL, pool_main, (void *)&pool.quick[n])))
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
    if (last)
        pthread_cond_broadcast(&pool.cond);
    pthread_mutex_unlock(&pool.lock);
    for (unsigned i = 0; last && i < THREADS; i++)
        pthread_join(pool.thread[i], NULL);
}

void disk_submit(struct vmb_disk *d, struct mobo_block_req *r)
{
    link_of(r)->next = NULL;
    link_of(r)->disk = d;
    if (d->direct && submit_direct(d, r))
        return;
    if (!d->direct && read_now(d, r))
        return;
    pthread_mutex_lock(&pool.lock);
    *pool.tail = r;
    pool.tail = &link_of(r)->next;
    if (pool.slow || !quick(r) || !looked_after(d))
        wake_one();
    pthread_mutex_unlock(&pool.lock);
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

int disk_open(const char *text, uint32_t flags, bool check_only, const struct vmb_block_sink *sink,
              void *block, struct vmb_disk **ret, struct mobo_block_info *info, char *msg,
              size_t msg_len)
{
    struct spec s;
    struct block_options opt = { .format = BLOCK_AUTO, .no_lock = check_only };
    struct block_info bi;
    struct diag diag = { "" };
    struct vmb_disk *d;
    bool raw;
    int err = parse(text, &s, msg, msg_len);

    if (err)
        return err;
    d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->sink = sink;
    d->block = block;
    opt.read_only = s.read_only || check_only || (flags & MOBO_BLOCK_READ_ONLY);
    opt.direct = s.direct;
    err = block_open(s.path, &opt, &d->image, &diag);
    if (err) {
        snprintf(msg, msg_len, "%s%s", diag.text,
                 !opt.read_only && (err == -EACCES || err == -EROFS)
                     ? " (to use it read-only append ',ro')"
                     : "");
        free(d);
        return err;
    }
    block_get_info(d->image, &bi);
    d->sector = s.sector > bi.logical_sector_size ? s.sector : bi.logical_sector_size;
    if (!bi.size || bi.size % d->sector) {
        snprintf(msg, msg_len, "%s: its size, %llu bytes, is not a multiple of %u", s.path,
                 (unsigned long long)bi.size, d->sector);
        err = -EINVAL;
        goto fail;
    }
    raw = strcmp(bi.format, "raw") == 0;
    *info = (struct mobo_block_info){
        .size = info->size,
        .flags = s.cdrom ? MOBO_BLOCK_CDROM : 0,
        .len = bi.size,
        .sector = d->sector,
        .physical = bi.physical_sector_size > d->sector ? bi.physical_sector_size : d->sector,
        .discard_unit = bi.block_size ? bi.block_size
                        : bi.device   ? 0
                                      : 4096,
    };
    if (bi.read_only || s.read_only || (flags & MOBO_BLOCK_READ_ONLY))
        info->flags |= MOBO_BLOCK_READ_ONLY;
    else if (raw || strcmp(bi.type, "fixed"))
        info->flags |= MOBO_BLOCK_DISCARD | (bi.discard_zeroes ? MOBO_BLOCK_DISCARD_ZEROES : 0);
    memcpy(info->id, bi.disk_id, sizeof(info->id));
    if (check_only) {
        block_close(d->image);
        free(d);
        return 0;
    }
    d->direct = block_is_uri(s.path);
    err = pool_enter();
    if (err) {
        snprintf(msg, msg_len, "cannot start disk threads: %s", strerror(-err));
        goto fail;
    }
    *ret = d;
    return 0;
fail:
    block_close(d->image);
    free(d);
    return err;
}

void disk_hurry(struct vmb_disk *d, bool on)
{
    block_hurry(d->image, on);
}

void disk_close(struct vmb_disk *d)
{
    if (!d)
        return;
    pool_leave();
    block_close(d->image);
    free(d);
}
