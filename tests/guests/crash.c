/* SPDX-License-Identifier: BSD-3-Clause */
/* A triple fault: an interrupt descriptor table of no length, and an exception. */
#include "runtime/guest.h"

void guest_main(void)
{
    static const u8 nothing[10];
    print("about to fault\r\n");
    __asm__ volatile("lidt %0" : : "m"(nothing));
    __asm__ volatile("ud2");
}
