/* SPDX-License-Identifier: Apache-2.0 */
/* Between `bulkhead restore` and the part of it that is for instances. */
#ifndef TOOLS_CMD_RESTORE_H
#define TOOLS_CMD_RESTORE_H

#include <stdbool.h>
#include <stdint.h>

struct option_list;
struct run;
struct run_options;
struct snapshot;
struct trace;

struct restore_request {
	const char *path;                  /* the snapshot's directory */
	const char *name;                  /* NULL: a random one */
	const char *network;               /* NULL: as it was */
	const struct option_list *publish; /* empty: as they were */
	bool no_publish;                   /* none at all */
	const char *memory_server;         /* see struct snapshot; NULL: none */
	bool verify, detach, remove, no_sandbox;
	bool no_working_set;
	uint64_t record_s;   /* 0: as it comes */
	struct trace *trace; /* NULL: none */
};

/* Opens it, with its memory if no server has that. 0 or -errno, logged. */
int restore_open(struct snapshot *snapshot, const char *path,
		 const char *memory_server);

/*
 * Has the start bring memory in ahead, or record it. Behind what else can fail:
 * a start that fails records nothing.
 */
void restore_working_set(struct snapshot *snapshot, const char *path, bool none,
			 uint64_t record_s);

/*
 * Makes of RUN, whose state is that of the instance that was saved, a new
 * instance that can be supervised; its own is there already, or is made here.
 * Signals are held from here on. OPT is zeroed before. 0 or -errno, logged: the
 * instance is gone then, and signals are not held.
 */
int restore_make(const struct restore_request *req, struct run *run,
		 struct run_options *opt);
/* Also of one that could not be made. */
void restore_free(struct run *run, struct run_options *opt);

/* The exit status, as of `run`; also of the process in the background. */
int restore_instance(const struct restore_request *req);

#endif
