/* SPDX-License-Identifier: Apache-2.0 */
/* The name servers and domains of this process's /etc/resolv.conf. */
#ifndef TOOLS_CONTAINER_RESOLV_CONF_H
#define TOOLS_CONTAINER_RESOLV_CONF_H

#include "tools/cli/text-list.h"

struct resolv_conf {
	struct text_list servers; /* addresses, in their order */
	struct text_list search;  /* domains */
};

/*
 * Reads it. Where it is no regular file, or not there, RET is empty. 0 or
 * -ENOMEM, logged; resolv_conf_done() accepts what that leaves.
 */
int resolv_conf_read(struct resolv_conf *ret);
void resolv_conf_done(struct resolv_conf *conf);

/*
 * Adds to NAMES the servers of CONF that are addresses of the loopback, which
 * is not the guest's, unless they are there, up to AGENT_NAMES_SERVERS in all.
 * 0 or -ENOMEM, logged.
 */
int resolv_conf_add_names(const struct resolv_conf *conf,
			  struct text_list *names);

#endif
