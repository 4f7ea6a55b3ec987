/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file machine.h
 * Boards put together from the library's parts, and the life of a machine.
 *
 * A machine goes through phases:
 *  1. vmm_machine_new(): the VM, its memory, buses and the board's devices are there. The embedder
 *     adds devices of their own to the buses.
 *  2. vmm_machine_realize(): vCPUs are made, the kernel is loaded, all that may fail for want of
 *     something has been acquired. Afterwards the caller may drop privileges.
 *  3. vmm_machine_start(): one thread a vCPU runs the guest.
 *  4. The guest ends (power-off, reset, crash) or vmm_machine_stop() is called: no vCPU runs. It can
 *     be started again after vmm_machine_reset().
 *  5. vmm_machine_unref().
 *
 * Unless said otherwise these functions are called from one thread at a time: the one that
 * dispatches the machine's loop.
 */
#ifndef LIBVMM_MACHINE_H
#define LIBVMM_MACHINE_H

#include <libvmm/bus.h>
#include <libvmm/chardev.h>
#include <libvmm/loader.h>
#include <libvmm/loop.h>
#include <libvmm/memplug.h>
#include <libvmm/mmu.h>
#include <libvmm/smbios.h>

VMM_BEGIN_DECLS

struct vmm_machine;
struct vmm_pci_host; /* pci.h */
struct vmm_pci;
struct vmm_fwcfg; /* fwcfg.h */
struct vmm_i8042; /* i8042.h */

#define VMM_SERIAL_PORTS 4

/** How the machine ended. */
#define VMM_END_NONE       0u /**< it has not */
#define VMM_END_POWER_OFF  1u /**< the guest switched itself off */
#define VMM_END_RESET      2u /**< the guest asked for a reset, and on_reset says to end */
#define VMM_END_CRASH      3u /**< triple fault, or KVM gave up: see text and exit */
#define VMM_END_DEBUG_EXIT 4u /**< the guest wrote to the exit port: see status */
#define VMM_END_STOPPED    5u /**< vmm_machine_stop() */
#define VMM_END_HOST_ERROR 6u /**< a host call failed: see status (negative errno) and text */

struct vmm_outcome {
    size_t size;
    uint32_t reason; /**< VMM_END_… */
    int32_t status;  /**< debug exit: value * 2 + 1; host error: negative errno */
    uint32_t vcpu;   /**< the vCPU it came from */
    uint32_t reserved;
    struct vmm_exit exit; /**< crash: the raw exit */
    const char *text;     /**< crash and host error: a report of several lines; the machine's */
};
#define VMM_OUTCOME_INIT                                                                           \
    {                                                                                              \
        sizeof(struct vmm_outcome), 0, 0, 0, 0, VMM_EXIT_INIT, 0                                   \
    }

#define VMM_ON_RESET_RESTART 0u /**< the machine starts anew, as hardware does */
#define VMM_ON_RESET_END     1u /**< the machine ends with VMM_END_RESET */

#define VMM_ASSIST_AUTO 0u /**< on where KVM shadows and emulates (see vmm_host_info) */
#define VMM_ASSIST_OFF  1u
#define VMM_ASSIST_ON   2u

#define VMM_MACHINE_PCI_NONE 0u
/** A PCI host bridge (see vmm_machine_pci()), which virtio devices then go on. */
#define VMM_MACHINE_PCI_MODERN 1u
/** The same; virtio devices that legacy drivers know have their interface too. */
#define VMM_MACHINE_PCI_TRANSITIONAL 2u

struct vmm_machine_options {
    size_t size;
    const char *board; /**< "micro", "pc" or "q35" */
    const char *cpu;   /**< the CPU policy, as vmm_x86_cpuid_apply_text() takes it; NULL: "host" */
    uint64_t memory_size;   /**< bytes of RAM, a multiple of 4096; 0: 256 MiB */
    uint32_t cpus;          /**< 0: 1 */
    uint32_t kick_signal;   /**< see vcpu.h; must be set to run vCPU threads */
    uint32_t on_reset;      /**< VMM_ON_RESET_… */
    uint32_t debug_exit;    /**< non-zero: an exit port at 0xf4 */
    uint32_t assist;        /**< VMM_ASSIST_… */
    uint32_t shared_memory; /**< non-zero: RAM is a memfd that can be given to other processes */
    struct vmm_loop *loop;  /**< NULL: the machine makes one */
    struct vmm_chardev *serial[VMM_SERIAL_PORTS]; /**< a UART each where not NULL */
    struct vmm_chardev *debug_console;            /**< x86: ports 0x402 and 0xe9 */
    struct vmm_log log;
    vmm_guest_error_fn guest_error;
    void *guest_error_ctx;
    /** The machine has ended; called on the loop's thread, vCPU threads have ended too. */
    void (*ended)(void *ctx, const struct vmm_outcome *outcome);
    void *ended_ctx;
    uint32_t pci; /**< VMM_MACHINE_PCI_… */
    uint32_t reserved;
    /** Up to how many bytes of RAM in all may be plugged by vmm_machine_add_memory(); the difference to
     *  memory_size is a multiple of VMM_MACHINE_PLUG_UNIT. 0: none. */
    uint64_t memory_max;
    /** Boards "pc" and "q35": the file that is the firmware, 64 KiB to 16 MiB. Needed there. On arm64, board "micro":
     *  UEFI, up to 64 MiB; the kernel, if there is one, is handed to it. NULL: none. */
    const char *firmware;
    /** The same boards: a file that is the flash chip below the firmware, in which UEFI keeps its variables: of
     *  each machine its own copy of the firmware's empty store. Written when the guest writes. NULL: none. */
    const char *firmware_vars;
};
#define VMM_MACHINE_OPTIONS_INIT                                                                   \
    {                                                                                              \
        sizeof(struct vmm_machine_options), "micro", 0, 0, 0, 0, 0, 0, 0, 0, 0, {0}, 0,            \
            {0, 0, 0, 0}, 0, 0, 0, 0, 0, 0, 0, 0, 0                                                \
    }

/** The boards of this build, for help texts: NULL-terminated, static. */
VMM_API const char *const *vmm_machine_boards(void);

VMM_API int vmm_machine_new(struct vmm_host *host, const struct vmm_machine_options *options,
                            struct vmm_machine **out, struct vmm_error *err);
VMM_API struct vmm_machine *vmm_machine_ref(struct vmm_machine *machine);
/** The last reference stops the machine. */
VMM_API struct vmm_machine *vmm_machine_unref(struct vmm_machine *machine);

/* The parts; each is the machine's, take a reference to keep one. Thread-safe. */
VMM_API struct vmm_vm *vmm_machine_vm(const struct vmm_machine *machine);
VMM_API struct vmm_memory *vmm_machine_memory(const struct vmm_machine *machine);
VMM_API struct vmm_bus *vmm_machine_mmio(const struct vmm_machine *machine);
/** NULL on an architecture without ports. */
VMM_API struct vmm_bus *vmm_machine_ports(const struct vmm_machine *machine);
/** NULL on a machine without PCI. Functions are added before vmm_machine_realize(), which places their
 *  BARs, or plugged in later. */
VMM_API struct vmm_pci_host *vmm_machine_pci(const struct vmm_machine *machine);
/** The firmware configuration, for files of the embedder's own; NULL: the board has none. */
VMM_API struct vmm_fwcfg *vmm_machine_fwcfg(const struct vmm_machine *machine);
/** The keyboard controller, for keys and the mouse; NULL: the board has none. */
VMM_API struct vmm_i8042 *vmm_machine_i8042(const struct vmm_machine *machine);
VMM_API struct vmm_loop *vmm_machine_loop(const struct vmm_machine *machine);
VMM_API uint32_t vmm_machine_cpus(const struct vmm_machine *machine);
/** NULL before vmm_machine_realize() and beyond the last. */
VMM_API struct vmm_vcpu *vmm_machine_vcpu(const struct vmm_machine *machine, uint32_t index);

/** How KVM's pool of shadow pages was sized for this machine. */
VMM_API int vmm_machine_get_mmu(const struct vmm_machine *machine, struct vmm_mmu_info *info);

/** Let a device take part in reset, save and load; held by the machine. -EEXIST: the name is taken. */
VMM_API int vmm_machine_add_device(struct vmm_machine *machine, struct vmm_device *device);
/** Let go of a device that has been unplugged. -ENOENT: the machine does not have it. */
VMM_API int vmm_machine_remove_device(struct vmm_machine *machine, struct vmm_device *device);

struct vmm_iothread; /* iothread.h */
/** A thread that devices of the machine work on; held. Reset, save and load pause it, and so does the
 *  last vmm_machine_unref() before the devices go (it is not resumed then). vmm_machine_pause() does
 *  not: what was begun goes on to its end. */
VMM_API int vmm_machine_add_iothread(struct vmm_machine *machine, struct vmm_iothread *thread);

struct vmm_virtio; /* virtio.h */
/**
 * Put a virtio device on the board, which describes it to the guest; the machine holds it. Before
 * vmm_machine_realize(). -ENOSPC: no place or interrupt is left; -ENOTSUP: not on this board;
 * -EEXIST: the name is taken; -EBUSY: it is on a transport already.
 */
VMM_API int vmm_machine_add_virtio(struct vmm_machine *machine, struct vmm_virtio *virtio,
                                   struct vmm_error *err);

/** What to boot. The file is opened now and read again at each reset. Fields that the board knows
 *  (memory map, tables) are filled in by it. Before vmm_machine_realize(). */
VMM_API int vmm_machine_set_kernel(struct vmm_machine *machine,
                                   const struct vmm_kernel_options *kernel, struct vmm_error *err);

/** What to boot from: a function of PCI, and what is behind it. */
struct vmm_boot_device {
    struct vmm_pci
        *pci; /**< a disk controller, a disk or network card of virtio (vmm_virtio_pci()) */
    uint32_t
        unit; /**< AHCI: the port; IDE: channel * 2 + drive; SCSI: the target; NVMe: the namespace, 0
                        being the first */
    uint32_t lun; /**< SCSI */
    uint32_t reserved;
};
/** In which order the firmware of the boards "pc" and "q35" tries devices; those that are not named come
 *  after these. Replaces an earlier order; the firmware reads it when it starts. Nothing is held. -ENOTSUP: the
 *  board has no such firmware, or a function is nothing to boot from; -ENOENT: it is on no bus; -EINVAL:
 *  more than 64, or one that is NULL. */
VMM_API int vmm_machine_set_boot_order(struct vmm_machine *machine,
                                       const struct vmm_boot_device *devices, size_t count,
                                       struct vmm_error *err);

/** What the guest reads in its SMBIOS tables; without this call they name libvmm and the board.
 *  Memory map, processors and cores are filled in by the board. Nothing of `options` is kept. Before
 *  vmm_machine_realize(). -ENOTSUP: the board has no SMBIOS; errors of vmm_smbios_build(). */
VMM_API int vmm_machine_set_smbios(struct vmm_machine *machine,
                                   const struct vmm_smbios_options *options, struct vmm_error *err);

VMM_API int vmm_machine_realize(struct vmm_machine *machine, struct vmm_error *err);
/** Realizes first if that has not been done. */
VMM_API int vmm_machine_start(struct vmm_machine *machine, struct vmm_error *err);
/** All vCPUs out of the guest; nests. Thread-safe, but not from a vCPU's thread. */
VMM_API int vmm_machine_pause(struct vmm_machine *machine);
VMM_API int vmm_machine_resume(struct vmm_machine *machine);
/** End the vCPU threads; the outcome is VMM_END_STOPPED unless the guest was first. */
VMM_API int vmm_machine_stop(struct vmm_machine *machine);
/** Back to the state before the first start: devices, interrupt controllers, vCPUs, the kernel in
 *  memory. The machine must be stopped or have ended. */
VMM_API int vmm_machine_reset(struct vmm_machine *machine, struct vmm_error *err);

/**
 * Dispatch the loop until the machine has ended. 0 with `*outcome` (may be NULL) filled in,
 * -ETIMEDOUT after `timeout_ms` (-1: never), or the loop's error.
 */
VMM_API int vmm_machine_wait(struct vmm_machine *machine, int timeout_ms,
                             struct vmm_outcome *outcome);
/** How it ended, or VMM_END_NONE. */
VMM_API int vmm_machine_get_outcome(const struct vmm_machine *machine, struct vmm_outcome *outcome);
/** A static name such as "power-off". */
VMM_API const char *vmm_end_name(uint32_t reason);

/** Linux on x86 takes memory in units of this size only. */
#define VMM_MACHINE_PLUG_UNIT (UINT64_C(128) << 20)

/**
 * Plug more RAM; a guest that runs is told by ACPI, one that boots finds it.
 * @param length  a multiple of VMM_MACHINE_PLUG_UNIT
 * @param slot    NULL, or gets a number for the functions below
 * -ENOTSUP: the machine was made without memory_max, or the board cannot; -ENOSPC: above memory_max,
 * no gap of that length, or no slot is left; -EINVAL, -ENOMEM.
 */
VMM_API int vmm_machine_add_memory(struct vmm_machine *machine, uint64_t length, uint32_t *slot,
                                   struct vmm_error *err);
/** Ask the guest to give a slot's memory back. It may refuse; when it agrees, the memory is returned
 *  to the host by the loop and the slot is empty. -ENOENT: it is empty. */
VMM_API int vmm_machine_remove_memory(struct vmm_machine *machine, uint32_t slot,
                                      struct vmm_error *err);
/** -ENOENT: there is no slot of that number. Thread-safe. */
VMM_API int vmm_machine_get_memory_slot(struct vmm_machine *machine, uint32_t slot,
                                        struct vmm_memplug_slot *info);

/** Press the power button (ACPI). The guest decides what it does. -ENODEV: the board has none. */
VMM_API int vmm_machine_power_button(struct vmm_machine *machine);

/**
 * Save everything but guest memory, as a device-tree blob that the caller frees. The machine must
 * be realized, and paused or not running.
 */
VMM_API int vmm_machine_save(struct vmm_machine *machine, void **data, size_t *length,
                             struct vmm_error *err);
/** Take over what vmm_machine_save() gave, into a machine of the same options that is realized and
 *  not running. Hostile input is refused with the field's name. */
VMM_API int vmm_machine_load(struct vmm_machine *machine, const void *data, size_t length,
                             struct vmm_error *err);

VMM_END_DECLS

#endif
