/* SPDX-License-Identifier: Apache-2.0 */
/* Copies to and from lists of iovecs, and parts of such lists. */
#include "vmm/base/iov.h"

#include "vmm/base/util.h"

#include <string.h>

size_t iov_read(const struct iovec *iov, unsigned niov, size_t offset,
		void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < niov && done < len; i++) {
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = min_u64(iov[i].iov_len - offset, len - done);
		memcpy((uint8_t *)buf + done,
		       (const uint8_t *)iov[i].iov_base + offset, n);
		done += n;
		offset = 0;
	}
	return done;
}

size_t iov_write(const struct iovec *iov, unsigned niov, size_t offset,
		 const void *buf, size_t len)
{
	size_t done = 0;

	for (unsigned i = 0; i < niov && done < len; i++) {
		size_t n;

		if (offset >= iov[i].iov_len) {
			offset -= iov[i].iov_len;
			continue;
		}
		n = min_u64(iov[i].iov_len - offset, len - done);
		memcpy((uint8_t *)iov[i].iov_base + offset,
		       (const uint8_t *)buf + done, n);
		done += n;
		offset = 0;
	}
	return done;
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
