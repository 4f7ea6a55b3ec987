/* SPDX-License-Identifier: BSD-3-Clause */
/* Linux bzImage. Linux, Documentation/arch/x86/boot.rst. */
#include "base/util.h"
#include "loader/x86/boot.h"

/* Offsets in the file. */
#define SETUP_SECTS        0x1f1
#define SYSSIZE            0x1f4
#define BOOT_FLAG          0x1fe
#define JUMP               0x200
#define HEADER_MAGIC       0x202
#define VERSION            0x206
#define LOADFLAGS          0x211
#define CODE32_START       0x214
#define INITRD_ADDR_MAX    0x22c
#define KERNEL_ALIGNMENT   0x230
#define RELOCATABLE_KERNEL 0x234
#define XLOADFLAGS         0x236
#define CMDLINE_SIZE       0x238
#define PAYLOAD_OFFSET     0x248
#define PAYLOAD_LENGTH     0x24c
#define PREF_ADDRESS       0x258
#define INIT_SIZE          0x260

#define LOADED_HIGH           0x01u
#define XLF_KERNEL_64         0x01u
#define XLF_LOADABLE_ABOVE_4G 0x02u
#define DEFAULT_SETUP_SECTS   4u
#define DEFAULT_ADDRESS       0x100000ull
#define DEFAULT_INITRD_MAX    0x37ffffffu
#define DEFAULT_COMMAND_LINE  255u
#define ENTRY_64_OFFSET       0x200u

struct bzimage {
    struct vmm_linux lx;
    uint64_t offset; /* of the protected-mode part in the file */
    uint64_t length;
    bool relocatable;
    bool has_entry64;
    uint64_t alignment; /* 1 where the protocol has none */
    uint64_t preferred; /* 0: the protocol does not say */
    uint64_t init_size;
    uint64_t payload_offset; /* in the file */
    uint64_t payload_length; /* 0: the protocol does not say */
};

bool vmm_bzimage_magic(const uint8_t *head, size_t length)
{
    return length >= VERSION + 2 && vmm_load_le16(head + BOOT_FLAG) == 0xaa55 &&
           memcmp(head + HEADER_MAGIC, "HdrS", 4) == 0;
}

static int bad(struct vmm_load *load, const char *field, uint64_t value, const char *why)
{
    return vmm_error_set(load->err, -ENOEXEC, "bzImage: %s is 0x%llx: %s", field,
                         (unsigned long long)value, why);
}

/* The setup header, cut to its own length: fields beyond it read as zero. */
static int read_header(struct vmm_load *load, struct bzimage *bz)
{
    uint8_t *h = bz->lx.header;
    uint8_t raw[VMM_LINUX_HEADER_MAX + 1];
    int rc = vmm_source_read(&load->kernel, 0, raw, VERSION + 2, "the setup header", load->err);
    if (rc)
        return rc;
    if (vmm_load_le16(raw + BOOT_FLAG) != 0xaa55)
        return bad(load, "boot_flag", vmm_load_le16(raw + BOOT_FLAG), "not 0xaa55; no bzImage");
    if (memcmp(raw + HEADER_MAGIC, "HdrS", 4) != 0)
        return bad(load, "header", vmm_load_le32(raw + HEADER_MAGIC),
                   "not \"HdrS\"; no bzImage, or one from before boot protocol 2.00");
    /* "The end of setup header can be calculated as 0x0202 + byte value at offset 0x0201". */
    size_t end = HEADER_MAGIC + (size_t)raw[JUMP + 1];
    if (end > VMM_LINUX_HEADER_MAX + 1)
        end = VMM_LINUX_HEADER_MAX + 1;
    if (end < VERSION + 2)
        return bad(load, "jump", raw[JUMP + 1], "the setup header ends before its version");
    rc = vmm_source_read(&load->kernel, 0, raw, end, "the setup header", load->err);
    if (rc)
        return rc;
    memcpy(h + VMM_LINUX_HEADER_OFFSET, raw + VMM_LINUX_HEADER_OFFSET,
           end - VMM_LINUX_HEADER_OFFSET);
    bz->lx.version = vmm_load_le16(h + VERSION);
    if (bz->lx.version < 0x200 || bz->lx.version >= 0x300)
        return bad(load, "version", bz->lx.version, "not a boot protocol 2.xx");
    return 0;
}

/* The protected-mode part: what stands behind the setup sectors. */
static int find_code(struct vmm_load *load, struct bzimage *bz)
{
    const uint8_t *h = bz->lx.header;
    if (!(h[LOADFLAGS] & LOADED_HIGH))
        return vmm_error_set(load->err, -ENOTSUP,
                             "bzImage: loadflags bit 0 (LOADED_HIGH) is clear: a zImage, which is "
                             "not supported");
    uint32_t sectors = h[SETUP_SECTS] ? h[SETUP_SECTS] : DEFAULT_SETUP_SECTS;
    bz->offset = (sectors + 1) * 512ull;
    if (bz->offset >= load->kernel.length)
        return bad(load, "setup_sects", h[SETUP_SECTS], "the file ends before the kernel's code");
    bz->length = load->kernel.length - bz->offset;
    if (bz->lx.version >= 0x204) {
        uint64_t size = 16ull * vmm_load_le32(h + SYSSIZE);
        /* It counts paragraphs, the last one may be incomplete. */
        if (size == 0 || size > bz->length + 15)
            return bad(load, "syssize", size / 16,
                       size ? "the file is truncated" : "there is no code");
        if (size < bz->length)
            bz->length = size; /* what follows is a signature or padding */
    }
    if (bz->length <= ENTRY_64_OFFSET)
        return bad(load, "syssize", bz->length / 16, "too short for a kernel");
    return 0;
}

static int read_placement(struct vmm_load *load, struct bzimage *bz)
{
    const uint8_t *h = bz->lx.header;
    uint32_t version = bz->lx.version;
    bz->alignment = 1;
    if (version >= 0x205) {
        bz->relocatable = h[RELOCATABLE_KERNEL] != 0;
        bz->alignment = vmm_load_le32(h + KERNEL_ALIGNMENT);
        if (!vmm_is_power_of_two(bz->alignment) && (bz->relocatable || bz->alignment))
            return bad(load, "kernel_alignment", bz->alignment, "not a power of two");
        if (bz->alignment == 0)
            bz->alignment = 1;
    }
    if (version >= 0x20a) {
        bz->preferred = vmm_load_le64(h + PREF_ADDRESS);
        bz->init_size = vmm_load_le32(h + INIT_SIZE);
        if (bz->preferred > VMM_X86_4G_END)
            return bad(load, "pref_address", bz->preferred, "above 4 GiB");
    }
    bz->has_entry64 = version >= 0x20c && (vmm_load_le16(h + XLOADFLAGS) & XLF_KERNEL_64);
    return 0;
}

static void read_limits(struct bzimage *bz)
{
    const uint8_t *h = bz->lx.header;
    uint32_t version = bz->lx.version;
    bz->lx.initrd_last = version >= 0x203 ? vmm_load_le32(h + INITRD_ADDR_MAX) : DEFAULT_INITRD_MAX;
    bz->lx.initrd_above_4g =
        bz->has_entry64 && (vmm_load_le16(h + XLOADFLAGS) & XLF_LOADABLE_ABOVE_4G);
    bz->lx.command_line_max =
        version >= 0x206 ? vmm_load_le32(h + CMDLINE_SIZE) : DEFAULT_COMMAND_LINE;
    /* The old protocol's 16-bit offset, and sense. */
    uint64_t most = version >= 0x202 ? VMM_KERNEL_COMMAND_LINE_MAX : 60000;
    if (bz->lx.command_line_max > most)
        bz->lx.command_line_max = most;
}

static int read_payload(struct vmm_load *load, struct bzimage *bz)
{
    const uint8_t *h = bz->lx.header;
    if (bz->lx.version < 0x208)
        return 0;
    uint64_t offset = vmm_load_le32(h + PAYLOAD_OFFSET);
    bz->payload_length = vmm_load_le32(h + PAYLOAD_LENGTH);
    bz->payload_offset = bz->offset + offset;
    if (offset > bz->length || bz->payload_length > bz->length - offset)
        return bad(load, "payload_offset + payload_length", offset + bz->payload_length,
                   "beyond the kernel's code");
    return 0;
}

static int parse(struct vmm_load *load, struct bzimage *bz)
{
    memset(bz, 0, sizeof(*bz));
    int rc = read_header(load, bz);
    if (!rc)
        rc = find_code(load, bz);
    if (!rc)
        rc = read_placement(load, bz);
    if (!rc)
        read_limits(bz);
    return rc;
}

/* The memory from `at` that the kernel may use before it has read the memory map: the file's code,
 * and where it unpacks itself to ("runtime_start" in boot.rst, init_size). */
static void footprint(const struct bzimage *bz, uint64_t at, uint64_t *start, uint64_t *length)
{
    uint64_t last = at + bz->length - 1;
    *start = at;
    if (bz->init_size) {
        uint64_t run = bz->preferred;
        if (bz->relocatable && at >= run)
            run = vmm_align_up(at, bz->alignment);
        if (run < *start)
            *start = run;
        if (run + bz->init_size - 1 > last)
            last = run + bz->init_size - 1;
    }
    *length = last - *start + 1;
}

static int place_relocatable(struct vmm_load *load, const struct bzimage *bz, uint64_t *at)
{
    uint64_t want = load->options.load_address;
    uint64_t start, length;
    if (want) {
        if (want & (bz->alignment - 1))
            return vmm_error_set(
                load->err, -EINVAL,
                "load address: 0x%llx is not a multiple of kernel_alignment 0x%llx",
                (unsigned long long)want, (unsigned long long)bz->alignment);
        *at = want;
        return 0;
    }
    *at = bz->preferred ? bz->preferred : DEFAULT_ADDRESS;
    footprint(bz, *at, &start, &length);
    if (vmm_layout_free(&load->layout, start, length))
        return 0;
    /* Elsewhere, but not below: it would move itself up to the preferred address again. */
    struct vmm_layout *layout = &load->layout;
    footprint(bz, vmm_align_up(*at, bz->alignment), &start, &length);
    struct vmm_place place = {length, bz->alignment, *at, VMM_X86_4G_END, false};
    uint64_t found;
    int rc = vmm_layout_find(layout, &place, &found, load->err,
                             "kernel (init_size 0x%llx, from pref_address 0x%llx)",
                             (unsigned long long)bz->init_size, (unsigned long long)*at);
    if (!rc) {
        *at = found;
        layout->claim_count--; /* the caller claims it */
    }
    return rc;
}

static int place_kernel(struct vmm_load *load, const struct bzimage *bz, uint64_t *at)
{
    if (bz->relocatable) {
        int rc = place_relocatable(load, bz, at);
        if (rc)
            return rc;
    } else {
        if (load->options.load_address)
            return vmm_error_set(load->err, -EINVAL,
                                 "load address: this bzImage is not relocatable "
                                 "(relocatable_kernel)");
        *at = vmm_load_le32(bz->lx.header + CODE32_START);
        if (*at == 0)
            *at = DEFAULT_ADDRESS;
    }
    if (*at > VMM_X86_4G_END)
        return vmm_error_set(load->err, -EINVAL, "load address: 0x%llx is above 4 GiB",
                             (unsigned long long)*at);
    uint64_t start, length;
    footprint(bz, *at, &start, &length);
    if (start + (length - 1) > VMM_X86_4G_END)
        return bad(load, "init_size", bz->init_size, "the kernel reaches above 4 GiB");
    load->state.kernel_address = *at;
    load->state.kernel_length = start + length - *at;
    return vmm_layout_claim(&load->layout, start, length, load->err,
                            "kernel (syssize, init_size 0x%llx)",
                            (unsigned long long)bz->init_size);
}

static int choose_entry(struct vmm_load *load, const struct bzimage *bz)
{
    uint32_t *format = &load->options.format;
    if (*format == VMM_KERNEL_BZIMAGE || *format == VMM_KERNEL_AUTO)
        *format = bz->has_entry64 ? VMM_KERNEL_BZIMAGE64 : VMM_KERNEL_BZIMAGE32;
    if (*format == VMM_KERNEL_BZIMAGE64 && !bz->has_entry64)
        return vmm_error_set(load->err, -ENOTSUP,
                             "bzImage: xloadflags bit 0 (XLF_KERNEL_64) is clear or the protocol "
                             "is before 2.12: it has no 64-bit entry; use bzimage32");
    return 0;
}

static int load_unpacked(struct vmm_load *load, struct bzimage *bz)
{
    if (load->options.format == VMM_KERNEL_BZIMAGE32)
        return vmm_error_set(load->err, -EINVAL,
                             "unpack: an unpacked kernel is entered by linux64 or pvh, not by the "
                             "32-bit entry");
    if (load->options.load_address)
        return vmm_error_set(load->err, -EINVAL,
                             "load address: an unpacked kernel goes where its ELF header says");
    int rc = read_payload(load, bz);
    if (rc)
        return rc;
    if (bz->payload_length == 0)
        return vmm_error_set(load->err, -ENOTSUP,
                             "bzImage: payload_length is 0 or the protocol is before 2.08: there "
                             "is no payload to unpack");
    rc = vmm_load_unpack(load, bz->payload_offset, bz->payload_length);
    if (rc)
        return rc;
    struct vmm_elf elf;
    rc = vmm_elf_open(&elf, &load->kernel, load->err);
    if (rc)
        return rc;
    if (load->options.format == VMM_KERNEL_PVH) {
        rc = vmm_pvh_load(load, &elf);
    } else {
        load->options.format = VMM_KERNEL_LINUX64;
        rc = vmm_linux64_load(load, &elf, &bz->lx);
    }
    vmm_elf_close(&elf);
    return rc;
}

int vmm_bzimage_load(struct vmm_load *load)
{
    struct bzimage bz;
    int rc = parse(load, &bz);
    if (rc)
        return rc;
    if (load->options.unpack)
        return load_unpacked(load, &bz);
    rc = choose_entry(load, &bz);
    uint64_t at = 0, zero_page = 0;
    if (!rc)
        rc = place_kernel(load, &bz, &at);
    if (!rc)
        rc = vmm_source_load(&load->kernel, bz.offset, bz.length, load->memory, at,
                             "the kernel's code (syssize)", load->err);
    if (rc)
        return rc;
    vmm_store_le32(bz.lx.header + CODE32_START, (uint32_t)at);
    if (load->options.format == VMM_KERNEL_BZIMAGE32)
        bz.lx.initrd_above_4g = false;
    rc = vmm_linux_parameters(load, &bz.lx, &zero_page);
    struct vmm_x86_boot boot;
    if (!rc)
        rc = load->options.format == VMM_KERNEL_BZIMAGE64
                 ? vmm_x86_enter_long(load, &boot, at + ENTRY_64_OFFSET, false)
                 : vmm_x86_enter_protected(load, &boot, at, false);
    if (rc)
        return rc;
    boot.regs.rsi = zero_page;
    vmm_x86_boot_put(load, &boot);
    return 0;
}
