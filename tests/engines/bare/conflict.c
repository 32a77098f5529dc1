/* SPDX-License-Identifier: BSD-2-Clause */
/* One instruction, two accesses, to pages that are far apart by each power of two: whatever the size of a
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

int main(void)
{
    rt_init();
    for (ulong step = 0x1000; BASE + step < LIMIT; step <<= 1) {
        pair(BASE, BASE + step);
        pair(BASE + step, BASE);
    }
    check("call, push, pop, movs, cmps with pages that share an entry", wrong, 0);
    rt_exit();
}
