/* SPDX-License-Identifier: BSD-3-Clause */
/* The NVMe controller's life, and its namespaces. */
#include "devices/storage/nvme-internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define VENDOR                                                                                     \
    0x1b36u /* with the device ID that QEMU's controller has: drivers want no quirks of it */
#define DEVICE  0x0010u
#define CLASS   0x010802u
#define DEPTH   256u
#define COMMAND 0x04u /* of configuration space */
#define STATE   1u

/* For the others ------------------------------------------------------------------------------- */

void vmm_nvme_error(struct vmm_nvme *n, const char *text)
{
    if (n->vm)
        vmm_vm_guest_error(n->vm, n->name, "%s", text);
}

void vmm_nvme_fatal(struct vmm_nvme *n, const char *text)
{
    if (!(n->csts & CSTS_FATAL))
        vmm_nvme_error(n, text);
    n->csts |= CSTS_FATAL;
}

void vmm_nvme_kick(struct vmm_nvme *n)
{
    uint64_t one = 1;
    ssize_t done = write(n->kick_fd, &one, sizeof(one));
    (void)done; /* full means that one is pending */
}

struct nvme_namespace *vmm_nvme_namespace(struct vmm_nvme *n, uint32_t id)
{
    return id <= VMM_NVME_NAMESPACES ? n->namespaces[id] : NULL;
}

static void kicked(void *ctx, uint32_t events)
{
    struct vmm_nvme *n = ctx;
    uint64_t count;
    (void)events;
    ssize_t done = read(n->kick_fd, &count, sizeof(count));
    (void)done;
    pthread_mutex_lock(&n->lock);
    vmm_nvme_run(n);
    pthread_mutex_unlock(&n->lock);
}

/* The PCI function ----------------------------------------------------------------------------- */

/* It may have become a bus master, and then there may be something to do. */
static void config_written(void *ctx, uint32_t offset, uint32_t width, uint32_t value)
{
    (void)width;
    (void)value;
    if (offset <= COMMAND)
        vmm_nvme_kick(ctx);
}

static void reset(void *ctx)
{
    struct vmm_nvme *n = ctx;
    pthread_mutex_lock(&n->lock);
    vmm_nvme_stop(n);
    n->cc = n->aqa = 0;
    n->asq = n->acq = 0;
    pthread_mutex_unlock(&n->lock);
}

static void free_namespace(struct nvme_namespace *ns)
{
    if (ns)
        vmm_block_unref(ns->block);
    free(ns);
}

static void free_nvme(struct vmm_nvme *n)
{
    n->source = vmm_source_free(n->source);
    for (uint32_t i = 0; i <= VMM_NVME_NAMESPACES; i++) {
        if (n->namespaces[i])
            vmm_block_drain(n->namespaces[i]->block);
        free_namespace(n->namespaces[i]);
    }
    if (n->kick_fd >= 0)
        close(n->kick_fd);
    vmm_memory_view_fini(&n->view);
    vmm_memory_unref(n->memory);
    vmm_loop_unref(n->loop);
    pthread_mutex_destroy(&n->lock);
    pthread_mutex_destroy(&n->place_lock);
    free(n->requests);
    free(n->bounce);
    free(n);
}

static void destroy(void *ctx)
{
    struct vmm_nvme *n = ctx;
    /* Nobody else knows it any more; what ends from here on is of no interest. */
    pthread_mutex_lock(&n->lock);
    vmm_nvme_want_events(n, 0);
    n->epoch++;
    for (uint32_t i = 0; i < n->depth; i++)
        if (n->requests[i].state != REQUEST_BLOCK)
            vmm_nvme_let_go(&n->requests[i], 0);
    n->queued = n->queued_last = NULL;
    n->csts = 0;
    n->pin = false;
    memset(n->cqs, 0, sizeof(n->cqs));
    pthread_mutex_unlock(&n->lock);
    free_nvme(n);
}

static int make_function(struct vmm_nvme *n, struct vmm_error *err)
{
    static const struct vmm_pci_ops ops = {
        .size = sizeof(ops),
        .bar_read = vmm_nvme_bar_read,
        .bar_write = vmm_nvme_bar_write,
        .bar_placed = vmm_nvme_bar_placed,
        .config_written = config_written,
        .reset = reset,
        .state_version = STATE,
        .save = vmm_nvme_save,
        .load = vmm_nvme_load,
        .destroy = destroy,
    };
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    o.name = n->name;
    o.vendor_id = VENDOR;
    o.device_id = DEVICE;
    o.subsystem_vendor_id = VENDOR;
    o.subsystem_id = DEVICE;
    o.class_code = CLASS;
    o.revision = 2;
    o.interrupt_pin = 1;
    o.bars[NVME_BAR].length = NVME_BAR_LENGTH;
    o.bars[NVME_BAR].flags = VMM_PCI_BAR_64;
    o.bars[NVME_BAR].min_width = 4;
    o.bars[NVME_BAR].max_width = 4;
    o.msix_vectors = n->queues + 1;
    o.msix_bar = NVME_MSIX_BAR;
    o.capabilities = VMM_PCI_CAP_PM | VMM_PCI_CAP_EXPRESS;
    o.ops = &ops;
    o.ctx = n;
    return vmm_pci_new(&o, &n->pci, err);
}

/* Making one ----------------------------------------------------------------------------------- */

static bool printable(const char *text)
{
    for (; *text; text++)
        if (*text < ' ' || *text > '~')
            return false;
    return true;
}

static int check_options(const struct vmm_nvme_options *o, struct vmm_error *err)
{
    if (!o->memory || !o->loop || !o->name)
        return vmm_error_set(err, -EINVAL, "an NVMe controller needs a name, memory and a loop");
    if (o->queues > VMM_NVME_QUEUES)
        return vmm_error_set(err, -EINVAL, "%s: at most %u pairs of queues", o->name,
                             VMM_NVME_QUEUES);
    if (o->depth && (o->depth < 16 || o->depth > 1024))
        return vmm_error_set(err, -EINVAL, "%s: a depth of %u is none of 16 to 1024", o->name,
                             o->depth);
    if ((o->serial && (strlen(o->serial) > 20 || !printable(o->serial))) ||
        (o->model && (strlen(o->model) > 40 || !printable(o->model))))
        return vmm_error_set(err, -EINVAL,
                             "%s: a serial number has at most 20 printable characters, a model 40",
                             o->name);
    return 0;
}

static void pad(char *to, size_t length, const char *text)
{
    memset(to, ' ', length);
    memcpy(to, text, strnlen(text, length));
}

static void take_options(struct vmm_nvme *n, const struct vmm_nvme_options *o)
{
    n->vm = o->vm;
    n->memory = vmm_memory_ref(o->memory);
    n->loop = vmm_loop_ref(o->loop);
    n->queues = o->queues ? o->queues : VMM_NVME_QUEUES;
    n->depth = o->depth ? o->depth : DEPTH;
    (void)snprintf(n->name, sizeof(n->name), "%s", o->name);
    pad(n->serial, sizeof(n->serial), o->serial ? o->serial : o->name);
    pad(n->model, sizeof(n->model), o->model ? o->model : "libvmm NVMe controller");
    pthread_mutex_init(&n->lock, NULL);
    pthread_mutex_init(&n->place_lock, NULL);
    vmm_memory_view_init(&n->view, n->memory);
    vmm_nvme_default_features(n);
    n->kick_fd = -1;
}

static int acquire(struct vmm_nvme *n)
{
    n->requests = calloc(n->depth, sizeof(*n->requests));
    n->bounce = malloc(NVME_TRANSFER);
    if (!n->requests || !n->bounce)
        return -ENOMEM;
    for (uint32_t i = n->depth; i-- > 0;) {
        n->requests[i].nvme = n;
        n->requests[i].next = n->free;
        n->free = &n->requests[i];
    }
    n->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    return n->kick_fd < 0 ? -errno
                          : vmm_source_new(n->loop, n->kick_fd, VMM_POLL_IN, kicked, n, &n->source);
}

int vmm_nvme_new(const struct vmm_nvme_options *given, struct vmm_nvme **out, struct vmm_error *err)
{
    struct vmm_nvme_options o;
    int rc = given && out ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "NVMe options: none, or of another version");
    rc = check_options(&o, err);
    if (rc)
        return rc;
    struct vmm_nvme *n = calloc(1, sizeof(*n));
    if (!n)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    take_options(n, &o);
    rc = acquire(n);
    if (rc)
        (void)vmm_error_set(err, rc, "%s: %s", o.name, strerror(-rc));
    else
        rc = make_function(n, err);
    if (rc)
        free_nvme(n);
    else
        *out = n;
    return rc;
}

struct vmm_nvme *vmm_nvme_ref(struct vmm_nvme *n)
{
    vmm_pci_ref(n->pci);
    return n;
}

struct vmm_nvme *vmm_nvme_unref(struct vmm_nvme *n)
{
    if (n)
        vmm_pci_unref(n->pci);
    return NULL;
}

struct vmm_pci *vmm_nvme_pci(struct vmm_nvme *n)
{
    return n->pci;
}

/* Namespaces ----------------------------------------------------------------------------------- */

static int check_namespace(struct vmm_nvme *n, const struct vmm_nvme_namespace *o,
                           struct vmm_block_info *info, struct vmm_error *err)
{
    if (!o->block || o->id > VMM_NVME_NAMESPACES)
        return vmm_error_set(err, -EINVAL,
                             "%s: a namespace needs a block device, and an ID up to %u", n->name,
                             VMM_NVME_NAMESPACES);
    if (vmm_block_loop(o->block) != n->loop)
        return vmm_error_set(err, -EINVAL, "%s: a controller and its disks are on the same loop",
                             n->name);
    int rc = vmm_block_get_info(o->block, info);
    if (rc)
        return vmm_error_set(err, rc, "%s: the disk: %s", n->name, strerror(-rc));
    if (info->length < info->block_size)
        return vmm_error_set(err, -EINVAL, "%s: a disk without a single block", n->name);
    return 0;
}

static void measure(struct nvme_namespace *ns, const struct vmm_block_info *info)
{
    ns->shift = (uint32_t)__builtin_ctz(info->block_size);
    ns->blocks = info->length >> ns->shift;
}

/* A free ID, or the wanted one if it is free; 0: there is none. */
static uint32_t pick(const struct vmm_nvme *n, uint32_t wanted)
{
    for (uint32_t i = wanted ? wanted : 1; i <= VMM_NVME_NAMESPACES; i++) {
        if (!n->namespaces[i])
            return i;
        if (wanted)
            return 0;
    }
    return 0;
}

int vmm_nvme_add(struct vmm_nvme *n, const struct vmm_nvme_namespace *given, uint32_t *id,
                 struct vmm_error *err)
{
    static const uint8_t none[16];
    struct vmm_nvme_namespace o;
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    int rc = n && given ? vmm_options_copy(&o, sizeof(o), given) : -EINVAL;
    if (rc)
        return vmm_error_set(err, rc, "NVMe namespace: no options, or of another version");
    rc = check_namespace(n, &o, &info, err);
    if (rc)
        return rc;
    struct nvme_namespace *ns = calloc(1, sizeof(*ns));
    if (!ns)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    ns->nvme = n;
    ns->read_only = o.read_only || info.read_only;
    memcpy(ns->uuid, o.uuid, sizeof(ns->uuid));
    ns->has_uuid = memcmp(o.uuid, none, sizeof(none)) != 0;
    measure(ns, &info);
    pthread_mutex_lock(&n->lock);
    ns->id = pick(n, o.id);
    if (ns->id) {
        ns->block = vmm_block_ref(o.block);
        n->namespaces[ns->id] = ns;
        vmm_nvme_namespace_changed(n, ns->id);
    }
    pthread_mutex_unlock(&n->lock);
    if (ns->id) {
        if (id)
            *id = ns->id;
        return 0;
    }
    free(ns);
    return o.id ? vmm_error_set(err, -EEXIST, "%s: namespace %u is there already", n->name, o.id)
                : vmm_error_set(err, -ENOSPC, "%s: there are %u namespaces already", n->name,
                                VMM_NVME_NAMESPACES);
}

int vmm_nvme_remove(struct vmm_nvme *n, uint32_t id, struct vmm_error *err)
{
    if (!n || id == 0 || id > VMM_NVME_NAMESPACES || !n->namespaces[id])
        return vmm_error_set(err, -ENOENT, "there is no NVMe namespace %u", id);
    pthread_mutex_lock(&n->lock);
    struct nvme_namespace *ns = n->namespaces[id];
    n->namespaces[id] = NULL;
    pthread_mutex_unlock(&n->lock);
    vmm_block_drain(ns->block);
    pthread_mutex_lock(&n->lock);
    vmm_nvme_namespace_changed(n, id);
    pthread_mutex_unlock(&n->lock);
    free_namespace(ns);
    return 0;
}

int vmm_nvme_resize(struct vmm_nvme *n, uint32_t id, uint64_t length, struct vmm_error *err)
{
    struct vmm_block_info info = VMM_BLOCK_INFO_INIT;
    if (!n || id == 0 || id > VMM_NVME_NAMESPACES || !n->namespaces[id])
        return vmm_error_set(err, -ENOENT, "there is no NVMe namespace %u", id);
    struct nvme_namespace *ns = n->namespaces[id];
    if (length < 1u << ns->shift)
        return vmm_error_set(err, -EINVAL, "%s: a namespace has at least one block", n->name);
    int rc = vmm_block_resize(ns->block, length, err);
    if (rc)
        return rc;
    rc = vmm_block_get_info(ns->block, &info);
    if (rc)
        return vmm_error_set(err, rc, "%s: the disk's new length: %s", n->name, strerror(-rc));
    pthread_mutex_lock(&n->lock);
    measure(ns, &info);
    vmm_nvme_namespace_changed(n, id);
    pthread_mutex_unlock(&n->lock);
    return 0;
}
