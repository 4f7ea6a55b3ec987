/* SPDX-License-Identifier: BSD-3-Clause */
/* The text of a failure, and messages to the embedder's log. */
#include <libvmm/error.h>
#include <libvmm/log.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* vsnprintf cuts anywhere; take back the lead and continuation bytes of a half UTF-8 character. */
static void trim_partial_character(char *text, size_t size)
{
    size_t n = strnlen(text, size);
    if (n + 1 < size)
        return;
    size_t lead = n;
    while (lead > 0 && ((unsigned char)text[lead - 1] & 0xc0) == 0x80)
        lead--;
    if (lead > 0 && ((unsigned char)text[lead - 1] & 0xc0) == 0xc0) {
        unsigned char c = (unsigned char)text[lead - 1];
        size_t want = c >= 0xf0 ? 4 : c >= 0xe0 ? 3 : 2;
        if (n - (lead - 1) < want)
            text[lead - 1] = '\0';
    }
}

int vmm_error_set(struct vmm_error *err, int code, const char *format, ...)
{
    if (err) {
        va_list args;
        va_start(args, format);
        err->code = code;
        err->reserved = 0;
        (void)vsnprintf(err->text, sizeof(err->text), format, args);
        trim_partial_character(err->text, sizeof(err->text));
        va_end(args);
    }
    return code;
}

void vmm_error_prefix(struct vmm_error *err, const char *format, ...)
{
    if (!err)
        return;
    char text[VMM_ERROR_TEXT_SIZE * 2];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, VMM_ERROR_TEXT_SIZE, format, args);
    va_end(args);
    if (n < 0)
        return;
    size_t used = strnlen(text, VMM_ERROR_TEXT_SIZE);
    (void)snprintf(text + used, sizeof(text) - used, ": %s", err->text);
    memcpy(err->text, text, sizeof(err->text) - 1);
    err->text[sizeof(err->text) - 1] = '\0';
    trim_partial_character(err->text, sizeof(err->text));
}

void vmm_log_write(const struct vmm_log *log, uint32_t level, const char *component,
                   const char *format, ...)
{
    if (!log || !log->write || level > (log->level ? log->level : VMM_LOG_WARN))
        return;
    char text[VMM_ERROR_TEXT_SIZE];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    trim_partial_character(text, sizeof(text));
    log->write(log->ctx, level, component, text);
}
