/* SPDX-License-Identifier: BSD-2-Clause */
/* Network backend `tap:NAME`: a TAP interface of the host (Linux, Documentation/networking/tuntap.rst).
 * It is made when it is not there, which needs CAP_NET_ADMIN; one made for this user before does not. */
#include "core/backend/net_int.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { BATCH = 64 };

struct tap {
    int fd;
    struct event *ev_in, *ev_out;
    uint8_t buf[NET_FRAME_MAX];
};

static void on_in(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;
    struct tap *t = n->priv;

    (void)what;
    pthread_mutex_lock(&n->lock);
    for (unsigned i = 0; i < BATCH && n->queued < NET_QUEUE_HIGH; i++) {
        ssize_t len = read(fd, t->buf, sizeof(t->buf));

        if (len < 0 && errno != EAGAIN && errno != EINTR) { /* the interface was deleted */
            event_del_noblock(t->ev_in);
            net_tell(n, MOBO_NET_DOWN);
        }
        if (len <= 0)
            break;
        net_input(n, t->buf, (size_t)len);
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

static int tap_send(struct vmb_net *n, const uint8_t *frame, size_t len)
{
    struct tap *t = n->priv;

    if (write(t->fd, frame, len) < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
        event_add(t->ev_out, NULL);
        return -EAGAIN;
    }
    return 0; /* what else fails is lost: the interface is down, say */
}

static void tap_throttle(struct vmb_net *n, bool on)
{
    struct tap *t = n->priv;

    if (on)
        event_del(t->ev_in);
    else
        event_add(t->ev_in, NULL);
}

static void tap_close(struct vmb_net *n)
{
    struct tap *t = n->priv;

    if (t->ev_in)
        event_free(t->ev_in);
    if (t->ev_out)
        event_free(t->ev_out);
    if (t->fd >= 0)
        close(t->fd);
    free(t);
}

static int tap_open(struct vmb_net *n, const struct vmb_net_config *cfg, const char *arg,
                    bool check_only, char *msg, size_t len)
{
    struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI };
    struct tap *t;

    (void)cfg;
    if (strlen(arg) >= sizeof(ifr.ifr_name) || strchr(arg, '/')) {
        snprintf(msg, len, "'%s' is not the name of an interface", arg);
        return -EINVAL;
    }
    if (check_only)
        return 0;
    t = calloc(1, sizeof(*t));
    if (!t)
        return -ENOMEM;
    n->priv = t;
    strcpy(ifr.ifr_name, arg);
    t->fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    if (t->fd < 0 || ioctl(t->fd, TUNSETIFF, &ifr) < 0) {
        int err = -errno;

        snprintf(msg, len, "cannot open the TAP interface %s: %s%s", arg, strerror(-err),
                 err == -EPERM ? " (make it for this user first: ip tuntap add ... user ...)" : "");
        tap_close(n);
        return err;
    }
    t->ev_in = event_new(n->base, t->fd, EV_READ | EV_PERSIST, on_in, n);
    t->ev_out = event_new(n->base, t->fd, EV_WRITE, on_out, n);
    if (!t->ev_in || !t->ev_out || event_add(t->ev_in, NULL)) {
        tap_close(n);
        return -ENOMEM;
    }
    return 0;
}

const struct net_kind net_kind_tap = { .name = "tap",
                                       .has_arg = true,
                                       .open = tap_open,
                                       .send = tap_send,
                                       .throttle = tap_throttle,
                                       .close = tap_close };
