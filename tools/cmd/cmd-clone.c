/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead clone`: others that go on where a running instance is. It is saved
 * once, in files without a name; each clone is a process that was forked here,
 * which makes an instance of its own as `restore` does. All map the same memory
 * privately, and the last one that ends frees it.
 */
#include "tools/cmd/cmd.h"

#include "firmware/agent/agent.h"
#include "tools/agent/agent.h"
#include "tools/cli/options.h"
#include "tools/cli/trace-option.h"
#include "tools/cli/usage.h"
#include "tools/cmd/restore.h"
#include "tools/cmd/save.h"
#include "tools/container/run.h"
#include "tools/instance/instance.h"
#include "tools/instance/template-store.h"
#include "vmm/base/log.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define CLONES_MAX 1000
/* So many start at the same time for each of the host's CPUs. */
#define STARTS_PER_CPU 2
#define STARTS_MAX     32

struct request {
	bool remove, no_publish;
	const char *name, *prefix, *network, *log_level, *signal_text, *trace;
	struct trace *marks; /* NULL: none */
	int signal;          /* 0: none */
	struct option_list publish;
	const char *source;
	uint64_t count;
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry entries[] = {
	{"name", 0, "NAME", OPTION_TEXT, AT(name), NULL,
	 "the name of a single clone [as below]"},
	{"name-prefix", 'n', "PREFIX", OPTION_TEXT, AT(prefix), NULL,
	 "names are PREFIX-1, PREFIX-2 and so on, those that are free [NAME]"},
	{"rm", 0, NULL, OPTION_FLAG, AT(remove), NULL,
	 "remove each when its command ends"},
	{"signal", 's', "SIGNAL", OPTION_TEXT, AT(signal_text), NULL,
	 "what each clone's command gets before it goes on [none]"},
	{"publish", 'p', "[ADDR:]PORT[:PORT]", OPTION_LIST, AT(publish), NULL,
	 "these ports instead of those it has"},
	{"no-publish", 0, NULL, OPTION_FLAG, AT(no_publish), NULL, "no ports"},
	{"network", 0, "NETWORK", OPTION_TEXT, AT(network), NULL,
	 "another network of the same kind: tap=NAME[,KEY...]"},
	{"trace", 0, "boot", OPTION_TEXT, AT(trace), NULL,
	 "print what each clone's start came to, and when"},
	{"log-level", 0, "LEVEL", OPTION_TEXT, AT(log_level), NULL,
	 "error, warn, info or debug [warn]"},
	{0},
};

static const struct option_table clone_table = {
	.command = "clone",
	.synopsis =
		"usage: bulkhead clone [OPTION]... NAME [N]\n"
		"\n"
		"Starts N [1] instances in the background that go on where the "
		"running instance\n"
		"NAME is, with all of its processes, and prints their names. "
		"It "
		"stands still for\n"
		"a moment, and then goes on. Its clones share the memory that "
		"they do not write\n"
		"to.\n",
	.entries = entries,
	.notes = "\nA clone finds its name, its number and the name of its "
		 "source "
		 "in\n" AGENT_CLONE_FILE " before any process of it goes on. "
		 "Volumes are the same directories for all. Where one clone "
		 "cannot be started, no\nfurther one is; those that were "
		 "printed go on.\n",
};

/* A clone that is being started. */
struct start {
	char name[INSTANCE_NAME_MAX + 1];
	int fd;              /* owned: its status comes here */
	struct trace *marks; /* owned */
};

struct cloning {
	const struct request *req;
	struct instance source;
	struct instance_state state; /* of the source */
	struct snapshot snapshot;
	struct start start[STARTS_MAX]; /* in a ring */
	unsigned begun, ended;
	unsigned number; /* of the next one */
};

/* ---- what can be cloned */

static int check_publish(const struct instance *source,
			 const struct option_list *list, bool given,
			 uint64_t count)
{
	for (unsigned i = 0; i < list->count; i++) {
		const char *text = list->item[i];

		if (run_publish_chooses(text))
			continue;
		if (!given)
			return log_ret(-EADDRINUSE,
				       "'%s' has the host's port of '-p %s': "
				       "give its clones others, by -p with the "
				       "port in the guest alone, or "
				       "--no-publish",
				       source->name, text);
		if (count > 1)
			return log_ret(-EADDRINUSE,
				       "-p '%s': one clone alone can have this "
				       "port of the host's: give the port in "
				       "the guest alone, and each gets a free "
				       "one",
				       text);
	}
	return 0;
}

static int check_network(const struct cloning *c)
{
	const struct request *req = c->req;
	const char *network = c->state.network ? c->state.network : "none";
	struct run_options opt = {0};
	int r = 0;

	if (strncmp(network, "tap=", 4) == 0 && !req->network)
		return log_ret(-EBUSY,
			       "'%s' has the tap of '--network %s': give its "
			       "clone another one: --network tap=NAME",
			       c->source.name, network);
	if (req->network && strncmp(req->network, "tap=", 4) == 0 &&
	    req->count > 1)
		return log_ret(-EBUSY,
			       "--network '%s': one clone alone can have this "
			       "tap: make them one by one",
			       req->network);
	if (req->publish.count > 0)
		return check_publish(&c->source, &req->publish, true,
				     req->count);
	if (!req->no_publish)
		r = run_again_options(c->state.run, &opt);
	if (r == 0)
		r = check_publish(&c->source, &opt.publish, false, req->count);
	run_options_done(&opt);
	return r;
}

/* ---- the source */

/* The kernel writes it to the disk when it needs the memory. */
static int open_files(int ret_files[2])
{
	ret_files[1] = template_store_unnamed();
	if (ret_files[1] < 0)
		return ret_files[1];
	ret_files[0] = memfd_create("bulkhead-clone", MFD_CLOEXEC);
	return ret_files[0] < 0 ? log_ret(-errno, "memfd: %s", strerror(errno))
				: 0;
}

/*
 * A clone's monitor, should its guest take it over, must not change what is the
 * memory of the others, too.
 */
static int make_read_only(int *fd)
{
	char path[40];
	int again;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", *fd);
	again = open(path, O_RDONLY | O_CLOEXEC);
	if (again < 0)
		return log_ret(-errno, "the clones' memory: '%s': %s", path,
			       strerror(errno));
	util_close(fd);
	*fd = again;
	return 0;
}

static int save_source(struct cloning *c)
{
	const struct save_how how = {.live = true, .track_fd = -1};
	struct sigaction before[SAVE_SIGNALS];
	const uint64_t from_ns = util_now_ns();
	int files[2] = {-1, -1};
	struct vm_saved saved;
	int r = open_files(files);

	save_take_signals(before);
	if (r == 0)
		r = save_instance_files(&c->source, files, &how, &saved);
	save_release_signals(before);
	trace_mark(c->req->marks, TRACE_SAVED);
	if (r == 0) {
		log_debug("saved within %llu us: %llu KiB; it stood still for "
			  "%llu us",
			  (unsigned long long)(util_now_ns() - from_ns) / 1000,
			  (unsigned long long)saved.memory_bytes / 1024,
			  (unsigned long long)saved.stood_ns / 1000);
		r = make_read_only(&files[1]);
	}
	if (r == 0)
		r = snapshot_take(&c->snapshot, c->source.name, files[0],
				  take_fd(&files[1]));
	trace_mark(c->req->marks, TRACE_SNAPSHOT);
	util_close(&files[0]);
	util_close(&files[1]);
	return r;
}

static int open_source(struct cloning *c)
{
	int r = instance_open_running(c->req->source, &c->source, &c->state);

	if (r == 0)
		r = save_check(&c->source, &c->state, "cloned");
	if (r == 0)
		r = check_network(c);
	return r == 0 ? save_source(c) : r;
}

/* ---- its clones */

/* In a process of its own, to the instance's end. */
static int run_clone(struct cloning *c, struct instance *instance,
		     struct trace *marks, int ready_fd)
{
	const struct request *req = c->req;
	const struct restore_request restore = {
		.path = req->source,
		.network = req->network,
		.publish = &req->publish,
		.no_publish = req->no_publish,
		.detach = true,
		.remove = req->remove,
		.trace = marks,
	};
	struct run_options opt = {0};
	struct run run = {
		.opt = &opt,
		.root.hold = -1,
		.machine.initrd_fd = -1,
		.instance = *instance,
		.state = c->state,
		.snapshot = &c->snapshot,
		.clone.source = req->source,
		.clone.number = c->number,
		.clone.signal = req->signal,
	};
	int status = RUN_EXIT_FAILED;

	run.clone.name = run.instance.name;
	trace_mark(marks, TRACE_CLONE);
	instance_init(instance);
	c->state = (struct instance_state){0};
	/* The other clones' are not this one's. */
	for (unsigned i = c->ended; i < c->begun; i++) {
		util_close(&c->start[i % STARTS_MAX].fd);
		trace_free(c->start[i % STARTS_MAX].marks);
	}
	instance_done(&c->source);
	if (restore_make(&restore, &run, &opt) == 0)
		status = supervise_behind(&run, ready_fd);
	else
		(void)util_write_all(ready_fd, &status, sizeof(status));
	restore_free(&run, &opt);
	return status;
}

#define IS_CLONE 1

/* 0; IS_CLONE with its exit status, in the new process; or -errno, logged. */
static int begin_clone(struct cloning *c,
		       const struct sigaction before[SAVE_SIGNALS],
		       int *ret_status)
{
	struct start *start = &c->start[c->begun % STARTS_MAX];
	struct instance instance;
	autofd int read_fd = -1, write_fd = -1;
	int ends[2];
	pid_t pid;
	int r = c->req->name
			? instance_create(c->req->name, &instance)
			: instance_create_numbered(c->req->prefix
							   ? c->req->prefix
							   : c->source.name,
						   &c->number, &instance);

	if (r < 0)
		return r;
	start->marks = trace_copy(c->req->marks);
	r = pipe2(ends, O_CLOEXEC) < 0 ? -errno : 0;
	read_fd = r == 0 ? ends[0] : -1;
	write_fd = r == 0 ? ends[1] : -1;
	pid = r == 0 ? fork() : -1;
	if (pid == 0) {
		save_release_signals(before);
		util_close(&read_fd);
		*ret_status = run_clone(c, &instance, start->marks, write_fd);
		return IS_CLONE;
	}
	if (pid < 0) {
		r = log_ret(r < 0 ? r : -errno, "'%s': cannot fork: %s",
			    instance.name, strerror(r < 0 ? -r : errno));
		(void)instance_remove(&instance, true);
		trace_free(start->marks);
	} else {
		snprintf(start->name, sizeof(start->name), "%s", instance.name);
		start->fd = take_fd(&read_fd);
		c->begun++;
		c->number++;
	}
	instance_done(&instance);
	return r;
}

/* Its name on standard output, or its error. */
static int await_clone(struct cloning *c)
{
	struct start *start = &c->start[c->ended++ % STARTS_MAX];
	const int status = supervise_await(start->fd, start->name);

	/* Before the next fork, or it comes twice. */
	(void)fflush(stdout);
	util_close(&start->fd);
	if (status == 0 && start->marks) {
		fprintf(stderr, "%s:\n", start->name);
		trace_finish(start->marks, false);
	} else {
		trace_free(start->marks);
	}
	return status;
}

/* As many at once as the host can start; in order. */
static int start_clones(struct cloning *c, int *ret_status)
{
	const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	const unsigned most = (unsigned)min_u64(
		STARTS_MAX, STARTS_PER_CPU * (uint64_t)(cpus > 0 ? cpus : 1));
	struct sigaction before[SAVE_SIGNALS];
	bool failed = false;

	/* Those that have begun are waited for, and named. */
	save_take_signals(before);
	while (c->ended < c->begun || (!failed && c->begun < c->req->count)) {
		int r = 0;

		if (c->begun < c->req->count)
			failed |= save_is_told_to_end(NULL);

		if (!failed && c->begun < c->req->count &&
		    c->begun - c->ended < most)
			r = begin_clone(c, before, ret_status);
		else if (await_clone(c) != 0)
			failed = true;
		if (r == IS_CLONE)
			return r;
		failed |= r < 0;
	}
	save_release_signals(before);
	*ret_status = failed ? INSTANCE_EXIT_FAILED : VM_EXIT_OK;
	return 0;
}

static int make_clones(const struct request *req)
{
	struct cloning c = {.req = req, .snapshot.memory_fd = -1, .number = 1};
	int status = INSTANCE_EXIT_FAILED;

	instance_init(&c.source);
	instance_sweep();
	if (open_source(&c) == 0)
		(void)start_clones(&c, &status);
	snapshot_close(&c.snapshot);
	instance_state_done(&c.state);
	instance_done(&c.source);
	return status;
}

/* ---- the command line */

static int check_request(struct request *req, int argc, char *const *argv)
{
	enum log_level level = LOG_WARN;

	if (argc < 1 || argc > 2)
		return usage_error("clone",
				   "give the name of a running instance, and "
				   "how many clones");
	req->source = argv[0];
	req->count = 1;
	if (argc == 2 &&
	    util_parse_number(argv[1], 1, CLONES_MAX, &req->count) < 0)
		return usage_error("clone", "'%s': not a number from 1 to %d",
				   argv[1], CLONES_MAX);
	if (req->log_level && log_parse_level(req->log_level, &level) < 0)
		return usage_error("clone",
				   "--log-level '%s': not one of error, warn, "
				   "info, debug",
				   req->log_level);
	req->signal =
		req->signal_text ? agent_signal_number(req->signal_text) : 0;
	if (req->signal < 0)
		return usage_error("clone", "--signal '%s': not a signal",
				   req->signal_text);
	if (req->name && req->prefix)
		return usage_error("clone",
				   "--name: not together with --name-prefix");
	if (req->name && req->count > 1)
		return usage_error("clone",
				   "--name '%s': for one clone; --name-prefix "
				   "is for several",
				   req->name);
	if (req->no_publish && req->publish.count > 0)
		return usage_error("clone",
				   "--no-publish: not together with --publish");
	log_setup(level, false);
	return 0;
}

int cmd_clone(int argc, char **argv)
{
	struct request req = {0};
	int n = options_parse(&clone_table, &req, argc, argv);
	int status = n == OPTIONS_HELP ? VM_EXIT_OK : VM_EXIT_USAGE;

	if (n > 0 && check_request(&req, argc - n, argv + n) == 0 &&
	    trace_option("clone", req.trace, &req.marks) == 0)
		status = make_clones(&req);
	trace_free(req.marks);
	option_list_done(&req.publish);
	return status;
}
