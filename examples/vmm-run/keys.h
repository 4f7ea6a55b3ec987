/* SPDX-License-Identifier: BSD-3-Clause */
/* Keys and pointers on their way to the guest: from viewers, --keys and the control socket. */
#ifndef VMM_RUN_KEYS_H
#define VMM_RUN_KEYS_H

#include "ports.h"

#include <libvmm/vmm.h>

#define KEYS_MAX 16

struct keys_options {
    struct {
        const char *text;
        uint32_t seconds;
    } typed[KEYS_MAX];
    uint32_t count;
};

struct keys;

/* TEXT@SECONDS, cut up in place; NULL, or what is wrong. */
const char *keys_parse(struct keys_options *options, char *text);

/* What is on `seat` (NULL: nobody looks, and keys_type() alone is heard) reaches the machine's virtio keyboards and
 * pointers where their driver listens, else those of the PC's controller. Everything given is kept alive by the caller. */
int keys_new(const struct keys_options *options, struct vmm_machine *machine,
             const struct ports *ports, struct vmm_seat *seat, struct keys **out);
/* The guest begins to run: --keys counts from here. */
int keys_start(struct keys *keys);
void keys_free(struct keys *keys);

/* Type, a key at a time: characters, and <enter>, <esc>, <up>, <f1>, <ctrl-alt-delete>. -EINVAL: a key that is not known or a
 * character that no key has; -EBUSY: too much waits already. */
int keys_type(struct keys *keys, const char *text);

#endif
