/* SPDX-License-Identifier: Apache-2.0 */
/* Between `bulkhead restore` and the part of it that is for instances. */
#ifndef TOOLS_CMD_RESTORE_H
#define TOOLS_CMD_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

struct option_list;
struct snapshot;

struct restore_request {
	const char *path;                  /* the snapshot's directory */
	const char *name;                  /* NULL: a random one */
	const char *network;               /* NULL: as it was */
	const struct option_list *publish; /* empty: as they were */
	bool verify, detach, remove, no_sandbox;
	bool no_working_set;
	uint64_t record_s; /* 0: as it comes */
};

/*
 * Has the start bring memory in ahead, or record it. Behind what else can fail:
 * a start that fails records nothing.
 */
void restore_working_set(struct snapshot *snapshot, const char *path, bool none,
			 uint64_t record_s);

/* The exit status, as of `run`; also of the process in the background. */
int restore_instance(const struct restore_request *req);

#endif
