/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The `micro` board: what a modern kernel needs and nothing else. No firmware: kernels are loaded
 * directly. UARTs at the PC's places, power management by hardware-reduced ACPI, the interrupt
 * controllers and the PIT in KVM.
 */
#include "machine/x86/micro.h"
#include "base/util.h"
#include "machine/x86/processors.h"
#include "vm/ioctl.h"

#include <libvmm/debugport.h>
#include <libvmm/kvm.h>
#include <libvmm/pci.h>
#include <libvmm/serial.h>
#include <libvmm/virtio.h>
#include <libvmm/x86-boot.h>

#include <stdlib.h>
#include <sys/random.h>

const struct micro_serial_place vmm_micro_serial_places[VMM_SERIAL_PORTS] = {
    {0x3f8, 4},
    {0x2f8, 3},
    {0x3e8, 4},
    {0x2e8, 3},
};

/* The pins above the ISA interrupts first, then those that nothing else has. */
const uint8_t vmm_micro_virtio_gsis[MICRO_VIRTIO_MAX] = {16, 17, 18, 19, 20, 21, 22, 23,
                                                         5,  6,  7,  10, 11, 12, 14, 15};

static void vm_options(struct vmm_vm_options *options)
{
    options->irqchip = VMM_IRQCHIP_KERNEL;
    options->pit = 1;
}

/* Devices -------------------------------------------------------------------------------------- */

static void pm_request(void *ctx, uint32_t what, uint32_t type)
{
    (void)type;
    if (what == VMM_PM_POWER_OFF)
        vmm_machine_end(ctx, VMM_END_POWER_OFF, 0);
    else if (what == VMM_PM_REBOOT)
        vmm_machine_end(ctx, VMM_END_RESET, 0);
    /* Other sleep states are not in the DSDT; a guest that asks for one goes on awake. */
}

static void exit_requested(void *ctx, int32_t status)
{
    vmm_machine_end(ctx, VMM_END_DEBUG_EXIT, status);
}

static int add_memory(struct vmm_machine *m, struct vmm_error *err)
{
    uint64_t size = m->options.memory_size;
    uint64_t low = size < MICRO_LOW_MEMORY_END ? size : MICRO_LOW_MEMORY_END;
    int rc = vmm_machine_add_ram(m, "ram-low", 0, low, NULL, err);
    if (!rc && size > low)
        rc = vmm_machine_add_ram(m, "ram-high", MICRO_HIGH_MEMORY, size - low, NULL, err);
    if (!rc && vmm_machine_plug_room(m))
        rc = vmm_machine_make_memplug(m, MICRO_HIGH_MEMORY + (size - low), m->ports,
                                      MICRO_MEMPLUG_PORT, err);
    return rc;
}

static int add_serial(struct vmm_machine *m, uint32_t index, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    const struct micro_serial_place *place = &vmm_micro_serial_places[index];
    const char name[] = {'s', 'e', 'r', 'i', 'a', 'l', (char)('0' + index), 0};
    struct vmm_serial_options o = VMM_SERIAL_OPTIONS_INIT;
    o.name = name;
    o.chardev = m->options.serial[index];
    int rc = vmm_irq_line_new(m->vm, place->irq, &o.irq);
    if (!rc) {
        rc = vmm_serial_new(&o, &micro->serial[index]);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (rc)
        return vmm_error_set(err, rc, "%s: %s", name,
                             rc == -EBUSY ? "its chardev has a user already" : strerror(-rc));
    rc = vmm_serial_attach(micro->serial[index], m->ports, place->port, 0, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_serial_device(micro->serial[index]));
}

static int add_pm(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_pm_options o = VMM_PM_OPTIONS_INIT;
    o.name = "pm";
    o.request = pm_request;
    o.ctx = m;
    int rc = vmm_irq_line_new(m->vm, MICRO_PM_GSI, &o.irq);
    if (!rc) {
        rc = vmm_pm_new(&o, &micro->pm);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (rc)
        return vmm_error_set(err, rc, "power management: %s", strerror(-rc));
    rc = vmm_pm_attach(micro->pm, m->ports, MICRO_PM_PORT, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_pm_device(micro->pm));
}

static int add_rtc(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    uint64_t size = m->options.memory_size;
    struct vmm_rtc_options o = VMM_RTC_OPTIONS_INIT;
    o.name = "rtc";
    o.loop = m->loop;
    o.memory_below_4g = size < MICRO_LOW_MEMORY_END ? size : MICRO_LOW_MEMORY_END;
    o.memory_above_4g = size - o.memory_below_4g;
    int rc = vmm_irq_line_new(m->vm, MICRO_RTC_IRQ, &o.irq);
    if (!rc) {
        rc = vmm_rtc_new(&o, &micro->rtc);
        if (rc)
            vmm_irq_line_free(o.irq);
    }
    if (rc)
        return vmm_error_set(err, rc, "real-time clock: %s", strerror(-rc));
    rc = vmm_rtc_attach(micro->rtc, m->ports, MICRO_RTC_PORT, err);
    return rc ? rc : vmm_machine_add_device(m, vmm_rtc_device(micro->rtc));
}

static int add_virtio(struct vmm_machine *m, struct vmm_virtio *virtio, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    uint32_t place = micro->virtio_count;
    struct vmm_irq_line *irq;
    if (m->pci)
        return vmm_micro_add_virtio_pci(m, virtio, err);
    if (place == MICRO_VIRTIO_MAX)
        return vmm_error_set(err, -ENOSPC, "the board has room for %u virtio devices",
                             MICRO_VIRTIO_MAX);
    int rc = vmm_irq_line_new(m->vm, vmm_micro_virtio_gsis[place], &irq);
    if (rc)
        return vmm_error_set(err, rc, "interrupt %u: %s", vmm_micro_virtio_gsis[place],
                             strerror(-rc));
    rc = vmm_virtio_mmio_attach(
        virtio, m->mmio, MICRO_VIRTIO_MMIO + (uint64_t)place * VMM_VIRTIO_MMIO_SIZE, irq, err);
    if (rc)
        vmm_irq_line_free(irq);
    else
        micro->virtio_count++;
    return rc;
}

static int add_debug_ports(struct vmm_machine *m, struct vmm_error *err)
{
    int rc = 0;
    struct vmm_chardev *console = m->options.debug_console;
    if (console) {
        rc = vmm_debugcon_add(m->ports, MICRO_DEBUG_PORT, "debugcon", console, NULL, err);
        if (!rc)
            rc = vmm_debugcon_add(m->ports, MICRO_BOCHS_PORT, "bochscon", console, NULL, err);
    }
    if (!rc && m->options.debug_exit)
        rc = vmm_exitport_add(m->ports, MICRO_EXIT_PORT, "exitport", exit_requested, m, NULL, err);
    return rc;
}

/*
 * Mask the PICs' inputs, as firmware leaves them. A kernel on hardware-reduced ACPI never touches them
 * (Linux: null_legacy_pic), and what a device's interrupt latched there would reach it as an exception,
 * by the vectors from 0 that the PICs have at power-on.
 */
static int mask_pics(struct vmm_machine *m, struct vmm_error *err)
{
    static const uint32_t ids[] = {KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(ids); i++) {
        struct kvm_irqchip chip = {.chip_id = ids[i]};
        int rc = vmm_kvm_ioctl_ptr(vmm_vm_fd(m->vm), KVM_GET_IRQCHIP, &chip);
        chip.chip.pic.imr = 0xff;
        if (!rc)
            rc = vmm_kvm_ioctl_ptr(vmm_vm_fd(m->vm), KVM_SET_IRQCHIP, &chip);
        if (rc)
            return vmm_error_set(err, rc, "the interrupt controllers: %s", strerror(-rc));
    }
    return 0;
}

static int add_devices(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = calloc(1, sizeof(*micro));
    if (!micro)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    m->board_data = micro;
    int rc = vmm_bus_new("port", 16, &m->ports);
    if (rc)
        return vmm_error_set(err, rc, "out of memory");
    rc = mask_pics(m, err);
    if (!rc)
        rc = add_memory(m, err);
    for (uint32_t i = 0; i < VMM_SERIAL_PORTS && !rc; i++)
        if (m->options.serial[i])
            rc = add_serial(m, i, err);
    if (!rc)
        rc = add_pm(m, err);
    if (!rc)
        rc = add_rtc(m, err);
    if (!rc && m->options.pci)
        rc = vmm_micro_add_pci(m, err);
    return rc ? rc : add_debug_ports(m, err);
}

static void destroy(struct vmm_machine *m)
{
    struct micro *micro = m->board_data;
    for (int i = 0; i < VMM_SERIAL_PORTS; i++)
        vmm_serial_unref(micro->serial[i]);
    vmm_pm_unref(micro->pm);
    vmm_rtc_unref(micro->rtc);
    vmm_x86_cpuid_free(micro->cpuid);
    free(micro->smbios);
    free(micro);
}

/* Processors ----------------------------------------------------------------------------------- */

static int set_up_vcpu(struct vmm_machine *m, struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    return vmm_board_set_up_vcpu(m, &micro->cpuid, vcpu, err);
}

/* Loading -------------------------------------------------------------------------------------- */

#define MAP_ENTRIES 5

static size_t memory_map(const struct vmm_machine *m,
                         struct vmm_memory_map_entry entries[MAP_ENTRIES])
{
    uint64_t size = m->options.memory_size;
    uint64_t low = size < MICRO_LOW_MEMORY_END ? size : MICRO_LOW_MEMORY_END;
    size_t n = 0;
    entries[n++] = (struct vmm_memory_map_entry){0, MICRO_LEGACY_HOLE, VMM_MEMORY_MAP_RAM, 0};
    entries[n++] = (struct vmm_memory_map_entry){
        MICRO_LEGACY_HOLE, MICRO_LEGACY_HOLE_END - MICRO_LEGACY_HOLE, VMM_MEMORY_MAP_RESERVED, 0};
    if (low > MICRO_LEGACY_HOLE_END)
        entries[n++] = (struct vmm_memory_map_entry){
            MICRO_LEGACY_HOLE_END, low - MICRO_LEGACY_HOLE_END, VMM_MEMORY_MAP_RAM, 0};
    if (m->pci) /* guests use it only where it is reserved (PCI firmware specification 3.3, 4.1.2) */
        entries[n++] = (struct vmm_memory_map_entry){MICRO_ECAM, MICRO_ECAM_LENGTH,
                                                     VMM_MEMORY_MAP_RESERVED, 0};
    if (size > low)
        entries[n++] =
            (struct vmm_memory_map_entry){MICRO_HIGH_MEMORY, size - low, VMM_MEMORY_MAP_RAM, 0};
    return n;
}

/* The structures come behind the entry point, at the next multiple of 16. */
#define SMBIOS_TABLES (MICRO_SMBIOS_ADDRESS + 32)

static int set_smbios(struct vmm_machine *m, const struct vmm_smbios_options *given,
                      struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    struct vmm_smbios_options o = VMM_SMBIOS_OPTIONS_INIT;
    struct vmm_memory_map_entry entries[MAP_ENTRIES];
    uint8_t entry[VMM_SMBIOS_ENTRY_SIZE];
    void *tables;
    size_t length;
    int rc = vmm_options_copy(&o, sizeof(o), given);
    if (rc)
        return vmm_error_set(err, rc, "SMBIOS options: a structure of another version");
    o.memory_map = entries;
    o.memory_map_count = memory_map(m, entries);
    o.sockets = 1;
    o.cores_per_socket = m->options.cpus;
    o.threads_per_core = 1;
    rc = vmm_smbios_build(&o, SMBIOS_TABLES, entry, &tables, &length, err);
    if (rc)
        return rc;
    if (length > MICRO_SMBIOS_ADDRESS + MICRO_SMBIOS_ROOM - SMBIOS_TABLES) {
        free(tables);
        return vmm_error_set(err, -ENOSPC, "SMBIOS tables of %zu bytes: the board has room for %u",
                             length, (unsigned)MICRO_SMBIOS_ROOM - 32);
    }
    free(micro->smbios);
    memcpy(micro->smbios_entry, entry, sizeof(entry));
    micro->smbios = tables;
    micro->smbios_length = length;
    return 0;
}

static int place_smbios(struct vmm_machine *m, struct vmm_error *err)
{
    struct micro *micro = m->board_data;
    if (!micro->smbios) {
        struct vmm_smbios_options o = VMM_SMBIOS_OPTIONS_INIT;
        o.manufacturer = "libvmm";
        o.product = m->board->name;
        int rc = set_smbios(m, &o, err);
        if (rc)
            return rc;
    }
    int rc = vmm_memory_write(m->memory, SMBIOS_TABLES, micro->smbios, micro->smbios_length);
    if (!rc)
        rc = vmm_memory_write(m->memory, MICRO_SMBIOS_ADDRESS, micro->smbios_entry,
                              sizeof(micro->smbios_entry));
    return rc ? vmm_error_set(err, rc, "the SMBIOS tables: %s", strerror(-rc)) : 0;
}

/*
 * All the firmware there is: what a PC's real-mode reset entry does. A kernel on hardware-reduced
 * ACPI does not use the reset register where it takes the machine for one with UEFI; Linux 6.1 falls
 * back to the jump to F000:FFF0 (arch/x86/kernel/reboot.c), and would run through zeros there.
 */
static int place_reset_vector(struct vmm_machine *m, struct vmm_error *err)
{
    const uint16_t port = MICRO_PM_PORT + VMM_PM_RESET;
    const uint8_t code[] = {
        0xba,      port & 0xff,
        port >> 8,                     /* mov dx, the reset register */
        0xb0,      VMM_PM_RESET_VALUE, /* mov al, its value */
        0xee,                          /* out dx, al */
        0xfa,      0xf4,               /* cli; hlt */
        0xeb,      0xfc,               /* jmp to the cli */
    };
    int rc = vmm_memory_write(m->memory, MICRO_RESET_VECTOR, code, sizeof(code));
    return rc ? vmm_error_set(err, rc, "the reset vector: %s", strerror(-rc)) : 0;
}

static int load(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_kernel_options k = m->kernel;
    struct vmm_memory_map_entry entries[MAP_ENTRIES];
    struct vmm_boot_state state = VMM_BOOT_STATE_INIT;
    uint8_t seed[32];
    int rc = vmm_micro_place_tables(m, err);
    if (!rc)
        rc = place_smbios(m, err);
    if (!rc)
        rc = place_reset_vector(m, err);
    if (!rc && m->pci)
        rc = vmm_pci_host_assign(m->pci, err);
    if (rc)
        return rc;
    if (!k.kernel.path && !k.kernel.data && k.kernel.fd < 0)
        return 0; /* the embedder sets the registers */
    k.memory_map = entries;
    k.memory_map_count = memory_map(m, entries);
    k.acpi_rsdp = MICRO_ACPI_ADDRESS;
    if (!k.random_seed && getrandom(seed, sizeof(seed), GRND_NONBLOCK) == (long)sizeof(seed)) {
        k.random_seed = seed;
        k.random_seed_length = sizeof(seed);
    }
    rc = vmm_kernel_load(m->memory, &k, &state, err);
    if (rc)
        return rc;
    rc = vmm_x86_boot_apply(m->vcpus[0], &state);
    return rc ? vmm_error_set(err, rc, "entry state of the kernel: %s", strerror(-rc)) : 0;
}

static int power_button(struct vmm_machine *m)
{
    struct micro *micro = m->board_data;
    return vmm_pm_raise(micro->pm, VMM_PM_POWER_BUTTON);
}

const struct vmm_board vmm_board_micro = {
    .name = "micro",
    .vm_options = vm_options,
    .add_devices = add_devices,
    .set_up_vcpu = set_up_vcpu,
    .load = load,
    .add_virtio = add_virtio,
    .power_button = power_button,
    .memory_event = vmm_micro_memory_event,
    .set_smbios = set_smbios,
    .describe = vmm_board_describe,
    .destroy = destroy,
};
