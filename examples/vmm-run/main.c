/* SPDX-License-Identifier: BSD-3-Clause */
/* vmm-run: boot a kernel on one of libvmm's boards. `vmm-run --help` teaches. */
#include "control.h"
#include "devices.h"
#include "options.h"
#include "report.h"

#include <libvmm/machine.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

struct run {
    struct run_options options;
    struct run_times times;
    struct vmm_loop *loop;
    struct vmm_host *host;
    struct vmm_machine *machine;
    struct vmm_chardev *serial, *debug_console;
    struct vmm_source *signals;
    struct vmm_timer *timeout;
    struct control *control;
    struct display *display; /* NULL: none */
    struct keys *keys;
    struct disks disks;
    struct ports ports;
    struct drives drives;
    struct plug plug;
    struct iothreads iothreads;
    struct vmm_virtio *balloon; /* the machine's; NULL: none */
    int signal_fd;
    bool timed_out;
};

static int fail(const char *what, int rc, const struct vmm_error *err)
{
    fprintf(stderr, "vmm-run: %s: %s\n", what, err->text[0] ? err->text : strerror(-rc));
    return STATUS_HOST;
}

static void log_line(void *ctx, uint32_t level, const char *component, const char *text)
{
    (void)ctx;
    static const char *const names[] = {"", "error", "warning", "info", "debug"};
    fprintf(stderr, "vmm-run: %s: %s: %s\r\n", component, names[level], text);
}

static void guest_error(void *ctx, const char *device, const char *text)
{
    (void)ctx;
    fprintf(stderr, "vmm-run: the guest misused %s: %s\r\n", device, text);
}

/* Ctrl-A and a key. */
static void escape_key(void *ctx, uint8_t key)
{
    struct run *run = ctx;
    switch (key) {
    case 'x':
        fputs("\r\nvmm-run: left by Ctrl-A x\r\n", stderr);
        vmm_machine_stop(run->machine);
        break;
    case 'p':
        if (vmm_machine_power_button(run->machine))
            fputs("\r\nvmm-run: this board has no power button\r\n", stderr);
        break;
    case 'h':
    case '?':
        fputs("\r\nCtrl-A x  leave      Ctrl-A p  press the power button\r\n"
              "Ctrl-A h  this help  Ctrl-A Ctrl-A  send Ctrl-A\r\n",
              stderr);
        break;
    default:
        break;
    }
}

static void signal_came(void *ctx, uint32_t events)
{
    struct run *run = ctx;
    struct signalfd_siginfo info;
    (void)events;
    if (read(run->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info))
        vmm_machine_stop(run->machine);
}

static void time_is_up(void *ctx)
{
    struct run *run = ctx;
    run->timed_out = true;
    vmm_machine_stop(run->machine);
}

/* SIGINT, SIGTERM and SIGHUP end the VM in order, so that the terminal is given back. */
static int watch_signals(struct run *run)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL))
        return -errno;
    run->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (run->signal_fd < 0)
        return -errno;
    return vmm_source_new(run->loop, run->signal_fd, VMM_POLL_IN, signal_came, run, &run->signals);
}

static int open_serial(struct run *run, struct vmm_error *err)
{
    const char *where = run->options.serial;
    if (strcmp(where, "stdio") == 0)
        return vmm_chardev_new_stdio(run->loop, 1, escape_key, run, &run->serial, err);
    if (strncmp(where, "unix:", 5) == 0)
        return vmm_chardev_new_unix(run->loop, where + 5, true, &run->serial, err);
    if (strncmp(where, "file:", 5) == 0)
        return vmm_chardev_new_file(where + 5, &run->serial, err);
    if (strcmp(where, "pty") == 0) {
        int rc = vmm_chardev_new_pty(run->loop, &run->serial, err);
        if (!rc)
            fprintf(stderr, "vmm-run: serial port on %s\n", vmm_chardev_path(run->serial));
        return rc;
    }
    if (strcmp(where, "none") == 0)
        return 0;
    return vmm_error_set(err, -EINVAL, "stdio, pty, unix:PATH, file:PATH or none, not \"%s\"",
                         where);
}

static int make_machine(struct run *run, struct vmm_error *err)
{
    const struct run_options *o = &run->options;
    struct vmm_machine_options m = VMM_MACHINE_OPTIONS_INIT;
    m.board = o->machine;
    m.firmware = o->firmware;
    m.firmware_vars = o->firmware_vars;
    m.cpu = o->cpu;
    m.memory_size = o->memory;
    m.memory_max = o->memory_max;
    m.cpus = o->cpus;
    m.kick_signal = (uint32_t)SIGRTMIN;
    m.on_reset = o->no_reboot ? VMM_ON_RESET_END : VMM_ON_RESET_RESTART;
    m.debug_exit = o->debug_exit;
    m.assist = o->assist;
    m.shared_memory = o->control != NULL || o->vhost_user.count;
    m.pci = o->pci;
    m.loop = run->loop;
    m.serial[0] = run->serial;
    m.debug_console = run->debug_console;
    m.log.write = log_line;
    m.log.level = o->verbose ? VMM_LOG_DEBUG : VMM_LOG_WARN;
    if (o->verbose)
        m.guest_error = guest_error;
    return vmm_machine_new(run->host, &m, &run->machine, err);
}

static int set_kernel(struct run *run, struct vmm_error *err)
{
    const struct run_options *o = &run->options;
    struct vmm_kernel_options k = VMM_KERNEL_OPTIONS_INIT;
    k.kernel.path = o->kernel;
    k.format = o->kernel_format;
    k.load_address = o->kernel_at;
    k.unpack = o->unpack;
    k.initrd.path = o->initrd;
    k.command_line = o->append;
    return vmm_machine_set_kernel(run->machine, &k, err);
}

/* Everything up to the first guest instruction. 0, or the exit status after a message. */
static int set_up(struct run *run)
{
    struct vmm_error err = VMM_ERROR_INIT;
    int rc = vmm_host_open(NULL, &run->host, &err);
    if (rc)
        return fail("the host", rc, &err);
    rc = vmm_loop_new(NULL, &run->loop);
    if (!rc)
        rc = watch_signals(run);
    if (rc)
        return fail("event loop", rc, &err);
    rc = vmm_kick_signal_install(SIGRTMIN);
    if (rc)
        return fail("signals", rc, &err);
    rc = open_serial(run, &err);
    if (rc)
        return fail("--serial", rc, &err);
    if (run->options.debug_console) {
        rc = vmm_chardev_new_file(run->options.debug_console, &run->debug_console, &err);
        if (rc)
            return fail("--debug-console", rc, &err);
    }
    rc = make_machine(run, &err);
    if (rc)
        return fail("the machine", rc, &err);
    run->times.machine_made = time_now();
    disks_init(&run->disks, run->machine);
    drives_init(&run->drives, run->machine);
    rc = iothreads_init(&run->iothreads, run->options.iothreads, run->machine, &err);
    if (!rc)
        rc = devices_add(&run->options, &run->disks, &run->drives, &run->iothreads, run->machine,
                         &run->balloon, &err);
    if (!rc)
        rc =
            pmem_add(&run->options.pmem, run->host, run->machine,
                     run->options.memory_max ? run->options.memory_max : run->options.memory, &err);
    if (!rc)
        rc = plug_init(&run->plug, run->options.plug_slots, &run->disks, run->machine, &err);
    if (!rc)
        rc = ports_add(&run->ports, &run->options.ports, run->machine, escape_key, run, &err);
    if (rc)
        return fail("devices", rc, &err);
    rc = display_add(&run->options.display, run->machine, &run->display, &err);
    if (rc)
        return fail("the display", rc, &err);
    rc = keys_new(&run->options.keys, run->machine, &run->ports, display_input(run->display),
                  &run->keys);
    if (rc)
        return fail("the keyboard", rc, &err);
    rc = set_kernel(run, &err);
    if (!rc)
        rc = vmm_machine_realize(run->machine, &err);
    if (rc)
        return fail("the machine", rc, &err);
    run->times.realized = time_now();
    if (run->options.control) {
        rc = control_new(run->machine, &run->disks, &run->drives, run->balloon,
                         run->options.control, &run->control, &err);
        if (rc)
            return fail("--control", rc, &err);
        control_set_plug(run->control, &run->plug);
        control_set_ports(run->control, &run->ports);
        control_set_display(run->control, run->display);
        control_set_keys(run->control, run->keys);
    }
    if (run->options.timeout_s) {
        rc = vmm_timer_new(run->loop, time_is_up, run, &run->timeout);
        if (!rc)
            rc = vmm_timer_set(run->timeout, vmm_loop_now(run->loop) +
                                                 (uint64_t)run->options.timeout_s * 1000000000u);
        if (rc)
            return fail("--timeout", rc, &err);
    }
    return 0;
}

static int status_of(const struct run *run, const struct vmm_outcome *outcome)
{
    switch (outcome->reason) {
    case VMM_END_POWER_OFF:
    case VMM_END_RESET:
        return STATUS_OK;
    case VMM_END_CRASH:
        fprintf(stderr, "vmm-run: the guest crashed\n%s", outcome->text ? outcome->text : "");
        return STATUS_CRASH;
    case VMM_END_DEBUG_EXIT:
        return outcome->status & 0xff;
    case VMM_END_STOPPED:
        if (run->timed_out)
            fprintf(stderr, "vmm-run: ended after %d s\n", run->options.timeout_s);
        return run->timed_out ? STATUS_TIMEOUT : STATUS_OK;
    default:
        fprintf(stderr, "vmm-run: host error: %s\n%s", strerror(-outcome->status),
                outcome->text ? outcome->text : "");
        return STATUS_HOST;
    }
}

static int run_to_the_end(struct run *run)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    int rc = vmm_machine_start(run->machine, &err);
    if (rc)
        return fail("start", rc, &err);
    run->times.started = time_now();
    rc = display_start(run->display);
    if (!rc)
        rc = keys_start(run->keys);
    if (rc)
        return fail("--screenshot and --keys", rc, &err);
    rc = vmm_machine_wait(run->machine, -1, &outcome);
    if (rc)
        return fail("event loop", rc, &err);
    run->times.ended = time_now();
    vmm_chardev_restore_terminal(run->serial);
    ports_restore_terminal(&run->ports);
    int status = status_of(run, &outcome);
    if (run->options.report) {
        rc = report_write(run->options.report, run->host, run->machine, &run->options, &run->times,
                          &outcome, status);
        if (rc) {
            fprintf(stderr, "vmm-run: --report %s: %s\n", run->options.report, strerror(-rc));
            status = status ? status : STATUS_HOST;
        }
    }
    return status;
}

int main(int argc, char **argv)
{
    struct run run = {.signal_fd = -1};
    run.times.process_start = time_of_process_start();
    int status = options_parse(&run.options, argc, argv);
    if (status >= 0)
        return status;
    status = set_up(&run);
    if (status == 0)
        status = run_to_the_end(&run);
    control_free(run.control);
    keys_free(run.keys);
    display_free(run.display);
    vmm_timer_free(run.timeout);
    vmm_source_free(run.signals);
    iothreads_stop(&run.iothreads);
    plug_forget(&run.plug);
    drives_forget(&run.drives);
    disks_forget(&run.disks);
    ports_forget(&run.ports);
    iothreads_forget(&run.iothreads);
    vmm_machine_unref(run.machine);
    vmm_chardev_unref(run.debug_console);
    vmm_chardev_unref(run.serial);
    vmm_loop_unref(run.loop);
    vmm_host_unref(run.host);
    if (run.signal_fd >= 0)
        close(run.signal_fd);
    return status;
}
