/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead exec`: another process in a running instance. */
#include "tools/cmd/cmd.h"

#include "tools/agent/agent.h"
#include "tools/instance/instance.h"
#include "tools/cli/env.h"
#include "tools/cli/options.h"
#include "tools/container/run.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/streams.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#define CONNECT_TIMEOUT_MS 10000

struct request {
	bool interactive, tty, detach, privileged;
	const char *workdir, *user, *process;
	struct option_list env, env_files;
	char *const *argv; /* ends with NULL */
};

#define AT(member) offsetof(struct request, member)

static const struct option_entry entries[] = {
	{"interactive", 'i', NULL, OPTION_FLAG, AT(interactive), NULL,
	 "give the command this standard input [/dev/null]"},
	{"tty", 't', NULL, OPTION_FLAG, AT(tty), NULL,
	 "give the command a terminal"},
	{"detach", 'd', NULL, OPTION_FLAG, AT(detach), NULL,
	 "do not wait for its end; its output is lost"},
	{"env", 'e', "NAME[=VALUE]", OPTION_LIST, AT(env), NULL,
	 "set a variable in addition to the container's"},
	{"env-file", 0, "FILE", OPTION_LIST, AT(env_files), NULL,
	 "set variables from the lines of a file"},
	{"workdir", 'w', "DIR", OPTION_TEXT, AT(workdir), NULL,
	 "start in DIR [as the container's command]"},
	{"user", 'u', "USER[:GROUP]", OPTION_TEXT, AT(user), NULL,
	 "run as USER [as the container's command]"},
	{"privileged", 0, NULL, OPTION_FLAG, AT(privileged), NULL,
	 "give it all capabilities"},
	{"process", 0, "FILE", OPTION_TEXT, AT(process), NULL,
	 "run what FILE says, a \"process\" of OCI's specification"},
	{0},
};

static const struct option_table table = {
	.command = "exec",
	.synopsis = "usage: bulkhead exec [OPTION]... NAME COMMAND "
		    "[ARGUMENT]...\n"
		    "       bulkhead exec [-i] [-d] --process FILE NAME\n"
		    "\n"
		    "Runs another command in a running instance.\n",
	.entries = entries,
	.notes = "\nExit status: the command's; 125 it could not be started "
		 "by bulkhead, 126 it\n"
		 "cannot be executed, 127 it was not found.\n"
		 "\nExamples:\n"
		 "  bulkhead exec -it web sh\n"
		 "  tar c src | bulkhead exec -i web tar x -C /tmp\n",
};

static void fill_size(const struct request *req, struct spec_process *process)
{
	struct winsize size = {0};

	/* The file's own size is for a terminal that this command is not on. */
	if (req->process && (!req->tty || req->detach || !req->interactive))
		return;
	if (req->tty && !req->detach &&
	    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) < 0)
		(void)ioctl(STDIN_FILENO, TIOCGWINSZ, &size);
	process->console_height = size.ws_row;
	process->console_width = size.ws_col;
}

/* The file's process takes the place of the container's own, whole. */
static int take_file(struct request *req, struct spec_process *process)
{
	struct spec_process file = {0};
	int r = spec_process_read_file(req->process, &file);

	if (r == 0)
		r = run_check_walls(&file, NULL);
	if (r < 0) {
		spec_process_done(&file);
		return r;
	}
	spec_process_done(process);
	*process = file;
	req->tty = file.terminal;
	return 0;
}

static int check_terminal(const struct request *req)
{
	if (req->tty && req->interactive && !req->detach &&
	    !isatty(STDIN_FILENO))
		return log_ret(-ENOTTY,
			       "%s: standard input is not a terminal; "
			       "leave out %s",
			       req->process ? req->process : "-it",
			       req->process ? "-i, or its \"terminal\"" : "-t");
	return 0;
}

/* Makes of the container's own process the one that is asked for. */
static int make_process(struct request *req, struct spec_process *process)
{
	int r = 0;

	if (req->process) {
		r = take_file(req, process);
		if (r == 0)
			r = check_terminal(req);
		fill_size(req, process);
		return r;
	}
	text_list_done(&process->args);
	r = text_list_add_all(&process->args, (const char *const *)req->argv);
	for (unsigned i = 0; r == 0 && i < req->env_files.count; i++)
		r = env_set_file(&process->env, req->env_files.item[i]);
	for (unsigned i = 0; r == 0 && i < req->env.count; i++)
		r = env_set_option(&process->env, req->env.item[i]);
	if (r == 0 && req->workdir)
		r = spec_set_text(&process->cwd, req->workdir);
	if (r == 0 && req->user)
		r = spec_set_text(&process->user.username, req->user);
	if (req->privileged)
		process->capabilities = (struct spec_capabilities){
			.bounding = UINT64_MAX,
			.effective = UINT64_MAX,
			.permitted = UINT64_MAX,
		};
	process->terminal = req->tty;
	fill_size(req, process);
	return r;
}

/* In the foreground until its end. */
static int relay(const struct request *req, struct agent_session *agent)
{
	const struct agent_relay relay = {
		.in_fd = req->interactive && !req->detach ? STDIN_FILENO : -1,
		.out_fd = req->detach ? -1 : STDOUT_FILENO,
		.err_fd = req->detach ? -1 : STDERR_FILENO,
		.tty = req->tty && req->interactive && !req->detach,
		.forward_signals = true,
		.gone_fd = -1,
	};
	struct agent_status status;
	int r = agent_relay(agent, &relay, &status);

	if (r == -ECONNRESET)
		log_error("the instance ended before the command");
	/* The machine has ended, and the command with it: killed. */
	return r == -ECONNRESET || r == -EINTR ? INSTANCE_KILLED
	       : r < 0                         ? RUN_EXIT_FAILED
					       : status.status;
}

/* The kernel hangs a terminal up when its session ends, so a process stays. */
static int relay_behind(const struct request *req, struct agent_session *agent)
{
	static const int none[3] = {STREAM_NULL, STREAM_NULL, STREAM_NULL};
	pid_t pid = fork();

	if (pid < 0)
		return log_ret(RUN_EXIT_FAILED, "cannot fork: %s",
			       strerror(errno));
	if (pid > 0)
		return VM_EXIT_OK;
	return streams_detach(none) == 0 && chdir("/") == 0 ? relay(req, agent)
							    : RUN_EXIT_FAILED;
}

static int start(const struct request *req, const struct spec_process *spec,
		 const struct spec_filter *filter, struct agent_session *agent)
{
	const struct agent_start_options options = {
		.input = req->interactive && !req->detach,
		.filter = filter,
	};
	struct agent_failure failure;
	int r = agent_start(agent, spec, &options, &failure, NULL);

	if (r == -EREMOTEIO)
		return log_ret(failure.status, "%s", failure.text);
	if (r < 0)
		return RUN_EXIT_FAILED;
	if (!req->detach)
		return relay(req, agent);
	return req->tty ? relay_behind(req, agent) : VM_EXIT_OK;
}

static int run(struct request *req, const struct instance *instance)
{
	struct instance_state state;
	struct spec_filter filter = {0};
	struct agent_session *agent = NULL;
	int status = RUN_EXIT_FAILED;

	if (instance_load(instance, &state) < 0)
		return log_ret(RUN_EXIT_FAILED, "'%s' has not started yet",
			       instance->name);
	if (instance_is_alive(instance) && state.phase == INSTANCE_PAUSED)
		log_error("'%s' is paused: 'bulkhead resume %s' first",
			  instance->name, instance->name);
	else if (!instance_is_alive(instance) ||
		 state.phase != INSTANCE_RUNNING)
		log_error("'%s' does not run", instance->name);
	else if (!state.spec.has_process)
		log_error("'%s': its state.json describes no process",
			  instance->name);
	else if (make_process(req, &state.spec.process) == 0 &&
		 spec_filter_make(instance->name, &state.spec.linux_part,
				  &filter) == 0 &&
		 agent_connect(instance->socket, CONNECT_TIMEOUT_MS, &agent) ==
			 0)
		status = start(req, &state.spec.process, &filter, agent);
	agent_free(agent);
	spec_filter_done(&filter);
	instance_state_done(&state);
	return status;
}

static int check(const struct request *req)
{
	if (req->process &&
	    (req->workdir || req->user || req->env.count ||
	     req->env_files.count || req->tty || req->privileged))
		return log_ret(-EINVAL,
			       "--process '%s': the file says all of the "
			       "process; only -i and -d go with it",
			       req->process);
	if (req->workdir && req->workdir[0] != '/')
		return log_ret(-EINVAL,
			       "--workdir '%s': must begin with '/': it is a "
			       "path in the container",
			       req->workdir);
	return check_terminal(req);
}

int cmd_exec(int argc, char **argv)
{
	struct request req = {0};
	struct instance instance;
	int n = options_parse(&table, &req, argc, argv);
	int status = n == OPTIONS_HELP ? VM_EXIT_OK : RUN_EXIT_FAILED;

	if (n >= 0 && !req.process && argc - n < 2) {
		usage_error("exec", "give an instance's name and a command");
	} else if (n >= 0 && req.process && argc - n != 1) {
		usage_error("exec",
			    "--process '%s' names the command; give an "
			    "instance's name, and nothing else",
			    req.process);
	} else if (n >= 0 && check(&req) == 0) {
		req.argv = &argv[n + 1];
		instance_sweep();
		if (instance_open(argv[n], &instance) == 0) {
			status = run(&req, &instance);
			instance_done(&instance);
		}
	}
	option_list_done(&req.env);
	option_list_done(&req.env_files);
	return status;
}
