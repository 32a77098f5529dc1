/* SPDX-License-Identifier: BSD-2-Clause */
/* The host CPU as oracle for the software engines: parts of the test program oracle.c. */
#ifndef MOBO_TESTS_ORACLE_H
#define MOBO_TESTS_ORACLE_H

#include <stdbool.h>
#include <stdint.h>

#include "hv/x86/decode.h"

/* Linear addresses, the same natively and in the guest.  Window: two data pages, a read-only page (with tables
 * of small numbers), unmapped pages on both sides. */
enum {
    OR_CODE = 0x1000000,
    OR_CODE_SIZE = 0x1000,
    OR_WIN = 0x2000000,
    OR_DATA_SIZE = 0x2000,
    OR_RO = OR_WIN + OR_DATA_SIZE,
    OR_WIN_SIZE = 0x3000,
    OR_GS_BASE = OR_WIN - 0x4000, /* so that 16-bit addresses reach the window */
    OR_TABLE_D = OR_RO,
    OR_TABLE_Q = OR_RO + 1024, /* small signed dwords, qwords */
    OR_MAX_INSNS = 512
};

/* Selectors as Linux has them, so that storing a selector gives the same.  Without an LDT GS has none. */
enum {
    OR_CS32 = 0x23,
    OR_DS = 0x2b,
    OR_CS64 = 0x33,
    OR_GS = 0x07,
    OR_CS16 = 0x0f /* entries 0 and 1 of the LDT */
};

struct or_state {
    uint64_t gpr[16], rip, rflags;
    uint8_t fx[512];      /* FXSAVE64 image */
    uint8_t ymmh[16][16]; /* upper halves */
    uint8_t vector;       /* what ended the sequence; 3: ran to its end */
    uint32_t error;
    uint64_t cr2;
};

struct or_seq {
    enum x86_mode mode; /* 16 and 32: compatibility mode */
    uint8_t code[OR_CODE_SIZE];
    unsigned at; /* offset of the sequence in the code page */
    unsigned len, n;
    unsigned start[OR_MAX_INSNS + 1]; /* offsets of instructions */
    uint32_t undef[OR_MAX_INSNS];     /* RFLAGS that instruction i leaves undefined */
    bool dirty[OR_MAX_INSNS]; /* instruction i leaves what is not compared; later ones clean it */
    struct or_state in;
    uint8_t win[OR_WIN_SIZE]; /* memory before */
};

struct or_rng {
    uint64_t s[2];
};

static inline uint64_t or_rand(struct or_rng *r) /* xorshift128+ (Vigna) */
{
    uint64_t a = r->s[0], b = r->s[1];

    r->s[0] = b;
    a ^= a << 23;
    r->s[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
    return r->s[1] + b;
}

static inline unsigned or_below(struct or_rng *r, unsigned n)
{
    return (unsigned)((or_rand(r) >> 33) % n);
}
static inline bool or_chance(struct or_rng *r, unsigned percent)
{
    return or_below(r, 100) < percent;
}

/* ---- oracle_gen.c ---- */
struct or_gen_options {
    bool (*feature)(unsigned feature); /* shown to the guest? */
    const char *only;                  /* mnemonic, or NULL */
    int row;                           /* only this row of the opcode list, or -1 */
    unsigned modes;                    /* the modes to make sequences of, as a mask */
    bool no_selectors;                 /* none that tells what is in a segment register */
};
void or_gen_init(const struct or_gen_options *opt);
unsigned or_gen_rows(void);
unsigned or_gen_modes(void); /* in which some row exists */
void or_gen_row_text(unsigned row, char *buf, unsigned len);
uint64_t or_gen_row_count(unsigned row);
/** A sequence of about @n instructions with its initial state and memory. */
void or_gen_sequence(struct or_rng *r, enum x86_mode mode, unsigned n, struct or_seq *s);

/* ---- oracle_host.c ---- */
/** Map the fixed addresses, install handlers.  After the partition exists.  @return an error text or NULL. */
const char *or_host_init(void);
/** Why sequences of @mode cannot run here, or NULL when they can. */
const char *or_host_refuses(enum x86_mode mode);
uint16_t or_host_gs(void);     /* selector in GS, whose base is OR_GS_BASE */
uint8_t *or_host_window(void); /* writable view of the window */
/** Runs of a sequence that an interrupt may have disturbed before a difference counts. */
unsigned or_host_tries(void);
/** Give up what of the initial state this host cannot enter with. */
void or_host_adapt(struct or_seq *s);
void or_host_run(const struct or_seq *s, struct or_state *out);

#endif
