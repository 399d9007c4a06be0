/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages between a start, a machine's keeper and its monitor: all of one
 * user's and one program's, as the template's name has the program in it. The
 * sockets keep their borders (SOCK_SEQPACKET).
 */
#ifndef TOOLS_CONTAINER_POOL_WIRE_H
#define TOOLS_CONTAINER_POOL_WIRE_H

#include "tools/container/pool.h"

#include <stdint.h>

#define POOL_MAGIC 0x314c5042u /* "BPL1" */
#define POOL_NAME  64          /* "TEMPLATE.pool-PID", with its NUL */
#define POOL_INFIX ".pool-"
/* A socket that does not listen yet has the name "pool-part-PID". */
#define POOL_PART "pool-part-"
/* Processes that work for a monitor: passt. */
#define POOL_HELPERS 4

enum pool_what {
	POOL_SHOW = 1, /* its processes; nothing changes */
	POOL_TAKE,
};

struct pool_request {
	uint32_t magic;
	uint32_t what;
	struct pool_place place;
};

/* Descriptors with the answer to POOL_TAKE, if its result is 0. */
enum {
	POOL_FD_ORDER, /* to the monitor */
	POOL_FD_PROCESS,
	POOL_FD_AGENT,
	POOL_FD_CONSOLE,
	POOL_FD_MESSAGES,
	POOL_FDS,
};

struct pool_answer {
	/*
	 * 0; -EPERM: it is not for such a process; -EXDEV: its processes are to
	 * be moved to the other's control group, then it may be asked again.
	 */
	int32_t result;
	int32_t keeper, monitor;
	int32_t helpers[POOL_HELPERS]; /* of the monitor's; 0: none */
	uint32_t agent_minor;          /* its protocol's version */
	uint32_t records;
};

/*
 * To the monitor: this, and then the configuration's JSON with descriptors: the
 * instance's lock, its control socket, and one for each device that
 * vm_adopts(). Answered with 0 or -errno, 32 bits.
 */
struct pool_order {
	uint32_t magic;
	uint32_t config_bytes;
	uint32_t nfds;
	/* Its guest has mounted its shares: they have to be the same ones. */
	uint32_t prepared;
};
enum { POOL_ORDER_LOCK, POOL_ORDER_CONTROL, POOL_ORDER_FIRST };
#define POOL_CONFIG_MAX (128U << 10)

#endif
