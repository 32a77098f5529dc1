/* SPDX-License-Identifier: BSD-2-Clause */
/* Runtime of the bare-metal guests, see rt.h.  Descriptor formats: Intel SDM volume 3A, 3.4.5 and 6.11. */
#include "rt.h"

/* 0x08 code, 0x10 data, 0x18 user 32-bit code, 0x20 user data, 0x28 user 64-bit code, 0x30 32-bit code. */
uint64_t gdt[32] __attribute__((aligned(16))) = {
    0,
#ifdef __x86_64__
    0x00af9b000000ffff,
#else
    0x00cf9b000000ffff,
#endif
    0x00cf93000000ffff, 0x00cffb000000ffff, 0x00cff3000000ffff, 0x00affb000000ffff, 0x00cf9b000000ffff,
};
uint64_t idt[512] __attribute__((aligned(16)));
struct dtr idtr;
uint8_t tss[4096];
volatile struct exc exc;
bool (*hooks[256])(struct regs *);

extern ulong try_sp;
extern const ulong stubs[256];
extern char end[];
static uint8_t tss_stack[8192] __attribute__((aligned(16)));
static char *pool;
static unsigned failed, passed;

void *memset(void *d, int c, size_t n)
{
    void *r = d;

    __asm__ volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return r;
}

void *memcpy(void *d, const void *s, size_t n)
{
    void *r = d;

    __asm__ volatile("rep movsb" : "+D"(d), "+S"(s), "+c"(n)::"memory");
    return r;
}

/* ---- output ---- */

static void putc_(char c)
{
    for (unsigned i = 0; i < 100000 && !(inb(0x3fd) & 0x20); i++)
        ;
    outb(0x3f8, (uint8_t)c);
}

void puts_(const char *s)
{
    while (*s)
        putc_(*s++);
}

void puthex(uint64_t v)
{
    char buf[19];
    unsigned n = sizeof(buf);

    buf[--n] = 0;
    do {
        buf[--n] = "0123456789abcdef"[v & 15];
        v >>= 4;
    } while (v);
    puts_("0x");
    puts_(buf + n);
}

bool on_tcg(void)
{
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] >> 31))
        return false;
    cpuid(0x40000000, 0, r);
    return r[1] == 0x54474354; /* "TCGT" */
}

void skip(const char *name)
{
    puts_("SKIP ");
    puts_(name);
    puts_("\n");
}

void check(const char *name, uint64_t got, uint64_t want)
{
    if (got == want) {
        puts_("PASS ");
        puts_(name);
        passed++;
    } else {
        puts_("FAIL ");
        puts_(name);
        puts_(": got ");
        puthex(got);
        puts_(", want ");
        puthex(want);
        failed++;
    }
    puts_("\n");
}

void check_q(const char *name, uint64_t got, uint64_t want)
{
    if (got != want && on_tcg())
        skip(name);
    else
        check(name, got, want);
}

void rt_exit(void)
{
    puts_("END passed ");
    puthex(passed);
    puts_(" failed ");
    puthex(failed);
    puts_("\n");
    outb(0xf4, failed || !passed);
    for (;;)
        __asm__ volatile("cli; hlt");
}

/* ---- tables ---- */

void *alloc_page(void)
{
    char *p = pool;

    pool += 4096;
    return memset(p, 0, 4096);
}

uint64_t desc(uint32_t base, uint32_t limit, unsigned attr)
{
    return (limit & 0xffffu) | (uint64_t)(base & 0xffffff) << 16 | (uint64_t)(attr & 0xff) << 40 |
           (uint64_t)(limit >> 16 & 15) << 48 | (uint64_t)(attr >> 12 & 15) << 52 | (uint64_t)(base >> 24) << 56;
}

void set_gate(unsigned vec, uint16_t sel, ulong off, unsigned type, unsigned dpl, unsigned ist)
{
    uint64_t g = (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)ist << 32 |
                 (uint64_t)(0x80 | dpl << 5 | type) << 40 | (uint64_t)(off >> 16 & 0xffff) << 48;

#ifdef __x86_64__
    idt[vec * 2] = g;
    idt[vec * 2 + 1] = off >> 32;
#else
    idt[vec] = g;
#endif
}

void reset_gate(unsigned vec)
{
    set_gate(vec, SEL_C0, stubs[vec], 14, vec == 0x80 || vec == 3 || vec == 4 ? 3 : 0, vec == 8 && BITS == 64);
}

void rt_init(void)
{
    ulong top = (ulong)tss_stack + sizeof(tss_stack);

    outb(0x21, 0xff); /* no interrupts but those that a test asks for */
    outb(0xa1, 0xff);
    pool = (char *)(((ulong)end + 4095) & ~4095ul);
    for (unsigned v = 0; v < 256; v++)
        reset_gate(v);
    idtr = (struct dtr){ BITS == 64 ? 4095 : 2047, (ulong)idt };
    __asm__ volatile("lidt %0" ::"m"(idtr));
    gdt[SEL_TSS / 8] = desc((uint32_t)(ulong)tss, 0x67, 0x89);
#ifdef __x86_64__
    gdt[SEL_TSS / 8 + 1] = 0;
    memcpy(tss + 4, &top, 8);
    top -= 4096;
    memcpy(tss + 0x24, &top, 8);
#else
    memcpy(tss + 4, &top, 4);
    tss[8] = SEL_D0;
#endif
    tss[0x66] = 0x68;
    struct dtr g = { sizeof(gdt) - 1, (ulong)gdt };
    __asm__ volatile("lgdt %0" ::"m"(g));
    __asm__ volatile("lldt %w0; ltr %w1" ::"r"(0), "r"(SEL_TSS));
}

/* ---- exceptions ---- */

void exception(struct regs *r)
{
    if (hooks[r->vec & 255] && hooks[r->vec & 255](r))
        return;
    exc.vec = (unsigned)r->vec;
    exc.err = r->err;
    exc.ip = r->ip;
    exc.cs = r->cs & 0xffff;
    exc.flags = r->flags;
    exc.ax = r->ax;
    if (BITS == 64 || (r->cs & 3) || (r->flags & 0x20000)) {
        exc.sp = r->sp;
        exc.ss = r->ss & 0xffff;
    }
    exc.cr2 = get_cr2();
    exc.dr6 = get_dr6();
    if (try_sp)
        try_exit((unsigned)r->vec);
    puts_("FAIL unexpected exception ");
    puthex(r->vec);
    puts_(" error ");
    puthex(r->err);
    puts_(" at ");
    puthex(r->cs & 0xffff);
    puts_(":");
    puthex(r->ip);
    puts_(" cr2 ");
    puthex(get_cr2());
    puts_("\n");
    failed++;
    rt_exit();
}

void go_user(uint16_t cs, ulong ip, uint16_t ss, ulong sp, ulong flags)
{
#ifdef __x86_64__
    __asm__ volatile("mov %w0, %%ds; mov %w0, %%es" ::"r"(ss));
    __asm__ volatile("push %q0; push %1; push %2; push %q3; push %4; iretq"
                     ::"r"((ulong)ss), "r"(sp), "r"(flags), "r"((ulong)cs), "r"(ip));
#else
    __asm__ volatile("push %0; push %1; push %2; push %3; push %4; mov %w0, %%ds; mov %w0, %%es; iret"
                     ::"r"((ulong)ss), "r"(sp), "r"(flags), "r"((ulong)cs), "r"(ip));
#endif
    __builtin_unreachable();
}
