/* SPDX-License-Identifier: BSD-3-Clause */
/* --vga, --display, --screenshot: the guest's screen. */
#ifndef VMM_RUN_DISPLAY_H
#define VMM_RUN_DISPLAY_H

#include <libvmm/vmm.h>

#define SCREENSHOTS_MAX 16

struct display_options {
    const char *vga;    /* NULL: none */
    const char *rom;    /* NULL: the distribution's, where there is firmware to run it */
    const char *output; /* of --display: text; NULL: none */
    const char *vnc, *websocket, *password_file; /* NULL: none */
    uint32_t width, height, memory_mib;
    struct {
        char *file;
        uint32_t seconds;
    } shots[SCREENSHOTS_MAX];
    uint32_t shot_count;
};

struct display;

/* std|bochs[,size=WxH][,memory=MIB][,rom=FILE]; none, text, vnc:ADDRESS[,password-file=F]
 * or websocket:ADDRESS[,password-file=F]; FILE@SECONDS. The arguments are cut up in
 * place. NULL, or what is wrong. */
const char *display_parse_vga(struct display_options *options, char *text);
const char *display_parse_output(struct display_options *options, char *text);
const char *display_parse_screenshot(struct display_options *options, char *text);

/* Before the machine is realized. `*out` is NULL where no VGA was asked for. */
int display_add(const struct display_options *options, struct vmm_machine *machine,
                struct display **out, struct vmm_error *err);
/* The guest begins to run: screenshots count from here. */
int display_start(struct display *display);
void display_free(struct display *display);

/* Write a screenshot: PPM where the name ends so, else PNG. */
int display_screenshot(struct display *display, const char *file);
/* What a viewer types and points at; for keyboards and mice to listen to. NULL: there is no screen. */
struct vmm_seat *display_input(struct display *display);
/* The text screen as UTF-8; the caller frees it. */
int display_text(struct display *display, char **text);

#endif
