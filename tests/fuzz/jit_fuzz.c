/* SPDX-License-Identifier: BSD-2-Clause */
/* Fuzz target: code, registers and page tables of the input, on the translator in lock-step with the interpreter's
 * operations (hv_config.check): each block that can be compared is, registers, flags, vectors, exceptions and memory.  A
 * difference ends the process with a report.
 *
 * Input: 16 bytes of choices (mode, which registers point to data), 64 bytes that describe page tables, code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engines/harness.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);
int LLVMFuzzerInitialize(int *argc, char ***argv);

extern const unsigned long fuzz_inputs;
const unsigned long fuzz_inputs = 400; /* some milliseconds each: see driver.c */

/* DATA is mapped by 4 KB pages as the input says, at WINDOW too; the tables lie in the last 2 MB, which are not
 * mapped, as what a guest gets from a table that it changes without a flush is not the same each time. */
enum {
    CHOICES = 16, ENTRIES = 64, CODE_MAX = 0x2000, HANDLERS = 0x7000, IDT = 0x6000, DATA = 0x400000, WINDOW = 0x600000,
    TABLES = HARNESS_RAM - (2 << 20), RUN_MS = 5
};

static struct harness h;
static struct hv_vp_state power_on;

static void fini(void) { harness_close(&h); } /* says how much was compared */

static void init(void)
{
    if (h.p)
        return;
    setenv("MOBO_JIT_CHECK", "interp", 1);
    setenv("MOBO_JIT_ABORT", "1", 1); /* libFuzzer keeps the input */
    if (harness_open(&h, "jit", 1)) {
        fprintf(stderr, "jit_fuzz: %s\n", hv_last_error());
        exit(77);
    }
    atexit(fini);
    hv_vp_get_state(h.p, 0, &power_on);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    init();
    return 0;
}

/* Gates to code that goes on a few bytes behind where the exception was. */
static void handlers(void)
{
    static const uint8_t drop[] = { 0x48, 0x83, 0xc4, 0x08 };                    /* add rsp, 8 */
    static const uint8_t skip[] = { 0x48, 0x83, 0x04, 0x24, 0x03, 0x48, 0xcf };  /* add qword [rsp], 3; iretq */

    for (unsigned v = 0; v < 32; v++) {
        uint64_t *gate = (uint64_t *)(h.ram + IDT + 16 * v), at = HANDLERS + 32 * v;
        uint8_t *p = h.ram + at;

        gate[0] = (at & 0xffff) | 8ull << 16 | 0x8e00ull << 32;
        gate[1] = 0;
        if (v == 8 || (v >= 10 && v <= 14) || v == 17) {
            memcpy(p, drop, sizeof(drop));
            p += sizeof(drop);
        }
        memcpy(p, skip, sizeof(skip));
    }
}

/* Each page of DATA and WINDOW leads somewhere into 2 MB at DATA, with rights and reserved bits of the input. */
static void tables(struct hv_vp_state *s, const uint8_t *desc)
{
    uint64_t *pml4 = (uint64_t *)(h.ram + TABLES), *pdpt = pml4 + 512, *pd = pml4 + 1024, *pt[2] = { pml4 + 1536, pml4 + 2048 };

    memset(pml4, 0, 5 * 4096);
    pml4[0] = (TABLES + 0x1000) | 7;
    pdpt[0] = (TABLES + 0x2000) | 7;
    for (uint64_t i = 0; i < TABLES >> 21; i++)
        pd[i] = i << 21 | 0x87;
    for (unsigned w = 0; w < 2; w++) {
        pd[(DATA >> 21) + w] = (TABLES + 0x3000 + 0x1000 * w) | 7;
        for (uint64_t i = 0; i < 512; i++) {
            uint8_t d = desc[(i + 32 * w) % ENTRIES];
            uint64_t e = (DATA + ((w ? i ^ (d & 31) : i) << 12)) | 0x67;

            if ((d & 0xc0) == 0xc0)
                e &= ~(uint64_t)(d & 0x27); /* present, writable, user, accessed */
            if (d == 0x80)
                e |= 1ull << 51;            /* reserved */
            if (d == 0x81)
                e |= 1ull << 63;            /* no execution */
            pt[w][i] = e;
        }
    }
    s->cr3 = TABLES;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct hv_vp_state s;
    struct hv_exit e;
    size_t n;

    init();
    if (len < CHOICES + ENTRIES + 4)
        return 0;
    n = len - CHOICES - ENTRIES;
    if (n > CODE_MAX)
        n = CODE_MAX;
    memset(h.ram, 0, 0x10000);
    memset(h.ram + HARNESS_CODE, 0x90, CODE_MAX);
    memcpy(h.ram + HARNESS_CODE, data + CHOICES + ENTRIES, n);
    memcpy(h.ram + HARNESS_CODE + CODE_MAX, "\xe9\xfb\xdf\xff\xff", 5); /* again */
    for (unsigned i = 0; i < 0x8000; i++)
        h.ram[DATA + 37 * i] = (uint8_t)(data[i % len] + i);
    handlers();
    hv_gpa_dirty(h.p, 0, HARNESS_RAM);
    hv_vp_set_state(h.p, 0, &power_on);
    if ((data[0] & 7) == 7)
        harness_protected(&h, 0);
    else
        harness_long_mode(&h, 0, data[0] & 1 ? 3 : 0);
    hv_vp_get_state(h.p, 0, &s);
    for (unsigned g = 0; g < 16; g++) {
        uint8_t c = data[g % CHOICES];

        if (g != 4)
            s.gpr[g] = c & 0x80 ? (uint64_t)(c * 0x0123456789abcdefull) >> (c & 63) : DATA + ((uint64_t)(c & 7) << 19) + 4090 + c;
    }
    if ((data[0] & 7) != 7) {
        s.idtr_base = IDT;
        s.idtr_limit = 32 * 16 - 1;
        tables(&s, data + CHOICES);
        if (data[1] & 1)
            s.gpr[4] = WINDOW + 0x1004; /* a stack that crosses pages */
    }
    if (hv_vp_set_state(h.p, 0, &s))
        abort();
    harness_run(&h, RUN_MS, &e);
    return 0;
}
