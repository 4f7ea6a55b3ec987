/* SPDX-License-Identifier: BSD-3-Clause */
/* Screenshots: PPM by ourselves, PNG by libpng. */
#include "backends/display/internal.h"

#include "config.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#ifdef HAVE_PNG
#include "base/soft.h"

#include <png.h>

/* Those of libpng's functions that are used, without the prefix. */
/* clang-format off */
#define PNG_FUNCTIONS(F) \
    F(get_io_ptr) F(error) F(longjmp) F(set_longjmp_fn) F(set_write_fn) F(set_compression_level) \
    F(set_filter) F(set_IHDR) F(write_info) F(write_row) F(write_end) F(create_write_struct) \
    F(create_info_struct) F(destroy_write_struct)
/* clang-format on */
struct png_library {
#define F(name) __typeof__(&png_##name) name;
    PNG_FUNCTIONS(F)
#undef F
};

static int load_png(struct png_library *library)
{
    const struct vmm_soft_symbol symbols[] = {
#define F(name) {"png_" #name, (void **)(void *)&library->name},
        PNG_FUNCTIONS(F)
#undef F
    };
    return vmm_soft_load("libpng16.so.16", "libpng16-16", symbols,
                         sizeof(symbols) / sizeof(symbols[0]), NULL);
}
#endif

struct image {
    int fd;
    uint32_t format;
    uint32_t *row;
    uint8_t *bytes; /* a row as R, G, B */
#ifdef HAVE_PNG
    struct png_library lib;
#endif
    int rc;
};

static int write_all(int fd, const uint8_t *data, size_t length)
{
    while (length) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? -errno : -EIO;
        data += n;
        length -= (size_t)n;
    }
    return 0;
}

static void fetch_row(struct image *image, const struct vmm_surface *s, uint32_t y)
{
    vmm_surface_row(s, 0, y, s->width, image->row);
    for (uint32_t x = 0; x < s->width; x++) {
        uint32_t pixel = image->row[x];
        image->bytes[3 * x] = (uint8_t)(pixel >> 16);
        image->bytes[3 * x + 1] = (uint8_t)(pixel >> 8);
        image->bytes[3 * x + 2] = (uint8_t)pixel;
    }
}

static int write_ppm(struct image *image, const struct vmm_surface *s)
{
    char head[64];
    int n = snprintf(head, sizeof(head), "P6\n%u %u\n255\n", s->width, s->height);
    int rc = write_all(image->fd, (const uint8_t *)head, (size_t)n);
    for (uint32_t y = 0; y < s->height && !rc; y++) {
        fetch_row(image, s, y);
        rc = write_all(image->fd, image->bytes, (size_t)s->width * 3);
    }
    return rc;
}

#ifdef HAVE_PNG
/* libpng's callbacks get nothing but its own structure, so the functions that ask it are found anew. */
static void png_put(png_structp png, png_bytep data, png_size_t length)
{
    struct png_library lib;
    if (load_png(&lib))
        return;
    struct image *image = lib.get_io_ptr(png);
    image->rc = image->rc ? image->rc : write_all(image->fd, data, length);
    if (image->rc)
        lib.error(png, "write");
}

static void png_sync(png_structp png)
{
    (void)png;
}

/* libpng's own would print. */
static void png_failed(png_structp png, png_const_charp text)
{
    struct png_library lib;
    (void)text;
    if (!load_png(&lib))
        lib.longjmp(png, 1);
}

static void png_warned(png_structp png, png_const_charp text)
{
    (void)png;
    (void)text;
}

static void png_rows(png_structp png, png_infop info, struct image *image,
                     const struct vmm_surface *s)
{
    const struct png_library *lib = &image->lib;
    /* NOLINTNEXTLINE: how libpng reports errors */
    if (setjmp(*lib->set_longjmp_fn(png, longjmp, sizeof(jmp_buf)))) {
        image->rc = image->rc ? image->rc : -ENOMEM;
        return;
    }
    lib->set_write_fn(png, image, png_put, png_sync);
    lib->set_compression_level(png, 3);
    lib->set_filter(png, 0, PNG_FILTER_SUB);
    lib->set_IHDR(png, info, s->width, s->height, 8, PNG_COLOR_TYPE_RGB, PNG_INTERLACE_NONE,
                  PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    lib->write_info(png, info);
    for (uint32_t y = 0; y < s->height; y++) {
        fetch_row(image, s, y);
        lib->write_row(png, image->bytes);
    }
    lib->write_end(png, NULL);
}

static int write_png(struct image *image, const struct vmm_surface *s)
{
    const struct png_library *lib = &image->lib;
    if (load_png(&image->lib))
        return -ENOTSUP;
    png_structp png = lib->create_write_struct(PNG_LIBPNG_VER_STRING, NULL, png_failed, png_warned);
    png_infop info = png ? lib->create_info_struct(png) : NULL;
    image->rc = info ? 0 : -ENOMEM;
    if (info)
        png_rows(png, info, image, s);
    lib->destroy_write_struct(&png, &info);
    return image->rc;
}
#else
static int write_png(struct image *image, const struct vmm_surface *s)
{
    (void)image;
    (void)s;
    return -ENOTSUP;
}
#endif

static int write_image(void *ctx, const struct vmm_surface *s)
{
    struct image *image = ctx;
    image->row = malloc((size_t)s->width * 4);
    image->bytes = malloc((size_t)s->width * 3);
    int rc = -ENOMEM;
    if (image->row && image->bytes)
        rc = image->format == VMM_IMAGE_PNG ? write_png(image, s) : write_ppm(image, s);
    free(image->row);
    free(image->bytes);
    return rc;
}

int vmm_display_screenshot(struct vmm_display *d, int fd, uint32_t format, struct vmm_error *err)
{
    struct image image = {.fd = fd, .format = format};
    if (format != VMM_IMAGE_PNG && format != VMM_IMAGE_PPM)
        return vmm_error_set(err, -EINVAL, "no such image format: %u", format);
#ifndef HAVE_PNG
    if (format == VMM_IMAGE_PNG)
        return vmm_error_set(err, -ENOTSUP, "this build has no libpng: take PPM");
#endif
    vmm_display_refresh(d);
    int rc = vmm_display_read(d, write_image, &image);
    if (rc == -ENODATA)
        return vmm_error_set(err, rc, "the screen has no picture yet");
    return rc ? vmm_error_set(err, rc, "writing the image: %s", strerror(-rc)) : 0;
}
