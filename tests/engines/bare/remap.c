/* SPDX-License-Identifier: BSD-2-Clause */
/* Code and data at addresses that come to mean other pages: address spaces, PCIDs, global and large pages,
 * invalidation one by one, the same code at many addresses, tables that another processor changes.
 * Reference: Intel SDM volume 3A 4.10.  Only what an invalidation promises is checked: a translation that
 * nobody invalidated may be old. */
#include "rt.h"
#include "smp.h"

#define V (1ul << 39) /* its own entry of the PML4 */
enum { P = 1, W = 2, U = 4, PS = 0x80, G = 0x100, FRAMES = 16, SPACES = 12, PAGES = 8 };
#define NX (1ull << 63)
#define NOFLUSH (1ull << 63)

extern uint64_t boot_pml4[];
typedef uint32_t (*fn_t)(void);

struct space { uint64_t *pml4, *pd, *pt; };
static struct space space[SPACES];
static uint8_t *frame[FRAMES];

static ulong page(unsigned n) { return V + n * 4096ul; }
static uint32_t call(ulong at) { return ((fn_t)at)(); }
static volatile uint32_t *data(ulong at) { return (volatile uint32_t *)(at + 2048); }

static void setup(void)
{
    for (unsigned i = 0; i < FRAMES; i++) {
        frame[i] = alloc_page();
        frame[i][0] = 0xb8; /* mov $i, %eax; ret */
        memcpy(frame[i] + 1, &i, 4);
        frame[i][5] = 0xc3;
        memcpy(frame[i] + 64, "\x48\x8d\x05\xf9\xff\xff\xff\xc3", 8); /* lea here(%rip), %rax; ret */
        memcpy(frame[i] + 96, "\xe8\xdb\xff\xff\xff\xc3", 6);         /* call that; ret */
        memcpy(frame[i] + 128, "\xe9\x7b\x0f\0\0", 5);                /* jmp to the next page */
        memcpy(frame[i] + 160, "\xe8\x5b\x0f\0\0\xc3", 6);            /* call the next page; ret */
        memcpy(frame[i] + 2048, &i, 4);
    }
    for (unsigned s = 0; s < SPACES; s++) {
        uint64_t *pdpt = alloc_page();

        space[s] = (struct space){ alloc_page(), alloc_page(), alloc_page() };
        memcpy(space[s].pml4, boot_pml4, 4096);
        space[s].pml4[1] = (ulong)pdpt | P | W | U;
        pdpt[0] = (ulong)space[s].pd | P | W | U;
        space[s].pd[0] = (ulong)space[s].pt | P | W | U;
        for (unsigned n = 0; n < PAGES; n++)
            space[s].pt[n] = (ulong)frame[(s + n) % FRAMES] | P | W;
    }
}

static void map(unsigned s, unsigned n, unsigned f, uint64_t flags) { space[s].pt[n] = (ulong)frame[f] | P | W | flags; }

/* Do page @n's code and data come from frame @f? */
static unsigned differs(unsigned n, unsigned f) { return (call(page(n)) != f) + (*data(page(n)) != f); }

/* Do branches from page @n lead to frame @f in the next page? */
static unsigned misled(unsigned n, unsigned f) { return (call(page(n) + 128) != f) + (call(page(n) + 160) != f); }

static void spaces(void)
{
    unsigned bad = 0;

    for (unsigned round = 0; round < 600; round++) {
        unsigned s = round * 7 % SPACES;

        set_cr3((ulong)space[s].pml4);
        for (unsigned n = 0; n < PAGES; n++)
            bad += differs(n, (s + n) % FRAMES) + (n && misled(n - 1, (s + n) % FRAMES));
    }
    check("address spaces in turn", bad, 0);
    bad = 0;
    set_cr3((ulong)space[0].pml4);
    for (unsigned round = 0; round < 600; round++) {
        unsigned n = round % PAGES, f = round * 5 % FRAMES;

        map(0, n, f, 0);
        invlpg((void *)page(n));
        bad += differs(n, f) + differs((n + 3) % PAGES, (call(page((n + 3) % PAGES))));
        bad += n && misled(n - 1, f);
    }
    /* The same two frames, side by side at several places, then only the first. */
    for (unsigned round = 0; round < 600; round++) {
        unsigned n = round % (PAGES - 1), f = round % 4, g = (round / 4 + 5) % FRAMES;

        map(0, n, f, 0);
        map(0, n + 1, round % 3 ? (f + 1) % 4 : g, 0);
        invlpg((void *)page(n));
        invlpg((void *)page(n + 1));
        bad += misled(n, round % 3 ? (f + 1) % 4 : g) + differs(n, f);
    }
    for (unsigned n = 0; n < PAGES; n++) {
        map(0, n, n, 0);
        invlpg((void *)page(n));
    }
    check("page after page by INVLPG", bad, 0);
}

static void invpcid(ulong type, uint64_t pcid, uint64_t lin)
{
    struct { uint64_t pcid, lin; } d = { pcid, lin };

    __asm__ volatile("invpcid %0, %1" ::"m"(d), "r"(type) : "memory");
}

static void pcids(void)
{
    unsigned bad = 0;
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] & 1u << 17)) {
        skip("PCID");
        return;
    }
    set_cr3((ulong)space[0].pml4);
    set_cr4(get_cr4() | 1ul << 17);
    for (unsigned s = 0; s < SPACES; s++)
        set_cr3((ulong)space[s].pml4 | (s + 1));
    for (unsigned round = 0; round < 600; round++) {
        unsigned s = round * 5 % SPACES;

        set_cr3((ulong)space[s].pml4 | (s + 1) | NOFLUSH);
        for (unsigned n = 0; n < PAGES; n++)
            bad += differs(n, (s + n) % FRAMES);
    }
    check("PCIDs in turn, nothing invalidated", bad, 0);
    bad = 0;
    for (unsigned round = 0; round < 400; round++) {
        unsigned s = round % SPACES, n = round % PAGES, f = round * 3 % FRAMES;

        set_cr3((ulong)space[s].pml4 | (s + 1) | NOFLUSH);
        (void)call(page(n));
        map(s, n, f, 0);
        set_cr3((ulong)space[s].pml4 | (s + 1));
        bad += differs(n, f);
        map(s, n, (s + n) % FRAMES, 0);
        set_cr3((ulong)space[(s + 1) % SPACES].pml4 | ((s + 1) % SPACES + 1) | NOFLUSH);
        set_cr3((ulong)space[s].pml4 | (s + 1));
        bad += differs(n, (s + n) % FRAMES);
    }
    check("CR3 write invalidates its PCID", bad, 0);
    bad = 0;
    cpuid(7, 0, r);
    for (unsigned round = 0; round < 400 && (r[1] & 1u << 10); round++) {
        unsigned s = round % SPACES, n = round % PAGES, f = round * 3 % FRAMES, o = (s + 5) % SPACES;

        /* Space s is changed while o runs. */
        set_cr3((ulong)space[s].pml4 | (s + 1) | NOFLUSH);
        (void)differs(n, 0);
        set_cr3((ulong)space[o].pml4 | (o + 1) | NOFLUSH);
        map(s, n, f, 0);
        invpcid(round % 4, s + 1, page(n));
        set_cr3((ulong)space[s].pml4 | (s + 1) | NOFLUSH);
        bad += differs(n, f);
        map(s, n, (s + n) % FRAMES, 0);
        invpcid((round + 1) % 4, s + 1, page(n));
        bad += differs(n, (s + n) % FRAMES);
    }
    if (r[1] & 1u << 10)
        check("INVPCID of each type", bad, 0);
    else
        skip("INVPCID");
    set_cr3((ulong)space[0].pml4);
    set_cr4(get_cr4() & ~(1ul << 17));
}

static void globals(void)
{
    ulong cr4 = get_cr4();
    unsigned bad = 0;

    set_cr4(cr4 | 0x80);
    for (unsigned round = 0; round < 300; round++) {
        unsigned f = round % FRAMES;

        for (unsigned s = 0; s < 2; s++)
            map(s, 0, f, G);
        switch (round % 3) {
        case 0: invlpg((void *)page(0)); break;
        case 1: set_cr4(cr4), set_cr4(cr4 | 0x80); break;
        default: set_cr3((ulong)space[1].pml4), invlpg((void *)page(0)), set_cr3((ulong)space[0].pml4);
        }
        bad += differs(0, f);
        set_cr3((ulong)space[round % 2].pml4);
        bad += differs(0, f) + differs(1, (round % 2 + 1) % FRAMES);
    }
    check("global pages", bad, 0);
    for (unsigned s = 0; s < 2; s++)
        map(s, 0, s, 0);
    set_cr4(cr4);
    set_cr3((ulong)space[0].pml4);
}

static void large(void)
{
    /* Two large pages of identity-mapped memory at one address; code in each of their first and last small pages. */
    const ulong pa[2] = { 0x2000000, 0x2200000 }, at = V + (2ul << 20);
    const uint32_t off[] = { 0, 0x1000, 0x1ff000 };
    unsigned bad = 0;

    for (unsigned k = 0; k < 2; k++)
        for (unsigned i = 0; i < 3; i++) {
            uint8_t *p = (uint8_t *)(pa[k] + off[i]);
            uint32_t v = k * 100 + i;

            p[0] = 0xb8;
            memcpy(p + 1, &v, 4);
            p[5] = 0xc3;
        }
    for (unsigned round = 0; round < 300; round++) {
        unsigned k = round & 1;

        space[0].pd[1] = pa[k] | P | W | PS;
        invlpg((void *)(at + (round * 0x7000ul & 0x1fffff)));
        for (unsigned i = 0; i < 3; i++)
            bad += call(at + off[i]) != k * 100 + i;
    }
    check("large page, INVLPG of any of its addresses", bad, 0);
    space[0].pd[1] = 0;
    invlpg((void *)at);
}

/* A program that runs at other addresses each time: what it says of itself is true each time. */
static void moved(void)
{
    unsigned bad = 0;

    for (unsigned n = 0; n < 512; n++)
        space[0].pt[n] = (ulong)frame[n % 3] | P | W;
    set_cr3((ulong)space[0].pml4);
    for (unsigned round = 0; round < 4; round++)
        for (unsigned n = 0; n < 512; n++) {
            uint64_t (*here)(void) = (uint64_t(*)(void))(page(n) + 64), (*twice)(void) = (uint64_t(*)(void))(page(n) + 96);

            bad += here() != page(n) + 64;
            bad += twice() != page(n) + 64;
        }
    check("one page at 512 addresses", bad, 0);
    bad = 0;
    /* Changed through one address, run at all. */
    for (uint32_t v = 1000; v < 1050; v++) {
        memcpy((void *)(page(v % 512 / 3 * 3) + 1), &v, 4);
        bad += call(page(0)) != v || call(page(3)) != v || call(page(300)) != v;
    }
    check("changed through one address, run at others", bad, 0);
    uint32_t zero = 0;
    memcpy(frame[0] + 1, &zero, 4);
    for (unsigned n = 0; n < PAGES; n++)
        map(0, n, n, 0);
    set_cr3((ulong)space[0].pml4);
}

static void f_call(void *a) { (void)call((ulong)a); }

static void no_execute(void)
{
    unsigned bad = 0;

    wrmsr(0xc0000080, rdmsr(0xc0000080) | 1u << 11);
    for (unsigned round = 0; round < 50; round++) {
        map(0, 2, 2, 0);
        invlpg((void *)page(2));
        bad += call(page(2)) != 2;
        map(0, 2, 2, NX);
        invlpg((void *)page(2));
        bad += try(f_call, (void *)page(2)) != 14 || exc.cr2 != page(2);
        space[0].pt[2] = 0;
        invlpg((void *)page(2));
        bad += try(f_call, (void *)page(2)) != 14 || exc.cr2 != page(2);
    }
    check("code that may no longer run", bad, 0);
    map(0, 2, 2, 0);
    invlpg((void *)page(2));
}

/* ---- tables that another processor changes ---- */

static volatile uint32_t turn, stop;

static void ap_remap(void)
{
    for (uint32_t i = 1; !stop; i++) {
        while (turn != i * 2 - 1 && !stop)
            __asm__ volatile("pause");
        *(volatile uint64_t *)&space[0].pt[4] = (ulong)frame[i % FRAMES] | P | W;
        __atomic_store_n(&turn, i * 2, __ATOMIC_SEQ_CST);
    }
}

static void ap_flip(void)
{
    for (uint32_t i = 0; !stop; i++) {
        *(volatile uint64_t *)&space[0].pt[4] = (ulong)frame[4 + i % 2] | P | W;
        for (unsigned k = 0; k < 20; k++)
            __asm__ volatile("pause");
    }
}

/* The accessed bit, set by the processor as it walks, against an operating system that clears it. */
static void ap_clear(void)
{
    while (!stop)
        __atomic_fetch_and((uint64_t *)&space[0].pt[4], ~0x60ull, __ATOMIC_SEQ_CST);
}

static void others(void)
{
    unsigned bad = 0;

    if (!ap_start(ap_remap)) {
        skip("tables changed by another processor: one processor");
        return;
    }
    for (uint32_t i = 1; i <= 300; i++) {
        turn = i * 2 - 1;
        while (turn != i * 2)
            __asm__ volatile("pause");
        invlpg((void *)page(4));
        bad += differs(4, i % FRAMES);
    }
    stop = 1;
    ap_wait();
    check("table changed by another processor", bad, 0);
    stop = 0;
    bad = 0;
    map(0, 4, 4, 0);
    invlpg((void *)page(4));
    ap_start(ap_flip);
    for (unsigned i = 0; i < 20000; i++) {
        uint32_t v = call(page(4)), d = *data(page(4));

        bad += (v != 4 && v != 5) || (d != 4 && d != 5);
        invlpg((void *)page(4));
    }
    stop = 1;
    ap_wait();
    check("table that another processor keeps changing", bad, 0);
    stop = 0;
    bad = 0;
    map(0, 4, 4, 0);
    invlpg((void *)page(4));
    ap_start(ap_clear);
    for (unsigned i = 0; i < 20000; i++) {
        *(volatile uint32_t *)(page(4) + 3000) = i;
        bad += *(volatile uint32_t *)(page(4) + 3000) != i || (space[0].pt[4] & ~0x60ull) != ((ulong)frame[4] | P | W);
        invlpg((void *)page(4));
    }
    stop = 1;
    ap_wait();
    check("accessed and dirty bits that another processor clears", bad, 0);
}

int main(void)
{
    rt_init();
    setup();
    spaces();
    pcids();
    globals();
    large();
    moved();
    no_execute();
    others();
    rt_exit();
}
