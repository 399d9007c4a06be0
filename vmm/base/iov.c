/* SPDX-License-Identifier: Apache-2.0 */
/* Copies to and from lists of iovecs, and parts of such lists. */
#include "vmm/base/iov.h"

#include "vmm/base/util.h"

#include <string.h>

/*
 * One of TO and FROM is NULL: that side is the list's, the other one LEN bytes.
 * Bytes of it done.
 */
static size_t copy(const struct iovec *iov, unsigned niov, size_t offset,
		   uint8_t *to, const uint8_t *from, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < niov && done < len; i++) {
		uint8_t *at = iov[i].iov_base;
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = min_u64(iov[i].iov_len - offset, len - done);
		if (to)
			memcpy(to + done, at + offset, n);
		else
			memcpy(at + offset, from + done, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t iov_read(const struct iovec *iov, unsigned niov, size_t offset,
		void *buf, size_t len)
{
	return copy(iov, niov, offset, buf, NULL, len);
}

size_t iov_write(const struct iovec *iov, unsigned niov, size_t offset,
		 const void *buf, size_t len)
{
	return copy(iov, niov, offset, NULL, buf, len);
}

unsigned iov_slice(const struct iovec *iov, unsigned niov, size_t offset,
		   size_t len, struct iovec *ret)
{
	unsigned taken = 0;

	for (unsigned i = 0; i < niov && len > 0; i++) {
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = min_u64(iov[i].iov_len - offset, len);
		ret[taken++] = (struct iovec){
			.iov_base = (uint8_t *)iov[i].iov_base + offset,
			.iov_len = n,
		};
		len -= n;
		offset = 0;
	}
	return taken;
}
