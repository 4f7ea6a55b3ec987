/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef BASE_STATE_H
#define BASE_STATE_H

#include <libvmm/state.h>

/* Make the writer fail with `code` from now on, if it has not failed already: what a device could
 * not save completely must not become a snapshot. Returns the code that sticks. */
int vmm_state_fail(struct vmm_state_writer *w, int code);

#endif
