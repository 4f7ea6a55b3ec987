/* SPDX-License-Identifier: BSD-3-Clause */
/* PCI on a real VM: messages into a local APIC, sent and by eventfd, and what is told of the guest. */
#include "test.h"

#include <libvmm/kvm.h>
#include <libvmm/pci.h>
#include <libvmm/vcpu.h>

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define TABLE  UINT64_C(0xc0000000)
#define WINDOW TABLE

struct fixture {
    struct vmm_host *host;
    struct vmm_vm *vm;
    struct vmm_memory *memory;
    struct vmm_vcpu *vcpu;
    struct vmm_bus *mmio;
    struct vmm_pci_host *bridge;
    struct vmm_pci *pci;
    uint32_t msix;
    char error[256];
};

static void guest_error(void *ctx, const char *device, const char *text)
{
    struct fixture *f = ctx;
    (void)snprintf(f->error, sizeof(f->error), "%s: %s", device, text);
}

static void set_cfg(struct fixture *f, uint32_t offset, uint32_t width, uint32_t value)
{
    assert_int_equal(vmm_pci_host_config_write(f->bridge, 8, offset, width, value), 0);
}

/* Registers of the local APIC (KVM_GET_LAPIC), by their offsets. */
static uint32_t apic(struct fixture *f, uint32_t offset)
{
    struct kvm_lapic_state state;
    uint32_t value;
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_GET_LAPIC, &state), 0);
    memcpy(&value, state.regs + offset, 4);
    return value;
}

/* On, by the spurious interrupt vector register; KVM takes no message else. */
static void enable_apic(struct fixture *f)
{
    struct kvm_lapic_state state;
    const uint32_t spurious = 0x1ff;
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_GET_LAPIC, &state), 0);
    memcpy(state.regs + 0xf0, &spurious, 4);
    assert_int_equal(ioctl(vmm_vcpu_fd(f->vcpu), KVM_SET_LAPIC, &state), 0);
}

/* Is the vector requested? An irqfd may take KVM a moment. */
static bool requested(struct fixture *f, uint32_t vector, int milliseconds)
{
    for (; milliseconds >= 0; milliseconds--) {
        if (apic(f, 0x200 + 16 * (vector / 32)) >> (vector % 32) & 1)
            return true;
        usleep(1000);
    }
    return false;
}

static void set_entry(struct fixture *f, uint32_t entry, uint32_t vector, uint32_t control)
{
    vmm_bus_write(f->mmio, TABLE + 16 * entry, 8, 0xfee00000);
    vmm_bus_write(f->mmio, TABLE + 16 * entry + 8, 8, (uint64_t)control << 32 | vector);
}

static void add_function(struct fixture *f)
{
    struct vmm_pci_host_options h = VMM_PCI_HOST_OPTIONS_INIT;
    struct vmm_pci_options o = VMM_PCI_OPTIONS_INIT;
    h.name = "bridge";
    h.vm = f->vm;
    h.memory = f->memory;
    h.mmio = f->mmio;
    h.ecam_address = 0xe0000000;
    h.window = (struct vmm_pci_window){WINDOW, 0x1000000};
    assert_int_equal(vmm_pci_host_new(&h, &f->bridge, NULL), 0);
    o.name = "function";
    o.msix_vectors = 4;
    o.bars[1].length = 0x1000;
    assert_int_equal(vmm_pci_new(&o, &f->pci, NULL), 0);
    assert_int_equal(vmm_pci_host_add(f->bridge, f->pci, 1, 0, NULL), 0);
    f->msix = vmm_pci_config(f->pci)[0x34];
    set_cfg(f, 0x10, 4, TABLE);
    set_cfg(f, 0x14, 4, WINDOW + 0x10000);
    set_cfg(f, 4, 2, 6);
    set_cfg(f, f->msix + 2, 2, 0x8000);
}

static int set_up(void **state)
{
    struct vmm_error err = VMM_ERROR_INIT;
    struct vmm_vm_options v = VMM_VM_OPTIONS_INIT;
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    if (vmm_host_open(NULL, &f->host, &err))
        TEST_SKIP("%s", err.text);
    v.irqchip = VMM_IRQCHIP_KERNEL;
    v.kick_signal = (uint32_t)SIGUSR1;
    v.guest_error = guest_error;
    v.guest_error_ctx = f;
    if (vmm_vm_new(f->host, &v, &f->vm, &err))
        TEST_SKIP("%s", err.text);
    assert_int_equal(vmm_memory_new(f->vm, &f->memory, NULL), 0);
    assert_int_equal(vmm_memory_add_ram(f->memory, "ram", 0, 0x10000, NULL, NULL), 0);
    assert_int_equal(vmm_bus_new("memory", 64, &f->mmio), 0);
    assert_int_equal(vmm_vcpu_new(f->vm, f->memory, 0, &f->vcpu, &err), 0);
    enable_apic(f);
    add_function(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    vmm_pci_host_unref(f->bridge);
    vmm_pci_unref(f->pci);
    vmm_vcpu_unref(f->vcpu);
    vmm_bus_unref(f->mmio);
    vmm_memory_unref(f->memory);
    vmm_vm_unref(f->vm);
    vmm_host_unref(f->host);
    free(f);
    return 0;
}

static void messages_arrive(void **state)
{
    struct fixture *f = *state;
    set_entry(f, 0, 0x55, 0);
    assert_false(requested(f, 0x55, 0));
    assert_int_equal(vmm_pci_signal(f->pci, 0), 1);
    assert_true(requested(f, 0x55, 0));
    set_entry(f, 1, 0x56, 1);
    assert_int_equal(vmm_pci_signal(f->pci, 1), 0);
    assert_false(requested(f, 0x56, 0));
    set_entry(f, 1, 0x56, 0);
    assert_true(requested(f, 0x56, 0));
}

/* What KVM does with them is its affair, and no error of the guest's harms us. */
static void garbage_messages(void **state)
{
    struct fixture *f = *state;
    static const uint64_t addresses[] = {0, 0x1000, UINT64_MAX, 0xfee00000, 0xfee00000};
    static const uint32_t data[] = {0x55, 0x55, UINT32_MAX, 0, 0x700};
    for (size_t i = 0; i < 5; i++) {
        vmm_bus_write(f->mmio, TABLE, 8, addresses[i]);
        vmm_bus_write(f->mmio, TABLE + 8, 8, data[i]);
        (void)vmm_pci_signal(f->pci, 0);
    }
    set_entry(f, 0, 0x60, 0);
    assert_int_equal(vmm_pci_signal(f->pci, 0), 1);
    assert_true(requested(f, 0x60, 0));
}

static void send_by(int fd)
{
    const uint64_t one = 1;
    assert_int_equal(write(fd, &one, sizeof(one)), sizeof(one));
}

static void eventfds_send_messages(void **state)
{
    struct fixture *f = *state;
    uint64_t value;
    int fd, again;
    set_entry(f, 2, 0x71, 0);
    assert_int_equal(vmm_pci_vector_fd(f->pci, 2, &fd), 0);
    assert_int_equal(vmm_pci_vector_fd(f->pci, 2, &again), 0);
    assert_int_equal(fd, again);
    send_by(fd);
    assert_true(requested(f, 0x71, 2000));
    set_entry(f, 2, 0x72, 0); /* the route follows the table */
    send_by(fd);
    assert_true(requested(f, 0x72, 2000));
    set_entry(f, 2, 0x73, 1);
    send_by(fd);
    assert_false(requested(f, 0x73, 50));
    vmm_bus_read(f->mmio, TABLE + 0x800, 8, &value);
    assert_int_equal(value, 4);
    set_entry(f, 2, 0x73, 0);
    assert_true(requested(f, 0x73, 2000));
    set_cfg(f, f->msix + 2, 2, 0xc000); /* all masked */
    set_entry(f, 2, 0x74, 0);
    send_by(fd);
    assert_false(requested(f, 0x74, 50));
    set_cfg(f, f->msix + 2, 2, 0x8000);
    assert_true(requested(f, 0x74, 2000));
}

static void collisions_are_reported(void **state)
{
    struct fixture *f = *state;
    assert_string_equal(f->error, "");
    set_cfg(f, 0x14, 4, TABLE);
    assert_non_null(strstr(f->error, "function: BAR 1 at 0xc0000000"));
    assert_non_null(strstr(f->error, "function.bar0"));
    assert_int_equal(vmm_vm_guest_error_count(f->vm), 1);
    assert_int_equal(vmm_memory_add_ram(f->memory, "late", WINDOW + 0x20000, 0x1000, NULL, NULL),
                     0);
    set_cfg(f, 0x14, 4, WINDOW + 0x20000);
    assert_non_null(strstr(f->error, "late"));
}

/* Taken off with an eventfd that goes on being written. */
static void gone_with_its_eventfd(void **state)
{
    struct fixture *f = *state;
    int fd;
    set_entry(f, 3, 0x80, 0);
    assert_int_equal(vmm_pci_vector_fd(f->pci, 3, &fd), 0);
    int copy = dup(fd);
    assert_int_equal(vmm_pci_host_remove(f->bridge, f->pci), 0);
    send_by(copy);
    assert_false(requested(f, 0x80, 50));
    close(copy);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(messages_arrive),         TEST(garbage_messages),      TEST(eventfds_send_messages),
        TEST(collisions_are_reported), TEST(gone_with_its_eventfd),
    };
    (void)vmm_kick_signal_install(SIGUSR1); /* or it is there */
    return cmocka_run_group_tests(tests, NULL, NULL);
}
