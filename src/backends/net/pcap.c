/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A capture of what passes, in front of another backend. Records are written as they come, each by one
 * call, so that a file is whole whenever it is looked at.
 */
#include "backends/net/net.h"
#include "base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define MAGIC    0xa1b23c4du /* in the writer's byte order, with nanoseconds */
#define ETHERNET 1u

struct file_header {
    uint32_t magic;
    uint16_t major, minor;
    uint32_t zone, accuracy, length_max, link_type;
};

struct record_header {
    uint32_t seconds, nanoseconds, captured, length;
};

struct pcap {
    struct vmm_net *net; /* owns this */
    struct vmm_net *below;
    bool is_user;         /* of `below` */
    pthread_mutex_t lock; /* around writes; a leaf */
    int fd;               /* -1: the capture has ended */
};

/* Half a record would make the rest of the file unreadable: end there, and take it back. */
static void give_up(struct pcap *p, size_t written)
{
    off_t end = lseek(p->fd, 0, SEEK_CUR);
    if (written > 0 && end >= (off_t)written && ftruncate(p->fd, end - (off_t)written) < 0)
        errno = 0; /* not a file: nothing can be taken back */
    close(p->fd);
    p->fd = -1;
}

static void record(struct pcap *p, const struct vmm_net_frame *frame)
{
    struct iovec all[VMM_NET_PIECES_MAX + 1];
    struct record_header header;
    struct timespec now;
    size_t length = 0;
    ssize_t n;
    for (size_t i = 0; i < frame->count; i++) {
        all[i + 1] = frame->pieces[i];
        length += frame->pieces[i].iov_len;
    }
    all[0] = (struct iovec){&header, sizeof(header)};
    header.captured = header.length = (uint32_t)length;
    pthread_mutex_lock(&p->lock);
    if (p->fd >= 0) {
        clock_gettime(CLOCK_REALTIME, &now);
        header.seconds = (uint32_t)now.tv_sec;
        header.nanoseconds = (uint32_t)now.tv_nsec;
        do
            n = writev(p->fd, all, (int)frame->count + 1);
        while (n < 0 && errno == EINTR);
        if (n < 0 || (size_t)n != length + sizeof(header))
            give_up(p, n < 0 ? 0 : (size_t)n);
    }
    pthread_mutex_unlock(&p->lock);
}

/* A frame that is refused for now comes again, and is written then. */
static int pcap_send(void *ctx, const struct vmm_net_frame *frame)
{
    struct pcap *p = ctx;
    int ret = vmm_net_send_frame(p->below, frame);
    if (ret != -EAGAIN)
        record(p, frame);
    return ret;
}

static int on_frame(void *ctx, const struct vmm_net_frame *frame)
{
    struct pcap *p = ctx;
    int ret = vmm_net_deliver_frame(p->net, frame);
    if (ret != -EAGAIN)
        record(p, frame);
    return ret;
}

static void on_writable(void *ctx)
{
    vmm_net_writable(((struct pcap *)ctx)->net);
}

static void on_link(void *ctx, bool up)
{
    vmm_net_set_link(((struct pcap *)ctx)->net, up);
}

static void pcap_accept(void *ctx)
{
    vmm_net_accept(((struct pcap *)ctx)->below);
}

static int pcap_set_offloads(void *ctx, uint32_t offloads)
{
    return vmm_net_set_offloads(((struct pcap *)ctx)->below, offloads);
}

static int pcap_set_queues(void *ctx, uint32_t queues)
{
    return vmm_net_set_queues(((struct pcap *)ctx)->below, queues);
}

static void pcap_destroy(void *ctx)
{
    struct pcap *p = ctx;
    if (p->is_user)
        (void)vmm_net_set_user(p->below, NULL, NULL);
    vmm_net_unref(p->below);
    if (p->fd >= 0)
        close(p->fd);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

static int open_file(struct pcap *p, int fd)
{
    const struct file_header header = {
        .magic = MAGIC, .major = 2, .minor = 4, .length_max = 262144, .link_type = ETHERNET};
    p->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (p->fd < 0)
        return -errno;
    ssize_t n = write(p->fd, &header, sizeof(header));
    return n == (ssize_t)sizeof(header) ? 0 : n < 0 ? -errno : -ENOSPC;
}

static int make(struct pcap *p, int fd)
{
    static const struct vmm_net_user user = {sizeof(user), on_frame, on_writable, on_link};
    const struct vmm_net_ops ops = {.size = sizeof(ops),
                                    .send = pcap_send,
                                    .accept = pcap_accept,
                                    .destroy = pcap_destroy,
                                    .offloads = vmm_net_offloads(p->below),
                                    .queues = vmm_net_queues(p->below),
                                    .set_offloads = pcap_set_offloads,
                                    .set_queues = pcap_set_queues};
    int ret = open_file(p, fd);
    if (!ret)
        ret = vmm_net_new(&ops, p, &p->net);
    if (ret)
        return ret;
    ret = vmm_net_set_user(p->below, &user, p);
    if (ret)
        return ret;
    p->is_user = true;
    vmm_net_set_link(p->net, vmm_net_link(p->below));
    return 0;
}

int vmm_net_new_pcap(struct vmm_net *below, int fd, struct vmm_net **out, struct vmm_error *err)
{
    if (!below || !out)
        return vmm_error_set(err, -EINVAL, "pcap: a net and a result are needed");
    struct pcap *p = calloc(1, sizeof(*p));
    if (!p)
        return vmm_error_set(err, -ENOMEM, "pcap: out of memory");
    pthread_mutex_init(&p->lock, NULL);
    p->fd = -1;
    p->below = vmm_net_ref(below);
    int ret = make(p, fd);
    if (ret == 0) {
        *out = p->net;
        return 0;
    }
    if (p->net)
        vmm_net_unref(p->net);
    else
        pcap_destroy(p);
    return vmm_error_set(err, ret, "pcap: %s", strerror(-ret));
}
