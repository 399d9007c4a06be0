/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2, 5.11): takes FUSE requests off its
 * queues. What they mean is fuse.c's to know, what they may reach fs.c's.
 *
 * It runs on a thread of its own, one request at a time: a slow disk keeps
 * nobody waiting but who uses the share. With root's privileges that thread is
 * the only one that keeps some of them (docs/THREATS).
 */
#include "devices/fs.h"
#include "devices/fuse.h"
#include "devices/virtio.h"
#include "vmm/util.h"

#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <string.h>
#include <sys/syscall.h>

#define FS_QUEUE FUSE_IOV /* entries: no chain is longer */

/* After so many requests others get at the lock. */
#define FS_ROUND 256

struct share {
	struct fs *fs;     /* owned */
	struct fuse *fuse; /* owned */
	struct iovec iov[FUSE_IOV];
};

static const struct config_key fs_keys[] = {
	{.name = "dir",
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .bare = true,
	 .help = "directory of this host"},
	{.name = "tag",
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .help = "what the guest mounts, up to 36 bytes"},
	{.name = "only",
	 .kind = CONFIG_TEXT,
	 .help = "share this one file of the directory"},
	{.name = "readonly", .kind = CONFIG_FLAG, .help = "refuse all changes"},
	{.name = "cache",
	 .kind = CONFIG_CHOICE,
	 .choices = "auto|always|never",
	 .help = "how long the guest believes what it read [auto: 1 s]"},
	{.name = "ownership",
	 .kind = CONFIG_CHOICE,
	 .choices = "auto|host|xattr",
	 .help = "where owners and modes are kept [auto: host if root]"},
	{0},
};

/* fs*.c's, once the device's thread is prepared. */
static const uint32_t fs_syscalls[] = {
	SYS_openat,     SYS_openat2,         SYS_statx,     SYS_fstatfs,
	SYS_readlinkat, SYS_getdents64,      SYS_mkdirat,   SYS_mknodat,
	SYS_symlinkat,  SYS_linkat,          SYS_unlinkat,  SYS_renameat,
	SYS_renameat2,  SYS_fchownat,        SYS_fchmodat,  SYS_utimensat,
	SYS_truncate,   SYS_ftruncate,       SYS_setxattr,  SYS_lsetxattr,
	SYS_getxattr,   SYS_lgetxattr,       SYS_listxattr, SYS_removexattr,
	SYS_syncfs,     SYS_copy_file_range, SYS_setfsuid,  SYS_setfsgid,
	UINT32_MAX,
};

/*
 * To make files that belong to others, and to reach what the guest's kernel
 * has found its user may. Not CAP_MKNOD: no device appears on the host.
 */
#define BIT(n) (UINT64_C(1) << (n))
#define FS_CAPABILITIES                                                        \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) |            \
	 BIT(CAP_FSETID) | BIT(CAP_SETUID) | BIT(CAP_SETGID) |                 \
	 BIT(CAP_SETFCAP))

/* One request: true when there may be another. */
static bool serve(struct virtio_dev *d, unsigned q)
{
	struct share *share = d->state;
	struct vq_chain chain = {.iov = share->iov, .iov_max = FUSE_IOV};
	const int r = vq_pop(&d->vq[q], &chain);
	int64_t written;

	if (r < 0)
		virtio_broken(d, "malformed chain");
	if (r <= 0)
		return false;
	written = fuse_handle(share->fuse, &chain);
	if (written < 0) {
		virtio_broken(d, "malformed request");
		return false;
	}
	vq_push(&d->vq[q], chain.head, (uint32_t)written);
	/* At once: the next one may take the disk's time. */
	virtio_publish(d, q);
	return true;
}

static void fs_kick(struct virtio_dev *d, unsigned q)
{
	struct vq *vq = &d->vq[q];
	unsigned left = FS_ROUND;

	do {
		vq_disable_kicks(vq);
		while (left > 0 && serve(d, q))
			left--;
		if (left == 0) {
			loop_signal(d->kick[q].source.fd);
			return;
		}
	} while (d->running && vq_enable_kicks(vq));
}

static unsigned choice(const struct config_device *cfg, const char *key,
		       const char *const *choices)
{
	const char *text = config_text(cfg, key);
	unsigned i = 0;

	while (text && choices[i] && strcmp(choices[i], text) != 0)
		i++;
	return i;
}

static int fs_device_open(struct virtio_dev *d, const struct config_device *cfg)
{
	static const char *const caches[] = {
		[FUSE_CACHE_AUTO] = "auto",
		[FUSE_CACHE_ALWAYS] = "always",
		[FUSE_CACHE_NEVER] = "never",
		NULL,
	};
	static const char *const ownerships[] = {
		[FS_OWNER_AUTO] = "auto",
		[FS_OWNER_HOST] = "host",
		[FS_OWNER_XATTR] = "xattr",
		NULL,
	};
	const char *tag = config_text(cfg, "tag");
	struct virtio_fs_config config = {.num_request_queues = htole32(1)};
	struct share *share = d->state;
	const struct fs_options options = {
		.path = config_text(cfg, "dir"),
		.only = config_text(cfg, "only"),
		.readonly = config_flag(cfg, "readonly"),
		.ownership = choice(cfg, "ownership", ownerships),
	};
	int r;

	if (strlen(tag) > sizeof(config.tag))
		return log_ret(-EINVAL, "%s: tag '%s': longer than %zu bytes",
			       d->name, tag, sizeof(config.tag));
	/* 5.11.4: no terminating zero where all 36 bytes are used. */
	memcpy(config.tag, tag, strlen(tag));
	d->config_bytes = sizeof(config);
	memcpy(d->config, &config, sizeof(config));
	r = fs_open(d->name, &options, &share->fs);
	if (r < 0)
		return r;
	share->fuse = fuse_new(share->fs, choice(cfg, "cache", caches));
	if (!share->fuse)
		return log_ret(-ENOMEM, "%s: out of memory", d->name);
	return 0;
}

static void fs_device_close(struct virtio_dev *d)
{
	struct share *share = d->state;

	fuse_free(share->fuse);
	fs_close(share->fs);
}

static int fs_thread(struct virtio_dev *d)
{
	struct share *share = d->state;
	const int r = fs_thread_init(share->fs);

	return r < 0 ? log_ret(r, "%s: its thread: %s", d->name, strerror(-r))
		     : 0;
}

static void fs_stop(struct virtio_dev *d)
{
	struct share *share = d->state;

	fuse_reset(share->fuse);
}

const struct virtio_ops virtio_fs = {
	.type = {.name = "fs",
		 .help = "a directory of this host as a file system",
		 .keys = fs_keys},
	.id = VIRTIO_ID_FS,
	.nqueues = 2, /* 5.11.2: one for what must not wait, one for the rest */
	.queue_max = FS_QUEUE,
	.state_size = sizeof(struct share),
	.own_thread = true,
	.syscalls = fs_syscalls,
	.capabilities = FS_CAPABILITIES,
	.thread = fs_thread,
	.open = fs_device_open,
	.close = fs_device_close,
	.stop = fs_stop,
	.kick = fs_kick,
};
