/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The monitor of a machine that waits becomes a container's. It is in its
 * sandbox by then, and opens nothing: all that it gets is open already.
 */
#include "tools/container/pool-wire.h"

#include "devices/virtio/virtio.h"
#include "tools/container/vm-socket.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/vm.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

/* For the second half of an order that has begun. */
#define PATIENCE_MS 5000

struct order {
	struct pool_order head;
	char *json; /* owned */
	int fds[DESCRIPTORS_MAX];
};

static int receive(int fd, struct order *order)
{
	struct pool_order *head = &order->head;
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	if (recv(fd, head, sizeof(*head), MSG_DONTWAIT) != sizeof(*head) ||
	    head->magic != POOL_MAGIC || head->nfds < POOL_ORDER_FIRST ||
	    head->nfds > DESCRIPTORS_MAX || head->config_bytes == 0 ||
	    head->config_bytes > POOL_CONFIG_MAX)
		return -EPROTO;
	order->json = malloc(head->config_bytes);
	if (!order->json)
		return -ENOMEM;
	if (poll(&pfd, 1, PATIENCE_MS) < 1)
		return -ETIME;
	return descriptors_receive(fd, order->json, head->config_bytes,
				   order->fds, head->nfds,
				   MSG_DONTWAIT) == head->config_bytes &&
			       order->fds[0] >= 0
		       ? 0
		       : -EPROTO;
}

/* One for each device of CFG, in the order of those that have one. */
static int sort_descriptors(const struct config *cfg, struct order *order,
			    int *ret)
{
	unsigned n = POOL_ORDER_FIRST;

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		ret[i] = -1;
		if (!vm_adopts(&cfg->device[i], order->head.prepared))
			continue;
		if (n == order->head.nfds)
			return -EPROTO;
		ret[i] = order->fds[n];
		order->fds[n++] = -1;
	}
	return n == order->head.nfds ? 0 : -EPROTO;
}

static int take_over(struct pool_adopt *adopt, struct order *order)
{
	int fds[CONFIG_DEVICES_MAX];
	struct config *cfg = calloc(1, sizeof(*cfg));
	int r;

	if (!cfg)
		return -ENOMEM;
	config_init(cfg);
	adopt->cfg = cfg;
	r = config_read_json_bytes(cfg, "the container", order->json,
				   order->head.config_bytes,
				   virtio_config_types());
	if (r == 0)
		r = config_check(cfg, virtio_config_types());
	if (r == 0)
		r = sort_descriptors(cfg, order, fds);
	if (r < 0)
		return r;
	r = vm_adopt(adopt->vm, cfg, fds, order->head.prepared);
	for (unsigned i = 0; i < cfg->ndevices; i++)
		util_close(&fds[i]);
	if (r == 0)
		r = vm_socket_adopt(adopt->socket, cfg->control,
				    &order->fds[POOL_ORDER_CONTROL]);
	if (r == 0)
		r = vm_socket_start(adopt->socket, adopt->vm);
	adopt->lock_fd = order->fds[POOL_ORDER_LOCK];
	order->fds[POOL_ORDER_LOCK] = -1;
	return r;
}

static void serve(struct loop_source *source, uint32_t events)
{
	struct pool_adopt *adopt =
		container_of(source, struct pool_adopt, source);
	struct order order = {.json = NULL};
	int32_t answer;

	(void)events;
	for (unsigned i = 0; i < DESCRIPTORS_MAX; i++)
		order.fds[i] = -1;
	answer = receive(source->fd, &order);
	if (answer == 0)
		answer = take_over(adopt, &order);
	for (unsigned i = 0; i < DESCRIPTORS_MAX; i++)
		util_close(&order.fds[i]);
	free(order.json);
	(void)send(source->fd, &answer, sizeof(answer),
		   MSG_NOSIGNAL | MSG_DONTWAIT);
	/* A start ends a machine that has not become its own. */
	vm_unwatch(adopt->vm, source);
	util_close(&source->fd);
}

int pool_adopt_start(struct pool_adopt *adopt, int fd, struct vm *vm,
		     struct vm_socket *socket)
{
	int r;

	adopt->vm = vm;
	adopt->socket = socket;
	adopt->source.fn = serve;
	adopt->source.fd = fd;
	r = vm_watch(vm, &adopt->source);
	return r < 0 ? log_ret(r, "a machine that waits: %s", strerror(-r)) : 0;
}

void pool_adopt_stop(struct pool_adopt *adopt)
{
	if (adopt->vm && adopt->source.fd >= 0)
		vm_unwatch(adopt->vm, &adopt->source);
	util_close(&adopt->source.fd);
}

void pool_adopt_done(struct pool_adopt *adopt)
{
	util_close(&adopt->lock_fd);
	if (adopt->cfg)
		config_done(adopt->cfg);
	free(adopt->cfg);
	adopt->cfg = NULL;
}
