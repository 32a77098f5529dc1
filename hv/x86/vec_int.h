/* SPDX-License-Identifier: BSD-2-Clause */
/* Shared by vec.c, vec_mem.c, vec_xsave.c, vec_sha.c and x87.c; nobody else includes it. */
#ifndef MOBO_HV_X86_VEC_INT_H
#define MOBO_HV_X86_VEC_INT_H

#include <string.h>

#include "hv/x86/exec.h"
#include "hv/x86/vec.h"

enum { X87_CW_MASKS = 0x3f, X87_CW_INIT = 0x37f, X87_SW_ES = 0x80, X87_SW_B = 0x8000 };
enum { MXCSR_INIT = 0x1f80, MXCSR_MASK = 0xffff, MXCSR_FLAGS = 0x3f, MXCSR_EXC_MASKS = 0x1f80 };

/* FXSAVE image, SDM 1 table 10-2. */
enum {
    FX_FCW = 0,
    FX_FSW = 2,
    FX_FTW = 4,
    FX_FOP = 6,
    FX_FIP = 8,
    FX_FCS = 12,
    FX_FDP = 16,
    FX_FDS = 20,
    FX_MXCSR = 24,
    FX_MXCSR_MASK = 28,
    FX_ST = 32,
    FX_XMM = 160,
    FX_SIZE = 512
};

static inline uint16_t ld16(const void *p)
{
    uint16_t v;
    memcpy(&v, p, 2);
    return v;
}
static inline uint32_t ld32(const void *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}
static inline uint64_t ld64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}
static inline void st16(void *p, unsigned v)
{
    uint16_t w = (uint16_t)v;
    memcpy(p, &w, 2);
}
static inline void st32(void *p, uint32_t v)
{
    memcpy(p, &v, 4);
}
static inline void st64(void *p, uint64_t v)
{
    memcpy(p, &v, 8);
}

/* ---- vec.c ---- */
struct vec_mem {
    unsigned idx; /* operand number, or 4: none */
    unsigned len, acc;
};

/** The stub of @in, built if need be; NULL when it has none or there is no room. */
x86_vec_stub vec_stub_get(struct hv_vp *vp, const struct x86_insn *in);
/** Which host state a stub of @in works on (X86_LIVE_* bits). */
unsigned vec_need(const struct x86_insn *in);
/** Run a stub on a memory operand at host address @mem, with exact exceptions.  Raises #XM. */
void vec_run(struct hv_vp *vp, const struct x86_insn *in, x86_vec_stub stub, void *mem);
/** Linear address of the memory operand, @len bytes, checked (segment, X86_A_ALIGN as @align). */
uint64_t vec_lin(struct hv_vp *vp, const struct x86_insn *in, unsigned len, unsigned align,
                 unsigned acc);
static inline void vec_done(struct hv_vp *vp, const struct x86_insn *in)
{
    vp->cpu.rip = x86_next_rip(vp, in);
}
/** Take new MXCSR flags out of the host, and let the host have its own MXCSR again. */
void vec_sse_spill(struct x86_cpu *c);
/** 8 or 16: vector registers that the current mode can name. */
static inline unsigned vec_nregs(const struct hv_vp *vp)
{
    return vp->cpu.mode == X86_MODE_64 ? 16 : 8;
}

/* ---- x87.c ---- */
/** Make the host's x87 registers the guest's. */
void x87_enter(struct hv_vp *vp);
void x87_spill(struct x86_cpu *c);
/** After a change of FCW or of exception flags in the live state: fast or slow. */
void x87_classify(struct x86_cpu *c);
/** An unmasked exception is pending (FSW.ES). */
bool x87_pending(struct x86_cpu *c);
/** Forget a pending exception, as with IGNNE# asserted. */
void x87_ignore_pending(struct hv_vp *vp);
/** Note FOP, FIP and FDP of an x87 instruction that is about to run. */
void x87_note(struct hv_vp *vp, const struct x86_insn *in);
/** An MMX register, and what the first MMX instruction does to TOP and tags; both leave the state spilled. */
uint64_t x87_mmx_read(struct x86_cpu *c, unsigned n);
void x87_to_mmx(struct x86_cpu *c);
bool x87_exec_control(struct hv_vp *vp, const struct x86_insn *in);

/* ---- others ---- */
bool vec_exec_masked(struct hv_vp *vp, const struct x86_insn *in); /* vec_mem.c */
bool vec_exec_xsave(struct hv_vp *vp, const struct x86_insn *in);  /* vec_xsave.c */
/** C form of a SHA instruction, where the host has none. */
bool vec_sha(const struct x86_insn *in, struct x86_ymm *dst, const struct x86_ymm *src,
             const struct x86_ymm *xmm0); /* vec_sha.c */

#endif
