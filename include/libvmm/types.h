/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file types.h
 * What every libvmm header stands on: export marks, the version, and the rules that hold for all.
 *
 * Rules of the whole API, said once:
 *  - A function that can fail returns 0 (or a count) on success and a negative errno on failure. It
 *    never returns -1 with errno set, never prints, never ends the process.
 *  - `vmm_x_new(..., struct vmm_x **out)` gives the caller one reference; `vmm_x_unref()` gives it
 *    back, accepts NULL, and returns NULL so that `x = vmm_x_unref(x);` clears the variable.
 *    `*out` is written on success only.
 *  - A structure of options begins with `size_t size`; initialise it with its `..._INIT` macro.
 *    Fields that are zero mean the default. A structure larger than the library knows is accepted
 *    as long as the part it does not know is zero, else -E2BIG.
 *  - A file descriptor passed in is duplicated; the caller keeps its own and closes it at will.
 *  - "Thread-safe" in a comment means: from any thread at any time while the object is held.
 *    "Set-up only" means: from one thread, before the first vCPU runs.
 */
#ifndef LIBVMM_TYPES_H
#define LIBVMM_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#if defined(__cplusplus)
#define VMM_BEGIN_DECLS extern "C" {
#define VMM_END_DECLS   }
#else
#define VMM_BEGIN_DECLS
#define VMM_END_DECLS
#endif

#define VMM_API          __attribute__((visibility("default")))
#define VMM_PRINTF(f, a) __attribute__((format(printf, f, a)))
#define VMM_MUST_CHECK   __attribute__((warn_unused_result))

/** The version of the headers; vmm_version() gives that of the library at run time. */
#define VMM_VERSION_MAJOR 0
#define VMM_VERSION_MINOR 1
#define VMM_VERSION_PATCH 0

VMM_BEGIN_DECLS

/** The library's version as "major.minor.patch". Static storage. Thread-safe. */
VMM_API const char *vmm_version(void);

VMM_END_DECLS

#endif
