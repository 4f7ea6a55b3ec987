/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Image locks that QEMU understands (its documentation of image locking: "Image locking" in the
 * manual's disk images chapter). There are four permissions. Who uses one holds a shared lock on byte
 * 100 + its number; who does not want others to use it, one on byte 200 + its number. A conflict is
 * found by asking whether the byte could be locked exclusively. The locks belong to the open file
 * description, so they go with the last descriptor.
 */
#include "backends/block/raw.h"
#include "base/util.h"

#include <fcntl.h>

#define USED_BASE     100
#define UNSHARED_BASE 200
#define PERMISSIONS   4u

#define CONSISTENT_READ 0x1u
#define WRITE           0x2u
#define RESIZE          0x8u

static int set_lock(int fd, short type, off_t byte)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    int rc;
    do
        rc = fcntl(fd, F_OFD_SETLK, &lock);
    while (rc < 0 && errno == EINTR);
    return rc < 0 ? -errno : 0;
}

static bool held_by_another(int fd, off_t byte)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

void vmm_raw_unlock(int fd)
{
    for (uint32_t i = 0; i < PERMISSIONS; i++) {
        (void)set_lock(fd, F_UNLCK, USED_BASE + (off_t)i);
        (void)set_lock(fd, F_UNLCK, UNSHARED_BASE + (off_t)i);
    }
}

int vmm_raw_lock(int fd, bool read_only)
{
    uint32_t used = read_only ? CONSISTENT_READ : CONSISTENT_READ | WRITE | RESIZE;
    uint32_t unshared = WRITE | RESIZE;
    bool conflict = false;
    int rc = 0;
    /* Our own first, then the look at the others': of two that come together at least one sees it. */
    for (uint32_t i = 0; i < PERMISSIONS && !rc; i++) {
        if (used & 1u << i)
            rc = set_lock(fd, F_RDLCK, USED_BASE + (off_t)i);
        if (!rc && (unshared & 1u << i))
            rc = set_lock(fd, F_RDLCK, UNSHARED_BASE + (off_t)i);
    }
    for (uint32_t i = 0; i < PERMISSIONS && !rc; i++)
        conflict |= ((used & 1u << i) && held_by_another(fd, UNSHARED_BASE + (off_t)i)) ||
                    ((unshared & 1u << i) && held_by_another(fd, USED_BASE + (off_t)i));
    if (rc == -EAGAIN || rc == -EACCES)
        conflict = true;
    if (conflict)
        vmm_raw_unlock(fd);
    return conflict ? -EBUSY : 0; /* else: no locks on this file system */
}
