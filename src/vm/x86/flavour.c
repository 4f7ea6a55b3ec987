/* SPDX-License-Identifier: BSD-3-Clause */
/* Which vendor module drives /dev/kvm, and whether it uses nested paging. */
#include "base/util.h"
#include "vm/arch.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Which vendor module is there. A module that is built in has its folder too. */
static const struct flavour {
    const char *module;
    uint32_t flavour;
    const char *nested_paging; /* the parameter that says whether it is used, Y or N */
} flavours[] = {
    {"kvm_intel", VMM_FLAVOUR_VMX, "ept"},
    {"kvm_amd", VMM_FLAVOUR_SVM, "npt"},
    {"kvm_pvm", VMM_FLAVOUR_PVM, NULL},
};

/* The first character of a module's parameter; 0: it has none. */
static char module_parameter(const char *module, const char *parameter)
{
    char path[128], value = 0;
    (void)snprintf(path, sizeof(path), "/sys/module/%s/parameters/%s", module, parameter);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    if (read(fd, &value, 1) != 1)
        value = 0;
    close(fd);
    return value;
}

static bool module_present(const char *module)
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/sys/module/%s", module);
    return access(path, F_OK) == 0;
}

void vmm_arch_host_info(struct vmm_host_info *info)
{
    /* Both vendors' modules can be present; only one drives the processor, and it is the one whose
     * paging parameter can be read. With one present there is no doubt. */
    for (size_t i = 0; i < VMM_ARRAY_SIZE(flavours); i++) {
        const struct flavour *f = &flavours[i];
        if (!module_present(f->module))
            continue;
        info->flavour = f->flavour;
        (void)snprintf(info->module, sizeof(info->module), "%s", f->module);
        char nested = f->nested_paging ? module_parameter(f->module, f->nested_paging) : 'N';
        if (nested)
            info->paging = nested == 'Y' || nested == '1' ? VMM_PAGING_NESTED : VMM_PAGING_SHADOW;
        return;
    }
}
