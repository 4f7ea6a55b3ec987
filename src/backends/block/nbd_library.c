/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding libnbd's functions. */
#include "config.h"

#ifdef HAVE_LIBNBD
#include "backends/block/nbd_library.h"
#include "base/soft.h"

int vmm_nbd_library_load(struct vmm_nbd_library *library, struct vmm_error *err)
{
    const struct vmm_soft_symbol symbols[] = {
#define F(name) {"nbd_" #name, (void **)(void *)&library->name},
        VMM_NBD_FUNCTIONS(F)
#undef F
    };
    return vmm_soft_load("libnbd.so.0", "libnbd0", symbols, sizeof(symbols) / sizeof(symbols[0]),
                         err);
}

#endif
