/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes by hand what the host says a container has: mounts, devices, masked and
 * read-only paths. Everything is mounted in the mount namespace of the
 * container, and goes with it.
 *
 * The kernel's first root cannot be left by pivot_root(2); the container's root
 * is moved over it instead, where no `..` leads back.
 */
#include "firmware/init/container.h"

#include "firmware/init/copy-up.h"
#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ---- mounts */

static int open_in_share(const struct init_config *c, unsigned number,
			 struct init_failure *f)
{
	const struct init_mount *m = &c->mounts[number];
	autofd int share = container_mount_share(c, number, f);
	autofd int sub = -1;
	int copy;

	if (share < 0)
		return -1;
	sub = root_open_source(share, m->subpath);
	copy = sub < 0 ? sub : mount_copy(sub, true);
	return copy < 0 ? init_fail_path(f, -copy, "open in the share",
					 m->subpath[0] ? m->subpath : "/")
			: copy;
}

/* The mount to be attached; the whole share stays staged beside it. */
static int open_share(const struct init_config *c, unsigned number,
		      struct init_failure *f)
{
	const struct init_mount *m = &c->mounts[number];
	autofd int copy = c->tree ? container_tree(m->type, m->subpath, f)
				  : open_in_share(c, number, f);
	int r;

	if (copy < 0)
		return -1;
	r = mount_set_options(copy, m->options);
	return r < 0 ? init_fail(f, INIT_STATUS_SETUP, -r,
				 "options '%s' of the mount on '%s'",
				 m->options, m->target)
		     : take_fd(&copy);
}

/*
 * As with runc a tmpfs on a directory that exists keeps its mode, unless one is
 * asked for, but not its owner.
 */
static int tmpfs_options(int root, const struct init_mount *m, char *ret,
			 size_t room)
{
	autofd int at = -1;
	struct stat st;
	int n = -1;

	if (strcmp(m->type, "tmpfs") == 0 && !strstr(m->options, "mode="))
		at = root_open(root, m->target, O_PATH | O_DIRECTORY);
	if (at >= 0 && fstat(at, &st) == 0)
		n = snprintf(ret, room, "mode=%o%s%s", st.st_mode & 07777,
			     m->options[0] ? "," : "", m->options);
	else
		n = snprintf(ret, room, "%s", m->options);
	return n < (int)room ? 0 : -E2BIG;
}

static int open_filesystem(int root, const struct init_mount *m,
			   struct init_failure *f)
{
	autofd int mount = -1;
	char options[1024];
	bool copy;
	int r = tmpfs_options(root, m, options, sizeof(options));

	if (r < 0)
		return init_fail_path(f, -r, "options of the mount on",
				      m->target);
	copy = strcmp(m->type, "tmpfs") == 0 && copy_up_wanted(options);
	mount = mount_make(m->type, m->type, options, f);
	if (mount < 0 || (copy && copy_up(root, m->target, mount, f)))
		return -1;
	return take_fd(&mount);
}

static int mount_one(int root, const struct init_config *c, unsigned number,
		     struct init_failure *f)
{
	const struct init_mount *m = &c->mounts[number];
	autofd int mount = m->kind == AGENT_MOUNT_SHARE
				   ? open_share(c, number, f)
				   : open_filesystem(root, m, f);
	autofd int at = -1;
	struct stat st;
	int r;

	if (mount < 0)
		return -1;
	if (fstat(mount, &st) < 0)
		return init_fail_path(f, errno, "look at mount for", m->target);
	at = root_make(root, m->target, S_ISDIR(st.st_mode));
	if (at < 0)
		return init_fail_path(f, -at, "make mount point", m->target);
	r = mount_attach(mount, at);
	return r < 0 ? init_fail_path(f, -r, "mount on", m->target) : 0;
}

static int mount_all(int root, const struct init_config *c,
		     struct init_failure *f)
{
	for (unsigned i = 0; i < c->nmounts; i++) {
		if (mount_one(root, c, i, f))
			return -1;
	}
	return 0;
}

/* ---- devices */

/* A /dev of the host's is complete, and nothing is added to it. */
static bool has_own_dev(const struct init_config *c)
{
	for (size_t i = c->nmounts; i > 0; i--) {
		if (strcmp(c->mounts[i - 1].target, "/dev") == 0)
			return c->mounts[i - 1].kind == AGENT_MOUNT_SHARE;
	}
	return false;
}

static int make_device(int root, const struct init_device *d,
		       struct init_failure *f)
{
	const struct agent_device *w = &d->wire;
	const char *name = strrchr(d->path, '/') + 1;
	autofree char *dir = strndup(d->path, (size_t)(name - d->path));
	autofd int at = dir ? root_make(root, dir, true) : -ENOMEM;
	const mode_t type = le32toh(w->type) == 'c' ? S_IFCHR : S_IFBLK;
	const uint32_t uid = le32toh(w->uid), gid = le32toh(w->gid);

	if (at < 0)
		return init_fail_path(f, -at, "make directory of", d->path);
	if (mknodat(at, name, type | le32toh(w->mode),
		    makedev(le32toh(w->major), le32toh(w->minor))) < 0)
		return errno == EEXIST ? 0
				       : init_fail_path(f, errno, "make device",
							d->path);
	if ((uid || gid) &&
	    fchownat(at, name, uid, gid, AT_SYMLINK_NOFOLLOW) < 0)
		return init_fail_path(f, errno, "own device", d->path);
	return 0;
}

static int make_devices(int root, const struct init_config *c,
			struct init_failure *f)
{
	static const struct {
		const char *name, *to;
	} links[] = {
		{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},          {"core", "/proc/kcore"},
	};
	autofd int dev = -1;

	if (has_own_dev(c))
		return 0;
	for (size_t i = 0; i < c->ndevices; i++) {
		if (make_device(root, &c->devices[i], f))
			return -1;
	}
	dev = root_make(root, "/dev", true);
	if (dev < 0)
		return init_fail_path(f, -dev, "open", "/dev");
	for (unsigned i = 0; i < ARRAY_LEN(links); i++) {
		if (symlinkat(links[i].to, dev, links[i].name) < 0 &&
		    errno != EEXIST)
			return init_fail_path(f, errno, "make /dev",
					      links[i].name);
	}
	return 0;
}

/* ---- what is closed again */

/* TEXT is "name=value", its name with dots or with slashes. */
static int set_sysctl(int root, const char *text, struct init_failure *f)
{
	static const char base[] = "/proc/sys/";
	const size_t n = strcspn(text, "=");
	const char *value = text + n + 1;
	autofd int fd = -1;
	char path[256];

	if (n + sizeof(base) > sizeof(path))
		return init_fail_path(f, ENAMETOOLONG, "sysctl", text);
	memcpy(path, base, sizeof(base));
	memcpy(path + sizeof(base) - 1, text, n);
	path[sizeof(base) - 1 + n] = 0;
	if (!memchr(text, '/', n)) {
		for (char *p = path; *p; p++)
			*p = *p == '.' ? '/' : *p;
	}
	fd = root_open(root, path, O_WRONLY);
	if (fd < 0)
		return init_fail_path(f, -fd, "sysctl", text);
	if (write(fd, value, strlen(value)) < 0)
		return init_fail_path(f, errno, "sysctl", text);
	return 0;
}

int container_sysctls(int root, const struct init_config *c,
		      struct init_failure *f)
{
	for (size_t i = 0; i < c->sysctls.n; i++) {
		if (set_sysctl(root, c->sysctls.list[i], f))
			return -1;
	}
	return 0;
}

static bool is_missing(int error)
{
	return error == -ENOENT || error == -ENOTDIR;
}

/* 0 also where there is no such path. */
static int mask(int root, const char *path, struct init_failure *f)
{
	autofd int at = root_open(root, path, O_PATH);
	autofd int cover = -1;
	struct stat st;
	int r;

	if (is_missing(at))
		return 0;
	if (at < 0 || fstat(at, &st) < 0)
		return init_fail_path(f, at < 0 ? -at : errno, "mask", path);
	if (S_ISDIR(st.st_mode)) {
		cover = mount_make("tmpfs", "tmpfs", "ro,size=4k", f);
		if (cover < 0)
			return -1;
	} else {
		autofd int null = root_open(root, "/dev/null", O_PATH);

		cover = null < 0 ? null : mount_copy(null, false);
	}
	r = cover < 0 ? cover : mount_attach(cover, at);
	return r < 0 ? init_fail_path(f, -r, "mask", path) : 0;
}

static int protect(int root, const char *path, struct init_failure *f)
{
	autofd int at = root_open(root, path, O_PATH);
	autofd int copy = at < 0 ? at : mount_copy(at, true);
	int r;

	if (is_missing(at))
		return 0;
	r = copy < 0 ? copy : mount_set(copy, MOUNT_ATTR_RDONLY);
	if (r == 0)
		r = mount_attach(copy, at);
	return r < 0 ? init_fail_path(f, -r, "make read-only", path) : 0;
}

static int restrict_paths(int root, const struct init_config *c,
			  struct init_failure *f)
{
	for (size_t i = 0; i < c->masked.n; i++) {
		if (mask(root, c->masked.list[i], f))
			return -1;
	}
	for (size_t i = 0; i < c->readonly.n; i++) {
		if (protect(root, c->readonly.list[i], f))
			return -1;
	}
	return 0;
}

static int move_to(int root, struct init_failure *f)
{
	if (fchdir(root) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
	    chroot(".") < 0 || chdir("/") < 0)
		return init_fail_path(f, errno, "enter", AGENT_OCI_ROOT);
	return 0;
}

int container_make(const struct init_config *c, struct init_failure *f)
{
	autofd int root = -1;

	if (!c->root_tag)
		return init_fail(f, INIT_STATUS_SETUP, 0, "no root is given");
	if (c->hostname && sethostname(c->hostname, strlen(c->hostname)) < 0)
		return init_fail_path(f, errno, "set hostname", c->hostname);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return init_fail_path(f, errno, "make private", "/");
	umask(0);
	root = container_root(c, f);
	if (root < 0 || mount_all(root, c, f) || make_devices(root, c, f) ||
	    container_sysctls(root, c, f) || restrict_paths(root, c, f))
		return -1;
	if (c->tree)
		container_hide_trees(c);
	umask(022);
	return take_fd(&root);
}

int container_finish(int root, const struct init_config *before,
		     const struct init_config *c, struct init_failure *f)
{
	int r;

	if (before && c->hostname &&
	    sethostname(c->hostname, strlen(c->hostname)) < 0)
		return init_fail_path(f, errno, "set hostname", c->hostname);
	if (before && container_write_etc(root, before, c, f))
		return -1;
	if (c->root_flags & AGENT_ROOT_READONLY) {
		r = mount_set(root, MOUNT_ATTR_RDONLY);
		if (r < 0)
			return init_fail_path(f, -r, "make read-only", "/");
	}
	return move_to(root, f);
}

int container_console(int tty)
{
	autofd int at = open("/dev/console",
			     O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	autofd int copy = -1;

	if (at < 0)
		return -errno;
	copy = mount_copy(tty, false);
	return copy < 0 ? copy : mount_attach(copy, at);
}
