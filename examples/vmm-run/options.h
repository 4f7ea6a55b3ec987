/* SPDX-License-Identifier: BSD-3-Clause */
/* What the command line asks for. */
#ifndef VMM_RUN_OPTIONS_H
#define VMM_RUN_OPTIONS_H

#include "display.h"
#include "drives.h"
#include "iothreads.h"
#include "keys.h"
#include "net.h"
#include "pmem.h"
#include "ports.h"
#include "share.h"
#include "vhost-user.h"

#include <libvmm/vmm.h>

#define DISKS_MAX      8
#define PLUG_SLOTS_MAX 8

enum {
    DISK_NONE, /* no format was named */
    DISK_RAW,
    DISK_QCOW2,
    DISK_NBD,
};

struct disk_option {
    const char *file;
    const char *serial;  /* NULL: none */
    uint32_t boot_index; /* the lowest is booted from first; 0: not given */
    uint32_t queues;
    uint32_t format; /* DISK_… */
    uint32_t bus;    /* DISK_ON_… */
    bool backing;    /* the files that the image names may be opened */
    bool read_only;
    bool snapshot; /* what is written is forgotten at the end */
    bool cdrom;    /* only where it is on the SCSI controller */
    bool on_error_given;
    uint32_t on_error;        /* VMM_BLOCK_ON_ERROR_… */
    uint32_t cache, engine;   /* VMM_BLOCK_CACHE_…, VMM_BLOCK_ENGINE_… */
    uint64_t iops, bandwidth; /* 0: any */
};

struct run_options {
    const char *kernel;
    uint32_t kernel_format; /* VMM_KERNEL_… */
    bool unpack;
    uint64_t kernel_at; /* 0: where the format says */
    const char *initrd;
    const char *append;
    const char *cpu;
    const char *machine;
    const char *firmware;
    const char *firmware_vars; /* NULL: none */
    const char *serial;
    const char *debug_console; /* NULL: none */
    const char *report;
    const char *control;
    uint64_t memory;
    uint64_t memory_max; /* 0: no hot plug */
    uint32_t cpus;
    uint32_t assist; /* VMM_ASSIST_… */
    struct disk_option disks[DISKS_MAX];
    uint32_t disk_count;
    struct cdrom_option cdroms[CDROMS_MAX];
    uint32_t cdrom_count;
    const char *floppy; /* NULL: none */
    bool rng;
    uint32_t pci; /* VMM_MACHINE_PCI_… */
    bool balloon;
    uint32_t plug_slots;
    uint32_t iothreads;
    struct share_options shares;
    struct display_options display;
    struct keys_options keys;
    struct pmem_options pmem;
    struct net_options nets;
    struct vhost_user_options vhost_user;
    struct port_options ports;
    bool debug_exit;
    bool no_reboot;
    bool verbose;
    int timeout_s; /* 0: none */
};

/* Exit statuses; a guest's debug exit gives others (always odd). */
enum {
    STATUS_OK = 0,
    STATUS_USAGE = 2,
    STATUS_HOST = 3,
    STATUS_CRASH = 4,
    STATUS_TIMEOUT = 124,
};

/* Parse the command line. Returns -1 to go on, else the status to leave with (help was printed, or
 * what is wrong). */
int options_parse(struct run_options *options, int argc, char **argv);
/* One --disk, cut up in place and pointed into. Returns the same. */
int options_parse_disk(struct disk_option *disk, char *text);

#endif
