/* SPDX-License-Identifier: BSD-2-Clause */
/* REP MOVS and STOS of all sizes: short and long, up and down, onto themselves, over the ends of pages; against loops
 * of single loads and stores.  Registers and flags behind. */
#include "rt.h"

enum { PAGE = 4096, LEN = 6 * PAGE };
static uint8_t *got, *want;

static void fill(void)
{
    for (unsigned i = 0; i < LEN; i++)
        got[i] = want[i] = (uint8_t)(i * 13 + (i >> 8) * 7 + 1);
}

static unsigned differ(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < LEN; i++)
        n += got[i] != want[i];
    return n;
}

static void one(uint8_t *d, const uint8_t *s, uint64_t v, unsigned size)
{
    uint64_t w = v;

    if (s)
        for (unsigned i = 0; i < size; i++)
            ((uint8_t *)&w)[i] = ((const volatile uint8_t *)s)[i];
    for (unsigned i = 0; i < size; i++)
        ((volatile uint8_t *)d)[i] = ((uint8_t *)&w)[i];
}

#define REP(insn) \
    __asm__ volatile("test %[down], %[down]; jz 1f; std; 1: cmp $1, %[carry]; " insn "; setb %[out]; cld" \
                     : "+D"(di), "+S"(si), "+c"(cx), [out] "=&q"(out) \
                     : [down] "q"(down), [carry] "q"(carry), "a"(v) \
                     : "memory", "cc")

/* @return what is wrong with registers and flags. */
static unsigned run(bool stos, unsigned size, unsigned d, unsigned s, ulong n, uint8_t down)
{
    uint64_t v = 0x123456789abcdef1ull * (d + s + n + 1);
    ulong di = (ulong)got + d, si = (ulong)got + s, cx = n;
    long step = down ? -(long)size : (long)size;
    uint8_t carry = (uint8_t)((d ^ n) & 1), out;

    for (ulong i = 0; i < n; i++)
        one(want + d + (long)i * step, stos ? NULL : want + s + (long)i * step, v, size);
    if (stos)
        switch (size) {
        case 1: REP("rep stosb"); break;
        case 2: REP("rep stosw"); break;
        case 4: REP("rep stosl"); break;
        default: REP("rep stosq");
        }
    else
        switch (size) {
        case 1: REP("rep movsb"); break;
        case 2: REP("rep movsw"); break;
        case 4: REP("rep movsl"); break;
        default: REP("rep movsq");
        }
    return (di != (ulong)got + d + n * (ulong)step) + (si != (ulong)got + s + (stos ? 0 : n * (ulong)step)) + (cx != 0) +
           (out != !carry);
}

int main(void)
{
    static const char *const name[2][4] = { { "movsb", "movsw", "movsl", "movsq" }, { "stosb", "stosw", "stosl", "stosq" } };

    rt_init();
    got = alloc_page();
    for (unsigned i = 1; i < 2 * LEN / PAGE; i++)
        alloc_page();
    want = got + LEN;
    for (unsigned stos = 0; stos < 2; stos++)
        for (unsigned k = 0; k < 4; k++) {
            unsigned size = 1u << k, bad = 0, regs = 0;

            for (unsigned turn = 0; turn < 3; turn++)
                for (unsigned down = 0; down < 2; down++) {
                    fill();
                    for (int dist = -20; dist <= 20; dist++)
                        for (unsigned n = 0; n < 40; n += 3)
                            regs += run(stos, size, 2 * PAGE + 1000, (unsigned)(2 * PAGE + 1000 + dist), n, (uint8_t)down);
                    for (int off = -70; off <= 10; off += 5) /* what ends, or begins, at a page's end */
                        for (unsigned n = 1; n < 64 / size; n += 5) {
                            regs += run(stos, size, (unsigned)(2 * PAGE + off), 4 * PAGE + 64, n, (uint8_t)down);
                            regs += run(stos, size, PAGE + 512, (unsigned)(4 * PAGE + off), n, (uint8_t)down);
                        }
                    bad += differ();
                    for (unsigned n = PAGE / size - 1; n <= PAGE / size + 1; n++) {
                        regs += run(stos, size, down ? 4 * PAGE - size : 3 * PAGE, down ? 2 * PAGE - size : PAGE, n, (uint8_t)down);
                        regs += run(stos, size, down ? 4 * PAGE : 3 * PAGE + 8, down ? 4 * PAGE - 8 : 3 * PAGE, n, (uint8_t)down);
                        bad += differ();
                    }
                }
            check(name[stos][k], bad, 0);
            check("registers and flags", regs, 0);
        }
    rt_exit();
}
