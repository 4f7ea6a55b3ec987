/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Kick, pause, resume, stop and threads, by many and against each other. Runs under ThreadSanitizer
 * too: the last test has two VMs in two threads.
 */
#include "guest.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Fewer where all is emulated. */
#define KICKS  (getenv("LIBVMM_NESTED") ? 10000u : 100000u)
#define PAUSES 2000u

/* Counts in memory, for ever. */
GUEST(spin, 32,
      "1: incl 0x8000\n"
      "   jmp 1b\n");

/* Asks a port, for ever. */
GUEST(ask, 32,
      "1: in $0x50, %al\n"
      "   jmp 1b\n");

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint32_t counted(struct guest *g)
{
    uint32_t value = 0;
    assert_int_equal(vmm_memory_read(g->memory, 0x8000, &value, 4), 0);
    return value;
}

static int answer_port(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                       bool write)
{
    (void)ctx, (void)port, (void)write;
    memset(data, 0, (size_t)width * count);
    return 0;
}

static const struct vmm_io_handler answering = {.size = sizeof(answering), .port = answer_port};

/* Kicks ------------------------------------------------------------------------------------------ */

struct kicked {
    struct guest g;
    _Atomic uint64_t sent, seen; /* `seen`: what `sent` was, at least, when a kick was told */
    _Atomic bool over;
    uint64_t told;
};

static void *run_and_count(void *arg)
{
    struct kicked *k = arg;
    struct vmm_exit exit = VMM_EXIT_INIT;
    while (!atomic_load(&k->over)) {
        assert_int_equal(vmm_vcpu_run(k->g.cpus[0], &exit), 0);
        assert_int_equal(exit.reason, VMM_EXIT_KICKED);
        assert_int_equal(exit.raw_reason, KVM_EXIT_INTR);
        k->told++;
        atomic_store(&k->seen, atomic_load(&k->sent));
    }
    return NULL;
}

/* Each kick is told after it was sent, or was pending still when the next one came. Only if none is
 * lost does `seen` reach every number that is waited for. */
static void kick_many(struct kicked *k)
{
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, run_and_count, k), 0);
    for (uint64_t i = 1; i <= KICKS; i++) {
        atomic_store(&k->sent, i);
        vmm_vcpu_kick(k->g.cpus[0]);
        if (i % 64)
            continue;
        uint64_t start = now_ns();
        while (atomic_load(&k->seen) < i) {
            if (now_ns() - start > 20000000000u)
                fail_msg("kick %llu was lost", (unsigned long long)i);
            sched_yield();
        }
    }
    atomic_store(&k->over, true);
    vmm_vcpu_kick(k->g.cpus[0]);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_true(k->told >= KICKS / 64 && k->told <= 2 * KICKS);
}

static void no_kick_is_lost_in_the_guest(void **state)
{
    struct kicked k = {.told = 0};
    (void)state;
    guest_start(&k.g, spin, 32, VMM_IRQCHIP_KERNEL);
    kick_many(&k);
    guest_free(&k.g);
}

static void no_kick_is_lost_between_exits(void **state)
{
    struct kicked k = {.told = 0};
    (void)state;
    guest_start(&k.g, ask, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_set_io(k.g.cpus[0], &answering, NULL), 0);
    kick_many(&k);
    guest_free(&k.g);
}

static void a_kick_before_the_run_is_kept(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    for (int i = 0; i < 100; i++) {
        vmm_vcpu_kick(g.cpus[0]);
        guest_run_to(&g, VMM_EXIT_KICKED, &exit);
    }
    assert_int_equal(counted(&g), 0); /* the guest never ran */
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_KICKED), 100);
    guest_free(&g);
}

static void *run_once(void *arg)
{
    struct guest *g = arg;
    static struct vmm_exit exit = VMM_EXIT_INIT;
    assert_int_equal(vmm_vcpu_run(g->cpus[0], &exit), 0);
    return &exit;
}

/* After the last look at the requests and before KVM_RUN: the thread is held at the gate there. Only
 * the flag in kvm_run can bring such a kick. */
static void a_kick_at_the_last_moment_is_kept(void **state)
{
    struct guest g;
    pthread_t thread;
    void *result;
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    for (int i = 0; i < 20; i++) {
        assert_int_equal(vmm_vcpu_keep_out(g.cpus[0]), 0);
        assert_int_equal(pthread_create(&thread, NULL, run_once, &g), 0);
        usleep(3000);
        vmm_vcpu_kick(g.cpus[0]);
        usleep(1000); /* its signal is spent */
        vmm_vcpu_let_in(g.cpus[0]);
        assert_int_equal(pthread_join(thread, &result), 0);
        assert_int_equal(((struct vmm_exit *)result)->reason, VMM_EXIT_KICKED);
    }
    assert_int_equal(counted(&g), 0); /* not one instruction */
    guest_free(&g);
}

static struct vmm_vcpu *kicked_by_signal;
static void kick_handler(int signal_number)
{
    (void)signal_number;
    vmm_vcpu_kick(kicked_by_signal);
}

/* From a signal handler on the running thread, wherever it interrupts. A timer's signal, every 50 us,
 * must end each run. */
static void a_signal_handler_may_kick(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct sigaction action = {.sa_handler = kick_handler}, old;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGALRM};
    const struct itimerspec often = {{0, 50000}, {0, 50000}};
    timer_t timer;
    (void)state;
    guest_start(&g, ask, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &answering, NULL), 0);
    kicked_by_signal = g.cpus[0];
    assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
    assert_int_equal(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    assert_int_equal(timer_settime(timer, 0, &often, NULL), 0);
    for (int i = 0; i < 2000; i++)
        guest_run_to(&g, VMM_EXIT_KICKED, &exit);
    assert_int_equal(timer_delete(timer), 0);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    guest_free(&g);
}

/* A signal that is no kick ends the run too: the embedder's own. */
static void a_foreign_signal_ends_the_run(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    struct sigaction action = {.sa_handler = guest_kick_handler}, old;
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(sigaction(SIGALRM, &action, &old), 0);
    const struct itimerval soon = {{0, 0}, {0, 20000}};
    assert_int_equal(setitimer(ITIMER_REAL, &soon, NULL), 0);
    assert_int_equal(vmm_vcpu_run(g.cpus[0], &exit), 0);
    assert_int_equal(exit.reason, VMM_EXIT_KICKED);
    assert_true(counted(&g) > 0);
    assert_int_equal(sigaction(SIGALRM, &old, NULL), 0);
    guest_free(&g);
}

/* Pauses and stops -------------------------------------------------------------------------------- */

static int ended(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit, int error)
{
    (void)vcpu;
    if (!exit) {
        atomic_store((_Atomic int *)ctx, error);
        return 1;
    }
    if (exit->reason != VMM_EXIT_KICKED && exit->reason != VMM_EXIT_STOPPED)
        atomic_store((_Atomic int *)ctx, (int)exit->reason);
    return exit->reason != VMM_EXIT_KICKED && exit->reason != VMM_EXIT_STOPPED;
}

struct pauser {
    struct guest *g;
    _Atomic uint32_t *alone; /* taken by who uses the registers */
    bool with_registers;
};

static void use_registers(struct pauser *p)
{
    struct vmm_x86_regs one, two;
    assert_int_equal(atomic_fetch_add(p->alone, 1), 0);
    assert_int_equal(vmm_x86_get_regs(p->g->cpus[0], &one), 0);
    uint32_t before = counted(p->g);
    sched_yield();
    assert_int_equal(vmm_x86_get_regs(p->g->cpus[0], &two), 0);
    assert_memory_equal(&one, &two, sizeof(one));
    assert_int_equal(counted(p->g), before);
    one.r9 = one.rip; /* not used by 32-bit code */
    assert_int_equal(vmm_x86_set_regs(p->g->cpus[0], &one), 0);
    assert_int_equal(atomic_fetch_sub(p->alone, 1), 1);
}

static void *pause_often(void *arg)
{
    struct pauser *p = arg;
    for (uint32_t i = 0; i < PAUSES; i++) {
        assert_int_equal(vmm_vcpu_pause(p->g->cpus[0]), 0);
        if (p->with_registers)
            use_registers(p);
        assert_int_equal(vmm_vcpu_resume(p->g->cpus[0]), 0);
    }
    return NULL;
}

/* Three pause at the same time, one of them reads and writes registers, one kicks. */
static void pauses_from_many_threads(void **state)
{
    struct guest g;
    _Atomic int trouble = 0;
    _Atomic uint32_t alone = 0;
    pthread_t threads[3];
    struct pauser pausers[3];
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), -EBUSY);
    for (int i = 0; i < 3; i++) {
        pausers[i] = (struct pauser){&g, &alone, i == 0};
        assert_int_equal(pthread_create(&threads[i], NULL, pause_often, &pausers[i]), 0);
    }
    for (int i = 0; i < 1000; i++) {
        vmm_vcpu_kick(g.cpus[0]);
        sched_yield();
    }
    for (int i = 0; i < 3; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(vmm_vcpu_resume(g.cpus[0]), -EINVAL); /* every pause was resumed */
    /* It runs again. */
    uint32_t before = counted(&g);
    uint64_t start = now_ns();
    while (counted(&g) == before && now_ns() - start < 10000000000u)
        sched_yield();
    assert_int_not_equal(counted(&g), before);
    vmm_vcpu_stop(g.cpus[0]);
    assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), 0);
    assert_int_equal(atomic_load(&trouble), 0);
    guest_free(&g);
}

static void a_paused_vcpu_does_not_start(void **state)
{
    struct guest g;
    _Atomic int trouble = 0;
    struct vmm_x86_regs regs;
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_pause(g.cpus[0]), 0);
    assert_int_equal(vmm_vcpu_pause(g.cpus[0]), 0);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
    usleep(20000);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    assert_int_equal(regs.rip, GUEST_CODE);
    assert_int_equal(vmm_vcpu_resume(g.cpus[0]), 0); /* they nest */
    usleep(20000);
    assert_int_equal(counted(&g), 0);
    assert_int_equal(vmm_vcpu_resume(g.cpus[0]), 0);
    uint64_t start = now_ns();
    while (counted(&g) == 0 && now_ns() - start < 10000000000u)
        usleep(1000);
    assert_int_not_equal(counted(&g), 0);
    vmm_vcpu_stop(g.cpus[0]);
    assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), 0);
    guest_free(&g);
}

/* Who comes in while it is paused does not complete the instruction that is open: it is the pauser's. */
static void a_paused_vcpu_keeps_its_open_instruction(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    _Atomic int trouble = 0;
    struct vmm_x86_regs regs;
    (void)state;
    guest_start(&g, ask, 32, VMM_IRQCHIP_KERNEL);
    guest_run_to(&g, VMM_EXIT_PORT, &exit);
    *(uint8_t *)exit.u.port.data = 0x5a;
    assert_int_equal(vmm_vcpu_pause(g.cpus[0]), 0);
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &answering, NULL), 0);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
    usleep(20000);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    assert_int_not_equal(regs.rax & 0xff, 0x5a);
    assert_int_equal(vmm_vcpu_complete(g.cpus[0]), 0);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    assert_int_equal(regs.rax & 0xff, 0x5a);
    assert_int_equal(vmm_vcpu_resume(g.cpus[0]), 0);
    while (vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT) < 10)
        usleep(100);
    vmm_vcpu_stop(g.cpus[0]);
    assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), 0);
    assert_int_equal(atomic_load(&trouble), 0);
    guest_free(&g);
}

/* Stopping ends a pause's wait; it stays until the restart; the instruction in flight is kept. */
static void stop_and_restart(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    _Atomic int trouble = 0;
    (void)state;
    guest_start(&g, ask, 32, VMM_IRQCHIP_KERNEL);
    guest_run_to(&g, VMM_EXIT_PORT, &exit);
    assert_int_equal(vmm_vcpu_pause(g.cpus[0]), 0);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
    usleep(5000);
    vmm_vcpu_stop(g.cpus[0]);
    assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), 0); /* though it is paused */
    assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), -ESRCH);
    assert_int_equal(vmm_vcpu_resume(g.cpus[0]), 0);
    for (int i = 0; i < 3; i++)
        guest_run_to(&g, VMM_EXIT_STOPPED, &exit);
    vmm_vcpu_kick(g.cpus[0]);
    guest_run_to(&g, VMM_EXIT_STOPPED, &exit);
    vmm_vcpu_restart(g.cpus[0]);
    assert_int_equal(vmm_vcpu_run(g.cpus[0], &exit), 0);
    assert_int_equal(exit.reason, VMM_EXIT_KICKED); /* it was kept */
    guest_run_to(&g, VMM_EXIT_PORT, &exit);
    guest_free(&g);
}

struct stopper {
    struct guest *g;
    _Atomic bool over;
};

static void *pause_against_stops(void *arg)
{
    struct stopper *s = arg;
    while (!atomic_load(&s->over)) {
        assert_int_equal(vmm_vcpu_pause(s->g->cpus[0]), 0);
        vmm_vcpu_kick(s->g->cpus[0]);
        assert_int_equal(vmm_vcpu_resume(s->g->cpus[0]), 0);
    }
    return NULL;
}

/* Threads come and go while others pause and kick: whoever signals must not meet a dead thread. */
static void stops_against_pauses(void **state)
{
    struct guest g;
    _Atomic int trouble = 0;
    struct stopper s = {&g, false};
    pthread_t thread;
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(pthread_create(&thread, NULL, pause_against_stops, &s), 0);
    for (int i = 0; i < 500; i++) {
        assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
        if (i % 3)
            sched_yield();
        vmm_vcpu_stop(g.cpus[0]);
        assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), 0);
        vmm_vcpu_restart(g.cpus[0]);
    }
    atomic_store(&s.over, true);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(atomic_load(&trouble), 0);
    guest_free(&g);
}

/* From the running thread ------------------------------------------------------------------------- */

static int refused_pause;
static int port_that_pauses(void *ctx, uint16_t port, void *data, uint32_t width, uint32_t count,
                            bool write)
{
    (void)port, (void)width, (void)count, (void)write;
    refused_pause = vmm_vcpu_pause(ctx);
    memset(data, 0, width);
    vmm_vcpu_stop(ctx);
    return 0;
}

static void a_handler_may_stop_and_not_pause(void **state)
{
    struct guest g;
    struct vmm_exit exit = VMM_EXIT_INIT;
    const struct vmm_io_handler handler = {.size = sizeof(handler), .port = port_that_pauses};
    struct vmm_x86_regs regs;
    (void)state;
    guest_start(&g, ask, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &handler, g.cpus[0]), 0);
    guest_run_to(&g, VMM_EXIT_STOPPED, &exit);
    assert_int_equal(refused_pause, -EDEADLK);
    assert_int_equal(vmm_x86_get_regs(g.cpus[0], &regs), 0);
    assert_int_equal(regs.rip, GUEST_CODE + 2); /* the access is finished, and nothing after it */
    assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT), 1);
    guest_free(&g);
}

/* Giving up a vCPU stops its thread. */
static void unref_ends_the_thread(void **state)
{
    struct guest g;
    _Atomic int trouble = 0;
    (void)state;
    guest_start(&g, spin, 32, VMM_IRQCHIP_KERNEL);
    assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
    guest_free(&g);
    assert_int_equal(atomic_load(&trouble), 0);
}

static void *one_vm(void *arg)
{
    (void)arg;
    for (int round = 0; round < 5; round++) {
        struct guest g;
        _Atomic int trouble = 0;
        guest_start(&g, ask, 32, VMM_IRQCHIP_KERNEL);
        assert_int_equal(vmm_vcpu_set_io(g.cpus[0], &answering, NULL), 0);
        assert_int_equal(vmm_vcpu_thread_start(g.cpus[0], ended, &trouble), 0);
        while (vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT) < 1000)
            sched_yield();
        assert_int_equal(vmm_vcpu_pause(g.cpus[0]), 0);
        uint64_t exits = vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT);
        sched_yield();
        assert_int_equal(vmm_vcpu_exit_count(g.cpus[0], VMM_EXIT_PORT), exits);
        assert_int_equal(vmm_vcpu_resume(g.cpus[0]), 0);
        vmm_vcpu_stop(g.cpus[0]);
        assert_int_equal(vmm_vcpu_thread_join(g.cpus[0]), 0);
        assert_int_equal(atomic_load(&trouble), 0);
        guest_free(&g);
    }
    return NULL;
}

static void two_vms_in_two_threads(void **state)
{
    pthread_t threads[2];
    (void)state;
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, one_vm, NULL), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_kick_is_lost_in_the_guest),
        cmocka_unit_test(no_kick_is_lost_between_exits),
        cmocka_unit_test(a_kick_before_the_run_is_kept),
        cmocka_unit_test(a_kick_at_the_last_moment_is_kept),
        cmocka_unit_test(a_signal_handler_may_kick),
        cmocka_unit_test(a_foreign_signal_ends_the_run),
        cmocka_unit_test(pauses_from_many_threads),
        cmocka_unit_test(a_paused_vcpu_does_not_start),
        cmocka_unit_test(a_paused_vcpu_keeps_its_open_instruction),
        cmocka_unit_test(stop_and_restart),
        cmocka_unit_test(stops_against_pauses),
        cmocka_unit_test(a_handler_may_stop_and_not_pause),
        cmocka_unit_test(unref_ends_the_thread),
        cmocka_unit_test(two_vms_in_two_threads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
