/* SPDX-License-Identifier: BSD-3-Clause */
/* The compressed kernels inside bzImages. Each ends in its unpacked size, four bytes little-endian. */
#ifndef LOADER_UNPACK_H
#define LOADER_UNPACK_H

#include <libvmm/error.h>

/* What a kernel may unpack to; the largest distribution kernels are some 80 MiB. */
#define VMM_UNPACK_MAX (512u << 20)
/* A kernel gets some five times as large. A lie must not cost memory. */
#define VMM_UNPACK_RATIO 256u

/* Unpack into a malloc()ed buffer. -ENOTSUP: a compression that this build lacks, or none that is
 * known. -ENOEXEC: damaged, or not of the size that it claims. */
int vmm_unpack(const uint8_t *data, size_t length, uint8_t **out, size_t *out_length,
               struct vmm_error *err);

#endif
