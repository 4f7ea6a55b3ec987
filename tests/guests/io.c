/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Walks the board's ports: the scratch register keeps its value, ports that nobody claims read as
 * ones, wide accesses to a device of one-byte registers reach each of them. The status says which
 * step was wrong; 0 is none.
 */
#include "runtime/guest.h"

void guest_main(void)
{
    out8(COM1 + 7, 0x5a);
    if (in8(COM1 + 7) != 0x5a)
        end(1);
    if (in8(0x1234) != 0xff || in32(0x1234) != 0xffffffff)
        end(2);
    out8(COM1 + 3, 0x83); /* divisor latch */
    out16(COM1, 0x0c34);
    if (in8(COM1) != 0x34 || in8(COM1 + 1) != 0x0c)
        end(3);
    out8(COM1 + 3, 0x03);
    if ((in8(COM1 + 5) & 0x60) != 0x60) /* the transmitter is empty */
        end(4);
    /* Looped back, what is sent is received. */
    out8(COM1 + 4, 0x10);
    out8(COM1, 'x');
    if (!(in8(COM1 + 5) & 1) || in8(COM1) != 'x')
        end(5);
    out8(COM1 + 4, 0);
    print("io is as it should be\r\n");
    end(0);
}
