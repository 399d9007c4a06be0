/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crun as containerd's shim uses it: "create" with a file for the process's
 * number and a socket for its terminal, then "start"; "exec --detach". All of
 * that in a process of its own: the agent waits for nothing but its report.
 */
#include "firmware/init/crun.h"

#include "firmware/init/container.h"
#include "firmware/init/mount.h"
#include "firmware/init/oci.h"
#include "firmware/init/users.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define NAME   "container"
#define BUNDLE "/run/bundle"
/* If crun connects, it does so before it ends. */
#define CONSOLE_MS 1000

/* Files of one run of crun's; with the number of this process in the names. */
struct crun {
	const struct init_start *start; /* borrowed */
	char process[48], pid_file[48], log[48], console[48];
	int console_fd; /* listens for the terminal; -1: none is wanted */
};

static int fail(struct init_failure *f, int error, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "%s", what);
}

/* ---- the machine */

static int mount_at(const char *type, const char *path, const char *options,
		    struct init_failure *f)
{
	autofd int mount = mount_make(type, type, options, f);

	return mount < 0 ? -1 : mount_attach_at(mount, path, f);
}

/*
 * The kernel's first root cannot be left by pivot_root(2), which crun uses. A
 * second view of it, on top, can.
 */
static int cover_root(struct init_failure *f)
{
	autofd int root = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);
	autofd int copy = root < 0 ? -1 : mount_copy(root, true);

	if (copy < 0)
		return fail(f, root < 0 ? errno : -copy, "copy the root");
	if (mount_attach_at(copy, "/self", f))
		return -1;
	if (fchdir(copy) < 0 || mount(".", "/", NULL, MS_MOVE, NULL) < 0 ||
	    chroot(".") < 0 || chdir("/") < 0)
		return fail(f, errno, "cover the root");
	return 0;
}

int crun_prepare(struct init_failure *f)
{
	if (access(AGENT_OCI_CRUN, X_OK) < 0)
		return fail(f, errno, AGENT_OCI_CRUN);
	if (cover_root(f) || mount_at("sysfs", "/sys", NULL, f) ||
	    mount_at("cgroup2", "/sys/fs/cgroup", CGROUP_OPTIONS, f) ||
	    mount_at("tmpfs", "/run", "mode=755", f))
		return -1;
	if (mkdir(BUNDLE, 0700) < 0)
		return fail(f, errno, BUNDLE);
	return 0;
}

/* ---- a run of crun */

static int crun_init(struct crun *c, const struct init_start *start,
		     struct init_failure *f)
{
	const int pid = getpid();
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	c->start = start;
	c->console_fd = -1;
	snprintf(c->process, sizeof(c->process), "/run/process.%d", pid);
	snprintf(c->pid_file, sizeof(c->pid_file), "/run/pid.%d", pid);
	snprintf(c->log, sizeof(c->log), "/run/log.%d", pid);
	snprintf(c->console, sizeof(c->console), "/run/console.%d", pid);
	if (!(start->flags & AGENT_START_TTY))
		return 0;
	strcpy(address.sun_path, c->console);
	c->console_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (c->console_fd < 0 ||
	    bind(c->console_fd, (struct sockaddr *)&address, sizeof(address)) <
		    0 ||
	    listen(c->console_fd, 1) < 0)
		return fail(f, errno, "a socket for the terminal");
	return 0;
}

static void crun_done(struct crun *c)
{
	util_close(&c->console_fd);
	unlink(c->process);
	unlink(c->pid_file);
	unlink(c->log);
	unlink(c->console);
}

/* Turns crun's message into the status of `docker run`. */
static int status_of(const char *text)
{
	if (strstr(text, "No such file or directory"))
		return INIT_STATUS_NOT_FOUND;
	if (strstr(text, "executable") || strstr(text, "chdir"))
		return INIT_STATUS_NOT_RUN;
	return INIT_STATUS_SETUP;
}

/* It failed: the first line of its log says why. */
static int crun_failed(const struct crun *c, int status, struct init_failure *f)
{
	const char *program = c->start->args.list[0];
	FILE *file = fopen(c->log, "re");
	char line[512] = "";

	if (file) {
		if (!fgets(line, sizeof(line), file))
			line[0] = 0;
		fclose(file);
	}
	line[strcspn(line, "\n")] = 0;
	if (line[0] && status_of(line) != INIT_STATUS_SETUP)
		return init_fail(f, status_of(line), 0, "\"%s\": crun: %s",
				 program, line);
	if (line[0])
		return init_fail(f, INIT_STATUS_SETUP, 0, "crun: %s", line);
	return init_fail(f, INIT_STATUS_SETUP, 0, "crun ended with status %#x",
			 status);
}

/* Runs crun to its end. ARGV follows the options that all commands share. */
static int crun_run(const struct crun *c, const char *const argv[],
		    struct init_failure *f)
{
	static const char *const env[] = {
		"PATH=/bin",
		"LD_LIBRARY_PATH=/lib",
		NULL,
	};
	char log[64];
	const char *all[24] = {AGENT_OCI_CRUN, "--cgroup-manager=cgroupfs",
			       "--root=/run/crun", log};
	unsigned n = 4;
	int status;
	pid_t pid;

	snprintf(log, sizeof(log), "--log=file:%s", c->log);
	for (; *argv && n < ARRAY_LEN(all) - 1; argv++)
		all[n++] = *argv;
	pid = fork();
	if (pid < 0)
		return fail(f, errno, "start crun");
	if (pid == 0) {
		execve(all[0], (char *const *)(uintptr_t)all,
		       (char *const *)(uintptr_t)env);
		_exit(INIT_STATUS_NOT_FOUND);
	}
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return fail(f, errno, "wait for crun");
	}
	return status == 0 ? 0 : crun_failed(c, status, f);
}

/* ---- what came of it */

/* The number of the process: as we see it, and as the container does. */
static int find_process(const struct crun *c, struct process_report *ret,
			struct init_failure *f)
{
	FILE *file = fopen(c->pid_file, "re");
	char line[256];
	int pid = 0;

	if (!file || fscanf(file, "%d", &pid) != 1 || pid <= 1)
		pid = 0;
	if (file)
		fclose(file);
	if (pid == 0)
		return fail(f, ENOENT, c->pid_file);
	ret->pid = pid;
	ret->inside = pid;
	snprintf(line, sizeof(line), "/proc/%d/status", pid);
	file = fopen(line, "re");
	while (file && fgets(line, sizeof(line), file)) {
		const char *last = strrchr(line, '\t');

		if (strncmp(line, "NSpid:", 6) == 0 && last)
			ret->inside = (int)strtol(last, NULL, 10);
	}
	if (file)
		fclose(file);
	return 0;
}

static int take_terminal(const struct crun *c, int tty[2],
			 struct init_failure *f)
{
	const struct agent_size *s = &c->start->size;
	const struct winsize size = {
		.ws_row = le16toh(s->rows),
		.ws_col = le16toh(s->columns),
	};
	struct pollfd pfd = {.fd = c->console_fd, .events = POLLIN};
	autofd int connection = -1;
	char name[256];

	if (c->console_fd < 0)
		return 0;
	if (poll(&pfd, 1, CONSOLE_MS) == 1)
		connection = accept4(c->console_fd, NULL, NULL, SOCK_CLOEXEC);
	tty[0] = -1;
	if (connection >= 0)
		(void)descriptors_receive(connection, name, sizeof(name), tty,
					  1, MSG_DONTWAIT);
	if (tty[0] < 0)
		return fail(f, EPROTO, "the terminal that crun made");
	tty[1] = ioctl(tty[0], TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (tty[1] < 0)
		return fail(f, errno, "open the terminal that crun made");
	if (size.ws_row && size.ws_col)
		ioctl(tty[1], TIOCSWINSZ, &size);
	return 0;
}

/* ---- files for it */

static int find_user(int root, const struct init_start *s,
		     struct init_user *ret, struct init_failure *f)
{
	autofd int passwd = root_open(root, "/etc/passwd", O_PATH);
	autofd int group = root_open(root, "/etc/group", O_PATH);
	char passwd_path[32], group_path[32];

	/* Where there is none, the path leads nowhere, too. */
	snprintf(passwd_path, sizeof(passwd_path), "/proc/self/fd/%d", passwd);
	snprintf(group_path, sizeof(group_path), "/proc/self/fd/%d", group);
	return users_resolve(passwd_path, group_path, s->user, s->groups.list,
			     ret, f);
}

static int write_file(const struct process_side *side, const char *path,
		      int root, struct init_failure *f)
{
	const struct init_start *s = side->start;
	const struct init_config *config = side->box->config;
	struct init_user user;
	const char **env;
	FILE *file;
	bool bad;

	if (find_user(root, s, &user, f))
		return -1;
	env = process_env(s, config, user.home);
	file = fopen(path, "we");
	if (!env || !file)
		return fail(f, errno, path);
	if (s->flags & AGENT_START_MAIN)
		oci_print_config(file, config->oci, s, &user, env);
	else
		oci_print_process(file, s, &user, env);
	bad = ferror(file);
	if (fclose(file) != 0 || bad)
		return fail(f, EIO, path);
	return 0;
}

static int take_stdio(const struct process_side *side, struct init_failure *f)
{
	const int from[3] = {side->in, side->out, side->err};
	const int r = streams_set(from);

	return r < 0 ? fail(f, -r, "standard input and output") : 0;
}

/* ---- the two ways to start something */

static int create(const struct process_side *side, const struct crun *c,
		  struct init_failure *f)
{
	const char *const argv[] = {
		"create",    "--bundle", BUNDLE, "--pid-file",
		c->pid_file, NAME,       NULL,
	};
	const char *const with_terminal[] = {
		"create",     "--bundle",  BUNDLE,
		"--pid-file", c->pid_file, "--console-socket",
		c->console,   NAME,        NULL,
	};
	autofd int root = crun_root(side->box->config, f);

	if (root < 0 || write_file(side, BUNDLE "/config.json", root, f))
		return -1;
	return crun_run(c, c->console_fd < 0 ? argv : with_terminal, f);
}

static int exec_other(const struct process_side *side, const struct crun *c,
		      struct init_failure *f)
{
	const char *const argv[] = {
		"exec",       "--detach",  "--process", c->process,
		"--pid-file", c->pid_file, NAME,        NULL,
	};
	const char *const with_terminal[] = {
		"exec",       "--detach",         "--process",
		c->process,   "--console-socket", c->console,
		"--pid-file", c->pid_file,        NAME,
		NULL,
	};
	autofd int root = -1;
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/root", (int)side->box->main_pid);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return fail(f, errno, "enter the container");
	if (write_file(side, c->process, root, f))
		return -1;
	return crun_run(c, c->console_fd < 0 ? argv : with_terminal, f);
}

int crun_start(const struct process_side *side, struct init_failure *f)
{
	static const char *const go[] = {"start", NAME, NULL};
	const bool is_main = side->start->flags & AGENT_START_MAIN;
	struct process_report ready = {.kind = PROCESS_READY};
	int tty[2] = {-1, -1};
	struct crun c;
	int r;

	process_reset_signals();
	/*
	 * crun leaves the process behind. The agent, which reaps all of its
	 * children at once, must not get it before it knows the number: one
	 * that ends sooner stays here as long, and the report comes first.
	 */
	if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) < 0)
		return fail(f, errno, "wait for orphans");
	if (take_stdio(side, f) || crun_init(&c, side->start, f))
		return -1;
	r = is_main ? create(side, &c, f) : exec_other(side, &c, f);
	if (r == 0)
		r = find_process(&c, &ready, f);
	if (r == 0)
		r = take_terminal(&c, tty, f);
	if (side->start->flags & AGENT_START_INIT)
		ready.inside = 2;
	if (r == 0 && process_tell(side->report_fd, &ready, tty) < 0)
		r = fail(f, errno, "report");
	if (r == 0 && is_main)
		r = crun_run(&c, go, f);
	crun_done(&c);
	return r;
}
