/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator engine: finding, linking and dropping blocks, helpers of translated code, run loop.
 *
 * A block is found by physical address, RIP and key, so that it survives changes of CR3.  Whether RIP still
 * means that physical page is what fsig[] says: one word for each of 2048 virtual pages, holding the number
 * of (virtual page, physical page, key) that was last found to be true; all entries but those reached from
 * the same page compare it.
 *
 * 16-bit code, segments that are not flat, single-stepping and alignment checks are run by the interpreter,
 * whose state is kept beside (vp->engine_data). */
#define _GNU_SOURCE
#include "hv/jit/jit.h"

#include <cpuid.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "hv/infra.h"
#include "hv/interp/interp.h"
#include "hv/jit/lockstep.h"
#include "hv/jit/native.h"
#include "hv/jit/observe.h"

#ifndef MAP_32BIT
#define MAP_32BIT 0x40
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static unsigned page_bucket(uint64_t ram_page) { return (unsigned)(ram_page & (JIT_PAGES - 1)); }
static unsigned hash_bucket(uint64_t phys) { return (unsigned)((phys ^ (phys >> 16)) & (JIT_HASH - 1)); }

/* May the code at CS:RIP be translated, as far as the mode goes? */
bool jit_may_translate(const struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;

    if (c->key & (X86_KEY_STEP | X86_KEY_AC | X86_KEY_MODE16 | X86_KEY_REAL | X86_KEY_VM86))
        return false;
    if (c->cpl == 1 || c->cpl == 2)
        return false;
    if (c->key & X86_KEY_MODE64)
        return true;
    return (c->key & (X86_KEY_FLAT | X86_KEY_SS32)) == (X86_KEY_FLAT | X86_KEY_SS32) && !c->seg[X86_CS].base &&
           c->seg[X86_CS].limit == 0xffffffff;
}

/* ---- dropping ---------------------------------------------------------------------------------------- */

static void patch_jmp(struct jit *j, uint32_t at, uint32_t to)
{
    int32_t d = (int32_t)(to - (at + 5));

    j->rw[at] = 0xe9;
    memcpy(j->rw + at + 1, &d, 4);
}

/* What pext makes of an address and mask_known, which has the low bits of JIT_KNOWN's in its lower part. */
static unsigned known_index(const struct jit *j, unsigned view, uint64_t rip)
{
    uint64_t low = j->mask_known & 0xffff, high = j->mask_known >> 16;

    return view * JIT_KNOWN + (unsigned)((rip & low) >> 4 | (rip >> 16 & high) << __builtin_popcountll(low));
}

/* Entry @i matches nothing: its address is one that has its place elsewhere. */
static void known_none(struct jit *j, unsigned i)
{
    j->known[i] = (struct jknown){ .neg_tag = 0 - ((uint64_t)(~i & 1) << 4) };
}

/* No entry of known[] leads to @b: its poll and its look at the page do not keep flags that only @b has no use for. */
static void known_forget(struct jit *j, const struct jblock *b)
{
    uint64_t high = b->floating ? j->mask_known >> 16 : 0; /* bits of RIP that count, and are any when it floats */
    uint32_t host = (uint32_t)(uintptr_t)(j->rx + b->known);

    for (uint64_t i = 0; i <= high; i++) {
        unsigned n = known_index(j, b->cls, b->rip ^ i << 16);

        if (j->known[n].host == host)
            known_none(j, n);
    }
}

/* Whoever leads to @b goes through C again. */
static void unlink_all(struct jit *j, struct jblock *b)
{
    for (uint32_t at = b->links; at;) {
        struct jlink l;
        int32_t back;

        memcpy(&l, j->rw + at, sizeof(l));
        l.arg &= ~JLINK_FAR;
        back = (int32_t)(at - JIT_CALL - (l.arg + 4));
        memcpy(j->rw + l.arg, &back, 4);
        at = l.next;
        j->stat[JST_UNCHAINED]++;
    }
    b->links = 0;
    for (uint32_t n = b->heirs_of; n; n = j->blocks[n].heir_next)
        patch_jmp(j, j->blocks[n].main, j->blocks[n].tail + JIT_TAIL_DROP);
    b->heirs_of = 0;
    /* One that floats may be known by each address with the same offset in a page. */
    for (unsigned i = b->rip & (JIT_JC - 1), n = 0; n < (b->floating ? JIT_JC >> 12 : 1); n++, i = (i + 4096) & (JIT_JC - 1))
        if (j->jc[b->cls][i] == j->rx + b->ind)
            j->jc[b->cls][i] = j->t_dispatch;
    known_forget(j, b);
}

static void block_drop(struct jit *j, struct jblock *b, enum jit_drop why)
{
    uint32_t n = (uint32_t)(b - j->blocks), *pp = &j->hash[hash_bucket(b->phys)];

    while (*pp && *pp != n)
        pp = &j->blocks[*pp].hash_next;
    if (*pp)
        *pp = b->hash_next;
    if (b == j->cur)
        j->leave = true;
    if (b->dead) /* its main may lead to an heir, on whose list it is */
        return;
    b->dead = 1;
    j->stat[JST_DROP_STORE + why]++;
    if (unlikely(j->observe))
        jit_saw_drop(j->vp, b, why);
    unlink_all(j, b);
    /* Whoever still jumps in leaves at once.  Nobody returns into these bytes: see leave. */
    patch_jmp(j, b->main, b->tail + JIT_TAIL_DROP);
}

static void jit_code_drop(struct hv_vp *vp, uint64_t ram_page, uint64_t lines)
{
    struct jit *j = jit_of(vp);
    uint32_t *pp = &j->page[page_bucket(ram_page)];

    while (*pp) {
        struct jblock *b = &j->blocks[*pp];

        if (b->phys >> 12 == ram_page && (b->lines & lines)) {
            block_drop(j, b, JIT_DROP_STORE);
            *pp = b->page_next;
        } else {
            pp = &b->page_next;
        }
    }
    pp = &j->cross[ram_page % JIT_CROSS];
    while (*pp) {
        struct jblock *b = &j->blocks[*pp];

        if ((b->page2 == ram_page && (lines & 1)) || b->dead) {
            if (!b->dead)
                block_drop(j, b, JIT_DROP_STORE);
            *pp = b->cross_next;
        } else {
            pp = &b->cross_next;
        }
    }
    jit_native_code_drop(vp, ram_page);
    hv_engine_interp.code_drop(vp, ram_page, lines);
}

void jit_rets_clear(struct jit *j, unsigned stack) { j->rsp[stack] = (uint64_t)(uintptr_t)&j->rets[stack].miss; }

static void rets_clear_all(struct jit *j)
{
    for (unsigned c = 0; c < JIT_CLASSES; c++)
        jit_rets_clear(j, c);
}

static void fsig_clear(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);

    rets_clear_all(j);

    memset(j->fsig, 0, sizeof(j->fsig));
    j->nnonglobal = 0;
    j->seen_gen = vp->mmu.fetch_gen;
}

static void known_clear(struct jit *j)
{
    for (unsigned i = 0; i < COUNT(j->known); i++)
        known_none(j, i);
}

/* Biases get new numbers. */
static void numbers_clear(struct jit *j)
{
    known_clear(j);
    memset(j->numbers, 0, sizeof(j->numbers));
    j->nnumbers = 0;
    /* What is not there: no entry of fsig[] has this number. */
    for (unsigned i = 0; i < JIT_BIAS_CACHE; i++)
        j->bias_cache[i] = (struct jbias){ 1, 0u - ((JIT_BIASES + 1u) << JIT_SIG_BITS) };
    memset(j->fsig, 0, sizeof(j->fsig));
    rets_clear_all(j);
}

/* Follow what the MMU has forgotten. */
static void fsig_sync(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    uint32_t gen = vp->mmu.fetch_gen;

    if (gen - j->seen_gen > X86_FETCH_LOG) {
        fsig_clear(vp);
        return;
    }
    while (j->seen_gen != gen) {
        const struct x86_fetch_event *ev = &vp->mmu.fetch_log[++j->seen_gen % X86_FETCH_LOG];

        switch (ev->kind) {
        case X86_FETCH_PAGE:
            rets_clear_all(j);
            for (unsigned c = 0; c < JIT_CLASSES; c++) {
                const struct jfact *f = &j->fact[c][jit_fsig_slot(ev->lin)];

                if (f->page == ev->lin >> 12)
                    j->fsig[c][f->slot] = 0;
            }
            break;
        case X86_FETCH_NONGLOBAL:
            if (j->nnonglobal <= COUNT(j->nonglobal)) {
                memset(j->fsig[X86_VIEW_USER], 0, sizeof(j->fsig[0]));
                jit_rets_clear(j, X86_VIEW_USER);
                if (j->nnonglobal) {
                    jit_rets_clear(j, X86_VIEW_SUPER);
                    jit_rets_clear(j, X86_VIEW_SUPER_AC);
                }
                for (unsigned i = 0; i < j->nnonglobal; i++)
                    j->fsig[X86_VIEW_SUPER][j->nonglobal[i]] = j->fsig[X86_VIEW_SUPER_AC][j->nonglobal[i]] = 0;
                j->nnonglobal = 0;
                break;
            } /* fall through */
        default:
            fsig_clear(vp);
            return;
        }
    }
}

/* Segment @n is filled from now on.  Code that lies on a huge page is found faster by the host's instruction TLB, and
 * takes fewer page faults to make: memory of a memfd gets one by asking (Linux 6.1), whatever the host's default is;
 * else nothing changes. */
static void segment_begin(struct jit *j, uint32_t n)
{
    uint32_t begin = n * j->seg_size;

    j->seg = n;
    j->used = n ? begin : j->first;
    j->seg_end = begin + j->seg_size;
    j->cold = j->cold_begin = j->used + ((j->seg_end - j->used) / JIT_HOT_PART & ~63u);
    j->nacc = JIT_MAX_ACC / JIT_SEGMENTS * n;
    j->acc_n[n] = j->nacc;
    j->code_size = (uint64_t)j->nsegs * j->seg_size;
    j->acc_end = j->nacc + JIT_MAX_ACC / JIT_SEGMENTS;
    j->npool = JIT_MAX_POOL / JIT_SEGMENTS * n;
    j->pool_end = j->npool + JIT_MAX_POOL / JIT_SEGMENTS;
    j->made = j->reasons = 0;
    if (j->seg_size != JIT_HUGE)
        return;
    (void)*(const volatile uint8_t *)(j->rx + begin); /* there has to be some page */
    madvise((void *)(uintptr_t)(j->rx + begin), JIT_HUGE, MADV_COLLAPSE);
}

enum { JIT_REGROUP = 1 << 23 /* kilocycles: some seconds */ };
enum { SMALL_SEGMENTS = 6, REMAP_EACH = 8192 /* blocks */ };

static uint32_t gone_bit(uint64_t phys, uint32_t key)
{
    return (uint32_t)((phys * 0x9e3779b97f4a7c15ull ^ key * 0xff51afd7ed558ccdull) >> 40) & (JIT_GONE - 1);
}

/* The writable view need not count twice where nothing is written.  Its mapping comes back by itself. */
static void unmap_written(struct jit *j)
{
    if (j->written)
        madvise(j->rw, JIT_CACHE_SIZE, MADV_DONTNEED);
    j->written = false;
}

/* A block is made: is it one that a larger cache is good for? */
static void note_made(struct jit *j, const struct jblock *b)
{
    uint32_t bit = gone_bit(b->phys, b->key);

    j->written = true;
    if (++j->made % REMAP_EACH == 0)
        unmap_written(j);
    j->stat[JST_INSNS] += b->ninsns;
    j->code_used = (uint64_t)j->seg * j->seg_size + (j->used - j->seg * j->seg_size) + (j->cold - j->cold_begin);
    if (*jit_hint(j, b->phys) & JHINT_WARM)
        j->stat[*jit_hint(j, b->phys) & JHINT_HOT ? JST_MADE_HOT : JST_MADE_WARM]++;
    if (b->cls == X86_VIEW_USER || j->gone[bit / 64] >> bit % 64 & 1)
        j->reasons += 2;
}

static void note_gone(struct jit *j, const struct jblock *b)
{
    uint32_t bit = gone_bit(b->phys, b->key);

    j->ngone += !(j->gone[bit / 64] >> bit % 64 & 1);
    j->gone[bit / 64] |= 1ull << bit % 64;
}

/* Start with an empty cache.  Not while translated code is on the stack.  What was learnt of blocks stays. */
static void empty(struct jit *j)
{
    j->nblocks = 1;
    segment_begin(j, 0);
    memset(j->hash, 0, sizeof(j->hash));
    memset(j->page, 0, sizeof(j->page));
    memset(j->cross, 0, sizeof(j->cross));
    memset(j->slow, 0, sizeof(j->slow));
    for (unsigned c = 0; c < JIT_CLASSES; c++)
        for (unsigned i = 0; i < JIT_JC; i++)
            j->jc[c][i] = j->t_dispatch;
    known_clear(j);
    rets_clear_all(j);
}

/* The segment is full: on to the next.  Behind the last one the cache grows when much of what was made is programs' or had
 * been given up before (a boot runs most of the kernel's code once); else it is emptied.  To give up the oldest part only
 * was tried: each block is made as often, and taking it out of all lists costs as much as making it. */
static void evict(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    unsigned n_gone = 0;

    j->want_reset = 0;
    if (j->seg + 1 == j->nsegs && j->nsegs < j->max_segs && j->reasons > j->made) {
        j->nsegs *= 2;
        if (j->nsegs > j->max_segs)
            j->nsegs = j->max_segs;
    }
    if (j->seg + 1 < j->nsegs) {
        segment_begin(j, j->seg + 1);
        return;
    }
    vp->counters[HV_CTR_CODE_EVICTIONS]++;
    if (j->ngone > JIT_GONE / 3) { /* it would know everything */
        memset(j->gone, 0, sizeof(j->gone));
        j->ngone = 0;
    }
    for (uint32_t n = 1; n < j->nblocks; n++)
        if (!j->blocks[n].dead) {
            note_gone(j, &j->blocks[n]);
            n_gone++;
            if (unlikely(j->observe))
                jit_saw_drop(vp, &j->blocks[n], JIT_DROP_EVICTED);
        }
    j->stat[JST_DROP_EVICTED] += n_gone;
    if (unlikely(j->observe))
        jit_saw_evict(vp, 0, j->nsegs * j->seg_size, n_gone);
    empty(j);
}

/* Forget all translations and what was learnt.  Not while translated code is on the stack. */
static void reset_now(struct hv_vp *vp, const char *why)
{
    struct jit *j = jit_of(vp);

    vp->counters[HV_CTR_CODE_RESETS]++;
    if (unlikely(j->observe))
        jit_saw_reset(vp, why);
    j->want_reset = 0;
    if (x86_vec_full(vp)) {
        hv_engine_interp.reset(vp); /* its blocks hold stubs */
        x86_vec_flush(vp);
    }
    memset(j->gone, 0, sizeof(j->gone));
    j->ngone = 0;
    empty(j);
    j->next_sig = 1;
    memset(j->sigs, 0, sizeof(j->sigs));
    jit_slots_reset(j);
    fsig_clear(vp);
    numbers_clear(j);
    memset(j->near, 0, sizeof(j->near));
    j->bias = j->neg_bias = j->neg_sig = 0;
}

static void jit_reset(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);

    hv_engine_interp.reset(vp);
    if (j->nat)
        j->nat->kill = true;
    if (j->in_code) {
        j->want_reset |= JIT_RESET;
        j->leave = true;
        return;
    }
    reset_now(vp, "the memory has changed");
}

static void jit_stop_block(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);

    j->leave = true;
    if (!j->in_code)
        hv_engine_interp.stop_block(vp);
}

/* ---- finding -------------------------------------------------------------------------------------------- */

uint32_t jit_sig(struct jit *j, uint64_t rip, uint64_t ram_page, uint32_t key)
{
    uint64_t va = rip >> 12, h = (va * 0x9e3779b97f4a7c15ull) ^ (ram_page * 0xff51afd7ed558ccdull) ^ key;

    for (unsigned i = 0; i < 64; i++) {
        struct jsig *s = &j->sigs[((h ^ (h >> 29)) + i) & (JIT_SIGS - 1)];

        if (!s->id) {
            if (j->next_sig >> JIT_SIG_BITS)
                break;
            *s = (struct jsig){ va, ram_page, key, j->next_sig++ };
            return s->id;
        }
        if (s->va_page == va && s->phys_page == ram_page && s->key == key)
            return s->id;
    }
    j->want_reset |= JIT_RESET;
    return 0;
}

static uint64_t next_page(const struct hv_vp *vp, uint64_t lin)
{
    lin = (lin | 4095) + 1;
    return vp->cpu.mode == X86_MODE_64 ? lin : (uint32_t)lin;
}

/* The page of @lin (just fetched from), which @b knows as @canon, is what @sig says. */
static void fsig_set(struct hv_vp *vp, const struct jblock *b, uint64_t lin, uint64_t canon, uint32_t sig)
{
    struct jit *j = jit_of(vp);
    unsigned slot = jit_fsig_slot(canon), cls = b->cls;
    struct jfact *f = &j->fact[cls][jit_fsig_slot(lin)];

    if (b->floating)
        sig -= j->neg_sig;
    if (likely(j->fsig[cls][slot] == sig))
        return;
    /* What speaks of a page is found by the page: a slot for each at most. */
    if (f->page != lin >> 12 || f->slot != slot) {
        j->fsig[cls][f->slot] = 0;
        *f = (struct jfact){ lin >> 12, (uint16_t)slot };
    }
    j->fsig[cls][slot] = sig;
    if (cls != X86_VIEW_USER && !vp->mmu.itlb[(lin >> 12) & (X86_ITLB_SIZE - 1)].global) {
        if (j->nnonglobal < COUNT(j->nonglobal))
            j->nonglobal[j->nnonglobal++] = (uint16_t)slot;
        else
            j->nnonglobal = COUNT(j->nonglobal) + 1;
    }
}

/* ---- code that floats ----------------------------------------------------------------------------------- */

/* The number of a bias; 0 has 0. */
static uint32_t bias_number(struct hv_vp *vp, uint64_t bias)
{
    struct jit *j = jit_of(vp);

    if (!bias)
        return 0;
    for (unsigned i = (unsigned)((bias >> 12) * 0x9e3779b97f4a7c15ull >> 40);; i++) {
        struct jbias_number *n = &j->numbers[i % JIT_BIAS_HASH];

        if (n->number && n->bias == bias)
            return n->number;
        if (n->number)
            continue;
        if (j->nnumbers >= (j->small ? 8 : JIT_BIASES)) {
            numbers_clear(j);
            return bias_number(vp, bias);
        }
        *n = (struct jbias_number){ bias, ++j->nnumbers };
        return n->number;
    }
}

/* Code at @rip has this bias. */
static void near_note(struct jit *j, uint64_t rip, uint64_t bias)
{
    uint64_t page = rip >> 12;
    struct jnear *n = NULL;

    for (unsigned i = 0; i < JIT_NEAR && !n; i++)
        if (j->near[i].hi && j->near[i].bias == bias)
            n = &j->near[i];
    if (!n) {
        n = &j->near[j->next_near++ % JIT_NEAR];
        *n = (struct jnear){ page, page, bias };
    }
    if (page < n->lo)
        n->lo = page;
    if (page > n->hi)
        n->hi = page;
}

/* The bias for @rip is @bias. */
static void bias_set(struct hv_vp *vp, uint64_t rip, uint64_t bias)
{
    struct jit *j = jit_of(vp);
    uint32_t neg_sig;

    if (likely(j->bias == bias))
        return;
    near_note(j, rip, bias);
    neg_sig = 0u - (bias_number(vp, bias) << JIT_SIG_BITS);
    j->bias = bias;
    j->neg_bias = 0 - bias;
    j->neg_sig = neg_sig;
    j->bias_cache[bias >> 12 & (JIT_BIAS_CACHE - 1)] = (struct jbias){ 0 - bias, neg_sig };
}

static bool canon_fits(uint64_t canon) { return canon >= JIT_CANON_MIN && canon < JIT_CANON_MAX; }

/* What new floating code at @rip is to be called: by the bias of the branch that leads there (@by, or 1 for none), of other code in
 * this physical page, of other code nearby; or by a new one.  What does not fit together costs time only. */
static uint64_t canon_for(struct jit *j, uint64_t rip, uint64_t ram_page, uint64_t by)
{
    uint64_t least = (32u << 20) >> 12, page = rip >> 12;
    const struct jnear *best = NULL;

    if (by != 1 && canon_fits(rip - by))
        return rip - by;
    for (uint32_t n = j->page[page_bucket(ram_page)]; n; n = j->blocks[n].page_next)
        if (j->blocks[n].phys >> 12 == ram_page && j->blocks[n].floating)
            return (j->blocks[n].rip & ~4095ull) | (rip & 4095);
    for (unsigned i = 0; i < JIT_NEAR; i++) {
        const struct jnear *n = &j->near[i];
        uint64_t far = page < n->lo ? n->lo - page : page > n->hi ? page - n->hi : 0;

        if (n->hi && far < least && canon_fits(rip - n->bias)) {
            best = n;
            least = far;
        }
    }
    if (best)
        return rip - best->bias;
    rip &= (1u << 30) - 1;
    return canon_fits(rip) ? rip : rip + JIT_CANON_MIN;
}

/* The block at cpu.rip; NULL: execute one instruction, or reset.  Raises fetch faults.  @by: see canon_for. */
static struct jblock *find_variant(struct hv_vp *vp, uint32_t variant, uint64_t by)
{
    struct jit *j = jit_of(vp);
    struct x86_cpu *c = &vp->cpu;
    uint32_t key = jit_key(vp), full = key | variant, n;
    uint64_t lin = c->rip, ram_page, phys;
    const uint8_t *page;
    struct jblock *b = NULL;

    if (unlikely(j->seen_gen != vp->mmu.fetch_gen))
        fsig_sync(vp);
    if (unlikely(j->last_key[vp->mmu.view] != key)) {
        memset(j->fsig[vp->mmu.view], 0, sizeof(j->fsig[0]));
        rets_clear_all(j);
        j->last_key[vp->mmu.view] = key;
        for (unsigned v = X86_VIEW_SUPER; v <= X86_VIEW_SUPER_AC; v++) /* STAC and CLAC lead from one to the other without C */
            if (vp->mmu.view != X86_VIEW_USER && j->last_key[v] && ((j->last_key[v] ^ key) & ~(uint32_t)JKEY_VIEW)) {
                memset(j->fsig[v], 0, sizeof(j->fsig[0]));
                j->last_key[v] = 0;
            }
    }
    page = x86_fetch_page(vp, lin, &ram_page);
    if (unlikely(!page))
        return NULL;
    phys = ram_page << 12 | (lin & 4095);
    for (n = j->hash[hash_bucket(phys)]; n; n = b->hash_next) {
        b = &j->blocks[n];
        if (b->phys != phys || b->key != full || (b->rip != c->rip && !b->floating))
            continue;
        if (unlikely(b->page2 != ~0ull)) {
            uint64_t rp2, lin2 = next_page(vp, lin);

            if (!x86_fetch_page(vp, lin2, &rp2) || rp2 != b->page2)
                continue;
        }
        break;
    }
    if (!n) {
        uint64_t t0 = hv_host_ns();
        bool floating = (full & (X86_KEY_MODE64 | JKEY_SINGLE)) == X86_KEY_MODE64 && (vp->mmu.view == X86_VIEW_USER || j->small);

        if (unlikely(j->lockstep) && !jit_lockstep_may_make(vp, phys, full))
            return NULL;
        b = jit_translate(vp, lin, page, ram_page, full, floating ? canon_for(j, lin, ram_page, by) : lin, floating);
        t0 = hv_host_ns() - t0;
        vp->counters[HV_CTR_TRANSLATE_NS] += t0;
        if (!b)
            return NULL;
        if (floating)
            near_note(j, lin, lin - b->rip);
        vp->counters[HV_CTR_CODE_BYTES] += b->size;
        note_made(j, b);
        if (unlikely(j->observe))
            jit_saw_made(vp, b, t0);
        n = (uint32_t)(b - j->blocks);
        b->hash_next = j->hash[hash_bucket(phys)];
        j->hash[hash_bucket(phys)] = n;
        b->page_next = j->page[page_bucket(ram_page)];
        j->page[page_bucket(ram_page)] = n;
        if (b->page2 != ~0ull) {
            b->cross_next = j->cross[b->page2 % JIT_CROSS];
            j->cross[b->page2 % JIT_CROSS] = n;
        }
        vp->counters[HV_CTR_BLOCKS_BUILT]++;
        jit_native_built(vp);
        if (unlikely(j->seen_gen != vp->mmu.fetch_gen)) /* while it waited for others */
            return NULL;
    }
    if (b->floating)
        bias_set(vp, lin, lin - b->rip);
    fsig_set(vp, b, lin, b->rip, b->sig);
    if (unlikely(b->page2 != ~0ull)) { /* each may take the place of what was there for another page, and with that the other's */
        fsig_set(vp, b, next_page(vp, lin), (b->rip | 4095) + 1, b->sig2);
        fsig_set(vp, b, lin, b->rip, b->sig);
    }
    j->rsp_cur = &j->rsp[jit_ret_stack(vp->mmu.view, c->cr4 & CR4_SMAP)];
    return b;
}

/* Is a fetch from @lin one without a walk?  No fault can come then. */
static bool fetched(const struct hv_vp *vp, uint64_t lin)
{
    return vp->mmu.itlb[(lin >> 12) & (X86_ITLB_SIZE - 1)].tag == ((lin & ~4095ull) | (vp->cpu.cpl == 3));
}

static struct jblock *find(struct hv_vp *vp) { return find_variant(vp, 0, 1); }

/* The block that a direct branch from @from leads to.  Where code that floats does not fit one of the two is made again: what
 * has the higher canonical address gets that of the other one, so each block comes to where it stays. */
static struct jblock *find_from(struct hv_vp *vp, struct jblock *from)
{
    struct jit *j = jit_of(vp);
    uint64_t bias = j->bias, rip = vp->cpu.rip, branch;
    struct jblock *b = find_variant(vp, 0, from->floating ? bias : 1);

    if (likely(!b || !b->floating || !from->floating || j->bias == bias))
        return b;
    branch = from->rip + bias;
    if (canon_fits(rip - bias) && rip - bias < b->rip) {
        block_drop(j, b, JIT_DROP_REMADE);
    } else if (canon_fits(branch - j->bias) && !from->dead && fetched(vp, branch) && from->page2 == ~0ull) {
        bias = j->bias;
        block_drop(j, from, JIT_DROP_REMADE);
        vp->cpu.rip = branch;
        (void)find_variant(vp, 0, bias);
        vp->cpu.rip = rip;
    } else {
        return b;
    }
    return find_variant(vp, 0, bias);
}

/* ---- helpers of translated code ------------------------------------------------------------------------- */

static void exec_any(struct hv_vp *vp, const struct x86_insn *in)
{
    if (in->feature && unlikely(!hv_feature(vp->p, in->feature)))
        x86_raise(vp, X86_EXC_UD);
    if ((in->attr & X86_A_GPRVEX) && unlikely(x86_is_real_or_vm86(&vp->cpu))) /* SDM 2A 2.9: exception class 13 */
        x86_raise(vp, X86_EXC_UD);
    if (in->op >= X86_OP_X87) {
        if (x86_exec_vec(vp, in))
            return;
    } else if (x86_exec_integer(vp, in) || x86_exec_transfer(vp, in) || x86_exec_system(vp, in)) {
        return;
    }
    x86_raise(vp, X86_EXC_UD);
}

/* Decode what is at cpu.rip now. */
void jit_decode_at_rip(struct hv_vp *vp, struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    uint64_t lin = c->rip, rp;
    unsigned avail = 4096 - (unsigned)(lin & 4095);
    uint8_t buf[X86_MAX_INSN];
    const uint8_t *page = x86_fetch_page(vp, lin, &rp);
    int len = page ? x86_decode(page + (lin & 4095), avail > X86_MAX_INSN ? X86_MAX_INSN : avail, (enum x86_mode)c->mode, in) : 0;

    if (len == 0) {
        uint64_t lin2 = c->mode == X86_MODE_64 ? lin + avail : (uint32_t)(lin + avail);

        if (avail > X86_MAX_INSN)
            avail = X86_MAX_INSN;
        x86_fetch_bytes(vp, lin, buf, avail);
        len = x86_decode(buf, avail, (enum x86_mode)c->mode, in);
        if (len == 0 && avail < X86_MAX_INSN) {
            x86_fetch_bytes(vp, lin2, buf + avail, X86_MAX_INSN - avail);
            len = x86_decode(buf, X86_MAX_INSN, (enum x86_mode)c->mode, in);
        }
    }
    if (len <= 0) {
        if (len == -13)
            x86_raise_err(vp, X86_EXC_GP, 0);
        x86_raise(vp, X86_EXC_UD);
    }
    if (c->mode != X86_MODE_64 && lin + (unsigned)len - 1 > c->seg[X86_CS].limit) /* SDM 3A 5.3 */
        x86_raise_err(vp, X86_EXC_GP, 0);
}

/* ... and execute it by the shared semantics. */
void jit_exec_at_rip(struct hv_vp *vp)
{
    jit_decode_at_rip(vp, &vp->scratch_insn);
    exec_any(vp, &vp->scratch_insn);
}

/* The same for a site's instruction: as long as its block lives the bytes are those that it was made from. */
static const struct x86_insn *site_insn(struct hv_vp *vp, const struct jsite *s)
{
    struct jslow *w = &jit_of(vp)->slow[((uintptr_t)s >> 3) & (JIT_SLOW_SITES - 1)];

    if (unlikely(w->site != s)) {
        w->site = s;
        (void)x86_decode(jit_of(vp)->rw + jit_of(vp)->blocks[s->block].code + s->off, s->len, (enum x86_mode)vp->cpu.mode, &w->in);
    }
    jit_of(vp)->by_c[w->in.op]++;
    return &w->in;
}

/* @return the operation. */
static unsigned exec_site(struct hv_vp *vp, const struct jsite *s)
{
    vp->scratch_insn = *site_insn(vp, s); /* it may be somebody else's before the end */
    exec_any(vp, &vp->scratch_insn);
    return vp->scratch_insn.op;
}

/* A store beside code to @lin, where the TLB says so.  @return the operation. */
static unsigned store_site(struct hv_vp *vp, const struct jsite *s, uint64_t lin)
{
    const struct x86_insn *in = site_insn(vp, s);
    uint64_t v;

    if (in->op != X86_OP_MOV || in->o[0].kind != X86_O_MEM || in->o[0].size != s->n) {
        jit_of(vp)->by_c[in->op]--;
        return exec_site(vp, s);
    }
    v = x86_operand_read(vp, in, 1);
    x86_lin_write(vp, lin, &v, s->n, X86_ACC_WRITE);
    vp->cpu.rip = x86_next_rip(vp, in);
    return X86_OP_MOV;
}

/* Before going back into translated code: what it believes to be in host registers is there.  @was: x87_live
 * when it was left. */
static void relive(struct hv_vp *vp, uint8_t was)
{
    struct jit *j = jit_of(vp);
    uint8_t live = vp->cpu.x87_live;

    if (!j->vdead && !(live & X86_LIVE_SSE))
        x86_sse_enter(vp);
    if ((was & X86_LIVE_X87) && !(live & (X86_LIVE_X87 | X86_LIVE_X87_SLOW)))
        x86_x87_enter(vp);
    j->x87dead = !(vp->cpu.x87_live & X86_LIVE_X87);
}

static void scan_upper(struct hv_vp *vp)
{
    uint64_t any = 0;

    for (unsigned i = 0; i < 16; i++)
        any |= vp->cpu.ymm[i].q[2] | vp->cpu.ymm[i].q[3];
    jit_of(vp)->upper = any != 0;
}

/* Vector registers come from memory into the host's: the thunk does it on its way back. */
const uint8_t *jit_c_vload(struct hv_vp *vp, const uint8_t *next)
{
    struct jit *j = jit_of(vp);

    scan_upper(vp);
    j->vdead = 0;
    x86_sse_enter(vp);
    return next;
}

const uint8_t *jit_c_x87load(struct hv_vp *vp, const uint8_t *next)
{
    x86_x87_enter(vp);
    jit_of(vp)->x87dead = !(vp->cpu.x87_live & X86_LIVE_X87);
    return next;
}

/* Where translated code goes on at cpu.rip, or the way out to the run loop. */
static const uint8_t *dispatch_variant(struct hv_vp *vp, uint32_t variant, uint64_t by)
{
    struct jit *j = jit_of(vp);
    struct jblock *b;

    j->leave = false;
    j->cur = NULL;
    j->left = true;
    if (unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)) || vp->run_state != HV_VP_RUNNING ||
        vp->mmu.dr6_hits || j->want_reset || j->single || !jit_may_translate(vp) || jit_native_next(vp))
        return j->t_exit;
    b = find_variant(vp, variant, by);
    if (unlikely(!b))
        return j->t_exit;
    relive(vp, 0);
    return j->rx + b->main;
}

static const uint8_t *dispatch(struct hv_vp *vp) { return dispatch_variant(vp, 0, 1); }

/* Returns to programs go through C, which looks whether an executor is to run them. */
void jit_native_armed(struct jit *j) { j->fast[1].valid = 0; }

const uint8_t *jit_c_dispatch(struct hv_vp *vp, uint64_t rip)
{
    struct jit *j = jit_of(vp);
    const uint8_t *to;
    uint64_t built;

    vp->counters[HV_CTR_EXIT_DISPATCH]++;
    vp->cpu.rip = rip;
    j->cur = NULL;
    j->leave = false;
    if (unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)) || j->want_reset || j->single) {
        j->stat[JST_OUT]++;
        return j->t_exit;
    }
    built = vp->counters[HV_CTR_BLOCKS_BUILT];
    struct jblock *b = find(vp);

    if (unlikely(!b)) {
        j->stat[JST_OUT]++;
        return j->t_exit;
    }
    j->stat[JST_FOUND] += built == vp->counters[HV_CTR_BLOCKS_BUILT];
    relive(vp, 0);
    to = j->rx + b->main;
    j->jc[b->cls][rip & (JIT_JC - 1)] = j->rx + b->ind;
    j->known[known_index(j, b->cls, rip)] = (struct jknown){
        .neg_tag = 0 - rip,
        .bias = j->bias,
        .neg_bias = j->neg_bias,
        .neg_sig = j->neg_sig,
        .host = (uint32_t)(uintptr_t)(j->rx + b->known),
        .ind = (uintptr_t)(j->rx + b->ind),
        .place = (uintptr_t)&j->jc[b->cls][rip & (JIT_JC - 1)],
    };
    return to;
}

/* The block of the call that returns to @at, of its tail. */
static struct jblock *block_at(struct jit *j, const uint8_t *at, unsigned tail)
{
    uint32_t n;

    memcpy(&n, at + (JIT_TAIL_NUMBER - JIT_CALL - tail), 4);
    return &j->blocks[n];
}

/* Its address means another page now, or nobody knows. */
const uint8_t *jit_c_page(struct hv_vp *vp, const uint8_t *at)
{
    struct jit *j = jit_of(vp);

    return jit_c_dispatch(vp, jit_rip_of(j, block_at(j, at, JIT_TAIL_PAGE)));
}

/* Out to the run loop at its beginning. */
const uint8_t *jit_c_poll(struct hv_vp *vp, const uint8_t *at)
{
    struct jit *j = jit_of(vp);

    vp->cpu.rip = jit_rip_of(j, block_at(j, at, JIT_TAIL_POLL));
    return j->t_exit;
}

/* Somebody jumped to a block that has been dropped: from now on that leads to its successor. */
const uint8_t *jit_c_drop(struct hv_vp *vp, const uint8_t *at)
{
    struct jit *j = jit_of(vp);
    struct jblock *old = block_at(j, at, JIT_TAIL_DROP), *b;

    vp->counters[HV_CTR_EXIT_DROP]++;
    vp->cpu.rip = jit_rip_of(j, old);
    j->cur = NULL;
    j->leave = false;
    if (unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)) || j->want_reset || j->single)
        return j->t_exit;
    b = find_from(vp, old);
    if (unlikely(!b))
        return j->t_exit;
    if (old->dead && b->rip == old->rip && b->phys == old->phys && b->key == old->key && b->page2 == old->page2) {
        patch_jmp(j, old->main, b->main);
        old->heir_next = b->heirs_of;
        b->heirs_of = (uint32_t)(old - j->blocks);
    }
    relive(vp, 0);
    return j->rx + b->main;
}

struct jblock *jit_block_find(struct jit *j, uint64_t rip, uint64_t phys, uint32_t key)
{
    for (uint32_t n = j->hash[hash_bucket(phys)]; n; n = j->blocks[n].hash_next) {
        struct jblock *b = &j->blocks[n];

        if (b->phys == phys && b->rip == rip && b->key == key)
            return b;
    }
    return NULL;
}

void jit_block_drop(struct jit *j, struct jblock *b)
{
    if (!b->dead)
        block_drop(j, b, JIT_DROP_REMADE);
}

const uint8_t *jit_remake(struct hv_vp *vp, struct jblock *b)
{
    if (unlikely(jit_of(vp)->lockstep))
        jit_lockstep_remade(jit_of(vp), b);
    jit_block_drop(jit_of(vp), b);
    return dispatch_variant(vp, 0, b->floating ? jit_of(vp)->bias : 1);
}

/* What counts the runs of @b becomes nothing. */
static void count_no_more(struct jit *j, const struct jblock *b)
{
    unsigned n = b->count_len, k;
    uint8_t *p = j->rw + b->count;

    j->written = true;
    for (; n; n -= k, p += k) { /* prefixes and a NOP with a ModRM */
        k = n > 11 ? 8 : n > 8 ? n - 4 : n;
        memset(p, 0x66, k);
        if (k < 3)
            p[k - 1] = 0x90;
        else
            memcpy(p + k - 3, "\x0f\x1f", 3);
    }
}

/* A block has run often: from now on with what pays then. */
const uint8_t *jit_c_hot(struct hv_vp *vp, const uint8_t *at)
{
    struct jit *j = jit_of(vp);
    struct jblock *b = block_at(j, at, JIT_TAIL_HOT);

    vp->cpu.rip = jit_rip_of(j, b);
    /* Slots are for inner loops: where many sites run now and then, what they miss together costs more than they save. */
    if ((*jit_hint(j, b->phys) & (JHINT_WARM | JHINT_HOT)) == JHINT_WARM && !b->dead) {
        uint32_t now = jit_kcycles();

        if ((uint64_t)(now - b->since) << 10 > (uint64_t)JIT_HOT * JIT_RATE << b->slow) {
            b->since = now;
            b->slow++;
            j->runs[b - j->blocks] = JIT_HOT << b->slow;
            if (b->slow == JIT_SLOW)
                count_no_more(j, b);
            return dispatch(vp);
        }
    }
    if (b->slots)
        jit_slots_judge(j, b);
    *jit_hint(j, b->phys) |= !(*jit_hint(j, b->phys) & JHINT_WARM) ? JHINT_WARM : *jit_hint(j, b->phys) & JHINT_HOT ? JHINT_TRIED : JHINT_HOT;
    return jit_remake(vp, b);
}

/* The first run of a direct branch: from now on it goes to its target without us. */
const uint8_t *jit_c_link(struct hv_vp *vp, const uint8_t *at)
{
    struct jit *j = jit_of(vp);
    struct jblock *from, *b;
    struct jlink l;
    uint64_t bias;
    uint32_t to;
    int32_t d;

    memcpy(&l, at, sizeof(l));
    from = &j->blocks[l.block];

    vp->counters[HV_CTR_EXIT_LINK]++;
    bias = j->bias;
    vp->cpu.rip = jit_rip_of(j, from) + (uint64_t)(int64_t)l.rel;
    if (!(from->key & X86_KEY_MODE64))
        vp->cpu.rip = (uint32_t)vp->cpu.rip;
    j->cur = NULL;
    j->leave = false;
    if (unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)) || j->want_reset || (from->key & JKEY_SINGLE))
        return j->t_exit;
    b = find_from(vp, from);
    if (unlikely(!b))
        return j->t_exit;
    if (!from->dead && from->floating == b->floating && (!b->floating || j->bias == bias)) {
        bool far = l.arg & JLINK_FAR;

        j->written = true;
        l.arg &= ~JLINK_FAR;
        memcpy(j->rw + (at - j->rx) + offsetof(struct jlink, next), &b->links, 4);
        b->links = (uint32_t)(at - j->rx);
        to = !far && b->phys >> 12 == from->phys >> 12 ? b->main : b->sigent;
        d = (int32_t)(to - (l.arg + 4));
        memcpy(j->rw + l.arg, &d, 4);
        j->stat[JST_CHAINED]++;
        if (unlikely(j->observe))
            jit_saw_link(vp, from, b);
    }
    relive(vp, 0);
    return j->rx + b->main;
}

/* The key with which the site's instruction runs. */
static uint32_t site_key(const struct jblock *b, const struct jsite *s)
{
    return (b->key & ~(uint32_t)(JKEY_NOGROUP | JKEY_SINGLE | JKEY_VIEW)) | (uint32_t)s->view << JKEY_VIEW_SHIFT;
}

/* A window of @b lies across pages once more.  Do they come so often that the block is better off without windows? */
static bool crosses_often(struct jit *j, struct jblock *b)
{
    uint32_t now = jit_kcycles();

    if (!b->crossings)
        b->crossed_since = now;
    if (++b->crossings < JIT_CROSSINGS)
        return false;
    if (now - b->crossed_since <= JIT_CROSSINGS * JIT_CROSS_RATE >> 10 || j->small)
        return true;
    b->crossings = 0;
    return false;
}

static void ungroup(struct jit *j, const struct jblock *b)
{
    *jit_hint(j, b->phys) |= JHINT_NOGROUP;
    if (!j->nungrouped)
        j->ungrouped_at = jit_kcycles();
    if (j->nungrouped < JIT_UNGROUPED)
        j->ungrouped[j->nungrouped++] = b->phys;
}

/* What lies across pages is of one process or of one depth of the stack: try again with windows.  Not while translated code is
 * on the stack. */
static void regroup(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);

    if (jit_kcycles() - j->ungrouped_at < (j->small ? 256 : JIT_REGROUP))
        return;
    while (j->nungrouped) {
        uint64_t phys = j->ungrouped[--j->nungrouped];

        *jit_hint(j, phys) &= (uint8_t)~JHINT_NOGROUP;
        for (uint32_t n = j->hash[hash_bucket(phys)], next; n; n = next) {
            next = j->blocks[n].hash_next;
            if (j->blocks[n].phys == phys)
                jit_block_drop(j, &j->blocks[n]);
        }
    }
}

/* An access that the TLB does not serve.  Usually a walk makes it so; else C executes the instruction. */
const uint8_t *jit_c_miss(struct hv_vp *vp, const struct jsite *s)
{
    struct jit *j = jit_of(vp);
    struct jblock *b = &j->blocks[s->block];
    uint64_t ea = j->ea, next;
    uint8_t was = vp->cpu.x87_live;
    bool beside = false;
    const struct x86_tlb_entry *e = &vp->mmu.tlb->e[(ea >> 12) & (X86_TLB_SIZE - 1)];

    uint32_t gen = vp->mmu.tlb_gen;

    vp->counters[HV_CTR_EXIT_MISS]++;
    if (unlikely(s->flags & JS_XFLAGS))
        vp->cpu.fl = j->xf;
    vp->cpu.rip = jit_rip_of(j, b) + s->off;
    j->cur = b;
    j->leave = false;
    if (unlikely(s->flags & JS_STI)) {
        j->stat[JST_MISS_C]++;
        jit_exec_at_rip(vp);
        j->vdead = 1;
        return dispatch(vp);
    }
    if ((s->acc & X86_ACC_WRITE) && (e->info & X86_TLB_CODE) && ea + e->nrd <= 4096u - s->n) {
        j->stat[JST_MISS_CODE]++;
        beside = true; /* no walk gives a write tag */
        goto exec;
    }
    if ((s->flags & (JS_GROUP | JS_SECOND)) == JS_GROUP) {
        uint64_t lo = ea + (uint64_t)(int64_t)s->glo;

        /* The window lies in one page: whatever fault there is, this instruction has it. */
        if ((lo & 4095) + s->gn <= 4096 && !(lo & s->align)) {
            if (!x86_canonical(ea) || !x86_lin_hva(vp, ea, s->n, s->acc)) {
                j->stat[JST_MISS_C]++;
                jit_exec_at_rip(vp);
                j->vdead = 1;
                return dispatch(vp);
            }
            j->stat[s->acc & X86_ACC_WRITE ? JST_MISS_WRITE : JST_MISS_READ]++;
            /* Other windows of the block must not outlive what was taken away. */
            if (unlikely(gen != vp->mmu.tlb_gen))
                return dispatch(vp);
            if (unlikely(j->leave)) /* A and D are in the code's page, and the block has gone */
                return dispatch(vp);
            if (likely(lo + ((s->flags & JS_GWRITE) ? e->nwr : e->nrd) <= 4096u - s->gn))
                return j->rx + s->retry;
        }
        j->stat[JST_MISS_WINDOW]++;
        if (!crosses_often(j, b))
            return dispatch_variant(vp, JKEY_NOGROUP, b->floating ? j->bias : 1);
        ungroup(j, b);
        return jit_remake(vp, b);
    }
    if (!(s->flags & JS_SECOND) && !(ea & s->align) && (ea & 4095) + s->n <= 4096 && (vp->cpu.mode != X86_MODE_64 || x86_canonical(ea)) &&
        x86_lin_hva(vp, ea, s->n, s->acc) &&
        likely(ea + ((s->acc & X86_ACC_WRITE) ? e->nwr : e->nrd) <= 4096u - s->n)) {
        j->stat[s->acc & X86_ACC_WRITE ? JST_MISS_WRITE : JST_MISS_READ]++;
        return j->leave || (b->groups && gen != vp->mmu.tlb_gen) ? dispatch(vp) : j->rx + s->retry;
    }
    j->stat[JST_MISS_C]++;
exec:
    if ((beside ? store_site(vp, s, ea) : exec_site(vp, s)) >= X86_OP_X87 && !j->vdead)
        scan_upper(vp);
    if (s->flags & JS_END)
        j->vdead = 1;
    j->ended = s->off + s->len == b->len;
    next = jit_rip_of(j, b) + ((s->flags & JS_END) ? 0 : (uint64_t)s->off + s->len);
    if (unlikely(j->leave || (s->flags & (JS_END | JS_GROUP | JS_MORE)) || (b->groups && gen != vp->mmu.tlb_gen) || vp->cpu.rip != next || j->seen_gen != vp->mmu.fetch_gen ||
                 jit_key(vp) != site_key(b, s)))
        return dispatch(vp);
    relive(vp, was);
    if (unlikely((was & ~vp->cpu.x87_live) & X86_LIVE_X87))
        return dispatch(vp);
    return j->rx + s->next;
}

/* The check that was called from before @at failed; j->ea is where its window begins. */
const uint8_t *jit_c_check(struct hv_vp *vp, const uint8_t *at)
{
    struct jit *j = jit_of(vp);
    uint32_t off = (uint32_t)(at - j->rx), seg = off / j->seg_size;
    uint32_t lo = JIT_MAX_ACC / JIT_SEGMENTS * seg, hi = j->acc_n[seg];

    while (hi - lo > 1) { /* it is there */
        uint32_t mid = lo + (hi - lo) / 2;

        if (j->acc[mid].at <= off)
            lo = mid;
        else
            hi = mid;
    }
    j->ea -= (uint64_t)(int64_t)j->acc[lo].s.glo;
    return jit_c_miss(vp, &j->acc[lo].s);
}

/* The guest spins, perhaps for a VP whose thread waits for this processor. */
static void give_way(struct hv_vp *vp)
{
    jit_of(vp)->pauses = JIT_PAUSES;
    x86_mmu_leave(vp);
    sched_yield();
    x86_mmu_enter(vp);
}

/* An instruction that is executed by C. */
const uint8_t *jit_c_exec(struct hv_vp *vp, const struct jsite *s)
{
    struct jit *j = jit_of(vp);
    struct jblock *b = &j->blocks[s->block];
    uint8_t was = vp->cpu.x87_live;

    uint32_t gen = vp->mmu.tlb_gen;

    vp->counters[HV_CTR_EXIT_INSN]++;
    j->by_c[j->pool[s->arg].op]++;
    vp->cpu.rip = jit_rip_of(j, b) + s->off;
    j->cur = b;
    j->leave = false;
    if (unlikely(j->pool[s->arg].op == X86_OP_SYSCALL || j->pool[s->arg].op == X86_OP_SYSRET)) {
        bool ret = j->pool[s->arg].op == X86_OP_SYSRET;

        jit_fast_before(vp, &j->fast[ret]);
        exec_any(vp, &j->pool[s->arg]);
        jit_fast_after(vp, &j->fast[ret], ret);
    } else {
        if (unlikely(j->pool[s->arg].op == X86_OP_PAUSE))
            give_way(vp);
        exec_any(vp, &j->pool[s->arg]);
        if (j->pool[s->arg].op == X86_OP_MOV_CR && j->nat)
            j->fast[1].valid = 0; /* another program, perhaps */
    }
    if (j->pool[s->arg].op >= X86_OP_X87 && !j->vdead)
        scan_upper(vp);
    if (s->flags & JS_END)
        j->vdead = 1; /* the kernel, or other code that has less use for them */
    j->ended = s->off + s->len == b->len;
    if (unlikely(j->leave || (s->flags & (JS_END | JS_GROUP)) || (b->groups && gen != vp->mmu.tlb_gen) || vp->cpu.rip != jit_rip_of(j, b) + s->off + s->len ||
                 j->seen_gen != vp->mmu.fetch_gen || jit_key(vp) != site_key(b, s)))
        return dispatch(vp);
    relive(vp, was);
    if (unlikely((was & ~vp->cpu.x87_live) & X86_LIVE_X87))
        return dispatch(vp);
    return j->rx + s->next;
}

/* ---- running ---------------------------------------------------------------------------------------------- */

/* The cache begins with 10 MB and grows in proportion to the guest's memory: to 1/12 of it, 96 MB at most, or to what is
 * configured.  With few slots goes a small cache: blocks are
 * given up all the time.  Before the first run, when the memory is there. */
static void size_cache(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    uint64_t size = vp->p->code_cache ? vp->p->code_cache : hv_ram_len(vp->p) / 12;

    if (size < JIT_CACHE_MIN && !vp->p->code_cache)
        size = JIT_CACHE_MIN;
    if (size > JIT_CACHE_SIZE)
        size = JIT_CACHE_SIZE;
    if (j->small)
        size = 2u << 20;
    j->seg_size = j->small ? (uint32_t)(size / SMALL_SEGMENTS) & ~63u : JIT_HUGE;
    j->max_segs = (uint32_t)(size / j->seg_size);
    j->nsegs = j->small || j->max_segs < JIT_CACHE_MIN / JIT_HUGE ? j->max_segs : JIT_CACHE_MIN / JIT_HUGE;
    reset_now(vp, "its size");
}

static void jit_run(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    void (*enter)(const uint8_t *) = (void (*)(const uint8_t *))(uintptr_t)j->t_enter;

    if (unlikely(!j->seg_size))
        size_cache(vp);
    if (j->nat)
        j->nat->skip = false;
    x86_mmu_enter(vp);
    if (_setjmp(vp->jmp)) {
        jit_native_left(vp);
        if (vp->p->excl_owner == vp)
            vp->p->excl_depth = 0;
        if (unlikely(j->lockstep))
            jit_lockstep_fault(vp);
        if (vp->p->excl_owner == vp)
            x86_mmu_exclusive_end(vp);
        interp_abandon(vp);
        j->in_code = false;
        j->cur = NULL;
        j->vdead = 1;
        vp->mmu.dr6_hits = 0;
        vp->cpu.int_shadow = 0;
        vp->counters[HV_CTR_EXCEPTIONS]++;
        x86_exception_entry(vp);
    }
    for (;;) {
        struct jblock *b;
        bool compare = false;

        interp_between(vp);
        if (unlikely(j->want_reset & JIT_RESET))
            reset_now(vp, x86_vec_full(vp) ? "no room for stubs" : "the memory has changed, or no room for signatures");
        else if (unlikely(j->want_reset))
            evict(vp);
        if (unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)) || vp->run_state != HV_VP_RUNNING) {
            if (vp->run_state != HV_VP_RUNNING)
                unmap_written(j);
            if (unlikely(j->nat != NULL))
                jit_native_sample(vp);
            if (hv_vp_events(vp))
                break;
            if (unlikely(j->nungrouped))
                regroup(vp);
        }
        if (unlikely(vp->mmu.dr6_hits)) {
            uint64_t hits = vp->mmu.dr6_hits;

            vp->mmu.dr6_hits = 0;
            x86_debug_trap(vp, hits);
            continue;
        }
        if (unlikely(!jit_may_translate(vp))) {
            j->stat[JST_INTERP]++;
            interp_once(vp);
            continue;
        }
        if (unlikely(j->lockstep))
            jit_lockstep_turn(vp);
        if (unlikely(j->nat != NULL)) {
            if (jit_native_wanted(vp)) {
                jit_native_run(vp);
                continue;
            }
            j->nat->skip = false;
        }
        b = find_variant(vp, j->single ? j->single_key : 0, 1);
        if (unlikely(!b)) {
            if (!j->want_reset && !j->gated)
                jit_exec_at_rip(vp);
            continue;
        }
        if (unlikely(j->single)) {
            compare = jit_lockstep_before(vp, b);
            if (!compare && (b->dead || j->want_reset || j->seen_gen != vp->mmu.fetch_gen))
                continue;
        }
        j->in_code = true;
        relive(vp, 0);
        if (unlikely(j->slot_gen != vp->mmu.tlb_gen))
            jit_slots_flush(vp);
        enter(j->rx + b->main);
        j->in_code = false;
        if (unlikely(compare))
            jit_lockstep_after(vp, b);
    }
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
}

/* ---- engine ------------------------------------------------------------------------------------------------- */

static bool jit_probe(char *reason, size_t len)
{
    unsigned a, b = 0, c, d;

    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & (1u << 8))) {
        snprintf(reason, len, "needs a processor with BMI2 (Intel Haswell, AMD Excavator, or newer)");
        return false;
    }
    snprintf(reason, len, "works on this host");
    return true;
}

static void jit_destroy(struct hv_vp *vp)
{
    struct jit *j = vp->jit;

    hv_engine_interp.vp_destroy(vp);
    if (!j)
        return;
    jit_native_fini(vp);
    jit_lockstep_fini(j);
    jit_observe_fini(j);
    jit_slots_fini(j);
    if (j->rw)
        munmap(j->rw, JIT_CACHE_SIZE);
    if (j->rx)
        munmap((void *)(uintptr_t)j->rx, JIT_CACHE_SIZE);
    if (j->blocks)
        munmap(j->blocks, JIT_MAX_BLOCKS * sizeof(*j->blocks));
    if (j->pool)
        munmap(j->pool, JIT_MAX_POOL * sizeof(*j->pool));
    if (j->acc)
        munmap(j->acc, JIT_MAX_ACC * sizeof(*j->acc));
    munmap(j, sizeof(*j));
    vp->jit = NULL;
}

/* Address space for @len bytes, at a huge page's boundary. */
static uint8_t *reserve(size_t len, int flags)
{
    size_t room = len + JIT_HUGE;
    uint8_t *p = mmap(NULL, room, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0), *at;

    if (p == MAP_FAILED)
        return NULL;
    at = (uint8_t *)(((uintptr_t)p + JIT_HUGE - 1) & ~(uintptr_t)(JIT_HUGE - 1));
    if (at > p)
        munmap(p, (size_t)(at - p));
    munmap(at + len, (size_t)(p + room - at) - len);
    return at;
}

static void *map_lazy(size_t len, int flags)
{
    void *p = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | flags, -1, 0);

    if (p == MAP_FAILED)
        return NULL;
    madvise(p, len, MADV_DONTFORK); /* an executor would only unmap it */
    return p;
}

/* A view of the cache: of a memfd, or of memory without a name (@fd is negative; @again: the other view of the same).  The executable one begins where huge pages do, the writable one does not: so only pages that are
 * written count as its. */
static void *map_view(int fd, void *again, int prot, int flags)
{
    size_t off = prot & PROT_EXEC ? 0 : 4096;
    uint8_t *at = reserve(JIT_CACHE_SIZE + off, flags);
    void *p;

    if (!at)
        return NULL;
    if (off)
        munmap(at, off);
    at += off;
    if (fd >= 0)
        p = mmap(at, JIT_CACHE_SIZE, prot, MAP_SHARED | MAP_FIXED, fd, 0);
    else if (!again)
        p = mmap(at, JIT_CACHE_SIZE, prot, MAP_SHARED | MAP_FIXED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    else
        p = mremap(again, 0, JIT_CACHE_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED, at);
    if (p != MAP_FAILED && !(fd < 0 && again && mprotect(p, JIT_CACHE_SIZE, prot)))
        return p;
    munmap(at, JIT_CACHE_SIZE);
    return NULL;
}

static bool low(const void *p, size_t len) { return (uintptr_t)p + len <= 0x7fffffffu; }

static int jit_create(struct hv_vp *vp)
{
    struct jit *j;
    int err = hv_engine_interp.vp_create(vp), fd;
    unsigned ca, cb, cc, cd;
    const char *exact, *native_env = getenv("MOBO_JIT_NATIVE");
    unsigned native;
    bool nameless;

    if (err)
        return err;
    j = vp->jit = map_lazy(sizeof(*j), MAP_32BIT);
    if (!j)
        return hv_fail(-ENOMEM, "translator: no memory below 2 GB for its tables");
    if (!low(j, sizeof(*j)) || !low(vp, sizeof(*vp)) || !low(vp->mmu.views, X86_VIEWS * sizeof(*vp->mmu.views))) {
        jit_destroy(vp);
        return hv_fail(-ENOMEM, "translator: the processor's state is not below 2 GB");
    }
    j->vp = vp;
    j->mask_idx = (uint64_t)(X86_TLB_SIZE - 1) << 12;
    j->mask_page = ~4095ull;
    j->mask_bias = (uint64_t)(JIT_BIAS_CACHE - 1) << 12;
    j->mask_arith = EF_ARITH;
    j->mask_no_if = 0xffffffff & ~(uint64_t)EF_IF;
    j->mask_no_df = 0xffffffff & ~(uint64_t)EF_DF;
    j->mask_no_ac = 0xffffffff & ~(uint64_t)EF_AC;
    j->mask_page16 = ~4095ull | 15;
    j->mask_page32 = ~4095ull | 31;
    j->vdead = j->x87dead = 1;
    j->pauses = JIT_PAUSES;
    exact = getenv("MOBO_JIT_EXACT");
    j->exact = exact != NULL;
    j->exact_slots = exact && !strcmp(exact, "slots");
    j->small = getenv("MOBO_JIT_SMALL") != NULL;
    /* jc[]'s index is made of the bits below 16: what has one place there is to have two here. */
    j->mask_known = j->small ? 7 << 4 : 0x3f << 16 | 0x3f << 4;
    j->always_hot = j->small || j->exact_slots;
    err = jit_lockstep_init(vp);
    if (err) {
        jit_destroy(vp);
        return err;
    }
    j->host_avx = __builtin_cpu_supports("avx");
    if (j->host_avx && __get_cpuid_count(13, 1, &ca, &cb, &cc, &cd))
        j->host_xinuse = ca & 4;
    j->blocks = map_lazy(JIT_MAX_BLOCKS * sizeof(*j->blocks), 0);
    j->pool = map_lazy(JIT_MAX_POOL * sizeof(*j->pool), 0);
    j->acc = map_lazy(JIT_MAX_ACC * sizeof(*j->acc), 0);
    /* perf reads its map of names for memory without a name only. */
    nameless = vp->p->symbols && strstr(vp->p->symbols, "map");
    fd = nameless ? -1 : memfd_create("mobo-jit", MFD_CLOEXEC);
    if (nameless || (fd >= 0 && !ftruncate(fd, JIT_CACHE_SIZE))) {
        j->rw = map_view(fd, NULL, PROT_READ | PROT_WRITE, 0);
        j->rx = j->rw ? map_view(fd, j->rw, PROT_READ | PROT_EXEC, MAP_32BIT) : NULL;
    }
    if (fd >= 0)
        close(fd);
    if (!j->blocks || !j->pool || !j->acc || !j->rw || !j->rx || !low(j->rx, JIT_CACHE_SIZE) || jit_slots_init(j)) {
        jit_destroy(vp);
        return hv_fail(-ENOMEM, "translator: no memory for the code cache of %d MB", JIT_CACHE_SIZE >> 20);
    }
    jit_make_thunks(j);
    err = jit_observe_init(vp);
    if (err) {
        jit_destroy(vp);
        return err;
    }
    reset_now(vp, "start");
    native = native_env && !strcmp(native_env, "no") ? HV_NATIVE_NO : native_env && !strcmp(native_env, "always") ? HV_NATIVE_ALWAYS :
             native_env && !strcmp(native_env, "auto") ? HV_NATIVE_AUTO : vp->p->native;
    if (native != HV_NATIVE_NO && !j->lockstep && (native == HV_NATIVE_ALWAYS || (!j->exact && !j->small)))
        jit_native_init(vp, native == HV_NATIVE_ALWAYS);
    return 0;
}

const struct hv_engine hv_engine_jit = {
    .name = "jit",
    .summary = "translator to host code",
    .probe = jit_probe,
    .vp_create = jit_create,
    .vp_destroy = jit_destroy,
    .run = jit_run,
    .reset = jit_reset,
    .code_drop = jit_code_drop,
    .stop_block = jit_stop_block,
    .kick = jit_native_kick,
    .counters = jit_counters,
};
