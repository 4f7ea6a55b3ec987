/* SPDX-License-Identifier: BSD-3-Clause */
/* The states in which x86 kernels are entered. */
#include "base/util.h"
#include "loader/x86/boot.h"

#include <libvmm/paging.h>

/* Selectors of the Linux boot protocol (boot.rst, "32-bit Boot Protocol": __BOOT_CS, __BOOT_DS);
 * the other formats leave them to the loader. */
#define SELECTOR_CODE 0x10u
#define SELECTOR_DATA 0x18u
#define SELECTOR_TSS  0x20u
#define GDT_SIZE      0x30u

/* Types of descriptors: SDM 3, tables 3-1 and 3-2. */
#define TYPE_CODE 0xbu /* execute, read, accessed */
#define TYPE_DATA 0x3u /* read, write, accessed */
#define TYPE_TSS  0xbu /* 32-bit or 64-bit TSS, busy */

#define CR0_PE   0x1u
#define CR0_ET   0x10u
#define CR0_PG   0x80000000u
#define CR4_PAE  0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

#define RFLAGS_RESERVED 0x2u

_Static_assert(sizeof(struct vmm_x86_boot) <= sizeof(((struct vmm_boot_state *)0)->registers),
               "the registers fit in the neutral structure");

int vmm_x86_boot_get(const struct vmm_boot_state *state, struct vmm_x86_boot *boot)
{
    if (!state || !boot || state->size < sizeof(*state))
        return -EINVAL;
    memcpy(boot, state->registers, sizeof(*boot));
    return boot->mode >= VMM_X86_BOOT_REAL && boot->mode <= VMM_X86_BOOT_LONG ? 0 : -EINVAL;
}

void vmm_x86_boot_put(struct vmm_load *load, const struct vmm_x86_boot *boot)
{
    memcpy(load->state.registers, boot, sizeof(*boot));
}

int vmm_x86_place(struct vmm_load *load, uint64_t length, uint64_t align, bool top,
                  uint64_t *address, const char *name)
{
    /* Not in the first page: the interrupt vectors of real mode and the BIOS data area. Linux and
     * others look for things of a BIOS there. */
    struct vmm_place place = {length, align, 0x1000, VMM_X86_LOW_END, top};
    if (!top)
        place.low = 0x10000; /* below is where small guests like to put things */
    int rc = vmm_layout_find(&load->layout, &place, address, NULL, "%s", name);
    if (rc != -ENOMEM)
        return rc;
    place.low = 0x1000;
    place.high = VMM_X86_4G_END;
    return vmm_layout_find(&load->layout, &place, address, load->err, "%s", name);
}

static struct vmm_x86_segment segment(uint16_t selector, uint64_t base, uint32_t limit,
                                      uint8_t type)
{
    return (struct vmm_x86_segment){.base = base,
                                    .limit = limit,
                                    .selector = selector,
                                    .type = type,
                                    .present = 1,
                                    .s = 1,
                                    .g = limit > 0xfffff};
}

static struct vmm_x86_segment task_segment(uint16_t selector, uint32_t limit)
{
    struct vmm_x86_segment tr = segment(selector, 0, limit, TYPE_TSS);
    tr.s = 0;
    return tr;
}

/* The descriptor of a segment with base 0: SDM 3, figure 3-8. */
static uint64_t descriptor(const struct vmm_x86_segment *s)
{
    uint64_t units = s->g ? s->limit >> 12 : s->limit;
    uint64_t low =
        s->type | (uint64_t)s->s << 4 | (uint64_t)s->dpl << 5 | (uint64_t)s->present << 7;
    uint64_t high = s->avl | (uint64_t)s->l << 1 | (uint64_t)s->db << 2 | (uint64_t)s->g << 3;
    return (units & 0xffff) | low << 40 | (units & 0xf0000) << 32 | high << 52;
}

static int place_gdt(struct vmm_load *load, struct vmm_x86_boot *boot, bool top)
{
    uint64_t address;
    int rc = vmm_x86_place(load, GDT_SIZE, 16, top, &address, "descriptor table");
    if (rc)
        return rc;
    uint8_t gdt[GDT_SIZE] = {0};
    vmm_store_le64(gdt + SELECTOR_CODE, descriptor(&boot->cs));
    vmm_store_le64(gdt + SELECTOR_DATA, descriptor(&boot->data));
    vmm_store_le64(gdt + SELECTOR_TSS, descriptor(&boot->tr));
    boot->gdt = (struct vmm_x86_table){.base = address, .limit = GDT_SIZE - 1};
    return vmm_load_write(load, address, gdt, sizeof(gdt), "descriptor table");
}

int vmm_x86_enter_protected(struct vmm_load *load, struct vmm_x86_boot *boot, uint64_t entry,
                            bool top)
{
    *boot = (struct vmm_x86_boot){.mode = VMM_X86_BOOT_PROTECTED,
                                  .regs = {.rip = entry, .rflags = RFLAGS_RESERVED},
                                  .cr0 = CR0_PE | CR0_ET,
                                  .cs = segment(SELECTOR_CODE, 0, 0xffffffff, TYPE_CODE),
                                  .data = segment(SELECTOR_DATA, 0, 0xffffffff, TYPE_DATA),
                                  .tr = task_segment(SELECTOR_TSS, 0x67)};
    boot->cs.db = boot->data.db = 1;
    load->state.entry = entry;
    return place_gdt(load, boot, top);
}

/* The first 4 GiB by themselves in pages of 2 MiB, which every processor has: a PML4, a PDPT and four
 * page directories. */
#define TABLE_PAGES 6u
static int place_page_tables(struct vmm_load *load, uint64_t *root, bool top)
{
    struct vmm_page_table_options options = VMM_PAGE_TABLE_OPTIONS_INIT;
    options.format = VMM_PAGE_FORMAT_X86_4LEVEL;
    options.table_length = TABLE_PAGES * 4096;
    int rc =
        vmm_x86_place(load, options.table_length, 4096, top, &options.table_start, "page tables");
    struct vmm_page_table *table = NULL;
    if (!rc)
        rc = vmm_page_table_new(load->memory, &options, &table, load->err);
    if (rc)
        return rc;
    rc = vmm_page_table_identity(table, 1ull << 32, VMM_PAGE_WRITE | VMM_PAGE_EXECUTE, load->err);
    *root = vmm_page_table_root(table);
    vmm_page_table_free(table);
    return rc;
}

int vmm_x86_enter_long(struct vmm_load *load, struct vmm_x86_boot *boot, uint64_t entry, bool top)
{
    *boot = (struct vmm_x86_boot){.mode = VMM_X86_BOOT_LONG,
                                  .regs = {.rip = entry, .rflags = RFLAGS_RESERVED},
                                  .cr0 = CR0_PE | CR0_ET | CR0_PG,
                                  .cr4 = CR4_PAE,
                                  .efer = EFER_LME | EFER_LMA,
                                  .cs = segment(SELECTOR_CODE, 0, 0xffffffff, TYPE_CODE),
                                  .data = segment(SELECTOR_DATA, 0, 0xffffffff, TYPE_DATA),
                                  .tr = task_segment(SELECTOR_TSS, 0x67)};
    boot->cs.l = 1;
    boot->data.db = 1;
    load->state.entry = entry;
    int rc = place_page_tables(load, &boot->cr3, top);
    return rc ? rc : place_gdt(load, boot, top);
}

void vmm_x86_enter_real(struct vmm_x86_boot *boot, uint64_t entry)
{
    uint16_t selector = (uint16_t)((entry >> 4) & 0xf000);
    uint64_t base = (uint64_t)selector << 4;
    *boot = (struct vmm_x86_boot){
        .mode = VMM_X86_BOOT_REAL,
        .regs = {.rip = entry - base, .rflags = RFLAGS_RESERVED},
        .cr0 = CR0_ET,
        .cs = segment(selector, base, 0xffff, TYPE_CODE),
        .data = segment(selector, base, 0xffff, TYPE_DATA),
        .tr = task_segment(0, 0xffff),
        .idt = {.limit = 0x3ff},
    };
}
