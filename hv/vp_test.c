/* SPDX-License-Identifier: BSD-2-Clause */
/* Tests of running VPs: waiting and waking, interrupt windows, NMI, start-up of processors, port strings.
 *
 * The guests below are assembled into this file's read-only data.  They end with a write to port 0xf4.  Real
 * time passes, but no result depends on how much: each run has a generous limit against hanging. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "hv/infra.h"

enum { RAM = 16 << 20, CODE = 0x100000, IDT = 0x6000, COUNTER = 0x7000, AP_CODE = 0x8000, LIMIT_MS = 20000 };

static struct hv_partition *p;
static uint8_t *ram;
static _Atomic uint32_t exit_value;
static _Atomic bool exited;
static unsigned ext_vector, ext_acks, in_count, out_sum;

/* Position-independent code; interrupt handlers are found by their offset from the start. */
#define GUEST(name, text) \
    __asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection\n"); \
    extern const uint8_t name[], name##_end[]

#define EXIT_RAX "mov $0xf4, %dx\nout %eax, %dx\n1: hlt\njmp 1b\n"

static uint32_t pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)ctx, (void)vp, (void)port, (void)len;
    return in_count++;
}

static void pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    (void)ctx, (void)len;
    if (port == 0xf4) {
        atomic_store(&exit_value, val);
        atomic_store(&exited, true);
        hv_vp_cancel(p, vp);
    } else if (port == 0xe0) {
        hv_extint_set(p, true);
    } else if (port == 0xe1) {
        out_sum += val;
    }
}

static int extint_ack(void *ctx, unsigned vp)
{
    (void)ctx, (void)vp;
    hv_extint_set(p, false);
    ext_acks++;
    return (int)ext_vector;
}

static int setup(void **state)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .pio_read = pio_read, .pio_write = pio_write,
                                       .extint_ack = extint_ack };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = getenv("MOBO_TEST_ENGINE") ?: "interp", .vps = 2, .ops = &ops };
    uint64_t off;

    (void)state;
    if (hv_partition_create(&cfg, &p) || hv_ram_alloc(p, RAM, &off) || hv_gpa_map(p, 0, RAM, off, HV_MAP_RWX))
        return -1;
    ram = hv_ram_hva(p, off, RAM);
    atomic_store(&exited, false);
    ext_acks = in_count = out_sum = 0;
    hv_time_pause(p, false);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    hv_partition_destroy(p);
    return 0;
}

static struct hv_segment flat(uint16_t sel, uint16_t attr)
{
    return (struct hv_segment){ .limit = 0xffffffff, .selector = sel, .attr = attr };
}

static void gate(unsigned vector, uint64_t handler)
{
    uint64_t *g = (uint64_t *)(ram + IDT + vector * 16);

    g[0] = (handler & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (handler >> 16 & 0xffff) << 48;
    g[1] = handler >> 32;
}

/* VP 0 at @code in long mode, RBX = the APIC page, RSI = COUNTER, interrupts off. */
static void load(const uint8_t *code, const uint8_t *end)
{
    uint64_t *pml4 = (uint64_t *)(ram + 0x1000), *pdpt = (uint64_t *)(ram + 0x2000);
    uint64_t *gdt = (uint64_t *)(ram + 0x5000);
    struct hv_vp_state s;

    memcpy(ram + CODE, code, (size_t)(end - code));
    pml4[0] = 0x2003;
    for (unsigned i = 0; i < 4; i++)
        pdpt[i] = (uint64_t)i << 30 | 0x83;
    gdt[1] = 0x00af9b000000ffff;
    gdt[2] = 0x00cf93000000ffff;
    assert_int_equal(hv_vp_get_state(p, 0, &s), 0);
    s.cr0 = 0x80010033;
    s.cr4 = 0x6a0;
    s.cr3 = 0x1000;
    s.efer = 0xd01;
    s.gdtr_base = 0x5000;
    s.gdtr_limit = 23;
    s.idtr_base = IDT;
    s.idtr_limit = 0xfff;
    s.cs = flat(8, 0xa09b);
    s.ss = s.ds = s.es = s.fs = s.gs = flat(16, 0xc093);
    s.rip = CODE;
    s.gpr[4] = 0x200000;
    s.gpr[3] = 0xfee00000;
    s.gpr[6] = COUNTER;
    s.rflags = 2;
    if (hv_vp_set_state(p, 0, &s))
        fail_msg("%s", hv_last_error());
}

struct watchdog { pthread_t thread; pthread_mutex_t lock; pthread_cond_t cond; bool done; };

static void *watchdog_main(void *arg)
{
    struct watchdog *w = arg;
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_sec += LIMIT_MS / 1000;
    pthread_mutex_lock(&w->lock);
    while (!w->done && pthread_cond_timedwait(&w->cond, &w->lock, &ts) == 0)
        ;
    if (!w->done)
        for (unsigned i = 0; i < hv_partition_vps(p); i++)
            hv_vp_cancel(p, i);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static struct hv_exit run(void)
{
    struct watchdog w = { .lock = PTHREAD_MUTEX_INITIALIZER, .cond = PTHREAD_COND_INITIALIZER };
    struct hv_exit e;

    assert_int_equal(pthread_create(&w.thread, NULL, watchdog_main, &w), 0);
    assert_int_equal(hv_vp_run(p, 0, &e), 0);
    pthread_mutex_lock(&w.lock);
    w.done = true;
    pthread_cond_signal(&w.cond);
    pthread_mutex_unlock(&w.lock);
    pthread_join(w.thread, NULL);
    return e;
}

static uint32_t run_to_exit(void)
{
    struct hv_exit e = run();

    if (e.reason != HV_EXIT_CANCELED || !atomic_load(&exited)) {
        char dump[2048];

        hv_vp_dump(p, 0, dump, sizeof(dump));
        fail_msg("exit %d (%s), port %s\n%s", e.reason, e.text, atomic_load(&exited) ? "written" : "not written", dump);
    }
    return atomic_load(&exit_value);
}

#define LOAD(name) load(name, name##_end)
#define HANDLER(vector, name, label) gate(vector, CODE + (uint64_t)(label - name))

/* ---- cancel ---- */

GUEST(g_spin, "1: jmp 1b");
GUEST(g_hlt, "cli\n1: hlt\njmp 1b");

static void cancel_first(void **state)
{
    (void)state;
    LOAD(g_spin);
    hv_vp_cancel(p, 0);
    assert_int_equal(run().reason, HV_EXIT_CANCELED);
    assert_int_equal(hv_counter_get(p, 0, HV_CTR_INSNS), 0);
    hv_vp_cancel(p, 1); /* waits for SIPI: no different */
    struct hv_exit e;
    assert_int_equal(hv_vp_run(p, 1, &e), 0);
    assert_int_equal(e.reason, HV_EXIT_CANCELED);
    assert_int_equal(hv_vp_run(p, 2, &e), -22);
}

static void *cancel_soon(void *arg)
{
    struct timespec ts = { 0, 20000000 };

    nanosleep(&ts, NULL);
    hv_vp_cancel(arg, 0);
    return NULL;
}

static void cancel_later(void **state)
{
    static const uint8_t *const codes[2][2] = { { g_spin, g_spin_end }, { g_hlt, g_hlt_end } };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        pthread_t t;
        struct hv_exit e;

        load(codes[i][0], codes[i][1]);
        assert_int_equal(pthread_create(&t, NULL, cancel_soon, p), 0);
        assert_int_equal(hv_vp_run(p, 0, &e), 0);
        pthread_join(t, NULL);
        assert_int_equal(e.reason, HV_EXIT_CANCELED);
    }
    assert_true(hv_first_insn_ns(p) != 0);
}

/* ---- timer ---- */

/* RDI: LVT mode; ten interrupts, between which the guest halts (R15 = 0) or spins. */
GUEST(g_timer,
      "movl $0x1ff, 0xf0(%rbx)\n"
      "movl $0xb, 0x3e0(%rbx)\n"
      "movl %edi, 0x320(%rbx)\n"
      "test $0x40000, %edi\njnz 2f\n"
      "movl $200000, 0x380(%rbx)\n"
      "jmp 3f\n"
      "2: call arm\n"
      "3: cmpl $10, (%rsi)\njae 5f\n"
      "test %r15d, %r15d\njz 4f\n"
      "sti\n6: cmpl $10, (%rsi)\njb 6b\n5: mov (%rsi), %eax\n" EXIT_RAX
      "4: sti\nhlt\ncli\njmp 3b\n"
      "arm: rdtsc\nshl $32, %rdx\nor %rdx, %rax\nadd $500000, %rax\nmov %rax, %rdx\nshr $32, %rdx\n"
      "mov $0x6e0, %ecx\nwrmsr\nret\n"
      ".globl h_timer\nh_timer: push %rax\npush %rcx\npush %rdx\nincl (%rsi)\n"
      "test $0x40000, %edi\njz 7f\ncall arm\njmp 8f\n"
      "7: test $0x20000, %edi\njnz 8f\nmovl $200000, 0x380(%rbx)\n"
      "8: movl $0, 0xb0(%rbx)\npop %rdx\npop %rcx\npop %rax\niretq\n");
extern const uint8_t h_timer[];

static void timer_interrupts(void **state)
{
    static const uint32_t modes[] = { APIC_TIMER_ONESHOT, APIC_TIMER_PERIODIC, APIC_TIMER_DEADLINE };

    (void)state;
    for (unsigned i = 0; i < 12; i++) {
        struct hv_vp_state s;

        if (i == 6) /* a guest that has run for longer than its host */
            hv_time_set_ns(p, hv_time_ns(p) + 400ull * 86400 * 1000000000);
        hv_partition_reset(p);
        memset(ram + COUNTER, 0, 8);
        LOAD(g_timer);
        HANDLER(0x40, g_timer, h_timer);
        hv_vp_get_state(p, 0, &s);
        s.gpr[7] = modes[i % 3] | 0x40;
        s.gpr[15] = i / 3 & 1;
        assert_int_equal(hv_vp_set_state(p, 0, &s), 0);
        assert_in_range(run_to_exit(), 10, 1000);
    }
}

/* ---- interrupt window ---- */

GUEST(g_shadow,
      "movl $0x1ff, 0xf0(%rbx)\n"
      "movl $0x40041, 0x300(%rbx)\n"  /* self IPI: pending from here */
      "mov $1000, %ecx\n1: sti\ncli\ndec %ecx\njnz 1b\n" /* never open: STI shadows the CLI */
      "cmpl $0, (%rsi)\njne 9f\n"
      "sti\nnop\ncli\ncmpl $1, (%rsi)\njne 9f\n"
      "movl $0x40041, 0x300(%rbx)\n"
      "mov %ss, %eax\nsti\nmov %eax, %ss\nnop\ncli\n" /* MOV SS opens a second shadow */
      "cmpl $2, (%rsi)\njne 9f\n"
      "movl $0x40041, 0x300(%rbx)\n"
      "pushf\npop %rax\nor $0x200, %eax\npush %rax\npopf\n" /* POPF opens at once */
      "cmpl $3, (%rsi)\njne 9f\n"
      "mov $3, %eax\n" EXIT_RAX
      "9: mov $0xbad, %eax\n" EXIT_RAX
      ".globl h_shadow\nh_shadow: incl (%rsi)\nmovl $0, 0xb0(%rbx)\niretq\n");
extern const uint8_t h_shadow[];

/* CR8 keeps an interrupt away until it is lowered. */
GUEST(g_cr8,
      "movl $0x1ff, 0xf0(%rbx)\n"
      "mov $5, %eax\nmov %rax, %cr8\nsti\n"
      "movl $0x40041, 0x300(%rbx)\nnop\nnop\n"
      "cmpl $0, (%rsi)\njne 9f\n"
      "cmpl $0x50, 0x80(%rbx)\njne 9f\n"
      "xor %eax, %eax\nmov %rax, %cr8\nnop\n"
      "cmpl $1, (%rsi)\njne 9f\nmov $1, %eax\n" EXIT_RAX
      "9: mov $0xbad, %eax\n" EXIT_RAX
      ".globl h_cr8\nh_cr8: incl (%rsi)\nmovl $0, 0xb0(%rbx)\niretq\n");
extern const uint8_t h_cr8[];

static void interrupt_window(void **state)
{
    (void)state;
    LOAD(g_shadow);
    HANDLER(0x41, g_shadow, h_shadow);
    assert_int_equal(run_to_exit(), 3);
}

static void cr8_window(void **state)
{
    (void)state;
    LOAD(g_cr8);
    HANDLER(0x41, g_cr8, h_cr8);
    assert_int_equal(run_to_exit(), 1);
}

/* ---- external interrupts and NMI ---- */

GUEST(g_ext,
      "out %al, $0xe0\nsti\nhlt\n1: cmpl $1, (%rsi)\njne 1b\n"
      "out %al, $0xe0\n2: cmpl $2, (%rsi)\njne 2b\nmov $2, %eax\n" EXIT_RAX
      ".globl h_ext\nh_ext: incl (%rsi)\niretq\n");
extern const uint8_t h_ext[];

static void external(void **state)
{
    (void)state;
    LOAD(g_ext);
    ext_vector = 0x33;
    HANDLER(0x33, g_ext, h_ext);
    assert_int_equal(run_to_exit(), 2);
    assert_int_equal(ext_acks, 2);
}

/* An NMI in the NMI handler waits for its IRET. */
GUEST(g_nmi,
      "cli\nmovl $0x1ff, 0xf0(%rbx)\nmovl $0x40400, 0x300(%rbx)\n"
      "1: cmpl $2, (%rsi)\njb 1b\njne 9f\ncmpl $0, 4(%rsi)\njne 9f\nmov $1, %eax\n" EXIT_RAX
      "9: mov $0xbad, %eax\n" EXIT_RAX
      ".globl h_nmi\nh_nmi: incl (%rsi)\nincl 4(%rsi)\ncmpl $1, (%rsi)\njne 1f\n"
      "movl $0x40400, 0x300(%rbx)\nnop\nnop\ncmpl $1, 4(%rsi)\nje 1f\nmovl $100, (%rsi)\n"
      "1: decl 4(%rsi)\niretq\n");
extern const uint8_t h_nmi[];

static void nmi_nests_not(void **state)
{
    (void)state;
    LOAD(g_nmi);
    HANDLER(2, g_nmi, h_nmi);
    assert_int_equal(run_to_exit(), 1);
}

GUEST(g_nmi_hlt, "cli\nhlt\n9: mov (%rsi), %eax\n" EXIT_RAX ".globl h_nmi_hlt\nh_nmi_hlt: incl (%rsi)\niretq\n");
extern const uint8_t h_nmi_hlt[];

static void *nmi_soon(void *arg)
{
    struct timespec ts = { 0, 20000000 };

    do { /* on a busy host the first may come before the guest has got to its HLT */
        nanosleep(&ts, NULL);
        hv_nmi(arg);
    } while (!atomic_load(&exited));
    return NULL;
}

static void nmi_ends_hlt(void **state)
{
    pthread_t t;

    (void)state;
    LOAD(g_nmi_hlt); /* interrupts are off: nothing else would wake it */
    HANDLER(2, g_nmi_hlt, h_nmi_hlt);
    assert_int_equal(pthread_create(&t, NULL, nmi_soon, p), 0);
    assert_true(run_to_exit() >= 1);
    pthread_join(t, NULL);
}

/* ---- processors ---- */

GUEST(g_bsp,
      "movl $0x1ff, 0xf0(%rbx)\n"
      "movl $0x1000000, 0x310(%rbx)\nmovl $0xc500, 0x300(%rbx)\n"
      "movl $0x4608, 0x300(%rbx)\nmovl $0x4608, 0x300(%rbx)\n"
      "1: pause\ncmpl $0x1234, (%rsi)\njne 1b\n"
      "movl $0, (%rsi)\n"
      "movl $0xc500, 0x300(%rbx)\nmovl $0x4608, 0x300(%rbx)\n" /* again, from HLT */
      "2: pause\ncmpl $0x1234, (%rsi)\njne 2b\nmov 4(%rsi), %eax\n" EXIT_RAX);
GUEST(g_ap,
      ".code16\n"
      "mov %cs, %ax\nmov %ax, %ds\ncall 1f\n1: pop %bx\n"
      "xor %ax, %ax\nmov %ax, %ds\nincw 0x7004\nmovl $0x1234, 0x7000\ncli\n2: hlt\njmp 2b\n.code64\n");

static void *ap_main(void *arg)
{
    struct hv_exit e;

    hv_vp_run(arg, 1, &e);
    return (void *)(uintptr_t)e.reason;
}

static void startup(void **state)
{
    pthread_t t;
    void *reason;
    struct hv_vp_state s;

    (void)state;
    LOAD(g_bsp);
    memcpy(ram + AP_CODE, g_ap, (size_t)(g_ap_end - g_ap));
    assert_int_equal(pthread_create(&t, NULL, ap_main, p), 0);
    assert_int_equal(run_to_exit(), 2);
    hv_vp_cancel(p, 1);
    pthread_join(t, &reason);
    assert_int_equal((uintptr_t)reason, HV_EXIT_CANCELED);
    hv_vp_get_state(p, 1, &s);
    assert_int_equal(s.run_state, HV_VP_HALTED);
    assert_int_equal(s.cs.selector, 0x800);
    assert_int_equal(s.cs.base, 0x8000);
}

/* INIT and start-up IPI that had come and were not taken yet when the state was made. */
GUEST(g_await, "2: pause\ncmpl $0x1234, (%rsi)\njne 2b\nmov 4(%rsi), %eax\n" EXIT_RAX);

static void startup_waits(void **state)
{
    pthread_t t;
    void *reason;
    struct hv_vp_state s;

    (void)state;
    LOAD(g_await);
    memcpy(ram + AP_CODE, g_ap, (size_t)(g_ap_end - g_ap));
    assert_int_equal(hv_vp_get_state(p, 1, &s), 0);
    s.run_state = HV_VP_HALTED;
    s.gpr[0] = 0x5555;
    s.apic[0xff0] = 1 | 2;
    s.apic[0xff1] = AP_CODE >> 12;
    assert_int_equal(hv_vp_set_state(p, 1, &s), 0);
    assert_int_equal(pthread_create(&t, NULL, ap_main, p), 0);
    assert_int_equal(run_to_exit(), 1);
    hv_vp_cancel(p, 1);
    pthread_join(t, &reason);
    assert_int_equal((uintptr_t)reason, HV_EXIT_CANCELED);
    assert_int_equal(hv_vp_get_state(p, 1, &s), 0);
    assert_int_equal(s.run_state, HV_VP_HALTED);
    assert_int_equal(s.cs.base, 0x8000);
}

/* ---- strings of port I/O ---- */

GUEST(g_strings,
      "mov $0xe2, %dx\nmov $0x300ff8, %rdi\nmov $20, %ecx\nrep insb\n" /* across a page */
      "test %rcx, %rcx\njnz 9f\ncmp $0x30100c, %rdi\njne 9f\n"
      "mov $0xe1, %dx\nmov $0x300ff8, %rsi\nmov $20, %ecx\ncld\nrep outsb\n"
      "std\nmov $0x400004, %rdi\nmov $2, %ecx\nmov $0xe2, %dx\nrep insl\ncmp $0x3ffffc, %rdi\njne 9f\n"
      "cld\nmov $0, %ecx\nrep insb\nmov 0x400004, %eax\n" EXIT_RAX
      "9: mov $0xbad, %eax\n" EXIT_RAX);

static void port_strings(void **state)
{
    (void)state;
    LOAD(g_strings);
    assert_int_equal(run_to_exit(), 20);
    assert_int_equal(in_count, 22);
    assert_int_equal(out_sum, 19 * 20 / 2);
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(ram[0x300ff8 + i], i);
    assert_int_equal(*(uint32_t *)(ram + 0x400000), 21);
    assert_true(hv_counter_get(p, 0, HV_CTR_PIO) >= 42);
}

/* ---- system instructions that fault ---- */

/* Each row: do one forbidden thing, the handler skips R8 bytes and counts. */
/* Each sets its bit of R10 in R9 when it faults; R8: its length. */
#define FAULT(bit, len, text) "mov $" #bit ", %r10d\nmov $" #len ", %r8d\n" text "\n"
GUEST(g_faults,
      "xor %r9d, %r9d\n"
      "mov %cr0, %rax\nand $0x7fffffff, %eax\n" FAULT(2, 3, "mov %rax, %cr0")      /* PG off in 64-bit mode */
      "mov %cr0, %rax\nor $0x20000000, %eax\n" FAULT(4, 3, "mov %rax, %cr0")       /* NW without CD */
      "mov %cr4, %rax\nand $~0x20, %eax\n" FAULT(8, 3, "mov %rax, %cr4")           /* PAE off in long mode */
      "mov %cr4, %rax\nbts $13, %rax\n" FAULT(16, 3, "mov %rax, %cr4")             /* VMXE */
      "mov $0x4000000001000, %rax\n" FAULT(32, 3, "mov %rax, %cr3")                /* above MAXPHYADDR */
      "mov $0x100000000, %rax\n" FAULT(64, 3, "mov %rax, %db7")
      "mov $0x12345, %ecx\n" FAULT(128, 2, "rdmsr")
      "mov $0xc0000080, %ecx\nmov $0x400, %eax\nxor %edx, %edx\n" FAULT(256, 2, "wrmsr") /* LME off while paging */
      FAULT(512, 2, "rdpmc")
      FAULT(1024, 3, "xgetbv")                                                   /* OSXSAVE is off: #UD */
      "mov %r9d, %eax\n" EXIT_RAX
      ".globl h_fault\nh_fault: or %r10d, %r9d\nadd %r8, 8(%rsp)\nadd $8, %rsp\niretq\n"
      ".globl h_ud\nh_ud: or %r10d, %r9d\nbts $31, %r9d\nadd %r8, (%rsp)\niretq\n");
extern const uint8_t h_fault[], h_ud[];

/* What KVM on AMD leaves to the processor: CR8, LSTAR; and CR0, which it emulates on an older one. */
GUEST(g_faults_passed,
      "xor %r9d, %r9d\n"
      "mov $16, %eax\n" FAULT(1, 4, "mov %rax, %cr8")
      "mov $0xc0000082, %ecx\nmov $0x80000000, %edx\n" FAULT(2, 2, "wrmsr")
      "mov %cr0, %rax\nbts $32, %rax\n" FAULT(4, 3, "mov %rax, %cr0")
      "mov %r9d, %eax\n" EXIT_RAX
      ".globl h_fault_passed\nh_fault_passed: or %r10d, %r9d\nadd %r8, 8(%rsp)\nadd $8, %rsp\niretq\n");
extern const uint8_t h_fault_passed[];

static void faults(void **state)
{
    (void)state;
    LOAD(g_faults);
    HANDLER(13, g_faults, h_fault);
    HANDLER(6, g_faults, h_ud);
    assert_int_equal(run_to_exit(), 0x800007fe);
}

static void faults_passed(void **state)
{
    (void)state;
    LOAD(g_faults_passed);
    HANDLER(13, g_faults_passed, h_fault_passed);
    assert_int_equal(run_to_exit(), 7);
}

static void triple_fault(void **state)
{
    struct hv_exit e;

    (void)state;
    LOAD(g_faults); /* no IDT */
    memset(ram + IDT, 0, 4096);
    e = run();
    assert_int_equal(e.reason, HV_EXIT_TRIPLE_FAULT);
    assert_null(strchr(e.text, '\n'));
    hv_vp_cancel(p, 0);
    assert_int_equal(run().reason, HV_EXIT_CANCELED); /* stays down */
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    static const struct CMUnitTest tests[] = {
        T(cancel_first), T(cancel_later), T(timer_interrupts), T(interrupt_window), T(cr8_window), T(external),
        T(nmi_nests_not), T(nmi_ends_hlt), T(startup), T(startup_waits), T(port_strings), T(faults), T(faults_passed),
        T(triple_fault),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
