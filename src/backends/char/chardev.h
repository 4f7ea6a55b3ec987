/* SPDX-License-Identifier: BSD-3-Clause */
/* The object behind every character backend. */
#ifndef BACKENDS_CHAR_CHARDEV_H
#define BACKENDS_CHAR_CHARDEV_H

#include <libvmm/chardev.h>

struct vmm_char_terminal;

/* What only the stock backends have. Set once, before the chardev is handed out; the strings and
 * structures belong to the backend. */
void vmm_chardev_set_path(struct vmm_chardev *chardev, const char *path);
void vmm_chardev_set_terminal(struct vmm_chardev *chardev, struct vmm_char_terminal *terminal);
/* A reference for the length of a backend's own callback, so that the user may drop the last one in
 * there; false when the chardev is going already. */
bool vmm_chardev_try_ref(struct vmm_chardev *chardev);
/* The backend's context, if it is the one with this write function; else NULL. */
void *vmm_chardev_backend(struct vmm_chardev *chardev,
                          long (*write)(void *ctx, const uint8_t *data, size_t length));

#endif
