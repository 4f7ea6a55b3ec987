/* SPDX-License-Identifier: BSD-3-Clause */
/* A file's bytes, wherever they are: reads that cannot leave it. */
#ifndef LOADER_SOURCE_H
#define LOADER_SOURCE_H

#include <libvmm/loader.h>

struct vmm_source {
    const char *name;    /* for messages: "kernel", "initrd" */
    const uint8_t *data; /* NULL: a descriptor */
    uint64_t length;
    int fd;
    bool owned; /* close fd, or free data */
};

#define VMM_SOURCE_NONE                                                                            \
    {                                                                                              \
        "", NULL, 0, -1, false                                                                     \
    }

/* Was a file given at all? */
bool vmm_file_given(const struct vmm_file *file);

/* `name` must outlive the source. */
int vmm_source_open(struct vmm_source *source, const char *name, const struct vmm_file *file,
                    struct vmm_error *err);
/* Take over a malloc()ed buffer. */
void vmm_source_own(struct vmm_source *source, const char *name, void *data, size_t length);
void vmm_source_close(struct vmm_source *source);

/* Is [offset, offset+length) inside the file? */
bool vmm_source_has(const struct vmm_source *source, uint64_t offset, uint64_t length);

/* Copy out; -ENOEXEC when the range is not all in the file, `what` names it in the text. */
int vmm_source_read(const struct vmm_source *source, uint64_t offset, void *data, size_t length,
                    const char *what, struct vmm_error *err);

/* Copy into guest memory, which the caller has checked to be there. */
int vmm_source_load(const struct vmm_source *source, uint64_t offset, uint64_t length,
                    struct vmm_memory *memory, uint64_t address, const char *what,
                    struct vmm_error *err);

#endif
