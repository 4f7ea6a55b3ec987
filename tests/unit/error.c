/* SPDX-License-Identifier: BSD-3-Clause */
/* Error texts, log messages, and structures that cross the ABI. */
#include "base/util.h"
#include "test.h"

#include <libvmm/error.h>
#include <libvmm/log.h>
#include <libvmm/types.h>

#include <string.h>

static bool valid_utf8_end(const char *text)
{
    size_t n = strlen(text), tail = 0;
    while (n > tail && ((unsigned char)text[n - 1 - tail] & 0xc0) == 0x80)
        tail++;
    if (n == tail)
        return tail == 0;
    unsigned char lead = (unsigned char)text[n - 1 - tail];
    size_t want = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    return want == tail;
}

static void set_fills_in_and_returns_the_code(void **state)
{
    (void)state;
    struct vmm_error err;
    memset(&err, 0xff, sizeof(err));
    assert_int_equal(vmm_error_set(&err, -EINVAL, "field %s: %d", "x", 5), -EINVAL);
    assert_int_equal(err.code, -EINVAL);
    assert_int_equal(err.reserved, 0);
    assert_string_equal(err.text, "field x: 5");
    assert_int_equal(vmm_error_set(NULL, -EIO, "%d", 1), -EIO);
    assert_int_equal(sizeof(struct vmm_error), 8 + VMM_ERROR_TEXT_SIZE);
}

static void texts_are_cut_between_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
    struct vmm_error err = VMM_ERROR_INIT;
    for (size_t c = 0; c < 4; c++) {
        for (size_t offset = 0; offset < 5; offset++) {
            char text[2 * VMM_ERROR_TEXT_SIZE + 16] = "";
            memset(text, '.', offset);
            for (size_t n = offset; n < 2 * VMM_ERROR_TEXT_SIZE; n += strlen(characters[c]))
                strcpy(text + n, characters[c]);
            vmm_error_set(&err, -EINVAL, "%s", text);
            assert_true(strlen(err.text) < VMM_ERROR_TEXT_SIZE);
            assert_true(strlen(err.text) + strlen(characters[c]) >= VMM_ERROR_TEXT_SIZE);
            assert_true(valid_utf8_end(err.text));
            assert_int_equal(strncmp(err.text, text, strlen(err.text)), 0);
            vmm_error_prefix(&err, "%s", "in front");
            assert_true(strlen(err.text) < VMM_ERROR_TEXT_SIZE);
            assert_true(strlen(err.text) + strlen(characters[c]) >= VMM_ERROR_TEXT_SIZE);
            assert_true(valid_utf8_end(err.text));
            assert_int_equal(strncmp(err.text, "in front: ", 10), 0);
        }
    }
}

static void a_text_that_just_fits_is_whole(void **state)
{
    (void)state;
    struct vmm_error err = VMM_ERROR_INIT;
    char text[VMM_ERROR_TEXT_SIZE] = "";
    memset(text, 'x', VMM_ERROR_TEXT_SIZE - 3);
    strcat(text, "\xc3\xa4"); /* fills it to the last byte */
    vmm_error_set(&err, -EINVAL, "%s", text);
    assert_string_equal(err.text, text);
}

static void prefix_keeps_the_code(void **state)
{
    (void)state;
    struct vmm_error err = VMM_ERROR_INIT;
    vmm_error_set(&err, -ENOENT, "no such thing");
    vmm_error_prefix(&err, "disk %d", 3);
    assert_int_equal(err.code, -ENOENT);
    assert_string_equal(err.text, "disk 3: no such thing");
    vmm_error_prefix(NULL, "nothing");
    char longer[2 * VMM_ERROR_TEXT_SIZE];
    memset(longer, 'p', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = '\0';
    vmm_error_prefix(&err, "%s", longer);
    assert_int_equal(strlen(err.text), VMM_ERROR_TEXT_SIZE - 1);
}

struct sink {
    int count;
    uint32_t level;
    char text[VMM_ERROR_TEXT_SIZE];
};

static void take(void *ctx, uint32_t level, const char *component, const char *text)
{
    struct sink *sink = ctx;
    assert_string_equal(component, "unit");
    sink->count++;
    sink->level = level;
    strcpy(sink->text, text);
}

static void log_drops_what_is_above_its_level(void **state)
{
    (void)state;
    struct sink sink = {0};
    struct vmm_log log = {.write = take, .ctx = &sink};
    vmm_log_write(&log, VMM_LOG_INFO, "unit", "too much");
    assert_int_equal(sink.count, 0);
    vmm_log_write(&log, VMM_LOG_WARN, "unit", "n=%d", 4);
    assert_string_equal(sink.text, "n=4");
    log.level = VMM_LOG_DEBUG;
    vmm_log_write(&log, VMM_LOG_DEBUG, "unit", "%01000d", 1);
    assert_int_equal(sink.count, 2);
    assert_int_equal(strlen(sink.text), VMM_ERROR_TEXT_SIZE - 1);
    log.level = VMM_LOG_ERROR;
    vmm_log_write(&log, VMM_LOG_WARN, "unit", "too much");
    assert_int_equal(sink.count, 2);
    log.write = NULL;
    vmm_log_write(&log, VMM_LOG_ERROR, "unit", "x");
    vmm_log_write(NULL, VMM_LOG_ERROR, "unit", "x");
}

struct options {
    size_t size;
    uint64_t a, b;
};

struct grown {
    struct options known;
    uint8_t tail[16];
};

static void options_from_older_and_newer_callers(void **state)
{
    (void)state;
    struct options to;
    struct grown from = {.known = {sizeof(from), 1, 2}};
    assert_int_equal(vmm_options_copy(&to, sizeof(to), &from), 0);
    assert_int_equal(to.size, sizeof(to));
    assert_int_equal(to.a, 1);
    assert_int_equal(to.b, 2);
    for (size_t i = 0; i < sizeof(from.tail); i++) { /* any byte of the tail counts */
        from.tail[i] = 1;
        assert_int_equal(vmm_options_copy(&to, sizeof(to), &from), -E2BIG);
        from.tail[i] = 0;
    }
    memset(&to, 0xff, sizeof(to));
    from.known.size = offsetof(struct options, b); /* a caller from before there was b */
    assert_int_equal(vmm_options_copy(&to, sizeof(to), &from), 0);
    assert_int_equal(to.a, 1);
    assert_int_equal(to.b, 0);
    from.known.size = offsetof(struct options, b) + 3; /* even half a field */
    assert_int_equal(vmm_options_copy(&to, sizeof(to), &from), 0);
    assert_int_equal(to.b, 2);
    from.known.size = sizeof(size_t);
    assert_int_equal(vmm_options_copy(&to, sizeof(to), &from), 0);
    assert_int_equal(to.a, 0);
    for (size_t size = 0; size < sizeof(size_t); size++) {
        from.known.size = size;
        assert_int_equal(vmm_options_copy(&to, sizeof(to), &from), -EINVAL);
    }
}

static void info_fills_what_the_caller_knows(void **state)
{
    (void)state;
    struct options from = {sizeof(from), 1, 2};
    struct grown to;
    memset(&to, 0xee, sizeof(to));
    to.known.size = sizeof(to);
    assert_int_equal(vmm_info_copy(&to, &from, sizeof(from)), 0);
    assert_int_equal(to.known.size, sizeof(to));
    assert_int_equal(to.known.b, 2);
    assert_int_equal(to.tail[0], 0xee);
    memset(&to, 0xee, sizeof(to));
    to.known.size = offsetof(struct options, b);
    assert_int_equal(vmm_info_copy(&to, &from, sizeof(from)), 0);
    assert_int_equal(to.known.a, 1);
    assert_int_equal(to.known.b, 0xeeeeeeeeeeeeeeee);
    to.known.size = 7;
    assert_int_equal(vmm_info_copy(&to, &from, sizeof(from)), -EINVAL);
}

static void ranges(void **state)
{
    (void)state;
    assert_true(vmm_range_ok(UINT64_MAX, 1));
    assert_false(vmm_range_ok(UINT64_MAX, 2));
    assert_true(vmm_range_ok(UINT64_MAX, 0));
    assert_true(vmm_range_ok(0, UINT64_MAX));
    assert_false(vmm_range_ok(2, UINT64_MAX));
    assert_true(vmm_ranges_overlap(0, 2, 1, 1));
    assert_false(vmm_ranges_overlap(0, 1, 1, 1));
    assert_true(vmm_ranges_overlap(UINT64_MAX, 1, UINT64_MAX - 1, 2));
    assert_true(vmm_is_power_of_two(1ull << 63));
    assert_false(vmm_is_power_of_two(0));
    assert_false(vmm_is_power_of_two(6));
    assert_int_equal(vmm_align_up(1, 4096), 4096);
    assert_int_equal(vmm_align_up(4096, 4096), 4096);
}

static void the_version_is_that_of_the_headers(void **state)
{
    (void)state;
    char text[32];
    snprintf(text, sizeof(text), "%d.%d.%d", VMM_VERSION_MAJOR, VMM_VERSION_MINOR,
             VMM_VERSION_PATCH);
    assert_string_equal(vmm_version(), text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(set_fills_in_and_returns_the_code),
        cmocka_unit_test(texts_are_cut_between_characters),
        cmocka_unit_test(a_text_that_just_fits_is_whole),
        cmocka_unit_test(prefix_keeps_the_code),
        cmocka_unit_test(log_drops_what_is_above_its_level),
        cmocka_unit_test(options_from_older_and_newer_callers),
        cmocka_unit_test(info_fills_what_the_caller_knows),
        cmocka_unit_test(ranges),
        cmocka_unit_test(the_version_is_that_of_the_headers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
