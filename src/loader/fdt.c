/* SPDX-License-Identifier: BSD-3-Clause */
/* Device trees for guests, written by libfdt's sequential calls into a buffer that grows. */
#include "base/util.h"

#include <libvmm/fdt.h>

#include <libfdt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define DEPTH_MAX    16u
#define NAME_MAX_FDT 31u /* of a property, and of a node before its "@" (2.2.1, 2.2.4) */
#define VALUE_MAX    (1u << 20)

struct vmm_fdt {
    char *data;
    int size;
    uint32_t depth;                /* 0: the root */
    bool has_nodes[DEPTH_MAX + 1]; /* so no property may follow */
    uint32_t phandle;              /* the last one given out */
    struct vmm_error error;        /* the first: sticks */
};

static void fail(struct vmm_fdt *f, int code, const char *format, ...) VMM_PRINTF(3, 4);
static void fail(struct vmm_fdt *f, int code, const char *format, ...)
{
    char text[200];
    va_list args;
    if (f->error.code)
        return;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)vmm_error_set(&f->error, code, "device tree: %s", text);
}

static void grow(struct vmm_fdt *f)
{
    char *data = f->size <= INT32_MAX / 2 ? malloc((size_t)f->size * 2) : NULL;
    if (!data || fdt_resize(f->data, data, f->size * 2)) {
        free(data);
        fail(f, -ENOMEM, "out of memory");
        return;
    }
    free(f->data);
    f->data = data;
    f->size *= 2;
}

/* Do one of libfdt's calls again with a larger buffer until it has room. */
#define WITH_ROOM(f, call)                                                                         \
    do {                                                                                           \
        int fdt_rc_;                                                                               \
        while (!(f)->error.code && (fdt_rc_ = (call)) != 0) {                                      \
            if (fdt_rc_ == -FDT_ERR_NOSPACE)                                                       \
                grow(f);                                                                           \
            else                                                                                   \
                fail((f), -EINVAL, "%s", fdt_strerror(fdt_rc_));                                   \
        }                                                                                          \
    } while (0)

int vmm_fdt_new(struct vmm_fdt **out)
{
    struct vmm_fdt *f = calloc(1, sizeof(*f));
    if (!f)
        return -ENOMEM;
    f->size = 4096;
    f->data = malloc((size_t)f->size);
    if (!f->data || fdt_create(f->data, f->size)) {
        vmm_fdt_free(f);
        return -ENOMEM;
    }
    WITH_ROOM(f, fdt_finish_reservemap(f->data));
    WITH_ROOM(f, fdt_begin_node(f->data, ""));
    *out = f;
    return 0;
}

struct vmm_fdt *vmm_fdt_free(struct vmm_fdt *f)
{
    if (f) {
        free(f->data);
        free(f);
    }
    return NULL;
}

int vmm_fdt_finish(struct vmm_fdt *f, void **data, size_t *length, struct vmm_error *err)
{
    if (f->depth > 0)
        fail(f, -EINVAL, "%u nodes have not been ended", f->depth);
    WITH_ROOM(f, fdt_end_node(f->data));
    WITH_ROOM(f, fdt_finish(f->data));
    if (f->error.code)
        return vmm_error_set(err, f->error.code, "%s", f->error.text);
    *length = fdt_totalsize(f->data);
    *data = f->data;
    f->data = NULL;
    fail(f, -EINVAL, "it has been finished");
    return 0;
}

/* Nodes and properties ------------------------------------------------------------------------- */

#define ALPHANUMERIC "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

static bool node_name_ok(const char *name)
{
    size_t n = name ? strspn(name, ALPHANUMERIC ",._+-") : 0;
    if (n == 0 || n > NAME_MAX_FDT)
        return false;
    if (name[n] == '\0')
        return true;
    size_t unit = strspn(name + n + 1, ALPHANUMERIC ",._+-");
    return name[n] == '@' && unit > 0 && unit <= NAME_MAX_FDT && name[n + 1 + unit] == '\0';
}

static bool property_name_ok(const char *name)
{
    size_t n = name ? strspn(name, ALPHANUMERIC ",._+?#-") : 0;
    return n > 0 && n <= NAME_MAX_FDT && name[n] == '\0';
}

void vmm_fdt_begin(struct vmm_fdt *f, const char *name)
{
    if (!node_name_ok(name))
        fail(f, -EINVAL, "\"%.64s\" is not a node's name", name ? name : "(null)");
    else if (f->depth == DEPTH_MAX)
        fail(f, -EINVAL, "%s: more than %u nodes inside each other", name, DEPTH_MAX);
    WITH_ROOM(f, fdt_begin_node(f->data, name));
    if (f->error.code)
        return;
    f->has_nodes[f->depth++] = true;
    f->has_nodes[f->depth] = false;
}

void vmm_fdt_begin_at(struct vmm_fdt *f, const char *name, uint64_t address)
{
    char text[64];
    (void)snprintf(text, sizeof(text), "%.40s@%llx", name ? name : "", (unsigned long long)address);
    vmm_fdt_begin(f, text);
}

void vmm_fdt_end(struct vmm_fdt *f)
{
    if (f->depth == 0)
        fail(f, -EINVAL, "no node is open to be ended");
    WITH_ROOM(f, fdt_end_node(f->data));
    if (!f->error.code)
        f->depth--;
}

void vmm_fdt_put_bytes(struct vmm_fdt *f, const char *name, const void *data, size_t length)
{
    if (!property_name_ok(name))
        fail(f, -EINVAL, "\"%.64s\" is not a property's name", name ? name : "(null)");
    else if (length > VALUE_MAX || (length && !data))
        fail(f, -EINVAL, "%s: %zu bytes", name, length);
    else if (f->has_nodes[f->depth])
        fail(f, -EINVAL, "%s: a property after a child node", name);
    WITH_ROOM(f, fdt_property(f->data, name, data, (int)length));
}

void vmm_fdt_put_empty(struct vmm_fdt *f, const char *name)
{
    vmm_fdt_put_bytes(f, name, NULL, 0);
}

void vmm_fdt_put_u32(struct vmm_fdt *f, const char *name, uint32_t value)
{
    vmm_fdt_put_cells(f, name, &value, 1);
}

void vmm_fdt_put_u64(struct vmm_fdt *f, const char *name, uint64_t value)
{
    const uint32_t cells[] = {(uint32_t)(value >> 32), (uint32_t)value};
    vmm_fdt_put_cells(f, name, cells, 2);
}

void vmm_fdt_put_cells(struct vmm_fdt *f, const char *name, const uint32_t *cells, size_t count)
{
    uint32_t *big = count <= VALUE_MAX / 4 ? malloc(count * 4 + 1) : NULL;
    if (!big || !cells) {
        fail(f, -EINVAL, "%.64s: %zu cells", name ? name : "(null)", count);
        free(big);
        return;
    }
    for (size_t i = 0; i < count; i++)
        big[i] = htobe32(cells[i]);
    vmm_fdt_put_bytes(f, name, big, count * 4);
    free(big);
}

void vmm_fdt_put_string(struct vmm_fdt *f, const char *name, const char *text)
{
    vmm_fdt_put_strings(f, name, &text, 1);
}

void vmm_fdt_put_strings(struct vmm_fdt *f, const char *name, const char *const *texts,
                         size_t count)
{
    size_t length = 0, at = 0;
    for (size_t i = 0; i < count; i++) {
        if (!texts[i]) {
            fail(f, -EINVAL, "%.64s: a string is missing", name ? name : "(null)");
            return;
        }
        length += strlen(texts[i]) + 1;
    }
    char *all = malloc(length + 1);
    if (!all) {
        fail(f, -ENOMEM, "out of memory");
        return;
    }
    for (size_t i = 0; i < count; i++) {
        size_t n = strlen(texts[i]) + 1;
        memcpy(all + at, texts[i], n);
        at += n;
    }
    vmm_fdt_put_bytes(f, name, all, length);
    free(all);
}

void vmm_fdt_put_reg(struct vmm_fdt *f, uint64_t address, uint64_t length)
{
    const uint32_t cells[] = {(uint32_t)(address >> 32), (uint32_t)address,
                              (uint32_t)(length >> 32), (uint32_t)length};
    if (!vmm_range_ok(address, length))
        fail(f, -EINVAL, "a range at %#llx that wraps around", (unsigned long long)address);
    vmm_fdt_put_cells(f, "reg", cells, 4);
}

uint32_t vmm_fdt_new_phandle(struct vmm_fdt *f)
{
    return ++f->phandle;
}

/* Usual nodes ---------------------------------------------------------------------------------- */

void vmm_fdt_put_root(struct vmm_fdt *f, const char *model, const char *compatible)
{
    if (f->depth > 0)
        fail(f, -EINVAL, "the root's properties inside of a node");
    vmm_fdt_put_u32(f, "#address-cells", 2);
    vmm_fdt_put_u32(f, "#size-cells", 2);
    vmm_fdt_put_string(f, "model", model);
    vmm_fdt_put_string(f, "compatible", compatible);
}

void vmm_fdt_add_memory(struct vmm_fdt *f, const struct vmm_memory_map_entry *map, size_t count)
{
    for (size_t i = 0; i < count && !f->error.code; i++) {
        if (map[i].type != VMM_MEMORY_MAP_RAM || map[i].length == 0)
            continue;
        vmm_fdt_begin_at(f, "memory", map[i].address);
        vmm_fdt_put_string(f, "device_type", "memory");
        vmm_fdt_put_reg(f, map[i].address, map[i].length);
        vmm_fdt_end(f);
    }
}

void vmm_fdt_add_cpus(struct vmm_fdt *f, const char *compatible, const char *enable_method,
                      const uint32_t *ids, uint32_t count)
{
    if (count < 1 || count > 4096)
        fail(f, -EINVAL, "%u processors", count);
    vmm_fdt_begin(f, "cpus");
    vmm_fdt_put_u32(f, "#address-cells", 1);
    vmm_fdt_put_u32(f, "#size-cells", 0);
    for (uint32_t i = 0; i < count && !f->error.code; i++) {
        uint32_t id = ids ? ids[i] : i;
        vmm_fdt_begin_at(f, "cpu", id);
        vmm_fdt_put_string(f, "device_type", "cpu");
        if (compatible)
            vmm_fdt_put_string(f, "compatible", compatible);
        if (enable_method)
            vmm_fdt_put_string(f, "enable-method", enable_method);
        vmm_fdt_put_u32(f, "reg", id);
        vmm_fdt_end(f);
    }
    vmm_fdt_end(f);
}

void vmm_fdt_add_chosen(struct vmm_fdt *f, const struct vmm_fdt_chosen *given)
{
    struct vmm_fdt_chosen c;
    int rc = vmm_options_copy(&c, sizeof(c), given);
    if (rc)
        fail(f, rc, "struct vmm_fdt_chosen of another version");
    if (f->error.code)
        return;
    if (!vmm_range_ok(c.initrd_address, c.initrd_length) ||
        c.initrd_address + c.initrd_length < c.initrd_length)
        fail(f, -EINVAL, "the initrd wraps around");
    vmm_fdt_begin(f, "chosen");
    if (c.command_line)
        vmm_fdt_put_string(f, "bootargs", c.command_line);
    if (c.stdout_path)
        vmm_fdt_put_string(f, "stdout-path", c.stdout_path);
    if (c.initrd_length) {
        vmm_fdt_put_u64(f, "linux,initrd-start", c.initrd_address);
        vmm_fdt_put_u64(f, "linux,initrd-end", c.initrd_address + c.initrd_length);
    }
    if (c.random_seed)
        vmm_fdt_put_bytes(f, "rng-seed", c.random_seed, c.random_seed_length);
    vmm_fdt_end(f);
}

uint32_t vmm_fdt_add_interrupt_controller(struct vmm_fdt *f, const char *compatible,
                                          uint64_t address, uint64_t length, uint32_t cells)
{
    uint32_t phandle = vmm_fdt_new_phandle(f);
    if (cells < 1 || cells > 4)
        fail(f, -EINVAL, "an interrupt controller with %u cells an interrupt", cells);
    vmm_fdt_begin_at(f, "interrupt-controller", address);
    vmm_fdt_put_string(f, "compatible", compatible);
    vmm_fdt_put_reg(f, address, length);
    vmm_fdt_put_empty(f, "interrupt-controller");
    vmm_fdt_put_u32(f, "#address-cells", 0);
    vmm_fdt_put_u32(f, "#interrupt-cells", cells);
    vmm_fdt_put_u32(f, "phandle", phandle);
    vmm_fdt_end(f);
    return phandle;
}

static void put_interrupt(struct vmm_fdt *f, const struct vmm_fdt_interrupt *interrupt)
{
    if (!interrupt || interrupt->parent == 0)
        return;
    if (interrupt->count < 1 || interrupt->count > 4) {
        fail(f, -EINVAL, "an interrupt of %u cells", interrupt->count);
        return;
    }
    vmm_fdt_put_u32(f, "interrupt-parent", interrupt->parent);
    vmm_fdt_put_cells(f, "interrupts", interrupt->cells, interrupt->count);
}

void vmm_fdt_add_serial(struct vmm_fdt *f, uint64_t address, uint32_t shift,
                        const struct vmm_fdt_interrupt *interrupt)
{
    if (shift > 3)
        fail(f, -EINVAL, "a serial port with registers %u bits apart", shift);
    vmm_fdt_begin_at(f, "serial", address);
    vmm_fdt_put_string(f, "compatible", "ns16550a");
    vmm_fdt_put_reg(f, address, (uint64_t)8 << (shift & 3));
    vmm_fdt_put_u32(f, "clock-frequency", 1843200);
    if (shift)
        vmm_fdt_put_u32(f, "reg-shift", shift);
    put_interrupt(f, interrupt);
    vmm_fdt_end(f);
}

void vmm_fdt_add_virtio_mmio(struct vmm_fdt *f, uint64_t address, uint64_t length,
                             const struct vmm_fdt_interrupt *interrupt)
{
    vmm_fdt_begin_at(f, "virtio_mmio", address);
    vmm_fdt_put_string(f, "compatible", "virtio,mmio");
    vmm_fdt_put_reg(f, address, length);
    vmm_fdt_put_empty(f, "dma-coherent");
    put_interrupt(f, interrupt);
    vmm_fdt_end(f);
}
