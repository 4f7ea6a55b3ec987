/* SPDX-License-Identifier: BSD-3-Clause */
/* arm64: what the host is, and the pins that the GSIs reach. The GIC itself is in gic.c. */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/arm64/gic.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

#include <stdlib.h>
#include <unistd.h>

/* Stage 2 is always the hardware's. */
void vmm_arch_host_info(struct vmm_host_info *info)
{
    info->flavour = VMM_FLAVOUR_ARM;
    info->paging = VMM_PAGING_NESTED;
}

/* The GIC needs addresses, which the board has: vmm_arm64_gic_new(). */
int vmm_arch_vm_set_up(int fd, const struct vmm_vm_options *options, struct vmm_error *err)
{
    (void)fd;
    if (options->irqchip == VMM_IRQCHIP_SPLIT)
        return vmm_error_set(err, -ENOTSUP, "VM options: arm64 has no split interrupt controller");
    if (options->pit)
        return vmm_error_set(err, -ENOTSUP, "VM options: arm64 has no PIT");
    return 0;
}

void vmm_arch_vm_fini(struct vmm_vm *vm)
{
    struct vmm_gic *gic = vm->arch;
    if (!gic)
        return;
    if (gic->its_fd >= 0)
        close(gic->its_fd);
    if (gic->fd >= 0)
        close(gic->fd);
    free(gic);
}

uint32_t vmm_arch_pin_gsis(uint32_t irqchip, uint32_t split_pins)
{
    (void)irqchip;
    (void)split_pins;
    return VMM_ARM64_GIC_SPIS;
}

/* As KVM has it when the GIC is initialized (kvm_vgic_setup_default_irq_routing): GSI n is SPI n. */
int vmm_arch_default_routes(struct vmm_vm *vm)
{
    int rc = 0;
    for (uint32_t gsi = 0; gsi < VMM_ARM64_GIC_SPIS && !rc; gsi++)
        rc = vmm_vm_route_pin(vm, gsi, 0, gsi);
    return rc;
}

/* KVM_IRQ_LINE takes no GSI here but a type and an interrupt number (KVM API, 4.25). */
uint32_t vmm_arch_irq_number(uint32_t gsi)
{
    return KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (32 + gsi);
}

int vmm_arch_vm_save(struct vmm_vm *vm, struct vmm_state_writer *w)
{
    const struct vmm_gic *gic = vm->arch;
    return gic ? vmm_gic_save(gic, w) : 0;
}

int vmm_arch_vm_load(struct vmm_vm *vm, struct vmm_state_reader *r, struct vmm_error *err)
{
    const struct vmm_gic *gic = vm->arch;
    return gic ? vmm_gic_load(gic, r, err) : 0;
}
