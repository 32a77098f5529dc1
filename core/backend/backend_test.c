/* SPDX-License-Identifier: BSD-2-Clause */
/* Character backends against a device of the test's own, the event loop stepped by hand. */
#include "core/backend/backend.h"

#include <errno.h>
#include <event2/event.h>
#include <event2/thread.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <cmocka.h>

static struct dev {
    size_t room; /* what can_read() answers */
    uint8_t got[1 << 20];
    size_t ngot;
    unsigned opened, closed, breaks, writable;
} dev;

static size_t dev_can_read(void *ctx)
{
    struct dev *d = ctx;

    return d->room;
}

static void dev_read(void *ctx, const uint8_t *buf, size_t len)
{
    struct dev *d = ctx;

    assert_true(len > 0 && len <= d->room && d->ngot + len <= sizeof(d->got));
    memcpy(d->got + d->ngot, buf, len);
    d->ngot += len;
    d->room -= len;
}

static void dev_event(void *ctx, unsigned event)
{
    struct dev *d = ctx;

    d->opened += event == MOBO_CHAR_OPENED;
    d->closed += event == MOBO_CHAR_CLOSED;
    d->breaks += event == MOBO_CHAR_BREAK;
    d->writable += event == MOBO_CHAR_WRITABLE;
}

static const struct vmb_char_sink sink = { dev_can_read, dev_read, dev_event };

static int commands[8], ncommands;
static char announced[256], msg[256], dir[64], path[128];
static struct event_base *base;
static struct backend_env env;

static void on_command(void *ctx, enum backend_command cmd)
{
    (void)ctx;
    commands[ncommands++] = cmd;
}

static void on_announce(void *ctx, const char *line)
{
    (void)ctx;
    snprintf(announced, sizeof(announced), "%s", line);
}

/* Let everything that is due happen; the backends' own timers are 200 ms. */
static void settle(void)
{
    for (int i = 0; i < 20; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        usleep(500);
    }
}

static void settle_pty(void)
{
    for (int i = 0; i < 30; i++) {
        settle();
        usleep(2000);
    }
}

/* Until *@n is @val, which the caller asserts; on a busy host that can take a while. */
static void await(const unsigned *n, unsigned val)
{
    for (int i = 0; i < 1000 && *n != val; i++)
        settle();
}

static int each_setup(void **state)
{
    (void)state;
    memset(&dev, 0, sizeof(dev));
    dev.room = 1000;
    ncommands = 0;
    env = (struct backend_env){ .base_dir = dir, .command = on_command, .announce = on_announce };
    base = event_base_new();
    return base ? 0 : -1;
}

static int each_teardown(void **state)
{
    (void)state;
    event_base_free(base);
    return 0;
}

static struct vmb_backend *must_open(const char *spec)
{
    struct vmb_backend *b = NULL;
    int err = backend_open(&env, base, "com1", spec, false, &sink, &dev, &b, msg, sizeof(msg));

    if (err)
        print_error("%s\n", msg);
    assert_int_equal(err, 0);
    assert_non_null(b);
    return b;
}

static void refuse(const char *spec, const char *expect)
{
    struct vmb_backend *b = NULL;

    assert_true(backend_open(&env, base, "com1", spec, true, &sink, &dev, &b, msg, sizeof(msg)) <
                0);
    assert_null(b);
    assert_string_equal(msg, expect);
}

static void test_specs(void **state)
{
    (void)state;
    refuse("stdoi", "unknown backend 'stdoi' (did you mean 'stdio'?)");
    refuse("tcp:1", "unknown backend 'tcp:1' (known: stdio, pty, unix:PATH, file:PATH, null)");
    refuse("", "unknown backend '' (known: stdio, pty, unix:PATH, file:PATH, null)");
    refuse("file", "'file' needs a path: file:PATH");
    refuse("unix:", "'unix' has no path after ':'");
    refuse("null:x", "'null' takes no path");
    struct vmb_backend *b = NULL;
    assert_int_equal(backend_open(&env, base, "a", "stdio", true, &sink, &dev, &b, msg, 256), 0);
    assert_null(b);
    refuse("stdio", "stdio is taken by 'a'");
}

static void test_null(void **state)
{
    struct vmb_backend *b = must_open("null");
    static uint8_t big[100000];

    (void)state;
    assert_int_equal(backend_write(b, big, sizeof(big)), sizeof(big));
    backend_ready(b);
    backend_close(b);
}

static void test_file(void **state)
{
    struct vmb_backend *b = must_open("file:out");
    static uint8_t buf[200000], back[200000];
    size_t done = 0;
    int fd;

    (void)state;
    for (size_t i = 0; i < sizeof(buf); i++)
        buf[i] = (uint8_t)(i * 31 >> 3);
    while (done < sizeof(buf)) {
        size_t n = backend_write(b, buf + done, sizeof(buf) - done);
        done += n;
        settle();
    }
    assert_true(dev.writable > 0);
    assert_int_equal(backend_pending(b), 0);
    backend_write(b, (const uint8_t *)"end", 3); /* close writes what is left */
    backend_close(b);
    snprintf(path, sizeof(path), "%s/out", dir);
    fd = open(path, O_RDONLY);
    assert_true(fd >= 0);
    assert_int_equal(read(fd, back, sizeof(back)), (ssize_t)sizeof(back));
    assert_memory_equal(buf, back, sizeof(buf));
    assert_int_equal(read(fd, back, 10), 3);
    close(fd);
    unlink(path);
    struct vmb_backend *none = NULL;
    assert_true(backend_open(&env, base, "c", "file:no/such/dir", false, &sink, &dev, &none, msg,
                             sizeof(msg)) < 0);
    assert_non_null(strstr(msg, "no/such/dir: No such file or directory"));
}

enum { FLOOD = 1 << 20 };
static struct vmb_backend *flooded;
static size_t flood_left;

/* In place of the C library's: a guest that writes as fast as what it wrote is taken. */
ssize_t write(int fd, const void *buf, size_t len)
{
    ssize_t n = syscall(SYS_write, fd, buf, len);

    if (flooded && n > 0) {
        size_t more = (size_t)n < flood_left ? (size_t)n : flood_left;

        flood_left -= backend_write(flooded, buf, more);
    }
    return n;
}

static void measure(evutil_socket_t fd, short what, void *arg)
{
    struct stat st;

    (void)fd;
    (void)what;
    assert_int_equal(stat(path, &st), 0);
    *(off_t *)arg = st.st_size;
}

/* A guest that writes without end does not keep other events waiting. */
static void test_flood(void **state)
{
    struct vmb_backend *b = must_open("file:out");
    static const uint8_t first[64 << 10];
    struct event *other;
    struct stat st;
    off_t len = -1;

    (void)state;
    snprintf(path, sizeof(path), "%s/out", dir);
    other = event_new(base, -1, 0, measure, &len);
    assert_non_null(other);
    assert_int_equal(backend_write(b, first, sizeof(first)), sizeof(first));
    flooded = b;
    flood_left = FLOOD;
    event_active(other, 0, 0);
    settle();
    assert_int_equal(len, sizeof(first));
    while (backend_pending(b))
        settle();
    flooded = NULL;
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, FLOOD + sizeof(first));
    event_free(other);
    backend_close(b);
    unlink(path);
}

static int dial(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s/sock", dir);
    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

static void test_unix(void **state)
{
    struct vmb_backend *b = must_open("unix:sock"), *second = NULL;
    static uint8_t big[200000];
    char buf[64];
    int fd, other;
    size_t total = 0, sent;
    struct stat st;

    (void)state;
    snprintf(path, sizeof(path), "%s/sock", dir);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    assert_true(backend_open(&env, base, "c", "unix:sock", false, &sink, &dev, &second, msg,
                             sizeof(msg)) < 0);
    assert_non_null(strstr(msg, "Address already in use"));

    /* that look at the socket does not take the place of a client */
    fd = dial();
    settle();
    assert_int_equal(dev.opened - dev.closed, 1);
    close(fd);
    settle();
    dev.opened = dev.closed = 0;

    /* nobody there: output vanishes */
    assert_int_equal(backend_write(b, big, sizeof(big)), sizeof(big));
    fd = dial();
    settle();
    assert_int_equal(dev.opened, 1);
    backend_write(b, (const uint8_t *)"hello", 5);
    settle();
    assert_int_equal(read(fd, buf, sizeof(buf)), 5);
    other = dial(); /* a second one is turned away */
    settle();
    assert_int_equal(read(other, buf, 1), 0);
    close(other);

    /* input: no more than the device takes */
    dev.room = 3;
    assert_int_equal(write(fd, "abcdef", 6), 6);
    settle();
    assert_int_equal(dev.ngot, 3);
    settle();
    dev.room = 100;
    backend_ready(b);
    settle();
    assert_int_equal(dev.ngot, 6);
    assert_memory_equal(dev.got, "abcdef", 6);

    /* output: a slow peer */
    sent = backend_write(b, big, sizeof(big));
    assert_int_equal(sent, 64 << 10);
    settle();
    while (backend_write(b, big, 4096) == 4096)
        settle();
    dev.writable = 0;
    for (int i = 0; i < 1000 && !dev.writable; i++) {
        static uint8_t drain[8192];
        ssize_t n = read(fd, drain, sizeof(drain));
        total += n > 0 ? (size_t)n : 0;
        event_base_loop(base, EVLOOP_NONBLOCK);
    }
    assert_int_equal(dev.writable, 1);
    assert_true(total > 0);

    /* gone and back */
    close(fd);
    settle();
    assert_int_equal(dev.closed, 1);
    assert_int_equal(backend_write(b, big, sizeof(big)), sizeof(big));
    fd = dial();
    settle();
    assert_int_equal(dev.opened, 2);
    assert_int_equal(read(fd, buf, 1), -1);
    close(fd);
    backend_close(b);
    assert_int_equal(stat(path, &st), -1);
}

static void test_pty(void **state)
{
    struct vmb_backend *b = must_open("pty:link");
    char buf[64];
    ssize_t n = -1;
    int fd;

    (void)state;
    assert_non_null(strstr(announced, "com1 is on /dev/pts/"));
    snprintf(path, sizeof(path), "%s/link", dir);
    settle_pty();
    assert_int_equal(dev.opened, 0);
    assert_int_equal(backend_write(b, (const uint8_t *)"lost", 4), 4);
    fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    assert_true(fd >= 0);
    await(&dev.opened, 1);
    assert_int_equal(dev.opened, 1);
    backend_write(b, (const uint8_t *)"out\n", 4);
    settle();
    for (int i = 0; i < 1000 && (n = read(fd, buf, sizeof(buf))) < 0 && errno == EAGAIN; i++)
        settle();
    assert_int_equal(n, 4);
    assert_memory_equal(buf, "out\n", 4);
    assert_int_equal(write(fd, "in\r\001x", 5), 5);
    for (int i = 0; i < 1000 && dev.ngot < 5; i++)
        settle();
    assert_int_equal(dev.ngot, 5);
    assert_memory_equal(dev.got, "in\r\001x", 5);
    close(fd);
    await(&dev.closed, 1);
    assert_int_equal(dev.closed, 1);
    fd = open(path, O_RDWR | O_NOCTTY | O_NONBLOCK);
    await(&dev.opened, 2);
    assert_int_equal(dev.opened, 2);
    close(fd);
    backend_close(b);
    assert_int_equal(access(path, F_OK), -1);
}

/* Standard streams that are a terminal: needs a session of its own, so in a child. */
static int stdio_child(int slave, int report)
{
    struct vmb_backend *b = NULL;
    struct termios before, during, after;
    char out[256];
    int n;

    setsid();
    dup2(slave, 0);
    dup2(slave, 1);
    if (tcsetpgrp(0, getpgrp()) && errno != ENOTTY)
        return 1;
    tcgetattr(0, &before);
    base = event_base_new();
    if (backend_open(&env, base, "com1", "stdio", false, &sink, &dev, &b, msg, sizeof(msg)))
        return 2;
    tcgetattr(0, &during);
    backend_write(b, (const uint8_t *)"ready", 5);
    for (int i = 0; i < 400 && ncommands == 0; i++) {
        event_base_loop(base, EVLOOP_NONBLOCK);
        usleep(5000);
    }
    backend_close(b);
    tcgetattr(0, &after);
    n = snprintf(out, sizeof(out), "%d %d %d %d %u %.*s", !!(before.c_lflag & ECHO),
                 !!(during.c_lflag & ECHO), !!(after.c_lflag & ECHO), ncommands ? commands[0] : 0,
                 dev.breaks, (int)dev.ngot, (char *)dev.got);
    return write(report, out, (size_t)n) == n ? 0 : 3;
}

static void test_stdio_terminal(void **state)
{
    int master = posix_openpt(O_RDWR | O_NOCTTY), slave, pipefd[2];
    char buf[256], name[64];
    ssize_t n, total = 0;
    pid_t pid;

    (void)state;
    assert_true(master >= 0 && grantpt(master) == 0 && unlockpt(master) == 0);
    assert_int_equal(ptsname_r(master, name, sizeof(name)), 0);
    assert_int_equal(pipe(pipefd), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        setsid();
        slave = open(name, O_RDWR); /* becomes the controlling terminal */
        _exit(slave < 0 ? 4 : stdio_child(slave, pipefd[1]));
    }
    close(pipefd[1]);
    while (total < 5 && (n = read(master, buf, sizeof(buf))) > 0)
        total += n;
    /* text, Ctrl-A twice, a break, an unknown command, quit */
    assert_int_equal(write(master, "hi\003\001\001\001a\001b\001z!\001x", 14), 14);
    total = 0;
    while ((n = read(pipefd[0], buf + total, sizeof(buf) - 1 - (size_t)total)) > 0)
        total += n;
    buf[total] = '\0';
    assert_string_equal(buf, "1 0 1 1 1 hi\003\001\001!");
    close(pipefd[0]);
    close(master);
}

/* Standard input that is a pipe, and one that ends. */
static void test_stdio_pipe(void **state)
{
    int in[2], out[2], keep0 = dup(0), keep1 = dup(1);
    struct vmb_backend *b;
    char buf[64];

    (void)state;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    dup2(in[0], 0);
    dup2(out[1], 1);
    b = must_open("stdio");
    assert_int_equal(write(in[1], "a\001xb", 4), 4); /* no commands here */
    settle();
    backend_write(b, (const uint8_t *)"text", 4);
    settle();
    close(in[1]);
    settle();
    backend_write(b, (const uint8_t *)" more", 5);
    backend_close(b);
    dup2(keep0, 0);
    dup2(keep1, 1);
    close(keep0);
    close(keep1);
    assert_int_equal(dev.ngot, 4);
    assert_memory_equal(dev.got, "a\001xb", 4);
    assert_int_equal(ncommands, 0);
    assert_int_equal(read(out[0], buf, sizeof(buf)), 9);
    assert_memory_equal(buf, "text more", 9);
    close(in[0]);
    close(out[0]);
    close(out[1]);
}

/* Standard input that is a file or /dev/null has no readiness events. */
static void test_stdio_file(void **state)
{
    int keep0 = dup(0), fd;
    struct vmb_backend *b;

    (void)state;
    snprintf(path, sizeof(path), "%s/input", dir);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(fd, "0123456789", 10), 10);
    lseek(fd, 0, SEEK_SET);
    dup2(fd, 0);
    dev.room = 4;
    b = must_open("stdio");
    settle();
    assert_int_equal(dev.ngot, 4);
    dev.room = 100;
    backend_ready(b);
    settle();
    assert_int_equal(dev.ngot, 10);
    backend_close(b);
    dup2(keep0, 0);
    close(keep0);
    close(fd);
    unlink(path);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, each_setup, each_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_specs), TEST(test_null),           TEST(test_file),       TEST(test_unix), TEST(test_flood),
        TEST(test_pty),   TEST(test_stdio_terminal), TEST(test_stdio_pipe), TEST(test_stdio_file),
    };
    int failed;

    evthread_use_pthreads();
    snprintf(dir, sizeof(dir), "%.30s/backend-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    failed = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(dir);
    return failed;
}
