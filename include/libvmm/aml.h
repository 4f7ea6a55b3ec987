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
 * Blocks are opened by …_begin() and closed by vmm_aml_end().
 *
 * The structure is checked as it is written: an operator with too few or too many operands, code
 * outside of a method, a descriptor outside of a resource template, a malformed name are refused.
 * Types are not: whether an operand is a number, and whether a name exists, is seen by the guest.
 * Errors stick: the first is returned by vmm_aml_finish(), and vmm_aml_error() says where and what,
 * so a row of calls needs one check. A builder belongs to one thread.
 */
#ifndef LIBVMM_AML_H
#define LIBVMM_AML_H

#include <libvmm/error.h>

VMM_BEGIN_DECLS

struct vmm_aml;

VMM_API int vmm_aml_new(struct vmm_aml **out);
VMM_API struct vmm_aml *vmm_aml_free(struct vmm_aml *aml);
/** The bytes so far (no table header); the builder's, until the next call. -EINVAL: a block is open,
 *  an operand missing, or what was written is not sound AML; -E2BIG: above a limit of the encoding
 *  (a block of 256 MiB, 255 elements in a package, 31 blocks inside each other); -ENOMEM. */
VMM_API int vmm_aml_finish(struct vmm_aml *aml, const void **data, size_t *length);
/** The first error, with a text that says at which byte; 0: none so far. */
VMM_API int vmm_aml_error(const struct vmm_aml *aml, struct vmm_error *err);

/* Blocks. A path is as ASL writes it: "\\_SB.PCI0", "^FOO", "COM1"; short names are padded. */
VMM_API void vmm_aml_scope_begin(struct vmm_aml *aml, const char *path);
VMM_API void vmm_aml_device_begin(struct vmm_aml *aml, const char *path);
VMM_API void vmm_aml_method_begin(struct vmm_aml *aml, const char *path, uint32_t args,
                                  bool serialized);
VMM_API void vmm_aml_if_begin(struct vmm_aml *aml);    /**< the condition follows, then the body */
VMM_API void vmm_aml_else_begin(struct vmm_aml *aml);  /**< directly after the end of an If */
VMM_API void vmm_aml_while_begin(struct vmm_aml *aml); /**< as If */
/** @param elements  at most 255; as many or fewer follow, the others are uninitialized */
VMM_API void vmm_aml_package_begin(struct vmm_aml *aml, uint32_t elements);
/** Fields of an operation region. @param access 1, 2, 4, 8 bytes; 0: any */
VMM_API void vmm_aml_field_begin(struct vmm_aml *aml, const char *region, uint32_t access,
                                 bool lock);
VMM_API void vmm_aml_end(struct vmm_aml *aml);

/* Inside a field: a name and its bits (1 to 0xfffffff), or bits without a name (NULL). What a write
 * does not reach is preserved by reading it first. */
VMM_API void vmm_aml_field_unit(struct vmm_aml *aml, const char *name, uint32_t bits);

/* Objects and terms */
/** Name(path, …): a data object follows. */
VMM_API void vmm_aml_name(struct vmm_aml *aml, const char *path);
VMM_API void vmm_aml_name_int(struct vmm_aml *aml, const char *path, uint64_t value);
VMM_API void vmm_aml_name_string(struct vmm_aml *aml, const char *path, const char *text);
/** Name(path, EISAID(id)), such as "PNP0501". */
VMM_API void vmm_aml_name_eisaid(struct vmm_aml *aml, const char *path, const char *id);
VMM_API void vmm_aml_int(struct vmm_aml *aml, uint64_t value);
VMM_API void vmm_aml_string(struct vmm_aml *aml, const char *text); /**< ASCII */
VMM_API void vmm_aml_buffer(struct vmm_aml *aml, const void *data, size_t length);
/** EISAID(id): the integer that three letters and four hexadecimal digits are packed into. */
VMM_API void vmm_aml_eisaid(struct vmm_aml *aml, const char *id);
/** ToUUID(text), such as "33db4d5b-1ff7-401c-9657-7441c03dd766": a buffer of 16 bytes. */
VMM_API void vmm_aml_uuid(struct vmm_aml *aml, const char *text);
/** A reference, or a call without arguments. */
VMM_API void vmm_aml_path(struct vmm_aml *aml, const char *path);
/** Call a method; as many operands as it has arguments (at most 7) follow. */
VMM_API void vmm_aml_call(struct vmm_aml *aml, const char *path, uint32_t args);
VMM_API void vmm_aml_arg(struct vmm_aml *aml, uint32_t number);   /**< Arg0 to Arg6 */
VMM_API void vmm_aml_local(struct vmm_aml *aml, uint32_t number); /**< Local0 to Local7 */

/* Operators (ACPI 6.5, 20.3); the operands follow by further calls. T is a target: a name, a local,
 * an argument, an INDEX, or VMM_AML_NULL. Those that say so have no value. */
#define VMM_AML_NULL        0x00u   /**< no target */
#define VMM_AML_STORE       0x70u   /**< value, T */
#define VMM_AML_ADD         0x72u   /**< a, b, T */
#define VMM_AML_CONCAT      0x73u   /**< a, b, T */
#define VMM_AML_SUBTRACT    0x74u   /**< a, b, T */
#define VMM_AML_INCREMENT   0x75u   /**< T */
#define VMM_AML_DECREMENT   0x76u   /**< T */
#define VMM_AML_MULTIPLY    0x77u   /**< a, b, T */
#define VMM_AML_DIVIDE      0x78u   /**< a, b, T of the remainder, T of the quotient */
#define VMM_AML_SHIFT_LEFT  0x79u   /**< a, count, T */
#define VMM_AML_SHIFT_RIGHT 0x7au   /**< a, count, T */
#define VMM_AML_AND         0x7bu   /**< a, b, T */
#define VMM_AML_OR          0x7du   /**< a, b, T */
#define VMM_AML_XOR         0x7fu   /**< a, b, T */
#define VMM_AML_NOT         0x80u   /**< a, T */
#define VMM_AML_DEREF       0x83u   /**< a reference */
#define VMM_AML_MOD         0x85u   /**< a, b, T */
#define VMM_AML_NOTIFY      0x86u   /**< object, value; no value */
#define VMM_AML_SIZE_OF     0x87u   /**< object */
#define VMM_AML_INDEX       0x88u   /**< buffer, string or package; index; T */
#define VMM_AML_DWORD_FIELD 0x8au   /**< CreateDWordField: buffer, byte offset, name; no value */
#define VMM_AML_QWORD_FIELD 0x8fu   /**< CreateQWordField: the same */
#define VMM_AML_LAND        0x90u   /**< a, b */
#define VMM_AML_LOR         0x91u   /**< a, b */
#define VMM_AML_LNOT        0x92u   /**< a */
#define VMM_AML_LEQUAL      0x93u   /**< a, b */
#define VMM_AML_LGREATER    0x94u   /**< a, b */
#define VMM_AML_LLESS       0x95u   /**< a, b */
#define VMM_AML_TO_BUFFER   0x96u   /**< a, T */
#define VMM_AML_TO_INTEGER  0x99u   /**< a, T */
#define VMM_AML_CONTINUE    0x9fu   /**< no operand, no value */
#define VMM_AML_RETURN      0xa4u   /**< value; no value */
#define VMM_AML_BREAK       0xa5u   /**< no operand, no value */
#define VMM_AML_STALL       0x5b21u /**< microseconds; no value */
#define VMM_AML_SLEEP       0x5b22u /**< milliseconds; no value */
#define VMM_AML_RELEASE     0x5b27u /**< mutex; no value */
VMM_API void vmm_aml_op(struct vmm_aml *aml, uint32_t op);
/** Acquire(path, timeout), 0xffff: wait for ever. The value is true when it timed out. */
VMM_API void vmm_aml_acquire(struct vmm_aml *aml, const char *path, uint32_t timeout_ms);

/** OperationRegion. @param space 0: memory, 1: I/O ports, 2: PCI configuration */
VMM_API void vmm_aml_region(struct vmm_aml *aml, const char *name, uint8_t space, uint64_t address,
                            uint64_t length);
VMM_API void vmm_aml_mutex(struct vmm_aml *aml, const char *name);
/** External(path, type): it is defined in another table. @param type 0: unknown, 1: integer,
 *  6: device, 8: method (then @param args, at most 7) */
VMM_API void vmm_aml_external(struct vmm_aml *aml, const char *path, uint32_t type, uint32_t args);
/** The terms of another builder, or of a compiled table after its header, where named objects may
 *  stand. The bytes are not checked. */
VMM_API void vmm_aml_append(struct vmm_aml *aml, const void *terms, size_t length);

/* Resource templates (ACPI 6.5, 6.4): begin, descriptors, vmm_aml_end(). */
VMM_API void vmm_aml_resources_begin(struct vmm_aml *aml);
VMM_API void vmm_aml_io(struct vmm_aml *aml, uint16_t address, uint8_t length);
/** An ISA interrupt, edge-triggered, active high. */
VMM_API void vmm_aml_irq(struct vmm_aml *aml, uint32_t irq);
VMM_API void vmm_aml_interrupt(struct vmm_aml *aml, uint32_t gsi, bool level, bool active_low,
                               bool shared);
VMM_API void vmm_aml_memory32(struct vmm_aml *aml, uint32_t address, uint32_t length, bool write);
/** Memory that the device itself uses, anywhere. */
VMM_API void vmm_aml_memory64(struct vmm_aml *aml, uint64_t address, uint64_t length);

#define VMM_AML_SPACE_MEMORY 0u
#define VMM_AML_SPACE_PORTS  1u
#define VMM_AML_SPACE_BUSES  2u
/** A window of a bridge; `bits` is 16, 32 or 64. Memory: `prefetchable` makes it cacheable too. */
VMM_API void vmm_aml_window(struct vmm_aml *aml, uint32_t space, uint32_t bits, uint64_t first,
                            uint64_t last, bool prefetchable);

VMM_END_DECLS

#endif
