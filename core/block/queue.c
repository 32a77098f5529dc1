/* SPDX-License-Identifier: BSD-2-Clause */
/* Requests to a disk image that do not block. */
#include "core/block/queue.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum { THREADS_DEFAULT = 4, THREADS_MAX = 64 };

struct list {
    struct block_request *first, **last;
};

struct block_queue {
    struct block *b;
    int fd;
    pthread_mutex_t lock;
    pthread_cond_t work;
    struct list todo, done; /* guarded by lock */
    unsigned in_flight;     /* submitted and not reaped; guarded by lock */
    bool stop;              /* guarded by lock */
    unsigned nthreads;
    pthread_t threads[THREADS_MAX];
};

static void append(struct list *l, struct block_request *r)
{
    r->next = NULL;
    *l->last = r;
    l->last = &r->next;
}

static int execute(struct block *b, struct block_request *r)
{
    int err = -EINVAL;

    switch (r->op) {
    case BLOCK_OP_READ: return block_readv(b, r->off, r->iov, r->niov);
    case BLOCK_OP_WRITE: err = block_writev(b, r->off, r->iov, r->niov); break;
    case BLOCK_OP_FLUSH: return block_flush(b);
    case BLOCK_OP_DISCARD: return block_discard(b, r->off, r->len);
    case BLOCK_OP_ZERO: err = block_write_zeroes(b, r->off, r->len, r->unmap); break;
    }
    return err || !r->fua ? err : block_flush(b);
}

static void *worker(void *arg)
{
    struct block_queue *q = arg;

    pthread_mutex_lock(&q->lock);
    for (;;) {
        struct block_request *r = q->todo.first;
        const uint64_t one = 1;
        bool first;
        if (!r && q->stop)
            break;
        if (!r) {
            pthread_cond_wait(&q->work, &q->lock);
            continue;
        }
        q->todo.first = r->next;
        if (!r->next)
            q->todo.last = &q->todo.first;
        pthread_mutex_unlock(&q->lock);
        r->err = execute(q->b, r);
        pthread_mutex_lock(&q->lock);
        first = !q->done.first;
        append(&q->done, r);
        if (first && write(q->fd, &one, sizeof(one)) < 0)
            continue; /* the counter is full: readable anyway */
    }
    pthread_mutex_unlock(&q->lock);
    return NULL;
}

int block_queue_create(struct block *b, unsigned threads, struct block_queue **ret)
{
    struct block_queue *q = calloc(1, sizeof(*q));
    sigset_t all, old;
    int err = 0;

    if (!q)
        return -ENOMEM;
    q->b = b;
    q->todo.last = &q->todo.first;
    q->done.last = &q->done.first;
    pthread_mutex_init(&q->lock, NULL);
    pthread_cond_init(&q->work, NULL);
    q->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (q->fd < 0)
        err = -errno;
    threads = threads == 0 ? THREADS_DEFAULT : threads > THREADS_MAX ? THREADS_MAX : threads;
    sigfillset(&all); /* signals are for the other threads */
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (!err && q->nthreads < threads) {
        err = -pthread_create(&q->threads[q->nthreads], NULL, worker, q);
        q->nthreads += !err;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err && q->nthreads && q->fd >= 0)
        err = 0; /* fewer do as well */
    if (err) {
        block_queue_destroy(q);
        return err;
    }
    *ret = q;
    return 0;
}

int block_queue_fd(const struct block_queue *q)
{
    return q->fd;
}

void block_queue_submit(struct block_queue *q, struct block_request *r)
{
    pthread_mutex_lock(&q->lock);
    q->in_flight++;
    append(&q->todo, r);
    pthread_cond_signal(&q->work);
    pthread_mutex_unlock(&q->lock);
}

unsigned block_queue_reap(struct block_queue *q)
{
    struct block_request *r, *next;
    unsigned n = 0;
    uint64_t count;

    pthread_mutex_lock(&q->lock);
    if (read(q->fd, &count, sizeof(count)) < 0)
        count = 0;
    r = q->done.first;
    q->done.first = NULL;
    q->done.last = &q->done.first;
    for (next = r; next; next = next->next)
        n++;
    q->in_flight -= n;
    pthread_mutex_unlock(&q->lock);
    for (; r; r = next) {
        next = r->next;
        r->done(r, r->err);
    }
    return n;
}

static bool idle(struct block_queue *q)
{
    bool none;

    pthread_mutex_lock(&q->lock);
    none = q->in_flight == 0;
    pthread_mutex_unlock(&q->lock);
    return none;
}

void block_queue_drain(struct block_queue *q)
{
    struct pollfd p = { .fd = q->fd, .events = POLLIN };

    while (!idle(q)) {
        poll(&p, 1, -1);
        block_queue_reap(q);
    }
}

void block_queue_destroy(struct block_queue *q)
{
    if (!q)
        return;
    if (q->nthreads)
        block_queue_drain(q);
    pthread_mutex_lock(&q->lock);
    q->stop = true;
    pthread_cond_broadcast(&q->work);
    pthread_mutex_unlock(&q->lock);
    for (unsigned i = 0; i < q->nthreads; i++)
        pthread_join(q->threads[i], NULL);
    if (q->fd >= 0)
        close(q->fd);
    pthread_mutex_destroy(&q->lock);
    pthread_cond_destroy(&q->work);
    free(q);
}
