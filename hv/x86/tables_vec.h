/* SPDX-License-Identifier: BSD-2-Clause */
/* Opcode rows of the vector instructions: MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA, GFNI, AVX, AVX2,
 * F16C, FMA, VAES, VPCLMULQDQ (Intel SDM 2, appendix A; alignment and exceptions: SDM 2A sections
 * 2.4, 2.5).
 *
 * Included by decode.c like tables_int.h.  S<map> rows are legacy, V<map> rows VEX-encoded:
 *
 *     S1(opcode, key, mnemonic, attributes, operands)      operation X86_OP_VEC
 *     X1(opcode, key, operation, attributes, operands)     the same with an operation of its own
 *
 * and V1, Y1 for VEX.  The mnemonic is for the reader and for the tests.  A 16-byte memory operand
 * of a legacy row must be aligned unless the row says UNAL; a VEX row says ALIGN.
 *
 * Scalar operations write the low element and keep the rest: legacy rows have RW with the element's
 * size, VEX rows have all 16 bytes because the rest is copied (from the second operand, or, FMA,
 * from the first). */

/* ---- families ---- */
/* packed single, packed double, scalar single, scalar double; two operands (VEX: three) */
#define FP4(opc, mn, fx) \
    S1(opc, NP, mn##PS, fx | FT(SSE), RW(Vdq), R(Wdq)) \
    S1(opc, P66, mn##PD, fx | FT(SSE2), RW(Vdq), R(Wdq)) \
    S1(opc, PF3, mn##SS, fx | FT(SSE), RW(Vd), R(Wd)) \
    S1(opc, PF2, mn##SD, fx | FT(SSE2), RW(Vq), R(Wq)) \
    V1(opc, NP, V##mn##PS, fx | FT(AVX), W(Vx), R(Hx), R(Wx)) \
    V1(opc, P66, V##mn##PD, fx | FT(AVX), W(Vx), R(Hx), R(Wx)) \
    V1(opc, PF3, V##mn##SS, fx | FT(AVX), W(Vdq), R(Hdq), R(Wd)) \
    V1(opc, PF2, V##mn##SD, fx | FT(AVX), W(Vdq), R(Hdq), R(Wq))
/* packed single and double only */
#define FP2(opc, mn) \
    S1(opc, NP, mn##PS, FT(SSE), RW(Vdq), R(Wdq)) \
    S1(opc, P66, mn##PD, FT(SSE2), RW(Vdq), R(Wdq)) \
    V1(opc, NP, V##mn##PS, FT(AVX), W(Vx), R(Hx), R(Wx)) \
    V1(opc, P66, V##mn##PD, FT(AVX), W(Vx), R(Hx), R(Wx))
/* integer: MMX (with its feature), SSE2 and VEX (AVX at 128, AVX2 at 256 bits) */
#define INT3M(opc, mn, feat, mmxsrc) \
    S1(opc, NP, mn, MMX_ | FT(feat), RW(Pq), R(mmxsrc)) \
    S1(opc, P66, mn, FT(SSE2), RW(Vdq), R(Wdq)) \
    V1(opc, P66, V##mn, AVXI, W(Vx), R(Hx), R(Wx))
#define INT3(opc, mn) INT3M(opc, mn, MMX, Qq)
#define INT3S(opc, mn) INT3M(opc, mn, SSE, Qq)   /* MMX form came with SSE */
#define INT32(opc, mn) INT3M(opc, mn, SSE2, Qq)  /* MMX form came with SSE2 */
/* shift by a count in the low quadword of a 128-bit operand */
#define SHIFT(opc, mn) \
    S1(opc, NP, mn, MMX_ | FT(MMX), RW(Pq), R(Qq)) \
    S1(opc, P66, mn, FT(SSE2), RW(Vdq), R(Wdq)) \
    V1(opc, P66, V##mn, AVXI, W(Vx), R(Hx), R(Wdq))

/* ==== 0F 10-17: moves ==== */
S1(0x10, NP, MOVUPS, UNAL | FT(SSE), W(Vdq), R(Wdq))
S1(0x10, P66, MOVUPD, UNAL | FT(SSE2), W(Vdq), R(Wdq))
S1(0x10, PF3 | MEM, MOVSS, FT(SSE), W(Vdq), R(Md))
S1(0x10, PF3 | MODR, MOVSS, FT(SSE), RW(Vd), R(Ud))
S1(0x10, PF2 | MEM, MOVSD, FT(SSE2), W(Vdq), R(Mq))
S1(0x10, PF2 | MODR, MOVSD, FT(SSE2), RW(Vq), R(Uq))
V1(0x10, NP, VMOVUPS, FT(AVX), W(Vx), R(Wx))
V1(0x10, P66, VMOVUPD, FT(AVX), W(Vx), R(Wx))
V1(0x10, PF3 | MEM, VMOVSS, FT(AVX), W(Vdq), R(Md))
V1(0x10, PF3 | MODR, VMOVSS, FT(AVX), W(Vdq), R(Hdq), R(Ud))
V1(0x10, PF2 | MEM, VMOVSD, FT(AVX), W(Vdq), R(Mq))
V1(0x10, PF2 | MODR, VMOVSD, FT(AVX), W(Vdq), R(Hdq), R(Uq))

S1(0x11, NP, MOVUPS, UNAL | FT(SSE), W(Wdq), R(Vdq))
S1(0x11, P66, MOVUPD, UNAL | FT(SSE2), W(Wdq), R(Vdq))
S1(0x11, PF3 | MEM, MOVSS, FT(SSE), W(Md), R(Vd))
S1(0x11, PF3 | MODR, MOVSS, FT(SSE), RW(Ud), R(Vd))
S1(0x11, PF2 | MEM, MOVSD, FT(SSE2), W(Mq), R(Vq))
S1(0x11, PF2 | MODR, MOVSD, FT(SSE2), RW(Uq), R(Vq))
V1(0x11, NP, VMOVUPS, FT(AVX), W(Wx), R(Vx))
V1(0x11, P66, VMOVUPD, FT(AVX), W(Wx), R(Vx))
V1(0x11, PF3 | MEM, VMOVSS, FT(AVX), W(Md), R(Vd))
V1(0x11, PF3 | MODR, VMOVSS, FT(AVX), W(Udq), R(Hdq), R(Vd))
V1(0x11, PF2 | MEM, VMOVSD, FT(AVX), W(Mq), R(Vq))
V1(0x11, PF2 | MODR, VMOVSD, FT(AVX), W(Udq), R(Hdq), R(Vq))

S1(0x12, NP | MEM, MOVLPS, FT(SSE), RW(Vq), R(Mq))
S1(0x12, NP | MODR, MOVHLPS, FT(SSE), RW(Vq), R(Udq))
S1(0x12, P66 | MEM, MOVLPD, FT(SSE2), RW(Vq), R(Mq))
S1(0x12, PF3, MOVSLDUP, FT(SSE3), W(Vdq), R(Wdq))
S1(0x12, PF2, MOVDDUP, FT(SSE3), W(Vdq), R(Wq))
V1(0x12, NP | MEM | L0, VMOVLPS, FT(AVX), W(Vdq), R(Hdq), R(Mq))
V1(0x12, NP | MODR | L0, VMOVHLPS, FT(AVX), W(Vdq), R(Hdq), R(Udq))
V1(0x12, P66 | MEM | L0, VMOVLPD, FT(AVX), W(Vdq), R(Hdq), R(Mq))
V1(0x12, PF3, VMOVSLDUP, FT(AVX), W(Vx), R(Wx))
V1(0x12, PF2 | L0, VMOVDDUP, FT(AVX), W(Vdq), R(Wq))
V1(0x12, PF2 | L1, VMOVDDUP, FT(AVX), W(Vqq), R(Wqq))
S1(0x13, NP | MEM, MOVLPS, FT(SSE), W(Mq), R(Vq))
S1(0x13, P66 | MEM, MOVLPD, FT(SSE2), W(Mq), R(Vq))
V1(0x13, NP | MEM | L0, VMOVLPS, FT(AVX), W(Mq), R(Vq))
V1(0x13, P66 | MEM | L0, VMOVLPD, FT(AVX), W(Mq), R(Vq))
FP2(0x14, UNPCKL)
FP2(0x15, UNPCKH)
S1(0x16, NP | MEM, MOVHPS, FT(SSE), RW(Vdq), R(Mq))
S1(0x16, NP | MODR, MOVLHPS, FT(SSE), RW(Vdq), R(Uq))
S1(0x16, P66 | MEM, MOVHPD, FT(SSE2), RW(Vdq), R(Mq))
S1(0x16, PF3, MOVSHDUP, FT(SSE3), W(Vdq), R(Wdq))
V1(0x16, NP | MEM | L0, VMOVHPS, FT(AVX), W(Vdq), R(Hdq), R(Mq))
V1(0x16, NP | MODR | L0, VMOVLHPS, FT(AVX), W(Vdq), R(Hdq), R(Uq))
V1(0x16, P66 | MEM | L0, VMOVHPD, FT(AVX), W(Vdq), R(Hdq), R(Mq))
V1(0x16, PF3, VMOVSHDUP, FT(AVX), W(Vx), R(Wx))
S1(0x17, NP | MEM, MOVHPS, FT(SSE), W(Mq), R(Vdq))
S1(0x17, P66 | MEM, MOVHPD, FT(SSE2), W(Mq), R(Vdq))
V1(0x17, NP | MEM | L0, VMOVHPS, FT(AVX), W(Mq), R(Vdq))
V1(0x17, P66 | MEM | L0, VMOVHPD, FT(AVX), W(Mq), R(Vdq))

/* ==== 0F 28-2F ==== */
S1(0x28, NP, MOVAPS, FT(SSE), W(Vdq), R(Wdq))
S1(0x28, P66, MOVAPD, FT(SSE2), W(Vdq), R(Wdq))
V1(0x28, NP, VMOVAPS, ALIGN | FT(AVX), W(Vx), R(Wx))
V1(0x28, P66, VMOVAPD, ALIGN | FT(AVX), W(Vx), R(Wx))
S1(0x29, NP, MOVAPS, FT(SSE), W(Wdq), R(Vdq))
S1(0x29, P66, MOVAPD, FT(SSE2), W(Wdq), R(Vdq))
V1(0x29, NP, VMOVAPS, ALIGN | FT(AVX), W(Wx), R(Vx))
V1(0x29, P66, VMOVAPD, ALIGN | FT(AVX), W(Wx), R(Vx))
S1(0x2a, NP, CVTPI2PS, MMX_ | FPEXC | FT(SSE), RW(Vq), R(Qq))
S1(0x2a, P66, CVTPI2PD, MMX_ | FPEXC | FT(SSE2), W(Vdq), R(Qq))
S1(0x2a, PF3, CVTSI2SS, FPEXC | FT(SSE), RW(Vd), R(Ey))
S1(0x2a, PF2, CVTSI2SD, FPEXC | FT(SSE2), RW(Vq), R(Ey))
V1(0x2a, PF3, VCVTSI2SS, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Ey))
V1(0x2a, PF2, VCVTSI2SD, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Ey))
S1(0x2b, NP, MOVNTPS, FT(SSE), W(Mdq), R(Vdq))
S1(0x2b, P66, MOVNTPD, FT(SSE2), W(Mdq), R(Vdq))
V1(0x2b, NP, VMOVNTPS, ALIGN | FT(AVX), W(Mx), R(Vx))
V1(0x2b, P66, VMOVNTPD, ALIGN | FT(AVX), W(Mx), R(Vx))
#define CVT2INT(opc, mn) \
    S1(opc, NP, mn##PS2PI, MMX_ | FPEXC | FT(SSE), W(Pq), R(Wq)) \
    S1(opc, P66, mn##PD2PI, MMX_ | FPEXC | FT(SSE2), W(Pq), R(Wdq)) \
    S1(opc, PF3, mn##SS2SI, FPEXC | FT(SSE), W(Gy), R(Wd)) \
    S1(opc, PF2, mn##SD2SI, FPEXC | FT(SSE2), W(Gy), R(Wq)) \
    V1(opc, PF3, V##mn##SS2SI, FPEXC | FT(AVX), W(Gy), R(Wd)) \
    V1(opc, PF2, V##mn##SD2SI, FPEXC | FT(AVX), W(Gy), R(Wq))
CVT2INT(0x2c, CVTT)
CVT2INT(0x2d, CVT)
#undef CVT2INT
#define COMIS(opc, mn) \
    X1(opc, NP, VEC_FLAGS, FPEXC | FT(SSE), R(Vd), R(Wd)) \
    X1(opc, P66, VEC_FLAGS, FPEXC | FT(SSE2), R(Vq), R(Wq)) \
    Y1(opc, NP, VEC_FLAGS, FPEXC | FT(AVX), R(Vd), R(Wd)) \
    Y1(opc, P66, VEC_FLAGS, FPEXC | FT(AVX), R(Vq), R(Wq))
COMIS(0x2e, UCOMIS)
COMIS(0x2f, COMIS)
#undef COMIS

/* ==== 0F 50-5F: floating point ==== */
S1(0x50, NP, MOVMSKPS, FT(SSE), W(Gd), R(Udq))
S1(0x50, P66, MOVMSKPD, FT(SSE2), W(Gd), R(Udq))
V1(0x50, NP, VMOVMSKPS, FT(AVX), W(Gd), R(Ux))
V1(0x50, P66, VMOVMSKPD, FT(AVX), W(Gd), R(Ux))
S1(0x51, NP, SQRTPS, FPEXC | FT(SSE), W(Vdq), R(Wdq))
S1(0x51, P66, SQRTPD, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
S1(0x51, PF3, SQRTSS, FPEXC | FT(SSE), RW(Vd), R(Wd))
S1(0x51, PF2, SQRTSD, FPEXC | FT(SSE2), RW(Vq), R(Wq))
V1(0x51, NP, VSQRTPS, FPEXC | FT(AVX), W(Vx), R(Wx))
V1(0x51, P66, VSQRTPD, FPEXC | FT(AVX), W(Vx), R(Wx))
V1(0x51, PF3, VSQRTSS, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wd))
V1(0x51, PF2, VSQRTSD, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wq))
#define APPROX(opc, mn) \
    S1(opc, NP, mn##PS, FT(SSE), W(Vdq), R(Wdq)) \
    S1(opc, PF3, mn##SS, FT(SSE), RW(Vd), R(Wd)) \
    V1(opc, NP, V##mn##PS, FT(AVX), W(Vx), R(Wx)) \
    V1(opc, PF3, V##mn##SS, FT(AVX), W(Vdq), R(Hdq), R(Wd))
APPROX(0x52, RSQRT)
APPROX(0x53, RCP)
#undef APPROX
FP2(0x54, AND)
FP2(0x55, ANDN)
FP2(0x56, OR)
FP2(0x57, XOR)
FP4(0x58, ADD, FPEXC)
FP4(0x59, MUL, FPEXC)
S1(0x5a, NP, CVTPS2PD, FPEXC | FT(SSE2), W(Vdq), R(Wq))
S1(0x5a, P66, CVTPD2PS, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
S1(0x5a, PF3, CVTSS2SD, FPEXC | FT(SSE2), RW(Vq), R(Wd))
S1(0x5a, PF2, CVTSD2SS, FPEXC | FT(SSE2), RW(Vd), R(Wq))
V1(0x5a, NP, VCVTPS2PD, FPEXC | FT(AVX), W(Vx), R(Wxh))
V1(0x5a, P66, VCVTPD2PS, FPEXC | FT(AVX), W(Vdq), R(Wx))
V1(0x5a, PF3, VCVTSS2SD, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wd))
V1(0x5a, PF2, VCVTSD2SS, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wq))
S1(0x5b, NP, CVTDQ2PS, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
S1(0x5b, P66, CVTPS2DQ, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
S1(0x5b, PF3, CVTTPS2DQ, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
V1(0x5b, NP, VCVTDQ2PS, FPEXC | FT(AVX), W(Vx), R(Wx))
V1(0x5b, P66, VCVTPS2DQ, FPEXC | FT(AVX), W(Vx), R(Wx))
V1(0x5b, PF3, VCVTTPS2DQ, FPEXC | FT(AVX), W(Vx), R(Wx))
FP4(0x5c, SUB, FPEXC)
FP4(0x5d, MIN, FPEXC)
FP4(0x5e, DIV, FPEXC)
FP4(0x5f, MAX, FPEXC)

/* ==== 0F 60-7F: integer ==== */
INT3M(0x60, PUNPCKLBW, MMX, Qd)
INT3M(0x61, PUNPCKLWD, MMX, Qd)
INT3M(0x62, PUNPCKLDQ, MMX, Qd)
INT3(0x63, PACKSSWB)
INT3(0x64, PCMPGTB)
INT3(0x65, PCMPGTW)
INT3(0x66, PCMPGTD)
INT3(0x67, PACKUSWB)
INT3(0x68, PUNPCKHBW)
INT3(0x69, PUNPCKHWD)
INT3(0x6a, PUNPCKHDQ)
INT3(0x6b, PACKSSDW)
S1(0x6c, P66, PUNPCKLQDQ, FT(SSE2), RW(Vdq), R(Wdq))
V1(0x6c, P66, VPUNPCKLQDQ, AVXI, W(Vx), R(Hx), R(Wx))
S1(0x6d, P66, PUNPCKHQDQ, FT(SSE2), RW(Vdq), R(Wdq))
V1(0x6d, P66, VPUNPCKHQDQ, AVXI, W(Vx), R(Hx), R(Wx))
S1(0x6e, NP, MOVD, MMX_ | FT(MMX), W(Pq), R(Ey))
S1(0x6e, P66, MOVD, FT(SSE2), W(Vdq), R(Ey))
V1(0x6e, P66 | L0, VMOVD, FT(AVX), W(Vdq), R(Ey))
S1(0x6f, NP, MOVQ, MMX_ | FT(MMX), W(Pq), R(Qq))
S1(0x6f, P66, MOVDQA, FT(SSE2), W(Vdq), R(Wdq))
S1(0x6f, PF3, MOVDQU, UNAL | FT(SSE2), W(Vdq), R(Wdq))
V1(0x6f, P66, VMOVDQA, ALIGN | FT(AVX), W(Vx), R(Wx))
V1(0x6f, PF3, VMOVDQU, FT(AVX), W(Vx), R(Wx))
S1(0x70, NP, PSHUFW, MMX_ | FT(SSE), W(Pq), R(Qq), R(Ib))
S1(0x70, P66, PSHUFD, FT(SSE2), W(Vdq), R(Wdq), R(Ib))
S1(0x70, PF3, PSHUFHW, FT(SSE2), W(Vdq), R(Wdq), R(Ib))
S1(0x70, PF2, PSHUFLW, FT(SSE2), W(Vdq), R(Wdq), R(Ib))
V1(0x70, P66, VPSHUFD, AVXI, W(Vx), R(Wx), R(Ib))
V1(0x70, PF3, VPSHUFHW, AVXI, W(Vx), R(Wx), R(Ib))
V1(0x70, PF2, VPSHUFLW, AVXI, W(Vx), R(Wx), R(Ib))
/* groups 12, 13, 14: shifts by an immediate */
#define SHIMM(opc, n, mn) \
    S1(opc, NP | MODR | REG(n), mn, MMX_ | FT(MMX), RW(Nq), R(Ib)) \
    S1(opc, P66 | MODR | REG(n), mn, FT(SSE2), RW(Udq), R(Ib))
#define VSHIMM(opc, n, mn) V1(opc, P66 | MODR | REG(n), mn, AVXI, W(Hx), R(Ux), R(Ib))
SHIMM(0x71, 2, PSRLW)
SHIMM(0x71, 4, PSRAW)
SHIMM(0x71, 6, PSLLW)
VSHIMM(0x71, 2, VPSRLW)
VSHIMM(0x71, 4, VPSRAW)
VSHIMM(0x71, 6, VPSLLW)
SHIMM(0x72, 2, PSRLD)
SHIMM(0x72, 4, PSRAD)
SHIMM(0x72, 6, PSLLD)
VSHIMM(0x72, 2, VPSRLD)
VSHIMM(0x72, 4, VPSRAD)
VSHIMM(0x72, 6, VPSLLD)
SHIMM(0x73, 2, PSRLQ)
S1(0x73, P66 | MODR | REG(3), PSRLDQ, FT(SSE2), RW(Udq), R(Ib))
SHIMM(0x73, 6, PSLLQ)
S1(0x73, P66 | MODR | REG(7), PSLLDQ, FT(SSE2), RW(Udq), R(Ib))
VSHIMM(0x73, 2, VPSRLQ)
VSHIMM(0x73, 3, VPSRLDQ)
VSHIMM(0x73, 6, VPSLLQ)
VSHIMM(0x73, 7, VPSLLDQ)
#undef SHIMM
#undef VSHIMM
INT3(0x74, PCMPEQB)
INT3(0x75, PCMPEQW)
INT3(0x76, PCMPEQD)
T1(0x77, NP, EMMS, MMX_ | FT(MMX), NO)
Y1(0x77, NP | L0, VZEROUPPER, FT(AVX), NO)
Y1(0x77, NP | L1, VZEROALL, FT(AVX), NO)
#define HORIZ(opc, mn) /* packed double with 66, packed single with F2 */ \
    S1(opc, P66, mn##PD, FPEXC | FT(SSE3), RW(Vdq), R(Wdq)) \
    S1(opc, PF2, mn##PS, FPEXC | FT(SSE3), RW(Vdq), R(Wdq)) \
    V1(opc, P66, V##mn##PD, FPEXC | FT(AVX), W(Vx), R(Hx), R(Wx)) \
    V1(opc, PF2, V##mn##PS, FPEXC | FT(AVX), W(Vx), R(Hx), R(Wx))
HORIZ(0x7c, HADD)
HORIZ(0x7d, HSUB)
S1(0x7e, NP, MOVD, MMX_ | FT(MMX), W(Ey), R(Py))
S1(0x7e, P66, MOVD, FT(SSE2), W(Ey), R(Vy))
S1(0x7e, PF3, MOVQ, FT(SSE2), W(Vdq), R(Wq))
V1(0x7e, P66 | L0, VMOVD, FT(AVX), W(Ey), R(Vy))
V1(0x7e, PF3 | L0, VMOVQ, FT(AVX), W(Vdq), R(Wq))
S1(0x7f, NP, MOVQ, MMX_ | FT(MMX), W(Qq), R(Pq))
S1(0x7f, P66, MOVDQA, FT(SSE2), W(Wdq), R(Vdq))
S1(0x7f, PF3, MOVDQU, UNAL | FT(SSE2), W(Wdq), R(Vdq))
V1(0x7f, P66, VMOVDQA, ALIGN | FT(AVX), W(Wx), R(Vx))
V1(0x7f, PF3, VMOVDQU, FT(AVX), W(Wx), R(Vx))

/* VLDMXCSR, VSTMXCSR */
Y1(0xae, NP | L0 | MEM | REG(2), LDMXCSR, FT(AVX), R(Md))
Y1(0xae, NP | L0 | MEM | REG(3), STMXCSR, FT(AVX), W(Md))

/* ==== 0F C2-C6 ==== */
S1(0xc2, NP, CMPPS, FPEXC | FT(SSE), RW(Vdq), R(Wdq), R(Ib))
S1(0xc2, P66, CMPPD, FPEXC | FT(SSE2), RW(Vdq), R(Wdq), R(Ib))
S1(0xc2, PF3, CMPSS, FPEXC | FT(SSE), RW(Vd), R(Wd), R(Ib))
S1(0xc2, PF2, CMPSD, FPEXC | FT(SSE2), RW(Vq), R(Wq), R(Ib))
V1(0xc2, NP, VCMPPS, FPEXC | FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))
V1(0xc2, P66, VCMPPD, FPEXC | FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))
V1(0xc2, PF3, VCMPSS, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wd), R(Ib))
V1(0xc2, PF2, VCMPSD, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wq), R(Ib))
S1(0xc4, NP, PINSRW, MMX_ | FT(SSE), RW(Pq), R(Rd_Mw), R(Ib))
S1(0xc4, P66, PINSRW, FT(SSE2), RW(Vdq), R(Rd_Mw), R(Ib))
V1(0xc4, P66 | L0, VPINSRW, FT(AVX), W(Vdq), R(Hdq), R(Rd_Mw), R(Ib))
S1(0xc5, NP, PEXTRW, MMX_ | FT(SSE), W(Gd), R(Nq), R(Ib))
S1(0xc5, P66, PEXTRW, FT(SSE2), W(Gd), R(Udq), R(Ib))
V1(0xc5, P66 | L0, VPEXTRW, FT(AVX), W(Gd), R(Udq), R(Ib))
S1(0xc6, NP, SHUFPS, FT(SSE), RW(Vdq), R(Wdq), R(Ib))
S1(0xc6, P66, SHUFPD, FT(SSE2), RW(Vdq), R(Wdq), R(Ib))
V1(0xc6, NP, VSHUFPS, FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))
V1(0xc6, P66, VSHUFPD, FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))

/* ==== 0F D0-FF ==== */
HORIZ(0xd0, ADDSUB)
#undef HORIZ
SHIFT(0xd1, PSRLW)
SHIFT(0xd2, PSRLD)
SHIFT(0xd3, PSRLQ)
INT32(0xd4, PADDQ)
INT3(0xd5, PMULLW)
S1(0xd6, P66, MOVQ, FT(SSE2), W(Udq_Mq), R(Vq))
S1(0xd6, PF3 | MODR, MOVQ2DQ, MMX_ | FT(SSE2), W(Vdq), R(Nq))
S1(0xd6, PF2 | MODR, MOVDQ2Q, MMX_ | FT(SSE2), W(Pq), R(Uq))
V1(0xd6, P66 | L0, VMOVQ, FT(AVX), W(Udq_Mq), R(Vq))
S1(0xd7, NP, PMOVMSKB, MMX_ | FT(SSE), W(Gd), R(Nq))
S1(0xd7, P66, PMOVMSKB, FT(SSE2), W(Gd), R(Udq))
V1(0xd7, P66, VPMOVMSKB, AVXI, W(Gd), R(Ux))
INT3(0xd8, PSUBUSB)
INT3(0xd9, PSUBUSW)
INT3S(0xda, PMINUB)
INT3(0xdb, PAND)
INT3(0xdc, PADDUSB)
INT3(0xdd, PADDUSW)
INT3S(0xde, PMAXUB)
INT3(0xdf, PANDN)
INT3S(0xe0, PAVGB)
SHIFT(0xe1, PSRAW)
SHIFT(0xe2, PSRAD)
INT3S(0xe3, PAVGW)
INT3S(0xe4, PMULHUW)
INT3(0xe5, PMULHW)
S1(0xe6, P66, CVTTPD2DQ, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
S1(0xe6, PF3, CVTDQ2PD, FT(SSE2), W(Vdq), R(Wq))
S1(0xe6, PF2, CVTPD2DQ, FPEXC | FT(SSE2), W(Vdq), R(Wdq))
V1(0xe6, P66, VCVTTPD2DQ, FPEXC | FT(AVX), W(Vdq), R(Wx))
V1(0xe6, PF3, VCVTDQ2PD, FT(AVX), W(Vx), R(Wxh))
V1(0xe6, PF2, VCVTPD2DQ, FPEXC | FT(AVX), W(Vdq), R(Wx))
S1(0xe7, NP, MOVNTQ, MMX_ | FT(SSE), W(Mq), R(Pq))
S1(0xe7, P66, MOVNTDQ, FT(SSE2), W(Mdq), R(Vdq))
V1(0xe7, P66, VMOVNTDQ, ALIGN | FT(AVX), W(Mx), R(Vx))
INT3(0xe8, PSUBSB)
INT3(0xe9, PSUBSW)
INT3S(0xea, PMINSW)
INT3(0xeb, POR)
INT3(0xec, PADDSB)
INT3(0xed, PADDSW)
INT3S(0xee, PMAXSW)
INT3(0xef, PXOR)
S1(0xf0, PF2, LDDQU, UNAL | FT(SSE3), W(Vdq), R(Mdq))
V1(0xf0, PF2, VLDDQU, FT(AVX), W(Vx), R(Mx))
SHIFT(0xf1, PSLLW)
SHIFT(0xf2, PSLLD)
SHIFT(0xf3, PSLLQ)
INT32(0xf4, PMULUDQ)
INT3(0xf5, PMADDWD)
INT3S(0xf6, PSADBW)
T1(0xf7, NP | MODR, MASKMOVQ, MMX_ | FT(SSE), R(Pq), R(Nq))
X1(0xf7, P66 | MODR, MASKMOVDQU, FT(SSE2), R(Vdq), R(Udq))
Y1(0xf7, P66 | MODR | L0, MASKMOVDQU, FT(AVX), R(Vdq), R(Udq))
INT3(0xf8, PSUBB)
INT3(0xf9, PSUBW)
INT3(0xfa, PSUBD)
INT32(0xfb, PSUBQ)
INT3(0xfc, PADDB)
INT3(0xfd, PADDW)
INT3(0xfe, PADDD)

/* ==== 0F 38 ==== */
#define SSSE3(opc, mn) \
    S2(opc, NP, mn, MMX_ | FT(SSSE3), RW(Pq), R(Qq)) \
    S2(opc, P66, mn, FT(SSSE3), RW(Vdq), R(Wdq)) \
    V2(opc, P66, V##mn, AVXI, W(Vx), R(Hx), R(Wx))
SSSE3(0x00, PSHUFB)
SSSE3(0x01, PHADDW)
SSSE3(0x02, PHADDD)
SSSE3(0x03, PHADDSW)
SSSE3(0x04, PMADDUBSW)
SSSE3(0x05, PHSUBW)
SSSE3(0x06, PHSUBD)
SSSE3(0x07, PHSUBSW)
SSSE3(0x08, PSIGNB)
SSSE3(0x09, PSIGNW)
SSSE3(0x0a, PSIGND)
SSSE3(0x0b, PMULHRSW)
#undef SSSE3
V2(0x0c, P66 | W0, VPERMILPS, FT(AVX), W(Vx), R(Hx), R(Wx))
V2(0x0d, P66 | W0, VPERMILPD, FT(AVX), W(Vx), R(Hx), R(Wx))
Y2(0x0e, P66 | W0, VEC_FLAGS, FT(AVX), R(Vx), R(Wx))       /* VTESTPS */
Y2(0x0f, P66 | W0, VEC_FLAGS, FT(AVX), R(Vx), R(Wx))       /* VTESTPD */
X2(0x10, P66, VEC_XMM0, FT(SSE41), RW(Vdq), R(Wdq))        /* PBLENDVB */
V2(0x13, P66 | W0, VCVTPH2PS, FPEXC | FT(F16C), W(Vx), R(Wxh))
X2(0x14, P66, VEC_XMM0, FT(SSE41), RW(Vdq), R(Wdq))        /* BLENDVPS */
X2(0x15, P66, VEC_XMM0, FT(SSE41), RW(Vdq), R(Wdq))        /* BLENDVPD */
V2(0x16, P66 | W0 | L1, VPERMPS, FT(AVX2), W(Vqq), R(Hqq), R(Wqq))
X2(0x17, P66, VEC_FLAGS, FT(SSE41), R(Vdq), R(Wdq))        /* PTEST */
Y2(0x17, P66, VEC_FLAGS, FT(AVX), R(Vx), R(Wx))            /* VPTEST */
V2(0x18, P66 | W0 | MEM, VBROADCASTSS, FT(AVX), W(Vx), R(Md))
V2(0x18, P66 | W0 | MODR, VBROADCASTSS, FT(AVX2), W(Vx), R(Ud))
V2(0x19, P66 | W0 | L1 | MEM, VBROADCASTSD, FT(AVX), W(Vqq), R(Mq))
V2(0x19, P66 | W0 | L1 | MODR, VBROADCASTSD, FT(AVX2), W(Vqq), R(Uq))
V2(0x1a, P66 | W0 | L1 | MEM, VBROADCASTF128, FT(AVX), W(Vqq), R(Mdq))
#define PABS(opc, mn) \
    S2(opc, NP, mn, MMX_ | FT(SSSE3), W(Pq), R(Qq)) \
    S2(opc, P66, mn, FT(SSSE3), W(Vdq), R(Wdq)) \
    V2(opc, P66, V##mn, AVXI, W(Vx), R(Wx))
PABS(0x1c, PABSB)
PABS(0x1d, PABSW)
PABS(0x1e, PABSD)
#undef PABS
#define PMOVX(opc, mn, src, vsrc) \
    S2(opc, P66, mn, FT(SSE41), W(Vdq), R(src)) \
    V2(opc, P66, V##mn, AVXI, W(Vx), R(vsrc))
PMOVX(0x20, PMOVSXBW, Wq, Wxh)
PMOVX(0x21, PMOVSXBD, Wd, Wxq)
PMOVX(0x22, PMOVSXBQ, Ww, Wxe)
PMOVX(0x23, PMOVSXWD, Wq, Wxh)
PMOVX(0x24, PMOVSXWQ, Wd, Wxq)
PMOVX(0x25, PMOVSXDQ, Wq, Wxh)
PMOVX(0x30, PMOVZXBW, Wq, Wxh)
PMOVX(0x31, PMOVZXBD, Wd, Wxq)
PMOVX(0x32, PMOVZXBQ, Ww, Wxe)
PMOVX(0x33, PMOVZXWD, Wq, Wxh)
PMOVX(0x34, PMOVZXWQ, Wd, Wxq)
PMOVX(0x35, PMOVZXDQ, Wq, Wxh)
#undef PMOVX
#define SSE4I(opc, mn, feat) \
    S2(opc, P66, mn, FT(feat), RW(Vdq), R(Wdq)) \
    V2(opc, P66, V##mn, AVXI, W(Vx), R(Hx), R(Wx))
SSE4I(0x28, PMULDQ, SSE41)
SSE4I(0x29, PCMPEQQ, SSE41)
S2(0x2a, P66, MOVNTDQA, FT(SSE41), W(Vdq), R(Mdq))
V2(0x2a, P66, VMOVNTDQA, ALIGN | AVXI, W(Vx), R(Mx))
SSE4I(0x2b, PACKUSDW, SSE41)
Y2(0x2c, P66 | W0, VMASKMOV, FT(AVX), W(Vx), R(Hx), R(Mx))  /* VMASKMOVPS */
Y2(0x2d, P66 | W0, VMASKMOV, FT(AVX), W(Vx), R(Hx), R(Mx))  /* VMASKMOVPD */
Y2(0x2e, P66 | W0, VMASKMOV, FT(AVX), W(Mx), R(Hx), R(Vx))
Y2(0x2f, P66 | W0, VMASKMOV, FT(AVX), W(Mx), R(Hx), R(Vx))
V2(0x36, P66 | W0 | L1, VPERMD, FT(AVX2), W(Vqq), R(Hqq), R(Wqq))
SSE4I(0x37, PCMPGTQ, SSE42)
SSE4I(0x38, PMINSB, SSE41)
SSE4I(0x39, PMINSD, SSE41)
SSE4I(0x3a, PMINUW, SSE41)
SSE4I(0x3b, PMINUD, SSE41)
SSE4I(0x3c, PMAXSB, SSE41)
SSE4I(0x3d, PMAXSD, SSE41)
SSE4I(0x3e, PMAXUW, SSE41)
SSE4I(0x3f, PMAXUD, SSE41)
SSE4I(0x40, PMULLD, SSE41)
#undef SSE4I
S2(0x41, P66, PHMINPOSUW, FT(SSE41), W(Vdq), R(Wdq))
V2(0x41, P66 | L0, VPHMINPOSUW, FT(AVX), W(Vdq), R(Wdq))
V2(0x45, P66, VPSRLV, FT(AVX2), W(Vx), R(Hx), R(Wx))       /* W0 D, W1 Q */
V2(0x46, P66 | W0, VPSRAVD, FT(AVX2), W(Vx), R(Hx), R(Wx))
V2(0x47, P66, VPSLLV, FT(AVX2), W(Vx), R(Hx), R(Wx))
V2(0x58, P66 | W0, VPBROADCASTD, FT(AVX2), W(Vx), R(Wd))
V2(0x59, P66 | W0, VPBROADCASTQ, FT(AVX2), W(Vx), R(Wq))
V2(0x5a, P66 | W0 | L1 | MEM, VBROADCASTI128, FT(AVX2), W(Vqq), R(Mdq))
V2(0x78, P66 | W0, VPBROADCASTB, FT(AVX2), W(Vx), R(Wb))
V2(0x79, P66 | W0, VPBROADCASTW, FT(AVX2), W(Vx), R(Ww))
Y2(0x8c, P66, VMASKMOV, FT(AVX2), W(Vx), R(Hx), R(Mx))     /* VPMASKMOVD, VPMASKMOVQ */
Y2(0x8e, P66, VMASKMOV, FT(AVX2), W(Mx), R(Hx), R(Vx))
/* Gathers (SDM 2A 2.3.12): 90, 92 dword indices, 91, 93 qword indices; W1: qword elements. */
#define GATHER(opc) \
    Y2(opc, P66 | W0 | MEM, VGATHER, VSIB | FT(AVX2), RW(Vx), R(Md), RW(Hx)) \
    Y2(opc, P66 | W1 | MEM, VGATHER, VSIB | FT(AVX2), RW(Vx), R(Mq), RW(Hx))
#define GATHERQ(opc) \
    Y2(opc, P66 | W0 | MEM, VGATHER, VSIB | FT(AVX2), RW(Vxh), R(Md), RW(Hxh)) \
    Y2(opc, P66 | W1 | MEM, VGATHER, VSIB | FT(AVX2), RW(Vx), R(Mq), RW(Hx))
GATHER(0x90)
GATHERQ(0x91)
GATHER(0x92)
GATHERQ(0x93)
#undef GATHER
#undef GATHERQ
/* FMA (SDM 2C): W0 single, W1 double; the operand order (132, 213, 231) is the high digit. */
#define FMAP(opc, mn) V2(opc, P66, mn, FPEXC | FT(FMA), RW(Vx), R(Hx), R(Wx))
#define FMAS(opc, mn) \
    V2(opc, P66 | W0, mn##SS, FPEXC | FT(FMA), RW(Vdq), R(Hd), R(Wd)) \
    V2(opc, P66 | W1, mn##SD, FPEXC | FT(FMA), RW(Vdq), R(Hq), R(Wq))
#define FMA(opc, order) \
    FMAP(opc + 0x6, VFMADDSUB##order) \
    FMAP(opc + 0x7, VFMSUBADD##order) \
    FMAP(opc + 0x8, VFMADD##order) \
    FMAS(opc + 0x9, VFMADD##order) \
    FMAP(opc + 0xa, VFMSUB##order) \
    FMAS(opc + 0xb, VFMSUB##order) \
    FMAP(opc + 0xc, VFNMADD##order) \
    FMAS(opc + 0xd, VFNMADD##order) \
    FMAP(opc + 0xe, VFNMSUB##order) \
    FMAS(opc + 0xf, VFNMSUB##order)
FMA(0x90, 132)
FMA(0xa0, 213)
FMA(0xb0, 231)
#undef FMA
#undef FMAP
#undef FMAS
S2(0xc8, NP, SHA1NEXTE, FT(SHA), RW(Vdq), R(Wdq))
S2(0xc9, NP, SHA1MSG1, FT(SHA), RW(Vdq), R(Wdq))
S2(0xca, NP, SHA1MSG2, FT(SHA), RW(Vdq), R(Wdq))
X2(0xcb, NP, VEC_XMM0, FT(SHA), RW(Vdq), R(Wdq))           /* SHA256RNDS2 */
S2(0xcc, NP, SHA256MSG1, FT(SHA), RW(Vdq), R(Wdq))
S2(0xcd, NP, SHA256MSG2, FT(SHA), RW(Vdq), R(Wdq))
S2(0xcf, P66, GF2P8MULB, FT(GFNI), RW(Vdq), R(Wdq))
V2(0xcf, P66 | W0, VGF2P8MULB, FT(GFNI), W(Vx), R(Hx), R(Wx))
S2(0xdb, P66, AESIMC, FT(AES), W(Vdq), R(Wdq))
V2(0xdb, P66 | L0, VAESIMC, FT(AES), W(Vdq), R(Wdq))
#define AESX(opc, mn) \
    S2(opc, P66, mn, FT(AES), RW(Vdq), R(Wdq)) \
    V2(opc, P66 | L0, V##mn, FT(AES), W(Vdq), R(Hdq), R(Wdq)) \
    V2(opc, P66 | L1, V##mn, FT(VAES), W(Vqq), R(Hqq), R(Wqq))
AESX(0xdc, AESENC)
AESX(0xdd, AESENCLAST)
AESX(0xde, AESDEC)
AESX(0xdf, AESDECLAST)
#undef AESX

/* ==== 0F 3A ==== */
V3(0x00, P66 | W1 | L1, VPERMQ, FT(AVX2), W(Vqq), R(Wqq), R(Ib))
V3(0x01, P66 | W1 | L1, VPERMPD, FT(AVX2), W(Vqq), R(Wqq), R(Ib))
V3(0x02, P66 | W0, VPBLENDD, FT(AVX2), W(Vx), R(Hx), R(Wx), R(Ib))
V3(0x04, P66 | W0, VPERMILPS, FT(AVX), W(Vx), R(Wx), R(Ib))
V3(0x05, P66 | W0, VPERMILPD, FT(AVX), W(Vx), R(Wx), R(Ib))
V3(0x06, P66 | W0 | L1, VPERM2F128, FT(AVX), W(Vqq), R(Hqq), R(Wqq), R(Ib))
S3(0x08, P66, ROUNDPS, FPEXC | FT(SSE41), W(Vdq), R(Wdq), R(Ib))
V3(0x08, P66, VROUNDPS, FPEXC | FT(AVX), W(Vx), R(Wx), R(Ib))
S3(0x09, P66, ROUNDPD, FPEXC | FT(SSE41), W(Vdq), R(Wdq), R(Ib))
V3(0x09, P66, VROUNDPD, FPEXC | FT(AVX), W(Vx), R(Wx), R(Ib))
S3(0x0a, P66, ROUNDSS, FPEXC | FT(SSE41), RW(Vd), R(Wd), R(Ib))
V3(0x0a, P66, VROUNDSS, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wd), R(Ib))
S3(0x0b, P66, ROUNDSD, FPEXC | FT(SSE41), RW(Vq), R(Wq), R(Ib))
V3(0x0b, P66, VROUNDSD, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wq), R(Ib))
S3(0x0c, P66, BLENDPS, FT(SSE41), RW(Vdq), R(Wdq), R(Ib))
V3(0x0c, P66, VBLENDPS, FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))
S3(0x0d, P66, BLENDPD, FT(SSE41), RW(Vdq), R(Wdq), R(Ib))
V3(0x0d, P66, VBLENDPD, FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))
S3(0x0e, P66, PBLENDW, FT(SSE41), RW(Vdq), R(Wdq), R(Ib))
V3(0x0e, P66, VPBLENDW, AVXI, W(Vx), R(Hx), R(Wx), R(Ib))
S3(0x0f, NP, PALIGNR, MMX_ | FT(SSSE3), RW(Pq), R(Qq), R(Ib))
S3(0x0f, P66, PALIGNR, FT(SSSE3), RW(Vdq), R(Wdq), R(Ib))
V3(0x0f, P66, VPALIGNR, AVXI, W(Vx), R(Hx), R(Wx), R(Ib))
S3(0x14, P66, PEXTRB, FT(SSE41), W(Rd_Mb), R(Vdq), R(Ib))
V3(0x14, P66 | L0, VPEXTRB, FT(AVX), W(Rd_Mb), R(Vdq), R(Ib))
S3(0x15, P66, PEXTRW, FT(SSE41), W(Rd_Mw), R(Vdq), R(Ib))
V3(0x15, P66 | L0, VPEXTRW, FT(AVX), W(Rd_Mw), R(Vdq), R(Ib))
S3(0x16, P66, PEXTRD, FT(SSE41), W(Ey), R(Vdq), R(Ib))
V3(0x16, P66 | L0, VPEXTRD, FT(AVX), W(Ey), R(Vdq), R(Ib))
S3(0x17, P66, EXTRACTPS, FT(SSE41), W(Ed), R(Vdq), R(Ib))
V3(0x17, P66 | L0, VEXTRACTPS, FT(AVX), W(Ed), R(Vdq), R(Ib))
V3(0x18, P66 | W0 | L1, VINSERTF128, FT(AVX), W(Vqq), R(Hqq), R(Wdq), R(Ib))
V3(0x19, P66 | W0 | L1, VEXTRACTF128, FT(AVX), W(Wdq), R(Vqq), R(Ib))
V3(0x1d, P66 | W0, VCVTPS2PH, FPEXC | FT(F16C), W(Udq_Mxh), R(Vx), R(Ib))
S3(0x20, P66, PINSRB, FT(SSE41), RW(Vdq), R(Rd_Mb), R(Ib))
V3(0x20, P66 | L0, VPINSRB, FT(AVX), W(Vdq), R(Hdq), R(Rd_Mb), R(Ib))
S3(0x21, P66, INSERTPS, FT(SSE41), RW(Vdq), R(Udq_Md), R(Ib))
V3(0x21, P66 | L0, VINSERTPS, FT(AVX), W(Vdq), R(Hdq), R(Udq_Md), R(Ib))
S3(0x22, P66, PINSRD, FT(SSE41), RW(Vdq), R(Ey), R(Ib))
V3(0x22, P66 | L0, VPINSRD, FT(AVX), W(Vdq), R(Hdq), R(Ey), R(Ib))
V3(0x38, P66 | W0 | L1, VINSERTI128, FT(AVX2), W(Vqq), R(Hqq), R(Wdq), R(Ib))
V3(0x39, P66 | W0 | L1, VEXTRACTI128, FT(AVX2), W(Wdq), R(Vqq), R(Ib))
S3(0x40, P66, DPPS, FPEXC | FT(SSE41), RW(Vdq), R(Wdq), R(Ib))
V3(0x40, P66, VDPPS, FPEXC | FT(AVX), W(Vx), R(Hx), R(Wx), R(Ib))
S3(0x41, P66, DPPD, FPEXC | FT(SSE41), RW(Vdq), R(Wdq), R(Ib))
V3(0x41, P66 | L0, VDPPD, FPEXC | FT(AVX), W(Vdq), R(Hdq), R(Wdq), R(Ib))
S3(0x42, P66, MPSADBW, FT(SSE41), RW(Vdq), R(Wdq), R(Ib))
V3(0x42, P66, VMPSADBW, AVXI, W(Vx), R(Hx), R(Wx), R(Ib))
S3(0x44, P66, PCLMULQDQ, FT(PCLMUL), RW(Vdq), R(Wdq), R(Ib))
V3(0x44, P66 | L0, VPCLMULQDQ, FT(PCLMUL), W(Vdq), R(Hdq), R(Wdq), R(Ib))
V3(0x44, P66 | L1, VPCLMULQDQ, FT(VPCLMUL), W(Vqq), R(Hqq), R(Wqq), R(Ib))
V3(0x46, P66 | W0 | L1, VPERM2I128, FT(AVX2), W(Vqq), R(Hqq), R(Wqq), R(Ib))
V3(0x4a, P66 | W0, VBLENDVPS, FT(AVX), W(Vx), R(Hx), R(Wx), R(Lx))
V3(0x4b, P66 | W0, VBLENDVPD, FT(AVX), W(Vx), R(Hx), R(Wx), R(Lx))
V3(0x4c, P66 | W0, VPBLENDVB, AVXI, W(Vx), R(Hx), R(Wx), R(Lx))
#define PCMPSTR(opc, op) \
    X3(opc, P66, op, UNAL | FT(SSE42), R(Vdq), R(Wdq), R(Ib)) \
    Y3(opc, P66 | L0, op, FT(AVX), R(Vdq), R(Wdq), R(Ib))
PCMPSTR(0x60, PCMPESTRM)
PCMPSTR(0x61, PCMPESTRI)
PCMPSTR(0x62, PCMPISTRM)
PCMPSTR(0x63, PCMPISTRI)
#undef PCMPSTR
S3(0xcc, NP, SHA1RNDS4, FT(SHA), RW(Vdq), R(Wdq), R(Ib))
S3(0xce, P66, GF2P8AFFINEQB, FT(GFNI), RW(Vdq), R(Wdq), R(Ib))
V3(0xce, P66 | W1, VGF2P8AFFINEQB, FT(GFNI), W(Vx), R(Hx), R(Wx), R(Ib))
S3(0xcf, P66, GF2P8AFFINEINVQB, FT(GFNI), RW(Vdq), R(Wdq), R(Ib))
V3(0xcf, P66 | W1, VGF2P8AFFINEINVQB, FT(GFNI), W(Vx), R(Hx), R(Wx), R(Ib))
S3(0xdf, P66, AESKEYGENASSIST, FT(AES), W(Vdq), R(Wdq), R(Ib))
V3(0xdf, P66 | L0, VAESKEYGENASSIST, FT(AES), W(Vdq), R(Wdq), R(Ib))

#undef FP4
#undef FP2
#undef INT3M
#undef INT3
#undef INT3S
#undef INT32
#undef SHIFT
