/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A container in a machine that runs: what `run` makes devices of comes to that
 * machine's share of trees, and its agent gets the rest.
 */
#include "tools/container/run.h"

#include "tools/container/trees.h"
#include "vmm/base/util.h"

#include <errno.h>

static int make_root(struct run_machine *machine, const struct spec *spec,
		     const struct rootfs *root)
{
	const struct trees_dir dir = {
		.path = root->path,
		.readonly = spec->root_readonly,
		.nested = !root->no_submounts,
	};
	char name[TREES_NAME];
	int r = trees_add(machine->trees_fd, &dir, name);

	if (r < 0)
		return r;
	machine->agent.root_tag = RUN_TREES_TAG;
	machine->agent.root_tree = run_keep(machine, name);
	machine->agent.root_readonly = spec->root_readonly;
	return machine->agent.root_tree ? 0 : -ENOMEM;
}

/* Its limits are its control group's: the machine has its own size. */
static void set_limits(struct agent_config *agent, const struct spec_linux *l)
{
	agent->memory_max = l->memory_limit;
	agent->cpu_quota = l->cpu_quota;
	agent->cpu_period = l->cpu_period ? l->cpu_period : 100000;
}

int run_member_make(struct run_machine *machine, struct spec *spec,
		    const struct run_member *member)
{
	const struct run_options opt = {.bundle = "/"};
	int r = trees_connect(member->socket, &machine->trees_fd);

	config_init(&machine->cfg);
	machine->is_member = r == 0;
	if (r == 0)
		r = make_root(machine, spec, member->root);
	if (r == 0)
		r = run_shares_make(machine, spec);
	if (r == 0)
		r = run_guest_make(machine, spec, &opt);
	if (r == 0)
		r = spec_filter_make("config.json", &spec->linux_part,
				     &machine->filter);
	set_limits(&machine->agent, &spec->linux_part);
	machine->agent.container = member->name;
	machine->agent.share_uts = member->share_uts;
	machine->agent.share_ipc = member->share_ipc;
	machine->agent.share_pid = member->share_pid;
	if (member->share_uts)
		machine->agent.hostname = NULL;
	return r;
}
