/* SPDX-License-Identifier: BSD-3-Clause */
/* The VM object: KVM's VM descriptor, what the guest did wrong, the clock. */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int check_options(const struct vmm_vm_options *o, struct vmm_error *err)
{
    if (o->irqchip > VMM_IRQCHIP_SPLIT)
        return vmm_error_set(err, -EINVAL, "VM options: irqchip %u is none of VMM_IRQCHIP_…",
                             o->irqchip);
    if (o->pit && o->irqchip != VMM_IRQCHIP_KERNEL)
        return vmm_error_set(err, -EINVAL,
                             "VM options: the PIT in KVM needs the interrupt controllers in KVM");
    if (o->split_pins && o->irqchip != VMM_IRQCHIP_SPLIT)
        return vmm_error_set(err, -EINVAL, "VM options: split_pins without VMM_IRQCHIP_SPLIT");
    if (o->kick_signal > 64)
        return vmm_error_set(err, -EINVAL, "VM options: %u is not a signal", o->kick_signal);
    return 0;
}

static int create(struct vmm_vm *vm, struct vmm_error *err)
{
    int rc = check_options(&vm->options, err);
    if (rc)
        return rc;
    vm->fd = vmm_kvm_ioctl(vmm_host_fd(vm->host), KVM_CREATE_VM, vm->options.type);
    if (vm->fd < 0)
        return vmm_error_set(err, vm->fd, "KVM_CREATE_VM: %s", strerror(-vm->fd));
    rc = vmm_arch_vm_set_up(vm->fd, &vm->options, err);
    return rc ? rc : vmm_irq_init(vm, err);
}

int vmm_vm_new(struct vmm_host *host, const struct vmm_vm_options *options, struct vmm_vm **out,
               struct vmm_error *err)
{
    static const struct vmm_vm_options defaults = VMM_VM_OPTIONS_INIT;
    struct vmm_vm *vm = calloc(1, sizeof(*vm));
    if (!vm)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    atomic_init(&vm->refs, 1);
    vm->fd = -1;
    vm->host = vmm_host_ref(host);
    pthread_mutex_init(&vm->irq_lock, NULL);
    pthread_mutex_init(&vm->coalesce_lock, NULL);
    int rc = vmm_options_copy(&vm->options, sizeof(vm->options), options ? options : &defaults);
    if (rc)
        (void)vmm_error_set(err, rc, "VM options: a structure of another version");
    else
        rc = create(vm, err);
    if (rc) {
        vmm_vm_unref(vm);
        return rc;
    }
    *out = vm;
    return 0;
}

struct vmm_vm *vmm_vm_ref(struct vmm_vm *vm)
{
    atomic_fetch_add_explicit(&vm->refs, 1, memory_order_relaxed);
    return vm;
}

struct vmm_vm *vmm_vm_unref(struct vmm_vm *vm)
{
    if (!vm || atomic_fetch_sub_explicit(&vm->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    vmm_irq_fini(vm);
    vmm_arch_vm_fini(vm);
    if (vm->fd >= 0)
        close(vm->fd);
    pthread_mutex_destroy(&vm->coalesce_lock);
    pthread_mutex_destroy(&vm->irq_lock);
    vmm_host_unref(vm->host);
    free(vm);
    return NULL;
}

struct vmm_host *vmm_vm_host(const struct vmm_vm *vm)
{
    return vm->host;
}

int vmm_vm_fd(const struct vmm_vm *vm)
{
    return vm->fd;
}

uint32_t vmm_vm_irqchip(const struct vmm_vm *vm)
{
    return vm->options.irqchip;
}

uint32_t vmm_vm_kick_signal(const struct vmm_vm *vm)
{
    return vm->options.kick_signal;
}

const struct vmm_log *vmm_vm_log(const struct vmm_vm *vm)
{
    return &vm->options.log;
}

int vmm_vm_capability(const struct vmm_vm *vm, uint32_t number)
{
    int value = vmm_kvm_ioctl(vm->fd, KVM_CHECK_EXTENSION, number);
    return value > 0 ? value : 0;
}

int vmm_vm_enable_capability(struct vmm_vm *vm, uint32_t number, const uint64_t *args, size_t count)
{
    struct kvm_enable_cap cap = {.cap = number};
    if (count > VMM_ARRAY_SIZE(cap.args) || (count && !args))
        return -EINVAL;
    for (size_t i = 0; i < count; i++)
        cap.args[i] = args[i];
    return vmm_kvm_ioctl_ptr(vm->fd, KVM_ENABLE_CAP, &cap);
}

void vmm_vm_guest_error(struct vmm_vm *vm, const char *device, const char *format, ...)
{
    atomic_fetch_add_explicit(&vm->guest_errors, 1, memory_order_relaxed);
    if (!vm->options.guest_error)
        return;
    char text[256];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    vm->options.guest_error(vm->options.guest_error_ctx, device, text);
}

uint64_t vmm_vm_guest_error_count(const struct vmm_vm *vm)
{
    return atomic_load_explicit(&vm->guest_errors, memory_order_relaxed);
}

/* Clock ---------------------------------------------------------------------------------------- */

int vmm_vm_get_clock(struct vmm_vm *vm, struct vmm_clock *clock)
{
    struct kvm_clock_data data = {0};
    int rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_GET_CLOCK, &data);
    if (rc < 0)
        return rc;
    struct vmm_clock now = VMM_CLOCK_INIT;
    now.clock_ns = data.clock;
    now.realtime_ns = data.flags & KVM_CLOCK_REALTIME ? data.realtime : 0;
    now.host_tsc = data.flags & KVM_CLOCK_HOST_TSC ? data.host_tsc : 0;
    return vmm_info_copy(clock, &now, sizeof(now));
}

int vmm_vm_set_clock(struct vmm_vm *vm, const struct vmm_clock *given)
{
    struct vmm_clock clock;
    int rc = vmm_options_copy(&clock, sizeof(clock), given);
    if (rc)
        return rc;
    struct kvm_clock_data data = {.clock = clock.clock_ns};
    if (clock.realtime_ns && vmm_vm_capability(vm, KVM_CAP_ADJUST_CLOCK) & KVM_CLOCK_REALTIME) {
        data.flags = KVM_CLOCK_REALTIME;
        data.realtime = clock.realtime_ns;
    }
    return vmm_kvm_ioctl_ptr(vm->fd, KVM_SET_CLOCK, &data);
}

/* State ---------------------------------------------------------------------------------------- */

#define VM_STATE_VERSION 1u

int vmm_vm_save(struct vmm_vm *vm, struct vmm_state_writer *w)
{
    int rc = vmm_state_begin(w, "vm", VM_STATE_VERSION);
    if (!rc)
        rc = vmm_state_put_u32(w, "irqchip", vm->options.irqchip);
    if (!rc)
        rc = vmm_arch_vm_save(vm, w);
    int end = vmm_state_end(w);
    return rc ? rc : end;
}

int vmm_vm_load(struct vmm_vm *vm, struct vmm_state_reader *r, struct vmm_error *err)
{
    uint32_t version, irqchip;
    int rc = vmm_state_enter(r, "vm", VM_STATE_VERSION, &version, err);
    if (rc)
        return rc;
    rc = vmm_state_get_u32(r, "irqchip", VMM_IRQCHIP_SPLIT, &irqchip, err);
    if (!rc && irqchip != vm->options.irqchip)
        rc = vmm_error_set(err, -EINVAL, "vm/irqchip: saved with kind %u, this VM has %u", irqchip,
                           vm->options.irqchip);
    if (!rc)
        rc = vmm_arch_vm_load(vm, r, err);
    (void)vmm_state_leave(r);
    return rc;
}
