/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a vsock device: a listening Unix socket, connections to
 * others, and the line that a host's program begins with.
 */
#include "devices/host/vsock-host.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define BACKLOG    128
#define PORT_CHARS (sizeof("_4294967295") - 1)

static int stream_socket(void)
{
	const int fd = socket(AF_UNIX, VSOCK_HOST_SOCKET, 0);

	return fd < 0 ? -errno : fd;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	return un;
}

static int connect_to(const char *path)
{
	const struct sockaddr_un un = address(path);
	autofd int fd = stream_socket();

	if (fd < 0)
		return fd;
	if (connect(fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		return -errno;
	return take_fd(&fd);
}

/* Removes a socket that a killed monitor left behind. */
static int remove_stale(const char *path, const char *name)
{
	struct stat st;
	int fd;

	if (lstat(path, &st) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (!S_ISSOCK(st.st_mode))
		return log_ret(-EEXIST,
			       "%s: '%s' is there already, and is no socket",
			       name, path);
	fd = connect_to(path);
	if (fd == -ECONNREFUSED)
		return unlink(path) < 0 && errno != ENOENT ? -errno : 0;
	/*
	 * It is another user's: there is no way to tell whether it is in use.
	 */
	if (fd == -EACCES || fd == -EPERM)
		return fd;
	util_close(&fd);
	return log_ret(-EADDRINUSE, "%s: socket '%s' is in use", name, path);
}

static int listen_on(struct vsock_host *host)
{
	const struct sockaddr_un un = address(host->path);
	struct stat st;

	host->fd = stream_socket();
	if (host->fd < 0)
		return host->fd;
	/* The file gets the socket's own mode: at no time may others connect.
	 */
	if (fchmod(host->fd, 0600) < 0 ||
	    bind(host->fd, (const struct sockaddr *)&un, sizeof(un)) < 0)
		return -errno;
	if (lstat(host->path, &st) < 0)
		return -errno;
	host->device = st.st_dev;
	host->inode = st.st_ino;
	return listen(host->fd, BACKLOG) < 0 ? -errno : 0;
}

int vsock_host_open(struct vsock_host *host, const char *path, const char *name)
{
	const size_t most = sizeof(((struct sockaddr_un *)0)->sun_path) - 1;
	int r;

	*host = (struct vsock_host){.fd = -1};
	if (strlen(path) + PORT_CHARS > most)
		return log_ret(-ENAMETOOLONG,
			       "%s: '%s' is too long for a socket: use at most "
			       "%zu bytes",
			       name, path, most - PORT_CHARS);
	host->path = strdup(path);
	if (!host->path)
		return log_ret(-ENOMEM, "%s: out of memory", name);
	r = remove_stale(path, name);
	if (r == -EEXIST || r == -EADDRINUSE)
		return r;
	if (r == 0)
		r = listen_on(host);
	return r < 0 ? log_ret(r, "%s: socket '%s': %s", name, path,
			       strerror(-r))
		     : 0;
}

void vsock_host_close(struct vsock_host *host)
{
	struct stat st;

	if (host->inode != 0 && lstat(host->path, &st) == 0 &&
	    st.st_dev == host->device && st.st_ino == host->inode)
		(void)unlink(host->path);
	util_close(&host->fd);
	free(host->path);
	*host = (struct vsock_host){.fd = -1};
}

int vsock_host_accept(const struct vsock_host *host)
{
	const int fd =
		accept4(host->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

/*
 * connect() on a Unix socket is done when it returns: a socket that does not
 * block gives EAGAIN where the listener's backlog is full.
 */
int vsock_host_connect(const struct vsock_host *host, uint32_t port)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	snprintf(path, sizeof(path), "%s_%" PRIu32, host->path, port);
	return connect_to(path);
}

/*
 * "CONNECT 1024", without its end: digits only, no sign. Firecracker reads the
 * word in any case, and any space around the two: what works there works here.
 */
static int parse(char *line, uint32_t *ret_port)
{
	static const char space[] = " \t\r";
	char *rest = NULL;
	const char *word = strtok_r(line, space, &rest);
	const char *digits = strtok_r(NULL, space, &rest);
	uint64_t port;

	if (!word || strcasecmp(word, "CONNECT") != 0 || !digits ||
	    strtok_r(NULL, space, &rest) ||
	    digits[strspn(digits, "0123456789")] != '\0' ||
	    util_parse_number(digits, 0, UINT32_MAX - 1, &port) < 0)
		return -EPROTO;
	*ret_port = (uint32_t)port;
	return 1;
}

/*
 * The bytes behind the line are for the guest, so bytes are looked at before
 * they are taken.
 */
int vsock_greeting_read(struct vsock_greeting *greeting, int fd,
			uint32_t *ret_port)
{
	for (;;) {
		char *to = greeting->text + greeting->len;
		const size_t room = sizeof(greeting->text) - greeting->len;
		ssize_t n = recv(fd, to, room, MSG_PEEK);
		char *end;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN ? 0 : -errno;
		if (n == 0)
			return -ENOTCONN;
		end = memchr(to, '\n', (size_t)n);
		if (end)
			n = end + 1 - to;
		if (recv(fd, to, (size_t)n, 0) != n)
			return -EIO;
		greeting->len = (uint8_t)(greeting->len + n);
		if (end) {
			*end = '\0';
			return parse(greeting->text, ret_port);
		}
		if (greeting->len == sizeof(greeting->text))
			return -EPROTO;
	}
}

int vsock_greeting_answer(int fd, uint32_t port)
{
	char line[24];
	const int n = snprintf(line, sizeof(line), "OK %" PRIu32 "\n", port);

	/* It is the first thing written, so there is room for it. */
	if (send(fd, line, (size_t)n, MSG_NOSIGNAL) == n)
		return 0;
	return errno ? -errno : -EIO;
}
