/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs in executors (hv/jit/native.h): they compute what they are to, faults come as they do elsewhere, and one that
 * changes what the executor has of its own hurts itself only. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "hv/jit/native.h"
#include "tests/engines/harness.h"

enum { IDT = 0x6000, TSS = 0x5000, HANDLERS = 0x7000, DATA = 0x400000, USER = 0x800000, FAULT = 0x100 };

static struct harness h;
static struct jit *j;
static struct jnat *n;

/* Guest code: from NAME to NAME_end. */
#define CODE(name, text) \
    __asm__(".pushsection .rodata\n.globl " #name "\n" #name ":\n" text "\n.globl " #name "_end\n" #name "_end:\n.popsection"); \
    extern const uint8_t name[], name##_end[]

/* Leave with eax. */
#define OUT "movw $0xf4, %dx\n outl %eax, %dx\n 1: jmp 1b\n"

CODE(sum, "xorl %eax, %eax\n movl $300000, %ecx\n"
          "2: pushq %rcx\n addq (%rsp), %rax\n call 3f\n popq %rdx\n subl $1, %ecx\n jnz 2b\n" OUT
          "3: imulq $3, %rax, %rax\n movq %rax, (%rdi)\n xorq $5, (%rdi)\n movq (%rdi), %rax\n ret\n");
/* rdi: what is filled with rcx bytes; then a call without a place to come back to. */
CODE(scribble, "movb $0xcc, %al\n rep stosb\n movl $7, %eax\n" OUT);
CODE(scribble_ret, "movb $0xcc, %al\n rep stosb\n leaq 4f(%rip), %rax\n pushq %rax\n ret\n 4: movl $8, %eax\n" OUT);
CODE(store, "movq %rax, (%rdi)\n movq (%rdi), %rax\n" OUT);
CODE(divide, "xorl %edx, %edx\n movl $5, %eax\n divl %ecx\n" OUT);
CODE(move, "rep movsb\n movl $9, %eax\n" OUT);
/* Its second instruction is changed in each turn. */
CODE(modify, "xorl %eax, %eax\n movl $200, %ecx\n leaq 5f(%rip), %rbx\n"
             "2: movl %ecx, 1(%rbx)\n jmp 5f\n 5: movl $0, %edx\n addl %edx, %eax\n subl $1, %ecx\n jnz 2b\n" OUT);
/* Bytes in its code that are an endless loop, or a system call, and a way to them. */
CODE(hijack, "movabsq $0x9090feeb12345678, %rbx\n movabsq $0x0b0f050f12345679, %rbx\n movq %rax, (%rdi)\n movl $1, %eax\n leaq 4f(%rip), %rbx\n pushq %rbx\n ret\n 4: movl $11, %eax\n" OUT);
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
    j = h.p->vps[0]->jit;
    n = j->nat;
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
    LOAD(scribble_ret, (uint64_t)(uintptr_t)n->win, 0, offsetof(struct jwin, ro), 0);
    assert_true(run() >= FAULT); /* of whatever kind */
    /* What it can only read is not there for the program. */
    LOAD(store, (uint64_t)(uintptr_t)&n->win->ro.enter, 0, 0, 0);
    assert_int_equal(run(), FAULT + 14);
    LOAD(store, (uint64_t)(uintptr_t)n->jit->rx, 0, 0, 0);
    assert_int_equal(run(), FAULT + 14);
    LOAD(store, (uint64_t)(uintptr_t)&h.p->vps[0]->attention, 0, 0, 0);
    assert_int_equal(run(), FAULT + 14);
    begun();
}

/* Where the bytes @what are in the executor's code. */
static uint64_t code_at(const void *what, size_t len)
{
    for (uint32_t at = n->jit->first; at < n->jit->seg_end - len; at++)
        if (!memcmp(n->jit->rw + at, what, len))
            return (uint64_t)(uintptr_t)(n->jit->rx + at);
    fail_msg("not in the code");
    return 0;
}

static void hijacks(void **state)
{
    uint64_t loop, call;
    struct hv_exit e;

    (void)state;
    begun();
    LOAD(hijack, DATA, 0, 0, 0);
    assert_int_equal(run(), 11);
    loop = code_at("\x78\x56\x34\x12\xeb\xfe", 6) + 4;
    call = code_at("\x79\x56\x34\x12\x0f\x05", 6) + 4;
    /* The same code is made at the same place. */
    LOAD(hijack, (uint64_t)(uintptr_t)&n->win->rets.miss, call, 0, 0);
    assert_int_equal(run(), FAULT + 13);
    assert_int_equal(n->broken, 1);
    begun();
    /* It does not answer: but the VP does. */
    LOAD(hijack, (uint64_t)(uintptr_t)&n->win->rets.miss, loop, 0, 0);
    assert_int_equal(harness_run(&h, 300, &e), HV_EXIT_CANCELED);
    assert_false(h.exited);
    assert_int_equal(n->broken, 2);
    begun();
}

/* Somebody wants the VP. */
static void answers(void **state)
{
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    begun();
    LOAD(spin, 0, 0, 0, 0);
    assert_int_equal(harness_run(&h, 100, &e), HV_EXIT_CANCELED);
    hv_vp_get_state(h.p, 0, &s);
    assert_true(s.gpr[0] > 1000000);
    assert_int_equal(n->broken, 0);
}

/* Do the 2 MB at @at have some of @p? */
static bool within(uint64_t at, const void *p, uint64_t len) { return at < (uint64_t)(uintptr_t)p + len && at + (2 << 20) > (uint64_t)(uintptr_t)p; }

/* A program may have something where the executor has its own. */
static void places(void **state)
{
    uint64_t at, turns, *pdpt = (uint64_t *)(h.ram + 0x2000), *pd = (uint64_t *)(h.ram + 0x8000);

    (void)state;
    begun();
    at = (uint64_t)(uintptr_t)n->win->gpr;
    turns = n->turns;
    LOAD(store, at, 0x5a5a1234, 0, 0);
    pdpt[1] = 0x8007;
    pd[at >> 21 & 511] = DATA | 0x87;
    assert_int_equal(run(), 0x5a5a1234);
    assert_int_equal(*(uint32_t *)(h.ram + DATA + (at & 0x1fffff)), 0x5a5a1234);
    assert_int_equal(n->turns, turns);
    /* Elsewhere in that GB it may. */
    for (at = 1u << 30; within(at, n->win, sizeof(*n->win)) || within(at, n->jit->rx, JNAT_CACHE) || within(at, (void *)&h.p->vps[0]->attention, 4096);)
        at += 2 << 20;
    LOAD(store, at, 0x5a5a1235, 0, 0);
    pdpt[1] = 0x8007;
    pd[at >> 21 & 511] = DATA | 0x87;
    assert_int_equal(run(), 0x5a5a1235);
    assert_true(n->turns > turns);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(computes, setup, teardown),  cmocka_unit_test_setup_teardown(faults, setup, teardown),
        cmocka_unit_test_setup_teardown(scribbles, setup, teardown), cmocka_unit_test_setup_teardown(hijacks, setup, teardown),
        cmocka_unit_test_setup_teardown(answers, setup, teardown),   cmocka_unit_test_setup_teardown(places, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
