/* SPDX-License-Identifier: BSD-2-Clause */
/* Local APIC: timer modes, interrupt commands, priorities, NMI, x2APIC; interrupt shadows; a second processor.
 * Reference: Intel SDM volume 3A chapter 11, 6.8.3. */
#include "smp.h"

enum { ID = 0x20, VER = 0x30, TPR = 0x80, PPR = 0xa0, EOI = 0xb0, LDR = 0xd0, DFR = 0xe0, SVR = 0xf0, ISR = 0x100,
       IRR = 0x200, ESR = 0x280, ICR = 0x300, ICRH = 0x310, LVTT = 0x320, LINT0 = 0x350, LINT1 = 0x360,
       LVTE = 0x370, TICR = 0x380, TCCR = 0x390, TDCR = 0x3e0 };

static bool x2;
static uint32_t rd(unsigned reg) { return x2 ? (uint32_t)rdmsr(0x800 + reg / 16) : *apic(reg); }
static void wr(unsigned reg, uint32_t v)
{
    if (x2)
        wrmsr(0x800 + reg / 16, v);
    else
        *apic(reg) = v;
}
static void ipi(uint32_t dest, uint32_t cmd)
{
    if (x2) {
        wrmsr(0x830, (uint64_t)dest << 32 | cmd);
    } else {
        wr(ICRH, dest << 24);
        wr(ICR, cmd);
        while (rd(ICR) & 0x1000)
            ;
    }
}

static volatile unsigned count[256], order[16], norder, nmi_depth, nmi_max;
static volatile uint64_t when;

static bool on_irq(struct regs *r)
{
    unsigned v = r->vec & 255;

    when = rdtsc();
    count[v]++;
    if (norder < 16)
        order[norder++] = v;
    if (v >= 0x20 && v != 0xff)
        wr(EOI, 0);
    return true;
}

static void sti_for(uint64_t ticks)
{
    uint64_t t = rdtsc();

    __asm__ volatile("sti");
    while (rdtsc() - t < ticks)
        __asm__ volatile("pause");
    __asm__ volatile("cli");
}

static void wait_irq(unsigned v, unsigned n, uint64_t limit)
{
    uint64_t t = rdtsc();

    __asm__ volatile("sti");
    while (count[v] < n && rdtsc() - t < limit)
        __asm__ volatile("pause");
    __asm__ volatile("cli");
}

#define SECOND 20000000000ull /* some; only bounds, generous as the host may be busy */

static void registers(void)
{
    check("version", (rd(VER) & 0xff) >= 0x10 && (rd(VER) & 0xff) <= 0x1f, 1);
    check("max LVT", (rd(VER) >> 16 & 0xff) >= 3, 1);
    wr(SVR, 0x1ff);
    check("SVR", rd(SVR) & 0x1ff, 0x1ff);
    wr(TPR, 0x35);
    check("TPR", rd(TPR), 0x35);
    check("PPR follows TPR", rd(PPR) & 0xf0, 0x30);
    ulong cr8;
    __asm__ volatile("mov %%cr8, %0" : "=r"(cr8));
    check("CR8 is the class of TPR", cr8, 3);
    __asm__ volatile("mov %0, %%cr8" ::"r"(0xaul));
    check("CR8 writes TPR", rd(TPR), 0xa0);
    wr(TPR, 0);
    wr(LVTT, 0x10000);
    check("LVT masked", rd(LVTT) & 0x10000, 0x10000);
    if (!x2) {
        wr(LDR, 0xff000000);
        check("LDR", rd(LDR), 0xff000000);
        wr(DFR, 0x0fffffff);
        check("DFR", rd(DFR), 0x0fffffff);
        wr(DFR, 0xffffffff);
        wr(LDR, 0);
    }
}

static void timer(void)
{
    uint64_t t0, t1;

    wr(TDCR, 0xb); /* by 1 */
    wr(LVTT, 0x40);
    count[0x40] = 0;
    t0 = rdtsc();
    wr(TICR, 50000000);
    uint32_t now = rd(TCCR);
    check("timer: counts down", now <= 50000000 && now > 0, 1);
    wait_irq(0x40, 1, SECOND);
    t1 = when;
    check("timer: one shot", count[0x40], 1);
    check("timer: took some time", t1 > t0, 1);
    sti_for(20000000);
    check("timer: one shot only", count[0x40], 1);
    check("timer: at zero", rd(TCCR), 0);
    wr(TDCR, 3);
    sti_for(20000000);
    check("timer: stays at its end when the divider changes", count[0x40], 1);

    /* Ratio of the divider, roughly: 4 times as long.  A busy host may need another try. */
    bool longer = false;
    for (unsigned try_ = 0; try_ < 5 && !longer; try_++) {
        wr(TICR, 0);
        wr(TDCR, 0xb);
        t0 = rdtsc();
        wr(TICR, 10000000);
        wait_irq(0x40, count[0x40] + 1, SECOND);
        uint64_t d1 = when - t0;
        wr(TICR, 0);
        wr(TDCR, 3); /* by 16 */
        t0 = rdtsc();
        wr(TICR, 10000000 / 4);
        wait_irq(0x40, count[0x40] + 1, SECOND);
        longer = when - t0 > d1 * 2;
    }
    check("timer: divider", longer, 1);
    wr(TDCR, 0xb);

    wr(LVTT, 0x20041);
    count[0x41] = 0;
    wr(TICR, 500000);
    wait_irq(0x41, 10, SECOND * 2);
    check("timer: periodic", count[0x41] >= 10, 1);
    wr(LVTT, 0x30041);
    unsigned n = count[0x41];
    sti_for(5000000);
    check("timer: masked", count[0x41] - n <= 1, 1);
    wr(TICR, 0);
    wr(LVTT, 0x10000);

    /* HLT is woken: so late that it is reached before, on a busy host, too. */
    wr(LVTT, 0x42);
    count[0x42] = 0;
    wr(TICR, 50000000);
    __asm__ volatile("sti; hlt; cli");
    check("timer: wakes hlt", count[0x42], 1);

    uint32_t r[4];
    cpuid(1, 0, r);
    if (!(r[2] & (1u << 24))) {
        skip("tsc deadline");
        return;
    }
    wr(LVTT, 0x40043);
    /* Far enough that a busy host comes back before; if not, once more. */
    bool armed = false;
    for (unsigned try_ = 0; try_ < 5 && !armed; try_++) {
        sti_for(1000);
        count[0x43] = 0;
        __asm__ volatile("mfence");
        t0 = rdtsc() + 250000000;
        wrmsr(0x6e0, t0);
        armed = rdmsr(0x6e0) == t0;
    }
    check("tsc deadline: armed", armed, 1);
    wait_irq(0x43, 1, SECOND);
    check("tsc deadline: fired", count[0x43], 1);
    check("tsc deadline: not early", when >= t0, 1);
    check("tsc deadline: disarmed", rdmsr(0x6e0), 0);
    wrmsr(0x6e0, 1);
    wait_irq(0x43, 2, SECOND);
    check("tsc deadline: in the past fires", count[0x43], 2);
    bool fired = true;
    for (unsigned try_ = 0; try_ < 5 && fired; try_++) {
        count[0x43] = 0;
        wrmsr(0x6e0, rdtsc() + 250000000);
        wrmsr(0x6e0, 0);
        sti_for(400000000);
        fired = count[0x43] != 0;
    }
    check("tsc deadline: disarmed by 0", fired, 0);
    wr(LVTT, 0x10000);
}

static void commands(void)
{
    uint32_t self = x2 ? rd(ID) : rd(ID) >> 24;

    count[0x50] = 0;
    ipi(0, 0x40050); /* self */
    check("self: pending with IF = 0", rd(IRR + 0x20) >> 16 & 1, 1);
    check("self: not delivered", count[0x50], 0);
    wait_irq(0x50, 1, SECOND);
    check("self: delivered", count[0x50], 1);
    ipi(self, 0x50);
    wait_irq(0x50, 2, SECOND);
    check("physical destination", count[0x50], 2);
    ipi(0, 0x80050); /* all with self */
    wait_irq(0x50, 3, SECOND);
    check("all including self", count[0x50], 3);
    if (!x2) {
        wr(LDR, 1u << 24);
        ipi(1, 0x850);
        wait_irq(0x50, 4, SECOND);
        check("logical, flat", count[0x50], 4);
        ipi(2, 0x850);
        sti_for(1000000);
        check("logical, flat: not this one", count[0x50], 4);
        wr(DFR, 0x0fffffff);
        wr(LDR, 0x24u << 24);
        ipi(0x2c, 0x850);
        wait_irq(0x50, 5, SECOND);
        check("logical, cluster", count[0x50], 5);
        ipi(0x14, 0x850);
        sti_for(1000000);
        check("logical, cluster: other cluster", count[0x50], 5);
        wr(DFR, 0xffffffff);
        wr(LDR, 0);
    } else {
        wrmsr(0x83f, 0x50);
        wait_irq(0x50, 4, SECOND);
        check("self IPI register", count[0x50], 4);
    }

    norder = 0;
    ipi(0, 0x40061);
    ipi(0, 0x40075);
    ipi(0, 0x40052);
    sti_for(2000000);
    check("priority order", norder == 3 ? order[0] << 16 | order[1] << 8 | order[2] : 0, 0x756152);
    wr(TPR, 0x60);
    norder = 0;
    ipi(0, 0x40061);
    ipi(0, 0x40070);
    sti_for(2000000);
    check("TPR holds off its class", norder == 1 ? order[0] : 0, 0x70);
    wr(TPR, 0x50);
    sti_for(2000000);
    check("lower TPR lets it in", norder == 2 ? order[1] : 0, 0x61);
    wr(TPR, 0);
    norder = 0;
    ipi(0, 0x40061);
    wr(SVR, 0xff);
    check_q("disabled by software: LVTs masked", rd(LVTT) >> 16 & 1, 1);
    wr(SVR, 0x1ff);
    sti_for(2000000);
    count[0x61] = 0;
}

static void shadows(void)
{
    count[0x50] = 0;
    ipi(0, 0x40050);
    delay(1000000);
    __asm__ volatile("sti; cli");
    check("sti; cli takes nothing", count[0x50], 0);
    __asm__ volatile("sti; nop; cli");
    check("sti; nop takes it", count[0x50], 1);
    ipi(0, 0x40050);
    delay(1000000);
    __asm__ volatile("pushf; orl $0x200, (%%rsp); popf; cli" ::: "memory");
    check("popf has no shadow", count[0x50], 2);
    ipi(0, 0x40050);
    delay(1000000);
    __asm__ volatile("sti; mov %%ss, %%eax; cli" ::: "eax");
    check("one instruction only", count[0x50], 3);
    /* Some nested processors forget the shadow when the hypervisor looks in just there; the timer wakes it then. */
    bool slept = true;
    wr(LVTT, 0x42);
    for (unsigned try_ = 0; try_ < 5 && slept; try_++) {
        count[0x42] = 0;
        count[0x50] = 0;
        wr(TICR, 200000000);
        ipi(0, 0x40050);
        delay(1000000);
        __asm__ volatile("sti; hlt; cli");
        slept = count[0x42] != 0;
        wr(TICR, 0);
    }
    wr(LVTT, 0x10000);
    check("sti; hlt does not sleep", slept, 0);
    check("sti; hlt takes it", count[0x50], 1);
}

/* ---- NMI ---- */

static bool on_nmi(struct regs *r)
{
    (void)r;
    if (++nmi_depth > nmi_max)
        nmi_max = nmi_depth;
    if (count[2]++ == 0) {
        ipi(x2 ? rd(ID) : rd(ID) >> 24, 0x400); /* another one: must wait for IRET */
        delay(1000000);
    }
    nmi_depth--;
    return true;
}

static void nmi(void)
{
    uint64_t t = rdtsc();

    count[2] = 0;
    hooks[2] = on_nmi;
    ipi(x2 ? rd(ID) : rd(ID) >> 24, 0x400);
    while (count[2] < 2 && rdtsc() - t < SECOND)
        __asm__ volatile("pause");
    check("nmi: arrives with IF = 0", count[2] >= 1, 1);
    check("nmi: the second comes after IRET", count[2], 2);
    check("nmi: they do not nest", nmi_max, 1);
}

/* ---- x2APIC ---- */

static void f_res(void *a)
{
    (void)a;
    wrmsr(0x828, 1);
}
static void f_id(void *a)
{
    (void)a;
    wrmsr(0x802, 1);
}
static void f_hole(void *a)
{
    (void)a;
    (void)rdmsr(0x80e);
}
static void f_back(void *a)
{
    (void)a;
    wrmsr(0x1b, rdmsr(0x1b) & ~0x400ull);
}

static void x2apic(void)
{
    uint32_t r[4], id = rd(ID) >> 24;

    cpuid(1, 0, r);
    if (!(r[2] & (1u << 21)) || on_tcg()) {
        skip("x2apic");
        return;
    }
    wrmsr(0x1b, rdmsr(0x1b) | 0x400);
    x2 = true;
    check("x2apic: id", rd(ID), id);
    check("x2apic: logical id", rd(LDR), (id >> 4) << 16 | 1u << (id & 15));
    registers();
    timer();
    commands();
    nmi();
    check("x2apic: ESR takes 0 only", (uint64_t)(int64_t)try(f_res, NULL), 13);
    check("x2apic: ID is read-only", (uint64_t)(int64_t)try(f_id, NULL), 13);
    check("x2apic: no DFR", (uint64_t)(int64_t)try(f_hole, NULL), 13);
    check("x2apic: not straight back", (uint64_t)(int64_t)try(f_back, NULL), 13);
}

/* ---- two processors ---- */

static volatile uint32_t shared, lock_;
static volatile unsigned ap_irqs;

static void ap_count(void)
{
    for (unsigned i = 0; i < 50000; i++)
        __asm__ volatile("lock incl %0" : "+m"(shared));
}
static volatile uint64_t *split; /* crosses a page */
static void ap_split(void)
{
    for (unsigned i = 0; i < 300; i++)
        __asm__ volatile("lock incq %0" : "+m"(*split));
}
static void ap_hlt(void)
{
    *apic(SVR) = 0x1ff;
    lock_ = 1;
    while (ap_irqs < 100) /* with IF = 0 */
        __asm__ volatile("sti; hlt; cli");
}
static bool on_ap_irq(struct regs *r)
{
    (void)r;
    *apic(EOI) = 0;
    ap_irqs++;
    return true;
}

static void two(void)
{
    if (!ap_start(ap_count)) {
        skip("second processor");
        return;
    }
    ap_count();
    ap_wait();
    check("smp: locked increments", shared, 100000);
    split = (volatile uint64_t *)((ulong)alloc_page() + 4096 - 4);
    (void)alloc_page();
    ap_start(ap_split);
    ap_split();
    ap_wait();
    check("smp: locked increments across a page", *split, 600);
    hooks[0x77] = on_ap_irq;
    lock_ = 0;
    ap_start(ap_hlt);
    while (!lock_)
        __asm__ volatile("pause");
    unsigned lost = 0;
    for (unsigned i = 0; i < 100; i++) {
        uint64_t t = rdtsc();

        ipi(0, 0xc4077); /* all but self */
        while (ap_irqs <= i && rdtsc() - t < SECOND)
            __asm__ volatile("pause");
        if (ap_irqs <= i) {
            lost++;
            break;
        }
    }
    check("smp: 100 interrupts to a halted processor", lost, 0);
    for (uint64_t t = rdtsc(); !lost && ap_fn;) { /* see shadows(): the last one may have come before HLT */
        if (rdtsc() - t > SECOND / 10) {
            ipi(0, 0xc4077);
            t = rdtsc();
        }
        __asm__ volatile("pause");
    }
}

int main(void)
{
    rt_init();
    for (unsigned v = 0x20; v < 0x80; v++)
        hooks[v] = on_irq;
    hooks[0xff] = on_irq;
    check("base", rdmsr(0x1b) & 0xfffff900, 0xfee00900);
    registers();
    timer();
    commands();
    shadows();
    nmi();
    two();
    x2apic();
    rt_exit();
}
