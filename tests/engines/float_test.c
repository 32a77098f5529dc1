/* SPDX-License-Identifier: BSD-2-Clause */
/* Code of programs that the translator keeps for all processes, wherever it is mapped (hv/jit/jit.h): parts of it that were
 * come to on different ways, and have other canonical addresses therefore, find together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "tests/engines/harness.h"

enum { GB = 1u << 30, MB = 1u << 20, FIRST = GB - 64 * MB, SECOND = GB + 64 * MB, THIRD = GB + 32 * MB };
enum { TABLE0 = 0x8000, TABLE1 = 0x9000 };

static struct harness h;

static uint8_t *ram_of(uint64_t at) { return h.ram + (at == FIRST ? 4 * MB : at == SECOND ? 6 * MB : 8 * MB); }

/* A function at @at that calls THIRD by its address. */
static void caller(uint64_t at)
{
    uint8_t b[] = { 0xe8, 0, 0, 0, 0, 0xc3 };
    int32_t d = (int32_t)(THIRD - (at + 5));

    memcpy(b + 1, &d, 4);
    memcpy(ram_of(at), b, sizeof(b));
}

/* The 2 MB at @at are where the program has them. */
static void map(uint64_t at)
{
    ((uint64_t *)(h.ram + (at < GB ? TABLE0 : TABLE1)))[at >> 21 & 511] = (uint64_t)(ram_of(at) - h.ram) | 0x87;
}

/* A program of @len bytes at @code, with page tables of its own for the first GB, TABLE0. */
static void program(const uint8_t *code, size_t len)
{
    harness_long_mode(&h, 0, 3);
    memcpy(h.ram + TABLE0, h.ram + 0x3000, 4096);
    ((uint64_t *)(h.ram + 0x2000))[0] = TABLE0 | 7;
    memcpy(h.ram + HARNESS_CODE, code, len);
}

/* FIRST and SECOND are come to by calls through a register; as they are far from each other and in two GB, the difference of their
 * canonical addresses is another than that of their addresses.  Both call THIRD, by turns. */
static void alternate(void **state)
{
    static const uint8_t turn[] = { 0xff, 0xd3 /* call rbx */, 0xff, 0xd5 /* call rbp */, 0x83, 0xe9, 1 /* sub ecx, 1 */, 0x75, 0xf7 /* jnz */,
                                    0x89, 0xf0 /* mov eax, esi */, 0x66, 0xba, 0xf4, 0, 0xef /* out dx, eax */, 0xeb, 0xfe };
    static const uint8_t count[] = { 0x83, 0xc6, 1 /* add esi, 1 */, 0xc3 };
    enum { TURNS = 3000, BLOCKS = 200 };
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    program(turn, sizeof(turn));
    ((uint64_t *)(h.ram + 0x2000))[1] = TABLE1 | 7;
    map(FIRST);
    map(SECOND);
    map(THIRD);
    caller(FIRST);
    caller(SECOND);
    memcpy(ram_of(THIRD), count, sizeof(count));
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    hv_vp_get_state(h.p, 0, &s);
    s.gpr[3] = FIRST;
    s.gpr[5] = SECOND;
    s.gpr[6] = 0;
    s.gpr[1] = TURNS;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_CANCELED);
    assert_true(h.exited);
    assert_int_equal(h.exit_value, 2 * TURNS);
    assert_in_range(hv_counter_get(h.p, 0, HV_CTR_BLOCKS_BUILT), 3, BLOCKS);
}

/* What is known of a page is found by its address, and there is less room than addresses: an instruction across two pages is
 * run where what is known of the first one takes the place of what was known of another's, which speaks of where the second one has its own. */
static void crossing(void **state)
{
    enum { AGAIN = 32 * MB /* from here it is the same place */, TURNS = 100000 /* more than lock-step's first window */, P = GB - 128 * MB, A = P + AGAIN + 4096, Q = P + 2 * AGAIN, TABLE = 0xa000 };
    static const uint8_t turn[] = { 0xff, 0xd3 /* call rbx */, 0xff, 0xd5 /* call rbp */, 0x83, 0xe9, 1 /* sub ecx, 1 */, 0x75, 0xf7 /* jnz */,
                                    0xff, 0xd6 /* call rsi */, 0x89, 0xc8 /* mov eax, ecx */, 0x66, 0xba, 0xf4, 0, 0xef /* out dx, eax */, 0xeb, 0xfe };
    static const uint8_t across[] = { 0xeb, 0 /* jmp */, 0xc3 };
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    program(turn, sizeof(turn));
    ((uint64_t *)(h.ram + TABLE0))[P >> 21 & 511] = 4 * MB | 0x87;
    ((uint64_t *)(h.ram + TABLE0))[A >> 21 & 511] = 6 * MB | 0x87;
    ((uint64_t *)(h.ram + TABLE0))[Q >> 21 & 511] = TABLE | 7;
    ((uint64_t *)(h.ram + TABLE))[Q >> 12 & 511] = (6 * MB + 4096) | 7; /* A, by another address */
    h.ram[6 * MB + 4096] = 0xc3;
    memcpy(h.ram + 4 * MB + 4095, across, sizeof(across));
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    hv_vp_get_state(h.p, 0, &s);
    s.gpr[3] = A;
    s.gpr[5] = Q;
    s.gpr[6] = P + 4095;
    s.gpr[1] = TURNS;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_CANCELED);
    assert_true(h.exited);
    assert_int_equal(h.exit_value, 0);
}

/* Code that is at another address than its canonical one has what it names by RIP there too, but not what it names by its address. */
static void by_address(void **state)
{
    enum { A = FIRST, B = FIRST + 16 * MB, AWAY = 2 * MB, TURNS = 30000 };
    static const uint8_t turn[] = { 0xff, 0xd3 /* call rbx */, 0x83, 0xe9, 1 /* sub ecx, 1 */, 0x75, 0xf9 /* jnz */, 0x44, 0x89, 0xc1 /* mov ecx, r8d */,
                                    0xff, 0xd5 /* call rbp */, 0x83, 0xe9, 1, 0x75, 0xf9, 0x66, 0xba, 0xf4, 0, 0xef /* out dx, eax */, 0xeb, 0xfe };
    uint8_t f[] = { 0x8b, 0x05, 0, 0, 0, 0 /* mov eax, [rip + AWAY] */, 0x8b, 0x14, 0x25, 0, 0, 0, 0 /* mov edx, [A + AWAY] */,
                    0x01, 0xc6 /* add esi, eax */, 0x01, 0xd7 /* add edi, edx */, 0xc3 };
    int32_t rel = AWAY - 6, abs = A + AWAY;
    uint64_t *pd;
    struct hv_vp_state s;
    struct hv_exit e;

    (void)state;
    program(turn, sizeof(turn));
    pd = (uint64_t *)(h.ram + TABLE0);
    pd[A >> 21 & 511] = pd[B >> 21 & 511] = 4 * MB | 0x87;
    pd[(A + AWAY) >> 21 & 511] = 6 * MB | 0x87;
    pd[(B + AWAY) >> 21 & 511] = 8 * MB | 0x87;
    memcpy(f + 2, &rel, 4);
    memcpy(f + 9, &abs, 4);
    memcpy(h.ram + 4 * MB, f, sizeof(f));
    h.ram[6 * MB] = 1;
    h.ram[8 * MB] = 100;
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    hv_vp_get_state(h.p, 0, &s);
    s.gpr[3] = A;
    s.gpr[5] = B;
    s.gpr[6] = s.gpr[7] = 0;
    s.gpr[1] = s.gpr[8] = TURNS;
    assert_int_equal(hv_vp_set_state(h.p, 0, &s), 0);
    assert_int_equal(harness_run(&h, 20000, &e), HV_EXIT_CANCELED);
    assert_true(h.exited);
    hv_vp_get_state(h.p, 0, &s);
    assert_int_equal(s.gpr[6], TURNS * 101);
    assert_int_equal(s.gpr[7], TURNS * 2);
}

/* Each block is compared before it is used; a difference ends the process. */
static int setup_compare(void **state)
{
    int r;

    (void)state;
    setenv("MOBO_JIT_NATIVE", "no", 1);
    setenv("MOBO_JIT_CHECK", "interp:blocks:1:100000", 1);
    r = harness_open(&h, "jit", 1);
    unsetenv("MOBO_JIT_CHECK");
    return r;
}

static int setup(void **state)
{
    (void)state;
    setenv("MOBO_JIT_NATIVE", "no", 1);
    return harness_open(&h, "jit", 1);
}

static int teardown(void **state)
{
    (void)state;
    harness_close(&h);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup_teardown(alternate, setup, teardown),
                                        cmocka_unit_test_setup_teardown(by_address, setup, teardown),
                                        cmocka_unit_test_setup_teardown(crossing, setup_compare, teardown) };

    harness_needs("jit");
    return cmocka_run_group_tests(tests, NULL, NULL);
}
