/* SPDX-License-Identifier: BSD-3-Clause */
/* A qcow2 image from the inside. Section names in comments are those of QEMU's docs/interop/qcow2.txt. */
#ifndef BACKENDS_BLOCK_QCOW2_QCOW2_H
#define BACKENDS_BLOCK_QCOW2_QCOW2_H

#include "backends/block/qcow2/co.h"
#include "base/util.h"

#include <libvmm/qcow2.h>

#include <pthread.h>

#define Q2_MAGIC                    0x514649fbu
#define Q2_INCOMPATIBLE_DIRTY       0x01u
#define Q2_INCOMPATIBLE_CORRUPT     0x02u
#define Q2_INCOMPATIBLE_DATA        0x04u
#define Q2_INCOMPATIBLE_COMPRESSION 0x08u
#define Q2_INCOMPATIBLE_EXTENDED    0x10u
#define Q2_INCOMPATIBLE_KNOWN       0x1fu
#define Q2_COMPATIBLE_LAZY          0x01u
#define Q2_AUTOCLEAR_BITMAPS        0x01u
#define Q2_AUTOCLEAR_RAW            0x02u

#define Q2_EXTENSION_BACKING_FORMAT 0xe2792acau
#define Q2_EXTENSION_FEATURES       0x6803f857u
#define Q2_EXTENSION_BITMAPS        0x23852875u
#define Q2_EXTENSION_DATA_FILE      0x44415441u

#define Q2_COMPRESSED   (UINT64_C(1) << 62)
#define Q2_COPIED       (UINT64_C(1) << 63)
#define Q2_ZERO_FLAG    UINT64_C(1)
#define Q2_OFFSET_MASK  UINT64_C(0x00fffffffffffe00) /* L1 and L2 entries */
#define Q2_RT_MASK      UINT64_C(0xfffffffffffffe00) /* refcount table entries */
#define Q2_HOST_END     (UINT64_C(1) << 56)          /* tables cannot point further */
#define Q2_L1_MAX       (UINT64_C(32) << 20)         /* bytes; as QEMU */
#define Q2_RT_MAX       (UINT64_C(8) << 20)          /* bytes; as QEMU */
#define Q2_NAME_MAX     1023u
#define Q2_SNAPSHOT_MAX 65536u
#define Q2_SUBCLUSTERS  32u
#define Q2_BUFFER_ALIGN 4096u

/* What a stretch of the guest's disk is. */
enum {
    Q2_BACKING,
    Q2_ZERO,
    Q2_DATA,
    Q2_PACKED, /* compressed */
};

/* The header, decoded and checked. */
struct q2_header {
    uint32_t version;
    uint32_t cluster_bits;
    uint64_t size;
    uint64_t l1_offset;
    uint32_t l1_size;
    uint32_t rt_clusters;
    uint64_t rt_offset;
    uint32_t snapshot_count;
    uint32_t refcount_order;
    uint64_t snapshots_offset;
    uint64_t incompatible, compatible, autoclear;
    uint32_t header_length;
    uint32_t compression; /* 0 zlib, 1 zstd */
    uint64_t backing_offset;
    uint32_t backing_length;
    char backing_name[Q2_NAME_MAX + 1]; /* "": none */
    char backing_format[32];            /* "": not said */
    char data_name[Q2_NAME_MAX + 1];    /* "": not said */
    uint32_t bitmap_count;
    uint64_t bitmaps_size, bitmaps_offset;
    uint64_t extensions_end; /* where names may begin */
};

struct q2_snapshot {
    uint64_t l1_offset;
    uint32_t l1_size;
    uint32_t seconds, nanoseconds;
    uint64_t guest_time, vm_state_size, disk_size;
    uint32_t extra_length;
    uint8_t *extra; /* from byte 56 of the entry on: kept as it is */
    char *id, *name;
};

/* A piece of an L2 table or of a refcount block in memory, as it is in the file. */
struct q2_slice {
    struct q2_slice *hash_next;
    struct q2_slice *newer, *older;           /* by use */
    struct q2_slice *dirty_next, *dirty_prev; /* while dirty */
    uint64_t offset;                          /* in the file */
    uint32_t l1_index;                        /* of an L2 table's */
    uint32_t pins;
    bool l2; /* else a refcount block's */
    bool loading, dirty;
    int error; /* of loading */
    struct vmm_co_list waiting;
    uint8_t *data;
};

struct q2_cache {
    struct q2_slice **hash;
    uint32_t hash_mask;
    uint32_t count, limit;
    struct q2_slice *newest, *oldest;
    struct q2_slice *dirty;
    uint32_t dirty_l2, dirty_refcounts;
};

/* Clusters that hold metadata: a hash set. The guest's data must never be among them. */
struct q2_set {
    uint64_t *slots; /* 0: free; else cluster number, never 0 */
    uint64_t mask, used;
};

struct q2_range {
    uint64_t first, count; /* host clusters */
};

struct q2_ranges {
    struct q2_range *items;
    size_t count, room;
};

/* Requests to the files below. A batch is waited for by one coroutine, or ends a request of ours. */
struct q2_batch {
    struct qcow2 *q;
    struct vmm_co *co;
    uint32_t pending;
    int error;
    bool waiting;
};

#define Q2_INLINE_VECTOR 4
struct q2_part {
    struct vmm_block_request request;
    struct q2_batch *batch;
    struct q2_part *next;
    struct iovec inline_vector[Q2_INLINE_VECTOR];
    struct iovec *heap_vector;
};

#define Q2_EPOCH_OWN UINT64_MAX /* of requests of our own: nobody takes their memory away */

/* A request of the user's under way. */
struct q2_op {
    struct vmm_block_request *request;
    struct qcow2 *q;
    struct q2_op *prev, *next; /* in the order of locking */
    bool locked, exclusive;
    uint64_t first, last; /* guest clusters that it holds */
    struct vmm_co_list waiting;
    uint64_t epoch; /* see q->epoch */
    struct q2_part part;
};

struct qcow2 {
    struct vmm_block *block; /* ours */
    struct vmm_loop *loop;
    struct vmm_block *file, *data,
        *backing;            /* data: `file` where there is no data file; NULL: not opened */
    struct vmm_block *other; /* while rebasing: the new backing file */
    struct vmm_timer *timer; /* for what must not happen in a coroutine: growing */
    struct vmm_co_group co;
    uint32_t flags;
    bool read_only, alone, by_snapshot, has_data_file, data_raw, extended, lazy;
    bool marked_dirty; /* the header's dirty bit is set by us */
    bool opened, grew;
    bool broken; /* damage was seen: nothing is written any more */
    uint32_t block_size;
    char *path; /* NULL: not known */

    struct q2_header header;
    uint8_t *head; /* the file's first block */
    uint64_t cluster_size;
    uint32_t cluster_bits;
    uint32_t entry_bits; /* 3 or 4: the log of an L2 entry's bytes */
    uint32_t l2_bits;    /* the log of an L2 table's entries */
    uint32_t rb_bits;    /* the log of a refcount block's entries */
    uint32_t unit_bits;  /* cluster, or subcluster */
    uint32_t slice_size;
    uint64_t size;

    uint64_t *l1;
    uint8_t *l1_dirty; /* an entry each: the file has another one */
    uint32_t l1_size;
    bool l1_any_dirty;
    uint64_t l1_offset;
    uint64_t *rt;
    uint32_t rt_size; /* entries */
    struct q2_snapshot *snapshots;
    uint32_t snapshot_count;
    uint64_t snapshot_table_length; /* bytes in the file */

    struct q2_cache cache;
    struct q2_set metadata;
    uint64_t free_hint;   /* a host cluster: none below is free */
    uint64_t zero_from;   /* file bytes from here on were never written */
    uint64_t file_length; /* of `file` */
    uint64_t file_wanted; /* it shall grow to this; 0: enough */
    uint64_t data_length, data_wanted;
    uint64_t backing_length;
    int grow_error;
    struct vmm_co_list growing;
    struct vmm_co_mutex allocating; /* refcounts and the tables they live in, L2 tables' places */
    struct q2_ranges freed;         /* no longer used, once the tables are written */
    struct q2_ranges freeable;      /* no table in the file points to it any more */

    bool syncing, sync_failed;
    bool unsynced; /* data that tables in memory point to may not be durable */
    uint64_t syncs_begun, syncs_ended;
    int sync_result;
    struct vmm_co_list sync_waiting;

    /* The last compressed clusters, unpacked. */
    struct {
        uint64_t word; /* the L2 entry; 0: none */
        uint64_t used;
        uint8_t *data;
    } unpacked[4];
    uint64_t unpack_clock;

    struct q2_op *ops, *last_op; /* that hold clusters or wait for them */
    uint32_t exclusive_ops;
    struct vmm_block_request *backlog, *last_backlog; /* wait for a coroutine */
    uint32_t turning; /* we drain the files below: `done` of ours is not called meanwhile */
    uint32_t running; /* coroutines that carry out requests */
    struct q2_part *spare_parts;
    struct q2_op *spare_ops;
    uint32_t spare_part_count, spare_op_count;

    /* Guards what may touch a request's vector: those begun in an earlier epoch may not any more. */
    pthread_mutex_t vector_lock;
    uint64_t epoch;
};

/* Byte order ----------------------------------------------------------------------------------- */

static inline uint32_t q2_load32(const void *p)
{
    return __builtin_bswap32(vmm_load_le32(p));
}
static inline uint64_t q2_load64(const void *p)
{
    return __builtin_bswap64(vmm_load_le64(p));
}
static inline uint16_t q2_load16(const void *p)
{
    return __builtin_bswap16(vmm_load_le16(p));
}
static inline void q2_store16(void *p, uint16_t v)
{
    vmm_store_le16(p, __builtin_bswap16(v));
}
static inline void q2_store32(void *p, uint32_t v)
{
    vmm_store_le32(p, __builtin_bswap32(v));
}
static inline void q2_store64(void *p, uint64_t v)
{
    vmm_store_le64(p, __builtin_bswap64(v));
}

static inline uint64_t q2_min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* header.c ------------------------------------------------------------------------------------- */

/* Check and decode the `length` bytes at an image's begin: a cluster, or less in a short file. */
int vmm_q2_header_decode(const uint8_t *data, size_t length, uint64_t file_length,
                         struct q2_header *h, struct vmm_error *err);
/* Read the header and what it names into `q`. Coroutine. */
int vmm_q2_header_read(struct qcow2 *q, struct vmm_error *err);
/* Write the first block from `q->head`, whose fields the caller has set. Coroutine. */
int vmm_q2_head_write(struct qcow2 *q);
/* Set or clear incompatible feature bits, durably. Coroutine. */
int vmm_q2_incompatible(struct qcow2 *q, uint64_t set, uint64_t clear);

/* io.c: requests to the files below; coroutine ------------------------------------------------- */

void *vmm_q2_buffer(size_t size);
int vmm_q2_read(struct qcow2 *q, struct vmm_block *block, uint64_t offset, void *data,
                size_t length);
int vmm_q2_write(struct qcow2 *q, struct vmm_block *block, uint64_t offset, const void *data,
                 size_t length);
int vmm_q2_range(struct qcow2 *q, struct vmm_block *block, uint32_t op, uint32_t flags,
                 uint64_t offset, uint64_t length);
int vmm_q2_flush(struct qcow2 *q, struct vmm_block *block);
struct q2_part *vmm_q2_part_new(struct qcow2 *q);
void vmm_q2_part_free(struct qcow2 *q, struct q2_part *part);
void vmm_q2_batch_init(struct q2_batch *batch, struct qcow2 *q);
/* Begin a part of the batch; its request is filled in but for `done`. */
void vmm_q2_batch_add(struct q2_batch *batch, struct vmm_block *block, struct q2_part *part);
/* As vmm_q2_batch_add(), with a plain buffer. */
void vmm_q2_batch_io(struct q2_batch *batch, struct vmm_block *block, uint32_t op, uint64_t offset,
                     void *data, size_t length);
int vmm_q2_batch_wait(struct q2_batch *batch);
/* Make `file` (or the data file) at least so long. Coroutine. */
int vmm_q2_ensure_length(struct qcow2 *q, struct vmm_block *block, uint64_t end);
/* Outside: grow what was asked for. */
void vmm_q2_grow_now(void *q);
/* Run `fn` in a coroutine, to its end, whatever the loop does. Not in a coroutine. */
int vmm_q2_call(struct qcow2 *q, int (*fn)(struct qcow2 *q, void *arg), void *arg);
/* Outside: let everything that can go on without the loop do so. */
void vmm_q2_turn(struct qcow2 *q);
/* From a callback of a file below, last: what is finished goes on upwards at once. */
void vmm_q2_deliver(struct qcow2 *q);

/* set.c ---------------------------------------------------------------------------------------- */

int vmm_q2_set_add(struct q2_set *set, uint64_t cluster);
void vmm_q2_set_remove(struct q2_set *set, uint64_t cluster);
bool vmm_q2_set_has(const struct q2_set *set, uint64_t cluster);
int vmm_q2_ranges_add(struct q2_ranges *ranges, uint64_t first, uint64_t count);

/* cache.c -------------------------------------------------------------------------------------- */

int vmm_q2_cache_init(struct qcow2 *q, uint64_t bytes);
void vmm_q2_cache_free(struct qcow2 *q);
/* The slice at `offset` if it is there now, not pinned. */
struct q2_slice *vmm_q2_cache_find(struct qcow2 *q, uint64_t offset);
/* The slice at `offset`, pinned. Coroutine. */
int vmm_q2_cache_get(struct qcow2 *q, uint64_t offset, bool l2, uint32_t l1_index,
                     struct q2_slice **out);
void vmm_q2_cache_put(struct q2_slice *slice);
void vmm_q2_cache_dirty(struct qcow2 *q, struct q2_slice *slice);
void vmm_q2_cache_clean(struct qcow2 *q, struct q2_slice *slice);
/* Forget all of a cluster's slices: it is not metadata any more. None is pinned. */
void vmm_q2_cache_drop(struct qcow2 *q, uint64_t cluster);
void vmm_q2_cache_drop_all(struct qcow2 *q);

/* sync.c --------------------------------------------------------------------------------------- */

/* Make all that has completed durable: data first, then refcounts, then what points to them.
 * Coroutine. */
int vmm_q2_sync(struct qcow2 *q);
/* As vmm_q2_sync(), refcounts too where they are lazy. */
int vmm_q2_sync_all(struct qcow2 *q);
bool vmm_q2_needs_sync(const struct qcow2 *q);

/* refcount.c, grow.c --------------------------------------------------------------------------- */

uint64_t vmm_q2_refcount_peek(const uint8_t *data, uint32_t order, uint64_t index);
void vmm_q2_refcount_poke(uint8_t *data, uint32_t order, uint64_t index, uint64_t value);
/* The refcount of a host cluster. Coroutine; `allocating` held. */
int vmm_q2_refcount_get(struct qcow2 *q, uint64_t cluster, uint64_t *value);
/* Add `delta` (1 or -1) to each. Coroutine; `allocating` held. */
int vmm_q2_refcount_add(struct qcow2 *q, uint64_t first, uint64_t count, int delta);
/* What a check found: the cluster's refcount becomes `value`. */
int vmm_q2_refcount_set(struct qcow2 *q, uint64_t cluster, uint64_t value);
/* 1 to `wanted` free host clusters in a row, counted now; *zero: they read as zeroes. Coroutine; takes
 * `allocating`. */
int vmm_q2_alloc(struct qcow2 *q, uint64_t wanted, uint64_t *offset, uint64_t *got, bool *zero);
/* The same with `allocating` held. */
int vmm_q2_alloc_held(struct qcow2 *q, uint64_t wanted, uint64_t *offset, uint64_t *got,
                      bool *zero);
/* Exactly `count` in a row, for a table. Coroutine; `allocating` held. */
int vmm_q2_alloc_table(struct qcow2 *q, uint64_t count, uint64_t *offset);
/* Free at once what no table has ever pointed to. Coroutine; takes `allocating`. */
void vmm_q2_free_unused(struct qcow2 *q, uint64_t offset, uint64_t count);
/* Free what a table pointed to: after the next sync. */
void vmm_q2_free_later(struct qcow2 *q, uint64_t first, uint64_t count);
/* Take what is freeable off the refcounts. Coroutine; takes `allocating`. */
int vmm_q2_free_pending(struct qcow2 *q);
/* Before the first change of refcounts: set the dirty bit where they are lazy. Coroutine. */
int vmm_q2_before_change(struct qcow2 *q);
/* A refcount block for the clusters around `cluster`. */
int vmm_q2_refblock_new(struct qcow2 *q, uint64_t cluster);
/* `count` clusters in a row beyond all that is counted, and longer tables as needed. */
int vmm_q2_area_new(struct qcow2 *q, uint64_t count, uint64_t *offset);
/* Mark the image as damaged: nothing is written any more. Returns -EIO. */
int vmm_q2_damaged(struct qcow2 *q);

/* map.c ---------------------------------------------------------------------------------------- */

struct q2_entry {
    uint64_t word;
    uint64_t bits; /* of extended ones: alloc in the low half, zero in the high one */
};

struct q2_extent {
    uint32_t type; /* Q2_DATA, … */
    bool copied;   /* the cluster is ours alone: may be written in place */
    uint64_t host; /* data: where */
    uint64_t word; /* packed: the entry */
    uint64_t length;
};

static inline uint64_t q2_l1_index(const struct qcow2 *q, uint64_t at)
{
    return at >> (q->cluster_bits + q->l2_bits);
}
/* The file offset of the slice that has the guest offset's entry, by its L2 table's offset. */
static inline uint64_t q2_l2_slice(const struct qcow2 *q, uint64_t table, uint64_t at)
{
    uint64_t byte = (at >> q->cluster_bits & ((UINT64_C(1) << q->l2_bits) - 1)) << q->entry_bits;
    return table + (byte & ~(uint64_t)(q->slice_size - 1));
}
static inline uint32_t q2_slice_index(const struct qcow2 *q, uint64_t at)
{
    return (uint32_t)(at >> q->cluster_bits & ((q->slice_size >> q->entry_bits) - 1));
}
void vmm_q2_entry_get(const struct qcow2 *q, const struct q2_slice *slice, uint32_t index,
                      struct q2_entry *entry);
void vmm_q2_entry_set(struct qcow2 *q, struct q2_slice *slice, uint32_t index,
                      const struct q2_entry *entry);
/* Is the entry of the guest offset's cluster well-formed? */
int vmm_q2_entry_check(const struct qcow2 *q, uint64_t at, const struct q2_entry *entry);
/* What unit (0 but for extended entries) of a cluster is. */
uint32_t vmm_q2_unit_type(const struct qcow2 *q, const struct q2_entry *entry, uint32_t unit);
/* Where a compressed cluster is in the file. */
void vmm_q2_packed_place(const struct qcow2 *q, uint64_t word, uint64_t *offset, uint64_t *length);
/* What is at the guest offset and how far, at most `length`; -EAGAIN: the slice is not in memory. */
int vmm_q2_map_now(struct qcow2 *q, uint64_t at, uint64_t length, struct q2_extent *extent);
/* The same, loading what it takes. Coroutine. */
int vmm_q2_map(struct qcow2 *q, uint64_t at, uint64_t length, struct q2_extent *extent);
/* The entry of one cluster. Coroutine. */
int vmm_q2_entry_load(struct qcow2 *q, uint64_t at, struct q2_entry *entry);
/* Pin the slice for writing; makes or copies the L2 table where needed. Coroutine. */
int vmm_q2_entry_writable(struct qcow2 *q, uint64_t at, struct q2_slice **slice);
/* What an entry held is not used by it any more. */
void vmm_q2_entry_drop(struct qcow2 *q, const struct q2_entry *entry);

/* requests.c ----------------------------------------------------------------------------------- */

void vmm_q2_submit(void *ctx, struct vmm_block_request *request);
void vmm_q2_cancel(void *ctx, struct vmm_block_request *request);
void vmm_q2_quiesce(void *ctx);
void vmm_q2_drain(void *ctx);
/* Hold guest clusters. Coroutine. */
void vmm_q2_op_lock(struct q2_op *op, uint64_t first, uint64_t last, bool exclusive);
void vmm_q2_op_unlock(struct q2_op *op);
/* Let others run: for what goes on for long without waiting for anything. Coroutine. */
void vmm_q2_pause(struct qcow2 *q);
/* May the request's vector be touched? 0, and the lock is held; or -ECANCELED. */
int vmm_q2_touch_begin(struct q2_op *op);
void vmm_q2_touch_end(struct q2_op *op);
/* A part of a request's vector. `inner` has room for Q2_INLINE_VECTOR; *heap must be freed. */
int vmm_q2_vector(const struct vmm_block_request *request, uint64_t skip, uint64_t length,
                  struct iovec *inner, struct iovec **heap, const struct iovec **vector,
                  size_t *count);
/* Begin I/O of a part of the request's vector; `before` and `after` are put around it (or NULL). */
int vmm_q2_user_io(struct q2_op *op, struct q2_batch *batch, struct vmm_block *block, uint32_t io,
                   uint64_t offset, uint64_t skip, uint64_t length, const struct iovec *before,
                   const struct iovec *after);
int vmm_q2_user_fill(struct q2_op *op, uint64_t skip, const uint8_t *data, uint64_t length);
int vmm_q2_user_zero(struct q2_op *op, uint64_t skip, uint64_t length);

/* read.c, write.c, zero.c: coroutine ----------------------------------------------------------- */

int vmm_q2_do_read(struct q2_op *op);
int vmm_q2_do_write(struct q2_op *op);
int vmm_q2_do_zeroes(struct q2_op *op);
int vmm_q2_do_discard(struct q2_op *op);
/* Read what the guest would into `data`, whole units of the block size. */
int vmm_q2_read_guest(struct qcow2 *q, uint64_t at, void *data, uint64_t length);
/* The backing file's contents, zeroes beyond its end. */
int vmm_q2_read_backing(struct qcow2 *q, uint64_t at, void *data, uint64_t length);
/* Write as the guest would, with its clusters held exclusively. */
int vmm_q2_write_clusters(struct q2_op *op);
int vmm_q2_write_guest(struct qcow2 *q, uint64_t at, const void *data, uint64_t length);
int vmm_q2_zero_guest(struct qcow2 *q, uint64_t at, uint64_t length, bool unmap);

/* packed.c ------------------------------------------------------------------------------------- */

bool vmm_q2_can_unpack(uint32_t compression);
/* A compressed cluster, unpacked: valid until the next wait. Coroutine. */
int vmm_q2_unpack(struct qcow2 *q, uint64_t word, const uint8_t **data);
void vmm_q2_unpacked_forget(struct qcow2 *q, uint64_t word);
void vmm_q2_unpacked_free(struct qcow2 *q);

/* snapshot-table.c ----------------------------------------------------------------------------- */

int vmm_q2_snapshots_read(struct qcow2 *q, struct vmm_error *err);
void vmm_q2_snapshots_free(struct qcow2 *q);
struct q2_snapshot *vmm_q2_snapshot_find(struct qcow2 *q, const char *name);
void vmm_q2_snapshot_free(struct q2_snapshot *snapshot);
/* Write `count` entries as the image's new table, and make the header point to it; the old one's
 * clusters are free then. Coroutine; `allocating` held. */
int vmm_q2_snapshots_write(struct qcow2 *q, const struct q2_snapshot *table, uint32_t count);

/* walk.c: all that an L1 table reaches; coroutine, `allocating` held, everything written --------- */

/* Count every cluster once more (or less); all or nothing where it is more. */
int vmm_q2_walk_count(struct qcow2 *q, const uint64_t *l1, uint64_t entries, int delta);
/* Mark what is used once in the active tables, and only that. */
int vmm_q2_walk_marks(struct qcow2 *q);

/* tables.c ------------------------------------------------------------------------------------- */

/* Read a table of big-endian 64-bit entries: checked offset and size. Coroutine. */
int vmm_q2_table_read(struct qcow2 *q, uint64_t offset, uint64_t entries, uint64_t **out);
int vmm_q2_table_write(struct qcow2 *q, uint64_t offset, const uint64_t *table, uint64_t entries,
                       uint64_t clusters);
/* L1 and refcount table into memory, and what holds metadata. Coroutine. */
int vmm_q2_tables_read(struct qcow2 *q, struct vmm_error *err);
/* Find anew where metadata is. */
int vmm_q2_note_metadata(struct qcow2 *q);

/* check.c -------------------------------------------------------------------------------------- */

/* Count refcounts anew in an image that was not closed cleanly. Coroutine. */
int vmm_q2_count_anew(struct qcow2 *q, struct vmm_error *err);
/* Hold all of the image, with nothing under way and everything written. Coroutine. */
int vmm_q2_hold_all(struct qcow2 *q, struct q2_op *op);

/* resize.c ------------------------------------------------------------------------------------- */

/* Empty the entries of [from, to): clusters that begin there. Coroutine; all is held. */
int vmm_q2_empty(struct qcow2 *q, uint64_t from, uint64_t to);
int vmm_q2_resize(void *ctx, uint64_t length, struct vmm_error *err);

/* open.c --------------------------------------------------------------------------------------- */

/* The image behind a block device, or NULL. */
struct qcow2 *vmm_q2_of(struct vmm_block *block);

#endif
