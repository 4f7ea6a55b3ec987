/* SPDX-License-Identifier: BSD-3-Clause */
/* Linux's ELF vmlinux, entered as by the 64-bit boot protocol: rsi holds the zero page. */
#include "base/util.h"
#include "loader/x86/boot.h"

int vmm_linux64_load(struct vmm_load *load, const struct vmm_elf *elf, struct vmm_linux *lx)
{
    if (!elf->is64 || elf->machine != VMM_ELF_MACHINE_X86_64)
        return vmm_error_set(load->err, -ENOTSUP,
                             "%s: ELF header: EI_CLASS and e_machine (%u) are not of x86-64; a "
                             "32-bit kernel is entered by bzimage32, pvh or multiboot",
                             load->kernel.name, elf->machine);
    uint64_t entry, zero_page;
    int rc = vmm_elf_physical_entry(elf, &entry, load->err);
    if (!rc && elf->last > VMM_X86_4G_END)
        rc = vmm_error_set(load->err, -ENOEXEC, "%s: ELF: p_paddr + p_memsz reach above 4 GiB",
                           load->kernel.name);
    if (!rc)
        rc = vmm_elf_claim(elf, &load->layout, 0, load->err);
    if (!rc)
        rc = vmm_elf_load(elf, load->memory, 0, load->err);
    if (rc)
        return rc;
    struct vmm_linux standard;
    if (!lx) {
        vmm_linux_header_default(&standard);
        lx = &standard;
    }
    rc = vmm_linux_parameters(load, lx, &zero_page);
    struct vmm_x86_boot boot;
    if (!rc)
        rc = vmm_x86_enter_long(load, &boot, entry, false);
    if (rc)
        return rc;
    boot.regs.rsi = zero_page;
    load->state.kernel_address = elf->low;
    load->state.kernel_length = elf->last - elf->low + 1;
    vmm_x86_boot_put(load, &boot);
    return 0;
}
