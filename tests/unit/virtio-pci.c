/* SPDX-License-Identifier: BSD-3-Clause */
/* The PCI transport of virtio: both interfaces, vectors, the window in configuration space. */
#include "pci-world.h"

#include <libvmm/virtio.h>

#define QUEUES 3u
#define BAR    WINDOW /* where the test puts BAR 4 */
#define MSIX   (WINDOW + 0x100000)
#define LEGACY 0x1000u
#define RING   0x8000u
#define BUFFER 0x20000u

struct fixture {
    struct world w;
    struct vmm_loop *loop;
    struct vmm_virtio *virtio;
    struct vmm_pci *pci;
    struct vmm_virtio_chain *chain;
    uint64_t features;
    uint8_t config[12];
    uint32_t notified[QUEUES];
    uint16_t avail[QUEUES];
};

static void notify(void *ctx, uint32_t queue)
{
    struct fixture *f = ctx;
    struct vmm_virtio_queue *q = vmm_virtio_queue(f->virtio, queue);
    f->notified[queue]++;
    while (vmm_virtio_queue_pop(q, f->chain) > 0) {
        vmm_iov_write(f->chain->writable, f->chain->writable_count, 0, "answer", 6);
        vmm_virtio_queue_push(q, f->chain, 6);
    }
    vmm_virtio_queue_signal(q);
}

static void take_features(void *ctx, uint64_t features)
{
    ((struct fixture *)ctx)->features = features;
}

static void config_read(void *ctx, uint32_t offset, void *data, uint32_t length)
{
    memcpy(data, ((struct fixture *)ctx)->config + offset, length);
}

static void config_write(void *ctx, uint32_t offset, const void *data, uint32_t length)
{
    memcpy(((struct fixture *)ctx)->config + offset, data, length);
}

static struct vmm_virtio *make_device(struct fixture *f, uint32_t id)
{
    static const struct vmm_virtio_ops ops = {
        .size = sizeof(ops),
        .notify = notify,
        .features = take_features,
        .config_read = config_read,
        .config_write = config_write,
    };
    struct vmm_virtio_options o = VMM_VIRTIO_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    o.name = "thing";
    o.device_id = id;
    o.queues = QUEUES;
    o.queue_size_max = 8;
    o.features = 1;
    o.config_size = sizeof(f->config);
    o.memory = f->w.memory;
    o.loop = f->loop;
    o.ops = &ops;
    o.ctx = f;
    assert_int_equal(vmm_virtio_new(&o, &virtio, NULL), 0);
    return virtio;
}

static void open_with(struct fixture *f, uint32_t transitional)
{
    struct vmm_virtio_pci_options o = VMM_VIRTIO_PCI_OPTIONS_INIT;
    memset(f, 0, sizeof(*f));
    world_open(&f->w);
    assert_int_equal(vmm_loop_new(NULL, &f->loop), 0);
    for (uint8_t i = 0; i < sizeof(f->config); i++)
        f->config[i] = (uint8_t)(0xc0 + i);
    f->virtio = make_device(f, 2);
    assert_int_equal(vmm_virtio_chain_new(f->virtio, &f->chain), 0);
    o.slot = 1;
    o.transitional = transitional;
    assert_int_equal(vmm_virtio_pci_attach(f->virtio, f->w.host, &o, NULL), 0);
    f->pci = vmm_virtio_pci(f->virtio);
    assert_non_null(f->pci);
    set_cfg(&f->w, 1, 0x10, 4, LEGACY);
    set_cfg(&f->w, 1, 0x14, 4, MSIX);
    set_cfg(&f->w, 1, 0x20, 4, BAR);
    set_cfg(&f->w, 1, 4, 2, 7);
}

static int set_up(void **state)
{
    *state = malloc(sizeof(struct fixture));
    open_with(*state, 0);
    return 0;
}

static int set_up_legacy(void **state)
{
    *state = malloc(sizeof(struct fixture));
    open_with(*state, 1);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_pci_host_remove(f->w.host, f->pci);
    vmm_virtio_unref(f->virtio);
    vmm_virtio_chain_free(f->chain);
    vmm_loop_unref(f->loop);
    world_close(&f->w);
    free(f);
    return 0;
}

static void run(struct fixture *f)
{
    while (vmm_loop_dispatch(f->loop, 0) > 0)
        ;
}

static uint64_t rd(struct fixture *f, uint32_t offset, uint32_t width)
{
    return mmio(&f->w, BAR + offset, width);
}

static void wr(struct fixture *f, uint32_t offset, uint32_t width, uint64_t value)
{
    assert_int_equal(vmm_bus_write(f->w.mmio, BAR + offset, width, value), 0);
}

/* One buffer of a split ring, as the driver puts it. */
static void put_buffer(struct fixture *f, uint32_t queue, uint64_t ring, uint64_t avail)
{
    vmm_memory_store_u64(f->w.memory, ring, BUFFER + 0x100 * queue);
    vmm_memory_store_u32(f->w.memory, ring + 8, 16);
    vmm_memory_store_u32(f->w.memory, ring + 12, 2);
    vmm_memory_store_u16(f->w.memory, avail + 4 + 2 * (f->avail[queue] % 8), 0);
    vmm_memory_store_u16(f->w.memory, avail + 2, ++f->avail[queue]);
}

static uint64_t ring_of(uint32_t queue)
{
    return RING + 0x1000 * queue;
}

static void answered(struct fixture *f, uint32_t queue)
{
    char text[7] = {0};
    assert_int_equal(vmm_memory_read(f->w.memory, BUFFER + 0x100 * queue, text, 6), 0);
    assert_string_equal(text, "answer");
    vmm_memory_fill(f->w.memory, BUFFER + 0x100 * queue, 0, 16);
}

static void start(struct fixture *f)
{
    wr(f, 0x14, 1, 0);
    wr(f, 0x14, 1, 3);
    wr(f, 8, 4, 0);
    wr(f, 12, 4, 1);
    wr(f, 8, 4, 1);
    wr(f, 12, 4, 1);
    wr(f, 0x14, 1, 0xb);
    assert_int_equal(rd(f, 0x14, 1), 0xb);
    for (uint32_t i = 0; i < QUEUES; i++) {
        f->avail[i] = 0;
        vmm_memory_fill(f->w.memory, ring_of(i), 0, 0x1000);
        wr(f, 0x16, 2, i);
        wr(f, 0x20, 8, ring_of(i));
        wr(f, 0x28, 4, (uint32_t)ring_of(i) + 0x400); /* by halves, as most do */
        wr(f, 0x2c, 4, 0);
        wr(f, 0x30, 8, ring_of(i) + 0x800);
        wr(f, 0x1c, 2, 1);
        assert_int_equal(rd(f, 0x1c, 2), 1);
    }
    wr(f, 0x14, 1, 0xf);
    run(f);
}

static void enable_msix(struct fixture *f)
{
    set_cfg(&f->w, 1, capability(&f->w, 1, 0x11) + 2, 2, 0x8000);
    for (uint32_t i = 0; i < QUEUES + 1; i++) {
        vmm_bus_write(f->w.mmio, MSIX + 16 * i, 8, 0xfee00000);
        vmm_bus_write(f->w.mmio, MSIX + 16 * i + 8, 8, 0x40 + i);
    }
}

/* Modern --------------------------------------------------------------------------------------- */

static void identity_and_structures(void **state)
{
    struct fixture *f = *state;
    uint32_t at = cfg(&f->w, 1, 0x34, 1), seen = 0;
    assert_int_equal(cfg(&f->w, 1, 0, 4), 0x10421af4);
    assert_int_equal(cfg(&f->w, 1, 8, 1), 1);
    assert_true(cfg(&f->w, 1, 0x2e, 2) >= 0x40);
    assert_int_equal(cfg(&f->w, 1, 0x10, 4), 0); /* no ports */
    static const uint32_t offsets[] = {0, 0, 0x3000, 0x1000, 0x2000, 0};
    for (int i = 0; i < 20 && at; i++, at = cfg(&f->w, 1, at + 1, 1)) {
        uint32_t type = cfg(&f->w, 1, at + 3, 1);
        if (cfg(&f->w, 1, at, 1) != 9)
            continue;
        assert_in_range(type, 1, 5);
        seen |= 1u << type;
        assert_int_equal(cfg(&f->w, 1, at + 8, 4), offsets[type]);
        assert_int_equal(cfg(&f->w, 1, at + 4, 1), type == 5 ? 0 : 4);
        assert_int_equal(cfg(&f->w, 1, at + 2, 1), type == 2 || type == 5 ? 20 : 16);
        if (type == 2)
            assert_int_equal(cfg(&f->w, 1, at + 16, 4), 4);
    }
    assert_int_equal(seen, 0x3e);
}

static void common_fields(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(rd(f, 0x12, 2), QUEUES);
    wr(f, 0, 4, 1);
    assert_int_equal(rd(f, 4, 4) & 1, 1); /* VERSION_1 */
    wr(f, 0, 4, 2);
    assert_int_equal(rd(f, 4, 4), 0);
    assert_int_equal(rd(f, 0x10, 2), 0xffff);
    assert_int_equal(rd(f, 0x10, 4), QUEUES << 16 | 0xffff); /* two fields at once */
    assert_int_equal(rd(f, 0x18, 2), 8);
    wr(f, 0x16, 2, QUEUES);
    assert_int_equal(rd(f, 0x18, 2), 0);
    wr(f, 0x18, 2, 4); /* of no queue */
    wr(f, 0x16, 2, 2);
    assert_int_equal(rd(f, 0x18, 2), 8);
    assert_int_equal(rd(f, 0x1e, 2), 2);
    wr(f, 0x1a, 2, QUEUES);
    assert_int_equal(rd(f, 0x1a, 2), QUEUES);
    wr(f, 0x1a, 2, QUEUES + 1); /* no such vector */
    assert_int_equal(rd(f, 0x1a, 2), 0xffff);
    wr(f, 0x10, 2, 77);
    assert_int_equal(rd(f, 0x10, 2), 0xffff);
    wr(f, 0x10, 1, 1); /* not the whole field */
    assert_int_equal(rd(f, 0x10, 2), 0xffff);
    wr(f, 0x2000 + 4, 4, 0x11223344);
    assert_int_equal(rd(f, 0x2000 + 2, 4), 0x3344c3c2);
    assert_int_equal(rd(f, 0x2000 + 12, 4), 0); /* behind its end */
}

/* Every offset, every width, all ones: nothing but what the fields allow, and it still works. */
static void accesses_of_all_kinds(void **state)
{
    struct fixture *f = *state;
    for (uint32_t offset = 0; offset < 0x4000; offset += offset < 0x1010 ? 1 : 13)
        for (uint32_t width = 1; width <= 8 && offset + width <= 0x4000; width *= 2) {
            (void)rd(f, offset, width);
            wr(f, offset, width, UINT64_MAX);
        }
    run(f);
    start(f);
    put_buffer(f, 1, ring_of(1), ring_of(1) + 0x400);
    wr(f, 0x3004, 2, 1);
    run(f);
    answered(f, 1);
}

static void queues_with_vectors(void **state)
{
    struct fixture *f = *state;
    enable_msix(f);
    wr(f, 0x10, 2, 0);
    for (uint32_t i = 0; i < QUEUES; i++) {
        wr(f, 0x16, 2, i);
        wr(f, 0x1a, 2, i + 1);
    }
    start(f); /* its reset forgets the vectors */
    for (uint32_t i = 0; i < QUEUES; i++) {
        wr(f, 0x16, 2, i);
        assert_int_equal(rd(f, 0x1a, 2), 0xffff);
        wr(f, 0x1a, 2, i + 1);
    }
    assert_int_equal(f->features, 0x100000001);
    for (uint32_t i = 0; i < QUEUES; i++) {
        put_buffer(f, i, ring_of(i), ring_of(i) + 0x400);
        wr(f, 0x3000 + 4 * i, 2, i);
        run(f);
        answered(f, i);
        assert_int_equal(f->w.sent_count, i + 1);
        assert_int_equal(f->w.sent[i].data, 0x41 + i);
    }
    assert_int_equal(rd(f, 0x1000, 1), 0);
    wr(f, 0x10, 2, 0);
    vmm_device_lock(vmm_virtio_device(f->virtio));
    vmm_virtio_config_changed(f->virtio);
    vmm_device_unlock(vmm_virtio_device(f->virtio));
    assert_int_equal(f->w.sent_count, QUEUES + 1);
    assert_int_equal(f->w.sent[QUEUES].data, 0x40);
    assert_int_equal(rd(f, 0x15, 1), 1);
    assert_int_equal(rd(f, 0x1000, 1), 2);
    assert_int_equal(f->w.lines[1], 0);
}

static void queues_with_the_pin(void **state)
{
    struct fixture *f = *state;
    start(f);
    put_buffer(f, 2, ring_of(2), ring_of(2) + 0x400);
    wr(f, 0x3008, 2, 2);
    run(f);
    answered(f, 2);
    assert_int_equal(f->w.lines[1], 1);
    assert_int_equal(rd(f, 0x1000, 1), 1); /* reading acknowledges */
    assert_int_equal(f->w.lines[1], 0);
    assert_int_equal(rd(f, 0x1000, 1), 0);
    assert_int_equal(f->w.sent_count, 0);
}

static void one_queue_is_reset(void **state)
{
    struct fixture *f = *state;
    start(f);
    wr(f, 0x16, 2, 1);
    wr(f, 0x3a, 2, 1);
    assert_int_equal(rd(f, 0x1c, 2), 1); /* the feature was not negotiated */
    wr(f, 0x14, 1, 0);
    wr(f, 0x14, 1, 3);
    wr(f, 8, 4, 1);
    wr(f, 12, 4, 1 | 1u << (40 - 32));
    wr(f, 0x14, 1, 0xb);
    wr(f, 0x20, 8, ring_of(1));
    wr(f, 0x28, 8, ring_of(1) + 0x400);
    wr(f, 0x30, 8, ring_of(1) + 0x800);
    wr(f, 0x16, 2, 1);
    wr(f, 0x20, 8, ring_of(1));
    wr(f, 0x28, 8, ring_of(1) + 0x400);
    wr(f, 0x30, 8, ring_of(1) + 0x800);
    wr(f, 0x1c, 2, 1);
    wr(f, 0x20, 8, 0); /* keeps still while it is on */
    assert_int_equal(rd(f, 0x20, 8), ring_of(1));
    wr(f, 0x3a, 2, 1);
    assert_int_equal(rd(f, 0x3a, 2), 0);
    assert_int_equal(rd(f, 0x1c, 2), 0);
}

static void window_of_configuration_space(void **state)
{
    struct fixture *f = *state;
    uint32_t at = cfg(&f->w, 1, 0x34, 1);
    while (at && !(cfg(&f->w, 1, at, 1) == 9 && cfg(&f->w, 1, at + 3, 1) == 5))
        at = cfg(&f->w, 1, at + 1, 1);
    assert_int_not_equal(at, 0);
    set_cfg(&f->w, 1, 4, 2, 0); /* no decoding is needed */
    set_cfg(&f->w, 1, at + 4, 1, 4);
    set_cfg(&f->w, 1, at + 8, 4, 0x2004);
    set_cfg(&f->w, 1, at + 12, 4, 2);
    assert_int_equal(cfg(&f->w, 1, at + 16, 2), 0xc5c4);
    set_cfg(&f->w, 1, at + 16, 2, 0x1234);
    assert_int_equal(f->config[4], 0x34);
    /* Places and lengths that lead nowhere read as what is stored, and write nothing else. */
    static const uint32_t offsets[] = {0x4000, 0x3fff, 0xfffffffe, 0x2003},
                          lengths[] = {0, 3, 8, 16};
    for (size_t i = 0; i < 4; i++) {
        set_cfg(&f->w, 1, at + 8, 4, offsets[i]);
        set_cfg(&f->w, 1, at + 16, 2, 0xffff);
        (void)cfg(&f->w, 1, at + 16, 2);
    }
    set_cfg(&f->w, 1, at + 8, 4, 0x2000);
    for (size_t i = 0; i < 4; i++) {
        set_cfg(&f->w, 1, at + 12, 4, lengths[i]);
        set_cfg(&f->w, 1, at + 16, 4, 0xffffffff);
    }
    set_cfg(&f->w, 1, at + 12, 4, 4);
    set_cfg(&f->w, 1, at + 4, 1, 1); /* another BAR */
    set_cfg(&f->w, 1, at + 16, 4, 0xffffffff);
    assert_int_equal(f->config[0], 0xc0);
    assert_int_equal(f->config[3], 0xc3);
}

static void saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    struct vmm_device *device = vmm_virtio_device(f->virtio);
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    void *data;
    size_t length;
    enable_msix(f);
    start(f);
    wr(f, 0x16, 2, 2);
    wr(f, 0x1a, 2, 3);
    assert_int_equal(vmm_state_writer_new(&writer), 0);
    assert_int_equal(vmm_device_save(device, writer), 0);
    assert_int_equal(vmm_state_writer_finish(writer, &data, &length), 0);
    vmm_state_writer_free(writer);
    vmm_device_reset(device);
    assert_int_equal(cfg(&f->w, 1, 0x20, 4), 4); /* power-on, its BARs too */
    assert_int_equal(vmm_state_reader_new(data, length, &reader, NULL), 0);
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_device_load(device, reader, &err))
        fail_msg("%s", err.text);
    vmm_state_reader_free(reader);
    assert_int_equal(rd(f, 0x1a, 2), 3);
    put_buffer(f, 2, ring_of(2), ring_of(2) + 0x400);
    wr(f, 0x3008, 2, 2);
    run(f);
    answered(f, 2);
    assert_int_equal(f->w.sent[0].data, 0x43);
    free(data);
}

/* The driver's reset is not the machine's: the function stays where it is. */
static void driver_reset_keeps_the_function(void **state)
{
    struct fixture *f = *state;
    start(f);
    wr(f, 0x14, 1, 0);
    assert_int_equal(rd(f, 0x14, 1), 0);
    assert_int_equal(cfg(&f->w, 1, 4, 2) & 7, 6);
}

static void attaching(void **state)
{
    struct fixture *f = *state;
    struct vmm_virtio_pci_options o = VMM_VIRTIO_PCI_OPTIONS_INIT;
    struct vmm_virtio *other = make_device(f, 2);
    assert_null(vmm_virtio_pci(other));
    assert_int_equal(vmm_virtio_pci_attach(f->virtio, f->w.host, NULL, NULL), -EBUSY);
    assert_int_equal(vmm_virtio_pci_attach(other, NULL, NULL, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_pci_attach(NULL, f->w.host, NULL, NULL), -EINVAL);
    o.slot = 1;
    assert_int_equal(vmm_virtio_pci_attach(other, f->w.host, &o, NULL), -EEXIST);
    assert_null(vmm_virtio_pci(other));
    o.slot = 32;
    assert_int_equal(vmm_virtio_pci_attach(other, f->w.host, &o, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_pci_attach(other, f->w.host, NULL, NULL), 0);
    assert_int_equal(cfg(&f->w, 2, 0, 4), 0x10421af4);
    vmm_virtio_unref(other); /* the bridge holds it */
    assert_int_equal(cfg(&f->w, 2, 0, 4), 0x10421af4);
    other = make_device(f, 19); /* vsock came after legacy drivers */
    o.slot = 3;
    o.transitional = 1;
    assert_int_equal(vmm_virtio_pci_attach(other, f->w.host, &o, NULL), -ENOTSUP);
    vmm_virtio_unref(other);
}

/* Unplugged with work under way; what comes later goes nowhere. */
static void unplugged(void **state)
{
    struct fixture *f = *state;
    enable_msix(f);
    start(f);
    wr(f, 0x16, 2, 0);
    wr(f, 0x1a, 2, 1);
    put_buffer(f, 0, ring_of(0), ring_of(0) + 0x400);
    wr(f, 0x3000, 2, 0);
    assert_int_equal(vmm_pci_host_remove(f->w.host, f->pci), 0);
    assert_false(answers(&f->w, BAR));
    assert_int_equal(cfg(&f->w, 1, 0, 4), UINT32_MAX);
    run(f);
    assert_int_equal(f->w.sent_count, 0);
    assert_int_equal(vmm_pci_host_remove(f->w.host, f->pci), -ENOENT);
}

/* Legacy --------------------------------------------------------------------------------------- */

static uint32_t in(struct fixture *f, uint32_t offset, uint32_t width)
{
    uint64_t value = 0;
    assert_int_equal(vmm_bus_read(f->w.ports, LEGACY + offset, width, &value), 0);
    return (uint32_t)value;
}

static void out(struct fixture *f, uint32_t offset, uint32_t width, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->w.ports, LEGACY + offset, width, value), 0);
}

static void legacy_start(struct fixture *f)
{
    out(f, 0x12, 1, 0);
    out(f, 0x12, 1, 3);
    out(f, 4, 4, in(f, 0, 4));
    for (uint16_t i = 0; i < QUEUES; i++) {
        f->avail[i] = 0;
        vmm_memory_fill(f->w.memory, RING + 0x4000 * i, 0, 0x4000);
        out(f, 0x0e, 2, i);
        assert_int_equal(in(f, 0x0c, 2), 8);
        out(f, 8, 4, (RING + 0x4000 * i) / 4096);
        assert_int_equal(in(f, 8, 4), (RING + 0x4000 * i) / 4096);
    }
    out(f, 0x12, 1, 7);
    assert_int_equal(in(f, 0x12, 1), 7);
    run(f);
}

static void legacy_drivers(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(cfg(&f->w, 1, 0, 4), 0x10011af4);
    assert_int_equal(cfg(&f->w, 1, 8, 1), 0);
    assert_int_equal(cfg(&f->w, 1, 0x2e, 2), 2);
    legacy_start(f);
    assert_int_equal(f->features & 1, 1);
    assert_int_equal(f->features >> 32, 0);
    put_buffer(f, 1, RING + 0x4000, RING + 0x4000 + 8 * 16);
    out(f, 0x10, 2, 1);
    run(f);
    answered(f, 1);
    uint16_t used = 0;
    vmm_memory_load_u16(f->w.memory, RING + 0x4000 + 0x1000 + 2, &used);
    assert_int_equal(used, 1);
    assert_int_equal(f->w.lines[1], 1);
    assert_int_equal(in(f, 0x13, 1), 1);
    assert_int_equal(f->w.lines[1], 0);
    assert_int_equal(in(f, 0x14, 4), 0xc3c2c1c0);
    enable_msix(f); /* moves the configuration */
    assert_int_equal(in(f, 0x18, 4), 0xc3c2c1c0);
    out(f, 0x14, 2, 99);
    assert_int_equal(in(f, 0x14, 2), 0xffff);
    out(f, 0x16, 2, 2); /* of the queue that is selected, the last */
    put_buffer(f, 2, RING + 0x8000, RING + 0x8000 + 8 * 16);
    out(f, 0x10, 2, 2);
    run(f);
    assert_int_equal(f->w.sent[0].data, 0x42);
    out(f, 8, 4, 0); /* a queue is switched off */
    assert_int_equal(in(f, 8, 4), 0);
    out(f, 0x0e, 2, QUEUES);
    assert_int_equal(in(f, 0x0c, 2), 0);
    out(f, 8, 4, 1);
    out(f, 0x10, 2, 0xffff);
}

static void transitional_devices_are_modern_too(void **state)
{
    struct fixture *f = *state;
    legacy_start(f);
    start(f);
    assert_int_equal(f->features, 0x100000001);
    put_buffer(f, 0, ring_of(0), ring_of(0) + 0x400);
    wr(f, 0x3000, 2, 0);
    run(f);
    answered(f, 0);
}

static void legacy_accesses_of_all_kinds(void **state)
{
    struct fixture *f = *state;
    for (uint32_t offset = 0; offset < 256; offset++)
        for (uint32_t width = 1; width <= 4; width *= 2) {
            uint64_t value;
            vmm_bus_write(f->w.ports, LEGACY + offset, width, UINT32_MAX);
            vmm_bus_read(f->w.ports, LEGACY + offset, width, &value);
        }
    run(f);
    legacy_start(f);
    put_buffer(f, 0, RING, RING + 8 * 16);
    out(f, 0x10, 2, 0);
    run(f);
    answered(f, 0);
}

static void behind_a_bridge(void **state)
{
    struct fixture *f = *state;
    struct vmm_pci_bridge_options b = VMM_PCI_BRIDGE_OPTIONS_INIT;
    struct vmm_virtio_pci_options o = VMM_VIRTIO_PCI_OPTIONS_INIT;
    struct vmm_virtio *virtio = make_device(f, 4);
    uint32_t address;
    b.name = "port";
    b.slot = 5;
    b.express = 1;
    b.loop = f->loop;
    assert_int_equal(vmm_pci_bridge_new(f->w.host, &b, &o.bridge, NULL), 0);
    o.slot = 1; /* a root port has slot 0 only */
    assert_int_equal(vmm_virtio_pci_attach(virtio, f->w.host, &o, NULL), -EINVAL);
    assert_null(vmm_virtio_pci(virtio));
    o.slot = 0;
    assert_int_equal(vmm_virtio_pci_attach(virtio, f->w.host, &o, NULL), 0);
    assert_int_equal(vmm_virtio_pci_attach(virtio, f->w.host, &o, NULL), -EBUSY);
    set_cfg(&f->w, 5, 0x18, 4, 0x010100); /* bus 1 is behind it */
    assert_int_equal(vmm_pci_address(vmm_virtio_pci(virtio), &address), 0);
    assert_int_equal(address, 1u << 8);
    assert_int_equal(vmm_pci_host_remove(f->w.host, vmm_virtio_pci(virtio)), 0);
    assert_int_equal(vmm_pci_address(vmm_virtio_pci(virtio), &address), -ENOENT);
    vmm_virtio_unref(virtio);
    vmm_pci_bridge_unref(o.bridge);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
#define OLD(f)  cmocka_unit_test_setup_teardown(f, set_up_legacy, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(identity_and_structures),
        TEST(common_fields),
        TEST(accesses_of_all_kinds),
        TEST(queues_with_vectors),
        TEST(queues_with_the_pin),
        TEST(one_queue_is_reset),
        TEST(window_of_configuration_space),
        TEST(saved_and_loaded),
        TEST(driver_reset_keeps_the_function),
        TEST(attaching),
        TEST(unplugged),
        TEST(behind_a_bridge),
        OLD(legacy_drivers),
        OLD(transitional_devices_are_modern_too),
        OLD(legacy_accesses_of_all_kinds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
