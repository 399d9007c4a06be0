/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams between the test guest and the host by the vsock device: echo, many
 * at once, each direction alone. The same actions run at both ends; WHERE is a
 * port in the guest, and on the host a Unix socket: PATH to listen on,
 * PATH@PORT to reach a port of the guest's.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK       (64u << 10)
#define STREAMS_MAX 512
#define STACK       (64u << 10)
#define SEED        11

union address {
	struct sockaddr any;
	struct sockaddr_un un;
	struct sockaddr_vm vm;
};

/* WHERE without its @PORT; the socket's family is the address's. */
static socklen_t address(const char *where, unsigned cid, union address *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (strchr(where, '/')) {
		ret->un.sun_family = AF_UNIX;
		snprintf(ret->un.sun_path, sizeof(ret->un.sun_path), "%.*s",
			 (int)strcspn(where, "@"), where);
		return sizeof(ret->un);
	}
	ret->vm.svm_family = AF_VSOCK;
	ret->vm.svm_cid = cid;
	ret->vm.svm_port = (unsigned)guest_number(where);
	return sizeof(ret->vm);
}

/* "CONNECT PORT", and the answer: on the host's side a connection begins so. */
static int greet(int fd, const char *port)
{
	char line[32];
	int n = snprintf(line, sizeof(line), "CONNECT %s\n", port);

	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) != n)
		return -1;
	for (n = 0; n < (int)sizeof(line) - 1; n++) {
		if (recv(fd, line + n, 1, 0) != 1)
			return -1;
		if (line[n] == '\n')
			return strncmp(line, "OK ", 3) == 0 ? 0 : -1;
	}
	return -1;
}

static int dial_once(const char *where)
{
	const char *port = strchr(where, '@');
	union address to;
	const socklen_t bytes = address(where, VMADDR_CID_HOST, &to);
	const int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* Linux's own limit is two seconds. */
	const struct timeval limit = {.tv_sec = PATIENCE_S};

	if (fd < 0)
		return -1;
	if (to.any.sa_family == AF_VSOCK)
		setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit,
			   sizeof(limit));
	if (connect(fd, &to.any, bytes) == 0 && (!port || !greet(fd, port + 1)))
		return fd;
	close(fd);
	return -1;
}

/* The other end may not listen yet. */
static int dial(const char *where)
{
	const double end = guest_now() + PATIENCE_S;

	while (guest_now() < end) {
		const int fd = dial_once(where);

		if (fd >= 0)
			return fd;
		usleep(50000);
	}
	return guest_fail("connect to %s", where);
}

static int listen_at(const char *where)
{
	union address at;
	const socklen_t bytes = address(where, VMADDR_CID_ANY, &at);
	const int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, &at.any, bytes) || listen(fd, STREAMS_MAX)) {
		close(fd);
		return guest_fail("listen at %s", where);
	}
	say("listening at %s", where);
	return fd;
}

static bool write_all(int fd, const char *buf, size_t bytes)
{
	while (bytes > 0) {
		const ssize_t n = send(fd, buf, bytes, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		buf += n;
		bytes -= (size_t)n;
	}
	return true;
}

/* One stream's threads report here: NULL, or what went wrong. */
struct stream {
	int fd;
	uint64_t bytes, seed;
	const char *wrong;
};

/* Sends the pattern, and the end of it. */
static void *sender(void *arg)
{
	struct stream *s = arg;
	char *buf = malloc(CHUNK);

	for (uint64_t at = 0; at < s->bytes && !s->wrong; at += CHUNK) {
		const size_t n = s->bytes - at < CHUNK ? s->bytes - at : CHUNK;

		pattern_fill(buf, n, at, s->seed);
		if (!write_all(s->fd, buf, n))
			s->wrong = "send";
	}
	if (shutdown(s->fd, SHUT_WR))
		s->wrong = "shutdown";
	free(buf);
	return NULL;
}

/* Checks the pattern up to its end, which has to be where it should. */
static void *checker(void *arg)
{
	struct stream *s = arg;
	char *buf = malloc(CHUNK);
	uint64_t at = 0;
	ssize_t n = 1;

	while (n > 0) {
		size_t have = 0;

		/* The pattern is checked from a multiple of 8 on. */
		while (have < CHUNK) {
			n = recv(s->fd, buf + have, CHUNK - have, 0);
			if (n <= 0)
				break;
			have += (size_t)n;
		}
		if (have > 0 && pattern_check(buf, have, at, s->seed) >= 0) {
			s->wrong = "wrong data";
			break;
		}
		at += have;
	}
	if (!s->wrong && (n < 0 || at != s->bytes))
		s->wrong = n < 0 ? "receive" : "wrong length";
	free(buf);
	return NULL;
}

static void *echo(void *arg)
{
	struct stream *s = arg;
	char *buf = malloc(CHUNK);
	ssize_t n;

	while ((n = recv(s->fd, buf, CHUNK, 0)) > 0) {
		if (!write_all(s->fd, buf, (size_t)n)) {
			s->wrong = "send";
			break;
		}
	}
	if (n < 0)
		s->wrong = "receive";
	free(buf);
	close(s->fd);
	return NULL;
}

static int start(pthread_t *thread, void *(*fn)(void *), void *arg)
{
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	errno = pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return errno ? guest_fail("thread") : 0;
}

/* The errors in any of N streams. */
static int verdict(const struct stream *s, unsigned n, const char *action)
{
	errno = 0;
	for (unsigned i = 0; i < n; i++)
		if (s[i].wrong)
			return guest_fail("%s: stream %u: %s", action, i,
					  s[i].wrong);
	return 0;
}

/* WHERE:COUNT: sends back what comes on COUNT streams, each to its end. */
static int do_sock_serve(char **arg)
{
	static struct stream s[STREAMS_MAX];
	static pthread_t thread[STREAMS_MAX];
	const unsigned count = (unsigned)guest_number(arg[1]);
	const int fd = listen_at(arg[0]);

	if (fd < 0 || count > STREAMS_MAX)
		return -1;
	for (unsigned i = 0; i < count; i++) {
		s[i].fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (s[i].fd < 0)
			return guest_fail("accept");
		if (start(&thread[i], echo, &s[i]))
			return -1;
	}
	close(fd);
	for (unsigned i = 0; i < count; i++)
		pthread_join(thread[i], NULL);
	return verdict(s, count, "sock-serve");
}

/* WHERE:STREAMS:SIZE: all at once; SIZE to the other end of each, and back. */
static int do_sock_echo(char **arg)
{
	static struct stream out[STREAMS_MAX], in[STREAMS_MAX];
	static pthread_t thread[STREAMS_MAX][2];
	const unsigned streams = (unsigned)guest_number(arg[1]);

	if (streams > STREAMS_MAX)
		return guest_fail("sock-echo: too many");
	for (unsigned i = 0; i < streams; i++) {
		const int fd = dial(arg[0]);

		if (fd < 0)
			return -1;
		out[i] = in[i] = (struct stream){
			.fd = fd,
			.bytes = guest_number(arg[2]),
			.seed = SEED + i,
		};
	}
	for (unsigned i = 0; i < streams; i++)
		if (start(&thread[i][0], sender, &out[i]) ||
		    start(&thread[i][1], checker, &in[i]))
			return -1;
	for (unsigned i = 0; i < streams; i++) {
		pthread_join(thread[i][0], NULL);
		pthread_join(thread[i][1], NULL);
		close(in[i].fd);
	}
	return verdict(out, streams, "sock-echo out") ||
			       verdict(in, streams, "sock-echo in")
		       ? -1
		       : 0;
}

/* WHERE:SIZE: one way, until the other end confirms. */
static int do_sock_send(char **arg)
{
	struct stream s = {.bytes = guest_number(arg[1]), .seed = SEED};
	double begin;
	char byte;

	s.fd = dial(arg[0]);
	if (s.fd < 0)
		return -1;
	begin = guest_now();
	sender(&s);
	if (!s.wrong && recv(s.fd, &byte, 1, 0) != 1)
		s.wrong = "no word from the other end";
	say("fact sent %.0f MiB/s",
	    (double)s.bytes / (1 << 20) / (guest_now() - begin));
	close(s.fd);
	return verdict(&s, 1, "sock-send");
}

/* WHERE:SIZE: the other end of sock-send. */
static int do_sock_sink(char **arg)
{
	struct stream s = {.bytes = guest_number(arg[1]), .seed = SEED};
	const int fd = listen_at(arg[0]);

	if (fd < 0)
		return -1;
	s.fd = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	close(fd);
	if (s.fd < 0)
		return guest_fail("accept");
	checker(&s);
	if (!s.wrong && send(s.fd, "", 1, MSG_NOSIGNAL) != 1)
		s.wrong = "cannot confirm";
	close(s.fd);
	return verdict(&s, 1, "sock-sink");
}

/* WHERE:COUNT: as many connections that say nothing, until it is killed. */
static int do_sock_silent(char **arg)
{
	const struct rlimit limit = {4096, 4096};
	union address to;
	const socklen_t bytes = address(arg[0], VMADDR_CID_HOST, &to);

	setrlimit(RLIMIT_NOFILE, &limit);
	for (uint64_t i = 0; i < guest_number(arg[1]); i++) {
		const int fd = socket(to.any.sa_family, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, &to.any, bytes))
			return guest_fail("sock-silent: %s", arg[0]);
	}
	say("silent");
	for (;;)
		pause();
}

/* Nobody listens there: the guest learns so, and does not wait in vain. */
static int do_sock_refused(char **arg)
{
	if (dial_once(arg[0]) >= 0 || errno != ECONNRESET)
		return guest_fail("sock-refused: %s", arg[0]);
	errno = 0;
	return 0;
}

/* CID: the guest's own address. */
static int do_cid(char **arg)
{
	unsigned cid;
	int fd;

	guest_mounts();
	fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid))
		return guest_fail("cid");
	close(fd);
	errno = 0;
	return cid == guest_number(arg[0]) ? 0 : guest_fail("cid: %u", cid);
}

const struct action vsock_actions[] = {
	{"sock-serve", 2, do_sock_serve, "WHERE:COUNT"},
	{"sock-echo", 3, do_sock_echo, "WHERE:STREAMS:SIZE"},
	{"sock-send", 2, do_sock_send, "WHERE:SIZE"},
	{"sock-sink", 2, do_sock_sink, "WHERE:SIZE"},
	{"sock-silent", 2, do_sock_silent, "WHERE:COUNT"},
	{"sock-refused", 1, do_sock_refused, "WHERE"},
	{"cid", 1, do_cid, "NUMBER"},
	{NULL, 0, NULL, NULL},
};
