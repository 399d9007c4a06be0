/* SPDX-License-Identifier: Apache-2.0 */
/* Copies of descriptors at the numbers 0, 1 and 2. */
#include "vmm/base/streams.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

/* Out of the way of the numbers that are given away. */
static int copy_of(int from)
{
	autofd int null_fd = -1;
	int copy;

	if (from == STREAM_NULL) {
		null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
		if (null_fd < 0)
			return -errno;
		from = null_fd;
	}
	copy = fcntl(from, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	return copy < 0 ? -errno : copy;
}

int streams_set(const int from[3])
{
	int copy[3] = {-1, -1, -1};
	int r = 0;

	for (int i = 0; i < 3 && r >= 0; i++)
		if (from[i] != STREAM_KEEP)
			r = copy[i] = copy_of(from[i]);
	for (int i = 0; i < 3; i++) {
		if (r >= 0 && copy[i] >= 0 && dup2(copy[i], i) < 0)
			r = -errno;
		util_close(&copy[i]);
	}
	return r < 0 ? r : 0;
}

int streams_detach(const int from[3])
{
	return setsid() < 0 ? -errno : streams_set(from);
}
