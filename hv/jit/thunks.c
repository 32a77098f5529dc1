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

/* Vector register @n and its place, or the upper half of that. */
static void vec_move(struct emit *e, struct hv_vp *vp, unsigned n, bool ymm, bool store, unsigned half)
{
    struct hop m = h_abs((uint8_t *)&vp->cpu.ymm[n] + 16 * half);

    if (ymm)
        e_vex(e, 0, 0, 1, 1, store ? 0x11 : 0x10, n, 0, &m);
    else
        e_op(e, 0, 1, store ? 0x11 : 0x10, half ? 0 : n, &m);
}

static struct hop abs_word(const void *p) { return h_abs(p); }

/* Vector registers to memory, if they are the guest's.  Flags and rax, rcx, rdx are free. */
void jit_emit_vec_spill(struct emit *e, struct jit *j)
{
    static const uint8_t xgetbv1[] = { 0xb9, 1, 0, 0, 0, 0x0f, 0x01, 0xd0, 0x83, 0xe0, 0x04 }; /* ...; and eax, 4 */
    static const uint8_t xorps0[] = { 0x0f, 0x57, 0xc0 };
    struct hop up = abs_word(&j->upper);
    uint8_t *skip, *xmm = NULL, *done = NULL;

    e_alu_imm(e, 1, 7, abs_word(&j->vdead), 0);
    skip = e_jcc(e, CC_NE);
    if (j->host_avx) {
        if (j->host_xinuse) {
            memcpy(e->p, xgetbv1, sizeof xgetbv1);
            e->p += sizeof xgetbv1;
            e_op(e, 0, 0, 0x89, RAX, &up);
            xmm = e_jcc(e, CC_E);
        }
        for (unsigned i = 0; i < 16; i++)
            vec_move(e, j->vp, i, true, true, 0);
        if (!j->host_xinuse) { /* it is not known that they are clear */
            e_op(e, 0, 0, 0xc7, 0, &up);
            e4(e, 1);
        }
    }
    if (xmm) {
        done = e_jmp(e);
        e_bind(xmm, e->p);
    }
    if (!j->host_avx || xmm)
        for (unsigned i = 0; i < 16; i++)
            vec_move(e, j->vp, i, false, true, 0);
    if (xmm) {
        memcpy(e->p, xorps0, sizeof xorps0);
        e->p += sizeof xorps0;
        for (unsigned i = 0; i < 16; i++)
            vec_move(e, j->vp, i, false, true, 1);
        e_bind(done, e->p);
    }
    e_bind(skip, e->p);
}

static void vec_fill(struct emit *e, struct jit *j)
{
    uint8_t *skip, *xmm = NULL, *done = NULL;

    e_alu_imm(e, 1, 7, abs_word(&j->vdead), 0);
    skip = e_jcc(e, CC_NE);
    if (j->host_avx) {
        e_alu_imm(e, 0, 7, abs_word(&j->upper), 0);
        xmm = e_jcc(e, CC_E);
        for (unsigned i = 0; i < 16; i++)
            vec_move(e, j->vp, i, true, false, 0);
        done = e_jmp(e);
        e_bind(xmm, e->p);
        e1(e, 0xc5), e1(e, 0xf8), e1(e, 0x77); /* vzeroupper */
    }
    for (unsigned i = 0; i < 16; i++)
        vec_move(e, j->vp, i, false, false, 0);
    if (done)
        e_bind(done, e->p);
    e_bind(skip, e->p);
}

static void spill(struct emit *e, struct jit *j)
{
    struct hv_vp *vp = j->vp;

    for (unsigned i = 0; i < NRES; i++)
        e_mov_store(e, h_abs(&vp->cpu.gpr[resident[i][1]]), resident[i][0]);
    e1(e, 0x9f);                              /* lahf */
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);    /* seto al */
    e1(e, 0x0f), e1(e, 0xb7), e1(e, 0xc0);    /* movzx eax, ax */
    struct hop m = h_abs(&vp->cpu.fl);

    e_op(e, 0, 0, 0x89, RAX, &m);
    jit_emit_vec_spill(e, j);
}

static void fill(struct emit *e, struct jit *j)
{
    struct hv_vp *vp = j->vp;

    vec_fill(e, j);
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

/* From the stack of returns to C's.  rcx is free. */
static void to_c(struct emit *e, struct jit *j)
{
    spill(e, j);
    jit_emit_stack_to_c(e, j);
}

void jit_emit_stack_to_c(struct emit *e, struct jit *j)
{
    e_mov_load(e, RCX, h_abs(&j->rsp_cur));
    e_mov_store(e, h_mem(RCX, 0), RSP);
    e_mov_load(e, RSP, h_abs(&j->rsp_host));
}

void jit_emit_stack_from_c(struct emit *e, struct jit *j)
{
    e_mov_load(e, RCX, h_abs(&j->rsp_cur));
    e_mov_load(e, RSP, h_mem(RCX, 0));
}

/* The helper's result is where to go on. */
static void go_on(struct emit *e, struct jit *j)
{
    uint8_t *same;

    e_mov_store(e, h_abs(&j->target), RAX);
    e_mov_load32(e, RCX, h_abs(&j->vp->mmu.tlb_gen));
    e_alu_load(e, 0, 7, RCX, h_abs(&j->slot_gen));
    same = e_jcc(e, CC_E);
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, (const void *)jit_slots_flush);
    e_bind(same, e->p);
    jit_emit_stack_from_c(e, j);
    fill(e, j);
    jmp_abs(e, &j->target);
}

static const uint8_t *here(struct jit *j, struct emit *e) { return j->rx + (e->p - j->rw); }

static const uint8_t *site_thunk(struct jit *j, struct emit *e, const void *fn)
{
    const uint8_t *at = here(j, e);

    e_mov_store(e, h_abs(&j->ea), RCX);
    e_mov_store(e, h_abs(&j->site), R11);     /* its data */
    to_c(e, j);
    e_mov_load(e, RSI, h_abs(&j->site));
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, fn);
    go_on(e, j);
    return at;
}

/* The same, called: what is behind the call is the data. */
static const uint8_t *called_thunk(struct jit *j, struct emit *e, const void *fn)
{
    const uint8_t *at = here(j, e);
    struct hop m = h_abs(&j->site);

    e_op(e, 0, 0, 0x8f, 0, &m);               /* pop */
    to_c(e, j);
    e_mov_load(e, RSI, h_abs(&j->site));
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, fn);
    go_on(e, j);
    return at;
}

/* Called at a miss of a slot: rcx the address of the first byte, r11 the site.  From the TLB, or by C.  The flags are
 * free. */
static void slot_thunk(struct jit *j, struct emit *e)
{
    uint8_t *real1, *real2, *real3, *known, *global;
    struct hop m;

    j->t_slot = here(j, e);
    e_mov_store(e, h_abs(&j->lo), RCX);
    e_mov_store(e, h_abs(&j->a), RAX);
    e_mov_store(e, h_abs(&j->b), RDX);
    e_rorx(e, RAX, RCX, 7);
    e_alu_imm(e, 0, 4, h_reg(RAX), (X86_TLB_SIZE - 1) << 5);
    e_alu_load(e, 0, 0, RAX, h_mem(R11, offsetof(struct jslot_site, tags)));
    e_mov_load(e, RDX, h_mem(RAX, 0));
    e_alu_load(e, 1, 0, RCX, h_reg(RDX));
    e_alu_load(e, 1, 7, RCX, h_mem(R11, offsetof(struct jslot_site, lim)));
    real1 = e_jcc(e, CC_A);
    m = h_mem(R11, offsetof(struct jslot_site, align));
    e_op(e, 0, 0, 0x85, RCX, &m);              /* test */
    real3 = e_jcc(e, CC_NE);
    e_mov_load32(e, RCX, h_mem(R11, offsetof(struct jslot_site, budget)));
    m = h_mem(RCX, 0);
    e_op(e, 0, 0, 0xff, 1, &m);                /* dec dword */
    real2 = e_jcc(e, CC_S);
    e_mov_load32(e, RCX, h_mem(R11, offsetof(struct jslot_site, slot)));
    e_mov_store(e, h_mem(RCX, 0), RDX);
    e_alu_imm(e, 1, 4, h_reg(RAX), -32);       /* the entry, from nrd or nwr */
    m = h_mem(RAX, offsetof(struct x86_tlb_entry, info));
    e_op(e, 0, 0, 0xf6, 0, &m);                /* test byte, GLOBAL */
    e1(e, X86_TLB_GLOBAL);
    global = e_jcc(e, CC_NE);
    e_mov_load(e, RCX, h_mem(R11, offsetof(struct jslot_site, group)));
    m = h_abs(&j->slot_local);
    e_op(e, E_W, 0, 0x09, RCX, &m);            /* or */
    e_bind(global, e->p);
    e_mov_load(e, RAX, h_mem(RAX, offsetof(struct x86_tlb_entry, add)));
    e_mov_store(e, h_abs(&j->slot_add), RAX);
    e_alu_load(e, 1, 5, RAX, h_reg(RDX));      /* the host page */
    e_rorx(e, RAX, RAX, 9);
    e_alu_imm(e, 0, 4, h_reg(RAX), (JIT_SLOT_FILTER - 1) << 3);
    e_mov_load(e, RCX, h_mem(R11, offsetof(struct jslot_site, group)));
    m = h_mem(RAX, (int32_t)(uintptr_t)j->slot_host);
    e_op(e, E_W, 0, 0x09, RCX, &m);
    e_rorx(e, RAX, RDX, 9);
    e_alu_imm(e, 0, 4, h_reg(RAX), (JIT_SLOT_FILTER - 1) << 3);
    m = h_mem(RAX, (int32_t)(uintptr_t)j->slot_lin);
    e_op(e, E_W, 0, 0x09, RCX, &m);
    e_mov_load(e, RAX, h_abs(&j->slot_add));
    e_mov_load32(e, RCX, h_mem(R11, offsetof(struct jslot_site, slot)));
    e_alu_load(e, 1, 4, RDX, h_mem(R11, offsetof(struct jslot_site, mask)));
    e_alu_load(e, 1, 5, RAX, h_reg(RDX));      /* host - linear address, or plus the page */
    e_mov_store(e, h_mem(RCX, 8), RAX);
    e_mov_load32(e, RCX, h_mem(R11, offsetof(struct jslot_site, dirty)));
    m = h_mem(RCX, 0);
    e_op(e, 0, 0, 0x80, 7, &m);                /* cmp byte, 0 */
    e1(e, 0);
    known = e_jcc(e, CC_NE);
    e_op(e, 0, 0, 0xc6, 0, &m);                /* mov byte, 1 */
    e1(e, 1);
    e_mov_load(e, RAX, h_abs(&j->slot_top));
    m = h_mem(RAX, 0);
    e_op(e, 0, 0, 0x89, RCX, &m);
    m = h_abs(&j->slot_top);
    e_op(e, E_W, 0, 0x83, 0, &m);              /* add qword, 4 */
    e1(e, 4);
    e_bind(known, e->p);
    e_op(e, E_W, 0, 0xff, 0, (m = h_abs(&j->stat[JST_SLOT_TLB]), &m)); /* inc qword */
    e_mov_load(e, RAX, h_abs(&j->a));
    e_mov_load(e, RDX, h_abs(&j->b));
    e1(e, 0xc3);
    e_bind(real1, e->p);
    e_bind(real2, e->p);
    e_bind(real3, e->p);
    e_mov_load(e, RAX, h_abs(&j->a));
    e_mov_load(e, RDX, h_abs(&j->b));
    e_mov_store(e, h_abs(&j->site), R11);
    e1(e, 0x59);                               /* pop rcx */
    to_c(e, j);
    e_mov_load(e, RSI, h_abs(&j->site));
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, (const void *)jit_c_slot);
    go_on(e, j);
}

/* Called when the slot of the stack (direct), or of a page that the code knows (@fixed, holds the host page; its number is
 * jsite.arg), does not have what is accessed: rcx the address, r11 struct jsite, whose window counts.  From the TLB, or by C,
 * which does not come back here. */
static void page_thunk(struct jit *j, struct emit *e, unsigned view, bool write, bool live, bool fixed)
{
    struct x86_tlb_entry *e0 = j->vp->mmu.views[view].e;
    int32_t tag = (int32_t)(uintptr_t)(write ? &e0->nwr : &e0->nrd), list = (int32_t)(uintptr_t)j->slot_dirty;
    uint32_t first = jit_slot_kind(view, write, fixed) * JIT_SLOTS + (fixed ? JIT_SLOTS - JIT_SLOTS_FIXED : 0);
    uint64_t groups = 0;
    struct hop m;
    uint8_t *miss, *global, *known;

    for (uint32_t i = first; i < first + (fixed ? JIT_SLOTS_FIXED : 1); i++)
        groups |= 1ull << jit_slot_group(i);
    *(fixed ? &j->t_fixed[view][write][live] : &j->t_stack[view][write][live]) = here(j, e);
    e_mov_store(e, h_abs(&j->xa), R11);
    e_mov_store(e, h_abs(&j->lo), RCX);
    e_mov_store(e, h_abs(&j->a), RAX);
    e_mov_store(e, h_abs(&j->b), RDX);
    if (live) {
        e1(e, 0x9f);                           /* lahf */
        e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0); /* seto al */
        e_mov_store32(e, h_abs(&j->xf), RAX);
    }
    e_op(e, E_W, 1, 0xbf, RDX, (m = h_mem(R11, offsetof(struct jsite, glo)), &m)); /* movsx rdx, word */
    e_lea(e, RDX, h_sib(RDX, RCX, 0, 0));
    e_rorx(e, RAX, RDX, 7);
    e_alu_imm(e, 0, 4, h_reg(RAX), (X86_TLB_SIZE - 1) << 5);
    e_alu_load(e, 1, 0, RDX, h_mem(RAX, tag));
    e_op(e, 0, 1, 0xb7, R11, (m = h_mem(R11, offsetof(struct jsite, gn)), &m)); /* movzx r11d, word */
    e_mov_imm(e, RCX, 4096);
    e_alu_load(e, 1, 5, RCX, h_reg(R11));
    e_alu_load(e, 1, 7, RDX, h_reg(RCX));
    miss = e_jcc(e, CC_A);
    /* r11: two times the slot's number. */
    if (fixed) {
        e_mov_load(e, R11, h_abs(&j->xa));
        e_mov_load32(e, R11, h_mem(R11, offsetof(struct jsite, arg)));
        e_lea(e, R11, h_sib(R11, R11, 0, 0));
    } else {
        e_mov_imm(e, R11, 2ull * first);
    }
    e_mov_load(e, RDX, h_mem(RAX, tag));
    e_mov_load(e, RCX, h_mem(RAX, (int32_t)(uintptr_t)&e0->add));
    e_mov_store(e, h_sib(NOREG, R11, 3, (int32_t)(uintptr_t)&j->slot[0].tag), RDX);
    if (!fixed)
        e_mov_store(e, h_sib(NOREG, R11, 3, (int32_t)(uintptr_t)&j->slot[0].val), RCX);
    e_alu_load(e, 1, 5, RCX, h_reg(RDX));      /* the host page */
    if (fixed)
        e_mov_store(e, h_sib(NOREG, R11, 3, (int32_t)(uintptr_t)&j->slot[0].val), RCX);
    e_op(e, 0, 0, 0xc1, 5, (m = h_reg(R11), &m)); /* shr r11d: the chunk's number */
    e1(e, 1 + __builtin_ctz(JIT_SLOT_CHUNK));
    e_op(e, 0, 0, 0x80, 7, (m = h_mem(R11, list), &m)); /* cmp byte, 0 */
    e1(e, 0);
    known = e_jcc(e, CC_NE);
    e_op(e, 0, 0, 0xc6, 0, &m);                /* mov byte, 1 */
    e1(e, 1);
    e_lea32(e, R11, m);
    e_mov_store(e, h_abs(&j->slot_add), RAX);
    e_mov_load(e, RAX, h_abs(&j->slot_top));
    e_mov_store32(e, h_mem(RAX, 0), R11);
    e_op(e, E_W, 0, 0x83, 0, (m = h_abs(&j->slot_top), &m)); /* add qword, 4 */
    e1(e, 4);
    e_mov_load(e, RAX, h_abs(&j->slot_add));
    e_bind(known, e->p);
    e_mov_imm(e, R11, groups);
    m = h_mem(RAX, (int32_t)(uintptr_t)&e0->info);
    e_op(e, 0, 0, 0xf6, 0, &m);                /* test byte, GLOBAL */
    e1(e, X86_TLB_GLOBAL);
    global = e_jcc(e, CC_NE);
    e_op(e, E_W, 0, 0x09, R11, (m = h_abs(&j->slot_local), &m)); /* or */
    e_bind(global, e->p);
    e_rorx(e, RCX, RCX, 9);
    e_alu_imm(e, 0, 4, h_reg(RCX), (JIT_SLOT_FILTER - 1) << 3);
    e_op(e, E_W, 0, 0x09, R11, (m = h_mem(RCX, (int32_t)(uintptr_t)j->slot_host), &m));
    e_rorx(e, RDX, RDX, 9);
    e_alu_imm(e, 0, 4, h_reg(RDX), (JIT_SLOT_FILTER - 1) << 3);
    e_op(e, E_W, 0, 0x09, R11, (m = h_mem(RDX, (int32_t)(uintptr_t)j->slot_lin), &m));
    e_op(e, E_W, 0, 0xff, 0, (m = h_abs(&j->stat[JST_SLOT_TLB]), &m)); /* inc qword */
    for (unsigned i = 0; i < 2; i++) {
        e_mov_load(e, RDX, h_abs(&j->b));
        if (live) {
            e_mov_load32(e, RAX, h_abs(&j->xf));
            e1(e, 0x04), e1(e, 0x7f), e1(e, 0x9e); /* add al, 127; sahf */
        }
        e_mov_load(e, RAX, h_abs(&j->a));
        if (i)
            break;
        e1(e, 0xc3);
        e_bind(miss, e->p);
    }
    e_mov_load(e, R11, h_abs(&j->xa));
    e_lea(e, RSP, h_mem(RSP, 8));
    e_mov_load(e, RCX, h_abs(&j->lo));
    e_bind(e_jmp(e), j->rw + (j->t_miss - j->rx));
}

/* Called for each access of code that does not run often, where a check in line would take three times the room:
 * rcx the address, which stays; r11 becomes what leads from it to host memory.  The flags stay if they are @live.
 * Else C looks, for whom rcx goes to j->ea and the place of the call to j->site. */
static void check_thunk(struct jit *j, struct emit *e, unsigned view, bool write, bool live, unsigned kind, const uint8_t *miss)
{
    struct x86_tlb_entry *e0 = j->vp->mmu.views[view].e;
    int32_t tag = (int32_t)(uintptr_t)(write ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    unsigned align = kind == 10 ? 15 : kind == 11 ? 31 : 0, n = align ? align + 1 : 1u << kind;
    uint8_t *out, *out2 = NULL, *ok;
    struct hop m;

    j->t_check[view][write][live][kind] = here(j, e);
    if (!live) {
        e_rorx(e, R11, RCX, 7);
        e_alu_imm(e, 0, 4, h_reg(R11), (X86_TLB_SIZE - 1) << 5);
        e_alu_load(e, 1, 0, RCX, h_mem(R11, tag));
        e_op(e, E_W, 0, 0x81, 7, (m = h_reg(RCX), &m));
        e4(e, 4096 - n);
        out = e_jcc(e, CC_A);
        if (align) {
            e1(e, 0xf6), e1(e, 0xc1), e1(e, align); /* test cl, imm8 */
            out2 = e_jcc(e, CC_NE);
        }
        e_alu_load(e, 1, 5, RCX, h_mem(R11, tag));
        e_mov_load(e, R11, h_mem(R11, add));
        e1(e, 0xc3);
        e_bind(out, e->p);
        if (out2)
            e_bind(out2, e->p);
        e_alu_load(e, 1, 5, RCX, h_mem(R11, tag));
    } else {
        const uint64_t *mask = align == 31 ? &j->mask_page32 : align ? &j->mask_page16 : &j->mask_page;

        e_mov_store(e, h_abs(&j->lo), RCX);
        e_mov_store(e, h_abs(&j->a), RAX);
        e_pext(e, R11, RCX, h_abs(&j->mask_idx));
        e_lea(e, R11, h_sib(NOREG, R11, 3, 0));
        e_mov_load(e, RAX, h_sib(NOREG, R11, 2, tag));
        e_lea(e, RCX, h_sib(RCX, RAX, 0, align ? 0 : (int32_t)n - 1)); /* the last byte */
        e_pext(e, RCX, RCX, h_abs(mask));
        e_mov_load(e, RAX, h_abs(&j->a));
        e_mov_load(e, R11, h_sib(NOREG, R11, 2, add));
        ok = e_jrcxz(e);
        e_mov_load(e, RCX, h_abs(&j->lo));
        out = e_jmp(e);
        e_bind8(e, ok);
        e_mov_load(e, RCX, h_abs(&j->lo));
        e1(e, 0xc3);
        e_bind(out, miss);
        return;
    }
    e_bind(e_jmp(e), miss);
}

static void check_thunks(struct jit *j, struct emit *e)
{
    const uint8_t *miss = e->p;

    e_mov_store(e, h_abs(&j->ea), RCX);
    e1(e, 0x59);                               /* pop rcx */
    e_mov_store(e, h_abs(&j->site), RCX);
    to_c(e, j);
    e_mov_load(e, RSI, h_abs(&j->site));
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, (const void *)jit_c_check);
    go_on(e, j);
    for (unsigned view = 0; view < JIT_CLASSES; view++)
        for (unsigned i = 0; i < 4 * JIT_CHECKS; i++)
            check_thunk(j, e, view, i & 1, i & 2, i / 4, miss);
}

/* An entry of floating code is reached by an address of the guest that wants another bias, by rcx: one that was in use
 * lately, or C looks.  Returns when it is set, so that the host's own prediction of returns stays right.  Flags and all
 * registers of the guest stay. */
static void bias_thunk(struct jit *j, struct emit *e)
{
    int32_t cache = (int32_t)(uintptr_t)j->bias_cache;
    uint8_t *hit;

    _Static_assert(sizeof(struct jbias) == 16, "two of the index register's scale");
    e_mov_store(e, h_abs(&j->a), RAX);
    e_mov_load(e, R11, h_abs(&j->bias));
    e_lea(e, RCX, h_sib(RCX, R11, 0, 0));
    e_mov_store(e, h_abs(&j->b), RCX);
    e_pext(e, RAX, RCX, h_abs(&j->mask_bias));
    e_lea(e, RAX, h_sib(RAX, RAX, 0, 0));
    e_mov_load(e, R11, h_sib(NOREG, RAX, 3, cache + (int32_t)offsetof(struct jbias, neg)));
    e_lea(e, RCX, h_sib(RCX, R11, 0, 0));
    hit = e_jrcxz(e);
    e1(e, 0x58);                               /* pop rax */
    e_mov_load32(e, RAX, h_mem(RAX, JIT_BIAS_CANON));
    e_mov_load(e, RCX, h_abs(&j->b));
    e_lea(e, RCX, h_sib(RCX, RAX, 0, 0));
    e_mov_load(e, RAX, h_abs(&j->a));
    e_bind(e_jmp(e), j->rw + (j->t_dispatch - j->rx));
    e_bind8(e, hit);
    e_mov_store(e, h_abs(&j->neg_bias), R11);
    e_mov_load32(e, RCX, h_sib(NOREG, RAX, 3, cache + (int32_t)offsetof(struct jbias, neg_sig)));
    e_mov_store32(e, h_abs(&j->neg_sig), RCX);
    e_mov_load(e, RCX, h_abs(&j->b));
    e_mov_store(e, h_abs(&j->bias), RCX);
    e_mov_load(e, RAX, h_abs(&j->a));
    e1(e, 0xc3);
}

/* rcx: where the guest goes, and jc[] does not know it: known[], or C; or C at once. */
static void dispatch_thunk(struct jit *j, struct emit *e)
{
    int32_t known = (int32_t)(uintptr_t)j->known;
    struct hop m;
    uint8_t *hit, *no;

    _Static_assert(sizeof(struct jknown) == 64, "eight of the index register's scale");
    j->t_dispatch = here(j, e);
    e_mov_store(e, h_abs(&j->ea), RCX);
    e_mov_store(e, h_abs(&j->a), RAX);
    e_pext(e, RAX, RCX, h_abs(&j->mask_known));
    e_op(e, 0, 1, 0xb6, R11, (m = h_abs(&j->vp->mmu.view), &m)); /* movzx r11d, byte */
    e_rorx(e, R11, R11, 64 - __builtin_ctz(JIT_KNOWN));
    e_lea(e, RAX, h_sib(RAX, R11, 0, 0));
    e_lea(e, RAX, h_sib(NOREG, RAX, 3, 0));
    e_mov_load(e, R11, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, neg_tag)));
    e_lea(e, RCX, h_sib(RCX, R11, 0, 0));
    hit = e_jrcxz(e);
    no = e_jmp(e);
    e_bind8(e, hit);
    e_mov_load(e, RCX, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, bias)));
    e_mov_store(e, h_abs(&j->bias), RCX);
    e_mov_load(e, RCX, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, neg_bias)));
    e_mov_store(e, h_abs(&j->neg_bias), RCX);
    e_mov_load32(e, RCX, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, neg_sig)));
    e_mov_store32(e, h_abs(&j->neg_sig), RCX);
    e_mov_load(e, RCX, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, place)));
    e_mov_load(e, R11, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, ind)));
    e_mov_store(e, h_mem(RCX, 0), R11);
    e_mov_load32(e, R11, h_sib(NOREG, RAX, 3, known + (int32_t)offsetof(struct jknown, host)));
    e_mov_load(e, RAX, h_abs(&j->a));
    m = h_reg(R11);
    e_op(e, 0, 0, 0xff, 4, &m);                /* jmp r11 */
    e_bind(no, e->p);
    e_mov_load(e, RAX, h_abs(&j->a));
    e_mov_load(e, RCX, h_abs(&j->ea));
    j->t_dispatch_c = here(j, e);
    e_mov_store(e, h_abs(&j->ea), RCX);
    to_c(e, j);
    e_mov_load(e, RSI, h_abs(&j->ea));
    e_mov_imm(e, RDI, (uint64_t)(uintptr_t)j->vp);
    call_c(e, (const void *)jit_c_dispatch);
    go_on(e, j);
}

/* rax: an address.  It becomes that of the host in the same register, when the rdx bytes there are in one page that the
 * TLB has; r11 is used up.  @return jumps that are taken when not. */
static void string_side(struct emit *e, struct x86_tlb_entry *e0, bool write, unsigned reg, uint8_t *out[2])
{
    int32_t tag = (int32_t)(uintptr_t)(write ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    struct hop m = h_reg(RAX);

    e_rorx(e, R11, reg, 7);
    e_alu_imm(e, 0, 4, h_reg(R11), (X86_TLB_SIZE - 1) << 5);
    e_mov_rr(e, RAX, reg);
    e_alu_load(e, 1, 0, RAX, h_mem(R11, tag));
    e_op(e, E_W, 0, 0x81, 7, &m);
    e4(e, 4096);
    out[0] = e_jcc(e, CC_AE);
    e_alu_load(e, 1, 0, RAX, h_reg(RDX));
    e_op(e, E_W, 0, 0x81, 7, &m);
    e4(e, 4096);
    out[1] = e_jcc(e, CC_A);
    e_mov_load(e, R11, h_mem(R11, add));
}

/* Called for a REP MOVS or STOS with 64-bit addresses.  rcx: 0 when it is done; else nothing has happened, as it is long,
 * leaves its pages, goes down, or meets something that C has to look at.  Flags stay. */
static void string_thunk(struct jit *j, struct emit *e, unsigned view, bool stos, unsigned shift)
{
    struct x86_tlb_entry *e0 = j->vp->mmu.views[view].e;
    struct hop m, rdx = h_reg(RDX);
    uint8_t *no[6], *apart, *done;

    j->t_string[view][stos][shift] = here(j, e);
    e_mov_store(e, h_abs(&j->a), RAX);
    e_mov_store(e, h_abs(&j->b), RDX);
    e1(e, 0x9f);                               /* lahf */
    e1(e, 0x0f), e1(e, 0x90), e1(e, 0xc0);     /* seto al */
    e_op(e, E_66, 0, 0x89, RAX, (m = h_abs(&j->xf), &m));
    m = h_abs(&j->vp->cpu.eflags);
    e_op(e, 0, 0, 0xf7, 0, &m);                /* test dword, DF */
    e4(e, EF_DF);
    no[0] = e_jcc(e, CC_NE);
    e_op(e, E_W, 0, 0x81, 7, (m = h_reg(R9), &m));
    e4(e, 4096 >> shift);
    no[1] = e_jcc(e, CC_A);
    e_lea(e, RDX, h_sib(NOREG, R9, shift, 0));
    if (!stos) {
        string_side(e, e0, false, RSI, no + 2);
        e_mov_store(e, h_abs(&j->lo), R11);
    } else {
        no[2] = no[3] = NULL;
    }
    string_side(e, e0, true, RDI, no + 4);
    e_mov_store(e, h_abs(&j->ea), R11);
    e_alu_load(e, 1, 0, RDI, h_reg(R11));
    e_mov_rr(e, RCX, R9);
    if (stos) {
        e_mov_load(e, RAX, h_abs(&j->a));
        e1(e, 0xf3);
        if (shift == 1 || shift == 3)
            e1(e, shift == 1 ? 0x66 : 0x48);
        e1(e, shift ? 0xab : 0xaa);
    } else {
        e_alu_load(e, 1, 0, RSI, h_abs(&j->lo));
        /* By bytes is faster, and the same unless what is read has been written a moment ago. */
        e_mov_rr(e, RAX, RDI);
        e_alu_load(e, 1, 5, RAX, h_reg(RSI));
        e_op(e, E_W, 0, 0x3b, RAX, &rdx);
        apart = e_jcc(e, CC_AE);
        e1(e, 0xf3);
        if (shift == 1 || shift == 3)
            e1(e, shift == 1 ? 0x66 : 0x48);
        e1(e, shift ? 0xa5 : 0xa4);
        done = e_jmp(e);
        e_bind(apart, e->p);
        e_mov_rr(e, RCX, RDX);
        e1(e, 0xf3), e1(e, 0xa4);
        e_bind(done, e->p);
        e_alu_load(e, 1, 5, RSI, h_abs(&j->lo));
    }
    e_alu_load(e, 1, 5, RDI, h_abs(&j->ea));
    e_mov_imm(e, R9, 0);
    e_op(e, 0, 0, 0xc6, 0, (m = h_abs(&j->vp->rep_begun), &m));
    e1(e, 0);
    done = e_jmp(e);
    for (unsigned i = 0; i < 6; i++)
        if (no[i])
            e_bind(no[i], e->p);
    e_mov_imm(e, RCX, 1);
    e_bind(done, e->p);
    e_mov_load(e, RDX, h_abs(&j->b));
    e_mov_load32(e, RAX, h_abs(&j->xf));
    e1(e, 0x04), e1(e, 0x7f), e1(e, 0x9e);     /* add al, 127; sahf */
    e_mov_load(e, RAX, h_abs(&j->a));
    e1(e, 0xc3);
}

void jit_make_thunks(struct jit *j)
{
    static const uint8_t push[] = { 0x53, 0x55, 0x41, 0x54, 0x41, 0x55, 0x41, 0x56, 0x41, 0x57, 0x48, 0x83, 0xec, 0x08 };
    static const uint8_t pop[] = { 0x48, 0x83, 0xc4, 0x08, 0x41, 0x5f, 0x41, 0x5e, 0x41, 0x5d, 0x41, 0x5c, 0x5d, 0x5b, 0xc3 };
    struct emit e = { .p = j->rw };

    j->t_enter = here(j, &e);                 /* void enter(const uint8_t *host): rsp becomes a multiple of 16 */
    memcpy(e.p, push, sizeof push);
    e.p += sizeof push;
    e_mov_store(&e, h_abs(&j->target), RDI);
    e_mov_store(&e, h_abs(&j->rsp_host), RSP);
    jit_emit_stack_from_c(&e, j);
    fill(&e, j);
    jmp_abs(&e, &j->target);

    j->t_ripexit = here(j, &e);               /* rcx: cpu.rip */
    e_mov_store(&e, h_abs(&j->vp->cpu.rip), RCX);
    j->t_exit = here(j, &e);
    to_c(&e, j);
    e_op(&e, E_W, 0, 0xc7, 0, &(struct hop){ .mem = true, .base = NOREG, .index = NOREG, .disp = (int32_t)(uintptr_t)&j->vdead });
    e4(&e, 1);
    memcpy(e.p, pop, sizeof pop);
    e.p += sizeof pop;

    dispatch_thunk(j, &e);

    j->t_bias = here(j, &e);
    bias_thunk(j, &e);

    j->t_link = called_thunk(j, &e, (const void *)jit_c_link);
    j->t_miss = site_thunk(j, &e, (const void *)jit_c_miss);
    j->t_exec = site_thunk(j, &e, (const void *)jit_c_exec);
    j->t_drop = called_thunk(j, &e, (const void *)jit_c_drop);
    j->t_hot = called_thunk(j, &e, (const void *)jit_c_hot);
    j->t_page = called_thunk(j, &e, (const void *)jit_c_page);
    j->t_poll = called_thunk(j, &e, (const void *)jit_c_poll);
    j->t_vload = site_thunk(j, &e, (const void *)jit_c_vload);
    j->t_x87load = site_thunk(j, &e, (const void *)jit_c_x87load);
    jit_make_event_thunks(j, &e);
    slot_thunk(j, &e);
    check_thunks(j, &e);
    for (unsigned i = 0; i < 8 * JIT_CLASSES; i++)
        page_thunk(j, &e, i / 8, i & 1, i & 2, i & 4);
    for (unsigned c = 0; c < JIT_CLASSES; c++)
        for (unsigned i = 0; i < 8; i++)
            string_thunk(j, &e, c, i & 1, i / 2);
    for (unsigned c = 0; c < JIT_CLASSES; c++) {
        struct hop m = h_reg(RCX);

        /* A RET with nothing above: rcx is where to. */
        j->t_retmiss[c] = here(j, &e);
        e_mov_imm(&e, RSP, (uint64_t)(uintptr_t)&j->rets[c].miss);
        e_op(&e, 0, 1, 0xb7, R11, &m);        /* movzx r11d, cx */
        m = h_sib(NOREG, R11, 3, (int32_t)(uintptr_t)j->jc[c]);
        e_op(&e, 0, 0, 0xff, 4, &m);
        j->rets[c].miss = j->t_retmiss[c];
        jit_rets_clear(j, c);
    }
    j->rsp_cur = j->rsp;
    j->first = j->used = (uint32_t)((e.p - j->rw + 63) & ~63);
}
