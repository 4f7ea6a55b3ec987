/* SPDX-License-Identifier: BSD-3-Clause */
/* A file's bytes, wherever they are: reads that cannot leave it. */
#include "loader/source.h"

#include "base/util.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define BOUNCE_SIZE (64u * 1024)

bool vmm_file_given(const struct vmm_file *file)
{
    return file->path || file->data || file->fd >= 0;
}

static int open_descriptor(struct vmm_source *source, const struct vmm_file *file,
                           struct vmm_error *err)
{
    source->fd = file->fd;
    if (file->path) {
        /* O_NONBLOCK: a named pipe must be refused, not waited for. */
        source->fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        if (source->fd < 0) {
            int code = -errno;
            return vmm_error_set(err, code, "%s: cannot open %s: %s", source->name, file->path,
                                 strerror(-code));
        }
        source->owned = true;
    }
    struct stat st;
    if (fstat(source->fd, &st) < 0) {
        int code = -errno;
        return vmm_error_set(err, code, "%s: cannot use descriptor %d: %s", source->name,
                             source->fd, strerror(-code));
    }
    /* The seek, not st_size: that is 0 for a block device. */
    off_t end = S_ISREG(st.st_mode)   ? st.st_size
                : S_ISBLK(st.st_mode) ? lseek(source->fd, 0, SEEK_END)
                                      : -1;
    if (end < 0)
        return vmm_error_set(err, -EINVAL, "%s: %s is not a regular file", source->name,
                             file->path ? file->path : "the descriptor");
    source->length = (uint64_t)end;
    return 0;
}

int vmm_source_open(struct vmm_source *source, const char *name, const struct vmm_file *file,
                    struct vmm_error *err)
{
    *source = (struct vmm_source)VMM_SOURCE_NONE;
    source->name = name;
    int rc = 0;
    if (!file->path && file->data) {
        source->data = file->data;
        source->length = file->data_length;
    } else {
        rc = open_descriptor(source, file, err);
    }
    if (!rc && source->length == 0)
        rc = vmm_error_set(err, -ENOEXEC, "%s: the file is empty", name);
    if (rc)
        vmm_source_close(source);
    return rc;
}

void vmm_source_own(struct vmm_source *source, const char *name, void *data, size_t length)
{
    *source = (struct vmm_source){name, data, length, -1, true};
}

void vmm_source_close(struct vmm_source *source)
{
    if (source->owned) {
        if (source->data)
            free((void *)(uintptr_t)source->data);
        else if (source->fd >= 0)
            close(source->fd);
    }
    *source = (struct vmm_source)VMM_SOURCE_NONE;
}

bool vmm_source_has(const struct vmm_source *source, uint64_t offset, uint64_t length)
{
    return offset <= source->length && length <= source->length - offset;
}

/* The range is inside the length that was seen at the opening. */
static int read_descriptor(const struct vmm_source *source, uint64_t offset, uint8_t *data,
                           size_t length, struct vmm_error *err)
{
    while (length) {
        ssize_t n = pread(source->fd, data, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0) {
            int code = -errno;
            return vmm_error_set(err, code, "%s: reading failed at byte %llu: %s", source->name,
                                 (unsigned long long)offset, strerror(-code));
        }
        if (n == 0)
            return vmm_error_set(err, -EIO, "%s: the file became shorter while it was read",
                                 source->name);
        data += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

static int check_range(const struct vmm_source *source, uint64_t offset, uint64_t length,
                       const char *what, struct vmm_error *err)
{
    if (vmm_source_has(source, offset, length))
        return 0;
    return vmm_error_set(err, -ENOEXEC,
                         "%s: truncated: %s is %llu bytes at offset %llu, the file has %llu",
                         source->name, what, (unsigned long long)length, (unsigned long long)offset,
                         (unsigned long long)source->length);
}

int vmm_source_read(const struct vmm_source *source, uint64_t offset, void *data, size_t length,
                    const char *what, struct vmm_error *err)
{
    int rc = check_range(source, offset, length, what, err);
    if (rc)
        return rc;
    if (!source->data)
        return read_descriptor(source, offset, data, length, err);
    memcpy(data, source->data + offset, length);
    return 0;
}

/* For ranges that cross backings and so cannot be mapped at once. */
static int load_by_pieces(const struct vmm_source *source, uint64_t offset, uint64_t length,
                          struct vmm_memory *memory, uint64_t address, struct vmm_error *err)
{
    uint8_t *bounce = malloc(BOUNCE_SIZE);
    if (!bounce)
        return vmm_error_set(err, -ENOMEM, "%s: out of memory", source->name);
    int rc = 0;
    while (length && !rc) {
        size_t n = length < BOUNCE_SIZE ? (size_t)length : BOUNCE_SIZE;
        rc = vmm_source_read(source, offset, bounce, n, "the file", err);
        if (!rc) {
            rc = vmm_memory_write(memory, address, bounce, n);
            if (rc)
                vmm_error_set(err, rc, "%s: no RAM at guest address 0x%llx", source->name,
                              (unsigned long long)address);
        }
        offset += n;
        address += n;
        length -= n;
    }
    free(bounce);
    return rc;
}

int vmm_source_load(const struct vmm_source *source, uint64_t offset, uint64_t length,
                    struct vmm_memory *memory, uint64_t address, const char *what,
                    struct vmm_error *err)
{
    int rc = check_range(source, offset, length, what, err);
    if (rc || length == 0)
        return rc;
    struct vmm_mapping mapping;
    if (vmm_memory_map(memory, address, (size_t)length, VMM_MAP_WRITE, &mapping) != 0)
        return load_by_pieces(source, offset, length, memory, address, err);
    rc = vmm_source_read(source, offset, mapping.data, (size_t)length, what, err);
    vmm_memory_unmap(memory, &mapping);
    return rc;
}
