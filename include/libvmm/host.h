/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file host.h
 * The host's hypervisor: `/dev/kvm`, what it can do, and of which kind it is.
 *
 * All functions are thread-safe once the object is made.
 */
#ifndef LIBVMM_HOST_H
#define LIBVMM_HOST_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_host;

/** How the host's processor is virtualized. */
#define VMM_FLAVOUR_UNKNOWN 0u
#define VMM_FLAVOUR_VMX     1u /**< Intel VT-x */
#define VMM_FLAVOUR_SVM     2u /**< AMD SVM */
#define VMM_FLAVOUR_PVM     3u /**< no hardware support: guest kernels are emulated */
#define VMM_FLAVOUR_ARM     4u /**< arm64 EL2 */

/** Who translates guest-physical addresses. */
#define VMM_PAGING_UNKNOWN 0u
#define VMM_PAGING_SHADOW  1u /**< KVM keeps shadow page tables */
#define VMM_PAGING_NESTED  2u /**< EPT, NPT or stage 2 */

struct vmm_host_info {
    size_t size;
    uint32_t api_version; /**< KVM_GET_API_VERSION */
    uint32_t flavour;     /**< VMM_FLAVOUR_… */
    uint32_t paging;      /**< VMM_PAGING_… */
    uint32_t vcpus_recommended;
    uint32_t vcpus_max;    /**< vCPUs of one VM */
    uint32_t vcpu_id_max;  /**< vCPU ids are below this */
    uint32_t slots_max;    /**< memory slots of one VM */
    uint32_t run_size;     /**< bytes of struct kvm_run's mapping */
    uint32_t address_bits; /**< guest-physical address width; 0: not known before a VM is made */
    char module[32];       /**< the vendor module's name, such as "kvm_amd"; "" if not known */
};
#define VMM_HOST_INFO_INIT                                                                         \
    {                                                                                              \
        sizeof(struct vmm_host_info), 0, 0, 0, 0, 0, 0, 0, 0, 0,                                   \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/** A capability's number, name and value, as the host answers KVM_CHECK_EXTENSION. */
struct vmm_capability {
    uint32_t number;
    int32_t value; /**< 0: the host has it not */
    const char
        *name; /**< without KVM_CAP_, lower case with underscores ("irqfd"); static storage */
};

/**
 * Open a host.
 * @param path  NULL for "/dev/kvm"
 * Errors, each with a text that says what to do: -ENOENT and -ENODEV (no KVM in this kernel),
 * -EACCES (permission), -EPROTO (an API version other than 12), -EMFILE.
 */
VMM_API int vmm_host_open(const char *path, struct vmm_host **out, struct vmm_error *err);
/** The same with a descriptor of the caller's, which is duplicated. */
VMM_API int vmm_host_open_fd(int fd, struct vmm_host **out, struct vmm_error *err);
VMM_API struct vmm_host *vmm_host_ref(struct vmm_host *host);
VMM_API struct vmm_host *vmm_host_unref(struct vmm_host *host);

/** The `/dev/kvm` descriptor; owned by the object. */
VMM_API int vmm_host_fd(const struct vmm_host *host);
/** Fill in `info` (set `info->size` by its initialiser). 0 or -EINVAL. */
VMM_API int vmm_host_get_info(const struct vmm_host *host, struct vmm_host_info *info);
/** The value of a capability by KVM's number; 0 where the host has it not. */
VMM_API int vmm_host_capability(const struct vmm_host *host, uint32_t number);
/** The same by name ("irqfd"); -ENOENT: no such name. */
VMM_API int vmm_host_capability_by_name(const struct vmm_host *host, const char *name);
/** Every capability the library knows by name, in KVM's order; returns how many there are and
 *  fills in up to `max` of them. */
VMM_API size_t vmm_host_capabilities(const struct vmm_host *host, struct vmm_capability *table,
                                     size_t max);
/** A static name: "vmx", "svm", "pvm", "arm", "unknown". */
VMM_API const char *vmm_flavour_name(uint32_t flavour);
/** A static name: "shadow", "nested", "unknown". */
VMM_API const char *vmm_paging_name(uint32_t paging);

VMM_END_DECLS

#endif
