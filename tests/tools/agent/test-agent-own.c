/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent's own programs: asked for by the host's side and run by the agent's
 * as it is, on this machine's processes; and an agent that lies about them.
 */
#include "firmware/init/server.h"
#include "tests/agent-process.h"
#include "tests/netns.h"
#include "tests/patience.h"
#include "tests/tempdir.h"
#include "tools/agent/agent-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct server_actions plain_actions = {
	.configure = agent_no_configure,
	.start = process_begin,
	.set_clock = agent_leave_clock,
	.add_entropy = agent_take_entropy,
	.hold = agent_hold_none,
	.rename = agent_rename_none,
	.kill = agent_send_signal,
};

#define OTHERS (SESSIONS - 1)

struct own {
	struct fixture *base;
	struct agent_session *agent[OTHERS];
};

/* An agent whose main process sleeps, and sessions beside that one's. */
static int setup(void **state)
{
	const char *const argv[] = {"sleep", "1000", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	const struct agent_config config = {.root_tag = "rootfs"};
	struct own *f = calloc(1, sizeof(*f));
	struct agent_failure failure;

	assert_non_null(f);
	f->base = fixture_new(&plain_actions);
	for (unsigned i = 0; i < OTHERS; i++)
		f->agent[i] = session(f->base);
	assert_int_equal(agent_configure(f->base->main, &config), 0);
	assert_int_equal(
		agent_start(f->base->main, &process, &options, &failure, NULL),
		0);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct own *f = *state;

	assert_int_equal(agent_shutdown(f->agent[0], SIGKILL, 0), 0);
	for (unsigned i = 0; i < OTHERS; i++)
		agent_free(f->agent[i]);
	(void)fixture_free(f->base, SIGKILL);
	free(f);
	return 0;
}

/* ---- */

static void test_top(void **state)
{
	struct own *f = *state;
	struct agent_top top;
	bool found = false;

	assert_int_equal(agent_get_top(f->agent[1], &top), 0);
	for (size_t i = 0; i < top.count; i++) {
		const struct agent_top_process *p = &top.list[i];

		if (p->pid != (unsigned)getpid())
			continue;
		found = true;
		assert_int_equal(p->ppid, getppid());
		assert_int_equal(p->uid, getuid());
		assert_non_null(strstr(p->command, "test-agent-own"));
	}
	assert_true(found);
	agent_top_done(&top);
}

/* One of the two ways; what it said is in ERRORS. The exit status. */
static int run_own(struct agent_session *agent, const char *const *argv,
		   int in_fd, int out_fd)
{
	const struct agent_relay relay = {
		.in_fd = in_fd, .out_fd = out_fd, .err_fd = -1, .gone_fd = -1};
	struct agent_status status;

	assert_int_equal(agent_own(agent, argv, in_fd >= 0), 0);
	assert_int_equal(agent_relay(agent, &relay, &status), 0);
	return status.status;
}

static void test_copy(void **state)
{
	struct own *f = *state;
	char dir[TEMPDIR_ROOM], from[TEMPDIR_ROOM + 8], to[TEMPDIR_ROOM + 8];
	char text[16] = "";
	autofd int archive = memfd_create("archive", MFD_CLOEXEC);
	autofd int fd = -1;
	const char *const pack[] = {AGENT_OWN_PACK, "", from, NULL};
	const char *const unpack[] = {AGENT_OWN_UNPACK, "", to, NULL};

	tempdir_name(dir);
	assert_non_null(mkdtemp(dir));
	snprintf(from, sizeof(from), "%s/from", dir);
	snprintf(to, sizeof(to), "%s/to", dir);
	fd = open(from, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_int_equal(write(fd, "content", 7), 7);
	close(fd);
	assert_int_equal(run_own(f->agent[1], pack, -1, archive), 0);
	assert_int_equal(lseek(archive, 0, SEEK_SET), 0);
	assert_int_equal(run_own(f->agent[2], unpack, archive, -1), 0);
	fd = open(to, O_RDONLY | O_CLOEXEC);
	assert_int_equal(read(fd, text, sizeof(text)), 7);
	assert_string_equal(text, "content");
	unlink(from);
	unlink(to);
	assert_int_equal(rmdir(dir), 0);
}

/* ---- networks */

static int setup_network(void **state)
{
	(void)netns_enter();
	return setup(state);
}

/* The agent's process has changed this namespace's interface. */
static bool has_address(const char *name, const char *text)
{
	struct ifaddrs *all = NULL;
	bool found = false;

	assert_int_equal(getifaddrs(&all), 0);
	for (struct ifaddrs *i = all; i; i = i->ifa_next) {
		char have[INET_ADDRSTRLEN];
		struct sockaddr_in in;

		if (!i->ifa_addr || i->ifa_addr->sa_family != AF_INET ||
		    strcmp(i->ifa_name, name) != 0)
			continue;
		memcpy(&in, i->ifa_addr, sizeof(in));
		inet_ntop(AF_INET, &in.sin_addr, have, sizeof(have));
		found |= strcmp(have, text) == 0;
	}
	freeifaddrs(all);
	return found;
}

/* The interface is there, so that no device is looked for. */
static void test_network(void **state)
{
	struct own *f = *state;
	struct agent_address addresses[] = {
		{.family = 4, .prefix = 24, .address = {10, 9, 0, 2}},
		{.family = 4, .prefix = 24, .address = {10, 9, 0, 3}},
	};
	const struct agent_route route = {
		.family = 4, .prefix = 24, .destination = {10, 9, 0}};
	struct agent_exact exact = {
		.mac = {2, 0, 0, 0, 9, 9},
		.addresses = addresses,
		.naddresses = 2,
		.routes = &route,
		.nroutes = 1,
	};
	const struct agent_link link = {.name = "eth9", .exact = &exact};

	netns_need();
	netns_add_veth("new0", "peer0", -1);
	netns_set_mac("new0", exact.mac);
	assert_int_equal(agent_change_network(f->agent[1], &link, 1), 0);
	assert_true(has_address("eth9", "10.9.0.2"));
	assert_true(has_address("eth9", "10.9.0.3"));
	/* Once more: what is there may stay. */
	addresses[1].flags = AGENT_GONE;
	assert_int_equal(agent_change_network(f->agent[2], &link, 1), 0);
	assert_true(has_address("eth9", "10.9.0.2"));
	assert_false(has_address("eth9", "10.9.0.3"));
	assert_int_equal(agent_change_network(f->agent[3], &link, 1), 0);
	/* No device that could be taken away. */
	exact.gone = true;
	assert_int_equal(agent_change_network(f->agent[4], &link, 1),
			 -EREMOTEIO);
	netns_delete("eth9");
	/* One that is gone already. */
	assert_int_equal(agent_change_network(f->agent[5], &link, 1), 0);
}

/* ---- */

static void test_stats(void **state)
{
	struct own *f = *state;
	struct agent_stats first, second;

	assert_int_equal(agent_get_stats(f->agent[1], &first), 0);
	assert_int_equal(agent_get_stats(f->agent[1], &second), 0);
	assert_true(first.time_us > 0 && second.time_us >= first.time_us);
	assert_true(first.memory_limit > 0);
	/* Without a control group nothing is counted. */
	assert_int_equal(first.pids, 0);
}

static void test_refused(void **state)
{
	static const char *const argv[] = {"no-such-program", NULL};
	struct own *f = *state;
	const struct spec_process terminal = {AGENT_COMMAND(argv),
					      .terminal = true};
	const struct agent_start_options terminal_options = {.own = true};
	struct agent_failure failure;

	assert_int_equal(agent_own(f->agent[1], argv, false), -ENOTSUP);
	assert_int_equal(agent_start(f->agent[1], &terminal, &terminal_options,
				     &failure, NULL),
			 -EREMOTEIO);
	assert_int_equal(failure.error, EINVAL);
}

/* ---- an agent that lies */

static int send_frame(int fd, enum agent_type type, const void *payload,
		      size_t bytes)
{
	const struct agent_frame frame = agent_frame_make(type, bytes);

	return write(fd, &frame, sizeof(frame)) == sizeof(frame) &&
	       write(fd, payload, bytes) == (ssize_t)bytes;
}

/* Has an agent answer with TEXT and that exit status: the host's result. */
static int lie(const char *text, size_t bytes, uint32_t status, unsigned minor)
{
	struct agent_first hello = agent_first_words(AGENT_MAJOR);
	const struct agent_started started = {0};
	const struct agent_exit end = {.status = htole32(status)};
	struct agent_top top = {0};
	struct agent_session *agent;
	int fd[2], r;

	hello.hello.minor = htole16((uint16_t)minor);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			 0);
	assert_int_equal(write(fd[1], &hello, sizeof(hello)), sizeof(hello));
	assert_true(
		send_frame(fd[1], AGENT_STARTED, &started, sizeof(started)));
	if (bytes)
		assert_true(send_frame(fd[1], AGENT_STDOUT, text, bytes));
	if (status)
		assert_true(send_frame(fd[1], AGENT_STDERR, "a\x1b\nb", 4));
	assert_true(send_frame(fd[1], AGENT_EXIT, &end, sizeof(end)));
	assert_int_equal(agent_open(fd[0], PATIENCE_MS, &agent), 0);
	r = agent_get_top(agent, &top);
	agent_top_done(&top);
	agent_free(agent);
	close(fd[1]);
	return r;
}

static int lie_text(const char *text)
{
	return lie(text, strlen(text), 0, AGENT_MINOR);
}

static void test_lies(void **state)
{
	static const char *const wrong[] = {
		"x",
		"1 0 0 1 1 ?\troot\tsh",
		"1 0 0 1 1 ?\troot sh\n",
		"0 0 0 1 1 ?\troot\tsh\n",
		"1 0 0 1 1 \troot\tsh\n",
		"1 0 0 1 1 ?\t\tsh\n",
		"-1 0 0 1 1 ?\troot\tsh\n",
		"1 0 4294967296 1 1 ?\troot\tsh\n",
		"1 0 0 18446744073709551616 1 ?\troot\tsh\n",
		"4194305 0 0 1 1 ?\troot\tsh\n",
		"1 0 0 1 1 a-terminal-of-long-name\troot\tsh\n",
		"2 0 0 1 1 ?\troot\tsh\n1 0 0 1 1 ?\troot\tsh\n",
		"2 0 0 1 1 ?\troot\tsh\n2 0 0 1 1 ?\troot\tsh\n",
	};

	(void)state;
	assert_int_equal(lie("", 0, 0, AGENT_MINOR), 0);
	assert_int_equal(lie_text("1 0 0 1 1 ?\troot\t\n"), 0);
	for (unsigned i = 0; i < ARRAY_LEN(wrong); i++)
		assert_int_equal(lie_text(wrong[i]), -EPROTO);
	assert_int_equal(lie("1 0 0 1 1 ?\troot\tsh\0\n", 22, 0, AGENT_MINOR),
			 -EPROTO);
	assert_int_equal(lie("", 0, 125, AGENT_MINOR), -EREMOTEIO);
	assert_int_equal(lie("", 0, 0, 2), -ENOTSUP);
}

/* Output without an end: at some point it is enough. */
static void test_endless(void **state)
{
	struct agent_first hello = agent_first_words(AGENT_MAJOR);
	const struct agent_started started = {0};
	static char text[AGENT_PAYLOAD_MAX];
	struct agent_top top;
	struct agent_session *agent;
	int fd[2];
	pid_t pid;

	(void)state;
	hello.hello.minor = htole16(AGENT_MINOR);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		close(fd[0]);
		signal(SIGPIPE, SIG_DFL);
		alarm(PATIENCE_MS / 1000);
		memset(text, 'x', sizeof(text));
		if (write(fd[1], &hello, sizeof(hello)) != sizeof(hello))
			_exit(1);
		send_frame(fd[1], AGENT_STARTED, &started, sizeof(started));
		while (send_frame(fd[1], AGENT_STDOUT, text, sizeof(text)))
			;
		_exit(0);
	}
	close(fd[1]);
	assert_int_equal(agent_open(fd[0], PATIENCE_MS, &agent), 0);
	assert_int_equal(agent_get_top(agent, &top), -EPROTO);
	agent_free(agent);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AGENT(test_top),
		WITH_AGENT(test_copy),
		WITH_AGENT(test_stats),
		WITH_AGENT(test_refused),
		cmocka_unit_test(test_lies),
		cmocka_unit_test(test_endless),
		cmocka_unit_test_setup_teardown(test_network, setup_network,
						teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
