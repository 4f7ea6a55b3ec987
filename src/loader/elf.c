/* SPDX-License-Identifier: BSD-3-Clause */
/* ELF executables: headers checked once, segments loaded by their physical addresses. */
#include "loader/elf.h"

#include "base/util.h"

#include <stdlib.h>

#define ELF_CLASS_32    1u
#define ELF_CLASS_64    2u
#define ELF_DATA_LITTLE 1u
#define ELF_TYPE_EXEC   2u
#define ELF_TYPE_DYN    3u

/* Notes are a few hundred bytes in real kernels. */
#define NOTES_MAX (1u << 20)

bool vmm_elf_magic(const uint8_t *head, size_t length)
{
    return length >= 4 && memcmp(head, "\177ELF", 4) == 0;
}

static int bad(const struct vmm_elf *elf, struct vmm_error *err, const char *field, uint64_t value,
               const char *why)
{
    return vmm_error_set(err, -ENOEXEC, "%s: ELF header: %s is 0x%llx: %s", elf->source->name,
                         field, (unsigned long long)value, why);
}

static int bad_segment(const struct vmm_elf *elf, struct vmm_error *err, uint32_t index,
                       const char *field, uint64_t value, const char *why)
{
    return vmm_error_set(err, -ENOEXEC, "%s: ELF program header %u: %s is 0x%llx: %s",
                         elf->source->name, index, field, (unsigned long long)value, why);
}

struct program_headers {
    uint64_t offset;
    uint32_t entry_size;
    uint32_t count;
};

static int read_file_header(struct vmm_elf *elf, struct program_headers *ph, struct vmm_error *err)
{
    uint8_t h[64];
    int rc = vmm_source_read(elf->source, 0, h, 52, "the ELF header", err);
    if (rc)
        return rc;
    if (!vmm_elf_magic(h, sizeof(h)))
        return vmm_error_set(err, -ENOEXEC, "%s: not an ELF file", elf->source->name);
    if (h[4] != ELF_CLASS_32 && h[4] != ELF_CLASS_64)
        return bad(elf, err, "e_ident[EI_CLASS]", h[4], "neither 32 nor 64 bits");
    elf->is64 = h[4] == ELF_CLASS_64;
    if (elf->is64) {
        rc = vmm_source_read(elf->source, 0, h, 64, "the ELF header", err);
        if (rc)
            return rc;
    }
    if (h[5] != ELF_DATA_LITTLE)
        return bad(elf, err, "e_ident[EI_DATA]", h[5], "not little-endian");
    if (h[6] != 1)
        return bad(elf, err, "e_ident[EI_VERSION]", h[6], "not 1");
    uint16_t type = vmm_load_le16(h + 16);
    if (type != ELF_TYPE_EXEC && type != ELF_TYPE_DYN)
        return bad(elf, err, "e_type", type, "not an executable");
    elf->machine = vmm_load_le16(h + 18);
    elf->entry = elf->is64 ? vmm_load_le64(h + 24) : vmm_load_le32(h + 24);
    ph->offset = elf->is64 ? vmm_load_le64(h + 32) : vmm_load_le32(h + 28);
    ph->entry_size = vmm_load_le16(h + (elf->is64 ? 54 : 42));
    ph->count = vmm_load_le16(h + (elf->is64 ? 56 : 44));
    if (ph->entry_size != (elf->is64 ? 56 : 32))
        return bad(elf, err, "e_phentsize", ph->entry_size, "not that of the class");
    if (ph->count == 0 || ph->count > VMM_ELF_SEGMENTS_MAX)
        return bad(elf, err, "e_phnum", ph->count, "not 1 to 256");
    if (!vmm_source_has(elf->source, ph->offset, (uint64_t)ph->count * ph->entry_size))
        return bad(elf, err, "e_phoff", ph->offset, "the program headers are not in the file");
    return 0;
}

static void decode_segment(const struct vmm_elf *elf, const uint8_t *p, struct vmm_elf_segment *s)
{
    s->type = vmm_load_le32(p);
    if (elf->is64) {
        s->offset = vmm_load_le64(p + 8);
        s->virtual_address = vmm_load_le64(p + 16);
        s->address = vmm_load_le64(p + 24);
        s->file_size = vmm_load_le64(p + 32);
        s->memory_size = vmm_load_le64(p + 40);
        s->align = vmm_load_le64(p + 48);
    } else {
        s->offset = vmm_load_le32(p + 4);
        s->virtual_address = vmm_load_le32(p + 8);
        s->address = vmm_load_le32(p + 12);
        s->file_size = vmm_load_le32(p + 16);
        s->memory_size = vmm_load_le32(p + 20);
        s->align = vmm_load_le32(p + 28);
    }
}

static int check_segment(struct vmm_elf *elf, const struct vmm_elf_segment *s,
                         struct vmm_error *err)
{
    if (!vmm_source_has(elf->source, s->offset, s->file_size))
        return bad_segment(elf, err, s->index, "p_offset + p_filesz", s->offset + s->file_size,
                           "beyond the end of the file");
    if (s->type != VMM_ELF_LOAD)
        return 0;
    if (s->file_size > s->memory_size)
        return bad_segment(elf, err, s->index, "p_filesz", s->file_size, "more than p_memsz");
    if (!vmm_range_ok(s->address, s->memory_size))
        return bad_segment(elf, err, s->index, "p_memsz", s->memory_size,
                           "wraps around from p_paddr");
    uint64_t last = s->address + (s->memory_size - 1);
    if (s->address < elf->low)
        elf->low = s->address;
    if (last > elf->last)
        elf->last = last;
    return 0;
}

static int read_segments(struct vmm_elf *elf, const struct program_headers *ph,
                         struct vmm_error *err)
{
    elf->segments = calloc(ph->count, sizeof(*elf->segments));
    if (!elf->segments)
        return vmm_error_set(err, -ENOMEM, "out of memory");
    elf->low = UINT64_MAX;
    bool loads = false;
    for (uint32_t i = 0; i < ph->count; i++) {
        uint8_t raw[56];
        int rc = vmm_source_read(elf->source, ph->offset + (uint64_t)i * ph->entry_size, raw,
                                 ph->entry_size, "an ELF program header", err);
        if (rc)
            return rc;
        struct vmm_elf_segment *s = &elf->segments[elf->segment_count];
        decode_segment(elf, raw, s);
        s->index = i;
        bool load = s->type == VMM_ELF_LOAD && (s->memory_size || s->file_size);
        if (!load && s->type != VMM_ELF_NOTE)
            continue;
        rc = check_segment(elf, s, err);
        if (rc)
            return rc;
        loads |= load;
        elf->segment_count++;
    }
    return loads ? 0
                 : vmm_error_set(err, -ENOEXEC, "%s: ELF: no PT_LOAD segment to load",
                                 elf->source->name);
}

int vmm_elf_open(struct vmm_elf *elf, const struct vmm_source *source, struct vmm_error *err)
{
    memset(elf, 0, sizeof(*elf));
    elf->source = source;
    struct program_headers ph = {0, 0, 0};
    int rc = read_file_header(elf, &ph, err);
    if (!rc)
        rc = read_segments(elf, &ph, err);
    if (rc)
        vmm_elf_close(elf);
    return rc;
}

void vmm_elf_close(struct vmm_elf *elf)
{
    free(elf->segments);
    memset(elf, 0, sizeof(*elf));
}

int vmm_elf_physical_entry(const struct vmm_elf *elf, uint64_t *entry, struct vmm_error *err)
{
    for (int pass = 0; pass < 2; pass++) /* physical first: that is what kernels mostly have */
        for (size_t i = 0; i < elf->segment_count; i++) {
            const struct vmm_elf_segment *s = &elf->segments[i];
            uint64_t start = pass == 0 ? s->address : s->virtual_address;
            if (s->type == VMM_ELF_LOAD && elf->entry >= start &&
                elf->entry - start < s->memory_size) {
                *entry = s->address + (elf->entry - start);
                return 0;
            }
        }
    return bad(elf, err, "e_entry", elf->entry, "in no PT_LOAD segment");
}

int vmm_elf_claim(const struct vmm_elf *elf, struct vmm_layout *layout, uint64_t delta,
                  struct vmm_error *err)
{
    for (size_t i = 0; i < elf->segment_count; i++) {
        const struct vmm_elf_segment *s = &elf->segments[i];
        if (s->type != VMM_ELF_LOAD)
            continue;
        int rc = vmm_layout_claim(layout, s->address + delta, s->memory_size, err,
                                  "ELF segment %u (p_paddr, p_memsz)", s->index);
        if (rc)
            return rc;
    }
    return 0;
}

int vmm_elf_load(const struct vmm_elf *elf, struct vmm_memory *memory, uint64_t delta,
                 struct vmm_error *err)
{
    for (size_t i = 0; i < elf->segment_count; i++) {
        const struct vmm_elf_segment *s = &elf->segments[i];
        if (s->type != VMM_ELF_LOAD)
            continue;
        int rc = vmm_source_load(elf->source, s->offset, s->file_size, memory, s->address + delta,
                                 "an ELF segment", err);
        if (rc)
            return rc;
        rc = vmm_memory_fill(memory, s->address + delta + s->file_size, 0,
                             s->memory_size - s->file_size);
        if (rc)
            return vmm_error_set(err, rc, "ELF segment %u: cannot be written", s->index);
    }
    return 0;
}

/* Look through the notes in `data`. 1: found. */
static int search_notes(const struct vmm_elf *elf, const struct vmm_elf_segment *s,
                        const uint8_t *data, size_t size, const char *name, uint32_t type,
                        const uint8_t **found, size_t *length, struct vmm_error *err)
{
    /* 4 in practice for both classes; 8 only where the segment says so. */
    size_t align = s->align == 8 ? 8 : 4;
    size_t name_size = strlen(name) + 1;
    size_t at = 0;
    while (size - at >= 12) {
        size_t n = vmm_load_le32(data + at), d = vmm_load_le32(data + at + 4);
        uint32_t t = vmm_load_le32(data + at + 8);
        at += 12;
        if (n > size - at)
            return bad_segment(elf, err, s->index, "a note's n_namesz", n, "beyond the segment");
        const uint8_t *note_name = data + at;
        size_t padded = vmm_align_up(at + n, align);
        if (padded > size || d > size - padded)
            return bad_segment(elf, err, s->index, "a note's n_descsz", d, "beyond the segment");
        if (t == type && n == name_size && memcmp(note_name, name, n) == 0) {
            *found = data + padded;
            *length = d;
            return 1;
        }
        at = vmm_align_up(padded + d, align);
        if (at > size)
            break;
    }
    return 0;
}

int vmm_elf_note(const struct vmm_elf *elf, const char *name, uint32_t type, uint8_t *data,
                 size_t room, size_t *length, struct vmm_error *err)
{
    for (size_t i = 0; i < elf->segment_count; i++) {
        const struct vmm_elf_segment *s = &elf->segments[i];
        if (s->type != VMM_ELF_NOTE || s->file_size == 0)
            continue;
        if (s->file_size > NOTES_MAX)
            return bad_segment(elf, err, s->index, "p_filesz", s->file_size,
                               "too much for notes (at most 1 MiB)");
        size_t size = (size_t)s->file_size;
        uint8_t *notes = malloc(size);
        if (!notes)
            return vmm_error_set(err, -ENOMEM, "out of memory");
        const uint8_t *found = NULL;
        int rc = vmm_source_read(elf->source, s->offset, notes, size, "the ELF notes", err);
        if (!rc)
            rc = search_notes(elf, s, notes, size, name, type, &found, length, err);
        if (rc == 1)
            memcpy(data, found, *length < room ? *length : room);
        free(notes);
        if (rc)
            return rc < 0 ? rc : 0;
    }
    return -ENOENT;
}
