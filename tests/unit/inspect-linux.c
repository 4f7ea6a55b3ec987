/* SPDX-License-Identifier: BSD-3-Clause */
/* Finding Linux in guest memory: a made-up kernel image, whole and broken in each way. */
#include "test.h"

#include <string.h>

#include "linux.h"

#define IMAGE 0xffffffffb1c00000ull
#define SIZE  0x40000u
#define TASK  0x20000u /* init_task, then the others 0x1000 bytes apart */
#define NODE  0x100u
#define PID   0x1c0u
#define COMM  0x300u

static uint8_t image[SIZE];

static int read_image(void *ctx, uint64_t address, void *data, size_t length)
{
    (void)ctx;
    if (address < IMAGE || length > SIZE || address - IMAGE > SIZE - length)
        return -1;
    memcpy(data, image + (address - IMAGE), length);
    return 0;
}

static int image_ranges(void *ctx, uint64_t start, uint64_t last,
                        int (*fn)(void *fn_ctx, uint64_t address, uint64_t length), void *fn_ctx)
{
    assert_true(start <= IMAGE && last >= IMAGE + SIZE - 1);
    (void)ctx;
    return fn(fn_ctx, IMAGE, SIZE);
}

static const struct inspect_memory memory = {NULL, read_image, image_ranges};

static void put(size_t at, uint64_t value)
{
    memcpy(image + at, &value, 8);
}

static uint64_t node_of(unsigned task)
{
    return IMAGE + TASK + task * 0x1000 + NODE;
}

static void make_kernel(unsigned tasks)
{
    static const char *const names[] = {"swapper/0", "systemd", "kthreadd", "cron"};
    memset(image, 0, SIZE);
    strcpy((char *)image + 0x1000, "Linux version %s (%s)");
    strcpy((char *)image + 0x2000, "Linux version 6.1.0 (gcc) # SMP");
    /* Across the edge of two chunks of the search. */
    strcpy((char *)image + 0x10000 - 7, "Linux version 6.1.0-9 (gcc) #1 SMP Debian\n");
    for (unsigned i = 0; i < tasks; i++) {
        size_t task = TASK + i * 0x1000;
        put(task + NODE, node_of((i + 1) % tasks));
        put(task + NODE + 8, node_of((i + tasks - 1) % tasks));
        put(task + PID, (uint64_t)i << 32 | i);
        strcpy((char *)image + task + COMM, names[i]);
        /* A list that leads to itself, as empty ones do. */
        put(task + NODE + 0x20, IMAGE + task + NODE + 0x20);
        put(task + NODE + 0x28, IMAGE + task + NODE + 0x20);
    }
}

static void collect(void *ctx, int32_t pid, const char *name)
{
    char *text = ctx;
    sprintf(text + strlen(text), "%d %s;", (int)pid, name);
}

static void count_tasks(void *ctx, int32_t pid, const char *name)
{
    (void)pid;
    (void)name;
    (*(unsigned *)ctx)++;
}

static void finds_everything(void **state)
{
    (void)state;
    struct inspect_linux found;
    const char *why;
    char text[200] = "";
    make_kernel(4);
    assert_int_equal(inspect_linux_find(&memory, &found, &why), 0);
    assert_int_equal(found.image, IMAGE);
    assert_string_equal(found.banner, "Linux version 6.1.0-9 (gcc) #1 SMP Debian");
    assert_int_equal(found.init_node, node_of(0));
    assert_int_equal(found.comm, COMM - NODE);
    assert_int_equal(found.pid, PID - NODE);
    assert_int_equal(found.tasks, 4);
    assert_int_equal(inspect_linux_tasks(&memory, &found, collect, text), 0);
    assert_string_equal(text, "0 swapper/0;1 systemd;2 kthreadd;3 cron;");
}

static void refuses_broken_kernels(void **state)
{
    (void)state;
    struct inspect_linux found;
    const char *why;
    char text[200] = "";
    memset(image, 0, SIZE);
    assert_int_equal(inspect_linux_find(&memory, &found, &why), -1);
    assert_non_null(strstr(why, "banner"));
    make_kernel(4);
    put(TASK + 0x2000 + NODE + 8, node_of(3)); /* a link back that is wrong */
    assert_int_equal(inspect_linux_find(&memory, &found, &why), -1);
    assert_non_null(strstr(why, "task list"));
    make_kernel(4);
    put(TASK + 0x2000 + NODE, 0x1234); /* out of the kernel */
    assert_int_equal(inspect_linux_find(&memory, &found, &why), -1);
    make_kernel(4);
    memset(image + TASK + 0x1000 + COMM, 'x', 16); /* a name without an end */
    assert_int_equal(inspect_linux_find(&memory, &found, &why), -1);
    make_kernel(4);
    image[TASK + 0x1000 + COMM] = 7; /* control characters never reach the terminal */
    assert_int_equal(inspect_linux_find(&memory, &found, &why), -1);
    /* Process numbers that make no sense: the names are given without. */
    make_kernel(4);
    put(TASK + 0x1000 + PID, 5);
    assert_int_equal(inspect_linux_find(&memory, &found, &why), 0);
    assert_int_equal(found.pid, 0);
    assert_int_equal(inspect_linux_tasks(&memory, &found, collect, text), 0);
    assert_string_equal(text, "-1 swapper/0;-1 systemd;-1 kthreadd;-1 cron;");
    /* The list changes between the two calls: it never comes back, and that ends. */
    put(TASK + 0x3000 + NODE, node_of(1));
    unsigned count = 0;
    assert_int_equal(inspect_linux_tasks(&memory, &found, count_tasks, &count), -1);
    assert_true(count > 1000 && count <= 65536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_everything),
        cmocka_unit_test(refuses_broken_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
