/* SPDX-License-Identifier: BSD-3-Clause */
/* How a vCPU translates: from its registers to a context for the walker (Arm ARM, DDI 0487: SCTLR_EL1, TCR_EL1). */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"

#define SCTLR_M    ((uint64_t)1 << 0)
#define SCTLR_WXN  ((uint64_t)1 << 19)
#define SCTLR_EE   ((uint64_t)1 << 25)
#define SCTLR_EPAN ((uint64_t)1 << 57)
#define TCR_EPD0   ((uint64_t)1 << 7)
#define TCR_EPD1   ((uint64_t)1 << 23)
#define TCR_DS     ((uint64_t)1 << 59)
#define PSTATE_PAN ((uint64_t)1 << 22)

#define FLAT_BITS 52u /* of addresses while the MMU is off, at most */

/* TG0 and TG1 say the same by different numbers; 0: reserved. */
static uint32_t granule_format(uint64_t tcr, bool upper)
{
    static const uint32_t tg0[] = {VMM_PAGE_FORMAT_ARM64_4K, VMM_PAGE_FORMAT_ARM64_64K,
                                   VMM_PAGE_FORMAT_ARM64_16K, 0};
    static const uint32_t tg1[] = {0, VMM_PAGE_FORMAT_ARM64_16K, VMM_PAGE_FORMAT_ARM64_4K,
                                   VMM_PAGE_FORMAT_ARM64_64K};
    return upper ? tg1[tcr >> 30 & 3] : tg0[tcr >> 14 & 3];
}

static uint32_t flags_of(uint64_t sctlr, uint64_t tcr, uint64_t pstate)
{
    static const struct {
        uint32_t bit, flag;
    } map[] = {{37, VMM_PAGING_TAGS_LOWER},   {38, VMM_PAGING_TAGS_UPPER},
               {39, VMM_PAGING_HA},           {40, VMM_PAGING_HD},
               {41, VMM_PAGING_FLAT_LOWER},   {42, VMM_PAGING_FLAT_UPPER},
               {55, VMM_PAGING_CLOSED_LOWER}, {56, VMM_PAGING_CLOSED_UPPER}};
    uint32_t flags = (sctlr & SCTLR_WXN ? VMM_PAGING_WXN : 0) |
                     (sctlr & SCTLR_EPAN ? VMM_PAGING_EPAN : 0) |
                     (pstate & PSTATE_PAN ? VMM_PAGING_SMAP : 0);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(map); i++)
        if (tcr >> map[i].bit & 1)
            flags |= map[i].flag;
    return flags;
}

int vmm_arm64_paging_from_regs(const struct vmm_arm64_paging_regs *regs,
                               struct vmm_paging_context *context)
{
    static const uint32_t sizes[] = {32, 36, 40, 42, 44, 48, 52, 48};
    struct vmm_paging_context c = VMM_PAGING_CONTEXT_INIT;
    if (!regs || !context)
        return -EINVAL;
    uint64_t tcr = regs->tcr;
    c.virtual_bits = FLAT_BITS;
    if (!(regs->sctlr & SCTLR_M))
        return vmm_info_copy(context, &c, sizeof(c));
    bool lower = !(tcr & TCR_EPD0), upper = !(tcr & TCR_EPD1);
    c.format = granule_format(tcr, !lower);
    if ((tcr & TCR_DS) || (regs->sctlr & SCTLR_EE) || c.format == 0 ||
        (lower && upper && c.format != granule_format(tcr, true)))
        return -ENOTSUP;
    c.flags = flags_of(regs->sctlr, tcr, regs->pstate);
    c.root = regs->ttbr0;
    c.upper_root = regs->ttbr1;
    c.virtual_bits = lower ? 64 - (uint32_t)(tcr & 63) : 0;
    c.upper_bits = upper ? 64 - (uint32_t)(tcr >> 16 & 63) : 0;
    c.address_bits = sizes[tcr >> 32 & 7];
    if (c.address_bits > 48 && c.format != VMM_PAGE_FORMAT_ARM64_64K)
        c.address_bits = 48; /* more only with DS */
    return vmm_info_copy(context, &c, sizeof(c));
}

int vmm_vcpu_paging_context(struct vmm_vcpu *vcpu, struct vmm_paging_context *context)
{
    static const uint64_t ids[] = {ARM64_SCTLR_EL1, ARM64_TCR_EL1, ARM64_TTBR0_EL1, ARM64_TTBR1_EL1,
                                   ARM64_CORE(regs.pstate)};
    uint64_t values[VMM_ARRAY_SIZE(ids)];
    if (!vcpu || !context)
        return -EINVAL;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(ids); i++) {
        int rc = vmm_arm64_get_reg(vcpu, ids[i], &values[i], sizeof(values[i]));
        if (rc)
            return rc;
    }
    const struct vmm_arm64_paging_regs regs = {values[0], values[1], values[2], values[3],
                                               values[4]};
    return vmm_arm64_paging_from_regs(&regs, context);
}
