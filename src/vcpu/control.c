/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kick, pause, resume, stop: from any thread, against the thread that runs the vCPU.
 *
 * The protocol. `request` holds what is asked for; `where` says where the running thread is.
 *  - The asking thread changes `request` first, then sets kvm_run.immediate_exit, then, if a thread
 *    is inside vmm_vcpu_run() and not parked, sends it the signal.
 *  - The running thread stores `where`, then reads `request`, then enters KVM_RUN. When KVM_RUN comes
 *    back interrupted it clears immediate_exit and then reads `request` again.
 * All of these are sequentially consistent. So a request that comes before the read is seen by it;
 * one that comes after finds immediate_exit set when KVM_RUN begins, which then returns at once; and
 * one that comes while the guest runs is brought by the signal. Clearing immediate_exit cannot lose
 * a request, since the request was stored before the flag was set and is read after it is cleared.
 *
 * Nobody signals a thread that has left. The upper bits of `where` count the threads that are about
 * to send a signal; the count can only rise while the lower bits say that the thread is in, and the
 * running thread, having taken these back, waits for the count to fall to zero before it returns to
 * its caller. So it is alive while it is being signalled, and its pthread_t may be used without a
 * system call to find out a thread id with each vmm_vcpu_run().
 *
 * Who pauses waits until the thread is parked or out. A thread that comes in reads `request` after it
 * has stored `where` and touches nothing of the vCPU's before, so a vCPU that was paused while no
 * thread ran it stays as it is.
 *
 * kick and stop use nothing but atomics, pthread_kill and futex: they are async-signal-safe.
 */
#include "vcpu/control.h"
#include "base/util.h"
#include "vcpu/internal.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

static void futex_wake_all(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value)
{
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, value, NULL, NULL, 0);
}

/* Keep the running thread inside vmm_vcpu_run(). false: there is none, or it is parked. */
static bool hold_runner(struct vmm_vcpu *vcpu)
{
    uint32_t where = atomic_load(&vcpu->where);
    do {
        if ((where & WHERE_MASK) != WHERE_IN)
            return false;
    } while (!atomic_compare_exchange_weak(&vcpu->where, &where, where + WHERE_HOLD));
    return true;
}

static void let_runner_go(struct vmm_vcpu *vcpu)
{
    if (atomic_fetch_sub(&vcpu->where, WHERE_HOLD) == (WHERE_OUT | WHERE_HOLD))
        futex_wake_all(&vcpu->where); /* it waits for us */
}

/* Get the running thread to look at `request`. Keeps errno, for signal handlers. */
static void poke(struct vmm_vcpu *vcpu)
{
    int saved = errno;
    int signal_number = (int)vmm_vm_kick_signal(vcpu->vm);
    __atomic_store_n(&vcpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
    if (signal_number && hold_runner(vcpu)) {
        /* On the running thread itself (a handler, a signal) the flag is enough. */
        if (!pthread_equal(vcpu->runner, pthread_self()))
            (void)pthread_kill(vcpu->runner, signal_number);
        let_runner_go(vcpu);
    }
    errno = saved;
}

void vmm_vcpu_kick(struct vmm_vcpu *vcpu)
{
    atomic_fetch_or(&vcpu->request, REQUEST_KICK);
    poke(vcpu);
}

void vmm_vcpu_stop(struct vmm_vcpu *vcpu)
{
    int saved = errno;
    atomic_fetch_or(&vcpu->request, REQUEST_STOP);
    poke(vcpu);
    futex_wake_all(&vcpu->request); /* it may be parked */
    errno = saved;
}

void vmm_vcpu_restart(struct vmm_vcpu *vcpu)
{
    atomic_fetch_and(&vcpu->request, ~REQUEST_STOP);
}

static bool on_running_thread(struct vmm_vcpu *vcpu)
{
    if (!hold_runner(vcpu))
        return false;
    bool same = pthread_equal(vcpu->runner, pthread_self()) != 0;
    let_runner_go(vcpu);
    return same;
}

int vmm_vcpu_pause(struct vmm_vcpu *vcpu)
{
    if (on_running_thread(vcpu))
        return -EDEADLK;
    atomic_fetch_add(&vcpu->request, REQUEST_PAUSE);
    poke(vcpu);
    for (;;) {
        uint32_t where = atomic_load(&vcpu->where);
        if ((where & WHERE_MASK) != WHERE_IN)
            return 0;
        futex_wait(&vcpu->where, where);
    }
}

int vmm_vcpu_resume(struct vmm_vcpu *vcpu)
{
    uint32_t request = atomic_load(&vcpu->request);
    do {
        if (request < REQUEST_PAUSE)
            return -EINVAL;
    } while (!atomic_compare_exchange_weak(&vcpu->request, &request, request - REQUEST_PAUSE));
    futex_wake_all(&vcpu->request);
    return 0;
}

/*
 * Keeping out of the guest is a protocol of its own, since it must not wait for I/O handlers: the
 * running thread stores `in_guest` and then reads `kept_out`; the other side changes `kept_out` and
 * then reads `in_guest`, all sequentially consistent. So either it waits, or it is fetched out.
 */
int vmm_vcpu_keep_out(struct vmm_vcpu *vcpu)
{
    atomic_fetch_add(&vcpu->kept_out, 1);
    if (!atomic_load(&vcpu->in_guest))
        return 0;
    atomic_store(&vcpu->fetched_out, true);
    poke(vcpu);
    if (!vmm_vm_kick_signal(vcpu->vm))
        return -EOPNOTSUPP;
    while (atomic_load(&vcpu->in_guest))
        futex_wait(&vcpu->in_guest, 1);
    return 0;
}

void vmm_vcpu_let_in(struct vmm_vcpu *vcpu)
{
    if (atomic_fetch_sub(&vcpu->kept_out, 1) == 1)
        futex_wake_all(&vcpu->kept_out);
}

void vmm_vcpu_tell_out(struct vmm_vcpu *vcpu)
{
    futex_wake_all(&vcpu->in_guest);
}

void vmm_vcpu_wait_to_enter(struct vmm_vcpu *vcpu)
{
    uint32_t count;
    while ((count = atomic_load(&vcpu->kept_out)) != 0) {
        vmm_vcpu_left_guest(vcpu);
        futex_wait(&vcpu->kept_out, count);
        atomic_store(&vcpu->in_guest, 1);
    }
}

/* On the running thread: wait until nobody wants it paused any more. true: it is to stop, and may
 * still be paused: touch nothing. */
static bool park(struct vmm_vcpu *vcpu)
{
    uint32_t request;
    atomic_fetch_add(&vcpu->where, WHERE_PARKED - WHERE_IN);
    futex_wake_all(&vcpu->where);
    for (;;) {
        request = atomic_load(&vcpu->request);
        if (request < REQUEST_PAUSE || request & REQUEST_STOP)
            break;
        futex_wait(&vcpu->request, request);
    }
    /* Who calls this reads `request` again, so a pause that still saw us parked holds. */
    atomic_fetch_sub(&vcpu->where, WHERE_PARKED - WHERE_IN);
    return (request & REQUEST_STOP) != 0;
}

bool vmm_vcpu_enter_run(struct vmm_vcpu *vcpu)
{
    vcpu->runner = pthread_self(); /* nobody looks at it: the thread is out and nobody holds it */
    atomic_store(&vcpu->where, WHERE_IN);
    while (atomic_load(&vcpu->request) >= REQUEST_PAUSE)
        if (park(vcpu))
            return false;
    return true;
}

uint32_t vmm_vcpu_serve_requests(struct vmm_vcpu *vcpu)
{
    for (;;) {
        uint32_t request = atomic_load(&vcpu->request);
        if (request & REQUEST_STOP)
            return VMM_EXIT_STOPPED;
        if (request >= REQUEST_PAUSE) {
            (void)park(vcpu);
            continue;
        }
        if (!(request & REQUEST_KICK))
            return VMM_EXIT_UNKNOWN;
        atomic_fetch_and(&vcpu->request, ~REQUEST_KICK);
        return VMM_EXIT_KICKED;
    }
}

void vmm_vcpu_leave_run(struct vmm_vcpu *vcpu)
{
    uint32_t where = atomic_fetch_and(&vcpu->where, ~WHERE_MASK) & ~WHERE_MASK;
    while (where) { /* someone is sending us a signal */
        futex_wait(&vcpu->where, where);
        where = atomic_load(&vcpu->where);
    }
    /* A thread waits for `where` only after it has asked for a pause, and that request is still
     * there when it does: no request, nobody to wake. */
    if (atomic_load(&vcpu->request) >= REQUEST_PAUSE)
        futex_wake_all(&vcpu->where);
}
