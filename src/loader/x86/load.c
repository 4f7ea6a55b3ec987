/* SPDX-License-Identifier: BSD-3-Clause */
/* Which x86 format the kernel is, and who loads it. */
#include "base/util.h"
#include "loader/x86/boot.h"

/* AUTO for ELF files. */
static int detect_elf(struct vmm_load *load)
{
    struct vmm_elf elf;
    int rc = vmm_elf_open(&elf, &load->kernel, load->err);
    if (rc)
        return rc;
    uint32_t entry;
    rc = vmm_pvh_entry(&elf, &entry, load->err);
    bool is64 = elf.is64 && elf.machine == VMM_ELF_MACHINE_X86_64;
    vmm_elf_close(&elf);
    if (rc < 0)
        return rc;
    if (rc == 1)
        load->options.format = VMM_KERNEL_PVH;
    else if (vmm_multiboot_version(load))
        load->options.format = VMM_KERNEL_MULTIBOOT;
    else if (is64)
        load->options.format = VMM_KERNEL_LINUX64;
    else
        return vmm_error_set(load->err, -ENOEXEC,
                             "kernel: an ELF file with neither a PVH note nor a Multiboot header, "
                             "and not of x86-64");
    return 0;
}

static int detect(struct vmm_load *load, const uint8_t *head, size_t length)
{
    if (vmm_bzimage_magic(head, length))
        load->options.format = VMM_KERNEL_BZIMAGE;
    else if (vmm_elf_magic(head, length))
        return detect_elf(load);
    else if (vmm_multiboot_version(load))
        load->options.format = VMM_KERNEL_MULTIBOOT;
    else
        return vmm_error_set(load->err, -ENOEXEC,
                             "kernel: neither a bzImage nor ELF nor Multiboot; a flat binary's "
                             "format is named (flat16, flat32, flat64)");
    return 0;
}

static int load_elf(struct vmm_load *load, bool is_bzimage)
{
    if (load->options.load_address)
        return vmm_error_set(load->err, -EINVAL,
                             "load address: an ELF kernel goes where its program headers say");
    if (is_bzimage)
        return vmm_error_set(load->err, -ENOEXEC,
                             "kernel: a bzImage, which %s cannot enter; let it be unpacked, or use "
                             "format bzimage",
                             vmm_kernel_format_name(load->options.format));
    struct vmm_elf elf;
    int rc = vmm_elf_open(&elf, &load->kernel, load->err);
    if (rc)
        return rc;
    rc = load->options.format == VMM_KERNEL_PVH ? vmm_pvh_load(load, &elf)
                                                : vmm_linux64_load(load, &elf, NULL);
    vmm_elf_close(&elf);
    return rc;
}

static int dispatch(struct vmm_load *load, bool is_bzimage)
{
    uint32_t format = load->options.format;
    if (load->options.unpack && is_bzimage && format <= VMM_KERNEL_LINUX64)
        return vmm_bzimage_load(load);
    switch (format) {
    case VMM_KERNEL_BZIMAGE:
    case VMM_KERNEL_BZIMAGE32:
    case VMM_KERNEL_BZIMAGE64:
        return vmm_bzimage_load(load);
    case VMM_KERNEL_FLAT16:
    case VMM_KERNEL_FLAT32:
    case VMM_KERNEL_FLAT64:
        return vmm_flat_load(load);
    case VMM_KERNEL_IMAGE:
        return vmm_error_set(load->err, -ENOTSUP, "kernel format image: not of x86");
    default:
        break;
    }
    if (load->options.unpack)
        return vmm_error_set(load->err, -EINVAL, "unpack: the kernel file is not a bzImage");
    return format == VMM_KERNEL_MULTIBOOT ? vmm_multiboot_load(load) : load_elf(load, is_bzimage);
}

int vmm_arch_kernel_load(struct vmm_load *load)
{
    uint8_t head[0x208] = {0};
    size_t length = load->kernel.length < sizeof(head) ? (size_t)load->kernel.length : sizeof(head);
    int rc = vmm_source_read(&load->kernel, 0, head, length, "the first bytes", load->err);
    if (rc)
        return rc;
    bool is_bzimage = vmm_bzimage_magic(head, length);
    if (load->options.format == VMM_KERNEL_AUTO) {
        rc = detect(load, head, length);
        if (rc)
            return rc;
    }
    rc = dispatch(load, is_bzimage);
    load->state.format = load->options.format;
    return rc;
}
