/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command: what the image says of it, and what the user says instead. The
 * rules are Docker's.
 */
#include "tools/container/run.h"

#include "firmware/agent/agent-names.h"
#include "firmware/agent/agent.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>

#define LAST_CAPABILITY  40 /* CAP_CHECKPOINT_RESTORE, Linux 5.9 */
#define ALL_CAPABILITIES ((UINT64_C(2) << LAST_CAPABILITY) - 1)

/*
 * An entry point of the user's own takes the image's arguments away; arguments
 * of the user's take the place of the image's.
 */
static int make_argv(struct run_process *run, const struct run_options *opt,
		     const struct rootfs_config *image)
{
	const char *const *args = (const char *const *)opt->args;
	int r = 0;

	if (opt->entrypoint && opt->entrypoint[0])
		r = text_list_add(&run->argv, opt->entrypoint);
	else if (!opt->entrypoint && image->entrypoint)
		r = text_list_add_all(&run->argv,
				      (const char *const *)image->entrypoint);
	if (r == 0 && !args[0] && !opt->entrypoint)
		args = (const char *const *)image->cmd;
	if (r == 0)
		r = text_list_add_all(&run->argv, args);
	if (r == 0 && run->argv.count == 0)
		r = log_ret(-EINVAL,
			    "no command: '%s' names none, and none is given",
			    opt->root);
	run->process.argv = text_list_items(&run->argv);
	return r;
}

static int make_env(struct run_process *run, const struct run_options *opt,
		    const struct rootfs_config *image)
{
	int r = 0;

	for (char **item = image->env; r == 0 && item && *item; item++)
		r = env_set(&run->env, *item);
	for (unsigned i = 0; r == 0 && i < opt->env_files.count; i++)
		r = env_set_file(&run->env, opt->env_files.item[i]);
	for (unsigned i = 0; r == 0 && i < opt->env.count; i++)
		r = env_set_option(&run->env, opt->env.item[i]);
	run->process.env = text_list_items(&run->env);
	return r;
}

/* The option, else the image's, copied; NULL where neither says anything. */
static int choose(const char *option, const char *image, char **ret)
{
	const char *text = option ? option : image;

	if (!text || text[0] == '\0')
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : log_ret(-ENOMEM, "out of memory");
}

static int make_identity(struct run_process *run, const struct run_options *opt,
			 const struct rootfs_config *image)
{
	int r;

	if (opt->workdir && opt->workdir[0] != '/')
		return log_ret(-EINVAL,
			       "--workdir '%s': must begin with '/': it is a "
			       "path in the container",
			       opt->workdir);
	r = choose(opt->workdir, image->workdir, &run->cwd);
	if (r == 0)
		r = choose(opt->user, image->user, &run->user);
	for (unsigned i = 0; r == 0 && i < opt->groups.count; i++)
		r = text_list_add(&run->groups, opt->groups.item[i]);
	run->process.cwd = run->cwd;
	run->process.user = run->user;
	run->process.groups = text_list_items(&run->groups);
	return r;
}

/* ---- capabilities */

static int change_caps(const char *option, const struct option_list *list,
		       bool add, uint64_t *caps)
{
	for (unsigned i = 0; i < list->count; i++) {
		const char *name = list->item[i];
		uint64_t mask = ALL_CAPABILITIES;
		int n = 0;

		if (strcasecmp(name, "ALL") != 0) {
			n = agent_capability(name);
			mask = UINT64_C(1) << (n > 0 ? n : 0);
		}
		if (n < 0)
			return log_ret(-EINVAL,
				       "%s '%s': no such capability; they are "
				       "called like NET_ADMIN, see "
				       "capabilities(7)",
				       option, name);
		*caps = add ? *caps | mask : *caps & ~mask;
	}
	return 0;
}

/* "--cap-drop ALL --cap-add X" leaves X, in whatever order they are given. */
int run_caps(const struct run_options *opt, uint64_t *ret)
{
	uint64_t caps = opt->privileged ? ALL_CAPABILITIES : AGENT_CAPS_DEFAULT;
	int r = 0;

	for (unsigned i = 0; i < opt->cap_drop.count; i++)
		if (strcasecmp(opt->cap_drop.item[i], "ALL") == 0)
			caps = 0;
	r = change_caps("--cap-add", &opt->cap_add, true, &caps);
	for (unsigned i = 0; r == 0 && i < opt->cap_drop.count; i++) {
		const struct option_list one = {&opt->cap_drop.item[i], 1};

		if (strcasecmp(opt->cap_drop.item[i], "ALL") != 0)
			r = change_caps("--cap-drop", &one, false, &caps);
	}
	*ret = caps;
	return r;
}

/* The text behind "seccomp=" in an option; NULL: it is another option. */
static const char *seccomp_value(const char *text)
{
	return strncmp(text, "seccomp=", 8) == 0 ||
			       strncmp(text, "seccomp:", 8) == 0
		       ? text + 8
		       : NULL;
}

const char *run_seccomp_file(const struct run_options *opt)
{
	const char *file = NULL;

	for (unsigned i = 0; i < opt->security.count; i++) {
		const char *value = seccomp_value(opt->security.item[i]);

		if (value)
			file = strcmp(value, "unconfined") == 0 ? NULL : value;
	}
	return file;
}

static int make_security(struct run_process *run, const struct run_options *opt)
{
	for (unsigned i = 0; i < opt->security.count; i++) {
		const char *text = opt->security.item[i];

		if (seccomp_value(text))
			continue;
		if (strcmp(text, "no-new-privileges") != 0 &&
		    strcmp(text, "no-new-privileges=true") != 0 &&
		    strcmp(text, "no-new-privileges:true") != 0)
			return log_ret(-EINVAL,
				       "--security-opt '%s': only "
				       "no-new-privileges and seccomp= are "
				       "known: the machine itself is the wall",
				       text);
		run->process.no_new_privs = true;
	}
	return 0;
}

/* ---- limits */

static int parse_limit(const char *text, rlim_t *ret)
{
	uint64_t value;

	if (strcmp(text, "-1") == 0 || strcmp(text, "unlimited") == 0) {
		*ret = RLIM_INFINITY;
		return 0;
	}
	if (util_parse_number(text, 0, UINT64_MAX - 1, &value) < 0)
		return -EINVAL;
	*ret = value;
	return 0;
}

int run_ulimit_parse(const char *text, struct agent_rlimit_value *ret)
{
	autofree char *copy = strdup(text);
	char *value = copy ? strchr(copy, '=') : NULL;
	char *hard;

	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	ret->resource = -1;
	if (value) {
		*value++ = '\0';
		for (unsigned i = 0; agent_limit_name(i); i++)
			if (strcasecmp(agent_limit_name(i), copy) == 0)
				ret->resource = (int)i;
	}
	if (ret->resource < 0)
		return log_ret(-EINVAL,
			       "--ulimit '%s': expected a limit like "
			       "nofile=1024:4096",
			       text);
	hard = strchr(value, ':');
	if (hard)
		*hard++ = '\0';
	if (parse_limit(value, &ret->limit.rlim_cur) < 0 ||
	    parse_limit(hard ? hard : value, &ret->limit.rlim_max) < 0 ||
	    ret->limit.rlim_cur > ret->limit.rlim_max)
		return log_ret(-EINVAL,
			       "--ulimit '%s': expected whole numbers, the "
			       "soft limit not above the hard one, or "
			       "'unlimited'",
			       text);
	return 0;
}

static int make_rlimits(struct run_process *run, const struct run_options *opt)
{
	if (opt->ulimits.count > RUN_RLIMITS_MAX)
		return log_ret(-E2BIG, "--ulimit: more than %d of them",
			       RUN_RLIMITS_MAX);
	for (unsigned i = 0; i < opt->ulimits.count; i++) {
		int r = run_ulimit_parse(opt->ulimits.item[i],
					 &run->rlimits[i]);

		if (r < 0)
			return r;
	}
	run->process.rlimits = run->rlimits;
	run->process.nrlimits = opt->ulimits.count;
	return 0;
}

/* ---- the rest */

static int make_terminal(struct run_process *run, const struct run_options *opt)
{
	struct winsize size = {0};

	if (opt->tty && opt->interactive && !opt->detach &&
	    !isatty(STDIN_FILENO))
		return log_ret(-ENOTTY,
			       "-it: standard input is not a terminal; leave "
			       "out -t");
	if (opt->tty && !opt->detach &&
	    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	run->process.rows = size.ws_row;
	run->process.columns = size.ws_col;
	return 0;
}

static int make_stop_signal(struct run_process *run,
			    const struct run_options *opt,
			    const struct rootfs_config *image)
{
	const char *name =
		opt->stop_signal ? opt->stop_signal : image->stop_signal;

	run->stop_signal = SIGTERM;
	if (!name || name[0] == '\0')
		return 0;
	run->stop_signal = agent_signal_number(name);
	if (run->stop_signal > 0)
		return 0;
	return log_ret(-EINVAL, "--stop-signal '%s': no such signal", name);
}

int run_process_make(struct run_process *run, const struct run_options *opt,
		     const struct rootfs_config *image)
{
	int r;

	run->process.main = true;
	run->process.init = opt->init;
	run->process.tty = opt->tty;
	run->process.input = opt->interactive;
	r = make_argv(run, opt, image);
	if (r == 0)
		r = make_env(run, opt, image);
	if (r == 0)
		r = make_identity(run, opt, image);
	if (r == 0)
		r = run_caps(opt, &run->process.caps);
	if (r == 0)
		r = make_security(run, opt);
	if (r == 0)
		r = make_rlimits(run, opt);
	if (r == 0)
		r = make_terminal(run, opt);
	return r < 0 ? r : make_stop_signal(run, opt, image);
}

void run_process_done(struct run_process *run)
{
	text_list_done(&run->argv);
	text_list_done(&run->env);
	text_list_done(&run->groups);
	free(run->cwd);
	free(run->user);
}
