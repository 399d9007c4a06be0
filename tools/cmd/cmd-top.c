/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead top`: the processes of an instance's container, as `ps -ef` has
 * them. */
#include "tools/cmd/cmd.h"

#include "tools/agent/agent.h"
#include "tools/cli/options.h"
#include "tools/cli/print.h"
#include "tools/cli/usage.h"
#include "tools/instance/instance.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define CONNECT_TIMEOUT_MS 10000
#define DAY_S              86400

struct request {
	bool json;
};

static const struct option_entry entries[] = {
	{"json", 0, NULL, OPTION_FLAG, offsetof(struct request, json), NULL,
	 "print a list of JSON objects"},
	{0},
};

static const struct option_table table = {
	.command = "top",
	.synopsis = "usage: bulkhead top [OPTION]... NAME\n"
		    "\n"
		    "Lists the processes of an instance, by their numbers in "
		    "the container.\n"
		    "The guest's agent looks: the image need not have ps.\n",
	.entries = entries,
	.notes = "\nThe columns are those of `ps -ef`; UID has the "
		 "container's name of the user,\n"
		 "STIME is this host's time. For other columns, the "
		 "container's own ps:\n"
		 "  bulkhead exec web ps -o pid,rss,args\n",
};

/* As ps(1): the hour today, else the day, else the year. */
static void format_start(uint64_t age_ms, char ret[16])
{
	const time_t now = time(NULL);
	const time_t start = now - (time_t)(age_ms / 1000);
	struct tm then = {0}, today = {0};

	localtime_r(&now, &today);
	if (age_ms / 1000 > (uint64_t)now || !localtime_r(&start, &then))
		snprintf(ret, 16, "?");
	else if (now - start < DAY_S)
		strftime(ret, 16, "%H:%M", &then);
	else
		strftime(ret, 16, then.tm_year == today.tm_year ? "%b%d" : "%Y",
			 &then);
}

static void format_time(uint64_t cpu_ms, char ret[32])
{
	const uint64_t s = cpu_ms / 1000;

	if (s >= DAY_S)
		snprintf(ret, 32,
			 "%" PRIu64 "-%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
			 s / DAY_S, s % DAY_S / 3600, s % 3600 / 60, s % 60);
	else
		snprintf(ret, 32, "%02" PRIu64 ":%02" PRIu64 ":%02" PRIu64,
			 s / 3600, s % 3600 / 60, s % 60);
}

/* Percent of one CPU since its start; ps(1) stops at 99. */
static unsigned cpu_percent(const struct agent_top_process *p)
{
	const uint64_t percent =
		p->age_ms >= 1000 ? p->cpu_ms / (p->age_ms / 100 + 1) : 0;

	return (unsigned)min_u64(percent, 99);
}

static void print_table(const struct agent_top *top)
{
	int users = (int)strlen("UID"), ttys = (int)strlen("TTY");

	for (size_t i = 0; i < top->count; i++) {
		const int user = (int)text_length(top->list[i].user);
		const int tty = (int)text_length(top->list[i].tty);

		users = user > users ? user : users;
		ttys = tty > ttys ? tty : ttys;
	}
	printf("%-*s  %6s  %6s  %2s  %5s  %-*s  %8s  %s\n", users, "UID", "PID",
	       "PPID", "C", "STIME", ttys, "TTY", "TIME", "CMD");
	for (size_t i = 0; i < top->count; i++) {
		const struct agent_top_process *p = &top->list[i];
		char start[16], cpu[32];

		format_start(p->age_ms, start);
		format_time(p->cpu_ms, cpu);
		printf("%s%*s  %6u  %6u  %2u  %5s  %-*s  %8s  %s\n", p->user,
		       users - (int)text_length(p->user), "", p->pid, p->ppid,
		       cpu_percent(p), start, ttys, p->tty, cpu, p->command);
	}
}

static int print_list(const struct agent_top *top)
{
	json_t *list = json_array();
	int r;

	for (size_t i = 0; i < top->count; i++) {
		const struct agent_top_process *p = &top->list[i];

		json_array_append_new(
			list,
			json_pack("{s:I, s:I, s:I, s:s, s:s, s:I, s:I, s:s}",
				  "pid", (json_int_t)p->pid, "ppid",
				  (json_int_t)p->ppid, "uid",
				  (json_int_t)p->uid, "user", p->user, "tty",
				  p->tty, "age_ms", (json_int_t)p->age_ms,
				  "cpu_ms", (json_int_t)p->cpu_ms, "command",
				  p->command));
	}
	r = print_json(list, JSON_INDENT(2));
	json_decref(list);
	return r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}

/* The exit status. */
static int look(const struct request *req, const struct instance *instance)
{
	struct agent_session *agent = NULL;
	struct agent_top top = {0};
	int status = INSTANCE_EXIT_FAILED;

	if (agent_connect(instance->socket, CONNECT_TIMEOUT_MS, &agent) == 0 &&
	    agent_get_top(agent, &top) == 0) {
		status = VM_EXIT_OK;
		if (req->json)
			status = print_list(&top);
		else
			print_table(&top);
	}
	agent_top_done(&top);
	agent_free(agent);
	return status;
}

int cmd_top(int argc, char **argv)
{
	struct request req = {0};
	struct instance_state state;
	struct instance instance;
	int n = options_parse(&table, &req, argc, argv);
	int status;

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	if (n == argc)
		return usage_error("top", "give the name of an instance");
	if (n < argc - 1)
		return usage_error("top",
				   "'%s': the columns cannot be chosen: "
				   "'bulkhead exec %s ps' has the container's "
				   "own",
				   argv[n + 1], argv[n]);
	instance_sweep();
	if (instance_open_running(argv[n], &instance, &state) < 0)
		return INSTANCE_EXIT_FAILED;
	status = look(&req, &instance);
	instance_state_done(&state);
	instance_done(&instance);
	return status;
}
