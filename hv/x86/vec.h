/* SPDX-License-Identifier: BSD-2-Clause */
/* Vector and x87 instructions by execution on the host: an instruction is re-encoded once with its memory
 * operand at [rsi] and its general registers through scratch, into a small stub that loads what it reads
 * from struct x86_cpu, executes it, and stores what it writes.
 *
 * Some guest state stays in host registers between stubs (cpu.x87_live): the x87 and MMX registers, and
 * MXCSR.  Code of ours that runs meanwhile must not use x87, MMX or floating-point arithmetic; before a
 * callback and when leaving the engine, x86_x87_spill puts everything back.
 *
 * The first x86_vec_init installs handlers of SIGFPE and SIGILL for the process: faults inside stubs become the
 * guest's, all others go to the handlers that were there before.  Who installs others later has to do likewise. */
#ifndef MOBO_HV_X86_VEC_H
#define MOBO_HV_X86_VEC_H

#include "hv/hv_int.h"

/* cpu.x87_live */
enum {
    X86_LIVE_X87 = 1, /* host x87 holds the guest's, all its exceptions masked */
    X86_LIVE_SSE = 2, /* host MXCSR holds the guest's, all its exceptions masked */
    X86_LIVE_X87_SLOW =
        4 /* host x87 holds the guest's, some exception unmasked: x86_exec_vec only */
};

/** A bound instruction: executes it completely, but for RIP.  @mem is a host address of the memory operand
 * (readable and, if the operand is written, writable; aligned to mem_align) or NULL when it has none. */
typedef void (*x86_vec_stub)(struct x86_cpu *cpu, void *mem);

struct x86_vec_bound {
    x86_vec_stub stub; /* NULL: only x86_exec_vec can do it */
    uint8_t mem_len;   /* bytes of the memory operand, 0 none */
    uint8_t mem_acc;   /* X86_RD | X86_WR */
    uint8_t mem_align; /* required alignment in bytes or 1; else #GP(0) */
    uint8_t need;      /* X86_LIVE_* bits: see x86_vec_ready */
};

/** May the stub be called now?  Else the caller uses x86_exec_vec, which makes it so where that is possible. */
static inline bool x86_vec_ready(const struct x86_cpu *cpu, const struct x86_vec_bound *b)
{
    return (cpu->x87_live & b->need) == b->need;
}

/** Find or build the stub for @in (VP-private cache, bounded; W^X by double mapping).  Never fails: stub may
 * be NULL.  CPU-state checks (#UD, #NM, by key) are the caller's: x86_vec_check does them; it may be skipped
 * while the block key stays the same, as x86_vec_ready implies that no x87 exception is pending.
 * A stub stays valid until x86_vec_flush. */
void x86_vec_bind(struct hv_vp *vp, const struct x86_insn *in, struct x86_vec_bound *ret);

/** The stub cache is (nearly) full: new instructions get no stubs.  The engine then drops everything that it
 * bound, when it can, and calls x86_vec_flush. */
bool x86_vec_full(const struct hv_vp *vp);
void x86_vec_flush(struct hv_vp *vp);

/** Raise #UD or #NM or #MF if CR0, CR4, XCR0, CPUID or a pending x87 exception forbid @in now. */
void x86_vec_check(struct hv_vp *vp, const struct x86_insn *in);

/** Host registers hold guest state (cpu.x87_live): save it to cpu.fx and cpu.mxcsr and leave the host clean.
 * Call before any code that may use x87 or floating point (callbacks, leaving the engine).  Cheap when nothing
 * is live. */
void x86_x87_spill(struct hv_vp *vp);

/** For an engine that runs vector instructions on the host by itself: let the host have the guest's MXCSR (nothing
 * happens while it unmasks an exception), the guest's x87 registers. */
void x86_sse_enter(struct hv_vp *vp);
void x86_x87_enter(struct hv_vp *vp);

/** XSAVE image (standard format, hv_vp_state.xsave) from and to cpu.  put: -1 on reserved bits. */
void x86_xsave_get(struct hv_vp *vp, uint8_t area[1024]);
int x86_xsave_put(struct hv_vp *vp, const uint8_t area[1024]);
/** XINUSE (SDM 1 13.6), for XGETBV with ECX = 1. */
uint64_t x86_xinuse(struct hv_vp *vp);
/** Power-on values of x87, MXCSR, vectors.  INIT keeps them and does not call this (SDM 3A table 9-1). */
void x86_vec_reset(struct hv_vp *vp);

int x86_vec_init(struct hv_vp *vp);
void x86_vec_fini(struct hv_vp *vp);

#endif
