/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2, 5.11): takes FUSE requests off its
 * queues. fuse.c knows what they mean, fs.c what they may reach.
 *
 * It runs on a thread of its own, one request at a time: a slow disk delays
 * only those who use the share. With root's privileges that thread is the only
 * one that keeps some of them (docs/THREATS).
 */
#include "devices/fs/fs.h"
#include "devices/fs/fuse.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <string.h>

#define FS_QUEUE FUSE_IOV /* entries: no chain is longer */

/* After so many requests others get at the lock. */
#define FS_ROUND 256

/* 5.11.2: Linux sends only FORGET by the first queue. */
#define HIPRIO   0
#define REQUESTS 1

/*
 * Work that nobody waits for is put off for so long, or until there is so much
 * of it: answers to the guest, for which the next answer's interrupt will do,
 * and a look at HIPRIO, where kicks are few as long as requests come, too.
 */
#define LATER_NS  UINT64_C(5000000)
#define HELD_MOST 16
#define KICK_MOST 64

struct share {
	struct virtio_dev *dev;
	struct fs *fs;     /* owned */
	struct fuse *fuse; /* owned */
	struct loop_timer timer;
	unsigned held; /* answers not yet published */
	bool active;   /* kicked since the timer was due last */
	bool looks;    /* kicks of HIPRIO are few: the timer looks */
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
	 .help = "name by which the guest mounts it, up to 36 bytes"},
	{.name = "only",
	 .kind = CONFIG_TEXT,
	 .help = "share this one file of the directory"},
	{.name = "readonly",
	 .alias = "ro",
	 .kind = CONFIG_FLAG,
	 .help = "refuse all changes"},
	{.name = "submounts",
	 .kind = CONFIG_FLAG,
	 .help = "show what is mounted below the directory [true]"},
	{.name = "cache",
	 .kind = CONFIG_CHOICE,
	 .choices = "auto|always|never",
	 .help = "how long the guest caches what it read [auto: 1 s]"},
	{.name = "ownership",
	 .kind = CONFIG_CHOICE,
	 .choices = "auto|host|xattr",
	 .help = "where owners and modes are kept [auto: host if root]"},
	{.name = "devices",
	 .kind = CONFIG_CHOICE,
	 .choices = "refuse|allow",
	 .help = "real device nodes, with ownership=host [refuse]"},
	{.name = "locks",
	 .kind = CONFIG_CHOICE,
	 .choices = "auto|host|guest",
	 .help = "whose locks apply [auto: guest if readonly or "
		 "cache=always]"},
	{.name = "xattrs",
	 .kind = CONFIG_CHOICE,
	 .choices = "auto|none",
	 .help = "none: no file has any, so the guest need not ask [auto]"},
	{0},
};

/* fs*.c's, once the device's thread is prepared. */
static const struct sandbox_rule fs_syscalls[] = {
	SANDBOX_CALL(openat),
	SANDBOX_CALL(openat2),
	SANDBOX_CALL(statx),
	SANDBOX_CALL(fstatfs),
	SANDBOX_CALL(readlinkat),
	SANDBOX_CALL(getdents64),
	SANDBOX_CALL(mkdirat),
	SANDBOX_CALL(mknodat),
	SANDBOX_CALL(symlinkat),
	SANDBOX_CALL(linkat),
	SANDBOX_CALL(unlinkat),
	SANDBOX_CALL(renameat),
	SANDBOX_CALL(renameat2),
	SANDBOX_CALL(fchownat),
	SANDBOX_CALL(fchmodat),
	SANDBOX_CALL(utimensat),
	SANDBOX_CALL(truncate),
	SANDBOX_CALL(ftruncate),
	SANDBOX_CALL(setxattr),
	SANDBOX_CALL(lsetxattr),
	SANDBOX_CALL(getxattr),
	SANDBOX_CALL(lgetxattr),
	SANDBOX_CALL(listxattr),
	SANDBOX_CALL(removexattr),
	SANDBOX_CALL(syncfs),
	SANDBOX_CALL(copy_file_range),
	SANDBOX_CALL(setfsuid),
	SANDBOX_CALL(setfsgid),
	SANDBOX_CALL(flock),
	SANDBOX_CALL(timerfd_settime),
	SANDBOX_CALL(umask),
	SANDBOX_CALL(fsync),
	SANDBOX_CALL(fdatasync),
	SANDBOX_CALL(fallocate),
	SANDBOX_CALL(lseek),
	SANDBOX_CALL_IF(fcntl, 1, F_OFD_SETLK),
	SANDBOX_CALL_IF(fcntl, 1, F_OFD_GETLK),
	SANDBOX_END,
};

/*
 * To make files that belong to others, and to reach what the guest's kernel
 * has found its user may. CAP_MKNOD is dropped unless devices are allowed.
 */
#define BIT(n) (UINT64_C(1) << (n))
#define FS_CAPABILITIES                                                        \
	(BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) |            \
	 BIT(CAP_FSETID) | BIT(CAP_SETUID) | BIT(CAP_SETGID) |                 \
	 BIT(CAP_SETFCAP) | BIT(CAP_MKNOD))

static void publish(struct share *share)
{
	share->held = 0;
	virtio_publish_all(share->dev);
}

static enum virtio_took serve(struct virtio_dev *d, unsigned q)
{
	struct share *share = d->state;
	struct iov_chain chain = {.iov = share->iov, .iov_max = FUSE_IOV};
	const int r = vq_pop(&d->vq[q], &chain);
	int64_t written;

	if (r < 0)
		virtio_broken(d, "malformed chain");
	if (r <= 0)
		return r == 0 ? VIRTIO_EMPTY : VIRTIO_LATER;
	written = fuse_handle(share->fuse, &chain,
			      (uint32_t)q << 16 | chain.head);
	if (written == FUSE_LATER)
		return VIRTIO_TOOK;
	if (written < 0) {
		virtio_broken(d, "malformed request");
		return VIRTIO_LATER;
	}
	vq_push(&d->vq[q], chain.head, (uint32_t)written);
	/* At once: the next one may take the disk's time. */
	if (fuse_is_awaited(share->fuse) || ++share->held == HELD_MOST)
		publish(share);
	return VIRTIO_TOOK;
}

/* ---- requests that wait for the host ---- */

static void answered(void *arg, uint32_t ticket, uint32_t written)
{
	struct share *share = arg;

	vq_push(&share->dev->vq[ticket >> 16], (uint16_t)ticket, written);
	publish(share);
}

/* Never later than it is set for already. On the device's thread. */
static void set_timer(struct share *share)
{
	const uint64_t set = loop_timer_due(&share->timer);
	uint64_t due = fuse_retry_at(share->fuse);

	if (share->held > 0 || share->looks) {
		const uint64_t later = util_now_ns() + LATER_NS;

		due = due == 0 ? later : min_u64(due, later);
	}
	if (due != 0 && (set == 0 || due < set))
		(void)loop_timer_set(&share->timer, due);
}

/* ---- queues ---- */

static void fs_kick(struct virtio_dev *d, unsigned q)
{
	struct share *share = d->state;

	/* FORGET follows upon requests; the next of these will look, too. */
	share->active = share->looks = true;
	(void)virtio_turn(d, HIPRIO, FS_ROUND, KICK_MOST, serve);
	if (q == REQUESTS && d->running)
		(void)virtio_turn(d, REQUESTS, FS_ROUND, 1, serve);
	if (d->running)
		set_timer(share);
}

static void timer_due(struct loop_timer *timer)
{
	struct share *share = container_of(timer, struct share, timer);
	struct virtio_dev *d = share->dev;

	virtio_lock(d);
	if (d->running) {
		/*
		 * While HIPRIO is used, the next kick or this timer looks at
		 * it.
		 */
		share->looks = share->active;
		share->active = false;
		fuse_retry(share->fuse);
		(void)virtio_turn(d, HIPRIO, FS_ROUND,
				  share->looks ? KICK_MOST : 1, serve);
	}
	if (d->running) {
		publish(share);
		set_timer(share);
	}
	virtio_unlock(d);
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

/*
 * By `locks`: auto, host, guest. Where nobody else changes a file, nobody else
 * locks it. Where the guest can change nothing, a lock would be a change: it
 * keeps the host's programs from their files.
 */
static bool locks_are_hosts(unsigned said, bool readonly, enum fuse_cache cache)
{
	return said == 0 ? !readonly && cache != FUSE_CACHE_ALWAYS : said == 1;
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
	static const char *const locks[] = {"auto", "host", "guest", NULL};
	static const char *const devices[] = {"refuse", "allow", NULL};
	static const char *const xattrs[] = {"auto", "none", NULL};
	const char *tag = config_text(cfg, "tag");
	const bool submounts =
		!config_text(cfg, "submounts") || config_flag(cfg, "submounts");
	struct virtio_fs_config config = {.num_request_queues = htole32(1)};
	struct share *share = d->state;
	struct fs_options options = {
		.path = config_text(cfg, "dir"),
		.only = config_text(cfg, "only"),
		.budget = d->files,
		.no_submounts = !submounts,
		.readonly = config_flag(cfg, "readonly"),
		.ownership = choice(cfg, "ownership", ownerships),
		.devices = choice(cfg, "devices", devices) == 1,
	};
	struct fuse_options protocol = {
		.cache = choice(cfg, "cache", caches),
		.no_xattrs = choice(cfg, "xattrs", xattrs) == 1,
		.answered = answered,
		.arg = share,
	};
	int r;

	share->dev = d;
	options.shared = protocol.cache == FUSE_CACHE_NEVER;
	protocol.locks = locks_are_hosts(choice(cfg, "locks", locks),
					 options.readonly, protocol.cache);
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
	share->fuse = fuse_new(share->fs, &protocol);
	if (!share->fuse)
		return log_ret(-ENOMEM, "%s: out of memory", d->name);
	r = loop_timer_open(d->loop, &share->timer, timer_due);
	return r < 0 ? log_ret(r, "%s: timer: %s", d->name, strerror(-r)) : 0;
}

static void fs_device_close(struct virtio_dev *d)
{
	struct share *share = d->state;

	if (share->fuse)
		fuse_log_requests(share->fuse, d->name);
	loop_timer_close(&share->timer);
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

/* The core publishes; requests that wait for a lock have nothing to publish. */
static void fs_pause(struct virtio_dev *d)
{
	struct share *share = d->state;

	share->held = 0;
}

static void fs_stop(struct virtio_dev *d)
{
	struct share *share = d->state;

	fuse_reset(share->fuse);
	share->held = 0;
	share->active = share->looks = false;
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
	.pause = fs_pause,
	.kick = fs_kick,
};
