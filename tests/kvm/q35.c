/* SPDX-License-Identifier: BSD-3-Clause */
/* The `q35` board: the chipset's registers, tables made anew, variables in a file, SeaBIOS, state. */
#include "small_vm.h"

#include "base/util.h"

#include <libvmm/fwcfg.h>
#include <libvmm/i8042.h>
#include <libvmm/pci.h>

#include <fcntl.h>
#include <pthread.h>
#include <sys/stat.h>
#include <unistd.h>

#define SEABIOS  "/usr/share/seabios/bios-256k.bin"
#define LPC      (31u << 3)
#define PCIEXBAR 0x60u
#define PAM0     0x90u

static char firmware_path[] = "/tmp/libvmm-q35-firmware-XXXXXX";
static char vars_path[] = "/tmp/libvmm-q35-vars-XXXXXX";

static void make_file(char path[], size_t length, uint8_t value)
{
    uint8_t *data = malloc(length);
    int fd = mkstemp(path);
    assert_non_null(data);
    assert_true(fd >= 0);
    memset(data, value, length);
    assert_int_equal(write(fd, data, length), length);
    close(fd);
    free(data);
}

static int try(const char *firmware, const char *vars, struct vmm_chardev *debug,
               struct vmm_machine **out, struct vmm_error *err)
{
    struct vmm_host *host;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    o.board = "q35";
    o.memory_size = 32 << 20;
    o.kick_signal = (uint32_t)SIGUSR1;
    o.debug_console = debug;
    o.firmware = firmware;
    o.firmware_vars = vars;
    assert_int_equal(vmm_host_open(NULL, &host, err), 0);
    int rc = vmm_machine_new(host, &o, out, err);
    vmm_host_unref(host);
    return rc;
}

static struct vmm_machine *make(const char *firmware, const char *vars, struct vmm_chardev *debug)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine *m;
    if (try(firmware, vars, debug, &m, &err) || vmm_machine_realize(m, &err))
        fail_msg("%s", err.text);
    return m;
}

static void set_cfg(struct vmm_machine *m, uint32_t function, uint32_t offset, uint32_t width,
                    uint32_t value)
{
    assert_int_equal(vmm_pci_host_config_write(vmm_machine_pci(m), function, offset, width, value),
                     0);
}

static uint32_t cfg(struct vmm_machine *m, uint32_t function, uint32_t offset, uint32_t width)
{
    uint32_t value = 0;
    assert_int_equal(vmm_pci_host_config_read(vmm_machine_pci(m), function, offset, width, &value),
                     0);
    return value;
}

static uint32_t mmio(struct vmm_machine *m, uint64_t address)
{
    uint64_t value = 0;
    (void)vmm_bus_read(vmm_machine_mmio(m), address, 4, &value);
    return (uint32_t)value;
}

static uint32_t port(struct vmm_machine *m, uint32_t address, uint32_t width)
{
    uint64_t value = 0;
    (void)vmm_bus_read(vmm_machine_ports(m), address, width, &value);
    return (uint32_t)value;
}

static void configuration_space_is_where_pciexbar_says(void **state)
{
    struct vmm_machine *m = make(firmware_path, NULL, NULL);
    (void)state;
    assert_int_equal(cfg(m, 0, 0, 4), 0x29c08086);
    assert_int_equal(cfg(m, LPC, 0, 4), 0x29188086);
    set_cfg(m, LPC, 4, 2, 0); /* it always answers */
    assert_int_equal(cfg(m, LPC, 4, 2), 7);
    assert_int_equal(mmio(m, 0xe0000000), UINT32_MAX); /* off until firmware has come */
    set_cfg(m, 0, PCIEXBAR, 4, 0xb0000001);
    assert_int_equal(mmio(m, 0xb0000000), 0x29c08086);
    assert_int_equal(mmio(m, 0xb0000000 + (LPC << 12)), 0x29188086);
    assert_int_equal(mmio(m, 0xe0000000), UINT32_MAX);
    set_cfg(m, 0, PCIEXBAR, 4, 0xe0000007); /* the length cannot be changed */
    assert_int_equal(cfg(m, 0, PCIEXBAR, 4), 0xe0000001);
    assert_int_equal(mmio(m, 0xb0000000), UINT32_MAX);
    assert_int_equal(mmio(m, 0xe0000000), 0x29c08086);
    set_cfg(m, 0, PCIEXBAR, 1, 0);
    assert_int_equal(mmio(m, 0xe0000000), UINT32_MAX);
    for (uint32_t value = 0; value < 256; value++) /* anywhere, RAM and firmware included */
        for (uint32_t i = 0; i < 8; i++)
            set_cfg(m, 0, PCIEXBAR + i, 1, value);
    vmm_machine_unref(m);
}

/* At reset, too. */
static void ports_are_where_pmbase_says(void **state)
{
    struct vmm_machine *m = make(firmware_path, NULL, NULL);
    struct vmm_error err = VMM_ERROR_INIT;
    (void)state;
    set_cfg(m, LPC, 0x41, 1, 0x06);
    assert_int_equal(port(m, 0x604, 2), 0xffff);
    set_cfg(m, LPC, 0x44, 1, 0x80);
    assert_int_equal(port(m, 0x604, 2), 0);
    assert_int_equal(port(m, 0x630, 4), 0x21); /* SMIs are set up */
    assert_int_equal(vmm_bus_write(vmm_machine_ports(m), 0x628, 4, 0x1234), 0);
    assert_int_equal(port(m, 0x628, 4), 0x1234);
    assert_int_equal(vmm_bus_write(vmm_machine_ports(m), 0xb2, 1, 0xf1), 0); /* ACPI on */
    assert_int_equal(port(m, 0x604, 2), 1);
    for (uint32_t high = 0; high < 256; high++)
        set_cfg(m, LPC, 0x41, 1, high);
    for (uint32_t route = 0; route < 256; route++)
        set_cfg(m, LPC, 0x60 + route % 12, 1, route);
    assert_int_equal(vmm_machine_reset(m, &err), 0);
    assert_int_equal(port(m, 0x604, 2), 0xffff);
    set_cfg(m, LPC, 0x41, 1, 0x06);
    set_cfg(m, LPC, 0x44, 1, 0x80);
    assert_int_equal(port(m, 0x628, 4), 0);
    vmm_machine_unref(m);
}

static void pam_is_elsewhere(void **state)
{
    struct vmm_machine *m = make(firmware_path, NULL, NULL);
    struct vmm_memory *memory = vmm_machine_memory(m);
    (void)state;
    assert_int_equal(vmm_memory_store_u8(memory, 0xf1000, 1), -EFAULT);
    set_cfg(m, 0, PAM0, 1, 0x30);
    assert_int_equal(vmm_memory_store_u8(memory, 0xf1000, 1), 0);
    vmm_machine_unref(m);
}

/* A file as the guest reads it, by selector and data port. */
static uint8_t *read_file(struct vmm_machine *m, const char *name, size_t *length)
{
    struct vmm_bus *ports = vmm_machine_ports(m);
    uint8_t entry[64];
    assert_int_equal(vmm_bus_write(ports, 0x510, 2, VMM_FWCFG_FILE_DIR), 0);
    uint32_t count = 0;
    for (int i = 0; i < 4; i++)
        count = count << 8 | port(m, 0x511, 1);
    for (uint32_t i = 0; i < count; i++) {
        for (size_t k = 0; k < sizeof(entry); k++)
            entry[k] = (uint8_t)port(m, 0x511, 1);
        if (strcmp((char *)entry + 8, name) != 0)
            continue;
        *length =
            (size_t)entry[0] << 24 | (size_t)entry[1] << 16 | (size_t)entry[2] << 8 | entry[3];
        uint8_t *data = malloc(*length);
        assert_non_null(data);
        assert_int_equal(vmm_bus_write(ports, 0x510, 2, (uint64_t)entry[4] << 8 | entry[5]), 0);
        for (size_t k = 0; k < *length; k++)
            data[k] = (uint8_t)port(m, 0x511, 1);
        return data;
    }
    fail_msg("no file %s", name);
    return NULL;
}

static const uint8_t *find_table(const uint8_t *tables, size_t length, const char *signature)
{
    for (size_t i = 0; i + 44 < length; i++)
        if (memcmp(tables + i, signature, 4) == 0)
            return tables + i;
    fail_msg("no table %s", signature);
    return NULL;
}

static void tables_say_where_firmware_has_put_things(void **state)
{
    struct vmm_machine *m = make(firmware_path, NULL, NULL);
    size_t length, again;
    (void)state;
    uint8_t *tables = read_file(m, "etc/acpi/tables", &length);
    assert_int_equal(vmm_load_le64(find_table(tables, length, "MCFG") + 44), 0xe0000000);
    free(tables);
    set_cfg(m, 0, PCIEXBAR, 4, 0xb0000001);
    set_cfg(m, LPC, 0x41, 1, 0x0a);
    set_cfg(m, LPC, 0x44, 1, 0x80);
    tables = read_file(m, "etc/acpi/tables", &again);
    assert_int_equal(again, length);
    assert_int_equal(vmm_load_le64(find_table(tables, length, "MCFG") + 44), 0xb0000000);
    assert_int_equal(vmm_load_le32(find_table(tables, length, "FACP") + 56), 0xa00);
    free(tables);
    vmm_machine_unref(m);
}

static void state_keeps_the_places(void **state)
{
    struct vmm_machine *a = make(firmware_path, NULL, NULL), *b = make(firmware_path, NULL, NULL);
    struct vmm_error err = VMM_ERROR_INIT;
    void *data;
    size_t length;
    (void)state;
    set_cfg(a, 0, PCIEXBAR, 4, 0xb0000001);
    set_cfg(a, 0, PAM0, 1, 0x30);
    set_cfg(a, LPC, 0x41, 1, 0x06);
    set_cfg(a, LPC, 0x44, 1, 0x80);
    assert_int_equal(vmm_bus_write(vmm_machine_ports(a), 0x628, 4, 0x1234), 0);
    assert_int_equal(vmm_machine_save(a, &data, &length, &err), 0);
    if (vmm_machine_load(b, data, length, &err))
        fail_msg("%s", err.text);
    assert_int_equal(mmio(b, 0xb0000000), 0x29c08086);
    assert_int_equal(port(b, 0x604, 2), 0);
    assert_int_equal(port(b, 0x628, 4), 0x1234);
    assert_int_equal(vmm_memory_store_u8(vmm_machine_memory(b), 0xf1000, 8), 0);
    free(data);
    vmm_machine_unref(a);
    vmm_machine_unref(b);
}

static void flash(struct vmm_machine *m, uint64_t address, uint8_t command, uint8_t value)
{
    struct vmm_memory *memory = vmm_machine_memory(m);
    const uint8_t cycles[] = {command, value, 0xff};
    for (int i = 0; i < 3; i++)
        if (vmm_memory_handle_write(memory, address, 1, cycles[i]) == -ENOENT)
            assert_int_equal(vmm_bus_write(vmm_machine_mmio(m), address, 1, cycles[i]), 0);
}

/* The chip ends where the firmware begins; the next machine reads what this one wrote. */
static void variables_are_the_files(void **state)
{
    const uint64_t at = UINT64_C(0x100000000) - 0x20000 - 0x8000;
    struct vmm_machine *m = make(firmware_path, vars_path, NULL), *second;
    struct vmm_error err = VMM_ERROR_INIT;
    uint8_t byte = 0;
    (void)state;
    assert_int_equal(try(firmware_path, vars_path, NULL, &second, &err), -EBUSY);
    flash(m, at + 5, 0x10, 0x42);
    assert_int_equal(vmm_memory_load_u8(vmm_machine_memory(m), at + 5, &byte), 0);
    assert_int_equal(byte, 0x42);
    vmm_machine_unref(m);
    m = make(firmware_path, vars_path, NULL);
    assert_int_equal(vmm_memory_load_u8(vmm_machine_memory(m), at + 5, &byte), 0);
    assert_int_equal(byte, 0x42);
    assert_int_equal(vmm_machine_reset(m, &err), 0);
    assert_int_equal(vmm_memory_load_u8(vmm_machine_memory(m), at + 5, &byte), 0);
    assert_int_equal(byte, 0x42);
    flash(m, at, 0x20, 0xd0);
    vmm_machine_unref(m);
    int fd = open(vars_path, O_RDONLY);
    assert_int_equal(pread(fd, &byte, 1, 5), 1);
    assert_int_equal(byte, 0xff);
    close(fd);
}

static void bad_options(void **state)
{
    struct vmm_machine *m;
    struct vmm_error err = VMM_ERROR_INIT;
    char odd[] = "/tmp/libvmm-q35-odd-XXXXXX";
    (void)state;
    make_file(odd, 4097, 0);
    assert_int_equal(try(NULL, NULL, NULL, &m, &err), -EINVAL);
    assert_int_equal(try(firmware_path, "/nonexistent/vars", NULL, &m, &err), -ENOENT);
    assert_int_equal(try(firmware_path, "/dev/null", NULL, &m, &err), -EINVAL);
    assert_int_equal(try(firmware_path, odd, NULL, &m, &err), -EINVAL);
    assert_int_equal(truncate(odd, 16 << 20), 0); /* too much with the firmware */
    assert_int_equal(try(firmware_path, odd, NULL, &m, &err), -EINVAL);
    unlink(odd);
}

/* A function of a class and, where it matters, of a device; at a slot. */
static struct vmm_pci *add_function(struct vmm_machine *m, uint32_t class_code, uint16_t device,
                                    uint32_t slot, uint32_t function)
{
    static uint32_t number;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    struct vmm_pci *pci;
    char name[16];
    (void)snprintf(name, sizeof(name), "function%u", number++);
    o.name = name;
    o.vendor_id = 0x1af4;
    o.device_id = device;
    o.class_code = class_code;
    assert_int_equal(vmm_pci_new(&o, &pci, NULL), 0);
    if (slot)
        assert_int_equal(vmm_pci_host_add(vmm_machine_pci(m), pci, slot, function, NULL), 0);
    return pci;
}

static void boot_order(void **state)
{
    static const char want[] = "/pci@i0cf8/pci8086,2922@4/drive@3/disk@0\n"
                               "/pci@i0cf8/scsi@5/disk@0,0\n"
                               "/pci@i0cf8/scsi@6/channel@0/disk@2,1\n"
                               "/pci@i0cf8/ide@7,2/drive@1/disk@0\n"
                               "/pci@i0cf8/pci8086,5845@1e/namespace@1,0\n"
                               "/pci@i0cf8/ethernet@9/ethernet-phy@0";
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine *m;
    char got[1024] = "";
    (void)state;
    assert_int_equal(try(firmware_path, NULL, NULL, &m, &err), 0);
    struct vmm_pci *f[] = {
        add_function(m, 0x010601, 1, 4, 0),      add_function(m, 0x010000, 0x1042, 5, 0),
        add_function(m, 0x010000, 0x1048, 6, 0), add_function(m, 0x010180, 1, 7, 2),
        add_function(m, 0x010802, 1, 30, 0),     add_function(m, 0x020000, 0x1041, 9, 0),
        add_function(m, 0x030000, 1, 10, 0),     add_function(m, 0x010601, 1, 0, 0),
    };
    struct vmm_boot_device d[65] = {
        {.pci = f[0], .unit = 3}, {.pci = f[1]}, {.pci = f[2], .unit = 2, .lun = 1},
        {.pci = f[3], .unit = 2}, {.pci = f[4]}, {.pci = f[5]}};
    struct vmm_fwcfg *fwcfg = vmm_machine_fwcfg(m);
    assert_non_null(fwcfg);
    assert_non_null(vmm_machine_i8042(m));
    assert_int_equal(vmm_machine_set_boot_order(m, d, 6, &err), 0);
    assert_int_equal(vmm_fwcfg_get_file(fwcfg, "bootorder", got, sizeof(got)), sizeof(want));
    assert_string_equal(got, want);
    assert_int_equal(vmm_machine_set_boot_order(m, d, 7, &err), -EINVAL); /* NULL */
    d[6].pci = f[6];
    assert_int_equal(vmm_machine_set_boot_order(m, d, 7, &err), -ENOTSUP); /* a VGA */
    d[6].pci = f[7];
    assert_int_equal(vmm_machine_set_boot_order(m, d, 7, &err), -ENOENT);
    assert_int_equal(vmm_machine_set_boot_order(m, d, 65, &err), -EINVAL);
    assert_int_equal(vmm_machine_set_boot_order(m, NULL, 1, &err), -EINVAL);
    assert_int_equal(vmm_fwcfg_get_file(fwcfg, "bootorder", NULL, 0), sizeof(want));
    assert_int_equal(vmm_machine_set_boot_order(m, NULL, 0, &err), 0);
    assert_int_equal(vmm_fwcfg_get_file(fwcfg, "bootorder", NULL, 0), 1);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(f); i++)
        vmm_pci_unref(f[i]);
    vmm_machine_unref(m);
}

/* A board without firmware. */
static void no_boot_order(void **state)
{
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_host *host;
    struct vmm_machine *m;
    (void)state;
    assert_int_equal(vmm_host_open(NULL, &host, &err), 0);
    assert_int_equal(vmm_machine_new(host, &o, &m, &err), 0);
    assert_null(vmm_machine_fwcfg(m));
    assert_null(vmm_machine_i8042(m));
    assert_int_equal(vmm_machine_set_boot_order(m, NULL, 0, &err), -ENOTSUP);
    vmm_machine_unref(m);
    vmm_host_unref(host);
}

static pthread_mutex_t text_lock = PTHREAD_MUTEX_INITIALIZER;
static char text[65536];
static size_t text_length;

static long take_text(void *ctx, const uint8_t *data, size_t length)
{
    (void)ctx;
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
    struct vmm_machine *m = make(SEABIOS, NULL, debug);
    if (vmm_machine_start(m, &err))
        fail_msg("%s", err.text);
    for (int i = 0; i < 900 && !has_said("No bootable device"); i++)
        (void)vmm_machine_wait(m, 100, NULL);
    assert_int_equal(vmm_machine_stop(m), 0);
    vmm_machine_unref(m);
    vmm_chardev_unref(debug);
    assert_non_null(strstr(text, "PCIe: using q35 mmconfig at 0xb0000000"));
    assert_non_null(strstr(text, "PCI: init bdf=00:1f.0 id=8086:2918"));
    assert_non_null(strstr(text, "ACPI: parse DSDT"));
    assert_non_null(strstr(text, "No bootable device"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(configuration_space_is_where_pciexbar_says),
        cmocka_unit_test(ports_are_where_pmbase_says),
        cmocka_unit_test(pam_is_elsewhere),
        cmocka_unit_test(tables_say_where_firmware_has_put_things),
        cmocka_unit_test(state_keeps_the_places),
        cmocka_unit_test(variables_are_the_files),
        cmocka_unit_test(bad_options),
        cmocka_unit_test(boot_order),
        cmocka_unit_test(no_boot_order),
        cmocka_unit_test(seabios_starts),
    };
    need_kvm();
    (void)vmm_kick_signal_install(SIGUSR1); /* or it is there */
    make_file(firmware_path, 0x20000, 0x5a);
    make_file(vars_path, 0x8000, 0xff);
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    unlink(firmware_path);
    unlink(vars_path);
    return failed;
}
