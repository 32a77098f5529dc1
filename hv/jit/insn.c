/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: integer and system instructions.
 *
 * Reference: Intel SDM volume 2 for encodings. */
#include "hv/jit/tr.h"

struct ro tr_ro_begin(struct tr *t, const struct x86_operand *o, unsigned T, bool read)
{
    struct ro r = { 0, o->reg, RO_PLAIN };

    if (T == T1)
        t->r11 = -1;

    if (o->flags & X86_F_HIGH8) {
        r.g = (uint8_t)(o->reg - 4);
        r.kind = RO_HIGH;
        r.reg = (uint8_t)T;
        e_rorx(E, T, t->map[r.g], 8);
    } else if (is_home(t, o->reg)) {
        r.kind = RO_HOME;
        r.reg = (uint8_t)T;
        if (read || o->size < 4)
            e_mov_load(E, T, HOME(o->reg));
    } else {
        r.reg = t->map[o->reg];
    }
    return r;
}

void tr_ro_end(struct tr *t, const struct ro *r)
{
    if (r->kind == RO_HIGH)
        e_rorx(E, t->map[r->g], r->reg, 56);
    else if (r->kind == RO_HOME)
        e_mov_store(E, HOME(r->g), r->reg);
}

/* op r/m, r and op r, r/m by ModRM opcodes: @op_mr, @op_rm (0: none); one operand may be in memory. */
static bool two_op(struct tr *t, const struct x86_insn *in, unsigned map, unsigned op_mr, unsigned op_rm, unsigned extra)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned fl = size_flags(a->size) | extra | (in->lock ? E_LOCK : 0);
    bool aw = a->flags & X86_WR, bw = b->flags & X86_WR;
    struct hop m;
    struct ro r, s;

    if (b->size == 1)
        fl |= E_BYTE_REG | E_BYTE_RM;
    else if (a->size != 1)
        fl &= ~(unsigned)(E_BYTE_REG | E_BYTE_RM);
    if (a->kind == X86_O_MEM) {
        if (!op_mr || !tr_insn_ea(t, in, a->size, aw ? X86_ACC_WRITE : X86_ACC_READ, ro_needs_temp(t, b), &m))
            return false;
        r = tr_ro_begin(t, b, T0, true);
        e_op(E, fl, map, op_mr, r.reg, &m);
        if (bw)
            tr_ro_end(t, &r);
        return true;
    }
    if (b->kind == X86_O_MEM) {
        if (!op_rm || !tr_insn_ea(t, in, b->size, X86_ACC_READ, ro_needs_temp(t, a), &m))
            return false;
        r = tr_ro_begin(t, a, T0, a->flags & X86_RD);
        if (a->size > 1) /* source byte in memory: the register is not a byte register */
            fl &= ~(unsigned)E_BYTE_REG;
        e_op(E, fl, map, op_rm, r.reg, &m);
        if (aw)
            tr_ro_end(t, &r);
        return true;
    }
    if (aw && bw && (((a->flags | b->flags) & X86_F_HIGH8) || (a->reg == b->reg && op_home(t, a))))
        return false; /* perhaps parts of one register */
    /* What lives in memory can be the operand there; not for BT, whose offset then goes beyond it. */
    if (op_home(t, b) && !bw && (op_rm || in->op == X86_OP_TEST)) {
        r = tr_ro_begin(t, a, T0, a->flags & X86_RD);
        m = HOME(b->reg);
        if (a->size > 1)
            fl &= ~(unsigned)E_BYTE_REG;
        e_op(E, fl, map, op_rm ? op_rm : op_mr /* TEST: either order */, r.reg, &m);
        if (aw)
            tr_ro_end(t, &r);
        return true;
    }
    if (op_home(t, a) && (in->op == X86_OP_CMP || in->op == X86_OP_TEST)) {
        r = tr_ro_begin(t, b, T0, true);
        m = HOME(a->reg);
        e_op(E, fl, map, op_mr, r.reg, &m);
        if (bw)
            tr_ro_end(t, &r);
        return true;
    }
    r = tr_ro_begin(t, a, T0, a->flags & X86_RD);
    s = tr_ro_begin(t, b, T1, true);
    if (op_rm) {
        m = h_reg(s.reg);
        if (a->size > 1)
            fl &= ~(unsigned)E_BYTE_REG;
        e_op(E, fl, map, op_rm, r.reg, &m);
    } else {
        m = h_reg(r.reg);
        e_op(E, fl, map, op_mr, s.reg, &m);
    }
    if (aw)
        tr_ro_end(t, &r);
    if (bw)
        tr_ro_end(t, &s);
    return true;
}

/* op r/m with ModRM.reg = @ext and perhaps an immediate of @immsize bytes. */
static bool one_op(struct tr *t, const struct x86_insn *in, unsigned map, unsigned opcode, unsigned ext, unsigned immsize)
{
    const struct x86_operand *a = &in->o[0];
    unsigned fl = size_flags(a->size) | (in->lock ? E_LOCK : 0);
    bool wr = a->flags & X86_WR;
    struct hop m;
    struct ro r;

    fl &= ~(unsigned)E_BYTE_REG;
    if (a->kind == X86_O_MEM) {
        if (!tr_insn_ea(t, in, a->size, wr ? X86_ACC_WRITE : X86_ACC_READ, false, &m))
            return false;
        e_op(E, fl, map, opcode, ext, &m);
        if (immsize)
            emit_imm(t, immsize, in->imm);
        return true;
    }
    if (op_home(t, a) && !wr) { /* CMP, TEST, MUL, BT with a constant */
        m = HOME(a->reg);
        e_op(E, fl, map, opcode, ext, &m);
        if (immsize)
            emit_imm(t, immsize, in->imm);
        return true;
    }
    r = tr_ro_begin(t, a, T0, true);
    m = h_reg(r.reg);
    e_op(E, fl, map, opcode, ext, &m);
    if (immsize)
        emit_imm(t, immsize, in->imm);
    if (wr)
        tr_ro_end(t, &r);
    return true;
}

static bool emit_alu(struct tr *t, const struct x86_insn *in, unsigned row)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned w = a->size == 1 ? 0 : 1;

    if (b->kind == X86_O_IMM) {
        if (a->size == 1)
            return one_op(t, in, 0, 0x80, row, 1);
        if (fits8(in->imm))
            return one_op(t, in, 0, 0x83, row, 1);
        return one_op(t, in, 0, 0x81, row, a->size == 2 ? 2 : 4);
    }
    if (row == 6 && a->kind == X86_O_GPR && b->kind == X86_O_GPR && a->reg == b->reg && a->size >= 4) {
        if (op_home(t, a)) {
            struct hop m = h_reg(T0);

            e_op(E, 0, 0, 0x33, T0, &m);
            e_mov_store(E, HOME(a->reg), T0);
            return true;
        }
    }
    return two_op(t, in, 0, row << 3 | w, row << 3 | 2 | w, 0);
}

static bool emit_mov(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    struct ro r;
    struct hop m;

    if (b->kind != X86_O_IMM) {
        if (a->kind != X86_O_MEM && b->kind != X86_O_MEM && a->size >= 4 && (op_home(t, a) || op_home(t, b))) {
            /* Between a register and a home. */
            unsigned s = op_home(t, b) ? T0 : t->map[b->reg];

            if (op_home(t, b)) {
                unsigned d = op_home(t, a) ? T0 : t->map[a->reg];

                if (a->size == 8)
                    e_mov_load(E, d, HOME(b->reg));
                else
                    e_mov_load32(E, d, HOME(b->reg));
                s = d;
            } else if (a->size == 4) {
                e_mov_rr32(E, T0, s);
                s = T0;
            }
            if (op_home(t, a))
                e_mov_store(E, HOME(a->reg), s);
            return true;
        }
        return two_op(t, in, 0, a->size == 1 ? 0x88 : 0x89, a->size == 1 ? 0x8a : 0x8b, 0);
    }
    if (a->kind == X86_O_MEM)
        return one_op(t, in, 0, a->size == 1 ? 0xc6 : 0xc7, 0, a->size == 8 ? 4 : a->size);
    r = tr_ro_begin(t, a, T0, false);
    if (a->size >= 4) {
        e_mov_imm(E, r.reg, a->size == 4 ? (uint32_t)in->imm : (uint64_t)in->imm);
    } else {
        m = h_reg(r.reg);
        e_op(E, size_flags(a->size) & ~(unsigned)E_BYTE_REG, 0, a->size == 1 ? 0xc6 : 0xc7, 0, &m);
        emit_imm(t, a->size, in->imm);
    }
    tr_ro_end(t, &r);
    return true;
}

static bool emit_lea(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    struct x86_insn plain = *in;
    unsigned d;
    struct ea ea;

    if (a->size == 2)
        return false;
    plain.seg = X86_DS;
    if (!tr_ea_of(t, &plain, t->ti[t->cur].off, &ea))
        return false;
    d = op_home(t, a) ? T0 : t->map[a->reg];
    if (a->size == 4)
        ea.a32 = true;
    if (ea.base == X86_REG_NONE && ea.index == X86_REG_NONE) {
        e_mov_imm(E, d, ea.a32 ? (uint32_t)ea.disp : (uint64_t)ea.disp);
    } else if ((is_home(t, ea.base) || is_home(t, ea.index)) && ea.base != X86_REG_NONE && ea.index != X86_REG_NONE) {
        if (!tr_emit_ea(t, &ea, T0, T1))
            return false;
        if (d != T0)
            e_mov_rr(E, d, T0);
    } else if (!tr_emit_ea(t, &ea, d, NOREG)) {
        return false;
    }
    if (op_home(t, a))
        e_mov_store(E, HOME(a->reg), d);
    return true;
}

static bool emit_shift(struct tr *t, const struct x86_insn *in, unsigned row)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned fl = size_flags(a->size) & ~(unsigned)E_BYTE_REG, w = a->size == 1 ? 0 : 1;
    struct hop m;
    struct ro r;

    if (b->kind == X86_O_IMM) {
        if (in->imm == 1)
            return one_op(t, in, 0, 0xd0 | w, row, 0);
        return one_op(t, in, 0, 0xc0 | w, row, 1);
    }
    if (a->kind == X86_O_MEM) {
        if (!tr_insn_ea(t, in, a->size, X86_ACC_WRITE, true, &m))
            return false;
        e_mov_rr32(E, T0, G_CX);
        e_op(E, fl, 0, 0xd2 | w, row, &m);
        return true;
    }
    r = tr_ro_begin(t, a, T1, true);
    e_mov_rr32(E, T0, G_CX);
    m = h_reg(r.reg);
    e_op(E, fl, 0, 0xd2 | w, row, &m);
    tr_ro_end(t, &r);
    return true;
}

/* Instructions that are emitted by their own encoding, with the registers of reg, rm and vvvv renamed. */
static bool emit_raw_gpr(struct tr *t, const struct x86_insn *in, bool reg_is_ext)
{
    bool mem = (in->modrm & 0xc0) != 0xc0;
    unsigned graw = ((in->modrm >> 3) & 7) | (in->rex & 4 ? 8 : 0), mraw = (in->modrm & 7) | (in->rex & 1 ? 8 : 0);
    unsigned vraw = in->vvvv & (t->m64 ? 15 : 7), reg = (in->modrm >> 3) & 7, vv = 0, temps = mem ? 1 : 2;
    unsigned wr[3] = { 0, 0, 0 };
    bool vused = false;
    struct hop m = { 0 };
    uint8_t role_t[3] = { NOREG, NOREG, NOREG };
    unsigned size = 0, acc = 0, fl;

    /* Role of each operand: 0 ModRM.reg, 1 ModRM.rm, 2 VEX.vvvv. */
    for (unsigned i = 0, reg_role = reg_is_ext; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];
        unsigned role;

        if (o->kind == X86_O_MEM) {
            size = o->size;
            acc |= o->flags & X86_WR ? X86_ACC_WRITE : 0;
            continue;
        }
        if (o->kind != X86_O_GPR)
            continue;
        if (o->flags & X86_F_HIGH8)
            return false;
        if (reg_is_ext)
            role = i == 0 ? 2 : 1;
        else if (!reg_role++)
            role = 0;
        else if (in->op == X86_OP_ANDN || in->op == X86_OP_MULX || in->op == X86_OP_PDEP || in->op == X86_OP_PEXT)
            role = i == 1 ? 2 : 1;
        else
            role = i == 1 ? 1 : 2;
        vused = vused || role == 2;
        wr[role] |= o->flags & X86_WR;
    }
    if (in->vex && in->op != X86_OP_RORX && !vused)
        return false;
    /* Temporaries for what lives in memory. */
    unsigned need = (!reg_is_ext && is_home(t, graw)) + (!mem && is_home(t, mraw)) + (vused && is_home(t, vraw));

    if (need > temps)
        return false;
    if (mem && !tr_insn_ea(t, in, size, acc ? X86_ACC_WRITE : X86_ACC_READ, need > 0, &m))
        return false;
    unsigned next = T0;

    if (need > 1)
        t->r11 = -1;
    if (!reg_is_ext) {
        reg = t->map[graw];
        if (is_home(t, graw)) {
            reg = role_t[0] = (uint8_t)next;
            next = T1;
            e_mov_load(E, reg, HOME(graw)); /* some keep it */
        }
    }
    if (!mem) {
        m = h_reg(t->map[mraw]);
        if (is_home(t, mraw)) {
            if (!reg_is_ext && graw == mraw && role_t[0] != NOREG) {
                m = h_reg(role_t[0]);
            } else {
                m = h_reg(role_t[1] = (uint8_t)next);
                next = T1;
                e_mov_load(E, m.reg, HOME(mraw));
            }
        }
    }
    if (vused) {
        vv = t->map[vraw];
        if (is_home(t, vraw)) {
            vv = role_t[2] = (uint8_t)next;
            e_mov_load(E, vv, HOME(vraw));
        }
    }
    if (in->vex) {
        e_vex(E, (in->rex & 8) && t->m64 ? 1 : 0, in->pp, in->vexl, in->map, in->opcode, reg, vv, &m);
    } else {
        fl = (in->osize == 8 ? E_W : 0) | (in->pp == 2 ? E_F3 : in->pp == 3 ? E_F2 : 0) | (in->lock ? E_LOCK : 0);
        if (in->osize == 2 || in->pp == 1)
            fl |= E_66;
        if (in->op == X86_OP_CRC32 && in->o[1].size == 1)
            fl |= E_BYTE_RM;
        e_op(E, fl, in->map, in->opcode, reg, &m);
    }
    if (in->immsize == 1)
        e1(E, (uint8_t)in->imm);
    else if (in->immsize)
        return false;
    if (wr[1] && role_t[1] != NOREG)
        e_mov_store(E, HOME(mraw), role_t[1]);
    if (wr[2] && role_t[2] != NOREG)
        e_mov_store(E, HOME(vraw), role_t[2]);
    if (wr[0] && role_t[0] != NOREG) /* last: MULX with one destination keeps the high half */
        e_mov_store(E, HOME(graw), role_t[0]);
    return true;
}

static void cold_exec(struct tr *t, uint8_t *rel) { tr_cold_new(t, COLD_EXEC, rel); }

/* DIV, IDIV by what cannot overflow; the rest goes to C, where #DE is raised. */
static bool emit_div(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    unsigned fl = size_flags(a->size), w = a->size == 8, d;
    struct hop m, r11 = h_reg(T1), rdx = h_reg(RDX);

    if (a->size < 4 || t->j->exact) /* the tests in front change the flags */
        return false;
    if (a->kind == X86_O_MEM) {
        if (!tr_insn_ea(t, in, a->size, X86_ACC_READ, false, &m))
            return false;
        e_op(E, fl, 0, 0x8b, d = T0, &m);
    } else if (op_home(t, a)) {
        e_mov_load(E, d = T0, HOME(a->reg));
    } else {
        d = t->map[a->reg];
    }
    m = h_reg(d);
    if (in->op == X86_OP_DIV) {
        e_op(E, fl, 0, 0x3b, RDX, &m);          /* cmp rdx, d */
        cold_exec(t, e_jcc(E, CC_AE));
        e_op(E, fl, 0, 0xf7, 6, &m);
        t->r11 = -1;
        return true;
    }
    t->r11 = -1;
    e_op(E, fl, 0, 0x8b, T1, &(struct hop){ .reg = RAX });
    e_op(E, fl, 0, 0xc1, 7, &r11);              /* sar r11, width - 1 */
    e1(E, w ? 63 : 31);
    e_op(E, fl, 0, 0x3b, T1, &rdx);
    cold_exec(t, e_jcc(E, CC_NE));
    if (w)
        e_lea(E, T1, h_mem(d, 1));
    else
        e_lea32(E, T1, h_mem(d, 1));
    e_op(E, fl, 0, 0x83, 7, &r11);              /* cmp r11, 1: divisor -1 or 0 */
    e1(E, 1);
    cold_exec(t, e_jcc(E, CC_BE));
    e_op(E, fl, 0, 0xf7, 7, &m);
    return true;
}

static bool emit_push(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    unsigned n = t->m64 ? 8 : 4, fl = t->m64 ? E_W : 0;
    struct hop m;

    if (in->osize != n)
        return false;
    if (a->kind == X86_O_MEM) {
        struct hop v;
        bool ok;

        t->more = true;
        ok = tr_insn_ea(t, in, n, X86_ACC_READ, false, &v);
        t->more = false;
        if (!ok)
            return false;
        e_op(E, fl, 0, 0x8b, T0, &v);
        e_mov_store(E, h_abs(&t->j->ea), T0);
        if (!tr_stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, true, true, &m))
            return false;
        e_mov_load(E, T0, h_abs(&t->j->ea));
        e_op(E, fl, 0, 0x89, T0, &m);
        sp_add(t, -(int32_t)n);
        return true;
    }
    if (a->kind == X86_O_IMM) {
        if (!tr_stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, false, false, &m))
            return false;
        e_op(E, fl, 0, 0xc7, 0, &m);
        e4(E, (uint32_t)in->imm);
    } else {
        unsigned s;

        if (!tr_stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, false, op_home(t, a), &m))
            return false;
        s = t->map[a->reg];
        if (op_home(t, a))
            e_mov_load(E, s = T0, HOME(a->reg));
        e_op(E, fl, 0, 0x89, s, &m);
    }
    sp_add(t, -(int32_t)n);
    return true;
}

static bool emit_pop(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    unsigned n = t->m64 ? 8 : 4, fl = t->m64 ? E_W : 0;
    struct hop m;

    if (in->osize != n)
        return false;
    if (a->kind == X86_O_MEM) {
        struct hop v;
        struct ea ea;
        bool ok;

        if (in->base == X86_RSP || in->index == X86_RSP) /* the address is made with what it is afterwards */
            return false;
        t->more = true;
        ok = tr_stack_access(t, 0, n, X86_ACC_READ, false, false, &v);
        t->more = false;
        if (!ok)
            return false;
        e_op(E, fl, 0, 0x8b, T0, &v);
        e_mov_store(E, h_abs(&t->j->ea), T0);
        if (!tr_ea_of(t, in, t->ti[t->cur].off, &ea) ||
            !tr_mem_access(t, &ea, n, X86_ACC_WRITE, true, true, t->ti[t->cur].gmem, t->ti[t->cur].omem, &m))
            return false;
        e_mov_load(E, T0, h_abs(&t->j->ea));
        e_op(E, fl, 0, 0x89, T0, &m);
        sp_add(t, (int32_t)n);
        return true;
    }
    if (a->kind != X86_O_GPR)
        return false;
    if (!tr_stack_access(t, 0, n, X86_ACC_READ, false, false, &m))
        return false;
    if (op_home(t, a)) {
        e_op(E, fl, 0, 0x8b, T0, &m);
        e_mov_store(E, HOME(a->reg), T0);
        sp_add(t, (int32_t)n);
    } else if (a->reg == X86_RSP) {
        e_op(E, fl, 0, 0x8b, G_SP, &m);
    } else {
        e_op(E, fl, 0, 0x8b, t->map[a->reg], &m);
        sp_add(t, (int32_t)n);
    }
    return true;
}

static bool emit_leave(struct tr *t, const struct x86_insn *in)
{
    unsigned n = t->m64 ? 8 : 4;
    struct ea a = { X86_RBP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, 0 };
    struct hop m;

    if (in->osize != n || !tr_mem_access(t, &a, n, X86_ACC_READ, false, false, t->ti[t->cur].gmem, t->ti[t->cur].omem, &m))
        return false;
    if (t->m64)
        e_lea(E, G_SP, h_mem(RBP, 8));
    else
        e_lea32(E, G_SP, h_mem(RBP, 4));
    e_op(E, t->m64 ? E_W : 0, 0, 0x8b, RBP, &m);
    return true;
}

/* and [eflags], mask + or: keeps the host's flags. */
static void eflags_change(struct tr *t, const uint64_t *mask, uint32_t set)
{
    struct hop m = h_abs(mask);

    e_mov_load32(E, T0, CPU(eflags));
    e_pext(E, T0, T0, m);
    e_vex(E, 1, 3, 0, 2, 0xf5, T0, T0, &m); /* pdep */
    if (set)
        e_lea32(E, T0, h_mem(T0, (int32_t)set));
    m = CPU(eflags);
    e_op(E, 0, 0, 0x89, T0, &m);
}

static void store_imm(struct tr *t, unsigned size, const void *at, uint32_t v)
{
    struct hop m = h_abs(at);

    e_op(E, size == 8 ? E_W : 0, 0, size == 1 ? 0xc6 : 0xc7, 0, &m);
    emit_imm(t, size, v);
}

static bool emit_system(struct tr *t, const struct x86_insn *in)
{
    struct hop m;
    uint8_t *ok;

    switch (in->op) {
    case X86_OP_CLI:
        eflags_change(t, &t->j->mask_no_if, 0);
        return true;
    case X86_OP_STI:
        /* When an interrupt waits for this C does it, with the shadow; C does not keep r11.  At the block's end one may come. */
        if (t->cur == t->n - 1)
            return false;
        t->r11 = -1;
        m = CPU_VP(want_window);
        e_op(E, 0, 1, 0xb6, T0, &m);
        ok = e_jrcxz(E);
        tr_cold_new(t, COLD_EXEC, e_jmp(E));
        e_bind8(E, ok);
        eflags_change(t, &t->j->mask_no_if, EF_IF);
        return true;
    case X86_OP_SWAPGS:
        t->r11 = -1;
        e_mov_load(E, T0, CPU(seg[X86_GS].base));
        e_mov_load(E, T1, CPU(kernel_gs_base));
        e_mov_store(E, CPU(kernel_gs_base), T0);
        e_mov_store(E, CPU(seg[X86_GS].base), T1);
        return true;
    case X86_OP_CLAC: case X86_OP_STAC: {
        unsigned view = in->op == X86_OP_STAC ? X86_VIEW_SUPER_AC : X86_VIEW_SUPER;

        eflags_change(t, &t->j->mask_no_ac, in->op == X86_OP_STAC ? EF_AC : 0);
        store_imm(t, 1, &t->vp->mmu.view, view);
        store_imm(t, 8, &t->vp->mmu.tlb, (uint32_t)(uintptr_t)&t->vp->mmu.views[view]);
        t->cls = view;
        t->tlb = &t->vp->mmu.views[view];
        return true;
    }
    default:
        return false;
    }
}

/* From time to time C gives the host's processor away: what the guest waits for may need it. */
static bool emit_pause(struct tr *t)
{
    struct hop m = h_abs(&t->j->pauses);
    uint8_t *zero, *on;

    t->r11 = -1; /* C does not keep it */
    e_mov_load32(E, T0, m);
    e_lea32(E, T0, h_mem(T0, -1));
    e_op(E, 0, 0, 0x89, T0, &m);
    zero = e_jrcxz(E);
    on = e_jmp8(E);
    e_bind8(E, zero);
    tr_cold_new(t, COLD_EXEC, e_jmp(E));
    e_bind8(E, on);
    e1(E, 0xf3), e1(E, 0x90);
    return true;
}

/* What is short and stays in its pages takes no C. */
static bool emit_string(struct tr *t, const struct x86_insn *in)
{
    unsigned shift = (unsigned)__builtin_ctz(in->o[0].size);
    uint8_t *done;

    if (!t->m64 || in->asize != 8 || in->rep == X86_REP_NONE || in->seg == X86_FS || in->seg == X86_GS)
        return false;
    t->r11 = -1;
    e_bind(e_call(E), thunk_rw(t, t->j->t_string[t->cls][in->op == X86_OP_STOS][shift]));
    done = e_jrcxz(E);
    tr_cold_new(t, COLD_EXEC, e_jmp(E));
    e_bind8(E, done);
    return true;
}

static bool emit_pushf(struct tr *t, const struct x86_insn *in)
{
    struct hop m;

    if (!t->m64 || in->osize != 8)
        return false;
    t->r11 = -1;
    e1(E, 0x9c), e1(E, 0x59);               /* pushfq; pop rcx */
    m = h_abs(&t->j->mask_arith);
    e_pext(E, T0, T0, m);
    e_vex(E, 1, 3, 0, 2, 0xf5, T0, T0, &m);
    e_mov_load32(E, T1, CPU(eflags));
    e_lea(E, T0, h_sib(T0, T1, 0, 0));
    e_mov_store(E, h_abs(&t->j->ea), T0);
    if (!tr_stack_access(t, -8, 8, X86_ACC_WRITE, true, true, &m))
        return false;
    e_mov_load(E, T0, h_abs(&t->j->ea));
    e_mov_store(E, m, T0);
    sp_add(t, -8);
    return true;
}

/* BT family on memory with the bit offset in a register: the word that holds the bit, by a checked access. */
static bool emit_bt_mem(struct tr *t, const struct x86_insn *in)
{
    t->r11 = -1;
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned fl = size_flags(a->size), w = a->size == 8, row = in->op - X86_OP_BT + 4, acc = row != 4 ? X86_ACC_WRITE : 0;
    struct x86_tlb_entry *e0 = t->tlb->e;
    int32_t tag = (int32_t)(uintptr_t)(acc ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    struct hop m, r11 = h_reg(T1);
    struct cold *c;
    struct ea ea;

    if (a->size < 4 || t->ti[t->cur].live_in || op_home(t, b) || !tr_ea_of(t, in, t->ti[t->cur].off, &ea) || !tr_ea_one_reg(t, &ea) || ea.a32)
        return false;
    if (!tr_emit_ea(t, &ea, T0, NOREG))
        return false;
    m = h_reg(t->map[b->reg]);
    if (w)
        e_mov_rr(E, T1, m.reg);
    else
        e_op(E, E_W, 0, 0x63, T1, &m);          /* movsxd */
    e_op(E, E_W, 0, 0xc1, 7, &r11);             /* sar: words, then bytes */
    e1(E, w ? 6 : 5);
    e_lea(E, T0, h_sib(T0, T1, w ? 3 : 2, 0));
    e_rorx(E, T1, T0, 7);
    e_op(E, 0, 0, 0x81, 4, &r11);
    e4(E, (X86_TLB_SIZE - 1) << 5);
    e_alu_load(E, 1, 0, T0, h_mem(T1, tag));
    e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
    e4(E, 4096 - a->size);
    c = tr_cold_new(t, COLD_EXEC, e_jcc(E, CC_A));
    (void)c;
    e_alu_load(E, 1, 5, T0, h_mem(T1, tag));
    e_mov_load(E, T1, h_mem(T1, add));
    e_lea(E, T1, h_sib(T1, T0, 0, 0));
    e_mov_rr32(E, T0, t->map[b->reg]);
    e_op(E, 0, 0, 0x83, 4, (m = h_reg(T0), &m)); /* and ecx, bits - 1 */
    e1(E, w ? 63 : 31);
    m = h_mem(T1, 0);
    e_op(E, fl | (in->lock ? E_LOCK : 0), 1, 0x83 | row << 3, T0, &m);
    return true;
}

static bool emit_cmpxchg_pair(struct tr *t, const struct x86_insn *in)
{
    bool w = in->op == X86_OP_CMPXCHG16B, ok;
    struct hop m;

    t->align = w ? 15 : 0;
    ok = tr_insn_ea(t, in, w ? 16 : 8, X86_ACC_WRITE, true, &m);
    t->align = 0;
    if (!ok)
        return false;
    if (m.base == T0 || m.index == T0)
        return false;
    e_mov_rr(E, T0, G_CX);
    e_op(E, (w ? E_W : 0) | (in->lock ? E_LOCK : 0), 1, 0xc7, 1, &m);
    return true;
}

/* @return false: nothing usable was emitted, C executes it. */
bool tr_emit_native(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    struct hop m;
    struct ro r;

    switch (in->op) {
    case X86_OP_ADD: return emit_alu(t, in, 0);
    case X86_OP_OR: return emit_alu(t, in, 1);
    case X86_OP_ADC: return emit_alu(t, in, 2);
    case X86_OP_SBB: return emit_alu(t, in, 3);
    case X86_OP_AND: return emit_alu(t, in, 4);
    case X86_OP_SUB: return emit_alu(t, in, 5);
    case X86_OP_XOR: return emit_alu(t, in, 6);
    case X86_OP_CMP: return emit_alu(t, in, 7);
    case X86_OP_TEST:
        if (b->kind == X86_O_IMM)
            return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 0, a->size == 8 ? 4 : a->size);
        return two_op(t, in, 0, a->size == 1 ? 0x84 : 0x85, 0, 0);
    case X86_OP_NOT: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 2, 0);
    case X86_OP_NEG: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 3, 0);
    case X86_OP_MUL: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 4, 0);
    case X86_OP_IMUL1: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 5, 0);
    case X86_OP_INC: return one_op(t, in, 0, a->size == 1 ? 0xfe : 0xff, 0, 0);
    case X86_OP_DEC: return one_op(t, in, 0, a->size == 1 ? 0xfe : 0xff, 1, 0);
    case X86_OP_DIV: case X86_OP_IDIV: return emit_div(t, in);
    case X86_OP_ROL: return emit_shift(t, in, 0);
    case X86_OP_ROR: return emit_shift(t, in, 1);
    case X86_OP_RCL: return emit_shift(t, in, 2);
    case X86_OP_RCR: return emit_shift(t, in, 3);
    case X86_OP_SHL: return emit_shift(t, in, 4);
    case X86_OP_SHR: return emit_shift(t, in, 5);
    case X86_OP_SAR: return emit_shift(t, in, 7);
    case X86_OP_SHLD: case X86_OP_SHRD:
        if (in->o[2].kind != X86_O_IMM)
            return false;
        if (a->kind == X86_O_MEM) {
            if (!tr_insn_ea(t, in, a->size, X86_ACC_WRITE, op_home(t, b), &m))
                return false;
            r = tr_ro_begin(t, b, T0, true);
            e_op(E, size_flags(a->size), 1, in->op == X86_OP_SHLD ? 0xa4 : 0xac, r.reg, &m);
        } else {
            struct ro s;

            r = tr_ro_begin(t, a, T0, true);
            s = tr_ro_begin(t, b, T1, true);
            m = h_reg(r.reg);
            e_op(E, size_flags(a->size), 1, in->op == X86_OP_SHLD ? 0xa4 : 0xac, s.reg, &m);
            e1(E, (uint8_t)in->imm);
            tr_ro_end(t, &r);
            return true;
        }
        e1(E, (uint8_t)in->imm);
        return true;
    case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC: {
        unsigned row = in->op - X86_OP_BT + 4;

        if (b->kind == X86_O_IMM)
            return one_op(t, in, 1, 0xba, row, 1);
        if (a->kind == X86_O_MEM)
            return emit_bt_mem(t, in);
        return two_op(t, in, 1, 0x83 | row << 3, 0, 0);
    }
    case X86_OP_MOV: return emit_mov(t, in);
    case X86_OP_MOVNTI: return two_op(t, in, 0, 0x89, 0, 0);
    case X86_OP_MOVZX: return two_op(t, in, 1, 0, b->size == 1 ? 0xb6 : 0xb7, 0);
    case X86_OP_MOVSX: return two_op(t, in, 1, 0, b->size == 1 ? 0xbe : 0xbf, 0);
    case X86_OP_MOVSXD: return two_op(t, in, 0, 0, 0x63, 0);
    case X86_OP_LEA: return emit_lea(t, in);
    case X86_OP_IMUL2: return two_op(t, in, 1, 0, 0xaf, 0);
    case X86_OP_IMUL3: {
        bool s8 = fits8(in->imm), home = op_home(t, a);
        unsigned fl = size_flags(a->size);

        if (home && a->size < 4)
            return false;
        if (b->kind == X86_O_MEM) {
            if (!tr_insn_ea(t, in, b->size, X86_ACC_READ, home, &m))
                return false;
        } else {
            m = op_home(t, b) ? HOME(b->reg) : h_reg(t->map[b->reg]);
        }
        e_op(E, fl, 0, s8 ? 0x6b : 0x69, home ? T0 : t->map[a->reg], &m);
        emit_imm(t, s8 ? 1 : a->size == 2 ? 2 : 4, in->imm);
        if (home)
            e_mov_store(E, HOME(a->reg), T0);
        return true;
    }
    case X86_OP_CMOVCC: {
        struct x86_insn rw = *in;

        rw.o[0].flags |= X86_RD;
        return two_op(t, &rw, 1, 0, 0x40 | in->cond, 0);
    }
    case X86_OP_SETCC:
        if (a->kind == X86_O_MEM) {
            if (!tr_insn_ea(t, in, 1, X86_ACC_WRITE, false, &m))
                return false;
            e_op(E, 0, 1, 0x90 | in->cond, 0, &m);
            return true;
        }
        r = tr_ro_begin(t, a, T0, true);
        m = h_reg(r.reg);
        e_op(E, E_BYTE_RM, 1, 0x90 | in->cond, 0, &m);
        tr_ro_end(t, &r);
        return true;
    case X86_OP_XCHG: {
        unsigned op = a->size == 1 ? 0x86 : 0x87;

        if (b->kind == X86_O_MEM) {
            struct x86_insn sw = *in;

            sw.o[0] = in->o[1];
            sw.o[1] = in->o[0];
            return two_op(t, &sw, 0, op, 0, 0);
        }
        return two_op(t, in, 0, op, 0, 0);
    }
    case X86_OP_XADD: return two_op(t, in, 1, a->size == 1 ? 0xc0 : 0xc1, 0, 0);
    case X86_OP_CMPXCHG:
        if (a->kind != X86_O_MEM)
            return false;
        return two_op(t, in, 1, a->size == 1 ? 0xb0 : 0xb1, 0, 0);
    case X86_OP_BSWAP:
        if (a->size < 4)
            return false;
        r = tr_ro_begin(t, a, T0, true);
        e1(E, 0x40 | (a->size == 8 ? 8 : 0) | (r.reg & 8 ? 1 : 0));
        e1(E, 0x0f);
        e1(E, 0xc8 | (r.reg & 7));
        tr_ro_end(t, &r);
        return true;
    case X86_OP_CBW: case X86_OP_CWD:
        if (in->osize == 2)
            e1(E, 0x66);
        else if (in->osize == 8)
            e1(E, 0x48);
        e1(E, in->op == X86_OP_CBW ? 0x98 : 0x99);
        return true;
    case X86_OP_LAHF: e1(E, 0x9f); return true;
    case X86_OP_SAHF: e1(E, 0x9e); return true;
    case X86_OP_CMC: e1(E, 0xf5); return true;
    case X86_OP_CLC: e1(E, 0xf8); return true;
    case X86_OP_STC: e1(E, 0xf9); return true;
    case X86_OP_NOP: return true;
    case X86_OP_PAUSE: return emit_pause(t);
    case X86_OP_LFENCE: e1(E, 0x0f), e1(E, 0xae), e1(E, 0xe8); return true;
    case X86_OP_MFENCE: e1(E, 0x0f), e1(E, 0xae), e1(E, 0xf0); return true;
    case X86_OP_SFENCE: e1(E, 0x0f), e1(E, 0xae), e1(E, 0xf8); return true;
    case X86_OP_CMPXCHG8B: case X86_OP_CMPXCHG16B: return emit_cmpxchg_pair(t, in);
    case X86_OP_CLI: case X86_OP_STI: case X86_OP_SWAPGS: case X86_OP_CLAC: case X86_OP_STAC:
        return emit_system(t, in);
    case X86_OP_MOVS: case X86_OP_STOS: return emit_string(t, in);
    case X86_OP_CLD: eflags_change(t, &t->j->mask_no_df, 0); return true;
    case X86_OP_PUSHF: return emit_pushf(t, in);
    case X86_OP_PUSH: return emit_push(t, in);
    case X86_OP_POP: return emit_pop(t, in);
    case X86_OP_LEAVE: return emit_leave(t, in);
    case X86_OP_BSF: case X86_OP_BSR: case X86_OP_POPCNT: case X86_OP_LZCNT: case X86_OP_TZCNT:
    case X86_OP_MOVBE: case X86_OP_CRC32: case X86_OP_ADCX: case X86_OP_ADOX:
    case X86_OP_ANDN: case X86_OP_BEXTR: case X86_OP_BZHI: case X86_OP_PDEP: case X86_OP_PEXT:
    case X86_OP_RORX: case X86_OP_SARX: case X86_OP_SHLX: case X86_OP_SHRX: case X86_OP_MULX:
        return emit_raw_gpr(t, in, false);
    case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR:
        return emit_raw_gpr(t, in, true);
    default:
        return in->op >= X86_OP_X87 && tr_emit_vec(t, in);
    }
}
