/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host's hypervisor. What it is, is asked of /dev/kvm and of the modules in /sys, never guessed
 * from CPUID: a host can have the processor feature and no usable KVM, and the other way round.
 */
#include "base/util.h"
#include "vm/arch.h"
#include "vm/capabilities.h"
#include "vm/ioctl.h"

#include <libvmm/host.h>
#include <libvmm/kvm.h>

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct vmm_host {
    _Atomic uint32_t refs;
    int fd;
    struct vmm_host_info info;
};

/* Limits that a kernel too old to be asked has by the API's documentation. */
#define DEFAULT_VCPUS 4u
#define DEFAULT_SLOTS 32u

static uint32_t capability_or(int fd, uint32_t number, uint32_t otherwise)
{
    int value = vmm_kvm_ioctl(fd, KVM_CHECK_EXTENSION, number);
    return value > 0 ? (uint32_t)value : otherwise;
}

static int fill_info(struct vmm_host *host, struct vmm_error *err)
{
    struct vmm_host_info *info = &host->info;
    *info = (struct vmm_host_info)VMM_HOST_INFO_INIT;
    int version = vmm_kvm_ioctl(host->fd, KVM_GET_API_VERSION, 0);
    if (version < 0)
        return vmm_error_set(err, version == -ENOTTY ? -ENODEV : version,
                             "this is not a KVM device (KVM_GET_API_VERSION: %s)",
                             strerror(-version));
    if (version != KVM_API_VERSION)
        return vmm_error_set(err, -EPROTO,
                             "the kernel speaks KVM API version %d, libvmm %d: use Linux 2.6.22 or "
                             "later",
                             version, KVM_API_VERSION);
    int run_size = vmm_kvm_ioctl(host->fd, KVM_GET_VCPU_MMAP_SIZE, 0);
    if (run_size < (int)sizeof(struct kvm_run))
        return vmm_error_set(err, run_size < 0 ? run_size : -EPROTO,
                             "KVM_GET_VCPU_MMAP_SIZE gave %d", run_size);
    info->api_version = (uint32_t)version;
    info->run_size = (uint32_t)run_size;
    info->vcpus_recommended = capability_or(host->fd, KVM_CAP_NR_VCPUS, DEFAULT_VCPUS);
    info->vcpus_max = capability_or(host->fd, KVM_CAP_MAX_VCPUS, info->vcpus_recommended);
    info->vcpu_id_max = capability_or(host->fd, KVM_CAP_MAX_VCPU_ID, info->vcpus_max);
    info->slots_max = capability_or(host->fd, KVM_CAP_NR_MEMSLOTS, DEFAULT_SLOTS);
    vmm_arch_host_info(info);
    return 0;
}

/* Takes over `fd`. */
static int host_new(int fd, struct vmm_host **out, struct vmm_error *err)
{
    struct vmm_host *host = calloc(1, sizeof(*host));
    int rc = host ? 0 : vmm_error_set(err, -ENOMEM, "out of memory");
    if (!rc) {
        atomic_init(&host->refs, 1);
        host->fd = fd;
        rc = fill_info(host, err);
    }
    if (rc) {
        free(host);
        close(fd);
        return rc;
    }
    *out = host;
    return 0;
}

static int open_failed(const char *path, int code, struct vmm_error *err)
{
    switch (code) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
        return vmm_error_set(err, -code,
                             "%s: there is no KVM here. Load the module (modprobe kvm_intel or "
                             "kvm_amd); if that fails, virtualization is switched off in the "
                             "firmware, or this is a virtual machine without nested virtualization",
                             path);
    case EACCES:
    case EPERM:
        return vmm_error_set(err, -code,
                             "%s: no permission. Add yourself to the device's group (usually "
                             "\"usermod -aG kvm $USER\", then log in again)",
                             path);
    default:
        return vmm_error_set(err, -code, "%s: %s", path, strerror(code));
    }
}

int vmm_host_open(const char *path, struct vmm_host **out, struct vmm_error *err)
{
    path = path ? path : "/dev/kvm";
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return open_failed(path, errno, err);
    int rc = host_new(fd, out, err);
    if (rc)
        vmm_error_prefix(err, "%s", path);
    return rc;
}

int vmm_host_open_fd(int fd, struct vmm_host **out, struct vmm_error *err)
{
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (own < 0)
        return vmm_error_set(err, -errno, "descriptor %d: %s", fd, strerror(errno));
    return host_new(own, out, err);
}

struct vmm_host *vmm_host_ref(struct vmm_host *host)
{
    atomic_fetch_add_explicit(&host->refs, 1, memory_order_relaxed);
    return host;
}

struct vmm_host *vmm_host_unref(struct vmm_host *host)
{
    if (host && atomic_fetch_sub_explicit(&host->refs, 1, memory_order_acq_rel) == 1) {
        close(host->fd);
        free(host);
    }
    return NULL;
}

int vmm_host_fd(const struct vmm_host *host)
{
    return host->fd;
}

int vmm_host_get_info(const struct vmm_host *host, struct vmm_host_info *info)
{
    return vmm_info_copy(info, &host->info, sizeof(host->info));
}

int vmm_host_capability(const struct vmm_host *host, uint32_t number)
{
    int value = vmm_kvm_ioctl(host->fd, KVM_CHECK_EXTENSION, number);
    return value > 0 ? value : 0;
}

int vmm_host_capability_by_name(const struct vmm_host *host, const char *name)
{
    for (size_t i = 0; i < vmm_capability_name_count; i++)
        if (strcmp(vmm_capability_names[i].name, name) == 0)
            return vmm_host_capability(host, vmm_capability_names[i].number);
    return -ENOENT;
}

size_t vmm_host_capabilities(const struct vmm_host *host, struct vmm_capability *table, size_t max)
{
    for (size_t i = 0; i < vmm_capability_name_count && i < max; i++) {
        table[i].number = vmm_capability_names[i].number;
        table[i].name = vmm_capability_names[i].name;
        table[i].value = vmm_host_capability(host, table[i].number);
    }
    return vmm_capability_name_count;
}

const char *vmm_flavour_name(uint32_t flavour)
{
    static const char *const names[] = {"unknown", "vmx", "svm", "pvm", "arm"};
    return flavour < VMM_ARRAY_SIZE(names) ? names[flavour] : names[0];
}

const char *vmm_paging_name(uint32_t paging)
{
    static const char *const names[] = {"unknown", "shadow", "nested"};
    return paging < VMM_ARRAY_SIZE(names) ? names[paging] : names[0];
}
