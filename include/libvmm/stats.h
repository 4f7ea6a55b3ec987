/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file stats.h
 * KVM's binary statistics of a VM or a vCPU (KVM_CAP_BINARY_STATS_FD) as a named table.
 *
 * Names are KVM's own, so they depend on the kernel. Reading costs one system call and does not
 * disturb the guest. An object belongs to one thread at a time.
 */
#ifndef LIBVMM_STATS_H
#define LIBVMM_STATS_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_stats;

#define VMM_STAT_CUMULATIVE  0u /**< only grows */
#define VMM_STAT_INSTANT     1u /**< a level at this moment */
#define VMM_STAT_PEAK        2u /**< the highest level seen */
#define VMM_STAT_LINEAR_HIST 3u /**< a histogram, buckets of `bucket_size` */
#define VMM_STAT_LOG_HIST    4u /**< a histogram, bucket n holds [2^(n-1), 2^n) */

#define VMM_UNIT_NONE    0u
#define VMM_UNIT_BYTES   1u
#define VMM_UNIT_SECONDS 2u
#define VMM_UNIT_CYCLES  3u
#define VMM_UNIT_BOOLEAN 4u

struct vmm_stat {
    size_t size;
    const char *name;       /**< valid as long as the object */
    const uint64_t *values; /**< `count` of them, from the last refresh; valid until the next */
    uint32_t count;         /**< 1, or a histogram's buckets */
    uint32_t kind;          /**< VMM_STAT_…, or a higher number of a newer kernel */
    uint32_t unit;          /**< VMM_UNIT_…, or a higher number */
    uint32_t base;          /**< 10 or 2: a value counts base^exponent units */
    int32_t exponent;       /**< -9 with base 10 and seconds: nanoseconds */
    uint32_t bucket_size;
    uint32_t is_mmu; /**< 1: it tells of paging (shadow pages, faults, TLB flushes, page sizes) */
    uint32_t reserved;
};
#define VMM_STAT_INIT                                                                              \
    {                                                                                              \
        sizeof(struct vmm_stat), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                                      \
    }

/**
 * Open the statistics of a KVM object and read them once.
 * @param kvm_fd  vmm_vm_fd() or vmm_vcpu_fd()
 * -EOPNOTSUPP: the host has none, -EPROTO: they are not in a form the library knows, -EMFILE.
 */
VMM_API int vmm_stats_open(int kvm_fd, struct vmm_stats **out, struct vmm_error *err);
/** The same with a statistics descriptor (KVM_GET_STATS_FD) that the caller has; duplicated. */
VMM_API int vmm_stats_open_fd(int stats_fd, struct vmm_stats **out, struct vmm_error *err);
/** NULL is fine. */
VMM_API struct vmm_stats *vmm_stats_free(struct vmm_stats *stats);
/** KVM's name of the object, such as "kvm-1234" or "kvm-1234/vcpu-0". */
VMM_API const char *vmm_stats_id(const struct vmm_stats *stats);
/** Read all values anew. */
VMM_API int vmm_stats_refresh(struct vmm_stats *stats);
VMM_API size_t vmm_stats_count(const struct vmm_stats *stats);
/** The statistic number `index`. -ENOENT: there are fewer; -EINVAL. */
VMM_API int vmm_stats_get(const struct vmm_stats *stats, size_t index, struct vmm_stat *stat);
/** By name. -ENOENT: this kernel has none of that name. */
VMM_API int vmm_stats_find(const struct vmm_stats *stats, const char *name, struct vmm_stat *stat);
/** A static name: "bytes", "seconds", "cycles", "boolean", "" for none, "?" for one not known. */
VMM_API const char *vmm_unit_name(uint32_t unit);

VMM_END_DECLS

#endif
