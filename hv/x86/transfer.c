/* SPDX-License-Identifier: BSD-2-Clause */
/* Far control transfers, segment registers, descriptor-table instructions, PUSHF and POPF, ENTER.
 * Reference: Intel SDM volume 2 under each mnemonic; volume 3A sections 5.8 (transfers), 5.9
 * (system calls), 20.2.7 and 20.3 (virtual-8086 mode). */
#include <string.h>

#include "hv/x86/desc.h"

static bool is_real(const struct x86_cpu *c) { return !(c->cr0 & CR0_PE); }
static bool is_vm86(const struct x86_cpu *c) { return (c->eflags & EF_VM) != 0; }
static unsigned iopl(const struct x86_cpu *c) { return (c->eflags & EF_IOPL) >> 12; }

static _Noreturn void gp(struct hv_vp *vp, uint32_t err) { x86_raise_err(vp, X86_EXC_GP, err); }
static uint32_t sel_err(uint16_t sel) { return sel & 0xfffcu; }

/* ---- parts of far transfers --------------------------------------------------------------------- */

/* Is @rip a place to go on at, in the code segment described by @code? */
static void check_target(struct hv_vp *vp, const struct x86_desc *code, uint64_t rip)
{
    if (x86_long_mode(&vp->cpu) && (code->attr & SEG_L)) {
        if (!x86_canonical(rip))
            gp(vp, 0);
    } else if (rip > x86_desc_limit(code->lo)) {
        gp(vp, 0);
    }
}

/* CS takes @code at level @cpl, SS keeps (or has got) that level already. */
static void set_cs_rip(struct hv_vp *vp, struct x86_desc *code, uint16_t sel, unsigned cpl, uint64_t rip)
{
    struct x86_cpu *c = &vp->cpu;

    x86_desc_seg(code, (uint16_t)((sel & 0xfffc) | cpl), &c->seg[X86_CS]);
    c->rip = rip;
    x86_update_mode(vp);
}

/* Presence and, in IA-32e mode, the L and D bits. */
static void check_code_tail(struct hv_vp *vp, const struct x86_desc *code, uint16_t sel)
{
    if (x86_long_mode(&vp->cpu) && (code->attr & SEG_L) && (code->attr & SEG_DB))
        gp(vp, sel_err(sel));
    if (!(code->attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, sel_err(sel));
}

/* Return address of a CALL on the current stack; @return the frame, checked but not stored. */
static struct x86_frame call_frame(struct hv_vp *vp, unsigned size, uint64_t next)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_frame f = { .ss = &c->seg[X86_SS], .sp = c->gpr[X86_RSP], .ssize = c->ssize, .size = size,
                           .acc = X86_ACC_WRITE };

    x86_frame_add(&f, c->seg[X86_CS].sel);
    x86_frame_add(&f, next);
    x86_frame_check(vp, &f);
    return f;
}

/* ---- CALL and JMP far ---- */

struct far_ptr {
    uint16_t sel;
    uint64_t off;
    unsigned osize;
    uint64_t next;
    bool call;
};

static void far_real(struct hv_vp *vp, const struct far_ptr *p)
{
    struct x86_cpu *c = &vp->cpu;

    if (p->off > c->seg[X86_CS].limit)
        gp(vp, 0);
    if (p->call) {
        struct x86_frame f = call_frame(vp, p->osize, p->next);

        x86_set_sp(c, x86_frame_store(vp, &f), c->ssize);
    }
    x86_seg_load_real(&c->seg[X86_CS], p->sel, is_vm86(c));
    c->rip = p->off;
    x86_update_mode(vp);
}

static void far_code(struct hv_vp *vp, const struct far_ptr *p, struct x86_desc *d)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned dpl = x86_attr_dpl(d->attr);

    if (x86_attr_conforming(d->attr) ? dpl > c->cpl : (p->sel & 3u) > c->cpl || dpl != c->cpl)
        gp(vp, sel_err(p->sel));
    check_code_tail(vp, d, p->sel);
    if (p->call) {
        struct x86_frame f = call_frame(vp, p->osize, p->next);

        check_target(vp, d, p->off);
        x86_desc_type(vp, d, 0, SEG_TYPE_A);
        x86_set_sp(c, x86_frame_store(vp, &f), c->ssize);
    } else {
        check_target(vp, d, p->off);
        x86_desc_type(vp, d, 0, SEG_TYPE_A);
    }
    set_cs_rip(vp, d, p->sel, c->cpl, p->off);
}

/* CALL through a gate to a more privileged level: 5.8.5, figure 5-14. */
static void gate_inner(struct hv_vp *vp, const struct far_ptr *p, const struct x86_desc *gate,
                       struct x86_desc *code, uint16_t sel, uint64_t rip, unsigned size)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned cpl = x86_attr_dpl(code->attr), count = (gate->lo >> 32) & 31;
    struct x86_seg ss = { 0 };
    struct x86_frame f = { .ss = &ss, .size = size, .acc = X86_ACC_WRITE | X86_ACC_SYS };

    if (size == 8) {
        f.sp = x86_tss_rsp(vp, cpl, 0);
        f.ssize = 8;
        x86_seg_set_null(&ss, (uint16_t)cpl, cpl);
        if (!x86_canonical(f.sp))
            x86_raise_err(vp, X86_EXC_SS, 0);
        count = 0;
    } else {
        x86_tss_stack(vp, cpl, 0, &ss, &f.sp);
        f.ssize = x86_ss_size(&ss);
        f.err = sel_err(ss.sel);
    }
    x86_frame_add(&f, c->seg[X86_SS].sel);
    x86_frame_add(&f, c->gpr[X86_RSP] & x86_size_mask(size));
    for (unsigned i = count; i-- > 0;) {
        uint64_t off = (c->gpr[X86_RSP] + i * size) & x86_size_mask(c->ssize), v = 0;

        x86_lin_read(vp, x86_seg_lin(vp, X86_SS, off, size, X86_ACC_READ), &v, size, X86_ACC_READ);
        x86_frame_add(&f, v);
    }
    x86_frame_add(&f, c->seg[X86_CS].sel);
    x86_frame_add(&f, p->next);
    x86_frame_check(vp, &f);
    check_target(vp, code, rip);
    x86_desc_type(vp, code, 0, SEG_TYPE_A);
    uint64_t sp = x86_frame_store(vp, &f);

    c->seg[X86_SS] = ss;
    if (f.ssize == 2)
        c->gpr[X86_RSP] = (uint32_t)f.sp;
    x86_set_sp(c, sp, f.ssize);
    set_cs_rip(vp, code, sel, cpl, rip);
}

static void far_gate(struct hv_vp *vp, const struct far_ptr *p, const struct x86_desc *gate)
{
    struct x86_cpu *c = &vp->cpu;
    bool lm = x86_long_mode(c);
    unsigned size = lm ? 8 : (gate->attr & SEG_TYPE) == X86_ST_CALL32 ? 4 : 2, dpl;
    uint16_t sel = (uint16_t)(gate->lo >> 16);
    uint64_t rip = gate->lo & 0xffff, hi;
    struct x86_desc code;

    if (!(gate->attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, sel_err(p->sel));
    if (size >= 4)
        rip |= (gate->lo >> 32) & 0xffff0000;
    if (lm) {
        if (!x86_desc_read_hi(vp, p->sel, gate, &hi) || ((hi >> 40) & 0x1f))
            gp(vp, sel_err(p->sel));
        rip |= hi << 32;
    }
    if (x86_sel_null(sel))
        gp(vp, 0);
    if (!x86_desc_read(vp, sel, &code) || !x86_attr_code(code.attr))
        gp(vp, sel_err(sel));
    dpl = x86_attr_dpl(code.attr);
    if (dpl > c->cpl || (!p->call && !x86_attr_conforming(code.attr) && dpl != c->cpl))
        gp(vp, sel_err(sel));
    if (lm && (!(code.attr & SEG_L) || (code.attr & SEG_DB)))
        gp(vp, sel_err(sel));
    if (!(code.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, sel_err(sel));
    if (!p->call) {
        check_target(vp, &code, rip);
        x86_desc_type(vp, &code, 0, SEG_TYPE_A);
    } else if (!x86_attr_conforming(code.attr) && dpl < c->cpl) {
        gate_inner(vp, p, gate, &code, sel, rip, size);
        return;
    } else {
        struct x86_frame f = call_frame(vp, size, p->next);

        check_target(vp, &code, rip);
        x86_desc_type(vp, &code, 0, SEG_TYPE_A);
        x86_set_sp(c, x86_frame_store(vp, &f), c->ssize);
    }
    set_cs_rip(vp, &code, sel, c->cpl, rip);
}

static void far_system(struct hv_vp *vp, const struct far_ptr *p, const struct x86_desc *d)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned type = d->attr & SEG_TYPE, dpl = x86_attr_dpl(d->attr);
    bool lm = x86_long_mode(c);
    unsigned kind = p->call ? X86_TASK_CALL : X86_TASK_JMP;

    switch (type) {
    case X86_ST_CALL16: case X86_ST_TASK: case X86_ST_TSS16: case X86_ST_TSS32:
        if (lm)
            gp(vp, sel_err(p->sel));
        /* fall through */
    case X86_ST_CALL32:
        if (dpl < c->cpl || dpl < (p->sel & 3u))
            gp(vp, sel_err(p->sel));
        break;
    default:
        gp(vp, sel_err(p->sel));
    }
    switch (type) {
    case X86_ST_CALL16: case X86_ST_CALL32:
        far_gate(vp, p, d);
        break;
    case X86_ST_TASK:
        if (!(d->attr & SEG_P))
            x86_raise_err(vp, X86_EXC_NP, sel_err(p->sel));
        x86_task_switch_from(vp, (uint16_t)(d->lo >> 16), kind, p->next, false, 0, 0);
        break;
    default:
        x86_task_switch_from(vp, p->sel, kind, p->next, false, 0, 0);
        break;
    }
}

static void far_transfer(struct hv_vp *vp, const struct far_ptr *p)
{
    struct x86_desc d;

    if (x86_is_real_or_vm86(&vp->cpu)) {
        far_real(vp, p);
        return;
    }
    if (x86_sel_null(p->sel))
        gp(vp, 0);
    if (!x86_desc_read(vp, p->sel, &d))
        gp(vp, sel_err(p->sel));
    if (x86_attr_code(d.attr))
        far_code(vp, p, &d);
    else if (d.attr & SEG_S)
        gp(vp, sel_err(p->sel));
    else
        far_system(vp, p, &d);
}

/* m16:16, m16:32, m16:64. */
static uint64_t read_far_pointer(struct hv_vp *vp, const struct x86_insn *in, uint16_t *sel)
{
    uint8_t buf[10];
    uint64_t off = 0, lin = x86_seg_lin(vp, in->seg, x86_ea(vp, in), in->osize + 2u, X86_ACC_READ);

    x86_lin_read(vp, lin, buf, in->osize + 2u, X86_ACC_READ);
    memcpy(&off, buf, in->osize);
    memcpy(sel, buf + in->osize, 2);
    return off;
}

static void exec_far(struct hv_vp *vp, const struct x86_insn *in, bool call, bool mem)
{
    struct far_ptr p = { .osize = in->osize, .next = x86_next_rip(vp, in), .call = call };

    if (mem) {
        p.off = read_far_pointer(vp, in, &p.sel);
    } else {
        p.off = (uint64_t)in->imm & x86_size_mask(in->osize);
        p.sel = (uint16_t)in->imm2;
    }
    far_transfer(vp, &p);
}

/* ---- RET far and IRET ---- */

/* Element @n of a frame at the stack pointer plus @skip bytes. */
static uint64_t peek(struct hv_vp *vp, unsigned size, unsigned n, unsigned skip)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t off = (c->gpr[X86_RSP] + skip + (uint64_t)n * size) & x86_size_mask(c->ssize), v = 0;

    x86_lin_read(vp, x86_seg_lin(vp, X86_SS, off, size, X86_ACC_READ), &v, size, X86_ACC_READ);
    return v;
}

/* Code segment that RETF or IRET goes back to. */
static void return_code(struct hv_vp *vp, uint16_t sel, struct x86_desc *code)
{
    unsigned rpl = sel & 3, dpl;

    if (x86_sel_null(sel))
        gp(vp, 0);
    if (!x86_desc_read(vp, sel, code) || !x86_attr_code(code->attr) || rpl < vp->cpu.cpl)
        gp(vp, sel_err(sel));
    dpl = x86_attr_dpl(code->attr);
    if (x86_attr_conforming(code->attr) ? dpl > rpl : dpl != rpl)
        gp(vp, sel_err(sel));
    check_code_tail(vp, code, sel);
}

/* Stack segment that comes with it. */
static void return_stack(struct hv_vp *vp, uint16_t sel, unsigned cpl, const struct x86_desc *code,
                         struct x86_seg *ss)
{
    struct x86_desc d;

    if (x86_sel_null(sel)) {
        if (!(x86_long_mode(&vp->cpu) && (code->attr & SEG_L)) || cpl == 3)
            gp(vp, 0);
        x86_seg_set_null(ss, sel, cpl);
        return;
    }
    if (!x86_desc_read(vp, sel, &d) || (sel & 3u) != cpl || !x86_attr_stack(d.attr) ||
        x86_attr_dpl(d.attr) != cpl)
        gp(vp, sel_err(sel));
    if (!(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_SS, sel_err(sel));
    x86_desc_type(vp, &d, 0, SEG_TYPE_A);
    x86_desc_seg(&d, sel, ss);
}

/* Data segments that the outer level must not have (5.8.6). */
static void drop_data_segments(struct x86_cpu *c, unsigned cpl)
{
    static const uint8_t regs[] = { X86_ES, X86_DS, X86_FS, X86_GS };

    for (unsigned i = 0; i < sizeof(regs); i++) {
        struct x86_seg *s = &c->seg[regs[i]];

        if ((s->attr & SEG_UNUSABLE) || (x86_attr_code(s->attr) && x86_attr_conforming(s->attr)))
            continue;
        if (x86_attr_dpl(s->attr) < cpl)
            x86_seg_set_null(s, 0, 0);
    }
}

static unsigned target_ssize(const struct x86_cpu *c, const struct x86_desc *code, const struct x86_seg *ss)
{
    return x86_long_mode(c) && (code->attr & SEG_L) ? 8 : x86_ss_size(ss);
}

static void exec_retf(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned size = in->osize, imm = (uint16_t)in->imm, cpl;
    uint64_t rip = peek(vp, size, 0, 0), rsp;
    uint16_t sel = (uint16_t)peek(vp, size, 1, 0);
    struct x86_desc code;
    struct x86_seg ss;

    if (x86_is_real_or_vm86(c)) {
        if (rip > c->seg[X86_CS].limit)
            gp(vp, 0);
        x86_set_sp(c, c->gpr[X86_RSP] + 2 * size + imm, c->ssize);
        x86_seg_load_real(&c->seg[X86_CS], sel, is_vm86(c));
        c->rip = rip;
        x86_update_mode(vp);
        return;
    }
    return_code(vp, sel, &code);
    cpl = sel & 3;
    if (cpl == c->cpl) {
        check_target(vp, &code, rip);
        x86_desc_type(vp, &code, 0, SEG_TYPE_A);
        x86_set_sp(c, c->gpr[X86_RSP] + 2 * size + imm, c->ssize);
    } else {
        rsp = peek(vp, size, 2, imm);
        return_stack(vp, (uint16_t)peek(vp, size, 3, imm), cpl, &code, &ss);
        check_target(vp, &code, rip);
        x86_desc_type(vp, &code, 0, SEG_TYPE_A);
        c->seg[X86_SS] = ss;
        x86_set_sp(c, rsp + imm, target_ssize(c, &code, &ss));
        drop_data_segments(c, cpl);
    }
    set_cs_rip(vp, &code, sel, cpl, rip);
}

/* RF is kept only where an execution breakpoint could make it matter: it would hold for one instruction. */
static uint32_t keep_rf(const struct x86_cpu *c, uint32_t flags)
{
    return x86_exec_breakpoints(c) ? flags : flags & ~(uint32_t)EF_RF;
}

enum {
    EF_USER = EF_ARITH | EF_TF | EF_DF | EF_NT,  /* changeable at every level, 16 bits */
    EF_USER32 = EF_USER | EF_RF | EF_AC | EF_ID
};

static void iret_vm86(struct hv_vp *vp, uint64_t rip, uint16_t sel, uint32_t flags)
{
    struct x86_cpu *c = &vp->cpu;
    static const uint8_t regs[] = { X86_SS, X86_ES, X86_DS, X86_FS, X86_GS };
    uint32_t esp = (uint32_t)peek(vp, 4, 3, 0);
    uint16_t sels[5];

    for (unsigned i = 0; i < 5; i++)
        sels[i] = (uint16_t)peek(vp, 4, 4 + i, 0);
    if (rip > 0xffff)
        gp(vp, 0);
    x86_flags_set(vp, keep_rf(c, flags), EF_USER32 | EF_IF | EF_IOPL | EF_VM | EF_VIF | EF_VIP);
    for (unsigned i = 0; i < 5; i++)
        x86_seg_load_real(&c->seg[regs[i]], sels[i], true);
    x86_seg_load_real(&c->seg[X86_CS], sel, true);
    c->gpr[X86_RSP] = esp;
    c->rip = rip;
    x86_update_mode(vp);
}

static void iret_real(struct hv_vp *vp, unsigned size, bool vm86)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t rip = peek(vp, size, 0, 0);
    uint16_t sel = (uint16_t)peek(vp, size, 1, 0);
    uint32_t flags = (uint32_t)peek(vp, size, 2, 0);
    uint32_t mask = EF_USER | EF_IF | (size == 4 ? EF_RF | EF_AC | EF_ID : 0u);

    if (rip > c->seg[X86_CS].limit)
        gp(vp, 0);
    if (!vm86) {
        mask |= EF_IOPL;
    } else if (iopl(c) < 3) { /* CR4.VME, 16 bits: IF stands for VIF */
        if ((flags & EF_TF) || ((flags & EF_IF) && (c->eflags & EF_VIP)))
            gp(vp, 0);
        mask = (mask & ~(uint32_t)EF_IF) | EF_VIF;
        flags = flags & EF_IF ? flags | EF_VIF : flags & ~(uint32_t)EF_VIF;
    }
    x86_set_sp(c, c->gpr[X86_RSP] + 3 * size, c->ssize);
    x86_seg_load_real(&c->seg[X86_CS], sel, vm86);
    c->rip = rip;
    x86_flags_set(vp, keep_rf(c, flags), mask);
    x86_update_mode(vp);
}

static void iret_task(struct hv_vp *vp, const struct x86_insn *in)
{
    uint16_t link;

    if (vp->cpu.tr.limit < 1)
        x86_raise_err(vp, X86_EXC_TS, sel_err(vp->cpu.tr.sel));
    x86_lin_read(vp, (uint32_t)vp->cpu.tr.base, &link, 2, X86_ACC_READ | X86_ACC_SYS);
    x86_task_switch_from(vp, link, X86_TASK_IRET, x86_next_rip(vp, in), false, 0, 0);
}

static void exec_iret(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned size = in->osize, old_cpl = c->cpl, cpl;
    bool long64 = c->mode == X86_MODE_64;
    uint64_t rip, rsp = 0;
    uint32_t flags, mask;
    uint16_t sel;
    struct x86_desc code;
    struct x86_seg ss;

    if (is_vm86(c) && iopl(c) < 3 && !((c->cr4 & CR4_VME) && size == 2))
        gp(vp, 0);
    /* Even an IRET that faults ends the blocking of NMIs. */
    if (c->nmi_masked) {
        c->nmi_masked = 0;
        atomic_fetch_or_explicit(&vp->attention, HV_ATT_INTR, memory_order_relaxed);
    }
    if (x86_is_real_or_vm86(c)) {
        iret_real(vp, size, is_vm86(c));
        return;
    }
    if (c->eflags & EF_NT) {
        if (x86_long_mode(c))
            gp(vp, 0);
        iret_task(vp, in);
        return;
    }
    rip = peek(vp, size, 0, 0);
    sel = (uint16_t)peek(vp, size, 1, 0);
    flags = (uint32_t)peek(vp, size, 2, 0);
    if (size == 4 && (flags & EF_VM) && c->cpl == 0 && !x86_long_mode(c)) {
        iret_vm86(vp, rip, sel, flags);
        return;
    }
    return_code(vp, sel, &code);
    cpl = sel & 3;
    if (cpl != c->cpl || long64) {
        rsp = peek(vp, size, 3, 0);
        return_stack(vp, (uint16_t)peek(vp, size, 4, 0), cpl, &code, &ss);
    }
    check_target(vp, &code, rip);
    x86_desc_type(vp, &code, 0, SEG_TYPE_A);

    mask = EF_USER | (size > 2 ? EF_RF | EF_AC | EF_ID : 0u);
    if (old_cpl <= iopl(c))
        mask |= EF_IF;
    if (old_cpl == 0)
        mask |= EF_IOPL | (size > 2 ? EF_VIF | EF_VIP : 0u);
    if (cpl != c->cpl || long64) {
        c->seg[X86_SS] = ss;
        x86_set_sp(c, rsp, target_ssize(c, &code, &ss));
        if (cpl != old_cpl)
            drop_data_segments(c, cpl);
    } else {
        x86_set_sp(c, c->gpr[X86_RSP] + 3 * size, c->ssize);
    }
    x86_desc_seg(&code, sel, &c->seg[X86_CS]);
    c->rip = rip;
    x86_flags_set(vp, keep_rf(c, flags), mask);
    x86_update_mode(vp);
}

/* ---- INT n, INT3, INTO, INT1 ---- */

/* 20.3.3: does INT @vector of virtual-8086 code go through the program's own table?  Bit map of 32
 * bytes below the I/O permission map. */
static bool vme_redirected(struct hv_vp *vp, unsigned vector)
{
    const struct x86_seg *tr = &vp->cpu.tr;
    uint16_t io;
    uint8_t byte;

    if (tr->limit < 0x67)
        gp(vp, 0);
    x86_lin_read(vp, (uint32_t)(tr->base + 0x66), &io, 2, X86_ACC_READ | X86_ACC_SYS);
    if (io < 32 || io - 32u + vector / 8 > tr->limit)
        gp(vp, 0);
    x86_lin_read(vp, (uint32_t)(tr->base + io - 32 + vector / 8), &byte, 1, X86_ACC_READ | X86_ACC_SYS);
    return !((byte >> (vector & 7)) & 1);
}

static void exec_int(struct hv_vp *vp, const struct x86_insn *in, unsigned vector, unsigned type)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t next = x86_next_rip(vp, in);

    if (type == X86_EV_SOFTINT && is_vm86(c) && !is_real(c)) {
        if ((c->cr4 & CR4_VME) && vme_redirected(vp, vector)) {
            x86_deliver_vm86_ivt(vp, vector, next);
            return;
        }
        if (iopl(c) < 3)
            gp(vp, 0);
    }
    x86_deliver(vp, vector, type, false, 0, next);
}

static void exec_bound(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->osize;
    int32_t lo = 0, hi = 0, idx;
    uint8_t buf[8];

    x86_lin_read(vp, x86_seg_lin(vp, in->seg, x86_ea(vp, in), size * 2, X86_ACC_READ), buf, size * 2,
                 X86_ACC_READ);
    if (size == 2) {
        int16_t v[2];

        memcpy(v, buf, 4);
        lo = v[0];
        hi = v[1];
        idx = (int16_t)vp->cpu.gpr[in->o[0].reg];
    } else {
        memcpy(&lo, buf, 4);
        memcpy(&hi, buf + 4, 4);
        idx = (int32_t)vp->cpu.gpr[in->o[0].reg];
    }
    if (idx < lo || idx > hi)
        x86_raise(vp, X86_EXC_BR);
    vp->cpu.rip = x86_next_rip(vp, in);
}

/* ---- fast system calls, 5.8.7 and 5.8.8 ---- */

/* Flat segments without a descriptor. */
static void set_flat(struct x86_cpu *c, uint16_t cs_sel, uint16_t ss_sel, unsigned cpl, bool long64)
{
    uint16_t dpl = (uint16_t)(cpl << SEG_DPL_SHIFT);

    c->seg[X86_CS] = (struct x86_seg){ .sel = cs_sel, .limit = 0xffffffff,
        .attr = (uint16_t)(SEG_CODE_ACC | SEG_G | dpl | (long64 ? SEG_L : SEG_DB)) };
    c->seg[X86_SS] = (struct x86_seg){ .sel = ss_sel, .limit = 0xffffffff,
        .attr = (uint16_t)(SEG_DATA_ACC | SEG_G | SEG_DB | dpl) };
}

static void exec_syscall(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint16_t sel = (uint16_t)(c->star >> 32) & 0xfffc;

    if (c->mode != X86_MODE_64 || !(c->efer & EFER_SCE))
        x86_raise(vp, X86_EXC_UD);
    c->gpr[X86_RCX] = x86_next_rip(vp, in);
    c->gpr[X86_R11] = x86_flags_get(c) & ~(uint32_t)EF_RF;
    c->rip = c->lstar;
    set_flat(c, sel, (uint16_t)(sel + 8), 0, true);
    x86_flags_set(vp, 0, (uint32_t)c->sfmask | EF_RF);
    x86_update_mode(vp);
}

static void exec_sysret(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint16_t base = (uint16_t)(c->star >> 48);
    bool long64 = in->osize == 8;

    if (c->mode != X86_MODE_64 || !(c->efer & EFER_SCE))
        x86_raise(vp, X86_EXC_UD);
    if (c->cpl || (long64 && !x86_canonical(c->gpr[X86_RCX])))
        gp(vp, 0);
    c->rip = long64 ? c->gpr[X86_RCX] : (uint32_t)c->gpr[X86_RCX];
    set_flat(c, (uint16_t)((base + (long64 ? 16 : 0)) | 3), (uint16_t)((base + 8) | 3), 3, long64);
    x86_flags_set(vp, (uint32_t)c->gpr[X86_R11] & 0x3c7fd7, 0x3c7fd7 | EF_RF);
    x86_update_mode(vp);
}

static void exec_sysenter(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;
    uint16_t sel = (uint16_t)c->sysenter_cs & 0xfffc;
    bool lm = x86_long_mode(c);

    if (is_real(c) || !sel)
        gp(vp, 0);
    c->gpr[X86_RSP] = lm ? c->sysenter_esp : (uint32_t)c->sysenter_esp;
    c->rip = lm ? c->sysenter_eip : (uint32_t)c->sysenter_eip;
    set_flat(c, sel, (uint16_t)(sel + 8), 0, lm);
    x86_flags_set(vp, 0, EF_VM | EF_IF | EF_RF);
    x86_update_mode(vp);
}

static void exec_sysexit(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint16_t base = (uint16_t)c->sysenter_cs & 0xfffc, sel;
    bool long64 = in->osize == 8;

    if (x86_is_real_or_vm86(c) || !base || c->cpl)
        gp(vp, 0);
    if (long64 && (!x86_canonical(c->gpr[X86_RCX]) || !x86_canonical(c->gpr[X86_RDX])))
        gp(vp, 0);
    sel = (uint16_t)((base + (long64 ? 32 : 16)) | 3);
    c->gpr[X86_RSP] = long64 ? c->gpr[X86_RCX] : (uint32_t)c->gpr[X86_RCX];
    c->rip = long64 ? c->gpr[X86_RDX] : (uint32_t)c->gpr[X86_RDX];
    set_flat(c, sel, (uint16_t)(sel + 8), 3, long64);
    x86_update_mode(vp);
}

/* ---- segment registers ---- */

static void shadow_ss(struct hv_vp *vp)
{
    vp->cpu.int_shadow = 2;
    x86_update_mode(vp);
}

static void exec_mov_sreg(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned seg = in->o[0].reg;

    if (seg == X86_CS || seg > X86_GS)
        x86_raise(vp, X86_EXC_UD);
    x86_load_seg(vp, seg, (uint16_t)x86_operand_read(vp, in, 1));
    vp->cpu.rip = x86_next_rip(vp, in);
    if (seg == X86_SS)
        shadow_ss(vp);
}

static void exec_pop_sreg(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned seg = in->o[0].reg, ssize = c->ssize;
    uint16_t sel = (uint16_t)peek(vp, in->osize, 0, 0);

    x86_load_seg(vp, seg, sel);
    x86_set_sp(c, c->gpr[X86_RSP] + in->osize, ssize);
    c->rip = x86_next_rip(vp, in);
    if (seg == X86_SS)
        shadow_ss(vp);
}

static void exec_load_far(struct hv_vp *vp, const struct x86_insn *in, unsigned seg)
{
    uint16_t sel;
    uint64_t off = read_far_pointer(vp, in, &sel);

    x86_load_seg(vp, seg, sel);
    x86_set_gpr(&vp->cpu, in->o[0].reg, off, in->osize);
    vp->cpu.rip = x86_next_rip(vp, in);
}

/* ---- looking at descriptors ---- */

static void set_zf(struct x86_cpu *c, bool zf)
{
    c->fl = zf ? c->fl | FL_ZF : c->fl & ~(uint32_t)FL_ZF;
}

static void need_protected(struct hv_vp *vp)
{
    if (x86_is_real_or_vm86(&vp->cpu))
        x86_raise(vp, X86_EXC_UD);
}

/* The checks that LAR, LSL, VERR and VERW have in common: reachable at this level? */
static bool visible(struct hv_vp *vp, uint16_t sel, struct x86_desc *d)
{
    unsigned dpl;

    if (x86_sel_null(sel) || !x86_desc_read(vp, sel, d))
        return false;
    if (x86_attr_code(d->attr) && x86_attr_conforming(d->attr))
        return true;
    dpl = x86_attr_dpl(d->attr);
    return vp->cpu.cpl <= dpl && (sel & 3u) <= dpl;
}

/* System types that LAR and LSL accept: SDM 2A tables 3-52 and 3-56. */
static bool type_listed(const struct x86_cpu *c, unsigned attr, bool lar)
{
    uint16_t legacy = 1u << X86_ST_TSS16 | 1u << X86_ST_LDT | 1u << X86_ST_TSS16_BUSY | 1u << X86_ST_TSS32 |
                      1u << X86_ST_TSS32_BUSY;
    uint16_t longm = 1u << X86_ST_LDT | 1u << X86_ST_TSS32 | 1u << X86_ST_TSS32_BUSY;

    if (attr & SEG_S)
        return true;
    if (lar) {
        legacy |= 1u << X86_ST_CALL16 | 1u << X86_ST_TASK | 1u << X86_ST_CALL32;
        longm |= 1u << X86_ST_CALL32;
    }
    return ((x86_long_mode(c) ? longm : legacy) >> (attr & SEG_TYPE)) & 1;
}

static void exec_lar_lsl(struct hv_vp *vp, const struct x86_insn *in, bool lar)
{
    struct x86_desc d;
    uint16_t sel;
    bool ok;

    need_protected(vp);
    sel = (uint16_t)x86_operand_read(vp, in, 1);
    ok = visible(vp, sel, &d) && type_listed(&vp->cpu, d.attr, lar);
    if (ok)
        x86_set_gpr(&vp->cpu, in->o[0].reg, lar ? (d.lo >> 32) & 0x00f0ff00 : x86_desc_limit(d.lo),
                    in->osize);
    set_zf(&vp->cpu, ok);
    vp->cpu.rip = x86_next_rip(vp, in);
}

static void exec_verr_verw(struct hv_vp *vp, const struct x86_insn *in, bool write)
{
    struct x86_desc d;
    bool ok;

    need_protected(vp);
    ok = visible(vp, (uint16_t)x86_operand_read(vp, in, 0), &d) && (d.attr & SEG_S);
    if (ok)
        ok = write ? x86_attr_stack(d.attr) : !x86_attr_code(d.attr) || (d.attr & SEG_TYPE_RW);
    set_zf(&vp->cpu, ok);
    vp->cpu.rip = x86_next_rip(vp, in);
}

static void exec_arpl(struct hv_vp *vp, const struct x86_insn *in)
{
    uint16_t dst, src;
    bool raise_rpl;

    need_protected(vp);
    dst = (uint16_t)x86_operand_read(vp, in, 0);
    src = (uint16_t)x86_operand_read(vp, in, 1);
    raise_rpl = (dst & 3) < (src & 3);
    if (raise_rpl)
        x86_operand_write(vp, in, 0, (dst & 0xfffcu) | (src & 3u));
    set_zf(&vp->cpu, raise_rpl);
    vp->cpu.rip = x86_next_rip(vp, in);
}

/* ---- descriptor-table registers ---- */

static void need_cpl0(struct hv_vp *vp)
{
    if (vp->cpu.cpl)
        gp(vp, 0);
}

static void check_umip(struct hv_vp *vp)
{
    if (vp->cpu.cpl && (vp->cpu.cr4 & CR4_UMIP))
        gp(vp, 0);
}

/* Base of an LDT or TSS, with the upper half of the descriptor in long mode. */
static uint64_t system_base(struct hv_vp *vp, uint16_t sel, const struct x86_desc *d)
{
    uint64_t hi, base = x86_desc_base(d->lo);

    if (!x86_long_mode(&vp->cpu))
        return base;
    if (!x86_desc_read_hi(vp, sel, d, &hi) || ((hi >> 40) & 0x1f))
        gp(vp, sel_err(sel));
    base |= hi << 32;
    if (!x86_canonical(base))
        gp(vp, sel_err(sel));
    return base;
}

static void exec_lldt_ltr(struct hv_vp *vp, const struct x86_insn *in, bool ltr)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_seg *s = ltr ? &c->tr : &c->ldtr;
    struct x86_desc d;
    uint64_t base;
    unsigned type;
    uint16_t sel;

    need_protected(vp);
    need_cpl0(vp);
    sel = (uint16_t)x86_operand_read(vp, in, 0);
    if (x86_sel_null(sel)) {
        if (ltr)
            gp(vp, 0);
        x86_seg_set_null(s, sel, 0);
        c->rip = x86_next_rip(vp, in);
        return;
    }
    if ((sel & 4) || !x86_desc_read(vp, sel, &d) || (d.attr & SEG_S))
        gp(vp, sel_err(sel));
    type = d.attr & SEG_TYPE;
    if (ltr ? type != X86_ST_TSS32 && (type != X86_ST_TSS16 || x86_long_mode(c)) : type != X86_ST_LDT)
        gp(vp, sel_err(sel));
    if (!(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, sel_err(sel));
    base = system_base(vp, sel, &d);
    if (ltr)
        x86_desc_type(vp, &d, 0, X86_ST_BUSY);
    x86_desc_seg(&d, sel, s);
    s->base = base;
    c->rip = x86_next_rip(vp, in);
}

static void exec_store_sel(struct hv_vp *vp, const struct x86_insn *in, uint16_t sel)
{
    need_protected(vp);
    check_umip(vp);
    x86_operand_write(vp, in, 0, sel);
    vp->cpu.rip = x86_next_rip(vp, in);
}

static void exec_load_dtr(struct hv_vp *vp, const struct x86_insn *in, struct x86_dtr *dtr)
{
    unsigned len = vp->cpu.mode == X86_MODE_64 ? 10 : 6;
    uint64_t base = 0;
    uint16_t limit;
    uint8_t buf[10];

    need_cpl0(vp);
    x86_lin_read(vp, x86_seg_lin(vp, in->seg, x86_ea(vp, in), len, X86_ACC_READ), buf, len, X86_ACC_READ);
    memcpy(&limit, buf, 2);
    memcpy(&base, buf + 2, len - 2);
    if (len == 10 && !x86_canonical(base))
        gp(vp, 0);
    if (len == 6 && in->osize == 2)
        base &= 0xffffff;
    dtr->base = base;
    dtr->limit = limit;
    vp->cpu.rip = x86_next_rip(vp, in);
}

static void exec_store_dtr(struct hv_vp *vp, const struct x86_insn *in, const struct x86_dtr *dtr)
{
    unsigned len = vp->cpu.mode == X86_MODE_64 ? 10 : 6;
    uint64_t base = dtr->base;
    uint16_t limit = (uint16_t)dtr->limit;
    uint8_t buf[10];

    check_umip(vp);
    if (len == 6 && in->osize == 2)
        base &= 0xffffff;
    memcpy(buf, &limit, 2);
    memcpy(buf + 2, &base, 8);
    x86_lin_write(vp, x86_seg_lin(vp, in->seg, x86_ea(vp, in), len, X86_ACC_WRITE), buf, len,
                  X86_ACC_WRITE);
    vp->cpu.rip = x86_next_rip(vp, in);
}

static void exec_lmsw(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t val;

    need_cpl0(vp);
    val = x86_operand_read(vp, in, 0);
    c->cr0 = (c->cr0 & ~(uint64_t)(CR0_MP | CR0_EM | CR0_TS)) | (val & 15); /* PE can be set only */
    c->rip = x86_next_rip(vp, in);
    x86_update_mode(vp);
}

static void exec_smsw(struct hv_vp *vp, const struct x86_insn *in)
{
    check_umip(vp);
    x86_operand_write(vp, in, 0, vp->cpu.cr0);
    vp->cpu.rip = x86_next_rip(vp, in);
}

/* ---- flags ---- */

static void exec_pushf(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint32_t flags = x86_flags_get(c) & ~(uint32_t)(EF_VM | EF_RF);

    if (is_vm86(c) && iopl(c) < 3) {
        if (!(c->cr4 & CR4_VME) || in->osize != 2)
            gp(vp, 0);
        flags = (flags & ~(uint32_t)EF_IF) | EF_IOPL | (flags & EF_VIF ? EF_IF : 0u);
    }
    x86_push(vp, flags, in->osize);
    c->rip = x86_next_rip(vp, in);
}

static void exec_popf(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint32_t flags, mask = EF_USER;
    bool vme = false;

    if (is_vm86(c) && iopl(c) < 3) {
        if (!(c->cr4 & CR4_VME) || in->osize != 2)
            gp(vp, 0);
        vme = true;
    }
    flags = (uint32_t)peek(vp, in->osize, 0, 0) & ~(uint32_t)EF_RF;
    if (in->osize > 2)
        mask = EF_USER32;
    if (vme) {
        if ((flags & EF_TF) || ((flags & EF_IF) && (c->eflags & EF_VIP)))
            gp(vp, 0);
        mask |= EF_VIF;
        flags = flags & EF_IF ? flags | EF_VIF : flags & ~(uint32_t)EF_VIF;
    } else if (c->cpl <= iopl(c)) {
        mask |= EF_IF;
    }
    if (c->cpl == 0)
        mask |= EF_IOPL;
    x86_set_sp(c, c->gpr[X86_RSP] + in->osize, c->ssize);
    c->rip = x86_next_rip(vp, in);
    x86_flags_set(vp, flags, mask);
}

/* ---- ENTER ---- */

static void exec_enter(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned size = in->osize, level = (unsigned)in->imm2 & 31;
    uint64_t mask = x86_size_mask(c->ssize), bp = c->gpr[X86_RBP], frame, sp;
    struct x86_frame f = { .ss = &c->seg[X86_SS], .sp = c->gpr[X86_RSP], .ssize = c->ssize, .size = size,
                           .acc = X86_ACC_WRITE };

    x86_frame_add(&f, bp);
    frame = (f.sp - size) & mask;
    for (unsigned i = 1; i < level; i++) {
        uint64_t v = 0;

        bp -= size;
        x86_lin_read(vp, x86_seg_lin(vp, X86_SS, bp & mask, size, X86_ACC_READ), &v, size, X86_ACC_READ);
        x86_frame_add(&f, v);
    }
    if (level)
        x86_frame_add(&f, frame);
    x86_frame_check(vp, &f);
    sp = (f.sp - (uint64_t)f.n * size - (uint16_t)in->imm) & mask;
    /* The final stack pointer must be a place that can be written. */
    x86_lin_probe(vp, x86_seg_lin(vp, X86_SS, sp, size, X86_ACC_WRITE), size, X86_ACC_WRITE);
    x86_frame_store(vp, &f);
    x86_set_sp(c, sp, c->ssize);
    x86_set_gpr(c, X86_RBP, frame, c->ssize);
    c->rip = x86_next_rip(vp, in);
}

/* ---- all of them ---- */

bool x86_exec_transfer(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t tmp;

    switch (in->op) {
    case X86_OP_CALL_FAR: exec_far(vp, in, true, false); break;
    case X86_OP_CALL_FARM: exec_far(vp, in, true, true); break;
    case X86_OP_JMP_FAR: exec_far(vp, in, false, false); break;
    case X86_OP_JMP_FARM: exec_far(vp, in, false, true); break;
    case X86_OP_RET_FAR: exec_retf(vp, in); break;
    case X86_OP_IRET: exec_iret(vp, in); break;
    case X86_OP_INT: exec_int(vp, in, (uint8_t)in->imm, X86_EV_SOFTINT); break;
    case X86_OP_INT3: exec_int(vp, in, X86_EXC_BP, X86_EV_SOFTEXC); break;
    case X86_OP_INT1: exec_int(vp, in, X86_EXC_DB, X86_EV_ICEBP); break;
    case X86_OP_INTO:
        if (c->fl & FL_OF)
            exec_int(vp, in, X86_EXC_OF, X86_EV_SOFTEXC);
        else
            c->rip = x86_next_rip(vp, in);
        break;
    case X86_OP_BOUND: exec_bound(vp, in); break;
    case X86_OP_SYSCALL: exec_syscall(vp, in); break;
    case X86_OP_SYSRET: exec_sysret(vp, in); break;
    case X86_OP_SYSENTER: exec_sysenter(vp); break;
    case X86_OP_SYSEXIT: exec_sysexit(vp, in); break;
    case X86_OP_MOV_SREG: exec_mov_sreg(vp, in); break;
    case X86_OP_MOV_FROM_SREG:
        x86_operand_write(vp, in, 0, c->seg[in->o[1].reg].sel);
        c->rip = x86_next_rip(vp, in);
        break;
    case X86_OP_PUSH_SREG:
        x86_push(vp, c->seg[in->o[0].reg].sel, in->osize);
        c->rip = x86_next_rip(vp, in);
        break;
    case X86_OP_POP_SREG: exec_pop_sreg(vp, in); break;
    case X86_OP_LES: exec_load_far(vp, in, X86_ES); break;
    case X86_OP_LDS: exec_load_far(vp, in, X86_DS); break;
    case X86_OP_LSS: exec_load_far(vp, in, X86_SS); break;
    case X86_OP_LFS: exec_load_far(vp, in, X86_FS); break;
    case X86_OP_LGS: exec_load_far(vp, in, X86_GS); break;
    case X86_OP_ARPL: exec_arpl(vp, in); break;
    case X86_OP_LAR: exec_lar_lsl(vp, in, true); break;
    case X86_OP_LSL: exec_lar_lsl(vp, in, false); break;
    case X86_OP_VERR: exec_verr_verw(vp, in, false); break;
    case X86_OP_VERW: exec_verr_verw(vp, in, true); break;
    case X86_OP_LLDT: exec_lldt_ltr(vp, in, false); break;
    case X86_OP_LTR: exec_lldt_ltr(vp, in, true); break;
    case X86_OP_SLDT: exec_store_sel(vp, in, c->ldtr.sel); break;
    case X86_OP_STR: exec_store_sel(vp, in, c->tr.sel); break;
    case X86_OP_LGDT: exec_load_dtr(vp, in, &c->gdtr); break;
    case X86_OP_LIDT: exec_load_dtr(vp, in, &c->idtr); break;
    case X86_OP_SGDT: exec_store_dtr(vp, in, &c->gdtr); break;
    case X86_OP_SIDT: exec_store_dtr(vp, in, &c->idtr); break;
    case X86_OP_LMSW: exec_lmsw(vp, in); break;
    case X86_OP_SMSW: exec_smsw(vp, in); break;
    case X86_OP_PUSHF: exec_pushf(vp, in); break;
    case X86_OP_POPF: exec_popf(vp, in); break;
    case X86_OP_ENTER: exec_enter(vp, in); break;
    case X86_OP_SWAPGS:
        if (c->mode != X86_MODE_64)
            x86_raise(vp, X86_EXC_UD);
        need_cpl0(vp);
        tmp = c->seg[X86_GS].base;
        c->seg[X86_GS].base = c->kernel_gs_base;
        c->kernel_gs_base = tmp;
        c->rip = x86_next_rip(vp, in);
        break;
    case X86_OP_RSM: /* outside of system-management mode */
        x86_raise(vp, X86_EXC_UD);
    default:
        return false;
    }
    return true;
}
