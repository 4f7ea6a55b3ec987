/* SPDX-License-Identifier: BSD-3-Clause */
/* The VGA by its ports, window, frame buffer and display; hostile register walks. */
#include "test.h"
#include "vga-modes.h"

#include <libvmm/vga.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#define BAR0   0xd0000000u
#define BAR2   0xe0000000u
#define SLOT   (2u << 3)
#define WINDOW 0xa0000u

struct fixture {
    struct vmm_memory *memory;
    struct vmm_bus *mmio, *ports;
    struct vmm_pci_host *host;
    struct vmm_display *display;
    struct vmm_vga *vga;
    uint32_t width, height, damaged;
    uint32_t *pixels; /* as they were drawn last */
};

static void outb(struct fixture *f, uint32_t port, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->ports, port, 1, value), 0);
}

static uint8_t inb(struct fixture *f, uint32_t port)
{
    uint64_t value;
    assert_int_equal(vmm_bus_read(f->ports, port, 1, &value), 0);
    return (uint8_t)value;
}

static void dispi(struct fixture *f, uint32_t index, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->ports, 0x1ce, 2, index), 0);
    assert_int_equal(vmm_bus_write(f->ports, 0x1cf, 2, value), 0);
}

static uint32_t dispi_get(struct fixture *f, uint32_t index)
{
    uint64_t value;
    assert_int_equal(vmm_bus_write(f->ports, 0x1ce, 2, index), 0);
    assert_int_equal(vmm_bus_read(f->ports, 0x1cf, 2, &value), 0);
    return (uint32_t)value;
}

static void poke(struct fixture *f, uint32_t offset, uint32_t value)
{
    assert_int_equal(vmm_bus_write(f->mmio, WINDOW + offset, 1, value), 0);
}

static uint8_t peek(struct fixture *f, uint32_t offset)
{
    uint64_t value;
    assert_int_equal(vmm_bus_read(f->mmio, WINDOW + offset, 1, &value), 0);
    return (uint8_t)value;
}

static void indexed(struct fixture *f, uint32_t port, uint32_t index, uint32_t value)
{
    outb(f, port, index);
    outb(f, port + 1, value);
}

static void attribute(struct fixture *f, uint32_t index, uint32_t value)
{
    (void)inb(f, 0x3da);
    outb(f, 0x3c0, index);
    outb(f, 0x3c0, value);
}

static void set_mode(struct fixture *f, const struct vga_mode *m)
{
    outb(f, 0x3c2, m->misc);
    for (uint32_t i = 0; i < 5; i++)
        indexed(f, 0x3c4, i, m->sr[i]);
    indexed(f, 0x3d4, 0x11, 0);
    for (uint32_t i = 0; i < 25; i++)
        indexed(f, 0x3d4, i, m->cr[i]);
    for (uint32_t i = 0; i < 9; i++)
        indexed(f, 0x3ce, i, m->gr[i]);
    for (uint32_t i = 0; i < 21; i++)
        attribute(f, i, m->ar[i]);
    outb(f, 0x3c0, 0x20);
    outb(f, 0x3c8, 0); /* entry n of the DAC is (n, 0, 63 - n) */
    for (uint32_t i = 0; i < 256; i++) {
        outb(f, 0x3c9, i & 63);
        outb(f, 0x3c9, i >> 6);
        outb(f, 0x3c9, 63 - (i & 63));
    }
}

static uint32_t dac(uint32_t n)
{
    uint32_t r = n & 63, g = n >> 6, b = 63 - (n & 63);
    return (r << 2 | r >> 4) << 16 | (g << 2 | g >> 4) << 8 | (b << 2 | b >> 4);
}

static int keep(void *ctx, const struct vmm_surface *s)
{
    struct fixture *f = ctx;
    free(f->pixels);
    f->pixels = malloc((size_t)s->width * s->height * 4);
    f->width = s->width;
    f->height = s->height;
    for (uint32_t y = 0; y < s->height; y++)
        vmm_surface_row(s, 0, y, s->width, f->pixels + (size_t)y * s->width);
    return 0;
}

static void draw(struct fixture *f)
{
    vmm_display_refresh(f->display);
    assert_int_equal(vmm_display_read(f->display, keep, f), 0);
}

static uint32_t pixel(const struct fixture *f, uint32_t x, uint32_t y)
{
    assert_true(x < f->width && y < f->height);
    return f->pixels[(size_t)y * f->width + x] & 0xffffff;
}

static struct vmm_vga_options options_of(struct fixture *f)
{
    struct vmm_vga_options o = VMM_VGA_OPTIONS_INIT;
    o.display = f->display;
    o.memory = f->memory;
    o.ports = f->ports;
    o.mmio = f->mmio;
    o.memory_mib = 4;
    return o;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    struct vmm_pci_host_options o = VMM_PCI_HOST_OPTIONS_INIT;
    *state = f;
    o.name = "pci";
    if (vmm_memory_new(NULL, &f->memory, NULL) || vmm_bus_new("memory", 64, &f->mmio) ||
        vmm_bus_new("port", 16, &f->ports) || vmm_display_new(&f->display))
        return -1;
    o.memory = f->memory;
    o.mmio = f->mmio;
    o.ports = f->ports;
    o.config_port = 0xcf8;
    o.window = (struct vmm_pci_window){0xc0000000, 0x30000000};
    struct vmm_vga_options v = options_of(f);
    if (vmm_pci_host_new(&o, &f->host, NULL) || vmm_vga_new(&v, &f->vga, NULL) ||
        vmm_pci_host_add(f->host, vmm_vga_pci(f->vga), 2, 0, NULL))
        return -1;
    vmm_pci_host_config_write(f->host, SLOT, 0x10, 4, BAR0);
    vmm_pci_host_config_write(f->host, SLOT, 0x18, 4, BAR2);
    return vmm_pci_host_config_write(f->host, SLOT, 4, 2, 3);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_vga_free(f->vga);
    vmm_pci_host_unref(f->host);
    vmm_display_unref(f->display);
    vmm_bus_unref(f->mmio);
    vmm_bus_unref(f->ports);
    vmm_memory_unref(f->memory);
    free(f->pixels);
    free(f);
    return 0;
}

/* Registers ------------------------------------------------------------------------------------ */

static void test_registers(void **state)
{
    struct fixture *f = *state;
    static const uint8_t sr[] = {0x03, 0x3d, 0x0f, 0x3f, 0x0e, 0, 0, 0};
    static const uint8_t gr[] = {15, 15, 15, 0x1f, 3, 0x7b, 15, 15, 0xff, 0, 0};
    outb(f, 0x3c2, 0xff);
    assert_int_equal(inb(f, 0x3cc), 0xef);
    for (uint32_t i = 0; i < 8; i++) {
        indexed(f, 0x3c4, i, 0xff);
        assert_int_equal(inb(f, 0x3c4), i);
        assert_int_equal(inb(f, 0x3c5), sr[i]);
    }
    for (uint32_t i = 0; i < 11; i++) {
        indexed(f, 0x3ce, i, 0xff);
        assert_int_equal(inb(f, 0x3cf), gr[i]);
    }
    for (uint32_t i = 8; i < 0x19; i++) {
        indexed(f, 0x3d4, i, 0xa5);
        assert_int_equal(inb(f, 0x3d5), 0xa5);
    }
    indexed(f, 0x3d4, 0x19, 0xa5); /* there is none */
    assert_int_equal(inb(f, 0x3d5), 0);
    indexed(f, 0x3d4, 0x11, 0); /* write protection of 0 to 7, but for a bit of 7 */
    for (uint32_t i = 0; i < 8; i++)
        indexed(f, 0x3d4, i, 0);
    indexed(f, 0x3d4, 0x11, 0x80);
    for (uint32_t i = 0; i < 8; i++) {
        indexed(f, 0x3d4, i, 0xff);
        assert_int_equal(inb(f, 0x3d5), i == 7 ? 0x10 : 0);
    }
    attribute(f, 0x05, 0xff); /* the palette is open while the screen is off */
    attribute(f, 0x25, 0x00);
    outb(f, 0x3c0, 0x05);
    assert_int_equal(inb(f, 0x3c1), 0x3f);
    assert_int_equal(inb(f, 0x3c0), 0x05);
    outb(f, 0x3c2, 0); /* monochrome: the CRTC moves */
    indexed(f, 0x3b4, 0xf, 0x77);
    assert_int_equal(inb(f, 0x3b5), 0x77);
    assert_int_equal(inb(f, 0x3d5), 0xff);
    outb(f, 0x3ba, 0xff);
    assert_int_equal(inb(f, 0x3ca), 0x0b);
    vmm_pci_host_config_write(f->host, SLOT, 4, 2, 0); /* not decoded */
    assert_int_equal(inb(f, 0x3cc), 0xff);
    outb(f, 0x3c2, 0x55);
    assert_int_equal(peek(f, 0), 0xff);
    poke(f, 0, 1);
    vmm_pci_host_config_write(f->host, SLOT, 4, 2, 3);
    assert_int_equal(inb(f, 0x3cc), 0);
}

static void test_dac(void **state)
{
    struct fixture *f = *state;
    outb(f, 0x3c8, 254); /* wraps around, six bits */
    for (uint32_t i = 0; i < 9; i++)
        outb(f, 0x3c9, 0xc0 + i);
    assert_int_equal(inb(f, 0x3c8), 1);
    assert_int_equal(inb(f, 0x3c7), 0);
    outb(f, 0x3c7, 254);
    assert_int_equal(inb(f, 0x3c7), 3);
    for (uint32_t i = 0; i < 9; i++)
        assert_int_equal(inb(f, 0x3c9), i);
    outb(f, 0x3c8, 7); /* two of three components change nothing */
    outb(f, 0x3c9, 1);
    outb(f, 0x3c9, 1);
    outb(f, 0x3c7, 7);
    assert_int_equal(inb(f, 0x3c9), 0);
    outb(f, 0x3c6, 0x0f);
    assert_int_equal(inb(f, 0x3c6), 0x0f);
    dispi(f, 4, 0x20); /* eight bits */
    outb(f, 0x3c7, 255);
    assert_int_equal(inb(f, 0x3c9), 3 << 2);
}

/* The beam moves, and the display is on for most of the time. */
static void test_retrace(void **state)
{
    struct fixture *f = *state;
    bool seen[2] = {false, false};
    set_mode(f, &mode_3);
    for (uint32_t i = 0; i < 100000000 && !(seen[0] && seen[1]); i++)
        seen[inb(f, 0x3da) >> 3 & 1] = true;
    assert_true(seen[0] && seen[1]);
}

/* The window ----------------------------------------------------------------------------------- */

static void planes_of(struct fixture *f, uint32_t offset, uint8_t p[4])
{
    indexed(f, 0x3ce, 5, 0);
    for (uint32_t i = 0; i < 4; i++) {
        indexed(f, 0x3ce, 4, i);
        p[i] = peek(f, offset);
    }
}

static void expect_planes(struct fixture *f, uint32_t offset, uint32_t expected)
{
    uint8_t p[4];
    planes_of(f, offset, p);
    assert_int_equal(p[0] | p[1] << 8 | p[2] << 16 | (uint32_t)p[3] << 24, expected);
}

static void test_planes(void **state)
{
    struct fixture *f = *state;
    set_mode(f, &mode_12);
    for (uint32_t i = 0; i < 4; i++) { /* map mask */
        indexed(f, 0x3c4, 2, 1u << i);
        poke(f, 100, 0x11 * (i + 1));
    }
    expect_planes(f, 100, 0x44332211);
    indexed(f, 0x3c4, 2, 15);
    (void)peek(f, 100); /* write mode 1: the latches are copied */
    indexed(f, 0x3ce, 5, 1);
    poke(f, 101, 0x99);
    expect_planes(f, 101, 0x44332211);
    indexed(f, 0x3ce, 5, 0); /* rotation, bit mask, set/reset, logic */
    indexed(f, 0x3ce, 3, 4);
    poke(f, 102, 0xa1);
    expect_planes(f, 102, 0x1a1a1a1a);
    indexed(f, 0x3ce, 3, 0);
    indexed(f, 0x3ce, 8, 0x0f);
    (void)peek(f, 100);
    poke(f, 103, 0xff);
    expect_planes(f, 103, 0x4f3f2f1f);
    indexed(f, 0x3ce, 8, 0xff);
    indexed(f, 0x3ce, 1, 0x6);
    indexed(f, 0x3ce, 0, 0x2);
    poke(f, 104, 0x55);
    expect_planes(f, 104, 0x5500ff55);
    indexed(f, 0x3ce, 1, 0);
    static const uint32_t results[] = {0x40302010, 0x74737271, 0x34435261};
    for (uint32_t i = 1; i < 4; i++) { /* and, or, xor with 0x70 */
        indexed(f, 0x3ce, 3, i << 3);
        (void)peek(f, 100);
        poke(f, 104 + i, 0x70);
        expect_planes(f, 104 + i, results[i - 1]);
    }
    indexed(f, 0x3ce, 3, 0);
    indexed(f, 0x3ce, 5, 2); /* write mode 2: the value is a colour */
    poke(f, 110, 0x5);
    expect_planes(f, 110, 0x00ff00ff);
    indexed(f, 0x3ce, 0, 0x9); /* write mode 3: the value is the mask */
    (void)peek(f, 100);
    indexed(f, 0x3ce, 5, 3);
    poke(f, 111, 0xf0);
    expect_planes(f, 111, 0xf40302f1 & 0xf0ffffffu ? 0xf4030201u | 0xf0u : 0);
    indexed(f, 0x3ce, 5, 8); /* read mode 1: where planes 0 and 2 are set */
    indexed(f, 0x3ce, 2, 0x5);
    indexed(f, 0x3ce, 7, 0xf);
    assert_int_equal(peek(f, 110), 0xff);
    indexed(f, 0x3ce, 2, 0x4);
    assert_int_equal(peek(f, 110), 0);
    indexed(f, 0x3ce, 7, 0xe);
    assert_int_equal(peek(f, 110), 0xff);
    assert_int_equal(peek(f, 0x10000), 0xff); /* only 64 KiB in this mode */
}

static void test_wide_access(void **state)
{
    struct fixture *f = *state;
    uint64_t value;
    set_mode(f, &mode_13);
    assert_int_equal(vmm_bus_write(f->mmio, WINDOW + 0x123, 8, 0x8877665544332211), 0);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(peek(f, 0x123 + i), 0x11 * (i + 1));
    assert_int_equal(vmm_bus_read(f->mmio, WINDOW + 0x124, 4, &value), 0);
    assert_int_equal(value, 0x55443322);
    indexed(f, 0x3c4, 2, 1); /* chained, a plane is a byte of four */
    assert_int_equal(vmm_bus_write(f->mmio, WINDOW, 4, 0xffffffff), 0);
    assert_int_equal(vmm_bus_read(f->mmio, WINDOW, 4, &value), 0);
    assert_int_equal(value, 0xff);
}

/* Pictures ------------------------------------------------------------------------------------- */

/* A font: the rows of character c are c, but for row 15, all ones. */
static void load_font(struct fixture *f, uint32_t at)
{
    indexed(f, 0x3c4, 2, 4);
    indexed(f, 0x3c4, 4, 6);
    indexed(f, 0x3ce, 5, 0);
    indexed(f, 0x3ce, 6, 4);
    for (uint32_t c = 0; c < 256; c++)
        for (uint32_t row = 0; row < 16; row++)
            poke(f, at + c * 32 + row, row == 15 ? 0xff : (c ^ (at ? 0xff : 0)));
    indexed(f, 0x3c4, 2, 3);
    indexed(f, 0x3c4, 4, 2);
    indexed(f, 0x3ce, 5, 0x10);
    indexed(f, 0x3ce, 6, 0x0e);
}

static void put_text(struct fixture *f, uint32_t cell, const char *text, uint32_t colours)
{
    for (; *text; text++, cell++) {
        poke(f, 0x18000 + 2 * cell, (uint8_t)*text);
        poke(f, 0x18001 + 2 * cell, colours);
    }
}

static void test_text(void **state)
{
    struct fixture *f = *state;
    struct vmm_text_screen *s;
    char *utf8;
    assert_int_equal(vmm_display_text(f->display, &s), -ENODATA); /* switched off */
    set_mode(f, &mode_3);
    load_font(f, 0);
    for (uint32_t i = 0; i < 2000; i++)
        put_text(f, i, " ", 7);
    put_text(f, 81, "Hello\xc4\xe1", 0x1e);
    indexed(f, 0x3d4, 0xe, 0);
    indexed(f, 0x3d4, 0xf, 82);
    assert_int_equal(vmm_display_text(f->display, &s), 0);
    assert_int_equal(s->columns, 80);
    assert_int_equal(s->rows, 25);
    assert_int_equal(s->cursor_column, 2);
    assert_int_equal(s->cursor_row, 1);
    assert_int_equal(s->cells[81].foreground, dac(0x3e));
    assert_int_equal(s->cells[81].background, dac(1));
    assert_int_equal(vmm_text_screen_utf8(s, false, &utf8), 0);
    assert_memory_equal(utf8, "\n Hello\u2500\u00df\n\n", 14);
    free(utf8);
    vmm_text_screen_free(s);
    draw(f);
    assert_int_equal(f->width, 720);
    assert_int_equal(f->height, 400);
    for (uint32_t i = 0; i < 8; i++) /* 'H' is 0x48 */
        assert_int_equal(pixel(f, 9 + i, 16), 0x48 >> (7 - i) & 1 ? dac(0x3e) : dac(1));
    assert_int_equal(pixel(f, 17, 16 + 15), dac(1)); /* the ninth dot: only of line graphics */
    assert_int_equal(pixel(f, 9 + 5 * 9 + 8, 16 + 15), dac(0x3e));
    assert_int_equal(pixel(f, 9 + 6 * 9 + 8, 16 + 15), dac(1));
    assert_int_equal(pixel(f, 18 + 1, 16 + 13), dac(0x3e)); /* the cursor: rows 13 and 14 */
    assert_int_equal(pixel(f, 18 + 0, 16 + 14), dac(0x3e));
    assert_int_equal(pixel(f, 18 + 0, 16 + 12), dac(1));
    /* The other font, by attribute bit 3; eight dots. */
    load_font(f, 0x4000);
    indexed(f, 0x3c4, 3, 0x04);
    indexed(f, 0x3c4, 1, 1);
    indexed(f, 0x3d4, 0xa, 0x20);
    draw(f);
    assert_int_equal(f->width, 640);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(pixel(f, 8 + i, 16), 0xb7 >> (7 - i) & 1 ? dac(0x3e) : dac(1));
    /* Panned by three dots and one row of the start address. */
    indexed(f, 0x3d4, 0xd, 80);
    indexed(f, 0x3d4, 8, 2);
    attribute(f, 0x33, 3);
    draw(f);
    for (uint32_t i = 0; i < 8; i++)
        assert_int_equal(pixel(f, 8 + i - 3, 0), 0xb7 >> (7 - i) & 1 ? dac(0x3e) : dac(1));
    assert_int_equal(pixel(f, 8, 13), dac(0x3e)); /* row 15 of the shape, two lines up */
}

static void test_split(void **state)
{
    struct fixture *f = *state;
    set_mode(f, &mode_13);
    for (uint32_t i = 0; i < 64000; i += 8)
        assert_int_equal(vmm_bus_write(f->mmio, WINDOW + i, 8, 0x0101010101010101u * (i / 320)), 0);
    draw(f);
    assert_int_equal(f->width, 640);
    assert_int_equal(f->height, 400);
    for (uint32_t y = 0; y < 400; y++)
        assert_int_equal(pixel(f, y, y), dac(y / 2));
    indexed(f, 0x3d4, 0xd, 80 * 10 & 255); /* ten lines further down */
    indexed(f, 0x3d4, 0xc, 80 * 10 >> 8);
    indexed(f, 0x3d4, 0x18, 99); /* and from line 100 on the top again */
    indexed(f, 0x3d4, 7, 0x0f);
    indexed(f, 0x3d4, 9, 0x01);
    draw(f);
    assert_int_equal(pixel(f, 3, 0), dac(10));
    assert_int_equal(pixel(f, 3, 99), dac(59));
    assert_int_equal(pixel(f, 3, 100), dac(0));
    assert_int_equal(pixel(f, 3, 399), dac(149));
}

static void test_planar_pictures(void **state)
{
    struct fixture *f = *state;
    set_mode(f, &mode_12);
    for (uint32_t i = 0; i < 4; i++) {
        indexed(f, 0x3c4, 2, 1u << i);
        poke(f, 80 * 5 + 2, 0xaa >> i);
    }
    draw(f);
    assert_int_equal(f->width, 640);
    assert_int_equal(f->height, 480);
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t colour = 0;
        for (uint32_t p = 0; p < 4; p++)
            colour |= (0xaau >> p >> (7 - i) & 1) << p;
        assert_int_equal(pixel(f, 16 + i, 5), dac(colour));
    }
    set_mode(f, &mode_x);
    for (uint32_t i = 0; i < 320 * 7; i++) {
        indexed(f, 0x3c4, 2, 1u << (i & 3));
        poke(f, i / 4, i % 253);
    }
    draw(f);
    for (uint32_t y = 0; y < 14; y++)
        for (uint32_t x = 0; x < 640; x++)
            assert_int_equal(pixel(f, x, y), dac((y / 2 * 320 + x / 2) % 253));
    set_mode(f, &mode_4); /* even lines at 0, odd ones at 0x2000; 2 bits a pixel */
    for (uint32_t i = 0; i < 80; i++) {
        poke(f, 0x18000 + i, 0x1b);
        poke(f, 0x1a000 + i, 0xe4);
    }
    draw(f);
    assert_int_equal(f->width, 640);
    assert_int_equal(f->height, 400);
    static const uint32_t palette[] = {0, 0x13, 0x15, 0x17};
    for (uint32_t x = 0; x < 640; x++) {
        assert_int_equal(pixel(f, x, 0), dac(palette[x / 2 % 4]));
        assert_int_equal(pixel(f, x, 2), dac(palette[3 - x / 2 % 4]));
    }
    indexed(f, 0x3c4, 1, 0x29); /* screen off */
    draw(f);
    assert_int_equal(pixel(f, 100, 0), 0);
}

/* DISPI ---------------------------------------------------------------------------------------- */

static void set_dispi(struct fixture *f, uint32_t width, uint32_t height, uint32_t bits)
{
    dispi(f, 4, 0);
    dispi(f, 1, width);
    dispi(f, 2, height);
    dispi(f, 3, bits);
    dispi(f, 4, 0x41);
}

static void test_linear(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint32_t bits, bytes;
        uint32_t value, colour;
    } cases[] = {{8, 1, 0x21, 0},
                 {15, 2, 0x7c1f, 0xff00ff},
                 {16, 2, 0x07e0, 0x00ff00},
                 {24, 3, 0x123456, 0x123456},
                 {32, 4, 0xff654321, 0x654321}};
    set_mode(f, &mode_3);
    for (uint32_t i = 0; i < 5; i++) {
        set_dispi(f, 800, 600, cases[i].bits);
        uint32_t at = (37 * 800 + 111) * cases[i].bytes;
        assert_int_equal(vmm_memory_write(f->memory, BAR0 + at, &cases[i].value, cases[i].bytes),
                         0);
        draw(f);
        assert_int_equal(f->width, 800);
        assert_int_equal(f->height, 600);
        assert_int_equal(pixel(f, 111, 37), cases[i].colour ? cases[i].colour : dac(0x21));
        assert_int_equal(pixel(f, 112, 37), i ? 0 : dac(0));
    }
    indexed(f, 0x3ce, 6, 5); /* the window is a bank */
    set_dispi(f, 640, 400, 8);
    dispi(f, 5, 3);
    poke(f, 5, 0x33);
    draw(f);
    assert_int_equal(pixel(f, (3 * 65536 + 5) % 640, (3 * 65536 + 5) / 640), dac(0x33));
    dispi(f, 6, 1024); /* a wider virtual screen, panned */
    assert_int_equal(dispi_get(f, 7), 4096);
    dispi(f, 8, 3 * 65536 % 1024);
    dispi(f, 9, 3 * 65536 / 1024);
    draw(f);
    assert_int_equal(pixel(f, 5, 0), dac(0x33));
    dispi(f, 4, 0x43); /* capabilities */
    assert_int_equal(dispi_get(f, 1), 3840);
    assert_int_equal(dispi_get(f, 2), 2160);
    assert_int_equal(dispi_get(f, 3), 32);
    assert_int_equal(dispi_get(f, 0), 0xb0c5);
    assert_int_equal(dispi_get(f, 10), 64);
    assert_int_equal(dispi_get(f, 0xffff), 0);
}

/* More than the memory holds, offsets beyond it, depths that do not exist. */
static void test_overflow(void **state)
{
    struct fixture *f = *state;
    set_dispi(f, 3840, 2160, 32); /* 31 MiB of 4: the lines that there are */
    draw(f);
    assert_int_equal(f->width, 3840);
    assert_int_equal(f->height, (4 << 20) / (3840 * 4));
    dispi(f, 9, 0xffff);
    draw(f);
    dispi(f, 8, 0xffff);
    draw(f);
    dispi(f, 6, 0xffff);
    draw(f);
    set_dispi(f, 3840, 2160, 4);
    draw(f);
    set_dispi(f, 1, 1, 32);
    draw(f);
    set_dispi(f, 7, 1, 4); /* no whole byte */
    draw(f);
    dispi(f, 3, 17); /* no such depth */
    assert_int_equal(dispi_get(f, 3), 4);
    dispi(f, 1, 0);
    dispi(f, 1, 3841);
    assert_int_equal(dispi_get(f, 1), 7);
    dispi(f, 5, 64); /* a bank beyond the end */
    assert_int_equal(dispi_get(f, 5), 0);
}

static void test_bar2(void **state)
{
    struct fixture *f = *state;
    uint64_t value;
    uint8_t edid[128], sum = 0;
    for (uint32_t i = 0; i < 128; i++) {
        assert_int_equal(vmm_bus_read(f->mmio, BAR2 + i, 1, &value), 0);
        edid[i] = (uint8_t)value;
        sum = (uint8_t)(sum + value);
    }
    assert_int_equal(sum, 0);
    assert_memory_equal(edid, "\0\xff\xff\xff\xff\xff\xff\0", 8);
    assert_int_equal(edid[54 + 2] | (edid[54 + 4] & 0xf0) << 4, 1024);
    assert_int_equal(edid[54 + 5] | (edid[54 + 7] & 0xf0) << 4, 768);
    assert_int_equal(vmm_bus_read(f->mmio, BAR2 + 0x500, 2, &value), 0);
    assert_int_equal(value, 0xb0c5);
    assert_int_equal(vmm_bus_read(f->mmio, BAR2 + 0x600, 4, &value), 0);
    assert_int_equal(value, 8);
    assert_int_equal(vmm_bus_write(f->mmio, BAR2 + 0x502, 2, 1280), 0);
    assert_int_equal(dispi_get(f, 1), 1280);
    assert_int_equal(vmm_bus_write(f->mmio, BAR2 + 0x404, 2, 0x0f02), 0); /* SR2 */
    assert_int_equal(inb(f, 0x3c5), 0x0f);
    assert_int_equal(vmm_edid_make(319, 200, "x", edid), -EINVAL);
    assert_int_equal(vmm_edid_make(4096, 200, "x", edid), -EINVAL);
    assert_int_equal(vmm_edid_make(640, 480, NULL, edid), -EINVAL);
    assert_int_equal(vmm_edid_make(3840, 2160, "a name that is long", edid), 0);
}

/* Watching ------------------------------------------------------------------------------------- */

static int measure(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects, uint32_t n)
{
    struct fixture *f = ctx;
    f->damaged = 0;
    for (uint32_t i = 0; i < n; i++) {
        f->damaged += rects[i].width * rects[i].height;
        assert_true(rects[i].x + rects[i].width <= s->width);
        assert_true(rects[i].y + rects[i].height <= s->height);
    }
    return 0;
}

static uint32_t take(struct fixture *f, struct vmm_watcher *w)
{
    f->damaged = 0;
    (void)vmm_watcher_take(w, measure, f);
    return f->damaged;
}

static void test_watching(void **state)
{
    struct fixture *f = *state;
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *w;
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), 0);
    set_dispi(f, 800, 600, 32);
    assert_int_equal(take(f, w), 800 * 600);
    assert_int_equal(take(f, w), 0);
    assert_int_equal(vmm_memory_store_u32(f->memory, BAR0 + 4 * (800 * 300 + 7), 0xff), 0);
    assert_int_equal(take(f, w), 1);
    assert_int_equal(take(f, w), 0);
    assert_int_equal(vmm_memory_store_u32(f->memory, BAR0 + 4 * (800 * 300 + 7), 0xff), 0);
    assert_int_equal(take(f, w), 0); /* written, but the same */
    dispi(f, 4, 0);
    set_mode(f, &mode_3);
    load_font(f, 0);
    assert_int_equal(take(f, w), 720 * 400);
    (void)take(f, w);
    put_text(f, 82, "Q", 0x4f);
    assert_int_equal(take(f, w), 9 * 16);
    indexed(f, 0x3ce, 0, 0);
    assert_int_equal(take(f, w), 0);
    vmm_watcher_free(w);
}

static void save_to(struct fixture *f, void **data, size_t *length)
{
    struct vmm_state_writer *w;
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_device_save(vmm_pci_device(vmm_vga_pci(f->vga)), w), 0);
    assert_int_equal(vmm_state_writer_finish(w, data, length), 0);
    vmm_state_writer_free(w);
}

static int load_from(struct fixture *f, const void *data, size_t length)
{
    struct vmm_state_reader *r;
    assert_int_equal(vmm_state_reader_new(data, length, &r, NULL), 0);
    int rc = vmm_device_load(vmm_pci_device(vmm_vga_pci(f->vga)), r, NULL);
    vmm_state_reader_free(r);
    return rc;
}

static void test_state(void **state)
{
    struct fixture *f = *state;
    void *data, *again;
    size_t length, length_again;
    set_mode(f, &mode_3);
    load_font(f, 0);
    put_text(f, 500, "saved", 0x2f);
    outb(f, 0x3c8, 9);
    outb(f, 0x3c9, 1);
    save_to(f, &data, &length);
    draw(f);
    uint32_t *before = f->pixels;
    f->pixels = NULL;
    vmm_device_reset(vmm_pci_device(vmm_vga_pci(f->vga)));
    vmm_pci_host_config_write(f->host, SLOT, 4, 2, 3);
    set_dispi(f, 1280, 700, 24);
    draw(f);
    assert_int_equal(f->width, 1280);
    assert_int_equal(load_from(f, data, length), 0);
    draw(f);
    assert_int_equal(f->width, 720);
    assert_memory_equal(before, f->pixels, 720 * 400 * 4);
    save_to(f, &again, &length_again);
    assert_int_equal(length, length_again);
    assert_memory_equal(data, again, length);
    /* Hostile: any byte of the snapshot is another one; taken or refused, nothing breaks. */
    uint8_t *bytes = data;
    for (size_t i = 40; i < length; i += i < 3000 ? 1 : 4999) {
        bytes[i] ^= 0x81;
        struct vmm_state_reader *r;
        if (vmm_state_reader_new(data, length, &r, NULL) == 0) {
            (void)vmm_device_load(vmm_pci_device(vmm_vga_pci(f->vga)), r, NULL);
            vmm_state_reader_free(r);
            if (i % 16 == 0)
                vmm_display_refresh(f->display);
        }
        bytes[i] ^= 0x81;
    }
    assert_int_equal(load_from(f, data, length), 0);
    free(before);
    free(data);
    free(again);
}

/* Hostile guests ------------------------------------------------------------------------------- */

static void look(struct fixture *f)
{
    struct vmm_text_screen *s;
    vmm_display_refresh(f->display);
    if (vmm_display_text(f->display, &s) == 0)
        vmm_text_screen_free(s);
}

/* Every port with every value, and every index of every group with every value. */
static void test_register_walk(void **state)
{
    struct fixture *f = *state;
    static const struct {
        uint32_t port, count;
    } groups[] = {{0x3c4, 8}, {0x3ce, 16}, {0x3d4, 64}};
    const struct vga_mode *modes[] = {&mode_3, &mode_12, &mode_13};
    for (uint32_t port = 0x3b0; port < 0x3e0; port++)
        for (uint32_t value = 0; value < 256 && (port < 0x3bc || port >= 0x3c0); value++) {
            outb(f, port, value);
            (void)inb(f, port);
            if (value % 64 == 63)
                look(f);
        }
    for (uint32_t m = 0; m < 3; m++)
        for (uint32_t g = 0; g < 3; g++)
            for (uint32_t i = 0; i < groups[g].count; i++) {
                set_mode(f, modes[m]);
                for (uint32_t value = 0; value < 256; value++) {
                    indexed(f, groups[g].port, i, value);
                    (void)inb(f, groups[g].port + 1);
                    poke(f, value * 509 % 0x20000, value);
                    (void)peek(f, value * 977 % 0x20000);
                    if (value % 85 == 0)
                        look(f);
                }
            }
    set_mode(f, &mode_3);
    for (uint32_t i = 0; i < 32; i++)
        for (uint32_t value = 0; value < 256; value++) {
            attribute(f, i | 0x20, value);
            if (value % 85 == 0)
                look(f);
        }
    for (uint32_t i = 0; i < 16; i++)
        for (uint32_t value = 0; value < 65536; value += value < 256 ? 1 : 997) {
            dispi(f, i, value);
            (void)dispi_get(f, i);
            poke(f, value & 0x1ffff, value);
            if (value % 4096 < 200 && value > 256)
                look(f);
        }
}

struct racer {
    struct fixture *f;
    int left;
};

static void *change_modes(void *ctx)
{
    struct racer *r = ctx;
    for (uint32_t i = 0; i < 150; i++) {
        set_dispi(r->f, 320 + i % 7 * 64, 200 + i % 5 * 31, i % 2 ? 32 : 8);
        dispi(r->f, 4, 0);
        set_mode(r->f, i % 3 ? &mode_13 : &mode_3);
    }
    __atomic_store_n(&r->left, 0, __ATOMIC_RELEASE);
    return NULL;
}

static void test_race(void **state)
{
    struct fixture *f = *state;
    struct racer r = {f, 1};
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    struct vmm_watcher *w;
    pthread_t thread;
    assert_int_equal(vmm_watcher_new(f->display, &o, &w), 0);
    assert_int_equal(pthread_create(&thread, NULL, change_modes, &r), 0);
    while (__atomic_load_n(&r.left, __ATOMIC_ACQUIRE)) {
        (void)take(f, w);
        look(f);
    }
    pthread_join(thread, NULL);
    vmm_watcher_free(w);
}

static void test_bad_options(void **state)
{
    struct fixture *f = *state;
    struct vmm_vga_options o = options_of(f);
    struct vmm_vga *vga;
    struct vmm_display *display;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EEXIST); /* the ports */
    o.ports = o.mmio = NULL;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EBUSY); /* the display */
    assert_int_equal(vmm_display_new(&display), 0);
    o.display = display;
    o.memory_mib = 3;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    o.memory_mib = 512;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    o.memory_mib = 1;
    o.width = 640;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    o.height = 100;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    o.height = 480;
    o.rom_length = 5;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    o.rom = "\x55\xaa\x01rom";
    o.ports = f->ports;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    o.ports = NULL;
    o.name = "second";
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), 0); /* without legacy parts, and never on a bus */
    vmm_display_refresh(display);
    vmm_vga_free(vga);
    o.memory = NULL;
    assert_int_equal(vmm_vga_new(&o, &vga, NULL), -EINVAL);
    vmm_display_unref(display);
    assert_null(vmm_vga_free(NULL));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(test_registers),   TEST(test_dac),
        TEST(test_retrace),     TEST(test_planes),
        TEST(test_wide_access), TEST(test_text),
        TEST(test_split),       TEST(test_planar_pictures),
        TEST(test_linear),      TEST(test_overflow),
        TEST(test_bar2),        TEST(test_watching),
        TEST(test_state),       TEST(test_register_walk),
        TEST(test_race),        TEST(test_bad_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
