/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The run loop: enter the guest, decode the exit, let the I/O handler answer, enter again. Between
 * two exits that the handler answers there is no system call but KVM_RUN, no lock and no allocation.
 */
#include "base/util.h"
#include "vcpu/coalesce.h"
#include "vcpu/control.h"
#include "vcpu/internal.h"

#include <libvmm/kvm.h>

/* What the dispatch of one exit says to the loop. Negative: an errno. */
enum { RUN_ON = 0, RETURN_EXIT = 1 };

/* Only the running thread counts. */
static void count(struct vmm_vcpu *vcpu, uint32_t reason)
{
    _Atomic uint64_t *counter = &vcpu->exits[reason];
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* An access that no handler takes is the caller's. */
static VMM_COLD int hand_out_port(const struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    struct kvm_run *run = vcpu->run;
    exit->reason = VMM_EXIT_PORT;
    exit->u.port.port = run->io.port;
    exit->u.port.width = run->io.size;
    exit->u.port.is_write = run->io.direction == KVM_EXIT_IO_OUT;
    exit->u.port.count = run->io.count;
    exit->u.port.data = (char *)run + run->io.data_offset;
    return RETURN_EXIT;
}

static int port_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    struct kvm_run *run = vcpu->run;
    count(vcpu, VMM_EXIT_PORT);
    vcpu->io_pending = true;
    if (vcpu->io.port) {
        int rc = vcpu->io.port(vcpu->io_ctx, run->io.port, (char *)run + run->io.data_offset,
                               run->io.size, run->io.count, run->io.direction == KVM_EXIT_IO_OUT);
        if (rc != -ENOENT)
            return rc;
    }
    return hand_out_port(vcpu, exit);
}

/* ROM with a callback, and memory whose slot was being replaced. */
static bool memory_access(struct vmm_vcpu *vcpu, bool write)
{
    struct kvm_run *run = vcpu->run;
    uint64_t value = 0;
    if (!vcpu->memory || run->mmio.len > sizeof(value))
        return false;
    if (write) {
        memcpy(&value, run->mmio.data, run->mmio.len);
        return vmm_memory_handle_write(vcpu->memory, run->mmio.phys_addr, run->mmio.len,
                                       le64toh(value)) == 0;
    }
    if (vmm_memory_handle_read(vcpu->memory, run->mmio.phys_addr, run->mmio.len, &value) != 0)
        return false;
    value = htole64(value);
    memcpy(run->mmio.data, &value, run->mmio.len);
    return true;
}

static VMM_COLD int hand_out_mmio(const struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    struct kvm_run *run = vcpu->run;
    exit->reason = VMM_EXIT_MMIO;
    exit->u.mmio.address = run->mmio.phys_addr;
    exit->u.mmio.width = run->mmio.len;
    exit->u.mmio.is_write = run->mmio.is_write != 0;
    exit->u.mmio.data = run->mmio.data;
    return RETURN_EXIT;
}

static __attribute__((noinline)) int mmio_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    struct kvm_run *run = vcpu->run;
    bool write = run->mmio.is_write != 0;
    count(vcpu, VMM_EXIT_MMIO);
    vcpu->io_pending = true;
    if (memory_access(vcpu, write))
        return RUN_ON;
    if (vcpu->io.mmio) {
        int rc =
            vcpu->io.mmio(vcpu->io_ctx, run->mmio.phys_addr, run->mmio.data, run->mmio.len, write);
        if (rc != -ENOENT)
            return rc;
    }
    return hand_out_mmio(vcpu, exit);
}

static void decode_system_event(const struct kvm_run *run, struct vmm_exit *exit)
{
    exit->reason = VMM_EXIT_SYSTEM_EVENT;
    exit->u.system_event.type = run->system_event.type;
    exit->u.system_event.count = run->system_event.ndata < 16 ? run->system_event.ndata : 16;
    for (uint32_t i = 0; i < exit->u.system_event.count; i++)
        exit->u.system_event.data[i] = run->system_event.data[i];
}

static void decode_internal_error(const struct kvm_run *run, struct vmm_exit *exit)
{
    exit->reason = VMM_EXIT_INTERNAL_ERROR;
    exit->u.internal_error.suberror = run->internal.suberror;
    exit->u.internal_error.count = run->internal.ndata < 16 ? run->internal.ndata : 16;
    for (uint32_t i = 0; i < exit->u.internal_error.count; i++)
        exit->u.internal_error.data[i] = run->internal.data[i];
    exit->u.internal_error.insn_length = 0;
    if (run->internal.suberror == KVM_INTERNAL_ERROR_EMULATION && run->internal.ndata >= 1 &&
        run->emulation_failure.flags & KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES) {
        uint32_t length = run->emulation_failure.insn_size;
        length = length < sizeof(run->emulation_failure.insn_bytes)
                     ? length
                     : (uint32_t)sizeof(run->emulation_failure.insn_bytes);
        exit->u.internal_error.insn_length = length;
        memcpy(exit->u.internal_error.insn, run->emulation_failure.insn_bytes, length);
    }
}

static int internal_error_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    decode_internal_error(vcpu->run, exit);
    if (!vcpu->assist || exit->u.internal_error.suberror != KVM_INTERNAL_ERROR_EMULATION)
        return RETURN_EXIT;
    int rc = vcpu->assist(vcpu, exit);
    return rc < 0 ? rc : rc > 0 ? RUN_ON : RETURN_EXIT;
}

static int decode(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    const struct kvm_run *run = vcpu->run;
    exit->reason = VMM_EXIT_UNKNOWN;
    switch (run->exit_reason) {
    case KVM_EXIT_HLT:
        exit->reason = VMM_EXIT_HALT;
        break;
    case KVM_EXIT_SHUTDOWN:
        exit->reason = VMM_EXIT_SHUTDOWN;
        break;
    case KVM_EXIT_SYSTEM_EVENT:
        decode_system_event(run, exit);
        break;
    case KVM_EXIT_FAIL_ENTRY:
        exit->reason = VMM_EXIT_FAIL_ENTRY;
        exit->u.fail_entry.hardware_reason = run->fail_entry.hardware_entry_failure_reason;
        exit->u.fail_entry.cpu = run->fail_entry.cpu;
        break;
    case KVM_EXIT_DIRTY_RING_FULL:
        exit->reason = VMM_EXIT_DIRTY_RING;
        break;
    case KVM_EXIT_INTR:
        exit->reason = VMM_EXIT_KICKED;
        break;
    default:
        if (!vmm_arch_decode_exit(vcpu, exit))
            exit->reason = VMM_EXIT_UNKNOWN;
    }
    return RETURN_EXIT;
}

/* Neither port nor memory. */
static VMM_COLD int other_exit(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    int rc = exit->raw_reason == KVM_EXIT_INTERNAL_ERROR ? internal_error_exit(vcpu, exit)
                                                         : decode(vcpu, exit);
    count(vcpu, exit->reason);
    return rc;
}

/* One exit of KVM_RUN's. */
static int dispatch(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    uint32_t raw = vcpu->run->exit_reason;
    exit->raw_reason = raw;
    if (raw == KVM_EXIT_IO)
        return port_exit(vcpu, exit);
    if (raw == KVM_EXIT_MMIO)
        return mmio_exit(vcpu, exit);
    return other_exit(vcpu, exit);
}

/* vmm_vcpu_run() returns without an exit of the guest's. */
static int return_for(struct vmm_vcpu *vcpu, uint32_t reason, struct vmm_exit *exit)
{
    exit->reason = reason;
    exit->raw_reason = KVM_EXIT_INTR;
    count(vcpu, reason);
    return RETURN_EXIT;
}

/* KVM_RUN came back without an exit. RUN_ON: try again. */
static VMM_COLD int interrupted(struct vmm_vcpu *vcpu, int error, struct vmm_exit *exit)
{
    if (error == EAGAIN) /* a vCPU that waited for its start-up message has got one */
        return RUN_ON;
    if (error != EINTR)
        return -error;
    bool flagged = __atomic_exchange_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST) != 0;
    bool signalled = vcpu->run->exit_reason == KVM_EXIT_INTR;
    vcpu->run->exit_reason = KVM_EXIT_UNKNOWN; /* KVM writes it for a signal, not for the flag */
    if (atomic_exchange(&vcpu->fetched_out, false))
        return RUN_ON; /* it is kept out for a moment */
    if (atomic_load(&vcpu->request))
        return RUN_ON; /* the loop serves it */
    if (flagged && !signalled)
        return RUN_ON; /* the flag came after its request had been served */
    return return_for(vcpu, VMM_EXIT_KICKED, exit); /* a signal of another kind */
}

/* Enter the guest once. */
static int enter_guest(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    int error = vmm_vcpu_enter_guest(vcpu);
    vcpu->io_pending = false;
    vcpu->synced = vcpu->sync;
    if (vcpu->ring && vmm_coalesce_waiting(vcpu->ring))
        vmm_vcpu_drain(vcpu);
    return error ? interrupted(vcpu, error, exit) : dispatch(vcpu, exit);
}

static int run_loop(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    for (;;) {
        if (atomic_load(&vcpu->request)) {
            if (!vcpu->io_pending && !vcpu->exit_ready) {
                uint32_t reason = vmm_vcpu_serve_requests(vcpu);
                if (reason == VMM_EXIT_UNKNOWN)
                    continue;
                return return_for(vcpu, reason, exit);
            }
            /* Let KVM finish the instruction, and no more, so that the registers are whole. */
            __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
        }
        int rc;
        if (vcpu->exit_ready) {
            vcpu->exit_ready = false;
            rc = dispatch(vcpu, exit);
        } else {
            rc = enter_guest(vcpu, exit);
        }
        if (rc != RUN_ON)
            return rc;
    }
}

int vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit)
{
    if (exit->size < sizeof(*exit))
        return -EINVAL; /* the first version of the structure is the shortest */
    int rc =
        vmm_vcpu_enter_run(vcpu) ? run_loop(vcpu, exit) : return_for(vcpu, VMM_EXIT_STOPPED, exit);
    vmm_vcpu_leave_run(vcpu);
    return rc < 0 ? rc : 0;
}

int vmm_vcpu_complete(struct vmm_vcpu *vcpu)
{
    if (vcpu->exit_ready)
        return -EAGAIN;
    if (!vcpu->io_pending)
        return 0;
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    int error = vmm_vcpu_enter_guest(vcpu);
    vcpu->io_pending = false;
    vcpu->synced = false;
    __atomic_store_n(&vcpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
    if (error == 0) {
        vcpu->exit_ready = true; /* a second half of the access: the next run hands it out */
        return -EAGAIN;
    }
    return error == EINTR ? 0 : -error;
}
