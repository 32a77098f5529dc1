/* SPDX-License-Identifier: BSD-2-Clause */
/* Network backend `user`: a private network behind this host's sockets, by libslirp.
 *
 * The guest's address is .15 of the network (by DHCP), the host .2, the name server .3.  Connections to .2
 * arrive on the host's loopback interface, all others go where the host can go.
 *
 * libslirp wants to be asked what to poll and told what is ready.  Its descriptors live in an epoll set
 * of ours, which is one event of the board's loop.  n->lock guards it; what it sends goes into the queue
 * for the device.  While that is long we do not poll: its sockets fill, and the peers slow down. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifdef HAVE_SLIRP
#include "core/backend/net_int.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <slirp/libslirp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

enum { ROUNDS = 8 };

struct user {
    Slirp *slirp;
    int epoll;
    struct event *ev_ready; /* something in the epoll set */
    struct event *ev_sync;  /* look what to poll; also its timeout */
    struct pollfd *fds;     /* what to poll, as libslirp said last */
    unsigned nfds, cap;
    uint32_t *have; /* by descriptor: events in the epoll set */
    int have_len;
    bool sync_active;
};

struct user_timer {
    struct event *ev;
    SlirpTimerCb cb;
    void *cb_ctx;
    struct vmb_net *n;
};

/* ---- what libslirp calls; n->lock is held --------------------------------------------------------- */

static ssize_t cb_send(const void *buf, size_t len, void *ctx)
{
    net_input(ctx, buf, len);
    return (ssize_t)len;
}

static void cb_error(const char *msg, void *ctx)
{
    (void)msg; /* what a guest does wrong fills no logs */
    (void)ctx;
}

static int64_t cb_clock(void *ctx)
{
    struct timespec ts;

    (void)ctx;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void on_timer(evutil_socket_t fd, short what, void *ctx)
{
    struct user_timer *t = ctx;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&t->n->lock);
    t->cb(t->cb_ctx);
    pthread_mutex_unlock(&t->n->lock);
}

static void *cb_timer_new(SlirpTimerCb cb, void *cb_ctx, void *ctx)
{
    struct vmb_net *n = ctx;
    struct user_timer *t = calloc(1, sizeof(*t));

    if (!t)
        return NULL;
    t->cb = cb;
    t->cb_ctx = cb_ctx;
    t->n = n;
    t->ev = event_new(n->base, -1, 0, on_timer, t);
    if (!t->ev) {
        free(t);
        return NULL;
    }
    return t;
}

static void cb_timer_free(void *timer, void *ctx)
{
    struct user_timer *t = timer;

    (void)ctx;
    if (!t)
        return;
    event_free(t->ev);
    free(t);
}

static void cb_timer_mod(void *timer, int64_t expire_ms, void *ctx)
{
    struct user_timer *t = timer;
    int64_t ms = expire_ms - cb_clock(ctx) / 1000000;
    struct timeval tv;

    if (!t)
        return;
    if (ms < 0)
        ms = 0;
    tv.tv_sec = ms / 1000;
    tv.tv_usec = ms % 1000 * 1000;
    event_add(t->ev, &tv);
}

/* A descriptor begins or ends: what the epoll set knew of its number is void. */
static void cb_fd(int fd, void *ctx)
{
    struct user *u = ((struct vmb_net *)ctx)->priv;

    if (fd >= 0 && fd < u->have_len && u->have[fd]) {
        epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
        u->have[fd] = 0;
    }
}

static void kick(struct vmb_net *n)
{
    struct user *u = n->priv;

    if (!u->sync_active)
        event_active(u->ev_sync, 0, 0);
    u->sync_active = true;
}

static void cb_notify(void *ctx)
{
    kick(ctx);
}

/* ---- polling -------------------------------------------------------------------------------------- */

static int add_poll(int fd, int events, void *ctx)
{
    struct user *u = ((struct vmb_net *)ctx)->priv;
    struct pollfd *p;

    if (u->nfds == u->cap) {
        unsigned cap = u->cap ? 2 * u->cap : 64;

        p = realloc(u->fds, cap * sizeof(*p));
        if (!p)
            return -1;
        u->fds = p;
        u->cap = cap;
    }
    p = &u->fds[u->nfds];
    p->fd = fd;
    p->revents = 0;
    p->events = (short)((events & SLIRP_POLL_IN ? POLLIN : 0) |
                        (events & SLIRP_POLL_OUT ? POLLOUT : 0) |
                        (events & SLIRP_POLL_PRI ? POLLPRI : 0));
    return (int)u->nfds++;
}

static int get_revents(int idx, void *ctx)
{
    struct user *u = ((struct vmb_net *)ctx)->priv;
    short r;

    if (idx < 0 || (unsigned)idx >= u->nfds)
        return 0;
    r = u->fds[idx].revents;
    return (r & POLLIN ? SLIRP_POLL_IN : 0) | (r & POLLOUT ? SLIRP_POLL_OUT : 0) |
           (r & POLLPRI ? SLIRP_POLL_PRI : 0) | (r & POLLERR ? SLIRP_POLL_ERR : 0) |
           (r & POLLHUP ? SLIRP_POLL_HUP : 0);
}

static uint32_t fill(struct vmb_net *n)
{
    struct user *u = n->priv;
    uint32_t timeout_ms = 60000;

    u->nfds = 0;
    slirp_pollfds_fill(u->slirp, &timeout_ms, add_poll, n);
    return timeout_ms;
}

static void set_epoll(struct user *u, int fd, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.fd = fd };

    if (fd >= u->have_len) {
        int len = (fd + 64) & ~63;
        uint32_t *more = realloc(u->have, (size_t)len * sizeof(*more));

        if (!more)
            return;
        memset(more + u->have_len, 0, (size_t)(len - u->have_len) * sizeof(*more));
        u->have = more;
        u->have_len = len;
    }
    if (u->have[fd] == events)
        return;
    if (!events)
        epoll_ctl(u->epoll, EPOLL_CTL_DEL, fd, NULL);
    else if (epoll_ctl(u->epoll, EPOLL_CTL_MOD, fd, &e) && errno == ENOENT)
        epoll_ctl(u->epoll, EPOLL_CTL_ADD, fd, &e);
    u->have[fd] = events;
}

/* Make the epoll set what libslirp wants. */
static void apply(struct user *u)
{
    for (int fd = 0; fd < u->have_len; fd++)
        if (u->have[fd]) {
            bool wanted = false;

            for (unsigned i = 0; i < u->nfds && !wanted; i++)
                wanted = u->fds[i].fd == fd && u->fds[i].events;
            if (!wanted)
                set_epoll(u, fd, 0);
        }
    for (unsigned i = 0; i < u->nfds; i++) {
        short e = u->fds[i].events;

        if (e)
            set_epoll(u, u->fds[i].fd,
                      (e & POLLIN ? EPOLLIN : 0u) | (e & POLLOUT ? EPOLLOUT : 0u) |
                          (e & POLLPRI ? EPOLLPRI : 0u));
    }
}

/* I/O thread: serve libslirp until nothing is ready, then wait for what it wants. */
static void serve(struct vmb_net *n)
{
    struct user *u = n->priv;
    uint32_t timeout_ms;
    struct timeval tv;

    pthread_mutex_lock(&n->lock);
    u->sync_active = false;
    timeout_ms = fill(n);
    for (unsigned round = 0; round < ROUNDS && n->queued < NET_QUEUE_HIGH; round++) {
        int ready = u->nfds ? poll(u->fds, u->nfds, 0) : 0;

        slirp_pollfds_poll(u->slirp, ready < 0, get_revents, n);
        timeout_ms = fill(n);
        if (ready <= 0)
            break;
    }
    apply(u);
    tv.tv_sec = timeout_ms / 1000;
    tv.tv_usec = timeout_ms % 1000 * 1000;
    if (!n->throttled)
        event_add(u->ev_sync, &tv);
    pthread_mutex_unlock(&n->lock);
}

static void on_ready(evutil_socket_t fd, short what, void *ctx)
{
    (void)fd;
    (void)what;
    serve(ctx);
}

static int user_send(struct vmb_net *n, const uint8_t *frame, size_t len)
{
    struct user *u = n->priv;

    slirp_input(u->slirp, frame, (int)len);
    kick(n);
    return 0;
}

static void user_throttle(struct vmb_net *n, bool on)
{
    struct user *u = n->priv;

    if (on) {
        event_del(u->ev_ready);
        event_del(u->ev_sync);
    } else {
        event_add(u->ev_ready, NULL);
        event_active(u->ev_sync, 0, 0);
    }
}

/* ---- keys ----------------------------------------------------------------------------------------- */

struct forward {
    bool udp;
    struct in_addr host, guest;
    uint16_t host_port, guest_port;
};

static bool parse_port(const char *text, size_t len, uint16_t *ret)
{
    unsigned v = 0;

    if (!len || len > 5)
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i]))
            return false;
        v = 10 * v + (unsigned)(text[i] - '0');
    }
    if (!v || v > 65535)
        return false;
    *ret = (uint16_t)v;
    return true;
}

/* [ADDRESS:]PORT */
static bool parse_end(const char *text, size_t len, struct in_addr *addr, uint16_t *port)
{
    const char *colon = memchr(text, ':', len);
    char a[INET_ADDRSTRLEN];

    if (!colon)
        return parse_port(text, len, port);
    if ((size_t)(colon - text) >= sizeof(a))
        return false;
    memcpy(a, text, (size_t)(colon - text));
    a[colon - text] = 0;
    return (!a[0] || inet_pton(AF_INET, a, addr) == 1) &&
           parse_port(colon + 1, len - (size_t)(colon - text) - 1, port);
}

/* One of the list: tcp:[HOST:]PORT-[GUEST:]PORT */
static bool parse_forward(const char *text, size_t len, struct forward *f)
{
    const char *dash = memchr(text, '-', len);

    if (len < 4 || !dash || (memcmp(text, "tcp:", 4) && memcmp(text, "udp:", 4)))
        return false;
    f->udp = text[0] == 'u';
    return dash >= text + 4 &&
           parse_end(text + 4, (size_t)(dash - text - 4), &f->host, &f->host_port) &&
           parse_end(dash + 1, len - (size_t)(dash - text) - 1, &f->guest, &f->guest_port);
}

static int add_forwards(Slirp *slirp, const char *list, struct in_addr guest, char *msg, size_t len)
{
    for (const char *p = list; p && *p;) {
        size_t n;
        struct forward f = { .host.s_addr = htonl(INADDR_LOOPBACK), .guest = guest };

        p += strspn(p, ", \t");
        n = strcspn(p, ", \t");
        if (!n)
            break;
        if (!parse_forward(p, n, &f)) {
            snprintf(msg, len, "hostfwd: '%.*s' is not tcp:[ADDRESS:]PORT-[ADDRESS:]PORT, or udp:...",
                     (int)n, p);
            return -EINVAL;
        }
        if (slirp && slirp_add_hostfwd(slirp, f.udp, f.host, f.host_port, f.guest, f.guest_port)) {
            int err = errno ? -errno : -EIO;

            snprintf(msg, len, "hostfwd: cannot listen at '%.*s': %s", (int)n, p, strerror(-err));
            return err;
        }
        p += n;
    }
    return 0;
}

/* A.B.C.D/BITS */
static int parse_network(const char *text, uint32_t *net, uint32_t *mask)
{
    char a[INET_ADDRSTRLEN];
    const char *slash = strchr(text, '/');
    struct in_addr addr;
    char *end;
    unsigned long bits;

    if (!slash || (size_t)(slash - text) >= sizeof(a) || !isdigit((unsigned char)slash[1]))
        return -EINVAL;
    memcpy(a, text, (size_t)(slash - text));
    a[slash - text] = 0;
    bits = strtoul(slash + 1, &end, 10);
    if (*end || bits < 8 || bits > 27 || inet_pton(AF_INET, a, &addr) != 1)
        return -EINVAL;
    *mask = ~0u << (32 - bits);
    *net = ntohl(addr.s_addr);
    return *net & ~*mask ? -EINVAL : 0;
}

/* ---- life ----------------------------------------------------------------------------------------- */

static void user_close(struct vmb_net *n)
{
    struct user *u = n->priv;

    if (u->slirp)
        slirp_cleanup(u->slirp);
    if (u->ev_ready)
        event_free(u->ev_ready);
    if (u->ev_sync)
        event_free(u->ev_sync);
    if (u->epoll >= 0)
        close(u->epoll);
    free(u->fds);
    free(u->have);
    free(u);
}

static int user_open(struct vmb_net *n, const struct vmb_net_config *cfg, const char *arg,
                     bool check_only, char *msg, size_t len)
{
    static const SlirpCb callbacks = {
        .send_packet = cb_send,
        .guest_error = cb_error,
        .clock_get_ns = cb_clock,
        .timer_new = cb_timer_new,
        .timer_free = cb_timer_free,
        .timer_mod = cb_timer_mod,
        .register_poll_fd = cb_fd,
        .unregister_poll_fd = cb_fd,
        .notify = cb_notify,
    };
    uint32_t net = 0x0a000200, mask = 0xffffff00;
    SlirpConfig c = { .version = 1, .in_enabled = true };
    struct in_addr guest;
    struct user *u;
    int err;

    (void)arg;
    if (cfg->network && parse_network(cfg->network, &net, &mask)) {
        snprintf(msg, len, "network: '%s' is not a network, as 10.0.2.0/24 (/8 to /27)",
                 cfg->network);
        return -EINVAL;
    }
    guest.s_addr = htonl(net + 15);
    if (check_only)
        return add_forwards(NULL, cfg->hostfwd, guest, msg, len);
    u = calloc(1, sizeof(*u));
    if (!u)
        return -ENOMEM;
    n->priv = u;
    u->epoll = epoll_create1(EPOLL_CLOEXEC);
    u->ev_sync = event_new(n->base, -1, 0, on_ready, n);
    u->ev_ready = u->epoll < 0 ? NULL
                               : event_new(n->base, u->epoll, EV_READ | EV_PERSIST, on_ready, n);
    if (!u->ev_ready || !u->ev_sync || event_add(u->ev_ready, NULL)) {
        user_close(n);
        return -ENOMEM;
    }
    c.restricted = cfg->restricted;
    c.vnetwork.s_addr = htonl(net);
    c.vnetmask.s_addr = htonl(mask);
    c.vhost.s_addr = htonl(net + 2);
    c.vnameserver.s_addr = htonl(net + 3);
    c.vdhcp_start = guest;
    c.vhostname = cfg->vm;
    c.in6_enabled = cfg->ipv6;
    inet_pton(AF_INET6, "fec0::", &c.vprefix_addr6);
    c.vprefix_len = 64;
    inet_pton(AF_INET6, "fec0::2", &c.vhost6);
    inet_pton(AF_INET6, "fec0::3", &c.vnameserver6);
    pthread_mutex_lock(&n->lock);
    u->slirp = slirp_new(&c, &callbacks, n);
    pthread_mutex_unlock(&n->lock);
    if (!u->slirp) {
        snprintf(msg, len, "libslirp does not start");
        user_close(n);
        return -ENOMEM;
    }
    err = add_forwards(u->slirp, cfg->hostfwd, guest, msg, len);
    if (err)
        user_close(n);
    else
        kick(n);
    return err;
}

const struct net_kind net_kind_user = { .name = "user",
                                        .open = user_open,
                                        .send = user_send,
                                        .throttle = user_throttle,
                                        .close = user_close };
#else
typedef int net_user_is_not_built; /* an empty file is not ISO C */
#endif
