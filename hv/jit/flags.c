/* SPDX-License-Identifier: BSD-2-Clause */
/* The translator: which arithmetic flags an instruction reads and writes, and which are live where.
 *
 * Reference: Intel SDM volume 1 appendix A. */
#include "hv/jit/tr.h"

static unsigned cond_reads(unsigned cc)
{
    static const uint8_t r[8] = { F_O, F_C, F_Z, F_C | F_Z, F_S, F_P, F_S | F_O, F_S | F_O | F_Z };

    return r[cc >> 1];
}

/* What @in reads and certainly writes of the flags.  Unknown operations read all. */
void tr_flag_use(const struct x86_insn *in, unsigned *rd, unsigned *wr)
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
    case X86_OP_X87_FCOMI: /* an unmasked #IA may leave flags alone */
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

/* Flags to xf and back; flags stay, no register is used up. */
void tr_flags_save(struct tr *t)
{
    struct hop m = h_abs(&t->j->xf);

    e_mov_store(E, h_abs(&t->j->xa), RAX);
    e1(E, 0x9f);                              /* lahf */
    e1(E, 0x0f), e1(E, 0x90), e1(E, 0xc0);    /* seto al */
    e_op(E, E_66, 0, 0x89, RAX, &m);
    e_mov_load(E, RAX, h_abs(&t->j->xa));
}

void tr_flags_load(struct tr *t)
{
    e_mov_store(E, h_abs(&t->j->xa), RAX);
    e_mov_load32(E, RAX, h_abs(&t->j->xf));
    e1(E, 0x04), e1(E, 0x7f), e1(E, 0x9e);    /* add al, 127; sahf */
    e_mov_load(E, RAX, h_abs(&t->j->xa));
}

/* System instructions that are emitted and after which the block goes on. */
bool tr_inline_system(const struct tr *t, const struct x86_insn *in)
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

bool tr_ends_block(const struct tr *t, const struct x86_insn *in)
{
    return (in->attr & X86_A_END) && in->op != X86_OP_JCC && !tr_inline_system(t, in);
}

void tr_claim(struct tr *t, unsigned off, unsigned len)
{
    unsigned last = off + len - 1 > 4095 ? 4095 : off + len - 1;
    uint64_t lines = 1ull << (off / 64) | 1ull << (last / 64);

    if ((t->claimed & lines) == lines)
        return;
    t->claimed |= lines;
    x86_code_claim(t->vp, t->ram_page, lines);
}

/* Flags that are live at @rip, by looking at the code there; all when that is not in this page. */
unsigned tr_peek(struct tr *t, uint64_t rip)
{
    unsigned unknown = F_ALL, live = 0;

    if (t->j->exact)
        return F_ALL;
    for (unsigned i = 0; i < 10 && unknown; i++) {
        unsigned off = (unsigned)(rip & 4095), avail = 4096 - off, rd, wr;
        struct x86_insn in;

        if ((rip ^ t->rip) >> 12)
            break;
        tr_claim(t, off, X86_MAX_INSN);
        if (x86_decode(t->page + off, avail > X86_MAX_INSN ? X86_MAX_INSN : avail, (enum x86_mode)t->vp->cpu.mode, &in) <= 0)
            break;
        tr_flag_use(&in, &rd, &wr);
        live |= rd & unknown;
        unknown &= ~wr;
        rip += in.len;
        if (in.op == X86_OP_JMP_NEAR && !tr_short_target(t, &in))
            rip += (uint64_t)in.imm;
        else if (tr_ends_block(t, &in) || in.op == X86_OP_JCC)
            break;
    }
    return live | unknown;
}

/* Flags that are live where the direct branch @in, which ends at @next, leads to. */
unsigned tr_peek_target(struct tr *t, const struct x86_insn *in, uint64_t next)
{
    return tr_short_target(t, in) ? (unsigned)F_ALL : tr_peek(t, trunc_rip(t, next + (uint64_t)in->imm));
}
