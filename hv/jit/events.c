/* SPDX-License-Identifier: BSD-2-Clause */
/* System calls and time stamps without leaving translated code.
 *
 * What SYSCALL and SYSRET make of the processor depends on a handful of registers.  C executes the first one,
 * and what it came from and came to is remembered; the thunk compares the former and puts the latter in place.
 * Anything unusual (flags that were not set before, an interrupt that waits for the window, another key) goes to
 * C again.  Reference: Intel SDM volume 2B "SYSCALL", "SYSRET"; 3A 5.8.8. */
#include <stddef.h>

#include "hv/jit/native.h"

enum { SYSRET_MASK = 0x3c7fd7, FAR_FROM_USER = 47 };

static uint64_t mode_word(const struct hv_vp *vp)
{
    uint64_t w;

    _Static_assert(offsetof(struct x86_cpu, key) == offsetof(struct x86_cpu, mode) + 4, "one word: mode to key");
    memcpy(&w, &vp->cpu.mode, 8);
    return w;
}

void jit_fast_before(struct hv_vp *vp, struct jfast *f)
{
    const struct x86_cpu *c = &vp->cpu;

    f->valid = 0;
    f->mode_in = mode_word(vp);
    f->ef_in = c->eflags;
    f->r11_in = (uint32_t)c->gpr[X86_R11] & SYSRET_MASK & ~(uint32_t)EF_ARITH;
    f->star = c->star;
    f->sfmask = c->sfmask;
    f->cr4 = c->cr4;
    f->efer = c->efer;
}

void jit_fast_after(struct hv_vp *vp, struct jfast *f, bool ret)
{
    const struct x86_cpu *c = &vp->cpu;
    uint32_t odd = EF_TF | EF_VM | EF_AC | EF_RF | EF_NT;

    if ((f->ef_in & odd) || (c->eflags & odd) || c->mode != X86_MODE_64 || (c->key & X86_KEY_STEP) || vp->mmu.watch)
        return;
    if (ret ? c->cpl != 3 || (f->ef_in & EF_IF) : c->cpl != 0 || (c->eflags & EF_IF) || (f->sfmask & EF_ARITH) != EF_ARITH)
        return;
    f->mode_out = mode_word(vp);
    f->ef_out = c->eflags;
    memcpy(f->seg, &c->seg[X86_CS], sizeof(f->seg));
    f->view = vp->mmu.view;
    f->tlb = vp->mmu.tlb;
    f->jc = jit_of(vp)->jc[vp->mmu.view];
    f->rsp = &jit_of(vp)->rsp[jit_ret_stack(vp->mmu.view, c->cr4 & CR4_SMAP)];
    f->last_key = &jit_of(vp)->last_key[vp->mmu.view];
    f->key_out = jit_key(vp);
    f->valid = !(ret && jit_native_next(vp)); /* C looks at returns to programs that an executor runs */
}

static const uint8_t *here(struct jit *j, struct emit *e) { return j->rx + (e->p - j->rw); }

/* cmp [@at], what was there; jne to the slow way. */
static void must(struct emit *e, bool wide, const void *at, const void *was, uint8_t **slow, unsigned *nslow)
{
    struct hop m = h_abs(was);

    if (wide)
        e_mov_load(e, RCX, h_abs(at));
    else
        e_mov_load32(e, RCX, h_abs(at));
    e_op(e, wide ? E_W : 0, 0, 0x3b, RCX, &m);
    slow[(*nslow)++] = e_jcc(e, CC_NE);
}

static void copy(struct emit *e, void *to, const void *from, unsigned size)
{
    struct hop m = h_abs(to);

    if (size == 8)
        e_mov_load(e, RCX, h_abs(from));
    else
        e_mov_load32(e, RCX, h_abs(from));
    if (size == 1)
        e_op(e, E_BYTE_REG, 0, 0x88, RCX, &m);
    else
        e_op(e, size == 8 ? E_W : 0, 0, 0x89, RCX, &m);
}

static void bytes(struct emit *e, const void *p, size_t n)
{
    memcpy(e->p, p, n);
    e->p += n;
}
#define BYTES(...) \
    do { \
        static const uint8_t b_[] = { __VA_ARGS__ }; \
        bytes(e, b_, sizeof b_); \
    } while (0)

/* Flags and rax into memory; rax holds the flags. */
static void keep(struct emit *e, struct jit *j)
{
    struct hop m = h_abs(&j->fast_fl);

    e_mov_store(e, h_abs(&j->a), RAX);
    BYTES(0x9f, 0x0f, 0x90, 0xc0);              /* lahf; seto al */
    e_op(e, 0, 0, 0x89, RAX, &m);
}

static void give_back(struct emit *e, struct jit *j)
{
    e_mov_load32(e, RAX, h_abs(&j->fast_fl));
    BYTES(0x04, 0x7f, 0x9e);                    /* add al, 127; sahf */
    e_mov_load(e, RAX, h_abs(&j->a));
}

/* Called like t_exec, with the address behind the instruction in rcx. */
static const uint8_t *switch_thunk(struct jit *j, struct emit *e, struct jfast *f, bool ret)
{
    struct hv_vp *vp = j->vp;
    const uint8_t *at = here(j, e);
    uint8_t *slow[16];
    unsigned n = 0;
    struct hop m;

    e_mov_store(e, h_abs(&j->ea), RCX);
    keep(e, j);
    if (!ret)
        e_op(e, E_W, 0, 0xff, 0, (m = h_abs(&j->calls), &m)); /* inc qword */
    e_op(e, 0, 0, 0x80, 7, (m = h_abs(&f->valid), &m)); /* cmp byte [valid], 0 */
    e1(e, 0);
    slow[n++] = e_jcc(e, CC_E);
    must(e, true, &vp->cpu.mode, &f->mode_in, slow, &n);
    must(e, false, &vp->cpu.eflags, &f->ef_in, slow, &n);
    must(e, true, &vp->cpu.star, &f->star, slow, &n);
    must(e, true, &vp->cpu.cr4, &f->cr4, slow, &n);
    must(e, true, &vp->cpu.efer, &f->efer, slow, &n);
    e_mov_load(e, RCX, h_abs(&f->last_key));
    e_mov_load32(e, RCX, h_mem(RCX, 0));
    e_op(e, 0, 0, 0x3b, RCX, (m = h_abs(&f->key_out), &m));
    slow[n++] = e_jcc(e, CC_NE);
    if (!ret) {
        must(e, true, &vp->cpu.sfmask, &f->sfmask, slow, &n);
        /* r11 := flags, rcx := the next instruction. */
        e_mov_load32(e, RAX, h_abs(&j->fast_fl));
        e_mov_rr32(e, RCX, RAX);
        BYTES(0xc1, 0xe9, 0x08, 0x81, 0xe1);    /* shr ecx, 8; and ecx, imm32 */
        e4(e, EF_CF | EF_PF | EF_AF | EF_ZF | EF_SF);
        BYTES(0x83, 0xe0, 0x01, 0xc1, 0xe0, 0x0b, 0x09, 0xc1); /* and eax, 1; shl eax, 11; or ecx, eax */
        e_op(e, 0, 0, 0x0b, RCX, (m = h_abs(&vp->cpu.eflags), &m));
        e_mov_store(e, h_abs(&vp->cpu.gpr[X86_R11]), RCX);
        e_mov_load(e, R9, h_abs(&j->ea));
        e_mov_store(e, h_abs(&j->fast_rdx), RDX);
        jit_emit_vec_spill(e, j);
        e_mov_load(e, RDX, h_abs(&j->fast_rdx));
        e_op(e, E_W, 0, 0xc7, 0, (m = h_abs(&j->vdead), &m));
        e4(e, 1);
    } else {
        e_op(e, 0, 0, 0x80, 7, (m = h_abs(&vp->want_window), &m));
        e1(e, 0);
        slow[n++] = e_jcc(e, CC_NE);
        e_mov_rr(e, RCX, R9);                   /* in the user's half */
        e_op(e, E_W, 0, 0xc1, 5, (m = h_reg(RCX), &m));
        e1(e, FAR_FROM_USER);
        slow[n++] = e_jcc(e, CC_NE);
        e_mov_load32(e, RAX, h_abs(&vp->cpu.gpr[X86_R11]));
        e_mov_rr32(e, RCX, RAX);
        e_op(e, 0, 0, 0x81, 4, (m = h_reg(RCX), &m));
        e4(e, SYSRET_MASK & ~EF_ARITH);
        e_op(e, 0, 0, 0x3b, RCX, (m = h_abs(&f->r11_in), &m));
        slow[n++] = e_jcc(e, CC_NE);
        /* The arithmetic flags as LAHF and SETO give them. */
        e_mov_rr32(e, RCX, RAX);
        BYTES(0xc1, 0xe9, 0x0b, 0x83, 0xe1, 0x01, 0x88, 0xc4, 0x88, 0xc8); /* shr ecx, 11; and ecx, 1; mov ah, al; mov al, cl */
        e_op(e, 0, 0, 0x89, RAX, (m = h_abs(&j->fast_fl), &m));
    }
    for (unsigned i = 0; i < 4; i++)
        copy(e, (uint8_t *)&vp->cpu.seg[X86_CS] + 8 * i, (const uint8_t *)f->seg + 8 * i, 8);
    copy(e, &vp->cpu.mode, &f->mode_out, 8);
    copy(e, &vp->cpu.eflags, &f->ef_out, 4);
    copy(e, &vp->mmu.tlb, &f->tlb, 8);
    copy(e, &vp->mmu.view, &f->view, 1);
    e_mov_load(e, RCX, h_abs(&j->rsp_cur));
    e_mov_store(e, h_mem(RCX, 0), RSP);
    e_mov_load(e, RCX, h_abs(&f->rsp));
    e_mov_store(e, h_abs(&j->rsp_cur), RCX);
    e_mov_load(e, RSP, h_mem(RCX, 0));
    if (ret)
        e_mov_rr(e, RCX, R9);
    else
        e_mov_load(e, RCX, h_abs(&vp->cpu.lstar));
    e_op(e, 0, 1, 0xb7, R11, (m = h_reg(RCX), &m)); /* movzx r11d, cx */
    e_op(e, E_W, 0, 0xc1, 4, (m = h_reg(R11), &m));
    e1(e, 3);
    e_op(e, E_W, 0, 0x03, R11, (m = h_abs(&f->jc), &m));
    if (ret) {
        give_back(e, j);
    } else {
        e_mov_imm(e, RAX, FL_FIXED);            /* SFMASK clears them all */
        BYTES(0x04, 0x7f, 0x9e);
        e_mov_load(e, RAX, h_abs(&j->a));
    }
    e_op(e, 0, 0, 0xff, 4, (m = h_mem(R11, 0), &m));
    for (unsigned i = 0; i < n; i++)
        e_bind(slow[i], e->p);
    give_back(e, j);
    e_bind(e_jmp(e), j->rw + (j->t_exec - j->rx));
    return at;
}

/* RDTSC, RDTSCP; only where the host's vector registers hold nothing, as C may use them. */
static const uint8_t *tsc_thunk(struct jit *j, struct emit *e, bool aux)
{
    struct hv_vp *vp = j->vp;
    const uint8_t *at = here(j, e);
    uint8_t *slow[4], *user;
    unsigned n = 0;
    struct hop m;

    keep(e, j);
    e_op(e, E_W, 0, 0x83, 7, (m = h_abs(&j->vdead), &m));
    e1(e, 0);
    slow[n++] = e_jcc(e, CC_E);
    e_op(e, 0, 0, 0x80, 7, (m = h_abs(&vp->cpu.cpl), &m));
    e1(e, 0);
    user = e_jcc(e, CC_E);
    e_op(e, 0, 0, 0xf7, 0, (m = h_abs(&vp->cpu.cr4), &m)); /* test dword [cr4], TSD */
    e4(e, CR4_TSD);
    slow[n++] = e_jcc(e, CC_NE);
    e_bind(user, e->p);
    e_mov_store(e, h_abs(&j->site), R11);
    jit_emit_stack_to_c(e, j);
    BYTES(0x56, 0x57, 0x41, 0x50, 0x41, 0x51, 0x41, 0x52, 0x48, 0x83, 0xec, 0x08); /* push rsi, rdi, r8-r10; sub rsp, 8 */
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)vp);
    e_mov_imm(e, RAX, (uint64_t)(uintptr_t)hv_tsc_read);
    BYTES(0xff, 0xd0);                          /* call rax */
    BYTES(0x48, 0x83, 0xc4, 0x08, 0x41, 0x5a, 0x41, 0x59, 0x41, 0x58, 0x5f, 0x5e);
    jit_emit_stack_from_c(e, j);
    e_mov_rr(e, RDX, RAX);
    e_op(e, E_W, 0, 0xc1, 5, (m = h_reg(RDX), &m));
    e1(e, 32);
    e_mov_rr32(e, RAX, RAX);
    e_mov_store(e, h_abs(&j->a), RAX);
    if (aux)
        e_mov_load32(e, R9, h_abs(&vp->cpu.tsc_aux));
    /* On behind the site's data. */
    e_mov_load(e, RCX, h_abs(&j->site));
    e_lea(e, RCX, h_mem(RCX, sizeof(struct jsite)));
    give_back(e, j);
    BYTES(0xff, 0xe1);                          /* jmp rcx */
    for (unsigned i = 0; i < n; i++)
        e_bind(slow[i], e->p);
    give_back(e, j);
    e_bind(e_jmp(e), j->rw + (j->t_exec - j->rx));
    return at;
}

void jit_make_event_thunks(struct jit *j, struct emit *e)
{
    j->t_syscall = switch_thunk(j, e, &j->fast[0], false);
    j->t_sysret = switch_thunk(j, e, &j->fast[1], true);
    j->t_rdtsc = tsc_thunk(j, e, false);
    j->t_rdtscp = tsc_thunk(j, e, true);
}

const uint8_t *jit_event_thunk(const struct jit *j, const struct x86_insn *in, uint32_t key)
{
    bool slow = (key & (JKEY_SSE_SLOW | JKEY_X87_SLOW)) != 0;

    if (in->feature && !hv_feature(j->vp->p, in->feature))
        return NULL;
    switch (in->op) {
    case X86_OP_SYSCALL:
        return (key & X86_KEY_MODE64) && (key & X86_KEY_USER) && !slow ? j->t_syscall : NULL;
    case X86_OP_SYSRET:
        return (key & X86_KEY_MODE64) && !(key & X86_KEY_USER) && in->osize == 8 && !slow ? j->t_sysret : NULL;
    case X86_OP_RDTSC: return j->t_rdtsc;
    case X86_OP_RDTSCP: return j->t_rdtscp;
    default: return NULL;
    }
}
