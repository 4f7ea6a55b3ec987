/* SPDX-License-Identifier: BSD-3-Clause */
/* From the guest's offset to the file's ("Cluster mapping", "Extended L2 Entries"). */
#include "backends/block/qcow2/qcow2.h"

#include <stdlib.h>

/* Entries -------------------------------------------------------------------------------------- */

void vmm_q2_entry_get(const struct qcow2 *q, const struct q2_slice *slice, uint32_t index,
                      struct q2_entry *entry)
{
    const uint8_t *at = slice->data + ((size_t)index << q->entry_bits);
    entry->word = q2_load64(at);
    entry->bits = q->extended ? q2_load64(at + 8) : 0;
}

void vmm_q2_entry_set(struct qcow2 *q, struct q2_slice *slice, uint32_t index,
                      const struct q2_entry *entry)
{
    uint8_t *at = slice->data + ((size_t)index << q->entry_bits);
    q2_store64(at, entry->word);
    if (q->extended)
        q2_store64(at + 8, entry->bits);
    vmm_q2_cache_dirty(q, slice);
}

static bool has_host(const struct qcow2 *q, const struct q2_entry *e)
{
    return (e->word & Q2_OFFSET_MASK) || (q->has_data_file && (e->word & Q2_COPIED));
}

int vmm_q2_entry_check(const struct qcow2 *q, uint64_t at, const struct q2_entry *e)
{
    uint64_t host = e->word & Q2_OFFSET_MASK;
    if (e->word & Q2_COMPRESSED)
        return q->has_data_file ? -EIO : 0;
    if (host & (q->cluster_size - 1))
        return -EIO;
    if ((e->word & Q2_ZERO_FLAG) && (q->header.version < 3 || q->extended))
        return -EIO;
    /* In a data file, clusters are where the guest has them. */
    if (q->has_data_file && has_host(q, e) && host != (at & ~(q->cluster_size - 1)))
        return -EIO;
    uint32_t alloc = (uint32_t)e->bits, zero = (uint32_t)(e->bits >> 32);
    return (alloc & zero) || (alloc && !has_host(q, e)) ? -EIO : 0;
}

uint32_t vmm_q2_unit_type(const struct qcow2 *q, const struct q2_entry *e, uint32_t unit)
{
    if (e->word & Q2_COMPRESSED)
        return Q2_PACKED;
    if (q->extended) {
        if (e->bits >> (32 + unit) & 1)
            return Q2_ZERO;
        return e->bits >> unit & 1 ? Q2_DATA : Q2_BACKING;
    }
    if (e->word & Q2_ZERO_FLAG)
        return Q2_ZERO;
    return has_host(q, e) ? Q2_DATA : Q2_BACKING;
}

/* "Compressed Clusters Descriptor" */
void vmm_q2_packed_place(const struct qcow2 *q, uint64_t word, uint64_t *offset, uint64_t *length)
{
    uint32_t x = 62 - (q->cluster_bits - 8);
    *offset = word & ((UINT64_C(1) << x) - 1);
    uint64_t sectors = (word & (Q2_COMPRESSED - 1)) >> x;
    *length = (sectors + 1) * 512 - *offset % 512;
}

/* Looking up ----------------------------------------------------------------------------------- */

/* The table that maps the offset: 0 where there is none. */
static int table_of(const struct qcow2 *q, uint64_t at, uint64_t *table)
{
    uint64_t index = q2_l1_index(q, at);
    *table = index < q->l1_size ? q->l1[index] & Q2_OFFSET_MASK : 0;
    return *table & (q->cluster_size - 1) ? -EIO : 0;
}

static bool continues(const struct q2_extent *e, uint32_t type, bool copied, uint64_t host)
{
    if (type != e->type || type == Q2_PACKED)
        return false;
    return type != Q2_DATA || (host == e->host + e->length && copied == e->copied);
}

/* Units of one kind in a row, within a slice. */
static int walk(struct qcow2 *q, const struct q2_slice *s, uint64_t at, uint64_t length,
                struct q2_extent *e)
{
    uint32_t entries = q->slice_size >> q->entry_bits;
    uint64_t unit_size = UINT64_C(1) << q->unit_bits;
    *e = (struct q2_extent){0};
    for (uint32_t i = q2_slice_index(q, at); i < entries && e->length < length; i++) {
        struct q2_entry entry;
        vmm_q2_entry_get(q, s, i, &entry);
        int rc = vmm_q2_entry_check(q, at + e->length, &entry);
        if (rc)
            return e->length ? 0 : rc;
        do {
            uint64_t here = at + e->length, in = here & (q->cluster_size - 1);
            uint32_t type = vmm_q2_unit_type(q, &entry, (uint32_t)(in >> q->unit_bits));
            uint64_t host = (entry.word & Q2_OFFSET_MASK) + in;
            bool copied = entry.word >> 63;
            uint64_t n = unit_size - (here & (unit_size - 1));
            if (type == Q2_PACKED)
                n = q->cluster_size - in;
            if (e->length == 0)
                *e = (struct q2_extent){type, copied, host, entry.word, 0};
            else if (!continues(e, type, copied, host))
                return 0;
            e->length += n;
            if (e->length >= length) {
                e->length = length;
                return 0;
            }
        } while ((at + e->length) & (q->cluster_size - 1));
    }
    return 0;
}

int vmm_q2_map_now(struct qcow2 *q, uint64_t at, uint64_t length, struct q2_extent *e)
{
    uint64_t table;
    int rc = table_of(q, at, &table);
    if (rc)
        return rc;
    if (table == 0) {
        uint64_t span = UINT64_C(1) << (q->cluster_bits + q->l2_bits);
        *e = (struct q2_extent){.type = Q2_BACKING,
                                .length = q2_min(length, span - (at & (span - 1)))};
        return 0;
    }
    struct q2_slice *s = vmm_q2_cache_find(q, q2_l2_slice(q, table, at));
    if (!s)
        return -EAGAIN;
    return s->l2 ? walk(q, s, at, length, e) : -EIO;
}

/* The pinned slice of the offset's entry, or NULL: no table. */
static int slice_of(struct qcow2 *q, uint64_t at, struct q2_slice **s)
{
    uint64_t table, again;
    int rc;
    *s = NULL;
    for (;;) {
        rc = table_of(q, at, &table);
        if (rc || table == 0)
            return rc;
        rc = vmm_q2_cache_get(q, q2_l2_slice(q, table, at), true, (uint32_t)q2_l1_index(q, at), s);
        if (rc)
            return rc;
        (void)table_of(q, at, &again);
        if (again == table)
            return 0;
        vmm_q2_cache_put(*s); /* the table was copied meanwhile */
    }
}

int vmm_q2_map(struct qcow2 *q, uint64_t at, uint64_t length, struct q2_extent *e)
{
    struct q2_slice *s;
    int rc = vmm_q2_map_now(q, at, length, e);
    if (rc != -EAGAIN)
        return rc;
    rc = slice_of(q, at, &s);
    if (rc)
        return rc;
    rc = s ? walk(q, s, at, length, e) : vmm_q2_map_now(q, at, length, e);
    if (s)
        vmm_q2_cache_put(s);
    return rc;
}

int vmm_q2_entry_load(struct qcow2 *q, uint64_t at, struct q2_entry *entry)
{
    struct q2_slice *s;
    *entry = (struct q2_entry){0};
    int rc = slice_of(q, at, &s);
    if (rc || !s)
        return rc;
    vmm_q2_entry_get(q, s, q2_slice_index(q, at), entry);
    vmm_q2_cache_put(s);
    return vmm_q2_entry_check(q, at, entry);
}

/* Changing ------------------------------------------------------------------------------------- */

/* A new L2 table in place of `old` (0: of none). Its contents are in the file before it is linked. */
static int new_table(struct qcow2 *q, uint64_t index, uint64_t old)
{
    uint64_t offset, got;
    bool zero;
    int rc = vmm_q2_alloc_held(q, 1, &offset, &got, &zero);
    if (rc)
        return rc;
    uint8_t *data = vmm_q2_buffer((size_t)q->cluster_size);
    rc = data ? vmm_q2_set_add(&q->metadata, offset >> q->cluster_bits) : -ENOMEM;
    if (!rc && old)
        rc = vmm_q2_read(q, q->file, old, data, (size_t)q->cluster_size);
    else if (!rc)
        memset(data, 0, (size_t)q->cluster_size);
    vmm_q2_cache_drop(q, offset >> q->cluster_bits);
    if (!rc && (old || !zero))
        rc = vmm_q2_write(q, q->file, offset, data, (size_t)q->cluster_size);
    free(data);
    if (rc) {
        vmm_q2_set_remove(&q->metadata, offset >> q->cluster_bits);
        (void)vmm_q2_refcount_add(q, offset >> q->cluster_bits, 1, -1);
        return rc;
    }
    q->l1[index] = offset | Q2_COPIED;
    q->l1_dirty[index] = 1;
    q->l1_any_dirty = q->unsynced = true;
    if (old) /* a snapshot has it still: it stays metadata */
        vmm_q2_free_later(q, old >> q->cluster_bits, 1);
    return 0;
}

/* May the table be written in place? The mark alone says nothing where there is no table. */
static bool table_is_ours(const struct qcow2 *q, uint64_t index)
{
    return (q->l1[index] & Q2_COPIED) && (q->l1[index] & Q2_OFFSET_MASK);
}

int vmm_q2_entry_writable(struct qcow2 *q, uint64_t at, struct q2_slice **slice)
{
    uint64_t index = q2_l1_index(q, at), table;
    if (index >= q->l1_size)
        return -EIO;
    int rc = q->broken ? -EIO : 0;
    if (!rc && !table_is_ours(q, index)) {
        vmm_co_lock(&q->co, &q->allocating);
        rc = table_of(q, at, &table);
        if (!rc && !table_is_ours(q, index))
            rc = new_table(q, index, table);
        vmm_co_unlock(&q->co, &q->allocating);
    }
    if (!rc)
        rc = slice_of(q, at, slice);
    return !rc && !*slice ? -EIO : rc;
}

void vmm_q2_entry_drop(struct qcow2 *q, const struct q2_entry *e)
{
    if (e->word & Q2_COMPRESSED) {
        uint64_t offset, length;
        vmm_q2_packed_place(q, e->word, &offset, &length);
        uint64_t first = offset >> q->cluster_bits, last = (offset + length - 1) >> q->cluster_bits;
        vmm_q2_unpacked_forget(q, e->word);
        vmm_q2_free_later(q, first, last - first + 1);
    } else if ((e->word & Q2_OFFSET_MASK) && !q->has_data_file) {
        vmm_q2_free_later(q, (e->word & Q2_OFFSET_MASK) >> q->cluster_bits, 1);
    }
}
