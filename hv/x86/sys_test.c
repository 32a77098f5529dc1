/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of event delivery, segments, far transfers and task switches.
 *
 * By hand: gcc -std=gnu11 -g -Wall -Wextra -I. -Ihv/include hv/x86/sys_test.c hv/x86/event.c
 *          hv/x86/segment.c hv/x86/transfer.c hv/x86/task.c -lcmocka */
#include "hv/x86/sys_test.h"

#include <stdio.h>

struct sys_test st;

/* ---- the world around ---- */

static void touch(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc)
{
    for (uint64_t i = 0, a = lin; i < len; i++, a++) {
        unsigned pg = a < ST_MEM ? st.page[a / 4096] : 1;
        bool user = vp->cpu.cpl == 3 && !(acc & X86_ACC_SYS);

        if ((pg & 1) || ((pg & 2) && (acc & X86_ACC_WRITE)))
            x86_raise_pf(vp, a, (pg & 1 ? 0 : PF_P) | (acc & X86_ACC_WRITE ? PF_W : 0u) | (user ? PF_U : 0u));
    }
}
void x86_lin_read(struct hv_vp *vp, uint64_t lin, void *buf, unsigned len, unsigned acc)
{
    touch(vp, lin, len, acc);
    memcpy(buf, st.mem + lin, len);
}
void x86_lin_write(struct hv_vp *vp, uint64_t lin, const void *buf, unsigned len, unsigned acc)
{
    touch(vp, lin, len, acc | X86_ACC_WRITE);
    memcpy(st.mem + lin, buf, len);
    st.stores++;
}
void x86_lin_probe(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc) { touch(vp, lin, len, acc); }
void *x86_lin_hva(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc)
{
    touch(vp, lin, len, acc);
    return lin % 3 ? st.mem + lin : NULL; /* both ways of x86_desc_type */
}
static int exclusive;
void x86_mmu_exclusive_begin(struct hv_vp *vp) { (void)vp; exclusive++; }
void x86_mmu_exclusive_end(struct hv_vp *vp) { (void)vp; exclusive--; }
void x86_mmu_set_view(struct hv_vp *vp) { (void)vp; }
void x86_mmu_watch_changed(struct hv_vp *vp) { (void)vp; }
void x86_tlb_flush_nonglobal(struct hv_vp *vp) { (void)vp; }
bool x86_load_pdptes(struct hv_vp *vp, uint64_t cr3) { (void)vp; return !(cr3 & 1); }
void hv_log(struct hv_partition *p, int level, const char *fmt, ...) { (void)p; (void)level; (void)fmt; }
int hv_vp_dump(struct hv_partition *p, unsigned vp, char *buf, size_t len)
{
    (void)p;
    (void)vp;
    return snprintf(buf, len, "dump\nof two lines\n");
}
void hv_vp_exit(struct hv_vp *vp, enum hv_exit_reason reason, const char *fmt, ...)
{
    va_list ap;

    vp->exit.reason = reason;
    va_start(ap, fmt);
    vsnprintf(vp->exit.text, sizeof(vp->exit.text), fmt, ap);
    va_end(ap);
}

/* ---- fixtures ---- */

/* GDT: flat code and data of rings 0 and 3, conforming code, execute-only, not present and so on. */
enum { S_C0 = 0x08, S_D0 = 0x10, S_C3 = 0x1b, S_D3 = 0x23, S_CONF = 0x28, S_XO = 0x30, S_RO = 0x38,
       S_NPC = 0x40, S_NPD = 0x48, S_TSS = 0x50, S_TSS2 = 0x58, S_LDT = 0x60, S_GATE = 0x68, S_DOWN = 0x70,
       S_C16 = 0x78, S_D16 = 0x80, S_SMALL = 0x88, S_C1 = 0x91, S_D1 = 0x99, S_C64 = 0xa0, S_C64U = 0xab,
       S_TASK = 0xb0, S_END = 0x100 };

static void set_seg(unsigned n, uint16_t sel)
{
    uint64_t d = st_get(ST_GDT + (sel & ~7u), 8);
    struct x86_desc xd = { .lo = d, .attr = x86_desc_attr(d) };

    x86_desc_seg(&xd, sel, &st.vp.cpu.seg[n]);
    st.vp.cpu.seg[n].attr |= SEG_TYPE_A;
}

static int setup_protected(void **unused)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)unused;
    memset(&st, 0, sizeof(st));
    st.vp.p = &st.p;
    c->eflags = EF_R1;
    c->fl = FL_FIXED;
    c->cr0 = CR0_PE;
    st_gdt(S_C0, st_desc(0, 0xfffff, 0xc09a));
    st_gdt(S_D0, st_desc(0, 0xfffff, 0xc092));
    st_gdt(S_C3, st_desc(0, 0xfffff, 0xc0fa));
    st_gdt(S_D3, st_desc(0, 0xfffff, 0xc0f2));
    st_gdt(S_CONF, st_desc(0, 0xfffff, 0xc09e));
    st_gdt(S_XO, st_desc(0, 0xfffff, 0xc098));
    st_gdt(S_RO, st_desc(0, 0xfffff, 0xc090));
    st_gdt(S_NPC, st_desc(0, 0xfffff, 0xc01a));
    st_gdt(S_NPD, st_desc(0, 0xfffff, 0xc012));
    st_gdt(S_TSS, st_desc(ST_TSS, 0x2ff, 0x008b));
    st_gdt(S_TSS2, st_desc(ST_TSS2, 0x67, 0x0089));
    st_gdt(S_LDT, st_desc(ST_LDT, 0x2f, 0x0082));
    st_gdt(S_DOWN, st_desc(0, 0xfff, 0x4096));
    st_gdt(S_C16, st_desc(ST_CODE, 0xffff, 0x009a));
    st_gdt(S_D16, st_desc(0, 0xffff, 0x0092));
    st_gdt(S_SMALL, st_desc(0, 0x0fff, 0x409a));
    st_gdt(S_C1, st_desc(0, 0xfffff, 0xc0ba));
    st_gdt(S_D1, st_desc(0, 0xfffff, 0xc0b2));
    st_gdt(S_C64, st_desc(0, 0xfffff, 0xa09a));
    st_gdt(S_C64U, st_desc(0, 0xfffff, 0xa0fa));
    c->gdtr = (struct x86_dtr){ ST_GDT, S_END - 1 };
    c->idtr = (struct x86_dtr){ ST_IDT, 0x7ff };
    c->tr = (struct x86_seg){ .sel = S_TSS, .base = ST_TSS, .limit = 0x2ff, .attr = 0x8b };
    c->ldtr.attr = SEG_UNUSABLE;
    st_put(ST_TSS + 4, ST_STACK0, 4);
    st_put(ST_TSS + 8, S_D0, 2);
    st_put(ST_TSS + 12, ST_STACK0 - 0x800, 4);
    st_put(ST_TSS + 16, S_D1, 2);
    set_seg(X86_CS, S_C0);
    for (unsigned i = 0; i < 6; i++)
        if (i != X86_CS)
            set_seg(i, S_D0);
    c->gpr[X86_RSP] = ST_STACK0 - 0x100;
    c->rip = ST_CODE;
    x86_update_mode(&st.vp);
    return 0;
}

static void to_user(void)
{
    set_seg(X86_CS, S_C3);
    for (unsigned i = 0; i < 6; i++)
        if (i != X86_CS)
            set_seg(i, S_D3);
    st.vp.cpu.gpr[X86_RSP] = ST_STACK3;
    x86_update_mode(&st.vp);
}

static int setup_long(void **unused)
{
    struct x86_cpu *c = &st.vp.cpu;

    setup_protected(unused);
    c->cr0 |= CR0_PG;
    c->cr4 |= CR4_PAE;
    c->efer = EFER_LME | EFER_LMA | EFER_SCE;
    st_put(ST_TSS + 4, ST_STACK0, 8);
    st_put(ST_TSS + 0x24, 0x6000, 8); /* IST1 */
    c->idtr.limit = 0xfff;
    set_seg(X86_CS, S_C64);
    x86_update_mode(&st.vp);
    return 0;
}

static int setup_real(void **unused)
{
    struct x86_cpu *c = &st.vp.cpu;

    setup_protected(unused);
    c->cr0 = 0;
    for (unsigned i = 0; i < 6; i++)
        c->seg[i] = (struct x86_seg){ .limit = 0xffff, .attr = SEG_DATA_ACC };
    c->seg[X86_CS].sel = ST_CODE >> 4;
    c->seg[X86_CS].base = ST_CODE;
    c->idtr = (struct x86_dtr){ 0, 0x3ff };
    c->rip = 0x10;
    c->gpr[X86_RSP] = 0x7000;
    x86_update_mode(&st.vp);
    return 0;
}

static struct x86_insn insn(unsigned op, unsigned osize, int64_t imm)
{
    return (struct x86_insn){ .op = (uint16_t)op, .len = 2, .osize = (uint8_t)osize, .asize = 4,
                              .mode = st.vp.cpu.mode, .imm = imm, .base = X86_REG_NONE,
                              .index = X86_REG_NONE, .seg = X86_DS };
}

static int run(struct x86_insn in)
{
    return ST_TRY(assert_true(x86_exec_transfer(&st.vp, &in)));
}

static void deliver_exc(unsigned vector, bool has_err, uint32_t err)
{
    struct hv_vp *vp = &st.vp;

    vp->exc = (struct x86_pending){ .valid = 1, .vector = (uint8_t)vector, .type = X86_EV_FAULT,
                                    .has_error = has_err, .error = err };
    /* As an engine does: a raise during delivery comes back here. */
    (void)setjmp(vp->jmp);
    x86_exception_entry(vp);
}

static void idt(unsigned v, uint64_t g) { st_put(ST_IDT + v * 8, g, 8); }
static void idt64(unsigned v, uint16_t sel, uint64_t off, unsigned type, unsigned dpl, unsigned ist)
{
    st_put(ST_IDT + v * 16, st_gate(sel, (uint32_t)off, type, dpl, ist), 8);
    st_put(ST_IDT + v * 16 + 8, off >> 32, 8);
}

/* ---- segments ---- */

static void test_limits(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    set_seg(X86_DS, S_D16);
    x86_update_mode(&st.vp);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_DS, 0xfffc, 4, X86_ACC_READ)), -1);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_DS, 0xfffd, 4, X86_ACC_READ)), X86_EXC_GP);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_DS, 0xffffffff, 2, X86_ACC_READ)), X86_EXC_GP);
    set_seg(X86_SS, S_DOWN);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_SS, 0xfff, 1, X86_ACC_WRITE)), X86_EXC_SS);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_SS, 0x1000, 4, X86_ACC_WRITE)), -1);
    set_seg(X86_ES, S_RO);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_ES, 0, 4, X86_ACC_WRITE)), X86_EXC_GP);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_ES, 0, 4, X86_ACC_READ)), -1);
    set_seg(X86_ES, S_XO);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_ES, 0, 4, X86_ACC_READ)), X86_EXC_GP);
    c->seg[X86_ES].attr = SEG_UNUSABLE;
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_ES, 0, 4, X86_ACC_READ)), X86_EXC_GP);
    /* The linear address is 32 bits wide. */
    c->seg[X86_FS] = (struct x86_seg){ .base = 0xfffff000, .limit = 0xffffffff, .attr = 0xc093 };
    volatile uint64_t lin = 0;
    assert_int_equal(ST_TRY(lin = x86_seg_lin(&st.vp, X86_FS, 0x2000, 4, X86_ACC_READ)), -1);
    assert_int_equal(lin, 0x1000);
}

static void test_limits_long(void **s)
{
    volatile uint64_t lin = 0;

    (void)s;
    st.vp.cpu.seg[X86_DS].base = 0x5000;
    st.vp.cpu.seg[X86_GS].base = 0xffff800000000000;
    assert_int_equal(ST_TRY(lin = x86_seg_lin(&st.vp, X86_DS, 0x10, 8, X86_ACC_WRITE)), -1);
    assert_int_equal(lin, 0x10);
    assert_int_equal(ST_TRY(lin = x86_seg_lin(&st.vp, X86_GS, 0x10, 8, X86_ACC_WRITE)), -1);
    assert_true(lin == 0xffff800000000010);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_DS, 0x7ffffffffff9, 8, X86_ACC_READ)), X86_EXC_GP);
    assert_int_equal(ST_TRY(x86_seg_lin(&st.vp, X86_SS, 0x800000000000, 8, X86_ACC_READ)), X86_EXC_SS);
}

static void test_load_seg(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_DS, S_D3)), -1);
    assert_int_equal(st_get(ST_GDT + (S_D3 & ~7) + 5, 1), 0xf3); /* accessed */
    assert_int_equal(exclusive, 0);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_DS, S_D0 | 3)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_D0);
    assert_int_equal(c->seg[X86_DS].sel, S_D3);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_DS, S_NPD)), X86_EXC_NP);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_SS, S_NPD)), X86_EXC_SS);
    assert_int_equal(st.vp.exc.error, S_NPD);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_SS, S_RO)), X86_EXC_GP);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_SS, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, S_XO)), X86_EXC_GP);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, S_CONF | 3)), -1);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, S_END)), X86_EXC_GP);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, 0x0c)), X86_EXC_GP); /* no LDT */
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, 3)), -1);
    assert_true(c->seg[X86_ES].attr & SEG_UNUSABLE);
    assert_int_equal(c->flat, 0);
    st.page[ST_GDT / 4096] = 2; /* accessed bit cannot be written */
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, S_D1)), X86_EXC_PF);
    assert_int_equal(st.vp.exc.error, PF_P | PF_W);
}

static void test_load_seg_real(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    c->seg[X86_DS].limit = 0xffffffff; /* unreal mode */
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_DS, 0x1234)), -1);
    assert_int_equal(c->seg[X86_DS].base, 0x12340);
    assert_true(c->seg[X86_DS].limit == 0xffffffff);
    c->seg[X86_ES].attr = SEG_UNUSABLE;
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, 0x40)), -1);
    assert_int_equal(c->seg[X86_ES].attr, SEG_DATA_ACC);
}

static void test_enter(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    struct x86_insn in = insn(X86_OP_ENTER, 4, 0x20);

    (void)s;
    in.imm2 = 3;
    c->gpr[X86_RBP] = 0x5008;
    st_put(0x5004, 0x1111, 4);
    st_put(0x5000, 0x2222, 4);
    assert_int_equal(run(in), -1);
    uint32_t f = ST_STACK0 - 0x104;
    assert_int_equal(c->gpr[X86_RBP], f);
    assert_int_equal(st_get(f, 4), 0x5008);
    assert_int_equal(st_get(f - 4, 4), 0x1111);
    assert_int_equal(st_get(f - 8, 4), 0x2222);
    assert_int_equal(st_get(f - 12, 4), f);
    assert_int_equal(c->gpr[X86_RSP], f - 12 - 0x20);
    st.page[(f - 12 - 0x20 - 0x1010) / 4096] = 1;
    in.imm = 0x1000;
    in.imm2 = 0;
    assert_int_equal(run(in), X86_EXC_PF);
    assert_int_equal(c->gpr[X86_RBP], f);
}

/* ---- protected-mode delivery ---- */

static void test_gate_same(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    uint32_t sp = ST_STACK0 - 0x100;

    (void)s;
    idt(13, st_gate(S_C0, 0x12345, X86_ST_INT32, 0, 0));
    c->eflags |= EF_IF | EF_TF | EF_NT;
    deliver_exc(13, true, 0x55);
    assert_int_equal(c->rip, 0x12345);
    assert_int_equal(c->gpr[X86_RSP], sp - 16);
    assert_int_equal(st_get(sp - 16, 4), 0x55);
    assert_int_equal(st_get(sp - 12, 4), ST_CODE);
    assert_int_equal(st_get(sp - 8, 4), S_C0);
    assert_int_equal(st_get(sp - 4, 4), EF_R1 | EF_IF | EF_TF | EF_NT | EF_RF);
    assert_int_equal(c->eflags, EF_R1);
    /* Trap gate keeps IF; 16-bit gate makes words; an interrupt sets no RF. */
    c->eflags |= EF_IF;
    idt(14, st_gate(S_C0, 0xffff4321, X86_ST_TRAP16, 0, 0));
    assert_int_equal(ST_TRY(x86_interrupt(&st.vp, 14, X86_EV_EXTINT)), -1);
    assert_int_equal(c->rip, 0x4321);
    assert_int_equal(c->gpr[X86_RSP], sp - 22);
    assert_int_equal(st_get(sp - 18, 2), EF_R1 | EF_IF);
    assert_true(c->eflags & EF_IF);
}

static void test_gate_inner(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    to_user();
    idt(0x80, st_gate(S_C0, 0x20000, X86_ST_INT32, 3, 0));
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), -1);
    assert_int_equal(c->cpl, 0);
    assert_int_equal(c->seg[X86_SS].sel, S_D0);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK0 - 20);
    assert_int_equal(st_get(ST_STACK0 - 20, 4), ST_CODE + 2);
    assert_int_equal(st_get(ST_STACK0 - 16, 4), S_C3);
    assert_int_equal(st_get(ST_STACK0 - 8, 4), ST_STACK3);
    assert_int_equal(st_get(ST_STACK0 - 4, 4), S_D3);
    /* And back. */
    assert_int_equal(run(insn(X86_OP_IRET, 4, 0)), -1);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->rip, ST_CODE + 2);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK3);
}

static void test_gate_errors(void **s)
{
    struct x86_cpu *c = &st.vp.cpu, before;

    (void)s;
    to_user();
    idt(0x80, st_gate(S_C0, 0x20000, X86_ST_INT32, 0, 0));
    before = *c;
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP); /* gate DPL */
    assert_int_equal(st.vp.exc.error, 0x80 * 8 + 2);
    assert_int_equal(ST_TRY(x86_interrupt(&st.vp, 0x81, X86_EV_EXTINT)), X86_EXC_GP); /* type 0 */
    assert_int_equal(st.vp.exc.error, 0x81 * 8 + 3);
    st.vp.delivering.valid = 0;
    idt(0x80, st_gate(S_C0, 0x20000, X86_ST_INT32, 3, 0) & ~(1ull << 47));
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_NP);
    idt(0x80, st_gate(0, 0x20000, X86_ST_INT32, 3, 0));
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
    idt(0x80, st_gate(S_D0, 0x20000, X86_ST_INT32, 3, 0));
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_D0);
    idt(0x80, st_gate(S_NPC, 0x20000, X86_ST_INT32, 3, 0));
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_NP);
    idt(0x80, st_gate(S_SMALL, 0x20000, X86_ST_INT32, 3, 0));
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
    idt(0x80, st_gate(S_C0, 0x20000, X86_ST_INT32, 3, 0));
    st_put(ST_TSS + 8, S_D3, 2);
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_TS);
    assert_int_equal(st.vp.exc.error, S_D3 & ~3);
    st_put(ST_TSS + 8, 0, 2);
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_TS);
    assert_int_equal(st.vp.exc.error, 0);
    st_put(ST_TSS + 8, S_NPD, 2);
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_SS);
    assert_int_equal(st.vp.exc.error, S_NPD);
    st_put(ST_TSS + 8, S_D0, 2);
    c->tr.limit = 8;
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_TS);
    assert_int_equal(st.vp.exc.error, S_TSS);
    c->tr.limit = 0x2ff;
    st.page[(ST_STACK0 - 1) / 4096] = 1;
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_PF);
    assert_int_equal(st.vp.exc.error, PF_W);
    c->idtr.limit = 0x80 * 8 + 6;
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP);
    c->idtr.limit = before.idtr.limit;
    assert_memory_equal(c, &before, sizeof(before));
    assert_int_equal(st.stores, 0);
}

static void test_conforming_handler(void **s)
{
    (void)s;
    to_user();
    idt(3, st_gate(S_CONF, 0x30000, X86_ST_TRAP32, 3, 0));
    assert_int_equal(run(insn(X86_OP_INT3, 4, 0)), -1);
    assert_int_equal(st.vp.cpu.cpl, 3);
    assert_int_equal(st.vp.cpu.seg[X86_CS].sel, S_CONF | 3);
    assert_int_equal(st.vp.cpu.gpr[X86_RSP], ST_STACK3 - 12);
}

static void test_double_fault(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    idt(8, st_gate(S_C0, 0x8888, X86_ST_INT32, 0, 0));
    deliver_exc(13, true, 0); /* no gate 13: #GP in #GP */
    assert_int_equal(c->rip, 0x8888);
    assert_int_equal(st_get((uint32_t)c->gpr[X86_RSP], 4), 0);
    assert_int_equal(st.vp.delivering.valid, 0);

    setup_protected(NULL); /* #PF while delivering #GP is just #PF (table 6-5) */
    idt(14, st_gate(S_C0, 0xeeee, X86_ST_INT32, 0, 0));
    st.vp.delivering = (struct x86_pending){ .valid = 1, .vector = 13, .type = X86_EV_FAULT };
    st.vp.exc = (struct x86_pending){ .valid = 1, .vector = 14, .type = X86_EV_FAULT, .has_error = 1,
                                      .cr2 = 0x1234 };
    assert_int_equal(ST_TRY(x86_exception_entry(&st.vp)), -1);
    assert_int_equal(c->rip, 0xeeee);
    assert_int_equal(c->cr2, 0x1234);

    setup_protected(NULL); /* #GP while delivering #PF: double fault */
    idt(8, st_gate(S_C0, 0x8888, X86_ST_INT32, 0, 0));
    deliver_exc(14, true, 0);
    assert_int_equal(c->rip, 0x8888);

    setup_protected(NULL); /* benign first: its successor alone */
    idt(13, st_gate(S_C0, 0xdddd, X86_ST_INT32, 0, 0));
    deliver_exc(6, false, 0);
    assert_int_equal(c->rip, 0xdddd);
    assert_int_equal(st_get((uint32_t)c->gpr[X86_RSP], 4), 6 * 8 + 3);
}

static void test_triple_fault(void **s)
{
    (void)s;
    deliver_exc(0, false, 0); /* empty IDT */
    assert_int_equal(st.vp.exit.reason, HV_EXIT_TRIPLE_FAULT);
    assert_int_equal(st.vp.run_state, HV_VP_SHUTDOWN);
    assert_non_null(strstr(st.vp.exit.text, "triple fault"));
    assert_null(strchr(st.vp.exit.text, '\n'));
}

static void test_debug(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    idt(1, st_gate(S_C0, 0x1111, X86_ST_INT32, 0, 0));
    c->dr[0] = ST_CODE;
    c->dr[7] = 0x2401; /* GD, bit 10, L0 */
    x86_update_mode(&st.vp);
    assert_true(c->key & X86_KEY_STEP);
    assert_int_equal(ST_TRY(x86_debug_fetch(&st.vp)), X86_EXC_DB);
    assert_int_equal(ST_TRY(x86_exception_entry(&st.vp)), -1);
    assert_int_equal(c->dr[6], 0xffff0ff1);
    assert_int_equal(c->dr[7], 0x401);
    assert_int_equal(st_get((uint32_t)c->gpr[X86_RSP] + 8, 4), EF_R1); /* RF is the handler's affair */
    c->rip = ST_CODE;
    c->eflags |= EF_RF;
    assert_int_equal(ST_TRY(x86_debug_fetch(&st.vp)), -1);
    c->int_shadow = 2;
    assert_int_equal(ST_TRY(x86_debug_trap(&st.vp, DR6_BS)), -1);
    assert_int_equal(c->rip, ST_CODE);
    c->int_shadow = 0;
    c->eflags &= ~(uint32_t)EF_RF;
    assert_int_equal(ST_TRY(x86_debug_trap(&st.vp, DR6_BS)), -1);
    assert_int_equal(c->rip, 0x1111);
    assert_int_equal(c->dr[6], 0xffff4ff0);
}

/* ---- long mode ---- */

static void test_long_gate(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    uint32_t sp;

    (void)s;
    idt64(0x30, S_C64, 0x123456, X86_ST_INT32, 0, 0);
    c->gpr[X86_RSP] = ST_STACK0 - 0x105; /* the frame is aligned */
    c->eflags |= EF_IF;
    assert_int_equal(ST_TRY(x86_interrupt(&st.vp, 0x30, X86_EV_EXTINT)), -1);
    sp = ((ST_STACK0 - 0x105) & ~15) - 40;
    assert_int_equal(c->gpr[X86_RSP], sp);
    assert_int_equal(c->rip, 0x123456);
    assert_int_equal(st_get(sp, 8), ST_CODE);
    assert_int_equal(st_get(sp + 8, 8), S_C64);
    assert_int_equal(st_get(sp + 16, 8), EF_R1 | EF_IF);
    assert_int_equal(st_get(sp + 24, 8), ST_STACK0 - 0x105);
    assert_int_equal(st_get(sp + 32, 8), S_D0);
    assert_int_equal(run(insn(X86_OP_IRET, 8, 0)), -1);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK0 - 0x105);
    assert_true(c->eflags & EF_IF);
}

static void test_long_inner(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    set_seg(X86_CS, S_C64U);
    set_seg(X86_SS, S_D3);
    c->gpr[X86_RSP] = ST_STACK3;
    x86_update_mode(&st.vp);
    assert_int_equal(c->cpl, 3);
    idt64(14, S_C64, 0x4000, X86_ST_INT32, 0, 1);
    st.vp.exc = (struct x86_pending){ .valid = 1, .vector = 14, .type = X86_EV_FAULT, .has_error = 1,
                                      .error = 7, .cr2 = 0xdead };
    assert_int_equal(ST_TRY(x86_exception_entry(&st.vp)), -1);
    assert_int_equal(c->cpl, 0);
    assert_int_equal(c->gpr[X86_RSP], 0x6000 - 48); /* IST1 */
    assert_int_equal(c->seg[X86_SS].sel, 0);
    assert_true(c->seg[X86_SS].attr & SEG_UNUSABLE);
    assert_int_equal(st_get(0x6000 - 48, 8), 7);
    assert_int_equal(c->cr2, 0xdead);
    c->gpr[X86_RSP] += 8;
    assert_int_equal(run(insn(X86_OP_IRET, 8, 0)), -1);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK3);
    /* INT n without privilege, and a non-canonical target. */
    idt64(0x80, S_C64, 0x800000000000, X86_ST_INT32, 3, 0);
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
    idt64(0x80, S_C0, 0x8000, X86_ST_INT32, 3, 0); /* not a 64-bit segment */
    assert_int_equal(run(insn(X86_OP_INT, 4, 0x80)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_C0);
}

static void test_syscall(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    set_seg(X86_CS, S_C64U);
    set_seg(X86_SS, S_D3);
    c->eflags |= EF_IF;
    c->star = (uint64_t)0x0023 << 48 | (uint64_t)0x0010 << 32;
    c->lstar = 0xffffffff81000000;
    c->sfmask = EF_IF | EF_TF;
    x86_update_mode(&st.vp);
    assert_int_equal(run(insn(X86_OP_SYSCALL, 4, 0)), -1);
    assert_true(c->rip == 0xffffffff81000000);
    assert_int_equal(c->gpr[X86_RCX], ST_CODE + 2);
    assert_int_equal(c->gpr[X86_R11], EF_R1 | EF_IF);
    assert_int_equal(c->cpl, 0);
    assert_false(c->eflags & EF_IF);
    assert_int_equal(c->seg[X86_CS].sel, 0x10);
    assert_int_equal(c->seg[X86_SS].sel, 0x18);
    assert_int_equal(run(insn(X86_OP_SYSRET, 8, 0)), -1);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->seg[X86_CS].sel, 0x33);
    assert_int_equal(c->seg[X86_SS].sel, 0x2b);
    assert_int_equal(c->mode, X86_MODE_64);
    assert_int_equal(run(insn(X86_OP_SYSRET, 8, 0)), X86_EXC_GP);
    c->efer &= ~(uint64_t)EFER_SCE;
    assert_int_equal(run(insn(X86_OP_SYSCALL, 4, 0)), X86_EXC_UD);
}

static void test_sysenter(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    to_user();
    assert_int_equal(run(insn(X86_OP_SYSENTER, 4, 0)), X86_EXC_GP);
    c->sysenter_cs = 0x08;
    c->sysenter_esp = 0x7000;
    c->sysenter_eip = 0x9000;
    c->eflags |= EF_IF;
    assert_int_equal(run(insn(X86_OP_SYSENTER, 4, 0)), -1);
    assert_int_equal(c->rip, 0x9000);
    assert_int_equal(c->gpr[X86_RSP], 0x7000);
    assert_int_equal(c->cpl, 0);
    assert_int_equal(c->eflags & EF_IF, 0);
    c->gpr[X86_RDX] = 0x1234;
    c->gpr[X86_RCX] = 0x5678;
    assert_int_equal(run(insn(X86_OP_SYSEXIT, 4, 0)), -1);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->seg[X86_CS].sel, 0x1b);
    assert_int_equal(c->rip, 0x1234);
    assert_int_equal(run(insn(X86_OP_SYSEXIT, 4, 0)), X86_EXC_GP);
}

/* ---- far transfers ---- */

static struct x86_insn far(unsigned op, uint16_t sel, uint64_t off)
{
    struct x86_insn in = insn(op, 4, (int64_t)off);

    in.imm2 = sel;
    return in;
}

static void test_far(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    uint32_t sp = ST_STACK0 - 0x100;

    (void)s;
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_C0, 0x700)), -1);
    assert_int_equal(c->rip, 0x700);
    assert_int_equal(st_get(sp - 8, 4), ST_CODE + 2);
    assert_int_equal(st_get(sp - 4, 4), S_C0);
    assert_int_equal(run(insn(X86_OP_RET_FAR, 4, 8)), -1);
    assert_int_equal(c->rip, ST_CODE + 2);
    assert_int_equal(c->gpr[X86_RSP], sp + 8);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_C16, 0x20)), -1);
    assert_int_equal(c->mode, X86_MODE_16);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_SMALL, 0x2000)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
    assert_int_equal(run(far(X86_OP_JMP_FAR, 0, 0x2000)), X86_EXC_GP);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_D0, 0x2000)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_D0);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_C3, 0x2000)), X86_EXC_GP);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_NPC, 0x2000)), X86_EXC_NP);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_CONF, 0x2000)), -1);
    assert_int_equal(c->seg[X86_CS].sel, S_CONF);
}

static void test_call_gate(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    to_user();
    st_gdt(S_GATE, st_gate(S_C0, 0x7777, X86_ST_CALL32, 3, 2));
    st_put(ST_STACK3, 0xaaaa, 4);
    st_put(ST_STACK3 + 4, 0xbbbb, 4);
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_GATE | 3, 0xdeadbeef)), -1);
    assert_int_equal(c->cpl, 0);
    assert_int_equal(c->rip, 0x7777);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK0 - 24);
    assert_int_equal(st_get(ST_STACK0 - 24, 4), ST_CODE + 2);
    assert_int_equal(st_get(ST_STACK0 - 20, 4), S_C3);
    assert_int_equal(st_get(ST_STACK0 - 16, 4), 0xaaaa);
    assert_int_equal(st_get(ST_STACK0 - 12, 4), 0xbbbb);
    assert_int_equal(st_get(ST_STACK0 - 8, 4), ST_STACK3);
    assert_int_equal(st_get(ST_STACK0 - 4, 4), S_D3);
    set_seg(X86_ES, S_D0); /* must not survive the return */
    assert_int_equal(run(insn(X86_OP_RET_FAR, 4, 8)), -1);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK3 + 8);
    assert_int_equal(c->seg[X86_ES].sel, 0);
    assert_true(c->seg[X86_ES].attr & SEG_UNUSABLE);
    assert_int_equal(c->seg[X86_DS].sel, S_D3);
    /* JMP through the gate may not change the level; a gate of DPL 0 is out of reach. */
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_GATE | 3, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_C0);
    st_gdt(S_GATE, st_gate(S_C0, 0x7777, X86_ST_CALL32, 0, 2));
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_GATE | 3, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_GATE);
    /* Ring 1 in between. */
    st_gdt(S_GATE, st_gate(S_C1, 0x7777, X86_ST_CALL16, 3, 0));
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_GATE | 3, 0)), -1);
    assert_int_equal(c->cpl, 1);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK0 - 0x800 - 8);
}

static void test_call_gate_long(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    struct x86_insn in;

    (void)s;
    set_seg(X86_CS, S_C64U);
    set_seg(X86_SS, S_D3);
    c->gpr[X86_RSP] = ST_STACK3;
    x86_update_mode(&st.vp);
    st_gdt(S_GATE, st_gate(S_C64, 0x77778888, X86_ST_CALL32, 3, 0));
    st_put(ST_GDT + S_GATE + 8, 0xffff8000, 8);
    in = insn(X86_OP_CALL_FARM, 4, 0);
    in.asize = 8;
    in.disp = 0x5000;
    st_put(0x5004, S_GATE | 3, 2);
    assert_int_equal(run(in), -1);
    assert_true(c->rip == 0xffff800077778888);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK0 - 32);
    assert_int_equal(c->seg[X86_SS].sel, 0);
    assert_int_equal(st_get(ST_STACK0 - 8, 8), S_D3);
    assert_int_equal(st_get(ST_STACK0 - 16, 8), ST_STACK3);
    assert_int_equal(run(insn(X86_OP_RET_FAR, 8, 0)), -1);
    assert_int_equal(c->cpl, 3);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK3);
    st_put(ST_GDT + S_GATE + 12, 0x0500, 4); /* type of the upper half */
    assert_int_equal(run(in), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_GATE);
}

static void test_retf_checks(void **s)
{
    uint32_t sp = ST_STACK0 - 0x100;

    (void)s;
    st_put(sp, 0x100, 4);
    st_put(sp + 4, 0, 4);
    assert_int_equal(run(insn(X86_OP_RET_FAR, 4, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
    st_put(sp + 4, S_C0 | 3, 4); /* DPL != RPL */
    assert_int_equal(run(insn(X86_OP_RET_FAR, 4, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_C0);
    st_put(sp + 4, S_C3, 4);
    st_put(sp + 8, ST_STACK3, 4);
    st_put(sp + 12, S_D0, 4);
    assert_int_equal(run(insn(X86_OP_RET_FAR, 4, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_D0);
    assert_int_equal(st.vp.cpu.gpr[X86_RSP], sp);
    to_user();
    st_put(ST_STACK3, 0x100, 4);
    st_put(ST_STACK3 + 4, S_C0, 4); /* inward */
    assert_int_equal(run(insn(X86_OP_RET_FAR, 4, 0)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_C0);
}

static void test_iret_flags(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    uint32_t all = EF_ARITH | EF_R1 | EF_TF | EF_IF | EF_DF | EF_NT | EF_AC | EF_ID | EF_IOPL;

    (void)s;
    to_user();
    st_put(ST_STACK3, 0x100, 4);
    st_put(ST_STACK3 + 4, S_C3, 4);
    st_put(ST_STACK3 + 8, all, 4);
    assert_int_equal(run(insn(X86_OP_IRET, 4, 0)), -1);
    assert_int_equal(x86_flags_get(c), all & ~(EF_IF | EF_IOPL));
    c->eflags = EF_R1 | EF_IOPL | EF_VIP;
    st_put(ST_STACK3 + 12, all & ~EF_IOPL, 4);
    assert_int_equal(run(insn(X86_OP_POPF, 4, 0)), -1);
    assert_int_equal(x86_flags_get(c), all | EF_VIP); /* IF may change, IOPL not */
}

/* ---- virtual-8086 mode ---- */

static void enter_vm86(uint32_t flags)
{
    uint32_t sp = ST_STACK0 - 0x100;
    static const uint32_t f[] = { 0x10, ST_CODE >> 4, 0, 0x7000, 0x0a00, 1, 2, 3, 4 };

    for (unsigned i = 0; i < 9; i++)
        st_put(sp + i * 4, f[i], 4);
    st_put(sp + 8, flags | EF_VM, 4);
    assert_int_equal(run(insn(X86_OP_IRET, 4, 0)), -1);
}

static void test_vm86(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    enter_vm86(EF_IF);
    assert_int_equal(c->mode, X86_MODE_16);
    assert_int_equal(c->cpl, 3);
    assert_true(c->key & X86_KEY_VM86);
    assert_int_equal(c->rip, 0x10);
    assert_int_equal(c->seg[X86_CS].base, ST_CODE);
    assert_int_equal(c->seg[X86_SS].base, 0xa000);
    assert_int_equal(c->seg[X86_ES].base, 0x10);
    assert_int_equal(c->seg[X86_GS].sel, 4);
    /* IOPL 0: sensitive instructions and INT n fault, an exception goes to level 0. */
    assert_int_equal(run(insn(X86_OP_INT, 2, 0x21)), X86_EXC_GP);
    assert_int_equal(run(insn(X86_OP_PUSHF, 2, 0)), X86_EXC_GP);
    assert_int_equal(run(insn(X86_OP_IRET, 2, 0)), X86_EXC_GP);
    idt(13, st_gate(S_C0, 0x4000, X86_ST_INT32, 0, 0));
    deliver_exc(13, true, 0);
    assert_int_equal(c->cpl, 0);
    assert_false(c->eflags & EF_VM);
    assert_int_equal(c->gpr[X86_RSP], ST_STACK0 - 40);
    assert_int_equal(st_get(ST_STACK0 - 4, 4), 4);  /* GS */
    assert_int_equal(st_get(ST_STACK0 - 16, 4), 1); /* ES */
    assert_int_equal(st_get(ST_STACK0 - 20, 4), 0x0a00);
    assert_int_equal(st_get(ST_STACK0 - 28, 4), EF_R1 | EF_VM | EF_IF | EF_RF);
    assert_true(c->seg[X86_DS].attr & SEG_UNUSABLE);
    c->gpr[X86_RSP] += 4;
    assert_int_equal(run(insn(X86_OP_IRET, 4, 0)), -1);
    assert_true(c->eflags & EF_VM);
    assert_int_equal(c->rip, 0x10);
    /* A handler that is not at level 0. */
    idt(13, st_gate(S_C1, 0x4000, X86_ST_INT32, 3, 0));
    assert_int_equal(ST_TRY(x86_interrupt(&st.vp, 13, X86_EV_EXTINT)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, (S_C1 & ~3) | 1);
}

static void test_vm86_vme(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    enter_vm86(EF_VIF);
    c->cr4 |= CR4_VME;
    st_put(ST_TSS + 0x66, 0x88, 2);
    st_put(0x21 * 4, 0x12345678, 4);
    assert_int_equal(run(insn(X86_OP_INT, 2, 0x21)), -1);
    assert_int_equal(c->rip, 0x5678);
    assert_int_equal(c->seg[X86_CS].sel, 0x1234);
    assert_true(c->eflags & EF_VM);
    assert_false(c->eflags & EF_VIF);
    assert_int_equal(st_get(0xa000 + 0x6ffe, 2), EF_R1 | EF_IF | EF_IOPL);
    assert_int_equal(st_get(0xa000 + 0x6ffa, 2), 0x12);
    assert_int_equal(run(insn(X86_OP_IRET, 2, 0)), -1);
    assert_true(c->eflags & EF_VIF);
    assert_int_equal(c->eflags & EF_IOPL, 0);
    /* Pending virtual interrupt: enabling faults. */
    c->eflags |= EF_VIP;
    assert_int_equal(run(insn(X86_OP_PUSHF, 2, 0)), -1);
    assert_int_equal(run(insn(X86_OP_POPF, 2, 0)), X86_EXC_GP);
    /* Not redirected: needs IOPL 3. */
    st_put(ST_TSS + 0x68 + 4, 2, 1);
    assert_int_equal(run(insn(X86_OP_INT, 2, 0x21)), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, 0);
}

/* ---- real mode ---- */

static void test_real(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    st_put(0x10 * 4, 0x20001234, 4);
    c->eflags |= EF_IF;
    assert_int_equal(run(insn(X86_OP_INT, 2, 0x10)), -1);
    assert_int_equal(c->rip, 0x1234);
    assert_int_equal(c->seg[X86_CS].base, 0x20000);
    assert_int_equal(c->gpr[X86_RSP], 0x6ffa);
    assert_int_equal(st_get(0x6ffa, 2), 0x12);
    assert_int_equal(st_get(0x6ffc, 2), ST_CODE >> 4);
    assert_int_equal(st_get(0x6ffe, 2), EF_R1 | EF_IF);
    assert_int_equal(c->eflags & EF_IF, 0);
    assert_int_equal(run(insn(X86_OP_IRET, 2, 0)), -1);
    assert_int_equal(c->rip, 0x12);
    assert_true(c->eflags & EF_IF);
    assert_int_equal(run(far(X86_OP_JMP_FAR, 0x3000, 0x10000)), X86_EXC_GP);
    /* SP = 0 wraps to the top; SP = 2 does not have room in one piece but wraps by element. */
    c->gpr[X86_RSP] = 0xdead0002;
    assert_int_equal(run(insn(X86_OP_INT, 2, 0x10)), -1);
    assert_int_equal(c->gpr[X86_RSP], 0xdeadfffc);
    assert_int_equal(st_get(0, 2), EF_R1 | EF_IF);
    assert_int_equal(st_get(0xfffc, 2), 0x14);
    c->gpr[X86_RSP] = 1;
    assert_int_equal(run(insn(X86_OP_INT, 2, 0x10)), X86_EXC_SS);
    /* No room in the table: #GP, #DF, shutdown. */
    setup_real(NULL);
    c->idtr.limit = 3;
    deliver_exc(13, false, 0);
    assert_int_equal(st.vp.exit.reason, HV_EXIT_TRIPLE_FAULT);
}

/* ---- LAR, LSL, VERR, VERW, ARPL, tables ---- */

static int lar_lsl(unsigned op, uint16_t sel, uint64_t *val)
{
    struct x86_insn in = insn(op, 4, 0);

    in.o[0] = (struct x86_operand){ X86_O_GPR, X86_RAX, 4, X86_WR };
    in.o[1] = (struct x86_operand){ X86_O_GPR, X86_RCX, 2, X86_RD };
    st.vp.cpu.gpr[X86_RAX] = 0xcccccccc;
    st.vp.cpu.gpr[X86_RCX] = sel;
    assert_int_equal(run(in), -1);
    *val = st.vp.cpu.gpr[X86_RAX];
    return (st.vp.cpu.fl & FL_ZF) != 0;
}

static void lar_table(uint16_t lar_mask, uint16_t lsl_mask)
{
    uint64_t v;

    for (unsigned t = 0; t < 16; t++) {
        st_gdt(S_GATE, st_desc(0x1234, 0x567, 0x80 | t));
        assert_int_equal(lar_lsl(X86_OP_LAR, S_GATE, &v), (lar_mask >> t) & 1);
        assert_int_equal(v, (lar_mask >> t) & 1 ? (0x8000u | t << 8) : 0xccccccccu);
        assert_int_equal(lar_lsl(X86_OP_LSL, S_GATE, &v), (lsl_mask >> t) & 1);
        assert_int_equal(v, (lsl_mask >> t) & 1 ? 0x567u : 0xccccccccu);
    }
}

static void test_lar_lsl(void **s)
{
    uint64_t v;

    (void)s;
    lar_table(1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 9 | 1 << 11 | 1 << 12,
              1 << 1 | 1 << 2 | 1 << 3 | 1 << 9 | 1 << 11);
    assert_int_equal(lar_lsl(X86_OP_LAR, S_C0, &v), 1);
    assert_int_equal(v, 0x00c09a00);
    assert_int_equal(lar_lsl(X86_OP_LSL, S_C0, &v), 1);
    assert_int_equal(v, 0xffffffff);
    assert_int_equal(lar_lsl(X86_OP_LAR, 0, &v), 0);
    assert_int_equal(lar_lsl(X86_OP_LAR, S_END, &v), 0);
    assert_int_equal(lar_lsl(X86_OP_LAR, S_C0 | 3, &v), 0);
    assert_int_equal(lar_lsl(X86_OP_LAR, S_CONF | 3, &v), 1);
    to_user();
    assert_int_equal(lar_lsl(X86_OP_LAR, S_D0, &v), 0);
    assert_int_equal(lar_lsl(X86_OP_LAR, S_D3, &v), 1);
}

static void test_lar_lsl_long(void **s)
{
    (void)s;
    lar_table(1 << 2 | 1 << 9 | 1 << 11 | 1 << 12, 1 << 2 | 1 << 9 | 1 << 11);
}

static int verify(unsigned op, uint16_t sel)
{
    struct x86_insn in = insn(op, 2, 0);

    in.o[0] = (struct x86_operand){ X86_O_GPR, X86_RCX, 2, X86_RD };
    st.vp.cpu.gpr[X86_RCX] = sel;
    assert_int_equal(run(in), -1);
    return (st.vp.cpu.fl & FL_ZF) != 0;
}

static void test_verr(void **s)
{
    (void)s;
    assert_int_equal(verify(X86_OP_VERR, S_D0), 1);
    assert_int_equal(verify(X86_OP_VERR, S_C0), 1);
    assert_int_equal(verify(X86_OP_VERR, S_XO), 0);
    assert_int_equal(verify(X86_OP_VERR, S_TSS), 0);
    assert_int_equal(verify(X86_OP_VERR, S_CONF | 3), 1);
    assert_int_equal(verify(X86_OP_VERW, S_D0), 1);
    assert_int_equal(verify(X86_OP_VERW, S_RO), 0);
    assert_int_equal(verify(X86_OP_VERW, S_C0), 0);
    assert_int_equal(verify(X86_OP_VERW, S_D0 | 1), 0);
}

static void test_lldt_ltr(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    struct x86_insn in = insn(X86_OP_LLDT, 2, 0);

    (void)s;
    in.o[0] = (struct x86_operand){ X86_O_GPR, X86_RCX, 2, X86_RD };
    c->gpr[X86_RCX] = S_LDT;
    assert_int_equal(run(in), -1);
    assert_int_equal(c->ldtr.base, ST_LDT);
    st_put(ST_LDT + 8, st_desc(0x100, 0x10, 0x40f2), 8);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, 0x0f)), -1);
    assert_int_equal(c->seg[X86_ES].base, 0x100);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, 0x37)), X86_EXC_GP); /* beyond the LDT */
    c->gpr[X86_RCX] = S_D0;
    assert_int_equal(run(in), X86_EXC_GP);
    assert_int_equal(st.vp.exc.error, S_D0);
    in.op = X86_OP_LTR;
    c->gpr[X86_RCX] = S_TSS2;
    assert_int_equal(run(in), -1);
    assert_int_equal(st_get(ST_GDT + S_TSS2 + 5, 1), 0x8b);
    assert_int_equal(run(in), X86_EXC_GP); /* busy */
    c->gpr[X86_RCX] = 0;
    assert_int_equal(run(in), X86_EXC_GP);
    in.op = X86_OP_LLDT;
    assert_int_equal(run(in), -1);
    assert_int_equal(ST_TRY(x86_load_seg(&st.vp, X86_ES, 0x0f)), X86_EXC_GP);
    to_user();
    assert_int_equal(run(in), X86_EXC_GP);
}

static void test_umip_lmsw(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;
    struct x86_insn in = insn(X86_OP_LMSW, 2, 0);

    (void)s;
    in.o[0] = (struct x86_operand){ X86_O_GPR, X86_RCX, 2, X86_RD };
    c->gpr[X86_RCX] = CR0_TS;
    assert_int_equal(run(in), -1);
    assert_int_equal(c->cr0, CR0_PE | CR0_TS); /* PE stays */
    assert_true(c->key & X86_KEY_NOFPU);
    in = insn(X86_OP_SGDT, 4, 0);
    in.disp = 0x5000;
    assert_int_equal(run(in), -1);
    assert_int_equal(st_get(0x5000, 2), S_END - 1);
    assert_int_equal(st_get(0x5002, 4), ST_GDT);
    to_user();
    c->cr4 |= CR4_UMIP;
    assert_int_equal(run(in), X86_EXC_GP);
}

static void test_mov_ss(void **s)
{
    struct x86_insn in = insn(X86_OP_MOV_SREG, 4, 0);

    (void)s;
    in.o[0] = (struct x86_operand){ X86_O_SREG, X86_SS, 2, X86_WR };
    in.o[1] = (struct x86_operand){ X86_O_GPR, X86_RCX, 2, X86_RD };
    st.vp.cpu.gpr[X86_RCX] = S_D0;
    assert_int_equal(run(in), -1);
    assert_int_equal(st.vp.cpu.int_shadow, 2);
    assert_true(st.vp.cpu.key & X86_KEY_STEP);
    in.o[0].reg = X86_CS;
    assert_int_equal(run(in), X86_EXC_UD);
}

/* ---- tasks ---- */

static void make_tss2(uint32_t eflags)
{
    memset(st.mem + ST_TSS2, 0, 0x68);
    st_put(ST_TSS2 + 0x20, 0x4444, 4);
    st_put(ST_TSS2 + 0x24, eflags, 4);
    for (unsigned i = 0; i < 8; i++)
        st_put(ST_TSS2 + 0x28 + i * 4, 0x100 + i, 4);
    st_put(ST_TSS2 + 0x38, 0x7800, 4); /* ESP */
    st_put(ST_TSS2 + 0x48, S_D0, 2);
    st_put(ST_TSS2 + 0x4c, S_C0, 2);
    st_put(ST_TSS2 + 0x50, S_D0, 2);
    st_put(ST_TSS2 + 0x54, S_D0, 2);
}

static void test_task_call(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    make_tss2(EF_R1);
    c->gpr[X86_RAX] = 0xabcd;
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_TSS2, 0)), -1);
    assert_int_equal(c->rip, 0x4444);
    assert_int_equal(c->gpr[X86_RCX], 0x101);
    assert_int_equal(c->tr.sel, S_TSS2);
    assert_int_equal(c->eflags, EF_R1 | EF_NT);
    assert_true(c->cr0 & CR0_TS);
    assert_int_equal(st_get(ST_TSS2, 2), S_TSS);
    assert_int_equal(st_get(ST_GDT + S_TSS2 + 5, 1), 0x8b);
    assert_int_equal(st_get(ST_GDT + S_TSS + 5, 1), 0x8b); /* still busy */
    assert_int_equal(st_get(ST_TSS + 0x20, 4), ST_CODE + 2);
    assert_int_equal(st_get(ST_TSS + 0x28, 4), 0xabcd);
    assert_int_equal(st_get(ST_TSS + 0x4c, 2), S_C0);
    assert_int_equal(run(insn(X86_OP_IRET, 4, 0)), -1); /* NT: back */
    assert_int_equal(c->tr.sel, S_TSS);
    assert_int_equal(c->rip, ST_CODE + 2);
    assert_int_equal(c->gpr[X86_RAX], 0xabcd);
    assert_int_equal(st_get(ST_GDT + S_TSS2 + 5, 1), 0x89);
    assert_int_equal(st_get(ST_TSS2 + 0x24, 4), EF_R1); /* saved without NT */
}

static void test_task_jmp(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    make_tss2(EF_R1);
    st_gdt(S_TASK, st_gate(S_TSS2, 0, X86_ST_TASK, 0, 0));
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_TASK, 0)), -1);
    assert_int_equal(c->eflags, EF_R1);
    assert_int_equal(st_get(ST_GDT + S_TSS + 5, 1), 0x89);
    assert_int_equal(st_get(ST_GDT + S_TSS2 + 5, 1), 0x8b);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_TSS2, 0)), X86_EXC_GP); /* busy */
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_TSS, 0)), -1);
}

static void test_task_interrupt(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    make_tss2(EF_R1);
    idt(8, st_gate(S_TSS2, 0, X86_ST_TASK, 0, 0));
    to_user();
    deliver_exc(13, true, 0); /* no gate: double fault through the task gate */
    assert_int_equal(c->tr.sel, S_TSS2);
    assert_int_equal(c->cpl, 0);
    assert_int_equal(c->gpr[X86_RSP], 0x7800 - 4);
    assert_int_equal(st_get(0x7800 - 4, 4), 0);
    assert_true(c->eflags & EF_NT);
    assert_int_equal(st.vp.delivering.valid, 0);
    assert_int_equal(st_get(ST_TSS + 0x20, 4), ST_CODE);
}

static void test_task_faults(void **s)
{
    struct x86_cpu *c = &st.vp.cpu, before;

    (void)s;
    make_tss2(EF_R1);
    before = *c;
    st.page[ST_TSS / 4096] = 2; /* old TSS not writable (both are in one page) */
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_TSS2, 0)), X86_EXC_PF);
    assert_memory_equal(c, &before, sizeof(before));
    st.page[ST_TSS / 4096] = 0;
    st_gdt(S_TSS2, st_desc(ST_TSS2, 0x66, 0x89));
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_TSS2, 0)), X86_EXC_TS);
    assert_int_equal(st.vp.exc.error, S_TSS2);
    st_gdt(S_TSS2, st_desc(ST_TSS2, 0x67, 0x09));
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_TSS2, 0)), X86_EXC_NP);
    assert_memory_equal(c, &before, sizeof(before));
    st_gdt(S_TSS2, st_desc(ST_TSS2, 0x67, 0x89));
    /* A bad segment is a fault of the new task. */
    st_put(ST_TSS2 + 0x50, S_RO, 2);
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_TSS2, 0)), X86_EXC_TS);
    assert_int_equal(st.vp.exc.error, S_RO);
    assert_int_equal(c->tr.sel, S_TSS2);
    assert_int_equal(c->rip, 0x4444);
    /* IRET to a TSS that is not busy. */
    setup_protected(NULL);
    c->eflags |= EF_NT;
    st_put(ST_TSS, S_TSS2, 2);
    assert_int_equal(run(insn(X86_OP_IRET, 4, 0)), X86_EXC_TS);
    assert_int_equal(st.vp.exc.error, S_TSS2);
}

static void test_task_vm86(void **s)
{
    (void)s;
    make_tss2(EF_R1 | EF_VM);
    st_put(ST_TSS2 + 0x4c, 0x1000, 2);
    st_put(ST_TSS2 + 0x20, 0x10, 4);
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_TSS2, 0)), -1);
    assert_true(st.vp.cpu.key & X86_KEY_VM86);
    assert_int_equal(st.vp.cpu.seg[X86_CS].base, 0x10000);
    assert_int_equal(st.vp.cpu.cpl, 3);
}

static void test_task16(void **s)
{
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    st_gdt(S_TSS2, st_desc(ST_TSS2, 0x2b, 0x81));
    st_put(ST_TSS2 + 0x0e, 0x5555, 2);
    st_put(ST_TSS2 + 0x10, EF_R1, 2);
    st_put(ST_TSS2 + 0x12, 0x0a0a, 2);
    st_put(ST_TSS2 + 0x1a, 0x7000, 2);
    st_put(ST_TSS2 + 0x22, S_D16, 2);
    st_put(ST_TSS2 + 0x24, S_C16, 2);
    st_put(ST_TSS2 + 0x26, S_D16, 2);
    st_put(ST_TSS2 + 0x28, S_D16, 2);
    assert_int_equal(run(far(X86_OP_CALL_FAR, S_TSS2, 0)), -1);
    assert_int_equal(c->rip, 0x5555);
    assert_int_equal(c->mode, X86_MODE_16);
    assert_int_equal(c->gpr[X86_RAX], 0x0a0a);
    assert_int_equal(st_get(ST_GDT + S_TSS2 + 5, 1), 0x83);
    assert_int_equal(run(insn(X86_OP_IRET, 2, 0)), -1);
    assert_int_equal(c->tr.sel, S_TSS);
    assert_int_equal(st_get(ST_TSS2 + 0x0e, 2), 0x5557);
}

static void test_task_trap_bit(void **s)
{
    (void)s;
    make_tss2(EF_R1);
    st_put(ST_TSS2 + 0x64, 1, 1);
    idt(1, st_gate(S_C0, 0x1111, X86_ST_INT32, 0, 0));
    st.vp.cpu.dr[7] = 0x555;
    assert_int_equal(run(far(X86_OP_JMP_FAR, S_TSS2, 0)), -1);
    assert_int_equal(st.vp.cpu.rip, 0x1111);
    assert_true(st.vp.cpu.dr[6] & DR6_BT);
    assert_int_equal(st.vp.cpu.dr[7], 0x400);
    assert_int_equal(st_get(0x7800 - 12, 4), 0x4444);
}

/* ---- whatever a guest may set up ---- */

static uint64_t rnd_state;

static uint32_t rnd(void)
{
    rnd_state ^= rnd_state << 13;
    rnd_state ^= rnd_state >> 7;
    rnd_state ^= rnd_state << 17;
    return (uint32_t)(rnd_state >> 16);
}

static void random_tables(void)
{
    for (unsigned i = 1; i < S_END / 8; i++)
        st_gdt((uint16_t)(i * 8), st_desc(rnd() & 0xfffff, rnd() % 3 ? 0xfffff : rnd() & 0xfff, rnd() & 0xf0ff) |
                                      (rnd() % 4 ? 1ull << 47 : 0));
    for (unsigned i = 0; i < 0x1000; i += 8)
        st_put(ST_IDT + i, st_gate((uint16_t)(rnd() % S_END), rnd() & 0x1ffff, rnd() & 31, rnd() & 3, rnd() & 31), 8);
    for (unsigned i = 0; i < 0x1000; i += 4)
        st_put(ST_TSS + i, rnd() % 3 ? rnd() % S_END : rnd() & 0xfffff, 4);
}

static void random_state(void)
{
    struct x86_cpu *c = &st.vp.cpu;

    for (unsigned i = 0; i < 16; i++)
        c->gpr[i] = rnd() % 4 ? rnd() & 0xffff : (uint64_t)rnd() << 32 | rnd();
    for (unsigned i = 0; i < 6; i++) {
        struct x86_desc d;

        d.lo = st_get(ST_GDT + (rnd() % (S_END / 8)) * 8, 8);
        d.attr = x86_desc_attr(d.lo) | SEG_P | SEG_S;
        x86_desc_seg(&d, (uint16_t)rnd(), &c->seg[i]);
    }
    c->cr0 = (c->cr0 & ~(uint64_t)CR0_PE) | (rnd() % 8 ? CR0_PE : 0);
    c->efer = EFER_SCE | ((c->cr0 & CR0_PE) && rnd() % 2 ? EFER_LMA | EFER_LME : 0);
    c->cr4 = rnd() & (CR4_VME | CR4_UMIP | CR4_PAE);
    c->eflags = EF_R1 | (rnd() & (EF_IOPL | EF_IF | EF_TF | EF_AC | EF_VIF | EF_VIP)) | (rnd() % 8 ? 0 : EF_NT) |
                ((c->cr0 & CR0_PE) && !(c->efer & EFER_LMA) && rnd() % 4 == 0 ? EF_VM : 0u);
    c->gdtr.limit = rnd() % 4 ? S_END - 1 : rnd() & 0xffff;
    c->idtr = (struct x86_dtr){ ST_IDT, rnd() & 0xfff };
    c->tr.attr = rnd() & 1 ? 0x8b : 0x83;
    c->tr.base = ST_TSS;
    c->tr.limit = rnd() % 4 ? 0x2ff : rnd() & 0xff;
    c->dr[7] = rnd();
    c->rip = rnd();
    c->star = (uint64_t)rnd() << 32;
    c->sysenter_cs = rnd() & 0xff;
    memset(st.page, 0, sizeof(st.page));
    st.page[rnd() % 16] = rnd() & 3;
    x86_update_mode(&st.vp);
}

static void test_random(void **s)
{
    static const uint16_t ops[] = {
        X86_OP_CALL_FAR, X86_OP_CALL_FARM, X86_OP_JMP_FAR, X86_OP_JMP_FARM, X86_OP_RET_FAR, X86_OP_IRET, X86_OP_INT,
        X86_OP_INT3, X86_OP_INTO, X86_OP_INT1, X86_OP_BOUND, X86_OP_SYSCALL, X86_OP_SYSRET, X86_OP_SYSENTER,
        X86_OP_SYSEXIT, X86_OP_MOV_SREG, X86_OP_POP_SREG, X86_OP_PUSH_SREG, X86_OP_LES, X86_OP_LSS, X86_OP_LAR,
        X86_OP_LSL, X86_OP_VERR, X86_OP_VERW, X86_OP_LLDT, X86_OP_LTR, X86_OP_LGDT, X86_OP_SGDT, X86_OP_PUSHF,
        X86_OP_POPF, X86_OP_ENTER, X86_OP_LMSW, X86_OP_SWAPGS, X86_OP_COUNT /* an exception */,
    };
    struct x86_cpu *c = &st.vp.cpu;

    (void)s;
    rnd_state = 0x9e3779b97f4a7c15;
    for (volatile unsigned i = 0; i < 200000; i++) {
        struct x86_insn in = insn(ops[rnd() % (sizeof(ops) / sizeof(ops[0]))], 2u << rnd() % 3, rnd() & 0x1ffff);

        if (i % 16 == 0)
            random_tables();
        random_state();
        if (in.op == X86_OP_BOUND && c->mode == X86_MODE_64)
            continue; /* does not exist there */
        if (c->mode != X86_MODE_64 && in.osize == 8)
            in.osize = 4;
        in.imm2 = rnd() % (S_END + 8);
        in.disp = rnd() & 0xffff;
        in.asize = c->mode == X86_MODE_64 ? 8 : 4;
        in.o[0] = (struct x86_operand){ X86_O_GPR, (uint8_t)(rnd() & 7), 2, X86_RD };
        in.o[1] = in.o[0];
        if (in.op == X86_OP_MOV_SREG || in.op == X86_OP_POP_SREG || in.op == X86_OP_PUSH_SREG)
            in.o[0].reg = (uint8_t)((in.o[0].reg % 5 + 2) % 6);
        st.vp.delivering.valid = 0;
        if (in.op == X86_OP_COUNT)
            deliver_exc(rnd() % 32, rnd() & 1, 0);
        else if (run(in) >= 0)
            (void)ST_TRY(x86_exception_entry(&st.vp));
        assert_int_equal(exclusive, 0);
        assert_true(c->eflags & EF_R1);
        assert_int_equal(c->eflags & EF_ARITH, 0);
        assert_true(c->mode == X86_MODE_16 || c->mode == X86_MODE_32 || c->mode == X86_MODE_64);
        if (c->mode == X86_MODE_64 || x86_long_mode(c))
            assert_true(x86_canonical(c->rip) || c->rip == c->lstar || c->rip == c->sysenter_eip);
        c->gdtr.base = ST_GDT;
    }
}

#define P(f) cmocka_unit_test_setup(f, setup_protected)
#define L(f) cmocka_unit_test_setup(f, setup_long)
#define R(f) cmocka_unit_test_setup(f, setup_real)

int main(void)
{
    const struct CMUnitTest tests[] = {
        P(test_limits), L(test_limits_long), P(test_load_seg), R(test_load_seg_real), P(test_enter),
        P(test_gate_same), P(test_gate_inner), P(test_gate_errors), P(test_conforming_handler),
        P(test_double_fault), P(test_triple_fault), P(test_debug), L(test_long_gate), L(test_long_inner),
        L(test_syscall), P(test_sysenter), P(test_far), P(test_call_gate), L(test_call_gate_long),
        P(test_retf_checks), P(test_iret_flags), P(test_vm86), P(test_vm86_vme), R(test_real),
        P(test_lar_lsl), L(test_lar_lsl_long), P(test_verr), P(test_lldt_ltr), P(test_umip_lmsw),
        P(test_mov_ss), P(test_task_call), P(test_task_jmp), P(test_task_interrupt), P(test_task_faults),
        P(test_task_vm86), P(test_task16), P(test_task_trap_bit), P(test_random),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
