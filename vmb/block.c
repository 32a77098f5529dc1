/* SPDX-License-Identifier: BSD-2-Clause */
/* Disk images of vdevs: between their requests and the provider (vmb_ops.block_...).
 *
 * A request is with the provider, or finished and waits for its done(), or stalled: the host had no
 * space for it, or does not reach the image.  The first to stall asks the control thread to pause the VM; resuming tries again. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vmb/board.h"

_Static_assert(sizeof(struct vmb_block_link) <= sizeof(((struct mobo_block_req *)0)->host),
               "the host's part of a request");

static struct vmb_block_link *link_of(struct mobo_block_req *r)
{
    return (struct vmb_block_link *)(void *)r->host;
}

static void append(struct mobo_block_req ***tail, struct mobo_block_req *r)
{
    link_of(r)->next = NULL;
    **tail = r;
    *tail = &link_of(r)->next;
}

/* Call done() of all that is finished.  Under the vdev lock; also by a done() that drains, which finds what its caller
 * still has to tell. */
static void deliver(void *ctx)
{
    struct mobo_block *b = ctx;
    struct mobo_block_req *r, **tail = &b->telling;

    while (*tail)
        tail = &link_of(*tail)->next;
    pthread_mutex_lock(&b->lock);
    b->posted = false;
    *tail = b->done;
    b->done = NULL;
    b->done_tail = &b->done;
    pthread_mutex_unlock(&b->lock);
    while ((r = b->telling)) {
        b->telling = link_of(r)->next;
        if (r->op == MOBO_BLOCK_READ)
            for (uint32_t i = 0; i < r->niov; i++)
                if (r->iov[i].gpa != MOBO_NO_GPA)
                    hv_gpa_dirty(b->dev->board->part, r->iov[i].gpa, r->iov[i].len);
        r->done(r->ctx, (int)link_of(r)->err);
    }
}

/* Any thread: the provider has finished. */
static void finished(void *ctx, struct mobo_block_req *r, int err)
{
    struct mobo_block *b = ctx;
    struct vmb *v = b->dev->board;
    bool post = false, tell = false;

    pthread_mutex_lock(&b->lock);
    link_of(r)->err = err;
    if (err == -ENOSPC || err == -ENOTCONN) {
        tell = !b->stalled;
        append(&b->stalled_tail, r);
    } else {
        append(&b->done_tail, r);
        post = !b->posted;
        b->posted = true;
    }
    pthread_mutex_unlock(&b->lock);
    if (post && io_post(v, b->dev, deliver, b)) {
        pthread_mutex_lock(&b->lock);
        b->posted = false; /* the next one, or blk_drain(), takes it along */
        pthread_mutex_unlock(&b->lock);
    }
    if (tell) {
        const struct vmb_request req = {
            .kind = err == -ENOSPC ? VMB_REQ_NO_SPACE : VMB_REQ_DISK_LOST,
            .from = b->dev->name, .text = b->what, .dump = ""
        };

        v->ops->request(v->ctx, &req);
    }
    pthread_mutex_lock(&b->lock);
    b->running--; /* last: blk_close() lets go of what it waits for */
    pthread_cond_broadcast(&b->cond);
    pthread_mutex_unlock(&b->lock);
}

static const struct vmb_block_sink sink = { finished };

static int open_image(struct mobo_vdev *dev, const char *key, const char *spec, uint32_t flags,
                      struct mobo_block **ret, struct mobo_block_info *info)
{
    struct vmb *v = dev->board;
    struct mobo_block_info got = { .size = sizeof(got) };
    uint32_t size = info->size;
    struct mobo_block *b;
    char msg[VMB_MSG_LEN] = "";
    int err;

    vdev_check(dev, "block_open");
    if (size < sizeof(uint32_t) || size > 4096)
        return vdev_fail(dev, -EINVAL, "%s: bad use of block_open", key);
    if (!v->ops->block_open)
        return vdev_fail(dev, -ENOTSUP, "%s: there are no disk images here", key);
    b = calloc(1, sizeof(*b));
    if (!b)
        return vdev_fail(dev, -ENOMEM, "%s: no memory", key);
    b->dev = dev;
    b->done_tail = &b->done;
    b->stalled_tail = &b->stalled;
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->cond, NULL);
    snprintf(b->what, sizeof(b->what), "%s", key);
    err = v->ops->block_open(v->ctx, dev->name, spec, flags, v->check_only, &sink, b, &b->disk,
                             &got, msg, sizeof(msg));
    if (err) {
        pthread_cond_destroy(&b->cond);
        pthread_mutex_destroy(&b->lock);
        free(b);
        return vdev_fail(dev, err, "%s: %s", key, msg[0] ? msg : strerror(-err));
    }
    b->info = got;
    got.size = size;
    memset(info, 0, size);
    memcpy(info, &got, size < sizeof(got) ? size : sizeof(got));
    pthread_mutex_lock(&v->io.lock);
    b->next = v->io.blocks;
    v->io.blocks = b;
    pthread_mutex_unlock(&v->io.lock);
    *ret = b;
    return 0;
}

int blk_open(struct mobo_vdev *dev, const char *key, uint32_t flags, struct mobo_block **ret,
             struct mobo_block_info *info)
{
    struct vdev_param *p = vdev_param_find(dev, key);

    if (!p || p->kind != MOBO_PATH)
        return vdev_fail(dev, -EINVAL, "%s: bad use of block_open", key);
    if (!p->text)
        return vdev_fail(dev, -ENOENT, "%s is not set", key);
    return open_image(dev, key, p->text, flags, ret, info);
}

int blk_open_spec(struct mobo_vdev *dev, const char *spec, uint32_t flags, struct mobo_block **ret,
                  struct mobo_block_info *info)
{
    return open_image(dev, "image", spec, flags, ret, info);
}

static void hurry(struct mobo_block *b, bool on)
{
    const struct vmb_ops *ops = b->dev->board->ops;

    if (b->disk && ops->block_hurry)
        ops->block_hurry(b->disk, on);
}

/* Under b->lock, which it gives up meanwhile. */
static void wait_locked(struct mobo_block *b)
{
    if (b->running)
        hurry(b, true);
    while (b->running)
        pthread_cond_wait(&b->cond, &b->lock);
}

void blk_close(struct mobo_block *b)
{
    struct vmb_disk *disk;

    if (!b)
        return;
    pthread_mutex_lock(&b->lock);
    wait_locked(b);
    b->done = b->stalled = NULL;
    b->done_tail = &b->done;
    b->stalled_tail = &b->stalled;
    disk = b->disk;
    b->disk = NULL;
    pthread_mutex_unlock(&b->lock);
    if (!disk)
        return;
    if (b->dev->board->ops->block_hurry) /* closing it flushes */
        b->dev->board->ops->block_hurry(disk, true);
    b->dev->board->ops->block_close(disk);
}

static bool sound(const struct mobo_block *b, const struct mobo_block_req *r)
{
    uint64_t sum = 0;

    if (r->size < sizeof(*r) || !r->done || !b->disk)
        return false;
    switch (r->op) {
    case MOBO_BLOCK_FLUSH: return true;
    case MOBO_BLOCK_READ:
    case MOBO_BLOCK_WRITE:
        for (uint32_t i = 0; i < r->niov; i++) {
            if (r->iov[i].len > r->len - sum)
                return false;
            sum += r->iov[i].len;
        }
        if (sum != r->len)
            return false;
        break;
    case MOBO_BLOCK_DISCARD_RANGE:
    case MOBO_BLOCK_WRITE_ZEROES: break;
    default: return false;
    }
    if (r->op != MOBO_BLOCK_READ && (b->info.flags & MOBO_BLOCK_READ_ONLY))
        return false;
    return r->len <= b->info.len && r->off <= b->info.len - r->len &&
           r->off % b->info.sector == 0 && r->len % b->info.sector == 0;
}

int blk_submit(struct mobo_block *b, struct mobo_block_req *r)
{
    vdev_check(b->dev, "block_submit");
    if (!sound(b, r))
        return -EINVAL;
    pthread_mutex_lock(&b->lock);
    b->running++;
    pthread_mutex_unlock(&b->lock);
    b->dev->board->ops->block_submit(b->disk, r);
    return 0;
}

void blk_drain(struct mobo_block *b, int cancel)
{
    bool again;

    vdev_check(b->dev, "block_drain");
    do { /* a done() may submit the next part */
        pthread_mutex_lock(&b->lock);
        wait_locked(b);
        if (cancel && b->stalled) {
            for (struct mobo_block_req *r = b->stalled; r; r = link_of(r)->next)
                link_of(r)->err = -ECANCELED;
            *b->done_tail = b->stalled;
            b->done_tail = b->stalled_tail;
            b->stalled = NULL;
            b->stalled_tail = &b->stalled;
        }
        again = b->done || b->telling;
        pthread_mutex_unlock(&b->lock);
        if (again)
            deliver(b);
    } while (again);
    hurry(b, false);
}

void blk_resume(struct vmb *v)
{
    struct mobo_block *b;

    pthread_mutex_lock(&v->io.lock);
    b = v->io.blocks; /* the list grows at its head only */
    pthread_mutex_unlock(&v->io.lock);
    for (; b; b = b->next) {
        struct mobo_block_req *r, *next;

        pthread_mutex_lock(&b->lock);
        r = b->stalled;
        b->stalled = NULL;
        b->stalled_tail = &b->stalled;
        for (struct mobo_block_req *q = r; q; q = link_of(q)->next)
            b->running++;
        pthread_mutex_unlock(&b->lock);
        for (; r; r = next) {
            next = link_of(r)->next;
            v->ops->block_submit(b->disk, r);
        }
    }
}

void blk_fini(struct vmb *v)
{
    for (struct mobo_block *b = v->io.blocks; b; b = b->next)
        blk_close(b);
}

void blk_free(struct vmb *v)
{
    while (v->io.blocks) {
        struct mobo_block *b = v->io.blocks;

        v->io.blocks = b->next;
        pthread_cond_destroy(&b->cond);
        pthread_mutex_destroy(&b->lock);
        free(b);
    }
}
