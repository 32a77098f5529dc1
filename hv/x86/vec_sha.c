/* SPDX-License-Identifier: BSD-2-Clause */
/* The SHA instructions in C, for hosts without them.  Reference: Intel SDM 2B SHA1*, SHA256* (operation). */
#include "hv/x86/vec_int.h"

static uint32_t ror(uint32_t v, unsigned n)
{
    return v >> n | v << (32 - n);
}
static uint32_t rol(uint32_t v, unsigned n)
{
    return v << n | v >> (32 - n);
}

static void sha1rnds4(uint32_t d[4], const uint32_t s[4], unsigned sel)
{
    static const uint32_t k[4] = { 0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6 };
    uint32_t a = d[3], b = d[2], c = d[1], e = 0, dd = d[0];

    for (unsigned i = 0; i < 4; i++) {
        uint32_t f = sel == 0   ? (b & c) ^ (~b & dd)
                     : sel == 2 ? (b & c) ^ (b & dd) ^ (c & dd)
                                : b ^ c ^ dd;
        uint32_t t = f + rol(a, 5) + s[3 - i] + e + k[sel];

        e = dd;
        dd = c;
        c = rol(b, 30);
        b = a;
        a = t;
    }
    d[3] = a;
    d[2] = b;
    d[1] = c;
    d[0] = dd;
}

/* xmm0 holds two words of message plus constant. */
static void sha256rnds2(uint32_t d[4], const uint32_t s[4], const uint32_t wk[2])
{
    uint32_t a = s[3], b = s[2], c = d[3], dd = d[2], e = s[1], f = s[0], g = d[1], h = d[0];

    for (unsigned i = 0; i < 2; i++) {
        uint32_t t = ((e & f) ^ (~e & g)) + (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25)) + wk[i] + h;
        uint32_t u = ((a & b) ^ (a & c) ^ (b & c)) + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22));

        h = g;
        g = f;
        f = e;
        e = t + dd;
        dd = c;
        c = b;
        b = a;
        a = t + u;
    }
    d[3] = a;
    d[2] = b;
    d[1] = e;
    d[0] = f;
}

static uint32_t sig0(uint32_t w)
{
    return ror(w, 7) ^ ror(w, 18) ^ w >> 3;
}
static uint32_t sig1(uint32_t w)
{
    return ror(w, 17) ^ ror(w, 19) ^ w >> 10;
}

bool vec_sha(const struct x86_insn *in, struct x86_ymm *dst, const struct x86_ymm *src,
             const struct x86_ymm *xmm0)
{
    uint32_t d[4], s[4], x[4];

    memcpy(d, dst->q, 16);
    memcpy(s, src->q, 16);
    memcpy(x, xmm0->q, 16);
    switch (in->map << 8 | in->opcode) {
    case 0x3cc: /* SHA1RNDS4 */ sha1rnds4(d, s, in->imm & 3); break;
    case 0x2c8: /* SHA1NEXTE */
        s[3] += rol(d[3], 30);
        memcpy(d, s, 16);
        break;
    case 0x2c9: /* SHA1MSG1 */
        d[3] ^= d[1];
        d[2] ^= d[0];
        d[1] ^= s[3];
        d[0] ^= s[2];
        break;
    case 0x2ca: /* SHA1MSG2 */
        d[3] = rol(d[3] ^ s[2], 1);
        d[2] = rol(d[2] ^ s[1], 1);
        d[1] = rol(d[1] ^ s[0], 1);
        d[0] = rol(d[0] ^ d[3], 1);
        break;
    case 0x2cb: /* SHA256RNDS2 */ sha256rnds2(d, s, x); break;
    case 0x2cc: /* SHA256MSG1 */
        for (unsigned i = 0; i < 4; i++)
            d[i] += sig0(i < 3 ? d[i + 1] : s[0]); /* d[i + 1] is still the old word */
        break;
    case 0x2cd: /* SHA256MSG2 */
        d[0] += sig1(s[2]);
        d[1] += sig1(s[3]);
        d[2] += sig1(d[0]);
        d[3] += sig1(d[1]);
        break;
    default: return false;
    }
    memcpy(dst->q, d, 16);
    return true;
}
