/* SPDX-License-Identifier: BSD-3-Clause */
/* The shadow-page policy, and KVM's statistics from forged and truncated descriptors. */
#include "test.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/kvm.h>

#include <libvmm/mmu.h>
#include <libvmm/stats.h>

#define MIB  (1ull << 20)
#define GIB  (1ull << 30)
#define NAME 48u

static void policy(void **state)
{
    (void)state;
    assert_int_equal(vmm_mmu_pages_policy(0, 64 * GIB), 1024);
    assert_int_equal(vmm_mmu_pages_policy(64 * MIB, 64 * GIB), 1024);
    assert_int_equal(vmm_mmu_pages_policy(4 * GIB, 64 * GIB), 4 * GIB / 4096 / 25);
    /* Not more than a 32nd of the host, not less than KVM's least. */
    assert_int_equal(vmm_mmu_pages_policy(1024 * GIB, 32 * GIB), GIB / 4096);
    assert_int_equal(vmm_mmu_pages_policy(GIB, 32 * MIB), 256);
    assert_int_equal(vmm_mmu_pages_policy(UINT64_MAX, 0), 64);
    assert_true(vmm_mmu_pages_policy(UINT64_MAX, UINT64_MAX) > GIB);
    for (uint64_t ram = MIB; ram < 64 * GIB; ram += 777 * MIB)
        assert_true(vmm_mmu_pages_policy(ram, 1024 * GIB) <=
                    vmm_mmu_pages_policy(ram + 777 * MIB, 1024 * GIB));
}

static void setup_refuses(void **state)
{
    (void)state;
    struct vmm_mmu_options o = VMM_MMU_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_mmu_setup(NULL, &o, NULL, &err), -EINVAL);
    assert_true(strlen(err.text) > 0);
}

/* A statistics file of three: a counter, a level with a unit, a histogram. */
struct forged {
    struct kvm_stats_header header;
    char id[NAME];
    struct {
        struct { /* struct kvm_stats_desc without its open end */
            uint32_t flags;
            int16_t exponent;
            uint16_t size;
            uint32_t offset;
            uint32_t bucket_size;
        } desc;
        char name[NAME];
    } d[3];
    uint64_t data[6];
};

static struct forged good(void)
{
    struct forged f;
    memset(&f, 0, sizeof(f));
    f.header.name_size = NAME;
    f.header.num_desc = 3;
    f.header.id_offset = offsetof(struct forged, id);
    f.header.desc_offset = offsetof(struct forged, d);
    f.header.data_offset = offsetof(struct forged, data);
    strcpy(f.id, "kvm-77");
    strcpy(f.d[0].name, "mmu_recycled");
    f.d[0].desc.size = 1;
    strcpy(f.d[1].name, "halt_wait_ns");
    f.d[1].desc.size = 1;
    f.d[1].desc.offset = 8;
    f.d[1].desc.exponent = -9;
    f.d[1].desc.flags = KVM_STATS_TYPE_INSTANT | KVM_STATS_UNIT_SECONDS | KVM_STATS_BASE_POW10;
    strcpy(f.d[2].name, "halt_hist");
    f.d[2].desc.size = 4;
    f.d[2].desc.offset = 16;
    f.d[2].desc.bucket_size = 5;
    f.d[2].desc.flags = KVM_STATS_TYPE_LINEAR_HIST | KVM_STATS_BASE_POW2;
    for (uint64_t i = 0; i < 6; i++)
        f.data[i] = 100 + i;
    return f;
}

static int file_of(const struct forged *f, size_t length)
{
    int fd = memfd_create("stats", 0);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, f, length, 0), (ssize_t)length);
    return fd;
}

static int try_open(const struct forged *f, size_t length)
{
    struct vmm_stats *s = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    int fd = file_of(f, length);
    int r = vmm_stats_open_fd(fd, &s, &err);
    assert_int_equal(err.code, r);
    vmm_stats_free(s);
    close(fd);
    return r;
}

static void reads_the_table(void **state)
{
    (void)state;
    struct forged f = good();
    struct vmm_stats *s;
    struct vmm_stat one = VMM_STAT_INIT;
    int fd = file_of(&f, sizeof(f));
    assert_int_equal(vmm_stats_open_fd(fd, &s, NULL), 0);
    assert_string_equal(vmm_stats_id(s), "kvm-77");
    assert_int_equal(vmm_stats_count(s), 3);
    assert_int_equal(vmm_stats_get(s, 0, &one), 0);
    assert_string_equal(one.name, "mmu_recycled");
    assert_int_equal(one.is_mmu, 1);
    assert_int_equal(one.values[0], 100);
    assert_int_equal(one.kind, VMM_STAT_CUMULATIVE);
    assert_int_equal(vmm_stats_find(s, "halt_wait_ns", &one), 0);
    assert_int_equal(one.unit, VMM_UNIT_SECONDS);
    assert_int_equal(one.exponent, -9);
    assert_int_equal(one.base, 10);
    assert_int_equal(one.kind, VMM_STAT_INSTANT);
    assert_int_equal(one.is_mmu, 0);
    assert_int_equal(vmm_stats_find(s, "halt_hist", &one), 0);
    assert_int_equal(one.count, 4);
    assert_int_equal(one.values[3], 105);
    assert_int_equal(one.base, 2);
    assert_int_equal(one.bucket_size, 5);
    assert_int_equal(vmm_stats_find(s, "halt", &one), -ENOENT);
    assert_int_equal(vmm_stats_get(s, 3, &one), -ENOENT);
    assert_int_equal(vmm_stats_get(s, 0, NULL), -EINVAL);
    assert_int_equal(vmm_stats_find(s, NULL, &one), -EINVAL);
    uint64_t now = 4711;
    assert_int_equal(pwrite(fd, &now, 8, offsetof(struct forged, data)), 8);
    close(fd);
    assert_int_equal(vmm_stats_refresh(s), 0);
    assert_int_equal(vmm_stats_find(s, "mmu_recycled", &one), 0);
    assert_int_equal(one.values[0], 4711);
    vmm_stats_free(s);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    struct forged f = good();
    assert_int_equal(try_open(&f, sizeof(f)), 0);
    for (size_t cut = 0; cut < sizeof(f); cut += 8)
        assert_int_equal(try_open(&f, cut), -EPROTO);
#define REFUSED(field, value)                                                                      \
    f = good();                                                                                    \
    f.field = value;                                                                               \
    assert_int_equal(try_open(&f, sizeof(f)), -EPROTO)
    REFUSED(header.name_size, 0);
    REFUSED(header.name_size, 1u << 31);
    REFUSED(header.num_desc, UINT32_MAX);
    REFUSED(header.id_offset, UINT32_MAX);
    REFUSED(header.desc_offset, UINT32_MAX);
    REFUSED(header.data_offset, UINT32_MAX);
    REFUSED(d[2].desc.size, 0);
    REFUSED(d[2].desc.size, 5);
    REFUSED(d[2].desc.size, UINT16_MAX);
    REFUSED(d[2].desc.offset, 4);
    REFUSED(d[2].desc.offset, UINT32_MAX & ~7u);
    f = good();
    memset(f.d[1].name, 'x', NAME);
    assert_int_equal(try_open(&f, sizeof(f)), -EPROTO);
    /* No statistics at all, and an id without an end. */
    f = good();
    f.header.num_desc = 0;
    memset(f.id, 'y', NAME);
    assert_int_equal(try_open(&f, sizeof(f)), 0);
}

static void bad_input(void **state)
{
    (void)state;
    struct vmm_stats *s = NULL;
    struct vmm_stat one = VMM_STAT_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    int null = memfd_create("no kvm", 0);
    assert_int_equal(vmm_stats_open_fd(-1, &s, &err), -EBADF);
    assert_int_equal(vmm_stats_open(-1, &s, &err), -EBADF);
    assert_int_equal(vmm_stats_open(null, &s, &err), -EOPNOTSUPP);
    assert_int_equal(vmm_stats_open(null, NULL, &err), -EINVAL);
    assert_int_equal(vmm_stats_open_fd(null, NULL, &err), -EINVAL);
    close(null);
    assert_null(s);
    assert_null(vmm_stats_free(NULL));
    assert_int_equal(vmm_stats_refresh(NULL), -EINVAL);
    assert_int_equal(vmm_stats_count(NULL), 0);
    assert_int_equal(vmm_stats_get(NULL, 0, &one), -EINVAL);
    assert_int_equal(vmm_stats_find(NULL, "x", &one), -EINVAL);
    assert_string_equal(vmm_unit_name(VMM_UNIT_CYCLES), "cycles");
    assert_string_equal(vmm_unit_name(99), "?");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(policy),          cmocka_unit_test(setup_refuses),
        cmocka_unit_test(reads_the_table), cmocka_unit_test(refuses_nonsense),
        cmocka_unit_test(bad_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
