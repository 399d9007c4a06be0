/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The loopback of a guest's network namespace: what others of the host's
 * connect to there reaches the guest's.
 */
#ifndef TOOLS_CONTAINER_NETNS_PORTS_H
#define TOOLS_CONTAINER_NETNS_PORTS_H

struct agent_session;
struct netns_ports;

/*
 * From now on TCP connections to any port of 127.0.0.1 in the calling thread's
 * network namespace are taken to the same port of the guest's loopback, each by
 * a session that CONNECT(ARG) opens, called by another thread. That takes
 * CAP_NET_ADMIN and CAP_SYS_ADMIN (or CAP_BPF) of the host's. 0 or -errno,
 * logged as a warning. The kernel takes its part back with the process.
 */
int netns_ports_open(int (*connect)(void *arg, struct agent_session **ret),
		     void *arg, struct netns_ports **ret);
/* NULL is fine. */
void netns_ports_close(struct netns_ports *ports);

#endif
