/* SPDX-License-Identifier: BSD-3-Clause */
/* Interrupt lines, messages, irqfds and ioeventfds. The routing table is in routes.c. */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

#include <stdlib.h>

/* A GSI number above this is not accepted, whatever the host says. */
#define GSI_LIMIT 4096u

int vmm_irq_init(struct vmm_vm *vm, struct vmm_error *err)
{
    if (vm->options.irqchip == VMM_IRQCHIP_NONE)
        return 0;
    int gsis = vmm_vm_capability(vm, KVM_CAP_IRQ_ROUTING);
    vm->routes.gsi_count = gsis < 24 ? 24 : (uint32_t)gsis > GSI_LIMIT ? GSI_LIMIT : (uint32_t)gsis;
    vm->line_levels = calloc(vm->routes.gsi_count, sizeof(*vm->line_levels));
    vm->routes.used = calloc((vm->routes.gsi_count + 63) / 64, sizeof(*vm->routes.used));
    int rc = vm->line_levels && vm->routes.used ? vmm_arch_default_routes(vm) : -ENOMEM;
    vm->routes.changed = false; /* KVM has these by itself */
    return rc ? vmm_error_set(err, rc, "interrupt routes: %s", strerror(-rc)) : 0;
}

void vmm_irq_fini(struct vmm_vm *vm)
{
    free(vm->line_levels);
    free(vm->routes.used);
    free(vm->routes.entries);
}

/* Lines ---------------------------------------------------------------------------------------- */

struct vmm_irq_line {
    struct vmm_vm *vm; /* NULL: a line to a callback */
    uint32_t gsi;
    _Atomic uint32_t level;
    void (*set)(void *ctx, uint32_t level);
    void *ctx;
};

static int line_new(const struct vmm_irq_line *from, struct vmm_irq_line **out)
{
    struct vmm_irq_line *line = malloc(sizeof(*line));
    if (!line)
        return -ENOMEM;
    *line = *from;
    *out = line;
    return 0;
}

int vmm_irq_line_new(struct vmm_vm *vm, uint32_t gsi, struct vmm_irq_line **out)
{
    if (vm->options.irqchip == VMM_IRQCHIP_NONE)
        return -ENODEV;
    if (gsi >= vm->routes.gsi_count)
        return -EINVAL;
    struct vmm_irq_line line = {.vm = vm, .gsi = gsi};
    int rc = line_new(&line, out);
    if (!rc)
        vmm_vm_ref(vm);
    return rc;
}

int vmm_irq_line_new_callback(void (*set)(void *ctx, uint32_t level), void *ctx,
                              struct vmm_irq_line **out)
{
    if (!set)
        return -EINVAL;
    struct vmm_irq_line line = {.set = set, .ctx = ctx};
    return line_new(&line, out);
}

struct vmm_irq_line *vmm_irq_line_free(struct vmm_irq_line *line)
{
    if (line) {
        (void)vmm_irq_line_set(line, 0);
        vmm_vm_unref(line->vm);
        free(line);
    }
    return NULL;
}

static int set_gsi(struct vmm_vm *vm, uint32_t gsi, uint32_t level)
{
    struct kvm_irq_level request = {.irq = vmm_arch_irq_number(gsi), .level = level};
    return vmm_kvm_ioctl_ptr(vm->fd, KVM_IRQ_LINE, &request);
}

/* The GSI is high while any of its lines is: only the first rise and the last fall reach KVM. */
static int change_gsi(struct vmm_irq_line *line, uint32_t level)
{
    struct vmm_vm *vm = line->vm;
    int rc = 0;
    pthread_mutex_lock(&vm->irq_lock);
    uint16_t *count = &vm->line_levels[line->gsi];
    if (level && (*count)++ == 0)
        rc = set_gsi(vm, line->gsi, 1);
    else if (!level && --*count == 0)
        rc = set_gsi(vm, line->gsi, 0);
    pthread_mutex_unlock(&vm->irq_lock);
    return rc;
}

int vmm_irq_line_set(struct vmm_irq_line *line, uint32_t level)
{
    if (!line)
        return 0;
    level = level != 0;
    if (atomic_exchange(&line->level, level) == level)
        return 0;
    if (!line->vm) {
        line->set(line->ctx, level);
        return 0;
    }
    return change_gsi(line, level);
}

int vmm_irq_line_pulse(struct vmm_irq_line *line)
{
    int rc = vmm_irq_line_set(line, 1);
    int low = vmm_irq_line_set(line, 0);
    return rc ? rc : low;
}

uint32_t vmm_irq_line_level(const struct vmm_irq_line *line)
{
    return line ? atomic_load(&line->level) : 0;
}

/* Messages ------------------------------------------------------------------------------------- */

int vmm_vm_signal_msi(struct vmm_vm *vm, const struct vmm_msi *msi)
{
    struct kvm_msi request = {
        .address_lo = (uint32_t)msi->address,
        .address_hi = (uint32_t)(msi->address >> 32),
        .data = msi->data,
        .devid = msi->device_id,
        .flags = vm->routes.requesters ? KVM_MSI_VALID_DEVID : 0,
    };
    int rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_SIGNAL_MSI, &request);
    return rc > 0 ? 1 : rc;
}

/* Event descriptors ---------------------------------------------------------------------------- */

static int irqfd(struct vmm_vm *vm, int fd, uint32_t gsi, int resample_fd, uint32_t flags)
{
    if (fd < 0)
        return -EBADF;
    struct kvm_irqfd request = {.fd = (uint32_t)fd, .gsi = gsi, .flags = flags};
    if (resample_fd >= 0) {
        if (!vmm_vm_capability(vm, KVM_CAP_IRQFD_RESAMPLE))
            return -ENOTSUP;
        request.flags |= KVM_IRQFD_FLAG_RESAMPLE;
        request.resamplefd = (uint32_t)resample_fd;
    }
    return vmm_kvm_ioctl_ptr(vm->fd, KVM_IRQFD, &request);
}

int vmm_vm_irqfd_add(struct vmm_vm *vm, int fd, uint32_t gsi, int resample_fd)
{
    return irqfd(vm, fd, gsi, resample_fd, 0);
}

int vmm_vm_irqfd_remove(struct vmm_vm *vm, int fd, uint32_t gsi)
{
    return irqfd(vm, fd, gsi, -1, KVM_IRQFD_FLAG_DEASSIGN);
}

static int ioeventfd(struct vmm_vm *vm, const struct vmm_ioeventfd *given, uint32_t flags)
{
    struct vmm_ioeventfd event;
    int rc = vmm_options_copy(&event, sizeof(event), given);
    if (rc)
        return rc;
    bool width_ok = event.length == 1 || event.length == 2 || event.length == 4 ||
                    event.length == 8 || (event.length == 0 && event.space == VMM_SPACE_MMIO);
    if (event.space > VMM_SPACE_MMIO || !width_ok || (event.match && event.length == 0) ||
        (event.space == VMM_SPACE_PORT && (event.address > 0xffff || event.length > 4)))
        return -EINVAL;
    if (event.fd < 0)
        return -EBADF;
    struct kvm_ioeventfd request = {
        .datamatch = event.data,
        .addr = event.address,
        .len = event.length,
        .fd = event.fd,
        .flags = flags | (event.space == VMM_SPACE_PORT ? KVM_IOEVENTFD_FLAG_PIO : 0u) |
                 (event.match ? KVM_IOEVENTFD_FLAG_DATAMATCH : 0u),
    };
    return vmm_kvm_ioctl_ptr(vm->fd, KVM_IOEVENTFD, &request);
}

int vmm_vm_ioeventfd_add(struct vmm_vm *vm, const struct vmm_ioeventfd *event)
{
    return ioeventfd(vm, event, 0);
}

int vmm_vm_ioeventfd_remove(struct vmm_vm *vm, const struct vmm_ioeventfd *event)
{
    return ioeventfd(vm, event, KVM_IOEVENTFD_FLAG_DEASSIGN);
}
