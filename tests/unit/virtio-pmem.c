/* SPDX-License-Identifier: BSD-3-Clause */
/* Persistent memory: the file is the guest's memory, flushes reach the disk, and wrong requests. */
#include "virtio-driver.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define AT     0x40000000u
#define LENGTH 0x400000u

static int flush_result;
static _Atomic uint32_t flushes;

int __wrap_fdatasync(int fd);
int __wrap_fdatasync(int fd)
{
    (void)fd;
    flushes++;
    if (!flush_result)
        return 0;
    errno = EIO;
    return -1;
}

struct fixture {
    struct driver d;
    char path[64];
};

static struct vmm_virtio_place place_of(struct fixture *f)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    place.name = "pmem0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    return place;
}

static int set_up_with(void **state, uint32_t worker)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_virtio_pmem_options o = VMM_VIRTIO_PMEM_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    *state = f;
    flush_result = 0;
    flushes = 0;
    driver_open(&f->d);
    strcpy(f->path, "/tmp/libvmm-pmem-XXXXXX");
    int fd = mkstemp(f->path);
    assert_int_equal(ftruncate(fd, LENGTH), 0);
    close(fd);
    const struct vmm_virtio_place place = place_of(f);
    o.path = f->path;
    o.address = AT;
    o.worker = worker;
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&f->d, virtio);
    start(&f->d, 0);
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 0);
}

static int set_up_worker(void **state)
{
    return set_up_with(state, 1);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    unlink(f->path);
    free(f);
    return 0;
}

/* The answer to a request of this type. */
static uint32_t request(struct driver *d, uint32_t type)
{
    uint32_t result = 0x55;
    int64_t length = -1;
    vmm_memory_store_u32(d->memory, BUFFER, type);
    desc(d, 0, BUFFER, 4, NEXT);
    desc(d, 1, BUFFER + 0x100, 4, WRITE);
    offer(d, 2);
    for (int i = 0; i < 1000 && length < 0; i++) {
        length = take(d, 2);
        if (length < 0)
            usleep(1000);
    }
    assert_int_equal(length, 4);
    vmm_memory_load_u32(d->memory, BUFFER + 0x100, &result);
    return result;
}

static void the_file_is_the_memory(void **state)
{
    struct fixture *f = *state;
    struct driver *d = &f->d;
    char text[8] = {0};
    assert_int_equal(reg(d, 8), 27);
    assert_int_equal(reg(d, 0x100), AT);
    assert_int_equal(reg(d, 0x104), 0);
    assert_int_equal(reg(d, 0x108), LENGTH);
    assert_int_equal(vmm_memory_write(d->memory, AT + LENGTH - 5, "hello", 5), 0);
    assert_int_equal(vmm_memory_write(d->memory, AT + LENGTH - 4, "hello", 5), -EFAULT);
    int fd = open(f->path, O_RDONLY);
    assert_int_equal(pread(fd, text, sizeof(text), LENGTH - 5), 5);
    assert_string_equal(text, "hello");
    close(fd);
}

static void flushing(void **state)
{
    struct driver *d = &((struct fixture *)*state)->d;
    assert_int_equal(request(d, 0), 0);
    assert_int_equal(flushes, 1);
    assert_int_equal(request(d, 1), UINT32_MAX); /* there is no such request */
    assert_int_equal(flushes, 1);
    flush_result = -1;
    assert_int_equal(request(d, 0), UINT32_MAX);
    flush_result = 0; /* never again: what was written before is lost */
    assert_int_equal(request(d, 0), UINT32_MAX);
    assert_int_equal(flushes, 2);
}

static void requests_without_room(void **state)
{
    struct driver *d = &((struct fixture *)*state)->d;
    for (uint32_t i = 0; i < 2; i++) {
        desc(d, 0, BUFFER, i ? 3 : 4, NEXT);
        desc(d, 1, BUFFER + 0x100, i ? 4 : 3, WRITE);
        offer(d, 2);
        for (int j = 0; j < 1000 && !(reg(d, 0x70) & NEEDS_RESET); j++)
            usleep(1000);
        assert_int_equal(reg(d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        start(d, 0);
    }
    assert_int_equal(request(d, 0), 0);
}

static void state_is_saved_and_loaded(void **state)
{
    struct driver *d = &((struct fixture *)*state)->d;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    assert_int_equal(request(d, 0), 0);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(d->virtio), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    set_reg(d, 0x70, 0);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_virtio_device(d->virtio), r, NULL), 0);
    vmm_state_reader_free(r);
    assert_int_equal(request(d, 0), 0);
    static const uint8_t place[8] = {0, 0, 0, AT >> 24}; /* of another address */
    uint8_t *config = memmem(blob, length, place, sizeof(place));
    assert_non_null(config);
    config[3]++;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_virtio_device(d->virtio), r, NULL), -EINVAL);
    vmm_state_reader_free(r);
    free(blob);
}

static void bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_place place = place_of(f);
    struct vmm_virtio_pmem_options o = VMM_VIRTIO_PMEM_OPTIONS_INIT;
    struct vmm_virtio *v;
    char other[] = "/tmp/libvmm-pmem-XXXXXX";
    int fd = mkstemp(other);
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EINVAL);
    o.address = 2 * AT;
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EINVAL);
    o.path = "/nowhere/at/all";
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -ENOENT);
    o.path = f->path;
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EBUSY);
    o.path = other;
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EINVAL); /* empty */
    assert_int_equal(ftruncate(fd, LENGTH - 4096), 0);
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EINVAL);
    assert_int_equal(ftruncate(fd, LENGTH), 0);
    o.address = AT + 0x1000;
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EINVAL);
    o.address = AT + 0x200000;
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), -EEXIST); /* over the other */
    o.address = 2 * AT;
    assert_int_equal(vmm_virtio_pmem_new(NULL, &o, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_pmem_new(&place, NULL, &v, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_pmem_new(&place, &o, &v, NULL), 0);
    assert_true(vmm_memory_valid(f->d.memory, 2 * AT, LENGTH, true));
    vmm_virtio_unref(v);
    assert_false(vmm_memory_valid(f->d.memory, 2 * AT, 1, true));
    close(fd);
    unlink(other);
}

#define BOTH(test)                                                                                 \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down),                                      \
        cmocka_unit_test_setup_teardown(test, set_up_worker, tear_down)

int main(void)
{
    if (TEST_UNDER_TSAN) /* guest memory has no locks between its two sides */
        TEST_SKIP("the driver of this test shares guest memory with the device by barriers only");
    const struct CMUnitTest tests[] = {
        BOTH(the_file_is_the_memory),    BOTH(flushing),    BOTH(requests_without_room),
        BOTH(state_is_saved_and_loaded), BOTH(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
