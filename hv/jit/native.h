/* SPDX-License-Identifier: BSD-2-Clause */
/* Programs in a process of their own: 64-bit user code of the guest is run by the host's processor as it is.
 *
 * The checks of the software TLB and the translation itself cost a program that computes half of its time or more.  An
 * executor is a process that has nothing but one guest address space: pages of the guest's RAM where the program has
 * them, with its rights, a page of fixed code and struct jwin.  A VP's thread lets it run instead of itself, one of the two
 * at a time, while the VP is in a program that seldom calls the kernel.  The host's MMU does what the software TLB does
 * elsewhere; a page that is not there is a signal, and so is what an instruction raises, a system call (seccomp(2)), and
 * somebody's wish to have the VP.
 *
 * What an executor does is not believed.  It runs code of the guest, so anything in it may be read, and all that can be
 * written may be changed, the upper part of struct jwin with the frames of its signals among it; then it may jump anywhere.
 * It can hurt its own program with that, as the program can anyway:
 *  - it has no page that its program must not have, nor any of the VMM's;
 *  - its thread may do nothing but return from a signal and hand over, by one instruction each: the latter is a system call
 *    that stops it until the VMM answers (SECCOMP_RET_USER_NOTIF), so that the VMM knows that it stands still;
 *  - its mappings are made by fixed code from a list that can only be read, before the program goes on.  The system calls
 *    for that are let through by a number that nothing but the VMM's answer brings and no register keeps;
 *  - what it hands over is registers of its program, checked as such;
 *  - if it does not answer, it is killed, and the program gets a #GP.
 *
 * Instructions that would show the host where the guest has something else (CPUID, RDTSC, RDPID, XGETBV, LSL, SGDT,
 * XSAVE and their like) raise no signal.  A page that has one of them (native_scan.c) cannot be executed there: its
 * instructions are interpreted, until all of them have been executed; then a copy of it is, in which HLT is in their places
 * (native_patch.c).  What is not as on a processor of the guest's:
 *  - the executor's own pages are in 512 GB in which the program has nothing, and can be read there: also where in the
 *    guest's memory pages of the program are;
 *  - instructions that the host has and the guest's CPUID does not show work, but for AVX-512 and AMX, which raise #UD some time later;
 *    so do RDFSBASE and RDGSBASE where CR4 has them not;
 *  - a program that reads its own code may find F4 where 0F is, in the instructions above;
 *  - selectors that a program reads are the host's; bytes that are an instruction for who jumps into the midst of another
 *    one only may be one of those above.
 *
 * native.c when, and a turn; native_state.c registers; native_map.c its memory; native_scan.c code that is not for it; native_patch.c
 * copies of that; native_proc.c the process; native_code.c its fixed code. */
#ifndef MOBO_HV_JIT_NATIVE_H
#define MOBO_HV_JIT_NATIVE_H

#include <linux/seccomp.h>
#include <signal.h>

#include "hv/jit/jit.h"

enum {
    JNAT_OPS = 256,                 /* system calls in one list */
    JNAT_STACK = 64 << 10,          /* for signals */
    JNAT_EXECUTORS = 4, JNAT_EXECUTORS_ALL = 32, /* of a VP, of a partition with many of them */
    JNAT_KNOWN = 32,                /* programs that something is known of */
    JNAT_REGIONS = 4096,            /* of 2 MB, of an executor: lists by address */
    JNAT_REGIONS_MOST = 16384,      /* of all executors of a VP; how many mappings there can be the host says (vm.max_map_count) */
    JNAT_REGIONS_LEAST = 512, JNAT_REGION_PAGES = 32, /* one more for so many pages of RAM, of all VPs */
    JNAT_PLACES = 64, JNAT_PLACES_END = 160, /* for struct jwin, of 512 GB: where programs of the usual systems have nothing */
    JNAT_MOVES = 16,                /* to another of them */
    JNAT_KICK = SIGURG              /* somebody wants the VP; nothing happens to whoever else gets it */
};
enum { JNAT_READY = 1 };

struct jnat_op { uint64_t nr, arg[6], pad; };

struct jwin {
    /* The executor can write this. */
    uint64_t sig, frame;            /* the last signal, and its ucontext */
    uint64_t base[2];               /* FS, GS */
    uint16_t sel[4];                /* DS, ES, FS, GS */
    uint64_t list_err;
    uint64_t from[2], to[2];        /* TSC, low and high 32 bits: its program goes on, and was interrupted */
    uint64_t said, listener;        /* when it begins */
    uint8_t stack[JNAT_STACK] __attribute__((aligned(64)));
    /* This it can only read. */
    struct {
        uint64_t frame, base[2], nops;
        uint64_t stay;              /* hand over again behind the list */
        struct jnat_op op[JNAT_OPS] __attribute__((aligned(64)));
    } ro __attribute__((aligned(4096)));
    uint8_t code[4096] __attribute__((aligned(4096))); /* and execute */
} __attribute__((aligned(4096)));

/* Its fixed code: addresses. */
struct jnat_code {
    const uint8_t *start;           /* here its thread begins, with a signal */
    const uint8_t *signal;          /* the handler */
    /* Behind the system calls of its thread: handing over, one of the list, handing over behind it, rt_sigreturn. */
    const uint8_t *handed, *op, *listed, *returned;
};

/* Which 512 GB it is in, all of it. */
static inline unsigned jnat_slot(const struct jwin *w) { return (uintptr_t)w >> 39 & 511; }

static inline bool jnat_bit(const uint64_t *of, unsigned i) { return of[i / 64] >> i % 64 & 1; }
static inline void jnat_set_bit(uint64_t *of, unsigned i, bool on) { of[i / 64] = (of[i / 64] & ~(1ull << i % 64)) | (uint64_t)on << i % 64; }

/* Where a sensitive instruction has its 0F, in its page; it is one for sure, by its form. */
struct jnat_site { uint16_t at; bool sure; };

/* 2 MB of a program. */
struct jnat_region {
    uint64_t va;                    /* >> 21 */
    uint64_t pte[512];              /* as they were when mapped, 0 not mapped; large: all the entry above */
    uint32_t page[512];             /* RAM pages */
    uint64_t large;
    uint64_t writable[8], code[8];  /* no page is both */
    uint64_t from[512];             /* of code: where it is in patch_fd, ~0: in RAM */
    unsigned n;
    struct jnat_region *next, *all;
};

struct jnat_executor {
    bool alive;
    int pid, pidfd;
    int listener;
    uint64_t id;                    /* the notification by which it stands still */
    uint32_t secret;                /* what lets its list through, */
    const uint8_t *listed;          /* and where it hands over behind it */
    unsigned nops;                  /* in ro.op, to be carried out before it goes on */
    uint64_t cr3;                   /* as jnat_space_of says */
    uint64_t used;                  /* for LRU */
    uint64_t missing;               /* page of the last access that was a page fault, | 4, | its kind (X86_ACC_*); 0 none */
    uint32_t seen_gen;              /* mmu.tlb_gen that the mappings belong to */
    uint32_t seen_gone;             /* jnat.gone */
    unsigned npages, nregions;
    struct jnat_region *region[JNAT_REGIONS], *all;
};

/* What is known of a program, whichever process it is. */
struct jnat_known {
    uint64_t program, used;         /* by jnat_program */
    unsigned score, fails;
    uint64_t gain, cost;            /* ns, of its processes so far */
    uint64_t not_before;            /* host ns */
    uint64_t full_cr3, full_until;  /* its process with more mappings than there can be, as jnat_space_of says; host ns */
    unsigned fulls;
};

/* Of RAM pages: code has been looked through, and can be executed as it is, not at all, or as a copy; it is, or was, mapped by
 * an executor so that it can be written; some sensitive instruction of it has been executed. */
enum { JNAT_CLEAN = 1, JNAT_SENSITIVE = 2, JNAT_PATCHED = 4, JNAT_WRITTEN = 8, JNAT_SEEN = 16 };
enum { JNAT_LOOKED = JNAT_CLEAN | JNAT_SENSITIVE | JNAT_PATCHED, JNAT_CAN_RUN = JNAT_CLEAN | JNAT_PATCHED };

/* A copy of a page of code, in which sensitive instructions are others that raise #GP: those that have been executed, so
 * that it is known that they are instructions. */
enum { JNAT_PATCHES = 256, JNAT_SITES = 32 /* in a page */, JNAT_SEEN_SITES = 1024 };

struct jnat {
    struct jwin *win;               /* NULL before the first turn */
    struct jnat_code code;
    uint8_t *page;                  /* by RAM page */
    uint32_t gone;                  /* changes whenever a page is not JNAT_CAN_RUN any more */
    int patch_fd;
    uint8_t *patch;                 /* [JNAT_PATCHES], of RAM pages (+ 1; 0 none): */
    uint32_t patch_of[JNAT_PATCHES];
    unsigned next_patch;
    uint64_t seen[JNAT_SEEN_SITES]; /* what has been executed of such pages, hashed: RAM page << 13 | offset << 1; | 1, and the offset of 0F: such an instruction */
    unsigned frame, fp;             /* where signals put their ucontext and the vector state, from win->stack; */
    uint8_t *pristine;              /* and the stack as it was then, from @pristine_at */
    unsigned pristine_at;
    struct jnat_executor exec[JNAT_EXECUTORS], *cur;
    struct jnat_known known[JNAT_KNOWN];
    _Atomic int running;            /* process that the VP's thread waits for; 0 none */
    uint64_t armed, program;        /* tables of the one that is run so, 0 none; which program it is */
    uint64_t clock;
    uint64_t turn_at;               /* host ns, the end of the last one */
    bool in_turn;
    uint64_t began, turn_there;     /* this one: host ns, ns in the program */
    bool always;                    /* each program, at once: for tests */
    unsigned broken, moves;
    bool off;                       /* not on this host, or not now */
    bool skip;                      /* once */
    bool kill;                      /* no executor is of use any more; */
    bool stale;                     /* @cur is not */
    uint64_t sample_ns, sample_cr3, sample_kernel, sample_translating;
    unsigned built;                 /* blocks of programs */
    unsigned tokens;                /* for handing over */
    uint64_t tokens_at, rest_until;
    uint64_t gain, cost;            /* ns, of the program that is armed, */
    uint64_t recent_gain, recent_cost; /* since its last rest */
    bool fresh;                     /* no turn yet */
    uint64_t kicked_at, called_at;  /* @there, at the last kick, and some calls ago */
    uint64_t calls_rest;            /* ns */
    unsigned short_kicks;           /* one after the other */
    unsigned patience;              /* how often a program has to be found computing; programs that do not live long teach it */
    uint64_t turns, there, all, made; /* counters; there, all: ns; and why it handed over: */
    uint64_t calls, faults, mapped, interpreted, kicks;
    unsigned interpretations;
};

/* Of an address space: where its tables are.  Its PCID is another each time. */
static inline uint64_t jnat_space_of(const struct hv_vp *vp) { return vp->cpu.cr3 & 0x000ffffffffff000ull; }

/** Of the VP's thread.  A time at which the VP is in a program, and something interrupts it. */
void jit_native_sample(struct hv_vp *vp);
/** A block of code has been made. */
void jit_native_built(struct hv_vp *vp);
/** Is the VP where an executor can run it, and is one to? */
bool jit_native_wanted(const struct hv_vp *vp);
/** The same, quickly: the VP goes on in a program. */
static inline bool jit_native_next(const struct hv_vp *vp)
{
    const struct jnat *n = vp->jit->nat;

    return unlikely(n != NULL) && vp->cpu.cpl == 3 && !n->rest_until && !n->off &&
           (n->always || (n->armed && n->armed == jnat_space_of(vp)));
}
/** Let it.  @return when the VP has to be run as usual; may longjmp like all that raises exceptions. */
void jit_native_run(struct hv_vp *vp);
/** The turn is over, if there was one: by a longjmp. */
void jit_native_left(struct hv_vp *vp);
/** Such a thing may be.  No memory for it: then not. */
void jit_native_init(struct hv_vp *vp, bool always);
void jit_native_fini(struct hv_vp *vp);
/** The instruction @in, @off bytes from the start of RAM page @ram_page, is executed by a program. */
void jit_native_seen(struct hv_vp *vp, const struct x86_insn *in, uint64_t ram_page, unsigned off);
/** RAM page @ram_page is written to, where code was. */
void jit_native_code_drop(struct hv_vp *vp, uint64_t ram_page);
/** Attention is set: the executor is to hand over.  Any thread, async-signal-safe. */
void jit_native_kick(struct hv_vp *vp);

/* jit.c */
/** A program is run so from now on: returns to it are to be noticed. */
void jit_native_armed(struct jit *j);
void jit_exec_at_rip(struct hv_vp *vp);
bool jit_may_translate(const struct hv_vp *vp);

/* native_code.c */
/** Make it, in win->code. */
void jnat_make_code(struct jwin *w, struct jnat_code *ret);
static inline bool jnat_in_code(const struct jwin *w, uint64_t va) { return va - (uint64_t)(uintptr_t)w->code < sizeof(w->code); }

/* native_proc.c */
int jnat_spawn(struct hv_vp *vp, struct jnat_executor *x);
/** It has no page of any program from now on. */
int jnat_empty(struct hv_vp *vp, struct jnat_executor *x);
void jnat_kill(struct jnat_executor *x);
/** Carry out the list, go on, and wait until it hands over.  @return 0; -ETIME (it does not answer), -EPIPE (it is gone).  It has
 * not gone on, and is of no use: -ENOMEM, for want of memory; -ESRCH, it is gone. */
int jnat_resume(struct hv_vp *vp, struct jnat_executor *x);
/** Is it gone, by somebody else's doing? */
bool jnat_gone(const struct jnat_executor *x);
/** Have the list of ro.op carried out now.  @return 0, -ENOMEM or -ESRCH. */
int jnat_flush(struct jnat_executor *x, struct jwin *w);

/* native_state.c */
/** What it was that @x has begun with: the form of all its signals' frames.  @return 0 or a negative errno. */
int jnat_first_frame(struct hv_vp *vp);
/** The frame of the executor's last signal.  @return NULL: there is none, it tells nonsense. */
const ucontext_t *jnat_frame(const struct hv_vp *vp);
/** What it is about. */
const siginfo_t *jnat_siginfo(const ucontext_t *uc);
/** The VP's registers from it.  May raise exceptions.  @return 0; -EPROTO: no program can be in this state.  The executor may
 * be stale afterwards. */
int jnat_state_get(struct hv_vp *vp, const ucontext_t *uc);
/** The VP's registers are what it goes on with. */
void jnat_state_put(struct hv_vp *vp);
/** It goes on as it is.  @return 0; -EPROTO: it cannot. */
int jnat_state_keep(struct hv_vp *vp);
/** Another program's state is not left there. */
void jnat_state_clear(struct hv_vp *vp);

/* native_scan.c */
/** Instructions of this page of code that an executor must not run.  @before: the page before, or NULL.  @return their number; more
 * than @max: that is not all. */
unsigned jnat_scan(const uint8_t page[4096], const uint8_t *before, struct jnat_site *ret, unsigned max);
bool jnat_is_sensitive(unsigned op);
/** Is there one that begins in the first page and ends in the second? */
bool jnat_scan_across(const uint8_t first[4096], const uint8_t second[4096]);

/* native_patch.c */
int jnat_patches_init(struct jnat *n);
void jnat_patches_fini(struct jnat *n);
/** The instruction there is executed by a program: so others that follow it are code.  @sensitive: it is such a one, 0F is there. */
void jnat_executed(struct jnat *n, uint64_t ram_page, unsigned off, bool sensitive);
/** Look through RAM page @ram_page, which holds @p: n->page[] says the result. */
void jnat_look_through(struct jnat *n, uint64_t ram_page, const uint8_t *p, const uint8_t *before);
/** Where the code of a page that can be run is, in patch_fd; ~0: in RAM, as it is. */
uint64_t jnat_code_from(const struct jnat *n, uint64_t ram_page);
/** It is not what it was. */
void jnat_patch_forget(struct jnat *n, uint64_t ram_page);

/* native_map.c */
/** Take away what the guest has taken away.  @return 0 or a negative errno: the executor is of no use. */
int jnat_sync(struct hv_vp *vp, struct jnat_executor *x);
/** A signal for an access to @va (X86_ACC_READ, _WRITE, _EXEC).  @return 1: it can be tried again; 0: not by mapping; negative errno. */
int jnat_fault(struct hv_vp *vp, struct jnat_executor *x, uint64_t va, unsigned acc);
/** @in has been executed at @rip.  NULL: any instruction. */
void jnat_seen_at(struct hv_vp *vp, const struct x86_insn *in, uint64_t rip);
/** The program's byte at @va, -1: none is there. */
int jnat_byte(struct hv_vp *vp, uint64_t va);
/** Which program the VP is in: by the first page that it has, which processes of it share.  0: none. */
uint64_t jnat_program(struct hv_vp *vp);
/** Is @va in a page of code that is not for executors? */
bool jnat_sensitive(struct hv_vp *vp, uint64_t va);
void jnat_unmap_all(struct jnat_executor *x);
/** Has the program that the VP is in no page in the 512 GB that an executor has its own in?  Near what it has, a page that it is to get
 * when it touches it may be anywhere.  With several VPs it is noticed when that changes. */
bool jnat_place_free(struct hv_vp *vp);

#endif
