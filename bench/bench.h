/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * What the benchmarks share: a clock, samples with median and spread, and the way a figure is told.
 *
 * A figure is printed as a line for people. Where the environment names a file in LIBVMM_BENCH_OUT it is
 * also appended there as one line of JSON, which bench/run collects.
 */
#ifndef BENCH_BENCH_H
#define BENCH_BENCH_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#define BENCH_SAMPLES 64

struct bench_samples {
    double values[BENCH_SAMPLES];
    size_t count;
};

/* A figure, and what stands beside it. */
struct bench_figure {
    const char *group, *name, *unit;
    bool more_is_better;
    struct bench_samples ours;
    const char *peer; /* NULL: none */
    struct bench_samples theirs;
    double limit;     /* our value is to be no worse than this; 0: no such goal */
    double min_ratio; /* we are to be at least so many times as good as the peer; 0: no such goal */
    const char *how;  /* a sentence: what was done */
};

/* Nanoseconds. */
static inline double bench_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* The process's own processor time, in nanoseconds. */
static inline double bench_cpu(void)
{
    struct rusage u;
    getrusage(RUSAGE_SELF, &u);
    return ((double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1e6 +
            (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec)) *
           1e3;
}

static inline void bench_need(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench: %s failed\n", what);
        exit(1);
    }
}

static inline void bench_add(struct bench_samples *s, double value)
{
    if (s->count < BENCH_SAMPLES)
        s->values[s->count++] = value;
}

static inline int bench_compare(const void *a, const void *b)
{
    const double *x = a, *y = b;
    return *x < *y ? -1 : *x > *y;
}

/* Sorts the samples: values[0] is the least. */
static inline double bench_median(struct bench_samples *s)
{
    if (!s->count)
        return 0;
    qsort(s->values, s->count, sizeof(s->values[0]), bench_compare);
    return s->count % 2 ? s->values[s->count / 2]
                        : (s->values[s->count / 2 - 1] + s->values[s->count / 2]) / 2;
}

static inline double bench_ratio(const struct bench_figure *f, double ours, double theirs)
{
    if (!f->peer || ours <= 0 || theirs <= 0)
        return 0;
    return f->more_is_better ? ours / theirs : theirs / ours;
}

/* true: every goal of the figure is met. */
static inline bool bench_met(const struct bench_figure *f, double ours, double ratio)
{
    if (f->limit > 0 && (f->more_is_better ? ours < f->limit : ours > f->limit))
        return false;
    return f->min_ratio <= 0 || ratio >= f->min_ratio;
}

static inline void bench_json(const struct bench_figure *f, double ours, double theirs,
                              double ratio)
{
    const char *path = getenv("LIBVMM_BENCH_OUT");
    FILE *file = path ? fopen(path, "ae") : NULL;
    if (!file)
        return;
    fprintf(file,
            "{\"group\": \"%s\", \"name\": \"%s\", \"unit\": \"%s\", \"more_is_better\": %s, "
            "\"value\": %.6g, \"low\": %.6g, \"high\": %.6g, \"samples\": %zu, \"how\": \"%s\"",
            f->group, f->name, f->unit, f->more_is_better ? "true" : "false", ours,
            f->ours.values[0], f->ours.values[f->ours.count - 1], f->ours.count,
            f->how ? f->how : "");
    if (f->peer)
        fprintf(
            file,
            ", \"peer\": \"%s\", \"peer_value\": %.6g, \"peer_low\": %.6g, \"peer_high\": %.6g, "
            "\"ratio\": %.4g",
            f->peer, theirs, f->theirs.values[0], f->theirs.values[f->theirs.count - 1], ratio);
    if (f->limit > 0)
        fprintf(file, ", \"limit\": %.6g", f->limit);
    if (f->min_ratio > 0)
        fprintf(file, ", \"min_ratio\": %.4g", f->min_ratio);
    if (f->limit > 0 || f->min_ratio > 0)
        fprintf(file, ", \"met\": %s", bench_met(f, ours, ratio) ? "true" : "false");
    fputs("}\n", file);
    fclose(file);
}

/* Print the figure. At least one sample is there. */
static inline void bench_report(struct bench_figure *f)
{
    double ours = bench_median(&f->ours), theirs = bench_median(&f->theirs);
    double ratio = bench_ratio(f, ours, theirs);
    printf("%-10s %-44s %10.5g %-8s", f->group, f->name, ours, f->unit);
    if (f->peer)
        printf(" %s %.5g, %.2f times as good", f->peer, theirs, ratio);
    if (f->limit > 0 || f->min_ratio > 0)
        printf("  [goal %s]", bench_met(f, ours, ratio) ? "met" : "MISSED");
    putchar('\n');
    fflush(stdout);
    bench_json(f, ours, theirs, ratio);
}

/* A figure without a peer, of one sample. */
static inline void bench_value(const char *group, const char *name, double value, const char *unit,
                               double limit)
{
    struct bench_figure f = {.group = group, .name = name, .unit = unit, .limit = limit};
    bench_add(&f.ours, value);
    bench_report(&f);
}

#endif
