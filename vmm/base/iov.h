/* SPDX-License-Identifier: Apache-2.0 */
/* Buffers in pieces: guests and readv(2) describe memory as lists of iovecs. */
#ifndef VMM_BASE_IOV_H
#define VMM_BASE_IOV_H

#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

/*
 * A chain of buffers that a driver gave a device: readable ones first,
 * iov[0..nout), then writable ones, iov[nout..nout + nin). The caller of
 * vq_pop() provides IOV and IOV_MAX; the buffers are in guest RAM and may
 * change under the device at any time.
 */
struct iov_chain {
	struct iovec *iov;
	unsigned iov_max;
	unsigned nout, nin;
	uint32_t out_bytes, in_bytes; /* sums; a chain over 4 GiB is refused */
	uint16_t head;                /* the queue's: the first descriptor */
};

/*
 * Copies between a flat buffer and iovecs, from byte OFFSET of the iovecs on:
 * no device assumes how a driver splits its buffers (2.6.4). The number of
 * bytes copied, less than LEN where the iovecs end.
 */
size_t iov_read(const struct iovec *iov, unsigned niov, size_t offset,
		void *buf, size_t len);
size_t iov_write(const struct iovec *iov, unsigned niov, size_t offset,
		 const void *buf, size_t len);
/*
 * Drops OFFSET bytes from the front and keeps at most LEN: fills RET (room for
 * NIOV) and returns how many iovecs it took.
 */
unsigned iov_slice(const struct iovec *iov, unsigned niov, size_t offset,
		   size_t len, struct iovec *ret);

#endif
