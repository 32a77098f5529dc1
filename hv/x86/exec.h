/* SPDX-License-Identifier: BSD-2-Clause */
/* Instruction semantics that are written once and shared by the software engines: events, segments,
 * far transfers, system instructions, and slow forms.
 *
 * Contract of every x86_exec_* function: on entry cpu.rip is the address of the instruction and nothing
 * of it has been done; on normal return the instruction is complete, cpu.rip is that of the next one and
 * x86_update_mode has been called if needed.  A fault is raised with x86_raise*, which does not return:
 * whatever was changed before must be what the manual says a faulting instruction leaves. */
#ifndef MOBO_HV_X86_EXEC_H
#define MOBO_HV_X86_EXEC_H

#include "hv/hv_int.h"

enum x86_event_type {
    X86_EV_EXTINT = 0, X86_EV_NMI = 2, X86_EV_FAULT = 3 /* hardware exception */,
    X86_EV_SOFTINT = 4 /* INT n */, X86_EV_ICEBP = 5, X86_EV_SOFTEXC = 6 /* INT3, INTO */
};

/* ---- raising (event.c) ---- */
_Noreturn void x86_raise(struct hv_vp *vp, unsigned vector);                     /* no error code */
_Noreturn void x86_raise_err(struct hv_vp *vp, unsigned vector, uint32_t error);
_Noreturn void x86_raise_pf(struct hv_vp *vp, uint64_t lin, uint32_t error);
_Noreturn void x86_raise_db(struct hv_vp *vp, uint64_t dr6_bits);               /* fault-class #DB */

/* ---- events (event.c, task.c) ---- */
/** Deliver vp->exc: combine with vp->delivering into #DF or a triple fault (table 6-5), then enter the
 * handler.  May itself raise (longjmp); the engine's loop calls it again after each longjmp. */
void x86_exception_entry(struct hv_vp *vp);
/** Deliver an external interrupt or NMI at an instruction boundary.  May raise. */
void x86_interrupt(struct hv_vp *vp, unsigned vector, unsigned type);
/** Trap-class #DB after an instruction (TF, data breakpoints): delivers or returns.  dr6 bits given. */
void x86_debug_trap(struct hv_vp *vp, uint64_t dr6_bits);
/** Execution breakpoints at cpu.rip (RF respected): raises #DB or returns.  Only called when X86_KEY_STEP. */
void x86_debug_fetch(struct hv_vp *vp);
/** Hardware task switch (7.3). @kind 0 JMP, 1 CALL, 2 IRET, 3 interrupt or exception gate. */
void x86_task_switch(struct hv_vp *vp, uint16_t sel, unsigned kind, bool has_error, uint32_t error);

/* ---- segments (segment.c) ---- */
/** Linear address of seg:off for an access of @len bytes; checks limit, type, presence, canonicality.
 * Raises #GP(0) or #SS(0).  @acc X86_ACC_READ, X86_ACC_WRITE or X86_ACC_EXEC. */
uint64_t x86_seg_lin(struct hv_vp *vp, unsigned seg, uint64_t off, unsigned len, unsigned acc);
/** Load ES DS FS GS SS (not CS) from a selector: all checks, accessed bit, real and VM86 mode. */
void x86_load_seg(struct hv_vp *vp, unsigned seg, uint16_t sel);

/* Stack access with the current SS and stack size: push/pop of 2, 4, 8 bytes. */
void x86_push(struct hv_vp *vp, uint64_t val, unsigned size);
uint64_t x86_pop(struct hv_vp *vp, unsigned size);

/** Set RFLAGS bits in @mask from @val (any bits), update mode and interrupt window. */
void x86_flags_set(struct hv_vp *vp, uint32_t val, uint32_t mask);

/** RIP of the next instruction after @in at cpu.rip, truncated to the mode. */
static inline uint64_t x86_next_rip(const struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t r = vp->cpu.rip + in->len;

    return vp->cpu.mode == X86_MODE_64 ? r : vp->cpu.mode == X86_MODE_32 ? (uint32_t)r : (uint32_t)r;
}

/** Offset of the memory operand (address size applied, segment base not). */
uint64_t x86_ea(const struct hv_vp *vp, const struct x86_insn *in);
/** Read or write operand @n of @in (GPR, MEM with segment checks, IMM, SREG); up to 8 bytes. */
uint64_t x86_operand_read(struct hv_vp *vp, const struct x86_insn *in, unsigned n);
void x86_operand_write(struct hv_vp *vp, const struct x86_insn *in, unsigned n, uint64_t val);

/* ---- instruction groups; each returns false when @in->op is not one of its own ---- */
/** transfer.c: CALL_FAR/FARM JMP_FAR/FARM RET_FAR IRET INT INT3 INT1 INTO BOUND SYSCALL SYSRET SYSENTER
 * SYSEXIT; MOV_SREG POP_SREG PUSH_SREG MOV_FROM_SREG LES.. LGS; ARPL LAR LSL VERR VERW; LLDT LTR SLDT STR
 * LGDT LIDT SGDT SIDT LMSW SMSW; PUSHF POPF; ENTER (slow form); SWAPGS; RSM. */
bool x86_exec_transfer(struct hv_vp *vp, const struct x86_insn *in);
/** system.c: MOV CR/DR, CLTS, RDMSR WRMSR RDTSC RDTSCP RDPMC RDPID CPUID XGETBV XSETBV INVLPG INVPCID INVD
 * WBINVD HLT MONITOR MWAIT CLI STI CLAC STAC IN OUT INS OUTS RD/WR FS/GS BASE, VMCALL, VMMCALL, UD*. */
bool x86_exec_system(struct hv_vp *vp, const struct x86_insn *in);
/** integer.c: whatever integer instruction an engine has no faster form of: complete, all forms. */
bool x86_exec_integer(struct hv_vp *vp, const struct x86_insn *in);
/** vec.c, x87.c: all vector and x87 instructions, FXSAVE and XSAVE families, MXCSR, EMMS. */
bool x86_exec_vec(struct hv_vp *vp, const struct x86_insn *in);

/** I/O permission (IOPL, TSS bitmap; 18.5 of SDM 1): raises #GP(0) or returns. */
void x86_io_check(struct hv_vp *vp, uint16_t port, unsigned len);

#endif
