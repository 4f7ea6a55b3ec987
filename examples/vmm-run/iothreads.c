/* SPDX-License-Identifier: BSD-3-Clause */
/* --iothreads */
#include "iothreads.h"

#include <stdio.h>
#include <string.h>

int iothreads_init(struct iothreads *threads, uint32_t count, struct vmm_machine *machine,
                   struct vmm_error *err)
{
    *threads = (struct iothreads){.count = 0};
    while (threads->count < count) {
        char name[16];
        struct vmm_iothread **t = &threads->thread[threads->count];
        (void)snprintf(name, sizeof(name), "io-%u", threads->count);
        int rc = vmm_iothread_new(name, t);
        if (!rc) {
            threads->count++;
            rc = vmm_machine_add_iothread(machine, *t);
        }
        if (rc)
            return vmm_error_set(err, rc, "--iothreads: %s", strerror(-rc));
    }
    return 0;
}

struct vmm_loop *iothreads_loop(struct iothreads *threads, struct vmm_machine *machine)
{
    if (!threads->count)
        return vmm_machine_loop(machine);
    return vmm_iothread_loop(threads->thread[threads->next++ % threads->count]);
}

void iothreads_stop(struct iothreads *threads)
{
    for (uint32_t i = 0; i < threads->count; i++)
        (void)vmm_iothread_pause(threads->thread[i]);
}

void iothreads_forget(struct iothreads *threads)
{
    for (uint32_t i = 0; i < threads->count; i++)
        vmm_iothread_unref(threads->thread[i]);
    threads->count = 0;
}
