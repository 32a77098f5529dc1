/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs in a process of their own: which, when, and a turn of one.
 *
 * Which: at each interrupt that finds the VP in a program, and when many blocks have been made for one, it is looked at how
 * many calls and exceptions there were since the last time.  Where there are few, an executor is tried; what it has cost and what it has
 * saved is added up, and where it does not pay the address space is left alone for a while, longer each time. */
#define _GNU_SOURCE
#include "hv/jit/native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/ucontext.h>

#include "hv/infra.h"

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif

enum {
    KERNEL_NS = 4000,               /* of a call or an exception, in the guest's kernel */
    EVENT_NS = 16000,               /* that it costs more when an executor runs the program */
    BUILT = 64, BUILT_NS = 500000,  /* blocks between two looks; not more often */
    SCORE = 1, SCORE_MOST = 2,      /* times that it would have paid */
    SETTLE_NS = 1000000,            /* of both sides, then it is an experience */
    LEARN_NS = 20000000,            /* of a program's processes together, then it says what the next one is worth */
    LONGER = 5, LONGER_SHORT = 3,   /* times a program's time: how much longer the translator takes where code and data are large; in one that is over soon */
    SIGNAL_NS = 1500,               /* of the program's time: what a signal takes, and returning from it */
    TOKENS = 64,                    /* handing over so often at one go, */
    TOKEN_NS = 80000,               /* and once more each so long, */
    TOKEN_RUN_NS = 11000,           /* or for so much of its own time, */
    TOKENS_LEAST = 24,              /* then there are to be so many, before it goes on */
    IDLE_NS = 50000000,             /* without a turn, then a program is not armed any more */
    REST_JUDGE_NS = 400000,         /* or so much since the last rest, where it has to */
    JUDGE_NS = 100000000,           /* of both sides together, then it is seen whether it pays */
    CALLS = 64, CALL_NS = 2800,     /* so many system calls, with so little of its own time for each: */
    CALLS_REST_NS = 1500000, CALLS_REST_MOST_NS = 20000000, /* the translator does better, for so long */
    PAUSE_NS = 10000000,            /* doubled each time */
    FAILS = 5, FAILS_BRIEF = 2,     /* so often; for what happens where a program begins */
    FULL_PAUSE_S = 10, FULLS = 4,   /* the same where a process has more mappings than there can be */
    KICK_NS = 200000, SHORT_KICKS = 16, /* so often wanted after so short a time of its own, one after the other: not for executors */
    LEARN = 4,                      /* one in so many times that code which is not for executors is come to tells that it is code */
    STEPS = 256,                    /* instructions that are interpreted at one go, */
    STEPS_REST_NS = 1000000,        /* then the translator does better */
    BROKEN = 32                     /* executors that were misused, then there are no others */
};

static struct jnat_known *known_of(struct jnat *n, uint64_t program)
{
    struct jnat_known *oldest = &n->known[0];

    for (unsigned i = 0; i < JNAT_KNOWN; i++) {
        if (n->known[i].program == program) {
            n->known[i].used = ++n->clock;
            return &n->known[i];
        }
        if (n->known[i].used < oldest->used)
            oldest = &n->known[i];
    }
    *oldest = (struct jnat_known){ .program = program, .used = ++n->clock };
    return oldest;
}

/* May a program run so as the VP is now? */
static bool fits(const struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;

    return c->cpl == 3 && (c->key & X86_KEY_MODE64) && jit_may_translate(vp) && vp->mmu.view == X86_VIEW_USER && !vp->mmu.watch &&
           !(c->key & (X86_KEY_NOFPU | X86_KEY_NOSSE | X86_KEY_NOAVX)) && !(c->eflags & (EF_AC | EF_NT | EF_ID)) && !c->int_shadow &&
           ((c->eflags & (EF_IOPL | EF_IF)) == EF_IF || vp->jit->nat->always) && /* as the host's */
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

/* @fails: no more pauses than that are doubled, 0: there is none. */
static void disarm(struct jnat *n, unsigned fails)
{
    struct jnat_known *s = known_of(n, n->program);

    n->armed = 0;
    s->score = 0;
    if (!fails) {
        s->gain += n->gain / LONGER * LONGER_SHORT;
        s->cost += n->cost;
    }
    if (s->gain + s->cost > LEARN_NS) {
        if (s->cost > s->gain)
            fails = FAILS;
        else
            s->fails = 0;
        s->gain /= 2;
        s->cost /= 2;
    }
    settle(n);
    if (!fails)
        return;
    s->not_before = hv_host_ns() + ((uint64_t)PAUSE_NS << (s->fails < fails ? s->fails : fails));
    if (s->fails < fails)
        s->fails++;
}

/* All that there can be is mapped, and that was not enough.  Where pages are apart from each other each is a mapping, which take longer
 * to make than what they are good for where it happens again and again. */
static void full(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    struct jnat_known *s = known_of(n, jnat_program(vp));

    if (s->full_cr3 != x->cr3) {
        s->full_cr3 = x->cr3;
        s->fulls = 0;
    }
    s->full_until = hv_host_ns() + ((uint64_t)FULL_PAUSE_S * 1000000000u << s->fulls);
    if (s->fulls < FULLS)
        s->fulls++;
    jnat_kill(x);
    disarm(n, FAILS);
}

/* The VP's time since it was last looked at: would an executor have taken less of it?  The translator needs more than twice as long for
 * a program, and what it takes to translate; each call and exception costs handing over. */
static bool would_pay(uint64_t ns, uint64_t events, uint64_t translating)
{
    uint64_t kernel = events * KERNEL_NS + translating, program = ns > kernel ? ns - kernel : 0;

    return program / 5 * 2 + events * (KERNEL_NS + EVENT_NS) < ns / 8 * 7;
}

static void sample(struct hv_vp *vp, uint64_t least)
{
    struct jnat *n = vp->jit->nat;
    uint64_t now = hv_host_ns(), events, ns, translating, program, cr3 = jnat_space_of(vp);
    struct jnat_known *s;

    ns = now - n->sample_ns;
    if (n->sample_cr3 == cr3 && ns < least)
        return;
    events = vp->jit->calls + vp->counters[HV_CTR_EXCEPTIONS] - n->sample_kernel;
    translating = vp->counters[HV_CTR_TRANSLATE_NS] - n->sample_translating;
    n->sample_kernel += events;
    n->sample_translating += translating;
    n->sample_ns = now;
    if (n->sample_cr3 != cr3) {
        n->sample_cr3 = cr3;
        return;
    }
    if (n->armed == cr3)
        return;
    if (n->armed && now - n->turn_at > IDLE_NS)
        disarm(n, 0);
    program = jnat_program(vp);
    s = known_of(n, program);
    s->score = would_pay(ns, events, translating) ? s->score + 1 : 0;
    if (s->score < n->patience || now < s->not_before || (s->full_cr3 == cr3 && now < s->full_until) || !fits(vp))
        return;
    settle(n);
    n->armed = cr3;
    n->program = program;
    n->tokens = TOKENS;
    n->tokens_at = now;
    n->recent_gain = n->recent_cost = 0;
    n->fresh = true;
    n->rest_until = 0;
    n->turn_at = now;
    jit_native_armed(vp->jit);
}

void jit_native_sample(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (n && !n->off && !n->always && vp->cpu.cpl == 3)
        sample(vp, 0);
}

void jit_native_built(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (n && vp->cpu.cpl == 3 && ++n->built % BUILT == 0 && !n->off && !n->always)
        sample(vp, BUILT_NS);
}

bool jit_native_wanted(const struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (n && n->rest_until) {
        if (hv_host_ns() < n->rest_until)
            return false;
        n->rest_until = 0;
        jit_native_armed(vp->jit);
    }
    return n && vp->cpu.cpl == 3 && (n->always || (n->armed && n->armed == jnat_space_of(vp))) && !n->off && !n->skip && fits(vp);
}

/* ---- a turn --------------------------------------------------------------------------------------------------- */

static bool host_can(void)
{
    unsigned hw2 = (unsigned)getauxval(AT_HWCAP2);

    return hw2 & 2; /* HWCAP2_FSGSBASE */
}

/* Memory for struct jwin, anywhere in one of the places.  NULL: there is none. */
static struct jwin *place(void)
{
    enum { TRIES = 16 };

    for (unsigned i = 0; i < TRIES; i++) {
        uint64_t r, at;
        void *w;

        if (getrandom(&r, sizeof(r), 0) != sizeof(r))
            return NULL;
        at = (JNAT_PLACES + (r >> 40) % (JNAT_PLACES_END - JNAT_PLACES)) << 39;
        at += r % ((1ull << 39) - sizeof(struct jwin)) & ~4095ull;
        w = mmap((void *)(uintptr_t)at, sizeof(struct jwin), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if ((uintptr_t)w == at)
            return w;
        if (w != MAP_FAILED) /* an older kernel takes it for a wish */
            munmap(w, sizeof(struct jwin));
    }
    return NULL;
}

static int begin(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    struct jwin *w;

    if (n->win)
        return 0;
    if (!host_can())
        return -ENOSYS;
    w = place();
    if (!w)
        return -ENOMEM;
    jnat_make_code(w, &n->code);
    if (mprotect(w->code, sizeof(w->code), PROT_READ | PROT_EXEC)) {
        munmap(w, sizeof(*w));
        return -ENOMEM;
    }
    n->win = w;
    return 0;
}

static void end(struct jnat *n)
{
    for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
        jnat_kill(&n->exec[i]);
    if (n->win)
        munmap(n->win, sizeof(*n->win));
    free(n->pristine);
    n->win = NULL;
    n->pristine = NULL;
    n->cur = NULL;
}

/* struct jwin is where this program has nothing.  @return -EADDRINUSE: it is not, nor is there another place. */
static int find_place(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    int r = begin(vp);

    while (!r && !jnat_place_free(vp)) {
        if (n->moves == JNAT_MOVES)
            return -EADDRINUSE;
        n->moves++;
        end(n);
        r = begin(vp);
    }
    return r;
}

static struct jnat_executor *executor(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    struct jnat_executor *x = &n->exec[0];
    unsigned most = JNAT_EXECUTORS_ALL / vp->p->nvps; /* each has files */

    most = most < 1 ? 1 : most > JNAT_EXECUTORS ? JNAT_EXECUTORS : most;
    if (n->cur && n->cur->alive && n->cur->cr3 != jnat_space_of(vp) && jnat_flush(n->cur, n->win)) /* there is one list */
        jnat_kill(n->cur);
    for (unsigned i = 0; i < most; i++) {
        if (n->exec[i].alive && n->exec[i].cr3 == jnat_space_of(vp)) {
            x = &n->exec[i];
            if (n->cur != x) { /* what another program left */
                jnat_state_clear(vp);
                n->cur = x;
            }
            x->used = ++n->clock;
            return x;
        }
        if (!n->exec[i].alive ? x->alive : x->alive && n->exec[i].used < x->used)
            x = &n->exec[i];
    }
    if (x->alive && jnat_empty(vp, x)) /* what it had is of another program */
        jnat_kill(x);
    if (!x->alive) {
        n->made++;
        if (jnat_spawn(vp, x)) {
            n->off = true;
            return NULL;
        }
    }
    jnat_state_clear(vp);
    x->cr3 = jnat_space_of(vp);
    x->used = ++n->clock;
    n->cur = x;
    return x;
}

/* Whether it pays. */
static void judge(struct hv_vp *vp, uint64_t there, uint64_t all)
{
    struct jnat *n = vp->jit->nat;

    n->gain += there * LONGER;
    n->cost += all - there;
    n->recent_gain += there * LONGER;
    n->recent_cost += all - there;
    if (n->gain + n->cost < JUDGE_NS)
        return;
    if (n->cost > n->gain) {
        disarm(n, FAILS);
    } else {
        known_of(n, n->program)->fails = 0;
        n->gain /= 2;
        n->cost /= 2;
    }
}

static void turn_begins(struct jnat *n)
{
    uint64_t now = hv_host_ns();

    n->turns++;
    n->in_turn = true;
    n->began = now;
    n->turn_there = 0;
    if (now - n->tokens_at > TOKEN_NS) {
        uint64_t more = n->tokens + (now - n->tokens_at) / TOKEN_NS;

        n->tokens = more > TOKENS ? TOKENS : (unsigned)more;
        n->tokens_at = now;
    }
}

void jit_native_left(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    uint64_t all;

    if (!n || !n->in_turn)
        return;
    n->in_turn = false;
    n->turn_at = hv_host_ns();
    all = n->turn_at - n->began;
    n->there += n->turn_there;
    n->all += all;
    if (n->armed)
        judge(vp, n->turn_there, all);
    jit_native_armed(vp->jit);
}

/* Where it is handed over too often the translator goes on for a while, or until the program is another one. */
static bool spend(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    uint64_t cost, gain;

    if (n->always || (n->tokens && --n->tokens))
        return true;
    cost = n->recent_cost + (hv_host_ns() - n->began) - n->turn_there;
    gain = n->recent_gain + n->turn_there * LONGER;
    if (n->armed && cost > gain && cost + gain > REST_JUDGE_NS)
        disarm(n, FAILS_BRIEF);
    n->recent_gain = n->recent_cost = 0;
    n->rest_until = hv_host_ns() + (uint64_t)TOKENS_LEAST * TOKEN_NS;
    return false;
}

/* The executor runs until it hands over. */
static int let_run(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    const struct jwin *w = n->win;
    uint64_t t = hv_host_ns(), ticks = __builtin_ia32_rdtsc(), there;
    int r = jnat_resume(vp, x);

    atomic_store(&n->running, 0);
    ticks = __builtin_ia32_rdtsc() - ticks;
    t = hv_host_ns() - t;
    /* What part of it the program had, as its executor says; it may lie. */
    there = (w->to[1] << 32 | w->to[0]) - (w->from[1] << 32 | w->from[0]);
    t = there < ticks ? (uint64_t)((double)t * (double)there / (double)ticks) : r ? 0 : t;
    t -= SIGNAL_NS < t ? SIGNAL_NS : t;
    n->turn_there += t;
    t = n->tokens + t / TOKEN_RUN_NS;
    n->tokens = t > TOKENS ? TOKENS : (unsigned)t;
    return r;
}

/* How it goes on: not, as it was, by the VP's registers. */
enum { STOP, RESUME, GO_ON };

static int if_fits(const struct hv_vp *vp, const struct jnat_executor *x)
{
    return jnat_space_of(vp) == x->cr3 && fits(vp) && !vp->jit->nat->stale && vp->run_state == HV_VP_RUNNING && !vp->mmu.dr6_hits ? GO_ON : STOP;
}

/* Instructions from the VP's RIP, the first one in any case, the others as long as they are not for executors. */
static int interpret(struct hv_vp *vp, const struct jnat_executor *x, bool sensitive)
{
    struct jnat *n = vp->jit->nat;

    if (unlikely(vp->cpu.eflags & EF_TF)) /* the run loop knows what is to come behind the instruction */
        return STOP;
    if (sensitive && n->interpretations++ % LEARN == 0)
        jnat_seen_at(vp, NULL, vp->cpu.rip);
    for (unsigned i = 0; i < STEPS; i++) {
        uint64_t rip = vp->cpu.rip;

        n->interpreted++;
        jit_exec_at_rip(vp);
        jnat_seen_at(vp, &vp->scratch_insn, rip);
        if (if_fits(vp, x) == STOP || atomic_load_explicit(&vp->attention, memory_order_relaxed))
            return STOP;
        if (!jnat_sensitive(vp, vp->cpu.rip))
            return GO_ON;
    }
    if (n->always)
        return STOP;
    n->rest_until = hv_host_ns() + STEPS_REST_NS;
    return STOP;
}

/* It is a page fault for the host.  @return how it goes on; negative errno. */
static int page_fault(struct hv_vp *vp, struct jnat_executor *x, const ucontext_t *uc)
{
    uint64_t va = (uint64_t)uc->uc_mcontext.gregs[REG_CR2], error = (uint64_t)uc->uc_mcontext.gregs[REG_ERR], page;
    unsigned acc = error & PF_I ? X86_ACC_EXEC : error & PF_W ? X86_ACC_WRITE : X86_ACC_READ;
    struct jnat *n = vp->jit->nat;
    int r = jnat_fault(vp, x, va, acc), err;
    uint64_t sel;

    n->faults++;
    n->mapped += r != 0;
    memcpy(&sel, n->win->sel, sizeof(sel));
    /* The way back does not bring these back. */
    if (r > 0 && likely(!sel) && !(uc->uc_mcontext.gregs[REG_EFL] & (EF_NT | EF_ID)))
        return RESUME;
    err = jnat_state_get(vp, uc);
    if (err || r)
        return err ? err : r < 0 ? r : STOP;
    if (acc == X86_ACC_EXEC && jnat_sensitive(vp, va))
        return interpret(vp, x, true);
    x->missing = (va & ~4095ull) | 4 | acc;
    if (acc == X86_ACC_EXEC)
        x86_fetch_page(vp, va, &page);
    else
        x86_lin_probe(vp, va, 1, acc);
    x->missing = 0;
    r = jnat_sync(vp, x);
    if (!r)
        r = jnat_fault(vp, x, va, acc);
    return r < 0 ? r : r ? if_fits(vp, x) : interpret(vp, x, false);
}

/* The signal was behind an instruction; the VP is before it. */
static void step_back(struct hv_vp *vp, uint64_t sig, uint64_t trap, const ucontext_t *uc)
{
    if (sig == SIGSYS) {
        uint64_t at = (uint64_t)(uintptr_t)jnat_siginfo(uc)->si_call_addr;

        if (unlikely(at >> 63)) { /* vsyscall, as if it had returned */
            vp->cpu.rip = at;
            vp->cpu.gpr[X86_RSP] -= 8;
        } else {
            vp->cpu.rip -= 2;
        }
    } else if (sig == SIGTRAP) { /* INT1; INT3 in one byte or two, which may be another by now */
        if (trap == X86_EXC_DB && jnat_byte(vp, vp->cpu.rip) == 0xf1) /* so does KVM on AMD processors */
            return;
        vp->cpu.rip -= trap == X86_EXC_BP && jnat_byte(vp, vp->cpu.rip - 1) == 3 && jnat_byte(vp, vp->cpu.rip - 2) == 0xcd ? 2 : 1;
    } else if (sig == SIGSEGV && trap == X86_EXC_OF) { /* INT 4; INTO in 32-bit code: the host's gate lets programs */
        vp->cpu.rip -= !(vp->cpu.key & X86_KEY_MODE64) && jnat_byte(vp, vp->cpu.rip - 1) == 0xce ? 1 : 2;
    }
}

/* Somebody wanted the VP.  Where that comes all the time, other processors wait for it each time. */
static void kicked(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    n->short_kicks = n->there + n->turn_there - n->kicked_at < KICK_NS ? n->short_kicks + 1 : 0;
    n->kicked_at = n->there + n->turn_there;
    if (n->short_kicks < SHORT_KICKS || !n->armed)
        return;
    n->short_kicks = 0;
    disarm(n, FAILS);
}

/* It has called the system. */
static void called(struct jnat *n)
{
    uint64_t there = n->there + n->turn_there;

    if (++n->calls % CALLS)
        return;
    if (n->always || there - n->called_at >= (uint64_t)CALLS * CALL_NS) {
        n->calls_rest = 0;
    } else if (!n->calls_rest) { /* it may be over */
        n->calls_rest = CALLS_REST_NS;
    } else {
        n->calls_rest = n->calls_rest < CALLS_REST_MOST_NS ? n->calls_rest * 2 : CALLS_REST_MOST_NS;
        n->rest_until = hv_host_ns() + n->calls_rest;
    }
    n->called_at = there;
}

/* It has handed over.  @return how it goes on; negative errno. */
static int handed_over(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    const ucontext_t *uc = jnat_frame(vp);
    uint64_t sig = n->win->sig, trap;
    int r;

    if (!uc)
        return -EPROTO;
    if (jnat_in_code(n->win, (uint64_t)uc->uc_mcontext.gregs[REG_RIP])) /* it has jumped there; what its registers have is not for it */
        return -EPROTO;
    trap = (uint64_t)uc->uc_mcontext.gregs[REG_TRAPNO];
    if (sig == SIGSEGV && trap == X86_EXC_PF && (uint64_t)uc->uc_mcontext.gregs[REG_CR2] < 1ull << 47)
        return page_fault(vp, x, uc);
    r = jnat_state_get(vp, uc);
    if (r)
        return r;
    if (sig == JNAT_KICK) {
        n->kicks++;
        kicked(vp);
        return STOP;
    }
    if (sig == SIGTRAP && trap == X86_EXC_DB && (vp->cpu.eflags & EF_TF)) {
        x86_debug_trap(vp, 1ull << 14 /* DR6.BS */);
        return STOP;
    }
    if (sig == SIGSYS)
        called(n);
    step_back(vp, sig, trap, uc);
    return interpret(vp, x, false);
}

/* The executor is gone, or tells nonsense: its program has done that. */
static void broken(struct hv_vp *vp, struct jnat_executor *x, int err)
{
    struct jnat *n = vp->jit->nat;

    if (++n->broken == BROKEN)
        n->off = true;
    hv_log(vp->p, 1, "processor %u: a program's executor is given up (%s)%s", vp->index, strerror(-err),
           n->off ? "; there will be no others" : "");
    jnat_kill(x);
    disarm(n, FAILS);
    jit_native_left(vp);
    x86_raise_err(vp, X86_EXC_GP, 0);
}

/* The VP's registers are right again. */
static int stop(struct hv_vp *vp, int how)
{
    const ucontext_t *uc = how == RESUME ? jnat_frame(vp) : NULL; /* the program can write to what it goes by */

    return uc ? jnat_state_get(vp, uc) : how == RESUME ? -EPROTO : 0;
}

/* @return 0, or a negative errno: the executor is of no use.  The VP's registers are right if it is -ENOMEM or -ESRCH. */
static int turn(struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    unsigned before = n->fresh ? 0 : x->npages; /* what it has just been armed for may be in the place of another one */
    int r, how = GO_ON;

    n->fresh = false;
    for (;;) {
        r = jnat_sync(vp, x);
        if (!r && x->npages < before / 8 && !n->always) { /* it is another program */
            disarm(n, 0);
            return stop(vp, how);
        }
        before = 0;
        if (!r && x->missing) { /* it is there now, probably */
            r = jnat_fault(vp, x, x->missing & ~4095ull, x->missing & 3);
            r = r < 0 ? r : jnat_sync(vp, x); /* code that is new takes the right to write, and places of patches, away */
            x->missing = 0;
        }
        if (r) {
            int err = stop(vp, how);

            return err ? err : r;
        }
        if (how == GO_ON)
            jnat_state_put(vp);
        else if (jnat_state_keep(vp))
            return -EPROTO;
        atomic_store(&n->running, x->pid);
        if (unlikely(atomic_load(&vp->attention)) || n->kill) {
            atomic_store(&n->running, 0);
            return stop(vp, how);
        }
        r = let_run(vp, x);
        if (r) {
            int err = r == -ENOMEM || r == -ESRCH ? stop(vp, how) : 0; /* it is where it was */

            return err ? err : r;
        }
        r = handed_over(vp, x);
        if (r <= STOP)
            return r;
        how = r;
        if (!spend(vp))
            return stop(vp, how);
    }
}

void jit_native_run(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;
    struct jnat_executor *x;
    int r;

    if (n->kill) { /* the memory is another */
        for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
            jnat_kill(&n->exec[i]);
        madvise(n->page, X86_MAX_RAM_PAGES, MADV_DONTNEED);
        memset(n->patch_of, 0, sizeof(n->patch_of));
        memset(n->seen, 0, sizeof(n->seen));
    }
    n->kill = false;
    if (n->stale && n->cur)
        jnat_kill(n->cur);
    n->stale = false;
    r = find_place(vp);
    if (r == -EADDRINUSE) {
        disarm(n, FAILS);
        n->skip = true;
        return;
    }
    turn_begins(n);
    x = r ? NULL : executor(vp);
    if (!x) {
        n->off = true;
        n->armed = 0;
        n->in_turn = false;
        return;
    }
    r = turn(vp, x);
    if (r == -ENOMEM) {
        full(vp, x);
    } else if (r == -ESRCH) { /* somebody of the host's has killed it */
        jnat_kill(x);
        disarm(n, FAILS);
    } else if (r) {
        broken(vp, x, r);
    }
    jit_native_left(vp);
}

void jit_native_init(struct hv_vp *vp, bool always)
{
    struct jnat *n = calloc(1, sizeof(*n));

    if (!n)
        return;
    n->page = mmap(NULL, X86_MAX_RAM_PAGES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (n->page == MAP_FAILED || jnat_patches_init(n)) {
        if (n->page != MAP_FAILED)
            munmap(n->page, X86_MAX_RAM_PAGES);
        free(n);
        return;
    }
    n->patience = SCORE;
    n->always = always;
    vp->jit->nat = n;
}

void jit_native_fini(struct hv_vp *vp)
{
    struct jnat *n = vp->jit->nat;

    if (!n)
        return;
    end(n);
    munmap(n->page, X86_MAX_RAM_PAGES);
    jnat_patches_fini(n);
    free(n);
    vp->jit->nat = NULL;
}
