/* SPDX-License-Identifier: BSD-2-Clause */
/* Integer operations executed by the host's own instructions, flags in the LAHF/SETO form of cpu.h.
 *
 * The host has the same instruction set: each operation is the instruction itself, so that results,
 * defined and undefined flags are those of a real processor. */
#ifndef MOBO_HV_X86_ALU_H
#define MOBO_HV_X86_ALU_H

#include <stdbool.h>
#include <stdint.h>

#define ALU_INLINE static inline __attribute__((always_inline))
/* Take the flags after an instruction; put flags before one. */
#define ALU_SAVE "\n\tlahf\n\tseto %%al"
#define ALU_LOAD "addb $127, %%al\n\tsahf\n\t"

/* Two operands, old flags not used. */
#define ALU_BIN(name, insn, T, S)                                                                  \
    ALU_INLINE T alu_##name(T a, T b, uint32_t *fl)                                                \
    {                                                                                              \
        uint16_t f;                                                                                \
        __asm__(insn #S " %[b], %[a]" ALU_SAVE : [a] "+r"(a), "=a"(f) : [b] "r"(b) : "cc");        \
        *fl = f;                                                                                   \
        return a;                                                                                  \
    }
/* Two operands, carry in. */
#define ALU_BINC(name, insn, T, S)                                                                 \
    ALU_INLINE T alu_##name(T a, T b, uint32_t *fl)                                                \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        __asm__("btl $8, %k[f]\n\t" insn #S " %[b], %[a]" ALU_SAVE                                 \
                : [a] "+&r"(a), [f] "+&a"(f) : [b] "r"(b) : "cc");                                 \
        *fl = f;                                                                                   \
        return a;                                                                                  \
    }
/* One operand, old flags kept where the instruction keeps them. */
#define ALU_UN(name, insn, T, S)                                                                   \
    ALU_INLINE T alu_##name(T a, uint32_t *fl)                                                     \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        __asm__("btl $8, %k[f]\n\t" insn #S " %[a]" ALU_SAVE : [a] "+&r"(a), [f] "+&a"(f) : : "cc"); \
        *fl = f;                                                                                   \
        return a;                                                                                  \
    }
/* Shift or rotate by CL, all flags in and out (a zero count keeps them). */
#define ALU_SHIFT(name, insn, T, S)                                                                \
    ALU_INLINE T alu_##name(T a, uint8_t count, uint32_t *fl)                                      \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        __asm__(ALU_LOAD insn #S " %%cl, %[a]" ALU_SAVE                                            \
                : [a] "+&r"(a), [f] "+&a"(f) : "c"(count) : "cc");                                 \
        *fl = f;                                                                                   \
        return a;                                                                                  \
    }
/* Double shift. */
#define ALU_DSHIFT(name, insn, T, S)                                                               \
    ALU_INLINE T alu_##name(T a, T b, uint8_t count, uint32_t *fl)                                 \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        __asm__(ALU_LOAD insn #S " %%cl, %[b], %[a]" ALU_SAVE                                      \
                : [a] "+&r"(a), [f] "+&a"(f) : [b] "r"(b), "c"(count) : "cc");                     \
        *fl = f;                                                                                   \
        return a;                                                                                  \
    }
/* Destination written, all flags in and out: bit scans and counts, bit tests. */
#define ALU_RMF(name, insn, T, S)                                                                  \
    ALU_INLINE T alu_##name(T a, T b, uint32_t *fl)                                                \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        __asm__(ALU_LOAD insn #S " %[b], %[a]" ALU_SAVE                                            \
                : [a] "+&r"(a), [f] "+&a"(f) : [b] "r"(b) : "cc");                                 \
        *fl = f;                                                                                   \
        return a;                                                                                  \
    }

#define ALU_ALL_SIZES(M, name, insn)                                                               \
    M(name##8, insn, uint8_t, b)                                                                   \
    M(name##16, insn, uint16_t, w)                                                                 \
    M(name##32, insn, uint32_t, l)                                                                 \
    M(name##64, insn, uint64_t, q)
#define ALU_WIDE_SIZES(M, name, insn)                                                              \
    M(name##16, insn, uint16_t, w)                                                                 \
    M(name##32, insn, uint32_t, l)                                                                 \
    M(name##64, insn, uint64_t, q)
#define ALU_BIG_SIZES(M, name, insn)                                                               \
    M(name##32, insn, uint32_t, l)                                                                 \
    M(name##64, insn, uint64_t, q)

ALU_ALL_SIZES(ALU_BIN, add, "add")
ALU_ALL_SIZES(ALU_BIN, sub, "sub")
ALU_ALL_SIZES(ALU_BIN, and, "and")
ALU_ALL_SIZES(ALU_BIN, or, "or")
ALU_ALL_SIZES(ALU_BIN, xor, "xor")
ALU_ALL_SIZES(ALU_BINC, adc, "adc")
ALU_ALL_SIZES(ALU_BINC, sbb, "sbb")
ALU_ALL_SIZES(ALU_UN, inc, "inc")
ALU_ALL_SIZES(ALU_UN, dec, "dec")
ALU_ALL_SIZES(ALU_UN, neg, "neg")
ALU_ALL_SIZES(ALU_SHIFT, rol, "rol")
ALU_ALL_SIZES(ALU_SHIFT, ror, "ror")
ALU_ALL_SIZES(ALU_SHIFT, rcl, "rcl")
ALU_ALL_SIZES(ALU_SHIFT, rcr, "rcr")
ALU_ALL_SIZES(ALU_SHIFT, shl, "shl")
ALU_ALL_SIZES(ALU_SHIFT, shr, "shr")
ALU_ALL_SIZES(ALU_SHIFT, sar, "sar")
ALU_WIDE_SIZES(ALU_DSHIFT, shld, "shld")
ALU_WIDE_SIZES(ALU_DSHIFT, shrd, "shrd")
ALU_WIDE_SIZES(ALU_RMF, bsf, "bsf")
ALU_WIDE_SIZES(ALU_RMF, bsr, "bsr")
ALU_WIDE_SIZES(ALU_RMF, imul, "imul")
ALU_WIDE_SIZES(ALU_RMF, bts, "bts")
ALU_WIDE_SIZES(ALU_RMF, btr, "btr")
ALU_WIDE_SIZES(ALU_RMF, btc, "btc")
ALU_WIDE_SIZES(ALU_RMF, bt, "bt")
ALU_WIDE_SIZES(ALU_RMF, popcnt, "popcnt")
ALU_WIDE_SIZES(ALU_RMF, lzcnt, "lzcnt")
ALU_WIDE_SIZES(ALU_RMF, tzcnt, "tzcnt")
ALU_BIG_SIZES(ALU_RMF, blsi, "blsi")
ALU_BIG_SIZES(ALU_RMF, blsr, "blsr")
ALU_BIG_SIZES(ALU_RMF, blsmsk, "blsmsk")

/* Three-operand BMI with flags: destination, first and second source as the manual names them. */
#define ALU_BMI3(name, insn, T, S)                                                                 \
    ALU_INLINE T alu_##name(T src1, T src2, uint32_t *fl)                                          \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        T d;                                                                                       \
        __asm__(ALU_LOAD insn #S " %[s2], %[s1], %[d]" ALU_SAVE                                    \
                : [d] "=&r"(d), [f] "+&a"(f) : [s1] "r"(src1), [s2] "r"(src2) : "cc");             \
        *fl = f;                                                                                   \
        return d;                                                                                  \
    }
ALU_BIG_SIZES(ALU_BMI3, andn, "andn")
/* Here the manual's first source is r/m, the second the register in vvvv: AT&T order reg, r/m, dst. */
ALU_BIG_SIZES(ALU_BMI3, bextr, "bextr")
ALU_BIG_SIZES(ALU_BMI3, bzhi, "bzhi")

/* No flags. */
#define ALU_BMI3N(name, insn, T, S)                                                                \
    ALU_INLINE T alu_##name(T src1, T src2)                                                        \
    {                                                                                              \
        T d;                                                                                       \
        __asm__(insn #S " %[s2], %[s1], %[d]" : [d] "=r"(d) : [s1] "r"(src1), [s2] "r"(src2));     \
        return d;                                                                                  \
    }
ALU_BIG_SIZES(ALU_BMI3N, pdep, "pdep")
ALU_BIG_SIZES(ALU_BMI3N, pext, "pext")

/* Widening multiply: hi:lo = a * b. */
#define ALU_MUL(name, insn, T, S, A, D)                                                            \
    ALU_INLINE void alu_##name(T a, T b, T *lo, T *hi, uint32_t *fl)                               \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl;                                                                \
        T h;                                                                                       \
        T tmp;                                                                                     \
        __asm__("addb $127, %%al\n\tsahf\n\tmov %[a], %%" #A "\n\t" insn #S " %[b]\n\t"            \
                "mov %%" #A ", %[t]" ALU_SAVE                                                      \
                : [f] "+&a"(f), "=&d"(h), [t] "=&r"(tmp) : [a] "r"(a), [b] "r"(b) : "cc");         \
        *fl = f;                                                                                   \
        *lo = tmp;                                                                                 \
        *hi = h;                                                                                   \
    }
ALU_MUL(mul16, "mul", uint16_t, w, ax, dx)
ALU_MUL(mul32, "mul", uint32_t, l, eax, edx)
ALU_MUL(mul64, "mul", uint64_t, q, rax, rdx)
ALU_MUL(smul16, "imul", uint16_t, w, ax, dx)
ALU_MUL(smul32, "imul", uint32_t, l, eax, edx)
ALU_MUL(smul64, "imul", uint64_t, q, rax, rdx)
#define ALU_MUL8(name, insn)                                                                       \
    ALU_INLINE uint16_t alu_##name(uint8_t a, uint8_t b, uint32_t *fl)                             \
    {                                                                                              \
        uint16_t f = (uint16_t)*fl, r;                                                             \
        __asm__("addb $127, %%al\n\tsahf\n\tmovb %[a], %%al\n\t" insn "b %[b]\n\tmovw %%ax, %[r]" ALU_SAVE \
                : [f] "+&a"(f), [r] "=&r"(r) : [a] "q"(a), [b] "q"(b) : "cc");                     \
        *fl = f;                                                                                   \
        return r;                                                                                  \
    }
ALU_MUL8(mul8, "mul")
ALU_MUL8(smul8, "imul")

/* Condition codes of Jcc, SETcc, CMOVcc (SDM 1 appendix B). */
ALU_INLINE bool alu_cond(uint32_t fl, unsigned cc)
{
    bool r;

    switch (cc >> 1) {
    case 0: r = fl & 1; break;
    case 1: r = fl & 0x100; break;
    case 2: r = fl & 0x4000; break;
    case 3: r = fl & 0x4100; break;
    case 4: r = fl & 0x8000; break;
    case 5: r = fl & 0x400; break;
    case 6: r = ((fl >> 15) ^ fl) & 1; break;
    default: r = (((fl >> 15) ^ fl) & 1) || (fl & 0x4000); break;
    }
    return r ^ (cc & 1);
}

#endif
