/* SPDX-License-Identifier: BSD-2-Clause */
/* Random bytes as guest code, in ring 0 and 3 of long mode and in protected mode, on an engine: the host must
 * survive.  jit_fuzz [ENGINE [RUNS [SEED]]].  Exceptions go to a handler that continues a few bytes further on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/engines/harness.h"

static uint64_t rng;

static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng;
}

enum { IDT = 0x6000, HANDLERS = 0x7000, DATA = 0x300000 };

/* Gates for vectors 0-31, each to code that advances the saved RIP by a few bytes and returns. */
static void handlers(struct harness *h)
{
    for (unsigned v = 0; v < 32; v++) {
        bool error = v == 8 || (v >= 10 && v <= 14) || v == 17;
        uint64_t *gate = (uint64_t *)(h->ram + IDT + 16 * v);
        uint8_t *p = h->ram + HANDLERS + 32 * v;
        uint64_t at = HANDLERS + 32 * v;
        static const uint8_t drop[] = { 0x48, 0x83, 0xc4, 0x08 };            /* add rsp, 8 */
        static const uint8_t skip[] = { 0x48, 0x83, 0x04, 0x24, 0x03, 0x48, 0xcf }; /* add qword [rsp], 3; iretq */

        gate[0] = (at & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (at >> 16 & 0xffff) << 48;
        gate[1] = 0;
        if (error) {
            memcpy(p, drop, sizeof drop);
            p += sizeof drop;
        }
        memcpy(p, skip, sizeof skip);
    }
}

static void fill(uint8_t *p, size_t n)
{
    static const uint8_t likely[] = { 0x0f, 0x48, 0x66, 0xc5, 0xc4, 0x8b, 0x89, 0x01, 0x74, 0xeb, 0xe8, 0xc3, 0xff, 0x50, 0x58,
                                      0xf0, 0xf3, 0x41, 0x4c, 0x83, 0xa4, 0xab, 0x90, 0x00 };

    for (size_t i = 0; i < n; i++)
        p[i] = rnd() & 3 ? likely[rnd() % sizeof likely] : (uint8_t)rnd();
}

/* Page tables where the guest does not reach them: what it makes of a table that it changes and does not flush is not
 * the same each time, and could not be compared. */
static void tables_apart(struct harness *h, struct hv_vp_state *s)
{
    enum { APART = HARNESS_RAM - (2 << 20) };
    uint64_t *pd = (uint64_t *)(h->ram + APART + 0x2000);

    memcpy(h->ram + APART, h->ram + 0x1000, 0x3000);
    ((uint64_t *)(h->ram + APART))[0] = (APART + 0x1000) | 7;
    ((uint64_t *)(h->ram + APART + 0x1000))[0] = (APART + 0x2000) | 7;
    pd[APART >> 21] = 0;
    s->cr3 = APART;
}

int main(int argc, char **argv)
{
    const char *engine = argc > 1 ? argv[1] : "jit";
    unsigned runs = argc > 2 ? (unsigned)atoi(argv[2]) : 2000;
    uint64_t seed = argc > 3 ? strtoull(argv[3], NULL, 0) : 1;
    unsigned long ended[16] = { 0 };
    struct hv_vp_state power_on;
    struct harness h;

    if (harness_open(&h, engine, 1)) {
        fprintf(stderr, "jit_fuzz: %s\n", hv_last_error());
        return 2;
    }
    hv_vp_get_state(h.p, 0, &power_on);
    for (unsigned i = 0; i < runs; i++) {
        struct hv_vp_state s;
        struct hv_exit e;
        unsigned mode = i % 3;

        rng = (seed + i) * 0x9e3779b97f4a7c15ull | 1;
        memset(h.ram, 0, 0x10000);
        fill(h.ram + HARNESS_CODE, 0x3000);
        hv_gpa_dirty(h.p, 0, HARNESS_CODE + 0x3000);
        handlers(&h);
        hv_vp_set_state(h.p, 0, &power_on);
        if (mode == 2)
            harness_protected(&h, 0);
        else
            harness_long_mode(&h, 0, mode ? 3 : 0);
        hv_vp_get_state(h.p, 0, &s);
        for (unsigned g = 0; g < 16; g++)
            if (g != 4)
                s.gpr[g] = rnd() & 1 ? DATA + (rnd() & 0xffff) : rnd() >> (rnd() & 63);
        if (mode < 2) {
            s.idtr_base = IDT;
            s.idtr_limit = 32 * 16 - 1;
        }
        if (rnd() & 1) { /* exceptions are masked: as programs have it */
            s.xsave[0] = 0x7f, s.xsave[1] = 0x03, s.xsave[4] = 0;
            s.xsave[24] = 0x80, s.xsave[25] = 0x1f;
            s.xsave[512] = 3;
        }
        if (mode < 2 && getenv("MOBO_JIT_CHECK"))
            tables_apart(&h, &s);
        if (hv_vp_set_state(h.p, 0, &s)) {
            fprintf(stderr, "jit_fuzz: %s\n", hv_last_error());
            return 2;
        }
        int r = harness_run(&h, 20, &e);

        ended[r < 0 || r > 14 ? 15 : r]++;
    }
    for (unsigned i = 0; i < 16; i++)
        if (ended[i])
            printf("%s: exit reason %u: %lu of %u runs\n", engine, i, ended[i], runs);
    harness_close(&h);
    return 0;
}
