/* SPDX-License-Identifier: BSD-2-Clause */
/* Real mode and virtual-8086 mode: the same 16-bit routines run in both, then what is particular to each.
 * Reference: Intel SDM volume 3A chapter 20, 9.9. */
#include "rt.h"

/* The blob is copied to BASE and runs with all segments 0; a routine returns AX.  In real mode the vectors 0-31
 * lead to rm_trap, which ends the routine with AX = 0xe000 + vector. */
enum { BASE = 0x8000, INFO = 0x6000 /* vector, ip, cs, flags of the last trap */ };

__asm__(
    ".section .rodata; .globl blob, blob_end; .balign 16; .code16\n"
    ".set B, 0x8000\n"
    "blob:\n"
    /* real-mode entry: bx = routine */
    "rm_main: xor %ax, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs\n"
    "  mov $0x7000, %esp; cld\n"
    "  call *%bx\n"
    "rm_done: cli; mov %eax, 0x6020\n"
    "  mov %cr0, %eax; or $1, %al; mov %eax, %cr0\n"
    "  ljmpl $0x30, $rm_back\n"
    /* 16-bit protected mode on the way there */
    "rm_go: mov $0x50, %ax; mov %ax, %ds; mov %ax, %es; mov %ax, %ss; mov %ax, %fs; mov %ax, %gs\n"
    "  mov %cr0, %eax; and $0xfe, %al; mov %eax, %cr0\n"
    "  ljmp $0, $B + rm_main - blob\n"
    ".balign 8; rm_stubs: .set v, 0; .rept 32; push $v; jmp rm_trap; .balign 8; .set v, v + 1; .endr\n"
    "rm_trap: pop %ax; mov %ax, %cs:0x6000; pop %cs:0x6002; pop %cs:0x6004; pop %cs:0x6006\n"
    "  or $0xe000, %ax; xor %cx, %cx; mov %cx, %ss; mov %cx, %ds; mov %cx, %es; mov $0x6ffe, %sp; cld; ret\n"
    /* virtual-8086 entry: bx = routine, segments and stack set by IRET */
    "vm_main: call *%bx; int $0x80\n"

    /* ---- routines ---- */
    "t_nop: mov $0x1234, %ax; ret\n"
    "t_wide: mov $0x12345678, %eax; add $0x11111111, %eax; shr $16, %eax; ret\n"
    "t_addr32: movl $0x6100, %esi; movw $0x55aa, (%esi); mov 0x6100, %ax; ret\n"
    "t_ea: movw $0x5000, %bx; movw $0x1100, %si; movw $0x7788, 0x6100; movw 0(%bx,%si), %ax; ret\n"
    "t_eawrap: movw $0xf000, %bx; movw $0x7000, %si; movw $0x99aa, 0x6100; movw 0x100(%bx,%si), %ax; ret\n"
    "t_segwrap: movw $0xffff, %bx; movw (%bx), %ax; ret\n"
    "t_segwrap_ss: movw $0xffff, %bp; movw (%bp), %ax; ret\n"
    "t_high: mov $0xffff, %ax; mov %ax, %es; mov %es:0x110, %ax; ret\n"  /* linear 0x100100 */
    "t_pushsp: mov %sp, %cx; push %sp; pop %ax; sub %cx, %ax; ret\n"
    "t_pusha: mov $1, %cx; mov $2, %dx; pusha; mov $9, %cx; popa; mov %cx, %ax; shl $8, %ax; or %dl, %al; ret\n"
    "t_enter: push %bp; enter $16, $2; mov %bp, %ax; sub %sp, %ax; leave; pop %bp; ret\n"
    "t_div: xor %ax, %ax; xor %dx, %dx; xor %cx, %cx; t_div_at: div %cx; ret\n"
    "t_ud: ud2; ret\n"
    "t_bound: movw $5, 0x6100; movw $9, 0x6102; mov $10, %ax; bound %ax, 0x6100; ret\n"
    "t_bound_ok: movw $5, 0x6100; movw $9, 0x6102; mov $9, %ax; bound %ax, 0x6100; ret\n"
    "t_arpl: arpl %ax, %bx; ret\n"
    "t_lar: lar %ax, %bx; ret\n"
    "t_str: str %ax; ret\n"
    "t_vex: .byte 0xc5, 0xf0, 0x57, 0xc9; ret\n"                         /* vxorps: #UD, mod is 3 */
    "t_callf: lcall $0x800, $(t_far - blob); ret\n"
    "t_far: mov %cs, %ax; lret\n"
    "t_jmpf: movw $(t_jmpf2 - blob), 0x6100; movw $0x800, 0x6102; ljmp *0x6100\n"
    "t_jmpf2: mov %cs, %cx; ljmp $0, $B + t_jmpf3 - blob\n"
    "t_jmpf3: mov %cx, %ax; ret\n"
    "t_les: movw $0x4321, 0x6100; movw $0x0600, 0x6102; les 0x6100, %di; mov %es, %ax; add %di, %ax; ret\n"
    "t_loop: mov $5, %cx; xor %ax, %ax; 1: inc %ax; loop 1b; ret\n"
    "t_rep: mov $0x6100, %di; mov $0x3344, %ax; mov $4, %cx; rep stosw; mov 0x6106, %ax; sub $0x6108, %di; add %di, %ax; ret\n"
    "t_mov_cs: mov $8, %ax; .byte 0x8e, 0xc8; ret\n"
    "t_popss: push %ss; popw %ss; mov $0x77, %ax; ret\n"
    "t_len16: .byte 0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x3e,0x90; ret\n"
    "t_smsw: smsw %ax; and $1, %ax; ret\n"
    "t_daa: mov $0x79, %al; add $0x35, %al; daa; mov $0, %ah; adc $0, %ah; ret\n"
    /* real mode only */
    "t_int: movw $B + h_int - blob, 0x180; movw $0, 0x182; sti; mov $0x1111, %ax; int $0x60; cli; ret\n"
    "h_int: mov %sp, %bp; mov 4(%bp), %ax; pushf; pop %cx; and $0x200, %cx; shl $6, %cx; or %cx, %ax\n"
    "  orw $1, 4(%bp); iret\n"
    "t_into: mov $0x7f, %al; add $1, %al; into; ret\n"
    "t_into_no: mov $0x7e, %al; add $1, %al; into; mov $0x66, %ax; ret\n"
    "t_int3: int3; ret\n"
    "t_iopl: pushw $0x7000; popf; pushf; pop %ax; pushw $2; popf; and $0x7000, %ax; ret\n"
    "t_cf: stc; clc; xor %ax, %ax; int $0x60; ret\n"
    "t_tf: pushf; mov %sp, %bp; orw $0x100, (%bp); popf; nop; nop; mov $0x99, %ax; ret\n"
    "t_spwrap: mov $2, %sp; int $0x61; t_spwrap2: mov $0x6ffe, %sp; ret\n"
    "h_wrap: mov %sp, %ax; mov $0x6ffe, %sp; ret\n"
    "t_unreal: mov %cr0, %eax; or $1, %al; mov %eax, %cr0; jmp 1f; 1: mov $0x10, %bx; mov %bx, %es\n"
    "  and $0xfe, %al; mov %eax, %cr0; jmp 2f; 2: xor %bx, %bx; mov %bx, %es; mov $0x100100, %edi\n"
    "  mov %es:(%edi), %ax; ret\n"
    "t_big16: mov $0x18000, %esi; mov (%esi), %ax; ret\n"                /* over the limit of 64 KB */
    /* virtual-8086 only */
    "t_cli: cli; ret\n" "t_sti: sti; ret\n" "t_pushf: pushf; pop %ax; ret\n" "t_popf: pushw $0x3202; popf; ret\n"
    "t_intn: int $0x62; ret\n" "t_hlt: hlt; ret\n" "t_cr: mov %cr0, %eax; ret\n" "t_in: in $0x80, %al; ret\n"
    "t_iret: pushf; pushw %cs; pushw $B + 1f - blob; iret; 1: mov $0x4242, %ax; ret\n"
    "t_lgdt: lgdt 0x6100; ret\n"
    "h_vme: mov %sp, %bp; mov 4(%bp), %ax; iret\n"
    "t_vme: int $0x63; ret\n"
    "t_vme_flags: sti; pushf; pop %ax; cli; pushf; pop %cx; and $0x200, %ax; and $0x200, %cx; shl $1, %cx; or %cx, %ax; ret\n"
    "blob_end:\n"
    ".text; .code32\n"
    /* uint32_t rm_call(uint32_t routine) */
    "rm_call: push %ebx; push %ebp; push %esi; push %edi; mov 20(%esp), %ebx; mov %esp, rm_esp\n"
    "  lidt rm_idtr; ljmp $0x48, $0x8000 + rm_go - blob\n"
    "rm_back: mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; mov %eax, %ss; mov %eax, %fs; mov %eax, %gs\n"
    "  mov rm_esp, %esp; lidt idtr; lgdt rm_gdtr; mov 0x6020, %eax; pop %edi; pop %esi; pop %ebp; pop %ebx; ret\n"
    ".section .rodata; rm_idtr: .word 0x3ff; .long 0; rm_gdtr: .word 0xff; .long gdt\n"
    ".bss; rm_esp: .long 0\n"
    ".text\n");
extern const char blob[], blob_end[], rm_stubs[], vm_main[], rm_go[], rm_main[], rm_done[], rm_trap[], h_wrap[],
    h_int[], h_vme[], t_div_at[];
uint32_t rm_call(uint32_t routine);

#define R(name) extern const char t_##name[];
#define OFF(sym) ((uint32_t)((sym) - blob) + BASE)
R(nop) R(wide) R(addr32) R(ea) R(eawrap) R(segwrap) R(segwrap_ss) R(high) R(pushsp) R(pusha) R(enter) R(div) R(ud)
R(bound) R(bound_ok) R(arpl) R(lar) R(str) R(vex) R(callf) R(jmpf) R(les) R(loop) R(rep) R(mov_cs) R(popss) R(len16)
R(smsw) R(daa) R(int) R(into) R(into_no) R(int3) R(iopl) R(tf) R(spwrap) R(unreal) R(big16) R(cli) R(sti) R(pushf)
R(popf) R(intn) R(hlt) R(cr) R(in) R(iret) R(lgdt) R(vme) R(vme_flags)

static const struct { const char *name; const char *fn; uint16_t want; bool strict; } both[] = {
    { "routine", t_nop, 0x1234, true },
    { "32-bit operands", t_wide, 0x2345, true },
    { "32-bit address", t_addr32, 0x55aa, true },
    { "bx + si", t_ea, 0x7788, true },
    { "bx + si wraps at 64 KB", t_eawrap, 0x99aa, true },
    { "word at 0xffff", t_segwrap, 0xe00d, false },
    { "word at ss:0xffff", t_segwrap_ss, 0xe00c, false },
    { "0xffff:0x110 is above 1 MB", t_high, 0xbabe, true },
    { "push sp", t_pushsp, 0, true },
    { "pusha, popa", t_pusha, 0x0102, true },
    { "enter, leave", t_enter, 20, true },
    { "divide error", t_div, 0xe000, true },
    { "ud2", t_ud, 0xe006, true },
    { "bound out", t_bound, 0xe005, true },
    { "bound in", t_bound_ok, 9, true },
    { "arpl is undefined", t_arpl, 0xe006, true },
    { "lar is undefined", t_lar, 0xe006, true },
    { "str is undefined", t_str, 0xe006, true },
    { "vex is undefined", t_vex, 0xe006, true },
    { "far call", t_callf, 0x0800, true },
    { "far jump, indirect", t_jmpf, 0x0800, true },
    { "les", t_les, 0x4921, true },
    { "loop", t_loop, 5, true },
    { "rep stosw", t_rep, 0x3344, true },
    { "mov to cs is undefined", t_mov_cs, 0xe006, true },
    { "pop ss", t_popss, 0x77, true },
    { "16 bytes are too long", t_len16, 0xe00d, true },
    { "smsw", t_smsw, 0, true },
    { "daa", t_daa, 0x0114, true },
    { "address over the limit", t_big16, 0xe00d, false },
};

static void real_mode(void)
{
    uint16_t *ivt = (uint16_t *)0;
    char name[64];

    for (unsigned v = 0; v < 32; v++) {
        __asm__("" : "+r"(ivt));
        ivt[v * 2] = (uint16_t)(OFF(rm_stubs) + v * 8);
        ivt[v * 2 + 1] = 0;
    }
    gdt[SEL_FREE / 8] = desc(0, 0xffff, 0x009a);
    gdt[SEL_FREE / 8 + 1] = desc(0, 0xffff, 0x0092);
    for (unsigned i = 0; i < sizeof(both) / sizeof(both[0]); i++) {
        unsigned n = 0;

        for (const char *p = "real: "; *p;)
            name[n++] = *p++;
        for (const char *p = both[i].name; *p && n < 63;)
            name[n++] = *p++;
        name[n] = 0;
        uint32_t got = rm_call(OFF(both[i].fn)) & 0xffff;

        (both[i].strict ? check : check_q)(name, got, both[i].want);
        if (both[i].fn == t_div)
            check("real: divide error address", *(volatile uint16_t *)(INFO + 2), OFF(t_div_at));
    }
    check("real: int, IF pushed, off inside", rm_call(OFF(t_int)) & 0x8200, 0x200);
    check("real: into taken", rm_call(OFF(t_into)) & 0xffff, 0xe004);
    check("real: into not taken", rm_call(OFF(t_into_no)) & 0xffff, 0x66);
    check("real: int3", rm_call(OFF(t_int3)) & 0xffff, 0xe003);
    check("real: popf sets IOPL and NT", rm_call(OFF(t_iopl)) & 0xffff, 0x7000);
    check("real: single step", rm_call(OFF(t_tf)) & 0xffff, 0xe001);
    ((volatile uint16_t *)ivt)[0x61 * 2] = (uint16_t)OFF(h_wrap);
    ((volatile uint16_t *)ivt)[0x61 * 2 + 1] = 0;
    check("real: the stack wraps", rm_call(OFF(t_spwrap)) & 0xffff, 0xfffc);
    check("real: 4 GB limit survives a real-mode load", rm_call(OFF(t_unreal)) & 0xffff, 0xbabe);
}

/* ---- virtual-8086 mode ---- */

static uint32_t vm_flags;

static void f_vm86(void *arg)
{
    __asm__ volatile("mov %%esp, %%ecx; pushl $0; pushl $0; pushl $0; pushl $0; pushl $0; pushl $0x7000; push %1;"
                     "pushl $0; push %2; mov %0, %%ebx; iret"
                     ::"a"(arg), "d"(vm_flags | 0x20002), "S"(OFF(vm_main)) : "ecx", "ebx");
}

static uint32_t vm86(const char *fn, uint32_t flags)
{
    int v;

    vm_flags = flags;
    v = try(f_vm86, (void *)OFF(fn));
    return v == 0x80 ? exc.ax & 0xffff : 0xe000u | (uint32_t)v;
}

static void virtual_mode(void)
{
    char name[64];
    uint32_t r[4];

    for (unsigned i = 0; i < sizeof(both) / sizeof(both[0]); i++) {
        unsigned n = 0;
        uint16_t want = both[i].fn == t_smsw ? 1 : both[i].want;

        for (const char *p = "vm86: "; *p;)
            name[n++] = *p++;
        for (const char *p = both[i].name; *p && n < 63;)
            name[n++] = *p++;
        name[n] = 0;
        (both[i].strict ? check : check_q)(name, vm86(both[i].fn, 0x3000), want);
        if (both[i].fn == t_div) {
            check("vm86: divide error address", exc.ip, OFF(t_div_at));
            check("vm86: flags image", exc.flags & 0x23000, 0x23000);
            check("vm86: stack", exc.sp, 0x6ffe);
        }
    }
    check("vm86: hlt", vm86(t_hlt, 0x3000), 0xe00d);
    check("vm86: mov cr0", vm86(t_cr, 0x3000), 0xe00d);
    check("vm86: lgdt", vm86(t_lgdt, 0x3000), 0xe00d);
    check("vm86: in without permission", vm86(t_in, 0x3000), 0xe00d);
    check("vm86: IOPL 3, iret", vm86(t_iret, 0x3000), 0x4242);
    check("vm86: IOPL 3, pushf", vm86(t_pushf, 0x3000) & 0x3000, 0x3000);
    check("vm86: IOPL 3, int through a gate with DPL 0", vm86(t_intn, 0x3000), 0xe00d);
    check("vm86: IOPL 3, error code", exc.err, 0x62 * 8 + 2);
    check("vm86: IOPL 3, single step", vm86(t_tf, 0x3000), 0xe001);
    check("vm86: IOPL 0, cli", vm86(t_cli, 0), 0xe00d);
    check("vm86: IOPL 0, sti", vm86(t_sti, 0), 0xe00d);
    check("vm86: IOPL 0, pushf", vm86(t_pushf, 0), 0xe00d);
    check("vm86: IOPL 0, popf", vm86(t_popf, 0), 0xe00d);
    check("vm86: IOPL 0, iret", vm86(t_iret, 0), 0xe00d);
    check("vm86: IOPL 0, int n", vm86(t_intn, 0), 0xe00d);
    check("vm86: IOPL 0, int n: error", exc.err, 0);
    check("vm86: IOPL 0, int3 goes to its gate", vm86(t_int3, 0), 0xe003);

    cpuid(1, 0, r);
    if (!(r[3] & 2) || on_tcg()) {
        skip("vme");
        return;
    }
    /* Interrupt redirection map below the I/O map. */
    memset(tss + 0x68, 0, 32);
    tss[0x66] = 0x88;
    tss[0x68 + 0x62 / 8] |= 1 << (0x62 & 7);
    gdt[SEL_TSS / 8] = desc((uint32_t)tss, 0x200, 0x89);
    __asm__ volatile("ltr %w0" ::"r"(SEL_TSS));
    volatile uint16_t *ivt = (uint16_t *)0;
    __asm__("" : "+r"(ivt));
    ivt[0x63 * 2] = (uint16_t)OFF(h_vme);
    ivt[0x63 * 2 + 1] = 0;
    set_cr4(get_cr4() | 1);
    tss[0x68 + 0x80 / 8] |= 1;
    check("vme: redirected int, IOPL 3", vm86(t_vme, 0x3200) & 0x3200, 0x3200);
    tss[0x68 + 0x80 / 8] |= 1;
    /* With IOPL 0 even INT 0x80 needs its own way out: exceptions end the routine. */
    check("vme: int n not redirected, IOPL 0", vm86(t_intn, 0), 0xe00d);
    set_cr4(get_cr4() & ~1ul);
}

int main(void)
{
    rt_init();
    memcpy((void *)BASE, blob, (size_t)(blob_end - blob));
    *(volatile uint16_t *)0x100100 = 0xbabe;
    real_mode();
    virtual_mode();
    rt_exit();
}
