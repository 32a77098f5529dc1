/* SPDX-License-Identifier: BSD-2-Clause */
/* Paging and memory access for the software engines: page walks (SDM 3A chapter 4), the software TLB,
 * accesses that miss it, and the bookkeeping that keeps translated code equal to memory.
 *
 * Between threads.  A VP uses its TLB only while mmu.in_guest is set.  Who wants another VP's TLB or code
 * changed puts a request into its mailbox, sets HV_ATT_SYNC and, where the old state must not be used any
 * longer, waits until the VP has taken the request or is out of the guest; a VP that comes in looks at its
 * mailbox first.  A waiting VP is itself out of the guest, so that two may wait for each other. */
#include "hv/x86/mmu.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "hv/x86/exec.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum { REQ_FLUSH = 1, REQ_REVOKE = 2, REQ_DROP = 4 };
enum { R_USER = 1, R_WRITE = 2, R_NX = 4 };
/* RAM pages that fit the lazily backed table: 1 TB. */

struct walk {
    uint64_t gpa;      /* of the byte */
    uint8_t rights;    /* R_* joined over the levels */
    bool dirty;        /* the last entry has D set (or there is no paging) */
    bool global;
    uint8_t large;     /* 0, or log2 of the size of a large page */
};

/* ---- the TLB itself ---------------------------------------------------------------------------- */

static void tlb_clear_slot(struct x86_tlb_entry *e, unsigned slot)
{
    e->nrd = e->nwr = x86_tlb_never(slot);
}

static void tlb_clear_view(struct x86_tlb *t)
{
    for (unsigned i = 0; i < X86_TLB_SIZE; i++)
        tlb_clear_slot(&t->e[i], i);
}

static void tlb_clear_log(struct x86_mmu *m, unsigned which)
{
    for (unsigned i = 0; i < m->nlog[which]; i++) {
        unsigned v = m->log[which][i] >> X86_TLB_BITS, s = m->log[which][i] & (X86_TLB_SIZE - 1);

        tlb_clear_slot(&m->views[v].e[s], s);
    }
    m->nlog[which] = 0;
}

static void taken(struct x86_mmu *m, unsigned kind, uint64_t page)
{
    m->tlb_gen++;
    m->taken[m->tlb_gen % X86_TAKEN_LOG] = (struct x86_taken){ page, (uint8_t)kind };
}

static void fetch_changed(struct x86_mmu *m, unsigned kind, uint64_t lin)
{
    m->fetch_gen++;
    m->fetch_log[m->fetch_gen % X86_FETCH_LOG] = (struct x86_fetch_event){ lin, (uint8_t)kind };
}

static void fetch_flush(struct x86_mmu *m, bool global)
{
    fetch_changed(m, global ? X86_FETCH_ALL : X86_FETCH_NONGLOBAL, 0);
    memset(m->fetched[0], 0, sizeof(m->fetched[0]));
    if (global)
        memset(m->fetched[1], 0, sizeof(m->fetched[1]));
    for (unsigned i = 0; i < X86_ITLB_SIZE; i++)
        if (global || !m->itlb[i].global)
            m->itlb[i].tag = ~0ull;
}

/* Entries carry the generation in which they were made. */
static void pdc_flush(struct x86_mmu *m)
{
    if (++m->pdc_gen < (1u << 21) - 1) /* the last one would make the tag of the upper 2 MB that of no entry */
        return;
    m->pdc_gen = 0;
    for (unsigned i = 0; i < X86_PDC_SIZE; i++)
        m->pdc[i].tag = ~0ull;
}

void x86_tlb_flush_all(struct hv_vp *vp)
{
    struct x86_mmu *m = &vp->mmu;

    vp->counters[HV_CTR_TLB_FLUSHES]++;
    taken(m, X86_TAKEN_ALL, 0);
    if (m->nlog[0] == X86_TLB_LOG || m->nlog[1] == X86_TLB_LOG) {
        for (unsigned v = 0; v < X86_VIEW_CHECKED; v++)
            tlb_clear_view(&m->views[v]);
        m->nlog[0] = m->nlog[1] = 0;
    } else {
        tlb_clear_log(m, 0);
        tlb_clear_log(m, 1);
    }
    memset(m->large, 0, sizeof(m->large));
    m->huge = 0;
    pdc_flush(m);
    fetch_flush(m, true);
}

void x86_tlb_flush_nonglobal(struct hv_vp *vp)
{
    struct x86_mmu *m = &vp->mmu;

    if (m->nlog[0] == X86_TLB_LOG) {
        x86_tlb_flush_all(vp);
        return;
    }
    vp->counters[HV_CTR_TLB_FLUSHES]++;
    taken(m, X86_TAKEN_NONGLOBAL, 0);
    tlb_clear_log(m, 0);
    pdc_flush(m);
    fetch_flush(m, false);
}

/* INVLPG drops a large page whichever of its addresses is named (4.10.4.1): 2 MB and 1 GB regions that have
 * been filled from large pages are remembered. */
static void note_large(struct x86_mmu *m, uint64_t lin, unsigned shift)
{
    uint64_t r = lin >> 21;

    m->large[(r >> 6) & 63] |= 1ull << (r & 63);
    if (shift == 22)
        m->large[((r ^ 1) >> 6) & 63] |= 1ull << ((r ^ 1) & 63);
    if (shift > 22)
        m->huge |= 1ull << ((lin >> 30) & 63);
}

static void flush_large(struct x86_mmu *m, uint64_t lin)
{
    unsigned first = (lin >> 12) & (X86_TLB_SIZE - 1) & ~1023u;

    for (unsigned v = 0; v < X86_VIEW_CHECKED; v++)
        for (unsigned i = first; i < first + 1024; i++)
            if (m->views[v].e[i].info & X86_TLB_LARGE)
                tlb_clear_slot(&m->views[v].e[i], i);
    for (unsigned i = 0; i < X86_ITLB_SIZE; i++)
        m->itlb[i].tag = ~0ull;
}

void x86_tlb_flush_page(struct hv_vp *vp, uint64_t lin)
{
    struct x86_mmu *m = &vp->mmu;
    unsigned slot = (lin >> 12) & (X86_TLB_SIZE - 1);

    if ((m->huge >> ((lin >> 30) & 63)) & 1) {
        x86_tlb_flush_all(vp);
        return;
    }
    taken(m, X86_TAKEN_PAGE, lin & ~4095ull);
    fetch_changed(m, X86_FETCH_PAGE, lin);
    if ((m->large[(lin >> 27) & 63] >> ((lin >> 21) & 63)) & 1) {
        flush_large(m, lin);
        taken(m, X86_TAKEN_ALL, 0);
        fetch_changed(m, X86_FETCH_ALL, 0);
    }
    for (unsigned v = 0; v < X86_VIEW_CHECKED; v++)
        tlb_clear_slot(&m->views[v].e[slot], slot);
    m->itlb[(lin >> 12) & (X86_ITLB_SIZE - 1)].tag = ~0ull;
    pdc_flush(m); /* INVLPG drops all paging-structure caches of the current PCID (4.10.4.1) */
}

/* A page fault drops what is known of its address, as INVLPG does (4.10.4.1): what the guest has changed since then holds when it
 * tries again.  Mostly nothing is known but how the walk begins. */
static void fault_drops(struct hv_vp *vp, uint64_t lin)
{
    struct x86_mmu *m = &vp->mmu;
    uint64_t page = lin & ~4095ull;
    unsigned word = (lin >> 18) & (X86_FETCHED_WORDS - 1);
    bool known = (m->fetched[0][word] | m->fetched[1][word]) >> ((lin >> 12) & 63) & 1;

    for (unsigned v = 0; v < X86_VIEW_CHECKED; v++)
        known = known || m->views[v].e[(lin >> 12) & (X86_TLB_SIZE - 1)].nrd == 0 - page;
    if (known)
        x86_tlb_flush_page(vp, lin);
    m->pdc[(lin >> 21) & (X86_PDC_SIZE - 1)].tag = ~0ull;
}

static void tlb_log(struct x86_mmu *m, unsigned view, unsigned slot, bool global)
{
    if (m->nlog[global] < X86_TLB_LOG)
        m->log[global][m->nlog[global]++] = (uint16_t)(view << X86_TLB_BITS | slot);
}

static void revoke_slot(struct x86_tlb_entry *e, unsigned slot)
{
    e->nwr = x86_tlb_never(slot);
    e->info &= ~(uint64_t)X86_TLB_CODE;
}

/* Take away this VP's write tags of a RAM page, under whatever linear addresses it is mapped. */
static void tlb_revoke_write(struct hv_vp *vp, uint64_t ram_page)
{
    struct x86_mmu *m = &vp->mmu;

    taken(m, X86_TAKEN_WRITE, (uint64_t)(uintptr_t)m->ram + (ram_page << 12));
    if (m->nlog[0] == X86_TLB_LOG || m->nlog[1] == X86_TLB_LOG) {
        for (unsigned v = 0; v < X86_VIEW_CHECKED; v++)
            for (unsigned i = 0; i < X86_TLB_SIZE; i++)
                if (m->views[v].e[i].info >> 12 == ram_page)
                    revoke_slot(&m->views[v].e[i], i);
        return;
    }
    for (unsigned g = 0; g < 2; g++)
        for (unsigned i = 0; i < m->nlog[g]; i++) {
            unsigned v = m->log[g][i] >> X86_TLB_BITS, s = m->log[g][i] & (X86_TLB_SIZE - 1);

            if (m->views[v].e[s].info >> 12 == ram_page)
                revoke_slot(&m->views[v].e[s], s);
        }
}

/* ---- requests between threads ------------------------------------------------------------------- */

static void backoff(unsigned *spins)
{
    if (++*spins < 200) {
        __builtin_ia32_pause();
    } else if (*spins < 400) {
        sched_yield();
    } else {
        struct timespec ts = { 0, 20000 };

        nanosleep(&ts, NULL);
    }
}

/* Do what the mailbox asks.  Code is only dropped at a block boundary (@boundary). */
static void mailbox(struct hv_vp *vp, bool boundary)
{
    struct x86_mmu *m = &vp->mmu;
    uint64_t drop[X86_REQ_PAGES], lines[X86_REQ_PAGES];
    unsigned ndrop = 0;
    bool drop_all = false;

    if (!atomic_load(&m->requests))
        return;
    pthread_mutex_lock(&m->req_lock);
    uint32_t req = atomic_load(&m->requests);

    if (req & REQ_FLUSH) {
        x86_tlb_flush_all(vp);
    } else if (req & REQ_REVOKE) {
        if (m->nrevoke > X86_REQ_PAGES)
            x86_tlb_flush_all(vp);
        else
            for (unsigned i = 0; i < m->nrevoke; i++)
                tlb_revoke_write(vp, m->revoke[i]);
    }
    m->nrevoke = 0;
    req &= REQ_DROP;
    if (boundary && req) {
        drop_all = m->ndrop > X86_REQ_PAGES;
        ndrop = drop_all ? 0 : m->ndrop;
        memcpy(drop, m->drop, ndrop * sizeof(drop[0]));
        memcpy(lines, m->drop_lines, ndrop * sizeof(lines[0]));
        m->ndrop = 0;
        req = 0;
    }
    atomic_store(&m->requests, req);
    pthread_mutex_unlock(&m->req_lock);

    if (drop_all)
        vp->p->engine->reset(vp);
    for (unsigned i = 0; i < ndrop; i++)
        vp->p->engine->code_drop(vp, drop[i], lines[i]);
}

static void request(struct hv_vp *to, uint32_t what, uint64_t ram_page, uint64_t lines)
{
    struct x86_mmu *m = &to->mmu;
    unsigned i;

    pthread_mutex_lock(&m->req_lock);
    if (what == REQ_REVOKE && m->nrevoke <= X86_REQ_PAGES) {
        if (m->nrevoke < X86_REQ_PAGES)
            m->revoke[m->nrevoke] = ram_page;
        m->nrevoke++;
    } else if (what == REQ_DROP && m->ndrop <= X86_REQ_PAGES) {
        for (i = 0; i < m->ndrop && i < X86_REQ_PAGES && m->drop[i] != ram_page; i++)
            ;
        if (i < m->ndrop && i < X86_REQ_PAGES) {
            m->drop_lines[i] |= lines;
        } else {
            if (i < X86_REQ_PAGES) {
                m->drop[i] = ram_page;
                m->drop_lines[i] = lines;
            }
            m->ndrop++;
        }
    }
    atomic_fetch_or(&m->requests, what);
    pthread_mutex_unlock(&m->req_lock);
    atomic_fetch_or(&to->attention, HV_ATT_SYNC); /* a VP that sleeps need not wake for it */
    if (to->p->engine->kick)
        to->p->engine->kick(to);
}

/* Until @to has taken its TLB requests or is out of the guest. */
static void wait_taken(struct hv_vp *to)
{
    unsigned spins = 0;

    while (atomic_load(&to->mmu.in_guest) && (atomic_load(&to->mmu.requests) & (REQ_FLUSH | REQ_REVOKE)))
        backoff(&spins);
}

void x86_mmu_enter(struct hv_vp *vp)
{
    for (;;) {
        atomic_store(&vp->mmu.in_guest, true);
        if (likely(!atomic_load(&vp->p->excl_active)) || vp->p->excl_owner == vp)
            break;
        atomic_store(&vp->mmu.in_guest, false);
        pthread_mutex_lock(&vp->p->excl_lock);
        pthread_mutex_unlock(&vp->p->excl_lock);
    }
    mailbox(vp, false);
}

void x86_mmu_leave(struct hv_vp *vp)
{
    atomic_store(&vp->mmu.in_guest, false);
}

void x86_mmu_sync(struct hv_vp *vp)
{
    if (atomic_load(&vp->p->excl_active) && vp->p->excl_owner != vp) {
        x86_mmu_leave(vp);
        x86_mmu_enter(vp);
    }
    mailbox(vp, true);
}

void x86_mmu_exclusive_begin(struct hv_vp *vp)
{
    struct hv_partition *p = vp->p;

    if (p->excl_owner == vp) {
        p->excl_depth++;
        return;
    }
    x86_mmu_leave(vp);
    pthread_mutex_lock(&p->excl_lock);
    p->excl_owner = vp;
    atomic_store(&p->excl_active, true);
    for (unsigned i = 0; i < p->nvps; i++) {
        struct hv_vp *o = p->vps[i];
        unsigned spins = 0;

        if (o == vp)
            continue;
        hv_vp_kick(o, HV_ATT_SYNC);
        while (atomic_load(&o->mmu.in_guest))
            backoff(&spins);
    }
    atomic_store(&vp->mmu.in_guest, true);
    mailbox(vp, false);
}

void x86_mmu_exclusive_end(struct hv_vp *vp)
{
    if (vp->p->excl_depth) {
        vp->p->excl_depth--;
        return;
    }
    vp->p->excl_owner = NULL;
    atomic_store(&vp->p->excl_active, false);
    pthread_mutex_unlock(&vp->p->excl_lock);
}

void x86_tlb_flush_vps(struct hv_vp *self, uint64_t mask)
{
    struct hv_partition *p = self->p;

    if (mask & (1ull << self->index))
        x86_tlb_flush_all(self);
    mask &= ~(1ull << self->index);
    if (!mask)
        return;
    x86_mmu_leave(self);
    for (unsigned i = 0; i < p->nvps; i++)
        if (mask & (1ull << i))
            request(p->vps[i], REQ_FLUSH, 0, 0);
    for (unsigned i = 0; i < p->nvps; i++)
        if (mask & (1ull << i))
            wait_taken(p->vps[i]);
    x86_mmu_enter(self);
}

void x86_tlb_shootdown(struct hv_partition *p)
{
    for (unsigned i = 0; i < p->nvps; i++)
        if (p->vps[i])
            request(p->vps[i], REQ_FLUSH, 0, 0);
    for (unsigned i = 0; i < p->nvps; i++)
        if (p->vps[i])
            wait_taken(p->vps[i]);
}

/* ---- code pages ----------------------------------------------------------------------------------- */

/* What others have claimed a moment ago may still have writers: those who claim it wait for them too, though the writers are known
 * to one claim only.  So each is counted, before its lines can be seen, until its writers are gone. */
void x86_code_claim(struct hv_vp *vp, uint64_t ram_page, uint64_t lines)
{
    struct x86_page *pg = &vp->p->pages[ram_page];
    _Atomic uint32_t *claims = &vp->p->claims[ram_page % HV_CLAIMS];
    uint64_t self = 1ull << vp->index, writers;
    unsigned spins = 0;
    bool more = vp->p->nvps > 1, out = false;

    if ((atomic_load(&pg->lines) & lines) == lines && (atomic_load(&pg->code_vps) & self)) {
        if (likely(!more || !atomic_load(claims)))
            return;
        x86_mmu_leave(vp);
        while (atomic_load(claims))
            backoff(&spins);
        x86_mmu_enter(vp);
        return;
    }
    if (more)
        atomic_fetch_add(claims, 1);
    atomic_fetch_or(&pg->code_vps, self); /* never taken back: a store that finds the lines must find the VP */
    atomic_fetch_or(&pg->lines, lines);
    atomic_store_explicit(&pg->stores, 0, memory_order_relaxed);
    writers = atomic_exchange(&pg->write_vps, 0);
    /* Others may be between their look at the lines and their store.  This VP is not. */
    if (atomic_load(&pg->line_vps) & ~self)
        writers |= atomic_fetch_and(&pg->line_vps, self) & ~self;
    if (writers & self)
        tlb_revoke_write(vp, ram_page);
    writers &= ~self;
    if (writers) {
        x86_mmu_leave(vp);
        out = true;
        for (unsigned i = 0; i < vp->p->nvps; i++)
            if (writers & (1ull << i))
                request(vp->p->vps[i], REQ_REVOKE, ram_page, 0);
        for (unsigned i = 0; i < vp->p->nvps; i++)
            if (writers & (1ull << i))
                wait_taken(vp->p->vps[i]);
    }
    if (more && atomic_fetch_sub(claims, 1) != 1) {
        if (!out)
            x86_mmu_leave(vp);
        out = true;
        while (atomic_load(claims))
            backoff(&spins);
    }
    if (out)
        x86_mmu_enter(vp);
}

static uint64_t line_mask(unsigned first, unsigned last)
{
    unsigned a = first / 64, b = last / 64;

    return (~0ull >> (63 - (b - a))) << a;
}

/* Between a store by somebody whom claims do not wait for and the look at the lines. */
static void store_fence(const struct hv_partition *p)
{
    if (p->nvps > 1)
        atomic_thread_fence(memory_order_seq_cst);
}

/* Each store to a page with code takes the slow path.  A page that gets many of them, and no new code meanwhile, is
 * better off without its code: it may be data now, or a buffer that is filled anew.  Where the code comes back each
 * time it is borne with longer. */
static bool too_many_stores(struct x86_page *pg)
{
    uint32_t n = atomic_load_explicit(&pg->stores, memory_order_relaxed) + 1;
    uint32_t patience = atomic_load_explicit(&pg->patience, memory_order_relaxed);

    atomic_store_explicit(&pg->stores, n, memory_order_relaxed);
    if (likely(n < 32u << patience) || !atomic_load_explicit(&pg->lines, memory_order_relaxed))
        return false;
    if (patience < 8)
        atomic_store_explicit(&pg->patience, patience + 1, memory_order_relaxed);
    atomic_store_explicit(&pg->stores, 0, memory_order_relaxed);
    return true;
}

/* Bytes of a RAM page have been stored to: drop code that was made from them.  @self may be NULL. */
static void code_stored(struct hv_partition *p, struct hv_vp *self, uint64_t ram_page, unsigned off, unsigned len)
{
    struct x86_page *pg = &p->pages[ram_page];
    uint64_t vps, lines = atomic_load(&pg->lines) & line_mask(off, off + len - 1);

    if (self && too_many_stores(pg))
        lines = ~0ull;
    if (!lines)
        return;
    lines &= atomic_fetch_and(&pg->lines, ~lines);
    vps = atomic_load(&pg->code_vps);
    for (unsigned i = 0; i < p->nvps; i++) {
        if (!(vps & (1ull << i)))
            continue;
        p->vps[i]->counters[HV_CTR_CODE_WRITES]++;
        if (p->vps[i] == self)
            p->engine->code_drop(self, ram_page, lines);
        else
            request(p->vps[i], REQ_DROP, ram_page, lines);
    }
}

void x86_code_dirty(struct hv_partition *p, uint64_t gpa, uint64_t len)
{
    struct hv_gpa_ref ref;

    atomic_thread_fence(memory_order_seq_cst);
    while (len) {
        uint64_t n = 4096 - (gpa & 4095);

        if (n > len)
            n = len;
        if (hv_gpa_lookup(p, gpa, &ref))
            code_stored(p, NULL, ref.ram_page, gpa & 4095, (unsigned)n);
        gpa += n;
        len -= n;
    }
}

/* ---- page walk -------------------------------------------------------------------------------------- */

static uint64_t a20(const struct hv_vp *vp, uint64_t gpa)
{
    return unlikely(atomic_load_explicit(&vp->p->a20_masked, memory_order_relaxed)) ? gpa & ~(1ull << 20) : gpa;
}

/* Host address of a paging structure; NULL when it does not lie in RAM. */
static uint8_t *table_at(struct hv_vp *vp, uint64_t gpa)
{
    struct hv_gpa_ref ref;

    gpa = a20(vp, gpa & ~4095ull);
    return hv_gpa_lookup(vp->p, gpa, &ref) ? ref.hva : NULL;
}

/* A table's memory changed under a store of ours (A and D bits): it may hold code, and it may be logged. */
static void table_stored(struct hv_vp *vp, uint64_t gpa)
{
    struct hv_gpa_ref ref;

    gpa = a20(vp, gpa);
    if (hv_gpa_lookup(vp->p, gpa, &ref)) {
        if (ref.flags & HV_MAP_DIRTY_LOG)
            hv_gpa_mark_dirty(vp->p, gpa);
        code_stored(vp->p, vp, ref.ram_page, gpa & 4095, 8);
    }
}

/* Set bits in an entry that still reads @old.  @return false: it changed, walk again. */
static bool entry_or64(uint64_t *e, uint64_t old, uint64_t bits)
{
    return __atomic_compare_exchange_n(e, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static bool entry_or32(uint32_t *e, uint32_t old, uint32_t bits)
{
    return __atomic_compare_exchange_n(e, &old, old | bits, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Do @rights allow the access?  @user: with user privilege. */
static bool rights_allow(const struct hv_vp *vp, unsigned rights, unsigned acc, bool user)
{
    const struct x86_cpu *c = &vp->cpu;

    if (user) {
        if (!(rights & R_USER))
            return false;
        if ((acc & X86_ACC_WRITE) && !(rights & R_WRITE))
            return false;
    } else {
        if ((acc & X86_ACC_WRITE) && !(rights & R_WRITE) && (c->cr0 & CR0_WP))
            return false;
        if (rights & R_USER) {
            if ((acc & X86_ACC_EXEC) && (c->cr4 & CR4_SMEP))
                return false;
            if (!(acc & X86_ACC_EXEC) && (c->cr4 & CR4_SMAP) &&
                ((acc & X86_ACC_SYS) || !(c->eflags & EF_AC)))
                return false;
        }
    }
    return !((acc & X86_ACC_EXEC) && (rights & R_NX));
}

static uint32_t pf_error(const struct hv_vp *vp, unsigned acc, bool user, uint32_t bits)
{
    const struct x86_cpu *c = &vp->cpu;
    bool nx = (c->efer & EFER_NXE) && (c->cr4 & CR4_PAE);

    return bits | ((acc & X86_ACC_WRITE) ? PF_W : 0u) | (user ? PF_U : 0u) |
           ((acc & X86_ACC_EXEC) && (nx || (c->cr4 & CR4_SMEP)) ? PF_I : 0u);
}

static uint64_t phys_reserved(const struct hv_vp *vp)
{
    return PE_ADDR & ~((1ull << hv_maxphyaddr(vp->p)) - 1);
}

/* 32-bit paging, 4.3.  @return 0 or error bits + 0x80000000. */
#define WALK_FAULT 0x80000000u

static uint32_t walk32(struct hv_vp *vp, uint64_t lin, unsigned acc, bool user, struct walk *w)
{
    const struct x86_cpu *c = &vp->cpu;

    for (;;) {
        uint8_t *pd = table_at(vp, c->cr3 & 0xfffff000u);
        uint32_t *pde_p = pd ? (uint32_t *)(pd + ((lin >> 20) & 0xffc)) : NULL;
        uint32_t pde = pde_p ? __atomic_load_n(pde_p, __ATOMIC_RELAXED) : ~0u;

        if (!(pde & PE_P))
            return WALK_FAULT;
        if ((pde & PE_PS) && (c->cr4 & CR4_PSE)) {
            uint32_t set = PE_A | ((acc & X86_ACC_WRITE) ? PE_D : 0);

            if (pde & (1u << 21))
                return WALK_FAULT | PF_P | PF_RSVD;
            w->rights = ((pde & PE_U) ? R_USER : 0) | ((pde & PE_W) ? R_WRITE : 0);
            w->gpa = (pde & 0xffc00000u) | ((uint64_t)((pde >> 13) & 0xff) << 32) | (lin & 0x3fffff);
            w->global = (pde & PE_G) && (c->cr4 & CR4_PGE);
            w->large = 22;
            if (!rights_allow(vp, w->rights, acc, user))
                return WALK_FAULT | PF_P;
            if ((pde & set) != set && pde_p) {
                if (!entry_or32(pde_p, pde, set))
                    continue;
                table_stored(vp, (c->cr3 & 0xfffff000u) + ((lin >> 20) & 0xffc));
            }
            w->dirty = (pde | set) & PE_D;
            return 0;
        }
        uint8_t *pt = table_at(vp, pde & 0xfffff000u);
        uint32_t *pte_p = pt ? (uint32_t *)(pt + ((lin >> 10) & 0xffc)) : NULL;
        uint32_t pte = pte_p ? __atomic_load_n(pte_p, __ATOMIC_RELAXED) : ~0u;
        uint32_t set = PE_A | ((acc & X86_ACC_WRITE) ? PE_D : 0);

        if (!(pte & PE_P))
            return WALK_FAULT;
        w->rights = ((pde & pte & PE_U) ? R_USER : 0) | ((pde & pte & PE_W) ? R_WRITE : 0);
        w->gpa = (pte & 0xfffff000u) | (lin & 0xfff);
        w->global = (pte & PE_G) && (c->cr4 & CR4_PGE);
        w->large = 0;
        if (!rights_allow(vp, w->rights, acc, user))
            return WALK_FAULT | PF_P;
        if (!(pde & PE_A)) {
            if (!entry_or32(pde_p, pde, PE_A))
                continue;
            table_stored(vp, (c->cr3 & 0xfffff000u) + ((lin >> 20) & 0xffc));
        }
        if ((pte & set) != set && pte_p) {
            if (!entry_or32(pte_p, pte, set))
                continue;
            table_stored(vp, (pde & 0xfffff000u) + ((lin >> 10) & 0xffc));
        }
        w->dirty = (pte | set) & PE_D;
        return 0;
    }
}

/* PAE and 4-level paging, 4.4 and 4.5. */
static uint32_t walk64(struct hv_vp *vp, uint64_t lin, unsigned acc, bool user, struct walk *w)
{
    const struct x86_cpu *c = &vp->cpu;
    bool lma = x86_long_mode(c);
    uint64_t rsvd = phys_reserved(vp) | ((c->efer & EFER_NXE) ? 0 : PE_NX) | (lma ? 0 : PE_HIGH);
    struct x86_pdc_entry *pdc = &vp->mmu.pdc[(lin >> 21) & (X86_PDC_SIZE - 1)];
    uint64_t pdc_tag = lin >> 21 | (uint64_t)vp->mmu.pdc_gen << 43;
    uint64_t *ent_p[4] = { NULL, NULL, NULL, NULL }, ent[4], ent_gpa[4];
    unsigned rights, first, level;
    uint64_t table;
    uint8_t *hva;

again:
    rights = R_USER | R_WRITE;
    if (pdc->tag == pdc_tag) {
        level = first = 3;
        rights = pdc->rights;
        hva = pdc->table;
        table = 0;
    } else if (lma) {
        level = first = 0;
        table = c->cr3 & PE_ADDR;
        hva = table_at(vp, table);
    } else {
        uint64_t pdpte = c->pdpte[(lin >> 30) & 3];

        if (!(pdpte & PE_P))
            return WALK_FAULT;
        level = first = 2;
        table = pdpte & PE_ADDR;
        hva = table_at(vp, table);
    }
    for (;; level++) {
        unsigned shift = 39 - 9 * level;
        unsigned off = (unsigned)((lin >> shift) & 511) * 8;
        uint64_t e;

        ent_p[level] = hva ? (uint64_t *)(hva + off) : NULL;
        ent_gpa[level] = table + off;
        e = ent[level] = ent_p[level] ? __atomic_load_n(ent_p[level], __ATOMIC_RELAXED) : ~0ull;
        if (!(e & PE_P))
            return WALK_FAULT;
        bool leaf = level == 3 || ((e & PE_PS) && (level == 1 || level == 2));
        uint64_t bad = rsvd;

        if (level == 0)
            bad |= PE_PS;
        else if (leaf && level < 3)
            bad |= ((1ull << shift) - 1) & PE_ADDR & ~(1ull << 12);
        if (e & bad)
            return WALK_FAULT | PF_P | PF_RSVD;
        if (!(e & PE_U))
            rights &= ~(unsigned)R_USER;
        if (!(e & PE_W))
            rights &= ~(unsigned)R_WRITE;
        if (e & PE_NX)
            rights |= R_NX;
        if (leaf) {
            uint64_t set = PE_A | ((acc & X86_ACC_WRITE) ? PE_D : 0);

            w->rights = (uint8_t)rights;
            w->gpa = (e & PE_ADDR & ~((1ull << shift) - 1)) | (lin & ((1ull << shift) - 1));
            w->global = (e & PE_G) && (c->cr4 & CR4_PGE);
            w->large = level == 3 ? 0 : (uint8_t)shift;
            if (!rights_allow(vp, rights, acc, user))
                return WALK_FAULT | PF_P;
            for (unsigned l = first; l <= level; l++) {
                uint64_t need = l == level ? set : PE_A;

                if ((ent[l] & need) != need && ent_p[l]) {
                    if (!entry_or64(ent_p[l], ent[l], need)) {
                        pdc->tag = ~0ull;
                        goto again;
                    }
                    if (first != 3)
                        table_stored(vp, ent_gpa[l]);
                    else if (atomic_load(&vp->p->pages[pdc->ram_page].lines)) /* there is code since */
                        code_stored(vp->p, vp, pdc->ram_page, (unsigned)((lin >> 12) & 511) * 8, 8);
                }
            }
            w->dirty = (e | set) & PE_D;
            return 0;
        }
        table = e & PE_ADDR;
        hva = table_at(vp, table);
        if (level == 2 && hva) {
            struct hv_gpa_ref ref;

            /* Tables that need attention when an A or D bit is set are not cached. */
            if (hv_gpa_lookup(vp->p, a20(vp, table), &ref) && !(ref.flags & HV_MAP_DIRTY_LOG) &&
                !atomic_load_explicit(&vp->p->pages[ref.ram_page].lines, memory_order_relaxed)) {
                bool all_a = true;

                for (unsigned l = first; l <= level; l++)
                    all_a = all_a && (ent[l] & PE_A);
                if (all_a) {
                    pdc->tag = pdc_tag;
                    pdc->table = hva;
                    pdc->ram_page = (uint32_t)ref.ram_page;
                    pdc->rights = (uint8_t)rights;
                }
            }
        }
    }
}

/* @return 0 with *w, else WALK_FAULT | error bits. */
static uint32_t walk(struct hv_vp *vp, uint64_t lin, unsigned acc, bool user, struct walk *w)
{
    const struct x86_cpu *c = &vp->cpu;
    uint32_t r;

    if (!(c->cr0 & CR0_PG)) {
        *w = (struct walk){ .gpa = a20(vp, (uint32_t)lin), .rights = R_USER | R_WRITE, .dirty = true };
        return 0;
    }
    r = (c->cr4 & CR4_PAE) ? walk64(vp, lin, acc, user, w) : walk32(vp, lin, acc, user, w);
    if (!r)
        w->gpa = a20(vp, w->gpa);
    return r;
}

bool x86_load_pdptes(struct hv_vp *vp, uint64_t cr3)
{
    uint64_t pdpte[4];
    uint64_t rsvd = phys_reserved(vp) | PE_NX | PE_HIGH | 0x1e6;

    if (hv_gpa_read(vp->p, a20(vp, cr3 & 0xffffffe0u), pdpte, sizeof(pdpte)))
        memset(pdpte, 0xff, sizeof(pdpte));
    for (unsigned i = 0; i < 4; i++)
        if ((pdpte[i] & PE_P) && (pdpte[i] & rsvd))
            return false;
    memcpy(vp->cpu.pdpte, pdpte, sizeof(pdpte));
    return true;
}

/* ---- translation with fill --------------------------------------------------------------------------- */

struct xlat { uint8_t *hva; uint64_t gpa, ram_page; unsigned flags; bool global; };

static bool watched_page(const struct hv_vp *vp, uint64_t lin)
{
    for (unsigned i = 0; i < 4; i++)
        if ((vp->mmu.watch & (1u << i)) && ((vp->cpu.dr[i] ^ lin) >> 12 == 0 ||
                                            ((vp->cpu.dr[i] + 7) ^ lin) >> 12 == 0))
            return true;
    return false;
}

/* Implicit supervisor accesses: as those of a supervisor, EFLAGS.AC does not help against SMAP (4.6.1). */
static unsigned sys_view(const struct hv_vp *vp)
{
    return (vp->cpu.cr4 & CR4_SMAP) ? X86_VIEW_SUPER : X86_VIEW_SUPER_AC;
}

/* What the TLB says comes before what the tables say, so that a shadowed access and the one that it stands for are to
 * the same page, also when the guest has changed a table and not flushed. */
static bool shadow_hit(struct hv_vp *vp, uint64_t lin, unsigned acc, struct xlat *x)
{
    struct x86_mmu *m = &vp->mmu;
    const struct x86_tlb_entry *e = &m->views[(acc & X86_ACC_SYS) ? sys_view(vp) : m->view].e[(lin >> 12) & (X86_TLB_SIZE - 1)];
    uint64_t page = lin & ~4095ull;

    if ((acc & X86_ACC_EXEC) || m->watch || ((acc & X86_ACC_WRITE) ? e->nwr : e->nrd) != 0 - page)
        return false;
    *x = (struct xlat){ .hva = (uint8_t *)(uintptr_t)(lin + e->add), .gpa = lin & 4095, .ram_page = e->info >> 12,
                        .flags = (acc & X86_ACC_WRITE) ? HV_MAP_WRITE : 0, .global = e->info & X86_TLB_GLOBAL };
    if (acc & X86_ACC_WRITE)
        m->shadow(vp, x->hva - x->gpa, x->ram_page, (unsigned)x->gpa);
    return true;
}

/* Translate one page for an access by the current privilege; raises #PF.  Fills the TLB view of plain
 * accesses. */
static void translate(struct hv_vp *vp, uint64_t lin, unsigned acc, struct xlat *x)
{
    struct x86_mmu *m = &vp->mmu;
    bool user = vp->cpu.cpl == 3 && !(acc & X86_ACC_SYS);
    struct hv_gpa_ref ref;
    struct walk w;
    uint32_t err;

    if (unlikely(m->shadow) && shadow_hit(vp, lin, acc, x))
        return;
    err = walk(vp, lin, acc, user, &w);
    if (unlikely(err)) {
        if (likely(!m->shadow)) /* who only looks at what would be leaves it as it is */
            fault_drops(vp, lin);
        x86_raise_pf(vp, lin, pf_error(vp, acc, user, err & ~WALK_FAULT));
    }
    if (w.large)
        note_large(m, lin, w.large);
    x->gpa = w.gpa;
    x->hva = NULL;
    if (!hv_gpa_lookup(vp->p, w.gpa & ~4095ull, &ref)) {
        if (unlikely(m->shadow) && !(acc & X86_ACC_EXEC))
            m->shadow(vp, NULL, 0, 0);
        return;
    }
    if (unlikely(m->shadow) && (acc & X86_ACC_WRITE))
        m->shadow(vp, (ref.flags & HV_MAP_WRITE) ? ref.hva : NULL, ref.ram_page, (unsigned)(w.gpa & 4095));
    x->hva = (uint8_t *)ref.hva + (w.gpa & 4095);
    x->flags = ref.flags;
    x->ram_page = ref.ram_page;
    m->ram = (const uint8_t *)ref.hva - (ref.ram_page << 12);
    x->global = w.global;
    if (acc & X86_ACC_EXEC)
        return;

    unsigned slot = (lin >> 12) & (X86_TLB_SIZE - 1), view = (acc & X86_ACC_SYS) ? sys_view(vp) : m->view;
    uint64_t page = lin & ~4095ull;
    struct x86_tlb_entry *e = &m->views[view].e[slot];

    if (unlikely(m->shadow) && e->nrd == 0 - page && e->add != (uint64_t)(uintptr_t)ref.hva - page)
        x86_tlb_flush_page(vp, lin); /* whoever knows the page is to know what was found now */
    vp->counters[HV_CTR_TLB_FILLS]++;
    if (unlikely(m->watch) && watched_page(vp, lin))
        return;
    e->add = (uint64_t)(uintptr_t)ref.hva - page;
    e->info = ref.ram_page << 12 | (w.global ? X86_TLB_GLOBAL : 0) | (w.large ? X86_TLB_LARGE : 0);
    e->nrd = 0 - page;
    e->nwr = x86_tlb_never(slot);
    tlb_log(m, view, slot, w.global);
    if (!(ref.flags & HV_MAP_WRITE) || !w.dirty)
        return;
    if ((ref.flags & HV_MAP_DIRTY_LOG) && !(acc & X86_ACC_WRITE))
        return;
    if (!(acc & X86_ACC_WRITE) && !rights_allow(vp, w.rights, X86_ACC_WRITE | (acc & X86_ACC_SYS), user))
        return;

    if (ref.flags & HV_MAP_DIRTY_LOG)
        hv_gpa_mark_dirty(vp->p, w.gpa & ~4095ull);

    /* The write tag: first say that this VP may write, then look whether the page holds code. */
    struct x86_page *pg = &vp->p->pages[ref.ram_page];
    uint64_t self = 1ull << vp->index;

    if (likely(!atomic_load_explicit(&pg->lines, memory_order_relaxed))) {
        if (!(atomic_load_explicit(&pg->write_vps, memory_order_relaxed) & self))
            atomic_fetch_or(&pg->write_vps, self);
        if (likely(!atomic_load(&pg->lines))) {
            e->nwr = 0 - page;
            return;
        }
    }
    if (!(atomic_load_explicit(&pg->line_vps, memory_order_relaxed) & self))
        atomic_fetch_or(&pg->line_vps, self);
    e->info |= X86_TLB_CODE;
}

static uint64_t lin_wrap(const struct hv_vp *vp, uint64_t lin)
{
    return x86_long_mode(&vp->cpu) ? lin : (uint32_t)lin;
}

static void check_watch(struct hv_vp *vp, uint64_t lin, unsigned len, bool write)
{
    const struct x86_cpu *c = &vp->cpu;
    uint64_t hits = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned rw, n;
        uint64_t a;

        if (!(vp->mmu.watch & (1u << i)))
            continue;
        rw = (c->dr[7] >> (16 + 4 * i)) & 3;
        n = (c->dr[7] >> (18 + 4 * i)) & 3;
        n = n == 2 ? 8 : n + 1;
        a = c->dr[i] & ~(uint64_t)(n - 1);
        if ((rw == 1 && !write) || a >= lin + len || lin >= a + n)
            continue;
        hits |= 1ull << i;
    }
    if (hits) {
        vp->mmu.dr6_hits |= hits;
        vp->p->engine->stop_block(vp);
    }
}

/* #AC: CPL 3, CR0.AM, EFLAGS.AC (6.15).  Only reached through the CHECKED view. */
static void check_align(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc)
{
    const struct x86_cpu *c = &vp->cpu;

    if (likely(!(c->eflags & EF_AC)) || c->cpl != 3 || !(c->cr0 & CR0_AM) || (acc & (X86_ACC_SYS | X86_ACC_EXEC)))
        return;
    if (len > 1 && len <= 16 && !(len & (len - 1)) && (lin & (len - 1)))
        x86_raise_err(vp, X86_EXC_AC, 0);
}

static void copy_small(void *dst, const void *src, unsigned len)
{
    switch (len) { /* naturally sized accesses stay single accesses, as other VPs may look */
    case 1: *(uint8_t *)dst = *(const volatile uint8_t *)src; break;
    case 2: __builtin_memcpy(dst, src, 2); break;
    case 4: { uint32_t v; v = __atomic_load_n((const uint32_t *)src, __ATOMIC_RELAXED); __builtin_memcpy(dst, &v, 4); break; }
    case 8: { uint64_t v; v = __atomic_load_n((const uint64_t *)src, __ATOMIC_RELAXED); __builtin_memcpy(dst, &v, 8); break; }
    default: memcpy(dst, src, len);
    }
}

static void store_small(void *dst, const void *src, unsigned len)
{
    switch (len) {
    case 1: *(volatile uint8_t *)dst = *(const uint8_t *)src; break;
    case 2: { uint16_t v; __builtin_memcpy(&v, src, 2); __atomic_store_n((uint16_t *)dst, v, __ATOMIC_RELAXED); break; }
    case 4: { uint32_t v; __builtin_memcpy(&v, src, 4); __atomic_store_n((uint32_t *)dst, v, __ATOMIC_RELAXED); break; }
    case 8: { uint64_t v; __builtin_memcpy(&v, src, 8); __atomic_store_n((uint64_t *)dst, v, __ATOMIC_RELAXED); break; }
    default: memcpy(dst, src, len);
    }
}

/* A piece of at most 8 bytes for a device. */
static unsigned mmio_piece(uint64_t gpa, unsigned len)
{
    unsigned n = len >= 8 ? 8 : len >= 4 ? 4 : len >= 2 ? 2 : 1;

    while (gpa & (n - 1) && len != n)
        n >>= 1;
    return n;
}

static void phys_read(struct hv_vp *vp, const struct xlat *x, void *buf, unsigned len)
{
    uint64_t gpa = x->gpa;
    uint8_t *b = buf;

    if (likely(x->hva != NULL)) {
        copy_small(buf, x->hva, len);
        return;
    }
    while (len) {
        unsigned n = mmio_piece(gpa, len);
        uint64_t v = hv_mmio_read(vp, gpa, n);

        memcpy(b, &v, n);
        gpa += n;
        b += n;
        len -= n;
    }
}

static void phys_write(struct hv_vp *vp, const struct xlat *x, const void *buf, unsigned len)
{
    uint64_t gpa = x->gpa;
    const uint8_t *b = buf;

    if (likely(x->hva && (x->flags & HV_MAP_WRITE))) {
        store_small(x->hva, buf, len);
        if (x->flags & HV_MAP_DIRTY_LOG)
            hv_gpa_mark_dirty(vp->p, gpa & ~4095ull);
        store_fence(vp->p);
        if (atomic_load(&vp->p->pages[x->ram_page].lines))
            code_stored(vp->p, vp, x->ram_page, gpa & 4095, len);
        return;
    }
    while (len) {
        unsigned n = mmio_piece(gpa, len);
        uint64_t v = 0;

        memcpy(&v, b, n);
        hv_mmio_write(vp, gpa, n, v);
        gpa += n;
        b += n;
        len -= n;
    }
}

static void lin_canonical(struct hv_vp *vp, uint64_t lin, unsigned len)
{
    if (vp->cpu.mode == X86_MODE_64 && unlikely(!x86_canonical(lin) || !x86_canonical(lin + len - 1)))
        x86_raise_err(vp, X86_EXC_GP, 0);
}

/* Host address by the TLB view in force, or NULL: miss, crossing, or attention needed. */
static void *tlb_hit(const struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc)
{
    const struct x86_tlb *t = unlikely(acc & X86_ACC_SYS) ? &vp->mmu.views[sys_view(vp)] : vp->mmu.tlb;
    const struct x86_tlb_entry *e = &t->e[(lin >> 12) & (X86_TLB_SIZE - 1)];
    uint64_t tag = (acc & X86_ACC_WRITE) ? e->nwr : e->nrd;

    if (unlikely(acc & X86_ACC_EXEC) || len > 4096 || lin + tag > 4096 - len)
        return NULL;
    return (void *)(uintptr_t)(lin + e->add);
}

/* The same for stores to a page that is writable but for its code: the caller calls code_stored afterwards. */
static void *code_page_hit(const struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc, uint64_t *ret_ram_page)
{
    const struct x86_tlb_entry *e = &vp->mmu.tlb->e[(lin >> 12) & (X86_TLB_SIZE - 1)];

    if (likely(!(e->info & X86_TLB_CODE)) || (acc & X86_ACC_SYS) || len > 4096 || lin + e->nrd > 4096 - len)
        return NULL;
    *ret_ram_page = e->info >> 12;
    return (void *)(uintptr_t)(lin + e->add);
}

/* The same for an access of @len bytes of which @n are in the first of two pages: where each part is. */
static bool tlb_hit_two(const struct hv_vp *vp, uint64_t lin, unsigned n, unsigned len, unsigned acc, void *ret[2])
{
    ret[0] = tlb_hit(vp, lin, n, acc);
    ret[1] = tlb_hit(vp, lin_wrap(vp, lin + n), len - n, acc);
    return ret[0] && ret[1];
}

void x86_lin_read(struct hv_vp *vp, uint64_t lin, void *buf, unsigned len, unsigned acc)
{
    unsigned n = 4096 - (unsigned)(lin & 4095);
    struct xlat a, b;
    void *hit = tlb_hit(vp, lin, len, acc), *two[2];

    if (likely(hit != NULL)) {
        copy_small(buf, hit, len);
        return;
    }
    if (len > n && tlb_hit_two(vp, lin, n, len, acc, two)) {
        memcpy(buf, two[0], n);
        memcpy((uint8_t *)buf + n, two[1], len - n);
        return;
    }
    lin_canonical(vp, lin, len);
    check_align(vp, lin, len, acc);
    if (likely(len <= n)) {
        translate(vp, lin, acc, &a);
        if (unlikely(vp->mmu.watch) && !(acc & X86_ACC_SYS))
            check_watch(vp, lin, len, false);
        phys_read(vp, &a, buf, len);
        return;
    }
    translate(vp, lin, acc, &a);
    translate(vp, lin_wrap(vp, lin + n), acc, &b);
    if (unlikely(vp->mmu.watch) && !(acc & X86_ACC_SYS))
        check_watch(vp, lin, len, false);
    phys_read(vp, &a, buf, n);
    phys_read(vp, &b, (uint8_t *)buf + n, len - n);
}

void x86_lin_write(struct hv_vp *vp, uint64_t lin, const void *buf, unsigned len, unsigned acc)
{
    unsigned n = 4096 - (unsigned)(lin & 4095);
    struct xlat a, b;
    uint64_t ram_page;
    void *hit = tlb_hit(vp, lin, len, acc |= X86_ACC_WRITE), *two[2];

    if (likely(hit != NULL)) {
        store_small(hit, buf, len);
        return;
    }
    if (len > n && tlb_hit_two(vp, lin, n, len, acc, two)) {
        memcpy(two[0], buf, n);
        memcpy(two[1], (const uint8_t *)buf + n, len - n);
        return;
    }
    hit = code_page_hit(vp, lin, len, acc, &ram_page);
    if (hit) {
        vp->counters[HV_CTR_CODE_STORES]++;
        store_small(hit, buf, len);
        code_stored(vp->p, vp, ram_page, lin & 4095, len);
        return;
    }
    lin_canonical(vp, lin, len);
    check_align(vp, lin, len, acc);
    translate(vp, lin, acc, &a);
    if (likely(len <= n)) {
        if (unlikely(vp->mmu.watch) && !(acc & X86_ACC_SYS))
            check_watch(vp, lin, len, true);
        phys_write(vp, &a, buf, len);
        return;
    }
    translate(vp, lin_wrap(vp, lin + n), acc, &b);
    if (unlikely(vp->mmu.watch) && !(acc & X86_ACC_SYS))
        check_watch(vp, lin, len, true);
    phys_write(vp, &a, buf, n);
    phys_write(vp, &b, (const uint8_t *)buf + n, len - n);
}

void x86_lin_probe(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc)
{
    unsigned n = 4096 - (unsigned)(lin & 4095);
    struct xlat x;
    uint64_t ram_page;
    void *two[2];

    if (tlb_hit(vp, lin, len, acc) || code_page_hit(vp, lin, len, acc, &ram_page) ||
        (len > n && tlb_hit_two(vp, lin, n, len, acc, two)))
        return;

    lin_canonical(vp, lin, len);
    check_align(vp, lin, len, acc);
    translate(vp, lin, acc, &x);
    if (len > n)
        translate(vp, lin_wrap(vp, lin + n), acc, &x);
}

void *x86_lin_hva(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc)
{
    struct xlat x;
    void *hit = tlb_hit(vp, lin, len, acc);

    if (likely(hit != NULL))
        return hit;
    if ((lin & 4095) + len > 4096)
        return NULL;
    lin_canonical(vp, lin, len);
    if (unlikely(vp->mmu.watch) || vp->mmu.tlb == &vp->mmu.views[X86_VIEW_CHECKED])
        return NULL;
    translate(vp, lin, acc, &x);
    if (!x.hva)
        return NULL;
    if (acc & X86_ACC_WRITE) {
        if (!(x.flags & HV_MAP_WRITE) || atomic_load(&vp->p->pages[x.ram_page].lines))
            return NULL;
        if (x.flags & HV_MAP_DIRTY_LOG)
            hv_gpa_mark_dirty(vp->p, x.gpa & ~4095ull);
    }
    return x.hva;
}

void *x86_lin_hva_rmw(struct hv_vp *vp, uint64_t lin, unsigned len)
{
    struct xlat x;
    void *hit = tlb_hit(vp, lin, len, X86_ACC_WRITE);

    vp->mmu.rmw_page = 0;
    if (likely(hit != NULL))
        return hit;
    lin_canonical(vp, lin, len);
    check_align(vp, lin, len, X86_ACC_WRITE);
    if ((lin & 4095) + len > 4096)
        return NULL;
    translate(vp, lin, X86_ACC_WRITE, &x);
    if (unlikely(vp->mmu.watch))
        check_watch(vp, lin, len, true);
    if (!x.hva || !(x.flags & HV_MAP_WRITE))
        return NULL;
    if (x.flags & HV_MAP_DIRTY_LOG)
        hv_gpa_mark_dirty(vp->p, x.gpa & ~4095ull);
    if (vp->mmu.tlb->e[(lin >> 12) & (X86_TLB_SIZE - 1)].nwr != 0 - (lin & ~4095ull))
        vp->mmu.rmw_page = x.ram_page + 1; /* it holds code, or may come to hold some before the store */
    return x.hva;
}

void x86_lin_rmw_done(struct hv_vp *vp, uint64_t lin, unsigned len)
{
    if (unlikely(vp->mmu.rmw_page))
        code_stored(vp->p, vp, vp->mmu.rmw_page - 1, lin & 4095, len);
}

bool x86_lin_store_ram(struct hv_vp *vp, uint64_t lin, const void *buf, unsigned len)
{
    struct xlat x;

    lin_canonical(vp, lin, len);
    if (unlikely(vp->mmu.watch) || vp->mmu.tlb == &vp->mmu.views[X86_VIEW_CHECKED])
        return false;
    translate(vp, lin, X86_ACC_WRITE, &x);
    if (!x.hva || !(x.flags & HV_MAP_WRITE))
        return false;
    phys_write(vp, &x, buf, len);
    return true;
}

/* ---- instruction fetch ---------------------------------------------------------------------------------- */

static void fetch_walk(struct hv_vp *vp, uint64_t lin, struct xlat *x)
{
    translate(vp, lin, X86_ACC_EXEC, x);
}

const uint8_t *x86_fetch_page(struct hv_vp *vp, uint64_t lin, uint64_t *ret_ram_page)
{
    struct x86_itlb_entry *e = &vp->mmu.itlb[(lin >> 12) & (X86_ITLB_SIZE - 1)];
    uint64_t tag = (lin & ~4095ull) | (vp->cpu.cpl == 3);
    struct xlat x;

    if (likely(e->tag == tag)) {
        *ret_ram_page = e->ram_page;
        return e->hva;
    }
    if (vp->cpu.mode == X86_MODE_64 && !x86_canonical(lin))
        x86_raise_err(vp, X86_EXC_GP, 0);
    fetch_walk(vp, lin, &x);
    if (!x.hva)
        return NULL;
    vp->mmu.fetched[x.global][(lin >> 18) & (X86_FETCHED_WORDS - 1)] |= 1ull << ((lin >> 12) & 63);
    e->tag = tag;
    e->ram_page = x.ram_page;
    e->hva = x.hva - (lin & 4095);
    e->global = x.global;
    *ret_ram_page = e->ram_page;
    return e->hva;
}

void x86_fetch_bytes(struct hv_vp *vp, uint64_t lin, uint8_t *buf, unsigned len)
{
    struct xlat x;

    fetch_walk(vp, lin, &x);
    phys_read(vp, &x, buf, len);
}

/* ---- views, watchpoints, life cycle ------------------------------------------------------------------------ */

void x86_mmu_set_view(struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;
    struct x86_mmu *m = &vp->mmu;

    if (c->cpl == 3) {
        m->view = X86_VIEW_USER;
        m->tlb = &m->views[(c->cr0 & CR0_AM) && (c->eflags & EF_AC) ? X86_VIEW_CHECKED : X86_VIEW_USER];
        return;
    }
    m->view = (c->cr4 & CR4_SMAP) && !(c->eflags & EF_AC) ? X86_VIEW_SUPER : X86_VIEW_SUPER_AC;
    m->tlb = &m->views[m->view];
}

void x86_mmu_watch_changed(struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;
    uint8_t watch = 0;

    for (unsigned i = 0; i < 4; i++) {
        unsigned rw = (c->dr[7] >> (16 + 4 * i)) & 3;

        if (((c->dr[7] >> (2 * i)) & 3) && (rw == 1 || rw == 3))
            watch |= (uint8_t)(1u << i);
    }
    if (watch || vp->mmu.watch)
        x86_tlb_flush_all(vp);
    vp->mmu.watch = watch;
}

int x86_mmu_init(struct hv_vp *vp)
{
    struct x86_mmu *m = &vp->mmu;

    /* Low, as translated code addresses it with 32 bits. */
    m->views = mmap(NULL, X86_VIEWS * sizeof(*m->views), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | 0x40 /* MAP_32BIT */,
                    -1, 0);
    if (m->views == MAP_FAILED)
        m->views = mmap(NULL, X86_VIEWS * sizeof(*m->views), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m->views == MAP_FAILED) {
        m->views = NULL;
        return -ENOMEM;
    }
    for (unsigned v = 0; v < X86_VIEWS; v++)
        tlb_clear_view(&m->views[v]);
    m->tlb = &m->views[0];
    m->pdc_gen = ~0u - 1;
    pthread_mutex_init(&m->req_lock, NULL);
    pdc_flush(m);
    fetch_flush(m, true);
    return 0;
}

void x86_mmu_fini(struct hv_vp *vp)
{
    if (!vp->mmu.views)
        return;
    munmap(vp->mmu.views, X86_VIEWS * sizeof(*vp->mmu.views));
    vp->mmu.views = NULL;
    pthread_mutex_destroy(&vp->mmu.req_lock);
}

int x86_pages_init(struct hv_partition *p)
{
    p->pages = mmap(NULL, X86_MAX_RAM_PAGES * sizeof(*p->pages), PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p->pages == MAP_FAILED) {
        p->pages = NULL;
        return -ENOMEM;
    }
    pthread_mutex_init(&p->excl_lock, NULL);
    return 0;
}

void x86_pages_fini(struct hv_partition *p)
{
    if (!p->pages)
        return;
    munmap(p->pages, X86_MAX_RAM_PAGES * sizeof(*p->pages));
    p->pages = NULL;
    pthread_mutex_destroy(&p->excl_lock);
}
