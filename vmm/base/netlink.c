/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/netlink.h"

#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* The kernel makes no larger message of a dump. */
#define DUMP_BYTES 32768

int netlink_open(void)
{
	const int fd =
		socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);

	return fd < 0 ? -errno : fd;
}

void *netlink_begin(struct netlink_request *r, uint16_t type, uint16_t flags,
		    size_t bytes)
{
	memset(r, 0, sizeof(*r));
	r->header.nlmsg_type = type;
	r->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
	r->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(bytes);
	return NLMSG_DATA(&r->header);
}

static struct rtattr *attribute_at(struct netlink_request *r, size_t at)
{
	return (struct rtattr *)(void *)((char *)r + at);
}

void netlink_add(struct netlink_request *r, uint16_t type, const void *data,
		 size_t bytes)
{
	const size_t at = NLMSG_ALIGN(r->header.nlmsg_len);
	struct rtattr *a = attribute_at(r, at);

	assert(at + RTA_SPACE(bytes) <= sizeof(*r));
	a->rta_type = type;
	a->rta_len = (uint16_t)RTA_LENGTH(bytes);
	if (bytes > 0)
		memcpy(RTA_DATA(a), data, bytes);
	r->header.nlmsg_len = (uint32_t)(at + RTA_ALIGN(a->rta_len));
}

size_t netlink_nest(struct netlink_request *r, uint16_t type)
{
	const size_t nest = NLMSG_ALIGN(r->header.nlmsg_len);

	netlink_add(r, type, NULL, 0);
	return nest;
}

void netlink_nest_end(struct netlink_request *r, size_t nest)
{
	attribute_at(r, nest)->rta_len = (uint16_t)(r->header.nlmsg_len - nest);
}

int netlink_transact(int fd, const struct netlink_request *r)
{
	/* The acknowledgement of an error repeats the request. */
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[sizeof(struct netlink_request) + 256];
	} answer;
	ssize_t n;

	if (send(fd, r, r->header.nlmsg_len, 0) < 0)
		return -errno;
	do {
		n = recv(fd, &answer, sizeof(answer), 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	if ((size_t)n < sizeof(answer.header) + sizeof(answer.error) ||
	    answer.header.nlmsg_type != NLMSG_ERROR)
		return -EPROTO;
	return answer.error.error;
}

/* One datagram of a dump. 0: there is more; 1: it was the last; -errno. */
static int take_part(const char *data, size_t left,
		     int (*take)(void *arg, const struct nlmsghdr *message),
		     void *arg)
{
	while (left >= sizeof(struct nlmsghdr)) {
		const struct nlmsghdr *h = (const void *)data;
		const size_t step = NLMSG_ALIGN(h->nlmsg_len);
		int r;

		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > left)
			return -EPROTO;
		if (h->nlmsg_flags & NLM_F_DUMP_INTR)
			return -EINTR;
		if (h->nlmsg_type == NLMSG_DONE)
			return 1;
		if (h->nlmsg_type == NLMSG_ERROR) {
			const struct nlmsgerr *e = NLMSG_DATA(h);

			if (h->nlmsg_len < NLMSG_LENGTH(sizeof(*e)))
				return -EPROTO;
			return e->error < 0 ? e->error : 1;
		}
		r = take(arg, h);
		if (r < 0)
			return r;
		data += step;
		left -= min_u64(step, left);
	}
	return 0;
}

int netlink_dump(int fd, struct netlink_request *request,
		 int (*take)(void *arg, const struct nlmsghdr *message),
		 void *arg)
{
	autofree char *data = malloc(DUMP_BYTES);
	int r = 0;

	if (!data)
		return -ENOMEM;
	request->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
	if (send(fd, request, request->header.nlmsg_len, 0) < 0)
		return -errno;
	while (r == 0) {
		const ssize_t n = recv(fd, data, DUMP_BYTES, MSG_TRUNC);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0 || n > DUMP_BYTES)
			return -EPROTO;
		r = take_part(data, (size_t)n, take, arg);
	}
	return r < 0 ? r : 0;
}

static void parse(const char *data, size_t left, const struct rtattr **table,
		  unsigned ntable)
{
	memset(table, 0, ntable * sizeof(*table));
	while (left >= sizeof(struct rtattr)) {
		const struct rtattr *a = (const void *)data;
		const unsigned type = a->rta_type & NLA_TYPE_MASK;

		if (a->rta_len < sizeof(*a) || a->rta_len > left)
			return;
		if (type < ntable)
			table[type] = a;
		data += RTA_ALIGN(a->rta_len);
		left -= min_u64(RTA_ALIGN(a->rta_len), left);
	}
}

const void *netlink_parse(const struct nlmsghdr *message, size_t bytes,
			  const struct rtattr **table, unsigned ntable)
{
	const char *fixed = NLMSG_DATA(message);
	const size_t before = NLMSG_SPACE(bytes);

	memset(table, 0, ntable * sizeof(*table));
	if (message->nlmsg_len < NLMSG_LENGTH(bytes))
		return NULL;
	if (message->nlmsg_len > before)
		parse((const char *)message + before,
		      message->nlmsg_len - before, table, ntable);
	return fixed;
}

void netlink_parse_nested(const struct rtattr *a, const struct rtattr **table,
			  unsigned ntable)
{
	memset(table, 0, ntable * sizeof(*table));
	if (a)
		parse(RTA_DATA(a), RTA_PAYLOAD(a), table, ntable);
}

bool netlink_get(const struct rtattr *a, void *to, size_t bytes)
{
	if (!a || RTA_PAYLOAD(a) < bytes)
		return false;
	memcpy(to, RTA_DATA(a), bytes);
	return true;
}

const char *netlink_text(const struct rtattr *a)
{
	const char *text = a ? RTA_DATA(a) : "";
	const size_t room = a ? RTA_PAYLOAD(a) : 1;

	return room > 0 && memchr(text, 0, room) ? text : "";
}
