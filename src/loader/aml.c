/* SPDX-License-Identifier: BSD-3-Clause */
/* ACPI machine language: encodings of ACPI 6.5 chapter 20, resource descriptors of 6.4. */
#include "base/util.h"

#include <libvmm/aml.h>

#include <stdlib.h>

#define DEPTH_MAX 32

enum block_kind { BLOCK_PACKAGE_LENGTH, BLOCK_RESOURCES };

struct block {
    enum block_kind kind;
    size_t at; /* where the PkgLength belongs; it is put in when the block ends */
};

struct vmm_aml {
    uint8_t *data;
    size_t length, room;
    int error;
    struct block blocks[DEPTH_MAX];
    uint32_t depth;
};

int vmm_aml_new(struct vmm_aml **out)
{
    struct vmm_aml *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    *out = a;
    return 0;
}

struct vmm_aml *vmm_aml_free(struct vmm_aml *a)
{
    if (a) {
        free(a->data);
        free(a);
    }
    return NULL;
}

int vmm_aml_finish(struct vmm_aml *a, const void **data, size_t *length)
{
    if (!a->error && a->depth)
        a->error = -EINVAL;
    if (a->error)
        return a->error;
    *data = a->data;
    *length = a->length;
    return 0;
}

static void fail(struct vmm_aml *a, int code)
{
    if (!a->error)
        a->error = code;
}

/* Bytes ---------------------------------------------------------------------------------------- */

static bool reserve(struct vmm_aml *a, size_t more)
{
    if (a->error)
        return false;
    if (a->length + more <= a->room)
        return true;
    size_t room = a->room ? a->room : 256;
    while (room < a->length + more)
        room *= 2;
    uint8_t *data = realloc(a->data, room);
    if (!data) {
        fail(a, -ENOMEM);
        return false;
    }
    a->data = data;
    a->room = room;
    return true;
}

static void put(struct vmm_aml *a, const void *data, size_t length)
{
    if (length && reserve(a, length)) {
        memcpy(a->data + a->length, data, length);
        a->length += length;
    }
}

static void put8(struct vmm_aml *a, uint32_t value)
{
    uint8_t byte = (uint8_t)value;
    put(a, &byte, 1);
}

static void put_le(struct vmm_aml *a, uint64_t value, size_t width)
{
    value = htole64(value);
    put(a, &value, width);
}

static void insert(struct vmm_aml *a, size_t at, const uint8_t *data, size_t length)
{
    if (!reserve(a, length))
        return;
    memmove(a->data + at + length, a->data + at, a->length - at);
    memcpy(a->data + at, data, length);
    a->length += length;
}

/* Blocks --------------------------------------------------------------------------------------- */

static void open_block(struct vmm_aml *a, enum block_kind kind)
{
    if (a->error)
        return;
    if (a->depth == DEPTH_MAX) {
        fail(a, -EINVAL);
        return;
    }
    a->blocks[a->depth].kind = kind;
    a->blocks[a->depth].at = a->length;
    a->depth++;
}

/* PkgLength (20.2.4) counts its own bytes: one byte up to 63, else four bits in the first byte and
 * eight in each of one to three more. */
static size_t encode_package_length(uint8_t out[4], size_t content)
{
    if (content + 1 <= 0x3f) {
        out[0] = (uint8_t)(content + 1);
        return 1;
    }
    size_t bytes = 2;
    while (bytes < 4 && content + bytes >= (size_t)1 << (4 + 8 * (bytes - 1)))
        bytes++;
    size_t total = content + bytes;
    if (total >= (size_t)1 << 28)
        return 0;
    out[0] = (uint8_t)((bytes - 1) << 6 | (total & 0xf));
    for (size_t i = 1; i < bytes; i++)
        out[i] = (uint8_t)(total >> (4 + 8 * (i - 1)));
    return bytes;
}

static void insert_package_length(struct vmm_aml *a, size_t at)
{
    uint8_t bytes[4];
    size_t n = encode_package_length(bytes, a->length - at);
    if (n == 0)
        fail(a, -E2BIG);
    else
        insert(a, at, bytes, n);
}

/* An integer (20.2.3) in the fewest bytes; returns how many. */
static size_t encode_int(uint8_t out[9], uint64_t value)
{
    if (value <= 1) {
        out[0] = (uint8_t)value; /* ZeroOp, OneOp */
        return 1;
    }
    size_t width = value <= 0xff ? 1 : value <= 0xffff ? 2 : value <= 0xffffffff ? 4 : 8;
    out[0] = width == 1 ? 0x0a : width == 2 ? 0x0b : width == 4 ? 0x0c : 0x0e;
    value = htole64(value);
    memcpy(out + 1, &value, width);
    return 1 + width;
}

void vmm_aml_end(struct vmm_aml *a)
{
    if (a->error)
        return;
    if (a->depth == 0) {
        fail(a, -EINVAL);
        return;
    }
    struct block block = a->blocks[--a->depth];
    if (block.kind == BLOCK_RESOURCES) {
        static const uint8_t end_tag[] = {0x79, 0}; /* a checksum of 0: not to be checked */
        put(a, end_tag, sizeof(end_tag));
        uint8_t size[9];
        insert(a, block.at, size, encode_int(size, a->length - block.at));
    }
    insert_package_length(a, block.at);
}

/* Names (20.2.2) ------------------------------------------------------------------------------- */

static bool lead_char(char c)
{
    return (c >= 'A' && c <= 'Z') || c == '_';
}

/* One segment of at most four characters, padded; NULL: not a name. Returns what follows it. */
static const char *take_segment(const char *text, char out[4])
{
    memset(out, '_', 4);
    size_t n = 0;
    while (n < 4 && (lead_char(text[n]) || (n > 0 && text[n] >= '0' && text[n] <= '9'))) {
        out[n] = text[n];
        n++;
    }
    return n > 0 && (text[n] == '\0' || text[n] == '.') ? text + n : NULL;
}

void vmm_aml_path(struct vmm_aml *a, const char *path)
{
    char segments[16][4];
    size_t count = 0;
    const char *p = path;
    while (*p == '\\' || *p == '^')
        put8(a, (uint8_t)*p++);
    while (*p) {
        if (count == VMM_ARRAY_SIZE(segments) || !(p = take_segment(p, segments[count]))) {
            fail(a, -EINVAL);
            return;
        }
        count++;
        if (*p == '.')
            p++;
    }
    if (count == 0)
        put8(a, VMM_AML_NULL); /* NullName: the root, or the parent */
    else if (count == 2)
        put8(a, 0x2e); /* DualNamePrefix */
    else if (count > 2) {
        put8(a, 0x2f); /* MultiNamePrefix */
        put8(a, (uint32_t)count);
    }
    put(a, segments, count * 4);
}

/* Blocks that have a name ---------------------------------------------------------------------- */

void vmm_aml_scope_begin(struct vmm_aml *a, const char *path)
{
    put8(a, 0x10);
    open_block(a, BLOCK_PACKAGE_LENGTH);
    vmm_aml_path(a, path);
}

void vmm_aml_device_begin(struct vmm_aml *a, const char *path)
{
    vmm_aml_op(a, 0x5b82);
    open_block(a, BLOCK_PACKAGE_LENGTH);
    vmm_aml_path(a, path);
}

void vmm_aml_method_begin(struct vmm_aml *a, const char *path, uint32_t args, bool serialized)
{
    if (args > 7)
        fail(a, -EINVAL);
    put8(a, 0x14);
    open_block(a, BLOCK_PACKAGE_LENGTH);
    vmm_aml_path(a, path);
    put8(a, args | (serialized ? 0x08u : 0));
}

void vmm_aml_if_begin(struct vmm_aml *a)
{
    put8(a, 0xa0);
    open_block(a, BLOCK_PACKAGE_LENGTH);
}

void vmm_aml_else_begin(struct vmm_aml *a)
{
    put8(a, 0xa1);
    open_block(a, BLOCK_PACKAGE_LENGTH);
}

void vmm_aml_while_begin(struct vmm_aml *a)
{
    put8(a, 0xa2);
    open_block(a, BLOCK_PACKAGE_LENGTH);
}

void vmm_aml_package_begin(struct vmm_aml *a, uint32_t elements)
{
    if (elements > 255)
        fail(a, -EINVAL);
    put8(a, 0x12);
    open_block(a, BLOCK_PACKAGE_LENGTH);
    put8(a, elements);
}

void vmm_aml_field_begin(struct vmm_aml *a, const char *region, uint32_t access, bool lock)
{
    uint32_t type = access == 1 ? 1 : access == 2 ? 2 : access == 4 ? 3 : access == 8 ? 4 : 0;
    vmm_aml_op(a, 0x5b81);
    open_block(a, BLOCK_PACKAGE_LENGTH);
    vmm_aml_path(a, region);
    put8(a, type | (lock ? 0x10u : 0));
}

void vmm_aml_field_unit(struct vmm_aml *a, const char *name, uint32_t bits)
{
    uint8_t length[4];
    char segment[4];
    if (!name) {
        put8(a, 0); /* ReservedField */
    } else if (take_segment(name, segment)) {
        put(a, segment, 4);
    } else {
        fail(a, -EINVAL);
        return;
    }
    /* The same encoding as PkgLength, of the bits alone. */
    size_t n = 1;
    if (bits <= 0x3f)
        length[0] = (uint8_t)bits;
    else {
        n = bits < 1u << 12 ? 2 : bits < 1u << 20 ? 3 : 4;
        length[0] = (uint8_t)((n - 1) << 6 | (bits & 0xf));
        for (size_t i = 1; i < n; i++)
            length[i] = (uint8_t)(bits >> (4 + 8 * (i - 1)));
    }
    put(a, length, n);
}

/* Objects and terms ---------------------------------------------------------------------------- */

void vmm_aml_op(struct vmm_aml *a, uint32_t op)
{
    if (op > 0xff)
        put8(a, op >> 8);
    put8(a, op & 0xff);
}

void vmm_aml_name(struct vmm_aml *a, const char *path)
{
    put8(a, 0x08);
    vmm_aml_path(a, path);
}

void vmm_aml_int(struct vmm_aml *a, uint64_t value)
{
    uint8_t bytes[9];
    put(a, bytes, encode_int(bytes, value));
}

void vmm_aml_string(struct vmm_aml *a, const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p & 0x80)
            fail(a, -EINVAL);
    put8(a, 0x0d);
    put(a, text, strlen(text) + 1);
}

void vmm_aml_name_int(struct vmm_aml *a, const char *path, uint64_t value)
{
    vmm_aml_name(a, path);
    vmm_aml_int(a, value);
}

void vmm_aml_name_string(struct vmm_aml *a, const char *path, const char *text)
{
    vmm_aml_name(a, path);
    vmm_aml_string(a, text);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Three letters of five bits and four hexadecimal digits, big-endian (19.6.38). */
void vmm_aml_name_eisaid(struct vmm_aml *a, const char *path, const char *id)
{
    uint32_t value = 0;
    bool ok = strlen(id) == 7;
    for (int i = 0; ok && i < 3; i++) {
        ok = id[i] >= 'A' && id[i] <= 'Z';
        value = value << 5 | (uint32_t)(id[i] - '@');
    }
    for (int i = 3; ok && i < 7; i++) {
        ok = hex_digit(id[i]) >= 0;
        value = value << 4 | (uint32_t)hex_digit(id[i]);
    }
    if (!ok)
        fail(a, -EINVAL);
    vmm_aml_name(a, path);
    put8(a, 0x0c);
    put_le(a, be32toh(value), 4);
}

void vmm_aml_buffer(struct vmm_aml *a, const void *data, size_t length)
{
    put8(a, 0x11);
    open_block(a, BLOCK_PACKAGE_LENGTH);
    vmm_aml_int(a, length);
    put(a, data, length);
    vmm_aml_end(a);
}

void vmm_aml_arg(struct vmm_aml *a, uint32_t number)
{
    if (number > 6)
        fail(a, -EINVAL);
    put8(a, 0x68 + number);
}

void vmm_aml_local(struct vmm_aml *a, uint32_t number)
{
    if (number > 7)
        fail(a, -EINVAL);
    put8(a, 0x60 + number);
}

void vmm_aml_region(struct vmm_aml *a, const char *name, uint8_t space, uint64_t address,
                    uint64_t length)
{
    vmm_aml_op(a, 0x5b80);
    vmm_aml_path(a, name);
    put8(a, space);
    vmm_aml_int(a, address);
    vmm_aml_int(a, length);
}

void vmm_aml_mutex(struct vmm_aml *a, const char *name)
{
    vmm_aml_op(a, 0x5b01);
    vmm_aml_path(a, name);
    put8(a, 0);
}

/* Resource descriptors (6.4) ------------------------------------------------------------------- */

void vmm_aml_resources_begin(struct vmm_aml *a)
{
    put8(a, 0x11);
    open_block(a, BLOCK_RESOURCES);
}

void vmm_aml_io(struct vmm_aml *a, uint16_t address, uint8_t length)
{
    put8(a, 0x47); /* I/O port descriptor, 6.4.2.5 */
    put8(a, 1);    /* decodes 16 bits */
    put_le(a, address, 2);
    put_le(a, address, 2);
    put8(a, 1);
    put8(a, length);
}

void vmm_aml_irq(struct vmm_aml *a, uint32_t irq)
{
    if (irq > 15)
        fail(a, -EINVAL);
    put8(a, 0x22); /* IRQ descriptor without flags, 6.4.2.1: edge, active high, not shared */
    put_le(a, (uint64_t)1 << (irq & 15), 2);
}

void vmm_aml_interrupt(struct vmm_aml *a, uint32_t gsi, bool level, bool active_low, bool shared)
{
    put8(a, 0x89); /* extended interrupt descriptor, 6.4.3.6 */
    put_le(a, 6, 2);
    put8(a, 0x01u | (level ? 0 : 0x02u) | (active_low ? 0x04u : 0) | (shared ? 0x08u : 0));
    put8(a, 1);
    put_le(a, gsi, 4);
}

void vmm_aml_memory32(struct vmm_aml *a, uint32_t address, uint32_t length, bool write)
{
    put8(a, 0x86); /* 32-bit fixed memory range, 6.4.3.4 */
    put_le(a, 9, 2);
    put8(a, write);
    put_le(a, address, 4);
    put_le(a, length, 4);
}

void vmm_aml_window(struct vmm_aml *a, uint32_t space, uint32_t bits, uint64_t first, uint64_t last,
                    bool prefetchable)
{
    static const uint8_t tags[] = {0x88, 0x87, 0x8a}; /* word, dword, qword: 6.4.3.5 */
    if (space > VMM_AML_SPACE_BUSES || (bits != 16 && bits != 32 && bits != 64) || first > last ||
        (bits < 64 && last >> bits)) {
        fail(a, -EINVAL);
        return;
    }
    size_t width = bits / 8;
    uint32_t specific = space == VMM_AML_SPACE_MEMORY  ? (prefetchable ? 0x07u : 0x01u)
                        : space == VMM_AML_SPACE_PORTS ? 0x03u
                                                       : 0;
    put8(a, tags[bits == 16 ? 0 : bits == 32 ? 1 : 2]);
    put_le(a, 3 + 5 * width, 2);
    put8(a, space);
    put8(a, 0x0c); /* both ends fixed; a producer that decodes positively */
    put8(a, specific);
    put_le(a, 0, width); /* granularity */
    put_le(a, first, width);
    put_le(a, last, width);
    put_le(a, 0, width); /* translation */
    put_le(a, bits == 64 ? last - first + 1 : (last - first + 1) & (((uint64_t)1 << bits) - 1),
           width);
}
