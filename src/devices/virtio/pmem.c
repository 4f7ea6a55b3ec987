/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Persistent memory (VIRTIO 1.2 §5.19): a file is mapped at an address that the configuration tells. What
 * the guest writes is in the host's page cache at once; a request on the queue has it written to the disk.
 *
 * The fsync lesson holds here as for disks: after one failure nothing that was written before can be
 * promised any more, so all later flushes fail too.
 */
#include "base/util.h"
#include "devices/virtio/worker.h"

#include <libvmm/block.h>

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define DEVICE_PMEM 27u
#define CONFIG_SIZE 16u
#define QUEUE_SIZE  64u
#define T_FLUSH     0u
#define UNIT        0x200000u

struct pmem {
    struct vmm_virtio *virtio;
    struct virtio_worker worker;
    struct vmm_memory *memory; /* that the region is in; NULL: in none yet */
    struct vmm_memory_region *region;
    struct vmm_block *block; /* the same file as a disk, for its lock */
    int fd;
    bool failed; /* a flush has */
    uint8_t config[CONFIG_SIZE];
};

static int flush(struct pmem *p)
{
    int rc;
    if (p->failed)
        return -1;
    do
        rc = fdatasync(p->fd);
    while (rc < 0 && errno == EINTR);
    p->failed = rc < 0;
    return rc;
}

/* §5.19.6: a type, and in return 0 or -1. */
static uint64_t serve(void *ctx, const struct vmm_virtio_chain *c)
{
    struct pmem *p = ctx;
    uint8_t type[4], result[4];
    if (vmm_iov_read(c->readable, c->readable_count, 0, type, sizeof(type)) < sizeof(type) ||
        c->writable_length < sizeof(result))
        return 0;
    vmm_store_le32(result, vmm_load_le32(type) == T_FLUSH ? (uint32_t)flush(p) : UINT32_MAX);
    return vmm_iov_write(c->writable, c->writable_count, 0, result, sizeof(result));
}

static void notify(void *ctx, uint32_t queue)
{
    (void)queue;
    vmm_virtio_worker_notify(&((struct pmem *)ctx)->worker);
}

static void queue_reset(void *ctx, uint32_t queue)
{
    (void)queue;
    vmm_virtio_worker_reset(&((struct pmem *)ctx)->worker);
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct pmem *)ctx)->config + offset, length);
}

/* The contents are the file's. */
static int save(void *ctx, struct vmm_state_writer *w)
{
    struct pmem *p = ctx;
    vmm_virtio_worker_drain(&p->worker);
    return vmm_state_put_bytes(w, "config", p->config, CONFIG_SIZE);
}

static int load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct pmem *p = ctx;
    uint8_t config[CONFIG_SIZE];
    vmm_virtio_worker_drain(&p->worker);
    int rc = vmm_state_get_bytes(r, "config", config, sizeof(config), err);
    if (!rc && memcmp(config, p->config, CONFIG_SIZE) != 0)
        rc = vmm_error_set(err, -EINVAL, "the saved memory has another size or place");
    return rc;
}

static void destroy(void *ctx)
{
    struct pmem *p = ctx;
    vmm_virtio_worker_fini(&p->worker);
    if (p->memory)
        (void)vmm_memory_remove(p->memory, p->region, NULL);
    vmm_memory_unref(p->memory);
    vmm_memory_region_unref(p->region);
    vmm_block_unref(p->block);
    if (p->fd >= 0)
        close(p->fd);
    free(p);
}

/* The file, and a region of its bytes. */
static int open_file(struct pmem *p, struct vmm_loop *loop, const char *path, uint64_t *length,
                     struct vmm_error *err)
{
    struct vmm_block_raw_options lock = VMM_BLOCK_RAW_OPTIONS_INIT;
    struct stat st;
    struct vmm_backing_options b = VMM_BACKING_OPTIONS_INIT;
    struct vmm_memory_region_options r = VMM_MEMORY_REGION_OPTIONS_INIT;
    p->fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (p->fd < 0 || fstat(p->fd, &st) < 0)
        return vmm_error_set(err, -errno, "%s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || st.st_size % UNIT)
        return vmm_error_set(err, -EINVAL, "%s: persistent memory is a file of a multiple of 2 MiB",
                             path);
    lock.path = path;
    lock.engine = VMM_BLOCK_ENGINE_THREADS;
    int rc = vmm_block_raw_new(loop, &lock, &p->block, err);
    if (rc)
        return rc;
    *length = (uint64_t)st.st_size;
    b.kind = VMM_BACKING_FD;
    b.flags = VMM_BACKING_SHARED;
    b.fd = p->fd;
    b.length = *length;
    rc = vmm_backing_new(&b, &r.backing, err);
    if (rc)
        return rc;
    r.name = "pmem";
    r.type = VMM_MEMORY_DEVICE;
    r.length = *length;
    rc = vmm_memory_region_new(&r, &p->region, err);
    vmm_backing_unref(r.backing);
    return rc;
}

static int put_in_place(struct pmem *p, const struct vmm_virtio_place *place,
                        const struct vmm_virtio_pmem_options *o, struct vmm_error *err)
{
    uint64_t length = 0;
    int rc = open_file(p, place->loop, o->path, &length, err);
    rc = rc ? rc : vmm_memory_add(place->memory, p->region, o->address, 0, err);
    if (rc)
        return rc;
    p->memory = vmm_memory_ref(place->memory);
    vmm_store_le64(p->config, o->address);
    vmm_store_le64(p->config + 8, length);
    return 0;
}

static int make(struct pmem *p, struct vmm_virtio_options *o,
                const struct vmm_virtio_pmem_options *given, struct vmm_error *err)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .config_read = config_read,
        .queue_reset = queue_reset,
        .save = save,
        .load = load,
        .destroy = destroy,
    };
    o->device_id = DEVICE_PMEM;
    o->queues = 1;
    o->queue_size_max = QUEUE_SIZE;
    o->chain_max = 8;
    o->config_size = CONFIG_SIZE;
    o->ops = &ops;
    o->ctx = p;
    int rc = vmm_virtio_new(o, &p->virtio, err);
    if (rc) {
        destroy(p);
        return rc;
    }
    rc = vmm_virtio_worker_init(&p->worker, vmm_virtio_queue(p->virtio, 0), given->worker != 0);
    if (!rc)
        return 0;
    vmm_virtio_unref(p->virtio);
    return vmm_error_set(err, rc, "persistent memory: %s", strerror(-rc));
}

int vmm_virtio_pmem_new(const struct vmm_virtio_place *given,
                        const struct vmm_virtio_pmem_options *options, struct vmm_virtio **out,
                        struct vmm_error *err)
{
    struct vmm_virtio_place place;
    struct vmm_virtio_pmem_options p;
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    int rc = vmm_virtio_place_copy(&place, given, &o, err);
    if (rc)
        return rc;
    if (!options || vmm_options_copy(&p, sizeof(p), options))
        return vmm_error_set(err, -EINVAL, "pmem options: a structure of another version");
    if (!place.memory || !place.loop || !p.path || !p.address || p.address % UNIT)
        return vmm_error_set(err, -EINVAL,
                             "persistent memory has a file, and an address that is a "
                             "multiple of 2 MiB");
    struct pmem *pmem = calloc(1, sizeof(*pmem));
    if (!pmem)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    pmem->fd = -1;
    pmem->worker.serve = serve;
    pmem->worker.ctx = pmem;
    pmem->worker.complaint = "a flush without room for request or answer";
    rc = put_in_place(pmem, &place, &p, err);
    if (rc) {
        destroy(pmem);
        return rc;
    }
    rc = make(pmem, &o, &p, err);
    if (!rc)
        *out = pmem->virtio;
    return rc;
}
