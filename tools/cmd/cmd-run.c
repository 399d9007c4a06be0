/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead run`: from options to a container's exit status. */
#include "tools/cmd/cmd.h"

#include "tools/container/run.h"
#include "tools/container/template.h"
#include "tools/cli/trace-option.h"
#include "tools/cli/usage.h"
#include "vmm/base/text.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* 0 or -ENOMEM; texts that are not there stay NULL. */
static int copy_text(const char *text, char **ret)
{
	if (text && !(*ret = strdup(text)))
		return -ENOMEM;
	return 0;
}

static int copy_options(const struct option_list *list, char ***ret)
{
	struct text_list copy = {0};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < list->count; i++)
		r = text_list_add(&copy, list->item[i]);
	*ret = copy.item; /* the state frees it as it is */
	return r;
}

static int make_state(struct run *run)
{
	struct instance_state *state = &run->state;
	const struct run_options *opt = run->opt;
	int r;

	state->phase = INSTANCE_CREATED;
	state->created_s = time(NULL);
	state->status = INSTANCE_NO_STATUS;
	state->remove = opt->remove;
	state->image = text_printable(run->root.name);
	r = state->image ? 0 : -ENOMEM;
	if (r == 0)
		r = copy_text(run->machine.ports, &state->ports);
	if (r == 0)
		r = copy_text(run->machine.network, &state->network);
	if (r == 0)
		r = copy_options(&opt->labels, &state->labels);
	/* Without it, as for a path that JSON cannot have, `start` refuses. */
	if (r == 0)
		state->run = run_again_json(opt, &run->root);
	return r < 0 ? log_ret(r, "out of memory")
		     : instance_save(&run->instance, state);
}

/* A failure here leaves nothing for finish() to do but freeing. */
static int prepare(struct run *run, struct run_options *opt)
{
	struct rootfs_options options = {0};
	int r = 0;

	if (run->opt->max_image &&
	    (util_parse_size(run->opt->max_image, &options.max_bytes) < 0 ||
	     options.max_bytes == 0))
		r = log_ret(-EINVAL,
			    "--max-image-size '%s': not a size: use a number "
			    "with K, M or G",
			    run->opt->max_image);
	if (r == 0 && opt->bundle) {
		r = run_bundle_load(&run->state.spec, opt, &run->root);
	} else if (r == 0) {
		r = rootfs_open(opt->root, &options, &run->root);
		if (r == 0)
			r = run_spec_make(&run->state.spec, opt, &run->root);
	}
	trace_mark(opt->marks, TRACE_ROOT);
	if (r == 0) {
		r = run_stop_signal(run->opt, &run->root.config);
		run->state.stop_signal = r;
	}
	if (r < 0)
		return r;
	run_hold_signals(run);
	r = instance_create(run->opt->name, &run->instance);
	if (r < 0) {
		run_release_signals(run);
		return r;
	}
	if (!run->state.spec.hostname && !opt->bundle)
		r = spec_set_text(&run->state.spec.hostname,
				  run->instance.name);
	if (r == 0)
		r = run_machine_make(&run->machine, &run->state.spec, run->opt,
				     &run->root, &run->instance);
	if (r == 0)
		r = make_state(run);
	trace_mark(opt->marks, TRACE_INSTANCE);
	if (r < 0) {
		(void)instance_remove(&run->instance, true);
		run_release_signals(run);
	}
	return r;
}

static void run_done(struct run *run)
{
	run_machine_done(&run->machine);
	instance_state_done(&run->state);
	instance_done(&run->instance);
	rootfs_close(&run->root);
}

static int set_log_level(const struct run_options *opt)
{
	enum log_level level = LOG_WARN;

	if (opt->log_level && log_parse_level(opt->log_level, &level) < 0)
		return usage_error("run",
				   "--log-level '%s': not one of error, warn, "
				   "info, debug",
				   opt->log_level);
	log_setup(level, false);
	return 0;
}

static int begin_trace(struct run_options *opt)
{
	if (opt->trace && opt->detach)
		return usage_error("run", "--trace: not together with "
					  "--detach, which prints nothing at "
					  "the end");
	return trace_option("run", opt->trace, &opt->marks);
}

/* One that is there is no reason to do anything. */
static int make_template(struct run *run)
{
	const char *name = template_name(run->machine.template);
	int status = VM_EXIT_OK;

	if (!name) {
		log_error("such a machine can have no template: see "
			  "TEMPLATES in bulkhead-run(1)");
		status = RUN_EXIT_FAILED;
	} else if (template_is_wanted(run->machine.template)) {
		return supervise(run, -1);
	} else if (!template_snapshot(run->machine.template)) {
		log_error("template %s: another process makes it just now",
			  name);
		status = RUN_EXIT_FAILED;
	}
	(void)instance_remove(&run->instance, true);
	return status;
}

static int start(struct run *run)
{
	const struct run_options *opt = run->opt;

	if (opt->template_only)
		return make_template(run);
	return opt->detach ? supervise_detached(run) : supervise(run, -1);
}

/*
 * The name of the template on standard output, once it is there. True: that is
 * one without a container, from which another one is made.
 */
static bool say_template(const struct run *run, bool last)
{
	if (!last && template_lacks_container(run->machine.template))
		return true;
	puts(template_name(run->machine.template));
	return false;
}

/* *RET_AGAIN: once more, as another machine, unless this is the LAST one. */
static int run_once(struct run_options *opt, bool last, bool *ret_again)
{
	struct run run = {
		.opt = opt,
		.root.hold = -1,
		.machine.initrd_fd = -1,
	};
	int status = RUN_EXIT_FAILED;

	*ret_again = false;
	instance_init(&run.instance);
	if (prepare(&run, opt) == 0)
		status = start(&run);
	if (opt->template_only && status == VM_EXIT_OK)
		*ret_again = say_template(&run, last);
	if (*ret_again)
		run_release_signals(&run);
	run_done(&run);
	return status;
}

static int run_main(int argc, char **argv, bool template_only, bool waits)
{
	struct run_options opt = {
		.forward_signals = true,
		.template_only = template_only,
		.waits = waits,
	};
	int status = RUN_EXIT_FAILED;
	int r = run_options_parse(&opt, argc, argv);

	if (r == OPTIONS_HELP) {
		status = VM_EXIT_OK;
	} else if (r == 0 && set_log_level(&opt) == 0 &&
		   begin_trace(&opt) == 0) {
		bool again = false;

		instance_sweep();
		status = run_once(&opt, false, &again);
		if (again)
			status = run_once(&opt, true, &again);
	}
	trace_finish(opt.marks, false);
	run_options_done(&opt);
	return status;
}

int cmd_run(int argc, char **argv)
{
	return run_main(argc, argv, false, false);
}

int cmd_run_template(int argc, char **argv)
{
	return run_main(argc, argv, true, false);
}

int cmd_run_template_waiting(int argc, char **argv)
{
	return run_main(argc, argv, true, true);
}
