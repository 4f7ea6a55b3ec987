/* SPDX-License-Identifier: BSD-3-Clause */
/* The one door to KVM's ioctls but KVM_RUN: negative errno, and EINTR tried again. */
#ifndef VM_IOCTL_H
#define VM_IOCTL_H

#include <stdint.h>

/* `argument` is a pointer or a number, as the request has it. */
int vmm_kvm_ioctl(int fd, unsigned long request, uintptr_t argument);

static inline int vmm_kvm_ioctl_ptr(int fd, unsigned long request, const void *argument)
{
    return vmm_kvm_ioctl(fd, request, (uintptr_t)argument);
}

#endif
