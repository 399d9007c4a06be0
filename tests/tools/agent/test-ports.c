/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connections to a network namespace's loopback that are taken to a guest's:
 * the agent as it is and the programs that listen run in another namespace.
 */
#include "tests/agent.h"
#include "tests/netns.h"
#include "tests/patience.h"
#include "tools/agent/agent-parts.h"
#include "tools/container/netns-ports.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define SESSIONS 24
#define BULK     (1 << 20)
#define PORT     80 /* 127.0.0.1 */
#define PORT_V6  81 /* ::1 alone */
#define NO_PORT  82 /* nobody */
#define BREAKS   83 /* resets its clients */

static const struct server_actions plain_actions = {
	.configure = agent_no_configure,
	.start = process_begin,
	.set_clock = agent_leave_clock,
	.add_entropy = agent_take_entropy,
	.hold = agent_hold_none,
	.rename = agent_rename_none,
	.kill = agent_send_signal,
};

struct fixture {
	pid_t agent, program;
	int sessions[SESSIONS];
	unsigned used; /* of these, by the thread */
	struct netns_ports *ports;
	int host, guest; /* namespaces */
};

/* ---- the guest */

static void run_agent(const int *fd)
{
	struct server server;

	if (server_init(&server, &plain_actions, -1) < 0)
		_exit(1);
	for (unsigned i = 0; i < SESSIONS; i++) {
		if (server_add(&server, fd[i]) < 0)
			_exit(1);
	}
	server.first.box.plain = true;
	_exit(server_run(&server) < 0);
}

static int listen_at(int family, uint16_t port)
{
	const struct sockaddr_in v4 = {.sin_family = AF_INET,
				       .sin_port = htons(port),
				       .sin_addr.s_addr =
					       htonl(INADDR_LOOPBACK)};
	const struct sockaddr_in6 v6 = {.sin6_family = AF_INET6,
					.sin6_port = htons(port),
					.sin6_addr = IN6ADDR_LOOPBACK_INIT};
	const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int r = family == AF_INET
			      ? bind(fd, (const void *)&v4, sizeof(v4))
			      : bind(fd, (const void *)&v6, sizeof(v6));

	netns_must(fd >= 0 && r == 0 && listen(fd, 8) == 0, "listen");
	return fd;
}

/* Takes all, says how much that was, and gives as much of 'b' and closes. */
static void serve(int fd)
{
	static char data[BULK];
	uint64_t all = 0;
	ssize_t n;

	while ((n = read(fd, data, sizeof(data))) > 0)
		all += (uint64_t)n;
	memset(data, 'b', sizeof(data));
	(void)(n == 0 && util_write_all(fd, &all, sizeof(all)) == 0 &&
	       util_write_all(fd, data, sizeof(data)) == 0);
}

static void run_program(const int fd[3])
{
	const struct linger reset = {.l_onoff = 1};
	struct pollfd pfd[3];

	signal(SIGCHLD, SIG_IGN);
	for (unsigned i = 0; i < 3; i++)
		pfd[i] = (struct pollfd){.fd = fd[i], .events = POLLIN};
	while (poll(pfd, 3, -1) > 0) {
		for (unsigned i = 0; i < 3; i++) {
			autofd int client = -1;

			if (!pfd[i].revents)
				continue;
			client = accept4(fd[i], NULL, NULL, SOCK_CLOEXEC);
			if (i < 2 && fork() == 0) {
				serve(client);
				_exit(0);
			}
			if (i == 2)
				setsockopt(client, SOL_SOCKET, SO_LINGER,
					   &reset, sizeof(reset));
		}
	}
	_exit(1);
}

static void start_program(struct fixture *f)
{
	int fd[3];

	netns_go(f->guest);
	fd[0] = listen_at(AF_INET, PORT);
	fd[1] = listen_at(AF_INET6, PORT_V6);
	fd[2] = listen_at(AF_INET, BREAKS);
	fflush(NULL);
	f->program = fork();
	if (f->program == 0)
		run_program(fd);
	for (unsigned i = 0; i < 3; i++)
		close(fd[i]);
	netns_go(f->host);
}

static void start_agent(struct fixture *f)
{
	int guest[SESSIONS];

	for (unsigned i = 0; i < SESSIONS; i++) {
		int fd[2];

		assert_int_equal(
			socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			0);
		f->sessions[i] = fd[0];
		guest[i] = fd[1];
	}
	netns_go(f->guest);
	fflush(NULL);
	f->agent = fork();
	if (f->agent == 0) {
		for (unsigned i = 0; i < SESSIONS; i++)
			close(f->sessions[i]);
		run_agent(guest);
	}
	netns_go(f->host);
	for (unsigned i = 0; i < SESSIONS; i++)
		close(guest[i]);
}

/* ---- the host */

static int open_session(void *arg, struct agent_session **ret)
{
	struct fixture *f = arg;

	return f->used == SESSIONS
		       ? -ENOENT
		       : agent_open(f->sessions[f->used++], PATIENCE_MS, ret);
}

static int setup(void **state)
{
	static struct fixture f;
	int r;

	if (netns_enter())
		return 0;
	f.host = netns_here();
	netns_up("lo");
	f.guest = netns_new();
	netns_up("lo");
	netns_go(f.host);
	start_program(&f);
	start_agent(&f);
	r = netns_ports_open(open_session, &f, &f.ports);
	/* Root of a user namespace may not. */
	assert_true(r == 0 || r == -EPERM);
	*state = &f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	if (!f)
		return 0;
	netns_ports_close(f->ports);
	kill(f->agent, SIGKILL);
	kill(f->program, SIGKILL);
	assert_int_equal(waitpid(f->agent, NULL, 0), f->agent);
	assert_int_equal(waitpid(f->program, NULL, 0), f->program);
	return 0;
}

static struct fixture *need(void **state)
{
	struct fixture *f = *state;

	if (!f || !f->ports) {
		print_message("needs CAP_SYS_ADMIN and CAP_NET_ADMIN\n");
		skip();
	}
	return f;
}

/* A connection to ADDRESS; -1: refused. */
static int open_client(const char *address, uint16_t port)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons(port)};
	const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	assert_int_equal(inet_pton(AF_INET, address, &to.sin_addr), 1);
	if (connect(fd, (const void *)&to, sizeof(to)) == 0)
		return fd;
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
	return -1;
}

static size_t read_all(int fd, char *to, size_t bytes)
{
	size_t have = 0;
	ssize_t n = 1;

	while (have < bytes && (n = read(fd, to + have, bytes - have)) > 0)
		have += (size_t)n;
	return n < 0 ? SIZE_MAX : have;
}

static void use(int fd, size_t bytes)
{
	static char data[sizeof(uint64_t) + BULK + 1];
	uint64_t all;

	memset(data, 'a', sizeof(data));
	assert_int_equal(util_write_all(fd, data, bytes), 0);
	assert_int_equal(shutdown(fd, SHUT_WR), 0);
	assert_int_equal(read_all(fd, data, sizeof(data)), sizeof(data) - 1);
	memcpy(&all, data, sizeof(all));
	assert_int_equal(all, bytes);
	assert_int_equal(data[sizeof(all)], 'b');
	assert_int_equal(data[sizeof(data) - 2], 'b');
	close(fd);
}

static void test_ports(void **state)
{
	(void)need(state);
	use(open_client("127.0.0.1", PORT), 0);
	use(open_client("127.0.0.1", PORT_V6), 5);
	use(open_client("127.0.0.1", PORT), BULK);
}

static void expect_reset(uint16_t port)
{
	const int fd = open_client("127.0.0.1", port);
	char c;

	assert_true(fd >= 0);
	assert_int_equal(read(fd, &c, 1), -1);
	assert_int_equal(errno, ECONNRESET);
	close(fd);
}

/* Nobody is there, or not for long: the client knows. */
static void test_nobody(void **state)
{
	(void)need(state);
	expect_reset(NO_PORT);
	expect_reset(BREAKS);
	use(open_client("127.0.0.1", PORT), 1);
}

/* More at once than are taken: the others wait, and then are served. */
static void test_many(void **state)
{
	int fd[AGENT_PORTS_STREAMS + 1];

	(void)need(state);
	for (unsigned i = 0; i < ARRAY_LEN(fd); i++)
		fd[i] = open_client("127.0.0.1", PORT);
	/* A client that goes away without a word holds up nobody. */
	close(fd[0]);
	for (unsigned i = 1; i < ARRAY_LEN(fd); i++)
		use(fd[i], i);
}

/* Other addresses of the namespace are its own. */
static void test_others(void **state)
{
	(void)need(state);
	assert_int_equal(open_client("127.0.0.2", PORT), -1);
}

/* Once it has ended nobody listens, whatever the guest does. */
static void test_end(void **state)
{
	struct fixture *f = need(state);

	netns_ports_close(f->ports);
	f->ports = NULL;
	assert_int_equal(open_client("127.0.0.1", PORT), -1);
}

/* A guest that greets, and says nothing more. */
static int open_silent(void *arg, struct agent_session **ret)
{
	struct agent_first hello = agent_first_words(AGENT_MAJOR);
	int *guest = arg;
	int fd[2];

	hello.hello.minor = htole16(AGENT_MINOR);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		return -errno;
	if (util_write_all(fd[1], &hello, sizeof(hello)) < 0)
		return -EIO;
	__atomic_store_n(guest, fd[1], __ATOMIC_RELEASE);
	return agent_open(fd[0], PATIENCE_MS, ret);
}

static bool has_asked(const int *guest)
{
	const int fd = __atomic_load_n(guest, __ATOMIC_ACQUIRE);
	char data[sizeof(struct agent_first) + 1];

	/* Behind the host's own greeting. */
	return fd >= 0 && recv(fd, data, sizeof(data),
			       MSG_PEEK | MSG_DONTWAIT) == sizeof(data);
}

/* The end does not wait as long as a start may take. */
static void test_silent(void **state)
{
	struct sockaddr_in at = {.sin_family = AF_INET,
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int guest = -1;
	struct agent_ports_options options = {
		.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0),
		.connect = open_silent,
		.arg = &guest,
	};
	struct agent_ports *ports;
	uint64_t start;
	int client;

	(void)state;
	assert_int_equal(bind(options.fd, (void *)&at, length), 0);
	assert_int_equal(getsockname(options.fd, (void *)&at, &length), 0);
	assert_int_equal(listen(options.fd, 1), 0);
	assert_int_equal(agent_ports_open(&options, &ports), 0);
	client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (void *)&at, sizeof(at)), 0);
	assert_true(wait_until(has_asked(&guest)));
	start = util_now_ns();
	agent_ports_close(ports);
	assert_true(patience_ms_since(start) < AGENT_MACHINE_MS / 2);
	close(client);
	close(guest);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ports),  cmocka_unit_test(test_nobody),
		cmocka_unit_test(test_others), cmocka_unit_test(test_many),
		cmocka_unit_test(test_end),    cmocka_unit_test(test_silent),
	};

	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, setup, teardown);
}
