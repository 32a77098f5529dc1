/* SPDX-License-Identifier: BSD-2-Clause */
/* A guest goes from engine to engine while it computes: handover ENGINE ENGINE [ROUNDS [TURNS [lazy|oneshot|deadline]]],
 * or --hold ENGINE, or --tsc
 *
 * 64-bit code with paging mixes integers, SSE and memory, takes interrupts of its local APIC timer, and watches that
 * the TSC never goes backwards.  Every few milliseconds it is stopped, its state and RAM are taken to a new
 * partition of the other engine, and it goes on there.  The sum at the end has to be that of a run that nobody
 * stopped.  With "lazy" it leaves out the EOIs that its assist page says it need not write (TLFS 10.3.5): one that is
 * lost on the way is the last interrupt.  With "oneshot" and "deadline" each timer interrupt sets the timer for the next:
 * one that is lost, or comes by the clock of another machine, is the last under that engine.  One shot is 1 ms, so that it
 * expires while nobody runs; a deadline is 40 ms off, so that it does not.  Then a store is logged as dirty, and a triple
 * fault is reported, by both engines.
 * Exit status: 0, 1 a check failed, 2 an engine does not work here. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <mobo/hv.h>

enum { RAM = 4 << 20, PML4 = 0x1000, PDPT = 0x2000, GDT = 0x3000, IDT = 0x4000, STACK = 0x9000, CODE = 0x10000,
       DATA = 0x100000, ASSIST = 0x300000, COUNT = 0x7000, SILENT_MS = 20000 };

/* RSI: turns.  RAX and XMM2: sums.  R12: timer interrupts.  R13: TSC violations.  R14: assist page, or 0.  R11: EOIs left
 * out.  R15: the timer's LVT entry.  COUNT: R12 after each interrupt.  Ends by a write to port 0xf4. */
__asm__(".section .rodata\n.globl g_code, g_irq, g_code_end, g_ud\n"
        "g_code:\n"
        "  test %r14, %r14\n  jz 1f\n  mov %rax, %r8\n  mov %rcx, %r9\n  mov $0x40000073, %ecx\n"
        "  lea 1(%r14), %eax\n  xor %edx, %edx\n  wrmsr\n  mov %r8, %rax\n  mov %r9, %rcx\n  xor %r8d, %r8d\n1:\n"
        "  mov $0xfee000f0, %edx\n  movl $0x1ff, (%rdx)\n"  /* SVR */
        "  mov $0xfee003e0, %edx\n  movl $3, (%rdx)\n"      /* divide by 16 */
        "  mov $0xfee00320, %edx\n  mov %r15d, (%rdx)\n"
        "  mov $0xfee00380, %edx\n  movl $62500, (%rdx)\n"  /* 1 ms */
        "  call 9f\n  sti\n"
        "1: imul %rbx, %rax\n  add %rcx, %rax\n  movq %rax, %xmm0\n  pxor %xmm0, %xmm1\n  paddq %xmm1, %xmm2\n"
        "  mov %rax, %rbp\n  shr $52, %rbp\n  xor %rax, (%rdi,%rbp,8)\n  add (%rdi,%rbp,8), %r8\n"
        "  rol $7, %r8\n  push %r8\n  pop %r9\n  add %r9, %rax\n"
        "  test $0xff, %esi\n  jnz 2f\n"
        "  push %rax\n  rdtsc\n  shl $32, %rdx\n  or %rdx, %rax\n  cmp %r10, %rax\n  jae 3f\n  inc %r13\n"
        "3: mov %rax, %r10\n  pop %rax\n"
        "2: dec %rsi\n  jnz 1b\n"
        "  cli\n  movq %xmm2, %r9\n  xor %r9, %rax\n  mov %rax, (%rdi)\n  mov %r12, 8(%rdi)\n  mov %r13, 16(%rdi)\n"
        "  mov %r11, 24(%rdi)\n"
        "  out %al, $0xf4\n  hlt\n"
        "9: bt $17, %r15d\n  jc 2f\n  push %rax\n  push %rcx\n  push %rdx\n  bt $18, %r15d\n  jc 1f\n"
        "  mov $0xfee00380, %edx\n  movl $62500, (%rdx)\n  jmp 3f\n"
        "1: rdtsc\n  shl $32, %rdx\n  lea 100000000(%rax,%rdx), %rax\n  mov %rax, %rdx\n  shr $32, %rdx\n"
        "  mov $0x6e0, %ecx\n  wrmsr\n"
        "3: pop %rdx\n  pop %rcx\n  pop %rax\n2: ret\n"
        "g_irq:\n  inc %r12\n  mov %r12, 0x7000\n  call 9b\n  test %r14, %r14\n  jz 1f\n  lock btrl $0, (%r14)\n  jnc 1f\n  inc %r11\n  iretq\n"
        "1: push %rdx\n  mov $0xfee000b0, %edx\n  movl $0, (%rdx)\n  pop %rdx\n  iretq\n"
        "g_ud:\n  ud2\n"
        "g_code_end:\n.previous\n");
extern const uint8_t g_code[], g_irq[], g_ud[], g_code_end[];

struct machine { struct hv_partition *p; uint8_t *ram; };
static _Atomic bool done;
static int failed;
static bool lazy;
static uint32_t lvt = 0x20040; /* vector 0x40: periodic */

static uint32_t pio_read(void *ctx, unsigned vp, uint16_t port, unsigned len)
{
    (void)ctx, (void)vp, (void)port, (void)len;
    return ~0u;
}

static void pio_write(void *ctx, unsigned vp, uint16_t port, unsigned len, uint32_t val)
{
    struct machine *m = ctx;

    (void)len, (void)val;
    if (port == 0xf4) {
        atomic_store(&done, true);
        hv_vp_cancel(m->p, vp);
    }
}

static void check(const char *name, bool ok, const char *fmt, unsigned long long a, unsigned long long b)
{
    printf("%s %s", ok ? "PASS" : "FAIL", name);
    if (!ok)
        printf(fmt, a, b); /* cppcheck-suppress wrongPrintfScanfArgNum; some formats show @a only */
    printf("\n");
    failed |= !ok;
}

static int machine_open(struct machine *m, const char *engine)
{
    static const struct hv_ops ops = { .size = sizeof(ops), .pio_read = pio_read, .pio_write = pio_write };
    struct hv_config cfg = { .size = sizeof(cfg), .engine = engine, .vps = 1, .ops = &ops, .ctx = m,
                             .enlightened = lazy };
    uint64_t off;

    if (hv_partition_create(&cfg, &m->p) || hv_ram_alloc(m->p, RAM, &off) ||
        hv_gpa_map(m->p, 0, RAM, off, HV_MAP_RWX | HV_MAP_DIRTY_LOG)) {
        fprintf(stderr, "handover: %s: %s\n", engine, hv_last_error());
        return -1;
    }
    m->ram = hv_ram_hva(m->p, off, RAM);
    return 0;
}

static void put64(struct machine *m, uint64_t at, uint64_t val) { memcpy(m->ram + at, &val, 8); }

/* Long mode, the first 4 GB mapped one to one, supervisor code at CODE. */
static int machine_setup(struct machine *m, uint64_t turns)
{
    uint64_t irq = CODE + (uint64_t)(g_irq - g_code);
    struct hv_vp_state s;

    memcpy(m->ram + CODE, g_code, (size_t)(g_code_end - g_code));
    put64(m, PML4, PDPT | 3);
    for (unsigned i = 0; i < 4; i++)
        put64(m, PDPT + 8 * i, ((uint64_t)i << 30) | 0x83 | (i == 3 ? 0x18 : 0));
    put64(m, GDT + 8, 0x00209b0000000000);
    put64(m, GDT + 16, 0x0000930000000000);
    put64(m, IDT + 16 * 0x40, (irq & 0xffff) | 8ull << 16 | 0x8e00ull << 32 | (irq >> 16 & 0xffff) << 48);
    hv_time_set_ns(m->p, 1000000000000); /* it has run for a while: an engine's own clock is another one */
    if (hv_vp_get_state(m->p, 0, &s))
        return -1;
    s.rip = CODE;
    s.rflags = 2;
    memset(s.gpr, 0, sizeof(s.gpr));
    s.gpr[0] = 1;
    s.gpr[3] = 6364136223846793005ull;
    s.gpr[1] = 1442695040888963407ull;
    s.gpr[4] = STACK;
    s.gpr[6] = turns;
    s.gpr[7] = DATA;
    s.gpr[14] = lazy ? ASSIST : 0;
    s.gpr[15] = lvt;
    s.cr0 = 0x80000031;
    s.cr3 = PML4;
    s.cr4 = 0x620;
    s.efer = 0x500;
    s.cs = (struct hv_segment){ .limit = 0xffffffff, .selector = 8, .attr = 0xa09b };
    s.ss = (struct hv_segment){ .limit = 0xffffffff, .selector = 16, .attr = 0xc093 };
    s.ds = s.es = s.fs = s.gs = s.ss;
    s.gdtr_base = GDT;
    s.gdtr_limit = 23;
    s.idtr_base = IDT;
    s.idtr_limit = 0xfff;
    return hv_vp_set_state(m->p, 0, &s);
}

static uint64_t count_of(const struct machine *m) { return *(const volatile uint64_t *)(m->ram + COUNT); }

static void ms_sleep(unsigned ms)
{
    struct timespec ts = { ms / 1000, (long)(ms % 1000) * 1000000 };

    nanosleep(&ts, NULL);
}

/* No interrupt came although there was time, not only for the last few turns. */
static bool is_silent(const struct machine *m, uint64_t before, uint64_t began)
{
    return count_of(m) == before && hv_time_ns(m->p) - began > 200000000;
}

struct runner { struct machine *m; struct hv_exit e; int err; };

static void *run_main(void *arg)
{
    struct runner *r = arg;

    r->err = hv_vp_run(r->m->p, 0, &r->e);
    return NULL;
}

/* Run for @ms and until a timer interrupt has come, or it should have long since; 0: until it ends. */
static struct hv_exit run(struct machine *m, unsigned ms)
{
    uint64_t before = count_of(m);
    struct runner r = { .m = m };
    pthread_t t;

    hv_time_pause(m->p, false);
    if (pthread_create(&t, NULL, run_main, &r))
        abort();
    if (ms) {
        ms_sleep(ms);
        for (unsigned i = 0; i < SILENT_MS && count_of(m) == before && !atomic_load(&done); i++)
            ms_sleep(1);
        hv_vp_cancel(m->p, 0);
    }
    pthread_join(t, NULL);
    hv_time_pause(m->p, true);
    if (ms && lvt != 0x20040) /* a timer of the engine's own may expire now that nobody runs */
        ms_sleep(3);
    if (r.err) {
        r.e.reason = HV_EXIT_ERROR;
        snprintf(r.e.text, sizeof(r.e.text), "%s", hv_last_error());
    }
    return r.e;
}

/* As if the guest had just left out the EOI of its timer interrupt, and nobody had looked yet: a state may say so. */
static void left_out(struct hv_vp_state *s, struct hv_hyperv_vp_state *h)
{
    uint8_t *isr = s->apic + 0x120; /* vectors 0x40 to 0x5f */

    if (!(h->assist & 1) || (*isr & 1))
        return;
    *isr |= 1;
    h->assist_page[0] &= 0xfe;
    h->lazy_eoi = 1;
}

static int move(struct machine *from, struct machine *to, const char *engine)
{
    static struct hv_vp_state s, back;
    static struct hv_hyperv_vp_state h;
    struct hv_hyperv_state part;

    if (hv_vp_get_state(from->p, 0, &s) ||
        (lazy && (hv_hyperv_get(from->p, &part) || hv_hyperv_vp_get(from->p, 0, &h)))) {
        fprintf(stderr, "handover: reading: %s\n", hv_last_error());
        return -1;
    }
    if (lazy)
        left_out(&s, &h);
    if (machine_open(to, engine))
        return -1;
    memcpy(to->ram, from->ram, RAM);
    hv_time_set_ns(to->p, hv_time_ns(from->p));
    if (hv_vp_set_state(to->p, 0, &s) ||
        (lazy && (hv_hyperv_set(to->p, &part) || hv_hyperv_vp_set(to->p, 0, &h, NULL, 0))) ||
        hv_vp_get_state(to->p, 0, &back)) {
        fprintf(stderr, "handover: %s: %s\n", engine, hv_last_error());
        return -1;
    }
    if (memcmp(s.gpr, back.gpr, sizeof(s.gpr)) || s.rip != back.rip || s.rflags != back.rflags || s.cr3 != back.cr3 ||
        memcmp(&s.cs, &back.cs, sizeof(s.cs)) || memcmp(s.xsave + 160, back.xsave + 160, 256)) {
        fprintf(stderr, "handover: %s: the state read back differs\n", engine);
        return -1;
    }
    hv_partition_destroy(from->p);
    return 0;
}

static void small_checks(const char *engine)
{
    struct machine m;
    struct hv_vp_state s;
    uint64_t bits[RAM / 4096 / 64];
    struct hv_exit e;
    char name[80];

    atomic_store(&done, false);
    if (machine_open(&m, engine) || machine_setup(&m, 10000))
        exit(2);
    hv_gpa_dirty_log(m.p, 0, RAM, bits);
    run(&m, 0);
    hv_gpa_dirty_log(m.p, 0, RAM, bits);
    snprintf(name, sizeof(name), "%s: dirty log: data and stack, not what nobody touched", engine);
    /* Page tables are written, too (accessed and dirty bits), and KVM may take a read for a write. */
    check(name, (bits[4] & 0xff) == 0xff && (bits[0] & 1ull << 8) && !(bits[0] >> 17) && !(bits[4] >> 8),
          " (%llx %llx)", bits[0], bits[4]);
    hv_gpa_dirty_log(m.p, 0, RAM, bits);
    snprintf(name, sizeof(name), "%s: dirty log: empty after it was read", engine);
    check(name, !bits[0] && !bits[4], " (%llx %llx)", bits[0], bits[4]);

    hv_vp_get_state(m.p, 0, &s);
    s.rip = CODE + (uint64_t)(g_ud - g_code);
    s.idtr_limit = 0;
    s.run_state = HV_VP_RUNNING;
    hv_vp_set_state(m.p, 0, &s);
    e = run(&m, 0);
    snprintf(name, sizeof(name), "%s: triple fault", engine);
    check(name, e.reason == HV_EXIT_TRIPLE_FAULT, " (reason %llu)", e.reason, 0);
    hv_partition_destroy(m.p);
}

int main(int argc, char **argv)
{
    uint64_t turns = argc > 4 ? strtoull(argv[4], NULL, 0) : 20000000;
    struct machine m[2];
    uint64_t want, got, irqs, back, left, before, began;
    unsigned silent[2] = { 0, 0 };
    unsigned rounds = argc > 3 ? (unsigned)atoi(argv[3]) : 8, moves = 0;
    struct hv_exit e;
    char name[80];

    if (argc == 2 && !strcmp(argv[1], "--tsc")) { /* kHz of this host's TSC, which QEMU's processor shows too */
        uint64_t ns[2], tsc[2];

        for (unsigned i = 0; i < 2; i++) {
            struct timespec a, b, rest = { 0, 300000000 };

            do { /* nobody in between */
                clock_gettime(CLOCK_MONOTONIC_RAW, &a);
                tsc[i] = __builtin_ia32_rdtsc();
                clock_gettime(CLOCK_MONOTONIC_RAW, &b);
            } while ((b.tv_sec - a.tv_sec) * 1000000000 + b.tv_nsec - a.tv_nsec > 20000);
            ns[i] = (uint64_t)a.tv_sec * 1000000000 + (uint64_t)a.tv_nsec;
            if (i == 0)
                nanosleep(&rest, NULL);
        }
        printf("%llu\n", (unsigned long long)((double)(tsc[1] - tsc[0]) * 1e6 / (double)(ns[1] - ns[0]) + 0.5));
        return 0;
    }
    if (argc == 3 && !strcmp(argv[1], "--hold")) { /* keep a virtual machine open until killed */
        if (machine_open(&m[0], argv[2]))
            return 2;
        for (;;)
            pause();
    }
    if (argc < 3) {
        fprintf(stderr, "usage: handover ENGINE ENGINE [ROUNDS [TURNS [lazy|oneshot|deadline]]]\n");
        return 2;
    }
    lazy = argc > 5 && !strcmp(argv[5], "lazy");
    if (argc > 5 && !lazy)
        lvt = strcmp(argv[5], "deadline") ? 0x40 : 0x40040;
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (machine_open(&m[0], argv[1]) || machine_setup(&m[0], turns))
        return 2;
    e = run(&m[0], 0);
    memcpy(&want, m[0].ram + DATA, 8);
    check("one engine reaches the end", atomic_load(&done), " (reason %llu)", e.reason, 0);
    hv_partition_destroy(m[0].p);

    atomic_store(&done, false);
    if (machine_open(&m[0], argv[1]) || machine_setup(&m[0], turns))
        return 2;
    while (moves < rounds) {
        before = count_of(&m[moves % 2]);
        began = hv_time_ns(m[moves % 2].p);
        e = run(&m[moves % 2], 7 + 3 * moves % 5);
        silent[moves % 2] += is_silent(&m[moves % 2], before, began);
        if (atomic_load(&done))
            break;
        if (e.reason != HV_EXIT_CANCELED) {
            fprintf(stderr, "handover: stopped after %u moves: %s\n", moves, e.text);
            return 1;
        }
        if (move(&m[moves % 2], &m[(moves + 1) % 2], argv[(moves + 1) % 2 + 1]))
            return 1;
        moves++;
    }
    if (!atomic_load(&done)) {
        before = count_of(&m[moves % 2]);
        began = hv_time_ns(m[moves % 2].p);
        run(&m[moves % 2], 0);
        silent[moves % 2] += is_silent(&m[moves % 2], before, began);
    }
    memcpy(&got, m[moves % 2].ram + DATA, 8);
    memcpy(&irqs, m[moves % 2].ram + DATA + 8, 8);
    memcpy(&back, m[moves % 2].ram + DATA + 16, 8);
    snprintf(name, sizeof(name), "%s and %s: %u moves, the same sum", argv[1], argv[2], moves);
    check(name, got == want, " (0x%llx instead of 0x%llx)", got, want);
    check("moved at all", moves > 0, " (%llu)", moves, 0);
    snprintf(name, sizeof(name), "the timer went on (%llu interrupts)", (unsigned long long)irqs);
    check(name, irqs > moves, " (%llu)", irqs, 0);
    check("after each move", !silent[0] && !silent[1], " (silent: %llu and %llu)", silent[0], silent[1]);
    if (lazy) {
        memcpy(&left, m[moves % 2].ram + DATA + 24, 8);
        snprintf(name, sizeof(name), "%llu EOIs were left out", (unsigned long long)left);
        check(name, left > moves, " (%llu)", left, 0);
    }
    check("the TSC never went back", back == 0, " (%llu times)", back, 0);
    hv_partition_destroy(m[moves % 2].p);
    small_checks(argv[1]);
    small_checks(argv[2]);
    return failed;
}
