/* SPDX-License-Identifier: BSD-3-Clause */
/* Saved state: what is written is read back, and nothing else is taken for it. */
#include <libvmm/state.h>

#include "test.h"

#include <errno.h>
#include <libfdt.h>
#include <string.h>

static struct vmm_state_writer *writer(void)
{
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    return w;
}

static void *finish(struct vmm_state_writer *w, size_t *length)
{
    void *blob;
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static struct vmm_state_reader *reader(const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, &err), 0);
    return r;
}

/* A node "dev" with one field of each kind, and a child. */
static void *sample(size_t *length)
{
    struct vmm_state_writer *w = writer();
    assert_int_equal(vmm_state_begin(w, "dev@10", 9), 0);
    assert_int_equal(vmm_state_end(w), 0);
    assert_int_equal(vmm_state_begin(w, "dev", 3), 0);
    assert_int_equal(vmm_state_put_u32(w, "small", 0xdeadbeef), 0);
    assert_int_equal(vmm_state_put_u64(w, "large", 0x0123456789abcdef), 0);
    assert_int_equal(vmm_state_put_bytes(w, "bytes", "\0\1\2", 3), 0);
    assert_int_equal(vmm_state_put_bytes(w, "none", NULL, 0), 0);
    assert_int_equal(vmm_state_put_string(w, "text", "hello"), 0);
    assert_int_equal(vmm_state_begin(w, "child", 1), 0);
    assert_int_equal(vmm_state_end(w), 0);
    assert_int_equal(vmm_state_end(w), 0);
    return finish(w, length);
}

static void everything_comes_back(void **state)
{
    (void)state;
    size_t length, n;
    void *blob = sample(&length);
    struct vmm_state_reader *r = reader(blob, length);
    struct vmm_error err = VMM_ERROR_INIT;
    uint32_t version = 0, small = 0;
    uint64_t large = 0;
    uint8_t bytes[3];
    const void *data;
    const char *text;
    assert_int_equal(vmm_state_enter(r, "dev", 3, &version, &err), 0);
    assert_int_equal(version, 3);
    assert_int_equal(vmm_state_get_u32(r, "small", UINT32_MAX, &small, &err), 0);
    assert_int_equal(small, 0xdeadbeef);
    assert_int_equal(vmm_state_get_u64(r, "large", UINT64_MAX, &large, &err), 0);
    assert_int_equal(large, 0x0123456789abcdef);
    assert_int_equal(vmm_state_get_bytes(r, "bytes", bytes, 3, &err), 0);
    assert_memory_equal(bytes, "\0\1\2", 3);
    assert_int_equal(vmm_state_get_blob(r, "bytes", &data, &n, &err), 0);
    assert_int_equal(n, 3);
    assert_memory_equal(data, "\0\1\2", 3);
    assert_int_equal(vmm_state_get_blob(r, "none", &data, &n, &err), 0);
    assert_int_equal(n, 0);
    assert_int_equal(vmm_state_get_string(r, "text", &text, &err), 0);
    assert_string_equal(text, "hello");
    assert_int_equal(vmm_state_enter(r, "child", 1, NULL, &err), 0);
    assert_int_equal(vmm_state_leave(r), 0);
    assert_int_equal(vmm_state_leave(r), 0);
    assert_int_equal(vmm_state_leave(r), -EINVAL);
    assert_string_equal(err.text, ""); /* success leaves it untouched */
    assert_int_equal(vmm_state_enter(r, "dev@10", 9, &version, &err), 0);
    assert_int_equal(version, 9);
    vmm_state_reader_free(r);
    free(blob);
}

static void a_large_state_grows(void **state)
{
    (void)state;
    size_t length, n;
    struct vmm_state_writer *w = writer();
    uint8_t *big = malloc(5000000);
    char name[32];
    for (size_t i = 0; i < 5000000; i++)
        big[i] = (uint8_t)(i * 7);
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "device-%d", i);
        assert_int_equal(vmm_state_begin(w, name, 1), 0);
        snprintf(name, sizeof(name), "field-%d", i);
        assert_int_equal(vmm_state_put_u32(w, name, (uint32_t)i), 0);
        assert_int_equal(vmm_state_end(w), 0);
    }
    assert_int_equal(vmm_state_begin(w, "ram", 1), 0);
    assert_int_equal(vmm_state_put_bytes(w, "data", big, 5000000), 0);
    assert_int_equal(vmm_state_end(w), 0);
    void *blob = finish(w, &length);
    struct vmm_state_reader *r = reader(blob, length);
    uint32_t value;
    const void *data;
    for (int i = 0; i < 500; i++) {
        snprintf(name, sizeof(name), "device-%d", i);
        assert_int_equal(vmm_state_enter(r, name, 1, NULL, NULL), 0);
        snprintf(name, sizeof(name), "field-%d", i);
        assert_int_equal(vmm_state_get_u32(r, name, 500, &value, NULL), 0);
        assert_int_equal(value, i);
        vmm_state_leave(r);
    }
    assert_int_equal(vmm_state_enter(r, "ram", 1, NULL, NULL), 0);
    assert_int_equal(vmm_state_get_blob(r, "data", &data, &n, NULL), 0);
    assert_int_equal(n, 5000000);
    assert_memory_equal(data, big, n);
    vmm_state_reader_free(r);
    free(blob);
    free(big);
}

static void expect(int ret, int code, const struct vmm_error *err, const char *node,
                   const char *field)
{
    assert_int_equal(ret, code);
    assert_int_equal(err->code, code);
    assert_non_null(strstr(err->text, node));
    assert_non_null(strstr(err->text, field));
}

static void errors_name_node_and_field(void **state)
{
    (void)state;
    size_t length, n;
    void *blob = sample(&length);
    struct vmm_state_reader *r = reader(blob, length);
    struct vmm_error e = VMM_ERROR_INIT;
    uint32_t u32 = 1;
    uint64_t u64 = 2;
    uint8_t bytes[8];
    const void *data;
    const char *text = NULL;
    expect(vmm_state_enter(r, "nobody", 1, NULL, &e), -ENOENT, &e, "", "nobody");
    expect(vmm_state_enter(r, "de", 1, NULL, &e), -ENOENT, &e, "", "de");
    expect(vmm_state_enter(r, "dev", 2, &u32, &e), -ENOTSUP, &e, "dev", "version");
    expect(vmm_state_enter(r, "child", 1, NULL, &e), -ENOENT, &e, "", "child"); /* still at root */
    assert_int_equal(vmm_state_enter(r, "dev", 3, NULL, &e), 0);
    expect(vmm_state_get_u32(r, "missing", 9, &u32, &e), -ENOENT, &e, "dev", "missing");
    expect(vmm_state_get_u32(r, "small", 9, &u32, &e), -ERANGE, &e, "dev", "small");
    expect(vmm_state_get_u32(r, "large", 9, &u32, &e), -EINVAL, &e, "dev", "large");
    expect(vmm_state_get_u64(r, "large", 9, &u64, &e), -ERANGE, &e, "dev", "large");
    expect(vmm_state_get_u64(r, "small", 9, &u64, &e), -EINVAL, &e, "dev", "small");
    expect(vmm_state_get_bytes(r, "bytes", bytes, 2, &e), -EINVAL, &e, "dev", "bytes");
    expect(vmm_state_get_bytes(r, "bytes", bytes, 4, &e), -EINVAL, &e, "dev", "bytes");
    expect(vmm_state_get_bytes(r, "bytes", bytes, SIZE_MAX, &e), -E2BIG, &e, "dev", "bytes");
    expect(vmm_state_get_blob(r, "gone", &data, &n, &e), -ENOENT, &e, "dev", "gone");
    expect(vmm_state_get_string(r, "bytes", &text, &e), -EINVAL, &e, "dev", "bytes");
    expect(vmm_state_get_string(r, "none", &text, &e), -EINVAL, &e, "dev", "none");
    assert_int_equal(u32, 1); /* an error changes nothing */
    assert_int_equal(u64, 2);
    assert_null(text);
    vmm_state_reader_free(r);
    free(blob);
}

static void writer_errors_stick(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "a/b", "a b", "12345678901234567890123456789012", NULL};
    size_t length;
    void *blob = NULL;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vmm_state_writer *w = writer();
        assert_int_equal(vmm_state_begin(w, bad[i], 1), -EINVAL);
        assert_int_equal(vmm_state_put_u32(w, "fine", 1), -EINVAL);
        assert_int_equal(vmm_state_writer_finish(w, &blob, &length), -EINVAL);
        vmm_state_writer_free(w);
        w = writer();
        assert_int_equal(vmm_state_put_u32(w, bad[i], 1), -EINVAL);
        assert_int_equal(vmm_state_begin(w, "fine", 1), -EINVAL);
        vmm_state_writer_free(w);
    }
    struct vmm_state_writer *w = writer();
    assert_int_equal(vmm_state_end(w), -EINVAL); /* nothing is open */
    vmm_state_writer_free(w);
    w = writer();
    assert_int_equal(vmm_state_begin(w, "open", 1), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), -EINVAL);
    vmm_state_writer_free(w);
    w = writer();
    assert_int_equal(vmm_state_put_string(w, "text", NULL), -EINVAL);
    vmm_state_writer_free(w);
    w = writer();
    assert_int_equal(vmm_state_put_bytes(w, "huge", "x", SIZE_MAX), -E2BIG);
    vmm_state_writer_free(w);
    w = writer();
    int ret = 0;
    for (int i = 0; i < 100 && ret == 0; i++)
        ret = vmm_state_begin(w, "deep", 1);
    assert_int_equal(ret, -EINVAL);
    vmm_state_writer_free(w);
    assert_null(blob);
    assert_null(vmm_state_writer_free(NULL));
    assert_null(vmm_state_reader_free(NULL));
    assert_int_equal(vmm_state_writer_new(NULL), -EINVAL);
}

static void a_finished_writer_writes_no_more(void **state)
{
    (void)state;
    struct vmm_state_writer *w = writer();
    void *blob;
    size_t length;
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    assert_int_equal(vmm_state_put_u32(w, "late", 1), -EINVAL);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), -EINVAL);
    vmm_state_writer_free(w);
    free(blob);
}

/* Every truncation is refused, and an unaligned blob reads as an aligned one. */
static void truncated_and_unaligned_blobs(void **state)
{
    (void)state;
    size_t length;
    uint8_t *blob = sample(&length);
    for (size_t n = 0; n < length; n++) {
        uint8_t *cut = malloc(n ? n : 1); /* so that the sanitizer sees the end */
        memcpy(cut, blob, n);
        struct vmm_state_reader *r = NULL;
        struct vmm_error err = VMM_ERROR_INIT;
        assert_int_equal(vmm_state_reader_new(cut, n, &r, &err), -EINVAL);
        assert_non_null(strstr(err.text, "device tree"));
        assert_null(r);
        free(cut);
    }
    uint8_t *odd = malloc(length + 1);
    memcpy(odd + 1, blob, length);
    struct vmm_state_reader *r = reader(odd + 1, length);
    uint32_t value;
    assert_int_equal(vmm_state_enter(r, "dev", 3, NULL, NULL), 0);
    assert_int_equal(vmm_state_get_u32(r, "small", UINT32_MAX, &value, NULL), 0);
    assert_int_equal(value, 0xdeadbeef);
    vmm_state_reader_free(r);
    assert_int_equal(vmm_state_reader_new(NULL, 4, &r, NULL), -EINVAL);
    assert_int_equal(vmm_state_reader_new(blob, length, NULL, NULL), -EINVAL);
    fdt_set_version(blob, 16);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), -EINVAL);
    free(odd);
    free(blob);
}

/* Each byte of a blob set to each of a few values: refused or read, never out of bounds. */
static void forged_bytes_do_no_harm(void **state)
{
    (void)state;
    static const uint8_t values[] = {0x00, 0x01, 0x7f, 0x80, 0xff};
    size_t length, n;
    uint8_t *blob = sample(&length);
    int accepted = 0;
    for (size_t i = 0; i < length; i++) {
        for (size_t v = 0; v < sizeof(values); v++) {
            uint8_t *forged = malloc(length);
            memcpy(forged, blob, length);
            forged[i] = values[v];
            struct vmm_state_reader *r;
            if (vmm_state_reader_new(forged, length, &r, NULL) == 0) {
                uint32_t u32;
                const char *text;
                const void *data;
                accepted++;
                if (vmm_state_enter(r, "dev", 3, NULL, NULL) == 0) {
                    vmm_state_get_u32(r, "small", 5, &u32, NULL);
                    if (vmm_state_get_string(r, "text", &text, NULL) == 0)
                        assert_true(strlen(text) < length);
                    vmm_state_get_blob(r, "bytes", &data, &n, NULL);
                }
                vmm_state_reader_free(r);
            }
            free(forged);
        }
    }
    assert_true(accepted > 0);
    free(blob);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_comes_back),
        cmocka_unit_test(a_large_state_grows),
        cmocka_unit_test(errors_name_node_and_field),
        cmocka_unit_test(writer_errors_stick),
        cmocka_unit_test(a_finished_writer_writes_no_more),
        cmocka_unit_test(truncated_and_unaligned_blobs),
        cmocka_unit_test(forged_bytes_do_no_harm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
