/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container's first process before there is a program for it. Machines are
 * saved while it waits, and go on with different programs, names and networks.
 */
#include "firmware/init/prepare.h"

#include "firmware/init/container.h"
#include "firmware/init/warm.h"
#include "vmm/base/descriptors.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail(struct init_failure *f, int error, const char *what)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "%s", what);
}

/* ---- what comes later */

/* So many bytes of FD, allocated; NULL: there are not so many. */
static uint8_t *take_bytes(int fd, size_t bytes)
{
	uint8_t *data = malloc(bytes + 1);

	if (data && read(fd, data, bytes) == (ssize_t)bytes)
		return data;
	free(data);
	return NULL;
}

static int take_requests(int fd, const struct process_go *go,
			 struct prepared *p, struct init_failure *f)
{
	uint8_t *bytes = take_bytes(fd, go->config_bytes);

	if (!bytes)
		return fail(f, ENOMEM, "the container's configuration");
	if (init_config_parse(bytes, go->config_bytes, &p->config, f))
		return -1;
	bytes = take_bytes(fd, go->start_bytes);
	if (!bytes)
		return fail(f, ENOMEM, "the program's arguments");
	return init_start_parse(bytes, go->start_bytes, &p->start, f);
}

static int await_go(struct prepared *p, struct init_failure *f)
{
	int *const stream[3] = {&p->side.in, &p->side.out, &p->side.err};
	autofd int requests = -1;
	struct process_go go;
	char byte;

	/* The agent does not end before the machine. */
	if (descriptors_receive(p->side.report_fd, &go, sizeof(go), &requests,
				1, 0) != sizeof(go) ||
	    requests < 0)
		return fail(f, EPROTO, "wait for the program");
	for (unsigned i = 0; i < ARRAY_LEN(stream); i++) {
		if (go.has[i] && descriptors_receive(p->side.report_fd, &byte,
						     1, stream[i], 1, 0) != 1)
			return fail(f, EPROTO, "wait for its streams");
	}
	return take_requests(requests, &go, p, f);
}

int prepare_wait(const struct process_side *early, struct prepared *p,
		 struct init_failure *f)
{
	const struct process_report ready = {.kind = PROCESS_PREPARED};
	const struct init_config *before = early->box->config;
	const bool plain = early->box->plain;
	autofd int oom_fd = process_open_oom_score();
	/* Not the host's connections, which it would keep open. */
	const int ours[] = {early->report_fd, oom_fd};
	autofd int root = -1;

	process_reset_signals();
	if (process_keep_only(ours, ARRAY_LEN(ours)) < 0)
		return fail(f, errno, "close_range");
	if (!plain && unshare(CLONE_NEWCGROUP) < 0)
		return fail(f, errno, "a control group's namespace");
	if (!plain)
		root = container_make(before, f);
	if (!plain && root < 0)
		return -1;
	if (!plain)
		(void)warm_program(root, &before->warm);
	*p = (struct prepared){.box = *early->box, .side = *early};
	p->box.config = &p->config;
	p->side.box = &p->box;
	p->side.start = &p->start;
	if (process_tell(p->side.report_fd, &ready, (const int[]){-1, -1}) < 0)
		return fail(f, errno, "report");
	if (await_go(p, f))
		return -1;
	if (process_set_oom_score(&p->start, oom_fd, f))
		return -1;
	return plain ? 0 : container_finish(root, before, &p->config, f);
}
