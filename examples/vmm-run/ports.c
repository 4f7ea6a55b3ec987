/* SPDX-License-Identifier: BSD-3-Clause */
#include "ports.h"

#include <libvmm/machine.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

static struct vmm_virtio_place place_of(struct vmm_machine *machine, const char *name)
{
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    place.name = name;
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = vmm_machine_loop(machine);
    return place;
}

/* The machine holds what it took; our own reference ends here either way. */
static int hand_over(struct vmm_machine *machine, struct vmm_virtio *virtio, struct vmm_error *err)
{
    int rc = vmm_machine_add_virtio(machine, virtio, err);
    vmm_virtio_unref(virtio);
    return rc;
}

/* --vsock -------------------------------------------------------------------------------------- */

const char *ports_parse_vsock(struct port_options *o, char *text)
{
    char *end;
    if (o->vsock_path)
        return "a guest has one";
    errno = 0;
    o->vsock_cid = strtoull(text, &end, 10);
    if (errno || end == text || *text == '-' || *end != ',' || !end[1])
        return "it is CID,PATH, where CID is the guest's address, from 3";
    o->vsock_path = end + 1;
    return NULL;
}

static int add_vsock(const struct port_options *options, struct vmm_machine *machine,
                     struct vmm_error *err)
{
    const struct vmm_virtio_place place = place_of(machine, "vsock0");
    struct vmm_virtio_vsock_options o = VMM_VIRTIO_VSOCK_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    o.cid = options->vsock_cid;
    o.path = options->vsock_path;
    int rc = vmm_virtio_vsock_new(&place, &o, &virtio, err);
    return rc ? rc : hand_over(machine, virtio, err);
}

/* --console ------------------------------------------------------------------------------------ */

const char *ports_parse_console(struct port_options *o, char *text)
{
    if (o->console_count == CONSOLES_MAX)
        return "that is one too many";
    struct console_option *c = &o->console[o->console_count++];
    c->where = strsep(&text, ",");
    if (strcmp(c->where, "stdio") != 0 && strcmp(c->where, "pty") != 0 &&
        strncmp(c->where, "unix:", 5) != 0 && strncmp(c->where, "file:", 5) != 0)
        return "it is stdio, pty, unix:PATH or file:PATH";
    if (text && (strncmp(text, "name=", 5) != 0 || !text[5] || strlen(text) > 5 + 64))
        return "the only key is name=NAME, of at most 64 characters";
    c->name = text ? text + 5 : NULL;
    return NULL;
}

static bool on_terminal(const struct console_option *c)
{
    return strcmp(c->where, "stdio") == 0;
}

bool ports_use_terminal(const struct port_options *o)
{
    for (uint32_t i = 0; i < o->console_count; i++)
        if (on_terminal(&o->console[i]))
            return true;
    return false;
}

static int open_console(struct ports *ports, const struct console_option *c, struct vmm_loop *loop,
                        void (*escape)(void *ctx, uint8_t key), void *ctx, struct vmm_error *err)
{
    struct vmm_chardev **out = &ports->chardev[ports->chardev_count];
    int rc;
    if (on_terminal(c))
        rc = vmm_chardev_new_stdio(loop, 1, escape, ctx, out, err);
    else if (strncmp(c->where, "unix:", 5) == 0)
        rc = vmm_chardev_new_unix(loop, c->where + 5, true, out, err);
    else if (strncmp(c->where, "file:", 5) == 0)
        rc = vmm_chardev_new_file(c->where + 5, out, err);
    else
        rc = vmm_chardev_new_pty(loop, out, err);
    if (!rc && strcmp(c->where, "pty") == 0)
        fprintf(stderr, "vmm-run: console %u on %s\n", ports->chardev_count,
                vmm_chardev_path(*out));
    ports->chardev_count += !rc;
    return rc;
}

static void resized(void *ctx, uint32_t events)
{
    struct ports *ports = ctx;
    struct signalfd_siginfo info;
    struct winsize size;
    (void)events;
    if (read(ports->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info) &&
        ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0)
        (void)vmm_console_resize(ports->console, ports->terminal, size.ws_col, size.ws_row);
}

/* Before there are other threads: they inherit that the signal is blocked. */
static int watch_window(struct ports *ports, struct vmm_loop *loop)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGWINCH);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return -errno;
    ports->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (ports->signal_fd < 0)
        return -errno;
    return vmm_source_new(loop, ports->signal_fd, VMM_POLL_IN, resized, ports, &ports->signals);
}

/* The first is the console, and so are the others that have no name. */
static void describe(const struct console_option *c, uint32_t number, struct vmm_chardev *chardev,
                     struct vmm_console_port *p)
{
    struct winsize size;
    *p = (struct vmm_console_port)VMM_CONSOLE_PORT_INIT;
    p->chardev = chardev;
    p->name = c->name;
    p->console = number == 0 || !c->name;
    p->closed = strncmp(c->where, "unix:", 5) == 0;
    if (on_terminal(c) && ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
        p->columns = size.ws_col;
        p->rows = size.ws_row;
    }
}

static int add_consoles(struct ports *ports, const struct port_options *options,
                        struct vmm_machine *machine, void (*escape)(void *ctx, uint8_t key),
                        void *ctx, struct vmm_error *err)
{
    const struct vmm_virtio_place place = place_of(machine, "console0");
    struct vmm_virtio_console_options o = VMM_VIRTIO_CONSOLE_OPTIONS_INIT;
    struct vmm_console_port port[CONSOLES_MAX];
    const struct vmm_console_port *list[CONSOLES_MAX];
    int rc = 0;
    for (uint32_t i = 0; i < options->console_count && !rc; i++) {
        rc = open_console(ports, &options->console[i], place.loop, escape, ctx, err);
        describe(&options->console[i], i, ports->chardev[i], &port[i]);
        list[i] = &port[i];
        if (on_terminal(&options->console[i]))
            ports->terminal = i;
    }
    o.ports = list;
    o.port_count = options->console_count;
    rc = rc ? rc : vmm_virtio_console_new(&place, &o, &ports->console, err);
    if (rc)
        return rc;
    rc = hand_over(machine, ports->console, err);
    return rc || !ports_use_terminal(options) ? rc : watch_window(ports, place.loop);
}

/* --input -------------------------------------------------------------------------------------- */

const char *ports_parse_input(struct port_options *o, const char *text)
{
    static const char *const kinds[] = {"", "keyboard", "tablet", "mouse"};
    if (o->input_count == INPUTS_MAX)
        return "that is one too many";
    for (uint32_t kind = VMM_INPUT_KEYBOARD; kind <= VMM_INPUT_MOUSE; kind++)
        if (strcmp(text, kinds[kind]) == 0) {
            o->input[o->input_count++] = kind;
            return NULL;
        }
    return "it is keyboard, tablet or mouse";
}

static int add_input(struct ports *ports, uint32_t kind, struct vmm_machine *machine,
                     struct vmm_error *err)
{
    char name[16];
    struct vmm_virtio_input_options o = VMM_VIRTIO_INPUT_OPTIONS_INIT;
    struct vmm_virtio **out = &ports->input[ports->input_count];
    (void)snprintf(name, sizeof(name), "input%u", ports->input_count);
    const struct vmm_virtio_place place = place_of(machine, name);
    o.kind = kind;
    int rc = vmm_virtio_input_new(&place, &o, out, err);
    if (rc)
        return rc;
    ports->input_count++;
    return hand_over(machine, *out, err);
}

/* The key goes to the first device that has it. */
static int send_key(const struct ports *ports, uint32_t code, uint32_t value)
{
    int rc = ports->input_count ? -EINVAL : -ENODEV;
    for (uint32_t i = 0; i < ports->input_count && rc == -EINVAL; i++)
        rc = vmm_input_key(ports->input[i], code, value);
    return rc;
}

int ports_key(const struct ports *ports, const char *argument)
{
    unsigned code, value;
    int end = 0;
    int n = sscanf(argument, "%u %n%u%n", &code, &end, &value, &end);
    if (n < 1 || argument[end])
        return -EINVAL;
    if (n == 2)
        return send_key(ports, code, value);
    int rc = send_key(ports, code, 1);
    return rc ? rc : send_key(ports, code, 0);
}

int ports_pointer(const struct ports *ports, const char *argument)
{
    int x, y, end = 0;
    bool by = strncmp(argument, "by ", 3) == 0;
    argument += by ? 3 : 0;
    if (sscanf(argument, "%d %d%n", &x, &y, &end) != 2 || argument[end])
        return -EINVAL;
    int rc = ports->input_count ? -EINVAL : -ENODEV;
    for (uint32_t i = 0; i < ports->input_count && rc == -EINVAL; i++)
        rc = by ? vmm_input_move(ports->input[i], x, y)
                : vmm_input_position(ports->input[i], (uint32_t)x, (uint32_t)y);
    return rc;
}

int ports_add(struct ports *ports, const struct port_options *options, struct vmm_machine *machine,
              void (*escape)(void *ctx, uint8_t key), void *ctx, struct vmm_error *err)
{
    int rc = 0;
    *ports = (struct ports){.signal_fd = -1};
    if (options->console_count)
        rc = add_consoles(ports, options, machine, escape, ctx, err);
    if (!rc && options->vsock_path)
        rc = add_vsock(options, machine, err);
    for (uint32_t i = 0; i < options->input_count && !rc; i++)
        rc = add_input(ports, options->input[i], machine, err);
    return rc;
}

void ports_restore_terminal(struct ports *ports)
{
    for (uint32_t i = 0; i < ports->chardev_count; i++)
        vmm_chardev_restore_terminal(ports->chardev[i]);
}

void ports_forget(struct ports *ports)
{
    if (ports->signals) {
        vmm_source_free(ports->signals);
        close(ports->signal_fd);
    }
    for (uint32_t i = 0; i < ports->chardev_count; i++)
        vmm_chardev_unref(ports->chardev[i]);
}
