/* SPDX-License-Identifier: BSD-3-Clause */
/* Output appended to a file. */
#include "backends/char/chardev.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int fd_of(void *ctx)
{
    return (int)(intptr_t)ctx;
}

static long file_write(void *ctx, const uint8_t *data, size_t length)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = write(fd_of(ctx), data + done, length - done);
        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            return -errno; /* a full disk may have room for what comes later */
    }
    return (long)length;
}

static void file_destroy(void *ctx)
{
    close(fd_of(ctx));
}

/* Only what never makes a writer wait for a reader: files, /dev/null and the like. */
static int check_kind(int fd)
{
    struct stat st;
    if (fstat(fd, &st) < 0)
        return -errno;
    bool ok = S_ISREG(st.st_mode) || (S_ISCHR(st.st_mode) && !isatty(fd));
    return ok ? 0 : -EINVAL;
}

int vmm_chardev_new_file(const char *path, struct vmm_chardev **out, struct vmm_error *err)
{
    static const struct vmm_chardev_ops ops = {sizeof(ops), file_write, NULL, file_destroy};
    if (!path || !*path || !out)
        return vmm_error_set(err, -EINVAL, "file: a path and a result are needed");
    /* Without blocking: opening a FIFO would wait for its reader. */
    int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0600);
    if (fd < 0 && errno != ENXIO)
        return vmm_error_set(err, -errno, "file %s: cannot open it for appending: %s", path,
                             strerror(errno));
    int ret = fd < 0 ? -EINVAL : check_kind(fd);
    if (ret == 0)
        ret = vmm_chardev_new(&ops, (void *)(intptr_t)fd, out);
    if (ret < 0 && fd >= 0)
        close(fd);
    if (ret == -EINVAL)
        return vmm_error_set(err, ret,
                             "file %s: not a regular file; open terminals and pipes and give their "
                             "descriptor",
                             path);
    return ret < 0 ? vmm_error_set(err, ret, "file %s: %s", path, strerror(-ret)) : 0;
}
