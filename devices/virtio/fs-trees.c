/* SPDX-License-Identifier: Apache-2.0 */
/* Connections, the trees that each holds, and trees that several hold. */
#include "devices/virtio/fs-trees.h"

#include "devices/fs/fs.h"
#include "devices/fs/fuse.h"
#include "devices/virtio/virtio.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/listener.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/vfs.h>
#include <unistd.h>

#define CLIENTS_MAX 256

const struct sandbox_rule fs_trees_syscalls[] = {
	SANDBOX_CALL(accept4),
	SANDBOX_CALL(recvmsg),
	SANDBOX_CALL(sendto),
	/* fs_open()'s */
	SANDBOX_CALL(geteuid),
	SANDBOX_CALL(getegid),
	SANDBOX_CALL(capget),
	SANDBOX_END,
};

struct tree {
	LIST_ENTRY(tree) all;
	struct fs *fs; /* owned */
	char name[16];
	unsigned users;
	/* which directory it is; another one like it is it, too */
	bool alone, readonly;
	bool mount_readonly; /* as the host has mounted it */
	uint32_t major, minor;
	uint64_t ino;
};

struct client {
	LIST_ENTRY(client) all;
	struct loop_source source; /* fd: owned; -1: it has ended */
	struct fs_trees *trees;
	struct tree **held; /* owned, but not what is in it */
	unsigned nheld;
};

struct fs_trees {
	struct virtio_dev *dev;
	struct fuse *fuse; /* borrowed, as the next */
	const struct fs_options *options;
	struct listener host;
	struct loop_source source;
	unsigned most, ntrees, nclients;
	uint32_t number; /* the next one's name */
	LIST_HEAD(trees, tree) trees;
	LIST_HEAD(clients, client) clients;
};

/* ---- trees */

static void release(struct fs_trees *t, struct tree *tree)
{
	if (--tree->users > 0)
		return;
	if (t->fuse)
		fuse_remove(t->fuse, tree->fs);
	LIST_REMOVE(tree, all);
	t->ntrees--;
	fs_close(tree->fs);
	free(tree);
}

static struct tree *find_same(struct fs_trees *t, const struct tree *like)
{
	struct tree *tree = LIST_FIRST(&t->trees);

	for (; tree; tree = LIST_NEXT(tree, all)) {
		if (like->alone && tree->alone &&
		    tree->readonly == like->readonly &&
		    tree->mount_readonly == like->mount_readonly &&
		    tree->major == like->major && tree->minor == like->minor &&
		    tree->ino == like->ino)
			return tree;
	}
	return NULL;
}

/* A new one of LIKE's kind, in the list. 0 or -errno. */
static int open_tree(struct fs_trees *t, const struct fs_trees_request *req,
		     int fd, const struct tree *like, struct tree **ret)
{
	struct fs_options options = *t->options;
	struct tree *tree;
	int r;

	if (t->ntrees == t->most)
		return -E2BIG;
	tree = malloc(sizeof(*tree));
	if (!tree)
		return -ENOMEM;
	*tree = *like;
	options.path = req->what;
	options.has_fd = true;
	options.fd = fd;
	options.only = req->only[0] ? req->only : NULL;
	options.readonly = tree->readonly;
	snprintf(tree->name, sizeof(tree->name), "%u", t->number++);
	r = fs_open(t->dev->name, &options, &tree->fs);
	if (r == 0) {
		r = fuse_add(t->fuse, tree->name, tree->fs);
		if (r < 0)
			fs_close(tree->fs);
	}
	if (r < 0) {
		free(tree);
		return r;
	}
	LIST_INSERT_HEAD(&t->trees, tree, all);
	t->ntrees++;
	*ret = tree;
	return 0;
}

static int add(struct client *c, const struct fs_trees_request *req, int fd,
	       struct fs_trees_answer *answer)
{
	struct fs_trees *t = c->trees;
	struct tree like = {.readonly = req->flags & FS_TREES_READONLY,
			    .alone = req->flags & FS_TREES_ALONE &&
				     !req->only[0]};
	struct tree **held, *tree;
	struct statfs stat;
	struct statx stx;
	int r = 0;

	if (req->magic != FS_TREES_MAGIC ||
	    req->flags & ~(uint32_t)FS_TREES_FLAGS || req->what[0] == '\0' ||
	    !memchr(req->what, 0, sizeof(req->what)) ||
	    !memchr(req->only, 0, sizeof(req->only)) || strchr(req->only, '/'))
		return -EINVAL;
	if (fd < 0)
		return -EBADF;
	if (statx(fd, "", AT_EMPTY_PATH, STATX_INO, &stx) < 0 ||
	    fstatfs(fd, &stat) < 0)
		return -errno;
	like.major = stx.stx_dev_major;
	like.minor = stx.stx_dev_minor;
	like.ino = stx.stx_ino;
	like.mount_readonly = stat.f_flags & ST_RDONLY;
	held = reallocarray(c->held, c->nheld + 1, sizeof(*held));
	if (!held)
		return -ENOMEM;
	c->held = held;
	tree = find_same(t, &like);
	if (!tree)
		r = open_tree(t, req, fd, &like, &tree);
	if (r < 0)
		return r;
	tree->users++;
	held[c->nheld++] = tree;
	memcpy(answer->name, tree->name, sizeof(answer->name));
	return 0;
}

/* ---- connections */

static void hang_up(struct client *c)
{
	if (c->source.fd < 0)
		return;
	loop_del(c->trees->dev->loop, &c->source);
	util_close(&c->source.fd);
}

/* One that has hung up. */
static void drop(struct client *c)
{
	for (unsigned i = 0; i < c->nheld; i++)
		release(c->trees, c->held[i]);
	LIST_REMOVE(c, all);
	c->trees->nclients--;
	free(c->held);
	free(c);
}

void fs_trees_sweep(struct fs_trees *t)
{
	struct client *c = LIST_FIRST(&t->clients), *next;

	/* A request that waits for a lock may not be answered. */
	if (t->dev->paused)
		return;
	for (; c; c = next) {
		next = LIST_NEXT(c, all);
		if (c->source.fd < 0)
			drop(c);
	}
}

/* False: the connection is over. */
static bool serve(struct client *c)
{
	struct fs_trees_answer answer = {0};
	struct fs_trees_request req = {0};
	autofd int fd = -1;
	const ssize_t n = descriptors_receive(c->source.fd, &req, sizeof(req),
					      &fd, 1, MSG_DONTWAIT);

	if (n == -EAGAIN)
		return true;
	/* It is sent at once, and so it comes at once. */
	if (n != sizeof(req))
		return false;
	answer.error = add(c, &req, fd, &answer);
	return send(c->source.fd, &answer, sizeof(answer),
		    MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(answer);
}

static void client_ready(struct loop_source *source, uint32_t events)
{
	struct client *c = container_of(source, struct client, source);
	struct fs_trees *t = c->trees;
	struct virtio_dev *d = t->dev;

	(void)events;
	virtio_lock(d);
	if (!serve(c))
		hang_up(c);
	fs_trees_sweep(t);
	virtio_unlock(d);
}

static void accept_one(struct fs_trees *t)
{
	autofd int fd = listener_accept(&t->host);
	struct client *c;

	if (fd < 0 || t->nclients == CLIENTS_MAX)
		return;
	c = calloc(1, sizeof(*c));
	if (!c)
		return;
	c->trees = t;
	c->source.fd = fd;
	c->source.fn = client_ready;
	if (loop_add(t->dev->loop, &c->source, EPOLLIN) < 0) {
		free(c);
		return;
	}
	(void)take_fd(&fd);
	LIST_INSERT_HEAD(&t->clients, c, all);
	t->nclients++;
}

static void listener_ready(struct loop_source *source, uint32_t events)
{
	struct fs_trees *t = container_of(source, struct fs_trees, source);
	struct virtio_dev *d = t->dev;

	(void)events;
	virtio_lock(d);
	accept_one(t);
	virtio_unlock(d);
}

/* ---- for the device */

int fs_trees_open(struct virtio_dev *d, const char *path, unsigned most,
		  const struct fs_options *options, struct fs_trees **ret)
{
	struct fs_trees *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return log_ret(-ENOMEM, "%s: out of memory", d->name);
	t->dev = d;
	t->most = most;
	t->options = options;
	LIST_INIT(&t->trees);
	LIST_INIT(&t->clients);
	r = listener_open(&t->host, path, 0, d->name);
	if (r == 0) {
		t->source.fd = t->host.fd;
		t->source.fn = listener_ready;
		r = loop_add(d->loop, &t->source, EPOLLIN);
		if (r < 0)
			log_error("%s: socket '%s': %s", d->name, path,
				  strerror(-r));
	}
	if (r < 0) {
		fs_trees_close(t);
		return r;
	}
	*ret = t;
	return 0;
}

void fs_trees_set_session(struct fs_trees *t, struct fuse *fuse)
{
	t->fuse = fuse;
}

void fs_trees_close(struct fs_trees *t)
{
	struct client *c;

	if (!t)
		return;
	if (t->source.added)
		loop_del(t->dev->loop, &t->source);
	t->fuse = NULL;
	while ((c = LIST_FIRST(&t->clients))) {
		hang_up(c);
		drop(c);
	}
	util_close(&t->host.fd);
	free(t->host.path);
	free(t);
}
