/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The console device from the inside.
 *
 * Locks: what is on its way to the driver is guarded by its queue's lock, and so is how far a chain has
 * been written out; all the rest by the device's own, the innermost.
 */
#ifndef DEVICES_VIRTIO_CONSOLE_H
#define DEVICES_VIRTIO_CONSOLE_H

#include "devices/virtio/internal.h"

#include <libvmm/console.h>

#define CONSOLE_BUFFER 4096u /* bytes that have come from a backend and wait for the driver */

enum { CONSOLE_CONTROL_OUT = 2, CONSOLE_CONTROL_IN }; /* queues */

/* Messages that wait for the driver, in the order in which it gets them. */
enum {
    OWES_ADD = 1,
    OWES_CONSOLE = 2,
    OWES_NAME = 4,
    OWES_RESIZE = 8,
    OWES_OPEN = 16,
    OWES_ALL = 31,
};

struct console_port {
    struct console *console;
    struct vmm_chardev *chardev;
    struct vmm_virtio_queue *to_driver, *from_driver;
    uint32_t number;
    char name[VMM_CONSOLE_NAME_MAX + 1];
    bool is_console;
    bool host_open;
    /* As the driver has it. */
    bool ready, guest_open;
    uint32_t owed;
    uint16_t columns, rows;
    /* to_driver's lock */
    uint8_t bytes[CONSOLE_BUFFER];
    uint32_t first, used;
    /* from_driver's lock: bytes of the next chain that have been written out already */
    uint64_t written;
};

struct console {
    struct vmm_virtio *virtio;
    struct vmm_virtio_chain *chain; /* any queue's: all are worked on by the loop's thread */
    struct vmm_virtio_chain *chain_out;
    pthread_mutex_t lock;
    bool multiport; /* as negotiated */
    bool sizes;
    bool rows_first;
    uint32_t port_count;
    struct console_port ports[];
};

/* console-control.c */
/* The queues of control messages; their locks are held. */
void vmm_console_send_control(struct console *c);
void vmm_console_receive_control(struct console *c);

/* Is somebody there who takes input? The device's own lock is held. */
bool vmm_console_listens(const struct console_port *p);

/* console-state.c */
int vmm_console_save(void *ctx, struct vmm_state_writer *w);
int vmm_console_load(void *ctx, struct vmm_state_reader *r, struct vmm_error *err);

#endif
