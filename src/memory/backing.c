/* SPDX-License-Identifier: BSD-3-Clause */
/* Host memory behind guest memory: how each kind is made. */
#include "base/util.h"
#include "memory/internal.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/mempolicy.h>

#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)

/* Memory is aligned so that host and guest huge pages can meet. */
#define HUGE_ALIGNMENT (2 * MIB)

/* Where both memfd_create and mmap take the binary logarithm of the huge page size. */
#define HUGE_SHIFT 26

#define ALL_FLAGS (VMM_BACKING_MERGE * 2 - 1)

/* Checks --------------------------------------------------------------------------------------- */

static bool is_file(uint32_t kind)
{
    return kind == VMM_BACKING_FILE || kind == VMM_BACKING_FD;
}

static const char *flags_problem(uint32_t kind, uint32_t flags, bool hugetlb)
{
    if (flags & ~ALL_FLAGS)
        return "unknown flags";
    if ((flags & VMM_BACKING_SHARED) && !is_file(kind))
        return "VMM_BACKING_SHARED is for files";
    if ((flags & VMM_BACKING_READ_ONLY) && !is_file(kind) && kind != VMM_BACKING_HOST)
        return "VMM_BACKING_READ_ONLY is for files and the caller's memory";
    if ((flags & VMM_BACKING_SEAL) && kind != VMM_BACKING_MEMFD)
        return "VMM_BACKING_SEAL is for memfds";
    if ((flags & VMM_BACKING_THP) && (flags & VMM_BACKING_NO_THP))
        return "VMM_BACKING_THP and VMM_BACKING_NO_THP";
    if ((flags & (VMM_BACKING_THP | VMM_BACKING_NO_THP | VMM_BACKING_MERGE)) && hugetlb)
        return "huge pages from hugetlb are neither transparent nor merged";
    if ((flags & VMM_BACKING_MERGE) && (kind == VMM_BACKING_MEMFD || (flags & VMM_BACKING_SHARED)))
        return "shared memory cannot be merged";
    return NULL;
}

static const char *options_problem(const struct vmm_backing_options *o, uint64_t page)
{
    bool hugetlb = o->page_size != 0 && o->page_size != page;
    if (o->kind > VMM_BACKING_HOST)
        return "kind is none of VMM_BACKING_ANONYMOUS, …";
    if (hugetlb && o->page_size != 2 * MIB && o->page_size != GIB)
        return "page_size is neither 0, 2 MiB nor 1 GiB";
    if (hugetlb && o->kind != VMM_BACKING_ANONYMOUS && o->kind != VMM_BACKING_MEMFD)
        return "page_size is for anonymous memory and memfds; a file has that of its file system";
    if ((o->path != NULL) != (o->kind == VMM_BACKING_FILE))
        return "a path belongs to VMM_BACKING_FILE";
    if ((o->host != NULL) != (o->kind == VMM_BACKING_HOST))
        return "a host address belongs to VMM_BACKING_HOST";
    if (o->offset && !is_file(o->kind))
        return "an offset is for files";
    if (o->offset % page || !vmm_range_ok(o->offset, o->length) ||
        o->offset + (o->length - 1) > INT64_MAX)
        return "the offset is not a multiple of the page size, or beyond every file";
    if ((uintptr_t)o->host % page || !vmm_range_ok((uintptr_t)o->host, o->length))
        return "the host address is not a multiple of the page size, or wraps";
    if (o->numa_policy > VMM_NUMA_INTERLEAVE || (o->numa_policy && !o->numa_nodes))
        return "numa_policy is none of VMM_NUMA_…, or has no nodes";
    return flags_problem(o->kind, o->flags, hugetlb);
}

static int check(const struct vmm_backing_options *o, struct vmm_error *err)
{
    uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
    uint64_t unit = o->page_size ? o->page_size : page;
    if (o->length == 0 || o->length % unit != 0)
        return vmm_error_set(err, -EINVAL,
                             "backing: length 0x%" PRIx64
                             " is not a multiple of the page size %" PRIu64,
                             o->length, unit);
    const char *problem = options_problem(o, page);
    return problem ? vmm_error_set(err, -EINVAL, "backing: %s", problem) : 0;
}

/* Making --------------------------------------------------------------------------------------- */

static int reserve(struct vmm_backing *b, struct vmm_error *err)
{
    uint64_t alignment = b->page_size;
    if (alignment < HUGE_ALIGNMENT && b->length >= HUGE_ALIGNMENT)
        alignment = HUGE_ALIGNMENT;
    uint64_t guard = (uint64_t)sysconf(_SC_PAGESIZE);
    if (b->length > SIZE_MAX / 2)
        return vmm_error_set(err, -ENOMEM, "backing: 0x%" PRIx64 " bytes are too many", b->length);
    size_t length = (size_t)(b->length + 2 * guard + alignment);
    void *p = mmap(NULL, length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return vmm_error_set(err, -errno, "backing: no room for 0x%" PRIx64 " bytes: %s", b->length,
                             strerror(errno));
    b->reservation = p;
    b->reserved = length;
    b->data = (uint8_t *)vmm_align_up((uint64_t)(uintptr_t)p + guard, alignment);
    return 0;
}

static int open_memfd(struct vmm_backing *b, struct vmm_error *err)
{
    const struct vmm_backing_options *o = &b->options;
    unsigned flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;
    if (b->page_size != (uint64_t)sysconf(_SC_PAGESIZE))
        flags |= MFD_HUGETLB | (unsigned)__builtin_ctzll(b->page_size) << HUGE_SHIFT;
    b->fd = memfd_create(o->name ? o->name : "vmm", flags);
    if (b->fd < 0)
        return vmm_error_set(err, -errno, "backing: memfd_create: %s", strerror(errno));
    if (ftruncate(b->fd, (off_t)b->length) < 0)
        return vmm_error_set(err, -errno, "backing: memfd of 0x%" PRIx64 " bytes: %s", b->length,
                             strerror(errno));
    int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
    if ((o->flags & VMM_BACKING_SEAL) && fcntl(b->fd, F_ADD_SEALS, seals) < 0)
        return vmm_error_set(err, -errno, "backing: sealing the memfd: %s", strerror(errno));
    return 0;
}

static int open_file(struct vmm_backing *b, struct vmm_error *err)
{
    const struct vmm_backing_options *o = &b->options;
    const char *name = o->path ? o->path : "the caller's file";
    bool write = (o->flags & VMM_BACKING_SHARED) && !(o->flags & VMM_BACKING_READ_ONLY);
    if (o->path)
        b->fd = open(o->path, (write ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    else
        b->fd = fcntl(o->fd, F_DUPFD_CLOEXEC, 0);
    if (b->fd < 0)
        return vmm_error_set(err, -errno, "backing: %s: %s", name, strerror(errno));
    b->fd_offset = o->offset;
    struct stat st;
    if (fstat(b->fd, &st) < 0)
        return vmm_error_set(err, -errno, "backing: %s: %s", name, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return 0;
    /* What is beyond the end in the last page reads as zeros; a page beyond would be SIGBUS. */
    uint64_t end = vmm_align_up((uint64_t)st.st_size, b->page_size);
    if (o->offset > end || o->length > end - o->offset)
        return vmm_error_set(err, -ENXIO,
                             "backing: %s has %" PRIu64 " bytes, offset 0x%" PRIx64
                             " and length 0x%" PRIx64 " go beyond its end",
                             name, (uint64_t)st.st_size, o->offset, o->length);
    return 0;
}

static int map_memory(struct vmm_backing *b, struct vmm_error *err)
{
    const struct vmm_backing_options *o = &b->options;
    bool hugetlb = b->page_size != (uint64_t)sysconf(_SC_PAGESIZE);
    bool shared = o->kind == VMM_BACKING_MEMFD || (o->flags & VMM_BACKING_SHARED);
    int flags = MAP_FIXED | (shared ? MAP_SHARED : MAP_PRIVATE);
    int prot = PROT_READ | (o->flags & VMM_BACKING_READ_ONLY ? 0 : PROT_WRITE);
    /* Huge pages that were not reserved would be SIGBUS at the first touch. */
    if (!(o->flags & VMM_BACKING_RESERVE) && !hugetlb)
        flags |= MAP_NORESERVE;
    if (o->kind == VMM_BACKING_ANONYMOUS) {
        flags |= MAP_ANONYMOUS;
        if (hugetlb)
            flags |= MAP_HUGETLB | __builtin_ctzll(b->page_size) << HUGE_SHIFT;
    }
    if (mmap(b->data, (size_t)b->length, prot, flags, b->fd, (off_t)b->fd_offset) != MAP_FAILED)
        return 0;
    int code = -errno;
    return vmm_error_set(err, code, "backing: mapping 0x%" PRIx64 " bytes: %s%s", b->length,
                         strerror(-code),
                         hugetlb ? " (are there enough in /sys/kernel/mm/hugepages?)" : "");
}

static int advise(struct vmm_backing *b, uint32_t flag, int advice, const char *name,
                  struct vmm_error *err)
{
    if (!(b->options.flags & flag) || madvise(b->data, (size_t)b->length, advice) == 0)
        return 0;
    return vmm_error_set(err, -errno, "backing: %s: %s", name, strerror(errno));
}

static int bind_nodes(struct vmm_backing *b, struct vmm_error *err)
{
    static const int modes[] = {MPOL_BIND, MPOL_PREFERRED, MPOL_INTERLEAVE};
    unsigned long nodes = (unsigned long)b->options.numa_nodes;
    if (!nodes)
        return 0;
    if (b->options.numa_policy == VMM_NUMA_PREFERRED)
        nodes &= -nodes;
    /* The kernel looks at one bit less than it is told of. */
    long rc = syscall(SYS_mbind, b->data, (unsigned long)b->length, modes[b->options.numa_policy],
                      &nodes, 8 * sizeof(nodes) + 1, 0);
    if (rc == 0)
        return 0;
    return vmm_error_set(err, -errno, "backing: binding to NUMA nodes 0x%lx: %s", nodes,
                         strerror(errno));
}

static int tune(struct vmm_backing *b, struct vmm_error *err)
{
    int rc = bind_nodes(b, err);
    if (!rc)
        rc = advise(b, VMM_BACKING_THP, MADV_HUGEPAGE, "asking for transparent huge pages", err);
    if (!rc)
        rc = advise(b, VMM_BACKING_NO_THP, MADV_NOHUGEPAGE, "refusing transparent huge pages", err);
    if (!rc)
        rc = advise(b, VMM_BACKING_NO_DUMP, MADV_DONTDUMP, "keeping out of core dumps", err);
    return rc ? rc : advise(b, VMM_BACKING_MERGE, MADV_MERGEABLE, "asking for page merging", err);
}

static int make(struct vmm_backing *b, struct vmm_error *err)
{
    if (b->options.kind == VMM_BACKING_HOST) {
        b->data = b->options.host;
        return tune(b, err);
    }
    int rc = 0;
    if (b->options.kind == VMM_BACKING_MEMFD)
        rc = open_memfd(b, err);
    else if (is_file(b->options.kind))
        rc = open_file(b, err);
    if (!rc)
        rc = reserve(b, err);
    if (!rc)
        rc = map_memory(b, err);
    return rc ? rc : tune(b, err);
}

int vmm_backing_new(const struct vmm_backing_options *options, struct vmm_backing **out,
                    struct vmm_error *err)
{
    struct vmm_backing_options o;
    if (!options || !out)
        return vmm_error_set(err, -EINVAL, "backing: no options, or nowhere to put it");
    int rc = vmm_options_copy(&o, sizeof(o), options);
    if (rc)
        return vmm_error_set(err, rc, "backing: options of another version");
    rc = check(&o, err);
    if (rc)
        return rc;
    struct vmm_backing *b = calloc(1, sizeof(*b));
    if (!b)
        return vmm_error_set(err, -ENOMEM, "backing: out of memory");
    atomic_init(&b->refs, 1);
    pthread_mutex_init(&b->log.lock, NULL);
    b->fd = -1;
    b->page_size = o.page_size ? o.page_size : (uint64_t)sysconf(_SC_PAGESIZE);
    b->options = o;
    b->options.release = NULL; /* not if it fails */
    b->length = o.length;
    rc = make(b, err);
    b->options.path = b->options.name = NULL;
    if (rc) {
        vmm_backing_unref(b);
        return rc;
    }
    b->options.release = o.release;
    *out = b;
    return 0;
}

struct vmm_backing *vmm_backing_ref(struct vmm_backing *backing)
{
    atomic_fetch_add_explicit(&backing->refs, 1, memory_order_relaxed);
    return backing;
}

struct vmm_backing *vmm_backing_unref(struct vmm_backing *backing)
{
    if (!backing || atomic_fetch_sub_explicit(&backing->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    vmm_dirty_log_fini(backing);
    if (backing->reservation)
        (void)munmap(backing->reservation, backing->reserved);
    if (backing->fd >= 0)
        close(backing->fd);
    if (backing->options.release)
        backing->options.release(backing->options.ctx);
    pthread_mutex_destroy(&backing->log.lock);
    free(backing);
    return NULL;
}

uint64_t vmm_backing_length(const struct vmm_backing *backing)
{
    return backing->length;
}

uint64_t vmm_backing_page_size(const struct vmm_backing *backing)
{
    return backing->page_size;
}

int vmm_backing_fd(const struct vmm_backing *backing, uint64_t *offset)
{
    if (offset)
        *offset = backing->fd_offset;
    return backing->fd;
}
