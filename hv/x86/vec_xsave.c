/* SPDX-License-Identifier: BSD-2-Clause */
/* FXSAVE, FXRSTOR and the XSAVE family; state images for the VP interface.
 *
 * References: Intel SDM 1 chapter 13 (13.4 layout, 13.6 XINUSE, 13.7-13.11 operation of each instruction),
 * 10.5.1; SDM 2 for the faults.  Components: 0 x87, 1 SSE, 2 AVX. */
#include "hv/x86/vec_int.h"

enum { XS_X87 = 1, XS_SSE = 2, XS_AVX = 4, XS_ALL = 7 };
enum { XS_HEADER = 512, XS_BV = 512, XS_COMP = 520, XS_YMM = 576, XS_SIZE = 832 };
#define XS_COMPACT (1ull << 63)

static void fx_normalise(uint8_t *fx)
{
    unsigned sw = ld16(fx + FX_FSW) & 0x7f7fu, cw = (ld16(fx + FX_FCW) & 0x1f7fu) | 0x40;

    if (sw & ~cw & X87_CW_MASKS)
        sw |= X87_SW_ES | X87_SW_B;
    st16(fx + FX_FCW, cw);
    st16(fx + FX_FSW, sw);
    fx[FX_FTW + 1] = 0;
    st16(fx + FX_FOP, ld16(fx + FX_FOP) & 0x7ffu);
    for (unsigned i = 0; i < 8; i++)
        memset(fx + FX_ST + 16 * i + 10, 0, 6);
}

/* x87 part of an image in the operand size's format; MXCSR bytes untouched. */
static void put_x87(const struct x86_cpu *c, uint8_t *p, bool wide)
{
    memcpy(p, c->fx.b, FX_MXCSR);
    memcpy(p + FX_ST, c->fx.b + FX_ST, FX_XMM - FX_ST);
    if (!wide) { /* FCS and FDS read as zero, see x87.c */
        st32(p + FX_FCS, 0);
        st32(p + FX_FDS, 0);
    }
}

static void get_x87(struct x86_cpu *c, const uint8_t *p, bool wide)
{
    memcpy(c->fx.b, p, FX_MXCSR);
    memcpy(c->fx.b + FX_ST, p + FX_ST, FX_XMM - FX_ST);
    if (!wide) {
        st32(c->fx.b + FX_FCS, 0);
        st32(c->fx.b + FX_FDS, 0);
    }
    fx_normalise(c->fx.b);
    c->x87_ptrs = 1;
}

static void init_x87(struct x86_cpu *c)
{
    memset(c->fx.b, 0, FX_XMM);
    st16(c->fx.b + FX_FCW, X87_CW_INIT);
    c->x87_ptrs = 1;
}

uint64_t x86_xinuse(struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;
    uint64_t use = 0, lo = 0, hi = 0, x = 0;

    x86_x87_spill(vp);
    for (unsigned i = 0; i < 16; i++) {
        lo |= c->ymm[i].q[0] | c->ymm[i].q[1];
        hi |= c->ymm[i].q[2] | c->ymm[i].q[3];
    }
    for (unsigned i = FX_FSW; i < FX_XMM; i += 2)
        if (i < FX_MXCSR || i >= FX_ST)
            x |= ld16(c->fx.b + i);
    use |= x || ld16(c->fx.b + FX_FCW) != X87_CW_INIT ? XS_X87 : 0;
    use |= lo ? XS_SSE : 0;
    use |= hi ? XS_AVX : 0;
    return use;
}

static void fxsave(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned n = vec_nregs(vp), len = FX_XMM + 16 * n;
    uint64_t lin = vec_lin(vp, in, FX_SIZE, 16, X86_ACC_WRITE);
    uint8_t buf[FX_SIZE];

    x86_x87_spill(vp);
    x86_lin_probe(vp, lin, FX_SIZE, X86_ACC_WRITE);
    put_x87(c, buf, in->osize == 8);
    st32(buf + FX_MXCSR, c->mxcsr);
    st32(buf + FX_MXCSR_MASK, MXCSR_MASK);
    for (unsigned i = 0; i < n; i++)
        memcpy(buf + FX_XMM + 16 * i, c->ymm[i].q, 16);
    x86_lin_write(vp, lin, buf, len, X86_ACC_WRITE);
}

static void fxrstor(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint8_t buf[FX_SIZE];

    x86_lin_read(vp, vec_lin(vp, in, FX_SIZE, 16, X86_ACC_READ), buf, FX_SIZE, X86_ACC_READ);
    if (ld32(buf + FX_MXCSR) & ~(uint32_t)MXCSR_MASK)
        x86_raise_err(vp, X86_EXC_GP, 0);
    x86_x87_spill(vp);
    get_x87(c, buf, in->osize == 8);
    c->mxcsr = ld32(buf + FX_MXCSR);
    for (unsigned i = 0; i < vec_nregs(vp); i++)
        memcpy(c->ymm[i].q, buf + FX_XMM + 16 * i, 16);
}

static uint64_t rfbm(const struct x86_cpu *c)
{
    return c->xcr0 & XS_ALL & ((uint32_t)c->gpr[X86_RAX] | c->gpr[X86_RDX] << 32);
}

static void xsave(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    bool compact = in->op == X86_OP_XSAVEC, opt = in->op == X86_OP_XSAVEOPT || compact,
         wide = in->osize == 8;
    uint64_t want = rfbm(c), use, write, bv;
    unsigned n = vec_nregs(vp), len = want & XS_AVX ? XS_SIZE : XS_YMM;
    uint64_t lin = vec_lin(vp, in, len, 64, X86_ACC_WRITE);
    uint8_t buf[XS_SIZE];

    use = x86_xinuse(vp);
    x86_lin_probe(vp, lin, len, X86_ACC_WRITE);
    if (compact && c->mxcsr != MXCSR_INIT)
        use |= XS_SSE; /* 13.10: MXCSR counts here */
    write = opt ? want & use : want;
    put_x87(c, buf, wide);
    st32(buf + FX_MXCSR, c->mxcsr);
    st32(buf + FX_MXCSR_MASK, MXCSR_MASK);
    for (unsigned i = 0; i < n; i++) {
        memcpy(buf + FX_XMM + 16 * i, c->ymm[i].q, 16);
        memcpy(buf + XS_YMM + 16 * i, c->ymm[i].q + 2, 16);
    }
    if (write & XS_X87) {
        x86_lin_write(vp, lin, buf, FX_MXCSR, X86_ACC_WRITE);
        x86_lin_write(vp, lin + FX_ST, buf + FX_ST, FX_XMM - FX_ST, X86_ACC_WRITE);
    }
    if (compact ? (write & XS_SSE) : (want & (XS_SSE | XS_AVX)))
        x86_lin_write(vp, lin + FX_MXCSR, buf + FX_MXCSR, 8, X86_ACC_WRITE);
    if (write & XS_SSE)
        x86_lin_write(vp, lin + FX_XMM, buf + FX_XMM, 16 * n, X86_ACC_WRITE);
    if (write & XS_AVX)
        x86_lin_write(vp, lin + XS_YMM, buf + XS_YMM, 16 * n, X86_ACC_WRITE);
    if (compact) {
        uint8_t header[16]; /* the rest of it is not written (13.10) */

        st64(header, want & use);
        st64(header + 8, want | XS_COMPACT);
        x86_lin_write(vp, lin + XS_HEADER, header, sizeof header, X86_ACC_WRITE);
    } else {
        x86_lin_read(vp, lin + XS_BV, &bv, 8, X86_ACC_READ);
        bv = (bv & ~want) | (want & use);
        x86_lin_write(vp, lin + XS_BV, &bv, 8, X86_ACC_WRITE);
    }
}

static void xrstor(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t want = rfbm(c), bv, comp;
    unsigned n = vec_nregs(vp);
    uint64_t lin = vec_lin(vp, in, XS_YMM, 64, X86_ACC_READ);
    uint8_t buf[XS_SIZE];
    bool compact, bad = false, take_mxcsr;

    x86_lin_read(vp, lin, buf, XS_YMM, X86_ACC_READ);
    bv = ld64(buf + XS_BV);
    comp = ld64(buf + XS_COMP);
    compact = comp & XS_COMPACT;
    for (unsigned i = XS_HEADER + (compact ? 16 : 8); i < XS_HEADER + (compact ? 64 : 24); i++)
        bad |= buf[i] != 0;
    if (compact)
        bad |= ((comp & ~XS_COMPACT) & ~c->xcr0) || (bv & ~comp) || (bv & XS_COMPACT);
    else
        bad |= (bv & ~c->xcr0) != 0;
    if (bad)
        x86_raise_err(vp, X86_EXC_GP, 0);
    if (want & bv & XS_AVX) {
        x86_seg_lin(vp, in->seg, x86_ea(vp, in), XS_SIZE, X86_ACC_READ);
        x86_lin_read(vp, lin + XS_YMM, buf + XS_YMM, XS_SIZE - XS_YMM, X86_ACC_READ);
    }
    /* standard form: MXCSR whenever SSE or AVX are asked for; compacted: as part of SSE (13.8) */
    take_mxcsr = compact ? (want & bv & XS_SSE) : (want & (XS_SSE | XS_AVX));
    if (take_mxcsr && (ld32(buf + FX_MXCSR) & ~(uint32_t)MXCSR_MASK))
        x86_raise_err(vp, X86_EXC_GP, 0);

    x86_x87_spill(vp);
    if (want & bv & XS_X87)
        get_x87(c, buf, in->osize == 8);
    else if (want & XS_X87)
        init_x87(c);
    if (take_mxcsr)
        c->mxcsr = ld32(buf + FX_MXCSR);
    else if (compact && (want & XS_SSE))
        c->mxcsr = MXCSR_INIT;
    for (unsigned i = 0; i < n; i++) {
        static const uint64_t zero[2];

        if (want & XS_SSE)
            memcpy(c->ymm[i].q, bv & XS_SSE ? (const void *)(buf + FX_XMM + 16 * i) : zero, 16);
        if (want & XS_AVX)
            memcpy(c->ymm[i].q + 2, bv & XS_AVX ? (const void *)(buf + XS_YMM + 16 * i) : zero, 16);
    }
}

bool vec_exec_xsave(struct hv_vp *vp, const struct x86_insn *in)
{
    switch (in->op) {
    case X86_OP_FXSAVE: fxsave(vp, in); break;
    case X86_OP_FXRSTOR: fxrstor(vp, in); break;
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVEC: xsave(vp, in); break;
    case X86_OP_XRSTOR: xrstor(vp, in); break;
    default: return false;
    }
    vec_done(vp, in);
    return true;
}

/* ---- the VP interface ------------------------------------------------------------------------------------------ */

void x86_xsave_get(struct hv_vp *vp, uint8_t area[1024])
{
    const struct x86_cpu *c = &vp->cpu;

    x86_x87_spill(vp);
    memset(area, 0, 1024);
    put_x87(c, area, true);
    st32(area + FX_MXCSR, c->mxcsr);
    st32(area + FX_MXCSR_MASK, MXCSR_MASK);
    st64(area + XS_BV, XS_ALL);
    for (unsigned i = 0; i < 16; i++) {
        memcpy(area + FX_XMM + 16 * i, c->ymm[i].q, 16);
        memcpy(area + XS_YMM + 16 * i, c->ymm[i].q + 2, 16);
    }
}

int x86_xsave_put(struct hv_vp *vp, const uint8_t area[1024])
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t bv = ld64(area + XS_BV);

    if ((bv & ~(uint64_t)XS_ALL) || (ld32(area + FX_MXCSR) & ~(uint32_t)MXCSR_MASK))
        return -1;
    for (unsigned i = XS_COMP; i < XS_YMM; i++)
        if (area[i])
            return -1;
    x86_vec_reset(vp);
    c->mxcsr = bv & (XS_SSE | XS_AVX) ? ld32(area + FX_MXCSR) : MXCSR_INIT;
    if (bv & XS_X87)
        get_x87(c, area, true);
    for (unsigned i = 0; i < 16; i++) {
        if (bv & XS_SSE)
            memcpy(c->ymm[i].q, area + FX_XMM + 16 * i, 16);
        if (bv & XS_AVX)
            memcpy(c->ymm[i].q + 2, area + XS_YMM + 16 * i, 16);
    }
    return 0;
}

void x86_vec_reset(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;

    x86_x87_spill(vp);
    memset(c->ymm, 0, sizeof c->ymm);
    memset(&c->fx, 0, sizeof c->fx);
    st16(c->fx.b + FX_FCW, 0x40); /* power-on: FCW 0040, FTW 5555: all valid, zero */
    c->fx.b[FX_FTW] = 0xff;
    c->x87_ptrs = 1;
    c->mxcsr = MXCSR_INIT;
}
