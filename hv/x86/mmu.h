/* SPDX-License-Identifier: BSD-2-Clause */
/* Linear and physical memory for the software engines: page walks, software TLB, tracking of pages
 * that hold translated code.  All functions run on the VP's own thread unless said. */
#ifndef MOBO_HV_X86_MMU_H
#define MOBO_HV_X86_MMU_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hv_vp;

/* Direct-mapped TLB.  Tags are negated page addresses, so that one unsigned compare finds hit, miss and
 * page crossing at once: with t = ea + tag, the access of n bytes hits when t <= 4096 - n.  An entry that
 * is no use holds the tag of a page that belongs to a slot far away (x86_tlb_never), which no access that
 * selects this slot can match, not even by its last byte.  Pages that need attention on each store (code, dirty log, read-only, MMIO,
 * breakpoints, alignment checks) have no write tag and take the slow path. */
enum { X86_TLB_BITS = 13, X86_TLB_SIZE = 1 << X86_TLB_BITS, X86_TLB_LOG = 8192 };

struct x86_tlb_entry {
    uint64_t nrd;  /* - page, or never */
    uint64_t nwr;
    uint64_t add;  /* host address - linear address */
    uint64_t info; /* RAM page number << 12 | X86_TLB_GLOBAL | X86_TLB_LARGE | X86_TLB_CODE */
};
enum {
    X86_TLB_GLOBAL = 1, X86_TLB_LARGE = 2,
    X86_TLB_CODE = 4 /* writable but for the lines that hold code: no write tag, stores look at the lines */
};

static inline uint64_t x86_tlb_never(unsigned slot) { return 0 - ((uint64_t)(slot ^ (X86_TLB_SIZE / 2)) << 12); }

/* Views: which privilege a data access has.  CHECKED is always empty: every access takes the slow path. */
enum { X86_VIEW_USER, X86_VIEW_SUPER, X86_VIEW_SUPER_AC /* SMAP off or EFLAGS.AC */, X86_VIEW_CHECKED, X86_VIEWS };

struct x86_tlb {
    struct x86_tlb_entry e[X86_TLB_SIZE];
};

/* Instruction TLB: linear page and privilege -> physical page, checked for execute permission. */
enum { X86_ITLB_SIZE = 256, X86_FETCHED_WORDS = 128 };
struct x86_itlb_entry {
    uint64_t tag;       /* linear page | 1 when user, or ~0 */
    uint64_t ram_page;  /* RAM page number */
    const uint8_t *hva; /* of the page */
    bool global;        /* stays when CR3 is written */
};

/* What made fetch_gen change, for engines that keep more than the instruction TLB. */
enum { X86_FETCH_ALL, X86_FETCH_NONGLOBAL, X86_FETCH_PAGE, X86_FETCH_LOG = 16 };
struct x86_fetch_event { uint64_t lin; uint8_t kind; };

/* What made tlb_gen change, for engines that remember host addresses: all, all but global pages, one linear page,
 * the right to write to one host page. */
enum { X86_TAKEN_ALL, X86_TAKEN_NONGLOBAL, X86_TAKEN_PAGE, X86_TAKEN_WRITE, X86_TAKEN_LOG = 16 };
struct x86_taken { uint64_t page; uint8_t kind; };

/* Cached pointers to page tables: linear >> 21 -> last-level table, with the rights of the levels above. */
enum { X86_PDC_SIZE = 512 };
struct x86_pdc_entry { uint64_t tag; uint8_t *table; uint32_t ram_page; uint8_t rights; };

enum { X86_REQ_PAGES = 64 };

struct x86_mmu {
    struct x86_tlb *tlb;            /* the view in force; all views stay valid */
    struct x86_tlb *views;          /* [X86_VIEWS], owned */
    uint8_t view;
    uint8_t watch;                  /* data breakpoints armed: bits of DR7.L/G that matter */
    uint32_t tlb_gen;               /* changes whenever a right to use a host address has been taken away */
    struct x86_taken taken[X86_TAKEN_LOG]; /* by tlb_gen after the change */
    const uint8_t *ram;             /* of RAM page 0 */
    uint32_t fetch_gen;             /* changes whenever a cached linear-to-physical fetch may be stale */
    struct x86_fetch_event fetch_log[X86_FETCH_LOG]; /* by fetch_gen after the change */
    struct x86_itlb_entry itlb[X86_ITLB_SIZE];
    uint64_t fetched[2][X86_FETCHED_WORDS]; /* a bit for pages that code was fetched from since the last flush: non-global, global */
    struct x86_pdc_entry pdc[X86_PDC_SIZE];
    uint32_t pdc_gen;
    uint16_t log[2][X86_TLB_LOG];   /* view << 13 | slot filled since the last flush: non-global, global */
    unsigned nlog[2];               /* X86_TLB_LOG: overflown */
    uint64_t large[64];             /* 2 MB regions with entries from large pages, hashed */
    uint64_t huge;                  /* 1 GB regions with entries from 1 GB pages, hashed */
    uint64_t dr6_hits;              /* data breakpoints hit by the current instruction */

    /* Requests from other threads; see x86_mmu_sync. */
    _Atomic bool in_guest;
    _Atomic uint32_t requests;      /* X86_REQ_* */
    pthread_mutex_t req_lock;
    unsigned nrevoke, ndrop;        /* guarded by req_lock */
    uint64_t revoke[X86_REQ_PAGES], drop[X86_REQ_PAGES], drop_lines[X86_REQ_PAGES];
    /* Told of each store that takes the slow path before it is done (the RAM page's host address and number, the
     * offset of the first byte in the page), and of accesses that are to no RAM (NULL); the empty view sends all there.
     * May longjmp. */
    void (*shadow)(struct hv_vp *vp, uint8_t *page, uint64_t ram_page, unsigned off);
    uint64_t rmw_page;              /* page that x86_lin_hva_rmw gave out, plus one, if it holds code */
};

/* Paging-structure entry bits, SDM 3A 4.3 to 4.5. */
#define PE_P (1ull << 0)
#define PE_W (1ull << 1)
#define PE_U (1ull << 2)
#define PE_A (1ull << 5)
#define PE_D (1ull << 6)
#define PE_PS (1ull << 7)
#define PE_G (1ull << 8)
#define PE_NX (1ull << 63)
#define PE_HIGH (0x7ffull << 52) /* reserved with PAE paging (SDM 3A tables 4-8 to 4-11) */
#define PE_ADDR 0x000ffffffffff000ull

/* Access kinds of the linear functions. */
enum {
    X86_ACC_READ = 0, X86_ACC_WRITE = 1, X86_ACC_EXEC = 2,
    X86_ACC_SYS = 4  /* implicit supervisor access at any CPL: descriptor tables, TSS, interrupt stacks */
};

/** Read or write linear memory with the rights of the current CPL (or X86_ACC_SYS), any length up to a page,
 * crossing pages, MMIO handled.  On a fault raises #PF, #GP or #SS (does not return) with nothing written. */
void x86_lin_read(struct hv_vp *vp, uint64_t lin, void *buf, unsigned len, unsigned acc);
void x86_lin_write(struct hv_vp *vp, uint64_t lin, const void *buf, unsigned len, unsigned acc);
/** Raise the fault that a write (or read) of the range would raise, else do nothing. */
void x86_lin_probe(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc);

/** Host address of @len bytes at @lin for direct use, if they are plain RAM within one page that needs no
 * attention; NULL when the caller must use x86_lin_read/write.  Raises faults. */
void *x86_lin_hva(struct hv_vp *vp, uint64_t lin, unsigned len, unsigned acc);

/** A locked read-modify-write: host address of the naturally usable bytes for an atomic operation.  When the
 * bytes cross a page or are MMIO returns NULL (the caller then uses x86_mmu_exclusive_*).  Raises write faults.
 * After the store x86_lin_rmw_done drops the code that it has changed. */
void *x86_lin_hva_rmw(struct hv_vp *vp, uint64_t lin, unsigned len);
void x86_lin_rmw_done(struct hv_vp *vp, uint64_t lin, unsigned len);

/** Store @len bytes within one page to RAM, whatever attention the page needs.  @return false: it is no RAM or a
 * breakpoint watches it, nothing was done.  Raises faults. */
bool x86_lin_store_ram(struct hv_vp *vp, uint64_t lin, const void *buf, unsigned len);

/** Stop all other VPs (they are at instruction boundaries) / let them go.  For split locks. */
void x86_mmu_exclusive_begin(struct hv_vp *vp);
void x86_mmu_exclusive_end(struct hv_vp *vp);

/* Flushes.  After CR3, CR4, CR0.PG, EFER.NXE writes, INVLPG, INVPCID. */
void x86_tlb_flush_all(struct hv_vp *vp);            /* with global pages */
void x86_tlb_flush_nonglobal(struct hv_vp *vp);
void x86_tlb_flush_page(struct hv_vp *vp, uint64_t lin);
/** Drop the TLBs of the VPs in @mask before returning (flush hypercalls). */
void x86_tlb_flush_vps(struct hv_vp *self, uint64_t mask);
/** Drop every VP's TLB (map changes, A20).  Any thread; complete when no VP can use an old translation. */
struct hv_partition;
void x86_tlb_shootdown(struct hv_partition *p);

/** The VP begins or ends to use its TLB and code: between leave and enter it holds no host address of guest
 * memory, and other threads need not wait for it.  enter handles pending TLB requests.  Nothing nests. */
void x86_mmu_enter(struct hv_vp *vp);
void x86_mmu_leave(struct hv_vp *vp);

/** Choose the data view for the current privilege; called by x86_update_mode. */
void x86_mmu_set_view(struct hv_vp *vp);
/** DR7 or DR0-3 changed. */
void x86_mmu_watch_changed(struct hv_vp *vp);

/** Handle what other VPs asked of this one (called from hv_vp_events on HV_ATT_SYNC). */
void x86_mmu_sync(struct hv_vp *vp);

/** Load the PAE PDPTEs from CR3 (4.4.1).  @return false: reserved bits set, raise #GP(0). */
bool x86_load_pdptes(struct hv_vp *vp, uint64_t cr3);

/** Guest-physical write by something else than this VP's stores (DMA, loader): drop code there.  Any thread. */
void x86_code_dirty(struct hv_partition *p, uint64_t gpa, uint64_t len);

/* ---- instruction fetch and code pages ---- */

/** Host page of the instruction bytes at @lin for the current CPL.  Raises #PF/#GP.  @return NULL when the page
 * is not memory (then use x86_fetch_bytes and cache nothing), else *ret_ram_page is its RAM page. */
const uint8_t *x86_fetch_page(struct hv_vp *vp, uint64_t lin, uint64_t *ret_ram_page);
/** Copy @len instruction bytes (within one page) from wherever they are. */
void x86_fetch_bytes(struct hv_vp *vp, uint64_t lin, uint8_t *buf, unsigned len);

/** This VP is about to translate bytes of the 64-byte lines @lines of a RAM page: from now on stores there are
 * noticed, and the engine's code_drop is called.  Call before reading the bytes. */
void x86_code_claim(struct hv_vp *vp, uint64_t ram_page, uint64_t lines);

/* What is known of a RAM page: which lines hold code, which VPs may have some of it, which may store to it without
 * notice, which may store without notice to lines that held no code when they looked. */
struct x86_page {
    _Atomic uint64_t lines, code_vps, write_vps, line_vps;
    _Atomic uint32_t stores;    /* slow ones since code was last made from it */
    _Atomic uint32_t patience;  /* how many of them are borne before all code goes, as a power of two */
};

#define X86_MAX_RAM_PAGES (1ull << 28)

int x86_mmu_init(struct hv_vp *vp);
void x86_mmu_fini(struct hv_vp *vp);
int x86_pages_init(struct hv_partition *p);
void x86_pages_fini(struct hv_partition *p);

/* Alignment: canonical addresses, 3.3.7.1 of SDM 1. */
static inline bool x86_canonical(uint64_t a) { return (uint64_t)((int64_t)(a << 16) >> 16) == a; }

#endif
