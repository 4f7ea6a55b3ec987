/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * All state of an arm64 vCPU: every register that KVM lists, by number, and what is not a register. KVM refuses
 * a changed value of those that describe the host (the identification registers), which is how a
 * snapshot of another host is found out.
 */
#include "base/util.h"
#include "vcpu/arm64/arm64.h"
#include "vm/ioctl.h"

#include <stdio.h>
#include <stdlib.h>

#define VCPU_STATE_VERSION 1u
#define REGS_MAX           4096u
#define VALUE_MAX          256u

/* The numbers, freed by the caller. */
static long list(struct vmm_vcpu *vcpu, uint64_t **ids)
{
    *ids = malloc(REGS_MAX * sizeof(**ids));
    if (!*ids)
        return -ENOMEM;
    long n = vmm_arm64_reg_list(vcpu, *ids, REGS_MAX);
    if (n > (long)REGS_MAX)
        n = -E2BIG;
    if (n < 0)
        free(*ids);
    return n;
}

/* Pairs of number and value; the value has the length that its number says. */
static int save_registers(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    uint64_t *ids;
    long n = list(vcpu, &ids);
    if (n < 0)
        return (int)n;
    uint8_t *data = malloc((size_t)n * (sizeof(uint64_t) + VALUE_MAX));
    int rc = data ? 0 : -ENOMEM;
    size_t at = 0;
    for (long i = 0; i < n && !rc; i++) {
        size_t length = vmm_arm64_reg_length(ids[i]);
        memcpy(data + at, &ids[i], sizeof(ids[i]));
        rc = vmm_arm64_get_reg(vcpu, ids[i], data + at + sizeof(ids[i]), length);
        at += sizeof(ids[i]) + length;
    }
    if (!rc)
        rc = vmm_state_put_bytes(w, "registers", data, at);
    free(data);
    free(ids);
    return rc;
}

int vmm_vcpu_save(struct vmm_vcpu *vcpu, struct vmm_state_writer *w)
{
    char name[32];
    struct kvm_mp_state mp = {0};
    struct kvm_vcpu_events events = {0};
    (void)snprintf(name, sizeof(name), "cpu@%x", vcpu->id);
    int rc = vmm_state_begin(w, name, VCPU_STATE_VERSION);
    if (!rc)
        rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_MP_STATE, &mp);
    if (!rc)
        rc = vmm_state_put_u32(w, "mp-state", mp.mp_state);
    if (!rc)
        rc = save_registers(vcpu, w);
    if (!rc)
        rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_GET_VCPU_EVENTS, &events);
    if (!rc)
        rc = vmm_state_put_bytes(w, "events", &events, sizeof(events));
    int end = vmm_state_end(w);
    return rc ? rc : end;
}

/* Is it a sequence of pairs? Nothing is set before that is known. */
static bool sound(const uint8_t *data, size_t length)
{
    uint64_t id;
    while (length >= sizeof(id)) {
        memcpy(&id, data, sizeof(id));
        size_t step = sizeof(id) + vmm_arm64_reg_length(id);
        if (step == sizeof(id) || step > length)
            return false;
        data += step;
        length -= step;
    }
    return length == 0;
}

/* They are settled when the vCPU is made, for good. */
static int check_vector_lengths(struct vmm_vcpu *vcpu, const void *wanted)
{
    uint8_t have[VALUE_MAX];
    size_t length = vmm_arm64_reg_length(KVM_REG_ARM64_SVE_VLS);
    int rc = vmm_arm64_get_reg(vcpu, KVM_REG_ARM64_SVE_VLS, have, length);
    return rc ? rc : memcmp(have, wanted, length) == 0 ? 0 : -EINVAL;
}

static int load_registers(struct vmm_vcpu *vcpu, const uint8_t *data, size_t length,
                          struct vmm_error *err)
{
    uint64_t id;
    uint8_t value[VALUE_MAX] __attribute__((aligned(16)));
    for (size_t at = 0; at < length; at += sizeof(id) + vmm_arm64_reg_length(id)) {
        memcpy(&id, data + at, sizeof(id));
        memcpy(value, data + at + sizeof(id), vmm_arm64_reg_length(id));
        int rc = id == KVM_REG_ARM64_SVE_VLS
                     ? check_vector_lengths(vcpu, value)
                     : vmm_arm64_set_reg(vcpu, id, value, vmm_arm64_reg_length(id));
        if (rc)
            return vmm_error_set(err, rc, "cpu@%x/registers: KVM refused %llx: %s", vcpu->id,
                                 (unsigned long long)id, strerror(-rc));
    }
    return 0;
}

static int load_all(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct vmm_error *err)
{
    struct kvm_mp_state mp = {0};
    struct kvm_vcpu_events events;
    const void *data;
    size_t length;
    int rc = vmm_state_get_u32(r, "mp-state", UINT32_MAX, &mp.mp_state, err);
    if (!rc)
        rc = vmm_state_get_bytes(r, "events", &events, sizeof(events), err);
    if (!rc)
        rc = vmm_state_get_blob(r, "registers", &data, &length, err);
    if (!rc && !sound(data, length))
        rc = vmm_error_set(err, -EINVAL, "cpu@%x/registers: not pairs of numbers and values",
                           vcpu->id);
    if (rc)
        return rc;
    rc = vmm_arm64_vcpu_init(vcpu);
    if (rc)
        return vmm_error_set(err, rc, "KVM_ARM_VCPU_INIT of vCPU %u: %s", vcpu->id, strerror(-rc));
    rc = load_registers(vcpu, data, length, err);
    if (rc)
        return rc;
    rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_VCPU_EVENTS, &events);
    if (!rc)
        rc = vmm_kvm_ioctl_ptr(vcpu->fd, KVM_SET_MP_STATE, &mp);
    return rc ? vmm_error_set(err, rc, "cpu@%x: KVM refused its events or its MP state: %s",
                              vcpu->id, strerror(-rc))
              : 0;
}

int vmm_vcpu_load(struct vmm_vcpu *vcpu, struct vmm_state_reader *r, struct vmm_error *err)
{
    char name[32];
    uint32_t version;
    (void)snprintf(name, sizeof(name), "cpu@%x", vcpu->id);
    int rc = vmm_state_enter(r, name, VCPU_STATE_VERSION, &version, err);
    if (rc)
        return rc;
    rc = load_all(vcpu, r, err);
    (void)vmm_state_leave(r);
    return rc;
}
