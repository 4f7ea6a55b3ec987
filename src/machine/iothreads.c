/* SPDX-License-Identifier: BSD-3-Clause */
/* The I/O threads of a machine's devices: held while something else than a device looks into all of them. */
#include "base/util.h"
#include "machine/internal.h"

#include <libvmm/iothread.h>

#include <stdlib.h>

int vmm_machine_add_iothread(struct vmm_machine *m, struct vmm_iothread *thread)
{
    if (!m || !thread)
        return -EINVAL;
    struct vmm_iothread **threads =
        realloc(m->iothreads, (m->iothread_count + 1) * sizeof(struct vmm_iothread *));
    if (!threads)
        return -ENOMEM;
    m->iothreads = threads;
    m->iothreads[m->iothread_count++] = vmm_iothread_ref(thread);
    return 0;
}

static void resume_first(struct vmm_machine *m, size_t count)
{
    while (count-- > 0)
        (void)vmm_iothread_resume(m->iothreads[count]);
}

int vmm_machine_pause_iothreads(struct vmm_machine *m, struct vmm_error *err)
{
    for (size_t i = 0; i < m->iothread_count; i++) {
        int rc = vmm_iothread_pause(m->iothreads[i]);
        if (rc) {
            resume_first(m, i);
            return vmm_error_set(err, rc, "not from a callback of an I/O thread");
        }
    }
    return 0;
}

void vmm_machine_resume_iothreads(struct vmm_machine *m)
{
    resume_first(m, m->iothread_count);
}

void vmm_machine_free_iothreads(struct vmm_machine *m)
{
    for (size_t i = 0; i < m->iothread_count; i++)
        vmm_iothread_unref(m->iothreads[i]);
    free(m->iothreads);
    m->iothreads = NULL;
    m->iothread_count = 0;
}
