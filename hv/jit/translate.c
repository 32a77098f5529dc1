/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: one block of guest instructions to host code.
 *
 * Most instructions are emitted as themselves: registers renamed, the memory operand replaced by a checked
 * host address.  An instruction changes guest state by its last host instruction only, so that whoever
 * leaves in the middle (a failed check) can start it again.  What has no native form here is executed by C
 * (t_exec).  References: Intel SDM volume 2 for encodings and flags; volume 1 appendix A (flags). */
#include "hv/jit/jit.h"

#include <stdio.h>

/* Arithmetic flags, for liveness. */
enum { F_C = 1, F_P = 2, F_A = 4, F_Z = 8, F_S = 16, F_O = 32, F_ALL = 63 };

/* Host register of a guest register; NOREG: lives in struct x86_cpu. */
static const uint8_t host_of[18] = { RAX, R9, RDX, RBX, R10, RBP, RSI, RDI, R8,
                                      NOREG, NOREG, NOREG, R12, R13, R14, R15, NOREG, NOREG };
enum { G_SP = R10, G_CX = R9, T0 = RCX, T1 = R11 };

struct ti {
    struct x86_insn in;
    uint16_t off;
    uint8_t live_in, live_out; /* flags that somebody reads later */
    uint32_t host;             /* offset of its host code */
    uint8_t view;              /* data view in which it runs */
    int8_t gmem, gstack;       /* groups of its operand and of its stack access; -1 none */
    int64_t omem, ostack;      /* offset of the base register from the group's root there */
};

enum cold_kind { COLD_MISS, COLD_LINK, COLD_EXIT, COLD_EXEC };
struct cold {
    uint8_t kind, n, acc, flags;
    uint8_t ti;
    uint8_t *from, *from2;     /* rel32 fields that jump here; from2 or NULL */
    uint8_t *retry;
    uint64_t target;           /* link, exit: guest address */
    uint8_t align;
    int16_t glo;               /* group: see struct jsite */
    uint16_t gn;
    bool stack;                /* miss: the address is that of the stack: @disp from rsp */
    int32_t disp;
};

/* Accesses by one base register, moved only by constants, share a check. */
enum { MAX_GROUPS = 16, GROUP_SPAN = 512 };
struct group { uint16_t root; uint8_t acc, members; bool open, done; int64_t lo, hi; };

struct tr {
    struct emit e;
    struct jit *j;
    struct hv_vp *vp;
    uint8_t *base;             /* rw */
    uint64_t rip;              /* of the block */
    uint32_t key;
    uint32_t blockno;
    bool m64;
    unsigned cls;
    struct x86_tlb *tlb;
    const uint8_t *page;       /* guest page */
    uint64_t ram_page;
    uint64_t claimed;          /* lines */
    bool vchecked, xchecked;   /* vector, x87 registers are known to be live from here on */
    unsigned align;            /* of the access that is being emitted, less one */
    unsigned n, ncold, cur;
    struct group g[MAX_GROUPS];
    unsigned ngroups;
    int r11;                   /* group whose addend r11 holds, -1 none */
    struct ti ti[JIT_MAX_INSNS];
    struct cold cold[JIT_MAX_INSNS * 4 + 8];
};

#define E (&t->e)
#define CPU(field) h_abs(&t->vp->cpu.field)
#define CPU_VP(field) h_abs(&t->vp->field)
#define HOME(g) h_abs(&t->vp->cpu.gpr[g])
static uint32_t off_of(const struct tr *t, const uint8_t *p) { return (uint32_t)(p - t->base); }
static uint8_t *thunk_rw(const struct tr *t, const uint8_t *rx) { return t->base + (rx - t->j->rx); }

/* ---- flags ------------------------------------------------------------------------------------------- */

static unsigned cond_reads(unsigned cc)
{
    static const uint8_t r[8] = { F_O, F_C, F_Z, F_C | F_Z, F_S, F_P, F_S | F_O, F_S | F_O | F_Z };

    return r[cc >> 1];
}

/* What @in reads and certainly writes of the flags.  Unknown operations read all. */
static void flag_use(const struct x86_insn *in, unsigned *rd, unsigned *wr)
{
    unsigned count;

    *rd = 0;
    *wr = 0;
    switch (in->op) {
    case X86_OP_ADD: case X86_OP_OR: case X86_OP_AND: case X86_OP_SUB: case X86_OP_XOR: case X86_OP_CMP:
    case X86_OP_TEST: case X86_OP_NEG: case X86_OP_XADD: case X86_OP_CMPXCHG: case X86_OP_POPCNT:
    case X86_OP_DIV: case X86_OP_IDIV:
        *wr = F_ALL;
        break;
    case X86_OP_ANDN: case X86_OP_BEXTR: case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR: case X86_OP_BZHI:
        *wr = F_C | F_Z | F_S | F_O;
        break;
    case X86_OP_ADC: case X86_OP_SBB:
        *rd = F_C;
        *wr = F_ALL;
        break;
    case X86_OP_INC: case X86_OP_DEC:
        *wr = F_ALL & ~F_C;
        break;
    case X86_OP_SHL: case X86_OP_SHR: case X86_OP_SAR: case X86_OP_SHLD: case X86_OP_SHRD:
    case X86_OP_ROL: case X86_OP_ROR: case X86_OP_RCL: case X86_OP_RCR: {
        const struct x86_operand *c = in->op == X86_OP_SHLD || in->op == X86_OP_SHRD ? &in->o[2] : &in->o[1];

        if (in->op == X86_OP_RCL || in->op == X86_OP_RCR)
            *rd = F_C;
        if (c->kind != X86_O_IMM)
            break;
        count = (unsigned)in->imm & (in->o[0].size == 8 ? 63 : 31);
        if (count == 0 || ((in->op == X86_OP_SHLD || in->op == X86_OP_SHRD) && count >= in->o[0].size * 8u))
            break;
        if (in->op == X86_OP_SHL || in->op == X86_OP_SHR || in->op == X86_OP_SAR)
            *wr = count == 1 ? F_ALL & ~F_A : F_ALL & ~(F_A | F_O);
        else if (in->op == X86_OP_SHLD || in->op == X86_OP_SHRD)
            *wr = F_C | F_Z | F_S | F_P;
        break;
    }
    case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC: case X86_OP_CLC: case X86_OP_STC:
        *wr = F_C;
        break;
    case X86_OP_CMC:
        *rd = *wr = F_C;
        break;
    case X86_OP_BSF: case X86_OP_BSR: case X86_OP_CMPXCHG8B: case X86_OP_CMPXCHG16B:
        *wr = F_Z;
        break;
    case X86_OP_LZCNT: case X86_OP_TZCNT:
        *wr = F_C | F_Z;
        break;
    case X86_OP_MUL: case X86_OP_IMUL1: case X86_OP_IMUL2: case X86_OP_IMUL3:
        *wr = F_C | F_O;
        break;
    case X86_OP_ADCX:
        *rd = *wr = F_C;
        break;
    case X86_OP_ADOX:
        *rd = *wr = F_O;
        break;
    case X86_OP_SETCC: case X86_OP_CMOVCC: case X86_OP_JCC:
        *rd = cond_reads(in->cond);
        break;
    case X86_OP_LAHF:
        *rd = F_ALL & ~F_O;
        break;
    case X86_OP_SAHF:
        *wr = F_ALL & ~F_O;
        break;
    case X86_OP_VEC_FLAGS:
        *wr = F_ALL;
        break;
    case X86_OP_X87_FCOMI:
        *wr = F_Z | F_P | F_C;
        break;
    case X86_OP_CMPS: case X86_OP_SCAS:
        if (in->rep == X86_REP_NONE)
            *wr = F_ALL;
        break;
    case X86_OP_MOV: case X86_OP_MOVSX: case X86_OP_MOVZX: case X86_OP_MOVSXD: case X86_OP_MOVBE: case X86_OP_MOVNTI:
    case X86_OP_LEA: case X86_OP_XLAT: case X86_OP_BSWAP: case X86_OP_XCHG: case X86_OP_PUSH: case X86_OP_POP:
    case X86_OP_LEAVE: case X86_OP_NOT: case X86_OP_CBW: case X86_OP_CWD: case X86_OP_NOP: case X86_OP_PAUSE:
    case X86_OP_MULX: case X86_OP_PDEP: case X86_OP_PEXT: case X86_OP_RORX: case X86_OP_SARX: case X86_OP_SHLX:
    case X86_OP_SHRX: case X86_OP_CRC32: case X86_OP_MOVS: case X86_OP_STOS: case X86_OP_LODS:
    case X86_OP_CLD: case X86_OP_STD: case X86_OP_LFENCE: case X86_OP_MFENCE: case X86_OP_SFENCE:
    case X86_OP_JMP_NEAR: case X86_OP_CALL_NEAR: case X86_OP_JCXZ: case X86_OP_LOOP:
    case X86_OP_VEC: case X86_OP_VEC_XMM0: case X86_OP_X87: case X86_OP_LDMXCSR: case X86_OP_STMXCSR:
    case X86_OP_VZEROUPPER: case X86_OP_VZEROALL: case X86_OP_RDTSC: case X86_OP_MOV_FROM_SREG:
    case X86_OP_CLI: case X86_OP_STI: case X86_OP_SWAPGS: case X86_OP_CLAC: case X86_OP_STAC:
        break;
    default:
        *rd = F_ALL;
    }
}

/* System instructions that are emitted and after which the block goes on. */
static bool inline_system(const struct tr *t, const struct x86_insn *in)
{
    if (t->key & X86_KEY_USER)
        return false;
    switch (in->op) {
    case X86_OP_CLI: case X86_OP_STI: return true;
    case X86_OP_SWAPGS: return t->m64;
    case X86_OP_CLAC: case X86_OP_STAC: return t->key & JKEY_SMAP;
    default: return false;
    }
}

static bool ends_block(const struct tr *t, const struct x86_insn *in)
{
    return (in->attr & X86_A_END) && in->op != X86_OP_JCC && !inline_system(t, in);
}

static void claim(struct tr *t, unsigned off, unsigned len)
{
    unsigned last = off + len - 1 > 4095 ? 4095 : off + len - 1;
    uint64_t lines = 1ull << (off / 64) | 1ull << (last / 64);

    if ((t->claimed & lines) == lines)
        return;
    t->claimed |= lines;
    x86_code_claim(t->vp, t->ram_page, lines);
}

/* Flags that are live at @rip, by looking at the code there; all when that is not in this page. */
static unsigned peek(struct tr *t, uint64_t rip)
{
    unsigned unknown = F_ALL, live = 0;

    for (unsigned i = 0; i < 10 && unknown; i++) {
        unsigned off = (unsigned)(rip & 4095), avail = 4096 - off, rd, wr;
        struct x86_insn in;

        if ((rip ^ t->rip) >> 12)
            break;
        claim(t, off, X86_MAX_INSN);
        if (x86_decode(t->page + off, avail > X86_MAX_INSN ? X86_MAX_INSN : avail, (enum x86_mode)t->vp->cpu.mode, &in) <= 0)
            break;
        flag_use(&in, &rd, &wr);
        live |= rd & unknown;
        unknown &= ~wr;
        rip += in.len;
        if (in.op == X86_OP_JMP_NEAR)
            rip += (uint64_t)in.imm;
        else if (ends_block(t, &in) || in.op == X86_OP_JCC)
            break;
    }
    return live | unknown;
}

/* ---- operands --------------------------------------------------------------------------------------------- */

static bool is_home(unsigned g) { return g < 16 && host_of[g] == NOREG; }
static unsigned h_or_none(unsigned g) { return g >= 16 ? NOREG : host_of[g]; }

struct ea {
    uint8_t base, index, scale;   /* guest registers, X86_REG_NONE */
    uint8_t seg;                  /* X86_FS, X86_GS, or X86_SEG_NONE */
    bool a32;                     /* 32-bit address arithmetic */
    int64_t disp;
};

static bool ea_of(const struct tr *t, const struct x86_insn *in, unsigned off, struct ea *ret)
{
    if (in->asize == 2 || in->vsib)
        return false;
    *ret = (struct ea){ in->base, in->index, in->scale, X86_SEG_NONE, in->asize == 4, in->disp };
    if (in->base == X86_REG_RIP) {
        ret->base = X86_REG_NONE;
        ret->disp = (int64_t)(t->rip + off + in->len + (uint64_t)in->disp);
    }
    if (ret->a32 && ret->base == X86_REG_NONE && ret->index == X86_REG_NONE)
        ret->disp = (uint32_t)ret->disp;
    if (in->seg == X86_FS || in->seg == X86_GS) {
        if (!t->m64 && !(t->key & (in->seg == X86_FS ? JKEY_FS_FLAT : JKEY_GS_FLAT)))
            return false;
        ret->seg = in->seg;
        if (!t->m64 && ret->base == X86_REG_NONE && ret->index == X86_REG_NONE)
            ret->disp = (int32_t)ret->disp;
    }
    if (!t->m64 && in->seg == X86_CS)
        return false;
    return true;
}

static void lea_any(struct tr *t, bool a32, unsigned d, struct hop m)
{
    if (a32)
        e_lea32(E, d, m);
    else
        e_lea(E, d, m);
}

/* Effective address into @d; @u is another scratch register or NOREG.  Keeps flags.  @return false: it takes @u. */
static bool emit_ea(struct tr *t, const struct ea *a, unsigned d, unsigned u)
{
    bool hb = is_home(a->base), hi = is_home(a->index);
    unsigned b = h_or_none(a->base), x = h_or_none(a->index);
    bool big = !fits32(a->disp);

    if (d == T1 || u == T1)
        t->r11 = -1;

    if (a->base == X86_REG_NONE && a->index == X86_REG_NONE) {
        if (a->seg != X86_SEG_NONE && !big) {
            e_mov_load(E, d, CPU(seg[a->seg].base));
            if (t->m64 && a->a32 && a->disp < 0)
                return false;
            if (a->disp)
                lea_any(t, !t->m64, d, h_mem(d, (int32_t)a->disp));
            return true;
        }
        if (a->seg != X86_SEG_NONE)
            return false;
        e_mov_imm(E, d, (uint64_t)a->disp);
        return true;
    }
    if (big)
        return false;
    if (a->seg != X86_SEG_NONE && !a->a32 && !hb && !hi && (b == NOREG || x == NOREG)) {
        e_mov_load(E, d, CPU(seg[a->seg].base));
        e_lea(E, d, b != NOREG ? h_sib(d, b, 0, (int32_t)a->disp) : h_sib(d, x, a->scale, (int32_t)a->disp));
        return true;
    }
    if (hb && hi) {
        if (u == NOREG)
            return false;
        e_mov_load(E, d, HOME(a->base));
        e_mov_load(E, u, HOME(a->index));
        lea_any(t, a->a32, d, h_sib(d, u, a->scale, (int32_t)a->disp));
    } else if (hb) {
        e_mov_load(E, d, HOME(a->base));
        if (x != NOREG || a->disp || a->a32)
            lea_any(t, a->a32, d, h_sib(d, x, a->scale, (int32_t)a->disp));
    } else if (hi) {
        e_mov_load(E, d, HOME(a->index));
        lea_any(t, a->a32, d, h_sib(b, d, a->scale, (int32_t)a->disp));
    } else if (x == NOREG && !a->disp) {
        if (a->a32)
            e_mov_rr32(E, d, b);
        else
            e_mov_rr(E, d, b);
    } else {
        lea_any(t, a->a32, d, h_sib(b, x, a->scale, (int32_t)a->disp));
    }
    if (a->seg != X86_SEG_NONE) {
        if (u == NOREG)
            return false;
        e_mov_load(E, u, CPU(seg[a->seg].base));
        lea_any(t, !t->m64, d, h_sib(d, u, 0, 0));
    }
    return true;
}

/* Can emit_ea do it with one register? */
static bool ea_one_reg(const struct ea *a)
{
    bool none = a->base == X86_REG_NONE && a->index == X86_REG_NONE;

    if (none)
        return a->seg == X86_SEG_NONE || (fits32(a->disp) && !(a->a32 && a->disp < 0));
    if (a->seg != X86_SEG_NONE)
        return !a->a32 && !is_home(a->base) && !is_home(a->index) && (a->base == X86_REG_NONE || a->index == X86_REG_NONE);
    return !(is_home(a->base) && is_home(a->index));
}

static struct cold *cold_new(struct tr *t, unsigned kind, uint8_t *from)
{
    struct cold *c = &t->cold[t->ncold++];

    *c = (struct cold){ .kind = (uint8_t)kind, .from = from, .ti = (uint8_t)t->cur };
    return c;
}

/* r11 := what leads from the base register to host memory, for a member of group @grp; @off: where that register
 * is from the group's root. */
static void group_access(struct tr *t, const struct ea *a, unsigned n, unsigned acc, bool second, int grp, int64_t off)
{
    struct group *g = &t->g[grp];
    struct x86_tlb_entry *e0 = t->tlb->e;
    int32_t tag = (int32_t)(uintptr_t)((g->acc & X86_ACC_WRITE) ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    int32_t lo = (int32_t)(g->lo - off), w = (int32_t)(g->hi - g->lo);
    unsigned b = host_of[a->base];
    uint8_t *jb, *ok, *retry = E->p;
    struct hop m, slot = h_abs(&t->j->group[grp]);
    struct cold *c;

    if (g->done) {
        if (t->r11 != grp)
            e_mov_load(E, T1, slot);
        t->r11 = grp;
        return;
    }
    if (!t->ti[t->cur].live_in) {
        if (lo)
            e_lea(E, T0, h_mem(b, lo));
        else
            e_mov_rr(E, T0, b);
        e_rorx(E, T1, T0, 7);
        e_op(E, 0, 0, 0x81, 4, (m = h_reg(T1), &m));
        e4(E, (X86_TLB_SIZE - 1) << 5);
        e_alu_load(E, 1, 0, T0, h_mem(T1, tag));
        e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
        e4(E, 4096 - (uint32_t)w);
        jb = e_jcc(E, CC_A);
        e_mov_load(E, T1, h_mem(T1, add));
    } else {
        e_lea(E, T1, h_mem(b, lo));
        e_pext(E, T1, T1, h_abs(&t->j->mask_idx));
        e_lea(E, T1, h_sib(NOREG, T1, 3, 0));
        e_mov_load(E, T0, h_sib(NOREG, T1, 2, tag));
        e_lea(E, T0, h_sib(T0, b, 0, lo + w - 1));
        e_pext(E, T0, T0, h_abs(&t->j->mask_page));
        e_mov_load(E, T1, h_sib(NOREG, T1, 2, add));
        ok = e_jrcxz(E);
        jb = e_jmp(E);
        e_bind8(E, ok);
    }
    e_mov_store(E, slot, T1);
    c = cold_new(t, COLD_MISS, jb);
    c->n = (uint8_t)n;
    c->acc = (uint8_t)acc;
    c->flags = JS_GROUP | (second ? JS_SECOND : 0) | (g->acc & X86_ACC_WRITE ? JS_GWRITE : 0);
    c->retry = retry;
    c->glo = (int16_t)(lo - (int32_t)a->disp);
    c->gn = (uint16_t)w;
    g->done = true;
    t->r11 = grp;
}

/* After the check of @n bytes at @a, r11 (or r11 and rcx) lead to the host address: the returned operand.
 * @keep_t0: the operand must not use rcx. */
static bool mem_access(struct tr *t, const struct ea *a, unsigned n, unsigned acc, bool second, bool keep_t0,
                       int grp, int64_t off, struct hop *ret)
{
    const struct ti *ti = &t->ti[t->cur];
    struct x86_tlb_entry *e0 = t->tlb->e;
    int32_t tag = (int32_t)(uintptr_t)((acc & X86_ACC_WRITE) ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    bool none = a->base == X86_REG_NONE && a->index == X86_REG_NONE;
    bool simple = !a->a32 && a->seg == X86_SEG_NONE && !is_home(a->base) && a->index == X86_REG_NONE && fits32(a->disp);
    bool direct = simple;       /* [base + r11 + disp] */
    uint8_t *jb, *jb2 = NULL, *retry = E->p;
    /* An aligned operand cannot cross a page: its first byte is looked at. */
    int32_t lastb = t->align ? 0 : (int32_t)n - 1;
    struct hop mask = h_abs(t->align == 31 ? &t->j->mask_page32 : t->align ? &t->j->mask_page16 : &t->j->mask_page);
    struct cold *c;
    struct hop m;

    if (!fits32(a->disp) && !(none && a->seg == X86_SEG_NONE))
        return false;
    if (grp >= 0 && direct && !none && !t->align) {
        group_access(t, a, n, acc, second, grp, off);
        *ret = h_sib(host_of[a->base], T1, 0, (int32_t)a->disp);
        return true;
    }
    t->r11 = -1;
    if (!ti->live_in) {
        if (!emit_ea(t, a, T0, T1))
            return false;
        e_rorx(E, T1, T0, 7);
        m = h_reg(T1);
        e_op(E, 0, 0, 0x81, 4, &m); /* and r11d, imm32 */
        e4(E, (X86_TLB_SIZE - 1) << 5);
        e_alu_load(E, 1, 0, T0, h_mem(T1, tag));
        e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
        e4(E, 4096 - n);
        jb = e_jcc(E, CC_A);
        if (t->align) {
            e1(E, 0xf6), e1(E, 0xc1), e1(E, t->align); /* test cl, imm8 */
            jb2 = e_jcc(E, CC_NE);
        }
        if (!direct) {
            if (ea_one_reg(a))
                emit_ea(t, a, T0, NOREG);
            else
                e_alu_load(E, 1, 5, T0, h_mem(T1, tag)); /* sub rcx: the address again */
        }
        e_mov_load(E, T1, h_mem(T1, add));
    } else if (simple || (!a->a32 && a->seg == X86_SEG_NONE && !is_home(a->base) && !is_home(a->index) && fits32(a->disp) && !none)) {
        /* Flags are live: index from the first byte, tag from the last one. */
        unsigned b = h_or_none(a->base), x = h_or_none(a->index);
        uint8_t *ok;

        emit_ea(t, a, T1, T0);
        e_pext(E, T1, T1, h_abs(&t->j->mask_idx));
        e_lea(E, T1, h_sib(NOREG, T1, 3, 0));
        e_mov_load(E, T0, h_sib(NOREG, T1, 2, tag));
        if (!fits32(a->disp + lastb))
            return false;
        if (b != NOREG)
            e_lea(E, T0, h_sib(T0, b, 0, (int32_t)(a->disp + lastb)));
        else
            e_lea(E, T0, h_mem(T0, (int32_t)(a->disp + lastb)));
        if (x != NOREG)
            e_lea(E, T0, h_sib(T0, x, a->scale, 0));
        e_pext(E, T0, T0, mask);
        e_mov_load(E, T1, h_sib(NOREG, T1, 2, add));
        ok = e_jrcxz(E);
        jb = e_jmp(E);
        e_bind8(E, ok);
        if (!direct)
            emit_ea(t, a, T0, NOREG);
    } else {
        uint8_t *ok;

        /* A third register is needed: rax, put away.  Here r11 becomes the host address. */
        e_mov_store(E, h_abs(&t->j->a), RAX);
        if (!emit_ea(t, a, T0, T1))
            return false;
        e_pext(E, T1, T0, h_abs(&t->j->mask_idx));
        e_lea(E, T1, h_sib(NOREG, T1, 3, 0));
        e_mov_load(E, RAX, h_sib(NOREG, T1, 2, tag));
        e_lea(E, RAX, h_sib(RAX, T0, 0, lastb));
        e_pext(E, RAX, RAX, mask);
        e_mov_load(E, T1, h_sib(NOREG, T1, 2, add));
        e_lea(E, T1, h_sib(T1, T0, 0, 0));
        e_mov_rr(E, T0, RAX);
        e_mov_load(E, RAX, h_abs(&t->j->a));
        ok = e_jrcxz(E);
        jb = e_jmp(E);
        e_bind8(E, ok);
        c = cold_new(t, COLD_MISS, jb);
        c->n = (uint8_t)n;
        c->acc = (uint8_t)acc;
        c->flags = second ? JS_SECOND : 0;
        c->align = (uint8_t)t->align;
        c->retry = retry;
        *ret = h_mem(T1, 0);
        return true;
    }
    c = cold_new(t, COLD_MISS, jb);
    c->from2 = jb2;
    c->n = (uint8_t)n;
    c->acc = (uint8_t)acc;
    c->flags = second ? JS_SECOND : 0;
    c->align = (uint8_t)t->align;
    c->retry = retry;
    if (none && !direct) {
        *ret = h_sib(T0, T1, 0, 0);
    } else if (direct) {
        unsigned b = h_or_none(a->base);

        *ret = b == NOREG ? h_mem(T1, (int32_t)a->disp) : h_sib(b, T1, 0, (int32_t)a->disp);
    } else {
        *ret = h_sib(T0, T1, 0, 0);
    }
    if (keep_t0 && (ret->base == T0 || ret->index == T0)) {
        e_lea(E, T1, *ret);
        *ret = h_mem(T1, 0);
    }
    return true;
}

/* A register operand made usable: @T is taken when it lives in memory or is ah, bh, dh, ch. */
struct ro { uint8_t reg, g, kind; };
enum { RO_PLAIN, RO_HOME, RO_HIGH };

static struct ro ro_begin(struct tr *t, const struct x86_operand *o, unsigned T, bool read)
{
    struct ro r = { 0, o->reg, RO_PLAIN };

    if (T == T1)
        t->r11 = -1;

    if (o->flags & X86_F_HIGH8) {
        r.g = (uint8_t)(o->reg - 4);
        r.kind = RO_HIGH;
        r.reg = (uint8_t)T;
        e_rorx(E, T, host_of[r.g], 8);
    } else if (is_home(o->reg)) {
        r.kind = RO_HOME;
        r.reg = (uint8_t)T;
        if (read || o->size < 4)
            e_mov_load(E, T, HOME(o->reg));
    } else {
        r.reg = host_of[o->reg];
    }
    return r;
}

static void ro_end(struct tr *t, const struct ro *r)
{
    if (r->kind == RO_HIGH)
        e_rorx(E, host_of[r->g], r->reg, 56);
    else if (r->kind == RO_HOME)
        e_mov_store(E, HOME(r->g), r->reg);
}

static bool ro_needs_temp(const struct x86_operand *o) { return (o->flags & X86_F_HIGH8) || is_home(o->reg); }

static unsigned size_flags(unsigned size)
{
    return size == 8 ? E_W : size == 2 ? E_66 : size == 1 ? E_BYTE_REG | E_BYTE_RM : 0;
}

static void emit_imm(struct tr *t, unsigned size, int64_t imm)
{
    if (size == 1)
        e1(E, (uint8_t)imm);
    else if (size == 2)
        e2(E, (uint16_t)imm);
    else
        e4(E, (uint32_t)imm);
}

/* ---- exits --------------------------------------------------------------------------------------------------- */

/* jmp or jcc (rel32 at @rel) to guest address @target. */
static void link_to(struct tr *t, uint8_t *rel, uint64_t target)
{
    struct cold *c = cold_new(t, COLD_LINK, rel);

    c->target = target;
    c->flags = !((target ^ t->rip) >> 12) ? JS_SAMEPAGE : 0;
}

/* Leave when vp->attention asks; @live: flags are. */
static void poll(struct tr *t, uint64_t target, unsigned live)
{
    struct hop att = h_abs(&t->vp->attention);
    uint8_t *rel;

    if (!live) {
        e_alu_imm(E, 0, 7, att, 0);
        rel = e_jcc(E, CC_NE);
    } else {
        uint8_t *ok;

        e_mov_load32(E, T0, att);
        ok = e_jrcxz(E);
        rel = e_jmp(E);
        e_bind8(E, ok);
    }
    cold_new(t, COLD_EXIT, rel)->target = target;
}

static void goto_guest(struct tr *t, uint64_t target, uint64_t from, unsigned live)
{
    if (target <= from)
        poll(t, target, live);
    link_to(t, e_jmp(E), target);
}

/* Target in rcx. */
static void jmp_indirect(struct tr *t)
{
    struct hop m = h_reg(T0);

    e_op(E, 0, 1, 0xb7, T1, &m); /* movzx r11d, cx */
    m = h_sib(NOREG, T1, 3, (int32_t)(uintptr_t)t->j->jc[t->cls]);
    e_op(E, 0, 0, 0xff, 4, &m);
}

/* ---- instructions -------------------------------------------------------------------------------------------- */

static bool insn_ea(struct tr *t, const struct x86_insn *in, unsigned n, unsigned acc, bool keep_t0, struct hop *ret)
{
    struct ea a;

    const struct ti *ti = &t->ti[t->cur];

    return ea_of(t, in, ti->off, &a) && mem_access(t, &a, n, acc, false, keep_t0, ti->gmem, ti->omem, ret);
}

/* The stack at rsp + @disp. */
static bool stack_access(struct tr *t, int32_t disp, unsigned n, unsigned acc, bool second, bool keep_t0, struct hop *ret)
{
    struct ea a = { X86_RSP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, disp };
    unsigned first = t->ncold;

    if (!mem_access(t, &a, n, acc, second, keep_t0, t->ti[t->cur].gstack, t->ti[t->cur].ostack, ret))
        return false;
    for (unsigned i = first; i < t->ncold; i++)
        if (t->cold[i].kind == COLD_MISS) {
            t->cold[i].stack = true;
            t->cold[i].disp = disp;
        }
    return true;
}

static void sp_add(struct tr *t, int32_t d)
{
    if (!d)
        return;
    if (t->m64)
        e_lea(E, G_SP, h_mem(G_SP, d));
    else
        e_lea32(E, G_SP, h_mem(G_SP, d));
}

/* op r/m, r and op r, r/m by ModRM opcodes: @op_mr, @op_rm (0: none); one operand may be in memory. */
static bool two_op(struct tr *t, const struct x86_insn *in, unsigned map, unsigned op_mr, unsigned op_rm, unsigned extra)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned fl = size_flags(a->size) | extra | (in->lock ? E_LOCK : 0);
    bool aw = a->flags & X86_WR, bw = b->flags & X86_WR;
    struct hop m;
    struct ro r, s;

    if (b->size == 1)
        fl |= E_BYTE_REG | E_BYTE_RM;
    else if (a->size != 1)
        fl &= ~(unsigned)(E_BYTE_REG | E_BYTE_RM);
    if (a->kind == X86_O_MEM) {
        if (!op_mr || !insn_ea(t, in, a->size, aw ? X86_ACC_WRITE : X86_ACC_READ, ro_needs_temp(b), &m))
            return false;
        r = ro_begin(t, b, T0, true);
        e_op(E, fl, map, op_mr, r.reg, &m);
        if (bw)
            ro_end(t, &r);
        return true;
    }
    if (b->kind == X86_O_MEM) {
        if (!op_rm || !insn_ea(t, in, b->size, X86_ACC_READ, ro_needs_temp(a), &m))
            return false;
        r = ro_begin(t, a, T0, a->flags & X86_RD);
        if (a->size > 1) /* source byte in memory: the register is not a byte register */
            fl &= ~(unsigned)E_BYTE_REG;
        e_op(E, fl, map, op_rm, r.reg, &m);
        if (aw)
            ro_end(t, &r);
        return true;
    }
    if (aw && bw && (((a->flags | b->flags) & X86_F_HIGH8) || (a->reg == b->reg && is_home(a->reg))))
        return false; /* perhaps parts of one register */
    /* What lives in memory can be the operand there; not for BT, whose offset then goes beyond it. */
    if (is_home(b->reg) && !bw && (op_rm || in->op == X86_OP_TEST)) {
        r = ro_begin(t, a, T0, a->flags & X86_RD);
        m = HOME(b->reg);
        if (a->size > 1)
            fl &= ~(unsigned)E_BYTE_REG;
        e_op(E, fl, map, op_rm ? op_rm : op_mr /* TEST: either order */, r.reg, &m);
        if (aw)
            ro_end(t, &r);
        return true;
    }
    if (is_home(a->reg) && (in->op == X86_OP_CMP || in->op == X86_OP_TEST)) {
        r = ro_begin(t, b, T0, true);
        m = HOME(a->reg);
        e_op(E, fl, map, op_mr, r.reg, &m);
        if (bw)
            ro_end(t, &r);
        return true;
    }
    r = ro_begin(t, a, T0, a->flags & X86_RD);
    s = ro_begin(t, b, T1, true);
    if (op_rm) {
        m = h_reg(s.reg);
        if (a->size > 1)
            fl &= ~(unsigned)E_BYTE_REG;
        e_op(E, fl, map, op_rm, r.reg, &m);
    } else {
        m = h_reg(r.reg);
        e_op(E, fl, map, op_mr, s.reg, &m);
    }
    if (aw)
        ro_end(t, &r);
    if (bw)
        ro_end(t, &s);
    return true;
}

/* op r/m with ModRM.reg = @ext and perhaps an immediate of @immsize bytes. */
static bool one_op(struct tr *t, const struct x86_insn *in, unsigned map, unsigned opcode, unsigned ext, unsigned immsize)
{
    const struct x86_operand *a = &in->o[0];
    unsigned fl = size_flags(a->size) | (in->lock ? E_LOCK : 0);
    bool wr = a->flags & X86_WR;
    struct hop m;
    struct ro r;

    fl &= ~(unsigned)E_BYTE_REG;
    if (a->kind == X86_O_MEM) {
        if (!insn_ea(t, in, a->size, wr ? X86_ACC_WRITE : X86_ACC_READ, false, &m))
            return false;
        e_op(E, fl, map, opcode, ext, &m);
        if (immsize)
            emit_imm(t, immsize, in->imm);
        return true;
    }
    if (is_home(a->reg) && !wr) { /* CMP, TEST, MUL, BT with a constant */
        m = HOME(a->reg);
        e_op(E, fl, map, opcode, ext, &m);
        if (immsize)
            emit_imm(t, immsize, in->imm);
        return true;
    }
    r = ro_begin(t, a, T0, true);
    m = h_reg(r.reg);
    e_op(E, fl, map, opcode, ext, &m);
    if (immsize)
        emit_imm(t, immsize, in->imm);
    if (wr)
        ro_end(t, &r);
    return true;
}

static bool emit_alu(struct tr *t, const struct x86_insn *in, unsigned row)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned w = a->size == 1 ? 0 : 1;

    if (b->kind == X86_O_IMM) {
        if (a->size == 1)
            return one_op(t, in, 0, 0x80, row, 1);
        if (fits8(in->imm))
            return one_op(t, in, 0, 0x83, row, 1);
        return one_op(t, in, 0, 0x81, row, a->size == 2 ? 2 : 4);
    }
    if (row == 6 && a->kind == X86_O_GPR && b->kind == X86_O_GPR && a->reg == b->reg && a->size >= 4) {
        if (is_home(a->reg)) {
            struct hop m = h_reg(T0);

            e_op(E, 0, 0, 0x33, T0, &m);
            e_mov_store(E, HOME(a->reg), T0);
            return true;
        }
    }
    return two_op(t, in, 0, row << 3 | w, row << 3 | 2 | w, 0);
}

static bool emit_mov(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    struct ro r;
    struct hop m;

    if (b->kind != X86_O_IMM) {
        if (a->kind != X86_O_MEM && b->kind != X86_O_MEM && a->size >= 4 && (is_home(a->reg) || is_home(b->reg))) {
            /* Between a register and a home. */
            unsigned s = is_home(b->reg) ? T0 : host_of[b->reg];

            if (is_home(b->reg)) {
                unsigned d = is_home(a->reg) ? T0 : host_of[a->reg];

                if (a->size == 8)
                    e_mov_load(E, d, HOME(b->reg));
                else
                    e_mov_load32(E, d, HOME(b->reg));
                s = d;
            } else if (a->size == 4) {
                e_mov_rr32(E, T0, s);
                s = T0;
            }
            if (is_home(a->reg))
                e_mov_store(E, HOME(a->reg), s);
            return true;
        }
        return two_op(t, in, 0, a->size == 1 ? 0x88 : 0x89, a->size == 1 ? 0x8a : 0x8b, 0);
    }
    if (a->kind == X86_O_MEM)
        return one_op(t, in, 0, a->size == 1 ? 0xc6 : 0xc7, 0, a->size == 8 ? 4 : a->size);
    r = ro_begin(t, a, T0, false);
    if (a->size >= 4) {
        e_mov_imm(E, r.reg, a->size == 4 ? (uint32_t)in->imm : (uint64_t)in->imm);
    } else {
        m = h_reg(r.reg);
        e_op(E, size_flags(a->size) & ~(unsigned)E_BYTE_REG, 0, a->size == 1 ? 0xc6 : 0xc7, 0, &m);
        emit_imm(t, a->size, in->imm);
    }
    ro_end(t, &r);
    return true;
}

static bool emit_lea(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    struct x86_insn plain = *in;
    unsigned d;
    struct ea ea;

    if (a->size == 2)
        return false;
    plain.seg = X86_DS;
    if (!ea_of(t, &plain, t->ti[t->cur].off, &ea))
        return false;
    d = is_home(a->reg) ? T0 : host_of[a->reg];
    if (a->size == 4)
        ea.a32 = true;
    if (ea.base == X86_REG_NONE && ea.index == X86_REG_NONE) {
        e_mov_imm(E, d, ea.a32 ? (uint32_t)ea.disp : (uint64_t)ea.disp);
    } else if (is_home(ea.base) || is_home(ea.index)) {
        if (!emit_ea(t, &ea, T0, T1))
            return false;
        if (d != T0)
            e_mov_rr(E, d, T0);
    } else if (!emit_ea(t, &ea, d, NOREG)) {
        return false;
    }
    if (is_home(a->reg))
        e_mov_store(E, HOME(a->reg), d);
    return true;
}

static bool emit_shift(struct tr *t, const struct x86_insn *in, unsigned row)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned fl = size_flags(a->size) & ~(unsigned)E_BYTE_REG, w = a->size == 1 ? 0 : 1;
    struct hop m;
    struct ro r;

    if (b->kind == X86_O_IMM) {
        if (in->imm == 1)
            return one_op(t, in, 0, 0xd0 | w, row, 0);
        return one_op(t, in, 0, 0xc0 | w, row, 1);
    }
    if (a->kind == X86_O_MEM) {
        if (!insn_ea(t, in, a->size, X86_ACC_WRITE, true, &m))
            return false;
        e_mov_rr32(E, T0, G_CX);
        e_op(E, fl, 0, 0xd2 | w, row, &m);
        return true;
    }
    r = ro_begin(t, a, T1, true);
    e_mov_rr32(E, T0, G_CX);
    m = h_reg(r.reg);
    e_op(E, fl, 0, 0xd2 | w, row, &m);
    ro_end(t, &r);
    return true;
}

/* Instructions that are emitted by their own encoding, with the registers of reg, rm and vvvv renamed. */
static bool emit_raw_gpr(struct tr *t, const struct x86_insn *in, bool reg_is_ext)
{
    bool mem = (in->modrm & 0xc0) != 0xc0;
    unsigned graw = ((in->modrm >> 3) & 7) | (in->rex & 4 ? 8 : 0), mraw = (in->modrm & 7) | (in->rex & 1 ? 8 : 0);
    unsigned vraw = in->vvvv, reg = (in->modrm >> 3) & 7, vv = 0, temps = mem ? 1 : 2;
    unsigned wr[3] = { 0, 0, 0 };
    bool vused = false;
    struct hop m = { 0 };
    uint8_t role_t[3] = { NOREG, NOREG, NOREG };
    unsigned size = 0, acc = 0, fl;

    /* Role of each operand: 0 ModRM.reg, 1 ModRM.rm, 2 VEX.vvvv. */
    for (unsigned i = 0, reg_role = reg_is_ext; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];
        unsigned role;

        if (o->kind == X86_O_MEM) {
            size = o->size;
            acc |= o->flags & X86_WR ? X86_ACC_WRITE : 0;
            continue;
        }
        if (o->kind != X86_O_GPR)
            continue;
        if (o->flags & X86_F_HIGH8)
            return false;
        if (reg_is_ext)
            role = i == 0 ? 2 : 1;
        else if (!reg_role++)
            role = 0;
        else if (in->op == X86_OP_ANDN || in->op == X86_OP_MULX || in->op == X86_OP_PDEP || in->op == X86_OP_PEXT)
            role = i == 1 ? 2 : 1;
        else
            role = i == 1 ? 1 : 2;
        vused = vused || role == 2;
        wr[role] |= o->flags & X86_WR;
    }
    if (in->vex && in->op != X86_OP_RORX && !vused)
        return false;
    /* Temporaries for what lives in memory. */
    unsigned need = (!reg_is_ext && is_home(graw)) + (!mem && is_home(mraw)) + (vused && is_home(vraw));

    if (need > temps)
        return false;
    if (mem && !insn_ea(t, in, size, acc ? X86_ACC_WRITE : X86_ACC_READ, need > 0, &m))
        return false;
    unsigned next = T0;

    if (need > 1)
        t->r11 = -1;
    if (!reg_is_ext) {
        reg = host_of[graw];
        if (is_home(graw)) {
            reg = role_t[0] = (uint8_t)next;
            next = T1;
            e_mov_load(E, reg, HOME(graw)); /* some keep it */
        }
    }
    if (!mem) {
        m = h_reg(host_of[mraw]);
        if (is_home(mraw)) {
            if (!reg_is_ext && graw == mraw && role_t[0] != NOREG) {
                m = h_reg(role_t[0]);
            } else {
                m = h_reg(role_t[1] = (uint8_t)next);
                next = T1;
                e_mov_load(E, m.reg, HOME(mraw));
            }
        }
    }
    if (vused) {
        vv = host_of[vraw];
        if (is_home(vraw)) {
            vv = role_t[2] = (uint8_t)next;
            e_mov_load(E, vv, HOME(vraw));
        }
    }
    if (in->vex) {
        e_vex(E, (in->rex & 8) && t->m64 ? 1 : 0, in->pp, in->vexl, in->map, in->opcode, reg, vv, &m);
    } else {
        fl = (in->osize == 8 ? E_W : 0) | (in->pp == 2 ? E_F3 : in->pp == 3 ? E_F2 : 0) | (in->lock ? E_LOCK : 0);
        if (in->osize == 2 || in->pp == 1)
            fl |= E_66;
        if (in->op == X86_OP_CRC32 && in->o[1].size == 1)
            fl |= E_BYTE_RM;
        e_op(E, fl, in->map, in->opcode, reg, &m);
    }
    if (in->immsize == 1)
        e1(E, (uint8_t)in->imm);
    else if (in->immsize)
        return false;
    if (wr[1] && role_t[1] != NOREG)
        e_mov_store(E, HOME(mraw), role_t[1]);
    if (wr[2] && role_t[2] != NOREG)
        e_mov_store(E, HOME(vraw), role_t[2]);
    if (wr[0] && role_t[0] != NOREG) /* last: MULX with one destination keeps the high half */
        e_mov_store(E, HOME(graw), role_t[0]);
    return true;
}

static void cold_exec(struct tr *t, uint8_t *rel) { cold_new(t, COLD_EXEC, rel); }

/* DIV, IDIV by what cannot overflow; the rest goes to C, where #DE is raised. */
static bool emit_div(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    unsigned fl = size_flags(a->size), w = a->size == 8, d;
    struct hop m, r11 = h_reg(T1), rdx = h_reg(RDX);

    if (a->size < 4 || t->j->exact) /* the tests in front change the flags */
        return false;
    if (a->kind == X86_O_MEM) {
        if (!insn_ea(t, in, a->size, X86_ACC_READ, false, &m))
            return false;
        e_op(E, fl, 0, 0x8b, d = T0, &m);
    } else if (is_home(a->reg)) {
        e_mov_load(E, d = T0, HOME(a->reg));
    } else {
        d = host_of[a->reg];
    }
    m = h_reg(d);
    if (in->op == X86_OP_DIV) {
        e_op(E, fl, 0, 0x3b, RDX, &m);          /* cmp rdx, d */
        cold_exec(t, e_jcc(E, CC_AE));
        e_op(E, fl, 0, 0xf7, 6, &m);
        t->r11 = -1;
        return true;
    }
    t->r11 = -1;
    e_op(E, fl, 0, 0x8b, T1, &(struct hop){ .reg = RAX });
    e_op(E, fl, 0, 0xc1, 7, &r11);              /* sar r11, width - 1 */
    e1(E, w ? 63 : 31);
    e_op(E, fl, 0, 0x3b, T1, &rdx);
    cold_exec(t, e_jcc(E, CC_NE));
    if (w)
        e_lea(E, T1, h_mem(d, 1));
    else
        e_lea32(E, T1, h_mem(d, 1));
    e_op(E, fl, 0, 0x83, 7, &r11);              /* cmp r11, 1: divisor -1 or 0 */
    e1(E, 1);
    cold_exec(t, e_jcc(E, CC_BE));
    e_op(E, fl, 0, 0xf7, 7, &m);
    return true;
}

static bool emit_push(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    unsigned n = t->m64 ? 8 : 4, fl = t->m64 ? E_W : 0;
    struct hop m;

    if (in->osize != n)
        return false;
    if (a->kind == X86_O_MEM) {
        struct hop v;

        if (!insn_ea(t, in, n, X86_ACC_READ, false, &v))
            return false;
        e_op(E, fl, 0, 0x8b, T0, &v);
        e_mov_store(E, h_abs(&t->j->ea), T0);
        if (!stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, true, true, &m))
            return false;
        e_mov_load(E, T0, h_abs(&t->j->ea));
        e_op(E, fl, 0, 0x89, T0, &m);
        sp_add(t, -(int32_t)n);
        return true;
    }
    if (a->kind == X86_O_IMM) {
        if (!stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, false, false, &m))
            return false;
        e_op(E, fl, 0, 0xc7, 0, &m);
        e4(E, (uint32_t)in->imm);
    } else {
        unsigned s;

        if (!stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, false, is_home(a->reg), &m))
            return false;
        s = host_of[a->reg];
        if (is_home(a->reg))
            e_mov_load(E, s = T0, HOME(a->reg));
        e_op(E, fl, 0, 0x89, s, &m);
    }
    sp_add(t, -(int32_t)n);
    return true;
}

static bool emit_pop(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0];
    unsigned n = t->m64 ? 8 : 4, fl = t->m64 ? E_W : 0;
    struct hop m;

    if (in->osize != n || a->kind != X86_O_GPR)
        return false;
    if (!stack_access(t, 0, n, X86_ACC_READ, false, false, &m))
        return false;
    if (is_home(a->reg)) {
        e_op(E, fl, 0, 0x8b, T0, &m);
        e_mov_store(E, HOME(a->reg), T0);
        sp_add(t, (int32_t)n);
    } else if (a->reg == X86_RSP) {
        e_op(E, fl, 0, 0x8b, G_SP, &m);
    } else {
        e_op(E, fl, 0, 0x8b, host_of[a->reg], &m);
        sp_add(t, (int32_t)n);
    }
    return true;
}

static bool emit_leave(struct tr *t, const struct x86_insn *in)
{
    unsigned n = t->m64 ? 8 : 4;
    struct ea a = { X86_RBP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, 0 };
    struct hop m;

    if (in->osize != n || !mem_access(t, &a, n, X86_ACC_READ, false, false, t->ti[t->cur].gmem, t->ti[t->cur].omem, &m))
        return false;
    if (t->m64)
        e_lea(E, G_SP, h_mem(RBP, 8));
    else
        e_lea32(E, G_SP, h_mem(RBP, 4));
    e_op(E, t->m64 ? E_W : 0, 0, 0x8b, RBP, &m);
    return true;
}

static uint64_t trunc_rip(const struct tr *t, uint64_t rip) { return t->m64 ? rip : (uint32_t)rip; }

/* Push the return address; rcx is used up. */
static bool push_imm64(struct tr *t, uint64_t v, bool second)
{
    unsigned n = t->m64 ? 8 : 4;
    struct hop m;
    bool imm = !t->m64 || fits32((int64_t)v);

    if (!stack_access(t, -(int32_t)n, n, X86_ACC_WRITE, second, !imm, &m))
        return false;
    if (imm) {
        e_op(E, t->m64 ? E_W : 0, 0, 0xc7, 0, &m);
        e4(E, (uint32_t)v);
    } else {
        e_mov_imm(E, T0, v);
        e_mov_store(E, m, T0);
    }
    return true;
}

/* Branches.  @return 0 not done, 1 done, the block goes on; 2 done, it ends. */
static int emit_branch(struct tr *t, const struct x86_insn *in)
{
    const struct ti *ti = &t->ti[t->cur];
    uint64_t at = t->rip + ti->off, next = trunc_rip(t, at + in->len), target = trunc_rip(t, next + (uint64_t)in->imm);
    const struct x86_operand *a = &in->o[0];
    unsigned n = t->m64 ? 8 : 4, fl = t->m64 ? E_W : 0;
    struct hop m;

    if (in->osize != n)
        return 0;
    switch (in->op) {
    case X86_OP_JCC: case X86_OP_JMP_NEAR: case X86_OP_CALL_NEAR: case X86_OP_JCXZ: case X86_OP_LOOP:
        if (t->m64 && (!x86_canonical(target) || !x86_canonical(next)))
            return 0;
        break;
    case X86_OP_CALL_IND: case X86_OP_JMP_IND: case X86_OP_RET_NEAR:
        break;
    default:
        return 0;
    }
    switch (in->op) {
    case X86_OP_JCC:
        if (target <= at) {
            uint8_t *skip = e_jcc(E, in->cond ^ 1);

            goto_guest(t, target, at, peek(t, target));
            e_bind(skip, E->p);
        } else {
            link_to(t, e_jcc(E, in->cond), target);
        }
        return 1;
    case X86_OP_JMP_NEAR:
        goto_guest(t, target, at, ti->live_out);
        return 2;
    case X86_OP_JCXZ: {
        uint8_t *yes, *no;

        if (in->asize == 8)
            e_mov_rr(E, T0, G_CX);
        else if (in->asize == 4)
            e_mov_rr32(E, T0, G_CX);
        else
            return 0;
        yes = e_jrcxz(E);
        no = e_jmp(E);
        e_bind8(E, yes);
        goto_guest(t, target, at, F_ALL);
        e_bind(no, E->p);
        return 1;
    }
    case X86_OP_LOOP: {
        uint8_t *no;

        if (in->asize == 8)
            e_lea(E, G_CX, h_mem(G_CX, -1));
        else if (in->asize == 4)
            e_lea32(E, G_CX, h_mem(G_CX, -1));
        else
            return 0;
        e_mov_rr(E, T0, G_CX);
        no = e_jrcxz(E);
        goto_guest(t, target, at, F_ALL);
        e_bind8(E, no);
        return 1;
    }
    case X86_OP_CALL_NEAR:
        if (!push_imm64(t, next, false))
            return 0;
        sp_add(t, -(int32_t)n);
        goto_guest(t, target, at, ti->live_out);
        return 2;
    case X86_OP_CALL_IND:
        if (a->kind == X86_O_MEM) {
            if (!insn_ea(t, in, n, X86_ACC_READ, false, &m))
                return 0;
            e_op(E, fl, 0, 0x8b, T0, &m);
            e_mov_store(E, h_abs(&t->j->ea), T0);
            if (!push_imm64(t, next, true))
                return 0;
            e_mov_load(E, T0, h_abs(&t->j->ea));
        } else {
            if (!push_imm64(t, next, false))
                return 0;
            if (is_home(a->reg))
                e_mov_load(E, T0, HOME(a->reg));
            else if (t->m64)
                e_mov_rr(E, T0, host_of[a->reg]);
            else
                e_mov_rr32(E, T0, host_of[a->reg]);
        }
        sp_add(t, -(int32_t)n);
        jmp_indirect(t);
        return 2;
    case X86_OP_JMP_IND:
        if (a->kind == X86_O_MEM) {
            if (!insn_ea(t, in, n, X86_ACC_READ, false, &m))
                return 0;
            e_op(E, fl, 0, 0x8b, T0, &m);
        } else if (is_home(a->reg)) {
            e_mov_load(E, T0, HOME(a->reg));
        } else if (t->m64) {
            e_mov_rr(E, T0, host_of[a->reg]);
        } else {
            e_mov_rr32(E, T0, host_of[a->reg]);
        }
        jmp_indirect(t);
        return 2;
    case X86_OP_RET_NEAR:
        if (!stack_access(t, 0, n, X86_ACC_READ, false, false, &m))
            return 0;
        e_op(E, fl, 0, 0x8b, T0, &m);
        sp_add(t, (int32_t)(n + (uint16_t)in->imm));
        jmp_indirect(t);
        return 2;
    default:
        return 0;
    }
}

/* and [eflags], mask + or: keeps the host's flags. */
static void eflags_change(struct tr *t, const uint64_t *mask, uint32_t set)
{
    struct hop m = h_abs(mask);

    e_mov_load32(E, T0, CPU(eflags));
    e_pext(E, T0, T0, m);
    e_vex(E, 1, 3, 0, 2, 0xf5, T0, T0, &m); /* pdep */
    if (set)
        e_lea32(E, T0, h_mem(T0, (int32_t)set));
    m = CPU(eflags);
    e_op(E, 0, 0, 0x89, T0, &m);
}

static void store_imm(struct tr *t, unsigned size, const void *at, uint32_t v)
{
    struct hop m = h_abs(at);

    e_op(E, size == 8 ? E_W : 0, 0, size == 1 ? 0xc6 : 0xc7, 0, &m);
    emit_imm(t, size, v);
}

static bool emit_system(struct tr *t, const struct x86_insn *in)
{
    struct hop m;
    uint8_t *ok;

    switch (in->op) {
    case X86_OP_CLI:
        eflags_change(t, &t->j->mask_no_if, 0);
        return true;
    case X86_OP_STI:
        /* When an interrupt waits for this C does it, with the shadow. */
        m = CPU_VP(want_window);
        e_op(E, 0, 1, 0xb6, T0, &m);
        ok = e_jrcxz(E);
        cold_new(t, COLD_EXEC, e_jmp(E));
        e_bind8(E, ok);
        eflags_change(t, &t->j->mask_no_if, EF_IF);
        return true;
    case X86_OP_SWAPGS:
        t->r11 = -1;
        e_mov_load(E, T0, CPU(seg[X86_GS].base));
        e_mov_load(E, T1, CPU(kernel_gs_base));
        e_mov_store(E, CPU(kernel_gs_base), T0);
        e_mov_store(E, CPU(seg[X86_GS].base), T1);
        return true;
    case X86_OP_CLAC: case X86_OP_STAC: {
        unsigned view = in->op == X86_OP_STAC ? X86_VIEW_SUPER_AC : X86_VIEW_SUPER;

        eflags_change(t, &t->j->mask_no_ac, in->op == X86_OP_STAC ? EF_AC : 0);
        store_imm(t, 1, &t->vp->mmu.view, view);
        store_imm(t, 8, &t->vp->mmu.tlb, (uint32_t)(uintptr_t)&t->vp->mmu.views[view]);
        t->cls = view;
        t->tlb = &t->vp->mmu.views[view];
        return true;
    }
    default:
        return false;
    }
}

static bool emit_pushf(struct tr *t, const struct x86_insn *in)
{
    struct hop m;

    if (!t->m64 || in->osize != 8)
        return false;
    t->r11 = -1;
    e1(E, 0x9c), e1(E, 0x59);               /* pushfq; pop rcx */
    m = h_abs(&t->j->mask_arith);
    e_pext(E, T0, T0, m);
    e_vex(E, 1, 3, 0, 2, 0xf5, T0, T0, &m);
    e_mov_load32(E, T1, CPU(eflags));
    e_lea(E, T0, h_sib(T0, T1, 0, 0));
    e_mov_store(E, h_abs(&t->j->ea), T0);
    if (!stack_access(t, -8, 8, X86_ACC_WRITE, true, true, &m))
        return false;
    e_mov_load(E, T0, h_abs(&t->j->ea));
    e_mov_store(E, m, T0);
    sp_add(t, -8);
    return true;
}

/* BT family on memory with the bit offset in a register: the word that holds the bit, by a checked access. */
static bool emit_bt_mem(struct tr *t, const struct x86_insn *in)
{
    t->r11 = -1;
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    unsigned fl = size_flags(a->size), w = a->size == 8, row = in->op - X86_OP_BT + 4, acc = row != 4 ? X86_ACC_WRITE : 0;
    struct x86_tlb_entry *e0 = t->tlb->e;
    int32_t tag = (int32_t)(uintptr_t)(acc ? &e0->nwr : &e0->nrd), add = (int32_t)(uintptr_t)&e0->add;
    struct hop m, r11 = h_reg(T1);
    struct cold *c;
    struct ea ea;

    if (a->size < 4 || t->ti[t->cur].live_in || is_home(b->reg) || !ea_of(t, in, t->ti[t->cur].off, &ea) || !ea_one_reg(&ea) || ea.a32)
        return false;
    if (!emit_ea(t, &ea, T0, NOREG))
        return false;
    m = h_reg(host_of[b->reg]);
    if (w)
        e_mov_rr(E, T1, m.reg);
    else
        e_op(E, E_W, 0, 0x63, T1, &m);          /* movsxd */
    e_op(E, E_W, 0, 0xc1, 7, &r11);             /* sar: words, then bytes */
    e1(E, w ? 6 : 5);
    e_lea(E, T0, h_sib(T0, T1, w ? 3 : 2, 0));
    e_rorx(E, T1, T0, 7);
    e_op(E, 0, 0, 0x81, 4, &r11);
    e4(E, (X86_TLB_SIZE - 1) << 5);
    e_alu_load(E, 1, 0, T0, h_mem(T1, tag));
    e_op(E, E_W, 0, 0x81, 7, (m = h_reg(T0), &m));
    e4(E, 4096 - a->size);
    c = cold_new(t, COLD_EXEC, e_jcc(E, CC_A));
    (void)c;
    e_alu_load(E, 1, 5, T0, h_mem(T1, tag));
    e_mov_load(E, T1, h_mem(T1, add));
    e_lea(E, T1, h_sib(T1, T0, 0, 0));
    e_mov_rr32(E, T0, host_of[b->reg]);
    e_op(E, 0, 0, 0x83, 4, (m = h_reg(T0), &m)); /* and ecx, bits - 1 */
    e1(E, w ? 63 : 31);
    m = h_mem(T1, 0);
    e_op(E, fl | (in->lock ? E_LOCK : 0), 1, 0x83 | row << 3, T0, &m);
    return true;
}

static bool emit_cmpxchg_pair(struct tr *t, const struct x86_insn *in)
{
    bool w = in->op == X86_OP_CMPXCHG16B, ok;
    struct hop m;

    t->align = w ? 15 : 0;
    ok = insn_ea(t, in, w ? 16 : 8, X86_ACC_WRITE, true, &m);
    t->align = 0;
    if (!ok)
        return false;
    if (m.base == T0 || m.index == T0)
        return false;
    e_mov_rr(E, T0, G_CX);
    e_op(E, (w ? E_W : 0) | (in->lock ? E_LOCK : 0), 1, 0xc7, 1, &m);
    return true;
}

/* ---- vectors and x87: as they are, with the memory operand and general registers renamed ---- */

static bool gpr_is_rm(const struct x86_insn *in)
{
    if (in->map == 1)
        return in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a || in->opcode == 0xc4;
    return in->map == 3 && ((in->opcode >= 0x14 && in->opcode <= 0x17) || in->opcode == 0x20 || in->opcode == 0x22);
}

/* VEX.W outside 64-bit mode is ignored where it chooses the size of a general register. */
static bool w_is_gpr_size(const struct x86_insn *in)
{
    if (in->map == 1)
        return in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a || in->opcode == 0x2c || in->opcode == 0x2d;
    return in->map == 3 && (in->opcode == 0x16 || in->opcode == 0x22);
}

static void live_check(struct tr *t, const uint64_t *dead, const uint8_t *thunk)
{
    uint8_t *ok;

    t->r11 = -1;

    e_mov_load(E, T0, h_abs(dead));
    ok = e_jrcxz(E);
    e_bind(e_call(E), thunk_rw(t, thunk));
    e_bind8(E, ok);
}

static bool emit_vec(struct tr *t, const struct x86_insn *in)
{
    bool x87 = in->attr & (X86_A_FPU | X86_A_MMX), vec = in->attr & X86_A_FPEXC, mem = in->has_modrm && (in->modrm & 0xc0) != 0xc0;
    unsigned reg = ((in->modrm >> 3) & 7), rm = in->modrm & 7, vv = in->vvvv, w = in->rex & 8 ? 1 : 0, fl;
    int64_t imm = in->imm;
    const struct x86_operand *gpr = NULL, *mo = NULL;
    struct x86_vec_bound bound;
    struct ro r = { 0 };
    struct hop m;

    switch (in->op) {
    case X86_OP_FWAIT:
        return !(t->key & (X86_KEY_NOFPU | JKEY_X87_SLOW));
    case X86_OP_VEC_XMM0: case X86_OP_PCMPESTRI: case X86_OP_PCMPESTRM: case X86_OP_PCMPISTRI: case X86_OP_PCMPISTRM:
        vec = true;
        break;
    case X86_OP_VZEROUPPER: case X86_OP_VZEROALL:
        if (!t->m64)
            return false;
        vec = true;
        break;
    case X86_OP_VEC: case X86_OP_VEC_FLAGS: case X86_OP_X87: case X86_OP_X87_FCMOV: case X86_OP_X87_FCOMI:
    case X86_OP_FNSTCW: case X86_OP_FNSTSW: case X86_OP_EMMS:
        break;
    default:
        return false;
    }
    if (t->key & (x87 ? X86_KEY_NOFPU : in->attr & X86_A_VEX ? X86_KEY_NOAVX : X86_KEY_NOSSE))
        return false;
    if ((in->attr & X86_A_SSE) && (t->key & X86_KEY_NOSSE))
        return false;
    if ((x87 && (t->key & JKEY_X87_SLOW)) || ((in->attr & X86_A_FPEXC) && (t->key & JKEY_SSE_SLOW)))
        return false;
    for (unsigned i = 0; i < in->nops; i++) {
        if (in->o[i].kind == X86_O_VEC)
            vec = true;
        else if (in->o[i].kind == X86_O_GPR)
            gpr = &in->o[i];
        else if (in->o[i].kind == X86_O_MEM)
            mo = &in->o[i];
    }
    x86_vec_bind(t->vp, in, &bound);
    if (!bound.stub || (mem && !mo) || in->vsib || in->immsize > 1)
        return false;
    if (vec && !t->vchecked)
        live_check(t, &t->j->vdead, t->j->t_vload);
    if (x87 && !t->xchecked) {
        live_check(t, &t->j->x87dead, t->j->t_x87load);
        m = CPU(x87_ptrs);
        e_op(E, 0, 0, 0xc6, 0, &m);
        e1(E, 0);
    }
    if (t->m64) {
        reg |= in->rex & 4 ? 8 : 0;
        rm |= in->rex & 1 ? 8 : 0;
    } else {
        vv &= 7;
        if (in->vex && (w_is_gpr_size(in) || in->op == X86_OP_PCMPESTRI || in->op == X86_OP_PCMPESTRM))
            w = 0;
        if (in->nops == 4 && in->o[3].kind == X86_O_VEC)
            imm &= 0x7f;
    }
    m = h_reg(rm);
    if (mem) {
        bool ok;

        t->align = bound.mem_align - 1u;
        ok = bound.mem_len && insn_ea(t, in, bound.mem_len, bound.mem_acc & X86_WR ? X86_ACC_WRITE : X86_ACC_READ,
                                      gpr && is_home(gpr->reg), &m);
        t->align = 0;
        if (!ok)
            return false;
    }
    if (gpr && in->map) {
        r = ro_begin(t, gpr, T0, true);
        if (gpr_is_rm(in) && !mem)
            m = h_reg(r.reg);
        else
            reg = r.reg;
    }
    if (in->vex && !in->has_modrm) { /* VZEROUPPER, VZEROALL */
        e1(E, 0xc5), e1(E, in->vexl ? 0xfc : 0xf8), e1(E, 0x77);
    } else if (in->vex) {
        e_vex(E, w, in->pp, in->vexl, in->map, in->opcode, reg, vv, &m);
    } else {
        fl = (w ? E_W : 0) | (in->pp == 1 ? E_66 : in->pp == 2 ? E_F3 : in->pp == 3 ? E_F2 : 0);
        if (!in->has_modrm) {
            e1(E, 0x0f), e1(E, in->opcode); /* EMMS */
        } else {
            e_op(E, fl, in->map, in->opcode, reg, &m);
        }
    }
    if (in->immsize)
        e1(E, (uint8_t)imm);
    if (gpr && in->map && (gpr->flags & X86_WR))
        ro_end(t, &r);
    if (in->op == X86_OP_PCMPESTRI || in->op == X86_OP_PCMPISTRI)
        e_mov_rr32(E, G_CX, RCX);
    t->vchecked = t->vchecked || vec;
    t->xchecked = t->xchecked || x87;
    return true;
}

/* @return false: nothing usable was emitted, C executes it. */
static bool emit_native(struct tr *t, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    struct hop m;
    struct ro r;

    switch (in->op) {
    case X86_OP_ADD: return emit_alu(t, in, 0);
    case X86_OP_OR: return emit_alu(t, in, 1);
    case X86_OP_ADC: return emit_alu(t, in, 2);
    case X86_OP_SBB: return emit_alu(t, in, 3);
    case X86_OP_AND: return emit_alu(t, in, 4);
    case X86_OP_SUB: return emit_alu(t, in, 5);
    case X86_OP_XOR: return emit_alu(t, in, 6);
    case X86_OP_CMP: return emit_alu(t, in, 7);
    case X86_OP_TEST:
        if (b->kind == X86_O_IMM)
            return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 0, a->size == 8 ? 4 : a->size);
        return two_op(t, in, 0, a->size == 1 ? 0x84 : 0x85, 0, 0);
    case X86_OP_NOT: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 2, 0);
    case X86_OP_NEG: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 3, 0);
    case X86_OP_MUL: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 4, 0);
    case X86_OP_IMUL1: return one_op(t, in, 0, a->size == 1 ? 0xf6 : 0xf7, 5, 0);
    case X86_OP_INC: return one_op(t, in, 0, a->size == 1 ? 0xfe : 0xff, 0, 0);
    case X86_OP_DEC: return one_op(t, in, 0, a->size == 1 ? 0xfe : 0xff, 1, 0);
    case X86_OP_DIV: case X86_OP_IDIV: return emit_div(t, in);
    case X86_OP_ROL: return emit_shift(t, in, 0);
    case X86_OP_ROR: return emit_shift(t, in, 1);
    case X86_OP_RCL: return emit_shift(t, in, 2);
    case X86_OP_RCR: return emit_shift(t, in, 3);
    case X86_OP_SHL: return emit_shift(t, in, 4);
    case X86_OP_SHR: return emit_shift(t, in, 5);
    case X86_OP_SAR: return emit_shift(t, in, 7);
    case X86_OP_SHLD: case X86_OP_SHRD:
        if (in->o[2].kind != X86_O_IMM)
            return false;
        if (a->kind == X86_O_MEM) {
            if (!insn_ea(t, in, a->size, X86_ACC_WRITE, is_home(b->reg), &m))
                return false;
            r = ro_begin(t, b, T0, true);
            e_op(E, size_flags(a->size), 1, in->op == X86_OP_SHLD ? 0xa4 : 0xac, r.reg, &m);
        } else {
            struct ro s;

            r = ro_begin(t, a, T0, true);
            s = ro_begin(t, b, T1, true);
            m = h_reg(r.reg);
            e_op(E, size_flags(a->size), 1, in->op == X86_OP_SHLD ? 0xa4 : 0xac, s.reg, &m);
            e1(E, (uint8_t)in->imm);
            ro_end(t, &r);
            return true;
        }
        e1(E, (uint8_t)in->imm);
        return true;
    case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC: {
        unsigned row = in->op - X86_OP_BT + 4;

        if (b->kind == X86_O_IMM)
            return one_op(t, in, 1, 0xba, row, 1);
        if (a->kind == X86_O_MEM)
            return emit_bt_mem(t, in);
        return two_op(t, in, 1, 0x83 | row << 3, 0, 0);
    }
    case X86_OP_MOV: return emit_mov(t, in);
    case X86_OP_MOVNTI: return two_op(t, in, 0, 0x89, 0, 0);
    case X86_OP_MOVZX: return two_op(t, in, 1, 0, b->size == 1 ? 0xb6 : 0xb7, 0);
    case X86_OP_MOVSX: return two_op(t, in, 1, 0, b->size == 1 ? 0xbe : 0xbf, 0);
    case X86_OP_MOVSXD: return two_op(t, in, 0, 0, 0x63, 0);
    case X86_OP_LEA: return emit_lea(t, in);
    case X86_OP_IMUL2: return two_op(t, in, 1, 0, 0xaf, 0);
    case X86_OP_IMUL3: {
        bool s8 = fits8(in->imm);

        if (!two_op(t, in, 0, 0, s8 ? 0x6b : 0x69, 0))
            return false;
        /* The immediate comes before the store to a home: emitted there when there is none. */
        if (is_home(a->reg))
            return false;
        emit_imm(t, s8 ? 1 : a->size == 2 ? 2 : 4, in->imm);
        return true;
    }
    case X86_OP_CMOVCC: {
        struct x86_insn rw = *in;

        rw.o[0].flags |= X86_RD;
        return two_op(t, &rw, 1, 0, 0x40 | in->cond, 0);
    }
    case X86_OP_SETCC:
        if (a->kind == X86_O_MEM) {
            if (!insn_ea(t, in, 1, X86_ACC_WRITE, false, &m))
                return false;
            e_op(E, 0, 1, 0x90 | in->cond, 0, &m);
            return true;
        }
        r = ro_begin(t, a, T0, true);
        m = h_reg(r.reg);
        e_op(E, E_BYTE_RM, 1, 0x90 | in->cond, 0, &m);
        ro_end(t, &r);
        return true;
    case X86_OP_XCHG: {
        unsigned op = a->size == 1 ? 0x86 : 0x87;

        if (b->kind == X86_O_MEM) {
            struct x86_insn sw = *in;

            sw.o[0] = in->o[1];
            sw.o[1] = in->o[0];
            return two_op(t, &sw, 0, op, 0, 0);
        }
        return two_op(t, in, 0, op, 0, 0);
    }
    case X86_OP_XADD: return two_op(t, in, 1, a->size == 1 ? 0xc0 : 0xc1, 0, 0);
    case X86_OP_CMPXCHG:
        if (a->kind != X86_O_MEM)
            return false;
        return two_op(t, in, 1, a->size == 1 ? 0xb0 : 0xb1, 0, 0);
    case X86_OP_BSWAP:
        if (a->size < 4)
            return false;
        r = ro_begin(t, a, T0, true);
        e1(E, 0x40 | (a->size == 8 ? 8 : 0) | (r.reg & 8 ? 1 : 0));
        e1(E, 0x0f);
        e1(E, 0xc8 | (r.reg & 7));
        ro_end(t, &r);
        return true;
    case X86_OP_CBW: case X86_OP_CWD:
        if (in->osize == 2)
            e1(E, 0x66);
        else if (in->osize == 8)
            e1(E, 0x48);
        e1(E, in->op == X86_OP_CBW ? 0x98 : 0x99);
        return true;
    case X86_OP_LAHF: e1(E, 0x9f); return true;
    case X86_OP_SAHF: e1(E, 0x9e); return true;
    case X86_OP_CMC: e1(E, 0xf5); return true;
    case X86_OP_CLC: e1(E, 0xf8); return true;
    case X86_OP_STC: e1(E, 0xf9); return true;
    case X86_OP_NOP: return true;
    case X86_OP_PAUSE: e1(E, 0xf3), e1(E, 0x90); return true;
    case X86_OP_LFENCE: e1(E, 0x0f), e1(E, 0xae), e1(E, 0xe8); return true;
    case X86_OP_MFENCE: e1(E, 0x0f), e1(E, 0xae), e1(E, 0xf0); return true;
    case X86_OP_SFENCE: e1(E, 0x0f), e1(E, 0xae), e1(E, 0xf8); return true;
    case X86_OP_CMPXCHG8B: case X86_OP_CMPXCHG16B: return emit_cmpxchg_pair(t, in);
    case X86_OP_CLI: case X86_OP_STI: case X86_OP_SWAPGS: case X86_OP_CLAC: case X86_OP_STAC:
        return emit_system(t, in);
    case X86_OP_CLD: eflags_change(t, &t->j->mask_no_df, 0); return true;
    case X86_OP_PUSHF: return emit_pushf(t, in);
    case X86_OP_PUSH: return emit_push(t, in);
    case X86_OP_POP: return emit_pop(t, in);
    case X86_OP_LEAVE: return emit_leave(t, in);
    case X86_OP_BSF: case X86_OP_BSR: case X86_OP_POPCNT: case X86_OP_LZCNT: case X86_OP_TZCNT:
    case X86_OP_MOVBE: case X86_OP_CRC32: case X86_OP_ADCX: case X86_OP_ADOX:
    case X86_OP_ANDN: case X86_OP_BEXTR: case X86_OP_BZHI: case X86_OP_PDEP: case X86_OP_PEXT:
    case X86_OP_RORX: case X86_OP_SARX: case X86_OP_SHLX: case X86_OP_SHRX: case X86_OP_MULX:
        return emit_raw_gpr(t, in, false);
    case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR:
        return emit_raw_gpr(t, in, true);
    default:
        return in->op >= X86_OP_X87 && emit_vec(t, in);
    }
}

/* A call of C that executes the instruction. */
static void emit_site(struct tr *t, const uint8_t *thunk, const struct jsite *s)
{
    uint8_t *rel = e_call(E);

    e_bind(rel, thunk_rw(t, thunk));
    memcpy(E->p, s, sizeof(*s));
    E->p += sizeof(*s);
}

static struct jsite site_of(const struct tr *t, unsigned i)
{
    const struct ti *ti = &t->ti[i];

    return (struct jsite){ .block = t->blockno, .off = ti->off, .len = ti->in.len,
                           .view = ti->view, .flags = ti->in.attr & X86_A_END ? JS_END : 0 };
}

static bool pool_add(struct tr *t, const struct x86_insn *in, uint32_t *ret)
{
    if (t->j->npool >= JIT_MAX_POOL) {
        t->j->want_reset = true;
        return false;
    }
    *ret = t->j->npool;
    t->j->pool[t->j->npool++] = *in;
    return true;
}

static void emit_exec(struct tr *t, unsigned i)
{
    struct jsite s = site_of(t, i);

    t->r11 = -1;

    if (!pool_add(t, &t->ti[i].in, &s.arg))
        s.arg = 0;
    s.next = off_of(t, E->p) + 5 + sizeof(s);
    emit_site(t, t->j->t_exec, &s);
}

static void emit_cold(struct tr *t)
{
    for (unsigned i = 0; i < t->ncold; i++) {
        struct cold *c = &t->cold[i];
        struct jsite s = site_of(t, c->ti);
        struct ea a;

        e_bind(c->from, E->p);
        if (c->from2)
            e_bind(c->from2, E->p);
        s.next = t->ti[c->ti + 1].host;
        s.flags |= c->flags;
        switch (c->kind) {
        case COLD_MISS:
            if (c->stack)
                a = (struct ea){ X86_RSP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, c->disp };
            else if (t->ti[c->ti].in.op == X86_OP_LEAVE)
                a = (struct ea){ X86_RBP, X86_REG_NONE, 0, X86_SEG_NONE, !t->m64, 0 };
            else
                ea_of(t, &t->ti[c->ti].in, t->ti[c->ti].off, &a);
            emit_ea(t, &a, T0, T1);
            s.n = c->n;
            s.acc = c->acc;
            s.align = c->align;
            s.glo = c->glo;
            s.gn = c->gn;
            s.retry = off_of(t, c->retry);
            emit_site(t, t->j->t_miss, &s);
            break;
        case COLD_LINK:
            e_mov_imm(E, T0, c->target);
            s.arg = off_of(t, c->from);
            emit_site(t, t->j->t_link, &s);
            break;
        case COLD_EXIT:
            e_mov_imm(E, T0, c->target);
            e_bind(e_jmp(E), thunk_rw(t, t->j->t_ripexit));
            break;
        case COLD_EXEC:
            if (!pool_add(t, &t->ti[c->ti].in, &s.arg))
                s.arg = 0;
            emit_site(t, t->j->t_exec, &s);
            break;
        }
    }
}

/* The entries of a block, in front of its body. */
static void emit_entries(struct tr *t, struct jblock *b, uint8_t **ret_sigmiss)
{
    struct hop rcx = h_reg(T0);
    unsigned live = t->ti[0].live_in;
    uint8_t *ok;

    /* From an indirect branch: rcx is where the guest goes. */
    b->ind = off_of(t, E->p);
    if (!live) {
        if (fits32((int64_t)t->rip)) {
            e_alu_imm(E, 1, 7, rcx, (int32_t)t->rip);
        } else {
            e_mov_imm(E, T1, t->rip);
            e_alu_load(E, 1, 7, T0, h_reg(T1));
        }
        e_bind(e_jcc(E, CC_NE), thunk_rw(t, t->j->t_dispatch));
    } else {
        e_mov_imm(E, T1, 0 - t->rip);
        e_lea(E, T0, h_sib(T0, T1, 0, 0));
        ok = e_jrcxz(E);
        e_mov_imm(E, T1, t->rip);
        e_lea(E, T0, h_sib(T0, T1, 0, 0));
        e_bind(e_jmp(E), thunk_rw(t, t->j->t_dispatch));
        e_bind8(E, ok);
    }
    poll(t, t->rip, live);
    /* From another page by a direct branch. */
    b->sigent = off_of(t, E->p);
    if (!live) {
        e_op(E, 0, 0, 0x81, 7, &(struct hop){ .mem = true, .base = NOREG, .index = NOREG,
             .disp = (int32_t)(uintptr_t)&t->j->fsig[t->cls][jit_fsig_slot(t->rip)] });
        e4(E, b->sig);
        *ret_sigmiss = e_jcc(E, CC_NE);
    } else {
        e_mov_load32(E, T0, h_abs(&t->j->fsig[t->cls][jit_fsig_slot(t->rip)]));
        e_lea32(E, T0, h_mem(T0, -(int32_t)b->sig));
        ok = e_jrcxz(E);
        *ret_sigmiss = e_jmp(E);
        e_bind8(E, ok);
    }
    b->main = off_of(t, E->p);
}

/* ---- which accesses share a check ------------------------------------------------------------------------ */

struct roots { uint16_t root[16]; int64_t off[16]; uint16_t next; };

static void root_new(struct roots *r, unsigned g)
{
    r->root[g] = r->next++;
    r->off[g] = 0;
}

static int group_join(struct tr *t, const struct roots *r, unsigned g, int64_t disp, unsigned n, unsigned acc)
{
    int64_t lo = r->off[g] + disp, hi = lo + n;

    for (unsigned i = t->ngroups; i-- > 0;) {
        struct group *x = &t->g[i];
        int64_t nlo = lo < x->lo ? lo : x->lo, nhi = hi > x->hi ? hi : x->hi;

        if (x->root != r->root[g] || !x->open || nhi - nlo > GROUP_SPAN)
            continue;
        x->lo = nlo;
        x->hi = nhi;
        x->acc |= (uint8_t)acc;
        x->members++;
        return (int)i;
    }
    if (t->ngroups == MAX_GROUPS)
        return -1;
    t->g[t->ngroups] = (struct group){ r->root[g], (uint8_t)acc, 1, true, false, lo, hi };
    return (int)t->ngroups++;
}

/* The explicit operand, when it is a base register and a constant. */
static void group_operand(struct tr *t, struct ti *ti, const struct roots *r)
{
    const struct x86_insn *in = &ti->in;

    if (in->asize != 8 || in->base >= 16 || is_home(in->base) || in->index != X86_REG_NONE || in->vsib || in->seg == X86_FS ||
        in->seg == X86_GS || in->disp > 1 << 30 || in->disp < -(1 << 30) || (in->attr & X86_A_ALIGN) || in->op == X86_OP_CMPXCHG16B || in->op == X86_OP_NOP)
        return;
    if (in->op >= X86_OP_BT && in->op <= X86_OP_BTC && in->o[1].kind != X86_O_IMM)
        return;
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];

        if (o->kind != X86_O_MEM || !o->size || o->size > 32 || !(o->flags & X86_RW))
            continue;
        ti->gmem = (int8_t)group_join(t, r, in->base, in->disp, o->size, o->flags & X86_WR ? X86_ACC_WRITE : X86_ACC_READ);
        ti->omem = r->off[in->base];
        return;
    }
}

static void group_stack(struct tr *t, struct ti *ti, const struct roots *r, int64_t disp, unsigned acc)
{
    ti->gstack = (int8_t)group_join(t, r, X86_RSP, disp, 8, acc);
    ti->ostack = r->off[X86_RSP];
}

/* What @in does to registers as far as bases go.  Memory safety stands on this: an operation that is not known to
 * change nothing but its operands makes every base a new one. */
static void root_step(struct roots *r, const struct x86_insn *in)
{
    const struct x86_operand *a = &in->o[0], *b = &in->o[1];
    bool r64 = a->kind == X86_O_GPR && a->size == 8;

    switch (in->op) {
    case X86_OP_ADD: case X86_OP_SUB:
        if (r64 && b->kind == X86_O_IMM && fits32(in->imm)) {
            r->off[a->reg] += in->op == X86_OP_ADD ? in->imm : -in->imm;
            return;
        }
        break;
    case X86_OP_INC: case X86_OP_DEC:
        if (r64) {
            r->off[a->reg] += in->op == X86_OP_INC ? 1 : -1;
            return;
        }
        break;
    case X86_OP_MOV:
        if (r64 && b->kind == X86_O_GPR) {
            r->root[a->reg] = r->root[b->reg];
            r->off[a->reg] = r->off[b->reg];
            return;
        }
        break;
    case X86_OP_LEA:
        if (r64 && in->asize == 8 && in->base < 16 && in->index == X86_REG_NONE) {
            int64_t off = r->off[in->base] + in->disp;

            r->root[a->reg] = r->root[in->base];
            r->off[a->reg] = off;
            return;
        }
        break;
    case X86_OP_PUSH: case X86_OP_PUSHF:
        if (in->osize == 8)
            r->off[X86_RSP] -= 8;
        else
            root_new(r, X86_RSP);
        return;
    case X86_OP_POP:
        if (in->osize == 8)
            r->off[X86_RSP] += 8;
        else
            root_new(r, X86_RSP);
        break;
    case X86_OP_LEAVE:
        if (in->osize != 8) {
            root_new(r, X86_RSP);
            root_new(r, X86_RBP);
            return;
        }
        r->root[X86_RSP] = r->root[X86_RBP];
        r->off[X86_RSP] = r->off[X86_RBP] + 8;
        root_new(r, X86_RBP);
        return;
    case X86_OP_OR: case X86_OP_ADC: case X86_OP_SBB: case X86_OP_AND: case X86_OP_XOR: case X86_OP_CMP: case X86_OP_TEST:
    case X86_OP_NOT: case X86_OP_NEG: case X86_OP_IMUL2: case X86_OP_IMUL3:
    case X86_OP_ROL: case X86_OP_ROR: case X86_OP_RCL: case X86_OP_RCR: case X86_OP_SHL: case X86_OP_SHR: case X86_OP_SAR:
    case X86_OP_SHLD: case X86_OP_SHRD: case X86_OP_BT: case X86_OP_BTS: case X86_OP_BTR: case X86_OP_BTC:
    case X86_OP_BSF: case X86_OP_BSR: case X86_OP_POPCNT: case X86_OP_LZCNT: case X86_OP_TZCNT: case X86_OP_ANDN:
    case X86_OP_BEXTR: case X86_OP_BLSI: case X86_OP_BLSMSK: case X86_OP_BLSR: case X86_OP_BZHI: case X86_OP_MULX:
    case X86_OP_PDEP: case X86_OP_PEXT: case X86_OP_RORX: case X86_OP_SARX: case X86_OP_SHLX: case X86_OP_SHRX:
    case X86_OP_ADCX: case X86_OP_ADOX: case X86_OP_CRC32: case X86_OP_SETCC: case X86_OP_CMOVCC:
    case X86_OP_MOVSX: case X86_OP_MOVZX: case X86_OP_MOVSXD: case X86_OP_MOVBE: case X86_OP_MOVNTI: case X86_OP_BSWAP:
    case X86_OP_XCHG: case X86_OP_XADD: case X86_OP_CMC: case X86_OP_CLC: case X86_OP_STC: case X86_OP_CLD:
    case X86_OP_NOP: case X86_OP_PAUSE: case X86_OP_JCC: case X86_OP_CLI: case X86_OP_STI: case X86_OP_SAHF:
    case X86_OP_VEC: case X86_OP_VEC_FLAGS: case X86_OP_VEC_XMM0: case X86_OP_VZEROUPPER: case X86_OP_X87:
    case X86_OP_LFENCE: case X86_OP_MFENCE: case X86_OP_SFENCE: case X86_OP_STMXCSR: case X86_OP_LDMXCSR:
        break; /* nothing but their operands */
    case X86_OP_CMPXCHG: case X86_OP_CBW: case X86_OP_LAHF:
        root_new(r, X86_RAX);
        break;
    case X86_OP_MUL: case X86_OP_IMUL1: case X86_OP_DIV: case X86_OP_IDIV: case X86_OP_CWD: case X86_OP_CMPXCHG8B:
    case X86_OP_CMPXCHG16B:
        root_new(r, X86_RAX);
        root_new(r, X86_RDX);
        break;
    default:
        for (unsigned g = 0; g < 16; g++)
            root_new(r, g);
        return;
    }
    for (unsigned i = 0; i < in->nops; i++)
        if (in->o[i].kind == X86_O_GPR && (in->o[i].flags & X86_WR))
            root_new(r, in->o[i].flags & X86_F_HIGH8 ? in->o[i].reg - 4u : in->o[i].reg);
}

static void find_groups(struct tr *t)
{
    struct roots r = { .next = 0 };

    t->ngroups = 0;
    t->r11 = -1;
    for (unsigned g = 0; g < 16; g++)
        root_new(&r, g);
    for (unsigned i = 0; i < t->n; i++) {
        struct ti *ti = &t->ti[i];
        const struct x86_insn *in = &ti->in;

        ti->gmem = ti->gstack = -1;
        if (!t->m64 || (t->key & JKEY_NOGROUP))
            continue;
        group_operand(t, ti, &r);
        switch (in->op) {
        case X86_OP_PUSH: case X86_OP_PUSHF: case X86_OP_CALL_NEAR: case X86_OP_CALL_IND:
            if (in->osize == 8)
                group_stack(t, ti, &r, -8, X86_ACC_WRITE);
            break;
        case X86_OP_POP: case X86_OP_RET_NEAR:
            if (in->osize == 8)
                group_stack(t, ti, &r, 0, X86_ACC_READ);
            break;
        case X86_OP_LEAVE:
            if (in->osize == 8) {
                ti->gmem = (int8_t)group_join(t, &r, X86_RBP, 0, 8, X86_ACC_READ);
                ti->omem = r.off[X86_RBP];
            }
            break;
        case X86_OP_STAC: case X86_OP_CLAC:
            for (unsigned k = 0; k < t->ngroups; k++)
                t->g[k].open = false;
            break;
        }
        root_step(&r, in);
    }
    /* Alone, an access is better off with its own check. */
    for (unsigned i = 0; i < t->n; i++) {
        struct ti *ti = &t->ti[i];

        if (ti->gmem >= 0 && t->g[ti->gmem].members < 2)
            ti->gmem = -1;
        if (ti->gstack >= 0 && t->g[ti->gstack].members < 2)
            ti->gstack = -1;
    }
}

/* Guest bytes and mnemonics, and where the host code is and what it is. */
static void dump_block(const struct tr *t, const struct jblock *b)
{
    FILE *f = t->j->dump;

    fprintf(f, "block %u rip 0x%llx phys 0x%llx key 0x%x host 0x%x..0x%x main 0x%x\n", t->blockno,
            (unsigned long long)b->rip, (unsigned long long)b->phys, b->key, b->ind, b->end, b->main);
    for (unsigned i = 0; i < t->n; i++) {
        const struct ti *ti = &t->ti[i];

        fprintf(f, "  guest +%u %-8s", ti->off, x86_op_name(ti->in.op));
        for (unsigned k = 0; k < ti->in.len && b->page2 == ~0ull; k++)
            fprintf(f, " %02x", t->page[(b->phys & 4095) + ti->off + k]);
        fprintf(f, "  live %02x-%02x\n  host 0x%x", ti->live_in, ti->live_out, ti->host);
        for (uint32_t k = ti->host; k < t->ti[i + 1].host; k++)
            fprintf(f, " %02x", t->base[k]);
        fprintf(f, "\n");
    }
}

struct jblock *jit_translate(struct hv_vp *vp, uint64_t lin, const uint8_t *page, uint64_t ram_page, uint32_t key)
{
    static _Thread_local struct tr tr_;
    struct tr *t = &tr_;
    struct jit *j = jit_of(vp);
    unsigned off = (unsigned)(lin & 4095), live;
    uint64_t page2 = ~0ull;
    uint8_t *sigmiss, *sigmiss2 = NULL;
    struct jblock *b;
    bool ended = false;

    if (x86_vec_full(vp) || j->used > JIT_CACHE_SIZE / 10 * 9 || j->nblocks >= JIT_MAX_BLOCKS || j->npool + 4 * JIT_MAX_INSNS >= JIT_MAX_POOL ||
        j->next_sig > 0x7ffffff0) {
        j->want_reset = true;
        return NULL;
    }
    t->j = j;
    t->vp = vp;
    t->base = j->rw;
    t->e.p = j->rw + j->used;
    t->rip = vp->cpu.rip;
    t->key = key;
    t->m64 = key & X86_KEY_MODE64;
    t->cls = vp->mmu.view;
    t->tlb = vp->mmu.tlb;
    t->page = page;
    t->ram_page = ram_page;
    t->claimed = 0;
    t->n = t->ncold = 0;
    t->vchecked = t->xchecked = false;
    t->align = 0;

    while (t->n < JIT_MAX_INSNS - 1 && off < 4096) {
        struct ti *ti = &t->ti[t->n];
        unsigned avail = 4096 - off;

        int len;

        claim(t, off, X86_MAX_INSN);
        len = x86_decode(page + off, avail > X86_MAX_INSN ? X86_MAX_INSN : avail, (enum x86_mode)vp->cpu.mode, &ti->in);
        if (len == 0 && !t->n && avail < X86_MAX_INSN) {
            /* It goes on in the next page: a block of its own, entered through a test of that page too. */
            uint64_t lin2 = t->m64 ? lin + avail : (uint32_t)(lin + avail);
            const uint8_t *p2 = x86_fetch_page(vp, lin2, &page2);
            uint8_t buf[X86_MAX_INSN];

            if (!p2)
                return NULL;
            x86_code_claim(vp, page2, 1);
            memcpy(buf, page + off, avail);
            memcpy(buf + avail, p2, X86_MAX_INSN - avail);
            if (x86_decode(buf, X86_MAX_INSN, (enum x86_mode)vp->cpu.mode, &ti->in) <= 0)
                return NULL;
            ti->off = 0;
            t->n = 1;
            break;
        }
        if (len <= 0)
            break;
        ti->off = (uint16_t)(off - (lin & 4095));
        t->n++;
        off += ti->in.len;
        if (ends_block(t, &ti->in))
            break;
    }
    if (!t->n)
        return NULL;

    uint64_t end_rip = trunc_rip(t, t->rip + t->ti[t->n - 1].off + t->ti[t->n - 1].in.len);
    const struct x86_insn *last = &t->ti[t->n - 1].in;

    /* Liveness of flags, backwards. */
    if (last->op == X86_OP_JMP_NEAR || last->op == X86_OP_CALL_NEAR)
        live = peek(t, trunc_rip(t, end_rip + (uint64_t)last->imm));
    else if (ends_block(t, last))
        live = F_ALL;
    else
        live = peek(t, end_rip);
    for (unsigned i = t->n; i-- > 0;) {
        struct ti *ti = &t->ti[i];
        unsigned rd, wr;

        if (ti->in.op == X86_OP_JCC)
            live |= peek(t, trunc_rip(t, t->rip + ti->off + ti->in.len + (uint64_t)ti->in.imm));
        flag_use(&ti->in, &rd, &wr);
        if (j->exact)
            live = F_ALL;
        ti->live_out = (uint8_t)live;
        live = j->exact ? (unsigned)F_ALL : (live & ~wr) | rd;
        ti->live_in = (uint8_t)live;
    }

    find_groups(t);

    uint32_t sig = jit_sig(j, t->rip, ram_page, key & ~(uint32_t)JKEY_NOGROUP);

    uint32_t sig2 = sig && page2 != ~0ull ? jit_sig(j, end_rip, page2, key & ~(uint32_t)JKEY_NOGROUP) : 1;

    if (!sig || !sig2)
        return NULL;
    t->blockno = j->nblocks;
    b = &j->blocks[j->nblocks++];
    *b = (struct jblock){ .rip = t->rip, .phys = ram_page << 12 | (lin & 4095), .key = key, .cls = (uint8_t)t->cls,
                          .ninsns = (uint16_t)t->n, .len = (uint16_t)(end_rip - t->rip), .live_in = t->ti[0].live_in };
    b->sig = sig;
    b->sig2 = sig2;
    b->groups = t->ngroups > 0;
    b->page2 = page2;
    b->lines = t->claimed;
    t->cur = 0;
    emit_entries(t, b, &sigmiss);
    if (page2 != ~0ull) {
        uint8_t *ok;

        e_mov_load32(E, T0, h_abs(&j->fsig[t->cls][jit_fsig_slot(end_rip)]));
        e_lea32(E, T0, h_mem(T0, -(int32_t)sig2));
        ok = e_jrcxz(E);
        sigmiss2 = e_jmp(E);
        e_bind8(E, ok);
    }
    for (unsigned i = 0; i < t->n; i++) {
        struct ti *ti = &t->ti[i];
        uint8_t *start = E->p;
        unsigned ncold = t->ncold;
        struct group saved[MAX_GROUPS];
        bool ok = false;

        memcpy(saved, t->g, t->ngroups * sizeof(saved[0]));
        t->cur = i;
        ti->host = off_of(t, start);
        ti->view = (uint8_t)t->cls;
        ended = false;
        if (!ti->in.feature || hv_feature(vp->p, ti->in.feature)) {
            if ((ti->in.attr & X86_A_END) && !inline_system(t, &ti->in)) {
                int r = emit_branch(t, &ti->in);

                ok = r != 0;
                ended = r == 2;
            } else {
                ok = emit_native(t, &ti->in);
            }
        }
        if (!ok) {
            E->p = start;
            t->ncold = ncold;
            memcpy(t->g, saved, t->ngroups * sizeof(saved[0]));
            emit_exec(t, i);
            ended = ends_block(t, &ti->in);
        }
    }
    t->ti[t->n].host = off_of(t, E->p);
    if (!ended) {
        t->cur = t->n - 1;
        link_to(t, e_jmp(E), end_rip);
    }
    emit_cold(t);
    e_bind(sigmiss, E->p);
    if (sigmiss2)
        e_bind(sigmiss2, E->p);
    e_mov_imm(E, T0, t->rip);
    e_bind(e_jmp(E), thunk_rw(t, j->t_dispatch));
    b->drop = off_of(t, E->p);
    e_mov_imm(E, T0, t->rip);
    emit_site(t, j->t_drop, &(struct jsite){ .block = t->blockno });
    b->end = off_of(t, E->p);
    j->used = (b->end + 15) & ~15u;
    if (j->dump)
        dump_block(t, b);
    return b;
}
