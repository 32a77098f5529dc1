/* SPDX-License-Identifier: BSD-2-Clause */
/* Inside of the translator: the block that is being made, shared by its parts.
 *
 * flags.c liveness of flags; loans.c which guest registers live in host registers; check.c addresses and checked accesses; insn.c integer and system instructions;
 * vector.c vectors and x87; branch.c control flow and entries; translate.c the block as a whole. */
#ifndef MOBO_HV_JIT_TR_H
#define MOBO_HV_JIT_TR_H

#include "hv/jit/jit.h"

/* Arithmetic flags, for liveness. */
enum { F_C = 1, F_P = 2, F_A = 4, F_Z = 8, F_S = 16, F_O = 32, F_ALL = 63 };

/* Host register of a guest register where blocks begin and end; NOREG: lives in struct x86_cpu. */
extern const uint8_t jit_host_of[18];
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

enum cold_kind { COLD_MISS, COLD_SLOT, COLD_STACK, COLD_FIXED, COLD_LINK, COLD_EXIT, COLD_EXEC, COLD_RETS, COLD_HOT, COLD_UNEQUAL, COLD_BIAS };
struct cold {
    uint8_t kind, n, acc, flags;
    uint8_t ti;
    uint8_t *from, *from2;     /* rel32 fields that jump here; from2 or NULL */
    uint8_t *retry;
    uint8_t *again;            /* slot: the check without saving the flags; stack, fixed: behind the check */
    uint32_t slot;
    bool jc;                   /* unequal: by the jump cache, not by C */
    bool keep_flags;           /* slot, stack, fixed */
    bool host;                 /* slot: holds the host page */
    uint64_t target;           /* link, exit, unequal, bias: guest address, canonical */
    uint8_t align;
    int16_t glo;               /* group: see struct jsite */
    uint16_t gn;
    bool lent;                 /* it is left with loans in force */
    bool stack;                /* miss: the address is that of the stack: @disp from rsp */
    int32_t disp;
};

/* Accesses by one base register, moved only by constants, share a check; so do those by the same two, and those at fixed
 * addresses.  Offsets are from what the registers were at the root, or addresses.  @align (less one): what is at offset @phase has
 * to be aligned.  When it is done, @where holds what leads from the base register to host memory, or the host address of the
 * window (@whole). */
enum { MAX_GROUPS = 16, GROUP_SPAN = 512, ROOT_FIXED = 0xffff };
struct group {
    uint16_t root, index;      /* index: its root + 1, 0 none */
    uint8_t scale, align, acc, members;
    bool open, done, whole;
    int64_t lo, hi, phase;
    const uint64_t *where;
};

/* Within a block @host, that of guest register @from, holds guest register @to instead. */
enum { MAX_LOANS = 3 };
struct loan { uint8_t host, from, to; bool written; };

struct tr {
    struct emit e;
    struct jit *j;
    struct hv_vp *vp;
    uint8_t *base;             /* rw */
    uint64_t rip;              /* of the block, canonical when it floats; and so are all addresses of code here */
    uint64_t bias;             /* what is added here and now */
    bool floating;
    uint32_t key;
    uint32_t blockno;
    bool m64;
    unsigned cls;
    struct x86_tlb *tlb;
    const uint8_t *page;       /* guest page */
    uint8_t code[(JIT_MAX_INSNS + 1) * X86_MAX_INSN]; /* of the block: what was decoded, whatever becomes of the page meanwhile */
    uint64_t ram_page;
    uint64_t phys;             /* of the block */
    uint64_t claimed;          /* lines */
    bool vchecked, xchecked;   /* vector, x87 registers are known to be live from here on */
    bool xptrs;                /* x87_ptrs is known to be clear */
    unsigned align;            /* of the access that is being emitted, less one */
    bool more;                 /* its instruction has another one behind it */
    unsigned n, ncold, cur;
    struct group g[MAX_GROUPS];
    unsigned ngroups;
    bool hot;                  /* it runs often: more care pays */
    bool warm;                 /* it has run some times: checks are in line */
    bool counted;              /* its runs are */
    uint32_t slots;            /* offset of the last site with a slot */
    bool stack_taken[2];       /* by a group: the stack's slot for reads, for writes */
    int r11;                   /* group whose addend r11 holds, -1 none */
    uint8_t map[18];           /* host register of a guest register here, NOREG: lives in struct x86_cpu */
    struct loan loan[MAX_LOANS]; /* in force while @lent; see loans.c */
    unsigned nloans;
    bool lent;
    bool loop_polls;           /* a poll is there, */
    uint8_t *loop;             /* host code of the first instruction, with the loans in force; NULL: no way there */
    struct ti ti[JIT_MAX_INSNS];
    struct cold cold[JIT_MAX_INSNS * 4 + 8];
};

#define E (&t->e)
#define CPU(field) h_abs(&t->vp->cpu.field)
#define CPU_VP(field) h_abs(&t->vp->field)
#define HOME(g) h_abs(&t->vp->cpu.gpr[g])
/* The base of an address may be X86_REG_RIP where code floats: the bias. */
#define HOME_OR_BIAS(g) ((g) == X86_REG_RIP ? h_abs(&t->j->bias) : HOME(g))
static inline uint32_t off_of(const struct tr *t, const uint8_t *p) { return (uint32_t)(p - t->base); }
static inline uint8_t *thunk_rw(const struct tr *t, const uint8_t *rx) { return t->base + (rx - t->j->rx); }

static inline bool is_home(const struct tr *t, unsigned g) { return g == X86_REG_RIP || (g < 16 && t->map[g] == NOREG); }

static inline unsigned h_or_none(const struct tr *t, unsigned g) { return g >= 16 ? NOREG : t->map[g]; }
static inline uint64_t trunc_rip(const struct tr *t, uint64_t rip) { return t->m64 ? rip : (uint32_t)rip; }

/* The direct branch @in leads to 16 bits of where it seems to. */
static inline bool tr_short_target(const struct tr *t, const struct x86_insn *in) { return in->osize != (t->m64 ? 8 : 4); }

struct ea {
    uint8_t base, index, scale;   /* guest registers, X86_REG_NONE */
    uint8_t seg;                  /* X86_FS, X86_GS, or X86_SEG_NONE */
    bool a32;                     /* 32-bit address arithmetic */
    int64_t disp;
};

/* A register operand made usable: @T is taken when it lives in memory or is ah, bh, dh, ch. */
struct ro { uint8_t reg, g, kind; };
enum { RO_PLAIN, RO_HOME, RO_HIGH };

/* A register operand; ah, ch, dh and bh have other numbers than what they are parts of. */
static inline bool op_home(const struct tr *t, const struct x86_operand *o)
{
    return !(o->flags & X86_F_HIGH8) && is_home(t, o->reg);
}

static inline bool ro_needs_temp(const struct tr *t, const struct x86_operand *o)
{
    return (o->flags & X86_F_HIGH8) || is_home(t, o->reg);
}

static inline void lea_any(struct tr *t, bool a32, unsigned d, struct hop m)
{
    if (a32)
        e_lea32(E, d, m);
    else
        e_lea(E, d, m);
}

static inline unsigned size_flags(unsigned size)
{
    return size == 8 ? E_W : size == 2 ? E_66 : size == 1 ? E_BYTE_REG | E_BYTE_RM : 0;
}

static inline void emit_imm(struct tr *t, unsigned size, int64_t imm)
{
    if (size == 1)
        e1(E, (uint8_t)imm);
    else if (size == 2)
        e2(E, (uint16_t)imm);
    else
        e4(E, (uint32_t)imm);
}

static inline void sp_add(struct tr *t, int32_t d)
{
    if (!d)
        return;
    if (t->m64)
        e_lea(E, G_SP, h_mem(G_SP, d));
    else
        e_lea32(E, G_SP, h_mem(G_SP, d));
}

/* flags.c */
void tr_flag_use(const struct x86_insn *in, unsigned *rd, unsigned *wr);
bool tr_inline_system(const struct tr *t, const struct x86_insn *in);
bool tr_ends_block(const struct tr *t, const struct x86_insn *in);
void tr_claim(struct tr *t, unsigned off, unsigned len);
void tr_flags_save(struct tr *t);
void tr_flags_load(struct tr *t);
unsigned tr_peek(struct tr *t, uint64_t rip);
unsigned tr_peek_target(struct tr *t, const struct x86_insn *in, uint64_t next);

/* loans.c */
void tr_loans_choose(struct tr *t, bool loops);
void tr_loans_map(struct tr *t, bool lent);
void tr_loans_begin(struct tr *t);
void tr_loans_out(struct tr *t);
void tr_loans_in(struct tr *t);

/* check.c */
bool tr_ea_of(const struct tr *t, const struct x86_insn *in, unsigned off, struct ea *ret);
bool tr_emit_ea(struct tr *t, const struct ea *a, unsigned d, unsigned u);
bool tr_ea_one_reg(const struct tr *t, const struct ea *a);
struct cold *tr_cold_new(struct tr *t, unsigned kind, uint8_t *from);
bool tr_mem_access(struct tr *t, const struct ea *a, unsigned n, unsigned acc, bool second, bool keep_t0,
                       int grp, int64_t off, struct hop *ret);
bool tr_insn_ea(struct tr *t, const struct x86_insn *in, unsigned n, unsigned acc, bool keep_t0, struct hop *ret);
bool tr_stack_access(struct tr *t, int32_t disp, unsigned n, unsigned acc, bool second, bool keep_t0, struct hop *ret);
void tr_find_groups(struct tr *t);

/* insn.c */
struct ro tr_ro_begin(struct tr *t, const struct x86_operand *o, unsigned T, bool read);
void tr_ro_end(struct tr *t, const struct ro *r);
bool tr_emit_native(struct tr *t, const struct x86_insn *in);

/* vector.c */
void tr_vec_live(struct tr *t);
bool tr_emit_vec(struct tr *t, const struct x86_insn *in);

/* branch.c */
void tr_link_to(struct tr *t, uint8_t *rel, uint64_t target);
void tr_poll(struct tr *t, uint64_t target, unsigned live);
void tr_goto_guest(struct tr *t, uint64_t target, uint64_t from, unsigned live);
void tr_unequal(struct tr *t, uint64_t v);
void tr_guest_rip(struct tr *t, uint64_t rip);
uint8_t *tr_page_check(struct tr *t, uint64_t rip, uint32_t sig);
void tr_jmp_indirect(struct tr *t);
int tr_emit_branch(struct tr *t, const struct x86_insn *in);
void tr_emit_entries(struct tr *t, struct jblock *b, uint8_t *ret_no[2]);

#endif
