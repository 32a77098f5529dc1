/* SPDX-License-Identifier: BSD-2-Clause */
/* Hardware task switching with 16- and 32-bit task-state segments.
 * Reference: Intel SDM volume 3A chapter 7 (steps of 7.3, tables 7-1 and 7-2). */
#include <string.h>

#include "hv/x86/desc.h"

/* Figures 7-2 and 7-10: where things are. */
enum {
    T32_CR3 = 0x1c, T32_EIP = 0x20, T32_EFLAGS = 0x24, T32_REGS = 0x28, T32_SEGS = 0x48, T32_LDT = 0x60,
    T32_TRAP = 0x64, T32_SIZE = 0x68,
    T16_IP = 0x0e, T16_FLAGS = 0x10, T16_REGS = 0x12, T16_SEGS = 0x22, T16_LDT = 0x2a, T16_SIZE = 0x2c
};

struct task_image {
    uint32_t cr3, eip, eflags, regs[8];
    uint16_t segs[6], ldt;
    bool trap;
};

static bool is_tss32(unsigned attr) { return (attr & 8) != 0; }

static uint16_t get16(const uint8_t *p)
{
    uint16_t v;

    memcpy(&v, p, 2);
    return v;
}

static uint32_t get32(const uint8_t *p)
{
    uint32_t v;

    memcpy(&v, p, 4);
    return v;
}

static void load_image(const uint8_t *b, bool tss32, struct task_image *t)
{
    memset(t, 0, sizeof(*t));
    if (tss32) {
        t->cr3 = get32(b + T32_CR3);
        t->eip = get32(b + T32_EIP);
        t->eflags = get32(b + T32_EFLAGS);
        for (unsigned i = 0; i < 8; i++)
            t->regs[i] = get32(b + T32_REGS + i * 4);
        for (unsigned i = 0; i < 6; i++)
            t->segs[i] = get16(b + T32_SEGS + i * 4);
        t->ldt = get16(b + T32_LDT);
        t->trap = b[T32_TRAP] & 1;
        return;
    }
    t->eip = get16(b + T16_IP);
    t->eflags = get16(b + T16_FLAGS);
    for (unsigned i = 0; i < 8; i++)
        t->regs[i] = get16(b + T16_REGS + i * 2); /* 7.6: the upper halves are undefined */
    for (unsigned i = 0; i < 4; i++)
        t->segs[i] = get16(b + T16_SEGS + i * 2);
    t->ldt = get16(b + T16_LDT);
}

/* The part of the old TSS that is written, from EIP to the last segment selector. */
static unsigned image_start(bool tss32) { return tss32 ? T32_EIP : T16_IP; }
static unsigned image_end(bool tss32) { return tss32 ? T32_LDT : T16_LDT; }

static void store_image(uint8_t *b, bool tss32, const struct x86_cpu *c, uint64_t rip, uint32_t flags)
{
    uint32_t v;

    if (tss32) {
        v = (uint32_t)rip;
        memcpy(b + T32_EIP, &v, 4);
        memcpy(b + T32_EFLAGS, &flags, 4);
        for (unsigned i = 0; i < 8; i++)
            memcpy(b + T32_REGS + i * 4, &c->gpr[i], 4);
        for (unsigned i = 0; i < 6; i++)
            memcpy(b + T32_SEGS + i * 4, &c->seg[i].sel, 2);
        return;
    }
    memcpy(b + T16_IP, &rip, 2);
    memcpy(b + T16_FLAGS, &flags, 2);
    for (unsigned i = 0; i < 8; i++)
        memcpy(b + T16_REGS + i * 2, &c->gpr[i], 2);
    for (unsigned i = 0; i < 4; i++)
        memcpy(b + T16_SEGS + i * 2, &c->seg[i].sel, 2);
}

/* ---- segments of the new task: faults are those of the new task, with the selector as error code --- */

static uint32_t err_of(uint16_t sel, unsigned ext) { return (sel & 0xfffcu) | ext; }

static void load_ldt(struct hv_vp *vp, uint16_t sel, unsigned ext)
{
    struct x86_desc d;

    x86_seg_set_null(&vp->cpu.ldtr, sel, 0);
    if (x86_sel_null(sel))
        return;
    if ((sel & 4) || !x86_desc_read(vp, sel, &d) || (d.attr & (SEG_S | SEG_TYPE)) != X86_ST_LDT ||
        !(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    x86_desc_seg(&d, sel, &vp->cpu.ldtr);
}

static void load_cs(struct hv_vp *vp, uint16_t sel, unsigned ext)
{
    struct x86_desc d;
    unsigned dpl, rpl = sel & 3;

    if (x86_sel_null(sel) || !x86_desc_read(vp, sel, &d) || !x86_attr_code(d.attr))
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    dpl = x86_attr_dpl(d.attr);
    if (x86_attr_conforming(d.attr) ? dpl > rpl : dpl != rpl)
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    if (!(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, err_of(sel, ext));
    x86_desc_type(vp, &d, 0, SEG_TYPE_A);
    x86_desc_seg(&d, sel, &vp->cpu.seg[X86_CS]);
}

static void load_ss(struct hv_vp *vp, uint16_t sel, unsigned cpl, unsigned ext)
{
    struct x86_desc d;

    if (x86_sel_null(sel) || !x86_desc_read(vp, sel, &d) || !x86_attr_stack(d.attr) ||
        (sel & 3u) != cpl || x86_attr_dpl(d.attr) != cpl)
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    if (!(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_SS, err_of(sel, ext));
    x86_desc_type(vp, &d, 0, SEG_TYPE_A);
    x86_desc_seg(&d, sel, &vp->cpu.seg[X86_SS]);
}

static void load_data(struct hv_vp *vp, unsigned seg, uint16_t sel, unsigned cpl, unsigned ext)
{
    struct x86_desc d;
    unsigned dpl;
    bool code;

    if (x86_sel_null(sel))
        return; /* it is unusable already */
    if (!x86_desc_read(vp, sel, &d) || !(d.attr & SEG_S))
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    code = x86_attr_code(d.attr);
    dpl = x86_attr_dpl(d.attr);
    if (code && !(d.attr & SEG_TYPE_RW))
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    if (!(code && x86_attr_conforming(d.attr)) && (dpl < cpl || dpl < (sel & 3u)))
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
    if (!(d.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, err_of(sel, ext));
    x86_desc_type(vp, &d, 0, SEG_TYPE_A);
    x86_desc_seg(&d, sel, &vp->cpu.seg[seg]);
}

static void load_segments(struct hv_vp *vp, const struct task_image *t, unsigned ext)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned cpl = t->segs[X86_CS] & 3;
    static const uint8_t data[] = { X86_ES, X86_DS, X86_FS, X86_GS };

    load_ldt(vp, t->ldt, ext);
    if (c->eflags & EF_VM) {
        for (unsigned i = 0; i < 6; i++)
            x86_seg_load_real(&c->seg[i], t->segs[i], true);
        x86_update_mode(vp);
        return;
    }
    load_cs(vp, t->segs[X86_CS], ext);
    load_ss(vp, t->segs[X86_SS], cpl, ext);
    x86_update_mode(vp);
    for (unsigned i = 0; i < sizeof(data); i++)
        load_data(vp, data[i], t->segs[data[i]], cpl, ext);
    x86_update_mode(vp);
}

/* ---- the switch ---- */

/* Descriptor of the new TSS, with the faults of the old task (table 7-1). */
static void find_tss(struct hv_vp *vp, uint16_t sel, unsigned kind, unsigned ext, struct x86_desc *d)
{
    unsigned vec = kind == X86_TASK_IRET ? X86_EXC_TS : X86_EXC_GP, type;
    unsigned want = kind == X86_TASK_IRET ? X86_ST_BUSY : 0;

    if ((sel & 4) || x86_sel_null(sel) || !x86_desc_read(vp, sel, d))
        x86_raise_err(vp, vec, err_of(sel, ext));
    type = d->attr & (SEG_S | SEG_TYPE);
    if (type != (X86_ST_TSS16 | want) && type != (X86_ST_TSS32 | want))
        x86_raise_err(vp, vec, err_of(sel, ext));
    if (!(d->attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, err_of(sel, ext));
    if (x86_desc_limit(d->lo) < (is_tss32(d->attr) ? T32_SIZE : T16_SIZE) - 1u)
        x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
}

static void push_error(struct hv_vp *vp, bool tss32, uint32_t error, unsigned ext)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_frame f = { .ss = &c->seg[X86_SS], .sp = c->gpr[X86_RSP], .ssize = c->ssize,
                           .size = tss32 ? 4 : 2, .acc = X86_ACC_WRITE, .err = ext };

    x86_frame_add(&f, error);
    x86_set_sp(c, x86_frame_store(vp, &f), c->ssize);
}

void x86_task_switch_from(struct hv_vp *vp, uint16_t sel, unsigned kind, uint64_t ret_rip, bool has_error,
                          uint32_t error, unsigned ext)
{
    struct x86_cpu *c = &vp->cpu;
    bool old32 = is_tss32(c->tr.attr), new32;
    uint32_t flags = x86_flags_get(c);
    uint64_t old_base = c->tr.base, new_base;
    unsigned start = image_start(old32), len = image_end(old32) - start;
    uint8_t old_img[T32_SIZE] = { 0 }, new_img[T32_SIZE];
    uint16_t old_sel = c->tr.sel;
    struct x86_desc nd, od;
    struct task_image t;
    bool have_od;

    find_tss(vp, sel, kind, ext, &nd);
    new32 = is_tss32(nd.attr);
    new_base = x86_desc_base(nd.lo);
    if ((c->tr.attr & SEG_UNUSABLE) || c->tr.limit < (old32 ? T32_SIZE : T16_SIZE) - 1u)
        x86_raise_err(vp, X86_EXC_TS, err_of(old_sel, ext));

    /* 7.3 steps 4 and 5: everything that the switch touches must be there, or nothing happens. */
    x86_lin_read(vp, new_base, new_img, new32 ? T32_SIZE : T16_SIZE, X86_ACC_READ | X86_ACC_SYS);
    x86_lin_read(vp, old_base + start, old_img + start, len, X86_ACC_READ | X86_ACC_SYS);
    x86_lin_probe(vp, old_base + start, len, X86_ACC_WRITE | X86_ACC_SYS);
    if (kind == X86_TASK_CALL || kind == X86_TASK_INT)
        x86_lin_probe(vp, new_base, 2, X86_ACC_WRITE | X86_ACC_SYS);
    load_image(new_img, new32, &t);
    have_od = (kind == X86_TASK_JMP || kind == X86_TASK_IRET) && x86_desc_read(vp, old_sel, &od);

    if (have_od)
        x86_desc_type(vp, &od, X86_ST_BUSY, 0);
    if (kind == X86_TASK_IRET)
        flags &= ~(uint32_t)EF_NT;
    if (kind == X86_TASK_INT && vp->delivering.valid && vp->delivering.type == X86_EV_FAULT &&
        vp->delivering.vector != X86_EXC_DB && vp->delivering.vector != X86_EXC_DF)
        flags |= EF_RF;
    store_image(old_img, old32, c, ret_rip, flags);
    x86_lin_write(vp, old_base + start, old_img + start, len, X86_ACC_WRITE | X86_ACC_SYS);
    if (kind == X86_TASK_CALL || kind == X86_TASK_INT) {
        x86_lin_write(vp, new_base, &old_sel, 2, X86_ACC_WRITE | X86_ACC_SYS);
        t.eflags |= EF_NT;
    }
    if (kind != X86_TASK_IRET)
        x86_desc_type(vp, &nd, 0, X86_ST_BUSY);

    /* The new task begins here: a fault from now on is its own. */
    x86_desc_seg(&nd, sel, &c->tr);
    c->cr0 |= CR0_TS;
    c->dr[7] &= ~0x155ull; /* L0-L3, LE */
    x86_mmu_watch_changed(vp);
    for (unsigned i = 0; i < 6; i++)
        x86_seg_set_null(&c->seg[i], t.segs[i], i == X86_SS ? t.segs[X86_CS] & 3u : 0);
    for (unsigned i = 0; i < 8; i++)
        c->gpr[i] = t.regs[i];
    c->rip = t.eip;
    if (!x86_exec_breakpoints(c))
        t.eflags &= ~(uint32_t)EF_RF;
    c->int_shadow = 0;
    x86_flags_set(vp, t.eflags, EF_ARITH | EF_TF | EF_IF | EF_DF | EF_IOPL | EF_NT | EF_RF | EF_VM | EF_AC |
                                    EF_VIF | EF_VIP | EF_ID);
    x86_update_mode(vp);
    if (new32 && (c->cr0 & CR0_PG)) {
        if ((c->cr4 & CR4_PAE) && !x86_load_pdptes(vp, t.cr3))
            x86_raise_err(vp, X86_EXC_TS, err_of(sel, ext));
        c->cr3 = t.cr3;
        x86_tlb_flush_nonglobal(vp);
    }
    load_segments(vp, &t, ext);
    if (has_error)
        push_error(vp, new32, error, ext);
    if (c->rip > c->seg[X86_CS].limit)
        x86_raise_err(vp, X86_EXC_GP, ext);
    vp->delivering.valid = 0;
    if (t.trap)
        x86_debug_trap(vp, DR6_BT);
}

void x86_task_switch(struct hv_vp *vp, uint16_t sel, unsigned kind, bool has_error, uint32_t error)
{
    x86_task_switch_from(vp, sel, kind, vp->cpu.rip, has_error, error, kind == X86_TASK_INT);
}
