/* SPDX-License-Identifier: BSD-3-Clause */
/**
 * @file chardev.h
 * Character backends: where the bytes of a serial port or console go. They know nothing of guests.
 *
 * A chardev has one user (a device). Bytes for the user come by its callback on the loop's thread;
 * bytes from the user are taken by vmm_chardev_write(), which never blocks and never buffers
 * without bound: it takes as many as the peer can, and says by `writable` when there is room again.
 */
#ifndef LIBVMM_CHARDEV_H
#define LIBVMM_CHARDEV_H

#include <libvmm/loop.h>

VMM_BEGIN_DECLS

struct vmm_chardev;

#define VMM_CHARDEV_OPENED 1u /**< a peer is there */
#define VMM_CHARDEV_CLOSED 2u /**< the peer has gone; writes are dropped until OPENED */

/** The user's side. Callbacks run on the loop's thread without any lock of the chardev's. */
struct vmm_chardev_user {
    size_t size;
    /** Room for incoming bytes right now; 0 stops reading until vmm_chardev_accept(). */
    size_t (*can_receive)(void *ctx);
    void (*receive)(void *ctx, const uint8_t *data, size_t length);
    /** After a short write: there is room again. */
    void (*writable)(void *ctx);
    void (*event)(void *ctx, uint32_t event);
};

/** An embedder's own backend, and the form of the built-in ones. */
struct vmm_chardev_ops {
    size_t size;
    /** Take up to `length` bytes without blocking; returns how many, or a negative errno (the bytes
     *  are then lost and the user goes on). Called from any thread, one at a time. */
    long (*write)(void *ctx, const uint8_t *data, size_t length);
    /** The user can receive again. May be NULL. */
    void (*accept)(void *ctx);
    void (*destroy)(void *ctx);
};

/** `ops` is copied; on success `ctx` belongs to the chardev (ops->destroy). */
VMM_API int vmm_chardev_new(const struct vmm_chardev_ops *ops, void *ctx, struct vmm_chardev **out);
VMM_API struct vmm_chardev *vmm_chardev_ref(struct vmm_chardev *chardev);
VMM_API struct vmm_chardev *vmm_chardev_unref(struct vmm_chardev *chardev);

/* For users (devices) */
/** Become the user (`user` is copied; its callbacks may be NULL); NULL for `user` gives it up: then no
 *  callback runs any more when this returns, so do not hold a lock that a callback takes, unless
 *  this is called from inside the callback. -EBUSY: it has a user. Thread-safe. */
VMM_API int vmm_chardev_set_user(struct vmm_chardev *chardev, const struct vmm_chardev_user *user,
                                 void *ctx);
/** Returns how many bytes were taken or dropped because there is no peer (fewer than `length`: wait
 *  for `writable`), or a negative errno: they are lost. Never blocks. Thread-safe. */
VMM_API long vmm_chardev_write(struct vmm_chardev *chardev, const void *data, size_t length);
/** The user can receive again. A lock that its callbacks take may be held. Thread-safe. */
VMM_API void vmm_chardev_accept(struct vmm_chardev *chardev);

/* For backends: call them without a lock that ops->write takes. Without a user there is room for
 * nothing and the rest is dropped. */
VMM_API size_t vmm_chardev_can_receive(struct vmm_chardev *chardev);
VMM_API void vmm_chardev_deliver(struct vmm_chardev *chardev, const void *data, size_t length);
VMM_API void vmm_chardev_writable(struct vmm_chardev *chardev);
VMM_API void vmm_chardev_event(struct vmm_chardev *chardev, uint32_t event);

/* Stock backends ------------------------------------------------------------------------------ */

/** Read from one descriptor and write to another (either may be -1); both are duplicated and made
 *  non-blocking only if they are sockets, pipes or terminals of which the duplicate is a new open
 *  file description; else poll guards each call. Input that ends leaves output as it is, unless
 *  both are the same socket or terminal. -EBADF: neither is open, or not for that direction. */
VMM_API int vmm_chardev_new_fd(struct vmm_loop *loop, int in_fd, int out_fd,
                               struct vmm_chardev **out, struct vmm_error *err);
/** Standard input and output; a terminal is put into raw mode and restored when the chardev goes,
 *  by vmm_chardev_restore_terminal(), and never otherwise changed. `escape` (0: none, 1 for Ctrl-A)
 *  is a prefix: `on_escape` gets the key after it, on the loop's thread; the prefix twice sends it.
 *  Keys are looked at even when the guest takes none, up to 4096 of them. In a background process
 *  the terminal is left alone and there is no input. -EBADF: one of the two is closed. */
VMM_API int vmm_chardev_new_stdio(struct vmm_loop *loop, uint8_t escape,
                                  void (*on_escape)(void *ctx, uint8_t key), void *ctx,
                                  struct vmm_chardev **out, struct vmm_error *err);
/** Give the terminal back now (for signal handlers and crashes). Async-signal-safe. NULL is fine. */
VMM_API void vmm_chardev_restore_terminal(struct vmm_chardev *chardev);
/** A new pseudo-terminal, raw; its path is vmm_chardev_path(). Peers may come and go: output is
 *  dropped while there is none. */
VMM_API int vmm_chardev_new_pty(struct vmm_loop *loop, struct vmm_chardev **out,
                                struct vmm_error *err);
/** Listen on a unix socket (one peer at a time; created with mode 0600, removed when the chardev
 *  goes), or connect to one. */
VMM_API int vmm_chardev_new_unix(struct vmm_loop *loop, const char *path, bool listen,
                                 struct vmm_chardev **out, struct vmm_error *err);
/** Append to a file (made with mode 0600) or to a device that never makes a writer wait, such as
 *  /dev/null. -EINVAL: a terminal, FIFO or other special file. Errors of the disk lose the bytes. */
VMM_API int vmm_chardev_new_file(const char *path, struct vmm_chardev **out, struct vmm_error *err);
/** Keep the last `capacity` bytes (at least 1) in memory, for vmm_chardev_memory_read(). */
VMM_API int vmm_chardev_new_memory(size_t capacity, struct vmm_chardev **out);
/** Take the oldest bytes out of a memory chardev; returns how many (0 for any other chardev).
 *  Thread-safe. */
VMM_API size_t vmm_chardev_memory_read(struct vmm_chardev *chardev, void *data, size_t length);
/** Hand output to a function (any thread, one call at a time). Input by vmm_chardev_deliver(). */
VMM_API int vmm_chardev_new_callback(void (*write)(void *ctx, const uint8_t *data, size_t length),
                                     void *ctx, struct vmm_chardev **out);
/** The path of a pty or socket, else NULL. */
VMM_API const char *vmm_chardev_path(const struct vmm_chardev *chardev);

VMM_END_DECLS

#endif
