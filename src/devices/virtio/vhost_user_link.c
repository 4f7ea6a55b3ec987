/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * vhost-user's messages (the protocol is described in QEMU's docs/interop/vhost-user.rst): a request with
 * its payload and descriptors, and for some an answer. The back end is not trusted: an answer must be
 * the one to the request, of the right length, and whole before the time is up. Descriptors that it
 * sends along are never taken.
 */
#include "base/util.h"
#include "devices/virtio/vhost_user.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define HEADER      12u
#define PAYLOAD_MAX 512u

#define FLAG_VERSION    0x1u
#define FLAG_REPLY      0x4u
#define FLAG_NEED_REPLY 0x8u
#define FLAG_KNOWN      0xfu

#define REGION_SIZE 32u
#define CONFIG_SIZE 12u /* before the bytes themselves */

/* Bytes ---------------------------------------------------------------------------------------- */

static int64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int wait_for(const struct vhost_link *link, short events, int64_t deadline)
{
    struct pollfd p = {.fd = link->fd, .events = events};
    for (;;) {
        int64_t left = deadline - now_ms();
        int n = left > 0 ? poll(&p, 1, (int)left) : 0;
        if (n > 0)
            return 0;
        if (n == 0)
            return -ETIMEDOUT;
        if (errno != EINTR)
            return -errno;
    }
}

static int send_all(const struct vhost_link *link, const uint8_t *data, size_t length,
                    const int *fds, uint32_t fd_count, int64_t deadline)
{
    union {
        struct cmsghdr header;
        uint8_t room[CMSG_SPACE(sizeof(int) * VHOST_REGIONS_MAX)];
    } control = {0};
    size_t done = 0;
    while (done < length) {
        struct iovec v = {(uint8_t *)(uintptr_t)data + done, length - done};
        struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};
        if (fd_count && done == 0) { /* they travel with the first byte */
            m.msg_control = &control;
            m.msg_controllen = CMSG_SPACE(sizeof(int) * fd_count);
            control.header.cmsg_len = CMSG_LEN(sizeof(int) * fd_count);
            control.header.cmsg_level = SOL_SOCKET;
            control.header.cmsg_type = SCM_RIGHTS;
            memcpy(CMSG_DATA(&control.header), fds, sizeof(int) * fd_count);
        }
        ssize_t n = sendmsg(link->fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
        int rc = n >= 0 || errno == EINTR ? 0
                 : errno == EAGAIN        ? wait_for(link, POLLOUT, deadline)
                                          : -errno;
        if (rc)
            return rc;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

static int receive_all(const struct vhost_link *link, uint8_t *data, size_t length,
                       int64_t deadline)
{
    size_t done = 0;
    while (done < length) {
        ssize_t n = recv(link->fd, data + done, length - done, MSG_DONTWAIT);
        if (n == 0)
            return -ECONNRESET;
        int rc = n > 0 || errno == EINTR ? 0
                 : errno == EAGAIN       ? wait_for(link, POLLIN, deadline)
                                         : -errno;
        if (rc)
            return rc;
        done += n > 0 ? (size_t)n : 0;
    }
    return 0;
}

/* Messages ------------------------------------------------------------------------------------- */

struct message {
    uint32_t request;
    const void *payload;
    uint32_t length;
    const int *fds;
    uint32_t fd_count;
    uint8_t *answer; /* NULL: none is expected */
    uint32_t answer_length;
};

static int receive(const struct vhost_link *link, uint32_t request, uint8_t *answer,
                   uint32_t length, int64_t deadline)
{
    uint8_t header[HEADER];
    int rc = receive_all(link, header, HEADER, deadline);
    if (rc)
        return rc;
    uint32_t flags = vmm_load_le32(header + 4) & FLAG_KNOWN;
    if (vmm_load_le32(header) != request || vmm_load_le32(header + 8) != length ||
        (flags & ~FLAG_NEED_REPLY) != (FLAG_VERSION | FLAG_REPLY))
        return -EPROTO;
    return receive_all(link, answer, length, deadline);
}

static int send_message(const struct vhost_link *link, const struct message *m, uint32_t flags,
                        int64_t deadline)
{
    uint8_t data[HEADER + PAYLOAD_MAX];
    vmm_store_le32(data, m->request);
    vmm_store_le32(data + 4, FLAG_VERSION | flags);
    vmm_store_le32(data + 8, m->length);
    if (m->length)
        memcpy(data + HEADER, m->payload, m->length);
    return send_all(link, data, HEADER + m->length, m->fds, m->fd_count, deadline);
}

/* Where the back end acknowledges, what it has no answer to is acknowledged too. */
static int exchange(struct vhost_link *link, const struct message *m)
{
    uint8_t status[8];
    if (link->broken)
        return -EPIPE;
    int64_t deadline = now_ms() + link->timeout_ms;
    bool ack = !m->answer && (link->protocol & VHOST_PROTOCOL_REPLY_ACK);
    int rc = send_message(link, m, ack ? FLAG_NEED_REPLY : 0, deadline);
    if (!rc && m->answer)
        rc = receive(link, m->request, m->answer, m->answer_length, deadline);
    if (!rc && ack)
        rc = receive(link, m->request, status, sizeof(status), deadline);
    if (!rc && ack && vmm_load_le64(status) != 0)
        rc = -EREMOTEIO;
    if (rc)
        vmm_vhost_link_break(link);
    return rc;
}

static int get_u64(struct vhost_link *link, uint32_t request, uint64_t *value)
{
    uint8_t answer[8];
    int rc =
        exchange(link, &(struct message){.request = request, .answer = answer, .answer_length = 8});
    if (!rc)
        *value = vmm_load_le64(answer);
    return rc;
}

int vmm_vhost_link_set_u64(struct vhost_link *link, uint32_t request, uint64_t value)
{
    uint8_t payload[8];
    vmm_store_le64(payload, value);
    return exchange(link, &(struct message){.request = request, .payload = payload, .length = 8});
}

int vmm_vhost_link_set_state(struct vhost_link *link, uint32_t request, uint32_t index,
                             uint32_t value)
{
    return vmm_vhost_link_set_u64(link, request, index | (uint64_t)value << 32);
}

int vmm_vhost_link_set_addresses(struct vhost_link *link, uint32_t index, uint64_t desc,
                                 uint64_t driver, uint64_t device)
{
    uint8_t payload[40] = {0}; /* index, flags, descriptors, used, available, log */
    vmm_store_le32(payload, index);
    vmm_store_le64(payload + 8, VHOST_ADDRESS_BASE + desc);
    vmm_store_le64(payload + 16, VHOST_ADDRESS_BASE + device);
    vmm_store_le64(payload + 24, VHOST_ADDRESS_BASE + driver);
    return exchange(link, &(struct message){.request = VHOST_SET_VRING_ADDR,
                                            .payload = payload,
                                            .length = sizeof(payload)});
}

int vmm_vhost_link_set_event(struct vhost_link *link, uint32_t request, uint32_t index, int fd)
{
    uint8_t payload[8];
    vmm_store_le64(payload, index);
    return exchange(
        link, &(struct message){
                  .request = request, .payload = payload, .length = 8, .fds = &fd, .fd_count = 1});
}

int vmm_vhost_link_stop_queue(struct vhost_link *link, uint32_t index, uint32_t *base)
{
    uint8_t payload[8] = {0}, answer[8];
    vmm_store_le32(payload, index);
    int rc = exchange(link, &(struct message){.request = VHOST_GET_VRING_BASE,
                                              .payload = payload,
                                              .length = 8,
                                              .answer = answer,
                                              .answer_length = 8});
    if (!rc && vmm_load_le32(answer) != index) {
        vmm_vhost_link_break(link);
        rc = -EPROTO;
    }
    if (!rc)
        *base = vmm_load_le32(answer + 4);
    return rc;
}

int vmm_vhost_link_get_config(struct vhost_link *link, uint8_t *config, uint32_t length)
{
    uint8_t payload[CONFIG_SIZE + 256] = {0}, answer[CONFIG_SIZE + 256];
    vmm_store_le32(payload + 4, length);
    int rc = exchange(link, &(struct message){.request = VHOST_GET_CONFIG,
                                              .payload = payload,
                                              .length = CONFIG_SIZE + length,
                                              .answer = answer,
                                              .answer_length = CONFIG_SIZE + length});
    if (!rc)
        memcpy(config, answer + CONFIG_SIZE, length);
    return rc;
}

/* Memory --------------------------------------------------------------------------------------- */

static int add_region(void *ctx, const struct vmm_memory_info *info)
{
    struct vhost_regions *all = ctx;
    uint64_t offset;
    if (info->type != VMM_MEMORY_RAM || !info->writable)
        return 0;
    struct vmm_backing *backing = vmm_memory_region_backing(info->region);
    int fd = backing ? vmm_backing_fd(backing, &offset) : -1;
    if (fd < 0) {
        all->unshared = true;
        return 0;
    }
    offset += info->offset;
    struct vhost_region *last = all->count ? &all->region[all->count - 1] : NULL;
    if (last && last->fd == fd && last->address + last->length == info->address &&
        last->offset + last->length == offset) {
        last->length += info->length;
        return 0;
    }
    if (all->count == VHOST_REGIONS_MAX) {
        all->too_many = true;
        return 0;
    }
    all->region[all->count++] = (struct vhost_region){info->address, info->length, offset, fd};
    return 0;
}

void vmm_vhost_regions_find(struct vmm_memory *memory, struct vhost_regions *regions)
{
    *regions = (struct vhost_regions){0};
    (void)vmm_memory_foreach(memory, add_region, regions);
}

bool vmm_vhost_regions_have(const struct vhost_regions *regions, uint64_t address, uint64_t length)
{
    for (uint32_t i = 0; i < regions->count; i++) {
        const struct vhost_region *r = &regions->region[i];
        if (address >= r->address && length <= r->length &&
            address - r->address <= r->length - length)
            return true;
    }
    return false;
}

int vmm_vhost_link_set_regions(struct vhost_link *link, const struct vhost_regions *regions)
{
    uint8_t payload[8 + REGION_SIZE * VHOST_REGIONS_MAX] = {0};
    int fds[VHOST_REGIONS_MAX];
    vmm_store_le32(payload, regions->count);
    for (uint32_t i = 0; i < regions->count; i++) {
        const struct vhost_region *r = &regions->region[i];
        uint8_t *at = payload + 8 + REGION_SIZE * i;
        vmm_store_le64(at, r->address);
        vmm_store_le64(at + 8, r->length);
        vmm_store_le64(at + 16, VHOST_ADDRESS_BASE + r->address);
        vmm_store_le64(at + 24, r->offset);
        fds[i] = r->fd;
    }
    return exchange(link, &(struct message){.request = VHOST_SET_MEM_TABLE,
                                            .payload = payload,
                                            .length = 8 + REGION_SIZE * regions->count,
                                            .fds = fds,
                                            .fd_count = regions->count});
}

/* Connecting ----------------------------------------------------------------------------------- */

int vmm_vhost_link_connect(struct vhost_link *link, const char *path, int fd, struct vmm_error *err)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (!path) {
        link->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
        return link->fd < 0 ? vmm_error_set(err, -errno, "vhost-user: %s", strerror(errno)) : 0;
    }
    if (strlen(path) >= sizeof(a.sun_path))
        return vmm_error_set(err, -ENAMETOOLONG, "%s: too long a name for a socket", path);
    memcpy(a.sun_path, path, strlen(path));
    link->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (link->fd < 0)
        return vmm_error_set(err, -errno, "vhost-user: %s", strerror(errno));
    if (connect(link->fd, (const struct sockaddr *)&a, sizeof(a)) == 0)
        return 0;
    int rc = vmm_error_set(err, -errno, "%s: %s (is the back end running?)", path, strerror(errno));
    vmm_vhost_link_close(link);
    return rc;
}

void vmm_vhost_link_close(struct vhost_link *link)
{
    if (link->fd >= 0)
        close(link->fd);
    link->fd = -1;
}

void vmm_vhost_link_break(struct vhost_link *link)
{
    link->broken = true;
    (void)shutdown(link->fd, SHUT_RDWR);
}

int vmm_vhost_link_negotiate(struct vhost_link *link)
{
    uint64_t protocol = 0, queues = 1;
    int rc = exchange(link, &(struct message){.request = VHOST_SET_OWNER});
    rc = rc ? rc : get_u64(link, VHOST_GET_FEATURES, &link->features);
    if (!rc && (link->features & ((uint64_t)1 << VHOST_F_PROTOCOL_FEATURES))) {
        rc = get_u64(link, VHOST_GET_PROTOCOL_FEATURES, &protocol);
        protocol &= VHOST_PROTOCOL_MQ | VHOST_PROTOCOL_REPLY_ACK | VHOST_PROTOCOL_CONFIG;
        rc = rc ? rc : vmm_vhost_link_set_u64(link, VHOST_SET_PROTOCOL_FEATURES, protocol);
        link->protocol = protocol;
    }
    link->queues = 1;
    if (!rc && (link->protocol & VHOST_PROTOCOL_MQ)) {
        rc = get_u64(link, VHOST_GET_QUEUE_NUM, &queues);
        link->queues = queues < 1024 ? (uint32_t)queues : 1024;
    }
    return rc;
}
