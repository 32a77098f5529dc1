/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: vectors and x87, as they are, with the memory operand and general registers renamed. */
#include "hv/jit/tr.h"

static bool gpr_is_rm(const struct x86_insn *in)
{
    if (in->map == 1)
        return in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a || in->opcode == 0xc4;
    return in->map == 3 && ((in->opcode >= 0x14 && in->opcode <= 0x17) || in->opcode == 0x20 || in->opcode == 0x22);
}

/* VEX.W outside 64-bit mode is ignored where it chooses the size of a general register. */
static bool w_is_gpr_size(const struct x86_insn *in)
{
    if (in->map == 1)
        return in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a || in->opcode == 0x2c || in->opcode == 0x2d;
    return in->map == 3 && (in->opcode == 0x16 || in->opcode == 0x22);
}

static void live_check(struct tr *t, const uint64_t *dead, const uint8_t *thunk)
{
    uint8_t *ok;

    t->r11 = -1;

    e_mov_load(E, T0, h_abs(dead));
    ok = e_jrcxz(E);
    tr_loans_out(t);
    e_mov_imm(E, T1, (uint64_t)(uintptr_t)(t->j->rx + off_of(t, E->p) + 11)); /* behind the jump */
    e_bind(e_jmp(E), thunk_rw(t, thunk));
    tr_loans_in(t);
    e_bind8(E, ok);
}

/* From here on the vector registers are live. */
void tr_vec_live(struct tr *t)
{
    if (!t->vchecked)
        live_check(t, &t->j->vdead, t->j->t_vload);
    t->vchecked = true;
}

/* STMXCSR: while the vector registers are the guest's, so is MXCSR. */
static bool emit_stmxcsr(struct tr *t, const struct x86_insn *in)
{
    struct hop m;

    if (t->key & (JKEY_SSE_SLOW | (in->vex ? X86_KEY_NOAVX : X86_KEY_NOSSE)))
        return false;
    tr_vec_live(t);
    if (!tr_insn_ea(t, in, 4, X86_ACC_WRITE, false, &m))
        return false;
    e_op(E, 0, 1, 0xae, 3, &m);
    return true;
}

bool tr_emit_vec(struct tr *t, const struct x86_insn *in)
{
    bool x87 = in->attr & (X86_A_FPU | X86_A_MMX), vec = in->attr & X86_A_FPEXC, mem = in->has_modrm && (in->modrm & 0xc0) != 0xc0;
    unsigned reg = ((in->modrm >> 3) & 7), rm = in->modrm & 7, vv = in->vvvv, w = in->rex & 8 ? 1 : 0, fl;
    int64_t imm = in->imm;
    const struct x86_operand *gpr = NULL, *mo = NULL;
    struct x86_vec_bound bound;
    struct ro r = { 0 };
    struct hop m;

    switch (in->op) {
    case X86_OP_STMXCSR:
        return emit_stmxcsr(t, in);
    case X86_OP_FWAIT:
        return !(t->key & (X86_KEY_NOFPU | JKEY_X87_SLOW));
    case X86_OP_VEC_XMM0: case X86_OP_PCMPESTRI: case X86_OP_PCMPESTRM: case X86_OP_PCMPISTRI: case X86_OP_PCMPISTRM:
        vec = true;
        break;
    case X86_OP_VZEROUPPER: case X86_OP_VZEROALL:
        if (!t->m64)
            return false;
        vec = true;
        break;
    case X86_OP_VEC: case X86_OP_VEC_FLAGS: case X86_OP_X87: case X86_OP_X87_FCMOV: case X86_OP_X87_FCOMI:
    case X86_OP_FNSTCW: case X86_OP_FNSTSW: case X86_OP_EMMS:
        break;
    default:
        return false;
    }
    if (t->key & (x87 ? X86_KEY_NOFPU : in->attr & X86_A_VEX ? X86_KEY_NOAVX : X86_KEY_NOSSE))
        return false;
    if ((in->attr & X86_A_SSE) && (t->key & X86_KEY_NOSSE))
        return false;
    if ((x87 && (t->key & JKEY_X87_SLOW)) || ((in->attr & X86_A_FPEXC) && (t->key & JKEY_SSE_SLOW)))
        return false;
    for (unsigned i = 0; i < in->nops; i++) {
        if (in->o[i].kind == X86_O_VEC)
            vec = true;
        else if (in->o[i].kind == X86_O_GPR)
            gpr = &in->o[i];
        else if (in->o[i].kind == X86_O_MEM)
            mo = &in->o[i];
    }
    x86_vec_bind(t->vp, in, &bound);
    if (!bound.stub || (mem && !mo) || in->vsib || in->immsize > 1)
        return false;
    if (vec)
        tr_vec_live(t);
    if (x87 && !t->xchecked)
        live_check(t, &t->j->x87dead, t->j->t_x87load);
    if (x87 && !t->xptrs) {
        m = CPU(x87_ptrs);
        e_op(E, 0, 0, 0xc6, 0, &m);
        e1(E, 0);
    }
    if (t->m64) {
        reg |= in->rex & 4 ? 8 : 0;
        rm |= in->rex & 1 ? 8 : 0;
    } else {
        vv &= 7;
        if (in->vex && (w_is_gpr_size(in) || in->op == X86_OP_PCMPESTRI || in->op == X86_OP_PCMPESTRM))
            w = 0;
        if (in->nops == 4 && in->o[3].kind == X86_O_VEC)
            imm &= 0x7f;
    }
    m = h_reg(rm);
    if (mem) {
        bool ok;

        t->align = bound.mem_align - 1u;
        ok = bound.mem_len && tr_insn_ea(t, in, bound.mem_len, bound.mem_acc & X86_WR ? X86_ACC_WRITE : X86_ACC_READ,
                                      gpr && op_home(t, gpr), &m);
        t->align = 0;
        if (!ok)
            return false;
    }
    if (gpr && in->map) {
        r = tr_ro_begin(t, gpr, T0, true);
        if (gpr_is_rm(in) && !mem)
            m = h_reg(r.reg);
        else
            reg = r.reg;
    }
    if (in->vex && !in->has_modrm) { /* VZEROUPPER, VZEROALL */
        e1(E, 0xc5), e1(E, in->vexl ? 0xfc : 0xf8), e1(E, 0x77);
    } else if (in->vex) {
        e_vex(E, w, in->pp, in->vexl, in->map, in->opcode, reg, vv, &m);
    } else {
        fl = (w ? E_W : 0) | (in->pp == 1 ? E_66 : in->pp == 2 ? E_F3 : in->pp == 3 ? E_F2 : 0);
        if (!in->has_modrm) {
            e1(E, 0x0f), e1(E, in->opcode); /* EMMS */
        } else {
            e_op(E, fl, in->map, in->opcode, reg, &m);
        }
    }
    if (in->immsize)
        e1(E, (uint8_t)imm);
    if (gpr && in->map && (gpr->flags & X86_WR))
        tr_ro_end(t, &r);
    if (in->op == X86_OP_PCMPESTRI || in->op == X86_OP_PCMPISTRI)
        e_mov_rr32(E, G_CX, RCX);
    t->xchecked = t->xchecked || x87;
    if (x87)
        t->xptrs = !mem; /* C may have to do it */
    return true;
}
