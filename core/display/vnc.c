/* SPDX-License-Identifier: BSD-2-Clause */
/* A VNC server for a display, on LibVNCServer (RFB 3.8, WebSockets for browsers on the same port).
 *
 * Every viewer has a thread and a screen of the library of his own, with his own copy of the picture: a
 * viewer that is slow, stuck or hostile holds up nobody else, and no encoder reads memory that the guest
 * may be changing.  What the library shares between screens (the list of security types) is used under
 * one lock, and only when the bytes of a message are there already.  Reference: RFC 6143. */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "core/display/display_int.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#ifdef HAVE_VNC

#include <arpa/inet.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <rfb/rfb.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>

#include "core/display/keymap.h"

enum {
    VIEWERS = 8,
    FIRST_PORT = 5900,
    FRAME_MS = 20,    /* a viewer gets no news more often */
    LOGIN_MS = 10000, /* to the end of the handshake */
    STUCK_MS = 5000,  /* a message that stops halfway */
    WRONG_MS = 1000,  /* after a wrong password */
    PASSWORD_MAX = 8, /* RFC 6143 7.2.2 */
    DARK_WIDTH = 640, /* the size of no picture */
    DARK_HEIGHT = 480,
    MOUSE_BUTTONS = 7 /* left, middle, right: the rest are wheels */
};

struct client {
    struct vnc *vnc;
    rfbScreenInfoPtr screen; /* owned; reused by the next viewer */
    pthread_t thread;
    bool started;     /* listener's: `thread` has to be joined */
    atomic_bool done; /* and it ends */
    atomic_int fd;  /* our own descriptor of his connection, -1: none; whoever takes it closes it */
    int library_fd; /* closed by the library */
    char from[64];  /* his address */
    rfbClientPtr cl;
    bool authenticated, wrong, ready;
    uint32_t *pixels; /* owned */
    unsigned width, height;
    struct view view;
    uint8_t held[MOBO_KEY_COUNT];
    int buttons; /* as in the last message */
};

struct vnc {
    struct vmb_display *d;
    int listen_fd, stop_fd;
    char *unix_path; /* owned, NULL: TCP */
    char password[PASSWORD_MAX + 1];
    char *passwords[2]; /* as the library wants them */
    bool view_only, refused;
    char desktop[80];
    pthread_t thread;
    bool started;
    atomic_bool stop;
    struct client clients[VIEWERS];
};

/* Around what the library keeps for the whole process. */
static pthread_mutex_t handshake_lock = PTHREAD_MUTEX_INITIALIZER;

static void say(struct vnc *v, unsigned level, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void say(struct vnc *v, unsigned level, const char *fmt, ...)
{
    char line[256];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    v->d->env->log(v->d->env->ctx, level, v->d->name, line);
}

static void quiet(const char *fmt, ...)
{
    (void)fmt;
}

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

/* ---- input --------------------------------------------------------------------------------------- */

static void add_key(struct client *c, struct mobo_input_event *list, unsigned *n, unsigned key,
                    bool down)
{
    list[(*n)++] = (struct mobo_input_event){
        .size = sizeof(*list), .kind = MOBO_INPUT_KEY, .key = key, .down = down
    };
    (void)c;
}

static void send_input(struct client *c, const struct mobo_input_event *list, unsigned n)
{
    struct display_env *env = c->vnc->d->env;

    env->input(env->ctx, list, n); /* a guest that takes none misses it */
}

/* Viewers say which character a key gives on their keyboard; the guest shall get that character from a
 * US keyboard, whatever Shift has to do with it on either. */
static void on_key(rfbBool down, rfbKeySym sym, rfbClientPtr cl)
{
    static const uint8_t shifts[] = { KEY_LEFT_SHIFT, KEY_RIGHT_SHIFT };
    struct client *c = cl->clientData;
    struct mobo_input_event list[8];
    unsigned key, n = 0;
    int want;
    bool shift;

    if (!c->ready || c->vnc->view_only)
        return;
    key = keymap_keysym(sym, &want);
    if (!key)
        return;
    if (!down) {
        if (!c->held[key])
            return;
        c->held[key] = 0;
        add_key(c, list, &n, key, false);
        send_input(c, list, n);
        return;
    }
    c->held[key] = 1;
    if (c->held[0x1d] || c->held[0x38] || c->held[MOBO_KEY_E0 | 0x1d])
        want = -1; /* Ctrl or Alt: a shortcut, no character */
    if (want >= 0 && keymap_letter(key) &&
        (c->vnc->d->env->leds(c->vnc->d->env->ctx) & MOBO_LED_CAPS))
        want = !want;
    shift = c->held[KEY_LEFT_SHIFT] || c->held[KEY_RIGHT_SHIFT];
    if (want == 1 && !shift)
        add_key(c, list, &n, KEY_LEFT_SHIFT, true);
    for (unsigned i = 0; want == 0 && i < 2; i++)
        if (c->held[shifts[i]])
            add_key(c, list, &n, shifts[i], false);
    add_key(c, list, &n, key, true);
    if (want == 1 && !shift)
        add_key(c, list, &n, KEY_LEFT_SHIFT, false);
    for (unsigned i = 0; want == 0 && i < 2; i++)
        if (c->held[shifts[i]])
            add_key(c, list, &n, shifts[i], true);
    send_input(c, list, n);
}

static uint32_t buttons_of(int mask)
{
    return (mask & 1 ? MOBO_BUTTON_LEFT : 0u) | (mask & 2 ? MOBO_BUTTON_MIDDLE : 0u) |
           (mask & 4 ? MOBO_BUTTON_RIGHT : 0u);
}

static void on_pointer(int mask, int x, int y, rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    int pressed = mask & ~c->buttons;
    struct mobo_input_event e = { .size = sizeof(e), .kind = MOBO_INPUT_POINT };

    if (!c->ready || c->vnc->view_only || x < 0 || y < 0)
        return;
    x = x >= (int)c->width ? (int)c->width - 1 : x;
    y = y >= (int)c->height ? (int)c->height - 1 : y;
    /* the middle of the pixel, so that it comes out again whatever the guest divides by */
    e.x = (int32_t)((2 * (int64_t)x + 1) * (MOBO_POINT_MAX + 1) / (2 * (int64_t)c->width));
    e.y = (int32_t)((2 * (int64_t)y + 1) * (MOBO_POINT_MAX + 1) / (2 * (int64_t)c->height));
    e.buttons = buttons_of(mask);
    e.wheel = (pressed & 8 ? 1 : 0) - (pressed & 16 ? 1 : 0);
    e.pan = (pressed & 64 ? 1 : 0) - (pressed & 32 ? 1 : 0);
    c->buttons = mask;
    send_input(c, &e, 1);
}

/* What a viewer holds when he goes away. */
static void let_go(struct client *c)
{
    struct mobo_input_event list[MOBO_KEY_COUNT];
    unsigned n = 0;

    for (unsigned key = 1; key < MOBO_KEY_COUNT; key++)
        if (c->held[key])
            add_key(c, list, &n, key, false);
    if (n)
        send_input(c, list, n);
    memset(c->held, 0, sizeof(c->held));
    if (c->buttons & MOUSE_BUTTONS) {
        const struct mobo_input_event e = { .size = sizeof(e), .kind = MOBO_INPUT_MOVE };

        send_input(c, &e, 1);
    }
    c->buttons = 0;
}

/* ---- the picture --------------------------------------------------------------------------------- */

/* Give the library a picture of this size.  @return 0, -ENOMEM. */
static int set_size(struct client *c, unsigned width, unsigned height)
{
    uint32_t *old = c->pixels, *pixels = calloc((size_t)width * height, sizeof(*pixels));

    if (!pixels)
        return -ENOMEM;
    c->pixels = pixels;
    c->width = width;
    c->height = height;
    rfbNewFramebuffer(c->screen, (char *)pixels, (int)width, (int)height, 8, 3, 4);
    c->screen->serverFormat.redShift = 16; /* 0x00rrggbb */
    c->screen->serverFormat.greenShift = 8;
    c->screen->serverFormat.blueShift = 0;
    if (c->cl)
        rfbSetTranslateFunction(c->cl);
    free(old);
    return 0;
}

static void set_cursor(struct client *c)
{
    struct vmb_display *d = c->vnc->d;
    rfbCursorPtr cur = NULL;
    unsigned char *rich = NULL, *mask = NULL, *source = NULL;
    size_t line = 0;

    pthread_mutex_lock(&d->lock);
    if (d->cursor.size && d->visible) {
        size_t n = (size_t)d->cursor.width * d->cursor.height;

        line = (d->cursor.width + 7) / 8;
        cur = calloc(1, sizeof(*cur));
        rich = malloc(n * 4);
        mask = calloc(d->cursor.height, line);
        source = calloc(d->cursor.height, line);
        if (cur && rich && mask && source) {
            cur->width = (unsigned short)d->cursor.width;
            cur->height = (unsigned short)d->cursor.height;
            cur->xhot = (unsigned short)d->cursor.hot_x;
            cur->yhot = (unsigned short)d->cursor.hot_y;
            memcpy(rich, d->cursor.argb, n * 4);
            for (size_t i = 0; i < n; i++) {
                unsigned x = (unsigned)(i % d->cursor.width);

                if (d->cursor.argb[i] >> 24 >= 0x80)
                    mask[i / d->cursor.width * line + x / 8] |= (unsigned char)(0x80 >> x % 8);
            }
        }
    }
    pthread_mutex_unlock(&d->lock);
    if (cur && rich && mask && source) {
        cur->cleanup = cur->cleanupMask = cur->cleanupRichSource = cur->cleanupSource = TRUE;
        cur->richSource = rich;
        cur->mask = mask;
        cur->source = source;
        /* for viewers that know two colours only */
        cur->foreRed = cur->foreGreen = cur->foreBlue = 0xffff;
    } else {
        free(cur);
        free(rich);
        free(mask);
        free(source);
        cur = NULL;
    }
    rfbSetCursor(c->screen, cur);
}

/* Take over what is new.  @return 0, -ENOMEM. */
static int refresh(struct client *c)
{
    struct vmb_display *d = c->vnc->d;
    struct rect rects[VIEW_RECTS];
    unsigned w, h, n;
    bool cursor;
    int x, y;

    view_size(d, &w, &h);
    if (!w) {
        w = c->width;
        h = c->height;
    }
    if ((w != c->width || h != c->height) && (c->cl->useNewFBSize || c->cl->useExtDesktopSize)) {
        if (set_size(c, w, h))
            return -ENOMEM;
        pthread_mutex_lock(&d->lock);
        c->view.hurt = true;
        pthread_mutex_unlock(&d->lock);
    }
    n = view_update(d, &c->view, c->pixels, c->width, c->height, rects);
    for (unsigned i = 0; i < n; i++)
        rfbMarkRectAsModified(c->screen, (int)rects[i].x, (int)rects[i].y,
                              (int)(rects[i].x + rects[i].w), (int)(rects[i].y + rects[i].h));
    pthread_mutex_lock(&d->lock);
    cursor = c->view.cursor;
    c->view.cursor = c->view.moved = false;
    x = d->x;
    y = d->y;
    pthread_mutex_unlock(&d->lock);
    if (cursor)
        set_cursor(c);
    c->screen->cursorX = x < 0 ? 0 : x >= (int)c->width ? (int)c->width - 1 : x;
    c->screen->cursorY = y < 0 ? 0 : y >= (int)c->height ? (int)c->height - 1 : y;
    return 0;
}

/* ---- a viewer ------------------------------------------------------------------------------------ */

static rfbBool on_password(rfbClientPtr cl, const char *response, int len)
{
    struct client *c = cl->clientData;

    c->authenticated = rfbCheckPasswordByList(cl, response, len);
    c->wrong = !c->authenticated;
    return c->authenticated;
}

static enum rfbNewClientAction on_new(rfbClientPtr cl)
{
    cl->clientData = cl->screen->screenData;
    return RFB_CLIENT_ACCEPT;
}

static int on_resize(int width, int height, int n, struct rfbExtDesktopScreen *screens,
                     rfbClientPtr cl)
{
    struct client *c = cl->clientData;
    struct vmb_display *d = c->vnc->d;

    (void)n;
    (void)screens;
    if (c->ready && !c->vnc->view_only && width > 0 && height > 0)
        d->sink->size_hint(d->dev, (unsigned)width, (unsigned)height);
    return rfbExtDesktopSize_ResizeProhibited; /* now; the guest may follow */
}

/* Bytes of the next message of the handshake.  RFC 6143 7.1 to 7.3 */
static int handshake_bytes(rfbClientPtr cl)
{
    int n = cl->state == RFB_PROTOCOL_VERSION ? 12 : cl->state == RFB_AUTHENTICATION ? 16 : 1;

    return cl->wsctx ? n + 6 : n; /* RFC 6455 5.2: a masked frame */
}

/* @return false when the viewer is to go. */
static bool handshake(struct client *c)
{
    int there = 0;
    char byte;

    if (ioctl(c->cl->sock, FIONREAD, &there) == 0 && there < handshake_bytes(c->cl) &&
        recv(c->cl->sock, &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0)
        return true; /* later; not so when he has gone */
    pthread_mutex_lock(&handshake_lock);
    rfbProcessEvents(c->screen, 0);
    pthread_mutex_unlock(&handshake_lock);
    if (!c->screen->clientHead)
        return false;
    if (c->cl->state == RFB_PROTOCOL_VERSION || c->cl->state == RFB_SECURITY_TYPE ||
        c->cl->state == RFB_AUTHENTICATION)
        return true;
    /* the list of security types is the process's: whoever got here has to have given the password */
    if (c->vnc->password[0] && !c->authenticated)
        return false;
    if (c->cl->state == RFB_NORMAL) {
        c->ready = true;
        view_attach(c->vnc->d, &c->view);
        say(c->vnc, MOBO_INFO, "viewer from %s", c->from);
    }
    return true;
}

/* Waits for news of the viewer or of the display.  @return false: the server stops. */
static bool wait_for_news(struct client *c, int timeout, bool *ret_display)
{
    /* during the handshake bytes that are too few would wake us again and again */
    struct pollfd p[3] = { { c->vnc->stop_fd, POLLIN, 0 },
                           { c->view.wake_fd, POLLIN, 0 },
                           { c->ready ? c->cl->sock : -1, POLLIN, 0 } };
    uint64_t count;

    poll(p, 3, timeout);
    if (p[1].revents && read(c->view.wake_fd, &count, sizeof(count)) > 0)
        *ret_display = true;
    return !atomic_load(&c->vnc->stop);
}

static void serve(struct client *c)
{
    uint64_t start = now_ms(), next = 0, now;
    bool news = false;

    for (;;) {
        int timeout = 1000;

        now = now_ms();
        if (!c->ready)
            timeout = 10;
        else if (news)
            timeout = next > now ? (int)(next - now) : 0;
        if (!wait_for_news(c, timeout, &news))
            return;
        if (!c->ready) {
            if (!handshake(c) || now - start > LOGIN_MS)
                return;
            continue;
        }
        now = now_ms();
        if (news && now >= next) {
            news = false;
            next = now + FRAME_MS;
            if (refresh(c))
                return;
        }
        rfbProcessEvents(c->screen, 0);
        if (!c->screen->clientHead || c->cl->scaledScreen != c->screen)
            return; /* gone; or he wants pictures that are scaled here, which is his own affair */
    }
}

static void take_fd(struct client *c, bool stop)
{
    int fd = atomic_exchange(&c->fd, -1);

    if (fd < 0)
        return;
    if (stop)
        shutdown(fd, SHUT_RDWR); /* out of a message that stops halfway */
    close(fd);
}

static void *client_main(void *arg)
{
    struct client *c = arg;
    struct vnc *v = c->vnc;
    unsigned w, h;
    struct timespec pause = { WRONG_MS / 1000, WRONG_MS % 1000 * 1000000 };

    view_size(v->d, &w, &h);
    if (!w) {
        w = DARK_WIDTH;
        h = DARK_HEIGHT;
    }
    c->cl = NULL;
    c->authenticated = c->wrong = c->ready = false;
    c->buttons = 0;
    c->view = (struct view){ .wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
    if (c->view.wake_fd < 0 || set_size(c, w, h)) {
        close(c->library_fd);
    } else {
        c->cl = rfbNewClient(c->screen, c->library_fd);
        if (c->cl)
            serve(c);
    }
    if (c->ready) {
        view_detach(v->d, &c->view);
        let_go(c);
        say(v, MOBO_INFO, "viewer from %s has gone", c->from);
    }
    if (c->wrong) {
        say(v, MOBO_WARNING, "a viewer from %s gave a wrong password", c->from);
        nanosleep(&pause, NULL);
    }
    if (c->screen->clientHead) {
        rfbCloseClient(c->screen->clientHead);
        rfbClientConnectionGone(c->screen->clientHead);
    }
    c->cl = NULL;
    take_fd(c, false);
    if (c->view.wake_fd >= 0)
        close(c->view.wake_fd);
    rfbSetCursor(c->screen, NULL);
    set_size(c, 16, 16);
    atomic_store(&c->done, true);
    return NULL;
}

/* ---- the server ---------------------------------------------------------------------------------- */

static void name_peer(struct client *c, const struct sockaddr_storage *a, socklen_t len)
{
    char host[NI_MAXHOST], port[NI_MAXSERV];

    snprintf(c->from, sizeof(c->from), "this host");
    if (a->ss_family != AF_UNIX &&
        !getnameinfo((const struct sockaddr *)a, len, host, sizeof(host), port, sizeof(port),
                     NI_NUMERICHOST | NI_NUMERICSERV))
        snprintf(c->from, sizeof(c->from), "%.48s port %.6s", host, port);
}

static void accept_one(struct vnc *v)
{
    struct sockaddr_storage a = { 0 };
    socklen_t len = sizeof(a);
    int fd = accept4(v->listen_fd, (struct sockaddr *)&a, &len, SOCK_CLOEXEC);
    struct client *c = NULL;

    if (fd < 0)
        return;
    for (unsigned i = 0; i < VIEWERS && !c; i++) {
        c = &v->clients[i];
        if (c->started && atomic_load(&c->done)) {
            pthread_join(c->thread, NULL);
            c->started = false;
        }
        if (c->started)
            c = NULL;
    }
    if (!c || fd >= FD_SETSIZE) { /* the library uses select() */
        if (!v->refused)
            say(v, MOBO_WARNING, "more than %d viewers: the rest is sent away", VIEWERS);
        v->refused = true;
        close(fd);
        return;
    }
    name_peer(c, &a, len);
    atomic_store(&c->done, false);
    atomic_store(&c->fd, fcntl(fd, F_DUPFD_CLOEXEC, 0));
    c->library_fd = fd;
    c->started = !pthread_create(&c->thread, NULL, client_main, c);
    if (c->started) {
        pthread_setname_np(c->thread, "mobo-vnc");
    } else {
        take_fd(c, false);
        close(fd);
    }
}

static void *listen_main(void *arg)
{
    struct vnc *v = arg;
    struct pollfd p[2] = { { v->stop_fd, POLLIN, 0 }, { v->listen_fd, POLLIN, 0 } };

    while (!atomic_load(&v->stop)) {
        poll(p, 2, -1);
        if (p[1].revents && !atomic_load(&v->stop))
            accept_one(v);
    }
    return NULL;
}

void vnc_close(struct vnc *v)
{
    uint64_t one = 1;

    if (!v)
        return;
    atomic_store(&v->stop, true);
    if (v->stop_fd >= 0 && write(v->stop_fd, &one, sizeof(one)) < 0)
        say(v, MOBO_DEBUG, "cannot wake the VNC server");
    if (v->started)
        pthread_join(v->thread, NULL);
    for (unsigned i = 0; i < VIEWERS; i++) {
        struct client *c = &v->clients[i];

        take_fd(c, true);
        if (c->started)
            pthread_join(c->thread, NULL);
        if (c->screen) {
            c->screen->frameBuffer = NULL;
            rfbScreenCleanup(c->screen);
        }
        free(c->pixels);
    }
    if (v->listen_fd >= 0)
        close(v->listen_fd);
    if (v->stop_fd >= 0)
        close(v->stop_fd);
    if (v->unix_path)
        unlink(v->unix_path);
    free(v->unix_path);
    explicit_bzero(v->password, sizeof(v->password));
    free(v);
}

/* ---- opening ------------------------------------------------------------------------------------- */

/* "vnc:" ARG: ADDRESS:DISPLAY or unix:PATH, then options. */
struct spec {
    char where[PATH_MAX]; /* address, or path */
    bool is_unix, no_password, view_only;
    unsigned display;
    char password_file[PATH_MAX];
};

static int full_path(const struct display_env *env, const char *path, char *ret, size_t len,
                     char *msg, size_t msg_len)
{
    int n = path[0] == '/' || !env->base_dir ? snprintf(ret, len, "%s", path)
                                             : snprintf(ret, len, "%s/%s", env->base_dir, path);

    if (n < 0 || (size_t)n >= len) {
        snprintf(msg, msg_len, "the file name is too long");
        return -ENAMETOOLONG;
    }
    return 0;
}

static int bad(char *msg, size_t len, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static int bad(char *msg, size_t len, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(msg, len, fmt, ap);
    va_end(ap);
    return -EINVAL;
}

static int parse_options(const struct display_env *env, char *list, struct spec *s, char *msg,
                         size_t len)
{
    char *save = NULL;

    for (char *o = strtok_r(list, ",", &save); o; o = strtok_r(NULL, ",", &save)) {
        if (!strncmp(o, "password-file=", 14) && o[14]) {
            int err = full_path(env, o + 14, s->password_file, sizeof(s->password_file), msg, len);

            if (err)
                return err;
        } else if (!strcmp(o, "no-password")) {
            s->no_password = true;
        } else if (!strcmp(o, "view-only")) {
            s->view_only = true;
        } else {
            return bad(msg, len,
                       "unknown option '%.60s' (password-file=FILE, no-password or view-only)", o);
        }
    }
    if (s->no_password && s->password_file[0])
        return bad(msg, len, "both password-file and no-password");
    return 0;
}

static int parse(const struct display_env *env, const char *arg, struct spec *s, char *msg,
                 size_t len)
{
    char text[2 * PATH_MAX], *comma, *colon, *end;
    unsigned long n;

    *s = (struct spec){ 0 };
    if (snprintf(text, sizeof(text), "%s", arg) >= (int)sizeof(text))
        return bad(msg, len, "the value is too long");
    comma = strchr(text, ',');
    if (comma) {
        int err;

        *comma = 0;
        err = parse_options(env, comma + 1, s, msg, len);
        if (err)
            return err;
    }
    if (!strncmp(text, "unix:", 5)) {
        s->is_unix = true;
        if (!text[5])
            return bad(msg, len, "vnc:unix: wants the path of a socket");
        return full_path(env, text + 5, s->where, sizeof(s->where), msg, len);
    }
    colon = strrchr(text, ':');
    n = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : ULONG_MAX;
    if (n > 65535 - FIRST_PORT || *end)
        return bad(msg, len,
                   "'vnc:%.80s': after the address a display number is needed (0 is port %d)", text,
                   FIRST_PORT);
    s->display = (unsigned)n;
    *colon = 0;
    if (text[0] == '[' && strchr(text, ']') == colon - 1) {
        colon[-1] = 0;
        memmove(text, text + 1, strlen(text));
    }
    memcpy(s->where, text[0] ? text : "127.0.0.1", strlen(text[0] ? text : "127.0.0.1") + 1);
    return 0;
}

static int read_password(struct vnc *v, const char *path, char *msg, size_t len)
{
    FILE *f = fopen(path, "re");
    char line[256] = "";
    int err = f ? 0 : -errno;

    if (f && !fgets(line, sizeof(line), f))
        line[0] = 0;
    if (f)
        fclose(f);
    line[strcspn(line, "\r\n")] = 0;
    if (err) {
        snprintf(msg, len, "cannot read the password file %s: %s", path, strerror(-err));
    } else if (!line[0] || strlen(line) > PASSWORD_MAX) {
        err = bad(msg, len, "%s: the first line has to be a password of 1 to %d characters", path,
                  PASSWORD_MAX);
    } else {
        memcpy(v->password, line, strlen(line) + 1);
    }
    explicit_bzero(line, sizeof(line));
    return err;
}

static bool is_loopback(const struct sockaddr *a)
{
    if (a->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->sa_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)(const void *)a)->sin6_addr);
}

/* Bind, or with @check only look. */
static int listen_tcp(struct vnc *v, const struct spec *s, bool check, char *msg, size_t len)
{
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE }, *list = NULL;
    char port[8];
    int one = 1, err = 0, gai;

    snprintf(port, sizeof(port), "%u", FIRST_PORT + s->display);
    gai = getaddrinfo(s->where, port, &hints, &list);
    if (gai)
        return bad(msg, len, "'%.80s' is no address of this host: %s", s->where, gai_strerror(gai));
    if (!is_loopback(list->ai_addr) && !v->password[0] && !s->no_password) {
        err = bad(msg, len,
                  "%.80s can be reached from outside: password-file=FILE is needed, or "
                  "no-password if that is meant",
                  s->where);
    } else if (!check) {
        v->listen_fd = socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (v->listen_fd < 0 ||
            setsockopt(v->listen_fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)) ||
            bind(v->listen_fd, list->ai_addr, list->ai_addrlen) || listen(v->listen_fd, 8)) {
            err = -errno;
            snprintf(msg, len, "%.80s port %s: %s", s->where, port, strerror(-err));
        }
    }
    freeaddrinfo(list);
    return err;
}

static int listen_unix(struct vnc *v, const struct spec *s, bool check, char *msg, size_t len)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    struct stat st;
    mode_t mask;
    int err = 0;

    if (strlen(s->where) >= sizeof(a.sun_path))
        return bad(msg, len, "the path of the socket is longer than %zu bytes",
                   sizeof(a.sun_path) - 1);
    if (check)
        return 0;
    strcpy(a.sun_path, s->where);
    if (!lstat(s->where, &st) && S_ISSOCK(st.st_mode)) { /* left from somebody who is no more? */
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (probe >= 0 && connect(probe, (struct sockaddr *)&a, sizeof(a)) && errno == ECONNREFUSED)
            unlink(s->where);
        if (probe >= 0)
            close(probe);
    }
    v->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mask = umask(077);
    if (v->listen_fd < 0 || bind(v->listen_fd, (struct sockaddr *)&a, sizeof(a)))
        err = -errno;
    umask(mask);
    if (!err) {
        v->unix_path = strdup(s->where);
        err = listen(v->listen_fd, 8) ? -errno : v->unix_path ? 0 : -ENOMEM;
    }
    if (err)
        snprintf(msg, len, "%.200s: %s", s->where, strerror(-err));
    return err;
}

/* A screen of the library. */
static int make_screen(struct vnc *v, struct client *c)
{
    rfbScreenInfoPtr s = rfbGetScreen(NULL, NULL, 16, 16, 8, 3, 4);

    c->vnc = v;
    c->screen = s;
    if (!s || set_size(c, 16, 16))
        return -ENOMEM;
    s->screenData = c;
    s->desktopName = v->desktop;
    s->alwaysShared = TRUE;
    s->deferUpdateTime = 0;
    s->deferPtrUpdateTime = 0;
    s->maxClientWait = STUCK_MS;
    s->newClientHook = on_new;
    s->kbdAddEvent = on_key;
    s->ptrAddEvent = on_pointer;
    s->setDesktopSizeHook = on_resize;
    if (v->password[0]) {
        s->authPasswdData = v->passwords;
        s->authPasswdFirstViewOnly = 1;
        s->passwordCheck = on_password;
    }
    rfbSetCursor(s, NULL);
    return 0;
}

int vnc_open(struct vmb_display *d, const char *arg, bool check_only, char *msg, size_t len)
{
    struct vnc *v = calloc(1, sizeof(*v));
    struct spec *s = malloc(sizeof(*s));
    int err = -ENOMEM;

    if (!v || !s) {
        free(v);
        free(s);
        return err;
    }
    v->d = d;
    v->listen_fd = v->stop_fd = -1;
    v->passwords[0] = v->password;
    for (unsigned i = 0; i < VIEWERS; i++)
        atomic_store(&v->clients[i].fd, -1);
    snprintf(v->desktop, sizeof(v->desktop), "%.64s", d->env->vm ? d->env->vm : "mobo");
    err = parse(d->env, arg, s, msg, len);
    v->view_only = s->view_only;
    if (!err && s->password_file[0])
        err = read_password(v, s->password_file, msg, len);
    if (!err)
        err = s->is_unix ? listen_unix(v, s, check_only, msg, len)
                         : listen_tcp(v, s, check_only, msg, len);
    free(s);
    if (err || check_only)
        goto out;
    rfbLog = quiet;
    rfbErr = quiet;
    rfbMaxClientWait = STUCK_MS;
    for (unsigned i = 0; i < VIEWERS && !err; i++)
        err = make_screen(v, &v->clients[i]);
    v->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!err && v->stop_fd < 0)
        err = -errno;
    if (!err) {
        d->vnc = v;
        return 0;
    }
out:
    vnc_close(v);
    return err;
}

int vnc_start(struct vnc *v)
{
    sigset_t all, old;
    int err;

    if (!v)
        return 0;
    /* signals are the control thread's; the viewers' threads come from this one */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    err = -pthread_create(&v->thread, NULL, listen_main, v);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    v->started = !err;
    if (v->started)
        pthread_setname_np(v->thread, "mobo-vnc-accept");
    return err;
}

#else

int vnc_start(struct vnc *v)
{
    (void)v;
    return 0;
}

int vnc_open(struct vmb_display *d, const char *arg, bool check_only, char *msg, size_t len)
{
    (void)d;
    (void)arg;
    (void)check_only;
    snprintf(msg, len, "'vnc': this mobo was built without LibVNCServer");
    return -ENOTSUP;
}

void vnc_close(struct vnc *v)
{
    (void)v;
}

#endif
