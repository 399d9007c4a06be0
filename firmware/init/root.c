/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's root: a share, or an overlay of it, with the files of /etc
 * that the machine's network and name make.
 */
#include "firmware/init/container.h"

#include "firmware/init/mount.h"
#include "firmware/init/share.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

int container_mount_share(const struct init_config *c, unsigned number,
			  struct init_failure *f)
{
	const char *tag = c->mounts[number].type;
	autofd int share = -1;
	autofd int whole = -1;
	unsigned first = 0;
	char path[32];

	while (c->mounts[first].kind != AGENT_MOUNT_SHARE ||
	       strcmp(c->mounts[first].type, tag) != 0)
		first++;
	snprintf(path, sizeof(path), AGENT_OCI_VOLUME "%u", first);
	if (first == number) {
		share = share_mount(tag, f);
	} else {
		/*
		 * Not a second time: once the kernel has mounted a tree in the
		 * share it takes that for the share, which has the same tag.
		 */
		whole = open(path, O_PATH | O_CLOEXEC);
		share = whole < 0 ? -errno : mount_copy(whole, false);
		if (share < 0)
			return init_fail_path(f, -share, "copy the mount",
					      path);
	}
	snprintf(path, sizeof(path), AGENT_OCI_VOLUME "%u", number);
	return share < 0 || mount_attach_at(share, path, f) ? -1
							    : take_fd(&share);
}

/* ---- files of /etc */

static void print_hosts(FILE *file, const struct init_config *c)
{
	char text[INET6_ADDRSTRLEN];
	bool named = false;

	fputs("127.0.0.1\tlocalhost\n"
	      "::1\tlocalhost ip6-localhost ip6-loopback\n"
	      "fe00::0\tip6-localnet\n"
	      "ff00::0\tip6-mcastprefix\n"
	      "ff02::1\tip6-allnodes\n"
	      "ff02::2\tip6-allrouters\n",
	      file);
	for (size_t i = 0; i < c->hosts.n; i++)
		fprintf(file, "%s\n", c->hosts.list[i]);
	for (size_t i = 0; c->hostname && i < c->naddresses; i++) {
		const struct agent_address *a = &c->addresses[i].wire;

		if (c->addresses[i].gateway ||
		    !inet_ntop(a->family == 4 ? AF_INET : AF_INET6, a->address,
			       text, sizeof(text)))
			continue;
		fprintf(file, "%s\t%s\n", text, c->hostname);
		named = true;
	}
	if (c->hostname && !named)
		fprintf(file, "127.0.1.1\t%s\n", c->hostname);
}

static void print_resolv(FILE *file, const struct init_config *c)
{
	for (size_t i = 0; i < c->dns.n; i++)
		fprintf(file, "nameserver %s\n", c->dns.list[i]);
	for (size_t i = 0; i < c->search.n; i++)
		fprintf(file, "%s%s", i ? " " : "search ", c->search.list[i]);
	if (c->search.n)
		fputc('\n', file);
}

static void print_hostname(FILE *file, const struct init_config *c)
{
	fprintf(file, "%s\n", c->hostname);
}

static const struct etc_file {
	const char *path;
	void (*print)(FILE *file, const struct init_config *c);
} etc_files[] = {
	{"/etc/hosts", print_hosts},
	{"/etc/hostname", print_hostname},
	{"/etc/resolv.conf", print_resolv},
};

/* Where nothing is given, the image's own file stays. */
static bool etc_wanted(const struct etc_file *e, const struct init_config *c)
{
	const bool keep = c->flags & AGENT_CONFIG_KEEP_ETC;

	if (e->print == print_hostname)
		return c->hostname && !keep;
	if (e->print == print_hosts)
		return !keep || c->hosts.n;
	return c->dns.n || c->search.n;
}

/* Writes the file of that name into DIR. */
static int write_etc(int dir, const struct etc_file *e,
		     const struct init_config *c, struct init_failure *f)
{
	int fd = openat(dir, strrchr(e->path, '/') + 1,
			O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file)
		return init_fail_path(f, errno, "write", e->path);
	e->print(file, c);
	if (fclose(file) != 0)
		return init_fail_path(f, errno, "write", e->path);
	return 0;
}

/* The text of that file, as C has it. Allocated, or NULL. */
static char *etc_text(const struct etc_file *e, const struct init_config *c,
		      size_t *ret_bytes)
{
	char *text = NULL;
	FILE *file = open_memstream(&text, ret_bytes);

	if (!file)
		return NULL;
	e->print(file, c);
	if (fclose(file) == 0)
		return text;
	free(text);
	return NULL;
}

static bool has_text(int fd, const char *text, size_t bytes)
{
	autofree char *there = malloc(bytes + 1);

	return there && pread(fd, there, bytes + 1, 0) == (ssize_t)bytes &&
	       memcmp(there, text, bytes) == 0;
}

void container_rename(int root, const struct init_config *c,
		      const char *hostname)
{
	struct init_config renamed = *c;

	renamed.hostname = hostname;
	for (unsigned i = 0; i < ARRAY_LEN(etc_files); i++) {
		const struct etc_file *e = &etc_files[i];
		size_t before_bytes = 0, bytes = 0;
		autofree char *before = etc_text(e, c, &before_bytes);
		autofree char *text = etc_text(e, &renamed, &bytes);
		autofd int fd = -1;

		if (!before || !text || !etc_wanted(e, c) ||
		    strcmp(before, text) == 0)
			continue;
		fd = util_open_regular(root, e->path + 1, O_RDWR | O_NOFOLLOW,
				       RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
		if (fd < 0 || !has_text(fd, before, before_bytes) ||
		    ftruncate(fd, 0) < 0)
			continue;
		if (pwrite(fd, text, bytes, 0) != (ssize_t)bytes)
			init_say("'%s' is cut off", e->path);
	}
}

/*
 * Files that are mounted on the root's are ours by their own path; others are
 * in the upper layer, and reached through the overlay, which would not hear of
 * a change below it.
 */
static int open_etc(int root, const struct etc_file *e)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/files/%s", strrchr(e->path, '/') + 1);
	fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);
	return fd >= 0 ? fd
		       : util_openat2(root, e->path + 1,
				      O_WRONLY | O_TRUNC | O_NOFOLLOW,
				      RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS);
}

/* It is hidden by a mount on /etc, or never was there, as /etc is odd. */
static bool is_out_of_reach(int error)
{
	return error == -ENOENT || error == -ENOTDIR || error == -ELOOP ||
	       error == -EROFS;
}

int container_write_etc(int root, const struct init_config *before,
			const struct init_config *c, struct init_failure *f)
{
	for (unsigned i = 0; i < ARRAY_LEN(etc_files); i++) {
		const struct etc_file *e = &etc_files[i];
		size_t bytes = 0;
		autofree char *text = etc_text(e, c, &bytes);
		autofd int fd = -1;

		if (etc_wanted(e, before) != etc_wanted(e, c))
			return init_fail_path(f, EINVAL, "prepared without",
					      e->path);
		if (!etc_wanted(e, c))
			continue;
		fd = open_etc(root, e);
		if (is_out_of_reach(fd))
			continue;
		if (!text || fd < 0)
			return init_fail_path(f, fd < 0 ? -fd : ENOMEM, "write",
					      e->path);
		if (util_write_all(fd, text, bytes) < 0)
			return init_fail_path(f, errno, "write", e->path);
	}
	return 0;
}

/*
 * /dev is of the guest's memory, whatever the root is, and its root's alone: so
 * the file can be written where the root is read-only, is never the host's, and
 * no other user of the container can forge it.
 */
int container_mark(int root, const struct init_clone *clone,
		   struct init_failure *f)
{
	autofd int dev = util_openat2(root, "dev", O_RDONLY | O_DIRECTORY,
				      RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
	autofd int dir = -1;
	struct statfs fs;
	FILE *file;
	int fd;

	if (dev < 0 || fstatfs(dev, &fs) < 0)
		return init_fail_path(f, errno, "open", "/dev");
	if (fs.f_type != TMPFS_MAGIC)
		return init_fail(f, INIT_STATUS_SETUP, ENOTSUP,
				 "its /dev is no tmpfs, so it cannot be told "
				 "that it is a clone");
	if (mkdirat(dev, "bulkhead", 0755) < 0 && errno != EEXIST)
		return init_fail_path(f, errno, "make", "/dev/bulkhead");
	dir = openat(dev, "bulkhead",
		     O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0)
		return init_fail_path(f, errno, "open", "/dev/bulkhead");
	/* A clone that is cloned has the one of before. */
	(void)unlinkat(dir, "clone", 0);
	fd = openat(dir, "clone", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC,
		    0444);
	file = fd < 0 ? NULL : fdopen(fd, "w");
	if (!file)
		return init_fail_path(f, errno, "write", AGENT_CLONE_FILE);
	fprintf(file, "name=%s\nsource=%s\nnumber=%u\n", clone->name,
		clone->source, clone->number);
	if (fclose(file) != 0)
		return init_fail_path(f, errno, "write", AGENT_CLONE_FILE);
	return 0;
}

/* A directory of somebody else's that is read-only or odd stays as it is. */
static int bind_etc(int root, int files, const struct etc_file *e,
		    const struct init_config *c, struct init_failure *f)
{
	autofd int at = root_make(root, e->path, false);
	autofd int file = -1;
	autofd int copy = -1;
	int r;

	if (at < 0)
		return 0;
	if (write_etc(files, e, c, f))
		return -1;
	file = openat(files, strrchr(e->path, '/') + 1, O_PATH | O_CLOEXEC);
	copy = mount_copy(file, false);
	r = copy < 0 ? copy : 0;
	if (r == 0 && c->root_flags & AGENT_ROOT_READONLY)
		r = mount_set(copy, MOUNT_ATTR_RDONLY);
	if (r == 0)
		r = mount_attach(copy, at);
	return r < 0 ? init_fail_path(f, -r, "mount on", e->path) : 0;
}

static int bind_etc_files(int root, const struct init_config *c,
			  struct init_failure *f)
{
	autofd int files = mount_make("tmpfs", "etc", "mode=755", f);

	if (files < 0 || mount_attach_at(files, "/files", f))
		return -1;
	for (unsigned i = 0; i < ARRAY_LEN(etc_files); i++) {
		if (etc_wanted(&etc_files[i], c) &&
		    bind_etc(root, files, &etc_files[i], c, f))
			return -1;
	}
	return 0;
}

/* ---- the root */

/* A directory of the upper layer that looks like the lower one's. */
static int copy_directory(int lower, int upper, const char *name,
			  const char *lower_name, struct init_failure *f)
{
	struct stat st = {.st_mode = 0755};

	if (fstatat(lower, lower_name, &st,
		    AT_EMPTY_PATH | AT_SYMLINK_NOFOLLOW) < 0 &&
	    errno != ENOENT)
		return init_fail_path(f, errno, "look at", lower_name);
	if (mkdirat(upper, name, 0755) < 0 ||
	    fchownat(upper, name, st.st_uid, st.st_gid, 0) < 0 ||
	    fchmodat(upper, name, st.st_mode & 07777, 0) < 0)
		return init_fail_path(f, errno, "make directory", name);
	return 0;
}

/* Our files are in the upper layer from the start: nothing is copied up. */
static int write_upper_etc(int lower, int upper, const struct init_config *c,
			   struct init_failure *f)
{
	autofd int etc = -1;

	if (copy_directory(lower, upper, "data/etc", "etc", f))
		return -1;
	etc = openat(upper, "data/etc", O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (etc < 0)
		return init_fail_path(f, errno, "open", "data/etc");
	for (unsigned i = 0; i < ARRAY_LEN(etc_files); i++) {
		if (etc_wanted(&etc_files[i], c) &&
		    write_etc(etc, &etc_files[i], c, f))
			return -1;
	}
	return 0;
}

static int make_overlay(int lower, const struct init_config *c, bool own_etc,
			struct init_failure *f)
{
	autofd int upper = mount_make("tmpfs", "upper", "mode=755", f);

	if (upper < 0 || mount_attach_at(lower, "/lower", f) ||
	    mount_attach_at(upper, "/upper", f) ||
	    copy_directory(lower, upper, "data", "", f))
		return -1;
	if (mkdirat(upper, "work", 0755) < 0)
		return init_fail_path(f, errno, "make directory", "work");
	if (own_etc && write_upper_etc(lower, upper, c, f))
		return -1;
	return mount_make("overlay", "overlay",
			  "lowerdir=/lower,upperdir=/upper/data,"
			  "workdir=/upper/work,redirect_dir=on",
			  f);
}

int container_root(const struct init_config *c, struct init_failure *f)
{
	const bool overlay = c->root_flags & AGENT_ROOT_OVERLAY;
	autofd int share = c->tree ? container_tree(c->root_tag, c->tree, f)
				   : share_mount(c->root_tag, f);
	autofd int root = -1;
	bool own_etc;
	struct stat st;

	if (share < 0)
		return -1;
	/* An /etc that is a link is for the kernel to follow, in the root. */
	own_etc =
		overlay && (fstatat(share, "etc", &st, AT_SYMLINK_NOFOLLOW) < 0
				    ? errno == ENOENT
				    : S_ISDIR(st.st_mode));
	root = overlay ? make_overlay(share, c, own_etc, f) : take_fd(&share);
	if (root < 0 || mount_attach_at(root, AGENT_OCI_ROOT, f))
		return -1;
	if (!own_etc && bind_etc_files(root, c, f))
		return -1;
	return take_fd(&root);
}
