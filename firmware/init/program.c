/* SPDX-License-Identifier: Apache-2.0 */
/* The file bulkhead-init of the build directory, put in by the assembler. */
#include "firmware/init/program.h"

#include <stdint.h>

__asm__(".pushsection .rodata\n"
	".balign 16\n"
	".hidden init_program_start, init_program_end\n"
	".global init_program_start, init_program_end\n"
	"init_program_start:\n"
	".incbin \"bulkhead-init\"\n"
	"init_program_end:\n"
	".popsection\n");

extern const uint8_t init_program_start[],
	init_program_end[] __attribute__((visibility("hidden")));

const void *init_program(size_t *ret_bytes)
{
	*ret_bytes = (size_t)(init_program_end - init_program_start);
	return init_program_start;
}
