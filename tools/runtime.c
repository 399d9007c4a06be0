/* SPDX-License-Identifier: Apache-2.0 */
/* The program `bulkhead-runtime`: global options, and the command. */
#include "tools/oci/oci.h"

#include "tools/oci/oci-options.h"
#include "vmm/base/log.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct oci_command commands[] = {
	{"create", oci_cmd_create, "create a container"},
	{"start", oci_cmd_start, "start its process"},
	{"run", oci_cmd_create, "create and start one"},
	{"exec", oci_cmd_exec, "start another process in one"},
	{"state", oci_cmd_state, "print the state of one"},
	{"kill", oci_cmd_kill, "send a signal to one"},
	{"delete", oci_cmd_delete, "delete one"},
	{"list", oci_cmd_list, "list containers"},
	{"ps", oci_cmd_ps, "list the host's processes of one"},
	{"pause", oci_cmd_pause, "have one stand still"},
	{"resume", oci_cmd_pause, "let it go on"},
	{"update", oci_cmd_update, "change the limits of one"},
	{"events", oci_cmd_events, "print statistics of one"},
	{"spec", oci_cmd_pass, "write a config.json to begin with"},
	{"features", oci_cmd_features, "print what this runtime can do"},
	{"init", oci_cmd_init, NULL},
	{"join", oci_cmd_join, NULL},
	{"relay", oci_cmd_relay, NULL},
	{0},
};

struct globals {
	const char *root, *log, *log_format, *host, *trace;
	bool debug, systemd_cgroup, cold, help, version;
};

static const struct oci_option options[] = {
	{"root", 0, OCI_OWN_VALUE, offsetof(struct globals, root)},
	{"log", 0, OCI_OWN_VALUE, offsetof(struct globals, log)},
	{"log-format", 0, OCI_OWN_VALUE, offsetof(struct globals, log_format)},
	{"host-runtime", 0, OCI_OWN_VALUE, offsetof(struct globals, host)},
	{"trace", 0, OCI_OWN_VALUE, offsetof(struct globals, trace)},
	{"debug", 0, OCI_OWN_FLAG, offsetof(struct globals, debug)},
	{"systemd-cgroup", 0, OCI_OWN_FLAG,
	 offsetof(struct globals, systemd_cgroup)},
	{"cold", 0, OCI_OWN_FLAG, offsetof(struct globals, cold)},
	{"rootless", 0, OCI_PASS_VALUE, 0},
	{"cgroup-manager", 0, OCI_PASS_VALUE, 0},
	{"criu", 0, OCI_PASS_VALUE, 0},
	{"help", 'h', OCI_OWN_FLAG, offsetof(struct globals, help)},
	{"version", 'v', OCI_OWN_FLAG, offsetof(struct globals, version)},
	{0},
};

static int print_help(int status)
{
	FILE *to = status == 0 ? stdout : stderr;

	fprintf(to, "usage: bulkhead-runtime [OPTIONS] COMMAND [ARGUMENTS]\n\n"
		    "An OCI runtime: containers are virtual machines.\n\n");
	for (const struct oci_command *c = commands; c->name; c++)
		if (c->help)
			fprintf(to, "  %-10s %s\n", c->name, c->help);
	fprintf(to, "\nOptions:\n"
		    "  --root DIR           where state is kept\n"
		    "  --log FILE           errors go there, too\n"
		    "  --log-format FORMAT  text, or json\n"
		    "  --host-runtime PATH  crun or runc [found in PATH]\n"
		    "  --systemd-cgroup     cgroups by systemd\n"
		    "  --cold               machines boot, from no template\n"
		    "  --trace boot[=FILE]  print where a start's time goes\n"
		    "  --debug              say more\n"
		    "\nSee bulkhead-runtime(1).\n");
	return status;
}

static int add(struct text_list *list, const char *name, const char *value)
{
	int r = text_list_add(list, name);

	return r == 0 && value ? text_list_add(list, value) : r;
}

/* Messages go to the engine's log as well. */
static int open_log(const struct globals *g)
{
	const bool json = g->log_format && strcmp(g->log_format, "json") == 0;
	int fd;

	if (g->log_format && !json && strcmp(g->log_format, "text") != 0)
		return log_ret(-EINVAL,
			       "--log-format '%s': known are text and json",
			       g->log_format);
	if (!g->log || !g->log[0])
		return 0;
	fd = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (fd < 0)
		return log_ret(-errno, "--log '%s': %s", g->log,
			       strerror(errno));
	log_copy(fd, json);
	return 0;
}

/* The host's runtime looks at it from a bundle's directory. Allocated. */
static char *absolute(const char *path)
{
	autofree char *cwd = NULL;
	char *whole = NULL;

	if (path[0] == '/')
		return strdup(path);
	cwd = getcwd(NULL, 0);
	return !cwd || asprintf(&whole, "%s/%s", cwd, path) < 0 ? NULL : whole;
}

static char *default_root(void)
{
	const char *dir = getenv("XDG_RUNTIME_DIR");
	char *root = NULL;

	if (oci_is_for_root() || !dir || !dir[0])
		return strdup("/run/bulkhead-runtime");
	return asprintf(&root, "%s/bulkhead-runtime", dir) < 0 ? NULL : root;
}

static int set_up(struct oci *oci, const struct globals *g)
{
	int r = open_log(g);

	if (r == 0 && g->log && g->log[0])
		r = add(&oci->pass, "--log", g->log);
	if (r == 0 && g->log_format)
		r = add(&oci->pass, "--log-format", g->log_format);
	if (r == 0 && g->systemd_cgroup)
		r = add(&oci->pass, "--systemd-cgroup", NULL);
	if (r == 0 && g->debug)
		r = add(&oci->pass, "--debug", NULL);
	if (r < 0)
		return r;
	if (g->root && !g->root[0])
		return log_ret(-EINVAL, "--root: it names no directory");
	if (g->trace && oci_trace_begin(oci, g->trace) < 0)
		return -EINVAL;
	oci->cold = g->cold;
	oci->root = g->root ? absolute(g->root) : default_root();
	/* Later commands for its containers may come from elsewhere. */
	oci->host = g->host ? absolute(g->host) : NULL;
	if (!oci->root || (g->host && !oci->host))
		return log_ret(-ENOMEM, "out of memory");
	return 0;
}

static int run(struct oci *oci, int argc, char **argv)
{
	const char *names[ARRAY_LEN(commands)] = {NULL};
	const struct oci_command *command = commands;
	const char *near;

	while (command->name && strcmp(command->name, argv[0]) != 0)
		command++;
	if (!command->name) {
		for (unsigned i = 0, n = 0; commands[i].name; i++)
			if (commands[i].help)
				names[n++] = commands[i].name;
		near = suggest(argv[0], names);
		return log_ret(OCI_EXIT_FAILED,
			       "'%s': no such command%s%s%s (see "
			       "bulkhead-runtime --help)",
			       argv[0], near ? "; did you mean '" : "",
			       near ? near : "", near ? "'?" : "");
	}
	/* The others are what runs in the outer container. */
	if (!command->help && access(OCI_INSIDE_VM, F_OK) < 0)
		return log_ret(OCI_EXIT_FAILED,
			       "'%s' runs only where `create` and `exec` start "
			       "it, in a container's mount namespace (see "
			       "bulkhead-runtime --help)",
			       argv[0]);
	return command->run(oci, argc, argv);
}

int main(int argc, char **argv)
{
	struct globals globals = {0};
	struct oci oci = {0};
	int status = OCI_EXIT_FAILED;
	int n;

	for (int fd = 0; fd < 3; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return OCI_EXIT_FAILED;
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	argv[0] = (char[]){"bulkhead-runtime"};
	n = oci_options_parse(options, &globals, &oci.pass, argc, argv);
	if (n >= 0 && globals.version)
		status = printf("bulkhead-runtime version " BULKHEAD_VERSION
				"\nspec: 1.0.2\n") < 0;
	else if (n >= 0 && globals.help)
		status = print_help(0);
	else if (n >= 0 && n == argc)
		status = print_help(OCI_EXIT_FAILED);
	else if (n >= 0 && set_up(&oci, &globals) == 0)
		status = run(&oci, argc - n, argv + n);
	trace_free(oci.trace);
	text_list_done(&oci.pass);
	free(oci.root);
	free(oci.host);
	return fflush(stdout) == 0 ? status : OCI_EXIT_FAILED;
}
