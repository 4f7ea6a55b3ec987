/* SPDX-License-Identifier: BSD-3-Clause */
/* Says in which mode it runs and ends with 42. */
#include "runtime/guest.h"

void guest_main(void)
{
    print("hello from a ");
    print_number(BITS);
    print("-bit guest\r\n");
    end(42);
}
