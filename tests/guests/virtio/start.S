/* SPDX-License-Identifier: BSD-3-Clause */
/* PVH entry: 32-bit protected mode without paging, the address of the start-info in EBX. */
.section .note, "a"
    .long 4, 4, 18          /* name and value: 4 bytes each; XEN_ELFNOTE_PHYS32_ENTRY */
    .asciz "Xen"
    .long _start

.section .start, "ax"
.code32
.globl _start
_start:
    movl $stack_end, %esp
    pushl %ebx
    call guest_start
1:  hlt
    jmp 1b

.section .bss
.align 16
    .skip 16384
stack_end:

.section .note.GNU-stack, "", @progbits
