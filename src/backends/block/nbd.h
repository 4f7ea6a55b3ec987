/* SPDX-License-Identifier: BSD-3-Clause */
/* A disk over the network: what its connections (nbd.c) and its commands (nbd_command.c) share. */
#ifndef BACKENDS_BLOCK_NBD_H
#define BACKENDS_BLOCK_NBD_H

#include "backends/block/block-driver.h"

#include "backends/block/nbd_library.h"

#include <libvmm/nbd.h>

#include <pthread.h>

#define VMM_NBD_WORD_COMMAND 3
#define VMM_NBD_WORD_RESULT  4 /* without a command */
#define VMM_NBD_WORD_PHASE   5

#define VMM_NBD_PART_MAX       (32u << 20) /* of data */
#define VMM_NBD_RANGE_PART_MAX (1u << 30)

enum vmm_nbd_phase {
    VMM_NBD_MAIN,
    VMM_NBD_FLUSH
}; /* a durable write where the server knows no FUA */
enum vmm_nbd_state { VMM_NBD_DOWN, VMM_NBD_CONNECTING, VMM_NBD_UP };

struct vmm_nbd_connection {
    struct vmm_nbd *nbd;
    struct nbd_handle *handle;
    struct vmm_source *source;
    enum vmm_nbd_state state;
    uint64_t retry_at, backoff;
};

struct vmm_nbd {
    struct vmm_nbd_library lib;
    struct vmm_block *block;
    struct vmm_loop *loop;
    struct vmm_timer *timer;
    char *uri, *tls_certificates, *tls_psk_file;
    uint64_t length, reconnect_ns, lost_since;
    uint32_t block_size, optimal_size, part_max;
    bool read_only, can_flush, can_fua, can_trim, can_zero, has_extents, flush_failed;
    uint32_t count, next; /* connections */
    struct vmm_nbd_connection connections[VMM_BLOCK_NBD_CONNECTIONS_MAX];
    pthread_mutex_t handles, lock;
    struct vmm_block_list waiting, ended; /* guarded by the lock; the next too */
    uint32_t under_way;
};

/* A request with the server. */
struct vmm_nbd_command {
    struct vmm_nbd *nbd;
    struct vmm_block_request *request;
    uint8_t *buffer; /* NULL: the vector's only entry */
    uint32_t left;   /* parts; guarded by the lock */
    int result;
    bool lost; /* with the connection */
};

/* nbd_command.c -------------------------------------------------------------------------------- */

/* A part of the command has ended, with 0 or a positive errno. From any thread. */
void vmm_nbd_part_ended(struct vmm_nbd_command *c, int error);
/* How much goes at a time; the buffer that it needs. -ENOMEM. */
int vmm_nbd_prepare(struct vmm_nbd_command *c, uint64_t *most);
void vmm_nbd_issue_parts(struct nbd_handle *h, struct vmm_nbd_command *c, uint64_t most);
void vmm_nbd_issue_flush(struct nbd_handle *h, struct vmm_nbd_command *c);

#endif
