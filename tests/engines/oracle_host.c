/* SPDX-License-Identifier: BSD-2-Clause */
/* Native execution of generated sequences, at fixed addresses in this process.
 *
 * A breakpoint of our own enters: its handler replaces the interrupted context by the test's.  The INT3 at the
 * end of the sequence, or whatever fault comes first, gives the context after; the handler keeps it and
 * puts the old one back.  The signal frame's XSAVE area carries the vector and x87 state (Linux,
 * arch/x86/include/uapi/asm/sigcontext.h). */
#define _GNU_SOURCE
#include "tests/engines/oracle.h"

#include <asm/ldt.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { IDLE, ENTER, NATIVE };
enum { XS_BV = 512, XS_YMM = 576, SW_SIZE_OFF = 464 + 16, FRAME_MAX = 16384 };

static volatile int phase;
static const struct or_seq *cur;
static struct or_state *result;
static greg_t saved_gregs[NGREG];
static uint8_t saved_fp[FRAME_MAX];
static uint8_t *window;
static struct sigaction old_action[65];

static const int reg_index[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP,
                                   REG_RSI, REG_RDI, REG_R8,  REG_R9,  REG_R10, REG_R11,
                                   REG_R12, REG_R13, REG_R14, REG_R15 };

static uint32_t fp_size(const uint8_t *fp)
{
    uint32_t magic, size;

    memcpy(&magic, fp + 464, 4);
    memcpy(&size, fp + SW_SIZE_OFF, 4);
    return magic == 0x46505853 && size <= FRAME_MAX ? size + 4 : 512;
}

static void enter(ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    uint64_t bv;

    memcpy(saved_gregs, g, sizeof saved_gregs);
    memcpy(saved_fp, fp, fp_size(fp));
    for (unsigned i = 0; i < 16; i++)
        g[reg_index[i]] = (greg_t)cur->in.gpr[i];
    g[REG_RIP] = (greg_t)cur->in.rip;
    g[REG_EFL] = (greg_t)cur->in.rflags;
    g[REG_CSGSFS] = (g[REG_CSGSFS] & ~0xffffll) | (cur->mode == X86_MODE_64   ? OR_CS64
                                                   : cur->mode == X86_MODE_32 ? OR_CS32
                                                                              : OR_CS16);
    memcpy(fp, cur->in.fx, 416);
    memcpy(&bv, fp + XS_BV, 8);
    bv |= 7;
    memcpy(fp + XS_BV, &bv, 8);
    memcpy(fp + XS_YMM, cur->in.ymmh, 256);
    phase = NATIVE;
}

static void leave(ucontext_t *uc)
{
    greg_t *g = uc->uc_mcontext.gregs;
    uint8_t *fp = (uint8_t *)uc->uc_mcontext.fpregs;
    uint64_t bv;

    for (unsigned i = 0; i < 16; i++)
        result->gpr[i] = (uint64_t)g[reg_index[i]];
    result->rip = (uint64_t)g[REG_RIP];
    result->rflags = (uint64_t)g[REG_EFL];
    result->vector = (uint8_t)g[REG_TRAPNO];
    result->error = (uint32_t)g[REG_ERR];
    result->cr2 = (uint64_t)g[REG_CR2];
    memcpy(result->fx, fp, 416);
    memset(result->fx + 416, 0, 96);
    memcpy(&bv, fp + XS_BV, 8);
    if (bv & 4)
        memcpy(result->ymmh, fp + XS_YMM, 256);
    else
        memset(result->ymmh, 0, 256);
    if (!(bv & 1)) {
        memset(result->fx, 0, 24);
        result->fx[0] = 0x7f;
        result->fx[1] = 0x03;
        memset(result->fx + 32, 0, 128);
    }
    if (!(bv & 2))
        memset(result->fx + 160, 0, 256);
    memcpy(g, saved_gregs, sizeof saved_gregs);
    memcpy(fp, saved_fp, fp_size(saved_fp));
    phase = IDLE;
}

void or_signal(int sig, siginfo_t *si, void *ctx);

__attribute__((used)) void or_signal(int sig, siginfo_t *si, void *ctx)
{
    const struct sigaction *old = &old_action[sig];

    if (phase == ENTER && sig == SIGTRAP) {
        enter(ctx);
    } else if (phase == NATIVE) {
        leave(ctx);
    } else if (old->sa_flags & SA_SIGINFO) {
        old->sa_sigaction(sig, si, ctx);
    } else {
        signal(sig, SIG_DFL);
    }
}

/* The kernel leaves EFLAGS.AC to the handler: clear it before compiled code runs. */
void or_signal_entry(int sig, siginfo_t *si, void *ctx);
__asm__(".text\n"
        ".globl or_signal_entry\n"
        "or_signal_entry:\n"
        "    pushfq\n"
        "    andq $~0x40000, (%rsp)\n"
        "    popfq\n"
        "    jmp or_signal\n");

uint8_t *or_host_window(void)
{
    return window;
}

const char *or_host_init(void)
{
    static const int signals[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
    struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
    struct user_desc ud = { .entry_number = 0,
                            .base_addr = OR_GS_BASE,
                            .limit = 0xfffff,
                            .seg_32bit = 1,
                            .limit_in_pages = 1,
                            .useable = 1 };
    struct user_desc code16 = {
        .entry_number = 1, .base_addr = OR_CODE, .limit = 0xffff, .contents = 2, .useable = 1
    };
    static uint8_t stack[1 << 17];
    stack_t ss = { .ss_sp = stack, .ss_size = sizeof stack };
    int fd = memfd_create("oracle", 0);
    void *p;

    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx"))
        return "needs a host with AVX";
    if (fd < 0 || ftruncate(fd, OR_WIN_SIZE))
        return "no memory";
    p = mmap((void *)(uintptr_t)OR_CODE, OR_CODE_SIZE, PROT_READ | PROT_WRITE | PROT_EXEC,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)(uintptr_t)OR_CODE)
        return "cannot map the code page at its address";
    window = mmap(NULL, OR_WIN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    p = mmap((void *)(uintptr_t)OR_WIN, OR_WIN_SIZE, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0);
    if (window == MAP_FAILED || p != (void *)(uintptr_t)OR_WIN)
        return "cannot map the window at its address";
    memset(p, 1, OR_WIN_SIZE);
    if (mprotect((char *)p + OR_DATA_SIZE, OR_WIN_SIZE - OR_DATA_SIZE, PROT_READ))
        return "mprotect fails";
    close(fd);
    if (syscall(SYS_modify_ldt, 0x11, &ud, sizeof ud) ||
        syscall(SYS_modify_ldt, 0x11, &code16, sizeof code16))
        return "modify_ldt fails";
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es\n\tmov %1, %%gs"
                     :
                     : "r"((uint32_t)OR_DS), "r"((uint32_t)OR_GS));
    if (sigaltstack(&ss, NULL))
        return "sigaltstack fails";
    sa.sa_sigaction = or_signal_entry;
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &sa, &old_action[signals[i]]);
    return NULL;
}

void or_host_run(const struct or_seq *s, struct or_state *out)
{
    memcpy((void *)(uintptr_t)OR_CODE, s->code, OR_CODE_SIZE);
    memcpy(window, s->win, OR_WIN_SIZE);
    cur = s;
    result = out;
    phase = ENTER;
    /* NT and ID are not among what a signal return restores */
    __asm__ volatile("push $0x202\n\tpopfq\n\tint3" : : : "memory", "cc");
}
