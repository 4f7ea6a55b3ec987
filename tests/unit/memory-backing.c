/* SPDX-License-Identifier: BSD-3-Clause */
/* Backings: wrong options, each kind, guards, prefault and discard with the resident size measured. */
#include <libvmm/memory.h>

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096u
#define MIB  ((uint64_t)1 << 20)
#define GIB  ((uint64_t)1 << 30)

static struct vmm_backing *make(struct vmm_backing_options o)
{
    struct vmm_backing *b = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    o.size = sizeof(o);
    if (vmm_backing_new(&o, &b, &err) != 0)
        fail_msg("%s", err.text);
    return b;
}

/* A map with one RAM region of the backing at 0. */
static struct vmm_memory *map_of(struct vmm_backing *b, uint32_t type)
{
    struct vmm_memory *m;
    struct vmm_memory_region *region;
    struct vmm_memory_region_options o = VMM_MEMORY_REGION_OPTIONS_INIT;
    o.type = type;
    o.length = vmm_backing_length(b);
    o.backing = b;
    assert_int_equal(vmm_memory_new(NULL, &m, NULL), 0);
    assert_int_equal(vmm_memory_region_new(&o, &region, NULL), 0);
    assert_int_equal(vmm_memory_add(m, region, 0, 0, NULL), 0);
    vmm_memory_region_unref(region);
    return m;
}

static uint64_t resident(struct vmm_backing *b)
{
    uint64_t bytes = 0;
    assert_int_equal(vmm_backing_resident(b, &bytes), 0);
    return bytes;
}

/* Of the whole process, anonymous and shared memory. */
static uint64_t process_resident(void)
{
    unsigned long total = 0, pages = 0;
    FILE *f = fopen("/proc/self/statm", "r");
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%lu %lu", &total, &pages), 2);
    fclose(f);
    return (uint64_t)pages * PAGE;
}

static int make_file(uint64_t length)
{
    int fd = memfd_create("test", MFD_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)length), 0);
    return fd;
}

static void bad_options_are_refused_with_a_reason(void **state)
{
    (void)state;
    int file = make_file(2 * PAGE);
    static uint8_t own[3 * PAGE];
    void *aligned = (void *)(((uintptr_t)own + PAGE - 1) & ~(uintptr_t)(PAGE - 1));
    const struct {
        int rc;
        struct vmm_backing_options o;
    } bad[] = {
        {-EINVAL, {.length = 0}},
        {-EINVAL, {.length = 1}},
        {-EINVAL, {.kind = 5, .length = PAGE}},
        {-EINVAL, {.length = PAGE, .flags = 1u << 31}},
        {-EINVAL, {.length = PAGE, .flags = VMM_BACKING_SHARED}},
        {-EINVAL, {.length = PAGE, .flags = VMM_BACKING_READ_ONLY}},
        {-EINVAL, {.length = PAGE, .flags = VMM_BACKING_SEAL}},
        {-EINVAL, {.length = PAGE, .flags = VMM_BACKING_THP | VMM_BACKING_NO_THP}},
        {-EINVAL, {.length = PAGE, .page_size = 2 * MIB}},
        {-EINVAL, {.length = 2 * MIB, .page_size = MIB}},
        {-EINVAL, {.length = 2 * MIB, .page_size = 2 * MIB, .flags = VMM_BACKING_THP}},
        {-EINVAL, {.length = PAGE, .path = "/dev/zero"}},
        {-EINVAL, {.length = PAGE, .host = aligned}},
        {-EINVAL, {.length = PAGE, .offset = PAGE}},
        {-EINVAL, {.length = PAGE, .numa_policy = 3, .numa_nodes = 1}},
        {-EINVAL, {.length = PAGE, .numa_policy = VMM_NUMA_INTERLEAVE}},
        {-EINVAL, {.kind = VMM_BACKING_FILE, .length = PAGE}},
        {-ENOENT, {.kind = VMM_BACKING_FILE, .length = PAGE, .path = "/nonexistent/file"}},
        {-EINVAL, {.kind = VMM_BACKING_HOST, .length = PAGE}},
        {-EINVAL, {.kind = VMM_BACKING_HOST, .length = PAGE, .host = (char *)aligned + 1}},
        {-EINVAL,
         {.kind = VMM_BACKING_HOST, .length = UINT64_MAX - PAGE + 1, .host = (char *)aligned}},
        {-EBADF, {.kind = VMM_BACKING_FD, .length = PAGE, .fd = -1}},
        {-EINVAL, {.kind = VMM_BACKING_FD, .length = PAGE, .fd = file, .offset = 12}},
        {-EINVAL, {.kind = VMM_BACKING_FD, .length = PAGE, .fd = file, .offset = 1ull << 63}},
        {-ENXIO, {.kind = VMM_BACKING_FD, .length = PAGE, .fd = file, .offset = 2 * PAGE}},
        {-ENXIO, {.kind = VMM_BACKING_FD, .length = 3 * PAGE, .fd = file}},
        {-EINVAL, {.kind = VMM_BACKING_FD, .length = PAGE, .fd = file, .page_size = 2 * MIB}},
        {-EINVAL,
         {.kind = VMM_BACKING_FD,
          .length = PAGE,
          .fd = file,
          .flags = VMM_BACKING_SHARED | VMM_BACKING_MERGE}},
        {-ENOMEM, {.length = (UINT64_MAX / 2 + 1)}},
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct vmm_backing_options o = bad[i].o;
        struct vmm_backing *b = NULL;
        struct vmm_error err = VMM_ERROR_INIT;
        o.size = sizeof(o);
        if (vmm_backing_new(&o, &b, &err) != bad[i].rc)
            fail_msg("case %zu: %s", i, err.text);
        assert_int_equal(err.code, bad[i].rc);
        assert_true(err.text[0] != 0);
        assert_null(b);
    }
    close(file);
}

/* The child that touches it must die. */
static void assert_faults(volatile uint8_t *byte)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        /* The test program's handlers would report it as a failed test. */
        signal(SIGSEGV, SIG_DFL);
        *byte = 1;
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void ram_has_inaccessible_pages_around_it(void **state)
{
    (void)state;
    struct vmm_backing *b = make((struct vmm_backing_options){.length = 4 * MIB});
    struct vmm_memory *m = map_of(b, VMM_MEMORY_RAM);
    struct vmm_mapping map;
    assert_int_equal(vmm_memory_map(m, 0, 4 * MIB, VMM_MAP_WRITE, &map), 0);
    assert_int_equal((uintptr_t)map.data % (2 * MIB), 0);
    assert_faults((uint8_t *)map.data - 1);
    assert_faults((uint8_t *)map.data + 4 * MIB);
    ((uint8_t *)map.data)[4 * MIB - 1] = 1;
    vmm_memory_unmap(m, &map);
    vmm_memory_unref(m);
    vmm_backing_unref(b);
}

static void a_memfd_is_shared_and_sealed(void **state)
{
    (void)state;
    struct vmm_backing *b = make((struct vmm_backing_options){
        .kind = VMM_BACKING_MEMFD, .length = 4 * PAGE, .flags = VMM_BACKING_SEAL, .name = "ram"});
    struct vmm_memory *m = map_of(b, VMM_MEMORY_RAM);
    uint64_t offset = 1;
    int fd = vmm_backing_fd(b, &offset);
    assert_true(fd >= 0);
    assert_int_equal(offset, 0);
    assert_int_equal(vmm_memory_store_u32(m, PAGE, 0xcafe), 0);
    uint32_t value = 0;
    assert_int_equal(pread(fd, &value, 4, PAGE), 4);
    assert_int_equal(value, 0xcafe);
    assert_int_equal(ftruncate(fd, PAGE), -1);
    assert_int_equal(errno, EPERM);
    vmm_memory_unref(m);
    vmm_backing_unref(b);
}

static void files_are_private_or_shared_as_asked(void **state)
{
    (void)state;
    int file = make_file(4 * PAGE + 100);
    uint32_t there = 0x600d, value = 0;
    assert_int_equal(pwrite(file, &there, 4, 2 * PAGE), 4);
    struct vmm_backing_options o = {
        .kind = VMM_BACKING_FD, .fd = file, .offset = 2 * PAGE, .length = 3 * PAGE};
    struct vmm_backing *private = make(o);
    o.flags = VMM_BACKING_SHARED;
    struct vmm_backing *shared = make(o);
    o.flags = VMM_BACKING_READ_ONLY;
    struct vmm_backing *read_only = make(o);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", file);
    struct vmm_backing *by_path = make((struct vmm_backing_options){
        .kind = VMM_BACKING_FILE, .path = path, .length = PAGE, .flags = VMM_BACKING_SHARED});
    close(file);
    struct vmm_memory *p = map_of(private, VMM_MEMORY_RAM), *s = map_of(shared, VMM_MEMORY_RAM),
                      *r = map_of(read_only, VMM_MEMORY_ROM), *f = map_of(by_path, VMM_MEMORY_RAM);
    assert_int_equal(vmm_memory_load_u32(p, 0, &value), 0);
    assert_int_equal(value, 0x600d);
    assert_int_equal(vmm_memory_store_u32(p, 0, 1), 0);
    assert_int_equal(vmm_memory_load_u32(s, 0, &value), 0);
    assert_int_equal(value, 0x600d); /* the private write is not seen */
    assert_int_equal(vmm_memory_store_u32(s, 4, 2), 0);
    assert_int_equal(vmm_memory_load_u32(r, 4, &value), 0);
    assert_int_equal(value, 2);
    assert_int_equal(vmm_memory_write_rom(r, 0, &value, 4), -EFAULT);  /* not a SIGSEGV */
    assert_int_equal(vmm_memory_load_u32(r, 3 * PAGE - 4, &value), 0); /* the tail: zeros */
    assert_int_equal(value, 0);
    assert_int_equal(vmm_backing_discard(read_only, 0, PAGE), -EROFS);
    assert_int_equal(vmm_memory_store_u32(f, 0, 3), 0);
    uint64_t offset;
    assert_true(vmm_backing_fd(shared, &offset) >= 0);
    assert_int_equal(offset, 2 * PAGE);
    struct vmm_memory_region_options ram = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_memory_region *region;
    ram.type = VMM_MEMORY_RAM;
    ram.length = PAGE;
    ram.backing = read_only;
    assert_int_equal(vmm_memory_region_new(&ram, &region, NULL), -EINVAL);
    vmm_memory_unref(p);
    vmm_memory_unref(s);
    vmm_memory_unref(r);
    vmm_memory_unref(f);
    vmm_backing_unref(private);
    vmm_backing_unref(shared);
    vmm_backing_unref(read_only);
    vmm_backing_unref(by_path);
}

static void count_call(void *ctx)
{
    ++*(int *)ctx;
}

static void the_callers_memory_is_given_back(void **state)
{
    (void)state;
    int released = 0;
    uint8_t *own = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert_true(own != MAP_FAILED);
    struct vmm_backing *b = make((struct vmm_backing_options){.kind = VMM_BACKING_HOST,
                                                              .host = own,
                                                              .length = 4 * PAGE,
                                                              .release = count_call,
                                                              .ctx = &released});
    struct vmm_memory *m = map_of(b, VMM_MEMORY_RAM);
    struct vmm_mapping map;
    assert_int_equal(vmm_memory_store_u32(m, PAGE, 77), 0);
    assert_int_equal(own[PAGE], 77);
    assert_int_equal(vmm_memory_discard(m, PAGE, PAGE), 0);
    assert_int_equal(own[PAGE], 0);
    assert_int_equal(vmm_memory_map(m, 0, PAGE, VMM_MAP_READ, &map), 0);
    vmm_backing_unref(b);
    assert_int_equal(released, 0);
    vmm_memory_unmap(m, &map);
    vmm_memory_unref(m);
    assert_int_equal(released, 1);
    munmap(own, 4 * PAGE);
}

static int watch_progress(void *ctx, uint64_t done, uint64_t total)
{
    uint64_t *seen = ctx; /* the last value, calls, the call at which to cancel */
    assert_true(done >= seen[0] && done <= total);
    seen[0] = done;
    return ++seen[1] == seen[2];
}

static void prefault_makes_pages_resident(void **state)
{
    (void)state;
    struct vmm_backing *b =
        make((struct vmm_backing_options){.length = 256 * MIB, .flags = VMM_BACKING_NO_THP});
    assert_int_equal(resident(b), 0);
    assert_int_equal(vmm_backing_prefault(b, 1, PAGE, 0, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_backing_prefault(b, 0, 100, 0, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_backing_prefault(b, 256 * MIB, PAGE, 0, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_backing_prefault(b, PAGE, UINT64_MAX - PAGE + 1, 0, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_backing_prefault(b, 0, PAGE, 257, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_backing_prefault(b, 0, 0, 0, NULL, NULL), 0);
    assert_int_equal(vmm_backing_prefault(b, PAGE, 3 * PAGE, 0, NULL, NULL), 0);
    assert_int_equal(resident(b), 3 * PAGE);
    uint64_t seen[3] = {0, 0, 2};
    assert_int_equal(vmm_backing_prefault(b, 0, 256 * MIB, 0, watch_progress, seen), -ECANCELED);
    assert_true(resident(b) >= 64 * MIB && resident(b) < 256 * MIB);
    uint64_t all[3] = {0, 0, 0};
    assert_int_equal(vmm_backing_prefault(b, 0, 256 * MIB, 3, watch_progress, all), 0);
    assert_int_equal(all[0], 256 * MIB);
    assert_int_equal(resident(b), 256 * MIB);
    vmm_backing_unref(b);
}

static void discard_gives_memory_back(void **state)
{
    (void)state;
    static const uint32_t kinds[] = {VMM_BACKING_ANONYMOUS, VMM_BACKING_MEMFD};
    for (size_t i = 0; i < 2; i++) {
        struct vmm_backing *b = make((struct vmm_backing_options){
            .kind = kinds[i], .length = 64 * MIB, .flags = VMM_BACKING_NO_THP});
        struct vmm_memory *m = map_of(b, VMM_MEMORY_RAM);
        uint32_t value = 0;
        assert_int_equal(vmm_memory_fill(m, 0, 0x5a, 64 * MIB), 0);
        assert_int_equal(resident(b), 64 * MIB);
        uint64_t before = process_resident();
        assert_int_equal(vmm_backing_discard(b, 0, 64 * MIB + 1), -EINVAL);
        assert_int_equal(vmm_backing_discard(b, UINT64_MAX, 2), -EINVAL);
        assert_int_equal(vmm_memory_discard(m, 64 * MIB, 1), -EFAULT);
        assert_int_equal(vmm_memory_discard(m, UINT64_MAX, 2), -EFAULT);
        /* Parts of pages stay. */
        assert_int_equal(vmm_memory_discard(m, PAGE - 1, 2), 0);
        assert_int_equal(vmm_memory_discard(m, MIB + 1, 32 * MIB), 0);
        assert_int_equal(resident(b), 32 * MIB + PAGE);
        assert_true(before - process_resident() >= 31 * MIB);
        assert_int_equal(vmm_memory_load_u32(m, MIB, &value), 0);
        assert_int_equal(value, 0x5a5a5a5a);
        assert_int_equal(vmm_memory_load_u32(m, MIB + PAGE, &value), 0);
        assert_int_equal(value, 0);
        vmm_memory_unref(m);
        vmm_backing_unref(b);
    }
}

/* ThreadSanitizer leaves programs one and a half tebibytes, at random places: a whole one does not always fit. */
static void a_tebibyte_costs_nothing_before_it_is_touched(void **state)
{
    const uint64_t size = TEST_UNDER_TSAN ? 64 * GIB : 1024 * GIB;
    (void)state;
    uint64_t before = process_resident();
    struct vmm_backing *b = make((struct vmm_backing_options){.length = size});
    struct vmm_memory *m = map_of(b, VMM_MEMORY_RAM);
    uint32_t value = 1;
    assert_int_equal(vmm_memory_load_u32(m, size - 4, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(vmm_memory_store_u32(m, size / 4 * 3, 5), 0);
    assert_true(vmm_memory_valid(m, 0, size, true));
    assert_false(vmm_memory_valid(m, 0, size + 1, true));
    assert_true(process_resident() - before < 16 * MIB);
    vmm_memory_unref(m);
    vmm_backing_unref(b);
}

static void huge_pages_numa_and_advice(void **state)
{
    (void)state;
    struct vmm_backing *b = make((struct vmm_backing_options){
        .length = 8 * MIB, .flags = VMM_BACKING_THP | VMM_BACKING_NO_DUMP | VMM_BACKING_RESERVE});
    vmm_backing_unref(b);
    struct vmm_backing_options o = VMM_BACKING_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    o.length = 2 * MIB;
    o.numa_nodes = 1;
    for (o.numa_policy = 0; o.numa_policy <= VMM_NUMA_INTERLEAVE; o.numa_policy++) {
        int rc = vmm_backing_new(&o, &b, &err);
        assert_true(rc == 0 || rc == -ENOSYS || rc == -EPERM);
        if (rc == 0)
            vmm_backing_unref(b);
    }
    o.numa_policy = VMM_NUMA_BIND;
    o.numa_nodes = 1ull << 63;
    int rc = vmm_backing_new(&o, &b, &err);
    assert_true(rc < 0); /* no machine of ours has node 63 */
    assert_non_null(strstr(err.text, "NUMA"));
    /* Either there are huge pages, then they are that large, or the error says where they are set. */
    for (uint32_t kind = VMM_BACKING_ANONYMOUS; kind <= VMM_BACKING_MEMFD; kind++) {
        o = (struct vmm_backing_options)VMM_BACKING_OPTIONS_INIT;
        o.kind = kind;
        o.length = 4 * MIB;
        o.page_size = 2 * MIB;
        rc = vmm_backing_new(&o, &b, &err);
        if (rc < 0) {
            assert_null(getenv("LIBVMM_HUGE_PAGES")); /* who set them aside says so */
            assert_non_null(strstr(err.text, "hugepages"));
            continue;
        }
        struct vmm_memory *m = map_of(b, VMM_MEMORY_RAM);
        assert_int_equal(vmm_backing_page_size(b), 2 * MIB);
        assert_int_equal(vmm_memory_store_u32(m, 3 * MIB, 1), 0);
        assert_int_equal(vmm_backing_discard(b, 2 * MIB, 2 * MIB), 0);
        uint32_t value = 1;
        assert_int_equal(vmm_memory_load_u32(m, 3 * MIB, &value), 0);
        assert_int_equal(value, 0);
        vmm_memory_unref(m);
        vmm_backing_unref(b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_options_are_refused_with_a_reason),
        cmocka_unit_test(ram_has_inaccessible_pages_around_it),
        cmocka_unit_test(a_memfd_is_shared_and_sealed),
        cmocka_unit_test(files_are_private_or_shared_as_asked),
        cmocka_unit_test(the_callers_memory_is_given_back),
        cmocka_unit_test(prefault_makes_pages_resident),
        cmocka_unit_test(discard_gives_memory_back),
        cmocka_unit_test(a_tebibyte_costs_nothing_before_it_is_touched),
        cmocka_unit_test(huge_pages_numa_and_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
