/* SPDX-License-Identifier: BSD-2-Clause */
/* Records with a memory operand.  Included twice by ops.c: with plain 64-bit addresses and with addresses that
 * wrap at 16 or 32 bits.  EA(op) is the linear address, N(name) the name of the variant. */

#define ALU_RM(name, T, B)                                                                         \
    H(N(name##_rm##B))                                                                             \
    {                                                                                              \
        T b;                                                                                       \
        LD(T, b, EA(op));                                                                          \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), b, &fl);                                                  \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }
#define ALU_MX(name, T, B, suffix, src)                                                            \
    H(N(name##_##suffix##B))                                                                       \
    {                                                                                              \
        T *p;                                                                                      \
        RMW(T, p, EA(op));                                                                         \
        uint32_t fl = vp->cpu.fl;                                                                  \
        *p = alu_##name##B(*p, (T)(src), &fl);                                                     \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
#define CMP_RM(name, alu, T, B)                                                                    \
    H(N(name##_rm##B))                                                                             \
    {                                                                                              \
        T b;                                                                                       \
        LD(T, b, EA(op));                                                                          \
        uint32_t fl;                                                                               \
        alu_##alu##B(R##B(op->r), b, &fl);                                                         \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }                                                                                              \
    H(N(name##_mr##B))                                                                             \
    {                                                                                              \
        T a;                                                                                       \
        LD(T, a, EA(op));                                                                          \
        uint32_t fl;                                                                               \
        alu_##alu##B(a, R##B(op->r), &fl);                                                         \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }                                                                                              \
    H(N(name##_mi##B))                                                                             \
    {                                                                                              \
        T a;                                                                                       \
        LD(T, a, EA(op));                                                                          \
        uint32_t fl;                                                                               \
        alu_##alu##B(a, (T)op->imm, &fl);                                                          \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
#define UN_M(name, T, B)                                                                           \
    H(N(name##_m##B))                                                                              \
    {                                                                                              \
        T *p;                                                                                      \
        RMW(T, p, EA(op));                                                                         \
        uint32_t fl = vp->cpu.fl;                                                                  \
        *p = alu_##name##B(*p, &fl);                                                               \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
#define MEM_BY_SIZE(T, B)                                                                          \
    ALU_RM(add, T, B) ALU_RM(or, T, B) ALU_RM(adc, T, B) ALU_RM(sbb, T, B) ALU_RM(and, T, B)       \
    ALU_RM(sub, T, B) ALU_RM(xor, T, B)                                                            \
    ALU_MX(add, T, B, mr, R##B(op->r)) ALU_MX(or, T, B, mr, R##B(op->r))                           \
    ALU_MX(adc, T, B, mr, R##B(op->r)) ALU_MX(sbb, T, B, mr, R##B(op->r))                          \
    ALU_MX(and, T, B, mr, R##B(op->r)) ALU_MX(sub, T, B, mr, R##B(op->r))                          \
    ALU_MX(xor, T, B, mr, R##B(op->r))                                                             \
    ALU_MX(add, T, B, mi, op->imm) ALU_MX(or, T, B, mi, op->imm) ALU_MX(adc, T, B, mi, op->imm)    \
    ALU_MX(sbb, T, B, mi, op->imm) ALU_MX(and, T, B, mi, op->imm) ALU_MX(sub, T, B, mi, op->imm)   \
    ALU_MX(xor, T, B, mi, op->imm)                                                                 \
    CMP_RM(cmp, sub, T, B) CMP_RM(test, and, T, B)                                                 \
    UN_M(inc, T, B) UN_M(dec, T, B) UN_M(neg, T, B)                                                \
    H(N(not_m##B)) { T *p; RMW(T, p, EA(op)); *p = (T)~*p; NEXT; }                   \
    H(N(mov_rm##B)) { T b; LD(T, b, EA(op)); W##B(op->r, b); NEXT; }                               \
    H(N(mov_mr##B)) { ST(T, EA(op), R##B(op->r)); NEXT; }                                          \
    H(N(mov_mi##B)) { ST(T, EA(op), (T)op->imm); NEXT; }
MEM_BY_SIZE(uint8_t, 8)
MEM_BY_SIZE(uint16_t, 16)
MEM_BY_SIZE(uint32_t, 32)
MEM_BY_SIZE(uint64_t, 64)

#define EXT_M(name, ST_, DT, DB) H(N(name)) { ST_ b; LD(ST_, b, EA(op)); W##DB(op->r, (DT)b); NEXT; }
EXT_M(movzx8_m16, uint8_t, uint16_t, 16)
EXT_M(movzx8_m32, uint8_t, uint32_t, 32)
EXT_M(movzx8_m64, uint8_t, uint64_t, 64)
EXT_M(movzx16_m32, uint16_t, uint32_t, 32)
EXT_M(movzx16_m64, uint16_t, uint64_t, 64)
EXT_M(movsx8_m16, int8_t, int16_t, 16)
EXT_M(movsx8_m32, int8_t, int32_t, 32)
EXT_M(movsx8_m64, int8_t, int64_t, 64)
EXT_M(movsx16_m32, int16_t, int32_t, 32)
EXT_M(movsx16_m64, int16_t, int64_t, 64)
EXT_M(movsx32_m64, int32_t, int64_t, 64)

H(N(lea16)) { W16(op->r, (uint16_t)EAO(op)); NEXT; }
H(N(lea32)) { W32(op->r, (uint32_t)EAO(op)); NEXT; }
H(N(lea64)) { W64(op->r, EAO(op)); NEXT; }

#define IMUL_M(T, B)                                                                               \
    H(N(imul2_m##B))                                                                               \
    {                                                                                              \
        T b;                                                                                       \
        LD(T, b, EA(op));                                                                          \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_imul##B(R##B(op->r), b, &fl);                                                    \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(N(imul3_m##B))                                                                               \
    {                                                                                              \
        T b;                                                                                       \
        LD(T, b, EA(op));                                                                          \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_imul##B(b, (T)op->imm, &fl);                                                     \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(N(cmov_m##B))                                                                                \
    {                                                                                              \
        T b;                                                                                       \
        LD(T, b, EA(op));                                                                          \
        b = alu_cond(vp->cpu.fl, op->size) ? b : R##B(op->r);                                      \
        W##B(op->r, b);                                                                            \
        NEXT;                                                                                      \
    }
IMUL_M(uint16_t, 16)
IMUL_M(uint32_t, 32)
IMUL_M(uint64_t, 64)

#define SHIFT_M(name, T, B)                                                                        \
    H(N(name##_mi##B))                                                                             \
    {                                                                                              \
        T *p;                                                                                      \
        RMW(T, p, EA(op));                                                                         \
        uint32_t fl = vp->cpu.fl;                                                                  \
        *p = alu_##name##B(*p, (uint8_t)op->imm, &fl);                                             \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
#define SHIFT_M_ALL(name) SHIFT_M(name, uint8_t, 8) SHIFT_M(name, uint16_t, 16) SHIFT_M(name, uint32_t, 32) SHIFT_M(name, uint64_t, 64)
SHIFT_M_ALL(rol)
SHIFT_M_ALL(ror)
SHIFT_M_ALL(shl)
SHIFT_M_ALL(shr)
SHIFT_M_ALL(sar)

/* Locked forms: the host's own locked instruction on the host address. */
#define LOCK_MX(name, insn, T, B, S, suffix, src)                                                  \
    H(N(lock_##name##_##suffix##B))                                                                \
    {                                                                                              \
        T *p;                                                                                      \
        T v = (T)(src);                                                                            \
        uint16_t f = (uint16_t)vp->cpu.fl;                                                         \
        RMW(T, p, EA(op));                                                                         \
        __asm__ volatile("btl $8, %k[f]\n\tlock " insn #S " %[v], %[p]" ALU_SAVE                 \
                         : [p] "+m"(*p), [f] "+&a"(f) : [v] "r"(v) : "cc", "memory");              \
        vp->cpu.fl = f;                                                                            \
        NEXT;                                                                                      \
    }
#define LOCK_UN(name, insn, T, B, S)                                                               \
    H(N(lock_##name##_m##B))                                                                       \
    {                                                                                              \
        T *p;                                                                                      \
        uint16_t f = (uint16_t)vp->cpu.fl;                                                         \
        RMW(T, p, EA(op));                                                                         \
        __asm__ volatile("btl $8, %k[f]\n\tlock " insn #S " %[p]" ALU_SAVE                       \
                         : [p] "+m"(*p), [f] "+&a"(f) : : "cc", "memory");                         \
        vp->cpu.fl = f;                                                                            \
        NEXT;                                                                                      \
    }
#define LOCK_BY_SIZE(T, B, S)                                                                      \
    LOCK_MX(add, "add", T, B, S, mr, R##B(op->r)) LOCK_MX(or, "or", T, B, S, mr, R##B(op->r))      \
    LOCK_MX(and, "and", T, B, S, mr, R##B(op->r)) LOCK_MX(sub, "sub", T, B, S, mr, R##B(op->r))    \
    LOCK_MX(xor, "xor", T, B, S, mr, R##B(op->r))                                                  \
    LOCK_MX(add, "add", T, B, S, mi, op->imm) LOCK_MX(or, "or", T, B, S, mi, op->imm)              \
    LOCK_MX(and, "and", T, B, S, mi, op->imm) LOCK_MX(sub, "sub", T, B, S, mi, op->imm)            \
    LOCK_MX(xor, "xor", T, B, S, mi, op->imm)                                                      \
    LOCK_UN(inc, "inc", T, B, S) LOCK_UN(dec, "dec", T, B, S)                                      \
    H(N(xchg_m##B))                                                                                \
    {                                                                                              \
        T *p;                                                                                      \
        RMW(T, p, EA(op));                                                                         \
        T v = __atomic_exchange_n(p, R##B(op->r), __ATOMIC_SEQ_CST);                               \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(N(lock_xadd_m##B))                                                                           \
    {                                                                                              \
        T *p;                                                                                      \
        uint16_t f;                                                                                \
        T v = R##B(op->r);                                                                         \
        RMW(T, p, EA(op));                                                                         \
        __asm__ volatile("lock xadd" #S " %[v], %[p]" ALU_SAVE                                     \
                         : [p] "+m"(*p), [v] "+&q"(v), "=a"(f) : : "cc", "memory");                \
        W##B(op->r, v);                                                                            \
        vp->cpu.fl = f;                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(N(lock_cmpxchg_m##B))                                                                        \
    {                                                                                              \
        T *p;                                                                                      \
        RMW(T, p, EA(op));                                                                         \
        T acc = R##B(0), old = acc;                                                                \
        uint32_t fl;                                                                               \
        __atomic_compare_exchange_n(p, &old, R##B(op->r), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); \
        alu_sub##B(acc, old, &fl);                                                                 \
        if (old != acc)                                                                            \
            W##B(0, old);                                                                          \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
LOCK_BY_SIZE(uint8_t, 8, b)
LOCK_BY_SIZE(uint16_t, 16, w)
LOCK_BY_SIZE(uint32_t, 32, l)
LOCK_BY_SIZE(uint64_t, 64, q)

H(N(setcc_m)) { ST(uint8_t, EA(op), (uint8_t)alu_cond(vp->cpu.fl, op->size)); NEXT; }

H(N(push_m64))
{
    uint64_t v, sp = R64(SP_OFF) - 8;

    LD(uint64_t, v, EA(op));
    ST(uint64_t, sp, v);
    W64(SP_OFF, sp);
    NEXT;
}
H(N(jmp_m64))
{
    uint64_t v;

    LD(uint64_t, v, EA(op));
    return go_indirect(vp, op, v);
}
H(N(call_m64))
{
    uint64_t v, sp = R64(SP_OFF) - 8;

    LD(uint64_t, v, EA(op));
    if (unlikely(!x86_canonical(v)))
        return slow_gp(vp, op);
    ST(uint64_t, sp, op_block(op)->rip0 + op->off + op->len);
    W64(SP_OFF, sp);
    return go_indirect(vp, op, v);
}

/* Vector operation with a memory operand: read, written, or both. */
H(N(vec_rd))
{
    uint64_t ea = EA(op);
    const struct x86_tlb_entry *e = TLB(ea);

    if (unlikely(!vec_ready(vp, op) || (ea & op->lmask)))
        return slow_insn(vp, op);
    if (unlikely(ea + e->nrd > 4096 - (uint64_t)op->size))
        return slow_mem(vp, op, ea, op->size, X86_ACC_READ);
    ((x86_vec_stub)op->imm)(&vp->cpu, (void *)(uintptr_t)(ea + e->add));
    NEXT;
}
H(N(vec_wr))
{
    uint64_t ea = EA(op);
    const struct x86_tlb_entry *e = TLB(ea);

    if (unlikely(!vec_ready(vp, op) || (ea & op->lmask)))
        return slow_insn(vp, op);
    if (unlikely(ea + e->nwr > 4096 - (uint64_t)op->size))
        return slow_mem(vp, op, ea, op->size, X86_ACC_WRITE);
    ((x86_vec_stub)op->imm)(&vp->cpu, (void *)(uintptr_t)(ea + e->add));
    NEXT;
}

/* Tables by size index for the binder. */
static const struct mem_table N(mem_table) = {
    .alu_rm = {
        { N(add_rm8), N(add_rm16), N(add_rm32), N(add_rm64) }, { N(or_rm8), N(or_rm16), N(or_rm32), N(or_rm64) },
        { N(adc_rm8), N(adc_rm16), N(adc_rm32), N(adc_rm64) }, { N(sbb_rm8), N(sbb_rm16), N(sbb_rm32), N(sbb_rm64) },
        { N(and_rm8), N(and_rm16), N(and_rm32), N(and_rm64) }, { N(sub_rm8), N(sub_rm16), N(sub_rm32), N(sub_rm64) },
        { N(xor_rm8), N(xor_rm16), N(xor_rm32), N(xor_rm64) }, { N(cmp_rm8), N(cmp_rm16), N(cmp_rm32), N(cmp_rm64) },
        { N(test_rm8), N(test_rm16), N(test_rm32), N(test_rm64) } },
    .alu_mr = {
        { N(add_mr8), N(add_mr16), N(add_mr32), N(add_mr64) }, { N(or_mr8), N(or_mr16), N(or_mr32), N(or_mr64) },
        { N(adc_mr8), N(adc_mr16), N(adc_mr32), N(adc_mr64) }, { N(sbb_mr8), N(sbb_mr16), N(sbb_mr32), N(sbb_mr64) },
        { N(and_mr8), N(and_mr16), N(and_mr32), N(and_mr64) }, { N(sub_mr8), N(sub_mr16), N(sub_mr32), N(sub_mr64) },
        { N(xor_mr8), N(xor_mr16), N(xor_mr32), N(xor_mr64) }, { N(cmp_mr8), N(cmp_mr16), N(cmp_mr32), N(cmp_mr64) },
        { N(test_mr8), N(test_mr16), N(test_mr32), N(test_mr64) } },
    .alu_mi = {
        { N(add_mi8), N(add_mi16), N(add_mi32), N(add_mi64) }, { N(or_mi8), N(or_mi16), N(or_mi32), N(or_mi64) },
        { N(adc_mi8), N(adc_mi16), N(adc_mi32), N(adc_mi64) }, { N(sbb_mi8), N(sbb_mi16), N(sbb_mi32), N(sbb_mi64) },
        { N(and_mi8), N(and_mi16), N(and_mi32), N(and_mi64) }, { N(sub_mi8), N(sub_mi16), N(sub_mi32), N(sub_mi64) },
        { N(xor_mi8), N(xor_mi16), N(xor_mi32), N(xor_mi64) }, { N(cmp_mi8), N(cmp_mi16), N(cmp_mi32), N(cmp_mi64) },
        { N(test_mi8), N(test_mi16), N(test_mi32), N(test_mi64) } },
    .un = {
        { N(inc_m8), N(inc_m16), N(inc_m32), N(inc_m64) }, { N(dec_m8), N(dec_m16), N(dec_m32), N(dec_m64) },
        { N(neg_m8), N(neg_m16), N(neg_m32), N(neg_m64) }, { N(not_m8), N(not_m16), N(not_m32), N(not_m64) } },
    .mov_rm = { N(mov_rm8), N(mov_rm16), N(mov_rm32), N(mov_rm64) },
    .mov_mr = { N(mov_mr8), N(mov_mr16), N(mov_mr32), N(mov_mr64) },
    .mov_mi = { N(mov_mi8), N(mov_mi16), N(mov_mi32), N(mov_mi64) },
    .movzx8 = { NULL, N(movzx8_m16), N(movzx8_m32), N(movzx8_m64) },
    .movzx16 = { NULL, NULL, N(movzx16_m32), N(movzx16_m64) },
    .movsx8 = { NULL, N(movsx8_m16), N(movsx8_m32), N(movsx8_m64) },
    .movsx16 = { NULL, NULL, N(movsx16_m32), N(movsx16_m64) },
    .movsx32 = N(movsx32_m64),
    .lea = { NULL, N(lea16), N(lea32), N(lea64) },
    .imul2 = { NULL, N(imul2_m16), N(imul2_m32), N(imul2_m64) },
    .imul3 = { NULL, N(imul3_m16), N(imul3_m32), N(imul3_m64) },
    .cmov = { NULL, N(cmov_m16), N(cmov_m32), N(cmov_m64) },
    .shift = {
        { N(rol_mi8), N(rol_mi16), N(rol_mi32), N(rol_mi64) }, { N(ror_mi8), N(ror_mi16), N(ror_mi32), N(ror_mi64) },
        { N(shl_mi8), N(shl_mi16), N(shl_mi32), N(shl_mi64) }, { N(shr_mi8), N(shr_mi16), N(shr_mi32), N(shr_mi64) },
        { N(sar_mi8), N(sar_mi16), N(sar_mi32), N(sar_mi64) } },
    .lock_mr = {
        { N(lock_add_mr8), N(lock_add_mr16), N(lock_add_mr32), N(lock_add_mr64) }, { N(lock_or_mr8), N(lock_or_mr16), N(lock_or_mr32), N(lock_or_mr64) },
        { NULL }, { NULL },
        { N(lock_and_mr8), N(lock_and_mr16), N(lock_and_mr32), N(lock_and_mr64) }, { N(lock_sub_mr8), N(lock_sub_mr16), N(lock_sub_mr32), N(lock_sub_mr64) },
        { N(lock_xor_mr8), N(lock_xor_mr16), N(lock_xor_mr32), N(lock_xor_mr64) } },
    .lock_mi = {
        { N(lock_add_mi8), N(lock_add_mi16), N(lock_add_mi32), N(lock_add_mi64) }, { N(lock_or_mi8), N(lock_or_mi16), N(lock_or_mi32), N(lock_or_mi64) },
        { NULL }, { NULL },
        { N(lock_and_mi8), N(lock_and_mi16), N(lock_and_mi32), N(lock_and_mi64) }, { N(lock_sub_mi8), N(lock_sub_mi16), N(lock_sub_mi32), N(lock_sub_mi64) },
        { N(lock_xor_mi8), N(lock_xor_mi16), N(lock_xor_mi32), N(lock_xor_mi64) } },
    .lock_inc = { N(lock_inc_m8), N(lock_inc_m16), N(lock_inc_m32), N(lock_inc_m64) },
    .lock_dec = { N(lock_dec_m8), N(lock_dec_m16), N(lock_dec_m32), N(lock_dec_m64) },
    .lock_xadd = { N(lock_xadd_m8), N(lock_xadd_m16), N(lock_xadd_m32), N(lock_xadd_m64) },
    .lock_cmpxchg = { N(lock_cmpxchg_m8), N(lock_cmpxchg_m16), N(lock_cmpxchg_m32), N(lock_cmpxchg_m64) },
    .xchg = { N(xchg_m8), N(xchg_m16), N(xchg_m32), N(xchg_m64) },
    .setcc = N(setcc_m), .push64 = N(push_m64), .jmp64 = N(jmp_m64), .call64 = N(call_m64),
    .vec_rd = N(vec_rd), .vec_wr = N(vec_wr),
};

#undef ALU_RM
#undef ALU_MX
#undef CMP_RM
#undef UN_M
#undef MEM_BY_SIZE
#undef EXT_M
#undef IMUL_M
#undef SHIFT_M
#undef SHIFT_M_ALL
#undef LOCK_MX
#undef LOCK_UN
#undef LOCK_BY_SIZE
