/* SPDX-License-Identifier: BSD-3-Clause */
#include "base/soft.h"

#include "base/util.h"

#include <dlfcn.h>

int vmm_soft_load(const char *file, const char *package, const struct vmm_soft_symbol *symbols,
                  size_t count, struct vmm_error *err)
{
    void *library = dlopen(file, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library)
        return vmm_error_set(err, -ENOTSUP, "%s cannot be loaded: install it (Debian: %s)", file,
                             package);
    int rc = 0;
    for (size_t i = 0; i < count && !rc; i++) {
        *symbols[i].slot = dlsym(library, symbols[i].name);
        if (!*symbols[i].slot)
            rc = vmm_error_set(err, -ENOTSUP, "%s has no %s: install a newer one (Debian: %s)",
                               file, symbols[i].name, package);
    }
    (void)dlclose(library); /* it stays, by RTLD_NODELETE */
    return rc;
}
