/* SPDX-License-Identifier: BSD-2-Clause */
/* Integer instructions, all forms: what an engine calls when it has nothing faster, and what its faster
 * forms are compared with.  Arithmetic is the host's own (alu.h).  SDM volume 2 unless said. */
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "hv/x86/alu.h"
#include "hv/x86/exec.h"

#define GPR(n) vp->cpu.gpr[X86_##n]

static uint64_t size_mask(unsigned size) { return size == 8 ? ~0ull : (1ull << (size * 8)) - 1; }

static int64_t sext(uint64_t v, unsigned size)
{
    switch (size) {
    case 1: return (int8_t)v;
    case 2: return (int16_t)v;
    case 4: return (int32_t)v;
    default: return (int64_t)v;
    }
}

/* Merge @val into a full register as a write of @size bytes does. */
static void gpr_put(uint64_t *r, uint64_t val, unsigned size)
{
    switch (size) {
    case 1: *r = (*r & ~0xffull) | (val & 0xff); break;
    case 2: *r = (*r & ~0xffffull) | (val & 0xffff); break;
    case 4: *r = (uint32_t)val; break;
    default: *r = val;
    }
}

static void done(struct hv_vp *vp, const struct x86_insn *in) { vp->cpu.rip = x86_next_rip(vp, in); }

/* ---- computation by operation and size ----------------------------------------------------------- */

#define BY_SIZE(fn, ...)                                                                           \
    (size == 1 ? (uint64_t)fn##8(__VA_ARGS__) : size == 2 ? (uint64_t)fn##16(__VA_ARGS__)          \
     : size == 4 ? (uint64_t)fn##32(__VA_ARGS__) : (uint64_t)fn##64(__VA_ARGS__))
#define BY_WIDE(fn, ...)                                                                           \
    (size == 2 ? (uint64_t)fn##16(__VA_ARGS__) : size == 4 ? (uint64_t)fn##32(__VA_ARGS__)         \
                                                           : (uint64_t)fn##64(__VA_ARGS__))
#define BY_BIG(fn, ...) (size == 4 ? (uint64_t)fn##32(__VA_ARGS__) : (uint64_t)fn##64(__VA_ARGS__))

/* r = a op b (and c: the count of SHLD, SHRD); flags in and out. */
static uint64_t compute(unsigned op, unsigned size, uint64_t a, uint64_t b, uint8_t count, uint32_t *fl)
{
    switch (op) {
    case X86_OP_ADD: return BY_SIZE(alu_add, a, b, fl);
    case X86_OP_OR: return BY_SIZE(alu_or, a, b, fl);
    case X86_OP_ADC: return BY_SIZE(alu_adc, a, b, fl);
    case X86_OP_SBB: return BY_SIZE(alu_sbb, a, b, fl);
    case X86_OP_TEST:
    case X86_OP_AND: return BY_SIZE(alu_and, a, b, fl);
    case X86_OP_CMP:
    case X86_OP_SUB: return BY_SIZE(alu_sub, a, b, fl);
    case X86_OP_XOR: return BY_SIZE(alu_xor, a, b, fl);
    case X86_OP_XADD: return BY_SIZE(alu_add, a, b, fl);
    case X86_OP_XCHG: return b;
    case X86_OP_INC: return BY_SIZE(alu_inc, a, fl);
    case X86_OP_DEC: return BY_SIZE(alu_dec, a, fl);
    case X86_OP_NEG: return BY_SIZE(alu_neg, a, fl);
    case X86_OP_NOT: return ~a;
    case X86_OP_ROL: return BY_SIZE(alu_rol, a, (uint8_t)b, fl);
    case X86_OP_ROR: return BY_SIZE(alu_ror, a, (uint8_t)b, fl);
    case X86_OP_RCL: return BY_SIZE(alu_rcl, a, (uint8_t)b, fl);
    case X86_OP_RCR: return BY_SIZE(alu_rcr, a, (uint8_t)b, fl);
    case X86_OP_SHL: return BY_SIZE(alu_shl, a, (uint8_t)b, fl);
    case X86_OP_SHR: return BY_SIZE(alu_shr, a, (uint8_t)b, fl);
    case X86_OP_SAR: return BY_SIZE(alu_sar, a, (uint8_t)b, fl);
    case X86_OP_SHLD: return BY_WIDE(alu_shld, a, b, count, fl);
    case X86_OP_SHRD: return BY_WIDE(alu_shrd, a, b, count, fl);
    case X86_OP_BT: return BY_WIDE(alu_bt, a, b, fl);
    case X86_OP_BTS: return BY_WIDE(alu_bts, a, b, fl);
    case X86_OP_BTR: return BY_WIDE(alu_btr, a, b, fl);
    case X86_OP_BTC: return BY_WIDE(alu_btc, a, b, fl);
    default: return 0;
    }
}

static bool cas(void *p, unsigned size, uint64_t old, uint64_t val)
{
    switch (size) {
    case 1: { uint8_t o = (uint8_t)old; return __atomic_compare_exchange_n((uint8_t *)p, &o, (uint8_t)val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
    case 2: { uint16_t o = (uint16_t)old; return __atomic_compare_exchange_n((uint16_t *)p, &o, (uint16_t)val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
    case 4: { uint32_t o = (uint32_t)old; return __atomic_compare_exchange_n((uint32_t *)p, &o, (uint32_t)val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST); }
    default: return __atomic_compare_exchange_n((uint64_t *)p, &old, val, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
}

static uint64_t load(const void *p, unsigned size)
{
    switch (size) {
    case 1: return __atomic_load_n((const uint8_t *)p, __ATOMIC_RELAXED);
    case 2: return __atomic_load_n((const uint16_t *)p, __ATOMIC_RELAXED);
    case 4: return __atomic_load_n((const uint32_t *)p, __ATOMIC_RELAXED);
    default: return __atomic_load_n((const uint64_t *)p, __ATOMIC_RELAXED);
    }
}

/* Read-modify-write of memory at @lin by compute().  @return the old value; *fl the new flags.  With
 * @cmp not NULL it is CMPXCHG: stores @b when the old value equals *cmp, else the old value. */
static uint64_t mem_rmw(struct hv_vp *vp, uint64_t lin, unsigned op, unsigned size, uint64_t b, uint8_t count,
                        bool lock, const uint64_t *cmp, uint32_t *fl)
{
    uint64_t old = 0, val;
    uint32_t f;
    uint8_t *p = lock ? x86_lin_hva_rmw(vp, lin, size) : NULL;
    bool split;

    if (p) {
        do {
            old = load(p, size);
            f = *fl;
            val = cmp ? (old == *cmp ? b : old) : compute(op, size, old, b, count, &f);
        } while (!cas(p, size, old, val));
        x86_lin_rmw_done(vp, lin, size);
        *fl = f;
        return old;
    }
    x86_lin_probe(vp, lin, size, X86_ACC_WRITE);
    split = lock && (lin & 4095) + size > 4096;
    if (split)
        x86_mmu_exclusive_begin(vp);
    x86_lin_read(vp, lin, &old, size, X86_ACC_READ);
    f = *fl;
    val = cmp ? (old == *cmp ? b : old) : compute(op, size, old, b, count, &f);
    x86_lin_write(vp, lin, &val, size, X86_ACC_WRITE);
    if (split)
        x86_mmu_exclusive_end(vp);
    *fl = f;
    return old;
}

static uint64_t mem_lin(struct hv_vp *vp, const struct x86_insn *in, unsigned size, unsigned acc)
{
    return x86_seg_lin(vp, in->seg, x86_ea(vp, in), size, acc);
}

/* o[0] = o[0] op b */
static void rmw(struct hv_vp *vp, const struct x86_insn *in, uint64_t b, uint8_t count)
{
    unsigned size = in->o[0].size;
    uint32_t fl = vp->cpu.fl;

    if (in->o[0].kind == X86_O_MEM) {
        mem_rmw(vp, mem_lin(vp, in, size, X86_ACC_WRITE), in->op, size, b, count, in->lock, NULL, &fl);
    } else {
        uint64_t a = x86_operand_read(vp, in, 0);

        x86_operand_write(vp, in, 0, compute(in->op, size, a, b, count, &fl));
    }
    vp->cpu.fl = fl;
    done(vp, in);
}

/* ---- exchange -------------------------------------------------------------------------------------- */

static void exec_xchg(struct hv_vp *vp, const struct x86_insn *in, bool add)
{
    unsigned size = in->o[0].size, m = in->o[1].kind == X86_O_MEM ? 1 : 0, r = 1 - m;
    uint64_t b = x86_operand_read(vp, in, r), a;
    uint32_t fl = vp->cpu.fl;

    if (in->o[m].kind == X86_O_MEM) {
        a = mem_rmw(vp, mem_lin(vp, in, size, X86_ACC_WRITE), in->op, size, b, 0, in->lock || !add, NULL, &fl);
        x86_operand_write(vp, in, r, a);
    } else {
        a = x86_operand_read(vp, in, m);
        uint64_t v = compute(in->op, size, a, b, 0, &fl);

        x86_operand_write(vp, in, r, a);
        x86_operand_write(vp, in, m, v); /* XADD r,r with equal registers keeps the sum */
    }
    vp->cpu.fl = fl;
    done(vp, in);
}

static void exec_cmpxchg(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t acc = GPR(RAX) & size_mask(size), src = x86_operand_read(vp, in, 1), old;
    uint32_t fl = vp->cpu.fl;

    if (in->o[0].kind == X86_O_MEM) {
        old = mem_rmw(vp, mem_lin(vp, in, size, X86_ACC_WRITE), in->op, size, src, 0, in->lock, &acc, &fl);
    } else {
        old = x86_operand_read(vp, in, 0);
        if (old == acc)
            x86_operand_write(vp, in, 0, src);
        else if (size == 4)
            x86_operand_write(vp, in, 0, old); /* zero-extends also when not equal */
    }
    compute(X86_OP_CMP, size, acc, old, 0, &fl);
    if (old != acc)
        gpr_put(&GPR(RAX), old, size);
    vp->cpu.fl = fl;
    done(vp, in);
}

static void exec_cmpxchg8b(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t lin = mem_lin(vp, in, 8, X86_ACC_WRITE);
    uint64_t cmp = (uint32_t)GPR(RAX) | GPR(RDX) << 32, val = (uint32_t)GPR(RBX) | GPR(RCX) << 32, old;
    uint32_t fl = vp->cpu.fl;

    old = mem_rmw(vp, lin, X86_OP_CMPXCHG, 8, val, 0, in->lock, &cmp, &fl);
    if (old == cmp) {
        vp->cpu.fl |= FL_ZF;
    } else {
        vp->cpu.fl &= ~(uint32_t)FL_ZF;
        GPR(RAX) = (uint32_t)old;
        GPR(RDX) = old >> 32;
    }
    done(vp, in);
}

static void exec_cmpxchg16b(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t lin = mem_lin(vp, in, 16, X86_ACC_WRITE);
    uint64_t mem[2];
    bool eq;

    if (lin & 15)
        x86_raise_err(vp, X86_EXC_GP, 0);
    uint8_t *p = x86_lin_hva_rmw(vp, lin, 16);

    if (p) {
        uint64_t lo = GPR(RAX), hi = GPR(RDX);

        __asm__ volatile("lock cmpxchg16b %[m]\n\tsetz %[z]"
                         : [m] "+m"(*(__uint128_t *)p), "+a"(lo), "+d"(hi), [z] "=q"(eq)
                         : "b"(GPR(RBX)), "c"(GPR(RCX)) : "cc", "memory");
        x86_lin_rmw_done(vp, lin, 16);
        mem[0] = lo;
        mem[1] = hi;
    } else {
        x86_lin_probe(vp, lin, 16, X86_ACC_WRITE);
        x86_lin_read(vp, lin, mem, 16, X86_ACC_READ);
        uint64_t val[2] = { GPR(RBX), GPR(RCX) };

        eq = mem[0] == GPR(RAX) && mem[1] == GPR(RDX);
        x86_lin_write(vp, lin, eq ? val : mem, 16, X86_ACC_WRITE);
    }
    if (eq) {
        vp->cpu.fl |= FL_ZF;
    } else {
        vp->cpu.fl &= ~(uint32_t)FL_ZF;
        GPR(RAX) = mem[0];
        GPR(RDX) = mem[1];
    }
    done(vp, in);
}

/* ---- bits -------------------------------------------------------------------------------------------- */

static void exec_bt(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t bit = x86_operand_read(vp, in, 1);
    uint32_t fl = vp->cpu.fl;
    uint64_t a;

    if (in->o[0].kind == X86_O_MEM) {
        uint64_t off = x86_ea(vp, in), lin;

        if (in->o[1].kind == X86_O_GPR) {
            int64_t s = sext(bit, size);

            off += (uint64_t)((s >> (size == 8 ? 6 : size == 4 ? 5 : 4)) * (int64_t)size);
            off &= size_mask(in->asize);
        }
        bit &= size * 8 - 1;
        if (in->op == X86_OP_BT) {
            lin = x86_seg_lin(vp, in->seg, off, size, X86_ACC_READ);
            a = 0;
            x86_lin_read(vp, lin, &a, size, X86_ACC_READ);
            compute(in->op, size, a, bit, 0, &fl);
        } else {
            lin = x86_seg_lin(vp, in->seg, off, size, X86_ACC_WRITE);
            mem_rmw(vp, lin, in->op, size, bit, 0, in->lock, NULL, &fl);
        }
    } else {
        a = x86_operand_read(vp, in, 0);
        a = compute(in->op, size, a, bit & (size * 8 - 1), 0, &fl);
        if (in->op != X86_OP_BT)
            x86_operand_write(vp, in, 0, a);
    }
    vp->cpu.fl = fl;
    done(vp, in);
}

static void exec_count(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t b = x86_operand_read(vp, in, 1), r, full = vp->cpu.gpr[in->o[0].reg];
    uint32_t fl = vp->cpu.fl;

    switch (in->op) {
    case X86_OP_BSF:
    case X86_OP_BSR:
        if (!b) { /* destination unchanged, as all processors in use do, also its upper half */
            if (in->op == X86_OP_BSF)
                BY_WIDE(alu_bsf, full, b, &fl);
            else
                BY_WIDE(alu_bsr, full, b, &fl);
            vp->cpu.fl = fl;
            done(vp, in);
            return;
        }
        r = in->op == X86_OP_BSF ? BY_WIDE(alu_bsf, full, b, &fl) : BY_WIDE(alu_bsr, full, b, &fl);
        break;
    case X86_OP_POPCNT: r = BY_WIDE(alu_popcnt, full, b, &fl); break;
    case X86_OP_LZCNT: r = BY_WIDE(alu_lzcnt, full, b, &fl); break;
    case X86_OP_TZCNT: r = BY_WIDE(alu_tzcnt, full, b, &fl); break;
    case X86_OP_BLSI: r = BY_BIG(alu_blsi, full, b, &fl); break;
    case X86_OP_BLSR: r = BY_BIG(alu_blsr, full, b, &fl); break;
    default: r = BY_BIG(alu_blsmsk, full, b, &fl); break;
    }
    x86_operand_write(vp, in, 0, r);
    vp->cpu.fl = fl;
    done(vp, in);
}

static void exec_bmi3(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t a = x86_operand_read(vp, in, 1), b = x86_operand_read(vp, in, 2), r;
    uint32_t fl = vp->cpu.fl;
    unsigned n = (unsigned)b & (size * 8 - 1);

    switch (in->op) {
    case X86_OP_ANDN: r = BY_BIG(alu_andn, a, b, &fl); break;
    case X86_OP_BEXTR: r = BY_BIG(alu_bextr, a, b, &fl); break;
    case X86_OP_BZHI: r = BY_BIG(alu_bzhi, a, b, &fl); break;
    case X86_OP_PDEP: r = BY_BIG(alu_pdep, a, b); break;
    case X86_OP_PEXT: r = BY_BIG(alu_pext, a, b); break;
    case X86_OP_RORX: r = n ? a >> n | a << (size * 8 - n) : a; break;
    case X86_OP_SARX: r = (uint64_t)(sext(a, size) >> n); break;
    case X86_OP_SHLX: r = a << n; break;
    default: r = a >> n; break;
    }
    x86_operand_write(vp, in, 0, r);
    vp->cpu.fl = fl;
    done(vp, in);
}

static void exec_mulx(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t b = x86_operand_read(vp, in, 2);
    uint64_t lo, hi;

    if (size == 4) {
        uint64_t r = (uint64_t)(uint32_t)GPR(RDX) * (uint32_t)b;

        lo = (uint32_t)r;
        hi = r >> 32;
    } else {
        __uint128_t r = (__uint128_t)GPR(RDX) * b;

        lo = (uint64_t)r;
        hi = (uint64_t)(r >> 64);
    }
    x86_operand_write(vp, in, 1, lo);
    x86_operand_write(vp, in, 0, hi); /* the same register: the high half stays */
    done(vp, in);
}

static void exec_adx(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t a = x86_operand_read(vp, in, 0), b = x86_operand_read(vp, in, 1);
    uint32_t flag = in->op == X86_OP_ADCX ? FL_CF : FL_OF;
    __uint128_t r = (__uint128_t)a + b + !!(vp->cpu.fl & flag);

    x86_operand_write(vp, in, 0, (uint64_t)r);
    vp->cpu.fl &= ~flag;
    if (r >> (size * 8))
        vp->cpu.fl |= flag;
    done(vp, in);
}

static void exec_crc32(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[1].size;
    uint64_t b = x86_operand_read(vp, in, 1);
    uint32_t a = (uint32_t)vp->cpu.gpr[in->o[0].reg];

    for (unsigned i = 0; i < size; i++) { /* CRC-32C, reflected polynomial */
        a ^= (uint8_t)(b >> (8 * i));
        for (unsigned k = 0; k < 8; k++)
            a = (a >> 1) ^ (0x82f63b78u & (0u - (a & 1)));
    }
    vp->cpu.gpr[in->o[0].reg] = a;
    done(vp, in);
}

static void exec_random(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t v = 0;
    bool ok = getrandom(&v, sizeof(v), 0) == (ssize_t)sizeof(v);

    x86_operand_write(vp, in, 0, ok ? v : 0);
    vp->cpu.fl = FL_FIXED | (ok ? FL_CF : 0);
    done(vp, in);
}

/* ---- multiply, divide ----------------------------------------------------------------------------------- */

static void exec_mul(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    bool s = in->op == X86_OP_IMUL1;
    uint64_t b = x86_operand_read(vp, in, 0);
    uint32_t fl = vp->cpu.fl;

    if (size == 1) {
        uint16_t r = s ? alu_smul8((uint8_t)GPR(RAX), (uint8_t)b, &fl) : alu_mul8((uint8_t)GPR(RAX), (uint8_t)b, &fl);

        gpr_put(&GPR(RAX), r, 2);
    } else if (size == 2) {
        uint16_t lo, hi;

        (s ? alu_smul16 : alu_mul16)((uint16_t)GPR(RAX), (uint16_t)b, &lo, &hi, &fl);
        gpr_put(&GPR(RAX), lo, 2);
        gpr_put(&GPR(RDX), hi, 2);
    } else if (size == 4) {
        uint32_t lo, hi;

        (s ? alu_smul32 : alu_mul32)((uint32_t)GPR(RAX), (uint32_t)b, &lo, &hi, &fl);
        GPR(RAX) = lo;
        GPR(RDX) = hi;
    } else {
        uint64_t lo, hi;

        (s ? alu_smul64 : alu_mul64)(GPR(RAX), b, &lo, &hi, &fl);
        GPR(RAX) = lo;
        GPR(RDX) = hi;
    }
    vp->cpu.fl = fl;
    done(vp, in);
}

static void exec_imul(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size, n = in->op == X86_OP_IMUL3;
    uint64_t a = x86_operand_read(vp, in, n), b = x86_operand_read(vp, in, n + 1);
    uint32_t fl = vp->cpu.fl;

    x86_operand_write(vp, in, 0, BY_WIDE(alu_imul, a, b, &fl));
    vp->cpu.fl = fl;
    done(vp, in);
}

/* Flags after a division are undefined; they stay. */
static void exec_div(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t b = x86_operand_read(vp, in, 0);
    __uint128_t n, q, r;

    if (!b)
        x86_raise(vp, X86_EXC_DE);
    switch (size) {
    case 1: n = (uint16_t)GPR(RAX); break;
    case 2: n = (uint32_t)((uint16_t)GPR(RAX) | (uint32_t)(uint16_t)GPR(RDX) << 16); break;
    case 4: n = (uint32_t)GPR(RAX) | GPR(RDX) << 32; break;
    default: n = (__uint128_t)GPR(RDX) << 64 | GPR(RAX); break;
    }
    if (in->op == X86_OP_DIV) {
        if (size == 8) {
            if (GPR(RDX) >= b)
                x86_raise(vp, X86_EXC_DE);
            uint64_t q64, r64;

            __asm__("divq %4" : "=a"(q64), "=d"(r64) : "0"(GPR(RAX)), "1"(GPR(RDX)), "r"(b) : "cc");
            q = q64;
            r = r64;
        } else {
            q = (uint64_t)n / b;
            r = (uint64_t)n % b;
        }
        if (q >> (size * 8))
            x86_raise(vp, X86_EXC_DE);
    } else {
        __int128_t sn, sb = sext(b, size), sq, sr;

        switch (size) {
        case 1: sn = (int16_t)n; break;
        case 2: sn = (int32_t)n; break;
        case 4: sn = (int64_t)n; break;
        default: sn = (__int128_t)n; break;
        }
        if (sb == -1 && sn == (__int128_t)((__uint128_t)1 << 127))
            x86_raise(vp, X86_EXC_DE);
        sq = sn / sb;
        sr = sn % sb;
        if (sq != (__int128_t)sext((uint64_t)sq, size))
            x86_raise(vp, X86_EXC_DE);
        q = (__uint128_t)sq;
        r = (__uint128_t)sr;
    }
    if (size == 1) {
        gpr_put(&GPR(RAX), ((uint64_t)q & 0xff) | ((uint64_t)r & 0xff) << 8, 2);
    } else {
        gpr_put(&GPR(RAX), (uint64_t)q, size);
        gpr_put(&GPR(RDX), (uint64_t)r, size);
    }
    done(vp, in);
}

/* ---- decimal (not in 64-bit mode) ------------------------------------------------------------------------ */

static uint32_t logic_flags8(uint8_t v)
{
    uint32_t fl;

    alu_or8(v, v, &fl);
    return fl;
}

static void exec_decimal(struct hv_vp *vp, const struct x86_insn *in)
{
    uint8_t al = (uint8_t)GPR(RAX), ah = (uint8_t)(GPR(RAX) >> 8), old = al;
    uint32_t fl = vp->cpu.fl;
    bool cf = fl & FL_CF, af = fl & FL_AF, low = (al & 15) > 9 || af;

    switch (in->op) {
    case X86_OP_DAA:
    case X86_OP_DAS: {
        bool high = old > 0x99 || cf, c = false;
        int sign = in->op == X86_OP_DAA ? 1 : -1;

        if (low) {
            c = sign > 0 ? al > 0xf9 : al < 6;
            al = (uint8_t)(al + 6 * sign);
        }
        if (high)
            al = (uint8_t)(al + 0x60 * sign);
        c = sign > 0 ? high : high || (c || cf);
        fl = (logic_flags8(al) & ~(uint32_t)(FL_CF | FL_AF)) | (c ? FL_CF : 0) | (low ? FL_AF : 0);
        break;
    }
    case X86_OP_AAA:
    case X86_OP_AAS: {
        uint16_t ax = (uint16_t)GPR(RAX);

        if (low)
            ax = (uint16_t)(in->op == X86_OP_AAA ? ax + 0x106 : ax - 0x106);
        al = (uint8_t)ax & 15;
        ah = (uint8_t)(ax >> 8);
        fl = (logic_flags8(al) & ~(uint32_t)(FL_CF | FL_AF)) | (low ? FL_CF | FL_AF : 0);
        break;
    }
    case X86_OP_AAM:
        if (!(uint8_t)in->imm)
            x86_raise(vp, X86_EXC_DE);
        ah = al / (uint8_t)in->imm;
        al = al % (uint8_t)in->imm;
        fl = logic_flags8(al);
        break;
    default:
        al = (uint8_t)(al + ah * (uint8_t)in->imm);
        ah = 0;
        fl = logic_flags8(al);
        break;
    }
    if (in->op == X86_OP_DAA || in->op == X86_OP_DAS)
        gpr_put(&GPR(RAX), al, 1);
    else
        gpr_put(&GPR(RAX), al | ah << 8, 2);
    vp->cpu.fl = fl;
    done(vp, in);
}

/* ---- control transfer --------------------------------------------------------------------------------------- */

static uint64_t rip_wrap(const struct hv_vp *vp, uint64_t rip, unsigned osize)
{
    return vp->cpu.mode == X86_MODE_64 ? rip : osize == 2 ? (uint16_t)rip : (uint32_t)rip;
}

static void check_rip(struct hv_vp *vp, uint64_t rip)
{
    if (vp->cpu.mode == X86_MODE_64 ? !x86_canonical(rip) : rip > vp->cpu.seg[X86_CS].limit)
        x86_raise_err(vp, X86_EXC_GP, 0);
}

static void jump(struct hv_vp *vp, const struct x86_insn *in, uint64_t rip)
{
    rip = rip_wrap(vp, rip, in->osize);
    check_rip(vp, rip);
    vp->cpu.rip = rip;
}

static void jump_rel(struct hv_vp *vp, const struct x86_insn *in)
{
    jump(vp, in, vp->cpu.rip + in->len + (uint64_t)in->imm);
}

static void exec_call(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t next = x86_next_rip(vp, in);
    uint64_t rip = in->op == X86_OP_CALL_NEAR ? vp->cpu.rip + in->len + (uint64_t)in->imm : x86_operand_read(vp, in, 0);

    rip = rip_wrap(vp, rip, in->osize);
    check_rip(vp, rip);
    x86_push(vp, next, in->osize);
    vp->cpu.rip = rip;
}

static void sp_add(struct hv_vp *vp, uint64_t n)
{
    gpr_put(&GPR(RSP), GPR(RSP) + n, vp->cpu.ssize);
}

static void exec_ret(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t sp = GPR(RSP), rip = rip_wrap(vp, x86_pop(vp, in->osize), in->osize), new_sp = GPR(RSP);

    GPR(RSP) = sp; /* a fault leaves it */
    check_rip(vp, rip);
    GPR(RSP) = new_sp;
    sp_add(vp, (uint16_t)in->imm);
    vp->cpu.rip = rip;
}

static void exec_loop(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t m = size_mask(in->asize), cx = (GPR(RCX) - 1) & m;
    bool z = vp->cpu.fl & FL_ZF;
    bool taken = cx && (in->op == X86_OP_LOOP || (in->op == X86_OP_LOOPE ? z : !z));

    if (taken)
        check_rip(vp, rip_wrap(vp, vp->cpu.rip + in->len + (uint64_t)in->imm, in->osize));
    gpr_put(&GPR(RCX), cx, in->asize);
    if (taken)
        jump_rel(vp, in);
    else
        done(vp, in);
}

/* ---- stack ------------------------------------------------------------------------------------------------------ */

static void exec_pop(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->o[0].size;
    uint64_t sp = GPR(RSP), val = x86_pop(vp, size), new_sp = GPR(RSP);

    if (in->o[0].kind == X86_O_MEM) {
        uint64_t lin, off = x86_ea(vp, in); /* with the incremented stack pointer */

        GPR(RSP) = sp;
        lin = x86_seg_lin(vp, in->seg, off, size, X86_ACC_WRITE);
        x86_lin_write(vp, lin, &val, size, X86_ACC_WRITE);
        GPR(RSP) = new_sp;
    } else {
        x86_operand_write(vp, in, 0, val);
    }
    done(vp, in);
}

static void exec_pusha(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->osize;
    uint64_t sp = GPR(RSP), m = size_mask(vp->cpu.ssize);

    /* All eight or none: check the whole area as eight accesses first. */
    for (unsigned i = 1; i <= 8; i++)
        x86_lin_probe(vp, x86_seg_lin(vp, X86_SS, (sp - (uint64_t)i * size) & m, size, X86_ACC_WRITE), size, X86_ACC_WRITE);
    for (unsigned i = 0; i < 8; i++)
        x86_push(vp, i == X86_RSP ? sp : vp->cpu.gpr[i], size);
    done(vp, in);
}

static void exec_popa(struct hv_vp *vp, const struct x86_insn *in)
{
    unsigned size = in->osize;
    uint64_t sp = GPR(RSP), m = size_mask(vp->cpu.ssize), v[8];

    for (unsigned i = 0; i < 8; i++) {
        v[i] = 0;
        x86_lin_read(vp, x86_seg_lin(vp, X86_SS, (sp + (uint64_t)i * size) & m, size, X86_ACC_READ), &v[i], size, X86_ACC_READ);
    }
    for (unsigned i = 0; i < 8; i++)
        if (7 - i != X86_RSP)
            gpr_put(&vp->cpu.gpr[7 - i], v[i], size);
    sp_add(vp, 8u * size);
    done(vp, in);
}

static void exec_leave(struct hv_vp *vp, const struct x86_insn *in)
{
    uint64_t sp = GPR(RSP), val;

    gpr_put(&GPR(RSP), GPR(RBP), vp->cpu.ssize);
    uint64_t lin_sp = GPR(RSP);

    GPR(RSP) = sp; /* a fault leaves it: read first */
    val = 0;
    x86_lin_read(vp, x86_seg_lin(vp, X86_SS, lin_sp & size_mask(vp->cpu.ssize), in->osize, X86_ACC_READ), &val, in->osize, X86_ACC_READ);
    GPR(RSP) = lin_sp;
    sp_add(vp, in->osize);
    gpr_put(&GPR(RBP), val, in->osize);
    done(vp, in);
}

/* ---- strings ------------------------------------------------------------------------------------------------------- */

static void fill(uint8_t *dp, uint64_t v, unsigned size, uint64_t n)
{
    switch (size) {
    case 1: memset(dp, (int)(uint8_t)v, n); break;
    case 2: for (uint64_t i = 0; i < n; i++) memcpy(dp + 2 * i, &v, 2); break;
    case 4: for (uint64_t i = 0; i < n; i++) memcpy(dp + 4 * i, &v, 4); break;
    default: for (uint64_t i = 0; i < n; i++) memcpy(dp + 8 * i, &v, 8); break;
    }
}

/* A piece within a page that needs attention: it holds code.  @sp: source, NULL: @v.  @return false: element by
 * element. */
static bool store_piece(struct hv_vp *vp, uint64_t lin, const uint8_t *sp, uint64_t v, unsigned size, uint64_t n)
{
    unsigned bytes = (unsigned)(n * size);
    uint8_t buf[4096], *dp;

    if (vp->cpu.key & X86_KEY_AC) /* each element has an alignment of its own */
        return false;
    x86_lin_probe(vp, lin, bytes, X86_ACC_WRITE);
    dp = x86_lin_hva(vp, lin, bytes, X86_ACC_READ);
    if (!dp || (sp && dp < sp + bytes && sp < dp + bytes))
        return false;
    if (!sp)
        fill(buf, v, size, n);
    return x86_lin_store_ram(vp, lin, sp ? sp : buf, bytes);
}

/* One string instruction: runs until it is complete, a fault, or something asks for attention, in which case
 * RIP stays and the registers say how far it came. */
static void exec_string(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned size = in->o[0].size, asize = in->asize;
    uint64_t am = size_mask(asize);
    bool src = in->op == X86_OP_MOVS || in->op == X86_OP_LODS || in->op == X86_OP_CMPS;
    bool dst = in->op != X86_OP_LODS;
    bool store = in->op == X86_OP_MOVS || in->op == X86_OP_STOS;
    bool compare = in->op == X86_OP_CMPS || in->op == X86_OP_SCAS;
    bool rep = in->rep != X86_REP_NONE;
    bool plain = c->mode == X86_MODE_64 || (c->flat && !(src && (in->seg == X86_FS || in->seg == X86_GS)));
    uint64_t step = (c->eflags & EF_DF) ? 0 - (uint64_t)size : size;

    vp->rep_begun = 0;
    for (unsigned iter = 0;; iter++) {
        uint64_t si = c->gpr[X86_RSI] & am, di = c->gpr[X86_RDI] & am, cx = c->gpr[X86_RCX] & am;
        uint64_t a = 0, b = 0, n = 1;
        uint64_t slin = 0, dlin = 0;
        uint32_t fl;

        if (rep && !cx)
            break;
        if (src)
            slin = x86_seg_lin(vp, in->seg, si, size, X86_ACC_READ);
        if (dst)
            dlin = x86_seg_lin(vp, X86_ES, di, size, store ? X86_ACC_WRITE : X86_ACC_READ);

        /* Long runs of MOVS and STOS upwards: a page piece at a time. */
        if (rep && store && plain && step == size && cx > 1 && !(c->key & X86_KEY_STEP)) {
            uint64_t bytes = 4096 - (dlin & 4095), sb = 4096 - (slin & 4095);
            uint8_t *sp = NULL, *dp;

            if (src && sb < bytes)
                bytes = sb;
            n = bytes / size;
            if (n > cx)
                n = cx;
            if (asize < 8) { /* stop where the offset wraps */
                uint64_t room = (am - (di > si || !src ? di : si)) / size;

                if (n > room)
                    n = room;
            }
            if (n > 1) {
                bytes = n * size;
                if (src)
                    sp = x86_lin_hva(vp, slin, (unsigned)bytes, X86_ACC_READ);
                if (!src || sp) {
                    dp = x86_lin_hva(vp, dlin, (unsigned)bytes, X86_ACC_WRITE);
                    if (dp) {
                        if (!src) {
                            fill(dp, c->gpr[X86_RAX], size, n);
                        } else if (dp <= sp || dp >= sp + bytes) {
                            memmove(dp, sp, bytes);
                        } else {
                            for (uint64_t i = 0; i < n; i++) { /* an element is read before it is written */
                                uint64_t v;

                                memcpy(&v, sp + i * size, size);
                                memcpy(dp + i * size, &v, size);
                            }
                        }
                        goto advance;
                    }
                    if (store_piece(vp, dlin, sp, c->gpr[X86_RAX], size, n))
                        goto advance;
                }
            }
            n = 1;
        }

        if (src)
            x86_lin_read(vp, slin, &a, size, X86_ACC_READ);
        switch (in->op) {
        case X86_OP_MOVS: x86_lin_write(vp, dlin, &a, size, X86_ACC_WRITE); break;
        case X86_OP_STOS: x86_lin_write(vp, dlin, &c->gpr[X86_RAX], size, X86_ACC_WRITE); break;
        case X86_OP_LODS: gpr_put(&c->gpr[X86_RAX], a, size); break;
        case X86_OP_SCAS: a = c->gpr[X86_RAX] & size_mask(size); /* fall through */
        default: /* CMPS */
            x86_lin_read(vp, dlin, &b, size, X86_ACC_READ);
            fl = c->fl;
            compute(X86_OP_CMP, size, a, b, 0, &fl);
            c->fl = fl;
        }
advance:
        if (src)
            gpr_put(&c->gpr[X86_RSI], si + n * step, asize);
        if (dst)
            gpr_put(&c->gpr[X86_RDI], di + n * step, asize);
        if (!rep)
            break;
        gpr_put(&c->gpr[X86_RCX], cx - n, asize);
        if (compare && !!(c->fl & FL_ZF) != (in->rep == X86_REP_F3))
            break;
        if (!(cx - n))
            break;
        if ((c->key & X86_KEY_STEP) || vp->mmu.dr6_hits || atomic_load_explicit(&vp->attention, memory_order_relaxed)) {
            vp->rep_begun = 1;
            return; /* again from here */
        }
    }
    done(vp, in);
}

/* ---- all ---------------------------------------------------------------------------------------------------------- */

bool x86_exec_integer(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned size = in->o[0].size;
    uint64_t a, b;
    uint32_t fl = c->fl;

    switch (in->op) {
    case X86_OP_ADD: case X86_OP_OR: case X86_OP_ADC: case X86_OP_SBB: case X86_OP_AND: case X86_OP_SUB:
    case X86_OP_XOR:
    case X86_OP_ROL: case X86_OP_ROR: case X86_OP_RCL: case X86_OP_RCR: case X86_OP_SHL: case X86_OP_SHR:
    case X86_OP_SAR:
        rmw(vp, in, x86_operand_read(vp, in, 1), 0);
        break;
    case X86_OP_SHLD: case X86_OP_SHRD:
        rmw(vp, in, x86_operand_read(vp, in, 1), (uint8_t)x86_operand_read(vp, in, 2));
        break;
    case X86_OP_INC: case X86_OP_DEC: case X86_OP_NEG: case X86_OP_NOT:
        rmw(vp, in, 0, 0);
        break;
    case X86_OP_CMP: case X86_OP_TEST:
        a = x86_operand_read(vp, in, 0);
        b = x86_operand_read(vp, in, 1);
        compute(in->op, size, a, b, 0, &fl);
        c->fl = fl;
        done(vp, in);
        break;
    case X86_OP_MOV: case X86_OP_MOVZX: case X86_OP_MOVNTI:
        x86_operand_write(vp, in, 0, x86_operand_read(vp, in, 1));
        done(vp, in);
        break;
    case X86_OP_MOVSX: case X86_OP_MOVSXD:
        x86_operand_write(vp, in, 0, (uint64_t)sext(x86_operand_read(vp, in, 1), in->o[1].size));
        done(vp, in);
        break;
    case X86_OP_MOVBE:
        a = x86_operand_read(vp, in, 1);
        a = size == 2 ? __builtin_bswap16((uint16_t)a) : size == 4 ? __builtin_bswap32((uint32_t)a) : __builtin_bswap64(a);
        x86_operand_write(vp, in, 0, a);
        done(vp, in);
        break;
    case X86_OP_LEA:
        x86_operand_write(vp, in, 0, x86_ea(vp, in));
        done(vp, in);
        break;
    case X86_OP_BSWAP:
        a = c->gpr[in->o[0].reg];
        if (size == 8)
            c->gpr[in->o[0].reg] = __builtin_bswap64(a);
        else if (size == 4)
            c->gpr[in->o[0].reg] = __builtin_bswap32((uint32_t)a);
        else
            gpr_put(&c->gpr[in->o[0].reg], 0, 2); /* undefined for 16 bits; processors give zero */
        done(vp, in);
        break;
    case X86_OP_XCHG: exec_xchg(vp, in, false); break;
    case X86_OP_XADD: exec_xchg(vp, in, true); break;
    case X86_OP_CMPXCHG: exec_cmpxchg(vp, in); break;
    case X86_OP_CMPXCHG8B: exec_cmpxchg8b(vp, in); break;
    case X86_OP_CMPXCHG16B: exec_cmpxchg16b(vp, in); break;
    case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC: exec_bt(vp, in); break;
    case X86_OP_BSF: case X86_OP_BSR: case X86_OP_POPCNT: case X86_OP_LZCNT: case X86_OP_TZCNT:
    case X86_OP_BLSI: case X86_OP_BLSR: case X86_OP_BLSMSK:
        exec_count(vp, in);
        break;
    case X86_OP_ANDN: case X86_OP_BEXTR: case X86_OP_BZHI: case X86_OP_PDEP: case X86_OP_PEXT:
    case X86_OP_RORX: case X86_OP_SARX: case X86_OP_SHLX: case X86_OP_SHRX:
        exec_bmi3(vp, in);
        break;
    case X86_OP_MULX: exec_mulx(vp, in); break;
    case X86_OP_ADCX: case X86_OP_ADOX: exec_adx(vp, in); break;
    case X86_OP_CRC32: exec_crc32(vp, in); break;
    case X86_OP_RDRAND: case X86_OP_RDSEED: exec_random(vp, in); break;
    case X86_OP_MUL: case X86_OP_IMUL1: exec_mul(vp, in); break;
    case X86_OP_IMUL2: case X86_OP_IMUL3: exec_imul(vp, in); break;
    case X86_OP_DIV: case X86_OP_IDIV: exec_div(vp, in); break;
    case X86_OP_CBW:
        gpr_put(&GPR(RAX), (uint64_t)sext(GPR(RAX), in->osize / 2u), in->osize);
        done(vp, in);
        break;
    case X86_OP_CWD:
        gpr_put(&GPR(RDX), (uint64_t)(sext(GPR(RAX), in->osize) >> 63), in->osize);
        done(vp, in);
        break;
    case X86_OP_DAA: case X86_OP_DAS: case X86_OP_AAA: case X86_OP_AAS: case X86_OP_AAM: case X86_OP_AAD:
        exec_decimal(vp, in);
        break;
    case X86_OP_LAHF:
        gpr_put(&GPR(RAX), (GPR(RAX) & 0xff) | ((c->fl & 0xd500) | FL_FIXED), 2);
        done(vp, in);
        break;
    case X86_OP_SAHF:
        c->fl = (c->fl & FL_OF) | ((uint32_t)GPR(RAX) & 0xd500) | FL_FIXED;
        done(vp, in);
        break;
    case X86_OP_SALC:
        gpr_put(&GPR(RAX), (c->fl & FL_CF) ? 0xff : 0, 1);
        done(vp, in);
        break;
    case X86_OP_CMC: c->fl ^= FL_CF; done(vp, in); break;
    case X86_OP_CLC: c->fl &= ~(uint32_t)FL_CF; done(vp, in); break;
    case X86_OP_STC: c->fl |= FL_CF; done(vp, in); break;
    case X86_OP_CLD: c->eflags &= ~(uint32_t)EF_DF; done(vp, in); break;
    case X86_OP_STD: c->eflags |= EF_DF; done(vp, in); break;
    case X86_OP_SETCC:
        x86_operand_write(vp, in, 0, alu_cond(c->fl, in->cond));
        done(vp, in);
        break;
    case X86_OP_CMOVCC:
        b = x86_operand_read(vp, in, 1);
        if (alu_cond(c->fl, in->cond))
            x86_operand_write(vp, in, 0, b);
        else if (size == 4)
            c->gpr[in->o[0].reg] = (uint32_t)c->gpr[in->o[0].reg];
        done(vp, in);
        break;
    case X86_OP_XLAT: {
        uint8_t v;

        a = (GPR(RBX) + (uint8_t)GPR(RAX)) & size_mask(in->asize);
        x86_lin_read(vp, x86_seg_lin(vp, in->seg, a, 1, X86_ACC_READ), &v, 1, X86_ACC_READ);
        gpr_put(&GPR(RAX), v, 1);
        done(vp, in);
        break;
    }
    case X86_OP_PUSH:
        x86_push(vp, x86_operand_read(vp, in, 0), in->osize);
        done(vp, in);
        break;
    case X86_OP_POP: exec_pop(vp, in); break;
    case X86_OP_PUSHA: exec_pusha(vp, in); break;
    case X86_OP_POPA: exec_popa(vp, in); break;
    case X86_OP_LEAVE: exec_leave(vp, in); break;
    case X86_OP_MOVS: case X86_OP_CMPS: case X86_OP_STOS: case X86_OP_LODS: case X86_OP_SCAS:
        exec_string(vp, in);
        break;
    case X86_OP_JCC:
        if (alu_cond(c->fl, in->cond))
            jump_rel(vp, in);
        else
            done(vp, in);
        break;
    case X86_OP_JCXZ:
        if (!(GPR(RCX) & size_mask(in->asize)))
            jump_rel(vp, in);
        else
            done(vp, in);
        break;
    case X86_OP_LOOP: case X86_OP_LOOPE: case X86_OP_LOOPNE: exec_loop(vp, in); break;
    case X86_OP_JMP_NEAR: jump_rel(vp, in); break;
    case X86_OP_JMP_IND: jump(vp, in, x86_operand_read(vp, in, 0)); break;
    case X86_OP_CALL_NEAR: case X86_OP_CALL_IND: exec_call(vp, in); break;
    case X86_OP_RET_NEAR: exec_ret(vp, in); break;
    case X86_OP_CLFLUSH: case X86_OP_CLFLUSHOPT: case X86_OP_CLWB:
        x86_lin_probe(vp, mem_lin(vp, in, 1, X86_ACC_READ), 1, X86_ACC_READ);
        done(vp, in);
        break;
    case X86_OP_MFENCE: case X86_OP_LFENCE: case X86_OP_SFENCE:
        __atomic_thread_fence(__ATOMIC_SEQ_CST);
        done(vp, in);
        break;
    case X86_OP_PAUSE: case X86_OP_NOP: done(vp, in); break;
    default: return false;
    }
    return true;
}
