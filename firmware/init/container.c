/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes by hand what Docker's default specification gives a container: mounts,
 * devices, masked and read-only paths. Everything is mounted in the mount
 * namespace of the container, and goes with it.
 *
 * The kernel's first root cannot be left by pivot_root(2); the container's root
 * is moved over it instead, where no `..` leads back.
 */
#include "firmware/init/container.h"

#include "firmware/agent/agent-defaults.h"
#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ---- what every container has */

static int mount_on(int root, const char *type, const char *target,
		    const char *options, uint64_t attributes,
		    struct init_failure *f)
{
	autofd int mount = mount_make(type, type, options, f);
	autofd int at = -1;
	int r;

	if (mount < 0)
		return -1;
	at = root_make(root, target, true);
	if (at < 0)
		return init_fail_path(f, -at, "make directory", target);
	r = attributes ? mount_set(mount, attributes) : 0;
	if (r == 0)
		r = mount_attach(mount, at);
	return r < 0 ? init_fail_path(f, -r, "mount on", target) : 0;
}

static int mount_filesystems(int root, const struct init_config *c,
			     struct init_failure *f)
{
	const bool privileged = c->flags & AGENT_CONFIG_PRIVILEGED;
	const struct agent_filesystem *fs;
	char options[80];

	for (fs = agent_filesystems; fs->type; fs++) {
		const bool readonly = fs->guarded && !privileged;

		if (mount_on(root, fs->type, fs->target, fs->options,
			     readonly ? MOUNT_ATTR_RDONLY : 0, f))
			return -1;
	}
	snprintf(options, sizeof(options), AGENT_SHM_OPTIONS ",size=%llu",
		 (unsigned long long)c->shm_bytes);
	return mount_on(root, "tmpfs", "/dev/shm", options, 0, f);
}

static int make_devices(int root, struct init_failure *f)
{
	static const struct {
		const char *name;
		unsigned major, minor;
	} nodes[] = {
		{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
		{"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0},
	};
	static const struct {
		const char *name, *to;
	} links[] = {
		{"fd", "/proc/self/fd"},       {"stdin", "/proc/self/fd/0"},
		{"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"},
		{"ptmx", "pts/ptmx"},          {"core", "/proc/kcore"},
	};
	autofd int dev = root_open(root, "/dev", O_PATH | O_DIRECTORY);

	if (dev < 0)
		return init_fail_path(f, -dev, "open", "/dev");
	for (unsigned i = 0; i < ARRAY_LEN(nodes); i++) {
		if (mknodat(dev, nodes[i].name, S_IFCHR | 0666,
			    makedev(nodes[i].major, nodes[i].minor)) < 0)
			return init_fail_path(f, errno, "make /dev",
					      nodes[i].name);
	}
	for (unsigned i = 0; i < ARRAY_LEN(links); i++) {
		if (symlinkat(links[i].to, dev, links[i].name) < 0)
			return init_fail_path(f, errno, "make /dev",
					      links[i].name);
	}
	return 0;
}

/* ---- the user's mounts */

/* The mount to be attached; the whole share stays staged beside it. */
static int open_share(const struct init_mount *m, unsigned number,
		      struct init_failure *f)
{
	autofd int share = mount_make("virtiofs", m->tag, NULL, f);
	autofd int sub = -1;
	char path[32];
	int copy;

	if (share < 0 || !m->subpath[0])
		return take_fd(&share);
	snprintf(path, sizeof(path), AGENT_OCI_VOLUME "%u", number);
	if (container_attach(share, path, f))
		return -1;
	sub = root_open(share, m->subpath[0] ? m->subpath : "/", O_PATH);
	copy = sub < 0 ? sub : mount_copy(sub, true);
	return copy < 0 ? init_fail_path(f, -copy, "open in the share",
					 m->subpath)
			: copy;
}

/*
 * Empty, whatever the image has there. As with runc a directory that exists
 * keeps its mode, unless one is asked for, but not its owner.
 */
static int open_tmpfs(int root, const struct init_mount *m,
		      struct init_failure *f)
{
	autofd int at = root_open(root, m->target, O_PATH | O_DIRECTORY);
	char options[1024], mode[16] = "";
	struct stat st;

	if (at >= 0 && fstat(at, &st) == 0 && !strstr(m->options, "mode="))
		snprintf(mode, sizeof(mode), "mode=%o,", st.st_mode & 07777);
	/* Whether something may be executed there is the mount's to say. */
	if (snprintf(options, sizeof(options), "nosuid,nodev,%s%s", mode,
		     m->options) >= (int)sizeof(options))
		return init_fail_path(f, E2BIG, "options of tmpfs on",
				      m->target);
	return mount_make("tmpfs", "tmpfs", options, f);
}

static int mount_one(int root, const struct init_mount *m, unsigned number,
		     struct init_failure *f)
{
	autofd int mount = m->kind == AGENT_MOUNT_SHARE
				   ? open_share(m, number, f)
				   : open_tmpfs(root, m, f);
	const uint64_t attributes =
		(m->flags & AGENT_MOUNT_READONLY ? MOUNT_ATTR_RDONLY : 0) |
		(m->flags & AGENT_MOUNT_NOEXEC ? MOUNT_ATTR_NOEXEC : 0);
	autofd int at = -1;
	struct stat st;
	int r;

	if (mount < 0)
		return -1;
	if (fstat(mount, &st) < 0)
		return init_fail_path(f, errno, "look at volume for",
				      m->target);
	at = root_make(root, m->target, S_ISDIR(st.st_mode));
	if (at < 0)
		return init_fail_path(f, -at, "make mount point", m->target);
	r = attributes ? mount_set(mount, attributes) : 0;
	if (r == 0)
		r = mount_attach(mount, at);
	return r < 0 ? init_fail_path(f, -r, "mount on", m->target) : 0;
}

static int mount_volumes(int root, const struct init_config *c,
			 struct init_failure *f)
{
	for (unsigned i = 0; i < c->nmounts; i++) {
		if (mount_one(root, &c->mounts[i], i, f))
			return -1;
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

/* Docker's: the network is the container's own, so it may use all of it. */
static const char *const default_sysctls[] = {
	"net.ipv4.ip_unprivileged_port_start=0",
	"net.ipv4.ping_group_range=0 2147483647",
};

int container_sysctls(int root, const struct init_config *c,
		      struct init_failure *f)
{
	struct init_failure ignored;

	for (unsigned i = 0; i < ARRAY_LEN(default_sysctls); i++)
		(void)set_sysctl(root, default_sysctls[i], &ignored);
	for (size_t i = 0; i < c->sysctls.n; i++) {
		if (set_sysctl(root, c->sysctls.list[i], f))
			return -1;
	}
	return 0;
}

/* 0 also where there is no such path. */
static int mask(int root, const char *path, struct init_failure *f)
{
	autofd int at = root_open(root, path, O_PATH);
	autofd int cover = -1;
	struct stat st;
	int r;

	if (at < 0)
		return 0;
	if (fstat(at, &st) < 0)
		return init_fail_path(f, errno, "mask", path);
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
	autofd int copy = at < 0 ? -1 : mount_copy(at, true);
	int r;

	if (at < 0)
		return 0;
	r = copy < 0 ? copy : mount_set(copy, MOUNT_ATTR_RDONLY);
	if (r == 0)
		r = mount_attach(copy, at);
	return r < 0 ? init_fail_path(f, -r, "make read-only", path) : 0;
}

static int restrict_paths(int root, const struct init_config *c,
			  struct init_failure *f)
{
	const char *const *p;

	if (c->flags & AGENT_CONFIG_PRIVILEGED)
		return 0;
	for (p = agent_masked_paths; *p; p++) {
		if (mask(root, *p, f))
			return -1;
	}
	for (p = agent_readonly_paths; *p; p++) {
		if (protect(root, *p, f))
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

int container_enter(const struct init_config *c, struct init_failure *f)
{
	autofd int root = -1;
	int r;

	if (!c->root_tag)
		return init_fail(f, INIT_STATUS_SETUP, 0, "no root is given");
	if (c->hostname && sethostname(c->hostname, strlen(c->hostname)) < 0)
		return init_fail_path(f, errno, "set hostname", c->hostname);
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
		return init_fail_path(f, errno, "make private", "/");
	umask(0);
	root = container_root(c, f);
	if (root < 0 || mount_filesystems(root, c, f) ||
	    make_devices(root, f) || mount_volumes(root, c, f) ||
	    container_sysctls(root, c, f) || restrict_paths(root, c, f))
		return -1;
	umask(022);
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
