/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: one block of guest instructions to host code.
 *
 * Most instructions are emitted as themselves: registers renamed, the memory operand replaced by a checked
 * host address.  An instruction changes guest state by its last host instruction only, so that whoever
 * leaves in the middle (a failed check) can start it again.  What has no native form here is executed by C
 * (t_exec).  References: Intel SDM volume 2 for encodings and flags; volume 1 appendix A (flags). */
#include "hv/jit/native.h"
#include "hv/jit/tr.h"

#include "hv/jit/lockstep.h"
#include "hv/jit/observe.h"


const uint8_t jit_host_of[18] = { RAX, R9, RDX, RBX, R10, RBP, RSI, RDI, R8,
                                  NOREG, NOREG, NOREG, R12, R13, R14, R15, NOREG, NOREG };

enum { SITE_JUMP = 11 /* bytes: mov r11d, imm32; jmp rel32 */ };

/* A call of C that executes the instruction. */
static void emit_site(struct tr *t, const uint8_t *thunk, const struct jsite *s)
{
    e_mov_imm(E, T1, (uint64_t)(uintptr_t)(t->j->rx + off_of(t, E->p) + SITE_JUMP));
    e_bind(e_jmp(E), thunk_rw(t, thunk));
    memcpy(E->p, s, sizeof(*s));
    E->p += sizeof(*s);
}

static uint8_t behind_sti(const struct tr *t, unsigned i) { return i && t->ti[i - 1].in.op == X86_OP_STI ? JS_STI : 0; }

static struct jsite site_of(const struct tr *t, unsigned i)
{
    const struct ti *ti = &t->ti[i];

    return (struct jsite){ .block = t->blockno, .off = ti->off, .len = ti->in.len,
                           .view = ti->view, .flags = (ti->in.attr & X86_A_END ? JS_END : 0) | behind_sti(t, i) };
}

static bool pool_add(struct tr *t, const struct x86_insn *in, uint32_t *ret)
{
    if (t->j->npool >= t->j->pool_end) {
        t->j->want_reset |= JIT_EVICT;
        return false;
    }
    *ret = t->j->npool;
    t->j->pool[t->j->npool++] = *in;
    return true;
}

static void emit_exec(struct tr *t, unsigned i)
{
    struct jsite s = site_of(t, i);
    const uint8_t *thunk = t->key & JKEY_SINGLE ? NULL : jit_event_thunk(t->j, &t->ti[i].in, t->key);

    if (t->key & X86_KEY_USER)
        jit_native_seen(t->vp, &t->ti[i].in, t->ram_page, (unsigned)(t->phys & 4095) + t->ti[i].off);
    t->r11 = -1;
    tr_loans_out(t);
    if (thunk)
        tr_guest_rip(t, t->rip + t->ti[i].off + t->ti[i].in.len);

    if (!pool_add(t, &t->ti[i].in, &s.arg))
        s.arg = 0;
    s.next = off_of(t, E->p) + SITE_JUMP + sizeof(s);
    emit_site(t, thunk ? thunk : t->j->t_exec, &s);
    tr_loans_in(t);
}

static struct x86_tlb *vp_view(const struct tr *t, unsigned view) { return &t->vp->mmu.views[view]; }

/* rcx: the address of the access. */
static void emit_slot_site(struct tr *t, const struct cold *c, const struct jsite *s)
{
    struct jit *j = t->j;
    bool write = (c->slot / JIT_SLOTS) & 2;
    struct x86_tlb_entry *e0 = vp_view(t, s->view)->e;
    uint32_t n = c->flags & JS_GROUP ? c->gn : c->n;
    struct jslot_site u = {
        .s = *s, .lim = 4096 - n, .mask = c->host ? ~0ull : 0,
        .group = 1ull << jit_slot_group(c->slot), .tags = (uint32_t)(uintptr_t)(write ? &e0->nwr : &e0->nrd),
        .slot = (uint32_t)(uintptr_t)&j->slot[c->slot], .budget = (uint32_t)(uintptr_t)&j->slot_budget[c->slot],
        .dirty = (uint32_t)(uintptr_t)&j->slot_dirty[c->slot / JIT_SLOT_CHUNK], .number = c->slot, .align = c->align, .chain = t->slots,
    };
    uint32_t at;

    if ((c->flags & JS_GROUP) && c->glo)
        e_lea(E, T0, h_mem(T0, c->glo));
    if (c->keep_flags)
        tr_flags_save(t);
    tr_loans_out(t);
    /* mov r11d, site; call; [flags]; jmp again; then the site's data */
    at = (off_of(t, E->p) + 16 + (c->keep_flags ? 40 : 0) + (c->lent ? 8 * t->nloans : 0) + 7) & ~7u;
    e_mov_imm(E, T1, (uint64_t)(uintptr_t)(j->rx + at));
    e_bind(e_call(E), thunk_rw(t, j->t_slot));
    tr_loans_in(t);
    if (c->keep_flags)
        tr_flags_load(t);
    e_bind(e_jmp(E), c->again);
    if (t->counted)
        j->slot_budget[c->slot] = JIT_SLOT_BUDGET;
    t->slots = at;
    E->p = t->base + at;
    memcpy(E->p, &u, sizeof(u));
    E->p += sizeof(u);
}

/* rcx: the address of the access. */
static void emit_page_site(struct tr *t, const struct cold *c, const struct jsite *s)
{
    const uint8_t *(*thunk)[2][2] = c->kind == COLD_STACK ? t->j->t_stack : t->j->t_fixed;
    uint8_t *imm;
    uint32_t site;

    tr_loans_out(t);
    e_mov_imm(E, T1, UINT32_MAX);
    imm = E->p - 4;
    e_bind(e_call(E), thunk_rw(t, thunk[t->ti[c->ti].view][c->acc & X86_ACC_WRITE || c->flags & JS_GWRITE][c->keep_flags]));
    tr_loans_in(t);
    e_bind(e_jmp(E), c->again);
    site = (uint32_t)(uintptr_t)(t->j->rx + off_of(t, E->p));
    memcpy(imm, &site, 4);
    memcpy(E->p, s, sizeof(*s));
    E->p += sizeof(*s);
}

/* C goes on at @to: with the loans in force.  @return the place for that. */
static uint32_t back_in(struct tr *t, uint32_t to)
{
    uint32_t at = off_of(t, E->p);

    if (!t->lent)
        return to;
    tr_loans_in(t);
    e_bind(e_jmp(E), t->base + to);
    return at;
}

static void emit_cold(struct tr *t, uint8_t *tail)
{
    for (unsigned i = 0; i < t->ncold; i++) {
        struct cold *c = &t->cold[i];
        struct jsite s = site_of(t, c->ti);
        struct ea a;

        s.flags |= c->flags;
        tr_loans_map(t, c->lent);
        s.next = t->ti[c->ti + 1].host;
        if (c->kind == COLD_HOT || (c->kind == COLD_EXIT && c->target == t->rip)) {
            uint8_t *to = tail + (c->kind == COLD_HOT ? JIT_TAIL_HOT : JIT_TAIL_POLL);

            if (c->lent) {
                e_bind(c->from, E->p);
                tr_loans_out(t);
                c->from = e_jmp(E);
            }
            e_bind(c->from, to);
            continue;
        }
        if (c->kind == COLD_MISS || c->kind == COLD_SLOT || c->kind == COLD_STACK || c->kind == COLD_FIXED || c->kind == COLD_EXEC) {
            s.next = back_in(t, s.next);
            if (c->retry)
                s.retry = back_in(t, off_of(t, c->retry));
        }
        e_bind(c->from, E->p);
        if (c->from2)
            e_bind(c->from2, E->p);
        switch (c->kind) {
        case COLD_MISS: case COLD_SLOT: case COLD_STACK: case COLD_FIXED:
            if (c->stack)
                a = (struct ea){ X86_RSP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, c->disp };
            else if (t->ti[c->ti].in.op == X86_OP_LEAVE)
                a = (struct ea){ X86_RBP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, 0 };
            else
                tr_ea_of(t, &t->ti[c->ti].in, t->ti[c->ti].off, &a);
            tr_emit_ea(t, &a, T0, T1);
            s.n = c->n;
            s.acc = c->acc;
            s.align = c->align;
            s.glo = c->glo;
            s.gn = c->gn;
            if (c->kind == COLD_SLOT) {
                emit_slot_site(t, c, &s);
                break;
            }
            if (c->kind == COLD_STACK || c->kind == COLD_FIXED) {
                s.arg = c->slot;
                emit_page_site(t, c, &s);
                break;
            }
            tr_loans_out(t);
            emit_site(t, t->j->t_miss, &s);
            break;
        case COLD_LINK:
            if (c->lent) {
                tr_loans_out(t);
                c->from = e_jmp(E);
                e_bind(c->from, E->p);
            }
            e_bind(e_call(E), thunk_rw(t, t->j->t_link));
            memcpy(E->p, &(struct jlink){ t->blockno, off_of(t, c->from) | (c->flags & JS_SAMEPAGE ? 0 : JLINK_FAR), 0,
                                          (int32_t)(c->target - t->rip) }, sizeof(struct jlink));
            E->p += sizeof(struct jlink);
            break;
        case COLD_EXIT:
            tr_loans_out(t);
            tr_guest_rip(t, c->target);
            e_bind(e_jmp(E), thunk_rw(t, t->j->t_ripexit));
            break;
        case COLD_UNEQUAL: /* rcx is something else */
            tr_unequal(t, c->target);
            if (c->jc)
                tr_jmp_indirect(t);
            else
                e_bind(e_jmp(E), thunk_rw(t, t->j->t_dispatch));
            break;
        case COLD_BIAS:
            e4(E, (uint32_t)c->target);
            e_bind(c->from, E->p);
            e_bind(e_call(E), thunk_rw(t, t->j->t_bias));
            e_bind(e_jmp(E), c->again);
            break;
        case COLD_RETS: /* calls without end have to be left somewhere */
            e_mov_imm(E, RSP, (uint64_t)(uintptr_t)&t->j->rets[t->cls].miss);
            e_mov_load32(E, T0, h_abs(&t->vp->attention));
            e1(E, 0xe3), e1(E, 5);            /* jrcxz over the jump */
            {
                uint8_t *leave = e_jmp(E);

                e_bind(e_jmp(E), c->again);
                e_bind(leave, E->p);
            }
            if (t->ti[c->ti].in.op == X86_OP_CALL_IND)
                e_mov_load(E, T0, h_abs(&t->j->ea));
            else
                tr_guest_rip(t, c->target);
            e_bind(e_jmp(E), thunk_rw(t, t->j->t_ripexit));
            break;
        case COLD_EXEC:
            if (!pool_add(t, &t->ti[c->ti].in, &s.arg))
                s.arg = 0;
            tr_loans_out(t);
            emit_site(t, t->j->t_exec, &s);
            break;
        }
    }
}

/* What C needs to know of the accesses that are checked by a call. */
static void accesses_done(struct tr *t, uint32_t first)
{
    struct jit *j = t->j;

    for (uint32_t i = first; i < j->nacc; i++) {
        struct jsite *s = &j->acc[i].s;
        const struct ti *ti = &t->ti[s->arg];

        s->block = t->blockno;
        s->off = ti->off;
        s->len = ti->in.len;
        s->view = ti->view;
        s->flags |= (ti->in.attr & X86_A_END ? JS_END : 0) | behind_sti(t, s->arg);
        s->next = t->ti[s->arg + 1].host;
        s->arg = 0;
    }
    j->acc_n[j->seg] = j->nacc;
}

struct jblock *jit_translate(struct hv_vp *vp, uint64_t lin, const uint8_t *page, uint64_t ram_page, uint32_t key, uint64_t canon,
                             bool floating)
{
    static _Thread_local struct tr tr_;
    struct tr *t = &tr_;
    struct jit *j = jit_of(vp);
    unsigned off = (unsigned)(lin & 4095), live, max;
    uint64_t page2 = ~0ull;
    uint8_t *sigmiss[2], *sigmiss2 = NULL;
    uint32_t first_acc, cold;
    struct jblock *b;
    bool ended = false;

    if (x86_vec_full(vp)) {
        j->want_reset |= JIT_RESET;
        return NULL;
    }
    if (j->used + JIT_BLOCK_MAX > j->cold_begin || j->cold + JIT_BLOCK_MAX > j->seg_end || j->nblocks >= JIT_MAX_BLOCKS ||
        j->npool + 4 * JIT_MAX_INSNS >= j->pool_end || j->nacc + 2 * JIT_MAX_INSNS >= j->acc_end) {
        j->want_reset |= JIT_EVICT;
        return NULL;
    }
    t->j = j;
    t->vp = vp;
    t->base = j->rw;
    t->e = (struct emit){ .p = j->rw + j->used, .by_rip = true, .rip = (uint32_t)((uintptr_t)j->rx - (uintptr_t)j->rw) };
    t->rip = canon;
    t->bias = vp->cpu.rip - canon;
    t->floating = floating;
    t->key = key;
    t->m64 = key & X86_KEY_MODE64;
    t->cls = vp->mmu.view;
    t->tlb = vp->mmu.tlb;
    t->page = page;
    t->ram_page = ram_page;
    t->phys = ram_page << 12 | (lin & 4095);
    t->hot = j->always_hot || (*jit_hint(j, t->phys) & JHINT_HOT);
    t->warm = t->hot || (*jit_hint(j, t->phys) & JHINT_WARM);
    t->counted = !j->always_hot && !(t->hot && (*jit_hint(j, t->phys) & JHINT_TRIED));
    t->slots = 0;
    t->stack_taken[0] = t->stack_taken[1] = false;
    t->claimed = 0;
    t->n = t->ncold = 0;
    first_acc = j->nacc;
    t->vchecked = t->xchecked = t->xptrs = false;
    t->align = 0;

    max = j->lockstep ? jit_lockstep_limit(j, t->phys, key) : JIT_MAX_INSNS - 1;
    while (t->n < max && off < 4096) {
        struct ti *ti = &t->ti[t->n];
        unsigned avail = 4096 - off;
        uint8_t *code = t->code + (off - (lin & 4095));
        int len;

        tr_claim(t, off, X86_MAX_INSN);
        if (avail > X86_MAX_INSN)
            avail = X86_MAX_INSN;
        memcpy(code, page + off, avail);
        len = x86_decode(code, avail, (enum x86_mode)vp->cpu.mode, &ti->in);
        if (len == 0 && !t->n && avail < X86_MAX_INSN) {
            /* It goes on in the next page: a block of its own, entered through a test of that page too. */
            uint64_t lin2 = t->m64 ? lin + avail : (uint32_t)(lin + avail);
            const uint8_t *p2 = t->m64 || lin2 ? x86_fetch_page(vp, lin2, &page2) : NULL; /* behind the limit of CS: C raises that */

            if (!p2)
                return NULL;
            t->claimed = 0; /* to come to the next page may have changed this one: A and D are set */
            tr_claim(t, off, X86_MAX_INSN);
            x86_code_claim(vp, page2, 1);
            memcpy(code, page + off, avail);
            memcpy(code + avail, p2, X86_MAX_INSN - avail);
            if (x86_decode(code, X86_MAX_INSN, (enum x86_mode)vp->cpu.mode, &ti->in) <= (int)avail)
                return NULL; /* none, or no longer across: to come to the next page has changed it */
            ti->off = 0;
            t->n = 1;
            break;
        }
        if (len <= 0)
            break;
        ti->off = (uint16_t)(off - (lin & 4095));
        t->n++;
        off += ti->in.len;
        if (tr_ends_block(t, &ti->in))
            break;
    }
    if (!t->n)
        return NULL;

    uint64_t end_rip = trunc_rip(t, t->rip + t->ti[t->n - 1].off + t->ti[t->n - 1].in.len);
    const struct x86_insn *last = &t->ti[t->n - 1].in;

    /* Liveness of flags, backwards. */
    if (last->op == X86_OP_JMP_NEAR || last->op == X86_OP_CALL_NEAR)
        live = tr_peek_target(t, last, end_rip);
    else if (tr_ends_block(t, last))
        live = F_ALL;
    else
        live = tr_peek(t, end_rip);
    for (unsigned i = t->n; i-- > 0;) {
        struct ti *ti = &t->ti[i];
        unsigned rd, wr;

        if (ti->in.op == X86_OP_JCC)
            live |= tr_peek_target(t, &ti->in, t->rip + ti->off + ti->in.len);
        tr_flag_use(&ti->in, &rd, &wr);
        if (j->exact)
            live = F_ALL;
        ti->live_out = (uint8_t)live;
        live = j->exact ? (unsigned)F_ALL : (live & ~wr) | rd;
        ti->live_in = (uint8_t)live;
    }

    tr_loans_choose(t, t->warm && page2 == ~0ull);
    tr_loans_map(t, true);
    tr_find_groups(t);
    tr_loans_map(t, false);

    uint32_t sig = jit_sig(j, t->rip, ram_page, key & ~(uint32_t)(JKEY_NOGROUP | JKEY_SINGLE));

    uint32_t sig2 = sig && page2 != ~0ull ? jit_sig(j, end_rip, page2, key & ~(uint32_t)(JKEY_NOGROUP | JKEY_SINGLE)) : 1;

    if (!sig || !sig2)
        return NULL;
    t->blockno = j->nblocks++;
    b = &j->blocks[t->blockno];
    *b = (struct jblock){ .rip = t->rip, .phys = ram_page << 12 | (lin & 4095), .key = key, .cls = (uint8_t)t->cls,
                          .ninsns = (uint16_t)t->n, .len = (uint16_t)(end_rip - t->rip), .live_in = t->ti[0].live_in };
    b->since = jit_kcycles();
    b->sig = sig;
    b->sig2 = sig2;
    b->groups = t->ngroups > 0;
    b->floating = floating;
    b->made_at = vp->cpu.rip;
    b->page2 = page2;
    b->lines = t->claimed;
    t->cur = 0;
    tr_emit_entries(t, b, sigmiss);
    if (page2 != ~0ull)
        sigmiss2 = tr_page_check(t, end_rip, sig2);
    for (unsigned i = 0; i < t->n; i++) {
        struct ti *ti = &t->ti[i];
        uint32_t host = off_of(t, E->p);

        if (tr_ends_block(t, &ti->in)) {
            tr_loans_out(t);
            tr_loans_map(t, false);
        }

        uint8_t *start = E->p;
        unsigned ncold = t->ncold;
        uint32_t nacc = j->nacc;
        struct group saved[MAX_GROUPS];
        bool ok = false, vchecked = t->vchecked;

        memcpy(saved, t->g, t->ngroups * sizeof(saved[0]));
        t->cur = i;
        ti->host = host;
        ti->view = (uint8_t)t->cls;
        ended = false;
        if (!ti->in.feature || hv_feature(vp->p, ti->in.feature)) {
            if ((ti->in.attr & X86_A_END) && !tr_inline_system(t, &ti->in)) {
                int r = tr_emit_branch(t, &ti->in);

                ok = r != 0;
                ended = r == 2;
            } else {
                ok = tr_emit_native(t, &ti->in);
            }
        }
        if (!ok) {
            E->p = start;
            t->ncold = ncold;
            j->nacc = nacc;
            t->vchecked = vchecked;
            t->xptrs = false;
            memcpy(t->g, saved, t->ngroups * sizeof(saved[0]));
            emit_exec(t, i);
            ended = tr_ends_block(t, &ti->in);
        }
    }
    t->ti[t->n].host = off_of(t, E->p);
    if (!ended) {
        t->cur = t->n - 1;
        tr_loans_out(t);
        tr_loans_map(t, false);
        tr_link_to(t, e_jmp(E), end_rip);
    }
    b->end = off_of(t, E->p);
    E->p = j->rw + j->cold;
    uint8_t *tail = E->p;

    b->tail = j->cold;
    e_bind(e_call(E), thunk_rw(t, j->t_drop));
    e_bind(e_call(E), thunk_rw(t, j->t_hot));
    e_bind(e_call(E), thunk_rw(t, j->t_page));
    e_bind(e_call(E), thunk_rw(t, j->t_poll));
    e4(E, t->blockno);
    emit_cold(t, tail);
    b->code = off_of(t, E->p);
    memcpy(E->p, t->code, b->len);
    E->p += b->len;
    accesses_done(t, first_acc);
    b->slots = t->slots;
    e_bind(sigmiss[0], tail + JIT_TAIL_PAGE);
    e_bind(sigmiss[1], tail + JIT_TAIL_PAGE);
    if (sigmiss2)
        e_bind(sigmiss2, tail + JIT_TAIL_PAGE);
    b->size = b->end - b->ind + off_of(t, E->p) - j->cold;
    cold = j->cold;
    j->cold = (off_of(t, E->p) + 3) & ~3u;
    j->used = (b->end + 15) & ~15u;
    if (unlikely(j->observe))
        jit_saw_code(t, b, cold, off_of(t, E->p));
    return b;
}
