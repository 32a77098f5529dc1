/* SPDX-License-Identifier: BSD-2-Clause */
/* The guest's side of the I/O benchmark: disk requests past the page cache with several in flight, flushes, and bytes
 * over TCP.  One line a measurement on standard output: "IO-END NAME BYTES REQUESTS NANOSECONDS".
 *
 * Usage: iobench disk NAME DEVICE read|write seq|rand SIZE DEPTH SECONDS
 *        iobench flush NAME DEVICE SECONDS
 *        iobench send NAME ADDRESS PORT SECONDS
 *        iobench receive NAME PORT
 *        iobench verify DEVICE SEED     write all of the first 64 MiB, read and compare */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DEPTH_MAX = 64 };

static void die(const char *what)
{
    perror(what);
    printf("IO-FAIL %s\n", what);
    exit(1);
}

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t next_random(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static void begin(const char *name)
{
    printf("IO-BEGIN %s\n", name);
    fflush(stdout);
}

static void end(const char *name, uint64_t bytes, uint64_t requests, uint64_t start)
{
    printf("IO-END %s %llu %llu %llu\n", name, (unsigned long long)bytes, (unsigned long long)requests,
           (unsigned long long)(now() - start));
    fflush(stdout);
}

static int open_disk(const char *path, uint64_t *ret_size)
{
    int fd = open(path, O_RDWR | O_DIRECT);

    if (fd < 0 || ioctl(fd, BLKGETSIZE64, ret_size))
        die(path);
    return fd;
}

static void disk(char **a)
{
    const char *name = a[0];
    int write = a[2][0] == 'w', seq = a[3][0] == 's', depth = atoi(a[5]);
    uint64_t size = strtoull(a[4], NULL, 0), limit = strtoull(a[6], NULL, 0) * 1000000000, disk_size;
    uint64_t bytes = 0, requests = 0, at = 0, seed = 88172645463325252u, start, blocks;
    int fd = open_disk(a[1], &disk_size), flying = 0;
    static struct iocb cb[DEPTH_MAX];
    struct iocb *todo[DEPTH_MAX];
    struct io_event done[DEPTH_MAX];
    aio_context_t ctx = 0;

    if (depth < 1 || depth > DEPTH_MAX || syscall(SYS_io_setup, DEPTH_MAX, &ctx))
        die("io_setup");
    blocks = disk_size / size;
    for (int i = 0; i < depth; i++) {
        void *buf;

        if (posix_memalign(&buf, 4096, size))
            die("memory");
        for (uint64_t k = 0; k < size / 8; k++)
            ((uint64_t *)buf)[k] = next_random(&seed);
        cb[i].aio_lio_opcode = write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD;
        cb[i].aio_fildes = (uint32_t)fd;
        cb[i].aio_buf = (uintptr_t)buf;
        cb[i].aio_nbytes = size;
        todo[i] = &cb[i];
    }
    begin(name);
    start = now();
    for (int n = depth; n || flying;) {
        long got;

        for (int i = 0; i < n; i++) {
            todo[i]->aio_offset = (int64_t)(size * (seq ? at++ % blocks : next_random(&seed) % blocks));
        }
        if (n && syscall(SYS_io_submit, ctx, n, todo) != n)
            die("io_submit");
        flying += n;
        got = syscall(SYS_io_getevents, ctx, 1, DEPTH_MAX, done, NULL);
        if (got < 1)
            die("io_getevents");
        n = 0;
        for (int i = 0; i < got; i++) {
            if (done[i].res != (int64_t)size)
                die("a request failed");
            bytes += size;
            requests++;
            todo[n++] = (struct iocb *)(uintptr_t)done[i].obj;
        }
        flying -= (int)got;
        if (now() - start > limit)
            n = 0;
    }
    end(name, bytes, requests, start);
}

static void flush(char **a)
{
    uint64_t disk_size, n = 0, limit = strtoull(a[2], NULL, 0) * 1000000000, start;
    int fd = open_disk(a[1], &disk_size);
    void *buf;

    if (posix_memalign(&buf, 4096, 4096))
        die("memory");
    memset(buf, 0x5a, 4096);
    begin(a[0]);
    start = now();
    do {
        if (pwrite(fd, buf, 4096, (off_t)(4096 * (n % 1024))) != 4096 || fdatasync(fd))
            die("flush");
        n++;
    } while (now() - start < limit);
    end(a[0], 4096 * n, n, start);
}

static void verify(char **a)
{
    const size_t chunk = 1 << 20;
    uint64_t disk_size, seed;
    int fd = open_disk(a[0], &disk_size);
    uint64_t *buf, *want;

    if (posix_memalign((void **)&buf, 4096, chunk) || posix_memalign((void **)&want, 4096, chunk))
        die("memory");
    for (int pass = 0; pass < 2; pass++) {
        seed = strtoull(a[1], NULL, 0) | 1;
        for (int i = 0; i < 64; i++) {
            for (size_t k = 0; k < chunk / 8; k++)
                want[k] = next_random(&seed);
            if (pass == 0 ? pwrite(fd, want, chunk, (off_t)chunk * i) != (ssize_t)chunk
                          : pread(fd, buf, chunk, (off_t)chunk * i) != (ssize_t)chunk)
                die("verify");
            if (pass && memcmp(buf, want, chunk))
                die("verify: other data");
        }
    }
    printf("IO-VERIFIED\n");
}

static void send_tcp(char **a)
{
    static char buf[256 << 10];
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[2])) };
    uint64_t limit = strtoull(a[3], NULL, 0) * 1000000000, bytes = 0, n = 0, start;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    char c;

    inet_pton(AF_INET, a[1], &to.sin_addr);
    if (connect(fd, (struct sockaddr *)&to, sizeof(to)))
        die("connect");
    begin(a[0]);
    start = now();
    do {
        ssize_t got = write(fd, buf, sizeof(buf));

        if (got < 0)
            die("send");
        bytes += (uint64_t)got;
        n++;
    } while (now() - start < limit);
    shutdown(fd, SHUT_WR);
    while (read(fd, &c, 1) > 0) /* until the other end has all */
        ;
    end(a[0], bytes, n, start);
}

static void receive_tcp(char **a)
{
    static char buf[256 << 10];
    struct sockaddr_in me = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(a[1])) };
    int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1, fd;
    uint64_t bytes = 0, n = 0, start;
    ssize_t got;

    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(listener, (struct sockaddr *)&me, sizeof(me)) || listen(listener, 1))
        die("listen");
    printf("IO-LISTEN\n");
    fflush(stdout);
    fd = accept(listener, NULL, NULL);
    if (fd < 0)
        die("accept");
    begin(a[0]);
    start = now();
    while ((got = read(fd, buf, sizeof(buf))) > 0) {
        bytes += (uint64_t)got;
        n++;
    }
    if (got < 0)
        die("receive");
    end(a[0], bytes, n, start);
}

int main(int argc, char **argv)
{
    if (argc == 9 && !strcmp(argv[1], "disk"))
        disk(argv + 2);
    else if (argc == 5 && !strcmp(argv[1], "flush"))
        flush(argv + 2);
    else if (argc == 6 && !strcmp(argv[1], "send"))
        send_tcp(argv + 2);
    else if (argc == 4 && !strcmp(argv[1], "receive"))
        receive_tcp(argv + 2);
    else if (argc == 4 && !strcmp(argv[1], "verify"))
        verify(argv + 2);
    else
        return 2;
    return 0;
}
