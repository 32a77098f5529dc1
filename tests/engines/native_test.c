/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs in executors (hv/jit/native.h): they compute what they are to, faults come as they do elsewhere, and one that
 * changes what the executor has of its own hurts itself only. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/filter.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#include "hv/infra.h"
#include "hv/jit/native.h"
#include "tests/engines/harness.h"

enum { IDT = 0x6000, TSS = 0x5000, HANDLERS = 0x7000, DATA = 0x400000, USER = 0x800000, FAULT = 0x100 };

static struct harness h;
static struct jnat *n;

#define DESC_DATA 0x00cff3000000ffffull /* as Linux has it for DS of programs */

/* Guest code: from NAME to NAME_end. */
#define CODE(name, text) \
    __asm__(".pushsection .rodata\n.globl " #name "\n" #name ":\n" text "\n.globl " #name "_end\n" #name "_end:\n.popsection"); \
    extern const uint8_t name[], name##_end[]

/* Leave with eax. */
#define OUT "movw $0xf4, %dx\n outl %eax, %dx\n 1: jmp 1b\n"

CODE(sum, "xorl %eax, %eax\n movl $300000, %ecx\n"
          "2: pushq %rcx\n addq (%rsp), %rax\n call 3f\n popq %rdx\n subl $1, %ecx\n jnz 2b\n" OUT
          "3: imulq $3, %rax, %rax\n movq %rax, (%rdi)\n xorq $5, (%rdi)\n movq (%rdi), %rax\n ret\n");
/* rdi: what is filled with rcx bytes. */
CODE(scribble, "movb $0xcc, %al\n rep stosb\n movl $7, %eax\n" OUT);
CODE(store, "movq %rax, (%rdi)\n movq (%rdi), %rax\n" OUT);
CODE(divide, "xorl %edx, %edx\n movl $5, %eax\n divl %ecx\n" OUT);
CODE(move, "rep movsb\n movl $9, %eax\n" OUT);
/* Its second instruction is changed in each turn. */
CODE(modify, "xorl %eax, %eax\n movl $200, %ecx\n leaq 5f(%rip), %rbx\n"
             "2: movl %ecx, 1(%rbx)\n jmp 5f\n 5: movl $0, %edx\n addl %edx, %eax\n subl $1, %ecx\n jnz 2b\n" OUT);
/* Into the executor's fixed code at rdi, with rax, and rsi on the stack. */
CODE(jump, "movq %rsi, %rsp\n jmp *%rdi\n");
/* munmap(2) as if it were in the list: it could be done, and the program would begin again. */
CODE(jump_list, "addl $1, (%rcx)\n movq %rsi, %rsp\n movq %rdi, %r11\n movl $11, %eax\n movl $0x500000, %edi\n movl $4096, %esi\n movl $1, %ebp\n xorl %r8d, %r8d\n jmp *%r11\n");
CODE(jump_step, "movq %rsi, %rsp\n pushfq\n orl $0x100, (%rsp)\n popfq\n jmp *%rdi\n");
/* What a signal returns to is changed: the mask of signals, then its own code, endlessly; 32 KB is what there is of frames. */
CODE(deaf, "movb $0xff, %al\n movl $8, %ecx\n rep stosb\n movq %rsi, %rdi\n 2: jmp 2b\n");
/* What shows the processor: as the guest's, not the host's. */
CODE(show, "movl $3, %ebp\n 2: movl $0x40000000, %eax\n xorl %ecx, %ecx\n cpuid\n movl %ebx, %esi\n xorl %ecx, %ecx\n xgetbv\n movl %eax, (%rdi)\n"
           " rdtsc\n movl %eax, 4(%rdi)\n movl %edx, 8(%rdi)\n rdpid %rax\n movl %eax, 12(%rdi)\n sidt 16(%rdi)\n smsw %rax\n movl %eax, 28(%rdi)\n"
           " movl $24, %edx\n lsl %edx, %eax\n movl %eax, 32(%rdi)\n rdtscp\n movl %ecx, 36(%rdi)\n subl $1, %ebp\n jnz 2b\n movl %esi, %eax\n" OUT);
/* The same is written there first, in code that has run. */
CODE(late, "leaq 5f(%rip), %rbx\n call 5f\n movl $0xa20f, (%rbx)\n movb $0xc3, 2(%rbx)\n movl $0x40000000, %eax\n xorl %ecx, %ecx\n call 5f\n movl %ebx, %eax\n" OUT
           "5: nop\n nop\n ret\n");
CODE(call, "movl $39, %eax\n movl $1, %ebx\n movq $0x1234567, %r10\n syscall\n" OUT);
CODE(int3, "int3\n");
CODE(int4, "int $4\n");
/* The processor has these instructions, the guest's CR4 does not let it have them. */
CODE(gsbase, "movl $0x2b, %eax\n movl %eax, %gs\n wrgsbase %rdi\n movl %gs, %eax\n" OUT);
CODE(look, "movq (%rsi), %rax\n orq (%rdi), %rax\n" OUT);
/* From rdi on, rcx times, a word each 2 MB. */
CODE(strides, "xorl %eax, %eax\n 2: addl (%rdi), %eax\n addq $0x200000, %rdi\n subl $1, %ecx\n jnz 2b\n" OUT);
CODE(int80, "movl $20, %eax\n int $0x80\n");
CODE(icebp, ".byte 0xf1\n");
CODE(ud2, "ud2\n");
CODE(hlt, "hlt\n");
CODE(step, "pushfq\n orl $0x100, (%rsp)\n popfq\n nop\n nop\n");
/* NT and ID stay what they are made, DF too. */
CODE(flags, "pushfq\n orl $0x204400, (%rsp)\n popfq\n movq %rax, (%rdi)\n pushfq\n popq %rax\n andl $0x204400, %eax\n cld\n" OUT);
/* Upper halves of vector registers, by turns in use and not. */
CODE(vectors, "movl $400, %ecx\n 2: vpcmpeqd %ymm0, %ymm0, %ymm0\n movl $200000, %edx\n 3: decl %edx\n jnz 3b\n"
              " vextracti128 $1, %ymm0, %xmm2\n vmovd %xmm2, %eax\n cmpl $-1, %eax\n jne 9f\n"
              " vzeroupper\n pxor %xmm1, %xmm1\n movl $200000, %edx\n 4: paddd %xmm1, %xmm1\n decl %edx\n jnz 4b\n"
              " decl %ecx\n jnz 2b\n movl $1, %eax\n" OUT " 9: movl $2, %eax\n" OUT);
/* A register that its processor does not have. */
CODE(zmm, ".byte 0x62, 0xf1, 0x7d, 0x48, 0xef, 0xc0\n .byte 0x62, 0xf3, 0x7d, 0x48, 0x25, 0xc0, 0xff\n movl $1, %eax\n" OUT); /* vpxord zmm0; vpternlogd zmm0, all ones */
CODE(bases, "wrfsbase %rdi\n addq $8, %rdi\n wrgsbase %rdi\n movl %ecx, (%rsi)\n movl %eax, %fs:(0)\n movl %ecx, %gs:(0)\n rdfsbase %rbx\n movl 8(%rbx), %eax\n addl (%rbx), %eax\n" OUT);
/* To 32-bit code by a far jump, with a DS of its own; there it has a page that it has not had yet. */
CODE(far_data, "movl $0x2b, %eax\n movl %eax, %ds\n leaq 4f(%rip), %rax\n movl %eax, -16(%rsp)\n movl $0x23, -12(%rsp)\n ljmp *-16(%rsp)\n .code32\n"
               " 4: movl (%edi), %eax\n movw $0xf4, %dx\n outl %eax, %dx\n 5: jmp 5b\n .code64\n");
/* To 32-bit code by a far jump. */
CODE(far, "leaq 4f(%rip), %rax\n movl %eax, -16(%rsp)\n movl $0x23, -12(%rsp)\n ljmp *-16(%rsp)\n .code32\n 4: movl $77, %eax\n decl %eax\n movw $0xf4, %dx\n outl %eax, %dx\n 5: jmp 5b\n .code64\n");
/* The sum of what there is at rdi in rcx pages. */
CODE(pages, "xorl %eax, %eax\n 2: addl (%rdi), %eax\n addq $4096, %rdi\n subl $1, %ecx\n jnz 2b\n" OUT);
/* rdi: a page that it has not had yet; rsi: struct jwin.  Its list seems to have failed, and there is no frame; then it dies of one. */
CODE(dies, "movq (%rdi), %rax\n movq $1, 40(%rsi)\n movq $0, 8(%rsi)\n leaq 1024(%rsi), %rsp\n ud2\n");
/* A store to its own page of code, with TF. */
CODE(step_store, "pushfq\n orl $0x100, (%rsp)\n popfq\n movb $0x90, 9f(%rip)\n nop\n nop\n 9: nop\n nop\n");
/* A routine that is written at rdi and called at rsi, then another one; eax from the latter.  When it is called first, rsi is not there: the system
 * makes it the page at DATA. */
CODE(twofold, "movb $0xb8, (%rdi)\n movl $1, 1(%rdi)\n movb $0xc3, 5(%rdi)\n call *%rsi\n"
              " movl $0x40000000, 1(%rdi)\n movabsq $0x6f3c27765df036ce, %rax\n notq %rax\n movq %rax, 5(%rdi)\n call *%rsi\n" OUT); /* xor ecx, ecx; cpuid; mov eax, ebx; ret: not as it is there */
CODE(map_it, "movq $0x4000a7, 0xb000\n addq $8, %rsp\n iretq\n");
CODE(spin, "2: addq $1, %rax\n jmp 2b\n");
CODE(mxcsr, "movl $0x1f80, -8(%rsp)\n ldmxcsr -8(%rsp)\n fldcw cw(%rip)\n fld1\n fldpi\n faddp\n fistpl -8(%rsp)\n movl -8(%rsp), %eax\n" OUT
            "cw: .word 0x0f7f\n");

static void load(const uint8_t *code, const uint8_t *end, uint64_t rdi, uint64_t rax, uint64_t rcx, uint64_t rsi)
{
    struct hv_vp_state s;

    memset(h.ram, 0, 0x10000);
    for (unsigned v = 0; v < 32; v++) { /* each leaves with its number, added to FAULT */
        uint64_t at = HANDLERS + 32 * v;
        uint8_t p[] = { 0xb8, (uint8_t)v, FAULT >> 8, 0, 0, 0x66, 0xba, 0xf4, 0, 0xef, 0xeb, 0xfe };

        memcpy(h.ram + at, p, sizeof(p));
        ((uint64_t *)(h.ram + IDT + 16 * v))[0] = (at & 0xffff) | 8ull << 16 | 0xee00ull << 32;
    }
    *(uint64_t *)(h.ram + TSS + 4) = 0x9000;
    memcpy(h.ram + USER, code, (size_t)(end - code));
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    harness_long_mode(&h, 0, 3);
    hv_vp_get_state(h.p, 0, &s);
    s.idtr_base = IDT;
    s.idtr_limit = 32 * 16 - 1;
    s.tr = (struct hv_segment){ .base = TSS, .limit = 0x67, .selector = 0x30, .attr = 0x8b };
    s.rip = USER;
    s.xsave[0] = 0x7f, s.xsave[1] = 0x03, s.xsave[4] = 0; /* exceptions are masked, the stack is empty */
    s.xsave[24] = 0x80, s.xsave[25] = 0x1f;
    s.xsave[512] = 3;
    s.gpr[0] = rax;
    s.gpr[1] = rcx;
    s.gpr[6] = rsi;
    s.gpr[7] = rdi;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
}
#define LOAD(name, ...) load(name, name##_end, __VA_ARGS__)

/* @return what it left with. */
static uint32_t run(void)
{
    struct hv_exit e;

    assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_CANCELED);
    assert_true(h.exited);
    return h.exit_value;
}

static int setup(void **state)
{
    (void)state;
    setenv("MOBO_JIT_NATIVE", "always", 1);
    if (harness_open(&h, "jit", 1))
        return -1;
    n = h.p->vps[0]->jit->nat;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    harness_close(&h);
    return 0;
}

/* An executor is there, where its own memory is is known. */
static void begun(void)
{
    LOAD(sum, DATA, 0, 0, 0);
    (void)run();
    if (n->off) {
        print_message("no executors on this host (Linux 6.6 is needed)\n");
        skip();
    }
    assert_true(n->turns > 0 && n->win && n->cur->alive);
}

static void computes(void **state)
{
    uint64_t want = 0;

    (void)state;
    begun();
    LOAD(sum, DATA, 0, 0, 0);
    for (uint32_t c = 300000; c; c--)
        want = ((want + c) * 3) ^ 5;
    assert_int_equal(run(), (uint32_t)want);
    LOAD(mxcsr, 0, 0, 0, 0);
    assert_int_equal(run(), 4);
    LOAD(modify, 0, 0, 0, 0);
    assert_int_equal(run(), 200 * 201 / 2);
    assert_int_equal(n->broken, 0);
}

static void faults(void **state)
{
    struct hv_vp_state s;

    (void)state;
    begun();
    LOAD(divide, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 0);
    LOAD(store, 0x12345678000, 0, 0, 0);
    assert_int_equal(run(), FAULT + 14);
    hv_vp_get_state(h.p, 0, &s);
    assert_int_equal(s.cr2, 0x12345678000);
    LOAD(store, 0x8000000000000000, 0, 0, 0);
    assert_int_equal(run(), FAULT + 13);
    /* In the midst of a string. */
    LOAD(move, DATA, 0, 0x3000, HARNESS_RAM - 0x1800);
    assert_int_equal(run(), FAULT + 14);
    hv_vp_get_state(h.p, 0, &s);
    assert_int_equal(s.cr2, HARNESS_RAM);
    assert_int_equal(s.gpr[1], 0x1800);
    assert_int_equal(s.gpr[6], HARNESS_RAM);
    assert_int_equal(s.gpr[7], DATA + 0x1800);
    assert_int_equal(n->broken, 0);
}

/* All that an executor can write is written. */
static void scribbles(void **state)
{
    (void)state;
    begun();
    LOAD(scribble, (uint64_t)(uintptr_t)n->win, 0, offsetof(struct jwin, ro), 0);
    assert_int_equal(run(), 7);
    /* What it can only read is not there for the program. */
    LOAD(store, (uint64_t)(uintptr_t)&n->win->ro.frame, 0, 0, 0);
    assert_int_equal(run(), FAULT + 14);
    LOAD(store, (uint64_t)(uintptr_t)n->win->code, 0, 0, 0);
    assert_int_equal(run(), FAULT + 14);
    assert_int_equal(offsetof(struct jwin, frame), 8);
    assert_int_equal(offsetof(struct jwin, list_err), 40);
    LOAD(dies, DATA + 0x100000, 0, 0, (uint64_t)(uintptr_t)n->win);
    assert_int_equal(run(), FAULT + 13);
    begun();
}

/* It hands over, and returns from signals, when no signal is there. */
static void hijacks(void **state)
{
    const uint8_t *sysret;
    unsigned broken;
    struct hv_exit e;

    (void)state;
    begun();
    {
        const struct { const uint8_t *at; unsigned nr; } to[] = {
            { n->code.signal, SYS_getpid }, { n->code.handed - 2, SYS_getpid }, { n->code.listed - 2, SYS_getpid }, { n->code.start, 0 },
            { n->code.op - 2, SYS_mmap }, { n->code.op - 2, SYS_munmap }, { n->code.op - 2, SYS_getpid }, { n->code.returned - 2, SYS_getpid } };

        for (unsigned i = 0; i < 2 * COUNT(to); i++) { /* and step by step, so that a signal comes where it arrives */
            const uint8_t *code = i < COUNT(to) ? jump : jump_step, *end = i < COUNT(to) ? jump_end : jump_step_end;

            load(code, end, (uint64_t)(uintptr_t)to[i % COUNT(to)].at, to[i % COUNT(to)].nr, 0, (uint64_t)(uintptr_t)n->win->stack + 4096);
            h.exited = false;
            (void)harness_run(&h, 500, &e); /* whatever it is that its program gets */
            begun();
        }
    }
    broken = n->broken;
    LOAD(jump_list, (uint64_t)(uintptr_t)n->code.op - 2, 0, DATA, (uint64_t)(uintptr_t)n->win->stack + 4096);
    *(uint32_t *)(h.ram + DATA) = 0;
    assert_int_equal(run(), FAULT + 13);
    assert_int_equal(*(const uint32_t *)(h.ram + DATA), 1);
    assert_int_equal(n->broken, broken + 1);
    begun();
    /* What it would be told by signals is kept from it, and it does not answer: but the VP does. */
    LOAD(deaf, (uint64_t)(uintptr_t)n->win->stack + n->frame + 296, 0, 0, 0);
    assert_int_equal(harness_run(&h, 400, &e), HV_EXIT_CANCELED);
    assert_false(h.exited);
    sysret = n->code.returned - 2;
    LOAD(jump, (uint64_t)(uintptr_t)sysret, 15, 0, (uint64_t)(uintptr_t)n->win->stack + n->frame);
    h.exited = false;
    (void)harness_run(&h, 500, &e);
    begun();
    assert_true(n->broken < 24 && !n->off);
}

/* A program sees the guest's processor. */
static void shows(void **state)
{
    const uint32_t *seen = (const uint32_t *)(h.ram + DATA);
    uint32_t r[4];
    uint64_t tsc;
    struct hv_vp_state s;

    (void)state;
    begun();
    hv_cpuid(h.p, 0, 0x40000000, 0, r);
    for (unsigned at = 0; at < 2; at++) { /* within a page, and with the second half of CPUID in the next one */
        unsigned skip = at ? 4096 - 13 : 0;
        uint64_t turns = n->turns;

        LOAD(show, DATA, 0, 0, 0);
        hv_vp_get_state(h.p, 0, &s);
        if (at) {
            memmove(h.ram + USER + skip, h.ram + USER, (size_t)(show_end - show));
            hv_gpa_dirty(h.p, USER, 8192);
            assert_int_equal(h.ram[USER + 4095], 0x0f);
        }
        s.rip = USER + skip;
        s.tsc_aux = 0x5aa5;
        assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
        assert_int_equal(run(), r[1]);
        assert_true(n->turns > turns);
        if (!at) /* all of them have been executed: a copy of the page is run by now */
            assert_true(n->page[USER >> 12] & JNAT_PATCHED);
        hv_vp_get_state(h.p, 0, &s);
        assert_int_equal(seen[0], 7);
        tsc = seen[1] | (uint64_t)seen[2] << 32;
        assert_true(tsc <= hv_tsc_read(h.p->vps[0]) && tsc + 10000000000ull > hv_tsc_read(h.p->vps[0]));
        assert_int_equal(seen[3], 0x5aa5);
        assert_int_equal(*(const uint16_t *)(h.ram + DATA + 16), 32 * 16 - 1);
        assert_int_equal(seen[7], (uint32_t)s.cr0);
        assert_int_equal(seen[8], 0xffffffff);
        assert_int_equal(seen[9], 0x5aa5);
    }
    LOAD(late, 0, 0, 0, 0);
    assert_int_equal(run(), r[1]);
    assert_int_equal(n->broken, 0);
}

static void leaves(void **state)
{
    uint64_t *tables = (uint64_t *)(h.ram + 0x1000);
    struct hv_vp_state s;

    (void)state;
    begun();
    LOAD(call, 0, 0, 0, 0);
    hv_vp_get_state(h.p, 0, &s);
    s.lstar = HANDLERS + 32 * 20;
    s.star = 8ull << 32 | 0x13ull << 48;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(run(), FAULT + 20);
    hv_vp_get_state(h.p, 0, &s);
    assert_int_equal(s.gpr[1], USER + 19); /* RCX: behind SYSCALL */
    assert_int_equal(s.gpr[3], 1);
    assert_int_equal(s.gpr[10], 0x1234567);
    LOAD(int3, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 3);
    LOAD(int4, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 4);
    LOAD(icebp, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 1);
    LOAD(int80, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 13); /* beyond the limit of this IDT */
    LOAD(ud2, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 6);
    LOAD(hlt, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 13);
    LOAD(step, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 1);
    hv_vp_get_state(h.p, 0, &s);
    assert_true(s.dr[6] & 1 << 14);
    LOAD(step_store, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 1);
    assert_int_equal(*(uint64_t *)(h.ram + 0x9000 - 40), USER + 16); /* behind the store */
    LOAD(flags, DATA + (HARNESS_RAM / 2), 0, 0, 0);
    assert_int_equal(run(), 0x204400);
    LOAD(bases, DATA, 5, 6, DATA + (6u << 20));
    hv_vp_get_state(h.p, 0, &s);
    s.cr4 |= 1u << 16; /* FSGSBASE */
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(run(), 11);
    if (__builtin_cpu_supports("avx512f")) {
        LOAD(zmm, 0, 0, 0, 0);
        assert_int_equal(run(), FAULT + 6); /* at the OUT */
        hv_vp_get_state(h.p, 0, &s);
        assert_int_equal(s.gpr[0], FAULT + 6);
        assert_int_equal(*(uint64_t *)(h.ram + 0x9000 - 40), USER + (zmm_end - zmm) - 3);
    }
    LOAD(far, 0, 0, 0, 0);
    assert_int_equal(run(), 76);
    LOAD(far_data, DATA + (6u << 20), 0, 0, 0);
    hv_vp_get_state(h.p, 0, &s);
    s.ds = (struct hv_segment){ .attr = 0 };
    s.gdtr_limit = 0x3f;
    *(uint64_t *)(h.ram + s.gdtr_base + 0x28) = DESC_DATA;
    *(uint32_t *)(h.ram + DATA + (6u << 20)) = 78;
    for (unsigned i = 0; i < 3 * 512; i++) /* all has been accessed: it can be mapped at once */
        if (tables[i])
            tables[i] |= 0x60;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(run(), 78);
    assert_int_equal(n->broken, 0);
    /* A kernel that does not allow it does not get a base of the program's. */
    LOAD(bases, 0xffff800000000000, 5, 6, DATA + (6u << 20));
    assert_int_equal(run(), FAULT + 13);
    hv_vp_get_state(h.p, 0, &s);
    assert_int_equal(s.fs.base, 0);
    assert_int_equal(s.gs.base, 0);
}

/* Somebody wants the VP. */
static void answers(void **state)
{
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    begun();
    LOAD(spin, 0, 0, 0, 0);
    s.gpr[0] = 0;
    for (unsigned i = 0; i < 100 && s.gpr[0] <= 1000000; i++) {
        assert_int_equal(harness_run(&h, 100, &e), HV_EXIT_CANCELED);
        hv_vp_get_state(h.p, 0, &s);
    }
    assert_true(s.gpr[0] > 1000000);
    assert_int_equal(n->broken, 0);
}

static atomic_bool over;

static void *disturbs(void *arg)
{
    (void)arg;
    for (unsigned i = 0; !over; i++) {
        usleep(100 + i % 7 * 50);
        if (i & 1)
            n->rest_until = hv_host_ns() + 150000;
        hv_vp_kick(h.p->vps[0], HV_ATT_TIMER);
    }
    return NULL;
}

/* Now the executor has it, now the translator, at any place. */
static void alternates(void **state)
{
    uint64_t turns;
    pthread_t t;

    (void)state;
    begun();
    turns = n->turns;
    over = false;
    assert_int_equal(pthread_create(&t, NULL, disturbs, NULL), 0);
    LOAD(vectors, 0, 0, 0, 0);
    assert_int_equal(run(), 1);
    over = true;
    pthread_join(t, NULL);
    assert_true(n->turns > turns + 20);
}

static void *kills(void *arg)
{
    for (int pid, was = 0; !over; was = pid) {
        usleep(20000);
        pid = atomic_load(&n->running);
        if (pid && pid == was)
            kill(pid, SIGKILL);
    }
    return arg;
}

/* Somebody kills it, or the host has no memory for it. */
static void killed(void **state)
{
    pthread_t t;

    (void)state;
    begun();
    over = false;
    assert_int_equal(pthread_create(&t, NULL, kills, NULL), 0);
    LOAD(spin, 0, 0, 0, 0);
    assert_int_equal(run(), FAULT + 13);
    over = true;
    pthread_join(t, NULL);
    assert_int_equal(n->broken, 1);
    begun();
}

/* A host that does not let it: what is run so elsewhere is run by the translator.  Seccomp is for good: in a process of its own. */
static void refused(void **state)
{
    struct sock_filter f[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_seccomp, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = { COUNT(f), f };
    int status = 0, pid = fork();

    (void)state;
    if (!pid) {
        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &prog) || setup(NULL))
            _exit(2);
        LOAD(mxcsr, 0, 0, 0, 0);
        _exit(run() == 4 && n->off && !n->exec[0].alive ? 0 : 1);
    }
    assert_true(pid > 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static unsigned sites(const uint8_t *text, unsigned len, unsigned at, struct jnat_site *ret)
{
    uint8_t page[4096];

    memset(page, 0x90, sizeof(page));
    memcpy(page + at, text, len);
    return jnat_scan(page, NULL, ret, JNAT_SITES);
}

/* What is an instruction, and what only looks so. */
static void scans(void **state)
{
    static const struct { const char *text; uint8_t len; uint8_t n, at; bool sure; } t[] = {
        { "\x0f\xa2", 2, 1, 0, false }, { "\xb8\x01\x00\x00\x00\x0f\xa2", 7, 1, 5, true }, { "\x31\xc9\x0f\xa2", 4, 1, 2, true },
        { "\x0f\x31", 2, 1, 0, false }, { "\x0f\xae\xe8\x0f\x31", 5, 1, 3, true }, { "\xf3\x0f\xc7\xf8", 4, 1, 1, true },
        { "\xf3\x48\x0f\xc7\xf8", 5, 1, 2, false }, { "\x0f\xc7\x64\x24\x40", 5, 1, 0, true }, { "\x0f\xae\x64\x24\x40", 5, 1, 0, true },
        { "\x48\x0f\xae\x27", 4, 1, 1, false }, { "\x66\x0f\xae\x7d\x00", 5, 0, 0, false }, { "\x0f\x01\xd0", 3, 1, 0, false }, { "\x0f\x01\xee", 3, 1, 0, false },
        { "\x0f\x03\xc2", 3, 1, 0, false }, { "\x0f\x00\xc8", 3, 1, 0, false }, { "\x0f\x01\x0f", 3, 1, 0, false }, { "\x0f\x34", 2, 1, 0, false },
        { "\xb8\x0f\xa2\x00\x00", 5, 0, 0, false }, { "\xe8\x0f\x31\x0f\xa2", 5, 0, 0, false }, { "\x25\xff\x0f\x00\x00", 5, 0, 0, false },
        { "\x48\xb8\x0f\xa2\x0f\x31\x0f\x01\xd0\x00", 10, 0, 0, false }, { "\x81\x0d\x0f\xa2\x0f\x00\x0f\x31\x00\x00", 10, 0, 0, false },
        { "\x0f\xae\xe8", 3, 0, 0, false }, { "\x0f\xae\x2f", 3, 0, 0, false }, { "\x0f\xc7\xf0", 3, 0, 0, false }, { "\x0f\x01\xd6", 3, 0, 0, false },
        { "\x0f\xc7\x0f", 3, 0, 0, false }, { "\x0f\xae\x0f", 3, 0, 0, false },
        /* OPENSSL_instrument_bus */
        { "\x0f\x31\x41\x89\xc0\x41\xb9\x00\x00\x00\x00", 11, 1, 0, true }, { "\x0f\x31\x89\xc2\x44\x29\xc0", 7, 1, 0, true },
        { "\x0f\x31\x41\x89\xc0\x90\x90", 7, 1, 0, false }, { "\x0f\x31\x89\xc2\x90", 5, 1, 0, false },
    };
    static const unsigned places[] = { 100, 2000, 4080 };
    struct jnat_site s[JNAT_SITES];
    uint8_t a[4096], b[4096];

    (void)state;
    for (unsigned i = 0; i < COUNT(t); i++)
        for (unsigned k = 0; k < COUNT(places); k++) {
            unsigned num = sites((const uint8_t *)t[i].text, t[i].len, places[k], s);

            if (num != t[i].n || (num && (s[0].at != places[k] + t[i].at || s[0].sure != t[i].sure)))
                fail_msg("case %u at %u: %u found, at %u, %s", i, places[k], num, s[0].at, s[0].sure ? "for sure" : "perhaps");
        }
    /* In two pages, at each place. */
    for (unsigned i = 0; i < COUNT(t); i++)
        for (unsigned first = 1; first < t[i].len; first++) {
            memset(a, 0x90, sizeof(a));
            memset(b, 0x90, sizeof(b));
            memcpy(a + 4096 - first, t[i].text, first);
            memcpy(b, t[i].text + first, t[i].len - first);
            if (first > t[i].at)
                assert_int_equal(jnat_scan_across(a, b) || jnat_scan(a, NULL, s, JNAT_SITES), t[i].n);
            else
                assert_int_equal(jnat_scan(b, a, s, JNAT_SITES), t[i].n);
        }
}

/* The program has DATA in the 2 MB at @at, if @page, or just tables for them. */
static void give(uint64_t at, bool page)
{
    uint64_t *pml4 = (uint64_t *)(h.ram + 0x1000), *pdpt = (uint64_t *)(h.ram + 0xa000), *pd = (uint64_t *)(h.ram + 0xb000);

    pml4[at >> 39 & 511] = 0xa007;
    pdpt[at >> 30 & 511] = 0xb007;
    pd[at >> 21 & 511] = page ? DATA | 0x87 : 0;
}

/* What is executed at one address is written at another. */
static void views(void **state)
{
    uint32_t r[4];

    (void)state;
    begun();
    for (unsigned i = 0; i < 3; i++) {
        LOAD(twofold, DATA + 0x100, 0, 0, (1 << 30) + 0x100);
        ((uint64_t *)(h.ram + 0x2000))[1] = 0xb027;
        ((uint64_t *)(h.ram + 0xb000))[0] = 0;
        memcpy(h.ram + HANDLERS + 32 * 14, map_it, (size_t)(map_it_end - map_it));
        hv_gpa_dirty(h.p, 0, 0x10000);
        hv_cpuid(h.p, 0, 0x40000000, 0, r);
        assert_int_equal(run(), r[1]);
    }
    assert_int_equal(n->broken, 0);
}

/* A program may have something where an executor has its own, or get it there when it touches it. */
static void places(void **state)
{
    uint64_t at, turns;
    const struct jwin *was;

    (void)state;
    begun();
    for (unsigned i = 0; i < JNAT_MOVES / 2; i++) { /* it moves */
        was = n->win;
        turns = n->turns;
        at = (uint64_t)(uintptr_t)was->stack + 4096 * i;
        LOAD(store, at, 0x5a5a1234 + i, 0, 0);
        give(at, true);
        assert_int_equal(run(), 0x5a5a1234 + i);
        assert_int_equal(*(uint32_t *)(h.ram + DATA + (at & 0x1fffff)), 0x5a5a1234 + i);
        if (n->turns == turns) { /* some moves were to where it had been */
            assert_int_equal(n->moves, JNAT_MOVES);
            break;
        }
        assert_ptr_not_equal(n->win, was);

        at = (uint64_t)(uintptr_t)n->win->stack + 4096 * i;
        LOAD(store, at, 1, 0, 0);
        give(at ^ 1ull << 30, false); /* not that it is near */
        assert_int_equal(run(), FAULT + 14);
    }
    /* Too often. */
    assert_int_equal(n->moves, JNAT_MOVES);
    turns = n->turns;
    at = (uint64_t)(uintptr_t)n->win->code;
    LOAD(store, at, 0x5a5a1235, 0, 0);
    give(at, true);
    assert_int_equal(run(), 0x5a5a1235);
    assert_int_equal(n->turns, turns);
    LOAD(sum, DATA, 0, 0, 0);
    (void)run();
    assert_true(n->turns > turns);
    assert_int_equal(n->broken, 0);
}

/* @return how many mappings a process of this host may have. */
static unsigned map_count(void)
{
    FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
    unsigned max = 0;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%u", &max), 1);
    fclose(f);
    return max;
}

/* More pages than the host lets a process have mappings, each with another page behind it than in RAM. */
static void crowds(void **state)
{
    enum { AT = 1 << 30, TABLES = 16 << 20, PAGES = 32 << 20, DIFFERENT = 1024 };
    uint64_t *pdpt = (uint64_t *)(h.ram + 0x2000), *pd = (uint64_t *)(h.ram + 0xb000), *pt = (uint64_t *)(h.ram + TABLES), started = hv_host_ns();
    unsigned max = map_count(), left = max / 32 * 33, all = 0, made;
    const struct jnat_known *known = NULL;

    (void)state;
    if (left > (PAGES - TABLES) / 8) {
        print_message("a process may have %u mappings here: more than there is memory for\n", max);
        skip();
    }
    begun();
    made = n->made;
    for (unsigned i = 0; i < DIFFERENT; i++)
        *(uint32_t *)(h.ram + PAGES + i * 4096) = i * i;
    for (unsigned i = 0; i < left; i++) {
        pt[i] = (PAGES + i * 7919ull % DIFFERENT * 4096) | 0x25;
        all += i * 7919 % DIFFERENT * (i * 7919 % DIFFERENT);
    }
    LOAD(pages, AT, 0, left, 0);
    pdpt[AT >> 30] = 0xb027;
    for (unsigned i = 0; i < (left + 511) / 512; i++)
        pd[i] = (TABLES + i * 4096) | 0x27;
    assert_int_equal(run(), all);
    assert_true(n->made > made && n->cur->npages < left / 2); /* it has started anew */
    assert_int_equal(n->broken, 0);
    for (unsigned i = 0; i < JNAT_KNOWN; i++)
        if (n->known[i].fulls)
            known = &n->known[i];
    assert_non_null(known);
    assert_true(known->fulls == 1 && known->full_cr3 == n->cur->cr3 && known->full_until > started + 10000000000u);
}

/* Many page tables that are one: what the host has to note for them is bounded. */
static void strides_bounded(void **state)
{
    enum { AT = 1 << 30, TABLE = 16 << 20, N = 1100, MOST = JNAT_REGIONS_LEAST + HARNESS_RAM / 4096 / JNAT_REGION_PAGES };
    uint64_t *pdpt = (uint64_t *)(h.ram + 0x2000), *pd = (uint64_t *)(h.ram + (17 << 20));
    unsigned regions = 0;

    (void)state;
    assert_true(MOST < N);
    begun();
    LOAD(strides, AT, 0, N, 0);
    *(uint64_t *)(h.ram + TABLE) = DATA | 0x25;
    *(uint32_t *)(h.ram + DATA) = 3;
    for (unsigned i = 0; i < 3; i++)
        pdpt[(AT >> 30) + i] = ((17 << 20) + i * 4096) | 0x27;
    for (unsigned i = 0; i < 3 * 512; i++)
        pd[i] = TABLE | 0x27;
    assert_int_equal(run(), 3 * N);
    for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
        regions += n->exec[i].nregions;
    assert_in_range(regions, 1, MOST);
    assert_int_equal(n->broken, 0);
}

/* Without CR4.FSGSBASE no program sets GS.base to what is the kernel's. */
static void kernel_bases(void **state)
{
    struct hv_vp_state s;

    (void)state;
    begun();
    LOAD(gsbase, 0xffff888000000000, 0, 0, 0);
    hv_vp_get_state(h.p, 0, &s);
    s.cr4 &= ~(1ull << 16);
    s.gdtr_limit = 0x3f;
    *(uint64_t *)(h.ram + s.gdtr_base + 0x28) = DESC_DATA;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    (void)run(); /* #UD, or as if it had not been */
    hv_vp_get_state(h.p, 0, &s);
    assert_int_equal(s.gs.base, 0);
    assert_int_equal(s.gs.selector, 0x2b);
}

/* Somebody kills an executor that waits for its turn: its program does not notice. */
static void killed_idle(void **state)
{
    struct hv_exit e;
    unsigned made;
    uint64_t turns;

    (void)state;
    begun();
    turns = n->turns;
    LOAD(spin, 0, 0, 0, 0);
    for (unsigned i = 0; i < 100 && n->turns == turns; i++)
        harness_run(&h, 100, &e);
    assert_false(n->kill);
    made = (unsigned)n->made;
    kill(n->cur->pid, SIGKILL);
    for (unsigned i = 0; i < 5000 && !jnat_gone(n->cur); i++)
        usleep(1000);
    h.exited = false;
    for (unsigned i = 0; i < 100 && n->made == made; i++)
        assert_int_equal(harness_run(&h, 200, &e), HV_EXIT_CANCELED);
    assert_false(h.exited);
    assert_int_equal(n->made, made + 1);
    assert_int_equal(n->broken, 0);
}

/* What an executor can read is of its own program: the lists of what has been mapped for others are gone. */
static void forgets(void **state)
{
    uint64_t root;
    struct hv_vp_state s;

    (void)state;
    begun();
    for (unsigned i = 1; i < 200; i++)
        n->win->ro.op[i].arg[5] = 0x77000;
    root = HARNESS_RAM - 0x1000; /* another one's tables: the same ones from another root */
    LOAD(look, (uint64_t)(uintptr_t)&n->win->ro.op[150].arg[5], 0, 0, (uint64_t)(uintptr_t)&n->win->ro.op[199].arg[5]);
    hv_vp_get_state(h.p, 0, &s);
    memcpy(h.ram + root, h.ram + s.cr3, 4096);
    s.cr3 = root;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(run(), 0);
}

static uint8_t *changing;
static atomic_bool changed_enough;

static void *change(void *arg)
{
    while (!atomic_load(&changed_enough)) {
        ((volatile uint8_t *)changing)[0x100] = 0x90;
        ((volatile uint8_t *)changing)[0x100] = 0x0f;
    }
    return arg;
}

/* Code that is written to by others while it is looked through. */
static void changes(void **state)
{
    uint8_t *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint64_t end = hv_host_ns() + 500000000u;
    pthread_t t;

    (void)state;
    begun();
    assert_ptr_not_equal(two, MAP_FAILED);
    assert_int_equal(mprotect(two + 4096, 4096, PROT_NONE), 0);
    memset(two, 0x90, 4096);
    two[0x100] = 0x0f, two[0x101] = 0xa2, two[0x102] = 0xc3; /* CPUID; RET */
    changing = two;
    atomic_store(&changed_enough, false);
    assert_int_equal(pthread_create(&t, NULL, change, NULL), 0);
    while (hv_host_ns() < end) {
        n->page[1] = JNAT_SEEN;
        jnat_executed(n, 1, 0xf0, false);
        jnat_look_through(n, 1, two, NULL);
        if (n->page[1] & JNAT_PATCHED) /* it is not there any more, or not any more than that */
            assert_int_equal(n->patch[jnat_code_from(n, 1) + 0x100], 0xf4);
    }
    atomic_store(&changed_enough, true);
    pthread_join(t, NULL);
    jnat_patch_forget(n, 1);
    munmap(two, 8192);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(computes, setup, teardown),  cmocka_unit_test_setup_teardown(faults, setup, teardown),
        cmocka_unit_test_setup_teardown(scribbles, setup, teardown), cmocka_unit_test_setup_teardown(hijacks, setup, teardown),
        cmocka_unit_test_setup_teardown(shows, setup, teardown),     cmocka_unit_test_setup_teardown(leaves, setup, teardown),
        cmocka_unit_test_setup_teardown(killed, setup, teardown),    cmocka_unit_test(refused), cmocka_unit_test(scans),
        cmocka_unit_test_setup_teardown(alternates, setup, teardown),
        cmocka_unit_test_setup_teardown(answers, setup, teardown),   cmocka_unit_test_setup_teardown(places, setup, teardown),
        cmocka_unit_test_setup_teardown(views, setup, teardown),     cmocka_unit_test_setup_teardown(crowds, setup, teardown),
        cmocka_unit_test_setup_teardown(strides_bounded, setup, teardown), cmocka_unit_test_setup_teardown(kernel_bases, setup, teardown),
        cmocka_unit_test_setup_teardown(killed_idle, setup, teardown), cmocka_unit_test_setup_teardown(forgets, setup, teardown),
        cmocka_unit_test_setup_teardown(changes, setup, teardown),
    };

    harness_needs("jit");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
