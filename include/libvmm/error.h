/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file error.h
 * The sentence that goes with a negative errno.
 *
 * Functions whose failure needs explaining (set-up, images, kernels) take an optional
 * `struct vmm_error *`. NULL is always fine. On failure the function fills it in; on success it
 * leaves it untouched. The structure is plain memory of the caller's: nothing to free.
 */
#ifndef LIBVMM_ERROR_H
#define LIBVMM_ERROR_H

#include <libvmm/types.h>

VMM_BEGIN_DECLS

/** Bytes of text, the terminating zero included; longer texts are cut at a UTF-8 boundary. */
#define VMM_ERROR_TEXT_SIZE 496

struct vmm_error {
    int32_t code;      /**< the negative errno that the function also returned; 0: no error */
    uint32_t reserved; /**< zero */
    char text[VMM_ERROR_TEXT_SIZE]; /**< what is wrong, where, and what to do; one line */
};

#define VMM_ERROR_INIT                                                                             \
    {                                                                                              \
        0, 0,                                                                                      \
        {                                                                                          \
            0                                                                                      \
        }                                                                                          \
    }

/**
 * Fill `err` (NULL is fine) and return `code`, so that a failing function ends in
 * `return vmm_error_set(err, -EINVAL, "…", …);`. Exported for embedders' own devices and backends.
 * @param code  a negative errno
 */
VMM_API int vmm_error_set(struct vmm_error *err, int code, const char *format, ...)
    VMM_PRINTF(3, 4);

/**
 * Put "prefix: " before a text that is already there. Keeps the code. NULL is fine.
 */
VMM_API void vmm_error_prefix(struct vmm_error *err, const char *format, ...) VMM_PRINTF(2, 3);

VMM_END_DECLS

#endif
