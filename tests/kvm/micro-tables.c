/* SPDX-License-Identifier: BSD-3-Clause */
/* The ACPI tables of a real `micro` board, read out of its memory and judged by ACPICA. */
#include "acpica.h"
#include "small_vm.h"

#define TABLES UINT64_C(0xe0000)
#define ROOM   0x20000u

static uint8_t *tables_of(uint32_t cpus, uint32_t pci, uint64_t memory_max)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_machine_options o = VMM_MACHINE_OPTIONS_INIT;
    struct vmm_chardev *chardev;
    struct vmm_host *host;
    struct vmm_machine *m;
    uint8_t *image = malloc(ROOM);
    assert_non_null(image);
    if (vmm_host_open(NULL, &host, &err))
        TEST_SKIP("%s", err.text);
    assert_int_equal(vmm_chardev_new_memory(4096, &chardev), 0);
    o.memory_size = 16 << 20;
    o.kick_signal = (uint32_t)SIGUSR1;
    o.cpus = cpus;
    o.memory_max = memory_max;
    o.pci = pci;
    o.serial[0] = chardev;
    int rc = vmm_machine_new(host, &o, &m, &err);
    if (!rc)
        rc = vmm_machine_realize(m, &err);
    if (rc)
        fail_msg("%s", err.text);
    assert_int_equal(vmm_memory_read(vmm_machine_memory(m), TABLES, image, ROOM), 0);
    vmm_machine_unref(m);
    vmm_chardev_unref(chardev);
    vmm_host_unref(host);
    return image;
}

static void tables_of_a_board(void **state)
{
    (void)state;
    struct acpica t;
    acpica_begin(&t);
    uint8_t *image = tables_of(3, 0, 0);
    acpica_extract(&t, image, TABLES, ROOM);
    acpica_recompile(&t);
    acpica_execute(&t,
                   "execute \\_SB.C002._UID;execute \\_SB.COM1._CRS;execute \\_SB.GED0._CRS;"
                   "execute \\_SB.GED0._EVT 9;execute \\_S5",
                   (const char *const[]){"[Integer] = 0000000000000002", "[Buffer] Length 0D",
                                         "[Buffer] Length 0B", "[Package] Contains 4 Elements",
                                         NULL});
    acpica_end(&t);
    free(image);
}

/* The control word of _OSC: hot plug is given, latency tolerance (bit 5) is not. */
static void tables_of_a_board_with_pci(void **state)
{
    (void)state;
    struct acpica t;
    acpica_begin(&t);
    uint8_t *image = tables_of(1, 1, 0);
    acpica_extract(&t, image, TABLES, ROOM);
    acpica_recompile(&t);
    acpica_execute(&t,
                   "execute \\_SB.PCI0._CRS;execute \\_SB.PCI0._PRT;execute \\_SB.ECAM._CRS;"
                   "execute \\_SB.PCI0._OSC (5B4DDB33F71F1C4096577441C03DD766) 1 3 "
                   "(00000000 1F000000 3F000000)",
                   (const char *const[]){"[Buffer] Length 72", "[Package] Contains 128 Elements",
                                         "[Buffer] Length 0E",
                                         "10 00 00 00 1F 00 00 00 1F 00 00 00", NULL});
    acpica_end(&t);
    free(image);
}

static void tables_with_memory_slots(void **state)
{
    struct acpica t;
    (void)state;
    acpica_begin(&t);
    uint8_t *image = tables_of(1, 0, (16 << 20) + VMM_MACHINE_PLUG_UNIT);
    acpica_extract(&t, image, TABLES, ROOM);
    acpica_recompile(&t);
    /* acpiexec answers reads of ports with what was written before: so a slot is not there. */
    acpica_execute(
        &t,
        "execute \\_SB.MEMC.MP00._STA;execute \\_SB.MEMC.MP0F._CRS;"
        "execute \\_SB.MEMC.MP01._EJ0 1;execute \\_SB.MEMC.MP01._OST 1 2 (00);"
        "execute \\_SB.MEMC.MSCN;execute \\_SB.GED0._EVT 9",
        (const char *const[]){"[Integer] = 0000000000000000", "[Buffer] Length 30", NULL});
    acpica_end(&t);
    free(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_of_a_board),
        cmocka_unit_test(tables_with_memory_slots),
        cmocka_unit_test(tables_of_a_board_with_pci),
    };
    (void)vmm_kick_signal_install(SIGUSR1); /* or it is there */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
