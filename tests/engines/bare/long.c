/* SPDX-License-Identifier: BSD-2-Clause */
/* IA-32e mode: system calls, compatibility mode, far transfers, IRET, segment bases, interrupt stacks.
 * Reference: Intel SDM volume 3A 5.8, 6.14; volume 2 under the mnemonics. */
#include "rt.h"

#define FN(name, body) \
    static __attribute__((noinline, used)) void name(void *arg) \
    { \
        __asm__ volatile(body ::"D"(arg) : "rax", "rcx", "rdx", "rbx", "rsi", "r8", "r11", "memory", "cc"); \
    }

enum { SEL_GATE = SEL_FREE, /* 16 bytes */ SEL_NP64 = SEL_FREE + 16, SEL_LD = SEL_FREE + 24, SEL_S16 = SEL_FREE + 32,
       SEL_CONF = SEL_FREE + 40, SEL_LDT = SEL_FREE + 48 /* 16 bytes */, SEL_S0 = SEL_FREE + 64 };

static uint8_t ustack[4096] __attribute__((aligned(16))), kstack[4096] __attribute__((aligned(16)));
static uint8_t ist2[4096] __attribute__((aligned(16)));

static void f_user(void *ip) { go_user(SEL_CU, (ulong)ip, SEL_D3, (ulong)ustack + sizeof(ustack), 0x202); }
static int user(char *ip) { return try(f_user, ip); }
#define MINUS1 ((uint64_t)-1)
#define TRY(fn, arg) ((uint64_t)(int64_t)try(fn, (void *)(ulong)(arg)))

__asm__(".text\n"
        "u_syscall: mov $0x1234, %eax; syscall; u_sysret: int $0x80\n"
        "k_syscall: mov %rcx, k_rcx; mov %r11, k_r11; mov %cs, k_cs; mov %ss, k_ss; pushfq; pop k_flags; sysretq\n"
        "k_compat: sysretl\n"
        "u_compat: mov $u_c32, %ecx; syscall\n"
        ".code32; u_c32: mov %cs, %eax; mov %esp, %ecx; push %eax; mov %esp, %edx; int $0x80; .code64\n"
        "u_many: mov $many, %esi; mov $64, %ebx\n"
        "1: push (%rsi); popfq; syscall; u_many_ret: pushfq; pop 8(%rsi); mov %r11, 16(%rsi); mov %rcx, 24(%rsi)\n"
        "add $48, %rsi; dec %ebx; jnz 1b; int $0x80\n"
        "k_many: pushfq; pop 32(%rsi); mov %cs, 40(%rsi); mov %ss, 44(%rsi); sysretq\n"
        "k_other: pushfq; pop 32(%rsi); movq $0, 40(%rsi); mov %cs, 40(%rsi); mov %ss, 44(%rsi); nop; sysretq\n"
        "k_canon: movabs $0x800000000000, %rcx; sysretq\n"
        "u_sysenter: sysenter\n"
        "k_sysenter: mov %rsp, k_rcx; mov %cs, k_cs; mov $ustack + 4096, %ecx; lea u_sysret(%rip), %rdx; sysexitq\n"
        "u_far32: lcall *far32(%rip)\n"
        ".code32; c32: inc %eax; push %eax; pop %ecx; mov $0x7fffffff, %edx; add $2, %edx; int $0x80; .code64\n"
        "u_gate: lcall *fargate(%rip); mov %rsp, %rax; int $0x80\n"
        "k_gate: mov %rsp, k_rcx; mov %cs, k_cs; mov %ss, k_ss; lretq\n"
        "u_conf: lcall *farconf(%rip); int $0x80\n"
        "k_conf: mov %cs, %eax; lretl\n"
        "u_swapgs: swapgs\n"
        "u_inc_gs: incl %gs:4; mov %gs:4, %eax; int $0x80\n"
        "u_loadgs: mov $0x23, %eax; mov %eax, %gs; mov %gs:(%rsi), %eax; int $0x80\n"
        "u_wrfs: mov $ustack, %eax; wrfsbase %rax; movl $0x77, %fs:8; rdfsbase %rcx; mov ustack + 8, %eax; int $0x80\n"
        ".section .data; .balign 8\n"
        "k_rcx: .quad 0; k_r11: .quad 0; k_flags: .quad 0; k_cs: .quad 0; k_ss: .quad 0\n"
        "far32: .long c32; .word 0x1b; fargate: .long 0; .word 0x4b; farconf: .long k_conf; .word 0x73\n"
        ".text\n");
extern char u_syscall[], u_sysret[], k_syscall[], k_compat[], u_compat[], u_c32[], k_canon[], u_sysenter[], k_sysenter[],
    u_far32[], c32[], u_gate[], k_gate[], u_conf[], k_conf[], u_swapgs[], u_inc_gs[], u_loadgs[], u_wrfs[];
extern volatile ulong k_rcx, k_r11, k_flags, k_cs, k_ss;

/* Many in a row, with all kinds of flags, while the registers that say where they go change. */
struct many { ulong flags, after, r11, rcx, kernel; uint32_t cs, ss; };
struct many many[64];
extern char u_many[], u_many_ret[], k_many[], k_other[];

static void syscalls_many(void)
{
    static const uint32_t masks[] = { 0x257fd5, 0x700, 0x257fd5, 0x47fd5, 0x257fd4 };
    const ulong can = 0x240cd5; /* what POPF changes at level 3: arithmetic flags, DF, AC, ID */
    unsigned bad_flags = 0, bad_kernel = 0, bad_rcx = 0, bad_sel = 0, ended = 0;

    for (unsigned round = 0; round < 20; round++) {
        uint64_t mask = masks[round / 2 % 5];
        uint16_t sel = round % 4 == 3 ? SEL_FREE + 0x100 : SEL_C0;

        wrmsr(0xc0000081, (uint64_t)0x1b << 48 | (uint64_t)sel << 32);
        wrmsr(0xc0000082, (ulong)(round % 3 ? k_many : k_other));
        wrmsr(0xc0000084, mask);
        for (unsigned i = 0; i < 64; i++) {
            ulong f = 0x202;

            f |= round & 1 ? (i * 0x9e3779b9u >> 3 & can) : (i & 1 ? 0x8d5 : 0) | (i & 2 ? 0x10 : 0) | (i & 0x3c) << 4;
            many[i] = (struct many){ .flags = f & (can | 0x202) };
        }
        ended += user(u_many) == 0x80;
        for (unsigned i = 0; i < 64; i++) {
            struct many *m = &many[i];

            bad_flags += m->after != m->flags || m->r11 != m->flags;
            bad_kernel += m->kernel != (m->flags & ~mask);
            bad_rcx += m->rcx != (ulong)u_many_ret;
            bad_sel += (m->cs & 0xffff) != sel || (m->ss & 0xffff) != sel + 8u;
        }
    }
    check("many system calls", ended, 20);
    check("many system calls: flags", bad_flags, 0);
    check("many system calls: flags in the kernel", bad_kernel, 0);
    check("many system calls: rcx", bad_rcx, 0);
    check("many system calls: selectors", bad_sel, 0);
}

static void syscalls(void)
{
    wrmsr(0xc0000081, (uint64_t)0x1b << 48 | (uint64_t)SEL_C0 << 32); /* user base 0x18, kernel 0x08 */
    wrmsr(0xc0000082, (ulong)k_syscall);
    wrmsr(0xc0000084, 0x700);
    check("syscall", (uint64_t)user(u_syscall), 0x80);
    check("syscall: rcx", k_rcx, (ulong)u_sysret);
    check("syscall: r11", k_r11 & 0x200, 0x200);
    check("syscall: flags masked", k_flags & 0x700, 0);
    check("syscall: cs", k_cs & 0xffff, SEL_C0);
    check("syscall: ss", k_ss & 0xffff, SEL_D0);
    check("sysret: cs", exc.cs, SEL_CU);
    check("sysret: ss", exc.ss, SEL_D3);
    check("sysret: IF restored", exc.flags & 0x200, 0x200);
    wrmsr(0xc0000082, (ulong)k_compat);
    check("sysret to 32 bits", (uint64_t)user(u_compat), 0x80);
    check("sysret to 32 bits: cs", exc.ax & 0xffff, SEL_C3_32);
    wrmsr(0xc0000082, (ulong)k_canon);
    check_q("sysret, non-canonical rcx", (uint64_t)user(u_syscall), 13);
    check_q("sysret, non-canonical rcx: at level 0", exc.cs, SEL_C0);
    wrmsr(0xc0000080, rdmsr(0xc0000080) & ~1ull);
    check("syscall without EFER.SCE", (uint64_t)user(u_syscall), 6);
    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1);

    if (on_tcg()) { /* its processor is AMD's: no SYSENTER in long mode */
        skip("sysenter");
        return;
    }
    wrmsr(0x174, SEL_C0);
    wrmsr(0x175, (ulong)kstack + sizeof(kstack));
    wrmsr(0x176, (ulong)k_sysenter);
    gdt[SEL_C0 / 8 + 4] = 0x00affb000000ffff; /* sysexitq: cs = 0x08 + 32, ss = 0x30 */
    uint64_t keep = gdt[6];
    gdt[6] = 0x00cff3000000ffff;
    check("sysenter and sysexit", (uint64_t)user(u_sysenter), 0x80);
    check("sysenter: rsp", k_rcx, (ulong)kstack + sizeof(kstack));
    check("sysenter: cs", k_cs & 0xffff, SEL_C0);
    check("sysexit: cs", exc.cs, SEL_CU);
    check("sysexit: ss", exc.ss, 0x33);
    gdt[6] = keep;
}

static void transfers(void)
{
    check("far call to compatibility mode", (uint64_t)user(u_far32), 0x80);
    check("compatibility mode: cs", exc.cs, SEL_C3_32);
    gdt[SEL_GATE / 8] = ((ulong)k_gate & 0xffff) | (uint64_t)SEL_C0 << 16 | 0xecull << 40 | ((ulong)k_gate >> 16 & 0xffff) << 48;
    gdt[SEL_GATE / 8 + 1] = (ulong)k_gate >> 32;
    check("call gate", (uint64_t)user(u_gate), 0x80);
    ulong rsp0;
    memcpy(&rsp0, tss + 4, 8);
    check("call gate: stack", k_rcx, rsp0 - 32);
    check("call gate: cs", k_cs & 0xffff, SEL_C0);
    check("call gate: ss is null", k_ss & 0xffff, 0);
    check("call gate: rsp after", exc.ax, (ulong)ustack + sizeof(ustack));
    gdt[SEL_GATE / 8 + 1] |= 0x0c00ull << 32;
    check("call gate: type in the upper half", (uint64_t)user(u_gate), 13);
    check("call gate: error", exc.err, SEL_GATE);
    gdt[SEL_GATE / 8 + 1] = 0;
    gdt[SEL_GATE / 8] = (gdt[SEL_GATE / 8] & ~(0xffffull << 16)) | (uint64_t)SEL_C0_32 << 16;
    check("call gate to a 32-bit segment", (uint64_t)user(u_gate), 13);
    check("call gate to a 32-bit segment: error", exc.err, SEL_C0_32);
    gdt[SEL_GATE / 8] = desc(0, 0xfff, 0x89) | 3ull << 45;
    check("no task switches", (uint64_t)user(u_gate), 13);
    gdt[SEL_CONF / 8] = desc(0, 0xfffff, 0xa09e);
    check("conforming segment", (uint64_t)user(u_conf), 0x80);
    check("conforming segment: cs", exc.ax & 0xffff, SEL_CONF | 3);
}

/* ---- IRET and RETF at level 0 ---- */

FN(f_iret_null_ss, "mov %%rsp, %%rbx; push $0; push %%rbx; pushfq; push $8; lea 1f(%%rip), %%rax; push %%rax; iretq; 1:"
                   "mov %%ss, %%eax; mov %%eax, k_ss; mov $0x10, %%eax; mov %%eax, %%ss")
FN(f_iret_canon, "mov %%rsp, %%rbx; push $0; push %%rbx; pushfq; push $8; movabs $0x800000000000, %%rax; push %%rax; iretq")
FN(f_iret_null3, "push $3; push %%rsp; pushfq; push $0x2b; push $0; iretq")
FN(f_iret_ld, "mov %%rsp, %%rbx; push $0; push %%rbx; pushfq; push %%rdi; push $0; iretq")
FN(f_iret_nt, "pushfq; orl $0x4000, (%%rsp); popfq; iretq")
FN(f_retf, "lea 1f(%%rip), %%rax; push $8; push %%rax; lretq; 1:")
FN(f_retf_imm, "mov %%rsp, %%rbx; sub $64, %%rsp; lea 1f(%%rip), %%rax; push $8; push %%rax; lretq $64; 1:"
               "sub %%rsp, %%rbx; mov %%rbx, k_rcx")
FN(f_jmp_ld, "push %%rdi; movl $0, -8(%%rsp); mov %%edi, -4(%%rsp); ljmp *-8(%%rsp)")
FN(f_ss_null, "xor %%eax, %%eax; mov %%eax, %%ss; push %%rax; pop %%rcx; mov $0x10, %%eax; mov %%eax, %%ss")
FN(f_ss_null3, "mov $3, %%eax; mov %%eax, %%ss")
FN(f_ds_null, "xor %%eax, %%eax; mov %%eax, %%ds; mov k_rcx, %%rax; mov $0x10, %%ecx; mov %%ecx, %%ds")
FN(f_base, "mov %%edi, %%fs; mov %%fs:0, %%eax; mov %%rax, k_rcx; xor %%eax, %%eax; mov %%eax, %%fs")
FN(f_wrmsr_canon, "mov $0xc0000100, %%ecx; mov $0x8000, %%edx; xor %%eax, %%eax; wrmsr")
FN(f_jmp_canon, "movabs $0x800000000000, %%rax; jmp *%%rax")
FN(f_ret_canon, "movabs $0x800000000000, %%rax; push %%rax; ret")
FN(f_push_es, ".byte 0x06")
FN(f_ljmp, ".byte 0xea, 0, 0, 0, 0, 8, 0")
FN(f_aaa, ".byte 0x37")
FN(f_salc, ".byte 0xd6")
FN(f_les, ".byte 0xc4, 0x00, 0, 0")

static void returns(void)
{
    check("iret to a null ss", TRY(f_iret_null_ss, 0), MINUS1);
    check("iret to a null ss: ss", k_ss & 0xffff, 0);
    check("iret, non-canonical rip", TRY(f_iret_canon, 0), 13);
    check("iret, null ss at level 3", TRY(f_iret_null3, 0), 13);
    check("iret, null ss at level 3: error", exc.err, 0);
    check("iret with NT", TRY(f_iret_nt, 0), 13);
    gdt[SEL_LD / 8] = desc(0, 0xfffff, 0xe09a); /* L and D */
    check_q("iret to a segment with L and D", TRY(f_iret_ld, SEL_LD), 13);
    if (on_tcg()) { /* it jumps */
        skip("jump to a segment with L and D");
    } else {
        check("jump to a segment with L and D", TRY(f_jmp_ld, SEL_LD), 13);
        check("jump to a segment with L and D: error", exc.err, SEL_LD);
    }
    check("retf", TRY(f_retf, 0), MINUS1);
    check("retf n", TRY(f_retf_imm, 0), MINUS1);
    check("retf n: rsp", k_rcx, 0);
    check("null ss at level 0", TRY(f_ss_null, 0), MINUS1);
    check_q("null ss with rpl 3", TRY(f_ss_null3, 0), 13);
    check("null ds", TRY(f_ds_null, 0), MINUS1);
    check("jump, non-canonical", TRY(f_jmp_canon, 0), 13);
    check("ret, non-canonical", TRY(f_ret_canon, 0), 13);
    check("push es", TRY(f_push_es, 0), 6);
    check("far jump, immediate", TRY(f_ljmp, 0), 6);
    check("aaa", TRY(f_aaa, 0), 6);
    check("salc", TRY(f_salc, 0), 6);
    check("les", TRY(f_les, 0), 6);

    /* Segment bases. */
    static volatile uint32_t cell = 0x600d;
    gdt[SEL_S0 / 8] = desc((uint32_t)(ulong)&cell, 0xfffff, 0xc092);
    check("fs base from a descriptor", TRY(f_base, SEL_S0), MINUS1);
    check("fs base from a descriptor: read", k_rcx, 0x600d);
    wrmsr(0xc0000100, (ulong)&cell);
    uint32_t v;
    __asm__ volatile("mov %%fs:0, %0" : "=r"(v));
    check("FS_BASE", v, 0x600d);
    check_q("FS_BASE, non-canonical", TRY(f_wrmsr_canon, 0), 13);
    wrmsr(0xc0000101, 0x1111);
    wrmsr(0xc0000102, (ulong)&cell);
    __asm__ volatile("swapgs; mov %%gs:0, %0" : "=r"(v));
    check("swapgs", v, 0x600d);
    check("swapgs: the other one", rdmsr(0xc0000102), 0x1111);
    check("swapgs at level 3", (uint64_t)user(u_swapgs), 13);
    uint32_t r[4];
    cpuid(7, 0, r);
    if (r[1] & 1) {
        check("wrfsbase without CR4.FSGSBASE", (uint64_t)user(u_wrfs), 6);
        set_cr4(get_cr4() | 0x10000);
        check("wrfsbase", (uint64_t)user(u_wrfs), 0x80);
        check("wrfsbase: base in use", exc.ax, 0x77);
        set_cr4(get_cr4() & ~0x10000ul);
    }
    /* LDT with a base above 4 GB is only possible here. */
    static uint64_t ldt[2];
    ldt[1] = desc((uint32_t)(ulong)&cell, 0xfffff, 0xc092);
    gdt[SEL_LDT / 8] = desc((uint32_t)(ulong)ldt, 15, 0x82);
    gdt[SEL_LDT / 8 + 1] = 0;
    __asm__ volatile("lldt %w0" ::"r"(SEL_LDT));
    check("segment from the LDT", TRY(f_base, 0x0c), MINUS1);
    __asm__ volatile("lldt %w0" ::"r"(0));
}

/* ---- interrupt stacks ---- */

static volatile ulong at_sp;
static bool on_int(struct regs *r)
{
    at_sp = (ulong)&r->vec;
    k_ss = r->ss;
    k_rcx = r->sp;
    return true;
}

static void stacks(void)
{
    ulong top = (ulong)ist2 + sizeof(ist2), sp;

    memcpy(tss + 0x2c, &top, 8);
    hooks[0x44] = on_int;
    extern const ulong stubs[];
    set_gate(0x44, SEL_C0, stubs[0x44], 14, 0, 2);
    __asm__ volatile("mov %%rsp, %0; int $0x44" : "=r"(sp)::"memory");
    check("IST: stack used", at_sp, top - 56);
    check("IST: ss pushed", k_ss, SEL_D0);
    check("IST: rsp pushed", k_rcx, sp);
    reset_gate(0x44);
    __asm__ volatile("mov %%rsp, %%rbx; sub $5, %%rsp; mov %%rsp, %0; int $0x44; mov %%rbx, %%rsp" : "=r"(sp)::"rbx", "memory");
    check("no IST: aligned", at_sp & 15, 8);
    check("no IST: rsp pushed", k_rcx, sp);
    set_gate(0x44, SEL_C0_32, stubs[0x44], 14, 0, 0);
    extern void f_int44(void *);
    check("gate to a 32-bit segment", TRY(f_int44, 0), 13);
    check("gate to a 32-bit segment: error", exc.err, SEL_C0_32);
    set_gate(0x44, SEL_C0, 0x800000000000, 14, 0, 0);
    check_q("gate to a non-canonical address", TRY(f_int44, 0), 13);
    set_gate(0x44, SEL_C0, stubs[0x44], 5, 0, 0);
    check("task gate", TRY(f_int44, 0), 13);
    check_q("task gate: error", exc.err, 0x44 * 8 + 2);
    set_gate(0x44, SEL_C0, stubs[0x44], 6, 0, 0);
    check("16-bit gate", TRY(f_int44, 0), 13);
    reset_gate(0x44);
}
void f_int44(void *a)
{
    (void)a;
    __asm__ volatile("int $0x44");
}

int main(void)
{
    rt_init();
    syscalls();
    syscalls_many();
    transfers();
    returns();
    stacks();
    rt_exit();
}
