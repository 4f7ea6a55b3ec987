/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * GICv3 and ITS, saved and loaded register by register (Documentation/virt/kvm/devices/arm-vgic-v3.rst and
 * arm-vgic-its.rst; register names: ARM IHI 0069). What can only be set or only be cleared by a write is a
 * pair: all is cleared, then what was saved is set.
 */
#include "base/util.h"
#include "vm/arm64/gic.h"

#include <libvmm/kvm.h>

#include <stdlib.h>

#define NO_CLEAR 0u

/* Registers of 32 bits: `bits` an interrupt, or one register where bits is 0. */
struct bank {
    uint16_t offset;
    uint16_t clear; /* the twin that clears */
    uint8_t bits;
};

static const struct bank distributor[] = {
    {0x0080, NO_CLEAR, 1}, /* IGROUPR */
    {0x0100, 0x0180, 1},   /* ISENABLER */
    {0x0200, NO_CLEAR, 1}, /* ISPENDR: KVM takes the latch as it is written */
    {0x0300, 0x0380, 1},   /* ISACTIVER */
    {0x0400, NO_CLEAR, 8}, /* IPRIORITYR */
    {0x0c00, NO_CLEAR, 2}, /* ICFGR */
    {0x6000, NO_CLEAR, 64} /* IROUTER */,
    {0x0000, NO_CLEAR, 0}, /* CTLR, last */
};

/* Of the private interrupts, in the second frame of each redistributor; PROPBASER and PENDBASER before. */
static const uint32_t redistributor[][2] = {
    {0x00070, 0},       {0x00074, 0}, {0x00078, 0},       {0x0007c, 0}, {0x10080, 0},
    {0x10100, 0x10180}, {0x10200, 0}, {0x10300, 0x10380}, {0x10400, 0}, {0x10404, 0},
    {0x10408, 0},       {0x1040c, 0}, {0x10410, 0},       {0x10414, 0}, {0x10418, 0},
    {0x1041c, 0},       {0x10c04, 0}, {0x00014, 0},       {0x00000, 0}, /* WAKER, CTLR */
};

#define ICC(op0, op1, crn, crm, op2) ((op0) << 14 | (op1) << 11 | (crn) << 7 | (crm) << 3 | (op2))
static const uint32_t interface[] = {
    ICC(3, 0, 12, 12, 5), /* SRE, first */
    ICC(3, 0, 12, 12, 4), /* CTLR */
    ICC(3, 0, 4, 6, 0),   /* PMR */
    ICC(3, 0, 12, 8, 3),  /* BPR0 */
    ICC(3, 0, 12, 12, 3), /* BPR1 */
    ICC(3, 0, 12, 8, 4),  /* AP0R0 */
    ICC(3, 0, 12, 9, 0),  /* AP1R0 */
    ICC(3, 0, 12, 12, 6), /* IGRPEN0 */
    ICC(3, 0, 12, 12, 7), /* IGRPEN1 */
};

/* BASER0 to 7, CBASER, CREADR, CWRITER; CTLR is apart. */
static const uint32_t its[] = {0x100, 0x108, 0x110, 0x118, 0x120, 0x128,
                               0x130, 0x138, 0x80,  0x90,  0x88};
#define GITS_CTLR         0x0u
#define GITS_CTLR_ENABLED 1u

#define SPIS     VMM_ARM64_GIC_SPIS
#define LEVELS   (1 + SPIS / 32) /* words of input levels of one vCPU: private and shared */
#define DIST_MAX 512u

/* The order in which both directions go through everything. `load`: into KVM, else out of it. */
struct pass {
    const struct vmm_gic *gic;
    bool load;
    uint32_t *words;
    size_t count; /* of words so far */
    int rc;
};

static void word(struct pass *p, uint32_t group, uint64_t attribute, uint64_t clear)
{
    uint32_t all = UINT32_MAX, value = p->load ? p->words[p->count] : 0;
    if (p->rc)
        return;
    if (p->load && clear)
        p->rc = vmm_gic_set(p->gic->fd, group, clear, &all);
    if (!p->rc)
        p->rc = p->load ? vmm_gic_set(p->gic->fd, group, attribute, &value)
                        : vmm_gic_get(p->gic->fd, group, attribute, &value);
    p->words[p->count++] = value;
}

static void double_word(struct pass *p, int fd, uint32_t group, uint64_t attribute)
{
    uint64_t value = 0;
    if (p->load)
        memcpy(&value, &p->words[p->count], sizeof(value));
    if (!p->rc)
        p->rc = p->load ? vmm_gic_set(fd, group, attribute, &value)
                        : vmm_gic_get(fd, group, attribute, &value);
    memcpy(&p->words[p->count], &value, sizeof(value));
    p->count += 2;
}

static void pass_distributor(struct pass *p)
{
    for (size_t i = 0; i < VMM_ARRAY_SIZE(distributor); i++) {
        const struct bank *b = &distributor[i];
        uint32_t first = 4u * b->bits, end = (32 + SPIS) * b->bits / 8;
        if (b->bits == 0)
            first = 0, end = 4;
        for (uint32_t at = first; at < end; at += 4)
            word(p, KVM_DEV_ARM_VGIC_GRP_DIST_REGS, b->offset + at,
                 b->clear ? (uint64_t)b->clear + at : 0);
    }
}

static void pass_processor(struct pass *p, uint32_t vcpu)
{
    uint64_t affinity = vmm_gic_affinity(vcpu) << 32;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(redistributor); i++)
        word(p, KVM_DEV_ARM_VGIC_GRP_REDIST_REGS, affinity | redistributor[i][0],
             redistributor[i][1] ? affinity | redistributor[i][1] : 0);
    for (uint32_t i = 0; i < LEVELS; i++)
        word(p, KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO,
             affinity |
                 (uint64_t)VGIC_LEVEL_INFO_LINE_LEVEL << KVM_DEV_ARM_VGIC_LINE_LEVEL_INFO_SHIFT |
                 32 * i,
             0);
    for (size_t i = 0; i < VMM_ARRAY_SIZE(interface); i++)
        double_word(p, p->gic->fd, KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS, affinity | interface[i]);
}

static void pass_all(struct pass *p)
{
    for (uint32_t i = 0; i < p->gic->cpus; i++)
        pass_processor(p, i);
    pass_distributor(p);
}

/* The tables themselves are in guest memory, where KVM puts what it holds of them. */
static void pass_its(struct pass *p)
{
    int fd = p->gic->its_fd;
    uint32_t group = KVM_DEV_ARM_VGIC_GRP_CTRL;
    uint64_t ctlr = 0;
    size_t at = p->count; /* CTLR's place is the first, to be known before all else */
    if (p->load) {
        memcpy(&ctlr, &p->words[at], sizeof(ctlr));
        p->rc = p->rc ? p->rc : vmm_gic_set(fd, group, KVM_DEV_ARM_ITS_CTRL_RESET, NULL);
    } else if (!p->rc) {
        p->rc = vmm_gic_get(fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_CTLR, &ctlr);
        if (!p->rc && ctlr & GITS_CTLR_ENABLED)
            p->rc = vmm_gic_set(fd, group, KVM_DEV_ARM_ITS_SAVE_TABLES, NULL);
        memcpy(&p->words[at], &ctlr, sizeof(ctlr));
    }
    p->count += 2;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(its); i++)
        double_word(p, fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, its[i]);
    if (!p->load || p->rc)
        return;
    if (ctlr & GITS_CTLR_ENABLED)
        p->rc = vmm_gic_set(fd, group, KVM_DEV_ARM_ITS_RESTORE_TABLES, NULL);
    if (!p->rc)
        p->rc = vmm_gic_set(fd, KVM_DEV_ARM_VGIC_GRP_ITS_REGS, GITS_CTLR, &ctlr);
}

static size_t words_of(const struct vmm_gic *gic)
{
    size_t processor = VMM_ARRAY_SIZE(redistributor) + LEVELS + 2 * VMM_ARRAY_SIZE(interface);
    size_t count = gic->cpus * processor;
    for (size_t i = 0; i < VMM_ARRAY_SIZE(distributor); i++)
        count += distributor[i].bits ? SPIS * distributor[i].bits / 32 : 1;
    return count;
}

#define ITS_WORDS (2 + 2 * VMM_ARRAY_SIZE(its))

/* Only what has been initialized, and only version 3, has a state that KVM gives out whole. */
static bool has_state(const struct vmm_gic *gic)
{
    return gic->cpus && gic->options.version == 3;
}

int vmm_gic_save(const struct vmm_gic *gic, struct vmm_state_writer *w)
{
    if (!has_state(gic))
        return gic->cpus ? -ENOTSUP : 0;
    struct pass p = {.gic = gic, .words = calloc(words_of(gic) + ITS_WORDS, 4)};
    if (!p.words)
        return -ENOMEM;
    pass_all(&p);
    int rc = p.rc ? p.rc : vmm_state_put_bytes(w, "gic", p.words, p.count * 4);
    if (!rc && gic->its_fd >= 0) {
        p.count = 0;
        pass_its(&p);
        rc = p.rc ? p.rc : vmm_state_put_bytes(w, "its", p.words, p.count * 4);
    }
    free(p.words);
    return rc;
}

int vmm_gic_load(const struct vmm_gic *gic, struct vmm_state_reader *r, struct vmm_error *err)
{
    if (!has_state(gic))
        return gic->cpus ? vmm_error_set(err, -ENOTSUP, "vm/gic: a GICv2 has no state here") : 0;
    struct pass p = {.gic = gic, .load = true, .words = calloc(words_of(gic) + ITS_WORDS, 4)};
    if (!p.words)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    uint32_t *tables = p.words + words_of(gic);
    int rc = vmm_state_get_bytes(r, "gic", p.words, words_of(gic) * 4, err);
    if (!rc && gic->its_fd >= 0)
        rc = vmm_state_get_bytes(r, "its", tables, ITS_WORDS * 4, err);
    if (!rc) {
        pass_all(&p);
        if (!p.rc && gic->its_fd >= 0)
            pass_its(&p); /* its words follow */
        rc = p.rc ? vmm_error_set(err, p.rc, "vm/gic: KVM refused it: %s", strerror(-p.rc)) : 0;
    }
    free(p.words);
    return rc;
}
