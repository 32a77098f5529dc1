/* SPDX-License-Identifier: BSD-2-Clause */
/* The benchmark kernels: CPU-bound work with known answers, freestanding, used by the bare-metal
 * program (bare.c) and by the Linux program (gbench.c).  Each returns a checksum, so that a wrong
 * processor cannot look fast. */
#ifndef BENCH_KERNELS_H
#define BENCH_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#define BENCH_ARENA (8u << 20) /* scratch memory of all kernels */

static uint8_t bench_arena[BENCH_ARENA] __attribute__((aligned(4096)));

static inline uint32_t bench_rol(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static inline uint64_t bench_rand(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* Ten instructions a turn, written in assembly so that their number is known whatever the compiler:
 * BENCH_ALU_INSNS(n) of them in all.  It gives instructions a second without any counter. */
#define BENCH_ALU_INSNS(n) (10ull * (n))
static uint32_t bench_alu(unsigned n)
{
    uint64_t a = 1, b = 0x9e3779b97f4a7c15u, c = 3, turns = n;

    __asm__ volatile("1:\n\t"
                     "addq %1, %0\n\t"
                     "xorq %0, %2\n\t"
                     "leaq 7(%0,%2,2), %1\n\t"
                     "shrq $3, %2\n\t"
                     "imulq %1, %0\n\t"
                     "rolq $11, %1\n\t"
                     "subq %2, %1\n\t"
                     "orq $1, %0\n\t"
                     "decq %3\n\t"
                     "jnz 1b"
                     : "+r"(a), "+r"(b), "+r"(c), "+r"(turns)
                     :
                     : "cc");
    return (uint32_t)(a ^ b ^ c);
}

/* SHA-256 (FIPS 180-4) of n blocks of pseudo-random bytes; only the compression function. */
static uint32_t bench_sha256(unsigned n)
{
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
        0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
        0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
        0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
        0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
        0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
        0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
        0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
        0xc67178f2,
    };
    uint32_t h[8] = { 0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19 };
    uint32_t *data = (uint32_t *)(void *)bench_arena;
    uint64_t seed = 88172645463325252u;

    for (unsigned i = 0; i < 16384; i++)
        data[i] = (uint32_t)bench_rand(&seed);
    for (unsigned blk = 0; blk < n; blk++) {
        const uint32_t *p = data + (blk % 1024) * 16;
        uint32_t w[64], v[8];

        for (unsigned i = 0; i < 16; i++)
            w[i] = __builtin_bswap32(p[i]);
        for (unsigned i = 16; i < 64; i++) {
            uint32_t x = w[i - 15], y = w[i - 2];
            w[i] = w[i - 16] + (bench_rol(x, 25) ^ bench_rol(x, 14) ^ x >> 3) + w[i - 7] +
                   (bench_rol(y, 15) ^ bench_rol(y, 13) ^ y >> 10);
        }
        for (unsigned i = 0; i < 8; i++)
            v[i] = h[i];
        for (unsigned i = 0; i < 64; i++) {
            uint32_t t1 = v[7] + (bench_rol(v[4], 26) ^ bench_rol(v[4], 21) ^ bench_rol(v[4], 7)) +
                          ((v[4] & v[5]) ^ (~v[4] & v[6])) + k[i] + w[i];
            uint32_t t2 = (bench_rol(v[0], 30) ^ bench_rol(v[0], 19) ^ bench_rol(v[0], 10)) +
                          ((v[0] & v[1]) ^ (v[0] & v[2]) ^ (v[1] & v[2]));
            v[7] = v[6], v[6] = v[5], v[5] = v[4], v[4] = v[3] + t1;
            v[3] = v[2], v[2] = v[1], v[1] = v[0], v[0] = t1 + t2;
        }
        for (unsigned i = 0; i < 8; i++)
            h[i] += v[i];
    }
    return h[0] ^ h[7];
}

/* Heap sort through a comparison callback, then a walk of a hash table with chains. */
typedef int (*bench_cmp)(const uint32_t *, const uint32_t *);

static int bench_less(const uint32_t *a, const uint32_t *b)
{
    return *a < *b;
}

static uint32_t bench_sort(unsigned n)
{
    bench_cmp volatile less_ptr = bench_less;
    uint32_t *v = (uint32_t *)(void *)bench_arena, sum = 0;
    const unsigned len = 20000;
    uint64_t seed = 1234567;

    for (unsigned round = 0; round < n; round++) {
        bench_cmp less = less_ptr;

        for (unsigned i = 0; i < len; i++)
            v[i] = (uint32_t)bench_rand(&seed);
        for (unsigned end = len, start = len / 2; end > 1;) {
            uint32_t t;
            unsigned root, child;

            if (start > 0) {
                t = v[--start];
            } else {
                t = v[--end];
                v[end] = v[0];
            }
            for (root = start; (child = 2 * root + 1) < end; root = child) {
                if (child + 1 < end && less(&v[child], &v[child + 1]))
                    child++;
                if (!less(&t, &v[child]))
                    break;
                v[root] = v[child];
            }
            v[root] = t;
        }
        for (unsigned i = 0; i < len; i += 97)
            sum = bench_rol(sum, 5) ^ v[i];
    }
    return sum;
}

struct bench_node { uint32_t key, value; struct bench_node *next; };

static uint32_t bench_hash(unsigned n)
{
    enum { NODES = 65536, SLOTS = 32768 };
    struct bench_node **slot = (struct bench_node **)(void *)bench_arena;
    struct bench_node *node = (struct bench_node *)(void *)(bench_arena + SLOTS * sizeof(*slot));
    uint64_t seed = 42;
    uint32_t sum = 0;

    for (unsigned i = 0; i < SLOTS; i++)
        slot[i] = NULL;
    for (unsigned i = 0; i < NODES; i++) {
        uint32_t key = (uint32_t)bench_rand(&seed) & 0x1ffff, h = key * 2654435761u >> 17;
        node[i] = (struct bench_node){ key, i, slot[h] };
        slot[h] = &node[i];
    }
    for (unsigned i = 0; i < n; i++) {
        uint32_t key = (uint32_t)bench_rand(&seed) & 0x1ffff;
        const struct bench_node *p = slot[key * 2654435761u >> 17];

        while (p && p->key != key)
            p = p->next;
        sum = sum * 31 + (p ? p->value : 7);
    }
    return sum;
}

/* LZ match finder over text-like bytes and a CRC-32 by bytes (IEEE 802.3, reflected). */
static uint32_t bench_lz(unsigned n)
{
    enum { LEN = 65536, HASH = 4096 };
    uint8_t *text = bench_arena;
    uint16_t *head = (uint16_t *)(void *)(bench_arena + LEN);
    uint32_t *table = (uint32_t *)(void *)(bench_arena + LEN + HASH * 2);
    uint64_t seed = 99;
    uint32_t crc = ~0u, matched = 0;

    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;
        for (unsigned b = 0; b < 8; b++)
            c = c & 1 ? c >> 1 ^ 0xedb88320u : c >> 1;
        table[i] = c;
    }
    for (unsigned i = 0; i < LEN; i++)
        text[i] = (uint8_t)("etaoin shrdlu"[bench_rand(&seed) % 13]);
    for (unsigned round = 0; round < n; round++) {
        for (unsigned i = 0; i < HASH; i++)
            head[i] = 0;
        for (unsigned i = 1; i + 64 < LEN;) {
            uint32_t h = ((uint32_t)text[i] << 16 | (uint32_t)text[i + 1] << 8 | text[i + 2]);
            unsigned cand, len = 0;

            h = h * 2654435761u >> 20;
            cand = head[h];
            head[h] = (uint16_t)i;
            if (cand)
                while (len < 64 && text[cand + len] == text[i + len])
                    len++;
            matched += len;
            i += len > 3 ? len : 1;
        }
        for (unsigned i = 0; i < LEN; i++)
            crc = table[(crc ^ text[i]) & 0xff] ^ crc >> 8;
        text[round % LEN] ^= 1;
    }
    return crc ^ matched;
}

/* A small register machine: an indirect branch an operation. */
static uint32_t bench_bytecode(unsigned n)
{
    enum { ADD, SUB, XOR, SHIFT, LOAD, STORE, BRANCH, LOOP };
    static const uint8_t code[][3] = {
        { ADD, 0, 1 },  { XOR, 1, 2 },   { SHIFT, 2, 5 }, { STORE, 0, 3 }, { SUB, 3, 1 },
        { LOAD, 4, 3 }, { BRANCH, 4, 8 }, { ADD, 5, 4 },   { XOR, 0, 5 },   { LOOP, 0, 0 },
    };
    uint32_t r[8] = { 1, 2, 3, 4, 5, 6, 7, n }, *mem = (uint32_t *)(void *)bench_arena;

    for (unsigned i = 0; i < 256; i++)
        mem[i] = i * 77;
    for (unsigned pc = 0;; pc++) {
        const uint8_t *c = code[pc];

        switch (*(volatile const uint8_t *)c) {
        case ADD: r[c[1]] += r[c[2]]; break;
        case SUB: r[c[1]] -= r[c[2]]; break;
        case XOR: r[c[1]] ^= r[c[2]]; break;
        case SHIFT: r[c[1]] = bench_rol(r[c[1]], c[2]); break;
        case LOAD: r[c[1]] = mem[r[c[2]] & 255]; break;
        case STORE: mem[r[c[2]] & 255] = r[c[1]]; break;
        case BRANCH:
            if (r[c[1]] & 1)
                pc = c[2] - 1u;
            break;
        case LOOP:
            if (--r[7] == 0)
                return r[0] ^ r[5];
            pc = (unsigned)-1;
            break;
        }
    }
}

/* Recursion: calls, returns, a stack that grows and shrinks. */
static __attribute__((noinline)) uint32_t bench_fib(uint32_t n)
{
    if (n < 2)
        return n;
    return bench_fib(n - 1) + *(volatile uint32_t *)&(uint32_t){ 0 } + bench_fib(n - 2);
}

static uint32_t bench_calls(unsigned n)
{
    uint32_t sum = 0;

    for (unsigned i = 0; i < n; i++)
        sum += bench_fib(18 + i % 3);
    return sum;
}

/* Double precision: matrix product (SSE2). */
static uint32_t bench_matmul(unsigned n)
{
    enum { N = 64 };
    double(*a)[N] = (double(*)[N])(void *)bench_arena, (*b)[N] = a + N, (*c)[N] = b + N;
    double trace = 0;

    for (unsigned i = 0; i < N; i++)
        for (unsigned j = 0; j < N; j++) {
            a[i][j] = (double)(i * 3 + j % 7) / 16;
            b[i][j] = (double)(j * 5 + i % 11) / 32;
        }
    for (unsigned round = 0; round < n; round++) {
        for (unsigned i = 0; i < N; i++)
            for (unsigned j = 0; j < N; j++) {
                double s = 0;
                for (unsigned k = 0; k < N; k++)
                    s += a[i][k] * b[k][j];
                c[i][j] = s;
            }
        a[round % N][round % 5] = c[round % N][7] / 1048576;
        trace += c[round % N][round % N];
    }
    return (uint32_t)(int64_t)(trace / 64);
}

/* Strings: string instructions over 64 KB and byte loops. */
static uint32_t bench_strings(unsigned n)
{
    uint8_t *src = bench_arena, *dst = bench_arena + 65536;
    uint32_t sum = 0;

    for (unsigned i = 0; i < 65536; i++)
        src[i] = (uint8_t)(i * 7 + 1) | 1;
    for (unsigned round = 0; round < n; round++) {
        void *d = dst;
        const void *s = src;
        size_t len = 65535;

        __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(len) : : "memory");
        dst[65535] = 0;
        for (len = 0; dst[len]; len++)
            ;
        for (size_t i = 0; i < 4096; i++)
            sum = sum * 33 + dst[i];
        src[round % 65535] ^= 2;
        sum += (uint32_t)len;
    }
    return sum;
}

struct bench_kernel {
    const char *name;
    uint32_t (*run)(unsigned n);
    unsigned n;
};

/* About 200 million instructions each. */
static const struct bench_kernel bench_kernels[] __attribute__((unused)) = {
    { "alu", bench_alu, 20000000 },       { "sha256", bench_sha256, 60000 },
    { "sort", bench_sort, 35 },           { "hash", bench_hash, 8000000 },
    { "lz", bench_lz, 100 },              { "bytecode", bench_bytecode, 3000000 },
    { "calls", bench_calls, 1500 },       { "matmul", bench_matmul, 150 },
    { "strings", bench_strings, 350 },
};

#define BENCH_KERNELS (sizeof(bench_kernels) / sizeof(bench_kernels[0]))

#endif
