/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image should have no machine ID, or an empty one, but a container that
 * runs may have made it at its start, as systemd and dbus-uuidgen do: each of
 * its clones would have the same one.
 */
#include "firmware/init/machine-id.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#define DIGITS (2 * MACHINE_ID_BYTES)

/*
 * The first one that has an ID says which one the container has. systemd mounts
 * /run/machine-id on /etc/machine-id, for reading alone, where it cannot write
 * that; D-Bus' own is a link to it, or a copy.
 */
static const char *const places[] = {
	"etc/machine-id",
	"run/machine-id",
	"var/lib/dbus/machine-id",
};

static int open_place(int root, const char *path, int flags)
{
	return util_open_regular(root, path, flags | O_NOFOLLOW,
				 RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

static bool is_digit(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
}

/* "uninitialized", which systemd writes before the first boot, is none. */
static bool read_id(int root, const char *path, char id[DIGITS])
{
	autofd int fd = open_place(root, path, O_RDONLY);
	char text[DIGITS + 2];
	ssize_t n;

	if (fd < 0)
		return false;
	n = pread(fd, text, sizeof(text), 0);
	if (n < DIGITS || n > DIGITS + 1 ||
	    (n > DIGITS && text[DIGITS] != '\n'))
		return false;
	for (unsigned i = 0; i < DIGITS; i++) {
		if (!is_digit(text[i]))
			return false;
	}
	memcpy(id, text, DIGITS);
	return true;
}

/* The host's files are on shares, disks, or what a container has mounted. */
static bool is_guests(int fd)
{
	struct statfs fs;

	return fstatfs(fd, &fs) == 0 &&
	       (fs.f_type == OVERLAYFS_SUPER_MAGIC || fs.f_type == TMPFS_MAGIC);
}

/* Asked before it is opened for writing: that alone changes an overlay. */
static bool write_id(int root, const char *path, const char id[DIGITS])
{
	autofd int there =
		util_openat2(root, path, O_PATH | O_NOFOLLOW,
			     RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
	autofd int fd = -1;

	if (there < 0 || !is_guests(there))
		return false;
	fd = open_place(root, path, O_WRONLY);
	return fd >= 0 && is_guests(fd) && pwrite(fd, id, DIGITS, 0) == DIGITS;
}

/* As a random UUID (RFC 9562, 4), of which systemd's have the form. */
static void make_id(const uint8_t random[MACHINE_ID_BYTES], char id[DIGITS + 1])
{
	uint8_t uuid[MACHINE_ID_BYTES];

	memcpy(uuid, random, sizeof(uuid));
	uuid[6] = (uuid[6] & 0x0f) | 0x40;
	uuid[8] = (uuid[8] & 0x3f) | 0x80;
	for (unsigned i = 0; i < sizeof(uuid); i++)
		snprintf(id + (size_t)2 * i, 3, "%02x", uuid[i]);
}

unsigned machine_id_renew(int root, const uint8_t random[MACHINE_ID_BYTES])
{
	char before[DIGITS], there[DIGITS], id[DIGITS + 1];
	unsigned i = 0, written = 0;

	while (i < ARRAY_LEN(places) && !read_id(root, places[i], before))
		i++;
	make_id(random, id);
	for (; i < ARRAY_LEN(places); i++) {
		if (read_id(root, places[i], there) &&
		    memcmp(there, before, DIGITS) == 0)
			written += write_id(root, places[i], id);
	}
	return written;
}
