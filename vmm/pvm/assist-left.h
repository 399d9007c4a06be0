/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Counts what the interpreter leaves to KVM, by cause and by instruction: each
 * of these costs a thousand instructions' time.
 */
#ifndef VMM_PVM_ASSIST_LEFT_H
#define VMM_PVM_ASSIST_LEFT_H

#include "vmm/pvm/interp.h"

#include <stdint.h>

#define LEFT_BYTES 4 /* of the instruction, which are enough */

/* One per vCPU. Zeroed at first. */
struct left {
	uint64_t cause[INTERP_CAUSES];
	uint32_t opcode[2][256]; /* of one byte, and after 0F */
};

/* The instruction that begins with CODE is left to KVM for that CAUSE. */
void left_count(struct left *left, enum interp_cause cause,
		const uint8_t code[LEFT_BYTES]);

/* The causes, and the commonest instructions, at level debug. Main thread. */
void left_log(const struct left *left, unsigned vcpu);

#endif
