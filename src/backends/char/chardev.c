/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The meeting point of a character backend and its user.
 *
 * The user's callbacks run without a lock of the chardev's, because they take their device's lock,
 * and that same device calls vmm_chardev_write() with it held. A list of the calls that are under
 * way lets vmm_chardev_set_user(NULL) wait until the last one has left.
 */
#include "backends/char/chardev.h"
#include "backends/char/terminal.h"
#include "base/util.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct call {
    pthread_t thread;
    struct call *next;
};

struct vmm_chardev {
    _Atomic uint32_t refs;
    struct vmm_chardev_ops ops;
    void *ctx;
    const char *path;
    struct vmm_char_terminal *terminal;
    pthread_mutex_t write_lock; /* around ops.write; taken below a device's lock */
    pthread_mutex_t lock;       /* guards all below; nothing is called with it held */
    pthread_cond_t idle;
    bool has_user;
    struct vmm_chardev_user user;
    void *user_ctx;
    struct call *calls;
};

int vmm_chardev_new(const struct vmm_chardev_ops *ops, void *ctx, struct vmm_chardev **out)
{
    struct vmm_chardev_ops copy;
    if (!ops || !out)
        return -EINVAL;
    int ret = vmm_options_copy(&copy, sizeof(copy), ops);
    if (ret < 0)
        return ret;
    if (!copy.write)
        return -EINVAL;
    struct vmm_chardev *chardev = calloc(1, sizeof(*chardev));
    if (!chardev)
        return -ENOMEM;
    atomic_init(&chardev->refs, 1);
    chardev->ops = copy;
    chardev->ctx = ctx;
    pthread_mutex_init(&chardev->write_lock, NULL);
    pthread_mutex_init(&chardev->lock, NULL);
    pthread_cond_init(&chardev->idle, NULL);
    *out = chardev;
    return 0;
}

struct vmm_chardev *vmm_chardev_ref(struct vmm_chardev *chardev)
{
    if (chardev)
        atomic_fetch_add_explicit(&chardev->refs, 1, memory_order_relaxed);
    return chardev;
}

bool vmm_chardev_try_ref(struct vmm_chardev *chardev)
{
    if (!chardev)
        return false;
    uint32_t refs = atomic_load(&chardev->refs);
    while (refs > 0)
        if (atomic_compare_exchange_weak(&chardev->refs, &refs, refs + 1))
            return true;
    return false;
}

struct vmm_chardev *vmm_chardev_unref(struct vmm_chardev *chardev)
{
    if (!chardev || atomic_fetch_sub_explicit(&chardev->refs, 1, memory_order_acq_rel) != 1)
        return NULL;
    if (chardev->ops.destroy)
        chardev->ops.destroy(chardev->ctx);
    pthread_cond_destroy(&chardev->idle);
    pthread_mutex_destroy(&chardev->lock);
    pthread_mutex_destroy(&chardev->write_lock);
    free(chardev);
    return NULL;
}

/* The user's side ------------------------------------------------------------------------------ */

/* The lock is held: is a callback running on another thread than this one? */
static bool called_elsewhere(const struct vmm_chardev *chardev)
{
    for (const struct call *call = chardev->calls; call; call = call->next)
        if (!pthread_equal(call->thread, pthread_self()))
            return true;
    return false;
}

static void give_up_user(struct vmm_chardev *chardev)
{
    pthread_mutex_lock(&chardev->lock);
    chardev->has_user = false;
    while (called_elsewhere(chardev))
        pthread_cond_wait(&chardev->idle, &chardev->lock);
    pthread_mutex_unlock(&chardev->lock);
}

int vmm_chardev_set_user(struct vmm_chardev *chardev, const struct vmm_chardev_user *user,
                         void *ctx)
{
    if (!chardev)
        return -EINVAL;
    if (!user) {
        give_up_user(chardev);
        return 0;
    }
    struct vmm_chardev_user copy;
    int ret = vmm_options_copy(&copy, sizeof(copy), user);
    if (ret < 0)
        return ret;
    pthread_mutex_lock(&chardev->lock);
    ret = chardev->has_user ? -EBUSY : 0;
    if (ret == 0) {
        chardev->has_user = true;
        chardev->user = copy;
        chardev->user_ctx = ctx;
    }
    pthread_mutex_unlock(&chardev->lock);
    if (ret == 0)
        vmm_chardev_accept(chardev); /* input may have been waiting for somebody to take it */
    return ret;
}

long vmm_chardev_write(struct vmm_chardev *chardev, const void *data, size_t length)
{
    if (!chardev || (!data && length))
        return -EINVAL;
    if (length == 0)
        return 0;
    pthread_mutex_lock(&chardev->write_lock);
    long n = chardev->ops.write(chardev->ctx, data, length);
    pthread_mutex_unlock(&chardev->write_lock);
    /* A backend that claims more than it was given would upset the user's count. */
    return n > 0 && (unsigned long)n > length ? (long)length : n;
}

void vmm_chardev_accept(struct vmm_chardev *chardev)
{
    if (chardev && chardev->ops.accept)
        chardev->ops.accept(chardev->ctx);
}

/* The backend's side --------------------------------------------------------------------------- */

struct entry {
    struct call call;
    struct vmm_chardev_user user;
    void *ctx;
};

/* Announce a call to the user; false when there is none. */
static bool enter_user(struct vmm_chardev *chardev, struct entry *entry)
{
    if (!chardev)
        return false;
    pthread_mutex_lock(&chardev->lock);
    bool has_user = chardev->has_user;
    if (has_user) {
        entry->user = chardev->user;
        entry->ctx = chardev->user_ctx;
        entry->call = (struct call){pthread_self(), chardev->calls};
        chardev->calls = &entry->call;
    }
    pthread_mutex_unlock(&chardev->lock);
    return has_user;
}

static void leave_user(struct vmm_chardev *chardev, struct entry *entry)
{
    pthread_mutex_lock(&chardev->lock);
    struct call **link = &chardev->calls;
    while (*link != &entry->call)
        link = &(*link)->next;
    *link = entry->call.next;
    pthread_cond_broadcast(&chardev->idle);
    pthread_mutex_unlock(&chardev->lock);
}

size_t vmm_chardev_can_receive(struct vmm_chardev *chardev)
{
    struct entry entry;
    if (!enter_user(chardev, &entry))
        return 0;
    size_t room = entry.user.can_receive ? entry.user.can_receive(entry.ctx) : 0;
    leave_user(chardev, &entry);
    return room;
}

void vmm_chardev_deliver(struct vmm_chardev *chardev, const void *data, size_t length)
{
    struct entry entry;
    if (length == 0 || !enter_user(chardev, &entry))
        return;
    if (entry.user.receive)
        entry.user.receive(entry.ctx, data, length);
    leave_user(chardev, &entry);
}

void vmm_chardev_writable(struct vmm_chardev *chardev)
{
    struct entry entry;
    if (!enter_user(chardev, &entry))
        return;
    if (entry.user.writable)
        entry.user.writable(entry.ctx);
    leave_user(chardev, &entry);
}

void vmm_chardev_event(struct vmm_chardev *chardev, uint32_t event)
{
    struct entry entry;
    if (!enter_user(chardev, &entry))
        return;
    if (entry.user.event)
        entry.user.event(entry.ctx, event);
    leave_user(chardev, &entry);
}

/* Stock backends' extras ----------------------------------------------------------------------- */

void vmm_chardev_set_path(struct vmm_chardev *chardev, const char *path)
{
    chardev->path = path;
}

void vmm_chardev_set_terminal(struct vmm_chardev *chardev, struct vmm_char_terminal *terminal)
{
    chardev->terminal = terminal;
}

void *vmm_chardev_backend(struct vmm_chardev *chardev,
                          long (*write)(void *ctx, const uint8_t *data, size_t length))
{
    return chardev && chardev->ops.write == write ? chardev->ctx : NULL;
}

const char *vmm_chardev_path(const struct vmm_chardev *chardev)
{
    return chardev ? chardev->path : NULL;
}

void vmm_chardev_restore_terminal(struct vmm_chardev *chardev)
{
    if (chardev && chardev->terminal)
        vmm_char_terminal_restore(chardev->terminal);
}
