/* SPDX-License-Identifier: BSD-2-Clause */
/* Exceptions, interrupts and their delivery; the state that is derived from modes and segments.
 * Reference: Intel SDM volume 3A chapters 6 and 17, section 20.3; volume 2A "INT n". */
#include <string.h>

#include "hv/x86/desc.h"

/* ---- derived state ---- */

static bool seg_flat(const struct x86_seg *s)
{
    return s->base == 0 && s->limit == 0xffffffff &&
           (s->attr & (SEG_UNUSABLE | SEG_P | SEG_S | SEG_TYPE_CODE | SEG_TYPE_EXPDOWN | SEG_TYPE_RW)) ==
               (SEG_P | SEG_S | SEG_TYPE_RW);
}

bool x86_exec_breakpoints(const struct x86_cpu *c)
{
    uint32_t dr7 = (uint32_t)c->dr[7];

    if (!(dr7 & 0xff))
        return false;
    for (unsigned i = 0; i < 4; i++)
        if (((dr7 >> (i * 2)) & 3) && !((dr7 >> (16 + i * 4)) & 15))
            return true;
    return false;
}

void x86_update_mode(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;
    const struct x86_seg *cs = &c->seg[X86_CS], *ss = &c->seg[X86_SS];
    bool pe = c->cr0 & CR0_PE, vm = pe && (c->eflags & EF_VM);
    uint32_t key = 0;

    /* SS.DPL is the CPL at all times in protected mode; CS.DPL is not when CS is conforming. */
    c->cpl = !pe ? 0 : vm ? 3 : (uint8_t)x86_attr_dpl(ss->attr);
    if ((c->efer & EFER_LMA) && (cs->attr & SEG_L) && !vm)
        c->mode = X86_MODE_64;
    else
        c->mode = cs->attr & SEG_DB ? X86_MODE_32 : X86_MODE_16;
    c->ssize = c->mode == X86_MODE_64 ? 8 : (uint8_t)x86_ss_size(ss);
    c->flat = c->mode != X86_MODE_64 && seg_flat(ss) && seg_flat(&c->seg[X86_DS]) &&
              seg_flat(&c->seg[X86_ES]) && cs->base == 0 && cs->limit == 0xffffffff;

    if (c->mode == X86_MODE_64)
        key |= X86_KEY_MODE64;
    else if (c->mode == X86_MODE_16)
        key |= X86_KEY_MODE16;
    if (c->cpl == 3)
        key |= X86_KEY_USER;
    if (c->ssize == 4)
        key |= X86_KEY_SS32;
    if (c->flat)
        key |= X86_KEY_FLAT;
    if (!pe || vm)
        key |= X86_KEY_REAL;
    if (vm)
        key |= X86_KEY_VM86;
    if (c->cr0 & (CR0_EM | CR0_TS))
        key |= X86_KEY_NOFPU;
    if ((c->cr0 & (CR0_EM | CR0_TS)) || !(c->cr4 & CR4_OSFXSR))
        key |= X86_KEY_NOSSE;
    if (!pe || vm || (c->cr0 & CR0_TS) || !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6)
        key |= X86_KEY_NOAVX;
    if ((c->eflags & (EF_TF | EF_RF)) || c->int_shadow || x86_exec_breakpoints(c))
        key |= X86_KEY_STEP;
    if (c->cpl == 3 && (c->cr0 & CR0_AM) && (c->eflags & EF_AC))
        key |= X86_KEY_AC;
    c->key = key;
    x86_mmu_set_view(vp);
}

/* ---- raising ---- */

static _Noreturn void raise(struct hv_vp *vp, struct x86_pending e)
{
    vp->exc = e;
    longjmp(vp->jmp, 1);
}

_Noreturn void x86_raise(struct hv_vp *vp, unsigned vector)
{
    raise(vp, (struct x86_pending){ .valid = 1, .vector = (uint8_t)vector, .type = X86_EV_FAULT });
}

_Noreturn void x86_raise_err(struct hv_vp *vp, unsigned vector, uint32_t error)
{
    raise(vp, (struct x86_pending){ .valid = 1, .vector = (uint8_t)vector, .type = X86_EV_FAULT,
                                    .has_error = 1, .error = error });
}

_Noreturn void x86_raise_pf(struct hv_vp *vp, uint64_t lin, uint32_t error)
{
    raise(vp, (struct x86_pending){ .valid = 1, .vector = X86_EXC_PF, .type = X86_EV_FAULT,
                                    .has_error = 1, .error = error, .cr2 = lin });
}

_Noreturn void x86_raise_db(struct hv_vp *vp, uint64_t dr6_bits)
{
    raise(vp, (struct x86_pending){ .valid = 1, .vector = X86_EXC_DB, .type = X86_EV_FAULT,
                                    .dr6 = dr6_bits });
}

/* ---- delivery ----------------------------------------------------------------------------------- */

/* One delivery: what the three table formats have in common. */
struct delivery {
    unsigned vector, type;
    bool has_error;
    uint32_t error;
    uint64_t ret_rip;
    unsigned ext;    /* EXT bit of error codes, 6.13 */
    uint32_t flags;  /* image to push */
};

static bool is_software(unsigned type) { return type == X86_EV_SOFTINT || type == X86_EV_SOFTEXC; }

static uint32_t gate_error(const struct delivery *d) { return d->vector * 8 + 2 + d->ext; }

/* Flags, CS and EIP are the last three of every frame, before the error code. */
static void frame_return(const struct hv_vp *vp, const struct delivery *d, struct x86_frame *f)
{
    x86_frame_add(f, d->flags);
    x86_frame_add(f, vp->cpu.seg[X86_CS].sel);
    x86_frame_add(f, d->ret_rip);
}

static void enter_handler(struct hv_vp *vp, uint64_t rip, uint32_t clear)
{
    struct x86_cpu *c = &vp->cpu;

    c->eflags &= ~clear;
    c->rip = rip;
    c->int_shadow = 0;
    x86_update_mode(vp);
}

/* 20.1.4; also the way of redirected interrupts in virtual-8086 mode (table at linear 0, 20.3.3). */
static void deliver_ivt(struct hv_vp *vp, const struct delivery *d, uint64_t table, uint32_t clear)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_seg *cs = &c->seg[X86_CS];
    struct x86_frame f = { .ss = &c->seg[X86_SS], .sp = c->gpr[X86_RSP], .ssize = c->ssize, .size = 2,
                           .acc = X86_ACC_WRITE };
    uint16_t vec[2];
    uint64_t sp;

    x86_lin_read(vp, (uint32_t)(table + d->vector * 4), vec, 4, X86_ACC_READ | X86_ACC_SYS);
    frame_return(vp, d, &f);
    x86_frame_check(vp, &f);
    if (vec[0] > cs->limit)
        x86_raise_err(vp, X86_EXC_GP, d->ext);
    sp = x86_frame_store(vp, &f);
    x86_set_sp(c, sp, f.ssize);
    x86_seg_load_real(cs, vec[1], (c->eflags & EF_VM) != 0);
    enter_handler(vp, vec[0], clear);
}

static void deliver_real(struct hv_vp *vp, const struct delivery *d)
{
    if (d->vector * 4 + 3 > vp->cpu.idtr.limit)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    deliver_ivt(vp, d, vp->cpu.idtr.base, EF_IF | EF_TF | EF_AC | EF_RF);
}

/* Code segment of a gate: checks that are the same for all formats.  @return its DPL. */
static unsigned gate_code(struct hv_vp *vp, uint16_t sel, unsigned ext, struct x86_desc *code)
{
    uint32_t err = (sel & 0xfffcu) | ext;

    if (x86_sel_null(sel))
        x86_raise_err(vp, X86_EXC_GP, ext);
    if (!x86_desc_read(vp, sel, code) || !x86_attr_code(code->attr) ||
        x86_attr_dpl(code->attr) > vp->cpu.cpl)
        x86_raise_err(vp, X86_EXC_GP, err);
    return x86_attr_dpl(code->attr);
}

/* 6.14: interrupt and trap gates of IA-32e mode. */
static void deliver_long(struct hv_vp *vp, const struct delivery *d)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t gate[2], rip, sp;
    unsigned dpl, type, ist, new_cpl;
    uint16_t sel;
    struct x86_desc code;
    struct x86_frame f = { .ssize = 8, .size = 8, .acc = X86_ACC_WRITE, .err = d->ext };
    bool inner;

    if (d->vector * 16 + 15 > c->idtr.limit)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    x86_lin_read(vp, c->idtr.base + d->vector * 16, gate, 16, X86_ACC_READ | X86_ACC_SYS);
    type = (gate[0] >> 40) & 0x1f;
    if (type != X86_ST_INT32 && type != X86_ST_TRAP32)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    if (is_software(d->type) && ((gate[0] >> 45) & 3) < c->cpl)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    if (!((gate[0] >> 47) & 1))
        x86_raise_err(vp, X86_EXC_NP, gate_error(d));
    sel = (uint16_t)(gate[0] >> 16);
    ist = (gate[0] >> 32) & 7;
    rip = (gate[0] & 0xffff) | ((gate[0] >> 32) & 0xffff0000) | (gate[1] << 32);

    dpl = gate_code(vp, sel, d->ext, &code);
    if (!(code.attr & SEG_L) || (code.attr & SEG_DB))
        x86_raise_err(vp, X86_EXC_GP, (sel & 0xfffcu) | d->ext);
    if (!(code.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, (sel & 0xfffcu) | d->ext);
    inner = !x86_attr_conforming(code.attr) && dpl < c->cpl;
    new_cpl = inner ? dpl : c->cpl;
    if (ist)
        sp = x86_tss_rsp(vp, ist + 3, d->ext);
    else if (inner)
        sp = x86_tss_rsp(vp, new_cpl, d->ext);
    else
        sp = c->gpr[X86_RSP];
    if (!x86_canonical(sp))
        x86_raise_err(vp, X86_EXC_SS, d->ext);
    if (!x86_canonical(rip))
        x86_raise_err(vp, X86_EXC_GP, d->ext);
    if (inner)
        f.acc |= X86_ACC_SYS;
    f.sp = sp & ~15ull;
    x86_frame_add(&f, c->seg[X86_SS].sel);
    x86_frame_add(&f, c->gpr[X86_RSP]);
    frame_return(vp, d, &f);
    if (d->has_error)
        x86_frame_add(&f, d->error);
    x86_desc_type(vp, &code, 0, SEG_TYPE_A);
    c->gpr[X86_RSP] = x86_frame_store(vp, &f);

    if (inner)
        x86_seg_set_null(&c->seg[X86_SS], (uint16_t)new_cpl, new_cpl);
    x86_desc_seg(&code, (uint16_t)((sel & 0xfffc) | new_cpl), &c->seg[X86_CS]);
    enter_handler(vp, rip, EF_TF | EF_NT | EF_VM | EF_RF | (type == X86_ST_INT32 ? EF_IF : 0u));
}

/* 6.12 and 20.3.1. */
static void deliver_protected(struct hv_vp *vp, const struct delivery *d)
{
    struct x86_cpu *c = &vp->cpu;
    bool vm = c->eflags & EF_VM, inner;
    uint64_t gate, sp = 0;
    uint32_t rip;
    unsigned dpl, type, new_cpl;
    uint16_t sel;
    struct x86_desc code;
    struct x86_seg ss;
    struct x86_frame f = { .acc = X86_ACC_WRITE, .err = d->ext };

    if (d->vector * 8 + 7 > c->idtr.limit)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    x86_lin_read(vp, (uint32_t)(c->idtr.base + d->vector * 8), &gate, 8, X86_ACC_READ | X86_ACC_SYS);
    type = (gate >> 40) & 0x1f;
    if (type != X86_ST_TASK && type != X86_ST_INT16 && type != X86_ST_TRAP16 && type != X86_ST_INT32 &&
        type != X86_ST_TRAP32)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    if (is_software(d->type) && ((gate >> 45) & 3) < c->cpl)
        x86_raise_err(vp, X86_EXC_GP, gate_error(d));
    if (!((gate >> 47) & 1))
        x86_raise_err(vp, X86_EXC_NP, gate_error(d));
    sel = (uint16_t)(gate >> 16);
    if (type == X86_ST_TASK) {
        x86_task_switch_from(vp, sel, X86_TASK_INT, d->ret_rip, d->has_error, d->error, d->ext);
        return;
    }
    f.size = type & 8 ? 4 : 2;
    rip = (uint32_t)(gate & 0xffff) | (type & 8 ? (uint32_t)(gate >> 32) & 0xffff0000 : 0);

    dpl = gate_code(vp, sel, d->ext, &code);
    inner = !x86_attr_conforming(code.attr) && dpl < c->cpl;
    new_cpl = inner ? dpl : c->cpl;
    if (vm && new_cpl != 0) /* a handler of virtual-8086 code runs at level 0 only */
        x86_raise_err(vp, X86_EXC_GP, (sel & 0xfffcu) | d->ext);
    if (!(code.attr & SEG_P))
        x86_raise_err(vp, X86_EXC_NP, (sel & 0xfffcu) | d->ext);

    if (inner) {
        x86_tss_stack(vp, new_cpl, d->ext, &ss, &sp);
        f.ss = &ss;
        f.sp = sp;
        f.ssize = x86_ss_size(&ss);
        f.acc |= X86_ACC_SYS;
        f.err = (ss.sel & 0xfffcu) | d->ext;
        if (vm) {
            x86_frame_add(&f, c->seg[X86_GS].sel);
            x86_frame_add(&f, c->seg[X86_FS].sel);
            x86_frame_add(&f, c->seg[X86_DS].sel);
            x86_frame_add(&f, c->seg[X86_ES].sel);
        }
        x86_frame_add(&f, c->seg[X86_SS].sel);
        x86_frame_add(&f, c->gpr[X86_RSP] & x86_size_mask(f.size));
    } else {
        f.ss = &c->seg[X86_SS];
        f.sp = c->gpr[X86_RSP];
        f.ssize = c->ssize;
    }
    frame_return(vp, d, &f);
    if (d->has_error)
        x86_frame_add(&f, d->error);
    x86_frame_check(vp, &f);
    if (rip > x86_desc_limit(code.lo))
        x86_raise_err(vp, X86_EXC_GP, d->ext);
    x86_desc_type(vp, &code, 0, SEG_TYPE_A);
    sp = x86_frame_store(vp, &f);

    if (inner) {
        c->seg[X86_SS] = ss;
        c->gpr[X86_RSP] = (uint32_t)f.sp;
        if (vm)
            for (unsigned s = X86_ES; s <= X86_GS; s++)
                if (s != X86_CS && s != X86_SS)
                    x86_seg_set_null(&c->seg[s], 0, 0);
    }
    x86_set_sp(c, sp, f.ssize);
    x86_desc_seg(&code, (uint16_t)((sel & 0xfffc) | new_cpl), &c->seg[X86_CS]);
    enter_handler(vp, rip, EF_TF | EF_NT | EF_VM | EF_RF |
                               (type == X86_ST_INT32 || type == X86_ST_INT16 ? EF_IF : 0u));
}

void x86_deliver(struct hv_vp *vp, unsigned vector, unsigned type, bool has_error, uint32_t error,
                 uint64_t ret_rip)
{
    struct x86_cpu *c = &vp->cpu;
    struct delivery d = { vector, type, has_error, error, ret_rip, !is_software(type), x86_flags_get(c) };

    if (vp->delivering.valid && vp->delivering.vector != X86_EXC_DF && type == X86_EV_FAULT &&
        (vector != X86_EXC_DB || (vp->delivering.dr6 & DR6_BD)) && vector != X86_EXC_MC)
        d.flags |= EF_RF; /* 17.3.1.1: the instruction will be restarted */
    if (vp->rep_begun && !is_software(type))
        d.flags |= EF_RF; /* there: traps and interrupts between two iterations */
    vp->rep_begun = 0;
    if (!(c->cr0 & CR0_PE))
        deliver_real(vp, &d);
    else if (x86_long_mode(c))
        deliver_long(vp, &d);
    else
        deliver_protected(vp, &d);
    vp->delivering.valid = 0;
}

void x86_deliver_vm86_ivt(struct hv_vp *vp, unsigned vector, uint64_t ret_rip)
{
    struct x86_cpu *c = &vp->cpu;
    struct delivery d = { vector, X86_EV_SOFTINT, false, 0, ret_rip, 0, x86_flags_get(c) };
    uint32_t clear = EF_TF | EF_RF | EF_NT;

    if ((c->eflags & EF_IOPL) == EF_IOPL) {
        clear |= EF_IF;
    } else {
        d.flags = (d.flags & ~(uint32_t)EF_IF) | EF_IOPL | (d.flags & EF_VIF ? EF_IF : 0u);
        clear |= EF_VIF;
    }
    deliver_ivt(vp, &d, 0, clear);
}

/* ---- exceptions --------------------------------------------------------------------------------- */

enum { CLASS_BENIGN, CLASS_CONTRIBUTORY, CLASS_PAGE_FAULT };

static unsigned exception_class(const struct x86_pending *e)
{
    if (e->type != X86_EV_FAULT)
        return CLASS_BENIGN;
    switch (e->vector) {
    case X86_EXC_DE: case X86_EXC_TS: case X86_EXC_NP: case X86_EXC_SS: case X86_EXC_GP:
        return CLASS_CONTRIBUTORY;
    case X86_EXC_PF:
        return CLASS_PAGE_FAULT;
    }
    return CLASS_BENIGN;
}

static void triple_fault(struct hv_vp *vp, const struct x86_pending *last)
{
    const struct x86_cpu *c = &vp->cpu;
    char dump[4096];
    int n;

    vp->run_state = HV_VP_SHUTDOWN;
    n = hv_vp_dump(vp->p, vp->index, dump, sizeof(dump));
    for (char *line = dump, *end; n > 0 && *line; line = end) {
        size_t len = strcspn(line, "\n");

        end = line + len + (line[len] != 0);
        if (len)
            hv_log(vp->p, 3, "%.*s", (int)len, line);
    }
    hv_vp_exit(vp, HV_EXIT_TRIPLE_FAULT,
               "vp %u: triple fault: exception %u while delivering a double fault at %04x:%016llx",
               vp->index, last->vector, c->seg[X86_CS].sel, (unsigned long long)c->rip);
}

void x86_exception_entry(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_pending e = vp->exc, prev = vp->delivering;

    if (!e.valid)
        return;
    vp->exc.valid = 0;
    vp->delivering.valid = 0;
    if (e.vector == X86_EXC_PF)
        c->cr2 = e.cr2;
    if (prev.valid) { /* 6.15, table 6-5 */
        unsigned was = exception_class(&prev), now = exception_class(&e);

        if (prev.type == X86_EV_FAULT && prev.vector == X86_EXC_DF && now != CLASS_BENIGN) {
            triple_fault(vp, &e);
            return;
        }
        if (was != CLASS_BENIGN && now != CLASS_BENIGN &&
            !(was == CLASS_CONTRIBUTORY && now == CLASS_PAGE_FAULT))
            e = (struct x86_pending){ .valid = 1, .vector = X86_EXC_DF, .type = X86_EV_FAULT,
                                      .has_error = 1 };
    }
    if (e.vector == X86_EXC_DB && e.type == X86_EV_FAULT) { /* 17.2.3 */
        c->dr[6] = (c->dr[6] & ~15ull) | DR6_FIXED | e.dr6;
        c->dr[7] &= ~(uint64_t)DR7_GD;
    }
    vp->delivering = e;
    x86_deliver(vp, e.vector, e.type, e.has_error, e.error, c->rip);
}

void x86_interrupt(struct hv_vp *vp, unsigned vector, unsigned type)
{
    struct x86_cpu *c = &vp->cpu;

    if (type == X86_EV_NMI)
        c->nmi_masked = 1;
    vp->delivering = (struct x86_pending){ .valid = 1, .vector = (uint8_t)vector, .type = (uint8_t)type };
    x86_deliver(vp, vector, type, false, 0, c->rip);
}

/* ---- debug exceptions, chapter 17 ----------------------------------------------------------------- */

void x86_debug_trap(struct hv_vp *vp, uint64_t dr6_bits)
{
    if (!dr6_bits || vp->cpu.int_shadow == 2) /* 6.8.3: held off after MOV SS and POP SS */
        return;
    vp->counters[HV_CTR_EXCEPTIONS]++; /* raised ones are counted by the engine */
    vp->exc = (struct x86_pending){ .valid = 1, .vector = X86_EXC_DB, .type = X86_EV_FAULT,
                                    .dr6 = dr6_bits };
    x86_exception_entry(vp);
}

void x86_debug_fetch(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t lin = c->mode == X86_MODE_64 ? c->rip : (uint32_t)(c->seg[X86_CS].base + c->rip), hit = 0;

    if ((c->eflags & EF_RF) || !(c->dr[7] & 0xff))
        return;
    for (unsigned i = 0; i < 4; i++)
        if (((c->dr[7] >> (i * 2)) & 3) && !((c->dr[7] >> (16 + i * 4)) & 15) &&
            (c->mode == X86_MODE_64 ? c->dr[i] : (uint32_t)c->dr[i]) == lin)
            hit |= 1u << i;
    if (hit)
        x86_raise_db(vp, hit);
}
