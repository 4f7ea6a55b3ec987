/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * Loaded before QEMU's libraries by nested-kvm: lets QEMU 7.2 survive guests that write CR8 while KVM waits
 * for an interrupt window, as UEFI firmware's interrupt handlers do. QEMU's emulation of SVM then calls
 * tcg_handle_interrupt() without the lock that it asserts; the interrupt it would note is noted since VMRUN.
 * So the assertion's report returns from that function to its caller. Every other one ends QEMU, as it should.
 */
#define UNW_LOCAL_ONLY
#include <libunwind.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* GLib's, which QEMU's g_assert() calls. */
void g_assertion_message_expr(const char *domain, const char *file, int line, const char *function,
                              const char *expression);

void g_assertion_message_expr(const char *domain, const char *file, int line, const char *function,
                              const char *expression)
{
    unw_context_t context;
    unw_cursor_t cursor;
    (void)domain;
    if (strcmp(function, "tcg_handle_interrupt") == 0 && unw_getcontext(&context) == 0 &&
        unw_init_local(&cursor, &context) == 0 && unw_step(&cursor) > 0 && unw_step(&cursor) > 0)
        (void)unw_resume(&cursor);
    fprintf(stderr, "%s:%d: %s: assertion failed: %s\n", file, line, function, expression);
    abort();
}
