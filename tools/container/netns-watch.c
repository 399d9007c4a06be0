/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that hears rtnetlink(7)'s messages about links. They say that
 * something changed; what there is then is asked for, as messages can be lost.
 */
#include "tools/container/netns-watch.h"

#include "tools/container/netns.h"
#include "vmm/base/log.h"
#include "vmm/base/netlink.h"
#include "vmm/base/thread.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

/* One that is known: joined, or told of. */
struct seen {
	unsigned index;
	char name[IFNAMSIZ];
	bool joined;
};

struct netns_watch {
	void (*tell)(void *arg, const char *text);
	void *arg;
	struct seen *seen; /* owned */
	size_t nseen;
	int fd, stop_fd; /* owned */
	pthread_t thread;
};

static struct seen *find(const struct netns_watch *w, unsigned index)
{
	for (size_t i = 0; i < w->nseen; i++) {
		if (w->seen[i].index == index)
			return &w->seen[i];
	}
	return NULL;
}

static int add(struct netns_watch *w, unsigned index, const char *name,
	       bool joined)
{
	struct seen *seen =
		reallocarray(w->seen, w->nseen + 1, sizeof(*w->seen));

	if (!seen)
		return -ENOMEM;
	w->seen = seen;
	seen += w->nseen++;
	*seen = (struct seen){.index = index, .joined = joined};
	snprintf(seen->name, sizeof(seen->name), "%s", name);
	return 0;
}

static void say(const struct netns_watch *w, const char *name, const char *what)
{
	char text[160];

	snprintf(text, sizeof(text), "interface '%s' %s", name, what);
	w->tell(w->arg, text);
}

/* Those that a guest could have. */
static void find_new(struct netns_watch *w)
{
	struct netns now;

	if (netns_scan_links(&now) < 0)
		return;
	for (size_t i = 0; i < now.nlinks; i++) {
		const struct netns_link *link = &now.links[i];

		/* Without memory it is told again. */
		if (find(w, link->index))
			continue;
		(void)add(w, link->index, link->name, false);
		say(w, link->name,
		    "came while the guest runs, which gets it when it is "
		    "started again");
	}
	netns_done(&now);
}

static void find_gone(struct netns_watch *w)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->nseen; i++) {
		const struct seen seen = w->seen[i];
		char name[IFNAMSIZ];

		if (if_indextoname(seen.index, name))
			w->seen[kept++] = seen;
		else if (seen.joined)
			say(w, seen.name, "is gone: the guest's leads nowhere");
	}
	w->nseen = kept;
}

/* All that have come; they are not looked at. */
static void drain(int fd)
{
	char data[8192];

	while (recv(fd, data, sizeof(data), MSG_DONTWAIT) >= 0 ||
	       errno == EINTR || errno == ENOBUFS)
		;
}

static void *run(void *arg)
{
	struct netns_watch *w = arg;
	struct pollfd pfd[2] = {
		{.fd = w->fd, .events = POLLIN},
		{.fd = w->stop_fd, .events = POLLIN},
	};

	while (!pfd[1].revents) {
		drain(w->fd);
		find_gone(w);
		find_new(w);
		if (poll(pfd, 2, -1) < 0 && errno != EINTR)
			break;
	}
	return NULL;
}

static int start(struct netns_watch *w, const struct netns *links)
{
	const struct sockaddr_nl groups = {.nl_family = AF_NETLINK,
					   .nl_groups = RTMGRP_LINK};
	int r = 0;

	for (size_t i = 0; r == 0 && i < links->nlinks; i++)
		r = add(w, links->links[i].index, links->links[i].name, true);
	if (r < 0)
		return r;
	w->fd = netlink_open();
	if (w->fd < 0)
		return w->fd;
	w->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (w->stop_fd < 0 ||
	    bind(w->fd, (const void *)&groups, sizeof(groups)) < 0)
		return -errno;
	return thread_start(&w->thread, 0, run, w);
}

static void release(struct netns_watch *w)
{
	util_close(&w->fd);
	util_close(&w->stop_fd);
	free(w->seen);
	free(w);
}

int netns_watch_start(const struct netns *links,
		      void (*tell)(void *arg, const char *text), void *arg,
		      struct netns_watch **ret)
{
	struct netns_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return log_ret(-ENOMEM, "out of memory");
	*w = (struct netns_watch){
		.tell = tell, .arg = arg, .fd = -1, .stop_fd = -1};
	r = start(w, links);
	if (r < 0) {
		release(w);
		return log_ret(r, "watching the network namespace: %s",
			       strerror(-r));
	}
	*ret = w;
	return 0;
}

void netns_watch_stop(struct netns_watch *w)
{
	const uint64_t one = 1;

	if (!w)
		return;
	(void)!write(w->stop_fd, &one, sizeof(one));
	pthread_join(w->thread, NULL);
	release(w);
}
