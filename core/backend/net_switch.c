/* SPDX-License-Identifier: BSD-2-Clause */
/* Network backend `switch:PATH`: an Ethernet switch between VMs of this host.
 *
 * Whoever comes first holds the lock on PATH.lock and is the hub: it listens on the socket PATH, learns
 * who is where and forwards.  The others connect to it, a frame a message.  When the hub goes away one of
 * them takes its place. */
#include "core/backend/net_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    BATCH = 64,
    BUFFER = 4 << 20, /* of a socket */
    PORTS_MAX = 256,
    TABLE = 1024, /* a power of two */
    RETRY_MS = 200
};

struct port {
    struct port *next;
    struct vmb_net *n;
    int fd;
    struct event *ev_in;
};

struct sw {
    struct sockaddr_un addr;
    char lock_path[sizeof(((struct sockaddr_un *)0)->sun_path) + 8];
    int lock_fd;               /* held: we are the hub; -1 */
    int fd;                    /* listening or connected; -1 */
    struct event *ev_in, *ev_out, *ev_retry;
    struct port *ports; /* of the hub */
    unsigned nports;
    struct {
        uint8_t mac[6];
        bool used;
        struct port *port; /* NULL: this VM */
    } table[TABLE];
    uint8_t buf[NET_FRAME_MAX + 1];
};

static bool is_hub(const struct sw *s)
{
    return s->lock_fd >= 0 && s->fd >= 0;
}

/* ---- the hub ------------------------------------------------------------------------------------- */

static unsigned slot_of(const uint8_t mac[6])
{
    uint32_t h = 2166136261u;

    for (unsigned i = 0; i < 6; i++)
        h = (h ^ mac[i]) * 16777619u;
    return (h ^ h >> 16) & (TABLE - 1);
}

/* Forward a frame that came from @from, NULL: from this VM.  n->lock is held. */
static void forward(struct vmb_net *n, struct port *from, const uint8_t *frame, size_t len)
{
    struct sw *s = n->priv;
    unsigned i;

    if (!(frame[6] & 1)) {
        i = slot_of(frame + 6);
        memcpy(s->table[i].mac, frame + 6, 6);
        s->table[i].port = from;
        s->table[i].used = true;
    }
    i = slot_of(frame);
    if (!(frame[0] & 1) && s->table[i].used && !memcmp(s->table[i].mac, frame, 6)) {
        struct port *to = s->table[i].port;

        if (to == from)
            return;
        if (!to)
            net_input(n, frame, len);
        else
            send(to->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL); /* a slow port loses frames */
        return;
    }
    for (struct port *p = s->ports; p; p = p->next)
        if (p != from)
            send(p->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (from)
        net_input(n, frame, len);
}

/* n->lock is held; on the I/O thread. */
static void port_drop(struct port *p)
{
    struct vmb_net *n = p->n;
    struct sw *s = n->priv;

    for (struct port **at = &s->ports; *at; at = &(*at)->next)
        if (*at == p) {
            *at = p->next;
            break;
        }
    s->nports--;
    for (unsigned i = 0; i < TABLE; i++)
        if (s->table[i].used && s->table[i].port == p)
            s->table[i].used = false;
    event_free(p->ev_in);
    close(p->fd);
    free(p);
}

static void on_port(evutil_socket_t fd, short what, void *ctx)
{
    struct port *p = ctx;
    struct vmb_net *n = p->n;
    struct sw *s = n->priv;

    (void)what;
    pthread_mutex_lock(&n->lock);
    for (unsigned i = 0; i < BATCH; i++) {
        ssize_t len = recv(fd, s->buf, sizeof(s->buf), MSG_DONTWAIT);

        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (len <= 0) {
            port_drop(p);
            break;
        }
        if (len >= NET_FRAME_MIN && len <= NET_FRAME_MAX)
            forward(n, p, s->buf, (size_t)len);
    }
    pthread_mutex_unlock(&n->lock);
}

static void widen(int fd)
{
    int room = BUFFER;

    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
}

static void on_accept(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;
    struct sw *s = n->priv;
    int peer = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct port *p;

    (void)what;
    if (peer < 0)
        return;
    pthread_mutex_lock(&n->lock);
    p = s->nports < PORTS_MAX ? calloc(1, sizeof(*p)) : NULL;
    if (p) {
        p->n = n;
        p->fd = peer;
        p->ev_in = event_new(n->base, peer, EV_READ | EV_PERSIST, on_port, p);
    }
    if (!p || !p->ev_in || event_add(p->ev_in, NULL)) {
        if (p && p->ev_in)
            event_free(p->ev_in);
        free(p);
        close(peer);
    } else {
        widen(peer);
        p->next = s->ports;
        s->ports = p;
        s->nports++;
    }
    pthread_mutex_unlock(&n->lock);
}

/* ---- a port of another's hub --------------------------------------------------------------------- */

static void later(struct sw *s)
{
    static const struct timeval tv = { 0, RETRY_MS * 1000 };

    event_add(s->ev_retry, &tv);
}

/* n->lock is held; on the I/O thread. */
static void hang_up(struct vmb_net *n)
{
    struct sw *s = n->priv;

    event_del_noblock(s->ev_in);
    event_del_noblock(s->ev_out);
    close(s->fd);
    s->fd = -1;
    net_tell(n, MOBO_NET_DOWN);
    net_writable(n);
    later(s);
}

static void on_hub(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;
    struct sw *s = n->priv;

    (void)what;
    pthread_mutex_lock(&n->lock);
    for (unsigned i = 0; i < BATCH && s->fd == fd && n->queued < NET_QUEUE_HIGH; i++) {
        ssize_t len = recv(fd, s->buf, sizeof(s->buf), MSG_DONTWAIT);

        if (len < 0 && (errno == EAGAIN || errno == EINTR))
            break;
        if (len <= 0) {
            hang_up(n);
            break;
        }
        net_input(n, s->buf, (size_t)len);
    }
    pthread_mutex_unlock(&n->lock);
}

static void on_out(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&n->lock);
    net_writable(n);
    pthread_mutex_unlock(&n->lock);
}

static int switch_send(struct vmb_net *n, const uint8_t *frame, size_t len)
{
    struct sw *s = n->priv;

    if (is_hub(s)) {
        forward(n, NULL, frame, len);
    } else if (s->fd >= 0 && send(s->fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
               (errno == EAGAIN || errno == ENOBUFS)) {
        event_add(s->ev_out, NULL);
        return -EAGAIN;
    }
    return 0;
}

static void switch_throttle(struct vmb_net *n, bool on)
{
    struct sw *s = n->priv;

    if (s->lock_fd >= 0 || s->fd < 0)
        return; /* a hub reads on for the others */
    if (on)
        event_del(s->ev_in);
    else
        event_add(s->ev_in, NULL);
}

/* ---- who is the hub ------------------------------------------------------------------------------- */

/* @return 0: we are; -EAGAIN: somebody else is; another -errno. */
static int become_hub(struct sw *s)
{
    int err;

    s->lock_fd = open(s->lock_path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (s->lock_fd < 0)
        return -errno;
    if (flock(s->lock_fd, LOCK_EX | LOCK_NB)) {
        err = errno == EWOULDBLOCK ? -EAGAIN : -errno;
        goto fail;
    }
    unlink(s->addr.sun_path); /* nobody listens there: we have the lock */
    s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0 || bind(s->fd, (struct sockaddr *)&s->addr, sizeof(s->addr)) || chmod(s->addr.sun_path, 0600) ||
        listen(s->fd, 16)) {
        err = -errno;
        if (s->fd >= 0)
            close(s->fd);
        s->fd = -1;
        goto fail;
    }
    return 0;
fail:
    close(s->lock_fd);
    s->lock_fd = -1;
    return err;
}

static int join(struct sw *s)
{
    int err;

    s->fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0)
        return -errno;
    if (connect(s->fd, (struct sockaddr *)&s->addr, sizeof(s->addr)) == 0) {
        widen(s->fd);
        return 0;
    }
    err = -errno;
    close(s->fd);
    s->fd = -1;
    return err;
}

/* n->lock is held.  @return 0: part of the switch; -EAGAIN: try again soon; another -errno. */
static int attach(struct vmb_net *n)
{
    struct sw *s = n->priv;
    int err = become_hub(s);

    if (err == -EAGAIN) {
        err = join(s);
        if (err)
            return err == -ECONNREFUSED || err == -ENOENT || err == -EAGAIN ? -EAGAIN : err;
    }
    if (err)
        return err;
    event_assign(s->ev_in, n->base, s->fd, EV_READ | EV_PERSIST, is_hub(s) ? on_accept : on_hub, n);
    event_assign(s->ev_out, n->base, s->fd, EV_WRITE, on_out, n);
    return event_add(s->ev_in, NULL) ? -ENOMEM : 0;
}

static void on_retry(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;
    struct sw *s = n->priv;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&n->lock);
    if (s->fd < 0) {
        if (attach(n))
            later(s);
        else
            net_tell(n, MOBO_NET_UP);
    }
    pthread_mutex_unlock(&n->lock);
}

static void switch_close(struct vmb_net *n)
{
    struct sw *s = n->priv;

    while (s->ports)
        port_drop(s->ports);
    if (s->ev_in)
        event_free(s->ev_in);
    if (s->ev_out)
        event_free(s->ev_out);
    if (s->ev_retry)
        event_free(s->ev_retry);
    if (is_hub(s))
        unlink(s->addr.sun_path);
    if (s->fd >= 0)
        close(s->fd);
    if (s->lock_fd >= 0)
        close(s->lock_fd); /* the file stays: another may hold it open already */
    free(s);
}

static int switch_open(struct vmb_net *n, const struct vmb_net_config *cfg, const char *arg,
                       bool check_only, char *msg, size_t len)
{
    struct sw *s = calloc(1, sizeof(*s));
    bool relative = arg[0] != '/' && n->base_dir;
    int err = 0;

    (void)cfg;
    if (!s)
        return -ENOMEM;
    s->lock_fd = s->fd = -1;
    s->addr.sun_family = AF_UNIX;
    if (snprintf(s->addr.sun_path, sizeof(s->addr.sun_path), "%s%s%s", relative ? n->base_dir : "",
                 relative ? "/" : "", arg) >= (int)sizeof(s->addr.sun_path)) {
        snprintf(msg, len, "the socket's name is longer than %zu characters",
                 sizeof(s->addr.sun_path) - 1);
        free(s);
        return -EINVAL;
    }
    if (check_only) {
        free(s);
        return 0;
    }
    snprintf(s->lock_path, sizeof(s->lock_path), "%s.lock", s->addr.sun_path);
    n->priv = s;
    s->ev_in = event_new(n->base, -1, 0, on_hub, n);
    s->ev_out = event_new(n->base, -1, 0, on_out, n);
    s->ev_retry = event_new(n->base, -1, 0, on_retry, n);
    err = s->ev_in && s->ev_out && s->ev_retry ? attach(n) : -ENOMEM;
    if (err == -EAGAIN) { /* the hub is just coming or going */
        later(s);
        n->events |= 1u << MOBO_NET_DOWN;
        return 0;
    }
    if (err) {
        snprintf(msg, len, "cannot join the switch at %s: %s", s->addr.sun_path, strerror(-err));
        switch_close(n);
    }
    return err;
}

const struct net_kind net_kind_switch = { .name = "switch",
                                          .has_arg = true,
                                          .open = switch_open,
                                          .send = switch_send,
                                          .throttle = switch_throttle,
                                          .close = switch_close };
