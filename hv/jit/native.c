/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs in a process of their own: which, when, and a turn of one.
 *
 * Which: at each interrupt that finds the VP in a program it is looked at how many calls and exceptions there were since
 * the last one.  Where there are few, an executor is tried; what it has cost and what it has saved is added up, and
 * where it does not pay the address space is left alone for a while, longer each time. */
#define _GNU_SOURCE
#include "hv/jit/tr.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ucontext.h>

#include "hv/infra.h"

#ifndef MAP_32BIT
#define MAP_32BIT 0x40
#endif

enum {
    RUN_NS = 50000,                 /* between two calls, on average */
    SCORE = 5, SCORE_MOST = 24,     /* times that it was so */
    SETTLE_NS = 1000000,            /* of both sides, then it is an experience */
    HANDOVER_NS = 6000,
    TOKENS = 64,                    /* handing over so often at one go, */
    TOKEN_NS = 80000,               /* and once more each so long, */
    TOKEN_RUN_NS = 24000,           /* or for so much of its own time, */
    TOKENS_LEAST = 48,              /* then there are to be so many, before it goes on */
    BUILT_NS = 40000,               /* between two blocks that are made, before it begins */
    IDLE_NS = 50000000,             /* without a turn, then a program is not armed any more */
    JUDGE_NS = 100000000,           /* of both sides together, then it is seen whether it pays */
    PAUSE_NS = 50000000,            /* doubled each time */
    FAILS = 8,
    BROKEN = 32,                    /* executors that were misused, then there are no others */
    FL_MASK = 0xd501,
    MXCSR_MASK_ = 0xffff
};
enum { XS_HEADER = 512, XS_SIZE = 832 };

static struct jnat_space *space_of(struct jnat *n, uint64_t cr3)
{
    struct jnat_space *oldest = &n->space[0];

    for (unsigned i = 0; i < JNAT_SPACES; i++) {
        if (n->space[i].cr3 == cr3) {
            n->space[i].used = ++n->clock;
            return &n->space[i];
        }
        if (n->space[i].used < oldest->used)
            oldest = &n->space[i];
    }
    *oldest = (struct jnat_space){ .cr3 = cr3, .used = ++n->clock };
    return oldest;
}

/* May a program run so as the VP is now? */
static bool fits(const struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;

    return c->cpl == 3 && (c->key & X86_KEY_MODE64) && jit_may_translate(vp) && vp->mmu.view == X86_VIEW_USER && !vp->mmu.watch &&
           !(c->eflags & EF_DF) && !c->int_shadow && !(jit_key(vp) & (JKEY_SSE_SLOW | JKEY_X87_SLOW)) &&
           !atomic_load_explicit(&vp->p->a20_masked, memory_order_relaxed);
}

/* The account of a program is closed. */
static void settle(struct jnat *n)
{
    if (n->gain + n->cost > SETTLE_NS)
        n->patience = n->cost > n->gain ? n->patience * 2 : n->patience / 2;
    n->patience = n->patience < SCORE ? SCORE : n->patience > SCORE_MOST ? SCORE_MOST : n->patience;
    n->gain = n->cost = 0;
}

static void disarm(struct hv_vp *vp, struct jnat_space *s, bool failed)
{
    struct jnat *n = vp->jit->nat;

    n->armed = 0;
    s->score = 0;
    settle(n);
    if (!failed)
        return;
    s->not_before = hv_host_ns() + ((uint64_t)PAUSE_NS << s->fails);
    if (s->fails < FAILS)
        s->fails++;
}

void jit_native_sample(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    uint64_t now, kernel, calls, ns, built, cr3 = jnat_space_of(vp);
    struct jnat_space *s;

    if (!n || n->off || n->always || vp->cpu.cpl != 3)
        return;
    now = hv_host_ns();
    kernel = vp->jit->calls + vp->counters[HV_CTR_EXCEPTIONS];
    calls = kernel - n->sample_kernel + 1;
    ns = now - n->sample_ns;
    n->sample_kernel = kernel;
    built = vp->counters[HV_CTR_BLOCKS_BUILT] - n->sample_built;
    n->sample_built += built;
    n->sample_ns = now;
    if (n->sample_cr3 != cr3) {
        n->sample_cr3 = cr3;
        return;
    }
    s = space_of(n, cr3);
    if (n->armed == cr3)
        return;
    if (n->armed && now - n->turn_at > IDLE_NS)
        disarm(vp, space_of(n, n->armed), false);
    s->score = ns / calls < RUN_NS && ns > 100000 ? 0 : s->score + (ns > 100000);
    if (s->score < n->patience || now < s->not_before || built * BUILT_NS > ns || !fits(vp))
        return;
    settle(n);
    n->armed = cr3;
    n->tokens = TOKENS;
    n->tokens_at = now;
    n->rest_until = 0;
    n->turn_at = now;
    jit_native_armed(vp->jit);
}

bool jit_native_wanted(const struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (n && n->rest_until) {
        if (hv_host_ns() < n->rest_until)
            return false;
        n->rest_until = 0;
        jit_native_armed(n->main);
    }
    return n && vp->cpu.cpl == 3 && (n->always || (n->armed && n->armed == jnat_space_of(vp))) && !n->off && !n->skip && fits(vp);
}

/* ---- registers ------------------------------------------------------------------------------------------------ */

static void to_win(struct hv_vp *vp, struct jwin *w)
{
    memcpy(w->gpr, vp->cpu.gpr, sizeof(w->gpr));
    w->fl = vp->cpu.fl;
    x86_xsave_get(vp, w->xsave);
    w->ro.seg_base[0] = vp->cpu.seg[X86_FS].base;
    w->ro.seg_base[1] = vp->cpu.seg[X86_GS].base;
    jit_rets_clear(vp->jit, 0);
    w->rets.miss = vp->jit->t_retmiss[0];
    w->rsp = (uint64_t)(uintptr_t)&w->rets.miss;
    vp->jit->rsp[0] = 0;
}

/* @area: an image by XSAVE, from somebody who is not believed. */
static void vec_from(struct hv_vp *vp, const uint8_t *area)
{
    uint8_t x[1024] __attribute__((aligned(64))) = { 0 };
    uint32_t mxcsr;
    uint64_t bv;

    memcpy(x, area, XS_SIZE);
    memset(x + 464, 0, 48);
    memset(x + XS_HEADER + 8, 0, 56);
    memcpy(&bv, x + XS_HEADER, 8);
    bv &= 7;
    if (!(bv & 1)) { /* its initial form, SDM 1 13.6, is not that of power-on */
        memset(x, 0, 24);
        memset(x + 32, 0, 128);
        x[0] = 0x7f, x[1] = 0x03;
    }
    if (!(bv & 2))
        memset(x + 160, 0, 256);
    bv |= 3;
    memcpy(x + XS_HEADER, &bv, 8);
    memcpy(&mxcsr, x + 24, 4);
    mxcsr &= MXCSR_MASK_;
    memcpy(x + 24, &mxcsr, 4);
    x86_xsave_put(vp, x);
    vp->cpu.x87_ptrs = 0;
}

static void from_win(struct hv_vp *vp, const struct jwin *w)
{
    memcpy(vp->cpu.gpr, w->gpr, sizeof(w->gpr));
    vp->cpu.fl = ((uint32_t)w->fl & FL_MASK) | FL_FIXED;
    vec_from(vp, w->xsave);
}

/* ---- what the executor's code looks into ---------------------------------------------------------------------- */

bool jit_native_fact(struct jit *j, uint64_t va, uint64_t page, uint32_t sig)
{
    struct jnat *n = j->nat;
    bool room = n->nfacts < JNAT_FACTS;

    if (!room)
        n->nfacts = 0;
    n->fact[n->nfacts] = va;
    n->fact_page[n->nfacts] = page;
    n->fact_sig[n->nfacts++] = sig;
    return room;
}

bool jit_native_recheck(struct hv_vp *vp)
{
    struct jit *j = vp->jit;
    struct jnat *n = j->nat;
    unsigned kept = 0;
    bool same = true;

    for (unsigned i = 0; i < n->nfacts; i++) {
        uint32_t *sig = &j->fsig[0][jit_fsig_slot(n->fact[i] << 12)];

        if (*sig != n->fact_sig[i]) { /* another page has its place; nobody knows of it */
            same = false;
            continue;
        }
        if (jnat_code_page(vp, n->fact[i] << 12) != n->fact_page[i]) {
            *sig = 0;
            same = false;
            continue;
        }
        n->fact[kept] = n->fact[i];
        n->fact_page[kept] = n->fact_page[i];
        n->fact_sig[kept++] = n->fact_sig[i];
    }
    n->nfacts = kept;
    return same;
}

/* As PEXT makes it of the address. */
static unsigned known_at(uint64_t rip) { return (unsigned)((rip >> 4 & 63) | (rip >> 12 & 127) << 6); }
enum { KNOWN_MASK = 63 << 4 | 127 << 12 };

static void known_none(struct jwin *w, unsigned i)
{
    w->known[i].neg = 0 - ((uint64_t)(~i & 1) << 4); /* an address that has another place */
    w->known[i].host = 0;
}

void jit_native_note(struct jit *j, const struct jblock *b)
{
    struct jwin *w = j->win;
    unsigned i = known_at(b->rip);

    w->known[i].neg = 0 - b->rip;
    w->known[i].host = (uint64_t)(uintptr_t)(j->rx + b->known);
}

void jit_native_forget(struct jit *j, const struct jblock *b)
{
    struct jwin *w = j->win;
    unsigned i;

    if (!b) {
        w->ro.mask_known = KNOWN_MASK;
        for (i = 0; i < JNAT_KNOWN; i++)
            known_none(w, i);
        return;
    }
    i = known_at(b->rip);
    if (w->known[i].host == (uint64_t)(uintptr_t)(j->rx + b->known))
        known_none(w, i);
}

/* ---- signals ---------------------------------------------------------------------------------------------------- */

void jit_native_made(struct jit *j, uint32_t block, const struct jnote *n) { j->nat->note[block] = *n; }

bool jit_native_is_link(const struct jit *j, uint64_t at)
{
    uint64_t off = at - (uint64_t)(uintptr_t)j->rx;
    uint32_t seg, lo, hi;

    if (off >= (uint64_t)j->nsegs * j->seg_size)
        return false;
    seg = (uint32_t)off / j->seg_size;
    if (seg > j->seg)
        return false;
    lo = JIT_MAX_ACC / JIT_SEGMENTS * seg;
    hi = j->acc_n[seg];
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (j->acc[mid].at == off)
            return true;
        if (j->acc[mid].at < off)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

/* The block whose code is at @host, and which of its instructions.  Code grows with the numbers of blocks within a segment, and
 * so do segments. */
static const struct jblock *block_of(const struct jit *j, uint64_t host, const struct jnote **ret_note, unsigned *ret_i)
{
    uint64_t off = host - (uint64_t)(uintptr_t)j->rx;
    unsigned lo = 1, hi = j->nblocks;
    const struct jnote *n;
    unsigned i;

    while (lo < hi) {
        unsigned mid = lo + (hi - lo) / 2;

        if (j->nat->note[mid].end <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo >= j->nblocks || (n = &j->nat->note[lo])->ind > off || off - n->ind < n->host[0])
        return NULL;
    for (i = n->n - 1u; n->host[i] > off - n->ind; i--)
        ;
    *ret_note = n;
    *ret_i = i;
    return &j->blocks[lo];
}

/* The state of the program where the signal @uc was, in vp->cpu.  @return false: it was not in its code. */
static bool from_signal(struct hv_vp *vp, const struct jwin *w, const ucontext_t *uc)
{
    static const uint8_t host[16] = { REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                      REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15 };
    const greg_t *g = uc->uc_mcontext.gregs;
    uint64_t fp = (uint64_t)(uintptr_t)uc->uc_mcontext.fpregs, lo = (uint64_t)(uintptr_t)w->stack;
    const struct jnote *n;
    const struct jblock *b;
    unsigned i;

    b = block_of(vp->jit, (uint64_t)g[REG_RIP], &n, &i);
    if (!b || fp - lo > sizeof(w->stack) - XS_SIZE)
        return false;
    for (unsigned r = 0; r < 16; r++)
        vp->cpu.gpr[r] = jit_host_of[r] == NOREG ? w->gpr[r] : (uint64_t)g[host[jit_host_of[r]]];
    if (!(n->ends && i == n->n - 1u)) /* loans are in force but for the last one */
        for (unsigned k = 0; k < n->nloans; k++) {
            vp->cpu.gpr[n->loan[k].from] = w->gpr[n->loan[k].from];
            vp->cpu.gpr[n->loan[k].to] = (uint64_t)g[host[n->loan[k].host]];
        }
    if (n->rep >> i & 1) /* what is left is in the host's, as it is in the midst */
        vp->cpu.gpr[X86_RCX] = (uint64_t)g[REG_RCX];
    vp->cpu.fl = x86_eflags_to_fl((uint32_t)g[REG_EFL]);
    vp->cpu.rip = b->rip + n->off[i];
    vec_from(vp, (const uint8_t *)(uintptr_t)fp);
    return true;
}

/* @return how it goes on: JNAT_RETURN to the same, JNAT_ENTER where vp->cpu is now, 0: not any more; negative errno. */
static int signalled(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    struct jwin *w = n->win;
    uint64_t off = w->arg - (uint64_t)(uintptr_t)w->stack, va;
    const ucontext_t *uc = (const ucontext_t *)(const void *)(w->stack + off);
    bool write;
    int r;

    if (off > sizeof(w->stack) - sizeof(ucontext_t) || off & 7 || !from_signal(vp, w, uc))
        return -EPROTO;
    va = (uint64_t)uc->uc_mcontext.gregs[REG_CR2];
    write = uc->uc_mcontext.gregs[REG_ERR] & PF_W;
    if (uc->uc_mcontext.gregs[REG_TRAPNO] == X86_EXC_PF && va < 1ull << 47) {
        r = jnat_fault(vp, x, va, write);
        if (!r) {
            x->missing = (va & ~4095ull) | write | 2;
            x86_lin_probe(vp, va, 1, write ? X86_ACC_WRITE : X86_ACC_READ);
            x->missing = 0;
            r = jnat_sync(vp, x);
            if (!r)
                r = jnat_fault(vp, x, va, write);
        }
        if (r)
            return r < 0 ? r : JNAT_RETURN;
    }
    jit_exec_at_rip(vp);
    return jnat_space_of(vp) == x->cr3 && fits(vp) ? JNAT_ENTER : 0;
}

/* ---- a turn --------------------------------------------------------------------------------------------------- */

static bool in_its_gb(const void *p, uint64_t len) { return (uintptr_t)p >> 30 == 1 && ((uintptr_t)p + len - 1) >> 30 == 1; }

static int begin(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (n->jit)
        return 0;
    n->win = mmap(NULL, sizeof(struct jwin), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (n->win == MAP_FAILED) {
        n->win = NULL;
        return -ENOMEM;
    }
    n->note = mmap(NULL, JIT_MAX_BLOCKS * sizeof(*n->note), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (n->note == MAP_FAILED) {
        n->note = NULL;
        return -ENOMEM;
    }
    n->jit = jit_native_instance(vp, n->win);
    /* One GB has it all: see jnat_place_free. */
    return n->jit && in_its_gb(n->win, sizeof(*n->win)) && in_its_gb(n->jit->rx, JNAT_CACHE) && in_its_gb((void *)&vp->attention, 4096) ? 0 : -ENOMEM;
}

static struct jnat_executor *executor(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    struct jnat_executor *x = &n->exec[0];

    for (unsigned i = 0; i < JNAT_EXECUTORS; i++) {
        if (n->exec[i].alive && n->exec[i].cr3 == jnat_space_of(vp)) {
            x = &n->exec[i];
            if (n->cur != x) { /* what another program left */
                memset(n->win, 0, offsetof(struct jwin, ro));
                n->cur = x;
            }
            x->used = ++n->clock;
            return x;
        }
        if (!n->exec[i].alive ? x->alive : x->alive && n->exec[i].used < x->used)
            x = &n->exec[i];
    }
    if (x->alive) { /* what it had is of another program */
        if (!jnat_empty(vp, x)) {
            memset(n->win, 0, offsetof(struct jwin, ro));
            goto take;
        }
        jnat_kill(x);
    }
    n->made++;
    if (jnat_spawn(vp, x)) {
        n->off = true;
        return NULL;
    }
take:
    x->cr3 = jnat_space_of(vp);
    x->used = ++n->clock;
    n->cur = x;
    return x;
}

/* Whether it pays. */
static void judge(struct hv_vp *vp, uint64_t there, uint64_t all)
{
    struct jnat *n = vp->jit->nat;
    struct jnat_space *s = space_of(n, n->armed);

    n->gain += there / 4 * 3; /* the translator takes about twice as long */
    n->cost += all - there;
    if (n->gain + n->cost < JUDGE_NS)
        return;
    if (n->cost > n->gain) {
        disarm(vp, s, true);
    } else {
        s->fails = 0;
        n->gain /= 2;
        n->cost /= 2;
    }
}

/* The executor is gone, or tells nonsense: its program has done that. */
static void broken(struct hv_vp *vp, struct jit *main, struct jnat_executor *x, int err)
{
    struct jnat *n = main->nat;

    if (++n->broken == BROKEN)
        n->off = true;
    hv_log(vp->p, 1, "processor %u: a program's executor is given up (%s)%s", vp->index, strerror(-err),
           n->off ? "; there will be no others" : "");
    jnat_kill(x);
    disarm(vp, space_of(n, jnat_space_of(vp)), true);
    vp->jit = main;
    x86_raise_err(vp, X86_EXC_GP, 0);
}

void jit_native_run(struct hv_vp *vp)
{
    struct jit *main = vp->jit, *j;
    struct jnat *n = main->nat;
    struct jnat_executor *x;
    uint64_t t0 = hv_host_ns(), there = 0, t1;
    uint32_t nacc;
    const uint8_t *to = NULL;
    struct jwin *w;
    int how = JNAT_ENTER, r = 0;
    bool fresh = true; /* vp->cpu is to be shown to the executor */

    if (n->kill)
        for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
            jnat_kill(&n->exec[i]);
    n->kill = false;
    if (begin(vp)) {
        n->off = true;
        n->armed = 0;
        return;
    }
    t0 = hv_host_ns(); /* what it takes once is not of this turn */
    if (!jnat_place_free(vp)) {
        disarm(vp, space_of(n, jnat_space_of(vp)), true);
        n->skip = true;
        return;
    }
    x = executor(vp);
    if (!x) {
        n->off = true;
        n->armed = 0;
        return;
    }
    if (t0 - n->tokens_at > TOKEN_NS) {
        uint64_t more = n->tokens + (t0 - n->tokens_at) / TOKEN_NS;

        n->tokens = more > TOKENS ? TOKENS : (unsigned)more;
        n->tokens_at = t0;
    }
    w = n->win;
    vp->jit = j = n->jit;
    n->turns++;
    jit_between(vp);
    to = jit_dispatch(vp);
    while (to != j->t_exit && !n->kill) {
        r = jnat_sync(vp, x);
        if (!r && x->missing) { /* it is there now, probably */
            r = jnat_fault(vp, x, x->missing & ~4095ull, x->missing & 1);
            r = r < 0 ? r : 0;
            x->missing = 0;
        }
        if (r)
            break;
        if (fresh)
            to_win(vp, w);
        fresh = false;
        if (how == JNAT_ENTER && j->rsp[0]) { /* what is on the stack of returns is no good any more */
            w->rsp = j->rsp[0];
            j->rsp[0] = 0;
        }
        w->ro.enter = (uint64_t)(uintptr_t)to;
        w->ro.how = (uint64_t)how;
        t1 = hv_host_ns();
        r = jnat_resume(vp, x);
        t1 = hv_host_ns() - t1;
        if (r)
            break;
        t1 -= HANDOVER_NS < t1 ? HANDOVER_NS : t1;
        there += t1;
        n->tokens += t1 / TOKEN_RUN_NS > TOKENS ? TOKENS : (unsigned)(t1 / TOKEN_RUN_NS);
        n->tokens = n->tokens > TOKENS ? TOKENS : n->tokens;
        nacc = j->nacc;
        n->handed[w->why < JNAT_SIGNAL ? w->why : JNAT_SIGNAL]++;
        how = JNAT_ENTER;
        if (w->why != JNAT_SIGNAL)
            from_win(vp, w);
        switch (w->why) {
        case JNAT_DISPATCH: to = jit_c_dispatch(vp, w->arg); break;
        case JNAT_LINK:
            if (!jit_native_is_link(j, w->arg))
                r = -EPROTO;
            else
                to = jit_c_link(vp, (const uint8_t *)(uintptr_t)w->arg);
            break;
        case JNAT_DROP: case JNAT_PAGE: case JNAT_POLL:
            if (w->arg - (uint64_t)(uintptr_t)j->rx >= (uint64_t)j->nsegs * j->seg_size - 64) {
                r = -EPROTO;
                break;
            }
            to = (w->why == JNAT_DROP ? jit_c_drop : w->why == JNAT_PAGE ? jit_c_page : jit_c_poll)(vp, (const uint8_t *)(uintptr_t)w->arg);
            break;
        case JNAT_EXEC:
            vp->cpu.rip = w->arg;
            jit_exec_at_rip(vp);
            fresh = true;
            to = jnat_space_of(vp) == x->cr3 && fits(vp) ? jit_dispatch(vp) : j->t_exit;
            break;
        case JNAT_EXIT:
            vp->cpu.rip = w->arg;
            to = j->t_exit;
            break;
        case JNAT_SIGNAL:
            r = signalled(vp, x);
            if (r < 0)
                break;
            how = r;
            r = 0;
            if (how == JNAT_RETURN && j->seen_gen == vp->mmu.fetch_gen && !j->rsp[0])
                break;
            how = how ? JNAT_ENTER : 0;
            fresh = true;
            to = how ? jit_dispatch(vp) : j->t_exit;
            how = JNAT_ENTER;
            break;
        default: r = -EPROTO;
        }
        if (r)
            break;
        if (j->nacc > nacc)
            jit_native_ahead(vp, nacc);
        if (how == JNAT_RETURN && unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)))
            break; /* vp->cpu is where it was */
        if (vp->run_state != HV_VP_RUNNING)
            break;
        if (!n->always && (!n->tokens || !--n->tokens)) {
            n->rest_until = hv_host_ns() + (uint64_t)TOKENS_LEAST * TOKEN_NS;
            break;
        }
    }
    n->turn_at = hv_host_ns();
    t1 = n->turn_at - t0;
    n->there += there;
    n->all += t1;
    if (n->armed)
        judge(vp, there, t1);
    if (r == -ENOMEM || r == -ENOSPC) { /* vp->cpu is right all the same */
        jnat_kill(x);
        disarm(vp, space_of(n, jnat_space_of(vp)), true);
        r = 0;
    }
    if (r)
        broken(vp, main, x, r);
    vp->jit = main;
    n->skip = true;
    jit_native_armed(main);
}

void jit_native_init(struct hv_vp *vp, bool always)
{
    struct jnat *n = calloc(1, sizeof(*n));

    if (!n)
        return;
    n->main = vp->jit;
    n->patience = SCORE;
    n->always = always;
    vp->jit->nat = n;
}

void jit_native_fini(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (!n)
        return;
    for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
        jnat_kill(&n->exec[i]);
    if (n->jit)
        jit_instance_free(n->jit);
    if (n->win)
        munmap(n->win, sizeof(*n->win));
    if (n->note)
        munmap(n->note, JIT_MAX_BLOCKS * sizeof(*n->note));
    free(n);
    vp->jit->nat = NULL;
}
