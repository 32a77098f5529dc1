/* SPDX-License-Identifier: BSD-2-Clause */
/* Segmentation: address formation, descriptor tables, segment loads, stack and operand access.
 * Reference: Intel SDM volume 3A chapters 3 and 5; volume 1 sections 3.7 and 6.2. */
#include <string.h>

#include "hv/x86/desc.h"

/* ---- descriptor tables ---- */

static uint64_t desc_addr(const struct hv_vp *vp, uint64_t base, uint16_t sel)
{
    uint64_t a = base + (sel & 0xfff8u);

    return x86_long_mode(&vp->cpu) ? a : (uint32_t)a;
}

static bool desc_table(const struct x86_cpu *c, uint16_t sel, uint64_t *base, uint32_t *limit)
{
    if (!(sel & 4)) {
        *base = c->gdtr.base;
        *limit = c->gdtr.limit;
        return true;
    }
    *base = c->ldtr.base;
    *limit = c->ldtr.limit;
    return !(c->ldtr.attr & SEG_UNUSABLE) && (c->ldtr.attr & SEG_P);
}

bool x86_desc_read(struct hv_vp *vp, uint16_t sel, struct x86_desc *ret)
{
    uint64_t base;
    uint32_t limit;

    if (!desc_table(&vp->cpu, sel, &base, &limit) || (sel | 7u) > limit)
        return false;
    ret->addr = desc_addr(vp, base, sel);
    x86_lin_read(vp, ret->addr, &ret->lo, 8, X86_ACC_READ | X86_ACC_SYS);
    ret->attr = x86_desc_attr(ret->lo);
    return true;
}

bool x86_desc_read_hi(struct hv_vp *vp, uint16_t sel, const struct x86_desc *d, uint64_t *ret)
{
    uint64_t base;
    uint32_t limit;

    if (!desc_table(&vp->cpu, sel, &base, &limit) || (sel | 7u) + 8u > limit)
        return false;
    x86_lin_read(vp, d->addr + 8, ret, 8, X86_ACC_READ | X86_ACC_SYS);
    return true;
}

/* The type field is the low half of byte 5.  The update is a locked one (8.1.2.1). */
void x86_desc_type(struct hv_vp *vp, struct x86_desc *d, unsigned clear, unsigned set)
{
    uint8_t old = (uint8_t)(d->lo >> 40), val = (uint8_t)((old & ~clear) | set);
    uint64_t lin = d->addr + 5;
    _Atomic uint8_t *p;

    if (!x86_long_mode(&vp->cpu))
        lin = (uint32_t)lin;
    if (val == old)
        return;
    p = x86_lin_hva(vp, lin, 1, X86_ACC_WRITE | X86_ACC_SYS);
    if (p) {
        if (clear)
            atomic_fetch_and(p, (uint8_t)~clear);
        if (set)
            atomic_fetch_or(p, (uint8_t)set);
    } else {
        x86_lin_probe(vp, lin, 1, X86_ACC_WRITE | X86_ACC_SYS);
        x86_mmu_exclusive_begin(vp);
        x86_lin_write(vp, lin, &val, 1, X86_ACC_WRITE | X86_ACC_SYS);
        x86_mmu_exclusive_end(vp);
    }
    d->lo = (d->lo & ~(0xffull << 40)) | ((uint64_t)val << 40);
    d->attr = x86_desc_attr(d->lo);
}

void x86_desc_seg(const struct x86_desc *d, uint16_t sel, struct x86_seg *ret)
{
    ret->base = x86_desc_base(d->lo);
    ret->limit = x86_desc_limit(d->lo);
    ret->sel = sel;
    ret->attr = d->attr;
}

/* ---- address formation ---- */

bool x86_seg_inside(const struct x86_seg *s, uint64_t off, unsigned len)
{
    uint64_t last = off + len - 1;

    if ((s->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPDOWN)) == SEG_TYPE_EXPDOWN && (s->attr & SEG_S))
        return off > s->limit && last <= (s->attr & SEG_DB ? 0xffffffffu : 0xffffu);
    return last <= s->limit;
}

uint64_t x86_seg_lin(struct hv_vp *vp, unsigned seg, uint64_t off, unsigned len, unsigned acc)
{
    struct x86_cpu *c = &vp->cpu;
    const struct x86_seg *s = &c->seg[seg];
    unsigned vec = seg == X86_SS ? X86_EXC_SS : X86_EXC_GP;

    if (!len)
        len = 1;
    if (c->mode == X86_MODE_64) {
        uint64_t lin = seg == X86_FS || seg == X86_GS ? s->base + off : off;

        if (!x86_canonical(lin) || !x86_canonical(lin + len - 1))
            x86_raise_err(vp, vec, 0);
        return lin;
    }
    if ((s->attr & SEG_UNUSABLE) || !x86_seg_inside(s, off, len))
        x86_raise_err(vp, vec, 0);
    /* Types matter in protected mode only: a real-mode program writes through CS. */
    if (!x86_is_real_or_vm86(c)) {
        if ((acc & X86_ACC_WRITE) ? !x86_attr_stack(s->attr)
                                  : !(acc & X86_ACC_EXEC) && (s->attr & SEG_TYPE_CODE) &&
                                        !(s->attr & SEG_TYPE_RW))
            x86_raise_err(vp, vec, 0);
    }
    return (uint32_t)(s->base + off);
}

/* ---- segment registers ---- */

void x86_seg_load_real(struct x86_seg *s, uint16_t sel, bool vm86)
{
    s->sel = sel;
    s->base = (uint32_t)sel << 4;
    if (vm86) {
        s->limit = 0xffff;
        s->attr = SEG_VM86;
    } else if (s->attr & SEG_UNUSABLE) {
        /* 9.9.2 leaves open what a load over a null selector gives: the power-on form. */
        s->limit = 0xffff;
        s->attr = SEG_DATA_ACC;
    }
}

void x86_load_seg(struct hv_vp *vp, unsigned seg, uint16_t sel)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_seg *s = &c->seg[seg];
    unsigned rpl = sel & 3, cpl = c->cpl, dpl;
    uint32_t err = sel & 0xfffc;
    struct x86_desc d;

    if (x86_is_real_or_vm86(c)) {
        x86_seg_load_real(s, sel, (c->eflags & EF_VM) != 0);
        x86_update_mode(vp);
        return;
    }
    if (x86_sel_null(sel)) {
        if (seg == X86_SS && (c->mode != X86_MODE_64 || cpl == 3 || rpl != cpl))
            x86_raise_err(vp, X86_EXC_GP, 0);
        x86_seg_set_null(s, sel, seg == X86_SS ? cpl : 0);
        x86_update_mode(vp);
        return;
    }
    if (!x86_desc_read(vp, sel, &d))
        x86_raise_err(vp, X86_EXC_GP, err);
    dpl = x86_attr_dpl(d.attr);
    if (seg == X86_SS) {
        if (rpl != cpl || !x86_attr_stack(d.attr) || dpl != cpl)
            x86_raise_err(vp, X86_EXC_GP, err);
        if (!(d.attr & SEG_P))
            x86_raise_err(vp, X86_EXC_SS, err);
    } else {
        bool code = x86_attr_code(d.attr);

        if (!(d.attr & SEG_S) || (code && !(d.attr & SEG_TYPE_RW)))
            x86_raise_err(vp, X86_EXC_GP, err);
        if (!(code && x86_attr_conforming(d.attr)) && (rpl > dpl || cpl > dpl))
            x86_raise_err(vp, X86_EXC_GP, err);
        if (!(d.attr & SEG_P))
            x86_raise_err(vp, X86_EXC_NP, err);
    }
    x86_desc_type(vp, &d, 0, SEG_TYPE_A);
    x86_desc_seg(&d, sel, s);
    if (c->mode != X86_MODE_64)
        x86_update_mode(vp);
}

/* ---- stack ---- */

void x86_push(struct hv_vp *vp, uint64_t val, unsigned size)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t sp = (c->gpr[X86_RSP] - size) & x86_size_mask(c->ssize);
    uint64_t lin = x86_seg_lin(vp, X86_SS, sp, size, X86_ACC_WRITE);

    x86_lin_write(vp, lin, &val, size, X86_ACC_WRITE);
    x86_set_sp(c, sp, c->ssize);
}

uint64_t x86_pop(struct hv_vp *vp, unsigned size)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t sp = c->gpr[X86_RSP] & x86_size_mask(c->ssize), val = 0;
    uint64_t lin = x86_seg_lin(vp, X86_SS, sp, size, X86_ACC_READ);

    x86_lin_read(vp, lin, &val, size, X86_ACC_READ);
    x86_set_sp(c, sp + size, c->ssize);
    return val;
}

static uint64_t frame_lin(struct hv_vp *vp, const struct x86_frame *f, uint64_t off, unsigned len)
{
    if (f->ssize == 8) {
        if (!x86_canonical(off) || !x86_canonical(off + len - 1))
            x86_raise_err(vp, X86_EXC_SS, f->err);
        return off;
    }
    if ((f->ss->attr & SEG_UNUSABLE) || !x86_seg_inside(f->ss, off, len))
        x86_raise_err(vp, X86_EXC_SS, f->err);
    return (uint32_t)(f->ss->base + off);
}

/* All elements lie in one run unless a 16- or 32-bit stack pointer wraps. */
static bool frame_whole(const struct x86_frame *f, uint64_t *bottom)
{
    uint64_t sp = f->sp & x86_size_mask(f->ssize);

    *bottom = (sp - (uint64_t)f->n * f->size) & x86_size_mask(f->ssize);
    return f->ssize == 8 || sp == 0 || sp >= (uint64_t)f->n * f->size;
}

void x86_frame_check(struct hv_vp *vp, const struct x86_frame *f)
{
    uint64_t bottom, mask = x86_size_mask(f->ssize);

    if (frame_whole(f, &bottom)) {
        frame_lin(vp, f, bottom, f->n * f->size);
        return;
    }
    for (unsigned i = 0; i < f->n; i++)
        frame_lin(vp, f, (f->sp - (uint64_t)(i + 1) * f->size) & mask, f->size);
}

uint64_t x86_frame_store(struct hv_vp *vp, const struct x86_frame *f)
{
    uint64_t bottom, mask = x86_size_mask(f->ssize), lin;
    uint8_t buf[X86_FRAME_MAX * 8];

    if (!f->n)
        return f->sp & mask;
    if (frame_whole(f, &bottom)) {
        lin = frame_lin(vp, f, bottom, f->n * f->size);
        for (unsigned i = 0; i < f->n; i++)
            memcpy(buf + (f->n - 1 - i) * f->size, &f->v[i], f->size);
        x86_lin_write(vp, lin, buf, f->n * f->size, f->acc);
        return bottom;
    }
    x86_frame_check(vp, f);
    for (unsigned pass = 0; pass < 2; pass++)
        for (unsigned i = 0; i < f->n; i++) {
            lin = frame_lin(vp, f, (f->sp - (uint64_t)(i + 1) * f->size) & mask, f->size);
            if (pass)
                x86_lin_write(vp, lin, &f->v[i], f->size, f->acc);
            else
                x86_lin_probe(vp, lin, f->size, f->acc);
        }
    return bottom;
}

/* 6.12.1, 7.2.1: stacks of levels 0-2 in the current task-state segment. */
void x86_tss_stack(struct hv_vp *vp, unsigned cpl, unsigned ext, struct x86_seg *ss, uint64_t *sp)
{
    const struct x86_seg *tr = &vp->cpu.tr;
    bool tss32 = (tr->attr & SEG_TYPE & ~X86_ST_BUSY) == X86_ST_TSS32;
    uint32_t off = tss32 ? cpl * 8 + 4 : cpl * 4 + 2, size = tss32 ? 4 : 2, esp = 0, err;
    uint8_t buf[6];
    uint16_t sel;
    struct x86_desc d;

    if ((tr->attr & SEG_UNUSABLE) || off + size + 1 > tr->limit)
        x86_raise_err(vp, X86_EXC_TS, (tr->sel & 0xfffcu) | ext);
    x86_lin_read(vp, (uint32_t)(tr->base + off), buf, size + 2, X86_ACC_READ | X86_ACC_SYS);
    memcpy(&esp, buf, size);
    memcpy(&sel, buf + size, 2);
    err = (sel & 0xfffcu) | ext;
    if (x86_sel_null(sel))
        x86_raise_err(vp, X86_EXC_TS, ext);
    if (!x86_desc_read(vp, sel, &d) || (sel & 3u) != cpl || x86_attr_dpl(d.attr) != cpl ||
        !x86_attr_stack(d.attr))
        x86_raise_err(vp, X86_EXC_TS, err);
    if (!(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_SS, err);
    x86_desc_type(vp, &d, 0, SEG_TYPE_A);
    x86_desc_seg(&d, sel, ss);
    *sp = esp;
}

uint64_t x86_tss_rsp(struct hv_vp *vp, unsigned slot, unsigned ext)
{
    const struct x86_seg *tr = &vp->cpu.tr;
    uint32_t off = 4 + slot * 8;
    uint64_t rsp;

    if ((tr->attr & SEG_UNUSABLE) || off + 7 > tr->limit)
        x86_raise_err(vp, X86_EXC_TS, (tr->sel & 0xfffcu) | ext);
    x86_lin_read(vp, tr->base + off, &rsp, 8, X86_ACC_READ | X86_ACC_SYS);
    return rsp;
}

/* ---- flags and operands ---- */

void x86_flags_set(struct hv_vp *vp, uint32_t val, uint32_t mask)
{
    struct x86_cpu *c = &vp->cpu;
    uint32_t old = x86_flags_get(c), f = (old & ~mask) | (val & mask);

    c->fl = x86_eflags_to_fl(f);
    c->eflags = (f & ~(uint32_t)EF_ARITH) | EF_R1;
    if ((f ^ old) & (EF_TF | EF_VM | EF_AC | EF_RF))
        x86_update_mode(vp);
    if (f & EF_IF)
        hv_vp_window(vp);
}

uint64_t x86_ea(const struct hv_vp *vp, const struct x86_insn *in)
{
    const struct x86_cpu *c = &vp->cpu;
    uint64_t ea = (uint64_t)in->disp;

    if (in->base == X86_REG_RIP)
        ea += c->rip + in->len;
    else
        ea += c->gpr[in->base];
    if (!in->vsib)
        ea += c->gpr[in->index] << in->scale;
    return ea & x86_size_mask(in->asize);
}

void x86_set_gpr(struct x86_cpu *c, unsigned reg, uint64_t val, unsigned size)
{
    uint64_t *r = &c->gpr[reg];

    switch (size) {
    case 1: *r = (*r & ~0xffull) | (val & 0xff); break;
    case 2: *r = (*r & ~0xffffull) | (val & 0xffff); break;
    case 4: *r = (uint32_t)val; break;
    default: *r = val; break;
    }
}

uint64_t x86_operand_read(struct hv_vp *vp, const struct x86_insn *in, unsigned n)
{
    const struct x86_operand *o = &in->o[n];
    uint64_t val = 0, lin;

    switch (o->kind) {
    case X86_O_GPR:
        if (o->flags & X86_F_HIGH8)
            return (vp->cpu.gpr[o->reg & 3] >> 8) & 0xff;
        return vp->cpu.gpr[o->reg] & x86_size_mask(o->size);
    case X86_O_MEM:
        lin = x86_seg_lin(vp, in->seg, x86_ea(vp, in), o->size, X86_ACC_READ);
        x86_lin_read(vp, lin, &val, o->size > 8 ? 8 : o->size, X86_ACC_READ);
        return val;
    case X86_O_SREG:
        return vp->cpu.seg[o->reg].sel;
    case X86_O_IMM2:
        return (uint64_t)in->imm2;
    default:
        return (uint64_t)in->imm;
    }
}

void x86_operand_write(struct hv_vp *vp, const struct x86_insn *in, unsigned n, uint64_t val)
{
    const struct x86_operand *o = &in->o[n];
    uint64_t lin;

    switch (o->kind) {
    case X86_O_GPR:
        if (o->flags & X86_F_HIGH8) {
            uint64_t *r = &vp->cpu.gpr[o->reg & 3];

            *r = (*r & ~0xff00ull) | ((val & 0xff) << 8);
        } else {
            x86_set_gpr(&vp->cpu, o->reg, val, o->size);
        }
        break;
    case X86_O_MEM:
        lin = x86_seg_lin(vp, in->seg, x86_ea(vp, in), o->size, X86_ACC_WRITE);
        x86_lin_write(vp, lin, &val, o->size > 8 ? 8 : o->size, X86_ACC_WRITE);
        break;
    case X86_O_SREG:
        x86_load_seg(vp, o->reg, (uint16_t)val);
        break;
    }
}
