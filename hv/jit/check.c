/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: effective addresses, and accesses through the software TLB's check; which share one. */
#include "hv/jit/tr.h"

bool tr_ea_of(const struct tr *t, const struct x86_insn *in, unsigned off, struct ea *ret)
{
    if (in->asize == 2 || in->vsib)
        return false;
    *ret = (struct ea){ in->base, in->index, in->scale, X86_SEG_NONE, in->asize == 4, in->disp };
    if (in->base == X86_REG_RIP) {
        ret->base = t->floating ? X86_REG_RIP : X86_REG_NONE;
        ret->disp = (int64_t)(t->rip + off + in->len + (uint64_t)in->disp);
        if (t->floating && ret->a32)
            return false;
    }
    if (ret->a32 && ret->base == X86_REG_NONE && ret->index == X86_REG_NONE)
        ret->disp = (uint32_t)ret->disp;
    if (in->seg == X86_FS || in->seg == X86_GS) {
        if (!t->m64 && !(t->key & (in->seg == X86_FS ? JKEY_FS_FLAT : JKEY_GS_FLAT)))
            return false;
        ret->seg = in->seg;
        if (!t->m64 && ret->base == X86_REG_NONE && ret->index == X86_REG_NONE)
            ret->disp = (int32_t)ret->disp;
    }
    if (!t->m64 && in->seg == X86_CS)
        return false;
    return true;
}

/* Effective address into @d; @u is another scratch register or NOREG.  Keeps flags.  @return false: it takes @u. */
bool tr_emit_ea(struct tr *t, const struct ea *a, unsigned d, unsigned u)
{
    bool hb = is_home(t, a->base), hi = is_home(t, a->index);
    unsigned b = h_or_none(t, a->base), x = h_or_none(t, a->index);
    bool big = !fits32(a->disp);

    if (d == T1 || u == T1)
        t->r11 = -1;

    if (a->base == X86_REG_NONE && a->index == X86_REG_NONE) {
        if (a->seg != X86_SEG_NONE && !big) {
            if (t->m64)
                e_mov_load(E, d, CPU(seg[a->seg].base));
            else /* of a base of 64 bits compatibility mode takes the lower half */
                e_mov_load32(E, d, CPU(seg[a->seg].base));
            if (t->m64 && a->a32 && a->disp < 0)
                return false;
            if (a->disp)
                lea_any(t, !t->m64, d, h_mem(d, (int32_t)a->disp));
            return true;
        }
        if (a->seg != X86_SEG_NONE)
            return false;
        e_mov_imm(E, d, (uint64_t)a->disp);
        return true;
    }
    if (big)
        return false;
    if (a->seg != X86_SEG_NONE && !a->a32 && !hb && !hi && (b == NOREG || x == NOREG)) {
        e_mov_load(E, d, CPU(seg[a->seg].base));
        e_lea(E, d, b != NOREG ? h_sib(d, b, 0, (int32_t)a->disp) : h_sib(d, x, a->scale, (int32_t)a->disp));
        return true;
    }
    if (hb && hi) {
        if (u == NOREG)
            return false;
        e_mov_load(E, d, HOME_OR_BIAS(a->base));
        e_mov_load(E, u, HOME(a->index));
        lea_any(t, a->a32, d, h_sib(d, u, a->scale, (int32_t)a->disp));
    } else if (hb) {
        e_mov_load(E, d, HOME_OR_BIAS(a->base));
        if (x != NOREG || a->disp || a->a32)
            lea_any(t, a->a32, d, h_sib(d, x, a->scale, (int32_t)a->disp));
    } else if (hi) {
        e_mov_load(E, d, HOME(a->index));
        lea_any(t, a->a32, d, h_sib(b, d, a->scale, (int32_t)a->disp));
    } else if (x == NOREG && !a->disp) {
        if (a->a32)
            e_mov_rr32(E, d, b);
        else
            e_mov_rr(E, d, b);
    } else {
        lea_any(t, a->a32, d, h_sib(b, x, a->scale, (int32_t)a->disp));
    }
    if (a->seg != X86_SEG_NONE) {
        if (u == NOREG)
            return false;
        e_mov_load(E, u, CPU(seg[a->seg].base));
        lea_any(t, !t->m64, d, h_sib(d, u, 0, 0));
    }
    return true;
}

/* Can emit_ea do it with one register? */
bool tr_ea_one_reg(const struct tr *t, const struct ea *a)
{
    bool none = a->base == X86_REG_NONE && a->index == X86_REG_NONE;

    if (none)
        return a->seg == X86_SEG_NONE || (fits32(a->disp) && !(a->a32 && a->disp < 0));
    if (a->seg != X86_SEG_NONE)
        return !a->a32 && !is_home(t, a->base) && !is_home(t, a->index) && (a->base == X86_REG_NONE || a->index == X86_REG_NONE);
    return !(is_home(t, a->base) && is_home(t, a->index));
}

struct cold *tr_cold_new(struct tr *t, unsigned kind, uint8_t *from)
{
    struct cold *c = &t->cold[t->ncold++];

    *c = (struct cold){ .kind = (uint8_t)kind, .from = from, .ti = (uint8_t)t->cur, .lent = t->lent };
    return c;
}

/* A slot for a site of the current instruction. */
static uint32_t slot_new(struct tr *t, unsigned acc, bool host, bool stack)
{
    struct jit *j = t->j;
    unsigned k = jit_slot_kind(t->cls, acc & X86_ACC_WRITE, host), n = 0;

    if (!stack) {
        n = j->slot_next[k];
        j->slot_next[k] = (uint16_t)(n + 1 < (j->small ? 2 * JIT_MAX_INSNS + 2 : JIT_SLOTS - JIT_SLOTS_FIXED) ? n + 1 : 1);
    }
    return k * JIT_SLOTS + n;
}

/* How an access is checked. */
enum by { BY_CALL /* of a thunk that looks into the TLB */, BY_TLB, BY_SLOT, BY_SLOT_SAVED /* flags are put away meanwhile */, BY_SLOT_LIVE /* without touching flags */ };

static enum by by_what(const struct tr *t)
{
    const struct ti *ti = &t->ti[t->cur];

    if (!t->warm)
        return BY_CALL;
    if (!t->hot || (*jit_hint(t->j, t->phys + ti->off) & JHINT_TLB))
        return BY_TLB;
    return !ti->live_in ? BY_SLOT : t->j->exact_slots ? BY_SLOT_SAVED : BY_SLOT_LIVE;
}

/* rcx: the address; it becomes the offset in the page, or nothing (BY_SLOT_LIVE).  @return the slot's miss. */
static struct cold *slot_check(struct tr *t, enum by by, uint32_t slot, unsigned n, unsigned align)
{
    struct hop m, mask = h_abs(align == 31 ? &t->j->mask_page32 : align ? &t->j->mask_page16 : &t->j->mask_page);
    struct cold *c;

    if (by == BY_SLOT_LIVE) {
        uint8_t *ok;

        e_mov_load(E, T1, h_abs(&t->j->slot[slot].tag));
        e_lea(E, T0, h_sib(T0, T1, 0, 0));
        if (n > align + 1) { /* its last byte, too */
            e_lea(E, T1, h_mem(T0, (int32_t)n - 1));
            e_pext(E, T1, T1, h_abs(&t->j->mask_page));
            e_pext(E, T0, T0, mask);
            e_lea(E, T0, h_sib(T0, T1, 0, 0));
        } else {
            e_pext(E, T0, T0, mask);
        }
        ok = e_jrcxz(E);
        c = tr_cold_new(t, COLD_SLOT, e_jmp(E));
        c->keep_flags = true;
        c->flags = JS_XFLAGS;
        e_bind8(E, ok);
    } else {
        e_alu_load(E, 1, 0, T0, h_abs(&t->j->slot[slot].tag));
        e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
        e4(E, 4096 - n);
        c = tr_cold_new(t, COLD_SLOT, e_jcc(E, CC_A));
        c->flags = by == BY_SLOT_SAVED ? JS_XFLAGS : 0;
        if (align) {
            e1(E, 0xf6), e1(E, 0xc1), e1(E, align); /* test cl, imm8 */
            tr_cold_new(t, COLD_MISS, e_jcc(E, CC_NE))->flags = c->flags;
        }
        if (by == BY_SLOT_SAVED)
            tr_flags_load(t);
    }
    c->slot = slot;
    c->host = (slot / JIT_SLOTS) & 1;
    return c;
}

/* Code that is not hot yet has no slots, but for that of the stack: hardly anything else is there again and again.  Not for a
 * site while a group relies on what is in it. */
static bool by_stack_slot(const struct tr *t, enum by by, const struct ea *a, unsigned acc)
{
    return by == BY_TLB && a->base == X86_RSP && !t->align && !t->stack_taken[!!(acc & X86_ACC_WRITE)];
}

/* rcx: the address, which is used up; the slot of the stack has it. */
static struct cold *stack_check(struct tr *t, unsigned n, unsigned acc)
{
    bool live = t->ti[t->cur].live_in;
    uint32_t slot = slot_new(t, acc, false, true);
    struct cold *c = slot_check(t, live ? BY_SLOT_LIVE : BY_SLOT, slot, n, 0);

    c->kind = COLD_STACK;
    c->flags = 0;
    c->keep_flags = live;
    c->again = E->p;
    c->gn = (uint16_t)n;
    e_mov_load(E, T1, h_abs(&t->j->slot[slot].val));
    return c;
}

/* Are the @n bytes at @at, an address of this code's, such that code may look at the page's own slot? */
static bool by_fixed_slot(const struct tr *t, enum by by, int64_t at, unsigned n)
{
    int64_t page = at & ~4095ll;

    return by != BY_CALL && by != BY_SLOT_SAVED && t->m64 && (at & 4095) + n <= 4096 && fits32(page) && fits32(-page);
}

/* ... r11 := the host page.  What is there needs no address first, so that it does not wait for one.
 * @moves: with the code, by the bias. */
static struct cold *fixed_check(struct tr *t, int64_t at, unsigned n, unsigned acc, bool moves)
{
    bool live = t->ti[t->cur].live_in;
    int32_t page = (int32_t)(at & ~4095ll);
    uint32_t slot = jit_slot_kind(t->cls, acc & X86_ACC_WRITE, true) * JIT_SLOTS + JIT_SLOTS - JIT_SLOTS_FIXED +
                    ((uint32_t)(page >> 12) & (t->j->small ? 3 : JIT_SLOTS_FIXED - 1));
    struct hop tag = h_abs(&t->j->slot[slot].tag), m = h_reg(T0);
    struct cold *c;
    uint8_t *no;

    if (live) {
        uint8_t *ok;

        e_mov_load(E, T0, tag);
        if (moves) {
            e_mov_load(E, T1, h_abs(&t->j->bias));
            e_lea(E, T0, h_sib(T0, T1, 0, page));
        } else {
            e_lea(E, T0, h_mem(T0, page));
        }
        ok = e_jrcxz(E);
        no = e_jmp(E);
        e_bind8(E, ok);
    } else if (moves) {
        e_mov_load(E, T0, h_abs(&t->j->neg_bias));
        e_alu_load(E, 1, 5, T0, tag);
        e_op(E, E_W, 0, 0x81, 7, &m); /* cmp rcx, imm32 */
        e4(E, (uint32_t)page);
        no = e_jcc(E, CC_NE);
    } else {
        e_op(E, E_W, 0, 0x81, 7, &tag);
        e4(E, (uint32_t)-page);
        no = e_jcc(E, CC_NE);
    }
    c = tr_cold_new(t, COLD_FIXED, no);
    c->slot = slot;
    c->keep_flags = live;
    c->again = E->p;
    c->gn = (uint16_t)n;
    e_mov_load(E, T1, h_abs(&t->j->slot[slot].val));
    return c;
}

/* The address is in rcx, the host code began at @retry. */
static void call_check(struct tr *t, int kind, unsigned acc, const uint8_t *retry, struct jsite s)
{
    struct jit *j = t->j;

    e_bind(e_call(E), thunk_rw(t, j->t_check[t->cls][!!(acc & X86_ACC_WRITE)][t->ti[t->cur].live_in != 0][kind]));
    s.retry = off_of(t, retry);
    s.arg = t->cur;
    j->acc[j->nacc++] = (struct jaccess){ off_of(t, E->p), s };
}

static uint8_t site_flags(const struct tr *t, bool second) { return (second ? JS_SECOND : 0) | (t->more ? JS_MORE : 0); }

/* Where the window of a group begins: with what has to be aligned. */
static int64_t group_lo(const struct group *g) { return g->lo - ((g->lo - g->phase) & g->align); }

/* rcx := address of the window, @lo from the registers of @a. */
static void group_window(struct tr *t, const struct ea *a, int32_t lo)
{
    struct ea w = *a;

    w.disp = lo;
    tr_emit_ea(t, &w, T0, NOREG);
}

/* The check of a group was good: r11 leads from the window's address to host memory.  Keep that, or where the window is (rcx
 * will be its address, or is @kept so). */
static void group_keep(struct tr *t, const struct ea *a, int32_t lo, int grp, bool kept)
{
    struct hop put = h_abs(&t->j->group[grp]);

    if (t->g[grp].whole) {
        if (!kept)
            group_window(t, a, lo);
        e_lea(E, T1, h_sib(T0, T1, 0, 0));
    }
    e_mov_store(E, put, T1);
    t->g[grp].where = &t->j->group[grp];
}

/* Can the access @a at @off be that of its group, here? */
static bool group_fits(const struct tr *t, const struct ea *a, int grp, int64_t off, enum by by)
{
    const struct group *g = &t->g[grp];
    bool index = a->index != X86_REG_NONE, fixed = g->root == ROOT_FIXED;

    if (a->a32 || a->seg != X86_SEG_NONE || !fits32(a->disp) || (g->index ? !index || is_home(t, a->index) : index))
        return false;
    if (fixed ? a->base < 16 : a->base >= 16 || is_home(t, a->base))
        return false;
    if (t->align && (fixed ? a->disp & (int64_t)t->align :
                             by == BY_CALL || t->align > g->align || ((a->disp + off - g->phase) & (int64_t)t->align)))
        return false;
    if (!g->done && by == BY_TLB && t->ti[t->cur].live_in && (g->whole || g->align) && !fixed)
        return false;
    return fits32(group_lo(g) - off);
}

/* r11 := what leads from the base register to host memory, or the address there when there is an index, for a member of
 * group @grp; @off: where the registers are from the group's root. */
static void group_access(struct tr *t, const struct ea *a, unsigned n, unsigned acc, bool second, int grp, int64_t off, enum by by)
{
    struct group *g = &t->g[grp];
    struct x86_tlb_entry *e0 = t->tlb->e;
    int32_t tag = (int32_t)(uintptr_t)((g->acc & X86_ACC_WRITE) ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    int64_t begin = by == BY_CALL ? g->lo : group_lo(g); /* members that are to be aligned do not go by a call */
    int32_t lo = (int32_t)(begin - off), w = (int32_t)(g->hi - begin);
    unsigned b = h_or_none(t, a->base), align = by == BY_CALL ? 0 : g->align, first = t->ncold;
    uint8_t *jb, *jb2 = NULL, *ok, *retry = E->p, *again;
    struct hop m;
    struct cold *c;

    if (g->done) {
        if (t->r11 != grp)
            e_mov_load(E, T1, h_abs(g->where));
        t->r11 = grp;
        return;
    }
    if (by == BY_CALL) {
        unsigned room = w > 1 ? 1u << (32 - __builtin_clz((unsigned)w - 1)) : 1;

        group_window(t, a, lo);
        call_check(t, jit_check_kind(room, 0), g->acc, retry,
                   (struct jsite){ .n = (uint8_t)n, .acc = (uint8_t)acc, .glo = (int16_t)(lo - (int32_t)a->disp), .gn = (uint16_t)room,
                                   .flags = (uint8_t)(JS_GROUP | site_flags(t, second) | (g->acc & X86_ACC_WRITE ? JS_GWRITE : 0)) });
        group_keep(t, a, lo, grp, true);
        g->done = true;
        t->r11 = grp;
        return;
    }
    if (g->root == ROOT_FIXED && by_fixed_slot(t, by, begin, (unsigned)w)) {
        fixed_check(t, begin, (unsigned)w, g->acc, t->floating);
        e_lea(E, T1, h_mem(T1, (int32_t)(begin & 4095)));
        e_mov_store(E, h_abs(&t->j->group[grp]), T1);
        g->where = &t->j->group[grp];
    } else if (by != BY_TLB) {
        bool stack = a->base == X86_RSP && !g->index && !t->stack_taken[!!(g->acc & X86_ACC_WRITE)];
        uint32_t slot = slot_new(t, g->acc, false, stack);

        if (stack)
            t->stack_taken[!!(g->acc & X86_ACC_WRITE)] = true;
        if (by == BY_SLOT_SAVED)
            tr_flags_save(t);
        again = E->p;
        group_window(t, a, lo);
        slot_check(t, by, slot, (unsigned)w, align)->again = again;
        g->where = &t->j->slot[slot].val;
        e_mov_load(E, T1, h_abs(g->where));
        if (g->whole)
            group_keep(t, a, lo, grp, false);
    } else if (by_stack_slot(t, by, a, g->acc) && !g->whole && !align) {
        t->stack_taken[!!(g->acc & X86_ACC_WRITE)] = true;
        group_window(t, a, lo);
        g->where = &t->j->slot[stack_check(t, (unsigned)w, g->acc)->slot].val;
    } else if (!t->ti[t->cur].live_in) {
        group_window(t, a, lo);
        e_rorx(E, T1, T0, 7);
        e_op(E, 0, 0, 0x81, 4, (m = h_reg(T1), &m));
        e4(E, (X86_TLB_SIZE - 1) << 5);
        e_alu_load(E, 1, 0, T0, h_mem(T1, tag));
        e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
        e4(E, 4096 - (uint32_t)w);
        jb = e_jcc(E, CC_A);
        if (align) {
            e1(E, 0xf6), e1(E, 0xc1), e1(E, align); /* test cl, imm8 */
            jb2 = e_jcc(E, CC_NE);
        }
        e_mov_load(E, T1, h_mem(T1, add));
        tr_cold_new(t, COLD_MISS, jb)->from2 = jb2;
        group_keep(t, a, lo, grp, false);
    } else {
        e_lea(E, T1, h_mem(b, lo));
        e_pext(E, T1, T1, h_abs(&t->j->mask_idx));
        e_lea(E, T1, h_sib(NOREG, T1, 3, 0));
        e_mov_load(E, T0, h_sib(NOREG, T1, 2, tag));
        e_lea(E, T0, h_sib(T0, b, 0, lo + w - 1));
        e_pext(E, T0, T0, h_abs(&t->j->mask_page));
        e_mov_load(E, T1, h_sib(NOREG, T1, 2, add));
        ok = e_jrcxz(E);
        jb = e_jmp(E);
        e_bind8(E, ok);
        tr_cold_new(t, COLD_MISS, jb);
        group_keep(t, a, lo, grp, false);
    }
    for (unsigned i = first; i < t->ncold; i++) {
        c = &t->cold[i];
        c->n = (uint8_t)n;
        c->acc = (uint8_t)acc;
        c->flags |= JS_GROUP | site_flags(t, second) | (g->acc & X86_ACC_WRITE ? JS_GWRITE : 0);
        c->align = (uint8_t)align;
        c->retry = retry;
        c->glo = (int16_t)(lo - (int32_t)a->disp);
        c->gn = (uint16_t)w;
    }
    g->done = true;
    t->r11 = grp;
}

/* After the check of @n bytes at @a, r11 (or r11 and rcx) lead to the host address: the returned operand.
 * @keep_t0: the operand must not use rcx. */
bool tr_mem_access(struct tr *t, const struct ea *a, unsigned n, unsigned acc, bool second, bool keep_t0,
                       int grp, int64_t off, struct hop *ret)
{
    const struct ti *ti = &t->ti[t->cur];
    struct x86_tlb_entry *e0 = t->tlb->e;
    int32_t tag = (int32_t)(uintptr_t)((acc & X86_ACC_WRITE) ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    bool none = a->base == X86_REG_NONE && a->index == X86_REG_NONE;
    bool simple = !a->a32 && a->seg == X86_SEG_NONE && !is_home(t, a->base) && a->index == X86_REG_NONE && fits32(a->disp);
    bool direct = simple;       /* [base + r11 + disp] */
    enum by by = by_what(t);
    uint8_t *again, *jb, *jb2 = NULL, *retry = E->p;
    /* An aligned operand cannot cross a page: its first byte is looked at. */
    int32_t lastb = t->align ? 0 : (int32_t)n - 1;
    struct hop mask = h_abs(t->align == 31 ? &t->j->mask_page32 : t->align ? &t->j->mask_page16 : &t->j->mask_page);
    struct cold *c;
    struct hop m;

    if (!fits32(a->disp) && !(none && a->seg == X86_SEG_NONE))
        return false;
    if (grp >= 0 && group_fits(t, a, grp, off, by)) {
        group_access(t, a, n, acc, second, grp, off, by);
        *ret = t->g[grp].whole ? h_mem(T1, (int32_t)(a->disp + off - (by == BY_CALL ? t->g[grp].lo : group_lo(&t->g[grp])))) :
                                 h_sib(t->map[a->base], T1, 0, (int32_t)a->disp);
        return true;
    }
    t->r11 = -1;
    if (by == BY_CALL && jit_check_kind(n, t->align) >= 0) {
        if (!tr_emit_ea(t, a, T0, T1))
            return false;
        call_check(t, jit_check_kind(n, t->align), acc, retry,
                   (struct jsite){ .n = (uint8_t)n, .acc = (uint8_t)acc, .align = (uint8_t)t->align, .flags = site_flags(t, second) });
        *ret = direct && !none ? h_sib(t->map[a->base], T1, 0, (int32_t)a->disp) : h_sib(T0, T1, 0, 0);
        goto out;
    }
    if (a->base >= 16 && a->index == X86_REG_NONE && a->seg == X86_SEG_NONE && !a->a32 && !(a->disp & (int64_t)t->align) &&
        by_fixed_slot(t, by, a->disp, n)) {
        c = fixed_check(t, a->disp, n, acc, t->floating && a->base == X86_REG_RIP);
        c->n = (uint8_t)n;
        c->acc = (uint8_t)acc;
        c->flags = site_flags(t, second);
        c->retry = retry;
        *ret = h_mem(T1, (int32_t)(a->disp & 4095));
        goto out;
    }
    if (by > BY_TLB && (by != BY_SLOT_LIVE || (direct && !none) || tr_ea_one_reg(t, a))) {
        bool live = by == BY_SLOT_LIVE, stack = a->base == X86_RSP && direct && !t->stack_taken[!!(acc & X86_ACC_WRITE)];
        uint32_t slot = slot_new(t, acc, (!direct || none) && !live, stack);
        unsigned first = t->ncold;

        direct = direct && !none;
        if (by == BY_SLOT_SAVED)
            tr_flags_save(t);
        again = E->p;
        if (!tr_emit_ea(t, a, T0, T1))
            return false;
        slot_check(t, by, slot, n, t->align)->again = again;
        for (unsigned i = first; i < t->ncold; i++) {
            c = &t->cold[i];
            c->n = (uint8_t)n;
            c->acc = (uint8_t)acc;
            c->flags |= site_flags(t, second);
            c->align = (uint8_t)t->align;
            c->retry = retry;
        }
        if (live && !direct)
            tr_emit_ea(t, a, T0, NOREG);
        e_mov_load(E, T1, h_abs(&t->j->slot[slot].val));
        *ret = direct ? h_sib(t->map[a->base], T1, 0, (int32_t)a->disp) : h_sib(T0, T1, 0, 0);
        goto out;
    }
    if (simple && by_stack_slot(t, by, a, acc)) {
        tr_emit_ea(t, a, T0, T1);
        c = stack_check(t, n, acc);
        c->n = (uint8_t)n;
        c->acc = (uint8_t)acc;
        c->flags = site_flags(t, second);
        c->retry = retry;
        *ret = h_sib(t->map[a->base], T1, 0, (int32_t)a->disp);
        goto out;
    }
    if (!ti->live_in) {
        if (!tr_emit_ea(t, a, T0, T1))
            return false;
        e_rorx(E, T1, T0, 7);
        m = h_reg(T1);
        e_op(E, 0, 0, 0x81, 4, &m); /* and r11d, imm32 */
        e4(E, (X86_TLB_SIZE - 1) << 5);
        e_alu_load(E, 1, 0, T0, h_mem(T1, tag));
        e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
        e4(E, 4096 - n);
        jb = e_jcc(E, CC_A);
        if (t->align) {
            e1(E, 0xf6), e1(E, 0xc1), e1(E, t->align); /* test cl, imm8 */
            jb2 = e_jcc(E, CC_NE);
        }
        if (!direct) {
            if (tr_ea_one_reg(t, a) && !is_home(t, a->base))
                tr_emit_ea(t, a, T0, NOREG);
            else
                e_alu_load(E, 1, 5, T0, h_mem(T1, tag)); /* sub rcx: the address again */
        }
        e_mov_load(E, T1, h_mem(T1, add));
    } else if (simple || (!a->a32 && a->seg == X86_SEG_NONE && !is_home(t, a->base) && !is_home(t, a->index) && fits32(a->disp) && !none)) {
        /* Flags are live: index from the first byte, tag from the last one. */
        unsigned b = h_or_none(t, a->base), x = h_or_none(t, a->index);
        uint8_t *ok;

        tr_emit_ea(t, a, T1, T0);
        e_pext(E, T1, T1, h_abs(&t->j->mask_idx));
        e_lea(E, T1, h_sib(NOREG, T1, 3, 0));
        e_mov_load(E, T0, h_sib(NOREG, T1, 2, tag));
        if (!fits32(a->disp + lastb))
            return false;
        if (b != NOREG)
            e_lea(E, T0, h_sib(T0, b, 0, (int32_t)(a->disp + lastb)));
        else
            e_lea(E, T0, h_mem(T0, (int32_t)(a->disp + lastb)));
        if (x != NOREG)
            e_lea(E, T0, h_sib(T0, x, a->scale, 0));
        e_pext(E, T0, T0, mask);
        e_mov_load(E, T1, h_sib(NOREG, T1, 2, add));
        ok = e_jrcxz(E);
        jb = e_jmp(E);
        e_bind8(E, ok);
        if (!direct)
            tr_emit_ea(t, a, T0, NOREG);
    } else {
        uint8_t *ok;

        /* A third register is needed: rax, put away.  Here r11 becomes the host address. */
        e_mov_store(E, h_abs(&t->j->a), RAX);
        if (!tr_emit_ea(t, a, T0, T1))
            return false;
        e_pext(E, T1, T0, h_abs(&t->j->mask_idx));
        e_lea(E, T1, h_sib(NOREG, T1, 3, 0));
        e_mov_load(E, RAX, h_sib(NOREG, T1, 2, tag));
        e_lea(E, RAX, h_sib(RAX, T0, 0, lastb));
        e_pext(E, RAX, RAX, mask);
        e_mov_load(E, T1, h_sib(NOREG, T1, 2, add));
        e_lea(E, T1, h_sib(T1, T0, 0, 0));
        e_mov_rr(E, T0, RAX);
        e_mov_load(E, RAX, h_abs(&t->j->a));
        ok = e_jrcxz(E);
        jb = e_jmp(E);
        e_bind8(E, ok);
        c = tr_cold_new(t, COLD_MISS, jb);
        c->n = (uint8_t)n;
        c->acc = (uint8_t)acc;
        c->flags = site_flags(t, second);
        c->align = (uint8_t)t->align;
        c->retry = retry;
        *ret = h_mem(T1, 0);
        return true;
    }
    c = tr_cold_new(t, COLD_MISS, jb);
    c->from2 = jb2;
    c->n = (uint8_t)n;
    c->acc = (uint8_t)acc;
    c->flags = site_flags(t, second);
    c->align = (uint8_t)t->align;
    c->retry = retry;
    if (none && !direct) {
        *ret = h_sib(T0, T1, 0, 0);
    } else if (direct) {
        unsigned b = h_or_none(t, a->base);

        *ret = b == NOREG ? h_mem(T1, (int32_t)a->disp) : h_sib(b, T1, 0, (int32_t)a->disp);
    } else {
        *ret = h_sib(T0, T1, 0, 0);
    }
out:
    if (keep_t0 && (ret->base == T0 || ret->index == T0)) {
        e_lea(E, T1, *ret);
        *ret = h_mem(T1, 0);
    }
    return true;
}

bool tr_insn_ea(struct tr *t, const struct x86_insn *in, unsigned n, unsigned acc, bool keep_t0, struct hop *ret)
{
    struct ea a;

    const struct ti *ti = &t->ti[t->cur];

    return tr_ea_of(t, in, ti->off, &a) && tr_mem_access(t, &a, n, acc, false, keep_t0, ti->gmem, ti->omem, ret);
}

/* The stack at rsp + @disp. */
bool tr_stack_access(struct tr *t, int32_t disp, unsigned n, unsigned acc, bool second, bool keep_t0, struct hop *ret)
{
    struct ea a = { X86_RSP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, disp };
    unsigned first = t->ncold;

    if (!tr_mem_access(t, &a, n, acc, second, keep_t0, t->ti[t->cur].gstack, t->ti[t->cur].ostack, ret))
        return false;
    for (unsigned i = first; i < t->ncold; i++)
        if (t->cold[i].kind == COLD_MISS || t->cold[i].kind == COLD_SLOT || t->cold[i].kind == COLD_STACK) {
            t->cold[i].stack = true;
            t->cold[i].disp = disp;
        }
    return true;
}

/* ---- which accesses share a check ------------------------------------------------------------------------ */

struct roots { uint16_t root[16]; int64_t off[16]; uint16_t next; };

static void root_new(struct roots *r, unsigned g)
{
    r->root[g] = r->next++;
    r->off[g] = 0;
}

/* The registers of an address; index X86_REG_NONE: none, no base: @disp is it.  @align: of the access, less one. */
static int group_join(struct tr *t, const struct roots *r, unsigned base, unsigned index, unsigned scale, int64_t disp, unsigned n,
                      unsigned align, unsigned acc)
{
    bool indexed = index != X86_REG_NONE, fixed = base >= 16;
    uint16_t iroot = indexed ? (uint16_t)(r->root[index] + 1) : 0, root = fixed ? ROOT_FIXED : r->root[base];
    int64_t lo = (fixed ? 0 : r->off[base]) + (indexed ? r->off[index] * (1 << scale) : 0) + disp, hi = lo + n;

    if (fixed) { /* it is aligned or not */
        if (lo & align)
            return -1;
        align = 0;
    }

    for (unsigned i = t->ngroups; i-- > 0;) {
        struct group *x = &t->g[i];
        int64_t nlo = lo < x->lo ? lo : x->lo, nhi = hi > x->hi ? hi : x->hi;

        if (x->root != root || x->index != iroot || (indexed && x->scale != scale) || !x->open || nhi - nlo > GROUP_SPAN ||
            (fixed && (nlo >> 12) != ((nhi - 1) >> 12)))
            continue;
        if ((uint64_t)(lo - x->phase) & (align < x->align ? align : x->align))
            continue; /* one of the two faults */
        if (align > x->align) {
            x->align = (uint8_t)align;
            x->phase = lo;
        }
        x->lo = nlo;
        x->hi = nhi;
        x->acc |= (uint8_t)acc;
        x->members++;
        return (int)i;
    }
    if (t->ngroups == MAX_GROUPS)
        return -1;
    t->g[t->ngroups] = (struct group){ .root = root, .index = iroot, .whole = indexed || fixed, .scale = (uint8_t)scale, .align = (uint8_t)align,
                                       .acc = (uint8_t)acc, .members = 1, .open = true, .lo = lo, .hi = hi, .phase = lo };
    return (int)t->ngroups++;
}

/* The explicit operand, when it is one or two registers and a constant. */
static void group_operand(struct tr *t, struct ti *ti, const struct roots *r)
{
    const struct x86_insn *in = &ti->in;
    bool indexed = in->index != X86_REG_NONE, fixed = in->base == X86_REG_RIP;
    int64_t disp = fixed ? (int64_t)(t->rip + ti->off + in->len + (uint64_t)in->disp) : in->disp;

    if (in->asize != 8 || in->vsib || in->seg == X86_FS || in->seg == X86_GS || in->op == X86_OP_CMPXCHG16B || in->op == X86_OP_NOP)
        return;
    if (fixed ? disp > INT32_MAX - 2 * GROUP_SPAN || disp < (t->floating ? 0 : INT32_MIN + 2 * GROUP_SPAN) :
                in->base >= 16 || is_home(t, in->base) || in->disp > 1 << 30 || in->disp < -(1 << 30))
        return;
    if (indexed && (in->index >= 16 || is_home(t, in->index) || !t->warm))
        return;
    if (in->op >= X86_OP_BT && in->op <= X86_OP_BTC && in->o[1].kind != X86_O_IMM)
        return;
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];

        if (o->kind != X86_O_MEM || !o->size || o->size > 32 || !(o->flags & X86_RW))
            continue;
        if (in->attr & X86_A_ALIGN && ((!t->warm && !fixed) || o->size & (o->size - 1)))
            return;
        ti->gmem = (int8_t)group_join(t, r, in->base, in->index, in->scale, disp, o->size, in->attr & X86_A_ALIGN ? o->size - 1u : 0,
                                      o->flags & X86_WR ? X86_ACC_WRITE : X86_ACC_READ);
        ti->omem = (fixed ? 0 : r->off[in->base]) + (indexed ? r->off[in->index] * (1 << in->scale) : 0);
        return;
    }
}

static void group_stack(struct tr *t, struct ti *ti, const struct roots *r, int64_t disp, unsigned acc)
{
    ti->gstack = (int8_t)group_join(t, r, X86_RSP, X86_REG_NONE, 0, disp, 8, 0, acc);
    ti->ostack = r->off[X86_RSP];
}

/* What @in does to registers as far as bases go.  Memory safety stands on this: an operation that is not known to
 * change nothing but its operands makes every base a new one. */
static void root_step(struct roots *r, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    bool r64 = a->kind == X86_O_GPR && a->size == 8;

    switch (in->op) {
    case X86_OP_ADD: case X86_OP_SUB:
        if (r64 && b->kind == X86_O_IMM && fits32(in->imm)) {
            r->off[a->reg] += in->op == X86_OP_ADD ? in->imm : -in->imm;
            return;
        }
        break;
    case X86_OP_INC: case X86_OP_DEC:
        if (r64) {
            r->off[a->reg] += in->op == X86_OP_INC ? 1 : -1;
            return;
        }
        break;
    case X86_OP_MOV:
        if (r64 && b->kind == X86_O_GPR) {
            r->root[a->reg] = r->root[b->reg];
            r->off[a->reg] = r->off[b->reg];
            return;
        }
        break;
    case X86_OP_LEA:
        if (r64 && in->asize == 8 && in->base < 16 && in->index == X86_REG_NONE) {
            int64_t off = r->off[in->base] + in->disp;

            r->root[a->reg] = r->root[in->base];
            r->off[a->reg] = off;
            return;
        }
        break;
    case X86_OP_PUSH: case X86_OP_PUSHF:
        if (in->osize == 8)
            r->off[X86_RSP] -= 8;
        else
            root_new(r, X86_RSP);
        return;
    case X86_OP_POP:
        if (in->osize == 8)
            r->off[X86_RSP] += 8;
        else
            root_new(r, X86_RSP);
        break;
    case X86_OP_LEAVE:
        if (in->osize != 8) {
            root_new(r, X86_RSP);
            root_new(r, X86_RBP);
            return;
        }
        r->root[X86_RSP] = r->root[X86_RBP];
        r->off[X86_RSP] = r->off[X86_RBP] + 8;
        root_new(r, X86_RBP);
        return;
    case X86_OP_OR: case X86_OP_ADC: case X86_OP_SBB: case X86_OP_AND: case X86_OP_XOR: case X86_OP_CMP: case X86_OP_TEST:
    case X86_OP_NOT: case X86_OP_NEG: case X86_OP_IMUL2: case X86_OP_IMUL3:
    case X86_OP_ROL: case X86_OP_ROR: case X86_OP_RCL: case X86_OP_RCR: case X86_OP_SHL: case X86_OP_SHR: case X86_OP_SAR:
    case X86_OP_SHLD: case X86_OP_SHRD: case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC:
    case X86_OP_BSF: case X86_OP_BSR: case X86_OP_POPCNT: case X86_OP_LZCNT: case X86_OP_TZCNT: case X86_OP_ANDN:
    case X86_OP_BEXTR: case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR: case X86_OP_BZHI: case X86_OP_MULX:
    case X86_OP_PDEP: case X86_OP_PEXT: case X86_OP_RORX: case X86_OP_SARX: case X86_OP_SHLX: case X86_OP_SHRX:
    case X86_OP_ADCX: case X86_OP_ADOX: case X86_OP_CRC32: case X86_OP_SETCC: case X86_OP_CMOVCC:
    case X86_OP_MOVSX: case X86_OP_MOVZX: case X86_OP_MOVSXD: case X86_OP_MOVBE: case X86_OP_MOVNTI: case X86_OP_BSWAP:
    case X86_OP_XCHG: case X86_OP_XADD: case X86_OP_CMC: case X86_OP_CLC: case X86_OP_STC: case X86_OP_CLD:
    case X86_OP_NOP: case X86_OP_PAUSE: case X86_OP_JCC: case X86_OP_CLI: case X86_OP_STI: case X86_OP_SAHF:
    case X86_OP_VEC: case X86_OP_VEC_FLAGS: case X86_OP_VEC_XMM0: case X86_OP_VZEROUPPER: case X86_OP_X87:
    case X86_OP_LFENCE: case X86_OP_MFENCE: case X86_OP_SFENCE: case X86_OP_STMXCSR: case X86_OP_LDMXCSR:
        break; /* nothing but their operands */
    case X86_OP_CMPXCHG: case X86_OP_CBW: case X86_OP_LAHF:
        root_new(r, X86_RAX);
        break;
    case X86_OP_MUL: case X86_OP_IMUL1: case X86_OP_DIV: case X86_OP_IDIV: case X86_OP_CWD: case X86_OP_CMPXCHG8B:
    case X86_OP_CMPXCHG16B:
        root_new(r, X86_RAX);
        root_new(r, X86_RDX);
        break;
    default:
        for (unsigned g = 0; g < 16; g++)
            root_new(r, g);
        return;
    }
    for (unsigned i = 0; i < in->nops; i++)
        if (in->o[i].kind == X86_O_GPR && (in->o[i].flags & X86_WR))
            root_new(r, in->o[i].flags & X86_F_HIGH8 ? in->o[i].reg - 4u : in->o[i].reg);
}

void tr_find_groups(struct tr *t)
{
    struct roots r = { .next = 0 };

    t->ngroups = 0;
    t->r11 = -1;
    for (unsigned g = 0; g < 16; g++)
        root_new(&r, g);
    for (unsigned i = 0; i < t->n; i++) {
        struct ti *ti = &t->ti[i];
        const struct x86_insn *in = &ti->in;

        ti->gmem = ti->gstack = -1;
        if (!t->m64 || (t->key & JKEY_NOGROUP) || (*jit_hint(t->j, t->phys) & JHINT_NOGROUP))
            continue;
        group_operand(t, ti, &r);
        switch (in->op) {
        case X86_OP_PUSH: case X86_OP_PUSHF: case X86_OP_CALL_NEAR: case X86_OP_CALL_IND:
            if (in->osize == 8)
                group_stack(t, ti, &r, -8, X86_ACC_WRITE);
            break;
        case X86_OP_POP: case X86_OP_RET_NEAR:
            if (in->osize == 8)
                group_stack(t, ti, &r, 0, X86_ACC_READ);
            break;
        case X86_OP_LEAVE:
            if (in->osize == 8) {
                ti->gmem = (int8_t)group_join(t, &r, X86_RBP, X86_REG_NONE, 0, 0, 8, 0, X86_ACC_READ);
                ti->omem = r.off[X86_RBP];
            }
            break;
        case X86_OP_STAC: case X86_OP_CLAC:
            for (unsigned k = 0; k < t->ngroups; k++)
                t->g[k].open = false;
            break;
        }
        root_step(&r, in);
    }
    /* Alone, an access is better off with its own check. */
    for (unsigned i = 0; i < t->n; i++) {
        struct ti *ti = &t->ti[i];

        if (ti->gmem >= 0 && t->g[ti->gmem].members < 2)
            ti->gmem = -1;
        if (ti->gstack >= 0 && t->g[ti->gstack].members < 2)
            ti->gstack = -1;
    }
}
