/* SPDX-License-Identifier: BSD-2-Clause */
/* Paging: 32-bit (default in the 32-bit build), PAE (-DPAE), 4-level (64-bit build).  Every combination of rights
 * in two levels, mode bits and kinds of access against a model of 4.6; accessed and dirty bits, reserved bits,
 * large pages, CR2, invalidation.  Reference: Intel SDM volume 3A chapter 4. */
#include "rt.h"

#if defined(__x86_64__) || defined(PAE)
typedef uint64_t pte_t;
enum { PER = 512, SHIFT = 9, LARGE = 21, HAVE_NX = 1 };
#define NX (1ull << 63)
#else
typedef uint32_t pte_t;
enum { PER = 1024, SHIFT = 10, LARGE = 22, HAVE_NX = 0 };
#define NX 0u
#endif
#ifdef __x86_64__
enum { LEVELS = 4 };
#elif defined(PAE)
enum { LEVELS = 3 };
#else
enum { LEVELS = 2 };
#endif
enum { P = 1, W = 2, U = 4, A = 0x20, D = 0x40, PS = 0x80, G = 0x100 };
enum { E_P = 1, E_W = 2, E_U = 4, E_R = 8, E_I = 16 };

/* Test page, and where user code and stack are seen with user rights. */
#define VT 0x50001000ul
#define ALIAS 0x40000000ul

static pte_t *root;

static volatile pte_t *entry(ulong va, unsigned level) /* 1: the last */
{
    volatile pte_t *t = root;

    for (unsigned l = LEVELS;; l--) {
        unsigned bits = 12 + SHIFT * (l - 1);
        volatile pte_t *e = &t[(va >> bits) & (PER - 1)];

        if (l == level)
            return e;
        if (!(*e & P))
            *e = (ulong)alloc_page() | P | (LEVELS == 3 && l == 3 ? 0 : W | U);
        t = (volatile pte_t *)(ulong)(*e & 0xfffffffffffff000ull & ~(uint64_t)NX);
    }
}

static void map(ulong va, ulong pa, pte_t flags) { *entry(va, 1) = pa | flags; }

/* ---- user code, in a page of its own ---- */

__asm__(".pushsection .user, \"ax\"; .balign 4096; user_begin:\n"
        "u_read: mov $0x50001000, %ebx; mov (%ebx), %al; int $0x80\n"
        "u_write: mov $0x50001000, %ebx; movb $0xc3, (%ebx); int $0x80\n"
        "u_exec: mov $0x50001000, %ebx\n"
#ifdef __x86_64__
        "call *%rbx; int $0x80\n"
#else
        "call *%ebx; int $0x80\n"
#endif
        ".balign 4096; .popsection");
extern char user_begin[], u_read[], u_write[], u_exec[];
static uint8_t user_stack[4096] __attribute__((aligned(4096)));
static uint8_t page[8192] __attribute__((aligned(4096)));

static void f_user(void *ip)
{
    go_user(SEL_CU, (ulong)ip + ALIAS, SEL_D3, (ulong)user_stack + 4096 + ALIAS, 0x202);
}

#ifdef __x86_64__
#define AC_ON "pushf; orl $0x40000, (%%rsp); popf;"
#else
#define AC_ON "pushf; orl $0x40000, (%%esp); popf;"
#endif
static void s_read(void *ac)
{
    if (ac)
        __asm__ volatile(AC_ON ::: "memory");
    __asm__ volatile("movb (%0), %%al" ::"b"(VT) : "eax");
}
static void s_write(void *ac)
{
    if (ac)
        __asm__ volatile(AC_ON ::: "memory");
    __asm__ volatile("movb $0xc3, (%0)" ::"b"(VT) : "memory");
}
static void s_exec(void *ac)
{
    if (ac)
        __asm__ volatile(AC_ON ::: "memory");
    __asm__ volatile("call *%0" ::"b"(VT) : "memory");
}

enum { RD, WR, EX };
enum { M_WP = 1, M_SMEP = 2, M_SMAP = 4, M_AC = 8, M_NXE = 16, M_ALL = 32 };
static unsigned have; /* mode bits that this processor has */

static void set_mode(unsigned m)
{
    ulong cr4 = get_cr4() & ~0x300000ul;

    set_cr0(m & M_WP ? get_cr0() | 0x10000 : get_cr0() & ~0x10000ul);
    set_cr4(cr4 | (m & M_SMEP ? 0x100000 : 0) | (m & M_SMAP ? 0x200000 : 0));
    if (HAVE_NX)
        wrmsr(0xc0000080, (rdmsr(0xc0000080) & ~0x800ull) | (m & M_NXE ? 0x800 : 0));
}

/* 4.6.1, 4.7: -1, or the error code of the #PF. */
static int model(pte_t upper, pte_t last, unsigned m, unsigned acc, bool user)
{
    unsigned code = (acc == WR ? E_W : 0) | (user ? E_U : 0);
    bool u = (upper & U) && (last & U), w = (upper & W) && (last & W), nx = ((upper | last) & NX) != 0, bad;

    if (acc == EX && ((m & M_NXE) || (m & M_SMEP)))
        code |= E_I;
    if (!(upper & P))
        return (int)code;
    if (nx && !(m & M_NXE)) /* reserved then; an absent last entry is not looked at */
        if ((upper & NX) || (last & P))
            return (int)(code | E_P | E_R);
    if (!(last & P))
        return (int)code;
    if (user)
        bad = !u || (acc == WR && !w) || (acc == EX && nx);
    else if (acc == EX)
        bad = nx || (u && (m & M_SMEP));
    else
        bad = (acc == WR && !w && (m & M_WP)) || (u && (m & M_SMAP) && !(m & M_AC));
    return bad ? (int)(code | E_P) : -1;
}

static int access(unsigned m, unsigned acc, bool user)
{
    static void (*const sup[])(void *) = { s_read, s_write, s_exec };
    char *const usr[] = { u_read, u_write, u_exec };
    int v = user ? try(f_user, usr[acc]) : try(sup[acc], m & M_AC ? (void *)1 : NULL);

    if (v == 14)
        return exc.cr2 == VT ? (int)exc.err : -3;
    return user ? (v == 0x80 ? -1 : -2) : v;
}

static unsigned bad_shown;

static void matrix(void)
{
    static const pte_t rights[] = { 0, P, P | W, P | U, P | W | U };
    volatile pte_t *up = entry(VT, 2), *last = entry(VT, 1), up0 = *up & ~(pte_t)(W | U | P);
    unsigned bad = 0, bad_ad = 0, n = 0, nx = HAVE_NX ? 4 : 1;

    for (unsigned m = 0; m < M_ALL; m++) {
        if (m & ~have)
            continue;
        set_mode(m);
        for (unsigned i = 0; i < 5 * 5 * nx * 6; i++) {
            pte_t u = rights[i % 5] | (i / 25 % nx & 1 ? NX : 0), l = rights[i / 5 % 5] | (i / 25 % nx & 2 ? NX : 0);
            unsigned acc = i / 25 / nx % 3;
            bool user = i / 25 / nx / 3;
            int want = model(u, l, m, acc, user), got;

            *up = (up0 & ~(pte_t)A) | u;
            *last = (ulong)page | l;
            invlpg((void *)VT);
            page[0] = 0xc3;
            got = access(m, acc, user);
            if (got != want) {
                /* QEMU leaves out P where it reports a reserved bit. */
                if (!(on_tcg() && got >= 0 && (got & E_R) && (got ^ want) == E_P) && bad++ < 1 && bad_shown++ < 5) {
                    puts_("  mode ");
                    puthex(m);
                    puts_(" upper ");
                    puthex(u);
                    puts_(" last ");
                    puthex(l);
                    puts_(" access ");
                    puthex(acc | user << 4);
                    puts_(" got ");
                    puthex((uint64_t)got);
                    puts_(" want ");
                    puthex((uint64_t)want);
                    puts_("\n");
                }
            } else if (got == -1 &&
                       (!(*up & A) || !(*last & A) || ((*last & D) != 0) != (acc == WR) || (*up & D)))
                bad_ad++;
            else if (got != -1 && (*last & D))
                bad_ad++;
            n++;
        }
    }
    set_mode(have & (M_WP | M_NXE));
    *up = up0 | P | W | U;
    check("rights: combinations that differ from the model", bad, 0);
    check("rights: accessed and dirty bits", bad_ad, 0);
    puts_("  combinations ");
    puthex(n);
    puts_("\n");
}

static void f_cross(void *arg)
{
    *(volatile uint32_t *)(VT + 4096 - 2) = (uint32_t)(ulong)arg;
}
static void f_cross_read(void *arg)
{
    (void)arg;
    (void)*(volatile uint32_t *)(VT + 4096 - 3);
}
static void crossing(void)
{
    map(VT, (ulong)page, P | W | U);
    map(VT + 4096, 0, 0);
    invlpg((void *)VT);
    invlpg((void *)(VT + 4096));
    page[4094] = page[4095] = 0x11;
    check("crossing write faults", (uint64_t)(int64_t)try(f_cross, (void *)0x22222222), 14);
    check("crossing write: CR2 is the second page", exc.cr2, VT + 4096);
    check("crossing write: error", exc.err, E_W);
    check("crossing write: nothing stored", page[4094] << 8 | page[4095], 0x1111);
    check("crossing read faults", (uint64_t)(int64_t)try(f_cross_read, NULL), 14);
    check("crossing read: CR2", exc.cr2, VT + 4096);
    /* Absent to present needs no invalidation. */
    map(VT + 4096, (ulong)page + 4096, P | W | U);
    check("absent to present", (uint64_t)(int64_t)try(f_cross, (void *)0x33445566), (uint64_t)-1);
    check("crossing write: both halves", (uint64_t)page[4094] << 24 | page[4095] << 16 | page[4096] << 8 | page[4097],
          0x66554433);
    /* Two pages in the other order. */
    map(VT, (ulong)page + 4096, P | W | U);
    map(VT + 4096, (ulong)page, P | W | U);
    invlpg((void *)VT);
    invlpg((void *)(VT + 4096));
    check("swapped frames", (uint64_t)(int64_t)try(f_cross, (void *)0x778899aa), (uint64_t)-1);
    check("swapped frames: halves", (uint64_t)page[8190] << 24 | page[8191] << 16 | page[0] << 8 | page[1], 0xaa998877);
}

/* Two frames take turns at one address: code that has no use for the flags, and code that has. */
static void code_of_two_frames(void)
{
    static const uint8_t needs_none[] = { 0x31, 0xc0, 0xc3 } /* xor eax, eax; ret */,
                         needs_carry[] = { 0x19, 0xc0, 0xc3 } /* sbb eax, eax; ret */;
    unsigned wrong = 0;
    int got;

    for (unsigned i = 0; i < sizeof(needs_none); i++) {
        page[i] = needs_none[i];
        page[4096 + i] = needs_carry[i];
    }
    for (unsigned i = 0; i < 16; i++) {
        map(VT, (ulong)page + 4096 * (i & 1), P | W | U);
        invlpg((void *)VT);
        if (i & 2)
            __asm__ volatile("stc; call *%1" : "=a"(got) : "r"(VT) : "memory", "cc");
        else
            __asm__ volatile("clc; call *%1" : "=a"(got) : "r"(VT) : "memory", "cc");
        wrong += got != ((i & 3) == 3 ? -1 : 0);
    }
    check("flags at an address where other code comes to be", wrong, 0);
}

#ifdef __x86_64__
#define FAR 0x8000000000ul /* another entry of the top level than all else */
static void f_read_far(void *arg)
{
    (void)arg;
    (void)*(volatile uint8_t *)FAR;
}
#endif

static void reserved(void)
{
#if defined(__x86_64__) || defined(PAE)
    uint32_t r[4];
    volatile pte_t *last = entry(VT, 1), *up = entry(VT, 2), keep = *up;

    set_mode(have & (M_WP | M_NXE));
    cpuid(0x80000008, 0, r);
    unsigned width = r[0] & 0xff;
    if (width < 52) {
        *last = (ulong)page | P | W | U | 1ull << width;
        invlpg((void *)VT);
        check_q("reserved address bit", (uint64_t)(int64_t)access(0, RD, false), E_P | E_R);
        check_q("reserved address bit, user write", (uint64_t)(int64_t)access(0, WR, true), E_P | E_R | E_W | E_U);
        *last = (ulong)page | P | W | U;
        *up = keep | 1ull << 51;
        invlpg((void *)VT);
        check_q("reserved address bit in the upper entry", (uint64_t)(int64_t)access(0, RD, false), E_P | E_R);
        *up = keep;
    }
#ifdef PAE
    for (unsigned bit = 52; bit < 63; bit += 5) {
        *last = (ulong)page | P | W | U | 1ull << bit;
        invlpg((void *)VT);
        check_q("reserved bit above the address", (uint64_t)(int64_t)access(0, RD, false), E_P | E_R);
    }
    *last = (ulong)page | P | W | U;
    invlpg((void *)VT);
#endif
    *up = (ulong)(VT & 0) | 0x600000 | P | W | U | PS | 1u << 13;
    invlpg((void *)VT);
    check_q("reserved bit of a large page", (uint64_t)(int64_t)access(0, RD, false), E_P | E_R);
    *up = keep;
    invlpg((void *)VT);
#ifdef __x86_64__
    volatile pte_t *top = entry(FAR, 4);

    map(FAR, (ulong)page, P | W);
    *top |= PS;
    set_cr3(get_cr3());
    check("PS in the top level", (uint64_t)(int64_t)try(f_read_far, NULL), 14);
    check_q("PS in the top level: error", exc.err, E_P | E_R);
    *top &= ~(pte_t)PS;
    set_cr3(get_cr3());
    check("PS in the top level cleared", (uint64_t)(int64_t)try(f_read_far, NULL), (uint64_t)-1);
#endif
#endif
}

static void large(void)
{
    ulong va = 0x60000000, pa = 0x2000000; /* 32 MB */
    volatile pte_t *e = entry(va, 2);
    volatile uint32_t *p = (uint32_t *)va;

#if !defined(__x86_64__) && !defined(PAE)
    set_cr4(get_cr4() | 0x10);
#endif
    *e = pa | P | W | PS;
    *(volatile uint32_t *)(pa + 0x12344) = 0xfeed;
    check("large page: read", p[0x12344 / 4], 0xfeed);
    check("large page: accessed", *e & (A | D), A);
    p[0x15000 / 4] = 1;
    check("large page: dirty", *e & (A | D), A | D);
    *e = (pa + (1u << LARGE)) | P | W | PS;
    invlpg((void *)(va + 0x10000));
    *(volatile uint32_t *)(pa + (1u << LARGE) + 0x12344) = 0xbeef;
    check("large page: invlpg of one address drops it", p[0x12344 / 4], 0xbeef);
    *e = 0;
    invlpg((void *)va);
#ifdef __x86_64__
    uint32_t r[4];

    cpuid(0x80000001, 0, r);
    if (!(r[3] & (1u << 26))) {
        skip("1 GB page");
        return;
    }
    volatile pte_t *g = entry(0x4000000000, 3);
    *g = P | W | PS;
    set_cr3(get_cr3());
    check("1 GB page", *(volatile uint32_t *)(0x4000000000 + pa + 0x12344), 0xfeed);
    check("1 GB page: accessed", *g & (A | D), A);
    *g = 0;
    set_cr3(get_cr3());
#endif
}

static void invalidation(void)
{
    volatile uint8_t *p = (uint8_t *)VT;

    page[0] = 1;
    page[4096] = 2;
    map(VT, (ulong)page, P | W | U);
    invlpg((void *)VT);
    check("frame 1", *p, 1);
    map(VT, (ulong)page + 4096, P | W | U);
    invlpg((void *)VT);
    check("after invlpg", *p, 2);
    map(VT, (ulong)page, P | W | U);
    set_cr3(get_cr3());
    check("after a CR3 write", *p, 1);
    /* Global pages survive a CR3 write at most; toggling CR4.PGE drops them. */
    set_cr4(get_cr4() | 0x80);
    map(VT, (ulong)page, P | W | U | G);
    invlpg((void *)VT);
    check("global: frame 1", *p, 1);
    map(VT, (ulong)page + 4096, P | W | U | G);
    set_cr4(get_cr4() & ~0x80ul);
    check("after clearing CR4.PGE", *p, 2);
    map(VT, (ulong)page, P | U);
    invlpg((void *)VT);
    set_mode(have & (M_WP | M_NXE));
    check("write to read-only", (uint64_t)(int64_t)access(0, WR, false), E_P | E_W);
    *entry(VT, 1) |= W;
    invlpg((void *)VT);
    check("write after the right was given", (uint64_t)(int64_t)access(0, WR, false), (uint64_t)-1);
    /* A page fault drops what is known of its address: rights that come need no invalidation after it. */
    *entry(VT, 2) &= ~(pte_t)W;
    set_cr3(get_cr3());
    check("upper entry read-only: read", (uint64_t)(int64_t)access(0, RD, false), (uint64_t)-1);
    check("upper entry read-only: write", (uint64_t)(int64_t)access(0, WR, false), E_P | E_W);
    *entry(VT, 2) |= W;
    check("upper entry writable after the fault", (uint64_t)(int64_t)access(0, WR, false), (uint64_t)-1);
    map(VT, (ulong)page, P | W);
    invlpg((void *)VT);
    check("read of a page that goes", (uint64_t)(int64_t)access(0, RD, false), (uint64_t)-1);
    *entry(VT, 1) = 0;
    check("write to a page that has gone", (uint64_t)(int64_t)access(0, WR, false), E_W);
    check_q("read after that fault", (uint64_t)(int64_t)access(0, RD, false), 0);
    map(VT, (ulong)page, P | U);
    invlpg((void *)VT);
    set_cr0(get_cr0() & ~0x10000ul);
    check("WP clear: write", (uint64_t)(int64_t)access(0, WR, false), (uint64_t)-1);
    set_cr0(get_cr0() | 0x10000);
    check("WP set again: write", (uint64_t)(int64_t)access(0, WR, false), E_P | E_W);
#ifdef __x86_64__
    uint32_t r[4];

    cpuid(1, 0, r);
    uint32_t ecx = r[2];
    cpuid(7, 0, r);
    if (!(ecx & (1u << 17)) || !(r[1] & (1u << 10))) {
        skip("pcid and invpcid");
        return;
    }
    struct { uint64_t pcid, lin; } d = { 1, VT };
    set_cr4(get_cr4() | 0x20000);
    map(VT, (ulong)page, P | W | U);
    set_cr3((ulong)root | 1);
    check("pcid 1", *p, page[0]);
    map(VT, (ulong)page + 4096, P | W | U);
    __asm__ volatile("invpcid %0, %1" ::"m"(d), "r"(0ul) : "memory");
    check("invpcid, one address", *p, 2);
    map(VT, (ulong)page, P | W | U);
    set_cr3((ulong)root | 2);
    __asm__ volatile("invpcid %0, %1" ::"m"(d), "r"(1ul) : "memory");
    set_cr3((ulong)root | 1 | 1ull << 63);
    check("invpcid, one context", *p, page[0]);
    map(VT, (ulong)page + 4096, P | W | U);
    __asm__ volatile("invpcid %0, %1" ::"m"(d), "r"(2ul) : "memory");
    check("invpcid, all", *p, 2);
    set_cr3((ulong)root);
    set_cr4(get_cr4() & ~0x20000ul);
#endif
}

/* Descriptor tables are read as supervisor whatever the level. */
static void implicit(void)
{
    *entry((ulong)gdt, 1) = ((ulong)gdt & ~4095ul) | P | W; /* it is supervisor anyway */
    check("user interrupt with a supervisor IDT, GDT, TSS", (uint64_t)(int64_t)try(f_user, u_read), 0x80);
}

int main(void)
{
    uint32_t r[4];

    rt_init();
    cpuid(7, 0, r);
    have = M_WP | (r[1] & 0x80 ? M_SMEP : 0) | (r[1] & 0x100000 ? M_SMAP | M_AC : 0) | (HAVE_NX ? M_NXE : 0);
    if (LEVELS == 3)
        root = (pte_t *)alloc_page();
    else
        root = alloc_page();
    for (ulong a = 0; a < 48u << 20; a += 4096) {
        if (LEVELS == 2 || a < 48u << 20)
            map(a, a, P | W);
    }
    map((ulong)user_begin + ALIAS, (ulong)user_begin, P | U);
    map((ulong)user_stack + ALIAS, (ulong)user_stack, P | W | U);
    map(VT, (ulong)page, P | W | U);
#ifndef __x86_64__
    if (HAVE_NX) {
        set_cr4(get_cr4() | 0x20);
        wrmsr(0xc0000080, rdmsr(0xc0000080) | 0x800);
    }
    set_cr3((ulong)root);
    set_cr0(get_cr0() | 0x80000000);
#else
    set_cr3((ulong)root);
#endif
    check("paging is on", get_cr0() >> 31, 1);
    matrix();
    crossing();
    code_of_two_frames();
    reserved();
    large();
    invalidation();
    implicit();
    rt_exit();
}
