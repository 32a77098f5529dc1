/* SPDX-License-Identifier: BSD-2-Clause */
/* The fixed code of an executor.  It addresses struct jwin and nothing else, relative to where it is itself.
 *
 * Reference: Linux signal(7), seccomp(2); arch/x86/kernel/signal_64.c (frames). */
#include "hv/jit/native.h"

#include <stddef.h>
#include <sys/syscall.h>

static const uint8_t *here(struct jwin *w, struct emit *e) { return w->code + (e->p - w->code); }

static void syscall_(struct emit *e, unsigned nr)
{
    e_mov_imm(e, RAX, nr);
    e1(e, 0x0f), e1(e, 0x05);
}

/* RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE rax: 0 to 3. */
static void seg_base(struct emit *e, unsigned which)
{
    static const uint8_t insn[] = { 0xf3, 0x48, 0x0f, 0xae };

    for (unsigned i = 0; i < sizeof(insn); i++)
        e1(e, insn[i]);
    e1(e, 0xc0 | which << 3);
}

static const uint8_t sreg[4] = { X86_DS, X86_ES, X86_FS, X86_GS };

static void null_selectors(struct emit *e)
{
    e1(e, 0x31), e1(e, 0xc0);                 /* xor eax, eax */
    for (unsigned i = 0; i < 4; i++)
        e_op_last(e, 0, 0, 0x8e, sreg[i], h_reg(RAX));
}

static void time_stamp(struct emit *e, const uint64_t at[2])
{
    e1(e, 0x0f), e1(e, 0x31);                 /* rdtsc */
    e_mov_store(e, h_abs(&at[0]), RAX);
    e_mov_store(e, h_abs(&at[1]), RDX);
}

void jnat_make_code(struct jwin *w, struct jnat_code *ret)
{
    struct emit e = { .p = w->code, .by_rip = true };
    uint8_t *none, *done, *good, *stay, *p, *begin;

    ret->start = here(w, &e);
    null_selectors(&e);
    e1(&e, 0xcc);                             /* int3: a signal */
    e1(&e, 0x0f), e1(&e, 0x0b);

    /* A signal: edi its number, rdx the state. */
    ret->signal = here(w, &e);
    e_mov_store(&e, h_abs(&w->sig), RDI);
    e_mov_store(&e, h_abs(&w->frame), RDX);
    for (unsigned i = 0; i < 4; i++)
        e_op_last(&e, 0, 0, 0x8c, sreg[i], h_abs(&w->sel[i]));
    for (unsigned i = 0; i < 2; i++) {
        seg_base(&e, i);
        e_mov_store(&e, h_abs(&w->base[i]), RAX);
    }
    time_stamp(&e, w->to);
    syscall_(&e, SYS_getpid);                 /* the one that hands over */
    ret->handed = here(w, &e);

    /* rax is what the list is let through by, 0: there is none. */
    begin = e.p;
    e_op_last(&e, E_W, 0, 0x85, RAX, h_reg(RAX)); /* test rax, rax */
    none = e_jcc(&e, CC_E);
    e_mov_rr(&e, R15, RAX);
    e_mov_imm(&e, RBX, (uint64_t)(uintptr_t)w->ro.op);
    e_mov_load32(&e, RBP, h_abs(&w->ro.nops));
    p = e.p;
    e_op_last(&e, 0, 0, 0x85, RBP, h_reg(RBP)); /* test ebp, ebp */
    done = e_jcc(&e, CC_E);
    e_mov_load(&e, RAX, h_mem(RBX, 0));
    e_mov_load(&e, RDI, h_mem(RBX, 8));
    e_mov_load(&e, RSI, h_mem(RBX, 16));
    e_mov_load(&e, RDX, h_mem(RBX, 24));
    e_mov_load(&e, R10, h_mem(RBX, 32));
    e_mov_load(&e, R8, h_mem(RBX, 40));
    e_mov_load(&e, R9, h_mem(RBX, 48));
    e_op_last(&e, E_W, 0, 0x0b, R8, h_reg(R15)); /* or r8, r15 */
    e1(&e, 0x0f), e1(&e, 0x05);
    ret->op = here(w, &e);
    e_alu_imm(&e, 1, 7, h_reg(RAX), -4095);
    good = e_jcc(&e, CC_B);
    e_mov_imm(&e, RDI, 1);
    e_mov_store(&e, h_abs(&w->list_err), RDI);
    e1(&e, 0x0f), e1(&e, 0x0b);               /* ud2: signals are blocked, and that ends it */
    e_bind(good, e.p);
    e_alu_imm(&e, 1, 0, h_reg(RBX), sizeof(struct jnat_op));
    e_alu_imm(&e, 0, 5, h_reg(RBP), 1);
    e_bind(e_jmp(&e), p);
    e_bind(done, e.p);
    e1(&e, 0x45), e1(&e, 0x31), e1(&e, 0xc0); /* xor r8d, r8d */
    e1(&e, 0x45), e1(&e, 0x31), e1(&e, 0xff); /* xor r15d, r15d */
    e_mov_load(&e, RAX, h_abs(&w->ro.stay));
    e_op_last(&e, E_W, 0, 0x85, RAX, h_reg(RAX));
    stay = e_jcc(&e, CC_E);
    syscall_(&e, SYS_getpid);
    ret->listed = here(w, &e);
    e_bind(e_jmp(&e), begin);
    e_bind(none, e.p);
    e_bind(stay, e.p);
    null_selectors(&e);                       /* another program may have left some */
    for (unsigned i = 0; i < 2; i++) {
        e_mov_load(&e, RAX, h_abs(&w->ro.base[i]));
        seg_base(&e, 2 + i);
    }
    time_stamp(&e, w->from);
    e1(&e, 0x6a), e1(&e, 2), e1(&e, 0x9d);    /* push 2; popf: rt_sigreturn leaves NT and ID as they are */
    e_mov_load(&e, RSP, h_abs(&w->ro.frame));
    syscall_(&e, SYS_rt_sigreturn);
    ret->returned = here(w, &e);
    e1(&e, 0x0f), e1(&e, 0x0b);
}
