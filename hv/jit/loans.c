/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: which guest registers live in host registers within a block.
 *
 * Three of the guest's have no host register (jit_host_of), and code that works with them waits for what it has just
 * stored.  Where a block uses one of the three much and another register hardly, it lends: from its beginning to its
 * end the host register of the one holds the other, whose place in struct x86_cpu is stale then, while the one lives
 * in its own.  All ways out put that right first (tr_loans_out), those that come back do the opposite behind
 * (tr_loans_in); so nobody outside knows.  The last instruction is emitted without loans unless it is a Jcc. */
#include "hv/jit/tr.h"

enum {
    GAIN_LEAST = 6, /* of the costs below: three moves at the begin and the end of the block */
    GAIN_LOOP = 2,  /* a block that runs again and again at one go */
    COST_READ = 2,
    COST_WRITE = 1,
    COST_UPDATE = 6, /* a store that the next load waits for */
    COST_ADDRESS = 4,
    NEVER = 1000
};

struct use {
    int cost[16];
    bool written[16];
};

/* What an operation takes from registers without saying so. */
static void implicit(const struct x86_insn *in, struct use *u)
{
    switch (in->op) {
    case X86_OP_LEAVE: u->cost[X86_RBP] = NEVER; break;
    case X86_OP_MOVS: case X86_OP_STOS:
        u->cost[X86_RSI] = u->cost[X86_RDI] = NEVER;
        break;
    case X86_OP_CMPXCHG8B:
    case X86_OP_CMPXCHG16B: u->cost[X86_RBX] = NEVER; break;
    }
}

static struct use count(const struct tr *t)
{
    struct use u = { .cost = { 0 } };

    for (unsigned i = 0; i < t->n; i++) {
        const struct x86_insn *in = &t->ti[i].in;

        implicit(in, &u);
        if (in->base < 16)
            u.cost[in->base] += COST_ADDRESS;
        if (in->index < 16)
            u.cost[in->index] += COST_ADDRESS;
        for (unsigned k = 0; k < in->nops; k++) {
            const struct x86_operand *o = &in->o[k];

            if (o->kind != X86_O_GPR)
                continue;
            if (o->flags & X86_F_HIGH8) {
                u.cost[o->reg - 4] = NEVER;
                continue;
            }
            u.written[o->reg] = u.written[o->reg] || (o->flags & X86_WR);
            if (!(o->flags & X86_WR))
                u.cost[o->reg] += COST_READ;
            else
                u.cost[o->reg] += (o->flags & X86_RD) || o->size < 4 ? COST_UPDATE : COST_WRITE;
        }
    }
    return u;
}

/* How many instructions have more operands in memory than they can be emitted with. */
static unsigned hard(const struct tr *t)
{
    unsigned sum = 0;

    for (unsigned i = 0; i < t->n; i++) {
        const struct x86_insn *in = &t->ti[i].in;
        unsigned homes = 0, room = 2;

        sum += is_home(t, in->base) && is_home(t, in->index);
        for (unsigned k = 0; k < in->nops; k++) {
            homes += in->o[k].kind == X86_O_GPR && op_home(t, &in->o[k]);
            if (in->o[k].kind == X86_O_MEM)
                room = 1;
        }
        sum += homes > room;
        sum += in->op >= X86_OP_BT && in->op <= X86_OP_BTC && in->o[0].kind == X86_O_MEM &&
               op_home(t, &in->o[1]) && in->o[1].kind == X86_O_GPR;
    }
    return sum;
}

static bool loops(const struct tr *t)
{
    for (unsigned i = 0; i < t->n; i++) {
        const struct ti *ti = &t->ti[i];

        if (ti->in.op == X86_OP_JCC && !tr_short_target(t, &ti->in) &&
            trunc_rip(t, t->rip + ti->off + ti->in.len + (uint64_t)ti->in.imm) == t->rip)
            return true;
    }
    return false;
}

static bool has_vec(const struct tr *t)
{
    for (unsigned i = 0; i < t->n; i++)
        for (unsigned k = 0; k < t->ti[i].in.nops; k++)
            if (t->ti[i].in.o[k].kind == X86_O_VEC)
                return true;
    return false;
}

void tr_loans_choose(struct tr *t, bool any)
{
    static const uint8_t homes[] = { X86_R9, X86_R10, X86_R11 };
    static const uint8_t lenders[] = { X86_R12, X86_R13, X86_R14, X86_R15, X86_RBP,
                                       X86_RBX, X86_R8,  X86_RDI, X86_RSI };
    struct use u;
    int least;
    unsigned bad;

    t->nloans = 0;
    t->loop = NULL;
    t->loop_polls = t->warm && !(t->key & JKEY_SINGLE) && !t->ti[0].live_in && loops(t);
    tr_loans_map(t, false);
    if (!t->m64 || !any)
        return;
    u = count(t);
    least = t->j->always_hot ? 1 : loops(t) ? GAIN_LOOP : GAIN_LEAST;
    bad = hard(t);
    for (unsigned n = 0; n < MAX_LOANS; n++) {
        unsigned to = homes[0], from = lenders[0];

        for (unsigned i = 1; i < sizeof(homes); i++)
            if (u.cost[homes[i]] > u.cost[to])
                to = homes[i];
        for (unsigned i = 1; i < sizeof(lenders); i++)
            if (u.cost[lenders[i]] < u.cost[from])
                from = lenders[i];
        if (u.cost[to] >= NEVER || u.cost[to] - u.cost[from] < least)
            return;
        t->loan[t->nloans++] =
            (struct loan){ jit_host_of[from], (uint8_t)from, (uint8_t)to, u.written[to] };
        tr_loans_map(t, true);
        if (hard(t) > bad) { /* not this one, nor another for the same register */
            t->nloans--;
            u.cost[from] = NEVER;
        } else {
            u.cost[from] = NEVER;
            u.cost[to] = 0;
        }
        tr_loans_map(t, false);
    }
}

/* From here on the loans are in force, or they are not. */
void tr_loans_map(struct tr *t, bool lent)
{
    memcpy(t->map, jit_host_of, sizeof(t->map));
    t->lent = lent && t->nloans;
    if (!t->lent)
        return;
    for (unsigned i = 0; i < t->nloans; i++) {
        t->map[t->loan[i].to] = t->loan[i].host;
        t->map[t->loan[i].from] = NOREG;
    }
}

/* At the beginning of the block.  What it comes back to by its own branch is behind what need not be done again. */
void tr_loans_begin(struct tr *t)
{
    bool loop = t->warm && !(t->key & JKEY_SINGLE) && loops(t);

    if (loop && has_vec(t))
        tr_vec_live(t);
    for (unsigned i = 0; i < t->nloans; i++)
        e_mov_store(E, HOME(t->loan[i].from), t->loan[i].host);
    tr_loans_map(t, true);
    tr_loans_in(t);
    if (loop)
        t->loop = E->p;
    if (t->loop_polls)
        tr_poll(t, t->rip, 0);
}

/* Emit what makes all registers be where they are outside.  Flags, rcx and r11 are kept. */
void tr_loans_out(struct tr *t)
{
    if (!t->lent)
        return;
    for (unsigned i = 0; i < t->nloans; i++) {
        if (t->loan[i].written)
            e_mov_store(E, HOME(t->loan[i].to), t->loan[i].host);
        e_mov_load(E, t->loan[i].host, HOME(t->loan[i].from));
    }
}

/* The opposite; the lenders' places are not stale. */
void tr_loans_in(struct tr *t)
{
    if (!t->lent)
        return;
    for (unsigned i = 0; i < t->nloans; i++)
        e_mov_load(E, t->loan[i].host, HOME(t->loan[i].to));
}
