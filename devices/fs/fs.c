/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The shared tree: opening it, and the user that its system calls are made as.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/securebits.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

/* One share has no more than this, whatever the budget has. */
#define HANDLES_MAX 65536
#define INODES_MAX  (1u << 20)
/* The table doubles, and has the root and an unused slot besides. */
static_assert(INODES_MAX < 1u << (FS_ID_BITS - 1), "numbers are unique");
#define LOCKS_MAX 4096
/* The host's kernel has all of them in one list, which others wait for. */
#define MARKS_MAX 4096

/*
 * The thread's own, and only for files: the C library's setfsuid() is the same
 * call. It never says that it failed, so the second one asks.
 */
static bool set_fs_ids(uint32_t uid, uint32_t gid)
{
	(void)syscall(SYS_setfsgid, gid);
	(void)syscall(SYS_setfsuid, uid);
	return (uint32_t)syscall(SYS_setfsgid, -1) == gid &&
	       (uint32_t)syscall(SYS_setfsuid, -1) == uid;
}

int fs_be(struct fs *fs, const struct fs_who *who)
{
	/* The host's kernel alone knows whether a default ACL overrides it. */
	if (fs->acls && fs->common->umask != (who->umask & 0777)) {
		fs->common->umask = who->umask & 0777;
		umask(fs->common->umask);
	}
	if (!fs->as_others || (who->uid == fs->uid && who->gid == fs->gid))
		return 0;
	if (set_fs_ids(who->uid, who->gid))
		return 0;
	(void)set_fs_ids(fs->uid, fs->gid);
	return -EPERM;
}

void fs_be_self(const struct fs *fs, const struct fs_who *who)
{
	if (fs->as_others && (who->uid != fs->uid || who->gid != fs->gid))
		(void)set_fs_ids(fs->uid, fs->gid);
}

static bool have_capability(unsigned capability)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};

	return syscall(SYS_capget, &header, data) == 0 &&
	       data[capability / 32].effective >> capability % 32 & 1;
}

static int drop_capability(unsigned capability)
{
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct data[2] = {0};
	const uint32_t bit = UINT32_C(1) << capability % 32;

	if (syscall(SYS_capget, &header, data) < 0)
		return -errno;
	data[capability / 32].effective &= ~bit;
	data[capability / 32].permitted &= ~bit;
	data[capability / 32].inheritable &= ~bit;
	return syscall(SYS_capset, &header, data) < 0 ? -errno : 0;
}

static bool can_be_others(void)
{
	static const unsigned needed[] = {CAP_CHOWN,  CAP_DAC_OVERRIDE,
					  CAP_FOWNER, CAP_FSETID,
					  CAP_SETUID, CAP_SETGID};

	for (unsigned i = 0; i < ARRAY_LEN(needed); i++) {
		if (!have_capability(needed[i]))
			return false;
	}
	return geteuid() == 0;
}

static int init_thread(bool devices, bool as_others)
{
	if (unshare(CLONE_FS) < 0)
		return -errno;
	/* The guest's kernel has applied the umask of its process. */
	umask(0);
	if (!devices && have_capability(CAP_MKNOD)) {
		const int r = drop_capability(CAP_MKNOD);

		if (r < 0)
			return r;
	}
	/*
	 * Otherwise a thread that acts as another user for a moment would lose
	 * its right to enter directories. The guest's kernel has checked
	 * permissions already, with groups that are not known here.
	 */
	if (as_others && have_capability(CAP_SETPCAP) &&
	    prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP, 0, 0, 0) < 0)
		return -errno;
	return 0;
}

int fs_thread_init(struct fs *fs)
{
	return init_thread(fs->devices, fs->as_others);
}

int fs_thread_init_ahead(void)
{
	return init_thread(false, can_be_others());
}

static unsigned smaller(uint64_t a, unsigned b)
{
	return b > 0 && b < a ? b : (unsigned)a;
}

static void choose_limits(struct fs *fs, const struct fs_options *options)
{
	struct fs_budget *budget = options->budget;
	uint64_t files;

	if (!budget) {
		budget = &fs->own_budget;
		fs_budget_init(budget, 4 * GIB, 1);
	}
	fs->max_marks = smaller(MARKS_MAX, options->max_marks);
	fs->bytes.purse = &budget->bytes;
	fs->files.purse = &budget->files;
	fs->inodes.bytes = fs->handles.bytes = &fs->bytes;
	files = budget->files.each + budget->files.left;
	fs->max_paths = smaller(budget->paths, options->max_paths);
	if (fs->max_paths < FS_PATHS_MIN)
		fs->max_paths = FS_PATHS_MIN;
	fs->max_handles =
		smaller(min_u64(files, HANDLES_MAX), options->max_handles);
	fs->max_locks =
		smaller(min_u64(files / 8, LOCKS_MAX), options->max_locks);
	fs->max_inodes = smaller(INODES_MAX, options->max_inodes);
}

static int open_root(struct fs *fs, const char *what,
		     const struct fs_options *options)
{
	const char *path = options->path;
	autofd int fd = fs_mount_open(what, options);
	char name[FS_PATH_MAX];
	struct statfs stat;
	struct statx stx, link;
	int r;

	if (fd < 0)
		return fd;
	r = fs_statx(fd, "", &stx);
	if (r == 0 && fstatfs(fd, &stat) < 0)
		r = -errno;
	if (r < 0)
		return log_ret(r, "%s: '%s': %s", what, path, strerror(-r));
	r = fs_statx(AT_FDCWD, fs_path(name, fd, NULL), &link);
	if (r < 0)
		return log_ret(r, "%s: sharing files needs /proc: %s", what,
			       strerror(-r));
	/*
	 * On these a first write makes a copy of the file, with a new time of
	 * birth.
	 */
	fs->has_births = stat.f_type != OVERLAYFS_SUPER_MAGIC;
	return fs_inode_init(fs, take_fd(&fd), &stx);
}

static int choose_devices(struct fs *fs, const char *what,
			  const struct fs_options *options)
{
	if (!options->devices)
		return 0;
	if (fs->xattr)
		return log_ret(-EINVAL,
			       "%s: '%s': devices=allow: not with "
			       "ownership=xattr, where none are real",
			       what, options->path);
	if (!have_capability(CAP_MKNOD))
		return log_ret(-EPERM,
			       "%s: '%s': devices=allow needs CAP_MKNOD", what,
			       options->path);
	fs->devices = true;
	return 0;
}

/* Where owners are kept, if anything may change; before `root` is used. */
static int choose_ownership(struct fs *fs, const char *what,
			    const struct fs_options *options)
{
	const bool others = can_be_others();
	char path[FS_PATH_MAX];
	int r;

	fs->xattr = options->ownership == FS_OWNER_XATTR ||
		    (options->ownership == FS_OWNER_AUTO && !others);
	fs->as_others = others && !fs->xattr;
	r = choose_devices(fs, what, options);
	if (r < 0 || fs->readonly)
		return r;
	if (fs->xattr &&
	    getxattr(fs_path(path, fs->root.fd, NULL), FS_STAT_XATTR, NULL, 0) <
		    0 &&
	    errno == EOPNOTSUPP) {
		if (options->ownership == FS_OWNER_XATTR)
			return log_ret(-EOPNOTSUPP,
				       "%s: '%s': ownership=xattr: this file "
				       "system has no attributes for users",
				       what, options->path);
		fs->xattr = false;
	}
	if (!fs->xattr && !others)
		log_warn("%s: '%s': without root's privileges%s files will "
			 "belong to user %u, whoever makes them",
			 what, options->path,
			 options->ownership == FS_OWNER_AUTO
				 ? " and extended attributes"
				 : "",
			 (unsigned)fs->uid);
	return 0;
}

int fs_open(const char *what, const struct fs_options *options,
	    struct fs **ret_fs)
{
	struct fs *fs = calloc(1, sizeof(*fs));
	int r;

	if (!fs)
		return log_ret(-ENOMEM, "%s: out of memory", what);
	fs->root.fd = -1;
	fs->peer_fd = fs->peer_file_fd = -1;
	fs->what = what;
	fs->common = options->common ? options->common : &fs->own_common;
	fs->readonly = options->readonly;
	if (options->only) {
		fs->only = strdup(options->only);
		if (!fs->only) {
			fs_close(fs);
			return log_ret(-ENOMEM, "%s: out of memory", what);
		}
	}
	fs->uid = geteuid();
	fs->gid = getegid();
	choose_limits(fs, options);
	r = open_root(fs, what, options);
	if (r == 0)
		r = choose_ownership(fs, what, options);
	if (r == 0 && !fs->readonly)
		fs_peer_open(fs, options);
	if (r < 0) {
		fs_close(fs);
		return r;
	}
	*ret_fs = fs;
	return 0;
}

void fs_reset(struct fs *fs)
{
	fs->peer_stale = true;
	fs_handle_release_all(fs);
	fs_inode_drop_all(fs);
}

void fs_settle(struct fs *fs)
{
	fs_handle_settle(fs);
	fs_inode_settle(fs);
	fs->request++;
}

void fs_close(struct fs *fs)
{
	if (!fs)
		return;
	fs_reset(fs);
	fs_settle(fs);
	util_close(&fs->peer_fd);
	util_close(&fs->peer_file_fd);
	fs_table_done(&fs->handles);
	fs_inode_done(fs);
	free(fs->dirbuf.data);
	free(fs->only);
	free(fs);
}

bool fs_readonly(const struct fs *fs)
{
	return fs->readonly;
}

bool fs_has_acls(const struct fs *fs)
{
	return !fs->xattr;
}

bool fs_will_have_acls(void)
{
	return can_be_others();
}

void fs_use_acls(struct fs *fs, bool use)
{
	fs->acls = use && fs_has_acls(fs);
	if (!fs->acls && fs->common->umask != 0) {
		fs->common->umask = 0;
		umask(0);
	}
}
