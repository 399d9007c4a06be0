/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A little of rtnetlink(7): one request and its acknowledgement, or a dump and
 * its messages. Used before a guest runs, and in a guest by its agent.
 */
#ifndef VMM_BASE_NETLINK_H
#define VMM_BASE_NETLINK_H

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NETLINK_REQUEST_BYTES 512

struct netlink_request {
	struct nlmsghdr header;
	char body[NETLINK_REQUEST_BYTES];
};

/* A socket for the calling thread's network namespace, or -errno. */
int netlink_open(void);

/*
 * Begins a request of TYPE (RTM_*) with more FLAGS (NLM_F_*). Its fixed part of
 * BYTES, zeroed, is returned.
 */
void *netlink_begin(struct netlink_request *r, uint16_t type, uint16_t flags,
		    size_t bytes);
/* An attribute; the caller knows that there is room. */
void netlink_add(struct netlink_request *r, uint16_t type, const void *data,
		 size_t bytes);
/* Attributes in an attribute: those added between the two calls. */
size_t netlink_nest(struct netlink_request *r, uint16_t type);
void netlink_nest_end(struct netlink_request *r, size_t nest);

/* 0 or -errno, as the kernel acknowledges it. */
int netlink_transact(int fd, const struct netlink_request *r);

/*
 * Calls TAKE with each message of the dump that R asks for; a negative result
 * ends it. 0 or -errno; -EINTR: the kernel's tables changed meanwhile, ask
 * again. After an error FD is to be closed: more of the dump may come.
 */
int netlink_dump(int fd, struct netlink_request *r,
		 int (*take)(void *arg, const struct nlmsghdr *message),
		 void *arg);

/*
 * Takes MESSAGE apart: its fixed part of BYTES, and its attributes by type in
 * TABLE, which has NTABLE entries (NULL: not there). NULL: it is too short.
 */
const void *netlink_parse(const struct nlmsghdr *message, size_t bytes,
			  const struct rtattr **table, unsigned ntable);
/* The same with the attributes in attribute A; none where that is NULL. */
void netlink_parse_nested(const struct rtattr *a, const struct rtattr **table,
			  unsigned ntable);
/* Copies an attribute's BYTES. False: it is not there, or shorter. */
bool netlink_get(const struct rtattr *a, void *to, size_t bytes);
/* An attribute that is a text; "": it is not there. */
const char *netlink_text(const struct rtattr *a);

#endif
