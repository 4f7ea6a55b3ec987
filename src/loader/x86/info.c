/* SPDX-License-Identifier: BSD-3-Clause */
/* Modules in guest memory, and the information structures that speak of them. */
#include "loader/x86/info.h"

#include "base/util.h"

#include <stdio.h>
#include <stdlib.h>

#define MODULES_LOW 0x100000u

static int load_module(struct vmm_load *load, const struct vmm_source *source, uint64_t low,
                       const char *name, struct vmm_x86_module *module)
{
    /* Not on the last page: the end, exclusive, must fit in 32 bits. */
    struct vmm_place place = {source->length, 4096, low, VMM_X86_4G_END - 4096, false};
    int rc = vmm_layout_find(&load->layout, &place, &module->address, NULL, "%s", name);
    if (rc == -ENOMEM) { /* a kernel at the top of memory: below it then */
        place.low = MODULES_LOW;
        rc = vmm_layout_find(&load->layout, &place, &module->address, load->err, "%s", name);
    }
    if (!rc)
        rc = vmm_source_load(source, 0, source->length, load->memory, module->address, name,
                             load->err);
    module->length = source->length;
    return rc;
}

static int open_and_load(struct vmm_load *load, size_t index, uint64_t low,
                         struct vmm_x86_module *module)
{
    const struct vmm_kernel_module *given = &load->options.modules[index];
    char name[32];
    (void)snprintf(name, sizeof(name), "module %zu", index);
    if (!vmm_file_given(&given->file))
        return vmm_error_set(load->err, -EINVAL, "%s: no file is given", name);
    module->command_line = given->command_line ? given->command_line : "";
    size_t length = strlen(module->command_line);
    if (length > VMM_KERNEL_COMMAND_LINE_MAX)
        return vmm_error_set(load->err, -E2BIG, "%s: a command line of %zu characters, at most %u",
                             name, length, VMM_KERNEL_COMMAND_LINE_MAX);
    struct vmm_source source;
    int rc = vmm_source_open(&source, name, &given->file, load->err);
    if (!rc)
        rc = load_module(load, &source, low, name, module);
    vmm_source_close(&source);
    return rc;
}

int vmm_x86_load_modules(struct vmm_load *load, uint64_t low, struct vmm_x86_modules *modules)
{
    modules->count = 0;
    int rc = 0;
    if (low < MODULES_LOW)
        low = MODULES_LOW;
    if (load->initrd.length) {
        struct vmm_x86_module *m = &modules->entries[modules->count++];
        m->command_line = "";
        rc = load_module(load, &load->initrd, low, "initrd", m);
        load->state.initrd_address = m->address;
        load->state.initrd_length = m->length;
    }
    for (size_t i = 0; i < load->options.module_count && !rc; i++)
        rc = open_and_load(load, i, low, &modules->entries[modules->count++]);
    return rc;
}

int vmm_x86_blob_new(struct vmm_load *load, struct vmm_x86_blob *blob, size_t room,
                     const char *name)
{
    memset(blob, 0, sizeof(*blob));
    blob->data = calloc(1, room);
    if (!blob->data)
        return vmm_error_set(load->err, -ENOMEM, "out of memory");
    blob->room = room;
    int rc = vmm_x86_place(load, room, 16, false, &blob->address, name);
    if (rc)
        vmm_x86_blob_free(blob);
    return rc;
}

void vmm_x86_blob_free(struct vmm_x86_blob *blob)
{
    free(blob->data);
    blob->data = NULL;
}

uint8_t *vmm_x86_blob_take(struct vmm_x86_blob *blob, size_t length, size_t align,
                           uint64_t *address)
{
    size_t at = vmm_align_up(blob->length, align);
    blob->length = at + length;
    if (address)
        *address = blob->address + at;
    return blob->data + at;
}

uint64_t vmm_x86_blob_text(struct vmm_x86_blob *blob, const char *text)
{
    uint64_t address;
    size_t size = strlen(text) + 1;
    memcpy(vmm_x86_blob_take(blob, size, 1, &address), text, size);
    return address;
}

int vmm_x86_blob_write(struct vmm_load *load, const struct vmm_x86_blob *blob, const char *name)
{
    return vmm_load_write(load, blob->address, blob->data, blob->length, name);
}

size_t vmm_x86_texts_size(const struct vmm_load *load, const struct vmm_x86_modules *modules)
{
    size_t size = strlen(load->command_line) + 1;
    for (size_t i = 0; i < modules->count; i++)
        size += strlen(modules->entries[i].command_line) + 1;
    return size;
}

int vmm_x86_refuse_setup_data(struct vmm_load *load)
{
    if (load->options.device_tree)
        return vmm_error_set(
            load->err, -EINVAL,
            "device tree: only Linux's boot protocol (bzimage, linux64) passes it");
    return 0;
}
