/* SPDX-License-Identifier: BSD-3-Clause */
/* x86: TSS and identity-map pages, PIC, I/O APIC, PIT, and the pins that the GSIs reach at first. */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

/* Out of the way of RAM, of the local and I/O APICs and of firmware at the top of 4 GiB. */
#define DEFAULT_IDENTITY_MAP UINT64_C(0xfffbc000)
#define DEFAULT_TSS          UINT64_C(0xfffbd000)
#define PAGE                 UINT64_C(4096)
#define PIC_PINS             8u
#define IOAPIC_PINS          24u

/* Real mode on old VT-x processors runs in a TSS and page table of KVM's own; other kinds of host
 * ignore them (KVM API, 4.36 and 4.41). The identity map must be set before the first vCPU. */
static int set_own_pages(int fd, const struct vmm_vm_options *o, struct vmm_error *err)
{
    uint64_t identity = o->identity_map_address ? o->identity_map_address : DEFAULT_IDENTITY_MAP;
    uint64_t tss = o->tss_address ? o->tss_address : DEFAULT_TSS;
    if (identity % PAGE || tss % PAGE || identity > UINT32_MAX ||
        tss + 3 * PAGE > UINT64_C(1) << 32)
        return vmm_error_set(err, -EINVAL,
                             "VM options: tss_address and identity_map_address are page addresses "
                             "below 4 GiB");
    if (vmm_kvm_ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_IDENTITY_MAP_ADDR) > 0) {
        int rc = vmm_kvm_ioctl_ptr(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity);
        if (rc < 0)
            return vmm_error_set(err, rc, "KVM_SET_IDENTITY_MAP_ADDR: %s", strerror(-rc));
    }
    if (vmm_kvm_ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_SET_TSS_ADDR) > 0) {
        int rc = vmm_kvm_ioctl(fd, KVM_SET_TSS_ADDR, (uintptr_t)tss);
        if (rc < 0)
            return vmm_error_set(err, rc, "KVM_SET_TSS_ADDR: %s", strerror(-rc));
    }
    return 0;
}

static int make_kernel_irqchip(int fd, bool pit, struct vmm_error *err)
{
    int rc = vmm_kvm_ioctl(fd, KVM_CREATE_IRQCHIP, 0);
    if (rc < 0)
        return vmm_error_set(err, rc, "KVM_CREATE_IRQCHIP: %s", strerror(-rc));
    if (!pit)
        return 0;
    /* The speaker's port answers in KVM too; nothing is heard. */
    struct kvm_pit_config config = {.flags = KVM_PIT_SPEAKER_DUMMY};
    rc = vmm_kvm_ioctl_ptr(fd, KVM_CREATE_PIT2, &config);
    return rc < 0 ? vmm_error_set(err, rc, "KVM_CREATE_PIT2: %s", strerror(-rc)) : 0;
}

static int make_split_irqchip(int fd, uint32_t pins, struct vmm_error *err)
{
    struct kvm_enable_cap cap = {.cap = KVM_CAP_SPLIT_IRQCHIP, .args = {pins ? pins : IOAPIC_PINS}};
    int rc = vmm_kvm_ioctl_ptr(fd, KVM_ENABLE_CAP, &cap);
    if (rc < 0)
        return vmm_error_set(err, rc, "KVM_CAP_SPLIT_IRQCHIP: %s", strerror(-rc));
    return 0;
}

int vmm_arch_vm_set_up(int fd, const struct vmm_vm_options *options, struct vmm_error *err)
{
    int rc = set_own_pages(fd, options, err);
    if (!rc && options->irqchip == VMM_IRQCHIP_KERNEL)
        rc = make_kernel_irqchip(fd, options->pit != 0, err);
    if (!rc && options->irqchip == VMM_IRQCHIP_SPLIT)
        rc = make_split_irqchip(fd, options->split_pins, err);
    return rc;
}

uint32_t vmm_arch_pin_gsis(uint32_t irqchip, uint32_t split_pins)
{
    return irqchip == VMM_IRQCHIP_SPLIT && split_pins ? split_pins : IOAPIC_PINS;
}

void vmm_arch_vm_fini(struct vmm_vm *vm)
{
    (void)vm; /* nothing is kept there */
}

uint32_t vmm_arch_irq_number(uint32_t gsi)
{
    return gsi;
}

/* KVM's own table (arch/x86/kvm: default_routing): GSI n is pin n of the I/O APIC, and below 16 of
 * the PICs too; only GSI 0, the PIT, reaches I/O APIC pin 2 by an override of the MADT's. */
int vmm_arch_default_routes(struct vmm_vm *vm)
{
    if (vm->options.irqchip != VMM_IRQCHIP_KERNEL)
        return 0;
    int rc = 0;
    for (uint32_t gsi = 0; gsi < IOAPIC_PINS && !rc; gsi++) {
        rc = vmm_vm_route_pin(vm, gsi, KVM_IRQCHIP_IOAPIC, gsi);
        if (!rc && gsi < 2 * PIC_PINS)
            rc = vmm_vm_route_pin(vm, gsi,
                                  gsi < PIC_PINS ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE,
                                  gsi % PIC_PINS);
    }
    return rc;
}
