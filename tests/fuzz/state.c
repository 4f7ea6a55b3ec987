/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Saved states from an attacker. The first byte chooses: the rest is the blob itself; or a list of
 * bytes to change in a sound one; or the values of the fields of a UART. Checked: nothing outside
 * the blob is read, and a state that a device took can be saved and taken again.
 */
#include "fuzz.h"

#include <libvmm/serial.h>

#include <stdlib.h>
#include <string.h>

static const char *const fields[] = {"ier",      "fcr", "lcr",     "mcr",    "lsr-errors",
                                     "msr",      "scr", "divisor", "inputs", "thre-interrupt",
                                     "rx-breaks"};

static void *build(struct fuzz_input *in, size_t *length)
{
    struct vmm_state_writer *w;
    uint8_t bytes[20] = {0};
    void *blob;
    FUZZ_CHECK(vmm_state_writer_new(&w) == 0);
    vmm_state_begin(w, "serial0", in ? fuzz_u8(in) % 3 : 1);
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
        vmm_state_put_u32(w, fields[i], in ? fuzz_u32(in) >> (fuzz_u8(in) & 31) : 0);
    vmm_state_put_bytes(w, "rx", bytes, in ? fuzz_u8(in) % sizeof(bytes) : 1);
    vmm_state_put_bytes(w, "tx", bytes, in ? fuzz_u8(in) % sizeof(bytes) : 0);
    vmm_state_end(w);
    vmm_state_begin(w, "other", 7);
    vmm_state_put_string(w, "text", "text");
    vmm_state_put_u64(w, "large", 1);
    vmm_state_begin(w, "child", 1);
    vmm_state_end(w);
    vmm_state_end(w);
    FUZZ_CHECK(vmm_state_writer_finish(w, &blob, length) == 0);
    vmm_state_writer_free(w);
    return blob;
}

/* Read every byte, so that the sanitizer sees it. */
static void touch(const void *data, size_t length)
{
    volatile uint8_t sum = 0;
    for (size_t i = 0; i < length; i++)
        sum = (uint8_t)(sum + ((const uint8_t *)data)[i]);
}

static void read_fields(struct vmm_state_reader *r)
{
    static const char *const names[] = {"text", "large", "ier", "rx", "version", ""};
    struct vmm_error err = VMM_ERROR_INIT;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        uint32_t u32;
        uint64_t u64;
        uint8_t bytes[4];
        const void *data;
        const char *text;
        size_t length;
        (void)vmm_state_get_u32(r, names[i], 100, &u32, &err);
        (void)vmm_state_get_u64(r, names[i], UINT64_MAX, &u64, &err);
        (void)vmm_state_get_bytes(r, names[i], bytes, sizeof(bytes), &err);
        if (vmm_state_get_blob(r, names[i], &data, &length, &err) == 0)
            touch(data, length);
        if (vmm_state_get_string(r, names[i], &text, &err) == 0)
            touch(text, strlen(text));
    }
}

static void walk(struct vmm_state_reader *r)
{
    static const char *const names[] = {"other", "child", "serial0", ""};
    struct vmm_error err = VMM_ERROR_INIT;
    int depth = 0;
    read_fields(r);
    for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
        uint32_t version = 0;
        if (vmm_state_enter(r, names[i / 2], 9, &version, &err) == 0) {
            FUZZ_CHECK(version <= 9);
            read_fields(r);
            depth++;
        }
    }
    while (depth-- > 0)
        FUZZ_CHECK(vmm_state_leave(r) == 0);
    FUZZ_CHECK(vmm_state_leave(r) < 0);
}

static void load_into_device(struct vmm_state_reader *r)
{
    struct vmm_serial_options options = VMM_SERIAL_OPTIONS_INIT;
    struct vmm_serial *serial;
    struct vmm_state_writer *w;
    struct vmm_error err = VMM_ERROR_INIT;
    void *blob;
    size_t length;
    options.name = "serial0";
    FUZZ_CHECK(vmm_serial_new(&options, &serial) == 0);
    int ret = vmm_device_load(vmm_serial_device(serial), r, &err);
    FUZZ_CHECK((ret == 0) == (err.code == 0));
    FUZZ_CHECK(vmm_state_writer_new(&w) == 0);
    FUZZ_CHECK(vmm_device_save(vmm_serial_device(serial), w) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(w, &blob, &length) == 0);
    vmm_state_writer_free(w);
    FUZZ_CHECK(vmm_state_reader_new(blob, length, &r, NULL) == 0);
    FUZZ_CHECK(vmm_device_load(vmm_serial_device(serial), r, NULL) == 0);
    vmm_state_reader_free(r);
    free(blob);
    vmm_serial_unref(serial);
}

static void try_blob(const void *blob, size_t length)
{
    struct vmm_state_reader *r;
    struct vmm_error err = VMM_ERROR_INIT;
    if (vmm_state_reader_new(blob, length, &r, &err) < 0) {
        FUZZ_CHECK(err.code < 0 && err.text[0]);
        return;
    }
    walk(r);
    load_into_device(r);
    vmm_state_reader_free(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    size_t length = 0;
    uint8_t mode = fuzz_u8(&in) % 3;
    if (mode == 0) {
        void *copy = malloc(in.left + 1); /* of its own, so that its end is seen */
        memcpy(copy, in.data, in.left);
        try_blob(copy, in.left);
        free(copy);
        return 0;
    }
    uint8_t *blob = build(mode == 1 ? NULL : &in, &length);
    while (mode == 1 && in.left >= 3) {
        size_t at = ((size_t)fuzz_u8(&in) << 8 | fuzz_u8(&in)) % length;
        blob[at] = fuzz_u8(&in);
    }
    try_blob(blob, length);
    free(blob);
    return 0;
}
