/* SPDX-License-Identifier: BSD-2-Clause */
/* Self-modifying and cross-modifying code.  Reference: Intel SDM volume 3A 11.6, 8.1.3.
 *
 * Stores to code through the same linear address take effect at once on processors of the P6 family and later;
 * through an alias, or from another processor, after a serializing instruction (CPUID here). */
#include "rt.h"
#include "smp.h"

static uint8_t code[3 * 4096] __attribute__((aligned(4096)));
typedef uint32_t (*fn_t)(void);

static void serialize(void)
{
    uint32_t r[4];

    cpuid(0, 0, r);
}

/* mov $imm, %eax; ret */
static void emit(uint8_t *p, uint32_t imm)
{
    p[0] = 0xb8;
    memcpy(p + 1, &imm, 4);
    p[5] = 0xc3;
}

/* The store and the instruction it changes are in one straight line. */
__asm__(".section .data; .balign 64; .globl inline_smc\n"
        "inline_smc: mov %edi, %ecx; movb %cl, inline_imm(%rip); .byte 0xb8; inline_imm: .long 0; ret\n"
        "inline_loop: xor %eax, %eax; mov $100, %ecx; 1: .byte 0x05; loop_imm: .long 0; incb loop_imm(%rip);"
        " dec %ecx; jnz 1b; ret\n"
        "inline_rep: lea rep_target(%rip), %rdi; lea rep_source(%rip), %rsi; mov $8, %ecx; cld; rep movsb\n"
        "rep_target: .byte 0x31,0xc0,0x90,0x90,0x90,0x90,0x90,0x90; ret\n"
        "rep_source: .byte 0xb8,0x78,0x56,0x34,0x12,0x90,0x90,0x90\n"
        "inline_xchg: mov $0xc3c3c3c3, %eax; xchg %eax, 1f(%rip); 1: .long 0x0b0f0b0f; ret\n"
        "inline_sse: movups sse_source(%rip), %xmm0; movups %xmm0, 1f(%rip); jmp 1f; .balign 16\n"
        "1: .fill 16, 1, 0xcc; .balign 16; sse_source: .byte 0xb8,1,2,3,4,0xc3; .fill 10, 1, 0x90\n"
        "inline_push: mov %rsp, %rdx; lea 1f+8(%rip), %rsp; movabs $0x9090c30000002ab8, %rax; push %rax;"
        " mov %rdx, %rsp; 1: .fill 8, 1, 0xcc\n"
        ".text");
uint32_t inline_smc(uint32_t v), inline_loop(void), inline_rep(void), inline_sse(void), inline_push(void);
void inline_xchg(void);

static void f_xchg(void *a)
{
    (void)a;
    inline_xchg();
}

static void inline_tests(void)
{
    unsigned bad = 0, sum = 0;

    for (unsigned i = 0; i < 256; i++)
        bad += inline_smc(i) != i;
    check("store to the next instruction", bad, 0);
    for (unsigned i = 0; i < 100; i++)
        sum += i;
    check("loop that changes its own immediate", inline_loop(), sum);
    check("rep movsb over the next instruction", inline_rep(), 0x12345678);
    check("xchg over the next instruction", (uint64_t)(int64_t)try(f_xchg, NULL), (uint64_t)-1);
    check("sse store", inline_sse(), 0x04030201);
    check("push over the next instruction", inline_push(), 0x2a);
}

static void pages(void)
{
    fn_t f = (fn_t)(ulong)(code + 64), g = (fn_t)(ulong)(code + 4096 - 3);
    unsigned bad = 0;

    for (unsigned i = 0; i < 2000; i++) {
        emit(code + 64, i);
        bad += f() != i;
    }
    check("function rewritten and called", bad, 0);
    bad = 0;
    emit(code + 4096 - 3, 0);
    for (unsigned i = 0; i < 256; i++) {
        code[4096 + 1] = (uint8_t)i; /* last byte of the immediate, in the second page */
        bad += g() != i << 24;
    }
    check("instruction across two pages, second half changed", bad, 0);
    /* Data beside code in one page. */
    volatile uint32_t *data = (uint32_t *)(code + 2048);
    emit(code + 64, 77);
    bad = 0;
    for (unsigned i = 0; i < 10000; i++) {
        *data = i;
        bad += f() != 77 || *data != i;
    }
    check("data beside code", bad, 0);
}

/* Many functions in one page: one changes, the others stay, and all callers find the new one. */
static void neighbours(void)
{
    fn_t f[32];
    unsigned bad = 0;

    for (unsigned i = 0; i < 32; i++) {
        f[i] = (fn_t)(ulong)(code + 100 * i + 50);
        emit(code + 100 * i + 50, i);
    }
    for (unsigned i = 0; i < 32; i++)
        bad += f[i]() != i;
    for (unsigned round = 1; round < 200; round++) {
        unsigned which = round * 7 % 32;

        emit(code + 100 * which + 50, round * 100 + which);
        for (unsigned i = 0; i < 32; i++) {
            unsigned v = f[i]();

            bad += v % 100 != i || (i == which && v != round * 100 + which);
        }
        if (round % 3 == 0)
            emit(code + 100 * which + 50, which);
    }
    check("one of many functions in a page", bad, 0);
    /* A function across two lines: either half changes. */
    bad = 0;
    for (unsigned i = 0; i < 300; i++) {
        emit(code + 128 - 3, 0);
        code[127] = (uint8_t)i;
        bad += ((fn_t)(ulong)(code + 128 - 3))() != (i & 0xff) << 8;
        code[128] = (uint8_t)i;
        bad += ((fn_t)(ulong)(code + 128 - 3))() != (i & 0xff) * 0x10100;
    }
    check("function across two lines", bad, 0);
}

/* A buffer filled with code again and again, by each kind of store. */
static void refill(void)
{
    static uint8_t image[4096];
    unsigned bad = 0;

    for (uint32_t round = 0; round < 200; round++) {
        for (unsigned i = 0; i < 4096; i += 16)
            emit(image + i, round * 1000 + i / 16);
        switch (round % 4) {
        case 0: {
            void *d = code, *s = image;
            ulong n = 4096;

            __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
            break;
        }
        case 1:
            for (unsigned i = 0; i < 4096; i += 8)
                *(volatile uint64_t *)(code + i) = *(uint64_t *)(image + i);
            break;
        case 2:
            for (unsigned i = 0; i < 4096; i += 8)
                __atomic_exchange_n((uint64_t *)(code + i), *(uint64_t *)(image + i), __ATOMIC_SEQ_CST);
            break;
        default:
            for (unsigned i = 0; i < 4096; i += 16)
                __asm__ volatile("movups (%0), %%xmm0; movups %%xmm0, (%1)" ::"r"(image + i), "r"(code + i) : "memory");
        }
        for (unsigned i = round % 3; i < 256; i += 3)
            bad += ((fn_t)(ulong)(code + 16 * i))() != round * 1000 + i;
    }
    check("buffer filled with code again and again", bad, 0);
    /* REP STOS over code that has run: RET in each byte. */
    void *d = code;
    ulong n = 512;

    __asm__ volatile("rep stosq" : "+D"(d), "+c"(n) : "a"(0xc3c3c3c3c3c3c3c3ul) : "memory");
    for (unsigned i = 0; i < 4096; i += 16)
        __asm__ volatile("call *%0" ::"r"(code + i) : "memory");
    check("rep stosq over code", code[4095], 0xc3);
}

static void alias(void)
{
    /* Page 1 of code[] seen at 4 GB - 2 MB as well: 4 KB table in place of the large page. */
    uint64_t *pt = alloc_page();
    extern uint64_t boot_pd[];
    uint64_t keep = boot_pd[2046];
    volatile uint8_t *a = (uint8_t *)(2046ul << 21);
    fn_t f = (fn_t)(ulong)(code + 4096 + 256), fa = (fn_t)(2046ul << 21 | 256);
    unsigned bad = 0;

    pt[0] = ((ulong)code + 4096) | 7;
    boot_pd[2046] = (ulong)pt | 7;
    set_cr3(get_cr3());
    for (unsigned i = 0; i < 256; i++) {
        emit(code + 4096 + 256, 1);
        serialize();
        (void)f();
        a[257] = (uint8_t)i; /* the immediate, through the alias */
        serialize();
        bad += f() != i || fa() != i;
    }
    check("change through an alias", bad, 0);
    /* Another frame at the same address. */
    emit(code + 8192 + 256, 4321);
    bad = fa() != 255;
    pt[0] = ((ulong)code + 8192) | 7;
    invlpg((void *)a);
    bad += fa() != 4321;
    pt[0] = ((ulong)code + 4096) | 7;
    invlpg((void *)a);
    bad += fa() != 255;
    check("other frame at the same address", bad, 0);
    boot_pd[2046] = keep;
    set_cr3(get_cr3());
}

/* ---- another processor ---- */

static volatile uint32_t turn, stop;

static void ap_patch(void)
{
    for (uint32_t i = 1; !stop; i++) {
        while (turn != i * 2 - 1 && !stop)
            __asm__ volatile("pause");
        memcpy(code + 65, &i, 4);
        __atomic_store_n(&turn, i * 2, __ATOMIC_SEQ_CST);
    }
}

static void ap_hammer(void)
{
    uint8_t v = 0;

    while (!stop) {
        __atomic_store_n((volatile uint8_t *)(code + 65), v++, __ATOMIC_RELAXED);
        for (unsigned i = 0; i < 50; i++)
            __asm__ volatile("pause");
    }
}

static void cross(void)
{
    fn_t f = (fn_t)(ulong)(code + 64);
    unsigned bad = 0;

    if (!ap_start(ap_patch)) {
        skip("cross-modifying code: one processor");
        return;
    }
    emit(code + 64, 0);
    for (uint32_t i = 1; i <= 300; i++) {
        turn = i * 2 - 1;
        while (turn != i * 2)
            __asm__ volatile("pause");
        serialize();
        bad += f() != i;
    }
    stop = 1;
    check("cross-modifying code", bad, 0);
    ap_wait();
    stop = 0;
    emit(code + 64, 0);
    ap_start(ap_hammer);
    unsigned changes = 0, last = 0;
    for (unsigned i = 0; i < 20000 || (changes < 2 && i < 5000000); i++) {
        unsigned v = f();

        bad += v > 255;
        changes += v != last;
        last = v;
    }
    stop = 1;
    ap_wait();
    check("code that another processor keeps changing", bad, 0);
    check("changes were seen", changes > 1, 1);
}

int main(void)
{
    rt_init();
    inline_tests();
    pages();
    neighbours();
    refill();
    alias();
    cross();
    rt_exit();
}
