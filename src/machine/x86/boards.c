/* SPDX-License-Identifier: BSD-3-Clause */
/* The boards that x86 has. */
#include "machine/internal.h"

extern const struct vmm_board vmm_board_micro;
extern const struct vmm_board vmm_board_pc;
extern const struct vmm_board vmm_board_q35;

const struct vmm_board *const vmm_arch_boards[] = {&vmm_board_micro, &vmm_board_pc, &vmm_board_q35,
                                                   NULL};
const char *const vmm_arch_board_names[] = {"micro", "pc", "q35", NULL};
