/* SPDX-License-Identifier: BSD-3-Clause */
/* Loading a kernel: what is the same for every architecture. */
#include "base/util.h"
#include "loader/load.h"
#include "loader/unpack.h"

#include <stdlib.h>

static const char *const format_names[] = {
    [VMM_KERNEL_AUTO] = "auto",
    [VMM_KERNEL_BZIMAGE] = "bzimage",
    [VMM_KERNEL_BZIMAGE32] = "bzimage32",
    [VMM_KERNEL_BZIMAGE64] = "bzimage64",
    [VMM_KERNEL_PVH] = "pvh",
    [VMM_KERNEL_LINUX64] = "linux64",
    [VMM_KERNEL_MULTIBOOT] = "multiboot",
    [VMM_KERNEL_FLAT16] = "flat16",
    [VMM_KERNEL_FLAT32] = "flat32",
    [VMM_KERNEL_FLAT64] = "flat64",
    [VMM_KERNEL_IMAGE] = "image",
};

const char *vmm_kernel_format_name(uint32_t format)
{
    return format < VMM_ARRAY_SIZE(format_names) ? format_names[format] : "unknown";
}

int vmm_kernel_format_by_name(const char *name, uint32_t *format)
{
    for (uint32_t i = 0; name && i < VMM_ARRAY_SIZE(format_names); i++)
        if (strcmp(name, format_names[i]) == 0) {
            *format = i;
            return 0;
        }
    return -ENOENT;
}

int vmm_load_write(struct vmm_load *load, uint64_t address, const void *data, size_t length,
                   const char *what)
{
    int rc = vmm_memory_write(load->memory, address, data, length);
    return rc ? vmm_error_set(load->err, rc, "%s: no RAM for %zu bytes at guest address 0x%llx",
                              what, length, (unsigned long long)address)
              : 0;
}

int vmm_load_check_command_line(const struct vmm_load *load, uint64_t max)
{
    size_t length = strlen(load->command_line);
    return length > max ? vmm_error_set(load->err, -E2BIG,
                                        "command line: %zu characters, this kernel takes %llu",
                                        length, (unsigned long long)max)
                        : 0;
}

int vmm_load_command_line(struct vmm_load *load, uint64_t address)
{
    int rc = vmm_load_write(load, address, load->command_line, strlen(load->command_line) + 1,
                            "command line");
    if (!rc)
        load->state.command_line_address = address;
    return rc;
}

int vmm_load_unpack(struct vmm_load *load, uint64_t offset, uint64_t length)
{
    if (length > VMM_UNPACK_MAX)
        return vmm_error_set(load->err, -ENOEXEC, "payload_length: 0x%llx, at most 0x%x",
                             (unsigned long long)length, VMM_UNPACK_MAX);
    uint8_t *packed = malloc(length ? (size_t)length : 1);
    if (!packed)
        return vmm_error_set(load->err, -ENOMEM, "out of memory");
    uint8_t *data = NULL;
    size_t data_length = 0;
    int rc = vmm_source_read(&load->kernel, offset, packed, (size_t)length,
                             "the payload (payload_offset, payload_length)", load->err);
    if (!rc)
        rc = vmm_unpack(packed, (size_t)length, &data, &data_length, load->err);
    free(packed);
    if (rc)
        return rc;
    vmm_source_close(&load->kernel);
    vmm_source_own(&load->kernel, "kernel (unpacked)", data, data_length);
    return 0;
}

static int check_options(const struct vmm_kernel_options *o, struct vmm_error *err)
{
    if (!vmm_file_given(&o->kernel))
        return vmm_error_set(err, -EINVAL, "kernel: no file is given");
    if (o->format >= VMM_ARRAY_SIZE(format_names))
        return vmm_error_set(err, -EINVAL, "kernel format: there is no number %u", o->format);
    if (o->module_count > VMM_KERNEL_MODULES_MAX)
        return vmm_error_set(err, -E2BIG, "modules: %zu, at most %u", o->module_count,
                             VMM_KERNEL_MODULES_MAX);
    if (o->module_count && !o->modules)
        return vmm_error_set(err, -EINVAL, "modules: a number but no table");
    if (o->random_seed_length > VMM_KERNEL_SEED_MAX)
        return vmm_error_set(err, -E2BIG, "random seed: %zu bytes, at most %u",
                             o->random_seed_length, VMM_KERNEL_SEED_MAX);
    if (o->random_seed && o->random_seed_length == 0)
        return vmm_error_set(err, -EINVAL, "random seed: it is empty");
    if (!o->device_tree)
        return 0;
    const uint8_t *tree = o->device_tree;
    if (o->device_tree_length < 40 || o->device_tree_length > VMM_KERNEL_TREE_MAX ||
        memcmp(tree, "\xd0\x0d\xfe\xed", 4) != 0)
        return vmm_error_set(err, -EINVAL,
                             "device tree: not a flattened device tree of 40 bytes "
                             "to 2 MiB");
    uint32_t total; /* big-endian */
    memcpy(&total, tree + 4, sizeof(total));
    if (be32toh(total) > o->device_tree_length)
        return vmm_error_set(err, -EINVAL, "device tree: totalsize is more than its length");
    return 0;
}

static int open_files(struct vmm_load *load)
{
    int rc = vmm_source_open(&load->kernel, "kernel", &load->options.kernel, load->err);
    if (!rc && vmm_file_given(&load->options.initrd))
        rc = vmm_source_open(&load->initrd, "initrd", &load->options.initrd, load->err);
    return rc;
}

int vmm_kernel_load(struct vmm_memory *memory, const struct vmm_kernel_options *options,
                    struct vmm_boot_state *state, struct vmm_error *err)
{
    if (!memory || !options || !state)
        return vmm_error_set(err, -EINVAL, "kernel: memory, options and state must be given");
    struct vmm_load load = {.memory = memory,
                            .kernel = VMM_SOURCE_NONE,
                            .initrd = VMM_SOURCE_NONE,
                            .state = VMM_BOOT_STATE_INIT,
                            .err = err};
    int rc = vmm_options_copy(&load.options, sizeof(load.options), options);
    if (rc)
        return vmm_error_set(err, rc, "kernel options: from a newer header than this library");
    load.command_line = load.options.command_line ? load.options.command_line : "";
    rc = check_options(&load.options, err);
    if (!rc)
        rc = vmm_layout_init(&load.layout, memory, load.options.memory_map,
                             load.options.memory_map_count, err);
    if (!rc)
        rc = open_files(&load);
    if (!rc)
        rc = vmm_arch_kernel_load(&load);
    if (!rc && vmm_info_copy(state, &load.state, sizeof(load.state)) != 0)
        rc = vmm_error_set(err, -EINVAL, "boot state: its size is not set");
    vmm_source_close(&load.kernel);
    vmm_source_close(&load.initrd);
    vmm_layout_fini(&load.layout);
    return rc;
}
