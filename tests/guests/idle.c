/* SPDX-License-Identifier: BSD-3-Clause */
/* Says that it is there, then does nothing for ever: halted with interrupts off. */
#include "runtime/guest.h"

void guest_main(void)
{
    print("idle\r\n");
    for (;;)
        __asm__ volatile("cli\n hlt");
}
