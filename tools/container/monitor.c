/* SPDX-License-Identifier: Apache-2.0 */
/* fork(2), what the child gives up, and what its parent hears of it. */
#include "tools/container/monitor.h"

#include "tools/container/control.h"
#include "tools/container/plug.h"
#include "tools/container/pool.h"
#include "tools/container/template.h"
#include "tools/container/vm-socket.h"
#include "vmm/config/config.h"
#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/text.h"
#include "vmm/base/thread.h"
#include "vmm/base/trace.h"
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

#define LINE_MAX_BYTES 1024

/* ---- the child */

/* Nobody who waits for the user's standard error to close waits for this. */
static int redirect(int console_fd, int messages_fd)
{
	const int from[3] = {STREAM_NULL, console_fd, messages_fd};
	/* Ctrl-C at the terminal is for the command in the guest. */
	const int r = streams_detach(from);

	if (r < 0)
		return log_ret(r, "the monitor's console: %s", strerror(-r));
	close(console_fd);
	close(messages_fd);
	return 0;
}

/* Machines that go on from the template that this one becomes have others. */
static int hide_networks(struct vm *vm, const struct config *cfg)
{
	unsigned number = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < cfg->ndevices; i++) {
		if (strcmp(cfg->device[i].type, "net") != 0)
			continue;
		if (template_hides(&cfg->device[i]))
			r = vm_hide(vm, number);
		number++;
	}
	return r < 0 ? log_ret(r, "network device %u: %s", number - 1,
			       strerror(-r))
		     : 0;
}

/* Until its end: an exit status. The threads come behind the sandbox. */
static int run_vm(struct vm *vm, struct control *control,
		  struct vm_socket *socket, struct pool_adopt *adopt,
		  int order_fd)
{
	int r;

	if (socket->stop_fd >= 0)
		vm_allow(vm, vm_socket_syscalls);
	r = vm_start(vm);
	if (r == 0 && control->stop_fd >= 0)
		r = control_start(control, vm);
	if (r == 0 && order_fd > 0)
		r = pool_adopt_start(adopt, order_fd, vm, socket);
	else if (r == 0 && socket->stop_fd >= 0)
		r = vm_socket_start(socket, vm);
	return r < 0 ? vm_exit_status(r) : vm_run(vm);
}

/*
 * The signal for the parent's death is set before the parent is looked at: it
 * may die at any time.
 */
static int run_child(const struct config *cfg, pid_t parent,
		     const int write_fd[2], int plug_fd,
		     const struct monitor_options *options)
{
	struct control control = CONTROL_NONE;
	struct vm_socket socket = VM_SOCKET_NONE;
	struct pool_adopt adopt = POOL_ADOPT_NONE;
	const bool hide = template_is_wanted(options->template);
	struct vm *vm = NULL;
	int status;

	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
		return VM_EXIT_HOST;
	(void)prctl(PR_SET_NAME, "bulkhead-vm");
	for (unsigned i = 0; i < ARRAY_LEN(options->close_fds); i++) {
		int fd = options->close_fds[i];

		util_close(&fd);
	}
	if (redirect(write_fd[0], write_fd[1]) < 0)
		return VM_EXIT_HOST;
	if (options->sigmask)
		sigprocmask(SIG_SETMASK, options->sigmask, NULL);
	if ((options->control_dir || plug_fd >= 0) &&
	    control_open(&control, options->control_dir, plug_fd) < 0)
		return VM_EXIT_HOST;
	if (cfg->control &&
	    (options->order_fd > 0 ? vm_socket_open_later(&socket)
				   : vm_socket_open(&socket, cfg->control)) < 0)
		return VM_EXIT_HOST;
	template_close_writable(options->template);
	trace_mark(cfg->trace, TRACE_MONITOR);
	status = options->snapshot
			 ? vm_build_restored(cfg, options->snapshot, &vm)
			 : vm_build(cfg, &vm);
	template_close_record(options->template);
	if (status == VM_EXIT_OK && hide && hide_networks(vm, cfg) < 0)
		status = VM_EXIT_HOST;
	/* All paths that it was given are open; it keeps no directory busy. */
	if (status == VM_EXIT_OK && chdir("/") == 0)
		status = run_vm(vm, &control, &socket, &adopt,
				options->order_fd);
	control_done(&control);
	pool_adopt_stop(&adopt);
	vm_socket_done(&socket);
	vm_free(vm);
	pool_adopt_done(&adopt);
	return status;
}

/* ---- the reader of console and messages */

static void take_console(struct monitor *monitor, const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++)
		monitor->tail[monitor->written++ % sizeof(monitor->tail)] =
			data[i];
}

/* Says it once more as this process's own, in the form that it uses. */
static void take_message(struct monitor *monitor)
{
	static const char name[] = "bulkhead: ";
	static const struct {
		const char *prefix;
		enum log_level level;
	} levels[] = {
		{"warn: ", LOG_WARN},
		{"info: ", LOG_INFO},
		{"debug: ", LOG_DEBUG},
	};
	enum log_level level = LOG_ERROR;
	const char *text = monitor->line;

	if (strncmp(text, name, strlen(name)) == 0)
		text += strlen(name);
	for (unsigned i = 0; i < ARRAY_LEN(levels); i++)
		if (strncmp(text, levels[i].prefix, strlen(levels[i].prefix)) ==
		    0) {
			text += strlen(levels[i].prefix);
			level = levels[i].level;
			break;
		}
	log_at(level, "%s", text);
	if (level == LOG_ERROR)
		snprintf(monitor->error, sizeof(monitor->error), "%s", text);
}

static void take_messages(struct monitor *monitor, const char *data, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (data[i] != '\n') {
			monitor->line[monitor->line_bytes++] = data[i];
			if (monitor->line_bytes < sizeof(monitor->line) - 1)
				continue;
		}
		monitor->line[monitor->line_bytes] = '\0';
		if (monitor->line_bytes > 0)
			take_message(monitor);
		monitor->line_bytes = 0;
	}
}

/* Until both are closed, as the monitor's end closes them. */
static void *read_monitor(void *arg)
{
	struct monitor *monitor = arg;
	struct pollfd pfd[2] = {
		{.fd = monitor->console_fd, .events = POLLIN},
		{.fd = monitor->messages_fd, .events = POLLIN},
	};
	char data[512];

	while (pfd[0].fd >= 0 || pfd[1].fd >= 0) {
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			break;
		for (unsigned i = 0; i < 2; i++) {
			ssize_t n;

			if (pfd[i].fd < 0 || !pfd[i].revents)
				continue;
			n = read(pfd[i].fd, data, sizeof(data));
			if (n == 0 || (n < 0 && errno != EINTR))
				pfd[i].fd = -1;
			else if (n > 0 && i == 0)
				take_console(monitor, data, (size_t)n);
			else if (n > 0)
				take_messages(monitor, data, (size_t)n);
		}
	}
	return NULL;
}

static int start_reader(struct monitor *monitor)
{
	const int r = thread_start(&monitor->thread, 0, read_monitor, monitor);

	if (r < 0)
		return log_ret(r, "cannot start a thread: %s", strerror(-r));
	monitor->has_thread = true;
	return 0;
}

/* ---- the parent */

static int open_pipe(int *ret_read, int *ret_write)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(-errno, "the monitor's console: %s",
			       strerror(errno));
	*ret_read = ends[0];
	*ret_write = ends[1];
	return 0;
}

int monitor_start(struct monitor *monitor, const struct config *cfg,
		  const struct monitor_options *options)
{
	const pid_t parent = getpid();
	int write_fd[2] = {-1, -1}, plug_fd[2] = {-1, -1};
	int r = open_pipe(&monitor->console_fd, &write_fd[0]);

	if (r == 0)
		r = open_pipe(&monitor->messages_fd, &write_fd[1]);
	if (r == 0 && options->plug)
		r = plug_open(plug_fd);
	if (r < 0) {
		util_close(&write_fd[0]);
		util_close(&write_fd[1]);
		return r;
	}
	monitor->plug_fd = plug_fd[0];
	monitor->pid = fork();
	if (monitor->pid == 0) {
		util_close(&plug_fd[0]);
		_exit(run_child(cfg, parent, write_fd, plug_fd[1], options));
	}
	close(write_fd[0]);
	close(write_fd[1]);
	util_close(&plug_fd[1]);
	if (monitor->pid < 0) {
		monitor->pid = 0;
		return log_ret(-errno, "cannot start the monitor: %s",
			       strerror(errno));
	}
	monitor->pid_fd = (int)syscall(SYS_pidfd_open, monitor->pid, 0);
	if (monitor->pid_fd < 0)
		return log_ret(-errno, "the monitor's process: %s",
			       strerror(errno));
	return options->order_fd > 0 ? 0 : start_reader(monitor);
}

int monitor_take(struct monitor *monitor, struct pool_taken *taken)
{
	monitor->pid = taken->pid;
	monitor->link_fd = take_fd(&taken->link_fd);
	monitor->pid_fd = take_fd(&taken->pid_fd);
	monitor->console_fd = take_fd(&taken->console_fd);
	monitor->messages_fd = take_fd(&taken->messages_fd);
	return start_reader(monitor);
}

void monitor_kill(const struct monitor *monitor)
{
	if (monitor->pid <= 0)
		return;
	/* Not collected yet, so a child's number is still its own. */
	if (monitor->link_fd < 0)
		kill(monitor->pid, SIGKILL);
	else
		(void)syscall(SYS_pidfd_send_signal, monitor->pid_fd, SIGKILL,
			      NULL, 0);
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
	if (monitor->link_fd >= 0)
		monitor->wait_status = pool_await_status(monitor->link_fd);
	else
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
	util_close(&monitor->plug_fd);
	util_close(&monitor->link_fd);
	util_close(&monitor->console_fd);
	util_close(&monitor->messages_fd);
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

bool monitor_find_word(const struct monitor *monitor, const char *word,
		       char *ret, size_t bytes)
{
	const size_t room = sizeof(monitor->tail);
	const size_t len = min_u64(monitor->written, room);
	const size_t from = monitor->written - len;
	char text[sizeof(monitor->tail) + 1];
	const char *found;

	for (size_t i = 0; i < len; i++) {
		text[i] = monitor->tail[(from + i) % room];
		if (text[i] == '\0')
			text[i] = ' ';
	}
	text[len] = '\0';
	found = strstr(text, word);
	if (!found)
		return false;
	found += strlen(word);
	snprintf(ret, bytes, "%.*s", (int)strcspn(found, "\r\n"), found);
	text_make_printable(ret);
	return true;
}
