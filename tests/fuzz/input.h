/* SPDX-License-Identifier: BSD-2-Clause */
/* An input of a fuzz target, taken in pieces: behind its end there are zeroes. */
#ifndef TESTS_FUZZ_INPUT_H
#define TESTS_FUZZ_INPUT_H

#include <stddef.h>
#include <stdint.h>

struct input {
    const uint8_t *at;
    size_t left;
};

/* The next @n bytes, at most 8, as a number in little endian. */
static inline uint64_t take64(struct input *in, unsigned n)
{
    uint64_t val = 0;

    for (unsigned i = 0; i < n && in->left; i++, in->left--)
        val |= (uint64_t)*in->at++ << 8 * i;
    return val;
}

static inline uint32_t take(struct input *in, unsigned n)
{
    return (uint32_t)take64(in, n);
}

static inline void take_bytes(struct input *in, uint8_t *buf, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf[i] = (uint8_t)take64(in, 1);
}

#endif
