/* SPDX-License-Identifier: Apache-2.0 */
/* Requests and answers keep their borders: the sockets are SOCK_SEQPACKET. */
#include "tools/container/ask.h"

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

#define FILES 2

enum what { ASK_PLUG = 1, ASK_UNPLUG, ASK_SAVE, ASK_END_RECORD };

struct request {
	uint32_t what; /* enum what */
	uint32_t number;
	uint16_t mtu;
	uint8_t mac[6];
	uint8_t id[16]; /* of ASK_SAVE */
};

int ask_open(int ret_ends[2])
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

/* COUNT descriptors at FILES go with it. */
static int ask(int fd, const struct request *request, const int *files,
	       unsigned count)
{
	int32_t answer;
	ssize_t n;

	drain(fd);
	n = descriptors_send(fd, request, sizeof(*request), files, count);
	if (n < 0)
		return n == -EPIPE ? -ECONNRESET : (int)n;
	do {
		n = recv(fd, &answer, sizeof(answer), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EAGAIN ? -ETIMEDOUT : -errno;
	return n == sizeof(answer) ? answer : -ECONNRESET;
}

int ask_plug(int fd, unsigned number, const struct virtio_plug *plug)
{
	struct request request = {
		.what = ASK_PLUG,
		.number = number,
		.mtu = plug->mtu,
	};

	memcpy(request.mac, plug->mac, sizeof(request.mac));
	return ask(fd, &request, &plug->fd, 1);
}

int ask_unplug(int fd, unsigned number)
{
	const struct request request = {.what = ASK_UNPLUG, .number = number};

	return ask(fd, &request, NULL, 0);
}

int ask_save(int fd, const uint8_t id[16], const int files[FILES])
{
	struct request request = {.what = ASK_SAVE};

	memcpy(request.id, id, sizeof(request.id));
	return ask(fd, &request, files, FILES);
}

int ask_end_record(int fd)
{
	const struct request request = {.what = ASK_END_RECORD};

	return ask(fd, &request, NULL, 0);
}

/* ---- the monitor's */

const struct sandbox_rule ask_syscalls[] = {
	SANDBOX_CALL(recvmsg),
	SANDBOX_END,
};

/* The tap is the machine's where this succeeds. */
static int plug(struct vm *vm, const struct request *request, int *tap)
{
	struct virtio_plug what = {.fd = *tap, .mtu = request->mtu};
	int r;

	if (*tap < 0)
		return -EBADF;
	memcpy(what.mac, request->mac, sizeof(what.mac));
	r = vm_plug(vm, request->number, &what);
	if (r == 0)
		(void)take_fd(tap);
	return r;
}

/* FD: the parent's end of it is gone when nobody waits for this any more. */
static int save(struct vm *vm, const struct request *request, int fd,
		const int files[FILES])
{
	struct vm_saved saved;
	int r;

	if (files[0] < 0 || files[1] < 0)
		return -EBADF;
	r = vm_save(vm, request->id, files[0], files[1], fd, &saved);
	if (r < 0 && saved.why[0])
		log_warn("%s", saved.why);
	return r;
}

static int do_request(struct vm *vm, const struct request *request, int fd,
		      int files[FILES])
{
	switch (request->what) {
	case ASK_PLUG:
		return plug(vm, request, &files[0]);
	case ASK_UNPLUG:
		return vm_unplug(vm, request->number);
	case ASK_SAVE:
		return save(vm, request, fd, files);
	case ASK_END_RECORD:
		vm_end_record(vm);
		return 0;
	default:
		return -EINVAL;
	}
}

bool ask_serve(int fd, struct vm *vm)
{
	int files[FILES] = {-1, -1};
	struct request request;
	const ssize_t n = descriptors_receive(fd, &request, sizeof(request),
					      files, FILES, MSG_DONTWAIT);
	const bool whole = n == sizeof(request);
	int32_t answer = -EINVAL;

	if (whole)
		answer = do_request(vm, &request, fd, files);
	util_close(&files[0]);
	util_close(&files[1]);
	if (n == -EAGAIN)
		return true;
	return whole && write(fd, &answer, sizeof(answer)) == sizeof(answer);
}
