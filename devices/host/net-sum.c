/* SPDX-License-Identifier: Apache-2.0 */
/* The Internet's checksum over buffers in pieces (RFC 1071). */
#include "devices/host/net.h"

#include <string.h>

static uint16_t fold(uint64_t sum)
{
	while (sum >> 16)
		sum = (sum & UINT16_MAX) + (sum >> 16);
	return (uint16_t)sum;
}

static uint16_t sum_piece(const uint8_t *p, size_t bytes)
{
	uint64_t sum = 0;
	uint32_t word;

	/* No carry is lost below 16 GiB. */
	for (; bytes >= sizeof(word); bytes -= sizeof(word)) {
		memcpy(&word, p, sizeof(word));
		sum += word;
		p += sizeof(word);
	}
	word = 0;
	memcpy(&word, p, bytes);
	return fold(sum + word);
}

uint16_t net_sum(const struct iovec *iov, unsigned niov, size_t offset)
{
	uint64_t sum = 0;
	bool odd = false;

	for (unsigned i = 0; i < niov; i++) {
		uint16_t piece;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		piece = sum_piece((const uint8_t *)iov[i].iov_base + offset,
				  iov[i].iov_len - offset);
		/* A piece at an odd place has its words' halves exchanged. */
		sum += odd ? __builtin_bswap16(piece) : piece;
		odd ^= (iov[i].iov_len - offset) & 1;
		offset = 0;
	}
	return fold(sum);
}
