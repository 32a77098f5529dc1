/* SPDX-License-Identifier: BSD-2-Clause */
/* The interpreter engine: finding, building and dropping decoded blocks, and the run loop. */
#include "hv/interp/interp.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

/* ---- dropping ------------------------------------------------------------------------------------ */

static unsigned page_bucket(uint64_t ram_page) { return (unsigned)(ram_page & (INTERP_PAGES - 1)); }
static unsigned hash_bucket(uint64_t phys) { return (unsigned)((phys ^ (phys >> 15)) & (INTERP_HASH - 1)); }

/* No new entries; whoever is inside or jumps in leaves at the next instruction. */
static void block_kill(struct block *b)
{
    b->rip = ~0ull;
    b->gen = 0;
    for (unsigned i = 0; i < b->nops; i++)
        b->ops[i].fn = interp_resync_fn();
}

static void unlink_hash(struct interp *it, struct block *b)
{
    struct block **pp = &it->hash[hash_bucket(b->phys)];

    while (*pp && *pp != b)
        pp = &(*pp)->hash_next;
    if (*pp)
        *pp = b->hash_next;
}

static struct block **page_link(struct block *b, uint64_t ram_page)
{
    return &b->page_next[b->page2 == ram_page && b->phys >> 12 != ram_page];
}

static void unlink_page(struct interp *it, struct block *b, uint64_t ram_page)
{
    struct block **pp = &it->page[page_bucket(ram_page)];

    while (*pp && *pp != b) {
        /* The chain of a bucket goes through the link that belongs to the bucket. */
        struct block *c = *pp;
        unsigned n = page_bucket(c->phys >> 12) == page_bucket(ram_page) ? 0 : 1;

        pp = &c->page_next[n];
    }
    if (*pp)
        *pp = *page_link(b, ram_page);
}

static void block_drop(struct interp *it, struct block *b)
{
    unlink_hash(it, b);
    unlink_page(it, b, b->phys >> 12);
    if (b->page2 != ~0ull)
        unlink_page(it, b, b->page2);
    block_kill(b);
}

static void interp_code_drop(struct hv_vp *vp, uint64_t ram_page, uint64_t lines)
{
    struct interp *it = interp_of(vp);

    (void)lines;
    struct block *b = it->page[page_bucket(ram_page)], *next;

    for (; b; b = next) {
        unsigned n = page_bucket(b->phys >> 12) == page_bucket(ram_page) ? 0 : 1;

        next = b->page_next[n];
        if (b->phys >> 12 == ram_page || b->page2 == ram_page)
            block_drop(it, b);
    }
}

static void interp_reset(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);

    /* A block may be executing (its VP asked for the reset from inside an instruction): it must leave. */
    if (it->cur) {
        struct block *b = op_block(it->cur);

        for (unsigned i = 0; i < b->nops; i++)
            b->ops[i].fn = interp_resync_fn();
    }
    memset(it->jc, 0, sizeof(it->jc));
    memset(it->hash, 0, sizeof(it->hash));
    memset(it->page, 0, sizeof(it->page));
    it->link_from = NULL;
    it->used = 0;
    vp->mmu.fetch_gen++;
}

static void interp_stop_block(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);

    if (it->cur) {
        struct block *b = op_block(it->cur);

        if (b->rip != ~0ull && b != it->blk1)
            block_drop(it, b);
        else
            block_kill(b);
    }
}

/* ---- building --------------------------------------------------------------------------------------- */

static void *arena_take(struct interp *it, size_t len)
{
    void *p = it->arena + it->used;

    it->used += (len + 15) & ~(size_t)15;
    return p;
}

/* Decode at cpu.rip, whose page is @page (RAM page @ram_page), or NULL when it is not memory. */
static struct block *build(struct hv_vp *vp, uint64_t lin, const uint8_t *page, uint64_t ram_page)
{
    struct interp *it = interp_of(vp);
    struct x86_cpu *c = &vp->cpu;
    struct x86_insn insns[INTERP_MAX_INSNS];
    struct op ops[INTERP_MAX_INSNS * 2 + 1];
    bool need[INTERP_MAX_INSNS];
    uint16_t insn_of[INTERP_MAX_INSNS * 2 + 1];
    unsigned ninsns = 0, nops = 0, max = (c->key & X86_KEY_STEP) || !page ? 1 : INTERP_MAX_INSNS;
    bool step = (c->key & X86_KEY_STEP) || !page;
    uint64_t rip = c->rip, page2 = ~0ull;
    unsigned off = (unsigned)(lin & 4095), start = off;
    bool end = false;

    if (page)
        x86_code_claim(vp, ram_page, 1ull << (off / 64));
    memset(ops, 0, sizeof(ops));
    while (ninsns < max && !end) {
        struct x86_insn *in = &insns[ninsns];
        unsigned avail = 4096 - off, n;
        uint8_t buf[X86_MAX_INSN];
        const uint8_t *bytes = page ? page + off : buf;
        int len;

        if (page) {
            /* All lines that this instruction can lie in, before its bytes are read. */
            unsigned last = off + X86_MAX_INSN - 1 > 4095 ? 4095 : off + X86_MAX_INSN - 1;

            if (last / 64 != off / 64 || off % 64 < X86_MAX_INSN)
                x86_code_claim(vp, ram_page, 1ull << (off / 64) | 1ull << (last / 64));
        } else {
            if (avail > X86_MAX_INSN)
                avail = X86_MAX_INSN;
            x86_fetch_bytes(vp, lin, buf, avail);
        }
        len = x86_decode(bytes, avail > X86_MAX_INSN ? X86_MAX_INSN : avail, (enum x86_mode)c->mode, in);
        if (len == 0) { /* goes on in the next page */
            uint64_t lin2 = (lin | 4095) + 1, rp2;
            const uint8_t *p2;

            if (ninsns)
                break; /* a block of its own */
            if (c->mode != X86_MODE_64)
                lin2 = (uint32_t)lin2;
            p2 = x86_fetch_page(vp, lin2, &rp2);
            if (page) /* that walk may have set A and D beside this */
                x86_code_claim(vp, ram_page, 1ull << (off / 64) | 1ull << 63);
            for (n = 0; n < avail; n++)
                buf[n] = bytes[n];
            if (p2) {
                if (page) {
                    x86_code_claim(vp, rp2, 1);
                    page2 = rp2;
                }
                memcpy(buf + avail, p2, X86_MAX_INSN - avail);
            } else {
                x86_fetch_bytes(vp, lin2, buf + avail, X86_MAX_INSN - avail);
                step = true;
                page = NULL;
            }
            len = x86_decode(buf, X86_MAX_INSN, (enum x86_mode)c->mode, in);
            end = true;
        }
        if (len < 0 || len == 0) { /* undefined, or too long: raised when it is reached */
            if (ninsns)
                break;
            memset(in, 0, sizeof(*in));
            in->op = X86_OP_INVALID;
            in->mode = c->mode;
            in->imm = len == -13 ? X86_EXC_GP : X86_EXC_UD;
            in->attr = X86_A_END;
        }
        /* CS limit, outside 64-bit mode (SDM 3A 5.3). */
        if (c->mode != X86_MODE_64 && in->len && rip + in->len - 1 > c->seg[X86_CS].limit) {
            if (ninsns)
                break;
            memset(in, 0, sizeof(*in));
            in->op = X86_OP_INVALID;
            in->imm = X86_EXC_GP;
            in->attr = X86_A_END;
        }
        need[ninsns] = false;
        bool e2 = false;

        n = interp_bind(vp, &ops[nops], in, rip, step, &e2, &need[ninsns]);
        for (unsigned i = 0; i < n; i++) {
            ops[nops + i].off = (uint16_t)(rip - c->rip);
            ops[nops + i].len = in->len;
            ops[nops + i].done = (uint8_t)ninsns;
            ops[nops + i].insn = need[ninsns] ? in : NULL;
            insn_of[nops + i] = (uint16_t)ninsns;
        }
        nops += n;
        ninsns++;
        end = end || e2;
        rip += in->len;
        lin += in->len;
        off += in->len;
        if (e2)
            goto built;
        if (off > 4095)
            break;
    }
    if (c->mode != X86_MODE_64)
        rip = (uint32_t)rip;
    interp_bind_fall(&ops[nops], rip);
    ops[nops].off = (uint16_t)(rip - c->rip);
    ops[nops].done = (uint8_t)ninsns;
    nops++;
built:;
    unsigned nneed = 0;

    for (unsigned i = 0; i < ninsns; i++)
        nneed += need[i];
    size_t size = sizeof(struct block) + nops * sizeof(struct op);
    struct block *b;

    if (page) {
        if (x86_vec_full(vp)) {
            interp_reset(vp);
            x86_vec_flush(vp); /* what was just bound goes too: decode this block again */
            return build(vp, lin - (rip - c->rip), page, ram_page);
        }
        if (it->used + size + nneed * sizeof(struct x86_insn) + 64 > INTERP_ARENA)
            interp_reset(vp);
        b = arena_take(it, size);
    } else {
        b = it->blk1;
    }
    struct x86_insn *keep = page ? arena_take(it, nneed * sizeof(struct x86_insn))
                                 : (struct x86_insn *)((uint8_t *)it->blk1 + sizeof(struct block) + 4 * sizeof(struct op));
    unsigned k = 0;
    const struct x86_insn *kept[INTERP_MAX_INSNS];

    for (unsigned i = 0; i < ninsns; i++)
        if (need[i]) {
            keep[k] = insns[i];
            kept[i] = &keep[k++];
        }
    *b = (struct block){ .rip = c->rip, .rip0 = c->rip, .phys = ram_page << 12 | start, .page2 = page2, .key = c->key,
                         .gen = vp->mmu.fetch_gen, .ninsns = (uint16_t)ninsns, .nops = (uint16_t)nops,
                         .len = (uint16_t)(rip - c->rip) };
    for (unsigned i = 0; i < nops; i++) {
        b->ops[i] = ops[i];
        b->ops[i].index = (uint16_t)i;
        /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized*): a record with an instruction is one of those needed */
        b->ops[i].insn = ops[i].insn ? kept[insn_of[i]] : NULL;
    }
    vp->counters[HV_CTR_BLOCKS_BUILT]++;
    if (!page) {
        b->gen = 0;
        b->rip = ~0ull;
        return b;
    }
    struct block **h = &it->hash[hash_bucket(b->phys)];

    b->hash_next = *h;
    *h = b;
    h = &it->page[page_bucket(ram_page)];
    b->page_next[0] = *h;
    *h = b;
    if (page2 != ~0ull) {
        if (page_bucket(page2) == page_bucket(ram_page)) {
            /* One chain serves both pages; code_drop looks at both numbers. */
            return b;
        }
        h = &it->page[page_bucket(page2)];
        b->page_next[1] = *h;
        *h = b;
    }
    return b;
}

/* ---- finding ------------------------------------------------------------------------------------------ */

static struct block *find(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);
    struct x86_cpu *c = &vp->cpu;
    unsigned slot = jc_slot(c->rip);
    struct block *b;
    uint64_t lin, ram_page = 0;
    const uint8_t *page;
    uint32_t gen;

    if (unlikely(c->seg[X86_CS].base != it->cs_base || c->seg[X86_CS].limit != it->cs_limit) &&
        c->mode != X86_MODE_64) {
        it->cs_base = c->seg[X86_CS].base;
        it->cs_limit = c->seg[X86_CS].limit;
        vp->mmu.fetch_gen++;
    }
again:
    b = it->jc[slot];
    if (likely(b && b->rip == c->rip && b->key == c->key && b->gen == vp->mmu.fetch_gen))
        return b;
    if (c->mode == X86_MODE_64) {
        lin = c->rip;
    } else {
        if (unlikely(c->rip > c->seg[X86_CS].limit))
            x86_raise_err(vp, X86_EXC_GP, 0);
        lin = (uint32_t)(c->seg[X86_CS].base + c->rip);
    }
    gen = vp->mmu.fetch_gen;
    page = x86_fetch_page(vp, lin, &ram_page);
    if (unlikely(!page))
        return build(vp, lin, NULL, 0);
    uint64_t phys = ram_page << 12 | (lin & 4095);

    for (b = it->hash[hash_bucket(phys)]; b; b = b->hash_next) {
        if (b->phys != phys || b->rip != c->rip || b->key != c->key)
            continue;
        if (c->mode != X86_MODE_64 && (!b->len || b->rip + b->len - 1 > c->seg[X86_CS].limit)) {
            block_drop(it, b); /* made for another CS limit */
            b = NULL;
            break;
        }
        if (b->page2 != ~0ull) {
            uint64_t rp2, lin2 = (lin | 4095) + 1;

            if (!x86_fetch_page(vp, c->mode == X86_MODE_64 ? lin2 : (uint32_t)lin2, &rp2) || rp2 != b->page2)
                continue;
        }
        break;
    }
    if (!b)
        b = build(vp, lin, page, ram_page);
    if (unlikely(vp->mmu.fetch_gen != gen)) /* while it waited for others: perhaps something else is there now */
        goto again;
    if (unlikely(b->rip == ~0ull)) /* part of it is no RAM: nothing is kept of it */
        return b;
    b->gen = gen;
    it->jc[slot] = b;
    return b;
}

/* ---- running -------------------------------------------------------------------------------------------- */

static void run_block(struct hv_vp *vp, struct block *b)
{
    vp->counters[HV_CTR_INSNS] += b->ninsns;
#if INTERP_TAIL
    b->ops[0].fn(vp, &b->ops[0]);
#else
    for (const struct op *op = &b->ops[0]; op;)
        op = op->fn(vp, op);
#endif
}

/* One instruction with everything that can happen around it: breakpoints, shadows, single step (SDM 3A 6.8.3,
 * 17.3). */
static void run_step(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);
    struct x86_cpu *c = &vp->cpu;
    uint8_t shadow = c->int_shadow;
    bool tf = c->eflags & EF_TF;
    uint64_t dr6 = 0;
    uint16_t op;
    struct block *b;

    if (shadow != 2)
        x86_debug_fetch(vp);
    b = find(vp);
    it->link_from = NULL;
    op = b->ops[0].insn ? b->ops[0].insn->op : X86_OP_INVALID;
    c->int_shadow = 0;
    c->eflags &= ~(uint32_t)EF_RF;
    vp->mmu.dr6_hits = 0;
    run_block(vp, b);
    if (shadow && !c->int_shadow)
        hv_vp_window(vp);
    x86_update_mode(vp);
    if (c->int_shadow == 2)
        return;
    if (tf && ((c->eflags & EF_TF) || (op != X86_OP_INT && op != X86_OP_INT3 && op != X86_OP_INTO &&
                                       op != X86_OP_INT1 && op != X86_OP_SYSCALL && op != X86_OP_SYSENTER)))
        dr6 |= 1u << 14;
    dr6 |= vp->mmu.dr6_hits;
    vp->mmu.dr6_hits = 0;
    if (dr6)
        x86_debug_trap(vp, dr6);
}

void interp_abandon(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);

    if (it->cur) {
        /* The block counted as a whole: take back what was not done. */
        struct block *b = op_block(it->cur);

        if (b->ninsns > it->cur->done)
            vp->counters[HV_CTR_INSNS] -= (uint64_t)(b->ninsns - it->cur->done);
    }
    it->cur = NULL;
    it->link_from = NULL;
}

void interp_between(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);

    it->cur = NULL;
    it->link_from = NULL;
}

void interp_once(struct hv_vp *vp)
{
    if (vp->cpu.key & X86_KEY_STEP)
        run_step(vp);
    else
        run_block(vp, find(vp));
}

static void interp_run(struct hv_vp *vp)
{
    struct interp *it = interp_of(vp);

    x86_mmu_enter(vp);
    if (_setjmp(vp->jmp)) {
        if (vp->p->excl_owner == vp)
            x86_mmu_exclusive_end(vp);
        interp_abandon(vp);
        vp->mmu.dr6_hits = 0;
        vp->cpu.int_shadow = 0;
        vp->counters[HV_CTR_EXCEPTIONS]++;
        x86_exception_entry(vp);
    }
    for (;;) {
        struct block *b;

        it->cur = NULL;
        if (unlikely(atomic_load_explicit(&vp->attention, memory_order_acquire)) || vp->run_state != HV_VP_RUNNING) {
            it->link_from = NULL;
            if (hv_vp_events(vp))
                break;
        }
        if (unlikely(vp->mmu.dr6_hits)) {
            uint64_t hits = vp->mmu.dr6_hits;

            vp->mmu.dr6_hits = 0;
            x86_debug_trap(vp, hits);
            continue;
        }
        if (unlikely(vp->cpu.key & X86_KEY_STEP)) {
            run_step(vp);
            continue;
        }
        b = find(vp);
        if (it->link_from) {
            if (b->gen)
                it->link_from->succ[it->link_slot] = b;
            it->link_from = NULL;
        }
        run_block(vp, b);
    }
    x86_x87_spill(vp);
    x86_mmu_leave(vp);
}

/* ---- engine ------------------------------------------------------------------------------------------------ */

static bool interp_probe(char *reason, size_t len)
{
    snprintf(reason, len, "runs on every x86-64 host");
    return true;
}

static void interp_destroy(struct hv_vp *vp)
{
    struct interp *it = vp->engine_data;

    if (!it)
        return;
    if (it->arena)
        munmap(it->arena, INTERP_ARENA);
    free(it->blk1);
    munmap(it, sizeof(*it));
    vp->engine_data = NULL;
}

static int interp_create(struct hv_vp *vp)
{
    struct interp *it = mmap(NULL, sizeof(*it), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (it == MAP_FAILED)
        return hv_fail(-ENOMEM, "interpreter: no memory for the block tables");
    vp->engine_data = it;
    it->arena = mmap(NULL, INTERP_ARENA, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (it->arena == MAP_FAILED)
        it->arena = NULL;
    it->blk1 = calloc(1, sizeof(struct block) + 4 * sizeof(struct op) + sizeof(struct x86_insn));
    if (!it->arena || !it->blk1) {
        interp_destroy(vp);
        return hv_fail(-ENOMEM, "interpreter: no memory for decoded blocks");
    }
    return 0;
}

const struct hv_engine hv_engine_interp = {
    .name = "interp",
    .summary = "interpreter of decoded blocks, the reference",
    .probe = interp_probe,
    .vp_create = interp_create,
    .vp_destroy = interp_destroy,
    .run = interp_run,
    .reset = interp_reset,
    .code_drop = interp_code_drop,
    .stop_block = interp_stop_block,
};
