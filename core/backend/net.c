/* SPDX-License-Identifier: BSD-2-Clause */
/* Network backends: what all kinds share.  Frames for the device wait in a queue until the I/O thread
 * delivers them; a device that takes none stops the kind's reading, so nothing grows without end.
 * Captures are files of the classic pcap format (draft-ietf-opsawg-pcap). */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "core/backend/net_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { DELIVER_MAX = 256, FLUSH_MS = 250 };

/* ---- capture ------------------------------------------------------------------------------------- */

static int pcap_open(struct vmb_net *n, const char *path, char *msg, size_t len)
{
    static const struct {
        uint32_t magic;
        uint16_t major, minor;
        uint32_t zone, sigfigs, snaplen, linktype;
    } head = { 0xa1b23c4d, 2, 4, 0, 0, 262144, 1 }; /* nanoseconds; Ethernet */
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    n->pcap = fd < 0 ? NULL : fdopen(fd, "wb");
    if (!n->pcap || fwrite(&head, sizeof(head), 1, n->pcap) != 1 || fflush(n->pcap)) {
        int err = -errno;

        if (!n->pcap && fd >= 0)
            close(fd);
        snprintf(msg, len, "cannot write the capture file %s: %s", path, strerror(-err));
        return err ? err : -EIO;
    }
    return 0;
}

/* n->lock is held. */
static void capture(struct vmb_net *n, const uint8_t *frame, size_t len)
{
    static const struct timeval later = { 0, FLUSH_MS * 1000 };
    struct timespec ts;
    struct {
        uint32_t sec, nsec, len, orig_len;
    } head;

    if (!n->pcap)
        return;
    clock_gettime(CLOCK_REALTIME, &ts);
    head.sec = (uint32_t)ts.tv_sec;
    head.nsec = (uint32_t)ts.tv_nsec;
    head.len = head.orig_len = (uint32_t)len;
    fwrite(&head, sizeof(head), 1, n->pcap);
    fwrite(frame, len, 1, n->pcap);
    if (ferror(n->pcap)) { /* the disk is full, say: the network goes on */
        fprintf(stderr, "mobo: the capture file cannot be written: capture ends\n");
        fclose(n->pcap);
        n->pcap = NULL;
        return;
    }
    if (!n->dirty)
        event_add(n->ev_flush, &later);
    n->dirty = true;
}

static void on_flush(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&n->lock);
    n->dirty = false;
    if (n->pcap)
        fflush(n->pcap);
    pthread_mutex_unlock(&n->lock);
}

/* ---- to the device ------------------------------------------------------------------------------- */

void net_tell(struct vmb_net *n, unsigned event)
{
    if (event == MOBO_NET_UP || event == MOBO_NET_DOWN) /* the last one counts */
        n->events &= ~(1u << MOBO_NET_UP | 1u << MOBO_NET_DOWN);
    n->events |= 1u << event;
    event_active(n->ev_deliver, 0, 0);
}

void net_writable(struct vmb_net *n)
{
    if (!n->starved)
        return;
    n->starved = false;
    net_tell(n, MOBO_NET_WRITABLE);
}

void net_input(struct vmb_net *n, const uint8_t *frame, size_t len)
{
    struct net_frame *f;
    bool high;

    if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
        return;
    capture(n, frame, len);
    if (n->queued >= NET_QUEUE_FULL || !(f = malloc(sizeof(*f) + len))) {
        n->lost++;
        return;
    }
    f->next = NULL;
    f->len = (uint32_t)len;
    memcpy(f->data, frame, len);
    *n->tail = f;
    n->tail = &f->next;
    high = n->queued < NET_QUEUE_HIGH && n->queued + len >= NET_QUEUE_HIGH;
    if (high || (!n->queued && !n->device_full)) /* a full device has to stop the kind, too */
        event_active(n->ev_deliver, 0, 0);
    n->queued += len;
}

static void throttle(struct vmb_net *n, bool on)
{
    if (n->throttled == on || !n->kind->throttle)
        return;
    n->throttled = on;
    pthread_mutex_unlock(&n->lock);
    n->kind->throttle(n, on);
    pthread_mutex_lock(&n->lock);
}

static void on_deliver(evutil_socket_t fd, short what, void *ctx)
{
    struct vmb_net *n = ctx;
    unsigned left = DELIVER_MAX, events;

    (void)fd;
    (void)what;
    pthread_mutex_lock(&n->lock);
    events = n->events;
    n->events = 0;
    for (unsigned e = 0; events >> e; e++)
        if (events >> e & 1) {
            pthread_mutex_unlock(&n->lock);
            n->sink->event(n->dev, e);
            pthread_mutex_lock(&n->lock);
        }
    while (n->head && left--) {
        struct net_frame *f = n->head;
        int taken;

        n->device_full = true; /* net_ready() between the answer and the lock clears it */
        pthread_mutex_unlock(&n->lock);
        taken = n->sink->receive(n->dev, f->data, f->len);
        pthread_mutex_lock(&n->lock);
        if (!taken) {
            if (n->device_full)
                break;
            continue;
        }
        n->device_full = false;
        n->head = f->next; /* only this thread takes frames out */
        if (!n->head)
            n->tail = &n->head;
        n->queued -= f->len;
        free(f);
    }
    if (n->head && !n->device_full)
        event_active(n->ev_deliver, 0, 0); /* others have their turn first */
    if (n->queued >= NET_QUEUE_HIGH)
        throttle(n, true);
    else if (n->queued <= NET_QUEUE_LOW)
        throttle(n, false);
    pthread_mutex_unlock(&n->lock);
}

void netb_ready(struct vmb_net *n)
{
    pthread_mutex_lock(&n->lock);
    n->device_full = false;
    if (n->head || n->throttled)
        event_active(n->ev_deliver, 0, 0);
    pthread_mutex_unlock(&n->lock);
}

/* ---- from the device ----------------------------------------------------------------------------- */

int netb_send(struct vmb_net *n, const struct mobo_iov *iov, unsigned niov, size_t len)
{
    const uint8_t *frame;
    int err = 0;

    if (len < NET_FRAME_MIN || len > NET_FRAME_MAX)
        return len > NET_FRAME_MAX ? -EMSGSIZE : 0;
    pthread_mutex_lock(&n->lock);
    if (niov == 1) {
        frame = iov[0].base;
    } else {
        size_t at = 0;

        for (unsigned i = 0; i < niov; i++) {
            memcpy(n->flat + at, iov[i].base, iov[i].len);
            at += iov[i].len;
        }
        frame = n->flat;
    }
    if (n->kind)
        err = n->kind->send(n, frame, len);
    if (!err)
        capture(n, frame, len);
    else if (err == -EAGAIN)
        n->starved = true;
    pthread_mutex_unlock(&n->lock);
    return err;
}

/* ---- opening ------------------------------------------------------------------------------------- */

static int null_send(struct vmb_net *n, const uint8_t *frame, size_t len)
{
    (void)n;
    (void)frame;
    (void)len;
    return 0;
}

static const struct net_kind net_kind_null = { .name = "null", .send = null_send };

static const struct net_kind *const kinds[] = {
#ifdef HAVE_SLIRP
    &net_kind_user,
#endif
    &net_kind_tap,
    &net_kind_switch,
    &net_kind_null,
};

static const struct net_kind *kind_of(const char *spec, const char **ret_arg, char *msg, size_t len)
{
    const char *colon = strchr(spec, ':');
    size_t n = colon ? (size_t)(colon - spec) : strlen(spec);

    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        const struct net_kind *k = kinds[i];

        if (strlen(k->name) != n || memcmp(k->name, spec, n))
            continue;
        if (k->has_arg != (colon && colon[1])) {
            snprintf(msg, len, k->has_arg ? "'%s' wants '%s:' and what it is" :
                                            "'%s': nothing follows '%s'", spec, k->name);
            return NULL;
        }
        *ret_arg = colon ? colon + 1 : NULL;
        return k;
    }
#ifndef HAVE_SLIRP
    if (n == 4 && !memcmp(spec, "user", 4)) {
        snprintf(msg, len, "'user': this mobo was built without libslirp");
        return NULL;
    }
#endif
    snprintf(msg, len, "'%s' is not a network: user, tap:NAME, switch:PATH or null", spec);
    return NULL;
}

int netb_open(const char *base_dir, struct event_base *base, const struct vmb_net_config *cfg,
              bool check_only, const struct vmb_net_sink *sink, void *dev, struct vmb_net **ret,
              struct mobo_net_info *info, char *msg, size_t msg_len)
{
    const char *arg;
    const struct net_kind *k = kind_of(cfg->spec, &arg, msg, msg_len);
    bool user = k && !strcmp(k->name, "user");
    struct vmb_net *n;
    int err = 0;

    if (!k)
        return -EINVAL;
    if (!user && (cfg->hostfwd || cfg->network || cfg->ipv6 || cfg->restricted)) {
        snprintf(msg, msg_len, "%s goes with a 'user' network only, not with '%s'",
                 cfg->hostfwd ? "hostfwd" : cfg->network ? "network" : cfg->ipv6 ? "ipv6" : "restrict",
                 cfg->spec);
        return -EINVAL;
    }
    n = calloc(1, sizeof(*n));
    if (!n)
        return -ENOMEM;
    n->base_dir = base_dir;
    n->sink = sink;
    n->dev = dev;
    n->base = base;
    n->tail = &n->head;
    pthread_mutex_init(&n->lock, NULL);
    info->up = 1;
    info->max_frame = NET_FRAME_MAX;
    info->max_tcp = user ? NET_FRAME_MAX : 0;
    if (!check_only) {
        n->flat = malloc(NET_FRAME_MAX);
        n->ev_deliver = event_new(base, -1, 0, on_deliver, n);
        n->ev_flush = event_new(base, -1, 0, on_flush, n);
        if (!n->flat || !n->ev_deliver || !n->ev_flush)
            err = -ENOMEM;
        if (!err && cfg->pcap)
            err = pcap_open(n, cfg->pcap, msg, msg_len);
    }
    if (!err && k->open)
        err = k->open(n, cfg, arg, check_only, msg, msg_len);
    if (!err && !check_only) {
        n->kind = k;
        if (n->events & 1u << MOBO_NET_DOWN) {
            n->events = 0;
            info->up = 0;
        }
        *ret = n;
        return 0;
    }
    netb_close(n);
    return err;
}

void netb_close(struct vmb_net *n)
{
    if (!n)
        return;
    if (n->kind && n->kind->close)
        n->kind->close(n);
    while (n->head) {
        struct net_frame *f = n->head;

        n->head = f->next;
        free(f);
    }
    if (n->ev_deliver)
        event_free(n->ev_deliver);
    if (n->ev_flush)
        event_free(n->ev_flush);
    if (n->pcap)
        fclose(n->pcap);
    pthread_mutex_destroy(&n->lock);
    free(n->flat);
    free(n);
}
