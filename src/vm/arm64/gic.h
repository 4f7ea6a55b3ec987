/* SPDX-License-Identifier: BSD-3-Clause */
/* The GIC from the inside. */
#ifndef VM_ARM64_GIC_H
#define VM_ARM64_GIC_H

#include <libvmm/arm64.h>

struct vmm_gic {
    struct vmm_arm64_gic_options options; /* version: what was made */
    int fd;                               /* KVM's device */
    int its_fd;                           /* -1: none */
    uint32_t cpus;                        /* 0: not initialized yet */
};

/* gic_state.c */
int vmm_gic_save(const struct vmm_gic *gic, struct vmm_state_writer *w);
int vmm_gic_load(const struct vmm_gic *gic, struct vmm_state_reader *r, struct vmm_error *err);

/* An attribute of a KVM device: 32 or 64 bits, as the group has it. */
int vmm_gic_get(int fd, uint32_t group, uint64_t attribute, void *value);
int vmm_gic_set(int fd, uint32_t group, uint64_t attribute, const void *value);
/* The affinity that KVM gives the vCPU of an id, as GICv3's attributes have it. */
uint64_t vmm_gic_affinity(uint32_t vcpu);

#endif
