/* SPDX-License-Identifier: BSD-3-Clause */
/* What the stock network backends share. */
#ifndef BACKENDS_NET_NET_H
#define BACKENDS_NET_NET_H

#include <libvmm/net.h>

/* A reference for the length of a backend's own callback, so that the user may drop the last one in
 * there; false when the net is going already. */
bool vmm_net_try_ref(struct vmm_net *net);
/* What a backend was made with, if it is of the kind that `destroy` ends; else NULL. */
void *vmm_net_ctx(const struct vmm_net *net, void (*destroy)(void *ctx));

#endif
