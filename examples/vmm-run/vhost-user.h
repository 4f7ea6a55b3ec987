/* SPDX-License-Identifier: BSD-3-Clause */
/* --vhost-user: devices of other processes. */
#ifndef VMM_RUN_VHOST_USER_H
#define VMM_RUN_VHOST_USER_H

#include <libvmm/vmm.h>

#define VHOST_USERS_MAX 8

enum { VHOST_USER_BLK, VHOST_USER_FS, VHOST_USER_NET };

struct vhost_user_option {
    const char *path;
    uint32_t kind;   /* VHOST_USER_… */
    const char *tag; /* a file system's */
    uint32_t queues;
};

struct vhost_user_options {
    struct vhost_user_option device[VHOST_USERS_MAX];
    uint32_t count;
};

/* blk:PATH[,queues=N], fs:PATH,tag=T or net:PATH; the argument is cut up in place. NULL, or what is wrong. */
const char *vhost_user_parse(struct vhost_user_options *options, char *text);
int vhost_user_add(const struct vhost_user_options *options, struct vmm_machine *machine,
                   struct vmm_error *err);

#endif
