/* SPDX-License-Identifier: BSD-2-Clause */
/* Architectural state of one x86-64 processor, shared by the software engines.
 *
 * Section numbers are those of the Intel SDM volume 3A unless another document is named. */
#ifndef MOBO_HV_X86_CPU_H
#define MOBO_HV_X86_CPU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "hv/x86/decode.h"

/* ---- flags -------------------------------------------------------------------------------------
 * The six arithmetic flags live in cpu.fl in the form that LAHF and SETO give on the host: AH (bits
 * 8-15) = SF ZF 0 AF 0 PF 1 CF, AL (bits 0-7) = OF as 0 or 1.  All others live in cpu.eflags, where the
 * arithmetic bits are zero.  x86_flags_get/set join and split them. */
enum {
    FL_OF = 0x0001, FL_CF = 0x0100, FL_PF = 0x0400, FL_AF = 0x1000, FL_ZF = 0x4000, FL_SF = 0x8000,
    FL_FIXED = 0x0200
};
enum {
    EF_CF = 1u << 0, EF_R1 = 1u << 1, EF_PF = 1u << 2, EF_AF = 1u << 4, EF_ZF = 1u << 6, EF_SF = 1u << 7,
    EF_TF = 1u << 8, EF_IF = 1u << 9, EF_DF = 1u << 10, EF_OF = 1u << 11, EF_IOPL = 3u << 12,
    EF_NT = 1u << 14, EF_RF = 1u << 16, EF_VM = 1u << 17, EF_AC = 1u << 18, EF_VIF = 1u << 19,
    EF_VIP = 1u << 20, EF_ID = 1u << 21,
    EF_ARITH = EF_CF | EF_PF | EF_AF | EF_ZF | EF_SF | EF_OF
};

enum {
    CR0_PE = 1u << 0, CR0_MP = 1u << 1, CR0_EM = 1u << 2, CR0_TS = 1u << 3, CR0_ET = 1u << 4,
    CR0_NE = 1u << 5, CR0_WP = 1u << 16, CR0_AM = 1u << 18, CR0_NW = 1u << 29, CR0_CD = 1u << 30,
    CR0_PG = 1u << 31
};
enum {
    CR4_VME = 1u << 0, CR4_PVI = 1u << 1, CR4_TSD = 1u << 2, CR4_DE = 1u << 3, CR4_PSE = 1u << 4,
    CR4_PAE = 1u << 5, CR4_MCE = 1u << 6, CR4_PGE = 1u << 7, CR4_PCE = 1u << 8, CR4_OSFXSR = 1u << 9,
    CR4_OSXMMEXCPT = 1u << 10, CR4_UMIP = 1u << 11, CR4_FSGSBASE = 1u << 16, CR4_PCIDE = 1u << 17,
    CR4_OSXSAVE = 1u << 18, CR4_SMEP = 1u << 20, CR4_SMAP = 1u << 21
};
enum { EFER_SCE = 1u << 0, EFER_LME = 1u << 8, EFER_LMA = 1u << 10, EFER_NXE = 1u << 11 };

enum {
    X86_EXC_DE = 0, X86_EXC_DB = 1, X86_EXC_NMI = 2, X86_EXC_BP = 3, X86_EXC_OF = 4, X86_EXC_BR = 5,
    X86_EXC_UD = 6, X86_EXC_NM = 7, X86_EXC_DF = 8, X86_EXC_TS = 10, X86_EXC_NP = 11, X86_EXC_SS = 12,
    X86_EXC_GP = 13, X86_EXC_PF = 14, X86_EXC_MF = 16, X86_EXC_AC = 17, X86_EXC_MC = 18, X86_EXC_XM = 19
};
enum { PF_P = 1, PF_W = 2, PF_U = 4, PF_RSVD = 8, PF_I = 16 }; /* page-fault error code, 4.7 */

/* Segment attribute bits: as struct hv_segment.attr: descriptor bits 40-47 in 0-7, 52-55 in 12-15. */
enum {
    SEG_TYPE = 0x0f, SEG_S = 0x10, SEG_DPL = 0x60, SEG_P = 0x80, SEG_UNUSABLE = 0x100,
    SEG_AVL = 0x1000, SEG_L = 0x2000, SEG_DB = 0x4000, SEG_G = 0x8000,
    SEG_TYPE_CODE = 0x08, SEG_TYPE_CONF = 0x04, SEG_TYPE_EXPDOWN = 0x04, SEG_TYPE_RW = 0x02, SEG_TYPE_A = 0x01
};
enum { SEG_DPL_SHIFT = 5 };

struct x86_seg {
    uint64_t base;
    uint32_t limit; /* bytes, granularity applied, inclusive */
    uint16_t sel;
    uint16_t attr;
};

struct x86_dtr { uint64_t base; uint32_t limit; };

struct x86_ymm { uint64_t q[4]; } __attribute__((aligned(32)));

/* The x87 and MMX part is kept as an FXSAVE image (bytes 0-159 in use; SDM 1 10.5.1). */
struct x86_fximage { uint8_t b[512]; } __attribute__((aligned(64)));

struct x86_cpu {
    uint64_t gpr[17]; /* [X86_REG_NONE] is always zero */
    uint64_t rip;
    uint32_t fl;      /* arithmetic flags, see above */
    uint32_t eflags;  /* the others; bit 1 always set */
    struct x86_seg seg[7]; /* ES CS SS DS FS GS; [X86_SEG_NONE] is all zero */

    /* Derived by x86_update_mode from cs, cr0, cr4, efer, eflags; nobody else writes them. */
    uint8_t mode;     /* enum x86_mode of the code segment */
    uint8_t cpl;
    uint8_t ssize;    /* stack address size: 2, 4, 8 */
    uint8_t flat;     /* outside 64-bit mode: ES SS DS are flat read-write 4 GB (no checks needed) */
    uint32_t key;     /* block key: see X86_KEY_* */

    uint64_t cr0, cr2, cr3, cr4, efer, xcr0;
    uint64_t dr[8];
    uint64_t pdpte[4];
    struct x86_seg ldtr, tr;
    struct x86_dtr gdtr, idtr;

    uint64_t star, lstar, cstar, sfmask, kernel_gs_base, tsc_aux, pat;
    uint64_t sysenter_cs, sysenter_esp, sysenter_eip;
    uint64_t tsc_adjust, tsc_offset, misc_enable, spec_ctrl, mcg_status;
    uint64_t mtrr_def, mtrr_fixed[11], mtrr_var[16];

    uint8_t int_shadow;  /* 1: after STI, 2: after MOV SS/POP SS; holds for one instruction (6.8.3) */
    uint8_t nmi_masked;
    uint8_t nmi_pending;
    uint8_t halted;

    uint32_t mxcsr;      /* X86_LIVE_SSE: its flags are older than the host's (see hv/x86/vec.h) */
    uint8_t x87_live;    /* X86_LIVE_*: host registers hold guest state, fx or mxcsr is stale */
    uint8_t x87_ptrs;    /* FOP, FIP and FDP in fx are those of the last x87 instruction, else unknown: 0 */
    struct x86_ymm ymm[16];
    struct x86_fximage fx;
};

/* Everything that changes how the same bytes translate or which checks they need. */
enum {
    X86_KEY_MODE16 = 1u << 0, X86_KEY_MODE64 = 1u << 1, /* neither: 32-bit */
    X86_KEY_USER = 1u << 2,      /* CPL 3 */
    X86_KEY_SS32 = 1u << 3,      /* outside 64-bit mode: SS.B */
    X86_KEY_FLAT = 1u << 4,
    X86_KEY_REAL = 1u << 5,      /* CR0.PE = 0 or EFLAGS.VM = 1: no VEX, privileged rules differ */
    X86_KEY_VM86 = 1u << 6,
    X86_KEY_NOFPU = 1u << 7,     /* CR0.EM or CR0.TS: x87 raises #NM */
    X86_KEY_NOSSE = 1u << 8,     /* SSE raises #UD or #NM */
    X86_KEY_NOAVX = 1u << 9,     /* VEX raises #UD or #NM */
    X86_KEY_STEP = 1u << 10,     /* TF, an execution breakpoint is armed, or int_shadow: one instruction a block */
    X86_KEY_AC = 1u << 11,       /* alignment checking in force: every access takes the checked path */
    X86_KEY_SEGFAST = 1u << 12   /* reserved for engines */
};

struct hv_vp;

/** Recompute mode, cpl, ssize, flat, key and the TLB view after any change of segments, CR0, CR4, EFER,
 * RFLAGS.TF/VM/AC, DR7 or int_shadow. */
void x86_update_mode(struct hv_vp *vp);

static inline uint32_t x86_fl_to_eflags(uint32_t fl)
{
    return ((fl >> 8) & (EF_CF | EF_PF | EF_AF | EF_ZF | EF_SF)) | ((fl & FL_OF) ? EF_OF : 0u);
}

static inline uint32_t x86_eflags_to_fl(uint32_t ef)
{
    return ((ef & (EF_CF | EF_PF | EF_AF | EF_ZF | EF_SF)) << 8) | FL_FIXED | ((ef & EF_OF) ? FL_OF : 0u);
}

static inline uint32_t x86_flags_get(const struct x86_cpu *c)
{
    return c->eflags | x86_fl_to_eflags(c->fl) | EF_R1;
}

static inline bool x86_is_real_or_vm86(const struct x86_cpu *c)
{
    return !(c->cr0 & CR0_PE) || (c->eflags & EF_VM);
}

static inline bool x86_long_mode(const struct x86_cpu *c)
{
    return (c->efer & EFER_LMA) != 0;
}

#endif
