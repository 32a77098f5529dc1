/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of displays and their VNC server: LibVNCClient looks and types; clients that are up to no good. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include <rfb/rfbclient.h>

#include "core/display/display.h"
#include "core/display/keymap.h"

enum { W = 64, H = 48, EVENTS = 256 };

static char dir[64], sock_path[96], pass_path[96];
static struct display_env env;
static struct vmb_display *disp;
static uint32_t pixels[W * H];
static atomic_int watched, hints, leds;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct mobo_input_event events[EVENTS];
static unsigned nevents;

/* ---- the VM's side ------------------------------------------------------------------------------- */

static int on_input(void *ctx, const struct mobo_input_event *e, unsigned n)
{
    (void)ctx;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < n && nevents < EVENTS; i++)
        events[nevents++] = e[i];
    pthread_mutex_unlock(&lock);
    return 0;
}

static void clear(void)
{
    pthread_mutex_lock(&lock);
    nevents = 0;
    pthread_mutex_unlock(&lock);
}

static unsigned on_leds(void *ctx)
{
    (void)ctx;
    return (unsigned)atomic_load(&leds);
}

static void on_log(void *ctx, unsigned level, const char *from, const char *line)
{
    (void)ctx;
    (void)level;
    (void)from;
    assert_null(strchr(line, '\n'));
}

static void on_watch(void *dev, bool on)
{
    (void)dev;
    atomic_store(&watched, on);
}

static bool on_hint(void *dev, uint32_t w, uint32_t h)
{
    (void)dev;
    (void)w;
    (void)h;
    atomic_fetch_add(&hints, 1);
    return true;
}

static const struct vmb_display_sink sink = { on_watch, on_hint };

static void show(unsigned width, unsigned height)
{
    const struct mobo_surface s = { .size = sizeof(s),
                                    .format = MOBO_PIXEL_XRGB8888,
                                    .width = width,
                                    .height = height,
                                    .stride = width * 4,
                                    .pixels = pixels,
                                    .len = sizeof(pixels) };

    display_surface(disp, &s);
}

static int open_display(const char *options)
{
    char spec[256], msg[VMB_MSG_LEN] = "";
    int err;

    snprintf(spec, sizeof(spec), "vnc:unix:%s%s", sock_path, options);
    err = display_open(&env, "video", spec, false, &sink, NULL, &disp, msg, sizeof(msg));
    if (err)
        fail_msg("%s", msg);
    return display_start(&env);
}

static int setup(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/mobo-vnc-test.XXXXXX");
    assert_non_null(mkdtemp(dir));
    snprintf(sock_path, sizeof(sock_path), "%s/s", dir);
    snprintf(pass_path, sizeof(pass_path), "%s/pass", dir);
    env = (struct display_env){ .vm = "test", .input = on_input, .leds = on_leds, .log = on_log };
    clear();
    atomic_store(&leds, 0);
    for (unsigned i = 0; i < W * H; i++)
        pixels[i] = 0xff000000 | i * 2654435761u >> 8;
    return 0;
}

static int teardown(void **state)
{
    struct stat st;

    (void)state;
    display_close(disp);
    disp = NULL;
    assert_null(env.list);
    assert_int_not_equal(stat(sock_path, &st), 0); /* the socket goes with it */
    unlink(pass_path);
    assert_int_equal(rmdir(dir), 0);
    return 0;
}

static void put_password(const char *text)
{
    FILE *f = fopen(pass_path, "w");

    assert_non_null(f);
    fputs(text, f);
    fclose(f);
}

static void nap(unsigned ms)
{
    const struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

    nanosleep(&ts, NULL);
}

/* ---- the viewer's side ---------------------------------------------------------------------------- */

static const char *password;

static char *give_password(rfbClient *c)
{
    (void)c;
    return password ? strdup(password) : NULL;
}

static void quiet(const char *fmt, ...)
{
    (void)fmt;
}

static rfbClient *view(void)
{
    rfbClient *c = rfbGetClient(8, 3, 4);

    rfbClientLog = rfbClientErr = quiet;
    c->format.redShift = 16;
    c->format.greenShift = 8;
    c->format.blueShift = 0;
    c->canHandleNewFBSize = TRUE;
    c->appData.enableJPEG = FALSE; /* every pixel counts */
    c->GetPassword = give_password;
    free(c->serverHost);
    c->serverHost = strdup(sock_path);
    return rfbInitClient(c, NULL, NULL) ? c : NULL; /* frees it when it fails */
}

static void leave(rfbClient *c)
{
    free(c->frameBuffer);
    rfbClientCleanup(c);
}

static bool same(const rfbClient *c, unsigned width, unsigned height)
{
    if (c->width != (int)width || c->height != (int)height)
        return false;
    for (unsigned i = 0; i < width * height; i++)
        if ((((const uint32_t *)(const void *)c->frameBuffer)[i] & 0xffffff) !=
            (pixels[i] & 0xffffff))
            return false;
    return true;
}

/* Until the viewer sees the picture; up to 10 s. */
static bool sees(rfbClient *c, unsigned width, unsigned height)
{
    for (unsigned i = 0; i < 1000 && !same(c, width, height); i++)
        if (WaitForMessage(c, 10000) > 0 && !HandleRFBServerMessage(c))
            return false;
    return same(c, width, height);
}

static bool until(atomic_int *what, int val)
{
    for (unsigned i = 0; i < 1000 && atomic_load(what) != val; i++)
        nap(10);
    return atomic_load(what) == val;
}

/* Until so many events are there. */
static bool got(unsigned n)
{
    unsigned has = 0;

    for (unsigned i = 0; i < 1000 && has < n; i++) {
        pthread_mutex_lock(&lock);
        has = nevents;
        pthread_mutex_unlock(&lock);
        if (has < n)
            nap(10);
    }
    return has == n;
}

static void assert_key(unsigned i, unsigned key, unsigned down)
{
    assert_int_equal(events[i].kind, MOBO_INPUT_KEY);
    assert_int_equal(events[i].key, key);
    assert_int_equal(events[i].down, down);
}

static int raw(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    strcpy(a.sun_path, sock_path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* ---- tests ---------------------------------------------------------------------------------------- */

static void test_picture(void **state)
{
    rfbClient *c;

    (void)state;
    assert_int_equal(open_display(""), 0);
    show(W, H);
    assert_int_equal(atomic_load(&watched), 0);
    c = view();
    assert_non_null(c);
    assert_true(sees(c, W, H));
    assert_int_equal(atomic_load(&watched), 1);
    assert_int_equal(display_viewers(disp), 1);
    for (unsigned i = 0; i < 40; i++) { /* more rectangles than are kept apart */
        pixels[i * W + i] ^= 0xffffff;
        display_dirty(disp, i, i, 1, 1);
    }
    assert_true(sees(c, W, H));
    show(32, 24);
    assert_true(sees(c, 32, 24));
    display_surface(disp, NULL); /* dark: black, of the same size */
    memset(pixels, 0, sizeof(pixels));
    assert_true(sees(c, 32, 24));
    leave(c);
    assert_true(until(&watched, 0));
}

static void test_formats(void **state)
{
    uint8_t rgb[6] = { 1, 2, 3, 0xfd, 0xfe, 0xff };
    uint16_t r565[2] = { 0xf800, 0x07e1 }, r555[2] = { 0x7c00, 0x83e1 };
    struct mobo_surface s = { .size = sizeof(s),
                              .format = MOBO_PIXEL_RGB888,
                              .width = 2,
                              .height = 1,
                              .stride = 6,
                              .pixels = rgb,
                              .len = sizeof(rgb) };
    struct picture p;
    uint8_t *png;
    size_t len;
    int err;

    (void)state;
    assert_int_equal(open_display(""), 0);
    assert_int_equal(display_grab(disp, &p), -ENODATA);
    display_surface(disp, &s);
    assert_int_equal(display_grab(disp, &p), 0);
    assert_int_equal(p.width, 2);
    assert_int_equal(p.pixels[0], 0x030201);
    assert_int_equal(p.pixels[1], 0xfffefd);
    err = picture_png(&p, &png, &len);
    if (err != -ENOTSUP) {
        assert_int_equal(err, 0);
        assert_memory_equal(png, "\x89PNG\r\n\x1a\n", 8);
        free(png);
    }
    picture_free(&p);
    s.format = MOBO_PIXEL_RGB565;
    s.pixels = r565;
    s.stride = s.len = 4;
    display_surface(disp, &s);
    assert_int_equal(display_grab(disp, &p), 0);
    assert_int_equal(p.pixels[0], 0xff0000);
    assert_int_equal(p.pixels[1], 0x00ff08);
    picture_free(&p);
    s.format = MOBO_PIXEL_XRGB1555;
    s.pixels = r555;
    display_surface(disp, &s);
    assert_int_equal(display_grab(disp, &p), 0);
    assert_int_equal(p.pixels[0], 0xff0000);
    assert_int_equal(p.pixels[1], 0x00ff08);
    picture_free(&p);
    display_surface(disp, NULL);
}

static void test_password(void **state)
{
    char options[160];
    rfbClient *c;

    (void)state;
    put_password("sesame 1\nignored\n");
    snprintf(options, sizeof(options), ",password-file=%s", pass_path);
    assert_int_equal(open_display(options), 0);
    show(W, H);
    password = "sesame 2";
    assert_null(view());
    assert_int_equal(atomic_load(&watched), 0);
    password = "sesame 1";
    c = view();
    assert_non_null(c);
    assert_true(sees(c, W, H));
    leave(c);
    password = NULL;
}

/* Two servers in one process, of which one wants a password: whoever asks for none at that one, right after
 * the other has offered it, does not get in. */
static void test_no_way_round(void **state)
{
    char options[160], spec[200], buf[256], msg[VMB_MSG_LEN];
    struct vmb_display *other = NULL;
    int fd, open_fd;
    ssize_t n;
    struct sockaddr_un a = { .sun_family = AF_UNIX };

    (void)state;
    put_password("secret");
    snprintf(options, sizeof(options), ",password-file=%s", pass_path);
    assert_int_equal(open_display(options), 0);
    show(W, H);
    snprintf(spec, sizeof(spec), "vnc:unix:%s/o", dir);
    assert_int_equal(
        display_open(&env, "second", spec, false, &sink, NULL, &other, msg, sizeof(msg)), 0);
    assert_ptr_equal(display_find(&env, "second"), other);
    assert_ptr_equal(display_find(&env, NULL), disp);
    assert_int_equal(display_start(&(struct display_env){ .list = other }), 0);
    fd = raw();
    assert_int_equal(recv(fd, buf, 12, MSG_WAITALL), 12);
    assert_int_equal(send(fd, "RFB 003.008\n", 12, 0), 12);
    assert_int_equal(recv(fd, buf, 2, MSG_WAITALL), 2);
    assert_int_equal(buf[1], 2); /* VNC authentication alone */
    open_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s/o", dir);
    assert_int_equal(connect(open_fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(recv(open_fd, buf, 12, MSG_WAITALL), 12);
    assert_int_equal(send(open_fd, "RFB 003.008\n", 12, 0), 12);
    assert_int_equal(recv(open_fd, buf, 2, MSG_WAITALL), 2);
    assert_int_equal(buf[1], 1);
    /* now: none, client init, an update please */
    send(fd, "\1", 1, MSG_NOSIGNAL);
    send(fd, "\1", 1, MSG_NOSIGNAL);
    send(fd, "\3\0\0\0\0\0\0\x40\0\x30", 10, MSG_NOSIGNAL);
    for (size_t total = 0; (n = recv(fd, buf, sizeof(buf), 0)) > 0;)
        assert_true((total += (size_t)n) < 200); /* a refusal, no picture */
    assert_int_equal(atomic_load(&watched), 0);
    close(fd);
    close(open_fd);
    display_close(other);
}

static void test_keys(void **state)
{
    rfbClient *c;

    (void)state;
    assert_int_equal(open_display(""), 0);
    show(W, H);
    c = view();
    assert_non_null(c);
    SendKeyEvent(c, 'a', TRUE);
    SendKeyEvent(c, 'a', FALSE);
    assert_true(got(2));
    assert_key(0, 0x1e, 1);
    assert_key(1, 0x1e, 0);
    /* a character that wants Shift, from a viewer who holds none */
    clear();
    SendKeyEvent(c, 'A', TRUE);
    SendKeyEvent(c, 'A', FALSE);
    assert_true(got(4));
    assert_key(0, KEY_LEFT_SHIFT, 1);
    assert_key(1, 0x1e, 1);
    assert_key(2, KEY_LEFT_SHIFT, 0);
    assert_key(3, 0x1e, 0);
    /* and one that wants none from one who does: '/' is Shift+7 elsewhere */
    clear();
    SendKeyEvent(c, 0xffe1, TRUE);
    SendKeyEvent(c, '/', TRUE);
    SendKeyEvent(c, '/', FALSE);
    SendKeyEvent(c, '?', TRUE);
    assert_true(got(6));
    assert_key(0, KEY_LEFT_SHIFT, 1);
    assert_key(1, KEY_LEFT_SHIFT, 0);
    assert_key(2, 0x35, 1);
    assert_key(3, KEY_LEFT_SHIFT, 1);
    assert_key(4, 0x35, 0);
    assert_key(5, 0x35, 1);
    SendKeyEvent(c, '?', FALSE);
    SendKeyEvent(c, 0xffe1, FALSE);
    assert_true(got(8));
    /* Caps Lock in the guest: the character counts */
    clear();
    atomic_store(&leds, MOBO_LED_CAPS);
    SendKeyEvent(c, 'A', TRUE);
    SendKeyEvent(c, 'A', FALSE);
    assert_true(got(2));
    atomic_store(&leds, 0);
    /* a shortcut is left alone */
    clear();
    SendKeyEvent(c, 0xffe3, TRUE);
    SendKeyEvent(c, 'C', TRUE);
    assert_true(got(2));
    assert_key(1, 0x2e, 1);
    /* what nobody knows, and what was never pressed */
    SendKeyEvent(c, 0x1008ff11, TRUE);
    SendKeyEvent(c, 'x', FALSE);
    clear();
    leave(c); /* with Ctrl and C held */
    assert_true(got(2));
    assert_key(0, 0x1d, 0);
    assert_key(1, 0x2e, 0);
}

static void test_pointer(void **state)
{
    rfbClient *c;

    (void)state;
    assert_int_equal(open_display(""), 0);
    show(W, H);
    c = view();
    assert_non_null(c);
    SendPointerEvent(c, 0, 0, 0);
    SendPointerEvent(c, W - 1, H - 1, 1 | 4);
    SendPointerEvent(c, 60000, 60000, 2);
    SendPointerEvent(c, 32, 24, 8);
    SendPointerEvent(c, 32, 24, 8); /* held: one notch */
    SendPointerEvent(c, 32, 24, 16);
    assert_true(got(6));
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(events[i].kind, MOBO_INPUT_POINT);
        assert_in_range(events[i].x, 0, MOBO_POINT_MAX);
        assert_in_range(events[i].y, 0, MOBO_POINT_MAX);
    }
    assert_int_equal(events[0].x * W / (MOBO_POINT_MAX + 1), 0);
    assert_int_equal(events[1].x * W / (MOBO_POINT_MAX + 1), W - 1);
    assert_int_equal(events[1].buttons, MOBO_BUTTON_LEFT | MOBO_BUTTON_RIGHT);
    assert_int_equal(events[2].buttons, MOBO_BUTTON_MIDDLE);
    assert_int_equal(events[3].x * W / (MOBO_POINT_MAX + 1), 32);
    assert_int_equal(events[3].wheel, 1);
    assert_int_equal(events[4].wheel, 0);
    assert_int_equal(events[5].wheel, -1);
    leave(c);
}

static void test_view_only(void **state)
{
    rfbClient *c;

    (void)state;
    assert_int_equal(open_display(",view-only"), 0);
    show(W, H);
    c = view();
    assert_non_null(c);
    SendKeyEvent(c, 'a', TRUE);
    SendPointerEvent(c, 1, 1, 1);
    assert_true(sees(c, W, H)); /* after those */
    assert_int_equal(nevents, 0);
    leave(c);
}

static void test_cursor(void **state)
{
    static uint32_t argb[64 * 64];
    const struct mobo_cursor cur = {
        .size = sizeof(cur), .width = 64, .height = 64, .hot_x = 3, .hot_y = 63, .argb = argb
    };
    rfbClient *c;

    (void)state;
    memset(argb, 0xff, sizeof(argb));
    assert_int_equal(open_display(""), 0);
    display_cursor(disp, &cur);
    display_cursor_move(disp, 5, 5, true);
    show(W, H);
    c = view();
    assert_non_null(c);
    for (unsigned i = 0; i < 100; i++) {
        display_cursor(disp, i % 3 ? &cur : NULL);
        display_cursor_move(disp, (int)(i * 1000) - 5000, 60000 - (int)i, i % 5 != 0);
        display_dirty(disp, 0, 0, W, H);
        if (WaitForMessage(c, 1000) > 0)
            assert_true(HandleRFBServerMessage(c));
    }
    display_cursor(disp, NULL);
    pixels[0] ^= 0xff;
    display_dirty(disp, 0, 0, W, H);
    assert_true(sees(c, W, H));
    leave(c);
}

/* A browser's frame (RFC 6455 5.2): binary, final, masked with zeroes. */
static void ws_send(int fd, const void *buf, unsigned len)
{
    uint8_t m[6 + 125] = { 0x82, (uint8_t)(0x80 | len) };

    memcpy(m + 6, buf, len);
    assert_int_equal(send(fd, m, 6 + len, MSG_NOSIGNAL), 6 + len);
}

/* One frame of the server.  @return its length. */
static unsigned ws_recv(int fd, uint8_t *buf, unsigned max)
{
    uint8_t head[4];
    unsigned len;

    assert_int_equal(recv(fd, head, 2, MSG_WAITALL), 2);
    assert_int_equal(head[0] & 0x8f, 0x82);
    len = head[1];
    if (len == 126) {
        assert_int_equal(recv(fd, head, 2, MSG_WAITALL), 2);
        len = (unsigned)head[0] << 8 | head[1];
    }
    assert_true(len <= max);
    assert_int_equal(recv(fd, buf, len, MSG_WAITALL), len);
    return len;
}

static void test_websocket(void **state)
{
    static const char hello[] =
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nOrigin: http://x\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        "Sec-WebSocket-Protocol: binary\r\nSec-WebSocket-Version: 13\r\n\r\n";
    uint8_t buf[512];
    char c, line[1024] = "";
    size_t n = 0;
    int fd;

    (void)state;
    assert_int_equal(open_display(""), 0);
    show(W, H);
    fd = raw();
    assert_int_equal(send(fd, hello, sizeof(hello) - 1, MSG_NOSIGNAL), sizeof(hello) - 1);
    while (n < sizeof(line) - 1 && !strstr(line, "\r\n\r\n")) {
        assert_int_equal(recv(fd, &c, 1, 0), 1);
        line[n++] = c;
    }
    assert_non_null(strstr(line, " 101 "));
    assert_non_null(strstr(line, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")); /* RFC 6455 1.3 */
    assert_int_equal(ws_recv(fd, buf, sizeof(buf)), 12);
    assert_memory_equal(buf, "RFB 003.008\n", 12);
    ws_send(fd, "RFB 003.008\n", 12);
    assert_int_equal(ws_recv(fd, buf, sizeof(buf)), 2);
    ws_send(fd, "\1", 1);
    assert_int_equal(ws_recv(fd, buf, sizeof(buf)), 4);
    ws_send(fd, "\1", 1);
    assert_true(ws_recv(fd, buf, sizeof(buf)) >= 24);
    assert_int_equal(buf[0] << 8 | buf[1], W);
    assert_int_equal(buf[2] << 8 | buf[3], H);
    assert_true(until(&watched, 1));
    ws_send(fd, "\4\1\0\0\0\0\0a", 8);
    assert_true(got(1));
    assert_key(0, 0x1e, 1);
    close(fd);
    assert_true(until(&watched, 0));
}

/* Half messages, none, nonsense: an honest viewer does not notice, and closing does not wait for them. */
static void test_hostile(void **state)
{
    static const char *const starts[] = {
        "", "R", "RFB 003.008\n", "RFB 003.008\n\1", "RFB 003.008\n\1\1", "GET / HTTP/1.1\r\n"
    };
    enum { N = sizeof(starts) / sizeof(starts[0]) };
    int fd[N];
    rfbClient *c;
    time_t start;

    (void)state;
    assert_int_equal(open_display(""), 0);
    show(W, H);
    for (unsigned i = 0; i < N; i++) {
        fd[i] = raw();
        send(fd[i], starts[i], strlen(starts[i]), MSG_NOSIGNAL);
    }
    nap(300);
    /* half a message after a proper start: a list of 65535 encodings that does not come */
    send(fd[4], "\2\0\xff\xff\0\0", 6, MSG_NOSIGNAL);
    c = view();
    assert_non_null(c);
    for (unsigned i = 0; i < 20; i++) {
        pixels[i] ^= 0xffffff;
        display_dirty(disp, i, 0, 1, 1);
        assert_true(sees(c, W, H));
    }
    leave(c);
    for (unsigned i = 0; i < 30; i++) { /* more than there are places for */
        int one = raw();

        send(one, "RFB 003.008\n\1\1\xff\xff\xff\xff\xff\xff\xff\xff\xff", 24, MSG_NOSIGNAL);
        if (i % 3)
            close(one);
        else
            close(dup2(one, one));
    }
    start = time(NULL);
    display_close(disp);
    disp = NULL;
    assert_true(time(NULL) - start <= 4);
    for (unsigned i = 0; i < N; i++)
        close(fd[i]);
}

static void test_specs(void **state)
{
    static const char *const bad[] = {
        "vnc",
        "vnc:",
        "vnc::",
        "vnc:127.0.0.1",
        "vnc:127.0.0.1:",
        "vnc:127.0.0.1:x",
        "vnc:127.0.0.1:59700",
        "vnc:127.0.0.1:-1",
        "vnc:127.0.0.1:0,colour",
        "vnc:unix:",
        "vnc:0.0.0.0:3",
        "vnc:127.0.0.1:0,password-file=/nonexistent/x",
        "sdl",
        "vnc:127.0.0.1:0,no-password,password-file=/etc/hostname",
        "nullx",
    };
    static const char *const good[] = { "null",        "vnc:127.0.0.1:3",           "vnc::3",
                                        "vnc:[::1]:3", "vnc:0.0.0.0:3,no-password", "vnc:unix:x" };
    char msg[VMB_MSG_LEN];
    struct vmb_display *d = NULL;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        msg[0] = 0;
        if (!display_open(&env, "video", bad[i], true, &sink, NULL, &d, msg, sizeof(msg)))
            fail_msg("%s is taken", bad[i]);
        assert_string_not_equal(msg, "");
        assert_null(strchr(msg, '\n'));
    }
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        if (display_open(&env, "video", good[i], true, &sink, NULL, &d, msg, sizeof(msg)))
            fail_msg("%s: %s", good[i], msg);
    assert_null(d);
    put_password("too long a password\n");
    assert_int_equal(
        display_open(&env, "v", "vnc::3,password-file=pass", true, &sink, NULL, &d, msg, 64),
        -ENOENT); /* relative to nothing */
    env.base_dir = dir;
    assert_int_equal(
        display_open(&env, "v", "vnc::3,password-file=pass", true, &sink, NULL, &d, msg, 64),
        -EINVAL);
    put_password("\n");
    assert_int_equal(
        display_open(&env, "v", "vnc::3,password-file=pass", true, &sink, NULL, &d, msg, 64),
        -EINVAL);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_picture),   T(test_formats), T(test_password),  T(test_no_way_round),
        T(test_keys),      T(test_pointer), T(test_view_only), T(test_cursor),
        T(test_websocket), T(test_hostile), T(test_specs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
