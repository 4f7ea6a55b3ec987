/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * libnbd, loaded when the first disk wants it: it brings TLS, XML and Unicode libraries along, whose loading
 * would cost every program more than the start of a VM does.
 */
#ifndef BACKENDS_BLOCK_NBD_LIBRARY_H
#define BACKENDS_BLOCK_NBD_LIBRARY_H

#include <libvmm/error.h>

#include <libnbd.h>

/* Those of its functions that are used, without the prefix. */
/* clang-format off */
#define VMM_NBD_FUNCTIONS(F) \
    F(add_meta_context) F(aio_connect_uri) F(aio_flush) F(aio_get_direction) F(aio_get_fd) \
    F(aio_is_closed) F(aio_is_dead) F(aio_is_ready) F(aio_notify_read) F(aio_notify_write) \
    F(aio_pread) F(aio_pwrite) F(aio_trim) F(aio_zero) F(block_status) F(can_flush) \
    F(can_fua) F(can_meta_context) F(can_multi_conn) F(can_trim) F(can_zero) F(close) \
    F(connect_uri) F(create) F(get_block_size) F(get_errno) F(get_error) F(get_size) \
    F(is_read_only) F(poll) F(set_tls_certificates) F(set_tls_psk_file) F(shutdown)
/* clang-format on */

struct vmm_nbd_library {
#define F(name) __typeof__(&nbd_##name) name;
    VMM_NBD_FUNCTIONS(F)
#undef F
};

/* -ENOTSUP, with a text: it is not installed. It stays loaded. */
int vmm_nbd_library_load(struct vmm_nbd_library *library, struct vmm_error *err);

#endif
