/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file translate.h
 * A cache of the guest's translations, for introspection: guest-virtual address to host pointer.
 *
 * How it stays correct while the guest runs and changes its tables: a cached translation remembers
 * where in host memory the table entries are that led to it, and what they said. Every hit reads
 * those entries again (four with four levels) and compares, the accessed and dirty bits left out.
 * A translation is a function of the entries on its way, the context and the memory map; if all are
 * the same, so is the answer. The memory map's generation is compared too. So a hit gives what a
 * walk at that moment would give, whoever writes the tables: a vCPU, a device, another process that
 * shares the memory, without KVM's help and without waiting.
 *
 * The other way, write-protecting or dirty-logging the table pages, was not taken: KVM's dirty log
 * tells of a write only when it is harvested (a system call, more than a walk costs), it is stale
 * in between, it does not see writes of devices, and write protection costs the guest an exit for
 * each change of a table. Four loads from lines that are mostly in the cache make a hit of some 20 ns.
 *
 * What no cache can give: the guest may change its tables right after the check, as it may between
 * a processor's TLB fill and the access. For a view in which nothing moves, pause the vCPUs.
 *
 * A translator belongs to one thread at a time; make one for each thread. Nothing here writes to
 * the guest's tables (no accessed or dirty bits).
 */
#ifndef LIBVMM_TRANSLATE_H
#define LIBVMM_TRANSLATE_H

#include <libvmm/paging.h>

VMM_BEGIN_DECLS

struct vmm_translator;

struct vmm_translator_options {
    size_t size;
    uint32_t entries; /**< cached pages, rounded up to a power of two; 0: 4096 (512 KiB) */
    uint32_t reserved;
};
#define VMM_TRANSLATOR_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_translator_options), 0, 0                                                \
    }

/** Make a translator; it holds the memory. The context is VMM_PAGE_FORMAT_NONE at first.
 *  @param options  NULL for the defaults. -EINVAL: more than a million entries. */
VMM_API int vmm_translator_new(struct vmm_memory *memory,
                               const struct vmm_translator_options *options,
                               struct vmm_translator **out);
/** NULL is fine. */
VMM_API struct vmm_translator *vmm_translator_free(struct vmm_translator *translator);

/** Which tables to use, from vmm_x86_paging_context() or made by hand. Translations of the last 16
 *  contexts are kept side by side, so that going through processes and back is cheap. 0, -EINVAL,
 *  -E2BIG. */
VMM_API int vmm_translator_set_context(struct vmm_translator *translator,
                                       const struct vmm_paging_context *context);

/** Where a guest-virtual address is. */
struct vmm_lookup {
    size_t size;
    const void *data;  /**< its byte in host memory; NULL: the page is not RAM or ROM */
    size_t length;     /**< bytes that follow in the same 4 KiB */
    uint64_t physical; /**< guest-physical */
};
#define VMM_LOOKUP_INIT                                                                            \
    {                                                                                              \
        sizeof(struct vmm_lookup), 0, 0, 0                                                         \
    }

/**
 * Translate. `access` is VMM_ACCESS_…, without VMM_ACCESS_MARK; VMM_ACCESS_ANY asks for no rights.
 * `out->data` is for reading only and good until the next call on the same translator; the guest
 * may change the bytes at any time.
 * 0, -EFAULT: no translation, see vmm_translator_fault(); -EINVAL.
 */
VMM_API int vmm_translator_lookup(struct vmm_translator *translator, uint64_t address,
                                  uint32_t access, struct vmm_lookup *out);
/** Why the last call that returned -EFAULT did: `reason` is VMM_FAULT_NONE if the address was
 *  translated but is not memory. 0 or -EINVAL. */
VMM_API int vmm_translator_fault(const struct vmm_translator *translator,
                                 struct vmm_translation *out);

/** Copy guest-virtual memory out. -EFAULT: some of it is not mapped, not permitted or not memory
 *  (part of `data` may have been written); -EINVAL: wraps around, or a bad access. */
VMM_API int vmm_translator_read(struct vmm_translator *translator, uint64_t address, void *data,
                                size_t length, uint32_t access);
/** Copy in; everything is checked first, then marked dirty like any write of the VMM's. ROM is
 *  -EFAULT. `access` is the caller's wish: VMM_ACCESS_ANY writes read-only pages too, as a debugger
 *  does for breakpoints. */
VMM_API int vmm_translator_write(struct vmm_translator *translator, uint64_t address,
                                 const void *data, size_t length, uint32_t access);
/** Little-endian integers, with VMM_ACCESS_ANY. */
VMM_API int vmm_translator_read_u32(struct vmm_translator *translator, uint64_t address,
                                    uint32_t *value);
VMM_API int vmm_translator_read_u64(struct vmm_translator *translator, uint64_t address,
                                    uint64_t *value);
/** Copy a zero-terminated string with VMM_ACCESS_ANY; `text` is always terminated. The length, or
 *  -EFAULT, -EINVAL (no room at all), -ENAMETOOLONG (`size` - 1 bytes were copied). */
VMM_API long vmm_translator_read_string(struct vmm_translator *translator, uint64_t address,
                                        char *text, size_t size);
/**
 * Follow pointers of the guest: for each offset but the last, load the pointer at address + offset
 * (8 bytes with four or five levels, else 4) and go there. The last offset is added only. Thus
 * {offsetof(task, mm), offsetof(mm, pgd)} gives where task->mm->pgd is. -EFAULT; -EINVAL: no offset.
 */
VMM_API int vmm_translator_follow(struct vmm_translator *translator, uint64_t address,
                                  const uint64_t *offsets, size_t count, uint64_t *result);
/**
 * Go through a circular linked list: `head` is the address of a pointer to the first node, each
 * node begins with the pointer to the next, and the last points to `head`. `fn` gets each node's
 * address; it returns 0 to go on and may use the translator. At most `limit` nodes: hostile lists
 * go round elsewhere. 0, what `fn` returned, -EFAULT, -ELOOP: the limit was met; -EINVAL.
 */
VMM_API int vmm_translator_list(struct vmm_translator *translator, uint64_t head, uint64_t limit,
                                int (*fn)(void *ctx, uint64_t node), void *ctx);
/** vmm_paging_ranges() with the translator's context. */
VMM_API int vmm_translator_ranges(struct vmm_translator *translator,
                                  const struct vmm_page_range_options *options,
                                  int (*fn)(void *ctx, const struct vmm_page_range *range),
                                  void *ctx, uint64_t *next);

/** Counted since the translator was made. */
struct vmm_translator_stats {
    size_t size;
    uint64_t hits;
    uint64_t misses;  /**< walks because the page was not cached */
    uint64_t stale;   /**< walks because the guest had changed an entry */
    uint64_t faults;  /**< lookups without a translation */
    uint64_t flushes; /**< the memory map changed, or too many pieces of memory were held */
};
#define VMM_TRANSLATOR_STATS_INIT                                                                  \
    {                                                                                              \
        sizeof(struct vmm_translator_stats), 0, 0, 0, 0, 0                                         \
    }
VMM_API int vmm_translator_get_stats(const struct vmm_translator *translator,
                                     struct vmm_translator_stats *stats);
/** Forget everything and let go of the memory that is held mapped (hot-removed memory goes back to
 *  the host when no translator holds it: at the latest at its next call). */
VMM_API void vmm_translator_flush(struct vmm_translator *translator);

VMM_END_DECLS

#endif
