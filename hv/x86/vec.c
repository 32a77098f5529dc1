/* SPDX-License-Identifier: BSD-2-Clause */
/* Vector instructions: stub generator, stub cache, complete execution with faults.
 *
 * References: Intel SDM 2A chapter 2 (encodings, exception classes), SDM 1 chapters 10-14, 11.5 (SIMD
 * floating-point exceptions). */
#define _GNU_SOURCE
#include "hv/x86/vec_int.h"

#include <cpuid.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define likely(x) __builtin_expect(!!(x), 1)

enum {
    VEC_CODE_SIZE = 8 << 20,
    VEC_TABLE = 1 << 15, /* stubs; the hash table has twice as many slots */
    VEC_STUB_MAX = 256,
    VEC_RET_OFF = 0 /* the area begins with a lone RET, where faults continue */
};

struct vec_entry {
    uint64_t key[2];
    x86_vec_stub stub;
};

struct x86_vec {
    uint8_t *rw; /* owned: the writable and the executable view of one memfd */
    const uint8_t *rx;
    size_t used;
    unsigned count;
    struct vec_entry *table; /* owned, VEC_TABLE * 2, open addressing; stub NULL: free */
    bool warned_ferr;
    struct x86_cpu trial; /* state that a new stub is tried on */
    uint8_t trial_mem[64] __attribute__((aligned(64)));
};

static bool host_sha;

static uint32_t host_mxcsr(void)
{
    return __builtin_ia32_stmxcsr();
}
static void host_mxcsr_set(uint32_t v)
{
    __builtin_ia32_ldmxcsr(v);
}

/* ---- host faults inside stubs ---------------------------------------------------------------------------- */

static __thread __attribute__((tls_model("initial-exec"))) struct {
    const uint8_t *rx;           /* the area in use, NULL outside vec_run */
    volatile sig_atomic_t fault; /* signal number */
} vec_tls;

static struct sigaction vec_old_fpe, vec_old_ill;
static pthread_once_t vec_once = PTHREAD_ONCE_INIT;

/* A stub faulted: go on at the lone RET as if it had returned, with nothing stored.  The state at the fault
 * (x87, MXCSR with its flags) comes back with the signal frame. */
static void vec_signal(int sig, siginfo_t *si, void *ctx)
{
    ucontext_t *uc = ctx;
    const uint8_t *rip = (const uint8_t *)(uintptr_t)uc->uc_mcontext.gregs[REG_RIP];
    const struct sigaction *old = sig == SIGFPE ? &vec_old_fpe : &vec_old_ill;

    if (vec_tls.rx && rip >= vec_tls.rx && rip < vec_tls.rx + VEC_CODE_SIZE) {
        vec_tls.fault = sig;
        uc->uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)(vec_tls.rx + VEC_RET_OFF);
        return;
    }
    if (old->sa_flags & SA_SIGINFO) {
        old->sa_sigaction(sig, si, ctx);
    } else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN) {
        old->sa_handler(sig);
    } else {
        signal(sig, SIG_DFL); /* returning runs into it again, now fatally */
    }
}

static void vec_install(void)
{
    struct sigaction sa = { .sa_sigaction = vec_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    unsigned a, b, c, d;

    sigemptyset(&sa.sa_mask);
    sigaction(SIGFPE, &sa, &vec_old_fpe);
    sigaction(SIGILL, &sa, &vec_old_ill);
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d))
        host_sha = b & (1u << 29);
}

/* ---- emitter --------------------------------------------------------------------------------------------- */

struct emit {
    uint8_t *p;
};

static void e8(struct emit *e, unsigned v)
{
    *e->p++ = (uint8_t)v;
}
static void e32(struct emit *e, uint32_t v)
{
    st32(e->p, v);
    e->p += 4;
}

/* ModRM for [rdi + disp32]. */
static void e_cpu(struct emit *e, unsigned reg, size_t off)
{
    e8(e, 0x80 | (reg & 7) << 3 | 7);
    e32(e, (uint32_t)off);
}

static size_t off_gpr(unsigned n)
{
    return offsetof(struct x86_cpu, gpr) + 8 * n;
}
static size_t off_vec(unsigned n)
{
    return offsetof(struct x86_cpu, ymm) + sizeof(struct x86_ymm) * n;
}

/* mov rax-like, [rdi + off]; @store: the other way. */
static void e_mov64(struct emit *e, unsigned reg, size_t off, bool store)
{
    e8(e, 0x48);
    e8(e, store ? 0x89 : 0x8b);
    e_cpu(e, reg, off);
}

/* movups or vmovups of 16 or 32 bytes between vector register @n and its slot. */
static void e_vec(struct emit *e, unsigned n, bool vex, unsigned size, bool store)
{
    if (vex) {
        e8(e, 0xc4);
        e8(e, (n & 8 ? 0x00 : 0x80) | 0x61); /* ~R ~X ~B, map 0F */
        e8(e, 0x78 | (size == 32 ? 4 : 0));  /* W0, vvvv unused, L, no prefix */
    } else {
        if (n & 8)
            e8(e, 0x44);
        e8(e, 0x0f);
    }
    e8(e, store ? 0x11 : 0x10);
    e_cpu(e, n, off_vec(n));
}

static const uint8_t flags_load[] = { 0x04, 0x7f, 0x9e }; /* add al, 0x7f; sahf */
static const uint8_t flags_save[] = {
    0x9f, 0x0f, 0x90, 0xc0, 0x0f, 0xb7, 0xc0
}; /* lahf; seto al; movzx eax, ax */

static void e_flags(struct emit *e, bool store)
{
    if (store) {
        memcpy(e->p, flags_save, sizeof flags_save);
        e->p += sizeof flags_save;
        e8(e, 0x89);
        e_cpu(e, 0, offsetof(struct x86_cpu, fl));
    } else {
        e8(e, 0x8b);
        e_cpu(e, 0, offsetof(struct x86_cpu, fl));
        memcpy(e->p, flags_load, sizeof flags_load);
        e->p += sizeof flags_load;
    }
}

/* ---- normal form of an instruction ------------------------------------------------------------------------ */

/* What of the encoding and of the operands decides the stub; the cache key. */
struct form {
    uint8_t op; /* enum x86_op fits a byte */
    uint8_t vex, map, pp, opcode, modrm, rex, vvvv, vexl, imm, immsize;
    uint8_t gpr; /* guest register that rax stands for, 16 none */
    uint8_t gpr_acc;
    uint8_t pad[3];
};
_Static_assert(sizeof(struct form) == 16, "two words");
_Static_assert(X86_OP_COUNT < 256, "form.op");

/* Opcodes whose general register operand is ModRM.rm, not ModRM.reg. */
static bool gpr_is_rm(const struct x86_insn *in)
{
    if (in->map == 1)
        return in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a || in->opcode == 0xc4;
    return in->map == 3 &&
           ((in->opcode >= 0x14 && in->opcode <= 0x17) || in->opcode == 0x20 || in->opcode == 0x22);
}

/* VEX.W is ignored outside 64-bit mode where it chooses between 32- and 64-bit general registers. */
static bool w_is_gpr_size(const struct x86_insn *in)
{
    if (in->map == 1)
        return in->opcode == 0x6e || in->opcode == 0x7e || in->opcode == 0x2a ||
               in->opcode == 0x2c || in->opcode == 0x2d;
    return in->map == 3 &&
           (in->opcode == 0x16 || in->opcode == 0x22 || in->opcode == 0x60 || in->opcode == 0x61);
}

static void normalise(const struct x86_insn *in, struct form *f)
{
    bool m64 = in->mode == X86_MODE_64;

    memset(f, 0, sizeof *f);
    f->op = (uint8_t)in->op;
    f->vex = in->vex != 0;
    f->map = in->map;
    f->pp = in->pp;
    f->opcode = in->opcode;
    f->modrm = in->modrm;
    f->rex = in->rex & 0x0f;
    f->vexl = in->vexl;
    f->vvvv = in->vex ? in->vvvv : 0;
    f->immsize = in->immsize;
    f->imm = in->immsize ? (uint8_t)in->imm : 0;
    f->gpr = X86_REG_NONE;
    if (!m64) {
        f->rex &= 0x08;
        f->vvvv &= 7;
        if (in->vex && w_is_gpr_size(in))
            f->rex = 0;
        for (unsigned i = 0; i < in->nops; i++)
            if (i == 3 && in->o[i].kind == X86_O_VEC)
                f->imm &= 0x7f; /* register in an immediate: bit 7 is ignored */
    }
    if (in->has_modrm && (in->modrm & 0xc0) != 0xc0) {
        f->modrm = (uint8_t)((in->modrm & 0x38) | 6); /* [rsi] */
        f->rex &= 0x0c;
    } else if (in->has_modrm) {
        f->rex &= 0x0d;
    }
    for (unsigned i = 0; i < in->nops; i++) {
        if (in->o[i].kind != X86_O_GPR || !in->map) /* FNSTSW AX: not in ModRM */
            continue;
        f->gpr = in->o[i].reg;
        f->gpr_acc = in->o[i].flags & X86_RW;
        if (gpr_is_rm(in)) {
            f->modrm &= 0xf8;
            f->rex &= 0x0e;
        } else {
            f->modrm &= 0xc7;
            f->rex &= 0x0b;
        }
    }
}

static void emit_insn(struct emit *e, const struct form *f)
{
    static const uint8_t prefix[4] = { 0, 0x66, 0xf3, 0xf2 };
    static const uint8_t map2[4] = { 0, 0, 0x38, 0x3a };

    if (f->vex) {
        e8(e, 0xc4);
        e8(e, (~f->rex & 7) << 5 | f->map);
        e8(e, (f->rex & 8) << 4 | (~f->vvvv & 15) << 3 | f->vexl << 2 | f->pp);
    } else {
        if (f->pp)
            e8(e, prefix[f->pp]);
        if (f->rex)
            e8(e, 0x40 | f->rex);
        if (f->map)
            e8(e, 0x0f);
        if (f->map > 1)
            e8(e, map2[f->map]);
    }
    e8(e, f->opcode);
    e8(e, f->modrm);
    if (f->immsize)
        e8(e, f->imm);
}

/* The whole stub at @p; @return its length. */
static size_t emit_stub(uint8_t *p, const struct x86_insn *in, const struct form *f)
{
    struct emit e = { p };
    bool vex = f->vex, is_x87 = in->map == 0;

    if (is_x87) {
        if (in->op == X86_OP_X87 || in->op == X86_OP_X87_FCMOV || in->op == X86_OP_X87_FCOMI) {
            e8(&e, 0xc6); /* mov byte [rdi + x87_ptrs], 0 */
            e_cpu(&e, 0, offsetof(struct x86_cpu, x87_ptrs));
            e8(&e, 0);
        }
        if (in->op == X86_OP_X87_FCMOV || in->op == X86_OP_X87_FCOMI)
            e_flags(&e, false);
        e8(&e, f->opcode);
        e8(&e, f->modrm);
        if (in->op == X86_OP_X87_FCOMI)
            e_flags(&e, true);
        if (in->op == X86_OP_FNSTSW && in->o[0].kind == X86_O_GPR) {
            e8(&e, 0x66);
            e8(&e, 0x89);
            e_cpu(&e, 0, off_gpr(X86_RAX));
        }
        e8(&e, 0xc3);
        return (size_t)(e.p - p);
    }

    switch (in->op) {
    case X86_OP_EMMS:
        e8(&e, 0x0f);
        e8(&e, 0x77);
        e8(&e, 0xc3);
        return (size_t)(e.p - p);
    case X86_OP_PCMPESTRI:
    case X86_OP_PCMPESTRM:
        e_mov64(&e, X86_RAX, off_gpr(X86_RAX), false);
        e_mov64(&e, X86_RDX, off_gpr(X86_RDX), false);
        break;
    case X86_OP_VEC_XMM0: e_vec(&e, 0, false, 16, false); break;
    default:
        if (f->gpr != X86_REG_NONE && (f->gpr_acc & X86_RD))
            e_mov64(&e, X86_RAX, off_gpr(f->gpr), false);
    }
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];

        bool wider = false; /* the same register as a larger source: that load does */

        for (unsigned j = 0; j < in->nops; j++)
            wider |= in->o[j].kind == X86_O_VEC && in->o[j].reg == o->reg &&
                     (in->o[j].flags & X86_RD) && in->o[j].size > o->size && in->o[j].size > 16;
        if (o->kind != X86_O_VEC || wider)
            continue;
        /* a legacy destination keeps what the operation does not write */
        if ((o->flags & X86_RD) || (!vex && o->size < 16))
            e_vec(&e, o->reg & (in->mode == X86_MODE_64 ? 15 : 7), vex, o->size, false);
    }
    emit_insn(&e, f);
    switch (in->op) {
    case X86_OP_VEC_FLAGS: e_flags(&e, true); break;
    case X86_OP_PCMPESTRI:
    case X86_OP_PCMPISTRI:
        e_flags(&e, true);
        e_mov64(&e, X86_RCX, off_gpr(X86_RCX), true);
        break;
    case X86_OP_PCMPESTRM:
    case X86_OP_PCMPISTRM:
        e_flags(&e, true);
        e_vec(&e, 0, vex, vex ? 32 : 16, true);
        break;
    default:
        if (f->gpr != X86_REG_NONE && (f->gpr_acc & X86_WR))
            e_mov64(&e, X86_RAX, off_gpr(f->gpr), true);
    }
    for (unsigned i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];

        if (o->kind == X86_O_VEC && (o->flags & X86_WR)) /* VEX zeroes the rest of the register */
            e_vec(&e, o->reg & (in->mode == X86_MODE_64 ? 15 : 7), vex, vex ? 32 : 16, true);
    }
    if (vex) { /* vzeroupper: always, as a 128-bit operation may follow others in the same state */
        if (f->vexl) {
            e8(&e, 0xc5);
            e8(&e, 0xf8);
            e8(&e, 0x77);
        }
    }
    e8(&e, 0xc3);
    return (size_t)(e.p - p);
}

/* ---- operations in C that are called like stubs ------------------------------------------------------------- */

static void zero_upper(struct x86_cpu *c, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        c->ymm[i].q[2] = c->ymm[i].q[3] = 0;
}

static void c_vzeroupper64(struct x86_cpu *c, void *mem)
{
    (void)mem;
    zero_upper(c, 16);
}
static void c_vzeroupper32(struct x86_cpu *c, void *mem)
{
    (void)mem;
    zero_upper(c, 8);
}
static void c_vzeroall64(struct x86_cpu *c, void *mem)
{
    (void)mem;
    memset(c->ymm, 0, sizeof c->ymm);
}
static void c_vzeroall32(struct x86_cpu *c, void *mem)
{
    (void)mem;
    memset(c->ymm, 0, sizeof c->ymm[0] * 8);
}

/* ---- the cache --------------------------------------------------------------------------------------------- */

static bool has_stub(const struct x86_insn *in)
{
    switch (in->op) {
    case X86_OP_VEC:
    case X86_OP_VEC_FLAGS:
    case X86_OP_VEC_XMM0:
    case X86_OP_PCMPESTRI:
    case X86_OP_PCMPESTRM:
    case X86_OP_PCMPISTRI:
    case X86_OP_PCMPISTRM:
    case X86_OP_X87:
    case X86_OP_X87_FCMOV:
    case X86_OP_X87_FCOMI:
    case X86_OP_FNSTCW:
    case X86_OP_FNSTSW:
    case X86_OP_EMMS: return true;
    }
    return false;
}

static void c_undefined(struct x86_cpu *c, void *mem)
{
    (void)c;
    (void)mem;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t h = (a ^ b * 0x9e3779b97f4a7c15ull) * 0xff51afd7ed558ccdull;

    return h ^ h >> 32;
}

static struct vec_entry *find(struct x86_vec *v, const uint64_t key[2])
{
    uint64_t h = mix(key[0], key[1]);

    for (;; h++) {
        struct vec_entry *t = &v->table[h & (VEC_TABLE * 2 - 1)];

        if (!t->stub || (t->key[0] == key[0] && t->key[1] == key[1]))
            return t;
    }
}

bool x86_vec_full(const struct hv_vp *vp)
{
    const struct x86_vec *v = vp->vec;

    return v->used + 2 * VEC_STUB_MAX > VEC_CODE_SIZE || v->count >= VEC_TABLE;
}

void x86_vec_flush(struct hv_vp *vp)
{
    struct x86_vec *v = vp->vec;

    memset(v->table, 0, sizeof *v->table * VEC_TABLE * 2);
    v->count = 0;
    v->used = 16;
}

static x86_vec_stub stub_at(const struct x86_vec *v, size_t off)
{
    return (x86_vec_stub)(uintptr_t)(v->rx + off);
}

/* Run @stub on @mem with the host's faults in it caught; @return the signal or 0. */
static int run_caught(struct hv_vp *vp, struct x86_cpu *c, x86_vec_stub stub, void *mem)
{
    vec_tls.fault = 0;
    vec_tls.rx = vp->vec->rx;
    atomic_signal_fence(memory_order_seq_cst);
    stub(c, mem);
    atomic_signal_fence(memory_order_seq_cst);
    vec_tls.rx = NULL;
    return vec_tls.fault;
}

/* An encoding that our tables take and this host does not must not kill the process: try it once. */
static bool host_takes(struct hv_vp *vp, const struct x86_insn *in, x86_vec_stub stub)
{
    if (in->attr & (X86_A_FPU | X86_A_MMX))
        return true; /* all of them exist on every x86-64 host */
    vec_sse_spill(&vp->cpu);
    return run_caught(vp, &vp->vec->trial, stub, vp->vec->trial_mem) == 0;
}

x86_vec_stub vec_stub_get(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_vec *v = vp->vec;
    struct form f;
    uint64_t key[2];
    struct vec_entry *t;
    bool m64 = in->mode == X86_MODE_64;

    if (in->op == X86_OP_VZEROUPPER)
        return m64 ? c_vzeroupper64 : c_vzeroupper32;
    if (in->op == X86_OP_VZEROALL)
        return m64 ? c_vzeroall64 : c_vzeroall32;
    if (!has_stub(in) || (in->feature == X86_FEAT_SHA && !host_sha))
        return NULL;
    normalise(in, &f);
    memcpy(key, &f, sizeof key);
    t = find(v, key);
    if (t->stub)
        return t->stub;
    if (x86_vec_full(vp)) {
        /* no room: build in the last bytes of the area, for this one execution */
        emit_stub(v->rw + VEC_CODE_SIZE - VEC_STUB_MAX, in, &f);
        return stub_at(v, VEC_CODE_SIZE - VEC_STUB_MAX);
    }
    t->key[0] = key[0];
    t->key[1] = key[1];
    t->stub = stub_at(v, v->used);
    v->used += (emit_stub(v->rw + v->used, in, &f) + 15) & ~(size_t)15;
    v->count++;
    if (!host_takes(vp, in, t->stub))
        t->stub = c_undefined;
    return t->stub;
}

unsigned vec_need(const struct x86_insn *in)
{
    unsigned need = 0;

    if (in->attr & (X86_A_FPU | X86_A_MMX))
        need |= X86_LIVE_X87;
    if (in->attr & X86_A_FPEXC)
        need |= X86_LIVE_SSE;
    return need;
}

static struct vec_mem mem_operand(const struct x86_insn *in)
{
    struct vec_mem m = { 4, 0, 0 };

    for (unsigned i = 0; i < in->nops; i++)
        if (in->o[i].kind == X86_O_MEM)
            m = (struct vec_mem){ i, in->o[i].size, in->o[i].flags & X86_RW };
    return m;
}

void x86_vec_bind(struct hv_vp *vp, const struct x86_insn *in, struct x86_vec_bound *ret)
{
    struct vec_mem m = mem_operand(in);

    ret->mem_len = (uint8_t)m.len;
    ret->mem_acc = (uint8_t)m.acc;
    ret->mem_align = (in->attr & X86_A_ALIGN) && m.len ? (uint8_t)m.len : 1;
    ret->need = (uint8_t)vec_need(in);
    ret->stub = NULL;
    if (x86_vec_full(vp) || (in->feature != X86_FEAT_NONE && !hv_feature(vp->p, in->feature)) ||
        ((in->attr & X86_A_SSE) && !(vp->cpu.cr4 & CR4_OSFXSR))) /* the block key has it */
        return;
    ret->stub = vec_stub_get(vp, in);
    if (ret->stub == c_undefined)
        ret->stub = NULL;
}

/* ---- checks -------------------------------------------------------------------------------------------------- */

void x86_vec_check(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_cpu *c = &vp->cpu;

    if (in->feature != X86_FEAT_NONE && !hv_feature(vp->p, in->feature))
        x86_raise(vp, X86_EXC_UD);
    switch (in->op) {
    case X86_OP_XSAVES:
    case X86_OP_XRSTORS: /* never shown */ x86_raise(vp, X86_EXC_UD);
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVEC:
    case X86_OP_XRSTOR:
        if (!(c->cr4 & CR4_OSXSAVE))
            x86_raise(vp, X86_EXC_UD);
        if (c->cr0 & CR0_TS)
            x86_raise(vp, X86_EXC_NM);
        return;
    case X86_OP_FXSAVE:
    case X86_OP_FXRSTOR:
        if (c->cr0 & CR0_EM)
            x86_raise(vp, X86_EXC_UD);
        if (c->cr0 & CR0_TS)
            x86_raise(vp, X86_EXC_NM);
        return;
    case X86_OP_FWAIT:
        if ((c->cr0 & (CR0_MP | CR0_TS)) == (CR0_MP | CR0_TS))
            x86_raise(vp, X86_EXC_NM);
        break;
    default:
        if ((in->attr & X86_A_FPU) && (c->cr0 & (CR0_EM | CR0_TS)))
            x86_raise(vp, X86_EXC_NM);
        if ((in->attr & X86_A_VEX) || in->vex) {
            if (x86_is_real_or_vm86(c) || !(c->cr4 & CR4_OSXSAVE) || (c->xcr0 & 6) != 6)
                x86_raise(vp, X86_EXC_UD);
        } else {
            if ((in->attr & (X86_A_SSE | X86_A_MMX)) && (c->cr0 & CR0_EM))
                x86_raise(vp, X86_EXC_UD);
            if ((in->attr & X86_A_SSE) && !(c->cr4 & CR4_OSFXSR))
                x86_raise(vp, X86_EXC_UD);
        }
        if (c->cr0 & CR0_TS)
            x86_raise(vp, X86_EXC_NM);
    }
    /* CVTPI2PS and CVTPI2PD with a memory source leave the x87 state alone (SDM 2A CVTPI2PD) */
    if ((in->attr & (X86_A_WAIT | X86_A_MMX)) &&
        !(in->map == 1 && in->opcode == 0x2a && in->o[1].kind == X86_O_MEM) && x87_pending(c)) {
        if (c->cr0 & CR0_NE)
            x86_raise(vp, X86_EXC_MF);
        if (!vp->vec->warned_ferr)
            hv_log(vp->p, 1,
                   "vp %u: an x87 exception with CR0.NE = 0 (FERR#, IRQ 13) is not supported and "
                   "was ignored",
                   vp->index);
        vp->vec->warned_ferr = true;
        x87_ignore_pending(vp);
    }
}

/* ---- execution ------------------------------------------------------------------------------------------------ */

void vec_sse_spill(struct x86_cpu *c)
{
    if (!(c->x87_live & X86_LIVE_SSE))
        return;
    c->mxcsr |= host_mxcsr() & MXCSR_FLAGS;
    host_mxcsr_set(MXCSR_INIT);
    c->x87_live &= (uint8_t)~X86_LIVE_SSE;
}

void x86_sse_enter(struct hv_vp *vp)
{
    struct x86_cpu *c = &vp->cpu;

    if ((c->x87_live & X86_LIVE_SSE) || (c->mxcsr & MXCSR_EXC_MASKS) != MXCSR_EXC_MASKS)
        return;
    host_mxcsr_set(c->mxcsr);
    c->x87_live |= X86_LIVE_SSE;
}

void x86_x87_enter(struct hv_vp *vp)
{
    x87_enter(vp);
}

void x86_x87_spill(struct hv_vp *vp)
{
    if (!vp->cpu.x87_live)
        return;
    vec_sse_spill(&vp->cpu);
    x87_spill(&vp->cpu);
}

uint64_t vec_lin(struct hv_vp *vp, const struct x86_insn *in, unsigned len, unsigned align,
                 unsigned acc)
{
    uint64_t lin = x86_seg_lin(vp, in->seg, x86_ea(vp, in), len, acc);

    if (lin & (align - 1))
        x86_raise_err(vp, X86_EXC_GP, 0);
    return lin;
}

/* With unmasked SIMD exceptions: under the guest's MXCSR, with the host's #XM caught. */
static int run_exact(struct hv_vp *vp, x86_vec_stub stub, void *mem)
{
    struct x86_cpu *c = &vp->cpu;
    int sig;

    vec_sse_spill(c);
    host_mxcsr_set(c->mxcsr);
    sig = run_caught(vp, c, stub, mem);
    c->mxcsr = host_mxcsr();
    host_mxcsr_set(MXCSR_INIT);
    return sig;
}

void vec_run(struct hv_vp *vp, const struct x86_insn *in, x86_vec_stub stub, void *mem)
{
    struct x86_cpu *c = &vp->cpu;
    unsigned need = vec_need(in);
    int sig = 0;

    if (need & X86_LIVE_X87)
        x87_enter(vp);
    if ((need & X86_LIVE_SSE) && (c->mxcsr & MXCSR_EXC_MASKS) != MXCSR_EXC_MASKS) {
        sig = run_exact(vp, stub, mem);
    } else {
        if ((need & X86_LIVE_SSE) && !(c->x87_live & X86_LIVE_SSE)) {
            host_mxcsr_set(c->mxcsr);
            c->x87_live |= X86_LIVE_SSE;
        }
        sig = run_caught(vp, c, stub, mem);
    }
    if (in->attr & X86_A_FPU)
        c->x87_ptrs = 1; /* x87_note */
    if (sig == SIGFPE)
        x86_raise(vp, c->cr4 & CR4_OSXMMEXCPT ? X86_EXC_XM : X86_EXC_UD);
    if (sig)
        x86_raise(vp, X86_EXC_UD);
}

/* SHA on a host without it. */
static void exec_sha(struct hv_vp *vp, const struct x86_insn *in)
{
    struct x86_ymm src = { { 0 } }, dst = vp->cpu.ymm[in->o[0].reg];

    if (in->o[1].kind == X86_O_MEM)
        x86_lin_read(vp, vec_lin(vp, in, 16, 16, X86_ACC_READ), &src, 16, X86_ACC_READ);
    else
        src = vp->cpu.ymm[in->o[1].reg];
    if (!vec_sha(in, &dst, &src, &vp->cpu.ymm[0]))
        x86_raise(vp, X86_EXC_UD);
    vp->cpu.ymm[in->o[0].reg].q[0] = dst.q[0];
    vp->cpu.ymm[in->o[0].reg].q[1] = dst.q[1];
    vec_done(vp, in);
}

static void exec_stub(struct hv_vp *vp, const struct x86_insn *in)
{
    struct vec_mem m = mem_operand(in);
    uint8_t buf[128] __attribute__((aligned(64)));
    unsigned acc = m.acc & X86_WR ? X86_ACC_WRITE : X86_ACC_READ;
    x86_vec_stub stub;
    uint64_t lin;
    void *hva;

    if (in->feature == X86_FEAT_SHA && !host_sha) {
        exec_sha(vp, in);
        return;
    }
    if (!m.len) {
        if (in->attr & X86_A_FPU)
            x87_note(vp, in);
        stub = vec_stub_get(vp, in);
        if (!stub || stub == c_undefined)
            x86_raise(vp, X86_EXC_UD);
        vec_run(vp, in, stub, NULL);
        vec_done(vp, in);
        return;
    }
    lin = vec_lin(vp, in, m.len, in->attr & X86_A_ALIGN ? m.len : 1, acc);
    hva = x86_lin_hva(vp, lin, m.len, acc);
    if (!hva) {
        if (in->attr & X86_A_FPU)
            x87_enter(vp);
        /* what an x87 store with an unmasked exception leaves alone is written back as it was */
        if (m.acc & X86_WR)
            x86_lin_probe(vp, lin, m.len, X86_ACC_WRITE);
        if ((m.acc & X86_RD) || ((in->attr & X86_A_FPU) && (vp->cpu.x87_live & X86_LIVE_X87_SLOW)))
            x86_lin_read(vp, lin, buf, m.len, X86_ACC_READ);
        else
            memset(buf, 0, m.len);
    }
    if (in->attr & X86_A_FPU)
        x87_note(vp, in);
    /* after anything that may run other code: the stub of an overflowing cache lives until the next one */
    stub = vec_stub_get(vp, in);
    if (!stub || stub == c_undefined)
        x86_raise(vp, X86_EXC_UD);
    vec_run(vp, in, stub, hva ? hva : buf);
    if (!hva && (m.acc & X86_WR))
        x86_lin_write(vp, lin, buf, m.len, X86_ACC_WRITE);
    vec_done(vp, in);
}

static void exec_mxcsr(struct hv_vp *vp, const struct x86_insn *in)
{
    bool load = in->op == X86_OP_LDMXCSR;
    uint64_t lin = vec_lin(vp, in, 4, 1, load ? X86_ACC_READ : X86_ACC_WRITE);
    uint32_t v;

    vec_sse_spill(&vp->cpu);
    if (load) {
        x86_lin_read(vp, lin, &v, 4, X86_ACC_READ);
        if (v & ~(uint32_t)MXCSR_MASK)
            x86_raise_err(vp, X86_EXC_GP, 0);
        vp->cpu.mxcsr = v;
    } else {
        v = vp->cpu.mxcsr;
        x86_lin_write(vp, lin, &v, 4, X86_ACC_WRITE);
    }
    vec_done(vp, in);
}

bool x86_exec_vec(struct hv_vp *vp, const struct x86_insn *in)
{
    switch (in->op) {
    case X86_OP_VEC:
    case X86_OP_VEC_FLAGS:
    case X86_OP_VEC_XMM0:
    case X86_OP_PCMPESTRI:
    case X86_OP_PCMPESTRM:
    case X86_OP_PCMPISTRI:
    case X86_OP_PCMPISTRM:
    case X86_OP_VZEROUPPER:
    case X86_OP_VZEROALL:
    case X86_OP_EMMS:
    case X86_OP_X87:
    case X86_OP_X87_FCMOV:
    case X86_OP_X87_FCOMI:
    case X86_OP_FNSTCW:
    case X86_OP_FNSTSW:
        x86_vec_check(vp, in);
        exec_stub(vp, in);
        return true;
    case X86_OP_LDMXCSR:
    case X86_OP_STMXCSR:
        x86_vec_check(vp, in);
        exec_mxcsr(vp, in);
        return true;
    case X86_OP_MASKMOVQ:
    case X86_OP_MASKMOVDQU:
    case X86_OP_VMASKMOV:
    case X86_OP_VGATHER: x86_vec_check(vp, in); return vec_exec_masked(vp, in);
    case X86_OP_FLDCW:
    case X86_OP_FNCLEX:
    case X86_OP_FNINIT:
    case X86_OP_FWAIT:
    case X86_OP_FLDENV:
    case X86_OP_FNSTENV:
    case X86_OP_FRSTOR:
    case X86_OP_FNSAVE: x86_vec_check(vp, in); return x87_exec_control(vp, in);
    case X86_OP_FXSAVE:
    case X86_OP_FXRSTOR:
    case X86_OP_XSAVE:
    case X86_OP_XSAVEOPT:
    case X86_OP_XSAVEC:
    case X86_OP_XRSTOR:
    case X86_OP_XSAVES:
    case X86_OP_XRSTORS: x86_vec_check(vp, in); return vec_exec_xsave(vp, in);
    }
    return false;
}

/* ---- life cycle ------------------------------------------------------------------------------------------------ */

int x86_vec_init(struct hv_vp *vp)
{
    struct x86_vec *v = aligned_alloc(64, (sizeof *v + 63) & ~(size_t)63);
    int fd;

    if (!v)
        return hv_fail(-ENOMEM, "no memory for the stubs of vp %u", vp->index);
    memset(v, 0, sizeof *v);
    vp->vec = v;
    v->rw = MAP_FAILED;
    v->rx = MAP_FAILED;
    v->table = calloc(VEC_TABLE * 2, sizeof *v->table);
    fd = memfd_create("mobo-vec", MFD_CLOEXEC);
    if (fd >= 0 && !ftruncate(fd, VEC_CODE_SIZE)) {
        v->rw = mmap(NULL, VEC_CODE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        v->rx = mmap(NULL, VEC_CODE_SIZE, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
    }
    if (!v->table || v->rw == MAP_FAILED || v->rx == MAP_FAILED) {
        int err = v->table ? errno : ENOMEM;

        if (fd >= 0)
            close(fd);
        x86_vec_fini(vp);
        return hv_fail(-err, "cannot map executable memory for vp %u: %s", vp->index,
                       strerror(err));
    }
    close(fd);
    v->rw[VEC_RET_OFF] = 0xc3;
    v->used = 16;
    pthread_once(&vec_once, vec_install);
    return 0;
}

void x86_vec_fini(struct hv_vp *vp)
{
    struct x86_vec *v = vp->vec;

    if (!v)
        return;
    if (v->rw != MAP_FAILED)
        munmap(v->rw, VEC_CODE_SIZE);
    if (v->rx != MAP_FAILED)
        munmap((void *)(uintptr_t)v->rx, VEC_CODE_SIZE);
    free(v->table);
    free(v);
    vp->vec = NULL;
}
