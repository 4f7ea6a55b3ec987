/* SPDX-License-Identifier: BSD-3-Clause */
/* --vhost-user: devices of other processes. */
#include "vhost-user.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool take_queues(const char *text, uint32_t *queues)
{
    char *end;
    unsigned long n = strtoul(text, &end, 10);
    *queues = (uint32_t)n;
    return *text && !*end && n >= 1 && n <= 64;
}

static const char *take_key(struct vhost_user_option *d, const char *key)
{
    if (d->kind == VHOST_USER_FS && strncmp(key, "tag=", 4) == 0)
        d->tag = key + 4;
    else if (d->kind != VHOST_USER_BLK || strncmp(key, "queues=", 7) != 0 ||
             !take_queues(key + 7, &d->queues))
        return "a disk may have queues=N (1 to 64), a file system has tag=TAG, a network card none";
    return NULL;
}

const char *vhost_user_parse(struct vhost_user_options *options, char *text)
{
    static const char *const kinds[] = {"blk", "fs", "net"};
    if (options->count == VHOST_USERS_MAX)
        return "that is one too many";
    struct vhost_user_option *d = &options->device[options->count++];
    const char *kind = strsep(&text, ":");
    while (d->kind < 3 && strcmp(kind, kinds[d->kind]) != 0)
        d->kind++;
    if (!text || d->kind == 3)
        return "it is blk:PATH, fs:PATH,tag=TAG or net:PATH";
    d->path = strsep(&text, ",");
    while (text) {
        const char *wrong = take_key(d, strsep(&text, ","));
        if (wrong)
            return wrong;
    }
    return d->kind != VHOST_USER_FS || (d->tag && *d->tag) ? NULL : "a file system needs tag=TAG";
}

static int add_one(const struct vhost_user_option *option, uint32_t number,
                   struct vmm_machine *machine, struct vmm_error *err)
{
    char name[16];
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_vhost_user_options o = VMM_VHOST_USER_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    (void)snprintf(name, sizeof(name), "vhost%u", number);
    place.name = name;
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = vmm_machine_loop(machine);
    o.path = option->path;
    o.tag = option->tag;
    o.queues = option->queues;
    int rc = option->kind == VHOST_USER_FS    ? vmm_vhost_user_fs_new(&place, &o, &virtio, err)
             : option->kind == VHOST_USER_NET ? vmm_vhost_user_net_new(&place, &o, &virtio, err)
                                              : vmm_vhost_user_blk_new(&place, &o, &virtio, err);
    if (rc)
        return rc;
    rc = vmm_machine_add_virtio(machine, virtio, err);
    vmm_virtio_unref(virtio);
    return rc;
}

int vhost_user_add(const struct vhost_user_options *options, struct vmm_machine *machine,
                   struct vmm_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; i < options->count && !rc; i++)
        rc = add_one(&options->device[i], i, machine, err);
    return rc;
}
