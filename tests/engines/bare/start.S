/* SPDX-License-Identifier: BSD-2-Clause */
/* Entry of the bare-metal guests, for -m32 and -m64: multiboot header (Multiboot Specification 0.6.96, 3.1),
 * way into long mode, exception stubs, try(), the start of a second processor. */

#define PAGE_SIZE 4096

    .section .multiboot, "a"
    .balign 4
    .long 0x1badb002, 0, -0x1badb002

    .text
    .code32
    .globl start
start:
    cli
    cld
    mov $stack_top, %esp
    lgdt boot_gdtr
    ljmp $0x30, $1f          /* 32-bit code in both builds */
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    pushl $0
    popf
#ifdef __x86_64__
    /* Identity mapping of 4 GB by 2 MB pages, user accessible. */
    mov $boot_pd, %edi
    xor %ecx, %ecx
2:  mov %ecx, %eax
    shl $21, %eax
    or $0x87, %eax
    mov %eax, (%edi,%ecx,8)
    movl $0, 4(%edi,%ecx,8)
    inc %ecx
    cmp $2048, %ecx
    jb 2b
    xor %ecx, %ecx
3:  mov %ecx, %eax
    shl $12, %eax
    add $boot_pd + 7, %eax
    mov %eax, boot_pdpt(,%ecx,8)
    inc %ecx
    cmp $4, %ecx
    jb 3b
    movl $boot_pdpt + 7, boot_pml4
    call enter_long
    .code64
    mov $stack_top, %rsp
    call main
#else
    ljmp $0x08, $2f
2:  call main
#endif
    .globl halt
halt:
    cli
    hlt
    jmp halt

#ifdef __x86_64__
    .code32
enter_long:                  /* returns in 64-bit mode */
    mov %cr4, %eax
    or $0x620, %eax          /* PAE OSFXSR OSXMMEXCPT */
    mov %eax, %cr4
    mov $boot_pml4, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x901, %eax          /* NXE LME SCE */
    wrmsr
    mov %cr0, %eax
    or $0x80010002, %eax     /* PG WP MP */
    and $0xfffffffb, %eax    /* EM */
    mov %eax, %cr0
    pop %edx
    ljmp $0x08, $1f
    .code64
1:  mov %edx, %edx
    jmp *%rdx
#endif

/* ---- exception stubs: one frame form, with an error code or 0 ---- */

    .text
#ifdef __x86_64__
    .code64
#define WORD .quad
#else
    .code32
#define WORD .long
#endif
    .macro STUB n
    .balign 16
stub_\n:
    .if (\n == 8) || (\n >= 10 && \n <= 14) || (\n == 17)
    .else
    push $0
    .endif
    push $\n
    jmp stub_common
    .section .rodata
    WORD stub_\n
    .text
    .endm

    .section .rodata
    .globl stubs
    .balign 8
stubs:
    .text
    .altmacro
    .set i, 0
    .rept 256
    STUB %i
    .set i, i + 1
    .endr
    .noaltmacro

stub_common:
#ifdef __x86_64__
    push %rax
    push %rcx
    push %rdx
    push %rbx
    push %rbp
    push %rsi
    push %rdi
    push %r8
    push %r9
    push %r10
    push %r11
    push %r12
    push %r13
    push %r14
    push %r15
    cld
    mov %rsp, %rdi
    mov %rsp, %rbx
    and $-16, %rsp
    call exception
    mov %rbx, %rsp
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %r11
    pop %r10
    pop %r9
    pop %r8
    pop %rdi
    pop %rsi
    pop %rbp
    pop %rbx
    pop %rdx
    pop %rcx
    pop %rax
    add $16, %rsp
    iretq
#else
    pushal
    push %ds
    push %es
    push %fs
    push %gs
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    cld
    mov %esp, %eax
    push %eax
    call exception
    add $4, %esp
    pop %gs
    pop %fs
    pop %es
    pop %ds
    popal
    add $8, %esp
    iret
#endif

/* int try(void (*fn)(void *), void *arg): -1, or the vector that ended fn. */
    .globl try, try_exit
#ifdef __x86_64__
try:
    push %rbx
    push %rbp
    push %r12
    push %r13
    push %r14
    push %r15
    pushf
    push try_sp
    mov %rsp, try_sp
    mov %rdi, %rax
    mov %rsi, %rdi
    call *%rax
    mov $-1, %eax
    jmp 1f
try_exit:                    /* edi: vector */
    mov %edi, %eax
    mov try_sp, %rsp
    mov $0x10, %ecx
    mov %ecx, %ss
    mov %ecx, %ds
    mov %ecx, %es
1:  pop try_sp
    popf
    pop %r15
    pop %r14
    pop %r13
    pop %r12
    pop %rbp
    pop %rbx
    ret
#else
try:
    push %ebx
    push %ebp
    push %esi
    push %edi
    pushf
    push try_sp
    mov %esp, try_sp
    pushl 32(%esp)
    mov 32(%esp), %eax
    call *%eax
    mov $-1, %eax
    jmp 1f
try_exit:                    /* 4(%esp): vector */
    mov 4(%esp), %eax
    mov $0x10, %ecx
    mov %ecx, %ds
    mov %ecx, %es
    mov %ecx, %ss
    mov try_sp, %esp
    mov %ecx, %fs
    mov %ecx, %gs
1:  mov try_sp, %esp
    pop try_sp
    popf
    pop %edi
    pop %esi
    pop %ebp
    pop %ebx
    ret
#endif

#ifdef __x86_64__
/* ---- second processor: copied to 0x8000, started there by SIPI in real mode ---- */
    .globl ap_begin, ap_end
    .weak ap_main
    .code16
ap_begin:
    cli
    xor %ax, %ax
    mov %ax, %ds
    lgdtl 0x8000 + ap_gdtr - ap_begin
    mov %cr0, %eax
    or $1, %eax
    mov %eax, %cr0
    ljmpl $0x30, $ap32
    .balign 4
ap_gdtr:
    .word 0x7f
    .long gdt
ap_end:
    .code32
ap32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $ap_stack_top, %esp
    call enter_long
    .code64
    mov $ap_stack_top, %rsp
    call ap_main
1:  cli
    hlt
    jmp 1b
#endif

    .section .rodata
    .balign 4
boot_gdtr:
    .word 0x7f
    .long gdt

    .bss
    .balign 4096
    .globl boot_pml4, boot_pdpt, boot_pd
#ifdef __x86_64__
boot_pml4: .skip 4096
boot_pdpt: .skip 4096
boot_pd:   .skip 4096 * 4
#endif
    .skip 16384
stack_top:
    .skip 8192
ap_stack_top:
    .globl try_sp
try_sp: WORD 0
    .section .note.GNU-stack, "", @progbits
