/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * A SCSI disk and a CD-ROM, and any commands with any data, several under way at a time. Checked: each
 * ends once, with a sound status, and no more data than there is room for; the state saves and loads.
 */
#include "devices/storage/scsi.h"
#include "fuzz.h"

#include <libvmm/block-filters.h>

#include <stdlib.h>
#include <string.h>

#define UNITS 2u
#define DEPTH 4u

struct world {
    struct vmm_loop *loop;
    struct vmm_block *blocks[UNITS];
    struct vmm_scsi_unit *units[UNITS];
    struct slot {
        struct vmm_scsi_command c;
        struct iovec out[3], in[3];
        uint8_t data_out[1100], *data_in;
        bool busy;
    } slots[DEPTH];
};

static void done(struct vmm_scsi_command *c)
{
    struct slot *s = c->ctx;
    FUZZ_CHECK(s->busy);
    s->busy = false;
    FUZZ_CHECK(c->status == SCSI_GOOD || c->status == SCSI_CHECK_CONDITION);
    FUZZ_CHECK((c->status == SCSI_GOOD) == (c->sense_length == 0));
    FUZZ_CHECK(c->transferred <= c->in_length || c->transferred <= c->out_length);
    free(s->data_in);
    s->data_in = NULL;
}

static size_t cut(struct iovec *v, uint8_t *data, size_t length, size_t at)
{
    at = length ? at % (length + 1) : 0;
    v[0] = (struct iovec){data, at};
    v[1] = (struct iovec){data + at, length - at};
    return length ? 2 : 0;
}

static void command(struct world *w, struct fuzz_input *in)
{
    static const uint8_t codes[] = {0x00, 0x03, 0x08, 0x0a, 0x12, 0x1a, 0x1b, 0x1e,
                                    0x25, 0x28, 0x2a, 0x2f, 0x35, 0x41, 0x42, 0x43,
                                    0x46, 0x4a, 0x51, 0x5a, 0x88, 0x8a, 0x8f, 0x91,
                                    0x93, 0x9e, 0xa0, 0xa8, 0xaa, 0xbb, 0xbd};
    uint8_t how = fuzz_u8(in);
    struct slot *s = &w->slots[how % DEPTH];
    if (s->busy)
        return;
    memset(s->c.cdb, 0, sizeof(s->c.cdb));
    for (size_t i = 0; i < 16; i++)
        s->c.cdb[i] = fuzz_u8(in);
    if (how & 0x10)
        s->c.cdb[0] = codes[s->c.cdb[0] % sizeof(codes)];
    if (how & 0x20) /* addresses that are there */
        s->c.cdb[2] = s->c.cdb[3] = s->c.cdb[4] = 0;
    s->c.out_length = how & 0x40 ? fuzz_u32(in) % sizeof(s->data_out) : 0;
    s->c.in_length = fuzz_u32(in) % 5000;
    memset(s->data_out, 0, sizeof(s->data_out));
    for (size_t i = 0; i < 64 && i < s->c.out_length; i++)
        s->data_out[i] = fuzz_u8(in);
    s->data_in = malloc(s->c.in_length + 1);
    FUZZ_CHECK(s->data_in);
    s->c.out = s->out;
    s->c.in = s->in;
    s->c.out_count = cut(s->out, s->data_out, s->c.out_length, how);
    s->c.in_count = cut(s->in, s->data_in, s->c.in_length, how);
    s->c.absent = how & 0x80;
    s->c.done = done;
    s->c.ctx = s;
    s->busy = true;
    vmm_scsi_submit(w->units[how / DEPTH % UNITS], &s->c);
}

static void save_and_load(struct world *w)
{
    struct vmm_state_writer *writer;
    struct vmm_state_reader *reader;
    void *blob;
    size_t length;
    uint32_t state;
    FUZZ_CHECK(vmm_state_writer_new(&writer) == 0);
    for (uint32_t i = 0; i < UNITS; i++)
        FUZZ_CHECK(vmm_scsi_unit_save(w->units[i], i ? "b" : "a", writer) == 0);
    FUZZ_CHECK(vmm_state_writer_finish(writer, &blob, &length) == 0);
    vmm_state_writer_free(writer);
    FUZZ_CHECK(vmm_state_reader_new(blob, length, &reader, NULL) == 0);
    for (uint32_t i = 0; i < UNITS; i++) {
        bool open = w->units[i]->open;
        FUZZ_CHECK(vmm_scsi_unit_load(w->units[i], i ? "b" : "a", reader, &state, NULL) == 0);
        vmm_scsi_unit_take_over(w->units[i], state);
        FUZZ_CHECK(w->units[i]->open == open);
    }
    vmm_state_reader_free(reader);
    free(blob);
}

static void step(struct world *w, struct fuzz_input *in)
{
    uint8_t what = fuzz_u8(in);
    if (what < 0x20)
        vmm_loop_dispatch(w->loop, 0);
    else if (what < 0x24)
        vmm_scsi_unit_reset(w->units[what % UNITS], what & 2);
    else if (what < 0x26)
        save_and_load(w);
    else
        command(w, in);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct world w;
    struct fuzz_input in = {data, size};
    struct vmm_block_memory_options m = VMM_BLOCK_MEMORY_OPTIONS_INIT;
    memset(&w, 0, sizeof(w));
    FUZZ_CHECK(vmm_loop_new(NULL, &w.loop) == 0);
    m.length = 1 << 20;
    m.block_size = fuzz_u8(&in) & 1 ? 4096 : 512;
    for (uint32_t i = 0; i < UNITS; i++) {
        m.block_size = i ? 512 : m.block_size;
        FUZZ_CHECK(vmm_block_memory_new(w.loop, &m, &w.blocks[i], NULL) == 0);
        FUZZ_CHECK(vmm_scsi_unit_new(w.blocks[i], i, false, "fuzz", &w.units[i], NULL) == 0);
    }
    while (in.left > 0)
        step(&w, &in);
    for (uint32_t i = 0; i < UNITS; i++)
        vmm_block_drain(w.blocks[i]);
    for (uint32_t i = 0; i < DEPTH; i++)
        FUZZ_CHECK(!w.slots[i].busy);
    for (uint32_t i = 0; i < UNITS; i++) {
        vmm_scsi_unit_free(w.units[i]);
        vmm_block_unref(w.blocks[i]);
    }
    vmm_loop_unref(w.loop);
    return 0;
}
