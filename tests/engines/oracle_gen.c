/* SPDX-License-Identifier: BSD-2-Clause */
/* Generator of random instruction sequences.
 *
 * The list of rows (prefix kind, map, mandatory prefix, opcode, VEX.L, VEX.W) is found by asking the decoder
 * about every combination, so nothing that it accepts is left out but for the operations refused in
 * usable(), which cannot be compared with a user process.  A row is picked with equal probability, then
 * everything else of the encoding is random.  Instructions with memory operands are preceded by moves
 * that make the address fall into the window nearly always; some operations need further preparation. */
#include "tests/engines/oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct row {
    uint8_t vex, map, pp, opcode, l, w;
    uint8_t modes;
    uint64_t count;
};
enum { MAX_ROWS = 8192 };

static struct row *rows;
static unsigned nrows, nx87;
static struct or_gen_options opts;

enum { CF = 1, PF = 4, AF = 16, ZF = 64, SF = 128, OF = 0x800, ALL = CF | PF | AF | ZF | SF | OF };

/* Flags that the manuals (SDM 2, "Flags Affected") leave undefined. */
static uint32_t undefined_flags(const struct x86_insn *in)
{
    bool one = in->nops > 1 && in->o[1].kind == X86_O_IMM && in->imm == 1;

    switch (in->op) {
    case X86_OP_AND:
    case X86_OP_OR:
    case X86_OP_XOR:
    case X86_OP_TEST: return AF;
    case X86_OP_MUL:
    case X86_OP_IMUL1:
    case X86_OP_IMUL2:
    case X86_OP_IMUL3: return SF | ZF | AF | PF;
    case X86_OP_DIV:
    case X86_OP_IDIV: return ALL;
    case X86_OP_SHL:
    case X86_OP_SHR: return AF | (one ? 0 : OF | CF); /* CF: count beyond the size */
    case X86_OP_SAR: return AF | (one ? 0 : OF);
    case X86_OP_ROL:
    case X86_OP_ROR:
    case X86_OP_RCL:
    case X86_OP_RCR: return one ? 0 : OF;
    case X86_OP_SHLD:
    case X86_OP_SHRD: return in->osize == 2 ? ALL : AF | OF;
    case X86_OP_BT:
    case X86_OP_BTS:
    case X86_OP_BTR:
    case X86_OP_BTC: return OF | SF | AF | PF;
    case X86_OP_BSF:
    case X86_OP_BSR: return ALL & ~ZF;
    case X86_OP_LZCNT:
    case X86_OP_TZCNT: return OF | SF | PF | AF;
    case X86_OP_BEXTR: return AF | SF | PF;
    case X86_OP_ANDN:
    case X86_OP_BLSI:
    case X86_OP_BLSMSK:
    case X86_OP_BLSR:
    case X86_OP_BZHI: return AF | PF;
    case X86_OP_DAA:
    case X86_OP_DAS: return OF;
    case X86_OP_AAA:
    case X86_OP_AAS: return OF | SF | ZF | PF;
    case X86_OP_AAM:
    case X86_OP_AAD: return OF | AF | CF;
    }
    return 0;
}

/* What cannot be compared natively: depends on the machine, leaves user mode, or is another kernel's affair. */
static bool usable(const struct x86_insn *in)
{
    if (opts.no_selectors && (in->op == X86_OP_PUSH_SREG || (in->nops > 1 && in->o[1].kind == X86_O_SREG)))
        return false;
    switch (in->op) {
    case X86_OP_INVALID:
    case X86_OP_UD0:
    case X86_OP_UD1:
    case X86_OP_UD2:
    case X86_OP_INT:
    case X86_OP_INT1:
    case X86_OP_INT3:
    case X86_OP_INTO:
    case X86_OP_IRET:
    case X86_OP_SYSCALL:
    case X86_OP_SYSRET:
    case X86_OP_SYSENTER:
    case X86_OP_SYSEXIT:
    case X86_OP_RSM:
    case X86_OP_VMCALL:
    case X86_OP_VMMCALL:
    case X86_OP_RET_FAR:
    case X86_OP_CALL_FAR:
    case X86_OP_CALL_FARM:
    case X86_OP_JMP_FAR:
    case X86_OP_JMP_FARM:
    case X86_OP_RDTSC:
    case X86_OP_RDTSCP:
    case X86_OP_RDPMC:
    case X86_OP_RDRAND:
    case X86_OP_RDSEED:
    case X86_OP_CPUID:
    case X86_OP_RDPID:
    case X86_OP_XGETBV:
    case X86_OP_MOV_SREG:
    case X86_OP_POP_SREG:
    case X86_OP_LES:
    case X86_OP_LDS:
    case X86_OP_LSS:
    case X86_OP_LFS:
    case X86_OP_LGS:
    case X86_OP_LAR:
    case X86_OP_LSL:
    case X86_OP_VERR:
    case X86_OP_VERW:
    case X86_OP_SLDT:
    case X86_OP_STR:
    case X86_OP_SMSW:
    case X86_OP_SGDT:
    case X86_OP_SIDT:
    case X86_OP_WRFSBASE:
    case X86_OP_WRGSBASE:
    case X86_OP_RDFSBASE:
    case X86_OP_XSAVES:
    case X86_OP_XRSTORS:
    case X86_OP_MONITOR:
    case X86_OP_MWAIT: return false;
    case X86_OP_JCC:
    case X86_OP_JCXZ:
    case X86_OP_LOOP:
    case X86_OP_LOOPE:
    case X86_OP_LOOPNE:
    case X86_OP_JMP_NEAR:
    case X86_OP_CALL_NEAR:
    case X86_OP_JMP_IND:
    case X86_OP_CALL_IND:
    case X86_OP_RET_NEAR:
        /* a 16-bit branch target leaves the code page (and in 64-bit mode Intel and AMD differ) */
        if ((in->op == X86_OP_LOOPE || in->op == X86_OP_LOOPNE) && in->rep)
            return false; /* some AMD processors take F3 and F2 for the condition */
        return in->osize != 2 || in->mode == X86_MODE_16;
    }
    if (in->feature && !opts.feature(in->feature))
        return false;
    if (opts.only && strcmp(opts.only, x86_op_name(in->op)))
        return false;
    return true;
}

/* ---- encoding --------------------------------------------------------------------------------------------------- */

/* Prefixes and opcode of a row, without ModRM; @return length. */
static unsigned encode_head(uint8_t *b, const struct row *r, unsigned rex, unsigned vvvv,
                            bool short_vex)
{
    static const uint8_t prefix[4] = { 0, 0x66, 0xf3, 0xf2 };
    unsigned n = 0;

    if (r->vex) {
        if (short_vex && r->map == 1 && !r->w && !(rex & 3)) {
            b[n++] = 0xc5;
            b[n++] = (uint8_t)((rex & 4 ? 0 : 0x80) | (~vvvv & 15) << 3 | r->l << 2 | r->pp);
        } else {
            b[n++] = 0xc4;
            b[n++] = (uint8_t)((~rex & 7) << 5 | r->map);
            b[n++] = (uint8_t)(r->w << 7 | (~vvvv & 15) << 3 | r->l << 2 | r->pp);
        }
    } else {
        if (r->pp)
            b[n++] = prefix[r->pp];
        if (rex)
            b[n++] = (uint8_t)(0x40 | rex);
        if (r->map)
            b[n++] = 0x0f;
        if (r->map > 1)
            b[n++] = r->map == 2 ? 0x38 : 0x3a;
    }
    b[n++] = r->opcode;
    return n;
}

static bool row_works(const struct row *r, enum x86_mode mode)
{
    bool m32 = mode != X86_MODE_64;
    uint8_t b[16];
    struct x86_insn in;

    for (unsigned k = 0; k < 2; k++)
        for (unsigned modrm = 0; modrm < 256; modrm++) {
            unsigned n = encode_head(b, r, 0, k && !m32 ? 3 : 0, false);

            b[n++] = (uint8_t)modrm;
            memset(b + n, 0x11, sizeof b - n);
            if (x86_decode(b, 15, mode, &in) <= 0 || in.map != r->map || in.opcode != r->opcode ||
                (in.vex != 0) != r->vex)
                continue;
            if (usable(&in))
                return true;
        }
    return false;
}

void or_gen_init(const struct or_gen_options *opt)
{
    struct row r;

    opts = *opt;
    rows = calloc(MAX_ROWS, sizeof *rows);
    for (unsigned vex = 0; vex < 2; vex++)
        for (unsigned map = vex; map < 4; map++)
            for (unsigned opcode = 0; opcode < 256; opcode++)
                for (unsigned pp = 0; pp < 4; pp++)
                    for (unsigned lw = 0; lw < (vex ? 4u : 1u); lw++) {
                        if (!vex && !map &&
                            (opcode == 0xc4 || opcode == 0xc5 || opcode == 0x62 || opcode == 0x0f ||
                             (opcode >= 0x40 && opcode < 0x50 && opts.row == -2)))
                            continue;
                        r = (struct row){
                            (uint8_t)vex,      (uint8_t)map,       (uint8_t)pp, (uint8_t)opcode,
                            (uint8_t)(lw & 1), (uint8_t)(lw >> 1), 0,           0
                        };
                        if (!(!vex && !map && opcode >= 0x40 && opcode < 0x50) &&
                            row_works(&r, X86_MODE_64))
                            r.modes |= X86_MODE_64;
                        r.modes |= row_works(&r, X86_MODE_32) ? X86_MODE_32 : 0;
                        r.modes |= row_works(&r, X86_MODE_16) ? X86_MODE_16 : 0;
                        r.modes &= (uint8_t)opts.modes;
                        if (r.modes && nrows < MAX_ROWS)
                            rows[nrows++] = r;
                    }
    for (unsigned i = 0; i < nrows; i++)
        nx87 += !rows[i].vex && !rows[i].map && rows[i].opcode >= 0xd8 && rows[i].opcode < 0xe0;
}

unsigned or_gen_modes(void)
{
    unsigned modes = 0;

    for (unsigned i = 0; i < nrows; i++)
        if (opts.row < 0 || i == (unsigned)opts.row % nrows)
            modes |= rows[i].modes;
    return modes;
}

unsigned or_gen_rows(void)
{
    return nrows;
}
uint64_t or_gen_row_count(unsigned row)
{
    return rows[row].count;
}

void or_gen_row_text(unsigned row, char *buf, unsigned len)
{
    static const char *const pp[] = { "", "66 ", "f3 ", "f2 " }, *const map[] = { "", "0f ",
                                                                                  "0f38 ",
                                                                                  "0f3a " };
    const struct row *r = &rows[row];

    snprintf(buf, len, "%s%s%s%02x%s", r->vex ? r->l ? "vex.256." : "vex.128." : "", pp[r->pp],
             map[r->map], r->opcode, r->w ? " w1" : "");
}

/* ---- values ------------------------------------------------------------------------------------------------------- */

static uint64_t value(struct or_rng *r)
{
    static const uint64_t edge[] = { 0,
                                     1,
                                     2,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     ~0ull,
                                     0xfffffffffffffffe };
    uint64_t v = or_rand(r);

    switch (or_below(r, 6)) {
    case 0: return edge[or_below(r, 16)];
    case 1: return edge[or_below(r, 16)] + (uint64_t)or_below(r, 5) - 2;
    case 2: return v >> or_below(r, 64);
    case 3: return (uint64_t)((int64_t)v >> or_below(r, 64));
    default: return v;
    }
}

static uint64_t vector_value(struct or_rng *r)
{
    static const uint32_t f[] = { 0,          0x80000000, 0x3f800000, 0xbf800000,
                                  0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001,
                                  1,          0x007fffff, 0x00800000, 0x7f7fffff,
                                  0x40490fdb, 0x4f000000, 0xcf000000, 0x3f000000 };
    static const uint64_t d[] = { 0,
                                  1ull << 63,
                                  0x3ff0000000000000,
                                  0xbff0000000000000,
                                  0x7ff0000000000000,
                                  0xfff0000000000000,
                                  0x7ff8000000000000,
                                  0x7ff0000000000001,
                                  1,
                                  0x000fffffffffffff,
                                  0x0010000000000000,
                                  0x7fefffffffffffff,
                                  0x400921fb54442d18,
                                  0x41e0000000000000,
                                  0xc3e0000000000000,
                                  0x3fe0000000000000 };

    switch (or_below(r, 8)) {
    case 0: return f[or_below(r, 16)] | (uint64_t)f[or_below(r, 16)] << 32;
    case 1: return d[or_below(r, 16)];
    case 2: /* moderate numbers */
        return ((or_rand(r) & 0x000fffff000fffff) | 0x3f0000003f000000) +
               (or_rand(r) & 0x0380000003800000);
    case 3: return (or_rand(r) & 0x800fffffffffffff) | (uint64_t)(1000 + or_below(r, 50)) << 52;
    case 4: return value(r);
    default: return or_rand(r);
    }
}

static void x87_value(struct or_rng *r, uint8_t *p)
{
    uint64_t man = or_rand(r);
    uint16_t exp = (uint16_t)or_rand(r);

    switch (or_below(r, 10)) {
    case 0: man = exp = 0; break;
    case 1: exp = (uint16_t)(exp | 0x7fff); break;
    case 2:
        exp = (uint16_t)(exp | 0x7fff);
        man = 1ull << 63;
        break;
    case 3: exp &= 0x8000; break;
    case 4:
    case 5:
    case 6:
        man |= 1ull << 63;
        exp = (uint16_t)(0x3fff + or_below(r, 80) - 16) | (exp & 0x8000);
        break;
    case 7:
        man = (man | 1ull << 63) & (~0ull << or_below(r, 64));
        exp = (uint16_t)(0x3fff + or_below(r, 20));
        break;
    case 8: man |= 1ull << 63; break;
    default: break;
    }
    memcpy(p, &man, 8);
    memcpy(p + 8, &exp, 2);
    memset(p + 10, 0, 6);
}

static uint16_t fcw_value(struct or_rng *r)
{
    unsigned v = 0x37f;

    if (or_chance(r, 30))
        v = (v & 0xf0ffu) | (unsigned)or_below(r, 16) << 8;
    if (or_chance(r, 8))
        v &= ~(unsigned)or_below(r, 64);
    return (uint16_t)(v | 0x40);
}

static uint32_t mxcsr_value(struct or_rng *r)
{
    uint32_t v = 0x1f80 | (or_chance(r, 50) ? or_below(r, 64) : 0);

    if (or_chance(r, 40))
        v |= (uint32_t)or_below(r, 4) << 13;
    if (or_chance(r, 20))
        v |= (or_below(r, 2) ? 0x8000u : 0) | (or_below(r, 2) ? 0x40u : 0);
    if (or_chance(r, 10))
        v &= ~((uint32_t)or_below(r, 64) << 7);
    return v;
}

/* ---- emission ------------------------------------------------------------------------------------------------------ */

struct gen {
    struct or_rng *r;
    struct or_seq *s;
    uint8_t *p;
    bool ac;
};

static unsigned here(const struct gen *g)
{
    return (unsigned)(g->p - g->s->code);
}
/* In a 16-bit segment, whose base is the code page, an address is an offset in it. */
static uint64_t addr(const struct gen *g)
{
    return (g->s->mode == X86_MODE_16 ? 0 : OR_CODE) + here(g);
}

static void put(struct gen *g, const void *b, unsigned n)
{
    memcpy(g->p, b, n);
    g->p += n;
}

static void begin(struct gen *g)
{
    g->s->start[g->s->n] = here(g);
    g->s->dirty[g->s->n] = false;
    g->s->undef[g->s->n++] = 0;
}

static void b8(struct gen *g, unsigned v)
{
    *g->p++ = (uint8_t)v;
}
static void b16(struct gen *g, unsigned v)
{
    uint16_t w = (uint16_t)v;
    put(g, &w, 2);
}
static void b32(struct gen *g, uint64_t v)
{
    uint32_t w = (uint32_t)v;
    put(g, &w, 4);
}

static void mov_reg(struct gen *g, unsigned reg, uint64_t v)
{
    begin(g);
    if (g->s->mode == X86_MODE_64) {
        b8(g, 0x48 | reg >> 3);
        b8(g, 0xb8 | (reg & 7));
        put(g, &v, 8);
    } else {
        if (g->s->mode == X86_MODE_16)
            b8(g, 0x66);
        b8(g, 0xb8 | (reg & 7));
        b32(g, v);
    }
}

/* mov word or dword [addr], imm; mov qword [addr], sign-extended imm in 64-bit mode. */
static void mov_mem(struct gen *g, uint32_t to, uint32_t v, unsigned size)
{
    begin(g);
    if (g->s->mode == X86_MODE_16)
        b8(g, 0x67);
    if ((size == 2) != (g->s->mode == X86_MODE_16))
        b8(g, 0x66);
    b8(g, 0xc7);
    if (g->s->mode != X86_MODE_64) {
        b8(g, 0x05);
    } else {
        b8(g, 0x04);
        b8(g, 0x25);
    }
    b32(g, to);
    if (size == 2)
        b16(g, v);
    else
        b32(g, v);
}

static uint64_t pick_target(struct gen *g, unsigned len, unsigned align)
{
    struct or_rng *r = g->r;
    unsigned t;

    if (or_chance(r, 2))
        return OR_WIN - or_below(r, 64); /* begins before the window */
    if (or_chance(r, 3))
        return OR_RO - or_below(r, 72); /* ends in the read-only page */
    if (or_chance(r, 1))
        return OR_WIN + OR_WIN_SIZE - or_below(r, 72);
    if (or_chance(r, 5))
        t = 4096 - or_below(r, 72); /* crosses a page */
    else
        t = or_below(r, OR_DATA_SIZE - 1100);
    if (align > 1 && !or_chance(r, 5))
        t &= ~(align - 1);
    else if (or_chance(r, 50))
        t &= ~63u;
    (void)len;
    return OR_WIN + t;
}

static uint64_t size_mask(unsigned size)
{
    return size == 8 ? ~0ull : size == 4 ? 0xffffffffull : 0xffffull;
}

static bool is_load_state(unsigned op)
{
    return op == X86_OP_FXRSTOR || op == X86_OP_XRSTOR || op == X86_OP_FRSTOR ||
           op == X86_OP_FLDENV;
}

/* Registers and memory that @in needs, target address of its memory operand @t (0: none yet). */
static void prepare(struct gen *g, const struct x86_insn *in, uint64_t t)
{
    struct or_rng *r = g->r;
    uint32_t t32 = (uint32_t)t;

    switch (in->op) {
    case X86_OP_MOVS:
    case X86_OP_CMPS:
    case X86_OP_STOS:
    case X86_OP_LODS:
    case X86_OP_SCAS:
    case X86_OP_INS:
    case X86_OP_OUTS:
        mov_reg(g, X86_RSI, pick_target(g, 8, 8) - (in->seg == X86_GS ? OR_GS_BASE : 0));
        mov_reg(g, X86_RDI,
                or_chance(r, 30) ? (uint64_t)(OR_WIN + 2048 + or_below(r, 64))
                                 : pick_target(g, 8, 8));
        if (in->rep || or_chance(r, 20))
            mov_reg(g, X86_RCX, or_chance(r, 10) ? 0 : or_below(r, 40));
        break;
    case X86_OP_XLAT:
        mov_reg(g, X86_RBX, pick_target(g, 1, 1) - (in->seg == X86_GS ? OR_GS_BASE : 0));
        break;
    case X86_OP_MASKMOVQ:
    case X86_OP_MASKMOVDQU:
        /* inside: which bytes that the mask leaves out may fault is up to the processor */
        mov_reg(g, X86_RDI,
                OR_WIN + or_below(r, OR_DATA_SIZE - 16) - (in->seg == X86_GS ? OR_GS_BASE : 0));
        break;
    case X86_OP_PUSHA:
    case X86_OP_POPA: /* what is done before a fault is up to the processor */
        mov_reg(g, X86_RSP, OR_WIN + 64 + or_below(r, OR_DATA_SIZE - 128));
        break;
    case X86_OP_CMPXCHG: /* AMD leaves the upper half of an unequal 32-bit destination register, Intel clears it */
        if (in->o[0].kind == X86_O_GPR && in->osize == 4)
            mov_reg(g, in->o[0].reg, (uint32_t)value(r));
        break;
    case X86_OP_PUSH:
    case X86_OP_POP:
    case X86_OP_PUSHF:
    case X86_OP_PUSH_SREG:
    case X86_OP_CALL_NEAR:
    case X86_OP_CALL_IND:
        if (in->base != X86_RSP)
            mov_reg(g, X86_RSP, pick_target(g, 8, 8) + 64);
        break;
    case X86_OP_POPF:
    case X86_OP_RET_NEAR: {
        uint64_t sp = OR_WIN + 256 + (or_below(r, OR_DATA_SIZE - 1024) & ~7u);
        mov_reg(g, X86_RSP, sp);
        if (in->op == X86_OP_POPF)
            mov_mem(g, (uint32_t)sp, (uint32_t)or_rand(r) & ~(uint32_t)(0x100 | 0x40000), 4);
        break;
    }
    case X86_OP_ENTER:
        mov_reg(g, X86_RSP, OR_WIN + 1024 + (or_below(r, 1024) & ~7u));
        mov_reg(g, X86_RBP,
                OR_WIN + 4096 + (or_below(r, 1024) & ~7u)); /* apart from what is pushed */
        break;
    case X86_OP_LEAVE: mov_reg(g, X86_RBP, pick_target(g, 8, 8)); break;
    case X86_OP_DIV:
    case X86_OP_IDIV:
        if (or_chance(r, 60))
            mov_reg(g, X86_RDX,
                    or_chance(r, 80) ? 0 : (uint64_t)(int64_t)(int)(or_below(r, 5) - 2));
        if (in->osize == 2 && or_chance(r, 60))
            mov_reg(g, X86_RAX, or_below(r, 4096));
        break;
    case X86_OP_BT:
    case X86_OP_BTS:
    case X86_OP_BTR:
    case X86_OP_BTC:
        if (in->o[0].kind == X86_O_MEM && in->o[1].kind == X86_O_GPR)
            mov_reg(g, in->o[1].reg, (uint64_t)(int64_t)((int)or_below(r, 4000) - 2000));
        break;
    case X86_OP_LDMXCSR: mov_mem(g, t32, mxcsr_value(r), 4); break;
    case X86_OP_FLDCW: mov_mem(g, t32, fcw_value(r), 2); break;
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVEC:
    case X86_OP_XRSTOR:
        mov_reg(g, X86_RDX, 0);
        mov_reg(g, X86_RAX, or_below(r, 8));
        if (or_chance(r, 90))
            for (unsigned i = 0; i < 64; i += 4)
                mov_mem(g, t32 + 512 + i, i == 0 && in->op == X86_OP_XRSTOR ? or_below(r, 8) : 0,
                        4);
        if (in->op == X86_OP_XRSTOR)
            mov_mem(g, t32 + 24, mxcsr_value(r), 4);
        break;
    default: break;
    }
    if (in->op == X86_OP_FXRSTOR || in->op == X86_OP_XRSTOR) {
        mov_mem(g, t32 + 24, mxcsr_value(r), 4);
        mov_mem(g, t32, fcw_value(r) | (uint32_t)(or_below(r, 0x8000) & 0x7f00) << 16, 4);
    } else if (is_load_state(in->op) && or_chance(r, 80)) {
        mov_mem(g, t32, fcw_value(r), 2);
        mov_mem(g, t32 + (in->osize == 2 ? 2 : 4), or_below(r, 0x8000) & 0x7f00, 2);
    }
}

/* Fields that differ by design: x87 pointers (x87.c), MXCSR_MASK. */
static void cleanup(struct gen *g, const struct x86_insn *in, uint64_t t)
{
    uint32_t a = (uint32_t)t;
    unsigned first = g->s->n - 1;

    switch (in->op) {
    case X86_OP_FXSAVE:
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVEC:
        mov_mem(g, a + 6, 0, 2);
        mov_mem(g, a + 8, 0, 4);
        mov_mem(g, a + 12, 0, 4);
        mov_mem(g, a + 16, 0, 4);
        mov_mem(g, a + 20, 0, 4);
        mov_mem(g, a + 28, 0, 4);
        break;
    case X86_OP_FNSAVE:
    case X86_OP_FNSTENV:
        for (unsigned i = 0; i < 4; i++)
            mov_mem(g, a + (in->osize == 2 ? 6 + 2 * i : 12 + 4 * i), 0, in->osize == 2 ? 2 : 4);
        break;
    default: break;
    }
    for (unsigned i = first; i + 1 < g->s->n; i++)
        g->s->dirty[i] = true;
}

static unsigned alignment_of(const struct x86_insn *in, unsigned len)
{
    switch (in->op) {
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVEC:
    case X86_OP_XRSTOR: return 64;
    case X86_OP_FXSAVE:
    case X86_OP_FXRSTOR:
    case X86_OP_CMPXCHG16B: return 16;
    }
    return in->attr & X86_A_ALIGN ? len : 1;
}

/* Make the memory operand of @in (encoded in @b, displacement at @dpos) hit @t.  @return false: give up. */
static bool aim(struct gen *g, const struct x86_insn *in, uint8_t *b, unsigned dpos, unsigned dlen,
                uint64_t t)
{
    struct or_rng *r = g->r;
    uint64_t mask = size_mask(in->asize), want = t - (in->seg == X86_GS ? OR_GS_BASE : 0);
    uint64_t idx = 0, base;
    int32_t d32;

    if (in->asize == 2 && in->seg != X86_GS)
        return or_chance(r, 5);
    if (in->vsib) {
        bool q = in->opcode & 1;
        uint32_t table = (q ? OR_TABLE_Q : OR_TABLE_D) + (unsigned)(or_below(r, 16) * 8);

        if (!or_chance(r, 90) && !in->index)
            return false;
        begin(g); /* vmovdqu ymm, [table] */
        if (g->s->mode == X86_MODE_16)
            b8(g, 0x67);
        b8(g, 0xc4);
        b8(g, (in->index & 8 ? 0 : 0x80) | 0x61);
        b8(g, 0x7e);
        b8(g, 0x6f);
        b8(g, (in->index & 7) << 3 | (g->s->mode != X86_MODE_64 ? 5 : 4));
        if (g->s->mode == X86_MODE_64)
            b8(g, 0x25);
        b32(g, table);
        want = OR_WIN + 2200 + (or_below(r, 2000) & ~3u) - (in->seg == X86_GS ? OR_GS_BASE : 0);
    } else if (in->index != X86_REG_NONE && in->index != in->base) {
        idx =
            or_chance(r, 20) ? (uint64_t)(int64_t)((int)or_below(r, 200) - 100) : or_below(r, 256);
        mov_reg(g, in->index, in->asize == 8 ? idx : (idx & mask) | (or_rand(r) & ~mask));
        idx <<= in->scale;
    }
    if (in->base == X86_REG_RIP)
        return true; /* the displacement is set when the place is known */
    if (in->base == X86_REG_NONE) {
        uint64_t d = want - idx;

        if (dlen == 8) {
            memcpy(b + dpos, &d, 8);
        } else if (dlen == 4 || dlen == 2) {
            d32 = (int32_t)d;
            memcpy(b + dpos, &d32, dlen);
        } else {
            return false;
        }
        return true;
    }
    if (in->base == in->index && !in->vsib)
        base = (want - (uint64_t)in->disp) / (1 + (1u << in->scale));
    else
        base = want - idx - (uint64_t)in->disp;
    mov_reg(g, in->base, in->asize == 8 ? base : (base & mask) | (or_rand(r) & ~mask));
    return true;
}

static bool is_branch(unsigned op)
{
    switch (op) {
    case X86_OP_JCC:
    case X86_OP_JCXZ:
    case X86_OP_LOOP:
    case X86_OP_LOOPE:
    case X86_OP_LOOPNE:
    case X86_OP_JMP_NEAR:
    case X86_OP_CALL_NEAR: return true;
    }
    return false;
}

/* Alignment checking of operands beyond 8 bytes differs between processors (SDM 2A table 2-17 and on: 4- and
 * 8-byte references; AMD: all). */
static bool ac_comparable(const struct x86_insn *in)
{
    if (in->op == X86_OP_ENTER || in->op == X86_OP_VGATHER || in->op == X86_OP_VMASKMOV ||
        in->op == X86_OP_MASKMOVQ || in->op == X86_OP_MASKMOVDQU || in->op >= X86_OP_FLDCW)
        return in->op == X86_OP_VEC &&
               (in->nops < 2 || (in->o[0].kind != X86_O_MEM && in->o[1].kind != X86_O_MEM &&
                                 (in->nops < 3 || in->o[2].kind != X86_O_MEM)));
    for (unsigned i = 0; i < in->nops; i++)
        if (in->o[i].kind == X86_O_MEM && in->o[i].size > 8)
            return false;
    return true;
}

/* An instruction of row @row; @return false when the dice gave nothing usable. */
static bool one(struct gen *g, struct row *row)
{
    struct or_rng *r = g->r;
    uint8_t b[64];
    struct x86_insn in;
    unsigned n = 0, head, mod, rm, modpos, dpos = 0, dlen = 0, rex = 0, mem;
    bool m32 = g->s->mode != X86_MODE_64, m16 = g->s->mode == X86_MODE_16;
    uint64_t t = 0;
    int len;

    if (or_chance(r, m16 ? 50 : 4))
        b[n++] = 0x67;
    if (or_chance(r, 6) ||
        (m32 && !n == m16 && or_chance(r, 80))) /* 16-bit addresses: relative to GS */
        b[n++] = 0x65;
    else if (or_chance(r, 2))
        b[n++] = or_chance(r, 50) ? 0x3e : 0x36;
    if (!row->vex && row->pp > 1 && or_chance(r, 20))
        b[n++] = 0x66;
    if (!row->vex && or_chance(r, 8))
        b[n++] = 0xf0;
    if (!m32 && or_chance(r, 70))
        rex = or_below(r, 16);
    if (row->vex)
        rex = m32 ? 0 : rex & 7;
    n += encode_head(b + n, row, rex, or_chance(r, 40) ? 0 : or_below(r, m32 ? 8 : 16),
                     or_chance(r, 50));
    head = n;
    for (unsigned i = n; i < sizeof b; i++)
        b[i] = (uint8_t)or_rand(r);
    if (or_chance(r, 45))
        b[n] |= 0xc0;
    len = x86_decode(b, 15, g->s->mode, &in);
    if (len <= 0 || !usable(&in) || in.map != row->map || in.opcode != row->opcode ||
        (in.vex != 0) != row->vex)
        return false;
    if (g->ac && !ac_comparable(&in))
        return false;
    if (!m32 && memchr(b, 0x66, head) &&
        (is_branch(in.op) || in.op == X86_OP_RET_NEAR || in.op == X86_OP_JMP_IND ||
         in.op == X86_OP_CALL_IND))
        return false; /* in 64-bit mode Intel ignores the prefix and AMD does not; the engines do as Intel */
    for (mem = 0; mem < in.nops && in.o[mem].kind != X86_O_MEM; mem++)
        ;
    if (in.has_modrm && (in.modrm & 0xc0) != 0xc0) {
        modpos = head;
        mod = in.modrm >> 6;
        rm = in.modrm & 7;
        dpos = modpos + 1;
        if (in.asize == 2) {
            dlen = mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
        } else {
            if (rm == 4) {
                dpos++;
                if (mod == 0 && (b[modpos + 1] & 7) == 5)
                    dlen = 4;
            }
            if (mod == 1)
                dlen = 1;
            else if (mod == 2 || (mod == 0 && rm == 5))
                dlen = 4;
        }
        if (dlen == 4 && in.base != X86_REG_NONE && in.base != X86_REG_RIP && or_chance(r, 50)) {
            int32_t d = (int32_t)or_below(r, 0x2000) - 0x1000;
            memcpy(b + dpos, &d, 4);
        }
    } else if (mem < in.nops) {
        dpos = head; /* moffs */
        dlen = in.asize;
    }
    if (is_branch(in.op)) { /* forward over what follows: patched by the caller, 0 for now */
        unsigned size = in.opcode >= 0x70 && in.opcode <= 0x7f && !in.map ? 1
                        : in.opcode >= 0xe0 && in.opcode <= 0xe3          ? 1
                        : in.opcode == 0xeb                               ? 1
                        : in.osize == 2                                   ? 2
                                                                          : 4;
        memset(b + len - size, 0, size);
    }
    if (in.op ==
        X86_OP_ENTER) /* small enough not to fault half-way: what is pushed before is not specified */
        b[len - 1] &= or_chance(r, 50) ? 3 : 31, b[len - 2] &= 1;
    if (!in.vex && in.map == 1 && in.opcode == 0x0d && (in.modrm & 0xc0) == 0xc0)
        return false; /* PREFETCHW of a register: no operation on Intel, undefined on AMD */
    if (in.op == X86_OP_MOVSXD && in.osize == 2 && (in.modrm & 0xc0) != 0xc0)
        return false; /* reads 2 bytes on Intel, 4 on AMD */
    if (m32 && in.vex && in.map == 3 && (in.opcode == 0x16 || in.opcode == 0x22) && row->w)
        return false; /* W is ignored on Intel, undefined on AMD */
    if (in.op >= X86_OP_XSAVE && in.op <= X86_OP_XRSTORS &&
        (in.base == X86_RAX || in.base == X86_RDX || in.index == X86_RAX || in.index == X86_RDX))
        return false; /* they select components: those of the host must stay out of it */
    if (in.op == X86_OP_RET_NEAR && in.immsize)
        b[len - 1] = 0;
    len = x86_decode(b, 15, g->s->mode, &in);
    if (len <= 0)
        return false;
    if (in.op == X86_OP_RET_NEAR || in.op == X86_OP_JMP_IND || in.op == X86_OP_CALL_IND) {
        if (in.op != X86_OP_RET_NEAR && (mem < in.nops || in.o[0].reg == X86_RSP))
            return false; /* register forms; memory forms are covered by the engine tests */
    }
    if (mem < in.nops && in.o[mem].size == 0 && in.op != X86_OP_LEA) {
        /* FXSAVE and relatives, INVLPG, CLFLUSH */
        t = pick_target(g, 512, alignment_of(&in, 512));
    } else if (mem < in.nops) {
        t = pick_target(g, in.o[mem].size, alignment_of(&in, in.o[mem].size));
    }
    if (in.op == X86_OP_FNSAVE || in.op == X86_OP_FNSTENV || in.op == X86_OP_LDMXCSR ||
        in.op == X86_OP_FLDCW || is_load_state(in.op) ||
        (in.op >= X86_OP_FXSAVE && in.op <= X86_OP_XRSTORS))
        if (t < OR_WIN || t > OR_WIN + OR_DATA_SIZE - 1000)
            t = OR_WIN + or_below(r, 64) * 64; /* prepared memory has to be writable */
    if (in.feature == X86_FEAT_SHA && (in.base == in.index || in.asize == 2))
        return false;
    if ((in.op == X86_OP_MASKMOVQ || in.op == X86_OP_MASKMOVDQU) && in.asize == 2)
        return false; /* would fault: see prepare() */
    if (in.base == in.index && in.base != X86_REG_NONE &&
        (in.op == X86_OP_FNSAVE || in.op == X86_OP_FNSTENV ||
         (in.op >= X86_OP_FXSAVE && in.op <= X86_OP_XRSTORS)))
        return false; /* the address is not exactly the target then */
    if (in.feature == X86_FEAT_SHA)
        t &= ~15ull; /* some AMD processors do not insist on alignment here */
    prepare(g, &in, t);
    if (mem < in.nops && !aim(g, &in, b, dpos, dlen, t))
        return false;
    if (in.op == X86_OP_JMP_IND || in.op == X86_OP_CALL_IND)
        mov_reg(g, in.o[0].reg, addr(g) + (m16 ? 6u : m32 ? 5u : 10u) + (unsigned)len);
    if (in.op == X86_OP_RET_NEAR) { /* push of the address after the return */
        begin(g);
        if (m16 && in.osize == 4)
            b8(g, 0x66);
        b8(g, 0x68);
        if (in.osize == 2)
            b16(g, (unsigned)addr(g) + 2 + (unsigned)len);
        else
            b32(g, addr(g) + 4 + (unsigned)len);
    }
    if (mem < in.nops && in.base == X86_REG_RIP) {
        uint64_t want = t - (in.seg == X86_GS ? OR_GS_BASE : 0);
        int32_t d32 = (int32_t)(want - (addr(g) + (unsigned)len));

        memcpy(b + dpos, &d32, 4);
    }
    begin(g);
    put(g, b, (unsigned)len);
    g->s->undef[g->s->n - 1] = undefined_flags(&in);
    cleanup(g, &in, t);
    row->count++;
    return true;
}

static struct row *pick_row(struct or_rng *r, enum x86_mode mode)
{
    for (;;) {
        struct row *row = &rows[opts.row >= 0 ? (unsigned)opts.row % nrows : or_below(r, nrows)];

        if (nx87 && opts.row < 0 && or_chance(r, 6)) { /* x87 has many operations in few rows */
            do
                row = &rows[or_below(r, nrows)];
            while (row->vex || row->map || row->opcode < 0xd8 || row->opcode > 0xdf);
        }
        if (row->modes & mode)
            return row;
    }
}

void or_gen_sequence(struct or_rng *r, enum x86_mode mode, unsigned n, struct or_seq *s)
{
    bool m32 = mode != X86_MODE_64;
    struct gen g = { r, s, NULL, or_chance(r, 2) };
    unsigned want = n, skip_from = 0, tries = 0;
    bool skipping = false;
    struct or_state *in = &s->in;

    s->mode = mode;
    s->n = 0;
    s->at = or_below(r, 512);
    memset(s->code, 0xcc, sizeof s->code);
    g.p = s->code + s->at;
    while (want && here(&g) < OR_CODE_SIZE - 700 && s->n < OR_MAX_INSNS - 64 && tries++ < 10000) {
        struct row *row = pick_row(r, mode);
        unsigned first = s->n, last;

        if (!one(&g, row)) {
            s->n = first; /* forget preparations that nothing follows */
            g.p = s->code + (first ? s->start[first - 1] : s->at);
            if (first) {
                struct x86_insn prev;
                g.p += x86_decode(g.p, 15, mode, &prev);
            }
            memset(g.p, 0xcc, s->code + OR_CODE_SIZE - g.p);
            continue;
        }
        want--;
        last = s->n - 1;
        if (skipping) { /* the branch before jumps over this, or not */
            struct x86_insn br;
            unsigned at = s->start[skip_from], len,
                     dist = or_chance(r, 70) ? here(&g) : s->start[first];
            int blen = x86_decode(s->code + at, 15, mode, &br);

            len = at + (unsigned)blen;
            if (blen > 0 && dist >= len && dist - len < 128) {
                unsigned size = (br.map == 0 && ((br.opcode & 0xf0) == 0x70 || br.opcode == 0xeb ||
                                                 (br.opcode >= 0xe0 && br.opcode <= 0xe3)))
                                    ? 1
                                : br.osize == 2 ? 2
                                                : 4;
                s->code[len - size] = (uint8_t)(dist - len);
            }
            skipping = false;
        }
        {
            struct x86_insn l;

            if (x86_decode(s->code + s->start[last], 15, mode, &l) > 0 && is_branch(l.op)) {
                skipping = true;
                skip_from = last;
            }
        }
        if (s->undef[last] && want) {
            if (or_chance(r, 40))
                break;
            begin(&g); /* cmp al, imm8 defines all six */
            b8(&g, 0x3c);
            b8(&g, (unsigned)or_rand(r));
        }
    }
    s->start[s->n] = here(&g);
    s->len = here(&g) - s->at;

    memset(in, 0, sizeof *in);
    for (unsigned i = 0; i < 16; i++)
        in->gpr[i] = m32 ? (uint32_t)value(r) : value(r);
    if (m32)
        for (unsigned i = 8; i < 16; i++)
            in->gpr[i] = 0;
    in->rip = (mode == X86_MODE_16 ? 0 : OR_CODE) + s->at;
    in->rflags = 0x202 | (or_rand(r) & ALL) | (or_chance(r, 10) ? 0x400 : 0) |
                 (or_chance(r, 2) ? 0x100 : 0) | (g.ac ? 0x40000 : 0); /* DF, TF, AC */
    {
        uint16_t fcw = fcw_value(r), fsw = (uint16_t)(or_rand(r) & 0x7f7f);
        uint32_t mxcsr = mxcsr_value(r);

        if (or_chance(r, 50))
            fsw &= 0x3800;
        if (fsw & ~fcw & 0x3f) {
            if (or_chance(r, 90))
                fsw &= (uint16_t)~0x3f;
            else
                fsw |= 0x8080;
        }
        memcpy(in->fx, &fcw, 2);
        memcpy(in->fx + 2, &fsw, 2);
        in->fx[4] = or_chance(r, 30) ? 0xff : or_chance(r, 30) ? 0 : (uint8_t)or_rand(r);
        memcpy(in->fx + 24, &mxcsr, 4);
        for (unsigned i = 0; i < 8; i++)
            x87_value(r, in->fx + 32 + 16 * i);
        for (unsigned i = 0; i < 32; i++) {
            uint64_t v = vector_value(r);
            memcpy(in->fx + 160 + 8 * i, &v, 8);
            v = vector_value(r);
            memcpy((uint8_t *)in->ymmh + 8 * i, &v, 8);
        }
    }
    for (unsigned i = 0; i < OR_DATA_SIZE; i += 8) {
        uint64_t v = i & 1023 ? or_rand(r) : vector_value(r);
        memcpy(s->win + i, &v, 8);
    }
    for (unsigned i = 0; i < 1024; i += 4) {
        int32_t v = (int32_t)(i * 37 % 512) - 256;
        int64_t w = v;
        memcpy(s->win + (OR_TABLE_D - OR_WIN) + i, &v, 4);
        memcpy(s->win + (OR_TABLE_Q - OR_WIN) + 2 * i, &w, 8);
    }
    for (unsigned i = 0; i < 96; i++) { /* some telling values */
        uint64_t v = vector_value(r);
        memcpy(s->win + (or_below(r, OR_DATA_SIZE - 8) & ~7u), &v, 8);
    }
}
