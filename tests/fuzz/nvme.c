/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The NVMe controller against a guest that writes any register, doorbell, queue entry, PRP list or SGL, and
 * is reset, saved, loaded and unplugged at any moment. Checked: memory beside the guest's is untouched (by
 * the sanitizers), and after a reset the controller works as ever.
 */
#include "fuzz.h"

#include <libvmm/block-filters.h>
#include <libvmm/nvme.h>

#include <stdlib.h>
#include <string.h>

#define BAR   0xc0000000u
#define RAM   0x40000u
#define ASQ   0x1000u
#define ACQ   0x2000u
#define IOSQ  0x3000u
#define IOCQ  0x4000u
#define DATA  0x10000u
#define COUNT 16u

struct world {
    struct vmm_memory *memory;
    struct vmm_loop *loop;
    struct vmm_bus *mmio;
    struct vmm_pci_host *host;
    struct vmm_block *block;
    struct vmm_nvme *nvme;
    uint32_t tails[2];
    bool plugged;
};

struct input {
    const uint8_t *data;
    size_t length;
};

static uint64_t eat(struct input *in, size_t bytes)
{
    uint64_t value = 0;
    while (bytes-- && in->length) {
        value = value << 8 | *in->data++;
        in->length--;
    }
    return value;
}

static int signal_msi(void *ctx, const struct vmm_msi *msi)
{
    (void)ctx;
    (void)msi;
    return 1;
}

static void plug_in(struct world *w)
{
    struct vmm_nvme_namespace ns = VMM_NVME_NAMESPACE_INIT;
    ns.block = w->block;
    ns.id = 1;
    FUZZ_CHECK(vmm_nvme_add(w->nvme, &ns, NULL, NULL) == 0);
    w->plugged = true;
}

static void set_config(struct world *w, uint32_t offset, uint32_t width, uint32_t value)
{
    FUZZ_CHECK(vmm_pci_host_config_write(w->host, 8, offset, width, value) == 0);
}

static void place(struct world *w)
{
    set_config(w, 0x10, 4, BAR);
    set_config(w, 0x14, 4, 0);
    set_config(w, 0x20, 4, BAR + 0x10000);
    set_config(w, 4, 2, 6);
}

static void open_world(struct world *w)
{
    struct vmm_pci_host_options h = VMM_PCI_HOST_OPTIONS_INIT;
    struct vmm_nvme_options o = VMM_NVME_OPTIONS_INIT;
    struct vmm_block_memory_options m = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    memset(w, 0, sizeof(*w));
    FUZZ_CHECK(vmm_memory_new(NULL, &w->memory, NULL) == 0);
    FUZZ_CHECK(vmm_memory_add_ram(w->memory, "ram", 0, RAM, NULL, NULL) == 0);
    FUZZ_CHECK(vmm_bus_new("memory", 64, &w->mmio) == 0);
    FUZZ_CHECK(vmm_loop_new(NULL, &w->loop) == 0);
    h.name = "pci-host";
    h.memory = w->memory;
    h.mmio = w->mmio;
    h.ecam_address = 0xe0000000;
    h.window = (struct vmm_pci_window){BAR, 0x1000000};
    h.signal_msi = signal_msi;
    FUZZ_CHECK(vmm_pci_host_new(&h, &w->host, NULL) == 0);
    m.length = 1 << 20;
    FUZZ_CHECK(vmm_block_memory_new(w->loop, &m, &w->block, NULL) == 0);
    o.name = "nvme0";
    o.memory = w->memory;
    o.loop = w->loop;
    o.queues = 3;
    o.depth = 16;
    FUZZ_CHECK(vmm_nvme_new(&o, &w->nvme, NULL) == 0);
    FUZZ_CHECK(vmm_pci_host_add(w->host, vmm_nvme_pci(w->nvme), 1, 0, NULL) == 0);
    plug_in(w);
    place(w);
}

static void close_world(struct world *w)
{
    FUZZ_CHECK(vmm_pci_host_remove(w->host, vmm_nvme_pci(w->nvme)) == 0);
    vmm_nvme_unref(w->nvme);
    vmm_block_unref(w->block);
    vmm_pci_host_unref(w->host);
    vmm_bus_unref(w->mmio);
    vmm_memory_unref(w->memory);
    vmm_loop_unref(w->loop);
}

static void spin(struct world *w)
{
    for (int i = 0; i < 64 && vmm_loop_dispatch(w->loop, 0) > 0; i++)
        ;
}

static void set_register(struct world *w, uint64_t offset, uint32_t value)
{
    (void)vmm_bus_write(w->mmio, BAR + offset, 4, value);
}

static void put(struct world *w, uint32_t queue, const uint32_t *command)
{
    (void)vmm_memory_write(w->memory, (queue ? IOSQ : ASQ) + w->tails[queue] * 64, command, 64);
    w->tails[queue] = (w->tails[queue] + 1) % COUNT;
    set_register(w, 0x1000 + 8 * queue, w->tails[queue]);
}

static void enable(struct world *w)
{
    uint32_t c[16] = {5};
    set_register(w, 0x14, 0);
    set_register(w, 0x24, (COUNT - 1) | (COUNT - 1) << 16);
    set_register(w, 0x28, ASQ);
    set_register(w, 0x2c, 0);
    set_register(w, 0x30, ACQ);
    set_register(w, 0x34, 0);
    set_register(w, 0x14, 0x00460001);
    memset(w->tails, 0, sizeof(w->tails));
    c[6] = IOCQ;
    c[10] = 1 | (COUNT - 1) << 16;
    c[11] = 3;
    put(w, 0, c);
    c[0] = 1;
    c[6] = IOSQ;
    c[11] = 1 | 1 << 16;
    put(w, 0, c);
    spin(w);
}

/* A command whose fields are near to something that works. */
static void random_command(struct world *w, struct input *in)
{
    uint32_t queue = (uint32_t)eat(in, 1) & 1, c[16] = {0};
    c[0] = (uint32_t)eat(in, 1) | (uint32_t)eat(in, 1) << 8 | (uint32_t)eat(in, 1) << 16;
    c[1] = (uint32_t)(int32_t)(int8_t)eat(in, 1);
    c[6] = (uint32_t)eat(in, 3);
    c[7] = (uint32_t)eat(in, 1);
    c[8] = (uint32_t)eat(in, 3);
    c[9] = (uint32_t)eat(in, 1) << 24;
    c[10] = (uint32_t)eat(in, 2);
    c[11] = (uint32_t)eat(in, 3);
    c[12] = (uint32_t)eat(in, 2);
    if (queue == 0) /* sizes and numbers above, in the upper half */
        c[10] = (c[10] & 0xff) | (c[10] >> 8) << 16;
    put(w, queue, c);
}

static void save_and_load(struct world *w, struct input *in)
{
    struct vmm_device *device = vmm_pci_device(vmm_nvme_pci(w->nvme));
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    void *data;
    size_t length;
    uint8_t flip = (uint8_t)eat(in, 1);
    uint64_t at = eat(in, 2);
    FUZZ_CHECK(vmm_state_writer_new(&writer) == 0);
    FUZZ_CHECK(vmm_device_save(device, writer) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(writer, &data, &length) == 0);
    vmm_state_writer_free(writer);
    ((uint8_t *)data)[at % length] ^= flip;
    if (vmm_state_reader_new(data, length, &reader, NULL) == 0) {
        int rc = vmm_device_load(device, reader, NULL);
        FUZZ_CHECK(flip || rc == 0);
        vmm_state_reader_free(reader);
    }
    free(data);
    place(w);
}

static void step(struct world *w, struct input *in)
{
    uint64_t at;
    switch (eat(in, 1) % 10) {
    case 0:
        at = eat(in, 1) % 64 * 4;
        set_register(w, at, (uint32_t)eat(in, 4));
        break;
    case 1:
        at = 0x1000 + eat(in, 1) % 16 * 4;
        set_register(w, at, (uint32_t)eat(in, 2));
        break;
    case 2:
        at = eat(in, 3) % RAM;
        (void)vmm_memory_store_u64(w->memory, at & ~7ull, eat(in, 8));
        break;
    case 3:
        vmm_device_reset(vmm_pci_device(vmm_nvme_pci(w->nvme)));
        place(w);
        break;
    case 4:
        save_and_load(w, in);
        break;
    case 5:
        if (w->plugged)
            w->plugged = vmm_nvme_remove(w->nvme, 1, NULL) != 0;
        else
            plug_in(w);
        break;
    case 6:
        enable(w);
        break;
    case 7:
        spin(w);
        break;
    default:
        random_command(w, in);
    }
}

/* However it was treated: Identify is answered. */
static void check_works(struct world *w)
{
    uint32_t c[16] = {6}, status = UINT32_MAX;
    spin(w);
    vmm_device_reset(vmm_pci_device(vmm_nvme_pci(w->nvme)));
    place(w);
    (void)vmm_memory_fill(w->memory, ACQ, 0, 0x1000);
    enable(w);
    c[6] = DATA;
    c[10] = 1;
    put(w, 0, c);
    spin(w);
    FUZZ_CHECK(vmm_memory_load_u32(w->memory, ACQ + 2 * 16 + 12, &status) == 0);
    FUZZ_CHECK(status == 0x10000);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = {data, size};
    struct world w;
    open_world(&w);
    enable(&w);
    while (in.length)
        step(&w, &in);
    check_works(&w);
    close_world(&w);
    return 0;
}
