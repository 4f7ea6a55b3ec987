/* SPDX-License-Identifier: BSD-3-Clause */
/* The emulation assist's core: modes, address forms, faults, privilege, features, cut-short code. */
#include "test.h"

#include <errno.h>
#include <string.h>
#include <vcpu/x86/assist_core.h>

#define RAM_SIZE  0x20000u
#define NOT_RAM   0x100000u /* addresses from here are mapped to nothing that can be finished */
#define HOST_GONE 0x200000u /* and from here the host fails */

static uint8_t ram[RAM_SIZE];
static unsigned flushes;

static int check(struct vmm_assist_cpu *cpu, uint64_t linear, size_t length)
{
    if (linear >= HOST_GONE && linear < 2 * HOST_GONE) {
        return -EIO;
    }
    if (linear >= NOT_RAM && linear < HOST_GONE) {
        return -EFAULT;
    }
    if (linear < RAM_SIZE && length <= RAM_SIZE - linear) {
        return 0;
    }
    cpu->event = (struct vmm_assist_event){
        .vector = VEC_PF, .pending = true, .has_error = true, .error_code = 4, .cr2 = linear};
    return 1;
}
static int fake_read(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, void *data,
                     size_t length, bool system)
{
    (void)ctx, (void)system;
    int r = check(cpu, linear, length);
    if (r == 0) {
        memcpy(data, ram + linear, length);
    }
    return r;
}
static int fake_write(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear, const void *data,
                      size_t length)
{
    (void)ctx;
    int r = check(cpu, linear, length);
    if (r == 0) {
        memcpy(ram + linear, data, length);
    }
    return r;
}
static int fake_cmpxchg16(void *ctx, struct vmm_assist_cpu *cpu, uint64_t linear,
                          uint64_t expected[2], const uint64_t desired[2], bool *equal)
{
    (void)ctx;
    int r = check(cpu, linear, 16);
    if (r == 0) {
        *equal = memcmp(ram + linear, expected, 16) == 0;
        memcpy(*equal ? (void *)(ram + linear) : (void *)expected,
               *equal ? (const void *)desired : (const void *)(ram + linear), 16);
    }
    return r;
}
static int fake_get_msr(void *ctx, uint32_t index, uint64_t *value)
{
    (void)ctx;
    *value = index == 0xc0000103 ? 0x77 : 0;
    return 0;
}
static int fake_get_xcr0(void *ctx, uint64_t *value)
{
    (void)ctx;
    *value = 7;
    return 0;
}
static uint8_t fpu[4096];
static int fake_get_xsave(void *ctx, void *area, size_t length)
{
    (void)ctx;
    memcpy(area, fpu, length);
    return 0;
}
static int fake_set_xsave(void *ctx, const void *area, size_t length)
{
    (void)ctx;
    memcpy(fpu, area, length);
    return 0;
}
static void fake_cpuid(void *ctx, uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    (void)ctx;
    memset(out, 0, 16);
    if (leaf == 0xd && subleaf == 2) {
        out[0] = 256;
        out[1] = 576;
    }
}
static int fake_flush(void *ctx)
{
    (void)ctx;
    flushes++;
    return 0;
}
static const struct vmm_assist_ops ops = {
    .read = fake_read,
    .write = fake_write,
    .cmpxchg16 = fake_cmpxchg16,
    .get_msr = fake_get_msr,
    .get_xcr0 = fake_get_xcr0,
    .get_xsave = fake_get_xsave,
    .set_xsave = fake_set_xsave,
    .cpuid = fake_cpuid,
    .flush_tlb = fake_flush,
};

static struct vmm_assist_cpu cpu;

static void reset(bool code64, bool code32, bool protected_mode)
{
    memset(&cpu, 0, sizeof(cpu));
    memset(ram, 0, sizeof(ram));
    cpu.ops = &ops;
    cpu.features = ~UINT64_C(0);
    cpu.code64 = code64;
    cpu.code32 = code32;
    cpu.cr0 = protected_mode ? X86_CR0_PE : 0;
    cpu.cr4 = X86_CR4_OSXSAVE | X86_CR4_FSGSBASE;
    cpu.efer = code64 ? X86_EFER_LMA : 0;
    cpu.rip = 0x8000;
    cpu.rflags = 2;
    for (unsigned i = 0; i < SEG_COUNT; i++) {
        cpu.seg[i] = (struct vmm_assist_segment){
            .limit = code32 ? UINT32_MAX : 0xffff, .type = i == SEG_CS ? 11 : 3, .usable = true};
    }
    cpu.idt_base = 0x1000;
    cpu.idt_limit = 0xfff;
}
static void long_mode(void)
{
    reset(true, false, true);
}

#define RUN(...)                                                                                   \
    vmm_assist_execute(&cpu, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))
#define EXPECT_FAULT(number, ...)                                                                  \
    do {                                                                                           \
        uint64_t rip_ = cpu.rip;                                                                   \
        assert_int_equal(RUN(__VA_ARGS__), ASSIST_DONE);                                           \
        assert_true(cpu.event.pending);                                                            \
        assert_int_equal(cpu.event.vector, number);                                                \
        assert_int_equal(cpu.rip, rip_);                                                           \
    } while (0)
#define EXPECT_DONE(...)                                                                           \
    do {                                                                                           \
        uint64_t rip_ = cpu.rip;                                                                   \
        assert_int_equal(RUN(__VA_ARGS__), ASSIST_DONE);                                           \
        assert_false(cpu.event.pending);                                                           \
        assert_int_equal(cpu.rip, rip_ + sizeof((uint8_t[]){__VA_ARGS__}));                        \
    } while (0)

/* popcnt of a memory operand tells which address was used: the byte there has that many bits. */
static void expect_address(uint64_t address, const uint8_t *bytes, size_t length)
{
    memset(ram, 0, sizeof(ram));
    ram[address] = 0x1f;
    cpu.rip = 0x8000;
    cpu.gpr[REG_AX] = 0;
    assert_int_equal(vmm_assist_execute(&cpu, bytes, length), ASSIST_DONE);
    assert_false(cpu.event.pending);
    assert_int_equal(cpu.gpr[REG_AX] & 0xff, 5);
    assert_int_equal(cpu.rip, 0x8000 + length);
}
#define EXPECT_ADDRESS(address, ...)                                                               \
    expect_address(address, (const uint8_t[]){__VA_ARGS__}, sizeof((uint8_t[]){__VA_ARGS__}))

static void addresses_in_64_bit_mode(void **state)
{
    (void)state;
    long_mode();
    cpu.gpr[REG_CX] = 0x100;
    cpu.gpr[REG_SI] = 0x1000;
    cpu.gpr[REG_SP] = 0x3000;
    cpu.gpr[12] = 0x4000;
    cpu.gpr[13] = 0x5000;
    cpu.seg[SEG_FS].base = 0x6000;
    cpu.seg[SEG_DS].base = 0x6000;                                          /* ignored */
    EXPECT_ADDRESS(0x1000, 0xf3, 0x0f, 0xb8, 0x06);                         /* [rsi] */
    EXPECT_ADDRESS(0x0ff0, 0xf3, 0x0f, 0xb8, 0x46, 0xf0);                   /* [rsi-16] */
    EXPECT_ADDRESS(0x1800, 0xf3, 0x0f, 0xb8, 0x04, 0xce);                   /* [rsi+rcx*8] */
    EXPECT_ADDRESS(0x3000, 0xf3, 0x0f, 0xb8, 0x04, 0x24);                   /* [rsp] */
    EXPECT_ADDRESS(0x4000, 0xf3, 0x41, 0x0f, 0xb8, 0x04, 0x24);             /* [r12] */
    EXPECT_ADDRESS(0x5000, 0xf3, 0x41, 0x0f, 0xb8, 0x45, 0x00);             /* [r13+0] */
    EXPECT_ADDRESS(0x9100, 0xf3, 0x43, 0x0f, 0xb8, 0x84, 0x25, 0, 1, 0, 0); /* [r13+r12+256] */
    EXPECT_ADDRESS(0x8009, 0xf3, 0x0f, 0xb8, 0x05, 1, 0, 0, 0);             /* [rip+1] */
    EXPECT_ADDRESS(0x0200, 0xf3, 0x0f, 0xb8, 0x04, 0x25, 0, 2, 0, 0);       /* [0x200] */
    EXPECT_ADDRESS(0x0600, 0xf3, 0x0f, 0xb8, 0x04, 0x4d, 0, 4, 0, 0);       /* [rcx*2+0x400] */
    EXPECT_ADDRESS(0x7000, 0x64, 0xf3, 0x0f, 0xb8, 0x06);                   /* fs:[rsi] */
    EXPECT_ADDRESS(0x1000, 0x2e, 0xf3, 0x0f, 0xb8, 0x06);                   /* cs: is ignored */
    cpu.gpr[REG_SI] = UINT64_C(0xffffffff00001000);
    EXPECT_ADDRESS(0x1000, 0x67, 0xf3, 0x0f, 0xb8, 0x06); /* [esi] */
}

static void addresses_in_32_and_16_bit_modes(void **state)
{
    (void)state;
    reset(false, true, true);
    cpu.gpr[REG_SI] = 0x1000;
    cpu.gpr[REG_BX] = 0x2000;
    cpu.gpr[REG_DI] = 0x20;
    cpu.gpr[REG_BP] = 0x4000;
    cpu.seg[SEG_SS].base = 0x8000;
    EXPECT_ADDRESS(0x1000, 0xf3, 0x0f, 0xb8, 0x06);                   /* [esi] */
    EXPECT_ADDRESS(0xc000, 0xf3, 0x0f, 0xb8, 0x45, 0x00);             /* ss:[ebp] */
    EXPECT_ADDRESS(0x4000, 0x3e, 0xf3, 0x0f, 0xb8, 0x45, 0x00);       /* ds:[ebp] */
    EXPECT_ADDRESS(0x3000, 0xf3, 0x0f, 0xb8, 0x05, 0x00, 0x30, 0, 0); /* absolute, not RIP */
    EXPECT_ADDRESS(0x2020, 0x67, 0xf3, 0x0f, 0xb8, 0x01);             /* [bx+di] */
    reset(false, false, false);
    cpu.gpr[REG_SI] = 0xabcd1000;
    cpu.gpr[REG_BX] = 0xf100;
    cpu.gpr[REG_BP] = 0x40;
    cpu.seg[SEG_DS].base = 0x10000;
    cpu.seg[SEG_SS].base = 0x100;
    EXPECT_ADDRESS(0x10100, 0xf3, 0x0f, 0xb8, 0x00);             /* [bx+si] wraps at 64 KiB */
    EXPECT_ADDRESS(0x1140, 0xf3, 0x0f, 0xb8, 0x02);              /* ss:[bp+si] */
    EXPECT_ADDRESS(0x11234, 0xf3, 0x0f, 0xb8, 0x06, 0x34, 0x12); /* [0x1234] */
    EXPECT_ADDRESS(0x10ff0, 0xf3, 0x0f, 0xb8, 0x44, 0xf0);       /* [si-16] */
}

static void segments_are_checked(void **state)
{
    (void)state;
    long_mode();
    cpu.gpr[REG_SI] = UINT64_C(0x800000000000);
    cpu.gpr[REG_SP] = UINT64_C(0x800000000000);
    EXPECT_FAULT(VEC_GP, 0xf3, 0x0f, 0xb8, 0x06);
    assert_int_equal(cpu.event.error_code, 0);
    EXPECT_FAULT(VEC_SS, 0xf3, 0x0f, 0xb8, 0x04, 0x24);
    cpu.gpr[REG_SI] = UINT64_C(0x7ffffffffffd); /* the last byte is not canonical */
    EXPECT_FAULT(VEC_GP, 0xf3, 0x0f, 0xb8, 0x06);
    cpu.cr4 |= X86_CR4_LA57;
    cpu.gpr[REG_SI] = UINT64_C(0x800000000000);
    EXPECT_FAULT(VEC_PF, 0xf3, 0x0f, 0xb8, 0x06);
    reset(false, true, true);
    cpu.seg[SEG_DS].limit = 0x1002;
    cpu.gpr[REG_SI] = 0x1000;
    EXPECT_FAULT(VEC_GP, 0xf3, 0x0f, 0xb8, 0x06); /* 4 bytes, the limit allows 3 */
    cpu.seg[SEG_DS].limit = 0x1003;
    EXPECT_DONE(0xf3, 0x0f, 0xb8, 0x06);
    cpu.seg[SEG_DS].type = 1; /* read-only */
    EXPECT_DONE(0xf3, 0x0f, 0xb8, 0x06);
    EXPECT_FAULT(VEC_GP, 0x0f, 0x38, 0xf1, 0x06);
    EXPECT_FAULT(VEC_GP, 0x2e, 0x0f, 0x38, 0xf1, 0x06); /* cs: cannot be written */
    cpu.seg[SEG_DS].type = 7;                           /* expand-down: above the limit only */
    EXPECT_FAULT(VEC_GP, 0xf3, 0x0f, 0xb8, 0x06);
    cpu.gpr[REG_SI] = 0x2000;
    EXPECT_DONE(0xf3, 0x0f, 0xb8, 0x06);
    cpu.seg[SEG_DS].usable = false;
    EXPECT_FAULT(VEC_GP, 0xf3, 0x0f, 0xb8, 0x06);
    cpu.seg[SEG_SS].limit = 0;
    EXPECT_FAULT(VEC_SS, 0x36, 0xf3, 0x0f, 0xb8, 0x06);
}

static void memory_trouble_is_told_apart(void **state)
{
    (void)state;
    long_mode();
    cpu.gpr[REG_SI] = 0x50000;
    EXPECT_FAULT(VEC_PF, 0xf3, 0x0f, 0xb8, 0x06);
    assert_int_equal(cpu.event.cr2, 0x50000);
    assert_true(cpu.event.has_error);
    cpu.gpr[REG_SI] = NOT_RAM;
    struct vmm_assist_cpu before = cpu;
    assert_int_equal(RUN(0xf3, 0x0f, 0xb8, 0x06), ASSIST_UNKNOWN);
    assert_memory_equal(cpu.gpr, before.gpr, sizeof(cpu.gpr));
    assert_int_equal(cpu.rip, before.rip);
    cpu.gpr[REG_SI] = HOST_GONE;
    assert_int_equal(RUN(0xf3, 0x0f, 0xb8, 0x06), -EIO);
    assert_int_equal(RUN(0x48, 0x0f, 0xc7, 0x0e), -EIO);
}

static void features_and_privilege_raise_ud(void **state)
{
    static const struct {
        enum vmm_assist_feature feature;
        uint8_t length, bytes[8];
    } table[] = {
        {FEAT_POPCNT, 4, {0xf3, 0x0f, 0xb8, 0xc0}},
        {FEAT_SMAP, 3, {0x0f, 0x01, 0xca}},
        {FEAT_SMAP, 3, {0x0f, 0x01, 0xcb}},
        {FEAT_MOVBE, 4, {0x0f, 0x38, 0xf0, 0x06}},
        {FEAT_CRC32, 5, {0xf2, 0x0f, 0x38, 0xf1, 0xc0}},
        {FEAT_ADX, 5, {0x66, 0x0f, 0x38, 0xf6, 0xc0}},
        {FEAT_BMI1, 5, {0xc4, 0xe2, 0x60, 0xf2, 0xca}},
        {FEAT_BMI2, 5, {0xc4, 0xe2, 0x60, 0xf5, 0xca}},
        {FEAT_CX16, 4, {0x48, 0x0f, 0xc7, 0x0e}},
        {FEAT_RDPID, 4, {0xf3, 0x0f, 0xc7, 0xf8}},
        {FEAT_FSGSBASE, 5, {0xf3, 0x48, 0x0f, 0xae, 0xc0}},
        {FEAT_XSAVE, 4, {0x48, 0x0f, 0xae, 0x26}},
        {FEAT_XSAVE, 3, {0x0f, 0x01, 0xd0}},
        {FEAT_XSAVES, 4, {0x48, 0x0f, 0xc7, 0x2e}},
        {FEAT_SERIALIZE, 3, {0x0f, 0x01, 0xe8}},
        {FEAT_CLWB, 4, {0x66, 0x0f, 0xae, 0x36}},
        {FEAT_CLFLUSHOPT, 4, {0x66, 0x0f, 0xae, 0x3e}},
        {FEAT_INVPCID, 5, {0x66, 0x0f, 0x38, 0x82, 0x06}},
        {FEAT_RDRAND, 3, {0x0f, 0xc7, 0xf0}},
        {FEAT_RDSEED, 3, {0x0f, 0xc7, 0xf8}},
    };
    (void)state;
    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        long_mode();
        cpu.gpr[REG_SI] = 0x1000;
        assert_int_equal(vmm_assist_execute(&cpu, table[i].bytes, table[i].length), ASSIST_DONE);
        assert_false(cpu.event.pending);
        long_mode();
        cpu.features &= ~(UINT64_C(1) << table[i].feature);
        assert_int_equal(vmm_assist_execute(&cpu, table[i].bytes, table[i].length), ASSIST_DONE);
        assert_true(cpu.event.pending);
        assert_int_equal(cpu.event.vector, VEC_UD);
        assert_int_equal(cpu.rip, 0x8000);
    }
    /* tzcnt and lzcnt without their features are older instructions, which KVM has. */
    long_mode();
    cpu.features = 0;
    assert_int_equal(RUN(0xf3, 0x0f, 0xbc, 0xc8), ASSIST_UNKNOWN);
    assert_int_equal(RUN(0xf3, 0x0f, 0xbd, 0xc8), ASSIST_UNKNOWN);
    long_mode();
    cpu.cpl = 3;
    EXPECT_FAULT(VEC_UD, 0x0f, 0x01, 0xca);
    EXPECT_FAULT(VEC_GP, 0x66, 0x0f, 0x38, 0x82, 0x06);
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xc7, 0x2e);
    cpu.cr4 = 0;
    EXPECT_FAULT(VEC_UD, 0xf3, 0x48, 0x0f, 0xae, 0xc0);
    EXPECT_FAULT(VEC_UD, 0x0f, 0x01, 0xd0);
    EXPECT_FAULT(VEC_UD, 0x48, 0x0f, 0xae, 0x26);
}

static void state_instructions(void **state)
{
    (void)state;
    long_mode();
    EXPECT_DONE(0x0f, 0x01, 0xcb);
    assert_true((cpu.rflags & X86_AC) != 0);
    EXPECT_DONE(0x0f, 0x01, 0xca);
    assert_true((cpu.rflags & X86_AC) == 0);
    cpu.gpr[REG_AX] = UINT64_MAX;
    EXPECT_DONE(0xf3, 0x0f, 0xc7, 0xf8); /* rdpid rax */
    assert_int_equal(cpu.gpr[REG_AX], 0x77);
    cpu.seg[SEG_GS].base = UINT64_C(0xffff888012345678);
    EXPECT_DONE(0xf3, 0x48, 0x0f, 0xae, 0xc9); /* rdgsbase rcx */
    assert_true(cpu.gpr[REG_CX] == UINT64_C(0xffff888012345678));
    EXPECT_DONE(0xf3, 0x0f, 0xae, 0xc9); /* rdgsbase ecx */
    assert_int_equal(cpu.gpr[REG_CX], 0x12345678);
    assert_false(cpu.system_dirty);
    cpu.gpr[REG_CX] = UINT64_C(0x7fff00000000);
    EXPECT_DONE(0xf3, 0x48, 0x0f, 0xae, 0xd1); /* wrfsbase rcx */
    assert_true(cpu.system_dirty);
    assert_true(cpu.seg[SEG_FS].base == UINT64_C(0x7fff00000000));
    cpu.gpr[REG_CX] = UINT64_C(0x800000000000);
    EXPECT_FAULT(VEC_GP, 0xf3, 0x48, 0x0f, 0xae, 0xd9); /* wrgsbase rcx */
    cpu.gpr[REG_CX] = 0;
    EXPECT_DONE(0x0f, 0x01, 0xd0);
    assert_int_equal(cpu.gpr[REG_AX], 7);
    cpu.gpr[REG_CX] = 2;
    EXPECT_FAULT(VEC_GP, 0x0f, 0x01, 0xd0);
    EXPECT_DONE(0x66, 0x0f, 0xc7, 0xf1); /* rdrand cx */
    cpu.rflags |= X86_RF;
    EXPECT_DONE(0x0f, 0x01, 0xe8);
    assert_true((cpu.rflags & X86_RF) == 0);
    cpu.rflags |= X86_TF;
    assert_int_equal(RUN(0x0f, 0x01, 0xe8), ASSIST_DONE);
    assert_true(cpu.event.pending);
    assert_int_equal(cpu.event.vector, VEC_DB);
}

static void fwait_reports_pending_x87_errors(void **state)
{
    (void)state;
    long_mode();
    memset(fpu, 0, sizeof(fpu));
    EXPECT_DONE(0x9b);
    fpu[2] = 0x80;
    EXPECT_FAULT(VEC_MF, 0x9b);
    cpu.cr0 |= X86_CR0_TS;
    EXPECT_FAULT(VEC_MF, 0x9b);
    cpu.cr0 |= X86_CR0_MP;
    EXPECT_FAULT(VEC_NM, 0x9b);
    fpu[2] = 0;
}

static void invpcid_checks_its_descriptor(void **state)
{
    (void)state;
    long_mode();
    cpu.gpr[REG_SI] = 0x1000;
    flushes = 0;
    for (uint64_t type = 0; type < 4; type++) {
        cpu.gpr[REG_AX] = type;
        EXPECT_DONE(0x66, 0x0f, 0x38, 0x82, 0x06);
    }
    assert_int_equal(flushes, 4);
    cpu.gpr[REG_AX] = 4;
    EXPECT_FAULT(VEC_GP, 0x66, 0x0f, 0x38, 0x82, 0x06);
    cpu.gpr[REG_AX] = 1;
    ram[0x1000] = 5; /* a PCID needs CR4.PCIDE */
    EXPECT_FAULT(VEC_GP, 0x66, 0x0f, 0x38, 0x82, 0x06);
    cpu.cr4 |= X86_CR4_PCIDE;
    EXPECT_DONE(0x66, 0x0f, 0x38, 0x82, 0x06);
    ram[0x1001] = 0x10; /* reserved */
    EXPECT_FAULT(VEC_GP, 0x66, 0x0f, 0x38, 0x82, 0x06);
    ram[0x1001] = 0;
    ram[0x100e] = 0x80; /* not canonical: matters to type 0 only */
    EXPECT_DONE(0x66, 0x0f, 0x38, 0x82, 0x06);
    cpu.gpr[REG_AX] = 0;
    EXPECT_FAULT(VEC_GP, 0x66, 0x0f, 0x38, 0x82, 0x06);
}

static void gate(unsigned vector, uint8_t access)
{
    ram[0x1000 + vector * (cpu.code64 ? 16 : 8) + 5] = access;
}

static void software_interrupts_check_their_gate(void **state)
{
    (void)state;
    for (unsigned bits64 = 0; bits64 < 2; bits64++) {
        reset(bits64, !bits64, true);
        gate(3, 0x8e);
        gate(0x80, 0xee);
        gate(0x21, 0x0e); /* not present */
        gate(0x22, 0x8c); /* not an interrupt gate */
        assert_int_equal(RUN(0xcc), ASSIST_DONE);
        assert_int_equal(cpu.event.vector, 3);
        assert_true(cpu.event.software && cpu.event.exception && !cpu.event.has_error);
        assert_int_equal(cpu.rip, 0x8001);
        assert_int_equal(RUN(0xcd, 0x80), ASSIST_DONE);
        assert_int_equal(cpu.event.vector, 0x80);
        assert_true(cpu.event.software && !cpu.event.exception);
        assert_int_equal(cpu.rip, 0x8003);
        EXPECT_FAULT(VEC_NP, 0xcd, 0x21);
        assert_int_equal(cpu.event.error_code, 0x21 * 8 + 2);
        EXPECT_FAULT(VEC_GP, 0xcd, 0x22);
        assert_int_equal(cpu.event.error_code, 0x22 * 8 + 2);
        cpu.cpl = 3;
        EXPECT_FAULT(VEC_GP, 0xcc); /* the gate is for CPL 0 */
        assert_int_equal(cpu.event.error_code, 3 * 8 + 2);
        assert_int_equal(RUN(0xcd, 0x80), ASSIST_DONE);
        assert_true(cpu.event.software);
        cpu.idt_limit = 0x80u * (bits64 ? 16 : 8) + 4;
        EXPECT_FAULT(VEC_GP, 0xcd, 0x80);
        assert_int_equal(cpu.event.error_code, 0x80 * 8 + 2);
    }
    long_mode();
    EXPECT_FAULT(VEC_UD, 0xce); /* no into in 64-bit mode */
    reset(false, true, true);
    gate(4, 0x8e);
    EXPECT_DONE(0xce);
    cpu.rflags |= X86_OF;
    assert_int_equal(RUN(0xce), ASSIST_DONE);
    assert_int_equal(cpu.event.vector, VEC_OF);
    reset(false, false, false);
    assert_int_equal(RUN(0xcd, 0x10), ASSIST_UNKNOWN); /* real mode */
    reset(false, false, true);
    cpu.rflags |= X86_VM;
    assert_int_equal(RUN(0xcd, 0x10), ASSIST_UNKNOWN);
    long_mode();
    cpu.idt_base = 0x50000;
    EXPECT_FAULT(VEC_PF, 0xcc);
}

static void cmpxchg16b_compares_and_checks_alignment(void **state)
{
    (void)state;
    long_mode();
    cpu.gpr[REG_SI] = 0x1000;
    cpu.gpr[REG_BX] = 1;
    cpu.gpr[REG_CX] = 2;
    EXPECT_DONE(0xf0, 0x48, 0x0f, 0xc7, 0x0e);
    assert_true((cpu.rflags & X86_ZF) != 0);
    assert_int_equal(ram[0x1000], 1);
    assert_int_equal(ram[0x1008], 2);
    EXPECT_DONE(0xf0, 0x48, 0x0f, 0xc7, 0x0e);
    assert_true((cpu.rflags & X86_ZF) == 0);
    assert_int_equal(cpu.gpr[REG_AX], 1);
    assert_int_equal(cpu.gpr[REG_DX], 2);
    cpu.gpr[REG_SI] = 0x1008;
    EXPECT_FAULT(VEC_GP, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
    cpu.gpr[REG_SI] = 0x50000;
    EXPECT_FAULT(VEC_PF, 0xf0, 0x48, 0x0f, 0xc7, 0x0e);
}

static void xrstor_refuses_bad_areas(void **state)
{
    (void)state;
    long_mode();
    memset(fpu, 0, sizeof(fpu));
    cpu.gpr[REG_SI] = 0x1000;
    cpu.gpr[REG_AX] = 7;
    EXPECT_DONE(0x48, 0x0f, 0xae, 0x2e);
    assert_int_equal(fpu[0], 0x7f); /* the initial control word */
    cpu.gpr[REG_SI] = 0x1020;
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xae, 0x2e);
    cpu.gpr[REG_SI] = 0x1000;
    ram[0x1200] = 8; /* not in XCR0 */
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xae, 0x2e);
    ram[0x1200] = 0;
    ram[0x1208] = 1; /* XCOMP_BV without its bit 63 */
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xae, 0x2e);
    ram[0x120f] = 0x80;
    EXPECT_DONE(0x48, 0x0f, 0xae, 0x2e);
    ram[0x1200] = 2; /* in XSTATE_BV but not in XCOMP_BV */
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xae, 0x2e);
    memset(ram + 0x1200, 0, 64);
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xc7, 0x1e); /* xrstors takes the compacted form only */
    ram[0x123f] = 1;                              /* reserved */
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xae, 0x2e);
    ram[0x123f] = 0;
    ram[0x101b] = 1; /* reserved bit of MXCSR */
    EXPECT_FAULT(VEC_GP, 0x48, 0x0f, 0xae, 0x2e);
    cpu.cr0 |= X86_CR0_TS;
    EXPECT_FAULT(VEC_NM, 0x48, 0x0f, 0xae, 0x2e);
}

static void unknown_and_cut_short_code_changes_nothing(void **state)
{
    static const uint8_t whole[] = {0x64, 0xf3, 0x48, 0x0f, 0xb8, 0x84, 0xce, 1, 2, 3, 4};
    (void)state;
    long_mode();
    for (size_t n = 0; n < sizeof(whole); n++) {
        struct vmm_assist_cpu before = cpu;
        assert_int_equal(vmm_assist_execute(&cpu, whole, n), ASSIST_UNKNOWN);
        assert_memory_equal(cpu.gpr, before.gpr, sizeof(cpu.gpr));
        assert_int_equal(cpu.rip, before.rip);
    }
    assert_int_equal(RUN(0x90), ASSIST_UNKNOWN);
    assert_int_equal(RUN(0x0f, 0x0b), ASSIST_UNKNOWN);                   /* ud2 */
    assert_int_equal(RUN(0xf0, 0xf3, 0x0f, 0xb8, 0xc0), ASSIST_UNKNOWN); /* lock popcnt */
    assert_int_equal(RUN(0xf3, 0x0f, 0x01, 0xca), ASSIST_UNKNOWN);
    assert_int_equal(RUN(0x66, 0xc4, 0xe2, 0x60, 0xf2, 0xca), ASSIST_UNKNOWN);
    static const uint8_t long_prefix[16] = {0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66, 0x66,
                                            0x66, 0x66, 0x66, 0x66, 0xf3, 0x0f, 0xb8, 0xc0};
    assert_int_equal(vmm_assist_execute(&cpu, long_prefix, 16), ASSIST_UNKNOWN); /* 16 bytes */
}

/* Whatever the bytes, nothing is read or written outside and the outcome is one of the three. */
static void random_code_is_harmless(void **state)
{
    uint64_t seed = 88172645463325252u;
    uint8_t bytes[VMM_INSN_MAX];
    static const uint8_t starts[] = {0x0f, 0xf3, 0xf2, 0x66, 0xc4, 0xc5, 0x48, 0x67};
    unsigned done = 0;
    (void)state;
    for (unsigned n = 0; n < 400000; n++) {
        for (size_t i = 0; i < sizeof(bytes); i++) {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            bytes[i] = (uint8_t)(seed >> 20);
        }
        bytes[0] = starts[n & 7];
        bytes[1] = (n & 8) != 0 ? 0x0f : bytes[1];
        if (n % 1000 == 0) {
            reset(n & 1, (n & 2) != 0 && !(n & 1), true);
        }
        cpu.gpr[n & 15] = seed & (n & 16 ? UINT64_MAX : 0x1ffff);
        int r = vmm_assist_execute(&cpu, bytes, 1 + seed % sizeof(bytes));
        assert_true(r == ASSIST_DONE || r == ASSIST_UNKNOWN || r == -EIO);
        done += r == ASSIST_DONE;
    }
    assert_true(done > 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(addresses_in_64_bit_mode),
        cmocka_unit_test(addresses_in_32_and_16_bit_modes),
        cmocka_unit_test(segments_are_checked),
        cmocka_unit_test(memory_trouble_is_told_apart),
        cmocka_unit_test(features_and_privilege_raise_ud),
        cmocka_unit_test(state_instructions),
        cmocka_unit_test(fwait_reports_pending_x87_errors),
        cmocka_unit_test(invpcid_checks_its_descriptor),
        cmocka_unit_test(software_interrupts_check_their_gate),
        cmocka_unit_test(cmpxchg16b_compares_and_checks_alignment),
        cmocka_unit_test(xrstor_refuses_bad_areas),
        cmocka_unit_test(unknown_and_cut_short_code_changes_nothing),
        cmocka_unit_test(random_code_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
