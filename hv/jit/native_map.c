/* SPDX-License-Identifier: BSD-2-Clause */
/* The memory of an executor: what its program's page tables say, as a TLB has it.
 *
 * A page is mapped when an access to it was a signal, with its neighbours that have been accessed before, and writable
 * only if it is dirty and holds no code; so nothing has to be noted for the guest later.  Where a program may execute and
 * not write it is mapped as code, if it has been looked through (native_scan.c, native_patch.c); from then on its RAM page holds code, for
 * all processors, and stores to it are noticed like those to code that has been translated.  A page is taken away when the
 * guest tells the processor that it may have changed the tables, as far as they have changed: mmu.taken[], that is
 * what the other caches of addresses follow.  Reference: Intel SDM 3A 4.5, 4.10. */
#include "hv/jit/native.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define USER_END 0x7ffffffff000ull

enum { AROUND = 64 /* pages that are looked at together */, LEAST = 65536 /* of addresses: mmap_min_addr */ };

/* What leads to the 2 MB of an address. */
struct dir {
    const uint64_t *table;          /* of 512 entries; NULL: @large is all of it */
    uint64_t large;
    bool write, nx;
};

struct batch {
    struct jnat_executor *x;
    struct jwin *w;
    int err;
};

static struct jnat_op *next(struct batch *b)
{
    if (b->x->nops == JNAT_OPS && !b->err)
        b->err = jnat_flush(b->x, b->w);
    if (b->err)
        b->x->nops = 0;
    return &b->w->ro.op[b->x->nops++];
}

/* What can be more of the same. */
static struct jnat_op *last(const struct batch *b) { return b->x->nops ? &b->w->ro.op[b->x->nops - 1] : NULL; }

/* @now: it is accessed next; the host's kernel takes others when they are accessed. */
static void put_map(struct batch *b, uint64_t va, int fd, uint64_t offset, int rights, bool now)
{
    uint64_t prot = PROT_READ | (uint64_t)rights;
    struct jnat_op *l = last(b);

    if (l && l->nr == SYS_mmap && l->arg[0] + l->arg[1] == va && l->arg[5] + l->arg[1] == offset && l->arg[2] == prot && l->arg[4] == (uint64_t)fd) {
        l->arg[1] += 4096;
        l->arg[3] |= now ? MAP_POPULATE : 0;
        return;
    }
    *next(b) = (struct jnat_op){ SYS_mmap, { va, 4096, prot, MAP_SHARED | MAP_FIXED | (now ? MAP_POPULATE : 0), (uint64_t)fd, offset }, 0 };
}

static void put_unmap(struct batch *b, uint64_t va)
{
    struct jnat_op *l = last(b);

    if (l && l->nr == SYS_munmap && l->arg[0] + l->arg[1] == va) {
        l->arg[1] += 4096;
        return;
    }
    *next(b) = (struct jnat_op){ SYS_munmap, { va, 4096 }, 0 };
}

static const uint64_t *table_at(struct hv_vp *vp, uint64_t gpa)
{
    struct hv_gpa_ref ref;

    return hv_gpa_lookup(vp->p, gpa & PE_ADDR, &ref) ? ref.hva : NULL;
}

/* The upper levels, for a program.  Nothing is written, no fault is raised. */
static bool look(struct hv_vp *vp, uint64_t va, struct dir *d)
{
    uint64_t gpa = vp->cpu.cr3, e;

    *d = (struct dir){ .write = true };
    for (unsigned shift = 39;; shift -= 9) {
        const uint64_t *t = table_at(vp, gpa);

        if (shift == 12) {
            d->table = t;
            return t != NULL;
        }
        if (!t)
            return false;
        e = __atomic_load_n(&t[va >> shift & 511], __ATOMIC_RELAXED);
        if ((e & (PE_P | PE_U | PE_A)) != (PE_P | PE_U | PE_A))
            return false;
        d->write = d->write && (e & PE_W);
        d->nx = d->nx || (e & PE_NX);
        if (shift < 39 && (e & PE_PS)) {
            d->large = e;
            return shift == 21;
        }
        gpa = e;
    }
}

static uint64_t entry(const struct dir *d, unsigned i) { return d->table ? __atomic_load_n(&d->table[i], __ATOMIC_RELAXED) : d->large; }

/* Entry @e of page @i: where it is in RAM, and whether it may be written without anybody looking.  @return 0: not here. */
static bool resolve(struct hv_vp *vp, const struct dir *d, unsigned i, uint64_t e, uint64_t *ret_page, bool *ret_write)
{
    uint64_t gpa = d->table ? e & PE_ADDR : (e & PE_ADDR & ~0x1fffffull) + (uint64_t)i * 4096, self = 1ull << vp->index;
    struct hv_gpa_ref ref;
    struct x86_page *pg;

    if ((e & (PE_P | PE_U | PE_A)) != (PE_P | PE_U | PE_A) || !hv_gpa_lookup(vp->p, gpa, &ref))
        return false;
    *ret_page = ref.ram_page;
    *ret_write = false;
    if (!d->write || (e & (PE_W | PE_D)) != (PE_W | PE_D) || !(ref.flags & HV_MAP_WRITE) || (ref.flags & HV_MAP_DIRTY_LOG))
        return true;
    /* As for a write tag of the TLB: first say that this VP may write, then look whether the page holds code. */
    pg = &vp->p->pages[ref.ram_page];
    if (atomic_load_explicit(&pg->lines, memory_order_relaxed))
        return true;
    if (!(atomic_load_explicit(&pg->write_vps, memory_order_relaxed) & self))
        atomic_fetch_or(&pg->write_vps, self);
    *ret_write = !atomic_load(&pg->lines);
    return true;
}

/* Where @va is in RAM, as the tables say; nothing is noted.  @return NULL: nowhere. */
static const uint8_t *peek(struct hv_vp *vp, uint64_t va)
{
    struct hv_gpa_ref ref;
    struct dir d;
    uint64_t e;

    if (va >= USER_END || !look(vp, va, &d))
        return NULL;
    e = entry(&d, va >> 12 & 511);
    if ((e & (PE_P | PE_U)) != (PE_P | PE_U) || !hv_gpa_lookup(vp->p, d.table ? e & PE_ADDR : (e & PE_ADDR & ~0x1fffffull) + (va & 0x1ff000), &ref))
        return NULL;
    return ref.hva;
}

int jnat_byte(struct hv_vp *vp, uint64_t va)
{
    const uint8_t *p = peek(vp, va);

    return p ? p[va & 4095] : -1;
}

uint64_t jnat_program(struct hv_vp *vp)
{
    uint64_t e = vp->cpu.cr3;

    for (unsigned level = 0; level < 4; level++) {
        const uint64_t *t = table_at(vp, e);
        unsigned i = 0, n = level ? 512 : 256;

        while (t && i < n && ((e = __atomic_load_n(&t[i], __ATOMIC_RELAXED)) & (PE_P | PE_U)) != (PE_P | PE_U))
            i++;
        if (!t || i == n)
            return 0;
        if (level && level < 3 && (e & PE_PS))
            break;
    }
    return e & PE_ADDR;
}

/* The page at @va, RAM page @ram_page: can an executor run its code?  Stores to it are noticed from now on. */
static bool can_run(struct hv_vp *vp, uint64_t va, uint64_t ram_page)
{
    struct jnat *n = vp->jit->nat;
    const uint8_t *p = vp->mmu.ram + (ram_page << 12), *before = peek(vp, va - 4096), *behind;

    if (!(n->page[ram_page] & JNAT_LOOKED)) {
        x86_code_claim(vp, ram_page, ~0ull);
        jnat_look_through(n, ram_page, p, before);
    }
    if (!(n->page[ram_page] & JNAT_CAN_RUN))
        return false;
    /* Instructions that begin in the page before, or end in the one behind, as those are now: who changes them has them looked at, too. */
    behind = peek(vp, va + 4096);
    return !(behind && jnat_scan_across(p, behind)) && !(before && jnat_scan_across(before, p));
}

/* Page @i of @d, whose entry is @e: a page of code?  Programs may execute it, and have not written to it lately. */
static bool is_code(const struct dir *d, uint64_t e) { return !d->nx && !(e & PE_NX) && !(d->write && (e & (PE_W | PE_D)) == (PE_W | PE_D)); }

bool jnat_sensitive(struct hv_vp *vp, uint64_t va)
{
    uint64_t page, e;
    struct dir d;
    bool w;

    va &= ~4095ull;
    if (va >= USER_END || !look(vp, va, &d))
        return false;
    e = entry(&d, va >> 12 & 511);
    return resolve(vp, &d, va >> 12 & 511, e & ~PE_D, &page, &w) && !d.nx && !(e & PE_NX) && !can_run(vp, va, page);
}

void jnat_seen_at(struct hv_vp *vp, const struct x86_insn *in, uint64_t rip)
{
    const uint8_t *p = !in || jnat_is_sensitive(in->op) ? peek(vp, rip) : NULL;
    uint64_t at;

    if (!p)
        return;
    at = (uint64_t)((uintptr_t)p - (uintptr_t)vp->mmu.ram);
    if (at >= hv_ram_len(vp->p))
        return;
    if (in)
        jit_native_seen(vp, in, at >> 12, rip & 4095);
    else
        jnat_executed(vp->jit->nat, at >> 12, rip & 4095, false);
}

void jit_native_code_drop(struct hv_vp *vp, uint64_t ram_page)
{
    struct jnat *n = vp->jit->nat;

    if (n)
        jnat_patch_forget(n, ram_page);
}

static struct jnat_region **bucket(struct jnat_executor *x, uint64_t va) { return &x->region[(va ^ va >> 10) & (JNAT_REGIONS - 1)]; }

/* Those without pages go. */
static void free_empty(struct jnat_executor *x)
{
    struct jnat_region **at = &x->all, *r;

    while ((r = *at)) {
        struct jnat_region **b = bucket(x, r->va);

        if (r->n) {
            at = &r->all;
            continue;
        }
        while (*b != r)
            b = &(*b)->next;
        *b = r->next;
        *at = r->all;
        x->nregions--;
        free(r);
    }
}

/* How many there may be of a VP: what the host needs for them is in proportion to the guest's memory. */
static unsigned regions_most(const struct hv_vp *vp)
{
    uint64_t n = JNAT_REGIONS_LEAST + (hv_ram_len(vp->p) >> 12) / JNAT_REGION_PAGES / vp->p->nvps;

    return n < JNAT_REGIONS_MOST ? (unsigned)n : JNAT_REGIONS_MOST;
}

/* Can @x have one more?  Other executors give way. */
static bool room(const struct hv_vp *vp, struct jnat_executor *x)
{
    struct jnat *n = vp->jit->nat;
    unsigned most = regions_most(vp), all = 0;

    for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
        all += n->exec[i].nregions;
    if (likely(all < most))
        return true;
    all -= x->nregions;
    free_empty(x);
    if (all + x->nregions < most)
        return true;
    for (unsigned i = 0; i < JNAT_EXECUTORS; i++)
        if (&n->exec[i] != x)
            jnat_kill(&n->exec[i]);
    return x->nregions < most;
}

static struct jnat_region *region_of(const struct hv_vp *vp, struct jnat_executor *x, uint64_t va, bool make)
{
    struct jnat_region **at = bucket(x, va), *r;

    for (r = *at; r; r = r->next)
        if (r->va == va)
            return r;
    if (!make || !room(vp, x) || !(r = calloc(1, sizeof(*r))))
        return NULL;
    at = bucket(x, va);
    x->nregions++;
    r->va = va;
    r->next = *at;
    *at = r;
    r->all = x->all;
    x->all = r;
    return r;
}

static void forget(struct jnat_executor *x, struct jnat_region *r, unsigned i)
{
    r->pte[i] = 0;
    jnat_set_bit(r->writable, i, false);
    jnat_set_bit(r->code, i, false);
    r->n--;
    x->npages--;
}

static void drop(struct batch *b, struct jnat_region *r, unsigned i)
{
    forget(b->x, r, i);
    put_unmap(b, r->va << 21 | (uint64_t)i << 12);
}

/* What is mapped of @r: is it what the tables say?  @deep: look also at what is behind them. */
static void verify(struct hv_vp *vp, struct batch *b, struct jnat_region *r, bool deep)
{
    struct dir d;
    bool there = r->n && look(vp, r->va << 21, &d);
    unsigned left = r->n;

    for (unsigned i = 0; left; i++) {
        uint64_t e, page, was = r->pte[i];
        bool write, w = jnat_bit(r->writable, i);

        if (!was)
            continue;
        left--;
        e = there ? entry(&d, i) : 0;
        if (((e ^ was) & (PE_ADDR | PE_P | PE_U | (w ? PE_W | PE_D : 0))) || !(e & PE_A) || (w && !d.write) ||
            (jnat_bit(r->code, i) && (d.nx || (e & PE_NX))) || (!d.table) != (r->large != 0)) {
            drop(b, r, i);
        } else if (deep) {
            if (!resolve(vp, &d, i, e, &page, &write) || page != r->page[i])
                drop(b, r, i);
            else if (w && !write)
                drop(b, r, i);
        }
    }
    if (!r->n)
        r->large = 0;
}

/* Nobody may write to this RAM page without notice any more. */
static void unwrite(struct batch *b, uint32_t page)
{
    for (struct jnat_region *r = b->x->all; r; r = r->all)
        for (unsigned k = 0; k < 8; k++)
            for (uint64_t left = r->writable[k]; left; left &= left - 1) {
                unsigned i = k * 64 + (unsigned)__builtin_ctzll(left);

                if (r->page[i] == page)
                    drop(b, r, i);
            }
}

/* Code that has been written to is looked at again. */
static void uncode(const struct jnat *n, struct batch *b)
{
    for (struct jnat_region *r = b->x->all; r; r = r->all)
        for (unsigned k = 0; k < 8; k++)
            for (uint64_t left = r->code[k]; left; left &= left - 1) {
                unsigned i = k * 64 + (unsigned)__builtin_ctzll(left);

                if (!(n->page[r->page[i]] & JNAT_CAN_RUN) || r->from[i] != jnat_code_from(n, r->page[i]))
                    drop(b, r, i);
            }
}

int jnat_sync(struct hv_vp *vp, struct jnat_executor *x)
{
    struct x86_mmu *m = &vp->mmu;
    const struct jnat *n = vp->jit->nat;
    struct batch b = { .x = x, .w = n->win };
    uint32_t to = m->tlb_gen, gen = x->seen_gen;
    bool all = false, deep = to - gen > X86_TAKEN_LOG;

    while (!deep && gen != to) {
        const struct x86_taken *t = &m->taken[++gen % X86_TAKEN_LOG];
        struct jnat_region *r;
        uint32_t page;

        switch (t->kind) {
        case X86_TAKEN_PAGE:
            r = region_of(vp, x, t->page >> 21, false);
            if (r && r->large)
                verify(vp, &b, r, false);
            else if (r && r->pte[t->page >> 12 & 511])
                drop(&b, r, t->page >> 12 & 511);
            break;
        case X86_TAKEN_WRITE:
            page = (uint32_t)((t->page - (uint64_t)(uintptr_t)m->ram) >> 12);
            if (n->page[page] & JNAT_WRITTEN)
                unwrite(&b, page);
            break;
        case X86_TAKEN_NONGLOBAL: all = true; break;
        default: deep = true; break;
        }
    }
    if (all || deep)
        for (struct jnat_region *r = x->all; r; r = r->all)
            verify(vp, &b, r, deep);
    if (x->seen_gone != n->gone)
        uncode(n, &b);
    x->seen_gen = to;
    x->seen_gone = n->gone;
    return b.err;
}

/* Is it where the executor has its own, or the host has nothing for programs? */
static bool taken_place(struct hv_vp *vp, uint64_t va)
{
    const struct jnat *n = vp->jit->nat;

    return va < LEAST || va >= USER_END - 4096 || va - (uint64_t)(uintptr_t)n->win < sizeof(struct jwin);
}

bool jnat_place_free(struct hv_vp *vp)
{
    unsigned slot = jnat_slot(vp->jit->nat->win);
    struct hv_gpa_ref ref;

    if (!hv_gpa_lookup(vp->p, vp->cpu.cr3 & PE_ADDR, &ref))
        return false;
    /* Another thread of the program may put something there while this one runs: a store to this entry is one to code, and
     * makes the VP look.  It is made by the guest's kernel, long before the other thread can speak of it. */
    if (vp->p->nvps > 1)
        x86_code_claim(vp, ref.ram_page, 1ull << slot / 8);
    return !(__atomic_load_n((const uint64_t *)ref.hva + slot, __ATOMIC_RELAXED) & PE_P);
}

/* Page @i of @r, with entry @e: is it to be mapped, and how?  @return PROT_WRITE, PROT_EXEC, 0; negative: not. */
static int rights(struct hv_vp *vp, const struct dir *d, unsigned i, uint64_t e, uint64_t va, unsigned acc, uint64_t *ret_page)
{
    bool code = is_code(d, e) || (acc == X86_ACC_EXEC && !d->nx && !(e & PE_NX)), w;

    /* The right to write is taken of what is not code only. */
    if (!resolve(vp, d, i, code ? e & ~PE_D : e, ret_page, &w))
        return -1;
    if (w) {
        vp->jit->nat->page[*ret_page] |= JNAT_WRITTEN;
        return PROT_WRITE;
    }
    /* Neighbours that have not been looked through are not now: they may never be executed. */
    return code && (acc == X86_ACC_EXEC || (vp->jit->nat->page[*ret_page] & JNAT_LOOKED)) && can_run(vp, va, *ret_page) ? PROT_EXEC : 0;
}

int jnat_fault(struct hv_vp *vp, struct jnat_executor *x, uint64_t va, unsigned acc)
{
    const struct jnat *n = vp->jit->nat;
    struct batch b = { .x = x, .w = n->win };
    int fd = hv_ram_fd(vp->p);
    unsigned at = va >> 12 & 511, first = at & ~(AROUND - 1u), end = first + AROUND;
    int need = acc == X86_ACC_WRITE ? PROT_WRITE : acc == X86_ACC_EXEC ? PROT_EXEC : 0, got;
    struct jnat_region *r;
    struct dir d;
    uint64_t page;

    va &= ~4095ull;
    if (taken_place(vp, va) || !look(vp, va, &d) || (got = rights(vp, &d, at, entry(&d, at), va, acc, &page)) < 0 || (need && got != need))
        return 0;
    r = region_of(vp, x, va >> 21, true);
    if (!r)
        return -ENOMEM;
    if (r->n && (r->large != 0) != !d.table)
        return 0;
    if (r->pte[at] && (!need || jnat_bit(need == PROT_WRITE ? r->writable : r->code, at)))
        return 0; /* it was there */
    r->large = d.table ? 0 : d.large;
    if (!d.table) { /* one piece, usually */
        first = 0;
        end = 512;
    }
    for (unsigned i = first; i < end; i++) {
        uint64_t e = entry(&d, i), to = r->va << 21 | (uint64_t)i << 12;

        if ((r->pte[i] && i != at && (jnat_bit(r->writable, i) || jnat_bit(r->code, i) || !(e & PE_D))) || taken_place(vp, to) ||
            (got = rights(vp, &d, i, e, to, i == at ? acc : X86_ACC_READ, &page)) < 0 || (r->pte[i] && !got))
            continue;
        if (!r->pte[i]) {
            r->n++;
            x->npages++;
        }
        r->pte[i] = e;
        r->page[i] = (uint32_t)page;
        jnat_set_bit(r->writable, i, got == PROT_WRITE);
        jnat_set_bit(r->code, i, got == PROT_EXEC);
        r->from[i] = got == PROT_EXEC ? jnat_code_from(n, page) : ~0ull;
        if (~r->from[i])
            put_map(&b, to, n->patch_fd, r->from[i], got, i == at);
        else
            put_map(&b, to, fd, page << 12, got, i == at);
    }
    return b.err ? b.err : r->pte[at] && (!need || jnat_bit(need == PROT_WRITE ? r->writable : r->code, at));
}

void jnat_unmap_all(struct jnat_executor *x)
{
    for (unsigned k = 0; k < JNAT_REGIONS; k++)
        while (x->region[k]) {
            struct jnat_region *r = x->region[k];

            x->region[k] = r->next;
            free(r);
        }
    x->all = NULL;
    x->npages = x->nregions = 0;
}
