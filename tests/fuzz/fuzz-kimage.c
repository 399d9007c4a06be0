/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the kernel loader: whatever the file says, it stays within RAM, and
 * what it accepts has an entry inside of what it loaded. The first byte chooses
 * the entry that is wanted.
 */
#include "vmm/kernel/kimage.h"
#include "vmm/base/util.h"

#include <stdlib.h>

#define RAM_BYTES (32 * MIB)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	/* From malloc(), so that a sanitizer guards both of its ends. */
	static uint8_t *ram;
	struct mem mem = {
		.region = {{
			.base = 0,
			.bytes = RAM_BYTES,
		}},
		.nregions = 1,
		.bytes = RAM_BYTES,
	};
	struct kimage image;

	if (!ram)
		ram = malloc(RAM_BYTES);
	if (!ram || size < 1)
		return 0;
	mem.region[0].host = ram;
	if (kimage_load_bytes(&image, data + 1, size - 1, data[0] % 3, &mem) <
	    0)
		return 0;
	if (image.start < MIB || image.end > RAM_BYTES ||
	    image.entry < image.start || image.entry >= image.end ||
	    image.header_bytes > KIMAGE_SETUP_HEADER_MAX || !image.kind)
		abort();
	return 0;
}
