/* SPDX-License-Identifier: Apache-2.0 */
/* Both ends of the socket of a running machine. */
#include "tools/container/vm-socket.h"

#include "vmm/base/descriptors.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/sandbox.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PROTOCOL   3
#define PATIENCE_S 5    /* for a request whose connection is there */
#define FILES      3    /* state, memory, memory to be tracked */
#define ERRNO_MAX  4095 /* of Linux */

struct request {
	uint32_t protocol;
	uint32_t what; /* enum vm_request */
	uint32_t flags;
	uint8_t id[16], base_id[16];
};

/*
 * VM_REQUEST_SAVE_TO has these. A live save is answered twice, the first time
 * when the guest goes on.
 */
#define FLAG_LIVE     1u
#define FLAG_HAS_BASE 2u
#define FLAG_TRACK    4u

/* ---- the monitor's side */

const struct sandbox_rule vm_socket_syscalls[] = {
	SANDBOX_CALL(accept4),
	SANDBOX_CALL(recvmsg),
	SANDBOX_CALL(sendto),
	/* the socket's file, at the end */
	SANDBOX_CALL(newfstatat),
	SANDBOX_CALL(unlink),
	SANDBOX_END,
};

int vm_socket_open(struct vm_socket *s, const char *path)
{
	int r;

	r = vm_socket_open_later(s);
	return r < 0 ? r : listener_open(&s->listener, path, 0, "--control");
}

int vm_socket_open_later(struct vm_socket *s)
{
	*s = VM_SOCKET_NONE;
	s->stop_fd = loop_eventfd();
	return s->stop_fd < 0 ? log_ret(s->stop_fd, "eventfd: %s",
					strerror(-s->stop_fd))
			      : 0;
}

int vm_socket_adopt(struct vm_socket *s, const char *path, int *fd)
{
	const int r = listener_adopt(&s->listener, path, *fd);

	if (r < 0)
		return log_ret(r, "socket '%s': %s", path, strerror(-r));
	*fd = -1;
	return 0;
}

static bool receive(const struct vm_socket *s, int fd, struct request *ret,
		    int files[FILES])
{
	struct pollfd pfd[2] = {
		{.fd = fd, .events = POLLIN},
		{.fd = s->stop_fd, .events = POLLIN},
	};

	/* Also where nothing comes: 0 would be a descriptor of somebody's. */
	for (unsigned i = 0; i < FILES; i++)
		files[i] = -1;
	if (poll(pfd, 2, PATIENCE_S * 1000) < 1 || !pfd[0].revents)
		return false;
	return descriptors_receive(fd, ret, sizeof(*ret), files, FILES,
				   MSG_DONTWAIT) == sizeof(*ret) &&
	       ret->protocol == PROTOCOL;
}

/* A caller that has gone is noticed while the memory is written. */
static void answer_that_it_goes_on(void *arg, const struct vm_saved *saved)
{
	struct vm_answer answer;

	memset(&answer, 0, sizeof(answer));
	answer.saved = *saved;
	(void)send(*(const int *)arg, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static int32_t save_to(struct vm *vm, const struct request *request,
		       const int files[FILES], int connection,
		       struct vm_saved *saved)
{
	const bool has_base = request->flags & FLAG_HAS_BASE,
		   live = request->flags & FLAG_LIVE;
	const struct vm_save_target to = {
		.id = request->id,
		.base_id = has_base ? request->base_id : NULL,
		.state_fd = files[0],
		.memory_fd = files[1],
		.gone_fd = connection,
		.track_fd = request->flags & FLAG_TRACK ? files[2] : -1,
		.goes_on = live ? answer_that_it_goes_on : NULL,
		.arg = &connection,
	};

	return files[0] < 0 || files[1] < 0 ? -EBADF
					    : vm_save_to(vm, &to, saved);
}

static int32_t serve_request(struct vm *vm, const struct request *request,
			     const int files[FILES], int connection,
			     struct vm_saved *saved)
{
	switch (request->what) {
	case VM_REQUEST_PAUSE:
		return vm_pause(vm);
	case VM_REQUEST_RESUME:
		return vm_resume(vm);
	case VM_REQUEST_SAVE:
		return files[0] < 0 || files[1] < 0
			       ? -EBADF
			       : vm_save(vm, request->id, files[0], files[1],
					 connection, saved);
	case VM_REQUEST_SAVE_TO:
		return save_to(vm, request, files, connection, saved);
	case VM_REQUEST_END_RECORD:
		vm_end_record(vm);
		return 0;
	case VM_REQUEST_SHOW:
		vm_show(vm);
		return 0;
	default:
		return -EINVAL;
	}
}

static void serve_connection(struct vm_socket *s)
{
	struct vm_answer answer;
	autofd int first = -1, second = -1, third = -1;
	int files[FILES];
	struct request request;
	autofd int fd = listener_accept(&s->listener);
	bool whole;

	if (fd < 0)
		return;
	/* All of it is sent, what lies between its members too. */
	memset(&answer, 0, sizeof(answer));
	answer.result = -EPROTO;
	whole = receive(s, fd, &request, files);
	first = files[0];
	second = files[1];
	third = files[2];
	if (whole)
		answer.result = serve_request(s->vm, &request, files, fd,
					      &answer.saved);
	(void)send(fd, &answer, sizeof(answer), MSG_NOSIGNAL);
}

static void *serve(void *arg)
{
	struct vm_socket *s = arg;
	struct pollfd pfd[2] = {
		{.fd = s->listener.fd, .events = POLLIN},
		{.fd = s->stop_fd, .events = POLLIN},
	};

	while (!pfd[1].revents) {
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			break;
		if (pfd[0].revents)
			serve_connection(s);
	}
	return NULL;
}

/* On the main loop: a machine that nobody asks for anything has no thread. */
static void start_serving(struct loop_source *source, uint32_t events)
{
	struct vm_socket *s = container_of(source, struct vm_socket, first);
	int r;

	(void)events;
	vm_unwatch(s->vm, source);
	r = thread_start(&s->thread, 0, serve, s);
	s->has_thread = r == 0;
	if (r == 0)
		return;
	log_error("--control: cannot start a thread: %s", strerror(-r));
	/* A program that asks hears of it instead of waiting. */
	listener_close(&s->listener);
}

int vm_socket_start(struct vm_socket *s, struct vm *vm)
{
	int r;

	s->vm = vm;
	s->first.fn = start_serving;
	s->first.fd = s->listener.fd;
	r = vm_watch(vm, &s->first);
	return r < 0 ? log_ret(r, "--control: %s", strerror(-r)) : 0;
}

void vm_socket_done(struct vm_socket *s)
{
	if (s->vm && !s->has_thread)
		vm_unwatch(s->vm, &s->first);
	if (s->has_thread) {
		loop_signal(s->stop_fd);
		pthread_join(s->thread, NULL);
	}
	listener_close(&s->listener);
	util_close(&s->stop_fd);
	*s = VM_SOCKET_NONE;
}

/* ---- the other program's */

static int connect_to(const char *path, const struct timeval *limit)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	autofd int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(un.sun_path))
		return log_ret(-ENAMETOOLONG, "'%s': too long for a socket",
			       path);
	strcpy(un.sun_path, path);
	if (fd >= 0) {
		(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, limit,
				 sizeof(*limit));
		(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, limit,
				 sizeof(*limit));
	}
	if (fd < 0 || connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return log_ret(
			-errno, "'%s': %s%s", path, strerror(errno),
			errno == ECONNREFUSED
				? ": its machine has ended, or it is no socket"
			: errno == ENOENT
				? ": the machine needs --control with this path"
				: "");
	return take_fd(&fd);
}

/*
 * Sends the request: its connection, or -errno, logged. TRACK_FD: where FLAGS
 * has FLAG_TRACK; a message of files has as many always.
 */
static int send_request(const char *path, const struct request *request,
			const int files[2], int track_fd, int timeout_ms)
{
	const int all[FILES] = {
		files ? files[0] : -1,
		files ? files[1] : -1,
		files && track_fd < 0 ? files[1] : track_fd,
	};
	const struct timeval limit = {
		.tv_sec = timeout_ms / 1000,
		.tv_usec = timeout_ms % 1000 * 1000,
	};
	autofd int fd = connect_to(path, &limit);
	ssize_t n;

	if (fd < 0)
		return fd;
	n = descriptors_send(fd, request, sizeof(*request), all,
			     files ? FILES : 0);
	if (n < 0)
		return log_ret((int)n, "'%s': %s", path, strerror((int)-n));
	return take_fd(&fd);
}

static int too_late(const char *path)
{
	return log_ret(-ETIME, "'%s': the machine does not answer", path);
}

static int take_answer(int fd, const char *path, struct vm_answer *ret)
{
	const ssize_t n = recv(fd, ret, sizeof(*ret), MSG_WAITALL);

	if (n < 0 && errno == EAGAIN)
		return too_late(path);
	if (n < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	if (n != sizeof(*ret))
		return log_ret(-ECONNRESET,
			       "'%s': the machine ended before it answered",
			       path);
	ret->saved.why[sizeof(ret->saved.why) - 1] = '\0';
	/* The socket may be another program's. */
	if (ret->result > 0 || ret->result < -ERRNO_MAX)
		return log_ret(-EPROTO, "'%s': the answer %d is none", path,
			       (int)ret->result);
	return 0;
}

int vm_socket_ask(const char *path, enum vm_request what, const uint8_t id[16],
		  const int files[2], int timeout_ms, struct vm_answer *ret)
{
	return vm_socket_ask_unless(path, what, id, files, -1, timeout_ms, ret);
}

/* 0: there is an answer, or the connection's end; else as above. */
static int await_answer(int fd, const char *path, int gone_fd, int timeout_ms)
{
	struct pollfd pfd[2] = {
		{.fd = fd, .events = POLLIN},
		{.fd = gone_fd, .events = POLLIN},
	};
	const int n = poll(pfd, 2, timeout_ms ? timeout_ms : -1);

	if (n < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	if (n == 0)
		return too_late(path);
	return pfd[0].revents ? 0 : -ECONNRESET;
}

int vm_socket_ask_unless(const char *path, enum vm_request what,
			 const uint8_t id[16], const int files[2], int gone_fd,
			 int timeout_ms, struct vm_answer *ret)
{
	struct request request = {.protocol = PROTOCOL, .what = what};
	autofd int fd = -1;
	int r;

	if (id)
		memcpy(request.id, id, sizeof(request.id));
	fd = send_request(path, &request, files, -1, timeout_ms);
	if (fd < 0)
		return fd;
	r = await_answer(fd, path, gone_fd, timeout_ms);
	return r < 0 ? r : take_answer(fd, path, ret);
}

int vm_socket_save(const char *path, const struct vm_socket_target *to,
		   struct vm_answer *ret)
{
	struct request request = {
		.protocol = PROTOCOL,
		.what = VM_REQUEST_SAVE_TO,
		.flags = (to->goes_on ? FLAG_LIVE : 0) |
			 (to->base_id ? FLAG_HAS_BASE : 0) |
			 (to->track_fd >= 0 ? FLAG_TRACK : 0),
	};
	autofd int fd = -1;
	int r;

	memcpy(request.id, to->id, sizeof(request.id));
	if (to->base_id)
		memcpy(request.base_id, to->base_id, sizeof(request.base_id));
	fd = send_request(path, &request, to->files, to->track_fd, 0);
	r = fd < 0 ? fd : take_answer(fd, path, ret);
	if (r < 0 || ret->result < 0 || !to->goes_on)
		return r;
	to->goes_on(to->arg);
	return take_answer(fd, path, ret);
}
