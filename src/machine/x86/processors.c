/* SPDX-License-Identifier: BSD-3-Clause */
/* What all x86 boards do alike with their processors. */
#include "machine/x86/processors.h"
#include "base/util.h"

#include <libvmm/assist.h>

#include <stdio.h>

static int wants_assist(struct vmm_machine *m)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    if (m->options.assist != VMM_ASSIST_AUTO)
        return m->options.assist == VMM_ASSIST_ON;
    return vmm_host_get_info(m->host, &info) == 0 && info.flavour == VMM_FLAVOUR_PVM;
}

static int make_cpuid(struct vmm_machine *m, struct vmm_x86_cpuid **cpuid, struct vmm_error *err)
{
    int rc = vmm_x86_cpuid_new(m->host, cpuid);
    if (rc)
        return vmm_error_set(err, rc, "KVM_GET_SUPPORTED_CPUID: %s", strerror(-rc));
    return vmm_x86_cpuid_apply_text(*cpuid, m->options.cpu, err);
}

int vmm_board_set_up_vcpu(struct vmm_machine *m, struct vmm_x86_cpuid **cpuid,
                          struct vmm_vcpu *vcpu, struct vmm_error *err)
{
    struct vmm_x86_topology topology = VMM_X86_TOPOLOGY_INIT;
    topology.cpus = m->options.cpus;
    int rc = *cpuid ? 0 : make_cpuid(m, cpuid, err);
    if (!rc)
        rc = vmm_x86_cpuid_set(*cpuid, vcpu, &topology, err);
    if (!rc && wants_assist(m)) {
        rc = vmm_x86_assist_set(vcpu, VMM_X86_ASSIST_ON, NULL, NULL);
        if (rc)
            (void)vmm_error_set(err, rc, "emulation assist: %s", strerror(-rc));
    }
    return rc;
}

void vmm_board_describe(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text, size_t size)
{
    if (vmm_x86_describe_exit(vcpu, exit, text, size) < 0)
        (void)snprintf(text, size, "vCPU %u: %s\n", vmm_vcpu_id(vcpu), vmm_exit_name(exit->reason));
}
