/* SPDX-License-Identifier: BSD-3-Clause */
/* Image locks, against QEMU's: what one side writes, the other refuses to open. */
#include "test.h"

#include <libvmm/block.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct fixture {
    struct vmm_loop *loop;
    char path[64];
    pid_t pid;
    int to, from;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    *state = f;
    strcpy(f->path, "/tmp/libvmm-locks-XXXXXX");
    int fd = mkstemp(f->path);
    if (fd < 0 || ftruncate(fd, 65536) < 0)
        return -1;
    close(fd);
    return vmm_loop_new(NULL, &f->loop);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_loop_unref(f->loop);
    unlink(f->path);
    strcat(f->path, ".copy");
    unlink(f->path);
    free(f);
    return 0;
}

static int open_ours(struct fixture *f, bool read_only, struct vmm_block **out)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = f->path;
    o.read_only = read_only;
    return vmm_block_raw_new(f->loop, &o, out, NULL);
}

static bool runs(struct fixture *f, const char *command)
{
    char line[256];
    snprintf(line, sizeof(line), "p=%s; %s >/dev/null 2>&1", f->path, command);
    return system(line) == 0;
}

/* A virtual machine of QEMU's with the image as its disk, until its monitor's input ends. */
static void hold(struct fixture *f, bool read_only)
{
    int in[2], out[2];
    assert_int_equal(pipe(in) | pipe(out), 0);
    f->pid = fork();
    if (f->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        close(in[1]);
        close(out[0]);
        char drive[160];
        snprintf(drive, sizeof(drive), "file=%s,format=raw,if=none,id=d,readonly=%s", f->path,
                 read_only ? "on" : "off");
        execlp("qemu-system-x86_64", "qemu-system-x86_64", "-S", "-nodefaults", "-display", "none",
               "-machine", "q35,accel=tcg", "-m", "16", "-drive", drive, "-device",
               "virtio-blk-pci,drive=d", "-monitor", "stdio", NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    f->to = in[1];
    f->from = out[0];
    char text[4096];
    size_t length = 0;
    assert_int_equal(write(f->to, "info block\n", 11), 11);
    do { /* the answer comes when all is set up */
        ssize_t n = read(f->from, text + length, sizeof(text) - 1 - length);
        assert_true(n > 0);
        length += (size_t)n;
        text[length] = '\0';
    } while (!strstr(text, "Attached to"));
}

static void let_go(struct fixture *f)
{
    assert_int_equal(write(f->to, "quit\n", 5), 5);
    close(f->to);
    assert_int_equal(waitpid(f->pid, NULL, 0), f->pid);
    close(f->from);
}

static void qemu_respects_ours(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *block;
    assert_true(runs(f, "qemu-io -f raw -c 'write 0 512' $p"));
    assert_int_equal(open_ours(f, false, &block), 0);
    assert_false(runs(f, "qemu-io -f raw -c 'write 0 512' $p"));
    assert_false(runs(f, "qemu-img convert -f raw -O raw $p $p.copy"));
    assert_true(runs(f, "qemu-img convert -U -f raw -O raw $p $p.copy"));
    vmm_block_unref(block);
    assert_int_equal(open_ours(f, true, &block), 0);
    assert_false(runs(f, "qemu-io -f raw -c 'write 0 512' $p"));
    assert_true(runs(f, "qemu-io -r -f raw -c 'read 0 512' $p"));
    assert_true(runs(f, "qemu-img convert -f raw -O raw $p $p.copy"));
    vmm_block_unref(block);
    assert_true(runs(f, "qemu-io -f raw -c 'write 0 512' $p"));
}

static void ours_respects_qemu(void **state)
{
    struct fixture *f = *state;
    struct vmm_block *block;
    hold(f, false);
    assert_int_equal(open_ours(f, false, &block), -EBUSY);
    assert_int_equal(open_ours(f, true, &block), -EBUSY);
    let_go(f);
    hold(f, true);
    assert_int_equal(open_ours(f, false, &block), -EBUSY);
    assert_int_equal(open_ours(f, true, &block), 0);
    vmm_block_unref(block);
    let_go(f);
    assert_int_equal(open_ours(f, false, &block), 0);
    vmm_block_unref(block);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(qemu_respects_ours, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ours_respects_qemu, set_up, tear_down),
    };
    if (system("(qemu-io --version && qemu-system-x86_64 --version) >/dev/null 2>&1")) {
        puts("QEMU is missing (Debian: qemu-utils, qemu-system-x86)");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
