/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Whole machines of the `micro` board: two in two threads at once (run under ThreadSanitizer too), a
 * hundred one after the other without a descriptor, mapping or thread left, reset, save and load.
 */
#include "small_vm.h"

#include <pthread.h>
#include <stdatomic.h>

/* mov dx, 0x3f8; mov al, 'A'; mov cx, 200; next: out dx, al; loop next; mov al, 21; out 0xf4, al */
static const uint8_t serial_code[] = {0xba, 0xf8, 0x03, 0xb0, 'A',  0xb9, 0xc8, 0x00,
                                      0xee, 0xe2, 0xfd, 0xb0, 0x15, 0xe6, 0xf4, 0xf4};
/* mov dx, 0x602; mov al, 1; out dx, al: the reset register; jmp $ */
static const uint8_t reset_code[] = {0xba, 0x02, 0x06, 0xb0, 0x01, 0xee, 0xeb, 0xfe};
/* jmp far f000:fff0: a PC's firmware resets the machine from there */
static const uint8_t vector_code[] = {0xea, 0xf0, 0xff, 0x00, 0xf0};
static const uint8_t spin_code[] = {0xeb, 0xfe};

static int machine(const void *code, size_t length, struct vmm_chardev *serial, uint32_t on_reset,
                   struct vmm_machine **out)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_kernel_options k = VMM_KERNEL_OPTIONS_INIT;
    o.memory_size = 16 << 20;
    o.kick_signal = (uint32_t)SIGUSR1;
    o.debug_exit = 1;
    o.on_reset = on_reset;
    o.serial[0] = serial;
    k.kernel.data = code;
    k.kernel.data_length = length;
    k.format = VMM_KERNEL_FLAT16;
    int rc = vmm_host_open(NULL, &host, &err);
    if (!rc)
        rc = vmm_machine_new(host, &o, out, &err);
    if (!rc)
        rc = vmm_machine_set_kernel(*out, &k, &err);
    if (!rc)
        rc = vmm_machine_start(*out, &err);
    if (rc)
        fprintf(stderr, "%s\n", err.text);
    vmm_host_unref(host);
    return rc;
}

static void one_machine(void)
{
    struct vmm_chardev *memory;
    struct vmm_machine *m;
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    char text[256];
    assert_int_equal(vmm_chardev_new_memory(4096, &memory), 0);
    assert_int_equal(machine(serial_code, sizeof(serial_code), memory, 0, &m), 0);
    assert_int_equal(vmm_machine_wait(m, 60000, &outcome), 0);
    assert_int_equal(outcome.reason, VMM_END_DEBUG_EXIT);
    assert_int_equal(outcome.status, 43);
    assert_int_equal(vmm_chardev_memory_read(memory, text, sizeof(text)), 200);
    vmm_machine_unref(m);
    vmm_chardev_unref(memory);
}

static void *machines_in_a_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20; i++)
        one_machine();
    return NULL;
}

static void two_threads_with_their_own_machines(void **state)
{
    (void)state;
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, machines_in_a_thread, NULL), 0);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
}

static void a_hundred_machines_leave_nothing(void **state)
{
    (void)state;
    one_machine(); /* what the C library makes once */
    int fds = proc_entries("/proc/self/fd");
    int threads = proc_entries("/proc/self/task");
    int mappings = count_lines("/proc/self/maps");
    for (int i = 0; i < 100; i++)
        one_machine();
    assert_int_equal(proc_entries("/proc/self/fd"), fds);
    assert_int_equal(proc_entries("/proc/self/task"), threads);
    assert_in_range(count_lines("/proc/self/maps"), 1, mappings + 3); /* malloc's own may vary */
}

static void a_reset_ends_or_restarts(void **state)
{
    (void)state;
    struct vmm_machine *m;
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(machine(reset_code, sizeof(reset_code), NULL, VMM_ON_RESET_END, &m), 0);
    assert_int_equal(vmm_machine_wait(m, 60000, &outcome), 0);
    assert_int_equal(outcome.reason, VMM_END_RESET);
    assert_int_equal(vmm_machine_start(m, &err), -EINVAL);
    for (int i = 0; i < 5; i++) { /* by hand */
        assert_int_equal(vmm_machine_reset(m, &err), 0);
        assert_int_equal(vmm_machine_start(m, &err), 0);
        assert_int_equal(vmm_machine_wait(m, 60000, &outcome), 0);
        assert_int_equal(outcome.reason, VMM_END_RESET);
    }
    vmm_machine_unref(m);
    /* By itself, again and again, until it is stopped. */
    assert_int_equal(machine(reset_code, sizeof(reset_code), NULL, VMM_ON_RESET_RESTART, &m), 0);
    assert_int_equal(vmm_machine_wait(m, 300, &outcome), -ETIMEDOUT);
    assert_int_equal(vmm_machine_stop(m), 0);
    assert_int_equal(vmm_machine_get_outcome(m, &outcome), 0);
    assert_true(outcome.reason == VMM_END_STOPPED || outcome.reason == VMM_END_RESET);
    vmm_machine_unref(m);
}

static void the_reset_vector_resets(void **state)
{
    (void)state;
    struct vmm_machine *m;
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    assert_int_equal(machine(vector_code, sizeof(vector_code), NULL, VMM_ON_RESET_END, &m), 0);
    assert_int_equal(vmm_machine_wait(m, 60000, &outcome), 0);
    assert_int_equal(outcome.reason, VMM_END_RESET);
    vmm_machine_unref(m);
}

static void pause_save_and_load(void **state)
{
    (void)state;
    struct vmm_machine *m;
    struct vmm_error err = VMM_ERROR_INIT;
    void *blob;
    size_t length;
    assert_int_equal(machine(spin_code, sizeof(spin_code), NULL, 0, &m), 0);
    assert_int_equal(vmm_machine_pause(m), 0);
    if (vmm_machine_save(m, &blob, &length, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vmm_machine_load(m, blob, length, &err), -EBUSY);
    assert_int_equal(vmm_machine_resume(m), 0);
    assert_int_equal(vmm_machine_stop(m), 0);
    if (vmm_machine_load(m, blob, length, &err))
        fail_msg("%s", err.text);
    /* Not a snapshot, cut short, of another machine. */
    assert_int_equal(vmm_machine_load(m, "nonsense", 8, &err), -EINVAL);
    assert_int_equal(vmm_machine_load(m, blob, length / 2, &err), -EINVAL);
    vmm_machine_unref(m);
    assert_int_equal(machine(serial_code, sizeof(serial_code), NULL, 0, &m), 0);
    assert_int_equal(vmm_machine_wait(m, 60000, NULL), 0);
    if (vmm_machine_load(m, blob, length, &err))
        fail_msg("%s", err.text);
    free(blob);
    vmm_machine_unref(m);
}

static void bad_options(void **state)
{
    (void)state;
    struct vmm_host *host;
    struct vmm_machine *m = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    o.board = "nonesuch";
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL);
    assert_non_null(strstr(err.text, "nonesuch"));
    o = (struct vmm_machine_options)VMM_MACHINE_OPTIONS_INIT;
    o.cpus = 100000;
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL);
    o.cpus = 4000;
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL); /* the host's limit */
    o.cpus = 1;
    o.memory_size = (1 << 20) + 1;
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL);
    o.memory_size = 0;
    o.cpu = "+nosuchfeature";
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), 0);
    assert_int_equal(vmm_machine_realize(m, &err), -EINVAL);
    assert_non_null(strstr(err.text, "nosuchfeature"));
    vmm_machine_unref(m);
    vmm_host_unref(host);
}

static void smbios_is_the_embedders(void **state)
{
    (void)state;
    struct vmm_host *host;
    struct vmm_machine *m;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_smbios_options s = VMM_SMBIOS_OPTIONS_INIT;
    char oem[40000], image[0x8000];
    const char *strings[] = {oem};
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), 0);
    memset(oem, 'x', sizeof(oem));
    oem[sizeof(oem) - 1] = 0;
    s.product = "appliance";
    s.serial = "S-1234";
    s.oem_strings = strings;
    s.oem_string_count = 1;
    assert_int_equal(vmm_machine_set_smbios(m, &s, &err), -ENOSPC);
    oem[20] = 0;
    assert_int_equal(vmm_machine_set_smbios(m, &s, &err), 0);
    s.sockets = 100000; /* the board's own count is taken */
    assert_int_equal(vmm_machine_set_smbios(m, &s, &err), 0);
    assert_int_equal(vmm_machine_realize(m, &err), 0);
    assert_int_equal(vmm_machine_set_smbios(m, &s, &err), -EBUSY);
    assert_int_equal(vmm_memory_read(vmm_machine_memory(m), 0xf8000, image, sizeof(image)), 0);
    assert_memory_equal(image, "_SM3_", 5);
    assert_non_null(memmem(image, sizeof(image), "appliance", 10));
    assert_non_null(memmem(image, sizeof(image), "S-1234", 7));
    assert_non_null(memmem(image, sizeof(image), "xxxxxxxxxxxxxxxxxxxx", 21));
    vmm_machine_unref(m);
    vmm_host_unref(host);
}

/* Guest-physical addresses need 41 bits for it, and KVM refuses slots that the host's processor cannot
 * address (QEMU's emulated one has 40). */
static void a_tebibyte_of_memory(void **state)
{
    const uint64_t tebibyte = UINT64_C(1) << 40;
    (void)state;
    if (TEST_UNDER_TSAN) {
        fprintf(stderr, "SKIP: ThreadSanitizer leaves no room for a tebibyte\n");
        skip();
    }
    struct vmm_host *host;
    struct vmm_machine *m;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    uint32_t value = 0x12345678;
    o.memory_size = getenv("LIBVMM_NESTED") ? tebibyte / 2 : tebibyte;
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    if (vmm_machine_new(host, &o, &m, &err))
        fail_msg("%s", err.text);
    struct vmm_memory *memory = vmm_machine_memory(m);
    assert_int_equal(vmm_memory_write(memory, o.memory_size, &value, 4), 0);
    assert_int_equal(vmm_memory_write(memory, o.memory_size + (1 << 30) - 4, &value, 4), 0);
    assert_int_equal(vmm_memory_write(memory, o.memory_size + (1 << 30), &value, 4), -EFAULT);
    assert_int_equal(vmm_memory_write(memory, 0xc0000000, &value, 4), -EFAULT);
    vmm_machine_unref(m);
    vmm_host_unref(host);
}

int main(void)
{
    need_kvm();
    if (vmm_kick_signal_install(SIGUSR1))
        return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_threads_with_their_own_machines),
        cmocka_unit_test(a_hundred_machines_leave_nothing),
        cmocka_unit_test(a_reset_ends_or_restarts),
        cmocka_unit_test(the_reset_vector_resets),
        cmocka_unit_test(pause_save_and_load),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(smbios_is_the_embedders),
        cmocka_unit_test(a_tebibyte_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
