/* SPDX-License-Identifier: BSD-3-Clause */
/* Ends with its first instruction that leaves the guest: for measuring start-up. */
#include "runtime/guest.h"

void guest_main(void)
{
    end(0);
}
