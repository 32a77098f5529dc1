/* SPDX-License-Identifier: BSD-2-Clause */
/* Benchmark under Linux, static: the kernels of kernels.h and what an operating system adds to
 * them.  Each test prints "MOBO-BENCH begin NAME" and "MOBO-BENCH end NAME CHECKSUM NS": the runner
 * measures the time between both lines on the host, NS is the guest's own.  It is /bench of the
 * benchmark's initramfs and runs on the host as it is.
 * Usage: gbench [--kernels | --os | NAME...]; without arguments it runs --os, as /bench does. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    printf("MOBO-BENCH error %s\n", what);
    exit(1);
}

static uint32_t os_syscall(unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += syscall(SYS_getppid) >= 0;
    return sum;
}

static uint32_t os_pipe(unsigned n)
{
    int to[2], from[2];
    uint32_t sum = 0;
    char c = 0;
    pid_t pid;

    if (pipe(to) || pipe(from) || (pid = fork()) < 0)
        fail("pipe");
    if (pid == 0) {
        close(to[1]);
        while (read(to[0], &c, 1) == 1) {
            c++;
            if (write(from[1], &c, 1) != 1)
                _exit(1);
        }
        _exit(0);
    }
    for (unsigned i = 0; i < n; i++) {
        if (write(to[1], &c, 1) != 1 || read(from[0], &c, 1) != 1)
            fail("pipe");
        sum += (uint8_t)c;
    }
    close(to[1]);
    waitpid(pid, NULL, 0);
    close(to[0]), close(from[0]), close(from[1]);
    return sum;
}

static const char *self;

static uint32_t os_fork(unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        int status;
        pid_t pid = fork();

        if (pid < 0)
            fail("fork");
        if (pid == 0) {
            execl(self, self, "--exit", (char *)NULL);
            _exit(99);
        }
        waitpid(pid, &status, 0);
        sum += (uint32_t)WEXITSTATUS(status);
    }
    return sum;
}

static uint32_t os_fault(unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        volatile uint8_t *p =
            mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            fail("mmap");
        for (unsigned k = 0; k < 256; k++)
            p[k * 4096] = (uint8_t)k;
        for (unsigned k = 0; k < 256; k++)
            sum += p[k * 4096];
        munmap((void *)p, 256 * 4096);
    }
    return sum;
}

static uint32_t os_file(unsigned n)
{
    char name[] = "/tmp/gbench.XXXXXX";
    uint32_t sum = 0;
    int fd = mkstemp(name);

    if (fd < 0)
        fail("mkstemp");
    unlink(name);
    for (unsigned i = 0; i < n; i++) {
        memset(bench_arena, (int)i, 65536);
        if (pwrite(fd, bench_arena, 65536, (off_t)(i % 64) * 65536) != 65536 ||
            pread(fd, bench_arena + 65536, 65536, (off_t)(i / 2 % 64) * 65536) != 65536)
            fail("file");
        sum += bench_arena[65536 + 77];
    }
    close(fd);
    return sum;
}

static const struct bench_kernel os_kernels[] = {
    { "syscall", os_syscall, 300000 }, { "pipe", os_pipe, 15000 }, { "fork+exec", os_fork, 200 },
    { "fault", os_fault, 150 },        { "tmpfs", os_file, 600 },
};

static void run(const struct bench_kernel *k)
{
    uint64_t start;
    uint32_t sum;

    printf("MOBO-BENCH begin %s\n", k->name);
    start = now_ns();
    sum = k->run(k->n);
    printf("MOBO-BENCH end %s %08x %llu\n", k->name, sum, (unsigned long long)(now_ns() - start));
}

static int wanted(int argc, char **argv, const char *group, const char *name)
{
    if (argc < 2)
        return !strcmp(group, "--os");
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], group) || !strcmp(argv[i], name))
            return 1;
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--exit"))
        return 3;
    self = access("/proc/self/exe", X_OK) ? argv[0] : "/proc/self/exe";
    setvbuf(stdout, NULL, _IOLBF, 0);
    for (size_t i = 0; i < BENCH_KERNELS; i++)
        if (wanted(argc, argv, "--kernels", bench_kernels[i].name))
            run(&bench_kernels[i]);
    for (size_t i = 0; i < sizeof(os_kernels) / sizeof(os_kernels[0]); i++)
        if (wanted(argc, argv, "--os", os_kernels[i].name))
            run(&os_kernels[i]);
    printf("MOBO-BENCH done\n");
    return 0;
}
