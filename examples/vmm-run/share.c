/* SPDX-License-Identifier: BSD-3-Clause */
/* --share: folders of the host for the guest. */
#include "share.h"

#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

const char *share_parse(struct share_options *options, char *text)
{
    if (options->count == SHARES_MAX)
        return "that is one too many";
    struct share_option *s = &options->share[options->count++];
    s->folder = strsep(&text, ",");
    while (text) {
        char *key = strsep(&text, ",");
        if (strncmp(key, "tag=", 4) == 0)
            s->tag = key + 4;
        else if (strcmp(key, "readonly=on") == 0 || strcmp(key, "readonly=off") == 0)
            s->read_only = key[10] == 'n';
        else
            return "the keys are tag=NAME and readonly=on";
    }
    return s->tag && *s->tag ? NULL : "it needs tag=NAME, by which the guest mounts it";
}

/* A guest holds many files at a time, and each takes descriptors: have as many as are allowed. */
static void want_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int add_one(const struct share_option *option, uint32_t number, struct vmm_machine *machine,
                   struct vmm_error *err)
{
    char name[16];
    struct vmm_share_options s = VMM_SHARE_OPTIONS_INIT;
    struct vmm_virtio_place place = VMM_VIRTIO_PLACE_INIT;
    struct vmm_virtio_9p_options o = VMM_VIRTIO_9P_OPTIONS_INIT;
    struct vmm_virtio *virtio;
    s.path = option->folder;
    s.read_only = option->read_only;
    /* Only root can give files to others. */
    s.owner = geteuid() == 0 ? VMM_SHARE_OWNER_PASSTHROUGH : VMM_SHARE_OWNER_MAPPED;
    int rc = vmm_share_new(&s, &o.share, err);
    if (rc)
        return rc;
    (void)snprintf(name, sizeof(name), "share%u", number);
    place.name = name;
    place.vm = vmm_machine_vm(machine);
    place.memory = vmm_machine_memory(machine);
    place.loop = vmm_machine_loop(machine);
    o.tag = option->tag;
    o.worker = 1;
    rc = vmm_virtio_9p_new(&place, &o, &virtio, err);
    vmm_share_unref(o.share);
    if (rc)
        return rc;
    rc = vmm_machine_add_virtio(machine, virtio, err);
    vmm_virtio_unref(virtio);
    return rc;
}

int share_add(const struct share_options *options, struct vmm_machine *machine,
              struct vmm_error *err)
{
    int rc = 0;
    if (options->count)
        want_descriptors();
    for (uint32_t i = 0; i < options->count && !rc; i++)
        rc = add_one(&options->share[i], i, machine, err);
    return rc;
}
