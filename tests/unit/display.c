/* SPDX-License-Identifier: BSD-3-Clause */
/* The screen between a device and those who look: damage, timing, images, text. */
#include "test.h"

#include <libvmm/display.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

#ifdef HAVE_PNG
#include <png.h>
#endif

struct fixture {
    struct vmm_display *display;
    struct vmm_loop *loop;
    uint64_t now;
    int again, refreshes, watched, changes, resizes;
    uint32_t draw_width, draw_height; /* 0: the source draws nothing */
    struct vmm_rect dirty;
    /* what a take has seen */
    uint32_t count, width, height;
    struct vmm_rect rects[VMM_WATCHER_RECTS];
    uint64_t generation;
    int answer;
};

static uint64_t clock_now(void *ctx)
{
    return ((struct fixture *)ctx)->now;
}

static int refresh(void *ctx)
{
    struct fixture *f = ctx;
    struct vmm_canvas c;
    f->refreshes++;
    if (f->draw_width && vmm_display_begin(f->display, f->draw_width, f->draw_height, &c) == 0) {
        for (uint32_t y = 0; y < f->dirty.height; y++)
            for (uint32_t x = 0; x < f->dirty.width; x++)
                memcpy(c.data + (f->dirty.y + y) * c.stride + (f->dirty.x + x) * 4,
                       &(uint32_t){0xff123456}, 4);
        vmm_display_damage(f->display, f->dirty.x, f->dirty.y, f->dirty.width, f->dirty.height);
        vmm_display_end(f->display);
    }
    f->dirty = (struct vmm_rect){0};
    return f->again;
}

static int text(void *ctx, struct vmm_text_screen *s)
{
    struct fixture *f = ctx;
    if (!f->resizes)
        return -ENODATA;
    s->columns = 6;
    s->rows = 2;
    s->cursor_column = s->cursor_row = UINT32_MAX;
    s->cells = calloc(12, sizeof(*s->cells));
    const uint32_t characters[] = {'A', 0xe9, 0x20ac, 0x1f600, 7, 0xd800};
    for (int i = 0; i < 6; i++)
        s->cells[i] = (struct vmm_text_cell){characters[i], 0xaabbcc, (uint32_t)(i / 3)};
    return 0;
}

static void watched(void *ctx, bool yes)
{
    ((struct fixture *)ctx)->watched += yes ? 1 : -1;
}

static void resize(void *ctx, uint32_t width, uint32_t height)
{
    struct fixture *f = ctx;
    f->resizes++;
    f->width = width;
    f->height = height;
}

static void changed(void *ctx)
{
    ((struct fixture *)ctx)->changes++;
}

static const struct vmm_display_ops ops = {sizeof(ops), refresh, text, watched, resize};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_loop_options o = VMM_LOOP_OPTIONS_INIT;
    *state = f;
    o.now = clock_now;
    o.now_ctx = f;
    f->now = 1000000000;
    return vmm_loop_new(&o, &f->loop) || vmm_display_new(&f->display) ||
           vmm_display_attach(f->display, &ops, f);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_display_detach(f->display);
    vmm_display_unref(f->display);
    vmm_loop_unref(f->loop);
    free(f);
    return 0;
}

static int see(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects, uint32_t count)
{
    struct fixture *f = ctx;
    f->count = count;
    memcpy(f->rects, rects, count * sizeof(*rects));
    f->width = s->width;
    f->height = s->height;
    f->generation = s->generation;
    for (uint32_t i = 0; i < count; i++) {
        assert_true(rects[i].width && rects[i].height);
        assert_true(rects[i].x + rects[i].width <= s->width);
        assert_true(rects[i].y + rects[i].height <= s->height);
    }
    return f->answer;
}

static void damage(struct fixture *f, uint32_t x, uint32_t y, uint32_t w, uint32_t h)
{
    struct vmm_canvas c;
    assert_int_equal(vmm_display_begin(f->display, 640, 480, &c), 0);
    vmm_display_damage(f->display, x, y, w, h);
    vmm_display_end(f->display);
}

static void test_damage(void **state)
{
    struct fixture *f = *state;
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *a, *b;
    assert_int_equal(vmm_watcher_new(f->display, &o, &a), 0);
    assert_int_equal(f->watched, 1);
    assert_int_equal(vmm_watcher_take(a, see, f), 0); /* no picture */
    damage(f, 0, 0, 0, 0);
    assert_int_equal(vmm_watcher_new(f->display, &o, &b), 0);
    assert_int_equal(f->watched, 1);
    f->answer = 7;
    assert_int_equal(vmm_watcher_take(a, see, f), 7);
    assert_int_equal(f->count, 1);
    assert_int_equal(f->rects[0].width, 640);
    assert_int_equal(vmm_watcher_take(a, see, f), 0); /* taken */
    assert_int_equal(vmm_watcher_take(b, see, f), 7);
    damage(f, 8, 16, 8, 16); /* neighbours become one, what is far away does not */
    damage(f, 16, 16, 8, 16);
    damage(f, 600, 400, 1000, UINT32_MAX);
    damage(f, 640, 0, 1, 1);
    f->answer = -EAGAIN;
    assert_int_equal(vmm_watcher_take(a, see, f), -EAGAIN);
    f->answer = 1;
    assert_int_equal(vmm_watcher_take(a, see, f), 1);
    assert_int_equal(f->count, 2);
    assert_memory_equal(&f->rects[0], (&(struct vmm_rect){8, 16, 16, 16}), sizeof(struct vmm_rect));
    assert_memory_equal(&f->rects[1], (&(struct vmm_rect){600, 400, 40, 80}),
                        sizeof(struct vmm_rect));
    for (uint32_t i = 0; i < 200; i++) /* too many become few that cover them */
        damage(f, i * 7 % 64 * 10, i * 13 % 48 * 10, 2, 2);
    assert_int_equal(vmm_watcher_take(a, see, f), 1);
    for (uint32_t i = 0; i < 200; i++) {
        bool covered = false;
        for (uint32_t k = 0; k < f->count; k++) {
            const struct vmm_rect *r = &f->rects[k];
            uint32_t x = i * 7 % 64 * 10, y = i * 13 % 48 * 10;
            covered |=
                x >= r->x && x + 2 <= r->x + r->width && y >= r->y && y + 2 <= r->y + r->height;
        }
        assert_true(covered);
    }
    vmm_watcher_free(a);
    assert_int_equal(f->watched, 1);
    vmm_watcher_free(b);
    assert_int_equal(f->watched, 0);
    assert_null(vmm_watcher_free(NULL));
}

static void test_sizes(void **state)
{
    struct fixture *f = *state;
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *w;
    struct vmm_canvas c;
    assert_int_equal(vmm_display_begin(f->display, 0, 5, &c), -EINVAL);
    assert_int_equal(vmm_display_begin(f->display, 5, 0, &c), -EINVAL);
    assert_int_equal(vmm_display_begin(f->display, VMM_DISPLAY_MAX + 1, 5, &c), -EINVAL);
    assert_int_equal(vmm_display_begin(f->display, UINT32_MAX, UINT32_MAX, &c), -EINVAL);
    assert_int_equal(vmm_display_attach(f->display, &ops, f), -EBUSY);
    assert_int_equal(vmm_display_attach(f->display, NULL, f), -EINVAL);
    assert_int_equal(vmm_display_resize(f->display, 0, 1), -EINVAL);
    assert_int_equal(vmm_display_resize(f->display, 800, 600), 0);
    assert_int_equal(f->resizes, 1);
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), 0);
    f->draw_width = 100;
    f->draw_height = 50;
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    uint64_t before = f->generation;
    assert_int_equal(f->width, 100);
    f->draw_width = 90; /* another size: the old rectangles are forgotten */
    f->count = 0;
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    assert_int_equal(f->count, 1);
    assert_int_equal(f->rects[0].width, 90);
    assert_true(f->generation != before);
    vmm_watcher_free(w);
    o.size = sizeof(size_t) - 1;
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), -EINVAL);
    vmm_display_detach(f->display);
    assert_int_equal(vmm_display_resize(f->display, 800, 600), -ENOTSUP);
    assert_int_equal(vmm_display_attach(f->display, &ops, f), 0);
}

static int pass(struct fixture *f, uint64_t ms)
{
    int n = 0;
    for (uint64_t i = 0; i < ms; i++) {
        f->now += 1000000;
        n += vmm_loop_dispatch(f->loop, 0);
    }
    return n;
}

static void test_timing(void **state)
{
    struct fixture *f = *state;
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *w;
    o.loop = f->loop;
    o.interval_ms = 10;
    o.changed = changed;
    o.ctx = f;
    assert_int_equal(pass(f, 1000), 0); /* nobody looks */
    assert_int_equal(f->refreshes, 0);
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), 0);
    pass(f, 20);
    assert_int_equal(f->refreshes, 1);
    assert_int_equal(f->changes, 0);
    assert_int_equal(pass(f, 1000), 0); /* idle, and the source will say */
    vmm_display_wake(f->display);
    vmm_display_wake(f->display);
    pass(f, 20);
    assert_int_equal(f->refreshes, 2);
    damage(f, 1, 1, 1, 1);
    pass(f, 20);
    assert_true(f->changes > 0);
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    pass(f, 20);
    assert_int_equal(pass(f, 1000), 0);
    f->again = VMM_REFRESH_POLL; /* polled: every 10 ms at first, every 40 ms when idle */
    vmm_display_wake(f->display);
    pass(f, 100);
    f->refreshes = 0;
    pass(f, 400);
    assert_in_range(f->refreshes, 9, 11);
    vmm_watcher_pause(w, true);
    f->refreshes = 0;
    assert_int_equal(pass(f, 400), 0);
    assert_int_equal(f->refreshes, 0);
    vmm_watcher_pause(w, false);
    pass(f, 400);
    assert_true(f->refreshes >= 10);
    vmm_watcher_free(w);
    assert_int_equal(pass(f, 400), 0);
}

static void test_text(void **state)
{
    struct fixture *f = *state;
    struct vmm_text_screen *s;
    char *utf8;
    assert_int_equal(vmm_display_text(f->display, &s), -ENODATA);
    f->resizes = 1;
    assert_int_equal(vmm_display_text(f->display, &s), 0);
    assert_int_equal(vmm_text_screen_utf8(s, false, &utf8), 0);
    assert_string_equal(utf8, "A\u00e9\u20ac\U0001f600\ufffd\ufffd\n\n");
    free(utf8);
    assert_int_equal(vmm_text_screen_utf8(s, true, &utf8), 0);
    assert_string_equal(utf8, "\033[38;2;170;187;204;48;2;0;0;0mA\u00e9\u20ac"
                              "\033[38;2;170;187;204;48;2;0;0;1m\U0001f600\ufffd\ufffd\033[0m\n"
                              "\033[38;2;0;0;0;48;2;0;0;0m      \033[0m\n");
    free(utf8);
    s->columns = UINT32_MAX;
    assert_int_equal(vmm_text_screen_utf8(s, true, &utf8), -EINVAL);
    vmm_text_screen_free(s);
    vmm_text_screen_free(NULL);
}

/* A picture with one drawn corner and a half transparent cursor across the edge. */
static void draw(struct fixture *f)
{
    uint32_t pixels[16];
    for (int i = 0; i < 16; i++)
        pixels[i] = 0x80400000;
    struct vmm_cursor c = {pixels, 4, 4, 2, 2, 0, 1};
    f->draw_width = 5;
    f->draw_height = 3;
    f->dirty = (struct vmm_rect){0, 0, 1, 3};
    assert_int_equal(vmm_display_set_cursor(f->display, &c), 0);
    c.width = 257;
    assert_int_equal(vmm_display_set_cursor(f->display, &c), -EINVAL);
}

static const uint8_t drawn[3][5][3] = {
    {{0x49, 0x1a, 0x2b}, {0x40, 0, 0}},
    {{0x49, 0x1a, 0x2b}, {0x40, 0, 0}},
    {{0x49, 0x1a, 0x2b}, {0x40, 0, 0}},
};

static void test_images(void **state)
{
    struct fixture *f = *state;
    uint8_t data[256];
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(vmm_display_screenshot(f->display, fileno(file), VMM_IMAGE_PPM, NULL),
                     -ENODATA);
    assert_int_equal(vmm_display_screenshot(f->display, fileno(file), 9, NULL), -EINVAL);
    draw(f);
    assert_int_equal(vmm_display_screenshot(f->display, -1, VMM_IMAGE_PPM, NULL), -EBADF);
    assert_int_equal(vmm_display_screenshot(f->display, fileno(file), VMM_IMAGE_PPM, NULL), 0);
    rewind(file);
    assert_int_equal(fread(data, 1, sizeof(data), file), 11 + sizeof(drawn));
    assert_memory_equal(data, "P6\n5 3\n255\n", 11);
    for (uint32_t i = 0; i < sizeof(drawn); i++) /* 127.5/255 may go either way */
        assert_in_range(data[11 + i] + 1, ((const uint8_t *)drawn)[i],
                        ((const uint8_t *)drawn)[i] + 2);
    fclose(file);
#ifdef HAVE_PNG
    png_image png = {.version = PNG_IMAGE_VERSION};
    uint8_t pixels[sizeof(drawn)];
    file = tmpfile();
    assert_int_equal(vmm_display_screenshot(f->display, -1, VMM_IMAGE_PNG, NULL), -EBADF);
    assert_int_equal(vmm_display_screenshot(f->display, fileno(file), VMM_IMAGE_PNG, NULL), 0);
    rewind(file);
    assert_true(png_image_begin_read_from_stdio(&png, file));
    assert_int_equal(png.width, 5);
    assert_int_equal(png.height, 3);
    png.format = PNG_FORMAT_RGB;
    assert_true(png_image_finish_read(&png, NULL, pixels, 0, NULL));
    assert_memory_equal(pixels, data + 11, sizeof(pixels));
    fclose(file);
#else
    assert_int_equal(vmm_display_screenshot(f->display, 1, VMM_IMAGE_PNG, NULL), -ENOTSUP);
#endif
}

static void test_cursor(void **state)
{
    struct fixture *f = *state;
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *w;
    draw(f);
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), 0);
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    f->count = 0;
    vmm_display_move_cursor(f->display, 0, 1); /* it is there already */
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    assert_int_equal(f->count, 0);
    vmm_display_move_cursor(f->display, 4, 1); /* where it was, and where it is: x 0-1 and 2-4 */
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    assert_true(f->count > 0);
    f->count = 0;
    vmm_display_move_cursor(f->display, INT32_MIN, INT32_MAX);
    assert_int_equal(vmm_watcher_take(w, see, f), 0);
    assert_int_equal(f->count, 1);
    vmm_display_move_cursor(f->display, INT32_MAX, INT32_MIN);
    assert_int_equal(vmm_display_set_cursor(f->display, NULL), 0);
    vmm_watcher_free(w);
}

static void test_recorder(void **state)
{
    struct fixture *f = *state;
    struct vmm_recorder *r;
    char folder[] = "/tmp/libvmm-frames-XXXXXX", name[64];
    assert_non_null(mkdtemp(folder));
    assert_int_equal(
        vmm_recorder_new(f->display, f->loop, "/nowhere", VMM_IMAGE_PPM, 10, 2, &r, NULL), -ENOENT);
    assert_int_equal(vmm_recorder_new(f->display, NULL, folder, VMM_IMAGE_PPM, 10, 2, &r, NULL),
                     -EINVAL);
    assert_int_equal(vmm_recorder_new(f->display, f->loop, folder, VMM_IMAGE_PPM, 10, 2, &r, NULL),
                     0);
    for (int i = 0; i < 5; i++) {
        damage(f, (uint32_t)i, 0, 1, 1);
        pass(f, 50);
    }
    assert_int_equal(vmm_recorder_frames(r), 2);
    vmm_recorder_free(r);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(name, sizeof(name), "%s/frame-%06d.ppm", folder, i);
        assert_int_equal(unlink(name), 0);
    }
    assert_int_equal(rmdir(folder), 0);
    assert_null(vmm_recorder_free(NULL));
}

/* Another thread changes the size all the time while we read. */
static void *change(void *ctx)
{
    struct fixture *f = ctx;
    struct vmm_canvas c;
    for (uint32_t i = 0; i < 3000; i++)
        if (vmm_display_begin(f->display, 1 + i % 97, 1 + i % 89, &c) == 0) {
            memset(c.data, (int)i, (size_t)c.stride * (1 + i % 89));
            vmm_display_damage(f->display, i % 90, i % 80, 9, 9);
            vmm_display_end(f->display);
            vmm_display_move_cursor(f->display, (int32_t)i % 100, 3);
        }
    return NULL;
}

static void test_race(void **state)
{
    struct fixture *f = *state;
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *w;
    pthread_t thread;
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), 0);
    assert_int_equal(pthread_create(&thread, NULL, change, f), 0);
    for (int i = 0; i < 3000; i++)
        (void)vmm_watcher_take(w, see, f);
    pthread_join(thread, NULL);
    vmm_watcher_free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_damage, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_sizes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_timing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_text, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_images, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cursor, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_recorder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_race, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
