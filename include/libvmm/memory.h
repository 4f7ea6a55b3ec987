/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file memory.h
 * Guest memory: the map of guest-physical addresses, what backs it, and the only way in.
 *
 * Guest memory is reached through the checked calls below. Each checks the whole range against
 * the map, wrap-around included, before it touches a byte; a range may cross slots. Addresses and
 * lengths are in bytes. Writes through them are marked in the library's dirty log.
 */
#ifndef LIBVMM_MEMORY_H
#define LIBVMM_MEMORY_H

#include <libvmm/backing.h>
#include <libvmm/vm.h>

VMM_BEGIN_DECLS

struct vmm_memory;
struct vmm_memory_region;

/** The memory map of a VM; one VM has one. Without a VM (NULL) it is memory only, for tests. */
VMM_API int vmm_memory_new(struct vmm_vm *vm, struct vmm_memory **out, struct vmm_error *err);
VMM_API struct vmm_memory *vmm_memory_ref(struct vmm_memory *memory);
VMM_API struct vmm_memory *vmm_memory_unref(struct vmm_memory *memory);

/**
 * The short way to RAM: anonymous, private, not touched before the guest does (MAP_NORESERVE).
 * `address` and `length` are multiples of the host's page size. -EEXIST: overlaps another region,
 * -ENOSPC: no slot left, -ENOMEM, -EINVAL: misaligned, empty or wrapping.
 * @param out  NULL, or a reference to the region
 */
VMM_API int vmm_memory_add_ram(struct vmm_memory *memory, const char *name, uint64_t address,
                               uint64_t length, struct vmm_memory_region **out,
                               struct vmm_error *err);

/* Regions ------------------------------------------------------------------------------------- */

#define VMM_MEMORY_RAM    1u
#define VMM_MEMORY_ROM    2u /**< the guest's writes go to a callback, or nowhere */
#define VMM_MEMORY_DEVICE 3u /**< as RAM, but not the machine's memory: VGA, a PCI BAR */
#define VMM_MEMORY_ALIAS  4u /**< another region's bytes (or a part of them) at a second place */
#define VMM_MEMORY_HOLE   5u /**< hides what is below: accesses leave the guest, for an I/O overlay */

struct vmm_memory_region_options {
    size_t size;
    const char *name;            /**< for messages; copied; NULL: the type's */
    uint32_t type;               /**< VMM_MEMORY_… */
    uint32_t read_only;          /**< ALIAS: non-zero makes it ROM whatever the target is */
    uint64_t length;             /**< a multiple of the host's page size, at least one page */
    struct vmm_backing *backing; /**< RAM, ROM, DEVICE; held. NULL: anonymous memory of its own */
    uint64_t backing_offset;     /**< of the region's first byte; page-aligned */
    struct vmm_memory_region *target; /**< ALIAS: of what; held */
    uint64_t target_offset;           /**< ALIAS: of the first byte; page-aligned */
    /** ROM: the guest wrote, `width` 1 to 8. On the vCPU's thread, without a lock, possibly on
     *  several at once; the map may be changed inside. NULL: writes go to the bus. */
    void (*rom_write)(void *ctx, uint64_t offset, uint32_t width, uint64_t value);
    /** The region is gone and no callback runs. May be NULL. */
    void (*release)(void *ctx);
    void *ctx;
};
#define VMM_MEMORY_REGION_OPTIONS_INIT                                                             \
    {                                                                                              \
        sizeof(struct vmm_memory_region_options), 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0                  \
    }

/** Make a region; it is nowhere until vmm_memory_add(). -EINVAL, -ENOMEM with a text. */
VMM_API int vmm_memory_region_new(const struct vmm_memory_region_options *options,
                                  struct vmm_memory_region **out, struct vmm_error *err);
VMM_API struct vmm_memory_region *vmm_memory_region_ref(struct vmm_memory_region *region);
VMM_API struct vmm_memory_region *vmm_memory_region_unref(struct vmm_memory_region *region);
VMM_API const char *vmm_memory_region_name(const struct vmm_memory_region *region);
VMM_API uint32_t vmm_memory_region_type(const struct vmm_memory_region *region);
VMM_API uint64_t vmm_memory_region_length(const struct vmm_memory_region *region);
/** NULL for a hole; an alias has its target's. Not a new reference. */
VMM_API struct vmm_backing *vmm_memory_region_backing(const struct vmm_memory_region *region);

/* The map ------------------------------------------------------------------------------------- */

/*
 * Each of these changes the map at once, also while vCPUs run, or, between begin and commit, all
 * together. A change that is refused leaves everything as it was. Thread-safe; may block for
 * milliseconds; not from inside vmm_memory_foreach().
 */

/** Put a region into the map; the map holds it. Where regions overlap, the higher priority is seen.
 *  -EEXIST: overlaps one of the same priority (the text names both); -EBUSY: it is in the map;
 *  -EINVAL: misaligned or wrapping; -ENOSPC: the host's slots are used up. */
VMM_API int vmm_memory_add(struct vmm_memory *memory, struct vmm_memory_region *region,
                           uint64_t address, int32_t priority, struct vmm_error *err);
/** Take it out. -ENOENT: it is not in. When this (or the commit) returns, no call uses it any more;
 *  mappings, lists and views that are held keep its pages alive. */
VMM_API int vmm_memory_remove(struct vmm_memory *memory, struct vmm_memory_region *region,
                              struct vmm_error *err);
VMM_API int vmm_memory_move(struct vmm_memory *memory, struct vmm_memory_region *region,
                            uint64_t address, struct vmm_error *err);
/** A disabled region keeps its place, but nothing of it is seen. */
VMM_API int vmm_memory_set_enabled(struct vmm_memory *memory, struct vmm_memory_region *region,
                                   bool enabled, struct vmm_error *err);
VMM_API int vmm_memory_set_priority(struct vmm_memory *memory, struct vmm_memory_region *region,
                                    int32_t priority, struct vmm_error *err);
/** Make RAM, device memory or an alias behave as ROM at its place, or again as it was made. */
VMM_API int vmm_memory_set_read_only(struct vmm_memory *memory, struct vmm_memory_region *region,
                                     bool read_only, struct vmm_error *err);
/** Let an alias show another part of its target, as a banked window does. */
VMM_API int vmm_memory_set_target_offset(struct vmm_memory *memory,
                                         struct vmm_memory_region *region, uint64_t offset,
                                         struct vmm_error *err);
/** Where it is; -ENOENT. */
VMM_API int vmm_memory_region_address(struct vmm_memory *memory,
                                      const struct vmm_memory_region *region, uint64_t *address);

/** Collect changes until vmm_memory_commit(). Nests; other threads' changes wait. */
VMM_API void vmm_memory_begin(struct vmm_memory *memory);
/** The outermost commit makes all changes visible at once, or, when one was refused, none:
 *  then it returns why (that of the first that failed). */
VMM_API int vmm_memory_commit(struct vmm_memory *memory, struct vmm_error *err);

/** A piece of the map as the guest sees it. */
struct vmm_memory_info {
    size_t size;
    uint64_t address;
    uint64_t length;
    struct vmm_memory_region *region; /**< whose bytes; an alias' target. Valid during the call */
    uint64_t offset;                  /**< in that region */
    uint32_t type;                    /**< of that region */
    uint32_t writable;                /**< 0: as ROM */
};
/** Call `fn` for each piece, in the order of addresses, until it returns non-zero, which is then
 *  returned. Thread-safe, lock-free. */
VMM_API int vmm_memory_foreach(struct vmm_memory *memory,
                               int (*fn)(void *ctx, const struct vmm_memory_info *info), void *ctx);

/**
 * Keep a vCPU out of the guest while slots are replaced. KVM cannot change the size of a slot: where
 * a region is put over a part of RAM, the slots around it go and come back, and a vCPU that runs
 * meanwhile would see no memory there. vmm_vcpu_new() adds one; embedders who make vCPUs themselves
 * may. `close` returns when the vCPU is not in KVM_RUN (one in an I/O handler is out of it) and lets
 * it not in until `open`. Called on the thread that changes the map, which may be a vCPU's own inside
 * an I/O handler, and only when memory that stays is affected.
 */
struct vmm_memory_gate {
    size_t size;
    void (*close)(void *ctx);
    void (*open)(void *ctx);
};
/** `gate` is copied. -EINVAL: not both functions; -ENOMEM. Thread-safe, as is the removal, after
 *  which it is not called. */
VMM_API int vmm_memory_add_gate(struct vmm_memory *memory, const struct vmm_memory_gate *gate,
                                void *ctx);
VMM_API void vmm_memory_remove_gate(struct vmm_memory *memory, const void *ctx);

/** KVM's memory slots and the calls that changed them so far. */
struct vmm_memory_slot_stats {
    size_t size;
    uint32_t used;
    uint32_t limit; /**< the host's; 0: there is no VM */
    uint64_t added;
    uint64_t removed;
    uint64_t moved;
    uint64_t flags_changed;
};
#define VMM_MEMORY_SLOT_STATS_INIT                                                                 \
    {                                                                                              \
        sizeof(struct vmm_memory_slot_stats), 0, 0, 0, 0, 0, 0                                     \
    }
/** Thread-safe. */
VMM_API int vmm_memory_get_slot_stats(struct vmm_memory *memory,
                                      struct vmm_memory_slot_stats *stats);

/* Access -------------------------------------------------------------------------------------- */

/** Copy out of RAM and ROM. -EFAULT: some of the range is neither (nothing was copied). Aligned 2, 4
 *  and 8 bytes are one access. Thread-safe, lock-free. */
VMM_API int vmm_memory_read(struct vmm_memory *memory, uint64_t address, void *data, size_t length);
/** -EFAULT as above; ROM is -EFAULT for a guest's device, see vmm_memory_write_rom(). */
VMM_API int vmm_memory_write(struct vmm_memory *memory, uint64_t address, const void *data,
                             size_t length);
/** As vmm_memory_write(), but ROM is written too: for loaders and firmware set-up. */
VMM_API int vmm_memory_write_rom(struct vmm_memory *memory, uint64_t address, const void *data,
                                 size_t length);
/** Fill with one byte. */
VMM_API int vmm_memory_fill(struct vmm_memory *memory, uint64_t address, uint8_t value,
                            uint64_t length);
/** As memcmp(): `*result` is negative, zero or positive, guest memory being the left side. The same
 *  for two places in guest memory. */
VMM_API int vmm_memory_compare(struct vmm_memory *memory, uint64_t address, const void *data,
                               size_t length, int *result);
VMM_API int vmm_memory_compare_guest(struct vmm_memory *memory, uint64_t left, uint64_t right,
                                     uint64_t length, int *result);

/** Is the whole range RAM (or, where `write` is false, RAM or ROM)? Thread-safe, lock-free. */
VMM_API bool vmm_memory_valid(struct vmm_memory *memory, uint64_t address, uint64_t length,
                              bool write);

/** Give the pages of a range back to the host, as a balloon does: they read as zeros (private files:
 *  as the file). Pages that are only partly in the range are kept. Regions without backing and ROM
 *  are -EFAULT. Blocks for the host's call. */
VMM_API int vmm_memory_discard(struct vmm_memory *memory, uint64_t address, uint64_t length);

/* Integers, little-endian in guest memory, in any alignment. -EFAULT. Thread-safe, lock-free. */
VMM_API int vmm_memory_load_u8(struct vmm_memory *memory, uint64_t address, uint8_t *value);
VMM_API int vmm_memory_load_u16(struct vmm_memory *memory, uint64_t address, uint16_t *value);
VMM_API int vmm_memory_load_u32(struct vmm_memory *memory, uint64_t address, uint32_t *value);
VMM_API int vmm_memory_load_u64(struct vmm_memory *memory, uint64_t address, uint64_t *value);
VMM_API int vmm_memory_store_u8(struct vmm_memory *memory, uint64_t address, uint8_t value);
VMM_API int vmm_memory_store_u16(struct vmm_memory *memory, uint64_t address, uint16_t value);
VMM_API int vmm_memory_store_u32(struct vmm_memory *memory, uint64_t address, uint32_t value);
VMM_API int vmm_memory_store_u64(struct vmm_memory *memory, uint64_t address, uint64_t value);

/* Atomic against the guest's own locked instructions; sequentially consistent. The address is
 * aligned to the width (-EINVAL) and in RAM (-EFAULT). `old`, unless NULL, gets what was there. */
/** If `*expected` is there, put `desired`: 0. Else `*expected` becomes what is there: -EAGAIN. */
VMM_API int vmm_memory_cmpxchg_u32(struct vmm_memory *memory, uint64_t address, uint32_t *expected,
                                   uint32_t desired);
VMM_API int vmm_memory_cmpxchg_u64(struct vmm_memory *memory, uint64_t address, uint64_t *expected,
                                   uint64_t desired);
VMM_API int vmm_memory_fetch_or_u32(struct vmm_memory *memory, uint64_t address, uint32_t bits,
                                    uint32_t *old);
VMM_API int vmm_memory_fetch_or_u64(struct vmm_memory *memory, uint64_t address, uint64_t bits,
                                    uint64_t *old);
VMM_API int vmm_memory_fetch_and_u32(struct vmm_memory *memory, uint64_t address, uint32_t bits,
                                     uint32_t *old);
VMM_API int vmm_memory_fetch_and_u64(struct vmm_memory *memory, uint64_t address, uint64_t bits,
                                     uint64_t *old);
VMM_API int vmm_memory_fetch_add_u32(struct vmm_memory *memory, uint64_t address, uint32_t summand,
                                     uint32_t *old);
VMM_API int vmm_memory_fetch_add_u64(struct vmm_memory *memory, uint64_t address, uint64_t summand,
                                     uint64_t *old);

/* Held pieces --------------------------------------------------------------------------------- */

#define VMM_MAP_READ  1u
#define VMM_MAP_WRITE 2u

/** A piece of guest memory held in the host's address space; stays valid until it is released,
 *  even when the region leaves the map meanwhile. */
struct vmm_mapping {
    void *data;
    size_t length;
    void *token; /**< the library's */
    uint64_t address;
    uint32_t access; /**< VMM_MAP_… as asked for */
    uint32_t reserved;
};

/**
 * Map `length` contiguous bytes. -EFAULT: not all of it RAM (or, for reading, ROM), or it crosses
 * two backings. The guest can change the bytes at any time: copy what must be trusted.
 * A mapping for writing is marked dirty when it is released. Thread-safe.
 */
VMM_API int vmm_memory_map(struct vmm_memory *memory, uint64_t address, size_t length,
                           uint32_t access, struct vmm_mapping *out);
VMM_API void vmm_memory_unmap(struct vmm_memory *memory, struct vmm_mapping *mapping);

/** A range of guest memory, as in a descriptor. */
struct vmm_guest_range {
    uint64_t address;
    uint64_t length;
};

struct iovec; /* <sys/uio.h> */

/** A list of ranges held in the host's address space, for readv() and the like. */
struct vmm_scatter {
    struct iovec *iov; /**< the caller's array, as filled in */
    size_t count;      /**< entries used in it */
    uint64_t length;   /**< the sum in bytes */
    void *token;       /**< the library's */
    uint32_t access;
    uint32_t reserved;
};

/**
 * Translate a list. A range that crosses backings takes several entries, neighbours in the host's
 * memory share one; empty ranges take none.
 * @param iov    gets at most `room` entries; the caller keeps it until the release
 * @param limit  of bytes in all; 0: none
 * -EFAULT: a range is not all RAM (or, for reading, ROM); -E2BIG: more than `room` entries or
 * `limit` bytes; -EINVAL. Thread-safe. Hold it for a request, not for ever: it keeps all memory of
 * this moment alive.
 */
VMM_API int vmm_memory_map_list(struct vmm_memory *memory, const struct vmm_guest_range *list,
                                size_t count, uint32_t access, struct iovec *iov, size_t room,
                                uint64_t limit, struct vmm_scatter *out);
/** Release it. @param written  bytes from the beginning that were written to, for the dirty log */
VMM_API void vmm_memory_unmap_list(struct vmm_memory *memory, struct vmm_scatter *scatter,
                                   uint64_t written);

/* Views --------------------------------------------------------------------------------------- */

/**
 * A reader's own window on the map, for hot paths: it remembers where the last access was and
 * checks only that the map has not changed, without a shared write. One thread at a time; it may
 * lie in a structure of the caller's. The fields are the library's. A view keeps alive the memory of
 * the map that it last saw; vmm_memory_view_drop() lets go of it when the user goes idle.
 */
struct vmm_memory_view {
    struct vmm_memory *memory;
    const void *map;
    const void *piece;
    uint64_t generation;
    uint64_t start;
    uint64_t readable; /**< bytes from `start` */
    uint64_t writable;
    uint8_t *host;
};

/** Holds `memory`. */
VMM_API void vmm_memory_view_init(struct vmm_memory_view *view, struct vmm_memory *memory);
VMM_API void vmm_memory_view_fini(struct vmm_memory_view *view);
VMM_API void vmm_memory_view_drop(struct vmm_memory_view *view);
/* The same results as the calls on the map have. */
VMM_API int vmm_memory_view_read(struct vmm_memory_view *view, uint64_t address, void *data,
                                 size_t length);
VMM_API int vmm_memory_view_write(struct vmm_memory_view *view, uint64_t address, const void *data,
                                  size_t length);
VMM_API int vmm_memory_view_load_u16(struct vmm_memory_view *view, uint64_t address,
                                     uint16_t *value);
VMM_API int vmm_memory_view_load_u32(struct vmm_memory_view *view, uint64_t address,
                                     uint32_t *value);
VMM_API int vmm_memory_view_load_u64(struct vmm_memory_view *view, uint64_t address,
                                     uint64_t *value);
VMM_API int vmm_memory_view_store_u16(struct vmm_memory_view *view, uint64_t address,
                                      uint16_t value);
VMM_API int vmm_memory_view_store_u32(struct vmm_memory_view *view, uint64_t address,
                                      uint32_t value);
VMM_API int vmm_memory_view_store_u64(struct vmm_memory_view *view, uint64_t address,
                                      uint64_t value);

/* The guest's accesses that KVM hands out ------------------------------------------------------ */

/**
 * A write that the guest made outside of writable slots: to ROM it goes to the region's callback, to
 * RAM (its slot was being replaced) it is done. 0, or -ENOENT: it is for the bus. `width` is 1 to 8;
 * the value is little-endian. vmm_vcpu_run() asks before the I/O handler. Thread-safe.
 */
VMM_API int vmm_memory_handle_write(struct vmm_memory *memory, uint64_t address, uint32_t width,
                                    uint64_t value);
/** A read of RAM or ROM whose slot was being replaced. 0 or -ENOENT. */
VMM_API int vmm_memory_handle_read(struct vmm_memory *memory, uint64_t address, uint32_t width,
                                   uint64_t *value);

VMM_END_DECLS

#endif
