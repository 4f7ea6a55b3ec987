/* SPDX-License-Identifier: BSD-3-Clause */
/* The boards that arm64 has. */
#include "machine/internal.h"

extern const struct vmm_board vmm_board_micro;

const struct vmm_board *const vmm_arch_boards[] = {&vmm_board_micro, NULL};
const char *const vmm_arch_board_names[] = {"micro", NULL};
