/* SPDX-License-Identifier: BSD-3-Clause */
/* The flash chip below the firmware, where UEFI keeps its variables; its contents are a file's. */
#include "backends/block/raw.h"
#include "base/util.h"
#include "machine/x86/pc.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct vars {
    int fd;
    struct vmm_log log;
};

/* Into the host's page cache: it outlives this process, not the host. */
static int store(void *ctx, uint64_t offset, const void *data, size_t length)
{
    const struct vars *vars = ctx;
    size_t done = 0;
    while (done < length) {
        ssize_t n =
            pwrite(vars->fd, (const uint8_t *)data + done, length - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int rc = n ? -errno : -EIO;
            vmm_log_write(&vars->log, VMM_LOG_ERROR, "firmware-vars",
                          "a write of the firmware's failed: %s", strerror(-rc));
            return rc;
        }
        done += (size_t)n;
    }
    return 0;
}

static void release(void *ctx)
{
    struct vars *vars = ctx;
    close(vars->fd);
    free(vars);
}

/* Locked as disk images are: two machines would spoil it. */
static int open_file(const char *path, int *out, struct vmm_error *err)
{
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return vmm_error_set(err, -errno, "firmware variables %s: %s", path, strerror(errno));
    int rc = vmm_raw_lock(fd, false);
    if (rc) {
        close(fd);
        return vmm_error_set(err, rc, "firmware variables %s: another machine uses them", path);
    }
    *out = fd;
    return 0;
}

static int read_file(const char *path, int fd, uint64_t room, uint8_t **data, size_t *length,
                     struct vmm_error *err)
{
    struct stat st;
    size_t done = 0;
    if (fstat(fd, &st))
        return vmm_error_set(err, -errno, "firmware variables %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) || st.st_size <= 0 || (uint64_t)st.st_size > room ||
        st.st_size % VMM_PFLASH_BLOCK)
        return vmm_error_set(err, -EINVAL,
                             "firmware variables %s: a file is needed of a multiple of %u bytes, "
                             "16 MiB at most with the firmware",
                             path, VMM_PFLASH_BLOCK);
    *length = (size_t)st.st_size;
    *data = malloc(*length);
    if (!*data)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    while (done < *length) {
        ssize_t n = pread(fd, *data + done, *length - done, (off_t)done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            int rc = n ? -errno : -EIO;
            free(*data);
            return vmm_error_set(err, rc, "firmware variables %s: %s", path, strerror(-rc));
        }
        done += (size_t)n;
    }
    return 0;
}

static int make_chip(struct vmm_machine *m, struct vars *vars, const uint8_t *data, size_t length,
                     uint64_t end, struct vmm_error *err)
{
    struct pc *pc = m->board_data;
    struct vmm_pflash_options o = VMM_PFLASH_OPTIONS_INIT;
    o.name = "firmware-vars";
    o.memory = m->memory;
    o.mmio = m->mmio;
    o.address = end - length;
    o.length = o.data_length = length;
    o.data = data;
    o.priority = PC_OVER_RAM;
    o.store = store;
    o.release = release;
    o.ctx = vars;
    return vmm_pflash_new(&o, &pc->flash, err);
}

int vmm_pc_add_flash(struct vmm_machine *m, uint64_t end, struct vmm_error *err)
{
    const char *path = m->options.firmware_vars;
    struct pc *pc = m->board_data;
    uint8_t *data = NULL;
    size_t length = 0;
    if (!path)
        return 0;
    struct vars *vars = malloc(sizeof(*vars));
    if (!vars)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    vars->log = m->options.log;
    int rc = open_file(path, &vars->fd, err);
    if (rc) {
        free(vars);
        return rc;
    }
    rc = read_file(path, vars->fd, PC_FIRMWARE_MAX - (PC_HIGH_MEMORY - end), &data, &length, err);
    if (!rc) {
        rc = make_chip(m, vars, data, length, end, err);
        free(data);
    }
    if (rc) {
        release(vars);
        return rc;
    }
    return vmm_machine_add_device(m, vmm_pflash_device(pc->flash));
}
