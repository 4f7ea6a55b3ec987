/* SPDX-License-Identifier: BSD-3-Clause */
/* What the loader's tests share: guest memory, kernels out of thin air, and looking at the result. */
#ifndef TESTS_UNIT_LOADER_H
#define TESTS_UNIT_LOADER_H

#include "base/util.h"
#include "test.h"

#include <libvmm/x86-boot.h>

#define MIB (1ull << 20)

/* RAM as on a PC: without the legacy hole. */
static inline struct vmm_memory *ram_new(uint64_t length)
{
    struct vmm_memory *memory = NULL;
    assert_int_equal(vmm_memory_new(NULL, &memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(memory, "ram", 0, length, NULL, NULL), 0);
    return memory;
}

static inline uint64_t guest64(struct vmm_memory *memory, uint64_t address)
{
    uint8_t raw[8];
    assert_int_equal(vmm_memory_read(memory, address, raw, sizeof(raw)), 0);
    return vmm_load_le64(raw);
}

static inline uint32_t guest32(struct vmm_memory *memory, uint64_t address)
{
    return (uint32_t)guest64(memory, address);
}

static inline uint16_t guest16(struct vmm_memory *memory, uint64_t address)
{
    return (uint16_t)guest64(memory, address);
}

static inline uint8_t guest8(struct vmm_memory *memory, uint64_t address)
{
    uint8_t v;
    assert_int_equal(vmm_memory_read(memory, address, &v, 1), 0);
    return v;
}

static inline void assert_guest_text(struct vmm_memory *memory, uint64_t address, const char *text)
{
    char *got = calloc(1, strlen(text) + 1);
    assert_non_null(got);
    assert_int_equal(vmm_memory_read(memory, address, got, strlen(text) + 1), 0);
    assert_string_equal(got, text);
    free(got);
}

/* Every byte of the range is this one. */
static inline void assert_guest_filled(struct vmm_memory *memory, uint64_t address, uint64_t length,
                                       uint8_t value)
{
    for (uint64_t i = 0; i < length; i++)
        if (guest8(memory, address + i) != value)
            fail_msg("byte at 0x%llx is 0x%x, not 0x%x", (unsigned long long)(address + i),
                     guest8(memory, address + i), value);
}

static inline struct vmm_file buffer_file(const void *data, size_t length)
{
    struct vmm_file file = VMM_FILE_INIT;
    file.data = data;
    file.data_length = length;
    return file;
}

static inline struct vmm_kernel_options kernel_in(const void *data, size_t length, uint32_t format)
{
    struct vmm_kernel_options o = VMM_KERNEL_OPTIONS_INIT;
    o.kernel = buffer_file(data, length);
    o.format = format;
    return o;
}

/* It works, and gives the registers. */
static inline struct vmm_x86_boot load_ok(struct vmm_memory *memory,
                                          const struct vmm_kernel_options *options,
                                          struct vmm_boot_state *state)
{
    struct vmm_error err = VMM_ERROR_INIT;
    *state = (struct vmm_boot_state)VMM_BOOT_STATE_INIT;
    int rc = vmm_kernel_load(memory, options, state, &err);
    if (rc)
        fail_msg("%d: %s", rc, err.text);
    struct vmm_x86_boot boot;
    assert_int_equal(vmm_x86_boot_get(state, &boot), 0);
    return boot;
}

/* It fails with this code and a text that has these words. */
static inline void load_fails(struct vmm_memory *memory, const struct vmm_kernel_options *options,
                              int code, const char *words)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_boot_state state = VMM_BOOT_STATE_INIT;
    int rc = vmm_kernel_load(memory, options, &state, &err);
    if (rc != code || !strstr(err.text, words))
        fail_msg("got %d \"%s\", not %d and \"%s\"", rc, err.text, code, words);
    assert_int_equal(err.code, code);
    struct vmm_x86_boot boot;
    assert_int_equal(vmm_x86_boot_get(&state, &boot), -EINVAL);
}

#endif
