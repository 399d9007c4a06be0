/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The host's side of a vsock device: a listening Unix socket, connections to
 * those beside it, and the line that a host's program begins with.
 */
#include "devices/host/vsock-host.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PORT_CHARS (sizeof("_4294967295") - 1)

int vsock_host_open(struct vsock_host *host, const char *path, const char *name)
{
	return listener_open(&host->listener, path, PORT_CHARS, name);
}

void vsock_host_close(struct vsock_host *host)
{
	listener_close(&host->listener);
}

int vsock_host_accept(const struct vsock_host *host)
{
	return listener_accept(&host->listener);
}

int vsock_host_connect(const struct vsock_host *host, uint32_t port)
{
	char path[sizeof(((struct sockaddr_un *)0)->sun_path)];

	snprintf(path, sizeof(path), "%s_%" PRIu32, host->listener.path, port);
	return listener_connect(path);
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
