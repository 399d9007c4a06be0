/* SPDX-License-Identifier: Apache-2.0 */
/*
 * By sysfs (Linux: Documentation/driver-api/driver-model/binding.rst): a
 * device's name that is written to its driver's `bind` is probed once more,
 * which ends with ENODEV where no device has come.
 */
#include "firmware/init/slots.h"

#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEVICES "bus/platform/devices"
#define DRIVER  "bus/platform/drivers/virtio-mmio"

/* 0 or -errno. */
static int write_name(int sys, const char *file, const char *name)
{
	autofd int fd = openat(sys, file, O_WRONLY | O_CLOEXEC);

	return fd < 0 || write(fd, name, strlen(name)) < 0 ? -errno : 0;
}

static bool is_bound(int sys, const char *name)
{
	char path[NAME_MAX + 64];

	snprintf(path, sizeof(path), DEVICES "/%s/driver", name);
	return faccessat(sys, path, F_OK, 0) == 0;
}

/* The kernel refuses what is no device for that driver, with ENODEV, too. */
int slots_take(int sys, struct init_failure *f)
{
	const int fd = openat(sys, DEVICES, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	int r = 0;

	if (!dir)
		return init_fail_path(f, errno, "open", "/sys/" DEVICES);
	while (r == 0 && (entry = readdir(dir))) {
		if (entry->d_name[0] == '.' || is_bound(sys, entry->d_name))
			continue;
		r = write_name(sys, DRIVER "/bind", entry->d_name);
		if (r == -ENODEV)
			r = 0;
		else if (r < 0)
			r = init_fail(f, INIT_STATUS_SETUP, -r,
				      "start device '%s'", entry->d_name);
	}
	closedir(dir);
	return r;
}

/* ".../PLACE/virtioN/net/NAME": the place's name, cut out of PATH. */
static const char *place_of(char *path)
{
	char *end = strstr(path, "/virtio"), *next;

	/* The last one: the place's own name may begin like that. */
	while (end && (next = strstr(end + 1, "/virtio")))
		end = next;
	if (!end)
		return NULL;
	*end = '\0';
	return strrchr(path, '/') ? strrchr(path, '/') + 1 : NULL;
}

int slots_release(int sys, const char *name)
{
	char link[64], path[PATH_MAX];
	const char *place;
	ssize_t n;
	int r;

	snprintf(link, sizeof(link), "class/net/%s", name);
	n = readlinkat(sys, link, path, sizeof(path) - 1);
	if (n < 0)
		return -errno;
	path[n] = '\0';
	place = place_of(path);
	if (!place)
		return -ENOTSUP;
	r = write_name(sys, DRIVER "/unbind", place);
	return r == -ENODEV ? -ENOTSUP : r;
}
