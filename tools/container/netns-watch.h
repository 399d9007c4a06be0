/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a network namespace while a guest has its interfaces, as `docker
 * network connect` and `disconnect` make them: what the guest has follows.
 */
#ifndef TOOLS_CONTAINER_NETNS_WATCH_H
#define TOOLS_CONTAINER_NETNS_WATCH_H

#include <stddef.h>

struct agent_link;
struct netns;
struct netns_link;
struct netns_watch;

/*
 * The watching thread calls these for each change. STOP_FD is readable once
 * nobody waits for the outcome any more; change() returns soon then.
 */
struct netns_watch_ops {
	/*
	 * Something may have changed, and is looked at next: what else the
	 * guest is to have, as name servers.
	 */
	void (*look)(void *arg, int stop_fd);
	/*
	 * LINK has come: joins the machine's network device PLACE to it. 0 or
	 * -errno, logged.
	 */
	int (*join)(void *arg, const struct netns_link *link, unsigned place);
	/* LINK, which is joined, has another MTU: its tap gets that. */
	void (*resize)(void *arg, const struct netns_link *link);
	/*
	 * The guest changes LINKS, as agent_change_network() has it. 0 or
	 * -errno, logged.
	 */
	int (*change)(void *arg, const struct agent_link *links, size_t nlinks,
		      int stop_fd);
	/* The device PLACE has lost its interface, and the guest the device. */
	void (*leave)(void *arg, unsigned place);
	/* Takes a line for the user, who is told what does not follow. */
	void (*tell)(void *arg, const char *text);
};

/*
 * A thread that compares the caller's network namespace with NETNS, which is
 * what the guest has and is copied, now and whenever something changes. Link
 * number N of NETNS has the device N; others up to its `places` are free. 0 or
 * -errno, logged. OPS and ARG are borrowed until netns_watch_stop().
 */
int netns_watch_start(const struct netns *netns,
		      const struct netns_watch_ops *ops, void *arg,
		      struct netns_watch **ret);
/* Ends the thread: no op is called any more. NULL is fine. */
void netns_watch_stop(struct netns_watch *watch);

#endif
