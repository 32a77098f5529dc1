/* SPDX-License-Identifier: BSD-2-Clause */
/* Opcode rows of the integer, control, system, x87 and BMI instructions (Intel SDM 2, appendix A;
 * the section beside a row is where its operation is described in volume 2).
 *
 * Included by decode.c once per table that it builds; the columns are defined there:
 *
 *     T<map>(opcode, key, operation, attributes, operands in the manual's order)
 *
 * <map> 0: one byte, 1: 0F, 2: 0F 38, 3: 0F 3A; G2, G3: VEX maps of general-register instructions.
 * Rows of one opcode and map are adjacent; a later row beats an earlier one.  T8 is eight rows for
 * a register in the opcode, T16 sixteen for a condition.  An opcode without a matching row is
 * undefined. */

/* ---- 00-3F: arithmetic and logic (SDM 2A ADD, OR, ADC, SBB, AND, SUB, XOR, CMP) ---- */
#define ALU(base, op) \
    T0(base + 0, ANY, op, LOCK, RW(Eb), R(Gb)) \
    T0(base + 1, ANY, op, LOCK, RW(Ev), R(Gv)) \
    T0(base + 2, ANY, op, 0, RW(Gb), R(Eb)) \
    T0(base + 3, ANY, op, 0, RW(Gv), R(Ev)) \
    T0(base + 4, ANY, op, 0, RW(AL), R(Ib)) \
    T0(base + 5, ANY, op, 0, RW(rAX), R(Iz))
ALU(0x00, ADD)
T0(0x06, ANY, PUSH_SREG, NO64, R(SEG(ES)))
T0(0x07, ANY, POP_SREG, NO64 | END, W(SEG(ES)))
ALU(0x08, OR)
T0(0x0e, ANY, PUSH_SREG, NO64, R(SEG(CS)))
ALU(0x10, ADC)
T0(0x16, ANY, PUSH_SREG, NO64, R(SEG(SS)))
T0(0x17, ANY, POP_SREG, NO64 | END, W(SEG(SS)))
ALU(0x18, SBB)
T0(0x1e, ANY, PUSH_SREG, NO64, R(SEG(DS)))
T0(0x1f, ANY, POP_SREG, NO64 | END, W(SEG(DS)))
ALU(0x20, AND)
T0(0x27, ANY, DAA, NO64, NO)
ALU(0x28, SUB)
T0(0x2f, ANY, DAS, NO64, NO)
ALU(0x30, XOR)
T0(0x37, ANY, AAA, NO64, NO)
T0(0x38, ANY, CMP, 0, R(Eb), R(Gb))
T0(0x39, ANY, CMP, 0, R(Ev), R(Gv))
T0(0x3a, ANY, CMP, 0, R(Gb), R(Eb))
T0(0x3b, ANY, CMP, 0, R(Gv), R(Ev))
T0(0x3c, ANY, CMP, 0, R(AL), R(Ib))
T0(0x3d, ANY, CMP, 0, R(rAX), R(Iz))
T0(0x3f, ANY, AAS, NO64, NO)
#undef ALU

/* ---- 40-6F ---- */
T8(0x40, ANY, INC, NO64, RW(Zv))
T8(0x48, ANY, DEC, NO64, RW(Zv))
T8(0x50, ANY, PUSH, D64, R(Zv))
T8(0x58, ANY, POP, D64, W(Zv))
T0(0x60, ANY, PUSHA, NO64, NO)
T0(0x61, ANY, POPA, NO64, NO)
T0(0x62, ANY, BOUND, NO64 | FIX, R(Gv), R(M0))             /* mod 3 is EVEX: undefined here */
T0(0x63, ANY, ARPL, NO64, RW(Ew), R(Gw))
T0(0x63, M64, MOVSXD, 0, W(Gv), R(Ez))
T0(0x68, ANY, PUSH, D64, R(Iz))
T0(0x69, ANY, IMUL3, 0, W(Gv), R(Ev), R(Iz))
T0(0x6a, ANY, PUSH, D64, R(sIb))
T0(0x6b, ANY, IMUL3, 0, W(Gv), R(Ev), R(sIb))
T0(0x6c, ANY, INS, STRING | END, ELEM(1))
T0(0x6d, ANY, INS, STRING | END, ELEM(z))
T0(0x6e, ANY, OUTS, STRING | END, ELEM(1))
T0(0x6f, ANY, OUTS, STRING | END, ELEM(z))

/* ---- 70-8F ---- */
T16(T0, 0x70, ANY, JCC, F64 | CC | END, R(Jb))
#define GRP1(opc, more, dst, src) \
    T0(opc, REG(0), ADD, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(1), OR, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(2), ADC, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(3), SBB, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(4), AND, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(5), SUB, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(6), XOR, LOCK | more, RW(dst), R(src)) \
    T0(opc, REG(7), CMP, more, R(dst), R(src))
GRP1(0x80, 0, Eb, Ib)
GRP1(0x81, 0, Ev, Iz)
GRP1(0x82, NO64, Eb, Ib)
GRP1(0x83, 0, Ev, sIb)
#undef GRP1
T0(0x84, ANY, TEST, 0, R(Eb), R(Gb))
T0(0x85, ANY, TEST, 0, R(Ev), R(Gv))
T0(0x86, ANY, XCHG, LOCK, RW(Eb), RW(Gb))
T0(0x87, ANY, XCHG, LOCK, RW(Ev), RW(Gv))
T0(0x88, ANY, MOV, 0, W(Eb), R(Gb))
T0(0x89, ANY, MOV, 0, W(Ev), R(Gv))
T0(0x8a, ANY, MOV, 0, W(Gb), R(Eb))
T0(0x8b, ANY, MOV, 0, W(Gv), R(Ev))
T0(0x8c, ANY, MOV_FROM_SREG, 0, W(Rv_Mw), R(Sw))
T0(0x8d, ANY, LEA, 0, W(Gv), N(M0))
T0(0x8e, ANY, MOV_SREG, END, W(Sw), R(Ew))
T0(0x8f, REG(0), POP, D64, W(Ev))

/* ---- 90-AF ---- */
T0(0x90, ANY, NOP, 0, NO)
T0(0x90, PF3, PAUSE, 0, NO)
T0(0x90, REXB, XCHG, 0, RW(Zv), RW(rAX))
T0(0x91, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x92, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x93, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x94, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x95, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x96, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x97, ANY, XCHG, 0, RW(Zv), RW(rAX))
T0(0x98, ANY, CBW, 0, NO)
T0(0x99, ANY, CWD, 0, NO)
T0(0x9a, ANY, CALL_FAR, NO64 | END, R(Ap))
T0(0x9b, ANY, FWAIT, FPU | WAIT, NO)
T0(0x9c, ANY, PUSHF, D64, NO)
T0(0x9d, ANY, POPF, D64 | END, NO)
T0(0x9e, ANY, SAHF, FT(LAHF64), NO)
T0(0x9f, ANY, LAHF, FT(LAHF64), NO)
T0(0xa0, ANY, MOV, 0, W(AL), R(Ob))
T0(0xa1, ANY, MOV, 0, W(rAX), R(Ov))
T0(0xa2, ANY, MOV, 0, W(Ob), R(AL))
T0(0xa3, ANY, MOV, 0, W(Ov), R(rAX))
T0(0xa4, ANY, MOVS, STRING, ELEM(1))
T0(0xa5, ANY, MOVS, STRING, ELEM(v))
T0(0xa6, ANY, CMPS, STRING, ELEM(1))
T0(0xa7, ANY, CMPS, STRING, ELEM(v))
T0(0xa8, ANY, TEST, 0, R(AL), R(Ib))
T0(0xa9, ANY, TEST, 0, R(rAX), R(Iz))
T0(0xaa, ANY, STOS, STRING, ELEM(1))
T0(0xab, ANY, STOS, STRING, ELEM(v))
T0(0xac, ANY, LODS, STRING, ELEM(1))
T0(0xad, ANY, LODS, STRING, ELEM(v))
T0(0xae, ANY, SCAS, STRING, ELEM(1))
T0(0xaf, ANY, SCAS, STRING, ELEM(v))

/* ---- B0-D7 ---- */
T8(0xb0, ANY, MOV, 0, W(Zb), R(Ib))
T8(0xb8, ANY, MOV, 0, W(Zv), R(Iv))
#define GRP2(opc, dst, cnt) /* /6 is an alias of SHL on every processor */ \
    T0(opc, REG(0), ROL, 0, RW(dst), R(cnt)) \
    T0(opc, REG(1), ROR, 0, RW(dst), R(cnt)) \
    T0(opc, REG(2), RCL, 0, RW(dst), R(cnt)) \
    T0(opc, REG(3), RCR, 0, RW(dst), R(cnt)) \
    T0(opc, REG(4), SHL, 0, RW(dst), R(cnt)) \
    T0(opc, REG(5), SHR, 0, RW(dst), R(cnt)) \
    T0(opc, REG(6), SHL, 0, RW(dst), R(cnt)) \
    T0(opc, REG(7), SAR, 0, RW(dst), R(cnt))
GRP2(0xc0, Eb, Ib)
GRP2(0xc1, Ev, Ib)
T0(0xc2, ANY, RET_NEAR, F64 | END, R(Iw))
T0(0xc3, ANY, RET_NEAR, F64 | END, NO)
T0(0xc4, ANY, LES, NO64 | END, W(Gv), R(Mp))               /* mod 3 is VEX */
T0(0xc5, ANY, LDS, NO64 | END, W(Gv), R(Mp))
T0(0xc6, REG(0), MOV, 0, W(Eb), R(Ib))
T0(0xc7, REG(0), MOV, 0, W(Ev), R(Iz))
T0(0xc8, ANY, ENTER, D64, R(Iw), R(Ib2))
T0(0xc9, ANY, LEAVE, D64, NO)
T0(0xca, ANY, RET_FAR, END, R(Iw))
T0(0xcb, ANY, RET_FAR, END, NO)
T0(0xcc, ANY, INT3, END, NO)
T0(0xcd, ANY, INT, END, R(Ib))
T0(0xce, ANY, INTO, NO64 | END, NO)
T0(0xcf, ANY, IRET, END, NO)
GRP2(0xd0, Eb, ONE)
GRP2(0xd1, Ev, ONE)
GRP2(0xd2, Eb, CL)
GRP2(0xd3, Ev, CL)
#undef GRP2
T0(0xd4, ANY, AAM, NO64, R(Ib))
T0(0xd5, ANY, AAD, NO64, R(Ib))
T0(0xd6, ANY, SALC, NO64, NO)                              /* APM 3, appendix A */
T0(0xd7, ANY, XLAT, 0, NO)

/* ---- D8-DF: x87 (SDM 2D appendix A.5; aliases of the 8087 family included) ---- */
#define FP (FPU | FT(FPU))
#define FPW (FPU | WAIT | FT(FPU))
#define FPW3 (FPU | WAIT | FT(SSE3))
T0(0xd8, MEM, X87, FPW, R(Md))
T0(0xd8, MODR, X87, FPW, NO)
T0(0xd9, MEM | REG(0), X87, FPW, R(Md))
T0(0xd9, MEM | REG(2), X87, FPW, W(Md))
T0(0xd9, MEM | REG(3), X87, FPW, W(Md))
T0(0xd9, MEM | REG(4), FLDENV, FPW | FIX, R(M0))
T0(0xd9, MEM | REG(5), FLDCW, FPW, R(Mw))
T0(0xd9, MEM | REG(6), FNSTENV, FP | FIX, W(M0))
T0(0xd9, MEM | REG(7), FNSTCW, FP, W(Mw))
T0(0xd9, MODR | REG(0), X87, FPW, NO)                      /* FLD */
T0(0xd9, MODR | REG(1), X87, FPW, NO)                      /* FXCH */
T0(0xd9, MODR | REG(2) | RM(0), X87, FPW, NO)              /* FNOP */
T0(0xd9, MODR | REG(3), X87, FPW, NO)                      /* FSTP1 */
T0(0xd9, MODR | REG(4) | RM(0), X87, FPW, NO)              /* FCHS */
T0(0xd9, MODR | REG(4) | RM(1), X87, FPW, NO)              /* FABS */
T0(0xd9, MODR | REG(4) | RM(4), X87, FPW, NO)              /* FTST */
T0(0xd9, MODR | REG(4) | RM(5), X87, FPW, NO)              /* FXAM */
T0(0xd9, MODR | REG(5) | RM(0), X87, FPW, NO)              /* FLD1 .. FLDZ */
T0(0xd9, MODR | REG(5) | RM(1), X87, FPW, NO)
T0(0xd9, MODR | REG(5) | RM(2), X87, FPW, NO)
T0(0xd9, MODR | REG(5) | RM(3), X87, FPW, NO)
T0(0xd9, MODR | REG(5) | RM(4), X87, FPW, NO)
T0(0xd9, MODR | REG(5) | RM(5), X87, FPW, NO)
T0(0xd9, MODR | REG(5) | RM(6), X87, FPW, NO)
T0(0xd9, MODR | REG(6), X87, FPW, NO)                      /* F2XM1 .. FINCSTP */
T0(0xd9, MODR | REG(7), X87, FPW, NO)                      /* FPREM .. FCOS */
T0(0xda, MEM, X87, FPW, R(Md))
T0(0xda, MODR | REG(0), X87_FCMOV, FPW, NO)
T0(0xda, MODR | REG(1), X87_FCMOV, FPW, NO)
T0(0xda, MODR | REG(2), X87_FCMOV, FPW, NO)
T0(0xda, MODR | REG(3), X87_FCMOV, FPW, NO)
T0(0xda, MODR | REG(5) | RM(1), X87, FPW, NO)              /* FUCOMPP */
T0(0xdb, MEM | REG(0), X87, FPW, R(Md))
T0(0xdb, MEM | REG(1), X87, FPW3, W(Md))                   /* FISTTP */
T0(0xdb, MEM | REG(2), X87, FPW, W(Md))
T0(0xdb, MEM | REG(3), X87, FPW, W(Md))
T0(0xdb, MEM | REG(5), X87, FPW, R(Mt))
T0(0xdb, MEM | REG(7), X87, FPW, W(Mt))
T0(0xdb, MODR | REG(0), X87_FCMOV, FPW, NO)
T0(0xdb, MODR | REG(1), X87_FCMOV, FPW, NO)
T0(0xdb, MODR | REG(2), X87_FCMOV, FPW, NO)
T0(0xdb, MODR | REG(3), X87_FCMOV, FPW, NO)
T0(0xdb, MODR | REG(4) | RM(0), X87, FP, NO)               /* FNENI: no operation since the 80287 */
T0(0xdb, MODR | REG(4) | RM(1), X87, FP, NO)               /* FNDISI */
T0(0xdb, MODR | REG(4) | RM(2), FNCLEX, FP, NO)
T0(0xdb, MODR | REG(4) | RM(3), FNINIT, FP, NO)
T0(0xdb, MODR | REG(4) | RM(4), X87, FP, NO)               /* FNSETPM */
T0(0xdb, MODR | REG(5), X87_FCOMI, FPW, NO)
T0(0xdb, MODR | REG(6), X87_FCOMI, FPW, NO)
T0(0xdc, MEM, X87, FPW, R(Mq))
T0(0xdc, MODR, X87, FPW, NO)
T0(0xdd, MEM | REG(0), X87, FPW, R(Mq))
T0(0xdd, MEM | REG(1), X87, FPW3, W(Mq))                   /* FISTTP */
T0(0xdd, MEM | REG(2), X87, FPW, W(Mq))
T0(0xdd, MEM | REG(3), X87, FPW, W(Mq))
T0(0xdd, MEM | REG(4), FRSTOR, FPW | FIX, R(M0))
T0(0xdd, MEM | REG(6), FNSAVE, FP | FIX, W(M0))
T0(0xdd, MEM | REG(7), FNSTSW, FP, W(Mw))
T0(0xdd, MODR | REG(0), X87, FPW, NO)                      /* FFREE */
T0(0xdd, MODR | REG(1), X87, FPW, NO)                      /* FXCH4 */
T0(0xdd, MODR | REG(2), X87, FPW, NO)
T0(0xdd, MODR | REG(3), X87, FPW, NO)
T0(0xdd, MODR | REG(4), X87, FPW, NO)
T0(0xdd, MODR | REG(5), X87, FPW, NO)
T0(0xde, MEM, X87, FPW, R(Mw))
T0(0xde, MODR, X87, FPW, NO)
T0(0xde, MODR | REG(3), INVALID, 0, NO)                    /* only FCOMPP below */
T0(0xde, MODR | REG(3) | RM(1), X87, FPW, NO)
T0(0xdf, MEM | REG(0), X87, FPW, R(Mw))
T0(0xdf, MEM | REG(1), X87, FPW3, W(Mw))                   /* FISTTP */
T0(0xdf, MEM | REG(2), X87, FPW, W(Mw))
T0(0xdf, MEM | REG(3), X87, FPW, W(Mw))
T0(0xdf, MEM | REG(4), X87, FPW, R(Mt))                    /* FBLD */
T0(0xdf, MEM | REG(5), X87, FPW, R(Mq))
T0(0xdf, MEM | REG(6), X87, FPW, W(Mt))                    /* FBSTP */
T0(0xdf, MEM | REG(7), X87, FPW, W(Mq))
T0(0xdf, MODR | REG(0), X87, FPW, NO)                      /* FFREEP */
T0(0xdf, MODR | REG(1), X87, FPW, NO)                      /* FXCH7 */
T0(0xdf, MODR | REG(2), X87, FPW, NO)                      /* FSTP8 */
T0(0xdf, MODR | REG(3), X87, FPW, NO)                      /* FSTP9 */
T0(0xdf, MODR | REG(4) | RM(0), FNSTSW, FP, W(AX))
T0(0xdf, MODR | REG(5), X87_FCOMI, FPW, NO)
T0(0xdf, MODR | REG(6), X87_FCOMI, FPW, NO)
#undef FP
#undef FPW
#undef FPW3

/* ---- E0-FF ---- */
T0(0xe0, ANY, LOOPNE, F64 | END, R(Jb))
T0(0xe1, ANY, LOOPE, F64 | END, R(Jb))
T0(0xe2, ANY, LOOP, F64 | END, R(Jb))
T0(0xe3, ANY, JCXZ, F64 | END, R(Jb))
T0(0xe4, ANY, IN, END, W(AL), R(Ib))
T0(0xe5, ANY, IN, END, W(eAX), R(Ib))
T0(0xe6, ANY, OUT, END, R(Ib), R(AL))
T0(0xe7, ANY, OUT, END, R(Ib), R(eAX))
T0(0xe8, ANY, CALL_NEAR, F64 | END, R(Jz))
T0(0xe9, ANY, JMP_NEAR, F64 | END, R(Jz))
T0(0xea, ANY, JMP_FAR, NO64 | END, R(Ap))
T0(0xeb, ANY, JMP_NEAR, F64 | END, R(Jb))
T0(0xec, ANY, IN, END, W(AL), R(DX))
T0(0xed, ANY, IN, END, W(eAX), R(DX))
T0(0xee, ANY, OUT, END, R(DX), R(AL))
T0(0xef, ANY, OUT, END, R(DX), R(eAX))
T0(0xf1, ANY, INT1, END, NO)
T0(0xf4, ANY, HLT, END, NO)
T0(0xf5, ANY, CMC, 0, NO)
#define GRP3(opc, dst, src) \
    T0(opc, REG(0), TEST, 0, R(dst), R(src)) \
    T0(opc, REG(1), TEST, 0, R(dst), R(src)) \
    T0(opc, REG(2), NOT, LOCK, RW(dst)) \
    T0(opc, REG(3), NEG, LOCK, RW(dst)) \
    T0(opc, REG(4), MUL, 0, R(dst)) \
    T0(opc, REG(5), IMUL1, 0, R(dst)) \
    T0(opc, REG(6), DIV, 0, R(dst)) \
    T0(opc, REG(7), IDIV, 0, R(dst))
GRP3(0xf6, Eb, Ib)
GRP3(0xf7, Ev, Iz)
#undef GRP3
T0(0xf8, ANY, CLC, 0, NO)
T0(0xf9, ANY, STC, 0, NO)
T0(0xfa, ANY, CLI, END, NO)
T0(0xfb, ANY, STI, END, NO)
T0(0xfc, ANY, CLD, 0, NO)
T0(0xfd, ANY, STD, 0, NO)
T0(0xfe, REG(0), INC, LOCK, RW(Eb))
T0(0xfe, REG(1), DEC, LOCK, RW(Eb))
T0(0xff, REG(0), INC, LOCK, RW(Ev))
T0(0xff, REG(1), DEC, LOCK, RW(Ev))
T0(0xff, REG(2), CALL_IND, F64 | END, R(Ev))
T0(0xff, REG(3), CALL_FARM, END, R(Mp))
T0(0xff, REG(4), JMP_IND, F64 | END, R(Ev))
T0(0xff, REG(5), JMP_FARM, END, R(Mp))
T0(0xff, REG(6), PUSH, D64, R(Ev))

/* ==== 0F ==== */
T1(0x00, REG(0), SLDT, END, W(Rv_Mw))
T1(0x00, REG(1), STR, END, W(Rv_Mw))
T1(0x00, REG(2), LLDT, END, R(Ew))
T1(0x00, REG(3), LTR, END, R(Ew))
T1(0x00, REG(4), VERR, 0, R(Ew))
T1(0x00, REG(5), VERW, 0, R(Ew))
T1(0x01, MEM | REG(0), SGDT, F64 | END | FIX, W(M0))
T1(0x01, MEM | REG(1), SIDT, F64 | END | FIX, W(M0))
T1(0x01, MEM | REG(2), LGDT, F64 | END | FIX, R(M0))
T1(0x01, MEM | REG(3), LIDT, F64 | END | FIX, R(M0))
T1(0x01, REG(4), SMSW, END, W(Rv_Mw))
T1(0x01, REG(6), LMSW, END, R(Ew))
T1(0x01, MEM | REG(7), INVLPG, END, N(M0))
T1(0x01, NP | MODR | REG(0) | RM(1), VMCALL, END, NO)
T1(0x01, NP | MODR | REG(1) | RM(0), MONITOR, END | FT(MONITOR), NO)
T1(0x01, NP | MODR | REG(1) | RM(1), MWAIT, END | FT(MONITOR), NO)
T1(0x01, NP | MODR | REG(1) | RM(2), CLAC, END | FT(SMAP), NO)
T1(0x01, NP | MODR | REG(1) | RM(3), STAC, END | FT(SMAP), NO)
T1(0x01, NP | MODR | REG(2) | RM(0), XGETBV, FT(XSAVE), NO)
T1(0x01, NP | MODR | REG(2) | RM(1), XSETBV, END | FT(XSAVE), NO)
T1(0x01, MODR | REG(3) | RM(1), VMMCALL, END, NO)
T1(0x01, MODR | REG(7) | RM(0), SWAPGS, ONLY64 | END, NO)
T1(0x01, MODR | REG(7) | RM(1), RDTSCP, FT(RDTSCP), NO)
T1(0x02, ANY, LAR, 0, RW(Gv), R(Ew))
T1(0x03, ANY, LSL, 0, RW(Gv), R(Ew))
T1(0x05, ANY, SYSCALL, END | FT(SYSCALL), NO)
T1(0x06, ANY, CLTS, END, NO)
T1(0x07, ANY, SYSRET, END | FT(SYSCALL), NO)
T1(0x08, ANY, INVD, END, NO)
T1(0x09, ANY, WBINVD, END, NO)
T1(0x0b, ANY, UD2, END, NO)
T1(0x0d, ANY, NOP, 0, N(Rv_M0))                            /* PREFETCH, PREFETCHW, PREFETCHWT1 */
/* Hint space (SDM 2B NOP): PREFETCHh, CLDEMOTE, RDSSP, ENDBR and what MPX used. */
T1(0x18, ANY, NOP, 0, N(Rv_M0))
T1(0x19, ANY, NOP, 0, N(Rv_M0))
T1(0x1a, ANY, NOP, 0, N(Rv_M0))
T1(0x1b, ANY, NOP, 0, N(Rv_M0))
T1(0x1c, ANY, NOP, 0, N(Rv_M0))
T1(0x1d, ANY, NOP, 0, N(Rv_M0))
T1(0x1e, ANY, NOP, 0, N(Rv_M0))
T1(0x1f, ANY, NOP, 0, N(Rv_M0))
T1(0x20, ANY, MOV_FROM_CR, F64 | MOD3 | END, W(Ry), R(Cy))
T1(0x21, ANY, MOV_FROM_DR, F64 | MOD3 | END, W(Ry), R(Dy))
T1(0x22, ANY, MOV_CR, F64 | MOD3 | END, W(Cy), R(Ry))
T1(0x23, ANY, MOV_DR, F64 | MOD3 | END, W(Dy), R(Ry))
T1(0x30, ANY, WRMSR, END, NO)
T1(0x31, ANY, RDTSC, 0, NO)
T1(0x32, ANY, RDMSR, END, NO)
T1(0x33, ANY, RDPMC, END, NO)
T1(0x34, ANY, SYSENTER, END, NO)
T1(0x35, ANY, SYSEXIT, END, NO)
T16(T1, 0x40, ANY, CMOVCC, CC | FT(CMOV), RW(Gv), R(Ev))
T16(T1, 0x80, ANY, JCC, F64 | CC | END, R(Jz))
T16(T1, 0x90, ANY, SETCC, CC, W(Eb))
T1(0xa0, ANY, PUSH_SREG, D64, R(SEG(FS)))
T1(0xa1, ANY, POP_SREG, D64 | END, W(SEG(FS)))
T1(0xa2, ANY, CPUID, END, NO)
T1(0xa3, ANY, BT, 0, R(Ev), R(Gv))
T1(0xa4, ANY, SHLD, 0, RW(Ev), R(Gv), R(Ib))
T1(0xa5, ANY, SHLD, 0, RW(Ev), R(Gv), R(CL))
T1(0xa8, ANY, PUSH_SREG, D64, R(SEG(GS)))
T1(0xa9, ANY, POP_SREG, D64 | END, W(SEG(GS)))
T1(0xaa, ANY, RSM, END, NO)
T1(0xab, ANY, BTS, LOCK, RW(Ev), R(Gv))
T1(0xac, ANY, SHRD, 0, RW(Ev), R(Gv), R(Ib))
T1(0xad, ANY, SHRD, 0, RW(Ev), R(Gv), R(CL))
/* Group 15 (SDM 2D table A-6).  The register form of the XSAVE family is undefined. */
T1(0xae, NP | MEM | REG(0), FXSAVE, FT(FXSR), W(M0))
T1(0xae, NP | MEM | REG(1), FXRSTOR, FT(FXSR), R(M0))
T1(0xae, NP | MEM | REG(2), LDMXCSR, SSE_ | FT(SSE), R(Md))
T1(0xae, NP | MEM | REG(3), STMXCSR, SSE_ | FT(SSE), W(Md))
T1(0xae, NP | MEM | REG(4), XSAVE, FT(XSAVE), W(M0))
T1(0xae, NP | MEM | REG(5), XRSTOR, FT(XSAVE), R(M0))
T1(0xae, NP | MEM | REG(6), XSAVEOPT, FT(XSAVEOPT), W(M0))
T1(0xae, NP | MEM | REG(7), CLFLUSH, 0, N(M0))
T1(0xae, P66 | MEM | REG(6), CLWB, FT(CLWB), N(M0))
T1(0xae, P66 | MEM | REG(7), CLFLUSHOPT, FT(CLFLUSHOPT), N(M0))
T1(0xae, NP | MODR | REG(5), LFENCE, FT(SSE2), NO)
T1(0xae, NP | MODR | REG(6), MFENCE, FT(SSE2), NO)
T1(0xae, NP | MODR | REG(7), SFENCE, FT(SSE), NO)
T1(0xae, PF3 | MODR | REG(0), RDFSBASE, ONLY64 | FT(FSGSBASE), W(Ry))
T1(0xae, PF3 | MODR | REG(1), RDGSBASE, ONLY64 | FT(FSGSBASE), W(Ry))
T1(0xae, PF3 | MODR | REG(2), WRFSBASE, ONLY64 | FT(FSGSBASE), R(Ry))
T1(0xae, PF3 | MODR | REG(3), WRGSBASE, ONLY64 | FT(FSGSBASE), R(Ry))
T1(0xaf, ANY, IMUL2, 0, RW(Gv), R(Ev))
T1(0xb0, ANY, CMPXCHG, LOCK, RW(Eb), R(Gb))
T1(0xb1, ANY, CMPXCHG, LOCK, RW(Ev), R(Gv))
T1(0xb2, ANY, LSS, END, W(Gv), R(Mp))
T1(0xb3, ANY, BTR, LOCK, RW(Ev), R(Gv))
T1(0xb4, ANY, LFS, END, W(Gv), R(Mp))
T1(0xb5, ANY, LGS, END, W(Gv), R(Mp))
T1(0xb6, ANY, MOVZX, 0, W(Gv), R(Eb))
T1(0xb7, ANY, MOVZX, 0, W(Gv), R(Ew))
T1(0xb8, PF3, POPCNT, FT(POPCNT), W(Gv), R(Ev))
T1(0xb9, ANY, UD1, END, N(Gv), N(Rv_M0))
T1(0xba, REG(4), BT, 0, R(Ev), R(Ib))
T1(0xba, REG(5), BTS, LOCK, RW(Ev), R(Ib))
T1(0xba, REG(6), BTR, LOCK, RW(Ev), R(Ib))
T1(0xba, REG(7), BTC, LOCK, RW(Ev), R(Ib))
T1(0xbb, ANY, BTC, LOCK, RW(Ev), R(Gv))
T1(0xbc, ANY, BSF, 0, RW(Gv), R(Ev))
T1(0xbc, PF3, TZCNT, FT(BMI1), W(Gv), R(Ev))
T1(0xbd, ANY, BSR, 0, RW(Gv), R(Ev))
T1(0xbd, PF3, LZCNT, FT(LZCNT), W(Gv), R(Ev))
T1(0xbe, ANY, MOVSX, 0, W(Gv), R(Eb))
T1(0xbf, ANY, MOVSX, 0, W(Gv), R(Ew))
T1(0xc0, ANY, XADD, LOCK, RW(Eb), RW(Gb))
T1(0xc1, ANY, XADD, LOCK, RW(Ev), RW(Gv))
T1(0xc3, NP, MOVNTI, FT(SSE2), W(My), R(Gy))
/* Group 9 */
T1(0xc7, MEM | REG(1), CMPXCHG8B, LOCK | FT(CX8), RW(Mq))
T1(0xc7, MEM | REG(1) | W1 | M64, CMPXCHG16B, LOCK | ALIGN | FT(CX16), RW(Mdq))
T1(0xc7, NP | MEM | REG(3), XRSTORS, END | FT(XSAVEC), R(M0))
T1(0xc7, NP | MEM | REG(4), XSAVEC, FT(XSAVEC), W(M0))
T1(0xc7, NP | MEM | REG(5), XSAVES, END | FT(XSAVEC), W(M0))
T1(0xc7, NOREP | MODR | REG(6), RDRAND, FT(RDRAND), W(Rv))
T1(0xc7, NOREP | MODR | REG(7), RDSEED, FT(RDSEED), W(Rv))
T1(0xc7, PF3 | MODR | REG(7), RDPID, F64 | FT(RDPID), W(Ry))
T8_1(0xc8, ANY, BSWAP, 0, RW(Zv))
T1(0xff, ANY, UD0, END, N(Gv), N(Rv_M0))

/* ==== 0F 38 ==== */
T2(0x82, P66, INVPCID, F64 | END | FT(INVPCID), R(Gy), R(Mdq))
T2(0xf0, NOREP, MOVBE, FT(MOVBE), W(Gv), R(Mv))
T2(0xf0, PF2, CRC32, FT(SSE42), RW(Gy), R(Eb))
T2(0xf1, NOREP, MOVBE, FT(MOVBE), W(Mv), R(Gv))
T2(0xf1, PF2, CRC32, FT(SSE42), RW(Gy), R(Ev))
T2(0xf6, P66, ADCX, FT(ADX), RW(Gy), R(Ey))
T2(0xf6, PF3, ADOX, FT(ADX), RW(Gy), R(Ey))

/* ==== VEX 0F 38, 0F 3A: BMI1 and BMI2 (SDM 2 section 2.6: VEX.L = 0) ==== */
G2(0xf2, NP | L0, ANDN, FT(BMI1), W(Gy), R(By), R(Ey))
G2(0xf3, NP | L0 | REG(1), BLSR, FT(BMI1), W(By), R(Ey))
G2(0xf3, NP | L0 | REG(2), BLSMSK, FT(BMI1), W(By), R(Ey))
G2(0xf3, NP | L0 | REG(3), BLSI, FT(BMI1), W(By), R(Ey))
G2(0xf5, NP | L0, BZHI, FT(BMI2), W(Gy), R(Ey), R(By))
G2(0xf5, PF3 | L0, PEXT, FT(BMI2), W(Gy), R(By), R(Ey))
G2(0xf5, PF2 | L0, PDEP, FT(BMI2), W(Gy), R(By), R(Ey))
G2(0xf6, PF2 | L0, MULX, FT(BMI2), W(Gy), W(By), R(Ey))    /* also reads rdx */
G2(0xf7, NP | L0, BEXTR, FT(BMI1), W(Gy), R(Ey), R(By))
G2(0xf7, P66 | L0, SHLX, FT(BMI2), W(Gy), R(Ey), R(By))
G2(0xf7, PF3 | L0, SARX, FT(BMI2), W(Gy), R(Ey), R(By))
G2(0xf7, PF2 | L0, SHRX, FT(BMI2), W(Gy), R(Ey), R(By))
G3(0xf0, PF2 | L0, RORX, FT(BMI2), W(Gy), R(Ey), R(Ib))
