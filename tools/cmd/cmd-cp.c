/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `bulkhead cp`: files between an instance and the host, as a tar archive. The
 * agent's own programs pack and unpack in the guest. An archive from there is
 * hostile: a process that can reach the one directory only unpacks it.
 */
#include "tools/cmd/cmd.h"

#include "firmware/agent/agent.h"
#include "firmware/archive/pack.h"
#include "firmware/archive/tar.h"
#include "firmware/archive/unpack.h"
#include "tools/agent/agent.h"
#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/image/walls.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#define CONNECT_TIMEOUT_MS 10000
#define ERRORS_MAX         2048
/* Exit statuses of the process that unpacks or packs; 1: it has said why. */
#define NOTHING_CAME 2
#define NOBODY_READS 3

struct request {
	bool archive, follow, quiet;
};

static const struct option_entry entries[] = {
	{"archive", 'a', NULL, OPTION_FLAG, offsetof(struct request, archive),
	 NULL, "keep owners, and set-user-ID bits on this host"},
	{"follow-link", 'L', NULL, OPTION_FLAG,
	 offsetof(struct request, follow), NULL,
	 "copy what SOURCE leads to, where it is a symbolic link"},
	{"quiet", 'q', NULL, OPTION_FLAG, offsetof(struct request, quiet), NULL,
	 "print nothing on success, which is so anyway"},
	{0},
};

static const struct option_table table = {
	.command = "cp",
	.synopsis = "usage: bulkhead cp [OPTION]... NAME:SOURCE DESTINATION|-\n"
		    "       bulkhead cp [OPTION]... SOURCE|- NAME:DESTINATION\n"
		    "\n"
		    "Copies a file or a directory from or to a running "
		    "instance.\n",
	.entries = entries,
	.notes = "\n"
		 "A DESTINATION that is a directory gets SOURCE in it, or with "
		 "\"/.\" behind\n"
		 "SOURCE what is in SOURCE; another one becomes what SOURCE "
		 "is. \"-\" is a tar\n"
		 "archive on standard output or input. NAME's paths begin at "
		 "its root.\n"
		 "\nExamples:\n"
		 "  bulkhead cp web:/var/log/nginx logs\n"
		 "  bulkhead cp site/. web:/www\n"
		 "  bulkhead cp web:/etc - | tar t\n",
};

/* One end of a copy. */
struct end {
	const char *path; /* borrowed */
	char *name;       /* owned: the instance's; NULL: this host */
	bool stream;      /* "-" */
};

/* The process of this host's that packs or unpacks. */
struct helper {
	pid_t pid;
	int fd; /* owned: this end of the pipe to or from it */
};

struct copy {
	const struct request *req;
	struct agent_session *agent;
	char errors[ERRORS_MAX]; /* what the guest says of it */
	size_t nerrors;
};

/* ---- arguments */

/* As with Docker: what begins with "/" or "." is a path of this host. */
static int parse_end(const char *text, struct end *ret)
{
	const char *colon = strchr(text, ':');

	*ret = (struct end){.path = text, .stream = strcmp(text, "-") == 0};
	if (ret->stream || text[0] == '/' || text[0] == '.' || !colon)
		return text[0] ? 0 : usage_error("cp", "'': not a path");
	ret->path = colon + 1;
	if (!ret->path[0])
		return usage_error("cp", "'%s': give a path behind the colon",
				   text);
	ret->name = strndup(text, (size_t)(colon - text));
	return ret->name ? 0 : log_ret(VM_EXIT_HOST, "out of memory");
}

static int check_ends(const struct end *from, const struct end *to)
{
	if (from->name && to->name)
		return usage_error("cp", "copies between two instances go "
					 "through this host: copy twice");
	if (!from->name && !to->name)
		return usage_error("cp", "one of the two must be an "
					 "instance's: NAME:PATH");
	if (to->stream && isatty(STDOUT_FILENO))
		return usage_error("cp", "an archive is not for a terminal: "
					 "redirect standard output");
	if (from->stream && isatty(STDIN_FILENO))
		return usage_error("cp", "an archive does not come from a "
					 "terminal: redirect standard input");
	return 0;
}

/* ---- this host's half */

struct unpacking {
	struct unpack_place place;
	struct unpack_options options;
	int in_fd;
};

static void unpack_walled(void *arg, void *result)
{
	const struct unpacking *job = arg;
	int *r = result;

	*r = unpack_archive(&job->place, &job->options, job->in_fd);
}

/* Modes without -a: nothing gets anybody's rights that runs it. */
static int unpack_here(const struct request *req, const char *path,
		       const struct unpack_place *place, const char *source,
		       int in_fd)
{
	char first[TAR_NAME_MAX + 1];
	struct unpacking job = {
		.place = *place,
		.options = {.first = first,
			    .owners = req->archive,
			    .mode = req->archive ? 07777 : 0777},
		.in_fd = in_fd,
	};
	int result = 0;
	int r;

	(void)pack_first_name(source, first, sizeof(first));
	r = walled(path, place->dir, -1, unpack_walled, &job, &result,
		   sizeof(result));
	return r < 0 || result < 0 ? (result == -ENODATA ? NOTHING_CAME : 1)
				   : 0;
}

static int pack_here(const struct request *req, const char *path, int out_fd)
{
	const struct pack_source source = {
		.root = AT_FDCWD, .path = path, .follow = req->follow};
	struct rlimit files;
	int r;

	/* One for each level. */
	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	r = pack_tree(&source, out_fd);
	return r == -EPIPE ? NOBODY_READS : r < 0;
}

/*
 * Begins to pack PATH, or, with PLACE, to unpack there what the guest packed of
 * SOURCE, in a process that ends with this one. 0 or -errno, logged.
 */
static int helper_start(struct helper *h, const struct request *req,
			const char *path, const struct unpack_place *place,
			const char *source)
{
	const pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(-errno, "pipe: %s", strerror(errno));
	h->pid = fork();
	if (h->pid == 0) {
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		close(ends[place ? 1 : 0]);
		_exit(place ? unpack_here(req, path, place, source, ends[0])
			    : pack_here(req, path, ends[1]));
	}
	close(ends[place ? 0 : 1]);
	h->fd = ends[place ? 1 : 0];
	return h->pid < 0 ? log_ret(-errno, "cannot fork: %s", strerror(errno))
			  : 0;
}

/* Its end, and exit status; 0 where there is none. */
static int helper_wait(struct helper *h)
{
	int status = 0;

	util_close(&h->fd);
	if (h->pid <= 0)
		return 0;
	while (waitpid(h->pid, &status, 0) < 0 && errno == EINTR)
		;
	h->pid = 0;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

/* ---- the guest's half */

static int take_errors(void *arg, int stream, const void *data, size_t bytes)
{
	struct copy *copy = arg;
	const size_t n = (size_t)min_u64(bytes, sizeof(copy->errors) - 1 -
							copy->nerrors);

	if (stream == 2) {
		memcpy(copy->errors + copy->nerrors, data, n);
		copy->nerrors += n;
	}
	return 0;
}

/* Each line of the guest's as one of ours. */
static void print_errors(struct copy *copy, const char *name)
{
	static const char own[] = "bulkhead: ";
	char *save = NULL;

	for (char *line = strtok_r(copy->errors, "\n", &save); line;
	     line = strtok_r(NULL, "\n", &save)) {
		if (strncmp(line, own, strlen(own)) == 0)
			line += strlen(own);
		log_error("%s: %s", name, line);
	}
}

/*
 * Runs the program and passes data on to its end. The exit status; what the
 * guest said is printed where its half went wrong and OURS did not.
 */
static int relay(struct copy *copy, const char *name, struct helper *h,
		 int in_fd, int out_fd, const char *const *argv)
{
	const struct agent_relay relay = {
		.in_fd = in_fd,
		.out_fd = out_fd,
		.err_fd = -1,
		.forward_signals = true,
		.output = take_errors,
		.arg = copy,
		.gone_fd = -1,
	};
	struct agent_status status = {.status = 0};
	int r = agent_own(copy->agent, argv, in_fd >= 0);
	int helped;

	if (r == 0)
		r = agent_relay(copy->agent, &relay, &status);
	helped = helper_wait(h);
	if (r == 0 && helped == NOTHING_CAME && status.status == 0)
		log_error("%s: the guest sent nothing", name);
	/* Where this side has given up, it has said why. */
	if (r == 0 && helped != 1 && status.status != 0 && copy->nerrors == 0)
		log_error("%s: in the guest: %s", name,
			  status.oom ? "no memory is left: --memory gives more"
				     : "it was ended");
	if (helped != 1 || (in_fd < 0 && status.signal == 0))
		print_errors(copy, name);
	return r < 0 || helped != 0 || status.status != 0 ? INSTANCE_EXIT_FAILED
							  : VM_EXIT_OK;
}

static int copy_from(struct copy *copy, const struct end *from,
		     const struct end *to)
{
	const char letters[] = {copy->req->follow ? AGENT_OWN_FOLLOW : '\0',
				'\0'};
	const char *const argv[] = {AGENT_OWN_PACK, letters, from->path, NULL};
	struct unpack_place place = {.dir = -1};
	struct helper h = {.fd = -1};
	int status = INSTANCE_EXIT_FAILED;

	if (to->stream)
		return relay(copy, from->name, &h, -1, STDOUT_FILENO, argv);
	if (unpack_find(AT_FDCWD, 0, to->path, &place) == 0 &&
	    helper_start(&h, copy->req, to->path, &place, from->path) == 0)
		status = relay(copy, from->name, &h, -1, h.fd, argv);
	(void)helper_wait(&h);
	util_close(&place.dir);
	return status;
}

static int copy_to(struct copy *copy, const struct end *from,
		   const struct end *to)
{
	const char letters[] = {copy->req->archive ? AGENT_OWN_OWNERS : ' ',
				from->stream ? AGENT_OWN_AS_IS : ' ', '\0'};
	const char *const argv[] = {AGENT_OWN_UNPACK, letters, to->path, NULL};
	struct helper h = {.fd = -1};
	int status = INSTANCE_EXIT_FAILED;

	if (from->stream)
		return relay(copy, to->name, &h, STDIN_FILENO, -1, argv);
	if (helper_start(&h, copy->req, from->path, NULL, NULL) == 0)
		status = relay(copy, to->name, &h, h.fd, -1, argv);
	(void)helper_wait(&h);
	return status;
}

static int copy_files(const struct request *req, const struct end *from,
		      const struct end *to)
{
	struct copy copy = {.req = req};
	struct instance_state state;
	struct instance instance;
	int status = INSTANCE_EXIT_FAILED;

	instance_sweep();
	if (instance_open_running(from->name ? from->name : to->name, &instance,
				  &state) < 0)
		return status;
	if (agent_connect(instance.socket, CONNECT_TIMEOUT_MS, &copy.agent) ==
	    0)
		status = from->name ? copy_from(&copy, from, to)
				    : copy_to(&copy, from, to);
	agent_free(copy.agent);
	instance_state_done(&state);
	instance_done(&instance);
	return status;
}

int cmd_cp(int argc, char **argv)
{
	struct request req = {0};
	struct end from = {0}, to = {0};
	int n = options_parse(&table, &req, argc, argv);
	int status;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	if (n != argc - 2)
		return usage_error("cp", "give a source and a destination");
	status = parse_end(argv[n], &from);
	if (status == 0)
		status = parse_end(argv[n + 1], &to);
	if (status == 0)
		status = check_ends(&from, &to);
	if (status == 0)
		status = copy_files(&req, &from, &to);
	free(from.name);
	free(to.name);
	return status;
}
