/* SPDX-License-Identifier: BSD-3-Clause */
/* The command line of vmm-run: help, sizes, and options of the form NAME[,key=value]... */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "vmm-run - run a guest on libvmm's boards\n"
    "\n"
    "  vmm-run --kernel FILE [OPTION]...\n"
    "\n"
    "What to boot\n"
    "  --kernel FILE[,format=FORMAT][,at=ADDRESS][,unpack=on]\n"
    "        FORMAT: auto (the default: by the file's own header), bzimage, pvh, linux64,\n"
    "        multiboot, flat16, flat32, flat64. at: where a flat binary is put and entered\n"
    "        (0x1000). unpack: take the kernel out of a bzImage and enter it directly.\n"
    "  --initrd FILE             an initial RAM disk, or a Multiboot module\n"
    "  --append TEXT             the kernel's command line\n"
    "\n"
    "The machine\n"
    "  --machine micro|pc|q35    the board (micro); the others start firmware, which boots a disk\n"
    "  --firmware FILE           of pc and q35: such as /usr/share/seabios/bios-256k.bin; of micro "
    "on\n"
    "                            arm64: UEFI, to which --kernel is handed over\n"
    "  --firmware-vars FILE      where UEFI firmware keeps its variables: a copy of the empty "
    "store\n"
    "                            that comes with it, for each machine its own\n"
    "  --memory SIZE[,max=SIZE]  RAM: 512M, 2G, ... (256M); up to max can be plugged while it "
    "runs\n"
    "  --cpus N                  processors (1)\n"
    "  --cpu POLICY              host (the default), x86-64-v1 to x86-64-v4, each followed by\n"
    "                            ,+feature or ,-feature any number of times\n"
    "  --serial WHERE            stdio (the default), pty, unix:PATH (listens), file:PATH, none\n"
    "  --debug-console FILE      what the guest writes to ports 0x402 and 0xe9\n"
    "  --debug-exit              a write of V to port 0xf4 ends the VM with status V*2+1\n"
    "  --assist auto|on|off      finish instructions that the host's KVM cannot (auto: where it\n"
    "                            emulates guest kernels)\n"
    "\n"
    "Virtio devices\n"
    "  --disk FILE,format=raw|qcow2|nbd[,KEY=VALUE]...\n"
    "        a disk; may be given 8 times. The format is always named: a guest could write\n"
    "        into a raw image what looks like another. With nbd the file is a URI, such as\n"
    "        nbd://HOST/EXPORT or nbd+unix:///?socket=PATH. Keys:\n"
    "          if=virtio|ahci|ide|scsi|nvme  how the guest reaches it (virtio); AHCI, IDE and NVMe "
    "want\n"
    "                                 PCI, see --transport; on virtio's SCSI controller also "
    "cdrom=on\n"
    "          readonly=on, serial=TEXT, queues=N\n"
    "          bootindex=N            firmware tries the lowest first (not with if=scsi)\n"
    "          backing=on             open the other files that a qcow2 image names\n"
    "          snapshot=on            the image is only read; what is written is forgotten\n"
    "          iops=N, bandwidth=SIZE requests and bytes a second, at most\n"
    "          cache=writeback|none|unsafe  the host's page cache (writeback), past it, or with\n"
    "                                 flushes that do nothing\n"
    "          aio=auto|io_uring|threads    these two for raw images\n"
    "          on-error=report|stop|ignore  tell the guest; stop the VM until \"resume\" on the\n"
    "                                 control socket; or forget it. Without this key errors are\n"
    "                                 reported, but where the host's disk is full the VM stops,\n"
    "                                 and goes on when there is room\n"
    "  --net user|tap:INTERFACE|unix:PATH[,KEY=VALUE]...\n"
    "        a network card, on a user-mode network (DHCP, name server, the host's connections), "
    "a\n"
    "        tap interface, or a socket such as passt's; may be given 8 times. Keys:\n"
    "          mac=ADDRESS            (random), queues=N pairs of queues, mtu=N\n"
    "          packed=off             queues of the older layout only\n"
    "          pcap=FILE              write the frames to a file for tcpdump and wireshark\n"
    "          forward=tcp|udp:[ADDRESS:]HOSTPORT:GUESTPORT  of \"user\": connections to a port "
    "of\n"
    "                                 the host (127.0.0.1) go to the guest; may be repeated\n"
    "          restrict=on            of \"user\": the guest reaches nothing else\n"
    "          host=on                of \"user\": 10.0.2.2 is the host's own 127.0.0.1\n"
    "  --cdrom FILE|none[,if=ahci|ide]\n"
    "        an image in a CD-ROM drive (on AHCI), or an empty drive; may be given twice. See "
    "eject\n"
    "        and change of --control\n"
    "  --floppy FILE             an image of 1.44 MB in a floppy drive\n"
    "  --share DIR,tag=TAG[,readonly=on]\n"
    "        a folder for the guest: mount -t 9p -o trans=virtio,version=9p2000.L TAG /mnt\n"
    "  --pmem FILE               a file, of a multiple of 2 MiB, as persistent memory\n"
    "  --vhost-user blk:PATH[,queues=N] | fs:PATH,tag=TAG | net:PATH\n"
    "        a disk, a file system or a network card of another process, which listens on the\n"
    "        socket PATH\n"
    "  --console stdio|pty|unix:PATH|file:PATH[,name=NAME]\n"
    "        a virtio console (hvc0); may be given 8 times: others with a name are ports for\n"
    "        programs, /dev/virtio-ports/NAME. With stdio, --serial is none unless it is given\n"
    "  --input keyboard|tablet|mouse\n"
    "        may be given 4 times; see \"key\" and \"pointer\" of --control\n"
    "  --vsock CID,PATH          sockets: write \"CONNECT port\" to the unix socket PATH; port P "
    "of\n"
    "                            the host (CID 2) is the unix socket PATH_P\n"
    "  --vga std|bochs[,size=WxH][,memory=MIB][,rom=FILE]\n"
    "        a graphics adapter, with or without the legacy VGA; needs --transport pci. Keys: the\n"
    "        size that the guest is told to prefer (1024x768), of its memory (16), a VGA BIOS\n"
    "  --display none|text|vnc:ADDRESS:PORT|websocket:ADDRESS:PORT[,password-file=FILE]\n"
    "        show the text screen on standard output, or let VNC clients (or noVNC in a browser) "
    "see\n"
    "        the screen; vnc:unix:PATH is a unix socket; can be given several times\n"
    "  --screenshot FILE@SECONDS write the screen as PNG (or .ppm) after so long\n"
    "  --keys TEXT@SECONDS       type on the guest's keyboard (a PC's, or --input keyboard) after "
    "so long:\n"
    "        characters, <enter>, <esc>, <up>, <f1>, <ctrl-alt-delete>; can be given several "
    "times\n"
    "  --rng                     random numbers from the host\n"
    "  --transport mmio|pci|pci-transitional\n"
    "        how the guest finds virtio devices (mmio); the last is for drivers before virtio 1 "
    "too\n"
    "  --iothreads N             threads that virtio disks and network cards take turns in being\n"
    "                            given to; without it all devices are on the main one\n"
    "  --plug-slots N            slots for disks and network cards that come and go while the "
    "guest\n"
    "                            runs (with --transport pci): see \"plug\" of --control\n"
    "  --balloon                 memory that goes back to the host; see \"balloon\" of --control\n"
    "\n"
    "Running\n"
    "  --no-reboot               a reset ends the VM\n"
    "  --timeout SECONDS         end the VM after so long, with status 124\n"
    "  --report FILE             write times, exits and memory as JSON\n"
    "  --control PATH            a socket for status, pause, resume, power-button, quit, memory\n"
    "                            and what vmm-inspect needs (docs/control.md)\n"
    "  --verbose                 show the library's messages\n"
    "  --help, --version\n"
    "\n"
    "On the terminal: Ctrl-A x leaves, Ctrl-A h shows the keys, Ctrl-A p presses the power "
    "button.\n"
    "\n"
    "Exit status: 0 the guest powered off (or reset, with --no-reboot), 2 usage, 3 host error,\n"
    "4 the guest crashed (a report is printed), 124 timeout; with --debug-exit the guest's.\n"
    "\n"
    "Examples\n"
    "  vmm-run --kernel /boot/vmlinuz --initrd initrd.img --append \"console=ttyS0\" --cpus 2\n"
    "  vmm-run --kernel guest.bin,format=flat64 --debug-exit --timeout 10\n"
    "\n"
    "Ctrl-C goes to the guest where the serial port is on the terminal.\n";

static int usage(const char *format, const char *what)
{
    fputs("vmm-run: ", stderr);
    fprintf(stderr, format, what);
    fputs(" (see vmm-run --help)\n", stderr);
    return STATUS_USAGE;
}

/* "512M" to bytes. false: not a size. */
static bool parse_size(const char *text, uint64_t *value)
{
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 0);
    if (errno || end == text || *text == '-')
        return false;
    static const char units[] = "KMGT";
    uint32_t shift = 0;
    if (*end) {
        const char *unit = strchr(units, *end & ~0x20);
        if (!unit || (end[1] && strcmp(end + 1, "iB") != 0 && strcmp(end + 1, "B") != 0))
            return false;
        shift = 10 * (uint32_t)(unit - units + 1);
    }
    if (number > UINT64_MAX >> shift)
        return false;
    *value = (uint64_t)number << shift;
    return true;
}

static int parse_memory(struct run_options *o, char *value)
{
    char *max = strchr(value, ',');
    if (max)
        *max++ = '\0';
    if (!parse_size(value, &o->memory) || o->memory == 0)
        return usage("--memory: \"%s\" is not a size such as 512M", value);
    o->memory_max = 0;
    if (max && (strncmp(max, "max=", 4) != 0 || !parse_size(max + 4, &o->memory_max)))
        return usage("--memory: \"%s\" is not max=SIZE", max);
    return -1;
}

static bool parse_number(const char *text, uint64_t low, uint64_t high, uint64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoull(text, &end, 0);
    return !errno && end != text && !*end && *text != '-' && *value >= low && *value <= high;
}

static bool parse_format(const char *text, uint32_t *format)
{
    static const struct {
        const char *name;
        uint32_t format;
    } formats[] = {
        {"auto", VMM_KERNEL_AUTO},
        {"bzimage", VMM_KERNEL_BZIMAGE},
        {"pvh", VMM_KERNEL_PVH},
        {"linux64", VMM_KERNEL_LINUX64},
        {"multiboot", VMM_KERNEL_MULTIBOOT},
        {"flat16", VMM_KERNEL_FLAT16},
        {"flat32", VMM_KERNEL_FLAT32},
        {"flat64", VMM_KERNEL_FLAT64},
    };
    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++)
        if (strcmp(text, formats[i].name) == 0) {
            *format = formats[i].format;
            return true;
        }
    return false;
}

static bool parse_switch(const char *text, bool *value)
{
    *value = strcmp(text, "on") == 0;
    return *value || strcmp(text, "off") == 0;
}

/* FILE[,key=value]...; the argument is cut up in place. */
static int parse_kernel(struct run_options *o, char *text)
{
    o->kernel = text;
    char *next = strchr(text, ',');
    while (next) {
        *next++ = '\0';
        char *key = next;
        next = strchr(key, ',');
        size_t length = next ? (size_t)(next - key) : strlen(key);
        char *value = memchr(key, '=', length);
        if (!value)
            return usage("--kernel: \"%s\" is not of the form key=value", key);
        char saved = key[length];
        *value++ = '\0';
        key[length] = '\0';
        bool ok = false;
        if (strcmp(key, "format") == 0)
            ok = parse_format(value, &o->kernel_format);
        else if (strcmp(key, "at") == 0)
            ok = parse_number(value, 0, UINT64_MAX, &o->kernel_at);
        else if (strcmp(key, "unpack") == 0)
            ok = parse_switch(value, &o->unpack);
        else
            return usage("--kernel: there is no key \"%s\"", key);
        if (!ok)
            return usage("--kernel: \"%s\" is not a value for that key", value);
        key[length] = saved;
    }
    return -1;
}

static bool parse_disk_format(const char *text, uint32_t *format)
{
    if (strcmp(text, "raw") == 0)
        *format = DISK_RAW;
    else if (strcmp(text, "qcow2") == 0)
        *format = DISK_QCOW2;
    else if (strcmp(text, "nbd") == 0)
        *format = DISK_NBD;
    else
        return false;
    return true;
}

/* The place of `text` in a list that ends with NULL. */
static bool parse_choice(const char *text, const char *const *list, uint32_t *value)
{
    for (uint32_t i = 0; list[i]; i++)
        if (strcmp(text, list[i]) == 0) {
            *value = i;
            return true;
        }
    return false;
}

/* How requests are carried out. */
static bool take_disk_way(struct disk_option *d, const char *key, const char *value)
{
    static const char *const caches[] = {"writeback", "none", "unsafe", NULL};
    static const char *const engines[] = {"auto", "io_uring", "threads", NULL};
    static const char *const ways[] = {"report", "stop", "ignore", NULL};
    if (strcmp(key, "snapshot") == 0)
        return parse_switch(value, &d->snapshot);
    if (strcmp(key, "iops") == 0)
        return parse_number(value, 1, UINT32_MAX, &d->iops);
    if (strcmp(key, "bandwidth") == 0)
        return parse_size(value, &d->bandwidth) && d->bandwidth;
    if (strcmp(key, "cache") == 0)
        return parse_choice(value, caches, &d->cache);
    if (strcmp(key, "aio") == 0)
        return parse_choice(value, engines, &d->engine);
    d->on_error_given = true;
    return strcmp(key, "on-error") == 0 && parse_choice(value, ways, &d->on_error);
}

static bool take_disk_key(struct disk_option *d, const char *key, char *value)
{
    uint64_t number;
    if (strcmp(key, "format") == 0)
        return parse_disk_format(value, &d->format);
    if (strcmp(key, "if") == 0)
        return parse_choice(value, drives_buses, &d->bus);
    if (strcmp(key, "backing") == 0)
        return parse_switch(value, &d->backing);
    if (strcmp(key, "cdrom") == 0)
        return parse_switch(value, &d->cdrom);
    if (strcmp(key, "readonly") == 0)
        return parse_switch(value, &d->read_only);
    if (strcmp(key, "bootindex") == 0) {
        bool ok = parse_number(value, 1, UINT32_MAX, &number);
        d->boot_index = ok ? (uint32_t)number : 0;
        return ok;
    }
    if (strcmp(key, "serial") == 0) {
        d->serial = value;
        return *value && strlen(value) <= 20;
    }
    if (strcmp(key, "queues") != 0)
        return take_disk_way(d, key, value);
    if (!parse_number(value, 1, 64, &number))
        return false;
    d->queues = (uint32_t)number;
    return true;
}

/* FILE,format=NAME[,key=value]...; the argument is cut up in place. */
int options_parse_disk(struct disk_option *d, char *text)
{
    d->file = strsep(&text, ",");
    while (text) {
        char *key = strsep(&text, ",");
        char *value = strchr(key, '=');
        if (!value)
            return usage("--disk: \"%s\" is not of the form key=value", key);
        *value++ = '\0';
        if (!take_disk_key(d, key, value))
            return usage("--disk: there is no such key, or no such value for it: \"%s\"", key);
    }
    if (d->format == DISK_NONE)
        return usage("--disk: \"%s\" needs format=raw, qcow2 or nbd", d->file);
    if (d->cdrom && d->bus != DISK_ON_SCSI)
        return usage("--disk: \"%s\": cdrom=on needs if=scsi", d->file);
    if (d->boot_index && d->bus == DISK_ON_SCSI)
        return usage("--disk: \"%s\": bootindex= is not for if=scsi", d->file);
    if (d->backing && d->format != DISK_QCOW2)
        return usage("--disk: \"%s\": only qcow2 images have backing files", d->file);
    if ((d->bus == DISK_ON_AHCI || d->bus == DISK_ON_IDE) && d->queues)
        return usage("--disk: \"%s\": queues= is for if=virtio and if=nvme", d->file);
    if (d->format != DISK_RAW && (d->cache || d->engine))
        return usage("--disk: \"%s\": cache= and aio= are for raw images", d->file);
    return -1;
}

static int parse_disk(struct run_options *o, char *text)
{
    if (o->disk_count == DISKS_MAX)
        return usage("--disk: \"%s\" is one too many", text);
    return options_parse_disk(&o->disks[o->disk_count++], text);
}

static int parse_cdrom(struct run_options *o, char *text)
{
    const char *wrong = cdrom_parse(&o->cdroms[o->cdrom_count++], text);
    return wrong ? usage("--cdrom: \"%s\" is neither if=ahci nor if=ide", wrong) : -1;
}

static int parse_share(struct run_options *o, char *text)
{
    const char *wrong = share_parse(&o->shares, text);
    return wrong ? usage("--share: %s", wrong) : -1;
}

static int parse_vhost_user(struct run_options *o, char *text)
{
    const char *wrong = vhost_user_parse(&o->vhost_user, text);
    return wrong ? usage("--vhost-user: %s", wrong) : -1;
}

static int parse_console(struct run_options *o, char *text)
{
    const char *wrong = ports_parse_console(&o->ports, text);
    return wrong ? usage("--console: %s", wrong) : -1;
}

static int parse_input(struct run_options *o, const char *text)
{
    const char *wrong = ports_parse_input(&o->ports, text);
    return wrong ? usage("--input: %s", wrong) : -1;
}

static int parse_vsock(struct run_options *o, char *text)
{
    const char *wrong = ports_parse_vsock(&o->ports, text);
    return wrong ? usage("--vsock: %s", wrong) : -1;
}

static int parse_net(struct run_options *o, char *text)
{
    const char *wrong = net_parse(&o->nets, text);
    return wrong ? usage("--net: %s", wrong) : -1;
}

static int parse_assist(struct run_options *o, const char *text)
{
    if (strcmp(text, "auto") == 0)
        o->assist = VMM_ASSIST_AUTO;
    else if (strcmp(text, "on") == 0)
        o->assist = VMM_ASSIST_ON;
    else if (strcmp(text, "off") == 0)
        o->assist = VMM_ASSIST_OFF;
    else
        return usage("--assist: auto, on or off, not \"%s\"", text);
    return -1;
}

static int parse_transport(struct run_options *o, const char *text)
{
    if (strcmp(text, "mmio") == 0)
        o->pci = VMM_MACHINE_PCI_NONE;
    else if (strcmp(text, "pci") == 0)
        o->pci = VMM_MACHINE_PCI_MODERN;
    else if (strcmp(text, "pci-transitional") == 0)
        o->pci = VMM_MACHINE_PCI_TRANSITIONAL;
    else
        return usage("--transport: mmio, pci or pci-transitional, not \"%s\"", text);
    return -1;
}

enum {
    OPT_KERNEL = 256,
    OPT_INITRD,
    OPT_APPEND,
    OPT_MEMORY,
    OPT_CPUS,
    OPT_CPU,
    OPT_MACHINE,
    OPT_FIRMWARE,
    OPT_FIRMWARE_VARS,
    OPT_SERIAL,
    OPT_DEBUG_CONSOLE,
    OPT_DEBUG_EXIT,
    OPT_ASSIST,
    OPT_DISK,
    OPT_CDROM,
    OPT_FLOPPY,
    OPT_RNG,
    OPT_TRANSPORT,
    OPT_BALLOON,
    OPT_PLUG_SLOTS,
    OPT_IOTHREADS,
    OPT_SHARE,
    OPT_VGA,
    OPT_DISPLAY,
    OPT_SCREENSHOT,
    OPT_KEYS,
    OPT_PMEM,
    OPT_NET,
    OPT_VHOST_USER,
    OPT_VSOCK,
    OPT_INPUT,
    OPT_CONSOLE,
    OPT_NO_REBOOT,
    OPT_TIMEOUT,
    OPT_REPORT,
    OPT_CONTROL,
    OPT_VERBOSE,
    OPT_HELP,
    OPT_VERSION,
};

static const struct option long_options[] = {
    {"kernel", required_argument, NULL, OPT_KERNEL},
    {"initrd", required_argument, NULL, OPT_INITRD},
    {"append", required_argument, NULL, OPT_APPEND},
    {"memory", required_argument, NULL, OPT_MEMORY},
    {"cpus", required_argument, NULL, OPT_CPUS},
    {"cpu", required_argument, NULL, OPT_CPU},
    {"machine", required_argument, NULL, OPT_MACHINE},
    {"firmware", required_argument, NULL, OPT_FIRMWARE},
    {"firmware-vars", required_argument, NULL, OPT_FIRMWARE_VARS},
    {"serial", required_argument, NULL, OPT_SERIAL},
    {"debug-console", required_argument, NULL, OPT_DEBUG_CONSOLE},
    {"debug-exit", no_argument, NULL, OPT_DEBUG_EXIT},
    {"assist", required_argument, NULL, OPT_ASSIST},
    {"disk", required_argument, NULL, OPT_DISK},
    {"floppy", required_argument, NULL, OPT_FLOPPY},
    {"cdrom", required_argument, NULL, OPT_CDROM},
    {"rng", no_argument, NULL, OPT_RNG},
    {"transport", required_argument, NULL, OPT_TRANSPORT},
    {"balloon", no_argument, NULL, OPT_BALLOON},
    {"iothreads", required_argument, NULL, OPT_IOTHREADS},
    {"plug-slots", required_argument, NULL, OPT_PLUG_SLOTS},
    {"share", required_argument, NULL, OPT_SHARE},
    {"vga", required_argument, NULL, OPT_VGA},
    {"display", required_argument, NULL, OPT_DISPLAY},
    {"screenshot", required_argument, NULL, OPT_SCREENSHOT},
    {"keys", required_argument, NULL, OPT_KEYS},
    {"pmem", required_argument, NULL, OPT_PMEM},
    {"net", required_argument, NULL, OPT_NET},
    {"vhost-user", required_argument, NULL, OPT_VHOST_USER},
    {"console", required_argument, NULL, OPT_CONSOLE},
    {"input", required_argument, NULL, OPT_INPUT},
    {"vsock", required_argument, NULL, OPT_VSOCK},
    {"no-reboot", no_argument, NULL, OPT_NO_REBOOT},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"report", required_argument, NULL, OPT_REPORT},
    {"control", required_argument, NULL, OPT_CONTROL},
    {"verbose", no_argument, NULL, OPT_VERBOSE},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

static int parse_display(struct run_options *o, int option, char *text)
{
    const char *wrong = option == OPT_VGA       ? display_parse_vga(&o->display, text)
                        : option == OPT_DISPLAY ? display_parse_output(&o->display, text)
                                                : display_parse_screenshot(&o->display, text);
    return wrong ? usage("--vga, --display, --screenshot: %s", wrong) : -1;
}

static int parse_keys(struct run_options *o, char *text)
{
    const char *wrong = keys_parse(&o->keys, text);
    return wrong ? usage("--keys: %s", wrong) : -1;
}

/* One option; -1 to go on. */
static int take(struct run_options *o, int option, char *value)
{
    uint64_t number;
    switch (option) {
    case OPT_KERNEL:
        return parse_kernel(o, value);
    case OPT_INITRD:
        o->initrd = value;
        return -1;
    case OPT_APPEND:
        o->append = value;
        return -1;
    case OPT_MEMORY:
        return parse_memory(o, value);
    case OPT_CPUS:
        if (!parse_number(value, 1, 4096, &number))
            return usage("--cpus: \"%s\" is not a number of processors", value);
        o->cpus = (uint32_t)number;
        return -1;
    case OPT_CPU:
        o->cpu = value;
        return -1;
    case OPT_MACHINE:
        o->machine = value;
        return -1;
    case OPT_FIRMWARE:
        o->firmware = value;
        return -1;
    case OPT_FIRMWARE_VARS:
        o->firmware_vars = value;
        return -1;
    case OPT_SERIAL:
        o->serial = value;
        return -1;
    case OPT_DEBUG_CONSOLE:
        o->debug_console = value;
        return -1;
    case OPT_DEBUG_EXIT:
        o->debug_exit = true;
        return -1;
    case OPT_ASSIST:
        return parse_assist(o, value);
    case OPT_DISK:
        return parse_disk(o, value);
    case OPT_FLOPPY:
        o->floppy = value;
        return -1;
    case OPT_CDROM:
        if (o->cdrom_count == CDROMS_MAX)
            return usage("--cdrom: \"%s\" is one too many", value);
        return parse_cdrom(o, value);
    case OPT_PMEM:
        if (o->pmem.count == PMEMS_MAX)
            return usage("--pmem: \"%s\" is one too many", value);
        o->pmem.file[o->pmem.count++] = value;
        return -1;
    case OPT_VHOST_USER:
        return parse_vhost_user(o, value);
    case OPT_VGA:
    case OPT_DISPLAY:
    case OPT_SCREENSHOT:
        return parse_display(o, option, value);
    case OPT_KEYS:
        return parse_keys(o, value);
    case OPT_SHARE:
        return parse_share(o, value);
    case OPT_CONSOLE:
        return parse_console(o, value);
    case OPT_INPUT:
        return parse_input(o, value);
    case OPT_VSOCK:
        return parse_vsock(o, value);
    case OPT_NET:
        return parse_net(o, value);
    case OPT_BALLOON:
        o->balloon = true;
        return -1;
    case OPT_IOTHREADS:
        if (!parse_number(value, 1, IOTHREADS_MAX, &number))
            return usage("--iothreads: \"%s\" is not a number of threads, at most 16", value);
        o->iothreads = (uint32_t)number;
        return -1;
    case OPT_PLUG_SLOTS:
        if (!parse_number(value, 1, PLUG_SLOTS_MAX, &number))
            return usage("--plug-slots: \"%s\" is not a number of slots, at most 8", value);
        o->plug_slots = (uint32_t)number;
        return -1;
    case OPT_RNG:
        o->rng = true;
        return -1;
    case OPT_TRANSPORT:
        return parse_transport(o, value);
    case OPT_NO_REBOOT:
        o->no_reboot = true;
        return -1;
    case OPT_TIMEOUT:
        if (!parse_number(value, 1, 1000000, &number))
            return usage("--timeout: \"%s\" is not a number of seconds", value);
        o->timeout_s = (int)number;
        return -1;
    case OPT_REPORT:
        o->report = value;
        return -1;
    case OPT_CONTROL:
        o->control = value;
        return -1;
    case OPT_VERBOSE:
        o->verbose = true;
        return -1;
    case OPT_HELP:
        fputs(help, stdout);
        return STATUS_OK;
    case OPT_VERSION:
        printf("vmm-run, libvmm %s\n", vmm_version());
        return STATUS_OK;
    default:
        fputs("vmm-run: see vmm-run --help\n", stderr); /* getopt has said what is wrong */
        return STATUS_USAGE;
    }
}

int options_parse(struct run_options *o, int argc, char **argv)
{
    *o = (struct run_options){
        .machine = "micro",
        .append = "",
        .memory = 256u << 20,
        .cpus = 1,
    };
    int option;
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        int status = take(o, option, optarg);
        if (status >= 0)
            return status;
    }
    if (!o->serial)
        o->serial = ports_use_terminal(&o->ports) ? "none" : "stdio";
    if (optind < argc)
        return usage("\"%s\" belongs to no option", argv[optind]);
    if (o->vhost_user.count && o->memory_max)
        return usage("%s", "--vhost-user does not go with memory that is plugged in later");
    if (!o->kernel && !o->firmware)
        return usage("%s", "there is nothing to boot: give --kernel FILE or --firmware FILE");
    return -1;
}
