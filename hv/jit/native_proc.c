/* SPDX-License-Identifier: BSD-2-Clause */
/* The process of an executor: made by fork(2) without a copy of the file table, then all is unmapped but what it needs.
 *
 * Two threads.  The first runs programs; all that it may ask of the kernel is rt_sigreturn(2) and getpid(2), which stands
 * for handing over: the kernel stops it and tells the VMM (seccomp_unotify(2)); and that by the two instructions of the
 * fixed code only, since programs have system calls, which are signals.  The second makes mappings.
 * Reference: Linux seccomp_unotify(2), rseq(2), sigaction(2). */
#define _GNU_SOURCE
#include "hv/jit/native.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "hv/infra.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP 1u
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1ul << 5)
#endif
#ifndef CLONE_PIDFD
#define CLONE_PIDFD 0x1000
#endif

enum {
    ANSWER_MS = 20,                  /* a look at whether it still answers */
    ANSWER_CPU_NS = 200 * 1000000,   /* of its own time since it was asked to hand over, */
    ANSWER_S = 10, LOOKS = 500,      /* or so much of any, and so many looks: somebody has stopped it, and not the VMM */
    RSEQ_SIGNATURE = 0x53053053
};

/* glibc 2.35 and later register restartable sequences for each thread; the kernel would write to memory that is gone. */
extern const ptrdiff_t __rseq_offset __attribute__((weak));
extern const unsigned int __rseq_size __attribute__((weak));

struct ksigaction { void (*handler)(void); unsigned long flags; void (*restorer)(void); uint64_t mask; };
enum { KSA_RESTORER = 0x04000000 };

/* A system call that a thread may do.  @at: by the instruction before this address only, NULL: by any.  @cmd: its second argument, 0: any. */
struct allowed { int nr; const uint8_t *at; uint32_t cmd; };

/* All others: @or_else.  The first one hands over, by which file is *ret_listener. */
static bool seccomp_allow(const struct allowed *a, unsigned n, uint32_t or_else, int *ret_listener)
{
    struct sock_filter f[48];
    struct sock_fprog prog = { .filter = f };
    unsigned k = 0;

    f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch));
    f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc000003e /* AUDIT_ARCH_X86_64 */, 1, 0);
    f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, or_else);
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = (uint64_t)(uintptr_t)a[i].at;
        uint8_t skip = (uint8_t)((at ? 5 : 1) + (a[i].cmd ? 2 : 0));

        f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
        f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)a[i].nr, 0, skip);
        if (at) {
            f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer));
            f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)at, 0, 3);
            f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, instruction_pointer) + 4);
            f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)(at >> 32), 0, 1);
        }
        if (a[i].cmd) {
            f[k++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1]));
            f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, a[i].cmd, 0, 1);
        }
        f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, i ? SECCOMP_RET_ALLOW : SECCOMP_RET_USER_NOTIF);
    }
    f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, or_else);
    prog.len = (unsigned short)k;
    /* What waits for an answer stands still: no signal but a fatal one ends the wait once it has been received. */
    *ret_listener = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
    return *ret_listener >= 0;
}

/* The second thread, on a stack that is unmapped with the rest. */
static void mapper_main(struct jwin *w, const uint8_t *code)
{
    static const struct allowed calls[] = { { SYS_getpid, NULL, 0 }, { SYS_mmap, NULL, 0 }, { SYS_munmap, NULL, 0 },
                                            { SYS_ioctl, NULL, (uint32_t)SECCOMP_IOCTL_NOTIF_SEND }, { SYS_exit_group, NULL, 0 } };
    int listener;

    if (!seccomp_allow(calls, COUNT(calls), SECCOMP_RET_KILL_PROCESS, &listener))
        syscall(SYS_exit_group, 1);
    w->listener[1] = (uint64_t)listener;
    __atomic_store_n(&w->said[1], JNAT_READY, __ATOMIC_RELEASE);
    ((void (*)(void))(uintptr_t)code)();
}

static bool rseq_off(void)
{
    char *at;

    if (!&__rseq_size || !&__rseq_offset || !__rseq_size)
        return true;
    at = (char *)__builtin_thread_pointer() + __rseq_offset;
    return !syscall(SYS_rseq, at, 32, 1 /* RSEQ_FLAG_UNREGISTER */, RSEQ_SIGNATURE) ||
           !syscall(SYS_rseq, at, __rseq_size, 1, RSEQ_SIGNATURE);
}

/* What the new process needs to know: the tables are not in it. */
struct birth { struct jwin *w; struct jnat_code code; long parent; };

static __attribute__((noreturn)) void child(const struct birth *birth)
{
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, JNAT_KICK };
    const struct allowed calls[] = { { SYS_getpid, birth->code.handed, 0 }, { SYS_rt_sigreturn, birth->code.returned, 0 } };
    struct jwin *w = birth->w;
    /* One that wants the VP waits for the end of the handler. */
    struct ksigaction sa = { .handler = (void (*)(void))(uintptr_t)birth->code.signal,
                             .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | KSA_RESTORER,
                             .restorer = (void (*)(void))(uintptr_t)birth->code.signal,
                             .mask = 1ull << (JNAT_KICK - 1) };
    stack_t alt = { .ss_sp = w->stack, .ss_size = sizeof(w->stack) };
    uint64_t blocked = ~0ull;
    char *stack;
    int listener;
    long r;

    for (unsigned i = 0; i < COUNT(signals); i++) {
        blocked &= ~(1ull << (signals[i] - 1));
        if (syscall(SYS_rt_sigaction, signals[i], &sa, NULL, 8))
            goto fail;
    }
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &blocked, NULL, 8) || syscall(SYS_sigaltstack, &alt, NULL))
        goto fail;
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
        goto fail;
    if (syscall(SYS_getppid) != birth->parent) /* it has died before that */
        goto fail;
    prctl(PR_SET_NAME, "mobo-native", 0, 0, 0);
    if (!rseq_off())
        goto fail;
    if (mprotect(&w->ro, offsetof(struct jwin, code) - offsetof(struct jwin, ro), PROT_READ))
        goto fail;
    stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stack == MAP_FAILED)
        goto fail;
    {
        register uint64_t r10 __asm__("r10") = 0;
        register uint64_t r8 __asm__("r8") = 0;
        register const uint8_t *code __asm__("r12") = birth->code.mapper; /* cppcheck-suppress constStatement; it is none */
        register void (*fn)(struct jwin *, const uint8_t *) __asm__("r13") = mapper_main;
        register struct jwin *win __asm__("r14") = w;

        __asm__ volatile("syscall\n\ttestq %%rax, %%rax\n\tjnz 1f\n\txorl %%ebp, %%ebp\n\tmovq %%r14, %%rdi\n\tmovq %%r12, %%rsi\n\tcall *%%r13\n\tud2\n1:"
                         : "=a"(r)
                         : "a"((long)SYS_clone), "D"((long)(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM)),
                           "S"(stack + 65536 - 64), "d"(0l), "r"(r10), "r"(r8), "r"(code), "r"(fn), "r"(win)
                         : "rcx", "r11", "memory");
    }
    if (r < 0 || !seccomp_allow(calls, COUNT(calls), SECCOMP_RET_TRAP, &listener))
        goto fail;
    w->listener[0] = (uint64_t)listener;
    __atomic_store_n(&w->said[0], JNAT_READY, __ATOMIC_RELEASE);
    ((void (*)(void))(uintptr_t)birth->code.start)();
fail:
    for (;;)
        syscall(SYS_exit_group, 1);
}

bool jnat_gone(const struct jnat_executor *x)
{
    struct pollfd gone = { .fd = x->pidfd, .events = POLLIN };

    return poll(&gone, 1, 0) > 0;
}

/* It handed over (1), not in that time (0), it is gone (negative). */
static int handed_over(const struct jnat_executor *x, const struct jnat_thread *t, int ms)
{
    struct pollfd p = { .fd = t->listener, .events = POLLIN };
    int r = poll(&p, 1, ms);

    if (likely(r > 0))
        return p.revents & POLLIN ? 1 : -EPIPE;
    if (r < 0)
        return errno == EINTR ? 0 : -EPIPE;
    return jnat_gone(x) ? -EPIPE : 0; /* before Linux 6.11 the listener does not tell */
}

/* @return 1 it did, 0 not in that time, negative: it is gone. */
static int receive(const struct jnat_executor *x, struct jnat_thread *t, int ms)
{
    struct seccomp_notif q;
    int r = handed_over(x, t, ms);

    if (r <= 0)
        return r;
    memset(&q, 0, sizeof(q));
    if (ioctl(t->listener, SECCOMP_IOCTL_NOTIF_RECV, &q))
        return errno == EINTR || errno == ENOENT ? 0 : -EPIPE;
    t->id = q.id;
    return 1;
}

static int go_on(struct jnat_thread *t)
{
    struct seccomp_notif_resp a = { .id = t->id };

    return ioctl(t->listener, SECCOMP_IOCTL_NOTIF_SEND, &a) ? -ESRCH : 0;
}

void jnat_kill(struct jnat_executor *x)
{
    if (!x->alive)
        return;
    x->alive = false;
    kill(x->pid, SIGKILL);
    while (waitpid(x->pid, NULL, __WALL) < 0 && errno == EINTR)
        ;
    close(x->pidfd);
    if (x->run.listener >= 0)
        close(x->run.listener);
    if (x->map.listener >= 0)
        close(x->map.listener);
    jnat_unmap_all(x);
}

/* The second thread stands still.  @return 0 or -ESRCH. */
static int map_in(struct jnat_executor *x)
{
    unsigned looks = 0;
    uint64_t end;
    int r;

    if (!x->map_out)
        return 0;
    end = hv_host_ns() + ANSWER_S * 1000000000ull;
    while ((r = receive(x, &x->map, ANSWER_MS)) == 0 && (++looks < LOOKS || hv_host_ns() < end))
        ;
    x->map_out = false;
    return r > 0 ? 0 : -ESRCH;
}

/* Let it carry out the list. */
static int map_go(struct jnat_executor *x, struct jwin *w)
{
    int r = map_in(x);

    w->ro.nops = x->nops;
    w->mapper_err = 0;
    x->nops = 0;
    if (r || go_on(&x->map))
        return -ESRCH;
    x->map_out = true;
    return 0;
}

int jnat_flush(struct jnat_executor *x, struct jwin *w)
{
    int r = x->nops ? map_go(x, w) : 0;

    if (!r)
        r = map_in(x);
    return r && w->mapper_err ? -ENOMEM : r;
}

/* Its threads have said by which files they hand over, and have done so. */
static int ready(struct jnat_executor *x, const uint64_t *said, const uint64_t *listener, struct jnat_thread *t)
{
    struct pollfd p = { .fd = x->pidfd, .events = POLLIN };
    int r;

    for (unsigned i = 0; __atomic_load_n(said, __ATOMIC_ACQUIRE) != JNAT_READY; i++)
        if (poll(&p, 1, 1) > 0 || i > 5000)
            return -EPIPE;
    t->listener = (int)*listener;
    for (unsigned i = 0; (r = receive(x, t, 10)) == 0; i++)
        if (i > 500)
            return -ETIME;
    /* Both sides run on one processor, one at a time (Linux 6.6). */
    if (r > 0 && ioctl(t->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (unsigned long)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP))
        return -ENOSYS;
    return r < 0 ? r : 0;
}

int jnat_empty(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    struct jwin *w = n->win;
    uint64_t lo = (uint64_t)(uintptr_t)w, hi = lo + sizeof(*w);

    w->ro.op[0] = (struct jnat_op){ SYS_munmap, { 0, lo }, 0 };
    w->ro.op[1] = (struct jnat_op){ SYS_munmap, { hi, 0x7ffffffff000 - hi }, 0 };
    jnat_unmap_all(x);
    x->seen_gen = vp->mmu.tlb_gen;
    x->seen_gone = n->gone;
    x->missing = 0;
    x->nops = 2;
    return jnat_flush(x, w);
}

int jnat_spawn(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    struct jwin *w = n->win;
    struct birth birth = { w, n->code, getpid() };
    int pidfd = -1, err;
    long pid;

    memset(w, 0, offsetof(struct jwin, ro));
    w->ro.nops = 0;
    pid = syscall(SYS_clone, CLONE_FILES | CLONE_PIDFD, NULL, &pidfd, NULL, 0);
    if (pid < 0)
        return -errno;
    if (!pid)
        child(&birth);
    memset(x, 0, sizeof(*x));
    x->alive = true;
    x->pid = (int)pid;
    x->pidfd = pidfd;
    x->run.listener = x->map.listener = -1;
    err = ready(x, &w->said[1], &w->listener[1], &x->map);
    if (!err)
        err = ready(x, &w->said[0], &w->listener[0], &x->run);
    if (!err)
        err = jnat_first_frame(vp);
    if (!err)
        err = jnat_empty(vp, x);
    if (err)
        jnat_kill(x);
    return err;
}

static uint64_t cpu_ns(const struct jnat_executor *x)
{
    struct timespec ts;
    clockid_t id;

    if (clock_getcpuclockid(x->pid, &id) || clock_gettime(id, &ts))
        return 0;
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void jit_native_kick(struct hv_vp *vp)
{
    struct jnat *n = vp->jit ? vp->jit->nat : NULL;
    int pid = n ? atomic_load(&n->running) : 0;

    if (pid)
        syscall(SYS_tgkill, pid, pid, JNAT_KICK);
}

int jnat_resume(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jwin *w = vp->jit->nat->win;
    uint64_t since = 0, end = 0;
    unsigned looks = 0;
    bool asked = false, listed = x->nops;
    int r;

    if (listed) { /* the second thread lets it go at the end of its list: one switch between processes less */
        w->ro.go = (struct seccomp_notif_resp){ .id = x->run.id };
        w->ro.op[x->nops++] = (struct jnat_op){ SYS_ioctl, { (uint64_t)x->run.listener, SECCOMP_IOCTL_NOTIF_SEND, (uint64_t)(uintptr_t)&w->ro.go }, 0 };
        r = map_go(x, w);
    } else {
        r = go_on(&x->run);
    }
    while (!r) {
        r = receive(x, &x->run, ANSWER_MS);
        if (r)
            return r > 0 ? 0 : listed && w->mapper_err ? -ENOMEM : r;
        /* Whoever has set it has sent a signal. */
        if (!atomic_load(&vp->attention)) {
            asked = false;
        } else if (!asked) {
            asked = true;
            since = cpu_ns(x);
            end = hv_host_ns() + ANSWER_S * 1000000000ull;
            looks = 0;
        } else if (cpu_ns(x) - since > ANSWER_CPU_NS || (++looks >= LOOKS && hv_host_ns() > end)) {
            r = -ETIME;
        }
    }
    return r;
}
