/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Power cuts: what an image's file was asked to do is logged, and cut off at every point; of what was
 * not flushed by then, sectors are lost at random. Each time the image must check clean but for lost
 * space, every flushed byte must be there, and a sector must never hold what was not written to it.
 */
#include "qcow2-model.h"

#define DISK (512u << 10)

/* What was written to a sector, in order. */
struct version {
    uint64_t tag;
    uint64_t submitted; /* the log's length then: in the file it is later */
    uint64_t done;      /* in events */
    bool any;           /* discarded */
    struct version *older;
};

struct confirmed {
    uint64_t submitted; /* in events */
    uint64_t at;        /* the log's length when it was done */
};

struct layout {
    const char *name;
    bool snapshots;
    struct vmm_qcow2_create_options create;
};

static const struct layout layouts[] = {
    {"4 KiB", false, {.cluster_size = 4096}},
    {"512 bytes", false, {.cluster_size = 512}}, /* tables grow all the time */
    {"version 2", false, {.cluster_size = 1024, .version = 2}},
    {"refcounts of 64 bits", false, {.cluster_size = 512, .refcount_bits = 64}},
    {"lazy", false, {.cluster_size = 2048, .flags = VMM_QCOW2_LAZY_REFCOUNTS}},
    {"subclusters", false, {.cluster_size = 16384, .flags = VMM_QCOW2_EXTENDED_L2}},
    {"backing file",
     false,
     {.cluster_size = 4096, .backing = "backing.raw", .backing_format = "raw"}},
    {"snapshots", true, {.cluster_size = 4096}},
    {"snapshots, 512 bytes", true, {.cluster_size = 512}},
    {"snapshots, version 2", true, {.cluster_size = 1024, .version = 2}},
    {"snapshots, lazy", true, {.cluster_size = 4096, .flags = VMM_QCOW2_LAZY_REFCOUNTS}},
};

struct cut {
    struct model m;
    uint64_t events;
    uint64_t submit_event[DEPTH], submit_log[DEPTH];
    struct version *sectors[DISK / SECTOR];
    struct confirmed flushes[4096];
    size_t flush_count;
    uint8_t *durable; /* the file as far as it is flushed */
    uint64_t durable_length;
    size_t applied; /* records that are in it */
};

static uint64_t tag_of(const uint8_t *sector)
{
    uint64_t tag;
    memcpy(&tag, sector, sizeof(tag));
    for (size_t i = sizeof(tag); i < SECTOR; i++)
        if (sector[i] != sector[SECTOR - 1])
            return UINT64_MAX; /* torn within the sector, or no sector of ours */
    return tag;
}

static void add_version(struct cut *c, uint64_t sector, uint64_t tag, uint64_t submitted, bool any)
{
    struct version *v = calloc(1, sizeof(*v));
    *v = (struct version){tag, submitted, c->events, any, c->sectors[sector]};
    c->sectors[sector] = v;
}

static void written(struct model *m, const struct flight *f)
{
    struct cut *c = (struct cut *)m;
    const struct vmm_block_request *r = &f->request;
    uint64_t submitted = c->submit_log[f - m->flights];
    c->events++;
    for (uint64_t i = 0; i < r->length; i += SECTOR)
        add_version(c, (r->offset + i) / SECTOR,
                    r->op == VMM_BLOCK_WRITE ? tag_of(f->buffer + i) : 0, submitted,
                    r->op == VMM_BLOCK_DISCARD);
}

static void flushed(struct model *m, const struct flight *f)
{
    struct cut *c = (struct cut *)m;
    c->events++;
    assert_true(c->flush_count < sizeof(c->flushes) / sizeof(c->flushes[0]));
    c->flushes[c->flush_count++] =
        (struct confirmed){c->submit_event[f - m->flights], m->file.record_count};
}

/* As model_run(), noting when each request was submitted. */
static void run_noting(struct cut *c, uint64_t count)
{
    struct model *m = &c->m;
    for (uint64_t n = 0; n < count; n++) {
        bool before[DEPTH];
        while (m->busy >= DEPTH / 2)
            assert_true(vmm_loop_dispatch(m->loop, 1000) > 0);
        for (int i = 0; i < DEPTH; i++)
            before[i] = m->flights[i].busy;
        uint64_t log = m->file.record_count;
        model_submit(m);
        for (int i = 0; i < DEPTH; i++)
            if (m->flights[i].busy && !before[i]) {
                c->submit_event[i] = c->events;
                c->submit_log[i] = log;
            }
        if (model_random(m, 3) == 0)
            assert_true(vmm_loop_dispatch(m->loop, 0) >= 0);
    }
    while (m->busy)
        assert_true(vmm_loop_dispatch(m->loop, 1000) > 0);
}

/* Snapshots made, gone back to and deleted in between. */
static void run_with_snapshots(struct cut *c, uint64_t count)
{
    struct model *m = &c->m;
    uint8_t *kept = malloc(DISK);
    run_noting(c, count / 4);
    model_verify(m); /* what was discarded is known now */
    memcpy(kept, m->data, DISK);
    assert_int_equal(vmm_qcow2_snapshot_create(m->block, "first", NULL), 0);
    run_noting(c, count / 4);
    assert_int_equal(vmm_qcow2_snapshot_create(m->block, "second", NULL), 0);
    run_noting(c, count / 4);
    uint64_t log = m->file.record_count;
    assert_int_equal(vmm_qcow2_snapshot_revert(m->block, "first", NULL), 0);
    memcpy(m->data, kept, DISK);
    memset(m->unknown, 0, DISK / SECTOR);
    c->events++;
    for (uint64_t s = 0; s < DISK / SECTOR; s++)
        add_version(c, s, tag_of(kept + s * SECTOR), log, false);
    c->flushes[c->flush_count++] = (struct confirmed){c->events, m->file.record_count};
    run_noting(c, count / 4);
    assert_int_equal(vmm_qcow2_snapshot_delete(m->block, "second", NULL), 0);
    free(kept);
}

/* Replaying ------------------------------------------------------------------------------------ */

static void make_room(uint8_t **data, uint64_t *length, uint64_t *room, uint64_t wanted)
{
    if (wanted > *room) {
        *data = realloc(*data, wanted);
        *room = wanted;
    }
    if (wanted > *length) {
        memset(*data + *length, 0, wanted - *length);
        *length = wanted;
    }
}

/* `chance` of 256 that a sector gets there. */
static void apply(struct cut *c, const struct record *r, struct memory *to, uint32_t chance)
{
    uint64_t *random = &c->m.random;
    if (r->flags & VMM_BLOCK_FUA)
        chance = 256;
    bool whole = memory_random(random) % 2;
    bool all = memory_random(random) % 256 < chance;
    if (r->op == MEMORY_RESIZE && (all || chance == 256))
        make_room(&to->data, &to->length, &to->room, r->length);
    if (r->op != VMM_BLOCK_WRITE && r->op != VMM_BLOCK_DISCARD)
        return;
    for (uint64_t i = 0; i < r->length; i += SECTOR) {
        if (whole ? !all : memory_random(random) % 256 >= chance)
            continue;
        make_room(&to->data, &to->length, &to->room, r->offset + i + SECTOR);
        if (r->op == VMM_BLOCK_WRITE)
            memcpy(to->data + r->offset + i, c->m.file.bytes + r->at + i, SECTOR);
        else
            memset(to->data + r->offset + i, 0xdd, SECTOR);
    }
}

/* The file after a cut behind `count` records. */
static void replay(struct cut *c, size_t count, struct memory *base, struct memory *to)
{
    size_t last = c->applied;
    for (size_t i = c->applied; i < count; i++)
        if (c->m.file.records[i].op == VMM_BLOCK_FLUSH)
            last = i + 1;
    for (; c->applied < last; c->applied++)
        apply(c, &c->m.file.records[c->applied], base, 256);
    to->length = 0;
    make_room(&to->data, &to->length, &to->room, base->length);
    memcpy(to->data, base->data, base->length);
    uint32_t chance = (uint32_t)(memory_random(&c->m.random) % 257);
    for (size_t i = last; i < count; i++)
        apply(c, &c->m.file.records[i], to, chance);
}

static bool may_hold(const struct cut *c, uint64_t sector, size_t count, uint64_t confirmed,
                     uint64_t tag)
{
    const struct version *v = c->sectors[sector];
    for (; v; v = v->older) {
        if (v->any || (v->submitted < count && v->tag == tag))
            return true;
        if (v->done <= confirmed)
            return false; /* nothing older may be there */
    }
    uint64_t at = sector * SECTOR;
    if (c->m.create.backing && at < c->m.backing.length)
        return tag == UINT64_MAX || tag == tag_of(c->m.backing.data + at);
    return tag == 0;
}

/* Marked so that its clusters are counted anew when it is opened. */
static bool is_dirty(const struct memory *file)
{
    return file->data[7] == 3 && (file->data[79] & 1);
}

static void look_at(struct cut *c, size_t count, struct memory *file)
{
    struct model copy = {.loop = c->m.loop, .file = *file, .create = c->m.create};
    struct vmm_qcow2_check_result result = VMM_QCOW2_CHECK_RESULT_INIT;
    struct vmm_error err = VMM_ERROR_INIT;
    uint64_t confirmed = 0;
    static uint8_t data[DISK];
    bool dirty = is_dirty(file);
    copy.backing = c->m.backing;
    for (size_t i = 0; i < c->flush_count; i++)
        if (c->flushes[i].at <= count && c->flushes[i].submitted > confirmed)
            confirmed = c->flushes[i].submitted;
    if (model_try_open(&copy, dirty ? 0 : VMM_QCOW2_READ_ONLY, &err))
        fail_msg("cut at %zu: %s", count, err.text);
    assert_int_equal(vmm_qcow2_check(copy.block, 0, &result, &err), 0);
    if (result.errors || (dirty && result.leaks))
        fail_msg("cut at %zu of %zu: %llu errors, %llu leaks", count, c->m.file.record_count,
                 (unsigned long long)result.errors, (unsigned long long)result.leaks);
    assert_int_equal(vmm_block_read(copy.block, 0, data, DISK), 0);
    for (uint64_t s = 0; s < DISK / SECTOR; s++)
        if (!may_hold(c, s, count, confirmed, tag_of(data + s * SECTOR))) {
            fprintf(stderr, "sector holds %016llx; confirmed to event %llu; written:\n",
                    (unsigned long long)tag_of(data + s * SECTOR), (unsigned long long)confirmed);
            for (const struct version *v = c->sectors[s]; v; v = v->older)
                fprintf(stderr, "  %016llx from record %llu on, done at event %llu%s\n",
                        (unsigned long long)v->tag, (unsigned long long)v->submitted,
                        (unsigned long long)v->done, v->any ? ", discarded" : "");
            fail_msg("cut at %zu of %zu: sector %llu holds what it must not", count,
                     c->m.file.record_count, (unsigned long long)s);
        }
    model_close(&copy);
    *file = copy.file; /* it may have been moved */
}

static char folder[] = "/tmp/libvmm-qcow2-XXXXXX";

static void ask_qemu(const struct cut *c, struct memory *file, size_t count)
{
    char path[128], backing[128] = "/";
    snprintf(path, sizeof(path), "%s/cut.qcow2", folder);
    save_file(path, file->data, file->length);
    if (c->m.create.backing) {
        snprintf(backing, sizeof(backing), "%s/%s", folder, c->m.create.backing);
        save_file(backing, c->m.backing.data, c->m.backing.length);
    }
    int status = run_command("qemu-img check -f qcow2 %s > %s.log 2>&1", path, path);
    if (status != 0 && status != 3) { /* 3: leaks */
        (void)run_command("cat %s.log >&2", path);
        fail_msg("cut at %zu: qemu-img check says %d", count, status);
    }
    (void)run_command("rm -f %s %s.log", path, path);
    if (c->m.create.backing)
        unlink(backing);
}

static void cut_everywhere(void **state)
{
    struct cut *c = calloc(1, sizeof(*c));
    struct memory base = {0}, file = {0};
    const char *text;
    const struct layout *l = *state;
    c->m.create = l->create;
    c->m.written = written;
    c->m.flushed = flushed;
    text = getenv("LIBVMM_QCOW2_SEED");
    c->m.random = text ? strtoull(text, NULL, 0) | 1 : 0;
    text = getenv("LIBVMM_QCOW2_CUT_REQUESTS");
    uint64_t requests = text ? strtoull(text, NULL, 0) : 400;
    model_begin(&c->m, DISK);
    make_room(&base.data, &base.length, &base.room, c->m.file.length);
    memcpy(base.data, c->m.file.data, c->m.file.length);
    c->m.file.logging = true;
    (l->snapshots ? run_with_snapshots : run_noting)(c, requests);
    model_close(&c->m); /* it writes, too */
    assert_true(c->flush_count > 0);
    assert_true(c->m.file.record_count > requests / 4); /* else hardly anything was cut */
    /* qemu-img takes a count of two with a mark "used once" for an error. Within a snapshot's making
     * that is lost space at worst; version 3 is marked dirty meanwhile, version 2 cannot be. */
    for (size_t count = 0; count <= c->m.file.record_count; count++) {
        replay(c, count, &base, &file);
        if (have_qemu_img() && count % 97 == 0 && !is_dirty(&file) &&
            !(l->snapshots && l->create.version == 2))
            ask_qemu(c, &file, count);
        look_at(c, count, &file);
    }
    for (size_t i = 0; i < DISK / SECTOR; i++)
        while (c->sectors[i]) {
            struct version *older = c->sectors[i]->older;
            free(c->sectors[i]);
            c->sectors[i] = older;
        }
    model_end(&c->m);
    memory_free(&base);
    memory_free(&file);
    free(c);
}

int main(void)
{
    enum { count = sizeof(layouts) / sizeof(layouts[0]) };
    struct CMUnitTest tests[count];
    if (!mkdtemp(folder))
        return 1;
    if (!have_qemu_img())
        fprintf(stderr, "qemu-img is missing: the images are not checked by it\n");
    for (size_t i = 0; i < count; i++)
        tests[i] = (struct CMUnitTest){layouts[i].name, cut_everywhere, NULL, NULL,
                                       (void *)(uintptr_t)&layouts[i]};
    int failed = cmocka_run_group_tests_name("qcow2-powercut", tests, NULL, NULL);
    rmdir(folder);
    return failed;
}
