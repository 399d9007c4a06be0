/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The agent of a machine that is saved, and of one that goes on from that: its
 * connections end, and its container's main process gets another host.
 */
#include "firmware/init/server.h"
#include "tests/agent-process.h"
#include "tests/patience.h"
#include "tests/tempdir.h"
#include "tools/agent/agent-parts.h"
#include "tools/spec/spec.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
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

/* Memory that the agent's process shares with the test. */
static struct shared {
	struct agent_entropy entropy;
	char name[64], clone[64], source[64];
	unsigned number;
} * shared;

static int take_entropy(const struct agent_entropy *entropy,
			struct init_failure *f)
{
	(void)f;
	shared->entropy = *entropy;
	return 0;
}

/* There is no control group: the main process alone stands still. */
static int stop_main(struct container *box, bool held, struct init_failure *f)
{
	(void)f;
	kill(box->main_pid, held ? SIGSTOP : SIGCONT);
	return 0;
}

static int note_name(struct container *box, const char *hostname,
		     struct init_failure *f)
{
	(void)box;
	if (strcmp(hostname, "refused") == 0)
		return init_fail(f, INIT_STATUS_SETUP, EPERM, "hostname");
	snprintf(shared->name, sizeof(shared->name), "%s", hostname);
	return 0;
}

static int note_mark(struct container *box, const struct init_clone *clone,
		     struct init_failure *f)
{
	(void)box;
	(void)f;
	snprintf(shared->clone, sizeof(shared->clone), "%s", clone->name);
	snprintf(shared->source, sizeof(shared->source), "%s", clone->source);
	shared->number = clone->number;
	return 0;
}

static const struct server_actions actions = {
	.configure = agent_no_configure,
	.start = process_begin,
	.set_clock = agent_leave_clock,
	.add_entropy = take_entropy,
	.hold = stop_main,
	.rename = note_name,
	.mark = note_mark,
	.kill = agent_send_signal,
};

static int setup(void **state)
{
	*state = fixture_new(&actions);
	return 0;
}

static int teardown(void **state)
{
	(void)fixture_free(*state, SIGKILL);
	return 0;
}

struct capture {
	char text[2][256];
	size_t n[2];
};

static int capture(void *arg, int stream, const void *data, size_t bytes)
{
	struct capture *c = arg;
	size_t *n = &c->n[stream - 1];

	assert_true(bytes < sizeof(c->text[0]) - *n);
	memcpy(c->text[stream - 1] + *n, data, bytes);
	*n += bytes;
	return 0;
}

static void start_main(struct fixture *f, const char *script, bool input)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct agent_config config = {.root_tag = "r",
					    .host_bound = true};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true,
						    .input = input};
	struct agent_failure failure;

	assert_int_equal(agent_configure(f->main, &config), 0);
	assert_int_equal(
		agent_start(f->main, &process, &options, &failure, NULL), 0);
}

/* Both ends of the connections go, as where a machine was restored. */
static void reset(struct fixture *f, struct agent_session *holder)
{
	agent_free(f->main);
	f->main = NULL;
	agent_free(holder);
}

static struct agent_status relay_main(struct fixture *f, int in_fd,
				      struct capture *c)
{
	struct agent_relay relay = {
		.in_fd = -1, .out_fd = -1, .err_fd = -1, .gone_fd = -1};
	struct agent_status status;

	memset(c, 0, sizeof(*c));
	relay.in_fd = in_fd;
	relay.output = capture;
	relay.arg = c;
	assert_int_equal(agent_relay(f->main, &relay, &status), 0);
	return status;
}

/*
 * The main process outlives its host, though it is bound to it; reads what the
 * next one sends, and that gets what it writes and its end.
 */
static void test_attach(void **state)
{
	struct fixture *f = *state;
	const struct agent_start_options options = {.main = true,
						    .input = true};
	struct agent_session *holder;
	struct agent_status s;
	struct capture c;
	int in[2];

	start_main(f, "read x; echo said $x; read x; echo and $x >&2; exit 5",
		   true);
	holder = session(f);
	assert_int_equal(agent_hold(holder, true), 0);
	reset(f, holder);
	f->main = session(f);
	assert_int_equal(agent_attach(f->main, "refused", NULL, &options, NULL),
			 -EPERM);
	memset(&shared->entropy, 0, sizeof(shared->entropy));
	assert_int_equal(agent_attach(f->main, "other", NULL, &options, NULL),
			 0);
	assert_string_equal(shared->name, "other");
	assert_memory_not_equal(&shared->entropy, &(struct agent_entropy){{0}},
				sizeof(shared->entropy));
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], "one\ntwo\n", 8), 8);
	close(in[1]);
	s = relay_main(f, in[0], &c);
	close(in[0]);
	assert_int_equal(s.status, 5);
	assert_string_equal(c.text[0], "said one\n");
	assert_string_equal(c.text[1], "and two\n");
}

/* As often as its user likes; and then it is bound to its host again. */
static void test_attach_again(void **state)
{
	struct fixture *f = *state;
	const struct agent_start_options options = {.main = true};
	struct agent_session *holder;
	int status;

	start_main(f, "sleep 60", false);
	for (unsigned i = 0; i < 3; i++) {
		holder = session(f);
		assert_int_equal(agent_hold(holder, true), 0);
		reset(f, holder);
		f->main = session(f);
		assert_int_equal(
			agent_attach(f->main, NULL, NULL, &options, NULL), 0);
	}
	agent_free(take_ptr(f->main));
	assert_int_equal(waitpid(f->server, &status, 0), f->server);
	assert_int_equal(status, 0);
	f->server = 0;
}

/* The first machine goes on, whether its saver says so or dies. */
static void test_hold_ends(void **state)
{
	struct fixture *f = *state;
	const struct agent_start_options options = {.main = true};
	struct agent_session *holder = session(f), *more;
	struct agent_status s;
	struct capture c;

	assert_int_equal(agent_hold(holder, true), -ESRCH);
	assert_int_equal(agent_hold(holder, false), -EINVAL);
	start_main(f, "for i in 1 2 3; do sleep 0.5; echo $i; done", false);
	assert_int_equal(agent_attach(holder, NULL, NULL, &options, NULL),
			 -ESRCH);
	assert_int_equal(agent_hold(holder, true), 0);
	more = session(f);
	assert_int_equal(agent_hold(more, true), -EBUSY);
	assert_int_equal(agent_hold(more, false), -EINVAL);
	assert_int_equal(agent_attach(more, NULL, NULL, &options, NULL),
			 -ESRCH);
	agent_free(more);
	assert_int_equal(agent_hold(holder, false), 0);
	assert_int_equal(agent_hold(holder, true), 0);
	agent_free(holder);
	s = relay_main(f, -1, &c);
	assert_int_equal(s.status, 0);
	assert_string_equal(c.text[0], "1\n2\n3\n");
}

/* It is told before it goes on, once what is said of it can be lines. */
static void test_clone(void **state)
{
	struct fixture *f = *state;
	const struct agent_start_options options = {.main = true};
	const struct agent_clone_facts bad[] = {
		{.name = "b-1", .source = "b", .number = 0},
		{.name = "b\nnumber=2", .source = "b", .number = 1},
		{.name = "b-1", .source = "../b", .number = 1},
		{.name = "b-1", .source = "b", .number = 1, .signal = 65},
	};
	const struct agent_clone_facts clone = {
		.name = "b-7", .source = "b", .number = 7, .signal = SIGUSR1};
	struct agent_session *holder;
	struct tempdir dir;
	char script[160];
	struct agent_status s;
	struct capture c;

	assert_true(tempdir_make(&dir, "up"));
	snprintf(script, sizeof(script),
		 "trap 'echo told; exit 6' USR1; : >%s; "
		 "while :; do sleep 0.01; done",
		 dir.path);
	start_main(f, script, false);
	assert_true(wait_until(access(dir.path, F_OK) == 0));
	assert_int_equal(unlink(dir.path), 0);
	assert_true(tempdir_remove(&dir));
	holder = session(f);
	assert_int_equal(agent_hold(holder, true), 0);
	reset(f, holder);
	f->main = session(f);
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++)
		assert_true(agent_attach(f->main, NULL, &bad[i], &options,
					 NULL) < 0);
	assert_string_equal(shared->clone, "");
	assert_int_equal(agent_attach(f->main, NULL, &clone, &options, NULL),
			 0);
	assert_string_equal(shared->clone, "b-7");
	assert_string_equal(shared->source, "b");
	assert_int_equal(shared->number, 7);
	s = relay_main(f, -1, &c);
	assert_int_equal(s.status, 6);
	assert_non_null(strstr(c.text[0], "told"));
}

/* An older agent would be killed with its host. */
static void test_hold_older(void **state)
{
	struct fixture *f = *state;

	f->main->minor = 13;
	assert_int_equal(agent_hold(f->main, true), -ENOTSUP);
	assert_int_equal(agent_attach(f->main, NULL, NULL,
				      &(struct agent_start_options){0}, NULL),
			 -ENOTSUP);
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_AGENT(test_attach),     WITH_AGENT(test_attach_again),
		WITH_AGENT(test_hold_ends),  WITH_AGENT(test_clone),
		WITH_AGENT(test_hold_older),
	};

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
