/* SPDX-License-Identifier: BSD-2-Clause */
/* Character backends on the board's event loop.
 *
 * Output: backend_write() puts bytes into a ring from any thread; the I/O thread moves them on when
 * the descriptor takes them.  Input: the I/O thread reads as much as the device can take.  The
 * terminal alone is read ahead, so that its Ctrl-A commands work while the guest does not
 * listen. */
#include "core/backend/backend.h"

#include <errno.h>
#include <event2/event.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

enum { OUT_ROOM = 64 << 10, IN_ROOM = 4096, CTRL_A = 1, DRAIN_MS = 2000, PTY_POLL_MS = 200 };

enum kind { KIND_STDIO, KIND_PTY, KIND_UNIX, KIND_FILE, KIND_NULL };
static const char *const kind_names[] = { "stdio", "pty", "unix", "file", "null" };

struct vmb_backend {
    enum kind kind;
    struct backend_env *env; /* borrowed, outlives us */
    const struct vmb_char_sink *sink;
    void *dev;
    char name[40];
    char *path;  /* socket, file or link to remove; NULL: none */
    bool remove; /* at close */

    struct event_base *base;
    struct event *ev_in, *ev_out, *ev_kick, *ev_listen, *ev_timer;
    int in, out, listen; /* descriptors, -1: none; in == out for one that does both */
    bool in_always;      /* in is a regular file or the like: no readiness events */
    bool out_always;     /* the same of out */
    bool in_added;
    bool tty;               /* in is a raw terminal of ours */
    bool escape;            /* Ctrl-A seen */
    bool peer;              /* I/O thread */
    uint8_t ahead[IN_ROOM]; /* terminal only: read, not yet taken by the device */
    size_t nahead;

    pthread_mutex_t lock; /* a leaf; guards what follows */
    uint8_t ring[OUT_ROOM];
    size_t head, used;
    bool starved; /* a writer got less than it wanted */
    bool discard; /* no peer: bytes vanish */
};

/* ---- output ---------------------------------------------------------------------------------- */

size_t backend_write(struct vmb_backend *b, const uint8_t *buf, size_t len)
{
    size_t n = len, at, first;
    bool kick;

    if (b->kind == KIND_NULL)
        return len;
    pthread_mutex_lock(&b->lock);
    if (b->discard) {
        pthread_mutex_unlock(&b->lock);
        return len;
    }
    if (n > OUT_ROOM - b->used) {
        n = OUT_ROOM - b->used;
        b->starved = true;
    }
    at = (b->head + b->used) % OUT_ROOM;
    first = n < OUT_ROOM - at ? n : OUT_ROOM - at;
    memcpy(b->ring + at, buf, first);
    memcpy(b->ring, buf + first, n - first);
    kick = b->used == 0 && n;
    b->used += n;
    pthread_mutex_unlock(&b->lock);
    if (kick)
        event_active(b->ev_kick, EV_WRITE, 1);
    return n;
}

size_t backend_pending(struct vmb_backend *b)
{
    size_t n;

    pthread_mutex_lock(&b->lock);
    n = b->used;
    pthread_mutex_unlock(&b->lock);
    return n;
}

static void hangup(struct vmb_backend *b);

/* Move bytes to the descriptor, at most as many as the ring holds: a guest may fill it as fast.
 * @return 0 when the ring is empty, -EAGAIN, or another error. */
static int flush_ring(struct vmb_backend *b)
{
    size_t moved = 0;
    int err = 0;

    pthread_mutex_lock(&b->lock);
    while (b->used && !err && moved < OUT_ROOM) {
        uint8_t chunk[4096];
        size_t n = b->used < OUT_ROOM - b->head ? b->used : OUT_ROOM - b->head;
        ssize_t done;

        if (n > sizeof(chunk))
            n = sizeof(chunk);
        if (n > OUT_ROOM - moved)
            n = OUT_ROOM - moved;
        memcpy(chunk, b->ring + b->head, n);
        pthread_mutex_unlock(&b->lock); /* only this thread takes bytes out */
        do
            done = b->kind == KIND_UNIX ? send(b->out, chunk, n, MSG_NOSIGNAL)
                                        : write(b->out, chunk, n);
        while (done < 0 && errno == EINTR);
        err = done < 0 ? -errno : 0;
        pthread_mutex_lock(&b->lock);
        if (done > 0) {
            b->head = (b->head + (size_t)done) % OUT_ROOM;
            b->used -= (size_t)done;
            moved += (size_t)done;
        }
    }
    if (!err && b->used)
        err = -EAGAIN;
    pthread_mutex_unlock(&b->lock);
    return err;
}

static void drop_ring(struct vmb_backend *b, bool discard)
{
    pthread_mutex_lock(&b->lock);
    b->used = 0;
    b->discard = discard;
    pthread_mutex_unlock(&b->lock);
}

/* Writers that were turned away may come again. */
static void tell_writable(struct vmb_backend *b)
{
    bool tell;

    pthread_mutex_lock(&b->lock);
    tell = b->starved && b->used <= OUT_ROOM / 2;
    if (tell)
        b->starved = false;
    pthread_mutex_unlock(&b->lock);
    if (tell)
        b->sink->event(b->dev, MOBO_CHAR_WRITABLE);
}

static void on_out(evutil_socket_t fd, short what, void *arg)
{
    struct vmb_backend *b = arg;
    int err;

    (void)fd;
    (void)what;
    if (b->out < 0) {
        drop_ring(b, b->kind == KIND_UNIX || b->kind == KIND_PTY);
        tell_writable(b);
        return;
    }
    err = flush_ring(b);
    if (err == -EAGAIN) {
        if (b->ev_out)
            event_add(b->ev_out, b->out_always ? &(struct timeval){ 0, 0 } : NULL);
    } else if (err) {
        hangup(b);
    }
    tell_writable(b);
}

/* ---- input ----------------------------------------------------------------------------------- */

static void in_enable(struct vmb_backend *b, bool on)
{
    if (!b->ev_in)
        return;
    if (on && b->in_always)
        event_active(b->ev_in, EV_READ, 1);
    else if (on && !b->in_added)
        event_add(b->ev_in, NULL);
    else if (!on && b->in_added)
        event_del(b->ev_in);
    b->in_added = on && !b->in_always;
}

/* The peer is gone, or the output is. */
static void hangup(struct vmb_backend *b)
{
    if (b->kind == KIND_UNIX || b->kind == KIND_PTY)
        in_enable(b, false);
    if (b->ev_out)
        event_del(b->ev_out);
    if (b->kind == KIND_UNIX) {
        if (b->ev_in)
            event_free(b->ev_in);
        if (b->ev_out)
            event_free(b->ev_out);
        b->ev_in = b->ev_out = NULL;
        close(b->in);
        b->in = b->out = -1;
        drop_ring(b, true);
    } else if (b->kind == KIND_PTY) {
        struct timeval tv = { 0, PTY_POLL_MS * 1000 };
        drop_ring(b, true);
        event_add(b->ev_timer, &tv);
    } else {
        /* standard output was closed, or the file is full: go on without */
        if (b->ev_out)
            event_free(b->ev_out);
        b->ev_out = NULL;
        close(b->out);
        b->out = -1;
        drop_ring(b, false);
    }
    if (b->peer && (b->kind == KIND_UNIX || b->kind == KIND_PTY)) {
        b->peer = false;
        b->sink->event(b->dev, MOBO_CHAR_CLOSED);
    }
    tell_writable(b);
}

static void say(struct vmb_backend *b, const char *text)
{
    /* to the terminal, past the ring: for the user, not of the guest */
    if (write(STDERR_FILENO, text, strlen(text)) < 0)
        (void)b;
}

static void command(struct vmb_backend *b, uint8_t c)
{
    switch (c) {
    case 'x': b->env->command(b->env->ctx, BACKEND_QUIT); break;
    case 'p': b->env->command(b->env->ctx, BACKEND_POWER_BUTTON); break;
    case 'r': b->env->command(b->env->ctx, BACKEND_RESET); break;
    case 'b': b->sink->event(b->dev, MOBO_CHAR_BREAK); break;
    case 'h':
    case '?':
        say(b, "\r\nCtrl-A x   end the VM\r\n"
               "Ctrl-A p   press the power button\r\n"
               "Ctrl-A r   reset\r\n"
               "Ctrl-A b   send a break\r\n"
               "Ctrl-A a   send Ctrl-A (also Ctrl-A Ctrl-A)\r\n"
               "Ctrl-A h   this help\r\n");
        break;
    }
}

/* Terminal input: commands out, the rest to what waits for the device. */
static void filter(struct vmb_backend *b, const uint8_t *buf, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint8_t c = buf[i];

        if (!b->escape && c == CTRL_A) {
            b->escape = true;
            continue;
        }
        if (b->escape) {
            b->escape = false;
            if (c == 'a')
                c = CTRL_A;
            if (c != CTRL_A) {
                command(b, c);
                continue;
            }
        }
        if (b->nahead < IN_ROOM) /* else: nobody listens; as a line discipline does */
            b->ahead[b->nahead++] = c;
    }
}

static void deliver(struct vmb_backend *b)
{
    while (b->nahead) {
        size_t n = b->sink->can_read(b->dev);

        if (n == 0)
            return; /* backend_ready() comes */
        if (n > b->nahead)
            n = b->nahead;
        b->sink->read(b->dev, b->ahead, n);
        b->nahead -= n;
        memmove(b->ahead, b->ahead + n, b->nahead);
    }
}

static void on_in(evutil_socket_t fd, short what, void *arg)
{
    struct vmb_backend *b = arg;
    uint8_t buf[1024];
    size_t room = sizeof(buf);
    ssize_t n;

    (void)fd;
    (void)what;
    if (b->in < 0)
        return;
    if (!b->tty) {
        room = b->sink->can_read(b->dev);
        if (room == 0) {
            in_enable(b, false); /* backend_ready() comes */
            return;
        }
        if (room > sizeof(buf))
            room = sizeof(buf);
    }
    n = read(b->in, buf, room);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (b->in_always)
            in_enable(b, true);
        return;
    }
    if (n <= 0) {
        if (b->kind == KIND_STDIO) { /* the end of the input is not the end of the VM */
            in_enable(b, false);
            close(b->in);
            b->in = -1;
        } else {
            hangup(b);
        }
        return;
    }
    if (b->tty) {
        filter(b, buf, (size_t)n);
        deliver(b);
        return;
    }
    b->sink->read(b->dev, buf, (size_t)n);
    if (b->in_always)
        in_enable(b, true);
}

static void on_kick(evutil_socket_t fd, short what, void *arg)
{
    struct vmb_backend *b = arg;

    if (what & EV_READ) { /* the device listens again */
        if (b->tty)
            deliver(b);
        else if (b->in >= 0 && b->ev_in && (b->peer || b->kind == KIND_STDIO))
            in_enable(b, true);
    }
    if (what & EV_WRITE)
        on_out(fd, what, arg);
}

void backend_ready(struct vmb_backend *b)
{
    if (b->kind != KIND_NULL && b->kind != KIND_FILE)
        event_active(b->ev_kick, EV_READ, 1);
}

/* ---- descriptors ----------------------------------------------------------------------------- */

/* Whether readiness events exist for it; regular files and /dev/null have none. */
static bool pollable(int fd)
{
    struct epoll_event e = { .events = EPOLLIN };
    int ep = epoll_create1(EPOLL_CLOEXEC);
    bool yes = ep >= 0 && epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e) == 0;

    if (ep >= 0)
        close(ep);
    return yes;
}

static int watch(struct vmb_backend *b)
{
    if (b->in >= 0) {
        b->in_always = !pollable(b->in);
        b->ev_in = b->in_always ? event_new(b->base, -1, 0, on_in, b)
                                : event_new(b->base, b->in, EV_READ | EV_PERSIST, on_in, b);
        if (!b->ev_in)
            return -ENOMEM;
    }
    if (b->out >= 0) {
        b->out_always = !pollable(b->out);
        b->ev_out = b->out_always ? event_new(b->base, -1, 0, on_out, b)
                                  : event_new(b->base, b->out, EV_WRITE, on_out, b);
        if (!b->ev_out)
            return -ENOMEM;
    }
    in_enable(b, true);
    return 0;
}

static int fail(char *msg, size_t len, int err, const char *what, const char *path)
{
    snprintf(msg, len, "%s%s%s: %s", what, path ? " " : "", path ? path : "", strerror(-err));
    return err;
}

/* Standard output, without making it non-blocking for everybody who shares it: a terminal or pipe
 * is opened once more, a file does not block anyway. */
static int own_stdout(void)
{
    struct stat st;
    int fd = -1;

    if (fstat(STDOUT_FILENO, &st) == 0 && (S_ISCHR(st.st_mode) || S_ISFIFO(st.st_mode)))
        fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
    return fd;
}

static int open_stdio(struct vmb_backend *b)
{
    b->in = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    b->out = own_stdout();
    b->tty = b->in >= 0 && tty_raw(b->in);
    if (b->in >= 0 && !b->tty && isatty(b->in)) {
        close(b->in); /* in the background: reading would stop us */
        b->in = -1;
    }
    b->peer = true;
    return watch(b);
}

static int open_file(struct vmb_backend *b, char *msg, size_t len)
{
    b->out = open(b->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, 0644);
    if (b->out < 0)
        return fail(msg, len, -errno, "file", b->path);
    b->peer = true;
    return watch(b);
}

/* -- pseudo terminal -- */

static void pty_poll(evutil_socket_t fd, short what, void *arg)
{
    struct vmb_backend *b = arg;
    struct pollfd p = { .fd = b->in, .events = POLLIN | POLLOUT };
    struct timeval tv = { 0, PTY_POLL_MS * 1000 };

    (void)fd;
    (void)what;
    if (poll(&p, 1, 0) < 0 || p.revents & POLLHUP) {
        event_add(b->ev_timer, &tv);
        return;
    }
    drop_ring(b, false);
    b->peer = true;
    in_enable(b, true);
    b->sink->event(b->dev, MOBO_CHAR_OPENED);
}

static int open_pty(struct vmb_backend *b, char *msg, size_t len)
{
    struct timeval tv = { 0, PTY_POLL_MS * 1000 };
    char slave[64], line[256];
    struct termios t;
    int fd;

    b->in = b->out = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (b->in < 0 || grantpt(b->in) || unlockpt(b->in) || ptsname_r(b->in, slave, sizeof(slave)) ||
        fcntl(b->in, F_SETFL, O_NONBLOCK))
        return fail(msg, len, -errno, "pty", NULL);
    /* Raw, so that nothing is echoed back; opened and closed once, so that the absence of a peer
     * shows as a hang-up. */
    fd = open(slave, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0 || tcgetattr(fd, &t))
        return fail(msg, len, -errno, "pty", slave);
    cfmakeraw(&t);
    tcsetattr(fd, TCSANOW, &t);
    close(fd);
    if (b->path) {
        struct stat st;
        if (lstat(b->path, &st) == 0 && S_ISLNK(st.st_mode))
            unlink(b->path); /* a link of an earlier run */
        if (symlink(slave, b->path))
            return fail(msg, len, -errno, "link", b->path);
        b->remove = true;
    }
    b->ev_timer = event_new(b->base, -1, 0, pty_poll, b);
    b->ev_in = event_new(b->base, b->in, EV_READ | EV_PERSIST, on_in, b);
    b->ev_out = event_new(b->base, b->out, EV_WRITE, on_out, b);
    if (!b->ev_timer || !b->ev_in || !b->ev_out)
        return -ENOMEM;
    b->discard = true;
    event_add(b->ev_timer, &tv);
    snprintf(line, sizeof(line), "%s is on %s", b->name, slave);
    b->env->announce(b->env->ctx, line);
    return 0;
}

/* -- socket -- */

static void on_connect(evutil_socket_t lfd, short what, void *arg)
{
    struct vmb_backend *b = arg;
    int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    (void)what;
    if (fd < 0)
        return;
    if (b->peer) { /* one at a time, but not one that is gone already */
        struct pollfd p = { .fd = b->in, .events = POLLRDHUP };
        if (poll(&p, 1, 0) == 1 && p.revents & (POLLHUP | POLLRDHUP | POLLERR))
            hangup(b);
    }
    if (b->peer) {
        close(fd);
        return;
    }
    b->in = b->out = fd;
    b->in_added = false;
    b->ev_in = event_new(b->base, fd, EV_READ | EV_PERSIST, on_in, b);
    b->ev_out = event_new(b->base, fd, EV_WRITE, on_out, b);
    if (!b->ev_in || !b->ev_out) {
        hangup(b);
        return;
    }
    drop_ring(b, false);
    b->peer = true;
    in_enable(b, true);
    b->sink->event(b->dev, MOBO_CHAR_OPENED);
}

static int open_unix(struct vmb_backend *b, char *msg, size_t len)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    mode_t mask;
    int err;

    if (strlen(b->path) >= sizeof(a.sun_path))
        return fail(msg, len, -ENAMETOOLONG, "unix", b->path);
    strcpy(a.sun_path, b->path);
    b->listen = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (b->listen < 0)
        return fail(msg, len, -errno, "unix", b->path);
    if (lstat(b->path, &st) == 0 && S_ISSOCK(st.st_mode)) {
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (probe >= 0) {
            /* a socket that nobody listens at is left from an earlier run */
            if (connect(probe, (struct sockaddr *)&a, sizeof(a)) && errno == ECONNREFUSED)
                unlink(b->path);
            close(probe);
        }
    }
    mask = umask(077);
    err = bind(b->listen, (struct sockaddr *)&a, sizeof(a)) ? -errno : 0;
    umask(mask);
    if (err)
        return fail(msg, len, err, "unix", b->path);
    b->remove = true;
    if (listen(b->listen, 1))
        return fail(msg, len, -errno, "unix", b->path);
    b->ev_listen = event_new(b->base, b->listen, EV_READ | EV_PERSIST, on_connect, b);
    if (!b->ev_listen)
        return -ENOMEM;
    b->discard = true;
    event_add(b->ev_listen, NULL);
    return 0;
}

/* ---- open and close -------------------------------------------------------------------------- */

static int parse_spec(const char *spec, enum kind *ret_kind, const char **ret_path, char *msg,
                      size_t len)
{
    size_t n = strcspn(spec, ":");
    const char *path = spec[n] ? spec + n + 1 : NULL;
    char word[32];

    for (unsigned i = 0; i < COUNT(kind_names); i++) {
        if (strlen(kind_names[i]) != n || strncmp(spec, kind_names[i], n) != 0)
            continue;
        *ret_kind = (enum kind)i;
        *ret_path = path;
        if (path && !*path) {
            snprintf(msg, len, "'%s' has no path after ':'", kind_names[i]);
            return -EINVAL;
        }
        if ((i == KIND_UNIX || i == KIND_FILE) && !path) {
            snprintf(msg, len, "'%s' needs a path: %s:PATH", kind_names[i], kind_names[i]);
            return -EINVAL;
        }
        if ((i == KIND_STDIO || i == KIND_NULL) && path) {
            snprintf(msg, len, "'%s' takes no path", kind_names[i]);
            return -EINVAL;
        }
        return 0;
    }
    snprintf(word, sizeof(word), "%.*s", (int)(n < 31 ? n : 31), spec);
    snprintf(msg, len, "unknown backend '%s'%s", DIAG_Q(spec),
             nearest(word, kind_names, COUNT(kind_names))
                 ? DID_YOU_MEAN(nearest(word, kind_names, COUNT(kind_names)))
                 : " (known: stdio, pty, unix:PATH, file:PATH, null)");
    return -EINVAL;
}

void backend_close(struct vmb_backend *b)
{
    if (!b)
        return;
    /* the last words of the guest; the I/O thread does not run any more */
    for (int waited = 0; b->out >= 0 && flush_ring(b) == -EAGAIN && waited < DRAIN_MS;
         waited += 50) {
        struct pollfd p = { .fd = b->out, .events = POLLOUT };
        poll(&p, 1, 50);
    }
    if (b->tty)
        tty_restore();
    if (b->ev_in)
        event_free(b->ev_in);
    if (b->ev_out)
        event_free(b->ev_out);
    if (b->ev_kick)
        event_free(b->ev_kick);
    if (b->ev_listen)
        event_free(b->ev_listen);
    if (b->ev_timer)
        event_free(b->ev_timer);
    if (b->in >= 0)
        close(b->in);
    if (b->out >= 0 && b->out != b->in)
        close(b->out);
    if (b->listen >= 0)
        close(b->listen);
    if (b->remove)
        unlink(b->path);
    if (b->kind == KIND_STDIO && strcmp(b->env->stdio_user, b->name) == 0)
        b->env->stdio_user[0] = '\0';
    pthread_mutex_destroy(&b->lock);
    free(b->path);
    free(b);
}

int backend_open(struct backend_env *env, struct event_base *base, const char *dev_name,
                 const char *spec, bool check_only, const struct vmb_char_sink *sink, void *dev,
                 struct vmb_backend **ret, char *msg, size_t msg_len)
{
    struct vmb_backend *b;
    const char *path = NULL;
    enum kind kind = KIND_NULL;
    int err = parse_spec(spec, &kind, &path, msg, msg_len);

    if (err)
        return err;
    if (kind == KIND_STDIO) {
        if (env->stdio_user[0]) {
            snprintf(msg, msg_len, "stdio is taken by '%s'", env->stdio_user);
            return -EBUSY;
        }
        snprintf(env->stdio_user, sizeof(env->stdio_user), "%s", dev_name);
    }
    if (check_only)
        return 0;
    b = calloc(1, sizeof(*b));
    if (!b)
        return fail(msg, msg_len, -ENOMEM, spec, NULL);
    b->kind = kind;
    b->env = env;
    b->base = base;
    b->sink = sink;
    b->dev = dev;
    b->in = b->out = b->listen = -1;
    pthread_mutex_init(&b->lock, NULL);
    snprintf(b->name, sizeof(b->name), "%s", dev_name);
    if (path) {
        if (path[0] == '/' || !env->base_dir)
            b->path = strdup(path);
        else if (asprintf(&b->path, "%s/%s", env->base_dir, path) < 0)
            b->path = NULL;
        if (!b->path)
            err = fail(msg, msg_len, -ENOMEM, spec, NULL);
    }
    b->ev_kick = base ? event_new(base, -1, 0, on_kick, b) : NULL;
    if (!err && !b->ev_kick && kind != KIND_NULL)
        err = fail(msg, msg_len, -ENOMEM, spec, NULL);
    msg[0] = '\0';
    if (!err) {
        switch (kind) {
        case KIND_STDIO: err = open_stdio(b); break;
        case KIND_PTY: err = open_pty(b, msg, msg_len); break;
        case KIND_UNIX: err = open_unix(b, msg, msg_len); break;
        case KIND_FILE: err = open_file(b, msg, msg_len); break;
        case KIND_NULL: break;
        }
    }
    if (err) {
        if (!msg[0])
            fail(msg, msg_len, err, spec, NULL);
        backend_close(b);
        return err;
    }
    *ret = b;
    return 0;
}
