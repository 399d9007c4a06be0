/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the host's runtime, and running it. */
#include "tools/oci/oci.h"

#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define OUTPUT_MAX (16 << 20)

/* Hooks of a container that is being created may take seconds. */
#define MAKER_MS 30000
#define LOOK_MS  10

/* Engines call with a short PATH, or none. */
#define PLACES "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *find_in(const char *places, const char *name)
{
	for (const char *p = places; p && *p;) {
		const size_t n = strcspn(p, ":");
		char *path;

		if (asprintf(&path, "%.*s/%s", (int)n, p, name) < 0)
			return NULL;
		if (n > 0 && access(path, X_OK) == 0)
			return path;
		free(path);
		p += n + (p[n] == ':');
	}
	return NULL;
}

int oci_host_find(struct oci *oci)
{
	const bool unified = oci_group_is_unified(OCI_GROUPS);
	const char *const names[] = {unified ? "crun" : "runc",
				     unified ? "runc" : "crun"};

	for (unsigned i = 0; !oci->host && i < ARRAY_LEN(names); i++) {
		oci->host = find_in(getenv("PATH"), names[i]);
		if (!oci->host)
			oci->host = find_in(PLACES, names[i]);
	}
	return oci->host ? 0
			 : log_ret(-ENOENT,
				   "neither crun nor runc is installed, and "
				   "one of them makes the host's half of a "
				   "container: install one (Debian: apt-get "
				   "install crun)");
}

/*
 * Both may be installed, and neither knows the other's containers. RET is
 * allocated; NULL: it is not noted. 0 or -errno, logged. DELETES: one whose
 * notes are damaged can be removed nevertheless.
 */
static int find_maker_of(const struct oci *oci, const char *id, bool deletes,
			 char **ret)
{
	json_t *own = NULL;
	const char *host;
	int r = oci_store_own(oci, id, !deletes, &own);

	if (r < 0)
		return deletes ? 0 : r;
	host = oci_text(own, "host");
	*ret = host[0] ? strdup(host) : NULL;
	if (host[0] && !*ret)
		r = log_ret(-ENOMEM, "out of memory");
	json_decref(own);
	return r;
}

int oci_host_command(struct oci *oci, const char *name, const char *id,
		     struct text_list *ret)
{
	autofree char *maker = NULL;
	autofree char *root = NULL;
	int r = id ? find_maker_of(oci, id, strcmp(name, "delete") == 0, &maker)
		   : 0;

	if (r == 0 && !maker)
		r = oci_host_find(oci);
	if (r < 0)
		return r;
	root = oci_path(oci, "@host", NULL);
	if (!root)
		return -ENOMEM;
	r = text_list_add(ret, maker ? maker : oci->host);
	if (r == 0)
		r = text_list_add(ret, "--root");
	if (r == 0)
		r = text_list_add(ret, root);
	for (unsigned i = 0; r == 0 && i < oci->pass.count; i++)
		r = text_list_add(ret, oci->pass.item[i]);
	return r < 0 ? r : text_list_add(ret, name);
}

int oci_host_exec(const struct text_list *command)
{
	/* Else its hooks would not hear of these, either. */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	execv(command->item[0], command->item);
	return log_ret(OCI_EXIT_FAILED, "cannot execute '%s': %s",
		       command->item[0], strerror(errno));
}

/* The signals that whoever called this program sends are for that one. */
static sigset_t passed_signals(void)
{
	static const int signals[] = {SIGHUP,  SIGINT,  SIGQUIT,
				      SIGTERM, SIGUSR1, SIGUSR2};

	return util_signals(signals, ARRAY_LEN(signals));
}

/*
 * Waits for PID's end and passes signals on. Its wait(2) status in RET. 0 or
 * -errno.
 */
static int wait_for(pid_t pid, int signal_fd, int *ret)
{
	autofd int pid_fd = (int)syscall(SYS_pidfd_open, pid, 0);
	struct pollfd pfd[2] = {
		{.fd = pid_fd, .events = POLLIN},
		{.fd = signal_fd, .events = POLLIN},
	};
	struct signalfd_siginfo info;

	while (pid_fd >= 0 && !pfd[0].revents) {
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			return -errno;
		/* A terminal's Ctrl-C goes to both by itself. */
		if (pfd[1].revents &&
		    read(signal_fd, &info, sizeof(info)) == sizeof(info) &&
		    info.ssi_code == SI_USER)
			(void)kill(pid, (int)info.ssi_signo);
	}
	while (waitpid(pid, ret, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return 0;
}

/* The process itself does it, so that no moment is without the note. */
static int note_maker(const struct oci *oci)
{
	FILE *file = fopen(oci->maker, "we");

	if (!file)
		return -errno;
	fprintf(file, "%d %llu %d\n", (int)getpid(),
		(unsigned long long)instance_process_start(getpid()),
		oci->maker_stays);
	return fclose(file) == 0 ? 0 : -errno;
}

/* Whether the host's runtime has what it deletes a container by. */
static bool has_record(const struct oci *oci, const char *id)
{
	static const char *const names[] = {"state.json", "status"};
	autofree char *dir = oci_path(oci, "@host", id);
	bool found = false;

	for (unsigned i = 0; dir && !found && i < ARRAY_LEN(names); i++) {
		autofree char *path = NULL;

		if (asprintf(&path, "%s/%s", dir, names[i]) < 0)
			path = NULL;
		found = path && access(path, F_OK) == 0;
	}
	return found;
}

/*
 * A pidfd of the process that PATH notes, and whether it STAYS as long as its
 * container. -1: it has ended, or there is no note.
 */
static int open_maker(const char *path, int *ret_pid, bool *ret_stays)
{
	FILE *file = fopen(path, "re");
	unsigned long long ticks = 0;
	autofd int fd = -1;
	int stays = 0, n;

	if (!file)
		return -1;
	n = fscanf(file, "%d %llu %d", ret_pid, &ticks, &stays);
	(void)fclose(file);
	if (n == 3 && *ret_pid > 0)
		fd = (int)syscall(SYS_pidfd_open, *ret_pid, 0);
	*ret_stays = stays;
	/* The number may be another process's by now. */
	return fd >= 0 && instance_process_start(*ret_pid) == ticks
		       ? take_fd(&fd)
		       : -1;
}

int oci_host_await_maker(const struct oci *oci, const char *id, bool force)
{
	autofree char *path = oci_path(oci, id, OCI_MAKER_FILE);
	bool stays = false;
	int pid = 0;
	autofd int fd = path ? open_maker(path, &pid, &stays) : -1;
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	if (!path)
		return -ENOMEM;
	if (fd < 0)
		return 0;
	for (int ms = 0; ms < MAKER_MS; ms += LOOK_MS) {
		if (poll(&pfd, 1, LOOK_MS) > 0 ||
		    (stays && has_record(oci, id)))
			return 0;
	}
	if (!force)
		return log_ret(-EBUSY,
			       "container '%s' is still being created, by "
			       "process %d",
			       id, pid);
	(void)syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0);
	(void)poll(&pfd, 1, MAKER_MS);
	return 0;
}

/*
 * With the lowest number that the host's runtime passes on; before it there
 * would be the sockets of systemd's, which a guest cannot be given.
 */
static int pass_kvm(int fd)
{
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDNAMES");
	return fd == OCI_KVM_FD ? fcntl(fd, F_SETFD, 0) : dup2(fd, OCI_KVM_FD);
}

/* OCI says how; NULL: an ordinary child. */
static pid_t start(const struct oci *oci, const struct text_list *command,
		   int output_fd, const sigset_t *mask)
{
	const pid_t parent = getpid();
	const pid_t pid = fork();
	int r;

	if (pid != 0)
		return pid;
	if (oci && oci->bound &&
	    (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent))
		_exit(OCI_EXIT_FAILED);
	r = oci && oci->maker ? note_maker(oci) : 0;
	if (r < 0)
		_exit(log_ret(OCI_EXIT_FAILED, "'%s': %s", oci->maker,
			      strerror(-r)));
	sigprocmask(SIG_SETMASK, mask, NULL);
	if (output_fd >= 0 && dup2(output_fd, STDOUT_FILENO) < 0)
		_exit(OCI_EXIT_FAILED);
	if (oci && oci->kvm_fd > 0 && pass_kvm(oci->kvm_fd) < 0)
		_exit(log_ret(OCI_EXIT_FAILED, "passing /dev/kvm: %s",
			      strerror(errno)));
	_exit(oci_host_exec(command));
}

static int run_command(const struct oci *oci, const struct text_list *command,
		       char **ret_output)
{
	const sigset_t set = passed_signals();
	autofd int signal_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	int ends[2] = {-1, -1};
	sigset_t before;
	int status = 0, r;
	pid_t pid;

	if (signal_fd < 0 || (ret_output && pipe2(ends, O_CLOEXEC) < 0))
		return log_ret(-errno, "signals and a pipe: %s",
			       strerror(errno));
	sigprocmask(SIG_BLOCK, &set, &before);
	pid = start(oci, command, ends[1], &before);
	r = pid < 0 ? -errno : 0;
	util_close(&ends[1]);
	if (r == 0 && ret_output)
		r = util_read_stream(ends[0], OUTPUT_MAX, ret_output);
	util_close(&ends[0]);
	if (pid >= 0) {
		const int waited = wait_for(pid, signal_fd, &status);

		r = r < 0 ? r : waited;
	}
	sigprocmask(SIG_SETMASK, &before, NULL);
	if (r < 0)
		return log_ret(r, "running '%s': %s", command->item[0],
			       strerror(-r));
	if (WIFEXITED(status))
		return WEXITSTATUS(status);
	return log_ret(128 + WTERMSIG(status), "'%s' was ended by signal %d",
		       command->item[0], WTERMSIG(status));
}

int oci_host_run(const struct text_list *command, char **ret_output)
{
	return run_command(NULL, command, ret_output);
}

int oci_host_call(struct oci *oci, const char *name, const char *const *args,
		  const struct text_list *pass, const char *id)
{
	struct text_list command = {0};
	int r = oci_host_command(oci, name, id, &command);

	if (r == 0)
		r = text_list_add_all(&command, args);
	for (unsigned i = 0; r == 0 && i < pass->count; i++)
		r = text_list_add(&command, pass->item[i]);
	if (r == 0)
		r = text_list_add(&command, id);
	if (r == 0)
		r = run_command(oci, &command, NULL);
	text_list_done(&command);
	return r < 0 ? OCI_EXIT_FAILED : r;
}
