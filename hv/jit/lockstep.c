/* SPDX-License-Identifier: BSD-2-Clause */
/* Lock-step with the reference: a block's instructions are first executed by the shared semantics (x86_exec_*),
 * which the interpreter is made of, with what they overwrite put away; state and memory are put back, the translated
 * block runs, and both results are compared.  An exception of the reference has to be raised by the block, too.  A
 * difference ends the process with a report and status 2, or by abort() where MOBO_JIT_ABORT is set (debuggers, fuzzers).
 *
 * "interp" compares every block; "interp:N" compares LOCKSTEP_WINDOW blocks, lets the translator run freely for
 * N milliseconds, and so on.  "interp:blocks:K:N" besides compares each block K times before it may be used freely
 * (lockstep_each.c), "interp:from:ADDRESS" every block as soon as one is made of code there.  Blocks that are compared are made for that (JKEY_SINGLE) and lie beside the others: they
 * come back to the run loop where those lead on to their successors, and are the same otherwise.
 *
 * Flags that the translator takes for dead at the way out are not compared, with MOBO_JIT_EXACT they are never stale;
 * neither are those that DIV and IDIV leave undefined.
 *
 * A known difference is let pass: see jit_lockstep_after.
 *
 * Not compared: blocks with system instructions, far transfers, random numbers, repeated string instructions, state
 * save areas, accesses to device memory or stores to pages that hold code, and blocks that leave in their middle.
 * They are counted.  The stores of the reference are visible until they are undone: other VPs stand still meanwhile;
 * a device that writes the very bytes by DMA at the moment is overwritten. */
#include "hv/jit/lockstep.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "hv/infra.h"
#include "hv/jit/tr.h"

enum { LOCKSTEP_TIMES = 4, LOCKSTEP_TIMES_MAX = 60000, LOCKSTEP_MS = 50, LOCKSTEP_MS_MAX = 1000000 };

/* ":N" at *@at, which goes on behind it. */
static bool number(const char **at, int base, uint64_t max, uint64_t *ret)
{
    char *end;

    if (**at != ':' || (*at)[1] < '0' || (*at)[1] > '9')
        return false;
    errno = 0;
    *ret = strtoull(*at + 1, &end, base);
    *at = end;
    return !errno && *ret >= 1 && *ret <= max;
}

int jit_lockstep_init(struct hv_vp *vp)
{
    struct jit *j = vp->jit;
    const char *how = vp->p->check ? vp->p->check : getenv("MOBO_JIT_CHECK"), *at;
    uint64_t ms = 0, times = 0, from = 0;

    if (!how)
        return 0;
    if (strncmp(how, "interp", 6) || (how[6] && how[6] != ':'))
        return hv_fail(-EINVAL, "cannot check the translator by '%.40s' (known: interp, interp:MS, interp:blocks[:TIMES[:MS]], interp:from:ADDRESS)", how);
    at = how + 6;
    if (!strncmp(at, ":blocks", 7)) {
        at += 7;
        times = LOCKSTEP_TIMES;
        ms = LOCKSTEP_MS;
        if ((*at && !number(&at, 10, LOCKSTEP_TIMES_MAX, &times)) || (*at && !number(&at, 10, LOCKSTEP_MS_MAX, &ms)) || *at)
            return hv_fail(-EINVAL, "check by '%.40s': not 1 to %u times, 1 to %u milliseconds", how, LOCKSTEP_TIMES_MAX, LOCKSTEP_MS_MAX);
    } else if (!strncmp(at, ":from", 5)) {
        at += 5;
        if (!number(&at, 0, UINT64_MAX, &from) || *at)
            return hv_fail(-EINVAL, "check by '%.40s': not an address", how);
    } else if (*at && (!number(&at, 10, LOCKSTEP_MS_MAX, &ms) || *at)) {
        return hv_fail(-EINVAL, "check by '%.40s': not 1 to %u milliseconds", how, LOCKSTEP_MS_MAX);
    }
    j->lockstep = calloc(1, sizeof(*j->lockstep));
    if (!j->lockstep)
        return hv_fail(-ENOMEM, "translator: no memory");
    j->lockstep->all = !ms && !from;
    j->lockstep->free_run = ms * 1000000;
    j->lockstep->times = (unsigned)times;
    j->lockstep->from = from;
    return 0;
}

void jit_lockstep_fini(struct jit *j)
{
    const struct lockstep *l = j->lockstep;

    if (!l)
        return;
    fprintf(stderr, "translator: VP %u: %llu blocks equal to the reference (%llu of them raise exceptions), %llu not compared\n",
            j->vp->index, (unsigned long long)l->checked, (unsigned long long)l->faults, (unsigned long long)l->skipped);
    jit_lockstep_each_report(j);
    free(j->lockstep);
    j->lockstep = NULL;
}

void jit_lockstep_turn(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    struct lockstep *l = j->lockstep;

    if (l->all) {
        j->single = true;
    } else if (l->left) {
        if (--l->left == 0)
            l->until = hv_host_ns() + l->free_run;
        j->single = l->left != 0;
    } else if (l->free_run && hv_host_ns() >= l->until) {
        j->single = true;
        l->left = LOCKSTEP_WINDOW + 1;
    } else {
        j->single = false;
    }
    if (!j->gated)
        j->single_key = JKEY_SINGLE;
    j->single |= j->gated;
    j->gated = false;
}

/* ---- the reference ---- */

static _Noreturn void give_up(struct hv_vp *vp, enum lockstep_why why)
{
    jit_of(vp)->lockstep->gave_up = true;
    jit_of(vp)->lockstep->why = (uint8_t)why;
    longjmp(vp->jmp, 1);
}

static void save(struct hv_vp *vp, uint8_t *at)
{
    struct lockstep *l = jit_of(vp)->lockstep;
    struct lockstep_saved *s;

    for (unsigned i = l->nsaved; i-- > 0;)
        if (l->saved[i].hva == at)
            return;
    if (l->nsaved == LOCKSTEP_LINES)
        give_up(vp, LOCKSTEP_MEMORY);
    s = &l->saved[l->nsaved++];
    s->hva = at;
    memcpy(s->before, at, sizeof(s->before));
}

/* A store is about to go to @off in RAM page @ram_page, whose host address is @page; NULL: an access to no RAM. */
static void note(struct hv_vp *vp, uint8_t *page, uint64_t ram_page, unsigned off)
{
    if (!page || atomic_load(&vp->p->pages[ram_page].lines))
        give_up(vp, LOCKSTEP_MEMORY);
    off &= ~(LOCKSTEP_LINE - 1u);
    save(vp, page + off);
    if (off + LOCKSTEP_LINE < 4096)
        save(vp, page + off + LOCKSTEP_LINE);
}

/* Byte by byte, so that what somebody else has stored beside it stays. */
static void undo(struct hv_vp *vp)
{
    struct lockstep *l = jit_of(vp)->lockstep;

    for (unsigned i = 0; i < l->nsaved; i++) {
        struct lockstep_saved *s = &l->saved[i];

        memcpy(s->after, s->hva, sizeof(s->after));
        for (unsigned word = 0; word < LOCKSTEP_LINE; word += 8)
            for (unsigned k = word; memcmp(s->after + word, s->before + word, 8) && k < word + 8; k++)
                if (s->after[k] != s->before[k])
                    s->hva[k] = s->before[k];
    }
}

static bool comparable(const struct hv_vp *vp, const struct x86_insn *in)
{
    switch (in->op) {
    case X86_OP_RDRAND: case X86_OP_RDSEED:
    case X86_OP_PAUSE: /* gives the host's processor away */
    case X86_OP_FNSAVE: case X86_OP_FRSTOR: case X86_OP_FNSTENV: case X86_OP_FLDENV: case X86_OP_FXSAVE: case X86_OP_FXRSTOR:
    case X86_OP_XSAVE: case X86_OP_XSAVEOPT: case X86_OP_XSAVEC: case X86_OP_XSAVES: case X86_OP_XRSTOR: case X86_OP_XRSTORS:
        return false;
    default:
        return !((in->attr & X86_A_STRING) && in->rep) && (!in->feature || hv_feature(vp->p, in->feature));
    }
}

/* @return false: the block ends. */
static bool step(struct hv_vp *vp, struct lockstep *l)
{
    struct x86_insn *in = &vp->scratch_insn;
    uint64_t next;
    unsigned rd, wr;
    bool here;

    jit_decode_at_rip(vp, in);
    if (!comparable(vp, in))
        give_up(vp, LOCKSTEP_OP);
    next = vp->cpu.rip + in->len;
    if (vp->cpu.mode != X86_MODE_64)
        next = (uint32_t)next;
    tr_flag_use(in, &rd, &wr);
    if (rd & l->undef)
        give_up(vp, LOCKSTEP_OP);
    l->op[l->ninsns] = (uint16_t)in->op;
    l->len[l->ninsns++] = in->len;
    l->undef = in->op == X86_OP_DIV || in->op == X86_OP_IDIV ? (unsigned)F_ALL : l->undef & ~wr;
    /* A branch to the next instruction leaves the block all the same: tell by a target that is elsewhere, and within the
     * segment as it is. */
    here = (in->op == X86_OP_JCC || in->op == X86_OP_JCXZ || in->op == X86_OP_LOOP || in->op == X86_OP_JMP_NEAR) && !in->imm;
    if (here)
        in->imm = -1;
    if (!(in->op >= X86_OP_X87 ? x86_exec_vec(vp, in) : x86_exec_integer(vp, in)))
        give_up(vp, LOCKSTEP_OP);
    l->done++;
    if (vp->cpu.rip == next)
        return true;
    if (here) /* the next instruction, or what operand size 16 leaves of its address */
        vp->cpu.rip = in->osize == 2 ? (uint16_t)next : next;
    return false;
}

/* Execute what @b stands for; @return false: it cannot be compared.  All is as before either way. */
static bool reference(struct hv_vp *vp, const struct jblock *b)
{
    struct lockstep *l = jit_of(vp)->lockstep;
    struct x86_tlb *tlb = vp->mmu.tlb;
    struct x86_pending exc = vp->exc;
    jmp_buf jmp;

    memcpy(&jmp, &vp->jmp, sizeof(jmp));
    l->nsaved = l->ninsns = l->done = l->undef = 0;
    l->faulted = true;
    l->gave_up = false;
    l->before = vp->cpu;
    vp->mmu.tlb = &vp->mmu.views[X86_VIEW_CHECKED];
    vp->mmu.shadow = note;
    if (!_setjmp(vp->jmp)) {
        while (l->ninsns < b->ninsns && step(vp, l))
            ;
        l->faulted = false;
        l->gave_up = vp->mmu.fetch_gen != jit_of(vp)->seen_gen || vp->mmu.tlb != &vp->mmu.views[X86_VIEW_CHECKED] || vp->cpu.key != l->before.key;
        l->why = LOCKSTEP_MEMORY;
    }
    memcpy(&vp->jmp, &jmp, sizeof(jmp));
    vp->mmu.shadow = NULL;
    vp->mmu.tlb = tlb;
    x86_x87_spill(vp);
    l->exc = vp->exc;
    vp->exc = exc;
    l->want = vp->cpu;
    vp->cpu = l->before;
    undo(vp);
    return !l->gave_up;
}

/* ---- comparison ---- */

static void print_bytes(const char *what, const uint8_t *p, size_t n)
{
    fprintf(stderr, "%s", what);
    for (size_t i = 0; i < n; i++)
        fprintf(stderr, " %02x", p[i]);
    fprintf(stderr, "\n");
}

static void print_cpu(const char *what, const struct x86_cpu *c)
{
    static const char *const name[16] = { "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                          "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15" };

    fprintf(stderr, "%s: rip %016llx flags %04x mxcsr %04x\n", what, (unsigned long long)c->rip,
            (unsigned)(x86_fl_to_eflags(c->fl) & EF_ARITH) | c->eflags, c->mxcsr);
    for (unsigned i = 0; i < 16; i++)
        fprintf(stderr, "  %-3s %016llx%s", name[i], (unsigned long long)c->gpr[i], i % 4 == 3 ? "\n" : "");
}

static void print_exc(const char *what, const struct x86_pending *e)
{
    fprintf(stderr, "%s: exception %u, error code %x, address %llx\n", what, e->vector, e->error, (unsigned long long)e->cr2);
}

static _Noreturn void differ(struct hv_vp *vp, const struct jblock *b, const char *what, bool faulted)
{
    struct jit *j = jit_of(vp);
    struct lockstep *l = j->lockstep;
    unsigned off = 0;

    fprintf(stderr, "translator: VP %u: a block differs from the reference in %s (after %llu equal blocks), key %x\n", vp->index,
            what, (unsigned long long)l->checked, b->key);
    for (unsigned i = 0; i < l->ninsns; off += l->len[i++]) {
        const uint8_t *p = vp->mmu.ram + b->phys + off;

        fprintf(stderr, "  +%-3u %-10s", off, x86_op_name((enum x86_op)l->op[i]));
        if (b->page2 == ~0ull)
            print_bytes("", p, l->len[i]);
        else
            fprintf(stderr, " (crosses a page)\n");
    }
    print_cpu("before", &l->before);
    print_cpu("reference", &l->want);
    if (l->faulted)
        print_exc("reference", &l->exc);
    print_cpu("translator", &vp->cpu);
    if (faulted)
        print_exc("translator", &vp->exc);
    for (unsigned i = 0; i < 16; i++)
        if (memcmp(&vp->cpu.ymm[i], &l->want.ymm[i], sizeof(vp->cpu.ymm[i]))) {
            fprintf(stderr, "  ymm%u\n", i);
            print_bytes("    reference ", (const uint8_t *)&l->want.ymm[i], 32);
            print_bytes("    translator", (const uint8_t *)&vp->cpu.ymm[i], 32);
        }
    for (unsigned i = 0; i < l->nsaved; i++)
        for (unsigned k = 0; k < LOCKSTEP_LINE; k++)
            if (l->saved[i].hva[k] != l->saved[i].after[k])
                fprintf(stderr, "  memory, page offset %03x: reference %02x, translator %02x, before %02x\n",
                        (unsigned)((uintptr_t)(l->saved[i].hva + k) & 4095), l->saved[i].after[k], l->saved[i].hva[k],
                        l->saved[i].before[k]);
    print_bytes("host code", j->rx + b->main, b->end - b->main);
    fflush(stderr);
    if (getenv("MOBO_JIT_ABORT"))
        abort();
    _exit(LOCKSTEP_EXIT);
}

/* Of the x87 image: control, status and tag words and the registers.  FOP, FIP and FDP are kept only where an
 * instruction can show them. */
static bool x87_equal(const struct x86_cpu *a, const struct x86_cpu *b)
{
    return !memcmp(a->fx.b, b->fx.b, 5) && !memcmp(a->fx.b + 32, b->fx.b + 32, 128);
}

/* Flags that the translator keeps on the way to cpu.rip. */
static unsigned kept_flags(struct hv_vp *vp, const struct jblock *b)
{
    static _Thread_local struct tr tr;

    if (jit_of(vp)->exact || (vp->cpu.rip ^ b->rip) >> 12)
        return F_ALL;
    tr.j = jit_of(vp);
    tr.vp = vp;
    tr.rip = b->rip;
    tr.key = b->key;
    tr.m64 = b->key & X86_KEY_MODE64;
    tr.page = vp->mmu.ram + (b->phys & ~4095ull);
    tr.ram_page = b->phys >> 12;
    tr.claimed = ~0ull; /* the block's translation has done that */
    return tr_peek(&tr, vp->cpu.rip);
}

static uint32_t eflags_of(unsigned f)
{
    return (f & F_C ? EF_CF : 0u) | (f & F_P ? EF_PF : 0u) | (f & F_A ? EF_AF : 0u) | (f & F_Z ? EF_ZF : 0u) |
           (f & F_S ? EF_SF : 0u) | (f & F_O ? EF_OF : 0u);
}

static void compare(struct hv_vp *vp, struct jblock *b, bool faulted)
{
    struct lockstep *l = jit_of(vp)->lockstep;
    const struct x86_cpu *c = &vp->cpu, *w = &l->want;
    uint32_t mask;

    if (c->rip != w->rip)
        differ(vp, b, "the way it goes", faulted);
    if (memcmp(c->gpr, w->gpr, 16 * sizeof(c->gpr[0])))
        differ(vp, b, "a register", faulted);
    mask = faulted ? (jit_of(vp)->exact ? (uint32_t)EF_ARITH : 0u) : eflags_of(kept_flags(vp, b));
    mask &= ~eflags_of(l->undef);
    if (((x86_fl_to_eflags(c->fl) ^ x86_fl_to_eflags(w->fl)) & mask) || c->eflags != w->eflags)
        differ(vp, b, "flags", faulted);
    if (c->mxcsr != w->mxcsr || memcmp(c->ymm, w->ymm, sizeof(c->ymm)))
        differ(vp, b, "vector registers", faulted);
    if (!x87_equal(c, w))
        differ(vp, b, "x87 registers", faulted);
    for (unsigned i = 0; i < l->nsaved; i++)
        if (memcmp(l->saved[i].hva, l->saved[i].after, LOCKSTEP_LINE))
            differ(vp, b, "memory", faulted);
    l->checked++;
    b->equal += b->equal < UINT16_MAX;
}

static void leave(struct hv_vp *vp)
{
    x86_x87_spill(vp);
    jit_of(vp)->vdead = 1;
    if (vp->p->nvps > 1 && vp->p->excl_owner == vp)
        x86_mmu_exclusive_end(vp);
}

void jit_lockstep_fault(struct hv_vp *vp)
{
    struct lockstep *l = jit_of(vp)->lockstep;
    struct jblock *b = l->block;

    if (!b)
        return;
    l->block = NULL;
    x86_x87_spill(vp);
    if (!l->faulted)
        differ(vp, b, "an exception that it raises", true);
    if (vp->exc.vector != l->exc.vector || vp->exc.has_error != l->exc.has_error || vp->exc.error != l->exc.error ||
        (vp->exc.vector == X86_EXC_PF && vp->exc.cr2 != l->exc.cr2))
        differ(vp, b, "the exception that it raises", true);
    compare(vp, b, true);
    l->faults++;
    leave(vp);
}

static void skip(struct lockstep *l, struct jblock *b, enum lockstep_why why)
{
    b->why = (uint8_t)why;
    l->skipped++;
}

bool jit_lockstep_before(struct hv_vp *vp, struct jblock *b)
{
    struct jit *j = jit_of(vp);
    struct lockstep *l = j->lockstep;

    x86_x87_spill(vp);
    j->vdead = 1;
    j->left = j->ended = false;
    if (vp->p->nvps > 1)
        x86_mmu_exclusive_begin(vp);
    /* Others may have been faster: the block may be gone. */
    if (!b->dead && vp->mmu.fetch_gen == j->seen_gen && !j->want_reset) {
        b->tries += b->tries < UINT16_MAX;
        if (reference(vp, b)) {
            l->block = b;
            return true;
        }
        if (l->why != LOCKSTEP_OP || !jit_lockstep_cut(j, b))
            skip(l, b, l->why);
    }
    if (vp->p->nvps > 1)
        x86_mmu_exclusive_end(vp);
    return false;
}

void jit_lockstep_after(struct hv_vp *vp, struct jblock *b)
{
    struct lockstep *l = jit_of(vp)->lockstep;

    x86_x87_spill(vp);
    l->block = NULL;
    /* It may leave in its middle, for instance when a window of accesses turned out to cross a page.  And an indirect
     * branch or RET to a non-canonical address raises #GP where it leads to, not before it. */
    if ((l->faulted && l->exc.vector == X86_EXC_GP && vp->cpu.mode == X86_MODE_64 && !x86_canonical(vp->cpu.rip)) ||
        (jit_of(vp)->left && !jit_of(vp)->ended && vp->cpu.rip - b->rip < b->len)) {
        skip(l, b, LOCKSTEP_LEFT);
        b->tries -= b->tries && ++b->early; /* it may go better the next time, for so many times */
    } else {
        if (l->faulted)
            differ(vp, b, "that it raises no exception", false);
        compare(vp, b, false);
    }
    leave(vp);
}
