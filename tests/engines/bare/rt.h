/* SPDX-License-Identifier: BSD-2-Clause */
/* Runtime of the bare-metal guests: serial output, verdicts, descriptor tables, exceptions as values.
 *
 * A guest prints one line a check ("PASS name", "FAIL name: got, want", "SKIP name") and ends through the
 * debug-exit port 0xf4 with 0 (all passed) or 1.  check_q() is for what QEMU's TCG is known not to do: there a
 * difference is a SKIP. */
#ifndef BARE_RT_H
#define BARE_RT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef unsigned long ulong;
#ifdef __x86_64__
enum { BITS = 64 };
#else
enum { BITS = 32 };
#endif

enum { SEL_C0 = 0x08, SEL_D0 = 0x10, SEL_C3_32 = 0x1b, SEL_D3 = 0x23, SEL_C3 = 0x2b /* 64-bit build */,
       SEL_C0_32 = 0x30, SEL_TSS = 0x38, SEL_FREE = 0x48 /* to 0xf8: for tests */ };
#ifndef __x86_64__
#define SEL_CU SEL_C3_32
#else
#define SEL_CU SEL_C3
#endif

extern uint64_t gdt[32];
struct dtr { uint16_t limit; ulong base; } __attribute__((packed));
extern struct dtr idtr;
extern uint64_t idt[512];
extern uint8_t tss[4096] __attribute__((aligned(16)));

struct regs {
#ifdef __x86_64__
    ulong r15, r14, r13, r12, r11, r10, r9, r8, di, si, bp, bx, dx, cx, ax;
    ulong vec, err, ip, cs, flags, sp, ss;
#else
    ulong gs, fs, es, ds, di, si, bp, sp0, bx, dx, cx, ax;
    ulong vec, err, ip, cs, flags, sp, ss, ves, vds, vfs, vgs;
#endif
};

/* The last exception that ended a try(). */
struct exc { unsigned vec; ulong err, ip, cs, flags, sp, ss, cr2, dr6, ax; };
extern volatile struct exc exc;
/* A handler of a vector: returns true when the interrupted code goes on. */
extern bool (*hooks[256])(struct regs *r);

int try(void (*fn)(void *), void *arg);
_Noreturn void try_exit(unsigned vec);

void rt_init(void);
_Noreturn void rt_exit(void);
void puts_(const char *s);
void puthex(uint64_t v);
void check(const char *name, uint64_t got, uint64_t want);
void check_q(const char *name, uint64_t got, uint64_t want);
void skip(const char *name);
bool on_tcg(void);

void *alloc_page(void); /* zeroed, never freed */
void *memset(void *d, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);

uint64_t desc(uint32_t base, uint32_t limit, unsigned attr); /* attr: bits 0-7 access, 12-15 flags */
void set_gate(unsigned vec, uint16_t sel, ulong off, unsigned type, unsigned dpl, unsigned ist);
void reset_gate(unsigned vec);
/** Go to level 3 at @ip with @sp; comes back through try() as vector 0x80 (INT 0x80) or an exception. */
_Noreturn void go_user(uint16_t cs, ulong ip, uint16_t ss, ulong sp, ulong flags);

static inline void outb(uint16_t p, uint8_t v) { __asm__ volatile("outb %0, %1" ::"a"(v), "Nd"(p)); }
static inline uint8_t inb(uint16_t p)
{
    uint8_t v;

    __asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(p));
    return v;
}
static inline void outl(uint16_t p, uint32_t v) { __asm__ volatile("outl %0, %1" ::"a"(v), "Nd"(p)); }
static inline uint64_t rdmsr(uint32_t m)
{
    uint32_t a, d;

    __asm__ volatile("rdmsr" : "=a"(a), "=d"(d) : "c"(m));
    return (uint64_t)d << 32 | a;
}
static inline void wrmsr(uint32_t m, uint64_t v)
{
    __asm__ volatile("wrmsr" ::"c"(m), "a"((uint32_t)v), "d"((uint32_t)(v >> 32)) : "memory");
}
static inline uint64_t rdtsc(void)
{
    uint32_t a, d;

    __asm__ volatile("lfence; rdtsc" : "=a"(a), "=d"(d));
    return (uint64_t)d << 32 | a;
}
static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    __asm__ volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3]) : "a"(leaf), "c"(sub));
}
#define CRDR(name, reg) \
    static inline ulong get_##name(void) \
    { \
        ulong v; \
        __asm__ volatile("mov %%" #reg ", %0" : "=r"(v)); \
        return v; \
    } \
    static inline void set_##name(ulong v) { __asm__ volatile("mov %0, %%" #reg ::"r"(v) : "memory"); }
CRDR(cr0, cr0) CRDR(cr2, cr2) CRDR(cr3, cr3) CRDR(cr4, cr4)
CRDR(dr0, dr0) CRDR(dr1, dr1) CRDR(dr2, dr2) CRDR(dr3, dr3) CRDR(dr6, dr6) CRDR(dr7, dr7)
static inline void invlpg(const void *p) { __asm__ volatile("invlpg (%0)" ::"r"(p) : "memory"); }
static inline ulong get_flags(void)
{
    ulong f;

    __asm__ volatile("pushf; pop %0" : "=r"(f));
    return f;
}

#endif
