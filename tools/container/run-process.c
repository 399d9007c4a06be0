/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command: what the image says of it, and what the user says instead. The
 * rules are Docker's.
 */
#include "tools/container/run.h"

#include "firmware/agent/agent-names.h"
#include "firmware/agent/agent.h"
#include "tools/cli/env.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#define LAST_CAPABILITY  40 /* CAP_CHECKPOINT_RESTORE, Linux 5.9 */
#define ALL_CAPABILITIES ((UINT64_C(2) << LAST_CAPABILITY) - 1)

/*
 * An entry point of the user's own takes the image's arguments away; arguments
 * of the user's take the place of the image's.
 */
static int make_argv(struct spec_process *process,
		     const struct run_options *opt,
		     const struct rootfs_config *image)
{
	const char *const *args = (const char *const *)opt->args;
	int r = 0;

	if (opt->entrypoint && opt->entrypoint[0])
		r = text_list_add(&process->args, opt->entrypoint);
	else if (!opt->entrypoint && image->entrypoint)
		r = text_list_add_all(&process->args,
				      (const char *const *)image->entrypoint);
	if (r == 0 && !args[0] && !opt->entrypoint)
		args = (const char *const *)image->cmd;
	if (r == 0)
		r = text_list_add_all(&process->args, args);
	/* Where no command is run the root need not have one. */
	if (r == 0 && process->args.count == 0 &&
	    (opt->template_only || opt->waits))
		r = text_list_add(&process->args, "none");
	if (r == 0 && process->args.count == 0)
		r = log_ret(-EINVAL,
			    "no command: '%s' names none, and none is given",
			    opt->root);
	return r;
}

static int make_env(struct spec_process *process, const struct run_options *opt,
		    const struct rootfs_config *image)
{
	int r = 0;

	for (char **item = image->env; r == 0 && item && *item; item++)
		r = text_list_set(&process->env, *item);
	for (unsigned i = 0; r == 0 && i < opt->env_files.count; i++)
		r = env_set_file(&process->env, opt->env_files.item[i]);
	for (unsigned i = 0; r == 0 && i < opt->env.count; i++)
		r = env_set_option(&process->env, opt->env.item[i]);
	return r;
}

/* A copy of the option, else of the image's text, else of USUAL. */
static int choose(const char *option, const char *image, const char *usual,
		  char **ret)
{
	const char *text = option ? option : image;

	return spec_set_text(ret, text && text[0] ? text : usual);
}

static int make_identity(struct spec_process *process,
			 const struct run_options *opt,
			 const struct rootfs_config *image)
{
	int r;

	if (opt->workdir && opt->workdir[0] != '/')
		return log_ret(-EINVAL,
			       "--workdir '%s': must begin with '/': it is a "
			       "path in the container",
			       opt->workdir);
	r = choose(opt->workdir, image->workdir, "/", &process->cwd);
	if (r == 0 && process->cwd[0] != '/')
		r = log_ret(-EINVAL,
			    "'%s': its working directory '%s' does not begin "
			    "with '/'",
			    opt->root, process->cwd);
	if (r == 0)
		r = choose(opt->user, image->user, "0",
			   &process->user.username);
	for (unsigned i = 0; r == 0 && i < opt->groups.count; i++)
		r = text_list_add(&process->user.additional_gids,
				  opt->groups.item[i]);
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

static int make_security(struct spec_process *process,
			 const struct run_options *opt)
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
		process->no_new_privileges = true;
	}
	return 0;
}

/* ---- limits */

static int parse_limit(const char *text, uint64_t *ret)
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

int run_ulimit_parse(const char *text, struct spec_rlimit *ret)
{
	autofree char *copy = strdup(text);
	char *value = copy ? strchr(copy, '=') : NULL;
	char *hard;

	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	ret->type = -1;
	if (value) {
		*value++ = '\0';
		for (unsigned i = 0; agent_limit_name(i); i++)
			if (strcasecmp(agent_limit_name(i), copy) == 0)
				ret->type = (int)i;
	}
	if (ret->type < 0)
		return log_ret(-EINVAL,
			       "--ulimit '%s': expected a limit like "
			       "nofile=1024:4096",
			       text);
	hard = strchr(value, ':');
	if (hard)
		*hard++ = '\0';
	if (parse_limit(value, &ret->soft) < 0 ||
	    parse_limit(hard ? hard : value, &ret->hard) < 0 ||
	    ret->soft > ret->hard)
		return log_ret(-EINVAL,
			       "--ulimit '%s': expected whole numbers, the "
			       "soft limit not above the hard one, or "
			       "'unlimited'",
			       text);
	return 0;
}

static int make_rlimits(struct spec_process *process,
			const struct run_options *opt)
{
	for (unsigned i = 0; i < opt->ulimits.count; i++) {
		struct spec_rlimit limit;
		int r = run_ulimit_parse(opt->ulimits.item[i], &limit);

		if (r < 0)
			return r;
		spec_set_rlimit(process, limit);
	}
	return 0;
}

/* ---- the rest */

/* Nobody can type to it, and it ignores SIGTERM: it would stay for ever. */
static void warn_of_shell(const struct spec_process *process)
{
	static const char *const shells[] = {"sh",  "ash",  "bash", "dash",
					     "ksh", "fish", "zsh"};
	const char *slash, *name;

	if (process->args.count != 1)
		return;
	slash = strrchr(process->args.item[0], '/');
	name = slash ? slash + 1 : process->args.item[0];
	for (unsigned i = 0; i < ARRAY_LEN(shells); i++)
		if (strcmp(name, shells[i]) == 0)
			log_warn("-t without -i: '%s' gets a terminal that "
				 "nobody can type at, and goes on until "
				 "'bulkhead kill': -it gives it this one",
				 name);
}

int run_terminal_make(struct spec_process *process,
		      const struct run_options *opt)
{
	struct winsize size = {0};

	if (opt->tty && opt->interactive && !opt->detach &&
	    !isatty(STDIN_FILENO))
		return log_ret(-ENOTTY,
			       "-it: standard input is not a terminal; leave "
			       "out %s",
			       opt->bundle ? "-i" : "-t");
	if (opt->tty && !opt->interactive && !opt->detach && !opt->bundle)
		warn_of_shell(process);
	if (opt->tty && !opt->detach &&
	    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	/* A bundle has a size of its own, for where there is no terminal. */
	if (size.ws_row || !opt->bundle) {
		process->console_height = size.ws_row;
		process->console_width = size.ws_col;
	}
	return 0;
}

int run_process_paths(const struct spec_process *process, struct text_list *ret)
{
	const char *name = process->args.item[0];
	const char *path = text_list_value(&process->env, "PATH");
	int r = 0;

	if (strchr(name, '/'))
		return text_list_add(ret, name);
	for (path = path ? path : AGENT_PATH; r == 0 && *path;
	     path += strspn(path, ":")) {
		const int n = (int)strcspn(path, ":");
		autofree char *file = NULL;

		if (asprintf(&file, "%.*s/%s", n, path, name) < 0) {
			file = NULL;
			return log_ret(-ENOMEM, "out of memory");
		}
		r = text_list_add(ret, file);
		path += n;
	}
	return r;
}

int run_stop_signal(const struct run_options *opt,
		    const struct rootfs_config *image)
{
	const char *name =
		opt->stop_signal ? opt->stop_signal : image->stop_signal;
	int signal;

	if (!name || name[0] == '\0')
		return SIGTERM;
	signal = agent_signal_number(name);
	return signal > 0 ? signal
			  : log_ret(-EINVAL,
				    "--stop-signal '%s': no such signal", name);
}

/* User 0 has all that the bounding set leaves; others have none to use. */
static int make_caps(struct spec_process *process,
		     const struct run_options *opt)
{
	struct spec_capabilities *c = &process->capabilities;
	int r = run_caps(opt, &c->bounding);

	c->effective = c->permitted = c->bounding;
	return r;
}

int run_process_make(struct spec_process *process,
		     const struct run_options *opt,
		     const struct rootfs_config *image)
{
	int r;

	process->terminal = opt->tty;
	r = make_argv(process, opt, image);
	if (r == 0)
		r = make_env(process, opt, image);
	if (r == 0)
		r = make_identity(process, opt, image);
	if (r == 0)
		r = make_caps(process, opt);
	if (r == 0)
		r = make_security(process, opt);
	if (r == 0)
		r = make_rlimits(process, opt);
	return r < 0 ? r : run_terminal_make(process, opt);
}
