/* SPDX-License-Identifier: BSD-2-Clause */
/* Entry of the bare-metal benchmark: multiboot 1 header (Multiboot Specification 0.6.96, 3.1) and
 * the way from 32-bit protected mode to long mode (SDM 3A 10.8.5) on identity-mapped 2 MB pages. */

#define MAGIC 0x1badb002
#define FLAGS 0x00000003        /* page-aligned modules, memory information */

        .section .multiboot, "a"
        .balign 4
        .long MAGIC, FLAGS, -(MAGIC + FLAGS)

        .section .bss
        .balign 4096
pml4:   .skip 4096
pdpt:   .skip 4096
pd:     .skip 4096
        .skip 65536
stack_top:

        .section .rodata
        .balign 8
gdt:    .quad 0
        .quad 0x00af9b000000ffff        /* 0x08: 64-bit code */
        .quad 0x00cf93000000ffff        /* 0x10: data        */
gdt_ptr:
        .word . - gdt - 1
        .long gdt

        .text
        .code32
        .globl _start
_start:
        cli
        cld
        movl $stack_top, %esp
        movl $pdpt + 3, pml4
        movl $pd + 3, pdpt
        xorl %ecx, %ecx                 /* 512 pages of 2 MB */
        movl $0x83, %eax
1:      movl %eax, pd(,%ecx,8)
        addl $0x200000, %eax
        incl %ecx
        cmpl $512, %ecx
        jne 1b
        movl $0x620, %eax               /* CR4: PAE, OSFXSR, OSXMMEXCPT */
        movl %eax, %cr4
        movl $pml4, %eax
        movl %eax, %cr3
        movl $0xc0000080, %ecx          /* EFER.LME */
        rdmsr
        orl $0x100, %eax
        wrmsr
        movl $0x80010033, %eax          /* CR0: PG WP NE ET MP PE; EM and TS clear */
        movl %eax, %cr0
        lgdt gdt_ptr
        ljmp $0x08, $start64

        .code64
start64:
        movl $0x10, %eax
        movl %eax, %ds
        movl %eax, %es
        movl %eax, %ss
        movl $stack_top, %esp
        xorl %ebp, %ebp
        call bench_main
2:      cli
        hlt
        jmp 2b

        .section .note.GNU-stack, "", @progbits
