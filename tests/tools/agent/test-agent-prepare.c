/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container that is made before its run: its main process waits, also for
 * another host than the one that had it made; and which containers can be.
 */
#include "firmware/init/server.h"
#include "tests/agent-process.h"
#include "tests/tempdir.h"
#include "tools/agent/agent-parts.h"
#include "tools/spec/spec.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static int configure(const struct init_config *config, struct init_failure *f)
{
	return config->hostname && strcmp(config->hostname, "refused") == 0
		       ? init_fail(f, INIT_STATUS_SETUP, EPERM, "configure")
		       : 0;
}

static const struct server_actions actions = {
	.configure = configure,
	.prepare = process_prepare,
	.start = process_begin,
	.set_clock = agent_leave_clock,
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

static const struct agent_mount mounts[] = {
	{.type = "tmpfs", .target = "/run", .options = "size=1m"},
	{.tag = "volume0", .target = "/data"},
};

/* One container in two runs. */
static const char *const names[] = {"10.0.0.1", NULL};
static const char *const other_names[] = {"10.0.0.2", "10.0.0.3", NULL};
static const char *const hosts[] = {"10.0.0.4 far", NULL};
static const struct agent_config one = {
	.hostname = "one",
	.root_tag = "r",
	.root_overlay = true,
	.mounts = mounts,
	.nmounts = 1,
	.dns = names,
};
static const struct agent_config other = {
	.hostname = "other",
	.root_tag = "r",
	.root_overlay = true,
	.mounts = mounts,
	.nmounts = 1,
	.dns = other_names,
	.hosts = hosts,
};

static char output[256];
static size_t noutput;

static int capture(void *arg, int stream, const void *data, size_t bytes)
{
	(void)arg;
	(void)stream;
	assert_true(bytes < sizeof(output) - noutput);
	memcpy(output + noutput, data, bytes);
	noutput += bytes;
	output[noutput] = '\0';
	return 0;
}

static int start(struct fixture *f, const char *script, bool input,
		 struct agent_failure *failure)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true,
						    .input = input};

	return agent_start(f->main, &process, &options, failure, NULL);
}

static int relay(struct fixture *f, int in_fd)
{
	const struct agent_relay how = {
		.in_fd = in_fd,
		.out_fd = -1,
		.err_fd = -1,
		.gone_fd = -1,
		.output = capture,
	};
	struct agent_status status;

	noutput = 0;
	output[0] = '\0';
	assert_int_equal(agent_relay(f->main, &how, &status), 0);
	return status.status;
}

/* In the session that had it made, and in another one. */
static void test_start(void **state)
{
	struct fixture *f = *state;
	struct agent_failure failure;
	int in[2];

	assert_int_equal(agent_prepare(f->main, &one, NULL, &failure), 0);
	assert_int_equal(agent_configure(f->main, &one), 0);
	assert_int_equal(start(f, "read x; echo said $x; echo more >&2; exit 5",
			       true, &failure),
			 0);
	assert_int_equal(pipe2(in, O_CLOEXEC), 0);
	assert_int_equal(write(in[1], "hello\n", 6), 6);
	close(in[1]);
	assert_int_equal(relay(f, in[0]), 5);
	close(in[0]);
	assert_non_null(strstr(output, "said hello\n"));
	assert_non_null(strstr(output, "more\n"));
}

static void test_start_elsewhere(void **state)
{
	struct fixture *f = *state;
	struct agent_failure failure;

	assert_int_equal(agent_prepare(f->main, &one, NULL, &failure), 0);
	agent_free(f->main);
	f->main = session(f);
	assert_int_equal(agent_configure(f->main, &other), 0);
	assert_int_equal(start(f, "echo $HOSTNAME", false, &failure), 0);
	assert_int_equal(relay(f, -1), 0);
	assert_string_equal(output, "other\n");
}

/* A program that is not there, and then nothing that could be started. */
static void test_failure(void **state)
{
	struct fixture *f = *state;
	const char *const argv[] = {"/missing", NULL};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true};
	struct agent_failure failure;

	assert_int_equal(agent_prepare(f->main, &one, NULL, &failure), 0);
	assert_int_equal(agent_configure(f->main, &one), 0);
	assert_int_equal(
		agent_start(f->main, &process, &options, &failure, NULL),
		-EREMOTEIO);
	assert_int_equal(failure.status, 127);
}

/* The kernel may kill the one that waits: START says so, and nothing hangs. */
static void test_killed(void **state)
{
	struct fixture *f = *state;
	struct agent_session *more = session(f);
	struct agent_failure failure;

	assert_int_equal(agent_prepare(f->main, &one, NULL, &failure), 0);
	assert_int_equal(agent_configure(f->main, &one), 0);
	assert_int_equal(agent_signal(more, NULL, SIGKILL), 0);
	/* A second one finds nobody once the first is known. */
	while (agent_signal(more, NULL, SIGKILL) == 0)
		usleep(1000);
	agent_free(more);
	assert_int_equal(start(f, "exit 0", false, &failure), -EREMOTEIO);
	assert_string_equal(failure.text, "start the process: it was killed");
}

/* Once, before all else, and for that container alone. */
static void test_order(void **state)
{
	struct fixture *f = *state;
	struct agent_session *more = session(f);
	struct agent_config bigger = one;
	struct agent_failure failure;

	bigger.pids_max = 7;
	assert_int_equal(agent_prepare(f->main, &one, NULL, &failure), 0);
	assert_int_equal(agent_prepare(more, &one, NULL, &failure), -EREMOTEIO);
	assert_int_equal(failure.error, EALREADY);
	assert_int_equal(start(f, "exit 0", false, &failure), -EREMOTEIO);
	assert_int_equal(agent_configure(f->main, &bigger), -EINVAL);
	assert_int_equal(agent_configure(f->main, &other), 0);
	assert_int_equal(agent_prepare(more, &one, NULL, &failure), -EREMOTEIO);
	assert_int_equal(start(f, "exit 3", false, &failure), 0);
	assert_int_equal(relay(f, -1), 3);
	agent_free(more);
}

static bool is_same(const struct agent_config *a, const struct agent_config *b)
{
	autofree uint8_t *x = NULL, *y = NULL;
	size_t nx, ny;

	assert_int_equal(agent_prepare_bytes(a, &x, &nx), 0);
	assert_int_equal(agent_prepare_bytes(b, &y, &ny), 0);
	return nx == ny && memcmp(x, y, nx) == 0;
}

/* START comes before it is known that CONFIGURE has failed. */
static void test_refused(void **state)
{
	struct fixture *f = *state;
	struct agent_config refused = one;
	struct agent_failure failure;
	struct agent_message m;
	struct tempdir dir;
	char script[160];

	assert_true(tempdir_make(&dir, "ran"));
	snprintf(script, sizeof(script), ": >%s", dir.path);
	refused.hostname = "refused";
	assert_int_equal(agent_configure_begin(f->main, &refused), 0);
	assert_int_equal(start(f, script, false, &failure), -EPERM);
	/* START has its own answer. */
	assert_int_equal(agent_await(f->main, PATIENCE_MS, &m), 0);
	assert_int_equal(m.type, AGENT_FAILED);
	(void)fixture_free(f, SIGTERM);
	*state = fixture_new(&actions);
	assert_true(tempdir_remove(&dir));
}

/* A run's own names make no difference; the container's mounts do. */
static void test_bytes(void **state)
{
	static const char *const free_sysctl[] = {"net.ipv4.ip_forward=1",
						  NULL};
	static const char *const bound_sysctl[] = {
		"net.ipv4.conf.eth0.forwarding=1", NULL};
	static const char *const name_sysctl[] = {"kernel.hostname=x", NULL};
	struct agent_config c = one;

	(void)state;
	assert_true(is_same(&one, &other));
	assert_true(agent_can_prepare(&one));
	c.dns = NULL;
	assert_false(is_same(&one, &c));
	c = one;
	c.hostname = NULL;
	assert_false(is_same(&one, &c));
	c = one;
	c.root_readonly = true;
	assert_false(is_same(&one, &c));
	c = one;
	c.nmounts = 2;
	assert_false(agent_can_prepare(&c));
	c = one;
	c.root_overlay = false;
	assert_false(agent_can_prepare(&c));
	c = one;
	c.oci = "{}";
	assert_false(agent_can_prepare(&c));
	c = one;
	c.sysctls = free_sysctl;
	assert_true(agent_can_prepare(&c));
	assert_false(is_same(&one, &c));
	c.sysctls = bound_sysctl;
	assert_false(agent_can_prepare(&c));
	c.sysctls = name_sysctl;
	assert_false(agent_can_prepare(&c));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_start, setup, teardown),
		cmocka_unit_test_setup_teardown(test_start_elsewhere, setup,
						teardown),
		cmocka_unit_test_setup_teardown(test_failure, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(test_order, setup, teardown),
		cmocka_unit_test_setup_teardown(test_refused, setup, teardown),
		cmocka_unit_test(test_bytes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
