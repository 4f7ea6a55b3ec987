/* SPDX-License-Identifier: BSD-3-Clause */
/* The front end of vhost-user, and a back end by a script: one that works, and ones that answer wrongly,
 * late, or not at all. */
#include "virtio-driver.h"

#include <libvmm/vhost-user.h>

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum {
    GET_FEATURES = 1,
    SET_FEATURES,
    SET_OWNER,
    SET_MEM_TABLE = 5,
    SET_VRING_NUM = 8,
    SET_VRING_ADDR,
    SET_VRING_BASE,
    GET_VRING_BASE,
    SET_VRING_KICK,
    SET_VRING_CALL,
    GET_PROTOCOL_FEATURES = 15,
    SET_PROTOCOL_FEATURES,
    GET_QUEUE_NUM,
    SET_VRING_ENABLE,
    GET_CONFIG = 24,
};

enum {
    WELL,
    SILENT,
    HANG_UP,
    WRONG_REQUEST,
    WRONG_LENGTH,
    NO_REPLY_FLAG,
    REFUSE,
    TRICKLE,
    WITH_FDS
};

#define FEATURES (1ull << 32 | 1ull << 30 | 1ull << 28 | 1ull << 29 | 0x1200u | 1u << 11 | 1u << 26)

struct back_end {
    pthread_t thread;
    int fd;
    uint32_t fault, fault_at; /* in the answer to which request */
    uint64_t features, protocol, queues;
    /* What has come. */
    _Atomic uint32_t seen[32];
    uint64_t driver_features;
    uint8_t *memory;
    uint64_t user_base;
    uint64_t desc, avail, used;
    uint32_t size, base, enabled;
    int kick, call;
    uint16_t done;
};

static void send_answer(struct back_end *b, uint32_t request, const void *payload, uint32_t length)
{
    uint8_t data[400];
    uint32_t header[3] = {request, 5, length};
    uint32_t fault = b->fault_at == request ? b->fault : WELL;
    if (fault == WRONG_REQUEST)
        header[0]++;
    if (fault == WRONG_LENGTH)
        header[2] = 0x7fffffff;
    if (fault == NO_REPLY_FLAG)
        header[1] = 1;
    memcpy(data, header, 12);
    memcpy(data + 12, payload, length);
    size_t size = 12 + length;
    if (fault == SILENT)
        return;
    if (fault == TRICKLE) { /* never whole, but never silent */
        for (size_t i = 0; i < 11; i++) {
            if (send(b->fd, data + i, 1, MSG_NOSIGNAL) < 0)
                return;
            usleep(30000);
        }
        return;
    }
    if (fault == WITH_FDS) {
        union {
            struct cmsghdr h;
            uint8_t room[CMSG_SPACE(sizeof(int))];
        } control = {.h = {.cmsg_len = CMSG_LEN(sizeof(int)),
                           .cmsg_level = SOL_SOCKET,
                           .cmsg_type = SCM_RIGHTS}};
        struct iovec v = {data, size};
        struct msghdr m = {.msg_iov = &v,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof(control)};
        memcpy(CMSG_DATA(&control.h), &b->fd, sizeof(int));
        (void)sendmsg(b->fd, &m, MSG_NOSIGNAL);
        return;
    }
    (void)send(b->fd, data, size, MSG_NOSIGNAL);
}

static void take_memory(struct back_end *b, const uint8_t *payload, int fd)
{
    uint64_t region[4];
    uint32_t count;
    memcpy(&count, payload, 4);
    memcpy(region, payload + 8, sizeof(region));
    assert_int_equal(count, 1);
    assert_int_equal(region[0], 0);
    assert_int_equal(region[1], RAM_SIZE);
    b->user_base = region[2];
    if (b->memory)
        munmap(b->memory, RAM_SIZE);
    b->memory = mmap(NULL, RAM_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)region[3]);
    assert_ptr_not_equal(b->memory, MAP_FAILED);
    close(fd);
}

/* Every chain is given back with a length of 123. */
static void work(struct back_end *b)
{
    uint64_t count;
    uint16_t avail, index;
    ssize_t n = read(b->kick, &count, sizeof(count));
    (void)n;
    if (!b->enabled || !b->memory)
        return;
    uint8_t *used = b->memory + (b->used - b->user_base);
    const uint8_t *ring = b->memory + (b->avail - b->user_base);
    memcpy(&avail, ring + 2, 2);
    while (b->done != avail) {
        uint32_t element[2] = {0, 123};
        memcpy(&index, ring + 4 + 2 * (b->done % b->size), 2);
        element[0] = index;
        memcpy(used + 4 + 8 * (b->done % b->size), element, 8);
        b->done++;
        memcpy(used + 2, &b->done, 2);
    }
    count = 1;
    n = write(b->call, &count, sizeof(count));
}

static void answer(struct back_end *b, uint32_t request, const uint8_t *payload, uint32_t length,
                   bool ack)
{
    uint64_t value = 0;
    uint32_t state[2];
    uint8_t config[72];
    memcpy(state, payload, 8);
    switch (request) {
    case GET_FEATURES:
        send_answer(b, request, &b->features, 8);
        return;
    case GET_PROTOCOL_FEATURES:
        send_answer(b, request, &b->protocol, 8);
        return;
    case GET_QUEUE_NUM:
        send_answer(b, request, &b->queues, 8);
        return;
    case GET_CONFIG:
        memset(config, 0, sizeof(config));
        memcpy(config, payload, 12);
        config[12] = 77;
        send_answer(b, request, config, length);
        return;
    case GET_VRING_BASE:
        state[1] = b->done;
        if (b->kick >= 0) {
            close(b->kick);
            close(b->call);
            b->kick = -1;
        }
        send_answer(b, request, state, 8);
        return;
    default:
        value = b->fault_at == request && b->fault == REFUSE;
        if (ack)
            send_answer(b, request, &value, 8);
    }
}

static void take_in(struct back_end *b, uint32_t request, const uint8_t *payload, int fd);

/* One message; false at the end. */
static bool message(struct back_end *b)
{
    uint8_t payload[512] = {0};
    uint32_t header[3];
    union {
        struct cmsghdr h;
        uint8_t room[CMSG_SPACE(sizeof(int) * 8)];
    } control;
    struct iovec v = {header, sizeof(header)};
    struct msghdr m = {
        .msg_iov = &v, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)};
    int fd = -1;
    if (recvmsg(b->fd, &m, 0) != sizeof(header) || header[2] > sizeof(payload))
        return false;
    if (CMSG_FIRSTHDR(&m))
        memcpy(&fd, CMSG_DATA(&control.h), sizeof(int));
    if (header[2] && recv(b->fd, payload, header[2], MSG_WAITALL) != (ssize_t)header[2])
        return false;
    if (b->fault == HANG_UP && b->fault_at == header[0]) {
        shutdown(b->fd, SHUT_RDWR);
        return false;
    }
    take_in(b, header[0], payload, fd);
    b->seen[header[0] & 31]++;
    answer(b, header[0], payload, header[2], header[1] & 8);
    return true;
}

static void take_in(struct back_end *b, uint32_t request, const uint8_t *payload, int fd)
{
    uint32_t state[2];
    uint64_t address[4];
    memcpy(state, payload, 8);
    switch (request) {
    case SET_FEATURES:
        memcpy(&b->driver_features, payload, 8);
        break;
    case SET_MEM_TABLE:
        take_memory(b, payload, fd);
        break;
    case SET_VRING_NUM:
        b->size = state[1];
        break;
    case SET_VRING_BASE:
        b->done = (uint16_t)state[1];
        break;
    case SET_VRING_ADDR:
        memcpy(address, payload + 8, sizeof(address));
        b->desc = address[0];
        b->used = address[1];
        b->avail = address[2];
        break;
    case SET_VRING_KICK:
        b->kick = fd;
        break;
    case SET_VRING_CALL:
        b->call = fd;
        break;
    case SET_VRING_ENABLE:
        b->enabled = state[1];
        break;
    default:
        assert_int_equal(fd, -1);
    }
}

static void *back_end(void *ctx)
{
    struct back_end *b = ctx;
    for (;;) {
        struct pollfd p[2] = {{.fd = b->fd, .events = POLLIN}, {.fd = b->kick, .events = POLLIN}};
        if (poll(p, 2, -1) < 0)
            continue;
        if (p[0].revents) {
            if (!message(b))
                break;
        } else if (p[1].revents) {
            work(b);
        }
    }
    return NULL;
}

struct fixture {
    struct driver d;
    struct back_end b;
    int fd; /* the front end's side */
    uint32_t timeout_ms;
    _Atomic int broken;
};

/* How long answers are waited for: not long where none will come. */
#define LONG_MS  20000u
#define SHORT_MS 600u

static uint32_t patience(uint32_t fault)
{
    return fault == SILENT || fault == TRICKLE ? SHORT_MS : LONG_MS;
}

static void was_broken(void *ctx, const char *why)
{
    struct fixture *f = ctx;
    assert_non_null(strstr(why, "vhost-user"));
    f->broken++;
}

static void begin_back_end(struct fixture *f)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    f->fd = pair[0];
    f->b.fd = pair[1];
    f->b.kick = f->b.call = -1;
    assert_int_equal(pthread_create(&f->b.thread, NULL, back_end, &f->b), 0);
}

static struct fixture *open_fixture(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_backing_options o = VMM_BACKING_OPTIONS_INIT;
    struct vmm_backing *backing;
    o.kind = VMM_BACKING_MEMFD;
    o.length = RAM_SIZE;
    assert_int_equal(vmm_backing_new(&o, &backing, NULL), 0);
    driver_open_on(&f->d, backing);
    vmm_backing_unref(backing);
    f->b.features = FEATURES;
    f->b.protocol = 0x7fffffffffffffffull;
    f->b.queues = 4;
    begin_back_end(f);
    return f;
}

static void close_fixture(struct fixture *f)
{
    if (!f->d.virtio) /* no device has taken it */
        vmm_irq_line_free(f->d.line);
    driver_close(&f->d);
    close(f->fd);
    shutdown(f->b.fd, SHUT_RDWR);
    pthread_join(f->b.thread, NULL);
    close(f->b.fd);
    if (f->b.memory)
        munmap(f->b.memory, RAM_SIZE);
    if (f->b.kick >= 0) {
        close(f->b.kick);
        close(f->b.call);
    }
    free(f);
}

static int make_device(struct fixture *f, const char *tag, uint32_t queues, struct vmm_virtio **out)
{
    struct vmm_vhost_user_options o = VMM_VHOST_USER_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    place.name = "vhost0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    o.fd = f->fd;
    o.tag = tag;
    o.queues = queues;
    o.timeout_ms = f->timeout_ms ? f->timeout_ms : LONG_MS;
    o.broken = was_broken;
    o.ctx = f;
    return tag ? vmm_vhost_user_fs_new(&place, &o, out, NULL)
               : vmm_vhost_user_blk_new(&place, &o, out, NULL);
}

static void open_disk(struct fixture *f)
{
    struct vmm_virtio *virtio;
    assert_int_equal(make_device(f, NULL, 1, &virtio), 0);
    driver_attach(&f->d, virtio);
}

/* A chain there and back. */
static void round_trip(struct fixture *f)
{
    int64_t length = -1;
    desc(&f->d, 0, BUFFER, 100, WRITE);
    offer(&f->d, 1);
    /* Where there is no KVM nobody but us carries the notification over. */
    vmm_virtio_queue_kick(vmm_virtio_queue(f->d.virtio, 0));
    for (int i = 0; i < 2000 && length < 0; i++) {
        vmm_loop_dispatch(f->d.loop, 1);
        length = take(&f->d, 1);
    }
    assert_int_equal(length, 123);
}

static void a_disk_works(void **state)
{
    struct fixture *f = open_fixture();
    (void)state;
    open_disk(f);
    struct driver *d = &f->d;
    assert_int_equal(reg(d, 8), 2);
    assert_int_equal(reg(d, 0x100), 77);
    set_reg(d, 0x14, 0);
    assert_int_equal(reg(d, 0x10), 1u << 28 | 1u << 29 | 1u << 9); /* no MQ with one queue */
    set_reg(d, 0x14, 1);
    assert_int_equal(reg(d, 0x10), 1u | 1u << 8); /* version 1, queue reset; not packed */
    start(d, VMM_VIRTIO_FEATURE(9));
    round_trip(f);
    round_trip(f);
    for (int i = 0; i < 1000 && !d->level; i++)
        vmm_loop_dispatch(d->loop, 1);
    assert_int_equal(d->level, 1);
    assert_int_equal(f->b.driver_features, 1ull << 32 | 1ull << 30 | 1u << 9);
    assert_int_equal(f->b.size, 8);
    /* A reset takes the queue back, and it goes on with another start. */
    set_reg(d, 0x70, 0);
    assert_int_equal(f->b.seen[GET_VRING_BASE], 1);
    start(d, 0);
    round_trip(f);
    assert_int_equal(f->b.seen[SET_FEATURES], 2);
    assert_int_equal(f->broken, 0);
    close_fixture(f);
}

static void back_ends_of_few_words(void **state)
{
    struct fixture *f = open_fixture();
    struct vmm_virtio *virtio;
    (void)state;
    f->b.protocol = 0x200; /* configuration, but no acknowledgements and no number of queues */
    assert_int_equal(make_device(f, NULL, 2, &virtio), -ENOTSUP);
    open_disk(f);
    start(&f->d, 0);
    round_trip(f);
    assert_int_equal(f->b.seen[GET_QUEUE_NUM], 0);
    close_fixture(f);
}

static void what_a_back_end_must_have(void **state)
{
    struct fixture *f = open_fixture();
    struct vmm_virtio *virtio;
    (void)state;
    assert_int_equal(make_device(f, NULL, 5, &virtio), -ENOTSUP);
    f->b.protocol = 1; /* the size of the disk is not known */
    assert_int_equal(make_device(f, NULL, 1, &virtio), -ENOTSUP);
    f->b.features = 1ull << 30;
    assert_int_equal(make_device(f, NULL, 1, &virtio), -ENOTSUP);
    f->b.features = FEATURES;
    f->b.protocol = 0x209;
    open_disk(f);
    close_fixture(f);
}

static void a_file_system_has_its_tag(void **state)
{
    struct fixture *f = open_fixture();
    struct vmm_virtio *virtio;
    (void)state;
    assert_int_equal(make_device(f, "the-tag", 2, &virtio), -EINVAL);
    assert_int_equal(make_device(f, "", 0, &virtio), -EINVAL);
    assert_int_equal(make_device(f, "0123456789012345678901234567890123456", 0, &virtio), -EINVAL);
    assert_int_equal(make_device(f, "the-tag", 0, &virtio), 0);
    driver_attach(&f->d, virtio);
    assert_int_equal(reg(&f->d, 8), 26);
    assert_int_equal(reg(&f->d, 0x100), 0x2d656874);
    assert_int_equal(reg(&f->d, 0x124), 1);
    f->d.queue = 1;
    start(&f->d, 0);
    assert_int_equal(f->b.seen[GET_CONFIG], 0);
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(virtio), w), -ENOTSUP);
    vmm_state_writer_free(w);
    close_fixture(f);
}

/* Frames are the other end's; the address is ours, and not told to the back end. */
static void a_network_card_has_its_address(void **state)
{
    struct fixture *f = open_fixture();
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_vhost_user_options o = VMM_VHOST_USER_OPTIONS_INIT;
    const uint8_t group[6] = {1, 2, 3, 4, 5, 6}, mac[6] = {2, 0x11, 0x22, 0x33, 0x44, 0x55};
    struct vmm_virtio *virtio;
    (void)state;
    place.name = "net0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    o.fd = f->fd;
    o.mac = group;
    assert_int_equal(vmm_vhost_user_net_new(&place, &o, &virtio, NULL), -EINVAL);
    o.mac = mac;
    o.queues = 2;
    assert_int_equal(vmm_vhost_user_net_new(&place, &o, &virtio, NULL), -EINVAL);
    assert_int_equal(vmm_vhost_user_net_new(&place, NULL, &virtio, NULL), -EINVAL);
    o.queues = 0;
    f->b.features |= 1u << 15 | 1u << 17; /* merged buffers; and a control queue */
    assert_int_equal(vmm_vhost_user_net_new(&place, &o, &virtio, NULL), 0);
    driver_attach(&f->d, virtio);
    assert_int_equal(reg(&f->d, 8), 1);
    assert_int_equal(reg(&f->d, 0x100), 0x33221102);
    set_reg(&f->d, 0x14, 0);
    assert_int_equal(reg(&f->d, 0x10) & (1u << 5 | 1u << 15 | 1u << 17), 1u << 5 | 1u << 15);
    start(&f->d, 1u << 5 | 1u << 15);
    round_trip(f);
    assert_int_equal(f->b.driver_features & (1u << 5 | 1u << 15), 1u << 15);
    close_fixture(f);
}

/* Each wrong answer while the device is made. */
static void answers_that_are_wrong_at_first(void **state)
{
    static const uint32_t asked[] = {SET_OWNER, GET_FEATURES, GET_PROTOCOL_FEATURES, GET_QUEUE_NUM,
                                     GET_CONFIG};
    (void)state;
    for (size_t i = 0; i < 5; i++)
        for (uint32_t fault = SILENT; fault <= TRICKLE; fault++) {
            struct fixture *f = open_fixture();
            struct vmm_virtio *virtio;
            f->timeout_ms = patience(fault);
            f->b.fault = fault;
            f->b.fault_at = asked[i];
            bool answered = asked[i] != SET_OWNER; /* comes before acknowledgements */
            if (fault == HANG_UP || (answered && fault != REFUSE)) {
                int rc = make_device(f, NULL, 1, &virtio);
                assert_true(fault == SILENT || fault == TRICKLE ? rc == -ETIMEDOUT
                            : fault == HANG_UP                  ? rc == -ECONNRESET || rc == -EPIPE
                                                                : rc == -EPROTO);
            }
            close_fixture(f);
        }
}

/* Each while the driver starts the device: it breaks, and stays so. */
static void answers_that_are_wrong_later(void **state)
{
    static const uint32_t asked[] = {SET_FEATURES,   SET_MEM_TABLE,   SET_VRING_NUM,
                                     SET_VRING_ADDR, SET_VRING_BASE,  SET_VRING_KICK,
                                     SET_VRING_CALL, SET_VRING_ENABLE};
    (void)state;
    for (size_t i = 0; i < 8; i++)
        for (uint32_t fault = SILENT; fault <= TRICKLE; fault++) {
            struct fixture *f = open_fixture();
            f->timeout_ms = patience(fault);
            open_disk(f);
            f->b.fault = fault;
            f->b.fault_at = asked[i];
            negotiate(&f->d, 0);
            set_queue(&f->d, 8, RING_DESC, RING_AVAIL, RING_USED);
            set_reg(&f->d, 0x70, 0xf);
            run(&f->d);
            assert_int_equal(reg(&f->d, 0x70), 0x4f);
            assert_int_equal(f->broken, 1);
            set_reg(&f->d, 0x70, 0);
            negotiate(&f->d, 0);
            set_queue(&f->d, 8, RING_DESC, RING_AVAIL, RING_USED);
            set_reg(&f->d, 0x70, 0xf);
            run(&f->d);
            assert_int_equal(reg(&f->d, 0x70), 0x4f);
            assert_int_equal(f->broken, 1);
            close_fixture(f);
        }
}

static void queues_that_do_not_stop(void **state)
{
    (void)state;
    for (uint32_t fault = SILENT; fault <= NO_REPLY_FLAG; fault++) {
        struct fixture *f = open_fixture();
        f->timeout_ms = patience(fault);
        open_disk(f);
        start(&f->d, 0);
        round_trip(f);
        f->b.fault = fault;
        f->b.fault_at = GET_VRING_BASE;
        set_reg(&f->d, 0x70, 0);
        assert_int_equal(reg(&f->d, 0x70), 0); /* drivers wait for that */
        assert_int_equal(f->broken, 1);
        close_fixture(f);
    }
}

/* How many of ours are the same socket as this one. */
static int descriptors_of(int fd)
{
    struct stat of, st;
    int count = 0;
    assert_int_equal(fstat(fd, &of), 0);
    for (int i = 0; i < 256; i++)
        count += fstat(i, &st) == 0 && st.st_dev == of.st_dev && st.st_ino == of.st_ino;
    return count;
}

static void descriptors_that_come_along(void **state)
{
    struct fixture *f = open_fixture();
    (void)state;
    f->b.fault = WITH_FDS;
    f->b.fault_at = GET_CONFIG;
    open_disk(f);
    assert_int_equal(descriptors_of(f->b.fd), 1); /* the one that came was not taken */
    start(&f->d, 0);
    round_trip(f);
    close_fixture(f);
}

static void back_ends_that_die(void **state)
{
    struct fixture *f = open_fixture();
    (void)state;
    open_disk(f);
    start(&f->d, 0);
    round_trip(f);
    shutdown(f->b.fd, SHUT_RDWR);
    for (int i = 0; i < 1000 && !f->broken; i++)
        vmm_loop_dispatch(f->d.loop, 1);
    assert_int_equal(f->broken, 1);
    assert_int_equal(reg(&f->d, 0x70), 0x4f);
    run(&f->d);
    set_reg(&f->d, 0x70, 0);
    assert_int_equal(reg(&f->d, 0x70), 0);
    assert_int_equal(f->broken, 1);
    close_fixture(f);
}

/* The driver's rings are checked here: they would be the back end's death. */
static void rings_that_are_nowhere(void **state)
{
    static const uint64_t places[] = {RAM_SIZE, RAM_SIZE - 16, ROM_AT, 1ull << 46, ~0xfffull};
    (void)state;
    for (size_t i = 0; i < 15; i++) {
        struct fixture *f = open_fixture();
        uint64_t at = places[i % 5];
        open_disk(f);
        negotiate(&f->d, 0);
        set_queue(&f->d, 8, i / 5 == 0 ? at : RING_DESC, i / 5 == 1 ? at : RING_AVAIL,
                  i / 5 == 2 ? at : RING_USED);
        set_reg(&f->d, 0x70, 0xf);
        run(&f->d);
        assert_int_equal(reg(&f->d, 0x70) & NEEDS_RESET, NEEDS_RESET);
        assert_int_equal(f->b.seen[SET_VRING_ADDR], 0);
        assert_int_equal(f->broken, 0);
        start(&f->d, 0); /* and it works again */
        round_trip(f);
        close_fixture(f);
    }
}

/* What the two share may be made to block: neither the loop nor the driver waits for it. */
static void events_are_drained_without_waiting(void **state)
{
    struct fixture *f = open_fixture();
    uint64_t count = 1;
    (void)state;
    open_disk(f);
    start(&f->d, 0);
    round_trip(f);
    assert_int_equal(fcntl(f->b.call, F_SETFL, 0), 0);
    for (int i = 0; i < 100; i++) {
        assert_int_equal(write(f->b.call, &count, sizeof(count)), sizeof(count));
        if (i % 2)
            assert_int_equal(read(f->b.call, &count, sizeof(count)), sizeof(count));
        run(&f->d);
        count = 1;
    }
    close_fixture(f);
}

static void state_is_saved_and_loaded(void **state)
{
    struct fixture *f = open_fixture();
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    void *blob;
    size_t length;
    (void)state;
    open_disk(f);
    start(&f->d, 0);
    round_trip(f);
    round_trip(f);
    round_trip(f);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(f->d.virtio), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    round_trip(f); /* it goes on */
    f->d.avail--;
    f->d.used--;
    vmm_memory_store_u16(f->d.memory, RING_AVAIL + 2, 3);
    vmm_memory_store_u16(f->d.memory, RING_USED + 2, 3);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    assert_int_equal(vmm_device_load(vmm_virtio_device(f->d.virtio), r, NULL), 0);
    vmm_state_reader_free(r);
    free(blob);
    run(&f->d);
    round_trip(f);
    assert_int_equal(f->b.done, 4);
    close_fixture(f);
}

static void bad_options(void **state)
{
    struct fixture *f = open_fixture();
    struct vmm_vhost_user_options o = VMM_VHOST_USER_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio *virtio;
    struct driver private;
    (void)state;
    place.name = "vhost0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, NULL), -EINVAL);
    o.path = "/nowhere/socket";
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, NULL), -ENOENT);
    o.path =
        "/a/name/that/is/far/too/long/for/the/address/of/a/socket/of/the/family/that/is/called/"
        "unix/which/has/room/for/one/hundred/and/eight/bytes";
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, NULL), -ENAMETOOLONG);
    o.path = NULL;
    o.fd = f->fd;
    o.queues = 65;
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, NULL), -EINVAL);
    o.queues = 1;
    o.timeout_ms = 600001;
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, NULL), -EINVAL);
    o.timeout_ms = 0;
    assert_int_equal(vmm_vhost_user_blk_new(NULL, &o, &virtio, NULL), -EINVAL);
    assert_int_equal(vmm_vhost_user_blk_new(&place, NULL, &virtio, NULL), -EINVAL);
    place.name = "Bad";
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, NULL), -EINVAL);
    place.name = "vhost0";
    driver_open(&private); /* RAM that is not shared */
    place.memory = private.memory;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_vhost_user_blk_new(&place, &o, &virtio, &err), -EINVAL);
    assert_non_null(strstr(err.text, "shared_memory"));
    vmm_irq_line_free(private.line);
    private.virtio = NULL;
    driver_close(&private);
    open_disk(f);
    close_fixture(f);
}

int main(void)
{
    if (TEST_UNDER_TSAN) /* guest memory has no locks between its two sides */
        TEST_SKIP("the back end of this test shares guest memory with the device by barriers only");
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_disk_works),
        cmocka_unit_test(back_ends_of_few_words),
        cmocka_unit_test(what_a_back_end_must_have),
        cmocka_unit_test(a_file_system_has_its_tag),
        cmocka_unit_test(a_network_card_has_its_address),
        cmocka_unit_test(answers_that_are_wrong_at_first),
        cmocka_unit_test(answers_that_are_wrong_later),
        cmocka_unit_test(queues_that_do_not_stop),
        cmocka_unit_test(descriptors_that_come_along),
        cmocka_unit_test(back_ends_that_die),
        cmocka_unit_test(rings_that_are_nowhere),
        cmocka_unit_test(events_are_drained_without_waiting),
        cmocka_unit_test(state_is_saved_and_loaded),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
