/* SPDX-License-Identifier: BSD-3-Clause */
/* Never ends, never leaves the guest: for time limits, pauses and kicks. */
#include "runtime/guest.h"

void guest_main(void)
{
    print("spinning\r\n");
    for (;;)
        __asm__ volatile("" : : : "memory");
}
