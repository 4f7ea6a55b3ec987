/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulation assist's core against the processor: the same bytes run on the same registers and
 * memory, natively in this process and in the core; every register, defined flag and byte of
 * memory must come out equal. */
#include "native.h"

#include <vcpu/x86/assist_core.h>

static uint8_t scratch[4096] __attribute__((aligned(64)));

/* The core's memory is this process's. */
static int host_read(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, void *data,
                     size_t length, bool system)
{
    (void)ctx, (void)cpu, (void)system;
    memcpy(data, (const void *)(uintptr_t)linear, length);
    return 0;
}
static int host_write(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, const void *data,
                      size_t length)
{
    (void)ctx, (void)cpu;
    memcpy((void *)(uintptr_t)linear, data, length);
    return 0;
}
static int host_cmpxchg16(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear,
                          uint64_t expected[2], const uint64_t desired[2], bool *equal)
{
    uint64_t *at = (uint64_t *)(uintptr_t)linear;
    (void)ctx, (void)cpu;
    *equal = at[0] == expected[0] && at[1] == expected[1];
    memcpy(*equal ? at : expected, *equal ? desired : at, 16);
    return 0;
}
static uint8_t xsave_area[4096] __attribute__((aligned(64)));
static int host_get_xcr0(void *ctx, uint64_t *value)
{
    uint32_t low, high;
    (void)ctx;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    *value = low | (uint64_t)high << 32;
    return 0;
}
static int host_get_xsave(void *ctx, void *area, size_t length)
{
    (void)ctx;
    memcpy(area, xsave_area, length);
    return 0;
}
static int host_set_xsave(void *ctx, const void *area, size_t length)
{
    (void)ctx;
    memcpy(xsave_area, area, length);
    return 0;
}
static void host_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    (void)ctx;
    __cpuid_count(leaf, subleaf, out[0], out[1], out[2], out[3]);
}
static int host_get_msr(void *ctx, uint32_t index, uint64_t *value)
{
    (void)ctx, (void)index;
    *value = 0;
    return 0;
}
static const struct vmm_assist_ops host_ops = {
    .read = host_read,
    .write = host_write,
    .cmpxchg16 = host_cmpxchg16,
    .get_msr = host_get_msr,
    .get_xcr0 = host_get_xcr0,
    .get_xsave = host_get_xsave,
    .set_xsave = host_set_xsave,
    .cpuid = host_cpuid,
};

static void prepare(struct vmm_assist_cpu *cpu, const struct machine *m)
{
    memset(cpu, 0, sizeof(*cpu));
    cpu->ops = &host_ops;
    cpu->features = ~UINT64_C(0);
    cpu->code64 = true;
    cpu->cpl = 0;
    cpu->cr0 = X86_CR0_PE;
    cpu->cr4 = X86_CR4_OSXSAVE;
    cpu->efer = X86_EFER_LMA;
    cpu->rip = 0x1000;
    cpu->rflags = m->flags;
    cpu->gpr[REG_AX] = m->ax;
    cpu->gpr[REG_CX] = m->cx;
    cpu->gpr[REG_DX] = m->dx;
    cpu->gpr[REG_BX] = m->bx;
    cpu->gpr[REG_SI] = m->si;
    cpu->gpr[REG_DI] = m->di;
    cpu->gpr[8] = m->r8;
    cpu->gpr[9] = m->r9;
}

struct sample {
    const char *name;
    uint8_t bytes[12];
    uint8_t length;
    uint32_t undefined; /* flags */
    uint32_t leaf;
    uint8_t reg, bit; /* of CPUID: EAX 0, EBX 1, ECX 2, EDX 3 */
};

#define COUNT_UNDEFINED (X86_OF | X86_SF | X86_PF | X86_AF)
#define INSN(...)                                                                                  \
    {                                                                                              \
        __VA_ARGS__                                                                                \
    }
static const struct sample samples[] = {
    {"popcnt ecx, edx", INSN(0xf3, 0x0f, 0xb8, 0xca), 4, 0, 1, 2, 23},
    {"popcnt cx, dx", INSN(0x66, 0xf3, 0x0f, 0xb8, 0xca), 5, 0, 1, 2, 23},
    {"popcnt rcx, [rsi+8]", INSN(0xf3, 0x48, 0x0f, 0xb8, 0x4e, 0x08), 6, 0, 1, 2, 23},
    {"popcnt r9, r8", INSN(0xf3, 0x4d, 0x0f, 0xb8, 0xc8), 5, 0, 1, 2, 23},
    {"tzcnt ecx, edx", INSN(0xf3, 0x0f, 0xbc, 0xca), 4, COUNT_UNDEFINED, 7, 1, 3},
    {"tzcnt cx, dx", INSN(0x66, 0xf3, 0x0f, 0xbc, 0xca), 5, COUNT_UNDEFINED, 7, 1, 3},
    {"tzcnt rcx, [rsi]", INSN(0xf3, 0x48, 0x0f, 0xbc, 0x0e), 5, COUNT_UNDEFINED, 7, 1, 3},
    {"lzcnt ecx, edx", INSN(0xf3, 0x0f, 0xbd, 0xca), 4, COUNT_UNDEFINED, 0x80000001, 2, 5},
    {"lzcnt cx, dx", INSN(0x66, 0xf3, 0x0f, 0xbd, 0xca), 5, COUNT_UNDEFINED, 0x80000001, 2, 5},
    {"lzcnt rcx, rdx", INSN(0xf3, 0x48, 0x0f, 0xbd, 0xca), 5, COUNT_UNDEFINED, 0x80000001, 2, 5},
    {"movbe ecx, [rsi]", INSN(0x0f, 0x38, 0xf0, 0x0e), 4, 0, 1, 2, 22},
    {"movbe cx, [rsi]", INSN(0x66, 0x0f, 0x38, 0xf0, 0x0e), 5, 0, 1, 2, 22},
    {"movbe rcx, [rsi+rdi*2+16]", INSN(0x48, 0x0f, 0x38, 0xf0, 0x4c, 0x7e, 0x10), 7, 0, 1, 2, 22},
    {"movbe [rsi+0x100], r9", INSN(0x4c, 0x0f, 0x38, 0xf1, 0x8e, 0x00, 0x01, 0, 0), 9, 0, 1, 2, 22},
    {"movbe [rsi], dx", INSN(0x66, 0x0f, 0x38, 0xf1, 0x16), 5, 0, 1, 2, 22},
    {"crc32 ecx, dl", INSN(0xf2, 0x0f, 0x38, 0xf0, 0xca), 5, 0, 1, 2, 20},
    {"crc32 ecx, dh", INSN(0xf2, 0x0f, 0x38, 0xf0, 0xce), 5, 0, 1, 2, 20},
    {"crc32 ecx, sil", INSN(0xf2, 0x40, 0x0f, 0x38, 0xf0, 0xce), 6, 0, 1, 2, 20},
    {"crc32 ecx, dx", INSN(0x66, 0xf2, 0x0f, 0x38, 0xf1, 0xca), 6, 0, 1, 2, 20},
    {"crc32 ecx, edx", INSN(0xf2, 0x0f, 0x38, 0xf1, 0xca), 5, 0, 1, 2, 20},
    {"crc32 rcx, [rsi]", INSN(0xf2, 0x48, 0x0f, 0x38, 0xf1, 0x0e), 6, 0, 1, 2, 20},
    {"adcx ecx, edx", INSN(0x66, 0x0f, 0x38, 0xf6, 0xca), 5, 0, 7, 1, 19},
    {"adcx rcx, [rsi]", INSN(0x66, 0x48, 0x0f, 0x38, 0xf6, 0x0e), 6, 0, 7, 1, 19},
    {"adox rcx, rdx", INSN(0xf3, 0x48, 0x0f, 0x38, 0xf6, 0xca), 6, 0, 7, 1, 19},
    {"andn ecx, ebx, edx", INSN(0xc4, 0xe2, 0x60, 0xf2, 0xca), 5, X86_AF | X86_PF, 7, 1, 3},
    {"andn rcx, rbx, [rsi]", INSN(0xc4, 0xe2, 0xe0, 0xf2, 0x0e), 5, X86_AF | X86_PF, 7, 1, 3},
    {"blsr ecx, edx", INSN(0xc4, 0xe2, 0x70, 0xf3, 0xca), 5, X86_AF | X86_PF, 7, 1, 3},
    {"blsmsk rcx, rdx", INSN(0xc4, 0xe2, 0xf0, 0xf3, 0xd2), 5, X86_AF | X86_PF, 7, 1, 3},
    {"blsi rcx, rdx", INSN(0xc4, 0xe2, 0xf0, 0xf3, 0xda), 5, X86_AF | X86_PF, 7, 1, 3},
    {"blsi ecx, [rsi]", INSN(0xc4, 0xe2, 0x70, 0xf3, 0x1e), 5, X86_AF | X86_PF, 7, 1, 3},
    {"bextr ecx, edx, ebx", INSN(0xc4, 0xe2, 0x60, 0xf7, 0xca), 5, X86_SF | X86_AF | X86_PF, 7, 1,
     3},
    {"bextr rcx, rdx, rbx", INSN(0xc4, 0xe2, 0xe0, 0xf7, 0xca), 5, X86_SF | X86_AF | X86_PF, 7, 1,
     3},
    {"bzhi ecx, edx, ebx", INSN(0xc4, 0xe2, 0x60, 0xf5, 0xca), 5, X86_AF | X86_PF, 7, 1, 8},
    {"bzhi rcx, rdx, rbx", INSN(0xc4, 0xe2, 0xe0, 0xf5, 0xca), 5, X86_AF | X86_PF, 7, 1, 8},
    {"pdep ecx, ebx, edx", INSN(0xc4, 0xe2, 0x63, 0xf5, 0xca), 5, 0, 7, 1, 8},
    {"pdep rcx, rbx, [rsi]", INSN(0xc4, 0xe2, 0xe3, 0xf5, 0x0e), 5, 0, 7, 1, 8},
    {"pext ecx, ebx, edx", INSN(0xc4, 0xe2, 0x62, 0xf5, 0xca), 5, 0, 7, 1, 8},
    {"pext rcx, rbx, rdx", INSN(0xc4, 0xe2, 0xe2, 0xf5, 0xca), 5, 0, 7, 1, 8},
    {"mulx ecx, ebx, r8d", INSN(0xc4, 0xc2, 0x63, 0xf6, 0xc8), 5, 0, 7, 1, 8},
    {"mulx rcx, rbx, [rsi]", INSN(0xc4, 0xe2, 0xe3, 0xf6, 0x0e), 5, 0, 7, 1, 8},
    {"mulx rcx, rcx, r8", INSN(0xc4, 0xc2, 0xf3, 0xf6, 0xc8), 5, 0, 7, 1, 8},
    {"shlx ecx, edx, ebx", INSN(0xc4, 0xe2, 0x61, 0xf7, 0xca), 5, 0, 7, 1, 8},
    {"shlx rcx, rdx, rbx", INSN(0xc4, 0xe2, 0xe1, 0xf7, 0xca), 5, 0, 7, 1, 8},
    {"sarx ecx, edx, ebx", INSN(0xc4, 0xe2, 0x62, 0xf7, 0xca), 5, 0, 7, 1, 8},
    {"sarx rcx, [rsi], rbx", INSN(0xc4, 0xe2, 0xe2, 0xf7, 0x0e), 5, 0, 7, 1, 8},
    {"shrx ecx, edx, ebx", INSN(0xc4, 0xe2, 0x63, 0xf7, 0xca), 5, 0, 7, 1, 8},
    {"shrx r9, r8, rbx", INSN(0xc4, 0x42, 0xe3, 0xf7, 0xc8), 5, 0, 7, 1, 8},
    {"rorx ecx, edx, 7", INSN(0xc4, 0xe3, 0x7b, 0xf0, 0xca, 7), 6, 0, 7, 1, 8},
    {"rorx rcx, [rsi], 63", INSN(0xc4, 0xe3, 0xfb, 0xf0, 0x0e, 63), 6, 0, 7, 1, 8},
    {"rorx ecx, edx, 0", INSN(0xc4, 0xe3, 0x7b, 0xf0, 0xca, 0), 6, 0, 7, 1, 8},
    {"cmpxchg16b [rsi]", INSN(0xf0, 0x48, 0x0f, 0xc7, 0x0e), 5, 0, 1, 2, 13},
};

static void compare_once(const struct sample *s)
{
    struct machine native = {.ax = interesting(),
                             .cx = interesting(),
                             .dx = interesting(),
                             .bx = interesting(),
                             .si = (uint64_t)(uintptr_t)scratch,
                             .di = random64() & 0xff,
                             .r8 = interesting(),
                             .r9 = interesting(),
                             .flags = 0x202 | (random64() & X86_ARITHMETIC)};
    uint8_t before[1024], after[1024];
    for (size_t i = 0; i < sizeof(before); i += 8) {
        uint64_t value = interesting();
        memcpy(before + i, &value, 8);
    }
    if ((random64() & 1) != 0) { /* so that cmpxchg16b matches half the time */
        memcpy(before, &native.ax, 8);
        memcpy(before + 8, &native.dx, 8);
    }
    struct vmm_assist_cpu cpu;
    prepare(&cpu, &native);
    memcpy(scratch, before, sizeof(before));
    run_native(&native);
    memcpy(after, scratch, sizeof(after));
    memcpy(scratch, before, sizeof(before));
    assert_int_equal(vmm_assist_execute(&cpu, s->bytes, s->length), ASSIST_DONE);
    assert_false(cpu.event.pending);
    assert_int_equal(cpu.rip, 0x1000u + s->length);
    assert_memory_equal(scratch, after, sizeof(after));
    uint64_t want[] = {native.ax, native.cx, native.dx, native.bx};
    assert_memory_equal(cpu.gpr, want, sizeof(want));
    assert_int_equal(cpu.gpr[REG_SI], native.si);
    assert_int_equal(cpu.gpr[REG_DI], native.di);
    assert_int_equal(cpu.gpr[8], native.r8);
    assert_int_equal(cpu.gpr[9], native.r9);
    uint32_t defined = X86_ARITHMETIC & ~s->undefined;
    assert_int_equal(cpu.rflags & defined, native.flags & defined);
}

static void integer_instructions_match_the_processor(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(samples) / sizeof(samples[0]); i++) {
        const struct sample *s = &samples[i];
        if (!cpuid_bit(s->leaf, s->reg, s->bit)) {
            print_message("%s: not on this processor\n", s->name);
            continue;
        }
        print_message("%s\n", s->name);
        set_code(s->bytes, s->length);
        for (int n = 0; n < 3000; n++) {
            compare_once(s);
        }
    }
}

/* Put random contents into x87, SSE and AVX, some components left in their initial state. */
static void fill_state(uint8_t *area, uint64_t components)
{
    memset(area, 0, 4096);
    for (size_t i = 32; i < 832; i++) {
        area[i] = (uint8_t)random64();
    }
    memset(area + 512, 0, 64);
    area[0] = 0x7f;
    area[1] = 3;
    /* A task switch makes SSE "in use" where MXCSR is not its initial value. */
    uint32_t mxcsr = 0x1f80 | ((components & 2) != 0 ? (uint32_t)random64() & 0x3f : 0);
    memcpy(area + 24, &mxcsr, 4);
    for (size_t i = 32; i < 160; i += 16) {
        memset(area + i + 10, 0, 6); /* an x87 register has 10 bytes */
    }
    memcpy(area + 512, &components, 8);
}

static void native_xrstor(const uint8_t *area, uint64_t mask)
{
    __asm__ volatile("xrstor64 (%0)"
                     :
                     : "r"(area), "a"((uint32_t)mask), "d"(0)
                     : "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
static void native_xsave(uint8_t *area, uint64_t mask)
{
    __asm__ volatile("xsave64 (%0)" : : "r"(area), "a"((uint32_t)mask), "d"(0) : "memory");
}

#define STATE_MASK 7u

static void execute_xsave(const uint8_t *bytes, size_t length, uint64_t mask)
{
    struct machine m = {.ax = mask, .si = (uint64_t)(uintptr_t)scratch, .flags = 2};
    struct vmm_assist_cpu cpu;
    prepare(&cpu, &m);
    assert_int_equal(vmm_assist_execute(&cpu, bytes, length), ASSIST_DONE);
    assert_false(cpu.event.pending);
}

static void blank_scratch(uint8_t header)
{
    memset(scratch, 0xa5, sizeof(scratch));
    memset(scratch + 512, 0, 64);
    scratch[512] = header;
}

/* One of the saving forms, natively and by the core, on the same state. A task switch in between
 * may change what is "in use", so a mismatch counts only when it stays. */
static void compare_save_once(const uint8_t *bytes, size_t length, const uint8_t *source,
                              uint64_t mask, uint8_t header)
{
    static uint8_t native[4096];
    for (int attempt = 0;; attempt++) {
        struct machine m = {.ax = mask, .si = (uint64_t)(uintptr_t)scratch, .flags = 2};
        blank_scratch(header);
        memset(xsave_area, 0, sizeof(xsave_area));
        native_xrstor(source, STATE_MASK);
        run_native(&m);
        native_xsave(xsave_area, STATE_MASK);
        memcpy(native, scratch, sizeof(native));
        blank_scratch(header);
        execute_xsave(bytes, length, mask);
        if (attempt == 9 || memcmp(scratch, native, sizeof(native)) == 0) {
            break;
        }
    }
    assert_memory_equal(scratch + 512, native + 512, 64);
    assert_memory_equal(scratch, native, sizeof(native));
}

static void compare_save(const uint8_t *bytes, size_t length)
{
    static uint8_t source[4096] __attribute__((aligned(64)));
    set_code(bytes, length);
    for (int n = 0; n < 300; n++) {
        fill_state(source, random64() & STATE_MASK);
        uint64_t mask = random64() & STATE_MASK;
        compare_save_once(bytes, length, source, mask, (uint8_t)(random64() & STATE_MASK));
    }
}

static void xsave_matches_the_processor(void **state)
{
    (void)state;
    if (!cpuid_bit(1, 2, 27) || !cpuid_bit(1, 2, 28)) {
        skip();
    }
    compare_save((const uint8_t[]){0x48, 0x0f, 0xae, 0x26}, 4);
    uint32_t r[4];
    __cpuid_count(0xd, 1, r[0], r[1], r[2], r[3]);
    if ((r[0] & 2) != 0) {
        compare_save((const uint8_t[]){0x48, 0x0f, 0xc7, 0x26}, 4); /* xsavec */
    }
    native_xrstor(xsave_area, STATE_MASK);
}

static void compare_restore(bool compact)
{
    static uint8_t source[4096] __attribute__((aligned(64)));
    static uint8_t old[4096] __attribute__((aligned(64)));
    static uint8_t native[4096] __attribute__((aligned(64)));
    static const uint8_t xrstor[] = {0x48, 0x0f, 0xae, 0x2e};
    for (int n = 0; n < 300; n++) {
        uint64_t mask = random64() & STATE_MASK;
        fill_state(old, STATE_MASK);
        fill_state(source, random64() & STATE_MASK);
        if (compact) {
            uint64_t layout = UINT64_C(1) << 63 | STATE_MASK;
            memcpy(source + 520, &layout, 8);
        }
        /* Nothing may come between: the compiler's own code uses vector registers. */
        memset(native, 0, sizeof(native));
        memset(xsave_area, 0, sizeof(xsave_area));
        native_xrstor(old, STATE_MASK);
        native_xrstor(source, mask);
        native_xsave(native, STATE_MASK);
        native_xrstor(old, STATE_MASK);
        native_xsave(xsave_area, STATE_MASK);
        memcpy(scratch, source, sizeof(scratch));
        execute_xsave(xrstor, sizeof(xrstor), mask);
        memset(scratch, 0, sizeof(scratch));
        native_xrstor(xsave_area, STATE_MASK); /* what KVM makes of it */
        native_xsave(scratch, STATE_MASK);
        /* All but XSTATE_BV, which says what is in its initial state and may differ. */
        assert_memory_equal(scratch, native, 512);
        assert_memory_equal(scratch + 576, native + 576, 256);
    }
}

static void xrstor_matches_the_processor(void **state)
{
    (void)state;
    if (!cpuid_bit(1, 2, 27) || !cpuid_bit(1, 2, 28)) {
        skip();
    }
    static uint8_t keep[4096] __attribute__((aligned(64)));
    native_xsave(keep, STATE_MASK);
    compare_restore(false);
    uint32_t r[4];
    __cpuid_count(0xd, 1, r[0], r[1], r[2], r[3]);
    if ((r[0] & 2) != 0) {
        compare_restore(true);
    }
    native_xrstor(keep, STATE_MASK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(integer_instructions_match_the_processor),
        cmocka_unit_test(xsave_matches_the_processor),
        cmocka_unit_test(xrstor_matches_the_processor),
    };
    native_init();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
