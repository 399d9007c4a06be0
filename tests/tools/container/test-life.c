/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Starts of a container that fail or are ended, with no machine: its monitor is
 * a process that waits, and its agent and template say what a test wants.
 */
#include "tools/container/life.h"

#include "devices/virtio/virtio.h"
#include "tests/patience.h"
#include "tools/agent/agent.h"
#include "tools/container/monitor.h"
#include "tools/container/netns-follow.h"
#include "tools/container/netns-ports.h"
#include "tools/container/run.h"
#include "tools/container/template.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* How long a helper has its port when its monitor has ended. */
#define HELPER_MS 300

/* A test says what its machine does, and finds here how that went. */
static struct {
	int prepares, saves, starts; /* results; of the first start's agent */
	int signal;                  /* comes before these; 0: none */
	bool from_template, wanted, suspect, vain, port;
	bool leaves; /* a process that does not end by itself */
	pid_t other; /* a child from before, which ends beside the command */
	/* how that went */
	unsigned monitors, shows;
	bool blamed;
	char error[128];
	/* PORT: where the helper of the first monitor listens. */
	struct sockaddr_in at;
	int port_result; /* of the second one, at the same port */
} m;

static struct snapshot snapshot;

static int answer(int result)
{
	if (m.signal)
		kill(getpid(), m.signal);
	return result;
}

/* ---- in the place of monitor.c */

static int open_port(void)
{
	const int one = 1;
	const int fd = socket(AF_INET, SOCK_STREAM, 0);
	socklen_t n = sizeof(m.at);

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (struct sockaddr *)&m.at, sizeof(m.at)) < 0 ||
	    listen(fd, 1) < 0)
		return -errno;
	assert_int_equal(getsockname(fd, (struct sockaddr *)&m.at, &n), 0);
	return fd;
}

/* As passt: a child's child, which ends when it finds its machine gone. */
static void start_helper(int machine_fd, int keep_fd)
{
	const pid_t between = fork();
	char byte;

	if (between == 0 && fork() == 0) {
		close(keep_fd);
		(void)!read(machine_fd, &byte, 1);
		(void)poll(NULL, 0, HELPER_MS);
	}
	if (between == 0)
		_exit(0);
	waitpid(between, NULL, 0);
}

static void be_monitor(int machine_fd, int keep_fd, int ready_fd)
{
	if (m.port)
		start_helper(machine_fd, keep_fd);
	if (m.leaves && fork() == 0)
		for (;;)
			pause();
	(void)!write(ready_fd, "", 1);
	for (;;)
		pause();
}

int monitor_start(struct monitor *monitor, const struct config *cfg,
		  const struct monitor_options *options)
{
	int ends[2], ready[2], port_fd = -1;
	char byte;

	(void)cfg;
	(void)options;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(pipe(ready), 0);
	if (m.port)
		m.port_result = port_fd = open_port();
	m.monitors++;
	monitor->pid = fork();
	if (monitor->pid == 0)
		be_monitor(ends[0], ends[1], ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ends[0]);
	close(ends[1]);
	close(ready[0]);
	close(ready[1]);
	util_close(&port_fd);
	monitor->pid_fd = pidfd_open(monitor->pid, 0);
	return 0;
}

int monitor_take(struct monitor *monitor, struct pool_taken *taken)
{
	(void)monitor;
	(void)taken;
	return -ENOSYS;
}

void monitor_kill(const struct monitor *monitor)
{
	if (monitor->pid > 0)
		kill(monitor->pid, SIGKILL);
}

int monitor_wait(struct monitor *monitor, int timeout_ms)
{
	(void)timeout_ms;
	if (monitor->pid > 0)
		waitpid(monitor->pid, &monitor->wait_status, 0);
	monitor->pid = 0;
	return 0;
}

void monitor_done(struct monitor *monitor)
{
	monitor_kill(monitor);
	(void)monitor_wait(monitor, -1);
	close(monitor->pid_fd);
}

bool monitor_print_tail(const struct monitor *monitor, int fd)
{
	(void)monitor;
	(void)fd;
	return false;
}

bool monitor_find_word(const struct monitor *monitor, const char *word,
		       char *ret, size_t bytes)
{
	(void)monitor;
	(void)word;
	(void)ret;
	(void)bytes;
	return false;
}

/* ---- of template.c */

const struct snapshot *template_snapshot(const struct template *t)
{
	(void)t;
	return m.from_template ? &snapshot : NULL;
}

struct pool_taken *template_taken(struct template *t)
{
	(void)t;
	return NULL;
}

bool template_records(const struct template *t)
{
	(void)t;
	return false;
}

bool template_is_wanted(const struct template *t)
{
	(void)t;
	return m.wanted;
}

bool template_is_prepared(const struct template *t)
{
	(void)t;
	return m.wanted && m.from_template;
}

int template_save(struct template *t, const char *control, int gone_fd)
{
	struct pollfd pfd = {.fd = gone_fd, .events = POLLIN};

	(void)t;
	(void)control;
	m.wanted = false;
	if (m.signal) {
		kill(getpid(), m.signal);
		assert_int_equal(poll(&pfd, 1, PATIENCE_MS), 1);
	}
	return m.saves;
}

int template_show(const char *control, int gone_fd)
{
	(void)control;
	(void)gone_fd;
	m.shows++;
	return 0;
}

void template_end_record(const char *control, int gone_fd)
{
	(void)control;
	(void)gone_fd;
}

void template_close_record(struct template *t)
{
	(void)t;
}

void template_distrust(struct template *t)
{
	(void)t;
	m.wanted = false;
}

bool template_made_container(const struct template *t)
{
	(void)t;
	return m.from_template;
}

bool template_suspect(struct template *t)
{
	(void)t;
	m.suspect = m.from_template;
	return m.suspect;
}

void template_blame(struct template *t)
{
	(void)t;
	m.blamed = m.suspect;
}

void template_drop(struct template *t)
{
	(void)t;
	fail();
}

/* ---- of the agent's side */

int agent_listen(const char *vsock_path, int *ret_fd)
{
	(void)vsock_path;
	*ret_fd = -1;
	return 0;
}

int agent_accept(int listen_fd, int gone_fd, int timeout_ms,
		 struct trace *trace, struct agent_session **ret_agent)
{
	(void)listen_fd;
	(void)gone_fd;
	(void)timeout_ms;
	(void)trace;
	*ret_agent = NULL;
	return 0;
}

int agent_given(int fd, int gone_fd, unsigned minor, struct trace *trace,
		struct agent_session **ret_agent)
{
	(void)fd;
	(void)gone_fd;
	(void)minor;
	(void)trace;
	(void)ret_agent;
	return -ENOSYS;
}

int agent_connect(const char *vsock_path, int timeout_ms,
		  struct agent_session **ret_agent)
{
	(void)vsock_path;
	(void)timeout_ms;
	(void)ret_agent;
	return -ENOSYS;
}

int agent_connect_unless(const char *vsock_path, int gone_fd, int timeout_ms,
			 struct agent_session **ret_agent)
{
	(void)gone_fd;
	return agent_connect(vsock_path, timeout_ms, ret_agent);
}

void agent_free(struct agent_session *agent)
{
	(void)agent;
}

int agent_configure(struct agent_session *agent,
		    const struct agent_config *config)
{
	(void)agent;
	(void)config;
	return 0;
}

int agent_configure_begin(struct agent_session *agent,
			  const struct agent_config *config)
{
	(void)agent;
	(void)config;
	return 0;
}

int agent_watch(struct agent_session *agent, unsigned percent)
{
	(void)agent;
	(void)percent;
	return 0;
}

int agent_prepare(struct agent_session *agent,
		  const struct agent_config *config, const char *const *warm,
		  struct agent_failure *ret_failure)
{
	(void)agent;
	(void)config;
	(void)warm;
	ret_failure->status = RUN_EXIT_FAILED;
	ret_failure->error = 0;
	snprintf(ret_failure->text, sizeof(ret_failure->text), "as it is to");
	return answer(m.prepares);
}

int agent_start(struct agent_session *agent, const struct spec_process *process,
		const struct agent_start_options *options,
		struct agent_failure *ret_failure, int *ret_pid)
{
	(void)agent;
	(void)process;
	(void)options;
	(void)ret_pid;
	ret_failure->status = RUN_EXIT_FAILED;
	ret_failure->error = 0;
	snprintf(ret_failure->text, sizeof(ret_failure->text), "as it is to");
	return m.monitors > 1 ? 0 : answer(m.starts);
}

int agent_attach(struct agent_session *agent, const char *hostname,
		 const struct agent_clone_facts *clone,
		 const struct agent_start_options *options, int *ret_pid)
{
	(void)agent;
	(void)hostname;
	(void)clone;
	(void)options;
	(void)ret_pid;
	return -ENOSYS;
}

int agent_relay(struct agent_session *agent, const struct agent_relay *relay,
		struct agent_status *ret_status)
{
	(void)agent;
	(void)relay;
	if (m.other > 0) {
		kill(m.other, SIGTERM);
		waitpid(m.other, NULL, 0);
	}
	*ret_status = (struct agent_status){.status = 7, .last = true};
	return 0;
}

bool agent_ends_count(struct agent_ends *ends, int signal)
{
	(void)ends;
	(void)signal;
	return false;
}

int agent_names_open(struct agent_session *agent, const char *const *servers,
		     struct agent_names **ret)
{
	(void)agent;
	(void)servers;
	(void)ret;
	return -ENOSYS;
}

void agent_names_close(struct agent_names *names)
{
	(void)names;
}

int netns_follow_start(const struct netns_follow_options *options,
		       struct netns_follow **ret)
{
	(void)options;
	(void)ret;
	return -ENOSYS;
}

void netns_follow_stop(struct netns_follow *f)
{
	(void)f;
}

int netns_ports_open(int (*connect)(void *arg, struct agent_session **ret),
		     void *arg, struct netns_ports **ret)
{
	(void)connect;
	(void)arg;
	(void)ret;
	return -ENOSYS;
}

void netns_ports_close(struct netns_ports *ports)
{
	(void)ports;
}

/* ---- the life's hooks */

static int begin(void *arg)
{
	(void)arg;
	return 0;
}

static void born(void *arg, pid_t monitor)
{
	(void)arg;
	(void)monitor;
}

static void nothing(void *arg)
{
	(void)arg;
}

static void keep_error(void *arg, const char *text)
{
	(void)arg;
	snprintf(m.error, sizeof(m.error), "%s", text);
}

static int be_cold(void *arg)
{
	(void)arg;
	m.from_template = false;
	return 0;
}

static bool is_vain(void *arg)
{
	(void)arg;
	return m.vain;
}

static void no_killer(void *arg, char ret[LIFE_KILLER_BYTES])
{
	(void)arg;
	ret[0] = '\0';
}

static const struct life_hooks hooks = {
	.begin = begin,
	.born = born,
	.started = nothing,
	.ready = nothing,
	.error = keep_error,
	.cold = be_cold,
	.is_vain = is_vain,
	.killer = no_killer,
};

/* Its exit status. */
static int live(bool template_only)
{
	static struct agent_config agent;
	static struct spec_process process;
	static const struct config_pair net[] = {
		{"user", "true"},
		{"publish", "80:80"},
	};
	struct config cfg;
	const struct life life = {
		.name = "test",
		.socket = "/nowhere",
		.cfg = &cfg,
		.disposable = true,
		.template_only = template_only,
		.agent = &agent,
		.process = &process,
		.close_fds = {-1, -1},
		.hooks = &hooks,
	};
	sigset_t before;
	int status;

	memset(&cfg, 0, sizeof(cfg));
	if (m.port)
		assert_int_equal(config_add_pairs(&cfg,
						  virtio_config_type("net"),
						  net, ARRAY_LEN(net)),
				 0);
	sigprocmask(SIG_SETMASK, NULL, &before);
	status = life_run(&life);
	/* One that was not taken would be another test's. */
	signal(SIGINT, SIG_IGN);
	sigprocmask(SIG_SETMASK, &before, NULL);
	signal(SIGINT, SIG_DFL);
	config_done(&cfg);
	return status;
}

/* Ctrl-C ends a start at once while its template is being saved. */
static void test_saved(void **state)
{
	(void)state;
	memset(&m, 0, sizeof(m));
	m.wanted = true;
	m.signal = SIGINT;
	m.saves = -ECONNRESET;
	assert_int_equal(live(true), 128 + SIGINT);
	m.wanted = true;
	assert_int_equal(live(false), 128 + SIGINT);
	assert_int_equal(m.shows, 0);
	/* A template that cannot be made does not end a run. */
	memset(&m, 0, sizeof(m));
	m.wanted = true;
	m.saves = -ENOSPC;
	assert_int_equal(live(false), 7);
	assert_int_equal(m.shows, 1);
	m.wanted = true;
	assert_int_equal(live(true), RUN_EXIT_FAILED);
}

/* A signal is the status, whatever fails beside it; and a silence says so. */
static void test_prepared(void **state)
{
	(void)state;
	for (unsigned i = 0; i < 2; i++) {
		memset(&m, 0, sizeof(m));
		m.wanted = m.from_template = true;
		m.signal = SIGINT;
		m.prepares = -ETIME;
		assert_int_equal(live(i == 0), 128 + SIGINT);
		m.wanted = m.from_template = true;
		m.prepares = -EREMOTEIO;
		if (i == 1)
			assert_int_equal(live(false), 128 + SIGINT);
	}
	memset(&m, 0, sizeof(m));
	m.wanted = m.from_template = true;
	m.prepares = -ETIME;
	assert_int_equal(live(true), RUN_EXIT_FAILED);
	assert_non_null(strstr(m.error, "did not answer"));
	/* A run goes on without it. */
	m.wanted = m.from_template = true;
	assert_int_equal(live(false), 7);
}

/* A start that is wrong in itself is made once; else a template may be why. */
static void test_vain(void **state)
{
	(void)state;
	memset(&m, 0, sizeof(m));
	m.from_template = m.vain = true;
	m.starts = -EREMOTEIO;
	assert_int_equal(live(false), RUN_EXIT_FAILED);
	assert_int_equal(m.monitors, 1);
	assert_false(m.blamed);
	memset(&m, 0, sizeof(m));
	m.from_template = true;
	m.starts = -EREMOTEIO;
	assert_int_equal(live(false), 7);
	assert_int_equal(m.monitors, 2);
	assert_true(m.blamed);
}

/* The second machine's passt finds the port free that the first one's had. */
static void test_port(void **state)
{
	(void)state;
	memset(&m, 0, sizeof(m));
	m.port = true;
	m.at.sin_family = AF_INET;
	m.at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	m.from_template = true;
	m.starts = -EREMOTEIO;
	assert_int_equal(live(false), 7);
	assert_int_equal(m.monitors, 2);
	assert_true(m.port_result >= 0);
	/* Nor does it have it when all is over. */
	assert_true(open_port() >= 0);
}

/* A monitor that was taken over leaves nothing that runs on. */
static void test_left(void **state)
{
	(void)state;
	/* Else it would be another process's child, and not be seen here. */
	assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
	memset(&m, 0, sizeof(m));
	m.leaves = true;
	assert_int_equal(live(false), 7);
	assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
	assert_int_equal(errno, ECHILD);
}

/* A shell that executed this may have had processes in the background. */
static void test_not_ours(void **state)
{
	int ends[2];
	pid_t pid;

	(void)state;
	memset(&m, 0, sizeof(m));
	assert_int_equal(pipe(ends), 0);
	m.other = fork();
	if (m.other == 0) {
		pid = fork();
		if (pid > 0)
			(void)!write(ends[1], &pid, sizeof(pid));
		for (;;)
			pause();
	}
	assert_int_equal(read(ends[0], &pid, sizeof(pid)), sizeof(pid));
	assert_int_equal(live(false), 7);
	assert_int_equal(kill(pid, SIGKILL), 0);
	close(ends[0]);
	close(ends[1]);
}

int main(void)
{
	/* First: a reaper of what is left over stays one. */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_ours), cmocka_unit_test(test_saved),
		cmocka_unit_test(test_prepared), cmocka_unit_test(test_vain),
		cmocka_unit_test(test_port),     cmocka_unit_test(test_left),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
