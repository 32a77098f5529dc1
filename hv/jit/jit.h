/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the translator engine: state, blocks, sites, who calls whom.
 *
 * Guest registers live in host registers while translated code runs (jit_host_reg); r9, r10, r11 of the
 * guest stay in struct x86_cpu, but for blocks that use them much (loans.c).  Host rcx and r11 are scratch, r9 is the guest's rcx, r10 the guest's rsp.
 * The guest's arithmetic flags are the host's.  Everything belongs to one VP and its thread.
 *
 * Environment, for tests: MOBO_JIT_EXACT keeps the flags exact where nobody reads them (a fault shows them),
 * MOBO_JIT_EXACT=slots does so without giving up the slots of sites, MOBO_JIT_SMALL makes tables small and lets all
 * 64-bit code float, MOBO_JIT_NATIVE=no, auto or always is as [vm] native, MOBO_JIT_DUMP=FILE writes blocks there, as mobo run --dump jit=FILE: observe.c.
 *
 * A block is made three times at most: with checks of its accesses by calls (small), after JIT_WARM runs with checks
 * in line, and when it runs as often as inner loops do with slots for what its sites used last (slots.c).
 *
 * MOBO_JIT_CHECK=interp[:N] compares blocks with the reference, see lockstep.c.
 *
 * Code leaves to C through thunks that put all registers into struct x86_cpu first, so that a helper may
 * raise an exception (longjmp) at any point. */
#ifndef MOBO_HV_JIT_H
#define MOBO_HV_JIT_H

#include "hv/jit/emit.h"
#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

enum {
    JIT_CACHE_MIN = 10 << 20,
    JIT_CACHE_SIZE = HV_CODE_CACHE_MAX,      /* host code of one VP, in segments */
    JIT_HUGE = 2 << 20,             /* a huge page of the host, which is a segment */
    JIT_SEGMENTS = JIT_CACHE_SIZE / JIT_HUGE,
    JIT_GONE = 1 << 18,             /* bits of the memory of what was given up */
    JIT_HOT_PART = 2,               /* one in so many bytes of a segment are for what runs */
    JIT_BLOCK_MAX = 64 << 10,       /* no block is longer */
    JIT_MAX_INSNS = 48,             /* of a block */
    JIT_MAX_BLOCKS = 1 << 20,
    JIT_MAX_POOL = 1 << 19,         /* decoded instructions that are executed by C */
    JIT_MAX_ACC = 3 << 19,          /* accesses that are checked by a call */
    JIT_HASH = 1 << 17,
    JIT_PAGES = 1 << 14,
    JIT_CROSS = 256,
    JIT_FSIG = 8192,
    JIT_JC = 65536,
    JIT_PAUSES = 256,
    JIT_CLASSES = 3,                /* data views: user, supervisor, supervisor with user access */
    JIT_SLOTS = 8192,               /* site caches of one kind: */
    JIT_SLOTS_FIXED = 4096,         /* the upper ones are pages' that code knows by their address */
    JIT_SLOT_KINDS = 4 * JIT_CLASSES,
    JIT_SLOT_CHUNK = 32,            /* cleared together */
    JIT_SLOT_GROUPS = 64,           /* of chunks: what is known of where a page is */
    JIT_SLOT_FILTER = 1024,
    JIT_SLOT_BUDGET = 256,          /* misses between two looks at how fast they come */
    JIT_HINTS = 65536,
    JIT_HOT = 8000,                 /* runs of a block, then it is made with more care */
    JIT_RATE = 400,                 /* cycles between them at most; */
    JIT_SLOW = 7,                   /* turns of twice as many runs each that were slower, then they are not counted any more */
    JIT_WARM = 300,                 /* runs of a block, then its checks are made in line */
    JIT_TRY = 1000,                 /* more runs, then slots that miss are given up */
    JIT_CROSSINGS = 16,             /* of a block's windows, then it is made without, */
    JIT_CROSS_RATE = 20000,         /* if they come within so many cycles each, */
    JIT_UNGROUPED = 64              /* but for some seconds only: so many blocks */
};

/* The page that a site used last, found by one compare where the TLB takes an index first: - page, and what leads
 * from the linear address to the host's (direct), or the host page.  A slot belongs to one view, to reads or to
 * writes, to one of the two forms; sites beyond their number share slots.  They are emptied by what
 * mmu.tlb_gen tells.  Slot 0 of a kind is the stack's. */
struct jslot { uint64_t tag, val; };

/* Return prediction by the host's own: a guest CALL is a host CALL, behind which stands what compares the address
 * that the guest's RET has read with the one that was pushed.  While translated code runs, rsp is in one of these
 * stacks, one for each view; what it pushed is good for the same key and the same mapping of pages only, so that
 * whatever clears fsig empties them.  The room below is for signal frames. */
enum { JIT_RET_ROOM = 65536, JIT_RET_DEPTH = 1024 };
struct jit_rets {
    uint8_t room[JIT_RET_ROOM] __attribute__((aligned(64)));
    const uint8_t *e[JIT_RET_DEPTH];
    const uint8_t *miss;            /* returned to when there is nothing above */
};

/* What is known of the instruction at a physical address; collisions cost speed only. */
enum { JHINT_TLB = 1 /* its pages change too often for a slot */, JHINT_NOGROUP = 2 /* block: windows cross pages */, JHINT_HOT = 4, JHINT_TRIED = 8 /* block: it runs often; it has been seen how its slots do */, JHINT_WARM = 16 /* block: checks are in line */ };

/* Key of a block: cpu.key, the data view, and how it is made. */
enum {
    JKEY_VIEW_SHIFT = 16,
    JKEY_NOGROUP = 1u << 20,
    JKEY_SSE_SLOW = 1u << 21,       /* MXCSR unmasks an exception: C runs what could raise it */
    JKEY_X87_SLOW = 1u << 22,       /* FCW does */
    JKEY_SMAP = 1u << 23,           /* CR4.SMAP: STAC and CLAC choose the view */
    JKEY_FS_FLAT = 1u << 24,        /* 32-bit code: the segment is a writable one of 4 GB, at any base */
    JKEY_GS_FLAT = 1u << 25,
    JKEY_SINGLE = 1u << 26,         /* comes back to the run loop at its end: lockstep.c */
    JKEY_VIEW = 3u << JKEY_VIEW_SHIFT
};

/* 64-bit code of programs floats: the same library is somewhere else in each process, and its blocks serve them all.
 * Addresses in them are those of the first process (canonical, and below 2 GB), to which @bias of struct jit is added
 * when the code runs; it is set where a block is entered by an address of the guest, and stays on the way along direct
 * branches.  A bias in use has a number, which fsig[] has in its upper bits. */
enum { JIT_CANON_MIN = 1 << 16, JIT_CANON_MAX = 0x7fc00000, JIT_SIG_BITS = 20, JIT_BIASES = 4094, JIT_BIAS_HASH = 8192,
       JIT_BIAS_CACHE = 4096, JIT_NEAR = 16, JIT_KNOWN = 4096 };
struct jbias { uint64_t neg; uint32_t neg_sig; };   /* - bias; - (number << JIT_SIG_BITS) */
enum { JIT_BIAS_CANON = -9 };                       /* of an entry: there, from what its call of t_bias returns to (32 bits) */
struct jknown { uint64_t neg_tag, bias, neg_bias; uint32_t neg_sig, host; uint64_t ind, place; } __attribute__((aligned(64)));
struct jbias_number { uint64_t bias; uint32_t number; };
struct jnear { uint64_t lo, hi, bias; };            /* pages that code of this bias was found in */

struct jblock {
    uint64_t rip, phys;             /* rip: canonical when it floats; phys: RAM page << 12 | offset */
    uint64_t made_at;               /* RIP then, for those who look on */
    uint64_t page2;                 /* RAM page of the rest of a single instruction that crosses; ~0 none */
    uint32_t key;
    uint32_t sig;                   /* what fsig[] must hold for this code to be what RIP means */
    uint32_t ind, known, sigent, main, end; /* offsets into the cache: entries, end of the main part */
    uint32_t code;                  /* ... a copy of the guest's code that it was made from */
    uint32_t size;                  /* with what is seldom run */
    uint32_t tail;                  /* calls of thunks, see JIT_TAIL_* */
    uint32_t hash_next, page_next, cross_next; /* block numbers, 0 none */
    uint32_t links;                 /* struct jlink (offsets into the cache, 0 none) of branches that lead here */
    uint32_t heirs_of, heir_next;   /* dropped blocks whose main leads here, and their list */
    uint64_t lines;                 /* of phys's page: what it was made from */
    uint32_t sig2;                  /* of page2 */
    uint16_t len, ninsns;
    uint8_t dead, live_in, cls;
    uint32_t slots;                 /* offset of its first site with a slot, 0 none */
    uint32_t since;                 /* when its runs began to be counted: time stamp >> 10 */
    uint32_t count;                 /* offset of what counts its runs, */
    uint8_t count_len;              /* and how long that is */
    uint8_t slow;                   /* how often it had run JIT_HOT times too slowly */
    uint8_t crossings;              /* of shared windows, */
    uint32_t crossed_since;         /* since then: time stamp >> 10 */
    bool floating;
    bool groups;                    /* checks are shared: host addresses live on from one instruction to others */
    uint16_t tries, equal;          /* of JKEY_SINGLE, for lockstep_each.c: runs of which it was tried, or done, to compare them */
    uint8_t why, early;             /* the last one was not: enum lockstep_why; how often it had left early */
};

/* Each block ends with a call of a thunk for each of these, and then its number (32 bits): main leads there when the block is
 * dropped; it runs often; its page is another; somebody wants the VP. */
enum { JIT_TAIL_DROP = 0, JIT_TAIL_HOT = 5, JIT_TAIL_PAGE = 10, JIT_TAIL_POLL = 15, JIT_TAIL_NUMBER = 20 };

/* A direct branch that nobody has taken yet leads to a call of a thunk, behind which is this.  Not aligned. */
struct jlink {
    uint32_t block;
    uint32_t arg;                   /* offset of the rel32 to patch; JLINK_FAR: the page has to be looked at always */
    uint32_t next;                  /* in the target's list, when it is linked */
    int32_t rel;                    /* guest address from the block's rip */
};
#define JLINK_FAR 0x80000000u
enum { JIT_CALL = 5 /* bytes */ };

/* Data behind a call of a thunk.  Offsets are from the start of the cache. */
struct jsite {
    uint32_t block;
    uint32_t arg;                   /* exec: number in the pool; access at a fixed address: of the slot */
    uint32_t retry, next;           /* host code: before the check; the next guest instruction */
    uint16_t off;                   /* guest instruction, from the block's start */
    uint8_t n, acc;                 /* miss: bytes, X86_ACC_* */
    uint8_t flags, len;             /* JS_*; length of the instruction */
    uint8_t align;                  /* miss: required alignment less one */
    uint8_t view;                   /* data view at this instruction: STAC and CLAC change it in a block */
    int16_t glo;                    /* JS_GROUP: the checked window, from the access's address, and its length */
    uint16_t gn;
};
enum { JS_SECOND = 1 /* not the first access of its instruction */, JS_GROUP = 2, JS_SAMEPAGE = 4, JS_END = 8, JS_GWRITE = 16, JS_XFLAGS = 32 /* flags are in xf */,
       JS_STI = 128 /* behind an STI that was done without C: it is not begun anew by way of the run loop */,
       JS_MORE = 64 /* behind it there is another access of its instruction, whose check may be what the rest of the block goes by */ };

/* Of a site with a slot; addresses are below 2 GB. */
struct jslot_site {
    struct jsite s;
    uint64_t lim, mask;             /* 4096 - bytes; ~0: the slot holds the host page */
    uint64_t group;                 /* 1 << its group */
    uint32_t tags;                  /* nrd or nwr of the TLB's first entry */
    uint32_t slot, budget, dirty;
    uint32_t number, align;         /* align: less one */
    uint32_t chain;                 /* offset of the block's next, 0 none */
};

struct jsig { uint64_t va_page, phys_page; uint32_t key, id; };
enum { JIT_SIGS = 16384 };

/* What SYSCALL or SYSRET came from and came to the last time; see events.c. */
struct jfast {
    uint64_t mode_in, star, sfmask, cr4, efer; /* must be so again; mode_in: cpu.mode to cpu.key */
    uint32_t ef_in, r11_in;
    uint64_t mode_out;
    uint32_t ef_out, key_out;
    struct x86_seg seg[2];          /* CS, SS */
    struct x86_tlb *tlb;
    const uint8_t *const *jc;
    const uint32_t *last_key;
    uint8_t view, valid;
    uint64_t *rsp;                  /* of struct jit: the stack of returns afterwards */
};

/* An access whose check is a call of a thunk (t_check): the site of the call that returns to @at.  In the order of
 * addresses within a segment. */
struct jaccess { uint32_t at; struct jsite s; };
/* Checks of windows of powers of two, up to 512 bytes, and of aligned operands of 16 and 32. */
enum { JIT_CHECKS = 12 };

enum { JIT_EVICT = 1 /* the segment is full */, JIT_RESET = 2 };

/* What only this engine counts; names in observe.c. */
enum jit_stat {
    JST_INSNS,                      /* guest instructions translated */
    JST_MADE_WARM, JST_MADE_HOT,
    JST_CHAINED, JST_UNCHAINED,     /* branches that lead to a block without C, and no more */
    JST_DROP_STORE, JST_DROP_REMADE, JST_DROP_EVICTED, /* blocks, in the order of enum jit_drop */
    JST_FOUND,                      /* a target that its caches did not have, but that had been translated */
    JST_OUT,                        /* ... back to the run loop: an event, a reset, what cannot be translated */
    JST_MISS_READ, JST_MISS_WRITE,  /* the software TLB did not serve an access, a walk made it so */
    JST_MISS_CODE,                  /* a store beside code */
    JST_MISS_WINDOW,                /* a window of accesses across pages */
    JST_MISS_C,                     /* executed by C: devices, across pages, faults */
    JST_SLOT_TLB,                   /* a site's slot did not have the page, the software TLB did */
    JST_MISS_SLOT,                  /* neither had, or the slot misses too often */
    JST_INTERP,                     /* instructions in modes that are not translated */
    JIT_STATS
};

/* Decoded instructions of sites whose accesses need C again and again. */
enum { JIT_SLOW_SITES = 256 };
struct jslow { const struct jsite *site; struct x86_insn in; };

struct jit {
    /* Addressed by translated code with 32 bits. */
    uint64_t ea, target, a, b, lo;  /* of thunks and long sequences */
    uint64_t site, xa, slot_add;
    uint64_t bias, neg_bias;        /* of the floating block that runs */
    uint32_t neg_sig;
    struct jbias bias_cache[JIT_BIAS_CACHE]; /* by bias >> 12 */
    uint64_t mask_bias, mask_known;
    /* Targets that jc[] did not have, by the view and some bits of RIP.  The tag is RIP, that a guest may choose as it likes; then the bias, and the
     * host address behind the block's test of RIP: one that is dropped tells so itself.  Its entry goes to its place in jc[]. */
    struct jknown known[JIT_CLASSES * JIT_KNOWN];
    uint32_t xf;                    /* flags put away by exact code with slots */
    uint64_t rsp_host, rsp[JIT_CLASSES]; /* stack pointers of C and of each view */
    uint64_t *rsp_cur;              /* of rsp[]: the view that runs */
    struct jit_rets rets[JIT_CLASSES];
    uint32_t slot_gen;              /* mmu.tlb_gen that the slots belong to */
    struct jslot slot[JIT_SLOT_KINDS * JIT_SLOTS];
    int32_t slot_budget[JIT_SLOT_KINDS * JIT_SLOTS];
    int32_t runs[JIT_MAX_BLOCKS];   /* left until a block counts as hot */
    uint8_t slot_dirty[JIT_SLOT_KINDS * JIT_SLOTS / JIT_SLOT_CHUNK]; /* chunks in use, and where these are: */
    uint32_t slot_list[JIT_SLOT_KINDS * JIT_SLOTS / JIT_SLOT_CHUNK];
    uint64_t slot_lin[JIT_SLOT_FILTER], slot_host[JIT_SLOT_FILTER]; /* groups that may hold a linear page, a host page */
    uint64_t slot_local;            /* groups that may hold pages that are not global */
    uint64_t slot_top;              /* address of the first free place in slot_list */
    uint64_t mask_idx, mask_page, mask_page16, mask_page32, mask_arith, mask_no_if, mask_no_df, mask_no_ac;
    uint64_t vdead;                 /* 0: the host's vector registers and MXCSR are the guest's */
    uint64_t x87dead;               /* 0: the host's x87 registers are */
    uint32_t upper;                 /* some vector register is not zero above bit 127 */
    uint64_t group[16];             /* of the running block: host address - linear address */
    uint32_t fsig[JIT_CLASSES][JIT_FSIG];
    const uint8_t *jc[JIT_CLASSES][JIT_JC];

    struct jfast fast[2];           /* SYSCALL, SYSRET */
    uint32_t pauses;                /* PAUSE until the thread yields */
    uint64_t fast_fl, fast_rdx;     /* saved in their thunks */
    uint64_t calls;                 /* SYSCALLs so far */

    struct hv_vp *vp;
    struct jnat *nat;               /* programs may run in processes of their own; NULL: not.  native.h */
    uint8_t *rw;                    /* the cache, writable view */
    const uint8_t *rx;              /* executable view */
    uint32_t used, first;           /* bytes; where blocks begin, after the thunks */
    uint32_t seg_size, seg_end;     /* of a segment, of the one that is filled now */
    uint32_t cold_begin, cold;      /* its part for what is seldom run, so that what runs is dense; used up to here */
    uint32_t seg, pool_end;         /* its number, the end of its part of the pool */
    uint32_t nsegs, max_segs;       /* in use, may be */
    bool written;                   /* the cache, since its writable view was unmapped */
    uint32_t made, reasons;         /* blocks since then; twice those that are a reason to grow */
    uint32_t ngone;
    uint64_t gone[JIT_GONE / 64];   /* blocks that were given up, hashed */
    const uint8_t *t_stack[JIT_CLASSES][2][2]; /* the stack's slot is another page's: view, write, flags are live */
    const uint8_t *t_fixed[JIT_CLASSES][2][2]; /* ... that of a page which code knows by its address */
    const uint8_t *t_bias;          /* called at an entry, rcx as entered_at left it; before the call is JIT_BIAS_CANON */
    const uint8_t *t_enter, *t_exit, *t_ripexit, *t_dispatch, *t_dispatch_c, *t_link, *t_miss, *t_exec, *t_vload, *t_x87load, *t_drop, *t_hot, *t_page, *t_poll, *t_slot, *t_retmiss[JIT_CLASSES];
    const uint8_t *t_string[JIT_CLASSES][2][4]; /* REP MOVS and STOS within a page: view, STOS, size as a power of 2 */
    const uint8_t *t_check[JIT_CLASSES][2][2][JIT_CHECKS]; /* view, write, flags are live, window */
    const uint8_t *t_syscall, *t_sysret, *t_rdtsc, *t_rdtscp;
    uint32_t seen_gen;              /* mmu.fetch_gen that fsig belongs to */
    uint32_t next_sig;
    uint16_t nonglobal[64];         /* slots of the supervisor classes that a write of CR3 clears */
    unsigned nnonglobal;            /* 65: too many */
    struct jfact { uint64_t page; uint16_t slot; } fact[JIT_CLASSES][JIT_FSIG]; /* by page: the slot of fsig that speaks of it */
    struct jbias_number numbers[JIT_BIAS_HASH];
    unsigned nnumbers, next_near;
    struct jnear near[JIT_NEAR];
    uint32_t last_key[JIT_CLASSES];  /* fsig of a class holds entries of one key only */
    struct jblock *cur;             /* block whose instruction C executes now */
    bool host_avx, host_xinuse;     /* XGETBV tells which vector state is in its initial form */
    bool exact;                     /* flags are never stale, not even where nobody reads them */
    bool exact_slots;               /* and sites have slots all the same, which takes saving the flags */
    bool always_hot;
    bool small;                     /* few slots, for tests */
    struct jslot slot_none[2];      /* direct, host page: matches a secret address only, leads to @nowhere */
    uint64_t slot_since[JIT_SLOT_KINDS * JIT_SLOTS]; /* time stamp of the last look */
    uint16_t slot_next[JIT_SLOT_KINDS];
    uint8_t hint[JIT_HINTS];
    void *nowhere;                  /* a page */
    struct jit_observe *observe;    /* trace, dump, names for perf and gdb; NULL: none.  observe.c */
    uint64_t ungrouped[JIT_UNGROUPED]; /* blocks whose windows crossed pages, by where they are in RAM */
    unsigned nungrouped;
    uint32_t ungrouped_at;          /* the first of them: time stamp >> 10 */
    uint64_t stat[JIT_STATS], by_c[X86_OP_COUNT]; /* counters, written by the VP's thread, read by any; by_c: by operation */
    uint64_t code_used, code_size;  /* bytes */
    bool in_code;                   /* C was called from translated code */
    bool leave;                     /* do not go back into the current block */
    uint8_t want_reset;             /* JIT_EVICT, JIT_RESET: leave and do that */
    unsigned nblocks, npool;
    struct jblock *blocks;          /* [JIT_MAX_BLOCKS], number 0 unused */
    struct x86_insn *pool;
    struct jaccess *acc;
    uint32_t nacc, acc_end, acc_n[JIT_SEGMENTS]; /* in the segment that is filled; where each segment's end */
    uint32_t hash[JIT_HASH], page[JIT_PAGES], cross[JIT_CROSS];
    struct jsig sigs[JIT_SIGS];
    struct jslow slow[JIT_SLOW_SITES];
    struct lockstep *lockstep;      /* blocks are compared with the reference, NULL: no; lockstep.c */
    bool single;                    /* the run loop asks for blocks of JKEY_SINGLE */
    bool gated;                     /* what is at cpu.rip has to be compared before a block that leads on is made of it */
    uint32_t single_key;            /* variant that is compared next */
    bool left, ended;               /* for lockstep.c: a block was left by C, its last instruction was executed by C */
};

static inline struct jit *jit_of(struct hv_vp *vp) { return vp->jit; }

/* Time stamp >> 10, for what is some thousand cycles to some minutes apart. */
static inline uint32_t jit_kcycles(void) { return (uint32_t)(__builtin_ia32_rdtsc() >> 10); }

static inline bool jit_seg_flat(const struct x86_seg *s)
{
    return s->limit == 0xffffffffu && (s->attr & (SEG_UNUSABLE | SEG_P | SEG_TYPE_CODE | SEG_TYPE_EXPDOWN | SEG_TYPE_RW)) ==
                                          (SEG_P | SEG_TYPE_RW);
}

static inline uint32_t jit_key(const struct hv_vp *vp)
{
    const struct x86_cpu *c = &vp->cpu;
    uint32_t key = c->key | (uint32_t)vp->mmu.view << JKEY_VIEW_SHIFT;

    if (unlikely((c->mxcsr & 0x1f80) != 0x1f80))
        key |= JKEY_SSE_SLOW;
    if (c->cr4 & CR4_SMAP)
        key |= JKEY_SMAP;
    if (!(key & X86_KEY_MODE64))
        key |= (jit_seg_flat(&c->seg[X86_FS]) ? (uint32_t)JKEY_FS_FLAT : 0) |
               (jit_seg_flat(&c->seg[X86_GS]) ? (uint32_t)JKEY_GS_FLAT : 0);
    if (!(c->x87_live & X86_LIVE_X87) && ((c->x87_live & X86_LIVE_X87_SLOW) || (c->fx.b[0] & 0x3f) != 0x3f))
        key |= JKEY_X87_SLOW;
    return key;
}

/* RIP of a block, the one that runs or is about to. */
static inline uint64_t jit_rip_of(const struct jit *j, const struct jblock *b) { return b->rip + (b->floating ? j->bias : 0); }

/** Translate at cpu.rip (linear address @lin in @page, RAM page @ram_page), which is @canon in the block when it floats,
 * else the same.  @return NULL: the first instruction
 * cannot be translated here (crosses the page, undefined), or j->want_reset is set. */
struct jblock *jit_translate(struct hv_vp *vp, uint64_t lin, const uint8_t *page, uint64_t ram_page, uint32_t key,
                             uint64_t canon, bool floating);
/** The thunk's number for a window of @n bytes, or a multiple of that; an operand with @align (less one).  -1: none. */
static inline int jit_check_kind(unsigned n, unsigned align)
{
    if (align)
        return align == 15 && n == 16 ? 10 : align == 31 && n == 32 ? 11 : -1;
    return n <= 512 && !(n & (n - 1)) ? __builtin_ctz(n) : -1;
}
/** Make the thunks at the start of the cache. */
void jit_make_thunks(struct jit *j);
/** Between the stack of returns and C's; rcx is used up, flags stay. */
void jit_emit_stack_to_c(struct emit *e, struct jit *j);
void jit_emit_stack_from_c(struct emit *e, struct jit *j);
void jit_make_event_thunks(struct jit *j, struct emit *e);
/** The thunk that may execute @in in a block of @key without C; it is called like t_exec, with the address behind
 * the instruction in rcx.  @return NULL: none. */
const uint8_t *jit_event_thunk(const struct jit *j, const struct x86_insn *in, uint32_t key);
/** C is about to execute a SYSCALL or SYSRET, or has done so: remember. */
void jit_fast_before(struct hv_vp *vp, struct jfast *f);
void jit_fast_after(struct hv_vp *vp, struct jfast *f, bool ret);
/** Code that puts live vector registers into struct x86_cpu; changes flags, rax, rcx, rdx. */
void jit_emit_vec_spill(struct emit *e, struct jit *j);
/** What fsig[] holds for a page. */
uint32_t jit_sig(struct jit *j, uint64_t rip, uint64_t ram_page, uint32_t key);

/* The return stack of the privilege in force.  With SMAP the view with user access lasts for a few instructions: it has none. */
static inline unsigned jit_ret_stack(unsigned view, bool smap) { return view == X86_VIEW_SUPER_AC && smap ? X86_VIEW_SUPER : view; }
void jit_rets_clear(struct jit *j, unsigned stack);
static inline uint32_t jit_ret_limit(const struct jit *j, unsigned stack)
{
    return (uint32_t)(uintptr_t)&j->rets[stack].e[j->small ? JIT_RET_DEPTH - 4 : 1];
}

/* Slots.  A kind: view, write or read, and whether it holds the host page. */
static inline unsigned jit_slot_kind(unsigned view, bool write, bool host) { return (view * 2 + write) * 2 + host; }
static inline unsigned jit_slot_group(unsigned slot) { return slot / (JIT_SLOT_KINDS * JIT_SLOTS / JIT_SLOT_GROUPS); }
/** Index into slot_lin by a tag (- page), into slot_host by the address of a page. */
static inline unsigned jit_slot_filter(uint64_t page) { return (unsigned)(page >> 12) & (JIT_SLOT_FILTER - 1); }
int jit_slots_init(struct jit *j);
void jit_slots_fini(struct jit *j);
/** Forget where sites are and what was learnt of them. */
void jit_slots_reset(struct jit *j);
/** Block @b has run JIT_TRY times with slots: which of them are no use? */
void jit_slots_judge(struct jit *j, const struct jblock *b);
/** mmu.tlb_gen has changed: empty the slots that this concerns.  Called by thunks. */
void jit_slots_flush(struct hv_vp *vp);
static inline uint8_t *jit_hint(struct jit *j, uint64_t phys) { return &j->hint[(phys ^ phys >> 16) & (JIT_HINTS - 1)]; }
/** The slot of a site and the TLB do not serve an access. */
const uint8_t *jit_c_slot(struct hv_vp *vp, const struct jslot_site *u);
struct jblock *jit_block_find(struct jit *j, uint64_t rip, uint64_t phys, uint32_t key);
/** The block is made again when it is needed. */
void jit_block_drop(struct jit *j, struct jblock *b);
/** Drop @b and go on at cpu.rip with what is made instead. */
const uint8_t *jit_remake(struct hv_vp *vp, struct jblock *b);

static inline unsigned jit_fsig_slot(uint64_t rip) { return (unsigned)(rip >> 12) & (JIT_FSIG - 1); }

/* Called from thunks; each returns the host address to go on at. */
const uint8_t *jit_c_dispatch(struct hv_vp *vp, uint64_t rip);
const uint8_t *jit_c_link(struct hv_vp *vp, const uint8_t *at);
const uint8_t *jit_c_check(struct hv_vp *vp, const uint8_t *at);
const uint8_t *jit_c_miss(struct hv_vp *vp, const struct jsite *s);
const uint8_t *jit_c_drop(struct hv_vp *vp, const uint8_t *at);
const uint8_t *jit_c_hot(struct hv_vp *vp, const uint8_t *at);
const uint8_t *jit_c_page(struct hv_vp *vp, const uint8_t *at);
const uint8_t *jit_c_poll(struct hv_vp *vp, const uint8_t *at);
const uint8_t *jit_c_exec(struct hv_vp *vp, const struct jsite *s);
const uint8_t *jit_c_vload(struct hv_vp *vp, const uint8_t *next);
const uint8_t *jit_c_x87load(struct hv_vp *vp, const uint8_t *next);

#endif
