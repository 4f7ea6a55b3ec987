/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Runs in the Linux guest of custom-device, as root: a driver in user space. It finds the device by
 * sysfs, maps its registers, lets it work on its own memory, and sees its messages arrive.
 *
 * No kernel driver gives the device a message of its own, so it borrows that of another: it programs
 * its MSI-X table with what Linux wrote for the entropy device's queue, and that one's interrupt count
 * goes up.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define DEVICES "/sys/bus/pci/devices"
#define PAGE    4096u
#define RUNS    50

static volatile uint8_t *registers;
static char device[256];

static void check(int ok, const char *what)
{
    printf("%s: %s\n", ok ? "ok" : "FAILED", what);
    if (!ok)
        exit(1);
}

static unsigned long attribute(const char *name, const char *file)
{
    char path[600], text[32] = "";
    (void)snprintf(path, sizeof(path), DEVICES "/%s/%s", name, file);
    FILE *f = fopen(path, "r");
    if (f && !fgets(text, sizeof(text), f))
        text[0] = '\0';
    if (f)
        fclose(f);
    return strtoul(text, NULL, 0);
}

static int find(unsigned long vendor, unsigned long id, char name[256])
{
    DIR *dir = opendir(DEVICES);
    struct dirent *entry;
    int found = 0;
    while (dir && !found && (entry = readdir(dir)))
        if (attribute(entry->d_name, "vendor") == vendor &&
            attribute(entry->d_name, "device") == id) {
            (void)snprintf(name, 256, "%s", entry->d_name);
            found = 1;
        }
    if (dir)
        closedir(dir);
    return found;
}

static int open_file(const char *name, const char *file)
{
    char path[600];
    (void)snprintf(path, sizeof(path), DEVICES "/%s/%s", name, file);
    return open(path, O_RDWR | O_SYNC);
}

static volatile uint8_t *map_bar(const char *name, const char *file)
{
    int fd = open_file(name, file);
    void *p = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    check(fd >= 0 && p != MAP_FAILED, file);
    close(fd);
    return p;
}

static uint32_t config(int offset, int width)
{
    uint32_t value = 0;
    int fd = open_file(device, "config");
    if (pread(fd, &value, (size_t)width, offset) != width)
        check(0, "reading configuration space");
    close(fd);
    return value;
}

static void set_config(int offset, int width, uint32_t value)
{
    int fd = open_file(device, "config");
    if (pwrite(fd, &value, (size_t)width, offset) != width)
        check(0, "writing configuration space");
    close(fd);
}

static uint32_t get32(volatile uint8_t *base, uint32_t offset)
{
    return *(volatile uint32_t *)(base + offset);
}

static void set32(volatile uint8_t *base, uint32_t offset, uint32_t value)
{
    *(volatile uint32_t *)(base + offset) = value;
}

static void set64(volatile uint8_t *base, uint32_t offset, uint64_t value)
{
    *(volatile uint64_t *)(base + offset) = value;
}

static uint64_t physical(const void *p)
{
    uint64_t entry = 0;
    int fd = open("/proc/self/pagemap", O_RDONLY);
    if (pread(fd, &entry, 8, (off_t)((uintptr_t)p / PAGE * 8)) != 8 || !(entry >> 63))
        check(0, "the page's physical address");
    close(fd);
    return (entry & ((UINT64_C(1) << 55) - 1)) * PAGE + (uintptr_t)p % PAGE;
}

static uint32_t run(uint64_t source, uint64_t destination, uint32_t length)
{
    set64(registers, 0x08, source);
    set64(registers, 0x10, destination);
    set32(registers, 0x18, length);
    set32(registers, 0x1c, 1);
    return get32(registers, 0x20);
}

static void copies(uint8_t *from, uint8_t *to)
{
    for (uint32_t i = 0; i < PAGE; i++)
        from[i] = (uint8_t)(i * 7);
    memset(to, 0, PAGE);
    check(run(physical(from), physical(to), PAGE) == 2, "no DMA before it is a bus master");
    check(to[0] == 0 && to[1] == 0, "and nothing was written");
    set_config(4, 2, config(4, 2) | 4);
    check(run(physical(from), physical(to), PAGE) == 1, "a page is inverted");
    int same = 1;
    for (uint32_t i = 0; i < PAGE; i++)
        same = same && to[i] == (uint8_t) ~(i * 7);
    check(same, "every byte of it");
}

static void bad_addresses(uint8_t *page)
{
    uint64_t bar = config(0x10, 4) & ~15u;
    static const uint64_t bad[] = {0xb0000000, 0xfee00000, UINT64_MAX - 100, UINT64_C(1) << 50};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        check(run(bad[i], physical(page), PAGE) == 2, "a source that is not memory fails");
    check(run(physical(page), bar, 64) == 2, "its own registers as the destination fail");
    check(run(physical(page), physical(page), (1u << 20) + 1) == 2, "too long fails");
    check(get32(registers, 0x24) == 8, "each was counted");
}

static long interrupts(const char *what)
{
    char line[512];
    long sum = -1;
    FILE *f = fopen("/proc/interrupts", "r");
    while (f && fgets(line, sizeof(line), f)) {
        if (!strstr(line, what))
            continue;
        char *p = strchr(line, ':') + 1, *end;
        sum = strtol(p, &end, 10);
        for (; end != p; sum += strtol(p, &end, 10)) /* a count for each processor, then words */
            p = end;
    }
    if (f)
        fclose(f);
    return sum;
}

static int find_capability(uint32_t id)
{
    for (int at = (int)config(0x34, 1), i = 0; at && i < 48; at = (int)config(at + 1, 1), i++)
        if (config(at, 1) == id)
            return at;
    return 0;
}

static void messages(uint8_t *page)
{
    char other[256];
    int cap = find_capability(0x11);
    check(cap != 0, "MSI-X is there");
    check(find(0x1af4, 0x1044, other), "the entropy device");
    volatile uint8_t *theirs = map_bar(other, "resource1"), *ours = map_bar(device, "resource1");
    for (uint32_t i = 0; i < 16; i += 4)
        set32(ours, i, get32(theirs, 16 + i)); /* vector 1: its queue */
    set_config(cap + 2, 2, 0x8000);
    long before = interrupts("virtio0-input");
    for (int i = 0; i < RUNS; i++)
        if (run(physical(page), physical(page), 16) != 1)
            check(0, "a run with messages");
    long after = interrupts("virtio0-input");
    printf("interrupts: %ld, then %ld\n", before, after);
    check(before >= 0 && after - before >= RUNS, "each run sent its message");
    set32(ours, 12, 1);
    before = interrupts("virtio0-input");
    (void)run(physical(page), physical(page), 16);
    check(get32(ours, 0x800) == 1, "a masked vector is pending");
    set32(ours, 12, 0);
    check(interrupts("virtio0-input") > before, "and is sent when it is unmasked");
    check(get32(ours, 0x800) == 0, "and then no longer pending");
}

/* inverter-guest [0000:01:00.0]: which one; the first without it */
int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    if (argc > 1)
        (void)snprintf(device, sizeof(device), "%s", argv[1]);
    check(argc > 1 ? attribute(device, "device") == 0x4956 : find(0x1234, 0x4956, device),
          "the inverter is on the bus");
    set_config(4, 2, (config(4, 2) | 2) & ~4u);
    registers = map_bar(device, "resource0");
    check(get32(registers, 0) == 0x49564d56, "its registers answer");
    uint8_t *pages = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    check(pages != MAP_FAILED && mlock(pages, 2 * PAGE) == 0, "memory of its own");
    copies(pages, pages + PAGE);
    bad_addresses(pages);
    messages(pages);
    puts("inverter: all is well");
    return 0;
}
