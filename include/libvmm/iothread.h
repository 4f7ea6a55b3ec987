/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file iothread.h
 * I/O threads: a thread that dispatches a loop of its own, so that a device and its backend work beside
 * the machine's loop and beside each other. Both are made with vmm_iothread_loop() for their loop.
 *
 * What other headers ask to be called "on the loop's thread" is called there: by vmm_loop_post(), or
 * from any other thread while it is between vmm_iothread_pause() and vmm_iothread_resume(), which then
 * stands in for the loop's thread. A machine that knows its threads (vmm_machine_add_iothread()) pauses
 * them where it resets, saves, loads or frees its devices.
 */
#ifndef LIBVMM_IOTHREAD_H
#define LIBVMM_IOTHREAD_H

#include <libvmm/loop.h>

VMM_BEGIN_DECLS

struct vmm_iothread;

/** Start a thread; all signals are blocked in it.
 *  @param name  what the host shows for it, up to 15 characters; NULL: the process's
 *  -EINVAL: the name is too long; -EAGAIN, -EMFILE, -ENFILE, -ENOMEM. */
VMM_API int vmm_iothread_new(const char *name, struct vmm_iothread **out);
/** Thread-safe. */
VMM_API struct vmm_iothread *vmm_iothread_ref(struct vmm_iothread *thread);
/** The last reference ends the thread and waits for it, paused or not; not from a callback of its loop.
 *  The loop lives as long as others hold it. NULL is fine. Thread-safe. */
VMM_API struct vmm_iothread *vmm_iothread_unref(struct vmm_iothread *thread);
/** Not a new reference. Thread-safe. */
VMM_API struct vmm_loop *vmm_iothread_loop(const struct vmm_iothread *thread);
/**
 * When this returns no callback of the loop runs, and none will until vmm_iothread_resume(); waits for
 * the one under way, so hold no lock that it may take. What the host completes meanwhile waits in the
 * kernel: a snapshot whose guest memory is written after its devices keeps the threads paused in
 * between. Nests. -EDEADLK: from a callback of the loop. Thread-safe.
 */
VMM_API int vmm_iothread_pause(struct vmm_iothread *thread);
/** -EINVAL: it is not paused. */
VMM_API int vmm_iothread_resume(struct vmm_iothread *thread);

VMM_END_DECLS

#endif
