/* SPDX-License-Identifier: Apache-2.0 */
/* For each change: the interface's tap, or a request to the guest. */
#include "tools/container/netns-follow.h"

#include "devices/host/tap-join.h"
#include "devices/virtio/virtio.h"
#include "tools/agent/agent.h"
#include "tools/container/netns-watch.h"
#include "tools/container/netns.h"
#include "tools/container/plug.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct netns_follow {
	struct netns_follow_options options;
	struct netns_watch *watch;
};

static int join(void *arg, const struct netns_link *link, unsigned place)
{
	const struct netns_follow *follow = arg;
	struct virtio_plug plug = {.fd = -1};
	autofd int tap =
		tap_join(link->name, follow->options.resolver, &plug.mtu);
	int r;

	if (tap < 0)
		return tap;
	plug.fd = tap;
	memcpy(plug.mac, link->mac, sizeof(plug.mac));
	r = plug_add(follow->options.plug_fd, place, &plug);
	if (r < 0) {
		/* The namespace's own stack is to receive again. */
		util_close(&tap);
		tap_join_undo(link->name);
	}
	return r < 0 ? log_ret(r, "interface '%s': network device %u: %s",
			       link->name, place, strerror(-r))
		     : 0;
}

static int change(void *arg, const struct agent_link *links, size_t nlinks,
		  int stop_fd)
{
	const struct netns_follow *follow = arg;
	struct agent_session *agent;
	int r = follow->options.connect(follow->options.arg, stop_fd, &agent);

	if (r < 0)
		return r;
	r = agent_change_network(agent, links, nlinks);
	agent_free(agent);
	return r;
}

/* Its tap goes with it. A monitor that does not answer is at its end. */
static void leave(void *arg, unsigned place)
{
	const struct netns_follow *follow = arg;
	const int r = plug_remove(follow->options.plug_fd, place);

	if (r < 0)
		log_debug("network device %u: %s", place, strerror(-r));
}

static void tell(void *arg, const char *text)
{
	const struct netns_follow *follow = arg;

	follow->options.tell(follow->options.arg, text);
}

static const struct netns_watch_ops ops = {
	.join = join,
	.change = change,
	.leave = leave,
	.tell = tell,
};

int netns_follow_start(const struct netns_follow_options *options,
		       struct netns_follow **ret)
{
	struct netns_follow *follow = calloc(1, sizeof(*follow));
	int r;

	if (!follow)
		return log_ret(-ENOMEM, "out of memory");
	follow->options = *options;
	r = netns_watch_start(options->netns, &ops, follow, &follow->watch);
	if (r < 0) {
		free(follow);
		return r;
	}
	*ret = follow;
	return 0;
}

void netns_follow_stop(struct netns_follow *follow)
{
	if (!follow)
		return;
	netns_watch_stop(follow->watch);
	free(follow);
}
