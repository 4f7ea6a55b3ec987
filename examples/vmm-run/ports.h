/* SPDX-License-Identifier: BSD-3-Clause */
/* --vsock: sockets between guest and host. */
#ifndef VMM_RUN_PORTS_H
#define VMM_RUN_PORTS_H

#include <libvmm/vmm.h>

struct port_options {
    const char *vsock_path; /* NULL: none */
    uint64_t vsock_cid;
};

/* CID,PATH; the argument is cut up in place. NULL, or what is wrong with it. */
const char *ports_parse_vsock(struct port_options *options, char *text);
/* Put the devices on the machine. */
int ports_add(const struct port_options *options, struct vmm_machine *machine,
              struct vmm_error *err);

#endif
