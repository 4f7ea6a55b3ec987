/* SPDX-License-Identifier: BSD-3-Clause */
/* Run one instruction's bytes in this process on given registers, for comparison. */
#ifndef TESTS_NATIVE_H
#define TESTS_NATIVE_H

#include "test.h"

#include <cpuid.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

struct machine {
    uint64_t ax, cx, dx, bx, si, di, r8, r9, flags;
};

/* One page, writable or executable. */
static uint8_t *code_page;

/* Load the registers, call the instruction at code_page, store the registers. */
static inline void run_native(struct machine *m)
{
    __asm__ volatile("lea -128(%%rsp), %%rsp\n\t" /* the red zone */
                     "push %%rbx\n\t"
                     "mov %0, %%r10\n\t"
                     "mov %1, %%r11\n\t"
                     "push %%r10\n\t"
                     "push 64(%%r10)\n\t"
                     "mov 0(%%r10), %%rax\n\t"
                     "mov 8(%%r10), %%rcx\n\t"
                     "mov 16(%%r10), %%rdx\n\t"
                     "mov 24(%%r10), %%rbx\n\t"
                     "mov 32(%%r10), %%rsi\n\t"
                     "mov 40(%%r10), %%rdi\n\t"
                     "mov 48(%%r10), %%r8\n\t"
                     "mov 56(%%r10), %%r9\n\t"
                     "popf\n\t"
                     "call *%%r11\n\t"
                     "pop %%r10\n\t"
                     "pushf\n\t"
                     "pop 64(%%r10)\n\t"
                     "mov %%rax, 0(%%r10)\n\t"
                     "mov %%rcx, 8(%%r10)\n\t"
                     "mov %%rdx, 16(%%r10)\n\t"
                     "mov %%rbx, 24(%%r10)\n\t"
                     "mov %%rsi, 32(%%r10)\n\t"
                     "mov %%rdi, 40(%%r10)\n\t"
                     "mov %%r8, 48(%%r10)\n\t"
                     "mov %%r9, 56(%%r10)\n\t"
                     "cld\n\t"
                     "pop %%rbx\n\t"
                     "lea 128(%%rsp), %%rsp\n\t"
                     :
                     : "r"(m), "r"(code_page)
                     : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc");
}

static inline void set_code(const uint8_t *bytes, size_t length)
{
    assert_int_equal(mprotect(code_page, 4096, PROT_READ | PROT_WRITE), 0);
    memcpy(code_page, bytes, length);
    code_page[length] = 0xc3;
    assert_int_equal(mprotect(code_page, 4096, PROT_READ | PROT_EXEC), 0);
}

static uint64_t random_state = 88172645463325252u;
static inline uint64_t random64(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

/* Values that reach the corners more often than chance does. */
static inline uint64_t interesting(void)
{
    switch (random64() & 7) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return UINT64_C(1) << (random64() & 63);
    case 3:
        return random64() & 0xff;
    case 4:
        return random64() & random64() & random64();
    case 5:
        return random64() << 32;
    default:
        return random64();
    }
}

static inline bool cpuid_bit(uint32_t leaf, unsigned reg, unsigned bit)
{
    uint32_t r[4];
    if ((uint32_t)__get_cpuid_max(leaf & 0x80000000u, NULL) < leaf) {
        return false;
    }
    __cpuid_count(leaf, 0, r[0], r[1], r[2], r[3]);
    return (r[reg] >> bit & 1) != 0;
}

static inline void native_init(void)
{
    code_page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (code_page == MAP_FAILED) {
        TEST_SKIP("no page for code");
    }
}

#endif
