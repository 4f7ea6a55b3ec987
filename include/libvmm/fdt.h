/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file fdt.h
 * Flattened device trees for guests that take one (Devicetree Specification 0.4).
 *
 * The builder is open at the root from the start. Nodes are begun and ended; a node's properties come
 * before its child nodes. Errors stick: vmm_fdt_finish() returns the first with a text, so a row of
 * calls needs one check. The helpers write the usual nodes; they expect a root with two address and
 * two size cells, as vmm_fdt_put_root() makes it.
 *
 * A builder belongs to one thread. Nothing here blocks.
 */
#ifndef LIBVMM_FDT_H
#define LIBVMM_FDT_H

#include <libvmm/loader.h>

VMM_BEGIN_DECLS

struct vmm_fdt;

VMM_API int vmm_fdt_new(struct vmm_fdt **out);
/** NULL is fine. */
VMM_API struct vmm_fdt *vmm_fdt_free(struct vmm_fdt *fdt);
/** `*data` is a malloc'ed blob of `*length` bytes, the caller frees it. The builder is used up.
 *  -EINVAL: a node is open, a name is malformed, a property follows a child node, or a number was
 *  wrong; -ENOMEM. */
VMM_API int vmm_fdt_finish(struct vmm_fdt *fdt, void **data, size_t *length, struct vmm_error *err);

/* Nodes and properties ------------------------------------------------------------------------- */

/** @param name  such as "cpus" or "serial@3f8"; at most 16 nodes inside each other */
VMM_API void vmm_fdt_begin(struct vmm_fdt *fdt, const char *name);
/** The same with "@" and the address in hexadecimal, as `reg` has it. */
VMM_API void vmm_fdt_begin_at(struct vmm_fdt *fdt, const char *name, uint64_t address);
VMM_API void vmm_fdt_end(struct vmm_fdt *fdt);

VMM_API void vmm_fdt_put_empty(struct vmm_fdt *fdt, const char *name);
VMM_API void vmm_fdt_put_u32(struct vmm_fdt *fdt, const char *name, uint32_t value);
VMM_API void vmm_fdt_put_u64(struct vmm_fdt *fdt, const char *name, uint64_t value);
VMM_API void vmm_fdt_put_cells(struct vmm_fdt *fdt, const char *name, const uint32_t *cells,
                               size_t count);
VMM_API void vmm_fdt_put_string(struct vmm_fdt *fdt, const char *name, const char *text);
/** A list of strings. */
VMM_API void vmm_fdt_put_strings(struct vmm_fdt *fdt, const char *name, const char *const *texts,
                                 size_t count);
VMM_API void vmm_fdt_put_bytes(struct vmm_fdt *fdt, const char *name, const void *data,
                               size_t length);
/** `reg` with one range, of two address and two size cells. */
VMM_API void vmm_fdt_put_reg(struct vmm_fdt *fdt, uint64_t address, uint64_t length);
/** A number for a `phandle` property that nobody else has. */
VMM_API uint32_t vmm_fdt_new_phandle(struct vmm_fdt *fdt);

/* Usual nodes ---------------------------------------------------------------------------------- */

/** The root's own properties; `compatible` such as "linux,dummy-virt". First of all. */
VMM_API void vmm_fdt_put_root(struct vmm_fdt *fdt, const char *model, const char *compatible);
/** A node memory@… for each entry that is RAM. */
VMM_API void vmm_fdt_add_memory(struct vmm_fdt *fdt, const struct vmm_memory_map_entry *map,
                                size_t count);
/** The node cpus.
 *  @param compatible    of each processor, such as "arm,armv8"; NULL: none
 *  @param enable_method how the others are started, such as "psci"; NULL: none
 *  @param ids           hardware ids of `count` (1 to 4096) processors; NULL: 0 and up */
VMM_API void vmm_fdt_add_cpus(struct vmm_fdt *fdt, const char *compatible,
                              const char *enable_method, const uint32_t *ids, uint32_t count);

struct vmm_fdt_chosen {
    size_t size;
    const char *command_line; /**< NULL: none */
    const char *stdout_path;  /**< a node's path; NULL: none */
    uint64_t initrd_address;
    uint64_t initrd_length;  /**< 0: none */
    const void *random_seed; /**< `rng-seed`; NULL: none */
    size_t random_seed_length;
};
#define VMM_FDT_CHOSEN_INIT                                                                        \
    {                                                                                              \
        sizeof(struct vmm_fdt_chosen), 0, 0, 0, 0, 0, 0                                            \
    }
VMM_API void vmm_fdt_add_chosen(struct vmm_fdt *fdt, const struct vmm_fdt_chosen *chosen);

/** An interrupt as its controller numbers it. */
struct vmm_fdt_interrupt {
    uint32_t parent;   /**< the controller's phandle; 0: no interrupt */
    uint32_t count;    /**< of cells: 1 to 4 */
    uint32_t cells[4]; /**< what they mean is the controller's */
};
/** An interrupt controller with one range of registers. @param cells  1 to 4 an interrupt
 *  @return its phandle */
VMM_API uint32_t vmm_fdt_add_interrupt_controller(struct vmm_fdt *fdt, const char *compatible,
                                                  uint64_t address, uint64_t length,
                                                  uint32_t cells);
/** A 16550 in memory, node serial@…. @param shift  each register is 1 << shift bytes after the last */
VMM_API void vmm_fdt_add_serial(struct vmm_fdt *fdt, uint64_t address, uint32_t shift,
                                const struct vmm_fdt_interrupt *interrupt);
/** A virtio-mmio transport, node virtio_mmio@…. */
VMM_API void vmm_fdt_add_virtio_mmio(struct vmm_fdt *fdt, uint64_t address, uint64_t length,
                                     const struct vmm_fdt_interrupt *interrupt);

VMM_END_DECLS

#endif
