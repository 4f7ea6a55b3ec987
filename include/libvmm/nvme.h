/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file nvme.h
 * An NVMe 1.4 controller: a PCI function whose namespaces are block devices.
 *
 *     struct vmm_nvme_options o = VMM_NVME_OPTIONS_INIT;
 *     o.name = "nvme0";  o.vm = vmm_machine_vm(m);  o.memory = vmm_machine_memory(m);
 *     o.loop = vmm_machine_loop(m);
 *     vmm_nvme_new(&o, &nvme, err);
 *     n.block = block;
 *     vmm_nvme_add(nvme, &n, NULL, err);
 *     vmm_pci_host_add(vmm_machine_pci(m), vmm_nvme_pci(nvme), VMM_PCI_ANY_SLOT, 0, err);
 *     vmm_machine_add_device(m, vmm_pci_device(vmm_nvme_pci(nvme)));
 *
 * Commands are carried out on the loop's thread; a vCPU that rings a doorbell only wakes it. A guest
 * whose queues are not in memory finds the controller failed (CSTS.CFS) until it resets it.
 */
#ifndef LIBVMM_NVME_H
#define LIBVMM_NVME_H

#include <libvmm/block.h>
#include <libvmm/pci.h>

VMM_BEGIN_DECLS

struct vmm_nvme;

#define VMM_NVME_NAMESPACES 64u /**< at most, with the IDs 1 to this */
#define VMM_NVME_QUEUES     64u /**< pairs of I/O queues, at most */

struct vmm_nvme_options {
    size_t size;
    const char *name;          /**< as vmm_device_new() takes it */
    struct vmm_vm *vm;         /**< NULL: none (tests); then no doorbell is an ioeventfd */
    struct vmm_memory *memory; /**< held; where queues and data are */
    struct vmm_loop *loop;     /**< held */
    const char *serial;        /**< at most 20 printable ASCII characters; NULL: the name */
    const char *model;         /**< at most 40; NULL: "libvmm NVMe controller" */
    uint32_t queues;           /**< pairs of I/O queues, at most VMM_NVME_QUEUES; 0: that many */
    uint32_t depth;            /**< commands under way in all queues together, 16 to 1024; 0: 256 */
};
#define VMM_NVME_OPTIONS_INIT                                                                      \
    {                                                                                              \
        .size = sizeof(struct vmm_nvme_options)                                                    \
    }

/** -EINVAL: the text says which field. On the loop's thread, as is all but where said otherwise. */
VMM_API int vmm_nvme_new(const struct vmm_nvme_options *options, struct vmm_nvme **out,
                         struct vmm_error *err);
VMM_API struct vmm_nvme *vmm_nvme_ref(struct vmm_nvme *nvme);
/** The last reference (a bridge holds one) waits for requests under way. */
VMM_API struct vmm_nvme *vmm_nvme_unref(struct vmm_nvme *nvme);
/** Its PCI function, to be put on a bus. Not a new reference. Thread-safe. */
VMM_API struct vmm_pci *vmm_nvme_pci(struct vmm_nvme *nvme);

struct vmm_nvme_namespace {
    size_t size;
    struct vmm_block *block; /**< held; on the controller's loop, and of no other device */
    uint32_t id;             /**< 1 to VMM_NVME_NAMESPACES; 0: the first free one */
    uint32_t read_only;      /**< non-zero: also where the backend could be written */
    uint8_t uuid[16]; /**< zeros: the controller makes an EUI-64 of its serial number and the ID */
};
#define VMM_NVME_NAMESPACE_INIT                                                                    \
    {                                                                                              \
        .size = sizeof(struct vmm_nvme_namespace)                                                  \
    }

/**
 * Attach a namespace, also while the guest runs, which is told.
 * @param id  NULL, or gets its ID
 * -EEXIST: the ID is in use; -ENOSPC: all are; -EINVAL: another loop, or an image of less than a block.
 */
VMM_API int vmm_nvme_add(struct vmm_nvme *nvme, const struct vmm_nvme_namespace *options,
                         uint32_t *id, struct vmm_error *err);
/** Detach one: commands under way end first, later ones fail, the guest is told. -ENOENT. Not from a
 *  callback of its block device. May block for as long as the host's disk takes. */
VMM_API int vmm_nvme_remove(struct vmm_nvme *nvme, uint32_t id, struct vmm_error *err);
/** Change the length of a namespace's image and tell the guest. -ENOENT; else as vmm_block_resize(). */
VMM_API int vmm_nvme_resize(struct vmm_nvme *nvme, uint32_t id, uint64_t length,
                            struct vmm_error *err);

VMM_END_DECLS

#endif
