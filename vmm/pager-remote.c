/* SPDX-License-Identifier: Apache-2.0 */
/*
 * RAM that another process has: a memory server, which is given the descriptor
 * of userfaultfd(2) and where RAM lies, in the form that Firecracker's page
 * fault handlers take. It answers accesses by itself; the thread here only
 * notices its end.
 */
#include "vmm/pager.h"

#include "vmm/base/descriptors.h"
#include "vmm/base/log.h"
#include "vmm/base/loop.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#define PAGE_BYTES 4096
#define END_MS     2000 /* from the end of the connection to the process's */
#define STUCK_MS   5000 /* from a signal to the end of one that waits */
#define STEP_MS    100

const struct sandbox_rule pager_remote_syscalls[] = {
	SANDBOX_CALL(recvfrom),
	/* the user's terminal, when the process ends here */
	SANDBOX_IOCTL(TCSETS),
	SANDBOX_END,
};

/* ---- the server's life */

/*
 * The main loop takes signals: one that stays pending has come while the loop's
 * thread waits for a page, or for a thread that does.
 */
static bool is_stuck(const struct pager *p)
{
	struct pollfd signals = {.fd = p->signals_fd, .events = POLLIN};
	struct pollfd stop = {.fd = p->stop_fd, .events = POLLIN};

	for (unsigned ms = 0; ms < STUCK_MS; ms += STEP_MS) {
		if (poll(&signals, 1, 0) == 0 || poll(&stop, 1, STEP_MS) > 0)
			return false;
	}
	return true;
}

/*
 * A server that closes its connection may go on serving, as some do: the end of
 * its process is the end, which comes a moment later where that was why. One
 * whose process cannot be watched has to keep the connection.
 */
static int watch(struct pager *p)
{
	char rest[64];
	int timeout_ms = -1;
	struct pollfd pfd[4] = {
		{.fd = p->stop_fd, .events = POLLIN},
		{.fd = p->server_fd, .events = POLLIN},
		{.fd = p->server_pid_fd, .events = POLLIN},
		{.fd = p->signals_fd, .events = POLLIN},
	};

	while (!pfd[0].revents) {
		const int n = poll(pfd, ARRAY_LEN(pfd), timeout_ms);

		if (n < 0)
			continue;
		if (n == 0) {
			log_warn("'%s': the memory server has closed its "
				 "connection: if it serves no memory any more, "
				 "the machine hangs",
				 p->name);
			timeout_ms = -1;
		}
		if (pfd[2].revents)
			return log_ret(-ECONNRESET,
				       "'%s': the memory server has ended: the "
				       "machine cannot go on",
				       p->name);
		if (pfd[3].revents && is_stuck(p))
			return log_ret(-ETIMEDOUT,
				       "'%s': told to end while the memory "
				       "server does not answer",
				       p->name);
		/* It has nothing to say that would matter. */
		if (!pfd[1].revents ||
		    recv(pfd[1].fd, rest, sizeof(rest), MSG_DONTWAIT) > 0)
			continue;
		if (pfd[2].fd < 0)
			return log_ret(-ECONNRESET,
				       "'%s': the memory server has closed its "
				       "connection: the machine cannot go on",
				       p->name);
		pfd[1].fd = -1;
		timeout_ms = END_MS;
	}
	return 0;
}

static void *watch_thread(void *arg)
{
	struct pager *p = arg;
	int r = pager_confine(p, pager_remote_syscalls);

	if (r == 0)
		r = watch(p);
	if (r < 0)
		p->failed();
	return NULL;
}

/* ---- its start */

static int connect_to(struct pager *p)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct ucred peer = {0};
	socklen_t bytes = sizeof(peer);

	if (strlen(p->name) >= sizeof(un.sun_path))
		return log_ret(-ENAMETOOLONG, "'%s': too long for a socket",
			       p->name);
	strcpy(un.sun_path, p->name);
	p->server_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (p->server_fd < 0 ||
	    connect(p->server_fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return log_ret(-errno, "memory server: '%s': %s", p->name,
			       strerror(errno));
	if (getsockopt(p->server_fd, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) <
	    0)
		return log_ret(-errno, "memory server: '%s': %s", p->name,
			       strerror(errno));
	/* With the descriptor it has all of this process's private memory. */
	if (peer.uid != 0 && peer.uid != geteuid())
		return log_ret(-EPERM,
			       "memory server: '%s': it is user %u's, but has "
			       "to be root's or this user's (%u)",
			       p->name, peer.uid, geteuid());
	if (peer.pid > 0)
		p->server_pid_fd = (int)syscall(SYS_pidfd_open, peer.pid, 0);
	return 0;
}

/* Those that the machine ends at, which all threads of it have blocked. */
static int open_signals(struct pager *p)
{
	static const int ending[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT};
	const sigset_t set = util_signals(ending, ARRAY_LEN(ending));

	p->stop_fd = loop_eventfd();
	if (p->stop_fd < 0)
		return log_ret(p->stop_fd, "eventfd: %s",
			       strerror(-p->stop_fd));
	p->signals_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return p->signals_fd < 0
		       ? log_ret(-errno, "signals: %s", strerror(errno))
		       : 0;
}

static int add_region(struct pager *p, const struct mem_region *region)
{
	struct uffdio_register area = {
		.range = {.start = (uintptr_t)region->host,
			  .len = region->bytes},
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	p->range[p->nranges++] =
		(struct pager_range){region->host, region->bytes};
	return ioctl(p->uffd, UFFDIO_REGISTER, &area) < 0
		       ? log_ret(-errno, "userfaultfd: %s", strerror(errno))
		       : 0;
}

/*
 * Sizes are in bytes, also that of page_size_kib, which is what older handlers
 * look for.
 */
static int tell_regions(const struct pager *p)
{
	char text[1024] = "[";
	size_t length = 1;
	uint64_t offset = 0;
	ssize_t n;

	for (unsigned i = 0; i < p->mem->nregions; i++) {
		const struct mem_region *region = &p->mem->region[i];

		length += (size_t)snprintf(
			text + length, sizeof(text) - length,
			"%s{\"base_host_virt_addr\":%llu,\"size\":%llu,"
			"\"offset\":%llu,\"page_size\":%d,"
			"\"page_size_kib\":%d}",
			i > 0 ? "," : "",
			(unsigned long long)(uintptr_t)region->host,
			(unsigned long long)region->bytes,
			(unsigned long long)offset, PAGE_BYTES, PAGE_BYTES);
		offset += region->bytes;
	}
	text[length++] = ']';
	n = descriptors_send(p->server_fd, text, length, &p->uffd, 1);
	if (n == (ssize_t)length)
		return 0;
	return log_ret(n < 0 ? (int)n : -EIO, "memory server: '%s': %s",
		       p->name, n < 0 ? strerror((int)-n) : "cut off");
}

int pager_connect(struct pager *pager, const char *server,
		  const struct mem *mem, bool confined, int uffd,
		  void (*failed)(void))
{
	int r;

	*pager = PAGER_PREPARED(mem, confined, uffd, failed);
	pager->name = strdup(server);
	pager->range = calloc(ARRAY_LEN(mem->region), sizeof(*pager->range));
	if (!pager->name || !pager->range)
		return log_ret(-ENOMEM, "out of memory");
	r = open_signals(pager);
	for (unsigned i = 0; r == 0 && i < mem->nregions; i++)
		r = add_region(pager, &mem->region[i]);
	if (r == 0)
		r = connect_to(pager);
	if (r == 0)
		r = tell_regions(pager);
	return r < 0 ? r : pager_start_thread(pager, watch_thread);
}
