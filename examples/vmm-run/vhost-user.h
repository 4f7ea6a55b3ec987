/* SPDX-License-Identifier: BSD-3-Clause */
/* --vhost-user: devices of other processes. */
#ifndef VMM_RUN_VHOST_USER_H
#define VMM_RUN_VHOST_USER_H

#include <libvmm/vmm.h>

#define VHOST_USERS_MAX 8

struct vhost_user_option {
    const char *path;
    const char *tag; /* NULL: a disk */
    uint32_t queues;
};

struct vhost_user_options {
    struct vhost_user_option device[VHOST_USERS_MAX];
    uint32_t count;
};

/* blk:PATH[,queues=N] or fs:PATH,tag=T; the argument is cut up in place. NULL, or what is wrong. */
const char *vhost_user_parse(struct vhost_user_options *options, char *text);
int vhost_user_add(const struct vhost_user_options *options, struct vmm_machine *machine,
                   struct vmm_error *err);

#endif
