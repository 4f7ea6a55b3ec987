/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Raw images against QEMU's block layer: the same file, the same offsets and the same depth, by us and by
 * `qemu-img bench`, turn by turn. Tells for each case the shortest round: time and CPU time of a request.
 * The offsets jump through the file by a
 * step that shares no factor with its length, as qemu-img does it too.
 *
 *   bench-block [FOLDER [AIO [QEMU-AIO [CASE]]]]   AIO: auto, io_uring, threads; QEMU-AIO: io_uring, ...;
 *                                               CASE: a part of the names of those to run
 *
 * The folder (the current one) should be on a disk, not on a tmpfs, for direct I/O.
 */
#include "bench.h"

#include <libvmm/block.h>

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#define LENGTH    (256u << 20)
#define DEPTH_MAX 64u
#define ROUNDS    5

struct kase {
    const char *name;
    uint32_t cache;
    bool write;
    uint32_t depth, size, count;
    uint64_t step;
};

#define JUMP (4096ull * 24593)

static const struct kase cases[] = {
    {"cached 4K random read depth 1", VMM_BLOCK_CACHE_WRITEBACK, 0, 1, 4096, 100000, JUMP},
    {"cached 4K random read depth 64", VMM_BLOCK_CACHE_WRITEBACK, 0, 64, 4096, 200000, JUMP},
    {"cached 4K random write depth 1", VMM_BLOCK_CACHE_WRITEBACK, 1, 1, 4096, 50000, JUMP},
    {"cached 4K random write depth 64", VMM_BLOCK_CACHE_WRITEBACK, 1, 64, 4096, 100000, JUMP},
    {"cached 64K sequential read d.64", VMM_BLOCK_CACHE_WRITEBACK, 0, 64, 65536, 20000, 65536},
    {"cached 64K sequential write d.64", VMM_BLOCK_CACHE_WRITEBACK, 1, 64, 65536, 10000, 65536},
    {"direct 4K random read depth 1", VMM_BLOCK_CACHE_NONE, 0, 1, 4096, 3000, JUMP},
    {"direct 4K random read depth 64", VMM_BLOCK_CACHE_NONE, 0, 64, 4096, 30000, JUMP},
    {"direct 4K random write depth 1", VMM_BLOCK_CACHE_NONE, 1, 1, 4096, 3000, JUMP},
    {"direct 4K random write depth 64", VMM_BLOCK_CACHE_NONE, 1, 64, 4096, 30000, JUMP},
    {"direct 64K sequential read d.64", VMM_BLOCK_CACHE_NONE, 0, 64, 65536, 8000, 65536},
    {"direct 64K sequential write d.64", VMM_BLOCK_CACHE_NONE, 1, 64, 65536, 4000, 65536},
};

struct cost {
    double time, cpu; /* microseconds a request */
};

static void die(const char *what, int rc)
{
    fprintf(stderr, "block: %s: %s\n", what, strerror(-rc));
    exit(rc == -ENOTSUP ? 77 : 1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static double cpu_of(const struct rusage *u)
{
    return (double)(u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1e6 +
           (double)(u->ru_utime.tv_usec + u->ru_stime.tv_usec);
}

/* Ours ----------------------------------------------------------------------------------------- */

struct load {
    const struct kase *kase;
    struct vmm_loop *loop;
    struct vmm_block *block;
    uint64_t offset;
    uint32_t begun, done;
};

struct slot {
    struct load *load;
    struct vmm_block_request request;
    struct iovec vector;
};

static void done(struct vmm_block_request *request, int result);

static void begin(struct slot *s)
{
    struct load *l = s->load;
    s->request = (struct vmm_block_request){
        .op = l->kase->write ? VMM_BLOCK_WRITE : VMM_BLOCK_READ,
        .offset = l->offset,
        .length = l->kase->size,
        .vector = &s->vector,
        .vector_count = 1,
        .done = done,
        .ctx = s,
    };
    l->begun++;
    l->offset = (l->offset + l->kase->step) % LENGTH;
    vmm_block_submit(l->block, &s->request);
}

static void done(struct vmm_block_request *request, int result)
{
    struct slot *s = request->ctx;
    if (result)
        die("request", result);
    s->load->done++;
    if (s->load->begun < s->load->kase->count)
        begin(s);
}

static struct cost ours(const struct kase *k, const char *path, uint32_t engine)
{
    struct vmm_block_raw_options o = VMM_BLOCK_RAW_OPTIONS_INIT;
    struct load l = {.kase = k};
    static struct slot slots[DEPTH_MAX];
    struct rusage before, after;
    o.path = path;
    o.engine = engine;
    o.cache = k->cache;
    o.threads = 4;
    int rc = vmm_loop_new(NULL, &l.loop);
    if (!rc)
        rc = vmm_block_raw_new(l.loop, &o, &l.block, NULL);
    if (rc)
        die(path, rc);
    getrusage(RUSAGE_SELF, &before);
    double start = now();
    vmm_block_plug(l.block);
    for (uint32_t i = 0; i < k->depth; i++) {
        slots[i].load = &l;
        slots[i].vector.iov_len = k->size;
        if (!slots[i].vector.iov_base)
            slots[i].vector.iov_base = aligned_alloc(4096, 65536);
        memset(slots[i].vector.iov_base, (int)i, k->size);
        begin(&slots[i]);
    }
    vmm_block_unplug(l.block);
    while (l.done < k->count)
        if ((rc = vmm_loop_dispatch(l.loop, -1)) < 0)
            die("loop", rc);
    double took = now() - start;
    getrusage(RUSAGE_SELF, &after);
    vmm_block_unref(l.block);
    vmm_loop_unref(l.loop);
    return (struct cost){took / k->count, (cpu_of(&after) - cpu_of(&before)) / k->count};
}

/* QEMU's --------------------------------------------------------------------------------------- */

/* Seconds as qemu-img says them, and the CPU time of the process. */
static struct cost run_qemu(const struct kase *k, uint32_t count, const char *path, const char *aio)
{
    char line[512], text[512] = "";
    int out[2], status;
    struct rusage used;
    double seconds = -1;
    snprintf(line, sizeof(line),
             "exec qemu-img bench -f raw -i %s -t %s %s -c %u -d %u -s %u -S %llu %s", aio,
             k->cache == VMM_BLOCK_CACHE_NONE ? "none" : "writeback", k->write ? "-w" : "", count,
             k->depth, k->size, (unsigned long long)k->step, path);
    if (pipe(out))
        die("pipe", -errno);
    pid_t pid = fork();
    if (pid == 0) {
        dup2(out[1], 1);
        execl("/bin/sh", "sh", "-c", line, NULL);
        _exit(127);
    }
    close(out[1]);
    for (size_t length = 0; length < sizeof(text) - 1;) {
        ssize_t n = read(out[0], text + length, sizeof(text) - 1 - length);
        if (n <= 0)
            break;
        length += (size_t)n;
    }
    close(out[0]);
    wait4(pid, &status, 0, &used);
    const char *found = strstr(text, "completed in ");
    if (status || !found || sscanf(found, "completed in %lf", &seconds) != 1) {
        fprintf(stderr, "block: qemu-img bench failed: %s\n", line);
        exit(1);
    }
    return (struct cost){seconds * 1e6 / count, cpu_of(&used)};
}

/* Without what starting a process costs. */
static struct cost qemus(const struct kase *k, const char *path, const char *aio)
{
    double start = run_qemu(k, 1, path, aio).cpu;
    struct cost c = run_qemu(k, k->count, path, aio);
    c.cpu = (c.cpu - start) / k->count;
    return c;
}

static void report(const char *name, struct cost us, struct cost them)
{
    struct bench_figure f = {.group = "raw",
                             .name = name,
                             .unit = "us",
                             .peer = "qemu-img",
                             .min_ratio = 1.3,
                             .how = "time of a request; the shortest of five rounds, turn by turn"};
    char text[96];
    bench_add(&f.ours, us.time);
    bench_add(&f.theirs, them.time);
    bench_report(&f);
    snprintf(text, sizeof(text), "%s, CPU", name);
    f = (struct bench_figure){
        .group = "raw", .name = text, .unit = "us", .peer = "qemu-img", .how = "CPU a request"};
    bench_add(&f.ours, us.cpu);
    bench_add(&f.theirs, them.cpu);
    bench_report(&f);
}

static void keep_best(struct cost *best, struct cost c)
{
    if (c.time < best->time)
        best->time = c.time;
    if (c.cpu < best->cpu)
        best->cpu = c.cpu;
}

static int make_image(char *path)
{
    static uint8_t data[1 << 20];
    int fd = mkstemp(path);
    if (fd < 0)
        die(path, -errno);
    memset(data, 0x5a, sizeof(data));
    for (uint32_t i = 0; i < LENGTH / sizeof(data); i++)
        if (write(fd, data, sizeof(data)) != (ssize_t)sizeof(data))
            die(path, -errno);
    fsync(fd);
    return fd;
}

int main(int argc, char **argv)
{
    char path[256];
    const char *aio = argc > 2 ? argv[2] : "auto";
    const char *qemu_aio = argc > 3 ? argv[3] : "io_uring";
    uint32_t engine = strcmp(aio, "threads") == 0    ? VMM_BLOCK_ENGINE_THREADS
                      : strcmp(aio, "io_uring") == 0 ? VMM_BLOCK_ENGINE_IO_URING
                                                     : VMM_BLOCK_ENGINE_AUTO;
    if (system("qemu-img --version >/dev/null 2>&1")) {
        puts("qemu-img is missing (Debian: qemu-utils)");
        return 77;
    }
    snprintf(path, sizeof(path), "%s/libvmm-bench-XXXXXX", argc > 1 ? argv[1] : ".");
    close(make_image(path));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct cost us = {1e18, 1e18}, them = {1e18, 1e18};
        if (argc > 4 && !strstr(cases[i].name, argv[4]))
            continue;
        for (int round = 0; round < ROUNDS; round++) {
            keep_best(&us, ours(&cases[i], path, engine));
            keep_best(&them, qemus(&cases[i], path, qemu_aio));
        }
        report(cases[i].name, us, them);
    }
    unlink(path);
    return 0;
}
