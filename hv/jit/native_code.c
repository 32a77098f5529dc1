/* SPDX-License-Identifier: BSD-2-Clause */
/* The fixed code of an executor, at the start of its cache.  It addresses struct jwin and nothing else of the VMM's.
 *
 * Reference: Linux signal(7), seccomp(2); arch/x86/kernel/signal_64.c (frames). */
#include "hv/jit/native.h"

#include <stddef.h>
#include <sys/syscall.h>

static const uint8_t resident[][2] = {
    { R9, X86_RCX }, { RDX, X86_RDX }, { RBX, X86_RBX }, { R10, X86_RSP }, { RBP, X86_RBP }, { RSI, X86_RSI }, { RDI, X86_RDI },
    { R8, X86_R8 }, { R12, X86_R12 }, { R13, X86_R13 }, { R14, X86_R14 }, { R15, X86_R15 }, { RAX, X86_RAX },
};
enum { NRES = sizeof(resident) / sizeof(resident[0]) };

static const uint8_t *here(struct jit *j, struct emit *e) { return j->rx + (e->p - j->rw); }

static void store_imm(struct emit *e, bool wide, const void *at, uint32_t v)
{
    struct hop m = h_abs(at);

    e_op(e, wide ? E_W : 0, 0, 0xc7, 0, &m);
    e4(e, v);
}

static void syscall_(struct emit *e, unsigned nr)
{
    e_mov_imm(e, RAX, nr);
    e1(e, 0x0f), e1(e, 0x05);
}

/* XSAVE or XRSTOR of x87, SSE and AVX; eax and edx are used up. */
static void xstate(struct emit *e, struct jit *j, bool store)
{
    struct hop m = h_abs(j->win->xsave);

    e_mov_imm(e, RAX, j->host_avx ? 7 : 3);
    e_mov_imm(e, RDX, 0);
    e_op(e, 0, 1, 0xae, store ? 4 : 5, &m);
}

/* rcx is what goes with it. */
static const uint8_t *leave(struct jit *j, struct emit *e, enum jnat_why why, bool called)
{
    const uint8_t *at = here(j, e);

    if (called)
        e1(e, 0x59);                          /* pop rcx */
    e_mov_store(e, h_abs(&j->win->arg), RCX);
    e_mov_imm(e, RCX, why);
    return at;
}

void jit_native_code(struct jit *j)
{
    struct emit e = { .p = j->rw };
    struct jwin *w = j->win;
    uint8_t *outs[8], *ret, *done, *good, *p;
    unsigned nouts = 0;
    const uint8_t *out;
    struct hop m;

    j->t_exit = j->t_enter = j->rx;           /* nothing that runs */
    e1(&e, 0x0f), e1(&e, 0x0b);

    /* rcx: why. */
    out = here(j, &e);
    e_mov_store(&e, h_abs(&w->why), RCX);
    for (unsigned i = 0; i < NRES; i++)
        e_mov_store(&e, h_abs(&w->gpr[resident[i][1]]), resident[i][0]);
    e1(&e, 0x9f);                             /* lahf */
    e1(&e, 0x0f), e1(&e, 0x90), e1(&e, 0xc0); /* seto al */
    e1(&e, 0x0f), e1(&e, 0xb7), e1(&e, 0xc0); /* movzx eax, ax */
    e_mov_store(&e, h_abs(&w->fl), RAX);
    e_mov_store(&e, h_abs(&w->rsp), RSP);
    xstate(&e, j, true);
    j->t_park = here(j, &e);
    syscall_(&e, SYS_getpid);                 /* the one that hands over */
    e_alu_imm(&e, 0, 7, h_abs(&w->ro.how), JNAT_ENTER);
    ret = e_jcc(&e, CC_NE);
    xstate(&e, j, false);
    e_mov_load(&e, RSP, h_abs(&w->rsp));
    e_mov_load32(&e, RAX, h_abs(&w->fl));
    e1(&e, 0x04), e1(&e, 0x7f), e1(&e, 0x9e); /* add al, 127; sahf */
    for (unsigned i = 0; i < NRES; i++)
        e_mov_load(&e, resident[i][0], h_abs(&w->gpr[resident[i][1]]));
    e_op(&e, 0, 0, 0xff, 4, (m = h_abs(&w->ro.enter), &m));
    e_bind(ret, e.p);
    e_mov_load(&e, RSP, h_abs(&w->frame));
    syscall_(&e, SYS_rt_sigreturn);
    e1(&e, 0x0f), e1(&e, 0x0b);

    /* A signal: edi its number, rsi what it is about, rdx the state. */
    j->t_signal = here(j, &e);
    e_mov_store(&e, h_abs(&w->sig), RDI);
    e_mov_load(&e, RAX, h_mem(RSI, 16));
    e_mov_store(&e, h_abs(&w->addr), RAX);
    e_mov_store(&e, h_abs(&w->arg), RDX);
    e_lea(&e, RAX, h_mem(RSP, 8));
    e_mov_store(&e, h_abs(&w->frame), RAX);
    store_imm(&e, true, &w->why, JNAT_SIGNAL);
    e_bind(e_jmp(&e), j->rw + (j->t_park - j->rx));

    /* The second thread: system calls from a list. */
    j->t_mapper = here(j, &e);
    syscall_(&e, SYS_getpid);
    e_mov_imm(&e, RBX, (uint64_t)(uintptr_t)w->ro.op);
    e_mov_load32(&e, RBP, h_abs(&w->ro.nops));
    p = e.p;
    e_op(&e, 0, 0, 0x85, RBP, (m = h_reg(RBP), &m)); /* test ebp, ebp */
    done = e_jcc(&e, CC_E);
    e_mov_load(&e, RAX, h_mem(RBX, 0));
    e_mov_load(&e, RDI, h_mem(RBX, 8));
    e_mov_load(&e, RSI, h_mem(RBX, 16));
    e_mov_load(&e, RDX, h_mem(RBX, 24));
    e_mov_load(&e, R10, h_mem(RBX, 32));
    e_mov_load(&e, R8, h_mem(RBX, 40));
    e_mov_load(&e, R9, h_mem(RBX, 48));
    e1(&e, 0x0f), e1(&e, 0x05);
    e_alu_imm(&e, 1, 7, h_reg(RAX), -4095);
    good = e_jcc(&e, CC_B);
    store_imm(&e, true, &w->mapper_err, 1);
    e_bind(good, e.p);
    e_alu_imm(&e, 1, 0, h_reg(RBX), sizeof(struct jnat_op));
    e_alu_imm(&e, 0, 5, h_reg(RBP), 1);
    e_bind(e_jmp(&e), p);
    e_bind(done, e.p);
    e_bind(e_jmp(&e), j->rw + (j->t_mapper - j->rx));

    /* Ways out of blocks. */
    _Static_assert(sizeof(w->known[0]) == 16, "two of the index register's scale");
    j->t_dispatch = here(j, &e);              /* rcx: where the program goes, which jc[] does not know */
    e_mov_store(&e, h_abs(&w->b), RCX);
    e_mov_store(&e, h_abs(&w->a), RAX);
    e_pext(&e, RAX, RCX, h_abs(&w->ro.mask_known));
    e_lea(&e, RAX, h_sib(RAX, RAX, 0, 0));
    e_mov_load(&e, R11, h_sib(NOREG, RAX, 3, (int32_t)(uintptr_t)&w->known[0].neg));
    e_lea(&e, RCX, h_sib(RCX, R11, 0, 0));
    p = e_jrcxz(&e);
    e_mov_load(&e, RAX, h_abs(&w->a));
    e_mov_load(&e, RCX, h_abs(&w->b));
    good = e_jmp(&e);
    e_bind8(&e, p);
    e_mov_load(&e, R11, h_sib(NOREG, RAX, 3, (int32_t)(uintptr_t)&w->known[0].host));
    e_mov_load(&e, RAX, h_abs(&w->a));
    e_op(&e, 0, 0, 0xff, 4, (m = h_reg(R11), &m));
    e_bind(good, e.p);
    j->t_dispatch_c = leave(j, &e, JNAT_DISPATCH, false);
    outs[nouts++] = e_jmp(&e);
    j->t_exec = leave(j, &e, JNAT_EXEC, false);
    outs[nouts++] = e_jmp(&e);
    j->t_ripexit = leave(j, &e, JNAT_EXIT, false);
    outs[nouts++] = e_jmp(&e);
    j->t_link = leave(j, &e, JNAT_LINK, true);
    outs[nouts++] = e_jmp(&e);
    j->t_drop = j->t_hot = leave(j, &e, JNAT_DROP, true);
    outs[nouts++] = e_jmp(&e);
    j->t_page = leave(j, &e, JNAT_PAGE, true);
    outs[nouts++] = e_jmp(&e);
    j->t_poll = leave(j, &e, JNAT_POLL, true);
    outs[nouts++] = e_jmp(&e);
    for (unsigned i = 0; i < nouts; i++)
        e_bind(outs[i], j->rw + (out - j->rx));

    /* A RET with nothing above: rcx is where to. */
    j->t_retmiss[0] = here(j, &e);
    e_mov_imm(&e, RSP, (uint64_t)(uintptr_t)&w->rets.miss);
    e_op(&e, 0, 1, 0xb7, R11, (m = h_reg(RCX), &m)); /* movzx r11d, cx */
    e_op(&e, 0, 0, 0xff, 4, (m = h_sib(NOREG, R11, 3, (int32_t)(uintptr_t)j->jc[0]), &m));
    for (unsigned c = 0; c < JIT_CLASSES; c++) {
        j->rets[c]->miss = j->t_retmiss[0];
        jit_rets_clear(j, c);
    }
    j->rsp_cur = j->rsp;
    j->first = j->used = (uint32_t)((e.p - j->rw + 63) & ~63);
}
