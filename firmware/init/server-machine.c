/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The machine, as sessions ask for it: its memory, who was killed for lack of
 * it, its main process, its end. Knows no session's functions.
 */
#include "firmware/init/server.h"

#include "firmware/init/session.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/*
 * The connections of a machine that goes on from a snapshot are reset one by
 * one: so long after that of a hold's session the main process's is, too.
 */
#define RESET_MS 2000
/* For SIGKILL to be obeyed. */
#define KILL_MS 5000

static uint64_t now_ms(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t server_now_ms(void)
{
	return now_ms(CLOCK_MONOTONIC);
}

uint64_t server_proc_number(const char *path, const char *name)
{
	FILE *file = fopen(path, "re");
	const size_t n = strlen(name);
	unsigned long long value = 0;
	char line[256];

	while (file && fgets(line, sizeof(line), file)) {
		if (strncmp(line, name, n) == 0 &&
		    sscanf(line + n, " %llu", &value) == 1)
			break;
	}
	if (file)
		fclose(file);
	return value;
}

/*
 * The process that RECORD of the kernel's log says was killed for lack of
 * memory; 0: it says something else. "6,123,4567,-;Out of memory: Killed
 * process 12 (sh) ...": the first number has the facility above its lowest
 * three bits, and that is 0 for the kernel alone, whatever others write there;
 * the text begins like this, so that nothing which the kernel repeats after
 * somebody (a name, an option of mount(2)) is taken for it.
 */
static pid_t victim_of(const char *record)
{
	static const char *const begin[] = {
		"Out of memory: Killed process ",
		"Memory cgroup out of memory: Killed process ",
		"Out of memory (oom_kill_allocating_task): Killed process ",
	};
	const char *text = strchr(record, ';');

	if (!text || strtoul(record, NULL, 10) > 7)
		return 0;
	for (unsigned i = 0; i < ARRAY_LEN(begin); i++) {
		const size_t n = strlen(begin[i]);

		if (strncmp(text + 1, begin[i], n) == 0)
			return (pid_t)strtol(text + 1 + n, NULL, 10);
	}
	return 0;
}

/* As the kernel has counted them until now, in all containers. */
static uint64_t count_kills(struct server *server)
{
	uint64_t n = server->gone_kills;

	for (struct server_container *c = &server->first; c; c = c->next)
		n += cgroup_oom_kills(&c->box.group);
	return n;
}

/*
 * Notes the processes that were killed for lack of memory since the last look:
 * only the kernel's log names them, a record a read. The control group has
 * counted each of them before it is in the log, so there are never more of them
 * than that.
 */
static void find_victims(struct server *server)
{
	bool lost = false;
	char record[1024];
	ssize_t n;

	if (server->kmsg_fd < 0)
		return;
	do {
		pid_t pid;

		n = read(server->kmsg_fd, record, sizeof(record) - 1);
		/* Old records are lost; the next ones are still there. */
		lost |= n < 0 && errno == EPIPE;
		record[n > 0 ? n : 0] = 0;
		pid = n > 0 ? victim_of(record) : 0;
		if (pid && count_kills(server) > server->oom_kills)
			server->victim[server->oom_kills++ % SERVER_VICTIMS] =
				pid;
	} while (n > 0 || (n < 0 && (errno == EPIPE || errno == EINTR)));
	if (lost) {
		server->oom_kills = count_kills(server);
		memset(server->victim, 0, sizeof(server->victim));
	}
}

uint64_t server_oom_kills(struct server *server)
{
	find_victims(server);
	return server->oom_kills;
}

void server_facts(struct server *server, struct agent_info *ret)
{
	uint32_t processes = 0;

	find_victims(server);
	for (const struct session *s = server->sessions; s; s = s->next)
		processes += s->has_child && !s->exited;
	*ret = (struct agent_info){
		.memory_total = htole64(
			server_proc_number("/proc/meminfo", "MemTotal:") * KIB),
		.memory_available = htole64(
			server_proc_number("/proc/meminfo", "MemAvailable:") *
			KIB),
		.oom_kills = htole64(server->oom_kills),
		.uptime_ms = htole64(now_ms(CLOCK_BOOTTIME)),
		.processes = htole32(processes),
		.running = htole32(server->first.box.main_pid != 0),
	};
}

/* Bytes of all interfaces but lo: "eth0: RX ... TX ...", eight numbers each. */
static void add_network(struct agent_usage *usage)
{
	FILE *file = fopen("/proc/net/dev", "re");
	uint64_t rx = 0, tx = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		unsigned long long in, out;
		const char *colon = strchr(line, ':');

		if (!colon || strncmp(line + strspn(line, " "), "lo:", 3) == 0)
			continue;
		if (sscanf(colon + 1, " %llu %*u %*u %*u %*u %*u %*u %*u %llu",
			   &in, &out) == 2) {
			rx += in;
			tx += out;
		}
	}
	if (file)
		fclose(file);
	usage->net_rx = htole64(rx);
	usage->net_tx = htole64(tx);
}

void server_usage(const struct server_container *c, struct agent_usage *ret)
{
	const struct cgroup_usage group = cgroup_usage(&c->box.group);
	const uint64_t all =
		server_proc_number("/proc/meminfo", "MemTotal:") * KIB;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	*ret = (struct agent_usage){
		.time_us = htole64((uint64_t)now.tv_sec * 1000000 +
				   (uint64_t)now.tv_nsec / 1000),
		.cpu_us = htole64(group.cpu_us),
		.memory = htole64(group.memory),
		.memory_limit = htole64(min_u64(group.memory_max, all)),
		.pids = htole64(group.pids),
	};
	add_network(ret);
}

void server_watch(struct server *server, struct session *s)
{
	s->memory.oom_kills = htole64(server_oom_kills(server));
	server->look_ms = 0; /* at once */
}

void server_signal(struct server *server, struct server_container *c,
		   int signal)
{
	if (!c->box.main_pid)
		return;
	if (c->box.running || signal == SIGKILL)
		server->actions->kill(c->box.main_pid, signal);
	else
		c->held |= UINT64_C(1) << (signal - 1);
}

void server_main_runs(struct server *server, struct server_container *c)
{
	for (; c->held; c->held &= c->held - 1) {
		const int signal = __builtin_ctzll(c->held) + 1;

		if (c->box.main_pid)
			server->actions->kill(c->box.main_pid, signal);
	}
}

void server_end(struct server *server, int signal, uint32_t grace_ms)
{
	const uint64_t now = server_now_ms();

	server->ending = true;
	server->kill_ms = now + grace_ms;
	server->end_ms = now + grace_ms + KILL_MS;
	server_signal(server, &server->first, signal ? signal : SIGTERM);
}

/* ---- a machine that is saved */

struct session *server_main_session(const struct server *server)
{
	struct session *s = server->sessions;

	while (s && !(s->is_main && s->container == &server->first))
		s = s->next;
	return s;
}

int server_hold(struct server *server, const struct session *s,
		struct init_failure *f)
{
	int error = 0;

	if (!server->first.box.running || !server_main_session(server))
		error = ESRCH;
	else if (server->held)
		error = EBUSY;
	else if (server->ncontainers > 0 || server->first.config.oci)
		error = ENOTSUP;
	if (error)
		return init_fail(f, INIT_STATUS_SETUP, error, "hold");
	if (server->actions->hold(&server->first.box, true, f))
		return -1;
	server->held = true;
	server->reported = false;
	server->holder = s;
	return 0;
}

static int release(struct server *server, struct init_failure *f)
{
	if (server->actions->hold(&server->first.box, false, f))
		return -1;
	server->held = false;
	server->holder = NULL;
	/* It was for another host, which there is none of. */
	if (server->first.configured)
		server->report_due = false;
	return 0;
}

int server_release(struct server *server, const struct session *s,
		   struct init_failure *f)
{
	if (!server->held || (server->holder && server->holder != s))
		return init_fail(f, INIT_STATUS_SETUP, EINVAL, "release");
	return release(server, f);
}

void server_forget(struct server *server, const struct session *s)
{
	if (server->holder != s)
		return;
	server->holder = NULL;
	server->release_ms = server_now_ms() + RESET_MS;
}
