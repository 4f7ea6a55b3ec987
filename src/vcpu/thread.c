/* SPDX-License-Identifier: BSD-3-Clause */
/* A thread that runs a vCPU, and the signal that interrupts it, for those who ask. */
#include "base/util.h"
#include "vcpu/internal.h"

#include <signal.h>
#include <stdio.h>

static void *vcpu_thread(void *arg)
{
    struct vmm_vcpu *vcpu = arg;
    struct vmm_exit exit = VMM_EXIT_INIT;
    char name[16];
    (void)snprintf(name, sizeof(name), "vcpu%u", vcpu->id);
    (void)pthread_setname_np(pthread_self(), name);
    for (;;) {
        int rc = vmm_vcpu_run(vcpu, &exit);
        bool stopped = rc == 0 && exit.reason == VMM_EXIT_STOPPED; /* before they change it */
        if (vcpu->exited(vcpu->exited_ctx, vcpu, rc ? NULL : &exit, rc) || rc || stopped)
            return NULL;
    }
}

/* What an instruction of the thread's own raises must reach its handler, or the process dies of it
 * without a word. */
static const int raised_by_code[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS};

int vmm_vcpu_thread_start(struct vmm_vcpu *vcpu,
                          int (*exited)(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit,
                                        int error),
                          void *ctx)
{
    if (!exited || !vmm_vm_kick_signal(vcpu->vm))
        return -EINVAL;
    if (vcpu->has_thread)
        return -EBUSY;
    vcpu->exited = exited;
    vcpu->exited_ctx = ctx;
    sigset_t set, old;
    sigfillset(&set);
    sigdelset(&set, (int)vmm_vm_kick_signal(vcpu->vm));
    for (size_t i = 0; i < VMM_ARRAY_SIZE(raised_by_code); i++)
        sigdelset(&set, raised_by_code[i]);
    int rc = -pthread_sigmask(SIG_SETMASK, &set, &old); /* the thread inherits it */
    if (rc)
        return rc;
    rc = -pthread_create(&vcpu->thread, NULL, vcpu_thread, vcpu);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    vcpu->has_thread = rc == 0;
    return rc;
}

int vmm_vcpu_thread_join(struct vmm_vcpu *vcpu)
{
    if (!vcpu->has_thread)
        return -ESRCH;
    int rc = -pthread_join(vcpu->thread, NULL);
    if (!rc)
        vcpu->has_thread = false;
    return rc;
}

/* The signal's only work is to interrupt KVM_RUN. */
static void kicked(int signal_number)
{
    (void)signal_number;
}

int vmm_kick_signal_install(int signal_number)
{
    struct sigaction now;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(raised_by_code); i++)
        if (signal_number == raised_by_code[i])
            return -EINVAL; /* returning from it would run the instruction again, for ever */
    if (sigaction(signal_number, NULL, &now))
        return -errno;
    if (now.sa_handler == kicked)
        return 0;
    if (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN)
        return -EBUSY;
    struct sigaction action = {.sa_handler = kicked, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    return sigaction(signal_number, &action, NULL) ? -errno : 0;
}
