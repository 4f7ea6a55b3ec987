/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * SMP scaling: 1, 2 and 4 vCPUs count at CPL 3, each on a thread of the library's, beside as many threads
 * of the host that count the same. Work done a second by all.
 */
#include "guest.h"

#include <pthread.h>
#include <sys/ioctl.h>

#define CPUS_MAX 4u
#define COUNT    200000000u
#define ROUNDS   5

GUEST(counting, 64, "1: dec %ecx\n jnz 1b\n outb %al, $0xf4\n 2: jmp 2b");

struct smp {
    struct bench_guest g;
    struct vmm_vcpu *cpus[CPUS_MAX];
};

static int exited(void *ctx, struct vmm_vcpu *vcpu, struct vmm_exit *exit, int error)
{
    (void)ctx, (void)vcpu, (void)error;
    return !exit || exit->reason == VMM_EXIT_PORT;
}

static double guests(struct smp *s, uint32_t cpus)
{
    struct vmm_x86_regs r = {.rip = GUEST_CODE, .rsp = GUEST_STACK, .rflags = 0x3002, .rcx = COUNT};
    for (uint32_t i = 0; i < cpus; i++)
        bench_need(vmm_x86_set_regs(s->cpus[i], &r) == 0, "setting registers");
    double start = bench_now();
    for (uint32_t i = 0; i < cpus; i++)
        bench_need(vmm_vcpu_thread_start(s->cpus[i], exited, NULL) == 0, "a thread");
    for (uint32_t i = 0; i < cpus; i++)
        bench_need(vmm_vcpu_thread_join(s->cpus[i]) == 0, "joining");
    return (double)cpus * COUNT / (bench_now() - start);
}

static void *count_natively(void *unused)
{
    uint32_t n = COUNT;
    __asm__ volatile("1: dec %0\n jnz 1b" : "+r"(n));
    return unused;
}

static double threads(uint32_t count)
{
    pthread_t ids[CPUS_MAX];
    double start = bench_now();
    for (uint32_t i = 0; i < count; i++)
        bench_need(pthread_create(&ids[i], NULL, count_natively, NULL) == 0, "a thread");
    for (uint32_t i = 0; i < count; i++)
        pthread_join(ids[i], NULL);
    return (double)count * COUNT / (bench_now() - start);
}

int main(void)
{
    static struct smp s;
    guest_make(&s.g);
    s.cpus[0] = s.g.vcpu;
    bench_need(vmm_memory_write(s.g.memory, GUEST_CODE, counting_start,
                                (size_t)(counting_end - counting_start)) == 0,
               "the code");
    for (uint32_t i = 1; i < CPUS_MAX; i++) {
        /* Not by INIT and SIPI: the guest has no code for that. */
        const struct kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
        bench_need(vmm_vcpu_new(s.g.vm, s.g.memory, i, &s.cpus[i], NULL) == 0, "a vCPU");
        bench_need(ioctl(vmm_vcpu_fd(s.cpus[i]), KVM_SET_MP_STATE, &runnable) == 0, "the state");
        guest_user_mode(s.cpus[i]);
    }
    for (uint32_t cpus = 1; cpus <= CPUS_MAX; cpus *= 2) {
        char name[64];
        struct bench_figure f = {.group = "smp",
                                 .name = name,
                                 .unit = "G/s",
                                 .more_is_better = true,
                                 .peer = "host threads",
                                 .how = "loops of all vCPUs a nanosecond, turn by turn"};
        snprintf(name, sizeof(name), "%u vCPU%s counting", cpus, cpus > 1 ? "s" : "");
        for (int round = 0; round < ROUNDS; round++) {
            bench_add(&f.ours, guests(&s, cpus));
            bench_add(&f.theirs, threads(cpus));
        }
        bench_report(&f);
    }
    for (uint32_t i = 1; i < CPUS_MAX; i++)
        vmm_vcpu_unref(s.cpus[i]);
    guest_unmake(&s.g);
    return 0;
}
