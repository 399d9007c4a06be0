/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers keep their borders: the sockets are SOCK_SEQPACKET. */
#include "tools/container/plug.h"

#include "devices/virtio/virtio.h"
#include "vmm/base/descriptors.h"
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
	int32_t answer;
	ssize_t n;

	drain(fd);
	n = descriptors_send(fd, request, sizeof(*request), &tap, tap >= 0);
	if (n < 0)
		return n == -EPIPE ? -ECONNRESET : (int)n;
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

bool plug_serve(int fd, struct vm *vm)
{
	struct request request;
	autofd int tap = -1;
	const ssize_t n = descriptors_receive(fd, &request, sizeof(request),
					      &tap, 1, MSG_DONTWAIT);
	int32_t answer = -EINVAL;

	if (n == -EAGAIN)
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
