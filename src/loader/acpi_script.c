/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI tables for firmware: the image that would lie at address 0, so that each pointer in it is an
 * offset, and a script that says which pointers to relocate and which checksums to make anew.
 */
#include "base/util.h"
#include "loader/acpi.h"

#include <stdlib.h>

#define ROOM         (UINT64_C(1) << 20)
#define COMMAND_SIZE 128u
#define NAME_SIZE    56u
#define COMMANDS_MAX 256u
#define ADD_ALLOCATE 1u
#define ADD_POINTER  2u
#define ADD_CHECKSUM 3u
#define ZONE_HIGH    1u
#define ZONE_FSEG    2u
#define TABLE_ALIGN  64u /* the FACS' */
#define RSDP_ALIGN   16u
#define RSDP_SIZE    36u
#define RSDP_XSDT    24u
#define HEADER_SIZE  36u
#define HEADER_SUM   9u
#define FADT_FACS    36u
#define FADT_DSDT    40u
#define FADT_FACS_64 132u
#define FADT_DSDT_64 140u

struct script {
    uint8_t *data;
    size_t count;
};

static uint8_t *add_command(struct script *s, uint32_t command, const char *file)
{
    uint8_t *c = s->data + COMMAND_SIZE * s->count++;
    vmm_store_le32(c, command);
    memcpy(c + 4, file, strlen(file));
    return c + 4 + NAME_SIZE;
}

static void allocate(struct script *s, const char *file, uint32_t align, uint8_t zone)
{
    uint8_t *c = add_command(s, ADD_ALLOCATE, file);
    vmm_store_le32(c, align);
    c[4] = zone;
}

static void add_pointer(struct script *s, const char *file, size_t offset, uint8_t width)
{
    uint8_t *c = add_command(s, ADD_POINTER, file);
    memcpy(c, VMM_ACPI_FILE_TABLES, strlen(VMM_ACPI_FILE_TABLES));
    vmm_store_le32(c + NAME_SIZE, (uint32_t)offset);
    c[NAME_SIZE + 4] = width;
}

/* The loader sums the whole range, so the byte must be zero before. */
static void add_checksum(struct script *s, const char *file, uint8_t *data, size_t at, size_t start,
                         size_t length)
{
    uint8_t *c = add_command(s, ADD_CHECKSUM, file);
    data[at] = 0;
    vmm_store_le32(c, (uint32_t)at);
    vmm_store_le32(c + 4, (uint32_t)start);
    vmm_store_le32(c + 8, (uint32_t)length);
}

/* The FADT is the one table besides XSDT and RSDP that points to others. */
static void relocate_fadt(struct script *s, const uint8_t *tables, size_t at)
{
    if (vmm_load_le32(tables + at + FADT_FACS)) {
        add_pointer(s, VMM_ACPI_FILE_TABLES, at + FADT_FACS, 4);
        add_pointer(s, VMM_ACPI_FILE_TABLES, at + FADT_FACS_64, 8);
    }
    add_pointer(s, VMM_ACPI_FILE_TABLES, at + FADT_DSDT, 4);
    add_pointer(s, VMM_ACPI_FILE_TABLES, at + FADT_DSDT_64, 8);
}

static void relocate(struct script *s, uint8_t *tables, uint8_t *rsdp)
{
    size_t xsdt = vmm_load_le32(tables + RSDP_XSDT);
    size_t length = vmm_load_le32(tables + xsdt + 4);
    allocate(s, VMM_ACPI_FILE_TABLES, TABLE_ALIGN, ZONE_HIGH);
    allocate(s, VMM_ACPI_FILE_RSDP, RSDP_ALIGN, ZONE_FSEG);
    for (size_t at = xsdt + HEADER_SIZE; at < xsdt + length; at += 8) {
        size_t table = vmm_load_le32(tables + at);
        add_pointer(s, VMM_ACPI_FILE_TABLES, at, 8);
        if (memcmp(tables + table, "FACP", 4) != 0)
            continue;
        relocate_fadt(s, tables, table);
        add_checksum(s, VMM_ACPI_FILE_TABLES, tables, table + HEADER_SUM, table,
                     vmm_load_le32(tables + table + 4));
    }
    add_checksum(s, VMM_ACPI_FILE_TABLES, tables, xsdt + HEADER_SUM, xsdt, length);
    memcpy(rsdp, tables, RSDP_SIZE);
    memset(tables, 0, RSDP_SIZE); /* a second one would only mislead */
    add_pointer(s, VMM_ACPI_FILE_RSDP, RSDP_XSDT, 8);
    rsdp[32] = 0;
    add_checksum(s, VMM_ACPI_FILE_RSDP, rsdp, 8, 0, 20);
    add_checksum(s, VMM_ACPI_FILE_RSDP, rsdp, 32, 0, RSDP_SIZE);
}

int vmm_acpi_build_files(const struct vmm_acpi_description *description,
                         struct vmm_acpi_files *files, struct vmm_error *err)
{
    struct vmm_acpi_files f = VMM_ACPI_FILES_INIT;
    int rc = files ? vmm_acpi_build_image(description, 0, ROOM, &f.tables, &f.tables_length, err)
                   : -EINVAL;
    if (rc)
        return rc;
    struct script s = {.data = calloc(COMMANDS_MAX, COMMAND_SIZE)};
    f.rsdp = malloc(RSDP_SIZE);
    f.rsdp_length = RSDP_SIZE;
    if (!s.data || !f.rsdp) {
        free(s.data);
        free(f.rsdp);
        free(f.tables);
        return vmm_error_set(err, -ENOMEM, "out of memory");
    }
    relocate(&s, f.tables, f.rsdp);
    f.script = s.data;
    f.script_length = COMMAND_SIZE * s.count;
    rc = vmm_info_copy(files, &f, sizeof(f));
    if (rc) {
        free(f.tables);
        free(f.rsdp);
        free(f.script);
    }
    return rc;
}
