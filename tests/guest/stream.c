/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One stream between the test guest and the host, for measurements: bytes that
 * nobody looks at, in large calls, one way at a time, by TCP or the vsock
 * device. The host's end has counters read at the first byte and at the last.
 */
#include "guest.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define CHUNK (128u << 10)

/* The first bytes of a connection, from the guest. */
struct order {
	uint64_t bytes;
	uint64_t receive; /* by the guest; else it sends */
};

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_un un;
	struct sockaddr_vm vm;
};

/*
 * ADDRESS@PORT: TCP. /PATH: a Unix socket. PORT: of the host by the vsock
 * device.
 */
static socklen_t parse(const char *where, union address *ret)
{
	char *at = strchr(where, '@');

	memset(ret, 0, sizeof(*ret));
	if (*where == '/') {
		ret->un.sun_family = AF_UNIX;
		snprintf(ret->un.sun_path, sizeof(ret->un.sun_path), "%s",
			 where);
		return sizeof(ret->un);
	}
	if (at) {
		ret->in.sin_family = AF_INET;
		ret->in.sin_port = htons((uint16_t)guest_number(at + 1));
		*at = '\0';
		inet_pton(AF_INET, where, &ret->in.sin_addr);
		*at = '@';
		return sizeof(ret->in);
	}
	ret->vm.svm_family = AF_VSOCK;
	ret->vm.svm_cid = VMADDR_CID_HOST;
	ret->vm.svm_port = (unsigned)guest_number(where);
	return sizeof(ret->vm);
}

static int dial(const char *where)
{
	union address to;
	const socklen_t bytes = parse((char *)where, &to);

	/* The network may need a moment to be up. */
	for (int i = 0; i < 100; i++) {
		const int fd =
			socket(to.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd >= 0 && connect(fd, &to.any, bytes) == 0)
			return fd;
		close(fd);
		usleep(100000);
	}
	return guest_fail("connect to %s", where);
}

/* Both ends: BYTES out, until the other one says that it has them. */
static bool push(int fd, uint64_t bytes)
{
	static char buf[CHUNK];
	char byte;

	while (bytes > 0) {
		const size_t want = bytes < CHUNK ? (size_t)bytes : CHUNK;
		const ssize_t n = send(fd, buf, want, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		bytes -= (uint64_t)n;
	}
	return recv(fd, &byte, 1, 0) == 1;
}

static bool pull(int fd, uint64_t bytes)
{
	static char buf[CHUNK];

	while (bytes > 0) {
		const ssize_t n = recv(fd, buf, sizeof(buf), 0);

		if (n <= 0 || (uint64_t)n > bytes)
			return false;
		bytes -= (uint64_t)n;
	}
	return send(fd, "", 1, MSG_NOSIGNAL) == 1;
}

static uint64_t packets(const char *way)
{
	char path[80], text[32];

	snprintf(path, sizeof(path),
		 "/sys/class/net/eth0/statistics/%s_packets", way);
	return guest_read(path, text, sizeof(text)) ? 0 : guest_number(text);
}

/* Interrupts of virtio devices, on all CPUs. */
static uint64_t interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "re");
	char line[512];
	uint64_t sum = 0;

	while (file && fgets(line, sizeof(line), file)) {
		char *p = strchr(line, ':'), *end;

		if (!p || !strstr(line, "virtio"))
			continue;
		for (p++;; p = end) {
			const uint64_t n = strtoull(p, &end, 10);

			if (end == p)
				break;
			sum += n;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

/* WHERE:send|receive:SIZE */
static int do_stream(char **arg)
{
	const struct order order = {
		.bytes = guest_number(arg[2]),
		.receive = strcmp(arg[1], "receive") == 0,
	};
	uint64_t before[3];
	int fd;
	char go;
	bool ok;

	guest_mounts();
	fd = dial(arg[0]);
	if (fd < 0)
		return -1;
	if (send(fd, &order, sizeof(order), MSG_NOSIGNAL) != sizeof(order) ||
	    recv(fd, &go, 1, 0) != 1)
		return guest_fail("stream: no word from the other end");
	before[0] = packets("tx");
	before[1] = packets("rx");
	before[2] = interrupts();
	ok = order.receive ? pull(fd, order.bytes) : push(fd, order.bytes);
	say("fact stream %s tx_packets=%lu rx_packets=%lu interrupts=%lu",
	    arg[1], (unsigned long)(packets("tx") - before[0]),
	    (unsigned long)(packets("rx") - before[1]),
	    (unsigned long)(interrupts() - before[2]));
	/* The machine goes on until the other end has counted, too. */
	ok &= recv(fd, &go, 1, 0) == 1;
	close(fd);
	return ok ? 0 : guest_fail("stream: %s", arg[1]);
}

static int count(const char *hook, const char *when)
{
	char command[512];

	snprintf(command, sizeof(command), "%s %s", hook, when);
	return system(command) == 0 ? 0 : guest_fail("stream-end: %s", hook);
}

static int serve(int fd, const char *hook)
{
	struct order order;
	const char *way;
	double begin;
	bool ok;

	if (recv(fd, &order, sizeof(order), MSG_WAITALL) != sizeof(order))
		return guest_fail("stream-end: no order");
	way = order.receive ? "receive" : "send";
	if (count(hook, "begin"))
		return -1;
	begin = guest_now();
	if (send(fd, "", 1, MSG_NOSIGNAL) != 1)
		return guest_fail("stream-end: go");
	ok = order.receive ? push(fd, order.bytes) : pull(fd, order.bytes);
	begin = guest_now() - begin;
	if (count(hook, way) || send(fd, "", 1, MSG_NOSIGNAL) != 1)
		return -1;
	say("fact stream %s kbps=%.0f", way,
	    (double)order.bytes / 1000 / begin);
	return ok ? 0 : guest_fail("stream-end: %s", way);
}

/*
 * WHERE:COUNT:HOOK, the host's end of COUNT streams. HOOK is called with
 * "begin" before each, and with what the guest did after it.
 */
static int do_stream_end(char **arg)
{
	union address at;
	const socklen_t bytes = parse(arg[0], &at);
	const int fd = socket(at.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const int one = 1;
	int r = 0;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, &at.any, bytes) || listen(fd, 4))
		return guest_fail("stream-end: %s", arg[0]);
	say("listening");
	for (uint64_t i = 0; i < guest_number(arg[1]) && r == 0; i++) {
		const int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

		r = peer < 0 ? guest_fail("stream-end: accept")
			     : serve(peer, arg[2]);
		close(peer);
	}
	close(fd);
	return r;
}

const struct action stream_actions[] = {
	{"stream", 3, do_stream, "WHERE:send|receive:SIZE"},
	{"stream-end", 3, do_stream_end, "WHERE:COUNT:HOOK, on the host"},
	{NULL, 0, NULL, NULL},
};
