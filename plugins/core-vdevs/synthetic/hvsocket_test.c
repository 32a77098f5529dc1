/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of hvsocket: the test is the guest and the programs of the host. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "plugins/test.h"
#include "plugins/core-vdevs/synthetic/wire.h"

static char folder[64], path[96];
static struct mobo_vmbus_packet p = { .size = sizeof(p) };

static int setup(void **state)
{
    char key[128];
    const char *params[] = { key, "connections=4", "timeout=2", NULL };

    (void)state;
    snprintf(folder, sizeof(folder), "/tmp/hvsocket_test.XXXXXX");
    if (!mkdtemp(folder))
        return -1;
    snprintf(path, sizeof(path), "%s/s", folder);
    snprintf(key, sizeof(key), "path=%s", path);
    if (plug(params))
        return -1;
    return 0;
}

static int cleanup(void **state)
{
    char other[128];

    teardown(state);
    snprintf(other, sizeof(other), "%s_5000", path);
    unlink(other);
    return access(path, F_OK) ? rmdir(folder) : -1;
}

static int dial(const char *line)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

    snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(write(fd, line, strlen(line)), (ssize_t)strlen(line));
    mobo_fake_work(f); /* accepted */
    mobo_fake_work(f); /* read */
    mobo_fake_work(f);
    return fd;
}

static void packet(unsigned n, uint32_t type, uint32_t len, const char *data)
{
    uint8_t m[256] = { 0 };

    wire_put(m, type, 4);
    wire_put(m + 4, len, 4);
    if (data)
        memcpy(m + 8, data, strlen(data));
    mobo_fake_vmbus_send(dev, n, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m,
                         8 + (data ? (uint32_t)strlen(data) : 0));
}

static void expect(unsigned n, const char *data)
{
    assert_int_equal(mobo_fake_vmbus_recv(dev, n, &p), 1);
    assert_int_equal(p.type, MOBO_VMBUS_INBAND);
    assert_int_equal(wire_get(p.data, 4), 1);
    assert_int_equal(wire_get(p.data + 4, 4), strlen(data));
    assert_memory_equal(p.data + 8, data, strlen(data));
}

static void host_reads(int fd, const char *want)
{
    char text[256];
    ssize_t n = read(fd, text, sizeof(text));

    assert_int_equal(n, (ssize_t)strlen(want));
    assert_memory_equal(text, want, strlen(want));
}

static int ended(int fd)
{
    char c;

    return read(fd, &c, 1) <= 0 && errno != EAGAIN;
}

static const uint8_t tail[12] = { 0xcb, 0xfa, 0xe6, 0x11, 0xbd, 0x58,
                                  0x64, 0x00, 0x6a, 0x79, 0x86, 0xd3 };

static void from_host(void **state)
{
    const struct mobo_vmbus_offer *o;
    int fd = dial("CONNECT 5000\nfirst");

    (void)state;
    o = mobo_fake_vmbus_offer(dev, 0);
    assert_non_null(o);
    assert_int_equal(o->flags, MOBO_VMBUS_HVSOCKET | MOBO_VMBUS_PIPE);
    assert_int_equal(wire_get(o->class_id, 4), 5000);
    assert_memory_equal(o->class_id + 4, tail, 12);
    assert_memory_equal(o->instance_id + 4, tail, 12);
    assert_int_equal(o->user_data[4], 1);
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    host_reads(fd, "OK 5000\n");
    expect(0, "first"); /* what followed the line */
    packet(0, 1, 5, "hello");
    host_reads(fd, "hello");
    /* the host's half ends, the guest's goes on, then all ends */
    shutdown(fd, SHUT_WR);
    mobo_fake_work(f);
    expect(0, "");
    packet(0, 1, 3, "abc");
    host_reads(fd, "abc");
    assert_non_null(mobo_fake_vmbus_offer(dev, 0));
    packet(0, 1, 0, NULL);
    assert_null(mobo_fake_vmbus_offer(dev, 0));
    errno = 0;
    assert_true(ended(fd));
    close(fd);
    check_state();
}

static void guest_ends_first(void **state)
{
    int fd = dial("CONNECT 1\r\n");

    (void)state;
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    host_reads(fd, "OK 1\n");
    packet(0, 1, 0, NULL);
    errno = 0;
    assert_true(ended(fd));
    assert_int_equal(write(fd, "late", 4), 4);
    mobo_fake_work(f);
    expect(0, "late");
    close(fd); /* unread data or not: no one is left */
    mobo_fake_work(f);
    assert_null(mobo_fake_vmbus_offer(dev, 0));
    /* a guest that closed with a full ring gives it back after a while */
    fd = dial("CONNECT 1\n");
    assert_int_equal(mobo_fake_vmbus_open(dev, 1, NULL), 0);
    host_reads(fd, "OK 1\n");
    mobo_fake_vmbus_room(dev, 1, 0);
    assert_int_equal(write(fd, "late", 4), 4);
    mobo_fake_work(f);
    packet(1, 1, 0, NULL);
    assert_non_null(mobo_fake_vmbus_offer(dev, 1));
    mobo_fake_step(f, 4000000000ull);
    assert_null(mobo_fake_vmbus_offer(dev, 1));
    close(fd);
}

/* The end, and with it the rescind, follows when the guest has read all before. */
static void unread(void **state)
{
    int fd = dial("CONNECT 1\none");

    (void)state;
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    assert_int_equal(write(fd, "two", 3), 3);
    packet(0, 1, 0, NULL);
    close(fd);
    mobo_fake_work(f);
    assert_non_null(mobo_fake_vmbus_offer(dev, 0));
    mobo_fake_step(f, 1000000000ull); /* half of the time that it has */
    assert_non_null(mobo_fake_vmbus_offer(dev, 0));
    expect(0, "one");
    expect(0, "two");
    assert_non_null(mobo_fake_vmbus_offer(dev, 0));
    assert_int_equal(mobo_fake_vmbus_recv(dev, 0, &p), 0);
    assert_null(mobo_fake_vmbus_offer(dev, 0));
    /* only one half ended: the guest gets the end, and goes on */
    fd = dial("CONNECT 2\none");
    assert_int_equal(mobo_fake_vmbus_open(dev, 1, NULL), 0);
    host_reads(fd, "OK 2\n");
    shutdown(fd, SHUT_WR);
    mobo_fake_work(f);
    mobo_fake_step(f, 10000000000ull); /* as long as the host's program is there it may take its time */
    expect(1, "one");
    expect(1, "");
    packet(1, 1, 3, "abc");
    host_reads(fd, "abc");
    packet(1, 1, 0, NULL);
    assert_null(mobo_fake_vmbus_offer(dev, 1));
    close(fd);
    /* one that never reads is cut off once the host's program has gone */
    fd = dial("CONNECT 3\none");
    assert_int_equal(mobo_fake_vmbus_open(dev, 2, NULL), 0);
    close(fd);
    mobo_fake_work(f);
    mobo_fake_step(f, 1000000000ull);
    assert_non_null(mobo_fake_vmbus_offer(dev, 2));
    mobo_fake_step(f, 3000000000ull);
    assert_null(mobo_fake_vmbus_offer(dev, 2));
    /* and a state does not have it */
    fd = dial("CONNECT 4\none");
    assert_int_equal(mobo_fake_vmbus_open(dev, 3, NULL), 0);
    close(fd);
    mobo_fake_work(f);
    check_state();
    assert_null(mobo_fake_vmbus_offer(dev, 3));
}

static void from_guest(void **state)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    uint8_t endpoint[16], service[16];
    uint32_t status = 0;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0), one;

    (void)state;
    wire_put(endpoint, 77, 4);
    wire_put(service, 5000, 4);
    memcpy(endpoint + 4, tail, 12);
    memcpy(service + 4, tail, 12);
    /* nobody listens */
    assert_int_equal(mobo_fake_vmbus_connect(dev, endpoint, service, &status), 0);
    assert_int_equal(status, 0xc0000236u);
    snprintf(a.sun_path, sizeof(a.sun_path), "%s_5000", path);
    assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(mobo_fake_vmbus_connect(dev, endpoint, service, &status), 0);
    assert_int_equal(status, 0);
    assert_memory_equal(mobo_fake_vmbus_offer(dev, 0)->class_id, service, 16);
    assert_memory_equal(mobo_fake_vmbus_offer(dev, 0)->instance_id, endpoint, 16);
    assert_int_equal(mobo_fake_vmbus_offer(dev, 0)->user_data[4], 0);
    /* twice from the same port, and what is no port */
    assert_int_equal(mobo_fake_vmbus_connect(dev, endpoint, service, &status), 0);
    assert_int_equal(status, 0xc0000236u);
    service[9] ^= 1;
    endpoint[0] ^= 1;
    assert_int_equal(mobo_fake_vmbus_connect(dev, endpoint, service, &status), 0);
    assert_int_equal(status, 0xc0000236u);
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    one = accept4(fd, NULL, NULL, SOCK_NONBLOCK);
    assert_true(one >= 0);
    packet(0, 1, 5, "hello");
    host_reads(one, "hello");
    assert_int_equal(write(one, "back", 4), 4);
    mobo_fake_work(f);
    expect(0, "back");
    close(one);
    mobo_fake_work(f);
    assert_null(mobo_fake_vmbus_offer(dev, 0));
    close(fd);
}

static void limits(void **state)
{
    int fd[5];

    (void)state;
    for (unsigned i = 0; i < 5; i++)
        fd[i] = dial("CONNECT 9\n");
    assert_int_equal(mobo_fake_vmbus_count(dev), 4);
    errno = 0;
    assert_true(ended(fd[4]));
    /* the guest does not accept */
    mobo_fake_step(f, 1000000000ull);
    assert_non_null(mobo_fake_vmbus_offer(dev, 0));
    mobo_fake_step(f, 2000000000ull);
    for (unsigned i = 0; i < 5; i++) {
        if (i < 4)
            assert_null(mobo_fake_vmbus_offer(dev, i));
        close(fd[i]);
    }
    /* commands that are none */
    fd[0] = dial("GET / HTTP/1.1\n");
    fd[1] = dial("CONNECT 4294967295\n");
    fd[2] = dial("CONNECT 00000000000000000000000000000001\n");
    for (unsigned i = 0; i < 3; i++) {
        errno = 0;
        assert_true(ended(fd[i]));
        close(fd[i]);
    }
    assert_int_equal(mobo_fake_vmbus_count(dev), 4);
    /* a reset ends all */
    fd[0] = dial("CONNECT 9\n");
    assert_int_equal(mobo_fake_vmbus_open(dev, 4, NULL), 0);
    mobo_fake_reset(f);
    host_reads(fd[0], "OK 9\n");
    errno = 0;
    assert_true(ended(fd[0]));
    close(fd[0]);
}

static void hostile(void **state)
{
    static const struct {
        uint32_t type, len;
        const char *data, *why;
    } bad[] = {
        { 2, 5, "hello", "not a packet of a socket" },
        { 1, 9, "hello", "a packet's length is wrong" },
        { 1, 0xffffffff, "hello", "a packet's length is wrong" },
    };

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        int fd = dial("CONNECT 9\n");

        assert_int_equal(mobo_fake_vmbus_open(dev, i, NULL), 0);
        packet(i, bad[i].type, bad[i].len, bad[i].data);
        assert_string_equal(mobo_fake_vmbus_fault(dev, i), bad[i].why);
        assert_null(mobo_fake_vmbus_offer(dev, i));
        close(fd);
    }
    /* data after the end */
    int fd = dial("CONNECT 9\n");

    assert_int_equal(mobo_fake_vmbus_open(dev, 3, NULL), 0);
    packet(3, 1, 0, NULL);
    packet(3, 1, 1, "x");
    assert_string_equal(mobo_fake_vmbus_fault(dev, 3), "data after the end");
    close(fd);
}

/* A host that does not read stops the guest, and nothing is lost. */
static void back_pressure(void **state)
{
    int fd = dial("CONNECT 9\n");
    uint64_t sent = 0, got = 0;
    static uint8_t m[8 + 4088], text[65536];
    ssize_t n;

    (void)state;
    assert_int_equal(mobo_fake_vmbus_open(dev, 0, NULL), 0);
    host_reads(fd, "OK 9\n");
    wire_put(m, 1, 4);
    wire_put(m + 4, 4088, 4);
    for (unsigned i = 0; i < 500; i++) {
        memset(m + 8, (int)i, 4088);
        mobo_fake_vmbus_send(dev, 0, MOBO_VMBUS_INBAND, 0, 0, NULL, 0, m, sizeof(m));
        sent += 4088;
    }
    packet(0, 1, 0, NULL);
    for (unsigned tries = 0; tries < 100000 && got < sent; tries++) {
        while ((n = read(fd, text, sizeof(text))) > 0)
            for (ssize_t i = 0; i < n; i++, got++)
                assert_int_equal(text[i], (uint8_t)(got / 4088));
        mobo_fake_work(f);
    }
    assert_int_equal(got, sent);
    mobo_fake_work(f);
    errno = 0;
    assert_true(ended(fd));
    close(fd);
}

#define S(name) cmocka_unit_test_setup_teardown(name, setup, cleanup)

int main(void)
{
    const struct CMUnitTest tests[] = { S(from_host), S(guest_ends_first), S(unread),       S(from_guest),
                                        S(limits),    S(hostile),          S(back_pressure) };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
