/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions in 64-bit mode: vector, error code, return address, flags; nested faults.
 * Reference: Intel SDM volume 3A chapter 6. */
#include "rt.h"

#define FN(name, body) \
    static __attribute__((noinline, used)) void name(void *arg) \
    { \
        (void)arg; \
        __asm__ volatile(body ::: "rax", "rcx", "rdx", "rbx", "rsi", "memory", "cc"); \
    }

FN(f_none, "nop")
FN(f_de, "xor %%eax, %%eax; xor %%edx, %%edx; .globl de_at; de_at: div %%eax")
FN(f_de_ovf, "mov $1, %%edx; mov $1, %%ecx; div %%ecx")
FN(f_de_neg, "mov $0x80000000, %%eax; cltd; mov $-1, %%ecx; idiv %%ecx")
FN(f_ud, ".globl ud_at; ud_at: ud2")
FN(f_lock, "lock; mov %%eax, %%eax")
FN(f_bp, ".globl bp_at; bp_at: int3; .globl bp_next; bp_next: nop")
FN(f_int, "int $0x40")
FN(f_int80, ".globl int_at; int_at: int $0x80; .globl int_next; int_next: nop")
FN(f_gp_sel, "mov $0x1234, %%eax; mov %%eax, %%ds")
FN(f_gp_sel_ldt, "mov $0x0c, %%eax; mov %%eax, %%es")
FN(f_gp_canon, "mov $1, %%rax; shl $63, %%rax; mov (%%rax), %%eax")
FN(f_ss_canon, "push %%rbp; mov $1, %%rbp; shl $63, %%rbp; mov (%%rbp), %%eax; pop %%rbp")
FN(f_ss_code, "mov $8, %%eax; mov %%eax, %%ss")
FN(f_gp_tss, "mov $0x38, %%eax; ltr %%ax")
FN(f_msr, "mov $0x12345678, %%ecx; rdmsr")
FN(f_long, ".byte 0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x66,0x90")
FN(f_cr0, "mov %%cr0, %%rax; btr $0, %%rax; mov %%rax, %%cr0")
FN(f_cr4, "mov %%cr4, %%rax; btr $5, %%rax; mov %%rax, %%cr4")
FN(f_cr4_res, "mov %%cr4, %%rax; bts $31, %%rax; mov %%rax, %%cr4")
FN(f_movaps, "lea 1(%%rsp), %%rax; and $-16, %%rax; movaps 8(%%rax), %%xmm0")
FN(f_hole, "movabs $0x0000600000000000, %%rax; mov (%%rax), %%eax")
FN(f_hole_w, "movabs $0x0000600000000ffe, %%rax; movl $1, (%%rax)")
FN(f_hole_x, "movabs $0x0000600000000010, %%rax; jmp *%%rax")
FN(f_far_null, "push $0; push $0; lretq")
FN(f_nm, "fninit; fld1")
FN(f_ts_sse, "xorps %%xmm0, %%xmm0")
FN(f_bound64, ".byte 0x62, 0x00") /* EVEX without AVX-512, BOUND does not exist */
FN(f_into64, ".byte 0xce")
FN(f_stack, "mov %%rsp, %%rbx; mov $1, %%rsp; shl $63, %%rsp; push %%rax")

FN(f_mf, "fninit; movw $0x37b, -8(%%rsp); fldcw -8(%%rsp); fld1; fldz; fdivrp %%st, %%st(1); nop;"
         ".globl mf_at; mf_at: fwait")
FN(f_xm, "movl $0x1d80, -8(%%rsp); ldmxcsr -8(%%rsp); xorps %%xmm1, %%xmm1; mov $1, %%eax;"
         "cvtsi2ss %%eax, %%xmm0; divss %%xmm1, %%xmm0")

extern char mf_at[], de_at[], ud_at[], bp_at[], bp_next[], int_next[];

static void expect_as(const char *name, void (*fn)(void *), int vec, ulong err, bool strict)
{
    int v = try(fn, NULL);
    uint64_t got = (uint64_t)(int64_t)v, want = (uint64_t)(int64_t)vec;

    if (v == vec && vec >= 0 && exc.err != err)
        got = exc.err, want = err;
    if (strict)
        check(name, got, want);
    else
        check_q(name, got, want);
}

static void expect(const char *name, void (*fn)(void *), int vec, ulong err)
{
    expect_as(name, fn, vec, err, true);
}

static void expect_q(const char *name, void (*fn)(void *), int vec, ulong err)
{
    expect_as(name, fn, vec, err, false);
}

/* ---- level 3 ---- */

static uint8_t user_stack[4096] __attribute__((aligned(16)));
static ulong user_ip;

static void f_user(void *arg)
{
    go_user(SEL_CU, (ulong)arg, SEL_D3, (ulong)user_stack + sizeof(user_stack), 0x202);
}

#define USER(name, body) \
    __asm__(".text; " #name ": " body "; int $0x80; hlt"); \
    extern char name[];

USER(u_int, "nop")
USER(u_hlt, "hlt")
USER(u_cli, "cli")
USER(u_in, "in $0x80, %al")
USER(u_int40, "int $0x40")
USER(u_int3, "int3")
USER(u_cr, "mov %cr0, %rax")
USER(u_sysret, "sysretl")
USER(u_popf, "pushq $0x3202; popfq; pushfq; pop %rax")
USER(u_align, "pushfq; orl $0x40000, (%rsp); popfq; mov 1(%rsp), %eax")
USER(u_lgdt, "lgdt (%rsp)")
USER(u_sgdt, "sub $16, %rsp; sgdt (%rsp)")
USER(u_kern_ss, "mov $0x10, %eax; mov %eax, %ds")
USER(u_wrmsr, "mov $0xc0000101, %ecx; xor %eax, %eax; xor %edx, %edx; wrmsr")

static int user(void *ip)
{
    user_ip = (ulong)ip;
    return try(f_user, ip);
}

/* ---- nested faults ---- */

static void f_double(void *arg)
{
    (void)arg;
    set_gate(13, 0, 0, 14, 0, 0);
    __asm__ volatile("mov $0x1234, %%eax; mov %%eax, %%ds" ::: "rax");
}

static void f_double_pf(void *arg)
{
    (void)arg;
    set_gate(14, SEL_FREE, 0, 14, 0, 0);
    __asm__ volatile("movabs $0x0000600000000000, %%rax; mov (%%rax), %%eax" ::: "rax");
}

static void f_np_gate(void *arg)
{
    (void)arg;
    idt[0x41 * 2] &= ~(1ull << 47);
    __asm__ volatile("int $0x41");
}

int main(void)
{
    rt_init();
    expect("nothing", f_none, -1, 0);
    expect("divide by zero", f_de, 0, 0);
    check("divide: address", exc.ip, (ulong)de_at);
    check_q("divide: RF pushed", exc.flags & 0x10000, 0x10000);
    expect("divide overflow", f_de_ovf, 0, 0);
    expect("idiv overflow", f_de_neg, 0, 0);
    expect("ud2", f_ud, 6, 0);
    check("ud2: address", exc.ip, (ulong)ud_at);
    expect_q("lock of a register", f_lock, 6, 0);
    expect("int3", f_bp, 3, 0);
    check("int3: address after", exc.ip, (ulong)bp_next);
    check_q("int3: no RF", exc.flags & 0x10000, 0);
    expect("int n", f_int, 0x40, 0);
    expect("int 0x80", f_int80, 0x80, 0);
    check("int n: address after", exc.ip, (ulong)int_next);
    expect("bad selector", f_gp_sel, 13, 0x1234);
    expect("selector of no LDT", f_gp_sel_ldt, 13, 0x0c);
    expect("ss = code", f_ss_code, 13, 8);
    expect("ltr busy", f_gp_tss, 13, SEL_TSS);
    expect("non-canonical read", f_gp_canon, 13, 0);
    expect_q("non-canonical read through rbp", f_ss_canon, 12, 0);
    expect("non-canonical push", f_stack, BITS == 64 ? 8 : 12, 0); /* no stack for #SS: #DF on its own */
    expect_q("rdmsr of nothing", f_msr, 13, 0);
    expect("instruction of 16 bytes", f_long, 13, 0);
    if (on_tcg()) { /* it does, and loses its way */
        skip("clear CR0.PE");
        skip("clear CR4.PAE in long mode");
        skip("reserved CR4 bit");
    } else {
        expect("clear CR0.PE", f_cr0, 13, 0);
        expect("clear CR4.PAE in long mode", f_cr4, 13, 0);
        expect("reserved CR4 bit", f_cr4_res, 13, 0);
    }
    expect("movaps misaligned", f_movaps, 13, 0);
    expect("page fault, read", f_hole, 14, 0);
    check("page fault: CR2", exc.cr2, 0x600000000000);
    expect("page fault, write", f_hole_w, 14, 2);
    check("page fault: CR2 of a crossing write", exc.cr2, 0x600000000ffe);
    expect("page fault, fetch", f_hole_x, 14, 0x10);
    check("fetch fault: address", exc.ip, 0x600000000010);
    expect("lret to null", f_far_null, 13, 0);
    expect("into in 64-bit mode", f_into64, 6, 0);
    expect("bound in 64-bit mode", f_bound64, 6, 0);

    set_cr0(get_cr0() | 8);
    expect("x87 with TS", f_nm, 7, 0);
    expect("sse with TS", f_ts_sse, 7, 0);
    __asm__ volatile("clts");
    expect("x87 without TS", f_nm, -1, 0);
    set_cr0((get_cr0() & ~2ul) | 4);
    expect("x87 with EM", f_nm, 7, 0);
    expect("sse with EM", f_ts_sse, 6, 0);
    set_cr0((get_cr0() & ~4ul) | 2);
    set_cr4(get_cr4() & ~0x200ul);
    expect("sse without OSFXSR", f_ts_sse, 6, 0);
    set_cr4(get_cr4() | 0x200);

    check("user: int 0x80", (uint64_t)user(u_int), 0x80);
    check("user: cs", exc.cs, SEL_CU);
    check("user: ss", exc.ss, SEL_D3);
    check("user: sp", exc.sp, (ulong)user_stack + sizeof(user_stack));
    check("user: hlt", (uint64_t)user(u_hlt), 13);
    check("user: hlt address", exc.ip, user_ip);
    check("user: cli", (uint64_t)user(u_cli), 13);
    check("user: in", (uint64_t)user(u_in), 13);
    check("user: mov cr0", (uint64_t)user(u_cr), 13);
    check("user: sysret", (uint64_t)user(u_sysret), 13);
    check("user: wrmsr", (uint64_t)user(u_wrmsr), 13);
    check("user: lgdt", (uint64_t)user(u_lgdt), 13);
    check("user: kernel selector", (uint64_t)user(u_kern_ss), 13);
    check("user: kernel selector error", exc.err, 0x10);
    check("user: int without DPL", (uint64_t)user(u_int40), 13);
    check_q("user: int without DPL, error", exc.err, 0x40 * 8 + 2);
    check("user: int3", (uint64_t)user(u_int3), 3);
    check("user: popf", (uint64_t)user(u_popf), 0x80);
    check("user: popf keeps IOPL", exc.ax & 0x3200, 0x200);
    check("user: sgdt", (uint64_t)user(u_sgdt), 0x80);
    uint32_t r[4];
    cpuid(7, 0, r);
    if (r[2] & 4) {
        set_cr4(get_cr4() | 0x800);
        check_q("user: sgdt with UMIP", (uint64_t)user(u_sgdt), 13);
        set_cr4(get_cr4() & ~0x800ul);
    }
    set_cr0(get_cr0() | 0x40000);
    check_q("user: alignment check", (uint64_t)user(u_align), 17);
    check_q("user: alignment check, error", exc.err, 0);
    set_cr0(get_cr0() & ~0x40000ul);
    check("user: no alignment check", (uint64_t)user(u_align), 0x80);

    check("not present gate", (uint64_t)try(f_np_gate, NULL), 11);
    check_q("not present gate, error", exc.err, 0x41 * 8 + 2);
    reset_gate(0x41);
    expect("double fault", f_double, 8, 0);
    reset_gate(13);
    expect("double fault from a page fault", f_double_pf, 8, 0);
    reset_gate(14);

    /* Unmasked floating-point exceptions. */
    set_cr0(get_cr0() | 0x20);
    check("x87: the next one reports", (uint64_t)try(f_mf, NULL), 16);
    check("x87: address of the reporter", exc.ip, (ulong)mf_at);
    expect_q("sse: divide by zero unmasked", f_xm, 19, 0);
    __asm__ volatile("fninit");
    rt_exit();
}
