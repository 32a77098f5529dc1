/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of vector and x87 execution on the host (vec.c, vec_mem.c, vec_xsave.c, vec_sha.c, x87.c) with a VP
 * whose memory is an array.  The exhaustive comparison with the processor is tests/engines/oracle.c. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hv/x86/vec_int.h"

/* ---- the rest of the hypervisor ------------------------------------------------------------------------------- */

enum { MEM = 0x2000 }; /* linear 0 to MEM - 1 is memory, its second page read-only when asked for */

static uint8_t mem[MEM + 64] __attribute__((aligned(4096)));
static struct hv_vp *vp;
static struct hv_partition part;
static bool no_direct, second_page_ro;
static unsigned hidden_feature, logged;
static unsigned raised;
static uint64_t raised_addr;
static struct sigaction fpe; /* vec.c's: cmocka installs its own around each test */

bool hv_feature(const struct hv_partition *p, unsigned feature)
{
    (void)p;
    return feature != hidden_feature;
}
void hv_fail_text(const char *fmt, ...)
{
    (void)fmt;
}
void hv_log(struct hv_partition *p, int level, const char *fmt, ...)
{
    (void)p, (void)level, (void)fmt;
    logged++;
}

void x86_raise(struct hv_vp *v, unsigned vector)
{
    raised = vector;
    longjmp(v->jmp, 1);
}

void x86_raise_err(struct hv_vp *v, unsigned vector, uint32_t error)
{
    (void)error;
    x86_raise(v, vector);
}

uint64_t x86_ea(const struct hv_vp *v, const struct x86_insn *in)
{
    return v->cpu.gpr[in->base] + (v->cpu.gpr[in->index] << in->scale) + (uint64_t)in->disp;
}

uint64_t x86_seg_lin(struct hv_vp *v, unsigned seg, uint64_t off, unsigned len, unsigned acc)
{
    (void)v, (void)seg, (void)len, (void)acc;
    return off;
}

void x86_lin_probe(struct hv_vp *v, uint64_t lin, unsigned len, unsigned acc)
{
    if (lin >= MEM || len > MEM - lin ||
        (acc == X86_ACC_WRITE && second_page_ro && lin + len > 4096)) {
        raised_addr = lin;
        x86_raise(v, X86_EXC_PF);
    }
}

void x86_lin_read(struct hv_vp *v, uint64_t lin, void *buf, unsigned len, unsigned acc)
{
    x86_lin_probe(v, lin, len, acc);
    memcpy(buf, mem + lin, len);
}

void x86_lin_write(struct hv_vp *v, uint64_t lin, const void *buf, unsigned len, unsigned acc)
{
    x86_lin_probe(v, lin, len, acc);
    memcpy(mem + lin, buf, len);
}

void *x86_lin_hva(struct hv_vp *v, uint64_t lin, unsigned len, unsigned acc)
{
    x86_lin_probe(v, lin, len, acc);
    return no_direct || (lin & 4095) + len > 4096 ? NULL : mem + lin;
}

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

static struct x86_insn decode(const char *bytes, size_t len)
{
    struct x86_insn in;

    assert_int_equal(x86_decode((const uint8_t *)bytes, len, (enum x86_mode)vp->cpu.mode, &in),
                     (int)len);
    return in;
}

/* Execute one instruction; @return the exception vector or -1. */
static int exec(const char *bytes, size_t len)
{
    struct x86_insn in = decode(bytes, len);

    if (setjmp(vp->jmp))
        return (int)raised;
    vp->cpu.rip = 0x400000;
    assert_true(x86_exec_vec(vp, &in));
    assert_int_equal(vp->cpu.rip, 0x400000 + len);
    return -1;
}
#define EXEC(s) exec(s, sizeof(s) - 1)
#define OK(s)   assert_int_equal(EXEC(s), -1)

static int setup(void **state)
{
    struct x86_cpu *c;

    (void)state;
    vp = aligned_alloc(64, (sizeof *vp + 63) & ~(size_t)63);
    memset(vp, 0, sizeof *vp);
    vp->p = &part;
    c = &vp->cpu;
    c->mode = X86_MODE_64;
    c->cr0 = CR0_PE | CR0_NE | CR0_MP;
    c->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
    c->xcr0 = 7;
    c->fl = FL_FIXED;
    no_direct = second_page_ro = false;
    hidden_feature = ~0u;
    logged = 0;
    memset(mem, 0, sizeof mem);
    assert_int_equal(x86_vec_init(vp), 0);
    if (!fpe.sa_sigaction)
        sigaction(SIGFPE, NULL, &fpe);
    x86_vec_reset(vp);
    OK("\xdb\xe3"); /* fninit */
    return 0;
}

static int teardown(void **state)
{
    uint16_t cw;

    (void)state;
    x86_x87_spill(vp);
    __asm__ volatile("fnstcw %0" : "=m"(cw));
    assert_int_equal(cw, 0x37f); /* the host is clean again */
    assert_int_equal(__builtin_ia32_stmxcsr() & ~0x3fu, 0x1f80);
    x86_vec_fini(vp);
    free(vp);
    return 0;
}

static void set_xmm(unsigned n, uint64_t lo, uint64_t hi)
{
    vp->cpu.ymm[n].q[0] = lo;
    vp->cpu.ymm[n].q[1] = hi;
}

static void set_hi(unsigned n, uint64_t a, uint64_t b)
{
    vp->cpu.ymm[n].q[2] = a;
    vp->cpu.ymm[n].q[3] = b;
}

static bool avx(void)
{
    return __builtin_cpu_supports("avx2");
}

/* ---- vectors ----------------------------------------------------------------------------------------------------- */

static void test_registers(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    set_xmm(1, 0x0000000200000001, 0x0000000400000003);
    set_xmm(9, 0x0000000a0000000a, 0xffffffff0000000a);
    set_hi(1, 7, 8);
    OK("\x66\x41\x0f\xfe\xc9"); /* paddd xmm1, xmm9 */
    assert_int_equal(c->ymm[1].q[0], 0x0000000c0000000b);
    assert_int_equal(c->ymm[1].q[1], 0x000000030000000d);
    assert_int_equal(c->ymm[1].q[2], 7); /* legacy: the upper half stays */
    c->gpr[12] = ~0ull;
    set_xmm(3, 0x80, 0x8000000000000000);
    OK("\x66\x44\x0f\xd7\xe3"); /* pmovmskb r12d, xmm3 */
    assert_int_equal(c->gpr[12], 0x8001);
    c->gpr[13] = 0x1122334455667788;
    OK("\x66\x4d\x0f\x6e\xfd"); /* movq xmm15, r13 */
    assert_int_equal(c->ymm[15].q[0], 0x1122334455667788);
    OK("\x66\x45\x0f\x7e\xfe"); /* movd r14d, xmm15 */
    assert_int_equal(c->gpr[14], 0x55667788);
    if (!avx())
        return;
    set_hi(1, 1, 2);
    set_hi(9, 3, 4);
    OK("\xc4\xc1\x75\xd4\xd1"); /* vpaddq ymm2, ymm1, ymm9 */
    assert_int_equal(c->ymm[2].q[3], 6);
    OK("\xc4\xc1\x71\xd4\xd1"); /* vpaddq xmm2, xmm1, xmm9 */
    assert_int_equal(c->ymm[2].q[3], 0);
    set_xmm(0, 4, 0);
    set_hi(0, 0x10, 0x100);
    OK("\xc4\xe1\x7d\xd3\xe0"); /* vpsrlq ymm4, ymm0, xmm0: one register at two sizes */
    assert_int_equal(c->ymm[4].q[2], 1);
    assert_int_equal(c->ymm[4].q[3], 0x10);
    OK("\xc5\xf8\x77"); /* vzeroupper */
    assert_int_equal(c->ymm[9].q[2] | c->ymm[0].q[3], 0);
}

static void test_memory(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    for (unsigned direct = 0; direct < 2; direct++) {
        no_direct = !direct;
        st64(mem + 0x100, 0x1111);
        st64(mem + 0x108, 0x2222);
        c->gpr[X86_RBX] = 0x100;
        OK("\x66\x0f\x6f\x03"); /* movdqa xmm0, [rbx] */
        assert_int_equal(c->ymm[0].q[1], 0x2222);
        c->gpr[X86_RBX] = 0x101;
        assert_int_equal(EXEC("\x66\x0f\x6f\x03"), X86_EXC_GP);
        OK("\xf3\x0f\x6f\x03"); /* movdqu */
        c->gpr[X86_RBX] = 4096 - 5;
        OK("\xf3\x0f\x7f\x03"); /* movdqu [rbx], xmm0 across pages */
        assert_memory_equal(mem + 4096 - 5, &c->ymm[0], 16);
        memset(mem + 4096 - 5, 0, 16);
        second_page_ro = true;
        assert_int_equal(EXEC("\xf3\x0f\x7f\x03"), X86_EXC_PF);
        assert_int_equal(mem[4096 - 5], 0); /* nothing written */
        second_page_ro = false;
        c->gpr[X86_RBX] = MEM - 8;
        assert_int_equal(EXEC("\xf3\x0f\x6f\x03"), X86_EXC_PF);
        OK("\xf3\x0f\x7e\x03"); /* movq reads 8 bytes only */
    }
}

static void test_simd_exceptions(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    sigaction(SIGFPE, &fpe, NULL);
    set_xmm(0, 0x3f8000003f800000, 0x3f8000003f800000);
    set_xmm(1, 0, 0);
    c->mxcsr = 0x1f80 & ~(1u << 9);                     /* zero divide unmasked */
    assert_int_equal(EXEC("\x0f\x5e\xc1"), X86_EXC_XM); /* divps xmm0, xmm1 */
    assert_int_equal(c->ymm[0].q[0], 0x3f8000003f800000);
    assert_int_equal(c->mxcsr, (0x1f80 & ~(1u << 9)) | 4);
    c->cr4 &= ~(uint64_t)CR4_OSXMMEXCPT;
    assert_int_equal(EXEC("\x0f\x5e\xc1"), X86_EXC_UD);
    c->mxcsr = 0x1f80;
    OK("\x0f\x5e\xc1");
    assert_int_equal(c->ymm[0].q[0], 0x7f8000007f800000);
    assert_true(c->x87_live & X86_LIVE_SSE);
    c->gpr[X86_RBX] = 0x40;
    OK("\x0f\xae\x1b"); /* stmxcsr [rbx] takes the flags from the host */
    assert_int_equal(ld32(mem + 0x40), 0x1f84);
    st32(mem + 0x40, 0x10000);
    assert_int_equal(EXEC("\x0f\xae\x13"), X86_EXC_GP); /* ldmxcsr with a reserved bit */
    st32(mem + 0x40, 0x7f80);                           /* round to zero */
    OK("\x0f\xae\x13");
    set_xmm(0, 0x3f800000, 0);
    set_xmm(1, 0x40400000, 0);
    OK("\xf3\x0f\x5e\xc1"); /* divss: 1/3 */
    assert_int_equal((uint32_t)c->ymm[0].q[0], 0x3eaaaaaa);
    x86_x87_spill(vp);
    assert_int_equal(c->mxcsr, 0x7fa0);
}

static void test_flags(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    c->fl = FL_FIXED | FL_OF | FL_SF | FL_AF;
    set_xmm(0, 0x3ff0000000000000, 0);
    set_xmm(1, 0x4000000000000000, 0);
    OK("\x66\x0f\x2f\xc1"); /* comisd xmm0, xmm1: below */
    assert_int_equal(x86_flags_get(c) & EF_ARITH, EF_CF);
    set_xmm(1, 0x7ff8000000000000, 0);
    OK("\x66\x0f\x2e\xc1"); /* ucomisd: unordered */
    assert_int_equal(x86_flags_get(c) & EF_ARITH, EF_CF | EF_PF | EF_ZF);
    set_xmm(1, 0, 0);
    OK("\x66\x0f\x38\x17\xc9"); /* ptest xmm1, xmm1 */
    assert_int_equal(x86_flags_get(c) & EF_ARITH, EF_ZF | EF_CF);
    memcpy(&c->ymm[0], "abcdefghijklmnop", 16);
    memcpy(&c->ymm[1], "xxxxxxxxxxxxfxxx", 16);
    c->gpr[X86_RAX] = c->gpr[X86_RDX] = 16;
    c->gpr[X86_RCX] = ~0ull;
    OK("\x66\x0f\x3a\x61\xc1\x00"); /* pcmpestri xmm0, xmm1: equal any */
    assert_int_equal(c->gpr[X86_RCX], 12);
    assert_true(x86_flags_get(c) & EF_CF);
}

static void test_checks(void **state)
{
    static const char paddd[] = "\x66\x0f\xfe\xc1", vpaddd[] = "\xc5\xf1\xfe\xc1",
                      mmx[] = "\x0f\xfe\xc1", fadd[] = "\xd8\xc1";
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    c->cr0 |= CR0_TS;
    assert_int_equal(exec(paddd, 4), X86_EXC_NM);
    assert_int_equal(exec(vpaddd, 4), X86_EXC_NM);
    assert_int_equal(exec(mmx, 3), X86_EXC_NM);
    assert_int_equal(exec(fadd, 2), X86_EXC_NM);
    assert_int_equal(EXEC("\x9b"), X86_EXC_NM); /* fwait: MP and TS */
    c->cr0 &= ~(uint64_t)CR0_MP;
    OK("\x9b");
    c->cr0 ^= CR0_TS | CR0_EM;
    assert_int_equal(exec(paddd, 4), X86_EXC_UD);
    assert_int_equal(exec(mmx, 3), X86_EXC_UD);
    assert_int_equal(exec(fadd, 2), X86_EXC_NM);
    if (avx())
        assert_int_equal(exec(vpaddd, 4), -1); /* VEX does not look at EM */
    c->cr0 &= ~(uint64_t)CR0_EM;
    c->cr4 = 0;
    assert_int_equal(exec(paddd, 4), X86_EXC_UD);
    assert_int_equal(exec(vpaddd, 4), X86_EXC_UD);
    assert_int_equal(exec(mmx, 3), -1);
    c->cr4 = CR4_OSXSAVE | CR4_OSFXSR;
    c->xcr0 = 3;
    assert_int_equal(exec(vpaddd, 4), X86_EXC_UD);
    c->xcr0 = 7;
    hidden_feature = X86_FEAT_AVX;
    assert_int_equal(exec(vpaddd, 4), X86_EXC_UD);
    hidden_feature = ~0u;
    c->cr0 &= ~(uint64_t)CR0_PE;
    assert_int_equal(exec(vpaddd, 4), X86_EXC_UD);
}

static void test_cache(void **state)
{
    struct x86_insn in = decode("\x66\x0f\xfe\xc1", 4);
    struct x86_vec_bound a, b;
    unsigned n = 0;

    (void)state;
    x86_vec_bind(vp, &in, &a);
    x86_vec_bind(vp, &in, &b);
    assert_non_null(a.stub);
    assert_true(a.stub == b.stub);
    in = decode("\x66\x0f\x6f\x43\x10", 5); /* movdqa xmm0, [rbx + 16] */
    x86_vec_bind(vp, &in, &a);
    assert_int_equal(a.mem_len, 16);
    assert_int_equal(a.mem_align, 16);
    assert_int_equal(a.mem_acc, X86_RD);
    in = decode("\x66\x0f\x6f\x06", 4); /* movdqa xmm0, [rsi]: the same stub */
    x86_vec_bind(vp, &in, &b);
    assert_true(a.stub == b.stub);
    for (unsigned imm = 0; imm < 256 && !x86_vec_full(vp); imm++)
        for (unsigned modrm = 0xc0; modrm < 0x100 && !x86_vec_full(vp); modrm++)
            for (unsigned rex = 0; rex < 4; rex++, n++) {
                uint8_t code[] = { 0x66,           (uint8_t)(0x40 | (rex & 1) | (rex & 2) << 1),
                                   0x0f,           0x70,
                                   (uint8_t)modrm, (uint8_t)imm };

                in = decode((char *)code, 6); /* pshufd */
                x86_vec_bind(vp, &in, &b);
            }
    assert_true(x86_vec_full(vp));
    in = decode("\x66\x0f\xd4\xc1", 4);
    x86_vec_bind(vp, &in, &b);
    assert_null(b.stub);
    set_xmm(0, 5, 0);
    set_xmm(1, 6, 0);
    OK("\x66\x0f\xd4\xc1"); /* paddq still executes */
    assert_int_equal(vp->cpu.ymm[0].q[0], 11);
    x86_vec_flush(vp);
    x86_vec_bind(vp, &in, &b);
    assert_non_null(b.stub);
}

/* ---- element by element ------------------------------------------------------------------------------------------ */

static void test_masked(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    memcpy(&c->ymm[0], "ABCDEFGHIJKLMNOP", 16);
    memcpy(&c->ymm[1], "\x80\0\0\0\x80\x80\0\0\0\0\0\0\0\0\0\x80", 16);
    memset(mem + 0x200, '.', 16);
    c->gpr[X86_RDI] = 0x200;
    OK("\x66\x0f\xf7\xc1"); /* maskmovdqu xmm0, xmm1 */
    assert_memory_equal(mem + 0x200, "A...EF.........P", 16);
    memset(mem + 4096 - 8, '.', 16);
    second_page_ro = true;
    c->gpr[X86_RDI] = 4096 - 8;
    assert_int_equal(EXEC("\x66\x0f\xf7\xc1"), X86_EXC_PF);
    assert_memory_equal(mem + 4096 - 8, "........", 8);
    if (!avx())
        return;
    set_xmm(2, 0x8000000000000000, 0); /* mask: element 1 of 4 bytes */
    set_xmm(3, 0x2222222211111111, 0x4444444433333333);
    c->gpr[X86_RBX] = MEM - 8;
    assert_int_equal(EXEC("\xc4\xe2\x69\x2e\x1b"), X86_EXC_PF); /* vmaskmovps [rbx], xmm2, xmm3 */
    assert_int_equal(raised_addr, MEM - 4);
    second_page_ro = false;
    OK("\xc4\xe2\x69\x2e\x1b");
    assert_int_equal(ld64(mem + MEM - 8), 0x2222222200000000);
    OK("\xc4\xe2\x69\x2c\x23"); /* vmaskmovps xmm4, xmm2, [rbx]: the rest lies outside memory */
    assert_int_equal(c->ymm[4].q[0], 0x2222222200000000);
    assert_int_equal(c->ymm[4].q[1], 0);
}

static void test_gather(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    if (!avx())
        skip();
    for (unsigned i = 0; i < 64; i++)
        st32(mem + 4 * i, 100 + i);
    c->gpr[X86_RBX] = 0;
    set_xmm(1, 0x0000000300000001, 0x0010000000000005); /* indices 1 3 5, and one far outside */
    set_xmm(2, 0x80000000ffffffff, 0x80000000ffffffff);
    set_xmm(0, 0, 0);
    set_hi(0, ~0ull, ~0ull);
    assert_int_equal(EXEC("\xc4\xe2\x69\x90\x04\x8b"),
                     X86_EXC_PF); /* vpgatherdd xmm0, [rbx+xmm1*4], xmm2 */
    assert_int_equal(c->ymm[0].q[0], 103ull << 32 | 101);
    assert_int_equal((uint32_t)c->ymm[0].q[1], 105);
    assert_int_equal(c->ymm[2].q[0], 0);
    assert_int_equal(c->ymm[2].q[1], 0xffffffff00000000); /* what is left to do */
    c->ymm[1].q[1] = 0x0000000700000005;
    OK("\xc4\xe2\x69\x90\x04\x8b");
    assert_int_equal(c->ymm[0].q[1], 107ull << 32 | 105);
    assert_int_equal(c->ymm[0].q[2] | c->ymm[0].q[3] | c->ymm[2].q[1], 0);
}

/* ---- x87 ----------------------------------------------------------------------------------------------------------- */

static void test_x87(void **state)
{
    struct x86_cpu *c = &vp->cpu;
    double d;

    (void)state;
    d = 1.5;
    memcpy(mem + 0x80, &d, 8);
    c->gpr[X86_RBX] = 0x80;
    OK("\xdd\x03");     /* fld qword [rbx] */
    OK("\xd9\xe8");     /* fld1 */
    OK("\xde\xc1");     /* faddp */
    OK("\xdd\x5b\x08"); /* fstp qword [rbx + 8] */
    memcpy(&d, mem + 0x88, 8);
    assert_true(d == 2.5);
    assert_int_equal(c->x87_live, X86_LIVE_X87);
    OK("\xd9\xee"); /* fldz */
    OK("\xd9\xe8"); /* fld1 */
    c->fl = FL_FIXED | FL_CF | FL_ZF;
    OK("\xdb\xf1"); /* fcomi: above */
    assert_int_equal(x86_flags_get(c) & EF_ARITH, 0);
    c->fl = FL_FIXED | FL_CF;
    OK("\xda\xc1"); /* fcmovb st0, st1 */
    OK("\xdf\xe0"); /* fnstsw ax */
    assert_int_equal(c->gpr[X86_RAX], 0x3000);
    OK("\xdd\x5b\x08");
    memcpy(&d, mem + 0x88, 8);
    assert_true(d == 0);
    OK("\x0f\xef\xc0"); /* pxor mm0, mm0: MMX */
    x86_x87_spill(vp);
    assert_int_equal(c->fx.b[FX_FTW], 0xff);
    assert_int_equal(ld16(c->fx.b + FX_FSW) & 0x3800, 0);
    OK("\x0f\x77"); /* emms */
    x86_x87_spill(vp);
    assert_int_equal(c->fx.b[FX_FTW], 0);
}

static void test_x87_exceptions(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    c->gpr[X86_RBX] = 0x80;
    st16(mem + 0x80, 0x37b); /* zero divide unmasked */
    OK("\xd9\x2b");          /* fldcw */
    assert_int_equal(c->x87_live, X86_LIVE_X87_SLOW);
    OK("\xd9\xe8");
    st32(mem + 0x84, 0);
    OK("\xd8\x73\x04"); /* fdiv dword [rbx + 4]: sets ES, no more */
    assert_int_equal(EXEC("\xd9\xe8"), X86_EXC_MF);
    assert_int_equal(EXEC("\x9b"), X86_EXC_MF);
    assert_int_equal(EXEC("\x0f\xef\xc0"), X86_EXC_MF);
    OK("\xdf\xe0"); /* fnstsw ax does not wait */
    assert_int_equal(c->gpr[X86_RAX] & 0x8084, 0x8084);
    OK("\xd9\x73\x10"); /* fnstenv [rbx + 16]: exact pointers, and masks all after */
    assert_int_equal(ld16(mem + 0x90), 0x37b);
    assert_int_equal(ld32(mem + 0x9c), 0x400000);
    assert_int_equal(ld32(mem + 0xa0) >> 16, 0x073);
    assert_int_equal(ld32(mem + 0xa4), 0x84);
    OK("\xd9\xe8");     /* all masked now */
    OK("\xdb\xe2");     /* fnclex */
    OK("\xd9\x63\x10"); /* fldenv: unmasked and pending again */
    assert_int_equal(EXEC("\xd9\xe8"), X86_EXC_MF);
    c->cr0 &= ~(uint64_t)CR0_NE;
    OK("\xd9\xe8"); /* FERR# is not connected: said once, then ignored */
    assert_int_equal(logged, 1);
}

static void test_x87_images(void **state)
{
    struct x86_cpu *c = &vp->cpu;
    static const char *const save[2] = { "\xdd\x33", "\x66\xdd\x33" }, *const load[2] = {
        "\xdd\x23", "\x66\xdd\x23"
    };

    (void)state;
    for (unsigned k = 0; k < 4; k++) {
        unsigned small = k & 1, env = small ? 14 : 28;
        uint8_t before[FX_XMM];

        c->mode = X86_MODE_32;
        c->cr0 = (c->cr0 & ~(uint64_t)CR0_PE) | (k & 2 ? 0 : CR0_PE);
        c->gpr[X86_RBX] = 0x100;
        OK("\xdb\xe3");
        OK("\xd9\xeb"); /* fldpi */
        OK("\xd9\xee"); /* fldz */
        OK("\xd9\xe8"); /* fld1 */
        x86_x87_spill(vp);
        memcpy(before, c->fx.b, sizeof before);
        assert_int_equal(exec(save[small], 2 + small), -1);
        x86_x87_spill(vp);
        assert_int_equal(ld16(c->fx.b + FX_FCW), 0x37f); /* fnsave initialises */
        assert_int_equal(c->fx.b[FX_FTW], 0);
        assert_int_equal(ld16(mem + 0x100 + (small ? 4 : 8)),
                         0x13ff); /* tags: 1 valid, 0 zero, pi valid */
        assert_int_equal(ld64(mem + 0x100 + env), 0x8000000000000000);
        assert_int_equal(exec(load[small], 2 + small), -1);
        x86_x87_spill(vp);
        assert_memory_equal(c->fx.b, before, 5);
        assert_memory_equal(c->fx.b + FX_ST, before + FX_ST, 48);
    }
}

/* ---- state images --------------------------------------------------------------------------------------------------- */

static void test_fxsave(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    OK("\xd9\xe8");
    set_xmm(15, 1, 2);
    memset(mem, 0xaa, 512);
    c->gpr[X86_RBX] = 0;
    OK("\x0f\xae\x03"); /* fxsave [rbx] */
    assert_int_equal(ld64(mem + FX_XMM + 240), 1);
    assert_int_equal(mem[416], 0xaa); /* not written */
    assert_int_equal(ld32(mem + FX_MXCSR_MASK), 0xffff);
    set_xmm(15, 0, 0);
    OK("\xdb\xe3");
    OK("\x0f\xae\x0b"); /* fxrstor */
    assert_int_equal(c->ymm[15].q[1], 2);
    x86_x87_spill(vp);
    assert_int_equal(c->fx.b[FX_FTW], 0x80);
    c->gpr[X86_RBX] = 8;
    assert_int_equal(EXEC("\x0f\xae\x03"), X86_EXC_GP);
    c->gpr[X86_RBX] = 0;
    st32(mem + FX_MXCSR, 0x10000);
    assert_int_equal(EXEC("\x0f\xae\x0b"), X86_EXC_GP);
}

static void test_xsave(void **state)
{
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    c->gpr[X86_RAX] = 0xffffffff;
    c->gpr[X86_RDX] = 0xffffffff;
    c->gpr[X86_RBX] = 0;
    st64(mem + 512, 0xff00);
    set_hi(3, 5, 6);
    OK("\x0f\xae\x23");                        /* xsave [rbx] */
    assert_int_equal(ld64(mem + 512), 0xff04); /* only AVX is in use; other bits stay */
    assert_int_equal(ld64(mem + 576 + 48), 5);
    st64(mem + 512, 4);
    set_hi(3, 0, 0);
    set_xmm(3, 9, 9);
    OK("\x0f\xae\x2b"); /* xrstor: SSE goes to its initial state */
    assert_int_equal(c->ymm[3].q[2], 5);
    assert_int_equal(c->ymm[3].q[0], 0);
    st64(mem + 512, 8);
    assert_int_equal(EXEC("\x0f\xae\x2b"), X86_EXC_GP); /* a component that XCR0 lacks */
    st64(mem + 512, 4);
    mem[540] = 1;
    OK("\x0f\xae\x2b"); /* bytes 24 and up of the header do not matter here ... */
    mem[540] = 0;
    st64(mem + 520, 1);
    assert_int_equal(EXEC("\x0f\xae\x2b"), X86_EXC_GP); /* ... XCOMP_BV does */
    st64(mem + 520, 0x8000000000000003);
    assert_int_equal(EXEC("\x0f\xae\x2b"), X86_EXC_GP); /* XSTATE_BV not within XCOMP_BV */
    memset(mem + 512, 0xaa, 64);
    memset(mem + FX_XMM, 0xaa, 16);
    c->gpr[X86_RBX] = 0;
    OK("\x0f\xc7\x23"); /* xsavec */
    assert_int_equal(ld64(mem + 512), 4);
    assert_int_equal(ld64(mem + 520), 0x8000000000000007);
    assert_int_equal(mem[FX_XMM], 0xaa); /* in its initial state: not written */
    assert_int_equal(x86_xinuse(vp), 4);
    c->gpr[X86_RBX] = 32;
    assert_int_equal(EXEC("\x0f\xae\x23"), X86_EXC_GP);
    c->cr4 &= ~(uint64_t)CR4_OSXSAVE;
    assert_int_equal(EXEC("\x0f\xae\x23"), X86_EXC_UD);
}

static void test_state_image(void **state)
{
    static uint8_t a[1024], b[1024];
    struct x86_cpu *c = &vp->cpu;

    (void)state;
    OK("\xd9\xeb");
    set_xmm(7, 1, 2);
    set_hi(8, 3, 4);
    c->mxcsr = 0x3fa0;
    x86_xsave_get(vp, a);
    x86_vec_reset(vp);
    assert_int_equal(x86_xsave_put(vp, a), 0);
    x86_xsave_get(vp, b);
    assert_memory_equal(a, b, sizeof a);
    a[512] = 0x80;
    assert_int_equal(x86_xsave_put(vp, a), -1);
    a[512] = 7;
    a[26] = 1;
    assert_int_equal(x86_xsave_put(vp, a), -1);
    x86_xsave_get(vp, a);
    assert_memory_equal(a, b, sizeof a); /* refused without a change */
}

/* ---- SHA in C --------------------------------------------------------------------------------------------------------- */

static void sha(const char *bytes, size_t len, struct x86_ymm *d, struct x86_ymm *s,
                struct x86_ymm *x)
{
    struct x86_insn in = decode(bytes, len);

    assert_true(vec_sha(&in, d, s, x));
}

/* The first rounds of SHA-256 of "abc" against FIPS 180-2 appendix B.1, and all seven instructions against the
 * processor where it has them. */
static void test_sha(void **state)
{
    static const char *const code[] = { "\x0f\x3a\xcc\xca\x00", "\x0f\x3a\xcc\xca\x01",
                                        "\x0f\x3a\xcc\xca\x02", "\x0f\x3a\xcc\xca\x03",
                                        "\x0f\x38\xc8\xca",     "\x0f\x38\xc9\xca",
                                        "\x0f\x38\xca\xca",     "\x0f\x38\xcb\xca",
                                        "\x0f\x38\xcc\xca",     "\x0f\x38\xcd\xca" };
    struct x86_ymm abef = { { 0x510e527f9b05688c, 0x6a09e667bb67ae85 } };
    struct x86_ymm cdgh = { { 0x1f83d9ab5be0cd19, 0x3c6ef372a54ff53a } };
    struct x86_ymm wk = { { (uint64_t)0x71374491 << 32 | (0x61626380u + 0x428a2f98u), 0 } };
    uint64_t seed = 12345;

    (void)state;
    sha("\x0f\x38\xcb\xca", 4, &cdgh, &abef, &wk);
    assert_int_equal(cdgh.q[1] >> 32, 0x5a6ad9ad); /* a and b after round 1 */
    assert_int_equal((uint32_t)cdgh.q[1], 0x5d6aebcd);
    assert_int_equal(cdgh.q[0] >> 32, 0x78ce7989); /* e and f */
    assert_int_equal((uint32_t)cdgh.q[0], 0xfa2a4622);
    for (unsigned i = 0; i < sizeof code / sizeof *code; i++)
        for (unsigned n = 0; n < 1000; n++) {
            struct x86_ymm d, want;
            size_t len = i < 4 ? 5 : 4;

            for (unsigned k = 0; k < 6; k++) {
                seed = seed * 6364136223846793005ull + 1442695040888963407ull;
                vp->cpu.ymm[k / 2].q[k & 1] = seed ^ seed >> 29;
            }
            d = vp->cpu.ymm[1];
            sha(code[i], len, &d, &vp->cpu.ymm[2], &vp->cpu.ymm[0]);
            assert_int_equal(exec(code[i], len), -1); /* natively, or again the C form */
            want = vp->cpu.ymm[1];
            assert_memory_equal(d.q, want.q, 16);
        }
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_registers),      TEST(test_memory),      TEST(test_simd_exceptions),
        TEST(test_flags),          TEST(test_checks),      TEST(test_cache),
        TEST(test_masked),         TEST(test_gather),      TEST(test_x87),
        TEST(test_x87_exceptions), TEST(test_x87_images),  TEST(test_fxsave),
        TEST(test_xsave),          TEST(test_state_image), TEST(test_sha),
    };

    __builtin_cpu_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
