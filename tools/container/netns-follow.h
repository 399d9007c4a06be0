/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A running guest's interfaces follow those of the network namespace that it
 * has taken the place of: netns-watch.h says what changes, a tap that is joined
 * goes to the monitor (plug.h), addresses and routes to the guest's agent. Name
 * servers of the namespace's loopback that /etc/resolv.conf names by then, as
 * Docker's does with a container's first network of its own, are relayed.
 */
#ifndef TOOLS_CONTAINER_NETNS_FOLLOW_H
#define TOOLS_CONTAINER_NETNS_FOLLOW_H

struct agent_session;
struct netns;
struct netns_follow;

struct netns_follow_options {
	const struct netns *netns; /* as the guest has it; borrowed at start */
	int plug_fd;               /* to the monitor; borrowed */
	/* Those of agent_names_open(); NULL: none yet. Borrowed at start. */
	const char *const *names;
	/*
	 * A session with the guest's agent, as by agent_connect_unless(). 0 or
	 * -errno, logged but for -ECONNRESET.
	 */
	int (*connect)(void *arg, int gone_fd,
		       struct agent_session **ret_agent);
	/* Takes a line for the user, who is told what does not follow. */
	void (*tell)(void *arg, const char *text);
	void *arg;
};

/*
 * Starts a thread that does so, and calls what OPTIONS, which are copied, name.
 * It needs CAP_NET_ADMIN in the namespace. 0 or -errno, logged.
 */
int netns_follow_start(const struct netns_follow_options *options,
		       struct netns_follow **ret);
/* Ends it, whether or not the guest answers. NULL is fine. */
void netns_follow_stop(struct netns_follow *follow);

#endif
