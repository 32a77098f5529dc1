/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs in a process of their own: the translator's second form of code, whose operands are the guest's addresses.
 *
 * The checks of the software TLB cost a program that computes half of its time or more.  An executor is a process that
 * has nothing but one guest address space: pages of the guest's RAM where the program has them, code that a second
 * instance of the translator has made (struct jit with @win), and struct jwin.  A VP's thread lets it run instead of
 * itself, one of the two at a time, while the VP is in a program that hardly ever calls the kernel.  The host's MMU
 * does what the software TLB does elsewhere; a page that is not there is a signal, and so is what an instruction raises.
 *
 * What an executor does is not believed.  It runs code of the guest with the guest's addresses unchecked, so anything
 * in it may be read, and all that can be written may be changed, struct jwin's upper part and its stacks among it; then
 * it jumps anywhere in its code.  It can hurt its own program with that, as the program can anyway:
 *  - it has no page that its program must not have, nor any of the VMM's (but the code, which has none of its addresses);
 *  - its thread may do nothing but return from a signal and hand over: a system call that stops it until the VMM answers
 *    (SECCOMP_RET_USER_NOTIF), so that the VMM knows that it stands still, whatever it says;
 *  - its mappings are made by a second thread, which is stopped in the same way, from a list that can only be read,
 *    while the first one stands still;
 *  - what it hands over is registers of its program, checked as such, and places in its code, which the VMM compares
 *    with what it has made;
 *  - if it does not answer, it is killed, and the program gets a #GP.
 * The one thing that is not as on a processor: the pages of the executor's own (below 2 GB) can be read where the
 * program has none.  Where it has some, or code that cannot be run here, it is run as all other code is.
 *
 * native.c when, and a turn; native_map.c its memory; native_proc.c the process; native_code.c its fixed code. */
#ifndef MOBO_HV_JIT_NATIVE_H
#define MOBO_HV_JIT_NATIVE_H

#include "hv/jit/jit.h"

enum {
    JNAT_CACHE = 32 << 20,          /* bytes of code */
    JNAT_OPS = 256,                 /* system calls in one list */
    JNAT_STACK = 64 << 10,          /* for signals */
    JNAT_EXECUTORS = 4,             /* of a VP */
    JNAT_SPACES = 16,               /* address spaces that something is known of */
    JNAT_REGIONS = 4096,            /* of 2 MB, of an executor */
    JNAT_PAGES = 40000,             /* mapped at most */
    JNAT_KNOWN = 8192,              /* targets that jc[] does not have */
    JNAT_FACTS = 4096,              /* pages of code that fsig[] speaks of */
    JNAT_AHEAD = 512                /* blocks that are made at one go */
};

/* Why the executor hands over. */
enum jnat_why { JNAT_READY = 1, JNAT_DISPATCH, JNAT_LINK, JNAT_EXEC, JNAT_EXIT, JNAT_DROP, JNAT_PAGE, JNAT_POLL, JNAT_SIGNAL };
/* How it goes on: into code, or where a signal was. */
enum jnat_how { JNAT_ENTER = 1, JNAT_RETURN };

struct jnat_op { uint64_t nr, arg[6], pad; };

struct jwin {
    /* The executor can write this. */
    uint64_t gpr[16], fl, tmp, rsp, a, b;
    uint64_t why, arg, addr, sig, frame;
    uint64_t mapper_err;
    uint8_t xsave[1024] __attribute__((aligned(64)));
    uint8_t stack[JNAT_STACK] __attribute__((aligned(64)));
    struct jit_rets rets;
    /* This it can only read. */
    struct {
        uint64_t enter, how, seg_base[2], nops, mask_known;
        struct jnat_op op[JNAT_OPS] __attribute__((aligned(64)));
    } ro __attribute__((aligned(4096)));
    uint32_t fsig[JIT_FSIG];
    const uint8_t *jc[JIT_JC];
    struct { uint64_t neg, host; } known[JNAT_KNOWN]; /* - RIP; behind the block's look at it */
} __attribute__((aligned(4096)));

/* Of a block: where its instructions are, and its loans. */
struct jnote_loan { uint8_t host, from, to; };
struct jnote {
    uint32_t ind, end;
    uint8_t n, ends, nloans;
    uint64_t rep;                   /* which are repeated string instructions */
    struct jnote_loan loan[3];
    uint16_t host[JIT_MAX_INSNS], off[JIT_MAX_INSNS]; /* from @ind; from the block's RIP */
};

/* 2 MB of a program. */
struct jnat_region {
    uint64_t va;                    /* >> 21 */
    uint64_t pte[512];              /* as they were when mapped, 0 not mapped; large: all the entry above */
    uint32_t page[512];             /* RAM pages */
    uint64_t large;
    uint64_t writable[8];
    unsigned n;
    struct jnat_region *next;
};

/* A thread of an executor, and the notification by which it stands still. */
struct jnat_thread { int listener; uint64_t id; };

struct jnat_executor {
    bool alive;
    int pid, pidfd;
    struct jnat_thread run, map;
    uint64_t cr3;                   /* as jnat_space_of says */
    uint64_t used;                  /* for LRU */
    uint64_t missing;               /* page of the last access that was a page fault, | 2, | 1 if it was a write; 0 none */
    uint32_t seen_gen;              /* mmu.tlb_gen that the mappings belong to */
    unsigned npages;
    struct jnat_region *region[JNAT_REGIONS];
};

/* What is known of an address space. */
struct jnat_space {
    uint64_t cr3, used;
    unsigned score, fails;
    uint64_t not_before;            /* host ns */
};

struct jnat {
    struct jit *main;
    struct jit *jit;                /* for the executors: NULL before the first turn */
    struct jwin *win;
    struct jnote *note;
    struct jnat_executor exec[JNAT_EXECUTORS], *cur;
    struct jnat_space space[JNAT_SPACES];
    uint64_t armed;                 /* tables of the program that is run so; 0 none */
    uint64_t clock;
    uint64_t turn_at;               /* host ns, the end of the last one */
    uint64_t fact[JNAT_FACTS], fact_page[JNAT_FACTS]; /* pages that fsig[] speaks of, where they are in RAM */
    uint32_t fact_sig[JNAT_FACTS];
    unsigned nfacts;
    bool always;                    /* each program, at once: for tests */
    unsigned broken;
    bool off;                       /* not on this host, or not now */
    bool skip;                      /* once */
    bool kill;                      /* no executor is of use any more */
    uint64_t sample_ns, sample_cr3, sample_kernel;
    unsigned tokens;                /* for handing over */
    uint64_t tokens_at, rest_until, sample_built;
    uint64_t gain, cost;            /* ns, of the program that is armed */
    unsigned patience;              /* how often a program has to be found computing; programs that do not live long teach it */
    uint64_t turns, handed[JNAT_SIGNAL + 1], there, all, made; /* counters; there, all: ns */
};

/* Of an address space: where its tables are.  Its PCID is another each time. */
static inline uint64_t jnat_space_of(const struct hv_vp *vp) { return vp->cpu.cr3 & 0x000ffffffffff000ull; }

/** Of the VP's thread.  A time at which the VP is in a program, and something interrupts it. */
void jit_native_sample(struct hv_vp *vp);
/** Is the VP where an executor can run it, and is one to? */
bool jit_native_wanted(const struct hv_vp *vp);
/** The same, quickly: the VP goes on in a program. */
static inline bool jit_native_next(const struct hv_vp *vp)
{
    const struct jnat *n = vp->jit->nat;

    return unlikely(n != NULL) && !vp->jit->win && vp->cpu.cpl == 3 && !n->rest_until && !n->off &&
           (n->always || (n->armed && n->armed == jnat_space_of(vp)));
}
/** Let it.  @return when the VP has to be run as usual; may longjmp like all that raises exceptions, with vp->jit to be
 * put right by the caller. */
void jit_native_run(struct hv_vp *vp);
/** Such a thing may be.  No memory for it: then not. */
void jit_native_init(struct hv_vp *vp, bool always);
void jit_native_fini(struct hv_vp *vp);
/** A block has been made. */
void jit_native_made(struct jit *j, uint32_t block, const struct jnote *n);
/** Is @at behind a call of t_link that a block makes? */
bool jit_native_is_link(const struct jit *j, uint64_t at);

/** fsig[] has begun to say that page @va of a program (linear address >> 12) is RAM page @page.  @return false: there is no room
 * for more, it is empty now. */
bool jit_native_fact(struct jit *j, uint64_t va, uint64_t page, uint32_t sig);
/** The guest may have changed its tables: is what fsig[] says still so?  @return false: not all of it. */
bool jit_native_recheck(struct hv_vp *vp);
/** Block @b is gone, and known[] does not have it; or nothing at all. */
void jit_native_forget(struct jit *j, const struct jblock *b);
void jit_native_note(struct jit *j, const struct jblock *b);

/* native_code.c */
void jit_native_code(struct jit *j);
/* jit.c */
struct jit *jit_native_instance(struct hv_vp *vp, struct jwin *win);
void jit_instance_free(struct jit *j);
const uint8_t *jit_dispatch(struct hv_vp *vp);
/** Translate what the branches of new blocks lead to, as far as it has been run elsewhere; their links are acc[@first] and on. */
void jit_native_ahead(struct hv_vp *vp, uint32_t first);
/** Between two turns, as the run loop does. */
void jit_between(struct hv_vp *vp);
/** A program is run so from now on: returns to it are to be noticed. */
void jit_native_armed(struct jit *j);
void jit_exec_at_rip(struct hv_vp *vp);
bool jit_may_translate(const struct hv_vp *vp);

/* native_proc.c */
int jnat_spawn(struct hv_vp *vp, struct jnat_executor *x);
/** It has no page of any program from now on. */
int jnat_empty(struct hv_vp *vp, struct jnat_executor *x);
void jnat_kill(struct jnat_executor *x);
/** Go on, and wait until it hands over.  @return 0, -ETIME (it does not answer), -EPIPE (it is gone). */
int jnat_resume(struct hv_vp *vp, struct jnat_executor *x);
/** Have the list of ro.op carried out.  @return 0 or a negative errno. */
int jnat_batch(struct jnat_executor *x, struct jwin *w, unsigned n);

/* native_map.c */
/** RAM page of an address that a program may execute, as its tables say it; nothing is noted.  @return ~0: none. */
uint64_t jnat_code_page(struct hv_vp *vp, uint64_t va);
/** Take away what the guest has taken away.  @return 0 or a negative errno: the executor is of no use. */
int jnat_sync(struct hv_vp *vp, struct jnat_executor *x);
/** A signal for an access to @va.  @return 1: it can be tried again; 0: not by mapping; negative errno. */
int jnat_fault(struct hv_vp *vp, struct jnat_executor *x, uint64_t va, bool write);
void jnat_unmap_all(struct jnat_executor *x);
/** Has the program that the VP is in nothing where an executor has its own?  With several VPs it is noticed when that changes. */
bool jnat_place_free(struct hv_vp *vp);

#endif
