/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changes of a network namespace while a guest has its interfaces, as `docker
 * network connect` and `disconnect` make them: the guest's devices are those
 * that were there when it started.
 */
#ifndef TOOLS_CONTAINER_NETNS_WATCH_H
#define TOOLS_CONTAINER_NETNS_WATCH_H

struct netns;
struct netns_watch;

/*
 * A thread that compares the interfaces of the caller's network namespace with
 * LINKS, which is copied, and calls TELL once for each that comes and that a
 * guest could have been joined to, and for each of LINKS that goes. 0 or
 * -errno, logged.
 */
int netns_watch_start(const struct netns *links,
		      void (*tell)(void *arg, const char *text), void *arg,
		      struct netns_watch **ret);
/* Ends the thread: TELL is not called any more. NULL is fine. */
void netns_watch_stop(struct netns_watch *watch);

#endif
