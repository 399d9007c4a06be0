/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers besides the machine's own: each has a name, a main process and an
 * end of its own, which is not the machine's; it goes with its session, and all
 * of them with the machine's own. Processes run here, without namespaces.
 */
#include "firmware/agent/agent-wire.h"
#include "firmware/init/server.h"
#include "tests/agent-process.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const struct server_actions actions = {
	.configure = agent_no_configure,
	.start = process_begin,
	.set_clock = agent_leave_clock,
	.add_entropy = agent_take_entropy,
	.hold = agent_hold_none,
	.rename = agent_rename_none,
	.kill = agent_send_signal,
};

static void start(struct agent_session *agent, const char *container, bool main,
		  const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {
		.container = container, .main = main, .input = true};
	struct agent_failure failure;

	assert_int_equal(agent_start(agent, &process, &options, &failure, NULL),
			 0);
}

static int refusal(struct agent_session *agent, const char *container,
		   bool main)
{
	const char *const argv[] = {"true", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.container = container,
						    .main = main};
	struct agent_failure failure = {0};

	assert_int_equal(agent_start(agent, &process, &options, &failure, NULL),
			 -EREMOTEIO);
	assert_int_equal(failure.status, INIT_STATUS_SETUP);
	return failure.error;
}

static int status_of(struct agent_session *agent)
{
	const struct agent_relay relay = {
		.in_fd = -1, .out_fd = -1, .err_fd = -1, .gone_fd = -1};
	struct agent_status status = {.status = -1};

	assert_int_equal(agent_relay(agent, &relay, &status), 0);
	agent_free(agent);
	return status.status;
}

static int configure(struct agent_session *agent, const char *container)
{
	const struct agent_config config = {
		.container = container,
		.root_tag = "pod",
		.root_tree = container ? "0" : NULL,
		.host_bound = true,
	};

	return agent_configure(agent, &config);
}

/* With the machine's own container, which runs as long as its session is. */
static int setup(void **state)
{
	struct fixture *f = fixture_new(&actions);

	assert_int_equal(configure(f->main, NULL), 0);
	start(f->main, NULL, true, "cat");
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	assert_int_equal(fixture_free(*state, 0), 0);
	return 0;
}

static bool runs(struct fixture *f)
{
	return waitpid(f->server, NULL, WNOHANG) == 0;
}

static void test_end_is_its_own(void **state)
{
	struct fixture *f = *state;
	struct agent_session *a = session(f), *beside = session(f);
	const struct agent_limits limits = {.pids_max = 9};
	struct agent_facts facts;

	assert_int_equal(configure(a, "a"), 0);
	start(a, "a", true, "read x; exit 5");
	start(beside, "a", false, "exit 6");
	assert_int_equal(status_of(beside), 6);
	beside = session(f);
	assert_int_equal(agent_get_facts(beside, &facts), 0);
	assert_int_equal(facts.processes, 2);
	/* There is no control group here. */
	assert_int_equal(agent_freeze(beside, "a", true), -ENOTSUP);
	assert_int_equal(agent_limit(beside, "a", &limits), -ENOTSUP);
	assert_int_equal(agent_limit(beside, "b", &limits), -ESRCH);
	assert_int_equal(agent_signal(beside, "b", SIGTERM), -ESRCH);
	assert_int_equal(refusal(beside, "a", true), 0);
	assert_int_equal(refusal(beside, "b", false), ESRCH);
	agent_free(beside);
	assert_int_equal(status_of(a), 5);
	/* Its name is free again, and the machine goes on. */
	a = session(f);
	assert_true(wait_until(configure(a, "a") == 0));
	start(a, "a", true, "exec sleep 1000");
	beside = session(f);
	assert_int_equal(agent_signal(beside, "a", SIGTERM), 0);
	agent_free(beside);
	assert_int_equal(status_of(a), 128 + SIGTERM);
	assert_true(runs(f));
}

static void test_refusals(void **state)
{
	struct fixture *f = *state;
	struct agent_session *a = session(f), *b = session(f);
	const struct agent_config no_tree = {.container = "b",
					     .root_tag = "pod"};
	const struct agent_config shares = {.root_tag = "pod",
					    .share_pid = true};

	assert_true(agent_configure(a, &no_tree) < 0);
	assert_true(agent_configure(a, &shares) < 0);
	assert_true(configure(a, "") < 0);
	assert_true(configure(a, "..") < 0);
	assert_true(configure(a, "a/b") < 0);
	assert_int_equal(configure(a, "a"), 0);
	assert_true(configure(b, "a") < 0);
	/* One session makes one, and starts nothing of another one's. */
	assert_true(configure(a, "b") < 0);
	assert_int_equal(refusal(a, NULL, false), EINVAL);
	assert_int_equal(refusal(b, "a", false), 0);
	/* One that never started goes with its session. */
	agent_free(a);
	assert_true(wait_until(configure(b, "a") == 0));
	agent_free(b);
	assert_true(runs(f));
}

/* A host that goes away leaves nothing of that container. */
static void test_host_gone(void **state)
{
	struct fixture *f = *state;
	struct agent_session *a = session(f), *b = session(f);

	assert_int_equal(configure(a, "a"), 0);
	start(a, "a", true, "exec sleep 1000");
	agent_free(a);
	assert_true(wait_until(configure(b, "a") == 0));
	agent_free(b);
	assert_true(runs(f));
}

/* The end of the machine's own container is that of all. */
static void test_machine_ends(void **state)
{
	struct fixture *f = *state;
	struct agent_session *a = session(f);

	assert_int_equal(configure(a, "a"), 0);
	start(a, "a", true, "exec sleep 1000");
	agent_free(f->main);
	f->main = NULL;
	assert_int_equal(status_of(a), 128 + SIGKILL);
}

/* Ends the machine's own process; whether nobody is left to hear of an end. */
static bool main_is_last(struct fixture *f)
{
	const struct agent_relay relay = {
		.in_fd = -1, .out_fd = -1, .err_fd = -1, .gone_fd = -1};
	struct agent_session *other = session(f);
	struct agent_status status = {.status = -1};

	assert_int_equal(agent_signal(other, NULL, SIGTERM), 0);
	agent_free(other);
	assert_int_equal(agent_relay(f->main, &relay, &status), 0);
	assert_int_equal(status.status, 128 + SIGTERM);
	return status.last;
}

static void test_last(void **state)
{
	assert_true(main_is_last(*state));
}

static void test_not_last(void **state)
{
	struct fixture *f = *state;
	struct agent_session *beside = session(f);

	/* Ends when nobody takes what it says: no machine ends with it here. */
	start(beside, NULL, false, "while sleep 0.1; do echo on; done");
	assert_false(main_is_last(f));
	agent_free(beside);
}

/* ---- a machine that goes on elsewhere */

static int reports[2]; /* the guest's ends, the next one first; -1: no more */

static int report(void)
{
	const int fd = reports[0];

	reports[0] = reports[1];
	reports[1] = -1;
	return fd < 0 ? -ECONNREFUSED : fd;
}

static void __attribute__((noreturn)) run_reporter(void)
{
	const struct server_actions reporting = {
		.configure = actions.configure,
		.set_clock = actions.set_clock,
		.kill = actions.kill,
		.report = report,
	};
	struct server server;

	alarm(PATIENCE_MS / 1000);
	if (server_init(&server, &reporting, -1) < 0 ||
	    server_report(&server) < 0)
		_exit(1);
	/* Until there is neither session nor anybody who could begin one. */
	while (server.sessions && server_step(&server, -1) > 0)
		;
	server_done(&server);
	_exit(0);
}

/* ENDS: the host's. The process of the agent. */
static pid_t start_reporter(int ends[2])
{
	pid_t pid;

	for (unsigned i = 0; i < 2; i++) {
		int pair[2];

		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC,
					    0, pair),
				 0);
		ends[i] = pair[0];
		reports[i] = pair[1];
	}
	fflush(NULL);
	pid = fork();
	if (pid == 0) {
		close(ends[0]);
		close(ends[1]);
		run_reporter();
	}
	assert_true(pid > 0);
	close(reports[0]);
	close(reports[1]);
	return pid;
}

/* As the vsock device's reset does to a guest that was restored. */
static void test_reports_again(void **state)
{
	struct agent_session *agent;
	int ends[2], status;
	const pid_t pid = start_reporter(ends);

	(void)state;
	assert_int_equal(agent_open(ends[0], PATIENCE_MS, &agent), 0);
	agent_free(agent);
	assert_int_equal(agent_open(ends[1], PATIENCE_MS, &agent), 0);
	assert_int_equal(configure(agent, NULL), 0);
	agent_free(agent);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* One who has said what the machine is for is not replaced. */
static void test_reports_once(void **state)
{
	struct agent_session *agent;
	int ends[2], status;
	const pid_t pid = start_reporter(ends);
	char byte;

	(void)state;
	assert_int_equal(agent_open(ends[0], PATIENCE_MS, &agent), 0);
	assert_int_equal(configure(agent, NULL), 0);
	agent_free(agent);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	/* Nobody ever spoke there. */
	assert_int_equal(read(ends[1], &byte, 1), 0);
	close(ends[1]);
}

/* ---- the request */

static void add_text(struct agent_items *items, enum agent_key key,
		     const char *value)
{
	agent_items_add(items, key, NULL, 0, &value, 1);
}

static void add_flags(struct agent_items *items, enum agent_key key,
		      uint32_t value, const char *more)
{
	const struct agent_flags wire = {htole32(value)};

	agent_items_add(items, key, &wire, sizeof(wire), &more, more ? 1 : 0);
}

static int parse_config(const struct agent_items *items,
			struct init_config *ret)
{
	struct init_failure failure;

	assert_int_equal(items->error, 0);
	return init_config_parse(items->data, items->bytes, ret, &failure);
}

/* Some items are only for the machine's own, some only for others. */
static void test_items(void **state)
{
	const struct agent_number memory = {htole64(64 << 20)};
	const struct agent_link_item link = {htole32(1500)};
	const char *const eth0 = "eth0";
	struct init_config c;

	(void)state;
	for (unsigned i = 0; i < 8; i++) {
		const bool named = i & 1, machine = i & 2, other = i & 4;
		struct agent_items items = {0};

		add_flags(&items, AGENT_ITEM_ROOT, 0, "pod");
		if (named)
			add_text(&items, AGENT_ITEM_CONTAINER, "web");
		if (machine)
			agent_items_add(&items, AGENT_ITEM_LINK, &link,
					sizeof(link), &eth0, 1);
		if (other) {
			add_text(&items, AGENT_ITEM_TREE, "0");
			add_flags(&items, AGENT_ITEM_FLAGS, AGENT_CONFIG_SHARED,
				  NULL);
			agent_items_add(&items, AGENT_ITEM_MEMORY, &memory,
					sizeof(memory), NULL, 0);
		}
		if (named != other || (named && machine)) {
			assert_int_equal(parse_config(&items, &c), -1);
			continue;
		}
		assert_int_equal(parse_config(&items, &c), 0);
		if (named) {
			assert_string_equal(c.container, "web");
			assert_string_equal(c.tree, "0");
			assert_int_equal(c.memory_max, 64 << 20);
		}
		init_config_done(&c);
	}
}

/* Later limits are of a container with a name, and nothing else comes with
 * them.
 */
static void test_limit_items(void **state)
{
	const struct agent_number all = {htole64(AGENT_NO_LIMIT)};
	const struct agent_cpu cpu = {htole64(50000), htole64(100000)};

	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		const bool named = i & 1, more = i & 2;
		struct agent_items items = {0};
		struct init_failure failure;
		struct init_config c;

		if (named)
			add_text(&items, AGENT_ITEM_CONTAINER, "web");
		if (more)
			add_text(&items, AGENT_ITEM_TREE, "0");
		agent_items_add(&items, AGENT_ITEM_MEMORY, &all, sizeof(all),
				NULL, 0);
		agent_items_add(&items, AGENT_ITEM_CPU, &cpu, sizeof(cpu), NULL,
				0);
		assert_int_equal(items.error, 0);
		if (!named || more) {
			assert_int_equal(init_limits_parse(items.data,
							   items.bytes, &c,
							   &failure),
					 -1);
			continue;
		}
		assert_int_equal(init_limits_parse(items.data, items.bytes, &c,
						   &failure),
				 0);
		assert_string_equal(c.container, "web");
		assert_true(c.memory_max == AGENT_NO_LIMIT);
		assert_int_equal(c.cpu_quota, 50000);
		assert_int_equal(c.pids_max, 0);
		init_config_done(&c);
	}
}

#define WITH_AGENT(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_items),
		cmocka_unit_test(test_limit_items),
		WITH_AGENT(test_end_is_its_own),
		WITH_AGENT(test_refusals),
		WITH_AGENT(test_host_gone),
		WITH_AGENT(test_machine_ends),
		WITH_AGENT(test_last),
		WITH_AGENT(test_not_last),
		cmocka_unit_test(test_reports_again),
		cmocka_unit_test(test_reports_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
