/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Linux's arm64 Image (Documentation/arm64/booting.rst): plain, packed by gzip, or in the self-unpacking EFI
 * program that kernels with EFI_ZBOOT are (drivers/firmware/efi/libstub/zboot-header.S); and flat binaries.
 */
#include "loader/load.h"
#include "base/util.h"

#include <libfdt.h>
#include <stdlib.h>

#define MIB UINT64_C(0x100000)

#define HEAD_SIZE         64u
#define IMAGE_TEXT_OFFSET 8u
#define IMAGE_SIZE        16u
#define IMAGE_FLAGS       24u
#define IMAGE_MAGIC       56u
#define FLAG_BIG_ENDIAN   1u

#define OLD_TEXT_OFFSET 0x80000u /* before 3.17, when image_size was 0 */

#define KERNEL_ALIGN (2 * MIB)
#define TREE_ALIGN   (2 * MIB) /* at most 2 MiB, and so within one block of that size */
#define TREE_ROOM    8192u     /* for /chosen, and the command line's length beside it */

static bool is_image(const uint8_t *head)
{
    return memcmp(head + IMAGE_MAGIC, "ARM\x64", 4) == 0;
}

static bool is_gzip(const uint8_t *head)
{
    return head[0] == 0x1f && head[1] == 0x8b;
}

static bool is_zboot(const uint8_t *head)
{
    return memcmp(head, "MZ", 2) == 0 && memcmp(head + 4, "zimg", 4) == 0;
}

static int read_head(struct vmm_load *load, uint8_t head[HEAD_SIZE])
{
    if (load->kernel.length < HEAD_SIZE)
        return vmm_error_set(load->err, -ENOEXEC, "kernel: %llu bytes are no arm64 Image",
                             (unsigned long long)load->kernel.length);
    return vmm_source_read(&load->kernel, 0, head, HEAD_SIZE, "the first bytes", load->err);
}

/* Until it is an Image: a gzip file, or what zboot's header says. */
static int unpack(struct vmm_load *load, uint8_t head[HEAD_SIZE])
{
    int rc = read_head(load, head);
    for (int layer = 0; layer < 2 && !rc && !is_image(head); layer++) {
        if (is_gzip(head))
            rc = vmm_load_unpack(load, 0, load->kernel.length);
        else if (is_zboot(head))
            rc = vmm_load_unpack(load, vmm_load_le32(head + 8), vmm_load_le32(head + 12));
        else
            break;
        if (!rc)
            rc = read_head(load, head);
    }
    if (!rc && !is_image(head))
        rc = vmm_error_set(
            load->err, -ENOEXEC,
            "kernel: no arm64 Image, neither plain nor packed by gzip or EFI zboot; a "
            "flat binary's format is named (flat64)");
    return rc;
}

/* Where the memory map has RAM at all. */
static int first_ram(struct vmm_load *load, uint64_t *address)
{
    if (load->layout.ram_count == 0)
        return vmm_error_set(load->err, -ENOMEM, "kernel: the guest has no RAM");
    *address = load->layout.ram[0].start;
    return 0;
}

static int place_image(struct vmm_load *load, const uint8_t *head)
{
    uint64_t offset = vmm_load_le64(head + IMAGE_TEXT_OFFSET),
             size = vmm_load_le64(head + IMAGE_SIZE);
    uint64_t ram = 0;
    int rc = first_ram(load, &ram);
    if (rc)
        return rc;
    if (vmm_load_le64(head + IMAGE_FLAGS) & FLAG_BIG_ENDIAN)
        return vmm_error_set(load->err, -ENOTSUP, "kernel: a big-endian Image");
    if (size == 0)
        offset = OLD_TEXT_OFFSET;
    if (offset >= KERNEL_ALIGN || offset % 4096 || size > UINT64_C(1) << 40)
        return vmm_error_set(load->err, -ENOEXEC,
                             "kernel: text_offset 0x%llx or image_size 0x%llx makes no sense",
                             (unsigned long long)offset, (unsigned long long)size);
    size = size > load->kernel.length ? size : load->kernel.length;
    uint64_t at = vmm_align_up(ram, KERNEL_ALIGN) + offset;
    rc = vmm_layout_claim(&load->layout, at, size, load->err, "kernel");
    if (!rc)
        rc = vmm_source_load(&load->kernel, 0, load->kernel.length, load->memory, at, "kernel",
                             load->err);
    load->state.entry = load->state.kernel_address = at;
    load->state.kernel_length = size;
    return rc;
}

/* "within a region of 1 GB, aligned to 1 GB" holds for nothing newer than 4.2; near the kernel it is anyway. */
static int place_initrd(struct vmm_load *load)
{
    const struct vmm_place place = {.length = load->initrd.length,
                                    .align = 4096,
                                    .low = load->state.kernel_address,
                                    .high = load->state.kernel_address + (UINT64_C(32) << 30),
                                    .top = false};
    if (load->initrd.length == 0)
        return 0;
    int rc =
        vmm_layout_find(&load->layout, &place, &load->state.initrd_address, load->err, "initrd");
    if (!rc)
        rc = vmm_source_load(&load->initrd, 0, load->initrd.length, load->memory,
                             load->state.initrd_address, "initrd", load->err);
    load->state.initrd_length = load->initrd.length;
    return rc;
}

/* Device tree ---------------------------------------------------------------------------------- */

static int put_range_end(void *tree, int chosen, const char *start_name, const char *end_name,
                         uint64_t start, uint64_t length)
{
    int rc = fdt_setprop_u64(tree, chosen, start_name, start);
    return rc ? rc : fdt_setprop_u64(tree, chosen, end_name, start + length);
}

/* What the kernel is told besides its hardware: command line, initrd, random bytes. */
static int fill_chosen(struct vmm_load *load, void *tree)
{
    const struct vmm_kernel_options *o = &load->options;
    int chosen = fdt_path_offset(tree, "/chosen");
    if (chosen == -FDT_ERR_NOTFOUND)
        chosen = fdt_add_subnode(tree, 0, "chosen");
    if (chosen < 0)
        return chosen;
    int rc = fdt_setprop(tree, chosen, "bootargs", load->command_line,
                         (int)strlen(load->command_line) + 1);
    if (!rc && load->state.initrd_length)
        rc = put_range_end(tree, chosen, "linux,initrd-start", "linux,initrd-end",
                           load->state.initrd_address, load->state.initrd_length);
    if (!rc && o->random_seed)
        rc = fdt_setprop(tree, chosen, "rng-seed", o->random_seed, (int)o->random_seed_length);
    if (!rc && o->random_seed && o->random_seed_length >= 8)
        rc = fdt_setprop(tree, chosen, "kaslr-seed", o->random_seed, 8);
    return rc;
}

static int place_tree(struct vmm_load *load)
{
    const struct vmm_kernel_options *o = &load->options;
    if (!o->device_tree)
        return vmm_error_set(load->err, -EINVAL, "kernel: an arm64 kernel needs a device tree");
    size_t room =
        o->device_tree_length + strlen(load->command_line) + o->random_seed_length + TREE_ROOM;
    void *tree = malloc(room);
    if (!tree)
        return vmm_error_set(load->err, -ENOMEM, "out of memory");
    int rc = fdt_check_full(o->device_tree, o->device_tree_length);
    if (!rc)
        rc = fdt_open_into(o->device_tree, tree, (int)room);
    if (!rc)
        rc = fill_chosen(load, tree);
    if (!rc)
        rc = fdt_pack(tree);
    size_t length = rc ? 0 : fdt_totalsize(tree);
    if (rc || length > VMM_KERNEL_TREE_MAX) {
        free(tree);
        return vmm_error_set(load->err, -EINVAL, "device tree: %s",
                             rc ? fdt_strerror(rc) : "with what is added more than 2 MiB");
    }
    const struct vmm_place place = {.length = length,
                                    .align = TREE_ALIGN,
                                    .low = load->state.kernel_address,
                                    .high = UINT64_MAX,
                                    .top = false};
    rc =
        vmm_layout_find(&load->layout, &place, &load->state.info_address, load->err, "device tree");
    if (!rc)
        rc = vmm_load_write(load, load->state.info_address, tree, length, "device tree");
    free(tree);
    return rc;
}

/* All of it ------------------------------------------------------------------------------------ */

static int load_image(struct vmm_load *load)
{
    uint8_t head[HEAD_SIZE];
    if (load->options.module_count)
        return vmm_error_set(load->err, -EINVAL, "modules: Linux takes none");
    if (load->options.load_address)
        return vmm_error_set(load->err, -EINVAL,
                             "load address: an Image goes where its header says");
    int rc = vmm_load_check_command_line(load, VMM_KERNEL_COMMAND_LINE_MAX);
    if (!rc)
        rc = unpack(load, head);
    if (!rc)
        rc = place_image(load, head);
    if (!rc)
        rc = place_initrd(load);
    if (!rc)
        rc = place_tree(load);
    load->state.registers[0] = load->state.info_address; /* x0 */
    return rc;
}

/* Entered as a kernel is, but without a device tree; at the start of RAM if nothing else is said. */
static int load_flat(struct vmm_load *load)
{
    uint64_t at = load->options.load_address;
    int rc = at ? 0 : first_ram(load, &at);
    if (!rc && (vmm_file_given(&load->options.initrd) || load->options.module_count ||
                load->command_line[0]))
        rc = vmm_error_set(load->err, -EINVAL,
                           "flat binaries take no initrd, modules or command line");
    if (!rc)
        rc = vmm_layout_claim(&load->layout, at, load->kernel.length, load->err, "flat binary");
    if (!rc)
        rc = vmm_source_load(&load->kernel, 0, load->kernel.length, load->memory, at, "flat binary",
                             load->err);
    load->state.entry = load->state.kernel_address = at;
    load->state.kernel_length = load->kernel.length;
    return rc;
}

int vmm_arch_kernel_load(struct vmm_load *load)
{
    if (load->options.format == VMM_KERNEL_AUTO)
        load->options.format = VMM_KERNEL_IMAGE;
    load->state.format = load->options.format;
    switch (load->options.format) {
    case VMM_KERNEL_IMAGE:
        return load_image(load);
    case VMM_KERNEL_FLAT64:
        return load_flat(load);
    default:
        return vmm_error_set(load->err, -ENOTSUP, "kernel format %s: not of arm64",
                             vmm_kernel_format_name(load->options.format));
    }
}
