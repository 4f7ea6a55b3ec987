/* SPDX-License-Identifier: BSD-3-Clause */
/* The GIC in KVM: making it (Documentation/virt/kvm/devices/arm-vgic-v3.rst, arm-vgic.rst, arm-vgic-its.rst). */
#include "vm/arm64/gic.h"
#include "base/util.h"
#include "vm/arch.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

#include <stdlib.h>
#include <unistd.h>

static int control(int fd, unsigned long request, uint32_t group, uint64_t attribute,
                   const void *value)
{
    struct kvm_device_attr attr = {
        .group = group, .attr = attribute, .addr = (uint64_t)(uintptr_t)value};
    return vmm_kvm_ioctl_ptr(fd, request, &attr);
}

int vmm_gic_get(int fd, uint32_t group, uint64_t attribute, void *value)
{
    return control(fd, KVM_GET_DEVICE_ATTR, group, attribute, value);
}

int vmm_gic_set(int fd, uint32_t group, uint64_t attribute, const void *value)
{
    return control(fd, KVM_SET_DEVICE_ATTR, group, attribute, value);
}

/* KVM spreads a vCPU's id over the affinity fields (arch/arm64/kvm/sys_regs.c: reset_mpidr). */
uint64_t vmm_gic_affinity(uint32_t vcpu)
{
    return (vcpu & 0xf) | (uint64_t)(vcpu >> 4 & 0xff) << 8 | (uint64_t)(vcpu >> 12 & 0xff) << 16;
}

static int create(struct vmm_vm *vm, uint32_t type)
{
    struct kvm_create_device device = {.type = type};
    int rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_CREATE_DEVICE, &device);
    return rc < 0 ? rc : (int)device.fd;
}

static int set_address(int fd, uint64_t type, uint64_t address)
{
    return vmm_gic_set(fd, KVM_DEV_ARM_VGIC_GRP_ADDR, type, &address);
}

static int place(const struct vmm_gic *gic)
{
    const struct vmm_arm64_gic_options *o = &gic->options;
    uint32_t interrupts = 32 + VMM_ARM64_GIC_SPIS;
    int rc = vmm_gic_set(gic->fd, KVM_DEV_ARM_VGIC_GRP_NR_IRQS, 0, &interrupts);
    if (!rc && o->version == 3) {
        rc = set_address(gic->fd, KVM_VGIC_V3_ADDR_TYPE_DIST, o->distributor);
        if (!rc)
            rc = set_address(gic->fd, KVM_VGIC_V3_ADDR_TYPE_REDIST, o->redistributor);
    } else if (!rc) {
        rc = set_address(gic->fd, KVM_VGIC_V2_ADDR_TYPE_DIST, o->distributor);
        if (!rc)
            rc = set_address(gic->fd, KVM_VGIC_V2_ADDR_TYPE_CPU, o->cpu_interface);
    }
    return rc;
}

static int make_its(struct vmm_vm *vm, struct vmm_gic *gic)
{
    gic->its_fd = create(vm, KVM_DEV_TYPE_ARM_VGIC_ITS);
    if (gic->its_fd < 0)
        return gic->its_fd;
    vm->routes.requesters = true;
    return set_address(gic->its_fd, KVM_VGIC_ITS_ADDR_TYPE, gic->options.its);
}

/* The version that was asked for, or the best. */
static int make(struct vmm_vm *vm, struct vmm_gic *gic)
{
    uint32_t wanted = gic->options.version;
    gic->fd = wanted == 2 ? -ENODEV : create(vm, KVM_DEV_TYPE_ARM_VGIC_V3);
    gic->options.version = 3;
    if (gic->fd < 0 && wanted != 3) {
        gic->fd = create(vm, KVM_DEV_TYPE_ARM_VGIC_V2);
        gic->options.version = 2;
    }
    if (gic->fd < 0)
        return gic->fd;
    int rc = place(gic);
    if (!rc && gic->options.version == 3 && gic->options.its)
        rc = make_its(vm, gic);
    return rc;
}

int vmm_arm64_gic_new(struct vmm_vm *vm, const struct vmm_arm64_gic_options *options,
                      struct vmm_error *err)
{
    if (vm->options.irqchip != VMM_IRQCHIP_KERNEL)
        return vmm_error_set(err, -EINVAL, "GIC: the VM was made without interrupt controllers");
    if (vm->arch)
        return vmm_error_set(err, -EEXIST, "GIC: the VM has one");
    struct vmm_gic *gic = calloc(1, sizeof(*gic));
    if (!gic)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    gic->fd = gic->its_fd = -1;
    int rc = vmm_options_copy(&gic->options, sizeof(gic->options), options);
    if (rc ||
        (gic->options.version != 0 && gic->options.version != 2 && gic->options.version != 3)) {
        free(gic);
        return vmm_error_set(err, -EINVAL,
                             "GIC options: a structure of another version, or no such GIC");
    }
    rc = make(vm, gic);
    vm->arch = gic; /* the VM frees it, failed or not */
    return rc ? vmm_error_set(err, rc, "GIC: KVM refused it: %s", strerror(-rc)) : 0;
}

int vmm_arm64_gic_init(struct vmm_vm *vm, uint32_t cpus, struct vmm_error *err)
{
    struct vmm_gic *gic = vm->arch;
    if (!gic || cpus == 0)
        return vmm_error_set(err, -EINVAL, "GIC: there is none, or there are no processors");
    int rc = vmm_gic_set(gic->fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
    if (!rc && gic->its_fd >= 0)
        rc = vmm_gic_set(gic->its_fd, KVM_DEV_ARM_VGIC_GRP_CTRL, KVM_DEV_ARM_VGIC_CTRL_INIT, NULL);
    if (rc)
        return vmm_error_set(err, rc, "GIC: it could not be initialized: %s", strerror(-rc));
    gic->cpus = cpus;
    return 0;
}

uint32_t vmm_arm64_gic_version(const struct vmm_vm *vm)
{
    const struct vmm_gic *gic = vm->arch;
    return gic ? gic->options.version : 0;
}
