/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file block-filters.h
 * Block devices without a file, and block devices over others: memory, null, overlay, throttle,
 * error policy, injected faults. All are `struct vmm_block`, so they stack in any order.
 *
 * A filter holds the device below and works on its loop; all calls are made on that loop's thread.
 * From then on the one below is used through the filter only, resizing included.
 * When a device is quiesced (vmm_block_quiesce()), requests that a filter keeps back end with
 * -ECANCELED; when it is drained, they are carried out without waiting any longer.
 */
#ifndef LIBVMM_BLOCK_FILTERS_H
#define LIBVMM_BLOCK_FILTERS_H

#include <libvmm/block.h>

VMM_BEGIN_DECLS

/* Memory -------------------------------------------------------------------------------------- */

struct vmm_block_memory_options {
    size_t size;
    uint64_t length;     /**< bytes; a multiple of block_size */
    uint32_t block_size; /**< 512 or 4096; 0: 512 */
    uint32_t read_only;
};
#define VMM_BLOCK_MEMORY_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct vmm_block_memory_options), 0, 0, 0                                           \
    }

/** A disk in memory, all zeroes at first. Takes memory for what is written only, and gives it back by
 *  discards and zeroes. A flush has nothing to do. -EINVAL, -ENOMEM. */
VMM_API int vmm_block_memory_new(struct vmm_loop *loop,
                                 const struct vmm_block_memory_options *options,
                                 struct vmm_block **out, struct vmm_error *err);

/* Null ---------------------------------------------------------------------------------------- */

struct vmm_block_null_options {
    size_t size;
    uint64_t length;      /**< bytes; a multiple of 512 */
    uint64_t latency_ns;  /**< of each request; 0: at once */
    uint32_t leave_reads; /**< non-zero: reads leave the buffer as it is. 0: they give zeroes */
    uint32_t reserved;
};
#define VMM_BLOCK_NULL_OPTIONS_INIT                                                                \
    {                                                                                              \
        sizeof(struct vmm_block_null_options), 0, 0, 0, 0                                          \
    }

/** A disk that forgets what is written. -EINVAL, -ENOMEM. */
VMM_API int vmm_block_null_new(struct vmm_loop *loop, const struct vmm_block_null_options *options,
                               struct vmm_block **out, struct vmm_error *err);

/* Overlay ------------------------------------------------------------------------------------- */

struct vmm_block_overlay_options {
    size_t size;
    /** Where what is written goes: a temporary file without a name in this folder. NULL: memory. */
    const char *folder;
    uint32_t threads; /**< of the temporary file: see vmm_block_raw_options */
    uint32_t reserved;
};
#define VMM_BLOCK_OVERLAY_OPTIONS_INIT                                                             \
    {                                                                                              \
        sizeof(struct vmm_block_overlay_options), 0, 0, 0                                          \
    }

/** A writable disk over `base`, which is only read. What was written is gone when the device is.
 *  Flushes do nothing; it keeps its length. `options` NULL: the defaults. */
VMM_API int vmm_block_overlay_new(struct vmm_block *base,
                                  const struct vmm_block_overlay_options *options,
                                  struct vmm_block **out, struct vmm_error *err);

/* Throttle ------------------------------------------------------------------------------------ */

struct vmm_block_throttle_options {
    size_t size;
    uint64_t iops;            /**< requests a second; 0: any number */
    uint64_t iops_burst;      /**< requests at once after a rest; 0: those of 100 ms */
    uint64_t bandwidth;       /**< bytes a second that are read and written; 0: any number */
    uint64_t bandwidth_burst; /**< bytes at once after a rest; 0: those of 100 ms */
};
#define VMM_BLOCK_THROTTLE_OPTIONS_INIT                                                            \
    {                                                                                              \
        sizeof(struct vmm_block_throttle_options), 0, 0, 0, 0                                      \
    }

/** Lets requests through at a limited rate, in their order. A request larger than the burst passes
 *  when the rest is used up. Flushes are not counted and do not wait. */
VMM_API int vmm_block_throttle_new(struct vmm_block *child,
                                   const struct vmm_block_throttle_options *options,
                                   struct vmm_block **out, struct vmm_error *err);
/** Other limits from now on. -EINVAL: not a throttle, or bad options. */
VMM_API int vmm_block_throttle_set(struct vmm_block *block,
                                   const struct vmm_block_throttle_options *options);

/* Error policy -------------------------------------------------------------------------------- */

#define VMM_BLOCK_ON_ERROR_REPORT 0u /**< the guest is told */
#define VMM_BLOCK_ON_ERROR_STOP   1u /**< the request is kept, and the embedder called */
/** The guest is told that all is well; what could not be read is zeroes. Does not hold for flushes
 *  and durable writes: those are reported. */
#define VMM_BLOCK_ON_ERROR_IGNORE 2u

#define VMM_BLOCK_STOPPED 1u /**< a request has failed and is kept: stop the VM */
#define VMM_BLOCK_GOES_ON 2u /**< no request is kept any more: the VM may run again */

struct vmm_block_failure {
    uint32_t op;    /**< VMM_BLOCK_… */
    int32_t result; /**< the negative errno */
    uint64_t offset, length;
};

struct vmm_block_policy_options {
    size_t size;
    uint32_t on_error;    /**< VMM_BLOCK_ON_ERROR_… */
    uint32_t on_no_space; /**< the same, for -ENOSPC and -EDQUOT */
    /** Try what found no room again after so long; 0: only when told. */
    uint64_t retry_ns;
    /** On the loop. `failure`: the first one that is kept, for VMM_BLOCK_STOPPED; else NULL. */
    void (*event)(void *ctx, struct vmm_block *block, uint32_t event,
                  const struct vmm_block_failure *failure);
    void *ctx;
};
#define VMM_BLOCK_POLICY_OPTIONS_INIT                                                              \
    {                                                                                              \
        sizeof(struct vmm_block_policy_options), VMM_BLOCK_ON_ERROR_REPORT,                        \
            VMM_BLOCK_ON_ERROR_STOP, 0, 0, 0                                                       \
    }

/** What becomes of requests that fail. -EINVAL: it may stop and has no `event`. Requests that are
 *  kept when it is drained are tried once more, and then reported. */
VMM_API int vmm_block_policy_new(struct vmm_block *child,
                                 const struct vmm_block_policy_options *options,
                                 struct vmm_block **out, struct vmm_error *err);
/** Try what is kept again. -EINVAL: not a policy. */
VMM_API int vmm_block_policy_retry(struct vmm_block *block);
/** Report what is kept to the guest. -EINVAL: not a policy. */
VMM_API int vmm_block_policy_give_up(struct vmm_block *block);
/** How many requests are kept. -EINVAL: not a policy. */
VMM_API int vmm_block_policy_kept(const struct vmm_block *block);

/* Injected faults ------------------------------------------------------------------------------ */

/** For tests: what happens to requests that match. */
struct vmm_block_fault {
    size_t size;
    uint32_t ops;   /**< 1 << VMM_BLOCK_READ | …; 0: all */
    int32_t result; /**< a negative errno to end with; 0: what the disk says */
    uint64_t offset,
        length;        /**< requests that touch this range; length 0: all. Flushes match only 0 */
    uint64_t skip;     /**< so many matching requests pass first */
    uint64_t count;    /**< then so many are caught; 0: all */
    uint64_t delay_ns; /**< before anything is done */
    /** With a result: so much of a read or write is carried out before; bytes, whole blocks. */
    uint64_t torn_after;
};
#define VMM_BLOCK_FAULT_INIT                                                                       \
    {                                                                                              \
        sizeof(struct vmm_block_fault), 0, 0, 0, 0, 0, 0, 0, 0                                     \
    }

VMM_API int vmm_block_faults_new(struct vmm_block *child, struct vmm_block **out,
                                 struct vmm_error *err);
/** Of several rules the one added last that matches holds. -EINVAL, -ENOSPC (32 rules at most). */
VMM_API int vmm_block_faults_add(struct vmm_block *block, const struct vmm_block_fault *fault);
/** Remove all rules. -EINVAL: not an injector. */
VMM_API int vmm_block_faults_clear(struct vmm_block *block);
/** Requests caught so far; 0 too for what is not an injector. */
VMM_API uint64_t vmm_block_faults_caught(const struct vmm_block *block);

VMM_END_DECLS

#endif
