/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread that hears rtnetlink(7)'s messages. They say that something changed;
 * what there is then is asked for, as messages can be lost.
 */
#include "tools/container/netns-watch.h"

#include "firmware/agent/agent.h"
#include "tools/agent/agent.h"
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

/* Changes come in bursts: an interface, its addresses, its routes. */
#define SETTLE_MS 20

#define GROUPS                                                                 \
	(RTMGRP_LINK | RTMGRP_NEIGH | RTMGRP_IPV4_IFADDR |                     \
	 RTMGRP_IPV6_IFADDR | RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE)

/* In place of a device's number. */
#define NO_PLACE (-1)
#define WAITS    (-2) /* until others are gone: that was told */

struct netns_watch {
	const struct netns_watch_ops *ops;
	void *arg;
	struct netns had; /* as the guest has it, as far as it follows */
	/* For each of had.links its device; NO_PLACE, WAITS: it has none. */
	int *place;
	bool *busy;      /* had.places of them: the device is joined */
	bool *doubtful;  /* as many: the guest may not have let go of it */
	int fd, stop_fd; /* owned */
	pthread_t thread;
};

/* Nobody waits for what the guest does about it any more. */
static bool is_stopping(const struct netns_watch *w)
{
	struct pollfd pfd = {.fd = w->stop_fd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

static void say(const struct netns_watch *w, const char *name, const char *what)
{
	char text[160];

	if (is_stopping(w))
		return;
	snprintf(text, sizeof(text), "interface '%s' %s", name, what);
	w->ops->tell(w->arg, text);
}

/* ---- what differs */

/* BYTES in all, FLAGS is where its flags are, which do not count. */
struct kind {
	size_t bytes, flags;
	uint8_t gone;
};

static const struct kind addresses = {sizeof(struct agent_address),
				      offsetof(struct agent_address, flags),
				      AGENT_GONE};
static const struct kind routes = {sizeof(struct agent_route),
				   offsetof(struct agent_route, flags),
				   AGENT_ROUTE_GONE};
static const struct kind neighbours = {sizeof(struct agent_neighbour),
				       offsetof(struct agent_neighbour, flags),
				       AGENT_GONE};

static bool has(const void *list, size_t n, const void *one, size_t bytes)
{
	for (size_t i = 0; i < n; i++) {
		if (memcmp((const char *)list + i * bytes, one, bytes) == 0)
			return true;
	}
	return false;
}

static bool same_list(const void *a, size_t na, const void *b, size_t nb,
		      const struct kind *kind)
{
	bool same = na == nb;

	for (size_t i = 0; same && i < na; i++)
		same = has(b, nb, (const char *)a + i * kind->bytes,
			   kind->bytes);
	return same;
}

static bool same_state(const struct netns_link *a, const struct netns_link *b)
{
	return strcmp(a->name, b->name) == 0 && a->mtu == b->mtu &&
	       same_list(a->addresses, a->naddresses, b->addresses,
			 b->naddresses, &addresses) &&
	       same_list(a->routes, a->nroutes, b->routes, b->nroutes,
			 &routes) &&
	       same_list(a->neighbours, a->nneighbours, b->neighbours,
			 b->nneighbours, &neighbours);
}

/* Those of OLD that are not among NEW, marked, and all of NEW; or NULL. */
static void *merge(const void *old, size_t nold, const void *new, size_t nnew,
		   const struct kind *kind, size_t *ret_n)
{
	char *all = calloc(nold + nnew + 1, kind->bytes);
	size_t n = 0;

	for (size_t i = 0; all && i < nold; i++) {
		const char *one = (const char *)old + i * kind->bytes;

		if (has(new, nnew, one, kind->bytes))
			continue;
		memcpy(all + n * kind->bytes, one, kind->bytes);
		all[n++ * kind->bytes + kind->flags] |= (char)kind->gone;
	}
	if (all && nnew > 0)
		memcpy(all + n * kind->bytes, new, nnew * kind->bytes);
	*ret_n = n + nnew;
	return all;
}

/* ---- a request to the guest */

struct change {
	struct agent_link *links; /* owned, as the next and what is in it */
	struct agent_exact *exacts;
	size_t n;
};

static void change_done(struct change *c)
{
	for (size_t i = 0; i < c->n; i++) {
		free((void *)(uintptr_t)c->exacts[i].addresses);
		free((void *)(uintptr_t)c->exacts[i].routes);
		free((void *)(uintptr_t)c->exacts[i].neighbours);
	}
	free(c->links);
	free(c->exacts);
}

static int change_init(struct change *c, size_t most)
{
	*c = (struct change){
		.links = calloc(most + 1, sizeof(*c->links)),
		.exacts = calloc(most + 1, sizeof(*c->exacts)),
	};
	return c->links && c->exacts ? 0 : -ENOMEM;
}

static struct agent_exact *add_link(struct change *c,
				    const struct netns_link *link)
{
	struct agent_exact *e = &c->exacts[c->n];

	c->links[c->n++] = (struct agent_link){.name = link->name, .exact = e};
	memcpy(e->mac, link->mac, sizeof(e->mac));
	return e;
}

/* OLD is empty where it has come. Names are borrowed. */
static int add_changed(struct change *c, const struct netns_link *old,
		       const struct netns_link *new)
{
	struct agent_exact *e = add_link(c, new);

	if (old->mtu != new->mtu)
		c->links[c->n - 1].mtu = new->mtu;
	e->addresses = merge(old->addresses, old->naddresses, new->addresses,
			     new->naddresses, &addresses, &e->naddresses);
	e->routes = merge(old->routes, old->nroutes, new->routes, new->nroutes,
			  &routes, &e->nroutes);
	e->neighbours =
		merge(old->neighbours, old->nneighbours, new->neighbours,
		      new->nneighbours, &neighbours, &e->nneighbours);
	return e->addresses && e->routes && e->neighbours ? 0 : -ENOMEM;
}

/* ---- following */

static const struct netns_link *
find(const struct netns *n, const struct netns_link *like, size_t *ret_i)
{
	for (size_t i = 0; i < n->nlinks; i++) {
		const struct netns_link *l = &n->links[i];

		if (l->index == like->index &&
		    memcmp(l->mac, like->mac, sizeof(l->mac)) == 0) {
			if (ret_i)
				*ret_i = i;
			return l;
		}
	}
	return NULL;
}

/* One that the guest may still hold only where there is no other. */
static int free_place(const struct netns_watch *w)
{
	int place = NO_PLACE;

	for (unsigned i = w->had.places; i-- > 0;) {
		if (!w->busy[i] && (place == NO_PLACE || !w->doubtful[i] ||
				    w->doubtful[place]))
			place = (int)i;
	}
	return place;
}

/* A guest finds an interface by its address: two of one would be one to it. */
static bool is_second(const struct netns_watch *w, const struct netns *now,
		      const int *place, size_t i)
{
	const uint8_t *mac = now->links[i].mac;

	for (size_t j = 0; j < w->had.nlinks; j++) {
		if (w->place[j] >= 0 &&
		    memcmp(w->had.links[j].mac, mac, 6) == 0)
			return true;
	}
	for (size_t j = 0; j < i; j++) {
		if (place[j] >= 0 && memcmp(now->links[j].mac, mac, 6) == 0)
			return true;
	}
	return false;
}

/* Those that are gone, before others get their places. */
static void let_go(struct netns_watch *w, const struct netns *now)
{
	struct change c;
	int r = change_init(&c, w->had.nlinks);

	for (size_t i = 0; r == 0 && i < w->had.nlinks; i++) {
		if (!find(now, &w->had.links[i], NULL) && w->place[i] >= 0)
			add_link(&c, &w->had.links[i])->gone = true;
	}
	if (r == 0 && c.n > 0)
		r = w->ops->change(w->arg, c.links, c.n, w->stop_fd);
	for (size_t i = 0; i < w->had.nlinks; i++) {
		const struct netns_link *link = &w->had.links[i];

		if (find(now, link, NULL) || w->place[i] < 0)
			continue;
		if (r < 0)
			say(w, link->name,
			    "is gone; the guest's leads nowhere");
		w->ops->leave(w->arg, (unsigned)w->place[i]);
		w->busy[w->place[i]] = false;
		w->doubtful[w->place[i]] = r < 0;
		w->place[i] = NO_PLACE;
	}
	change_done(&c);
}

/*
 * A device for the link I of NOW; NO_PLACE, WAITS: it has none, which was told.
 * PLACES: of those before it. WAITED: it is not told again.
 */
static int join(struct netns_watch *w, const struct netns *now,
		const int *places, size_t i, bool waited)
{
	const struct netns_link *link = &now->links[i];
	const int place = free_place(w);

	if (is_second(w, now, places, i)) {
		if (!waited)
			say(w, link->name,
			    "came while the guest runs, which gets it when "
			    "another one, that has its Ethernet address, is "
			    "gone");
		return WAITS;
	}
	if (place == NO_PLACE) {
		if (!waited)
			say(w, link->name,
			    "came while the guest runs, which has no place "
			    "left for it, and gets it when another one is "
			    "gone, or when it is started again");
		return WAITS;
	}
	w->doubtful[place] = w->ops->join(w->arg, link, (unsigned)place) < 0;
	if (w->doubtful[place]) {
		say(w, link->name,
		    "came while the guest runs, which does not get it");
		return NO_PLACE;
	}
	w->busy[place] = true;
	return place;
}

/* As the guest has the link I of NOW; `none`: it does not. */
static const struct netns_link *
place_link(struct netns_watch *w, const struct netns *now, int *place, size_t i)
{
	static const struct netns_link none;
	const struct netns_link *link = &now->links[i];
	size_t before = 0;
	const struct netns_link *old = find(&w->had, link, &before);
	const bool waited = old && w->place[before] == WAITS;

	if (!old || waited) {
		place[i] = join(w, now, place, i, waited);
		return &none;
	}
	place[i] = w->place[before];
	if (place[i] >= 0 && old->mtu != link->mtu)
		w->ops->resize(w->arg, link);
	return old;
}

/* PLACE gets the device of each of NOW; the guest what is different. */
static int take_on(struct netns_watch *w, const struct netns *now, int *place)
{
	struct change c;
	int r = change_init(&c, now->nlinks);

	for (size_t i = 0; i < now->nlinks; i++) {
		const struct netns_link *link = &now->links[i];
		const struct netns_link *old = place_link(w, now, place, i);

		if (r == 0 && place[i] >= 0 && !same_state(old, link))
			r = add_changed(&c, old, link);
	}
	if (r == 0 && c.n > 0)
		r = w->ops->change(w->arg, c.links, c.n, w->stop_fd);
	for (size_t i = 0; r < 0 && i < c.n; i++)
		say(w, c.links[i].name,
		    "has changed; the guest's is not as it is");
	change_done(&c);
	return r;
}

static void follow(struct netns_watch *w)
{
	struct netns now;
	int *place;

	if (netns_scan_again(&now) < 0) {
		netns_done(&now);
		return;
	}
	now.places = w->had.places;
	w->ops->look(w->arg, w->stop_fd);
	place = calloc(now.nlinks + 1, sizeof(*place));
	if (!place) {
		netns_done(&now);
		return;
	}
	let_go(w, &now);
	if (is_stopping(w)) {
		netns_done(&now);
		free(place);
		return;
	}
	(void)take_on(w, &now, place);
	/* A step that failed is not tried again and again. */
	netns_done(&w->had);
	free(w->place);
	w->had = now;
	w->place = place;
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
		{.fd = w->stop_fd, .events = POLLIN},
		{.fd = w->fd, .events = POLLIN},
	};

	for (;;) {
		drain(w->fd);
		follow(w);
		while (poll(pfd, 2, -1) < 0 && errno == EINTR)
			;
		if (pfd[0].revents || poll(pfd, 1, SETTLE_MS) != 0)
			return NULL;
	}
}

/* ---- start and end */

static int start(struct netns_watch *w, const struct netns *links)
{
	const struct sockaddr_nl groups = {.nl_family = AF_NETLINK,
					   .nl_groups = GROUPS};
	int r = netns_copy(links, &w->had);

	if (r < 0)
		return r;
	w->place = calloc(links->nlinks + 1, sizeof(*w->place));
	w->busy = calloc(links->places + 1, sizeof(*w->busy));
	w->doubtful = calloc(links->places + 1, sizeof(*w->doubtful));
	if (!w->place || !w->busy || !w->doubtful)
		return -ENOMEM;
	for (size_t i = 0; i < links->nlinks; i++) {
		w->place[i] = (int)i;
		w->busy[i] = true;
	}
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
	netns_done(&w->had);
	free(w->place);
	free(w->busy);
	free(w->doubtful);
	free(w);
}

int netns_watch_start(const struct netns *netns,
		      const struct netns_watch_ops *ops, void *arg,
		      struct netns_watch **ret)
{
	struct netns_watch *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return log_ret(-ENOMEM, "out of memory");
	*w = (struct netns_watch){
		.ops = ops, .arg = arg, .fd = -1, .stop_fd = -1};
	r = start(w, netns);
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
