/* SPDX-License-Identifier: BSD-3-Clause */
/* Multiboot 2: header tags and information tags. "The Multiboot2 Specification" 2.0. */
#include "loader/x86/multiboot.h"

#include "base/util.h"

#define ARCHITECTURE_I386 0u
#define HEADER_SIZE       16u

/* Header tags, 3.1.3 on. */
#define TAG_END           0u
#define TAG_REQUEST       1u
#define TAG_ADDRESS       2u
#define TAG_ENTRY         3u
#define TAG_CONSOLE       4u
#define TAG_FRAMEBUFFER   5u
#define TAG_MODULE_ALIGN  6u
#define TAG_EFI_BOOT      7u
#define TAG_EFI_ENTRY32   8u
#define TAG_EFI_ENTRY64   9u
#define TAG_RELOCATABLE   10u
#define TAG_FLAG_OPTIONAL 1u

/* Information tags, 3.6. */
#define INFO_END          0u
#define INFO_COMMAND_LINE 1u
#define INFO_LOADER_NAME  2u
#define INFO_MODULE       3u
#define INFO_MEMORY       4u
#define INFO_MEMORY_MAP   6u
#define INFO_ACPI_OLD     14u
#define INFO_ACPI_NEW     15u
#define INFO_LOAD_BASE    21u
#define MEMORY_MAP_SIZE   24u

bool vmm_multiboot2_find(const uint8_t *head, size_t length, size_t *at)
{
    for (size_t i = 0; length >= HEADER_SIZE && i <= length - HEADER_SIZE; i += 8) {
        uint32_t magic = vmm_load_le32(head + i);
        if (magic != VMM_MULTIBOOT2_MAGIC)
            continue;
        uint32_t sum = magic + vmm_load_le32(head + i + 4) + vmm_load_le32(head + i + 8);
        if (sum + vmm_load_le32(head + i + 12) == 0) {
            *at = i;
            return true;
        }
    }
    return false;
}

struct tag {
    uint32_t type;
    bool optional;
    const uint8_t *data; /* behind type, flags and size */
    size_t length;
};

static int bad_tag(struct vmm_load *load, const struct tag *tag, const char *why)
{
    return vmm_error_set(load->err, -ENOEXEC, "Multiboot 2 header: tag %u of %zu bytes: %s",
                         tag->type, tag->length + 8, why);
}

static int cannot(struct vmm_load *load, const struct tag *tag, const char *what)
{
    if (tag->optional)
        return 0;
    return vmm_error_set(load->err, -ENOTSUP,
                         "Multiboot 2 header: tag %u requires %s, which is not there", tag->type,
                         what);
}

static bool is_given(uint32_t type)
{
    return type == INFO_COMMAND_LINE || type == INFO_LOADER_NAME || type == INFO_MODULE ||
           type == INFO_MEMORY || type == INFO_MEMORY_MAP || type == INFO_LOAD_BASE;
}

static int parse_request(struct vmm_load *load, struct vmm_multiboot *mb, const struct tag *tag)
{
    for (size_t i = 0; i + 4 <= tag->length; i += 4) {
        uint32_t type = vmm_load_le32(tag->data + i);
        if (is_given(type) || tag->optional)
            continue;
        if (type == INFO_ACPI_OLD || type == INFO_ACPI_NEW) {
            mb->wants_acpi = true;
            continue;
        }
        return vmm_error_set(load->err, -ENOTSUP,
                             "Multiboot 2 header: tag 1 requests information of type %u, which is "
                             "not there",
                             type);
    }
    return 0;
}

static int parse_address(struct vmm_load *load, struct vmm_multiboot *mb, const struct tag *tag)
{
    if (tag->length < 16)
        return bad_tag(load, tag, "too short for the addresses");
    mb->has_addresses = true;
    mb->header_address = vmm_load_le32(tag->data);
    mb->load_address = vmm_load_le32(tag->data + 4);
    mb->load_end = vmm_load_le32(tag->data + 8);
    mb->bss_end = vmm_load_le32(tag->data + 12);
    return 0;
}

static int parse_relocatable(struct vmm_load *load, struct vmm_multiboot *mb, const struct tag *tag)
{
    if (tag->length < 16)
        return bad_tag(load, tag, "too short for a relocatable tag");
    mb->relocatable = true;
    mb->min_address = vmm_load_le32(tag->data);
    mb->max_address = vmm_load_le32(tag->data + 4);
    mb->align = vmm_load_le32(tag->data + 8);
    mb->preference = vmm_load_le32(tag->data + 12);
    if (!vmm_is_power_of_two(mb->align))
        return bad_tag(load, tag, "align is not a power of two");
    if (mb->min_address > mb->max_address)
        return bad_tag(load, tag, "min_addr is above max_addr");
    if (mb->preference > 2)
        return bad_tag(load, tag, "preference is not 0 to 2");
    return 0;
}

static int parse_tag(struct vmm_load *load, struct vmm_multiboot *mb, const struct tag *tag)
{
    switch (tag->type) {
    case TAG_REQUEST:
        return parse_request(load, mb, tag);
    case TAG_ADDRESS:
        return parse_address(load, mb, tag);
    case TAG_ENTRY:
        if (tag->length < 4)
            return bad_tag(load, tag, "too short for entry_addr");
        mb->has_entry = true;
        mb->entry = vmm_load_le32(tag->data);
        return 0;
    case TAG_CONSOLE:
        if (tag->length < 4)
            return bad_tag(load, tag, "too short for console_flags");
        return vmm_load_le32(tag->data) & 1 ? cannot(load, tag, "a console") : 0;
    case TAG_FRAMEBUFFER:
        return cannot(load, tag, "a frame buffer");
    case TAG_RELOCATABLE:
        return parse_relocatable(load, mb, tag);
    case TAG_MODULE_ALIGN: /* modules always are */
    case TAG_EFI_BOOT:     /* these three speak of EFI machines */
    case TAG_EFI_ENTRY32:
    case TAG_EFI_ENTRY64:
        return 0;
    default:
        return cannot(load, tag, "something that libvmm does not know");
    }
}

int vmm_multiboot2_parse(struct vmm_load *load, struct vmm_multiboot *mb)
{
    const uint8_t *h = mb->head + mb->header;
    uint32_t architecture = vmm_load_le32(h + 4), length = vmm_load_le32(h + 8);
    if (architecture != ARCHITECTURE_I386)
        return vmm_error_set(load->err, -ENOTSUP,
                             "Multiboot 2 header: architecture is %u, not 0 (i386)", architecture);
    if (length < HEADER_SIZE || length > mb->head_length - mb->header)
        return vmm_error_set(load->err, -ENOEXEC,
                             "Multiboot 2 header: header_length is 0x%x: not within the first "
                             "32 KiB of the file",
                             length);
    size_t at = HEADER_SIZE;
    while (length - at >= 8) {
        uint32_t size = vmm_load_le32(h + at + 4);
        if (size < 8 || size > length - at)
            return vmm_error_set(load->err, -ENOEXEC,
                                 "Multiboot 2 header: the size of the tag at offset %zu is %u: "
                                 "beyond header_length",
                                 at, size);
        struct tag tag = {vmm_load_le16(h + at),
                          (vmm_load_le16(h + at + 2) & TAG_FLAG_OPTIONAL) != 0, h + at + 8,
                          size - 8};
        if (tag.type == TAG_END)
            break;
        int rc = parse_tag(load, mb, &tag);
        if (rc)
            return rc;
        at = vmm_align_up(at + size, 8);
        if (at > length)
            break;
    }
    if (mb->has_addresses && !mb->has_entry)
        return vmm_error_set(load->err, -ENOEXEC,
                             "Multiboot 2 header: an address tag (2) but no entry tag (3)");
    return 0;
}

static uint8_t *put_tag(struct vmm_x86_blob *blob, uint32_t type, size_t length, uint64_t *address)
{
    uint8_t *tag = vmm_x86_blob_take(blob, 8 + length, 8, address);
    vmm_store_le32(tag, type);
    vmm_store_le32(tag + 4, (uint32_t)(8 + length));
    return tag + 8;
}

static uint64_t put_text(struct vmm_x86_blob *blob, uint32_t type, const char *text)
{
    uint64_t address;
    size_t size = strlen(text) + 1;
    memcpy(put_tag(blob, type, size, &address), text, size);
    return address + 8;
}

static void put_modules(struct vmm_x86_blob *blob, const struct vmm_x86_modules *modules)
{
    for (size_t i = 0; i < modules->count; i++) {
        const struct vmm_x86_module *from = &modules->entries[i];
        size_t size = strlen(from->command_line) + 1;
        uint8_t *m = put_tag(blob, INFO_MODULE, 8 + size, NULL);
        vmm_store_le32(m, (uint32_t)from->address);
        vmm_store_le32(m + 4, (uint32_t)(from->address + from->length));
        memcpy(m + 8, from->command_line, size);
    }
}

static uint32_t kib(uint64_t bytes)
{
    return bytes >> 10 < UINT32_MAX ? (uint32_t)(bytes >> 10) : UINT32_MAX;
}

static void put_memory(struct vmm_x86_blob *blob, const struct vmm_layout *layout)
{
    uint64_t lower = vmm_layout_ram_at(layout, 0);
    uint8_t *m = put_tag(blob, INFO_MEMORY, 8, NULL);
    vmm_store_le32(m, kib(lower < 0xa0000 ? lower : 0xa0000));
    vmm_store_le32(m + 4, kib(vmm_layout_ram_at(layout, 0x100000)));
    uint8_t *e = put_tag(blob, INFO_MEMORY_MAP, 8 + layout->map_count * MEMORY_MAP_SIZE, NULL);
    vmm_store_le32(e, MEMORY_MAP_SIZE);
    e += 8;
    for (size_t i = 0; i < layout->map_count; i++, e += MEMORY_MAP_SIZE) {
        vmm_store_le64(e, layout->map[i].address);
        vmm_store_le64(e + 8, layout->map[i].length);
        vmm_store_le32(e + 16, layout->map[i].type);
    }
}

/* A copy of the RSDP that is in guest memory already: 20 bytes in ACPI 1.0, 36 later. */
static int put_acpi(struct vmm_load *load, struct vmm_x86_blob *blob,
                    const struct vmm_multiboot *mb)
{
    uint64_t address = load->options.acpi_rsdp;
    if (address == 0)
        return mb->wants_acpi ? vmm_error_set(load->err, -ENOTSUP,
                                              "Multiboot 2 header: tag 1 requests the ACPI RSDP, "
                                              "and the board has none")
                              : 0;
    uint8_t rsdp[36] = {0};
    int rc = vmm_memory_read(load->memory, address, rsdp, 20);
    bool is_new = !rc && rsdp[15] >= 2;
    if (is_new)
        rc = vmm_memory_read(load->memory, address, rsdp, sizeof(rsdp));
    if (rc || memcmp(rsdp, "RSD PTR ", 8) != 0)
        return vmm_error_set(load->err, -EINVAL,
                             "ACPI: there is no RSDP at guest address 0x%llx; tables are put into "
                             "memory before the kernel",
                             (unsigned long long)address);
    size_t size = is_new ? sizeof(rsdp) : 20;
    memcpy(put_tag(blob, is_new ? INFO_ACPI_NEW : INFO_ACPI_OLD, size, NULL), rsdp, size);
    return 0;
}

int vmm_multiboot2_info(struct vmm_load *load, const struct vmm_multiboot *mb,
                        const struct vmm_x86_modules *modules)
{
    static const char *const name = "Multiboot 2 information";
    struct vmm_x86_blob blob;
    /* Fixed tags are less than 256 bytes with their padding; each module adds 16 and up to 7. */
    size_t room = 256 + modules->count * 24 + load->layout.map_count * MEMORY_MAP_SIZE +
                  vmm_x86_texts_size(load, modules);
    int rc = vmm_x86_blob_new(load, &blob, room, name);
    if (rc)
        return rc;
    uint8_t *fixed = vmm_x86_blob_take(&blob, 8, 8, &load->state.info_address);
    load->state.command_line_address = put_text(&blob, INFO_COMMAND_LINE, load->command_line);
    put_text(&blob, INFO_LOADER_NAME, "libvmm");
    put_memory(&blob, &load->layout);
    put_modules(&blob, modules);
    if (mb->relocatable)
        vmm_store_le32(put_tag(&blob, INFO_LOAD_BASE, 4, NULL), (uint32_t)mb->low);
    rc = put_acpi(load, &blob, mb);
    put_tag(&blob, INFO_END, 0, NULL);
    vmm_store_le32(fixed, (uint32_t)blob.length); /* total_size */
    if (!rc)
        rc = vmm_x86_blob_write(load, &blob, name);
    vmm_x86_blob_free(&blob);
    return rc;
}
