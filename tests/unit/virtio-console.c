/* SPDX-License-Identifier: BSD-3-Clause */
/* The console device between a hand-written driver and character backends that take and give as the
 * tests say. */
#include "virtio-rings.h"

#include <libvmm/console.h>

#include <stdlib.h>

#define SIZES     VMM_VIRTIO_FEATURE(0)
#define MULTIPORT VMM_VIRTIO_FEATURE(1)
#define EMERGENCY VMM_VIRTIO_FEATURE(2)

enum {
    DEVICE_READY,
    DEVICE_ADD,
    DEVICE_REMOVE,
    PORT_READY,
    CONSOLE_PORT,
    RESIZE,
    PORT_OPEN,
    PORT_NAME
};

struct backend {
    struct vmm_chardev *chardev;
    size_t room;
    long error;
    uint8_t taken[8192];
    size_t count;
    uint32_t accepts;
};

struct fixture {
    struct driver d;
    struct backend backends[3];
    struct test_ring rings[8];
};

static long backend_write(void *ctx, const uint8_t *data, size_t length)
{
    struct backend *b = ctx;
    if (b->error)
        return b->error;
    size_t n = length < b->room ? length : b->room;
    assert_true(b->count + n <= sizeof(b->taken));
    memcpy(b->taken + b->count, data, n);
    b->count += n;
    b->room -= n;
    return (long)n;
}

static void backend_accept(void *ctx)
{
    ((struct backend *)ctx)->accepts++;
}

static const struct vmm_chardev_ops backend_ops = {
    .size = sizeof(backend_ops), .write = backend_write, .accept = backend_accept};

/* A console; where there are three ports also "agent", closed, and a second console named "log". */
static int make(struct fixture *f, uint32_t ports, uint32_t rows_first, struct vmm_virtio **out)
{
    struct vmm_console_port p[3] = {VMM_CONSOLE_PORT_INIT, VMM_CONSOLE_PORT_INIT,
                                    VMM_CONSOLE_PORT_INIT};
    const struct vmm_console_port *const list[3] = {&p[0], &p[1], &p[2]};
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_console_options o = VMM_VIRTIO_CONSOLE_OPTIONS_INIT;
    for (int i = 0; i < 3; i++)
        p[i].chardev = f->backends[i].chardev;
    p[0].console = p[2].console = 1;
    p[0].columns = 80;
    p[0].rows = 25;
    p[1].name = "agent";
    p[1].closed = 1;
    p[2].name = "log";
    place.name = "console0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    o.ports = list;
    o.port_count = ports;
    o.rows_first = rows_first;
    return vmm_virtio_console_new(&place, &o, out, NULL);
}

static struct fixture *prepare(void)
{
    struct fixture *f = calloc(1, sizeof(*f));
    driver_open(&f->d);
    for (int i = 0; i < 3; i++) {
        f->backends[i].room = SIZE_MAX;
        assert_int_equal(vmm_chardev_new(&backend_ops, &f->backends[i], &f->backends[i].chardev),
                         0);
    }
    return f;
}

static int set_up_with(void **state, uint32_t ports, uint32_t rows_first)
{
    struct fixture *f = prepare();
    struct vmm_virtio *virtio;
    *state = f;
    assert_int_equal(make(f, ports, rows_first, &virtio), 0);
    driver_attach(&f->d, virtio);
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, 3, 0);
}

static int set_up_swapped(void **state)
{
    return set_up_with(state, 3, 1);
}

static int set_up_one(void **state)
{
    return set_up_with(state, 1, 0);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    driver_close(&f->d);
    for (int i = 0; i < 3; i++)
        vmm_chardev_unref(f->backends[i].chardev);
    free(f);
    return 0;
}

static void deliver(struct fixture *f, int port, const char *text)
{
    vmm_chardev_deliver(f->backends[port].chardev, text, strlen(text));
    run(&f->d);
}

static void expect_taken(struct fixture *f, int port, const char *text)
{
    struct backend *b = &f->backends[port];
    assert_int_equal(b->count, strlen(text));
    assert_memory_equal(b->taken, text, b->count);
    b->count = 0;
}

static void expect_given(struct fixture *f, int ring, const char *text)
{
    char data[2048] = {0};
    assert_int_equal(ring_take(&f->rings[ring], data, sizeof(data)), (int64_t)strlen(text));
    assert_string_equal(data, text);
}

/* Control messages ------------------------------------------------------------------------------ */

static void tell(struct fixture *f, uint32_t port, uint16_t event, uint16_t value)
{
    uint8_t m[8] = {
        (uint8_t)port,         (uint8_t)(port >> 8), 0, (uint8_t)(port >> 24), (uint8_t)event,
        (uint8_t)(event >> 8), (uint8_t)value,       0};
    ring_send(&f->rings[3], m, sizeof(m));
    assert_int_equal(ring_take(&f->rings[3], NULL, 0), 0);
}

/* The next message; its buffer is offered again. Returns the bytes behind its header. */
static uint32_t hear(struct fixture *f, uint32_t port, uint16_t event, uint16_t value, void *more)
{
    uint8_t m[256] = {0};
    int64_t n = ring_take(&f->rings[2], m, sizeof(m));
    assert_true(n >= 8);
    assert_int_equal(m[0], port);
    assert_int_equal(m[4], event);
    assert_int_equal(m[6], value);
    if (more)
        memcpy(more, m + 8, (size_t)n - 8);
    ring_post(&f->rings[2], NULL, 128, WRITE);
    ring_kick(&f->rings[2]);
    return (uint32_t)n - 8;
}

static void hear_nothing(struct fixture *f)
{
    assert_int_equal(ring_take(&f->rings[2], NULL, 0), -1);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS);
}

static void start_multiport(struct fixture *f)
{
    rings_start(&f->d, MULTIPORT | SIZES, f->rings, 8);
    for (int i = 0; i < 4; i++)
        ring_post(&f->rings[2], NULL, 128, WRITE);
    tell(f, 0, DEVICE_READY, 1);
    for (uint32_t i = 0; i < 3; i++)
        hear(f, i, DEVICE_ADD, 1, NULL);
    hear_nothing(f);
}

/* Tests ---------------------------------------------------------------------------------------- */

static void one_console(void **state)
{
    struct fixture *f = *state;
    set_reg(&f->d, 0x14, 0);
    assert_int_equal(reg(&f->d, 0x10) & 7, 5);                            /* no multiport */
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 0); /* no driver */
    rings_start(&f->d, SIZES, f->rings, 2);
    assert_true(f->backends[0].accepts > 0);
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 4096);
    ring_send(&f->rings[1], "login: ", 7);
    expect_taken(f, 0, "login: ");
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), 0);
    deliver(f, 0, "before"); /* no buffer yet */
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 4090);
    ring_post(&f->rings[0], NULL, 4, WRITE);
    ring_post(&f->rings[0], NULL, 100, WRITE);
    ring_kick(&f->rings[0]);
    expect_given(f, 0, "befo");
    expect_given(f, 0, "re");
    ring_post(&f->rings[0], NULL, 3, WRITE);
    ring_post(&f->rings[0], NULL, 3, WRITE);
    deliver(f, 0, "abcdefgh");
    expect_given(f, 0, "abc");
    expect_given(f, 0, "def");
    ring_post(&f->rings[0], NULL, 3, WRITE);
    ring_kick(&f->rings[0]);
    expect_given(f, 0, "gh");
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS);
}

static void input_is_bounded(void **state)
{
    struct fixture *f = *state;
    char data[1024], got[1024];
    rings_start(&f->d, 0, f->rings, 2);
    for (int i = 0; i < 5; i++) { /* one more than there is room for */
        memset(data, 'a' + i, sizeof(data));
        vmm_chardev_deliver(f->backends[0].chardev, data, sizeof(data));
    }
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 0);
    uint32_t accepts = f->backends[0].accepts;
    for (int i = 0; i < 4; i++) {
        ring_post(&f->rings[0], NULL, 1024, WRITE);
        ring_kick(&f->rings[0]);
        memset(data, 'a' + i, sizeof(data));
        assert_int_equal(ring_take(&f->rings[0], got, sizeof(got)), 1024);
        assert_memory_equal(got, data, sizeof(got));
    }
    assert_true(f->backends[0].accepts > accepts);
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 4096);
}

/* The notification comes though buffers were used outside of one (event index). */
static void buffers_after_input(void **state)
{
    struct fixture *f = *state;
    char text[8];
    rings_start(&f->d, VMM_VIRTIO_FEATURE(VMM_VIRTIO_F_EVENT_IDX), f->rings, 2);
    for (int i = 0; i < 4; i++)
        ring_post(&f->rings[0], NULL, 2, WRITE);
    ring_kick(&f->rings[0]);
    deliver(f, 0, "0123456789");
    for (int i = 0; i < 4; i++)
        assert_int_equal(ring_take(&f->rings[0], text, sizeof(text)), 2);
    uint16_t wanted;
    vmm_memory_load_u16(f->d.memory, ring_at(&f->rings[0]) + 0x804 + 8 * RING_SIZE, &wanted);
    assert_int_equal(wanted, f->rings[0].avail); /* the very next one */
}

static void output_waits_for_the_backend(void **state)
{
    struct fixture *f = *state;
    struct backend *b = &f->backends[0];
    rings_start(&f->d, 0, f->rings, 2);
    b->room = 4;
    ring_send(&f->rings[1], "first line", 10);
    ring_send(&f->rings[1], ", second", 8);
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), -1);
    b->room = 3;
    vmm_chardev_writable(b->chardev);
    run(&f->d);
    assert_int_equal(b->count, 7);
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), -1);
    b->room = SIZE_MAX;
    vmm_chardev_writable(b->chardev);
    run(&f->d);
    expect_taken(f, 0, "first line, second");
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), 0);
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), 0);
    b->error = -EIO; /* lost, but the guest goes on */
    ring_send(&f->rings[1], "gone", 4);
    assert_int_equal(ring_take(&f->rings[1], NULL, 0), 0);
    b->error = 0;
    b->room = 2;
    ring_send(&f->rings[1], "abcdef", 6);
    expect_taken(f, 0, "ab");
    rings_start(&f->d, 0, f->rings, 2); /* a reset forgets what waits */
    b->room = SIZE_MAX;
    ring_send(&f->rings[1], "xyz", 3);
    expect_taken(f, 0, "xyz");
}

static void configuration(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(reg(&f->d, 0x100), 80 | 25 << 16);
    assert_int_equal(reg(&f->d, 0x104), 1);
    set_reg(&f->d, 0x108, '!'); /* before any set-up */
    expect_taken(f, 0, "!");
    set_reg(&f->d, 0x100, 7);
    assert_int_equal(reg(&f->d, 0x100), 80 | 25 << 16);
    rings_start(&f->d, SIZES, f->rings, 2);
    assert_int_equal(vmm_console_resize(f->d.virtio, 0, 132, 50), 0);
    assert_int_equal(reg(&f->d, 0x100), 132 | 50 << 16);
    assert_int_equal(reg(&f->d, 0x60), 2);
    assert_int_equal(vmm_console_resize(f->d.virtio, 1, 132, 50), -EINVAL);
    assert_int_equal(vmm_console_resize(f->d.virtio, 0, 65536, 50), -EINVAL);
    assert_int_equal(vmm_console_resize(f->d.virtio, 0, 1, 65536), -EINVAL);
}

static void ports_are_announced(void **state)
{
    struct fixture *f = *state;
    char name[128] = {0};
    uint16_t size[2];
    start_multiport(f);
    assert_int_equal(reg(&f->d, 0x104), 3);
    tell(f, 0, PORT_READY, 1);
    hear(f, 0, CONSOLE_PORT, 1, NULL);
    assert_int_equal(hear(f, 0, RESIZE, 1, size), 4);
    assert_int_equal(size[0], 80);
    assert_int_equal(size[1], 25);
    hear(f, 0, PORT_OPEN, 1, NULL);
    tell(f, 1, PORT_READY, 1);
    assert_int_equal(hear(f, 1, PORT_NAME, 1, name), 5);
    assert_string_equal(name, "agent");
    hear_nothing(f); /* nobody at the other end */
    vmm_chardev_event(f->backends[1].chardev, VMM_CHARDEV_OPENED);
    run(&f->d);
    hear(f, 1, PORT_OPEN, 1, NULL);
    vmm_chardev_event(f->backends[1].chardev, VMM_CHARDEV_CLOSED);
    run(&f->d);
    hear(f, 1, PORT_OPEN, 0, NULL);
    tell(f, 2, PORT_READY, 1);
    hear(f, 2, CONSOLE_PORT, 1, NULL);
    hear(f, 2, PORT_NAME, 1, NULL);
    hear(f, 2, PORT_OPEN, 1, NULL);
    assert_int_equal(vmm_console_resize(f->d.virtio, 2, 10, 20), 0);
    run(&f->d);
    assert_int_equal(hear(f, 2, RESIZE, 1, size), 4);
    assert_int_equal(size[0], 10);
    assert_int_equal(vmm_console_resize(f->d.virtio, 1, 10, 20), -EINVAL);
    tell(f, 2, PORT_READY, 0);
    assert_int_equal(vmm_console_resize(f->d.virtio, 2, 11, 20), 0);
    run(&f->d);
    hear_nothing(f);
}

static void rows_first(void **state)
{
    struct fixture *f = *state;
    uint16_t size[2];
    start_multiport(f);
    tell(f, 0, PORT_READY, 1);
    hear(f, 0, CONSOLE_PORT, 1, NULL);
    hear(f, 0, RESIZE, 1, size);
    assert_int_equal(size[0], 25);
    assert_int_equal(size[1], 80);
}

static void ports_carry_bytes(void **state)
{
    struct fixture *f = *state;
    start_multiport(f);
    ring_post(&f->rings[4], NULL, 100, WRITE);
    ring_kick(&f->rings[4]);
    assert_int_equal(vmm_chardev_can_receive(f->backends[1].chardev),
                     0); /* not open in the guest */
    uint32_t accepts = f->backends[1].accepts;
    tell(f, 1, PORT_OPEN, 1);
    assert_true(f->backends[1].accepts > accepts);
    assert_int_equal(vmm_chardev_can_receive(f->backends[1].chardev), 4096);
    deliver(f, 1, "to the agent");
    expect_given(f, 4, "to the agent");
    ring_send(&f->rings[5], "from it", 7);
    expect_taken(f, 1, "from it");
    ring_send(&f->rings[7], "log", 3);
    expect_taken(f, 2, "log");
    tell(f, 1, PORT_OPEN, 0);
    assert_int_equal(vmm_chardev_can_receive(f->backends[1].chardev), 0);
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 0);
    tell(f, 0, PORT_OPEN, 1);
    assert_int_equal(vmm_chardev_can_receive(f->backends[0].chardev), 4096);
}

static void wrong_messages(void **state)
{
    struct fixture *f = *state;
    start_multiport(f);
    tell(f, 3, PORT_READY, 1); /* no such port */
    tell(f, 0xff00ffff, PORT_OPEN, 1);
    tell(f, 0, 8, 1); /* no such events */
    tell(f, 0, 0xffff, 1);
    tell(f, 0, DEVICE_ADD, 1); /* not the driver's to say */
    tell(f, 0, DEVICE_READY, 0);
    hear_nothing(f);
    for (int i = 0; i < 200; i++) /* owed once, however often it is asked for */
        tell(f, 1, PORT_READY, 1);
    for (int i = 0; i < 4; i++)
        (void)hear(f, 1, PORT_NAME, 1, NULL);
    ring_send(&f->rings[3], "1234567", 7);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
    rings_start(&f->d, MULTIPORT, f->rings, 8);
    ring_post(&f->rings[2], NULL, 7, WRITE);
    ring_kick(&f->rings[2]);
    uint8_t ready[8] = {0, 0, 0, 0, DEVICE_READY, 0, 1, 0};
    ring_send(&f->rings[3], ready, 8);
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
    rings_start(&f->d, 0, f->rings, 8);
    ring_post(&f->rings[0], "x", 1, 0); /* readable, in the queue of input */
    deliver(f, 0, "text");
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS | NEEDS_RESET);
}

static void *save(struct fixture *f, size_t *length)
{
    struct vmm_state_writer *w;
    void *blob;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_virtio_device(f->d.virtio), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, length), 0);
    vmm_state_writer_free(w);
    return blob;
}

static int load(struct fixture *f, const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(blob, length, &r, NULL), 0);
    int rc = vmm_device_load(vmm_virtio_device(f->d.virtio), r, NULL);
    vmm_state_reader_free(r);
    run(&f->d);
    return rc;
}

static void saved_and_loaded(void **state)
{
    struct fixture *f = *state;
    size_t length;
    start_multiport(f);
    tell(f, 1, PORT_READY, 1);
    hear(f, 1, PORT_NAME, 1, NULL);
    tell(f, 1, PORT_OPEN, 1);
    deliver(f, 1, "waits");
    f->backends[1].room = 4;
    ring_send(&f->rings[5], "half of it", 10);
    expect_taken(f, 1, "half");
    void *blob = save(f, &length);
    vmm_device_reset(vmm_virtio_device(f->d.virtio));
    f->backends[1].room = SIZE_MAX;
    assert_int_equal(load(f, blob, length), 0);
    expect_taken(f, 1, " of it");
    assert_int_equal(ring_take(&f->rings[5], NULL, 0), 0);
    hear(f, 1, PORT_OPEN, 0, NULL); /* how it is on this host */
    assert_int_equal(vmm_chardev_can_receive(f->backends[1].chardev), 4096 - 5);
    ring_post(&f->rings[4], NULL, 100, WRITE);
    ring_kick(&f->rings[4]);
    expect_given(f, 4, "waits");
    assert_int_equal(reg(&f->d, 0x70), OK_STATUS);
    free(blob);
}

static void bad_options(void **state)
{
    struct fixture *f = prepare();
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_console_options o = VMM_VIRTIO_CONSOLE_OPTIONS_INIT;
    struct vmm_console_port p = VMM_CONSOLE_PORT_INIT;
    const struct vmm_console_port *const list[1] = {&p};
    struct vmm_virtio *virtio, *other;
    char name[66];
    (void)state;
    place.name = "console0";
    place.memory = f->d.memory;
    place.loop = f->d.loop;
    assert_int_equal(vmm_virtio_console_new(&place, NULL, &virtio, NULL), -EINVAL);
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), -EINVAL);
    o.ports = list;
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), -EINVAL);
    o.port_count = 32;
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), -EINVAL);
    o.port_count = 1;
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), -EINVAL); /* no chardev */
    p.chardev = f->backends[0].chardev;
    memset(name, 'n', 65);
    name[65] = '\0';
    p.name = name;
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), -EINVAL);
    p.name = NULL;
    p.columns = 65536;
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), -EINVAL);
    p.columns = 0;
    assert_int_equal(vmm_virtio_console_new(&place, &o, &virtio, NULL), 0);
    place.name = "console1";
    assert_int_equal(vmm_virtio_console_new(&place, &o, &other, NULL), -EBUSY);
    driver_attach(&f->d, virtio);
    void *pointer = f;
    tear_down(&pointer);
}

#define MANY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
#define ONE(test)  cmocka_unit_test_setup_teardown(test, set_up_one, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        ONE(one_console),
        ONE(input_is_bounded),
        ONE(buffers_after_input),
        ONE(output_waits_for_the_backend),
        ONE(configuration),
        MANY(ports_are_announced),
        cmocka_unit_test_setup_teardown(rows_first, set_up_swapped, tear_down),
        MANY(ports_carry_bytes),
        MANY(wrong_messages),
        MANY(saved_and_loaded),
        cmocka_unit_test(bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
