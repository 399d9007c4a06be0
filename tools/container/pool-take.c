/* SPDX-License-Identifier: Apache-2.0 */
/* A start looks for a machine that waits, and has it become its own. */
#include "tools/container/pool-wire.h"

#include "devices/virtio/virtio.h"
#include "tools/instance/instance.h"
#include "tools/instance/template-store.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/listener.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/vm.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/*
 * For all keepers together, which have nothing else to do: one that was stopped
 * is not waited for, as a template is there, too.
 */
#define ANSWER_MS 200
/* For the monitor of one that was given, which nobody else can have any more.
 */
#define ORDER_MS 3000
#define ENDS_MS  5000
/* For the list of all. */
#define SHOW_MS 2000
/* Sockets of the guest's ports have names behind the device's. */
#define PORT_CHARS (sizeof("_4294967295") - 1)

/* ---- keepers */

/*
 * Through the directory, as the store's path may be too long for an address.
 * -EAGAIN: more have connected already than wait at a socket, as with a keeper
 * that was stopped; connect(2) would wait for it without a limit.
 */
static int connect_to(int store_dir, const char *name)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	autofd int fd = socket(
		AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct ucred peer;
	socklen_t bytes = sizeof(peer);

	if (fd < 0)
		return -errno;
	if (snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/%s",
		     store_dir, name) >= (int)sizeof(un.sun_path))
		return -ENAMETOOLONG;
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0 ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0)
		return -errno;
	return peer.uid == geteuid() ? take_fd(&fd) : -EPERM;
}

static uint64_t after(unsigned ms)
{
	return util_now_ns() + ms * UINT64_C(1000000);
}

/* 0, or -ETIME or -errno. */
static int wait_for(int fd, uint64_t end_ns)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	int n;

	do {
		const uint64_t now = util_now_ns();

		n = poll(&pfd, 1,
			 now < end_ns ? (int)((end_ns - now) / 1000000) + 1
				      : 0);
	} while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n == 0 ? -ETIME : 0;
}

static int ask(int fd, uint64_t end_ns, const struct pool_request *request,
	       struct pool_answer *answer, int fds[POOL_FDS])
{
	int r = 0;

	if (send(fd, request, sizeof(*request), MSG_NOSIGNAL) !=
	    sizeof(*request))
		r = -ECONNRESET;
	if (r == 0)
		r = wait_for(fd, end_ns);
	if (r == 0 &&
	    descriptors_receive(fd, answer, sizeof(*answer), fds, POOL_FDS,
				MSG_DONTWAIT) != sizeof(*answer))
		r = -ECONNRESET;
	return r < 0 ? r : answer->result;
}

/* It asks for that before it is given away: else it would be lost. */
static int move_here(const struct pool_answer *answer)
{
	autofd int group = pool_place_open_group();
	int r = group < 0 ? group : pool_place_move(group, answer->keeper);

	if (r == 0)
		r = pool_place_move(group, answer->monitor);
	for (unsigned i = 0; r == 0 && i < POOL_HELPERS; i++) {
		if (answer->helpers[i] > 0)
			r = pool_place_move(group, answer->helpers[i]);
	}
	return r;
}

static int take_keeper(int fd, uint64_t end_ns, const struct pool_place *place,
		       struct pool_taken *ret, int *ret_order)
{
	struct pool_request request;
	struct pool_answer answer;
	int fds[POOL_FDS];
	int r;

	memset(&request, 0, sizeof(request));
	request.magic = POOL_MAGIC;
	request.what = POOL_TAKE;
	request.place = *place;
	r = ask(fd, end_ns, &request, &answer, fds);
	if (r == -EXDEV) {
		r = move_here(&answer);
		if (r == 0)
			r = ask(fd, end_ns, &request, &answer, fds);
	}
	if (r < 0)
		return r;
	if (fds[0] < 0)
		return -EPROTO;
	*ret_order = fds[POOL_FD_ORDER];
	*ret = (struct pool_taken){
		.link_fd = fd,
		.agent_fd = fds[POOL_FD_AGENT],
		.pid_fd = fds[POOL_FD_PROCESS],
		.console_fd = fds[POOL_FD_CONSOLE],
		.messages_fd = fds[POOL_FD_MESSAGES],
		.pid = answer.monitor,
		.agent_minor = answer.agent_minor,
		.records = answer.records,
	};
	return 0;
}

/* FN's first result that is not 1, which has it go on. */
static int each_socket(int store_dir, const char *prefix, const char *infix,
		       int (*fn)(int store_dir, const char *name, void *arg),
		       void *arg)
{
	int fd = openat(store_dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	const struct dirent *entry;
	int r = 1;

	if (!dir) {
		r = -errno;
		util_close(&fd);
		return r;
	}
	while (r == 1 && (entry = readdir(dir))) {
		if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
		    strstr(entry->d_name, infix) &&
		    strlen(entry->d_name) < POOL_NAME)
			r = fn(store_dir, entry->d_name, arg);
	}
	closedir(dir);
	return r;
}

struct taking {
	const struct config *cfg;
	const struct instance *instance;
	bool prepared;           /* its container is there */
	uint64_t end_ns;         /* until when it is waited for answers */
	struct pool_place place; /* of this process, once one is asked */
	struct pool_taken taken;
};

/* ---- what a container brings */

struct things {
	int fds[DESCRIPTORS_MAX]; /* the first one is borrowed */
	unsigned count;
	char *json; /* owned */
};

/*
 * A network's device has been made: it cannot have ports that nobody knew of,
 * nor a tap of the host's.
 */
static bool can_wait(const struct config *cfg, bool prepared)
{
	unsigned fds = POOL_ORDER_FIRST;

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		const struct config_device *device = &cfg->device[i];

		fds += vm_adopts(device, prepared);
		if (strcmp(device->type, "blk") == 0 ||
		    (strcmp(device->type, "fs") == 0 &&
		     config_text(device, "socket")))
			return false;
		if (strcmp(device->type, "net") == 0 &&
		    (!config_flag(device, "user") ||
		     config_text(device, "publish")))
			return false;
	}
	return cfg->sandbox && cfg->control && fds <= DESCRIPTORS_MAX;
}

/* As the monitor would by its path; without the mounts below, a copy. */
static int open_dir(const struct config_device *device)
{
	const char *path = config_text(device, "dir");
	const bool alone = config_text(device, "submounts") &&
			   !config_flag(device, "submounts");
	const int fd = alone ? (int)syscall(SYS_open_tree, AT_FDCWD, path,
					    OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC)
			     : open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* The socket's file stays, and is the monitor's to remove. */
static int open_listener(const char *path, size_t room)
{
	struct listener listener;
	const int r = listener_open(&listener, path, room, "run");
	const int fd = r < 0 ? r : listener.fd;

	if (r < 0)
		listener_close(&listener);
	else
		free(listener.path);
	return fd;
}

static int add(struct things *things, int fd)
{
	if (fd < 0)
		return fd;
	things->fds[things->count++] = fd;
	return 0;
}

static int gather(struct things *things, const struct config *cfg,
		  const struct instance *instance, bool prepared)
{
	int r;

	things->fds[things->count++] = instance->dir_fd;
	r = add(things, open_listener(cfg->control, 0));
	for (unsigned i = 0; r == 0 && i < cfg->ndevices; i++) {
		const struct config_device *device = &cfg->device[i];

		if (!vm_adopts(device, prepared))
			continue;
		r = add(things,
			strcmp(device->type, "vsock") == 0
				? open_listener(instance->socket, PORT_CHARS)
				: open_dir(device));
	}
	if (r == 0)
		things->json = config_json(cfg, virtio_config_types());
	return r < 0 ? r : things->json ? 0 : -ENOMEM;
}

static void drop_things(struct things *things)
{
	for (unsigned i = 1; i < things->count; i++)
		close(things->fds[i]);
	free(things->json);
}

static int send_order(int fd, const struct things *things, bool prepared)
{
	const struct pool_order order = {
		.magic = POOL_MAGIC,
		.config_bytes = (uint32_t)strlen(things->json),
		.nfds = things->count,
		.prepared = prepared,
	};
	int32_t answer = -ECONNRESET;
	int r = 0;

	if (order.config_bytes > POOL_CONFIG_MAX)
		return -E2BIG;
	if (send(fd, &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order) ||
	    descriptors_send(fd, things->json, order.config_bytes, things->fds,
			     things->count) != order.config_bytes)
		return -ECONNRESET;
	r = wait_for(fd, after(ORDER_MS));
	if (r == 0 &&
	    recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) != sizeof(answer))
		return -ECONNRESET;
	return r < 0 ? r : answer;
}

static int order(int fd, const struct taking *t)
{
	struct things things = {.count = 0};
	int r = gather(&things, t->cfg, t->instance, t->prepared);

	if (r == 0)
		r = send_order(fd, &things, t->prepared);
	drop_things(&things);
	/* Those that come after this start anew. */
	if (r < 0) {
		(void)unlink(t->cfg->control);
		(void)unlink(t->instance->socket);
	}
	return r;
}

/* ---- one machine */

/* 0, -errno: none of them is for this process; 1: the next may be. */
static int try_one(int store_dir, const char *name, void *arg)
{
	struct taking *t = arg;
	autofd int fd = connect_to(store_dir, name);
	autofd int order_fd = -1;
	int r;

	if (fd == -ECONNREFUSED)
		(void)unlinkat(store_dir, name, 0);
	r = fd;
	if (r >= 0 && !t->place.hash[0])
		r = pool_place_read(&t->place);
	r = r < 0 ? r
		  : take_keeper(fd, t->end_ns, &t->place, &t->taken, &order_fd);
	log_debug("machine %s: %s", name, r < 0 ? strerror(-r) : "taken");
	if (r < 0)
		return r == -EPERM || r == -EXDEV ? r : 1;
	(void)take_fd(&fd);
	r = order(order_fd, t);
	if (r < 0) {
		log_debug("machine %s: %s", name, strerror(-r));
		pool_release(&t->taken);
	}
	return r;
}

int pool_take(int store_dir, const char *name, bool prepared,
	      const struct config *cfg, const struct instance *instance,
	      struct pool_taken *ret)
{
	struct taking t = {
		.cfg = cfg,
		.instance = instance,
		.prepared = prepared,
		.end_ns = after(ANSWER_MS),
		.taken = POOL_TAKEN_NONE,
	};
	char prefix[POOL_NAME];
	int r;

	if (!can_wait(cfg, prepared))
		return -ENOTSUP;
	snprintf(prefix, sizeof(prefix), "%s" POOL_INFIX, name);
	r = each_socket(store_dir, prefix, POOL_INFIX, try_one, &t);
	if (r == 0) {
		*ret = t.taken;
		ret->prepared = prepared;
	}
	return r == 1 ? -ENOENT : r;
}

void pool_release(struct pool_taken *taken)
{
	util_close(&taken->link_fd);
	util_close(&taken->agent_fd);
	util_close(&taken->pid_fd);
	util_close(&taken->console_fd);
	util_close(&taken->messages_fd);
	*taken = POOL_TAKEN_NONE;
}

int pool_await_status(int link_fd)
{
	struct pollfd pfd = {.fd = link_fd, .events = POLLIN};
	int32_t status;

	/* A keeper that was killed has taken the monitor along. */
	if (poll(&pfd, 1, ENDS_MS) < 1 || recv(link_fd, &status, sizeof(status),
					       MSG_DONTWAIT) != sizeof(status))
		return SIGKILL;
	return status;
}

/* ---- all of them */

struct walk {
	void (*fn)(const char *name, pid_t keeper, pid_t monitor);
};

static int show_one(int store_dir, const char *name, void *arg)
{
	const struct walk *walk = arg;
	struct pool_request request;
	struct pool_answer answer;
	int fds[POOL_FDS];
	autofd int fd = connect_to(store_dir, name);

	memset(&request, 0, sizeof(request));
	request.magic = POOL_MAGIC;
	request.what = POOL_SHOW;
	if (fd >= 0 && ask(fd, util_now_ns() + SHOW_MS * UINT64_C(1000000),
			   &request, &answer, fds) == 0)
		walk->fn(name, answer.keeper, answer.monitor);
	return 1;
}

int pool_each(int store_dir,
	      void (*fn)(const char *name, pid_t keeper, pid_t monitor))
{
	struct walk walk = {.fn = fn};
	const int r = each_socket(store_dir, "", POOL_INFIX, show_one, &walk);

	return r == 1 ? 0 : r;
}

static int sweep_one(int store_dir, const char *name, void *arg)
{
	autofd int fd = connect_to(store_dir, name);

	(void)arg;
	if (fd == -ECONNREFUSED)
		(void)unlinkat(store_dir, name, 0);
	return 1;
}

/* One of a keeper that ended before it listened. */
static int sweep_part(int store_dir, const char *name, void *arg)
{
	const pid_t pid = (pid_t)atoi(name + strlen(POOL_PART));

	(void)arg;
	if (pid > 0 && kill(pid, 0) < 0 && errno == ESRCH)
		(void)unlinkat(store_dir, name, 0);
	return 1;
}

void pool_sweep(int store_dir)
{
	(void)each_socket(store_dir, "", POOL_INFIX, sweep_one, NULL);
	(void)each_socket(store_dir, POOL_PART, POOL_PART, sweep_part, NULL);
}
