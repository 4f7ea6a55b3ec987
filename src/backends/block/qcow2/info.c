/* SPDX-License-Identifier: BSD-3-Clause */
/* What an image's header says, for tools. */
#include "backends/block/qcow2/qcow2.h"

int vmm_qcow2_get_info(struct vmm_block *block, struct vmm_qcow2_info *info)
{
    struct qcow2 *q = vmm_q2_of(block);
    struct vmm_qcow2_info out = VMM_QCOW2_INFO_INIT;
    if (!q)
        return -ENOTSUP;
    if (!info)
        return -EINVAL;
    const struct q2_header *h = &q->header;
    out.length = q->size;
    out.version = h->version;
    out.cluster_size = 1u << h->cluster_bits;
    out.refcount_bits = 1u << h->refcount_order;
    out.compression = h->compression;
    out.flags = (q->extended ? VMM_QCOW2_EXTENDED_L2 : 0) |
                (q->lazy ? VMM_QCOW2_LAZY_REFCOUNTS : 0) |
                (q->data_raw ? VMM_QCOW2_DATA_FILE_RAW : 0);
    out.snapshots = q->snapshot_count;
    /* While we have it open, the mark is ours. */
    out.dirty = (h->incompatible & Q2_INCOMPATIBLE_DIRTY) && !q->marked_dirty;
    out.corrupt = (h->incompatible & Q2_INCOMPATIBLE_CORRUPT) != 0;
    memcpy(out.backing, h->backing_name, sizeof(out.backing));
    memcpy(out.backing_format, h->backing_format, sizeof(out.backing_format));
    memcpy(out.data_file, h->data_name, sizeof(out.data_file));
    return vmm_info_copy(info, &out, sizeof(out));
}
