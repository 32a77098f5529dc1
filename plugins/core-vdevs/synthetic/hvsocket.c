/* SPDX-License-Identifier: BSD-2-Clause */
/* Stream sockets between guest and host: the guest's AF_VSOCK over Hyper-V sockets, Unix sockets here.
 *
 * Each connection is a VMBus channel of its own in pipe mode.  Its class is the service that is connected and
 * its instance the side that connects, both port numbers in a fixed GUID.  A packet carries u32 type 1,
 * u32 length, data; length 0 says that no more comes.  The guest lets go of a connection only when the host takes
 * the channel back, so that is done as soon as both sides have ended.  Linux up to 5.1 then throws
 * away what its program has not read (a9eeb998c28d), so that the host's length 0 is sent only once
 * the guest has read all before it.  Facts: Linux, net/vmw_vsock/hyperv_transport.c.
 *
 * From the host: connect to PATH, write "CONNECT PORT\n", read "OK PORT\n" once the guest has accepted.
 * From the guest: its connection to PORT of the host (CID 2) goes to the Unix socket PATH_PORT. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <mobo/vdev.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "wire.h"

enum {
    HEADER = 8,
    CHUNK = 4088, /* a page with the header, as the guest cuts its data */
    MTU = 16384,  /* the most that a packet may carry, either way */
    BURST = 64,   /* packets of one connection before others have their turn */
    COMMAND_MAX = 32,
    MAX_CONNECTIONS = 1024
};
#define SECOND         1000000000ull
#define STATUS_REFUSED 0xc0000236u
#define STATUS_LACK    0xc000009au /* insufficient resources */

enum phase { COMMAND, OFFERED, OPEN };

struct conn {
    struct conn *next, *prev;
    struct hvsocket *h;
    int fd;
    mobo_watch_t watch;
    mobo_vmbus_t ch;      /* NULL: not offered yet */
    uint32_t phase, port; /* enum phase */
    int from_host;
    int host_end;      /* the host's side sends no more */
    int fin_sent;      /* and the guest knows */
    int guest_end;     /* the guest sends no more */
    int host_gone;     /* nobody takes what the guest sends */
    uint64_t deadline; /* COMMAND, OFFERED: guest time */
    uint8_t instance[16];
    char command[COMMAND_MAX];
    uint32_t command_len;
    uint8_t out[CHUNK]; /* to the guest, not sent yet */
    uint32_t out_len, out_off, piece;
    uint64_t stuck; /* guest time since when the guest has to read first, 0: it does not */
    uint8_t *back;  /* owned: to the host, not taken yet */
    uint32_t back_len, back_off;
};

struct hvsocket {
    struct mobo_vdev *dev;
    const struct mobo_host *host;
    const char *path;
    uint64_t timeout_ns;
    uint32_t max;
    int fd; /* listens at path, -1 */
    mobo_watch_t watch;
    mobo_timer_t timer;
    struct conn *conns;
    uint32_t count;
    int posted; /* go_on() is on its way */
    uint8_t packet[HEADER + CHUNK];
    struct {
        uint32_t next_port; /* of the host's side, for connections from there */
        uint64_t from_host, from_guest, refused, to_guest_bytes, to_host_bytes;
    } s;
};

static const uint8_t template[12] = { 0xcb, 0xfa, 0xe6, 0x11, 0xbd, 0x58,
                                      0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3 };

static void service_id(uint8_t id[16], uint32_t port)
{
    wire_put(id, port, 4);
    memcpy(id + 4, template, sizeof(template));
}

static int is_service(const uint8_t id[16])
{
    return !memcmp(id + 4, template, sizeof(template));
}

/* ---- a connection's life ----------------------------------------------------------------------------------- */

static void drop(struct conn *c)
{
    struct hvsocket *h = c->h;

    h->host->fd_unwatch(c->watch);
    close(c->fd);
    if (c->ch)
        h->host->vmbus_rescind(c->ch);
    if (c->prev)
        c->prev->next = c->next;
    else
        h->conns = c->next;
    if (c->next)
        c->next->prev = c->prev;
    h->count--;
    free(c->back);
    free(c);
}

static void drop_all(struct hvsocket *h)
{
    for (struct conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        drop(c);
    }
}

/* What the descriptor is watched for follows from what may move. */
static void watch(struct conn *c)
{
    uint32_t events = 0;

    if (c->phase == COMMAND || (c->phase == OPEN && !c->host_end && !c->out_len))
        events |= MOBO_WATCH_READ;
    if (c->back_len)
        events |= MOBO_WATCH_WRITE;
    c->h->host->fd_watch_set(c->watch, events);
}

/* The other program has closed its socket, not only its sending half. */
static int hung_up(const struct conn *c)
{
    struct pollfd p = { c->fd, 0, 0 };

    return poll(&p, 1, 0) > 0 && (p.revents & (POLLHUP | POLLERR));
}

/* Both are done: take the channel back.  @return 1: *@c is no more. */
static int finished(struct conn *c)
{
    if (c->host_gone) {
        free(c->back);
        c->back = NULL;
        c->back_len = 0;
    }
    if (!c->fin_sent || c->back_len || !(c->guest_end || c->host_gone))
        return 0;
    drop(c);
    return 1;
}

/* Runs once a second while it has something to see to: what takes too long, who hung up silently. */
static void look_around(void *ctx, uint64_t now)
{
    struct hvsocket *h = ctx;

    for (struct conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        if (c->phase != OPEN) {
            /* Even when the client is gone, a channel that the guest has not opened is left to it until then:
             * drivers have crashed over an offer and its end in quick succession. */
            if (now < c->deadline)
                continue;
            h->s.refused++;
            drop(c);
        } else if (c->stuck && now - c->stuck >= h->timeout_ns &&
                   (c->guest_end || (c->host_gone && !c->out_len))) {
            drop(c); /* the guest closed its socket, or leaves it, with unread data in it */
        } else if (c->host_end && !c->host_gone && hung_up(c)) {
            c->host_gone = 1;
            c->stuck = c->stuck ? now | 1 : 0; /* the guest has as long from now on */
            if (!finished(c))
                watch(c);
        }
    }
    if (h->conns)
        h->host->timer_set(h->timer, now + SECOND);
}

static struct conn *conn_new(struct hvsocket *h, int fd, void (*ready)(void *, int, uint32_t))
{
    struct conn *c = h->count < h->max ? calloc(1, sizeof(*c)) : NULL;

    if (!c)
        return NULL;
    c->h = h;
    c->fd = fd;
    c->piece = CHUNK;
    c->deadline = h->host->clock_ns(h->dev) + h->timeout_ns;
    if (h->host->fd_watch(h->dev, fd, 0, ready, c, &c->watch)) {
        free(c);
        return NULL;
    }
    c->next = h->conns;
    if (c->next)
        c->next->prev = c;
    h->conns = c;
    h->count++;
    if (h->count == 1)
        h->host->timer_set(h->timer, h->host->clock_ns(h->dev) + SECOND);
    return c;
}

static void go_on(void *ctx);

/* ---- data -------------------------------------------------------------------------------------------------- */

/* Go on with all soon, after others had their turn. */
static void again(struct hvsocket *h)
{
    if (!h->posted && !h->host->work_post(h->dev, go_on, h))
        h->posted = 1;
}

enum { SENT, FULL, GONE, TOO_LONG };

static int send_packet(struct conn *c, const uint8_t *data, uint32_t len)
{
    struct hvsocket *h = c->h;
    int err;

    wire_put(h->packet, 1, 4);
    wire_put(h->packet + 4, len, 4);
    if (len)
        memcpy(h->packet + HEADER, data, len);
    err = h->host->vmbus_send(c->ch, MOBO_VMBUS_INBAND, len ? 0 : MOBO_VMBUS_ALONE, 0, NULL, 0,
                              h->packet, HEADER + len);
    return err == -EAGAIN ? FULL : err == -EMSGSIZE ? TOO_LONG : err ? GONE : SENT;
}

/* @return 1: the channel is no more; close() follows. */
static int to_guest(struct conn *c)
{
    for (unsigned n = 0; n < BURST && !c->fin_sent; n++) {
        uint32_t len;
        int st;

        if (!c->out_len && !c->host_end) {
            ssize_t got = recv(c->fd, c->out, CHUNK, MSG_DONTWAIT);

            if (got < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
            c->out_len = got > 0 ? (uint32_t)got : 0;
            c->out_off = 0;
            c->host_end = got <= 0;
            c->host_gone = c->host_gone || got < 0 || (!got && hung_up(c));
        }
        len = c->out_len < c->piece ? c->out_len : c->piece;
        st = send_packet(c, c->out + c->out_off, len);
        if (st == TOO_LONG && len > 8) { /* a tiny ring */
            c->piece = len / 2;
            continue;
        }
        if (st == TOO_LONG)
            c->h->host->vmbus_fault(c->ch, "its ring holds no packet");
        if (st == FULL && !c->stuck)
            c->stuck = c->h->host->clock_ns(c->h->dev) | 1;
        if (st)
            return st != FULL;
        c->stuck = 0;
        c->h->s.to_guest_bytes += len;
        c->out_off += len;
        c->out_len -= len;
        if (!len)
            c->fin_sent = 1;
    }
    if (c->out_len)
        again(c->h);
    return 0;
}

/* @return bytes that the host took. */
static uint32_t host_write(struct conn *c, const uint8_t *data, uint32_t len)
{
    ssize_t n = c->host_gone ? (ssize_t)len : send(c->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN && errno != EINTR) {
        c->host_gone = c->host_end = 1;
        n = len;
    }
    return n > 0 ? (uint32_t)n : 0;
}

/* @return 1: the guest broke the protocol; close() follows. */
static int to_host(struct conn *c)
{
    struct mobo_vmbus_packet p = { .size = sizeof(p) };
    struct hvsocket *h = c->h;

    for (unsigned n = 0; n < BURST; n++) {
        uint32_t len, took;

        if (c->back_len) {
            took = host_write(c, c->back + c->back_off, c->back_len);
            c->back_off += took;
            c->back_len -= took;
            if (c->back_len)
                return 0;
            free(c->back);
            c->back = NULL;
        }
        if (h->host->vmbus_receive(c->ch, &p))
            return 0;
        if (p.type != MOBO_VMBUS_INBAND || p.len < HEADER || wire_get(p.data, 4) != 1) {
            h->host->vmbus_fault(c->ch, "not a packet of a socket");
            return 1;
        }
        len = (uint32_t)wire_get(p.data + 4, 4);
        if (len > p.len - HEADER || len > MTU || (c->guest_end && len)) {
            h->host->vmbus_fault(c->ch, c->guest_end ? "data after the end"
                                                     : "a packet's length is wrong");
            return 1;
        }
        if (!len) {
            if (!c->guest_end) {
                shutdown(c->fd, SHUT_WR);
                c->stuck = 0;
            }
            c->guest_end = 1;
            continue;
        }
        h->s.to_host_bytes += len;
        took = host_write(c, p.data + HEADER, len);
        if (took == len)
            continue;
        c->back = malloc(len - took);
        if (!c->back) {
            h->host->vmbus_fault(c->ch, "out of memory");
            return 1;
        }
        memcpy(c->back, p.data + HEADER + took, len - took);
        c->back_len = len - took;
        c->back_off = 0;
    }
    again(h);
    return 0;
}

static void pump(struct conn *c)
{
    if (to_host(c) || to_guest(c))
        return;
    if (!finished(c))
        watch(c);
}

static void go_on(void *ctx)
{
    struct hvsocket *h = ctx;

    h->posted = 0;
    for (struct conn *c = h->conns, *next; c; c = next) {
        next = c->next;
        if (c->phase == OPEN)
            pump(c);
    }
}

/* ---- the channel's side ------------------------------------------------------------------------------------ */

static int channel_open(void *ctx, const uint8_t *user_data)
{
    struct conn *c = ctx;
    char text[32];

    (void)user_data;
    if (c->phase != OFFERED)
        return -EINVAL; /* once closed, a connection is not opened again */
    c->phase = OPEN;
    if (c->from_host) {
        int n = snprintf(text, sizeof(text), "OK %u\n", c->port);

        host_write(c, (const uint8_t *)text, (uint32_t)n); /* the socket's buffer is empty */
    }
    return 0; /* a signal follows */
}

static void channel_close(void *ctx)
{
    drop(ctx);
}

static void channel_signal(void *ctx)
{
    pump(ctx);
}

static int offer(struct conn *c, const uint8_t service[16], const uint8_t endpoint[16])
{
    static const struct mobo_vmbus_ops ops = { sizeof(ops), 0, channel_open, channel_close,
                                               channel_signal };
    struct mobo_vmbus_offer o = { .size = sizeof(o),
                                  .flags = MOBO_VMBUS_HVSOCKET | MOBO_VMBUS_PIPE };
    int err;

    memcpy(o.class_id, service, 16);
    memcpy(o.instance_id, endpoint, 16);
    memcpy(c->instance, endpoint, 16);
    o.user_data[4] = (uint8_t)c->from_host; /* behind the mode of the pipe, which is 0: bytes */
    c->port = (uint32_t)wire_get(service, 4);
    err = c->h->host->vmbus_offer(c->h->dev, &o, &ops, c, &c->ch);
    if (!err)
        c->phase = OFFERED;
    return err;
}

/* The guest has at most one connection from each of its ports. */
static int taken(const struct hvsocket *h, const uint8_t endpoint[16])
{
    for (const struct conn *c = h->conns; c; c = c->next)
        if (c->ch && !memcmp(c->instance, endpoint, 16))
            return 1;
    return 0;
}

/* ---- the host's side --------------------------------------------------------------------------------------- */

/* "CONNECT PORT": offers the guest a channel.  @return 1: *@c is no more. */
static int command(struct conn *c)
{
    struct hvsocket *h = c->h;
    uint8_t service[16], endpoint[16];
    char *end = memchr(c->command, '\n', c->command_len), *stop;
    unsigned long port;

    if (!end && c->command_len < sizeof(c->command))
        return 0;
    if (end) {
        *end = 0;
        if (end > c->command && end[-1] == '\r')
            end[-1] = 0;
    }
    errno = 0;
    if (!end || strncmp(c->command, "CONNECT ", 8) || c->command[8] < '0' || c->command[8] > '9' ||
        (port = strtoul(c->command + 8, &stop, 10), *stop || errno || port > 0xfffffffeul)) {
        h->s.refused++;
        drop(c);
        return 1;
    }
    service_id(service, (uint32_t)port);
    do {
        if (++h->s.next_port < 0x80000000u)
            h->s.next_port = 0x80000000u;
        service_id(endpoint, h->s.next_port);
    } while (taken(h, endpoint));
    h->s.from_host++;
    if (offer(c, service, endpoint)) {
        h->s.refused++;
        drop(c);
        return 1;
    }
    return 0;
}

static void client_ready(void *ctx, int fd, uint32_t events)
{
    struct conn *c = ctx;

    (void)events;
    if (c->phase == OPEN) {
        pump(c);
        return;
    }
    /* Byte by byte: what follows the line is the guest's. */
    while (c->phase == COMMAND && c->command_len < sizeof(c->command)) {
        ssize_t n = recv(fd, c->command + c->command_len, 1, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return;
        if (n <= 0) {
            drop(c);
            return;
        }
        if (c->command[c->command_len++] == '\n' || c->command_len == sizeof(c->command))
            if (command(c))
                return;
    }
    watch(c);
}

static void listen_ready(void *ctx, int fd, uint32_t events)
{
    struct hvsocket *h = ctx;
    int client = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct conn *c = client < 0 ? NULL : conn_new(h, client, client_ready);

    (void)events;
    if (client < 0)
        return;
    if (!c) {
        h->s.refused++;
        close(client);
        return;
    }
    c->from_host = 1;
    watch(c);
}

static int unix_socket(struct sockaddr_un *a, const char *path, const char *suffix)
{
    *a = (struct sockaddr_un){ .sun_family = AF_UNIX };
    snprintf(a->sun_path, sizeof(a->sun_path), "%s%s", path, suffix);
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* A guest connects a service of the host. */
static void guest_connects(void *ctx, const uint8_t *endpoint, const uint8_t *service)
{
    struct hvsocket *h = ctx;
    uint32_t status = STATUS_REFUSED;
    struct sockaddr_un a;
    struct conn *c = NULL;
    char suffix[16];
    int fd = -1;

    h->s.from_guest++;
    if (is_service(service) && is_service(endpoint) && !taken(h, endpoint)) {
        snprintf(suffix, sizeof(suffix), "_%u", (unsigned)wire_get(service, 4));
        fd = unix_socket(&a, h->path, suffix);
    }
    if (fd >= 0 && !connect(fd, (struct sockaddr *)&a, sizeof(a))) {
        status = STATUS_LACK;
        c = conn_new(h, fd, client_ready);
        if (c && !offer(c, service, endpoint))
            status = 0;
    }
    if (status) {
        h->s.refused++;
        if (c)
            drop(c);
        else if (fd >= 0)
            close(fd);
    }
    h->host->vmbus_tl_result(h->dev, endpoint, service, status);
}

/* ---- the device -------------------------------------------------------------------------------------------- */

static int sock_listen(struct hvsocket *h)
{
    const struct mobo_host *host = h->host;
    struct sockaddr_un a;
    int fd = unix_socket(&a, h->path, "");

    if (fd < 0)
        return host->fail(h->dev, -errno, "path: %s", strerror(errno));
    if (!connect(fd, (struct sockaddr *)&a, sizeof(a)) || errno == EAGAIN) {
        close(fd);
        return host->fail(h->dev, -EADDRINUSE, "path: somebody listens at %s already", h->path);
    }
    if (errno == ECONNREFUSED) /* left behind by a program that is gone */
        unlink(h->path);
    if (bind(fd, (struct sockaddr *)&a, sizeof(a)) || listen(fd, 128)) {
        int err = errno;

        close(fd);
        return host->fail(h->dev, -err, "path: cannot listen at %s: %s", h->path, strerror(err));
    }
    h->fd = fd;
    return host->fd_watch(h->dev, fd, MOBO_WATCH_READ, listen_ready, h, &h->watch);
}

static void sock_destroy(void *self)
{
    struct hvsocket *h = self;

    drop_all(h);
    if (h->watch)
        h->host->fd_unwatch(h->watch);
    if (h->fd >= 0) {
        close(h->fd);
        unlink(h->path);
    }
    free(h);
}

static int sock_create(struct mobo_vdev *dev, const struct mobo_host *host, void **ret_self)
{
    struct hvsocket *h;
    int err;

    if (!MOBO_HAS(host, vmbus_tl_result))
        return host->fail(dev, -ENOTSUP, "this host is too old for hvsocket");
    h = calloc(1, sizeof(*h));
    if (!h)
        return host->fail(dev, -ENOMEM, "out of memory");
    h->dev = dev;
    h->host = host;
    h->fd = -1;
    h->path = host->param_str(dev, "path");
    h->timeout_ns = host->param_uint(dev, "timeout") * SECOND;
    h->max = (uint32_t)host->param_uint(dev, "connections");
    h->s.next_port = 0x80000000u;
    if (!h->path)
        err = host->fail(dev, -EINVAL, "path is missing: where is the Unix socket?");
    else if (strlen(h->path) + sizeof("_4294967295") > sizeof(((struct sockaddr_un *)0)->sun_path))
        err = host->fail(dev, -ENAMETOOLONG, "path: %s is too long for a Unix socket", h->path);
    else
        err = host->vmbus_tl_listen(dev, guest_connects, h);
    if (!err)
        err = host->timer_create(dev, look_around, h, &h->timer);
    if (err) {
        free(h);
        return err;
    }
    *ret_self = h;
    return 0;
}

/* Not in create(): checking a VM file leaves the file system alone. */
static int sock_power_on(void *self)
{
    return sock_listen(self);
}

static void sock_reset(void *self)
{
    struct hvsocket *h = self;

    drop_all(h);
    h->host->timer_cancel(h->timer);
}

/* Connections end with the machine that had them; the bus takes their channels back from the guest. */
static int sock_save(void *self, struct mobo_writer *out)
{
    struct hvsocket *h = self;

    return h->host->save_bytes(out, 1, 0, &h->s.next_port, sizeof(h->s.next_port));
}

static int sock_restore(void *self, struct mobo_reader *in)
{
    struct hvsocket *h = self;
    uint32_t port, len;
    int err = h->host->load_bytes(in, 1, &port, sizeof(port), &len);

    if (!err)
        err = h->host->load_done(in);
    else if (err == -ENOENT || err == -EMSGSIZE)
        err = h->host->fail(h->dev, -EINVAL, "the port is missing or too long");
    if (err)
        return err;
    if (len != sizeof(port) || port < 0x80000000u)
        return h->host->fail(h->dev, -EINVAL, "the saved port makes no sense");
    drop_all(h);
    h->s.next_port = port;
    return 0;
}

static void sock_inspect(void *self, struct mobo_inspect *out)
{
    struct hvsocket *h = self;

    h->host->inspect_uint(out, "connections", h->count);
    h->host->inspect_uint(out, "from_host", h->s.from_host);
    h->host->inspect_uint(out, "from_guest", h->s.from_guest);
    h->host->inspect_uint(out, "refused", h->s.refused);
    h->host->inspect_uint(out, "bytes_to_guest", h->s.to_guest_bytes);
    h->host->inspect_uint(out, "bytes_to_host", h->s.to_host_bytes);
}

static const struct mobo_param sock_params[] = {
    { "path", MOBO_PATH, MOBO_PARAM_REQUIRED, NULL, NULL, 0, 0, NULL,
      "Unix socket for connections to the guest; those from the guest go to PATH_PORT" },
    { "connections", MOBO_UINT, 0, NULL, "256", 1, MAX_CONNECTIONS, NULL,
      "most connections at a time" },
    { "timeout", MOBO_UINT, 0, "s", "10", 1, 300, NULL,
      "how long the guest has to accept a connection" },
};

static const struct mobo_vdev_ops sock_ops = {
    .size = sizeof(sock_ops),
    .create = sock_create,
    .destroy = sock_destroy,
    .power_on = sock_power_on,
    .reset = sock_reset,
    .save = sock_save,
    .restore = sock_restore,
    .inspect = sock_inspect,
};

MOBO_EXPORT const struct mobo_vdev_descriptor mobo_vdev_descriptor = {
    .magic = MOBO_VDEV_MAGIC,
    .abi_major = MOBO_ABI_MAJOR,
    .abi_minor = 1,
    .size = sizeof(mobo_vdev_descriptor),
    .type = "hvsocket",
    .vendor = "mobo",
    .version = "1.0",
    .licence = "BSD-2-Clause",
    .summary = "sockets between guest and host (AF_VSOCK), as Unix sockets",
    .dev_class = MOBO_CLASS_SYNTHETIC,
    .max_instances = 1,
    .params = sock_params,
    .nparams = sizeof(sock_params) / sizeof(sock_params[0]),
    .param_size = sizeof(struct mobo_param),
    .ops = &sock_ops,
};
