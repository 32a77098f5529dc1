/* SPDX-License-Identifier: BSD-2-Clause */
/* Protected mode, 32 bits: segment limits and types, rings, gates, LDT, tasks, I/O permissions.
 * Reference: Intel SDM volume 3A chapters 3, 5, 6 and 7; volume 1, 18.5. */
#include "rt.h"

#define FN(name, body) \
    static __attribute__((noinline, used)) void name(void *arg) \
    { \
        (void)arg; \
        __asm__ volatile(body ::: "eax", "ecx", "edx", "ebx", "memory", "cc"); \
    }

enum { SEL_S = SEL_FREE, SEL_LDT = SEL_FREE + 8, SEL_GATE = SEL_FREE + 16, SEL_C1 = SEL_FREE + 24 + 1,
       SEL_D1 = SEL_FREE + 32 + 1, SEL_C16 = SEL_FREE + 40, SEL_TSS2 = SEL_FREE + 48, SEL_TASK = SEL_FREE + 56,
       SEL_CONF = SEL_FREE + 64, SEL_TSS3 = SEL_FREE + 72, SEL_D16 = SEL_FREE + 80 };

static uint8_t stack3[8192] __attribute__((aligned(16))), stack1[4096] __attribute__((aligned(16)));
static uint8_t stack2[4096] __attribute__((aligned(16)));
static uint8_t tss2[256] __attribute__((aligned(256))), tss3[256] __attribute__((aligned(256)));
static uint64_t ldt[4];

static void seg(unsigned sel, uint64_t d) { gdt[sel / 8] = d; }

static void expect(const char *name, void (*fn)(void *), int vec, ulong err, bool strict)
{
    int v = try(fn, NULL);
    uint64_t got = (uint32_t)v, want = (uint32_t)vec;

    if (v == vec && vec >= 0 && exc.err != err)
        got = exc.err, want = err;
    (strict ? check : check_q)(name, got, want);
}

/* ---- segment checks: what QEMU's translator leaves out is all here ---- */

static volatile uint32_t off_;
static uint32_t data_[4];

static void f_load_es(void *arg) { __asm__ volatile("mov %w0, %%es" ::"r"(arg)); }
static void f_load_ss(void *arg)
{
    __asm__ volatile("mov %w0, %%ss; mov %w1, %%ss" ::"r"(arg), "r"(SEL_D0));
}
static void f_read(void *arg)
{
    uint32_t v;

    (void)arg;
    __asm__ volatile("mov %2, %%ecx; mov %%cx, %%es; mov %%es:(%1), %0" : "=r"(v) : "r"(off_), "i"(SEL_S) : "ecx");
}
static void f_write(void *arg)
{
    (void)arg;
    __asm__ volatile("mov %1, %%ecx; mov %%cx, %%es; movl $1, %%es:(%0)" ::"r"(off_), "i"(SEL_S) : "ecx", "memory");
}
static void f_write_byte(void *arg)
{
    (void)arg;
    __asm__ volatile("mov %1, %%ecx; mov %%cx, %%es; movb $1, %%es:(%0)" ::"r"(off_), "i"(SEL_S) : "ecx", "memory");
}

static uint8_t from_[256], to_[512];

static void f_movs_fs(void *arg)
{
    uint8_t *to = (uint8_t *)(((uint32_t)to_ + 255) & ~255u);

    (void)arg;
    __asm__ volatile("mov %1, %%ecx; mov %%cx, %%fs; xor %%esi, %%esi; mov $0x100, %%ecx; cld; rep movsb %%fs:(%%esi), %%es:(%%edi)"
                     : "+D"(to) : "i"(SEL_S) : "ecx", "esi", "memory", "cc");
}

static int at(void (*fn)(void *), uint32_t off)
{
    off_ = off;
    return try(fn, NULL);
}

static int load_es(uint16_t sel) { return try(f_load_es, (void *)(ulong)sel); }
static int load_ss(uint16_t sel) { return try(f_load_ss, (void *)(ulong)sel); }

static void segments(void)
{
    uint32_t base = (uint32_t)data_ - 0x100;

    seg(SEL_S, desc(base, 0x10f, 0x4092));
    check("limit: last dword", (uint32_t)at(f_read, 0x10c), (uint32_t)-1);
    check_q("limit: read over the end", (uint32_t)at(f_read, 0x10d), 13);
    check_q("limit: error code", exc.err, 0);
    check_q("limit: write over the end", (uint32_t)at(f_write, 0x110), 13);
    check("limit: last byte", (uint32_t)at(f_write_byte, 0x10f), (uint32_t)-1);
    check("limit: accessed bit set", gdt[SEL_S / 8] >> 40 & 1, 1);
    __asm__ volatile("mov %w0, %%es" ::"r"(SEL_D0));
    memset(from_, 0x77, sizeof(from_));
    seg(SEL_S, desc((uint32_t)from_, 0x0f, 0x4092));
    uint8_t *to = (uint8_t *)(((uint32_t)to_ + 255) & ~255u);
    check_q("limit: rep movs from fs", (uint32_t)try(f_movs_fs, NULL), 13);
    __asm__ volatile("mov %w0, %%fs" ::"r"(SEL_D0));
    check_q("limit: rep movs from fs, what is inside", to[15] << 8 | to[16], 0x7700);
    seg(SEL_S, desc(base, 0x0ff, 0x4096)); /* expand-down: 0x100 and up */
    check("expand-down: inside", (uint32_t)at(f_read, 0x100), (uint32_t)-1);
    check_q("expand-down: below", (uint32_t)at(f_read, 0xfc), 13);
    seg(SEL_S, desc(base, 0x0ff, 0x0096));
    check_q("expand-down, 16 bits: above 64 KB", (uint32_t)at(f_read, 0x10000), 13);
    seg(SEL_S, desc(base, 0x10f, 0x4090));
    check("read-only: read", (uint32_t)at(f_read, 0x100), (uint32_t)-1);
    check_q("read-only: write", (uint32_t)at(f_write, 0x100), 13);
    seg(SEL_S, desc(base, 0x10f, 0x409a));
    check("code: read", (uint32_t)at(f_read, 0x100), (uint32_t)-1);
    check_q("code: write", (uint32_t)at(f_write, 0x100), 13);
    seg(SEL_S, desc(base, 0x10f, 0x4098));
    check("execute-only into es", (uint32_t)load_es(SEL_S), 13);
    check("execute-only: error", exc.err, SEL_S);
    seg(SEL_S, desc(0, 0xfffff, 0xc012));
    check("not present into es", (uint32_t)load_es(SEL_S), 11);
    check("not present: error", exc.err, SEL_S);
    check("not present into ss", (uint32_t)load_ss(SEL_S), 12);
    seg(SEL_S, desc(0, 0xfffff, 0xc092));
    check("rpl 3 of a ring 0 segment", (uint32_t)load_es(SEL_S | 3), 13);
    check("ring 3 segment in ring 0", (uint32_t)load_es(SEL_D3), (uint32_t)-1);
    check("ring 3 segment into ss", (uint32_t)load_ss(SEL_D3), 13);
    check("null into ss", (uint32_t)load_ss(0), 13);
    check("null into ss: error", exc.err, 0);
    check("system segment into es", (uint32_t)load_es(SEL_TSS), 13);
    check("beyond the GDT", (uint32_t)load_es(0x100), 13);
    check("null into es", (uint32_t)load_es(3), (uint32_t)-1);
    seg(SEL_S, 0);
    check_q("use of a null segment", (uint32_t)try((void (*)(void *))f_load_es, NULL), (uint32_t)-1);

    ldt[1] = desc(base, 0x10f, 0x40f2);
    seg(SEL_LDT, desc((uint32_t)ldt, sizeof(ldt) - 1, 0x82));
    __asm__ volatile("lldt %w0" ::"r"(SEL_LDT));
    check("segment from the LDT", (uint32_t)load_es(0x0f), (uint32_t)-1);
    check("beyond the LDT", (uint32_t)load_es(0x27), 13);
    check("beyond the LDT: error", exc.err, 0x24);
    uint16_t sel;
    __asm__ volatile("sldt %0" : "=m"(sel));
    check("sldt", sel, SEL_LDT);
    __asm__ volatile("lldt %w0" ::"r"(0));
    check("no LDT", (uint32_t)load_es(0x0f), 13);
}

/* ---- LAR, LSL, VERR, VERW, ARPL ---- */

static void verify(void)
{
    static const uint16_t lar_ok = 0x1a3e, lsl_ok = 0x0a0e;
    uint32_t bad = 0, v = 0;
    uint8_t zf;

    for (unsigned t = 0; t < 16; t++) {
        seg(SEL_S, desc(0, 0x12345, 0x80 | t));
        __asm__ volatile("lar %2, %0; setz %1" : "+r"(v), "=qm"(zf) : "r"(SEL_S) : "cc");
        if (zf != ((lar_ok >> t) & 1) || (zf && v != (0x8000u | t << 8)))
            bad |= 1u << t;
        __asm__ volatile("lsl %2, %0; setz %1" : "+r"(v), "=qm"(zf) : "r"(SEL_S) : "cc");
        if (zf != ((lsl_ok >> t) & 1) || (zf && v != 0x12345))
            bad |= 0x10000u << t;
    }
    check("lar and lsl of system segments", bad, 0);
    __asm__ volatile("lar %1, %0" : "+r"(v) : "r"(SEL_C3_32));
    check("lar of code", v & 0x00f0ff00, 0x00c0fb00);
    __asm__ volatile("lsl %1, %0" : "+r"(v) : "r"(SEL_C3_32));
    check("lsl with granularity", v, 0xffffffff);
    seg(SEL_S, desc(0, 0, 0x4098));
    __asm__ volatile("verr %w1; setz %0" : "=q"(zf) : "r"(SEL_S));
    check("verr of execute-only", zf, 0);
    __asm__ volatile("verw %w1; setz %0" : "=q"(zf) : "r"(SEL_D0));
    check("verw of data", zf, 1);
    __asm__ volatile("verw %w1; setz %0" : "=q"(zf) : "r"(SEL_D0 | 3));
    check("verw with rpl 3", zf, 0);
    uint16_t a = 0x10, b = 3;
    __asm__ volatile("arpl %2, %0; setz %1" : "+r"(a), "=q"(zf) : "r"(b));
    check("arpl", a | zf << 16, 0x10013);
}

/* ---- rings and gates ---- */

static void f_user(void *arg) { go_user(SEL_C3_32, (ulong)arg, SEL_D3, (ulong)stack3 + sizeof(stack3), 0x202); }

#define USER(name, body) \
    __asm__(".text; " #name ": " body "; int $0x80; hlt"); \
    extern char name[];

USER(u_gate, "push $0x1111; push $0x2222; lcall $0x5b, $0; mov %esp, %eax")
USER(u_gate1, "lcall $0x5b, $0")
USER(u_gate_jmp, "ljmp $0x5b, $0")
USER(u_conf, "lcall $0x88, $conf_code; nop")
USER(u_call_c0, "lcall $0x08, $conf_code")
USER(u_seg, "mov $0x10, %eax; mov %eax, %es")
USER(u_ss, "mov $0x10, %eax; mov %eax, %ss")
USER(u_in, "in $0x80, %al")
USER(u_in81, "mov $0x81, %edx; inw %dx, %ax")
USER(u_hlt, "hlt")
USER(u_popf, "push $0x3046; popf; pushf; pop %eax")
USER(u_enter, "sysenter")
USER(u_nt, "pushf; orl $0x4000, (%esp); popf; int $0x40")
/* Where gates lead. */
__asm__(".text\n"
        "gate32: mov 8(%esp), %eax; mov 12(%esp), %ecx; mov %eax, gate_args; mov %ecx, gate_args + 4\n"
        "  mov %esp, gate_esp; mov %cs, gate_cs; mov %ss, gate_ss; mov $0x10, %eax; mov %eax, %fs\n"
        "  movw $0x23, %ax; mov %ax, %ds; lret $8\n"
        "gate_esp: .long 0; gate_cs: .long 0; gate_ss: .long 0; gate_args: .long 0, 0\n"
        "gate_end: mov %cs, gate_cs; mov %esp, gate_esp; int $0x81\n"
        "conf_code: mov %cs, %eax; mov %eax, %cs:0; lret\n"
        "sysenter_at: mov %esp, gate_esp; mov %cs, gate_cs; int $0x81\n");
extern char gate32[], gate_end[], sysenter_at[], conf_code[];
extern volatile uint32_t gate_esp, gate_cs, gate_ss, gate_args[2];

static int user(void *ip) { return try(f_user, ip); }

static uint64_t gate(uint16_t sel, ulong off, unsigned type, unsigned dpl, unsigned n)
{
    return (off & 0xffff) | (uint64_t)sel << 16 | (uint64_t)n << 32 | (uint64_t)(0x80 | dpl << 5 | type) << 40 |
           (uint64_t)(off >> 16) << 48;
}

static void rings(void)
{
    uint32_t esp0 = *(uint32_t *)(tss + 4);

    seg(SEL_C1, desc(0, 0xfffff, 0xc0ba));
    seg(SEL_D1, desc(0, 0xfffff, 0xc0b2));
    seg(SEL_CONF, desc(0, 0xfffff, 0xc09e));
    *(uint32_t *)(tss + 12) = (uint32_t)stack1 + sizeof(stack1);
    *(uint32_t *)(tss + 16) = SEL_D1;

    seg(SEL_GATE, gate(SEL_C0, (ulong)gate32, 12, 3, 2));
    check("call gate, 2 parameters", (uint32_t)user(u_gate), 0x80);
    check("call gate: level", gate_cs & 3, 0);
    check("call gate: parameters", gate_args[0] << 16 | gate_args[1], 0x22221111);
    check("call gate: stack", gate_esp, esp0 - 24);
    check("call gate: parameters released", exc.ax, (ulong)stack3 + sizeof(stack3));
    uint32_t fs;
    __asm__("mov %%fs, %0" : "=r"(fs));
    seg(SEL_GATE, gate(SEL_C1, (ulong)gate_end, 12, 3, 0));
    idt[0x81] |= 3ull << 45;
    check("call gate to ring 1", (uint32_t)user(u_gate1), 0x81);
    check("call gate to ring 1: level", gate_cs, SEL_C1);
    check("call gate to ring 1: stack", gate_esp, (ulong)stack1 + sizeof(stack1) - 16);
    check("interrupt from ring 1: ss", exc.ss, SEL_D1);
    seg(SEL_GATE, gate(SEL_C1, 0x1000, 4, 3, 0));
    *(uint32_t *)0x1000 = 0x90f481cd; /* int $0x81 */
    check("16-bit call gate", (uint32_t)user(u_gate1), 0x81);
    check("16-bit call gate: target", exc.ip, 0x1002);
    check("16-bit call gate: stack", exc.sp, (ulong)stack1 + sizeof(stack1) - 8);
    check("jump through a gate inward", (uint32_t)user(u_gate_jmp), 13);
    check("jump through a gate inward: error", exc.err, SEL_C1 & ~3);
    seg(SEL_GATE, gate(SEL_C0, (ulong)gate32, 12, 2, 0));
    check("gate with DPL 2", (uint32_t)user(u_gate1), 13);
    check("gate with DPL 2: error", exc.err, SEL_GATE);
    seg(SEL_GATE, gate(SEL_C0, (ulong)gate32, 12, 3, 0) & ~(1ull << 47));
    check("gate not present", (uint32_t)user(u_gate1), 11);
    seg(SEL_GATE, gate(SEL_D0, (ulong)gate32, 12, 3, 0));
    check("gate to data", (uint32_t)user(u_gate1), 13);
    check("gate to data: error", exc.err, SEL_D0);
    seg(SEL_GATE, gate(SEL_C1, (ulong)gate_end, 12, 3, 0));
    *(uint32_t *)(tss + 16) = SEL_D3;
    check("stack of the wrong level in the TSS", (uint32_t)user(u_gate1), 10);
    check("stack of the wrong level: error", exc.err, SEL_D3 & ~3);
    *(uint32_t *)(tss + 16) = SEL_D1;

    check("far call to ring 0", (uint32_t)user(u_call_c0), 13);
    check("far call to ring 0: error", exc.err, SEL_C0);
    check_q("conforming code runs at ring 3, cannot write cs:", (uint32_t)user(u_conf), 13);
    check_q("conforming code: cs", exc.cs, SEL_CONF | 3);
    check("kernel data in ring 3", (uint32_t)user(u_seg), 13);
    check("kernel stack in ring 3", (uint32_t)user(u_ss), 13);
    check("hlt in ring 3", (uint32_t)user(u_hlt), 13);
    check("popf in ring 3", (uint32_t)user(u_popf), 0x80);
    check("popf in ring 3: no IF, IOPL change", exc.ax & 0x3246, 0x246);

    /* I/O permission map. */
    check("in, port denied by absence of a map", (uint32_t)user(u_in), 13);
    gdt[SEL_TSS / 8] = desc((uint32_t)tss, 0x68 + 0x20, 0x89);
    memset(tss + 0x68, 0xff, 0x21);
    tss[0x68 + 0x10] = 0xfe;
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    check("in, port allowed", (uint32_t)user(u_in), 0x80);
    check("inw, second byte denied", (uint32_t)user(u_in81), 13);
    tss[0x68 + 0x10] = 0xf9;
    check("inw allowed", (uint32_t)user(u_in81), 0x80);

    /* SYSENTER, SYSEXIT. */
    wrmsr(0x174, 0);
    check("sysenter without selector", (uint32_t)user(u_enter), 13);
    wrmsr(0x174, SEL_C0);
    wrmsr(0x175, (ulong)stack2 + sizeof(stack2));
    wrmsr(0x176, (ulong)sysenter_at);
    check("sysenter", (uint32_t)user(u_enter), 0x81);
    check("sysenter: cs", gate_cs, SEL_C0);
    check("sysenter: esp", gate_esp, (ulong)stack2 + sizeof(stack2));

    /* NT at level 3 with an interrupt gate: cleared for the handler. */
    idt[0x40] |= 3ull << 45;
    check("interrupt with NT", (uint32_t)user(u_nt), 0x40);
    check("interrupt with NT: flag pushed", exc.flags & 0x4000, 0x4000);
    reset_gate(0x40);
}

/* ---- IRET and RETF checks ---- */

FN(f_iret_null, "pushf; push $0; push $0; iret")
FN(f_iret_data, "pushf; push $0x10; push $0; iret")
FN(f_iret_ring, "push $0x10; push $0; pushf; push $0x1b; push $0; iret")
FN(f_retf_limit, "push $0x70; push $0x20000; lret")
FN(f_iret_rpl, "pushf; push $0x0b; push $0; iret")

static void returns(void)
{
    seg(SEL_C16, desc(0, 0xffff, 0x009a));
    expect("iret to null", f_iret_null, 13, 0, true);
    expect("iret to data", f_iret_data, 13, SEL_D0, true);
    expect("iret with a ring 0 stack to ring 3", f_iret_ring, 13, SEL_D0, true);
    expect("lret over the limit", f_retf_limit, 13, 0, false);
    expect("iret with rpl over dpl", f_iret_rpl, 13, SEL_C0, true);
}

/* ---- 16-bit code ---- */

FN(f_code16, "lcall $0x70, $0x1000")

static void code16(void)
{
    static const uint8_t code[] = {
        0xb8, 0x34, 0x12,             /* mov $0x1234, %ax */
        0x66, 0x05, 1, 0, 1, 0,       /* add $0x10001, %eax */
        0x67, 0x66, 0xa3, 0, 0x11, 0, 0, /* addr32 mov %eax, 0x1100 */
        0x66, 0xcb,                   /* lretl */
    };

    memcpy((void *)0x1000, code, sizeof(code));
    *(volatile uint32_t *)0x1100 = 0;
    check("16-bit code segment", (uint32_t)try(f_code16, NULL), (uint32_t)-1);
    check("16-bit code segment: operand sizes", *(volatile uint32_t *)0x1100 & 0xffff, 0x1235);
}

/* ---- tasks ---- */

static volatile uint32_t task_seen;

__asm__(".text\n"
        "task_code: mov $0x10, %eax; mov %eax, %ds; str %eax; mov %eax, task_seen; pushf; pop task_flags\n"
        "  iret\n"
        "  incl task_seen; iret\n"
        "task_err: pop task_error; mov $0x10, %eax; mov %eax, %ds; str %eax; mov %eax, task_seen\n"
        "  mov %esp, task_esp; mov df_back, %eax; mov %eax, tss + 0x20; iret\n"
        "  jmp task_err\n"
        "task_flags: .long 0; task_error: .long 0; task_esp: .long 0\n");
extern char task_code[], task_err[];
extern volatile uint32_t task_flags, task_error, task_esp;

static void make_tss(uint8_t *t, void *eip, uint32_t esp)
{
    uint32_t *w = (uint32_t *)t;

    memset(t, 0, 256);
    w[0x20 / 4] = (uint32_t)eip;
    w[0x24 / 4] = 2;
    w[0x38 / 4] = esp;
    w[0x48 / 4] = w[0x50 / 4] = w[0x54 / 4] = w[0x58 / 4] = w[0x5c / 4] = SEL_D0;
    w[0x4c / 4] = SEL_C0;
    w[0x1c / 4] = (uint32_t)get_cr3();
}

FN(f_task_call, "mov $0x77, %%ebx; lcall $0x78, $0")
FN(f_task_gate, "lcall $0x80, $0")
FN(f_task_int, "int $0x42")
FN(f_gp, "mov $0x1234, %%eax; mov %%eax, %%es")

static void tasks(void)
{
    uint32_t *w2 = (uint32_t *)tss2;

    seg(SEL_TSS2, desc((uint32_t)tss2, 0x67, 0x89));
    make_tss(tss2, task_code, (uint32_t)stack2 + sizeof(stack2));
    task_seen = 0;
    check("task: call", (uint32_t)try(f_task_call, NULL), (uint32_t)-1);
    check("task: tr", task_seen, SEL_TSS2);
    check("task: NT in the new task", task_flags & 0x4000, 0x4000);
    check("task: link", w2[0] & 0xffff, SEL_TSS);
    check("task: ebx saved", *(uint32_t *)(tss + 0x34), 0x77);
    check("task: TS", get_cr0() & 8, 8);
    check("task: not busy after iret", gdt[SEL_TSS2 / 8] >> 40 & 0xff, 0x89);
    check("task: caller busy", gdt[SEL_TSS / 8] >> 40 & 0xff, 0x8b);
    uint16_t tr;
    __asm__ volatile("str %0; clts" : "=m"(tr));
    check("task: back", tr, SEL_TSS);
    seg(SEL_TASK, gate(SEL_TSS2, 0, 5, 0, 0));
    check("task: gate", (uint32_t)try(f_task_gate, NULL), (uint32_t)-1);
    check("task: goes on after its iret", task_seen, SEL_TSS2 + 1);

    set_gate(0x42, SEL_TSS2, 0, 5, 0, 0);
    make_tss(tss2, task_code, (uint32_t)stack2 + sizeof(stack2));
    check("task: int through a task gate", (uint32_t)try(f_task_int, NULL), (uint32_t)-1);
    check("task: int seen", task_seen, SEL_TSS2);
    reset_gate(0x42);

    gdt[SEL_TSS2 / 8] |= 2ull << 40;
    expect("task: busy", f_task_call, 13, SEL_TSS2, true);
    seg(SEL_TSS2, desc((uint32_t)tss2, 0x66, 0x89));
    expect("task: TSS too small", f_task_call, 10, SEL_TSS2, true);
    seg(SEL_TSS2, desc((uint32_t)tss2, 0x67, 0x09));
    expect("task: TSS not present", f_task_call, 11, SEL_TSS2, true);

    /* Double fault through a task gate, returning past the fault. */
    seg(SEL_TSS3, desc((uint32_t)tss3, 0x67, 0x89));
    make_tss(tss3, task_err, (uint32_t)stack2 + sizeof(stack2));
    set_gate(8, SEL_TSS3, 0, 5, 0, 0);
    idt[13] = 0;
    task_error = 1;
    task_seen = 0;
    /* The handler task sets the saved EIP to df_back: past the faulting instruction. */
    reset_gate(13);
    check("task: plain fault first", (uint32_t)try(f_gp, NULL), 13);
    __asm__ volatile("movl $0, idt + 13 * 8 + 4; mov $0x1234, %%eax; mov $1f, %%ecx;"
                     "movl %%ecx, df_back; mov %%ax, %%es; 1:" ::: "eax", "ecx", "memory");
    check("task: double fault handler", task_seen, SEL_TSS3);
    check("task: double fault error code", task_error, 0);
    reset_gate(13);
    reset_gate(8);

    /* 16-bit TSS. */
    uint16_t *h = (uint16_t *)tss2;
    memset(tss2, 0, 256);
    h[7] = 0x1000;
    h[8] = 2;
    h[9] = 0xbeef;                                            /* ax */
    h[13] = 0x3000;                                           /* sp */
    h[17] = h[19] = h[20] = SEL_D16;
    h[17] = SEL_D16;
    h[18] = SEL_C16;
    h[19] = SEL_D16;
    seg(SEL_D16, desc(0, 0xffff, 0x0092));
    seg(SEL_TSS2, desc((uint32_t)tss2, 0x2b, 0x81));
    static const uint8_t code[] = { 0xa3, 0x00, 0x11, 0xcf }; /* mov %ax, 0x1100; iret */
    memcpy((void *)0x1000, code, sizeof(code));
    *(volatile uint32_t *)0x1100 = 0;
    check("task: 16-bit call and return", (uint32_t)try(f_task_call, NULL), (uint32_t)-1);
    check("task: 16-bit registers", *(volatile uint16_t *)0x1100, 0xbeef);
    check("task: 16-bit saved ip", h[7], 0x1004);
    __asm__ volatile("clts");
}
uint32_t df_back;

int main(void)
{
    rt_init();
    segments();
    verify();
    rings();
    returns();
    code16();
    tasks();
    rt_exit();
}
