/* SPDX-License-Identifier: BSD-2-Clause */
/* Vector and x87 instructions by execution on the host: an instruction is re-encoded once with its memory
 * operand at [rsi] and its general registers through scratch, into a small stub that loads what it reads
 * from struct x86_cpu, executes it, and stores what it writes. */
#ifndef MOBO_HV_X86_VEC_H
#define MOBO_HV_X86_VEC_H

#include "hv/hv_int.h"

/** A bound instruction: executes it completely, but for RIP.  @mem is a host address of the memory operand
 * (o[].size bytes, readable and, if the operand is written, writable) or NULL when it has none. */
typedef void (*x86_vec_stub)(struct x86_cpu *cpu, void *mem);

struct x86_vec_bound {
    x86_vec_stub stub;   /* NULL: only x86_exec_vec can do it */
    uint8_t mem_len;     /* bytes of the memory operand, 0 none */
    uint8_t mem_acc;     /* X86_RD | X86_WR */
    uint8_t mem_align;   /* required alignment in bytes or 1; else #GP(0) */
    uint8_t fpexc;       /* may raise #XM: the caller uses x86_exec_vec unless all MXCSR exceptions are masked */
};

/** Find or build the stub for @in (VP-private cache, bounded; W^X by double mapping).  Never fails: stub may
 * be NULL.  CPU-state checks (#UD, #NM by key) are the caller's: x86_vec_check does them. */
void x86_vec_bind(struct hv_vp *vp, const struct x86_insn *in, struct x86_vec_bound *ret);
/** Raise #UD or #NM or #MF if CR0, CR4, XCR0 or CPUID forbid @in now. */
void x86_vec_check(struct hv_vp *vp, const struct x86_insn *in);

/** Host x87 registers hold guest state (cpu.x87_live): save them to cpu.fx and leave the host clean.  Call
 * before any code that may use x87 (callbacks, leaving the engine). */
void x86_x87_spill(struct hv_vp *vp);

/** XSAVE image (standard format, hv_vp_state.xsave) from and to cpu.  put: -1 on reserved bits. */
void x86_xsave_get(struct hv_vp *vp, uint8_t area[1024]);
int x86_xsave_put(struct hv_vp *vp, const uint8_t area[1024]);
/** Reset values of x87, MXCSR, vectors; @init: INIT keeps them (SDM 3A table 9-1). */
void x86_vec_reset(struct hv_vp *vp);

int x86_vec_init(struct hv_vp *vp);
void x86_vec_fini(struct hv_vp *vp);

#endif
