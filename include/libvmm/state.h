/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file state.h
 * Saved state: a flattened device tree, a node a device, a property a field.
 *
 * A device's save callback writes its fields into the node that the machine opened for it; load
 * reads them back. Integers are big-endian cells as device trees have them, so
 * `dtc -I dtb -O dts snapshot` shows a snapshot as text. Every node has a property "version".
 *
 * Loading is strict: a missing field, a field of the wrong length or above its limit is an error
 * that names the node and the field, and the device must check everything before it changes
 * anything of itself.
 */
#ifndef LIBVMM_STATE_H
#define LIBVMM_STATE_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_state_writer;
struct vmm_state_reader;

VMM_API int vmm_state_writer_new(struct vmm_state_writer **out);
VMM_API struct vmm_state_writer *vmm_state_writer_free(struct vmm_state_writer *w);
/** Open a child node. Errors stick: the first failure is returned by every later call. Names of nodes
 *  and fields are unique in their node and have 1 to 31 characters of [A-Za-z0-9,._+-@?#]; -EINVAL
 *  else. At most 7 nodes stand in each other. */
VMM_API int vmm_state_begin(struct vmm_state_writer *w, const char *node, uint32_t version);
VMM_API int vmm_state_end(struct vmm_state_writer *w);
VMM_API int vmm_state_put_u32(struct vmm_state_writer *w, const char *name, uint32_t value);
VMM_API int vmm_state_put_u64(struct vmm_state_writer *w, const char *name, uint64_t value);
VMM_API int vmm_state_put_bytes(struct vmm_state_writer *w, const char *name, const void *data,
                                size_t length);
VMM_API int vmm_state_put_string(struct vmm_state_writer *w, const char *name, const char *text);
/** Finish: `*data` is a malloc'ed device-tree blob of `*length` bytes, the caller frees it. */
VMM_API int vmm_state_writer_finish(struct vmm_state_writer *w, void **data, size_t *length);

/** Check a blob (hostile input) and open its root. The blob must stay valid and unchanged while the
 *  reader is. -EINVAL: not a sound device tree. */
VMM_API int vmm_state_reader_new(const void *data, size_t length, struct vmm_state_reader **out,
                                 struct vmm_error *err);
VMM_API struct vmm_state_reader *vmm_state_reader_free(struct vmm_state_reader *r);
/** Enter a child node whose version is at most `max_version` (else -ENOTSUP). -ENOENT: there is none.
 *  @param version  NULL, or gets its version */
VMM_API int vmm_state_enter(struct vmm_state_reader *r, const char *node, uint32_t max_version,
                            uint32_t *version, struct vmm_error *err);
VMM_API int vmm_state_leave(struct vmm_state_reader *r);
/** @param max  a value above it is -ERANGE */
VMM_API int vmm_state_get_u32(struct vmm_state_reader *r, const char *name, uint32_t max,
                              uint32_t *value, struct vmm_error *err);
VMM_API int vmm_state_get_u64(struct vmm_state_reader *r, const char *name, uint64_t max,
                              uint64_t *value, struct vmm_error *err);
/** The property must be exactly `length` bytes. */
VMM_API int vmm_state_get_bytes(struct vmm_state_reader *r, const char *name, void *data,
                                size_t length, struct vmm_error *err);
/** A pointer to the bytes, valid while the reader is and not aligned, and their length. */
VMM_API int vmm_state_get_blob(struct vmm_state_reader *r, const char *name, const void **data,
                               size_t *length, struct vmm_error *err);
/** A zero-terminated string, valid while the reader is. */
VMM_API int vmm_state_get_string(struct vmm_state_reader *r, const char *name, const char **text,
                                 struct vmm_error *err);

VMM_END_DECLS

#endif
