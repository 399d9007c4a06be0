/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance that goes on where a snapshot has another one: a new one, with a
 * machine made from the same options, into which the saved one is loaded.
 */
#include "tools/cmd/restore.h"

#include "tools/container/run.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/snapshot.h"
#include "vmm/working-set.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <time.h>

static int read_instance(const struct restore_request *req,
			 struct instance_state *ret)
{
	autofd int fd = open(req->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int r = fd < 0 ? -errno
		       : instance_read_copy(fd, req->path,
					    SNAPSHOT_INSTANCE_FILE, ret);

	if (fd < 0 || r == -ENOENT)
		return log_ret(r, "'%s/" SNAPSHOT_INSTANCE_FILE "': %s",
			       req->path, strerror(-r));
	if (r == 0 && !ret->run)
		return log_ret(-EINVAL,
			       "'%s/" SNAPSHOT_INSTANCE_FILE
			       "': does not say how the instance was started",
			       req->path);
	return r;
}

/* `start`, and one that saves it again, find what it has now. */
static int take_network(const struct restore_request *req,
			struct instance_state *state, struct run_options *opt)
{
	opt->network = req->network;
	if (json_object_set_new(state->run, "network",
				json_string(req->network)) < 0)
		return log_ret(-EINVAL, "--network '%s': not UTF-8",
			       req->network);
	return spec_set_text(&state->network, req->network);
}

static int take_publish(const struct restore_request *req,
			struct instance_state *state, struct run_options *opt)
{
	json_t *list = json_array();
	int r = 0;

	option_list_done(&opt->publish);
	for (unsigned i = 0; r == 0 && i < req->publish->count; i++) {
		r = option_list_add(&opt->publish, req->publish->item[i]);
		if (r == 0 &&
		    json_array_append_new(
			    list, json_string(req->publish->item[i])) < 0)
			r = log_ret(-EINVAL, "-p '%s': not UTF-8",
				    req->publish->item[i]);
	}
	if (json_object_set_new(state->run, "publish", list) < 0 && r == 0)
		r = log_ret(-ENOMEM, "out of memory");
	return r;
}

/* As the instance had them, but for what the user says now. */
static int make_options(const struct restore_request *req,
			struct instance_state *state, struct run_options *opt)
{
	int r = run_again_options(state->run, opt);

	if (r < 0)
		return r;
	/* The default may have become another one. */
	if (!opt->network)
		opt->network = state->network;
	if (req->network)
		r = take_network(req, state, opt);
	if (r == 0 && (req->publish->count > 0 || req->no_publish))
		r = take_publish(req, state, opt);
	opt->no_sandbox = req->no_sandbox;
	opt->marks = req->trace;
	opt->restored = true;
	return r;
}

static int make_state(struct run *run, bool remove)
{
	struct instance_state *state = &run->state;
	int r;

	state->phase = INSTANCE_CREATED;
	state->created_s = time(NULL);
	state->started_s = 0;
	state->finished_s = 0;
	state->status = INSTANCE_NO_STATUS;
	state->pid = 0;
	state->pid_start = 0;
	state->remove = remove;
	r = spec_set_text(&state->error, NULL);
	if (r == 0)
		r = spec_set_text(&state->ports, run->machine.ports);
	return r < 0 ? r : instance_save(&run->instance, state);
}

/*
 * A container that had its instance's name as its host's gets the new one's, as
 * it would have had from `run`.
 */
static int rename_host(struct run *run, const char *before)
{
	struct spec *spec = &run->state.spec;

	if (!before || !spec->hostname || strcmp(spec->hostname, before) != 0)
		return 0;
	run->hostname = run->instance.name;
	return spec_set_text(&spec->hostname, run->instance.name);
}

static int prepare(const struct restore_request *req, struct run *run,
		   struct run_options *opt)
{
	const struct rootfs_options options = {0};
	int r = make_options(req, &run->state, opt);

	if (r == 0)
		r = run_again_streams(opt, &run->state.spec.process,
				      !req->detach, true);
	if (r == 0)
		r = rootfs_open(opt->root, &options, &run->root);
	trace_mark(req->trace, TRACE_ROOT);
	if (r == 0)
		r = rename_host(run, run->state.name);
	if (r == 0)
		r = run_machine_make(&run->machine, &run->state.spec, opt,
				     &run->root, &run->instance);
	return r < 0 ? r : make_state(run, req->remove);
}

int restore_make(const struct restore_request *req, struct run *run,
		 struct run_options *opt)
{
	int r = 0;

	run_hold_signals(run);
	if (run->instance.dir_fd < 0)
		r = instance_create(req->name, &run->instance);
	if (r == 0) {
		r = prepare(req, run, opt);
		trace_mark(req->trace, TRACE_INSTANCE);
		if (r < 0)
			(void)instance_remove(&run->instance, true);
	}
	if (r < 0)
		run_release_signals(run);
	return r;
}

void restore_free(struct run *run, struct run_options *opt)
{
	run_machine_done(&run->machine);
	rootfs_close(&run->root);
	run_options_done(opt);
	instance_state_done(&run->state);
	instance_done(&run->instance);
}

int restore_open(struct snapshot *snapshot, const char *path,
		 const char *memory_server)
{
	const int r = memory_server ? snapshot_open_state(snapshot, path)
				    : snapshot_open(snapshot, path);

	snapshot->memory_server = memory_server;
	return r;
}

void restore_working_set(struct snapshot *snapshot, const char *path, bool none,
			 uint64_t record_s)
{
	if (none)
		return;
	working_set_open(snapshot, path,
			 record_s ? WORKING_SET_ANEW : WORKING_SET_AUTO);
	snapshot->working_set.record_ms = (unsigned)record_s * 1000;
}

int restore_instance(const struct restore_request *req)
{
	struct snapshot snapshot;
	struct run_options opt = {0};
	struct run run = {
		.opt = &opt,
		.root.hold = -1,
		.machine.initrd_fd = -1,
		.snapshot = &snapshot,
	};
	int status = RUN_EXIT_FAILED;
	int r = restore_open(&snapshot, req->path, req->memory_server);

	instance_init(&run.instance);
	if (r == 0 && req->verify)
		r = snapshot_verify(&snapshot);
	if (r == 0)
		r = read_instance(req, &run.state);
	trace_mark(req->trace, TRACE_SNAPSHOT);
	if (r == 0) {
		instance_sweep();
		r = restore_make(req, &run, &opt);
	}
	if (r == 0)
		restore_working_set(&snapshot, req->path, req->no_working_set,
				    req->record_s);
	if (r == 0)
		status = opt.detach ? supervise_detached(&run)
				    : supervise(&run, -1);
	restore_free(&run, &opt);
	snapshot_close(&snapshot);
	return status;
}
