/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For each change: the interface's tap, a request to the guest, or a relay of
 * its queries.
 */
#include "tools/container/netns-follow.h"

#include "devices/host/tap-join.h"
#include "devices/virtio/virtio.h"
#include "firmware/agent/agent.h"
#include "tools/agent/agent.h"
#include "tools/cli/text-list.h"
#include "tools/container/netns-watch.h"
#include "tools/container/netns.h"
#include "tools/container/plug.h"
#include "tools/container/resolv-conf.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <linux/if_ether.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct netns_follow {
	struct netns_follow_options options;
	struct netns_watch *watch;
	struct text_list names; /* those relayed, or tried in vain */
	struct agent_names *relays[AGENT_NAMES_SERVERS]; /* those opened here */
	unsigned nrelays;
};

static void tell(void *arg, const char *text)
{
	const struct netns_follow *follow = arg;

	follow->options.tell(follow->options.arg, text);
}

/* ---- names */

/*
 * The name servers FIRST and on of those known are new. Interfaces that were
 * joined without a resolver leave it its answers from now on, later ones, too.
 */
static int open_relay(struct netns_follow *follow, unsigned first, int stop_fd)
{
	const char *const *servers = text_list_items(&follow->names) + first;
	struct agent_session *agent;
	int r = tap_join_open_resolver();

	if (r == 0)
		r = follow->options.connect(follow->options.arg, stop_fd,
					    &agent);
	if (r == 0)
		r = agent_names_open(agent, servers,
				     &follow->relays[follow->nrelays]);
	if (r == 0)
		follow->nrelays++;
	return r;
}

/* An engine writes the file before the interface comes. */
static void look(void *arg, int stop_fd)
{
	struct netns_follow *follow = arg;
	const unsigned before = follow->names.count;
	struct resolv_conf conf;
	char text[160];
	int r = resolv_conf_read(&conf);

	if (r == 0)
		r = resolv_conf_add_names(&conf, &follow->names);
	resolv_conf_done(&conf);
	if (follow->names.count == before)
		return;
	if (r == 0)
		r = open_relay(follow, before, stop_fd);
	/* It is at its end. */
	if (r == 0 || r == -ECONNRESET)
		return;
	snprintf(text, sizeof(text),
		 "name server '%s', of a network that came while the guest "
		 "runs, does not answer it: %s",
		 follow->names.item[before], strerror(-r));
	tell(follow, text);
}

/* ---- interfaces */

static int join(void *arg, const struct netns_link *link, unsigned place)
{
	const struct netns_follow *follow = arg;
	struct virtio_plug plug = {.fd = -1};
	autofd int tap =
		tap_join(link->name, follow->names.count > 0, &plug.mtu);
	int r;

	if (tap < 0)
		return tap;
	plug.fd = tap;
	/* The agent sets it, and may set another one later. */
	plug.mtu = ETH_MAX_MTU;
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

static void resize(void *arg, const struct netns_link *link)
{
	const int r = tap_join_set_mtu(link->name, link->mtu);

	(void)arg;
	if (r < 0)
		log_debug("interface '%s': its tap's MTU: %s", link->name,
			  strerror(-r));
}

static const struct netns_watch_ops ops = {
	.look = look,
	.join = join,
	.resize = resize,
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
	r = options->names ? text_list_add_all(&follow->names, options->names)
			   : 0;
	if (r == 0)
		r = netns_watch_start(options->netns, &ops, follow,
				      &follow->watch);
	if (r < 0) {
		text_list_done(&follow->names);
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
	while (follow->nrelays > 0)
		agent_names_close(follow->relays[--follow->nrelays]);
	text_list_done(&follow->names);
	free(follow);
}
