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

/* A target of the user's that is not canonical is not the kernel's that is like it but for the upper bits. */
static void not_canonical(void **state)
{
    enum { F = 8 * MB, COUNT = 10 * MB, USER = DATA };
    static const uint8_t f[] = { 0xff, 0x07 /* inc dword [rdi] */, 0xc3 };
    static const uint8_t kernel[] = { 0xff, 0xd0 /* call rax */, 0x6a, 0x1b /* push: SS, RSP, RFLAGS, CS, RIP */, 0x56, 0x68, 0x02, 0x30, 0, 0, 0x6a, 0x23,
                                      0x53, 0x48, 0xcf /* iretq */ };
    static const uint8_t program[] = { 0xff, 0xe1 /* jmp rcx */ };
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    for (uint64_t view = 1; view <= 2; view++) {
        assert_int_equal(harness_open(&h, "jit", 1), 0);
        harness_long_mode(&h, 0, 0);
        for (unsigned i = 0; i <= COUNT >> 21; i++)
            ((uint64_t *)(h.ram + 0x3000))[i] &= i == USER >> 21 ? ~0ull : ~4ull;
        memcpy(h.ram + F, f, sizeof(f));
        memcpy(h.ram + HARNESS_CODE, kernel, sizeof(kernel));
        memcpy(h.ram + USER, program, sizeof(program));
        hv_gpa_dirty(h.p, 0, HARNESS_RAM);
        hv_vp_get_state(h.p, 0, &s);
        if (view == 1)
            s.cr4 |= 1u << 21; /* SMAP */
        s.gpr[RAX] = F;
        s.gpr[RBX] = USER;
        s.gpr[RCX] = F + (view << 56);
        s.gpr[RSI] = USER + MB;
        s.gpr[RDI] = COUNT;
        assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
        assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_TRIPLE_FAULT); /* there is no IDT */
        assert_int_equal(*(uint32_t *)(h.ram + COUNT), 1);
        harness_close(&h);
    }
}

/* The block's own line has the entry of the page that it reads from: that it sets A drops it. */
static void sets_accessed(void **state)
{
    enum { TABLE = 0x8000, ENTRY = 263, CODE = TABLE + 0x800, AT = 32 * MB };
    static const uint8_t code[] = { 0xff, 0xc0 /* inc eax */, 0x8b, 0x03 /* mov eax, [rbx] */, 0xc3 };
    static const uint8_t turn[] = { 0x41, 0xff, 0xd0 /* call r8 */, 0xff, 0xc9, 0x75, 0xf9 /* dec ecx; jnz */,
                                    0xb9, 20, 0, 0, 0, 0x83, 0x22, 0xdf /* and dword [rdx], ~A */, 0x0f, 0x01, 0x3b /* invlpg [rbx] */,
                                    0x41, 0xff, 0xd0, 0xff, 0xc9, 0x75, 0xf3, 0xe7, 0xf4 /* out 0xf4, eax */, 0xeb, 0xfe };
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    for (unsigned small = 0; small < 2; small++) {
        if (small)
            setenv("MOBO_JIT_SMALL", "1", 1);
        assert_int_equal(harness_open(&h, "jit", 1), 0);
        unsetenv("MOBO_JIT_SMALL");
        harness_long_mode(&h, 0, 0);
        ((uint64_t *)(h.ram + 0x3000))[AT >> 21] = TABLE | 7;
        ((uint64_t *)(h.ram + TABLE))[ENTRY] = DATA | 3;
        memcpy(h.ram + CODE, code, sizeof(code));
        memcpy(h.ram + HARNESS_CODE, turn, sizeof(turn));
        *(uint32_t *)(h.ram + DATA) = 0x1234567;
        hv_gpa_dirty(h.p, 0, HARNESS_RAM);
        hv_vp_get_state(h.p, 0, &s);
        s.gpr[RCX] = 50000;
        s.gpr[RDX] = TABLE + 8 * ENTRY;
        s.gpr[RBX] = AT + 4096 * ENTRY;
        s.gpr[8] = CODE;
        assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
        assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_CANCELED);
        assert_true(h.exited);
        assert_int_equal(h.exit_value, 0x1234567);
        harness_close(&h);
    }
}

/* A page table is changed and nothing flushed: the block of the page that was there, with a check for two accesses, is not left
 * for the code of the page that is there now. */
static void other_code(void **state)
{
    enum { TABLE = 0x8000, V = 32 * MB, OTHER = 6 * MB, EVICT = V + 1 * MB, FAR = 12 * MB };
    static const uint8_t code[2][11] = { { 0x48, 0x89, 0x03 /* mov [rbx], rax */, 0x48, 0x8b, 0x16 /* mov rdx, [rsi] */, 0x48, 0x89, 0x43, 8 /* mov [rbx+8], rax */, 0xc3 },
                                         { 0x48, 0x89, 0x03, 0x48, 0x8b, 0x1e /* mov rbx, [rsi] */, 0x48, 0x89, 0x43, 8, 0xc3 } };
    static const uint8_t turn[] = { 0x41, 0xff, 0xd0 /* call r8 */, 0x41, 0xff, 0xd1 /* call r9 */, 0x4d, 0x89, 0x22 /* mov [r10], r12 */,
                                    0x4c, 0x89, 0xde /* mov rsi, r11 */, 0x41, 0xff, 0xd0, 0xe7, 0xf4, 0xeb, 0xfe };
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    assert_int_equal(harness_open(&h, "jit", 1), 0);
    harness_long_mode(&h, 0, 0);
    ((uint64_t *)(h.ram + 0x3000))[V >> 21] = TABLE | 7;
    ((uint64_t *)(h.ram + 0x3000))[FAR >> 21] = 0;
    ((uint64_t *)(h.ram + TABLE))[0] = OTHER | 7;
    ((uint64_t *)(h.ram + TABLE))[256] = (OTHER + 8192) | 7;
    memcpy(h.ram + OTHER, code[0], sizeof(code[0]));
    memcpy(h.ram + OTHER + 4096, code[1], sizeof(code[1]));
    h.ram[OTHER + 8192 + 0x40] = 0xc3;
    memcpy(h.ram + HARNESS_CODE, turn, sizeof(turn));
    *(uint64_t *)(h.ram + ACROSS) = FAR;
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    hv_vp_get_state(h.p, 0, &s);
    s.gpr[RAX] = 0x77;
    s.gpr[RBX] = s.gpr[RSI] = DATA;
    s.gpr[8] = V;
    s.gpr[9] = EVICT + 0x40;
    s.gpr[10] = TABLE;
    s.gpr[11] = ACROSS;
    s.gpr[12] = (OTHER + 4096) | 7;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    (void)harness_run(&h, 20000, &e); /* the code of either page, or a page fault */
    assert_int_equal(*(uint64_t *)(h.ram + FAR + 8), 0);
    harness_close(&h);
}

static void low(struct hv_vp_state *s)
{
    static const uint8_t code[] = { 0x9c /* pushf */, 0x5a /* pop rdx */, 0xff, 0xe7 /* jmp rdi */ };

    memcpy(h.ram + (s->gpr[RDI] & 0xffff), code, sizeof(code));
    s->gpr[RDX] = 0;
}

/* Operand size 16: the branch does not lead to the instruction that needs no flags, but 1 MB below it. */
static void short_target(void **state)
{
    static const struct piece jmp = { PROTECTED, 8, { 0x39, 0xd8 /* cmp eax, ebx */, 0x66, 0xe9, 0, 0 /* jmp */, 0x31, 0xf6 /* xor esi, esi */ },
                                      { [RAX] = 1, [RBX] = 2, [RDI] = HARNESS_CODE + 8, [RSP] = STACK }, low };
    static const struct piece jcc = { PROTECTED, 9, { 0x39, 0xd8, 0x66, 0x0f, 0x82, 0, 0 /* jc */, 0x31, 0xf6 },
                                      { [RAX] = 1, [RBX] = 2, [RDI] = HARNESS_CODE + 9, [RSP] = STACK }, low };
    static const struct piece over = { PROTECTED, 10, { 0x39, 0xd8, 0xeb, 0 /* jmp */, 0x66, 0xe9, 0, 0, 0x31, 0xf6 },
                                       { [RAX] = 1, [RBX] = 2, [RDI] = HARNESS_CODE + 10, [RSP] = STACK }, low };

    (void)state;
    same(&jmp);
    same(&jcc);
    same(&over);
}

/* What both engines have to get right: @prepare's machine ends with @value. */
static void ends_with(void (*prepare)(struct hv_vp_state *s), uint32_t value)
{
    static const char *const engines[] = { "interp", "jit" };
    struct hv_vp_state s;
    struct hv_exit e;

    for (unsigned k = 0; k < 2; k++) {
        assert_int_equal(harness_open(&h, engines[k], 1), 0);
        harness_long_mode(&h, 0, 0);
        hv_vp_get_state(h.p, 0, &s);
        prepare(&s);
        hv_gpa_dirty(h.p, 0, HARNESS_RAM);
        assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
        assert_int_equal(harness_run(&h, 60000, &e), HV_EXIT_CANCELED);
        assert_true(h.exited);
        assert_int_equal(h.exit_value, value);
        harness_close(&h);
    }
}

enum { GATES = 0x7000, HANDLER = HARNESS_CODE + 0x1000, TABLE = 0x8000, MAPPED = 32 * MB /* by TABLE */ };

static void gate(struct hv_vp_state *s, unsigned vector, const uint8_t *code, size_t n)
{
    uint64_t *g = (uint64_t *)(h.ram + GATES + 16 * vector);

    g[0] = (HANDLER & 0xffff) | 8ull << 16 | 0x8eull << 40 | (uint64_t)(HANDLER >> 16) << 48;
    g[1] = 0;
    memcpy(h.ram + HANDLER, code, n);
    s->idtr_base = GATES;
    s->idtr_limit = 4095;
}

static uint64_t *pte(unsigned i) { return (uint64_t *)(h.ram + TABLE) + i; }

static void map_table(void) { ((uint64_t *)(h.ram + 0x3000))[MAPPED >> 21] = TABLE | 0x27; }

static void upper_2mb(struct hv_vp_state *s)
{
    static const uint8_t code[] = { 0x0f, 0x22, 0xd8 /* mov cr3, rax */, 0x8b, 0x13 /* mov edx, [rbx] */, 0xff, 0xc9, 0x75, 0xf7 /* dec ecx; jnz */,
                                    0x89, 0xc8 /* mov eax, ecx */, 0xe7, 0xf4, 0xeb, 0xfe };

    ((uint64_t *)(h.ram + 0x1000))[511] = 0x5003;
    ((uint64_t *)(h.ram + 0x5000))[511] = 0x6003;
    ((uint64_t *)(h.ram + 0x6000))[511] = DATA | 0x83;
    memcpy(h.ram + HARNESS_CODE, code, sizeof(code));
    s->gpr[RAX] = s->cr3;
    s->gpr[RBX] = 0xffffffffffe00000;
    s->gpr[RCX] = (1u << 21) + 1000;
}

/* Cached tables carry a number of 21 bits.  No flush makes an entry that is free the one of the last 2 MB. */
static void table_numbers(void **state)
{
    (void)state;
    ends_with(upper_2mb, 0);
}

static bool cached_before;

/* mov eax, imm32, whose number is the lower half of entry 256. */
static void code_in_table(struct hv_vp_state *s)
{
    static const uint8_t turn[] = { 0x8b, 0x3e /* mov edi, [rsi] */, 0x41, 0xff, 0xd0 /* call r8 */, 0x41, 0xff, 0xd0, 0x8b, 0x3b /* mov edi, [rbx] */,
                                    0x41, 0xff, 0xd0, 0xe7, 0xf4, 0xeb, 0xfe };

    map_table();
    *pte(0) = (DATA + 4096) | 0x23;
    *pte(256) = DATA | 3;
    h.ram[TABLE + 0x7ff] = 0xb8;
    h.ram[TABLE + 0x808] = 0xc3;
    memcpy(h.ram + HARNESS_CODE, turn, sizeof(turn));
    s->gpr[RBX] = MAPPED + 256 * 4096;
    s->gpr[RSI] = cached_before ? MAPPED : DATA;
    s->gpr[8] = TABLE + 0x7ff;
}

/* A is set in an entry that is code, too, by way of a table that was known before there was code in it, or not. */
static void table_is_code(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        cached_before = i;
        ends_with(code_in_table, DATA | 0x23);
    }
}

static uint64_t second;

static void fetched_twice(struct hv_vp_state *s)
{
    enum { V = MAPPED + 8 * 4096, P = 6 * MB };
    static const uint8_t code[] = { 0x41, 0xff, 0xd0 /* call r8 */, 0x41, 0xff, 0xd1 /* call r9 */, 0x4d, 0x31, 0xf6 /* xor r14, r14 */,
                                    0x4d, 0x89, 0x32 /* mov [r10], r14: not present */, 0x45, 0x8b, 0x28 /* mov r13d, [r8]: #PF, then again */,
                                    0x41, 0xff, 0xd0, 0xe7, 0xf4, 0xeb, 0xfe };
    static const uint8_t handler[] = { 0x4d, 0x89, 0x22 /* mov [r10], r12 */, 0x48, 0x83, 0xc4, 8 /* add rsp, 8 */, 0x48, 0xcf };

    map_table();
    *pte(8) = P | 3;
    *pte(256 + 8) = (P + 8192) | 3;
    gate(s, 14, handler, sizeof(handler));
    memcpy(h.ram + P, "\xb8\x01\x00\x00\x00\xc3", 6);
    memcpy(h.ram + P + 4096, "\xb8\x02\x00\x00\x00\xc3", 6);
    h.ram[P + 8192] = h.ram[HARNESS_CODE + 0x2000] = 0xc3;
    memcpy(h.ram + HARNESS_CODE, code, sizeof(code));
    s->gpr[8] = V;
    s->gpr[9] = second;
    s->gpr[10] = TABLE + 8 * 8;
    s->gpr[12] = (P + 4096) | 3;
}

/* A page fault drops what is known of its address, and be it only blocks that know it. */
static void fault_drops_code(void **state)
{
    (void)state;
    second = HARNESS_CODE + 0x2000;
    ends_with(fetched_twice, 2);
    second = MAPPED + 8 * 4096 + MB; /* its place in the cache of fetched pages is the same */
    ends_with(fetched_twice, 2);
}

static uint64_t read_from;

static void self_interrupt(struct hv_vp_state *s)
{
    enum { APIC = 48 * MB };
    static const uint8_t code[] = { 0x48, 0x89, 0xd9 /* mov rcx, rbx */, 0xeb, 0, 0x89, 0x06 /* mov [rsi], eax: ICR */, 0xfb /* sti */,
                                    0x48, 0x8b, 0x11 /* mov rdx, [rcx] */, 0x48, 0x8b, 0x79, 8 /* mov rdi, [rcx + 8] */, 0x90, 0x90, 0xfa, 0xeb, 0xfe };
    static const uint8_t handler[] = { 0x58 /* pop rax */, 0xe7, 0xf4, 0xeb, 0xfe };

    ((uint64_t *)(h.ram + 0x3000))[APIC >> 21] = 0xfee00000 | 0x93;
    gate(s, 0x40, handler, sizeof(handler));
    memcpy(h.ram + HARNESS_CODE, code, sizeof(code));
    s->gpr[RAX] = 0x44040; /* to itself, vector 0x40 */
    s->gpr[RSI] = APIC + 0x300;
    s->gpr[RBX] = read_from;
    *(uint32_t *)(void *)((uint8_t *)s->apic + 0xf0) = 0x1ff;
}

/* An interrupt that waits comes behind the instruction behind STI, also where the check for that one and the next one fails. */
static void sti_window(void **state)
{
    (void)state;
    read_from = DATA;
    ends_with(self_interrupt, HARNESS_CODE + 11);
    read_from = DATA + 4096 - 8;
    ends_with(self_interrupt, HARNESS_CODE + 11);
}

static void resume_flag(struct hv_vp_state *s) { s->rflags |= 1u << 16; }

static void pushf_rf(void **state)
{
    static const struct piece c = { CPL0, 2, { 0x9c /* pushfq */, 0x5a /* pop rdx */ }, { [RSP] = STACK + 4 }, resume_flag };
    static struct left a;

    (void)state;
    same(&c);
    run(&c, "jit", 3, &a);
    assert_int_equal(a.s.rflags & (1u << 16), 0);
}

static void compatibility(struct hv_vp_state *s)
{
    s->cs.attr = 0xc09b;
    s->fs.base = 0x100000000ull + DATA;
}

/* Compatibility mode takes the lower half of a base. */
static void fs_base_compat(void **state)
{
    static const struct piece at0 = { CPL0, 7, { 0x64, 0x8b, 0x05, 0, 0, 0, 0 /* mov eax, fs:[0] */ }, { 0 }, compatibility };
    static const struct piece at4 = { CPL0, 7, { 0x64, 0x8b, 0x05, 4, 0, 0, 0 }, { 0 }, compatibility };

    (void)state;
    same(&at0);
    same(&at4);
}

/* The limit of CS is that of the address space: an instruction that goes on at 0 is #GP. */
static void code_wraps(void **state)
{
    static const uint8_t go[] = { 0xff, 0xe0 /* jmp eax */ }, low_end[] = { 0xc7 /* behind 0xff of no RAM: inc edi */, 0xe7, 0xf4 };
    static const char *const engines[] = { "interp", "jit" };
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    for (unsigned k = 0; k < 2; k++) {
        assert_int_equal(harness_open(&h, engines[k], 1), 0);
        harness_protected(&h, 0);
        memcpy(h.ram, low_end, sizeof(low_end));
        memcpy(h.ram + HARNESS_CODE, go, sizeof(go));
        hv_gpa_dirty(h.p, 0, HARNESS_RAM);
        hv_vp_get_state(h.p, 0, &s);
        s.gpr[RAX] = 0xffffffff;
        s.gpr[RDI] = 0;
        assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
        assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_TRIPLE_FAULT); /* there is no IDT */
        hv_vp_get_state(h.p, 0, &s);
        assert_int_equal(s.gpr[RDI], 0);
        harness_close(&h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(two_operands), cmocka_unit_test(stac_in_loop), cmocka_unit_test(vvvv),
                                        cmocka_unit_test(x87_pointers), cmocka_unit_test(not_canonical), cmocka_unit_test(sets_accessed),
                                        cmocka_unit_test(other_code), cmocka_unit_test(short_target),
                                        cmocka_unit_test(table_numbers), cmocka_unit_test(table_is_code), cmocka_unit_test(fault_drops_code),
                                        cmocka_unit_test(sti_window), cmocka_unit_test(pushf_rf), cmocka_unit_test(fs_base_compat), cmocka_unit_test(code_wraps) };

    setenv("MOBO_JIT_NATIVE", "no", 1);
    harness_needs("jit");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
