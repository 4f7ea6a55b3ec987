/* SPDX-License-Identifier: BSD-3-Clause */
/* Multiboot kernels, both versions: finding the header, the image, the entry. Specifications: "The
 * Multiboot Specification" 0.6.96 and "The Multiboot2 Specification" 2.0 (MB1 and MB2 below). */
#include "loader/x86/multiboot.h"

#include "base/util.h"

#include <stdlib.h>

/* What the kernel finds in eax: MB1 3.2, MB2 3.3. */
#define EAX_MULTIBOOT1 0x2badb002u
#define EAX_MULTIBOOT2 0x36d76289u

static int read_head(struct vmm_load *load, struct vmm_multiboot *mb)
{
    memset(mb, 0, sizeof(*mb));
    mb->head_length = load->kernel.length < VMM_MULTIBOOT2_SEARCH ? (size_t)load->kernel.length
                                                                  : VMM_MULTIBOOT2_SEARCH;
    mb->head = malloc(mb->head_length);
    if (!mb->head)
        return vmm_error_set(load->err, -ENOMEM, "out of memory");
    int rc =
        vmm_source_read(&load->kernel, 0, mb->head, mb->head_length, "the first bytes", load->err);
    if (rc)
        return rc;
    if (vmm_multiboot2_find(mb->head, mb->head_length, &mb->header))
        mb->version = 2;
    else if (vmm_multiboot1_find(mb->head, mb->head_length, &mb->header))
        mb->version = 1;
    return 0;
}

int vmm_multiboot_version(struct vmm_load *load)
{
    struct vmm_multiboot mb;
    int rc = read_head(load, &mb);
    free(mb.head);
    return rc ? 0 : (int)mb.version;
}

static int bad(struct vmm_load *load, const char *field, uint64_t value, const char *why)
{
    return vmm_error_set(load->err, -ENOEXEC, "Multiboot header: %s is 0x%llx: %s", field,
                         (unsigned long long)value, why);
}

/* Where an image linked for [mb->low, mb->last] goes: there, or (MB2 3.1.10, relocatable tag) where
 * the tag allows. */
static int choose_base(struct vmm_load *load, struct vmm_multiboot *mb)
{
    uint64_t length = mb->last - mb->low + 1;
    bool anywhere = mb->preference == 0;
    if (!mb->relocatable ||
        (anywhere && mb->low >= mb->min_address && mb->last <= mb->max_address &&
         (mb->low & (mb->align - 1)) == 0 && vmm_layout_free(&load->layout, mb->low, length)))
        return 0;
    /* Never on the first page: address 0 is "nothing" to many. */
    uint64_t low = mb->min_address < 0x1000 ? 0x1000 : mb->min_address;
    struct vmm_place place = {length, mb->align, low, mb->max_address, mb->preference == 2};
    uint64_t base;
    int rc = vmm_layout_find(&load->layout, &place, &base, load->err,
                             "kernel (Multiboot 2 relocatable tag)");
    if (rc)
        return rc;
    load->layout.claim_count--; /* the segments are claimed one by one */
    mb->delta = base - mb->low;
    mb->low = base;
    mb->last = base + (length - 1);
    return 0;
}

/* MB1 3.1.3, MB2 3.1.5. */
static int load_by_addresses(struct vmm_load *load, struct vmm_multiboot *mb)
{
    uint64_t length = load->kernel.length, offset = 0, start = mb->load_address;
    if (mb->version == 2 && mb->load_address == UINT32_MAX) { /* from the beginning of the file */
        if (mb->header_address < mb->header)
            return bad(load, "header_addr", mb->header_address, "less than its offset in the file");
        start = mb->header_address - mb->header;
    } else {
        if (mb->header_address < mb->load_address)
            return bad(load, "header_addr", mb->header_address, "less than load_addr");
        uint64_t before = mb->header_address - mb->load_address;
        if (before > mb->header)
            return bad(load, "load_addr", mb->load_address,
                       "the image would begin before the file does");
        offset = mb->header - before;
    }
    length -= offset;
    if (mb->load_end) {
        if (mb->load_end <= start)
            return bad(load, "load_end_addr", mb->load_end, "not above load_addr");
        if (mb->load_end - start > length)
            return bad(load, "load_end_addr", mb->load_end, "the file is shorter");
        length = mb->load_end - start;
    }
    uint64_t end = start + length; /* no wrap: the file's length is far below 2^63 */
    if (mb->bss_end) {
        if (mb->bss_end < end)
            return bad(load, "bss_end_addr", mb->bss_end, "below the end of the loaded part");
        end = mb->bss_end;
    }
    mb->low = start;
    mb->last = end - 1;
    int rc = choose_base(load, mb);
    if (!rc)
        rc = vmm_layout_claim(&load->layout, mb->low, end - start, load->err,
                              "Multiboot image (load_addr to bss_end_addr)");
    if (!rc)
        rc = vmm_source_load(&load->kernel, offset, length, load->memory, mb->low,
                             "the Multiboot image", load->err);
    if (!rc)
        rc = vmm_memory_fill(load->memory, mb->low + length, 0, end - start - length);
    return rc;
}

static int load_elf(struct vmm_load *load, struct vmm_multiboot *mb, uint64_t *entry)
{
    struct vmm_elf elf;
    int rc = vmm_elf_open(&elf, &load->kernel, load->err);
    if (rc)
        return rc;
    mb->low = elf.low;
    mb->last = elf.last;
    if (elf.machine != VMM_ELF_MACHINE_386 && elf.machine != VMM_ELF_MACHINE_X86_64)
        rc = vmm_error_set(load->err, -ENOTSUP, "%s: ELF header: e_machine is %u, not x86",
                           load->kernel.name, elf.machine);
    if (!rc && !mb->has_entry)
        rc = vmm_elf_physical_entry(&elf, entry, load->err);
    if (!rc)
        rc = choose_base(load, mb);
    if (!rc)
        rc = vmm_elf_claim(&elf, &load->layout, mb->delta, load->err);
    if (!rc)
        rc = vmm_elf_load(&elf, load->memory, mb->delta, load->err);
    vmm_elf_close(&elf);
    return rc;
}

int vmm_multiboot_image(struct vmm_load *load, struct vmm_multiboot *mb, uint64_t *entry)
{
    int rc;
    *entry = mb->entry;
    if (mb->has_addresses)
        rc = load_by_addresses(load, mb);
    else if (vmm_elf_magic(mb->head, mb->head_length))
        rc = load_elf(load, mb, entry);
    else
        rc = vmm_error_set(load->err, -ENOEXEC,
                           "Multiboot header: neither addresses in the header nor an ELF file");
    if (rc)
        return rc;
    *entry += mb->delta;
    if (mb->last > VMM_X86_4G_END)
        return bad(load, "the image's end", mb->last, "above 4 GiB");
    if (*entry < mb->low || *entry > mb->last)
        return bad(load, "entry_addr", *entry, "outside of the image");
    return 0;
}

static int load_version(struct vmm_load *load, struct vmm_multiboot *mb)
{
    uint64_t entry;
    struct vmm_x86_modules modules;
    struct vmm_x86_boot boot;
    int rc = mb->version == 2 ? vmm_multiboot2_parse(load, mb) : vmm_multiboot1_parse(load, mb);
    if (!rc)
        rc = vmm_multiboot_image(load, mb, &entry);
    if (!rc)
        rc = vmm_x86_load_modules(load, mb->last + 1, &modules);
    if (!rc)
        rc = mb->version == 2 ? vmm_multiboot2_info(load, mb, &modules)
                              : vmm_multiboot1_info(load, &modules);
    if (!rc)
        rc = vmm_x86_enter_protected(load, &boot, entry, false);
    if (rc)
        return rc;
    boot.regs.rax = mb->version == 2 ? EAX_MULTIBOOT2 : EAX_MULTIBOOT1;
    boot.regs.rbx = load->state.info_address;
    load->state.protocol = mb->version;
    load->state.kernel_address = mb->low;
    load->state.kernel_length = mb->last - mb->low + 1;
    vmm_x86_boot_put(load, &boot);
    return 0;
}

int vmm_multiboot_load(struct vmm_load *load)
{
    if (load->options.load_address)
        return vmm_error_set(load->err, -EINVAL,
                             "load address: a Multiboot kernel goes where its headers say");
    int rc = vmm_x86_refuse_setup_data(load);
    if (!rc)
        rc = vmm_load_check_command_line(load, VMM_KERNEL_COMMAND_LINE_MAX);
    if (rc)
        return rc;
    struct vmm_multiboot mb;
    rc = read_head(load, &mb);
    if (!rc && mb.version == 0)
        rc = vmm_error_set(load->err, -ENOEXEC,
                           "kernel: no Multiboot header in its first 32 KiB (magic, checksum)");
    if (!rc)
        rc = load_version(load, &mb);
    free(mb.head);
    return rc;
}
