/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The life of a machine: start, pause, the end that a vCPU or a device brings about, reset.
 *
 * The end comes from any thread by vmm_machine_end(): it writes the outcome down, tells every vCPU
 * to stop and wakes the loop's thread by a timer. That thread joins the vCPU threads and then
 * either starts the machine anew or tells the embedder.
 */
#include "base/util.h"
#include "machine/internal.h"

#include <stdio.h>

const char *vmm_end_name(uint32_t reason)
{
    static const char *const names[] = {"none",       "power-off", "reset",     "crash",
                                        "debug-exit", "stopped",   "host-error"};
    return reason < VMM_ARRAY_SIZE(names) ? names[reason] : "unknown";
}

/* Write the outcome down. false: there is one already. */
static bool note_outcome(struct vmm_machine *m, uint32_t reason, int32_t status,
                         struct vmm_vcpu *vcpu, const struct vmm_exit *exit)
{
    pthread_mutex_lock(&m->lock);
    bool first = m->outcome.reason == VMM_END_NONE;
    if (first) {
        m->outcome.reason = reason;
        m->outcome.status = status;
        m->outcome.vcpu = vcpu ? vmm_vcpu_id(vcpu) : 0;
        m->outcome.text = NULL;
        if (exit)
            m->outcome.exit = *exit;
        if (vcpu && exit && m->board->describe) {
            m->board->describe(vcpu, exit, m->text, sizeof(m->text));
            m->outcome.text = m->text;
        }
    }
    pthread_mutex_unlock(&m->lock);
    return first;
}

static void end(struct vmm_machine *m, uint32_t reason, int32_t status, struct vmm_vcpu *vcpu,
                const struct vmm_exit *exit)
{
    if (!note_outcome(m, reason, status, vcpu, exit))
        return;
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vmm_vcpu_stop(m->vcpus[i]);
    (void)vmm_timer_set(m->end_timer, 0);
}

void vmm_machine_end(struct vmm_machine *m, uint32_t reason, int32_t status)
{
    end(m, reason, status, NULL, NULL);
}

/* On a vCPU's thread. Non-zero ends it. */
static int vcpu_exited(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit, int error)
{
    struct vmm_machine *m = ctx;
    if (!exit) {
        end(m, VMM_END_HOST_ERROR, error, NULL, NULL);
        return 1;
    }
    switch (exit->reason) {
    case VMM_EXIT_STOPPED:
        return 1;
    case VMM_EXIT_KICKED:
    case VMM_EXIT_IRQ_WINDOW:
    case VMM_EXIT_IOAPIC_EOI:
    case VMM_EXIT_TPR:
    case VMM_EXIT_DIRTY_RING:
        return 0;
    case VMM_EXIT_SYSTEM_EVENT:
        end(m,
            exit->u.system_event.type == 1   ? VMM_END_POWER_OFF
            : exit->u.system_event.type == 2 ? VMM_END_RESET
                                             : VMM_END_CRASH,
            0, vcpu, exit);
        return 1;
    default:
        end(m, VMM_END_CRASH, 0, vcpu, exit);
        return 1;
    }
}

void vmm_machine_join(struct vmm_machine *m)
{
    for (uint32_t i = 0; i < m->threads; i++)
        (void)vmm_vcpu_thread_join(m->vcpus[i]);
    m->threads = 0;
}

static int start_threads(struct vmm_machine *m, struct vmm_error *err)
{
    for (uint32_t i = 0; i < m->vcpu_count; i++)
        vmm_vcpu_restart(m->vcpus[i]);
    m->phase = MACHINE_RUNNING;
    for (uint32_t i = 0; i < m->vcpu_count; i++) {
        int rc = vmm_vcpu_thread_start(m->vcpus[i], vcpu_exited, m);
        if (rc) {
            end(m, VMM_END_HOST_ERROR, rc, NULL, NULL);
            vmm_machine_join(m);
            m->phase = MACHINE_ENDED;
            return vmm_error_set(err, rc, "the thread of vCPU %u: %s", i, strerror(-rc));
        }
        m->threads++;
    }
    return 0;
}

int vmm_machine_start(struct vmm_machine *m, struct vmm_error *err)
{
    if (m->phase == MACHINE_NEW) {
        int rc = vmm_machine_realize(m, err);
        if (rc)
            return rc;
    }
    if (m->phase == MACHINE_RUNNING)
        return vmm_error_set(err, -EALREADY, "the machine is running");
    if (m->phase == MACHINE_ENDED)
        return vmm_error_set(err, -EINVAL, "the machine has ended: reset it first");
    return start_threads(m, err);
}

static int restart(struct vmm_machine *m, struct vmm_error *err)
{
    int rc = vmm_machine_reset(m, err);
    return rc ? rc : start_threads(m, err);
}

/* The loop's thread, after the end. */
void vmm_machine_finish(void *machine)
{
    struct vmm_machine *m = machine;
    if (m->phase != MACHINE_RUNNING || m->outcome.reason == VMM_END_NONE)
        return;
    vmm_machine_join(m);
    m->phase = MACHINE_ENDED;
    if (m->outcome.reason == VMM_END_RESET && m->options.on_reset == VMM_ON_RESET_RESTART) {
        struct vmm_error err = VMM_ERROR_INIT;
        int rc = restart(m, &err);
        if (rc == 0)
            return;
        m->outcome = (struct vmm_outcome)VMM_OUTCOME_INIT;
        m->outcome.reason = VMM_END_HOST_ERROR;
        m->outcome.status = rc;
        (void)snprintf(m->text, sizeof(m->text), "reset: %s\n", err.text);
        m->outcome.text = m->text;
    }
    if (m->options.ended)
        m->options.ended(m->options.ended_ctx, &m->outcome);
}

int vmm_machine_stop(struct vmm_machine *m)
{
    if (m->phase != MACHINE_RUNNING)
        return 0;
    end(m, VMM_END_STOPPED, 0, NULL, NULL);
    vmm_machine_join(m);
    m->phase = MACHINE_ENDED;
    vmm_timer_cancel(m->end_timer);
    if (m->options.ended)
        m->options.ended(m->options.ended_ctx, &m->outcome);
    return 0;
}

int vmm_machine_pause(struct vmm_machine *m)
{
    for (uint32_t i = 0; i < m->vcpu_count; i++) {
        int rc = vmm_vcpu_pause(m->vcpus[i]);
        if (rc) {
            while (i-- > 0)
                (void)vmm_vcpu_resume(m->vcpus[i]);
            return rc;
        }
    }
    return 0;
}

int vmm_machine_resume(struct vmm_machine *m)
{
    int result = 0;
    for (uint32_t i = 0; i < m->vcpu_count; i++) {
        int rc = vmm_vcpu_resume(m->vcpus[i]);
        result = result ? result : rc;
    }
    return result;
}

int vmm_machine_reset(struct vmm_machine *m, struct vmm_error *err)
{
    if (m->phase == MACHINE_NEW || m->phase == MACHINE_RUNNING)
        return vmm_error_set(err, -EBUSY, "reset needs a machine that is realized and not running");
    struct vmm_state_reader *r;
    int rc = vmm_state_reader_new(m->power_on, m->power_on_length, &r, err);
    if (rc)
        return rc;
    rc = vmm_machine_pause_iothreads(m, err);
    if (rc) {
        vmm_state_reader_free(r);
        return rc;
    }
    for (size_t i = 0; i < m->device_count; i++)
        vmm_device_reset(m->devices[i]);
    vmm_machine_resume_iothreads(m);
    rc = vmm_machine_load_processors(m, r, err);
    vmm_state_reader_free(r);
    if (!rc)
        rc = m->board->load(m, err);
    if (rc)
        return rc;
    pthread_mutex_lock(&m->lock);
    m->outcome = (struct vmm_outcome)VMM_OUTCOME_INIT;
    pthread_mutex_unlock(&m->lock);
    m->phase = MACHINE_REALIZED;
    return 0;
}

int vmm_machine_get_outcome(const struct vmm_machine *machine, struct vmm_outcome *outcome)
{
    struct vmm_machine *m = (struct vmm_machine *)(uintptr_t)machine;
    pthread_mutex_lock(&m->lock);
    int rc = vmm_info_copy(outcome, &m->outcome, sizeof(m->outcome));
    pthread_mutex_unlock(&m->lock);
    return rc;
}

int vmm_machine_wait(struct vmm_machine *m, int timeout_ms, struct vmm_outcome *outcome)
{
    uint64_t deadline =
        vmm_loop_now(m->loop) + (uint64_t)(timeout_ms < 0 ? 0 : timeout_ms) * 1000000;
    while (m->phase == MACHINE_RUNNING) {
        int left = -1;
        if (timeout_ms >= 0) {
            uint64_t now = vmm_loop_now(m->loop);
            if (now >= deadline)
                return -ETIMEDOUT;
            left = (int)((deadline - now + 999999) / 1000000);
        }
        int rc = vmm_loop_dispatch(m->loop, left);
        if (rc < 0)
            return rc;
    }
    if (m->phase != MACHINE_ENDED)
        return -EINVAL;
    return outcome ? vmm_machine_get_outcome(m, outcome) : 0;
}
