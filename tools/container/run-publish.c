/* SPDX-License-Identifier: Apache-2.0 */
/*
 * -p without a port of the host's: "80", "127.0.0.1::80", "0:53/udp". A free
 * one is chosen for each port, as Docker does.
 */
#include "tools/container/run.h"

#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/* The name of a port that is chosen, for a socket without a file. */
#define NAME "bulkhead/published/%s/%u"
/* Others' that were offered meanwhile; then something is wrong. */
#define OTHERS_MAX 64

/* Sockets at ports, so that each one is offered once. passt takes no more. */
struct offered {
	int fd[RUN_CHOSEN_MAX + OTHERS_MAX]; /* owned */
	unsigned n;
};

/* "ADDRESS::80-82/udp" in parts. */
struct wanted {
	char address[INET_ADDRSTRLEN]; /* "": all of them */
	uint64_t first, last;
	bool udp;
};

/* "80" or "80-82". */
static bool take_range(char *text, struct wanted *w)
{
	char *dash = strchr(text, '-');

	if (dash)
		*dash++ = '\0';
	return util_parse_number(text, 1, UINT16_MAX, &w->first) == 0 &&
	       util_parse_number(dash ? dash : text, w->first, UINT16_MAX,
				 &w->last) == 0;
}

/* False: the host's port is given, or it is wrong, which is seen elsewhere. */
static bool take_wanted(const char *text, struct wanted *w)
{
	autofree char *copy = strdup(text);
	struct in_addr address;
	char *slash, *guest, *host;

	if (!copy)
		return false;
	slash = strchr(copy, '/');
	if (slash)
		*slash++ = '\0';
	w->udp = slash && strcmp(slash, "udp") == 0;
	if (slash && !w->udp && strcmp(slash, "tcp") != 0)
		return false;
	guest = strrchr(copy, ':');
	w->address[0] = '\0';
	if (!guest)
		return take_range(copy, w);
	*guest++ = '\0';
	host = strrchr(copy, ':');
	if (host)
		*host++ = '\0';
	else
		host = copy;
	if (host[0] != '\0' && strcmp(host, "0") != 0)
		return false;
	if (host != copy) {
		if (inet_pton(AF_INET, copy, &address) != 1)
			return false;
		snprintf(w->address, sizeof(w->address), "%s", copy);
	}
	return (host != copy || host[0] != '\0') && take_range(guest, w);
}

/*
 * Between the choice and passt's start a port is nobody's as the kernel sees
 * it, and another start may be offered it. A socket without a file, whose names
 * are a network namespace's as ports are, says that it is taken. 0, -EADDRINUSE
 * or -errno, not logged.
 */
static int reserve(const struct wanted *w, unsigned port,
		   struct run_chosen *chosen)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	autofd int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	const int n = snprintf(un.sun_path + 1, sizeof(un.sun_path) - 1, NAME,
			       w->udp ? "udp" : "tcp", port);

	if (fd < 0 || bind(fd, (struct sockaddr *)&un,
			   (socklen_t)(offsetof(struct sockaddr_un, sun_path) +
				       1 + (size_t)n)) < 0)
		return -errno;
	chosen->fd[chosen->n++] = take_fd(&fd);
	return 0;
}

/* A port that nobody has: it is held until all are chosen. 0 or -errno. */
static int offer(const struct wanted *w, struct offered *offered,
		 unsigned *ret_port)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t n = sizeof(at);
	int fd;

	if (w->address[0])
		inet_pton(AF_INET, w->address, &at.sin_addr);
	fd = socket(AF_INET, (w->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC,
		    0);
	if (fd >= 0)
		offered->fd[offered->n++] = fd;
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &n) < 0)
		return -errno;
	*ret_port = ntohs(at.sin_port);
	return 0;
}

/* 0 or -errno, logged. */
static int choose(const char *text, const struct wanted *w,
		  struct run_chosen *chosen, struct offered *offered,
		  unsigned *ret_port)
{
	int r;

	if (chosen->n == RUN_CHOSEN_MAX)
		return log_ret(-E2BIG, "--publish '%s': more than %d ports",
			       text, RUN_CHOSEN_MAX);
	do {
		r = offered->n == ARRAY_LEN(offered->fd)
			    ? -EADDRINUSE
			    : offer(w, offered, ret_port);
		if (r < 0)
			return log_ret(r, "--publish '%s': no free port: %s",
				       text, strerror(-r));
		r = reserve(w, *ret_port, chosen);
	} while (r == -EADDRINUSE);
	return r < 0 ? log_ret(r, "--publish '%s': port %u: %s", text,
			       *ret_port, strerror(-r))
		     : 0;
}

static int add_chosen(const char *text, const struct wanted *w,
		      struct run_chosen *chosen, struct offered *offered,
		      struct text_list *ret)
{
	int r = 0;

	for (uint64_t guest = w->first; r == 0 && guest <= w->last; guest++) {
		unsigned host = 0;
		char full[64];

		r = choose(text, w, chosen, offered, &host);
		snprintf(full, sizeof(full), "%s%s%u:%u%s", w->address,
			 w->address[0] ? ":" : "", host, (unsigned)guest,
			 w->udp ? "/udp" : "");
		if (r == 0)
			r = text_list_add(ret, full);
	}
	return r;
}

bool run_publish_chooses(const char *text)
{
	struct wanted w;

	return take_wanted(text, &w);
}

int run_publish_resolve(const struct option_list *list,
			struct run_chosen *chosen, struct text_list *ret)
{
	struct offered offered = {.n = 0};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < list->count; i++) {
		const char *text = list->item[i];
		struct wanted w;

		r = take_wanted(text, &w)
			    ? add_chosen(text, &w, chosen, &offered, ret)
			    : text_list_add(ret, text);
	}
	for (unsigned i = 0; i < offered.n; i++)
		close(offered.fd[i]);
	return r;
}

void run_chosen_done(struct run_chosen *chosen)
{
	for (unsigned i = 0; i < chosen->n; i++)
		close(chosen->fd[i]);
	chosen->n = 0;
}
