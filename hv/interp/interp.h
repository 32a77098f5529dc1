/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the interpreter: decoded blocks, operation records, dispatch.
 *
 * A block is a run of instructions from one page, decoded once.  Each instruction became one record
 * whose function executes it and goes on to the next record by a tail call, so that a block runs without
 * a central loop.  Blocks belong to one VP; nothing here is shared between threads. */
#ifndef MOBO_HV_INTERP_H
#define MOBO_HV_INTERP_H

#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* Tail calls keep the stack flat only when the compiler makes them; else each function returns the record
 * to go on with. */
#if defined(__OPTIMIZE__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) && \
    !defined(INTERP_NO_TAIL)
#define INTERP_TAIL 1
#else
#define INTERP_TAIL 0
#endif
#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#undef INTERP_TAIL
#define INTERP_TAIL 0
#endif
#endif
struct op;
struct block;

/* Executes a record.  Returns the record to execute next, or NULL: cpu.rip is set, look around (attention,
 * mode, exceptions) and find the next block. */
typedef const struct op *(*op_fn)(struct hv_vp *vp, const struct op *op);

struct op {
    op_fn fn;
    int64_t disp;
    int64_t imm;
    const struct x86_insn *insn; /* for whole-instruction fallbacks; may be NULL */
    /* Registers as byte offsets into struct hv_vp, which begins with cpu.gpr. */
    uint8_t r, m;        /* register operand; register form of the r/m operand */
    uint8_t b, x, scale; /* address: base, index, shift */
    uint8_t size;        /* vector operand bytes */
    uint8_t amask, lmask; /* log2-like selectors for 16/32-bit addresses, see ea_masks */
    uint16_t seg;        /* byte offset of the segment base */
    uint16_t off;        /* of this instruction from the start of the block */
    uint16_t index;      /* of this record in the block */
    uint8_t len;
    uint8_t done;        /* instructions before this one in the block */
};

struct block {
    uint64_t rip;              /* ~0 once dropped */
    uint64_t rip0;             /* start, kept after a drop */
    uint64_t phys;             /* RAM page << 12 | offset */
    uint64_t page2;            /* RAM page of the second page, ~0 none */
    uint32_t key;
    uint32_t gen;              /* mmu.fetch_gen for which rip -> phys was last seen true */
    uint16_t ninsns, nops;
    uint16_t len;
    struct block *hash_next;
    struct block *page_next[2]; /* chains of the pages' buckets */
    struct block *succ[2];      /* followers by direct branch: taken, not taken */
    struct op ops[];
};

enum { INTERP_JC = 8192, INTERP_HASH = 32768, INTERP_PAGES = 8192, INTERP_MAX_INSNS = 48 };
enum { INTERP_ARENA = 24 << 20 };

struct interp {
    struct block *jc[INTERP_JC];     /* by rip */
    struct block *hash[INTERP_HASH]; /* by phys */
    struct block *page[INTERP_PAGES]; /* by RAM page */
    const struct op *cur;            /* instruction under way, when it is in slow code */
    const struct op *missed;         /* the record that slow_mem ran again last, and when */
    uint64_t missed_at;
    struct block *link_from;         /* its succ[link_slot] wants the next block found */
    unsigned link_slot;
    uint64_t cs_base;
    uint32_t cs_limit;
    uint32_t vec_gen;
    uint8_t *arena;
    size_t used;
    struct block *blk1;              /* uncached single instruction (code outside RAM) */
};

static inline struct interp *interp_of(struct hv_vp *vp) { return vp->engine_data; }

static inline struct block *op_block(const struct op *op)
{
    return (struct block *)((uintptr_t)(op - op->index) - offsetof(struct block, ops));
}

static inline unsigned jc_slot(uint64_t rip)
{
    return (unsigned)((rip ^ (rip >> 13)) & (INTERP_JC - 1));
}

/* Fill in fn and operands of @op for @in (whose address is @rip).  @return how many records were used
 * (1 or 2: a check in front); *ret_end: the block ends here. */
unsigned interp_bind(struct hv_vp *vp, struct op *op, const struct x86_insn *in, uint64_t rip, bool step,
                     bool *ret_end, bool *ret_need_insn);
/* Last record of a block that ends without a branch. */
void interp_bind_fall(struct op *op, uint64_t rip);
op_fn interp_resync_fn(void);

/* For the translator, which lets the interpreter run what it does not translate. */
/** An exception left a record by longjmp: account for it. */
void interp_abandon(struct hv_vp *vp);
/** At an instruction boundary: nothing is under way, no link to make. */
void interp_between(struct hv_vp *vp);
/** Run from cpu.rip until the interpreter leaves its chain of blocks (a mode change, attention), or one
 * instruction when X86_KEY_STEP is set. */
void interp_once(struct hv_vp *vp);

#endif
