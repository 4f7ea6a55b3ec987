/* SPDX-License-Identifier: BSD-3-Clause */
/* See linux.h. The layout of struct task_struct is derived from what must be true of it. */
#include "linux.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Where x86-64 kernels are mapped: 1 GiB from __START_KERNEL_map (Documentation/x86/x86_64/mm). */
#define IMAGE_FIRST 0xffffffff80000000ull
#define IMAGE_LAST  0xffffffffbfffffffull
#define KERNEL_HALF 0xff00000000000000ull /* with five levels; four have less of it */
#define CHUNK       65536u
#define NAME_SIZE   16u    /* TASK_COMM_LEN */
#define BEFORE_NAME 8192u  /* of struct task_struct, searched for the list node */
#define MOST_TASKS  65536u /* a list that is longer is not believed */

/* Search ------------------------------------------------------------------------------------- */

struct search {
    const struct inspect_memory *memory;
    const void *pattern;
    size_t length;
    /* 0 to go on. */
    int (*found)(void *ctx, uint64_t address);
    void *ctx;
    uint8_t *chunk;
};

static int search_chunk(struct search *s, uint64_t address, size_t size)
{
    const uint8_t *at = s->chunk, *end = s->chunk + size;
    while ((at = memmem(at, (size_t)(end - at), s->pattern, s->length)) != NULL) {
        int r = s->found(s->ctx, address + (uint64_t)(at - s->chunk));
        if (r != 0)
            return r;
        at++;
    }
    return 0;
}

/* Chunks overlap, so that no match is cut in two. */
static int search_range(void *ctx, uint64_t address, uint64_t length)
{
    struct search *s = ctx;
    while (length >= s->length) {
        size_t size = length < CHUNK ? (size_t)length : CHUNK;
        if (s->memory->read(s->memory->ctx, address, s->chunk, size) == 0) {
            int r = search_chunk(s, address, size);
            if (r != 0)
                return r;
        }
        if (size == length)
            return 0;
        address += size - (s->length - 1);
        length -= size - (s->length - 1);
    }
    return 0;
}

static int search(const struct inspect_memory *memory, const void *pattern, size_t length,
                  int (*found)(void *ctx, uint64_t address), void *ctx)
{
    struct search s = {memory, pattern, length, found, ctx, malloc(CHUNK)};
    if (!s.chunk)
        return -1;
    int r = memory->ranges(memory->ctx, IMAGE_FIRST, IMAGE_LAST, search_range, &s);
    free(s.chunk);
    return r;
}

/* Banner ------------------------------------------------------------------------------------- */

struct finder {
    const struct inspect_memory *memory;
    struct inspect_linux *out;
};

static int first_range(void *ctx, uint64_t address, uint64_t length)
{
    (void)length;
    *(uint64_t *)ctx = address;
    return 1;
}

static bool printable(char c)
{
    return c >= ' ' && c <= '~';
}

/* "#1": the number of the build. Kernels since 6.1 hold a template of the banner without it too. */
static bool has_build_number(const char *banner)
{
    const char *mark = strchr(banner, '#');
    return mark && mark[1] >= '0' && mark[1] <= '9';
}

/* The banner goes on with a digit, format strings do not. */
static int try_banner(void *ctx, uint64_t address)
{
    struct finder *f = ctx;
    char text[sizeof(f->out->banner)];
    size_t length = 0;
    while (length < sizeof(text) - 1 &&
           f->memory->read(f->memory->ctx, address + length, &text[length], 1) == 0 &&
           printable(text[length]))
        length++;
    if (length < 16 || text[14] < '0' || text[14] > '9')
        return 0;
    text[length] = '\0';
    if (f->out->banner[0] == '\0' || has_build_number(text))
        memcpy(f->out->banner, text, length + 1);
    return has_build_number(text);
}

/* Tasks -------------------------------------------------------------------------------------- */

static bool read64(const struct inspect_memory *m, uint64_t address, uint64_t *value)
{
    return m->read(m->ctx, address, value, sizeof(*value)) == 0;
}

static bool kernel_pointer(uint64_t value)
{
    return value >= KERNEL_HALF && value % 8 == 0;
}

static bool read_name(const struct inspect_memory *m, uint64_t address, char name[NAME_SIZE])
{
    size_t n = 0;
    if (m->read(m->ctx, address, name, NAME_SIZE) != 0)
        return false;
    while (n < NAME_SIZE && printable(name[n]))
        n++;
    return n > 0 && n < NAME_SIZE && name[n] == '\0';
}

/* Is there a list from `node` through tasks whose names lie `comm` bytes on? Its length, or 0. */
static uint32_t list_length(const struct inspect_memory *m, uint64_t node, uint64_t comm)
{
    uint64_t at = node, next, back;
    char name[NAME_SIZE];
    for (uint32_t n = 1; n < MOST_TASKS; n++) {
        if (!read_name(m, at + comm, name) || !read64(m, at, &next) || !kernel_pointer(next) ||
            !read64(m, next + 8, &back) || back != at)
            return 0;
        if (next == node)
            return n;
        at = next;
    }
    return 0;
}

/* `address` holds the idle task's name. Every list node before it that leads through tasks and
 * back is a candidate; `tasks` is the longest. */
static int try_init_task(void *ctx, uint64_t address)
{
    struct finder *f = ctx;
    for (uint64_t comm = 16; comm <= BEFORE_NAME; comm += 8) {
        uint32_t n = list_length(f->memory, address - comm, comm);
        if (n > 1 && n > f->out->tasks) {
            f->out->tasks = n;
            f->out->init_node = address - comm;
            f->out->comm = comm;
        }
    }
    return 0;
}

/* Process number and thread group of the list's first tasks are 0, 1 and 2, twice each. */
static bool pid_fits(const struct inspect_memory *m, uint64_t node, uint64_t offset)
{
    for (uint32_t want = 0; want < 3; want++) {
        uint32_t pids[2];
        if (m->read(m->ctx, node + offset, pids, sizeof(pids)) != 0 || pids[0] != want ||
            pids[1] != want || !read64(m, node, &node))
            return false;
    }
    return true;
}

static void find_pid(const struct inspect_memory *m, struct inspect_linux *out)
{
    for (uint64_t offset = 16; offset < out->comm && out->pid == 0 && out->tasks > 2; offset += 4)
        if (pid_fits(m, out->init_node, offset))
            out->pid = (int64_t)offset;
}

int inspect_linux_find(const struct inspect_memory *memory, struct inspect_linux *out,
                       const char **why)
{
    /* A kernel for one processor only names it without the number. */
    static const char *const names[] = {"swapper/0\0\0\0\0\0\0", "swapper\0\0\0\0\0\0\0\0"};
    struct finder f = {memory, out};
    memset(out, 0, sizeof(*out));
    *why = "no kernel image is mapped where x86-64 Linux has it";
    if (memory->ranges(memory->ctx, IMAGE_FIRST, IMAGE_LAST, first_range, &out->image) != 1)
        return -1;
    *why = "the kernel's image holds no banner of Linux";
    if (search(memory, "Linux version ", 14, try_banner, &f) < 0 || out->banner[0] == '\0')
        return -1;
    for (size_t i = 0; i < 2 && out->tasks == 0; i++)
        (void)search(memory, names[i], NAME_SIZE, try_init_task, &f);
    *why = "no task list was found";
    if (out->tasks == 0)
        return -1;
    find_pid(memory, out);
    *why = "";
    return 0;
}

int inspect_linux_tasks(const struct inspect_memory *memory, const struct inspect_linux *found,
                        void (*fn)(void *ctx, int32_t pid, const char *name), void *ctx)
{
    uint64_t node = found->init_node;
    for (uint32_t n = 0; n < MOST_TASKS; n++) {
        char name[NAME_SIZE];
        int32_t pid = -1;
        if (!read_name(memory, node + found->comm, name))
            return -1;
        if (found->pid != 0 && memory->read(memory->ctx, node + (uint64_t)found->pid, &pid, 4) != 0)
            return -1;
        fn(ctx, pid, name);
        if (!read64(memory, node, &node) || !kernel_pointer(node))
            return -1;
        if (node == found->init_node)
            return 0;
    }
    return -1;
}
