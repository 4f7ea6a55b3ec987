/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * The host and the VM above a KVM that the test makes up: every call that can fail fails once, and
 * what reaches KVM is looked at. ioctl() is replaced at link time.
 */
#include "test.h"
#include "vm/internal.h"

#include <libvmm/irq.h>
#include <libvmm/kvm.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static struct {
    int version, run_size;
    int calls;       /* ioctls so far */
    int fail_call;   /* this one fails … */
    int fail_errno;  /* … with this */
    int interrupted; /* the next so many calls give EINTR */
    int gsi_changes, last_gsi, last_level;
    int routing_calls;
    struct kvm_irq_routing_entry routes[64];
    uint32_t route_count;
    struct kvm_msi msi;
    struct kvm_irqfd irqfd;
    struct kvm_ioeventfd ioeventfd;
    struct kvm_enable_cap cap;
    struct kvm_clock_data clock;
    bool no_resample;
} fake;

static void take_routes(const struct kvm_irq_routing *table)
{
    fake.routing_calls++;
    fake.route_count = table->nr;
    for (uint32_t i = 0; i < table->nr && i < 64; i++)
        fake.routes[i] = table->entries[i];
}

static int capability(unsigned long number)
{
    switch (number) {
    case KVM_CAP_NR_VCPUS:
        return 2;
    case KVM_CAP_MAX_VCPUS:
        return 288;
    case KVM_CAP_NR_MEMSLOTS:
        return 0; /* an old kernel: the documented default holds */
    case KVM_CAP_IRQ_ROUTING:
        return 28;
    case KVM_CAP_IRQFD_RESAMPLE:
        return !fake.no_resample;
    case KVM_CAP_SET_TSS_ADDR:
    case KVM_CAP_SET_IDENTITY_MAP_ADDR:
    case KVM_CAP_IRQFD:
        return 1;
    case KVM_CAP_ADJUST_CLOCK:
        return KVM_CLOCK_REALTIME;
    default:
        return 0;
    }
}

static int answer(unsigned long request, uintptr_t argument)
{
    const void *p = (const void *)argument;
    switch (request) {
    case KVM_GET_API_VERSION:
        return fake.version;
    case KVM_GET_VCPU_MMAP_SIZE:
        return fake.run_size;
    case KVM_CHECK_EXTENSION:
        return capability(argument);
    case KVM_CREATE_VM:
        return open("/dev/null", O_RDWR | O_CLOEXEC);
    case KVM_IRQ_LINE:
        fake.gsi_changes++;
        fake.last_gsi = (int)((const struct kvm_irq_level *)p)->irq;
        fake.last_level = (int)((const struct kvm_irq_level *)p)->level;
        return 0;
    case KVM_SET_GSI_ROUTING:
        take_routes(p);
        return 0;
    case KVM_SIGNAL_MSI:
        fake.msi = *(const struct kvm_msi *)p;
        return 3;
    case KVM_IRQFD:
        fake.irqfd = *(const struct kvm_irqfd *)p;
        return 0;
    case KVM_IOEVENTFD:
        fake.ioeventfd = *(const struct kvm_ioeventfd *)p;
        return 0;
    case KVM_ENABLE_CAP:
        fake.cap = *(const struct kvm_enable_cap *)p;
        return 0;
    case KVM_GET_CLOCK:
        *(struct kvm_clock_data *)argument = fake.clock;
        return 0;
    case KVM_SET_CLOCK:
        fake.clock = *(const struct kvm_clock_data *)p;
        return 0;
    case KVM_CREATE_IRQCHIP:
    case KVM_CREATE_PIT2:
    case KVM_SET_TSS_ADDR:
    case KVM_SET_IDENTITY_MAP_ADDR:
        return 0;
    default:
        errno = ENOTTY;
        return -1;
    }
}

int __wrap_ioctl(int fd, unsigned long request, uintptr_t argument);
int __wrap_ioctl(int fd, unsigned long request, uintptr_t argument)
{
    (void)fd;
    if (fake.interrupted) {
        fake.interrupted--;
        errno = EINTR;
        return -1;
    }
    if (++fake.calls == fake.fail_call) {
        errno = fake.fail_errno;
        return -1;
    }
    return answer(request, argument);
}

static int start(void **state)
{
    (void)state;
    memset(&fake, 0, sizeof(fake));
    fake.version = KVM_API_VERSION;
    fake.run_size = 12288;
    return 0;
}

static int open_files(void)
{
    int count = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

static struct vmm_host *host(void)
{
    struct vmm_host *h = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_host_open("/dev/null", &h, &err))
        fail_msg("%s", err.text);
    return h;
}

static struct vmm_vm *vm_of(const struct vmm_vm_options *options)
{
    struct vmm_host *h = host();
    struct vmm_vm *vm = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_vm_new(h, options, &vm, &err))
        fail_msg("%s", err.text);
    vmm_host_unref(h); /* the VM holds it */
    return vm;
}

/* The host -------------------------------------------------------------------------------------- */

static void what_a_host_says(void **state)
{
    struct vmm_host_info info = VMM_HOST_INFO_INIT;
    struct vmm_capability table[8];
    (void)state;
    struct vmm_host *h = host();
    assert_int_equal(vmm_host_get_info(h, &info), 0);
    assert_int_equal(info.api_version, 12);
    assert_int_equal(info.vcpus_recommended, 2);
    assert_int_equal(info.vcpus_max, 288);
    assert_int_equal(info.vcpu_id_max, 288); /* not told: as many as vCPUs */
    assert_int_equal(info.slots_max, 32);
    assert_int_equal(info.run_size, 12288);
    assert_int_equal(vmm_host_capability(h, KVM_CAP_MAX_VCPUS), 288);
    assert_int_equal(vmm_host_capability_by_name(h, "max_vcpus"), 288);
    assert_int_equal(vmm_host_capability_by_name(h, "irqfd"), 1);
    assert_int_equal(vmm_host_capability_by_name(h, "no_such_thing"), -ENOENT);
    size_t count = vmm_host_capabilities(h, NULL, 0);
    assert_true(count > 100);
    assert_int_equal(vmm_host_capabilities(h, table, 8), count);
    assert_non_null(table[7].name);
    fake.fail_call = fake.calls + 1; /* a host that fails to answer has it not */
    fake.fail_errno = EBADF;
    assert_int_equal(vmm_host_capability(h, KVM_CAP_MAX_VCPUS), 0);
    info.size = 8;
    assert_int_equal(vmm_host_get_info(h, &info), 0); /* an older caller gets what it knows */
    info.size = 0;
    assert_int_equal(vmm_host_get_info(h, &info), -EINVAL);
    vmm_host_unref(h);
    assert_null(vmm_host_unref(NULL));
    assert_string_equal(vmm_flavour_name(99), "unknown");
    assert_string_equal(vmm_paging_name(VMM_PAGING_NESTED), "nested");
}

static void hosts_that_cannot_be_used(void **state)
{
    struct vmm_host *h = NULL;
    struct vmm_error err = VMM_ERROR_INIT;
    (void)state;
    int files = open_files();
    assert_int_equal(vmm_host_open("/nonexistent/kvm", &h, &err), -ENOENT);
    assert_non_null(strstr(err.text, "modprobe"));
    fake.version = 11;
    assert_int_equal(vmm_host_open("/dev/null", &h, &err), -EPROTO);
    assert_non_null(strstr(err.text, "version 11"));
    fake.version = KVM_API_VERSION;
    fake.run_size = 16;
    assert_int_equal(vmm_host_open("/dev/null", &h, &err), -EPROTO);
    fake.run_size = 12288;
    fake.fail_call = fake.calls + 1;
    fake.fail_errno = ENOTTY;
    assert_int_equal(vmm_host_open("/dev/null", &h, &err), -ENODEV);
    assert_non_null(strstr(err.text, "not a KVM device"));
    fake.fail_call = fake.calls + 2;
    fake.fail_errno = EIO;
    assert_int_equal(vmm_host_open("/dev/null", &h, &err), -EIO);
    assert_int_equal(vmm_host_open_fd(-1, &h, &err), -EBADF);
    assert_int_equal(vmm_host_open("/nonexistent/kvm", &h, NULL), -ENOENT); /* no text wanted */
    assert_int_equal(open_files(), files);
}

static void the_callers_descriptor_stays_the_callers(void **state)
{
    struct vmm_host *h;
    (void)state;
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    assert_int_equal(vmm_host_open_fd(fd, &h, NULL), 0);
    assert_int_not_equal(vmm_host_fd(h), fd);
    vmm_host_unref(h);
    assert_int_equal(close(fd), 0);
}

/* The VM ---------------------------------------------------------------------------------------- */

static void each_failing_call_is_an_error_and_leaves_nothing(void **state)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vm *vm = NULL;
    (void)state;
    o.pit = 1;
    struct vmm_host *h = host();
    int before = fake.calls, files = open_files();
    assert_int_equal(vmm_vm_new(h, &o, &vm, &err), 0);
    int calls = fake.calls - before, failures = 0;
    vmm_vm_unref(vm);
    for (int i = 1; i <= calls; i++) {
        fake.fail_call = fake.calls + i;
        fake.fail_errno = EIO;
        int rc = vmm_vm_new(h, &o, &vm, &err);
        if (rc) { /* the others are questions, and "no" is an answer */
            assert_int_equal(rc, -EIO);
            assert_non_null(strstr(err.text, "KVM_"));
            failures++;
        } else {
            vmm_vm_unref(vm);
        }
        assert_int_equal(open_files(), files);
    }
    assert_int_equal(failures, 5); /* VM, identity map, TSS, interrupt controllers, PIT */
    fake.interrupted = 3;
    assert_int_equal(vmm_vm_new(h, &o, &vm, &err), 0);
    vmm_vm_unref(vm);
    vmm_host_unref(h);
}

static void options_that_are_refused(void **state)
{
    static const struct vmm_vm_options bad[] = {
        {.size = sizeof(bad[0]), .irqchip = 3},
        {.size = sizeof(bad[0]), .irqchip = VMM_IRQCHIP_NONE, .pit = 1},
        {.size = sizeof(bad[0]), .irqchip = VMM_IRQCHIP_KERNEL, .split_pins = 24},
        {.size = sizeof(bad[0]), .kick_signal = 65},
        {.size = sizeof(bad[0]), .tss_address = 0x1001},
        {.size = sizeof(bad[0]), .tss_address = 0xffffe000}, /* three pages do not fit */
        {.size = sizeof(bad[0]), .identity_map_address = UINT64_C(1) << 32},
    };
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vm *vm = NULL;
    (void)state;
    struct vmm_host *h = host();
    int files = open_files();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(vmm_vm_new(h, &bad[i], &vm, &err), -EINVAL);
        assert_non_null(strstr(err.text, "VM options"));
    }
    struct {
        struct vmm_vm_options options;
        uint64_t newer;
    } next = {VMM_VM_OPTIONS_INIT, 1};
    next.options.size = sizeof(next);
    assert_int_equal(vmm_vm_new(h, &next.options, &vm, &err), -E2BIG);
    assert_int_equal(open_files(), files);
    vmm_host_unref(h);
}

static void capabilities_with_arguments(void **state)
{
    const uint64_t args[5] = {1, 2, 3, 4, 5};
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    assert_int_equal(vmm_vm_enable_capability(vm, 77, args, 4), 0);
    assert_int_equal(fake.cap.cap, 77);
    assert_int_equal(fake.cap.args[3], 4);
    assert_int_equal(vmm_vm_enable_capability(vm, 77, args, 5), -EINVAL);
    assert_int_equal(vmm_vm_enable_capability(vm, 77, NULL, 1), -EINVAL);
    assert_int_equal(vmm_vm_enable_capability(vm, 77, NULL, 0), 0);
    vmm_vm_unref(vm);
}

static void the_clock(void **state)
{
    struct vmm_clock c = VMM_CLOCK_INIT;
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    fake.clock = (struct kvm_clock_data){
        .clock = 1000, .flags = KVM_CLOCK_REALTIME, .realtime = 5, .host_tsc = 9};
    assert_int_equal(vmm_vm_get_clock(vm, &c), 0);
    assert_int_equal(c.clock_ns, 1000);
    assert_int_equal(c.realtime_ns, 5);
    assert_int_equal(c.host_tsc, 0); /* its flag is not set */
    c.clock_ns = 77;
    assert_int_equal(vmm_vm_set_clock(vm, &c), 0);
    assert_int_equal(fake.clock.clock, 77);
    assert_int_equal(fake.clock.flags, KVM_CLOCK_REALTIME);
    c.realtime_ns = 0;
    assert_int_equal(vmm_vm_set_clock(vm, &c), 0);
    assert_int_equal(fake.clock.flags, 0);
    fake.fail_call = fake.calls + 1;
    fake.fail_errno = EPERM;
    assert_int_equal(vmm_vm_get_clock(vm, &c), -EPERM);
    c.size = 1;
    assert_int_equal(vmm_vm_set_clock(vm, &c), -EINVAL);
    vmm_vm_unref(vm);
}

static char last_error[64];
static void guest_error(void *ctx, const char *device, const char *text)
{
    (void)ctx;
    (void)snprintf(last_error, sizeof(last_error), "%s: %s", device, text);
}

static void guest_errors_are_counted_and_told(void **state)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    vmm_vm_guest_error(vm, "disk0", "bad");
    assert_int_equal(vmm_vm_guest_error_count(vm), 1);
    vmm_vm_unref(vm);
    o.guest_error = guest_error;
    vm = vm_of(&o);
    vmm_vm_guest_error(vm, "disk0", "queue %d", 7);
    assert_string_equal(last_error, "disk0: queue 7");
    vmm_vm_unref(vm);
}

/* Interrupts ------------------------------------------------------------------------------------ */

static void lines_on_one_gsi_are_ored(void **state)
{
    struct vmm_irq_line *a, *b;
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    assert_int_equal(vmm_irq_line_new(vm, 5, &a), 0);
    assert_int_equal(vmm_irq_line_new(vm, 5, &b), 0);
    assert_int_equal(vmm_irq_line_new(vm, 28, &b) ? 28 : 0, 28); /* beyond the table */
    assert_int_equal(vmm_irq_line_set(a, 1), 0);
    assert_int_equal(fake.gsi_changes, 1);
    assert_int_equal(vmm_irq_line_set(a, 7), 0); /* high already */
    assert_int_equal(vmm_irq_line_set(b, 1), 0);
    assert_int_equal(fake.gsi_changes, 1);
    assert_int_equal(vmm_irq_line_set(a, 0), 0);
    assert_int_equal(fake.gsi_changes, 1); /* b holds it */
    assert_int_equal(vmm_irq_line_level(b), 1);
    vmm_irq_line_free(b); /* lowers it */
    assert_int_equal(fake.gsi_changes, 2);
    assert_int_equal(fake.last_level, 0);
    assert_int_equal(vmm_irq_line_pulse(a), 0);
    assert_int_equal(fake.gsi_changes, 4);
    assert_int_equal(fake.last_gsi, 5);
    fake.fail_call = fake.calls + 1;
    fake.fail_errno = ENXIO;
    assert_int_equal(vmm_irq_line_set(a, 1), -ENXIO);
    vmm_irq_line_free(a);
    assert_int_equal(vmm_irq_line_set(NULL, 1), 0);
    assert_int_equal(vmm_irq_line_level(NULL), 0);
    assert_null(vmm_irq_line_free(NULL));
    vmm_vm_unref(vm);
}

static uint32_t callback_level;
static void on_level(void *ctx, uint32_t level)
{
    *(int *)ctx += 1;
    callback_level = level;
}

static void lines_without_a_controller(void **state)
{
    struct vmm_vm_options o = VMM_VM_OPTIONS_INIT;
    struct vmm_irq_line *line;
    struct vmm_msi msi = {.address = 0xfee00000, .data = 0x30};
    uint32_t gsi;
    int changes = 0;
    (void)state;
    o.irqchip = VMM_IRQCHIP_NONE;
    struct vmm_vm *vm = vm_of(&o);
    assert_int_equal(vmm_irq_line_new(vm, 5, &line), -ENODEV);
    assert_int_equal(vmm_vm_gsi_alloc(vm, &gsi), -ENOSPC);
    assert_int_equal(vmm_vm_route_msi(vm, 3, &msi), -EINVAL);
    vmm_vm_unref(vm);
    assert_int_equal(vmm_irq_line_new_callback(NULL, NULL, &line), -EINVAL);
    assert_int_equal(vmm_irq_line_new_callback(on_level, &changes, &line), 0);
    assert_int_equal(vmm_irq_line_set(line, 1), 0);
    assert_int_equal(vmm_irq_line_set(line, 1), 0);
    assert_int_equal(changes, 1);
    vmm_irq_line_free(line);
    assert_int_equal(changes, 2);
    assert_int_equal(callback_level, 0);
}

static void routes_reach_kvm_in_one_call(void **state)
{
    struct vmm_msi msi = {.address = UINT64_C(0x1fee01000), .data = 0x41};
    uint32_t gsis[8], extra;
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    assert_int_equal(vmm_vm_routes_commit(vm), 0);
    assert_int_equal(fake.routing_calls, 0); /* KVM has the default table by itself */
    for (int i = 0; i < 4; i++) {            /* 28 GSIs, 24 of them pins */
        assert_int_equal(vmm_vm_gsi_alloc(vm, &gsis[i]), 0);
        assert_int_equal(gsis[i], 24 + i);
        assert_int_equal(vmm_vm_route_msi(vm, gsis[i], &msi), 0);
    }
    assert_int_equal(vmm_vm_gsi_alloc(vm, &extra), -ENOSPC);
    assert_int_equal(vmm_vm_routes_commit(vm), 0);
    assert_int_equal(fake.routing_calls, 1);
    assert_int_equal(fake.route_count, 24 + 16 + 4);
    const struct kvm_irq_routing_entry *e = &fake.routes[fake.route_count - 1];
    assert_int_equal(e->gsi, 27);
    assert_int_equal(e->type, KVM_IRQ_ROUTING_MSI);
    assert_int_equal(e->u.msi.address_lo, 0xfee01000);
    assert_int_equal(e->u.msi.address_hi, 1);
    assert_int_equal(e->u.msi.data, 0x41);
    assert_int_equal(vmm_vm_routes_commit(vm), 0);
    assert_int_equal(fake.routing_calls, 1); /* nothing has changed */

    msi.device_id = 9; /* the same GSI again replaces its route */
    assert_int_equal(vmm_vm_route_msi(vm, 25, &msi), 0);
    vmm_vm_gsi_free(vm, 24);
    vmm_vm_route_clear(vm, 26);
    assert_int_equal(vmm_vm_route_pin(vm, 26, KVM_IRQCHIP_IOAPIC, 3), 0);
    fake.fail_call = fake.calls + 1;
    fake.fail_errno = EINVAL;
    assert_int_equal(vmm_vm_routes_commit(vm), -EINVAL);
    assert_int_equal(vmm_vm_routes_commit(vm), 0); /* it is tried again */
    assert_int_equal(fake.route_count, 24 + 16 + 3);
    e = &fake.routes[fake.route_count - 1];
    assert_int_equal(e->type, KVM_IRQ_ROUTING_IRQCHIP);
    assert_int_equal((e - 1)->flags, 0); /* nobody asks who sends */
    assert_int_equal(vmm_vm_gsi_alloc(vm, &extra), 0);
    assert_int_equal(extra, 24); /* given back */

    assert_int_equal(vmm_vm_route_msi(vm, 28, &msi), -EINVAL);
    assert_int_equal(vmm_vm_route_pin(vm, UINT32_MAX, 0, 0), -EINVAL);
    vmm_vm_route_clear(vm, UINT32_MAX); /* nothing happens */
    vmm_vm_gsi_free(vm, UINT32_MAX);
    vmm_vm_unref(vm);
}

static void messages(void **state)
{
    struct vmm_msi msi = {.address = UINT64_C(0x2fee00000), .data = 0x1234, .device_id = 5};
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    assert_int_equal(vmm_vm_signal_msi(vm, &msi), 1); /* KVM told of three processors */
    assert_int_equal(fake.msi.address_hi, 2);
    assert_int_equal(fake.msi.flags, 0); /* x86's KVM refuses any */
    vm->routes.requesters = true;        /* as an ITS makes it */
    assert_int_equal(vmm_vm_signal_msi(vm, &msi), 1);
    assert_int_equal(fake.msi.flags, KVM_MSI_VALID_DEVID);
    assert_int_equal(fake.msi.devid, 5);
    fake.fail_call = fake.calls + 1;
    fake.fail_errno = EINVAL;
    assert_int_equal(vmm_vm_signal_msi(vm, &msi), -EINVAL);
    vmm_vm_unref(vm);
}

static void irqfds(void **state)
{
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    assert_int_equal(vmm_vm_irqfd_add(vm, 7, 10, -1), 0);
    assert_int_equal(fake.irqfd.fd, 7);
    assert_int_equal(fake.irqfd.flags, 0);
    assert_int_equal(vmm_vm_irqfd_add(vm, 7, 10, 8), 0);
    assert_int_equal(fake.irqfd.flags, KVM_IRQFD_FLAG_RESAMPLE);
    assert_int_equal(fake.irqfd.resamplefd, 8);
    assert_int_equal(vmm_vm_irqfd_remove(vm, 7, 10), 0);
    assert_int_equal(fake.irqfd.flags, KVM_IRQFD_FLAG_DEASSIGN);
    assert_int_equal(vmm_vm_irqfd_add(vm, -1, 10, -1), -EBADF);
    fake.no_resample = true;
    assert_int_equal(vmm_vm_irqfd_add(vm, 7, 10, 8), -ENOTSUP);
    vmm_vm_unref(vm);
}

static void ioeventfds(void **state)
{
    struct vmm_ioeventfd good = VMM_IOEVENTFD_INIT, e;
    (void)state;
    struct vmm_vm *vm = vm_of(NULL);
    good.space = VMM_SPACE_PORT;
    good.address = 0x500;
    good.length = 2;
    good.match = 1;
    good.data = 3;
    good.fd = 9;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &good), 0);
    assert_int_equal(fake.ioeventfd.flags, KVM_IOEVENTFD_FLAG_PIO | KVM_IOEVENTFD_FLAG_DATAMATCH);
    assert_int_equal(fake.ioeventfd.datamatch, 3);
    assert_int_equal(vmm_vm_ioeventfd_remove(vm, &good), 0);
    assert_true(fake.ioeventfd.flags & KVM_IOEVENTFD_FLAG_DEASSIGN);
    e = good;
    e.fd = -1;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EBADF);
    e = good;
    e.length = 3;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    e = good;
    e.length = 8; /* there is no such access to a port */
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    e = good;
    e.length = 0;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    e = good;
    e.address = 0x10000;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    e = good;
    e.space = 2;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    e = good;
    e.size = 4;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    e = good;
    e.space = VMM_SPACE_MMIO;
    e.length = 0;
    e.match = 0;
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), 0);
    assert_int_equal(fake.ioeventfd.flags, 0);
    e.match = 1; /* a value of no width */
    assert_int_equal(vmm_vm_ioeventfd_add(vm, &e), -EINVAL);
    vmm_vm_unref(vm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(what_a_host_says, start),
        cmocka_unit_test_setup(hosts_that_cannot_be_used, start),
        cmocka_unit_test_setup(the_callers_descriptor_stays_the_callers, start),
        cmocka_unit_test_setup(each_failing_call_is_an_error_and_leaves_nothing, start),
        cmocka_unit_test_setup(options_that_are_refused, start),
        cmocka_unit_test_setup(capabilities_with_arguments, start),
        cmocka_unit_test_setup(the_clock, start),
        cmocka_unit_test_setup(guest_errors_are_counted_and_told, start),
        cmocka_unit_test_setup(lines_on_one_gsi_are_ored, start),
        cmocka_unit_test_setup(lines_without_a_controller, start),
        cmocka_unit_test_setup(routes_reach_kvm_in_one_call, start),
        cmocka_unit_test_setup(messages, start),
        cmocka_unit_test_setup(irqfds, start),
        cmocka_unit_test_setup(ioeventfds, start),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
