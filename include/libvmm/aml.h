/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file aml.h
 * A builder of ACPI machine language (ACPI 6.5 chapter 20), for boards and for devices that describe
 * themselves to the guest.
 *
 * AML puts the operator before its operands, so code is written in that order: to store the AND of
 * Local0 and 1 in Local1, call
 *
 *     vmm_aml_op(a, VMM_AML_STORE); vmm_aml_op(a, VMM_AML_AND);
 *     vmm_aml_local(a, 0); vmm_aml_int(a, 1); vmm_aml_op(a, VMM_AML_NULL); vmm_aml_local(a, 1);
 *
 * Blocks are opened by …_begin() and closed by vmm_aml_end(). Errors stick: the first is returned by
 * vmm_aml_finish(), so a row of calls needs one check. A builder belongs to one thread.
 */
#ifndef LIBVMM_AML_H
#define LIBVMM_AML_H

#include <libvmm/types.h>

VMM_BEGIN_DECLS

struct vmm_aml;

VMM_API int vmm_aml_new(struct vmm_aml **out);
VMM_API struct vmm_aml *vmm_aml_free(struct vmm_aml *aml);
/** The bytes so far (no table header); the builder's, until the next call. -EINVAL: a block is open
 *  or a name or number was wrong, -ENOMEM. */
VMM_API int vmm_aml_finish(struct vmm_aml *aml, const void **data, size_t *length);

/* Blocks. A path is as ASL writes it: "\\_SB.PCI0", "^FOO", "COM1"; short names are padded. */
VMM_API void vmm_aml_scope_begin(struct vmm_aml *aml, const char *path);
VMM_API void vmm_aml_device_begin(struct vmm_aml *aml, const char *path);
VMM_API void vmm_aml_method_begin(struct vmm_aml *aml, const char *path, uint32_t args,
                                  bool serialized);
VMM_API void vmm_aml_if_begin(struct vmm_aml *aml); /**< the condition follows, then the body */
VMM_API void vmm_aml_else_begin(struct vmm_aml *aml);
VMM_API void vmm_aml_while_begin(struct vmm_aml *aml);
VMM_API void vmm_aml_package_begin(struct vmm_aml *aml, uint32_t elements); /**< at most 255 */
/** Fields of an operation region. @param access 1, 2, 4, 8 bytes; others: any */
VMM_API void vmm_aml_field_begin(struct vmm_aml *aml, const char *region, uint32_t access,
                                 bool lock);
VMM_API void vmm_aml_end(struct vmm_aml *aml);

/* Inside a field: a name and its bits, or bits without a name (NULL). */
VMM_API void vmm_aml_field_unit(struct vmm_aml *aml, const char *name, uint32_t bits);

/* Objects and terms */
VMM_API void vmm_aml_name(struct vmm_aml *aml,
                          const char *path); /**< Name(path, …): the object follows */
VMM_API void vmm_aml_name_int(struct vmm_aml *aml, const char *path, uint64_t value);
VMM_API void vmm_aml_name_string(struct vmm_aml *aml, const char *path, const char *text);
/** Name(path, EISAID(id)), such as "PNP0501". */
VMM_API void vmm_aml_name_eisaid(struct vmm_aml *aml, const char *path, const char *id);
VMM_API void vmm_aml_int(struct vmm_aml *aml, uint64_t value);
VMM_API void vmm_aml_string(struct vmm_aml *aml, const char *text); /**< ASCII */
VMM_API void vmm_aml_buffer(struct vmm_aml *aml, const void *data, size_t length);
VMM_API void vmm_aml_path(struct vmm_aml *aml, const char *path); /**< a reference, or a call */
VMM_API void vmm_aml_arg(struct vmm_aml *aml, uint32_t number);   /**< Arg0 to Arg6 */
VMM_API void vmm_aml_local(struct vmm_aml *aml, uint32_t number); /**< Local0 to Local7 */

/* Operators (ACPI 6.5, 20.3); the operands follow by further calls. */
#define VMM_AML_NULL        0x00u /**< also: no target */
#define VMM_AML_STORE       0x70u
#define VMM_AML_ADD         0x72u
#define VMM_AML_SUBTRACT    0x74u
#define VMM_AML_AND         0x7bu
#define VMM_AML_OR          0x7du
#define VMM_AML_SHIFT_LEFT  0x79u
#define VMM_AML_SHIFT_RIGHT 0x7au
#define VMM_AML_NOTIFY      0x86u
#define VMM_AML_SIZE_OF     0x87u
#define VMM_AML_INDEX       0x88u
#define VMM_AML_LAND        0x90u
#define VMM_AML_LOR         0x91u
#define VMM_AML_LNOT        0x92u
#define VMM_AML_LEQUAL      0x93u
#define VMM_AML_LGREATER    0x94u
#define VMM_AML_LLESS       0x95u
#define VMM_AML_RETURN      0xa4u
#define VMM_AML_ACQUIRE     0x5b23u
#define VMM_AML_RELEASE     0x5b27u
VMM_API void vmm_aml_op(struct vmm_aml *aml, uint32_t op);

/** OperationRegion. @param space 0: memory, 1: I/O ports, 2: PCI configuration */
VMM_API void vmm_aml_region(struct vmm_aml *aml, const char *name, uint8_t space, uint64_t address,
                            uint64_t length);
VMM_API void vmm_aml_mutex(struct vmm_aml *aml, const char *name);

/* Resource templates (ACPI 6.5, 6.4): begin, descriptors, vmm_aml_end(). */
VMM_API void vmm_aml_resources_begin(struct vmm_aml *aml);
VMM_API void vmm_aml_io(struct vmm_aml *aml, uint16_t address, uint8_t length);
/** An ISA interrupt, edge-triggered, active high. */
VMM_API void vmm_aml_irq(struct vmm_aml *aml, uint32_t irq);
VMM_API void vmm_aml_interrupt(struct vmm_aml *aml, uint32_t gsi, bool level, bool active_low,
                               bool shared);
VMM_API void vmm_aml_memory32(struct vmm_aml *aml, uint32_t address, uint32_t length, bool write);

#define VMM_AML_SPACE_MEMORY 0u
#define VMM_AML_SPACE_PORTS  1u
#define VMM_AML_SPACE_BUSES  2u
/** A window of a bridge; `bits` is 16, 32 or 64. Memory: `prefetchable` makes it cacheable too. */
VMM_API void vmm_aml_window(struct vmm_aml *aml, uint32_t space, uint32_t bits, uint64_t first,
                            uint64_t last, bool prefetchable);

VMM_END_DECLS

#endif
