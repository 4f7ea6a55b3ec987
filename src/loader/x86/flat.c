/* SPDX-License-Identifier: BSD-3-Clause */
/* Flat binaries: bytes that are loaded at an address and entered there. */
#include "base/util.h"
#include "loader/x86/boot.h"

#define FLAT_ADDRESS 0x1000u
#define FLAT_STACK   0x4000u

static int check_flat_options(struct vmm_load *load)
{
    const struct vmm_kernel_options *o = &load->options;
    if (o->unpack)
        return vmm_error_set(load->err, -EINVAL, "unpack: a flat binary is not packed");
    if (vmm_file_given(&o->initrd) || o->module_count || load->command_line[0] || o->device_tree)
        return vmm_error_set(load->err, -EINVAL,
                             "flat binaries take no initrd, modules, command line or device tree");
    return 0;
}

/* Real mode: the stack is in the code's own segment, at its end if there is room above the binary,
 * else it grows down from the binary's start. */
static void enter_real(struct vmm_load *load, struct vmm_x86_boot *boot)
{
    uint64_t start = load->state.kernel_address, length = load->state.kernel_length;
    vmm_x86_enter_real(boot, start);
    uint64_t base = boot->cs.base;
    bool above =
        start + length <= base + 0xe000 && vmm_layout_free(&load->layout, base + 0xe000, 0x2000);
    boot->regs.rsp = above ? 0xfff0 : boot->regs.rip & ~0xfull;
}

int vmm_flat_load(struct vmm_load *load)
{
    int rc = check_flat_options(load);
    if (rc)
        return rc;
    uint64_t at = load->options.load_address ? load->options.load_address : FLAT_ADDRESS;
    uint64_t length = load->kernel.length;
    uint64_t limit = load->options.format == VMM_KERNEL_FLAT16 ? 0x100000 : 1ull << 32;
    if (at >= limit)
        return vmm_error_set(load->err, -EINVAL, "load address: 0x%llx is beyond what %s reaches",
                             (unsigned long long)at, vmm_kernel_format_name(load->options.format));
    rc = vmm_layout_claim(&load->layout, at, length, load->err, "flat binary");
    if (!rc)
        rc = vmm_source_load(&load->kernel, 0, length, load->memory, at, "flat binary", load->err);
    if (rc)
        return rc;
    load->state.entry = load->state.kernel_address = at;
    load->state.kernel_length = length;
    struct vmm_x86_boot boot;
    if (load->options.format == VMM_KERNEL_FLAT16)
        enter_real(load, &boot);
    else if (load->options.format == VMM_KERNEL_FLAT32)
        rc = vmm_x86_enter_protected(load, &boot, at, true);
    else
        rc = vmm_x86_enter_long(load, &boot, at, true);
    if (!rc && load->options.format != VMM_KERNEL_FLAT16) {
        uint64_t stack;
        rc = vmm_x86_place(load, FLAT_STACK, 16, true, &stack, "stack");
        boot.regs.rsp = stack + FLAT_STACK;
    }
    if (!rc)
        vmm_x86_boot_put(load, &boot);
    return rc;
}
