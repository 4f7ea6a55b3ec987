/* SPDX-License-Identifier: BSD-3-Clause */
#include "vm/ioctl.h"

#include <errno.h>
#include <sys/ioctl.h>

int vmm_kvm_ioctl(int fd, unsigned long request, uintptr_t argument)
{
    for (;;) {
        int rc = ioctl(fd, request, argument);
        if (rc >= 0)
            return rc;
        if (errno != EINTR)
            return -errno;
    }
}
