/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator's site caches: the page that a memory operand used last (struct jslot).
 *
 * Most operands stay on a page for long.  Comparing with that page takes half the instructions of a look into
 * the TLB, and the host address does not wait for the lookup.  A miss is served from the TLB by a thunk
 * (t_slot), which spends the slot's budget; when that is gone faster than it pays, the instruction is made again
 * with a look into the TLB instead. */
#define _GNU_SOURCE
#include "hv/jit/jit.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <x86intrin.h>

enum {
    TOO_MANY = 64, /* a slot that misses more often than once in so many runs costs more than it saves */
    NSLOTS = JIT_SLOT_KINDS * JIT_SLOTS,
    GROUP_CHUNKS = NSLOTS / JIT_SLOT_CHUNK / JIT_SLOT_GROUPS,
    MISS_CYCLES = 1000 /* between misses on the average: below, the TLB is cheaper */
};

static void clear_chunk(struct jit *j, unsigned c)
{
    for (unsigned i = c * JIT_SLOT_CHUNK; i < (c + 1) * JIT_SLOT_CHUNK; i++)
        j->slot[i] = j->slot_none[(i / JIT_SLOTS) & 1];
}

/* Does @t take away what slot @i holds? */
static bool takes(const struct jit *j, unsigned i, const struct x86_taken *t)
{
    unsigned kind = i / JIT_SLOTS;
    const struct jslot *s = &j->slot[i];

    if (t->kind == X86_TAKEN_PAGE)
        return s->tag == 0 - t->page;
    return (kind & 2) && s->val - (kind & 1 ? 0 : s->tag) == t->page;
}

static void clear_all(struct jit *j)
{
    uint32_t *top = (uint32_t *)(uintptr_t)j->slot_top;

    for (const uint32_t *at = j->slot_list; at < top; at++) {
        uint8_t *dirty = (uint8_t *)(uintptr_t)*at;

        clear_chunk(j, (unsigned)(dirty - j->slot_dirty));
        *dirty = 0;
    }
    j->slot_top = (uint64_t)(uintptr_t)j->slot_list;
    j->slot_local = 0;
    memset(j->slot_lin, 0, sizeof(j->slot_lin));
    memset(j->slot_host, 0, sizeof(j->slot_host));
}

/* The address space has changed: whatever may not be global. */
static void clear_local(struct jit *j)
{
    uint64_t groups = j->slot_local;

    for (uint64_t left = groups; left; left &= left - 1) {
        unsigned c = (unsigned)__builtin_ctzll(left) * GROUP_CHUNKS;

        for (unsigned i = c; i < c + GROUP_CHUNKS; i++)
            if (j->slot_dirty[i])
                clear_chunk(j, i);
    }
    for (unsigned i = 0; i < JIT_SLOT_FILTER; i++) {
        j->slot_lin[i] &= ~groups;
        j->slot_host[i] &= ~groups;
    }
    j->slot_local = 0;
}

/* One page, or the right to store there: the groups that may have it are looked through. */
static void clear_page(struct jit *j, const struct x86_taken *t)
{
    bool lin = t->kind == X86_TAKEN_PAGE;
    unsigned f = jit_slot_filter(lin ? 0 - t->page : t->page);
    uint64_t *filter = lin ? &j->slot_lin[f] : &j->slot_host[f], left = *filter;

    for (; left; left &= left - 1) {
        unsigned g = (unsigned)__builtin_ctzll(left);
        bool others = false;

        for (unsigned c = g * GROUP_CHUNKS; c < (g + 1) * GROUP_CHUNKS; c++) {
            if (!j->slot_dirty[c])
                continue;
            for (unsigned i = c * JIT_SLOT_CHUNK; i < (c + 1) * JIT_SLOT_CHUNK; i++) {
                const struct jslot *s = &j->slot[i];
                uint64_t page = lin ? s->tag : s->val - ((i / JIT_SLOTS) & 1 ? 0 : s->tag);

                if (jit_slot_filter(page) != f)
                    continue;
                if (takes(j, i, t))
                    j->slot[i] = j->slot_none[(i / JIT_SLOTS) & 1];
                else
                    others = true;
            }
        }
        if (!others)
            *filter &= ~(1ull << g);
    }
}

void jit_slots_flush(struct hv_vp *vp)
{
    struct jit *j = jit_of(vp);
    uint32_t n = vp->mmu.tlb_gen - j->slot_gen;

    if (n > X86_TAKEN_LOG) {
        clear_all(j);
        n = 0;
    }
    while (n-- > 0) {
        const struct x86_taken *t = &vp->mmu.taken[(vp->mmu.tlb_gen - n) % X86_TAKEN_LOG];

        if (t->kind == X86_TAKEN_ALL)
            clear_all(j);
        else if (t->kind == X86_TAKEN_NONGLOBAL)
            clear_local(j);
        else
            clear_page(j, t);
    }
    j->slot_gen = vp->mmu.tlb_gen;
}

void jit_slots_reset(struct jit *j)
{
    memset(j->hint, 0, sizeof(j->hint));
    for (unsigned k = 0; k < JIT_SLOT_KINDS; k++)
        j->slot_next[k] = 1;
    for (unsigned i = 0; i < NSLOTS; i++)
        j->slot_budget[i] = JIT_SLOT_BUDGET;
    memset(j->slot_since, 0, sizeof(j->slot_since));
}

/* An empty slot compares with a page at a secret non-canonical address, so that no access matches it: tags have
 * no invalid value, as guests may form any address.  Should one be guessed, it finds a page of its own. */
int jit_slots_init(struct jit *j)
{
    uint64_t secret;

    if (getrandom(&secret, sizeof(secret), 0) != sizeof(secret))
        return -EIO;
    secret = (secret & ~4095ull & ~(3ull << 62)) | 1ull << 62;
    j->nowhere = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (j->nowhere == MAP_FAILED) {
        j->nowhere = NULL;
        return -ENOMEM;
    }
    j->slot_none[0] = (struct jslot){ 0 - secret, (uint64_t)(uintptr_t)j->nowhere - secret };
    j->slot_none[1] = (struct jslot){ 0 - secret, (uint64_t)(uintptr_t)j->nowhere };
    for (unsigned c = 0; c < NSLOTS / JIT_SLOT_CHUNK; c++)
        clear_chunk(j, c);
    j->slot_top = (uint64_t)(uintptr_t)j->slot_list;
    return 0;
}

void jit_slots_fini(struct jit *j)
{
    if (j->nowhere)
        munmap(j->nowhere, 8192);
}

/* The budget of a slot is gone.  @return whether it went too fast. */
static bool too_fast(struct jit *j, unsigned n)
{
    uint64_t now = __rdtsc(), since = j->slot_since[n];

    j->slot_since[n] = now;
    j->slot_budget[n] = JIT_SLOT_BUDGET;
    return since && now - since < (uint64_t)JIT_SLOT_BUDGET * MISS_CYCLES;
}

void jit_slots_judge(struct jit *j, const struct jblock *b)
{
    for (uint32_t at = b->slots; at;) {
        const struct jslot_site *u = (const struct jslot_site *)(const void *)(j->rw + at);

        if (j->slot_budget[u->number] < JIT_SLOT_BUDGET - JIT_TRY / TOO_MANY)
            *jit_hint(j, b->phys + u->s.off) |= JHINT_TLB;
        at = u->chain;
    }
}

const uint8_t *jit_c_slot(struct hv_vp *vp, const struct jslot_site *u)
{
    struct jit *j = jit_of(vp);

    j->stat[JST_MISS_SLOT]++;
    j->ea = j->lo - (uint64_t)(int64_t)u->s.glo;
    if (unlikely(j->slot_budget[u->number] < 0) && !(u->s.flags & JS_STI) && too_fast(j, u->number)) {
        struct jblock *b = &j->blocks[u->s.block];

        vp->cpu.rip = jit_rip_of(j, b) + u->s.off;
        if (u->s.flags & JS_XFLAGS)
            vp->cpu.fl = j->xf;
        *jit_hint(j, b->phys + u->s.off) |= JHINT_TLB;
        return jit_remake(vp, b);
    }
    return jit_c_miss(vp, &u->s);
}
