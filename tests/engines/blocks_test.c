/* SPDX-License-Identifier: BSD-2-Clause */
/* Small pieces of code on the translator, each as it is made first, after some runs and after many (hv/jit/jit.h): the guest
 * then has what the interpreter leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/engines/harness.h"

enum { MB = 1u << 20, DATA = 4 * MB, ACROSS = DATA + 4096 - 4, STACK = DATA + 8 * 4096 - 4, SUPER = 8 * MB, SHOWN = 256 };
enum { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI };
enum { CPL0, CPL3, PROTECTED };

static struct harness h;

/* What is left. */
struct left { struct hv_vp_state s; uint8_t data[2][SHOWN]; };

/* @body is a block, repeated until ebp is 0; each time begins with what the one before has left.  Numbers are 0 where they are not said. */
struct piece {
    unsigned mode, len;
    uint8_t body[32];
    uint64_t gpr[8];
    void (*prepare)(struct hv_vp_state *s);
};

static void run(const struct piece *c, const char *engine, unsigned turns, struct left *ret)
{
    static const uint8_t end[] = { 0x66, 0xba, 0xf4, 0 /* mov dx, 0xf4 */, 0xef /* out dx, eax */, 0xeb, 0xfe };
    uint8_t *p;
    struct hv_exit e;
    int32_t d = -(int32_t)(c->len + 8);

    assert_int_equal(harness_open(&h, engine, 1), 0);
    if (c->mode == PROTECTED)
        harness_protected(&h, 0);
    else
        harness_long_mode(&h, 0, c->mode == CPL3 ? 3 : 0);
    for (unsigned i = 0; i < 16 * 4096; i++)
        h.ram[DATA + i] = (uint8_t)(i * 7 + (i >> 8));
    memset(h.ram + SUPER, 0x5a, 4096);
    p = h.ram + HARNESS_CODE;
    *p++ = 0xeb, *p++ = 0; /* what follows is a block of its own */
    memcpy(p, c->body, c->len);
    p += c->len;
    *p++ = 0xff, *p++ = 0xcd; /* dec ebp */
    *p++ = 0x0f, *p++ = 0x85; /* jnz */
    memcpy(p, &d, 4);
    memcpy(p + 4, end, sizeof(end));
    hv_vp_get_state(h.p, 0, &ret->s);
    for (unsigned g = 0; g < 8; g++)
        if (c->gpr[g])
            ret->s.gpr[g] = c->gpr[g];
    ret->s.gpr[RBP] = turns;
    if (c->prepare)
        c->prepare(&ret->s);
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    assert_int_equal(hv_vp_set_state(h.p, 0, &ret->s), 0);
    assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_CANCELED);
    assert_true(h.exited);
    hv_vp_get_state(h.p, 0, &ret->s);
    memcpy(ret->data[0], h.ram + ACROSS - SHOWN / 2, SHOWN);
    memcpy(ret->data[1], h.ram + STACK - SHOWN / 2, SHOWN);
    harness_close(&h);
}

static void same(const struct piece *c)
{
    static const unsigned turns[] = { 1, 2, 5, 1000, 30000 };
    static struct left a, b;

    for (unsigned i = 0; i < sizeof(turns) / sizeof(turns[0]); i++) {
        run(c, "interp", turns[i], &a);
        run(c, "jit", turns[i], &b);
        for (unsigned g = 0; g < 16; g++)
            assert_int_equal(a.s.gpr[g], b.s.gpr[g]);
        assert_int_equal(a.s.rflags, b.s.rflags);
        assert_memory_equal(a.data, b.data, sizeof(a.data));
        assert_memory_equal(a.s.xsave, b.s.xsave, sizeof(a.s.xsave));
    }
}

/* The first of two operands is across two pages, so that C does the instruction: what follows has not seen the second one's check. */
static void two_operands(void **state)
{
    static const struct piece push = { CPL3, 5, { 0xff, 0x30 /* push [rax] */, 0x53 /* push rbx */, 0x5a /* pop rdx */, 0x5e /* pop rsi */ },
                                       { [RAX] = ACROSS, [RBX] = 0x1122334455667788 }, NULL };
    static const struct piece behind = { CPL3, 7, { 0x51 /* push rcx */, 0xff, 0x30, 0x53, 0x5a, 0x5e, 0x5f /* pop rdi */ },
                                         { [RAX] = ACROSS, [RCX] = 0x99, [RBX] = 0x1122334455667788 }, NULL };
    static const struct piece pop = { CPL3, 10, { 0x8f, 0x00 /* pop [rax] */, 0x48, 0x89, 0x50, 8 /* mov [rax+8], rdx */,
                                                  0x48, 0x83, 0xec, 8 /* sub rsp, 8 */ },
                                      { [RAX] = ACROSS + 4, [RDX] = 0x8877665544332211, [RSP] = STACK }, NULL };

    (void)state;
    same(&push);
    same(&behind);
    same(&pop);
}

static void smap(struct hv_vp_state *s)
{
    s->cr4 |= 1u << 21;
    ((uint64_t *)(h.ram + 0x3000))[SUPER >> 21] &= ~4ull;
}

/* A loop's first turn is for another view than the next ones. */
static void stac_in_loop(void **state)
{
    static const struct piece c = { CPL0, 21, { 0x0f, 0x01, 0xca /* clac */, 0x89, 0xf1 /* mov ecx, esi: 3 */, 0x48, 0x89, 0xc7 /* mov rdi, rax */,
                                               0xeb, 0 /* jmp 1 */, /* 1: */ 0x8b, 0x17 /* mov edx, [rdi] */, 0x89, 0xdf /* mov edi, ebx */, 0x0f, 0x01, 0xcb /* stac */,
                                               0xff, 0xc9 /* dec ecx */, 0x75, 0xf5 /* jnz 1 */ },
                                    { [RAX] = SUPER, [RBX] = DATA, [RSI] = 3 }, smap };

    (void)state;
    same(&c);
}

/* Outside of 64-bit mode VEX.vvvv has three bits. */
static void vvvv(void **state)
{
    static const struct piece andn = { PROTECTED, 5, { 0xc4, 0xe2, 0x30, 0xf2, 0xc2 /* andn eax, ecx, edx */ },
                                       { [RCX] = 0x12345678, [RDX] = 0xffff0f0f }, NULL };
    static const struct piece blsr = { PROTECTED, 5, { 0xc4, 0xe2, 0x30, 0xf3, 0xca /* blsr ecx, edx */ }, { [RDX] = 0xff00ff00 }, NULL };

    (void)state;
    same(&andn);
    same(&blsr);
}

/* What C remembers of an x87 instruction is not that of the ones behind it. */
static void x87_pointers(void **state)
{
    static const struct piece c = { CPL3, 11, { 0xdb, 0xe3 /* fninit */, 0xd9, 0xe8 /* fld1 */, 0xdd, 0x00 /* fld qword [rax] */,
                                               0xd8, 0xc1 /* fadd st, st(1) */, 0xd9, 0x73, 0x40 /* fnstenv [rbx+64] */ },
                                    { [RAX] = ACROSS, [RBX] = ACROSS - 64 }, NULL };

    (void)state;
    same(&c);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(two_operands), cmocka_unit_test(stac_in_loop), cmocka_unit_test(vvvv),
                                        cmocka_unit_test(x87_pointers) };

    setenv("MOBO_JIT_NATIVE", "no", 1);
    harness_needs("jit");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
