/* SPDX-License-Identifier: BSD-3-Clause */
/* What a freestanding guest has: ports, a console on COM1, an end with a status. */
#ifndef GUEST_H
#define GUEST_H

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define COM1      0x3f8
#define EXIT_PORT 0xf4

static inline void out8(u16 port, u8 value)
{
    __asm__ volatile("outb %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out16(u16 port, u16 value)
{
    __asm__ volatile("outw %0, %1" : : "a"(value), "Nd"(port));
}
static inline void out32(u16 port, u32 value)
{
    __asm__ volatile("outl %0, %1" : : "a"(value), "Nd"(port));
}
static inline u8 in8(u16 port)
{
    u8 value;
    __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
static inline u32 in32(u16 port)
{
    u32 value;
    __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

static inline void print(const char *text)
{
    for (; *text; text++)
        out8(COM1, (u8)*text);
}

static inline void print_number(u32 value)
{
    char text[11];
    int at = 10;
    text[at] = 0;
    do {
        text[--at] = (char)('0' + value % 10);
        value /= 10;
    } while (value);
    print(text + at);
}

/* The launcher's status is value * 2 + 1. */
static inline void __attribute__((noreturn)) end(u8 value)
{
    out8(EXIT_PORT, value);
    for (;;)
        __asm__ volatile("hlt");
}

/* Called by the start code of each mode. */
void guest_main(void);

#endif
