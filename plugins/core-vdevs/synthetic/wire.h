/* SPDX-License-Identifier: BSD-2-Clause */
/* Little-endian integers in messages. */
#ifndef SYNTHETIC_WIRE_H
#define SYNTHETIC_WIRE_H

#include <stdint.h>

static inline void wire_put(uint8_t *p, uint64_t val, unsigned len)
{
    for (unsigned i = 0; i < len; i++)
        p[i] = (uint8_t)(val >> 8 * i);
}

static inline uint64_t wire_get(const uint8_t *p, unsigned len)
{
    uint64_t val = 0;

    for (unsigned i = 0; i < len; i++)
        val |= (uint64_t)p[i] << 8 * i;
    return val;
}

#endif
