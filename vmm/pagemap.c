/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/pagemap.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PARTS _LINUX_CAPABILITY_U32S_3

int pagemap_open(void)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct had[PARTS], none[PARTS];
	int fd, error;

	if (syscall(SYS_capget, &header, had) < 0)
		return -errno;
	for (unsigned i = 0; i < PARTS; i++) {
		none[i] = had[i];
		none[i].effective = 0;
	}
	if (syscall(SYS_capset, &header, none) < 0)
		return -errno;
	fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	error = errno;
	if (syscall(SYS_capset, &header, had) < 0) {
		error = errno;
		util_close(&fd);
	}
	return fd < 0 ? -error : fd;
}
