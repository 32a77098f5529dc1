/* SPDX-License-Identifier: BSD-2-Clause */
/* Both ends of the tests of hvsocket: in the guest on AF_VSOCK, on the host on Unix sockets.
 *
 *   vsock serve WHERE        services: port 7 echoes, 9 answers with count and sum, 19 sends as much as asked
 *   vsock push WHERE BYTES   to port 9; ends its half, then compares the answer
 *   vsock pull WHERE BYTES   from port 19
 *   vsock many WHERE N       N connections to port 7 at the same time
 *   vsock refused WHERE      to port 11, where nobody listens
 *   vsock garbage WHERE      on the host: what is no command
 *
 * WHERE is "vsock" in the guest and the device's `path` on the host.  Exit 0: as it should be. */
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

enum { ECHO = 7, SINK = 9, CLOSED = 11, SOURCE = 19, BLOCK = 65536 };

static uint64_t block[BLOCK / 8];

static void fail(const char *what)
{
    fprintf(stderr, "vsock: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int is_guest(const char *where)
{
    return !strcmp(where, "vsock");
}

static socklen_t address(const char *where, unsigned port, int listens, struct sockaddr_storage *s)
{
    struct sockaddr_vm *v = (struct sockaddr_vm *)s;
    struct sockaddr_un *u = (struct sockaddr_un *)s;

    memset(s, 0, sizeof(*s));
    if (is_guest(where)) {
        v->svm_family = AF_VSOCK;
        v->svm_cid = listens ? VMADDR_CID_ANY : VMADDR_CID_HOST;
        v->svm_port = port;
        return sizeof(*v);
    }
    u->sun_family = AF_UNIX;
    snprintf(u->sun_path, sizeof(u->sun_path), listens ? "%s_%u" : "%s", where, port);
    return sizeof(*u);
}

/* @return the connection, -1. */
static int dial(const char *where, unsigned port)
{
    struct sockaddr_storage s;
    socklen_t len = address(where, port, 0, &s);
    int fd = socket(s.ss_family, SOCK_STREAM, 0);
    char text[32], want[32];
    size_t n = 0;

    if (fd < 0 || connect(fd, (struct sockaddr *)&s, len))
        goto bad;
    if (is_guest(where))
        return fd;
    dprintf(fd, "CONNECT %u\n", port);
    snprintf(want, sizeof(want), "OK %u\n", port);
    for (; n < strlen(want); n++)
        if (read(fd, text + n, 1) != 1)
            goto bad;
    if (!memcmp(text, want, n))
        return fd;
bad:
    if (fd >= 0)
        close(fd);
    return -1;
}

static void write_all(int fd, const void *buf, size_t len)
{
    for (const char *p = buf; len;) {
        ssize_t n = write(fd, p, len);

        if (n <= 0)
            fail("write");
        p += n;
        len -= (size_t)n;
    }
}

/* @return bytes, fewer than @len at the end. */
static size_t read_all(int fd, void *buf, size_t len)
{
    size_t at = 0;

    while (at < len) {
        ssize_t n = read(fd, (char *)buf + at, len - at);

        if (n < 0)
            fail("read");
        if (!n)
            break;
        at += (size_t)n;
    }
    return at;
}

static void fill(uint64_t *x)
{
    for (unsigned i = 0; i < BLOCK / 8; i++) {
        *x ^= *x << 13;
        *x ^= *x >> 7;
        *x ^= *x << 17;
        block[i] = *x;
    }
}

static uint64_t sum_of(uint64_t sum, size_t len)
{
    for (size_t i = 0; i < len / 8; i++)
        sum = (sum << 1 | sum >> 63) + block[i];
    return sum;
}

/* The stream of all transfers.  @return its sum. */
static uint64_t send_stream(int fd, uint64_t bytes)
{
    uint64_t x = 0x9e3779b97f4a7c15, sum = 0;

    for (; bytes; bytes -= BLOCK) {
        fill(&x);
        sum = sum_of(sum, BLOCK);
        write_all(fd, block, BLOCK);
    }
    return sum;
}

static uint64_t stream_sum(uint64_t bytes)
{
    uint64_t x = 0x9e3779b97f4a7c15, sum = 0;

    for (; bytes; bytes -= BLOCK) {
        fill(&x);
        sum = sum_of(sum, BLOCK);
    }
    return sum;
}

static uint64_t receive_stream(int fd, uint64_t *ret_bytes)
{
    uint64_t sum = 0;
    size_t n;

    *ret_bytes = 0;
    while ((n = read_all(fd, block, BLOCK))) {
        sum = sum_of(sum, n);
        *ret_bytes += n;
    }
    return sum;
}

static void serve_one(int fd, unsigned port)
{
    uint64_t bytes, sum;
    ssize_t n;

    switch (port) {
    case ECHO:
        while ((n = read(fd, block, BLOCK)) > 0)
            write_all(fd, block, (size_t)n);
        break;
    case SINK:
        sum = receive_stream(fd, &bytes);
        dprintf(fd, "%llu %llx\n", (unsigned long long)bytes, (unsigned long long)sum);
        break;
    default:
        if (read_all(fd, &bytes, 8) == 8)
            send_stream(fd, bytes);
    }
}

static int serve(const char *where)
{
    static const unsigned ports[] = { ECHO, SINK, SOURCE };

    signal(SIGCHLD, SIG_IGN);
    for (unsigned i = 0; i < 3; i++) {
        struct sockaddr_storage s;
        socklen_t len = address(where, ports[i], 1, &s);
        int fd = socket(s.ss_family, SOCK_STREAM, 0);

        if (!is_guest(where))
            unlink(((struct sockaddr_un *)&s)->sun_path);
        if (fd < 0 || bind(fd, (struct sockaddr *)&s, len) || listen(fd, 128))
            fail("listen");
        if (fork())
            continue;
        for (;;) {
            int one = accept(fd, NULL, NULL);

            if (one < 0)
                continue;
            if (!fork()) {
                serve_one(one, ports[i]);
                exit(0);
            }
            close(one);
        }
    }
    for (;;)
        pause();
}

static int push(const char *where, uint64_t bytes)
{
    int fd = dial(where, SINK);
    char text[64] = "", want[64];
    uint64_t sum;

    if (fd < 0)
        fail("connect");
    sum = send_stream(fd, bytes);
    shutdown(fd, SHUT_WR);
    snprintf(want, sizeof(want), "%llu %llx\n", (unsigned long long)bytes, (unsigned long long)sum);
    read_all(fd, text, sizeof(text) - 1);
    if (!strcmp(text, want))
        return 0;
    fprintf(stderr, "vsock: push: the answer is '%s', not '%s'\n", text, want);
    return 1;
}

static int pull(const char *where, uint64_t bytes)
{
    int fd = dial(where, SOURCE);
    uint64_t got, sum;

    if (fd < 0)
        fail("connect");
    write_all(fd, &bytes, 8);
    sum = receive_stream(fd, &got);
    if (got == bytes && sum == stream_sum(bytes))
        return 0;
    fprintf(stderr, "vsock: pull: %llu bytes instead of %llu, or others\n", (unsigned long long)got,
            (unsigned long long)bytes);
    return 1;
}

static int many(const char *where, unsigned count)
{
    int *fd = calloc(count, sizeof(*fd));
    char text[1000], back[1000];

    if (!fd)
        fail("memory");
    for (unsigned i = 0; i < count; i++)
        if ((fd[i] = dial(where, ECHO)) < 0)
            fail("connect");
    for (unsigned i = 0; i < count; i++) {
        memset(text, (int)('a' + i % 26), sizeof(text));
        write_all(fd[i], text, sizeof(text));
    }
    for (unsigned i = 0; i < count; i++) {
        memset(text, (int)('a' + i % 26), sizeof(text));
        shutdown(fd[i], SHUT_WR);
        if (read_all(fd[i], back, sizeof(back)) != sizeof(back) ||
            memcmp(text, back, sizeof(back)) || read_all(fd[i], back, 1)) {
            fprintf(stderr, "vsock: connection %u of %u has a wrong echo\n", i, count);
            free(fd);
            return 1;
        }
        close(fd[i]);
    }
    free(fd);
    return 0;
}

/* Lines that are no command, too long, or never end: the connection is closed without an answer. */
static int garbage(const char *where)
{
    static const char *const lines[] = {
        "\n",           "CONNECT\n",     "CONNECT x\n", "CONNECT 4294967296\n",
        "CONNECT -1\n", "CONNECT 7 7\n", "connect 7\n", "CONNECT 000000000000000000000000000007\n"
    };

    for (unsigned i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct sockaddr_storage s;
        socklen_t len = address(where, 0, 0, &s);
        int fd = socket(s.ss_family, SOCK_STREAM, 0);
        char c;

        if (fd < 0 || connect(fd, (struct sockaddr *)&s, len))
            fail("connect");
        if (write(fd, lines[i], strlen(lines[i])) < 0)
            fail("write");
        if (recv(fd, &c, 1, 0) > 0) {
            fprintf(stderr, "vsock: an answer to '%s'\n", lines[i]);
            return 1;
        }
        close(fd);
    }
    return 0;
}

int main(int argc, char **argv)
{
    const char *what = argc > 2 ? argv[1] : "";
    uint64_t n = argc > 3 ? strtoull(argv[3], NULL, 0) : 0;

    signal(SIGPIPE, SIG_IGN);
    if (!strcmp(what, "serve"))
        return serve(argv[2]);
    if (!strcmp(what, "push") && n && n % BLOCK == 0)
        return push(argv[2], n);
    if (!strcmp(what, "pull") && n && n % BLOCK == 0)
        return pull(argv[2], n);
    if (!strcmp(what, "many") && n)
        return many(argv[2], (unsigned)n);
    if (!strcmp(what, "refused"))
        return dial(argv[2], CLOSED) >= 0;
    if (!strcmp(what, "garbage"))
        return garbage(argv[2]);
    fprintf(stderr,
            "usage: vsock serve|push|pull|many|refused|garbage WHERE [BYTES|N] (BYTES: a multiple "
            "of %d)\n",
            BLOCK);
    return 2;
}
