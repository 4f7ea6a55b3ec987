/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The memory map as a guest sees it: ROM, aliases, overlays, hot add and remove, the fewest slot
 * changes, and the dirty log in both modes. The guest is a loop that takes an order from port 0x20
 * (0 write, 1 read, 2 read until it changes), an address from 0x21 and a value from 0x22, and gives
 * the result to port 0x23.
 */
#include "memory/internal.h"

#include <libvmm/dirty.h>
#include <libvmm/kvm.h>
#include <libvmm/x86.h>

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#define PAGE       4096u
#define RAM_LENGTH ((uint64_t)16 << 20)
#define NOTHING    0xffffffffu

static const uint8_t code[] = {
    0xe5, 0x20,       /* top:  in $0x20, %eax */
    0x89, 0xc1,       /*       mov %eax, %ecx */
    0xe5, 0x21,       /*       in $0x21, %eax */
    0x89, 0xc7,       /*       mov %eax, %edi */
    0xe5, 0x22,       /*       in $0x22, %eax */
    0x83, 0xf9, 0x01, /*       cmp $1, %ecx */
    0x74, 0x08,       /*       je read */
    0x77, 0x0c,       /*       ja poll */
    0x89, 0x07,       /*       mov %eax, (%edi) */
    0xe7, 0x23,       /*       out %eax, $0x23 */
    0xeb, 0xe9,       /*       jmp top */
    0x8b, 0x07,       /* read: mov (%edi), %eax */
    0xe7, 0x23,       /*       out %eax, $0x23 */
    0xeb, 0xe3,       /*       jmp top */
    0x8b, 0x1f,       /* poll: mov (%edi), %ebx */
    0x39, 0xc3,       /*       cmp %eax, %ebx */
    0x74, 0xfa,       /*       je poll */
    0x89, 0xd8,       /*       mov %ebx, %eax */
    0xe7, 0x23,       /*       out %eax, $0x23 */
    0xeb, 0xd7,       /*       jmp top */
};

enum { WRITE, READ, POLL };

struct fixture {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_memory_region *ram;
    struct vmm_vcpu *vcpu;
    _Atomic uint32_t mmio; /* accesses that reached the vCPU's owner */
    uint32_t mmio_width, full_rings, kicked;
    uint64_t mmio_address;
};

static void make_memory(struct fixture *f)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    memset(f, 0, sizeof(*f));
    o.kick_signal = SIGUSR1;
    (void)vmm_kick_signal_install(SIGUSR1); /* or it is there */
    if (vmm_host_open(NULL, &f->host, &err) != 0)
        TEST_SKIP("%s", err.text);
    assert_int_equal(vmm_vm_new(f->host, &o, &f->vm, &err), 0);
    assert_int_equal(vmm_memory_new(f->vm, &f->memory, &err), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, RAM_LENGTH, &f->ram, &err), 0);
}

/* 32-bit protected mode, flat segments, no paging. */
static void make_vcpu(struct fixture *f)
{
    struct vmm_x86_sregs sregs;
    struct vmm_x86_regs regs = {.rip = 0x1000, .rflags = 2};
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_vcpu_new(f->vm, f->memory, 0, &f->vcpu, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(vmm_memory_write(f->memory, 0x1000, code, sizeof(code)), 0);
    assert_int_equal(vmm_x86_get_sregs(f->vcpu, &sregs), 0);
    struct vmm_x86_segment flat = {
        .limit = 0xffffffff, .selector = 0x10, .type = 3, .present = 1, .db = 1, .s = 1, .g = 1};
    sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = flat;
    flat.selector = 0x8;
    flat.type = 11;
    sregs.cs = flat;
    sregs.cr0 |= 1;
    assert_int_equal(vmm_x86_set_sregs(f->vcpu, &sregs), 0);
    assert_int_equal(vmm_x86_set_regs(f->vcpu, &regs), 0);
}

static void drop(struct fixture *f)
{
    vmm_vcpu_unref(f->vcpu);
    vmm_memory_region_unref(f->ram);
    vmm_memory_unref(f->memory);
    vmm_vm_unref(f->vm);
    vmm_host_unref(f->host);
}

/* An order whose result the I/O handler takes: give its three operands, and no more. */
static void order_without_answer(struct fixture *f, uint32_t what, uint64_t address)
{
    struct vmm_exit exit = VMM_EXIT_INIT;
    const uint32_t operands[] = {what, (uint32_t)address, 0};
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(vmm_vcpu_run(f->vcpu, &exit), 0);
        assert_int_equal(exit.reason, VMM_EXIT_PORT);
        assert_int_equal(exit.u.port.port, 0x20 + i);
        memcpy(exit.u.port.data, &operands[i], 4);
    }
}

/* One order; accesses to nothing read as all ones. */
static uint32_t order(struct fixture *f, uint32_t what, uint64_t address, uint32_t value)
{
    struct vmm_exit exit = VMM_EXIT_INIT;
    for (;;) {
        int rc = vmm_vcpu_run(f->vcpu, &exit);
        assert_int_equal(rc, 0);
        if (exit.reason == VMM_EXIT_MMIO) {
            if (!exit.u.mmio.is_write)
                memset(exit.u.mmio.data, 0xff, exit.u.mmio.width);
            f->mmio_address = exit.u.mmio.address;
            f->mmio_width = exit.u.mmio.width;
            atomic_fetch_add(&f->mmio, 1);
            continue;
        }
        if (exit.reason == VMM_EXIT_DIRTY_RING) {
            f->full_rings++;
            assert_int_equal(vmm_dirty_sync(f->memory), 0);
            continue;
        }
        if (exit.reason == VMM_EXIT_KICKED) {
            f->kicked++;
            continue;
        }
        if (exit.reason != VMM_EXIT_PORT)
            fail_msg("the guest ended with %s (KVM's %u)", vmm_exit_name(exit.reason),
                     exit.raw_reason);
        uint32_t operand = exit.u.port.port == 0x20   ? what
                           : exit.u.port.port == 0x21 ? (uint32_t)address
                                                      : value;
        if (!exit.u.port.is_write) {
            memcpy(exit.u.port.data, &operand, 4);
            continue;
        }
        assert_int_equal(exit.u.port.port, 0x23);
        memcpy(&operand, exit.u.port.data, 4);
        return operand;
    }
}

static void guest_write(struct fixture *f, uint64_t address, uint32_t value)
{
    assert_int_equal(order(f, WRITE, address, value), value);
}

static uint32_t guest_read(struct fixture *f, uint64_t address)
{
    return order(f, READ, address, 0);
}

static uint32_t host_read(struct fixture *f, uint64_t address)
{
    uint32_t value = 0;
    assert_int_equal(vmm_memory_load_u32(f->memory, address, &value), 0);
    return value;
}

static struct vmm_memory_slot_stats slots(struct fixture *f)
{
    struct vmm_memory_slot_stats stats = VMM_MEMORY_SLOT_STATS_INIT;
    assert_int_equal(vmm_memory_get_slot_stats(f->memory, &stats), 0);
    return stats;
}

static struct vmm_memory_region *new_region(struct vmm_memory_region_options o)
{
    struct vmm_memory_region *region = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    o.size = sizeof(o);
    if (vmm_memory_region_new(&o, &region, &err) != 0)
        fail_msg("%s", err.text);
    return region;
}

/* ROM, aliases, overlays ----------------------------------------------------------------------- */

struct rom_write {
    uint64_t offset, value;
    uint32_t width, count;
};

static void rom_written(void *ctx, uint64_t offset, uint32_t width, uint64_t value)
{
    struct rom_write *log = ctx;
    *log = (struct rom_write){offset, value, width, log->count + 1};
}

static void rom_is_read_directly_and_written_to_a_callback(void **state)
{
    (void)state;
    struct fixture f;
    struct rom_write log = {0};
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_region *rom = new_region((struct vmm_memory_region_options){
        .type = VMM_MEMORY_ROM, .length = 4 * PAGE, .rom_write = rom_written, .ctx = &log});
    struct vmm_memory_region *plain =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_ROM, .length = PAGE});
    uint32_t value = 0x600df00d;
    assert_int_equal(vmm_memory_add(f.memory, rom, 0xffff0000, 0, NULL), 0);
    assert_int_equal(vmm_memory_add(f.memory, plain, 0xfffe0000, 0, NULL), 0);
    assert_int_equal(vmm_memory_write_rom(f.memory, 0xffff1000, &value, 4), 0);
    assert_int_equal(guest_read(&f, 0xffff1000), 0x600df00d);
    assert_int_equal(f.mmio, 0);
    guest_write(&f, 0xffff1000, 0xbad);
    assert_int_equal(log.count, 1);
    assert_int_equal(log.offset, 0x1000);
    assert_int_equal(log.width, 4);
    assert_int_equal(log.value, 0xbad);
    assert_int_equal(guest_read(&f, 0xffff1000), 0x600df00d);
    assert_int_equal(f.mmio, 0);
    guest_write(&f, 0xfffe0010, 1); /* without a callback it is the owner's */
    assert_int_equal(f.mmio, 1);
    assert_int_equal(f.mmio_address, 0xfffe0010);
    vmm_memory_region_unref(rom);
    vmm_memory_region_unref(plain);
    drop(&f);
}

static void an_alias_shows_the_same_bytes(void **state)
{
    (void)state;
    struct fixture f;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_region *alias = new_region((struct vmm_memory_region_options){
        .type = VMM_MEMORY_ALIAS, .target = f.ram, .target_offset = 0x100000, .length = 0x10000});
    assert_int_equal(vmm_memory_add(f.memory, alias, 0xe0000000, 0, NULL), 0);
    guest_write(&f, 0x101000, 0x1111);
    assert_int_equal(guest_read(&f, 0xe0001000), 0x1111);
    guest_write(&f, 0xe0001004, 0x2222);
    assert_int_equal(guest_read(&f, 0x101004), 0x2222);
    /* A banked window moves over its target. */
    guest_write(&f, 0x201000, 0x3333);
    assert_int_equal(vmm_memory_set_target_offset(f.memory, alias, 0x200000, NULL), 0);
    assert_int_equal(guest_read(&f, 0xe0001000), 0x3333);
    /* PAM: reads from RAM, writes nowhere. */
    assert_int_equal(vmm_memory_set_read_only(f.memory, alias, true, NULL), 0);
    guest_write(&f, 0xe0001000, 0x4444);
    assert_int_equal(f.mmio, 1);
    assert_int_equal(guest_read(&f, 0x201000), 0x3333);
    assert_int_equal(vmm_memory_set_read_only(f.memory, alias, false, NULL), 0);
    guest_write(&f, 0xe0001000, 0x4444);
    assert_int_equal(guest_read(&f, 0x201000), 0x4444);
    vmm_memory_region_unref(alias);
    drop(&f);
}

static void overlays_change_as_few_slots_as_they_can(void **state)
{
    (void)state;
    struct fixture f;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_region *bar = new_region(
        (struct vmm_memory_region_options){.type = VMM_MEMORY_DEVICE, .length = 16 * PAGE});
    struct vmm_memory_region *hole =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_HOLE, .length = 0x20000});
    assert_int_equal(slots(&f).used, 1);
    assert_int_equal(vmm_memory_add(f.memory, bar, 0xc0000000, 0, NULL), 0);
    guest_write(&f, 0xc0000000, 0x7777);
    struct vmm_memory_slot_stats before = slots(&f);
    assert_int_equal(vmm_memory_move(f.memory, bar, 0xc8000000, NULL), 0);
    assert_int_equal(guest_read(&f, 0xc8000000), 0x7777);
    assert_int_equal(guest_read(&f, 0xc0000000), NOTHING);
    struct vmm_memory_slot_stats after = slots(&f);
    assert_int_equal(after.moved - before.moved, 1); /* one call, no removal */
    assert_int_equal(after.removed, before.removed);

    /* A hole in RAM: its slot becomes two; the BAR's is untouched. */
    guest_write(&f, 0xa0004, 0x5555);
    assert_int_equal(vmm_memory_add(f.memory, hole, 0xa0000, 1, NULL), 0);
    before = after;
    after = slots(&f);
    assert_int_equal(after.removed - before.removed, 1);
    assert_int_equal(after.added - before.added, 2);
    assert_int_equal(guest_read(&f, 0xa0004), NOTHING);
    assert_int_equal(guest_read(&f, 0x1000), 0xc18920e5);
    uint32_t seen = f.mmio;
    guest_write(&f, 0xa0004, 0x6666);
    assert_int_equal(f.mmio, seen + 1);
    /* Off and on in one transaction is nothing at all. */
    before = after;
    vmm_memory_begin(f.memory);
    assert_int_equal(vmm_memory_set_enabled(f.memory, hole, false, NULL), 0);
    assert_int_equal(vmm_memory_set_enabled(f.memory, hole, true, NULL), 0);
    assert_int_equal(vmm_memory_commit(f.memory, NULL), 0);
    after = slots(&f);
    assert_memory_equal(&after, &before, sizeof(after));
    assert_int_equal(vmm_memory_remove(f.memory, hole, NULL), 0);
    assert_int_equal(slots(&f).used, 2);
    assert_int_equal(guest_read(&f, 0xa0004), 0x5555);
    vmm_memory_region_unref(hole);
    vmm_memory_region_unref(bar);
    drop(&f);
}

static void adjacent_regions_of_one_backing_share_a_slot(void **state)
{
    (void)state;
    struct fixture f;
    struct vmm_backing_options o = VMM_BACKING_OPTIONS_INIT;
    struct vmm_backing *backing;
    make_memory(&f);
    make_vcpu(&f);
    o.length = 64 * PAGE;
    assert_int_equal(vmm_backing_new(&o, &backing, NULL), 0);
    for (uint64_t i = 0; i < 4; i++) {
        struct vmm_memory_region *part =
            new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_RAM,
                                                          .length = 16 * PAGE,
                                                          .backing = backing,
                                                          .backing_offset = i * 16 * PAGE});
        assert_int_equal(vmm_memory_add(f.memory, part, 0x10000000 + i * 16 * PAGE, 0, NULL), 0);
        vmm_memory_region_unref(part);
    }
    assert_int_equal(slots(&f).used, 2);
    guest_write(&f, 0x1001fffe, 0x12345678); /* across two regions */
    assert_int_equal(host_read(&f, 0x1001fffe), 0x12345678);
    vmm_backing_unref(backing);
    drop(&f);
}

static void what_kvm_refuses_changes_nothing(void **state)
{
    (void)state;
    struct fixture f;
    struct vmm_error err = VMM_ERROR_INIT;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_region *good = new_region(
        (struct vmm_memory_region_options){.type = VMM_MEMORY_RAM, .length = PAGE, .name = "good"});
    struct vmm_memory_region *far = new_region(
        (struct vmm_memory_region_options){.type = VMM_MEMORY_RAM, .length = PAGE, .name = "far"});
    struct vmm_memory_slot_stats before = slots(&f);
    vmm_memory_begin(f.memory);
    assert_int_equal(vmm_memory_remove(f.memory, f.ram, NULL), 0);
    assert_int_equal(vmm_memory_add(f.memory, good, 0x40000000, 0, NULL), 0);
    /* Beyond every processor's addresses: KVM says no after the others are done. */
    assert_int_equal(vmm_memory_add(f.memory, far, UINT64_MAX - PAGE + 1, 0, NULL), 0);
    assert_true(vmm_memory_commit(f.memory, &err) < 0);
    assert_non_null(strstr(err.text, "KVM refused"));
    struct vmm_memory_slot_stats after = slots(&f);
    assert_int_equal(after.used, before.used);
    assert_true(after.removed > before.removed); /* it had begun, and was undone */
    assert_true(vmm_memory_valid(f.memory, 0, RAM_LENGTH, true));
    assert_false(vmm_memory_valid(f.memory, 0x40000000, 1, false));
    guest_write(&f, 0x3000, 99);
    assert_int_equal(guest_read(&f, 0x3000), 99);
    assert_int_equal(f.mmio, 0);
    vmm_memory_region_unref(good);
    vmm_memory_region_unref(far);
    drop(&f);
}

static void a_map_with_too_many_slots_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    struct vmm_error err = VMM_ERROR_INIT;
    make_memory(&f);
    make_vcpu(&f);
    assert_true(slots(&f).limit >= 32);
    f.memory->slots.stats.limit = 3; /* the real one is too many to reach here */
    struct vmm_memory_region *hole =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_HOLE, .length = PAGE});
    struct vmm_memory_region *bar =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_DEVICE, .length = PAGE});
    struct vmm_memory_region *more =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_DEVICE, .length = PAGE});
    assert_int_equal(vmm_memory_add(f.memory, bar, 0x40000000, 0, NULL), 0);
    assert_int_equal(vmm_memory_add(f.memory, more, 0x40001000, 0, NULL), 0);
    struct vmm_memory_slot_stats before = slots(&f);
    assert_int_equal(vmm_memory_add(f.memory, hole, 0x800000, 1, &err), -ENOSPC);
    assert_non_null(strstr(err.text, "needs 4 slots and the host has 3"));
    struct vmm_memory_slot_stats after = slots(&f);
    assert_memory_equal(&after, &before, sizeof(after));
    assert_true(vmm_memory_valid(f.memory, 0x800000, PAGE, true));
    guest_write(&f, 0x800000, 1);
    assert_int_equal(f.mmio, 0);
    vmm_memory_region_unref(hole);
    vmm_memory_region_unref(bar);
    vmm_memory_region_unref(more);
    drop(&f);
}

/* Changes while the guest runs ----------------------------------------------------------------- */

struct poll {
    struct fixture *f;
    uint64_t address;
    uint32_t old, result;
    _Atomic bool done;
};

static void *run_poll(void *arg)
{
    struct poll *poll = arg;
    poll->result = order(poll->f, POLL, poll->address, poll->old);
    atomic_store(&poll->done, true);
    return NULL;
}

static void pause_a_little(void)
{
    struct timespec t = {0, 20000000};
    nanosleep(&t, NULL);
}

static void memory_comes_and_goes_while_the_guest_runs(void **state)
{
    (void)state;
    struct fixture f;
    make_memory(&f);
    make_vcpu(&f);
    for (int round = 0; round < 5; round++) {
        struct vmm_memory_region *dimm = new_region((struct vmm_memory_region_options){
            .type = VMM_MEMORY_RAM, .length = (uint64_t)4 << 20, .name = "dimm"});
        struct poll poll = {.f = &f, .address = 0x20000000, .old = NOTHING};
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, run_poll, &poll), 0);
        pause_a_little();
        assert_false(atomic_load(&poll.done));
        assert_int_equal(vmm_memory_add(f.memory, dimm, 0x20000000, 0, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(poll.result, 0); /* fresh memory */
        guest_write(&f, 0x20000000, 0xabcd);
        assert_int_equal(host_read(&f, 0x20000000), 0xabcd);

        struct poll gone = {.f = &f, .address = 0x20000000, .old = 0xabcd};
        uint32_t before = f.mmio;
        assert_int_equal(pthread_create(&thread, NULL, run_poll, &gone), 0);
        pause_a_little();
        assert_false(atomic_load(&gone.done));
        assert_int_equal(f.mmio, before); /* it reads without exits */
        assert_int_equal(vmm_memory_remove(f.memory, dimm, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(gone.result, NOTHING);
        vmm_memory_region_unref(dimm);
    }
    drop(&f);
}

static void count_close(void *ctx)
{
    ++*(uint32_t *)ctx;
}

static void count_open(void *ctx)
{
    (void)ctx;
}

/* An overlay splits the slot that the guest's code is in, again and again, while it runs. */
static void a_running_guest_never_sees_its_memory_blink(void **state)
{
    (void)state;
    struct fixture f;
    uint32_t closed = 0;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_gate gate = {sizeof(gate), count_close, count_open},
                           half = {.size = sizeof(half)};
    half.open = count_open;
    assert_int_equal(vmm_memory_add_gate(f.memory, &half, &f), -EINVAL);
    assert_int_equal(vmm_memory_add_gate(f.memory, NULL, &f), -EINVAL);
    assert_int_equal(vmm_memory_add_gate(f.memory, &gate, &closed), 0);
    struct vmm_memory_region *hole =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_HOLE, .length = PAGE});
    struct poll poll = {.f = &f, .address = 0x5000, .old = 0};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_poll, &poll), 0);
    assert_int_equal(vmm_memory_add(f.memory, hole, 0x800000, 1, NULL), 0);
    for (int i = 0; i < 500; i++)
        assert_int_equal(vmm_memory_set_enabled(f.memory, hole, i % 2, NULL), 0);
    assert_int_equal(closed, 501);
    vmm_memory_remove_gate(f.memory, &closed);
    assert_int_equal(vmm_memory_set_enabled(f.memory, hole, false, NULL), 0);
    assert_int_equal(closed, 501);
    assert_false(atomic_load(&poll.done));
    assert_int_equal(vmm_memory_store_u32(f.memory, 0x5000, 0x1234), 0);
    pthread_join(thread, NULL);
    assert_int_equal(poll.result, 0x1234);
    assert_int_equal(f.mmio, 0);
    assert_int_equal(f.kicked, 0);
    vmm_memory_region_unref(hole);
    drop(&f);
}

/* A chipset's register: the vCPU's own I/O handler changes the map. */
struct pam {
    struct vmm_memory *memory;
    struct vmm_memory_region *rom;
};

static int pam_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                    bool write)
{
    const struct pam *pam = ctx;
    uint32_t value;
    if (port != 0x23 || !write || width != 4 || count != 1)
        return -ENOENT;
    memcpy(&value, data, 4);
    if (value >> 8 != 0xc0de)
        return -ENOENT;
    return vmm_memory_set_enabled(pam->memory, pam->rom, value & 1, NULL);
}

static void a_vcpu_may_change_the_map_from_its_own_handler(void **state)
{
    (void)state;
    struct fixture f;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_region *rom =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_ROM, .length = 0x10000});
    struct pam pam = {f.memory, rom};
    const struct vmm_io_handler handler = {.size = sizeof(handler), .port = pam_port};
    uint32_t tag = 0xf1f1f1f1;
    assert_int_equal(vmm_memory_add(f.memory, rom, 0xf0000, 1, NULL), 0);
    assert_int_equal(vmm_memory_write_rom(f.memory, 0xf0000, &tag, 4), 0);
    assert_int_equal(vmm_vcpu_set_io(f.vcpu, &handler, &pam), 0);
    assert_int_equal(guest_read(&f, 0xf0000), 0xf1f1f1f1);
    for (uint32_t i = 0; i < 20; i++) {
        /* The guest's result port takes it, so the order after it is what answers. */
        assert_int_equal(vmm_memory_store_u32(f.memory, 0x6000, 0xc0de00 + i % 2), 0);
        order_without_answer(&f, READ, 0x6000);
        assert_int_equal(guest_read(&f, 0xf0000), i % 2 ? 0xf1f1f1f1 : 0);
    }
    vmm_memory_region_unref(rom);
    drop(&f);
}

/* The dirty log -------------------------------------------------------------------------------- */

#define PAGES (RAM_LENGTH / PAGE)

struct harvest {
    uint8_t pages[PAGES];
    uint32_t count;
};

static int note(void *ctx, const struct vmm_dirty_range *range)
{
    struct harvest *h = ctx;
    for (uint64_t at = 0; at < range->length; at += PAGE) {
        uint64_t page = (range->address + at) / PAGE;
        assert_true(range->address != UINT64_MAX && page < PAGES && !h->pages[page]);
        h->pages[page] = 1;
        h->count++;
    }
    return 0;
}

/* Pages that the guest only reads or runs: KVM maps those writable at the first touch after their
 * slot changed, and then says that they were written to. */
#define CODE_PAGE 1u
#define READ_PAGE 0xf00u

static void check_harvest(struct vmm_dirty_consumer *c, const struct harvest *expected)
{
    static struct harvest found;
    memset(&found, 0, sizeof(found));
    assert_int_equal(vmm_dirty_harvest(c, note, &found), 0);
    for (uint32_t page = 0; page < PAGES; page++)
        if (found.pages[page] != expected->pages[page] && page != CODE_PAGE && page != READ_PAGE)
            fail_msg("page %u: found %u, expected %u", page, found.pages[page],
                     expected->pages[page]);
}

static void expect(struct harvest *h, uint32_t page)
{
    h->count += !h->pages[page];
    h->pages[page] = 1;
}

/* Anywhere but in the first pages, where the code is. */
static void write_pages(struct fixture *f, struct harvest *expected, struct harvest *total,
                        uint32_t first, uint32_t step, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t page = 16 + (first + i * step) % (READ_PAGE - 16);
        guest_write(f, (uint64_t)page * PAGE + 8, i);
        expect(expected, page);
        expect(total, page);
    }
}

static void known_pages_are_found(struct fixture *f, uint32_t pages)
{
    static struct harvest expected, total;
    struct vmm_dirty_consumer *all = NULL, *other = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    guest_write(f, 0x9000, 1); /* before anybody watches */
    if (vmm_dirty_consumer_new(f->memory, NULL, &all, &err) != 0)
        fail_msg("%s", err.text);
    assert_int_equal(vmm_dirty_consumer_new(f->memory, f->ram, &other, NULL), 0);
    memset(&total, 0, sizeof(total));
    for (uint32_t round = 0; round < 3; round++) {
        memset(&expected, 0, sizeof(expected));
        check_harvest(all, &expected);
        write_pages(f, &expected, &total, round, 7 + 2 * round, pages);
        (void)guest_read(f, (uint64_t)READ_PAGE * PAGE);
        assert_int_equal(vmm_memory_store_u8(f->memory, 0xe00000, 1), 0); /* not KVM's to know */
        expect(&expected, 0xe00);
        expect(&total, 0xe00);
        check_harvest(all, &expected);
        if (round == 1) {
            check_harvest(other, &total); /* both rounds at once */
            memset(&total, 0, sizeof(total));
        }
    }
    vmm_dirty_consumer_free(all);
    vmm_dirty_consumer_free(other);
    /* Nobody watches: no slot logs, and the guest goes on. */
    guest_write(f, 0x9000, 2);
    struct vmm_dirty_stats stats = VMM_DIRTY_STATS_INIT;
    assert_int_equal(vmm_dirty_get_stats(f->memory, &stats), 0);
    assert_true(stats.kvm_pages > pages);
    print_message("%llu pages from KVM, %llu by rings, %u full rings\n",
                  (unsigned long long)stats.kvm_pages, (unsigned long long)stats.ring_entries,
                  f->full_rings);
}

static void the_bitmap_finds_the_pages_written(void **state)
{
    (void)state;
    struct fixture f;
    make_memory(&f);
    make_vcpu(&f);
    known_pages_are_found(&f, 300);
    assert_int_equal(vmm_dirty_ring_enable(f.memory, 0, NULL), -EBUSY);
    drop(&f);
}

static void the_ring_finds_the_pages_written(void **state)
{
    (void)state;
    struct fixture f;
    struct vmm_error err = VMM_ERROR_INIT;
    make_memory(&f);
    assert_int_not_equal(vmm_dirty_ring_enable(f.memory, 1000, NULL), 0);
    int rc = vmm_dirty_ring_enable(f.memory, 1024, &err);
    if (rc == -EOPNOTSUPP) {
        print_message("skipped: %s\n", err.text);
        drop(&f);
        skip();
    }
    assert_int_equal(rc, 0);
    assert_int_equal(vmm_dirty_ring_entries(f.memory), 1024);
    make_vcpu(&f);
    known_pages_are_found(&f, 1500); /* more than a ring has */
    assert_true(f.full_rings > 0);
    drop(&f);
}

static void a_log_is_complete_when_its_slot_is_replaced(void **state)
{
    (void)state;
    struct fixture f;
    struct vmm_dirty_consumer *c;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_memory_region *hole =
        new_region((struct vmm_memory_region_options){.type = VMM_MEMORY_HOLE, .length = PAGE});
    assert_int_equal(vmm_dirty_consumer_new(f.memory, NULL, &c, NULL), 0);
    guest_write(&f, 0x300008, 1);
    assert_int_equal(vmm_memory_add(f.memory, hole, 0x800000, 1, NULL), 0);
    guest_write(&f, 0x400008, 1);
    struct harvest *found = calloc(1, sizeof(*found));
    assert_non_null(found);
    (void)vmm_memory_set_enabled(f.memory, hole, false, NULL);
    assert_int_equal(vmm_dirty_harvest(c, note, found), 0);
    assert_true(found->pages[0x300] && found->pages[0x400]);
    /* And exact again afterwards. */
    memset(found, 0, sizeof(*found));
    guest_write(&f, 0x500008, 1);
    found->pages[0x500] = 1;
    found->count = 1;
    check_harvest(c, found);
    free(found);
    vmm_dirty_consumer_free(c);
    vmm_memory_region_unref(hole);
    drop(&f);
}

static void discarded_memory_leaves_the_host_and_reads_as_zeros(void **state)
{
    (void)state;
    struct fixture f;
    uint64_t before = 0, after = 0;
    make_memory(&f);
    make_vcpu(&f);
    struct vmm_backing *backing = vmm_memory_region_backing(f.ram);
    assert_int_equal(vmm_memory_fill(f.memory, 0x200000, 0x77, 8 << 20), 0);
    assert_int_equal(guest_read(&f, 0x400000), 0x77777777);
    assert_int_equal(vmm_backing_resident(backing, &before), 0);
    assert_int_equal(vmm_memory_discard(f.memory, 0x200000, 8 << 20), 0);
    assert_int_equal(vmm_backing_resident(backing, &after), 0);
    assert_int_equal(before - after, 8 << 20);
    assert_int_equal(guest_read(&f, 0x400000), 0);
    guest_write(&f, 0x400000, 5);
    assert_int_equal(host_read(&f, 0x400000), 5);
    drop(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rom_is_read_directly_and_written_to_a_callback),
        cmocka_unit_test(an_alias_shows_the_same_bytes),
        cmocka_unit_test(overlays_change_as_few_slots_as_they_can),
        cmocka_unit_test(adjacent_regions_of_one_backing_share_a_slot),
        cmocka_unit_test(what_kvm_refuses_changes_nothing),
        cmocka_unit_test(a_map_with_too_many_slots_is_refused),
        cmocka_unit_test(memory_comes_and_goes_while_the_guest_runs),
        cmocka_unit_test(a_running_guest_never_sees_its_memory_blink),
        cmocka_unit_test(a_vcpu_may_change_the_map_from_its_own_handler),
        cmocka_unit_test(the_bitmap_finds_the_pages_written),
        cmocka_unit_test(the_ring_finds_the_pages_written),
        cmocka_unit_test(a_log_is_complete_when_its_slot_is_replaced),
        cmocka_unit_test(discarded_memory_leaves_the_host_and_reads_as_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
