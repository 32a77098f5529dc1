/* SPDX-License-Identifier: BSD-2-Clause */
/* The control socket of a running worker: a guest that halts, and a client that asks everything. */
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { REPLY_MS = 20000 };

static char dir[64], sock[100];
static const char *mobo; /* the program */
static pid_t worker;
static int fd = -1;
static char buf[1 << 20];
static size_t have;

static void put(const char *name, const void *data, size_t len)
{
    char path[128];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(data, 1, len, f), len);
    fclose(f);
}

static int dial(void)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int s = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", sock);
    if (connect(s, (struct sockaddr *)&a, sizeof(a)) == 0)
        return s;
    close(s);
    return -1;
}

/* What follows the multiboot header: */
struct guest {
    unsigned len;
    uint8_t code[32];
};
static const struct guest halts = { 4, { 0xfa, 0xf4, 0xeb, 0xfd } }; /* cli; hlt; jmp */

/* @keys: more of [vm]; @restore: a saved state in dir, or NULL. */
static void start_guest(const struct guest *guest, const char *keys, const char *restore)
{
    /* at 1 MiB, entered behind it */
    static const uint8_t header[] = { 0x02, 0xb0, 0xad, 0x1b, 0x00, 0x00, 0x01, 0x00, 0xfe, 0x4f, 0x51,
                                      0xe4, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00,
                                      0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x10, 0x00 };
    uint8_t kernel[sizeof(header) + sizeof(guest->code)];
    char path[128], ini[400];

    memcpy(kernel, header, sizeof(header));
    memcpy(kernel + sizeof(header), guest->code, guest->len);
    put("kernel", kernel, sizeof(header) + guest->len);
    snprintf(ini, sizeof(ini), "[vm]\nname = ctl\nmemory = 16M\nprocessors = 2\n%s[boot]\nfirmware = multiboot\n"
             "kernel = kernel\n[vdev com1]\nbackend = null\n", keys);
    put("vm.ini", ini, strlen(ini));
    snprintf(path, sizeof(path), "%s/vm.ini", dir);
    snprintf(sock, sizeof(sock), "%s/ctl", dir);
    worker = fork();
    assert_true(worker >= 0);
    if (worker == 0) {
        if (restore) {
            char from[128];

            snprintf(from, sizeof(from), "%s/%s", dir, restore);
            execl(mobo, "mobo", "run", "--timeout", "60", "--control", sock, "--restore", from, path, (char *)NULL);
        }
        execl(mobo, "mobo", "run", "--timeout", "60", "--control", sock, path, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 1000 && fd < 0; i++) {
        usleep(10000);
        fd = dial();
    }
    assert_true(fd >= 0);
    have = 0;
}

static void start(void)
{
    start_guest(&halts, "", NULL);
}

static int finish(void)
{
    int status = 0;

    close(fd);
    fd = -1;
    assert_int_equal(waitpid(worker, &status, 0), worker);
    worker = 0;
    assert_int_equal(access(sock, F_OK), -1);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static json_t *line(void)
{
    for (;;) {
        char *nl = memchr(buf, '\n', have);
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t n;

        if (nl) {
            size_t len = (size_t)(nl + 1 - buf);
            json_t *o = json_loadb(buf, len, 0, NULL);
            memmove(buf, nl + 1, have - len);
            have -= len;
            assert_non_null(o);
            return o;
        }
        assert_int_equal(poll(&p, 1, REPLY_MS), 1);
        n = read(fd, buf + have, sizeof(buf) - have);
        if (n <= 0)
            return NULL;
        have += (size_t)n;
    }
}

static void say(const char *text)
{
    assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* The answer with our id; events in between are dropped.  NULL: the worker hung up. */
static json_t *ask(const char *method, const char *params)
{
    static int id;
    char text[1200];
    json_t *o;

    snprintf(text, sizeof(text), "{\"jsonrpc\":\"2.0\",\"id\":%d,\"method\":\"%s\"%s%s}\n", ++id,
             method, params ? ",\"params\":" : "", params ? params : "");
    say(text);
    while ((o = line())) {
        if (json_is_integer(json_object_get(o, "id"))) {
            assert_int_equal(json_integer_value(json_object_get(o, "id")), id);
            return o;
        }
        assert_string_equal(json_string_value(json_object_get(o, "method")), "event");
        json_decref(o);
    }
    return NULL;
}

static void expect_ok(const char *method)
{
    json_t *o = ask(method, NULL);

    assert_non_null(o);
    assert_non_null(json_object_get(o, "result"));
    json_decref(o);
}

static void expect_error(const char *method, const char *params, int code)
{
    json_t *o = ask(method, params);

    assert_non_null(o);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "error"), "code")),
                     code);
    json_decref(o);
}

static void expect_state(const char *want)
{
    json_t *o = ask("status", NULL), *r = json_object_get(o, "result");

    assert_string_equal(json_string_value(json_object_get(r, "state")), want);
    assert_string_equal(json_string_value(json_object_get(r, "name")), "ctl");
    assert_int_equal(json_integer_value(json_object_get(r, "memory")), 16 << 20);
    json_decref(o);
}

static uint64_t guest_time(void)
{
    json_t *o = ask("stats", NULL);
    json_int_t t =
        json_integer_value(json_object_get(json_object_get(o, "result"), "guest_time_ns"));

    assert_int_equal(json_array_size(json_object_get(json_object_get(o, "result"), "processors")),
                     2);
    json_decref(o);
    return (uint64_t)t;
}

/* A line of the worker's /proc status. */
static void expect_proc(const char *want)
{
    char path[64], text[256];
    bool found = false;
    FILE *f;

    snprintf(path, sizeof(path), "/proc/%d/status", (int)worker);
    f = fopen(path, "r");
    assert_non_null(f);
    while (fgets(text, sizeof(text), f))
        found |= strncmp(text, want, strlen(want)) == 0;
    fclose(f);
    assert_true(found);
}

/* The socket is there a little before the VM runs. */
static void wait_running(void)
{
    bool runs;

    do {
        json_t *o = ask("status", NULL);

        runs = !strcmp(json_string_value(json_object_get(json_object_get(o, "result"), "state")), "running");
        json_decref(o);
    } while (!runs);
}

/* Paused is what it says and is: until somebody resumes it. */
static void expect_paused_until_resume(void)
{
    uint64_t t;

    expect_state("paused");
    t = guest_time();
    usleep(20000);
    assert_true(guest_time() == t);
    expect_ok("resume");
    expect_state("running");
    usleep(5000);
    assert_true(guest_time() > t);
}

static void test_methods(void **state)
{
    json_t *o, *com1;

    (void)state;
    start();
    wait_running();
    expect_proc("CapEff:\t0000000000000000");
    expect_proc("NoNewPrivs:\t1");
    expect_ok("pause");
    expect_ok("pause");
    expect_paused_until_resume();
    expect_ok("reset");
    /* a VM that is paused stays so over a reset */
    expect_ok("pause");
    expect_ok("reset");
    expect_paused_until_resume();
    expect_ok("power-button");
    o = ask("inspect", "{\"device\":\"com1\"}");
    com1 = json_object_get(json_object_get(o, "result"), "com1");
    assert_string_equal(json_string_value(json_object_get(com1, "type")), "uart16550");
    json_decref(o);
    o = ask("inspect", NULL);
    assert_true(json_object_size(json_object_get(o, "result")) >= 8);
    json_decref(o);
    expect_error("inspect", "{\"device\":\"nobody\"}", -32000);
    expect_error("inspect", "{\"device\":5}", -32602);
    expect_error("inspect", "[]", -32602);
    expect_error("no-such-method", NULL, -32601);
    /* the answer and the end arrive before the socket closes */
    o = ask("turn-off", NULL);
    assert_non_null(o);
    json_decref(o);
    o = line();
    assert_string_equal(json_string_value(json_object_get(json_object_get(o, "params"), "event")),
                        "ended");
    json_decref(o);
    assert_null(line());
    assert_int_equal(finish(), 0);
}

static void expect_code(int code)
{
    json_t *o = line();

    assert_non_null(o);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "error"), "code")),
                     code);
    json_decref(o);
}

/* A guest without drivers: nothing to see, and keys that pile up in the i8042. */
static void test_screen(void **state)
{
    static const char *const bad[][2] = {
        { "type", NULL },
        { "type", "{\"text\":5}" },
        { "type", "{\"text\":\"\\u00e4\"}" },
        { "key", "{}" },
        { "key", "{\"keys\":\"hyper\"}" },
        { "key", "{\"keys\":\"a+\"}" },
        { "key", "{\"keys\":\"a\",\"action\":\"stroke\"}" },
        { "pointer", "{\"x\":1}" },
        { "pointer", "{\"x\":1,\"y\":1,\"dx\":1}" },
        { "pointer", "{\"dx\":1.5}" },
        { "pointer", "{\"wheel\":128}" },
        { "pointer", "{\"click\":\"any\"}" },
        { "screenshot", "{\"device\":1}" },
    };
    char text[600], params[700];
    json_t *o;
    int code = 0;

    (void)state;
    start();
    wait_running();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        expect_error(bad[i][0], bad[i][1], -32602);
    expect_error("screenshot", NULL, -32000);
    expect_error("screenshot", "{\"device\":\"com1\"}", -32000);
    expect_error("pointer", "{\"x\":1,\"y\":1}", -32000);
    o = ask("pointer", "{\"dx\":3,\"dy\":-3,\"click\":\"left\"}");
    assert_non_null(json_object_get(o, "result"));
    json_decref(o);
    o = ask("key", "{\"keys\":\"ctrl+alt+delete\"}");
    assert_non_null(json_object_get(o, "result"));
    json_decref(o);
    memset(text, 'x', 512);
    text[512] = 0;
    snprintf(params, sizeof(params), "{\"text\":\"%.400s\"}", text);
    for (int i = 0; i < 20 && code != -32001; i++) { /* no keyboard holds that much */
        o = ask("type", params);
        code = (int)json_integer_value(json_object_get(json_object_get(o, "error"), "code"));
        json_decref(o);
    }
    assert_int_equal(code, -32001);
    expect_ok("pause");
    expect_error("key", "{\"keys\":\"a\"}", -32000);
    expect_ok("resume");
    expect_ok("reset"); /* and all of it is forgotten */
    o = ask("type", params);
    assert_non_null(json_object_get(o, "result"));
    json_decref(o);
    json_decref(ask("turn-off", NULL));
    while ((o = line()))
        json_decref(o);
    assert_int_equal(finish(), 0);
}

static void test_nonsense(void **state)
{
    static char big[200 << 10];
    json_t *o;
    int other;

    (void)state;
    start();
    say("rubbish\n");
    expect_code(-32700);
    say("{}\n");
    expect_code(-32600);
    say("[]\n");
    expect_code(-32600);
    say("5\n");
    expect_code(-32600);
    say("{\"jsonrpc\":\"2.0\",\"method\":\"status\",\"id\":{}}\n");
    expect_code(-32600);
    say("{\"jsonrpc\":\"2.0\",\"method\":\"status\"}\n"); /* a notification: no answer */
    say("[{\"jsonrpc\":\"2.0\",\"method\":\"status\",\"id\":\"a\"},7]\n");
    o = line();
    assert_int_equal(json_array_size(o), 2);
    json_decref(o);
    /* a line without an end: this client is dropped, the next one is served */
    memset(big, '[', sizeof(big));
    other = dial();
    assert_true(other >= 0);
    for (size_t done = 0; done < sizeof(big);) {
        ssize_t n = send(other, big + done, sizeof(big) - done, MSG_NOSIGNAL);
        if (n < 0)
            break;
        done += (size_t)n;
    }
    {
        struct pollfd p = { .fd = other, .events = POLLIN };
        assert_int_equal(poll(&p, 1, REPLY_MS), 1);
        assert_true(read(other, big, 1) <= 0);
    }
    close(other);
    expect_state("running");
    kill(worker, SIGTERM);
    assert_int_equal(finish(), 128 + SIGTERM);
}

/* Saved, it ends with a status of its own; restored, guest time goes on; a save that fails changes nothing. */
static void test_save(void **state)
{
    char params[200];
    uint64_t before;
    json_t *o;

    (void)state;
    start();
    wait_running();
    expect_error("save", NULL, -32602);
    expect_error("save", "{\"file\":7}", -32602);
    expect_error("save", "{\"file\":\"/nonexistent/x\"}", -32000);
    expect_state("running");
    expect_ok("pause");
    expect_error("save", "{\"file\":\"/nonexistent/x\"}", -32000);
    expect_state("paused");
    before = guest_time();
    snprintf(params, sizeof(params), "{\"file\":\"%s/state\"}", dir);
    o = ask("save", params);
    assert_non_null(json_object_get(o, "result"));
    json_decref(o);
    do { /* "saved" came before the answer, "ended" says how */
        o = line();
        assert_non_null(o);
    } while (strcmp(json_string_value(json_object_get(json_object_get(o, "params"), "event")), "ended") != 0);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(o, "params"), "status")), 5);
    json_decref(o);
    assert_null(line());
    assert_int_equal(finish(), 5);

    start_guest(&halts, "", "state");
    while (guest_time() <= before)
        usleep(1000);
    assert_true(guest_time() < before + 60000000000ull);
    expect_state("running");
    expect_ok("reset"); /* the kernel is there for the next boot */
    expect_state("running");
    expect_ok("turn-off");
    assert_int_equal(finish(), 0);
}

/* The end or the reset that a guest makes while the control thread is busy is not lost with a save that follows. */
static void test_save_too_late(void **state)
{
    /* waits for a byte of the keyboard, then resets by the keyboard controller */
    static const struct guest resets = { 12, { 0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfe } };
    /* likewise, then int3 without an IDT */
    static const struct guest crashes = { 14, { 0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0x0f, 0x01, 0x1d, 0x00, 0x08, 0x10,
                                                0x00, 0xcc } };
    static const char key[] = "[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"key\",\"params\":{\"keys\":\"a\"}}",
                      busy[] = ",{\"jsonrpc\":\"2.0\",\"method\":\"inspect\"}",
                      save[] = ",{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"save\",\"params\":{\"file\":\"%s/state\"}}]\n";
    enum { TIMES = 500 };
    static char text[sizeof(key) + TIMES * sizeof(busy) + sizeof(save) + sizeof(dir)];

    (void)state;
    for (int reset = 0; reset < 2; reset++) {
        const char *want = reset ? "the guest has just reset: try again" : "the VM has just ended", *event;
        size_t n = sizeof(key) - 1;
        json_t *o, *error;

        start_guest(reset ? &resets : &crashes, "", NULL);
        wait_running();
        memcpy(text, key, n);
        for (int i = 0; i < TIMES; i++, n += sizeof(busy) - 1)
            memcpy(text + n, busy, sizeof(busy) - 1);
        snprintf(text + n, sizeof(text) - n, save, dir);
        say(text);
        o = line();
        assert_non_null(json_object_get(json_array_get(o, 0), "result"));
        error = json_object_get(json_array_get(o, 1), "error");
        assert_non_null(error);
        assert_string_equal(json_string_value(json_object_get(error, "message")), want);
        json_decref(o);
        o = line();
        event = json_string_value(json_object_get(json_object_get(o, "params"), "event"));
        assert_string_equal(event, reset ? "reset" : "ended");
        json_decref(o);
        if (reset) {
            expect_state("running");
            json_decref(ask("turn-off", NULL));
        }
        assert_int_equal(finish(), reset ? 0 : 3);
    }
}

/* What the service of the guest cannot show is refused, not cut. */
static void test_shutdown_text(void **state)
{
    char params[1100];
    json_t *o;

    (void)state;
    start_guest(&halts, "enlightened = yes\n", NULL);
    wait_running();
    snprintf(params, sizeof(params), "{\"text\":\"%01024d\"}", 0);
    o = ask("shutdown", params);
    assert_non_null(strstr(json_string_value(json_object_get(json_object_get(o, "error"), "message")), "too long"));
    json_decref(o);
    json_decref(ask("turn-off", NULL));
    assert_int_equal(finish(), 0);
}

static int teardown(void **state)
{
    char path[128];
    static const char *const names[] = { "kernel", "vm.ini", "ctl", "state" };

    (void)state;
    if (worker) {
        kill(worker, SIGKILL);
        waitpid(worker, NULL, 0);
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
        unlink(path);
    }
    rmdir(dir);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods),
        cmocka_unit_test(test_screen),
        cmocka_unit_test(test_nonsense),
        cmocka_unit_test(test_save),
        cmocka_unit_test(test_save_too_late),
        cmocka_unit_test(test_shutdown_text),
    };

    mobo = getenv("MOBO");
    if (!mobo || access(mobo, X_OK)) {
        puts("MOBO does not name the program");
        return 77;
    }
    snprintf(dir, sizeof(dir), "%.30s/control-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(dir))
        return 1;
    return cmocka_run_group_tests(tests, NULL, teardown);
}
