/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest of hello-vm on x86, for address 0x1000, in real mode:
 *   mov si, message; next: lodsb; mov [0x2000], al; test al, al; jnz next; hlt; message: */
static const unsigned char guest[] = "\xbe\x0c\x10\xac\xa2\x00\x20\x84\xc0\x75\xf8\xf4"
                                     "Hello from a virtual machine!\n";
