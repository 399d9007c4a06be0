/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Name servers of a guest's loopback: the agent's program in one network
 * namespace, the host's thread and the real server in another. Between them is
 * an agent that starts it and passes on what it says; or one that lies.
 */
#include "firmware/agent/agent-wire.h"
#include "firmware/init/names.h"
#include "firmware/init/request.h"
#include "tests/agent.h"
#include "tests/netns.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SERVER "127.0.0.11"
#define LONG   3000

static const char *const servers[] = {SERVER, NULL};
static int host, guest; /* namespaces */

static void need_namespaces(void)
{
	netns_need();
	if (host)
		return;
	host = netns_here();
	netns_up("lo");
	guest = netns_new();
	netns_up("lo");
	netns_go(host);
}

static int open_socket(int type, bool server)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons(53)};
	const int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	const int on = 1;

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET, SERVER, &address.sin_addr), 1);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	assert_int_equal(
		server ? bind(fd, (void *)&address, sizeof(address))
		       : connect(fd, (void *)&address, sizeof(address)),
		0);
	assert_int_equal(server && type == SOCK_STREAM ? listen(fd, 8) : 0, 0);
	return fd;
}

/* ---- the host's server: gives back what it gets, with one byte changed */

struct resolver {
	int udp, tcp, stop[2];
	pthread_t thread;
};

static bool read_all(int fd, uint8_t *to, size_t bytes)
{
	for (size_t have = 0; have < bytes;) {
		const ssize_t n = read(fd, to + have, bytes - have);

		if (n <= 0)
			return false;
		have += (size_t)n;
	}
	return true;
}

static void serve_stream(int listener)
{
	autofd int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	uint8_t data[65536];
	size_t bytes;

	if (!read_all(fd, data, 2))
		return;
	bytes = (size_t)data[0] << 8 | data[1];
	if (!read_all(fd, data + 2, bytes))
		return;
	data[2]++;
	(void)util_write_all(fd, data, 2 + bytes);
}

static void *serve(void *arg)
{
	struct resolver *s = arg;
	struct pollfd pfd[3] = {
		{.fd = s->udp, .events = POLLIN},
		{.fd = s->tcp, .events = POLLIN},
		{.fd = s->stop[0], .events = POLLIN},
	};
	uint8_t data[65536];

	while (poll(pfd, 3, -1) > 0 && !pfd[2].revents) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		ssize_t n;

		if (pfd[1].revents)
			serve_stream(s->tcp);
		if (!pfd[0].revents)
			continue;
		n = recvfrom(s->udp, data, sizeof(data), 0, (void *)&from,
			     &length);
		data[0]++;
		if (n > 0)
			(void)sendto(s->udp, data, (size_t)n, 0, (void *)&from,
				     length);
	}
	return NULL;
}

static void server_start(struct resolver *s)
{
	s->udp = open_socket(SOCK_DGRAM, true);
	s->tcp = open_socket(SOCK_STREAM, true);
	assert_int_equal(pipe2(s->stop, O_CLOEXEC), 0);
	assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static void server_stop(struct resolver *s)
{
	close(s->stop[1]);
	pthread_join(s->thread, NULL);
	close(s->stop[0]);
	close(s->udp);
	close(s->tcp);
}

/* ---- the guest's agent */

struct fake {
	int fd;          /* owned */
	int in, out;     /* owned: of the program; -1: there is none */
	const void *lie; /* in place of its output */
	size_t lie_bytes;
	bool started, ended; /* the host has ended the session */
	pid_t pid;
	pthread_t thread;
};

static void put(int fd, enum agent_type type, const void *payload, size_t bytes)
{
	const struct agent_frame frame = agent_frame_make(type, bytes);

	(void)(util_write_all(fd, &frame, sizeof(frame)) == 0 &&
	       util_write_all(fd, payload, bytes) == 0);
}

static void take(struct fake *f, const struct agent_message *m)
{
	const struct agent_started started = {0};
	const struct agent_name ready = {0};
	const struct agent_credit credit = {htole32((uint32_t)m->bytes)};

	if (m->type == AGENT_START) {
		put(f->fd, AGENT_STARTED, &started, sizeof(started));
		f->started = true;
		if (f->lie) {
			put(f->fd, AGENT_STDOUT, &ready, sizeof(ready));
			put(f->fd, AGENT_STDOUT, f->lie, f->lie_bytes);
		}
	} else if (m->type == AGENT_STDIN && f->in >= 0) {
		(void)util_write_all(f->in, m->payload, m->bytes);
		put(f->fd, AGENT_STDIN_MORE, &credit, sizeof(credit));
	}
}

static void *run_fake(void *arg)
{
	struct fake *f = arg;
	struct agent_reader reader;
	struct agent_message m;
	uint8_t data[4096];
	struct pollfd pfd[2] = {
		{.fd = f->fd, .events = POLLIN},
		{.fd = -1, .events = POLLIN},
	};
	ssize_t n;

	if (agent_reader_init(&reader) < 0)
		abort();
	while (poll(pfd, 2, -1) > 0) {
		if (pfd[1].revents) {
			n = read(f->out, data, sizeof(data));
			if (n <= 0)
				break;
			put(f->fd, AGENT_STDOUT, data, (size_t)n);
		}
		if (!pfd[0].revents)
			continue;
		if (agent_reader_fill(&reader, f->fd) <= 0)
			break;
		while (agent_reader_next(&reader, &m) > 0)
			take(f, &m);
		pfd[1].fd = f->started ? f->out : -1;
	}
	agent_reader_done(&reader);
	f->ended = true;
	close(f->fd);
	return NULL;
}

static void start_program(struct fake *f)
{
	static const char *list[] = {AGENT_OWN_NAMES, SERVER, NULL};
	const struct init_strings args = {list, 2};
	int in[2], out[2];

	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	fflush(NULL);
	f->pid = fork();
	if (f->pid == 0) {
		netns_go(guest);
		signal(SIGPIPE, SIG_DFL);
		if (dup2(in[0], 0) < 0 || dup2(out[1], 1) < 0)
			_exit(9);
		close(in[1]);
		close(out[0]);
		_exit(names_run(&args));
	}
	close(in[0]);
	close(out[1]);
	f->in = in[1];
	f->out = out[0];
}

static int open_names(struct fake *f, struct agent_names **ret)
{
	struct agent_first hello = agent_first_words(AGENT_MAJOR);
	struct agent_session *agent;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			 0);
	hello.hello.minor = htole16(AGENT_MINOR);
	f->fd = fd[1];
	assert_int_equal(write(f->fd, &hello, sizeof(hello)), sizeof(hello));
	assert_int_equal(pthread_create(&f->thread, NULL, run_fake, f), 0);
	assert_int_equal(agent_open(fd[0], PATIENCE_MS, &agent), 0);
	return agent_names_open(agent, servers, ret);
}

/* ---- what a container asks */

static void ask_udp(uint8_t first, size_t bytes)
{
	uint8_t data[LONG] = {first}, answer[LONG];
	autofd int fd = -1;

	netns_go(guest);
	fd = open_socket(SOCK_DGRAM, false);
	netns_go(host);
	data[bytes - 1] = 0x55;
	assert_int_equal(send(fd, data, bytes, 0), bytes);
	assert_int_equal(recv(fd, answer, sizeof(answer), 0), bytes);
	data[0]++;
	assert_memory_equal(data, answer, bytes);
}

/* Two queries on one connection, and another connection at the same time. */
static void ask_tcp(void)
{
	uint8_t data[2 + LONG] = {LONG >> 8, LONG & 0xff, 7}, answer[2 + LONG];
	int fd[2];

	netns_go(guest);
	fd[0] = open_socket(SOCK_STREAM, false);
	fd[1] = open_socket(SOCK_STREAM, false);
	netns_go(host);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(util_write_all(fd[0], data, sizeof(data)), 0);
		assert_true(read_all(fd[0], answer, sizeof(answer)));
		assert_int_equal(answer[2], 8);
		assert_memory_equal(answer + 3, data + 3, LONG - 1);
	}
	assert_int_equal(util_write_all(fd[1], data, sizeof(data)), 0);
	assert_true(read_all(fd[1], answer, sizeof(answer)));
	close(fd[0]);
	close(fd[1]);
}

static void test_names(void **state)
{
	struct fake f = {0};
	struct agent_names *names;
	struct resolver server;
	int status;

	(void)state;
	need_namespaces();
	server_start(&server);
	start_program(&f);
	assert_int_equal(open_names(&f, &names), 0);
	for (unsigned i = 0; i < 100; i++)
		ask_udp((uint8_t)i, 12 + i);
	ask_udp(1, LONG);
	ask_tcp();
	agent_names_close(names);
	pthread_join(f.thread, NULL);
	close(f.in);
	close(f.out);
	assert_int_equal(waitpid(f.pid, &status, 0), f.pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	server_stop(&server);
}

/* Nobody serves there on the host: no answer, and nothing else goes wrong. */
static void test_no_server(void **state)
{
	uint8_t data[14] = {0, 12};
	struct agent_names *names;
	struct fake f = {0};
	autofd int fd = -1;

	(void)state;
	need_namespaces();
	start_program(&f);
	assert_int_equal(open_names(&f, &names), 0);
	netns_go(guest);
	fd = open_socket(SOCK_STREAM, false);
	netns_go(host);
	assert_int_equal(util_write_all(fd, data, sizeof(data)), 0);
	assert_int_equal(read(fd, data, sizeof(data)), 0);
	agent_names_close(names);
	pthread_join(f.thread, NULL);
	close(f.in);
	close(f.out);
	assert_int_equal(waitpid(f.pid, NULL, 0), f.pid);
}

/* ---- a guest that lies */

/* The host ends the session because of that. */
static void refuse(const void *lie, size_t bytes)
{
	struct fake f = {.in = -1, .out = -1, .lie = lie, .lie_bytes = bytes};
	struct agent_names *names = NULL;

	if (open_names(&f, &names) < 0)
		names = NULL;
	pthread_join(f.thread, NULL);
	assert_true(f.ended);
	agent_names_close(names);
}

static void test_lies(void **state)
{
	struct {
		struct agent_name record;
		uint8_t data[12];
	} __attribute__((packed)) query, many[AGENT_NAMES_MAX + 1];
	const struct agent_name good = {
		.id = htole32(1),
		.bytes = htole16(sizeof(query.data)),
	};
	struct resolver server;

	(void)state;
	need_namespaces();
	/* One that never answers: 64 queries wait there. */
	server.udp = open_socket(SOCK_DGRAM, true);
	memset(&query, 0, sizeof(query));
	query.record = good;
	query.record.server = 1;
	refuse(&query, sizeof(query));
	query.record = good;
	query.record.id = 0;
	refuse(&query, sizeof(query));
	query.record = good;
	query.record.tcp = 2;
	refuse(&query, sizeof(query));
	query.record = good;
	query.record.bytes = 0;
	refuse(&query, sizeof(query));
	query.record.bytes = htole16(AGENT_NAMES_BYTES + 1);
	refuse(&query, sizeof(query));
	query.record = good;
	for (unsigned i = 0; i < ARRAY_LEN(many); i++)
		many[i] = query;
	refuse(many, sizeof(many));
	close(server.udp);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_no_server),
		cmocka_unit_test(test_lies),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
