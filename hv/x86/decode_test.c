/* SPDX-License-Identifier: BSD-2-Clause */
/* Unit tests of the x86 decoder: one case for each rule of the Intel SDM that the tables and
 * decode.c implement, plus the integrity of the tables.  Includes decode.c to see the tables.
 *
 *   gcc -std=gnu11 -g -Wall -Wextra -I. -o /tmp/decode_test hv/x86/decode_test.c -lcmocka && \
 *       /tmp/decode_test */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "hv/x86/decode.c"

/* An instruction as text: mnemonic, osize and asize, then the operands:
 *     access:kind size.register     access - r w rw; kind g (GPR; h: high byte) x mm s cr dr st
 *     access:m size[seg:base+index*scale+disp]
 *     i size=value, rel=value, far=selector:offset
 * then attributes that matter to the test and, with /cc, the condition. */
static char *put(char *p, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static char *put(char *p, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    p += vsprintf(p, fmt, ap);
    va_end(ap);
    return p;
}

static char *put_mem(char *p, const struct x86_insn *in)
{
    static const char *const reg[] = {
        "ax", "cx", "dx", "bx", "sp", "bp", "si", "di", "r8", "r9", "r10", "r11", "r12", "r13",
        "r14", "r15", "", "rip"
    };
    static const char *const seg[] = { "es", "cs", "ss", "ds", "fs", "gs" };
    const char *sep = "";

    p = put(p, "[%s:", seg[in->seg]);
    if (in->base != X86_REG_NONE) {
        p = put(p, "%s", reg[in->base]);
        sep = "+";
    }
    if (in->vsib)
        p = put(p, "%sx%u*%u", sep, in->index, 1u << in->scale);
    else if (in->index != X86_REG_NONE)
        p = put(p, "%s%s*%u", sep, reg[in->index], 1u << in->scale);
    if (in->disp)
        p = put(p, "%c0x%llx", in->disp < 0 ? '-' : '+',
                (unsigned long long)(in->disp < 0 ? 0 - (uint64_t)in->disp : (uint64_t)in->disp));
    return put(p, "]");
}

static void describe(char *p, const struct x86_insn *in)
{
    static const char *const kind[] = {
        "", "g", "m", "i", "i", "", "", "s", "cr", "dr", "mm", "x", "st"
    };
    static const char *const access[] = { "-", "r", "w", "rw" };
    static const struct { uint32_t bit; const char *name; } attr[] = {
        { X86_A_ALIGN, "align" }, { X86_A_WAIT, "wait" }, { X86_A_MMX, "mmx" },
        { X86_A_SSE, "sse" }, { X86_A_VEX, "vex" }, { X86_A_FPEXC, "fpexc" },
        { X86_A_GPRVEX, "gprvex" },
        { X86_A_ZEROU, "zerou" },
    };
    unsigned i;

    p = put(p, "%s %u/%u", x86_op_name(in->op), in->osize, in->asize);
    if (in->rep)
        p = put(p, " %s", in->rep == X86_REP_F3 ? "f3" : "f2");
    if (in->attr & X86_A_STRING)
        p = put(p, " elem%u,seg%u", in->o[0].size, in->seg);
    if (in->op == X86_OP_XLAT || in->op == X86_OP_MASKMOVQ || in->op == X86_OP_MASKMOVDQU)
        p = put(p, " seg%u", in->seg);
    for (i = 0; i < in->nops; i++) {
        const struct x86_operand *o = &in->o[i];

        switch (o->kind) {
        case X86_O_MEM:
            p = put(p, " %s:m%u", access[o->flags & 3], o->size);
            p = put_mem(p, in);
            break;
        case X86_O_IMM:
            p = put(p, " i%u=%lld", o->size, (long long)in->imm);
            break;
        case X86_O_IMM2:
            p = put(p, " j%u=%lld", o->size, (long long)in->imm2);
            break;
        case X86_O_REL:
            p = put(p, " rel=%lld", (long long)in->imm);
            break;
        case X86_O_FAR:
            p = put(p, " far=%llx:%llx", (long long)in->imm2, (long long)in->imm);
            break;
        default:
            p = put(p, " %s:%s%u.%u%s", access[o->flags & 3], kind[o->kind], o->size, o->reg,
                    o->flags & X86_F_HIGH8 ? "h" : "");
            break;
        }
    }
    for (i = 0; i < sizeof attr / sizeof *attr; i++)
        if (in->attr & attr[i].bit)
            p = put(p, " %s", attr[i].name);
    if (in->op == X86_OP_JCC || in->op == X86_OP_SETCC || in->op == X86_OP_CMOVCC)
        put(p, " /%u", in->cond);
}

struct sample {
    unsigned bits;
    const char *hex;
    const char *expect;
};

static size_t parse_hex(const char *s, uint8_t b[32])
{
    size_t n = 0;
    char *end;

    for (; n < 32; n++, s = end) {
        b[n] = (uint8_t)strtoul(s, &end, 16);
        if (end == s)
            break;
    }
    return n;
}

static void check(const struct sample *t, size_t count)
{
    size_t k, i;

    for (k = 0; k < count; k++) {
        uint8_t b[32];
        size_t n = parse_hex(t[k].hex, b);
        struct x86_insn in, again;
        int ret = x86_decode(b, n, t[k].bits / 8, &in);
        char text[256];

        if (ret > 0) {
            describe(text, &in);
            assert_int_equal(ret, in.len);
            assert_int_equal(ret, n);
            for (i = 0; i < n; i++) { /* every proper prefix asks for more, and reads no more */
                uint8_t *part = malloc(i + !i);

                assert_non_null(part);
                memcpy(part, b, i);
                assert_int_equal(x86_decode(part, i, t[k].bits / 8, &again), 0);
                free(part);
            }
        } else {
            put(text, ret == UD ? "#ud" : ret == TOO_LONG ? "#gp" : "more");
        }
        if (strcmp(text, t[k].expect) != 0)
            fail_msg("%u: %s\n  is:     %s\n  expect: %s", t[k].bits, t[k].hex, text, t[k].expect);
    }
}
#define CHECK(a) check(a, sizeof a / sizeof *a)

/* ModRM and SIB forms, default segments (SDM 2A 2.1.5) */
static const struct sample addressing_samples[] = {
    { 64, "01 c8", "add 4/8 rw:g4.0 r:g4.1" },
    { 64, "01 4c 88 10", "add 4/8 rw:m4[ds:ax+cx*4+0x10] r:g4.1" },
    { 64, "48 03 05 78 56 34 12", "add 8/8 rw:g8.0 r:m8[ds:rip+0x12345678]" },
    { 64, "67 48 03 05 78 56 34 12", "add 8/4 rw:g8.0 r:m8[ds:rip+0x12345678]" },
    { 64, "8b 04 25 10 00 00 80", "mov 4/8 w:g4.0 r:m4[ds:-0x7ffffff0]" },
    { 64, "8b 45 00", "mov 4/8 w:g4.0 r:m4[ss:bp]" },
    { 64, "41 8b 45 00", "mov 4/8 w:g4.0 r:m4[ds:r13]" },
    { 64, "8b 44 24 08", "mov 4/8 w:g4.0 r:m4[ss:sp+0x8]" },
    { 64, "41 8b 44 24 08", "mov 4/8 w:g4.0 r:m4[ds:r12+0x8]" },
    { 64, "42 8b 04 20", "mov 4/8 w:g4.0 r:m4[ds:ax+r12*1]" },
    { 64, "8b 04 65 04 00 00 00", "mov 4/8 w:g4.0 r:m4[ds:+0x4]" },
    { 64, "4a 8b 04 65 04 00 00 00", "mov 8/8 w:g8.0 r:m8[ds:r12*2+0x4]" },
    { 32, "8b 05 78 56 34 12", "mov 4/4 w:g4.0 r:m4[ds:+0x12345678]" },
    { 32, "67 8b 46 fe", "mov 4/2 w:g4.0 r:m4[ss:bp-0x2]" },
    { 16, "8b 00", "mov 2/2 w:g2.0 r:m2[ds:bx+si*1]" },
    { 16, "8b 02", "mov 2/2 w:g2.0 r:m2[ss:bp+si*1]" },
    { 16, "8b 06 34 12", "mov 2/2 w:g2.0 r:m2[ds:+0x1234]" },
    { 16, "8b 46 00", "mov 2/2 w:g2.0 r:m2[ss:bp]" },
    { 16, "8b 87 00 80", "mov 2/2 w:g2.0 r:m2[ds:bx-0x8000]" },
    { 16, "67 8b 04 24", "mov 2/4 w:g2.0 r:m2[ss:sp]" },
    { 16, "66 67 8b 44 8d fc", "mov 4/4 w:g4.0 r:m4[ss:bp+cx*4-0x4]" },
};

static void test_addressing(void **state)
{
    (void)state;
    CHECK(addressing_samples);
}

/* Segment overrides; 64-bit mode heeds FS and GS only (SDM 2A 2.2.1) */
static const struct sample segments_samples[] = {
    { 32, "3e 8b 45 00", "mov 4/4 w:g4.0 r:m4[ds:bp]" },
    { 32, "64 2e 8b 00", "mov 4/4 w:g4.0 r:m4[cs:ax]" },
    { 64, "2e 8b 45 00", "mov 4/8 w:g4.0 r:m4[ss:bp]" },
    { 64, "64 2e 8b 00", "mov 4/8 w:g4.0 r:m4[fs:ax]" },
    { 64, "65 48 8b 04 25 28 00 00 00", "mov 8/8 w:g8.0 r:m8[gs:+0x28]" },
};

static void test_segments(void **state)
{
    (void)state;
    CHECK(segments_samples);
}

/* 66, REX.W, a REX that is not last, byte registers, immediates, moffs */
static const struct sample operand_size_samples[] = {
    { 64, "66 01 c8", "add 2/8 rw:g2.0 r:g2.1" },
    { 64, "48 66 01 c8", "add 2/8 rw:g2.0 r:g2.1" },
    { 64, "66 48 01 c8", "add 8/8 rw:g8.0 r:g8.1" },
    { 64, "88 e0", "mov 4/8 w:g1.0 r:g1.4h" },
    { 64, "40 88 e0", "mov 4/8 w:g1.0 r:g1.4" },
    { 64, "45 88 e0", "mov 4/8 w:g1.8 r:g1.12" },
    { 16, "66 01 c8", "add 4/2 rw:g4.0 r:g4.1" },
    { 32, "66 05 34 12", "add 2/4 rw:g2.0 i2=4660" },
    { 64, "48 05 00 00 00 80", "add 8/8 rw:g8.0 i8=-2147483648" },
    { 64, "48 b8 08 07 06 05 04 03 02 81", "mov 8/8 w:g8.0 i8=-9150748177064392952" },
    { 64, "b8 ff ff ff ff", "mov 4/8 w:g4.0 i4=-1" },
    { 16, "a1 34 f2", "mov 2/2 w:g2.0 r:m2[ds:-0xdcc]" },
    { 64, "a0 88 77 66 55 44 33 22 11", "mov 4/8 w:g1.0 r:m1[ds:+0x1122334455667788]" },
    { 64, "67 a1 44 33 22 81", "mov 4/4 w:g4.0 r:m4[ds:-0x7eddccbc]" },
};

static void test_operand_size(void **state)
{
    (void)state;
    CHECK(operand_size_samples);
}

/* 64-bit defaults; near branches ignore 66 in 64-bit mode */
static const struct sample stack_samples[] = {
    { 64, "50", "push 8/8 r:g8.0" },
    { 64, "66 50", "push 2/8 r:g2.0" },
    { 64, "41 57", "push 8/8 r:g8.15" },
    { 64, "6a ff", "push 8/8 i8=-1" },
    { 64, "66 68 34 12", "push 2/8 i2=4660" },
    { 64, "ff 30", "push 8/8 r:m8[ds:ax]" },
    { 64, "8f 00", "pop 8/8 w:m8[ds:ax]" },
    { 64, "c8 10 00 01", "enter 8/8 i2=16 j1=1" },
    { 64, "c9", "leave 8/8" },
    { 64, "9c", "pushf 8/8" },
    { 64, "66 9c", "pushf 2/8" },
    { 64, "e8 00 00 00 80", "call 8/8 rel=-2147483648" },
    { 64, "66 e8 00 00 00 80", "call 8/8 rel=-2147483648" },
    { 32, "66 e8 00 80", "call 2/4 rel=-32768" },
    { 64, "66 75 fe", "jcc 8/8 rel=-2 /5" },
    { 16, "0f 84 00 80", "jcc 2/2 rel=-32768 /4" },
    { 64, "ff d0", "call 8/8 r:g8.0" },
    { 64, "66 ff e0", "jmp 8/8 r:g8.0" },
    { 64, "c2 08 00", "ret 8/8 i2=8" },
    { 64, "e3 02", "jcxz 8/8 rel=2" },
    { 64, "67 e3 02", "jcxz 8/4 rel=2" },
};

static void test_stack(void **state)
{
    (void)state;
    CHECK(stack_samples);
}

/* Far transfers, far pointer loads, segment registers */
static const struct sample far_samples[] = {
    { 32, "9a 78 56 34 12 08 00", "callf 4/4 far=8:12345678" },
    { 16, "ea 34 12 00 f0", "jmpf 2/2 far=f000:1234" },
    { 64, "9a 78 56 34 12 08 00", "#ud" },
    { 64, "ff 18", "callf 4/8 r:m6[ds:ax]" },
    { 64, "48 ff 28", "jmpf 8/8 r:m10[ds:ax]" },
    { 32, "66 ff 18", "callf 2/4 r:m4[ds:ax]" },
    { 64, "ff d8", "#ud" },
    { 64, "ff e8", "#ud" },
    { 32, "c4 00", "les 4/4 w:g4.0 r:m6[ds:ax]" },
    { 32, "c5 00", "lds 4/4 w:g4.0 r:m6[ds:ax]" },
    { 64, "0f b2 00", "lss 4/8 w:g4.0 r:m6[ds:ax]" },
    { 64, "0f b2 c0", "#ud" },
    { 64, "8e d0", "mov 4/8 w:s2.2 r:g2.0" },
    { 64, "8e c8", "#ud" },
    { 64, "8e f0", "#ud" },
    { 64, "8c d8", "mov 4/8 w:g4.0 r:s2.3" },
    { 64, "8c 18", "mov 4/8 w:m2[ds:ax] r:s2.3" },
    { 64, "8c f0", "#ud" },
    { 32, "06", "push 4/4 r:s2.0" },
    { 64, "06", "#ud" },
    { 64, "0f a0", "push 8/8 r:s2.4" },
    { 32, "0f a1", "pop 4/4 w:s2.4" },
};

static void test_far(void **state)
{
    (void)state;
    CHECK(far_samples);
}

/* Aliases and undefined slots of the one-byte groups */
static const struct sample groups_samples[] = {
    { 64, "f6 c8 55", "test 4/8 r:g1.0 i1=85" },
    { 64, "f7 08 44 33 22 11", "test 4/8 r:m4[ds:ax] i4=287454020" },
    { 64, "fe d0", "#ud" },
    { 64, "ff f8", "#ud" },
    { 64, "8f c8", "#ud" },
    { 64, "c6 c8 00", "#ud" },
    { 64, "c7 f8 00 00 00 00", "#ud" },
    { 32, "82 c0 7f", "add 4/4 rw:g1.0 i1=127" },
    { 64, "82 c0 7f", "#ud" },
    { 64, "8d c0", "#ud" },
    { 64, "8d 04 05 10 00 00 00", "lea 4/8 w:g4.0 -:m0[ds:ax*1+0x10]" },
    { 32, "62 00", "bound 4/4 r:g4.0 r:m8[ds:ax]" },
    { 16, "62 00", "bound 2/2 r:g2.0 r:m4[ds:bx+si*1]" },
    { 32, "62 c0", "#ud" },
    { 64, "62 f1 7c 48 28 c0", "#ud" },
    { 32, "63 c8", "arpl 4/4 rw:g2.0 r:g2.1" },
    { 64, "48 63 c8", "movsxd 8/8 w:g8.1 r:g4.0" },
    { 64, "66 63 c8", "movsxd 2/8 w:g2.1 r:g2.0" },
    { 64, "d1 f0", "shl 4/8 rw:g4.0 i1=1" },
    { 64, "c1 e0 21", "shl 4/8 rw:g4.0 i1=33" },
    { 64, "d3 00", "rol 4/8 rw:m4[ds:ax] r:g1.1" },
    { 64, "d6", "#ud" },
    { 32, "d6", "salc 4/4" },
    { 64, "27", "#ud" },
};

static void test_groups(void **state)
{
    (void)state;
    CHECK(groups_samples);
}

/* NOP, PAUSE, XCHG r8 */
static const struct sample nop_samples[] = {
    { 64, "90", "nop 4/8" },
    { 64, "f3 90", "pause 4/8" },
    { 64, "41 90", "xchg 4/8 rw:g4.8 rw:g4.0" },
    { 64, "f3 41 90", "xchg 4/8 f3 rw:g4.8 rw:g4.0" },
    { 64, "48 90", "nop 8/8" },
    { 64, "66 90", "nop 2/8" },
};

static void test_nop(void **state)
{
    (void)state;
    CHECK(nop_samples);
}

/* String elements and segments, port operands */
static const struct sample strings_samples[] = {
    { 64, "64 a7", "cmps 4/8 elem4,seg4" },
    { 64, "f3 a4", "movs 4/8 f3 elem1,seg3" },
    { 64, "f3 48 ab", "stos 8/8 f3 elem8,seg0" },
    { 64, "f2 ae", "scas 4/8 f2 elem1,seg0" },
    { 32, "64 a5", "movs 4/4 elem4,seg4" },
    { 32, "26 aa", "stos 4/4 elem1,seg0" },
    { 64, "6d", "ins 4/8 elem4,seg0" },
    { 64, "48 6d", "ins 8/8 elem4,seg0" },
    { 64, "ed", "in 4/8 w:g4.0 r:g2.2" },
    { 64, "48 e5 60", "in 8/8 w:g4.0 i1=96" },
    { 64, "66 ef", "out 2/8 r:g2.2 r:g2.0" },
    { 32, "d7", "xlat 4/4 seg3" },
    { 32, "65 d7", "xlat 4/4 seg5" },
};

static void test_strings(void **state)
{
    (void)state;
    CHECK(strings_samples);
}

/* LOCK is defined for some read-modify-write memory forms only (SDM 2A LOCK) */
static const struct sample lock_samples[] = {
    { 64, "f0 01 08", "add 4/8 rw:m4[ds:ax] r:g4.1" },
    { 64, "f0 01 c8", "#ud" },
    { 64, "f0 3b 00", "#ud" },
    { 64, "f0 39 00", "#ud" },
    { 64, "f0 03 00", "#ud" },
    { 64, "f0 0f b1 0a", "cmpxchg 4/8 rw:m4[ds:dx] r:g4.1" },
    { 64, "f0 0f c7 08", "cmpxchg8b 4/8 rw:m8[ds:ax]" },
    { 64, "f0 0f a3 08", "#ud" },
    { 64, "f0 0f ab 08", "bts 4/8 rw:m4[ds:ax] r:g4.1" },
    { 64, "f0 0f ba 20 01", "#ud" },
    { 64, "f0 0f ba 28 01", "bts 4/8 rw:m4[ds:ax] i1=1" },
    { 64, "f0 90", "#ud" },
    { 64, "f0 0f 20 c0", "#ud" },
    { 64, "f2 f0 ff 00", "inc 4/8 f2 rw:m4[ds:ax]" },
};

static void test_lock(void **state)
{
    (void)state;
    CHECK(lock_samples);
}

/* Control registers, descriptor tables, groups 7, 9 and 15, the hint space */
static const struct sample system_samples[] = {
    { 64, "0f 20 c0", "mov 8/8 w:g8.0 r:cr8.0" },
    { 64, "44 0f 20 c0", "mov 8/8 w:g8.0 r:cr8.8" },
    { 64, "0f 22 18", "mov 8/8 w:cr8.3 r:g8.0" },
    { 64, "0f 22 c8", "#ud" },
    { 64, "0f 21 f8", "mov 8/8 w:g8.0 r:dr8.7" },
    { 64, "44 0f 21 c0", "#ud" },
    { 32, "0f 22 e0", "mov 4/4 w:cr4.4 r:g4.0" },
    { 64, "0f 01 10", "lgdt 8/8 r:m10[ds:ax]" },
    { 32, "0f 01 00", "sgdt 4/4 w:m6[ds:ax]" },
    { 16, "66 0f 01 10", "lgdt 4/2 r:m6[ds:bx+si*1]" },
    { 64, "0f 01 c1", "vmcall 4/8" },
    { 64, "0f 01 d9", "vmmcall 4/8" },
    { 64, "0f 01 f8", "swapgs 4/8" },
    { 32, "0f 01 f8", "#ud" },
    { 64, "0f 01 f9", "rdtscp 4/8" },
    { 64, "0f 01 ca", "clac 4/8" },
    { 64, "0f 01 d0", "xgetbv 4/8" },
    { 64, "0f 01 d1", "xsetbv 4/8" },
    { 64, "0f 01 c8", "monitor 4/8" },
    { 64, "0f 01 38", "invlpg 4/8 -:m0[ds:ax]" },
    { 64, "0f 01 e0", "smsw 4/8 w:g4.0" },
    { 64, "0f 01 20", "smsw 4/8 w:m2[ds:ax]" },
    { 64, "0f 01 ee", "#ud" },
    { 64, "0f 01 c2", "#ud" },
    { 64, "0f 05", "syscall 4/8" },
    { 64, "48 0f 07", "sysret 8/8" },
    { 64, "66 0f 38 82 08", "invpcid 8/8 r:g8.1 r:m16[ds:ax]" },
    { 64, "f3 0f c7 f8", "rdpid 8/8 w:g8.0" },
    { 64, "0f c7 f0", "rdrand 4/8 w:g4.0" },
    { 64, "66 0f c7 f8", "rdseed 2/8 w:g2.0" },
    { 64, "f3 0f c7 f0", "#ud" },
    { 64, "0f c7 08", "cmpxchg8b 4/8 rw:m8[ds:ax]" },
    { 64, "48 0f c7 08", "cmpxchg16b 8/8 rw:m16[ds:ax] align" },
    { 64, "0f c7 c8", "#ud" },
    { 64, "48 0f c7 20", "xsavec 8/8 w:m0[ds:ax]" },
    { 64, "0f c7 18", "xrstors 4/8 r:m0[ds:ax]" },
    { 64, "0f c7 28", "xsaves 4/8 w:m0[ds:ax]" },
    { 64, "0f c7 30", "#ud" },
    { 64, "0f ae 00", "fxsave 4/8 w:m0[ds:ax]" },
    { 64, "48 0f ae 08", "fxrstor 8/8 r:m0[ds:ax]" },
    { 64, "0f ae 10", "ldmxcsr 4/8 r:m4[ds:ax] sse" },
    { 64, "c5 f8 ae 18", "stmxcsr 4/8 w:m4[ds:ax] vex" },
    { 64, "48 0f ae 20", "xsave 8/8 w:m0[ds:ax]" },
    { 64, "0f ae 30", "xsaveopt 4/8 w:m0[ds:ax]" },
    { 64, "0f ae 38", "clflush 4/8 -:m0[ds:ax]" },
    { 64, "66 0f ae 38", "clflushopt 2/8 -:m0[ds:ax]" },
    { 64, "66 0f ae 30", "clwb 2/8 -:m0[ds:ax]" },
    { 64, "0f ae e8", "lfence 4/8" },
    { 64, "0f ae f0", "mfence 4/8" },
    { 64, "0f ae f8", "sfence 4/8" },
    { 64, "f3 0f ae c0", "rdfsbase 4/8 w:g4.0" },
    { 64, "f3 48 0f ae d8", "wrgsbase 8/8 r:g8.0" },
    { 32, "f3 0f ae c0", "#ud" },
    { 64, "f3 0f ae e8", "#ud" },
    { 64, "f3 0f 1e fa", "nop 4/8 f3 -:g4.2" },
    { 64, "f3 48 0f 1e c8", "nop 8/8 f3 -:g8.0" },
    { 64, "0f 0d 08", "nop 4/8 -:m0[ds:ax]" },
    { 64, "0f 1f 44 00 00", "nop 4/8 -:m0[ds:ax+ax*1]" },
    { 64, "0f 18 08", "nop 4/8 -:m0[ds:ax]" },
    { 64, "0f 0b", "ud2 4/8" },
    { 64, "0f b9 c0", "ud1 4/8 -:g4.0 -:g4.0" },
    { 64, "0f ff c0", "ud0 4/8 -:g4.0 -:g4.0" },
    { 64, "0f 04", "#ud" },
};

static void test_system(void **state)
{
    (void)state;
    CHECK(system_samples);
}

/* Mandatory F3 and F2 next to an operand-size 66, scalar 0F and 0F 38 */
static const struct sample scalar_samples[] = {
    { 64, "f3 0f b8 c1", "popcnt 4/8 w:g4.0 r:g4.1" },
    { 64, "f3 66 0f b8 c1", "popcnt 2/8 w:g2.0 r:g2.1" },
    { 64, "0f b8 c1", "#ud" },
    { 64, "0f bc c1", "bsf 4/8 rw:g4.0 r:g4.1" },
    { 64, "f3 0f bc c1", "tzcnt 4/8 w:g4.0 r:g4.1" },
    { 64, "f2 0f bc c1", "bsf 4/8 f2 rw:g4.0 r:g4.1" },
    { 64, "f3 48 0f bd c1", "lzcnt 8/8 w:g8.0 r:g8.1" },
    { 64, "0f 38 f0 00", "movbe 4/8 w:g4.0 r:m4[ds:ax]" },
    { 64, "66 0f 38 f1 00", "movbe 2/8 w:m2[ds:ax] r:g2.0" },
    { 64, "f2 0f 38 f0 c4", "crc32 4/8 rw:g4.0 r:g1.4h" },
    { 64, "f2 40 0f 38 f0 c4", "crc32 4/8 rw:g4.0 r:g1.4" },
    { 64, "66 f2 0f 38 f1 00", "crc32 2/8 rw:g4.0 r:m2[ds:ax]" },
    { 64, "f2 48 0f 38 f1 00", "crc32 8/8 rw:g8.0 r:m8[ds:ax]" },
    { 64, "0f 38 f0 c0", "#ud" },
    { 64, "66 0f 38 f6 c1", "adcx 2/8 rw:g4.0 r:g4.1" },
    { 64, "f3 48 0f 38 f6 c1", "adox 8/8 rw:g8.0 r:g8.1" },
    { 64, "48 0f c3 00", "movnti 8/8 w:m8[ds:ax] r:g8.0" },
    { 64, "66 0f c3 00", "#ud" },
    { 64, "0f b0 0a", "cmpxchg 4/8 rw:m1[ds:dx] r:g1.1" },
    { 64, "0f ba e0 25", "bt 4/8 r:g4.0 i1=37" },
    { 64, "0f a4 c8 04", "shld 4/8 rw:g4.0 r:g4.1 i1=4" },
    { 64, "0f af c1", "imul 4/8 rw:g4.0 r:g4.1" },
    { 64, "69 c1 00 01 00 00", "imul 4/8 w:g4.0 r:g4.1 i4=256" },
    { 64, "6b c1 ff", "imul 4/8 w:g4.0 r:g4.1 i4=-1" },
    { 64, "0f 44 c1", "cmovcc 4/8 rw:g4.0 r:g4.1 /4" },
    { 64, "0f 95 c4", "setcc 4/8 w:g1.4h /5" },
    { 64, "0f b6 c4", "movzx 4/8 w:g4.0 r:g1.4h" },
    { 64, "48 0f bf 00", "movsx 8/8 w:g8.0 r:m2[ds:ax]" },
    { 64, "0f cf", "bswap 4/8 rw:g4.7" },
};

static void test_scalar(void **state)
{
    (void)state;
    CHECK(scalar_samples);
}

/* Memory widths, control instructions, undefined register forms */
static const struct sample x87_samples[] = {
    { 64, "d8 00", "x87 4/8 r:m4[ds:ax] wait" },
    { 64, "d9 28", "fldcw 4/8 r:m2[ds:ax] wait" },
    { 64, "66 d9 30", "fnstenv 2/8 w:m14[ds:ax]" },
    { 64, "d9 30", "fnstenv 4/8 w:m28[ds:ax]" },
    { 64, "d9 38", "fnstcw 4/8 w:m2[ds:ax]" },
    { 64, "df e0", "fnstsw 4/8 w:g2.0" },
    { 64, "dd 38", "fnstsw 4/8 w:m2[ds:ax]" },
    { 64, "db 28", "x87 4/8 r:m10[ds:ax] wait" },
    { 64, "df 30", "x87 4/8 w:m10[ds:ax] wait" },
    { 64, "df 08", "x87 4/8 w:m2[ds:ax] wait" },
    { 64, "dd 20", "frstor 4/8 r:m108[ds:ax] wait" },
    { 64, "66 dd 30", "fnsave 2/8 w:m94[ds:ax]" },
    { 64, "9b", "fwait 4/8 wait" },
    { 64, "db e2", "fnclex 4/8" },
    { 64, "db e3", "fninit 4/8" },
    { 64, "da c1", "fcmovcc 4/8 wait" },
    { 64, "db f1", "fcomi 4/8 wait" },
    { 64, "df e9", "fcomi 4/8 wait" },
    { 64, "d9 d0", "x87 4/8 wait" },
    { 64, "d9 d1", "#ud" },
    { 64, "d9 ea", "x87 4/8 wait" },
    { 64, "d9 ef", "#ud" },
    { 64, "d9 08", "#ud" },
    { 64, "db 30", "#ud" },
    { 64, "db e8", "fcomi 4/8 wait" },
    { 64, "de d9", "x87 4/8 wait" },
    { 64, "de d8", "#ud" },
};

static void test_x87(void **state)
{
    (void)state;
    CHECK(x87_samples);
}

/* Mandatory prefix priority, scalar merging, memory widths, alignment */
static const struct sample sse_samples[] = {
    { 64, "0f 10 08", "vec 4/8 w:x16.1 r:m16[ds:ax] sse" },
    { 64, "0f 28 08", "vec 4/8 w:x16.1 r:m16[ds:ax] align sse" },
    { 64, "f3 0f 10 00", "vec 4/8 w:x16.0 r:m4[ds:ax] sse" },
    { 64, "f3 0f 10 c1", "vec 4/8 rw:x4.0 r:x4.1 sse" },
    { 64, "f2 0f 10 00", "vec 4/8 w:x16.0 r:m8[ds:ax] sse" },
    { 64, "f2 0f 11 c1", "vec 4/8 rw:x8.1 r:x8.0 sse" },
    { 64, "66 f2 0f 10 00", "vec 2/8 w:x16.0 r:m8[ds:ax] sse" },
    { 64, "66 f3 0f 6f 00", "vec 2/8 w:x16.0 r:m16[ds:ax] sse" },
    { 64, "f2 f3 0f 58 00", "vec 4/8 rw:x4.0 r:m4[ds:ax] sse fpexc" },
    { 64, "f3 f2 0f 58 00", "vec 4/8 rw:x8.0 r:m8[ds:ax] sse fpexc" },
    { 64, "66 0f 58 00", "vec 2/8 rw:x16.0 r:m16[ds:ax] align sse fpexc" },
    { 64, "0f 12 00", "vec 4/8 rw:x8.0 r:m8[ds:ax] sse" },
    { 64, "0f 12 c1", "vec 4/8 rw:x8.0 r:x16.1 sse" },
    { 64, "0f 16 00", "vec 4/8 rw:x16.0 r:m8[ds:ax] sse" },
    { 64, "0f 13 c1", "#ud" },
    { 64, "0f 2a 00", "vec 4/8 rw:x8.0 r:m8[ds:ax] mmx sse fpexc" },
    { 64, "f2 48 0f 2a 00", "vec 8/8 rw:x8.0 r:m8[ds:ax] sse fpexc" },
    { 64, "f3 0f 2d 00", "vec 4/8 w:g4.0 r:m4[ds:ax] sse fpexc" },
    { 64, "66 0f 6e 00", "vec 2/8 w:x16.0 r:m4[ds:ax] sse" },
    { 64, "66 48 0f 7e 00", "vec 8/8 w:m8[ds:ax] r:x8.0 sse" },
    { 64, "0f 6e c8", "vec 4/8 w:mm8.1 r:g4.0 mmx" },
    { 64, "f3 0f 7e 00", "vec 4/8 w:x16.0 r:m8[ds:ax] sse" },
    { 64, "66 0f d6 c1", "vec 2/8 w:x16.1 r:x8.0 sse" },
    { 64, "66 0f d6 00", "vec 2/8 w:m8[ds:ax] r:x8.0 sse" },
    { 64, "66 0f c4 00 01", "vec 2/8 rw:x16.0 r:m2[ds:ax] i1=1 sse" },
    { 64, "66 0f c4 c0 01", "vec 2/8 rw:x16.0 r:g4.0 i1=1 sse" },
    { 64, "66 0f d7 c1", "vec 2/8 w:g4.0 r:x16.1 sse" },
    { 64, "0f d7 c1", "vec 4/8 w:g4.0 r:mm8.1 mmx" },
    { 64, "66 0f 3a 14 00 01", "vec 2/8 w:m1[ds:ax] r:x16.0 i1=1 sse" },
    { 64, "66 0f 3a 14 c0 01", "vec 2/8 w:g4.0 r:x16.0 i1=1 sse" },
    { 64, "66 48 0f 3a 16 00 01", "vec 8/8 w:m8[ds:ax] r:x16.0 i1=1 sse" },
    { 64, "66 0f 3a 17 00 01", "vec 2/8 w:m4[ds:ax] r:x16.0 i1=1 sse" },
    { 64, "66 0f 3a 20 00 01", "vec 2/8 rw:x16.0 r:m1[ds:ax] i1=1 sse" },
    { 64, "66 0f 3a 21 00 01", "vec 2/8 rw:x16.0 r:m4[ds:ax] i1=1 sse" },
    { 64, "66 0f 38 20 00", "vec 2/8 w:x16.0 r:m8[ds:ax] sse" },
    { 64, "66 0f 38 32 00", "vec 2/8 w:x16.0 r:m2[ds:ax] sse" },
    { 64, "0f 60 00", "vec 4/8 rw:mm8.0 r:m4[ds:ax] mmx" },
    { 64, "66 0f 60 00", "vec 2/8 rw:x16.0 r:m16[ds:ax] align sse" },
    { 64, "0f 70 00 1b", "vec 4/8 w:mm8.0 r:m8[ds:ax] i1=27 mmx" },
    { 64, "66 0f 73 d8 01", "vec 2/8 rw:x16.0 i1=1 sse" },
    { 64, "0f 73 d8 01", "#ud" },
    { 64, "66 0f 38 10 00", "vec 2/8 rw:x16.0 r:m16[ds:ax] align sse" },
    { 64, "66 0f 38 17 00", "vec 2/8 r:x16.0 r:m16[ds:ax] align sse" },
    { 64, "66 0f 2e 00", "vec 2/8 r:x8.0 r:m8[ds:ax] sse fpexc" },
    { 64, "0f 77", "emms 4/8 mmx" },
    { 64, "0f f7 c1", "maskmovq 4/8 seg3 r:mm8.0 r:mm8.1 mmx" },
    { 64, "66 0f f7 c1", "maskmovdqu 2/8 seg3 r:x16.0 r:x16.1 sse" },
    { 64, "66 65 0f f7 c1", "maskmovdqu 2/8 seg5 r:x16.0 r:x16.1 sse" },
    { 64, "66 0f 3a 61 00 0c", "pcmpestri 2/8 r:x16.0 r:m16[ds:ax] i1=12 sse" },
    { 64, "66 0f e7 00", "vec 2/8 w:m16[ds:ax] r:x16.0 align sse" },
    { 64, "66 0f e7 c0", "#ud" },
    { 64, "f2 0f f0 00", "vec 4/8 w:x16.0 r:m16[ds:ax] sse" },
    { 64, "0f 38 cb c1", "vec 4/8 rw:x16.0 r:x16.1 sse" },
    { 64, "66 0f 38 dc 00", "vec 2/8 rw:x16.0 r:m16[ds:ax] align sse" },
    { 64, "f3 0f 28 00", "#ud" },
    { 64, "0f 0f c0 b4", "#ud" },
    { 64, "f2 0f 79 c1", "#ud" },
    { 64, "0f 78 c1", "#ud" },
};

static void test_sse(void **state)
{
    (void)state;
    CHECK(sse_samples);
}

/* VEX prefix rules (SDM 2A 2.3), widths, gathers, BMI */
static const struct sample vex_samples[] = {
    { 64, "c5 f8 28 08", "vec 4/8 w:x16.1 r:m16[ds:ax] align vex zerou" },
    { 64, "c5 fc 28 08", "vec 4/8 w:x32.1 r:m32[ds:ax] align vex" },
    { 64, "c5 fc 10 08", "vec 4/8 w:x32.1 r:m32[ds:ax] vex" },
    { 64, "c5 f8 58 c1", "vec 4/8 w:x16.0 r:x16.0 r:x16.1 vex fpexc zerou" },
    { 64, "c5 f4 58 c1", "vec 4/8 w:x32.0 r:x32.1 r:x32.1 vex fpexc" },
    { 64, "c5 fa 58 00", "vec 4/8 w:x16.0 r:x16.0 r:m4[ds:ax] vex fpexc zerou" },
    { 64, "c5 f2 58 00", "vec 4/8 w:x16.0 r:x16.1 r:m4[ds:ax] vex fpexc zerou" },
    { 64, "c5 fa 10 00", "vec 4/8 w:x16.0 r:m4[ds:ax] vex zerou" },
    { 64, "c5 f2 10 00", "#ud" },
    { 64, "c5 f2 10 c1", "vec 4/8 w:x16.0 r:x16.1 r:x4.1 vex zerou" },
    { 64, "c4 c1 74 58 c0", "vec 4/8 w:x32.0 r:x32.1 r:x32.8 vex fpexc" },
    { 64, "c4 62 7d 18 00", "vec 4/8 w:x32.8 r:m4[ds:ax] vex" },
    { 64, "c4 e2 7d 18 c1", "vec 4/8 w:x32.0 r:x4.1 vex" },
    { 64, "c4 e2 7d 1a 00", "vec 4/8 w:x32.0 r:m16[ds:ax] vex" },
    { 64, "c4 e2 79 1a 00", "#ud" },
    { 64, "c4 e2 7d 1a c0", "#ud" },
    { 64, "c4 e3 7d 19 c1 01", "vec 4/8 w:x16.1 r:x32.0 i1=1 vex zerou" },
    { 64, "c4 e3 7d 19 00 01", "vec 4/8 w:m16[ds:ax] r:x32.0 i1=1 vex" },
    { 64, "c4 e3 75 18 00 01", "vec 4/8 w:x32.0 r:x32.1 r:m16[ds:ax] i1=1 vex" },
    { 64, "c5 f8 77", "vzeroupper 4/8 vex" },
    { 64, "c5 fc 77", "vzeroall 4/8 vex" },
    { 64, "c5 f0 77", "#ud" },
    { 64, "c4 e2 79 90 04 08", "#ud" },
    { 64, "c4 e2 fd 93 04 08", "#ud" },
    { 64, "c4 e2 69 92 04 08", "vgather 4/8 rw:x16.0 r:m4[ds:ax+x1*1] rw:x16.2 vex zerou" },
    { 64, "c4 e2 6d 91 04 48", "vgather 4/8 rw:x16.0 r:m4[ds:ax+x1*2] rw:x16.2 vex zerou" },
    { 64, "c4 e2 69 92 04 10", "#ud" },
    { 64, "c4 e2 69 92 00", "#ud" },
    { 64, "c4 e2 75 2c 00", "vmaskmov 4/8 w:x32.0 r:x32.1 r:m32[ds:ax] vex" },
    { 64, "c4 e2 75 2c c0", "#ud" },
    { 64, "c4 e2 f5 8e 00", "vmaskmov 8/8 w:m32[ds:ax] r:x32.1 r:x32.0 vex" },
    { 64, "c4 e3 75 4a c2 30", "vec 4/8 w:x32.0 r:x32.1 r:x32.2 r:x32.3 vex" },
    { 64, "c4 e3 f5 4a c2 30", "#ud" },
    { 32, "c4 e3 75 4a c2 b0", "vec 4/4 w:x32.0 r:x32.1 r:x32.2 r:x32.3 vex" },
    { 64, "c4 e2 71 99 00", "vec 4/8 rw:x16.0 r:x4.1 r:m4[ds:ax] vex fpexc zerou" },
    { 64, "c4 e2 f1 99 00", "vec 8/8 rw:x16.0 r:x8.1 r:m8[ds:ax] vex fpexc zerou" },
    { 64, "c4 e2 75 98 00", "vec 4/8 rw:x32.0 r:x32.1 r:m32[ds:ax] vex fpexc" },
    { 64, "c4 e2 79 13 00", "vec 4/8 w:x16.0 r:m8[ds:ax] vex fpexc zerou" },
    { 64, "c4 e2 7d 13 00", "vec 4/8 w:x32.0 r:m16[ds:ax] vex fpexc" },
    { 64, "c4 e3 7d 1d 00 00", "vec 4/8 w:m16[ds:ax] r:x32.0 i1=0 vex fpexc" },
    { 64, "c4 e3 fd 00 c1 1b", "vec 8/8 w:x32.0 r:x32.1 i1=27 vex" },
    { 64, "c4 e3 7d 00 c1 1b", "#ud" },
    { 64, "c5 f9 6e c0", "vec 4/8 w:x16.0 r:g4.0 vex zerou" },
    { 64, "c4 e1 f9 6e c0", "vec 8/8 w:x16.0 r:g8.0 vex zerou" },
    { 64, "c5 fd 6e c0", "#ud" },
    { 32, "c4 e1 f9 6e c0", "vec 4/4 w:x16.0 r:g4.0 vex zerou" },
    { 64, "c5 f9 d6 00", "vec 4/8 w:m8[ds:ax] r:x8.0 vex" },
    { 64, "c5 f5 d1 00", "vec 4/8 w:x32.0 r:x32.1 r:m16[ds:ax] vex" },
    { 64, "c5 f1 73 d8 01", "vec 4/8 w:x16.1 r:x16.0 i1=1 vex zerou" },
    { 64, "c4 e2 70 f2 c1", "andn 4/8 w:g4.0 r:g4.1 r:g4.1 gprvex" },
    { 64, "c4 e2 f0 f2 c1", "andn 8/8 w:g8.0 r:g8.1 r:g8.1 gprvex" },
    { 64, "c4 e2 74 f2 c1", "#ud" },
    { 64, "c4 e2 70 f3 c8", "blsr 4/8 w:g4.1 r:g4.0 gprvex" },
    { 64, "c4 e2 70 f3 c0", "#ud" },
    { 64, "c4 e2 73 f6 c1", "mulx 4/8 w:g4.0 w:g4.1 r:g4.1 gprvex" },
    { 64, "c4 e2 71 f7 00", "shlx 4/8 w:g4.0 r:m4[ds:ax] r:g4.1 gprvex" },
    { 64, "c4 e3 7b f0 c1 05", "rorx 4/8 w:g4.0 r:g4.1 i1=5 gprvex" },
    { 64, "c4 e3 73 f0 c1 05", "#ud" },
    { 64, "66 c5 f8 58 c1", "#ud" },
    { 64, "f3 c5 f8 58 c1", "#ud" },
    { 64, "f0 c5 f8 58 00", "#ud" },
    { 64, "48 c5 f8 58 c1", "#ud" },
    { 64, "67 65 c5 f8 58 00", "vec 4/4 w:x16.0 r:x16.0 r:m16[gs:ax] vex fpexc zerou" },
    { 32, "c5 f8 58 c1", "vec 4/4 w:x16.0 r:x16.0 r:x16.1 vex fpexc zerou" },
    { 16, "c5 f8 58 c1", "vec 4/2 w:x16.0 r:x16.0 r:x16.1 vex fpexc zerou" },
    { 32, "c5 78 58", "lds 4/4 w:g4.7 r:m6[ds:ax+0x58]" },
    { 32, "c5 b8 58 c1 00 00", "lds 4/4 w:g4.7 r:m6[ds:ax+0xc158]" },
    { 32, "c4 c1 78 58 c1", "vec 4/4 w:x16.0 r:x16.0 r:x16.1 vex fpexc zerou" },
    { 64, "c4 e4 78 58 c1", "#ud" },
    { 64, "c4 e0 78 58 c1", "#ud" },
    { 64, "c4 e2 75 dc 00", "vec 4/8 w:x32.0 r:x32.1 r:m32[ds:ax] vex" },
    { 64, "c4 e3 75 44 c2 11", "vec 4/8 w:x32.0 r:x32.1 r:x32.2 i1=17 vex" },
    { 64, "c5 f8 91 c0", "#ud" },
};

static void test_vex(void **state)
{
    (void)state;
    CHECK(vex_samples);
}

/* 15 bytes at most, and asking for more */
static const struct sample length_samples[] = {
    { 64, "66 66 66 66 66 66 66 66 66 66 66 66 66 0f 0b", "ud2 2/8" },
    { 64, "0f", "more" },
    { 64, "c4 e2", "more" },
    { 64, "8b 84 88 00 00 00", "more" },
    { 64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", "nop 2/8" },
    { 64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66 90", "#gp" },
    { 64, "66 66 66 66 66 66 66 66 66 66 66 66 66 66 66", "#gp" },
    { 64, "2e 2e 2e 2e 2e 48 c7 84 88 10 00 00 00 78 56 34 12", "#gp" },
};

static void test_length(void **state)
{
    (void)state;
    CHECK(length_samples);
}

/* ---- the tables ---- */

/* Rows of an opcode are adjacent (the walk in x86_decode depends on it) and none hides another. */
static void test_tables(void **state)
{
    bool seen[X86_OP_COUNT] = { false };
    unsigned i, j;

    (void)state;
    for (i = 1; i < ROW_COUNT; i++) {
        const struct row *r = &rows[i];

        assert_true(r->op < X86_OP_COUNT);
        assert_false(r->val & ~r->mask);
        seen[r->op] = true;
        assert_true(last_row[r->id] >= i);
        for (j = i + 1; j <= last_row[r->id]; j++) {
            if (rows[j].id != r->id)
                fail_msg("rows of map %u opcode 0x%02x are apart", r->id >> 8, r->id & 255);
            if ((rows[j].mask & r->mask) == rows[j].mask && (r->val & rows[j].mask) == rows[j].val)
                fail_msg("map %u opcode 0x%02x: a row is never reached", r->id >> 8, r->id & 255);
        }
        if ((last_row[r->id] == i) && ((rows[i].attr & I_MODRM) == 0))
            for (j = 1; j < ROW_COUNT; j++) /* the last row speaks for all about ModRM */
                assert_false(rows[j].id == r->id && (rows[j].attr & I_MODRM));
    }
    for (i = 1; i < X86_OP_COUNT; i++)
        if (!seen[i])
            fail_msg("operation %s has no row", x86_op_name(i));
}

static void test_names(void **state)
{
    unsigned i;

    (void)state;
    assert_string_equal(x86_op_name(X86_OP_INVALID), "(bad)");
    assert_string_equal(x86_op_name(X86_OP_COUNT), "(bad)");
    assert_string_equal(x86_op_name(X86_OP_CMPXCHG16B), "cmpxchg16b");
    for (i = 0; i < X86_OP_COUNT; i++)
        assert_non_null(x86_op_name(i));
}

/* A failed decode leaves the output alone. */
static void test_untouched(void **state)
{
    static const uint8_t ud[] = { 0x0f, 0x04 }, part[] = { 0x48 };
    struct x86_insn in, before;

    (void)state;
    memset(&in, 0x5a, sizeof in);
    before = in;
    assert_int_equal(x86_decode(ud, sizeof ud, X86_MODE_64, &in), UD);
    assert_int_equal(x86_decode(part, sizeof part, X86_MODE_64, &in), 0);
    assert_int_equal(x86_decode(part, 0, X86_MODE_64, &in), 0);
    assert_memory_equal(&in, &before, sizeof in);
}

/* Raw fields that a re-encoder uses. */
static void test_raw(void **state)
{
    /* vaddsd xmm9, xmm3, [r10+8]; cmp dword [rip+0x10], 0x12345678; adox r9d, eax */
    static const uint8_t vex[] = { 0xc4, 0x41, 0x63, 0x58, 0x4a, 0x08 };
    static const uint8_t imm[] = { 0x81, 0x3d, 0x10, 0, 0, 0, 0x78, 0x56, 0x34, 0x12 };
    static const uint8_t sse[] = { 0xf3, 0x44, 0x0f, 0x38, 0xf6, 0xc8 };
    struct x86_insn in;

    (void)state;
    assert_int_equal(x86_decode(vex, sizeof vex, X86_MODE_64, &in), sizeof vex);
    assert_int_equal(in.vex, 3);
    assert_int_equal(in.map, 1);
    assert_int_equal(in.pp, 3);
    assert_int_equal(in.opcode, 0x58);
    assert_int_equal(in.rex, 0x45);
    assert_int_equal(in.vvvv, 3);
    assert_int_equal(in.vexl, 0);
    assert_int_equal(in.modrm, 0x4a);
    assert_int_equal(in.feature, X86_FEAT_AVX);

    assert_int_equal(x86_decode(imm, sizeof imm, X86_MODE_64, &in), sizeof imm);
    assert_int_equal(in.immsize, 4);
    assert_int_equal(in.base, X86_REG_RIP);
    assert_int_equal(in.disp, 0x10);

    assert_int_equal(x86_decode(sse, sizeof sse, X86_MODE_64, &in), sizeof sse);
    assert_int_equal(in.op, X86_OP_ADOX);
    assert_int_equal(in.map, 2);
    assert_int_equal(in.pp, 2);
    assert_int_equal(in.rep, X86_REP_NONE);
    assert_int_equal(in.rex, 0x44);
    assert_int_equal(in.feature, X86_FEAT_ADX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addressing),
        cmocka_unit_test(test_segments),
        cmocka_unit_test(test_operand_size),
        cmocka_unit_test(test_stack),
        cmocka_unit_test(test_far),
        cmocka_unit_test(test_groups),
        cmocka_unit_test(test_nop),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_lock),
        cmocka_unit_test(test_system),
        cmocka_unit_test(test_scalar),
        cmocka_unit_test(test_x87),
        cmocka_unit_test(test_sse),
        cmocka_unit_test(test_vex),
        cmocka_unit_test(test_length),
        cmocka_unit_test(test_tables),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test(test_raw),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
