/* SPDX-License-Identifier: BSD-3-Clause */
/* The client's fids and what they stand for. */
#include "backends/share/share.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

int vmm_p9_node_new(int fd, struct p9_node **out)
{
    struct p9_node *node = malloc(sizeof(*node));
    if (!node) {
        close(fd);
        return -ENOMEM;
    }
    *node = (struct p9_node){.refs = 1, .fd = fd};
    *out = node;
    return 0;
}

void vmm_p9_node_unref(struct p9_node *node)
{
    if (!node || --node->refs)
        return;
    close(node->fd);
    free(node);
}

void vmm_p9_table_init(struct p9_table *table)
{
    *table = (struct p9_table){0};
    (void)getrandom(&table->seed, sizeof(table->seed), GRND_NONBLOCK);
    table->seed |= 1;
}

static struct p9_fid **bucket(const struct vmm_share *s, uint32_t number)
{
    const struct p9_table *t = &s->table;
    uint32_t index = (number ^ number >> 16) * t->seed >> 22;
    return (struct p9_fid **)(uintptr_t)&t->buckets[index % P9_BUCKETS];
}

struct p9_fid *vmm_p9_fid_find(const struct vmm_share *s, uint32_t number)
{
    struct p9_fid *fid = *bucket(s, number);
    while (fid && fid->number != number)
        fid = fid->next;
    return fid;
}

struct p9_fid *vmm_p9_fid(struct p9_message *m)
{
    return vmm_p9_fid_find(m->share, p9_u32(&m->in));
}

int vmm_p9_fid_new(struct vmm_share *s, uint32_t number, struct p9_node *node, uint32_t uid,
                   struct p9_fid **out)
{
    struct p9_fid **first = bucket(s, number);
    if (vmm_p9_fid_find(s, number))
        return -EBADF;
    if (s->table.count >= s->fids_max)
        return -ENFILE;
    struct p9_fid *fid = malloc(sizeof(*fid));
    if (!fid)
        return -ENOMEM;
    *fid = (struct p9_fid){
        .next = *first, .number = number, .uid = uid, .kind = FID_FILE, .fd = -1, .node = node};
    if (node)
        node->refs++;
    *first = fid;
    s->table.count++;
    *out = fid;
    return 0;
}

void vmm_p9_fid_free(struct vmm_share *s, struct p9_fid *fid)
{
    struct p9_fid **link = bucket(s, fid->number);
    while (*link != fid)
        link = &(*link)->next;
    *link = fid->next;
    s->table.count--;
    vmm_p9_xattr_free(s, fid);
    vmm_p9_node_unref(fid->node);
    if (fid->fd >= 0)
        close(fid->fd);
    free(fid);
}

void vmm_p9_table_clear(struct vmm_share *s)
{
    for (size_t i = 0; i < P9_BUCKETS; i++)
        while (s->table.buckets[i])
            vmm_p9_fid_free(s, s->table.buckets[i]);
}
