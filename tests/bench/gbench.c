/* SPDX-License-Identifier: BSD-2-Clause */
/* Benchmark under Linux, static: the kernels of kernels.h and what an operating system adds to
 * them.  Each test prints "MOBO-BENCH begin NAME" and "MOBO-BENCH end NAME CHECKSUM NS": the runner
 * measures the time between both lines on the host, NS is the guest's own.  It is /bench of the
 * benchmark's initramfs and runs on the host as it is.
 * Usage: gbench --one NAME N runs that test with N turns and prints its checksum alone;
 * gbench [--kernels | --os | --smp | NAME...]; without arguments it runs, as /bench does, --os on one
 * processor and --smp where there are more. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "kernels.h"
#include "os.h"

static uint64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

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
        return !strcmp(group, sysconf(_SC_NPROCESSORS_ONLN) > 1 ? "--smp" : "--os");
    for (int i = 1; i < argc; i++)
        if (!strcmp(argv[i], group) || !strcmp(argv[i], name))
            return 1;
    return 0;
}

static void run_list(int argc, char **argv, const char *group, const struct bench_kernel *k, size_t n)
{
    for (size_t i = 0; i < n && k[i].name; i++)
        if (wanted(argc, argv, group, k[i].name))
            run(&k[i]);
}

/* One test with its own number of turns. */
static int run_one(const char *name, unsigned n)
{
    const struct { const struct bench_kernel *k; size_t n; } lists[] = {
        { bench_kernels, BENCH_KERNELS }, { os_kernels, (size_t)-1 }, { smp_kernels, (size_t)-1 },
    };

    for (size_t l = 0; l < sizeof(lists) / sizeof(lists[0]); l++)
        for (size_t i = 0; i < lists[l].n && lists[l].k[i].name; i++)
            if (!strcmp(lists[l].k[i].name, name)) {
                printf("%s %08x\n", name, lists[l].k[i].run(n));
                return 0;
            }
    fprintf(stderr, "no test '%s'\n", name);
    return 2;
}

int main(int argc, char **argv)
{
    if (argc == 2 && !strcmp(argv[1], "--exit"))
        return 3;
    os_self = access("/proc/self/exe", X_OK) ? argv[0] : "/proc/self/exe";
    if (argc == 4 && !strcmp(argv[1], "--one"))
        return run_one(argv[2], (unsigned)strtoul(argv[3], NULL, 10));
    setvbuf(stdout, NULL, _IOLBF, 0);
    run_list(argc, argv, "--kernels", bench_kernels, BENCH_KERNELS);
    run_list(argc, argv, "--os", os_kernels, (size_t)-1);
    run_list(argc, argv, "--smp", smp_kernels, (size_t)-1);
    printf("MOBO-BENCH done\n");
    return 0;
}
