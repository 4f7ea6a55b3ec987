/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The parts of the NVMe controller (NVM Express 1.4; sections in comments are of that).
 *
 * Threads. Registers are written by vCPUs, commands are carried out on the loop's thread. `lock`
 * protects all but what is atomic; it is taken inside the device's lock, never the other way round. A
 * doorbell takes no lock: it stores its value, sets a bit and wakes the loop.
 *
 * Epoch. A reset of the controller does not wait until requests have ended in the backend, only until
 * nothing touches the guest's memory for them. Their ends find another epoch and are dropped.
 */
#ifndef DEVICES_STORAGE_NVME_INTERNAL_H
#define DEVICES_STORAGE_NVME_INTERNAL_H

#include "base/util.h"

#include <libvmm/nvme.h>

#include <pthread.h>
#include <stdatomic.h>

#define NVME_QUEUES   (VMM_NVME_QUEUES + 1) /* queue 0 is the admin queue */
#define NVME_ENTRIES  1024u                 /* of an I/O queue */
#define NVME_PAGE     4096u
#define NVME_MDTS     7u
#define NVME_TRANSFER (NVME_PAGE << NVME_MDTS)
#define NVME_RANGES   144u /* pieces of guest memory that a command's data may have */
#define NVME_VECTOR   (NVME_RANGES + 16)
#define NVME_AERS     8u
#define NVME_ERRORS   16u /* entries of the error log */
#define NVME_COMMAND  64u
#define NVME_REPLY    16u
#define NVME_ALL      UINT32_MAX /* the namespace ID that means all of them */

/* Registers (§3.1). */
#define NVME_BAR        0u
#define NVME_MSIX_BAR   4u
#define NVME_BAR_LENGTH 0x2000u
#define NVME_DOORBELLS  0x1000u

#define CC_ENABLE     0x1u
#define CSTS_READY    0x1u
#define CSTS_FATAL    0x2u
#define CSTS_SHUTTING 0x4u
#define CSTS_SHUT     0x8u
#define CSTS_SHST     0xcu

/* Status: code type in bits 10:8, code in 7:0; "do not retry" (§4.6.1). */
#define ST_DNR               0x4000u
#define ST_OK                0x0000u
#define ST_INVALID_OPCODE    0x4001u
#define ST_INVALID_FIELD     0x4002u
#define ST_DATA_TRANSFER     0x4004u
#define ST_INTERNAL          0x0006u
#define ST_ABORTED           0x0007u
#define ST_FUSED_MISSING     0x400au
#define ST_INVALID_NAMESPACE 0x400bu
#define ST_SGL_SEGMENT       0x400du
#define ST_SGL_COUNT         0x400eu
#define ST_SGL_LENGTH        0x400fu
#define ST_SGL_TYPE          0x4011u
#define ST_PRP_OFFSET        0x4013u
#define ST_WRITE_PROTECTED   0x4020u
#define ST_LBA_RANGE         0x4080u
#define ST_CAPACITY          0x4081u
#define ST_CQ_INVALID        0x4100u
#define ST_QUEUE_ID          0x4101u
#define ST_QUEUE_SIZE        0x4102u
#define ST_AER_LIMIT         0x4105u
#define ST_INTERRUPT_VECTOR  0x4108u
#define ST_LOG_PAGE          0x4109u
#define ST_FORMAT            0x410au
#define ST_QUEUE_DELETION    0x410cu
#define ST_FEATURE_NOT_SAVED 0x410du
#define ST_WRITE_FAULT       0x0280u
#define ST_READ_FAULT        0x0281u
#define ST_COMPARE           0x4285u
#define ST_LATER             UINT32_MAX /* the command is under way */

struct nvme_namespace {
    struct vmm_nvme *nvme;
    struct vmm_block *block;
    uint32_t id;
    bool read_only;
    bool plugged;   /* requests of this turn are collected */
    bool flushing;  /* `flush` is under way, for a shutdown; */
    bool again;     /* and once more after it */
    uint32_t shift; /* of the block size */
    uint64_t blocks;
    uint8_t uuid[16];
    bool has_uuid;
    struct vmm_block_request flush;
};

struct nvme_sq {
    uint64_t base;
    uint32_t size; /* entries; 0: there is no such queue */
    uint32_t head, tail;
    uint32_t cq;
    uint32_t in_flight;
    struct nvme_request *deleter; /* the command that waits until nothing is in flight */
};

struct nvme_cq {
    uint64_t base;
    uint32_t size;
    uint32_t head, tail;
    uint32_t vector;
    bool phase, interrupts, signal;
    uint32_t users;                      /* submission queues */
    struct nvme_request *waiting, *last; /* for room */
};

/* What became of a command that is under way. */
enum {
    REQUEST_FREE,
    REQUEST_BLOCK,   /* in the backend */
    REQUEST_QUEUED,  /* waits for the exclusive buffer */
    REQUEST_POSTING, /* waits for room in its completion queue */
    REQUEST_EVENT,   /* an Asynchronous Event Request */
    REQUEST_DELETE,  /* waits until a submission queue is idle */
};

struct nvme_request {
    struct vmm_block_request block;
    struct vmm_nvme *nvme;
    struct nvme_request *next;
    uint32_t state; /* REQUEST_… */
    uint32_t epoch;
    uint32_t sq, cq;
    uint16_t cid;
    uint32_t status, result;
    uint8_t command[NVME_COMMAND]; /* the only copy that is looked at */
    uint32_t step;                 /* of commands with several */
    uint64_t data_length;
    struct vmm_scatter held;
    uint32_t range_count;
    struct vmm_guest_range ranges[NVME_RANGES];
    struct iovec vector[NVME_VECTOR];
};

struct nvme_error {
    uint64_t count, lba;
    uint32_t namespace;
    uint16_t sq, cid, status;
};

/* Features that are a number (§5.21.1). */
struct nvme_features {
    uint32_t arbitration, power, over, under, recovery, write_cache, coalescing, atomicity, events;
    uint8_t vector_coalescing[NVME_QUEUES]; /* bit 0: disabled for that vector */
};

/* Asynchronous events (§5.2): one of each type waits to be told; a type that was told is quiet until the
 * guest reads its log page. */
#define EVENT_TYPES  3u
#define EVENT_ERROR  0u
#define EVENT_HEALTH 1u
#define EVENT_NOTICE 2u

struct nvme_events {
    bool pending[EVENT_TYPES], masked[EVENT_TYPES];
    uint8_t info[EVENT_TYPES], page[EVENT_TYPES];
};

struct vmm_nvme {
    struct vmm_pci *pci;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_loop *loop;
    struct vmm_source *source;
    int kick_fd;
    uint32_t queues; /* I/O pairs that may be made */
    char serial[20], model[40], name[32];

    pthread_mutex_t lock;
    struct vmm_memory_view view;
    uint32_t epoch;
    uint32_t cc, csts, aqa, interrupt_mask;
    uint64_t asq, acq;
    bool shutdown_wanted;
    bool pin; /* its level */
    struct nvme_sq sqs[NVME_QUEUES];
    struct nvme_cq cqs[NVME_QUEUES];
    uint32_t next_sq; /* whose turn it is */
    struct nvme_request *requests, *free;
    uint32_t depth;
    bool stalled; /* no request was free */
    bool running; /* vmm_nvme_run() is at work and will unplug what it plugs */
    struct nvme_namespace *namespaces[VMM_NVME_NAMESPACES + 1];
    struct nvme_features features;
    struct nvme_events events;
    struct nvme_request *aers[NVME_AERS];
    uint32_t aer_count;
    uint8_t changed[VMM_NVME_NAMESPACES + 1];
    struct nvme_error errors[NVME_ERRORS];
    uint64_t error_count;
    uint64_t read_units, written_units, reads, writes; /* of 512 bytes; commands */

    /* One command at a time may use the bounce buffer. */
    uint8_t *bounce;
    struct nvme_request *exclusive;            /* who has it */
    struct nvme_request *queued, *queued_last; /* who wants it */

    /* Shadow doorbells (§5.7); 0: none. */
    uint64_t shadow, event_index;

    /* Doorbells: 0 tails, 1 heads. */
    _Atomic uint32_t doorbells[2][NVME_QUEUES];
    _Atomic uint64_t rung[2][2];
    _Atomic bool heads_wanted; /* someone waits for room, or the pin is high */

    pthread_mutex_t place_lock; /* where the BAR is; inside of all other locks */
    uint64_t place;
    bool placed;
    uint32_t wanted_events; /* ioeventfds: for tails of queues 1 to this */
    uint32_t have_events;
};

/* A command's fields. */
static inline uint32_t nvme_dword(const struct nvme_request *r, uint32_t index)
{
    return vmm_load_le32(r->command + 4 * index);
}
static inline uint64_t nvme_qword(const struct nvme_request *r, uint32_t dword)
{
    return vmm_load_le64(r->command + 4 * dword);
}
static inline uint8_t nvme_opcode(const struct nvme_request *r)
{
    return r->command[0];
}

/* All of these are called with the lock held, unless said otherwise. */

/* nvme.c */
void vmm_nvme_error(struct vmm_nvme *n, const char *text);
/* The controller fails until it is reset (§9.5). */
void vmm_nvme_fatal(struct vmm_nvme *n, const char *text);
/* Any thread, no lock. */
void vmm_nvme_kick(struct vmm_nvme *n);
struct nvme_namespace *vmm_nvme_namespace(struct vmm_nvme *n, uint32_t id);
/* `attached` came or went, or its size changed. */
void vmm_nvme_namespace_changed(struct vmm_nvme *n, uint32_t id);

/* nvme-registers.c */
uint64_t vmm_nvme_bar_read(void *ctx, uint32_t bar, uint64_t offset, uint32_t width);
void vmm_nvme_bar_write(void *ctx, uint32_t bar, uint64_t offset, uint32_t width, uint64_t value);
void vmm_nvme_bar_placed(void *ctx, uint32_t bar, bool enabled, uint64_t address);
/* Stop: as CC.EN going to 0. */
void vmm_nvme_stop(struct vmm_nvme *n);
/* Flush all namespaces, then say that the shutdown is complete. On the loop's thread. */
void vmm_nvme_shut_down(struct vmm_nvme *n);
/* Tails of queues 1 to `count` by ioeventfd. */
void vmm_nvme_want_events(struct vmm_nvme *n, uint32_t count);

/* nvme-queue.c */
void vmm_nvme_run(struct vmm_nvme *n);
void vmm_nvme_complete(struct nvme_request *r, uint32_t status);
struct nvme_request *vmm_nvme_take(struct vmm_nvme *n);
void vmm_nvme_give_back(struct nvme_request *r);
/* Put what waits for room into its completion queue. */
void vmm_nvme_post(struct vmm_nvme *n, uint32_t cq);
/* Interrupts for what was posted. */
void vmm_nvme_signal(struct vmm_nvme *n);
void vmm_nvme_update_pin(struct vmm_nvme *n);
/* The tail or head that the guest has given last, in the shadow if there is one. */
void vmm_nvme_load_head(struct vmm_nvme *n, uint32_t cq);

/* nvme-data.c: where a command's data is. They give a status. */
uint32_t vmm_nvme_ranges(struct nvme_request *r, uint64_t length, bool sgl_allowed);
uint32_t vmm_nvme_hold(struct nvme_request *r, uint32_t access);
void vmm_nvme_let_go(struct nvme_request *r, uint64_t written);
/* Small data, of admin commands. */
uint32_t vmm_nvme_to_guest(struct nvme_request *r, const void *data, uint32_t length);
uint32_t vmm_nvme_from_guest(struct nvme_request *r, void *data, uint32_t length, bool sgl_allowed);

/* nvme-io.c: commands give a status, or ST_LATER. */
uint32_t vmm_nvme_io(struct nvme_request *r);
uint32_t vmm_nvme_format(struct nvme_request *r);
/* Begin one more that wants the bounce buffer. */
void vmm_nvme_next_exclusive(struct vmm_nvme *n);

/* nvme-admin.c */
uint32_t vmm_nvme_admin(struct nvme_request *r);
void vmm_nvme_default_features(struct vmm_nvme *n);

/* nvme-identify.c */
uint32_t vmm_nvme_identify(struct nvme_request *r);

/* nvme-log.c: log pages, events, and what they are made of. */
uint32_t vmm_nvme_log_page(struct nvme_request *r);
uint32_t vmm_nvme_event_request(struct nvme_request *r);
void vmm_nvme_event(struct vmm_nvme *n, uint32_t type, uint8_t info, uint8_t page);
void vmm_nvme_tell_events(struct vmm_nvme *n);
void vmm_nvme_log_error(const struct nvme_request *r, uint32_t status);
void vmm_nvme_check_health(struct vmm_nvme *n);

/* nvme-state.c: called with the device's lock, not ours. */
int vmm_nvme_save(void *ctx, struct vmm_state_writer *w);
int vmm_nvme_load(void *ctx, struct vmm_state_reader *r, uint32_t version, struct vmm_error *err);

#endif
