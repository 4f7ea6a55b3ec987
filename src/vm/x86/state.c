/* SPDX-License-Identifier: BSD-3-Clause */
/* x86: PICs, I/O APIC, PIT and kvmclock, saved and loaded as KVM's own structures. */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/internal.h"
#include "vm/ioctl.h"

#include <libvmm/state.h>

/* In the order of loading: while the slave has a request, KVM latches it in the master anew at each
 * change, so the master comes after it. */
static const struct {
    uint32_t id;
    const char *name;
} chips[] = {
    {KVM_IRQCHIP_PIC_SLAVE, "pic-slave"},
    {KVM_IRQCHIP_PIC_MASTER, "pic-master"},
    {KVM_IRQCHIP_IOAPIC, "ioapic"},
};

static int save_chips(struct vmm_vm *vm, struct vmm_state_writer *w)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(chips); i++) {
        struct kvm_irqchip chip = {.chip_id = chips[i].id};
        int rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_GET_IRQCHIP, &chip);
        if (!rc)
            rc = vmm_state_put_bytes(w, chips[i].name, &chip.chip, sizeof(chip.chip));
        if (rc)
            return rc;
    }
    return 0;
}

int vmm_arch_vm_save(struct vmm_vm *vm, struct vmm_state_writer *w)
{
    struct vmm_clock clock = VMM_CLOCK_INIT;
    int rc = vm->options.irqchip == VMM_IRQCHIP_KERNEL ? save_chips(vm, w) : 0;
    if (!rc && vm->options.pit) {
        struct kvm_pit_state2 pit = {0};
        rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_GET_PIT2, &pit);
        if (!rc)
            rc = vmm_state_put_bytes(w, "pit", &pit, sizeof(pit));
    }
    if (!rc)
        rc = vmm_vm_get_clock(vm, &clock);
    return rc ? rc : vmm_state_put_u64(w, "clock-ns", clock.clock_ns);
}

/* All that the node holds, read and checked before anything is set. */
struct loaded {
    struct kvm_irqchip chips[VMM_ARRAY_SIZE(chips)];
    struct kvm_pit_state2 pit;
    struct vmm_clock clock;
};

static int read_all(struct vmm_vm *vm, struct vmm_state_reader *r, struct loaded *l,
                    struct vmm_error *err)
{
    int rc = 0;
    for (size_t i = 0;
         i < VMM_ARRAY_SIZE(chips) && vm->options.irqchip == VMM_IRQCHIP_KERNEL && !rc; i++) {
        l->chips[i].chip_id = chips[i].id;
        rc =
            vmm_state_get_bytes(r, chips[i].name, &l->chips[i].chip, sizeof(l->chips[i].chip), err);
    }
    if (!rc && vm->options.pit)
        rc = vmm_state_get_bytes(r, "pit", &l->pit, sizeof(l->pit), err);
    return rc ? rc : vmm_state_get_u64(r, "clock-ns", UINT64_MAX, &l->clock.clock_ns, err);
}

int vmm_arch_vm_load(struct vmm_vm *vm, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct loaded l = {.clock = VMM_CLOCK_INIT};
    int rc = read_all(vm, r, &l, err);
    for (size_t i = 0;
         i < VMM_ARRAY_SIZE(chips) && vm->options.irqchip == VMM_IRQCHIP_KERNEL && !rc; i++) {
        rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_SET_IRQCHIP, &l.chips[i]);
        if (rc)
            (void)vmm_error_set(err, rc, "vm/%s: KVM refused it: %s", chips[i].name, strerror(-rc));
    }
    if (!rc && vm->options.pit) {
        rc = vmm_kvm_ioctl_ptr(vm->fd, KVM_SET_PIT2, &l.pit);
        if (rc)
            (void)vmm_error_set(err, rc, "vm/pit: KVM refused it: %s", strerror(-rc));
    }
    if (!rc) {
        rc = vmm_vm_set_clock(vm, &l.clock);
        if (rc)
            (void)vmm_error_set(err, rc, "vm/clock-ns: KVM refused it: %s", strerror(-rc));
    }
    return rc;
}
