/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptors that go over a Unix socket. */
#include "vmm/base/descriptors.h"

#include <assert.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

union control {
	char bytes[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
	struct cmsghdr align;
};

ssize_t descriptors_send(int socket, const void *data, size_t bytes,
			 const int *fds, unsigned count)
{
	union control control = {0};
	struct iovec iov = {(void *)(uintptr_t)data, bytes};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t n;

	assert(count <= DESCRIPTORS_MAX);
	if (count > 0) {
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(count * sizeof(int));
	}
	do
		n = sendmsg(socket, &msg, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	return n < 0 ? -errno : n;
}

/*
 * The kernel closes those for which there is no room here; room for one is room
 * for two where descriptors are half as long as what CMSG_SPACE() aligns to.
 */
static void take(const struct cmsghdr *c, int *fds, unsigned count)
{
	size_t came;

	if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	came = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	for (size_t i = 0; i < came; i++) {
		int fd;

		memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
		if (came == count)
			fds[i] = fd;
		else
			close(fd);
	}
}

ssize_t descriptors_receive(int socket, void *data, size_t bytes, int *fds,
			    unsigned count, int flags)
{
	union control control;
	struct iovec iov = {data, bytes};
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	const struct cmsghdr *c;
	ssize_t n;

	assert(count <= DESCRIPTORS_MAX);
	for (unsigned i = 0; i < count; i++)
		fds[i] = -1;
	do
		n = recvmsg(socket, &msg, MSG_CMSG_CLOEXEC | flags);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	c = CMSG_FIRSTHDR(&msg);
	if (c)
		take(c, fds, count);
	return n;
}
