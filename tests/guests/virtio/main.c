/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A guest that drives virtio devices by itself, the same under each VMM. The command line says what to do:
 *
 *   mode=features              a disk by every form of queue: "ok NAME" or "not ok NAME" each
 *   mode=blk  size= depth= count= write= random=      reads or writes of a disk
 *   mode=send device= queue= header= size= depth= count=   buffers to a device: frames, console bytes
 *   mode=receive device= size= count=                 buffers from a device's queue 0
 *
 * with packed=1, indirect=1, event=1 for the form of the queue. What is measured is framed by the lines
 * "begin" and "end"; whoever reads the serial port takes the time.
 */
#include "virtio/queue.h"

#define SECTOR     512
#define BUFFER     131072
#define BLK        2
#define BLK_READ   0
#define BLK_WRITE  1
#define BLK_FLUSH  4
#define BLK_GET_ID 8

static u8 buffers[32][BUFFER] __attribute__((aligned(4096)));
static u8 small[REQUESTS_MAX][2048] __attribute__((aligned(4096)));
static struct header {
    u32 type, reserved;
    u64 sector;
} headers[REQUESTS_MAX];
static u8 status[REQUESTS_MAX];
static const char *command_line = "";

static u32 option(const char *name, u32 otherwise)
{
    for (const char *p = command_line; *p; p++) {
        const char *n = name, *q = p;
        while (*n && *n == *q)
            n++, q++;
        if (*n || *q != '=' || (p != command_line && p[-1] != ' '))
            continue;
        u32 value = 0;
        for (q++; *q >= '0' && *q <= '9'; q++)
            value = value * 10 + (u32)(*q - '0');
        return value;
    }
    return otherwise;
}

static int mode_is(const char *name)
{
    static const char key[] = "mode=";
    for (const char *p = command_line; *p; p++) {
        u32 i = 0;
        while (key[i] && p[i] == key[i])
            i++;
        if (key[i])
            continue;
        p += i;
        for (i = 0; name[i] && p[i] == name[i]; i++)
            ;
        return !name[i] && (p[i] == ' ' || !p[i]);
    }
    return 0;
}

static void __attribute__((noreturn)) fail(const char *why)
{
    print("failed: ");
    print(why);
    print("\r\n");
    end(1);
}

static u64 wanted_features(void)
{
    return (option("packed", 0) ? F_PACKED : 0) | (option("indirect", 0) ? F_INDIRECT : 0) |
           (option("event", 0) ? F_EVENT_IDX : 0);
}

/* One disk request, waited for. Its status, or -1 when it does not come back. */
static int disk(struct queue *q, u32 type, u64 sector, u8 *data, u32 length)
{
    static u16 next;
    u16 id = (u16)(next++ % 2); /* small rings have room for one or two */
    struct part parts[3] = {
        {&headers[id], 16, 0}, {data, length, type != BLK_WRITE}, {&status[id], 1, 1}};
    u32 got;
    if (!length)
        parts[1] = parts[2];
    headers[id] = (struct header){type, 0, sector};
    status[id] = 0xff;
    if (!queue_put(q, id, parts, length ? 3 : 2))
        return -1;
    queue_kick(q);
    for (u32 i = 0; i < 400000000; i++) {
        int taken = queue_take(q, &got);
        if (taken == id)
            return *(volatile u8 *)&status[id];
        if (taken >= 0)
            return -1;
        __asm__ volatile("pause");
    }
    return -1;
}

/* Write patterns, read them back; so often that the ring wraps. 0: as it should be. */
static const char *write_and_read(struct queue *q)
{
    u32 *out = (u32 *)buffers[0], *in = (u32 *)buffers[1];
    for (u32 i = 0; i < 100; i++) {
        for (u32 n = 0; n < SECTOR / 4; n++)
            out[n] = n * 0x01010101 + i, in[n] = 0;
        if (disk(q, BLK_WRITE, i, buffers[0], SECTOR))
            return "a write";
        if (disk(q, BLK_READ, i, buffers[1], SECTOR))
            return "a read";
        for (u32 n = 0; n < SECTOR / 4; n++)
            if (in[n] != n * 0x01010101 + i)
                return "what was read";
    }
    if (disk(q, BLK_FLUSH, 0, 0, 0))
        return "a flush";
    if (disk(q, BLK_GET_ID, 0, buffers[1], 20))
        return "the serial number";
    return 0;
}

static void verdict(const char *what, u32 size, const char *why)
{
    print(why ? "not ok " : "ok ");
    print(what);
    print(", ");
    print_number(size);
    print(" entries");
    if (why) {
        print(": ");
        print(why);
    }
    print("\r\n");
}

static void one_form(u32 base, u64 features, const char *what, u16 size)
{
    struct queue q;
    u64 agreed = device_negotiate(base, features | F_RING_RESET);
    if (!agreed || (agreed & features) != features) {
        verdict(what, size, "not offered");
        return;
    }
    if (!queue_make(&q, base, agreed, 0, size))
        fail("no queue");
    device_go(base);
    const char *why = write_and_read(&q);
    if (!why && agreed & F_RING_RESET) { /* §4.2.2: the queue alone is reset and used again */
        set(base, REG_QUEUE_SELECT, 0);
        set(base, REG_QUEUE_RESET, 1);
        while (get(base, REG_QUEUE_RESET))
            ;
        if (!queue_make(&q, base, agreed, 0, size))
            why = "the queue after its reset";
        else
            why = write_and_read(&q);
    }
    verdict(what, size, why);
}

static void features(void)
{
    static const struct {
        u64 bits;
        const char *name;
    } forms[] = {
        {0, "split"},
        {F_INDIRECT, "split, indirect"},
        {F_EVENT_IDX, "split, event index"},
        {F_INDIRECT | F_EVENT_IDX, "split, indirect, event index"},
        {F_PACKED, "packed"},
        {F_PACKED | F_INDIRECT, "packed, indirect"},
        {F_PACKED | F_EVENT_IDX, "packed, event index"},
        {F_PACKED | F_INDIRECT | F_EVENT_IDX, "packed, indirect, event index"},
    };
    static const u16 sizes[] = {8, 64, 256};
    u32 base = device_find(BLK);
    if (!base)
        fail("no disk");
    for (u32 f = 0; f < sizeof(forms) / sizeof(forms[0]); f++)
        for (u32 s = 0; s < 3; s++)
            one_form(base, forms[f].bits, forms[f].name, sizes[s]);
}

static void start_queue(struct queue *q, u32 device, u16 index)
{
    u32 base = device_find(device);
    if (!base)
        fail("no such device");
    u64 agreed = device_negotiate(base, wanted_features());
    if (!agreed)
        fail("features");
    if (!queue_make(q, base, agreed, index, QUEUE_MAX))
        fail("no such queue");
    device_go(base);
}

static void blk(void)
{
    struct queue q;
    u32 size = option("size", 4096), depth = option("depth", 1), count = option("count", 1000);
    u32 write = option("write", 0), random = option("random", 1), at = 1, begun = 0, done = 0;
    if (size > BUFFER || depth > 32)
        fail("size or depth");
    start_queue(&q, BLK, 0);
    /* The capacity is in sectors; a power of two is used of it. */
    u32 sectors = get(q.base, REG_CONFIG), blocks = 1;
    while (blocks * 2 * (size / SECTOR) <= sectors)
        blocks *= 2;
    print("begin\r\n");
    while (done < count) {
        u32 got;
        int id = begun < depth ? (int)begun : queue_take(&q, &got);
        if (id < 0) {
            queue_kick(&q);
            __asm__ volatile("pause");
            continue;
        }
        if (begun >= depth) {
            if (status[id])
                fail("a request's status");
            done++;
        }
        if (begun < count) {
            struct part parts[3] = {
                {&headers[id], 16, 0}, {buffers[id], size, !write}, {&status[id], 1, 1}};
            at = random ? at * 1664525 + 1013904223 : at + 1;
            headers[id] =
                (struct header){write ? BLK_WRITE : BLK_READ, 0,
                                (u64)((random ? at >> 8 : at) & (blocks - 1)) * (size / SECTOR)};
            if (!queue_put(&q, (u16)id, parts, 3))
                fail("room in the ring");
        }
        begun++;
    }
    print("end\r\n");
}

/* Buffers out on one queue. */
static void send(void)
{
    struct queue q;
    u32 size = option("size", 64), count = option("count", 1000), depth = option("depth", 64);
    u32 header = option("header", 0), begun = 0, done = 0, waiting = 0;
    if (size + header > 2048 || depth > 64)
        fail("size or depth");
    start_queue(&q, option("device", 1), (u16)option("queue", 1));
    for (u32 i = 0; i < depth; i++)
        for (u32 n = 0; n < size; n++)
            small[i][header + n] = (u8)(n < 12 ? 0x52 : 'a' + n % 26);
    print("begin\r\n");
    while (done < count) {
        u32 got;
        int id = begun < depth ? (int)begun : queue_take(&q, &got);
        if (id < 0) {
            queue_kick(&q);
            waiting = 0;
            __asm__ volatile("pause");
            continue;
        }
        done += begun >= depth;
        if (begun < count) {
            struct part part = {small[id], size + header, 0};
            if (!queue_put(&q, (u16)id, &part, 1))
                fail("room in the ring");
            if (++waiting == depth / 2)
                queue_kick(&q), waiting = 0;
        }
        begun++;
    }
    print("end\r\n");
}

/* Buffers in on queue 0. */
static void receive(void)
{
    struct queue q;
    u32 size = option("size", 2048), count = option("count", 1000), done = 0, got;
    start_queue(&q, option("device", 1), 0);
    for (u16 id = 0; id < 64; id++) {
        struct part part = {small[id], size, 1};
        if (!queue_put(&q, id, &part, 1))
            fail("room in the ring");
    }
    queue_kick(&q);
    print("begin\r\n");
    while (done < count) {
        int id = queue_take(&q, &got);
        if (id < 0) {
            queue_kick(&q);
            __asm__ volatile("pause");
            continue;
        }
        struct part part = {small[id], size, 1};
        if (!queue_put(&q, (u16)id, &part, 1))
            fail("room in the ring");
        done++;
    }
    print("end\r\n");
}

/* hvm_start_info: the command line's address is its seventh word (64 bits at offset 24). */
void guest_start(const u32 *info);
void guest_start(const u32 *info)
{
    if (info[0] == 0x336ec578 && info[6])
        command_line = (const char *)info[6];
    if (mode_is("features"))
        features();
    else if (mode_is("blk"))
        blk();
    else if (mode_is("send"))
        send();
    else if (mode_is("receive"))
        receive();
    else
        fail("mode=features, blk, send or receive");
    end(0);
}

/* What the compiler may call. */
void *memset(void *to, int value, unsigned length)
{
    for (u8 *p = to; length--; p++)
        *p = (u8)value;
    return to;
}

void *memcpy(void *to, const void *from, unsigned length)
{
    for (unsigned i = 0; i < length; i++)
        ((u8 *)to)[i] = ((const u8 *)from)[i];
    return to;
}
