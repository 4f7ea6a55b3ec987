/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file paging.h
 * The guest's own page tables: a builder for direct boot, a software walker, and an iterator.
 *
 * Everything here works on guest memory through the checked accessors and treats the tables as
 * hostile: each entry is read once, no step leads outside guest memory, and the work of every call
 * is bounded. The table format is an input (VMM_PAGE_FORMAT_…); the names below are the same for
 * all formats, what a format gives to them is said where it matters.
 * x86: Intel SDM volume 3 chapter 4, AMD APM volume 2 chapter 5. arm64: the VMSAv8-64 stage 1 tables of
 * the EL1&0 regime, Arm ARM (DDI 0487) chapter D8. vmm_vcpu_paging_context() fills in a context from a
 * vCPU's registers.
 */
#ifndef LIBVMM_PAGING_H
#define LIBVMM_PAGING_H

#include <libvmm/memory.h>

VMM_BEGIN_DECLS

#define VMM_PAGE_FORMAT_NONE       0u /**< paging is off: virtual is physical, `virtual_bits` wide */
#define VMM_PAGE_FORMAT_X86_32     1u /**< two levels, 4-byte entries; 4 KiB and (PSE) 4 MiB pages */
#define VMM_PAGE_FORMAT_X86_PAE    2u /**< three levels, 32-bit addresses; 4 KiB and 2 MiB pages */
#define VMM_PAGE_FORMAT_X86_4LEVEL 3u /**< 48-bit addresses; 4 KiB, 2 MiB and perhaps 1 GiB pages */
#define VMM_PAGE_FORMAT_X86_5LEVEL 4u /**< 57-bit addresses, else the same */
/* arm64: two trees, one for the lowest addresses and one for the highest; the widths of both are inputs. */
#define VMM_PAGE_FORMAT_ARM64_4K  5u /**< granule of 4 KiB; pages of 4 KiB, 2 MiB and 1 GiB */
#define VMM_PAGE_FORMAT_ARM64_16K 6u /**< 16 KiB and 32 MiB */
#define VMM_PAGE_FORMAT_ARM64_64K                                                                  \
    7u /**< 64 KiB and 512 MiB; with 52 bits of physical address 4 TiB */

/* How the processor uses the tables: `flags` of a context. A flag that means nothing in a format
 * is ignored there. */
#define VMM_PAGING_PSE        0x1u  /**< x86 32-bit: 4 MiB pages (CR4.PSE) */
#define VMM_PAGING_PSE36      0x2u  /**< x86 32-bit: 4 MiB pages reach above 4 GiB (CPUID.PSE-36) */
#define VMM_PAGING_PAGES_1G   0x4u  /**< 1 GiB pages exist (CPUID.Page1GB) */
#define VMM_PAGING_NX         0x8u  /**< no-execute pages (EFER.NXE); x86 32-bit has none */
#define VMM_PAGING_WP         0x10u /**< the supervisor too obeys read-only pages (CR0.WP) */
#define VMM_PAGING_SMEP       0x20u /**< the supervisor may not execute user pages */
#define VMM_PAGING_SMAP       0x40u /**< nor access them, unless with VMM_ACCESS_AC (arm64: PSTATE.PAN) */
#define VMM_PAGING_PKU        0x80u  /**< protection keys of user pages (CR4.PKE), `user_keys` */
#define VMM_PAGING_PKS        0x100u /**< of supervisor pages (CR4.PKS), `supervisor_keys` */
#define VMM_PAGING_AMD        0x200u /**< bit 8 of PML4 and PML5 entries is reserved (APM 2, 5.3) */
#define VMM_PAGING_TOP_CACHED 0x400u /**< x86 PAE: the four PDPTE registers are in `top_entries` */
/* arm64; UPPER and LOWER are the two trees. */
#define VMM_PAGING_HA           0x800u  /**< the processor sets access flags (TCR_EL1.HA) */
#define VMM_PAGING_HD           0x1000u /**< and dirty states (TCR_EL1.HD) */
#define VMM_PAGING_WXN          0x2000u /**< what can be written is not executed (SCTLR_EL1.WXN) */
#define VMM_PAGING_EPAN         0x4000u /**< PAN counts pages that EL0 may only execute (SCTLR_EL1.EPAN) */
#define VMM_PAGING_FLAT_LOWER   0x8000u   /**< tables give no rights (TCR_EL1.HPD0) */
#define VMM_PAGING_FLAT_UPPER   0x10000u  /**< (HPD1) */
#define VMM_PAGING_TAGS_LOWER   0x20000u  /**< the highest byte of an address is ignored (TBI0) */
#define VMM_PAGING_TAGS_UPPER   0x40000u  /**< (TBI1) */
#define VMM_PAGING_CLOSED_LOWER 0x80000u  /**< EL0 has no access to this half (E0PD0) */
#define VMM_PAGING_CLOSED_UPPER 0x100000u /**< (E0PD1) */
#define VMM_PAGING_UPPER        0x200000u /**< builder: make the upper tree */

/** What the processor knows when it translates. */
struct vmm_paging_context {
    size_t size;
    uint32_t format;          /**< VMM_PAGE_FORMAT_… */
    uint32_t flags;           /**< VMM_PAGING_… */
    uint64_t root;            /**< where the top table is; x86: CR3, arm64: TTBR0_EL1, whose other
                                bits are left out */
    uint32_t address_bits;    /**< width of guest-physical addresses (x86: MAXPHYADDR, 32 to 52);
                                   0: the format's largest. Higher bits in an entry are reserved */
    uint32_t user_keys;       /**< x86: PKRU, two bits a key */
    uint32_t supervisor_keys; /**< x86: IA32_PKRS, the same */
    uint32_t reserved;
    uint64_t top_entries[4];
    uint64_t upper_root; /**< arm64: TTBR1_EL1 */
    uint32_t
        virtual_bits; /**< arm64: width of the lower addresses, 64 - TCR_EL1.T0SZ, 16 to 52; 0: no
                                lower tree (EPD0). Without paging: of all addresses; 0: 32 */
    uint32_t upper_bits; /**< arm64: of the upper addresses; 0: no upper tree */
};
#define VMM_PAGING_CONTEXT_INIT                                                                    \
    {                                                                                              \
        sizeof(struct vmm_paging_context), 0, 0, 0, 0, 0, 0, 0, {0, 0, 0, 0}, 0, 0, 0              \
    }

/* Permissions and attributes of a page. A page can always be read by the supervisor. */
#define VMM_PAGE_WRITE    0x1u
#define VMM_PAGE_USER     0x2u
#define VMM_PAGE_EXECUTE  0x4u /**< x86: by whoever can read it; arm64: by the supervisor (no PXN) */
#define VMM_PAGE_GLOBAL   0x8u
#define VMM_PAGE_ACCESSED 0x10u /**< of the leaf entry */
#define VMM_PAGE_DIRTY    0x20u /**< arm64: only with VMM_PAGING_HD */
/** arm64: the user may execute it (no UXN), even where it may not read it. */
#define VMM_PAGE_USER_EXECUTE 0x40u
/** The cache attribute's index, 0 to 7; x86: PWT, PCD and PAT as bits 0, 1 and 2 (SDM 3, 11.12); arm64: the
 *  index into MAIR_EL1. */
#define VMM_PAGE_CACHE(n)       (((uint32_t)(n)&7u) << 8)
#define VMM_PAGE_CACHE_OF(bits) (((bits) >> 8) & 7u)
/** The protection key, 0 to 15. */
#define VMM_PAGE_KEY(n)       (((uint32_t)(n)&15u) << 16)
#define VMM_PAGE_KEY_OF(bits) (((bits) >> 16) & 15u)

/* Walker -------------------------------------------------------------------------------------- */

/* The access that is asked about. 0 is a read by the supervisor, as KVM_TRANSLATE does. */
#define VMM_ACCESS_WRITE   0x1u
#define VMM_ACCESS_EXECUTE 0x2u /**< not together with VMM_ACCESS_WRITE */
#define VMM_ACCESS_USER    0x4u /**< x86: at CPL 3; arm64: at EL0 */
#define VMM_ACCESS_AC      0x8u /**< an explicit access with EFLAGS.AC set (STAC), or PSTATE.PAN clear */
#define VMM_ACCESS_ANY     0x10u /**< no access rights at all: where is it? Alone */
#define VMM_ACCESS_MARK    0x20u /**< set accessed and dirty bits as the processor would */

/* Why there is no translation. When several rights are missing the first of this list counts. */
#define VMM_FAULT_NONE         0u
#define VMM_FAULT_ADDRESS      1u /**< not canonical, or above 32 bits, x86: #GP; arm64: of no tree */
#define VMM_FAULT_ABSENT       2u /**< an entry is not present */
#define VMM_FAULT_RESERVED     3u /**< an entry has a reserved bit set; arm64: too wide an address */
#define VMM_FAULT_TABLE        4u  /**< an entry lies where the guest has no memory */
#define VMM_FAULT_ACCESS_FLAG  11u /**< arm64: it is clear and the software's to set */
#define VMM_FAULT_USER         5u  /**< a user access to a supervisor page */
#define VMM_FAULT_WRITE        6u  /**< read-only */
#define VMM_FAULT_EXECUTE      7u  /**< no-execute */
#define VMM_FAULT_USER_EXECUTE 8u  /**< SMEP; arm64: the supervisor, what the user can write */
#define VMM_FAULT_USER_ACCESS  9u  /**< SMAP, PAN */
#define VMM_FAULT_KEY          10u /**< a protection key */

struct vmm_translation {
    size_t size;
    uint64_t physical;      /**< of the very address; may lie outside guest memory */
    uint64_t page_size;     /**< bytes that the leaf maps */
    uint64_t entry;         /**< the last entry that was read: the leaf, or the one that faulted */
    uint64_t entry_address; /**< where it is; all ones: nowhere (paging is off, cached) */
    uint32_t permissions; /**< VMM_PAGE_…: rights of all levels together, the rest of the leaf */
    uint32_t level;       /**< of `entry`: 1 for the lowest table, 0 without paging */
    uint32_t reason;      /**< VMM_FAULT_… */
    uint32_t code; /**< what the processor would say; x86: the #PF error code, arm64: ESR_EL1 */
};
#define VMM_TRANSLATION_INIT                                                                       \
    {                                                                                              \
        sizeof(struct vmm_translation), 0, 0, 0, 0, 0, 0, 0, 0                                     \
    }

/**
 * Translate one guest-virtual address as the guest's processor would, without any cache.
 *
 * With VMM_ACCESS_MARK accessed bits are set in every entry used and the dirty bit in the leaf of a
 * write, each by an atomic compare-and-exchange with the entry that was read; when the guest
 * changed it meanwhile the walk starts again. Only a permitted access marks. Entries in ROM stay
 * as they are.
 *
 * 0: `out` holds the page. -EFAULT: no translation, `out->reason`, `code`, `entry`, `level` say
 * why; `physical` is 0. -EINVAL: a bad context or access. -EAGAIN: the guest kept changing an entry
 * (VMM_ACCESS_MARK only). Thread-safe, never blocks.
 */
VMM_API int vmm_paging_translate(struct vmm_memory *memory,
                                 const struct vmm_paging_context *context, uint64_t address,
                                 uint32_t access, struct vmm_translation *out);

/** A static name of a VMM_FAULT_… ("absent"). */
VMM_API const char *vmm_fault_name(uint32_t reason);
/** A static name of a VMM_PAGE_FORMAT_… ("4-level"). */
VMM_API const char *vmm_page_format_name(uint32_t format);

/* Iterator ------------------------------------------------------------------------------------ */

/** A stretch of mapped guest-virtual addresses. */
struct vmm_page_range {
    size_t size;
    uint64_t address; /**< guest-virtual */
    uint64_t length;
    uint64_t physical;    /**< of the first byte */
    uint64_t page_size;   /**< of the smallest page in it */
    uint32_t permissions; /**< VMM_PAGE_… of the first page */
    uint32_t reserved;
};

/** Join pages only where their physical addresses follow each other too. */
#define VMM_RANGES_CONTIGUOUS 0x1u

struct vmm_page_range_options {
    size_t size;
    uint64_t start; /**< the first guest-virtual address */
    uint64_t last;  /**< the last one, inclusive; 0: the end of the address space */
    uint32_t flags; /**< VMM_RANGES_… */
    /** Neighbours are joined when these bits of their permissions are equal; 0: write, user and
     *  execute. */
    uint32_t compare;
    /** How many table entries are looked at before giving up: hostile tables can map all of the
     *  address space by a few pages that point to themselves. 0: 16 million; at least 5. */
    uint64_t entry_limit;
};
#define VMM_PAGE_RANGE_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_page_range_options), 0, 0, 0, 0, 0                                       \
    }

/**
 * Call `fn` for each stretch of mapped addresses, in rising order. Pages that no access could use
 * (reserved bits, tables outside memory) are left out. `fn` returns 0 to go on.
 * @param options  NULL: everything
 * @param next     NULL, or where to start again after -EOVERFLOW
 * 0, what `fn` returned, -EOVERFLOW: the limit came first (what was found has been reported),
 * -EINVAL, -ENOMEM. Thread-safe.
 */
VMM_API int vmm_paging_ranges(struct vmm_memory *memory, const struct vmm_paging_context *context,
                              const struct vmm_page_range_options *options,
                              int (*fn)(void *ctx, const struct vmm_page_range *range), void *ctx,
                              uint64_t *next);

/* Builder ------------------------------------------------------------------------------------- */

/**
 * Page tables in the making. The tables are written to guest memory at once, so the object can be
 * freed as soon as everything is mapped. One thread at a time; set-up only (it trusts that the
 * guest does not change the tables meanwhile; if it does, its own memory is all that suffers).
 */
struct vmm_page_table;

struct vmm_page_table_options {
    size_t size;
    uint32_t format;       /**< VMM_PAGE_FORMAT_… other than NONE */
    uint32_t flags;        /**< VMM_PAGING_…: PSE, PAGES_1G and NX decide what can be mapped */
    uint32_t address_bits; /**< as in the context */
    uint32_t reserved;
    uint64_t
        table_start; /**< guest memory for tables, multiple of 4096 or of the granule; 32-bit and
                               PAE: the first table must be below 4 GiB, in the 32-bit format all must */
    uint64_t table_length; /**< the same multiple; only what is used is written */
    uint32_t virtual_bits; /**< arm64: width of the addresses, 16 to 52; 0: 48 */
    uint32_t reserved2;
};
#define VMM_PAGE_TABLE_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_page_table_options), 0, 0, 0, 0, 0, 0, 0, 0                              \
    }

/** Make an empty top table. -ENOSPC: no room, -EFAULT: no memory there, -EINVAL. */
VMM_API int vmm_page_table_new(struct vmm_memory *memory,
                               const struct vmm_page_table_options *options,
                               struct vmm_page_table **out, struct vmm_error *err);
/** Forget the object; the tables stay in guest memory. NULL is fine. */
VMM_API struct vmm_page_table *vmm_page_table_free(struct vmm_page_table *table);

/**
 * Map `length` bytes at `address` to `physical`, with the largest pages that alignment, the format
 * and `max_page` allow. All of it or, on an error, none.
 * @param permissions  VMM_PAGE_…. x86: without VMM_PAGE_EXECUTE the context needs VMM_PAGING_NX. arm64: without
 *                     VMM_PAGING_HA the access flag is always set, for nobody else would.
 * @param max_page     the largest page in bytes; 0: what the format has
 * -EINVAL: misaligned, empty, wrapping, not canonical, above the physical address width, or a
 * permission that the format cannot express; -EEXIST: some of it is mapped already; -ENOSPC: no
 * room for tables; -EFAULT: the tables' memory is gone. PAE: the processor loads the top entries
 * with CR3, so map before that.
 */
VMM_API int vmm_page_table_map(struct vmm_page_table *table, uint64_t address, uint64_t physical,
                               uint64_t length, uint32_t permissions, uint64_t max_page,
                               struct vmm_error *err);
/** Map the first `length` bytes to themselves: what 64-bit boot protocols want. */
VMM_API int vmm_page_table_identity(struct vmm_page_table *table, uint64_t length,
                                    uint32_t permissions, struct vmm_error *err);
/** The top table's guest-physical address; x86: the value for CR3, arm64: for TTBR0_EL1 or TTBR1_EL1. */
VMM_API uint64_t vmm_page_table_root(const struct vmm_page_table *table);
/** Bytes of the tables' memory in use, from its start. */
VMM_API uint64_t vmm_page_table_used(const struct vmm_page_table *table);
/** The context that walks these tables; the flags are those of the options. arm64: there is no other tree in it
 *  (two builders make two; take upper_root and upper_bits from the other). 0 or -EINVAL. */
VMM_API int vmm_page_table_context(const struct vmm_page_table *table,
                                   struct vmm_paging_context *context);

VMM_END_DECLS

#endif
