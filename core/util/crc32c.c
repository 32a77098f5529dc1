/* SPDX-License-Identifier: BSD-2-Clause */
/* CRC-32C, by the host's instruction where it has one. */
#include "core/util/crc32c.h"

#include <pthread.h>
#include <string.h>

__attribute__((target("sse4.2"))) static uint32_t crc_hw(uint32_t crc, const uint8_t *p, size_t n)
{
    uint64_t c = crc, v;

    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&v, p, 8);
        c = __builtin_ia32_crc32di(c, v);
    }
    for (; n; n--)
        c = __builtin_ia32_crc32qi((uint32_t)c, *p++);
    return (uint32_t)c;
}

static uint32_t table[256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void fill(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int k = 0; k < 8; k++)
            c = c >> 1 ^ (c & 1 ? 0x82f63b78u : 0);
        table[i] = c;
    }
}

static uint32_t crc_sw(uint32_t crc, const uint8_t *p, size_t n)
{
    pthread_once(&once, fill);
    while (n--)
        crc = crc >> 8 ^ table[(crc ^ *p++) & 0xff];
    return crc;
}

uint32_t crc32c(uint32_t crc, const void *buf, size_t len)
{
    return ~(__builtin_cpu_supports("sse4.2") ? crc_hw(~crc, buf, len) : crc_sw(~crc, buf, len));
}
