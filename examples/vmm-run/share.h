/* SPDX-License-Identifier: BSD-3-Clause */
/* --share: folders of the host for the guest. */
#ifndef VMM_RUN_SHARE_H
#define VMM_RUN_SHARE_H

#include <libvmm/vmm.h>

#define SHARES_MAX 8

struct share_option {
    const char *folder;
    const char *tag;
    bool read_only;
};

struct share_options {
    struct share_option share[SHARES_MAX];
    uint32_t count;
};

/* DIR,tag=T[,readonly=on]; the argument is cut up in place. NULL, or what is wrong with it. */
const char *share_parse(struct share_options *options, char *text);
int share_add(const struct share_options *options, struct vmm_machine *machine,
              struct vmm_error *err);

#endif
