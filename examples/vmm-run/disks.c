/* SPDX-License-Identifier: BSD-3-Clause */
/* The disks' host side: each is a stack of block devices, the image at the bottom. */
#include "disks.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS      4
#define CONNECTIONS  4
#define RETRY_NS     1000000000ull  /* is there room again? */
#define RECONNECT_NS 60000000000ull /* how long a guest waits for its server */

void disks_init(struct disks *disks, struct vmm_machine *machine)
{
    *disks = (struct disks){.machine = machine};
}

static int open_raw(struct vmm_loop *loop, const struct disk_option *d, bool read_only,
                    struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    o.path = d->file;
    o.read_only = read_only;
    o.threads = THREADS;
    o.cache = d->cache;
    o.engine = d->engine;
    return vmm_block_raw_new(loop, &o, out, err);
}

static int open_qcow2(struct vmm_loop *loop, const struct disk_option *d, bool read_only,
                      struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    o.path = d->file;
    o.flags = (read_only ? VMM_QCOW2_READ_ONLY : 0) | (d->backing ? VMM_QCOW2_FOLLOW : 0);
    o.threads = THREADS;
    return vmm_block_qcow2_new(loop, &o, out, err);
}

static int open_nbd(struct vmm_loop *loop, const struct disk_option *d, bool read_only,
                    struct vmm_block **out, struct vmm_error *err)
{
    struct vmm_block_nbd_options o = VMM_BLOCK_NBD_OPTIONS_INIT;
    o.uri = d->file;
    o.read_only = read_only;
    o.connections = CONNECTIONS;
    o.reconnect_ns = RECONNECT_NS;
    return vmm_block_nbd_new(loop, &o, out, err);
}

static int open_image(struct vmm_loop *loop, const struct disk_option *d, struct vmm_block **out,
                      struct vmm_error *err)
{
    bool read_only = d->read_only || d->snapshot;
    if (d->format == DISK_RAW)
        return open_raw(loop, d, read_only, out, err);
    if (d->format == DISK_QCOW2)
        return open_qcow2(loop, d, read_only, out, err);
    return open_nbd(loop, d, read_only, out, err);
}

/* `*block` becomes what `rc` says was made over it; the reference below goes either way. */
static int put_over(struct vmm_block **block, struct vmm_block *above, int rc)
{
    vmm_block_unref(*block);
    *block = rc ? NULL : above;
    return rc;
}

/* A temporary file, for memory may be scarce. */
static int add_overlay(struct vmm_block **block, struct vmm_error *err)
{
    struct vmm_block_overlay_options o = VMM_BLOCK_OVERLAY_OPTIONS_INIT;
    struct vmm_block *above = NULL;
    o.folder = getenv("TMPDIR");
    if (!o.folder)
        o.folder = "/var/tmp";
    o.threads = THREADS;
    int rc = vmm_block_overlay_new(*block, &o, &above, err);
    return put_over(block, above, rc);
}

static int add_throttle(struct vmm_block **block, const struct disk_option *d,
                        struct vmm_error *err)
{
    struct vmm_block_throttle_options o = VMM_BLOCK_THROTTLE_OPTIONS_INIT;
    struct vmm_block *above = NULL;
    o.iops = d->iops;
    o.bandwidth = d->bandwidth;
    int rc = vmm_block_throttle_new(*block, &o, &above, err);
    return put_over(block, above, rc);
}

/* On the machine's loop: it alone pauses. */
static void went_wrong(struct disks *disks, uint32_t event, const struct vmm_block_failure *failure)
{
    static const char *const names[] = {"read", "write", "flush", "discard", "write of zeroes"};
    if (event == VMM_BLOCK_GOES_ON) {
        if (!disks->stopped)
            return;
        fputs("vmm-run: the disk works again, the VM goes on\r\n", stderr);
        disks->stopped--;
        (void)vmm_machine_resume(disks->machine);
        return;
    }
    fprintf(stderr, "vmm-run: a disk failed, the VM is stopped: %s of %llu bytes at %llu: %s\r\n",
            names[failure->op], (unsigned long long)failure->length,
            (unsigned long long)failure->offset, strerror(-failure->result));
    if (vmm_machine_pause(disks->machine) == 0)
        disks->stopped++;
}

/* What an I/O thread has to say. */
struct news {
    struct disks *disks;
    uint32_t event;
    struct vmm_block_failure failure;
};

static void tell(void *ctx)
{
    struct news *news = ctx;
    if (news->disks->machine)
        went_wrong(news->disks, news->event, &news->failure);
    free(news);
}

static void failed(void *ctx, struct vmm_block *block, uint32_t event,
                   const struct vmm_block_failure *failure)
{
    struct disks *disks = ctx;
    struct vmm_machine *machine = disks->machine;
    if (!machine) /* it goes */
        return;
    if (vmm_block_loop(block) == vmm_machine_loop(machine)) {
        went_wrong(disks, event, failure);
        return;
    }
    struct news *news = malloc(sizeof(*news));
    if (!news)
        return;
    *news = (struct news){.disks = disks, .event = event};
    if (failure)
        news->failure = *failure;
    if (vmm_loop_post(vmm_machine_loop(machine), tell, news))
        free(news);
}

static int add_policy(struct disks *disks, struct vmm_block **block, const struct disk_option *d,
                      struct vmm_error *err)
{
    struct vmm_block_policy_options o = VMM_BLOCK_POLICY_OPTIONS_INIT;
    struct vmm_block *above = NULL;
    if (d->on_error_given)
        o.on_error = o.on_no_space = d->on_error;
    o.retry_ns = RETRY_NS;
    o.event = failed;
    o.ctx = disks;
    int rc = vmm_block_policy_new(*block, &o, &above, err);
    if (!rc)
        disks->policies[disks->count++] = vmm_block_ref(above);
    return put_over(block, above, rc);
}

int disks_open(struct disks *disks, struct vmm_loop *loop, const struct disk_option *d,
               struct vmm_block **out, struct vmm_error *err)
{
    int rc = open_image(loop, d, out, err);
    if (!rc && d->snapshot)
        rc = add_overlay(out, err);
    if (!rc && (d->iops || d->bandwidth))
        rc = add_throttle(out, d, err);
    if (!rc)
        rc = add_policy(disks, out, d, err);
    return rc;
}

void disks_close(struct disks *disks, struct vmm_block *block)
{
    for (uint32_t i = 0; i < disks->count; i++) {
        if (disks->policies[i] != block)
            continue;
        disks->policies[i] = disks->policies[--disks->count];
        vmm_block_unref(block);
        break;
    }
    vmm_block_unref(block);
}

bool disks_stopped(const struct disks *disks)
{
    return disks->stopped > 0;
}

/* On the disk's loop. */
static void retry(void *ctx)
{
    (void)vmm_block_policy_retry(ctx);
}

void disks_retry(struct disks *disks)
{
    for (uint32_t i = 0; i < disks->count; i++)
        if (vmm_block_loop(disks->policies[i]) == vmm_machine_loop(disks->machine))
            retry(disks->policies[i]);
        else
            (void)vmm_loop_post(vmm_block_loop(disks->policies[i]), retry, disks->policies[i]);
}

void disks_forget(struct disks *disks)
{
    for (uint32_t i = 0; i < disks->count; i++)
        vmm_block_unref(disks->policies[i]);
    disks->count = 0;
    disks->machine = NULL;
}
