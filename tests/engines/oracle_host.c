/* SPDX-License-Identifier: BSD-2-Clause */
/* Native execution of generated sequences, at fixed addresses in this process.
 *
 * What the kernel offers is tried with sequences of our own.  Compatibility mode needs an LDT, for 16-bit code and
 * for a GS base that 16-bit addresses reach the window with; a paravirtual host may have neither.  Another one
 * returns to no program whose RSP is not canonical but raises #GP or #UD, and loses NT, be it a return from a signal
 * or from an interrupt at any time.  There such an RSP is loaded on the way to the sequence, and a difference
 * counts when it shows several times.
 *
 * A breakpoint of our own enters: its handler replaces the interrupted context by the test's.  The INT3 at the
 * end of the sequence, or whatever fault comes first, gives the context after; the handler keeps it and
 * puts the old one back.  The signal frame's XSAVE area carries the vector and x87 state (Linux,
 * arch/x86/include/uapi/asm/sigcontext.h). */
#define _GNU_SOURCE
#include "tests/engines/oracle.h"

#include <asm/ldt.h>
#include <asm/prctl.h>
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
enum { LEAD_IN = OR_CODE + 0x100000 };
enum { XS_BV = 512, XS_YMM = 576, SW_SIZE_OFF = 464 + 16, FRAME_MAX = 16384 };

static volatile int phase;
static const struct or_seq *cur;
static struct or_state *result;
static greg_t saved_gregs[NGREG];
static uint8_t saved_fp[FRAME_MAX];
static uint8_t *window;
static struct sigaction old_action[65];
static const char *refuses_32, *refuses_16;
static uint16_t gs_selector;
static bool strict_rsp; /* the kernel does not return with any RSP */

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

static bool canonical(uint64_t a)
{
    return (uint64_t)((int64_t)(a << 16) >> 16) == a;
}

/* Code that loads RSP and goes to the sequence. */
static void make_lead_in(uint64_t rsp, uint64_t rip)
{
    static const uint8_t code[16] = { 0x48, 0x8b, 0x25, 9, 0, 0, 0, /* mov rsp, [16] */
                                      0xff, 0x25, 11,   0, 0, 0 };  /* jmp [24] */
    uint8_t *p = (uint8_t *)(uintptr_t)LEAD_IN;

    memcpy(p, code, 16);
    memcpy(p + 16, &rsp, 8);
    memcpy(p + 24, &rip, 8);
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
    if (strict_rsp && !canonical(cur->in.gpr[4])) {
        make_lead_in(cur->in.gpr[4], cur->in.rip);
        g[REG_RSP] = 0;
        g[REG_RIP] = LEAD_IN;
    }
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

uint16_t or_host_gs(void)
{
    return gs_selector;
}

const char *or_host_refuses(enum x86_mode mode)
{
    return mode == X86_MODE_32 ? refuses_32 : mode == X86_MODE_16 ? refuses_16 : NULL;
}

/* Run @code with these registers.  @return RAX after it, or ~0 when it did not come to its end. */
static uint64_t try(enum x86_mode mode, const char *code, unsigned len, uint64_t rax, uint64_t rsp)
{
    static struct or_seq s;
    static struct or_state out;

    memset(&s, 0, sizeof s);
    memset(s.code, 0xcc, sizeof s.code);
    memcpy(s.code, code, len);
    memset(s.win, 1, sizeof s.win);
    s.mode = mode;
    s.in.gpr[0] = rax;
    s.in.gpr[4] = rsp;
    s.in.rip = mode == X86_MODE_16 ? 0 : OR_CODE;
    s.in.rflags = 0x202;
    s.in.fx[0] = 0x7f;
    s.in.fx[1] = 0x03;
    s.in.fx[24] = 0x80;
    s.in.fx[25] = 0x1f;
    or_host_run(&s, &out);
    return out.vector == 3 && out.rip == s.in.rip + len + 1 ? out.gpr[0] : ~0ull;
}

/* Bring the modes that the kernel has into being.  @return an error text or NULL. */
static const char *find_modes(void)
{
    static const char load_gs[] = "\x8e\xe8",
                      read_gs[] = "\x65\x8b\x00"; /* mov gs, eax; mov eax, gs:[rax] */
    static const char inc[] = "\x40";             /* inc eax, inc ax; in 64-bit mode a prefix */
    struct user_desc data = { .entry_number = OR_GS >> 3,
                              .base_addr = OR_GS_BASE,
                              .limit = 0xfffff,
                              .seg_32bit = 1,
                              .limit_in_pages = 1,
                              .useable = 1 };
    struct user_desc code16 = { .entry_number = OR_CS16 >> 3,
                                .base_addr = OR_CODE,
                                .limit = 0xffff,
                                .contents = 2,
                                .useable = 1 };
    bool ldt = !syscall(SYS_modify_ldt, 0x11, &data, sizeof data) &&
               !syscall(SYS_modify_ldt, 0x11, &code16, sizeof code16) &&
               try(X86_MODE_64, load_gs, 2, OR_GS, 0) == OR_GS;

    if (ldt)
        gs_selector = OR_GS;
    else if (syscall(SYS_arch_prctl, ARCH_SET_GS, OR_GS_BASE))
        return "cannot set the base of GS";
    for (unsigned i = 0; try(X86_MODE_64, "", 0, 0, 1ull << 62) != 0; i++) {
        if (i > 4)
            return "no sequence runs";
        strict_rsp = true;
    }
    if (try(X86_MODE_64, read_gs, 3, OR_WIN - OR_GS_BASE, 0) != 0x01010101)
        return "GS does not reach the window";
    if (try(X86_MODE_32, inc, 1, 0xffff, 0) != 0x10000)
        refuses_32 = "this host runs no 32-bit code";
    else if (!ldt)
        refuses_32 = "this host has no LDT";
    if (!ldt)
        refuses_16 = "this host has no LDT";
    else if (try(X86_MODE_16, inc, 1, 0xffff, 0) != 0)
        refuses_16 = "this host runs no 16-bit code";
    return NULL;
}

const char *or_host_init(void)
{
    static const int signals[] = { SIGTRAP, SIGSEGV, SIGBUS, SIGILL, SIGFPE };
    struct sigaction sa = { .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };
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
    p = mmap((void *)(uintptr_t)LEAD_IN, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != (void *)(uintptr_t)LEAD_IN)
        return "cannot map the lead-in at its address";
    window = mmap(NULL, OR_WIN_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    p = mmap((void *)(uintptr_t)OR_WIN, OR_WIN_SIZE, PROT_READ | PROT_WRITE,
             MAP_SHARED | MAP_FIXED_NOREPLACE | MAP_POPULATE, fd, 0);
    if (window == MAP_FAILED || p != (void *)(uintptr_t)OR_WIN)
        return "cannot map the window at its address";
    memset(p, 1, OR_WIN_SIZE);
    if (mprotect((char *)p + OR_DATA_SIZE, OR_WIN_SIZE - OR_DATA_SIZE, PROT_READ))
        return "mprotect fails";
    close(fd);
    __asm__ volatile("mov %0, %%ds\n\tmov %0, %%es" : : "r"((uint32_t)OR_DS));
    if (sigaltstack(&ss, NULL))
        return "sigaltstack fails";
    sa.sa_sigaction = or_signal_entry;
    sigemptyset(&sa.sa_mask);
    for (unsigned i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &sa, &old_action[signals[i]]);
    return find_modes();
}

unsigned or_host_tries(void)
{
    return strict_rsp ? 4 : 1;
}

void or_host_adapt(struct or_seq *s)
{
    /* A single step would trap on the way to the sequence. */
    if (strict_rsp && s->in.rflags & 0x100)
        s->in.gpr[4] = (uint64_t)((int64_t)(s->in.gpr[4] << 16) >> 16);
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
