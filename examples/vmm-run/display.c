/* SPDX-License-Identifier: BSD-3-Clause */
/* --vga, --display, --screenshot: the guest's screen. */
#include "display.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define ROM_MAX     (256u << 10)
#define DEFAULT_ROM "/usr/share/seabios/vgabios-stdvga.bin"

struct display {
    const struct display_options *options;
    struct vmm_loop *loop;
    struct vmm_display *screen;
    struct vmm_vga *vga;
    struct vmm_watcher *watcher; /* of --display text */
    struct vmm_seat *input;
    struct vmm_vnc *vnc, *websocket;
    struct shot {
        struct display *display;
        struct vmm_timer *timer;
        const char *file;
    } shots[SCREENSHOTS_MAX];
};

/* The command line ----------------------------------------------------------------------------- */

static bool take_vga_key(struct display_options *o, char *key)
{
    char end;
    if (strncmp(key, "rom=", 4) == 0)
        o->rom = key + 4;
    else if (strncmp(key, "size=", 5) == 0)
        return sscanf(key + 5, "%ux%u%c", &o->width, &o->height, &end) == 2;
    else if (strncmp(key, "memory=", 7) == 0)
        return sscanf(key + 7, "%u%c", &o->memory_mib, &end) == 1;
    else
        return false;
    return true;
}

const char *display_parse_vga(struct display_options *o, char *text)
{
    char *kind = strsep(&text, ",");
    if (strcmp(kind, "none") == 0)
        kind = NULL;
    else if (strcmp(kind, "std") != 0 && strcmp(kind, "bochs") != 0)
        return "it is std, bochs or none";
    o->vga = kind;
    while (text)
        if (!take_vga_key(o, strsep(&text, ",")))
            return "the keys are size=WxH, memory=MIB and rom=FILE";
    return NULL;
}

const char *display_parse_output(struct display_options *o, char *text)
{
    char *kind = strsep(&text, ",");
    if (text && strncmp(text, "password-file=", 14) == 0)
        o->password_file = text + 14;
    else if (text)
        return "the key is password-file=FILE";
    if (strncmp(kind, "vnc:", 4) == 0)
        o->vnc = kind + 4;
    else if (strncmp(kind, "websocket:", 10) == 0)
        o->websocket = kind + 10;
    else if (strcmp(kind, "text") == 0)
        o->output = kind;
    else if (strcmp(kind, "none") != 0)
        return "it is none, text, vnc:ADDRESS:PORT or websocket:ADDRESS:PORT";
    return NULL;
}

const char *display_parse_screenshot(struct display_options *o, char *text)
{
    char *at = strrchr(text, '@'), end;
    uint32_t seconds;
    if (o->shot_count == SCREENSHOTS_MAX)
        return "that is one too many";
    if (!at || at == text || sscanf(at + 1, "%u%c", &seconds, &end) != 1)
        return "it is FILE@SECONDS";
    *at = '\0';
    o->shots[o->shot_count].file = text;
    o->shots[o->shot_count++].seconds = seconds;
    return NULL;
}

/* What is seen --------------------------------------------------------------------------------- */

int display_screenshot(struct display *d, const char *file)
{
    size_t length = strlen(file);
    bool ppm = length > 4 && strcmp(file + length - 4, ".ppm") == 0;
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0)
        return -errno;
    int rc = vmm_display_screenshot(d->screen, fd, ppm ? VMM_IMAGE_PPM : VMM_IMAGE_PNG, NULL);
    if (close(fd) && !rc)
        rc = -errno;
    return rc;
}

int display_text(struct display *d, char **text)
{
    struct vmm_text_screen *screen;
    int rc = vmm_display_text(d->screen, &screen);
    if (rc)
        return rc;
    rc = vmm_text_screen_utf8(screen, false, text);
    vmm_text_screen_free(screen);
    return rc;
}

static void shoot(void *ctx)
{
    struct shot *shot = ctx;
    int rc = display_screenshot(shot->display, shot->file);
    if (rc)
        fprintf(stderr, "vmm-run: --screenshot %s: %s\r\n", shot->file, strerror(-rc));
}

static int nothing(void *ctx, const struct vmm_surface *s, const struct vmm_rect *rects,
                   uint32_t count)
{
    (void)ctx;
    (void)s;
    (void)rects;
    (void)count;
    return 0;
}

/* --display text: the whole screen anew, from the terminal's upper left corner. */
static void changed(void *ctx)
{
    struct display *d = ctx;
    struct vmm_text_screen *screen;
    char *text;
    (void)vmm_watcher_take(d->watcher, nothing, NULL);
    if (vmm_display_text(d->screen, &screen))
        return;
    if (vmm_text_screen_utf8(screen, true, &text) == 0) {
        fputs("\033[H", stdout);
        for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
            printf("%s\r\n", line);
        fflush(stdout);
        free(text);
    }
    vmm_text_screen_free(screen);
}

/* Life ----------------------------------------------------------------------------------------- */

static int read_rom(const char *file, void **data, size_t *length, struct vmm_error *err)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    *data = fd < 0 ? NULL : malloc(ROM_MAX);
    ssize_t n = *data ? read(fd, *data, ROM_MAX) : -1;
    int rc = n > 0 ? 0 : fd >= 0 && n == 0 ? -EINVAL : -errno;
    if (fd >= 0)
        close(fd);
    if (rc) {
        free(*data);
        *data = NULL;
        return vmm_error_set(err, rc, "%s: %s", file, strerror(-rc));
    }
    *length = (size_t)n;
    return 0;
}

static int make_vga(struct display *d, struct vmm_machine *machine, struct vmm_error *err)
{
    const struct display_options *given = d->options;
    struct vmm_vga_options o = VMM_VGA_OPTIONS_INIT;
    const char *file = given->rom;
    void *rom = NULL;
    o.display = d->screen;
    o.memory = vmm_machine_memory(machine);
    o.vm = vmm_machine_vm(machine);
    o.width = given->width;
    o.height = given->height;
    o.memory_mib = given->memory_mib;
    if (strcmp(given->vga, "std") == 0) {
        o.ports = vmm_machine_ports(machine);
        o.mmio = vmm_machine_mmio(machine);
        if (!file && access(DEFAULT_ROM, R_OK) == 0)
            file = DEFAULT_ROM;
    }
    int rc = file ? read_rom(file, &rom, &o.rom_length, err) : 0;
    o.rom = rom;
    if (!rc)
        rc = vmm_vga_new(&o, &d->vga, err);
    free(rom);
    if (!rc)
        rc = vmm_pci_host_add(vmm_machine_pci(machine), vmm_vga_pci(d->vga), VMM_PCI_ANY_SLOT, 0,
                              err);
    return rc ? rc : vmm_machine_add_device(machine, vmm_pci_device(vmm_vga_pci(d->vga)));
}

static int watch(struct display *d)
{
    struct vmm_watcher_options o = VMM_WATCHER_OPTIONS_INIT;
    if (!d->options->output || strcmp(d->options->output, "text") != 0)
        return 0;
    o.loop = d->loop;
    o.interval_ms = 100;
    o.changed = changed;
    o.ctx = d;
    return vmm_watcher_new(d->screen, &o, &d->watcher);
}

struct vmm_seat *display_input(struct display *d)
{
    return d ? d->input : NULL;
}

/* The first line of a file. */
static int read_password(const char *file, char password[64], struct vmm_error *err)
{
    FILE *f = fopen(file, "re");
    bool got = f && fgets(password, 64, f);
    if (f)
        fclose(f);
    if (!got)
        return vmm_error_set(err, f ? -EINVAL : -errno, "%s: no password can be read there", file);
    password[strcspn(password, "\r\n")] = '\0';
    return 0;
}

static int serve(struct display *d, const char *address, bool websocket, struct vmm_vnc **out,
                 struct vmm_error *err)
{
    struct vmm_vnc_options o = VMM_VNC_OPTIONS_INIT;
    char password[64];
    if (!address)
        return 0;
    int rc =
        d->options->password_file ? read_password(d->options->password_file, password, err) : 0;
    if (rc)
        return rc;
    o.loop = d->loop;
    o.display = d->screen;
    o.input = d->input;
    o.address = address;
    o.password = d->options->password_file ? password : NULL;
    o.websocket = websocket;
    return vmm_vnc_new(&o, out, err);
}

int display_add(const struct display_options *options, struct vmm_machine *machine,
                struct display **out, struct vmm_error *err)
{
    *out = NULL;
    if (!options->vga)
        return options->output || options->vnc || options->websocket || options->shot_count
                   ? vmm_error_set(err, -EINVAL, "there is no screen: give --vga std")
                   : 0;
    if (!vmm_machine_pci(machine))
        return vmm_error_set(err, -EINVAL, "--vga needs PCI: give --transport pci");
    struct display *d = calloc(1, sizeof(*d));
    if (!d)
        return -ENOMEM;
    d->options = options;
    d->loop = vmm_loop_ref(vmm_machine_loop(machine));
    int rc = vmm_display_new(&d->screen);
    rc = rc ? rc : vmm_seat_new(&d->input);
    rc = rc ? rc : make_vga(d, machine, err);
    rc = rc ? rc : serve(d, options->vnc, false, &d->vnc, err);
    rc = rc ? rc : serve(d, options->websocket, true, &d->websocket, err);
    rc = rc ? rc : watch(d);
    if (rc)
        display_free(d);
    else
        *out = d;
    return rc;
}

int display_start(struct display *d)
{
    int rc = 0;
    for (uint32_t i = 0; d && i < d->options->shot_count && !rc; i++) {
        struct shot *shot = &d->shots[i];
        shot->display = d;
        shot->file = d->options->shots[i].file;
        rc = vmm_timer_new(d->loop, shoot, shot, &shot->timer);
        if (!rc)
            rc = vmm_timer_set(shot->timer, vmm_loop_now(d->loop) + d->options->shots[i].seconds *
                                                                        UINT64_C(1000000000));
    }
    return rc;
}

void display_free(struct display *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < SCREENSHOTS_MAX; i++)
        vmm_timer_free(d->shots[i].timer);
    vmm_watcher_free(d->watcher);
    vmm_vnc_free(d->vnc);
    vmm_vnc_free(d->websocket);
    vmm_seat_unref(d->input);
    vmm_vga_free(d->vga);
    vmm_display_unref(d->screen);
    vmm_loop_unref(d->loop);
    free(d);
}
