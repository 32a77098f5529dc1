/* SPDX-License-Identifier: BSD-2-Clause */
/* Debug exceptions in 64-bit mode: single step, breakpoints, watchpoints, general detect, INT1.
 * Reference: Intel SDM volume 3A chapter 17, 6.8.3. */
#include "rt.h"

static volatile ulong seen[64], seen_dr6[64], seen_flags[64];
static volatile unsigned nseen;
static bool set_rf;

static bool on_db(struct regs *r)
{
    if (nseen < 64) {
        seen[nseen] = r->ip;
        seen_flags[nseen] = r->flags;
        seen_dr6[nseen++] = get_dr6();
    }
    set_dr6(0xffff0ff0);
    if (set_rf)
        r->flags |= 0x10000;
    return true;
}
static bool on_int(struct regs *r)
{
    (void)r;
    return true;
}

/* Runs of instructions between TF on and off; the first trap comes after the instruction that follows POPF. */
#define STEPS(name, body) \
    __asm__(".text; " #name ": pushf; orl $0x100, (%rsp); popf; " body \
            "; pushf; andl $~0x100, (%rsp); popf; " #name "_end: ret"); \
    extern char name[], name##_end[];

STEPS(s_plain, "s_p1: nop; s_p2: mov $1, %eax; s_p3: jmp s_p4; nop; s_p4: ")
STEPS(s_movss, "mov %ss, %eax; s_m1: mov %eax, %ss; s_m2: nop; s_m3: nop; s_m4: ")
STEPS(s_int, "s_i0: int $0x44; s_i1: nop; s_i2: nop; s_i3: ")
STEPS(s_rep, "mov $4, %ecx; lea scratch(%rip), %rdi; cld; s_r1: rep stosb; s_r2: ")
STEPS(s_branch, "xor %eax, %eax; s_b1: jz s_b2; nop; s_b2: call s_b3; jmp s_b4; s_b3: ret; s_b4: ")
extern char s_p2[], s_p3[], s_p4[], s_m1[], s_m2[], s_m3[], s_m4[], s_i1[], s_i2[], s_i3[], s_r1[], s_r2[], s_b1[], s_b2[],
    s_b3[], s_b4[];

uint8_t scratch[64] __attribute__((aligned(16)));

static void call(void *arg) { __asm__ volatile("call *%0" ::"r"(arg) : "rax", "rcx", "rdi", "memory", "cc"); }

static void step(char *fn)
{
    nseen = 0;
    set_dr6(0xffff0ff0);
    check("step: no other exception", (uint64_t)(int64_t)try(call, fn), (uint64_t)-1);
}

static void single_step(void)
{
    step(s_plain);
    check("step: count", nseen, 6);
    check("step: after the first", seen[0], (ulong)s_p2);
    check("step: after the second", seen[1], (ulong)s_p3);
    check("step: after the jump", seen[2], (ulong)s_p4);
    check("step: DR6", seen_dr6[0], 0xffff4ff0);
    check("step: TF in the image", seen_flags[0] & 0x100, 0x100);
    check_q("step: no RF in the image", seen_flags[0] & 0x10000, 0);
    step(s_movss);
    check("step: before mov ss", seen[0], (ulong)s_m1);
    check("step: none right after mov ss", seen[1], (ulong)s_m3);
    step(s_int);
    check("step: the handler is not stepped", seen[0], (ulong)s_i2);
    step(s_branch);
    check("step: xor", seen[0], (ulong)s_b1);
    check("step: jz", seen[1], (ulong)s_b2);
    check("step: call", seen[2], (ulong)s_b3);
    check("step: jmp", seen[4], (ulong)s_b4);
    step(s_rep);
    check_q("step: rep traps at every iteration", seen[3], (ulong)s_r1);
    check_q("step: rep, count", nseen, 3 + 4 + 3);
    ulong rf = 0;
    for (unsigned i = 3; i < 7; i++)
        rf = rf << 1 | (seen_flags[i] >> 16 & 1);
    check_q("step: rep, RF while iterations are left", rf, 0xe);
}

__asm__(".text; io_rep: lea scratch(%rip), %rsi; mov $4, %ecx; mov $0x80, %edx; cld; io_r1: rep outsb; io_r2: ret");
extern char io_rep[], io_r1[], io_r2[];
static void call_io(void *arg) { __asm__ volatile("call *%0" ::"r"(arg) : "rax", "rcx", "rdx", "rsi", "memory", "cc"); }

/* A breakpoint on a port, hit by each iteration of REP OUTS (17.2.4). */
static void io_breakpoint(void)
{
    ulong rf = 0;

    set_cr4(get_cr4() | 8);
    set_dr0(0x80);
    set_dr7(0x20402);
    nseen = 0;
    set_dr6(0xffff0ff0);
    check("port breakpoint: no other exception", (uint64_t)(int64_t)try(call_io, io_rep), (uint64_t)-1);
    set_dr7(0x400);
    check_q("port breakpoint: rep outs, count", nseen, 4);
    check_q("port breakpoint: at each iteration", seen[0] == (ulong)io_r1 && seen[2] == (ulong)io_r1, 1);
    check_q("port breakpoint: after the last", seen[3], (ulong)io_r2);
    for (unsigned i = 0; i < 4; i++)
        rf = rf << 1 | (seen_flags[i] >> 16 & 1);
    check_q("port breakpoint: RF while iterations are left", rf, 0xe);
    set_cr4(get_cr4() & ~8ul);
}

/* ---- breakpoints ---- */

__asm__(".text; bp_fn: nop; bp_here: mov $7, %eax; bp_after: mov %eax, scratch(%rip); ret\n"
        "bp_movss: mov %ss, %eax; mov %eax, %ss; bp_shadow: nop; ret\n"
        "bp_loop: mov $3, %ecx; 1: nop; bp_loop_at: dec %ecx; jnz 1b; ret\n");
extern char bp_fn[], bp_here[], bp_movss[], bp_shadow[], bp_loop[], bp_loop_at[];

static int run(void *fn)
{
    nseen = 0;
    set_dr6(0xffff0ff0);
    return try(call, fn);
}

static void exec_breakpoints(void)
{
    set_rf = true;
    set_dr0((ulong)bp_here);
    set_dr7(0x401);
    check("breakpoint: goes on with RF", (uint64_t)(int64_t)run(bp_fn), (uint64_t)-1);
    check("breakpoint: once", nseen, 1);
    check("breakpoint: before the instruction", seen[0], (ulong)bp_here);
    check("breakpoint: DR6", seen_dr6[0] & 0xf00f, 1);
    check("breakpoint: the instruction ran after it", *(uint32_t *)scratch, 7);
    run(bp_fn);
    check("breakpoint: again", nseen, 1);
    set_dr7(0x402);
    run(bp_fn);
    check("breakpoint: global enable", nseen, 1);
    set_dr7(0x400);
    run(bp_fn);
    check("breakpoint: off", nseen, 0);
    set_dr3((ulong)bp_here);
    set_dr7(0x440);
    run(bp_fn);
    check("breakpoint 3: DR6", nseen ? seen_dr6[0] & 0xf008 : 0, 8);
    set_dr0((ulong)bp_loop_at);
    set_dr7(0x401);
    run(bp_loop);
    check("breakpoint: each time round", nseen, 3);
    set_dr0((ulong)bp_shadow);
    run(bp_movss);
    check_q("breakpoint: not right after mov ss", nseen, 0);
    set_dr7(0x400);
    set_rf = false;
}

/* ---- watchpoints ---- */

__asm__(".text\n"
        "w_store4: movl $1, 16+scratch(%rip); w_store4_next: ret\n"
        "w_store1: movb $1, 19+scratch(%rip); ret\n"
        "w_before: movl $1, 12+scratch(%rip); ret\n"
        "w_after: movl $1, 20+scratch(%rip); ret\n"
        "w_cross: movl $1, 14+scratch(%rip); ret\n"
        "w_load: mov 16+scratch(%rip), %eax; w_load_next: ret\n"
        "w_rmw: incl 16+scratch(%rip); ret\n"
        "w_push: mov %rsp, %rcx; lea 24+scratch(%rip), %rsp; push %rax; mov %rcx, %rsp; ret\n"
        "w_rep: lea scratch(%rip), %rdi; mov $8, %ecx; cld; w_rep_at: rep stosl; w_rep_next: ret\n");
extern char w_store4[], w_store4_next[], w_store1[], w_before[], w_after[], w_cross[], w_load[], w_load_next[], w_rmw[],
    w_push[], w_rep[], w_rep_at[];

static unsigned hits(char *fn)
{
    run(fn);
    return nseen;
}

static void watchpoints(void)
{
    set_dr1((ulong)scratch + 16);
    set_dr7(0x400 | 4 | 0xd0 << 16); /* 1: write, 4 bytes */
    check("watch write: store", hits(w_store4), 1);
    check("watch write: trap after it", seen[0], (ulong)w_store4_next);
    check("watch write: DR6", seen_dr6[0] & 0xf00f, 2);
    check("watch write: byte inside", hits(w_store1), 1);
    check("watch write: before it", hits(w_before), 0);
    check("watch write: after it", hits(w_after), 0);
    check("watch write: overlap", hits(w_cross), 1);
    check("watch write: load", hits(w_load), 0);
    check("watch write: read-modify-write", hits(w_rmw), 1);
    check("watch write: push", hits(w_push), 1);
    *(volatile uint32_t *)(scratch + 32) = 0;
    check("watch write: rep stos", hits(w_rep) >= 1, 1);
    check("watch write: rep stos finished", *(uint32_t *)(scratch + 28), *(uint32_t *)scratch);
    set_dr7(0x400 | 4 | 0xf0 << 16);
    check("watch access: load", hits(w_load), 1);
    check("watch access: trap after it", seen[0], (ulong)w_load_next);
    set_dr7(0x400 | 4 | 0x10 << 16); /* one byte */
    check("watch 1 byte: byte beside", hits(w_store1), 0);
    check("watch 1 byte: store over it", hits(w_store4), 1);
    set_dr1((ulong)scratch + 16);
    set_dr7(0x400 | 4 | 0x90 << 16); /* 8 bytes */
    check("watch 8 bytes: upper half", hits(w_after), 1);
    set_dr7(0x400);
    check("watch: off", hits(w_store4), 0);
}

/* ---- the registers ---- */

static void f_get_dr0(void *a)
{
    (void)a;
    (void)get_dr0();
}
static void f_dr7_high(void *a)
{
    (void)a;
    set_dr7(1ul << 32 | 0x400);
}
static void f_dr6_high(void *a)
{
    (void)a;
    set_dr6(1ul << 32);
}
static void f_dr4(void *a)
{
    (void)a;
    __asm__ volatile("mov %%dr4, %%rax" ::: "rax");
}
static void f_int1(void *a)
{
    (void)a;
    __asm__ volatile(".byte 0xf1; .globl int1_next; int1_next: nop");
}
extern char int1_next[];

static uint8_t ustack[4096] __attribute__((aligned(16)));
__asm__(".text; u_dr: mov %dr0, %rax; int $0x80; u_step: pushf; orl $0x100, (%rsp); popf; nop; nop; int $0x80");
extern char u_dr[], u_step[];
static void f_user(void *ip) { go_user(SEL_CU, (ulong)ip, SEL_D3, (ulong)ustack + 4096, 0x202); }

static void registers(void)
{
    set_dr6(0);
    check("DR6: fixed bits", get_dr6(), 0xffff0ff0);
    set_dr7(0x400);
    check("DR7: fixed bit", get_dr7(), 0x400);
    check("DR7: upper half", (uint64_t)(int64_t)try(f_dr7_high, NULL), 13);
    check_q("DR6: upper half", (uint64_t)(int64_t)try(f_dr6_high, NULL), 13);
    check("DR4 is DR6", (uint64_t)(int64_t)try(f_dr4, NULL), (uint64_t)-1);
    set_cr4(get_cr4() | 8);
    check("DR4 with CR4.DE", (uint64_t)(int64_t)try(f_dr4, NULL), 6);
    set_cr4(get_cr4() & ~8ul);
    check("DR0 at level 3", (uint64_t)(int64_t)try(f_user, u_dr), 13);

    hooks[1] = NULL;
    check_q("int1", (uint64_t)(int64_t)try(f_int1, NULL), 1);
    check_q("int1: address after it", exc.ip, (ulong)int1_next);
    set_dr6(0xffff0ff0);
    set_dr7(0x2400);
    int v = try(f_get_dr0, NULL);
    check_q("general detect", (uint64_t)(int64_t)v, 1);
    check_q("general detect: DR6", exc.dr6 & 0xf00f, 0x2000);
    set_dr7(0x400);
    check("step at level 3", (uint64_t)(int64_t)try(f_user, u_step), 1);
    check("step at level 3: cs", exc.cs, SEL_CU);
}

int main(void)
{
    rt_init();
    hooks[1] = on_db;
    hooks[0x44] = on_int;
    single_step();
    io_breakpoint();
    exec_breakpoints();
    watchpoints();
    registers();
    rt_exit();
}
