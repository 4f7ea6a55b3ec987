/* SPDX-License-Identifier: BSD-3-Clause */
/* The report about an exit that ends a VM. */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"

#include <stdarg.h>
#include <stdio.h>

struct text {
    char *at;
    size_t size, length; /* length counts on beyond the size */
};

VMM_PRINTF(2, 3) static void add(struct text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    size_t room = t->length < t->size ? t->size - t->length : 0;
    int n = vsnprintf(room ? t->at + t->length : NULL, room, format, args);
    va_end(args);
    t->length += n > 0 ? (size_t)n : 0;
}

static void add_reason(struct text *t, const struct vmm_exit *exit)
{
    add(t, "%s", vmm_exit_name(exit->reason));
    if (exit->reason == VMM_EXIT_SYSTEM_EVENT)
        add(t, " of type %u", exit->u.system_event.type);
    else if (exit->reason == VMM_EXIT_INTERNAL_ERROR)
        add(t, " %u", exit->u.internal_error.suberror);
    else if (exit->reason == VMM_EXIT_UNKNOWN)
        add(t, " exit %u of KVM's", exit->raw_reason);
    add(t, "\n");
}

static void add_system(struct text *t, struct vmm_vcpu *vcpu)
{
    static const struct {
        uint64_t id;
        const char *name;
    } registers[] = {
        {ARM64_SCTLR_EL1, "sctlr_el1"}, {ARM64_ESR_EL1, "esr_el1"},
        {ARM64_FAR_EL1, "far_el1"},     {ARM64_ELR_EL1, "elr_el1"},
        {ARM64_TTBR0_EL1, "ttbr0_el1"}, {ARM64_TTBR1_EL1, "ttbr1_el1"},
        {ARM64_VBAR_EL1, "vbar_el1"},
    };
    for (size_t i = 0; i < VMM_ARRAY_SIZE(registers); i++) {
        uint64_t value;
        if (vmm_arm64_get_reg(vcpu, registers[i].id, &value, sizeof(value)) == 0)
            add(t, "%9s %016llx%s", registers[i].name, (unsigned long long)value,
                i % 3 == 2 ? "\n" : "  ");
    }
    add(t, "\n");
}

int vmm_arm64_describe_exit(struct vmm_vcpu *vcpu, const struct vmm_exit *exit, char *text,
                            size_t size)
{
    struct vmm_arm64_regs regs;
    struct text t = {text, size, 0};
    if (!vcpu || !exit || !text || size == 0)
        return -EINVAL;
    text[0] = '\0';
    add(&t, "vCPU %u: ", vmm_vcpu_id(vcpu));
    add_reason(&t, exit);
    if (vmm_arm64_get_regs(vcpu, &regs) != 0) {
        add(&t, "registers cannot be read\n");
        return (int)t.length;
    }
    add(&t, "pc %016llx  sp %016llx  pstate %08llx\n", (unsigned long long)regs.pc,
        (unsigned long long)regs.sp, (unsigned long long)regs.pstate);
    for (int i = 0; i < 31; i++)
        add(&t, "x%-2d %016llx%s", i, (unsigned long long)regs.x[i], i % 4 == 3 ? "\n" : "  ");
    add(&t, "\n");
    add_system(&t, vcpu);
    return (int)t.length;
}
