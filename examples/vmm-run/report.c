/* SPDX-License-Identifier: BSD-3-Clause */
/* The report of a run: start-up times, exits by reason and by device, memory. */
#include "report.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

uint64_t time_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Field 22 of /proc/self/stat: the start in clock ticks since boot (10 ms steps, so a report of very
 * short runs says so much and no more). */
uint64_t time_of_process_start(void)
{
    char text[1024];
    unsigned long long ticks = 0;
    FILE *file = fopen("/proc/self/stat", "re");
    if (!file)
        return time_now();
    size_t length = fread(text, 1, sizeof(text) - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *p = strrchr(text, ')'); /* field 2 may hold spaces */
    for (int field = 2; p && field < 22; field++)
        p = strchr(p + 1, ' ');
    if (!p || sscanf(p, "%llu", &ticks) != 1)
        return time_now();
    struct timespec boot, monotonic;
    clock_gettime(CLOCK_BOOTTIME, &boot);
    clock_gettime(CLOCK_MONOTONIC, &monotonic);
    uint64_t suspended = (uint64_t)(boot.tv_sec - monotonic.tv_sec) * 1000000000u;
    return ticks * (1000000000u / (uint64_t)sysconf(_SC_CLK_TCK)) - suspended;
}

/* A JSON string. */
static void put_string(FILE *f, const char *text)
{
    fputc('"', f);
    for (const unsigned char *p = (const unsigned char *)text; *p; p++) {
        if (*p == '"' || *p == '\\')
            fprintf(f, "\\%c", *p);
        else if (*p < 0x20)
            fprintf(f, "\\u%04x", *p);
        else
            fputc(*p, f);
    }
    fputc('"', f);
}

static void put_ms(FILE *f, const char *name, uint64_t from, uint64_t to, const char *end)
{
    if (to >= from && to)
        fprintf(f, "    \"%s\": %.3f%s\n", name, (double)(to - from) / 1e6, end);
    else
        fprintf(f, "    \"%s\": null%s\n", name, end);
}

/* A line such as "VmHWM:     1234 kB" of /proc/self/status. */
static long status_kib(const char *name)
{
    char line[256];
    long value = -1;
    FILE *file = fopen("/proc/self/status", "re");
    while (file && value < 0 && fgets(line, sizeof(line), file))
        if (strncmp(line, name, strlen(name)) == 0)
            value = strtol(line + strlen(name) + 1, NULL, 10);
    if (file)
        fclose(file);
    return value;
}

static void put_exits(FILE *f, struct vmm_machine *machine)
{
    fprintf(f, "  \"exits\": {");
    const char *separator = "";
    for (uint32_t reason = 0; reason <= VMM_EXIT_TPR; reason++) {
        uint64_t sum = 0;
        for (uint32_t i = 0; i < vmm_machine_cpus(machine); i++)
            if (vmm_machine_vcpu(machine, i))
                sum += vmm_vcpu_exit_count(vmm_machine_vcpu(machine, i), reason);
        if (!sum)
            continue;
        fprintf(f, "%s\"%s\": %llu", separator, vmm_exit_name(reason), (unsigned long long)sum);
        separator = ", ";
    }
    fprintf(f, "},\n");
}

struct region_list {
    FILE *f;
    const char *separator;
    const char *space;
};

static void put_region(void *ctx, const struct vmm_region_info *info)
{
    struct region_list *list = ctx;
    if (info->reads + info->writes == 0)
        return;
    fprintf(list->f, "%s\n    {\"name\": ", list->separator);
    put_string(list->f, info->name);
    fprintf(list->f, ", \"space\": \"%s\", \"address\": %llu, \"reads\": %llu, \"writes\": %llu}",
            list->space, (unsigned long long)info->address, (unsigned long long)info->reads,
            (unsigned long long)info->writes);
    list->separator = ",";
}

static void put_devices(FILE *f, struct vmm_machine *machine)
{
    struct region_list list = {f, "", "port"};
    fprintf(f, "  \"devices\": [");
    if (vmm_machine_ports(machine))
        vmm_bus_foreach(vmm_machine_ports(machine), put_region, &list);
    list.space = "mmio";
    vmm_bus_foreach(vmm_machine_mmio(machine), put_region, &list);
    fprintf(f, "\n  ],\n");
    uint64_t unclaimed = vmm_bus_unclaimed_count(vmm_machine_mmio(machine));
    if (vmm_machine_ports(machine))
        unclaimed += vmm_bus_unclaimed_count(vmm_machine_ports(machine));
    fprintf(f, "  \"unclaimed_accesses\": %llu,\n", (unsigned long long)unclaimed);
    fprintf(f, "  \"guest_errors\": %llu,\n",
            (unsigned long long)vmm_vm_guest_error_count(vmm_machine_vm(machine)));
}

/* KVM's own statistics of one object that speak of its shadow or nested MMU. */
static void put_mmu_stats(FILE *f, const char *name, int kvm_fd)
{
    struct vmm_stats *stats;
    if (vmm_stats_open(kvm_fd, &stats, NULL))
        return; /* an older kernel has none */
    fprintf(f, "    \"%s\": {", name);
    const char *separator = "";
    for (size_t i = 0; vmm_stats_refresh(stats) == 0 && i < vmm_stats_count(stats); i++) {
        struct vmm_stat stat = VMM_STAT_INIT;
        if (vmm_stats_get(stats, i, &stat) || !stat.is_mmu)
            continue;
        uint64_t sum = 0; /* of a histogram's buckets */
        for (uint32_t k = 0; k < stat.count; k++)
            sum += stat.values[k];
        fprintf(f, "%s\"%s\": %llu", separator, stat.name, (unsigned long long)sum);
        separator = ", ";
    }
    fprintf(f, "},\n");
    vmm_stats_free(stats);
}

static void put_mmu(FILE *f, struct vmm_machine *machine)
{
    struct vmm_mmu_info info = VMM_MMU_INFO_INIT;
    fprintf(f, "  \"mmu\": {\n");
    put_mmu_stats(f, "vm", vmm_vm_fd(vmm_machine_vm(machine)));
    for (uint32_t i = 0; i < vmm_machine_cpus(machine); i++) {
        char name[16];
        snprintf(name, sizeof(name), "vcpu%u", i);
        if (vmm_machine_vcpu(machine, i))
            put_mmu_stats(f, name, vmm_vcpu_fd(vmm_machine_vcpu(machine, i)));
    }
    (void)vmm_machine_get_mmu(machine, &info);
    fprintf(f, "    \"paging\": \"%s\", \"pool_pages\": %llu, \"pool_set\": %s\n",
            vmm_paging_name(info.paging), (unsigned long long)info.pages,
            info.set ? "true" : "false");
    fprintf(f, "  },\n");
}

static void put_host(FILE *f, struct vmm_host *host)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    vmm_host_get_info(host, &info);
    fprintf(f, "  \"host\": {\"flavour\": \"%s\", \"paging\": \"%s\"},\n",
            vmm_flavour_name(info.flavour), vmm_paging_name(info.paging));
}

int report_write(const char *path, struct vmm_host *host, struct vmm_machine *machine,
                 const struct run_options *options, const struct run_times *times,
                 const struct vmm_outcome *outcome, int status)
{
    FILE *f = fopen(path, "we");
    if (!f)
        return -errno;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    fprintf(f, "{\n  \"libvmm\": \"%s\",\n", vmm_version());
    put_host(f, host);
    fprintf(f, "  \"machine\": \"%s\", \"cpus\": %u, \"memory_bytes\": %llu,\n  \"kernel\": ",
            options->machine, options->cpus, (unsigned long long)options->memory);
    put_string(f, options->kernel);
    fprintf(f, ",\n  \"outcome\": \"%s\", \"exit_status\": %d,\n", vmm_end_name(outcome->reason),
            status);
    fprintf(f, "  \"milliseconds_since_process_start\": {\n");
    put_ms(f, "machine_made", times->process_start, times->machine_made, ",");
    put_ms(f, "realized", times->process_start, times->realized, ",");
    put_ms(f, "started", times->process_start, times->started, ",");
    put_ms(f, "ended", times->process_start, times->ended, "");
    fprintf(f, "  },\n");
    put_exits(f, machine);
    put_devices(f, machine);
    put_mmu(f, machine);
    fprintf(f, "  \"cpu_seconds\": {\"user\": %.6f, \"system\": %.6f},\n",
            (double)usage.ru_utime.tv_sec + (double)usage.ru_utime.tv_usec / 1e6,
            (double)usage.ru_stime.tv_sec + (double)usage.ru_stime.tv_usec / 1e6);
    fprintf(f, "  \"peak_resident_kib\": %ld,\n  \"peak_virtual_kib\": %ld\n}\n",
            status_kib("VmHWM"), status_kib("VmPeak"));
    int rc = ferror(f) ? -EIO : 0;
    if (fclose(f) != 0)
        rc = -errno;
    return rc;
}
