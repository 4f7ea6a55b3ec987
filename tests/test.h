/* SPDX-License-Identifier: BSD-3-Clause */
/* CMocka with the headers it needs first; every test program includes this one. */
#ifndef TESTS_TEST_H
#define TESTS_TEST_H

/* The order matters to CMocka. */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */

#include <stdio.h>
#include <stdlib.h>

/* End the program as skipped (Meson: exit status 77), saying what is missing. */
#define TEST_SKIP(...)                                                                             \
    do {                                                                                           \
        fprintf(stderr, "SKIP: " __VA_ARGS__);                                                     \
        fputc('\n', stderr);                                                                       \
        exit(77);                                                                                  \
    } while (0)

/* ThreadSanitizer keeps most of the address space for itself: TEST_UNDER_TSAN is 1 there. */
#if defined(__SANITIZE_THREAD__)
#define TEST_UNDER_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define TEST_UNDER_TSAN 1
#endif
#endif
#ifndef TEST_UNDER_TSAN
#define TEST_UNDER_TSAN 0
#endif

#endif
