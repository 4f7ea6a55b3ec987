/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Memory hot plug of the `micro` board in ACPI: a device PNP0C80 a slot, whose _STA, _CRS and _EJ0 ask
 * the registers of memplug.h, and the method that the generic event device calls.
 */
#include "machine/x86/micro.h"

#include <libvmm/aml.h>

/* Where _CRS's QWord descriptor has its numbers (ACPI 6.5, 6.4.3.5.1). */
#define QWORD_MIN    14u
#define QWORD_MAX    22u
#define QWORD_LENGTH 38u

static void slot_device(char name[5], uint32_t slot)
{
    static const char hex[] = "0123456789ABCDEF";
    name[0] = 'M';
    name[1] = 'P';
    name[2] = hex[slot >> 4 & 15];
    name[3] = hex[slot & 15];
    name[4] = '\0';
}

static void add_registers(struct vmm_aml *a)
{
    vmm_aml_name_eisaid(a, "_HID", "PNP0A06"); /* a container without more meaning */
    vmm_aml_name_string(a, "_UID", "memory");
    vmm_aml_region(a, "MREG", 1, MICRO_MEMPLUG_PORT, VMM_MEMPLUG_LENGTH);
    vmm_aml_field_begin(a, "MREG", 4, false);
    vmm_aml_field_unit(a, "MSEL", 32);
    vmm_aml_field_unit(a, "MSTS", 32);
    vmm_aml_field_unit(a, "MADL", 32);
    vmm_aml_field_unit(a, "MADH", 32);
    vmm_aml_field_unit(a, "MLNL", 32);
    vmm_aml_field_unit(a, "MLNH", 32);
    vmm_aml_field_unit(a, "MOEV", 32);
    vmm_aml_field_unit(a, "MOST", 32);
    vmm_aml_end(a);
    vmm_aml_mutex(a, "MLCK");
}

static void store_int(struct vmm_aml *a, uint64_t value, const char *path)
{
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_int(a, value);
    vmm_aml_path(a, path);
}

/* Take the lock and choose the slot that Arg0 names. */
static void select_begin(struct vmm_aml *a)
{
    vmm_aml_acquire(a, "MLCK", 0xffff);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_arg(a, 0);
    vmm_aml_path(a, "MSEL");
}

static void release(struct vmm_aml *a)
{
    vmm_aml_op(a, VMM_AML_RELEASE);
    vmm_aml_path(a, "MLCK");
}

/* MSTA (slot): 0xf where there is memory, else 0 (6.3.7). */
static void add_sta(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "MSTA", 1, true);
    select_begin(a);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_int(a, 0);
    vmm_aml_local(a, 0);
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_AND);
    vmm_aml_path(a, "MSTS");
    vmm_aml_int(a, VMM_MEMPLUG_PRESENT);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_int(a, 0xf);
    vmm_aml_local(a, 0);
    vmm_aml_end(a);
    release(a);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_local(a, 0);
    vmm_aml_end(a);
}

/* name = high << 32 | low */
static void join(struct vmm_aml *a, const char *high, const char *low, const char *name)
{
    vmm_aml_op(a, VMM_AML_OR);
    vmm_aml_op(a, VMM_AML_SHIFT_LEFT);
    vmm_aml_path(a, high);
    vmm_aml_int(a, 32);
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_path(a, low);
    vmm_aml_path(a, name);
}

static void qword_field(struct vmm_aml *a, uint32_t offset, const char *name)
{
    vmm_aml_op(a, VMM_AML_QWORD_FIELD);
    vmm_aml_path(a, "MR64");
    vmm_aml_int(a, offset);
    vmm_aml_path(a, name);
}

/* MCRS (slot): a template whose numbers are put in. The lock guards it too; what is returned is a
 * copy. */
static void add_crs(struct vmm_aml *a)
{
    vmm_aml_name(a, "MR64");
    vmm_aml_resources_begin(a);
    vmm_aml_window(a, VMM_AML_SPACE_MEMORY, 64, 0, UINT64_MAX - 1, true);
    vmm_aml_end(a);
    qword_field(a, QWORD_MIN, "MMIN");
    qword_field(a, QWORD_MAX, "MMAX");
    qword_field(a, QWORD_LENGTH, "MLEN");
    vmm_aml_method_begin(a, "MCRS", 1, true);
    select_begin(a);
    join(a, "MADH", "MADL", "MMIN");
    join(a, "MLNH", "MLNL", "MLEN");
    vmm_aml_op(a, VMM_AML_SUBTRACT); /* MMAX = MMIN + MLEN - 1 */
    vmm_aml_op(a, VMM_AML_ADD);
    vmm_aml_path(a, "MMIN");
    vmm_aml_path(a, "MLEN");
    vmm_aml_op(a, VMM_AML_NULL);
    vmm_aml_int(a, 1);
    vmm_aml_path(a, "MMAX");
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_path(a, "MR64");
    vmm_aml_local(a, 0);
    release(a);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_local(a, 0);
    vmm_aml_end(a);
}

/* MEJ0 (slot) and MOSR (slot, event, status). */
static void add_eject_and_report(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "MEJ0", 1, true);
    select_begin(a);
    store_int(a, VMM_MEMPLUG_EJECT, "MSTS");
    release(a);
    vmm_aml_end(a);

    vmm_aml_method_begin(a, "MOSR", 3, true);
    select_begin(a);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_arg(a, 1);
    vmm_aml_path(a, "MOEV");
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_arg(a, 2);
    vmm_aml_path(a, "MOST");
    release(a);
    vmm_aml_end(a);
}

/* If (MSTS & bit) { Notify (device, value) and clear the bit } */
static void tell(struct vmm_aml *a, uint32_t bit, const char *device, uint32_t value)
{
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_AND);
    vmm_aml_path(a, "MSTS");
    vmm_aml_int(a, bit);
    vmm_aml_op(a, VMM_AML_NULL);
    store_int(a, bit, "MSTS");
    vmm_aml_op(a, VMM_AML_NOTIFY);
    vmm_aml_path(a, device);
    vmm_aml_int(a, value);
    vmm_aml_end(a);
}

/* MSCN: a device check (1) for what came, an eject request (3) for what is to go (5.6.6). */
static void add_scan(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "MSCN", 0, true);
    vmm_aml_acquire(a, "MLCK", 0xffff);
    for (uint32_t i = 0; i < MACHINE_PLUG_SLOTS; i++) {
        char name[5];
        slot_device(name, i);
        store_int(a, i, "MSEL");
        tell(a, VMM_MEMPLUG_INSERTED, name, 1);
        tell(a, VMM_MEMPLUG_REMOVAL, name, 3);
    }
    release(a);
    vmm_aml_end(a);
}

static void return_call(struct vmm_aml *a, const char *name, const char *method, uint32_t slot)
{
    vmm_aml_method_begin(a, name, 0, true);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_call(a, method, 1);
    vmm_aml_int(a, slot);
    vmm_aml_end(a);
}

static void add_slot(struct vmm_aml *a, uint32_t slot)
{
    char name[5];
    slot_device(name, slot);
    vmm_aml_device_begin(a, name);
    vmm_aml_name_eisaid(a, "_HID", "PNP0C80");
    vmm_aml_name_int(a, "_UID", slot);
    return_call(a, "_STA", "MSTA", slot);
    return_call(a, "_CRS", "MCRS", slot);
    vmm_aml_method_begin(a, "_EJ0", 1, true);
    vmm_aml_call(a, "MEJ0", 1);
    vmm_aml_int(a, slot);
    vmm_aml_end(a);
    vmm_aml_method_begin(a, "_OST", 3, true);
    vmm_aml_call(a, "MOSR", 3);
    vmm_aml_int(a, slot);
    vmm_aml_arg(a, 0);
    vmm_aml_arg(a, 1);
    vmm_aml_end(a);
    vmm_aml_end(a);
}

void vmm_micro_describe_memplug(struct vmm_aml *a)
{
    vmm_aml_device_begin(a, "MEMC");
    add_registers(a);
    add_sta(a);
    add_crs(a);
    add_eject_and_report(a);
    for (uint32_t i = 0; i < MACHINE_PLUG_SLOTS; i++)
        add_slot(a, i);
    add_scan(a);
    vmm_aml_end(a);
}

void vmm_micro_memory_event(struct vmm_machine *m)
{
    struct micro *micro = m->board_data;
    (void)vmm_pm_raise(micro->pm, MICRO_EVENT_MEMORY); /* the line is there: see add_pm() */
}
