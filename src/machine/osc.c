/* SPDX-License-Identifier: BSD-3-Clause */
/* Who controls what of PCI Express, as ACPI asks for it. */
#include "machine/osc.h"

/* name |= bits */
static void or_into(struct vmm_aml *a, const char *name, uint64_t bits)
{
    vmm_aml_op(a, VMM_AML_OR);
    vmm_aml_path(a, name);
    vmm_aml_int(a, bits);
    vmm_aml_path(a, name);
}

static void dword_of_arg3(struct vmm_aml *a, uint32_t offset, const char *name)
{
    vmm_aml_op(a, VMM_AML_DWORD_FIELD);
    vmm_aml_arg(a, 3);
    vmm_aml_int(a, offset);
    vmm_aml_path(a, name);
}

#define OSC_BAD_UUID    4u
#define OSC_BAD_VERSION 8u
#define OSC_MASKED      0x10u
#define OSC_CONTROL     0x1fu /* hot plug, standard hot plug, PME, error reporting, capabilities */

/* Bits of control that are not ours to give are taken off, and the caller told. */
static void grant_control(struct vmm_aml *a)
{
    dword_of_arg3(a, 8, "CDW3");
    vmm_aml_op(a, VMM_AML_AND);
    vmm_aml_path(a, "CDW3");
    vmm_aml_int(a, OSC_CONTROL);
    vmm_aml_local(a, 0);
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_LNOT);
    vmm_aml_op(a, VMM_AML_LEQUAL);
    vmm_aml_path(a, "CDW3");
    vmm_aml_local(a, 0);
    or_into(a, "CDW1", OSC_MASKED);
    vmm_aml_end(a);
    vmm_aml_op(a, VMM_AML_STORE);
    vmm_aml_local(a, 0);
    vmm_aml_path(a, "CDW3");
}

/* PCI firmware specification 3.3, 4.5.1: the guest controls what PCI Express has by itself. */
void vmm_machine_add_osc(struct vmm_aml *a)
{
    vmm_aml_method_begin(a, "_OSC", 4, true);
    dword_of_arg3(a, 0, "CDW1");
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_LEQUAL);
    vmm_aml_arg(a, 0);
    vmm_aml_uuid(a, "33db4d5b-1ff7-401c-9657-7441c03dd766");
    grant_control(a);
    vmm_aml_if_begin(a);
    vmm_aml_op(a, VMM_AML_LNOT);
    vmm_aml_op(a, VMM_AML_LEQUAL);
    vmm_aml_arg(a, 1);
    vmm_aml_int(a, 1);
    or_into(a, "CDW1", OSC_BAD_VERSION);
    vmm_aml_end(a);
    vmm_aml_end(a);
    vmm_aml_else_begin(a);
    or_into(a, "CDW1", OSC_BAD_UUID);
    vmm_aml_end(a);
    vmm_aml_op(a, VMM_AML_RETURN);
    vmm_aml_arg(a, 3);
    vmm_aml_end(a);
}
