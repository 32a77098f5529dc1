/* SPDX-License-Identifier: BSD-2-Clause */
/* Guest code for instruction-rate measurements, compiled as position-dependent 64-bit code at HARNESS_CODE. */
typedef unsigned long u64;
typedef unsigned int u32;
typedef unsigned char u8;

static void out(unsigned short port, u32 v) { __asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port)); }

static u32 table[256] __attribute__((aligned(4096)));
static u8 buf[65536] __attribute__((aligned(4096)));

static u32 crc(u32 n)
{
    u32 c = ~0u;

    for (u32 i = 0; i < n; i++)
        c = table[(c ^ buf[i & 65535]) & 255] ^ (c >> 8);
    return ~c;
}

static u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }

static u32 sieve(void)
{
    u32 n = 0;

    for (u32 i = 2; i < 65536; i++)
        buf[i] = 1;
    for (u32 i = 2; i < 65536; i++)
        if (buf[i]) {
            n++;
            for (u32 j = i * 2; j < 65536; j += i)
                buf[j] = 0;
        }
    return n;
}

void _start(void);
__attribute__((section(".text.unlikely.start"))) void _start(void)
{
    u32 r = 0;

    for (u32 i = 0; i < 256; i++) {
        u32 c = i;

        for (int k = 0; k < 8; k++)
            c = (c >> 1) ^ (0xedb88320u & (0u - (c & 1)));
        table[i] = c;
    }
    for (int i = 0; i < 20; i++)
        r += sieve();
    r ^= crc(20000000);
    r += fib(32);
    out(0xf4, r);
    for (;;)
        __asm__ volatile("hlt");
}
