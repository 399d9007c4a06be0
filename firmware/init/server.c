/* SPDX-License-Identifier: Apache-2.0 */
/* The agent's loop: serves sessions, reaps processes, ends the machine. */
#include "firmware/init/server.h"

#include "firmware/init/session.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* For EXITs to arrive when the machine is to end anyway. */
#define LAST_WORDS_MS 2000
/*
 * Between two looks at memory, and while half of it is free: an idle guest
 * should hardly wake.
 */
#define LOOK_MS        1000
#define LOOK_RARELY_MS 4000
/* Processes that were killed end in no time. */
#define SWEEP_MS  5
#define REPORT_MS 100
/* The server's own, before those of sessions. */
#define OWN_SOURCES 3
int server_init(struct server *server, const struct server_actions *actions,
		int listen_fd)
{
	sigset_t set;

	*server = (struct server){
		.actions = actions,
		.listen_fd = listen_fd,
		.first.box = CONTAINER_NONE,
		.kmsg_fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC),
	};
	/* Skip what was logged before the agent started. */
	if (server->kmsg_fd >= 0)
		lseek(server->kmsg_fd, 0, SEEK_END);
	server->first.box.config = &server->first.config;
	signal(SIGPIPE, SIG_IGN);
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	server->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return server->signal_fd < 0 ? -errno : 0;
}

void server_done(struct server *server)
{
	while (server->sessions) {
		struct session *s = server->sessions;

		server->sessions = s->next;
		session_free(s);
	}
	server_free_containers(server);
	util_close(&server->listen_fd);
	util_close(&server->signal_fd);
	util_close(&server->kmsg_fd);
}

int server_add(struct server *server, int fd)
{
	struct session *s;

	if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 ||
	    fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ||
	    !(s = session_new(server, fd))) {
		close(fd);
		return -ENOMEM;
	}
	s->next = server->sessions;
	server->sessions = s;
	server->nsessions++;
	return 0;
}

int server_report(struct server *server)
{
	int r = server->actions->report ? server->actions->report() : -ENOSYS;

	if (r < 0)
		return r;
	r = server_add(server, r);
	if (r == 0)
		server->reporter = server->sessions;
	return r;
}

/*
 * PID is one that the session has begun: it may have been another's before,
 * and victims stay in the ring for long.
 */
static bool is_victim(struct server *server, const struct session *s, pid_t pid)
{
	const uint64_t end = server_oom_kills(server);
	uint64_t i = end > SERVER_VICTIMS ? end - SERVER_VICTIMS : 0;

	for (i = i > s->kills_before ? i : s->kills_before; i < end; i++) {
		if (server->victim[i % SERVER_VICTIMS] == pid)
			return true;
	}
	return false;
}

/* ---- memory, for sessions that watch it */

static bool has_watchers(const struct server *server)
{
	for (const struct session *s = server->sessions; s; s = s->next) {
		if (s->watch)
			return true;
	}
	return false;
}

/*
 * There is no event to wait for without PSI, which costs at every switch of
 * tasks, or a limit below the machine's own, which page cache reaches, too. So
 * the agent has to look: at one number as long as there is enough.
 */
static void look_at_memory(struct server *server)
{
	struct agent_event now = {0};
	struct sysinfo info = {0};
	uint64_t available;
	bool plenty;

	sysinfo(&info);
	available = (uint64_t)info.freeram * info.mem_unit;
	plenty = info.freeram > info.totalram / 2;
	if (!plenty)
		available =
			server_proc_number("/proc/meminfo", "MemAvailable:") *
			KIB;
	now.memory_total = htole64((uint64_t)info.totalram * info.mem_unit);
	now.memory_available = htole64(available);
	now.oom_kills = htole64(server_oom_kills(server));
	for (struct session *s = server->sessions; s; s = s->next) {
		if (s->watch)
			session_memory(s, &now,
				       s->has_child && is_victim(server, s,
								 s->child.pid));
	}
	server->look_ms = server_now_ms() + (plenty ? LOOK_RARELY_MS : LOOK_MS);
}

/* ---- ends */

static void ended(struct server *server, pid_t pid, int status)
{
	const bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

	for (struct session *s = server->sessions; s; s = s->next)
		session_reaped(s, pid, status,
			       killed && is_victim(server, s, pid));
	server_container_ended(server, pid);
}

/* Reads the reports of processes that are starting. */
static void hear_all(struct server *server)
{
	for (struct session *s = server->sessions; s; s = s->next)
		session_hear(s);
}

static void reap(struct server *server)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(server->signal_fd, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		/* Its reports come before its end. */
		hear_all(server);
		ended(server, pid, status);
	}
	if (server->strays == SERVER_STRAYS_WAIT)
		server->strays = SERVER_STRAYS_LOOK;
}

static bool has_session(const struct server *server, pid_t pid)
{
	for (const struct server_container *c = &server->first; c;
	     c = c->next) {
		if (c->box.main_pid == pid)
			return true;
	}
	for (const struct session *s = server->sessions; s; s = s->next) {
		if (s->state == SESSION_STARTING &&
		    (s->starting.pid == pid || s->starting.child.pid == pid))
			return true;
		if (s->has_child && !s->exited && s->child.pid == pid)
			return true;
	}
	return false;
}

/* The process that is the parent of PID; 0: it is gone. */
static pid_t parent_of(pid_t pid)
{
	char path[32], line[512];
	const char *name_end;
	FILE *file;
	int parent = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	line[fread(line, 1, sizeof(line) - 1, file)] = 0;
	fclose(file);
	/* "12 (name) S 1 ...": the name may have anything in it. */
	name_end = strrchr(line, ')');
	if (!name_end || sscanf(name_end + 1, " %*c %d", &parent) != 1)
		return 0;
	return parent;
}

/*
 * Kills the strays. When one's parent ends it becomes the agent's child, as all
 * orphans do, and that parent's number is what the agent gets: so there is one
 * more look after each end, until there is none left. A process whose parent
 * has just ended is its session's once that has heard the report, which was
 * sent before.
 */
static void end_strays(struct server *server)
{
	const pid_t self = getpid();
	DIR *proc = opendir("/proc");
	const struct dirent *entry;

	server->strays = SERVER_STRAYS_NONE;
	while (proc && (entry = readdir(proc))) {
		const pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 0 || parent_of(pid) != self)
			continue;
		hear_all(server);
		if (has_session(server, pid))
			continue;
		server->actions->kill(pid, SIGKILL);
		server->strays = SERVER_STRAYS_WAIT;
	}
	if (proc)
		closedir(proc);
}

/* Acts on limits of time that are over; true: the machine is to end now. */
static bool check_end(struct server *server)
{
	const pid_t main_pid = server->first.box.main_pid;
	const uint64_t now = server_now_ms();
	bool speaking = false, main_speaks = false;

	if (server->ending && server->kill_ms && now >= server->kill_ms) {
		server->kill_ms = 0;
		if (main_pid)
			server->actions->kill(main_pid, SIGKILL);
	}
	if (main_pid)
		return server->ending && now >= server->end_ms;
	if (!server->first.main_started)
		return server->ending;
	for (const struct session *s = server->sessions; s; s = s->next) {
		main_speaks |= s->is_main && s->container == &server->first;
		speaking |= s->is_main || s->has_child ||
			    s->state == SESSION_STARTING;
	}
	if (!speaking)
		return true;
	/* The main one may take its time, unless somebody ended the machine. */
	if (!server->ending && !main_speaks) {
		server->ending = true;
		server->kill_ms = 0;
		server->end_ms = now + LAST_WORDS_MS;
	}
	if (server->ending && server->end_ms > now + LAST_WORDS_MS)
		server->end_ms = now + LAST_WORDS_MS;
	return server->ending && now >= server->end_ms;
}

/* Acts on a hold whose session has ended, or whose machine goes on anew. */
static void look_at_hold(struct server *server)
{
	const struct session *s = server_main_session(server);
	struct init_failure ignored;

	if (!server->held)
		return;
	if (!s) {
		/* It was killed meanwhile: there is nothing to go on with. */
		if (server_now_ms() >= server->release_ms && !server->holder)
			(void)server_release(server, NULL, &ignored);
		return;
	}
	if (s->fd < 0 && !server->reported) {
		server->reported = true;
		server->report_due = true;
	} else if (s->fd >= 0 && !server->holder &&
		   server_now_ms() >= server->release_ms) {
		(void)server_release(server, NULL, &ignored);
	}
}

/* ---- the loop */

/* Only the host may connect: processes of the container could try, too. */
static bool is_host(int fd)
{
	struct sockaddr_vm peer;
	socklen_t n = sizeof(peer);

	if (getpeername(fd, (struct sockaddr *)&peer, &n) < 0)
		return false;
	return peer.svm_family != AF_VSOCK || peer.svm_cid == VMADDR_CID_HOST;
}

static void accept_one(struct server *server)
{
	int fd = accept4(server->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	if (!is_host(fd)) {
		init_say("refused a connection that is not the host's");
		close(fd);
		return;
	}
	server_add(server, fd);
}

/* Moves data for every ready session; frees finished ones. */
static void pump_all(struct server *server, const struct pollfd *pfd)
{
	struct session **at = &server->sessions;
	bool lost = false;

	for (; *at; pfd += SESSION_SOURCES) {
		struct session *s = *at;
		bool due = s->exited || s->watch || session_is_late(s);

		for (unsigned i = 0; i < SESSION_SOURCES; i++)
			due |= pfd[i].revents != 0;
		if (!due || session_pump(s, pfd)) {
			at = &s->next;
			continue;
		}
		*at = s->next;
		lost |= s == server->reporter;
		session_free(s);
		server->nsessions--;
	}
	if (!lost)
		return;
	server->reporter = NULL;
	server->report_due |= !server->first.configured;
}

/* Where it does not succeed it is tried again: the host waits for it. */
static void report_if_due(struct server *server)
{
	if (!server->report_due || server->nsessions >= AGENT_SESSIONS_MAX)
		return;
	const int r = server_report(server);

	server->report_due = r < 0 && r != -ENOSYS && r != -ENODEV;
}

/* The shorter one of TIMEOUT_MS and what is left until then. */
static int until_ms(uint64_t then, int timeout_ms)
{
	const uint64_t now = server_now_ms();
	const int left = then > now ? (int)min_u64(then - now + 1, 60000) : 0;

	return timeout_ms < 0 || left < timeout_ms ? left : timeout_ms;
}

static int patience(const struct server *server, int timeout_ms)
{
	if (has_watchers(server))
		timeout_ms = until_ms(server->look_ms, timeout_ms);
	if (server_is_sweeping(server))
		timeout_ms = until_ms(server_now_ms() + SWEEP_MS, timeout_ms);
	for (const struct session *s = server->sessions; s; s = s->next) {
		if (s->state == SESSION_STARTING)
			timeout_ms = until_ms(s->start_ms, timeout_ms);
	}
	if (server->report_due)
		timeout_ms = until_ms(server_now_ms() + REPORT_MS, timeout_ms);
	if (server->held && !server->holder && !server->reported)
		timeout_ms = until_ms(server->release_ms, timeout_ms);
	if (server->ending)
		timeout_ms = until_ms(server->kill_ms ? server->kill_ms
						      : server->end_ms,
				      timeout_ms);
	return timeout_ms;
}

int server_step(struct server *server, int timeout_ms)
{
	struct pollfd pfd[OWN_SOURCES + AGENT_SESSIONS_MAX * SESSION_SOURCES];
	bool at_once = false;
	nfds_t n = OWN_SOURCES;

	pfd[0] = (struct pollfd){.fd = server->signal_fd, .events = POLLIN};
	pfd[1] = (struct pollfd){.fd = server->listen_fd, .events = POLLIN};
	pfd[2] = (struct pollfd){.fd = -1, .events = POLLIN};
	if (server->nsessions >= AGENT_SESSIONS_MAX)
		pfd[1].fd = -1;
	/* The kernel's log names the processes killed for lack of memory. */
	if (has_watchers(server))
		pfd[2].fd = server->kmsg_fd;
	for (const struct session *s = server->sessions; s; s = s->next) {
		at_once |= session_poll(s, pfd + n);
		n += SESSION_SOURCES;
	}
	if (poll(pfd, n, at_once ? 0 : patience(server, timeout_ms)) < 0 &&
	    errno != EINTR)
		return -errno;
	if (pfd[0].revents)
		reap(server);
	if (has_watchers(server) &&
	    (pfd[2].revents || server_now_ms() >= server->look_ms))
		look_at_memory(server);
	pump_all(server, pfd + OWN_SOURCES);
	if (server->strays == SERVER_STRAYS_LOOK)
		end_strays(server);
	server_sweep(server);
	look_at_hold(server);
	report_if_due(server);
	if (pfd[1].revents & POLLIN)
		accept_one(server);
	return !check_end(server);
}

int server_run(struct server *server)
{
	int r;

	do {
		r = server_step(server, -1);
	} while (r > 0);
	return r;
}
