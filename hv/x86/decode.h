/* SPDX-License-Identifier: BSD-2-Clause */
/* The x86-64 instruction decoder that every software engine shares.
 *
 * Input: bytes and a code-segment mode.  Output: one struct x86_insn in normal form (mnemonic, up to
 * four operands, one memory operand) plus the raw encoding fields that an engine needs to emit the
 * same operation on the host.  The decoder knows nothing of guest state: no CPUID gating, no
 * privilege, no segment limits.  Reference: Intel SDM volume 2, cited as SDM 2x; AMD APM volume 3. */
#ifndef MOBO_HV_X86_DECODE_H
#define MOBO_HV_X86_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "hv/x86/opcodes.h" /* enum x86_op: X86_OP_INVALID, X86_OP_ADD, ... X86_OP_VEC */

enum { X86_MAX_INSN = 15 };

/* Code-segment mode; the value is the default address size in bytes. */
enum x86_mode { X86_MODE_16 = 2, X86_MODE_32 = 4, X86_MODE_64 = 8 };

/* Register numbers of general registers are 0-15 in hardware order (rax rcx rdx rbx rsp rbp rsi rdi
 * r8..r15).  An 8-bit operand that names ah ch dh bh has reg 4-7 and X86_F_HIGH8 set. */
enum {
    X86_RAX, X86_RCX, X86_RDX, X86_RBX, X86_RSP, X86_RBP, X86_RSI, X86_RDI,
    X86_R8, X86_R9, X86_R10, X86_R11, X86_R12, X86_R13, X86_R14, X86_R15,
    X86_REG_NONE = 16, /* base or index absent: state keeps a zero in slot 16 */
    X86_REG_RIP = 17   /* base only: disp is relative to the end of the instruction */
};

enum { X86_ES, X86_CS, X86_SS, X86_DS, X86_FS, X86_GS, X86_SEG_NONE = 6 };

enum x86_okind {
    X86_O_NONE = 0,
    X86_O_GPR,  /* reg, size 1 2 4 8 */
    X86_O_MEM,  /* the instruction's memory operand, size in bytes (0: not an access, e.g. LEA, INVLPG) */
    X86_O_IMM,  /* insn.imm, already sign- or zero-extended as the manual says; size = operand size */
    X86_O_IMM2, /* insn.imm2: ENTER's nesting level, EXTRQ-like second immediates */
    X86_O_REL,  /* branch: insn.imm is the displacement from the end of the instruction */
    X86_O_FAR,  /* ptr16:16 or ptr16:32: insn.imm offset, insn.imm2 selector */
    X86_O_SREG, /* segment register */
    X86_O_CR, X86_O_DR,
    X86_O_MMX,  /* mm0-mm7, size 4 or 8 */
    X86_O_VEC,  /* xmm/ymm register; size is the bytes that the operation uses (4 8 16 32) */
    X86_O_ST    /* x87 stack register */
};

enum { X86_RD = 1, X86_WR = 2, X86_RW = 3, X86_F_HIGH8 = 4 };

struct x86_operand {
    uint8_t kind;  /* enum x86_okind */
    uint8_t reg;
    uint8_t size;  /* bytes; 10 for m80; 0 when it has none or is variable (FXSAVE, XSAVE) */
    uint8_t flags; /* X86_RD, X86_WR, X86_F_HIGH8 */
};

/* Attributes of an opcode row. */
enum {
    X86_A_LOCK   = 1u << 0,  /* LOCK is allowed when o[0] is memory */
    X86_A_END    = 1u << 1,  /* ends a block: branch, privileged, serializing, may change the mode */
    X86_A_NO64   = 1u << 2,  /* #UD in 64-bit mode */
    X86_A_ONLY64 = 1u << 3,
    X86_A_STRING = 1u << 4,  /* string instruction: rep and repne are meaningful */
    X86_A_ALIGN  = 1u << 5,  /* memory operand must be aligned to its size or #GP(0) (SDM 2A 2.4) */
    X86_A_FPU    = 1u << 6,  /* x87: checks CR0.EM, CR0.TS */
    X86_A_WAIT   = 1u << 7,  /* x87 that first reports a pending exception (CR0.NE) */
    X86_A_MMX    = 1u << 8,  /* uses the MMX registers: CR0.EM #UD, CR0.TS #NM, pending x87 #MF */
    X86_A_SSE    = 1u << 9,  /* legacy SSE: CR4.OSFXSR, CR0.EM, CR0.TS */
    X86_A_VEX    = 1u << 10, /* VEX: CR4.OSXSAVE, XCR0[2:1], CR0.TS; #UD outside protected mode */
    X86_A_FPEXC  = 1u << 11, /* can raise SIMD floating-point exceptions (uses MXCSR) */
    X86_A_GPRVEX = 1u << 12, /* VEX-encoded general-register instruction (BMI): no XCR0 check */
    X86_A_ZEROU  = 1u << 13  /* VEX: zeroes the destination above its size up to bit 255 */
};

/* CPUID feature that offers an instruction; an engine checks it against what the guest is shown. */
enum x86_feature {
    X86_FEAT_NONE, X86_FEAT_FPU, X86_FEAT_CMOV, X86_FEAT_CX8, X86_FEAT_CX16, X86_FEAT_MMX,
    X86_FEAT_FXSR, X86_FEAT_SSE, X86_FEAT_SSE2, X86_FEAT_SSE3, X86_FEAT_SSSE3, X86_FEAT_SSE41,
    X86_FEAT_SSE42, X86_FEAT_AES, X86_FEAT_PCLMUL, X86_FEAT_SHA, X86_FEAT_POPCNT, X86_FEAT_LZCNT,
    X86_FEAT_BMI1, X86_FEAT_BMI2, X86_FEAT_ADX, X86_FEAT_MOVBE, X86_FEAT_RDRAND, X86_FEAT_RDSEED,
    X86_FEAT_AVX, X86_FEAT_AVX2, X86_FEAT_FMA, X86_FEAT_F16C, X86_FEAT_XSAVE, X86_FEAT_XSAVEOPT,
    X86_FEAT_XSAVEC, X86_FEAT_FSGSBASE, X86_FEAT_RDTSCP, X86_FEAT_RDPID, X86_FEAT_INVPCID,
    X86_FEAT_CLFLUSHOPT, X86_FEAT_CLWB, X86_FEAT_SMAP, X86_FEAT_MONITOR, X86_FEAT_SYSCALL,
    X86_FEAT_PREFETCHW, X86_FEAT_LAHF64, X86_FEAT_UMIP, X86_FEAT_VAES, X86_FEAT_VPCLMUL,
    X86_FEAT_GFNI, X86_FEAT_COUNT
};

enum { X86_REP_NONE, X86_REP_F3, X86_REP_F2 };

struct x86_insn {
    uint16_t op;              /* enum x86_op */
    uint8_t len;              /* bytes, 1-15 */
    uint8_t nops;             /* operands used */
    struct x86_operand o[4];
    uint32_t attr;            /* X86_A_* */
    uint8_t feature;          /* enum x86_feature */
    uint8_t cond;             /* condition code 0-15 of Jcc, SETcc, CMOVcc */

    uint8_t mode;             /* enum x86_mode */
    uint8_t osize, asize;     /* effective operand and address size in bytes */
    uint8_t lock, rep;        /* LOCK present; X86_REP_* (only where not a mandatory prefix) */

    /* Memory operand (at most one; string and other implicit operands are not described here). */
    uint8_t base, index;      /* 0-15, X86_REG_NONE, X86_REG_RIP (base) */
    uint8_t vsib;             /* 1: index is a vector register (gathers) */
    uint8_t scale;            /* shift: 0-3 */
    uint8_t seg;              /* effective segment (defaults applied); for string ops: the source's */
    uint8_t seg_override;     /* X86_SEG_NONE when there was no prefix */
    int64_t disp;             /* sign-extended; moffs too */
    int64_t imm, imm2;

    /* Raw encoding, for engines that emit the same operation on the host. */
    uint8_t vex;              /* 0 legacy, 2 or 3: VEX prefix of that length */
    uint8_t map;              /* 0: one byte, 1: 0F, 2: 0F38, 3: 0F3A */
    uint8_t pp;               /* mandatory prefix or VEX.pp: 0 none, 1 66, 2 F3, 3 F2 */
    uint8_t opcode;
    uint8_t rex;              /* the REX byte or 0; for VEX the same WRXB bits, bit 6 set */
    uint8_t vvvv, vexl;       /* VEX.vvvv (already inverted: register number), VEX.L */
    uint8_t has_modrm, modrm;
    uint8_t immsize;          /* bytes of immediate at the end of the instruction */
};

/** Decode one instruction.
 * @param bytes  readable for @len bytes; more than 15 are never looked at
 * @param mode   code-segment mode
 * @param insn   written only on success
 * @return the length (1-15); 0 when @len bytes are a proper prefix of a longer instruction (give more);
 *         -X86_VEC_UD (-6) for an undefined encoding, -X86_VEC_GP (-13) when it would exceed 15 bytes.
 * LOCK on an instruction or form that does not take it is undefined.  Thread: any.  Never allocates. */
int x86_decode(const uint8_t *bytes, size_t len, enum x86_mode mode, struct x86_insn *insn);

/** Lower-case mnemonic of @op, or "(bad)".  Plain vector operations all answer "vec". */
const char *x86_op_name(unsigned op);

#endif
