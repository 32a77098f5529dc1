/* SPDX-License-Identifier: BSD-2-Clause */
/* Random blocks of sensible instructions on the translator and on the interpreter: what is left has to be the same.
 *
 * Each block runs on two translators: as they are, and with MOBO_JIT_EXACT=slots.  Where code lies in data only on the latter, as
 * a block that changes itself shows flags that it did not need before (README, Limits).
 *
 * blocks_fuzz [RUNS [SEED]]: a line for each of the first differences, exit 1 if there was one.  The interpreter's share of the time
 * is the larger one; 20000 runs take some minutes.
 *
 * What makes it different from random bytes: pages follow each other in linear but not in physical memory, so that what leads
 * from one to its host address is wrong for all others; pointers lie at ends of pages and move from turn to turn; some pages are
 * absent, read-only, of the other privilege, no RAM, or have code in them; a block is run often enough to be made again with more
 * care, at two addresses, and comes back to its beginning by itself or from outside.  An exception adds where it was to
 * a sum, sets the pointers back and goes on with the next turn. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engines/harness.h"

enum {
    PML4 = 0x10000, PDPT = 0x11000, PD = 0x12000 /* 2 pages */, PT = 0x14000 /* one for each part */, TSS = 0x5000, IDT = 0x6000, HANDLERS = 0x7000,
    SUM = 0x8000, FAULT_STACK = 0xb000, MAIN = 0x9000,
    POOL = 4 << 20, PAGES = 128, /* physical pages that data and stacks are in */
    CODE_PHYS = 3 << 20,
    DATA = 0x10000000, DATA_PAGES = 16, STACK = 0x12000000, STACK_PAGES = 4, CODE = 0x14000000, BESIDE = CODE + 0x10000 /* by RIP */, BESIDE_PAGES = 4,
    AWAY = 0x10000000, /* from CODE to the same code at another address, with another BESIDE */
    NO_RAM = 0x40000000,
};
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum { CF = 1, AF = 16, DF = 1 << 10, AC = 1 << 18 };

static uint64_t rng;
static uint8_t *out;
static bool user;
static unsigned code_in_data; /* that page of DATA is the one with code */

static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng * 0x2545f4914f6cdd1dull >> 11;
}

static unsigned below(unsigned n) { return (unsigned)(rnd() % n); }

/* ---- encoding ---- */

struct mem { uint8_t kind, base, index, scale, a32; int32_t disp; };
enum { M_BASE, M_INDEX, M_RIP, M_ABS };

static const uint8_t values[] = { RAX, RCX, RDX, R10, R11 }, pointers[] = { RBX, RSI, RDI, R8, R9, R12, R13, RBP };

static unsigned value(void) { return values[below(sizeof values)]; }
static unsigned pointer(void) { return pointers[below(sizeof pointers)]; }
static unsigned any(void) { return below(4) ? value() : pointer(); }

static int32_t near(void)
{
    static const int16_t d[] = { 0, 0, 0, 8, 16, -8, 4, 1, 3, 24, 32, -16, 64, 127, -128, 0x100, -0x104, 0x7f8 };

    return d[below(sizeof d / sizeof d[0])];
}

/* @align: its address is to be a multiple of it, as far as that is up to the displacement. */
static struct mem mem(unsigned align)
{
    struct mem m = { .kind = M_BASE, .base = (uint8_t)pointer(), .disp = near() & -(int32_t)align };
    unsigned k = below(16);

    if (k == 0)
        m = (struct mem){ .kind = M_RIP, .disp = (int32_t)(below(BESIDE_PAGES * 4096) & -align) };
    else if (k == 1)
        m = (struct mem){ .kind = M_ABS, .disp = below(2) ? DATA + (int32_t)(below(DATA_PAGES * 4096) & -align) :
                                                            BESIDE + (int32_t)(below(BESIDE_PAGES * 4096) & -align) };
    else if (k < 4)
        m.kind = M_INDEX, m.index = R14, m.scale = (uint8_t)below(4);
    else if (k == 4)
        m.base = RSP, m.disp &= 0xff;
    m.a32 = !below(40);
    return m;
}

static void b1(unsigned v) { *out++ = (uint8_t)v; }
static void b4(uint32_t v) { memcpy(out, &v, 4), out += 4; }

/* ModRM and what follows; @imm: bytes behind that. */
static void modrm(unsigned reg, const struct mem *m, unsigned imm)
{
    unsigned r = (reg & 7) << 3;

    if (m->kind == M_RIP) {
        b1(r | 5);
        /* the end of the instruction is at out + 4 + imm; the code's address goes with its place in memory */
        b4((uint32_t)(BESIDE - CODE + m->disp - (int32_t)((uintptr_t)(out + 4 + imm) & 0xfff)));
    } else if (m->kind == M_ABS) {
        b1(r | 4), b1(0x25), b4((uint32_t)m->disp);
    } else {
        bool d8 = m->disp >= -128 && m->disp < 128;

        if (m->kind == M_INDEX || (m->base & 7) == 4) {
            b1((d8 ? 0x44 : 0x84) | r);
            b1(m->kind == M_INDEX ? m->scale << 6 | (m->index & 7) << 3 | (m->base & 7) : 0x20 | (m->base & 7));
        } else {
            b1((d8 ? 0x40 : 0x80) | r | (m->base & 7));
        }
        if (d8)
            b1((uint8_t)m->disp);
        else
            b4((uint32_t)m->disp);
    }
}

static unsigned rex_bits(unsigned reg, const struct mem *m)
{
    return (reg & 8 ? 4 : 0) | (m->kind == M_INDEX && m->index & 8 ? 2 : 0) | (m->kind <= M_INDEX && m->base & 8 ? 1 : 0);
}

/* @size 1, 2, 4, 8; @pre: mandatory prefix, 0 none; @imm: bytes of immediate that the caller adds. */
static void op_mem(unsigned pre, unsigned size, unsigned map, unsigned opcode, unsigned reg, const struct mem *m, unsigned imm)
{
    if (m->a32)
        b1(0x67);
    if (pre)
        b1(pre);
    if (size == 2)
        b1(0x66);
    b1(0x40 | (size == 8 ? 8 : 0) | rex_bits(reg, m));
    if (map)
        b1(0x0f);
    if (map > 1)
        b1(map == 2 ? 0x38 : 0x3a);
    b1(opcode);
    modrm(reg, m, imm);
}

static void op_reg(unsigned pre, unsigned size, unsigned map, unsigned opcode, unsigned reg, unsigned rm)
{
    if (pre)
        b1(pre);
    if (size == 2)
        b1(0x66);
    b1(0x40 | (size == 8 ? 8 : 0) | (reg & 8 ? 4 : 0) | (rm & 8 ? 1 : 0));
    if (map)
        b1(0x0f);
    if (map > 1)
        b1(map == 2 ? 0x38 : 0x3a);
    b1(opcode);
    b1(0xc0 | (reg & 7) << 3 | (rm & 7));
}

static void vex(unsigned map, unsigned pp, unsigned l, unsigned w, unsigned opcode, unsigned reg, unsigned vvvv, const struct mem *m, unsigned imm)
{
    unsigned x = rex_bits(reg, m);

    if (m->a32)
        b1(0x67);
    b1(0xc4), b1((~x & 7) << 5 | map), b1(w << 7 | (~vvvv & 15) << 3 | l << 2 | pp), b1(opcode);
    modrm(reg, m, imm);
}

/* Flags that the manuals leave undefined are those of a comparison afterwards. */
static void defined(void) { op_reg(0, 8, 0, 0x39, value(), value()); }

static void imm_of(unsigned size)
{
    for (unsigned i = 0; i < (size > 4 ? 4 : size); i++)
        b1(below(4) ? (unsigned)rnd() : 0);
}

static void insn(void)
{
    static const uint8_t sizes[] = { 1, 2, 4, 8, 8, 4 };
    unsigned size = sizes[below(6)], w = size != 1, v = value();
    struct mem m = mem(1);

    switch (below(46)) {
    case 0: case 1: case 2: op_mem(0, size, 0, 0x8a | w, v, &m, 0); break;                    /* mov r, m */
    case 3: case 4: case 5: op_mem(0, size, 0, 0x88 | w, any(), &m, 0); break;                /* mov m, r */
    case 6: op_mem(0, size, 0, 0xc6 | w, 0, &m, size > 4 ? 4 : size), imm_of(size); break;    /* mov m, imm */
    case 7: case 8: op_mem(0, size, 0, below(8) << 3 | 2 | w, v, &m, 0); break;               /* alu r, m */
    case 9: case 10: op_mem(below(4) ? 0 : 0xf0, size, 0, below(7) << 3 | w, v, &m, 0); break; /* [lock] alu m, r */
    case 11: op_reg(0, size == 1 ? 4 : size, 0, below(8) << 3 | 1, value(), v); break;
    case 12: op_mem(0, size, 0, w ? 0x83 : 0x80, below(8), &m, 1), b1((unsigned)rnd()); break;
    case 13: op_mem(0, 8, 0, 0xff, 6, &m, 0); break;                                          /* push m */
    case 14: op_mem(0, 8, 0, 0x8f, 0, &m, 0); break;                                          /* pop m */
    case 15: case 16: v = any(), b1(0x40 | v >> 3), b1(0x50 | (v & 7)); break;                /* push r */
    case 17: case 18: b1(0x40 | v >> 3), b1(0x58 | (v & 7)); break;                           /* pop r */
    case 19: b1(0x68), b4((uint32_t)rnd()); break;
    case 20: case 21: op_reg(0, 8, 0, 0x83, 0, pointer()), b1((unsigned)near() & 0x7f); break; /* add pointer, small */
    case 22: op_reg(0, 8, 0, 0x83, 5, pointer()), b1((unsigned)near() & 0x3f); break;
    case 23: v = pointer(), m.kind %= 2, op_mem(0, 8, 0, 0x8d, v, &m, 0); break;             /* lea pointer */
    case 24: op_reg(0, 8, 0, 0x89, pointer(), pointer()); break;
    case 25: op_reg(0, 4, 0, 0x83, 0, R14), b1(below(64)), op_reg(0, 4, 0, 0x81, 4, R14), b4(0xfff); break; /* the index */
    case 26: op_mem(0, size, 0, 0x86 | w, v, &m, 0); break;                                   /* xchg */
    case 27: op_mem(below(2) ? 0 : 0xf0, size, 1, 0xb0 | w, v, &m, 0); break;                 /* cmpxchg */
    case 28: op_mem(below(2) ? 0 : 0xf0, size, 1, 0xc0 | w, v, &m, 0); break;                 /* xadd */
    case 29: op_mem(0, size == 1 ? 4 : size, 1, 0xb6 | (rnd() & 9), v, &m, 0); break;         /* movzx, movsx */
    case 30: op_mem(0, size, 0, 0xd2 | w, below(6), &m, 0), defined(); break;                 /* shift m, cl */
    case 31: op_reg(0, size == 1 ? 4 : size, 0, 0xc1, 4 | below(2), v), b1(1 + below(15)), defined(); break;
    case 32: op_mem(0, 1, 1, 0x90 | below(10), 0, &m, 0); break;                              /* setcc without parity, AF never counts */
    case 33: op_mem(0, size == 1 ? 8 : size, 1, 0x40 | below(10), v, &m, 0); break;           /* cmovcc */
    case 34: op_mem(below(2) ? 0 : 0xf0, size < 4 ? 4 : size, 1, 0xa3 | below(4) << 3, R14, &m, 0), defined(); break; /* bt m, r14 */
    case 35: op_mem(0, size, 0, 0xf6 | w, 2 + below(2), &m, 0); break;                        /* not, neg */
    case 36: op_mem(0, size, 0, 0xfe | w, below(2), &m, 0); break;                            /* inc, dec */
    case 37: op_mem(0, size == 1 ? 4 : size, 1, 0xaf, v, &m, 0), defined(); break;            /* imul r, m */
    case 38:                                                                                  /* movups, movdqu, movaps; paddd, pxor */
        switch (below(6)) {
        case 0: op_mem(0, 4, 1, 0x10 | below(2), below(4), &m, 0); break;
        case 1: op_mem(0xf3, 4, 1, below(2) ? 0x6f : 0x7f, below(4), &m, 0); break;
        case 2: m = mem(16), op_mem(0, 4, 1, 0x28 | below(2), below(4), &m, 0); break;
        case 3: m = mem(16), op_mem(0x66, 4, 1, below(2) ? 0xfe : 0xef, below(4), &m, 0); break;
        case 4: op_mem(0xf2, 4, 1, 0x10 | below(2), below(4), &m, 0); break;
        case 5: op_mem(0x66, below(2) ? 8 : 4, 1, below(2) ? 0x6e : 0x7e, below(4), &m, 0); break;
        }
        break;
    case 39:
        switch (below(5)) {
        case 0: vex(1, 2, below(2), 0, below(2) ? 0x6f : 0x7f, below(4), 0, &m, 0); break;    /* vmovdqu */
        case 1: vex(1, 1, below(2), 0, below(2) ? 0xfe : 0xef, below(4), below(4), &m, 0); break;
        case 2: m = mem(32), vex(1, 1, 1, 0, below(2) ? 0x6f : 0x7f, below(4), 0, &m, 0); break; /* vmovdqa */
        case 3: b1(0xc5), b1(0xf8), b1(0x77); break;                                          /* vzeroupper */
        case 4: vex(2, below(2) ? 3 : 2, 0, below(2), 0xf7, v, value(), &m, 0); break;        /* sarx, shrx */
        }
        break;
    case 40:                                                                                  /* x87 */
        switch (below(6)) {
        case 0: op_mem(0, 4, 0, 0xdd, 0, &m, 0); break;                                       /* fld m64 */
        case 1: op_mem(0, 4, 0, 0xdd, 3, &m, 0); break;                                       /* fstp m64 */
        case 2: op_mem(0, 4, 0, 0xdb, below(2) ? 5 : 7, &m, 0); break;                        /* fld, fstp m80 */
        case 3: b1(0xd9), b1(0xe8); break;                                                    /* fld1 */
        case 4: b1(0xd8), b1(0xc1); break;
        case 5: op_mem(0, 4, 0, 0xdf, 5, &m, 0); break;                                       /* fild m64 */
        }
        break;
    case 41:
        if (below(2)) {                                                                       /* rep movs, stos, of not much */
            b1(0xb9), b4(below(40));
            b1(0xf3);
            if (size == 2)
                b1(0x66);
            b1(size == 8 ? 0x48 : 0x40), b1((below(2) ? 0xa4 : 0xaa) | w);
        } else {
            b1(size == 8 ? 0x48 : 0x40), b1((below(2) ? 0xa4 : 0xaa) | w);
        }
        break;
    case 42: defined(), b1(0x9c); break;                                                      /* pushf */
    case 43:
        if (user)
            b1(0xc9);                                                                         /* leave */
        else
            b1(0x0f), b1(0x01), b1(0xca | below(2));                                          /* clac, stac */
        break;
    case 44: m = mem(below(2) ? 16 : 1), op_mem(below(2) ? 0 : 0xf0, below(2) ? 8 : 4, 1, 0xc7, 1, &m, 0); break; /* cmpxchg8b, 16b */
    case 45: op_mem(0, size == 1 ? 8 : size, 2, 0xf0 | below(2), v, &m, 0); break;            /* movbe */
    }
}

/* ---- a case ---- */

static uint64_t start[16];
static unsigned turns;
static bool inside; /* the block comes back to its beginning by itself */
static uint8_t block[4096];
static unsigned block_at, block_len;

/* At the same place in a page as in the guest's: RIP-relative operands are made from that. */
static uint8_t page_[2 * 4096] __attribute__((aligned(4096)));

static void set_registers(void)
{
    for (unsigned i = 0; i < sizeof pointers; i++) {
        unsigned g = pointers[i];

        b1(0x40 | g >> 3), b1(0xb8 | (g & 7)), b4((uint32_t)start[g]);
    }
    b1(0xbc), b4(STACK + STACK_PAGES * 2048 + (start[R14] & 0xff8)); /* mov esp, ... */
}

static unsigned resume_at;

static void make(void)
{
    unsigned n = 1 + below(12), top;

    for (unsigned g = 0; g < 16; g++)
        start[g] = rnd() >> below(64);
    for (unsigned i = 0; i < sizeof pointers; i++)
        start[pointers[i]] = DATA + below(DATA_PAGES) * 4096 + (below(3) ? 4096 - 1 - below(40) : below(4096)) + 0ull;
    start[R14] = below(4096);
    turns = (const unsigned[]){ 1, 3, 40, 700, 700, 20000 }[below(6)];
    inside = below(2);
    memset(page_, 0xcc, sizeof page_);
    block_at = below(2048);
    out = page_ + block_at;
    for (unsigned i = 0; i < n; i++) {
        if (!below(8)) { /* a branch over the next one */
            uint8_t *at = out;

            b1(0x70 | below(10)), b1(0);
            insn();
            at[1] = (uint8_t)(out - at - 2);
        } else {
            insn();
        }
    }
    top = inside ? block_at : 0;
    b1(0x41), b1(0xff), b1(0xcf); /* dec r15d */
    if (inside) {
        b1(0x0f), b1(0x85), b4((uint32_t)((int)top - (int)(out + 4 - page_)));
        b1(0xe9), b4(0); /* to main, put in by setup: the two copies have other ways */
    } else {
        b1(0xe9), b4(0);
    }
    block_len = (unsigned)(out - page_) - block_at;
    memcpy(block, page_ + block_at, block_len);
}

static void pte(uint8_t *ram, uint64_t lin, uint64_t phys, unsigned flags)
{
    unsigned part = (lin >> 24) - (DATA >> 24); /* 16 MB each; of that the first 2 */
    uint64_t *pd = (uint64_t *)(ram + PD), *pt = (uint64_t *)(ram + PT + 4096 * (part > 8 ? part - 8 : part));

    pd[lin >> 21] = (uint64_t)((uint8_t *)pt - ram) | 7;
    pt[lin >> 12 & 511] = phys | flags;
}

static void setup(struct harness *h, const struct hv_vp_state *power_on, uint64_t seed)
{
    uint8_t *ram = h->ram, map[PAGES];
    unsigned np = 0, us = user ? 4 : 0;
    struct hv_vp_state s;

    memset(ram, 0, 2 << 20); /* of earlier blocks some ran on one machine only */
    hv_vp_set_state(h->p, 0, power_on);
    harness_long_mode(h, 0, user ? 3 : 0);
    hv_vp_get_state(h->p, 0, &s);
    for (unsigned i = 0; i < PAGES * 4096; i += 8)
        memcpy(ram + POOL + i, &(uint64_t){ (i + seed) * 0x9e3779b97f4a7c15ull }, 8);
    for (unsigned i = 0; i < PAGES; i++)
        map[i] = (uint8_t)i;
    for (unsigned i = PAGES; i-- > 1;) {
        unsigned k = below(i + 1), t = map[i];

        map[i] = map[k], map[k] = (uint8_t)t;
    }
    ((uint64_t *)(ram + PML4))[0] = PDPT | 7;
    ((uint64_t *)(ram + PDPT))[0] = PD | 7;
    ((uint64_t *)(ram + PD))[0] = 0x83 | us; /* tables, handlers and main */
    for (unsigned i = 0; i < DATA_PAGES; i++) {
        uint64_t phys = POOL + map[np++] * 4096u;
        unsigned f = 3 | us, k = below(24);

        if (k == 0)
            f = 0;
        else if (k == 1)
            f &= ~2u;
        else if (k == 2)
            f ^= 4;
        else if (k == 3)
            phys = NO_RAM + i * 4096u;
        pte(ram, DATA + i * 4096u, i == code_in_data ? CODE_PHYS : phys, f);
    }
    for (unsigned i = 0; i < STACK_PAGES; i++)
        pte(ram, STACK + i * 4096u, POOL + map[np++] * 4096u, 3 | us);
    for (unsigned a = 0; a < 2; a++) {
        pte(ram, CODE + a * (uint64_t)AWAY, CODE_PHYS, 3 | us);
        for (unsigned i = 0; i < BESIDE_PAGES; i++)
            pte(ram, BESIDE + a * (uint64_t)AWAY + i * 4096u, POOL + map[np++] * 4096u, 3 | us);
    }
    memset(ram + CODE_PHYS, 0xcc, 4096);
    memcpy(ram + CODE_PHYS + block_at, block, block_len);

    /* main: r15 := turns; the block; when r15 is 0 that of the other address; the end.  The way back is by an absolute address. */
    uint8_t *p = ram + CODE_PHYS + block_at + block_len - 5;

    memcpy(p, (const uint8_t[]){ 0xff, 0x24, 0x25, SUM & 0xff, SUM >> 8 & 0xff, 0, 0 }, 7); /* jmp [SUM] */
    *(uint64_t *)(ram + SUM) = MAIN;
    out = ram + MAIN;
    b1(0x45), b1(0x85), b1(0xff);                                   /* test r15d, r15d */
    b1(0x74), b1(7);
    b1(0xff), b1(0x24), b1(0x25), b4(SUM + 8);                      /* jmp [SUM + 8] */
    *(uint64_t *)(ram + SUM + 8) = CODE + block_at;
    b1(0x80), b1(0x3c), b1(0x25), b4(SUM + 16), b1(1);              /* cmp byte [SUM + 16], 1 */
    b1(0x74), b1(27);
    b1(0xc6), b1(0x04), b1(0x25), b4(SUM + 16), b1(1);              /* mov byte [SUM + 16], 1 */
    b1(0x81), b1(0x04), b1(0x25), b4(SUM + 8), b4(AWAY);            /* add dword [SUM + 8], AWAY */
    b1(0x41), b1(0xbf), b4(turns);                                  /* mov r15d, turns */
    b1(0xeb), b1((unsigned)(ram + MAIN - (out + 1)) & 0xff);
    b1(0xe7), b1(0xf4);                                             /* out 0xf4, eax */
    b1(0xeb), b1(0xfe);
    resume_at = (unsigned)(out - ram);
    set_registers();
    b1(0x41), b1(0xff), b1(0xcf);                                   /* dec r15d */
    b1(0x79), b1(3);                                                /* jns */
    b1(0x45), b1(0x31), b1(0xff);                                   /* xor r15d, r15d */
    b1(0xe9), b4((uint32_t)(MAIN - (int)(out + 4 - ram)));

    for (unsigned v = 0; v < 32; v++) {
        uint64_t *gate = (uint64_t *)(ram + IDT + 16 * v), at = HANDLERS + 64 * v;

        gate[0] = (at & 0xffff) | 8ull << 16 | 0x8e01ull << 32;
        gate[1] = 0;
        out = ram + at;
        if (v == 8 || (v >= 10 && v <= 14) || v == 17)
            b1(0x48), b1(0x83), b1(0xc4), b1(8);                    /* add rsp, 8 */
        b1(0x50);                                                   /* push rax */
        b1(0x48), b1(0x8b), b1(0x44), b1(0x24), b1(8);              /* mov rax, [rsp + 8] */
        b1(0x48), b1(0x01), b1(0x04), b1(0x25), b4(SUM + 24);       /* add [SUM + 24], rax */
        b1(0x48), b1(0x83), b1(0x04), b1(0x25), b4(SUM + 32 + 8 * v), b1(1); /* add qword [...], 1 */
        b1(0x58);
        b1(0x48), b1(0xc7), b1(0x04), b1(0x24), b4(resume_at);      /* mov qword [rsp], resume */
        b1(0x81), b1(0x64), b1(0x24), b1(16), b4(~(uint32_t)(AF | DF)); /* and dword [rsp + 16], ... */
        b1(0x48), b1(0xcf);                                         /* iretq */
    }
    *(uint64_t *)(ram + TSS + 4) = *(uint64_t *)(ram + TSS + 36) = FAULT_STACK;
    s.tr = (struct hv_segment){ .base = TSS, .limit = 103, .selector = 0x28, .attr = 0x8b };
    s.idtr_base = IDT;
    s.idtr_limit = 32 * 16 - 1;
    s.cr3 = PML4;
    if (!user)
        s.cr4 |= 1u << 21;
    memcpy(s.gpr, start, sizeof start);
    s.gpr[RSP] = STACK + STACK_PAGES * 2048 + (start[R14] & 0xff8);
    s.gpr[R15] = turns;
    s.rip = MAIN;
    s.xsave[0] = 0x7f, s.xsave[1] = 3;
    s.xsave[24] = 0x80, s.xsave[25] = 0x1f;
    s.xsave[512] = 3;
    hv_gpa_dirty(h->p, 0, HARNESS_RAM);
    if (hv_vp_set_state(h->p, 0, &s)) {
        fprintf(stderr, "blocks_fuzz: %s\n", hv_last_error());
        exit(2);
    }
}

/* ---- comparison ---- */

static unsigned differences;

static const char *compared; /* with the interpreter */

static bool differ(const char *what, uint64_t seed, uint64_t a, uint64_t b)
{
    if (differences < 20) {
        printf("seed %llu: %s: interpreter %llx, %s %llx\n  ring %u, %u turns, inside %u, block at %x:", (unsigned long long)seed, what,
               (unsigned long long)a, compared, (unsigned long long)b, user ? 3 : 0, turns, inside, block_at);
        for (unsigned i = 0; i < block_len; i++)
            printf(" %02x", block[i]);
        printf("\n");
        fflush(stdout);
    }
    differences++;
    return true;
}

static bool compare(struct harness *i, struct harness *j, uint64_t seed)
{
    static const struct { unsigned at, len; const char *what; } xs[] = {
        { 0, 5, "x87 state" }, { 24, 4, "MXCSR" }, { 32, 128, "ST" }, { 160, 256, "XMM" }, { 576, 256, "upper halves" } };
    static struct hv_vp_state a, b;

    hv_vp_get_state(i->p, 0, &a);
    hv_vp_get_state(j->p, 0, &b);
    for (unsigned v = 0; v < 32; v++)
        if (memcmp(i->ram + SUM + 32 + 8 * v, j->ram + SUM + 32 + 8 * v, 8))
            return differ("exceptions", seed, *(uint64_t *)(i->ram + SUM + 32 + 8 * v), *(uint64_t *)(j->ram + SUM + 32 + 8 * v));
    if (memcmp(i->ram + SUM, j->ram + SUM, 32))
        return differ("where exceptions were", seed, *(uint64_t *)(i->ram + SUM + 24), *(uint64_t *)(j->ram + SUM + 24));
    for (unsigned g = 0; g < 16; g++)
        if (a.gpr[g] != b.gpr[g])
            return differ("register", seed, a.gpr[g], b.gpr[g]);
    if ((a.rflags ^ b.rflags) & ~(uint64_t)AF)
        return differ("flags", seed, a.rflags, b.rflags);
    if (a.cr2 != b.cr2)
        return differ("CR2", seed, a.cr2, b.cr2);
    for (unsigned k = 0; k < sizeof xs / sizeof xs[0]; k++)
        for (unsigned n = 0; n < xs[k].len; n++)
            if (a.xsave[xs[k].at + n] != b.xsave[xs[k].at + n])
                return differ(xs[k].what, seed, a.xsave[xs[k].at + n], b.xsave[xs[k].at + n]);
    if (memcmp(i->ram + POOL, j->ram + POOL, PAGES * 4096)) {
        unsigned k = POOL;

        while (i->ram[k] == j->ram[k])
            k++;
        return differ("memory", seed, i->ram[k], j->ram[k]);
    }
    if (memcmp(i->ram + CODE_PHYS, j->ram + CODE_PHYS, 4096))
        return differ("code", seed, 0, 0);
    return false;
}

enum { INTERPRETER, TRANSLATOR, EXACT, MACHINES };

int main(int argc, char **argv)
{
    static const char *const names[MACHINES] = { "interpreter", "translator", "translator with exact flags" };
    unsigned runs = argc > 1 ? (unsigned)atoi(argv[1]) : 500, ended = 0;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, exceptions = 0;
    struct hv_vp_state power_on[MACHINES];
    struct harness h[MACHINES];

    setenv("MOBO_JIT_NATIVE", "no", 0);
    harness_needs("jit");
    for (unsigned k = 0; k < MACHINES; k++) {
        if (k == EXACT)
            setenv("MOBO_JIT_EXACT", "slots", 1);
        if (harness_open(&h[k], k ? "jit" : "interp", 1)) {
            fprintf(stderr, "blocks_fuzz: %s\n", hv_last_error());
            return 2;
        }
        hv_vp_get_state(h[k].p, 0, &power_on[k]);
    }
    for (unsigned i = 0; i < runs; i++) {
        bool all = true;
        uint64_t at;
        struct hv_exit e;

        rng = (seed + i) * 0x9e3779b97f4a7c15ull | 1;
        rnd();
        user = below(2);
        code_in_data = below(8) ? DATA_PAGES : below(DATA_PAGES);
        make();
        at = rng;
        for (unsigned k = 0; k < MACHINES; k++) {
            if (k == TRANSLATOR && code_in_data < DATA_PAGES)
                continue;
            rng = at;
            setup(&h[k], &power_on[k], seed + i);
            compared = names[k];
            if (harness_run(&h[k], 5000, &e) != HV_EXIT_CANCELED || !h[k].exited)
                all = false;
            if (k && h[k].exited != h[INTERPRETER].exited)
                differ("end", seed + i, h[INTERPRETER].exited, h[k].exited);
            else if (k && all)
                compare(&h[INTERPRETER], &h[k], seed + i);
        }
        if (!all) /* code that was written over */
            continue;
        ended++;
        for (unsigned v = 0; v < 32; v++)
            exceptions += *(uint64_t *)(h[INTERPRETER].ram + SUM + 32 + 8 * v);
    }
    printf("blocks_fuzz: %u blocks, %u ended, %llu exceptions, %u differ\n", runs, ended, (unsigned long long)exceptions, differences);
    for (unsigned k = 0; k < MACHINES; k++)
        harness_close(&h[k]);
    return differences || ended < runs / 2;
}
