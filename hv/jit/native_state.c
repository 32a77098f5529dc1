/* SPDX-License-Identifier: BSD-2-Clause */
/* The registers of a program in an executor: they are in the frame of its last signal while it stands still.
 *
 * All signals begin at the top of the same stack, so all frames are at one place.  Its fixed part is kept as it was at the
 * first one; an executor that has damaged it damages only itself.
 * Reference: Linux arch/x86/include/uapi/asm/sigcontext.h, ucontext.h; Intel SDM 1 13.4 (XSAVE area). */
#define _GNU_SOURCE
#include "hv/jit/native.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ucontext.h>

#include "hv/infra.h"

enum { XS_MORE = 7 << 5 | 3 << 17 /* opmask, ZMM, AMX */ };
enum { XS_MXCSR = 24, XS_SOFTWARE = 464 /* what Linux has there, SOFTWARE_SIZE bytes */, SOFTWARE_SIZE = 48, XS_BV = 512, XS_SIZE = 832, MXCSR_BITS = 0xffff };
/* What a program sees and changes, but for the arithmetic ones. */
enum { EF_USER = EF_TF | EF_DF | EF_NT | EF_AC | EF_ID };
enum { UC_SIGMASK = 296, UC_SIGINFO = 304 }; /* the kernel's struct ucontext is shorter than the C library's */
enum { HOST_CS = 0x33, HOST_CS32 = 0x23 };

static const uint8_t reg_of[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };

int jnat_first_frame(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    struct jwin *w = n->win;
    uint64_t lo = (uint64_t)(uintptr_t)w->stack, at = w->frame - lo, fp;
    uint32_t size;
    uint8_t *x;

    if (at < 8 || at > sizeof(w->stack) - sizeof(ucontext_t))
        return -EPROTO;
    fp = (uint64_t)(uintptr_t)((const ucontext_t *)(const void *)(w->stack + at))->uc_mcontext.fpregs - lo;
    if (fp > sizeof(w->stack) - XS_SIZE || fp % 64 || fp < at || *(const uint32_t *)(const void *)(w->stack + fp + XS_SOFTWARE) != 0x46505853 /* FP_XSTATE_MAGIC1 */)
        return -EPROTO;
    if (n->pristine)
        return at == n->frame && fp == n->fp ? 0 : -EPROTO;
    n->pristine_at = (unsigned)at - 8;
    n->pristine = malloc(sizeof(w->stack) - n->pristine_at);
    if (!n->pristine)
        return -ENOMEM;
    memcpy(n->pristine, w->stack + n->pristine_at, sizeof(w->stack) - n->pristine_at);
    n->frame = (unsigned)at;
    n->fp = (unsigned)fp;
    /* Nothing of the VMM's registers is for programs. */
    x = n->pristine + (fp - n->pristine_at);
    memcpy(&size, x + XS_SOFTWARE + 16, 4); /* xstate_size */
    if (size < XS_SIZE || size > sizeof(w->stack) - fp - 4)
        return -EPROTO;
    memset(x, 0, XS_SOFTWARE);
    memset(x + XS_BV, 0, size - XS_BV);
    memset(((ucontext_t *)(void *)(n->pristine + 8))->uc_mcontext.gregs, 0, REG_CSGSFS * sizeof(greg_t));
    return 0;
}

const ucontext_t *jnat_frame(const struct hv_vp *vp)
{
    const struct jnat *n = vp->jit->nat;

    return n->win->frame == (uint64_t)(uintptr_t)(n->win->stack + n->frame) ? (const ucontext_t *)(const void *)(n->win->stack + n->frame) : NULL;
}

void jnat_state_clear(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    memset(n->win, 0, offsetof(struct jwin, stack));
    memset(&n->win->ro, 0, sizeof(n->win->ro));
    memset(n->win->stack, 0, n->pristine_at);
    memcpy(n->win->stack + n->pristine_at, n->pristine, sizeof(n->win->stack) - n->pristine_at);
}

/* @area: an image by XSAVE, from somebody who is not believed.  @return there is state in it that the guest's processor does not have. */
static bool vec_get(struct hv_vp *vp, const uint8_t *area)
{
    uint8_t x[1024] __attribute__((aligned(64))) = { 0 };
    uint32_t mxcsr;
    uint64_t bv;
    bool more;

    memcpy(x, area, XS_SIZE);
    memset(x + XS_SOFTWARE, 0, 48);
    memset(x + XS_BV + 8, 0, 56);
    memcpy(&bv, x + XS_BV, 8);
    more = bv & XS_MORE;
    bv &= 7;
    if (!(bv & 1)) { /* its initial form, SDM 1 13.6, is not that of power-on */
        memset(x, 0, 24);
        memset(x + 32, 0, 128);
        x[0] = 0x7f, x[1] = 0x03;
    }
    if (!(bv & 2))
        memset(x + 160, 0, 256);
    bv |= 3;
    memcpy(x + XS_BV, &bv, 8);
    memcpy(&mxcsr, x + XS_MXCSR, 4);
    mxcsr &= MXCSR_BITS;
    memcpy(x + XS_MXCSR, &mxcsr, 4);
    x86_xsave_put(vp, x);
    vp->cpu.x87_ptrs = 0;
    return more;
}

const siginfo_t *jnat_siginfo(const ucontext_t *uc) { return (const siginfo_t *)(const void *)((const uint8_t *)uc + UC_SIGINFO); }

int jnat_state_get(struct hv_vp *vp, const ucontext_t *uc)
{
    static const uint8_t sreg[4] = { X86_DS, X86_ES, X86_FS, X86_GS };
    struct jnat *n = vp->jit->nat;
    const struct jwin *w = n->win;
    struct x86_cpu *c = &vp->cpu;
    greg_t g[NGREG];
    uint16_t sel[4], cs;
    uint64_t base[2];
    bool more, by_insn = c->cr4 & CR4_FSGSBASE;

    memcpy(g, uc->uc_mcontext.gregs, sizeof(g));
    memcpy(sel, w->sel, sizeof(sel));
    memcpy(base, w->base, sizeof(base));
    for (unsigned r = 0; r < 16; r++)
        c->gpr[r] = (uint64_t)g[reg_of[r]];
    c->rip = (uint64_t)g[REG_RIP];
    c->fl = x86_eflags_to_fl((uint32_t)g[REG_EFL]);
    c->eflags = (c->eflags & ~(uint32_t)(EF_USER | EF_RF)) | ((uint32_t)g[REG_EFL] & EF_USER);
    more = vec_get(vp, w->stack + n->fp);
    for (unsigned i = 0; i < 2; i++) {
        uint64_t *is = &c->seg[X86_FS + i].base;

        if (!x86_canonical(base[i]))
            return -EPROTO;
        /* Kernels that do not allow WRFSBASE and WRGSBASE may tell whose base it is by its sign.  A null selector makes it 0;
         * any other, what its descriptor says (below). */
        if (unlikely(base[i] != *is && !by_insn)) {
            if (sel[i + 2])
                continue;
            if (base[i])
                return -EPROTO;
        }
        *is = base[i];
    }
    cs = (uint16_t)g[REG_CSGSFS];
    if (unlikely(cs != HOST_CS)) { /* a far jump: the host has this one only, for 32-bit code */
        if (cs != HOST_CS32)
            return -EPROTO;
        c->seg[X86_CS] = (struct x86_seg){ 0, 0xffffffff, cs, SEG_P | SEG_S | SEG_DPL | SEG_TYPE_CODE | SEG_TYPE_RW | SEG_TYPE_A | SEG_DB | SEG_G };
        c->rip = (uint32_t)c->rip;
        n->stale = true;
    }
    if (unlikely(n->stale || (c->eflags & (EF_TF | EF_AC))))
        x86_update_mode(vp);
    if (unlikely(more)) { /* late, but not silently: nobody keeps these registers for it */
        hv_log(vp->p, 1, "processor %u: a program has used AVX-512 or AMX, which its processor does not have", vp->index);
        x86_raise(vp, X86_EXC_UD);
    }
    for (unsigned i = 0; i < 4; i++) {
        if (likely(!sel[i]))
            continue;
        n->stale = true;
        x86_load_seg(vp, sreg[i], sel[i]);
        if (i >= 2 && by_insn)
            c->seg[sreg[i]].base = base[i - 2];
    }
    return 0;
}

void jnat_state_put(struct hv_vp *vp)
{
    const struct jnat *n = vp->jit->nat;
    const struct x86_cpu *c = &vp->cpu;
    struct jwin *w = n->win;
    ucontext_t *uc = (ucontext_t *)(void *)(w->stack + n->frame);
    const ucontext_t *was = (const ucontext_t *)(const void *)(n->pristine + (n->frame - n->pristine_at));
    const uint8_t *fp = n->pristine + (n->fp - n->pristine_at);
    uint8_t x[1024] __attribute__((aligned(64)));
    greg_t *g = uc->uc_mcontext.gregs;
    uint32_t end;

    /* Another program may have had the frame: flags, stack and mask, and what Linux says of the XSAVE area. */
    memcpy(uc, was, offsetof(ucontext_t, uc_mcontext));
    memcpy((uint8_t *)uc + UC_SIGMASK, (const uint8_t *)was + UC_SIGMASK, 8);
    memcpy(w->stack + n->fp + XS_SOFTWARE, fp + XS_SOFTWARE, SOFTWARE_SIZE);
    memcpy(&end, fp + XS_SOFTWARE + 16, 4);
    memcpy(w->stack + n->fp + end, fp + end, 4); /* FP_XSTATE_MAGIC2 */
    for (unsigned r = 0; r < 16; r++)
        g[reg_of[r]] = (greg_t)c->gpr[r];
    g[REG_RIP] = (greg_t)c->rip;
    g[REG_EFL] = (greg_t)((x86_flags_get(c) & (EF_ARITH | EF_DF)) | EF_R1 | EF_IF);
    g[REG_CSGSFS] = was->uc_mcontext.gregs[REG_CSGSFS];
    uc->uc_mcontext.fpregs = was->uc_mcontext.fpregs;
    x86_xsave_get(vp, x);
    memcpy(w->stack + n->fp, x, XS_SOFTWARE);
    memcpy(w->stack + n->fp + XS_BV, x + XS_BV, XS_SIZE - XS_BV);
    w->ro.base[0] = c->seg[X86_FS].base;
    w->ro.base[1] = c->seg[X86_GS].base;
    w->ro.frame = (uint64_t)(uintptr_t)uc;
}

int jnat_state_keep(struct hv_vp *vp)
{
    struct jwin *w = vp->jit->nat->win;

    for (unsigned i = 0; i < 2; i++) { /* it may have changed them: WRFSBASE */
        uint64_t base = w->base[i];

        if (!x86_canonical(base))
            return -EPROTO;
        w->ro.base[i] = base;
    }
    return 0;
}
