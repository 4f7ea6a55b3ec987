/* SPDX-License-Identifier: BSD-3-Clause */
/* Libraries that are loaded when something first asks for what they do, and not with the program. */
#ifndef BASE_SOFT_H
#define BASE_SOFT_H

#include <libvmm/error.h>

#include <stddef.h>

struct vmm_soft_symbol {
    const char *name;
    void **slot; /* gets the address */
};

/* Load `file` (its soname) and find all symbols. The library stays loaded until the process ends: some do not
 * bear to be unloaded. -ENOTSUP: it, or a symbol, is missing; the text names the Debian package. Thread-safe. */
int vmm_soft_load(const char *file, const char *package, const struct vmm_soft_symbol *symbols,
                  size_t count, struct vmm_error *err);

#endif
