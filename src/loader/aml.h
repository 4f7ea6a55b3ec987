/* SPDX-License-Identifier: BSD-3-Clause */
/* The inside of the AML builder, shared by its terms, its descriptors and the usual nodes. */
#ifndef LOADER_AML_H
#define LOADER_AML_H

#include <libvmm/aml.h>

#define AML_DEPTH_MAX 31u

enum aml_kind {
    AML_OBJECTS,   /* the table, scopes, devices: named objects */
    AML_CODE,      /* methods, If, Else, While: statements too */
    AML_PACKAGE,   /* elements */
    AML_FIELD,     /* units */
    AML_RESOURCES, /* descriptors */
};

struct aml_block {
    enum aml_kind kind;
    bool is_if;        /* an Else may follow it */
    bool data_only;    /* the operand that is due must be a data object */
    uint32_t operands; /* due before the next statement; of a package: elements that may follow */
    size_t start;      /* where the PkgLength goes when the block ends */
};

struct vmm_aml {
    uint8_t *data;
    size_t length, room;
    size_t if_end; /* where the last If ended, so that an Else may begin; SIZE_MAX: elsewhere */
    uint32_t depth;
    struct aml_block blocks[AML_DEPTH_MAX + 1]; /* the first is the table */
    struct vmm_error error;                     /* the first: sticks */
};

/* Keep the first error. */
void vmm_aml_fail(struct vmm_aml *aml, int code, const char *format, ...) VMM_PRINTF(3, 4);
/* Append bytes, unless there was an error. */
void vmm_aml_put(struct vmm_aml *aml, const void *data, size_t length);
/* Append a little-endian integer of `width` bytes. */
void vmm_aml_put_le(struct vmm_aml *aml, uint64_t value, size_t width);

#endif
