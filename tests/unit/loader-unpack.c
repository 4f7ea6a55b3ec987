/* SPDX-License-Identifier: BSD-3-Clause */
/* Kernel payloads: each compression, sizes that lie, damage at every byte. The payloads were made by
 * the tools that Linux's build uses: gzip -n -9, xz --check=crc32 --x86 --lzma2, lz4 -l -9,
 * zstd -22 --ultra, and the size appended where it is. */
#include "loader/unpack.h"
#include "test.h"

#include "base/util.h"
#include <libvmm/loader.h>

#include "loader-payloads.h"

static const struct {
    const char *name;
    const uint8_t *data;
    size_t length;
} payloads[] = {
    {"gzip", payload_gzip, sizeof(payload_gzip)},
    {"xz", payload_xz, sizeof(payload_xz)},
    {"lz4", payload_lz4, sizeof(payload_lz4)},
    {"zstd", payload_zstd, sizeof(payload_zstd)},
};

static int unpack(const uint8_t *data, size_t length, struct vmm_error *err)
{
    uint8_t *out = NULL;
    size_t n = 0;
    uint8_t *copy = malloc(length); /* of exactly this size, for the sanitizer */
    assert_non_null(copy);
    memcpy(copy, data, length);
    int rc = vmm_unpack(copy, length, &out, &n, err);
    free(copy);
    if (rc == 0) {
        assert_int_equal(n, PAYLOAD_SIZE);
        for (size_t i = 0; i < n; i++)
            assert_int_equal(out[i], (uint8_t)((i >> 4) * 3 + (i >> 9)));
    }
    free(out);
    return rc;
}

static void each_compression_unpacks(void **state)
{
    (void)state;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(payloads); i++) {
        struct vmm_error err = VMM_ERROR_INIT;
        int rc = unpack(payloads[i].data, payloads[i].length, &err);
        if (vmm_kernel_can_unpack(payloads[i].name)) {
            if (rc)
                fail_msg("%s: %s", payloads[i].name, err.text);
        } else {
            assert_int_equal(rc, -ENOTSUP);
            assert_non_null(strstr(err.text, "was built without"));
        }
    }
    assert_false(vmm_kernel_can_unpack("bzip2"));
    assert_false(vmm_kernel_can_unpack("none"));
    assert_false(vmm_kernel_can_unpack(NULL));
}

static void a_lying_size_is_an_error(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0,       1,          PAYLOAD_SIZE - 1, PAYLOAD_SIZE + 1,
                                     1 << 20, 0x20000001, UINT32_MAX};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(payloads); i++)
        for (size_t s = 0; s < VMM_ARRAY_SIZE(sizes); s++) {
            if (!vmm_kernel_can_unpack(payloads[i].name))
                continue;
            uint8_t copy[4096];
            struct vmm_error err = VMM_ERROR_INIT;
            assert_true(payloads[i].length <= sizeof(copy));
            memcpy(copy, payloads[i].data, payloads[i].length);
            vmm_store_le32(copy + payloads[i].length - 4, sizes[s]);
            assert_int_equal(unpack(copy, payloads[i].length, &err), -ENOEXEC);
            assert_non_null(strstr(err.text, "payload"));
        }
}

static void damage_and_truncation_never_pass_for_the_kernel(void **state)
{
    (void)state;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(payloads); i++) {
        if (!vmm_kernel_can_unpack(payloads[i].name))
            continue;
        uint8_t copy[4096];
        for (size_t n = 0; n < payloads[i].length; n++) {
            memcpy(copy, payloads[i].data, payloads[i].length);
            if (n)
                assert_int_not_equal(unpack(copy, n, NULL), 0);
            copy[n] ^= 0x41;
            uint8_t *out = NULL;
            size_t length = 0;
            /* lz4 has no checksum: other bytes may come out, but never more or fewer. */
            if (vmm_unpack(copy, payloads[i].length, &out, &length, NULL) == 0)
                assert_int_equal(length, PAYLOAD_SIZE);
            free(out);
        }
    }
}

static void what_is_not_known_is_named(void **state)
{
    (void)state;
    static const struct {
        const char *data;
        const char *words;
    } others[] = {{"BZh91AY&SY......", "bzip2"},
                  {"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0", "lzma"},
                  {"\x89LZO\0\r\n\x1a\n.......", "lzo"},
                  {"\177ELF............", "no compression's magic"}};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(others); i++) {
        struct vmm_error err = VMM_ERROR_INIT;
        assert_int_equal(unpack((const uint8_t *)others[i].data, 16, &err), -ENOTSUP);
        assert_non_null(strstr(err.text, others[i].words));
    }
    assert_int_equal(unpack((const uint8_t *)"\x1f", 1, NULL), -ENOTSUP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_compression_unpacks),
        cmocka_unit_test(a_lying_size_is_an_error),
        cmocka_unit_test(damage_and_truncation_never_pass_for_the_kernel),
        cmocka_unit_test(what_is_not_known_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
