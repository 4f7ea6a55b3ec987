/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Coroutines. The quick path of an image does not come here: only what has to wait. A stack begins by
 * ucontext; from then on it is entered and left by _setjmp() and _longjmp(), because swapcontext() sets
 * the signal mask each time, which is a system call. Sanitizers are told of the switches that ucontext makes.
 */
#undef _FORTIFY_SOURCE /* its longjmp() takes another stack for a mistake */
#include "backends/block/qcow2/co.h"

#include <errno.h>
#include <setjmp.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define STACK_SIZE ((size_t)256 << 10) /* touched only where used; zstd's decoder is the deepest */
#define IDLE_MAX   16u

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_FIBERS 1
#endif
#endif
#ifdef HAVE_FIBERS
#include <sanitizer/common_interface_defs.h>
#endif
/* ThreadSanitizer has an interface of its own. */
#if defined(__SANITIZE_THREAD__)
#define HAVE_TSAN_FIBERS 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAVE_TSAN_FIBERS 1
#endif
#endif
#ifdef HAVE_TSAN_FIBERS
#include <sanitizer/tsan_interface.h>
#endif
#if defined(HAVE_FIBERS) || defined(HAVE_TSAN_FIBERS)
#define BY_UCONTEXT 1
#else
#define BY_UCONTEXT 0
#endif

struct vmm_co {
    struct vmm_co *next;
    struct vmm_co_group *group;
    ucontext_t self, outside;
    jmp_buf jump_self, jump_outside;
    bool begun;     /* jump_self is where it left */
    uint8_t *stack; /* the lowest page is never touchable */
    void (*fn)(void *arg);
    void *arg;
    bool finished;
#ifdef HAVE_FIBERS
    void *fake_self, *fake_outside;
    const void *outside_bottom;
    size_t outside_size;
#endif
#ifdef HAVE_TSAN_FIBERS
    void *fiber, *fiber_outside;
#endif
};

static size_t guard_size(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

/* Lists ---------------------------------------------------------------------------------------- */

static void append(struct vmm_co_list *list, struct vmm_co *co)
{
    co->next = NULL;
    if (list->last)
        list->last->next = co;
    else
        list->first = co;
    list->last = co;
}

static struct vmm_co *pop(struct vmm_co_list *list)
{
    struct vmm_co *co = list->first;
    if (!co)
        return NULL;
    list->first = co->next;
    if (!list->first)
        list->last = NULL;
    return co;
}

/* Switching ------------------------------------------------------------------------------------ */

static void switch_out(struct vmm_co *co)
{
    if (BY_UCONTEXT)
        (void)swapcontext(&co->self, &co->outside);
    else if (_setjmp(co->jump_self) == 0)
        _longjmp(co->jump_outside, 1);
}

static void switch_in(struct vmm_co *co)
{
    if (BY_UCONTEXT) {
        (void)swapcontext(&co->outside, &co->self);
    } else if (_setjmp(co->jump_outside) == 0) {
        if (co->begun)
            _longjmp(co->jump_self, 1);
        co->begun = true;
        (void)setcontext(&co->self);
    }
}

static void leave(struct vmm_co *co)
{
#ifdef HAVE_FIBERS
    __sanitizer_start_switch_fiber(co->finished ? NULL : &co->fake_self, co->outside_bottom,
                                   co->outside_size);
#endif
#ifdef HAVE_TSAN_FIBERS
    __tsan_switch_to_fiber(co->fiber_outside, 0);
#endif
    switch_out(co);
#ifdef HAVE_FIBERS
    __sanitizer_finish_switch_fiber(co->fake_self, &co->outside_bottom, &co->outside_size);
#endif
}

static void enter(struct vmm_co *co)
{
    struct vmm_co_group *group = co->group;
    group->current = co;
#ifdef HAVE_FIBERS
    __sanitizer_start_switch_fiber(&co->fake_outside, co->stack + guard_size(), STACK_SIZE);
#endif
#ifdef HAVE_TSAN_FIBERS
    co->fiber_outside = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(co->fiber, 0);
#endif
    switch_in(co);
#ifdef HAVE_FIBERS
    __sanitizer_finish_switch_fiber(co->fake_outside, NULL, NULL);
#endif
    group->current = NULL;
}

/* makecontext() passes ints only. */
static void begin(unsigned high, unsigned low)
{
    struct vmm_co *co = (struct vmm_co *)((uintptr_t)((uint64_t)high << 32 | low));
#ifdef HAVE_FIBERS
    __sanitizer_finish_switch_fiber(NULL, &co->outside_bottom, &co->outside_size);
#endif
    for (;;) { /* entered again, the stack has another function */
        co->fn(co->arg);
        co->finished = true;
        leave(co);
    }
}

/* Life ----------------------------------------------------------------------------------------- */

static void destroy(struct vmm_co *co)
{
#ifdef HAVE_TSAN_FIBERS
    __tsan_destroy_fiber(co->fiber);
#endif
    munmap(co->stack, guard_size() + STACK_SIZE);
    free(co);
}

static struct vmm_co *make(struct vmm_co_group *group)
{
    struct vmm_co *co = group->idle;
    if (co) {
        group->idle = co->next;
        group->idle_count--;
        return co;
    }
    co = calloc(1, sizeof(*co));
    if (!co)
        return NULL;
    void *stack = mmap(NULL, guard_size() + STACK_SIZE, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (stack == MAP_FAILED || mprotect(stack, guard_size(), PROT_NONE) < 0) {
        if (stack != MAP_FAILED)
            munmap(stack, guard_size() + STACK_SIZE);
        free(co);
        return NULL;
    }
#ifdef HAVE_TSAN_FIBERS
    co->fiber = __tsan_create_fiber(0);
#endif
    co->stack = stack;
    co->group = group;
    return co;
}

static void run(struct vmm_co_group *group)
{
    struct vmm_co *co;
    while (!group->current && (co = pop(&group->ready))) {
        enter(co);
        if (!co->finished)
            continue;
        group->live--;
        if (group->idle_count == IDLE_MAX) {
            destroy(co);
            continue;
        }
        co->next = group->idle;
        group->idle = co;
        group->idle_count++;
    }
}

/* On its own: getcontext() "returns twice" to the compiler, though we never go back to it. */
static __attribute__((noinline)) void aim(struct vmm_co *co)
{
    uint64_t pointer = (uintptr_t)co;
    (void)getcontext(&co->self);
    co->self.uc_stack.ss_sp = co->stack + guard_size();
    co->self.uc_stack.ss_size = STACK_SIZE;
    co->self.uc_link = NULL;
    makecontext(&co->self, (void (*)(void))begin, 2, (unsigned)(pointer >> 32), (unsigned)pointer);
}

int vmm_co_start(struct vmm_co_group *group, void (*fn)(void *arg), void *arg)
{
    struct vmm_co *co = make(group);
    if (!co)
        return -ENOMEM;
    co->fn = fn;
    co->arg = arg;
    co->finished = false;
    if (BY_UCONTEXT || !co->begun)
        aim(co);
    group->live++;
    append(&group->ready, co);
    run(group);
    return 0;
}

void vmm_co_end(struct vmm_co_group *group)
{
    while (group->idle) {
        struct vmm_co *co = group->idle;
        group->idle = co->next;
        destroy(co);
    }
    group->idle_count = 0;
}

/* Waiting -------------------------------------------------------------------------------------- */

void vmm_co_sleep(struct vmm_co_group *group)
{
    leave(group->current);
}

void vmm_co_wake(struct vmm_co_group *group, struct vmm_co *co)
{
    append(&group->ready, co);
    run(group);
}

void vmm_co_wait(struct vmm_co_group *group, struct vmm_co_list *list)
{
    append(list, group->current);
    vmm_co_sleep(group);
}

void vmm_co_wake_all(struct vmm_co_group *group, struct vmm_co_list *list)
{
    struct vmm_co *co;
    while ((co = pop(list)))
        append(&group->ready, co);
    run(group);
}

void vmm_co_lock(struct vmm_co_group *group, struct vmm_co_mutex *mutex)
{
    while (mutex->taken)
        vmm_co_wait(group, &mutex->waiting);
    mutex->taken = true;
}

void vmm_co_unlock(struct vmm_co_group *group, struct vmm_co_mutex *mutex)
{
    struct vmm_co *co = pop(&mutex->waiting);
    mutex->taken = false;
    if (co)
        vmm_co_wake(group, co);
}
