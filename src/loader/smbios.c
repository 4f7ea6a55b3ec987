/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SMBIOS structures (DSP0134 3.0). Each has a fixed part, whose strings are numbers from 1, and then
 * those strings, each with its zero byte, and one zero byte more.
 */
#include "base/util.h"

#include <libvmm/smbios.h>

#include <stdio.h>
#include <stdlib.h>

#define STRING_MAX     1023u
#define OEM_STRING_MAX 65535u
#define FIXED_MAX      48u /* the longest fixed part: type 4 */
#define STRINGS_MAX    8u

#define NO_HANDLE       0xffffu /* of a cache: there is none */
#define NO_ERROR_HANDLE 0xfffeu /* of an error: not provided */

struct structure {
    uint8_t fixed[FIXED_MAX];
    const char *strings[STRINGS_MAX];
    size_t string_count;
};

struct tables {
    uint8_t *data;
    size_t length, room;
    bool failed; /* out of memory */
};

static void put(struct tables *t, const void *data, size_t length)
{
    if (t->failed)
        return;
    if (length > t->room - t->length) {
        size_t room = t->room ? t->room : 1024;
        while (room - t->length < length)
            room *= 2;
        uint8_t *grown = realloc(t->data, room);
        if (!grown) {
            t->failed = true;
            return;
        }
        t->data = grown;
        t->room = room;
    }
    memcpy(t->data + t->length, data, length);
    t->length += length;
}

static struct structure begin(uint8_t type, uint8_t length, uint32_t handle)
{
    struct structure s = {.fixed = {type, length}};
    vmm_store_le16(s.fixed + 2, (uint16_t)handle);
    return s;
}

static bool given(const char *text)
{
    return text && *text;
}

/* Number a string that is given, at its place in the fixed part. */
static void put_string(struct structure *s, size_t at, const char *text)
{
    if (!given(text))
        return;
    s->strings[s->string_count++] = text;
    s->fixed[at] = (uint8_t)s->string_count;
}

static void end(struct tables *t, const struct structure *s)
{
    put(t, s->fixed, s->fixed[1]);
    for (size_t i = 0; i < s->string_count; i++)
        put(t, s->strings[i], strlen(s->strings[i]) + 1);
    put(t, "\0", s->string_count ? 1 : 2); /* no strings: two zero bytes (6.1.3) */
}

/* Structures ----------------------------------------------------------------------------------- */

/* Handles: type 4's and 19's are counted from these. */
#define HANDLE_BIOS    0x0000u
#define HANDLE_SYSTEM  0x0100u
#define HANDLE_CHASSIS 0x0300u
#define HANDLE_CPU     0x0400u
#define HANDLE_OEM     0x0b00u
#define HANDLE_ARRAY   0x1000u
#define HANDLE_DEVICE  0x1100u
#define HANDLE_MAPPED  0x1300u
#define HANDLE_BOOT    0x2000u
#define HANDLE_END     0x7f00u

static void put_bios(struct tables *t, const struct vmm_smbios_options *o)
{
    struct structure s = begin(0, 0x18, HANDLE_BIOS);
    put_string(&s, 0x04, given(o->bios_vendor) ? o->bios_vendor : "libvmm");
    put_string(&s, 0x05, o->bios_version);
    vmm_store_le16(s.fixed + 0x06, 0xe800);
    put_string(&s, 0x08, o->bios_date);
    vmm_store_le64(s.fixed + 0x0a, 1u << 3); /* characteristics are not given here */
    s.fixed[0x12] = 0x01;                    /* ACPI */
    s.fixed[0x13] = 0x10;                    /* a virtual machine */
    s.fixed[0x16] = s.fixed[0x17] = 0xff;    /* no embedded controller */
    end(t, &s);
}

static void put_system(struct tables *t, const struct vmm_smbios_options *o)
{
    struct structure s = begin(1, 0x1b, HANDLE_SYSTEM);
    const uint8_t *u = o->uuid;
    /* The first three fields are little-endian (7.2.1). */
    const uint8_t uuid[16] = {u[3], u[2], u[1],  u[0],  u[5],  u[4],  u[7],  u[6],
                              u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]};
    put_string(&s, 0x04, o->manufacturer);
    put_string(&s, 0x05, o->product);
    put_string(&s, 0x06, o->version);
    put_string(&s, 0x07, o->serial);
    memcpy(s.fixed + 0x08, uuid, sizeof(uuid));
    s.fixed[0x18] = 0x06; /* woken by the power switch */
    put_string(&s, 0x19, o->sku);
    put_string(&s, 0x1a, o->family);
    end(t, &s);
}

static void put_chassis(struct tables *t, const struct vmm_smbios_options *o)
{
    struct structure s = begin(3, 0x16, HANDLE_CHASSIS);
    const char *maker = given(o->chassis_manufacturer) ? o->chassis_manufacturer : o->manufacturer;
    put_string(&s, 0x04, given(maker) ? maker : "libvmm");
    s.fixed[0x05] = 0x01; /* type: other */
    put_string(&s, 0x08, o->chassis_asset_tag);
    memset(s.fixed + 0x09, 0x03, 3); /* boot-up, power supply and thermal states: safe */
    s.fixed[0x0c] = 0x02;            /* security: unknown */
    end(t, &s);
}

static uint8_t byte_or_ff(uint32_t value)
{
    return (uint8_t)(value < 0xff ? value : 0xff);
}

static void put_processor(struct tables *t, const struct vmm_smbios_options *o, uint32_t socket)
{
    struct structure s = begin(4, 0x30, HANDLE_CPU + socket);
    char name[16];
    uint32_t cores = o->cores_per_socket, threads = cores * o->threads_per_core;
    (void)snprintf(name, sizeof(name), "CPU %u", socket);
    put_string(&s, 0x04, name);
    s.fixed[0x05] = 0x03; /* central processor */
    s.fixed[0x06] = 0x01; /* family: other */
    put_string(&s, 0x07, o->cpu_manufacturer);
    vmm_store_le64(s.fixed + 0x08, o->cpu_id);
    put_string(&s, 0x10, o->cpu_version);
    s.fixed[0x18] = 0x41; /* populated, enabled */
    s.fixed[0x19] = 0x01; /* upgrade: other */
    for (size_t cache = 0x1a; cache <= 0x1e; cache += 2)
        vmm_store_le16(s.fixed + cache, NO_HANDLE);
    s.fixed[0x23] = s.fixed[0x24] = byte_or_ff(cores);
    s.fixed[0x25] = byte_or_ff(threads);
    vmm_store_le16(s.fixed + 0x26, 1u << 2); /* 64-bit */
    vmm_store_le16(s.fixed + 0x28, 0x01);
    vmm_store_le16(s.fixed + 0x2a, (uint16_t)cores);
    vmm_store_le16(s.fixed + 0x2c, (uint16_t)cores);
    vmm_store_le16(s.fixed + 0x2e, (uint16_t)threads);
    end(t, &s);
}

/* Its strings are more than other structures have. */
static void put_oem_strings(struct tables *t, const struct vmm_smbios_options *o)
{
    struct structure s = begin(11, 0x05, HANDLE_OEM);
    if (o->oem_string_count == 0)
        return;
    s.fixed[0x04] = (uint8_t)o->oem_string_count;
    put(t, s.fixed, s.fixed[1]);
    for (size_t i = 0; i < o->oem_string_count; i++)
        put(t, o->oem_strings[i], strlen(o->oem_strings[i]) + 1);
    put(t, "", 1);
}

static bool is_ram(const struct vmm_memory_map_entry *e)
{
    return e->type == VMM_MEMORY_MAP_RAM && e->length > 0;
}

static uint64_t ram_size(const struct vmm_smbios_options *o)
{
    uint64_t size = 0;
    for (size_t i = 0; i < o->memory_map_count; i++)
        if (is_ram(&o->memory_map[i]))
            size += o->memory_map[i].length;
    return size;
}

static void put_array(struct tables *t, uint64_t size)
{
    struct structure s = begin(16, 0x17, HANDLE_ARRAY);
    bool extended = size >> 10 >= 0x80000000u;
    s.fixed[0x04] = 0x01; /* location: other */
    s.fixed[0x05] = 0x03; /* system memory */
    s.fixed[0x06] = 0x03; /* no error correction */
    vmm_store_le32(s.fixed + 0x07, extended ? 0x80000000u : (uint32_t)(size >> 10));
    vmm_store_le16(s.fixed + 0x0b, NO_ERROR_HANDLE);
    vmm_store_le16(s.fixed + 0x0d, 1);
    vmm_store_le64(s.fixed + 0x0f, extended ? size : 0);
    end(t, &s);
}

static void put_device(struct tables *t, uint64_t size)
{
    struct structure s = begin(17, 0x28, HANDLE_DEVICE);
    uint64_t mib = size >> 20, kib = size >> 10;
    vmm_store_le16(s.fixed + 0x04, HANDLE_ARRAY);
    vmm_store_le16(s.fixed + 0x06, NO_ERROR_HANDLE);
    memset(s.fixed + 0x08, 0xff, 4); /* widths: unknown */
    if (mib >= 0x7fff) {
        vmm_store_le16(s.fixed + 0x0c, 0x7fff); /* see the extended size */
        vmm_store_le32(s.fixed + 0x1c, mib < 0x7fffffff ? (uint32_t)mib : 0x7fffffff);
    } else if (size % (1u << 20) && kib < 0x7fff) {
        vmm_store_le16(s.fixed + 0x0c, (uint16_t)(0x8000 | kib));
    } else {
        vmm_store_le16(s.fixed + 0x0c, (uint16_t)mib);
    }
    s.fixed[0x0e] = 0x09; /* DIMM */
    put_string(&s, 0x10, "DIMM 0");
    s.fixed[0x12] = 0x07;                    /* RAM */
    vmm_store_le16(s.fixed + 0x13, 1u << 1); /* other */
    end(t, &s);
}

static void put_mapped(struct tables *t, const struct vmm_memory_map_entry *e, uint32_t handle)
{
    struct structure s = begin(19, 0x1f, handle);
    uint64_t last = e->address + (e->length - 1);
    if (last >> 10 < UINT32_MAX && e->address % 1024 == 0 && last % 1024 == 1023) {
        vmm_store_le32(s.fixed + 0x04, (uint32_t)(e->address >> 10));
        vmm_store_le32(s.fixed + 0x08, (uint32_t)(last >> 10));
    } else {
        vmm_store_le32(s.fixed + 0x04, UINT32_MAX); /* see the extended addresses */
        vmm_store_le32(s.fixed + 0x08, UINT32_MAX);
        vmm_store_le64(s.fixed + 0x0f, e->address);
        vmm_store_le64(s.fixed + 0x17, last);
    }
    vmm_store_le16(s.fixed + 0x0c, HANDLE_ARRAY);
    s.fixed[0x0e] = 1; /* one device a row */
    end(t, &s);
}

static void put_memory(struct tables *t, const struct vmm_smbios_options *o)
{
    uint64_t size = ram_size(o);
    uint32_t handle = HANDLE_MAPPED;
    put_array(t, size);
    put_device(t, size);
    for (size_t i = 0; i < o->memory_map_count; i++)
        if (is_ram(&o->memory_map[i]))
            put_mapped(t, &o->memory_map[i], handle++);
}

static void put_all(struct tables *t, const struct vmm_smbios_options *o)
{
    struct structure boot = begin(32, 0x0b, HANDLE_BOOT); /* status 0: no errors */
    struct structure last = begin(127, 0x04, HANDLE_END);
    put_bios(t, o);
    put_system(t, o);
    put_chassis(t, o);
    for (uint32_t i = 0; i < o->sockets; i++)
        put_processor(t, o, i);
    put_oem_strings(t, o);
    put_memory(t, o);
    end(t, &boot);
    end(t, &last);
}

/* Options -------------------------------------------------------------------------------------- */

static const char *wrong_strings(const struct vmm_smbios_options *o)
{
    const char *const texts[] = {
        o->bios_vendor,
        o->bios_version,
        o->bios_date,
        o->manufacturer,
        o->product,
        o->version,
        o->serial,
        o->sku,
        o->family,
        o->chassis_manufacturer,
        o->chassis_asset_tag,
        o->cpu_manufacturer,
        o->cpu_version,
    };
    for (size_t i = 0; i < VMM_ARRAY_SIZE(texts); i++)
        if (texts[i] && strnlen(texts[i], STRING_MAX + 1) > STRING_MAX)
            return "a string is longer than 1023 bytes";
    if (o->oem_string_count > 255 || (o->oem_string_count && !o->oem_strings))
        return "oem_string_count is above 255, or oem_strings is missing";
    for (size_t i = 0; i < o->oem_string_count; i++)
        if (!given(o->oem_strings[i]) ||
            strnlen(o->oem_strings[i], OEM_STRING_MAX + 1) > OEM_STRING_MAX)
            return "an OEM string is empty or longer than 65535 bytes";
    return NULL;
}

static const char *wrong_numbers(const struct vmm_smbios_options *o)
{
    if (o->sockets > 256)
        return "sockets is above 256";
    if (o->cores_per_socket > 65534 || o->threads_per_core > 65534 / o->cores_per_socket)
        return "a socket has more than 65534 cores or threads";
    if (o->memory_map_count > 1024 || (o->memory_map_count && !o->memory_map))
        return "memory_map_count is above 1024, or memory_map is missing";
    for (size_t i = 0; i < o->memory_map_count; i++)
        if (!vmm_range_ok(o->memory_map[i].address, o->memory_map[i].length))
            return "an entry of memory_map wraps around";
    return NULL;
}

static int take_options(struct vmm_smbios_options *o,
                        const struct vmm_smbios_options *given_options, struct vmm_error *err)
{
    int rc = vmm_options_copy(o, sizeof(*o), given_options);
    if (rc)
        return vmm_error_set(err, rc, "SMBIOS options: a structure of another version");
    o->sockets = o->sockets ? o->sockets : 1;
    o->cores_per_socket = o->cores_per_socket ? o->cores_per_socket : 1;
    o->threads_per_core = o->threads_per_core ? o->threads_per_core : 1;
    const char *wrong = wrong_strings(o);
    if (!wrong)
        wrong = wrong_numbers(o);
    return wrong ? vmm_error_set(err, -EINVAL, "SMBIOS options: %s", wrong) : 0;
}

/* The 64-bit entry point (5.2.2). */
static void fill_entry(uint8_t entry[VMM_SMBIOS_ENTRY_SIZE], uint64_t address, size_t length)
{
    uint8_t sum = 0;
    memset(entry, 0, VMM_SMBIOS_ENTRY_SIZE);
    memcpy(entry, "_SM3_", 5);
    entry[0x06] = VMM_SMBIOS_ENTRY_SIZE;
    entry[0x07] = 3; /* version 3.0 */
    entry[0x0a] = 1; /* the entry point's own revision */
    vmm_store_le32(entry + 0x0c, (uint32_t)length);
    vmm_store_le64(entry + 0x10, address);
    for (size_t i = 0; i < VMM_SMBIOS_ENTRY_SIZE; i++)
        sum = (uint8_t)(sum + entry[i]);
    entry[0x05] = (uint8_t)-sum;
}

int vmm_smbios_build(const struct vmm_smbios_options *options, uint64_t address,
                     uint8_t entry[VMM_SMBIOS_ENTRY_SIZE], void **tables, size_t *length,
                     struct vmm_error *err)
{
    struct vmm_smbios_options o;
    struct tables t = {0};
    int rc = take_options(&o, options, err);
    if (rc)
        return rc;
    put_all(&t, &o);
    if (t.failed) {
        free(t.data);
        return vmm_error_set(err, -ENOMEM, "out of memory");
    }
    fill_entry(entry, address, t.length);
    *tables = t.data;
    *length = t.length;
    return 0;
}

int vmm_smbios_place(struct vmm_memory *memory, uint64_t address, uint64_t room,
                     const struct vmm_smbios_options *options, uint64_t *used,
                     struct vmm_error *err)
{
    uint64_t offset = vmm_align_up(VMM_SMBIOS_ENTRY_SIZE, 16);
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
    void *tables;
    size_t length;
    if (address % 16 || !vmm_range_ok(address, room))
        return vmm_error_set(err, -EINVAL, "SMBIOS at 0x%llx: a multiple of 16 with room is needed",
                             (unsigned long long)address);
    int rc = vmm_smbios_build(options, address + offset, entry, &tables, &length, err);
    if (rc)
        return rc;
    if (room < offset || length > room - offset)
        rc = vmm_error_set(err, -ENOSPC, "SMBIOS: %llu bytes of room are needed, there are %llu",
                           (unsigned long long)(offset + length), (unsigned long long)room);
    if (!rc) {
        rc = vmm_memory_write_rom(memory, address + offset, tables, length);
        if (!rc)
            rc = vmm_memory_write_rom(memory, address, entry, sizeof(entry));
        if (rc)
            (void)vmm_error_set(err, rc, "SMBIOS at 0x%llx: there is no memory",
                                (unsigned long long)address);
    }
    if (!rc && used)
        *used = offset + length;
    free(tables);
    return rc;
}
