/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The control socket: one command a line in, one JSON object a line out. docs/control.md has them all.
 */
#ifndef VMM_RUN_CONTROL_H
#define VMM_RUN_CONTROL_H

#include "disks.h"
#include "display.h"
#include "drives.h"
#include "keys.h"
#include "plug.h"
#include "ports.h"

#include <libvmm/vmm.h>

struct control;

/* Listen at `path` (made with mode 0600, removed at the end). Commands run on the loop's thread.
 * `balloon` is the machine's, or NULL. */
int control_new(struct vmm_machine *machine, struct disks *disks, struct drives *drives,
                struct vmm_virtio *balloon, const char *path, struct control **out,
                struct vmm_error *err);
/* Where "plug" and "unplug" have their slots. */
void control_set_plug(struct control *control, struct plug *plug);
/* What "key" and "pointer" go to. */
void control_set_ports(struct control *control, const struct ports *ports);
/* NULL: there is none. */
void control_set_display(struct control *control, struct display *display);
void control_set_keys(struct control *control, struct keys *keys);
void control_free(struct control *control);

#endif
