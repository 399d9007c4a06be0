/* SPDX-License-Identifier: Apache-2.0 */
/* The file bulkhead-init of the build directory, put in by the assembler. */
#include "firmware/init/program.h"

#include <stdint.h>

__asm__(".pushsection .rodata\n"
	".hidden init_program_file, init_program_bytes\n"
	".global init_program_file, init_program_bytes\n"
	".balign 16\n"
	"init_program_file:\n"
	".incbin \"bulkhead-init\"\n"
	".balign 8\n"
	"init_program_bytes:\n"
	".quad init_program_bytes - init_program_file\n"
	".popsection\n");

extern const uint8_t init_program_file[] __attribute__((visibility("hidden")));
extern const uint64_t init_program_bytes __attribute__((visibility("hidden")));

const void *init_program(size_t *ret_bytes)
{
	/* Up to 7 bytes of padding count: an ELF file may end in anything. */
	*ret_bytes = (size_t)init_program_bytes;
	return init_program_file;
}
