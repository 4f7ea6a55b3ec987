/* SPDX-License-Identifier: BSD-3-Clause */
/* --vsock, --console, --input: what carries bytes and keys between the guest and the host. */
#ifndef VMM_RUN_PORTS_H
#define VMM_RUN_PORTS_H

#include <libvmm/vmm.h>

#define CONSOLES_MAX 8
#define INPUTS_MAX   4

struct console_option {
    const char *where; /* stdio, pty, unix:PATH or file:PATH */
    const char *name;  /* NULL: none */
};

struct port_options {
    const char *vsock_path; /* NULL: none */
    uint64_t vsock_cid;
    struct console_option console[CONSOLES_MAX];
    uint32_t console_count;
    uint32_t input[INPUTS_MAX]; /* VMM_INPUT_… */
    uint32_t input_count;
};

struct ports {
    struct vmm_chardev *chardev[CONSOLES_MAX];
    uint32_t chardev_count;
    struct vmm_virtio *console; /* the machine's; NULL: none */
    uint32_t terminal;          /* the port that is on the terminal */
    int signal_fd;              /* its window has another size; -1: none */
    struct vmm_source *signals;
    struct vmm_virtio *input[INPUTS_MAX]; /* the machine's */
    uint32_t input_count;
};

/* Each cuts its argument up in place; NULL, or what is wrong with it. */
const char *ports_parse_vsock(struct port_options *options, char *text);
const char *ports_parse_console(struct port_options *options, char *text);
const char *ports_parse_input(struct port_options *options, const char *text);
/* Is one of the consoles on the terminal? Then the serial port is not. */
bool ports_use_terminal(const struct port_options *options);

/* Put the devices on the machine. `escape` gets the keys behind Ctrl-A. */
int ports_add(struct ports *ports, const struct port_options *options, struct vmm_machine *machine,
              void (*escape)(void *ctx, uint8_t key), void *ctx, struct vmm_error *err);
/* The commands "key CODE [VALUE]", "pointer X Y" and "pointer by X Y" of the control socket. */
int ports_key(const struct ports *ports, const char *argument);
int ports_pointer(const struct ports *ports, const char *argument);
void ports_restore_terminal(struct ports *ports);
/* Before the machine goes. */
void ports_forget(struct ports *ports);

#endif
