/* SPDX-License-Identifier: BSD-3-Clause */
#include <libvmm/types.h>

#define TEXT_OF(x)      #x
#define DOTTED(a, b, c) TEXT_OF(a) "." TEXT_OF(b) "." TEXT_OF(c)

const char *vmm_version(void)
{
    return DOTTED(VMM_VERSION_MAJOR, VMM_VERSION_MINOR, VMM_VERSION_PATCH);
}
