/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process that connects for a vsock device: it reads a port and answers with
 * a number, 0 or -errno, and where it is 0 with the connected socket
 * (SCM_RIGHTS, unix(7)).
 */
#include "devices/host/vsock-reach.h"

#include "vmm/base/descriptors.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET_FD 3 /* of the process: the only descriptor it keeps */

const struct sandbox_rule vsock_reach_syscalls[] = {
	SANDBOX_CALL(sendto),
	SANDBOX_CALL(recvmsg),
	SANDBOX_CALL(wait4),
	SANDBOX_END,
};

/* ---- the process ---- */

static const struct sandbox_rule own_syscalls[] = {
	{.call = SYS_socket,
	 .when = {{SANDBOX_EQUALS, 0, AF_UNIX},
		  {SANDBOX_EQUALS, 1, LISTENER_SOCKET},
		  {SANDBOX_EQUALS, 2, 0}}},
	SANDBOX_CALL(connect),
	SANDBOX_CALL(sendmsg),
	SANDBOX_END,
};

/*
 * It must not share what the monitor has open: the VM, images, its standard
 * error. Signals of the user's terminal are for the monitor, whose end ends
 * this process.
 */
static int confine(pid_t parent)
{
	const struct sandbox_rule *const list = own_syscalls;
	sigset_t all;

	sigfillset(&all);
	if (sigprocmask(SIG_SETMASK, &all, NULL) < 0 ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    prctl(PR_SET_NAME, "vsock-reach") < 0)
		return -errno;
	if (getppid() != parent)
		return -ESRCH;
	if (syscall(SYS_close_range, 0, SOCKET_FD - 1, 0) < 0 ||
	    syscall(SYS_close_range, SOCKET_FD + 1, UINT_MAX, 0) < 0)
		return -errno;
	return sandbox_enter_thread(&list, 1, 0);
}

static void answer(int32_t result, int fd)
{
	if (descriptors_send(SOCKET_FD, &result, sizeof(result), &fd, fd >= 0) <
	    0)
		_exit(1);
}

static _Noreturn void serve(const struct vsock_host *host, int fd, pid_t parent)
{
	uint32_t port;
	int r;

	if (fd != SOCKET_FD && dup2(fd, SOCKET_FD) < 0)
		_exit(1);
	r = confine(parent);
	answer(r, -1);
	if (r < 0)
		_exit(1);
	while (read(SOCKET_FD, &port, sizeof(port)) == sizeof(port)) {
		autofd int connected = vsock_host_connect(host, port);

		answer(connected < 0 ? connected : 0, connected);
	}
	_exit(0);
}

/* ---- the monitor ---- */

/* The guest must not run before the process is confined. 0 or -errno. */
static int await(const struct vsock_reach *reach)
{
	int32_t result;
	ssize_t n;

	do
		n = read(reach->fd, &result, sizeof(result));
	while (n < 0 && errno == EINTR);
	if (n != sizeof(result))
		return n < 0 ? -errno : -ECHILD;
	return result;
}

int vsock_reach_open(struct vsock_reach *reach, const struct vsock_host *host,
		     const char *name)
{
	const pid_t parent = getpid();
	int sockets[2], r;

	*reach = (struct vsock_reach){.fd = -1};
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets) < 0)
		return log_ret(-errno, "%s: socketpair: %s", name,
			       strerror(errno));
	reach->pid = fork();
	if (reach->pid == 0)
		serve(host, sockets[1], parent);
	close(sockets[1]);
	reach->fd = sockets[0];
	r = reach->pid < 0 ? -errno : await(reach);
	if (r == 0)
		return 0;
	vsock_reach_close(reach);
	return log_ret(r,
		       "%s: no confined process to connect to the host's "
		       "sockets: %s; with connect=PORT none is needed",
		       name, strerror(-r));
}

void vsock_reach_close(struct vsock_reach *reach)
{
	util_close(&reach->fd);
	while (reach->pid > 0 && waitpid(reach->pid, NULL, 0) < 0 &&
	       errno == EINTR)
		;
	*reach = (struct vsock_reach){.fd = -1};
}

int vsock_reach_connect(const struct vsock_reach *reach, uint32_t port)
{
	int32_t result;
	ssize_t n;
	int fd;

	if (send(reach->fd, &port, sizeof(port), MSG_NOSIGNAL) != sizeof(port))
		return -errno;
	n = descriptors_receive(reach->fd, &result, sizeof(result), &fd, 1, 0);
	if (n != sizeof(result))
		return n < 0 ? (int)n : -EPIPE;
	if (result < 0)
		return result;
	return fd < 0 ? -EMFILE : fd; /* there was no place for it here */
}
