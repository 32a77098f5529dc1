/* SPDX-License-Identifier: BSD-2-Clause */
/* Comparison of translated blocks with the shared semantics; see lockstep.c. */
#ifndef MOBO_HV_JIT_LOCKSTEP_H
#define MOBO_HV_JIT_LOCKSTEP_H

#include "hv/jit/jit.h"

enum { LOCKSTEP_WINDOW = 2000, LOCKSTEP_LINES = 4 * JIT_MAX_INSNS, LOCKSTEP_LINE = 64, LOCKSTEP_EXIT = 2 };

/* What lies around a store: its line and the next one, as no operand is longer. */
struct lockstep_saved { uint8_t *hva; uint8_t before[LOCKSTEP_LINE], after[LOCKSTEP_LINE]; };

/* Why a block was not compared. */
enum lockstep_why { LOCKSTEP_NONE, LOCKSTEP_OP /* its operation */, LOCKSTEP_MEMORY, LOCKSTEP_LEFT /* in its middle */, LOCKSTEP_WHYS };

/* How many instructions may be in a block at @phys: those before the first one that cannot be compared, or just that. */
enum { LOCKSTEP_LIMITS = 1 << 16 };
struct lockstep_limit { uint64_t phys; uint8_t n; };

struct lockstep {
    bool all;                       /* every block */
    uint64_t free_run;              /* nanoseconds between windows, 0: no windows */
    unsigned times;                 /* each block so many times before it leads on to others; 0: no */
    uint64_t from;                  /* all from here on, as soon as a block is made for such an address; 0: no */
    uint64_t left;                  /* blocks to compare */
    uint64_t until;                 /* the end of a free run */
    struct x86_cpu before, want;
    struct x86_pending exc;         /* that the reference has raised */
    unsigned nsaved, ninsns, done;  /* done: instructions of the reference that came to their end */
    unsigned undef;                 /* flags that are undefined after the reference */
    struct jblock *block;           /* that runs and will be compared */
    bool gave_up, faulted;          /* the reference: cannot be compared, has raised exc */
    uint8_t why;                    /* the first: enum lockstep_why */
    uint16_t op[JIT_MAX_INSNS];
    uint8_t len[JIT_MAX_INSNS];
    struct lockstep_saved saved[LOCKSTEP_LINES];
    uint64_t checked, faults, skipped;
    uint64_t distinct, unseen[LOCKSTEP_WHYS]; /* blocks that lead on: made after a comparison; after none */
    struct lockstep_limit limit[LOCKSTEP_LIMITS];
};

/** Set up what the partition's check (or MOBO_JIT_CHECK) asks for; before the first block is made.
 * @return 0, -EINVAL, -ENOMEM. */
int jit_lockstep_init(struct hv_vp *vp);
/** Print the counts, free. */
void jit_lockstep_fini(struct jit *j);
/** Is the next block to be compared?  Sets j->single, for which JKEY_SINGLE blocks are made. */
void jit_lockstep_turn(struct hv_vp *vp);
/** Block @b, of JKEY_SINGLE, is about to run from the run loop.  @return true: jit_lockstep_after has to follow. */
bool jit_lockstep_before(struct hv_vp *vp, struct jblock *b);
void jit_lockstep_after(struct hv_vp *vp, struct jblock *b);
/** An exception was raised, perhaps by a block that is compared.  Before the VP lets the others go on. */
void jit_lockstep_fault(struct hv_vp *vp);
/** Decode what is at cpu.rip.  Raises faults. */
void jit_decode_at_rip(struct hv_vp *vp, struct x86_insn *in);

/* lockstep_each.c: every block before it is used. */
/** May a block of @key be made at cpu.rip, physically @phys?  false: j->gated, the run loop has to compare first. */
bool jit_lockstep_may_make(struct hv_vp *vp, uint64_t phys, uint32_t key);
/** Block @b is about to be made in another way. */
void jit_lockstep_remade(struct jit *j, struct jblock *b);
/** How many instructions a block of @key at @phys may have. */
unsigned jit_lockstep_limit(const struct jit *j, uint64_t phys, uint32_t key);
/** Block @b ends before the instruction that the reference could not compare.  @return false: that is its only one. */
bool jit_lockstep_cut(struct jit *j, const struct jblock *b);
void jit_lockstep_each_report(const struct jit *j);

#endif
