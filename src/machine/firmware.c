/* SPDX-License-Identifier: BSD-3-Clause */
/* Firmware from a file, and the flash in which UEFI keeps its variables, whose contents are a file's. */
#include "machine/firmware.h"
#include "backends/block/raw.h"
#include "base/util.h"

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

/* All of a file that is a whole number of blocks. */
static int read_blocks(const char *what, const char *path, int fd, uint64_t least, uint64_t most,
                       uint64_t block, uint8_t **data, size_t *length, struct vmm_error *err)
{
    struct stat st;
    size_t done = 0;
    if (fstat(fd, &st))
        return vmm_error_set(err, -errno, "%s %s: %s", what, path, strerror(errno));
    uint64_t size = (uint64_t)st.st_size;
    if (!S_ISREG(st.st_mode) || size < least || size > most || size % block)
        return vmm_error_set(err, -EINVAL,
                             "%s %s: a file of %llu to %llu bytes, a multiple of %llu, is needed",
                             what, path, (unsigned long long)least, (unsigned long long)most,
                             (unsigned long long)block);
    *length = (size_t)size;
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
            return vmm_error_set(err, rc, "%s %s: %s", what, path, strerror(-rc));
        }
        done += (size_t)n;
    }
    return 0;
}

int vmm_machine_read_firmware(const char *path, uint64_t most, uint8_t **data, size_t *length,
                              struct vmm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return vmm_error_set(err, -errno, "firmware %s: %s", path, strerror(errno));
    int rc = read_blocks("firmware", path, fd, 0x10000, most, 4096, data, length, err);
    close(fd);
    return rc;
}

/* What `store` writes to, and what is in it now. */
static int open_vars(struct vmm_machine *m, uint64_t room, uint32_t block,
                     struct vmm_pflash_options *o, struct vmm_error *err)
{
    const char *path = m->options.firmware_vars;
    uint8_t *data = NULL;
    struct vars *vars = malloc(sizeof(*vars));
    if (!vars)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    vars->log = m->options.log;
    int rc = open_file(path, &vars->fd, err);
    if (rc) {
        free(vars);
        return rc;
    }
    rc = read_blocks("firmware variables", path, vars->fd, block, room, block, &data,
                     &o->data_length, err);
    if (rc) {
        release(vars);
        return rc;
    }
    o->data = data;
    o->store = store;
    o->release = release;
    o->ctx = vars;
    return 0;
}

int vmm_machine_add_vars(struct vmm_machine *m, const struct vmm_machine_vars *where,
                         struct vmm_pflash **out, struct vmm_error *err)
{
    struct vmm_pflash_options o = VMM_PFLASH_OPTIONS_INIT;
    o.name = "firmware-vars";
    o.memory = m->memory;
    o.mmio = m->mmio;
    o.priority = where->priority;
    o.bank_width = where->bank_width;
    o.block = where->block;
    int rc = m->options.firmware_vars ? open_vars(m, where->room, where->block, &o, err) : 0;
    if (rc)
        return rc;
    o.length = o.data_length ? o.data_length : where->blank;
    o.address = where->below ? where->below - o.length : where->address;
    rc = vmm_pflash_new(&o, out, err);
    free((void *)(uintptr_t)o.data);
    if (rc) {
        if (o.release)
            o.release(o.ctx);
        return rc;
    }
    return vmm_machine_add_device(m, vmm_pflash_device(*out));
}
