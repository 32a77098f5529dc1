/* SPDX-License-Identifier: BSD-2-Clause */
/* What an operating system adds to a benchmark: system calls, processes, memory management, signals, files,
 * threads on one and two processors, programs that generate or modify their own code.  Each returns a checksum
 * that does not depend on speed. */
#define _GNU_SOURCE
#include "os.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static void fail(const char *what)
{
    printf("MOBO-BENCH error %s\n", what);
    exit(1);
}

/* ---- system calls and processes ---- */

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
    pid_t pid = -1;

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

const char *os_self;

static uint32_t fork_some(unsigned n, int exec)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        int status;
        pid_t pid = fork();

        if (pid < 0)
            fail("fork");
        if (pid == 0) {
            if (exec)
                execl(os_self, os_self, "--exit", (char *)NULL);
            _exit(exec ? 99 : 3);
        }
        waitpid(pid, &status, 0);
        sum += (uint32_t)WEXITSTATUS(status);
    }
    return sum;
}

static uint32_t os_exec(unsigned n) { return fork_some(n, 1); }
static uint32_t os_fork(unsigned n) { return fork_some(n, 0); }

static void pin(unsigned cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set))
        fail("sched_setaffinity");
}

/* Two processes that give each other the processor. */
static uint32_t os_switch(unsigned n)
{
    pid_t pid = fork();

    if (pid < 0)
        fail("fork");
    pin(0);
    for (unsigned i = 0; i < n; i++)
        sched_yield();
    if (pid == 0)
        _exit(0);
    waitpid(pid, NULL, 0);
    return n;
}

/* ---- memory ---- */

static uint32_t os_fault(unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        volatile uint8_t *p = mmap(NULL, 256 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

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

static uint32_t os_mmap(unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            fail("mmap");
        sum += ++p[i & 4095];
        munmap(p, 4096);
    }
    return sum;
}

static uint32_t os_mprotect(unsigned n)
{
    uint8_t *p = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t sum = 0;

    if (p == MAP_FAILED)
        fail("mmap");
    for (unsigned i = 0; i < n; i++) {
        p[i % 16 * 4096] = (uint8_t)i;
        if (mprotect(p, 65536, PROT_READ))
            fail("mprotect");
        sum += p[i % 16 * 4096];
        if (mprotect(p, 65536, PROT_READ | PROT_WRITE))
            fail("mprotect");
    }
    munmap(p, 65536);
    return sum;
}

/* ---- signals ---- */

static volatile uint32_t sig_sum;
static uint8_t *sig_page;

static void on_signal(int sig) { sig_sum += (uint32_t)sig; }

static void on_fault(int sig)
{
    sig_sum += (uint32_t)sig;
    /* a bare system call on Linux: NOLINTNEXTLINE(bugprone-signal-handler) */
    if (mprotect(sig_page, 4096, PROT_READ | PROT_WRITE))
        _exit(1);
}

static uint32_t os_signal(unsigned n)
{
    sig_sum = 0;
    signal(SIGUSR1, on_signal);
    for (unsigned i = 0; i < n; i++)
        raise(SIGUSR1);
    return sig_sum;
}

static uint32_t os_segv(unsigned n)
{
    sig_sum = 0;
    sig_page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (sig_page == MAP_FAILED)
        fail("mmap");
    signal(SIGSEGV, on_fault);
    for (unsigned i = 0; i < n; i++) {
        ((volatile uint8_t *)sig_page)[i & 4095] = (uint8_t)i;
        if (mprotect(sig_page, 4096, PROT_READ))
            fail("mprotect");
    }
    munmap(sig_page, 4096);
    signal(SIGSEGV, SIG_DFL);
    return sig_sum;
}

/* ---- files ---- */

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

static uint32_t os_files(unsigned n)
{
    char dir[] = "/tmp/gbench.XXXXXX", a[64], b[64];
    uint32_t sum = 0;

    if (!mkdtemp(dir))
        fail("mkdtemp");
    for (unsigned i = 0; i < n; i++) {
        struct stat st;
        int fd;

        snprintf(a, sizeof(a), "%s/a%u", dir, i % 100);
        snprintf(b, sizeof(b), "%s/b%u", dir, i % 100);
        fd = open(a, O_CREAT | O_RDWR, 0600);
        if (fd < 0 || write(fd, a, sizeof(a)) != sizeof(a) || close(fd) || rename(a, b) || stat(b, &st) || unlink(b))
            fail("files");
        sum += (uint32_t)st.st_size;
    }
    rmdir(dir);
    return sum;
}

/* ---- threads ---- */

static _Atomic uint32_t ball;
static _Atomic unsigned stop;
static unsigned rounds, other_cpu;

static void futex_wait(_Atomic uint32_t *w, uint32_t v) { syscall(SYS_futex, w, FUTEX_WAIT_PRIVATE, v, NULL, NULL, 0); }
static void futex_wake(_Atomic uint32_t *w) { syscall(SYS_futex, w, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0); }

static void play(uint32_t me)
{
    for (unsigned i = 0; i < rounds; i++) {
        uint32_t v;

        while ((v = atomic_load(&ball)) % 2 != me)
            futex_wait(&ball, v);
        atomic_fetch_add(&ball, 1);
        futex_wake(&ball);
    }
}

static void *second_player(void *arg)
{
    pin(other_cpu);
    play(1);
    return arg;
}

static uint32_t ping_pong(unsigned n, unsigned cpu)
{
    pthread_t t;

    atomic_store(&ball, 0);
    rounds = n;
    other_cpu = cpu;
    pin(0);
    if (pthread_create(&t, NULL, second_player, NULL))
        fail("pthread_create");
    play(0);
    pthread_join(t, NULL);
    return atomic_load(&ball);
}

static uint32_t os_futex(unsigned n) { return ping_pong(n, 0); }
static uint32_t smp_futex(unsigned n) { return ping_pong(n, 1); }

static void *spin(void *arg)
{
    pin(1);
    atomic_store(&ball, 1);
    while (!atomic_load(&stop))
        ;
    return arg;
}

/* The other processor runs the same address space: each unmapping interrupts it. */
static uint32_t smp_shootdown(unsigned n)
{
    uint32_t sum = 0;
    pthread_t t;

    atomic_store(&ball, 0);
    atomic_store(&stop, 0);
    pin(0);
    if (pthread_create(&t, NULL, spin, NULL))
        fail("pthread_create");
    while (!atomic_load(&ball))
        sched_yield();
    sum = os_mmap(n);
    atomic_store(&stop, 1);
    pthread_join(t, NULL);
    return sum;
}

static void *work(void *arg)
{
    uint32_t *sum = arg;

    pin(sum[0]);
    for (unsigned i = 0; i < rounds; i++)
        sum[1] += bench_alu(1000000);
    return NULL;
}

/* The same work by one thread and by two. */
static uint32_t smp_one(unsigned n)
{
    uint32_t sum[2] = { 0, 0 };

    rounds = n;
    work(sum);
    return sum[1];
}

static uint32_t smp_two(unsigned n)
{
    uint32_t sum[2] = { 0, 0 }, other[2] = { 1, 0 };
    pthread_t t;

    rounds = n / 2;
    if (pthread_create(&t, NULL, work, other))
        fail("pthread_create");
    work(sum);
    pthread_join(t, NULL);
    return sum[1] + other[1];
}

static atomic_flag lock = ATOMIC_FLAG_INIT;
static uint32_t shared;

static void *contend(void *arg)
{
    pin(*(unsigned *)arg);
    for (unsigned i = 0; i < rounds; i++) {
        while (atomic_flag_test_and_set_explicit(&lock, memory_order_acquire))
            __builtin_ia32_pause();
        shared++;
        atomic_flag_clear_explicit(&lock, memory_order_release);
    }
    return NULL;
}

static uint32_t smp_lock(unsigned n)
{
    unsigned a = 0, b = 1;
    pthread_t t;

    shared = 0;
    rounds = n;
    if (pthread_create(&t, NULL, contend, &b))
        fail("pthread_create");
    contend(&a);
    pthread_join(t, NULL);
    return shared;
}

/* ---- code that changes ---- */

static uint8_t *code_area(void)
{
    uint8_t *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (p == MAP_FAILED)
        fail("mmap");
    return p;
}

/* mov eax, edi; then @len times an operation with a constant; ret. */
static unsigned make_function(uint8_t *p, uint64_t *seed, unsigned len)
{
    static const uint8_t op[] = { 0x05, 0x2d, 0x35 }; /* add, sub, xor eax, imm32 */
    unsigned n = 0;

    p[n++] = 0x89, p[n++] = 0xf8;
    for (unsigned i = 0; i < len; i++) {
        uint64_t r = bench_rand(seed);

        p[n++] = op[r % 3];
        r >>= 8;
        memcpy(p + n, &r, 4);
        n += 4;
    }
    p[n++] = 0xc3;
    return n;
}

typedef uint32_t (*function)(uint32_t);

/* A compiler that runs what it makes: functions side by side in a buffer that begins again when it is full. */
static uint32_t code_jit(unsigned n)
{
    uint8_t *area = code_area();
    uint64_t seed = 88172645463325252u;
    unsigned at = 0;
    uint32_t sum = 1;

    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = area + at;
        unsigned len = make_function(p, &seed, 30);

        for (unsigned k = 0; k < 200; k++)
            sum = ((function)(uintptr_t)p)(sum + k);
        at += (len + 15) & ~15u;
        if (at > (1 << 18))
            at = 0;
    }
    munmap(area, 1 << 20);
    return sum;
}

/* A constant within a function changes before each call: the store hits the code's own line. */
static uint32_t code_smc(unsigned n)
{
    uint8_t *area = code_area();
    uint64_t seed = 88172645463325252u;
    uint32_t sum = 1;

    make_function(area, &seed, 10);
    for (unsigned i = 0; i < n; i++) {
        memcpy(area + 3, &i, 4);
        sum = ((function)(uintptr_t)area)(sum);
    }
    munmap(area, 1 << 20);
    return sum;
}

/* Data beside code: counters in the page, but not in the line, of the function that is called. */
static uint32_t code_data(unsigned n)
{
    uint8_t *area = code_area();
    uint64_t seed = 88172645463325252u;
    uint32_t sum = 1, c;

    make_function(area + 2048, &seed, 5);
    for (unsigned i = 0; i < n; i++) {
        memcpy(&c, area + 64 * (i % 8), 4);
        c += sum;
        memcpy(area + 64 * (i % 8), &c, 4);
        sum = ((function)(uintptr_t)(area + 2048))(c);
    }
    munmap(area, 1 << 20);
    return sum;
}

const struct bench_kernel os_kernels[] = {
    { "syscall", os_syscall, 1000000 },
    { "pipe", os_pipe, 15000 },
    { "switch", os_switch, 100000 },
    { "fork", os_fork, 1000 },
    { "fork+exec", os_exec, 500 },
    { "fault", os_fault, 300 },
    { "mmap", os_mmap, 10000 },
    { "mprotect", os_mprotect, 60000 },
    { "signal", os_signal, 40000 },
    { "segv", os_segv, 15000 },
    { "tmpfs", os_file, 4000 },
    { "files", os_files, 6000 },
    { "futex", os_futex, 60000 },
    { "code-jit", code_jit, 10000 },
    { "code-smc", code_smc, 1000000 },
    { "code-data", code_data, 5000000 },
    { NULL, NULL, 0 },
};

const struct bench_kernel smp_kernels[] = {
    { "futex-2", smp_futex, 30000 },
    { "shootdown", smp_shootdown, 10000 },
    { "lock-2", smp_lock, 3000000 },
    { "work-1", smp_one, 200 },
    { "work-2", smp_two, 200 },
    { NULL, NULL, 0 },
};
