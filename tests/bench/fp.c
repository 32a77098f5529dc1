/* SPDX-License-Identifier: BSD-2-Clause */
/* Floating point and SIMD kernels: scalar and vector SSE2, AVX2, x87, the mathematics library, integer vectors.
 * Usage: fp NAME TURNS prints a result, rounded so that it does not depend on the library's choice of code for
 * the processor (FMA or not). */
#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double rnd(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return (double)(*s >> 11) / 9007199254740992.0;
}

/* Five bodies, symplectic Euler: scalar double with square roots and divisions. */
static double nbody(unsigned n)
{
    double p[5][3], v[5][3], m[5], e = 0;
    uint64_t seed = 5;

    for (int i = 0; i < 5; i++) {
        m[i] = i ? rnd(&seed) * 0.01 : 40;
        for (int k = 0; k < 3; k++) {
            p[i][k] = i * 6 * (rnd(&seed) + 0.5);
            v[i][k] = i ? rnd(&seed) - 0.5 : 0;
        }
    }
    for (unsigned t = 0; t < n; t++) {
        for (int i = 0; i < 5; i++)
            for (int j = i + 1; j < 5; j++) {
                double d[3], r2 = 1e-3, mag;

                for (int k = 0; k < 3; k++) {
                    d[k] = p[i][k] - p[j][k];
                    r2 += d[k] * d[k];
                }
                mag = 0.0001 / (r2 * sqrt(r2));
                for (int k = 0; k < 3; k++) {
                    v[i][k] -= d[k] * m[j] * mag;
                    v[j][k] += d[k] * m[i] * mag;
                }
            }
        for (int i = 0; i < 5; i++)
            for (int k = 0; k < 3; k++)
                p[i][k] += 0.0001 * v[i][k];
    }
    for (int i = 0; i < 5; i++)
        e += m[i] * (v[i][0] * v[i][0] + v[i][1] * v[i][1] + v[i][2] * v[i][2]) / 2;
    return e;
}

/* Scalar double with comparisons and branches. */
static double mandel(unsigned n)
{
    unsigned long sum = 0;

    for (unsigned y = 0; y < n; y++)
        for (unsigned x = 0; x < 256; x++) {
            double cr = (double)x / 100 - 2, ci = (double)(y % 256) / 100 - 1.28, r = 0, i = 0;
            unsigned k = 0;

            for (; k < 200 && r * r + i * i < 4; k++) {
                double t = r * r - i * i + cr;

                i = 2 * r * i + ci;
                r = t;
            }
            sum += k;
        }
    return (double)sum;
}

/* Single precision, SSE, four lanes: saxpy, products, horizontal sums. */
static double sse(unsigned n)
{
    static float a[4096], b[4096];
    uint64_t seed = 9;
    double sum = 0;

    for (int i = 0; i < 4096; i++) {
        a[i] = (float)rnd(&seed);
        b[i] = (float)rnd(&seed);
    }
    for (unsigned t = 0; t < n; t++) {
        __m128 acc = _mm_setzero_ps(), k = _mm_set1_ps(0.999f), c = _mm_set1_ps(0.0005f);
        float out[4];

        for (int i = 0; i < 4096; i += 4) {
            __m128 x = _mm_loadu_ps(a + i), y = _mm_loadu_ps(b + i);

            acc = _mm_add_ps(acc, _mm_mul_ps(x, y));
            x = _mm_add_ps(_mm_mul_ps(x, k), c);
            _mm_storeu_ps(a + i, _mm_max_ps(x, _mm_sub_ps(y, _mm_shuffle_ps(x, x, 0x1b))));
        }
        _mm_storeu_ps(out, acc);
        sum = sum * 0.5 + (double)(out[0] + out[1] + out[2] + out[3]);
    }
    return sum;
}

/* The same with double and AVX2 with fused multiply-add, where the processor has it. */
__attribute__((target("avx2,fma"))) static double avx_run(unsigned n)
{
    static double a[4096], b[4096];
    uint64_t seed = 9;
    double sum = 0;

    for (int i = 0; i < 4096; i++) {
        a[i] = rnd(&seed);
        b[i] = rnd(&seed);
    }
    for (unsigned t = 0; t < n; t++) {
        __m256d acc = _mm256_setzero_pd(), k = _mm256_set1_pd(0.999), c = _mm256_set1_pd(0.0005);
        double out[4];

        for (int i = 0; i < 4096; i += 4) {
            __m256d x = _mm256_loadu_pd(a + i), y = _mm256_loadu_pd(b + i);

            acc = _mm256_fmadd_pd(x, y, acc);
            x = _mm256_fmadd_pd(x, k, c);
            _mm256_storeu_pd(a + i, _mm256_max_pd(x, _mm256_sub_pd(y, _mm256_permute4x64_pd(x, 0x1b))));
        }
        _mm256_storeu_pd(out, acc);
        sum = sum * 0.5 + (out[0] + out[1] + out[2] + out[3]);
    }
    return sum;
}

static double avx(unsigned n)
{
    __builtin_cpu_init();
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) {
        fprintf(stderr, "no AVX2 with FMA here\n");
        exit(1);
    }
    return avx_run(n);
}

/* Integer vectors: shuffles, sums of differences, comparisons and masks, as codecs and string functions do. */
__attribute__((target("ssse3"))) static double simd_int(unsigned n)
{
    static uint8_t a[16384], b[16384];
    uint64_t seed = 77, sum = 0;

    for (int i = 0; i < 16384; i++) {
        a[i] = (uint8_t)(rnd(&seed) * 256);
        b[i] = (uint8_t)(rnd(&seed) * 256);
    }
    for (unsigned t = 0; t < n; t++) {
        __m128i acc = _mm_setzero_si128(), rev = _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);

        for (int i = 0; i < 16384; i += 16) {
            __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a + i)),
                    y = _mm_loadu_si128((const __m128i *)(const void *)(b + i));

            acc = _mm_add_epi64(acc, _mm_sad_epu8(x, y));
            sum += (unsigned)_mm_movemask_epi8(_mm_cmpgt_epi8(x, y));
            x = _mm_avg_epu8(_mm_shuffle_epi8(x, rev), _mm_adds_epu8(y, _mm_srli_epi16(x, 3)));
            _mm_storeu_si128((__m128i *)(void *)(a + i), x);
        }
        sum += (uint64_t)_mm_cvtsi128_si64(acc);
    }
    return (double)(sum & 0xffffffffffffu);
}

/* x87: long double with division, square root, comparison, and the transcendental instructions. */
static double x87(unsigned n)
{
    long double x = 0.5L, y = 1.25L, sum = 0;

    for (unsigned i = 0; i < n; i++) {
        x = x * 1.0625L + y / (x + 3.0L);
        y = y - x * 0.125L + 0.5L;
        if (x > 4.0L)
            x -= 3.75L;
        sum += x * y + (long double)(i & 7);
        if ((i & 63) == 0)
            sum += sqrtl(sum * sum + 1.0L) / 1048576;
    }
    return (double)sum;
}

static double x87_trans(unsigned n)
{
    long double sum = 0;

    for (unsigned i = 0; i < n; i++) {
        long double a = (long double)(i % 1000) / 128, r, s, c;

        __asm__ volatile("fsincos" : "=t"(c), "=u"(s) : "0"(a));
        __asm__ volatile("fpatan" : "=t"(r) : "0"(c + 2), "u"(s) : "st(1)");
        __asm__ volatile("fyl2x" : "=t"(s) : "0"(a + 1), "u"(1.0L) : "st(1)");
        __asm__ volatile("f2xm1" : "=t"(c) : "0"(r / 4));
        sum += r + s + c;
    }
    return (double)sum;
}

static double libm(unsigned n)
{
    double sum = 0;

    for (unsigned i = 0; i < n; i++) {
        double a = (double)(i % 4099) / 97 + 0.01;

        sum += sin(a) + exp(-a) + log(a) + pow(a, 0.37) + atan2(a, 3) + cbrt(a) + floor(a * 3.7) + tanh(a / 40) +
               fmod(a, 0.7);
    }
    return sum;
}

/* Radix-2 FFT of 4096 complex numbers, written plainly, so that the compiler chooses its vectors. */
static double fft(unsigned n)
{
    enum { LEN = 4096 };
    static double re[LEN], im[LEN], wr[LEN / 2], wi[LEN / 2];
    uint64_t seed = 3;
    double sum = 0;

    for (int i = 0; i < LEN / 2; i++) {
        wr[i] = cos(2 * 3.14159265358979323846 * i / LEN);
        wi[i] = sin(2 * 3.14159265358979323846 * i / LEN);
    }
    for (int i = 0; i < LEN; i++)
        re[i] = rnd(&seed) - 0.5;
    for (unsigned t = 0; t < n; t++) {
        for (unsigned i = 1, j = 0; i < LEN; i++) {
            unsigned bit = LEN / 2;

            for (; j & bit; bit >>= 1)
                j ^= bit;
            j ^= bit;
            if (i < j) {
                double x = re[i], y = im[i];

                re[i] = re[j], im[i] = im[j], re[j] = x, im[j] = y;
            }
        }
        for (unsigned half = 1; half < LEN; half *= 2)
            for (unsigned at = 0; at < LEN; at += 2 * half)
                for (unsigned k = 0; k < half; k++) {
                    double c = wr[k * (LEN / 2 / half)], s = wi[k * (LEN / 2 / half)];
                    double x = re[at + k + half] * c - im[at + k + half] * s,
                           y = re[at + k + half] * s + im[at + k + half] * c;

                    re[at + k + half] = re[at + k] - x;
                    im[at + k + half] = im[at + k] - y;
                    re[at + k] += x;
                    im[at + k] += y;
                }
        for (unsigned i = 0; i < LEN; i++) {
            re[i] /= 64;
            im[i] /= 64;
        }
        sum += fabs(re[5]) + fabs(im[77]);
    }
    return sum;
}

/* Conversions between integers and both precisions, rounding. */
static double convert(unsigned n)
{
    double sum = 0;
    float f = 1.5f;

    for (unsigned i = 0; i < n; i++) {
        double d = (double)(int)i * 0.75 + (double)f;
        int64_t q = (int64_t)d;

        f = (float)d * 0.001f;
        sum += (double)(q & 1023) + (double)(int)f;
    }
    return sum;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        double (*run)(unsigned);
    } kernels[] = {
        { "nbody", nbody }, { "mandel", mandel }, { "sse", sse },             { "avx", avx },
        { "simd-int", simd_int }, { "x87", x87 }, { "x87-trans", x87_trans }, { "libm", libm },
        { "fft", fft },     { "convert", convert },
    };

    for (size_t i = 0; argc == 3 && i < sizeof(kernels) / sizeof(kernels[0]); i++)
        if (!strcmp(argv[1], kernels[i].name)) {
            printf("%s %.7g\n", argv[1], kernels[i].run((unsigned)strtoul(argv[2], NULL, 10)));
            return 0;
        }
    fprintf(stderr, "usage: fp NAME TURNS\n");
    return 2;
}
