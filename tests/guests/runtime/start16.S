/* SPDX-License-Identifier: BSD-3-Clause */
/* Real mode: data and stack in the code's segment. */
.code16gcc
.section .start, "ax"
.globl _start
_start:
    movw %cs, %ax
    movw %ax, %ds
    movw %ax, %es
    movw %ax, %ss
    call guest_main
1:  hlt
    jmp 1b
