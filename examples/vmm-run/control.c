/* SPDX-License-Identifier: BSD-3-Clause */
/* The control socket of vmm-run: status, pause and resume, registers, memory, statistics. */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 8
#define LINE_MAX_   1024
#define REPLY_MAX   (64 * 1024)
#define REGIONS_MAX 64

struct client {
    struct control *control;
    struct vmm_source *source;
    int fd;
    size_t used;
    char line[LINE_MAX_];
};

struct control {
    struct vmm_machine *machine;
    struct disks *disks;
    struct drives *drives;
    struct vmm_virtio *balloon;
    const struct ports *ports;
    struct plug *plug;
    struct vmm_error error; /* what is wrong, where there are words for it */
    struct display *display;
    struct keys *keys;
    struct vmm_source *source;
    int fd;
    uint32_t pauses; /* by this socket */
    char path[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct client clients[CLIENTS_MAX];
    char reply[REPLY_MAX];
    size_t length;
};

static void put(struct control *c, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(c->reply + c->length, REPLY_MAX - c->length, format, args);
    va_end(args);
    if (n > 0)
        c->length += (size_t)n < REPLY_MAX - c->length ? (size_t)n : REPLY_MAX - c->length - 1;
}

/* Inside of a JSON string: of control characters line ends are kept. */
static void put_escaped(struct control *c, const char *text)
{
    for (const char *p = text; *p; p++)
        if (*p == '\n')
            put(c, "\\n");
        else if ((unsigned char)*p >= ' ')
            put(c, *p == '"' || *p == '\\' ? "\\%c" : "%c", *p);
}

/* Commands ------------------------------------------------------------------------------------- */

struct command {
    const char *name;
    const char *help;
    /* Write the reply; descriptors to send with it go into `fds`. Returns 0 or a negative errno. */
    int (*run)(struct control *c, const char *argument, int *fds, int *fd_count);
};

static int run_status(struct control *c, const char *argument, int *fds, int *fd_count)
{
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    (void)argument;
    (void)fds;
    (void)fd_count;
    vmm_machine_get_outcome(c->machine, &outcome);
    put(c, "{\"state\": \"%s\", \"cpus\": %u, \"outcome\": \"%s\"}",
        outcome.reason            ? "ended"
        : c->pauses               ? "paused"
        : disks_stopped(c->disks) ? "stopped by a disk"
                                  : "running",
        vmm_machine_cpus(c->machine), vmm_end_name(outcome.reason));
    return 0;
}

static int run_pause(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = c->pauses ? 0 : vmm_machine_pause(c->machine);
    if (!rc)
        c->pauses = 1;
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

static int run_resume(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = c->pauses ? vmm_machine_resume(c->machine) : 0;
    if (!rc)
        c->pauses = 0;
    disks_retry(c->disks);
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

static int run_power_button(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = vmm_machine_power_button(c->machine);
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

static int run_quit(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = vmm_machine_stop(c->machine);
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

/* How a vCPU translates addresses right now: what a walker needs. */
static int run_paging(struct control *c, const char *argument, int *fds, int *fd_count)
{
    struct vmm_paging_context p = VMM_PAGING_CONTEXT_INIT;
    struct vmm_vcpu *vcpu = vmm_machine_vcpu(c->machine, (uint32_t)strtoul(argument, NULL, 10));
    (void)fds;
    (void)fd_count;
    if (!vcpu)
        return -ENOENT;
    int rc = vmm_vcpu_pause(vcpu);
    if (rc)
        return rc;
    rc = vmm_vcpu_paging_context(vcpu, &p);
    int resumed = vmm_vcpu_resume(vcpu);
    if (rc || resumed)
        return rc ? rc : resumed;
    put(c,
        "{\"vcpu\": %u, \"format\": %u, \"flags\": %u, \"root\": %llu, \"address_bits\": %u, "
        "\"user_keys\": %u, \"supervisor_keys\": %u, \"upper_root\": %llu, \"virtual_bits\": %u, "
        "\"upper_bits\": %u}",
        vmm_vcpu_id(vcpu), p.format, p.flags, (unsigned long long)p.root, p.address_bits,
        p.user_keys, p.supervisor_keys, (unsigned long long)p.upper_root, p.virtual_bits,
        p.upper_bits);
    return 0;
}

struct memory_list {
    struct control *c;
    int *fds, *fd_count;
    int rc;
};

/* A piece of guest memory with its descriptor: "fd" counts the descriptors that come with the line. */
static int put_memory(void *ctx, const struct vmm_memory_info *info)
{
    struct memory_list *list = ctx;
    uint64_t offset = 0;
    struct vmm_backing *backing = vmm_memory_region_backing(info->region);
    int fd = backing ? vmm_backing_fd(backing, &offset) : -1;
    if (fd < 0 && info->type != VMM_MEMORY_RAM)
        return 0; /* a frame buffer, a ROM: not the machine's memory */
    if (fd < 0 || *list->fd_count == REGIONS_MAX) {
        list->rc = fd < 0 ? -ENOTSUP : -E2BIG;
        return 1;
    }
    put(list->c,
        "%s{\"address\": %llu, \"length\": %llu, \"offset\": %llu, \"writable\": %u, \"fd\": %d}",
        *list->fd_count ? ", " : "", (unsigned long long)info->address,
        (unsigned long long)info->length, (unsigned long long)(offset + info->offset),
        info->writable, *list->fd_count);
    list->fds[(*list->fd_count)++] = fd;
    return 0;
}

static int run_memory(struct control *c, const char *argument, int *fds, int *fd_count)
{
    struct memory_list list = {c, fds, fd_count, 0};
    (void)argument;
    put(c, "{\"memory\": [");
    (void)vmm_memory_foreach(vmm_machine_memory(c->machine), put_memory, &list);
    put(c, "]}");
    return list.rc;
}

static int run_memory_slots(struct control *c, const char *argument, int *fds, int *fd_count)
{
    struct vmm_memplug_slot s = VMM_MEMPLUG_SLOT_INIT;
    const char *comma = "";
    (void)argument;
    (void)fds;
    (void)fd_count;
    put(c, "{\"memory_slots\": [");
    for (uint32_t i = 0; vmm_machine_get_memory_slot(c->machine, i, &s) == 0; i++) {
        if (!s.length)
            continue;
        put(c,
            "%s{\"slot\": %u, \"address\": %llu, \"length\": %llu, \"told\": %s, "
            "\"reports\": %u, \"ost_event\": %u, \"ost_status\": %u}",
            comma, i, (unsigned long long)s.address, (unsigned long long)s.length,
            s.status & (VMM_MEMPLUG_INSERTED | VMM_MEMPLUG_REMOVAL) ? "false" : "true", s.ost_count,
            s.ost_event, s.ost_status);
        comma = ", ";
    }
    put(c, "]}");
    return 0;
}

static int run_add_memory(struct control *c, const char *argument, int *fds, int *fd_count)
{
    char *end;
    unsigned long long mib = strtoull(argument, &end, 10);
    if (end == argument || *end || mib > UINT64_MAX >> 20)
        return -EINVAL;
    int rc = vmm_machine_add_memory(c->machine, (uint64_t)mib << 20, NULL, NULL);
    return rc ? rc : run_memory_slots(c, argument, fds, fd_count);
}

static int run_remove_memory(struct control *c, const char *argument, int *fds, int *fd_count)
{
    char *end;
    unsigned long slot = strtoul(argument, &end, 10);
    if (end == argument || *end || slot > UINT32_MAX)
        return -EINVAL;
    int rc = vmm_machine_remove_memory(c->machine, (uint32_t)slot, NULL);
    return rc ? rc : run_memory_slots(c, argument, fds, fd_count);
}

static int run_balloon(struct control *c, const char *argument, int *fds, int *fd_count)
{
    struct vmm_balloon_stats s = VMM_BALLOON_STATS_INIT;
    char *end = NULL;
    (void)fds;
    (void)fd_count;
    if (!c->balloon)
        return -ENODEV;
    int rc = 0;
    if (argument && *argument) {
        unsigned long long bytes = strtoull(argument, &end, 0);
        rc = *argument == '-' || *end ? -EINVAL : vmm_balloon_set_target(c->balloon, bytes);
    }
    if (!rc)
        rc = vmm_balloon_get_stats(c->balloon, &s);
    if (rc)
        return rc;
    put(c, "{\"target\": %llu, \"actual\": %llu", (unsigned long long)s.target,
        (unsigned long long)s.actual);
    static const char *const names[VMM_BALLOON_STATS] = {
        "swap_in", "swap_out",  "major_faults", "minor_faults",        "free",
        "total",   "available", "caches",       "hugetlb_allocations", "hugetlb_failures"};
    for (uint32_t i = 0; i < VMM_BALLOON_STATS; i++)
        if (s.known & 1u << i)
            put(c, ", \"%s\": %llu", names[i], (unsigned long long)s.value[i]);
    put(c, "}");
    return 0;
}

/* "floppy FILE", or "floppy": no medium. */
static int run_floppy(struct control *c, const char *argument, bool change)
{
    if (change ? *argument != ' ' || !argument[1] : *argument != '\0')
        return -EINVAL;
    int rc = drives_change_floppy(c->drives, change ? argument + 1 : NULL);
    if (!rc)
        put(c, "{\"floppy\": true, \"medium\": %s}", change ? "true" : "false");
    return rc;
}

/* NUMBER FILE, or NUMBER [force] */
static int run_medium(struct control *c, const char *argument, bool change)
{
    if (strncmp(argument, "floppy", 6) == 0)
        return run_floppy(c, argument + 6, change);
    char *end;
    unsigned long number = strtoul(argument, &end, 10);
    bool force = !change && strcmp(end, " force") == 0;
    if (end == argument || number > UINT32_MAX || (change ? *end != ' ' : *end && !force))
        return -EINVAL;
    int rc = drives_change(c->drives, (uint32_t)number, change ? end + 1 : NULL, force);
    if (!rc)
        put(c, "{\"cdrom\": %lu, \"medium\": %s}", number, change ? "true" : "false");
    return rc;
}

static int run_eject(struct control *c, const char *argument, int *fds, int *fd_count)
{
    (void)fds;
    (void)fd_count;
    return run_medium(c, argument, false);
}

static int run_change(struct control *c, const char *argument, int *fds, int *fd_count)
{
    (void)fds;
    (void)fd_count;
    return run_medium(c, argument, true);
}

static int run_slots(struct control *c, const char *argument, int *fds, int *fd_count)
{
    (void)argument;
    (void)fds;
    (void)fd_count;
    put(c, "{\"slots\": [");
    for (uint32_t i = 0; i < c->plug->count; i++) {
        const struct plug_slot *s = &c->plug->slots[i];
        put(c, "%s{\"slot\": %u, \"device\": \"%s\"}", i ? ", " : "", i, plug_state(s));
    }
    put(c, "]}");
    return 0;
}

static int run_plug(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = plug_insert(c->plug, argument, &c->error);
    return rc ? rc : run_slots(c, argument, fds, fd_count);
}

static int run_unplug(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = plug_remove(c->plug, argument);
    return rc ? rc : run_slots(c, argument, fds, fd_count);
}

static int run_key(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = ports_key(c->ports, argument);
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

static int run_pointer(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = ports_pointer(c->ports, argument);
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

static int run_type(struct control *c, const char *argument, int *fds, int *fd_count)
{
    int rc = *argument ? keys_type(c->keys, argument) : -EINVAL;
    return rc ? rc : run_status(c, argument, fds, fd_count);
}

static int run_screenshot(struct control *c, const char *argument, int *fds, int *fd_count)
{
    (void)fds;
    (void)fd_count;
    if (!c->display || !*argument)
        return c->display ? -EINVAL : -ENODEV;
    int rc = display_screenshot(c->display, argument);
    if (!rc)
        put(c, "{\"screenshot\": \"written\"}");
    return rc;
}

static int run_screen_text(struct control *c, const char *argument, int *fds, int *fd_count)
{
    char *text;
    (void)argument;
    (void)fds;
    (void)fd_count;
    int rc = c->display ? display_text(c->display, &text) : -ENODEV;
    if (rc)
        return rc;
    put(c, "{\"text\": \"");
    put_escaped(c, text);
    put(c, "\"}");
    free(text);
    return 0;
}

static const struct command commands[];

static int run_help(struct control *c, const char *argument, int *fds, int *fd_count)
{
    (void)argument;
    (void)fds;
    (void)fd_count;
    put(c, "{\"commands\": {");
    for (const struct command *k = commands; k->name; k++)
        put(c, "%s\"%s\": \"%s\"", k == commands ? "" : ", ", k->name, k->help);
    put(c, "}}");
    return 0;
}

static const struct command commands[] = {
    {"help", "this list", run_help},
    {"status", "running, paused or ended", run_status},
    {"pause", "all processors out of the guest", run_pause},
    {"resume", "and on again; what a disk has failed at is tried again", run_resume},
    {"power-button", "press it; the guest decides", run_power_button},
    {"quit", "end the VM", run_quit},
    {"paging", "paging N: how vCPU N translates addresses", run_paging},
    {"memory", "the guest's memory, with a descriptor for each piece (SCM_RIGHTS)", run_memory},
    {"memory-slots", "the plugged memory", run_memory_slots},
    {"add-memory", "add-memory MIB: plug so much more", run_add_memory},
    {"remove-memory", "remove-memory SLOT: ask the guest to give it back", run_remove_memory},
    {"balloon", "balloon [BYTES]: how much memory the guest is to give back; its statistics",
     run_balloon},
    {"eject",
     "eject N [force]: take the medium out of CD-ROM drive N, as the guest allows; eject floppy",
     run_eject},
    {"change", "change N FILE: put another medium into it; change floppy FILE", run_change},
    {"slots", "what is plugged in (--plug-slots)", run_slots},
    {"plug", "plug SLOT disk FILE,... or plug SLOT net KIND,...: as --disk and --net", run_plug},
    {"unplug", "unplug SLOT [force]: ask the guest to let go of it, or take it away", run_unplug},
    {"key", "key CODE [1 or 0]: press and release, or one of them; evdev's codes, buttons too",
     run_key},
    {"pointer", "pointer X Y: where the tablet points, to 32767; pointer by X Y: move the mouse",
     run_pointer},
    {"type", "type TEXT: on the guest's keyboard; <enter>, <esc>, <up>, <f1>, <ctrl-alt-delete>",
     run_type},
    {"screenshot", "screenshot FILE: write the screen as PNG, or PPM where the name ends so",
     run_screenshot},
    {"screen-text", "what a text mode shows, as UTF-8", run_screen_text},
    {0},
};

/* Clients -------------------------------------------------------------------------------------- */

static void drop(struct client *client)
{
    client->source = vmm_source_free(client->source);
    close(client->fd);
    client->fd = -1;
}

/* One reply, whole or not at all: a client that does not read is dropped. */
static bool send_reply(struct client *client, const int *fds, int fd_count)
{
    struct control *c = client->control;
    struct iovec vector = {c->reply, c->length};
    char space[CMSG_SPACE(sizeof(int) * REGIONS_MAX)];
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
    if (fd_count > 0) {
        memset(space, 0, sizeof(space));
        message.msg_control = space;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)fd_count);
        struct cmsghdr *head = CMSG_FIRSTHDR(&message);
        head->cmsg_level = SOL_SOCKET;
        head->cmsg_type = SCM_RIGHTS;
        head->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)fd_count);
        memcpy(CMSG_DATA(head), fds, sizeof(int) * (size_t)fd_count);
    }
    return sendmsg(client->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT) == (ssize_t)c->length;
}

static bool run_line(struct client *client, char *line)
{
    struct control *c = client->control;
    int fds[REGIONS_MAX], fd_count = 0, rc = -ENOSYS;
    char *argument = line + strcspn(line, " ");
    if (*argument)
        *argument++ = '\0';
    c->length = 0;
    c->error.text[0] = '\0';
    for (const struct command *k = commands; k->name; k++)
        if (strcmp(k->name, line) == 0)
            rc = k->run(c, argument, fds, &fd_count);
    if (rc) {
        c->length = 0;
        fd_count = 0;
        put(c, "{\"error\": \"");
        put_escaped(c, rc == -ENOSYS      ? "no such command: try help"
                       : c->error.text[0] ? c->error.text
                                          : strerror(-rc));
        put(c, "\"}");
    }
    put(c, "\n");
    return send_reply(client, fds, fd_count);
}

static void client_ready(void *ctx, uint32_t events)
{
    struct client *client = ctx;
    (void)events;
    ssize_t n =
        recv(client->fd, client->line + client->used, LINE_MAX_ - client->used, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        drop(client);
        return;
    }
    client->used += (size_t)n;
    char *end;
    while ((end = memchr(client->line, '\n', client->used))) {
        size_t taken = (size_t)(end - client->line) + 1;
        *end = '\0';
        if (end > client->line && end[-1] == '\r')
            end[-1] = '\0';
        bool sent = run_line(client, client->line);
        if (!sent) {
            drop(client);
            return;
        }
        client->used -= taken;
        memmove(client->line, client->line + taken, client->used);
    }
    if (client->used == LINE_MAX_)
        drop(client); /* no command is that long */
}

static void accept_ready(void *ctx, uint32_t events)
{
    struct control *c = ctx;
    (void)events;
    int fd = accept4(c->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    for (int i = 0; i < CLIENTS_MAX; i++) {
        struct client *client = &c->clients[i];
        if (client->fd >= 0)
            continue;
        client->fd = fd;
        client->used = 0;
        if (vmm_source_new(vmm_machine_loop(c->machine), fd, VMM_POLL_IN, client_ready, client,
                           &client->source))
            break;
        return;
    }
    close(fd);
    for (int i = 0; i < CLIENTS_MAX; i++)
        if (c->clients[i].fd == fd)
            c->clients[i].fd = -1;
}

static int listen_at(struct control *c, const char *path, struct vmm_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof(address.sun_path))
        return vmm_error_set(err, -ENAMETOOLONG, "%s: a socket's path is at most %zu characters",
                             path, sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    mode_t mask = umask(0177);
    int rc = c->fd < 0 ? -1 : bind(c->fd, (struct sockaddr *)&address, sizeof(address));
    umask(mask);
    if (!rc) {
        memcpy(c->path, address.sun_path, sizeof(c->path));
        rc = listen(c->fd, CLIENTS_MAX);
    }
    return rc ? vmm_error_set(err, -errno, "%s: %s", path, strerror(errno)) : 0;
}

int control_new(struct vmm_machine *machine, struct disks *disks, struct drives *drives,
                struct vmm_virtio *balloon, const char *path, struct control **out,
                struct vmm_error *err)
{
    struct control *c = calloc(1, sizeof(*c));
    if (!c)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    c->machine = machine;
    c->disks = disks;
    c->drives = drives;
    c->balloon = balloon;
    c->fd = -1;
    for (int i = 0; i < CLIENTS_MAX; i++)
        c->clients[i] = (struct client){.control = c, .fd = -1};
    int rc = listen_at(c, path, err);
    if (!rc) {
        rc = vmm_source_new(vmm_machine_loop(machine), c->fd, VMM_POLL_IN, accept_ready, c,
                            &c->source);
        if (rc)
            (void)vmm_error_set(err, rc, "%s: %s", path, strerror(-rc));
    }
    if (rc) {
        control_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void control_set_plug(struct control *c, struct plug *plug)
{
    c->plug = plug;
}

void control_set_ports(struct control *c, const struct ports *ports)
{
    c->ports = ports;
}

void control_set_display(struct control *c, struct display *display)
{
    c->display = display;
}

void control_set_keys(struct control *c, struct keys *keys)
{
    c->keys = keys;
}

void control_free(struct control *c)
{
    if (!c)
        return;
    for (int i = 0; i < CLIENTS_MAX; i++)
        if (c->clients[i].fd >= 0)
            drop(&c->clients[i]);
    vmm_source_free(c->source);
    if (c->fd >= 0)
        close(c->fd);
    if (c->path[0])
        unlink(c->path);
    free(c);
}
