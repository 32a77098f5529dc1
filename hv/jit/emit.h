/* SPDX-License-Identifier: BSD-2-Clause */
/* Host code bytes: instruction encoder of the translator.
 *
 * Reference: Intel SDM volume 2A chapter 2.  Only 64-bit mode code is made. */
#ifndef MOBO_HV_JIT_EMIT_H
#define MOBO_HV_JIT_EMIT_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15, NOREG = 0xff };

/* Condition codes of Jcc. */
enum { CC_B = 2, CC_AE = 3, CC_E = 4, CC_NE = 5, CC_BE = 6, CC_A = 7, CC_S = 8 };

/* A register or a memory operand. */
struct hop {
    bool mem;
    uint8_t reg;            /* register form */
    uint8_t base, index;    /* NOREG: none */
    uint8_t scale;          /* shift */
    int32_t disp;
    bool last;              /* no immediate follows */
};

static inline struct hop h_reg(unsigned r) { return (struct hop){ .reg = (uint8_t)r }; }
static inline struct hop h_mem(unsigned base, int32_t disp)
{
    return (struct hop){ .mem = true, .base = (uint8_t)base, .index = NOREG, .disp = disp };
}
static inline struct hop h_sib(unsigned base, unsigned index, unsigned scale, int32_t disp)
{
    return (struct hop){ .mem = true, .base = (uint8_t)base, .index = (uint8_t)index, .scale = (uint8_t)scale, .disp = disp };
}
/* Absolute address: below 2 GB, or whatever it is where it is encoded relative to RIP and not further away than that. */
static inline struct hop h_abs(const volatile void *p)
{
    return (struct hop){ .mem = true, .base = NOREG, .index = NOREG, .disp = (int32_t)(uintptr_t)p };
}

struct emit {
    uint8_t *p;             /* writable view */
    bool by_rip;            /* absolute addresses may be encoded relative to RIP, which is a byte shorter: */
    uint32_t rip;           /* that of the executable view - p */
};

static inline void e1(struct emit *e, unsigned v) { *e->p++ = (uint8_t)v; }
static inline void e2(struct emit *e, unsigned v) { uint16_t w = (uint16_t)v; memcpy(e->p, &w, 2); e->p += 2; }
static inline void e4(struct emit *e, uint32_t v) { memcpy(e->p, &v, 4); e->p += 4; }
static inline void e8b(struct emit *e, uint64_t v) { memcpy(e->p, &v, 8); e->p += 8; }

static inline bool fits8(int64_t v) { return v == (int8_t)v; }
static inline bool fits32(int64_t v) { return v == (int32_t)v; }

/* ModRM, SIB and displacement. */
static inline void e_modrm(struct emit *e, unsigned reg, const struct hop *m)
{
    unsigned r = (reg & 7) << 3;

    if (!m->mem) {
        e1(e, 0xc0 | r | (m->reg & 7));
    } else if (m->base == NOREG && m->index == NOREG && m->last && e->by_rip) {
        e1(e, r | 5);
        e4(e, (uint32_t)m->disp - ((uint32_t)(uintptr_t)e->p + 4 + e->rip));
    } else if (m->base == NOREG && m->index == NOREG) {
        e1(e, r | 4);
        e1(e, 0x25);
        e4(e, (uint32_t)m->disp);
    } else if (m->base == NOREG) {
        e1(e, r | 4);
        e1(e, (unsigned)m->scale << 6 | (m->index & 7) << 3 | 5);
        e4(e, (uint32_t)m->disp);
    } else {
        unsigned mod = m->disp == 0 && (m->base & 7) != 5 ? 0 : fits8(m->disp) ? 0x40 : 0x80;

        if (m->index != NOREG || (m->base & 7) == 4) {
            e1(e, mod | r | 4);
            e1(e, (unsigned)m->scale << 6 | (m->index == NOREG ? 4 : m->index & 7) << 3 | (m->base & 7));
        } else {
            e1(e, mod | r | (m->base & 7));
        }
        if (mod == 0x40)
            e1(e, (uint8_t)m->disp);
        else if (mod == 0x80)
            e4(e, (uint32_t)m->disp);
    }
}

static inline unsigned e_rxb(unsigned reg, const struct hop *m)
{
    unsigned x = reg & 8 ? 4 : 0;

    if (!m->mem)
        return x | (m->reg & 8 ? 1 : 0);
    return x | (m->index != NOREG && (m->index & 8) ? 2 : 0) | (m->base != NOREG && (m->base & 8) ? 1 : 0);
}

enum { E_W = 1, E_66 = 2, E_F3 = 4, E_F2 = 8, E_LOCK = 16, E_BYTE_REG = 32, E_BYTE_RM = 64, E_FS = 128 };

/* Any legacy-encoded instruction.  E_BYTE_*: the register there is a byte register (spl and others need REX). */
static inline void e_op(struct emit *e, unsigned fl, unsigned map, unsigned opcode, unsigned reg, const struct hop *m)
{
    unsigned rex = e_rxb(reg, m) | (fl & E_W ? 8 : 0);

    if (fl & E_LOCK)
        e1(e, 0xf0);
    if (fl & E_66)
        e1(e, 0x66);
    if (fl & E_F3)
        e1(e, 0xf3);
    if (fl & E_F2)
        e1(e, 0xf2);
    if (((fl & E_BYTE_REG) && reg >= 4) || ((fl & E_BYTE_RM) && !m->mem && m->reg >= 4))
        rex |= 0x40;
    if (rex)
        e1(e, 0x40 | rex);
    if (map) {
        e1(e, 0x0f);
        if (map == 2)
            e1(e, 0x38);
        else if (map == 3)
            e1(e, 0x3a);
    }
    e1(e, opcode);
    e_modrm(e, reg, m);
}

static inline void e_vex(struct emit *e, unsigned w, unsigned pp, unsigned l, unsigned map, unsigned opcode,
                         unsigned reg, unsigned vvvv, const struct hop *m)
{
    unsigned rxb = e_rxb(reg, m);

    if (map == 1 && !w && !(rxb & 3)) {
        e1(e, 0xc5);
        e1(e, (~rxb & 4) << 5 | (~vvvv & 15) << 3 | l << 2 | pp);
    } else {
        e1(e, 0xc4);
        e1(e, (~rxb & 7) << 5 | map);
        e1(e, w << 7 | (~vvvv & 15) << 3 | l << 2 | pp);
    }
    e1(e, opcode);
    e_modrm(e, reg, m);
}

/* ---- what the translator's own sequences use ---- */

/* An instruction without an immediate. */
static inline void e_op_last(struct emit *e, unsigned fl, unsigned map, unsigned opcode, unsigned reg, struct hop m)
{
    m.last = true;
    e_op(e, fl, map, opcode, reg, &m);
}

static inline void e_mov_load(struct emit *e, unsigned r, struct hop m) { e_op_last(e, E_W, 0, 0x8b, r, m); }
static inline void e_mov_load32(struct emit *e, unsigned r, struct hop m) { e_op_last(e, 0, 0, 0x8b, r, m); }
static inline void e_mov_store(struct emit *e, struct hop m, unsigned r) { e_op_last(e, E_W, 0, 0x89, r, m); }
static inline void e_mov_store32(struct emit *e, struct hop m, unsigned r) { e_op_last(e, 0, 0, 0x89, r, m); }
static inline void e_mov_rr(struct emit *e, unsigned d, unsigned s)
{
    struct hop m = h_reg(s);

    if (d != s)
        e_op(e, E_W, 0, 0x8b, d, &m);
}
static inline void e_mov_rr32(struct emit *e, unsigned d, unsigned s)
{
    struct hop m = h_reg(s);

    e_op(e, 0, 0, 0x8b, d, &m);
}
static inline void e_lea(struct emit *e, unsigned r, struct hop m) { e_op(e, E_W, 0, 0x8d, r, &m); }
static inline void e_lea32(struct emit *e, unsigned r, struct hop m) { e_op(e, 0, 0, 0x8d, r, &m); }
static inline void e_mov_imm(struct emit *e, unsigned r, uint64_t v)
{
    if (v == (uint32_t)v) {
        if (r & 8)
            e1(e, 0x41);
        e1(e, 0xb8 | (r & 7));
        e4(e, (uint32_t)v);
    } else if (fits32((int64_t)v)) {
        e1(e, 0x48 | (r & 8 ? 1 : 0));
        e1(e, 0xc7);
        e1(e, 0xc0 | (r & 7));
        e4(e, (uint32_t)v);
    } else {
        e1(e, 0x48 | (r & 8 ? 1 : 0));
        e1(e, 0xb8 | (r & 7));
        e8b(e, v);
    }
}
/* rorx d, s, n: a rotate that keeps flags (BMI2). */
static inline void e_rorx(struct emit *e, unsigned d, unsigned s, unsigned n)
{
    struct hop m = h_reg(s);

    e_vex(e, 1, 3, 0, 3, 0xf0, d, 0, &m);
    e1(e, n);
}
/* pext d, s, m */
static inline void e_pext(struct emit *e, unsigned d, unsigned s, struct hop m)
{
    m.last = true;
    e_vex(e, 1, 2, 0, 2, 0xf5, d, s, &m);
}
static inline void e_alu_imm(struct emit *e, unsigned w, unsigned row, struct hop m, int32_t imm)
{
    bool b = fits8(imm);

    e_op(e, w ? E_W : 0, 0, b ? 0x83 : 0x81, row, &m);
    if (b)
        e1(e, (uint8_t)imm);
    else
        e4(e, (uint32_t)imm);
}
static inline void e_alu_load(struct emit *e, unsigned w, unsigned row, unsigned r, struct hop m)
{
    e_op_last(e, w ? E_W : 0, 0, row << 3 | 3, r, m);
}
/* Jumps: @return the place of the rel32, to be bound later. */
static inline uint8_t *e_jcc(struct emit *e, unsigned cc) { e1(e, 0x0f); e1(e, 0x80 | cc); e4(e, 0); return e->p - 4; }
static inline uint8_t *e_jmp(struct emit *e) { e1(e, 0xe9); e4(e, 0); return e->p - 4; }
static inline uint8_t *e_call(struct emit *e) { e1(e, 0xe8); e4(e, 0); return e->p - 4; }
static inline void e_bind(uint8_t *rel, const uint8_t *to) { int32_t d = (int32_t)(to - (rel + 4)); memcpy(rel, &d, 4); }
/* Short forms within a sequence. */
static inline uint8_t *e_jcc8(struct emit *e, unsigned cc) { e1(e, 0x70 | cc); e1(e, 0); return e->p - 1; }
static inline uint8_t *e_jrcxz(struct emit *e) { e1(e, 0xe3); e1(e, 0); return e->p - 1; }
static inline uint8_t *e_jmp8(struct emit *e) { e1(e, 0xeb); e1(e, 0); return e->p - 1; }
static inline void e_bind8(struct emit *e, uint8_t *rel) { *rel = (uint8_t)(e->p - (rel + 1)); }

#endif
