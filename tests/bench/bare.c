/* SPDX-License-Identifier: BSD-2-Clause */
/* Bare-metal benchmark: the kernels of kernels.h in long mode with interrupts off, so that only the
 * processor is measured.  One multiboot image for every VMM: results on COM1 (PC16550D, polled) in
 * the format of gbench.c with time stamp counts for nanoseconds; the end through debug-exit at port
 * 0xf4 and, for Bochs, the word "Shutdown" at port 0x8900. */
#include "kernels.h"

void bench_main(void);
void *memset(void *dst, int c, size_t len);
void *memcpy(void *dst, const void *src, size_t len);

static inline void outb(uint16_t port, uint8_t val)
{
    __asm__ volatile("outb %0, %1" : : "a"(val), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t val;

    __asm__ volatile("inb %1, %0" : "=a"(val) : "Nd"(port));
    return val;
}

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (uint64_t)hi << 32 | lo;
}

void *memset(void *dst, int c, size_t len)
{
    void *d = dst;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(len) : "a"(c) : "memory");
    return dst;
}

void *memcpy(void *dst, const void *src, size_t len)
{
    void *d = dst;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(len) : : "memory");
    return dst;
}

static void put(const char *s)
{
    for (; *s; s++) {
        for (unsigned i = 0; !(inb(0x3fd) & 0x20) && i < 1000000; i++) /* THR empty */
            ;
        outb(0x3f8, (uint8_t)*s);
    }
}

static void put_number(uint64_t v, unsigned base, unsigned width)
{
    char buf[24], *p = buf + sizeof(buf);

    *--p = 0;
    do {
        *--p = "0123456789abcdef"[v % base];
        v /= base;
    } while (v || (unsigned)(buf + sizeof(buf) - 1 - p) < width);
    put(p);
}

void bench_main(void)
{
    outb(0x3f9, 0);    /* no interrupts    */
    outb(0x3fb, 0x83); /* 8n1, DLAB        */
    outb(0x3f8, 1);    /* 115200 baud      */
    outb(0x3f9, 0);
    outb(0x3fb, 3);
    outb(0x3fa, 7);    /* FIFOs on, empty  */
    for (size_t i = 0; i < BENCH_KERNELS; i++) {
        const struct bench_kernel *k = &bench_kernels[i];
        uint64_t start;
        uint32_t sum;

        put("MOBO-BENCH begin ");
        put(k->name);
        put("\n");
        start = rdtsc();
        sum = k->run(k->n);
        start = rdtsc() - start;
        put("MOBO-BENCH end ");
        put(k->name);
        put(" ");
        put_number(sum, 16, 8);
        put(" ");
        put_number(start, 10, 1);
        put("\n");
    }
    put("MOBO-BENCH done\n");
    for (const char *s = "Shutdown"; *s; s++)
        outb(0x8900, (uint8_t)*s);
    outb(0xf4, 0);
}
