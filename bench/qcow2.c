/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * qcow2 images, ours and `qemu-img bench` on the same image with the same requests: requests a second
 * and processor time a request. Both go through the host's page cache, so what is measured is the
 * format's own cost. qemu-img strides through the image, so do we.
 *
 *     bench-qcow2 [FOLDER [CASE]]      CASE: a part of the names of those to run
 */
#include "bench.h"

#include <libvmm/vmm.h>

#include <sys/wait.h>
#include <unistd.h>

#define IMAGE  ((uint64_t)512 << 20)
#define DEPTH  64
#define ROUNDS 4

struct work {
    const char *name;
    const char *make; /* how qemu-img makes the image: "convert" options, or "create" */
    bool write;
    uint32_t depth, size, step, count;
};

static const struct work works[] = {
    {"read 4 KiB, depth 1", "", false, 1, 4096, 69632, 60000},
    {"read 4 KiB, depth 64", "", false, 64, 4096, 69632, 200000},
    {"write 4 KiB, depth 1", "", true, 1, 4096, 69632, 60000},
    {"write 4 KiB, depth 64", "", true, 64, 4096, 69632, 200000},
    {"read 64 KiB in a row, depth 16", "", false, 16, 65536, 65536, 30000},
    {"write 64 KiB in a row, depth 16", "", true, 16, 65536, 65536, 16000},
    {"allocate by 4 KiB, depth 64", NULL, true, 64, 4096, 65536, 8000},
    {"allocate by 64 KiB, depth 16", NULL, true, 16, 65536, 65536, 8000},
    {"read 64 KiB, compressed", "-c", false, 1, 65536, 65536, 8000},
    {"read 4 KiB, subclusters, depth 64", "-o extended_l2=on", false, 64, 4096, 69632, 200000},
};

struct run {
    struct vmm_block *block;
    struct vmm_block_request requests[DEPTH];
    struct iovec vectors[DEPTH];
    const struct work *work;
    uint64_t offset;
    uint32_t begun, done;
    int result;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double processor(int who)
{
    struct rusage u;
    getrusage(who, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static void next(struct run *r, struct vmm_block_request *q);

static void done(struct vmm_block_request *q, int result)
{
    struct run *r = q->ctx;
    r->done++;
    r->result = r->result ? r->result : result;
    if (r->begun < r->work->count)
        next(r, q);
}

static void next(struct run *r, struct vmm_block_request *q)
{
    size_t i = (size_t)(q - r->requests);
    *q = (struct vmm_block_request){.op = r->work->write ? VMM_BLOCK_WRITE : VMM_BLOCK_READ,
                                    .offset = r->offset,
                                    .length = r->work->size,
                                    .vector = &r->vectors[i],
                                    .vector_count = 1,
                                    .done = done,
                                    .ctx = r};
    r->begun++;
    r->offset += r->work->step;
    if (r->offset + r->work->size > IMAGE)
        r->offset %= 65536;
    vmm_block_submit(r->block, q);
}

static int ours(const struct work *work, const char *path, double *rate, double *cpu)
{
    static struct run r;
    struct vmm_qcow2_options o = VMM_QCOW2_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_loop *loop;
    memset(&r, 0, sizeof(r));
    r.work = work;
    o.path = path;
    o.threads = 4;
    if (vmm_loop_new(NULL, &loop) || vmm_block_qcow2_new(loop, &o, &r.block, &err)) {
        fprintf(stderr, "bench-qcow2: %s\n", err.text);
        return 1;
    }
    for (uint32_t i = 0; i < work->depth; i++) {
        r.vectors[i] = (struct iovec){aligned_alloc(4096, work->size), work->size};
        memset(r.vectors[i].iov_base, 0x55, work->size);
    }
    double begin = seconds(), used = processor(RUSAGE_SELF);
    vmm_block_plug(r.block);
    for (uint32_t i = 0; i < work->depth; i++)
        next(&r, &r.requests[i]);
    vmm_block_unplug(r.block);
    while (r.done < work->count)
        (void)vmm_loop_dispatch(loop, -1);
    *rate = work->count / (seconds() - begin);
    *cpu = (processor(RUSAGE_SELF) - used) / work->count;
    for (uint32_t i = 0; i < work->depth; i++)
        free(r.vectors[i].iov_base);
    vmm_block_unref(r.block);
    vmm_loop_unref(loop);
    return r.result;
}

static int command(const char *text)
{
    int status = system(text);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int theirs(const struct work *work, const char *path, double *rate, double *cpu)
{
    char text[1024];
    snprintf(text, sizeof(text),
             "qemu-img bench -t writeback -i io_uring -f qcow2 -c %u -d %u -s %u -S %u %s %s",
             work->count, work->depth, work->size, work->step, work->write ? "-w --pattern=85" : "",
             path);
    double used = processor(RUSAGE_CHILDREN), took = 0;
    FILE *said = popen(text, "r");
    for (char line[256]; said && fgets(line, sizeof(line), said);)
        (void)sscanf(line, "Run completed in %lf", &took);
    if (!said || pclose(said) || took <= 0)
        return 1;
    *rate = work->count / took;
    *cpu = (processor(RUSAGE_CHILDREN) - used) / work->count;
    return 0;
}

static int make(const struct work *work, const char *folder, const char *path)
{
    char text[1024];
    if (work->make)
        snprintf(text, sizeof(text), "qemu-img convert -q -f raw -O qcow2 %s %s/bench.raw %s",
                 work->make, folder, path);
    else
        snprintf(text, sizeof(text), "qemu-img create -q -f qcow2 %s %llu", path,
                 (unsigned long long)IMAGE);
    return command(text);
}

/* [0] is ours, [1] QEMU's. */
static void report(const char *name, const double *rate, const double *cpu)
{
    struct bench_figure f = {
        .group = "qcow2",
        .name = name,
        .unit = "/s",
        .more_is_better = true,
        .peer = "qemu-img",
        .min_ratio = 1.3,
        .how = "the same requests to the same image through the page cache; the best of "
               "four rounds, turn by turn"};
    char text[96];
    bench_add(&f.ours, rate[0]);
    bench_add(&f.theirs, rate[1]);
    bench_report(&f);
    snprintf(text, sizeof(text), "%s, CPU", name);
    f = (struct bench_figure){
        .group = "qcow2", .name = text, .unit = "us", .peer = "qemu-img", .how = "CPU a request"};
    bench_add(&f.ours, cpu[0] * 1e6);
    bench_add(&f.theirs, cpu[1] * 1e6);
    bench_report(&f);
}

static int measure(const struct work *work, const char *folder, const char *path)
{
    double rate[2] = {0, 0}, cpu[2] = {1e9, 1e9};
    for (int round = 0; round < 2 * ROUNDS; round++) {
        int who = (round ^ round >> 1) & 1; /* ABBA: nobody always comes first */
        double r, c;
        if (make(work, folder, path) || (who ? theirs : ours)(work, path, &r, &c))
            return 1;
        rate[who] = r > rate[who] ? r : rate[who];
        cpu[who] = c < cpu[who] ? c : cpu[who];
    }
    report(work->name, rate, cpu);
    return 0;
}

int main(int argc, char **argv)
{
    const char *folder = argc > 1 ? argv[1] : "/tmp";
    char path[512], text[1024];
    if (command("qemu-img --version > /dev/null 2>&1")) {
        fprintf(stderr, "bench-qcow2: qemu-img is missing\n");
        return 77;
    }
    snprintf(path, sizeof(path), "%s/bench.qcow2", folder);
    snprintf(text, sizeof(text), "yes libvmm 0123456789 | head -c %llu > %s/bench.raw",
             (unsigned long long)IMAGE, folder);
    int failed = command(text);
    for (size_t i = 0; i < sizeof(works) / sizeof(works[0]) && !failed; i++) {
        if (argc > 2 && !strstr(works[i].name, argv[2]))
            continue;
        failed = measure(&works[i], folder, path);
    }
    snprintf(text, sizeof(text), "rm -f %s %s/bench.raw", path, folder);
    (void)command(text);
    return failed;
}
