/* SPDX-License-Identifier: BSD-3-Clause */
/* KVM's binary statistics: header, descriptors, data (Documentation/virt/kvm/api.rst, 4.133). */
#include "base/util.h"
#include "vm/ioctl.h"

#include <libvmm/stats.h>

#include <fcntl.h>
#include <linux/kvm.h>
#include <stdlib.h>
#include <unistd.h>

/* More than any kernel has by far; what is above is taken for nonsense. */
#define MOST_STATS     4096u
#define MOST_NAME      1024u
#define MOST_BUCKETS   4096u
#define MOST_DATA      (1u << 20)
#define DESC_FIXED     (sizeof(struct kvm_stats_desc))
#define BITS(flags, n) (((flags) >> (n)) & 0xfu)

struct one_stat {
    const char *name;
    uint32_t flags;
    int32_t exponent;
    uint32_t count;
    uint32_t bucket_size;
    uint32_t first; /* index of its first value */
};

struct vmm_stats {
    int fd;
    uint32_t count;
    uint64_t data_offset;
    size_t values_count;
    uint64_t *values;
    struct one_stat *stats;
    char *names; /* `count` of name_size bytes, and the id */
    const char *id;
};

static int read_at(int fd, void *data, size_t length, uint64_t offset)
{
    char *to = data;
    if (offset > INT64_MAX - length)
        return -EPROTO;
    while (length != 0) {
        ssize_t n = pread(fd, to, length, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (n == 0)
            return -EPROTO;
        to += n;
        offset += (size_t)n;
        length -= (size_t)n;
    }
    return 0;
}

/* One descriptor, whose name follows it. */
static int take_descriptor(struct vmm_stats *s, const char *at, uint32_t name_size, uint32_t index)
{
    struct kvm_stats_desc d;
    memcpy(&d, at, DESC_FIXED);
    char *name = s->names + (size_t)index * name_size;
    memcpy(name, at + DESC_FIXED, name_size);
    if (!memchr(name, '\0', name_size) || d.size == 0 || d.size > MOST_BUCKETS || d.offset % 8 ||
        d.offset > MOST_DATA)
        return -EPROTO;
    s->stats[index] = (struct one_stat){.name = name,
                                        .flags = d.flags,
                                        .exponent = d.exponent,
                                        .count = d.size,
                                        .bucket_size = d.bucket_size,
                                        .first = d.offset / 8};
    size_t end = (size_t)s->stats[index].first + d.size;
    if (end > s->values_count)
        s->values_count = end;
    return 0;
}

static int take_descriptors(struct vmm_stats *s, const struct kvm_stats_header *h)
{
    size_t stride = DESC_FIXED + h->name_size;
    char *raw = malloc(stride * h->num_desc);
    if (!raw)
        return -ENOMEM;
    int r = read_at(s->fd, raw, stride * h->num_desc, h->desc_offset);
    for (uint32_t i = 0; i < h->num_desc && r == 0; i++)
        r = take_descriptor(s, raw + i * stride, h->name_size, i);
    free(raw);
    return r;
}

static int parse(struct vmm_stats *s)
{
    struct kvm_stats_header h;
    int r = read_at(s->fd, &h, sizeof(h), 0);
    if (r < 0)
        return r;
    if (h.name_size == 0 || h.name_size > MOST_NAME || h.num_desc > MOST_STATS)
        return -EPROTO;
    s->count = h.num_desc;
    s->data_offset = h.data_offset;
    s->stats = calloc((size_t)h.num_desc + 1, sizeof(*s->stats));
    s->names = calloc((size_t)h.num_desc + 1, h.name_size);
    if (!s->stats || !s->names)
        return -ENOMEM;
    char *id = s->names + (size_t)h.num_desc * h.name_size;
    r = read_at(s->fd, id, h.name_size, h.id_offset);
    if (r < 0)
        return r;
    id[h.name_size - 1] = '\0';
    s->id = id;
    r = take_descriptors(s, &h);
    if (r < 0)
        return r;
    s->values = calloc(s->values_count + 1, sizeof(*s->values));
    return s->values ? vmm_stats_refresh(s) : -ENOMEM;
}

/* Takes the descriptor over. */
static int open_owned(int fd, struct vmm_stats **out, struct vmm_error *err)
{
    struct vmm_stats *s = calloc(1, sizeof(*s));
    if (!s) {
        close(fd);
        return vmm_error_set(err, -ENOMEM, "statistics: out of memory");
    }
    s->fd = fd;
    int r = parse(s);
    if (r < 0) {
        vmm_stats_free(s);
        return vmm_error_set(err, r,
                             r == -EPROTO ? "statistics: not in a form that is known: %s"
                                          : "statistics: cannot be read: %s",
                             strerror(-r));
    }
    *out = s;
    return 0;
}

int vmm_stats_open(int kvm_fd, struct vmm_stats **out, struct vmm_error *err)
{
    if (!out)
        return vmm_error_set(err, -EINVAL, "statistics: no result pointer given");
    int fd = vmm_kvm_ioctl(kvm_fd, KVM_GET_STATS_FD, 0);
    if (fd >= 0)
        return open_owned(fd, out, err);
    int code = fd == -ENOTTY || fd == -EINVAL ? -EOPNOTSUPP : fd;
    return vmm_error_set(err, code, "statistics: KVM_GET_STATS_FD: %s%s", strerror(-code),
                         code == -EOPNOTSUPP ? "; the host's KVM is older than Linux 5.14" : "");
}

int vmm_stats_open_fd(int stats_fd, struct vmm_stats **out, struct vmm_error *err)
{
    if (!out)
        return vmm_error_set(err, -EINVAL, "statistics: no result pointer given");
    int fd = fcntl(stats_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return vmm_error_set(err, -errno, "statistics: descriptor %d: %s", stats_fd,
                             strerror(errno));
    return open_owned(fd, out, err);
}

struct vmm_stats *vmm_stats_free(struct vmm_stats *stats)
{
    if (stats) {
        close(stats->fd);
        free(stats->values);
        free(stats->stats);
        free(stats->names);
        free(stats);
    }
    return NULL;
}

const char *vmm_stats_id(const struct vmm_stats *stats)
{
    return stats->id;
}

int vmm_stats_refresh(struct vmm_stats *stats)
{
    if (!stats)
        return -EINVAL;
    return read_at(stats->fd, stats->values, stats->values_count * sizeof(*stats->values),
                   stats->data_offset);
}

size_t vmm_stats_count(const struct vmm_stats *stats)
{
    return stats ? stats->count : 0;
}

static bool starts_with(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

/* By name, as KVM has no groups: arch/x86/kvm/x86.c and virt/kvm/kvm_main.c. */
static bool is_mmu(const char *name)
{
    static const char *const prefixes[] = {"mmu_",        "max_mmu_",  "pf_",    "pages_", "tlb_",
                                           "remote_tlb_", "nx_lpage_", "invlpg", "lpages"};
    for (size_t i = 0; i < VMM_ARRAY_SIZE(prefixes); i++)
        if (starts_with(name, prefixes[i]))
            return true;
    return false;
}

int vmm_stats_get(const struct vmm_stats *stats, size_t index, struct vmm_stat *stat)
{
    if (!stats || !stat)
        return -EINVAL;
    if (index >= stats->count)
        return -ENOENT;
    const struct one_stat *s = &stats->stats[index];
    struct vmm_stat full = {
        .size = sizeof(full),
        .name = s->name,
        .values = stats->values + s->first,
        .count = s->count,
        .kind = BITS(s->flags, KVM_STATS_TYPE_SHIFT),
        .unit = BITS(s->flags, KVM_STATS_UNIT_SHIFT),
        .base = BITS(s->flags, KVM_STATS_BASE_SHIFT) == 0 ? 10 : 2,
        .exponent = s->exponent,
        .bucket_size = s->bucket_size,
        .is_mmu = is_mmu(s->name),
    };
    return vmm_info_copy(stat, &full, sizeof(full));
}

int vmm_stats_find(const struct vmm_stats *stats, const char *name, struct vmm_stat *stat)
{
    if (!stats || !name || !stat)
        return -EINVAL;
    for (size_t i = 0; i < stats->count; i++)
        if (strcmp(stats->stats[i].name, name) == 0)
            return vmm_stats_get(stats, i, stat);
    return -ENOENT;
}

const char *vmm_unit_name(uint32_t unit)
{
    static const char *const names[] = {"", "bytes", "seconds", "cycles", "boolean"};
    return unit < VMM_ARRAY_SIZE(names) ? names[unit] : "?";
}
