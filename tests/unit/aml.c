/* SPDX-License-Identifier: BSD-3-Clause */
/* The AML builder: each encoding byte for byte, and what it refuses. */
#include "base/util.h"
#include "test.h"

#include <libvmm/aml.h>

static struct vmm_aml *begin(void)
{
    struct vmm_aml *a;
    assert_int_equal(vmm_aml_new(&a), 0);
    return a;
}

/* The whole output is these bytes. */
static void expect_bytes(struct vmm_aml *a, const uint8_t *bytes, size_t length)
{
    const void *data;
    size_t got;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_aml_finish(a, &data, &got)) {
        vmm_aml_error(a, &err);
        fail_msg("%s", err.text);
    }
    assert_int_equal(got, length);
    assert_memory_equal(data, bytes, length);
    vmm_aml_free(a);
}
#define EXPECT(a, ...)                                                                             \
    do {                                                                                           \
        static const uint8_t bytes_[] = {__VA_ARGS__};                                             \
        expect_bytes(a, bytes_, sizeof(bytes_));                                                   \
    } while (0)

/* It failed, with this code and these words. */
static void expect_error(struct vmm_aml *a, int code, const char *words)
{
    const void *data = NULL;
    size_t length;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_aml_finish(a, &data, &length), code);
    assert_null(data);
    assert_int_equal(vmm_aml_error(a, &err), code);
    if (!strstr(err.text, words))
        fail_msg("\"%s\" has no \"%s\"", err.text, words);
    vmm_aml_free(a);
}

static void integers_take_the_fewest_bytes(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_name_int(a, "A", 0);
    vmm_aml_name_int(a, "A", 1);
    vmm_aml_name_int(a, "A", 2);
    vmm_aml_name_int(a, "A", 0xff);
    vmm_aml_name_int(a, "A", 0x100);
    vmm_aml_name_int(a, "A", 0xffff);
    vmm_aml_name_int(a, "A", 0x10000);
    vmm_aml_name_int(a, "A", 0xffffffff);
    vmm_aml_name_int(a, "A", 0x100000000);
    vmm_aml_name_int(a, "A", UINT64_MAX);
#define NAME_A 8, 'A', '_', '_', '_'
    EXPECT(a, NAME_A, 0, NAME_A, 1, NAME_A, 0x0a, 2, NAME_A, 0x0a, 0xff, NAME_A, 0x0b, 0, 1, NAME_A,
           0x0b, 0xff, 0xff, NAME_A, 0x0c, 0, 0, 1, 0, NAME_A, 0x0c, 0xff, 0xff, 0xff, 0xff, NAME_A,
           0x0e, 0, 0, 0, 0, 1, 0, 0, 0, NAME_A, 0xff);
}

static void names_are_encoded_by_their_form(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_scope_begin(a, "\\");
    vmm_aml_end(a);
    vmm_aml_scope_begin(a, "\\_SB");
    vmm_aml_end(a);
    vmm_aml_scope_begin(a, "_SB.PCI0");
    vmm_aml_end(a);
    vmm_aml_scope_begin(a, "^^A.B1.C");
    vmm_aml_end(a);
    EXPECT(a, 0x10, 3, '\\', 0,                                    /* */
           0x10, 6, '\\', '_', 'S', 'B', '_',                      /* */
           0x10, 10, 0x2e, '_', 'S', 'B', '_', 'P', 'C', 'I', '0', /* */
           0x10, 17, '^', '^', 0x2f, 3, 'A', '_', '_', '_', 'B', '1', '_', '_', 'C', '_', '_', '_');
}

static void malformed_names_are_refused(void **state)
{
    (void)state;
    static const char *const names[] = {"",    "TOOLONG", "1ABC", "abc",  "A..B", ".A",  "A.",
                                        "A B", "\\\\A",   "A^",   "^\\A", "\\.A", "A-B", NULL};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(names); i++) {
        struct vmm_aml *a = begin();
        vmm_aml_name_int(a, names[i], 1);
        expect_error(a, -EINVAL, "is not a name");
    }
    /* 255 segments fit, 256 do not. */
    char path[256 * 2];
    for (size_t i = 0; i < 256; i++)
        memcpy(path + 2 * i, "A.", 2);
    path[255 * 2 - 1] = '\0';
    struct vmm_aml *a = begin();
    const void *data;
    size_t length;
    vmm_aml_name_int(a, path, 1);
    assert_int_equal(vmm_aml_finish(a, &data, &length), 0);
    assert_int_equal(length, 1 + 2 + 255 * 4 + 1);
    path[255 * 2 - 1] = '.';
    path[256 * 2 - 1] = '\0';
    vmm_aml_name_int(a, path, 1);
    expect_error(a, -EINVAL, "is not a name");
}

/* PkgLength at each boundary: the length in the output must lead to its end. */
static void package_lengths_cover_their_blocks(void **state)
{
    (void)state;
    static const size_t sizes[] = {0,    1,    50,   54,   55,    56,      57,      58,
                                   59,   4084, 4085, 4086, 4087,  4088,    4089,    4090,
                                   4091, 4092, 4093, 5000, 70000, 1048560, 1048570, 1100000};
    uint8_t *zeros = calloc(1, 1100000);
    assert_non_null(zeros);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(sizes); i++) {
        struct vmm_aml *a = begin();
        const void *data;
        size_t length;
        vmm_aml_name(a, "A");
        vmm_aml_buffer(a, zeros, sizes[i]);
        assert_int_equal(vmm_aml_finish(a, &data, &length), 0);
        const uint8_t *p = (const uint8_t *)data + 5;
        assert_int_equal(p[0], 0x11);
        size_t more = p[1] >> 6;
        size_t value = more ? p[1] & 0xf : p[1] & 0x3f;
        for (size_t k = 0; k < more; k++)
            value |= (size_t)p[2 + k] << (4 + 8 * k);
        assert_int_equal(value, length - 6);
        if (more)
            assert_int_equal(p[1] & 0x30, 0);
        /* The shortest that holds it. */
        assert_int_equal(more, value < 0x40 ? 0 : value < 0x1000 ? 1 : value < 0x100000 ? 2 : 3);
        vmm_aml_free(a);
    }
    free(zeros);
}

static void a_block_of_256_mebibytes_is_refused(void **state)
{
    (void)state;
    size_t size = (size_t)100 << 20;
    uint8_t *zeros = calloc(1, size); /* not touched by this test */
    assert_non_null(zeros);
    struct vmm_aml *a = begin();
    vmm_aml_name(a, "A");
    vmm_aml_buffer(a, zeros, SIZE_MAX);
    expect_error(a, -E2BIG, "longer");
    a = begin();
    vmm_aml_name(a, "A");
    vmm_aml_buffer(a, zeros, 0x0fffffff);
    expect_error(a, -E2BIG, "longer");
    free(zeros);
}

static void values_have_their_bytes(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_name_string(a, "A", "hi");
    vmm_aml_name_eisaid(a, "A", "PNP0C0C");
    vmm_aml_name(a, "A");
    vmm_aml_buffer(a, "\1\2\3", 3);
    vmm_aml_name(a, "A");
    vmm_aml_uuid(a, "33db4d5b-1FF7-401c-9657-7441c03dd766");
    vmm_aml_name(a, "A");
    vmm_aml_package_begin(a, 3);
    vmm_aml_int(a, 5);
    vmm_aml_path(a, "B");
    vmm_aml_end(a);
    EXPECT(a, NAME_A, 0x0d, 'h', 'i', 0, NAME_A, 0x0c, 0x41, 0xd0, 0x0c, 0x0c, NAME_A, 0x11, 6,
           0x0a, 3, 1, 2, 3, NAME_A, 0x11, 19, 0x0a, 16, 0x5b, 0x4d, 0xdb, 0x33, 0xf7, 0x1f, 0x1c,
           0x40, 0x96, 0x57, 0x74, 0x41, 0xc0, 0x3d, 0xd7, 0x66, NAME_A, 0x12, 8, 3, 0x0a, 5, 'B',
           '_', '_', '_');
}

static void bad_values_are_refused(void **state)
{
    (void)state;
    static const char *const ids[] = {"",         "PNP",     "pnp0c0c", "PNP0C0",
                                      "PNP0C0CC", "PN10C0C", "PNP0C0G", NULL};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(ids); i++) {
        struct vmm_aml *a = begin();
        vmm_aml_name_eisaid(a, "A", ids[i]);
        expect_error(a, -EINVAL, "EISA");
    }
    static const char *const uuids[] = {"", "33db4d5b-1ff7-401c-9657-7441c03dd76",
                                        "33db4d5b-1ff7-401c-9657-7441c03dd76g",
                                        "33db4d5b+1ff7-401c-9657-7441c03dd766", NULL};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(uuids); i++) {
        struct vmm_aml *a = begin();
        vmm_aml_name(a, "A");
        vmm_aml_uuid(a, uuids[i]);
        expect_error(a, -EINVAL, "UUID");
    }
    struct vmm_aml *a = begin();
    vmm_aml_name_string(a, "A", "\xc3\xa4");
    expect_error(a, -EINVAL, "ASCII");
    a = begin();
    vmm_aml_name_string(a, "A", NULL);
    expect_error(a, -EINVAL, "no string");
    a = begin();
    vmm_aml_name(a, "A");
    vmm_aml_buffer(a, NULL, 1);
    expect_error(a, -EINVAL, "no bytes");
}

static void code_is_a_prefix_code(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_method_begin(a, "M", 1, true);
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_LEQUAL);
    vmm_aml_arg(a, 0);
    vmm_aml_int(a, 0);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_op(a, VMM_AML_AND);
    vmm_aml_local(a, 7);
    vmm_aml_int(a, 1);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_end(a);
    vmm_aml_else_begin(a);
    vmm_aml_op(a, VMM_AML_SLEEP);
    vmm_aml_int(a, 1);
    vmm_aml_end(a);
    vmm_aml_call(a, "F", 1);
    vmm_aml_path(a, "G");
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_acquire(a, "X", 0xffff);
    vmm_aml_local(a, 0);
    vmm_aml_end(a);
    EXPECT(a, 0x14, 39, 'M', '_', '_', '_', 0x09,                   /* */
           0xa0, 9, 0x93, 0x68, 0x00, 0xa4, 0x7b, 0x67, 0x01, 0x00, /* */
           0xa1, 4, 0x5b, 0x22, 0x01,                               /* */
           'F', '_', '_', '_', 'G', '_', '_', '_',                  /* */
           0x70, 0x5b, 0x23, 'X', '_', '_', '_', 0xff, 0xff, 0x60);
}

static void regions_fields_and_externals(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_external(a, "E", 8, 2);
    vmm_aml_mutex(a, "X");
    vmm_aml_region(a, "R", 1, 0x600, 8);
    vmm_aml_field_begin(a, "R", 4, true);
    vmm_aml_field_unit(a, "F", 32);
    vmm_aml_field_unit(a, NULL, 64);
    vmm_aml_field_unit(a, "G", 0x1000);
    vmm_aml_end(a);
    EXPECT(a, 0x15, 'E', '_', '_', '_', 8, 2, 0x5b, 0x01, 'X', '_', '_', '_', 0, /* */
           0x5b, 0x80, 'R', '_', '_', '_', 1, 0x0b, 0x00, 0x06, 0x0a, 8,         /* */
           0x5b, 0x81, 21, 'R', '_', '_', '_', 0x13, 'F', '_', '_', '_', 32,     /* */
           0, 0x40, 0x04, 'G', '_', '_', '_', 0x80, 0x00, 0x01);
}

static void descriptors_have_their_bytes(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_io(a, 0x3f8, 8);
    vmm_aml_irq(a, 4);
    vmm_aml_interrupt(a, 0x11223344, true, false, true);
    vmm_aml_memory32(a, 0xfed00000, 0x400, true);
    vmm_aml_end(a);
    EXPECT(a, 8, '_', 'C', 'R', 'S', 0x11, 37, 0x0a, 34, /* */
           0x47, 1, 0xf8, 3, 0xf8, 3, 1, 8,              /* */
           0x22, 0x10, 0,                                /* */
           0x89, 6, 0, 0x09, 1, 0x44, 0x33, 0x22, 0x11,  /* */
           0x86, 9, 0, 1, 0, 0, 0xd0, 0xfe, 0, 4, 0, 0,  /* */
           0x79, 0);
}

static void windows_have_their_bytes(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_name(a, "_CRS");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_BUSES, 16, 0, 0xff, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 32, 0xc0000000, 0xfebfffff, false);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, 0x100000000, 0x1ffffffff, true);
    vmm_aml_end(a);
    EXPECT(a, 8, '_', 'C', 'R', 'S', 0x11, 0x4e, 0x05, 0x0a, 0x5a,   /* */
           0x88, 13, 0, 2, 0x0c, 0, 0, 0, 0, 0, 0xff, 0, 0, 0, 0, 1, /* */
           0x87, 23, 0, 0, 0x0c, 1, 0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0xff, 0xbf, 0xfe, 0, 0, 0, 0,
           0, 0, 0xc0, 0x3e, /* */
           0x8a, 43, 0, 0, 0x0c, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0xff, 0xff,
           0xff, 0xff, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, /* */
           0x79, 0);
}

/* Each writes one wrong thing. */
static void end_of_nothing(struct vmm_aml *a)
{
    vmm_aml_end(a);
}
static void open_at_the_end(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "D");
}
static void name_without_value(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
}
static void name_of_a_reference(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_path(a, "B");
}
static void value_alone(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_int(a, 1);
}
static void code_at_the_top(struct vmm_aml *a)
{
    vmm_aml_op(a, VMM_AML_STORE);
}
static void call_at_the_top(struct vmm_aml *a)
{
    vmm_aml_path(a, "M");
}
static void operand_missing_at_end(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_int(a, 1);
    vmm_aml_end(a);
}
static void statement_as_operand(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_op(a, VMM_AML_BREAK);
}
static void surplus_operand(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_int(a, 1);
    vmm_aml_int(a, 2);
}
static void condition_missing(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_if_begin(a);
    vmm_aml_end(a);
}
static void else_without_if(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_else_begin(a);
}
static void else_after_a_while(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 0, false);
    vmm_aml_while_begin(a);
    vmm_aml_int(a, 0);
    vmm_aml_end(a);
    vmm_aml_else_begin(a);
}
static void surplus_element(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_package_begin(a, 1);
    vmm_aml_int(a, 1);
    vmm_aml_int(a, 2);
}
static void operation_in_a_package(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_package_begin(a, 1);
    vmm_aml_op(a, VMM_AML_LNOT);
}
static void device_in_resources(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_device_begin(a, "D");
}
static void value_in_a_field(struct vmm_aml *a)
{
    vmm_aml_field_begin(a, "R", 1, false);
    vmm_aml_int(a, 1);
}
static void unit_at_the_top(struct vmm_aml *a)
{
    vmm_aml_field_unit(a, "F", 1);
}
static void unit_of_no_bits(struct vmm_aml *a)
{
    vmm_aml_field_begin(a, "R", 1, false);
    vmm_aml_field_unit(a, "F", 0);
}
static void unit_of_too_many_bits(struct vmm_aml *a)
{
    vmm_aml_field_begin(a, "R", 1, false);
    vmm_aml_field_unit(a, "F", 0x10000000);
}
static void unit_with_a_path(struct vmm_aml *a)
{
    vmm_aml_field_begin(a, "R", 1, false);
    vmm_aml_field_unit(a, "F.G", 1);
}
static void field_of_three_bytes(struct vmm_aml *a)
{
    vmm_aml_field_begin(a, "R", 3, false);
}
static void descriptor_at_the_top(struct vmm_aml *a)
{
    vmm_aml_interrupt(a, 1, true, true, true);
}
static void irq_16(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_irq(a, 16);
}
static void ports_beyond_the_end(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_io(a, 0xfffc, 8);
}
static void memory_that_wraps(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_memory32(a, 0xfffff000, 0x2000, true);
}
static void high_memory_that_wraps(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_memory64(a, UINT64_MAX - 0xfff, 0x2000);
}
static void window_backwards(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 16, 2, 1, false);
}
static void window_of_everything(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, 0, UINT64_MAX, false);
}
static void window_too_wide(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_PORTS, 16, 0, 0x10000, false);
}
static void local_8(struct vmm_aml *a)
{
    vmm_aml_local(a, 8);
}
static void arg_7(struct vmm_aml *a)
{
    vmm_aml_arg(a, 7);
}
static void eight_arguments(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "M", 8, false);
}
static void call_with_eight(struct vmm_aml *a)
{
    vmm_aml_call(a, "M", 8);
}
static void unknown_operation(struct vmm_aml *a)
{
    vmm_aml_op(a, 0x5bff);
}
static void long_acquire(struct vmm_aml *a)
{
    vmm_aml_acquire(a, "M", 0x10000);
}
static void bad_external(struct vmm_aml *a)
{
    vmm_aml_external(a, "M", 8, 8);
}
static void empty_region(struct vmm_aml *a)
{
    vmm_aml_region(a, "R", 0, 0, 0);
}
static void wrapping_region(struct vmm_aml *a)
{
    vmm_aml_region(a, "R", 0, UINT64_MAX, 2);
}
static void append_nothing(struct vmm_aml *a)
{
    vmm_aml_append(a, NULL, 1);
}
static void append_as_operand(struct vmm_aml *a)
{
    vmm_aml_name(a, "A");
    vmm_aml_append(a, "\x01", 1);
}

static void unsound_code_is_refused(void **state)
{
    (void)state;
    static const struct {
        void (*write)(struct vmm_aml *a);
        const char *words;
    } cases[] = {
        {end_of_nothing, "nothing is open"},
        {open_at_the_end, "have not been ended"},
        {name_without_value, "operands are missing"},
        {name_of_a_reference, "must be data"},
        {value_alone, "where a statement must be"},
        {code_at_the_top, "outside of a method"},
        {call_at_the_top, "outside of a method"},
        {operand_missing_at_end, "operands are missing"},
        {statement_as_operand, "operand is missing"},
        {surplus_operand, "where a statement must be"},
        {condition_missing, "operands are missing"},
        {else_without_if, "does not follow an If"},
        {else_after_a_while, "does not follow an If"},
        {surplus_element, "surplus element"},
        {operation_in_a_package, "not an element"},
        {device_in_resources, "inside a field or a resource"},
        {value_in_a_field, "inside a field or a resource"},
        {unit_at_the_top, "outside of a field"},
        {unit_of_no_bits, "cannot have 0 bits"},
        {unit_of_too_many_bits, "cannot have"},
        {unit_with_a_path, "not one segment"},
        {field_of_three_bytes, "by 3 bytes"},
        {descriptor_at_the_top, "outside of a resource template"},
        {irq_16, "ISA interrupt 16"},
        {ports_beyond_the_end, "ports at 0xfffc"},
        {memory_that_wraps, "memory at 0xfffff000"},
        {high_memory_that_wraps, "memory of 0x2000 bytes"},
        {window_backwards, "window"},
        {window_of_everything, "window"},
        {window_too_wide, "window"},
        {local_8, "Local8"},
        {arg_7, "Arg7"},
        {eight_arguments, "8 arguments"},
        {call_with_eight, "8 arguments"},
        {unknown_operation, "not an operation"},
        {long_acquire, "time-out"},
        {bad_external, "external"},
        {empty_region, "empty or wraps"},
        {wrapping_region, "empty or wraps"},
        {append_nothing, "no terms"},
        {append_as_operand, "operand is missing"},
    };
    for (size_t i = 0; i < VMM_ARRAY_SIZE(cases); i++) {
        struct vmm_aml *a = begin();
        cases[i].write(a);
        expect_error(a, -EINVAL, cases[i].words);
    }
}

static void depth_and_counts_are_bounded(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    for (int i = 0; i < 31; i++)
        vmm_aml_device_begin(a, "D");
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_aml_error(a, &err), 0);
    vmm_aml_device_begin(a, "D");
    expect_error(a, -E2BIG, "31 blocks");
    a = begin();
    vmm_aml_name(a, "A");
    vmm_aml_package_begin(a, 256);
    expect_error(a, -E2BIG, "256 elements");
}

static void the_first_error_sticks(void **state)
{
    (void)state;
    struct vmm_aml *a = begin();
    vmm_aml_local(a, 9);
    vmm_aml_end(a);
    vmm_aml_name_int(a, "GOOD", 1);
    vmm_aml_arg(a, 9);
    expect_error(a, -EINVAL, "Local9");
    assert_null(vmm_aml_free(NULL));
}

/* What one builder made can become part of another. */
static void builders_combine(void **state)
{
    (void)state;
    struct vmm_aml *a = begin(), *b = begin();
    const void *data;
    size_t length;
    vmm_aml_name_int(b, "A", 1);
    assert_int_equal(vmm_aml_finish(b, &data, &length), 0);
    vmm_aml_scope_begin(a, "\\");
    vmm_aml_append(a, data, length);
    vmm_aml_end(a);
    vmm_aml_free(b);
    EXPECT(a, 0x10, 9, '\\', 0, NAME_A, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integers_take_the_fewest_bytes),
        cmocka_unit_test(names_are_encoded_by_their_form),
        cmocka_unit_test(malformed_names_are_refused),
        cmocka_unit_test(package_lengths_cover_their_blocks),
        cmocka_unit_test(a_block_of_256_mebibytes_is_refused),
        cmocka_unit_test(values_have_their_bytes),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(code_is_a_prefix_code),
        cmocka_unit_test(regions_fields_and_externals),
        cmocka_unit_test(descriptors_have_their_bytes),
        cmocka_unit_test(windows_have_their_bytes),
        cmocka_unit_test(unsound_code_is_refused),
        cmocka_unit_test(depth_and_counts_are_bounded),
        cmocka_unit_test(the_first_error_sticks),
        cmocka_unit_test(builders_combine),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
