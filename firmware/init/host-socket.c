/* SPDX-License-Identifier: Apache-2.0 */
#include "firmware/init/host-socket.h"

#include "firmware/agent/agent.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <sys/socket.h>
#include <sys/time.h>

#define BACKLOG         32
#define CONNECT_SECONDS 5

static int vsock_address(int *ret_fd, struct sockaddr_vm *ret, unsigned cid)
{
	*ret = (struct sockaddr_vm){
		.svm_family = AF_VSOCK,
		.svm_cid = cid,
		.svm_port = AGENT_PORT,
	};
	*ret_fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);
	return *ret_fd < 0 ? -errno : 0;
}

int host_listen(void)
{
	struct sockaddr_vm address;
	autofd int fd = -1;
	int r = vsock_address(&fd, &address, VMADDR_CID_ANY);

	if (r < 0)
		return r;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, BACKLOG) < 0)
		return -errno;
	return take_fd(&fd);
}

int host_report(void)
{
	const struct timeval limit = {.tv_sec = CONNECT_SECONDS};
	struct sockaddr_vm address;
	autofd int fd = -1;
	int r = vsock_address(&fd, &address, VMADDR_CID_HOST);

	if (r < 0)
		return r;
	setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &limit,
		   sizeof(limit));
	if (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
		return -errno;
	return take_fd(&fd);
}
