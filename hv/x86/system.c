/* SPDX-License-Identifier: BSD-2-Clause */
/* System instructions: control and debug registers, MSRs, CPUID, port I/O, HLT, CLI and STI.
 *
 * Rules are those of the instruction's page in Intel SDM volume 2 and of the sections of volume 3A that the
 * comments name.  The order of checks is that of the manual: #UD, then privilege, then operands. */
#include <stdatomic.h>

#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

static void done(struct hv_vp *vp, const struct x86_insn *in)
{
    vp->cpu.rip = x86_next_rip(vp, in);
}

static void need_cpl0(struct hv_vp *vp)
{
    if (vp->cpu.cpl != 0)
        x86_raise_err(vp, X86_EXC_GP, 0);
}

/* Write a 32-bit result: bits 63:32 become zero. */
static void put32(struct hv_vp *vp, unsigned reg, uint32_t val)
{
    vp->cpu.gpr[reg] = val;
}

static void put_edx_eax(struct hv_vp *vp, uint64_t val)
{
    put32(vp, X86_RAX, (uint32_t)val);
    put32(vp, X86_RDX, (uint32_t)(val >> 32));
}

static uint64_t edx_eax(const struct hv_vp *vp)
{
    return (uint64_t)(uint32_t)vp->cpu.gpr[X86_RDX] << 32 | (uint32_t)vp->cpu.gpr[X86_RAX];
}

/* ---- control registers (2.5) ---- */

/* A register that is to be in force for 32-bit PAE paging: reload the PDPTEs (4.4.1). */
static bool pae_paging(uint64_t cr0, uint64_t cr4, uint64_t efer)
{
    return (cr0 & CR0_PG) && (cr4 & CR4_PAE) && !(efer & EFER_LME);
}

static void load_pdptes(struct hv_vp *vp, uint64_t cr3)
{
    if (!x86_load_pdptes(vp, cr3))
        x86_raise_err(vp, X86_EXC_GP, 0);
}

static void write_cr0(struct hv_vp *vp, uint64_t val)
{
    struct x86_cpu *c = &vp->cpu;
    const uint64_t defined = CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM |
                             CR0_NW | CR0_CD | CR0_PG;
    uint64_t changed;

    if (val >> 32)
        x86_raise_err(vp, X86_EXC_GP, 0);
    val = (val & defined) | CR0_ET;
    if (((val & CR0_PG) && !(val & CR0_PE)) || ((val & CR0_NW) && !(val & CR0_CD)))
        x86_raise_err(vp, X86_EXC_GP, 0);
    changed = val ^ c->cr0;

    if ((changed & CR0_PG) && (val & CR0_PG) && (c->efer & EFER_LME)) {
        /* 9.8.5: entering IA-32e mode */
        if (!(c->cr4 & CR4_PAE) || (c->seg[X86_CS].attr & SEG_L) ||
            (c->tr.attr & SEG_TYPE & ~2u) == 1)
            x86_raise_err(vp, X86_EXC_GP, 0);
        c->efer |= EFER_LMA;
    } else if ((changed & CR0_PG) && !(val & CR0_PG)) {
        if (c->mode == X86_MODE_64 || (c->cr4 & CR4_PCIDE))
            x86_raise_err(vp, X86_EXC_GP, 0);
        c->efer &= ~(uint64_t)EFER_LMA;
    } else if ((changed & (CR0_PG | CR0_CD | CR0_NW)) && pae_paging(val, c->cr4, c->efer)) {
        load_pdptes(vp, c->cr3);
    }
    c->cr0 = val;
    if (changed & (CR0_PG | CR0_WP))
        x86_tlb_flush_all(vp);
    x86_update_mode(vp);
}

static void write_cr3(struct hv_vp *vp, uint64_t val)
{
    struct x86_cpu *c = &vp->cpu;

    if (x86_long_mode(c)) {
        if (c->cr4 & CR4_PCIDE)
            val &= ~(1ull << 63); /* "do not invalidate": allowed to be ignored (4.10.4.1) */
        if (val >> hv_maxphyaddr(vp->p))
            x86_raise_err(vp, X86_EXC_GP, 0);
    } else {
        val = (uint32_t)val;
        if (pae_paging(c->cr0, c->cr4, c->efer))
            load_pdptes(vp, val);
    }
    c->cr3 = val;
    x86_tlb_flush_nonglobal(vp);
}

static void write_cr4(struct hv_vp *vp, uint64_t val)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t changed = val ^ c->cr4;

    if (val & ~hv_cr4_mask(vp->p))
        x86_raise_err(vp, X86_EXC_GP, 0);
    if (x86_long_mode(c) && !(val & CR4_PAE))
        x86_raise_err(vp, X86_EXC_GP, 0);
    if ((changed & val & CR4_PCIDE) && (!x86_long_mode(c) || (c->cr3 & 0xfff)))
        x86_raise_err(vp, X86_EXC_GP, 0);
    if ((changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP)) && pae_paging(c->cr0, val, c->efer))
        load_pdptes(vp, c->cr3);
    c->cr4 = val;
    if (changed & (CR4_PAE | CR4_PGE | CR4_PSE | CR4_SMEP | CR4_SMAP | CR4_PCIDE))
        x86_tlb_flush_all(vp);
    x86_update_mode(vp);
}

static void mov_to_cr(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned cr = in->o[0].reg;
    uint64_t val = vp->cpu.gpr[in->o[1].reg];

    if (cr != 0 && cr != 2 && cr != 3 && cr != 4 && (cr != 8 || vp->cpu.mode != X86_MODE_64))
        x86_raise(vp, X86_EXC_UD);
    need_cpl0(vp);
    if (vp->cpu.mode != X86_MODE_64)
        val = (uint32_t)val;
    switch (cr) {
    case 0: write_cr0(vp, val); break;
    case 2: vp->cpu.cr2 = val; break;
    case 3: write_cr3(vp, val); break;
    case 4: write_cr4(vp, val); break;
    case 8: /* 11.8.6 */
        if (val & ~0xfull)
            x86_raise_err(vp, X86_EXC_GP, 0);
        hv_lapic_tpr_set(vp, (uint8_t)(val << 4));
        break;
    }
    done(vp, in);
}

static void mov_from_cr(struct hv_vp *vp, const struct x86_insn *in)
{
    const struct x86_cpu *c = &vp->cpu;
    uint64_t val = 0;

    switch (in->o[1].reg) {
    case 0: val = c->cr0; break;
    case 2: val = c->cr2; break;
    case 3: val = c->cr3; break;
    case 4: val = c->cr4; break;
    case 8:
        if (c->mode == X86_MODE_64) {
            val = hv_lapic_tpr_get(vp) >> 4;
            break;
        }
        /* fall through */
    default: x86_raise(vp, X86_EXC_UD);
    }
    need_cpl0(vp);
    vp->cpu.gpr[in->o[0].reg] = c->mode == X86_MODE_64 ? val : (uint32_t)val;
    done(vp, in);
}

/* ---- debug registers (17.2) ---- */

enum { DR6_BD = 1 << 13, DR7_GD = 1 << 13 };

static unsigned dr_number(struct hv_vp *vp, unsigned n)
{
    if (n > 7 || ((n == 4 || n == 5) && (vp->cpu.cr4 & CR4_DE)))
        x86_raise(vp, X86_EXC_UD);
    need_cpl0(vp);
    if (vp->cpu.dr[7] & DR7_GD)
        x86_raise_db(vp, DR6_BD);
    return n == 4 || n == 5 ? n + 2 : n;
}

static void mov_to_dr(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned n = dr_number(vp, in->o[0].reg);
    uint64_t val = c->gpr[in->o[1].reg];

    if (c->mode != X86_MODE_64)
        val = (uint32_t)val;
    if (n >= 6 && val >> 32)
        x86_raise_err(vp, X86_EXC_GP, 0);
    if (n == 6)
        val = (val & 0xe00f) | 0xffff0ff0;
    if (n == 7)
        val = (val & 0xffff23ff) | 0x400;
    c->dr[n] = val;
    if (n != 6) {
        x86_mmu_watch_changed(vp);
        x86_update_mode(vp);
    }
    done(vp, in);
}

static void mov_from_dr(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned n = dr_number(vp, in->o[1].reg);

    c->gpr[in->o[0].reg] = c->mode == X86_MODE_64 ? c->dr[n] : (uint32_t)c->dr[n];
    done(vp, in);
}

/* DR6 bits of the I/O breakpoints that [port, port+len) hits (17.2.4, R/W = 10b with CR4.DE). */
static uint64_t io_breakpoints(const struct x86_cpu *c, uint16_t port, unsigned len)
{
    uint64_t hits = 0;

    if (!(c->cr4 & CR4_DE) || !(c->dr[7] & 0xff))
        return 0;
    for (unsigned i = 0; i < 4; i++) {
        unsigned ctl = (unsigned)(c->dr[7] >> (16 + i * 4)) & 0xf;
        uint64_t n = (ctl >> 2) + 1u, at = c->dr[i] & ~(n - 1);

        if ((c->dr[7] & (3ull << (i * 2))) && (ctl & 3) == 2 && n != 3 && port < at + n &&
            at < (uint64_t)port + len)
            hits |= 1ull << i;
    }
    return hits;
}

/* ---- interrupt flag ---- */

static void cli(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned iopl = (c->eflags & EF_IOPL) >> 12;

    if (!(c->cr0 & CR0_PE) || c->cpl <= iopl)
        c->eflags &= ~(uint32_t)EF_IF;
    else if ((c->eflags & EF_VM) ? (c->cr4 & CR4_VME) : c->cpl == 3 && (c->cr4 & CR4_PVI))
        c->eflags &= ~(uint32_t)EF_VIF;
    else
        x86_raise_err(vp, X86_EXC_GP, 0);
    done(vp, in);
}

static void sti(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned iopl = (c->eflags & EF_IOPL) >> 12;

    if (!(c->cr0 & CR0_PE) || c->cpl <= iopl) {
        done(vp, in);
        if (!(c->eflags & EF_IF)) {
            c->eflags |= EF_IF;
            c->int_shadow = 1;
            x86_update_mode(vp);
            hv_vp_window(vp);
        }
        return;
    }
    if (!((c->eflags & EF_VM) ? (c->cr4 & CR4_VME) : c->cpl == 3 && (c->cr4 & CR4_PVI)) ||
        (c->eflags & EF_VIP))
        x86_raise_err(vp, X86_EXC_GP, 0);
    c->eflags |= EF_VIF;
    done(vp, in);
}

/* ---- TLB ---- */

static void invlpg(struct hv_vp *vp, const struct x86_insn *in)
{
    const struct x86_cpu *c = &vp->cpu;
    uint64_t lin = x86_ea(vp, in);

    need_cpl0(vp);
    if (c->mode != X86_MODE_64)
        lin = (uint32_t)(lin + c->seg[in->seg].base);
    else if (in->seg == X86_FS || in->seg == X86_GS)
        lin += c->seg[in->seg].base;
    if (x86_canonical(lin)) /* SDM 2A: otherwise a NOP */
        x86_tlb_flush_page(vp, lin);
    done(vp, in);
}

static void invpcid(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t type = c->gpr[in->o[0].reg], desc[2], lin;

    if (!hv_feature(vp->p, X86_FEAT_INVPCID) || (c->eflags & EF_VM))
        x86_raise(vp, (c->eflags & EF_VM) ? X86_EXC_GP : X86_EXC_UD);
    need_cpl0(vp);
    if (c->mode != X86_MODE_64)
        type = (uint32_t)type;
    lin = x86_seg_lin(vp, in->seg, x86_ea(vp, in), 16, X86_ACC_READ);
    x86_lin_read(vp, lin, desc, 16, X86_ACC_READ);
    if (type > 3 || (type < 3 && (desc[0] >> 12)) || (type == 0 && !x86_canonical(desc[1])) ||
        (type < 2 && !(c->cr4 & CR4_PCIDE) && (desc[0] & 0xfff)))
        x86_raise_err(vp, X86_EXC_GP, 0);
    /* The TLB holds translations of the current PCID only; a CR3 write drops them. */
    switch (type) {
    case 0:
        if ((desc[0] & 0xfff) == (c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0))
            x86_tlb_flush_page(vp, desc[1]);
        break;
    case 1:
        if ((desc[0] & 0xfff) == (c->cr4 & CR4_PCIDE ? c->cr3 & 0xfff : 0))
            x86_tlb_flush_nonglobal(vp);
        break;
    case 2: x86_tlb_flush_all(vp); break;
    default: x86_tlb_flush_nonglobal(vp); break;
    }
    done(vp, in);
}

/* ---- extended control register ---- */

static void xgetbv(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;

    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(vp, X86_EXC_UD);
    switch ((uint32_t)c->gpr[X86_RCX]) {
    case 0: put_edx_eax(vp, c->xcr0); break;
    case 1: put_edx_eax(vp, c->xcr0 & x86_xinuse(vp)); break;
    default: x86_raise_err(vp, X86_EXC_GP, 0);
    }
    done(vp, in);
}

static void xsetbv(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t val = edx_eax(vp);

    if (!(c->cr4 & CR4_OSXSAVE))
        x86_raise(vp, X86_EXC_UD);
    need_cpl0(vp);
    if ((uint32_t)c->gpr[X86_RCX] != 0 || !(val & 1) || (val & ~hv_xcr0_mask(vp->p)) ||
        ((val & 4) && !(val & 2)))
        x86_raise_err(vp, X86_EXC_GP, 0);
    c->xcr0 = val;
    x86_update_mode(vp);
    done(vp, in);
}

/* ---- MSRs, time, identification ---- */

static void rdtsc(struct hv_vp *vp, const struct x86_insn *in)
{
    if ((vp->cpu.cr4 & CR4_TSD) && vp->cpu.cpl != 0)
        x86_raise_err(vp, X86_EXC_GP, 0);
    put_edx_eax(vp, hv_tsc_read(vp));
    if (in->op == X86_OP_RDTSCP)
        put32(vp, X86_RCX, (uint32_t)vp->cpu.tsc_aux);
    done(vp, in);
}

static void rdmsr(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t val;

    need_cpl0(vp);
    if (hv_msr_read(vp, (uint32_t)vp->cpu.gpr[X86_RCX], &val) < 0)
        x86_raise_err(vp, X86_EXC_GP, 0);
    put_edx_eax(vp, val);
    done(vp, in);
}

static void wrmsr(struct hv_vp *vp, const struct x86_insn *in)
{
    need_cpl0(vp);
    if (hv_msr_write(vp, (uint32_t)vp->cpu.gpr[X86_RCX], edx_eax(vp)) < 0)
        x86_raise_err(vp, X86_EXC_GP, 0);
    done(vp, in);
}

static void cpuid(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint32_t r[4];

    hv_cpuid_query(vp, (uint32_t)c->gpr[X86_RAX], (uint32_t)c->gpr[X86_RCX], r);
    put32(vp, X86_RAX, r[0]);
    put32(vp, X86_RBX, r[1]);
    put32(vp, X86_RCX, r[2]);
    put32(vp, X86_RDX, r[3]);
    done(vp, in);
}

/* ---- FS and GS bases (64-bit mode only: the decoder sees to it) ---- */

static void fsgsbase(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned seg = in->op == X86_OP_RDFSBASE || in->op == X86_OP_WRFSBASE ? X86_FS : X86_GS;
    uint64_t *gpr = &c->gpr[in->o[0].reg], val;

    if (c->mode != X86_MODE_64 || !(c->cr4 & CR4_FSGSBASE))
        x86_raise(vp, X86_EXC_UD);
    if (in->op == X86_OP_RDFSBASE || in->op == X86_OP_RDGSBASE) {
        *gpr = in->osize == 8 ? c->seg[seg].base : (uint32_t)c->seg[seg].base;
    } else {
        val = in->osize == 8 ? *gpr : (uint32_t)*gpr;
        if (!x86_canonical(val))
            x86_raise_err(vp, X86_EXC_GP, 0);
        c->seg[seg].base = val;
    }
    done(vp, in);
}

/* ---- port I/O (SDM 1, chapter 19) ---- */

void x86_io_check(struct hv_vp *vp, uint16_t port, unsigned len)
{
    const struct x86_cpu *c = &vp->cpu;
    uint16_t base, bits;

    if (!(c->cr0 & CR0_PE) || (!(c->eflags & EF_VM) && c->cpl <= (c->eflags & EF_IOPL) >> 12))
        return;
    /* 19.5.2: the bit map of a 32-bit or 64-bit TSS, two bytes at a time */
    if (!(c->tr.attr & SEG_P) || (c->tr.attr & SEG_TYPE & ~2u) != 9 || c->tr.limit < 103)
        x86_raise_err(vp, X86_EXC_GP, 0);
    x86_lin_read(vp, c->tr.base + 102, &base, 2, X86_ACC_READ | X86_ACC_SYS);
    if ((uint32_t)base + port / 8 + 1 > c->tr.limit)
        x86_raise_err(vp, X86_EXC_GP, 0);
    x86_lin_read(vp, c->tr.base + base + port / 8, &bits, 2, X86_ACC_READ | X86_ACC_SYS);
    if ((bits >> (port % 8)) & ((1u << len) - 1))
        x86_raise_err(vp, X86_EXC_GP, 0);
}

static void put_acc(struct hv_vp *vp, uint32_t val, unsigned len)
{
    uint64_t *a = &vp->cpu.gpr[X86_RAX];

    if (len == 4)
        *a = val;
    else if (len == 2)
        *a = (*a & ~0xffffull) | (uint16_t)val;
    else
        *a = (*a & ~0xffull) | (uint8_t)val;
}

static void port_io(struct hv_vp *vp, const struct x86_insn *in)
{
    bool is_in = in->op == X86_OP_IN;
    const struct x86_operand *where = &in->o[is_in ? 1 : 0];
    unsigned len = in->o[is_in ? 0 : 1].size;
    uint16_t port = where->kind == X86_O_IMM ? (uint8_t)in->imm : (uint16_t)vp->cpu.gpr[X86_RDX];
    uint64_t hits;

    x86_io_check(vp, port, len);
    if (is_in)
        put_acc(vp, hv_pio_read(vp, port, len), len);
    else
        hv_pio_write(vp, port, len, (uint32_t)vp->cpu.gpr[X86_RAX]);
    done(vp, in);
    hits = io_breakpoints(&vp->cpu, port, len);
    if (hits)
        x86_debug_trap(vp, hits);
}

static uint64_t addr_mask(const struct x86_insn *in)
{
    return in->asize == 8 ? ~0ull : in->asize == 4 ? 0xffffffffull : 0xffffull;
}

/* Write a count or pointer register of the address size; a 32-bit one zeroes bits 63:32. */
static void put_addr(struct hv_vp *vp, const struct x86_insn *in, unsigned reg, uint64_t val)
{
    uint64_t *g = &vp->cpu.gpr[reg];

    if (in->asize == 2)
        *g = (*g & ~0xffffull) | (uint16_t)val;
    else
        *g = val & addr_mask(in);
}

/* INS and OUTS: one element a turn; what has been moved is complete whenever the loop is left. */
static void string_io(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    bool is_in = in->op == X86_OP_INS, rep = in->rep != X86_REP_NONE;
    unsigned len = in->o[0].size, reg = is_in ? X86_RDI : X86_RSI;
    uint64_t mask = addr_mask(in);

    vp->rep_begun = 0;
    for (;;) {
        uint16_t port = (uint16_t)c->gpr[X86_RDX];
        uint64_t lin, hits;
        uint32_t val = 0;

        x86_io_check(vp, port, len); /* processors check before they look at the count */
        if (rep && !(c->gpr[X86_RCX] & mask))
            break;
        if (is_in) {
            lin = x86_seg_lin(vp, X86_ES, c->gpr[reg] & mask, len, X86_ACC_WRITE);
            x86_lin_probe(vp, lin, len, X86_ACC_WRITE); /* a port is not read twice */
            val = hv_pio_read(vp, port, len);
            x86_lin_write(vp, lin, &val, len, X86_ACC_WRITE);
        } else {
            lin = x86_seg_lin(vp, in->seg, c->gpr[reg] & mask, len, X86_ACC_READ);
            x86_lin_read(vp, lin, &val, len, X86_ACC_READ);
            hv_pio_write(vp, port, len, val);
        }
        put_addr(vp, in, reg, c->gpr[reg] + (c->eflags & EF_DF ? 0 - (uint64_t)len : len));
        if (rep)
            put_addr(vp, in, X86_RCX, c->gpr[X86_RCX] - 1);
        hits = io_breakpoints(c, port, len);
        if (!rep || !(c->gpr[X86_RCX] & mask)) {
            done(vp, in);
            if (hits)
                x86_debug_trap(vp, hits);
            return;
        }
        if (hits) {
            vp->rep_begun = 1;
            x86_debug_trap(vp, hits);
            return;
        }
        if ((c->eflags & EF_TF) || atomic_load_explicit(&vp->attention, memory_order_relaxed)) {
            vp->rep_begun = 1;
            return; /* RIP still names this instruction: it goes on afterwards */
        }
    }
    done(vp, in);
}

/* ---- cache control: nothing to do but the checks ---- */

static void clflush(struct hv_vp *vp, const struct x86_insn *in)
{
    x86_lin_probe(vp, x86_seg_lin(vp, in->seg, x86_ea(vp, in), 1, X86_ACC_READ), 1, X86_ACC_READ);
    done(vp, in);
}

bool x86_exec_system(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;

    switch (in->op) {
    case X86_OP_MOV_CR: mov_to_cr(vp, in); return true;
    case X86_OP_MOV_FROM_CR: mov_from_cr(vp, in); return true;
    case X86_OP_MOV_DR: mov_to_dr(vp, in); return true;
    case X86_OP_MOV_FROM_DR: mov_from_dr(vp, in); return true;
    case X86_OP_CLTS:
        need_cpl0(vp);
        c->cr0 &= ~(uint64_t)CR0_TS;
        x86_update_mode(vp);
        done(vp, in);
        return true;
    case X86_OP_RDMSR: rdmsr(vp, in); return true;
    case X86_OP_WRMSR: wrmsr(vp, in); return true;
    case X86_OP_RDTSC:
    case X86_OP_RDTSCP: rdtsc(vp, in); return true;
    case X86_OP_RDPMC: /* no counters: every index is a bad one */ x86_raise_err(vp, X86_EXC_GP, 0);
    case X86_OP_RDPID:
        c->gpr[in->o[0].reg] = c->tsc_aux;
        done(vp, in);
        return true;
    case X86_OP_CPUID: cpuid(vp, in); return true;
    case X86_OP_XGETBV: xgetbv(vp, in); return true;
    case X86_OP_XSETBV: xsetbv(vp, in); return true;
    case X86_OP_INVLPG: invlpg(vp, in); return true;
    case X86_OP_INVPCID: invpcid(vp, in); return true;
    case X86_OP_INVD:
    case X86_OP_WBINVD:
        need_cpl0(vp);
        done(vp, in);
        return true;
    case X86_OP_HLT:
        need_cpl0(vp);
        vp->counters[HV_CTR_HLT]++;
        done(vp, in);
        vp->run_state = HV_VP_HALTED;
        return true;
    case X86_OP_CLI: cli(vp, in); return true;
    case X86_OP_STI: sti(vp, in); return true;
    case X86_OP_CLAC:
    case X86_OP_STAC:
        if (c->cpl != 0)
            x86_raise(vp, X86_EXC_UD);
        c->eflags = (c->eflags & ~(uint32_t)EF_AC) | (in->op == X86_OP_STAC ? EF_AC : 0);
        x86_update_mode(vp);
        done(vp, in);
        return true;
    case X86_OP_IN:
    case X86_OP_OUT: port_io(vp, in); return true;
    case X86_OP_INS:
    case X86_OP_OUTS: string_io(vp, in); return true;
    case X86_OP_RDFSBASE:
    case X86_OP_RDGSBASE:
    case X86_OP_WRFSBASE:
    case X86_OP_WRGSBASE: fsgsbase(vp, in); return true;
    case X86_OP_CLFLUSH:
    case X86_OP_CLFLUSHOPT:
    case X86_OP_CLWB: clflush(vp, in); return true;
    case X86_OP_LFENCE:
    case X86_OP_MFENCE:
    case X86_OP_SFENCE:
        atomic_thread_fence(memory_order_seq_cst);
        done(vp, in);
        return true;
    case X86_OP_NOP:
    case X86_OP_PAUSE: done(vp, in); return true;
    case X86_OP_VMCALL:
        if (!hv_hypercall(vp))
            x86_raise(vp, X86_EXC_UD);
        done(vp, in);
        return true;
    case X86_OP_MONITOR: /* not shown in CPUID */
    case X86_OP_MWAIT:
    case X86_OP_VMMCALL:
    case X86_OP_UD0:
    case X86_OP_UD1:
    case X86_OP_UD2: x86_raise(vp, X86_EXC_UD);
    default: return false;
    }
}
