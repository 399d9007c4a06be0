/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Layers, one over the other, become a tree. This is done by a process that can
 * do little else: should the code that reads what strangers wrote have a hole,
 * it leads to the tree that is being made, not to the host.
 */
#include "tools/rootfs-parts.h"
#include "tools/tar.h"

#include "vmm/log.h"
#include "vmm/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- the process's walls; each is there if the host has it */

static void allow(int ruleset, int dir, uint64_t access)
{
	const struct landlock_path_beneath_attr rule = {
		.allowed_access = access,
		.parent_fd = dir,
	};

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH,
		    &rule, 0) < 0)
		log_debug("landlock: %s", strerror(errno));
}

/*
 * Reading and writing in the tree, reading in the layout, nothing elsewhere;
 * neither device nodes nor sockets anywhere.
 */
static void confine_files(int tree, int source)
{
	const uint64_t read =
		LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	const uint64_t make =
		LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
		LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_FIFO |
		LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
	const struct landlock_ruleset_attr all = {
		.handled_access_fs = read | make | LANDLOCK_ACCESS_FS_EXECUTE |
				     LANDLOCK_ACCESS_FS_MAKE_CHAR |
				     LANDLOCK_ACCESS_FS_MAKE_BLOCK |
				     LANDLOCK_ACCESS_FS_MAKE_SOCK,
	};
	autofd int ruleset = -1;

	/* Version 1 has no hard links from one directory to another. */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0,
		    LANDLOCK_CREATE_RULESET_VERSION) < 2)
		return;
	ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (ruleset < 0)
		return;
	allow(ruleset, tree, read | make);
	if (source >= 0)
		allow(ruleset, source, read);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		log_debug("landlock: %s", strerror(errno));
}

/* What root needs to give files away, and no more. */
static void confine_privileges(void)
{
	const uint32_t keep = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE |
			      1u << CAP_FOWNER | 1u << CAP_FSETID |
			      1u << CAP_SETFCAP;
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].permitted &= keep;
	data[0].effective = data[0].permitted;
	data[0].inheritable = 0;
	memset(&data[1], 0, sizeof(data[1]));
	if (syscall(SYS_capset, &header, data) < 0)
		log_debug("capset: %s", strerror(errno));
}

static void confine(int tree, int source)
{
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0);
	/* Needs root's privilege; the descriptors are all that is used. */
	if (fchdir(tree) == 0 && chroot(".") < 0)
		log_debug("chroot: %s", strerror(errno));
	confine_files(tree, source);
	confine_privileges();
}

/* ---- layers */

static int not_as_told(const char *name)
{
	return log_ret(-EINVAL,
		       "%s: is not what its digest or size says: it is damaged "
		       "or was tampered with",
		       name);
}

static int check_digests(const char *name, const struct layer *layer,
			 struct stream *stream)
{
	char blob[IMAGE_DIGEST_MAX], plain[IMAGE_DIGEST_MAX];
	int r = stream_finish(stream, blob, plain);

	if (r < 0)
		return r;
	if (strcmp(plain, layer->diff_id) != 0 ||
	    (layer->digest[0] && strcmp(blob, layer->digest) != 0))
		return not_as_told(name);
	return 0;
}

static int apply_layer(struct tree *tree, struct stream *stream)
{
	const struct tar_input in = {
		.name = tree->name,
		.arg = stream,
		.read = stream_read,
	};
	struct tar tar;
	int r;

	tar_init(&tar, &in);
	while ((r = tar_next(&tar)) > 0) {
		r = tree_count(tree);
		if (r < 0)
			break;
		r = tree_apply(tree, &tar);
		if (r < 0)
			break;
	}
	tree_leave_parent(tree);
	tar_done(&tar);
	return r;
}

static int unpack_layer(const struct source *src, const struct layer *layer,
			struct tree *tree, struct budget *budget)
{
	autofd int fd = -1;
	struct stream *stream;
	struct blob blob;
	int r = source_find(src, layer->member, &blob, &fd);

	if (r == -ENOENT)
		return log_ret(-EINVAL, "%s: '%s' is missing", tree->name,
			       layer->member);
	if (r < 0)
		return r;
	if (layer->bytes >= 0 && (uint64_t)layer->bytes != blob.bytes)
		return not_as_told(tree->name);
	stream = stream_open(tree->name, &blob, budget);
	tree->made = inodes_new();
	if (!stream || !tree->made)
		r = log_ret(-ENOMEM, "%s: no memory", tree->name);
	if (r == 0)
		r = apply_layer(tree, stream);
	if (r == 0)
		r = check_digests(tree->name, layer, stream);
	inodes_free(take_ptr(tree->made));
	stream_close(stream);
	return r;
}

static int unpack_layers(const struct source *src, const struct meta *meta,
			 struct tree *tree, struct budget *budget)
{
	char name[512];
	int r;

	tree->name = name;
	snprintf(name, sizeof(name), "image '%.400s'", src->path);
	r = tree_start(tree);
	for (unsigned i = 0; r == 0 && i < meta->nlayers; i++) {
		snprintf(name, sizeof(name), "image '%.400s': layer %u",
			 src->path, i + 1);
		r = unpack_layer(src, &meta->layers[i], tree, budget);
	}
	if (r == 0 && tree->devices > 0)
		log_warn("image '%s': %ju device nodes left out; the guest "
			 "makes its own /dev",
			 src->path, (uintmax_t)tree->devices);
	return r;
}

/* ---- the process */

sigset_t unpack_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGQUIT);
	sigaddset(&set, SIGTERM);
	return set;
}

struct result {
	int code;
	struct unpacked unpacked;
};

static struct result run(const struct source *src, const struct meta *meta,
			 struct tree *tree, const struct budget *limit)
{
	struct budget budget = *limit;
	struct result result;

	tree->files = limit->files;
	tree->buf = malloc(TREE_BUF_BYTES);
	result.code = tree->buf ? unpack_layers(src, meta, tree, &budget)
				: log_ret(-ENOMEM, "image '%s': no memory",
					  src->path);
	free(tree->buf);
	result.unpacked.bytes = limit->bytes - budget.bytes;
	result.unpacked.has_xattrs = tree->has_xattrs;
	result.unpacked.files = limit->files - tree->files;
	return result;
}

/* The result, or -EINTR when a signal came first, which stays pending. */
static int read_result(int fd, struct result *ret)
{
	sigset_t signals = unpack_signals();
	autofd int sigfd = signalfd(-1, &signals, SFD_CLOEXEC);
	struct pollfd fds[2] = {
		{.fd = fd, .events = POLLIN},
		{.fd = sigfd, .events = POLLIN},
	};
	ssize_t n;

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	if (!fds[0].revents)
		return -EINTR;
	do
		n = read(fd, ret, sizeof(*ret));
	while (n < 0 && errno == EINTR);
	return n == sizeof(*ret) ? 0 : -ECANCELED;
}

static int await(const struct source *src, pid_t pid, int fd,
		 struct result *ret)
{
	int status;
	int r = read_result(fd, ret);

	if (r < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -ECANCELED)
		log_error("image '%s': the process that unpacks it ended "
			  "before it was done (%s %d)",
			  src->path, WIFSIGNALED(status) ? "signal" : "status",
			  WIFSIGNALED(status) ? WTERMSIG(status)
					      : WEXITSTATUS(status));
	else if (r < 0)
		log_error("image '%s': unpacking: %s", src->path, strerror(-r));
	return r;
}

int unpack(const struct source *src, const struct meta *meta, int tree_fd,
	   bool owner_xattr, const struct budget *budget, struct unpacked *ret)
{
	struct tree tree = {
		.root = tree_fd,
		.owner_xattr = owner_xattr,
		.parent_fd = -1,
	};
	const pid_t parent = getpid();
	struct result result;
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return log_ret(-errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		/* Not one moment longer than who waits for it. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		confine(tree_fd, src->dir);
		result = run(src, meta, &tree, budget);
		_exit(util_write_all(fds[1], &result, sizeof(result)) < 0);
	}
	close(fds[1]);
	r = pid < 0 ? log_ret(-errno, "fork: %s", strerror(errno))
		    : await(src, pid, fds[0], &result);
	close(fds[0]);
	if (r < 0)
		return r;
	*ret = result.unpacked;
	return result.code;
}
