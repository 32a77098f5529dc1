/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: branches, the ways out of a block and its entries. */
#include "hv/jit/tr.h"

/* jmp or jcc (rel32 at @rel) to guest address @target. */
void tr_link_to(struct tr *t, uint8_t *rel, uint64_t target)
{
    struct cold *c = tr_cold_new(t, COLD_LINK, rel);

    c->target = target;
    c->flags = !((target ^ t->rip) >> 12) ? JS_SAMEPAGE : 0;
}

/* rcx := guest address @rip. */
void tr_guest_rip(struct tr *t, uint64_t rip)
{
    if (!t->floating) {
        e_mov_imm(E, T0, rip);
        return;
    }
    e_mov_load(E, T0, h_abs(&t->j->bias));
    e_lea(E, T0, h_mem(T0, (int32_t)rip)); /* canonical: it fits */
}

/* Leave when vp->attention asks; @live: flags are. */
void tr_poll(struct tr *t, uint64_t target, unsigned live)
{
    struct hop att = h_abs(&t->vp->attention);
    uint8_t *rel;

    if (!live) {
        e_alu_imm(E, 0, 7, att, 0);
        rel = e_jcc(E, CC_NE);
    } else {
        uint8_t *ok;

        e_mov_load32(E, T0, att);
        ok = e_jrcxz(E);
        rel = e_jmp(E);
        e_bind8(E, ok);
    }
    tr_cold_new(t, COLD_EXIT, rel)->target = target;
}

void tr_goto_guest(struct tr *t, uint64_t target, uint64_t from, unsigned live)
{
    if (target <= from)
        tr_poll(t, target, live);
    tr_link_to(t, e_jmp(E), target);
}

/* Target in rcx. */
static void go_indirect(struct tr *t, bool call)
{
    struct hop m = h_reg(T0);

    if (t->key & JKEY_SINGLE) { /* never a call */
        e_bind(e_jmp(E), thunk_rw(t, t->j->t_dispatch_c));
        return;
    }
    e_op(E, 0, 1, 0xb7, T1, &m); /* movzx r11d, cx */
    m = h_sib(NOREG, T1, 3, (int32_t)(uintptr_t)t->j->jc[t->cls]);
    e_op(E, 0, 0, 0xff, call ? 2 : 4, &m);
}

void tr_jmp_indirect(struct tr *t) { go_indirect(t, false); }

/* Compare the 64 bits of rcx with @v, flags untouched.  @return rel8 of the jump that is taken when they are equal;
 * else rcx has to be restored by tr_unequal. */
static uint8_t *equal(struct tr *t, uint64_t v)
{
    if (fits32((int64_t)v) && (int64_t)v != INT32_MIN) {
        e_lea(E, T0, h_mem(T0, -(int32_t)v));
    } else {
        e_mov_imm(E, T1, 0 - v);
        e_lea(E, T0, h_sib(T0, T1, 0, 0));
    }
    return e_jrcxz(E);
}

void tr_unequal(struct tr *t, uint64_t v)
{
    if (fits32((int64_t)v) && (int64_t)v != INT32_MIN) {
        e_lea(E, T0, h_mem(T0, (int32_t)v));
    } else {
        e_mov_imm(E, T1, v);
        e_lea(E, T0, h_sib(T0, T1, 0, 0));
    }
}

/* The guest goes to the address in rcx, which is @rip in this code: set the bias to what makes it so.  The flags stay: who goes
 * elsewhere in the end may need them, whatever this code does. */
static void entered_at(struct tr *t, uint64_t rip, bool jc)
{
    struct cold *c;
    uint8_t *no, *ok;

    if (t->floating) {
        e_mov_load(E, T1, h_abs(&t->j->neg_bias));
        e_lea(E, T0, h_sib(T0, T1, 0, -(int32_t)rip));
        ok = e_jrcxz(E);
    } else {
        ok = equal(t, rip);
    }
    no = e_jmp(E);
    e_bind8(E, ok);
    c = tr_cold_new(t, t->floating ? COLD_BIAS : COLD_UNEQUAL, no);
    c->target = rip;
    c->jc = jc;
    c->again = E->p;
}

/* Can calls and returns of this block use the host's?  The view with user access is entered and left on the way. */
static bool by_host(const struct tr *t)
{
    return (t->cls != X86_VIEW_SUPER_AC || !(t->key & JKEY_SMAP)) && !(t->key & JKEY_SINGLE);
}

/* Behind a host CALL: where the matching RET comes back to.  rcx is where the guest goes.  No poll: who comes back has been
 * called, and no more than the stack of returns holds before return_room polls. */
static void return_point(struct tr *t, uint64_t next)
{
    entered_at(t, next, true);
    tr_link_to(t, e_jmp(E), next);
    if (t->floating) /* the bias is another than at the call, perhaps: what is there has to be looked up */
        t->cold[t->ncold - 1].flags &= (uint8_t)~JS_SAMEPAGE;
}

/* Keep the stack of returns within its bounds.  The call goes to @target (indirect: what is in j->ea).  rcx is used up when
 * flags are @live. */
static void return_room(struct tr *t, uint64_t target, unsigned live)
{
    uint32_t limit = jit_ret_limit(t->j, t->cls);
    struct hop m = h_reg(RSP);
    uint8_t *no, *ok;

    if (!live) {
        e_op(E, 0, 0, 0x81, 7, &m);           /* cmp esp, imm32 */
        e4(E, limit);
        no = e_jcc(E, CC_B);
    } else {
        e_lea32(E, T0, h_mem(RSP, -(int32_t)limit));
        e_rorx(E, T0, T0, 31);                /* the sign */
        e_op(E, 0, 1, 0xb6, T0, (m = h_reg(T0), &m));
        ok = e_jrcxz(E);
        no = e_jmp(E);
        e_bind8(E, ok);
    }
    tr_cold_new(t, COLD_RETS, no)->again = E->p;
    t->cold[t->ncold - 1].target = target;
}

/* Push the return address; rcx is used up. */
static bool push_imm64(struct tr *t, uint64_t v, bool second)
{
    unsigned n = t->m64 ? 8 : 4;
    struct hop m;
    bool imm = !t->floating && (!t->m64 || fits32((int64_t)v));

    if (!tr_stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, second, !imm, &m))
        return false;
    if (imm) {
        e_op(E, t->m64 ? E_W : 0, 0, 0xc7, 0, &m);
        e4(E, (uint32_t)v);
    } else {
        tr_guest_rip(t, v);
        e_mov_store(E, m, T0);
    }
    return true;
}

/* Branches.  @return 0 not done, 1 done, the block goes on; 2 done, it ends. */
int tr_emit_branch(struct tr *t, const struct x86_insn *in)
{
    const struct ti *ti = &t->ti[t->cur];
    uint64_t at = t->rip + ti->off, next = trunc_rip(t, at + in->len), target = trunc_rip(t, next + (uint64_t)in->imm);
    const struct x86_operand *a = &in->o[0];
    unsigned n = t->m64 ? 8 : 4, fl = t->m64 ? E_W : 0;
    /* STAC and CLAC in the block: its beginning is for another view. */
    bool away = false, again = target == t->rip && t->loop && t->cls == t->ti[0].view;
    struct hop m;

    if (in->osize != n)
        return 0;
    switch (in->op) {
    case X86_OP_JCC: case X86_OP_JMP_NEAR: case X86_OP_CALL_NEAR: case X86_OP_JCXZ: case X86_OP_LOOP:
        if (t->m64 && (!x86_canonical(target + t->bias) || !x86_canonical(next + t->bias)))
            return 0;
        if (t->m64 && !fits32((int64_t)(target - t->rip)))
            return 0;
        /* Code made at run time may be further from what it calls than canonical addresses go. */
        away = t->floating && target - JIT_CANON_MIN > JIT_CANON_MAX - JIT_CANON_MIN;
        if (away && (!fits32((int64_t)target) || in->op == X86_OP_JCXZ || in->op == X86_OP_LOOP))
            return 0;
        break;
    case X86_OP_CALL_IND: case X86_OP_JMP_IND: case X86_OP_RET_NEAR:
        break;
    default:
        return 0;
    }
    switch (in->op) {
    case X86_OP_JCC:
        if (away) {
            uint8_t *skip = e_jcc(E, in->cond ^ 1);

            tr_loans_out(t);
            tr_guest_rip(t, target);
            tr_jmp_indirect(t);
            e_bind(skip, E->p);
        } else if (again && t->loop_polls) {
            e_bind(e_jcc(E, in->cond), t->loop);
        } else if (target <= at) {
            uint8_t *skip = e_jcc(E, in->cond ^ 1);

            if (again) {
                tr_poll(t, target, t->ti[0].live_in);
                e_bind(e_jmp(E), t->loop);
            } else {
                bool lent = t->lent;

                tr_loans_out(t);
                t->lent = false;
                tr_goto_guest(t, target, at, tr_peek(t, target));
                t->lent = lent;
            }
            e_bind(skip, E->p);
        } else {
            tr_link_to(t, e_jcc(E, in->cond), target);
        }
        return 1;
    case X86_OP_JMP_NEAR:
        if (away) {
            tr_guest_rip(t, target);
            tr_jmp_indirect(t);
            return 2;
        }
        tr_goto_guest(t, target, at, ti->live_out);
        return 2;
    case X86_OP_JCXZ: {
        uint8_t *yes, *no;

        if (in->asize == 8)
            e_mov_rr(E, T0, G_CX);
        else if (in->asize == 4)
            e_mov_rr32(E, T0, G_CX);
        else
            return 0;
        yes = e_jrcxz(E);
        no = e_jmp(E);
        e_bind8(E, yes);
        tr_goto_guest(t, target, at, F_ALL);
        e_bind(no, E->p);
        return 1;
    }
    case X86_OP_LOOP: {
        uint8_t *no;

        if (in->asize == 8)
            e_lea(E, G_CX, h_mem(G_CX, -1));
        else if (in->asize == 4)
            e_lea32(E, G_CX, h_mem(G_CX, -1));
        else
            return 0;
        e_mov_rr(E, T0, G_CX);
        no = e_jrcxz(E);
        tr_goto_guest(t, target, at, F_ALL);
        e_bind8(E, no);
        return 1;
    }
    case X86_OP_CALL_NEAR:
        if (!push_imm64(t, next, false))
            return 0;
        sp_add(t, -(int32_t)n);
        if (!by_host(t)) {
            if (away) {
                tr_guest_rip(t, target);
                tr_jmp_indirect(t);
            } else {
                tr_goto_guest(t, target, at, ti->live_out);
            }
            return 2;
        }
        return_room(t, target, ti->live_out);
        if (away) {
            tr_guest_rip(t, target);
            go_indirect(t, true);
        } else {
            tr_link_to(t, e_call(E), target);
        }
        return_point(t, next);
        return 2;
    case X86_OP_CALL_IND:
        if (a->kind == X86_O_MEM) {
            if (!tr_insn_ea(t, in, n, X86_ACC_READ, false, &m))
                return 0;
            e_op(E, fl, 0, 0x8b, T0, &m);
            e_mov_store(E, h_abs(&t->j->ea), T0);
            if (!push_imm64(t, next, true))
                return 0;
            e_mov_load(E, T0, h_abs(&t->j->ea));
        } else {
            if (!push_imm64(t, next, false))
                return 0;
            if (op_home(t, a))
                e_mov_load(E, T0, HOME(a->reg));
            else if (t->m64)
                e_mov_rr(E, T0, t->map[a->reg]);
            else
                e_mov_rr32(E, T0, t->map[a->reg]);
        }
        sp_add(t, -(int32_t)n);
        if (!by_host(t)) {
            tr_jmp_indirect(t);
            return 2;
        }
        e_mov_store(E, h_abs(&t->j->ea), T0);
        return_room(t, 0, F_ALL);
        e_mov_load(E, T0, h_abs(&t->j->ea));
        go_indirect(t, true);
        return_point(t, next);
        return 2;
    case X86_OP_JMP_IND:
        if (a->kind == X86_O_MEM) {
            if (!tr_insn_ea(t, in, n, X86_ACC_READ, false, &m))
                return 0;
            e_op(E, fl, 0, 0x8b, T0, &m);
        } else if (op_home(t, a)) {
            e_mov_load(E, T0, HOME(a->reg));
        } else if (t->m64) {
            e_mov_rr(E, T0, t->map[a->reg]);
        } else {
            e_mov_rr32(E, T0, t->map[a->reg]);
        }
        tr_jmp_indirect(t);
        return 2;
    case X86_OP_RET_NEAR:
        if (!tr_stack_access(t, 0, n, X86_ACC_READ, false, false, &m))
            return 0;
        e_op(E, fl, 0, 0x8b, T0, &m);
        sp_add(t, (int32_t)(n + (uint16_t)in->imm));
        if (by_host(t))
            e1(E, 0xc3);
        else
            tr_jmp_indirect(t);
        return 2;
    default:
        return 0;
    }
}

/* One run less until the block is hot. */
static void count_run(struct tr *t, unsigned live)
{
    int32_t *runs = &t->j->runs[t->blockno];
    struct hop m = h_abs(runs);
    uint8_t *no;

    *runs = t->hot ? JIT_TRY : t->warm ? JIT_HOT : JIT_WARM;
    if (!live) {
        e_op_last(E, 0, 0, 0xff, 1, m);       /* dec dword */
        tr_cold_new(t, COLD_HOT, e_jcc(E, CC_E));
    } else {
        e_mov_load32(E, T0, m);
        e_lea32(E, T0, h_mem(T0, -1));
        e_mov_store32(E, m, T0);
        no = e_jrcxz(E);
        e1(E, 0xeb), e1(E, 5);                /* jmp over it */
        e_bind8(E, no);
        tr_cold_new(t, COLD_HOT, e_jmp(E));
    }
}

/* rcx := 0 when the page of @rip is still the one that @sig tells, else something below 1 << 32.  Flags untouched, r11 used
 * up. */
static void page_differs(struct tr *t, uint64_t rip, uint32_t sig)
{
    e_mov_load32(E, T0, h_abs(&t->j->fsig[t->cls][jit_fsig_slot(rip)]));
    if (t->floating) {
        e_mov_load32(E, T1, h_abs(&t->j->neg_sig));
        e_lea32(E, T0, h_sib(T0, T1, 0, -(int32_t)sig));
    } else {
        e_lea32(E, T0, h_mem(T0, -(int32_t)sig));
    }
}

/* Is it?  Flags untouched, rcx and r11 used up.  @return rel32 of the jump that is taken when not. */
uint8_t *tr_page_check(struct tr *t, uint64_t rip, uint32_t sig)
{
    uint8_t *ok, *no;

    page_differs(t, rip, sig);
    ok = e_jrcxz(E);
    no = e_jmp(E);
    e_bind8(E, ok);
    return no;
}

/* The entries of a block, in front of its body.  Whoever comes may find that what is at this address now is another block, which
 * has a use for the flags: they stay.  @ret_no: jumps that are taken then, or when somebody wants the VP. */
void tr_emit_entries(struct tr *t, struct jblock *b, uint8_t *ret_no[2])
{
    uint8_t *ok;

    /* From an indirect branch: rcx is where the guest goes. */
    b->ind = off_of(t, E->p);
    entered_at(t, t->rip, false);
    b->known = off_of(t, E->p);
    page_differs(t, t->rip, b->sig);
    if (!t->loop_polls) {
        e_mov_load32(E, T1, h_abs(&t->vp->attention));
        e_lea(E, T0, h_sib(T0, T1, 0, 0));
    }
    ok = e_jrcxz(E);
    ret_no[0] = e_jmp(E);
    /* From another page by a direct branch. */
    b->sigent = off_of(t, E->p);
    ret_no[1] = tr_page_check(t, t->rip, b->sig);
    e_bind8(E, ok);
    b->main = off_of(t, E->p);
    tr_loans_begin(t);
    b->count = off_of(t, E->p);
    if (t->counted)
        count_run(t, t->ti[0].live_in);
    b->count_len = (uint8_t)(off_of(t, E->p) - b->count);
}
