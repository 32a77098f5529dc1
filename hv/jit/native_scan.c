/* SPDX-License-Identifier: BSD-2-Clause */
/* Code that an executor must not run: instructions of programs that show the host, and raise nothing.
 *
 * Their bytes are looked for first.  Most that look so are in the midst of others, so then it is decoded from some place
 * before: whoever decodes x86 code from a wrong place is on the right way after some instructions. */
#include "hv/jit/native.h"

#include <string.h>

enum { BACK = 256, VOTES = 3, ALONE = 8 /* bytes at the start of a page with nothing before it, of which nothing is known */ };

bool jnat_is_sensitive(unsigned op)
{
    switch (op) {
    case X86_OP_CPUID: case X86_OP_RDTSC: case X86_OP_RDTSCP: case X86_OP_RDPID: case X86_OP_XGETBV: case X86_OP_LAR: case X86_OP_LSL:
    case X86_OP_VERR: case X86_OP_VERW: case X86_OP_SGDT: case X86_OP_SIDT: case X86_OP_SLDT: case X86_OP_STR: case X86_OP_SMSW:
    case X86_OP_XSAVE: case X86_OP_XSAVEOPT: case X86_OP_XSAVEC: case X86_OP_SYSENTER: case X86_OP_VMCALL: case X86_OP_VMMCALL:
        return true;
    default: return false;
    }
}

/* Bytes behind 0F that may be one of them, or what the decoder does not know of the same group (RDPKRU, MONITORX, TPAUSE). */
static bool looks_so(uint8_t b1, uint8_t b2)
{
    switch (b1) {
    case 0x00: case 0x02: case 0x03: case 0x31: case 0x34: case 0xa2: return true;
    case 0x01: return b2 < 0xd5 || b2 > 0xd7; /* XEND, XTEST, ENCLU */
    case 0xae: return (b2 >> 3 & 7) == 4 || (b2 >> 3 & 7) == 6;
    case 0xc7: return b2 >= 0xf8 || (b2 < 0xc0 && (b2 >> 3 & 7) == 4);
    default: return false;
    }
}

/* The instruction at @s, of @len bytes for the decoder, has 0F at @at: must it not be? */
static bool must_not(const uint8_t *b, unsigned s, int len, const struct x86_insn *in, unsigned at)
{
    if (len > 0)
        return jnat_is_sensitive(in->op);
    /* Undefined for the decoder: by prefixes only before 0F. */
    for (; s < at; s++)
        if (b[s] != 0x66 && b[s] != 0xf2 && b[s] != 0xf3 && (b[s] & 0xf0) != 0x40)
            return false;
    return true;
}

/* Is what is before @at what compilers have before CPUID: an immediate, another register, or zero in EAX or ECX? */
static bool leaf_before(const uint8_t *b, unsigned at)
{
    if (at >= 5 && (b[at - 5] & 0xfe) == 0xb8 && !b[at - 3] && !b[at - 2] && !(b[at - 1] & 0x7f))
        return true;
    return at >= 2 && ((b[at - 2] == 0x31 && (b[at - 1] == 0xc0 || b[at - 1] == 0xc9)) || (b[at - 2] == 0x89 && (b[at - 1] & 0xc6) == 0xc0));
}

/* Does what looks so at @at, 0F, have four bytes and more around it that no others have, wherever instructions begin? */
static bool by_form(const uint8_t *b, unsigned n, unsigned at)
{
    static const uint8_t shl[4] = { 0x48, 0xc1, 0xe2, 0x20 }; /* SHL RDX, 32 */
    static const uint8_t begin[5] = { 0x41, 0x89, 0xc0, 0x41, 0xb9 }; /* MOV R8D, EAX; MOV R9D, n */
    static const uint8_t since[5] = { 0x89, 0xc2, 0x44, 0x29, 0xc0 }; /* MOV EDX, EAX; SUB EAX, R8D */
    unsigned left = n - at;

    switch (b[at + 1]) {
    case 0xa2: return leaf_before(b, at) || (left >= 4 && b[at + 2] == 0x85 && b[at + 3] == 0xc0); /* CPUID; TEST EAX, EAX */
    case 0x31: /* LFENCE or MFENCE; RDTSC; SHL RDX, 32; OPENSSL_instrument_bus, which is in the page of OpenSSL's locks */
        return (at >= 3 && b[at - 3] == 0x0f && b[at - 2] == 0xae && (b[at - 1] == 0xe8 || b[at - 1] == 0xf0)) ||
               (left >= 6 && !memcmp(b + at + 2, shl, sizeof(shl))) ||
               (left >= 7 && (!memcmp(b + at + 2, begin, sizeof(begin)) || !memcmp(b + at + 2, since, sizeof(since))));
    case 0x01:
        if (left >= 3 && b[at + 2] == 0xd0) /* XOR ECX, ECX; XGETBV */
            return at >= 2 && b[at - 2] == 0x31 && b[at - 1] == 0xc9;
        if (left >= 3 && b[at + 2] == 0xf9) /* RDTSCP; NOP; SHL RDX, 32 */
            return (left >= 7 && !memcmp(b + at + 3, shl, 4)) || (left >= 9 && b[at + 3] == 0x66 && b[at + 4] == 0x90 && !memcmp(b + at + 5, shl, 4));
        return false;
    case 0xc7: /* RDPID; XSAVEC [RSP + n] */
        if (left >= 3 && b[at + 2] >= 0xf8)
            return at >= 1 && b[at - 1] == 0xf3;
        return left >= 4 && (b[at + 2] == 0x64 || b[at + 2] == 0xa4) && b[at + 3] == 0x24;
    case 0xae: return left >= 4 && (b[at + 2] == 0x64 || b[at + 2] == 0xa4) && b[at + 3] == 0x24; /* XSAVE [RSP + n] */
    default: return false;
    }
}

/* Bytes that are decoded, and where instructions begin for who has come from their start, up to @s. */
struct sweep { const uint8_t *b; unsigned n, s; uint64_t begin[(BACK + 4096) / 64 + 1]; };

/* Decode from @s on until behind @at; @alone: or until it is as the sweep knows it, else this is the sweep.  @return an instruction
 * that must not be has its 0F at @at. */
static bool is_one(struct sweep *w, unsigned s, unsigned at, bool alone)
{
    struct x86_insn in;

    while (s <= at && !(alone && jnat_bit(w->begin, s))) {
        int len = x86_decode(w->b + s, w->n - s, X86_MODE_64, &in);

        if (!len) /* cut off */
            return false;
        if ((len < 0 || s + (unsigned)len > at) && at - s < 5 && must_not(w->b, s, len, &in, at) &&
            (len < 0 || (at + 1 < s + (unsigned)len && (in.map != 1 || w->b[at + 1] == in.opcode))))
            return true;
        if (!alone) {
            jnat_set_bit(w->begin, s, true);
            if (len > 0 && s + (unsigned)len > at) { /* the next one looked for may be in it, too */
                w->s = s;
                return false;
            }
            w->s = s + (len > 0 ? (unsigned)len : 1);
        }
        s += len > 0 ? (unsigned)len : 1;
    }
    return false;
}

/* What looks so in b[@from, @to) of b[@n], and is for whoever comes from the start, or for most who come from some places before: on data, or
 * in what looks the same again and again, each alone may be on a wrong way for long. */
static unsigned scan(const uint8_t *b, unsigned n, unsigned from, unsigned to, struct jnat_site *ret, unsigned max)
{
    static const uint8_t back[] = { 97, 84, 71, 58 };
    struct sweep w = { .b = b, .n = n };
    const uint8_t *p = b + from;
    unsigned found = 0;

    while ((p = memchr(p, 0x0f, (size_t)(b + to - p)))) {
        unsigned at = (unsigned)(p++ - b), votes = 0;
        bool is, sure;

        if (at + 1 >= n || !looks_so(b[at + 1], at + 2 < n ? b[at + 2] : 0))
            continue;
        is = sure = by_form(b, n, at);
        if (is_one(&w, w.s, at, false))
            is = true;
        for (unsigned i = 0; i < sizeof(back) && !is; i++)
            votes += at >= back[i] && is_one(&w, at - back[i], at, true);
        if (!is && votes < VOTES)
            continue;
        if (found == max)
            return max + 1;
        ret[found++] = (struct jnat_site){ (uint16_t)(at - from), sure };
    }
    return found;
}

unsigned jnat_scan(const uint8_t page[4096], const uint8_t *before, struct jnat_site *ret, unsigned max)
{
    uint8_t b[BACK + 4096];
    unsigned n;

    if (!before) {
        n = scan(page, 4096, 0, 4096, ret, max);
        return n == 1 && ret[0].at < ALONE ? 0 : n;
    }
    memcpy(b, before + 4096 - BACK, BACK);
    memcpy(b + BACK, page, 4096);
    return scan(b, sizeof(b), BACK, sizeof(b), ret, max);
}

bool jnat_scan_across(const uint8_t first[4096], const uint8_t second[4096])
{
    uint8_t b[BACK + X86_MAX_INSN];
    const uint8_t *tail = first + 4096 - X86_MAX_INSN, *p = tail;
    struct jnat_site site[X86_MAX_INSN];
    unsigned n;

    while ((p = memchr(p, 0x0f, (size_t)(first + 4096 - p))) && !looks_so(p + 1 < first + 4096 ? p[1] : second[0], p + 2 < first + 4096 ? p[2] : second[p + 2 - first - 4096]))
        p++;
    if (!p)
        return false;
    memcpy(b, first + 4096 - BACK, BACK);
    memcpy(b + BACK, second, X86_MAX_INSN);
    n = scan(b, sizeof(b), BACK - X86_MAX_INSN, BACK, site, X86_MAX_INSN);
    if (!n)
        return false;
    /* Those that end in the first page are that page's affair. */
    return n != scan(b, BACK, BACK - X86_MAX_INSN, BACK, site, X86_MAX_INSN);
}
