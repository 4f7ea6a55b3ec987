/* SPDX-License-Identifier: BSD-3-Clause */
/* Making a machine, its parts, and what it boots. Running it is in run.c, its state in state.c. */
#include "base/util.h"
#include "machine/internal.h"

#include <libvmm/pci.h>
#include <libvmm/virtio.h>

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static const struct vmm_board *board_by_name(const char *name)
{
    for (size_t i = 0; vmm_arch_boards[i]; i++)
        if (strcmp(vmm_arch_boards[i]->name, name) == 0)
            return vmm_arch_boards[i];
    return NULL;
}

/* The widest guest-physical addresses that x86 and arm64 have are of 52 bits. */
#define MEMORY_LIMIT (UINT64_C(1) << 51)

/* Checks that need no host, and the defaults. */
static int take_options(struct vmm_machine *m, const struct vmm_machine_options *given,
                        struct vmm_error *err)
{
    struct vmm_machine_options *o = &m->options;
    int rc = vmm_options_copy(o, sizeof(*o), given);
    if (rc)
        return vmm_error_set(err, rc, "machine options: a structure of another version");
    o->cpus = o->cpus ? o->cpus : 1;
    o->memory_size = o->memory_size ? o->memory_size : (uint64_t)256 << 20;
    m->board = board_by_name(o->board ? o->board : "micro");
    if (!m->board)
        return vmm_error_set(err, -EINVAL, "there is no board \"%s\" in this build", o->board);
    if (o->cpus > VMM_MACHINE_CPUS_MAX)
        return vmm_error_set(err, -EINVAL, "%u processors are more than the %u a machine can have",
                             o->cpus, VMM_MACHINE_CPUS_MAX);
    if (o->memory_size % 4096 || o->memory_size < (uint64_t)1 << 20)
        return vmm_error_set(
            err, -EINVAL, "memory of %llu bytes: it must be at least 1 MiB and a multiple of 4096",
            (unsigned long long)o->memory_size);
    if (o->memory_size > MEMORY_LIMIT || o->memory_max > MEMORY_LIMIT)
        return vmm_error_set(err, -EINVAL, "more memory than any processor can address");
    if (o->memory_max && (o->memory_max < o->memory_size ||
                          (o->memory_max - o->memory_size) % VMM_MACHINE_PLUG_UNIT))
        return vmm_error_set(err, -EINVAL,
                             "memory_max: at least memory_size, and more by a multiple of %u MiB",
                             (unsigned)(VMM_MACHINE_PLUG_UNIT >> 20));
    if (o->on_reset > VMM_ON_RESET_END || o->assist > VMM_ASSIST_ON ||
        o->pci > VMM_MACHINE_PCI_TRANSITIONAL)
        return vmm_error_set(err, -EINVAL, "machine options: on_reset, assist or pci out of range");
    m->cpu = o->cpu ? strdup(o->cpu) : NULL;
    if (o->cpu && !m->cpu)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    o->cpu = m->cpu;
    for (int i = 0; i < VMM_SERIAL_PORTS; i++)
        if (o->serial[i])
            vmm_chardev_ref(o->serial[i]);
    if (o->debug_console)
        vmm_chardev_ref(o->debug_console);
    return 0;
}

static int check_host(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    int rc = vmm_host_get_info(m->host, &info);
    if (!rc && m->options.cpus > info.vcpus_max)
        rc = vmm_error_set(err, -EINVAL, "%u processors are more than the host's limit of %u",
                           m->options.cpus, info.vcpus_max);
    return rc;
}

static int make_vm(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    o.kick_signal = m->options.kick_signal;
    o.log = m->options.log;
    o.guest_error = m->options.guest_error;
    o.guest_error_ctx = m->options.guest_error_ctx;
    m->board->vm_options(&o);
    return vmm_vm_new(m->host, &o, &m->vm, err);
}

static int make_loop(struct vmm_machine *m, struct vmm_error *err)
{
    int rc = 0;
    if (m->options.loop)
        m->loop = vmm_loop_ref(m->options.loop);
    else
        rc = vmm_loop_new(NULL, &m->loop);
    if (!rc)
        rc = vmm_timer_new(m->loop, vmm_machine_finish, m, &m->end_timer);
    return rc ? vmm_error_set(err, rc, "event loop: %s", strerror(-rc)) : 0;
}

/* Where KVM shadows, its pool of shadow pages follows the machine's memory. */
static int size_mmu_pool(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_mmu_options o = VMM_MMU_OPTIONS_INIT;
    o.ram_bytes = m->options.memory_size;
    m->mmu = (struct vmm_mmu_info)VMM_MMU_INFO_INIT;
    return vmm_mmu_setup(m->vm, &o, &m->mmu, err);
}

static int build(struct vmm_machine *m, struct vmm_error *err)
{
    int rc = check_host(m, err);
    if (!rc)
        rc = make_loop(m, err);
    if (!rc)
        rc = make_vm(m, err);
    if (!rc)
        rc = size_mmu_pool(m, err);
    if (!rc)
        rc = vmm_memory_new(m->vm, &m->memory, err);
    if (!rc)
        rc = vmm_bus_new("memory", 64, &m->mmio);
    if (!rc)
        rc = m->board->add_devices(m, err);
    return rc;
}

int vmm_machine_new(struct vmm_host *host, const struct vmm_machine_options *options,
                    struct vmm_machine **out, struct vmm_error *err)
{
    struct vmm_machine *m = calloc(1, sizeof(*m));
    if (!m)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    atomic_init(&m->refs, 1);
    pthread_mutex_init(&m->lock, NULL);
    m->kernel_fd = m->initrd_fd = -1;
    m->kernel = (struct vmm_kernel_options)VMM_KERNEL_OPTIONS_INIT;
    m->outcome = (struct vmm_outcome)VMM_OUTCOME_INIT;
    m->host = vmm_host_ref(host);
    int rc = take_options(m, options, err);
    if (rc) {
        memset(m->options.serial, 0, sizeof(m->options.serial));
        m->options.debug_console = NULL;
    } else {
        rc = build(m, err);
    }
    if (rc) {
        vmm_machine_unref(m);
        return rc;
    }
    *out = m;
    return 0;
}

struct vmm_machine *vmm_machine_ref(struct vmm_machine *m)
{
    atomic_fetch_add(&m->refs, 1);
    return m;
}

static void free_kernel(struct vmm_machine *m)
{
    if (m->kernel_fd >= 0)
        close(m->kernel_fd);
    if (m->initrd_fd >= 0)
        close(m->initrd_fd);
    free(m->command_line);
    m->kernel_fd = m->initrd_fd = -1;
    m->command_line = NULL;
    m->kernel = (struct vmm_kernel_options)VMM_KERNEL_OPTIONS_INIT;
}

struct vmm_machine *vmm_machine_unref(struct vmm_machine *m)
{
    if (!m || atomic_fetch_sub(&m->refs, 1) != 1)
        return NULL;
    if (m->phase == MACHINE_RUNNING)
        vmm_machine_stop(m);
    (void)vmm_machine_pause_iothreads(m, NULL); /* what frees devices stands in for them */
    vmm_timer_free(m->end_timer);
    vmm_machine_free_memplug(m);
    /* The processors go before what their I/O reaches, the buses before the devices on them. */
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vmm_vcpu_unref(m->vcpus[i]);
    free(m->vcpus);
    vmm_pci_host_unref(m->pci);
    vmm_bus_unref(m->ports);
    vmm_bus_unref(m->mmio);
    if (m->board_data)
        m->board->destroy(m);
    for (size_t i = 0; i < m->device_count; i++)
        vmm_device_unref(m->devices[i]);
    free(m->devices);
    vmm_machine_free_iothreads(m);
    for (int i = 0; i < VMM_SERIAL_PORTS; i++)
        vmm_chardev_unref(m->options.serial[i]);
    vmm_chardev_unref(m->options.debug_console);
    vmm_memory_unref(m->memory);
    vmm_vm_unref(m->vm);
    vmm_loop_unref(m->loop);
    vmm_host_unref(m->host);
    free_kernel(m);
    free(m->power_on);
    free(m->cpu);
    pthread_mutex_destroy(&m->lock);
    free(m);
    return NULL;
}

/* The parts ------------------------------------------------------------------------------------ */

struct vmm_vm *vmm_machine_vm(const struct vmm_machine *m)
{
    return m->vm;
}

struct vmm_memory *vmm_machine_memory(const struct vmm_machine *m)
{
    return m->memory;
}

struct vmm_bus *vmm_machine_mmio(const struct vmm_machine *m)
{
    return m->mmio;
}

struct vmm_bus *vmm_machine_ports(const struct vmm_machine *m)
{
    return m->ports;
}

struct vmm_pci_host *vmm_machine_pci(const struct vmm_machine *m)
{
    return m->pci;
}

struct vmm_loop *vmm_machine_loop(const struct vmm_machine *m)
{
    return m->loop;
}

uint32_t vmm_machine_cpus(const struct vmm_machine *m)
{
    return m->options.cpus;
}

struct vmm_vcpu *vmm_machine_vcpu(const struct vmm_machine *m, uint32_t index)
{
    return index < m->vcpu_count ? m->vcpus[index] : NULL;
}

int vmm_machine_get_mmu(const struct vmm_machine *m, struct vmm_mmu_info *info)
{
    return vmm_info_copy(info, &m->mmu, sizeof(m->mmu));
}

const char *const *vmm_machine_boards(void)
{
    return vmm_arch_board_names;
}

static bool name_taken(const struct vmm_machine *m, const char *name)
{
    for (size_t i = 0; i < m->device_count; i++)
        if (strcmp(vmm_device_name(m->devices[i]), name) == 0)
            return true;
    return false;
}

int vmm_machine_add_device(struct vmm_machine *m, struct vmm_device *device)
{
    if (name_taken(m, vmm_device_name(device)))
        return -EEXIST;
    struct vmm_device **devices = realloc(m->devices, (m->device_count + 1) * sizeof(*devices));
    if (!devices)
        return -ENOMEM;
    m->devices = devices;
    m->devices[m->device_count++] = vmm_device_ref(device);
    return 0;
}

int vmm_machine_remove_device(struct vmm_machine *m, struct vmm_device *device)
{
    for (size_t i = 0; i < m->device_count; i++) {
        if (m->devices[i] != device)
            continue;
        m->device_count--;
        memmove(&m->devices[i], &m->devices[i + 1],
                (m->device_count - i) * sizeof(struct vmm_device *));
        vmm_device_unref(device);
        return 0;
    }
    return -ENOENT;
}

int vmm_machine_add_virtio(struct vmm_machine *m, struct vmm_virtio *virtio, struct vmm_error *err)
{
    struct vmm_device *device = vmm_virtio_device(virtio);
    if (m->phase != MACHINE_NEW)
        return vmm_error_set(err, -EBUSY, "devices are added before the machine is realized");
    if (!m->board->add_virtio)
        return vmm_error_set(err, -ENOTSUP, "the board \"%s\" takes no virtio devices",
                             m->board->name);
    if (name_taken(m, vmm_device_name(device)))
        return vmm_error_set(err, -EEXIST, "there is a device \"%s\" already",
                             vmm_device_name(device));
    int rc = m->board->add_virtio(m, virtio, err);
    if (rc)
        return rc;
    rc = vmm_machine_add_device(m, device);
    return rc ? vmm_error_set(err, rc, "out of memory") : 0;
}

int vmm_machine_power_button(struct vmm_machine *m)
{
    return m->board->power_button ? m->board->power_button(m) : -ENODEV;
}

/* What it boots -------------------------------------------------------------------------------- */

/* A descriptor of our own for a file given by path or descriptor; a buffer stays the caller's. */
static int open_file(struct vmm_file *file, const char *what, int *fd, struct vmm_error *err)
{
    *fd = -1;
    if (file->path)
        *fd = open(file->path, O_RDONLY | O_CLOEXEC);
    else if (file->fd >= 0 && !file->data)
        *fd = fcntl(file->fd, F_DUPFD_CLOEXEC, 0);
    else
        return 0;
    if (*fd < 0)
        return vmm_error_set(err, -errno, "%s %s: %s", what, file->path ? file->path : "descriptor",
                             strerror(errno));
    file->path = NULL;
    file->fd = *fd;
    return 0;
}

int vmm_machine_set_kernel(struct vmm_machine *m, const struct vmm_kernel_options *given,
                           struct vmm_error *err)
{
    if (m->phase != MACHINE_NEW)
        return vmm_error_set(err, -EBUSY, "the kernel is chosen before the machine is realized");
    free_kernel(m);
    int rc = vmm_options_copy(&m->kernel, sizeof(m->kernel), given);
    if (rc)
        return vmm_error_set(err, rc, "kernel options: a structure of another version");
    m->command_line = strdup(m->kernel.command_line ? m->kernel.command_line : "");
    if (!m->command_line)
        rc = vmm_error_set(err, -ENOMEM, "out of memory");
    m->kernel.command_line = m->command_line;
    if (!rc)
        rc = open_file(&m->kernel.kernel, "kernel", &m->kernel_fd, err);
    if (!rc)
        rc = open_file(&m->kernel.initrd, "initrd", &m->initrd_fd, err);
    if (rc)
        free_kernel(m);
    return rc;
}

int vmm_machine_set_smbios(struct vmm_machine *m, const struct vmm_smbios_options *options,
                           struct vmm_error *err)
{
    if (m->phase != MACHINE_NEW)
        return vmm_error_set(err, -EBUSY, "SMBIOS is set before the machine is realized");
    if (!m->board->set_smbios)
        return vmm_error_set(err, -ENOTSUP, "the board \"%s\" has no SMBIOS", m->board->name);
    return m->board->set_smbios(m, options, err);
}

/* Realize -------------------------------------------------------------------------------------- */

static int make_vcpus(struct vmm_machine *m, struct vmm_error *err)
{
    m->vcpus = calloc(m->options.cpus, sizeof(*m->vcpus));
    if (!m->vcpus)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    int rc = 0;
    for (uint32_t i = 0; i < m->options.cpus && !rc; i++) {
        rc = vmm_vcpu_new(m->vm, m->memory, i, &m->vcpus[i], err);
        if (rc)
            break;
        m->vcpu_count++;
        rc = vmm_bus_attach_vcpu(m->vcpus[i], m->ports, m->mmio);
        if (rc)
            return vmm_error_set(err, rc, "vCPU %u: %s", i, strerror(-rc));
        rc = m->board->set_up_vcpu(m, m->vcpus[i], err);
    }
    return rc;
}

int vmm_machine_realize(struct vmm_machine *m, struct vmm_error *err)
{
    if (m->phase != MACHINE_NEW)
        return vmm_error_set(err, -EALREADY, "the machine has been realized");
    int rc = make_vcpus(m, err);
    if (!rc)
        rc = vmm_machine_keep_power_on(m, err);
    if (!rc)
        rc = m->board->load(m, err);
    if (!rc) {
        m->phase = MACHINE_REALIZED;
        return 0;
    }
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vmm_vcpu_unref(m->vcpus[i]);
    free(m->vcpus);
    m->vcpus = NULL;
    m->vcpu_count = 0;
    return rc;
}
