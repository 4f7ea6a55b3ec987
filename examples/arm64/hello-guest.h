/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of hello-vm on arm64, for any address, with the MMU off:
 *   adr x1, message; mov x2, #0x2000; next: ldrb w0, [x1], #1; strb w0, [x2]; cbnz w0, next; b .; message: */
static const unsigned char guest[] = "\xc1\x00\x00\x10\x02\x00\x84\xd2"
                                     "\x20\x14\x40\x38\x40\x00\x00\x39"
                                     "\xc0\xff\xff\x35\x00\x00\x00\x14"
                                     "Hello from a virtual machine!\n";
