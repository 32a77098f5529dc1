/* SPDX-License-Identifier: BSD-2-Clause */
/* The interpreter's records: one small function an operation and operand form, chained by tail calls, and the
 * binder that chooses them.  What has no fast form runs through the shared semantics (hv/x86/exec.h). */
#include <string.h>

#include "hv/interp/interp.h"
#include "hv/x86/alu.h"

#define H(name) static const struct op *name(struct hv_vp *vp, const struct op *op)
#if INTERP_TAIL
#define DISPATCH(o) do { const struct op *o_ = (o); return o_->fn(vp, o_); } while (0)
#else
#define DISPATCH(o) return (o)
#endif
#define NEXT DISPATCH(op + 1)

/* Registers by byte offset from the start of struct hv_vp. */
#define AT(T, off) (*(T *)((uint8_t *)vp + (off)))
#define R8(off) AT(uint8_t, off)
#define R16(off) AT(uint16_t, off)
#define R32(off) AT(uint32_t, off)
#define R64(off) AT(uint64_t, off)
#define W8(off, v) (AT(uint8_t, off) = (uint8_t)(v))
#define W16(off, v) (AT(uint16_t, off) = (uint16_t)(v))
#define W32(off, v) (AT(uint64_t, off) = (uint32_t)(v))
#define W64(off, v) (AT(uint64_t, off) = (uint64_t)(v))
enum { SP_OFF = X86_RSP * 8, NONE_OFF = X86_REG_NONE * 8 };
_Static_assert(offsetof(struct hv_vp, cpu) == 0 && offsetof(struct x86_cpu, gpr) == 0, "records address registers so");

static const uint64_t ea_masks[3] = { 0xffff, 0xffffffff, ~0ull };

/* ---- memory: the fast case inline, the rest out of line ------------------------------------------------ */

#define TLB(ea) (&vp->mmu.tlb->e[((ea) >> 12) & (X86_TLB_SIZE - 1)])

static void slow_begin(struct hv_vp *vp, const struct op *op)
{
    interp_of(vp)->cur = op;
    vp->cpu.rip = op_block(op)->rip0 + op->off;
    if (vp->cpu.mode != X86_MODE_64)
        vp->cpu.rip = (uint32_t)vp->cpu.rip;
}

static const struct op *slow_decoded(struct hv_vp *vp, const struct op *op);

/* The TLB does not serve this access.  When a walk makes it (the usual case) the record runs again, else the
 * instruction is executed by the shared semantics; faults leave from here.  No record has changed anything
 * before its last access.  A record with two accesses (call through memory) whose pages share a TLB entry would
 * run again for ever: it gets one try each time it is executed. */
static __attribute__((noinline)) const struct op *slow_mem(struct hv_vp *vp, const struct op *op, uint64_t ea,
                                                           unsigned n, unsigned acc)
{
    const struct x86_tlb_entry *e;
    struct interp *it = interp_of(vp);
    uint64_t when = vp->counters[HV_CTR_INSNS];

    slow_begin(vp, op);
    if (unlikely(it->missed == op && it->missed_at == when))
        return slow_decoded(vp, op);
    it->missed = op;
    it->missed_at = when;
    if ((ea & 4095) + n <= 4096 && (vp->cpu.mode != X86_MODE_64 || x86_canonical(ea)) && x86_lin_hva(vp, ea, n, acc)) {
        e = TLB(ea);
        if (likely(ea + ((acc & X86_ACC_WRITE) ? e->nwr : e->nrd) <= 4096 - n))
            DISPATCH(op);
    }
    return slow_decoded(vp, op);
}

#define LD(T, var, ea_)                                                                            \
    do {                                                                                           \
        uint64_t a_ = (ea_);                                                                       \
        const struct x86_tlb_entry *e_ = TLB(a_);                                                  \
        if (unlikely(a_ + e_->nrd > 4096 - sizeof(T)))                                             \
            return slow_mem(vp, op, a_, sizeof(T), X86_ACC_READ);                                  \
        var = *(const T *)(uintptr_t)(a_ + e_->add);                                               \
    } while (0)
#define RMW(T, p, ea_)                                                                             \
    do {                                                                                           \
        uint64_t a_ = (ea_);                                                                       \
        const struct x86_tlb_entry *e_ = TLB(a_);                                                  \
        if (unlikely(a_ + e_->nwr > 4096 - sizeof(T)))                                             \
            return slow_mem(vp, op, a_, sizeof(T), X86_ACC_WRITE);                                 \
        p = (T *)(uintptr_t)(a_ + e_->add);                                                        \
    } while (0)
#define ST(T, ea_, val)                                                                            \
    do {                                                                                           \
        T *p_;                                                                                     \
        RMW(T, p_, ea_);                                                                           \
        *p_ = (val);                                                                               \
    } while (0)

/* ---- leaving a block ------------------------------------------------------------------------------------ */

/* Enter the next block at its first record, unless someone asks for attention. */
#define GO(blk)                                                                                    \
    do {                                                                                           \
        struct block *n_ = (blk);                                                                  \
        if (unlikely(atomic_load_explicit(&vp->attention, memory_order_relaxed))) {                \
            vp->cpu.rip = n_->rip0;                                                                \
            return NULL;                                                                           \
        }                                                                                          \
        vp->counters[HV_CTR_INSNS] += n_->ninsns;                                                  \
        DISPATCH(n_->ops);                                                                         \
    } while (0)

/* Follower @slot of the block that ends with @op, at @target; flag SAMEPAGE in op->size bit @slot. */
static __attribute__((noinline)) const struct op *link_slow(struct hv_vp *vp, const struct op *op, unsigned slot,
                                                            uint64_t target)
{
    struct interp *it = interp_of(vp);

    it->link_from = op_block(op);
    it->link_slot = slot;
    vp->cpu.rip = target;
    return NULL;
}

#define FOLLOW(slot, target)                                                                       \
    do {                                                                                           \
        struct block *s_ = op_block(op)->succ[slot];                                               \
        if (likely(s_ && ((op->size & (1u << (slot))) || s_->gen == vp->mmu.fetch_gen)))           \
            GO(s_);                                                                                \
        return link_slow(vp, op, slot, (uint64_t)(target));                                        \
    } while (0)

static inline __attribute__((always_inline)) const struct op *go_indirect(struct hv_vp *vp, const struct op *op, uint64_t rip)
{
    struct block *b = interp_of(vp)->jc[jc_slot(rip)];

    if (likely(b && b->rip == rip && b->key == vp->cpu.key && b->gen == vp->mmu.fetch_gen))
        GO(b);
    if (unlikely(!x86_canonical(rip))) {
        slow_begin(vp, op);
        x86_raise_err(vp, X86_EXC_GP, 0);
    }
    vp->cpu.rip = rip;
    return NULL;
}

static __attribute__((noinline)) const struct op *slow_gp(struct hv_vp *vp, const struct op *op)
{
    slow_begin(vp, op);
    x86_raise_err(vp, X86_EXC_GP, 0);
}

/* A dropped block: whoever comes here goes on by looking the address up again. */
H(op_resync)
{
    struct block *b = op_block(op);

    vp->cpu.rip = b->rip0 + op->off;
    if (vp->cpu.mode != X86_MODE_64)
        vp->cpu.rip = (uint32_t)vp->cpu.rip;
    if (b->ninsns > op->done)
        vp->counters[HV_CTR_INSNS] -= (uint64_t)(b->ninsns - op->done);
    return NULL;
}
op_fn interp_resync_fn(void) { return op_resync; }

H(op_fall) { FOLLOW(0, op->imm); }

void interp_bind_fall(struct op *op, uint64_t rip)
{
    op->fn = op_fall;
    op->imm = (int64_t)rip;
    op->size = 0;
}

/* ---- whole instructions by the shared semantics --------------------------------------------------------------- */

static void exec_any(struct hv_vp *vp, const struct x86_insn *in)
{
    if (in->feature && unlikely(!hv_feature(vp->p, in->feature)))
        x86_raise(vp, X86_EXC_UD);
    if ((in->attr & X86_A_GPRVEX) && unlikely(x86_is_real_or_vm86(&vp->cpu))) /* SDM 2A 2.9: exception class 13 */
        x86_raise(vp, X86_EXC_UD);
    if (in->op >= X86_OP_X87) {
        if (x86_exec_vec(vp, in))
            return;
    } else if (x86_exec_integer(vp, in) || x86_exec_transfer(vp, in) || x86_exec_system(vp, in)) {
        return;
    }
    x86_raise(vp, X86_EXC_UD);
}

/* A record that keeps no decoded instruction: decode it again (from what memory holds now, which is what a
 * processor may see as well) and execute it.  @return false: leave the block. */
static __attribute__((noinline)) bool exec_decoded(struct hv_vp *vp, const struct op *op)
{
    struct x86_cpu *c = &vp->cpu;
    struct x86_insn *in = &vp->scratch_insn;
    uint64_t lin = c->mode == X86_MODE_64 ? c->rip : (uint32_t)(c->seg[X86_CS].base + c->rip), rp, next;
    unsigned avail = 4096 - (unsigned)(lin & 4095);
    uint8_t buf[X86_MAX_INSN];
    const uint8_t *page = x86_fetch_page(vp, lin, &rp);
    int len = page ? x86_decode(page + (lin & 4095), avail > X86_MAX_INSN ? X86_MAX_INSN : avail, (enum x86_mode)c->mode, in) : 0;

    if (len == 0) {
        uint64_t lin2 = c->mode == X86_MODE_64 ? lin + avail : (uint32_t)(lin + avail);

        if (avail > X86_MAX_INSN)
            avail = X86_MAX_INSN;
        x86_fetch_bytes(vp, lin, buf, avail);
        if (avail < X86_MAX_INSN)
            x86_fetch_bytes(vp, lin2, buf + avail, X86_MAX_INSN - avail);
        len = x86_decode(buf, X86_MAX_INSN, (enum x86_mode)c->mode, in);
    }
    if (len <= 0) {
        if (len == -13)
            x86_raise_err(vp, X86_EXC_GP, 0);
        x86_raise(vp, X86_EXC_UD);
    }
    next = op_block(op)->rip0 + op->off + op->len;
    if (c->mode != X86_MODE_64)
        next = (uint32_t)next;
    exec_any(vp, in);
    return c->rip == next && !(in->attr & X86_A_END);
}

/* Apart from the work, so that going on is a tail call. */
static __attribute__((noinline)) const struct op *slow_decoded(struct hv_vp *vp, const struct op *op)
{
    if (unlikely(!exec_decoded(vp, op)))
        return NULL;
    NEXT;
}

/* Not at the end of a block: goes on when the instruction is complete. */
H(op_insn)
{
    uint64_t next = (uint64_t)op->imm;

    slow_begin(vp, op);
    exec_any(vp, op->insn);
    if (unlikely(vp->cpu.rip != next))
        return NULL;
    NEXT;
}
/* The same for a record whose imm is taken. */
static __attribute__((noinline)) const struct op *slow_insn(struct hv_vp *vp, const struct op *op)
{
    uint64_t next;

    slow_begin(vp, op);
    next = x86_next_rip(vp, op->insn);
    exec_any(vp, op->insn);
    if (unlikely(vp->cpu.rip != next))
        return NULL;
    NEXT;
}
H(op_insn_end)
{
    slow_begin(vp, op);
    exec_any(vp, op->insn);
    return NULL;
}
H(op_invalid)
{
    slow_begin(vp, op);
    if (op->imm == X86_EXC_GP)
        x86_raise_err(vp, X86_EXC_GP, 0);
    x86_raise(vp, X86_EXC_UD);
}
/* In front of a 32-bit access through FS, GS, CS: is the segment as good as flat? */
H(op_segcheck)
{
    const struct x86_seg *s = &vp->cpu.seg[op->insn->seg];

    if (likely(s->limit == 0xffffffffu && !(s->attr & SEG_UNUSABLE) && (s->attr & SEG_P) &&
               (s->attr & (SEG_TYPE_CODE | SEG_TYPE_EXPDOWN | SEG_TYPE_RW)) == SEG_TYPE_RW))
        NEXT;
    slow_begin(vp, op);
    uint64_t next = x86_next_rip(vp, op->insn);

    exec_any(vp, op->insn);
    if (unlikely(vp->cpu.rip != next))
        return NULL;
    DISPATCH(op + 2);
}

/* ---- register forms ---------------------------------------------------------------------------------------------- */

#define ALU_R(name, T, B)                                                                          \
    H(name##_rr##B)                                                                                \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), R##B(op->m), &fl);                                        \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(name##_ri##B)                                                                                \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), (T)op->imm, &fl);                                         \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }
#define CMP_R(name, alu, T, B)                                                                     \
    H(name##_rr##B)                                                                                \
    {                                                                                              \
        uint32_t fl;                                                                               \
        alu_##alu##B(R##B(op->r), R##B(op->m), &fl);                                               \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }                                                                                              \
    H(name##_ri##B)                                                                                \
    {                                                                                              \
        uint32_t fl;                                                                               \
        alu_##alu##B(R##B(op->r), (T)op->imm, &fl);                                                \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
#define UN_R(name, T, B)                                                                           \
    H(name##_r##B)                                                                                 \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), &fl);                                                     \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }
#define SHIFT_R(name, T, B)                                                                        \
    H(name##_ri##B)                                                                                \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), (uint8_t)op->imm, &fl);                                   \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(name##_rc##B)                                                                                \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), R8(X86_RCX * 8), &fl);                                    \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }
#define REG_BY_SIZE(T, B)                                                                          \
    ALU_R(add, T, B) ALU_R(or, T, B) ALU_R(adc, T, B) ALU_R(sbb, T, B) ALU_R(and, T, B)            \
    ALU_R(sub, T, B) ALU_R(xor, T, B) CMP_R(cmp, sub, T, B) CMP_R(test, and, T, B)                 \
    UN_R(inc, T, B) UN_R(dec, T, B) UN_R(neg, T, B)                                                \
    SHIFT_R(rol, T, B) SHIFT_R(ror, T, B) SHIFT_R(shl, T, B) SHIFT_R(shr, T, B) SHIFT_R(sar, T, B) \
    H(not_r##B) { W##B(op->r, ~R##B(op->r)); NEXT; }                                               \
    H(mov_rr##B) { W##B(op->r, R##B(op->m)); NEXT; }                                               \
    H(mov_ri##B) { W##B(op->r, op->imm); NEXT; }                                                   \
    H(xchg_rr##B)                                                                                  \
    {                                                                                              \
        T a = R##B(op->r), b = R##B(op->m);                                                        \
        W##B(op->r, b);                                                                            \
        W##B(op->m, a);                                                                            \
        NEXT;                                                                                      \
    }
REG_BY_SIZE(uint8_t, 8)
REG_BY_SIZE(uint16_t, 16)
REG_BY_SIZE(uint32_t, 32)
REG_BY_SIZE(uint64_t, 64)

H(zero_r) { W64(op->r, 0); vp->cpu.fl = FL_FIXED | FL_ZF | FL_PF; NEXT; } /* XOR r,r of 32 and 64 bits */

#define WIDE_R(T, B)                                                                               \
    H(imul2_r##B)                                                                                  \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_imul##B(R##B(op->r), R##B(op->m), &fl);                                          \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(imul3_r##B)                                                                                  \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_imul##B(R##B(op->m), (T)op->imm, &fl);                                           \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(cmov_r##B)                                                                                   \
    {                                                                                              \
        T v = alu_cond(vp->cpu.fl, op->size) ? R##B(op->m) : R##B(op->r);                          \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }                                                                                              \
    H(bt_ri##B)                                                                                    \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        alu_bt##B(R##B(op->r), (T)op->imm, &fl);                                                   \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }                                                                                              \
    H(bt_rr##B)                                                                                    \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        alu_bt##B(R##B(op->r), R##B(op->m), &fl);                                                  \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
WIDE_R(uint16_t, 16)
WIDE_R(uint32_t, 32)
WIDE_R(uint64_t, 64)

#define COUNT_R(name, T, B)                                                                        \
    H(name##_r##B)                                                                                 \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T v = alu_##name##B(R##B(op->r), R##B(op->m), &fl);                                        \
        vp->cpu.fl = fl;                                                                           \
        W##B(op->r, v);                                                                            \
        NEXT;                                                                                      \
    }
COUNT_R(popcnt, uint32_t, 32)
COUNT_R(popcnt, uint64_t, 64)
COUNT_R(tzcnt, uint32_t, 32)
COUNT_R(tzcnt, uint64_t, 64)
COUNT_R(lzcnt, uint32_t, 32)
COUNT_R(lzcnt, uint64_t, 64)

#define EXT_R(name, SB, ST_, DT, DB) H(name) { W##DB(op->r, (DT)(ST_)R##SB(op->m)); NEXT; }
EXT_R(movzx8_r16, 8, uint8_t, uint16_t, 16)
EXT_R(movzx8_r32, 8, uint8_t, uint32_t, 32)
EXT_R(movzx8_r64, 8, uint8_t, uint64_t, 64)
EXT_R(movzx16_r32, 16, uint16_t, uint32_t, 32)
EXT_R(movzx16_r64, 16, uint16_t, uint64_t, 64)
EXT_R(movsx8_r16, 8, int8_t, int16_t, 16)
EXT_R(movsx8_r32, 8, int8_t, int32_t, 32)
EXT_R(movsx8_r64, 8, int8_t, int64_t, 64)
EXT_R(movsx16_r32, 16, int16_t, int32_t, 32)
EXT_R(movsx16_r64, 16, int16_t, int64_t, 64)
EXT_R(movsx32_r64, 32, int32_t, int64_t, 64)

H(setcc_r) { W8(op->r, alu_cond(vp->cpu.fl, op->size)); NEXT; }
H(nop)
{
    (void)vp;
    NEXT;
}
H(cwde) { W32(0, (int16_t)R16(0)); NEXT; }
H(cdqe) { W64(0, (int64_t)(int32_t)R32(0)); NEXT; }
H(cdq) { W32(X86_RDX * 8, (int32_t)R32(0) >> 31); NEXT; }
H(cqo) { W64(X86_RDX * 8, (int64_t)R64(0) >> 63); NEXT; }
H(bswap_r32) { W32(op->r, __builtin_bswap32(R32(op->r))); NEXT; }
H(bswap_r64) { W64(op->r, __builtin_bswap64(R64(op->r))); NEXT; }
H(cld) { vp->cpu.eflags &= ~(uint32_t)EF_DF; NEXT; }

#define MUL_R(name, T, B)                                                                          \
    H(name##_r##B)                                                                                 \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        T lo, hi;                                                                                  \
        alu_##name##B(R##B(0), R##B(op->r), &lo, &hi, &fl);                                        \
        W##B(0, lo);                                                                               \
        W##B(X86_RDX * 8, hi);                                                                     \
        vp->cpu.fl = fl;                                                                           \
        NEXT;                                                                                      \
    }
MUL_R(mul, uint32_t, 32)
MUL_R(mul, uint64_t, 64)
MUL_R(smul, uint32_t, 32)
MUL_R(smul, uint64_t, 64)

H(div_r32)
{
    uint64_t n = R32(0) | R64(X86_RDX * 8) << 32;
    uint32_t d = R32(op->r);

    if (unlikely(!d || n >> 32 >= d))
        return slow_insn(vp, op);
    W32(0, n / d);
    W32(X86_RDX * 8, n % d);
    NEXT;
}
H(div_r64)
{
    uint64_t hi = R64(X86_RDX * 8), lo = R64(0), d = R64(op->r);

    if (unlikely(hi >= d))
        return slow_insn(vp, op);
    __asm__("divq %2" : "+a"(lo), "+d"(hi) : "r"(d) : "cc");
    W64(0, lo);
    W64(X86_RDX * 8, hi);
    NEXT;
}
H(idiv_r32)
{
    int64_t n = (int64_t)(R32(0) | R64(X86_RDX * 8) << 32), d = (int32_t)R32(op->r), q;

    if (unlikely(!d || n == INT64_MIN))
        return slow_insn(vp, op);
    q = n / d;
    if (unlikely(q != (int32_t)q))
        return slow_insn(vp, op);
    W32(0, q);
    W32(X86_RDX * 8, n % d);
    NEXT;
}
H(idiv_r64)
{
    int64_t hi = (int64_t)R64(X86_RDX * 8), lo = (int64_t)R64(0), d = (int64_t)R64(op->r);

    /* The usual case: the dividend is a sign-extended 64-bit number. */
    if (unlikely(!d || hi != lo >> 63 || (d == -1 && lo == INT64_MIN)))
        return slow_insn(vp, op);
    W64(0, lo / d);
    W64(X86_RDX * 8, lo % d);
    NEXT;
}

/* ---- stack, 64-bit mode and flat 32-bit mode -------------------------------------------------------------------------- */

H(push_r64)
{
    uint64_t sp = R64(SP_OFF) - 8;

    ST(uint64_t, sp, R64(op->r));
    W64(SP_OFF, sp);
    NEXT;
}
H(push_i64)
{
    uint64_t sp = R64(SP_OFF) - 8;

    ST(uint64_t, sp, (uint64_t)op->imm);
    W64(SP_OFF, sp);
    NEXT;
}
H(pop_r64)
{
    uint64_t sp = R64(SP_OFF), v;

    LD(uint64_t, v, sp);
    W64(SP_OFF, sp + 8);
    W64(op->r, v);
    NEXT;
}
H(push_r32)
{
    uint32_t sp = R32(SP_OFF) - 4;

    ST(uint32_t, (uint64_t)sp, R32(op->r));
    W32(SP_OFF, sp);
    NEXT;
}
H(push_i32)
{
    uint32_t sp = R32(SP_OFF) - 4;

    ST(uint32_t, (uint64_t)sp, (uint32_t)op->imm);
    W32(SP_OFF, sp);
    NEXT;
}
H(pop_r32)
{
    uint32_t sp = R32(SP_OFF), v;

    LD(uint32_t, v, (uint64_t)sp);
    W32(SP_OFF, sp + 4);
    W32(op->r, v);
    NEXT;
}
H(leave64)
{
    uint64_t sp = R64(X86_RBP * 8), v;

    LD(uint64_t, v, sp);
    W64(SP_OFF, sp + 8);
    W64(X86_RBP * 8, v);
    NEXT;
}
H(leave32)
{
    uint32_t sp = R32(X86_RBP * 8), v;

    LD(uint32_t, v, (uint64_t)sp);
    W32(SP_OFF, sp + 4);
    W32(X86_RBP * 8, v);
    NEXT;
}

/* ---- branches -------------------------------------------------------------------------------------------------------------- */

H(jmp_rel) { FOLLOW(0, op->imm); }

/* imm: target, disp: fall-through */
#define JCC(cc, cond_)                                                                             \
    H(jcc_##cc)                                                                                    \
    {                                                                                              \
        uint32_t fl = vp->cpu.fl;                                                                  \
        if (cond_)                                                                                 \
            FOLLOW(0, op->imm);                                                                    \
        FOLLOW(1, op->disp);                                                                       \
    }
JCC(0, fl & FL_OF)
JCC(1, !(fl & FL_OF))
JCC(2, fl & FL_CF)
JCC(3, !(fl & FL_CF))
JCC(4, fl & FL_ZF)
JCC(5, !(fl & FL_ZF))
JCC(6, fl & (FL_ZF | FL_CF))
JCC(7, !(fl & (FL_ZF | FL_CF)))
JCC(8, fl & FL_SF)
JCC(9, !(fl & FL_SF))
JCC(10, fl & FL_PF)
JCC(11, !(fl & FL_PF))
JCC(12, ((fl >> 15) ^ fl) & 1)
JCC(13, !(((fl >> 15) ^ fl) & 1))
JCC(14, (fl & FL_ZF) || (((fl >> 15) ^ fl) & 1))
JCC(15, !((fl & FL_ZF) || (((fl >> 15) ^ fl) & 1)))
static const op_fn jcc_table[16] = { jcc_0, jcc_1, jcc_2, jcc_3, jcc_4, jcc_5, jcc_6, jcc_7,
                                     jcc_8, jcc_9, jcc_10, jcc_11, jcc_12, jcc_13, jcc_14, jcc_15 };

H(call_rel64)
{
    uint64_t sp = R64(SP_OFF) - 8;

    ST(uint64_t, sp, (uint64_t)op->disp);
    W64(SP_OFF, sp);
    FOLLOW(0, op->imm);
}
H(call_rel32)
{
    uint32_t sp = R32(SP_OFF) - 4;

    ST(uint32_t, (uint64_t)sp, (uint32_t)op->disp);
    W32(SP_OFF, sp);
    FOLLOW(0, op->imm);
}
H(call_r64)
{
    uint64_t sp = R64(SP_OFF) - 8, target = R64(op->r);

    if (unlikely(!x86_canonical(target)))
        return slow_gp(vp, op);
    ST(uint64_t, sp, (uint64_t)op->disp);
    W64(SP_OFF, sp);
    return go_indirect(vp, op, target);
}
H(jmp_r64) { return go_indirect(vp, op, R64(op->r)); }
H(ret64)
{
    uint64_t sp = R64(SP_OFF), rip;

    LD(uint64_t, rip, sp);
    if (unlikely(!x86_canonical(rip)))
        return slow_gp(vp, op);
    W64(SP_OFF, sp + 8 + (uint64_t)op->imm);
    return go_indirect(vp, op, rip);
}
H(call_r32)
{
    uint32_t sp = R32(SP_OFF) - 4, target = R32(op->r);

    ST(uint32_t, (uint64_t)sp, (uint32_t)op->disp);
    W32(SP_OFF, sp);
    return go_indirect(vp, op, target);
}
H(jmp_r32) { return go_indirect(vp, op, R32(op->r)); }
H(ret32)
{
    uint32_t sp = R32(SP_OFF), rip;

    LD(uint32_t, rip, (uint64_t)sp);
    W32(SP_OFF, sp + 4 + (uint32_t)op->imm);
    return go_indirect(vp, op, rip);
}

/* ---- vectors --------------------------------------------------------------------------------------------------------------- */

/* May the stub run now?  See x86_vec_ready; amask holds the bound instruction's needs. */
static inline bool vec_ready(struct hv_vp *vp, const struct op *op)
{
    return (vp->cpu.x87_live & op->amask) == op->amask;
}

H(vec_reg)
{
    if (unlikely(!vec_ready(vp, op)))
        return slow_insn(vp, op);
    ((x86_vec_stub)op->imm)(&vp->cpu, NULL);
    NEXT;
}

/* ---- memory forms ------------------------------------------------------------------------------------------------------------- */

struct mem_table {
    op_fn alu_rm[9][4], alu_mr[9][4], alu_mi[9][4], un[4][4];
    op_fn mov_rm[4], mov_mr[4], mov_mi[4], movzx8[4], movzx16[4], movsx8[4], movsx16[4], movsx32;
    op_fn lock_mr[7][4], lock_mi[7][4], lock_inc[4], lock_dec[4], lock_xadd[4], lock_cmpxchg[4], xchg[4];
    op_fn lea[4], imul2[4], imul3[4], cmov[4], shift[5][4], setcc, push64, jmp64, call64, vec_rd, vec_wr;
};

#define EAO64(op) (R64((op)->b) + (R64((op)->x) << (op)->scale) + (uint64_t)(op)->disp)
#define N(name) name##_a64
#define EAO(op) EAO64(op)
#define EA(op) (EAO64(op) + AT(uint64_t, (op)->seg))
#include "hv/interp/ops_mem.h"
#undef N
#undef EAO
#undef EA
#define N(name) name##_a32
#define EAO(op) (EAO64(op) & ea_masks[(op)->amask])
#define EA(op) ((EAO(op) + AT(uint64_t, (op)->seg)) & ea_masks[(op)->lmask])
/* Vector records use amask and lmask for themselves; outside 64-bit addressing they are not bound fast. */
#include "hv/interp/ops_mem.h"
#undef N
#undef EAO
#undef EA

/* ---- binding ----------------------------------------------------------------------------------------------------------------------- */

static unsigned size_index(unsigned size) { return size == 1 ? 0 : size == 2 ? 1 : size == 4 ? 2 : 3; }

static uint8_t reg_off(const struct x86_operand *o)
{
    return (uint8_t)((o->flags & X86_F_HIGH8) ? (o->reg - 4) * 8 + 1 : o->reg * 8);
}

#define ROW4(name) { name##8, name##16, name##32, name##64 }
static const op_fn alu_rr[9][4] = { ROW4(add_rr), ROW4(or_rr), ROW4(adc_rr), ROW4(sbb_rr), ROW4(and_rr),
                                    ROW4(sub_rr), ROW4(xor_rr), ROW4(cmp_rr), ROW4(test_rr) };
static const op_fn alu_ri[9][4] = { ROW4(add_ri), ROW4(or_ri), ROW4(adc_ri), ROW4(sbb_ri), ROW4(and_ri),
                                    ROW4(sub_ri), ROW4(xor_ri), ROW4(cmp_ri), ROW4(test_ri) };
static const op_fn un_r[4][4] = { ROW4(inc_r), ROW4(dec_r), ROW4(neg_r), ROW4(not_r) };
static const op_fn shift_ri[5][4] = { ROW4(rol_ri), ROW4(ror_ri), ROW4(shl_ri), ROW4(shr_ri), ROW4(sar_ri) };
static const op_fn shift_rc[5][4] = { ROW4(rol_rc), ROW4(ror_rc), ROW4(shl_rc), ROW4(shr_rc), ROW4(sar_rc) };
static const op_fn mov_rr[4] = ROW4(mov_rr), mov_ri[4] = ROW4(mov_ri), xchg_rr[4] = ROW4(xchg_rr);
static const op_fn movzx8_r[4] = { NULL, movzx8_r16, movzx8_r32, movzx8_r64 };
static const op_fn movzx16_r[4] = { NULL, NULL, movzx16_r32, movzx16_r64 };
static const op_fn movsx8_r[4] = { NULL, movsx8_r16, movsx8_r32, movsx8_r64 };
static const op_fn movsx16_r[4] = { NULL, NULL, movsx16_r32, movsx16_r64 };
static const op_fn imul2_r[4] = { NULL, imul2_r16, imul2_r32, imul2_r64 };
static const op_fn imul3_r[4] = { NULL, imul3_r16, imul3_r32, imul3_r64 };
static const op_fn cmov_r[4] = { NULL, cmov_r16, cmov_r32, cmov_r64 };
static const op_fn bt_ri[4] = { NULL, bt_ri16, bt_ri32, bt_ri64 };
static const op_fn bt_rr[4] = { NULL, bt_rr16, bt_rr32, bt_rr64 };

static int alu_row(unsigned op)
{
    switch (op) {
    case X86_OP_ADD: return 0;
    case X86_OP_OR: return 1;
    case X86_OP_ADC: return 2;
    case X86_OP_SBB: return 3;
    case X86_OP_AND: return 4;
    case X86_OP_SUB: return 5;
    case X86_OP_XOR: return 6;
    case X86_OP_CMP: return 7;
    case X86_OP_TEST: return 8;
    default: return -1;
    }
}

static int shift_row(unsigned op)
{
    switch (op) {
    case X86_OP_ROL: return 0;
    case X86_OP_ROR: return 1;
    case X86_OP_SHL: return 2;
    case X86_OP_SHR: return 3;
    case X86_OP_SAR: return 4;
    default: return -1;
    }
}

static void bind_mem(struct op *op, const struct x86_insn *in, uint64_t rip)
{
    op->disp = in->disp;
    op->b = (uint8_t)(in->base * 8);
    op->x = (uint8_t)(in->index * 8);
    op->scale = in->scale;
    if (in->base == X86_REG_RIP) {
        op->b = NONE_OFF;
        op->disp = (int64_t)(rip + in->len + (uint64_t)in->disp);
    }
    unsigned seg = in->mode == X86_MODE_64 && in->seg != X86_FS && in->seg != X86_GS ? X86_SEG_NONE : in->seg;

    op->seg = (uint16_t)(offsetof(struct x86_cpu, seg) + seg * sizeof(struct x86_seg) + offsetof(struct x86_seg, base));
    op->amask = in->asize == 2 ? 0 : in->asize == 4 ? 1 : 2;
    op->lmask = in->mode == X86_MODE_64 ? 2 : 1;
}

/* The fast form of @in, or NULL. */
static op_fn bind_fast(struct op *op, const struct x86_insn *in, uint64_t rip, const struct mem_table *mt, bool m64)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned si = size_index(a->size);
    bool am = a->kind == X86_O_MEM, bm = b->kind == X86_O_MEM;
    bool ar = a->kind == X86_O_GPR, br = b->kind == X86_O_GPR, bi = b->kind == X86_O_IMM;
    int row;

    if (am || bm || in->op == X86_OP_LEA)
        bind_mem(op, in, rip);
    if (in->op == X86_OP_XCHG && (am || bm)) { /* always locked */
        op->r = reg_off(am ? b : a);
        return mt->xchg[si];
    }
    if (in->lock) {
        row = alu_row(in->op);
        if (row >= 0 && row < 7 && bi) {
            op->imm = in->imm;
            return mt->lock_mi[row][si];
        }
        if (br)
            op->r = reg_off(b);
        switch (in->op) {
        case X86_OP_INC: return mt->lock_inc[si];
        case X86_OP_DEC: return mt->lock_dec[si];
        case X86_OP_XADD: return mt->lock_xadd[si];
        case X86_OP_CMPXCHG: return mt->lock_cmpxchg[si];
        default: return row >= 0 && row < 7 && br ? mt->lock_mr[row][si] : NULL;
        }
    }
    if ((row = alu_row(in->op)) >= 0) {
        if (ar && br) {
            op->r = reg_off(a);
            op->m = reg_off(b);
            if (in->op == X86_OP_XOR && a->reg == b->reg && a->size >= 4)
                return zero_r;
            return alu_rr[row][si];
        }
        if (ar && bi) {
            op->r = reg_off(a);
            op->imm = in->imm;
            return alu_ri[row][si];
        }
        if (ar && bm) {
            op->r = reg_off(a);
            return mt->alu_rm[row][si];
        }
        if (am && br) {
            op->r = reg_off(b);
            return mt->alu_mr[row][si];
        }
        if (am && bi) {
            op->imm = in->imm;
            return mt->alu_mi[row][si];
        }
        return NULL;
    }
    if ((row = shift_row(in->op)) >= 0) {
        if (ar && bi) {
            op->r = reg_off(a);
            op->imm = in->imm;
            return shift_ri[row][si];
        }
        if (ar && br) {
            op->r = reg_off(a);
            return shift_rc[row][si];
        }
        if (am && bi) {
            op->imm = in->imm;
            return mt->shift[row][si];
        }
        return NULL;
    }
    switch (in->op) {
    case X86_OP_INC: case X86_OP_DEC: case X86_OP_NEG: case X86_OP_NOT:
        row = in->op == X86_OP_INC ? 0 : in->op == X86_OP_DEC ? 1 : in->op == X86_OP_NEG ? 2 : 3;
        if (am)
            return mt->un[row][si];
        op->r = reg_off(a);
        return un_r[row][si];
    case X86_OP_MOV:
        if (ar && br) {
            op->r = reg_off(a);
            op->m = reg_off(b);
            return mov_rr[si];
        }
        if (ar && bi) {
            op->r = reg_off(a);
            op->imm = in->imm;
            return mov_ri[si];
        }
        if (ar && bm) {
            op->r = reg_off(a);
            return mt->mov_rm[si];
        }
        if (am && br) {
            op->r = reg_off(b);
            return mt->mov_mr[si];
        }
        if (am && bi) {
            op->imm = in->imm;
            return mt->mov_mi[si];
        }
        return NULL;
    case X86_OP_MOVZX:
        op->r = reg_off(a);
        if (br) {
            op->m = reg_off(b);
            return b->size == 1 ? movzx8_r[si] : movzx16_r[si];
        }
        return b->size == 1 ? mt->movzx8[si] : mt->movzx16[si];
    case X86_OP_MOVSX:
        op->r = reg_off(a);
        if (br) {
            op->m = reg_off(b);
            return b->size == 1 ? movsx8_r[si] : movsx16_r[si];
        }
        return b->size == 1 ? mt->movsx8[si] : mt->movsx16[si];
    case X86_OP_MOVSXD:
        if (a->size != 8)
            return NULL;
        op->r = reg_off(a);
        if (br) {
            op->m = reg_off(b);
            return movsx32_r64;
        }
        return mt->movsx32;
    case X86_OP_LEA:
        op->r = reg_off(a);
        return mt->lea[si];
    case X86_OP_IMUL2:
        op->r = reg_off(a);
        if (br) {
            op->m = reg_off(b);
            return imul2_r[si];
        }
        return mt->imul2[si];
    case X86_OP_IMUL3:
        op->r = reg_off(a);
        op->imm = in->imm;
        if (br) {
            op->m = reg_off(b);
            return imul3_r[si];
        }
        return mt->imul3[si];
    case X86_OP_CMOVCC:
        op->r = reg_off(a);
        op->size = in->cond;
        if (br) {
            op->m = reg_off(b);
            return cmov_r[si];
        }
        return mt->cmov[si];
    case X86_OP_SETCC:
        op->size = in->cond;
        if (am)
            return mt->setcc;
        op->r = reg_off(a);
        return setcc_r;
    case X86_OP_XCHG:
        if (!ar || !br)
            return NULL;
        op->r = reg_off(a);
        op->m = reg_off(b);
        return xchg_rr[si];
    case X86_OP_BT:
        if (!ar)
            return NULL;
        op->r = reg_off(a);
        if (bi) {
            op->imm = in->imm & (a->size * 8 - 1);
            return bt_ri[si];
        }
        op->m = reg_off(b);
        return bt_rr[si];
    case X86_OP_POPCNT: case X86_OP_TZCNT: case X86_OP_LZCNT:
        if (!br || a->size < 4)
            return NULL;
        op->r = reg_off(a);
        op->m = reg_off(b);
        return in->op == X86_OP_POPCNT ? (a->size == 4 ? popcnt_r32 : popcnt_r64)
               : in->op == X86_OP_TZCNT ? (a->size == 4 ? tzcnt_r32 : tzcnt_r64)
                                        : (a->size == 4 ? lzcnt_r32 : lzcnt_r64);
    case X86_OP_MUL: case X86_OP_IMUL1:
        if (!ar || a->size < 4)
            return NULL;
        op->r = reg_off(a);
        return in->op == X86_OP_MUL ? (a->size == 4 ? mul_r32 : mul_r64) : (a->size == 4 ? smul_r32 : smul_r64);
    case X86_OP_DIV: case X86_OP_IDIV:
        if (!ar || a->size < 4)
            return NULL;
        op->r = reg_off(a);
        return in->op == X86_OP_DIV ? (a->size == 4 ? div_r32 : div_r64) : (a->size == 4 ? idiv_r32 : idiv_r64);
    case X86_OP_CBW: return in->osize == 8 ? cdqe : in->osize == 4 ? cwde : NULL;
    case X86_OP_CWD: return in->osize == 8 ? cqo : in->osize == 4 ? cdq : NULL;
    case X86_OP_BSWAP:
        op->r = reg_off(a);
        return a->size == 8 ? bswap_r64 : a->size == 4 ? bswap_r32 : NULL;
    case X86_OP_NOP: return nop;
    case X86_OP_CLD: return cld;
    case X86_OP_PUSH:
        if (in->osize != (m64 ? 8 : 4))
            return NULL;
        if (ar) {
            op->r = reg_off(a);
            return m64 ? push_r64 : push_r32;
        }
        if (a->kind == X86_O_IMM) {
            op->imm = in->imm;
            return m64 ? push_i64 : push_i32;
        }
        return m64 && am ? mt->push64 : NULL;
    case X86_OP_POP:
        if (in->osize != (m64 ? 8 : 4) || !ar)
            return NULL;
        op->r = reg_off(a);
        return m64 ? pop_r64 : pop_r32;
    case X86_OP_LEAVE:
        if (in->osize != (m64 ? 8 : 4))
            return NULL;
        return m64 ? leave64 : leave32;
    default: return NULL;
    }
}

static op_fn bind_branch(struct hv_vp *vp, struct op *op, const struct x86_insn *in, uint64_t rip,
                         const struct mem_table *mt, bool m64)
{
    uint64_t next = rip + in->len, target = next + (uint64_t)in->imm;
    uint64_t base = m64 ? 0 : vp->cpu.seg[X86_CS].base;
    bool ar = in->o[0].kind == X86_O_GPR, am = in->o[0].kind == X86_O_MEM;

    if (in->osize != (m64 ? 8 : 4))
        return NULL;
    if (!m64) {
        next = (uint32_t)next;
        target = (uint32_t)target;
    }
    if (in->op == X86_OP_JCC || in->op == X86_OP_JMP_NEAR || in->op == X86_OP_CALL_NEAR) {
        if (m64 && !x86_canonical(target))
            return NULL;
        op->imm = (int64_t)target;
        op->disp = (int64_t)next;
        /* A follower in the page of this instruction's start needs no new look at the mapping. */
        if (!(((base + target) ^ (base + rip)) >> 12) && !(((base + next - 1) ^ (base + rip)) >> 12))
            op->size |= 1;
        if (!(((base + next) ^ (base + rip)) >> 12))
            op->size |= 2;
    }
    switch (in->op) {
    case X86_OP_JCC: return jcc_table[in->cond];
    case X86_OP_JMP_NEAR: return jmp_rel;
    case X86_OP_CALL_NEAR: return m64 ? call_rel64 : call_rel32;
    case X86_OP_RET_NEAR:
        op->imm = (uint16_t)in->imm;
        return m64 ? ret64 : ret32;
    case X86_OP_JMP_IND:
        if (ar) {
            op->r = reg_off(&in->o[0]);
            return m64 ? jmp_r64 : jmp_r32;
        }
        if (!m64 || !am)
            return NULL;
        bind_mem(op, in, rip);
        return mt->jmp64;
    case X86_OP_CALL_IND:
        if (ar) {
            op->disp = (int64_t)next;
            op->r = reg_off(&in->o[0]);
            return m64 ? call_r64 : call_r32;
        }
        if (!m64 || !am)
            return NULL;
        bind_mem(op, in, rip);
        return mt->call64;
    default: return NULL;
    }
}

static bool bind_vec(struct hv_vp *vp, struct op *op, const struct x86_insn *in, uint64_t rip)
{
    uint32_t no = vp->cpu.key & ((in->attr & (X86_A_MMX | X86_A_FPU)) ? X86_KEY_NOFPU
                                 : (in->attr & X86_A_VEX)             ? X86_KEY_NOAVX
                                                                      : X86_KEY_NOSSE);
    struct x86_vec_bound bound;

    if (no)
        return false;
    x86_vec_bind(vp, in, &bound);
    if (!bound.stub)
        return false;
    op->imm = (int64_t)(uintptr_t)bound.stub;
    if (!bound.mem_len) {
        op->fn = vec_reg;
        op->amask = bound.need;
        return true;
    }
    if (in->mode != X86_MODE_64 || in->asize != 8)
        return false;
    bind_mem(op, in, rip);
    op->size = bound.mem_len;
    op->amask = bound.need;
    op->lmask = (uint8_t)(bound.mem_align - 1);
    op->fn = (bound.mem_acc & X86_WR) ? vec_wr_a64 : vec_rd_a64;
    return true;
}

unsigned interp_bind(struct hv_vp *vp, struct op *op, const struct x86_insn *in, uint64_t rip, bool step,
                     bool *ret_end, bool *ret_need_insn)
{
    const struct x86_cpu *c = &vp->cpu;
    bool m64 = c->mode == X86_MODE_64, fast = m64 || (c->mode == X86_MODE_32 && (c->key & X86_KEY_FLAT));
    uint64_t next = m64 ? rip + in->len : (uint32_t)(rip + in->len);
    bool mem = false;

    *ret_end = step || (in->attr & X86_A_END);
    *ret_need_insn = true;
    if (in->op == X86_OP_INVALID) {
        op->fn = op_invalid;
        op->imm = in->imm;
        *ret_end = true;
        return 1;
    }
    for (unsigned i = 0; i < in->nops; i++)
        mem = mem || in->o[i].kind == X86_O_MEM;
    if (fast && !step && (!in->feature || hv_feature(vp->p, in->feature))) {
        const struct mem_table *mt = m64 && in->asize == 8 ? &mem_table_a64 : &mem_table_a32;
        bool check = mem && !m64 && in->op != X86_OP_LEA &&
                     (in->seg == X86_FS || in->seg == X86_GS || in->seg == X86_CS);
        struct op o = { 0 };

        if (*ret_end) {
            o.fn = check ? NULL : bind_branch(vp, &o, in, rip, mt, m64);
            if (o.fn) {
                *ret_need_insn = false;
                *op = o;
                return 1;
            }
        } else {
            o.fn = bind_fast(&o, in, rip, mt, m64);
            if (o.fn) {
                *ret_need_insn = check || in->op == X86_OP_DIV || in->op == X86_OP_IDIV;
                if (check) {
                    op[0] = (struct op){ .fn = op_segcheck };
                    op[1] = o;
                    return 2;
                }
                *op = o;
                return 1;
            }
            memset(&o, 0, sizeof(o));
            if (in->op >= X86_OP_X87 && bind_vec(vp, &o, in, rip)) {
                *op = o;
                return 1;
            }
        }
    }
    *op = (struct op){ .fn = *ret_end ? op_insn_end : op_insn, .imm = (int64_t)next };
    return 1;
}
