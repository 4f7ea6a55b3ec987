/* SPDX-License-Identifier: BSD-3-Clause */
/* The firmware configuration device: what firmware reads by ports, by memory and by DMA, and DMA
 * requests that a hostile guest would make. */
#include "base/util.h"
#include "test.h"

#include <libvmm/fwcfg.h>

#include <stdlib.h>

#define RAM     0x10000u
#define REQUEST 0x100u

struct fixture {
    struct vmm_memory *memory;
    struct vmm_bus *ports, *mmio;
    struct vmm_fwcfg *fwcfg;
    uint32_t writes;
    uint8_t last;
};

static void written(void *ctx, const void *data, size_t length)
{
    struct fixture *f = ctx;
    f->writes++;
    f->last = length ? *(const uint8_t *)data : 0;
}

static void begin(struct fixture *f)
{
    struct vmm_fwcfg_options o = VMM_FWCFG_OPTIONS_INIT;
    *f = (struct fixture){0};
    assert_int_equal(vmm_memory_new(NULL, &f->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, RAM, NULL, NULL), 0);
    assert_int_equal(vmm_bus_new("port", 16, &f->ports), 0);
    assert_int_equal(vmm_bus_new("memory", 64, &f->mmio), 0);
    o.name = "fwcfg";
    o.memory = f->memory;
    assert_int_equal(vmm_fwcfg_new(&o, &f->fwcfg), 0);
    assert_int_equal(vmm_fwcfg_attach_ports(f->fwcfg, f->ports, VMM_FWCFG_PORT, NULL), 0);
    assert_int_equal(vmm_fwcfg_attach_mmio(f->fwcfg, f->mmio, 0x9020000, NULL), 0);
    assert_int_equal(vmm_fwcfg_set_file(f->fwcfg, "etc/one", "first", 5, NULL), 0);
    assert_int_equal(
        vmm_fwcfg_add_writable(f->fwcfg, "etc/two", "\0\0\0\0\0\0\0\0", 8, written, f, NULL), 0);
}

static void end(struct fixture *f)
{
    vmm_bus_unref(f->ports);
    vmm_bus_unref(f->mmio);
    vmm_fwcfg_unref(f->fwcfg);
    vmm_memory_unref(f->memory);
}

static void select_item(struct fixture *f, uint32_t key)
{
    assert_int_equal(vmm_bus_write(f->ports, VMM_FWCFG_PORT, 2, key), 0);
}

static void read_bytes(struct fixture *f, uint8_t *data, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        uint64_t value;
        assert_int_equal(vmm_bus_read(f->ports, VMM_FWCFG_PORT + 1, 1, &value), 0);
        data[i] = (uint8_t)value;
    }
}

/* A request at REQUEST; the answer. */
static uint32_t dma(struct fixture *f, uint32_t control, uint32_t length, uint64_t address)
{
    uint32_t words[4] = {htobe32(control), htobe32(length), htobe32((uint32_t)(address >> 32)),
                         htobe32((uint32_t)address)};
    uint32_t answer;
    assert_int_equal(vmm_memory_write(f->memory, REQUEST, words, sizeof(words)), 0);
    assert_int_equal(vmm_bus_write(f->ports, VMM_FWCFG_PORT + 4, 4, 0), 0);
    assert_int_equal(vmm_bus_write(f->ports, VMM_FWCFG_PORT + 8, 4, htobe32(REQUEST)), 0);
    assert_int_equal(vmm_memory_read(f->memory, REQUEST, &answer, 4), 0);
    return be32toh(answer);
}

static void signature_and_directory(void **state)
{
    struct fixture f;
    uint8_t data[4 + 64 * 2 + 4];
    uint64_t value;
    (void)state;
    begin(&f);
    read_bytes(&f, data, 6); /* the signature is selected at first; zeros follow */
    assert_memory_equal(data, "QEMU\0\0", 6);
    select_item(&f, VMM_FWCFG_ID);
    read_bytes(&f, data, 4);
    assert_memory_equal(data, "\3\0\0\0", 4);
    select_item(&f, VMM_FWCFG_FILE_DIR);
    read_bytes(&f, data, sizeof(data));
    assert_memory_equal(data, "\0\0\0\2\0\0\0\5\0\x20\0\0etc/one\0", 20);
    assert_memory_equal(data + 68, "\0\0\0\x8\0\x21\0\0etc/two\0", 16);
    assert_memory_equal(data + 132, "\0\0\0\0", 4);
    select_item(&f, 0x20 | 0x4000); /* the old write flag is ignored */
    read_bytes(&f, data, 6);
    assert_memory_equal(data, "first\0", 6);
    select_item(&f, 0x3fff);
    read_bytes(&f, data, 1);
    assert_int_equal(data[0], 0);
    assert_int_equal(vmm_bus_read(f.ports, VMM_FWCFG_PORT + 4, 4, &value), 0);
    assert_int_equal(value, 0x554d4551); /* "QEMU" as it lies in memory */
    assert_int_equal(vmm_bus_read(f.ports, VMM_FWCFG_PORT + 8, 4, &value), 0);
    assert_int_equal(value, 0x47464320);
    end(&f);
}

static void numbered_items(void **state)
{
    struct fixture f;
    uint8_t data[4];
    (void)state;
    begin(&f);
    assert_int_equal(vmm_fwcfg_set_u16(f.fwcfg, VMM_FWCFG_CPUS, 0x102), 0);
    assert_int_equal(vmm_fwcfg_set_u32(f.fwcfg, 0x8003, 0x1020304), 0);
    select_item(&f, VMM_FWCFG_CPUS);
    read_bytes(&f, data, 3);
    assert_memory_equal(data, "\2\1\0", 3);
    select_item(&f, 0x8003);
    read_bytes(&f, data, 4);
    assert_memory_equal(data, "\4\3\2\1", 4);
    assert_int_equal(vmm_fwcfg_set_u16(f.fwcfg, VMM_FWCFG_SIGNATURE, 1), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_u16(f.fwcfg, VMM_FWCFG_ID, 1), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_u16(f.fwcfg, VMM_FWCFG_FILE_DIR, 1), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_u16(f.fwcfg, 0x8000 | VMM_FWCFG_FILE_DIR, 1), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_u16(f.fwcfg, UINT32_MAX, 1), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_item(f.fwcfg, VMM_FWCFG_UUID, NULL, 3), -EINVAL);
    /* An item that shrinks while it is read: nothing behind its end. */
    assert_int_equal(vmm_fwcfg_set_item(f.fwcfg, VMM_FWCFG_UUID, "abcdef", 6), 0);
    select_item(&f, VMM_FWCFG_UUID);
    read_bytes(&f, data, 4);
    assert_int_equal(vmm_fwcfg_set_item(f.fwcfg, VMM_FWCFG_UUID, "x", 1), 0);
    read_bytes(&f, data, 1);
    assert_int_equal(data[0], 0);
    end(&f);
}

static void dma_reads_skips_and_writes(void **state)
{
    struct fixture f;
    uint8_t data[8];
    (void)state;
    begin(&f);
    assert_int_equal(vmm_memory_fill(f.memory, 0x1000, 0xee, 64), 0);
    assert_int_equal(dma(&f, 0x200000 | 8 | 2, 8, 0x1000), 0); /* select and read, zeros behind */
    assert_int_equal(vmm_memory_read(f.memory, 0x1000, data, 8), 0);
    assert_memory_equal(data, "first\0\0\0", 8);
    assert_int_equal(dma(&f, 0x200000 | 8 | 4, 2, 0), 0); /* select and skip */
    assert_int_equal(dma(&f, 2, 2, 0x1000), 0);
    assert_int_equal(vmm_memory_read(f.memory, 0x1000, data, 3), 0);
    assert_memory_equal(data, "rsr", 3);
    assert_int_equal(dma(&f, 4, UINT32_MAX, 0), 0); /* beyond the end: zeros from there */
    assert_int_equal(dma(&f, 2, 1, 0x1000), 0);
    assert_int_equal(vmm_memory_read(f.memory, 0x1000, data, 1), 0);
    assert_int_equal(data[0], 0);
    assert_int_equal(vmm_memory_write(f.memory, 0x2000, "\x77 bytes!", 8), 0);
    assert_int_equal(dma(&f, 0x210000 | 8 | 0x10, 8, 0x2000), 0);
    assert_int_equal(f.writes, 1);
    assert_int_equal(f.last, 0x77);
    assert_int_equal(vmm_fwcfg_get_file(f.fwcfg, "etc/two", data, sizeof(data)), 8);
    assert_memory_equal(data, "\x77 bytes!", 8);
    assert_int_equal(dma(&f, 0x200000 | 8, 0, 0), 0); /* select alone, length 0 */
    read_bytes(&f, data, 1);
    assert_int_equal(data[0], 'f');
    end(&f);
}

static void hostile_dma_gives_the_error_bit(void **state)
{
    static const uint64_t bad[] = {RAM,
                                   RAM - 7,
                                   0xfffffff0,
                                   UINT64_MAX,
                                   UINT64_MAX - 7,
                                   UINT64_C(1) << 63,
                                   UINT64_C(0xffffffff00000000)};
    struct fixture f;
    uint8_t data[8] = {0};
    (void)state;
    begin(&f);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(bad); i++) {
        assert_int_equal(dma(&f, 0x200000 | 8 | 2, 8, bad[i]), 1);
        assert_int_equal(dma(&f, 0x210000 | 8 | 0x10, 8, bad[i]), 1);
        /* The request itself there: nothing to answer to, nothing happens. */
        assert_int_equal(
            vmm_bus_write(f.ports, VMM_FWCFG_PORT + 4, 4, htobe32((uint32_t)(bad[i] >> 32))), 0);
        assert_int_equal(vmm_bus_write(f.ports, VMM_FWCFG_PORT + 8, 4, htobe32((uint32_t)bad[i])),
                         0);
    }
    assert_int_equal(dma(&f, 0x200000 | 8 | 2, UINT32_MAX, 0x1000), 1); /* longer than RAM */
    assert_int_equal(dma(&f, 0x200000 | 8 | 0x10, 5, 0x1000), 1);       /* not writable */
    assert_int_equal(dma(&f, 0x210000 | 8 | 0x10, 9, 0x1000), 1);       /* beyond its end */
    assert_int_equal(dma(&f, 0x210000 | 8 | 4, 4, 0), 0);
    assert_int_equal(dma(&f, 0x10, 5, 0x1000), 1);
    assert_int_equal(dma(&f, 0x30000000 | 8 | 0x10, 1, 0x1000), 1); /* no such item */
    assert_int_equal(f.writes, 0);
    assert_int_equal(vmm_fwcfg_get_file(f.fwcfg, "etc/two", data, 8), 8);
    assert_memory_equal(data, "\0\0\0\0\0\0\0\0", 8);
    end(&f);
}

static void memory_mapped_form(void **state)
{
    struct fixture f;
    uint64_t value;
    (void)state;
    begin(&f);
    assert_int_equal(vmm_bus_write(f.mmio, 0x9020008, 2, htobe16(0x20)), 0);
    assert_int_equal(vmm_bus_read(f.mmio, 0x9020000, 4, &value), 0);
    assert_int_equal(value, 0x73726966); /* "firs" */
    assert_int_equal(vmm_bus_read(f.mmio, 0x9020000, 8, &value), 0);
    assert_int_equal(value, 't');
    assert_int_equal(vmm_bus_read(f.mmio, 0x9020010, 8, &value), 0);
    assert_true(value == UINT64_C(0x47464320554d4551));
    uint32_t words[4] = {htobe32(0x200000 | 8 | 2), htobe32(5), 0, htobe32(0x3000)};
    assert_int_equal(vmm_memory_write(f.memory, REQUEST, words, sizeof(words)), 0);
    assert_int_equal(vmm_bus_write(f.mmio, 0x9020010, 8, htobe64(REQUEST)), 0);
    uint8_t data[5];
    assert_int_equal(vmm_memory_read(f.memory, 0x3000, data, 5), 0);
    assert_memory_equal(data, "first", 5);
    end(&f);
}

/* Every register with every byte, in every width; afterwards it still works. */
static void every_register_with_every_value(void **state)
{
    struct fixture f;
    uint8_t data[4];
    (void)state;
    begin(&f);
    for (uint32_t value = 0; value < 256; value++)
        for (uint32_t offset = 0; offset < 12; offset++)
            for (uint32_t width = 1; width <= 4; width *= 2) {
                uint64_t ignored;
                (void)vmm_bus_write(f.ports, VMM_FWCFG_PORT + offset, width, value * 0x01010101u);
                (void)vmm_bus_read(f.ports, VMM_FWCFG_PORT + offset, width, &ignored);
            }
    select_item(&f, 0);
    read_bytes(&f, data, 4);
    assert_memory_equal(data, "QEMU", 4);
    end(&f);
}

static void files_are_checked(void **state)
{
    struct fixture f;
    char name[80];
    (void)state;
    begin(&f);
    memset(name, 'n', sizeof(name));
    name[56] = 0;
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, name, "x", 1, NULL), -EINVAL);
    name[55] = 0;
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, name, "x", 1, NULL), 0);
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, "", "x", 1, NULL), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, NULL, "x", 1, NULL), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, "a", NULL, 1, NULL), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, "a", name, (size_t)VMM_FWCFG_FILE_MAX + 1, NULL),
                     -EFBIG);
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, "etc/two", "x", 1, NULL), -EBUSY);
    assert_int_equal(vmm_fwcfg_add_writable(f.fwcfg, "etc/one", "x", 1, NULL, NULL, NULL), -EEXIST);
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, "etc/one", "longer than it was", 18, NULL), 0);
    assert_int_equal(vmm_fwcfg_get_file(f.fwcfg, "etc/one", NULL, 0), 18);
    assert_int_equal(vmm_fwcfg_get_file(f.fwcfg, "etc/three", NULL, 0), -ENOENT);
    for (uint32_t i = 3; i < VMM_FWCFG_FILES; i++) {
        name[0] = '-';
        name[1] = (char)('A' + i);
        assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, name, NULL, 0, NULL), 0);
    }
    assert_int_equal(vmm_fwcfg_set_file(f.fwcfg, "more", "x", 1, NULL), -ENOSPC);
    struct vmm_fwcfg *other;
    struct vmm_fwcfg_options o = VMM_FWCFG_OPTIONS_INIT;
    assert_int_equal(vmm_fwcfg_new(NULL, &other), -EINVAL);
    assert_int_equal(vmm_fwcfg_new(&o, &other), -EINVAL); /* no name */
    assert_null(vmm_fwcfg_unref(NULL));
    end(&f);
}

static int load_blob(struct vmm_device *device, const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    int rc = vmm_device_load(device, r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void state_goes_to_another(void **state)
{
    struct fixture f, g;
    struct vmm_state_writer *w;
    uint8_t data[8];
    void *blob;
    size_t length;
    (void)state;
    begin(&f);
    begin(&g);
    assert_int_equal(vmm_memory_write(f.memory, 0x2000, "settings", 8), 0);
    assert_int_equal(dma(&f, 0x210000 | 8 | 0x10, 8, 0x2000), 0);
    select_item(&f, 0x20);
    read_bytes(&f, data, 2);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_fwcfg_device(f.fwcfg), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(load_blob(vmm_fwcfg_device(g.fwcfg), blob, length), 0);
    read_bytes(&g, data, 3);
    assert_memory_equal(data, "rst", 3);
    assert_int_equal(vmm_fwcfg_get_file(g.fwcfg, "etc/two", data, 8), 8);
    assert_memory_equal(data, "settings", 8);
    /* An offset beyond what is there now. */
    assert_int_equal(vmm_fwcfg_set_file(g.fwcfg, "etc/one", "f", 1, NULL), 0);
    assert_int_equal(load_blob(vmm_fwcfg_device(g.fwcfg), blob, length), 0);
    read_bytes(&g, data, 1);
    assert_int_equal(data[0], 0);
    /* Another file at the place of the writable one is refused. */
    struct vmm_fwcfg_options o = VMM_FWCFG_OPTIONS_INIT;
    struct vmm_fwcfg *other;
    o.name = "fwcfg";
    assert_int_equal(vmm_fwcfg_new(&o, &other), 0);
    assert_int_equal(vmm_fwcfg_add_writable(other, "a", "xy", 2, NULL, NULL, NULL), 0);
    assert_int_equal(load_blob(vmm_fwcfg_device(other), blob, length), -ENOENT);
    vmm_fwcfg_unref(other);
    vmm_device_reset(vmm_fwcfg_device(g.fwcfg));
    read_bytes(&g, data, 4);
    assert_memory_equal(data, "QEMU", 4);
    free(blob);
    end(&f);
    end(&g);
}

static void count_up(void *ctx, void *data, size_t length)
{
    struct fixture *f = ctx;
    memset(data, (int)++f->writes, length);
}

/* Made anew at each selection, by port and by DMA; saved as it was read. */
static void refreshed_when_selected(void **state)
{
    struct fixture f;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *data;
    size_t length;
    uint8_t got[5];
    (void)state;
    begin(&f);
    assert_int_equal(vmm_fwcfg_set_refresh(f.fwcfg, "etc/none", count_up, &f), -ENOENT);
    assert_int_equal(vmm_fwcfg_set_refresh(f.fwcfg, "etc/two", count_up, &f), -EBUSY);
    assert_int_equal(vmm_fwcfg_set_refresh(f.fwcfg, NULL, count_up, &f), -EINVAL);
    assert_int_equal(vmm_fwcfg_set_refresh(f.fwcfg, "etc/one", count_up, &f), 0);
    select_item(&f, VMM_FWCFG_FILE_FIRST);
    read_bytes(&f, got, 5);
    assert_memory_equal(got, "\1\1\1\1\1", 5);
    select_item(&f, VMM_FWCFG_FILE_FIRST);
    read_bytes(&f, got, 2);
    assert_memory_equal(got, "\2\2", 2);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_fwcfg_device(f.fwcfg), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &data, &length), 0);
    vmm_state_writer_free(w);
    assert_int_equal(dma(&f, VMM_FWCFG_FILE_FIRST << 16 | 8 | 2, 5, 0x200), 0);
    assert_int_equal(vmm_memory_read(f.memory, 0x200, got, 5), 0);
    assert_memory_equal(got, "\3\3\3\3\3", 5);
    assert_int_equal(vmm_state_reader_new(data, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_fwcfg_device(f.fwcfg), r, NULL), 0);
    vmm_state_reader_free(r);
    free(data);
    read_bytes(&f, got, 3);
    assert_memory_equal(got, "\2\2\2", 3);
    assert_int_equal(vmm_fwcfg_set_refresh(f.fwcfg, "etc/one", NULL, NULL), 0);
    select_item(&f, VMM_FWCFG_FILE_FIRST);
    assert_int_equal(f.writes, 3);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(signature_and_directory),
        cmocka_unit_test(numbered_items),
        cmocka_unit_test(dma_reads_skips_and_writes),
        cmocka_unit_test(hostile_dma_gives_the_error_bit),
        cmocka_unit_test(memory_mapped_form),
        cmocka_unit_test(every_register_with_every_value),
        cmocka_unit_test(files_are_checked),
        cmocka_unit_test(refreshed_when_selected),
        cmocka_unit_test(state_goes_to_another),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
