/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper of one machine that waits: makes it, offers it, and is its
 * monitor's parent as long as that lives. When the keeper dies, the host's
 * kernel kills the monitor. A keeper ends when the pool has, or, once it was
 * taken, the start that has taken it.
 */
#include "tools/container/pool-wire.h"

#include "tools/agent/agent.h"
#include "tools/container/helpers.h"
#include "tools/container/monitor.h"
#include "tools/container/run.h"
#include "tools/container/template.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/streams.h"
#include "vmm/vm.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

/* From the restore until the agent is there, on a busy host. */
#define GREETING_MS 60000
#define LET_GO_MS   500
/* For a start that has connected. */
#define REQUEST_MS 5000

struct keeper {
	struct run run; /* none: its machine's configuration */
	struct pool_place place;
	struct monitor monitor;
	int status_fd; /* owned: to the pool; -1: it was taken */
	int gone_fd;   /* owned: epoll: the monitor or the pool has ended */
	int order_fd;  /* owned: to the monitor */
	int agent_fd;  /* owned: the agent's connection */
	unsigned agent_minor;
	pid_t helpers[POOL_HELPERS]; /* of the monitor's, now our children */
	int listen_fd;               /* owned: where starts connect */
	int link_fd; /* owned: to the one that has taken it; -1 */
	bool records;
	bool prepared;        /* the guest has made the container */
	char name[POOL_NAME]; /* of the socket; "": it is not there */
	char dir[64];         /* for sockets until the agent is there */
};

/* ---- its machine */

static int text(char **ret, const char *dir, const char *name)
{
	if (asprintf(ret, "%s/%s", dir, name) >= 0)
		return 0;
	*ret = NULL;
	return log_ret(-ENOMEM, "out of memory");
}

/* The machine's sockets have names only until its agent is there. */
static int make_dir(struct keeper *k)
{
	struct instance *instance = &k->run.instance;
	const char *tmp = getenv("TMPDIR");
	int r;

	/* The names of sockets are short. */
	if (!tmp || tmp[0] != '/' || strlen(tmp) > 32)
		tmp = "/tmp";
	snprintf(k->dir, sizeof(k->dir), "%s/bulkhead-pool-XXXXXX", tmp);
	if (!mkdtemp(k->dir)) {
		r = -errno;
		k->dir[0] = '\0';
		return log_ret(r, "'%s': %s", tmp, strerror(-r));
	}
	snprintf(instance->name, sizeof(instance->name), "pool");
	r = text(&instance->path, k->dir, "");
	if (r == 0)
		r = text(&instance->socket, k->dir, "vsock");
	return r < 0 ? r : text(&instance->control, k->dir, "control");
}

static void remove_dir(struct keeper *k)
{
	static const char *const names[] = {"vsock_1024", "vsock", "control"};
	char path[128];

	for (unsigned i = 0; k->dir[0] && i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", k->dir, names[i]);
		(void)unlink(path);
	}
	if (k->dir[0])
		(void)rmdir(k->dir);
	k->dir[0] = '\0';
}

static int make_machine(struct keeper *k)
{
	static const struct rootfs_options options = {.max_bytes = 0};
	struct run *run = &k->run;
	int r = rootfs_open(run->opt->root, &options, &run->root);

	if (r == 0)
		r = run_spec_make(&run->state.spec, run->opt, &run->root);
	/* A container always has one. */
	if (r == 0 && !run->state.spec.hostname)
		r = spec_set_text(&run->state.spec.hostname,
				  run->instance.name);
	if (r == 0)
		r = run_machine_make(&run->machine, &run->state.spec, run->opt,
				     &run->root, &run->instance);
	run->machine.cfg.adopts = true;
	return r;
}

/* A record goes on until the start that has taken it is over. */
static void prepare_record(struct keeper *k)
{
	k->records = template_records(k->run.machine.template);
	if (k->records)
		template_record_long(k->run.machine.template);
}

static int watch(struct keeper *k)
{
	struct epoll_event monitor = {.events = EPOLLIN},
			   pool = {.events = EPOLLERR};

	k->gone_fd = epoll_create1(EPOLL_CLOEXEC);
	if (k->gone_fd < 0 ||
	    epoll_ctl(k->gone_fd, EPOLL_CTL_ADD, k->monitor.pid_fd, &monitor) <
		    0 ||
	    epoll_ctl(k->gone_fd, EPOLL_CTL_ADD, k->status_fd, &pool) < 0)
		return log_ret(-errno, "waiting for a machine: %s",
			       strerror(errno));
	return 0;
}

/*
 * Has the guest make the container, where it can without knowing a run: with a
 * directory as root, too, which it sees as a container does that runs already.
 */
static int prepare_container(struct keeper *k, struct agent_session *session)
{
	struct text_list paths = {0};
	struct agent_failure failure;
	int r;

	k->prepared = template_has_container(k->run.machine.template);
	if (k->prepared || !agent_can_prepare(&k->run.machine.agent))
		return 0;
	r = run_process_paths(&k->run.state.spec.process, &paths);
	if (r == 0)
		r = agent_prepare(session, &k->run.machine.agent,
				  text_list_items(&paths), &failure);
	text_list_done(&paths);
	k->prepared = r == 0;
	return r == -EREMOTEIO ? log_ret(r, "its container: %s", failure.text)
			       : r;
}

static int start_monitor(struct keeper *k)
{
	struct run_machine *machine = &k->run.machine;
	struct agent_session *session;
	autofd int agent = -1;
	int ends[2], r = agent_listen(k->run.instance.socket, &agent);
	struct monitor_options options = {
		.snapshot = template_snapshot(machine->template),
		.template = machine->template,
	};

	if (r == 0 &&
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		r = log_ret(-errno, "sockets: %s", strerror(errno));
	if (r < 0)
		return r;
	k->order_fd = ends[0];
	options.order_fd = ends[1];
	options.close_fds[0] = k->status_fd;
	options.close_fds[1] = k->order_fd;
	options.close_fds[2] = agent;
	options.close_fds[3] = k->run.root.hold;
	r = monitor_start(&k->monitor, &machine->cfg, &options);
	close(ends[1]);
	if (r == 0)
		r = watch(k);
	if (r == 0)
		r = agent_accept(agent, k->gone_fd, GREETING_MS, NULL,
				 &session);
	if (r < 0)
		return r;
	r = prepare_container(k, session);
	k->agent_fd = agent_give(session, &k->agent_minor);
	return r;
}

/*
 * This process reaps all that is left over below it, so that it is the parent
 * of a program that the monitor has put in the background (passt). That goes to
 * the control group of the machine's container along with the monitor.
 */
static void find_helpers(struct keeper *k)
{
	struct helpers all;
	unsigned n = 0;

	helpers_find(&all);
	for (unsigned i = 0; i < all.n && n < POOL_HELPERS; i++) {
		if (all.pid[i] != k->monitor.pid)
			k->helpers[n++] = all.pid[i];
	}
}

/* ---- its socket */

/* It gets its name when it listens: one that refuses has nobody behind it. */
static int publish(struct keeper *k)
{
	const struct template *t = k->run.machine.template;
	const int dir = template_dir(t);
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	char part[POOL_NAME];
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK,
			0);

	k->listen_fd = fd;
	snprintf(k->name, sizeof(k->name), "%s" POOL_INFIX "%d",
		 template_pool(t, k->prepared), (int)getpid());
	snprintf(part, sizeof(part), POOL_PART "%d", (int)getpid());
	snprintf(un.sun_path, sizeof(un.sun_path), "/proc/self/fd/%d/%s", dir,
		 part);
	(void)unlinkat(dir, part, 0);
	/* The file gets the socket's own mode. */
	if (fd < 0 || fchmod(fd, 0600) < 0 ||
	    bind(fd, (const struct sockaddr *)&un, sizeof(un)) < 0 ||
	    listen(fd, 8) < 0 || renameat(dir, part, dir, k->name) < 0)
		return log_ret(-errno, "socket '%s': %s", k->name,
			       strerror(errno));
	return 0;
}

/* A start that has connected meanwhile finds its connection closed. */
static void withdraw(struct keeper *k)
{
	if (k->name[0])
		(void)unlinkat(template_dir(k->run.machine.template), k->name,
			       0);
	k->name[0] = '\0';
	util_close(&k->listen_fd);
}

static int tell_pool(const struct keeper *k, enum pool_word word)
{
	const char byte = (char)word;

	return util_write_all(k->status_fd, &byte, sizeof(byte));
}

/* ---- starts that ask for it */

static bool receive(int fd, struct pool_request *ret)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};
	struct ucred peer;
	socklen_t bytes = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) < 0 ||
	    peer.uid != geteuid() || poll(&pfd, 1, REQUEST_MS) < 1)
		return false;
	return recv(fd, ret, sizeof(*ret), MSG_DONTWAIT) == sizeof(*ret) &&
	       ret->magic == POOL_MAGIC;
}

/*
 * 0, or what the start is told. Another one may have moved some of the
 * processes and ended then: where they are now is what counts.
 */
static int32_t decide(const struct keeper *k,
		      const struct pool_request *request)
{
	const struct pool_place *place = &request->place;
	bool here;

	if (strncmp(place->hash, k->place.hash, SHA256_HEX) != 0)
		return -EPERM;
	here = pool_place_has(place, getpid()) &&
	       pool_place_has(place, k->monitor.pid);
	for (unsigned i = 0; here && i < POOL_HELPERS; i++)
		here = k->helpers[i] <= 0 ||
		       pool_place_has(place, k->helpers[i]);
	return here ? 0 : -EXDEV;
}

static bool give(struct keeper *k, int fd, const struct pool_answer *answer)
{
	const int fds[POOL_FDS] = {
		[POOL_FD_ORDER] = k->order_fd,
		[POOL_FD_PROCESS] = k->monitor.pid_fd,
		[POOL_FD_AGENT] = k->agent_fd,
		[POOL_FD_CONSOLE] = k->monitor.console_fd,
		[POOL_FD_MESSAGES] = k->monitor.messages_fd,
	};

	return descriptors_send(fd, answer, sizeof(*answer), fds, POOL_FDS) ==
	       sizeof(*answer);
}

/* One that was not answered in time has gone on without this machine. */
static bool is_there(int fd)
{
	struct pollfd pfd = {.fd = fd};

	return poll(&pfd, 1, 0) == 0;
}

/* True: it was taken by FD. */
static bool serve(struct keeper *k, int fd)
{
	struct pool_request request;
	struct pool_answer answer;
	bool gives;

	for (;;) {
		if (!receive(fd, &request))
			return false;
		memset(&answer, 0, sizeof(answer));
		answer.keeper = (int32_t)getpid();
		answer.monitor = (int32_t)k->monitor.pid;
		answer.records = k->records;
		for (unsigned i = 0; i < POOL_HELPERS; i++)
			answer.helpers[i] = (int32_t)k->helpers[i];
		answer.agent_minor = k->agent_minor;
		if (request.what == POOL_TAKE)
			answer.result = decide(k, &request);
		if (request.what == POOL_TAKE && answer.result == 0) {
			if (!is_there(fd))
				return false;
			break;
		}
		if (send(fd, &answer, sizeof(answer), MSG_NOSIGNAL) !=
		    sizeof(answer))
			return false;
	}
	/* From here on the machine is not the pool's; the start comes first. */
	gives = give(k, fd, &answer);
	withdraw(k);
	(void)tell_pool(k, POOL_TAKEN);
	util_close(&k->status_fd);
	return gives;
}

/*
 * Nothing of the pool's terminal or directory is held by what was taken. The
 * start has the host's time first.
 */
static int let_go(struct keeper *k)
{
	static const int none[3] = {STREAM_NULL, STREAM_NULL, STREAM_NULL};
	struct pollfd pfd[2] = {
		{.fd = k->monitor.pid_fd, .events = POLLIN},
		{.fd = k->link_fd, .events = POLLIN},
	};

	util_close(&k->order_fd);
	util_close(&k->agent_fd);
	util_close(&k->monitor.console_fd);
	util_close(&k->monitor.messages_fd);
	(void)poll(pfd, 2, LET_GO_MS);
	rootfs_close(&k->run.root);
	run_machine_done(&k->run.machine);
	k->run.machine = (struct run_machine){.initrd_fd = -1};
	if (chdir("/") < 0)
		return -errno;
	return streams_set(none);
}

/* Until a start has it, or there is nobody to wait for. True: the former. */
static bool wait_for_start(struct keeper *k)
{
	struct pollfd pfd[2] = {
		{.fd = k->listen_fd, .events = POLLIN},
		{.fd = k->gone_fd, .events = POLLIN},
	};

	while (!pfd[1].revents) {
		autofd int fd = -1;

		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			break;
		if (pfd[0].revents)
			fd = accept4(k->listen_fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd >= 0 && serve(k, fd)) {
			k->link_fd = take_fd(&fd);
			return true;
		}
		if (k->status_fd < 0)
			return false; /* it was given, to nobody */
	}
	return false;
}

/* Until the monitor's end, which the other one is told, or that one's. */
static void be_parent(struct keeper *k)
{
	struct pollfd pfd[2] = {
		{.fd = k->monitor.pid_fd, .events = POLLIN},
		{.fd = k->link_fd, .events = POLLIN},
	};
	int status = SIGKILL;
	int32_t word;

	while (!pfd[0].revents && !pfd[1].revents) {
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			break;
	}
	if (!pfd[0].revents)
		kill(k->monitor.pid, SIGKILL);
	while (waitpid(k->monitor.pid, &status, 0) < 0 && errno == EINTR)
		;
	k->monitor.pid = 0;
	word = status;
	(void)send(k->link_fd, &word, sizeof(word), MSG_NOSIGNAL);
}

/* Whether its machine goes on from the template NAME. */
static bool is_of(const struct keeper *k, const char *name)
{
	const struct template *t = k->run.machine.template;

	return template_snapshot(t) && !template_is_wanted(t) &&
	       strcmp(template_name(t), name) == 0;
}

static int live(struct keeper *k, const char *name)
{
	int r = pool_place_read(&k->place);

	if (r == 0)
		r = make_dir(k);
	if (r == 0)
		r = make_machine(k);
	if (r == 0 && !is_of(k, name))
		return POOL_EXIT_NO_TEMPLATE;
	if (r == 0) {
		prepare_record(k);
		r = start_monitor(k);
	}
	remove_dir(k);
	if (r == 0) {
		find_helpers(k);
		r = publish(k);
	}
	if (r == 0)
		r = tell_pool(k, POOL_READY);
	if (r < 0 || !wait_for_start(k))
		return RUN_EXIT_FAILED;
	if (let_go(k) == 0)
		be_parent(k);
	return VM_EXIT_OK;
}

int pool_keep(struct run_options *opt, const char *name, int status_fd)
{
	struct keeper k = {
		.run = {.opt = opt, .root.hold = -1, .machine.initrd_fd = -1},
		.monitor = MONITOR_NONE,
		.status_fd = status_fd,
		.gone_fd = -1,
		.order_fd = -1,
		.agent_fd = -1,
		.listen_fd = -1,
		.link_fd = -1,
	};
	int status;

	(void)prctl(PR_SET_NAME, "bulkhead-wait");
	/* Ctrl-C and Ctrl-Z are for the pool. */
	(void)setsid();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	instance_init(&k.run.instance);
	status = live(&k, name);
	withdraw(&k);
	remove_dir(&k);
	monitor_done(&k.monitor);
	run_machine_done(&k.run.machine);
	instance_state_done(&k.run.state);
	instance_done(&k.run.instance);
	rootfs_close(&k.run.root);
	util_close(&k.status_fd);
	util_close(&k.gone_fd);
	util_close(&k.order_fd);
	util_close(&k.agent_fd);
	util_close(&k.link_fd);
	return status;
}
