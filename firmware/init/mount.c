/* SPDX-License-Identifier: Apache-2.0 */
/* The kernel's mount interface of descriptors, and openat2(). */
#include "firmware/init/mount.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPTIONS_MAX 4096
/* Links that lead nowhere, in a row; the kernel follows all others. */
#define LINKS_MAX 4

static const struct {
	const char *name;
	uint32_t set, clear;
} mount_words[] = {
	{"ro", MOUNT_ATTR_RDONLY, 0},
	{"rw", 0, MOUNT_ATTR_RDONLY},
	{"nosuid", MOUNT_ATTR_NOSUID, 0},
	{"suid", 0, MOUNT_ATTR_NOSUID},
	{"nodev", MOUNT_ATTR_NODEV, 0},
	{"dev", 0, MOUNT_ATTR_NODEV},
	{"noexec", MOUNT_ATTR_NOEXEC, 0},
	{"exec", 0, MOUNT_ATTR_NOEXEC},
	{"noatime", MOUNT_ATTR_NOATIME, MOUNT_ATTR__ATIME},
	{"strictatime", MOUNT_ATTR_STRICTATIME, MOUNT_ATTR__ATIME},
	{"relatime", 0, MOUNT_ATTR__ATIME},
	{"nodiratime", MOUNT_ATTR_NODIRATIME, 0},
	{"diratime", 0, MOUNT_ATTR_NODIRATIME},
	{"nosymfollow", MOUNT_ATTR_NOSYMFOLLOW, 0},
	{"symfollow", 0, MOUNT_ATTR_NOSYMFOLLOW},
};

static bool take_mount_word(const char *word, uint32_t *attributes)
{
	for (unsigned i = 0; i < ARRAY_LEN(mount_words); i++) {
		if (strcmp(word, mount_words[i].name) == 0) {
			*attributes &= ~mount_words[i].clear;
			*attributes |= mount_words[i].set;
			return true;
		}
	}
	return false;
}

/* TEXT is cut up. */
static int take_options(int fs, char *text, uint32_t *attributes)
{
	char *save = NULL;

	for (char *word = strtok_r(text, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		char *value = strchr(word, '=');
		int r;

		if (take_mount_word(word, attributes))
			continue;
		if (value)
			*value++ = 0;
		r = value ? fsconfig(fs, FSCONFIG_SET_STRING, word, value, 0)
			  : fsconfig(fs, FSCONFIG_SET_FLAG, word, NULL, 0);
		if (r < 0)
			return -errno;
	}
	return 0;
}

/* The kernel's own words on what is wrong come from the descriptor. */
static int fail_mount(int fs, const char *type, const char *source, int error,
		      struct init_failure *f)
{
	char why[256] = "";
	ssize_t n = fs < 0 ? 0 : read(fs, why, sizeof(why) - 1);

	if (n <= 2) { /* "e " and a text */
		why[0] = 0;
	} else {
		why[n] = 0;
		why[strcspn(why, "\n")] = 0;
	}
	return init_fail(f, INIT_STATUS_SETUP, error, "mount %s '%s'%s%s", type,
			 source, why[0] ? ": " : "", why[0] ? why + 2 : "");
}

int mount_make(const char *type, const char *source, const char *options,
	       struct init_failure *f)
{
	autofd int fs = fsopen(type, FSOPEN_CLOEXEC);
	char text[OPTIONS_MAX] = "";
	uint32_t attributes = 0;
	int r = 0;
	int fd;

	if (fs < 0)
		return fail_mount(fs, type, source, errno, f);
	if (options && strlen(options) >= sizeof(text))
		return fail_mount(-1, type, source, E2BIG, f);
	if (options)
		strcpy(text, options);
	if (fsconfig(fs, FSCONFIG_SET_STRING, "source", source, 0) < 0)
		r = -errno;
	if (r == 0)
		r = take_options(fs, text, &attributes);
	if (r == 0 && fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
		r = -errno;
	if (r < 0)
		return fail_mount(fs, type, source, -r, f);
	fd = fsmount(fs, FSMOUNT_CLOEXEC, attributes);
	return fd < 0 ? fail_mount(fs, type, source, errno, f) : fd;
}

int mount_copy(int fd, bool recursive)
{
	int copy =
		open_tree(fd, "",
			  AT_EMPTY_PATH | OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC |
				  (recursive ? AT_RECURSIVE : 0));

	return copy < 0 ? -errno : copy;
}

int mount_attach(int mount, int target)
{
	return move_mount(mount, "", target, "",
			  MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH) < 0
		       ? -errno
		       : 0;
}

int mount_attach_at(int mount, const char *path, struct init_failure *f)
{
	autofd int fd = -1;
	int r;

	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return init_fail_path(f, errno, "make directory", path);
	fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return init_fail_path(f, errno, "open", path);
	r = mount_attach(mount, fd);
	return r < 0 ? init_fail_path(f, -r, "mount on", path) : 0;
}

int mount_set(int mount, uint64_t attributes)
{
	struct mount_attr attr = {.attr_set = attributes};

	return mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0
		       ? -errno
		       : 0;
}

int mount_set_options(int mount, const char *options)
{
	struct mount_attr attr = {.attr_clr = MOUNT_ATTR__ATIME};
	char text[OPTIONS_MAX], *save = NULL;
	uint32_t attributes = 0;

	if (strlen(options) >= sizeof(text))
		return -E2BIG;
	strcpy(text, options);
	for (char *word = strtok_r(text, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		if (!take_mount_word(word, &attributes))
			return -EINVAL;
	}
	attr.attr_set = attributes;
	return mount_setattr(mount, "", AT_EMPTY_PATH, &attr, sizeof(attr)) < 0
		       ? -errno
		       : 0;
}

int root_open(int root, const char *path, int flags)
{
	return util_openat2(root, path, flags,
			    RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

int root_open_source(int share, const char *path)
{
	const char *in_share = path[0] ? path : "/";
	const int fd = root_open(share, in_share, O_PATH | O_DIRECTORY);

	return fd == -ENOTDIR ? root_open(share, in_share, O_PATH) : fd;
}

static int make_path(int root, const char *path, bool directory,
		     unsigned links);

/* PATH, which exists, is a link to what does not: makes that. 0 or -errno. */
static int make_link_target(int root, int parent, const char *path,
			    bool directory, unsigned links)
{
	const char *name = strrchr(path, '/') + 1;
	char link[PATH_MAX], target[PATH_MAX];
	ssize_t n = readlinkat(parent, name, link, sizeof(link) - 1);
	int r;

	if (n < 0)
		return errno == EINVAL ? -EEXIST : -errno;
	if (links == 0)
		return -ELOOP;
	link[n] = 0;
	r = snprintf(target, sizeof(target), "%.*s%s",
		     link[0] == '/' ? 0 : (int)(name - path), path, link);
	if (r >= PATH_MAX)
		return -ENAMETOOLONG;
	r = make_path(root, target, directory, links - 1);
	if (r < 0)
		return r;
	close(r);
	return 0;
}

/* Makes the last component of PATH, whose directory exists. 0 or -errno. */
static int make_one(int root, char *path, bool directory, unsigned links)
{
	char *slash = strrchr(path, '/');
	autofd int parent = -1;
	int r;

	*slash = 0;
	parent = root_open(root, path[0] ? path : "/", O_PATH | O_DIRECTORY);
	*slash = '/';
	if (parent < 0)
		return parent;
	if (directory)
		r = mkdirat(parent, slash + 1, 0755);
	else
		r = mknodat(parent, slash + 1, S_IFREG | 0644, 0);
	if (r < 0 && errno == EEXIST)
		return make_link_target(root, parent, path, directory, links);
	return r < 0 ? -errno : 0;
}

static int make_path(int root, const char *path, bool directory, unsigned links)
{
	char prefix[PATH_MAX];
	int all = root_open(root, path, O_PATH);
	size_t n = 0;

	/* Most often there is nothing to make. */
	if (all != -ENOENT)
		return all;
	if (snprintf(prefix, sizeof(prefix), "/%s", path) >= PATH_MAX)
		return -ENAMETOOLONG;
	for (;;) {
		bool last;
		char saved;
		int fd, r;

		n += strspn(prefix + n, "/");
		n += strcspn(prefix + n, "/");
		last = prefix[n + strspn(prefix + n, "/")] == 0;
		saved = prefix[n];
		prefix[n] = 0;
		fd = root_open(root, prefix, O_PATH);
		if (fd == -ENOENT) {
			r = make_one(root, prefix, directory || !last, links);
			if (r < 0)
				return r;
			fd = root_open(root, prefix, O_PATH);
		}
		if (fd < 0 || last)
			return fd;
		close(fd);
		prefix[n] = saved;
	}
}

int root_make(int root, const char *path, bool directory)
{
	return make_path(root, path, directory, LINKS_MAX);
}
