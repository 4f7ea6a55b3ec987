/* SPDX-License-Identifier: BSD-3-Clause */
/* The `pc` board: SeaBIOS from the reset vector on, the chipset's registers, reset, save and load. */
#include "small_vm.h"

#include <libvmm/pci.h>

#include <pthread.h>
#include <unistd.h>

#define SEABIOS "/usr/share/seabios/bios-256k.bin"
#define PM      (1u << 3 | 3u)
#define ISA     (1u << 3)
#define PAM0    0x59u

/* At the reset vector: mov al, 0x21; out 0xf4, al; hlt. The rest is 0x5a. */
static const char *make_firmware(char path[])
{
    static uint8_t image[0x20000];
    static const uint8_t code[] = {0xb0, 0x21, 0xe6, 0xf4, 0xf4};
    memset(image, 0x5a, sizeof(image));
    memcpy(image + sizeof(image) - 16, code, sizeof(code));
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, image, sizeof(image)), sizeof(image));
    close(fd);
    return path;
}

static struct vmm_machine *make(const char *firmware, struct vmm_chardev *debug, bool realize)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host;
    struct vmm_machine *m;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    o.board = "pc";
    o.memory_size = 32 << 20;
    o.kick_signal = (uint32_t)SIGUSR1;
    o.debug_exit = 1;
    o.debug_console = debug;
    o.firmware = firmware;
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    if (vmm_machine_new(host, &o, &m, &err))
        fail_msg("%s", err.text);
    if (realize && vmm_machine_realize(m, &err))
        fail_msg("%s", err.text);
    vmm_host_unref(host);
    return m;
}

static void set_cfg(struct vmm_machine *m, uint32_t function, uint32_t offset, uint32_t value)
{
    assert_int_equal(vmm_pci_host_config_write(vmm_machine_pci(m), function, offset, 1, value), 0);
}

static uint32_t cfg(struct vmm_machine *m, uint32_t function, uint32_t offset, uint32_t width)
{
    uint32_t value = 0;
    assert_int_equal(vmm_pci_host_config_read(vmm_machine_pci(m), function, offset, width, &value),
                     0);
    return value;
}

static uint8_t byte_at(struct vmm_machine *m, uint64_t address)
{
    uint8_t value = 0;
    assert_int_equal(vmm_memory_load_u8(vmm_machine_memory(m), address, &value), 0);
    return value;
}

static void the_reset_vector_is_the_firmwares(void **state)
{
    char path[] = "/tmp/libvmm-firmware-XXXXXX";
    struct vmm_outcome outcome = VMM_OUTCOME_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    (void)state;
    struct vmm_machine *m = make(make_firmware(path), NULL, true);
    for (int i = 0; i < 2; i++) {
        if (vmm_machine_start(m, &err))
            fail_msg("%s", err.text);
        assert_int_equal(vmm_machine_wait(m, 60000, &outcome), 0);
        assert_int_equal(outcome.reason, VMM_END_DEBUG_EXIT);
        assert_int_equal(outcome.status, 0x21 * 2 + 1);
        assert_int_equal(vmm_machine_reset(m, &err), 0);
    }
    vmm_machine_unref(m);
    unlink(path);
}

/* Each of the modes of the segment at 0xf0000, and of one that has no ROM. */
static void pam_shadows(void **state)
{
    char path[] = "/tmp/libvmm-firmware-XXXXXX";
    (void)state;
    struct vmm_machine *m = make(make_firmware(path), NULL, true);
    struct vmm_memory *memory = vmm_machine_memory(m);
    assert_int_equal(byte_at(m, 0xfffe0000), 0x5a);
    assert_int_equal(byte_at(m, 0xf1000), 0x5a);
    assert_int_equal(byte_at(m, 0xc0000), 0xff);
    assert_int_equal(vmm_memory_store_u8(memory, 0xf1000, 1), -EFAULT);
    set_cfg(m, 0, PAM0, 0x20); /* reads from ROM, writes to RAM */
    assert_int_equal(vmm_memory_handle_write(memory, 0xf1000, 2, 0x1234), 0);
    assert_int_equal(byte_at(m, 0xf1000), 0x5a);
    set_cfg(m, 0, PAM0, 0x30); /* RAM */
    assert_int_equal(byte_at(m, 0xf1000), 0x34);
    assert_int_equal(byte_at(m, 0xf1001), 0x12);
    assert_int_equal(vmm_memory_store_u8(memory, 0xf1000, 7), 0);
    set_cfg(m, 0, PAM0, 0x10); /* RAM, not writable */
    assert_int_equal(byte_at(m, 0xf1000), 7);
    assert_int_equal(vmm_memory_store_u8(memory, 0xf1000, 8), -EFAULT);
    set_cfg(m, 0, PAM0, 0x00);
    assert_int_equal(byte_at(m, 0xf1000), 0x5a);
    set_cfg(m, 0, PAM0 + 1, 0x03);
    assert_int_equal(vmm_memory_store_u8(memory, 0xc0000, 9), 0);
    assert_int_equal(byte_at(m, 0xc0000), 9);
    assert_int_equal(byte_at(m, 0xc4000), 0xff);
    for (uint32_t value = 0; value < 256; value++) /* each register with every value */
        for (uint32_t i = 0; i < 7; i++)
            set_cfg(m, 0, PAM0 + i, value);
    vmm_machine_unref(m);
    unlink(path);
}

static void power_management_is_where_pmbase_says(void **state)
{
    char path[] = "/tmp/libvmm-firmware-XXXXXX";
    uint64_t value;
    (void)state;
    struct vmm_machine *m = make(make_firmware(path), NULL, true);
    struct vmm_bus *ports = vmm_machine_ports(m);
    assert_int_equal(cfg(m, 0, 0, 4), 0x12378086);
    assert_int_equal(cfg(m, ISA, 0, 4), 0x70008086);
    assert_int_equal(cfg(m, PM, 0, 4), 0x71138086);
    assert_int_equal(vmm_bus_read(ports, 0x604, 2, &value), -ENOENT);
    set_cfg(m, PM, 0x41, 0x06);
    assert_int_equal(vmm_bus_read(ports, 0x604, 2, &value), -ENOENT);
    set_cfg(m, PM, 0x80, 1);
    assert_int_equal(vmm_bus_read(ports, 0x604, 2, &value), 0);
    assert_int_equal(value, 0);
    assert_int_equal(vmm_bus_write(ports, 0xb2, 1, 0xf1), 0); /* ACPI on */
    assert_int_equal(vmm_bus_read(ports, 0x604, 2, &value), 0);
    assert_int_equal(value, 1);
    set_cfg(m, PM, 0x41, 0xb0);
    assert_int_equal(vmm_bus_read(ports, 0x604, 2, &value), -ENOENT);
    assert_int_equal(vmm_bus_read(ports, 0xb004, 2, &value), 0);
    set_cfg(m, PM, 0x41, 0x00); /* on top of nothing: off */
    for (uint32_t high = 0; high < 256;
         high++) /* over every other device: never two at one place */
        set_cfg(m, PM, 0x41, high);
    for (uint32_t route = 0; route < 256; route++)
        set_cfg(m, ISA, 0x60 + route % 4, route);
    vmm_machine_unref(m);
    unlink(path);
}

static void state_keeps_the_shadow_and_the_places(void **state)
{
    char path[] = "/tmp/libvmm-firmware-XXXXXX";
    struct vmm_error err = VMM_ERROR_INIT;
    void *data;
    size_t length;
    uint64_t value;
    (void)state;
    struct vmm_machine *a = make(make_firmware(path), NULL, true), *b = make(path, NULL, true);
    set_cfg(a, 0, PAM0, 0x30);
    set_cfg(a, PM, 0x41, 0x06);
    set_cfg(a, PM, 0x80, 1);
    assert_int_equal(vmm_machine_save(a, &data, &length, &err), 0);
    if (vmm_machine_load(b, data, length, &err))
        fail_msg("%s", err.text);
    assert_int_equal(vmm_memory_store_u8(vmm_machine_memory(b), 0xf1000, 8), 0);
    assert_int_equal(vmm_bus_read(vmm_machine_ports(b), 0x604, 2, &value), 0);
    free(data);
    vmm_machine_unref(a);
    vmm_machine_unref(b);
    unlink(path);
}

static void bad_options(void **state)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_host *host;
    struct vmm_machine *m;
    (void)state;
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    o.board = "pc";
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL); /* no firmware */
    o.firmware = "/nonexistent/firmware";
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -ENOENT);
    o.firmware = "/dev/null";
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL);
    o.firmware = SEABIOS;
    o.memory_size = 1 << 20;
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), -EINVAL);
    vmm_host_unref(host);
}

static pthread_mutex_t text_lock = PTHREAD_MUTEX_INITIALIZER;
static char text[65536];
static size_t text_length;

static long take_text(void *ctx, const uint8_t *data, size_t length)
{
    struct vmm_machine **m = ctx;
    (void)m;
    pthread_mutex_lock(&text_lock);
    for (size_t i = 0; i < length && text_length < sizeof(text) - 1; i++)
        text[text_length++] = (char)data[i];
    pthread_mutex_unlock(&text_lock);
    return (long)length;
}

static bool has_said(const char *what)
{
    pthread_mutex_lock(&text_lock);
    bool said = strstr(text, what) != NULL;
    pthread_mutex_unlock(&text_lock);
    return said;
}

/* All of its start: it finds the tables, the keyboard, and that there is nothing to boot. */
static void seabios_starts(void **state)
{
    static const struct vmm_chardev_ops ops = {sizeof(ops), take_text, NULL, NULL};
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_chardev *debug;
    (void)state;
    if (access(SEABIOS, R_OK)) {
        print_message("[  SKIPPED ] needs " SEABIOS " (Debian: seabios)\n");
        skip();
    }
    assert_int_equal(vmm_chardev_new(&ops, NULL, &debug), 0);
    struct vmm_machine *m = make(SEABIOS, debug, true);
    if (vmm_machine_start(m, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < 900 && !has_said("No bootable device"); i++)
        (void)vmm_machine_wait(m, 100, NULL);
    assert_int_equal(vmm_machine_stop(m), 0);
    vmm_machine_unref(m);
    vmm_chardev_unref(debug);
    assert_non_null(strstr(text, "QEMU fw_cfg DMA interface supported"));
    assert_non_null(strstr(text, "PCI: init bdf=00:01.3 id=8086:7113"));
    assert_non_null(strstr(text, "ACPI: parse DSDT"));
    assert_non_null(strstr(text, "PS2 keyboard initialized"));
    assert_non_null(strstr(text, "No bootable device"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_reset_vector_is_the_firmwares),
        cmocka_unit_test(pam_shadows),
        cmocka_unit_test(power_management_is_where_pmbase_says),
        cmocka_unit_test(state_keeps_the_shadow_and_the_places),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(seabios_starts),
    };
    need_kvm();
    (void)vmm_kick_signal_install(SIGUSR1); /* or it is there */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
