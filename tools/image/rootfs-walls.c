/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process for reading what strangers wrote: should the code that does it have
 * a hole, it leads to one directory, not to the host.
 */
#include "tools/image/walls.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* ---- the process's walls; each is there if the host has it */

static void allow(int ruleset, int dir, uint64_t access)
{
	const struct landlock_path_beneath_attr rule = {
		.allowed_access = access,
		.parent_fd = dir,
	};

	if (syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH,
		    &rule, 0) < 0)
		log_debug("landlock: %s", strerror(errno));
}

/*
 * Reading and writing in the tree, reading in the layout, nothing elsewhere;
 * neither device nodes nor sockets anywhere.
 */
static void confine_files(int tree, int source)
{
	const uint64_t read =
		LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;
	const uint64_t make =
		LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR |
		LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR |
		LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_FIFO |
		LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER;
	const struct landlock_ruleset_attr all = {
		.handled_access_fs = read | make | LANDLOCK_ACCESS_FS_EXECUTE |
				     LANDLOCK_ACCESS_FS_MAKE_CHAR |
				     LANDLOCK_ACCESS_FS_MAKE_BLOCK |
				     LANDLOCK_ACCESS_FS_MAKE_SOCK,
	};
	autofd int ruleset = -1;

	/* Version 1 has no hard links from one directory to another. */
	if (syscall(SYS_landlock_create_ruleset, NULL, 0,
		    LANDLOCK_CREATE_RULESET_VERSION) < 2)
		return;
	ruleset =
		(int)syscall(SYS_landlock_create_ruleset, &all, sizeof(all), 0);
	if (ruleset < 0)
		return;
	allow(ruleset, tree, read | make);
	if (source >= 0)
		allow(ruleset, source, read);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		log_debug("landlock: %s", strerror(errno));
}

/* Root keeps what it needs to give files away, and no more. */
static void confine_privileges(void)
{
	const uint32_t keep = 1u << CAP_CHOWN | 1u << CAP_DAC_OVERRIDE |
			      1u << CAP_FOWNER | 1u << CAP_FSETID |
			      1u << CAP_SETFCAP;
	struct __user_cap_header_struct header = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &header, data) < 0)
		return;
	data[0].permitted &= keep;
	data[0].effective = data[0].permitted;
	data[0].inheritable = 0;
	memset(&data[1], 0, sizeof(data[1]));
	if (syscall(SYS_capset, &header, data) < 0)
		log_debug("capset: %s", strerror(errno));
}

static void confine(int tree, int source)
{
	(void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	(void)prctl(PR_SET_DUMPABLE, 0);
	/* Needs root's privilege; the descriptors are all that is used. */
	if (fchdir(tree) == 0 && chroot(".") < 0)
		log_debug("chroot: %s", strerror(errno));
	confine_files(tree, source);
	confine_privileges();
}

/* ---- the process */

sigset_t unpack_signals(void)
{
	static const int signals[] = {SIGHUP, SIGINT, SIGQUIT, SIGTERM};

	return util_signals(signals, ARRAY_LEN(signals));
}

/* The result, or -EINTR when a signal came first, which stays pending. */
static int read_result(int fd, void *result, size_t bytes)
{
	sigset_t signals = unpack_signals();
	autofd int sigfd = signalfd(-1, &signals, SFD_CLOEXEC);
	struct pollfd fds[2] = {
		{.fd = fd, .events = POLLIN},
		{.fd = sigfd, .events = POLLIN},
	};
	ssize_t n;

	while (poll(fds, 2, -1) < 0)
		if (errno != EINTR)
			return -errno;
	if (!fds[0].revents)
		return -EINTR;
	do
		n = read(fd, result, bytes);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)bytes ? 0 : -ECANCELED;
}

static int await(const char *path, pid_t pid, int fd, void *result,
		 size_t bytes)
{
	int status;
	int r = read_result(fd, result, bytes);

	if (r < 0)
		(void)kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == -ECANCELED)
		log_error("'%s': the process that unpacks it ended "
			  "before it was done (%s %d)",
			  path, WIFSIGNALED(status) ? "signal" : "status",
			  WIFSIGNALED(status) ? WTERMSIG(status)
					      : WEXITSTATUS(status));
	else if (r < 0)
		log_error("'%s': unpacking: %s", path, strerror(-r));
	return r;
}

int walled(const char *path, int tree, int source,
	   void (*fn)(void *arg, void *result), void *arg, void *result,
	   size_t bytes)
{
	const pid_t parent = getpid();
	int fds[2], r;
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return log_ret(-errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		/* Not one moment longer than the process that waits for it. */
		if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
			_exit(1);
		confine(tree, source);
		fn(arg, result);
		_exit(util_write_all(fds[1], result, bytes) < 0);
	}
	close(fds[1]);
	r = pid < 0 ? log_ret(-errno, "fork: %s", strerror(errno))
		    : await(path, pid, fds[0], result, bytes);
	close(fds[0]);
	return r;
}
