/* SPDX-License-Identifier: BSD-2-Clause */
/* What shares an entry of an engine's tables.
 * One instruction, two accesses, to pages that are far apart by each power of two: whatever the size of a
 * direct-mapped translation cache, some pair shares an entry.  An engine that fills the entry and starts the
 * instruction again would never come to its end. */
#include "rt.h"

enum { BASE = 0x1000000, LIMIT = 0x7000000, HALF = 2048 };

extern char conflict_ret[];
__asm__(".text; conflict_ret: ret");

static ulong sp_saved;

#ifdef __x86_64__
#define SP "%%rsp"
#else
#define SP "%%esp"
#endif
/* @insn with the stack pointer in the middle of page @stack; %[mem] is the operand's address. */
#define ON_STACK(insn)                                                                                      \
    __asm__ volatile("mov " SP ", %[saved]; mov %[stack], " SP "; " insn "; mov %[saved], " SP              \
                     : [saved] "+m"(sp_saved) : [stack] "r"(stack + HALF), [mem] "r"(mem) : "memory", "cc")

static unsigned wrong;

static void expect(ulong got, ulong want)
{
    wrong += got != want;
}

static void pair(ulong stack, ulong mem)
{
    volatile ulong *m = (volatile ulong *)mem, *s = (volatile ulong *)(stack + HALF);
    ulong to = stack + HALF, from = mem, count = 2;

    *m = (ulong)conflict_ret;
    s[-1] = 0;
    ON_STACK("call *(%[mem])");
    expect(s[-1] != 0, 1);
    *m = 0x1234;
    ON_STACK("push (%[mem])");
    expect(s[-1], 0x1234);
    s[0] = 0x5678;
    ON_STACK("pop (%[mem])");
    expect(*m, 0x5678);
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    expect(count, 0);
    to = stack + HALF, from = mem, count = 2;
    __asm__ volatile("repe cmpsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory", "cc");
    expect(from, mem + 2);
}

/* Branches by an address, to targets that are far apart by each power of two: an engine that looks the target up in a
 * table, or believes to know where a RET goes, may come to another target's code first, which needs no flags. */
static int call_with(ulong target, int carry)
{
    int ret;

    if (carry)
        __asm__ volatile("stc; call *%[target]" : "=a"(ret) : [target] "r"(target) : "memory", "cc");
    else
        __asm__ volatile("clc; call *%[target]" : "=a"(ret) : [target] "r"(target) : "memory", "cc");
    return ret;
}

static void targets(ulong first, ulong second)
{
    static const unsigned char needs_none[] = { 0x31, 0xc0, 0xc3 } /* xor eax, eax; ret */,
                               needs_carry[] = { 0x19, 0xc0, 0xc3 } /* sbb eax, eax; ret */;

    for (unsigned i = 0; i < sizeof(needs_none); i++) {
        ((volatile unsigned char *)first)[i] = needs_none[i];
        ((volatile unsigned char *)second)[i] = needs_carry[i];
    }
    for (unsigned i = 0; i < 4; i++) {
        expect((ulong)call_with(first, 1), 0);
        expect((ulong)call_with(second, 1), (ulong)-1);
        expect((ulong)call_with(first, 0), 0);
        expect((ulong)call_with(second, 0), 0);
    }
}

/* A RET to where nobody called from, with flags; at the place behind the CALL they are not needed. */
extern char returns_carry[], returns_none[];
#ifdef __x86_64__
#define CHANGE_RETURN "movq $away, (%rsp)"
#else
#define CHANGE_RETURN "movl $away, (%esp)"
#endif
__asm__(".text\n"
        "returns_carry: call 1f; xor %eax, %eax; ret; 1: " CHANGE_RETURN "; stc; ret\n"
        "returns_none: call 1f; xor %eax, %eax; ret; 1: " CHANGE_RETURN "; clc; ret\n"
        "away: sbb %eax, %eax; ret");

int main(void)
{
    rt_init();
    for (ulong step = 0x1000; BASE + step < LIMIT; step <<= 1) {
        pair(BASE, BASE + step);
        pair(BASE + step, BASE);
    }
    check("call, push, pop, movs, cmps with pages that share an entry", wrong, 0);
    wrong = 0;
    for (ulong step = 0x1000; BASE + step < LIMIT; step <<= 1) {
        targets(BASE + HALF, BASE + HALF + step);
        targets(BASE + HALF + step, BASE + HALF);
    }
    check("flags at targets that share an entry", wrong, 0);
    wrong = 0;
    for (unsigned i = 0; i < 1000; i++) {
        expect((ulong)call_with((ulong)returns_carry, 0), (ulong)-1);
        expect((ulong)call_with((ulong)returns_none, 1), 0);
    }
    check("flags where a RET goes that was not called from", wrong, 0);
    rt_exit();
}
