/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file log.h
 * Messages of the library, handed to the embedder. The library itself prints nothing.
 */
#ifndef LIBVMM_LOG_H
#define LIBVMM_LOG_H

#include <libvmm/types.h>

VMM_BEGIN_DECLS

#define VMM_LOG_ERROR 1u /**< something was lost or refused */
#define VMM_LOG_WARN  2u /**< works, but not as asked */
#define VMM_LOG_INFO  3u /**< once per object, not per event */
#define VMM_LOG_DEBUG 4u /**< may come once per guest access */

/**
 * A sink for messages. Given by value inside option structures; `ctx` belongs to the embedder and
 * must outlive the object it was given to.
 */
struct vmm_log {
    /** @param component the room and object, such as "serial0"; @param text one line, no newline.
     *  Called from any thread, possibly with a device's lock held: do not call the library. */
    void (*write)(void *ctx, uint32_t level, const char *component, const char *text);
    void *ctx;
    uint32_t level; /**< messages above this level are dropped; 0 means VMM_LOG_WARN */
    uint32_t reserved;
};

/** Send a message to `log`; NULL, or a log with no `write`, drops it. Thread-safe. */
VMM_API void vmm_log_write(const struct vmm_log *log, uint32_t level, const char *component,
                           const char *format, ...) VMM_PRINTF(4, 5);

VMM_END_DECLS

#endif
