/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * ACPI machine language: bytes, names, package lengths and the grammar (ACPI 6.5 chapter 20).
 *
 * AML is a prefix code, so its structure can be checked while it is written: each open block counts
 * the operands that are still due. A block's length stands before its contents and takes more bytes
 * the longer those are; it is put in when the block ends. Blocks end from the inside out, so what
 * that moves is never the start of one that is open.
 */
#include "loader/aml.h"
#include "base/util.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define AML_LENGTH_MAX 0x0fffffffu /* what four bytes of PkgLength hold (20.2.4) */

#define OP_NAME      0x08u
#define OP_BYTE      0x0au
#define OP_WORD      0x0bu
#define OP_DWORD     0x0cu
#define OP_STRING    0x0du
#define OP_QWORD     0x0eu
#define OP_SCOPE     0x10u
#define OP_BUFFER    0x11u
#define OP_PACKAGE   0x12u
#define OP_METHOD    0x14u
#define OP_EXTERNAL  0x15u
#define OP_DUAL_NAME 0x2eu
#define OP_MANY_NAME 0x2fu
#define OP_EXTENDED  0x5bu
#define OP_LOCAL0    0x60u
#define OP_ARG0      0x68u
#define OP_IF        0xa0u
#define OP_ELSE      0xa1u
#define OP_WHILE     0xa2u
#define OP_ONES      0xffu
#define EXT_MUTEX    0x5b01u
#define EXT_ACQUIRE  0x5b23u
#define EXT_REGION   0x5b80u
#define EXT_FIELD    0x5b81u
#define EXT_DEVICE   0x5b82u

/* Bytes ---------------------------------------------------------------------------------------- */

void vmm_aml_fail(struct vmm_aml *a, int code, const char *format, ...)
{
    if (a->error.code)
        return;
    char text[200];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)vmm_error_set(&a->error, code, "AML at byte %zu: %s", a->length, text);
}

static bool reserve(struct vmm_aml *a, size_t more)
{
    if (a->error.code)
        return false;
    if (more > AML_LENGTH_MAX - a->length) {
        vmm_aml_fail(a, -E2BIG, "longer than a block can be");
        return false;
    }
    if (a->length + more <= a->room)
        return true;
    size_t room = a->room ? a->room : 512;
    while (room < a->length + more)
        room *= 2;
    uint8_t *data = realloc(a->data, room);
    if (!data) {
        vmm_aml_fail(a, -ENOMEM, "out of memory");
        return false;
    }
    a->data = data;
    a->room = room;
    return true;
}

static void insert(struct vmm_aml *a, size_t at, const void *data, size_t length)
{
    if (!length || !reserve(a, length))
        return;
    memmove(a->data + at + length, a->data + at, a->length - at);
    memcpy(a->data + at, data, length);
    a->length += length;
}

void vmm_aml_put(struct vmm_aml *a, const void *data, size_t length)
{
    insert(a, a->length, data, length);
}

void vmm_aml_put_le(struct vmm_aml *a, uint64_t value, size_t width)
{
    value = htole64(value);
    vmm_aml_put(a, &value, width);
}

/* One byte, or two with the extension prefix. */
static void put_op(struct vmm_aml *a, uint32_t op)
{
    if (op > 0xff)
        vmm_aml_put_le(a, OP_EXTENDED, 1);
    vmm_aml_put_le(a, op & 0xff, 1);
}

int vmm_aml_new(struct vmm_aml **out)
{
    struct vmm_aml *a = calloc(1, sizeof(*a));
    if (!a)
        return -ENOMEM;
    a->if_end = SIZE_MAX;
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

static struct aml_block *top(struct vmm_aml *a)
{
    return &a->blocks[a->depth];
}

int vmm_aml_finish(struct vmm_aml *a, const void **data, size_t *length)
{
    if (a->depth > 0)
        vmm_aml_fail(a, -EINVAL, "%u blocks have not been ended", a->depth);
    if (top(a)->operands > 0)
        vmm_aml_fail(a, -EINVAL, "%u operands are missing", top(a)->operands);
    if (a->error.code)
        return a->error.code;
    *data = a->data;
    *length = a->length;
    return 0;
}

int vmm_aml_error(const struct vmm_aml *a, struct vmm_error *err)
{
    return a->error.code ? vmm_error_set(err, a->error.code, "%s", a->error.text) : 0;
}

/* Grammar -------------------------------------------------------------------------------------- */

enum term {
    TERM_OBJECT,    /* a named object */
    TERM_STATEMENT, /* has no value */
    TERM_OPERATION, /* has a value, and may stand alone */
    TERM_DATA,
    TERM_PATH,     /* a name; alone it is a call without arguments */
    TERM_VARIABLE, /* local, argument, no target */
};

static const char *wrong_operand(const struct aml_block *b, enum term term)
{
    if (term == TERM_OBJECT || term == TERM_STATEMENT)
        return "an operand is missing";
    if (b->data_only && term != TERM_DATA)
        return "a named object's value must be data";
    return NULL;
}

/* Why a term cannot stand in a block that waits for no operand. */
static const char *wrong_term(const struct aml_block *b, enum term term)
{
    if (b->kind == AML_FIELD || b->kind == AML_RESOURCES)
        return "a term inside a field or a resource template";
    if (b->kind == AML_PACKAGE)
        return "surplus element of a package";
    if (term == TERM_DATA || term == TERM_VARIABLE)
        return "a value where a statement must be";
    if (term != TERM_OBJECT && b->kind == AML_OBJECTS)
        return "code outside of a method";
    return NULL;
}

/* May this term stand here? If so it does, and `operands` more are due. */
static bool begin_term(struct vmm_aml *a, enum term term, uint32_t operands)
{
    struct aml_block *b = top(a);
    if (a->error.code)
        return false;
    const char *wrong;
    if (b->kind == AML_PACKAGE && b->operands > 0)
        wrong = term != TERM_DATA && term != TERM_PATH ? "not an element of a package" : NULL;
    else
        wrong = b->operands > 0 ? wrong_operand(b, term) : wrong_term(b, term);
    if (wrong) {
        vmm_aml_fail(a, -EINVAL, "%s", wrong);
        return false;
    }
    b->data_only = false;
    b->operands -= b->operands > 0;
    b->operands += operands;
    return true;
}

/* The opcode is written: here the PkgLength will be, and the contents follow. */
static bool open_block(struct vmm_aml *a, enum aml_kind kind)
{
    if (a->error.code)
        return false;
    if (a->depth == AML_DEPTH_MAX) {
        vmm_aml_fail(a, -E2BIG, "more than %u blocks inside each other", AML_DEPTH_MAX);
        return false;
    }
    a->depth++;
    *top(a) = (struct aml_block){.kind = kind, .start = a->length};
    return true;
}

/* PkgLength (20.2.4): one byte up to 63, else four bits in the first byte and eight in each of one
 * to three more. A block's counts its own bytes, a field unit's does not. 0: too long. */
static size_t encode_package_length(uint64_t contents, bool counts_itself, uint8_t out[4])
{
    for (size_t n = 1; n <= 4; n++) {
        uint64_t length = contents + (counts_itself ? n : 0);
        if (n == 1 && length < 0x40) {
            out[0] = (uint8_t)length;
            return 1;
        }
        if (n > 1 && length < (uint64_t)1 << (8 * n - 4)) {
            out[0] = (uint8_t)((n - 1) << 6 | (length & 0xf));
            for (size_t i = 1; i < n; i++)
                out[i] = (uint8_t)(length >> (8 * i - 4));
            return n;
        }
    }
    return 0;
}

/* An integer (20.2.3) in the fewest bytes; returns how many. */
static size_t encode_int(uint64_t value, uint8_t out[9])
{
    static const uint8_t prefixes[] = {OP_BYTE, OP_WORD, OP_DWORD, OP_QWORD};
    if (value <= 1 || value == UINT64_MAX) {
        out[0] = value <= 1 ? (uint8_t)value : OP_ONES; /* ZeroOp, OneOp, OnesOp */
        return 1;
    }
    size_t i = value <= UINT8_MAX ? 0 : value <= UINT16_MAX ? 1 : value <= UINT32_MAX ? 2 : 3;
    out[0] = prefixes[i];
    value = htole64(value);
    memcpy(out + 1, &value, (size_t)1 << i);
    return 1 + ((size_t)1 << i);
}

static void close_block(struct vmm_aml *a)
{
    struct aml_block *b = top(a);
    uint8_t head[4 + 9], size[9];
    size_t size_length = 0;
    if (b->kind == AML_RESOURCES) {
        static const uint8_t end_tag[] = {0x79, 0}; /* a checksum of 0: not to be checked */
        vmm_aml_put(a, end_tag, sizeof(end_tag));
        size_length = encode_int(a->length - b->start, size);
    }
    size_t n = encode_package_length(a->length - b->start + size_length, true, head);
    if (!n) {
        vmm_aml_fail(a, -E2BIG, "longer than a block can be");
        return;
    }
    memcpy(head + n, size, size_length);
    insert(a, b->start, head, n + size_length);
    a->if_end = b->is_if ? a->length : SIZE_MAX;
    a->depth--;
}

void vmm_aml_end(struct vmm_aml *a)
{
    if (a->depth == 0)
        vmm_aml_fail(a, -EINVAL, "nothing is open to be ended");
    else if (top(a)->kind != AML_PACKAGE && top(a)->operands > 0)
        vmm_aml_fail(a, -EINVAL, "%u operands are missing", top(a)->operands);
    if (!a->error.code)
        close_block(a);
}

/* Names (20.2.2) ------------------------------------------------------------------------------- */

/* One segment of at most four characters, padded; returns its length in the text, 0: malformed. */
static size_t parse_segment(const char *text, char segment[4])
{
    size_t n = strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    if (n == 0 || n > 4 || (text[0] >= '0' && text[0] <= '9'))
        return 0;
    memset(segment, '_', 4);
    memcpy(segment, text, n);
    return n;
}

static void put_segments(struct vmm_aml *a, const char *segments, size_t count)
{
    if (count == 0)
        vmm_aml_put_le(a, 0, 1); /* NullName: the root, or the parent */
    else if (count == 2)
        vmm_aml_put_le(a, OP_DUAL_NAME, 1);
    else if (count > 2)
        vmm_aml_put_le(a, OP_MANY_NAME | count << 8, 2);
    vmm_aml_put(a, segments, count * 4);
}

static void put_path(struct vmm_aml *a, const char *path)
{
    char segments[255 * 4];
    size_t count = 0;
    const char *p = path ? path : "";
    size_t prefix = *p == '\\' ? 1 : strspn(p, "^");
    p += prefix;
    bool only_prefix = prefix > 0 && *p == '\0';
    while (!only_prefix) {
        size_t n = count < 255 ? parse_segment(p, segments + count * 4) : 0;
        count++;
        if (n && p[n] == '\0')
            break;
        if (!n || p[n] != '.') {
            vmm_aml_fail(a, -EINVAL, "\"%.40s\" is not a name", path ? path : "(null)");
            return;
        }
        p += n + 1;
    }
    vmm_aml_put(a, path, prefix);
    put_segments(a, segments, count);
}

/* A named object's opcode and name. */
static void put_object(struct vmm_aml *a, uint32_t op, const char *path)
{
    if (!begin_term(a, TERM_OBJECT, 0))
        return;
    put_op(a, op);
    put_path(a, path);
}

/* The same with a block, whose PkgLength stands before the name. */
static void open_object(struct vmm_aml *a, uint32_t op, const char *path, enum aml_kind kind)
{
    if (!begin_term(a, TERM_OBJECT, 0))
        return;
    put_op(a, op);
    if (open_block(a, kind))
        put_path(a, path);
}

/* Blocks --------------------------------------------------------------------------------------- */

void vmm_aml_scope_begin(struct vmm_aml *a, const char *path)
{
    open_object(a, OP_SCOPE, path, AML_OBJECTS);
}

void vmm_aml_device_begin(struct vmm_aml *a, const char *path)
{
    open_object(a, EXT_DEVICE, path, AML_OBJECTS);
}

void vmm_aml_method_begin(struct vmm_aml *a, const char *path, uint32_t args, bool serialized)
{
    if (args > 7)
        vmm_aml_fail(a, -EINVAL, "a method with %u arguments", args);
    open_object(a, OP_METHOD, path, AML_CODE);
    vmm_aml_put_le(a, args | (serialized ? 8u : 0u), 1);
}

static void open_statement(struct vmm_aml *a, uint32_t op, uint32_t operands)
{
    if (!begin_term(a, TERM_STATEMENT, 0))
        return;
    put_op(a, op);
    if (!open_block(a, AML_CODE))
        return;
    top(a)->operands = operands;
    top(a)->is_if = op == OP_IF;
}

void vmm_aml_if_begin(struct vmm_aml *a)
{
    open_statement(a, OP_IF, 1);
}

void vmm_aml_else_begin(struct vmm_aml *a)
{
    if (a->if_end != a->length)
        vmm_aml_fail(a, -EINVAL, "an Else that does not follow an If");
    open_statement(a, OP_ELSE, 0);
}

void vmm_aml_while_begin(struct vmm_aml *a)
{
    open_statement(a, OP_WHILE, 1);
}

void vmm_aml_package_begin(struct vmm_aml *a, uint32_t elements)
{
    if (elements > 255)
        vmm_aml_fail(a, -E2BIG, "a package of %u elements", elements);
    if (!begin_term(a, TERM_DATA, 0))
        return;
    put_op(a, OP_PACKAGE);
    if (!open_block(a, AML_PACKAGE))
        return;
    vmm_aml_put_le(a, elements, 1);
    top(a)->operands = elements;
}

void vmm_aml_resources_begin(struct vmm_aml *a)
{
    if (!begin_term(a, TERM_DATA, 0))
        return;
    put_op(a, OP_BUFFER);
    (void)open_block(a, AML_RESOURCES);
}

void vmm_aml_field_begin(struct vmm_aml *a, const char *region, uint32_t access, bool lock)
{
    uint32_t type = access == 1 ? 1 : access == 2 ? 2 : access == 4 ? 3 : access == 8 ? 4 : 0;
    if (access && !type)
        vmm_aml_fail(a, -EINVAL, "a field cannot be accessed by %u bytes", access);
    open_object(a, EXT_FIELD, region, AML_FIELD);
    vmm_aml_put_le(a, type | (lock ? 0x10u : 0), 1);
}

void vmm_aml_field_unit(struct vmm_aml *a, const char *name, uint32_t bits)
{
    char segment[4] = {0};
    uint8_t length[4];
    size_t n = name ? parse_segment(name, segment) : 0;
    size_t size = encode_package_length(bits, false, length);
    if (top(a)->kind != AML_FIELD)
        vmm_aml_fail(a, -EINVAL, "a field unit outside of a field");
    else if (name && (!n || name[n] != '\0'))
        vmm_aml_fail(a, -EINVAL, "\"%.40s\" is not one segment of a name", name);
    else if (bits == 0 || !size)
        vmm_aml_fail(a, -EINVAL, "a field unit cannot have %u bits", bits);
    vmm_aml_put(a, segment, name ? 4 : 1); /* ReservedField begins with a zero byte */
    vmm_aml_put(a, length, size);
}

/* Named objects -------------------------------------------------------------------------------- */

void vmm_aml_name(struct vmm_aml *a, const char *path)
{
    put_object(a, OP_NAME, path);
    if (a->error.code)
        return;
    top(a)->operands = 1;
    top(a)->data_only = true;
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

void vmm_aml_name_eisaid(struct vmm_aml *a, const char *path, const char *id)
{
    vmm_aml_name(a, path);
    vmm_aml_eisaid(a, id);
}

/* An integer whose place in the grammar has been checked. */
static void put_int(struct vmm_aml *a, uint64_t value)
{
    uint8_t bytes[9];
    size_t n = encode_int(value, bytes);
    vmm_aml_put(a, bytes, n);
}

void vmm_aml_region(struct vmm_aml *a, const char *name, uint8_t space, uint64_t address,
                    uint64_t length)
{
    if (length == 0 || !vmm_range_ok(address, length))
        vmm_aml_fail(a, -EINVAL, "an operation region that is empty or wraps around");
    put_object(a, EXT_REGION, name);
    vmm_aml_put_le(a, space, 1);
    put_int(a, address);
    put_int(a, length);
}

void vmm_aml_mutex(struct vmm_aml *a, const char *name)
{
    put_object(a, EXT_MUTEX, name);
    vmm_aml_put_le(a, 0, 1); /* sync level */
}

void vmm_aml_external(struct vmm_aml *a, const char *path, uint32_t type, uint32_t args)
{
    if (type > 0xff || args > 7)
        vmm_aml_fail(a, -EINVAL, "an external of type %u with %u arguments", type, args);
    put_object(a, OP_EXTERNAL, path);
    vmm_aml_put_le(a, type | args << 8, 2);
}

void vmm_aml_append(struct vmm_aml *a, const void *terms, size_t length)
{
    if (!terms && length)
        vmm_aml_fail(a, -EINVAL, "there are no terms to append");
    if (begin_term(a, TERM_OBJECT, 0))
        vmm_aml_put(a, terms, length);
}

/* Values --------------------------------------------------------------------------------------- */

void vmm_aml_int(struct vmm_aml *a, uint64_t value)
{
    if (begin_term(a, TERM_DATA, 0))
        put_int(a, value);
}

void vmm_aml_string(struct vmm_aml *a, const char *text)
{
    if (!text)
        vmm_aml_fail(a, -EINVAL, "there is no string");
    for (const char *p = text; p && *p; p++)
        if ((unsigned char)*p > 127)
            vmm_aml_fail(a, -EINVAL, "a string that is not ASCII");
    if (!begin_term(a, TERM_DATA, 0))
        return;
    put_op(a, OP_STRING);
    vmm_aml_put(a, text, strlen(text) + 1);
}

void vmm_aml_buffer(struct vmm_aml *a, const void *data, size_t length)
{
    uint8_t package[4], size[9];
    size_t size_length = encode_int(length, size);
    size_t n =
        length < AML_LENGTH_MAX ? encode_package_length(length + size_length, true, package) : 0;
    if (!data && length)
        vmm_aml_fail(a, -EINVAL, "there are no bytes for a buffer");
    else if (!n)
        vmm_aml_fail(a, -E2BIG, "longer than a block can be");
    if (!begin_term(a, TERM_DATA, 0))
        return;
    put_op(a, OP_BUFFER);
    vmm_aml_put(a, package, n);
    vmm_aml_put(a, size, size_length);
    vmm_aml_put(a, data, length);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
                                  : -1;
}

/* Three letters of five bits and four digits of four, the first in the highest bits, stored as a
 * big-endian number (19.6.38). */
void vmm_aml_eisaid(struct vmm_aml *a, const char *id)
{
    uint32_t packed = 0;
    bool ok = id && strlen(id) == 7;
    for (size_t i = 0; ok && i < 7; i++) {
        int digit = hex_digit(id[i]);
        ok = i < 3 ? id[i] >= 'A' && id[i] <= 'Z' : digit >= 0;
        if (ok)
            packed = i < 3 ? packed << 5 | ((uint32_t)id[i] & 0x1f) : packed << 4 | (uint32_t)digit;
    }
    if (!ok)
        vmm_aml_fail(a, -EINVAL, "\"%.40s\" is not an EISA id", id ? id : "(null)");
    if (!begin_term(a, TERM_DATA, 0))
        return;
    put_op(a, OP_DWORD);
    vmm_aml_put_le(a, htobe32(packed), 4);
}

void vmm_aml_uuid(struct vmm_aml *a, const char *text)
{
    /* Where each byte of the buffer stands in the text: the first three fields are little-endian
     * (19.6.142). */
    static const uint8_t places[] = {6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34};
    uint8_t bytes[16] = {0};
    bool ok = text && strlen(text) == 36 && text[8] == '-' && text[13] == '-' && text[18] == '-' &&
              text[23] == '-';
    for (size_t i = 0; ok && i < sizeof(bytes); i++) {
        int high = hex_digit(text[places[i]]), low = hex_digit(text[places[i] + 1]);
        ok = high >= 0 && low >= 0;
        bytes[i] = ok ? (uint8_t)(high << 4 | low) : 0;
    }
    if (!ok)
        vmm_aml_fail(a, -EINVAL, "\"%.40s\" is not a UUID", text ? text : "(null)");
    vmm_aml_buffer(a, bytes, sizeof(bytes));
}

void vmm_aml_path(struct vmm_aml *a, const char *path)
{
    if (begin_term(a, TERM_PATH, 0))
        put_path(a, path);
}

static void put_variable(struct vmm_aml *a, uint32_t op)
{
    if (begin_term(a, TERM_VARIABLE, 0))
        put_op(a, op);
}

void vmm_aml_local(struct vmm_aml *a, uint32_t number)
{
    if (number > 7)
        vmm_aml_fail(a, -EINVAL, "there is no Local%u", number);
    put_variable(a, OP_LOCAL0 + number);
}

void vmm_aml_arg(struct vmm_aml *a, uint32_t number)
{
    if (number > 6)
        vmm_aml_fail(a, -EINVAL, "there is no Arg%u", number);
    put_variable(a, OP_ARG0 + number);
}

/* Operations ----------------------------------------------------------------------------------- */

struct operation {
    uint16_t op;
    uint8_t operands;
    bool has_value;
};

static const struct operation operations[] = {
    {VMM_AML_STORE, 2, true},        {VMM_AML_ADD, 3, true},
    {VMM_AML_CONCAT, 3, true},       {VMM_AML_SUBTRACT, 3, true},
    {VMM_AML_INCREMENT, 1, true},    {VMM_AML_DECREMENT, 1, true},
    {VMM_AML_MULTIPLY, 3, true},     {VMM_AML_DIVIDE, 4, true},
    {VMM_AML_SHIFT_LEFT, 3, true},   {VMM_AML_SHIFT_RIGHT, 3, true},
    {VMM_AML_AND, 3, true},          {VMM_AML_OR, 3, true},
    {VMM_AML_XOR, 3, true},          {VMM_AML_NOT, 2, true},
    {VMM_AML_DEREF, 1, true},        {VMM_AML_MOD, 3, true},
    {VMM_AML_NOTIFY, 2, false},      {VMM_AML_SIZE_OF, 1, true},
    {VMM_AML_INDEX, 3, true},        {VMM_AML_DWORD_FIELD, 3, false},
    {VMM_AML_QWORD_FIELD, 3, false}, {VMM_AML_LAND, 2, true},
    {VMM_AML_LOR, 2, true},          {VMM_AML_LNOT, 1, true},
    {VMM_AML_LEQUAL, 2, true},       {VMM_AML_LGREATER, 2, true},
    {VMM_AML_LLESS, 2, true},        {VMM_AML_TO_BUFFER, 2, true},
    {VMM_AML_TO_INTEGER, 2, true},   {VMM_AML_CONTINUE, 0, false},
    {VMM_AML_RETURN, 1, false},      {VMM_AML_BREAK, 0, false},
    {VMM_AML_STALL, 1, false},       {VMM_AML_SLEEP, 1, false},
    {VMM_AML_RELEASE, 1, false},
};

/* The fields of buffers are named objects by the grammar (20.2.5.2): they stand outside of methods too. */
static enum term term_of(const struct operation *o)
{
    if (o->op == VMM_AML_DWORD_FIELD || o->op == VMM_AML_QWORD_FIELD)
        return TERM_OBJECT;
    return o->has_value ? TERM_OPERATION : TERM_STATEMENT;
}

void vmm_aml_op(struct vmm_aml *a, uint32_t op)
{
    if (op == VMM_AML_NULL) {
        put_variable(a, 0);
        return;
    }
    for (size_t i = 0; i < VMM_ARRAY_SIZE(operations); i++) {
        const struct operation *o = &operations[i];
        if (o->op != op)
            continue;
        if (begin_term(a, term_of(o), o->operands))
            put_op(a, op);
        return;
    }
    vmm_aml_fail(a, -EINVAL, "%#x is not an operation", op);
}

void vmm_aml_acquire(struct vmm_aml *a, const char *path, uint32_t timeout_ms)
{
    if (timeout_ms > 0xffff)
        vmm_aml_fail(a, -EINVAL, "a time-out of %u ms", timeout_ms);
    if (!begin_term(a, TERM_OPERATION, 0))
        return;
    put_op(a, EXT_ACQUIRE);
    put_path(a, path);
    vmm_aml_put_le(a, timeout_ms, 2);
}

void vmm_aml_call(struct vmm_aml *a, const char *path, uint32_t args)
{
    if (args > 7)
        vmm_aml_fail(a, -EINVAL, "a call with %u arguments", args);
    if (begin_term(a, TERM_OPERATION, args))
        put_path(a, path);
}
