/* SPDX-License-Identifier: BSD-2-Clause */
/* The process of an executor: made by fork(2) without a copy of the file table, then all is unmapped but what it needs.
 *
 * All that its thread may ask of the kernel is rt_sigreturn(2), getpid(2), which stands for handing over: the kernel stops
 * it and tells the VMM (seccomp_unotify(2)), and what the list needs, mmap(2) and munmap(2); each by its instruction of the
 * fixed code only, since programs have system calls, which are signals.  To those of the list a program can jump, too: so they
 * have to bring a number, above the file's, that the answer to handing over has put into a register.  Signals
 * are blocked behind a true one until the program goes on.  Where none was, a signal may show that number; it shows the
 * VMM as well where it was, and that is the end of the process.
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
#include <sys/random.h>
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

/* What the new process needs to know: the tables are not in it. */
struct birth { struct jwin *w; struct jnat_code code; long parent; uint32_t secret; int fd[2] /* that can be mapped */; };

enum { FILTER_MOST = 64 };
struct filter { struct sock_filter f[FILTER_MOST]; unsigned n; };

static void stmt(struct filter *f, uint16_t code, uint32_t k) { f->f[f->n++] = (struct sock_filter)BPF_STMT(code, k); }
static void load(struct filter *f, size_t at) { stmt(f, BPF_LD | BPF_W | BPF_ABS, (uint32_t)at); }
/* It is so, or @skip instructions are left out. */
static void is(struct filter *f, uint32_t k, unsigned skip) { f->f[f->n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, k, 0, (uint8_t)skip); }

/* System call @nr by the instruction before @at, and with nothing else @behind instructions more. */
static void call(struct filter *f, uint32_t nr, const uint8_t *at, unsigned behind)
{
    uint64_t ip = (uint64_t)(uintptr_t)at;

    load(f, offsetof(struct seccomp_data, nr));
    is(f, nr, 4 + behind);
    load(f, offsetof(struct seccomp_data, instruction_pointer));
    is(f, (uint32_t)ip, 2 + behind);
    load(f, offsetof(struct seccomp_data, instruction_pointer) + 4);
    is(f, (uint32_t)(ip >> 32), behind);
}

enum { ARG4 = offsetof(struct seccomp_data, args) + 4 * 8 };

/* All that the thread may do.  @return the file by which it hands over, or -1. */
static int seccomp(const struct birth *b)
{
    struct filter f = { .n = 0 };
    struct sock_fprog prog = { .filter = f.f };

    load(&f, offsetof(struct seccomp_data, arch));
    f.f[f.n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0xc000003e /* AUDIT_ARCH_X86_64 */, 1, 0);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    call(&f, SYS_getpid, b->code.handed, 1);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    call(&f, SYS_rt_sigreturn, b->code.returned, 1);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    call(&f, SYS_mmap, b->code.op, 6);
    load(&f, ARG4 + 4); /* upper half of the file's number */
    is(&f, b->secret, 4);
    load(&f, ARG4);
    f.f[f.n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)b->fd[0], 1, 0);
    is(&f, (uint32_t)b->fd[1], 1);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    call(&f, SYS_munmap, b->code.op, 3);
    load(&f, ARG4 + 4);
    is(&f, b->secret, 1);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    call(&f, SYS_getpid, b->code.listed, 1);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    stmt(&f, BPF_RET | BPF_K, SECCOMP_RET_TRAP);
    prog.len = (unsigned short)f.n;
    /* What waits for an answer stands still: no signal but a fatal one ends the wait once it has been received. */
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV, &prog);
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

static __attribute__((noreturn)) void child(const struct birth *birth)
{
    static const int signals[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, JNAT_KICK };
    struct jwin *w = birth->w;
    /* One that wants the VP waits for the end of the handler; one that the fixed code raises ends the process. */
    struct ksigaction sa = { .handler = (void (*)(void))(uintptr_t)birth->code.signal,
                             .flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | KSA_RESTORER,
                             .restorer = (void (*)(void))(uintptr_t)birth->code.signal,
                             .mask = ~0ull };
    stack_t alt = { .ss_sp = w->stack, .ss_size = sizeof(w->stack) };
    uint64_t blocked = ~0ull;
    int listener;

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
    listener = seccomp(birth);
    if (listener < 0)
        goto fail;
    w->listener = (uint64_t)listener;
    __atomic_store_n(&w->said, JNAT_READY, __ATOMIC_RELEASE);
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

/* Wait until it hands over.  @ret_at: behind which instruction of the fixed code.  @return 1 it did, 0 not in that time, negative: it is gone. */
static int receive(struct jnat_executor *x, int ms, uint64_t *ret_at)
{
    struct pollfd p = { .fd = x->listener, .events = POLLIN };
    struct seccomp_notif q;
    int r = poll(&p, 1, ms);

    if (unlikely(r <= 0)) /* before Linux 6.11 the listener does not tell that it is gone */
        return r < 0 ? errno == EINTR ? 0 : -EPIPE : jnat_gone(x) ? -EPIPE : 0;
    if (unlikely(!(p.revents & POLLIN)))
        return -EPIPE;
    memset(&q, 0, sizeof(q));
    if (ioctl(x->listener, SECCOMP_IOCTL_NOTIF_RECV, &q))
        return errno == EINTR || errno == ENOENT ? 0 : -EPIPE;
    x->id = q.id;
    *ret_at = q.data.instruction_pointer;
    return 1;
}

/* It goes on, with its list if there is one. */
static int go_on(struct jnat_executor *x, struct jwin *w, bool stay)
{
    struct seccomp_notif_resp a = { .id = x->id, .val = x->nops ? (int64_t)((uint64_t)x->secret << 32) : 0 };

    w->list_err = 0;
    w->ro.nops = x->nops;
    w->ro.stay = stay;
    x->nops = 0;
    return ioctl(x->listener, SECCOMP_IOCTL_NOTIF_SEND, &a) ? -ESRCH : 0;
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
    if (x->listener >= 0)
        close(x->listener);
    jnat_unmap_all(x);
}

int jnat_flush(struct jnat_executor *x, struct jwin *w)
{
    unsigned looks = 0;
    uint64_t end, at;
    int r;

    if (!x->nops)
        return 0;
    r = go_on(x, w, true);
    if (r)
        return r;
    end = hv_host_ns() + ANSWER_S * 1000000000ull;
    while ((r = receive(x, ANSWER_MS, &at)) == 0 && (++looks < LOOKS || hv_host_ns() < end))
        ;
    if (r <= 0)
        return r && w->list_err ? -ENOMEM : -ESRCH;
    return at == (uint64_t)(uintptr_t)x->listed ? 0 : -ESRCH; /* a signal has kept it from it: it was not in one */
}

/* It has said by which file it hands over, and has done so. */
static int ready(struct jnat_executor *x, const struct jwin *w)
{
    struct pollfd p = { .fd = x->pidfd, .events = POLLIN };
    uint64_t at;
    int r;

    for (unsigned i = 0; __atomic_load_n(&w->said, __ATOMIC_ACQUIRE) != JNAT_READY; i++)
        if (poll(&p, 1, 1) > 0 || i > 5000)
            return -EPIPE;
    x->listener = (int)w->listener;
    for (unsigned i = 0; (r = receive(x, 10, &at)) == 0; i++)
        if (i > 500)
            return -ETIME;
    /* Both sides run on one processor, one at a time (Linux 6.6). */
    if (r > 0 && ioctl(x->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, (unsigned long)SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP))
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
    struct birth birth = { .w = w, .code = n->code, .parent = getpid(), .fd = { hv_ram_fd(vp->p), n->patch_fd } };
    int pidfd = -1, err;
    long pid;

    if (getrandom(&birth.secret, sizeof(birth.secret), 0) != sizeof(birth.secret))
        return -EIO;
    birth.secret = (birth.secret & INT32_MAX) | 1; /* an answer: not negative, not 0 */
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
    x->listener = -1;
    x->secret = birth.secret;
    x->listed = n->code.listed;
    err = ready(x, w);
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
    bool asked = false, listed = x->nops;
    uint64_t since = 0, end = 0, at;
    unsigned looks = 0;
    int r = go_on(x, w, false);

    while (!r) {
        r = receive(x, ANSWER_MS, &at);
        if (r)
            return r < 0 ? listed && w->list_err ? -ENOMEM : r : at == (uint64_t)(uintptr_t)x->listed ? -EPROTO : 0;
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
