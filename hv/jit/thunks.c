/* SPDX-License-Identifier: BSD-2-Clause */
/* The fixed code at the start of a VP's cache: in from C, out to C, calls of helpers. */
#include "hv/jit/jit.h"

/* Guest register of a host register, for those that live in registers. */
static const uint8_t resident[][2] = {
    { RAX, X86_RAX }, { R9, X86_RCX }, { RDX, X86_RDX }, { RBX, X86_RBX }, { R10, X86_RSP }, { RBP, X86_RBP },
    { RSI, X86_RSI }, { RDI, X86_RDI }, { R8, X86_R8 }, { R12, X86_R12 }, { R13, X86_R13 }, { R14, X86_R14 },
    { R15, X86_R15 },
};
enum { NRES = sizeof(resident) / sizeof(resident[0]) };

static void spill(struct emit *e, struct hv_vp *vp)
{
    for (unsigned i = 0; i < NRES; i++)
        e_mov_store(e, h_abs(&vp->cpu.gpr[resident[i][1]]), resident[i][0]);
    e1(e, 0x9f);                              /* lahf */
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);    /* seto al */
    e1(e, 0x0f), e1(e, 0xb7), e1(e, 0xc0);    /* movzx eax, ax */
    struct hop m = h_abs(&vp->cpu.fl);

    e_op(e, 0, 0, 0x89, RAX, &m);
}

static void fill(struct emit *e, struct hv_vp *vp)
{
    e_mov_load32(e, RAX, h_abs(&vp->cpu.fl));
    e1(e, 0x04), e1(e, 0x7f), e1(e, 0x9e);    /* add al, 127; sahf */
    for (unsigned i = 0; i < NRES; i++)
        e_mov_load(e, resident[i][0], h_abs(&vp->cpu.gpr[resident[i][1]]));
}

static void jmp_abs(struct emit *e, const void *p)
{
    struct hop m = h_abs(p);

    e_op(e, 0, 0, 0xff, 4, &m);
}

static void call_c(struct emit *e, const void *fn)
{
    e_mov_imm(e, RAX, (uint64_t)(uintptr_t)fn);
    e1(e, 0xff), e1(e, 0xd0);                 /* call rax */
}

/* The helper's result is where to go on. */
static void go_on(struct emit *e, struct jit *j)
{
    e_mov_store(e, h_abs(&j->target), RAX);
    fill(e, j->vp);
    jmp_abs(e, &j->target);
}

static const uint8_t *here(struct jit *j, struct emit *e) { return j->rx + (e->p - j->rw); }

static const uint8_t *site_thunk(struct jit *j, struct emit *e, const void *fn)
{
    const uint8_t *at = here(j, e);

    e_mov_store(e, h_abs(&j->ea), RCX);
    spill(e, j->vp);
    e1(e, 0x5e);                              /* pop rsi: the site's data */
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, fn);
    go_on(e, j);
    return at;
}

void jit_make_thunks(struct jit *j)
{
    static const uint8_t push[] = { 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x48, 0x83, 0xec, 0x08 };
    static const uint8_t pop[] = { 0x48, 0x83, 0xc4, 0x08, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3 };
    struct emit e = { j->rw };

    j->t_enter = here(j, &e);                 /* void enter(const uint8_t *host): rsp becomes a multiple of 16 */
    memcpy(e.p, push, sizeof push);
    e.p += sizeof push;
    e_mov_store(&e, h_abs(&j->target), RDI);
    fill(&e, j->vp);
    jmp_abs(&e, &j->target);

    j->t_ripexit = here(j, &e);               /* rcx: cpu.rip */
    e_mov_store(&e, h_abs(&j->vp->cpu.rip), RCX);
    j->t_exit = here(j, &e);
    spill(&e, j->vp);
    memcpy(e.p, pop, sizeof pop);
    e.p += sizeof pop;

    j->t_dispatch = here(j, &e);              /* rcx: where the guest goes */
    e_mov_store(&e, h_abs(&j->ea), RCX);
    spill(&e, j->vp);
    e_mov_rr(&e, RSI, RCX);
    e_mov_imm(&e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(&e, (const void *)jit_c_dispatch);
    go_on(&e, j);

    j->t_link = site_thunk(j, &e, (const void *)jit_c_link);
    j->t_miss = site_thunk(j, &e, (const void *)jit_c_miss);
    j->t_exec = site_thunk(j, &e, (const void *)jit_c_exec);
    j->first = j->used = (uint32_t)((e.p - j->rw + 63) & ~63);
}
