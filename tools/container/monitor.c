/* SPDX-License-Identifier: Apache-2.0 */
/* fork(2), what the child gives up, and what its parent hears of it. */
#include "tools/container/monitor.h"

#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define READER_STACK   (64 * KIB)
#define LINE_MAX_BYTES 1024

/* ---- the child */

static int redirect(int console_fd, const struct monitor_options *options)
{
	int null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null_fd < 0 || dup2(null_fd, STDIN_FILENO) < 0 ||
	    dup2(console_fd, STDOUT_FILENO) < 0)
		return log_ret(-errno, "the monitor's console: %s",
			       strerror(errno));
	close(null_fd);
	if (options->keep_messages && dup2(console_fd, STDERR_FILENO) < 0)
		return -errno;
	close(console_fd);
	return 0;
}

/*
 * The signal for the parent's death is set before the parent is looked at: it
 * may die at any time.
 */
static int run_child(const struct config *cfg, pid_t parent, int console_fd,
		     const struct monitor_options *options)
{
	struct vm *vm = NULL;
	int status;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return VM_EXIT_HOST;
	/* Ctrl-C at the terminal is for the command in the guest. */
	(void)setsid();
	(void)prctl(PR_SET_NAME, "bulkhead-vm");
	for (unsigned i = 0; i < ARRAY_LEN(options->close_fds); i++)
		if (options->close_fds[i] >= 0)
			close(options->close_fds[i]);
	if (redirect(console_fd, options) < 0)
		return VM_EXIT_HOST;
	if (options->sigmask)
		sigprocmask(SIG_SETMASK, options->sigmask, NULL);
	status = vm_build(cfg, &vm);
	/* All paths that it was given are open; it keeps no directory busy. */
	if (status == VM_EXIT_OK && chdir("/") == 0)
		status = vm_run(vm);
	vm_free(vm);
	return status;
}

/* ---- the console's reader */

static void *read_console(void *arg)
{
	struct monitor *monitor = arg;
	char data[512];
	ssize_t n;

	while ((n = read(monitor->console_fd, data, sizeof(data))) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		for (ssize_t i = 0; i < n; i++)
			monitor->tail[monitor->written++ %
				      sizeof(monitor->tail)] = data[i];
	}
	return NULL;
}

static int start_reader(struct monitor *monitor)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int r;

	/* Signals are the other thread's. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, READER_STACK);
	r = pthread_create(&monitor->thread, &attr, read_console, monitor);
	pthread_attr_destroy(&attr);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (r)
		return log_ret(-r, "cannot start a thread: %s", strerror(r));
	monitor->has_thread = true;
	return 0;
}

/* ---- the parent */

int monitor_start(struct monitor *monitor, const struct config *cfg,
		  const struct monitor_options *options)
{
	const pid_t parent = getpid();
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(-errno, "the monitor's console: %s",
			       strerror(errno));
	monitor->console_fd = ends[0];
	monitor->pid = fork();
	if (monitor->pid == 0)
		_exit(run_child(cfg, parent, ends[1], options));
	close(ends[1]);
	if (monitor->pid < 0) {
		monitor->pid = 0;
		return log_ret(-errno, "cannot start the monitor: %s",
			       strerror(errno));
	}
	monitor->pid_fd = (int)syscall(SYS_pidfd_open, monitor->pid, 0);
	if (monitor->pid_fd < 0)
		return log_ret(-errno, "the monitor's process: %s",
			       strerror(errno));
	return start_reader(monitor);
}

void monitor_kill(const struct monitor *monitor)
{
	/* Not collected yet, so the number is still its own. */
	if (monitor->pid > 0)
		kill(monitor->pid, SIGKILL);
}

int monitor_wait(struct monitor *monitor, int timeout_ms)
{
	struct pollfd pfd = {.fd = monitor->pid_fd, .events = POLLIN};
	int n;

	if (monitor->pid <= 0)
		return 0;
	do {
		n = monitor->pid_fd < 0 ? 1 : poll(&pfd, 1, timeout_ms);
	} while (n < 0 && errno == EINTR);
	if (n == 0)
		return -ETIME;
	while (waitpid(monitor->pid, &monitor->wait_status, 0) < 0 &&
	       errno == EINTR)
		;
	monitor->pid = 0;
	if (monitor->has_thread)
		pthread_join(monitor->thread, NULL);
	monitor->has_thread = false;
	return 0;
}

void monitor_done(struct monitor *monitor)
{
	monitor_kill(monitor);
	(void)monitor_wait(monitor, -1);
	util_close(&monitor->pid_fd);
	util_close(&monitor->console_fd);
	monitor->pid_fd = monitor->console_fd = -1;
}

static void print_line(int fd, const char *line, size_t bytes)
{
	char text[LINE_MAX_BYTES];
	int n = snprintf(text, sizeof(text), "guest: ");

	for (size_t i = 0; i < bytes && n < LINE_MAX_BYTES - 2; i++)
		text[n++] = line[i] == '\t' ? ' ' : line[i] ? line[i] : '?';
	text[n] = '\0';
	text_make_printable(text);
	text[n++] = '\n';
	(void)util_write_all(fd, text, (size_t)n);
}

bool monitor_print_tail(const struct monitor *monitor, int fd)
{
	const size_t room = sizeof(monitor->tail);
	size_t at = monitor->written > room ? monitor->written - room : 0;
	char line[LINE_MAX_BYTES];
	bool any = false;
	size_t n = 0;

	for (; at < monitor->written; at++) {
		char c = monitor->tail[at % room];

		if (c != '\n' && c != '\r' && n < sizeof(line)) {
			line[n++] = c;
			continue;
		}
		if (n > 0)
			print_line(fd, line, n);
		any |= n > 0;
		n = 0;
	}
	if (n > 0)
		print_line(fd, line, n);
	return any || n > 0;
}
