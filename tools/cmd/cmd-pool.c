/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead pool`: keeps machines that wait for `bulkhead run`. One process
 * that makes a keeper for each (pool-keep.c), and another one when that was
 * taken.
 */
#include "tools/cmd/cmd.h"

#include "devices/virtio/virtio.h"
#include "tools/cli/usage.h"
#include "tools/container/pool.h"
#include "tools/container/run.h"
#include "tools/instance/host-usage.h"
#include "tools/instance/template-store.h"
#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/*
 * So many machines in one place, one after the other, that end before a start
 * has taken one: others would as well. The time until the next one doubles.
 */
#define FAILURES_MAX 5
/* One that has waited as long has not ended for such a reason. */
#define LONG_NS UINT64_C(60000000000)
/* The start that has taken one has the host's time first. */
#define AGAIN_NS UINT64_C(500000000)
/* For keepers to end their machines. */
#define END_NS UINT64_C(10000000000)

static const char help[] =
	"usage: bulkhead pool [ls]\n"
	"       bulkhead pool --size N [OPTION-OF-RUN]... ROOT\n"
	"\n"
	"Lists machines that wait for a container, or keeps N of them waiting, "
	"until it is\n"
	"ended by a signal: of the size, kernel and network that the options "
	"of 'bulkhead\n"
	"run' say, and with an image's container, if ROOT is one. A run of "
	"such a machine\n"
	"takes one, unless it has --cold, and the pool makes another. The "
	"template's name is\n"
	"printed when all of them wait.\n"
	"\n"
	"  --size N     so many, up to 64\n"
	"  -h, --help   this text\n";

/* ---- ls */

static void print_one(const char *name, pid_t keeper, pid_t monitor)
{
	struct host_usage machine = {0}, own = {0};

	(void)host_usage_read(monitor, instance_process_start(monitor),
			      &machine);
	(void)host_usage_read(keeper, instance_process_start(keeper), &own);
	printf("%.*s  %8d  %8.1f MiB\n", TEMPLATE_NAME - 1, name, (int)monitor,
	       (double)(machine.pss + own.pss) / (double)MIB);
}

static int list(void)
{
	struct template_store store;
	int r = template_store_open(NULL, false, &store);

	if (r < 0 && r != -ENOENT)
		return VM_EXIT_HOST;
	printf("%-21s  %8s  %12s\n", "TEMPLATE", "PID", "MEMORY");
	if (r == 0)
		r = pool_each(store.dir, print_one);
	template_store_close(&store);
	return r < 0 && r != -ENOENT ? VM_EXIT_HOST : VM_EXIT_OK;
}

/* ---- what must stay as it is */

struct watched {
	char path[PATH_MAX];
	struct stat st;
};

struct slot {
	pid_t pid;
	int fd;            /* owned: the keeper's words; -1: there is none */
	uint64_t ready_ns; /* since when it waits; 0: it does not yet */
	uint64_t due_ns;   /* when another is made */
	unsigned failures; /* that have ended since one was taken */
};

struct pool {
	struct run_options *opt;
	struct slot slot[POOL_SIZE_MAX];
	unsigned size;
	struct template_store store;
	char name[TEMPLATE_NAME];
	struct watched kernel, program;
	int signal_fd, changes_fd; /* owned */
	sigset_t mask_before;
	bool told; /* that all of them wait */
};

static bool is_changed(const struct watched *w)
{
	struct stat st;

	return stat(w->path, &st) < 0 || st.st_dev != w->st.st_dev ||
	       st.st_ino != w->st.st_ino || st.st_size != w->st.st_size ||
	       st.st_mtim.tv_sec != w->st.st_mtim.tv_sec ||
	       st.st_mtim.tv_nsec != w->st.st_mtim.tv_nsec;
}

static int watch(struct pool *pool, struct watched *w)
{
	const uint32_t events =
		IN_ATTRIB | IN_MODIFY | IN_DELETE_SELF | IN_MOVE_SELF;

	if (stat(w->path, &w->st) < 0 ||
	    inotify_add_watch(pool->changes_fd, w->path, events) < 0)
		return log_ret(-errno, "'%s': %s", w->path, strerror(errno));
	return 0;
}

/* The kernel's path is the template's. */
static int find_kernel(struct pool *pool)
{
	autofree char *path = template_find(&pool->store, pool->name, NULL);
	struct snapshot snapshot = {.memory_fd = -1};
	struct config cfg;
	int r = path ? snapshot_open(&snapshot, path) : -ENOENT;

	config_init(&cfg);
	if (r == 0)
		r = config_read_json_bytes(&cfg, path, snapshot.config,
					   strlen(snapshot.config),
					   virtio_config_types());
	if (r == 0 && (!cfg.kernel || !realpath(cfg.kernel, pool->kernel.path)))
		r = log_ret(-ENOENT, "template %s: its kernel is not there",
			    pool->name);
	config_done(&cfg);
	snapshot_close(&snapshot);
	return r;
}

static int watch_all(struct pool *pool)
{
	const uint32_t events = IN_DELETE | IN_MOVED_FROM;
	ssize_t n = readlink("/proc/self/exe", pool->program.path,
			     sizeof(pool->program.path) - 1);
	int r = n < 0 ? -errno : find_kernel(pool);

	if (r < 0)
		return r;
	pool->changes_fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
	if (pool->changes_fd < 0 ||
	    inotify_add_watch(pool->changes_fd, pool->store.path, events) < 0)
		return log_ret(-errno, "'%s': %s", pool->store.path,
			       strerror(errno));
	r = watch(pool, &pool->kernel);
	return r < 0 ? r : watch(pool, &pool->program);
}

/* Machines of it would be taken by nobody any more. 0 or -ESTALE, logged. */
static int check_changes(struct pool *pool)
{
	char events[4096];
	const struct watched *const files[] = {&pool->kernel, &pool->program};

	while (read(pool->changes_fd, events, sizeof(events)) > 0)
		;
	if (faccessat(pool->store.dir, pool->name, F_OK, 0) < 0)
		return log_ret(-ESTALE,
			       "template %s was removed: start the pool anew",
			       pool->name);
	for (unsigned i = 0; i < ARRAY_LEN(files); i++) {
		if (is_changed(files[i]))
			return log_ret(-ESTALE,
				       "'%s' is another one now: start the "
				       "pool anew",
				       files[i]->path);
	}
	return 0;
}

/* ---- the template */

/* In a process of its own, as if a user had asked for it; its name. */
static int make_template(struct pool *pool, int argc, char **argv)
{
	int ends[2], status = 0;
	ssize_t n;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(-errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		const int from[3] = {STREAM_NULL, ends[1], STREAM_KEEP};

		status = streams_set(from) == 0
				 ? cmd_run_template_waiting(argc, argv)
				 : VM_EXIT_HOST;
		_exit(fflush(stdout) == 0 ? status : VM_EXIT_HOST);
	}
	close(ends[1]);
	n = pid < 0 ? -1 : read(ends[0], pool->name, TEMPLATE_NAME - 1);
	close(ends[0]);
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0)
		return log_ret(-EAGAIN, "cannot fork");
	return n == TEMPLATE_NAME - 1 && status == 0 ? 0 : -ECHILD;
}

/* ---- keepers */

static int start_keeper(struct pool *pool, struct slot *slot)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(-errno, "pipe: %s", strerror(errno));
	slot->pid = fork();
	if (slot->pid == 0) {
		for (unsigned i = 0; i < pool->size; i++)
			util_close(&pool->slot[i].fd);
		util_close(&pool->signal_fd);
		util_close(&pool->changes_fd);
		template_store_close(&pool->store);
		close(ends[0]);
		sigprocmask(SIG_SETMASK, &pool->mask_before, NULL);
		_exit(pool_keep(pool->opt, pool->name, ends[1]));
	}
	close(ends[1]);
	slot->fd = ends[0];
	slot->ready_ns = 0;
	if (slot->pid < 0) {
		util_close(&slot->fd);
		return log_ret(-errno, "cannot fork: %s", strerror(errno));
	}
	return 0;
}

/* Once, so that a script can wait for it. */
static void tell_ready(struct pool *pool)
{
	for (unsigned i = 0; i < pool->size; i++) {
		if (!pool->slot[i].ready_ns)
			return;
	}
	if (!pool->told)
		puts(pool->name);
	(void)fflush(stdout);
	pool->told = true;
}

/* A machine has ended that nobody has taken. 0 or -errno, logged. */
static int hear_end(struct slot *slot)
{
	const uint64_t now = util_now_ns();

	if (slot->ready_ns && now - slot->ready_ns > LONG_NS)
		slot->failures = 0;
	if (++slot->failures == FAILURES_MAX)
		return log_ret(-ECHILD,
			       "%d of its machines have ended, one after the "
			       "other, without a container: is there memory "
			       "for them, and does `bulkhead run` start one?",
			       FAILURES_MAX);
	slot->due_ns = now + (AGAIN_NS << slot->failures);
	return 0;
}

/* Its keeper says something, or has ended. 0 or -errno, logged. */
static int hear(struct pool *pool, struct slot *slot)
{
	char word;
	const ssize_t n = read(slot->fd, &word, sizeof(word));

	if (n == sizeof(word) && word == POOL_READY) {
		slot->ready_ns = util_now_ns();
		tell_ready(pool);
		return 0;
	}
	util_close(&slot->fd);
	if (n == sizeof(word)) {
		slot->failures = 0;
		slot->due_ns = util_now_ns() + AGAIN_NS;
		return 0;
	}
	return hear_end(slot);
}

/* Those whose time it is. *RET_MS: until the next one's, or -1. */
static int start_due(struct pool *pool, int *ret_ms)
{
	int r = 0;

	*ret_ms = -1; /* or until the first of them */
	for (unsigned i = 0; r == 0 && i < pool->size; i++) {
		struct slot *slot = &pool->slot[i];
		const uint64_t now = util_now_ns();

		if (slot->fd >= 0)
			continue;
		if (slot->due_ns <= now)
			r = start_keeper(pool, slot);
		else if (*ret_ms < 0 ||
			 slot->due_ns - now < (uint64_t)*ret_ms * 1000000)
			*ret_ms = (int)((slot->due_ns - now) / 1000000) + 1;
	}
	return r;
}

/* Those that were taken end as well. */
static void collect(void)
{
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* True: it is to end. */
static bool take_signal(struct pool *pool)
{
	struct signalfd_siginfo info;

	if (read(pool->signal_fd, &info, sizeof(info)) != sizeof(info))
		return false;
	if (info.ssi_signo == SIGCHLD)
		collect();
	return info.ssi_signo != SIGCHLD;
}

/* Until a signal: 0; or -errno, logged. */
static int keep(struct pool *pool)
{
	int r = 0;

	while (r == 0) {
		struct pollfd pfd[POOL_SIZE_MAX + 2];
		int wait_ms;

		r = start_due(pool, &wait_ms);
		if (r < 0)
			break;

		for (unsigned i = 0; i < pool->size; i++)
			pfd[i] = (struct pollfd){.fd = pool->slot[i].fd,
						 .events = POLLIN};
		pfd[pool->size] = (struct pollfd){.fd = pool->signal_fd,
						  .events = POLLIN};
		pfd[pool->size + 1] = (struct pollfd){.fd = pool->changes_fd,
						      .events = POLLIN};
		if (poll(pfd, pool->size + 2, wait_ms) < 0 && errno != EINTR)
			return log_ret(-errno, "poll: %s", strerror(errno));
		if (pfd[pool->size].revents && take_signal(pool))
			break;
		if (pfd[pool->size + 1].revents)
			r = check_changes(pool);
		for (unsigned i = 0; r == 0 && i < pool->size; i++) {
			if (pfd[i].revents)
				r = hear(pool, &pool->slot[i]);
		}
	}
	return r;
}

/* Whether it has been taken, and is not the pool's any more. */
static bool was_taken(const struct slot *slot)
{
	struct pollfd pfd = {.fd = slot->fd, .events = POLLIN};
	char word;

	while (poll(&pfd, 1, 0) == 1 && read(slot->fd, &word, 1) == 1) {
		if (word == POOL_TAKEN)
			return true;
	}
	return false;
}

/*
 * Keepers end when their pipe is closed, also by this process's death. They are
 * waited for, so that nothing of them is left then.
 */
static void end_keepers(struct pool *pool)
{
	const uint64_t end = util_now_ns() + END_NS;
	const struct timespec pause = {.tv_nsec = 5000000};

	for (unsigned i = 0; i < pool->size; i++) {
		struct slot *slot = &pool->slot[i];

		if (slot->fd < 0 || was_taken(slot))
			slot->pid = 0;
		util_close(&slot->fd);
	}
	for (unsigned i = 0; i < pool->size; i++) {
		while (pool->slot[i].pid > 0 && util_now_ns() < end &&
		       waitpid(pool->slot[i].pid, NULL, WNOHANG) == 0)
			nanosleep(&pause, NULL);
	}
}

/* ---- */

static int take_signals(struct pool *pool)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM,
				      SIGCHLD};
	const sigset_t set = util_signals(signals, ARRAY_LEN(signals));

	sigprocmask(SIG_BLOCK, &set, &pool->mask_before);
	pool->signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return pool->signal_fd < 0
		       ? log_ret(-errno, "signals: %s", strerror(errno))
		       : 0;
}

/* A machine that waits has nothing of a container's. 0, or a status, logged. */
static int check_options(struct run_options *opt)
{
	const char *what = NULL;

	if (opt->bundle)
		what = "--bundle";
	else if (opt->publish.count)
		what = "--publish";
	else if (opt->cold)
		what = "--cold";
	else if (opt->no_sandbox)
		what = "--no-sandbox";
	else if (opt->network && strcmp(opt->network, "none") != 0 &&
		 strcmp(opt->network, "user") != 0)
		what = "--network other than none and user";
	if (what)
		return usage_error(
			"pool", "%s: no machine can wait for such a run", what);
	return 0;
}

static int run_pool(struct pool *pool, int argc, char **argv)
{
	int r = make_template(pool, argc, argv);

	if (r == 0)
		r = template_store_open(NULL, false, &pool->store);
	if (r == 0)
		pool_sweep(pool->store.dir);
	if (r == 0)
		r = watch_all(pool);
	if (r == 0)
		r = take_signals(pool);
	if (r == 0)
		r = keep(pool);
	end_keepers(pool);
	util_close(&pool->signal_fd);
	util_close(&pool->changes_fd);
	template_store_close(&pool->store);
	return r < 0 ? INSTANCE_EXIT_FAILED : VM_EXIT_OK;
}

static int parse_size(const char *text, unsigned *ret)
{
	uint64_t size;

	if (!text || util_parse_number(text, 1, POOL_SIZE_MAX, &size) < 0)
		return usage_error("pool",
				   "--size '%s': not a number from 1 to %d",
				   text ? text : "", POOL_SIZE_MAX);
	*ret = (unsigned)size;
	return 0;
}

/* ARGV from `run`'s options on, whose first word is a command's name. */
static int keep_pool(unsigned size, int argc, char **argv)
{
	struct run_options opt = {.forward_signals = true, .waits = true};
	struct pool pool = {
		.opt = &opt,
		.size = size,
		.store.dir = -1,
		.signal_fd = -1,
		.changes_fd = -1,
	};
	int status = VM_EXIT_USAGE;
	const int r = run_options_parse(&opt, argc, argv);

	for (unsigned i = 0; i < POOL_SIZE_MAX; i++)
		pool.slot[i].fd = -1;
	if (r == OPTIONS_HELP)
		status = VM_EXIT_OK;
	else if (r == 0 && check_options(&opt) == 0)
		status = run_pool(&pool, argc, argv);
	run_options_done(&opt);
	return status;
}

int cmd_pool(int argc, char **argv)
{
	static const char option[] = "--size";
	const char *first = argc > 1 ? argv[1] : "ls";
	const size_t n = strlen(option);
	unsigned size = 0;
	int skip;

	if (strcmp(first, "-h") == 0 || strcmp(first, "--help") == 0) {
		fputs(help, stdout);
		return VM_EXIT_OK;
	}
	if (strcmp(first, "ls") == 0 && argc <= 2)
		return list();
	if (strncmp(first, option, n) != 0 ||
	    (first[n] != '\0' && first[n] != '='))
		return usage_error("pool",
				   "'%s': give --size first, or nothing",
				   strcmp(first, "ls") == 0 ? argv[2] : first);
	skip = first[n] == '=' ? 1 : 2;
	if (parse_size(skip == 1 ? first + n + 1 : argv[2], &size) != 0)
		return VM_EXIT_USAGE;
	argv[skip] = argv[0];
	return keep_pool(size, argc - skip, argv + skip);
}
