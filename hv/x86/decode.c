/* SPDX-License-Identifier: BSD-2-Clause */
/* Table-driven x86-64 instruction decoder.
 *
 * Reference: Intel SDM volume 2 (cited as SDM 2): chapter 2 for the instruction format, appendix A
 * for the opcode maps and the operand notation that the tables use.  Steps: prefixes; the opcode
 * and map; the key, which is every encoding field that can select a row (ModRM fields, mandatory
 * prefix, W, L); the last row of the opcode whose mask and value fit the key; then the row's
 * operands.
 *
 * Prefixes follow the processors, not the assembler's manual: the last of F2/F3 and the last
 * segment prefix win, a REX that is not last is ignored, F2 and F3 beat 66 as mandatory prefix. */
#include "hv/x86/decode.h"

#include <stdbool.h>

/* ---- rows ---- */

/* Row attributes beyond X86_A_*; the top six bits of a row's attributes are its feature. */
#define I_D64   (1u << 16) /* 64-bit mode: operand size 8, or 2 with 66 */
#define I_F64   (1u << 17) /* 64-bit mode: operand size 8, 66 is ignored */
#define I_MOD3  (1u << 18) /* ModRM.mod is ignored: a register form in any case */
#define I_VSIB  (1u << 19)
#define I_UNAL  (1u << 20) /* legacy SSE without alignment check */
#define I_AVXI  (1u << 21) /* feature is AVX at 128 and AVX2 at 256 bits */
#define I_CC    (1u << 22) /* the opcode's low four bits are a condition */
#define I_FIX   (1u << 23) /* memory size depends on more than the tables express: fix_size() */
#define I_MODRM (1u << 24)
#define ATTR_MASK 0xffffu
#define FT(f) ((uint32_t)X86_FEAT_##f << 26)
_Static_assert(X86_FEAT_COUNT <= 64, "feature field of a row");
_Static_assert(X86_A_ZEROU <= ATTR_MASK, "attribute field of a row");

/* Key: the encoding fields that select a row.  A row's condition is mask << 16 | value. */
enum {
    K_RM = 0, K_REG = 3, K_MOD3 = 6, K_PP = 7, K_W = 9, K_L = 10, K_M64 = 11, K_REXB = 12
};
enum { PP_NONE, PP_66, PP_F3, PP_F2 };
#define KEY(shift, mask, val) ((uint32_t)(mask) << (16 + (shift)) | (uint32_t)(val) << (shift))
#define ANY     0u
#define RM(n)   KEY(K_RM, 7, n)
#define REG(n)  KEY(K_REG, 7, n)
#define MEM     KEY(K_MOD3, 1, 0)
#define MODR    KEY(K_MOD3, 1, 1)
#define NP      KEY(K_PP, 3, PP_NONE)
#define P66     KEY(K_PP, 3, PP_66)
#define PF3     KEY(K_PP, 3, PP_F3)
#define PF2     KEY(K_PP, 3, PP_F2)
#define NOREP   KEY(K_PP, 2, 0) /* 66 or nothing */
#define W0      KEY(K_W, 1, 0)
#define W1      KEY(K_W, 1, 1)
#define L0      KEY(K_L, 1, 0)
#define L1      KEY(K_L, 1, 1)
#define M64     KEY(K_M64, 1, 1)
#define REXB    KEY(K_REXB, 1, 1)
#define KEY_MODRM (KEY(0, 0x7f, 0)) /* conditions that need a ModRM byte */
#define KEY_PP  (3u << K_PP)

/* Operand of a row: method << 10 | access << 8 | size as register << 4 | size in memory.  Methods
 * are the letters of SDM 2D appendix A.2.1. */
enum method {
    O_NONE,
    O_E, O_G, O_M, O_R, O_S, O_C, O_D,          /* ModRM: r/m, reg, memory only, register only */
    O_P, O_Q, O_N,                              /* MMX: reg, r/m, register r/m */
    O_V, O_W, O_U,                              /* vector: reg, r/m, register r/m */
    O_H, O_B, O_L,                              /* VEX.vvvv vector, VEX.vvvv GPR, imm8[7:4] */
    O_IB, O_SIB, O_IB2, O_IW, O_IZ, O_IV, O_ONE, /* immediates */
    O_JB, O_JZ, O_AP, O_MOFFS,
    O_Z, O_ACC, O_CL, O_DX, O_SEG, O_ELEM
};
/* Size codes; the first eight are fixed. */
enum {
    S_0, S_1, S_2, S_4, S_8, S_10, S_16, S_32,
    S_V,  /* operand size */
    S_Z,  /* operand size, at most 4 */
    S_Y,  /* 8 when the operand size is 8, else 4 */
    S_X,  /* vector length */
    S_XH, S_XQ, S_XE, /* a half, a quarter, an eighth of it */
    S_P   /* far pointer */
};
#define OPND(m, rs, ms) ((O_##m) << 10 | (rs) << 4 | (ms))
#define NO 0
#define N(o)  (o)
#define R(o)  ((o) | X86_RD << 8)
#define W(o)  ((o) | X86_WR << 8)
#define RW(o) ((o) | X86_RW << 8)

#define Eb OPND(E, S_1, S_1)
#define Ew OPND(E, S_2, S_2)
#define Ed OPND(E, S_4, S_4)
#define Ev OPND(E, S_V, S_V)
#define Ey OPND(E, S_Y, S_Y)
#define Ez OPND(E, S_Z, S_Z)
#define Rv_Mw OPND(E, S_V, S_2)
#define Rv_M0 OPND(E, S_V, S_0)
#define Rd_Mb OPND(E, S_4, S_1)
#define Rd_Mw OPND(E, S_4, S_2)
#define Gb OPND(G, S_1, 0)
#define Gw OPND(G, S_2, 0)
#define Gd OPND(G, S_4, 0)
#define Gv OPND(G, S_V, 0)
#define Gy OPND(G, S_Y, 0)
#define M0 OPND(M, 0, S_0)
#define Mw OPND(M, 0, S_2)
#define Md OPND(M, 0, S_4)
#define Mq OPND(M, 0, S_8)
#define Mt OPND(M, 0, S_10)
#define Mdq OPND(M, 0, S_16)
#define Mx OPND(M, 0, S_X)
#define Mv OPND(M, 0, S_V)
#define My OPND(M, 0, S_Y)
#define Mp OPND(M, 0, S_P)
#define Rv OPND(R, S_V, 0)
#define Ry OPND(R, S_Y, 0)
#define Sw OPND(S, S_2, 0)
#define Cy OPND(C, S_Y, 0)
#define Dy OPND(D, S_Y, 0)
#define Pq OPND(P, S_8, 0)
#define Py OPND(P, S_Y, 0)
#define Qd OPND(Q, S_4, S_4)
#define Qq OPND(Q, S_8, S_8)
#define Nq OPND(N, S_8, 0)
#define Vd OPND(V, S_4, 0)
#define Vq OPND(V, S_8, 0)
#define Vdq OPND(V, S_16, 0)
#define Vqq OPND(V, S_32, 0)
#define Vx OPND(V, S_X, 0)
#define Vxh OPND(V, S_XH, 0)
#define Vy OPND(V, S_Y, 0)
#define Wb OPND(W, S_1, S_1)
#define Ww OPND(W, S_2, S_2)
#define Wd OPND(W, S_4, S_4)
#define Wq OPND(W, S_8, S_8)
#define Wdq OPND(W, S_16, S_16)
#define Wqq OPND(W, S_32, S_32)
#define Wx OPND(W, S_X, S_X)
#define Wxh OPND(W, S_XH, S_XH)
#define Wxq OPND(W, S_XQ, S_XQ)
#define Wxe OPND(W, S_XE, S_XE)
#define Udq_Md OPND(W, S_16, S_4)
#define Udq_Mq OPND(W, S_16, S_8)
#define Udq_Mxh OPND(W, S_16, S_XH)
#define Ud OPND(U, S_4, 0)
#define Uq OPND(U, S_8, 0)
#define Udq OPND(U, S_16, 0)
#define Ux OPND(U, S_X, 0)
#define Hd OPND(H, S_4, 0)
#define Hq OPND(H, S_8, 0)
#define Hdq OPND(H, S_16, 0)
#define Hqq OPND(H, S_32, 0)
#define Hx OPND(H, S_X, 0)
#define Hxh OPND(H, S_XH, 0)
#define By OPND(B, S_Y, 0)
#define Lx OPND(L, S_X, 0)
#define Ib OPND(IB, S_1, 0)
#define Ib2 OPND(IB2, S_1, 0)
#define sIb OPND(SIB, S_V, 0)
#define Iw OPND(IW, S_2, 0)
#define Iz OPND(IZ, S_V, 0)
#define Iv OPND(IV, S_V, 0)
#define ONE OPND(ONE, S_1, 0)
#define Jb OPND(JB, S_V, 0)
#define Jz OPND(JZ, S_V, 0)
#define Ap OPND(AP, S_V, 0)
#define Ob OPND(MOFFS, 0, S_1)
#define Ov OPND(MOFFS, 0, S_V)
#define Zb OPND(Z, S_1, 0)
#define Zv OPND(Z, S_V, 0)
#define AL OPND(ACC, S_1, 0)
#define AX OPND(ACC, S_2, 0)
#define eAX OPND(ACC, S_Z, 0)
#define rAX OPND(ACC, S_V, 0)
#define CL OPND(CL, S_1, 0)
#define DX OPND(DX, S_2, 0)
#define SEG(s) OPND(SEG, S_2, X86_##s)
#define ELEM_1 OPND(ELEM, S_1, 0)
#define ELEM_v OPND(ELEM, S_V, 0)
#define ELEM_z OPND(ELEM, S_Z, 0)
#define ELEM(x) ELEM_##x

#define METHOD(o) ((unsigned)(o) >> 10)
#define IS_MODRM(o) (METHOD(o) >= O_E && METHOD(o) <= O_U)
#define IS_VECTOR(o) (METHOD(o) >= O_V && METHOD(o) <= O_U)

/* Attribute names of the tables. */
#define LOCK X86_A_LOCK
#define END X86_A_END
#define NO64 X86_A_NO64
#define ONLY64 X86_A_ONLY64
#define STRING X86_A_STRING
#define ALIGN X86_A_ALIGN
#define FPU X86_A_FPU
#define WAIT X86_A_WAIT
#define MMX_ X86_A_MMX
#define SSE_ X86_A_SSE
#define FPEXC X86_A_FPEXC
#define D64 I_D64
#define F64 I_F64
#define MOD3 I_MOD3
#define VSIB I_VSIB
#define UNAL I_UNAL
#define AVXI I_AVXI
#define CC I_CC
#define FIX I_FIX

struct row {
    uint16_t id; /* map << 8 | opcode */
    uint16_t op;
    uint16_t mask, val;
    uint32_t attr;
    uint16_t opnd[4];
};

/* Maps: 0 one byte, 1 0F, 2 0F 38, 3 0F 3A, 4-6 VEX 0F, 0F 38, 0F 3A. */
enum { NMAPS = 7, MAP_VEX = 3 };

#define T0(opc, key, op, attr, ...) T(0, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define T1(opc, key, op, attr, ...) T(1, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define T2(opc, key, op, attr, ...) T(2, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define T3(opc, key, op, attr, ...) T(3, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define G2(opc, key, op, attr, ...) \
    T(5, opc, key, op, X86_A_GPRVEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define G3(opc, key, op, attr, ...) \
    T(6, opc, key, op, X86_A_GPRVEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define S1(opc, key, mn, attr, ...) T(1, opc, key, VEC, attr, __VA_ARGS__, 0, 0, 0, 0)
#define S2(opc, key, mn, attr, ...) T(2, opc, key, VEC, attr, __VA_ARGS__, 0, 0, 0, 0)
#define S3(opc, key, mn, attr, ...) T(3, opc, key, VEC, attr, __VA_ARGS__, 0, 0, 0, 0)
#define X1(opc, key, op, attr, ...) T(1, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define X2(opc, key, op, attr, ...) T(2, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define X3(opc, key, op, attr, ...) T(3, opc, key, op, attr, __VA_ARGS__, 0, 0, 0, 0)
#define V1(opc, key, mn, attr, ...) T(4, opc, key, VEC, X86_A_VEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define V2(opc, key, mn, attr, ...) T(5, opc, key, VEC, X86_A_VEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define V3(opc, key, mn, attr, ...) T(6, opc, key, VEC, X86_A_VEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define Y1(opc, key, op, attr, ...) T(4, opc, key, op, X86_A_VEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define Y2(opc, key, op, attr, ...) T(5, opc, key, op, X86_A_VEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define Y3(opc, key, op, attr, ...) T(6, opc, key, op, X86_A_VEX | attr, __VA_ARGS__, 0, 0, 0, 0)
#define T8(opc, key, op, attr, ...) \
    T0(opc + 0, key, op, attr, __VA_ARGS__) T0(opc + 1, key, op, attr, __VA_ARGS__) \
    T0(opc + 2, key, op, attr, __VA_ARGS__) T0(opc + 3, key, op, attr, __VA_ARGS__) \
    T0(opc + 4, key, op, attr, __VA_ARGS__) T0(opc + 5, key, op, attr, __VA_ARGS__) \
    T0(opc + 6, key, op, attr, __VA_ARGS__) T0(opc + 7, key, op, attr, __VA_ARGS__)
#define T8_1(opc, key, op, attr, ...) \
    T1(opc + 0, key, op, attr, __VA_ARGS__) T1(opc + 1, key, op, attr, __VA_ARGS__) \
    T1(opc + 2, key, op, attr, __VA_ARGS__) T1(opc + 3, key, op, attr, __VA_ARGS__) \
    T1(opc + 4, key, op, attr, __VA_ARGS__) T1(opc + 5, key, op, attr, __VA_ARGS__) \
    T1(opc + 6, key, op, attr, __VA_ARGS__) T1(opc + 7, key, op, attr, __VA_ARGS__)
#define T16(t, opc, key, op, attr, ...) \
    t(opc + 0, key, op, attr, __VA_ARGS__) t(opc + 1, key, op, attr, __VA_ARGS__) \
    t(opc + 2, key, op, attr, __VA_ARGS__) t(opc + 3, key, op, attr, __VA_ARGS__) \
    t(opc + 4, key, op, attr, __VA_ARGS__) t(opc + 5, key, op, attr, __VA_ARGS__) \
    t(opc + 6, key, op, attr, __VA_ARGS__) t(opc + 7, key, op, attr, __VA_ARGS__) \
    t(opc + 8, key, op, attr, __VA_ARGS__) t(opc + 9, key, op, attr, __VA_ARGS__) \
    t(opc + 10, key, op, attr, __VA_ARGS__) t(opc + 11, key, op, attr, __VA_ARGS__) \
    t(opc + 12, key, op, attr, __VA_ARGS__) t(opc + 13, key, op, attr, __VA_ARGS__) \
    t(opc + 14, key, op, attr, __VA_ARGS__) t(opc + 15, key, op, attr, __VA_ARGS__)

/* First pass: the rows.  ModRM is present when an operand or a condition needs it; a legacy row
 * with a vector operand is an SSE instruction. */
#define T(map, opc, key, op, attr, o0, o1, o2, o3, ...) { \
    (map) << 8 | (opc), X86_OP_##op, (uint16_t)((key) >> 16), (uint16_t)(key), \
    (attr) | (((key) & KEY_MODRM) || IS_MODRM(o0) || IS_MODRM(o1) || IS_MODRM(o2) || \
              IS_MODRM(o3) ? I_MODRM : 0u) | \
        ((map) <= MAP_VEX && (IS_VECTOR(o0) || IS_VECTOR(o1)) ? (uint32_t)X86_A_SSE : 0u), \
    { o0, o1, o2, o3 } },
static const struct row rows[] = {
    { 0xffff, 0, 0, 0, 0, { 0 } },
#include "hv/x86/tables_int.h"
#include "hv/x86/tables_vec.h"
};
#undef T

/* Second pass: the index of the last row of every opcode, 0 when it has none. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
enum { ROW_BASE = __COUNTER__ };
#define T(map, opc, key, op, attr, o0, o1, o2, o3, ...) \
    [(map) << 8 | (opc)] = __COUNTER__ - ROW_BASE,
static const uint16_t last_row[NMAPS << 8] = {
#include "hv/x86/tables_int.h"
#include "hv/x86/tables_vec.h"
};
enum { ROW_COUNT = __COUNTER__ - ROW_BASE };
#undef T
#pragma GCC diagnostic pop
_Static_assert(sizeof rows / sizeof *rows == ROW_COUNT, "both passes see the same rows");

/* Size codes to bytes, by operand size (2, 4, 8) and VEX.L. */
#define SIZES(v, x) \
    { 0, 1, 2, 4, 8, 10, 16, 32, v, (v) > 4 ? 4 : (v), (v) == 8 ? 8 : 4, x, (x) / 2, (x) / 4, \
      (x) / 8, (v) + 2 }
static const uint8_t size_table[3][2][16] = {
    { SIZES(2, 16), SIZES(2, 32) },
    { SIZES(4, 16), SIZES(4, 32) },
    { SIZES(8, 16), SIZES(8, 32) },
};

/* ---- prefixes ---- */

enum { PFX_NONE, PFX_SEG, PFX_66 = PFX_SEG + 6, PFX_67, PFX_LOCK, PFX_F2, PFX_F3, PFX_REX };

#define REX16 PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, \
    PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX, PFX_REX
static const uint8_t prefix_class[256] = {
    [0x26] = PFX_SEG + X86_ES, [0x2e] = PFX_SEG + X86_CS, [0x36] = PFX_SEG + X86_SS,
    [0x3e] = PFX_SEG + X86_DS, [0x64] = PFX_SEG + X86_FS, [0x65] = PFX_SEG + X86_GS,
    [0x40] = REX16,
    [0x66] = PFX_66, [0x67] = PFX_67, [0xf0] = PFX_LOCK, [0xf2] = PFX_F2, [0xf3] = PFX_F3,
};

/* ---- decoding ---- */

enum { UD = -6, TOO_LONG = -13 };

struct cursor {
    const uint8_t *p, *end;
    int short_ret; /* what running out of bytes means */
};

static inline int64_t get_s8(const uint8_t *p)
{
    return (int8_t)*p;
}

static inline uint16_t get_u16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t get_u32(const uint8_t *p)
{
    return (uint32_t)get_u16(p) | (uint32_t)get_u16(p + 2) << 16;
}

static inline uint64_t get_u64(const uint8_t *p)
{
    return get_u32(p) | (uint64_t)get_u32(p + 4) << 32;
}

#define NEED(c, n) do { if ((c)->end - (c)->p < (n)) return (c)->short_ret; } while (0)

/* The functions below return 1, or what x86_decode has to return. */

/* 16-bit addressing, SDM 2A table 2-1. */
static const struct { uint8_t base, index; } ea16[8] = {
    { X86_RBX, X86_RSI }, { X86_RBX, X86_RDI }, { X86_RBP, X86_RSI }, { X86_RBP, X86_RDI },
    { X86_RSI, X86_REG_NONE }, { X86_RDI, X86_REG_NONE }, { X86_RBP, X86_REG_NONE },
    { X86_RBX, X86_REG_NONE },
};

static int decode_mem16(struct cursor *c, struct x86_insn *in)
{
    unsigned mod = in->modrm >> 6, rm = in->modrm & 7;

    in->base = ea16[rm].base;
    in->index = ea16[rm].index;
    if (mod == 1) {
        NEED(c, 1);
        in->disp = get_s8(c->p);
        c->p += 1;
    } else if (mod == 2 || rm == 6) {
        NEED(c, 2);
        in->disp = (int16_t)get_u16(c->p);
        c->p += 2;
        if (mod == 0)
            in->base = X86_REG_NONE;
    }
    if (in->base == X86_RBP)
        in->seg = X86_SS;
    return 1;
}

/* 32- and 64-bit addressing, SDM 2A tables 2-2 and 2-3, section 2.2.1.6 for RIP. */
static int decode_mem(struct cursor *c, struct x86_insn *in, bool vsib)
{
    unsigned mod = in->modrm >> 6, rm = in->modrm & 7;
    unsigned base = rm | (in->rex & 1u) << 3;

    if (rm == 4) {
        unsigned sib, index;

        NEED(c, 1);
        sib = *c->p++;
        base = (sib & 7) | (in->rex & 1u) << 3;
        index = (sib >> 3 & 7) | (in->rex & 2u) << 2;
        if (vsib) {
            in->vsib = 1;
            in->index = (uint8_t)index;
            in->scale = (uint8_t)(sib >> 6);
        } else if (index != 4) {
            in->index = (uint8_t)index;
            in->scale = (uint8_t)(sib >> 6);
        }
        rm = sib & 7;
        if (mod == 0 && rm == 5) {
            base = X86_REG_NONE;
            mod = 2;
        }
    } else if (vsib) {
        return UD; /* SDM 2A 2.3.12: a SIB byte must be there */
    } else if (mod == 0 && rm == 5) {
        base = in->mode == X86_MODE_64 ? X86_REG_RIP : X86_REG_NONE;
        mod = 2;
    }
    in->base = (uint8_t)base;
    if (base == X86_RSP || base == X86_RBP)
        in->seg = X86_SS;
    if (mod == 1) {
        NEED(c, 1);
        in->disp = get_s8(c->p);
        c->p += 1;
    } else if (mod == 2) {
        NEED(c, 4);
        in->disp = (int32_t)get_u32(c->p);
        c->p += 4;
    }
    return 1;
}

/* Memory sizes that depend on the mode or that have no size code. */
static unsigned fix_size(const struct x86_insn *in)
{
    switch (in->op) {
    case X86_OP_BOUND:   return 2u * in->osize;
    case X86_OP_FLDENV:
    case X86_OP_FNSTENV: return in->osize == 2 ? 14 : 28;   /* SDM 1 figures 8-9 to 8-12 */
    case X86_OP_FRSTOR:
    case X86_OP_FNSAVE:  return in->osize == 2 ? 94 : 108;
    default:             return in->mode == X86_MODE_64 ? 10 : 6; /* LGDT and family */
    }
}

/* A gather's destination, index and mask must differ (SDM 2C VGATHERDPS). */
static bool gather_ok(const struct x86_insn *in)
{
    return in->o[0].reg != in->index && in->o[0].reg != in->o[2].reg && in->index != in->o[2].reg;
}

/* String instructions that have only the destination, which no prefix overrides. */
static bool string_to_es(unsigned op)
{
    return op == X86_OP_STOS || op == X86_OP_SCAS || op == X86_OP_INS;
}

/* Everything after the opcode is selected: the row's operands in order, then its immediates. */
static int decode_operands(struct cursor *c, struct x86_insn *in, const struct row *row,
                           const uint8_t *size)
{
    const bool reg_form = in->modrm >= 0xc0 || (row->attr & I_MOD3);
    const unsigned reg = (in->modrm >> 3 & 7) | (in->rex & 4u) << 1;
    const unsigned rm = (in->modrm & 7) | (in->rex & 1u) << 3;
    const uint8_t regs = in->mode == X86_MODE_64 ? 15 : 7;
    bool vvvv_used = false;
    unsigned i;

    for (i = 0; i < 4; i++) {
        const unsigned spec = row->opnd[i];
        struct x86_operand *o = &in->o[i];

        if (!spec)
            break;
        o->size = size[spec >> 4 & 15];
        o->flags = (uint8_t)(spec >> 8 & 3);
        switch ((enum method)METHOD(spec)) {
        case O_NONE:
            break;
        case O_E:
            if (!reg_form)
                goto memory;
            o->reg = (uint8_t)rm;
            goto gpr;
        case O_R:
            if (!reg_form)
                return UD;
            o->reg = (uint8_t)rm;
            goto gpr;
        case O_G:
            o->reg = (uint8_t)reg;
            goto gpr;
        case O_Z:
            o->reg = (uint8_t)((in->opcode & 7) | (in->rex & 1u) << 3);
        gpr:
            o->kind = X86_O_GPR;
            if (o->size == 1 && !in->rex && o->reg >= 4)
                o->flags |= X86_F_HIGH8;
            break;
        case O_M:
            if (reg_form)
                return UD;
            goto memory;
        case O_S:
            o->kind = X86_O_SREG;
            o->reg = reg & 7;
            if (o->reg > X86_GS || (o->reg == X86_CS && (o->flags & X86_WR)))
                return UD; /* SDM 2B MOV */
            break;
        case O_C:
            o->kind = X86_O_CR;
            o->reg = (uint8_t)reg;
            if (!(0x11du >> reg & 1)) /* CR0 CR2 CR3 CR4 CR8 exist */
                return UD;
            break;
        case O_D:
            o->kind = X86_O_DR;
            o->reg = (uint8_t)reg;
            if (reg > 7)
                return UD;
            break;
        case O_Q:
            if (!reg_form)
                goto memory;
            /* fall through */
        case O_N:
            if (!reg_form)
                return UD;
            o->kind = X86_O_MMX;
            o->reg = rm & 7;
            break;
        case O_P:
            o->kind = X86_O_MMX;
            o->reg = reg & 7;
            break;
        case O_W:
            if (!reg_form)
                goto memory;
            /* fall through */
        case O_U:
            if (!reg_form)
                return UD;
            o->kind = X86_O_VEC;
            o->reg = (uint8_t)rm;
            break;
        case O_V:
            o->kind = X86_O_VEC;
            o->reg = (uint8_t)reg;
            break;
        case O_H:
            vvvv_used = true;
            o->kind = X86_O_VEC;
            o->reg = in->vvvv & regs;
            break;
        case O_B:
            vvvv_used = true;
            o->kind = X86_O_GPR;
            o->reg = in->vvvv & regs;
            break;
        case O_L:
            NEED(c, 1);
            o->kind = X86_O_VEC;
            o->reg = *c->p >> 4 & regs;
            in->imm = *c->p++;
            in->immsize = 1;
            break;
        case O_IB:
            NEED(c, 1);
            o->kind = X86_O_IMM;
            in->imm = *c->p++;
            in->immsize = 1;
            break;
        case O_SIB:
            NEED(c, 1);
            o->kind = X86_O_IMM;
            in->imm = get_s8(c->p++);
            in->immsize = 1;
            break;
        case O_IB2:
            NEED(c, 1);
            o->kind = X86_O_IMM2;
            in->imm2 = *c->p++;
            in->immsize += 1;
            break;
        case O_IW:
            NEED(c, 2);
            o->kind = X86_O_IMM;
            in->imm = get_u16(c->p);
            c->p += 2;
            in->immsize = 2;
            break;
        case O_IV:
            if (in->osize == 8) {
                NEED(c, 8);
                o->kind = X86_O_IMM;
                in->imm = (int64_t)get_u64(c->p);
                c->p += 8;
                in->immsize = 8;
                break;
            }
            /* fall through */
        case O_IZ:
            o->kind = X86_O_IMM;
            goto imm_z;
        case O_JZ:
            o->kind = X86_O_REL;
        imm_z:
            if (in->osize == 2) {
                NEED(c, 2);
                in->imm = (int16_t)get_u16(c->p);
                c->p += 2;
                in->immsize = 2;
            } else {
                NEED(c, 4);
                in->imm = (int32_t)get_u32(c->p);
                c->p += 4;
                in->immsize = 4;
            }
            break;
        case O_JB:
            NEED(c, 1);
            o->kind = X86_O_REL;
            in->imm = get_s8(c->p++);
            in->immsize = 1;
            break;
        case O_ONE:
            o->kind = X86_O_IMM;
            in->imm = 1;
            break;
        case O_AP:
            NEED(c, in->osize + 2);
            o->kind = X86_O_FAR;
            in->imm = in->osize == 2 ? get_u16(c->p) : (int64_t)get_u32(c->p);
            in->imm2 = get_u16(c->p + in->osize);
            c->p += in->osize + 2;
            in->immsize = (uint8_t)(in->osize + 2);
            break;
        case O_MOFFS:
            NEED(c, in->asize);
            in->disp = in->asize == 2 ? (int16_t)get_u16(c->p) :
                       in->asize == 4 ? (int32_t)get_u32(c->p) : (int64_t)get_u64(c->p);
            c->p += in->asize;
            goto memory;
        case O_ACC:
            o->kind = X86_O_GPR;
            o->reg = X86_RAX;
            break;
        case O_CL:
            o->kind = X86_O_GPR;
            o->reg = X86_RCX;
            break;
        case O_DX:
            o->kind = X86_O_GPR;
            o->reg = X86_RDX;
            break;
        case O_SEG:
            o->kind = X86_O_SREG;
            o->reg = spec & 15;
            break;
        case O_ELEM:
            o->flags = 0;
            if (string_to_es(in->op))
                in->seg = X86_ES;
            return 1;
        memory:
            o->kind = X86_O_MEM;
            o->size = size[spec & 15];
            if (row->attr & I_FIX)
                o->size = (uint8_t)fix_size(in);
            if (o->size == 16 && (in->attr & X86_A_SSE) && !(row->attr & I_UNAL))
                in->attr |= X86_A_ALIGN;
            break;
        }
    }
    in->nops = (uint8_t)i;
    if (in->vex) {
        if (!vvvv_used && in->vvvv) /* all four bits, also where there are eight registers */
            return UD;
        if (in->o[0].kind == X86_O_VEC && (in->o[0].flags & X86_WR) && in->o[0].size < 32)
            in->attr |= X86_A_ZEROU;
        if (in->vsib && !gather_ok(in))
            return UD;
    }
    return 1;
}

int x86_decode(const uint8_t *bytes, size_t len, enum x86_mode mode, struct x86_insn *insn)
{
    const bool m64 = mode == X86_MODE_64;
    struct cursor c = {
        bytes, bytes + (len < X86_MAX_INSN ? len : X86_MAX_INSN), len < X86_MAX_INSN ? 0 : TOO_LONG
    };
    struct x86_insn in = {
        .mode = (uint8_t)mode, .base = X86_REG_NONE, .index = X86_REG_NONE, .seg = X86_DS,
        .seg_override = X86_SEG_NONE
    };
    bool p66 = false, p67 = false;
    unsigned map = 0, pp, key, w, cls;
    const struct row *row;
    int err;

    /* Prefixes (SDM 2A 2.1.1, 2.2.1). */
    for (;;) {
        NEED(&c, 1);
        cls = prefix_class[*c.p];
        if (cls == PFX_NONE || (cls == PFX_REX && !m64))
            break;
        if (cls == PFX_REX) {
            in.rex = *c.p++;
            continue;
        }
        in.rex = 0;
        switch (cls) {
        case PFX_66:   p66 = true; break;
        case PFX_67:   p67 = true; break;
        case PFX_LOCK: in.lock = 1; break;
        case PFX_F2:   in.rep = X86_REP_F2; break;
        case PFX_F3:   in.rep = X86_REP_F3; break;
        default:
            if (!m64 || cls >= PFX_SEG + X86_FS)
                in.seg_override = (uint8_t)(cls - PFX_SEG);
            break;
        }
        c.p++;
    }

    in.opcode = *c.p++;
    if (in.opcode == 0x0f) {
        NEED(&c, 1);
        in.opcode = *c.p++;
        map = 1;
        if (in.opcode == 0x38 || in.opcode == 0x3a) {
            map = in.opcode == 0x38 ? 2 : 3;
            NEED(&c, 1);
            in.opcode = *c.p++;
        }
    } else if (in.opcode == 0xc4 || in.opcode == 0xc5) {
        NEED(&c, 1);
        if (m64 || *c.p >= 0xc0)
            in.vex = in.opcode == 0xc5 ? 2 : 3;
    }
    if (in.vex) { /* SDM 2A 2.3.5, 2.3.6 */
        unsigned b0, b1;

        if (p66 || in.rep || in.lock || in.rex)
            return UD;
        NEED(&c, in.vex);
        b0 = *c.p++;
        if (in.vex == 2) {
            b1 = b0 & 0x7f;
            map = MAP_VEX + 1;
            in.rex = (uint8_t)(0x40 | (~b0 >> 5 & 4));
        } else {
            b1 = *c.p++;
            map = MAP_VEX + (b0 & 0x1f);
            if (map == MAP_VEX || map >= NMAPS)
                return UD;
            in.rex = (uint8_t)(0x40 | (~b0 >> 5 & 7) | (b1 >> 4 & 8));
        }
        in.vvvv = ~b1 >> 3 & 15;
        in.vexl = b1 >> 2 & 1;
        pp = b1 & 3;
        if (!m64) /* only eight registers: the extension bits are ignored */
            in.rex &= 0x48;
        in.opcode = *c.p++;
    } else {
        pp = in.rep ? (in.rep == X86_REP_F3 ? PP_F3 : PP_F2) : p66 ? PP_66 : PP_NONE;
    }
    w = in.rex >> 3 & 1;

    row = &rows[last_row[map << 8 | in.opcode]];
    if (row == rows)
        return UD;
    key = pp << K_PP | w << K_W | (unsigned)in.vexl << K_L | (unsigned)m64 << K_M64 |
          (in.rex & 1u) << K_REXB;
    if (row->attr & I_MODRM) {
        NEED(&c, 1);
        in.has_modrm = 1;
        in.modrm = *c.p++;
        key |= (in.modrm & 0x3fu) | (in.modrm >= 0xc0 ? 1u << K_MOD3 : 0u);
    }
    while ((key & row->mask) != row->val) {
        if (row[-1].id != row->id)
            return UD;
        row--;
    }
    if ((row->attr & (m64 ? X86_A_NO64 : X86_A_ONLY64)) || row->op == X86_OP_INVALID)
        return UD;

    in.op = row->op;
    in.map = (uint8_t)(map > MAP_VEX ? map - MAP_VEX : map);
    in.attr = row->attr & ATTR_MASK;
    in.feature = (uint8_t)(row->attr >> 26);
    if (row->attr & I_AVXI)
        in.feature = in.vexl ? X86_FEAT_AVX2 : X86_FEAT_AVX;
    if (row->attr & I_CC)
        in.cond = in.opcode & 15;
    if ((row->mask & KEY_PP) == KEY_PP) {
        in.pp = (uint8_t)pp;
        in.rep = X86_REP_NONE;
    }

    /* Operand and address size (SDM 1 tables 3-3, 3-4). */
    if (m64) {
        in.asize = p67 ? 4 : 8;
        in.osize = w ? 8 : p66 && !in.vex ? 2 : 4;
        if ((row->attr & I_F64) || ((row->attr & I_D64) && !p66))
            in.osize = 8;
    } else {
        in.asize = (mode == X86_MODE_16) == p67 ? 4 : 2;
        in.osize = (mode == X86_MODE_16) == p66 ? 4 : 2;
        if (in.vex)
            in.osize = 4;
    }

    if (in.has_modrm && in.modrm < 0xc0 && !(row->attr & I_MOD3)) {
        if (in.asize != 2)
            err = decode_mem(&c, &in, row->attr & I_VSIB);
        else
            err = row->attr & I_VSIB ? UD : decode_mem16(&c, &in);
        if (err <= 0)
            return err;
    }
    if (in.seg_override != X86_SEG_NONE)
        in.seg = in.seg_override;

    err = decode_operands(&c, &in, row, size_table[in.osize >> 2][in.vexl]);
    if (err <= 0)
        return err;
    if (in.lock && !((in.attr & X86_A_LOCK) && in.o[0].kind == X86_O_MEM))
        return UD;
    in.len = (uint8_t)(c.p - bytes);
    *insn = in;
    return in.len;
}

static const char *const op_names[X86_OP_COUNT] = {
#define X86_OP_NAME(op, name) [X86_OP_##op] = name,
    X86_OP_LIST(X86_OP_NAME)
};

const char *x86_op_name(unsigned op)
{
    return op < X86_OP_COUNT ? op_names[op] : op_names[X86_OP_INVALID];
}
