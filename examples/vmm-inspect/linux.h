/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Finding a running x86-64 Linux in guest-virtual memory: banner and task list, without debug
 * information and whatever KASLR chose. Knows guest memory by two functions only, trusts nothing
 * that it reads, and does a bounded amount of work.
 */
#ifndef INSPECT_LINUX_H
#define INSPECT_LINUX_H

#include <stddef.h>
#include <stdint.h>

struct inspect_memory {
    void *ctx;
    /* Copy guest-virtual memory; 0, or negative where some of it is not mapped. */
    int (*read)(void *ctx, uint64_t address, void *data, size_t length);
    /* Call `fn` for the mapped stretches of [start, last]; stops at and returns what is not 0. */
    int (*ranges)(void *ctx, uint64_t start, uint64_t last,
                  int (*fn)(void *fn_ctx, uint64_t address, uint64_t length), void *fn_ctx);
};

struct inspect_linux {
    uint64_t image;     /* the first mapped address of the kernel's image: base plus KASLR offset */
    char banner[256];   /* "Linux version ..." */
    uint64_t init_node; /* the list node `tasks` of init_task */
    uint64_t comm;      /* from a list node to the task's name */
    int64_t pid;        /* from a list node to the pid; 0: not found */
    uint32_t tasks;     /* nodes when it was looked at, init_task included */
};

/* 0, or negative with `*why` a static sentence. */
int inspect_linux_find(const struct inspect_memory *memory, struct inspect_linux *out,
                       const char **why);

/* Call `fn` for each task, init_task first; `name` has at most 15 characters, all printable. `pid`
 * is -1 where its place was not found. Negative when the list does not come back to its beginning. */
int inspect_linux_tasks(const struct inspect_memory *memory, const struct inspect_linux *found,
                        void (*fn)(void *ctx, int32_t pid, const char *name), void *ctx);

#endif
