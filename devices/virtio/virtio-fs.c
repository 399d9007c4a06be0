/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The file system device (virtio 1.2, 5.11): takes FUSE requests off its
 * queues. fuse.c knows what they mean, fs.c what they may reach. It has one
 * tree, or several ("tree" devices of the configuration, which are no devices
 * of the guest's).
 *
 * It runs on a thread of its own, one request at a time: a slow disk delays
 * only those who use the share. With root's privileges that thread is the only
 * one that keeps some of them (docs/THREATS).
 */
#include "devices/fs/fs.h"
#include "devices/fs/fuse.h"
#include "devices/virtio/fs-trees.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"
#include "vmm/base/visit.h"
#include "vmm/config/config.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/virtio_fs.h>
#include <linux/virtio_ids.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

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
	struct fs **trees; /* owned, all of them */
	unsigned ntrees;
	struct fs_common common;
	struct fuse *fuse; /* owned */
	/* Those that come and go, or NULL, and how they are opened. */
	struct fs_trees *come; /* owned */
	struct fs_options come_options;
	struct fs_budget own_budget; /* of those, if nobody gave one */
	enum fuse_cache cache;
	struct loop_timer timer;
	/*
	 * Work for another thread, which waits: this one alone may touch files.
	 */
	struct loop_source job_source; /* fd: owned */
	pthread_cond_t job_done;
	enum { JOB_NONE, JOB_FORGETS, JOB_VISIT, JOB_ADOPT } job;
	struct visitor *visitor; /* borrowed, of JOB_VISIT */
	/* Borrowed, of JOB_ADOPT; NULL: all trees are given up. */
	const struct virtio_adoption *adoption;
	int adopted;   /* its result */
	unsigned held; /* answers not yet published */
	bool active;   /* kicked since the timer was due last */
	bool looks;    /* kicks of HIPRIO are few: the timer looks */
	struct iovec iov[FUSE_IOV];
};

static const struct config_key fs_keys[] = {
	{.name = "dir",
	 .path = true,
	 .kind = CONFIG_TEXT,
	 .bare = true,
	 .help = "directory of this host; without it, see tree"},
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
	{.name = "socket",
	 .path = true,
	 .kind = CONFIG_TEXT,
	 .help = "Unix socket by which trees come and go, without dir"},
	{.name = "trees",
	 .kind = CONFIG_NUMBER,
	 .min = 1,
	 .max = 512,
	 .help = "so many at most come by the socket [64]"},
	{0},
};

static const struct config_key tree_keys[] = {
	{.name = "dir",
	 .path = true,
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .bare = true,
	 .help = "directory of this host"},
	{.name = "share",
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .help = "tag of the fs device it is in, which has no dir"},
	{.name = "name",
	 .kind = CONFIG_TEXT,
	 .required = true,
	 .help = "its name there"},
	{.name = "only",
	 .kind = CONFIG_TEXT,
	 .help = "this one file of the directory, under that name"},
	{.name = "readonly",
	 .alias = "ro",
	 .kind = CONFIG_FLAG,
	 .help = "refuse all changes"},
	{.name = "submounts",
	 .kind = CONFIG_FLAG,
	 .help = "show what is mounted below the directory [true]"},
	{0},
};

/* The next of the trees in SHARE, from place I on in the configuration. */
static const struct config_device *next_tree(const struct config *cfg,
					     const struct config_device *share,
					     unsigned *i)
{
	const char *tag = config_text(share, "tag");

	for (; cfg && *i < cfg->ndevices; (*i)++) {
		const struct config_device *dev = &cfg->device[*i];

		if (strcmp(dev->type, "tree") == 0 &&
		    strcmp(config_text(dev, "share"), tag) == 0)
			return &cfg->device[(*i)++];
	}
	return NULL;
}

/* Trees that come later are all opened in one way. */
static int check_socket(const struct config *cfg,
			const struct config_device *share)
{
	static const char *const fixed[] = {"dir", "ownership", "devices",
					    "xattrs"};
	const char *cache = config_text(share, "cache");
	unsigned i = 0;

	for (unsigned k = 0; k < ARRAY_LEN(fixed); k++) {
		if (config_text(share, fixed[k]))
			return log_ret(-EINVAL,
				       "fs: '%s': %s and socket exclude each "
				       "other",
				       config_text(share, "tag"), fixed[k]);
	}
	if (cache && strcmp(cache, "always") == 0)
		return log_ret(-EINVAL,
			       "fs: '%s': cache=always and socket exclude each "
			       "other: what comes may change",
			       config_text(share, "tag"));
	return next_tree(cfg, share, &i)
		       ? log_ret(-EINVAL,
				 "fs: '%s': its trees come by the socket: no "
				 "device 'tree' is one of them",
				 config_text(share, "tag"))
		       : 0;
}

static int check_share(const struct config *cfg,
		       const struct config_device *share)
{
	static const char *const own[] = {"only", "readonly", "submounts"};
	const char *tag = config_text(share, "tag");
	unsigned i = 0;

	if (config_text(share, "socket"))
		return check_socket(cfg, share);
	if (config_text(share, "trees"))
		return log_ret(-EINVAL, "fs: '%s': trees goes with socket",
			       tag);
	if (config_text(share, "dir"))
		return 0;
	if (!next_tree(cfg, share, &i))
		return log_ret(-EINVAL,
			       "fs: key 'dir' is missing, and no device 'tree' "
			       "has share=%s",
			       tag);
	for (unsigned k = 0; k < ARRAY_LEN(own); k++) {
		if (config_text(share, own[k]))
			return log_ret(-EINVAL,
				       "fs: '%s': %s is a key of its trees, as "
				       "it has no dir",
				       tag, own[k]);
	}
	return 0;
}

static int check_tree(const struct config *cfg,
		      const struct config_device *tree)
{
	const char *tag = config_text(tree, "share");
	const char *name = config_text(tree, "name");

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		const struct config_device *dev = &cfg->device[i];

		if (strcmp(dev->type, "fs") != 0 ||
		    strcmp(config_text(dev, "tag"), tag) != 0)
			continue;
		if (!config_text(dev, "dir"))
			return 0;
		return log_ret(-EINVAL,
			       "tree: '%s': the share '%s' has a dir, and so "
			       "no trees",
			       name, tag);
	}
	return log_ret(-EINVAL, "tree: '%s': no share has the tag '%s'", name,
		       tag);
}

const struct config_type virtio_fs_tree = {
	.name = "tree",
	.help = "one of several directories and files of an fs device",
	.keys = tree_keys,
	.check_all = check_tree,
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

/* fs_open()'s, for trees that come when the sandbox is around the thread. */
static const struct sandbox_rule adopt_syscalls[] = {
	SANDBOX_CALL(geteuid),
	SANDBOX_CALL(getegid),
	SANDBOX_CALL(capget),
	SANDBOX_END,
};

static bool adopts(const struct virtio_dev *d)
{
	return d->machine && d->machine->adopts;
}

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
	if (share->come)
		fs_trees_sweep(share->come);
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

/* ---- pausing, saving and loading */

static int adopt_trees(struct share *share);

static void do_job(struct share *share)
{
	struct virtio_dev *d = share->dev;

	while (share->job == JOB_FORGETS && d->running &&
	       serve(d, HIPRIO) == VIRTIO_TOOK)
		;
	if (share->job == JOB_VISIT)
		fuse_visit(share->fuse, share->visitor);
	if (share->job == JOB_ADOPT)
		share->adopted = adopt_trees(share);
	share->job = JOB_NONE;
	pthread_cond_signal(&share->job_done);
}

static void job_due(struct loop_source *source, uint32_t events)
{
	struct share *share = container_of(source, struct share, job_source);

	(void)events;
	virtio_lock(share->dev);
	if (share->job != JOB_NONE)
		do_job(share);
	virtio_unlock(share->dev);
}

/* Has the device's thread do it; the lock is given up meanwhile. */
static void run_job(struct share *share)
{
	struct virtio_dev *d = share->dev;

	/* Without a thread there is no driver yet, and no file to touch. */
	if (!d->own_loop.has_thread) {
		do_job(share);
		return;
	}
	loop_signal(share->job_source.fd);
	while (share->job != JOB_NONE)
		pthread_cond_wait(&share->job_done, &d->lock);
}

static int open_job(struct virtio_dev *d)
{
	struct share *share = d->state;

	share->job_source.fn = job_due;
	share->job_source.fd = loop_eventfd();
	return share->job_source.fd < 0 ? share->job_source.fd
					: loop_add(d->loop, &share->job_source,
						   EPOLLIN | EPOLLET);
}

static void fs_visit_session(struct virtio_dev *d, struct visitor *v)
{
	struct share *share = d->state;

	if (share->come && fuse_is_mounted(share->fuse)) {
		visit_wrong(v, "its trees belong to the program that brought "
			       "them by its socket");
		return;
	}
	share->visitor = v;
	share->job = JOB_VISIT;
	run_job(share);
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

/* Where it comes from another process; NULL: it is opened by its path. */
static const int *adopted_dir(const struct share *share,
			      const struct config_device *tree)
{
	const struct virtio_adoption *a = share->adoption;

	return a ? &a->fds[tree - a->machine->device] : NULL;
}

/* By SHARE's keys, and those of TREE: SHARE itself, if it has the one tree. */
static int open_tree(struct virtio_dev *d, const struct config_device *share,
		     const struct config_device *tree)
{
	static const char *const ownerships[] = {
		[FS_OWNER_AUTO] = "auto",
		[FS_OWNER_HOST] = "host",
		[FS_OWNER_XATTR] = "xattr",
		NULL,
	};
	static const char *const devices[] = {"refuse", "allow", NULL};
	struct share *state = d->state;
	const int *fd = adopted_dir(state, tree);
	const struct fs_options options = {
		.path = config_text(tree, "dir"),
		.has_fd = fd,
		.fd = fd ? *fd : -1,
		.only = config_text(tree, "only"),
		.no_submounts = config_text(tree, "submounts") &&
				!config_flag(tree, "submounts"),
		.readonly = config_flag(tree, "readonly"),
		.shared = state->cache == FUSE_CACHE_NEVER,
		.budget = d->files,
		.common = &state->common,
		.ownership = choice(share, "ownership", ownerships),
		.devices = choice(share, "devices", devices) == 1,
	};
	struct fs **trees = reallocarray(state->trees, state->ntrees + 1,
					 sizeof(struct fs *));
	int r;

	if (!trees)
		return log_ret(-ENOMEM, "%s: out of memory", d->name);
	state->trees = trees;
	r = fs_open(d->name, &options, &trees[state->ntrees]);
	if (r == 0)
		state->ntrees++;
	return r;
}

static int open_trees(struct virtio_dev *d, const struct config_device *share)
{
	const struct config_device *tree;
	unsigned i = 0;
	int r = 0;

	if (config_text(share, "dir"))
		return open_tree(d, share, share);
	while (r == 0 && (tree = next_tree(d->machine, share, &i)))
		r = open_tree(d, share, tree);
	return r;
}

/* Gives each of the trees its name. */
static int name_trees(struct virtio_dev *d, const struct config_device *cfg)
{
	struct share *share = d->state;
	const struct config_device *tree;
	unsigned i = 0;

	for (unsigned n = 0; (tree = next_tree(d->machine, cfg, &i)); n++) {
		const char *name = config_text(tree, "name");
		const int r = fuse_add(share->fuse, name, share->trees[n]);

		if (r == -EEXIST || r == -EINVAL)
			return log_ret(r, "%s: '%s': name '%s' of a tree %s",
				       d->name, config_text(cfg, "tag"), name,
				       r == -EEXIST ? "is given twice"
						    : "is no file's name");
		if (r < 0)
			return log_ret(r, "%s: tree '%s': %s", d->name, name,
				       strerror(-r));
	}
	return 0;
}

/* Whether no tree of them can be changed. */
static bool all_readonly(const struct share *share)
{
	bool all = true;

	for (unsigned i = 0; i < share->ntrees; i++)
		all = all && fs_readonly(share->trees[i]);
	return all;
}

static int open_session(struct virtio_dev *d, const struct config_device *cfg)
{
	static const char *const locks[] = {"auto", "host", "guest", NULL};
	static const char *const xattrs[] = {"auto", "none", NULL};
	struct share *share = d->state;
	const struct fuse_options options = {
		.cache = share->cache,
		.locks = locks_are_hosts(choice(cfg, "locks", locks),
					 !share->come && all_readonly(share),
					 share->cache),
		.no_acls = share->come && !fs_will_have_acls(),
		.no_xattrs = choice(cfg, "xattrs", xattrs) == 1,
		.answered = answered,
		.arg = share,
	};
	const bool one = config_text(cfg, "dir");

	share->fuse = fuse_new(one ? share->trees[0] : NULL, &options);
	if (!share->fuse)
		return log_ret(-ENOMEM, "%s: out of memory", d->name);
	if (share->come)
		fs_trees_set_session(share->come, share->fuse);
	return one ? 0 : name_trees(d, cfg);
}

static void close_trees(struct share *share)
{
	fuse_free(share->fuse);
	share->fuse = NULL;
	for (unsigned i = 0; i < share->ntrees; i++)
		fs_close(share->trees[i]);
	free(share->trees);
	share->trees = NULL;
	share->ntrees = 0;
}

/* Until it has others: a guest that asks finds nothing. */
static int open_empty_session(struct share *share)
{
	const struct fuse_options options = {.answered = answered,
					     .arg = share};

	share->fuse = fuse_new(NULL, &options);
	return share->fuse ? 0 : -ENOMEM;
}

static const char *const caches[] = {
	[FUSE_CACHE_AUTO] = "auto",
	[FUSE_CACHE_ALWAYS] = "always",
	[FUSE_CACHE_NEVER] = "never",
	NULL,
};

/* On the device's thread: it has the privileges that files take. */
static int adopt_trees(struct share *share)
{
	const struct virtio_adoption *a = share->adoption;
	const struct config_device *cfg =
		a ? &a->machine->device[a->index] : NULL;
	int r;

	if (fuse_is_mounted(share->fuse))
		return log_ret(-EBUSY, "%s: its guest has mounted it already",
			       share->dev->name);
	close_trees(share);
	if (!cfg)
		return open_empty_session(share);
	share->cache = choice(cfg, "cache", caches);
	r = open_trees(share->dev, cfg);
	if (r == 0)
		r = open_session(share->dev, cfg);
	/* Requests may come whatever becomes of this. */
	if (r < 0) {
		close_trees(share);
		(void)open_empty_session(share);
	}
	return r;
}

static int fs_adopt(struct virtio_dev *d, const struct virtio_adoption *a)
{
	struct share *share = d->state;

	if (a && a->keeps)
		return 0;
	share->adoption = a;
	share->job = JOB_ADOPT;
	run_job(share);
	share->adoption = NULL;
	return share->adopted;
}

static int open_socket(struct virtio_dev *d, const struct config_device *cfg)
{
	const unsigned most =
		(unsigned)config_number(cfg, "trees", FS_TREES_DEFAULT);
	struct share *share = d->state;

	/* The thread could not ask for limits any more. */
	if (!d->files)
		fs_budget_init(&share->own_budget, d->mem->bytes, most);
	share->come_options = (struct fs_options){
		.shared = share->cache == FUSE_CACHE_NEVER,
		.budget = d->files ? d->files : &share->own_budget,
		.common = &share->common,
	};
	d->more_syscalls = fs_trees_syscalls;
	return fs_trees_open(d, config_text(cfg, "socket"), most,
			     &share->come_options, &share->come);
}

static int fs_device_open(struct virtio_dev *d, const struct config_device *cfg)
{
	const char *tag = config_text(cfg, "tag");
	struct virtio_fs_config config = {.num_request_queues = htole32(1)};
	struct share *share = d->state;
	int r;

	share->dev = d;
	share->job_source.fd = -1;
	pthread_cond_init(&share->job_done, NULL);
	share->cache = choice(cfg, "cache", caches);
	if (strlen(tag) > sizeof(config.tag))
		return log_ret(-EINVAL, "%s: tag '%s': longer than %zu bytes",
			       d->name, tag, sizeof(config.tag));
	/* 5.11.4: no terminating zero where all 36 bytes are used. */
	memcpy(config.tag, tag, strlen(tag));
	d->config_bytes = sizeof(config);
	memcpy(d->config, &config, sizeof(config));
	if (adopts(d))
		d->more_syscalls = adopt_syscalls;
	r = config_text(cfg, "socket") ? open_socket(d, cfg)
				       : open_trees(d, cfg);
	if (r == 0)
		r = open_session(d, cfg);
	if (r < 0)
		return r;
	r = loop_timer_open(d->loop, &share->timer, timer_due);
	if (r == 0)
		r = open_job(d);
	return r < 0 ? log_ret(r, "%s: event loop: %s", d->name, strerror(-r))
		     : 0;
}

static void fs_device_close(struct virtio_dev *d)
{
	struct share *share = d->state;

	if (share->fuse)
		fuse_log_requests(share->fuse, d->name);
	loop_timer_close(&share->timer);
	loop_del(d->loop, &share->job_source);
	util_close(&share->job_source.fd);
	pthread_cond_destroy(&share->job_done);
	fuse_free(share->fuse);
	share->fuse = NULL;
	fs_trees_close(share->come);
	close_trees(share);
}

static int fs_thread(struct virtio_dev *d)
{
	struct share *share = d->state;
	int r = share->come || adopts(d) ? fs_thread_init_ahead() : 0;

	for (unsigned i = 0; r == 0 && i < share->ntrees; i++)
		r = fs_thread_init(share->trees[i]);
	return r < 0 ? log_ret(r, "%s: its thread: %s", d->name, strerror(-r))
		     : 0;
}

/* The core publishes; requests that wait for a lock have nothing to publish. */
static void fs_pause(struct virtio_dev *d)
{
	struct share *share = d->state;

	/*
	 * The guest may not have kicked for what it gave back (FORGET): a file
	 * that it removed is not in use then.
	 */
	share->job = JOB_FORGETS;
	run_job(share);
	share->held = 0;
}

/* The thread takes away what has ended meanwhile. */
static void fs_resume(struct virtio_dev *d)
{
	struct share *share = d->state;

	if (share->come)
		(void)loop_timer_set(&share->timer, util_now_ns());
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
		 .keys = fs_keys,
		 .check_all = check_share},
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
	.resume = fs_resume,
	.visit = fs_visit_session,
	.adopt = fs_adopt,
	.kick = fs_kick,
};
