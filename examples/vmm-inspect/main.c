/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vmm-inspect: look into a running VM of vmm-run, from outside, while it runs.
 *
 * It asks vmm-run's control socket for the guest's memory (descriptors of it) and for how a vCPU
 * translates addresses, puts the memory together as a memory map of its own, and reads the guest's
 * virtual memory through libvmm's walker and translation cache.
 */
#include "linux.h"

#include <libvmm/vmm.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define REPLY_MAX 65536
#define FDS_MAX   64

static const char help[] =
    "vmm-inspect - look into a running VM of vmm-run --control PATH\n"
    "\n"
    "  vmm-inspect PATH [ranges] [banner] [tasks] [--vcpu N]\n"
    "\n"
    "  ranges   the guest-virtual addresses that are mapped, with rights and page size\n"
    "  banner   the version line of a Linux kernel, wherever KASLR put it\n"
    "  tasks    the names of its tasks\n"
    "\n"
    "With none of them: banner and tasks. Exit status: 0, 2 usage, 3 not found or no connection.\n";

struct inspect {
    int socket;
    char reply[REPLY_MAX];
    int fds[FDS_MAX];
    int fd_count;
    struct vmm_memory *memory;
    struct vmm_translator *translator;
};

static int fail(const char *what, const char *why)
{
    fprintf(stderr, "vmm-inspect: %s: %s\n", what, why);
    return 3;
}

static int attach(struct inspect *in, const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return -ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    in->socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (in->socket < 0 || connect(in->socket, (struct sockaddr *)&address, sizeof(address)))
        return -errno;
    return 0;
}

static void take_descriptors(struct inspect *in, struct msghdr *message)
{
    for (struct cmsghdr *h = CMSG_FIRSTHDR(message); h; h = CMSG_NXTHDR(message, h)) {
        if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
            if (in->fd_count < FDS_MAX)
                in->fds[in->fd_count++] = fd;
            else
                close(fd);
        }
    }
}

/* Send a line, wait for the line that answers it. */
static int ask(struct inspect *in, const char *line)
{
    size_t used = 0;
    if (send(in->socket, line, strlen(line), MSG_NOSIGNAL) != (ssize_t)strlen(line))
        return -EPIPE;
    do {
        char space[CMSG_SPACE(sizeof(int) * FDS_MAX)];
        struct iovec vector = {in->reply + used, REPLY_MAX - 1 - used};
        struct msghdr message = {.msg_iov = &vector,
                                 .msg_iovlen = 1,
                                 .msg_control = space,
                                 .msg_controllen = sizeof(space)};
        ssize_t n = recvmsg(in->socket, &message, MSG_CMSG_CLOEXEC);
        if (n <= 0)
            return n < 0 ? -errno : -EPIPE;
        take_descriptors(in, &message);
        used += (size_t)n;
        in->reply[used] = '\0';
    } while (in->reply[used - 1] != '\n' && used < REPLY_MAX - 1);
    return strstr(in->reply, "\"error\"") ? -EIO : 0;
}

/* The number behind "name": at or after `from`; the replies are vmm-run's own and flat. */
static const char *number(const char *from, const char *name, unsigned long long *value)
{
    char key[32];
    snprintf(key, sizeof(key), "\"%s\": ", name);
    const char *at = from ? strstr(from, key) : NULL;
    if (!at)
        return NULL;
    char *end;
    *value = strtoull(at + strlen(key), &end, 10);
    return end;
}

/* One piece of the guest's memory at its place in our map. */
static int add_piece(struct inspect *in, uint64_t address, uint64_t length, uint64_t offset, int fd,
                     struct vmm_error *err)
{
    struct vmm_backing_options b = VMM_BACKING_OPTIONS_INIT;
    struct vmm_memory_region_options r = VMM_MEMORY_REGION_OPTIONS_INIT;
    struct vmm_backing *backing;
    struct vmm_memory_region *region;
    b.kind = VMM_BACKING_FD;
    b.flags = VMM_BACKING_SHARED;
    b.fd = fd;
    b.offset = offset;
    b.length = length;
    int rc = vmm_backing_new(&b, &backing, err);
    if (rc)
        return rc;
    r.type = VMM_MEMORY_RAM;
    r.length = length;
    r.backing = backing;
    rc = vmm_memory_region_new(&r, &region, err);
    vmm_backing_unref(backing);
    if (rc)
        return rc;
    rc = vmm_memory_add(in->memory, region, address, 0, err);
    vmm_memory_region_unref(region);
    return rc;
}

static int get_memory(struct inspect *in, struct vmm_error *err)
{
    int rc = ask(in, "memory\n");
    if (rc)
        return vmm_error_set(err, rc, "%s", in->reply);
    rc = vmm_memory_new(NULL, &in->memory, err);
    const char *at = in->reply;
    unsigned long long address, length, offset, fd;
    while (!rc && (at = number(at, "address", &address))) {
        at = number(at, "length", &length);
        at = number(at, "offset", &offset);
        at = number(at, "fd", &fd);
        if (!at || fd >= (unsigned long long)in->fd_count)
            return vmm_error_set(err, -EPROTO, "the reply to \"memory\" is damaged");
        rc = add_piece(in, address, length, offset, in->fds[fd], err);
    }
    return rc;
}

static int get_paging(struct inspect *in, unsigned vcpu, struct vmm_error *err)
{
    struct vmm_paging_context p = VMM_PAGING_CONTEXT_INIT;
    char line[32];
    unsigned long long format, flags, root, bits, user, supervisor, upper_root, lower, upper;
    snprintf(line, sizeof(line), "paging %u\n", vcpu);
    int rc = ask(in, line);
    if (rc)
        return vmm_error_set(err, rc, "%s", in->reply);
    const char *at = number(in->reply, "format", &format);
    at = number(at, "flags", &flags);
    at = number(at, "root", &root);
    at = number(at, "address_bits", &bits);
    at = number(at, "user_keys", &user);
    at = number(at, "supervisor_keys", &supervisor);
    at = number(at, "upper_root", &upper_root);
    at = number(at, "virtual_bits", &lower);
    at = number(at, "upper_bits", &upper);
    if (!at)
        return vmm_error_set(err, -EPROTO, "the reply to \"paging\" is damaged");
    p.format = (uint32_t)format;
    p.flags = (uint32_t)flags;
    p.root = root;
    p.address_bits = (uint32_t)bits;
    p.user_keys = (uint32_t)user;
    p.supervisor_keys = (uint32_t)supervisor;
    p.upper_root = upper_root;
    p.virtual_bits = (uint32_t)lower;
    p.upper_bits = (uint32_t)upper;
    rc = vmm_translator_set_context(in->translator, &p);
    return rc ? vmm_error_set(err, rc, "paging: %s", strerror(-rc)) : 0;
}

/* What it prints ------------------------------------------------------------------------------- */

static int print_range(void *ctx, const struct vmm_page_range *r)
{
    unsigned *count = ctx;
    printf("%016llx %016llx %c%c%c%c %s\n", (unsigned long long)r->address,
           (unsigned long long)(r->address + (r->length - 1)), 'r',
           r->permissions & VMM_PAGE_WRITE ? 'w' : '-',
           r->permissions & VMM_PAGE_EXECUTE ? 'x' : '-',
           r->permissions & VMM_PAGE_USER ? 'u' : 's',
           r->page_size >= 1u << 30   ? "1G"
           : r->page_size >= 1u << 21 ? "2M"
                                      : "4K");
    return ++*count >= 100000;
}

static int print_ranges(struct inspect *in)
{
    unsigned count = 0;
    uint64_t next;
    int rc = vmm_translator_ranges(in->translator, NULL, print_range, &count, &next);
    return rc < 0 ? fail("ranges", strerror(-rc)) : 0;
}

static int read_virtual(void *ctx, uint64_t address, void *data, size_t length)
{
    struct inspect *in = ctx;
    return vmm_translator_read(in->translator, address, data, length, VMM_ACCESS_ANY);
}

struct range_call {
    int (*fn)(void *fn_ctx, uint64_t address, uint64_t length);
    void *fn_ctx;
};

static int hand_range(void *ctx, const struct vmm_page_range *r)
{
    struct range_call *call = ctx;
    return call->fn(call->fn_ctx, r->address, r->length);
}

static int virtual_ranges(void *ctx, uint64_t start, uint64_t last,
                          int (*fn)(void *fn_ctx, uint64_t address, uint64_t length), void *fn_ctx)
{
    struct inspect *in = ctx;
    struct range_call call = {fn, fn_ctx};
    struct vmm_page_range_options options = VMM_PAGE_RANGE_OPTIONS_INIT;
    uint64_t next;
    options.start = start;
    options.last = last;
    return vmm_translator_ranges(in->translator, &options, hand_range, &call, &next);
}

static void print_task(void *ctx, int32_t pid, const char *name)
{
    (void)ctx;
    printf("%6d %s\n", pid, name);
}

static int print_linux(struct inspect *in, bool banner, bool tasks)
{
    const struct inspect_memory memory = {in, read_virtual, virtual_ranges};
    struct inspect_linux found;
    const char *why = "";
    if (inspect_linux_find(&memory, &found, &why))
        return fail("Linux", why);
    if (banner)
        printf("%s\nimage at %016llx\n", found.banner, (unsigned long long)found.image);
    if (tasks && inspect_linux_tasks(&memory, &found, print_task, NULL))
        return fail("tasks", "the list changed while it was read: try again");
    return 0;
}

static int inspect(struct inspect *in, const char *path, unsigned vcpu, bool ranges, bool banner,
                   bool tasks)
{
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = attach(in, path);
    if (rc)
        return fail(path, strerror(-rc));
    if (get_memory(in, &err))
        return fail("memory", err.text);
    rc = vmm_translator_new(in->memory, NULL, &in->translator);
    if (rc)
        return fail("translator", strerror(-rc));
    if (get_paging(in, vcpu, &err))
        return fail("paging", err.text);
    rc = ranges ? print_ranges(in) : 0;
    return rc || !(banner || tasks) ? rc : print_linux(in, banner, tasks);
}

int main(int argc, char **argv)
{
    bool ranges = false, banner = false, tasks = false;
    unsigned vcpu = 0;
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--help") == 0) {
            fputs(help, stdout);
            return 0;
        } else if (strcmp(argv[i], "--vcpu") == 0 && i + 1 < argc) {
            vcpu = (unsigned)strtoul(argv[++i], NULL, 10);
        } else if (!path) {
            path = argv[i];
        } else if (strcmp(argv[i], "ranges") == 0) {
            ranges = true;
        } else if (strcmp(argv[i], "banner") == 0) {
            banner = true;
        } else if (strcmp(argv[i], "tasks") == 0) {
            tasks = true;
        } else {
            fputs(help, stderr);
            return 2;
        }
    }
    if (!path) {
        fputs(help, stderr);
        return 2;
    }
    if (!ranges && !banner && !tasks)
        banner = tasks = true;
    struct inspect *in = calloc(1, sizeof(*in));
    if (!in)
        return 3;
    in->socket = -1;
    int status = inspect(in, path, vcpu, ranges, banner, tasks);
    vmm_translator_free(in->translator);
    vmm_memory_unref(in->memory);
    for (int i = 0; i < in->fd_count; i++)
        close(in->fds[i]);
    if (in->socket >= 0)
        close(in->socket);
    free(in);
    return fflush(stdout) ? 3 : status;
}
