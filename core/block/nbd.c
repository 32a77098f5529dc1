/* SPDX-License-Identifier: BSD-2-Clause */
/* Network block devices, through libnbd.
 *
 *   submit (any thread) -> todo -> the connection's thread: commands in flight -> done()
 *
 * One thread owns the connection.  A request becomes one command or, when it is larger than what the
 * server takes, several.  When the connection is lost the thread makes a new one, waiting longer and
 * longer between tries, and sends again what was not answered: that is allowed, since a guest does
 * not rely on the order of requests that are in flight together.  After PATIENCE_MS without a
 * connection requests fail with -ENOTCONN (the VM stands still then, as on a full disk) until there
 * is one again.  Protocol: the NBD project's proto.md. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "core/block/nbd.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

bool block_is_uri(const char *name)
{
    static const char *const schemes[] = { "nbd://",       "nbds://",      "nbd+unix://",
                                           "nbds+unix://", "nbd+vsock://", "nbds+vsock://" };

    for (size_t i = 0; i < COUNT(schemes); i++)
        if (strncmp(name, schemes[i], strlen(schemes[i])) == 0)
            return true;
    return false;
}

#ifndef HAVE_LIBNBD

int bfile_open_nbd(const char *uri, bool read_only, struct bfile **ret, struct diag *diag)
{
    (void)read_only;
    (void)ret;
    return diag_set(diag, -ENOTSUP, "%s: network block devices need a build with libnbd", uri);
}

#else

#include <libnbd.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "core/log/log.h"

enum {
    CONNECT_MS = 10000,  /* a connection that is not ready is given up after this long without a word */
    FIRST_MS = 40000,    /* and the first one, whatever the server says, after this long */
    PATIENCE_MS = 10000, /* requests wait this long for a new connection */
    HURRY_MS = 5000,     /* a pause or an end waits this long for a server that is silent */
    RETRY_MIN_MS = 100,
    RETRY_MAX_MS = 5000,
    COMMANDS_MAX = 64,     /* in flight */
    PAYLOAD = 1 << 20,     /* of one command, when the server takes it */
    BYTES_MAX = 32 << 20,  /* of data in flight */
    RANGE = 1 << 30,       /* of one trim, zero or status command */
    MIN_BLOCK_MAX = 65536, /* proto.md, block size constraints */
    SECTOR = 512
};

enum op { OP_READ, OP_WRITE, OP_FLUSH, OP_TRIM, OP_ZERO, OP_STATUS };

struct request;

/* What one command does. */
struct part {
    struct part *next, **link; /* in waiting or in flight */
    struct request *r;
    uint64_t off, len;
    uint8_t *data;   /* the request's memory, or bounce */
    uint8_t *bounce; /* owned; NULL: none */
    bool finished;
    int err;
};

struct request {
    struct request *next;
    struct nbd *n;
    enum op op;
    uint32_t flags;            /* LIBNBD_CMD_FLAG_... */
    struct block_request *ext; /* whose it is; NULL: one of wait() */
    uint64_t off, len;
    const struct iovec *iov;
    int niov;
    unsigned parts; /* not done */
    int err;
    /* wait() */
    bool complete;
    /* OP_STATUS */
    bool hole;
    uint64_t run;
};

enum state { DOWN, CONNECTING, UP };

/* What the server said; it must say no less after a reconnect. */
struct limits {
    uint64_t size;
    uint32_t min, preferred, max;
    bool read_only, flush, fua, trim, zero, status;
};

struct nbd {
    struct bfile f; /* first */
    pthread_t thread;
    int wake; /* eventfd */
    pthread_mutex_t lock;
    pthread_cond_t cond;   /* a request of wait() is complete; opened is set */
    pthread_mutex_t merge; /* held from reading a block to writing it, changed in part */
    /* guarded by lock */
    struct request *todo, **todo_tail;
    bool stop, hurry, opened;
    int open_err;
    char open_why[256];
    /* the thread's */
    struct nbd_handle *h;
    enum state state;
    bool was_up, told;
    bool progress;   /* this connection has answered */
    bool quiet;      /* nothing of the server was there when it was last looked for */
    struct limits l; /* written before opened is set, then read by all */
    struct part *waiting, **waiting_tail;
    struct part *flying;
    unsigned commands;
    uint64_t bytes;
    uint64_t since, retry_at, silent_since; /* ms */
    unsigned backoff;
    const char *refused; /* why the last server was not taken */
    bool flushes;        /* the first server did: others must */
};

static uint64_t now_ms(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* ---- requests and their parts ----------------------------------------------------------------- */

static void part_enqueue(struct nbd *n, struct part *p)
{
    p->finished = false;
    p->err = 0;
    p->next = NULL;
    *n->waiting_tail = p;
    n->waiting_tail = &p->next;
}

static void request_done(struct nbd *n, struct request *r)
{
    if (!r->ext) {
        pthread_mutex_lock(&n->lock);
        r->complete = true;
        pthread_cond_broadcast(&n->cond);
        pthread_mutex_unlock(&n->lock);
        return;
    }
    r->ext->done(r->ext, r->err);
    free(r);
}

/* Copy between the memory of a request and the bounce buffer of a part. */
static void copy(struct part *p, bool in)
{
    uint64_t skip = p->off - p->r->off, left = p->len;
    uint8_t *b = p->bounce;

    for (int i = 0; b && i < p->r->niov && left; i++) {
        const struct iovec *v = &p->r->iov[i];
        size_t use;

        if (skip >= v->iov_len) {
            skip -= v->iov_len;
            continue;
        }
        if (!v->iov_base)
            return;
        use = v->iov_len - (size_t)skip < left ? v->iov_len - (size_t)skip : (size_t)left;
        if (in)
            memcpy((uint8_t *)v->iov_base + skip, b, use);
        else
            memcpy(b, (uint8_t *)v->iov_base + skip, use);
        b += use;
        left -= use;
        skip = 0;
    }
}

/* The memory of a part, if it is in one piece. */
static uint8_t *in_one_piece(const struct part *p)
{
    uint64_t skip = p->off - p->r->off;

    for (int i = 0; i < p->r->niov; i++) {
        const struct iovec *v = &p->r->iov[i];

        if (skip < v->iov_len)
            return p->len <= v->iov_len - skip ? (uint8_t *)v->iov_base + skip : NULL;
        skip -= v->iov_len;
    }
    return NULL;
}

static void part_done(struct nbd *n, struct part *p, int err)
{
    struct request *r = p->r;

    if (!err && p->bounce && r->op == OP_READ)
        copy(p, true);
    if (err && !r->err)
        r->err = err;
    free(p->bounce);
    free(p);
    if (--r->parts == 0)
        request_done(n, r);
}

static void split(struct nbd *n, struct request *r)
{
    bool data = r->op == OP_READ || r->op == OP_WRITE;
    uint64_t step = data ? n->l.max : RANGE, off = r->off, left = r->len;

    r->parts = 1; /* held until all are made */
    do {
        struct part *p = calloc(1, sizeof(*p));

        if (!p) {
            r->err = -ENOMEM;
            break;
        }
        p->r = r;
        p->off = off;
        p->len = left < step ? left : step;
        off += p->len;
        left -= p->len;
        r->parts++;
        part_enqueue(n, p);
    } while (left);
    if (--r->parts == 0)
        request_done(n, r);
}

/* libnbd's callbacks hold its lock: they note, and the loop does. */
static int on_completion(void *ctx, int *error)
{
    struct part *p = ctx;

    p->finished = true;
    p->err = -*error;
    return 1;
}

static int on_extent(void *ctx, const char *context, uint64_t off, uint32_t *entries, size_t count,
                     int *error)
{
    struct part *p = ctx;
    struct request *r = p->r;

    (void)error;
    if (strcmp(context, LIBNBD_CONTEXT_BASE_ALLOCATION) || off != p->off || count < 2 ||
        !entries[0])
        return 0;
    r->run = entries[0] < p->len ? entries[0] : p->len;
    r->hole = (entries[1] & LIBNBD_STATE_ZERO) != 0;
    return 0;
}

static bool gone(const struct nbd *n)
{
    return nbd_aio_is_dead(n->h) == 1 || nbd_aio_is_closed(n->h) == 1;
}

/* Give a part to the server.  @return false: it stays where it is. */
static bool issue(struct nbd *n, struct part *p)
{
    const nbd_completion_callback cb = { on_completion, p, NULL };
    const nbd_extent_callback extent = { on_extent, p, NULL };
    struct request *r = p->r;
    bool data = r->op == OP_READ || r->op == OP_WRITE;
    int64_t cookie = -1;

    if (data && n->commands && n->bytes + p->len > BYTES_MAX)
        return false;
    if (data && !p->data) {
        p->data = in_one_piece(p);
        if (!p->data) /* zeroed: a server that answers in part must not show us to the guest */
            p->data = p->bounce = calloc(1, p->len);
        if (!p->data) {
            n->waiting = p->next;
            if (!n->waiting)
                n->waiting_tail = &n->waiting;
            part_done(n, p, -ENOMEM);
            return true;
        }
        if (p->bounce && r->op == OP_WRITE)
            copy(p, false);
    }
    n->waiting = p->next;
    if (!n->waiting)
        n->waiting_tail = &n->waiting;
    switch (r->op) {
    case OP_READ: cookie = nbd_aio_pread(n->h, p->data, p->len, p->off, cb, 0); break;
    case OP_WRITE: cookie = nbd_aio_pwrite(n->h, p->data, p->len, p->off, cb, r->flags); break;
    case OP_FLUSH: cookie = nbd_aio_flush(n->h, cb, 0); break;
    case OP_TRIM: cookie = nbd_aio_trim(n->h, p->len, p->off, cb, 0); break;
    case OP_ZERO: cookie = nbd_aio_zero(n->h, p->len, p->off, cb, r->flags); break;
    case OP_STATUS: cookie = nbd_aio_block_status(n->h, p->len, p->off, extent, cb, 0); break;
    }
    if (cookie < 0) { /* refused by libnbd; a dead connection is found by the loop */
        int err = nbd_get_errno();

        if (gone(n)) {
            part_enqueue(n, p);
            return false;
        }
        part_done(n, p, err > 0 ? -err : -EIO);
        return true;
    }
    p->next = n->flying;
    p->link = &n->flying;
    if (p->next)
        p->next->link = &p->next;
    n->flying = p;
    if (!n->commands++)
        n->silent_since = now_ms();
    n->bytes += data ? p->len : 0;
    return true;
}

static void land(struct nbd *n, struct part *p)
{
    *p->link = p->next;
    if (p->next)
        p->next->link = p->link;
    n->commands--;
    if (p->r->op == OP_READ || p->r->op == OP_WRITE)
        n->bytes -= p->len;
}

/* ---- the connection --------------------------------------------------------------------------- */

static void say(struct nbd *n, enum log_level level, const char *what, const char *why)
{
    log_write(level, "nbd", "%s: %s%s%s", DIAG_Q(n->f.path), what, why ? ": " : "",
              why ? diag_quote(why, (char[160]){ 0 }, 160) : "");
}

/* Not there (any more): everything in flight goes back into the queue. */
static void lost(struct nbd *n, const char *why)
{
    uint64_t now = now_ms();
    bool idle = !n->commands && !n->waiting;

    if (!n->told && n->was_up && !n->stop)
        say(n, LOGL_WARNING, "connection lost, trying again", why);
    else
        say(n, LOGL_DEBUG, "no connection", why);
    n->told = n->told || n->was_up;
    if (!n->was_up) {
        pthread_mutex_lock(&n->lock);
        snprintf(n->open_why, sizeof(n->open_why), "%s", why);
        pthread_mutex_unlock(&n->lock);
    }
    nbd_close(n->h); /* from here on it touches no memory of a request */
    n->h = NULL;
    while (n->flying) {
        struct part *p = n->flying;

        land(n, p);
        part_enqueue(n, p);
    }
    /* a server that goes down on each of our requests is as good as none */
    if (n->state == UP && (n->progress || idle)) {
        n->since = now;
        n->backoff = RETRY_MIN_MS;
    }
    n->progress = false;
    n->state = DOWN;
    n->retry_at = now + n->backoff;
    n->backoff = n->backoff * 2 < RETRY_MAX_MS ? n->backoff * 2 : RETRY_MAX_MS;
}

static const char *last_error(void)
{
    const char *text = nbd_get_error();

    return text ? text : "closed by the server";
}

static void begin_connect(struct nbd *n)
{
    n->state = CONNECTING;
    n->silent_since = now_ms();
    n->quiet = false;
    n->h = nbd_create();
    if (!n->h || nbd_set_uri_allow_local_file(n->h, true) < 0 ||
        nbd_add_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0 ||
        nbd_set_pread_initialize(n->h, false) < 0 || nbd_aio_connect_uri(n->h, n->f.path) < 0)
        lost(n, last_error());
}

/* A host that vanished is noticed. */
static void keep_alive(int fd)
{
    static const int on = 1, idle = 10, interval = 5, count = 3, timeout_ms = 30000;

    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &count, sizeof(count));
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout_ms, sizeof(timeout_ms));
}

static uint32_t size_limit(struct nbd *n, int which, uint32_t none)
{
    int64_t v = nbd_get_block_size(n->h, which);

    return v <= 0 ? none : v > UINT32_MAX ? UINT32_MAX : (uint32_t)v;
}

/* The handshake is done.  @return NULL, or what is wrong with this server. */
static const char *examine(struct nbd *n)
{
    int64_t size = nbd_get_size(n->h);
    struct limits l = {
        .size = size > 0 ? (uint64_t)size & ~(uint64_t)(SECTOR - 1) : 0,
        .min = size_limit(n, LIBNBD_SIZE_MINIMUM, 1),
        .preferred = size_limit(n, LIBNBD_SIZE_PREFERRED, 4096),
        .max = size_limit(n, LIBNBD_SIZE_MAXIMUM, PAYLOAD),
        .read_only = nbd_is_read_only(n->h) != 0,
        .flush = nbd_can_flush(n->h) == 1,
        .fua = nbd_can_fua(n->h) == 1,
        .trim = nbd_can_trim(n->h) == 1,
        .zero = nbd_can_zero(n->h) == 1,
        .status = nbd_can_meta_context(n->h, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1,
    };

    if (!l.size)
        return "the export is empty";
    if (l.min & (l.min - 1) || l.min > MIN_BLOCK_MAX || l.size % l.min)
        return "the server has an impossible minimum block size";
    if (l.max > PAYLOAD)
        l.max = PAYLOAD;
    l.max -= l.max % (l.min > SECTOR ? l.min : SECTOR);
    if (!l.max)
        return "the server has an impossible maximum block size";
    if (!n->was_up && l.read_only && !n->f.read_only)
        return "the export is read-only";
    if (n->was_up && l.size != n->l.size)
        return "the export has another size now";
    if (n->was_up && (l.min > n->l.min || (l.read_only && !n->f.read_only)))
        return "the export takes less than before";
    if (n->was_up && n->flushes && !l.flush)
        return "the server has no flush any more";
    if (n->was_up && !n->f.read_only) {
        if (n->l.fua && !l.fua)
            return "the server has no FUA any more";
        if (n->l.trim && !l.trim)
            return "the server has no trim any more";
        if (n->l.zero && !l.zero)
            return "the server has no write zeroes any more";
    }
    if (!n->was_up) {
        n->l = l;
        n->flushes = l.flush;
    }
    n->l.flush = l.flush;
    n->l.max = l.max < n->l.max ? l.max : n->l.max;
    return NULL;
}

static void connected(struct nbd *n)
{
    const char *wrong = examine(n);

    if (wrong) {
        if (n->was_up && wrong != n->refused)
            say(n, LOGL_WARNING, "not taken, trying again", wrong);
        n->refused = wrong;
        lost(n, wrong);
        return;
    }
    n->refused = NULL;
    keep_alive(nbd_aio_get_fd(n->h));
    n->state = UP;
    n->silent_since = now_ms();
    if (n->told)
        say(n, LOGL_WARNING, "connected again", NULL);
    n->told = false;
    n->was_up = true;
    pthread_mutex_lock(&n->lock);
    n->opened = true;
    pthread_cond_broadcast(&n->cond);
    pthread_mutex_unlock(&n->lock);
}

/* ---- the thread ------------------------------------------------------------------------------- */

static void take_todo(struct nbd *n, bool *ret_hurry, bool *ret_stop)
{
    struct request *r, *next;
    uint64_t count;

    if (read(n->wake, &count, sizeof(count)) < 0)
        count = 0; /* woken by something else */
    pthread_mutex_lock(&n->lock);
    r = n->todo;
    n->todo = NULL;
    n->todo_tail = &n->todo;
    *ret_hurry = n->hurry;
    *ret_stop = n->stop;
    pthread_mutex_unlock(&n->lock);
    for (; r; r = next) {
        next = r->next;
        split(n, r);
    }
}

static void give_back(struct nbd *n, int err)
{
    struct part *p = n->waiting, *next;

    n->waiting = NULL;
    n->waiting_tail = &n->waiting;
    for (; p; p = next) {
        next = p->next;
        part_done(n, p, err);
    }
}

/* @return how many have come. */
static unsigned collect(struct nbd *n)
{
    unsigned done = 0;
    bool dead = gone(n);
    struct part *p, *next;

    for (p = n->flying; p && !dead; p = p->next) /* the server is about to go */
        dead = p->finished && p->err == -ESHUTDOWN;
    if (dead) { /* what has failed now has failed for that */
        for (p = n->flying; p; p = next) {
            next = p->next;
            if (p->finished && !p->err) {
                land(n, p);
                part_done(n, p, 0);
            }
        }
        lost(n, last_error());
        return 0;
    }
    for (p = n->flying; p; p = next) {
        next = p->next;
        if (p->finished) {
            n->silent_since = now_ms();
            n->progress = true;
            done++;
            land(n, p);
            part_done(n, p, p->err);
        }
    }
    return done;
}

/* @return how long to sleep at most, -1: until something happens. */
static int step(struct nbd *n, bool hurry)
{
    uint64_t now = now_ms(), until;

    if (n->state == DOWN && now >= n->retry_at)
        begin_connect(n);
    if (n->state == CONNECTING && nbd_aio_is_ready(n->h) == 1)
        connected(n);
    do {
        while (n->state == UP && n->waiting && n->commands < COMMANDS_MAX)
            if (!issue(n, n->waiting))
                break;
    } while (n->state != DOWN && collect(n) && n->waiting);
    /* what it says may wait for this thread, not this thread for it */
    if (n->state == CONNECTING && n->quiet && now >= n->silent_since + CONNECT_MS)
        lost(n, "no answer in time");
    if (n->state == UP && hurry && n->commands && now - n->silent_since >= HURRY_MS)
        lost(n, "the server does not answer");
    if (n->state != UP && n->was_up) {
        if (hurry || now - n->since >= PATIENCE_MS)
            give_back(n, -ENOTCONN);
    }
    if (n->state == UP && !(hurry && n->commands))
        return -1;
    until = n->state == DOWN ? n->retry_at
            : n->state == UP ? n->silent_since + HURRY_MS
                             : n->silent_since + CONNECT_MS;
    if (n->state != UP && n->waiting && n->since + PATIENCE_MS > now &&
        n->since + PATIENCE_MS < until)
        until = n->since + PATIENCE_MS;
    now = now_ms();
    return until > now ? (int)(until - now) : 0;
}

static void await(struct nbd *n, int timeout)
{
    struct pollfd p[2] = { { .fd = n->wake, .events = POLLIN }, { .fd = -1 } };
    unsigned dir;

    if (n->h) {
        dir = nbd_aio_get_direction(n->h);
        p[1].fd = nbd_aio_get_fd(n->h);
        p[1].events = (short)((dir & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                              (dir & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    }
    if (poll(p, 2, timeout) < 0 || !n->h)
        return;
    n->quiet = !p[1].revents;
    if (n->state == CONNECTING && (p[1].revents & (POLLIN | POLLOUT)))
        n->silent_since = now_ms();
    dir = nbd_aio_get_direction(n->h);
    /* an error is the business of whoever reads or writes next */
    if ((p[1].revents & (POLLIN | POLLHUP | POLLERR)) && (dir & LIBNBD_AIO_DIRECTION_READ))
        nbd_aio_notify_read(n->h);
    else if ((p[1].revents & (POLLOUT | POLLHUP | POLLERR)) && (dir & LIBNBD_AIO_DIRECTION_WRITE))
        nbd_aio_notify_write(n->h);
}

/* Tell the server, for a second at most. */
static void say_goodbye(struct nbd *n)
{
    uint64_t end = now_ms() + 1000, now;

    if (n->state == UP && nbd_aio_disconnect(n->h, 0) == 0)
        while (!gone(n) && (now = now_ms()) < end)
            await(n, (int)(end - now));
    nbd_close(n->h);
    n->h = NULL;
}

static void *export_main(void *arg)
{
    struct nbd *n = arg;
    uint64_t start = now_ms();
    bool hurry, stop, fail;

    n->backoff = RETRY_MIN_MS;
    for (;;) {
        int timeout;

        take_todo(n, &hurry, &stop);
        if (stop)
            break;
        timeout = step(n, hurry);
        /* the first connection is made at once or not at all */
        fail = !n->was_up && (n->state == DOWN || now_ms() - start >= FIRST_MS);
        if (fail) {
            pthread_mutex_lock(&n->lock);
            n->opened = true;
            n->open_err = -EIO;
            pthread_cond_broadcast(&n->cond);
            pthread_mutex_unlock(&n->lock);
            break;
        }
        await(n, timeout);
    }
    say_goodbye(n);
    return NULL;
}

/* ---- the file --------------------------------------------------------------------------------- */

static void post(struct nbd *n, struct request *r)
{
    static const uint64_t one = 1;

    r->next = NULL;
    pthread_mutex_lock(&n->lock);
    *n->todo_tail = r;
    n->todo_tail = &r->next;
    if (write(n->wake, &one, sizeof(one)) < 0)
        r->err = 0; /* the counter is full: it is awake */
    pthread_mutex_unlock(&n->lock);
}

/* Have a request done, waiting for it. */
static int wait_for(struct nbd *n, struct request *r)
{
    r->n = n;
    post(n, r);
    pthread_mutex_lock(&n->lock);
    while (!r->complete)
        pthread_cond_wait(&n->cond, &n->lock);
    pthread_mutex_unlock(&n->lock);
    return r->err;
}

static bool aligned(const struct nbd *n, uint64_t off, uint64_t len)
{
    return ((off | len) & (n->l.min - 1)) == 0;
}

/* What no command has, or has not in this form, is left to the blocking functions. */
static int export_submit(struct bfile *f, struct block_request *e)
{
    struct nbd *n = (struct nbd *)f;
    bool write = e->op == BLOCK_OP_WRITE || e->op == BLOCK_OP_ZERO;
    struct request *r;
    uint64_t len =
        e->op == BLOCK_OP_READ || e->op == BLOCK_OP_WRITE ? iov_bytes(e->iov, e->niov) : e->len;

    if ((e->op != BLOCK_OP_FLUSH && (!len || !aligned(n, e->off, len))) ||
        (write && e->fua && !n->l.fua) || (e->op == BLOCK_OP_FLUSH && !n->l.flush) ||
        (e->op == BLOCK_OP_DISCARD && !n->l.trim) || (e->op == BLOCK_OP_ZERO && !n->l.zero))
        return -EAGAIN;
    r = calloc(1, sizeof(*r));
    if (!r)
        return -ENOMEM;
    r->op = e->op == BLOCK_OP_READ    ? OP_READ
            : e->op == BLOCK_OP_WRITE ? OP_WRITE
            : e->op == BLOCK_OP_FLUSH ? OP_FLUSH
            : e->op == BLOCK_OP_ZERO  ? OP_ZERO
                                      : OP_TRIM;
    r->n = n;
    r->ext = e;
    r->off = e->off;
    r->len = e->op == BLOCK_OP_FLUSH ? 0 : len;
    r->iov = e->iov;
    r->niov = e->niov;
    r->flags = (write && e->fua ? LIBNBD_CMD_FLAG_FUA : 0u) |
               (e->op == BLOCK_OP_ZERO && !e->unmap ? LIBNBD_CMD_FLAG_NO_HOLE : 0u);
    post(n, r);
    return 0;
}

static int simple(struct nbd *n, enum op op, uint64_t off, const struct iovec *iov, int niov)
{
    struct request r = {
        .op = op, .off = off, .len = iov_bytes(iov, niov), .iov = iov, .niov = niov
    };

    return r.len ? wait_for(n, &r) : 0;
}

/* A request that does not begin or end with a block of the server: whole blocks through a buffer. */
static int widened(struct nbd *n, enum op op, uint64_t off, const struct iovec *iov, int niov)
{
    uint64_t len = iov_bytes(iov, niov), min = n->l.min, a = off - off % min;
    uint64_t end = off + len + (min - (off + len) % min) % min;
    struct iov_cursor c = { iov, niov, 0 };
    uint8_t *buf = malloc(PAYLOAD);
    int err = buf ? 0 : -ENOMEM;

    pthread_mutex_lock(&n->merge);
    while (!err && a < end) {
        uint64_t run = end - a < PAYLOAD ? end - a : PAYLOAD;
        uint64_t from = off > a ? off - a : 0;
        uint64_t to = off + len < a + run ? off + len - a : run;
        struct iovec v = { buf, run }, piece[IOV_SLICE];
        int np;

        memset(buf, 0, run);
        if (op == OP_READ || from || to < run)
            err = simple(n, OP_READ, a, &v, 1);
        while (!err && from < to) {
            size_t got = iov_take(&c, to - from, piece, &np);

            for (int i = 0; i < np; i++) {
                if (op == OP_READ)
                    memcpy(piece[i].iov_base, buf + from, piece[i].iov_len);
                else
                    memcpy(buf + from, piece[i].iov_base, piece[i].iov_len);
                from += piece[i].iov_len;
            }
            if (!got)
                break;
        }
        if (!err && op == OP_WRITE)
            err = simple(n, OP_WRITE, a, &v, 1);
        a += run;
    }
    pthread_mutex_unlock(&n->merge);
    free(buf);
    return err;
}

static int transfer(struct bfile *f, enum op op, const struct iovec *iov, int niov, uint64_t off)
{
    struct nbd *n = (struct nbd *)f;
    uint64_t len = iov_bytes(iov, niov);

    if (len > n->l.size || off > n->l.size - len)
        return -ENXIO; /* an export does not grow */
    return aligned(n, off, len) ? simple(n, op, off, iov, niov) : widened(n, op, off, iov, niov);
}

/* Up to the end, as a file. */
static ssize_t export_readv(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    uint64_t len = iov_bytes(iov, niov), size = ((struct nbd *)f)->l.size, got = 0;
    struct iov_cursor c = { iov, niov, 0 };
    struct iovec v[IOV_SLICE];
    int nv, err;

    if (off >= size)
        return 0;
    if (len <= size - off) {
        err = transfer(f, OP_READ, iov, niov, off);
        return err ? err : (ssize_t)len;
    }
    for (len = size - off; got < len;) {
        size_t n = iov_take(&c, len - got, v, &nv);

        err = transfer(f, OP_READ, v, nv, off + got);
        if (err)
            return err;
        got += n;
    }
    return (ssize_t)got;
}

static int export_writev(struct bfile *f, const struct iovec *iov, int niov, uint64_t off)
{
    return f->read_only ? -EROFS : transfer(f, OP_WRITE, iov, niov, off);
}

static int export_sync(struct bfile *f)
{
    struct request r = { .op = OP_FLUSH };

    /* a server without it has no cache that could be flushed */
    return ((struct nbd *)f)->l.flush ? wait_for((struct nbd *)f, &r) : 0;
}

static int export_truncate(struct bfile *f, uint64_t size)
{
    return size == ((struct nbd *)f)->l.size ? 0 : -EOPNOTSUPP;
}

static int export_size(struct bfile *f, uint64_t *ret)
{
    *ret = ((struct nbd *)f)->l.size;
    return 0;
}

static int export_zero(struct bfile *f, uint64_t off, uint64_t len, bool punch)
{
    struct nbd *n = (struct nbd *)f;
    struct request r = {
        .op = OP_ZERO, .off = off, .len = len, .flags = punch ? 0 : LIBNBD_CMD_FLAG_NO_HOLE
    };

    if (f->read_only)
        return -EROFS;
    if (len > n->l.size || off > n->l.size - len)
        return -ENXIO;
    return !n->l.zero || !aligned(n, off, len) ? -EOPNOTSUPP : len ? wait_for(n, &r) : 0;
}

static int export_allocate(struct bfile *f, uint64_t off, uint64_t len)
{
    (void)f;
    (void)off;
    (void)len;
    return -EOPNOTSUPP;
}

static int export_extent(struct bfile *f, uint64_t off, uint64_t len, bool *ret_data,
                         uint64_t *ret_len)
{
    struct nbd *n = (struct nbd *)f;
    uint64_t a = off - off % n->l.min, want;
    struct request r = { .op = OP_STATUS };

    *ret_data = true;
    *ret_len = len;
    if (!n->l.status || off >= n->l.size)
        return 0;
    want = n->l.size - a < RANGE ? n->l.size - a : RANGE;
    r.off = a;
    r.len = want - want % n->l.min;
    if (!r.len || wait_for(n, &r) || r.run <= off - a)
        return 0; /* cannot tell */
    *ret_data = !r.hole;
    r.run -= off - a;
    *ret_len = r.run < len ? r.run : len;
    return 0;
}

static void export_hurry(struct bfile *f, bool on)
{
    struct nbd *n = (struct nbd *)f;
    static const uint64_t one = 1;

    pthread_mutex_lock(&n->lock);
    n->hurry = on;
    if (write(n->wake, &one, sizeof(one)) < 0)
        n->hurry = on; /* the counter is full: it is awake */
    pthread_mutex_unlock(&n->lock);
}

static void export_free(struct nbd *n)
{
    if (n->wake >= 0)
        close(n->wake);
    pthread_cond_destroy(&n->cond);
    pthread_mutex_destroy(&n->merge);
    pthread_mutex_destroy(&n->lock);
    free(n->f.path);
    free(n);
}

static void export_file_close(struct bfile *f)
{
    struct nbd *n = (struct nbd *)f;

    pthread_mutex_lock(&n->lock);
    n->stop = true;
    pthread_mutex_unlock(&n->lock);
    export_hurry(f, true);
    pthread_join(n->thread, NULL);
    export_free(n);
}

static const struct bfile_ops export_ops = {
    .readv = export_readv,
    .writev = export_writev,
    .sync = export_sync,
    .truncate = export_truncate,
    .size = export_size,
    .zero = export_zero,
    .allocate = export_allocate,
    .extent = export_extent,
    .close = export_file_close,
    .submit = export_submit,
    .hurry = export_hurry,
};

int bfile_open_nbd(const char *uri, bool read_only, struct bfile **ret, struct diag *diag)
{
    struct nbd *n = calloc(1, sizeof(*n));
    sigset_t all, old;
    int err = 0;

    if (!n || !(n->f.path = strdup(uri))) {
        free(n);
        return diag_set(diag, -ENOMEM, "%s: no memory", uri);
    }
    n->f.ops = &export_ops;
    n->f.device = true;
    n->f.read_only = read_only;
    n->todo_tail = &n->todo;
    n->waiting_tail = &n->waiting;
    pthread_mutex_init(&n->lock, NULL);
    pthread_mutex_init(&n->merge, NULL);
    pthread_cond_init(&n->cond, NULL);
    n->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->wake < 0)
        err = -errno;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    if (!err)
        err = -pthread_create(&n->thread, NULL, export_main, n);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (err) {
        export_free(n);
        return diag_set(diag, err, "%s: %s", uri, strerror(-err));
    }
    pthread_setname_np(n->thread, "mobo-nbd");
    pthread_mutex_lock(&n->lock);
    while (!n->opened)
        pthread_cond_wait(&n->cond, &n->lock);
    err = n->open_err;
    pthread_mutex_unlock(&n->lock);
    if (err) {
        char why[sizeof(n->open_why)];

        pthread_join(n->thread, NULL);
        diag_quote(n->open_why, why, sizeof(why));
        if (!read_only && strcmp(n->open_why, "the export is read-only") == 0)
            err = -EROFS;
        export_free(n);
        return diag_set(diag, err, "%s: %s", uri, why);
    }
    n->f.logical = SECTOR;
    n->f.physical = n->l.min > SECTOR || n->l.preferred >= 4096 ? 4096 : SECTOR;
    *ret = &n->f;
    return 0;
}

#endif
