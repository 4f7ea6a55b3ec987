/* SPDX-License-Identifier: BSD-3-Clause */
/* vCPUs on the host's KVM: exits, completion, registers, state; kick, pause and stop under stress. */
#include "small_vm.h"

#include <pthread.h>
#include <stdatomic.h>

static struct vmm_exit run(struct vmm_vcpu *vcpu)
{
    struct vmm_exit exit = VMM_EXIT_INIT;
    assert_int_equal(vmm_vcpu_run(vcpu, &exit), 0);
    return exit;
}

/* mov dx, 0x10; mov al, 7; out dx, al; in al, dx; mov dx, 0x20; mov eax, 0x11223344; out dx, eax; hlt */
static const uint8_t ports_code[] = {0xba, 0x10, 0x00, 0xb0, 0x07, 0xee, 0xec, 0xba, 0x20, 0x00,
                                     0x66, 0xb8, 0x44, 0x33, 0x22, 0x11, 0x66, 0xef, 0xf4};

static void port_exits_are_decoded_and_completed(void **state)
{
    (void)state;
    struct small_vm s;
    struct vmm_x86_regs r;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, ports_code, sizeof(ports_code));
    struct vmm_exit e = run(s.vcpu[0]);
    assert_int_equal(e.reason, VMM_EXIT_PORT);
    assert_int_equal(e.u.port.port, 0x10);
    assert_int_equal(e.u.port.width, 1);
    assert_true(e.u.port.is_write);
    assert_int_equal(*(uint8_t *)e.u.port.data, 7);
    e = run(s.vcpu[0]);
    assert_false(e.u.port.is_write);
    *(uint8_t *)e.u.port.data = 0x5a;
    /* Completing puts the answer into the register without running on. */
    assert_int_equal(vmm_vcpu_complete(s.vcpu[0]), 0);
    assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &r), 0);
    assert_int_equal(r.rax & 0xff, 0x5a);
    assert_int_equal(r.rip, CODE_AT + 7);
    e = run(s.vcpu[0]);
    assert_int_equal(e.u.port.width, 4);
    assert_int_equal(*(uint32_t *)e.u.port.data, 0x11223344);
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_HALT);
    assert_int_equal(vmm_vcpu_exit_count(s.vcpu[0], VMM_EXIT_PORT), 3);
    assert_int_equal(vmm_vcpu_exit_count(s.vcpu[0], VMM_EXIT_HALT), 1);
    small_vm_close(&s);
}

struct seen {
    uint32_t calls, items, width;
    uint64_t address;
    uint8_t data[64];
    bool write;
    int answer;
};

static int see_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                    bool write)
{
    struct seen *seen = ctx;
    seen->calls++;
    seen->items += count;
    seen->width = width;
    seen->address = port;
    seen->write = write;
    if (write && width * count <= sizeof(seen->data))
        memcpy(seen->data, data, width * count);
    else
        memset(data, 0x77, width * count);
    return seen->answer;
}

static int see_mmio(void *ctx, uint64_t address, void *data, uint32_t width, bool write)
{
    struct seen *seen = ctx;
    seen->calls++;
    seen->width = width;
    seen->address = address;
    seen->write = write;
    if (write)
        memcpy(seen->data, data, width);
    else
        memset(data, 0x99, width);
    return seen->answer;
}

static void released(void *ctx)
{
    ((struct seen *)ctx)->answer = 99;
}

static const struct vmm_io_handler handler = {
    .size = sizeof(handler), .port = see_port, .mmio = see_mmio, .release = released};

static void a_handler_answers_string_io_as_one(void **state)
{
    (void)state;
    /* cld; mov si, 0x1000; mov cx, 8; mov dx, 0x30; rep outsb; hlt */
    static const uint8_t code[] = {0xfc, 0xbe, 0x00, 0x10, 0xb9, 0x08, 0x00,
                                   0xba, 0x30, 0x00, 0xf3, 0x6e, 0xf4};
    struct small_vm s;
    struct seen seen = {0};
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, code, sizeof(code));
    assert_int_equal(vmm_vcpu_set_io(s.vcpu[0], &handler, &seen), 0);
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_HALT);
    assert_int_equal(seen.items, 8);
    assert_true(seen.calls <= 8);
    if (seen.calls == 1)
        assert_memory_equal(seen.data, code, 8);
    small_vm_close(&s);
    assert_int_equal(seen.answer, 99); /* let go of */
}

static void a_handler_declines_or_fails(void **state)
{
    (void)state;
    struct small_vm s;
    struct seen seen = {.answer = -ENOENT};
    struct vmm_exit e = VMM_EXIT_INIT;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, ports_code, sizeof(ports_code));
    assert_int_equal(vmm_vcpu_set_io(s.vcpu[0], &handler, &seen), 0);
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_PORT);
    seen.answer = -EIO;
    assert_int_equal(vmm_vcpu_run(s.vcpu[0], &e), -EIO);
    seen.answer = 0;
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_HALT);
    assert_int_equal(seen.calls, 3);
    e.size = 8;
    assert_int_equal(vmm_vcpu_run(s.vcpu[0], &e), -EINVAL);
    small_vm_close(&s);
}

static void mmio_widths(void **state)
{
    (void)state;
    /* RAM ends at 1 MiB; segment 0xffff with offset 0x1000 is 0x100ff0. mov ax, 0xffff; mov ds, ax; mov byte [0x1000], 0x12;
     * mov word [0x1002], 0x3456; mov dword [0x1004], 0x789abcde; mov al, [0x1000]; hlt */
    static const uint8_t code[] = {0xb8, 0xff, 0xff, 0x8e, 0xd8, 0xc6, 0x06, 0x00, 0x10, 0x12,
                                   0xc7, 0x06, 0x02, 0x10, 0x56, 0x34, 0x66, 0xc7, 0x06, 0x04,
                                   0x10, 0xde, 0xbc, 0x9a, 0x78, 0xa0, 0x00, 0x10, 0xf4};
    struct small_vm s;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, code, sizeof(code));
    struct vmm_exit e = run(s.vcpu[0]);
    assert_int_equal(e.reason, VMM_EXIT_MMIO);
    assert_int_equal(e.u.mmio.address, 0x100ff0);
    assert_int_equal(e.u.mmio.width, 1);
    assert_int_equal(e.u.mmio.data[0], 0x12);
    e = run(s.vcpu[0]);
    assert_int_equal(e.u.mmio.width, 2);
    assert_int_equal(e.u.mmio.data[1], 0x34);
    e = run(s.vcpu[0]);
    assert_int_equal(e.u.mmio.width, 4);
    assert_int_equal(e.u.mmio.address, 0x100ff4);
    e = run(s.vcpu[0]);
    assert_false(e.u.mmio.is_write);
    e.u.mmio.data[0] = 0xab;
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_HALT);
    struct vmm_x86_regs r;
    assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &r), 0);
    assert_int_equal(r.rax & 0xff, 0xab);
    small_vm_close(&s);
}

static void registers_come_back(void **state)
{
    (void)state;
    struct small_vm s;
    small_vm_open(&s, VMM_IRQCHIP_KERNEL, 1, ports_code, sizeof(ports_code));
    struct vmm_vcpu *v = s.vcpu[0];
    struct vmm_x86_regs r, r2;
    memset(&r, 0x21, sizeof(r));
    r.rip = CODE_AT;
    r.rflags = 0x46;
    assert_int_equal(vmm_x86_set_regs(v, &r), 0);
    assert_int_equal(vmm_x86_get_regs(v, &r2), 0);
    assert_memory_equal(&r, &r2, sizeof(r));
    struct vmm_x86_sregs sr, sr2;
    assert_int_equal(vmm_x86_get_sregs(v, &sr), 0);
    sr.cr2 = 0x123456789000;
    sr.gdt.base = 0x5000;
    sr.gdt.limit = 0x1f;
    assert_int_equal(vmm_x86_set_sregs(v, &sr), 0);
    assert_int_equal(vmm_x86_get_sregs(v, &sr2), 0);
    assert_memory_equal(&sr, &sr2, sizeof(sr));
    struct vmm_x86_fpu f, f2;
    assert_int_equal(vmm_x86_get_fpu(v, &f), 0);
    memset(f.xmm, 0x5c, sizeof(f.xmm));
    assert_int_equal(vmm_x86_set_fpu(v, &f), 0);
    assert_int_equal(vmm_x86_get_fpu(v, &f2), 0);
    assert_memory_equal(f.xmm, f2.xmm, sizeof(f.xmm));
    size_t size = vmm_x86_xsave_size(v);
    if (size) {
        uint8_t *area = test_malloc(size);
        assert_int_equal(vmm_x86_get_xsave(v, area, size - 1), -EINVAL);
        assert_int_equal(vmm_x86_get_xsave(v, area, size), 0);
        area[512] |= 3;  /* x87 and SSE hold something */
        area[24] = 0xa0; /* MXCSR, low byte */
        area[25] = 0x1f;
        memset(area + 160, 0x3d, 16); /* XMM0 */
        assert_int_equal(vmm_x86_set_xsave(v, area, size), 0);
        memset(area, 0, size);
        assert_int_equal(vmm_x86_get_xsave(v, area, size), 0);
        assert_int_equal(area[160], 0x3d);
        assert_int_equal(area[24], 0xa0);
        test_free(area);
    }
    uint64_t xcr0;
    if (vmm_x86_get_xcr0(v, &xcr0) == 0)
        assert_int_equal(vmm_x86_set_xcr0(v, xcr0), 0);
    struct vmm_x86_debug_regs d = {{0x1000, 0x2000, 0x3000, 0x4000}, 0xffff0ff0, 0x400}, d2;
    assert_int_equal(vmm_x86_set_debug_regs(v, &d), 0);
    assert_int_equal(vmm_x86_get_debug_regs(v, &d2), 0);
    assert_memory_equal(d.dr, d2.dr, sizeof(d.dr));
    uint8_t lapic[VMM_X86_LAPIC_SIZE];
    assert_int_equal(vmm_x86_get_lapic(v, lapic), 0);
    lapic[0x80] = 0x20; /* TPR */
    assert_int_equal(vmm_x86_set_lapic(v, lapic), 0);
    assert_int_equal(vmm_x86_get_lapic(v, lapic), 0);
    assert_int_equal(lapic[0x80], 0x20);
    uint32_t mp;
    assert_int_equal(vmm_x86_get_mp_state(v, &mp), 0);
    assert_int_equal(mp, VMM_X86_MP_RUNNABLE);
    assert_int_equal(vmm_x86_set_mp_state(v, 77), -EINVAL);
    struct vmm_x86_events ev;
    assert_int_equal(vmm_x86_get_events(v, &ev), 0);
    assert_int_equal(vmm_x86_set_events(v, &ev), 0);
    struct vmm_x86_msr m = {.index = 0x174, .value = 0x10}; /* SYSENTER_CS */
    assert_int_equal(vmm_x86_set_msrs(v, &m, 1), 1);
    m.value = 0;
    assert_int_equal(vmm_x86_get_msrs(v, &m, 1), 1);
    assert_int_equal(m.value, 0x10);
    assert_true(vmm_x86_msr_list(s.host, NULL, 0) > 10);
    assert_int_equal(vmm_x86_get_msrs(v, &m, 2000), -E2BIG);
    assert_int_equal(vmm_x86_set_guest_debug(v, 0x80, NULL), -EINVAL);
    assert_int_equal(vmm_x86_set_guest_debug(v, VMM_X86_DEBUG_HARDWARE, NULL), -EINVAL);
    assert_int_equal(vmm_x86_inject_interrupt(v, 256), -EINVAL);
    small_vm_close(&s);
}

static void registers_after_an_exit_are_the_guests(void **state)
{
    (void)state;
    /* next: inc ax; out 0x10, al; jmp next */
    static const uint8_t code[] = {0x40, 0xe6, 0x10, 0xeb, 0xfb};
    struct small_vm s;
    struct vmm_x86_regs r;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, code, sizeof(code));
    for (uint64_t i = 1; i <= 20; i++) {
        (void)run(s.vcpu[0]);
        assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &r), 0);
        assert_int_equal(r.rax & 0xffff, i);
        if (i == 10) { /* what is set counts, whatever was synced before */
            assert_int_equal(vmm_vcpu_complete(s.vcpu[0]), 0);
            assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &r), 0);
            r.rbx = 0x1234;
            assert_int_equal(vmm_x86_set_regs(s.vcpu[0], &r), 0);
            assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &r), 0);
            assert_int_equal(r.rbx, 0x1234);
        }
    }
    assert_int_equal(r.rbx, 0x1234);
    small_vm_close(&s);
}

static void state_is_saved_and_loaded(void **state)
{
    (void)state;
    static const uint8_t code[] = {0x40, 0xe6, 0x10, 0xeb, 0xfb};
    struct small_vm s;
    struct vmm_state_writer *w;
    struct vmm_state_reader *r;
    struct vmm_x86_regs regs;
    struct vmm_error err = VMM_ERROR_INIT;
    void *blob;
    size_t length;
    small_vm_open(&s, VMM_IRQCHIP_KERNEL, 1, code, sizeof(code));
    for (int i = 0; i < 5; i++)
        (void)run(s.vcpu[0]);
    assert_int_equal(vmm_state_writer_new(&w), 0);
    assert_int_equal(vmm_vm_save(s.vm, w), 0);
    assert_int_equal(vmm_vcpu_save(s.vcpu[0], w), 0);
    assert_int_equal(vmm_state_writer_finish(w, &blob, &length), 0);
    vmm_state_writer_free(w);
    for (int i = 0; i < 50; i++)
        (void)run(s.vcpu[0]);
    assert_int_equal(vmm_vcpu_complete(s.vcpu[0]), 0);
    assert_int_equal(vmm_state_reader_new(blob, length, &r, &err), 0);
    assert_int_equal(vmm_vm_load(s.vm, r, &err), 0);
    if (vmm_vcpu_load(s.vcpu[0], r, &err))
        fail_msg("%s", err.text);
    vmm_state_reader_free(r);
    assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &regs), 0);
    assert_int_equal(regs.rax & 0xffff, 5);
    (void)run(s.vcpu[0]);
    assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &regs), 0);
    assert_int_equal(regs.rax & 0xffff, 6);

    /* Damaged blobs are refused with a text, or loaded; never a crash. */
    uint8_t *bad = test_malloc(length);
    for (size_t i = 0; i < length; i += 37) {
        memcpy(bad, blob, length);
        bad[i] ^= 0xff;
        if (vmm_state_reader_new(bad, length, &r, &err))
            continue;
        err.text[0] = 0;
        if (vmm_vcpu_load(s.vcpu[0], r, &err))
            assert_true(err.text[0] != 0);
        vmm_state_reader_free(r);
    }
    test_free(bad);
    free(blob);
    small_vm_close(&s);
}

static void stepping_and_breakpoints(void **state)
{
    (void)state;
    static const uint8_t code[] = {0x90, 0x90, 0x90, 0x40, 0xf4};
    struct small_vm s;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, code, sizeof(code));
    if (vmm_x86_set_guest_debug(s.vcpu[0], VMM_X86_DEBUG_STEP, NULL)) {
        small_vm_close(&s);
        print_message("SKIP: this host has no guest debugging\n");
        skip();
    }
    for (uint64_t i = 1; i <= 3; i++) {
        struct vmm_exit e = run(s.vcpu[0]);
        assert_int_equal(e.reason, VMM_EXIT_DEBUG);
        assert_int_equal(e.u.debug.pc, CODE_AT + i);
    }
    assert_int_equal(vmm_x86_set_guest_debug(s.vcpu[0], 0, NULL), 0);
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_HALT);
    small_vm_close(&s);
}

static void interrupts_without_a_controller(void **state)
{
    (void)state;
    /* sti; again: hlt; jmp again — vector 0x20 goes to 0:0x1100: mov al, 0x99; out 0x50, al; iret */
    static const uint8_t code[] = {0xfb, 0xf4, 0xeb, 0xfd};
    static const uint8_t isr[] = {0xb0, 0x99, 0xe6, 0x50, 0xcf};
    static const uint8_t vector[] = {0x00, 0x11, 0x00, 0x00};
    struct small_vm s;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, code, sizeof(code));
    assert_int_equal(vmm_memory_write(s.memory, 0x1100, isr, sizeof(isr)), 0);
    assert_int_equal(vmm_memory_write(s.memory, 0x20 * 4, vector, sizeof(vector)), 0);
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_HALT);
    assert_true(vmm_x86_interrupt_ready(s.vcpu[0], true));
    assert_int_equal(vmm_x86_inject_interrupt(s.vcpu[0], 0x20), 0);
    struct vmm_exit e = run(s.vcpu[0]);
    assert_int_equal(e.reason, VMM_EXIT_PORT);
    assert_int_equal(*(uint8_t *)e.u.port.data, 0x99);
    small_vm_close(&s);
}

/* Kick, pause, stop ------------------------------------------------------------------------------ */

static const uint8_t spin_code[] = {0xeb, 0xfe}; /* jmp $ */
/* next: inc word [0x2000]; jmp next */
static const uint8_t count_code[] = {0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa};

struct runner {
    struct vmm_vcpu *vcpu;
    _Atomic uint64_t kicked;
    _Atomic bool started, stopped;
    _Atomic int error;
};

static void *run_until_stopped(void *arg)
{
    struct runner *r = arg;
    struct vmm_exit e = VMM_EXIT_INIT;
    atomic_store(&r->started, true);
    for (;;) {
        int rc = vmm_vcpu_run(r->vcpu, &e);
        if (rc || (e.reason != VMM_EXIT_KICKED && e.reason != VMM_EXIT_STOPPED)) {
            atomic_store(&r->error, rc ? rc : (int)(1000 + e.reason));
            break;
        }
        if (e.reason == VMM_EXIT_STOPPED)
            break;
        atomic_fetch_add(&r->kicked, 1);
    }
    atomic_store(&r->stopped, true);
    return NULL;
}

/* After each kick wait for its exit: one that got lost would be waited for for ever (the test's time
 * limit ends that). */
static void no_kick_is_lost(void **state)
{
    (void)state;
    const uint64_t kicks = getenv("LIBVMM_NESTED") ? 4000 : 20000; /* slow where all is emulated */
    struct small_vm s;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, spin_code, sizeof(spin_code));
    struct runner r = {.vcpu = s.vcpu[0]};
    pthread_t thread;
    vmm_vcpu_kick(s.vcpu[0]); /* before it runs: kept for the first run */
    assert_int_equal(pthread_create(&thread, NULL, run_until_stopped, &r), 0);
    while (atomic_load(&r.kicked) < 1)
        sched_yield();
    for (uint64_t i = 1; i <= kicks; i++) {
        uint64_t before = atomic_load(&r.kicked);
        vmm_vcpu_kick(s.vcpu[0]);
        while (atomic_load(&r.kicked) == before && !atomic_load(&r.stopped))
            ;
        if (i % 1000 == 0)
            usleep(50);
    }
    vmm_vcpu_stop(s.vcpu[0]);
    pthread_join(thread, NULL);
    assert_int_equal(r.error, 0);
    /* A signal that comes after its kick was seen interrupts once more; that is rare. */
    assert_in_range(r.kicked, kicks - kicks / 100, kicks + kicks / 10);
    small_vm_close(&s);
}

static uint16_t counter(struct small_vm *s)
{
    uint16_t value;
    assert_int_equal(vmm_memory_read(s->memory, 0x2000, &value, 2), 0);
    return value;
}

static void a_paused_vcpu_stands_still(void **state)
{
    (void)state;
    struct small_vm s;
    struct vmm_x86_regs regs;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, count_code, sizeof(count_code));
    struct runner r = {.vcpu = s.vcpu[0]};
    pthread_t thread;
    assert_int_equal(vmm_vcpu_resume(s.vcpu[0]), -EINVAL);
    assert_int_equal(pthread_create(&thread, NULL, run_until_stopped, &r), 0);
    for (int i = 0; i < 300; i++) {
        assert_int_equal(vmm_vcpu_pause(s.vcpu[0]), 0);
        if (i % 3 == 0) {
            assert_int_equal(vmm_vcpu_pause(s.vcpu[0]), 0); /* they nest */
            assert_int_equal(vmm_vcpu_resume(s.vcpu[0]), 0);
        }
        uint16_t now = counter(&s);
        assert_int_equal(vmm_x86_get_regs(s.vcpu[0], &regs), 0);
        if (i % 50 == 0)
            usleep(3000);
        assert_int_equal(counter(&s), now);
        assert_int_equal(vmm_vcpu_resume(s.vcpu[0]), 0);
        if (i % 50 == 0) { /* and goes on again */
            for (int wait = 0; counter(&s) == now && wait < 5000; wait++)
                usleep(1000);
            assert_int_not_equal(counter(&s), now);
        }
    }
    /* Stopping works while it is paused. */
    assert_int_equal(vmm_vcpu_pause(s.vcpu[0]), 0);
    vmm_vcpu_stop(s.vcpu[0]);
    pthread_join(thread, NULL);
    assert_int_equal(vmm_vcpu_resume(s.vcpu[0]), 0);
    assert_int_equal(r.error, 0);
    /* It stays stopped, and runs again after a restart. */
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_STOPPED);
    vmm_vcpu_restart(s.vcpu[0]);
    vmm_vcpu_kick(s.vcpu[0]);
    assert_int_equal(run(s.vcpu[0]).reason, VMM_EXIT_KICKED);
    small_vm_close(&s);
}

/* Several threads pause, resume and kick at will; it must end, and every pause must hold. */
static void *pauser(void *arg)
{
    struct small_vm *s = arg;
    for (int i = 0; i < 200; i++) {
        assert_int_equal(vmm_vcpu_pause(s->vcpu[0]), 0);
        uint16_t now = counter(s);
        sched_yield();
        assert_int_equal(counter(s), now);
        assert_int_equal(vmm_vcpu_resume(s->vcpu[0]), 0);
        vmm_vcpu_kick(s->vcpu[0]);
    }
    return NULL;
}

static void pauses_of_several_threads(void **state)
{
    (void)state;
    struct small_vm s;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, count_code, sizeof(count_code));
    struct runner r = {.vcpu = s.vcpu[0]};
    pthread_t thread, pausers[3];
    assert_int_equal(pthread_create(&thread, NULL, run_until_stopped, &r), 0);
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&pausers[i], NULL, pauser, &s), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(pausers[i], NULL);
    vmm_vcpu_stop(s.vcpu[0]);
    pthread_join(thread, NULL);
    assert_int_equal(r.error, 0);
    small_vm_close(&s);
}

static int quiet_exits(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit, int error)
{
    _Atomic int *count = ctx;
    (void)vcpu;
    (void)error;
    atomic_fetch_add(count, 1);
    return !exit || exit->reason == VMM_EXIT_STOPPED;
}

static void the_librarys_thread(void **state)
{
    (void)state;
    struct small_vm s;
    _Atomic int exits = 0;
    small_vm_open(&s, VMM_IRQCHIP_NONE, 1, spin_code, sizeof(spin_code));
    assert_int_equal(vmm_vcpu_thread_join(s.vcpu[0]), -ESRCH);
    assert_int_equal(vmm_vcpu_thread_start(s.vcpu[0], NULL, NULL), -EINVAL);
    assert_int_equal(vmm_vcpu_thread_start(s.vcpu[0], quiet_exits, &exits), 0);
    assert_int_equal(vmm_vcpu_thread_start(s.vcpu[0], quiet_exits, &exits), -EBUSY);
    vmm_vcpu_kick(s.vcpu[0]);
    while (atomic_load(&exits) < 1)
        usleep(100);
    vmm_vcpu_stop(s.vcpu[0]);
    assert_int_equal(vmm_vcpu_thread_join(s.vcpu[0]), 0);
    small_vm_close(&s);
}

/* The second processor is started by INIT and SIPI through the local APIC in KVM: in real mode its
 * registers are reached by a 32-bit segment limit that a test cannot set up in two lines, so the
 * first processor's APIC is written in x2APIC mode by MSRs:
 *   mov ecx, 0x1b; rdmsr; or eax, 0xc00; wrmsr             enable x2APIC
 *   mov ecx, 0x830; mov edx, 1; mov eax, 0x4500; wrmsr     INIT to APIC id 1
 *   mov eax, 0x4602; wrmsr                                 SIPI, vector 2: 0x2000
 * wait: cmp byte [0x3000], 0x77; jne wait; mov al, 1; out 0x60, al; hlt */
static const uint8_t smp_code[] = {
    0x66, 0xb9, 0x1b, 0x00, 0x00, 0x00, 0x0f, 0x32, 0x66, 0x0d, 0x00, 0x0c, 0x00, 0x00,
    0x0f, 0x30, 0x66, 0xb9, 0x30, 0x08, 0x00, 0x00, 0x66, 0xba, 0x01, 0x00, 0x00, 0x00,
    0x66, 0xb8, 0x00, 0x45, 0x00, 0x00, 0x0f, 0x30, 0x66, 0xb8, 0x02, 0x46, 0x00, 0x00,
    0x0f, 0x30, 0x80, 0x3e, 0x00, 0x30, 0x77, 0x75, 0xf9, 0xb0, 0x01, 0xe6, 0x60, 0xf4};
/* At 0x2000, with CS base 0x2000 and DS 0: mov byte [0x3000], 0x77; hlt */
static const uint8_t ap_code[] = {0xc6, 0x06, 0x00, 0x30, 0x77, 0xf4};

static void a_second_processor_starts_by_sipi(void **state)
{
    (void)state;
    struct small_vm s;
    _Atomic int exits = 0;
    struct vmm_x86_cpuid *cpuid;
    struct vmm_x86_topology t = VMM_X86_TOPOLOGY_INIT;
    t.cpus = 2;
    small_vm_open(&s, VMM_IRQCHIP_KERNEL, 2, smp_code, sizeof(smp_code));
    assert_int_equal(vmm_memory_write(s.memory, 0x2000, ap_code, sizeof(ap_code)), 0);
    assert_int_equal(vmm_x86_cpuid_new(s.host, &cpuid), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(vmm_x86_cpuid_set(cpuid, s.vcpu[i], &t, NULL), 0);
    vmm_x86_cpuid_free(cpuid);
    uint32_t mp;
    assert_int_equal(vmm_x86_get_mp_state(s.vcpu[1], &mp), 0);
    assert_int_equal(mp, VMM_X86_MP_UNINITIALIZED);
    assert_int_equal(vmm_vcpu_thread_start(s.vcpu[1], quiet_exits, &exits), 0);
    struct vmm_exit e = run(s.vcpu[0]);
    assert_int_equal(e.reason, VMM_EXIT_PORT);
    assert_int_equal(e.u.port.port, 0x60);
    vmm_vcpu_stop(s.vcpu[1]);
    assert_int_equal(vmm_vcpu_thread_join(s.vcpu[1]), 0);
    small_vm_close(&s);
}

int main(void)
{
    need_kvm();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(port_exits_are_decoded_and_completed),
        cmocka_unit_test(a_handler_answers_string_io_as_one),
        cmocka_unit_test(a_handler_declines_or_fails),
        cmocka_unit_test(mmio_widths),
        cmocka_unit_test(registers_come_back),
        cmocka_unit_test(registers_after_an_exit_are_the_guests),
        cmocka_unit_test(state_is_saved_and_loaded),
        cmocka_unit_test(stepping_and_breakpoints),
        cmocka_unit_test(interrupts_without_a_controller),
        cmocka_unit_test(no_kick_is_lost),
        cmocka_unit_test(a_paused_vcpu_stands_still),
        cmocka_unit_test(pauses_of_several_threads),
        cmocka_unit_test(the_librarys_thread),
        cmocka_unit_test(a_second_processor_starts_by_sipi),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
