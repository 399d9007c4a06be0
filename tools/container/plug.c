/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers keep their borders: the sockets are SOCK_SEQPACKET. */
#include "tools/container/plug.h"

#include "devices/virtio/virtio.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

/* The monitor has nothing else to do but a pause, which takes a disk's time. */
#define ANSWER_S 60

struct request {
	uint32_t number;
	uint16_t mtu;
	uint8_t mac[6];
	uint32_t remove; /* 0 or 1 */
};

union control {
	char bytes[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

int plug_open(int ret_ends[2])
{
	const struct timeval limit = {.tv_sec = ANSWER_S};
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
		return log_ret(-errno, "sockets: %s", strerror(errno));
	(void)setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &limit,
			 sizeof(limit));
	memcpy(ret_ends, ends, sizeof(ends));
	return 0;
}

/* ---- the parent's side */

/* To a request before, whose answer came too late. */
static void drain(int fd)
{
	int32_t answer;

	while (recv(fd, &answer, sizeof(answer), MSG_DONTWAIT) > 0)
		;
}

/* TAP: -1: none goes with it. */
static int ask(int fd, struct request *request, int tap)
{
	union control control = {0};
	struct iovec iov = {request, sizeof(*request)};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	int32_t answer;
	ssize_t n;

	if (tap >= 0) {
		struct cmsghdr *c = &control.align;

		msg.msg_control = &control;
		msg.msg_controllen = sizeof(control);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &tap, sizeof(int));
	}
	drain(fd);
	do {
		n = sendmsg(fd, &msg, MSG_NOSIGNAL);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EPIPE ? -ECONNRESET : -errno;
	do {
		n = recv(fd, &answer, sizeof(answer), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return n == sizeof(answer) ? answer : -ECONNRESET;
}

int plug_add(int fd, unsigned number, const struct virtio_plug *plug)
{
	struct request request = {.number = number, .mtu = plug->mtu};

	memcpy(request.mac, plug->mac, sizeof(request.mac));
	return ask(fd, &request, plug->fd);
}

int plug_remove(int fd, unsigned number)
{
	struct request request = {.number = number, .remove = 1};

	return ask(fd, &request, -1);
}

/* ---- the monitor's */

static ssize_t receive(int fd, struct request *ret, int *ret_tap)
{
	union control control;
	struct iovec iov = {ret, sizeof(*ret)};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const ssize_t n = recvmsg(fd, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	const struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&msg) : NULL;

	/* The parent sends one, and is trusted. */
	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(ret_tap, CMSG_DATA(c), sizeof(int));
	return n < 0 ? -errno : n;
}

bool plug_serve(int fd, struct vm *vm)
{
	struct request request;
	autofd int tap = -1;
	const ssize_t n = receive(fd, &request, &tap);
	int32_t answer = -EINVAL;

	if (n == -EAGAIN || n == -EINTR)
		return true;
	if (n != sizeof(request))
		return false;
	if (request.remove) {
		answer = vm_unplug(vm, request.number);
	} else if (tap >= 0) {
		struct virtio_plug plug = {.fd = tap, .mtu = request.mtu};

		memcpy(plug.mac, request.mac, sizeof(plug.mac));
		answer = vm_plug(vm, request.number, &plug);
		if (answer == 0)
			(void)take_fd(&tap);
	}
	return write(fd, &answer, sizeof(answer)) == sizeof(answer);
}
