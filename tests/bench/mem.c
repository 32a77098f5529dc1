/* SPDX-License-Identifier: BSD-2-Clause */
/* Memory kernels: the C library's copy, set and string functions in and out of the caches, a walk along pointers,
 * scattered updates, division.  Usage: mem NAME TURNS prints a result. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BIG (32u << 20)
static uint8_t *big;

static uint64_t rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

static uint64_t probe(void)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < BIG; i += 4099)
        sum = sum * 31 + big[i];
    return sum;
}

static uint64_t copy(unsigned n)
{
    for (unsigned i = 0; i < BIG / 2; i += 64)
        big[i] = (uint8_t)(i >> 6);
    for (unsigned t = 0; t < n; t++)
        memmove(big + BIG / 2 - (t & 63), big + (t & 31), BIG / 2 - 64);
    return probe();
}

static uint64_t copy_small(unsigned n)
{
    uint64_t seed = 4, sum = 0;

    for (unsigned i = 0; i < 65536; i++)
        big[i] = (uint8_t)i;
    for (unsigned t = 0; t < n; t++) {
        uint64_t r = rnd(&seed);

        memcpy(big + 65536 + (r & 32767), big + (r >> 20 & 16383), r >> 50 & 255);
        sum += big[65536 + (r >> 8 & 32767)];
    }
    return sum;
}

static uint64_t set(unsigned n)
{
    for (unsigned t = 0; t < n; t++)
        memset(big + (t & 15), (int)t, BIG - 4096);
    return probe();
}

static uint64_t strings(unsigned n)
{
    char *text = (char *)big;
    uint64_t sum = 0;

    for (unsigned i = 0; i < 65536; i++)
        text[i] = (char)('a' + i * 7 % 23);
    text[65535] = 0;
    memcpy(text + 65536, text, 65536);
    for (unsigned t = 0; t < n; t++) {
        unsigned at = t * 37 % 4096;

        sum += strlen(text + at) + (uint64_t)(strchr(text + at, 0) - text);
        sum += (uint64_t)(memcmp(text + at, text + 65536 + at, 65536 - at) == 0) + !!memchr(text + at, '~', 32768);
        sum += (uint64_t)!!strstr(text + at, "zzz");
        text[(t * 101) % 65535] ^= 1;
        text[65536 + (t * 101) % 65535] ^= 1;
    }
    return sum;
}

static uint64_t chase_in(unsigned n, uint32_t len)
{
    uint32_t *next = (uint32_t *)(void *)big, at = 0;
    uint64_t seed = 11;

    for (uint32_t i = 0; i < len; i++)
        next[i] = i;
    for (uint32_t i = len - 1; i > 0; i--) { /* one cycle through all (Sattolo) */
        uint32_t j = (uint32_t)(rnd(&seed) % i), t = next[i];

        next[i] = next[j];
        next[j] = t;
    }
    for (unsigned t = 0; t < n; t++)
        at = next[at];
    return at;
}

static uint64_t chase(unsigned n) { return chase_in(n, BIG / 8); }
static uint64_t chase_l1(unsigned n) { return chase_in(n, 4096); }

static uint64_t scatter(unsigned n)
{
    uint64_t *v = (uint64_t *)(void *)big, seed = 21;

    for (unsigned t = 0; t < n; t++) {
        uint64_t r = rnd(&seed);

        v[r % (BIG / 8)] ^= r;
    }
    return probe();
}

/* Sequential reads and writes in a loop that the compiler may vectorize. */
static uint64_t stream(unsigned n)
{
    uint64_t *a = (uint64_t *)(void *)big, *b = a + BIG / 32, *c = b + BIG / 32;

    for (unsigned i = 0; i < BIG / 32; i++)
        a[i] = i, b[i] = i * 3;
    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < BIG / 32; i++)
            c[i] = a[i] + b[i] * 5;
        for (unsigned i = 0; i < BIG / 32; i++)
            a[i] = c[i] >> 1;
    }
    return probe();
}

static uint64_t divide(unsigned n)
{
    uint64_t seed = 31, sum = 0;

    for (unsigned t = 0; t < n; t++) {
        uint64_t a = rnd(&seed), b = rnd(&seed) >> (a & 31) | 1;

        sum += a / b + (uint32_t)a % (uint32_t)(b >> 7 | 1);
        sum ^= (uint64_t)((int64_t)(a ^ sum) % (int64_t)(b | 3));
    }
    return sum;
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return x < y ? -1 : x > y;
}

static uint64_t qsort_(unsigned n)
{
    uint32_t *v = (uint32_t *)(void *)big;
    uint64_t seed = 41, sum = 0;

    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 0; i < 50000; i++)
            v[i] = (uint32_t)rnd(&seed);
        qsort(v, 50000, sizeof(*v), by_value);
        for (unsigned i = 0; i < 50000; i += 101)
            sum = sum * 31 + v[i];
    }
    return sum;
}

/* Malloc and free of many sizes. */
static uint64_t heap(unsigned n)
{
    static uint8_t *p[1024];
    uint64_t seed = 51, sum = 0;

    for (unsigned t = 0; t < n; t++) {
        uint64_t r = rnd(&seed);
        uint8_t **q = &p[r & 1023];
        size_t size = (r >> 10 & 15) ? (r >> 20 & 255) + 1 : (r >> 20 & 65535) + 1;

        if (*q)
            sum += **q;
        free(*q);
        *q = malloc(size);
        if (!*q)
            exit(1);
        (*q)[0] = (uint8_t)r;
        (*q)[size - 1] = 1;
    }
    return sum;
}

/* Accesses of 4, 8 and 16 bytes that lie across two pages: data that is packed, or copied from any address to any. */
static uint64_t cross(unsigned n)
{
    uint8_t *v = big + 4096 - 16;
    uint64_t sum = 1, two[2];
    uint32_t four;

    for (unsigned t = 0; t < n; t++) {
        uint8_t *p = v + (t & 15) * 4096 + (t & 3);

        memcpy(two, p, 16);
        memcpy(&four, p + 13, 4);
        sum = sum * 3 + two[0] + two[1] + four;
        two[0] = p[9];
        memcpy(p + 9, &sum, 8);
        p[20] = (uint8_t)(two[0] + sum);
    }
    return sum;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        uint64_t (*run)(unsigned);
    } kernels[] = {
        { "copy", copy },         { "copy-small", copy_small }, { "set", set },       { "strings", strings },
        { "chase", chase },       { "chase-l1", chase_l1 },     { "scatter", scatter }, { "stream", stream },
        { "divide", divide },     { "qsort", qsort_ },          { "heap", heap },         { "cross", cross },
    };

    big = aligned_alloc(4096, BIG + 4096);
    if (!big)
        return 1;
    memset(big, 0, BIG + 4096);
    for (size_t i = 0; argc == 3 && i < sizeof(kernels) / sizeof(kernels[0]); i++)
        if (!strcmp(argv[1], kernels[i].name)) {
            printf("%s %016llx\n", argv[1], (unsigned long long)kernels[i].run((unsigned)strtoul(argv[2], NULL, 10)));
            return 0;
        }
    fprintf(stderr, "usage: mem NAME TURNS\n");
    return 2;
}
