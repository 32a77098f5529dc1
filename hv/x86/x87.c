/* SPDX-License-Identifier: BSD-2-Clause */
/* x87: state in the host's registers, control instructions, environment formats, pending exceptions.
 *
 * References: Intel SDM 1 chapter 8 (8.1.8-8.1.10 pointers and environment images, 8.5-8.7 exceptions), 10.5.1
 * (FXSAVE image).
 *
 * The guest's FCW is in force on the host while its x87 state is live there, so that masked and unmasked
 * responses are the processor's own.  An unmasked exception only sets FSW.ES: x86_vec_check looks at it
 * before each waiting instruction and raises the guest's #MF, and nothing of ours executes a waiting x87
 * instruction, so the host never takes #MF.
 *
 * FOP, FIP and FDP: exact while some exception is unmasked and for instructions that went through
 * x86_exec_vec; an engine's direct call of a stub makes them unknown, and they then read as zero.  FCS and
 * FDS read as zero, as on processors with CPUID.7.0:EBX[13]. */
#include "hv/x86/vec_int.h"

static uint16_t live_sw(void)
{
    uint16_t v;

    __asm__ volatile("fnstsw %0" : "=a"(v));
    return v;
}

static uint16_t live_cw(void)
{
    uint16_t v;

    __asm__ volatile("fnstcw %0" : "=m"(v));
    return v;
}

void x87_classify(struct x86_cpu *c)
{
    bool slow = (live_cw() & X87_CW_MASKS) != X87_CW_MASKS;

    c->x87_live &= X86_LIVE_SSE;
    c->x87_live |= slow ? X86_LIVE_X87_SLOW : X86_LIVE_X87;
}

void x87_enter(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;
    uint8_t img[FX_SIZE] __attribute__((aligned(16)));

    if (c->x87_live & (X86_LIVE_X87 | X86_LIVE_X87_SLOW))
        return;
    memcpy(img, c->fx.b, FX_XMM);
    memset(img + FX_FOP, 0, 18);
    st32(img + FX_MXCSR, __builtin_ia32_stmxcsr());
    memset(img + FX_XMM, 0, FX_SIZE - FX_XMM);
    __asm__ volatile("fxrstor64 %0"
                     :
                     : "m"(*(const uint8_t(*)[FX_SIZE])img)
                     : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8",
                       "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
    x87_classify(c);
}

void x87_spill(struct x86_cpu *c)
{
    uint8_t img[FX_SIZE] __attribute__((aligned(16)));

    if (!(c->x87_live & (X86_LIVE_X87 | X86_LIVE_X87_SLOW)))
        return;
    __asm__ volatile("fxsave64 %0\n\tfninit" : "=m"(*(uint8_t(*)[FX_SIZE])img));
    memcpy(c->fx.b, img, FX_FOP);
    memcpy(c->fx.b + FX_ST, img + FX_ST, FX_XMM - FX_ST);
    if (!c->x87_ptrs)
        memset(c->fx.b + FX_FOP, 0, 18);
    c->x87_ptrs = 1;
    c->x87_live &= X86_LIVE_SSE;
}

/* Set FSW in an image.  Its registers are in stack order: a new TOP renumbers them. */
static void img_set_sw(uint8_t *fx, unsigned sw)
{
    unsigned turn = ((sw >> 11) - (ld16(fx + FX_FSW) >> 11)) & 7;
    uint8_t st[128];

    if (turn) {
        memcpy(st, fx + FX_ST, 128);
        for (unsigned i = 0; i < 8; i++)
            memcpy(fx + FX_ST + 16 * i, st + 16 * ((i + turn) & 7), 16);
    }
    st16(fx + FX_FSW, sw);
}

uint64_t x87_mmx_read(struct x86_cpu *c, unsigned n)
{
    x87_spill(c);
    return ld64(c->fx.b + FX_ST + 16 * ((n - (ld16(c->fx.b + FX_FSW) >> 11)) & 7));
}

void x87_to_mmx(struct x86_cpu *c)
{
    x87_spill(c);
    img_set_sw(c->fx.b, ld16(c->fx.b + FX_FSW) & ~0x3800u);
    c->fx.b[FX_FTW] = 0xff;
}

/* Forms the status word's summary bits from flags and masks, as loading an environment does. */
static void img_summary(uint8_t *fx)
{
    unsigned sw = ld16(fx + FX_FSW) & ~(unsigned)(X87_SW_ES | X87_SW_B);

    if (sw & ~ld16(fx + FX_FCW) & X87_CW_MASKS)
        sw |= X87_SW_ES | X87_SW_B;
    st16(fx + FX_FSW, sw);
}

bool x87_pending(struct x86_cpu *c)
{
    if (c->x87_live & X86_LIVE_X87)
        return false;
    if (c->x87_live & X86_LIVE_X87_SLOW)
        return live_sw() & X87_SW_ES;
    return (ld16(c->fx.b + FX_FSW) & ~ld16(c->fx.b + FX_FCW) & X87_CW_MASKS) != 0;
}

static void clear_exceptions(struct x86_cpu *c)
{
    if (c->x87_live & (X86_LIVE_X87 | X86_LIVE_X87_SLOW))
        __asm__ volatile("fnclex");
    else
        st16(c->fx.b + FX_FSW, ld16(c->fx.b + FX_FSW) & 0x7f00);
}

void x87_ignore_pending(struct hv_vp *vp)
{
    clear_exceptions(&vp->cpu);
}

void x87_note(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    bool mem = in->nops && in->o[0].kind == X86_O_MEM;

    if (in->op != X86_OP_X87 && in->op != X86_OP_X87_FCMOV && in->op != X86_OP_X87_FCOMI)
        return;
    st16(c->fx.b + FX_FOP, (in->opcode & 7u) << 8 | in->modrm);
    st64(c->fx.b + FX_FIP, c->rip);
    if (mem)
        st64(c->fx.b + FX_FDP, x86_ea(vp, in));
    else if (!c->x87_ptrs)
        st64(c->fx.b + FX_FDP, 0);
    /* the stub clears x87_ptrs; vec_run puts it back */
}

/* ---- environment images (SDM 1 figures 8-9 to 8-12) ---------------------------------------------------------- */

/* Tag word of the 8087 from the abridged one: 0 valid, 1 zero, 2 special, 3 empty. */
static uint16_t full_tags(const uint8_t *fx)
{
    unsigned top = ld16(fx + FX_FSW) >> 11 & 7, tags = 0;

    for (unsigned r = 0; r < 8; r++) {
        const uint8_t *st = fx + FX_ST + 16 * ((r - top) & 7);
        unsigned exp = ld16(st + 8) & 0x7fff, t;
        uint64_t man = ld64(st);

        if (!(fx[FX_FTW] >> r & 1))
            t = 3;
        else if (exp == 0 && man == 0)
            t = 1;
        else if (exp == 0 || exp == 0x7fff || !(man >> 63))
            t = 2;
        else
            t = 0;
        tags |= t << 2 * r;
    }
    return (uint16_t)tags;
}

static void env_store(struct hv_vp *vp, uint8_t *p, unsigned osize)
{
    const uint8_t *fx = vp->cpu.fx.b;
    bool real = x86_is_real_or_vm86(&vp->cpu);
    uint32_t fip = ld32(fx + FX_FIP), fdp = ld32(fx + FX_FDP);
    unsigned fop = ld16(fx + FX_FOP) & 0x7ff;

    if (osize == 2) {
        st16(p, ld16(fx + FX_FCW));
        st16(p + 2, ld16(fx + FX_FSW));
        st16(p + 4, full_tags(fx));
        st16(p + 6, (uint16_t)fip);
        st16(p + 8, real ? (fip >> 16 & 15) << 12 | fop : 0);
        st16(p + 10, (uint16_t)fdp);
        st16(p + 12, real ? (fdp >> 16 & 15) << 12 : 0);
        return;
    }
    st32(p, 0xffff0000u | ld16(fx + FX_FCW));
    st32(p + 4, 0xffff0000u | ld16(fx + FX_FSW));
    st32(p + 8, 0xffff0000u | full_tags(fx));
    if (real) {
        st32(p + 12, 0xffff0000u | (fip & 0xffff));
        st32(p + 16, (fip >> 16) << 12 | fop);
        st32(p + 20, 0xffff0000u | (fdp & 0xffff));
        st32(p + 24, (fdp >> 16) << 12);
    } else {
        st32(p + 12, fip);
        st32(p + 16, fop << 16);
        st32(p + 20, fdp);
        st32(p + 24, 0xffff0000u);
    }
}

static void env_load(struct hv_vp *vp, const uint8_t *p, unsigned osize)
{
    uint8_t *fx = vp->cpu.fx.b;
    bool real = x86_is_real_or_vm86(&vp->cpu);
    unsigned step = osize == 2 ? 2 : 4, tags = ld16(p + 2 * step), ftw = 0, fop = 0;
    uint32_t fip, fdp;

    st16(fx + FX_FCW, ld16(p));
    img_set_sw(fx, ld16(p + step));
    for (unsigned r = 0; r < 8; r++)
        if ((tags >> 2 * r & 3) != 3)
            ftw |= 1u << r;
    fx[FX_FTW] = (uint8_t)ftw;
    fx[FX_FTW + 1] = 0;
    if (osize == 2) {
        fip = ld16(p + 6);
        fdp = ld16(p + 10);
        if (real) {
            fip |= (ld16(p + 8) & 0xf000u) << 4;
            fop = ld16(p + 8) & 0x7ff;
            fdp |= (ld16(p + 12) & 0xf000u) << 4;
        }
    } else if (real) {
        fip = ld16(p + 12) | (ld32(p + 16) & 0x0ffff000) << 4;
        fop = ld32(p + 16) & 0x7ff;
        fdp = ld16(p + 20) | (ld32(p + 24) & 0x0ffff000) << 4;
    } else {
        fip = ld32(p + 12);
        fop = ld32(p + 16) >> 16 & 0x7ff;
        fdp = ld32(p + 20);
    }
    st16(fx + FX_FOP, fop);
    st64(fx + FX_FIP, fip);
    st64(fx + FX_FDP, fdp);
    img_summary(fx);
}

static void img_init(uint8_t *fx)
{
    img_set_sw(fx, 0);
    memset(fx, 0, FX_MXCSR);
    st16(fx + FX_FCW, X87_CW_INIT);
}

/* Read or write @len <= 108 bytes of guest memory, all or nothing. */
static void mem_get(struct hv_vp *vp, const struct x86_insn *in, uint8_t *p, unsigned len)
{
    x86_lin_read(vp, vec_lin(vp, in, len, 1, X86_ACC_READ), p, len, X86_ACC_READ);
}

static void mem_put(struct hv_vp *vp, const struct x86_insn *in, const uint8_t *p, unsigned len)
{
    x86_lin_write(vp, vec_lin(vp, in, len, 1, X86_ACC_WRITE), p, len, X86_ACC_WRITE);
}

bool x87_exec_control(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned osize = in->osize == 2 ? 2 : 4, env = 7 * osize;
    uint8_t buf[108];
    uint16_t cw;

    switch (in->op) {
    case X86_OP_FWAIT: break; /* x86_vec_check did it */
    case X86_OP_FLDCW:
        mem_get(vp, in, buf, 2);
        x87_enter(vp);
        cw = ld16(buf);
        __asm__ volatile("fldcw %0" : : "m"(cw));
        x87_classify(c);
        break;
    case X86_OP_FNCLEX: clear_exceptions(c); break;
    case X86_OP_FNINIT:
        if (c->x87_live & (X86_LIVE_X87 | X86_LIVE_X87_SLOW)) {
            __asm__ volatile("fninit");
            x87_classify(c);
            memset(c->fx.b + FX_FOP, 0, 18); /* the pointers stay there while live */
        } else {
            img_init(c->fx.b);
        }
        c->x87_ptrs = 1;
        break;
    case X86_OP_FNSTENV:
        x87_spill(c);
        env_store(vp, buf, osize);
        mem_put(vp, in, buf, env);
        /* the exceptions are masked after the store (SDM 2A FSTENV) */
        st16(c->fx.b + FX_FCW, ld16(c->fx.b + FX_FCW) | X87_CW_MASKS);
        img_summary(c->fx.b);
        break;
    case X86_OP_FLDENV:
        mem_get(vp, in, buf, env);
        x87_spill(c);
        env_load(vp, buf, osize);
        c->x87_ptrs = 1;
        x87_enter(vp); /* the processor drops reserved bits */
        break;
    case X86_OP_FNSAVE:
        x87_spill(c);
        env_store(vp, buf, osize);
        for (unsigned i = 0; i < 8; i++)
            memcpy(buf + env + 10 * i, c->fx.b + FX_ST + 16 * i, 10);
        mem_put(vp, in, buf, env + 80);
        img_init(c->fx.b);
        break;
    case X86_OP_FRSTOR:
        mem_get(vp, in, buf, env + 80);
        x87_spill(c);
        env_load(vp, buf, osize);
        for (unsigned i = 0; i < 8; i++) {
            memset(c->fx.b + FX_ST + 16 * i, 0, 16);
            memcpy(c->fx.b + FX_ST + 16 * i, buf + env + 10 * i, 10);
        }
        c->x87_ptrs = 1;
        x87_enter(vp);
        break;
    default: return false;
    }
    vec_done(vp, in);
    return true;
}
