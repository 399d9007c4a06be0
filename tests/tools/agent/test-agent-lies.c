/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of the agent against a peer that lies, or says nothing: the
 * host says so and gives up.
 */
#include "tests/agent.h"
#include "tests/patience.h"
#include "tools/agent/agent-parts.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- what a process said */

struct capture {
	char text[2][4096];
	size_t n[2], total[2];
};

static int capture(void *arg, int stream, const void *data, size_t bytes)
{
	struct capture *c = arg;
	size_t *n = &c->n[stream - 1];
	const size_t room = sizeof(c->text[0]) - 1 - *n;

	c->total[stream - 1] += bytes;
	memcpy(c->text[stream - 1] + *n, data, bytes < room ? bytes : room);
	*n += bytes < room ? bytes : room;
	return 0;
}

static struct agent_status run_in(struct agent_session *agent,
				  const struct spec_process *process,
				  const struct agent_start_options *options,
				  struct agent_relay *relay, struct capture *c)
{
	struct agent_failure failure;
	struct agent_status status;

	memset(c, 0, sizeof(*c));
	relay->output = capture;
	relay->arg = c;
	relay->gone_fd = -1;
	assert_int_equal(agent_start(agent, process, options, &failure, NULL),
			 0);
	assert_int_equal(agent_relay(agent, relay, &status), 0);
	return status;
}

#define NO_FDS ((struct agent_relay){.in_fd = -1, .out_fd = -1, .err_fd = -1})

/* ---- an agent that lies: the host says so and gives up */

#define LIE_MAX 128

/* Sends BYTES behind a proper HELLO, as an agent, and that is all if it ENDS.
 */
static struct agent_session *liar(const void *bytes, size_t n, bool ends)
{
	const struct agent_first hello = agent_first_words(AGENT_MAJOR);
	struct agent_session *agent;
	int fd[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd),
			 0);
	assert_int_equal(write(fd[1], &hello, sizeof(hello)), sizeof(hello));
	assert_int_equal(write(fd[1], bytes, n), n);
	assert_int_equal(agent_open(fd[0], 1000, &agent), 0);
	/* Kept open, so that the host can send. */
	if (ends)
		shutdown(fd[1], SHUT_WR);
	return agent;
}

static int relay_lie(uint16_t type, const void *payload, size_t n)
{
	const bool watched = type == AGENT_EVENT && n > 0;
	const struct agent_started started = {.pid = htole32(1)};
	const char *const argv[] = {"x", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.input = true};
	struct agent_relay relay = NO_FDS;
	struct agent_failure failure;
	struct agent_status status;
	struct agent_frame frame;
	struct agent_session *agent;
	uint8_t lie[LIE_MAX];
	size_t at = 0;
	int r;

	frame = agent_frame_make(AGENT_STARTED, sizeof(started));
	memcpy(lie, &frame, sizeof(frame));
	at += sizeof(frame);
	memcpy(lie + at, &started, sizeof(started));
	at += sizeof(started);
	frame = agent_frame_make(type, n);
	memcpy(lie + at, &frame, sizeof(frame));
	at += sizeof(frame);
	if (n > 0)
		memcpy(lie + at, payload, n);
	agent = liar(lie, at + n, true);
	if (watched)
		assert_int_equal(agent_watch(agent, 10), 0);
	assert_int_equal(agent_start(agent, &process, &options, &failure, NULL),
			 0);
	relay.gone_fd = -1;
	r = agent_relay(agent, &relay, &status);
	agent_free(agent);
	return r;
}

static void test_lying_agent(void **state)
{
	const struct agent_credit credit = {.bytes = htole32(1)};
	const struct agent_exit large = {.status = htole32(256)};
	const struct agent_exit both = {htole32(1), htole32(9), 0};
	const struct agent_event event = {.kind = htole32(1)};
	const struct agent_event strange = {.kind = htole32(4)};

	(void)state;
	assert_int_equal(relay_lie(AGENT_STDIN_MORE, &credit, sizeof(credit)),
			 -EPROTO);
	assert_int_equal(relay_lie(AGENT_EXIT, &large, sizeof(large)), -EPROTO);
	assert_int_equal(relay_lie(AGENT_EXIT, &both, sizeof(both)), -EPROTO);
	assert_int_equal(relay_lie(AGENT_EXIT, NULL, 0), -EPROTO);
	assert_int_equal(relay_lie(AGENT_STARTED, NULL, 0), -EPROTO);
	assert_int_equal(relay_lie(AGENT_STDOUT, NULL, 0), -EPROTO);
	assert_int_equal(relay_lie(AGENT_HELLO, NULL, 0), -EPROTO);
	assert_int_equal(relay_lie(AGENT_EVENT, NULL, 0), -EPROTO);
	assert_int_equal(relay_lie(AGENT_EVENT, &event, 31), -EPROTO);
	assert_int_equal(relay_lie(AGENT_EVENT, &strange, sizeof(strange)),
			 -EPROTO);
	assert_int_equal(relay_lie(AGENT_EVENT, &event, sizeof(event)),
			 -ECONNRESET);
	assert_int_equal(relay_lie(AGENT_STDOUT, "x", 1), -ECONNRESET);
}

/* Events without an end are no answer. */
static void test_endless_events(void **state)
{
	const struct {
		struct agent_frame frame;
		struct agent_event event;
	} wire = {
		agent_frame_make(AGENT_EVENT, sizeof(wire.event)),
		{.kind = htole32(AGENT_EVENT_SHORT)},
	};
	struct agent_session *agent = liar(&wire, sizeof(wire), false);
	struct agent_message m;
	pid_t pid;

	(void)state;
	assert_int_equal(agent_watch(agent, 10), 0);
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		/* The other end of the pair is the next descriptor. */
		alarm(PATIENCE_MS / 1000);
		while (write(agent_fd(agent) + 1, &wire, sizeof(wire)) > 0)
			;
		_exit(0);
	}
	alarm(PATIENCE_MS / 1000);
	assert_int_equal(agent_await(agent, 300, &m), -ETIME);
	alarm(0);
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	agent_free(agent);
}

/* All of a process's life in one piece: nothing more will come to wake us. */
static void test_all_at_once(void **state)
{
	static const struct agent_exit end = {.status = 0};
	struct {
		struct agent_frame frame;
		char text[4];
		struct agent_frame exit;
		struct agent_exit end;
	} wire = {
		agent_frame_make(AGENT_STDOUT, 4),
		"out",
		agent_frame_make(AGENT_EXIT, sizeof(end)),
		end,
	};
	struct {
		struct agent_frame started;
		struct agent_started pid;
	} start = {
		agent_frame_make(AGENT_STARTED, sizeof(start.pid)),
		{.pid = htole32(1)},
	};
	uint8_t bytes[sizeof(start) + sizeof(wire)];
	const char *const argv[] = {"x", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = false};
	struct agent_relay relay = NO_FDS;
	struct agent_status status;
	struct agent_session *agent;
	struct capture c;

	(void)state;
	memcpy(bytes, &start, sizeof(start));
	memcpy(bytes + sizeof(start), &wire, sizeof(wire));
	agent = liar(bytes, sizeof(bytes), false);
	alarm(PATIENCE_MS / 1000);
	status = run_in(agent, &process, &options, &relay, &c);
	alarm(0);
	agent_free(agent);
	assert_int_equal(status.status, 0);
	assert_int_equal(c.total[0], 4);
}

static int read_failure(const void *payload, size_t n,
			struct agent_failure *ret)
{
	const struct agent_message m = {AGENT_FAILED, payload, n};

	return agent_read_failed(&m, ret);
}

static void test_lying_failure(void **state)
{
	struct {
		struct agent_failed head;
		char text[AGENT_TEXT_MAX + 1];
	} wire = {.head = {htole32(127), htole32(2)}};
	struct agent_failure failure;

	(void)state;
	memset(wire.text, 'x', sizeof(wire.text));
	assert_int_equal(read_failure(&wire, 8, &failure), -EPROTO);
	assert_int_equal(read_failure(&wire, 20, &failure), -EPROTO);
	wire.text[AGENT_TEXT_MAX] = 0;
	assert_int_equal(read_failure(&wire,
				      sizeof(wire.head) + AGENT_TEXT_MAX + 1,
				      &failure),
			 -EPROTO);
	/* Its message goes to a terminal. */
	memcpy(wire.text, "\x1b[31m\n", 7);
	assert_int_equal(read_failure(&wire, 8 + 7, &failure), 0);
	assert_string_equal(failure.text, "?[31m?");
	assert_int_equal(failure.status, 127);
	wire.head.status = htole32(0);
	assert_int_equal(read_failure(&wire, 8 + 7, &failure), -EPROTO);
}

/* Nothing, or half a frame: there is an end to patience. */
static void test_silent_agent(void **state)
{
	static const struct agent_frame large = {.bytes = 65536, .type = 1};
	struct agent_session *agent;

	(void)state;
	for (size_t n = 0; n <= sizeof(large); n += 4) {
		int fd[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_int_equal(send(fd[1], &large, n, 0), n);
		assert_int_equal(agent_open(fd[0], 100, &agent), -ETIME);
		close(fd[1]);
	}
}

static void test_wrong_version(void **state)
{
	struct agent_first hello = agent_first_words(AGENT_MAJOR + 1);
	struct agent_session *agent;

	(void)state;
	for (int i = 0; i < 2; i++) {
		int fd[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_int_equal(write(fd[1], &hello, sizeof(hello)),
				 sizeof(hello));
		assert_int_equal(agent_open(fd[0], 1000, &agent), -EPROTO);
		close(fd[1]);
		hello.hello.magic[0] = 'X';
	}
}

static void test_names(void **state)
{
	(void)state;
	assert_int_equal(agent_capability("CHOWN"), 0);
	assert_int_equal(agent_capability("cap_net_admin"), 12);
	assert_int_equal(agent_capability("CAP_CHECKPOINT_RESTORE"), 40);
	assert_int_equal(agent_capability("FLY"), -EINVAL);
	assert_int_equal(agent_signal_number("SIGTERM"), SIGTERM);
	assert_int_equal(agent_signal_number("hup"), SIGHUP);
	assert_int_equal(agent_signal_number("9"), 9);
	assert_int_equal(agent_signal_number("0"), -EINVAL);
	assert_int_equal(agent_signal_number("65"), -EINVAL);
	assert_int_equal(agent_signal_number("SIGNOT"), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_lying_agent),
		cmocka_unit_test(test_endless_events),
		cmocka_unit_test(test_all_at_once),
		cmocka_unit_test(test_lying_failure),
		cmocka_unit_test(test_silent_agent),
		cmocka_unit_test(test_wrong_version),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
