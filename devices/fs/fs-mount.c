/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mounts that a shared tree consists of: its top with or without those
 * below it, and which of them a guest may enter.
 */
#include "devices/fs/fs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

/*
 * File systems by which the kernel shows itself and lets its users change it.
 * proc has the monitor in it (/proc/self/mem): by that a guest would be out.
 */
static const char *kernels_own(uint32_t magic)
{
	static const struct {
		uint32_t magic;
		const char *name;
	} known[] = {
		{PROC_SUPER_MAGIC, "proc"},
		{SYSFS_MAGIC, "sysfs"},
		{CGROUP_SUPER_MAGIC, "cgroup"},
		{CGROUP2_SUPER_MAGIC, "cgroup2"},
		{DEVPTS_SUPER_MAGIC, "devpts"},
		{DEBUGFS_MAGIC, "debugfs"},
		{TRACEFS_MAGIC, "tracefs"},
		{SECURITYFS_MAGIC, "securityfs"},
		{SELINUX_MAGIC, "selinuxfs"},
		{SMACK_MAGIC, "smackfs"},
		{AAFS_MAGIC, "apparmorfs"},
		{BPF_FS_MAGIC, "bpf"},
		{PSTOREFS_MAGIC, "pstore"},
		{EFIVARFS_MAGIC, "efivarfs"},
		{BINFMTFS_MAGIC, "binfmt_misc"},
		{RDTGROUP_SUPER_MAGIC, "resctrl"},
		{XENFS_SUPER_MAGIC, "xenfs"},
		{BINDERFS_SUPER_MAGIC, "binder"},
		{USBDEVICE_SUPER_MAGIC, "usbfs"},
		{OPENPROM_SUPER_MAGIC, "openpromfs"},
		{NSFS_MAGIC, "nsfs"},
		{ANON_INODE_FS_MAGIC, "anon_inodefs"},
		/* Those that linux/magic.h does not have, or not yet. */
		{0x50494446, "pidfs"},
		{0x62656570, "configfs"},
		{0x19800202, "mqueue"},
		{0x65735543, "fusectl"},
		{0x67596969, "rpc_pipefs"},
		{0x6e667364, "nfsd"},
		{0x0a647361, "functionfs"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(known); i++) {
		if (known[i].magic == magic)
			return known[i].name;
	}
	return NULL;
}

int fs_mount_check(struct fs *fs, int fd, const char *name)
{
	struct statfs stat;
	const char *own;

	if (fstatfs(fd, &stat) < 0)
		return -errno;
	own = kernels_own((uint32_t)stat.f_type);
	if (!own)
		return 0;
	if (!fs->told_kernels)
		log_warn("%s: '%s' in the share is on %s, a file system of the "
			 "host kernel's own: the guest cannot open it (EACCES)",
			 fs->what, name, own);
	fs->told_kernels = true;
	return -EACCES;
}

/* A copy of the one mount, attached nowhere; it is gone with its descriptor. */
static int open_alone(const char *what, const char *path)
{
	/* As open(2) it ends at what PATH leads to, through links. */
	const int fd = (int)syscall(SYS_open_tree, AT_FDCWD, path,
				    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);

	if (fd >= 0)
		return fd;
	return log_ret(
		-errno, "%s: '%s': submounts=false: open_tree: %s%s", what,
		path, strerror(errno),
		errno == EPERM    ? ": needs CAP_SYS_ADMIN; unmount what is "
				    "mounted below, or share it, too"
		: errno == EINVAL ? ": not where the mounts below are those of "
				    "another user name space"
				  : "");
}

int fs_mount_dir(const struct fs_options *options)
{
	const int flags = O_PATH | O_DIRECTORY | O_CLOEXEC;
	const int fd = options->has_fd ? openat(options->fd, ".", flags)
				       : open(options->path, flags);

	return fd < 0 ? -errno : fd;
}

int fs_mount_open(const char *what, const struct fs_options *options)
{
	const char *path = options->path;
	autofd int fd = fs_mount_dir(options);
	struct statfs stat;
	const char *own;
	int r = fd < 0 ? fd : 0;

	if (r == 0 && fstatfs(fd, &stat) < 0)
		r = -errno;
	if (r < 0)
		return log_ret(r, "%s: '%s': %s", what, path, strerror(-r));
	own = kernels_own((uint32_t)stat.f_type);
	if (own)
		return log_ret(-EACCES,
			       "%s: '%s': %s is a file system of the host "
			       "kernel's own, by which a guest could take over "
			       "the monitor: it cannot be shared",
			       what, path, own);
	return options->no_submounts && !options->has_fd
		       ? open_alone(what, path)
		       : take_fd(&fd);
}
