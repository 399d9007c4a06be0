/* SPDX-License-Identifier: Apache-2.0 */
/* SHA-256 (FIPS 180-4), and digests as images write them. No keyed use. */
#ifndef TOOLS_IMAGE_SHA256_H
#define TOOLS_IMAGE_SHA256_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32
#define SHA256_HEX   65 /* with the final NUL */

struct sha256 {
	uint32_t state[8];
	uint64_t bytes;
	uint8_t block[64]; /* bytes % 64 of them are filled */
};

void sha256_init(struct sha256 *hash);
void sha256_update(struct sha256 *hash, const void *data, size_t bytes);
/* Ends it: the hash must be initialized again. Lower case. */
void sha256_final_hex(struct sha256 *hash, char ret_hex[SHA256_HEX]);

/* All at once. */
void sha256_hex(const void *data, size_t bytes, char ret_hex[SHA256_HEX]);

#endif
