/* SPDX-License-Identifier: BSD-3-Clause */
/* The VNC server against a client of our own: pictures, keys, passwords, WebSocket, nonsense. */
#include "test.h"

#include <libvmm/vnc.h>

#include <arpa/inet.h>
#include <errno.h>
#include <linux/input-event-codes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#ifdef HAVE_NETTLE
#include <nettle/des.h>
#endif
#ifdef HAVE_ZLIB
#include <zlib.h>
#endif

#define WIDTH  100u
#define HEIGHT 50u

struct fixture {
    struct vmm_loop *loop;
    struct vmm_display *display;
    struct vmm_seat *input;
    struct vmm_vnc *vnc;
    int fd;
    uint32_t keys[32], key_count;
    uint32_t x, y;
    int32_t wheel;
    uint32_t screen[WIDTH * HEIGHT];
};

static void on_key(void *ctx, uint32_t code, bool down)
{
    struct fixture *f = ctx;
    f->keys[f->key_count++ % 32] = code | (down ? 0x10000u : 0);
}

static void on_absolute(void *ctx, uint32_t x, uint32_t y)
{
    struct fixture *f = ctx;
    f->x = x;
    f->y = y;
}

static void on_wheel(void *ctx, int32_t vertical, int32_t horizontal)
{
    ((struct fixture *)ctx)->wheel += vertical + 100 * horizontal;
}

static void draw(struct fixture *f, uint32_t x, uint32_t y, uint32_t w, uint32_t h, uint32_t colour)
{
    struct vmm_canvas c;
    assert_int_equal(vmm_display_begin(f->display, WIDTH, HEIGHT, &c), 0);
    for (uint32_t i = 0; i < h; i++)
        for (uint32_t k = 0; k < w; k++) {
            uint32_t pixel = colour ? colour : (k * 0x30201 + i * 0x50403) & 0xffffff;
            memcpy(c.data + (y + i) * c.stride + (x + k) * 4, &pixel, 4);
        }
    vmm_display_damage(f->display, x, y, w, h);
    vmm_display_end(f->display);
}

static int set_up(void **state)
{
    static const struct vmm_seat_ops ops = {sizeof(ops), on_key, on_absolute, NULL, on_wheel};
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    f->fd = -1;
    if (vmm_loop_new(NULL, &f->loop) || vmm_display_new(&f->display) || vmm_seat_new(&f->input) ||
        vmm_seat_attach(f->input, &ops, f))
        return -1;
    draw(f, 0, 0, WIDTH, HEIGHT, 0);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_vnc_free(f->vnc);
    if (f->fd >= 0)
        close(f->fd);
    vmm_seat_detach(f->input, f);
    vmm_seat_unref(f->input);
    vmm_display_unref(f->display);
    vmm_loop_unref(f->loop);
    free(f);
    return 0;
}

static void serve(struct fixture *f, const char *password, bool websocket)
{
    struct vmm_vnc_options o = VMM_VNC_OPTIONS_INIT;
    o.loop = f->loop;
    o.display = f->display;
    o.input = f->input;
    o.address = "127.0.0.1:0";
    o.password = password;
    o.websocket = websocket;
    o.interval_ms = 1;
    o.clients_max = 2;
    assert_int_equal(vmm_vnc_new(&o, &f->vnc, NULL), 0);
}

static int connect_to(struct fixture *f)
{
    struct sockaddr_in a = {.sin_family = AF_INET,
                            .sin_port = htons((uint16_t)vmm_vnc_port(f->vnc))};
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    const int one = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
    return fd;
}

/* Exactly so many bytes, with the server running meanwhile. False: the connection was closed. */
static bool try_get(struct fixture *f, void *to, size_t length)
{
    uint8_t *p = to;
    for (int idle = 0; length;) {
        (void)vmm_loop_dispatch(f->loop, 1);
        ssize_t n = recv(f->fd, p, length, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            return false;
        if (n < 0 && ++idle > 3000)
            fail_msg("the server says nothing");
        if (n > 0) {
            p += n;
            length -= (size_t)n;
        }
    }
    return true;
}

static void get(struct fixture *f, void *to, size_t length)
{
    assert_true(try_get(f, to, length));
}

static uint32_t get32(struct fixture *f)
{
    uint32_t v;
    get(f, &v, 4);
    return ntohl(v);
}

static uint32_t get16(struct fixture *f)
{
    uint16_t v;
    get(f, &v, 2);
    return ntohs(v);
}

static void say(struct fixture *f, const void *data, size_t length)
{
    assert_int_equal(send(f->fd, data, length, MSG_NOSIGNAL), length);
    for (int i = 0; i < 5; i++)
        (void)vmm_loop_dispatch(f->loop, 1);
}
#define SAY(f, ...) say(f, (const uint8_t[]){__VA_ARGS__}, sizeof((const uint8_t[]){__VA_ARGS__}))

static void hello(struct fixture *f)
{
    char version[12];
    uint8_t init[24 + 6];
    f->fd = connect_to(f);
    get(f, version, 12);
    assert_memory_equal(version, "RFB 003.008\n", 12);
    say(f, "RFB 003.008\n", 12);
    get(f, version, 2);
    assert_memory_equal(version, "\1\1", 2);
    SAY(f, 1);
    assert_int_equal(get32(f), 0);
    SAY(f, 1);
    get(f, init, sizeof(init));
    assert_int_equal(init[1], WIDTH);
    assert_int_equal(init[3], HEIGHT);
    assert_memory_equal(init + 24, "libvmm", 6);
}

/* Take an update's rectangles apart; `bytes` a pixel (little-endian). Returns how many. */
static uint32_t pixel_of(const uint8_t *p, uint32_t bytes)
{
    uint32_t v = 0;
    for (uint32_t i = 0; i < bytes; i++)
        v |= (uint32_t)p[i] << 8 * i;
    return v;
}

static void get_raw(struct fixture *f, uint32_t x, uint32_t y, uint32_t w, uint32_t h,
                    uint32_t bytes)
{
    uint8_t row[WIDTH * 4];
    for (uint32_t i = 0; i < h; i++) {
        get(f, row, (size_t)w * bytes);
        for (uint32_t k = 0; k < w; k++)
            f->screen[(y + i) * WIDTH + x + k] = pixel_of(row + (size_t)k * bytes, bytes);
    }
}

static void get_tile(struct fixture *f, uint32_t x, uint32_t y, uint32_t w, uint32_t h,
                     uint32_t bytes)
{
    uint8_t kind, data[8], n = 0;
    get(f, &kind, 1);
    if (kind & 1) {
        get_raw(f, x, y, w, h, bytes);
        return;
    }
    assert_true(kind & 2);
    get(f, data, bytes);
    for (uint32_t i = 0; i < w * h; i++)
        f->screen[(y + i / w) * WIDTH + x + i % w] = pixel_of(data, bytes);
    if (!(kind & 8))
        return;
    get(f, data, bytes);
    get(f, &n, 1);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t s[2];
        get(f, s, 2);
        uint32_t sx = s[0] >> 4, sy = s[0] & 15, sw = (s[1] >> 4) + 1u, sh = (s[1] & 15) + 1u;
        assert_true(sx + sw <= w && sy + sh <= h);
        for (uint32_t k = 0; k < sw * sh; k++)
            f->screen[(y + sy + k / sw) * WIDTH + x + sx + k % sw] = pixel_of(data, bytes);
    }
}

#ifdef HAVE_ZLIB
static void get_zlib(struct fixture *f, z_stream *z, uint32_t w, uint32_t h)
{
    uint32_t length = get32(f);
    uint8_t *in = malloc(length);
    get(f, in, length);
    z->next_in = in;
    z->avail_in = length;
    z->next_out = (uint8_t *)f->screen; /* whole screens only */
    z->avail_out = w * h * 4;
    assert_int_equal(inflate(z, Z_SYNC_FLUSH), Z_OK);
    assert_int_equal(z->avail_out, 0);
    free(in);
}
#endif

static uint32_t get_update(struct fixture *f, uint32_t bytes, void *z)
{
    assert_int_equal(get16(f), 0);
    uint32_t count = get16(f), pixels = 0;
    (void)z;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t x = get16(f), y = get16(f), w = get16(f), h = get16(f);
        int32_t encoding = (int32_t)get32(f);
        if (encoding < 0)
            continue;
        assert_true(x + w <= WIDTH && y + h <= HEIGHT);
        pixels += w * h;
        if (encoding == 0)
            get_raw(f, x, y, w, h, bytes);
        if (encoding == 5)
            for (uint32_t ty = 0; ty < h; ty += 16)
                for (uint32_t tx = 0; tx < w; tx += 16)
                    get_tile(f, x + tx, y + ty, w - tx < 16 ? w - tx : 16,
                             h - ty < 16 ? h - ty : 16, bytes);
#ifdef HAVE_ZLIB
        if (encoding == 6)
            get_zlib(f, z, w, h);
#endif
    }
    return pixels;
}

static int compare(void *ctx, const struct vmm_surface *s)
{
    struct fixture *f = ctx;
    uint32_t row[WIDTH];
    for (uint32_t y = 0; y < HEIGHT; y++) {
        vmm_surface_row(s, 0, y, WIDTH, row);
        for (uint32_t x = 0; x < WIDTH; x++)
            assert_int_equal(f->screen[y * WIDTH + x] & 0xffffff, row[x] & 0xffffff);
    }
    return 0;
}

static void expect_same(struct fixture *f)
{
    assert_int_equal(vmm_display_read(f->display, compare, f), 0);
}

#define ASK(f, incremental) SAY(f, 3, incremental, 0, 0, 0, 0, 0, WIDTH, 0, HEIGHT)

static void test_pictures(void **state)
{
    struct fixture *f = *state;
    serve(f, NULL, false);
    hello(f);
    assert_int_equal(vmm_vnc_clients(f->vnc), 1);
    ASK(f, 0);
    assert_int_equal(get_update(f, 4, NULL), WIDTH * HEIGHT);
    expect_same(f);
    ASK(f, 1); /* what changes later */
    draw(f, 10, 20, 5, 7, 0xff8001);
    assert_int_equal(get_update(f, 4, NULL), 35);
    expect_same(f);
    SAY(f, 2, 0, 0, 2, 0xff, 0xff, 0xff, 0x21, 0, 0, 0, 5); /* hextile, resize */
    ASK(f, 0);
    draw(f, 0, 0, 60, 40, 0x112233);
    draw(f, 3, 3, 20, 2, 0x445566);
    while (get_update(f, 4, NULL) != WIDTH * HEIGHT)
        ;
    ASK(f, 0);
    (void)get_update(f, 4, NULL);
    expect_same(f);
    SAY(f, 0, 0, 0, 0, 16, 16, 0, 1, 0, 31, 0, 63, 0, 31, 11, 5, 0, 0, 0, 0); /* 5-6-5 */
    ASK(f, 0);
    (void)get_update(f, 2, NULL);
    assert_int_equal(f->screen[5 * WIDTH + 30], 2 << 11 | 8 << 5 | 6);
    assert_int_equal(f->screen[3 * WIDTH + 3], 8 << 11 | 21 << 5 | 12);
}

static void test_zlib(void **state)
{
#ifdef HAVE_ZLIB
    struct fixture *f = *state;
    z_stream z = {0};
    assert_int_equal(inflateInit(&z), Z_OK);
    serve(f, NULL, false);
    hello(f);
    SAY(f, 2, 0, 0, 1, 0, 0, 0, 6);
    for (int i = 0; i < 3; i++) { /* one stream goes on */
        draw(f, 0, 0, WIDTH, HEIGHT, (uint32_t)i * 77);
        ASK(f, 0);
        assert_int_equal(get_update(f, 4, &z), WIDTH * HEIGHT);
        expect_same(f);
    }
    inflateEnd(&z);
#else
    (void)state;
    skip();
#endif
}

static void test_input(void **state)
{
    struct fixture *f = *state;
    serve(f, NULL, false);
    hello(f);
    SAY(f, 4, 1, 0, 0, 0, 0, 0, 'a', 4, 0, 0, 0, 0, 0, 0, 'A');
    SAY(f, 4, 1, 0, 0, 0, 0, 0xff, 0x0d, 4, 1, 0, 0, 0, 0, 0xff, 0xc9);
    SAY(f, 4, 1, 0, 0, 0x01, 0, 0x20, 0xac); /* the euro: no key */
    SAY(f, 255, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0x1e, 255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xc8);
    static const uint32_t keys[] = {0x10000 | KEY_A,   KEY_A,           0x10000 | KEY_ENTER,
                                    0x10000 | KEY_F12, 0x10000 | KEY_A, KEY_UP};
    assert_int_equal(f->key_count, 6);
    assert_memory_equal(f->keys, keys, sizeof(keys));
    SAY(f, 5, 0, 0, WIDTH - 1, 0, 0);
    assert_int_equal(f->x, VMM_POINTER_MAX);
    assert_int_equal(f->y, 0);
    SAY(f, 5, 5, 0xff, 0xff, 0xff, 0xff); /* outside; two buttons */
    assert_int_equal(f->y, VMM_POINTER_MAX);
    assert_int_equal(f->keys[6], 0x10000 | BTN_LEFT);
    assert_int_equal(f->keys[7], 0x10000 | BTN_RIGHT);
    SAY(f, 5, 0, 0, 0, 0, 0, 5, 8, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 5, 16, 0, 0, 0, 0);
    assert_int_equal(f->keys[8], BTN_LEFT);
}

static void test_wheel_and_cut_text(void **state)
{
    struct fixture *f = *state;
    uint8_t text[8 + 9000 + 8] = {6, 0, 0, 0, 0, 0, 9000 >> 8, 9000 & 255};
    serve(f, NULL, false);
    hello(f);
    SAY(f, 5, 8, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0);
    assert_int_equal(f->wheel, 1);
    SAY(f, 5, 16, 0, 0, 0, 0, 5, 16, 0, 0, 0, 0);
    assert_int_equal(f->wheel, 0);
    memset(text + 8, 5, 9000); /* it looks like messages, and is skipped */
    memcpy(text + 9008, (uint8_t[]){4, 1, 0, 0, 0, 0, 0, 'z'}, 8);
    say(f, text, sizeof(text));
    for (int i = 0; i < 20; i++)
        (void)vmm_loop_dispatch(f->loop, 1);
    assert_int_equal(f->key_count, 1);
    assert_int_equal(f->keys[0], 0x10000 | KEY_Z);
}

static void test_text(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(vmm_seat_text(f->input, "a\xc3"), -EINVAL);
    assert_int_equal(f->key_count, 0);
    assert_int_equal(vmm_seat_text(f->input, "a|\n"), 0);
    static const uint32_t keys[] = {0x10000 | KEY_A,         KEY_A,         0x10000 | KEY_LEFTSHIFT,
                                    0x10000 | KEY_BACKSLASH, KEY_BACKSLASH, KEY_LEFTSHIFT,
                                    0x10000 | KEY_ENTER,     KEY_ENTER};
    assert_int_equal(f->key_count, 8);
    assert_memory_equal(f->keys, keys, sizeof(keys));
    assert_int_equal(vmm_seat_keysym(f->input, 0xfe50, true), -ENOENT);
}

static void test_password(void **state)
{
#ifdef HAVE_NETTLE
    struct fixture *f = *state;
    /* "secret" with the bits of each character the other way round. */
    static const uint8_t key[8] = {0xce, 0xa6, 0xc6, 0x4e, 0xa6, 0x2e, 0, 0};
    serve(f, "secret", false);
    for (int wrong = 0; wrong < 2; wrong++) {
        uint8_t data[32], answer[16];
        struct des_ctx des;
        f->fd = connect_to(f);
        get(f, data, 12);
        say(f, "RFB 003.008\n", 12);
        get(f, data, 2);
        assert_memory_equal(data, "\1\2", 2);
        SAY(f, 2);
        get(f, data, 16);
        des_set_key(&des, key);
        des_encrypt(&des, 16, answer, data);
        answer[15] ^= wrong;
        say(f, answer, 16);
        assert_int_equal(get32(f), wrong);
        if (wrong) {
            uint32_t n = get32(f);
            assert_true(n > 0 && n < 100);
            while (n--)
                get(f, data, 1);
            assert_false(try_get(f, data, 1));
        } else {
            SAY(f, 1);
            get(f, data, 24);
        }
        close(f->fd);
        f->fd = -1;
    }
    /* No way around it. */
    uint8_t data[16];
    f->fd = connect_to(f);
    get(f, data, 12);
    say(f, "RFB 003.008\n", 12);
    get(f, data, 2);
    SAY(f, 1);
    assert_false(try_get(f, data, 1));
#else
    (void)state;
    skip();
#endif
}

#ifdef HAVE_NETTLE
static void say_frame(struct fixture *f, uint8_t opcode, const void *data, uint8_t length)
{
    uint8_t frame[140] = {(uint8_t)(0x80 | opcode), (uint8_t)(0x80 | length), 1, 2, 3, 4};
    for (uint32_t i = 0; i < length; i++)
        frame[6 + i] = ((const uint8_t *)data)[i] ^ (uint8_t)(i % 4 + 1);
    say(f, frame, 6u + length);
}
#endif

static void test_websocket(void **state)
{
#ifdef HAVE_NETTLE
    struct fixture *f = *state;
    char answer[512] = {0}, data[32];
    serve(f, NULL, true);
    f->fd = connect_to(f);
    const char request[] = "GET /websockify HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                           "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
                           "Sec-WebSocket-Protocol: binary\r\n\r\n";
    say(f, request, 40); /* in pieces */
    say(f, request + 40, sizeof(request) - 1 - 40);
    for (size_t n = 0; !strstr(answer, "\r\n\r\n"); n++)
        get(f, answer + n, 1);
    assert_non_null(strstr(answer, "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
    get(f, data, 14); /* a frame of twelve bytes */
    assert_memory_equal(data, "\x82\x0cRFB 003.008\n", 14);
    say_frame(f, 2, "RFB 003.008\n", 12);
    get(f, data, 4);
    assert_memory_equal(data, "\x82\x02\1\1", 4);
    say_frame(f, 9, "ping", 4);
    get(f, data, 6);
    assert_memory_equal(data, "\x8a\x04ping", 6);
    say_frame(f, 2, "\1", 1);
    get(f, data, 6);
    say_frame(f, 8, "", 0);
    assert_false(try_get(f, data, 1));
    close(f->fd);
    f->fd = connect_to(f); /* frames must be masked */
    say(f, "POST / HTTP/1.1\r\n\r\n", 19);
    assert_false(try_get(f, data, 1));
#else
    (void)state;
    skip();
#endif
}

/* Messages that are wrong, and random ones, end the connection at most. */
static void test_nonsense(void **state)
{
    struct fixture *f = *state;
    uint8_t byte;
    serve(f, NULL, false);
    static const struct {
        uint32_t length;
        uint8_t data[20];
    } bad[] = {{1, {77}},
               {20, {0, 0, 0, 0, 24, 24, 0, 1, 0, 255, 0, 255, 0, 255, 16, 8, 0}},
               {20, {0, 0, 0, 0, 32, 24, 0, 0, 0, 255, 0, 255, 0, 255, 16, 8, 0}},
               {20, {0, 0, 0, 0, 32, 24, 0, 1, 0, 255, 0, 255, 0, 255, 32, 8, 0}},
               {20, {0, 0, 0, 0, 8, 8, 0, 1, 0, 255, 0, 255, 0, 255, 1, 0, 0}},
               {8, {6, 0, 0, 0, 0xff, 0xff, 0xff, 0xff}},
               {4, {2, 0, 0xff, 0xff}},
               {12, {255, 1}}};
    for (uint32_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        hello(f);
        say(f, bad[i].data, bad[i].length);
        assert_false(try_get(f, &byte, 1));
        close(f->fd);
    }
    srand(7);
    for (uint32_t i = 0; i < 200; i++) {
        uint8_t data[64];
        hello(f);
        for (uint32_t k = 0; k < sizeof(data); k++)
            data[k] = (uint8_t)(k % 8 ? rand() : rand() % 7);
        (void)send(f->fd, data, sizeof(data), MSG_NOSIGNAL);
        for (int k = 0; k < 3; k++)
            (void)vmm_loop_dispatch(f->loop, 1);
        close(f->fd);
        for (int k = 0; k < 3; k++)
            (void)vmm_loop_dispatch(f->loop, 0);
    }
    for (int i = 0; i < 100 && vmm_vnc_clients(f->vnc); i++)
        (void)vmm_loop_dispatch(f->loop, 1);
    assert_int_equal(vmm_vnc_clients(f->vnc), 0);
    f->fd = -1;
    int fds[3]; /* one more than may */
    for (int i = 0; i < 3; i++)
        fds[i] = connect_to(f);
    for (int i = 0; i < 10; i++)
        (void)vmm_loop_dispatch(f->loop, 1);
    assert_int_equal(vmm_vnc_clients(f->vnc), 2);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}

static void test_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_vnc_options o = VMM_VNC_OPTIONS_INIT;
    static const char *const wrong[] = {"",      "127.0.0.1",       ":5900", "localhost:5900x",
                                        "unix:", "127.0.0.1:70000x"};
    o.loop = f->loop;
    assert_int_equal(vmm_vnc_new(&o, &f->vnc, NULL), -EINVAL);
    o.display = f->display;
    for (uint32_t i = 0; i < 6; i++) {
        o.address = wrong[i];
        assert_int_equal(vmm_vnc_new(&o, &f->vnc, NULL), -EINVAL);
    }
    o.address = "unix:/tmp/libvmm-vnc-test";
    o.password = "";
    assert_int_equal(vmm_vnc_new(&o, &f->vnc, NULL), -EINVAL);
    o.password = NULL;
    o.clients_max = 65;
    assert_int_equal(vmm_vnc_new(&o, &f->vnc, NULL), -EINVAL);
    o.clients_max = 0;
    (void)unlink("/tmp/libvmm-vnc-test");
    assert_int_equal(vmm_vnc_new(&o, &f->vnc, NULL), 0);
    assert_int_equal(vmm_vnc_port(f->vnc), 0);
    f->vnc = vmm_vnc_free(f->vnc);
    assert_int_equal(access("/tmp/libvmm-vnc-test", F_OK), -1);
    assert_null(vmm_vnc_free(NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_pictures),           TEST(test_zlib),     TEST(test_input),
        TEST(test_wheel_and_cut_text), TEST(test_text),     TEST(test_password),
        TEST(test_websocket),          TEST(test_nonsense), TEST(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
