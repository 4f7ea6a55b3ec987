/* SPDX-License-Identifier: BSD-3-Clause */
/* The guest's side of the socket device: packets (VIRTIO 1.2 §5.10.6). */
#include "base/util.h"
#include "devices/virtio/vsock.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define PACKET_MAX 65536u /* bytes of data in a packet */
#define PIECES_MAX 20u    /* of a buffer that are used */

#define OWES(op) (1u << (op))

/* Headers -------------------------------------------------------------------------------------- */

static void header_read(const uint8_t *raw, struct vsock_header *h)
{
    h->source_cid = vmm_load_le64(raw);
    h->target_cid = vmm_load_le64(raw + 8);
    h->source_port = vmm_load_le32(raw + 16);
    h->target_port = vmm_load_le32(raw + 20);
    h->length = vmm_load_le32(raw + 24);
    h->type = vmm_load_le16(raw + 28);
    h->op = vmm_load_le16(raw + 30);
    h->flags = vmm_load_le32(raw + 32);
    h->allocated = vmm_load_le32(raw + 36);
    h->forwarded = vmm_load_le32(raw + 40);
}

static void header_write(struct vsock *v, const struct vmm_virtio_chain *chain,
                         const struct vsock_header *h)
{
    uint8_t raw[VSOCK_HEADER];
    vmm_store_le64(raw, VSOCK_HOST_CID);
    vmm_store_le64(raw + 8, v->cid);
    vmm_store_le32(raw + 16, h->source_port);
    vmm_store_le32(raw + 20, h->target_port);
    vmm_store_le32(raw + 24, h->length);
    vmm_store_le16(raw + 28, h->type);
    vmm_store_le16(raw + 30, h->op);
    vmm_store_le32(raw + 32, h->flags);
    vmm_store_le32(raw + 36, h->allocated);
    vmm_store_le32(raw + 40, h->forwarded);
    (void)vmm_iov_write(chain->writable, chain->writable_count, 0, raw, sizeof(raw));
}

/* Every packet of a connection tells of our credit (§5.10.6.3). */
static uint64_t put_packet(struct vsock_connection *c, const struct vmm_virtio_chain *chain,
                           enum vsock_op op, uint32_t flags, uint32_t length)
{
    const struct vsock_header h = {
        .source_port = c->host_port,
        .target_port = c->guest_port,
        .length = length,
        .type = VSOCK_STREAM,
        .op = (uint16_t)op,
        .flags = flags,
        .allocated = c->vsock->buffer,
        .forwarded = c->forwarded,
    };
    header_write(c->vsock, chain, &h);
    c->forwarded_told = c->forwarded;
    c->owed &= ~(OWES(op) | OWES(VSOCK_CREDIT_UPDATE));
    return VSOCK_HEADER + (uint64_t)length;
}

/* To the driver -------------------------------------------------------------------------------- */

/* Bytes that the guest has room for. What it says may be nonsense: then there is none. */
static uint32_t credit(const struct vsock_connection *c)
{
    uint32_t under_way = c->sent - c->taken;
    return under_way < c->allocated ? c->allocated - under_way : 0;
}

static bool may_read(const struct vsock_connection *c)
{
    return c->readable && !c->ended && !(c->ends & VSOCK_NO_RECEIVE);
}

/* What the guest has to know of the host's end. */
static uint32_t ends_of_host(const struct vsock_connection *c)
{
    return (c->ended ? VSOCK_NO_SEND : 0) | (c->refuses ? VSOCK_NO_RECEIVE : 0);
}

bool vmm_vsock_has_packet(const struct vsock_connection *c)
{
    if (!c->has_ports)
        return false;
    if (c->owed)
        return true;
    return c->state == VSOCK_ESTABLISHED &&
           ((may_read(c) && credit(c)) || (ends_of_host(c) & ~c->told));
}

/* The part of a vector from `offset`, at most `length` bytes of it. */
static size_t part_of(const struct iovec *iov, size_t count, size_t offset, size_t length,
                      struct iovec *out, size_t room)
{
    size_t n = 0;
    for (size_t i = 0; i < count && length && n < room; i++) {
        if (offset >= iov[i].iov_len) {
            offset -= iov[i].iov_len;
            continue;
        }
        size_t part = iov[i].iov_len - offset;
        part = part < length ? part : length;
        out[n++] = (struct iovec){(uint8_t *)iov[i].iov_base + offset, part};
        length -= part;
        offset = 0;
    }
    return n;
}

static size_t bytes_of(const struct iovec *iov, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += iov[i].iov_len;
    return bytes;
}

/* From the socket into the driver's buffer. 0: nothing came of it. */
static uint64_t send_data(struct vsock_connection *c, const struct vmm_virtio_chain *chain)
{
    struct iovec pieces[PIECES_MAX];
    uint64_t most = chain->writable_length - VSOCK_HEADER;
    most = most < PACKET_MAX ? most : PACKET_MAX;
    most = most < credit(c) ? most : credit(c);
    size_t count = part_of(chain->writable, chain->writable_count, VSOCK_HEADER, (size_t)most,
                           pieces, PIECES_MAX);
    struct msghdr message = {.msg_iov = pieces, .msg_iovlen = count};
    ssize_t n = recvmsg(c->fd, &message, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->readable = errno == EINTR;
        return 0;
    }
    if (n < 0) {
        vmm_vsock_abort(c);
        return 0;
    }
    if (n == 0) {
        c->ended = true;
        c->readable = false;
        return 0;
    }
    c->sent += (uint32_t)n;
    if ((size_t)n < bytes_of(pieces, count))
        c->readable = c->hung_up; /* drained; a socket without a peer is not watched any more */
    else if (credit(c) == 0)
        c->owed |= OWES(VSOCK_CREDIT_REQUEST);
    return put_packet(c, chain, VSOCK_RW, 0, (uint32_t)n);
}

static uint64_t send_packet(struct vsock_connection *c, const struct vmm_virtio_chain *chain)
{
    static const enum vsock_op small[] = {VSOCK_CREDIT_REQUEST, VSOCK_CREDIT_UPDATE};
    if (c->owed & OWES(VSOCK_RST)) {
        uint64_t written = put_packet(c, chain, VSOCK_RST, 0, 0);
        vmm_vsock_kill(c);
        return written;
    }
    if (c->owed & OWES(VSOCK_REQUEST))
        return put_packet(c, chain, VSOCK_REQUEST, 0, 0);
    if (c->owed & OWES(VSOCK_RESPONSE))
        return put_packet(c, chain, VSOCK_RESPONSE, 0, 0);
    if (c->state == VSOCK_ESTABLISHED && may_read(c) && credit(c)) {
        uint64_t written = send_data(c, chain);
        if (written)
            return written;
    }
    if (c->state == VSOCK_ESTABLISHED && (ends_of_host(c) & ~c->told)) {
        c->told = ends_of_host(c);
        return put_packet(c, chain, VSOCK_SHUTDOWN, c->told, 0);
    }
    for (size_t i = 0; i < 2; i++)
        if (c->owed & OWES(small[i]))
            return put_packet(c, chain, small[i], 0, 0);
    return 0;
}

/* One packet of whoever has waited longest. */
static uint64_t send_next(struct vsock *v, const struct vmm_virtio_chain *chain)
{
    struct vsock_connection *c = TAILQ_FIRST(&v->waiting);
    uint64_t written = send_packet(c, chain);
    if (c->state == VSOCK_DEAD)
        return written;
    vmm_vsock_settle(c);
    if (c->waits) {
        TAILQ_REMOVE(&v->waiting, c, waiting);
        TAILQ_INSERT_TAIL(&v->waiting, c, waiting);
    }
    return written;
}

static uint64_t send_refusal(struct vsock *v, const struct vmm_virtio_chain *chain)
{
    const struct vsock_refusal *r = &v->refusals[v->first_refusal];
    const struct vsock_header h = {.source_port = r->host_port,
                                   .target_port = r->guest_port,
                                   .type = r->type,
                                   .op = VSOCK_RST};
    header_write(v, chain, &h);
    v->first_refusal = (v->first_refusal + 1) % VSOCK_REFUSALS;
    v->refusal_count--;
    return VSOCK_HEADER;
}

void vmm_vsock_send(struct vsock *v, bool turn)
{
    struct vmm_virtio_queue *q = v->to_driver;
    struct vmm_virtio_chain *chain = v->chain_to;
    bool pushed = false;
    if (turn)
        vmm_virtio_queue_turn(q);
    while (v->refusal_count || !TAILQ_EMPTY(&v->waiting)) {
        int rc = vmm_virtio_queue_pop(q, chain);
        if (rc == 0 && turn)
            vmm_virtio_queue_kick(q); /* so that the driver tells of its next buffers */
        if (rc <= 0)
            break;
        if (chain->writable_length <= VSOCK_HEADER) {
            vmm_virtio_queue_drop(q, chain);
            vmm_virtio_guest_error(v->virtio, "vsock: a buffer too small for a packet");
            break;
        }
        uint64_t written = v->refusal_count ? send_refusal(v, chain) : send_next(v, chain);
        if (written)
            vmm_virtio_queue_push(q, chain, written);
        else
            vmm_virtio_queue_unpop(q, chain);
        pushed |= written != 0;
    }
    if (pushed)
        vmm_virtio_queue_signal(q);
    if (v->stalled && v->refusal_count == 0) {
        v->stalled = false;
        vmm_virtio_queue_kick(v->from_driver);
    }
}

/* From the driver ------------------------------------------------------------------------------ */

/* There is room: packets are not taken from the driver where there is none. */
static void refuse(struct vsock *v, const struct vsock_header *h)
{
    if (h->op == VSOCK_RST)
        return;
    uint32_t place = (v->first_refusal + v->refusal_count++) % VSOCK_REFUSALS;
    v->refusals[place] = (struct vsock_refusal){h->target_port, h->source_port, h->type};
}

/* A program in the guest wants to reach one on the host, which listens at PATH_PORT. */
static void request(struct vsock *v, const struct vsock_header *h)
{
    struct sockaddr_un address = v->address;
    size_t length = strlen(address.sun_path);
    (void)snprintf(address.sun_path + length, sizeof(address.sun_path) - length, "_%u",
                   h->target_port);
    int fd = -1;
    if (vmm_vsock_has_room(v)) /* else nobody on the host hears of it */
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address))) {
        close(fd);
        fd = -1;
    }
    struct vsock_connection *c = fd < 0 ? NULL : vmm_vsock_connection_new(v, fd, VSOCK_ESTABLISHED);
    if (!c) {
        refuse(v, h);
        return;
    }
    vmm_vsock_connection_name(c, h->target_port, h->source_port);
    c->allocated = h->allocated;
    c->taken = h->forwarded;
    c->sent = h->forwarded;
    c->owed = OWES(VSOCK_RESPONSE);
    vmm_vsock_settle(c);
}

/* The guest has accepted what a program on the host asked for. */
static void response(struct vsock_connection *c)
{
    char text[24];
    int length = snprintf(text, sizeof(text), "OK %u\n", c->host_port);
    if (c->state != VSOCK_CONNECTING || (c->owed & OWES(VSOCK_REQUEST)) ||
        send(c->fd, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL) != length) {
        vmm_vsock_abort(c);
        return;
    }
    c->state = VSOCK_ESTABLISHED;
}

static void shut_down(struct vsock_connection *c, uint32_t flags)
{
    if (c->state != VSOCK_ESTABLISHED) {
        vmm_vsock_abort(c);
        return;
    }
    c->ends |= flags & VSOCK_NEITHER;
    vmm_vsock_flush(c);
}

/* What the guest sent before it closed in order still goes to the host. */
static void over(struct vsock_connection *c)
{
    if (c->state != VSOCK_ESTABLISHED || c->ends != VSOCK_NEITHER || !c->used) {
        vmm_vsock_kill(c);
        return;
    }
    c->state = VSOCK_LINGERING;
    c->owed = 0;
    LIST_REMOVE(c, bucket);
    c->has_ports = false;
}

static void data(struct vsock_connection *c, const struct vmm_virtio_chain *chain, uint32_t length)
{
    if (c->state != VSOCK_ESTABLISHED || (c->ends & VSOCK_NO_SEND) ||
        !vmm_vsock_take(c, chain, length))
        vmm_vsock_abort(c);
}

static void packet_for(struct vsock_connection *c, const struct vsock_header *h,
                       const struct vmm_virtio_chain *chain)
{
    c->allocated = h->allocated;
    c->taken = h->forwarded;
    switch (h->op) {
    case VSOCK_RESPONSE:
        response(c);
        break;
    case VSOCK_RST:
        over(c);
        break;
    case VSOCK_SHUTDOWN:
        shut_down(c, h->flags);
        break;
    case VSOCK_RW:
        data(c, chain, h->length);
        break;
    case VSOCK_CREDIT_UPDATE:
        break;
    case VSOCK_CREDIT_REQUEST:
        c->owed |= OWES(VSOCK_CREDIT_UPDATE);
        break;
    default: /* a second request too */
        vmm_vsock_abort(c);
        break;
    }
    if (c->state != VSOCK_DEAD)
        vmm_vsock_settle(c);
}

bool vmm_vsock_receive(struct vsock *v, const struct vmm_virtio_chain *chain)
{
    uint8_t raw[VSOCK_HEADER];
    struct vsock_header h;
    if (vmm_iov_read(chain->readable, chain->readable_count, 0, raw, sizeof(raw)) != sizeof(raw))
        return false;
    header_read(raw, &h);
    if (h.op == VSOCK_RW && h.length > chain->readable_length - VSOCK_HEADER)
        return false;
    if (h.source_cid != v->cid || h.target_cid != VSOCK_HOST_CID)
        return true; /* not its own address, or not ours */
    struct vsock_connection *c =
        h.type == VSOCK_STREAM ? vmm_vsock_find(v, h.target_port, h.source_port) : NULL;
    if (c && c->state == VSOCK_CLOSING && h.op != VSOCK_RST)
        return true; /* the end is on its way to the guest */
    if (c)
        packet_for(c, &h, chain);
    else if (h.op == VSOCK_REQUEST && h.type == VSOCK_STREAM)
        request(v, &h);
    else
        refuse(v, &h);
    return true;
}
