/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers are of one size, which a pipe keeps in one piece. */
#include "tools/container/control.h"

#include "tools/container/plug.h"
#include "vmm/base/log.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>

struct message {
	uint64_t number; /* an answer has its request's */
	int32_t value;   /* enum control_what, or 0 or -errno */
	uint32_t reserved;
};

/* Reading and writing, so that neither side's end is the other's. */
static int open_pipe(const char *dir, const char *name, bool make, int *ret)
{
	autofree char *path = NULL;
	autofd int fd = -1;
	struct stat st;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	if (make && mkfifo(path, 0600) < 0 && errno != EEXIST)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	fd = open(path, O_RDWR | O_NONBLOCK | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	if (!S_ISFIFO(st.st_mode))
		return log_ret(-EINVAL, "'%s': not a named pipe", path);
	*ret = take_fd(&fd);
	return 0;
}

static bool read_message(int fd, struct message *ret)
{
	return read(fd, ret, sizeof(*ret)) == sizeof(*ret);
}

/* ---- the monitor's side */

int control_open(struct control *control, const char *dir, int plug_fd)
{
	int r = 0;

	*control = CONTROL_NONE;
	control->plug_fd = plug_fd;
	if (dir)
		r = open_pipe(dir, CONTROL_REQUEST_FILE, true,
			      &control->request_fd);
	if (dir && r == 0)
		r = open_pipe(dir, CONTROL_ANSWER_FILE, true,
			      &control->answer_fd);
	if (r < 0)
		return r;
	control->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return control->stop_fd < 0
		       ? log_ret(-errno, "eventfd: %s", strerror(errno))
		       : 0;
}

static void serve_message(struct control *control)
{
	struct message m;

	if (!read_message(control->request_fd, &m))
		return;
	if (m.value == CONTROL_PAUSE)
		m.value = vm_pause(control->vm);
	else if (m.value == CONTROL_RESUME)
		m.value = vm_resume(control->vm);
	else
		m.value = -EINVAL;
	/* Nobody has read hundreds of answers where there is no room. */
	(void)util_write_all(control->answer_fd, &m, sizeof(m));
}

static void *serve(void *arg)
{
	struct control *control = arg;
	struct pollfd pfd[3] = {
		{.fd = control->request_fd, .events = POLLIN},
		{.fd = control->stop_fd, .events = POLLIN},
		{.fd = control->plug_fd, .events = POLLIN},
	};

	while (!pfd[1].revents) {
		if (poll(pfd, 3, -1) < 0 && errno != EINTR)
			break;
		if (pfd[0].revents)
			serve_message(control);
		if (pfd[2].revents && !plug_serve(pfd[2].fd, control->vm))
			pfd[2].fd = -1;
	}
	return NULL;
}

int control_start(struct control *control, struct vm *vm)
{
	int r;

	control->vm = vm;
	r = thread_start(&control->thread, 0, serve, control);
	if (r < 0)
		return log_ret(r, "cannot start a thread: %s", strerror(-r));
	control->has_thread = true;
	return 0;
}

void control_done(struct control *control)
{
	const uint64_t one = 1;

	if (control->has_thread) {
		(void)util_write_all(control->stop_fd, &one, sizeof(one));
		pthread_join(control->thread, NULL);
		control->has_thread = false;
	}
	util_close(&control->request_fd);
	util_close(&control->answer_fd);
	util_close(&control->stop_fd);
	util_close(&control->plug_fd);
}

/* ---- the other program's */

struct asker {
	int request_fd, answer_fd, gone_fd;
	uint64_t end_ns;
};

/* 0, -ETIME or -ECONNRESET. FD -1: only waits. */
static int wait_readable(const struct asker *a, int fd, int at_most_ms)
{
	struct pollfd pfd[2] = {
		{.fd = fd, .events = POLLIN},
		{.fd = a->gone_fd, .events = POLLIN},
	};
	const uint64_t now = util_now_ns();
	int left_ms;

	if (now >= a->end_ns)
		return -ETIME;
	left_ms = (int)((a->end_ns - now) / 1000000) + 1;
	if (at_most_ms >= 0 && at_most_ms < left_ms)
		left_ms = at_most_ms;
	if (poll(pfd, 2, left_ms) < 0 && errno != EINTR)
		return log_ret(-errno, "poll: %s", strerror(errno));
	if (pfd[0].revents)
		return 0;
	return pfd[1].revents ? -ECONNRESET : 0;
}

/* One program asks at a time. */
static int take_turn(const struct asker *a)
{
	int r = 0;

	while (flock(a->request_fd, LOCK_EX | LOCK_NB) < 0) {
		if (errno != EWOULDBLOCK && errno != EINTR)
			return log_ret(-errno, "lock: %s", strerror(errno));
		r = wait_readable(a, -1, 10);
		if (r < 0)
			return r;
	}
	return 0;
}

/* Messages: more than fit into a pipe. The other side may write all the time.
 */
#define DRAIN_MAX 4096

/* Others did not wait until these came. */
static void drain(int fd)
{
	struct message m;

	for (unsigned i = 0; i < DRAIN_MAX && read_message(fd, &m); i++)
		;
}

/* Nobody waits for the answer any more: the request is to have no effect. */
static void take_back(const struct asker *a, const struct message *request)
{
	const struct message undo = {.value = CONTROL_RESUME};
	struct message m;
	bool is_back = false, is_owed = false;

	for (unsigned i = 0; i < DRAIN_MAX && read_message(a->request_fd, &m);
	     i++) {
		is_back = is_back || m.number == request->number;
		/* Another's, whose pause the monitor is still busy with. */
		is_owed = is_owed || m.number == undo.number;
	}
	/* The monitor has read it, and may be busy with it now. */
	if (is_owed || (!is_back && request->value == CONTROL_PAUSE))
		(void)util_write_all(a->request_fd, &undo, sizeof(undo));
}

static int ask(const struct asker *a, enum control_what what)
{
	struct message m = {.value = what}, answer;
	int r = take_turn(a);

	if (r < 0)
		return r;
	drain(a->answer_fd);
	if (getrandom(&m.number, sizeof(m.number), 0) != sizeof(m.number))
		return log_ret(-errno, "getrandom: %s", strerror(errno));
	r = util_write_all(a->request_fd, &m, sizeof(m));
	if (r < 0)
		return log_ret(r, "a request to the machine: %s", strerror(-r));
	for (;;) {
		r = wait_readable(a, a->answer_fd, -1);
		if (r < 0)
			break;
		if (read_message(a->answer_fd, &answer) &&
		    answer.number == m.number)
			return answer.value;
	}
	take_back(a, &m);
	return r;
}

int control_ask(const char *dir, enum control_what what, int gone_fd,
		int timeout_ms)
{
	autofd int request_fd = -1, answer_fd = -1;
	struct asker a = {
		.gone_fd = gone_fd,
		.end_ns = util_now_ns() + (uint64_t)timeout_ms * 1000000,
	};
	int r = open_pipe(dir, CONTROL_REQUEST_FILE, false, &request_fd);

	if (r == 0)
		r = open_pipe(dir, CONTROL_ANSWER_FILE, false, &answer_fd);
	if (r < 0)
		return r;
	a.request_fd = request_fd;
	a.answer_fd = answer_fd;
	return ask(&a, what);
}
