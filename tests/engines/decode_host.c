/* SPDX-License-Identifier: BSD-2-Clause */
/* Checks against this processor what the x86 decoder says about the operands of plain vector
 * instructions: the engines re-encode them and load and store only what o[] names.
 *
 *   gcc -std=gnu11 -O1 -g -Wall -Wextra -I. -o /tmp/decode_host tests/engines/decode_host.c \
 *       hv/x86/decode.c && /tmp/decode_host
 *
 * decode_host [COUNT [SEED]]: random encodings, each run twice: the second time with every bit
 * changed that o[] does not call read.  What o[] calls written must come out the same, everything
 * else must be as before.  The memory operand ends where an inaccessible page begins, so that an
 * access that is longer than o[] says faults; it is also misaligned, which must fault exactly when
 * the decoder says that alignment matters.  Skips (77) without AVX2. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/x86/decode.h"

enum { PAGE = 4096, MEM_WINDOW = 64 };

struct state {
    uint8_t ymm[16][32];
    uint8_t mm[8][8];
    uint64_t gpr[16];
    uint8_t mem[MEM_WINDOW]; /* the last bytes of the accessible page */
    uint64_t flags;
} __attribute__((aligned(32)));

static uint8_t *code, *page, *operand;
static struct state *regs; /* in the low 2 GB: code addresses it with disp32 */
static sigjmp_buf on_fault;
static volatile int fault;

static uint64_t rng_state[2] = { 1, 0x9e3779b97f4a7c15u };

static uint64_t rng(void) /* xorshift128+, Vigna 2014 */
{
    uint64_t a = rng_state[0], b = rng_state[1];

    rng_state[0] = b;
    a ^= a << 23;
    rng_state[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return rng_state[1] + b;
}

static void on_signal(int sig)
{
    fault = sig;
    siglongjmp(on_fault, 1);
}

/* ---- code: load all registers, the instruction, store all ---- */

static uint8_t *emit_abs(uint8_t *p, const uint8_t *op, unsigned n, unsigned reg, const void *addr)
{
    uint32_t a = (uint32_t)(uintptr_t)addr;

    memcpy(p, op, n);
    p += n;
    *p++ = (uint8_t)(0x04 | (reg & 7) << 3);
    *p++ = 0x25;
    memcpy(p, &a, 4);
    return p + 4;
}

static uint8_t *emit_state(uint8_t *p, bool load)
{
    unsigned i;

    for (i = 0; i < 16; i++) { /* VMOVDQU ymm */
        uint8_t vex[3] = { 0xc5, (uint8_t)(i < 8 ? 0xfe : 0x7e), load ? 0x6f : 0x7f };

        p = emit_abs(p, vex, 3, i, regs->ymm[i]);
    }
    for (i = 0; i < 8; i++) { /* MOVQ mm */
        uint8_t op[2] = { 0x0f, load ? 0x6f : 0x7f };

        p = emit_abs(p, op, 2, i, regs->mm[i]);
    }
    for (i = 0; i < 16; i++) { /* MOV r64 */
        uint8_t op[2] = { (uint8_t)(0x48 | (i >= 8 ? 4 : 0)), load ? 0x8b : 0x89 };

        if (i != X86_RSP)
            p = emit_abs(p, op, 2, i, &regs->gpr[i]);
    }
    return p;
}


static void build(const uint8_t *insn, unsigned len)
{
    static const uint8_t push_all[] = {
        0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57
    };
    static const uint8_t pop_all[] = {
        0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b
    };
    static const uint8_t clear_flags[] = { 0x6a, 0x02, 0x9d }, get_flags[] = { 0x9c, 0x8f };
    uint8_t *p = code;

    memcpy(p, push_all, sizeof push_all);
    p += sizeof push_all;
    p = emit_state(p, true);
    memcpy(p, clear_flags, sizeof clear_flags);
    p += sizeof clear_flags;
    memcpy(p, insn, len);
    p += len;
    p = emit_abs(p, get_flags, 2, 0, &regs->flags);
    p = emit_state(p, false);
    memcpy(p, "\x0f\x77\xc5\xf8\x77", 5); /* EMMS, VZEROUPPER */
    p += 5;
    memcpy(p, pop_all, sizeof pop_all);
    p += sizeof pop_all;
    *p = 0xc3;
}

static bool run(struct state *s)
{
    *regs = *s;
    memcpy(page + PAGE - MEM_WINDOW, s->mem, MEM_WINDOW);
    fault = 0;
    if (sigsetjmp(on_fault, 1) == 0)
        ((void (*)(void))(uintptr_t)code)();
    else
        __asm__ volatile("emms\n\tvzeroupper" ::: "memory");
    if (fault)
        return false;
    *s = *regs;
    memcpy(s->mem, page + PAGE - MEM_WINDOW, MEM_WINDOW);
    return true;
}

/* ---- what o[] promises ---- */

/* Bytes of the state that the instruction reads (R) or writes (W), as masks of 0x00 and 0xff. */
static void mark(struct state *m, const struct x86_insn *in, unsigned access)
{
    unsigned i;

    memset(m, 0, sizeof *m);
    for (i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];

        if (!(o->flags & access))
            continue;
        switch (o->kind) {
        case X86_O_VEC:
            memset(m->ymm[o->reg], 0xff, o->size);
            if (access == X86_WR && (in->attr & X86_A_ZEROU) && i == 0)
                memset(m->ymm[o->reg], 0xff, 32);
            break;
        case X86_O_MMX:
            memset(m->mm[o->reg], 0xff, o->size);
            break;
        case X86_O_GPR: /* a 32-bit write clears the upper half */
            memset(&m->gpr[o->reg], 0xff, access == X86_WR && o->size == 4 ? 8 : o->size);
            break;
        case X86_O_MEM:
            memset(m->mem + (operand - (page + PAGE - MEM_WINDOW)), 0xff, o->size);
            break;
        default:
            break;
        }
    }
    if (in->op == X86_OP_VEC_XMM0 && access == X86_RD)
        memset(m->ymm[0], 0xff, 16);
    if (in->op == X86_OP_VEC_FLAGS && access == X86_WR)
        m->flags = ~0ull;
    if (in->base < 16)
        m->gpr[in->base] = access == X86_RD ? ~0ull : m->gpr[in->base];
}

static unsigned n_run, n_bad;

static void complain(const char *what, const uint8_t *b, const struct x86_insn *in, size_t at)
{
    unsigned i;

    if (++n_bad > 40)
        return;
    printf("%s at state byte %zu:", what, at);
    for (i = 0; i < in->len; i++)
        printf(" %02x", b[i]);
    for (i = 0; i < in->nops; i++)
        printf(" [kind %u reg %u size %u flags %u]", in->o[i].kind, in->o[i].reg, in->o[i].size,
               in->o[i].flags);
    printf(" attr 0x%x\n", in->attr);
}

static void check(const uint8_t *b, const struct x86_insn *in)
{
    struct state s1, s2, out1, out2, rd, wr;
    const uint8_t *p1, *p2, *q1, *q2, *r, *w;
    unsigned i, size = 0;
    size_t k;

    operand = page + PAGE;
    for (i = 0; i < in->nops; i++)
        if (in->o[i].kind == X86_O_MEM)
            size = in->o[i].size;
    operand -= size;
    if (size > 1 && !(in->attr & X86_A_ALIGN) && (rng() & 1))
        operand -= 1; /* misaligned, then not at the end */
    mark(&rd, in, X86_RD);
    mark(&wr, in, X86_WR);
    for (k = 0; k + 8 <= sizeof s1; k += 8) {
        uint64_t v = rng(), u = rng();

        memcpy((uint8_t *)&s1 + k, &v, 8);
        memcpy((uint8_t *)&s2 + k, &u, 8);
    }
    s1.flags = s2.flags = 0;
    if (in->base < 16)
        s1.gpr[in->base] = (uint64_t)(uintptr_t)operand;
    r = (const uint8_t *)&rd;
    w = (const uint8_t *)&wr;
    for (k = 0; k < sizeof s1; k++)
        if (r[k])
            ((uint8_t *)&s2)[k] = ((uint8_t *)&s1)[k];
    s1.gpr[X86_RSP] = s2.gpr[X86_RSP] = 0;
    out1 = s1;
    out2 = s2;
    build(b, in->len);
    if (!run(&out1) || !run(&out2)) {
        if (fault == SIGILL)
            return; /* this processor lacks it */
        complain("fault", b, in, 0);
        return;
    }
    /* AMD processors take misaligned operands for SHA; SDM 2A 2.4 (type 4) does not. */
    if (size && (in->attr & X86_A_ALIGN) && in->feature != X86_FEAT_SHA) {
        struct state s3 = s1;

        s3.gpr[in->base]--;
        if (run(&s3))
            complain("takes a misaligned operand", b, in, 0);
    }
    n_run++;
    if (!wr.flags)
        out1.flags = out2.flags = 0;
    p1 = (const uint8_t *)&s1;
    p2 = (const uint8_t *)&s2;
    q1 = (const uint8_t *)&out1;
    q2 = (const uint8_t *)&out2;
    for (k = 0; k < sizeof s1; k++) {
        if (w[k] ? q1[k] != q2[k] : q1[k] != p1[k] || q2[k] != p2[k]) {
            complain(w[k] ? "depends on more than it reads" : "writes more than it says", b, in, k);
            return;
        }
    }
}

/* A random encoding whose memory operand, if any, is [rsi] or [r14] most of the time. */
static void random_string(uint8_t b[16])
{
    static const uint8_t mandatory[4] = { 0, 0x66, 0xf3, 0xf2 };
    uint64_t r = rng(), x[2] = { rng(), rng() };
    unsigned n = 0, shape = r & 7, map = 1 + (r >> 3 & 0xff) % 3;

    memcpy(b, x, 16);
    if (shape < 4) {
        if (mandatory[r >> 16 & 3])
            b[n++] = mandatory[r >> 16 & 3];
        if (r >> 18 & 1)
            b[n++] = (uint8_t)(0x40 | (r >> 20 & 15));
        b[n++] = 0x0f;
        if (map > 1)
            b[n++] = map == 2 ? 0x38 : 0x3a;
        n++;
    } else {
        b[n++] = 0xc4;
        b[n++] = (uint8_t)((r >> 20 & 0xe0) | map);
        n++;
        if (r >> 30 & 1)
            b[2] |= 0x78;
        n++;
    }
    if (r >> 31 & 1)
        b[n] = (uint8_t)((b[n] & 0x38) | X86_RSI);
    else
        b[n] |= 0xc0;
}

int main(int argc, char **argv)
{
    unsigned long count = argc > 1 ? strtoul(argv[1], NULL, 0) : 300000, i;
    struct sigaction sa = { .sa_handler = on_signal };

    if (argc > 2)
        rng_state[0] = strtoull(argv[2], NULL, 0);
    if (!__builtin_cpu_supports("avx2")) {
        puts("skipped: this processor has no AVX2");
        return 77;
    }
    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    page = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    regs = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (code == MAP_FAILED || page == MAP_FAILED || regs == MAP_FAILED ||
        mprotect(page + PAGE, PAGE, PROT_NONE)) {
        perror("mmap");
        return 2;
    }
    sigaction(SIGSEGV, &sa, NULL);
    sigaction(SIGBUS, &sa, NULL);
    sigaction(SIGILL, &sa, NULL);
    for (i = 0; i < count; i++) {
        uint8_t b[16];
        struct x86_insn in;
        bool plain;
        unsigned k;

        random_string(b);
        if (x86_decode(b, 15, X86_MODE_64, &in) <= 0)
            continue;
        if (in.op != X86_OP_VEC && in.op != X86_OP_VEC_FLAGS && in.op != X86_OP_VEC_XMM0)
            continue;
        plain = in.index == X86_REG_NONE && !in.disp &&
                (in.base == X86_REG_NONE || in.base == X86_RSI || in.base == X86_R14);
        for (k = 0; k < in.nops; k++) /* the stack pointer and the base stay out of it */
            if (in.o[k].kind == X86_O_GPR && (in.o[k].reg == X86_RSP || in.o[k].reg == in.base))
                plain = false;
        if (plain)
            check(b, &in);
    }
    printf("%u instructions run, %u differences\n", n_run, n_bad);
    return n_bad ? 1 : 0;
}
