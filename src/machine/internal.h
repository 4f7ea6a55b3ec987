/* SPDX-License-Identifier: BSD-3-Clause */
/* A machine from the inside, and what a board adds to it. */
#ifndef MACHINE_INTERNAL_H
#define MACHINE_INTERNAL_H

#include <libvmm/machine.h>

#include <pthread.h>
#include <stdatomic.h>

/* Rooms of a machine's saved state. */
#define VMM_MACHINE_STATE_VERSION 1u
#define VMM_MACHINE_TEXT_SIZE     4096
#define VMM_MACHINE_CPUS_MAX      4096u
#define MACHINE_PLUG_SLOTS        16u

/* A board: which devices, where, and how a kernel is started on it. One for each name. */
struct vmm_board {
    const char *name;
    /* What the VM needs at its making. */
    void (*vm_options)(struct vmm_vm_options *options);
    /* Memory and devices; at vmm_machine_new(). */
    int (*add_devices)(struct vmm_machine *machine, struct vmm_error *err);
    /* One vCPU's features, as after power-on; at vmm_machine_realize(). */
    int (*set_up_vcpu)(struct vmm_machine *machine, struct vmm_vcpu *vcpu, struct vmm_error *err);
    /* Tables and kernel into memory, the first vCPU to the kernel's entry; at realize and reset. */
    int (*load)(struct vmm_machine *machine, struct vmm_error *err);
    /* Put a virtio device somewhere; NULL: it cannot. */
    int (*add_virtio)(struct vmm_machine *machine, struct vmm_virtio *virtio,
                      struct vmm_error *err);
    int (*power_button)(struct vmm_machine *machine);
    /* Tell the guest to look at its memory slots; not NULL where the board makes them. */
    void (*memory_event)(struct vmm_machine *machine);
    /* Build the SMBIOS tables that `load` places; NULL: it has none. */
    int (*set_smbios)(struct vmm_machine *machine, const struct vmm_smbios_options *options,
                      struct vmm_error *err);
    /* A report of several lines about a fatal exit. */
    void (*describe)(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text, size_t size);
    void (*destroy)(struct vmm_machine *machine);
};

/* The boards of this architecture, NULL-terminated. */
extern const struct vmm_board *const vmm_arch_boards[];
extern const char *const vmm_arch_board_names[];

enum machine_phase { MACHINE_NEW, MACHINE_REALIZED, MACHINE_RUNNING, MACHINE_ENDED };

struct vmm_machine {
    _Atomic uint32_t refs;
    enum machine_phase phase; /* of the loop's thread */
    const struct vmm_board *board;
    void *board_data;
    struct vmm_machine_options options; /* its pointers are held or copied below */
    char *cpu;
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_bus *ports, *mmio;
    struct vmm_pci_host *pci; /* NULL: the board has none, or none was asked for */
    struct vmm_fwcfg *fwcfg;  /* the board's, not held, as is the next; NULL: it has none */
    struct vmm_i8042 *i8042;
    struct vmm_mmu_info mmu;
    struct vmm_loop *loop;
    struct vmm_vcpu **vcpus;
    uint32_t vcpu_count;
    uint32_t threads; /* vCPU threads started and not joined */
    struct vmm_device **devices;
    size_t device_count;
    struct vmm_iothread **iothreads;
    size_t iothread_count;

    struct vmm_kernel_options kernel; /* its paths are replaced by descriptors of ours */
    char *command_line;
    int kernel_fd, initrd_fd;

    struct vmm_memplug *memplug; /* NULL: no hot plug of memory */
    struct vmm_memory_region *plugged[MACHINE_PLUG_SLOTS];
    uint64_t plug_base; /* plugged memory lies from here to plug_base + vmm_machine_plug_room() */
    struct vmm_timer *eject_timer; /* takes ejected memory away on the loop's thread */

    void *power_on; /* the state of VM and vCPUs before the first instruction, for reset */
    size_t power_on_length;

    pthread_mutex_t lock; /* guards the outcome */
    struct vmm_outcome outcome;
    char text[VMM_MACHINE_TEXT_SIZE];
    struct vmm_timer *end_timer; /* wakes the loop's thread when the guest has ended */
};

/* From any thread, device callbacks included: the machine has come to an end; the first one counts. */
void vmm_machine_end(struct vmm_machine *machine, uint32_t reason, int32_t status);

/* state.c */
int vmm_machine_save_processors(struct vmm_machine *machine, struct vmm_state_writer *w);
int vmm_machine_load_processors(struct vmm_machine *machine, struct vmm_state_reader *r,
                                struct vmm_error *err);
int vmm_machine_keep_power_on(struct vmm_machine *machine, struct vmm_error *err);

/* ram.c */
int vmm_machine_add_ram(struct vmm_machine *machine, const char *name, uint64_t address,
                        uint64_t length, struct vmm_memory_region **out, struct vmm_error *err);
/* Memory slots with their registers on a bus; plugged memory begins at `base` or above. */
int vmm_machine_make_memplug(struct vmm_machine *machine, uint64_t base, struct vmm_bus *bus,
                             uint64_t address, struct vmm_error *err);
void vmm_machine_free_memplug(struct vmm_machine *machine);
/* Bytes that may be plugged in all. */
uint64_t vmm_machine_plug_room(const struct vmm_machine *machine);

/* iothreads.c: the threads of devices, all at once. */
int vmm_machine_pause_iothreads(struct vmm_machine *machine, struct vmm_error *err);
void vmm_machine_resume_iothreads(struct vmm_machine *machine);
void vmm_machine_free_iothreads(struct vmm_machine *machine);

/* run.c */
void vmm_machine_join(struct vmm_machine *machine);
void vmm_machine_finish(void *machine);

#endif
