/* SPDX-License-Identifier: BSD-3-Clause */
.code64
.section .start, "ax"
.globl _start
_start:
    call guest_main
1:  hlt
    jmp 1b
