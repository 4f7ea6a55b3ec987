/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saving and loading a machine. A snapshot is a device tree: /machine (what it was made of), /vm,
 * /cpu@N, then a node a device. The state that the processors and the VM have before the first
 * instruction is kept in the same form, and loading it is how a reset brings them back.
 */
#include "base/util.h"
#include "machine/internal.h"

#include <stdlib.h>

int vmm_machine_save_processors(struct vmm_machine *m, struct vmm_state_writer *w)
{
    int rc = vmm_vm_save(m->vm, w);
    for (uint32_t i = 0; i < m->vcpu_count && !rc; i++)
        rc = vmm_vcpu_save(m->vcpus[i], w);
    return rc;
}

int vmm_machine_load_processors(struct vmm_machine *m, struct vmm_state_reader *r,
                                struct vmm_error *err)
{
    int rc = vmm_vm_load(m->vm, r, err);
    for (uint32_t i = 0; i < m->vcpu_count && !rc; i++)
        rc = vmm_vcpu_load(m->vcpus[i], r, err);
    return rc;
}

static int finish_writer(struct vmm_state_writer *w, int rc, void **data, size_t *length,
                         struct vmm_error *err)
{
    if (!rc)
        rc = vmm_state_writer_finish(w, data, length);
    vmm_state_writer_free(w);
    return rc ? vmm_error_set(err, rc, "saving the machine's state: %s", strerror(-rc)) : 0;
}

int vmm_machine_keep_power_on(struct vmm_machine *m, struct vmm_error *err)
{
    struct vmm_state_writer *w;
    int rc = vmm_state_writer_new(&w);
    if (rc)
        return vmm_error_set(err, rc, "out of memory");
    rc = vmm_machine_save_processors(m, w);
    return finish_writer(w, rc, &m->power_on, &m->power_on_length, err);
}

static int save_identity(struct vmm_machine *m, struct vmm_state_writer *w)
{
    (void)vmm_state_begin(w, "machine", VMM_MACHINE_STATE_VERSION);
    (void)vmm_state_put_string(w, "board", m->board->name);
    (void)vmm_state_put_u32(w, "cpus", m->options.cpus);
    (void)vmm_state_put_u64(w, "memory-size", m->options.memory_size);
    return vmm_state_end(w);
}

static int save_all(struct vmm_machine *m, void **data, size_t *length, struct vmm_error *err)
{
    if (m->phase == MACHINE_NEW)
        return vmm_error_set(err, -EINVAL, "a machine is saved after it has been realized");
    struct vmm_state_writer *w;
    int rc = vmm_state_writer_new(&w);
    if (rc)
        return vmm_error_set(err, rc, "out of memory");
    rc = save_identity(m, w);
    if (!rc)
        rc = vmm_machine_save_processors(m, w);
    for (size_t i = 0; i < m->device_count && !rc; i++)
        rc = vmm_device_save(m->devices[i], w);
    return finish_writer(w, rc, data, length, err);
}

int vmm_machine_save(struct vmm_machine *m, void **data, size_t *length, struct vmm_error *err)
{
    int rc = vmm_machine_pause_iothreads(m, err);
    if (rc)
        return rc;
    rc = save_all(m, data, length, err);
    vmm_machine_resume_iothreads(m);
    return rc;
}

/* A snapshot is of this machine only if it was made with the same options. */
static int check_identity(struct vmm_machine *m, struct vmm_state_reader *r, struct vmm_error *err)
{
    uint32_t version, cpus;
    uint64_t memory_size;
    const char *board;
    int rc = vmm_state_enter(r, "machine", VMM_MACHINE_STATE_VERSION, &version, err);
    if (rc)
        return rc;
    rc = vmm_state_get_string(r, "board", &board, err);
    if (!rc)
        rc = vmm_state_get_u32(r, "cpus", UINT32_MAX, &cpus, err);
    if (!rc)
        rc = vmm_state_get_u64(r, "memory-size", UINT64_MAX, &memory_size, err);
    if (!rc && (strcmp(board, m->board->name) || cpus != m->options.cpus ||
                memory_size != m->options.memory_size))
        rc =
            vmm_error_set(err, -EINVAL,
                          "the snapshot is of board \"%.16s\" with %u processors and %llu bytes of "
                          "memory, this machine is \"%s\" with %u and %llu",
                          board, cpus, (unsigned long long)memory_size, m->board->name,
                          m->options.cpus, (unsigned long long)m->options.memory_size);
    (void)vmm_state_leave(r);
    return rc;
}

static int load_all(struct vmm_machine *m, struct vmm_state_reader *r, struct vmm_error *err)
{
    int rc = check_identity(m, r, err);
    for (size_t i = 0; i < m->device_count && !rc; i++)
        rc = vmm_device_load(m->devices[i], r, err);
    return rc ? rc : vmm_machine_load_processors(m, r, err);
}

/* The I/O threads are paused. */
static int load_or_go_back(struct vmm_machine *m, const void *data, size_t length,
                           struct vmm_error *err)
{
    /* What is there now, to go back to: a refused snapshot leaves the machine untouched. */
    void *before = NULL;
    size_t before_length = 0;
    struct vmm_state_reader *r;
    int rc = save_all(m, &before, &before_length, err);
    if (!rc)
        rc = vmm_state_reader_new(data, length, &r, err);
    if (rc) {
        free(before);
        return rc;
    }
    rc = load_all(m, r, err);
    vmm_state_reader_free(r);
    if (rc && vmm_state_reader_new(before, before_length, &r, NULL) == 0) {
        (void)load_all(m, r, NULL);
        vmm_state_reader_free(r);
    }
    free(before);
    return rc;
}

int vmm_machine_load(struct vmm_machine *m, const void *data, size_t length, struct vmm_error *err)
{
    if (m->phase == MACHINE_NEW || m->phase == MACHINE_RUNNING)
        return vmm_error_set(err, -EBUSY,
                             "state is loaded into a machine that is realized and not "
                             "running");
    int rc = vmm_machine_pause_iothreads(m, err);
    if (rc)
        return rc;
    rc = load_or_go_back(m, data, length, err);
    vmm_machine_resume_iothreads(m);
    return rc;
}
