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
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

/* So many are held while others are chosen; passt takes no more. */
#define CHOSEN_MAX 32

struct chosen {
	int fd[CHOSEN_MAX]; /* owned */
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
 * A port that nobody has. It is held until all are chosen; then it is passt's
 * to take, which the kernel gives to nobody else as soon after. 0 or -errno,
 * logged.
 */
static int choose(const char *text, const struct wanted *w,
		  struct chosen *chosen, unsigned *ret_port)
{
	struct sockaddr_in at = {.sin_family = AF_INET};
	socklen_t n = sizeof(at);
	int fd;

	if (chosen->n == CHOSEN_MAX)
		return log_ret(-E2BIG, "--publish '%s': more than %d ports",
			       text, CHOSEN_MAX);
	if (w->address[0])
		inet_pton(AF_INET, w->address, &at.sin_addr);
	fd = socket(AF_INET, (w->udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC,
		    0);
	if (fd >= 0)
		chosen->fd[chosen->n++] = fd;
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&at, &n) < 0)
		return log_ret(-errno, "--publish '%s': no free port: %s", text,
			       strerror(errno));
	*ret_port = ntohs(at.sin_port);
	return 0;
}

static int add_chosen(const char *text, const struct wanted *w,
		      struct chosen *chosen, struct text_list *ret)
{
	int r = 0;

	for (uint64_t guest = w->first; r == 0 && guest <= w->last; guest++) {
		unsigned host = 0;
		char full[64];

		r = choose(text, w, chosen, &host);
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

int run_publish_resolve(const struct option_list *list, struct text_list *ret)
{
	struct chosen chosen = {.n = 0};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < list->count; i++) {
		const char *text = list->item[i];
		struct wanted w;

		r = take_wanted(text, &w) ? add_chosen(text, &w, &chosen, ret)
					  : text_list_add(ret, text);
	}
	for (unsigned i = 0; i < chosen.n; i++)
		close(chosen.fd[i]);
	return r;
}
