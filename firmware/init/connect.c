/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes between the host and a program that listens at the guest's loopback. */
#include "firmware/init/connect.h"

#include "firmware/init/request.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BYTES 16384

/* One direction. Bytes that were read wait until the other side takes them. */
struct way {
	int from, to; /* borrowed */
	uint8_t *data;
	size_t at, have;
	bool ended; /* nothing more comes, or nobody takes it */
};

/* 127.0.0.1, or ::1: a program may listen at one of them alone. */
static int open_port(uint16_t port)
{
	const struct sockaddr_in v4 = {
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	const struct sockaddr_in6 v6 = {
		.sin6_family = AF_INET6,
		.sin6_port = htons(port),
		.sin6_addr = IN6ADDR_LOOPBACK_INIT,
	};
	autofd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int error;

	if (fd >= 0 && connect(fd, (const void *)&v4, sizeof(v4)) == 0)
		return take_fd(&fd);
	error = errno;
	util_close(&fd);
	fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd >= 0 && connect(fd, (const void *)&v6, sizeof(v6)) == 0)
		return take_fd(&fd);
	return log_ret(-error, "port %u of the guest's loopback: %s", port,
		       strerror(error));
}

static bool must_wait(void)
{
	return errno == EAGAIN || errno == EINTR;
}

/* 0, or -errno: the connection broke. */
static int take(struct way *w)
{
	const ssize_t n = read(w->from, w->data, BYTES);

	if (n < 0)
		return must_wait() ? 0 : -errno;
	w->ended = n == 0;
	w->at = 0;
	w->have = (size_t)n;
	return 0;
}

static void give(struct way *w)
{
	const ssize_t n = write(w->to, w->data + w->at, w->have);

	if (n < 0 && must_wait())
		return;
	if (n < 0) {
		w->ended = true;
		w->have = 0;
		return;
	}
	w->at += (size_t)n;
	w->have -= (size_t)n;
}

static int move(struct way *w, short events)
{
	if (!events)
		return 0;
	if (w->have == 0)
		return take(w);
	give(w);
	return 0;
}

/* 0, or -errno. IN has no more when its reader is gone, OUT ends it all. */
static int relay(struct way *in, struct way *out)
{
	bool told = false;

	while (!out->ended || out->have > 0) {
		struct pollfd pfd[2] = {
			{.fd = in->have    ? in->to
			       : in->ended ? -1
					   : in->from,
			 .events = in->have ? POLLOUT : POLLIN},
			{.fd = out->have ? out->to : out->from,
			 .events = out->have ? POLLOUT : POLLIN},
		};
		int r;

		if (in->ended && in->have == 0 && !told) {
			shutdown(in->to, SHUT_WR);
			close(in->from);
			told = true;
		}
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return -errno;
		r = move(in, pfd[0].revents);
		if (r == 0)
			r = move(out, pfd[1].revents);
		if (r < 0)
			return r;
	}
	return 0;
}

static int set_nonblocking(int fd)
{
	const int flags = fcntl(fd, F_GETFL);

	return flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ? -errno
								       : 0;
}

int connect_run(const struct init_strings *args)
{
	struct way in = {.from = STDIN_FILENO, .data = malloc(BYTES)};
	struct way out = {.to = STDOUT_FILENO, .data = malloc(BYTES)};
	uint64_t port;
	int fd, r;

	/* It ends with its process: nothing is freed. */
	if (!in.data || !out.data)
		return 1;
	if (util_parse_number(args->list[1], 1, UINT16_MAX, &port) < 0) {
		log_error("'%s': not a port", args->list[1]);
		return 1;
	}
	fd = open_port((uint16_t)port);
	if (fd < 0)
		return 1;
	in.to = out.from = fd;
	r = set_nonblocking(fd);
	if (r == 0)
		r = set_nonblocking(STDIN_FILENO);
	if (r == 0)
		r = set_nonblocking(STDOUT_FILENO);
	if (r == 0)
		r = relay(&in, &out);
	return r < 0;
}
