/* SPDX-License-Identifier: BSD-3-Clause */
/* The vCPU object. Running it is in run.c, kicks and pauses in control.c, threads in thread.c. */
#include "base/util.h"
#include "vcpu/coalesce.h"
#include "vcpu/internal.h"
#include "vm/ioctl.h"

#include <libvmm/dirty.h>

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static void close_gate(void *ctx)
{
    (void)vmm_vcpu_keep_out(ctx);
}

static void open_gate(void *ctx)
{
    vmm_vcpu_let_in(ctx);
}

static int attach_memory(struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    static const struct vmm_memory_gate gate = {sizeof(gate), close_gate, open_gate};
    int rc = vmm_dirty_ring_attach(vcpu->memory, vcpu->fd, err);
    if (rc)
        return rc;
    rc = vmm_memory_add_gate(vcpu->memory, &gate, vcpu);
    return rc ? vmm_error_set(err, rc, "vCPU %u: out of memory", vcpu->id) : 0;
}

static int create(struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    int rc = vmm_host_get_info(vmm_vm_host(vcpu->vm), &info);
    if (rc)
        return rc;
    if (!vmm_vm_capability(vcpu->vm, KVM_CAP_IMMEDIATE_EXIT))
        return vmm_error_set(
            err, -ENOTSUP,
            "the host lacks KVM_CAP_IMMEDIATE_EXIT, without which a vCPU cannot be "
            "interrupted safely: use Linux 4.13 or later");
    vcpu->fd = vmm_kvm_ioctl(vmm_vm_fd(vcpu->vm), KVM_CREATE_VCPU, vcpu->id);
    if (vcpu->fd < 0)
        return vmm_error_set(err, vcpu->fd, "KVM_CREATE_VCPU %u (the host's limit is %u): %s",
                             vcpu->id, info.vcpus_max, strerror(-vcpu->fd));
    vcpu->run_size = info.run_size;
    void *run = mmap(NULL, vcpu->run_size, PROT_READ | PROT_WRITE, MAP_SHARED, vcpu->fd, 0);
    if (run == MAP_FAILED)
        return vmm_error_set(err, -errno, "mapping the state of vCPU %u: %s", vcpu->id,
                             strerror(errno));
    vcpu->run = run;
    vcpu->ring = vmm_coalesce_ring(vcpu);
    rc = vcpu->memory ? attach_memory(vcpu, err) : 0;
    return rc ? rc : vmm_arch_vcpu_init(vcpu, err);
}

int vmm_vcpu_new(struct vmm_vm *vm, struct vmm_memory *memory, uint32_t id, struct vmm_vcpu **out,
                 struct vmm_error *err)
{
    struct vmm_vcpu *vcpu = calloc(1, sizeof(*vcpu));
    if (!vcpu)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    atomic_init(&vcpu->refs, 1);
    vcpu->fd = -1;
    vcpu->id = id;
    vcpu->vm = vmm_vm_ref(vm);
    vcpu->memory = memory ? vmm_memory_ref(memory) : NULL;
    int rc = create(vcpu, err);
    if (rc) {
        vmm_vcpu_unref(vcpu);
        return rc;
    }
    *out = vcpu;
    return 0;
}

struct vmm_vcpu *vmm_vcpu_ref(struct vmm_vcpu *vcpu)
{
    atomic_fetch_add_explicit(&vcpu->refs, 1, memory_order_relaxed);
    return vcpu;
}

static void release_io(struct vmm_vcpu *vcpu)
{
    if (vcpu->io.release)
        vcpu->io.release(vcpu->io_ctx);
}

struct vmm_vcpu *vmm_vcpu_unref(struct vmm_vcpu *vcpu)
{
    if (!vcpu || atomic_fetch_sub_explicit(&vcpu->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (vcpu->has_thread) {
        vmm_vcpu_stop(vcpu);
        (void)vmm_vcpu_thread_join(vcpu);
    }
    vmm_arch_vcpu_fini(vcpu);
    if (vcpu->assist_free)
        vcpu->assist_free(vcpu->assist_data);
    release_io(vcpu);
    if (vcpu->memory && vcpu->fd >= 0) {
        vmm_memory_remove_gate(vcpu->memory, vcpu);
        vmm_dirty_ring_detach(vcpu->memory, vcpu->fd);
    }
    if (vcpu->run)
        munmap(vcpu->run, vcpu->run_size);
    if (vcpu->fd >= 0)
        close(vcpu->fd);
    vmm_memory_unref(vcpu->memory);
    vmm_vm_unref(vcpu->vm);
    free(vcpu);
    return NULL;
}

int vmm_vcpu_fd(const struct vmm_vcpu *vcpu)
{
    return vcpu->fd;
}

uint32_t vmm_vcpu_id(const struct vmm_vcpu *vcpu)
{
    return vcpu->id;
}

struct vmm_vm *vmm_vcpu_vm(const struct vmm_vcpu *vcpu)
{
    return vcpu->vm;
}

struct vmm_memory *vmm_vcpu_memory(const struct vmm_vcpu *vcpu)
{
    return vcpu->memory;
}

struct kvm_run *vmm_vcpu_kvm_run(struct vmm_vcpu *vcpu)
{
    return vcpu->run;
}

int vmm_vcpu_set_io(struct vmm_vcpu *vcpu, const struct vmm_io_handler *handler, void *ctx)
{
    struct vmm_io_handler copy;
    int rc = vmm_options_copy(&copy, sizeof(copy), handler);
    if (rc)
        return rc;
    release_io(vcpu);
    vcpu->io = copy;
    vcpu->io_ctx = ctx;
    return 0;
}

uint64_t vmm_vcpu_exit_count(const struct vmm_vcpu *vcpu, uint32_t reason)
{
    return reason < VMM_EXIT_REASONS
               ? atomic_load_explicit(&vcpu->exits[reason], memory_order_relaxed)
               : 0;
}

const char *vmm_exit_name(uint32_t reason)
{
    static const char *const names[] = {
        "unknown",    "port",           "mmio",       "halt",       "shutdown",   "system-event",
        "fail-entry", "internal-error", "kicked",     "stopped",    "debug",      "hypercall",
        "rdmsr",      "wrmsr",          "dirty-ring", "irq-window", "ioapic-eoi", "tpr",
    };
    return reason < VMM_ARRAY_SIZE(names) ? names[reason] : names[0];
}
