/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file vcpu.h
 * A virtual processor, and running it.
 *
 * vmm_vcpu_run() works on the caller's thread and returns with a decoded exit. One thread runs a
 * vCPU at a time; kick, pause, resume and stop are for every other thread. Registers (x86.h,
 * arm64.h) are for the running thread, or for any thread while the vCPU is paused or not running.
 *
 * Kicking: KVM_RUN is interrupted by a signal that the embedder chose in vmm_vm_options
 * (`kick_signal`); the library installs no handler unless vmm_kick_signal_install() is called. A
 * kick sets kvm_run.immediate_exit and then sends the signal to the running thread, so it is never
 * lost: before KVM_RUN it makes the next one return at once, inside it the signal does.
 * Without a signal (0), kicks take effect at the guest's next exit. The signal needs a handler (an
 * empty one will do) and must not be blocked on the running thread: ignored or blocked it interrupts
 * nothing. It is sent only while the thread is inside vmm_vcpu_run().
 */
#ifndef LIBVMM_VCPU_H
#define LIBVMM_VCPU_H

#include <libvmm/memory.h>
#include <libvmm/paging.h>

VMM_BEGIN_DECLS

struct vmm_vcpu;

#define VMM_EXIT_UNKNOWN        0u  /**< a reason the library has no decoding for: see raw_reason */
#define VMM_EXIT_PORT           1u  /**< port I/O that no handler took */
#define VMM_EXIT_MMIO           2u  /**< memory access that no handler took */
#define VMM_EXIT_HALT           3u  /**< HLT without an interrupt controller in KVM */
#define VMM_EXIT_SHUTDOWN       4u  /**< x86 triple fault */
#define VMM_EXIT_SYSTEM_EVENT   5u  /**< KVM_EXIT_SYSTEM_EVENT: power-off, reset, crash, … */
#define VMM_EXIT_FAIL_ENTRY     6u  /**< the processor refused the guest state */
#define VMM_EXIT_INTERNAL_ERROR 7u  /**< KVM gave up, mostly on an instruction */
#define VMM_EXIT_KICKED         8u  /**< vmm_vcpu_kick(), or a signal reached the thread */
#define VMM_EXIT_STOPPED        9u  /**< vmm_vcpu_stop(); stays until vmm_vcpu_restart() */
#define VMM_EXIT_DEBUG          10u /**< guest debug: breakpoint or single step */
#define VMM_EXIT_HYPERCALL      11u
#define VMM_EXIT_RDMSR          12u /**< an MSR left to user space; fill in u.msr.data or u.msr.error */
#define VMM_EXIT_WRMSR          13u
#define VMM_EXIT_DIRTY_RING     14u /**< the dirty ring is full: harvest, then run again */
#define VMM_EXIT_IRQ_WINDOW     15u /**< the guest can take the interrupt that was asked for */
#define VMM_EXIT_IOAPIC_EOI     16u /**< split interrupt controller: EOI of u.eoi.vector */
#define VMM_EXIT_TPR            17u /**< no interrupt controller in KVM: CR8 was lowered */

struct vmm_exit {
    size_t size;
    uint32_t reason;     /**< VMM_EXIT_… */
    uint32_t raw_reason; /**< KVM_EXIT_…, from struct kvm_run */
    union {
        struct {
            uint16_t port;
            uint8_t width; /**< 1, 2, 4 */
            uint8_t is_write;
            uint32_t count; /**< of a string instruction */
            void *data;     /**< width * count bytes inside kvm_run; fill in for a read */
        } port;
        struct {
            uint64_t address;
            uint32_t width; /**< 1 to 8 */
            uint32_t is_write;
            uint8_t *data; /**< inside kvm_run; fill in for a read */
        } mmio;
        struct {
            uint32_t type; /**< KVM_SYSTEM_EVENT_… */
            uint32_t count;
            uint64_t data[16];
        } system_event;
        struct {
            uint64_t hardware_reason;
            uint32_t cpu;
        } fail_entry;
        struct {
            uint32_t suberror; /**< KVM_INTERNAL_ERROR_…; 1: emulation */
            uint32_t count;
            uint64_t data[16];
            uint32_t insn_length; /**< 0: KVM gave no bytes */
            uint8_t insn[16];
        } internal_error;
        struct {
            uint32_t exception;
            uint64_t pc;
            uint64_t dr6;
            uint64_t dr7;
        } debug;
        struct {
            uint64_t number;
            uint64_t args[6];
            uint64_t *result; /**< inside kvm_run */
        } hypercall;
        struct {
            uint32_t index;
            uint32_t why;   /**< KVM_MSR_EXIT_REASON_… */
            uint64_t *data; /**< inside kvm_run */
            uint8_t *error; /**< inside kvm_run; 1: inject #GP */
        } msr;
        struct {
            uint32_t vector;
        } eoi;
        uint64_t reserved[32];
    } u;
};
#define VMM_EXIT_INIT                                                                              \
    {                                                                                              \
        sizeof(struct vmm_exit), 0, 0,                                                             \
        {                                                                                          \
            {                                                                                      \
                0, 0, 0, 0, 0                                                                      \
            }                                                                                      \
        }                                                                                          \
    }

/** A static name such as "mmio". */
VMM_API const char *vmm_exit_name(uint32_t reason);

/** Who answers I/O. Called on the running thread; the bus (bus.h) is one such handler. Return 0
 *  when taken; -ENOENT hands the access to the caller of vmm_vcpu_run() as an exit; another
 *  negative errno makes vmm_vcpu_run() return it. */
struct vmm_io_handler {
    size_t size;
    /** `count` items of `width` bytes at `data`, all to the same port. */
    int (*port)(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count, bool write);
    /** `width` bytes, 1 to 8, at `data`. */
    int (*mmio)(void *ctx, uint64_t address, void *data, uint32_t width, bool write);
    /** The vCPU lets go of `ctx` (it goes away, or gets another handler). May be NULL. */
    void (*release)(void *ctx);
};

/** Make vCPU `id` (on x86 also its initial APIC id). `memory` may be NULL where the embedder does
 *  slots by itself; then nothing that needs guest memory (assist, decoding) works. */
VMM_API int vmm_vcpu_new(struct vmm_vm *vm, struct vmm_memory *memory, uint32_t id,
                         struct vmm_vcpu **out, struct vmm_error *err);
VMM_API struct vmm_vcpu *vmm_vcpu_ref(struct vmm_vcpu *vcpu);
VMM_API struct vmm_vcpu *vmm_vcpu_unref(struct vmm_vcpu *vcpu);
VMM_API int vmm_vcpu_fd(const struct vmm_vcpu *vcpu);
VMM_API uint32_t vmm_vcpu_id(const struct vmm_vcpu *vcpu);
VMM_API struct vmm_vm *vmm_vcpu_vm(const struct vmm_vcpu *vcpu);
VMM_API struct vmm_memory *vmm_vcpu_memory(const struct vmm_vcpu *vcpu);
/** Set-up only. `handler` is copied. */
VMM_API int vmm_vcpu_set_io(struct vmm_vcpu *vcpu, const struct vmm_io_handler *handler, void *ctx);

/** Let it start at a guest-physical address, otherwise as after power-on, for programs of a few instructions: on x86 in
 *  real mode with all segments at 0 (-EINVAL: 64 KiB or above), on arm64 in EL1 with the MMU off (-EINVAL: not a multiple
 *  of 4). Kernels have a protocol: loader.h. While the vCPU is not running. */
VMM_API int vmm_vcpu_start_at(struct vmm_vcpu *vcpu, uint64_t address);

/**
 * Run until something needs the caller. Blocks. 0 with `*exit` filled in, or a negative errno of
 * the host. I/O that the handler takes does not return. After an I/O exit the next call completes
 * the instruction. A kick that comes while the library works is kept for the next wait.
 */
VMM_API int vmm_vcpu_run(struct vmm_vcpu *vcpu, struct vmm_exit *exit);

/** Finish the instruction of the last I/O exit without running further, so that registers may be
 *  read, saved or changed. On the running thread, or while the vCPU is paused or not running. -EAGAIN:
 *  the instruction has a further access (one that crosses pages); vmm_vcpu_run() returns with it. */
VMM_API int vmm_vcpu_complete(struct vmm_vcpu *vcpu);

/** Hand the writes that KVM has collected (vmm_vm_coalesce_add()) to this vCPU's I/O handler now: for a device
 *  that wants to know how things stand while the guest does not exit. Thread-safe, but not from inside an
 *  I/O handler nor with a device's lock held. */
VMM_API void vmm_vcpu_drain(struct vmm_vcpu *vcpu);

/** Make the running, or the next, vmm_vcpu_run() return VMM_EXIT_KICKED; kicks that come before it
 *  returns are one. Never lost; its signal can arrive late and make one more. Async-signal-safe. */
VMM_API void vmm_vcpu_kick(struct vmm_vcpu *vcpu);
/** Make vmm_vcpu_run() wait inside until vmm_vcpu_resume(). When this returns, the vCPU is not in
 *  the guest and no I/O handler is running for it, and its registers may be used. Pauses nest.
 *  Not from the running thread (-EDEADLK). A vCPU that is not running is paused at once. */
VMM_API int vmm_vcpu_pause(struct vmm_vcpu *vcpu);
VMM_API int vmm_vcpu_resume(struct vmm_vcpu *vcpu);
/** Keep it out of the guest: when this returns it is not in KVM_RUN, and it does not enter before
 *  vmm_vcpu_let_in(). Unlike a pause it does not wait for I/O handlers, so one may call this, for
 *  other vCPUs and its own; hold it briefly. Calls nest. The memory map does this by itself while it
 *  replaces slots. Thread-safe. -EOPNOTSUPP: it may still be in the guest, because there is no
 *  kick_signal; it will not enter again. */
VMM_API int vmm_vcpu_keep_out(struct vmm_vcpu *vcpu);
VMM_API void vmm_vcpu_let_in(struct vmm_vcpu *vcpu);
/** Make vmm_vcpu_run() return VMM_EXIT_STOPPED, now and until vmm_vcpu_restart(), paused or not.
 *  Async-signal-safe. */
VMM_API void vmm_vcpu_stop(struct vmm_vcpu *vcpu);
VMM_API void vmm_vcpu_restart(struct vmm_vcpu *vcpu);

/** A thread of the library's that runs the vCPU, for those who ask. `exited` is called on it for
 *  every exit; it returns 0 to run on, else the thread ends. VMM_EXIT_STOPPED ends it in any case, and
 *  so does a host error, with exit == NULL and the code in `error`. Signals are blocked on the thread,
 *  but for the kick signal and those that an instruction raises (SIGSEGV and its like). Needs a kick
 *  signal (-EINVAL). -EBUSY: there is a thread that was not joined. From one thread at a time; the
 *  vCPU must not be given up (vmm_vcpu_unref()) by the thread itself. */
VMM_API int vmm_vcpu_thread_start(struct vmm_vcpu *vcpu,
                                  int (*exited)(void *ctx, struct vmm_vcpu *vcpu,
                                                struct vmm_exit *exit, int error),
                                  void *ctx);
/** Wait for the thread to end. -ESRCH: there is none. -EDEADLK: called on it. */
VMM_API int vmm_vcpu_thread_join(struct vmm_vcpu *vcpu);

/** Counters since the vCPU was made: KVM_RUN returns by VMM_EXIT_… reason, handled ones included.
 *  Thread-safe; a snapshot. */
VMM_API uint64_t vmm_vcpu_exit_count(const struct vmm_vcpu *vcpu, uint32_t reason);

/** How the vCPU translates addresses now: for the walker (paging.h) and the translation cache. On the
 *  running thread, or while the vCPU is paused or not running. */
VMM_API int vmm_vcpu_paging_context(struct vmm_vcpu *vcpu, struct vmm_paging_context *context);

/** Write the node "cpu@ID": every register that KVM can save. On the running thread, or while the
 *  vCPU is paused or not running. */
VMM_API int vmm_vcpu_save(struct vmm_vcpu *vcpu, struct vmm_state_writer *w);
/** Read it back. Lengths are checked before anything is set; if KVM refuses a part, the vCPU holds
 *  some of the new state and must be loaded again before it runs. */
VMM_API int vmm_vcpu_load(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct vmm_error *err);

/** Install an empty handler (SA_ONSTACK | SA_RESTART off) for a kick signal, for programs that have
 *  none. The one function of the library that changes signal dispositions. -EBUSY: there is a
 *  handler already (then it serves as well). -EINVAL: no signal, or one that an instruction raises. */
VMM_API int vmm_kick_signal_install(int signal_number);

VMM_END_DECLS

#endif
