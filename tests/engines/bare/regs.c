/* SPDX-License-Identifier: BSD-2-Clause */
/* Loops that work with r9, r10 and r11, and the same with rbx, rsi and rdi: a translator may keep either of them where
 * it likes, for as long as it likes, but what a loop computes, what a handler sees in its middle and changes there, and
 * what the other registers hold must not depend on that. */
#include "rt.h"

enum { ROUNDS = 30000, PAGE = 4096 };
static uint8_t *buf;
static uint64_t seen[2]; /* by the handler, of each set of registers */
static unsigned set, calls;

/* What the handler is called for must be the same numbers in the same order. */
static bool on_break(struct regs *r)
{
    ulong *v[2][3] = { { &r->r9, &r->r10, &r->r11 }, { &r->bx, &r->si, &r->di } };

    for (unsigned i = 0; i < 3; i++)
        seen[set] = seen[set] * 31 + *v[set][i];
    seen[set] = seen[set] * 31 + (r->r12 ^ r->r13 ^ r->r14 ^ r->r15 ^ r->bp);
    *v[set][1] += 0x1234567;
    calls++;
    return true;
}

static bool on_undefined(struct regs *r)
{
    r->ip += 2;
    return on_break(r);
}

/* A, B and C work; rbp, r12 to r15 have to keep their values, rdx and r8 are an address and a count.  BETWEEN is in the
 * middle. */
#define LOOP(name, A, B, C, AD, BD, CD, AB, BETWEEN) \
    static __attribute__((noinline)) uint64_t name(uint64_t seed, ulong at, ulong n) \
    { \
        uint64_t in[3] = { seed, seed * 0x9e3779b97f4a7c15ull, ~seed }, *p = in; \
        register ulong r8 __asm__("r8") = n; \
\
        __asm__ volatile("push %%rbp; push %0\n" \
                         "mov 0(%0), %%" A "; mov 8(%0), %%" B "; mov 16(%0), %%" C "\n" \
                         "mov $0x1212, %%r12d; mov $0x131313, %%r13d; mov $0x14141414, %%r14d; mov $0x15, %%r15d\n" \
                         "mov $0xbbbb, %%ebp\n" \
                         ".p2align 6\n" \
                         "1: add (%%rdx), %%" A "; rol $7, %%" A "; xor %%" A ", %%" B "\n" \
                         "imul $0x12345, %%" B ", %%" B "; lea 3(%%" A ",%%" B ",2), %%" C "\n" \
                         "mov %%" CD ", 2(%%rdx); add 1(%%rdx), %%" BD "; xchg %%" A ", %%" C "\n" \
                         BETWEEN \
                         "adc $77, %%" A "; shld $5, %%" A ", %%" B "; movzx %%" AB ", %%ecx; sub %%rcx, %%" C "\n" \
                         "cmp %%" A ", %%" B "; cmovb %%" C ", %%" A "; setp %%" AB "; xor %%" CD ", %%" BD "\n" \
                         "push %%" A "; or %%" B ", (%%rsp); pop %%" C "\n" \
                         "add $5, %%rdx; dec %%r8; jnz 1b\n" \
                         "xor $0x1212, %%r12; xor $0x131313, %%r13; xor $0x14141414, %%r14; xor $0x15, %%r15\n" \
                         "xor $0xbbbb, %%rbp; or %%r12, %%rbp; or %%r13, %%rbp; or %%r14, %%rbp; or %%r15, %%rbp\n" \
                         "pop %0; mov %%" A ", 0(%0); mov %%" B ", 8(%0); mov %%" C ", 16(%0); mov %%rbp, %0; pop %%rbp\n" \
                         : "+a"(p), "+d"(at), "+r"(r8) \
                         : \
                         : "rbx", "rcx", "rsi", "rdi", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc"); \
        return p ? 1 : in[0] ^ in[1] * 3 ^ in[2] * 5; \
    }
#define LOOPS(name, BETWEEN) \
    LOOP(name##_high, "r9", "r10", "r11", "r9d", "r10d", "r11d", "r9b", BETWEEN) \
    LOOP(name##_low, "rbx", "rsi", "rdi", "ebx", "esi", "edi", "bl", BETWEEN)

LOOPS(plain, "")
LOOPS(branch, "test $64, %%al; jnz 2f; add $9, %%rax; test $1, %%r8b; jz 2f; inc %%rax\n2:\n")
LOOPS(divide, "push %%rdx; push %%rax; mov %%r8d, %%ecx; xor %%edx, %%edx; mov $99999, %%eax; div %%ecx; pop %%rax; pop %%rdx\n")
LOOPS(string, "push %%rsi; mov %%rdx, %%rsi; push %%rax; lodsb; pop %%rax; pop %%rsi\n")
LOOPS(trap, "test $1023, %%r8d; jnz 2f; int3\n2:\n")
LOOPS(undefined, "test $511, %%r8d; jz 2f; jmp 3f\n2: ud2\n3:\n")
LOOPS(call, "call 2f; jmp 3f\n2: inc %%r12; dec %%r12; ret\n3:\n")
LOOPS(flags, "pushfq; pop %%rcx; and $0x8d5, %%ecx; add %%rcx, (%%rdx); cmc\n")

typedef uint64_t (*loop_t)(uint64_t seed, ulong at, ulong n);

static void both(const char *name, loop_t high, loop_t low)
{
    loop_t f[2] = { high, low };
    uint64_t got[2], sum[2] = { 0, 0 };

    seen[0] = seen[1] = 0;
    for (unsigned turn = 0; turn < 3; turn++)
        for (set = 0; set < 2; set++) {
            for (unsigned i = 0; i < 40 * PAGE; i++)
                buf[i] = (uint8_t)(i * 7 + (i >> 8) + turn);
            got[set] = f[set](turn + 5, (ulong)buf, ROUNDS);
            for (unsigned i = 0; i < 40 * PAGE; i++)
                sum[set] = sum[set] * 31 + buf[i];
            sum[set] = sum[set] * 31 + got[set];
        }
    check(name, sum[0], sum[1]);
    check("registers that are not used", got[0] == 1 || got[1] == 1, 0);
    check("what handlers saw", seen[0], seen[1]);
}

int main(void)
{
    rt_init();
    buf = alloc_page();
    for (unsigned i = 1; i < 40; i++)
        alloc_page(); /* behind it */
    hooks[3] = on_break;
    hooks[6] = on_undefined;
    both("a loop", plain_high, plain_low);
    both("with branches", branch_high, branch_low);
    both("with a division", divide_high, divide_low);
    both("with a string instruction", string_high, string_low);
    both("with breakpoints", trap_high, trap_low);
    both("with undefined instructions", undefined_high, undefined_low);
    both("with calls", call_high, call_low);
    both("with flags on the stack", flags_high, flags_low);
    check("calls of the handlers", calls, 3 * 2 * (ROUNDS / 1024 + ROUNDS / 512));
    rt_exit();
}
