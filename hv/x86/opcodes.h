/* SPDX-License-Identifier: BSD-2-Clause */
/* The operations that the x86-64 decoder distinguishes (struct x86_insn.op).
 *
 * Names are the manual's mnemonics (Intel SDM volume 2); forms that an engine treats differently have
 * their own operation, forms that differ only in operands share one.  Operands are those of the manual
 * in the manual's order; what an instruction uses beyond them (flags, rax, rcx, stack, string pointers)
 * is part of the operation and is not listed in struct x86_insn.o[] unless a comment says so. */
#ifndef MOBO_HV_X86_OPCODES_H
#define MOBO_HV_X86_OPCODES_H

/* X(operation, mnemonic) */
#define X86_OP_LIST(X) \
    X(INVALID, "(bad)") \
    /* ---- integer arithmetic and logic ---- */ \
    X(ADD, "add") X(OR, "or") X(ADC, "adc") X(SBB, "sbb") \
    X(AND, "and") X(SUB, "sub") X(XOR, "xor") X(CMP, "cmp") \
    X(TEST, "test") X(NOT, "not") X(NEG, "neg") X(INC, "inc") X(DEC, "dec") \
    X(MUL, "mul")     /* o[0] r/m; rdx:rax implicit; also DIV IDIV IMUL1 */ \
    X(IMUL1, "imul")  /* F6, F7 /5 */ \
    X(IMUL2, "imul")  /* 0F AF: reg (RW), r/m */ \
    X(IMUL3, "imul")  /* 69, 6B: reg (W), r/m, imm */ \
    X(DIV, "div") X(IDIV, "idiv") \
    /* shifts: o[1] is IMM (one: size 1, value 1) or GPR cl; the count is not masked yet */ \
    X(ROL, "rol") X(ROR, "ror") X(RCL, "rcl") X(RCR, "rcr") \
    X(SHL, "shl") X(SHR, "shr") X(SAR, "sar") \
    X(SHLD, "shld") X(SHRD, "shrd") /* o[2] is the count: IMM or cl */ \
    /* bit tests: with o[0] in memory and o[1] a register the bit offset is signed and unbounded */ \
    X(BT, "bt") X(BTS, "bts") X(BTR, "btr") X(BTC, "btc") \
    X(BSF, "bsf") X(BSR, "bsr") X(POPCNT, "popcnt") X(LZCNT, "lzcnt") X(TZCNT, "tzcnt") \
    X(ANDN, "andn") X(BEXTR, "bextr") X(BLSI, "blsi") X(BLSMSK, "blsmsk") X(BLSR, "blsr") \
    X(BZHI, "bzhi") X(MULX, "mulx") X(PDEP, "pdep") X(PEXT, "pext") X(RORX, "rorx") \
    X(SARX, "sarx") X(SHLX, "shlx") X(SHRX, "shrx") X(ADCX, "adcx") X(ADOX, "adox") \
    X(CRC32, "crc32") X(RDRAND, "rdrand") X(RDSEED, "rdseed") \
    X(CBW, "cbw")     /* by osize: CBW CWDE CDQE */ \
    X(CWD, "cwd")     /* by osize: CWD CDQ CQO */ \
    X(DAA, "daa") X(DAS, "das") X(AAA, "aaa") X(AAS, "aas") X(AAM, "aam") X(AAD, "aad") \
    X(LAHF, "lahf") X(SAHF, "sahf") X(SALC, "salc") \
    X(CMC, "cmc") X(CLC, "clc") X(STC, "stc") X(CLD, "cld") X(STD, "std") \
    X(SETCC, "setcc") X(CMOVCC, "cmovcc") /* insn.cond; CMOVcc always reads its source */ \
    /* ---- moves ---- */ \
    X(MOV, "mov") X(MOVSX, "movsx") X(MOVZX, "movzx") X(MOVSXD, "movsxd") X(MOVBE, "movbe") \
    X(MOVNTI, "movnti") X(LEA, "lea") X(XLAT, "xlat") /* XLAT: seg is the effective segment */ \
    X(BSWAP, "bswap") X(XCHG, "xchg") X(XADD, "xadd") X(CMPXCHG, "cmpxchg") \
    X(CMPXCHG8B, "cmpxchg8b") X(CMPXCHG16B, "cmpxchg16b") \
    X(PUSH, "push") X(POP, "pop") X(PUSHA, "pusha") X(POPA, "popa") \
    X(PUSHF, "pushf") X(POPF, "popf") X(ENTER, "enter") X(LEAVE, "leave") \
    /* ---- strings: o[0].size is the element size, o[0].kind is NONE, asize counts ---- */ \
    X(MOVS, "movs") X(CMPS, "cmps") X(STOS, "stos") X(LODS, "lods") X(SCAS, "scas") \
    X(INS, "ins") X(OUTS, "outs") \
    /* ---- port input and output: port is IMM or GPR dx ---- */ \
    X(IN, "in") X(OUT, "out") \
    /* ---- control transfer ---- */ \
    X(JCC, "jcc") X(JCXZ, "jcxz") X(LOOP, "loop") X(LOOPE, "loope") X(LOOPNE, "loopne") \
    X(JMP_NEAR, "jmp") X(JMP_IND, "jmp") X(JMP_FAR, "jmpf") X(JMP_FARM, "jmpf") \
    X(CALL_NEAR, "call") X(CALL_IND, "call") X(CALL_FAR, "callf") X(CALL_FARM, "callf") \
    X(RET_NEAR, "ret") X(RET_FAR, "retf") /* imm: bytes to release, 0 when there is no operand */ \
    X(IRET, "iret") X(INT, "int") X(INT3, "int3") X(INTO, "into") X(INT1, "int1") \
    X(BOUND, "bound") X(UD0, "ud0") X(UD1, "ud1") X(UD2, "ud2") \
    /* ---- segments and descriptor tables ---- */ \
    X(MOV_SREG, "mov") X(MOV_FROM_SREG, "mov") X(PUSH_SREG, "push") X(POP_SREG, "pop") \
    X(LES, "les") X(LDS, "lds") X(LSS, "lss") X(LFS, "lfs") X(LGS, "lgs") \
    X(ARPL, "arpl") X(LAR, "lar") X(LSL, "lsl") X(VERR, "verr") X(VERW, "verw") \
    X(LGDT, "lgdt") X(LIDT, "lidt") X(SGDT, "sgdt") X(SIDT, "sidt") \
    X(LLDT, "lldt") X(LTR, "ltr") X(SLDT, "sldt") X(STR, "str") \
    X(LMSW, "lmsw") X(SMSW, "smsw") X(SWAPGS, "swapgs") \
    X(RDFSBASE, "rdfsbase") X(RDGSBASE, "rdgsbase") \
    X(WRFSBASE, "wrfsbase") X(WRGSBASE, "wrgsbase") \
    /* ---- system ---- */ \
    X(MOV_CR, "mov") X(MOV_FROM_CR, "mov") X(MOV_DR, "mov") X(MOV_FROM_DR, "mov") \
    X(CLTS, "clts") X(CLI, "cli") X(STI, "sti") X(CLAC, "clac") X(STAC, "stac") \
    X(HLT, "hlt") X(NOP, "nop") X(PAUSE, "pause") \
    X(CPUID, "cpuid") X(RDTSC, "rdtsc") X(RDTSCP, "rdtscp") X(RDPID, "rdpid") \
    X(RDMSR, "rdmsr") X(WRMSR, "wrmsr") X(RDPMC, "rdpmc") X(RSM, "rsm") \
    X(SYSCALL, "syscall") X(SYSRET, "sysret") X(SYSENTER, "sysenter") X(SYSEXIT, "sysexit") \
    X(INVD, "invd") X(WBINVD, "wbinvd") X(INVLPG, "invlpg") X(INVPCID, "invpcid") \
    X(MONITOR, "monitor") X(MWAIT, "mwait") X(XGETBV, "xgetbv") X(XSETBV, "xsetbv") \
    X(VMCALL, "vmcall") X(VMMCALL, "vmmcall") \
    X(CLFLUSH, "clflush") X(CLFLUSHOPT, "clflushopt") X(CLWB, "clwb") \
    X(LFENCE, "lfence") X(MFENCE, "mfence") X(SFENCE, "sfence") \
    /* ---- x87 ---- */ \
    X(X87, "x87")             /* no flags, no control state: o[0] MEM or no operand at all */ \
    X(X87_FCMOV, "fcmovcc")   /* reads RFLAGS */ \
    X(X87_FCOMI, "fcomi")     /* FCOMI FUCOMI FCOMIP FUCOMIP: write RFLAGS */ \
    X(FLDCW, "fldcw") X(FNSTCW, "fnstcw") X(FNSTSW, "fnstsw") /* o[0] MEM or GPR ax */ \
    X(FNCLEX, "fnclex") X(FNINIT, "fninit") X(FWAIT, "fwait") \
    X(FLDENV, "fldenv") X(FNSTENV, "fnstenv")  /* o[0].size 14 or 28 by osize */ \
    X(FRSTOR, "frstor") X(FNSAVE, "fnsave")    /* o[0].size 94 or 108 by osize */ \
    /* ---- extended state; osize 8 is the 64-bit form ---- */ \
    X(FXSAVE, "fxsave") X(FXRSTOR, "fxrstor") X(XSAVE, "xsave") X(XSAVEOPT, "xsaveopt") \
    X(XSAVEC, "xsavec") X(XSAVES, "xsaves") X(XRSTOR, "xrstor") X(XRSTORS, "xrstors") \
    X(LDMXCSR, "ldmxcsr") X(STMXCSR, "stmxcsr") /* also the VEX forms */ \
    X(EMMS, "emms") \
    /* ---- vectors: a VEC is a plain function of its o[] ---- */ \
    X(VEC, "vec") \
    X(VEC_FLAGS, "vec")       /* (V)PTEST (V)COMIS* (V)UCOMIS* VTESTP*: write all six flags */ \
    X(VEC_XMM0, "vec")        /* PBLENDVB BLENDVP* SHA256RNDS2: also read xmm0; not in o[] */ \
    X(MASKMOVQ, "maskmovq")   /* o[0], o[1] registers; stores to seg:rdi, 8 bytes by mask */ \
    X(MASKMOVDQU, "maskmovdqu") /* the same with 16 bytes; also the VEX form */ \
    X(VMASKMOV, "vmaskmov")   /* VMASKMOVP* VPMASKMOV*: masked elements do not fault */ \
    X(VGATHER, "vgather")     /* dst, VSIB memory (size of one element), mask (RW) */ \
    X(VZEROUPPER, "vzeroupper") X(VZEROALL, "vzeroall") \
    /* strings in vectors: read eax edx too (E forms), write all six flags; I writes ecx, M xmm0 */ \
    X(PCMPESTRI, "pcmpestri") X(PCMPESTRM, "pcmpestrm") \
    X(PCMPISTRI, "pcmpistri") X(PCMPISTRM, "pcmpistrm")

enum x86_op {
#define X86_OP_ENUM(op, name) X86_OP_##op,
    X86_OP_LIST(X86_OP_ENUM)
#undef X86_OP_ENUM
    X86_OP_COUNT
};

#endif
