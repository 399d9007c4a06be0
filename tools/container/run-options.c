/* SPDX-License-Identifier: Apache-2.0 */
/* The options of `bulkhead run`: Docker's names and letters. */
#include "tools/container/run.h"

#include "tools/cli/docker.h"
#include "tools/cli/usage.h"

#include <stddef.h>
#include <string.h>

#define AT(member) offsetof(struct run_options, member)

static const struct option_entry entries[] = {
	{"interactive", 'i', NULL, OPTION_FLAG, AT(interactive),
	 "Standard input and output",
	 "give the command this standard input [/dev/null]"},
	{"tty", 't', NULL, OPTION_FLAG, AT(tty), NULL,
	 "give the command a terminal"},
	{"detach", 'd', NULL, OPTION_FLAG, AT(detach), NULL,
	 "run in the background; print the name"},
	{"sig-proxy", 0, NULL, OPTION_FLAG, AT(forward_signals), NULL,
	 "pass signals on to the command [true]"},

	{"entrypoint", 0, "FILE", OPTION_TEXT, AT(entrypoint), "The command",
	 "run FILE instead of the image's entry point"},
	{"env", 'e', "NAME[=VALUE]", OPTION_LIST, AT(env), NULL,
	 "set NAME, or copy it from this environment"},
	{"env-file", 0, "FILE", OPTION_LIST, AT(env_files), NULL,
	 "set variables from the lines of a file"},
	{"workdir", 'w', "DIR", OPTION_TEXT, AT(workdir), NULL,
	 "start in DIR [the image's, else /]"},
	{"user", 'u', "USER[:GROUP]", OPTION_TEXT, AT(user), NULL,
	 "run as USER, name or number [the image's]"},
	{"group-add", 0, "GROUP", OPTION_LIST, AT(groups), NULL,
	 "add the user to GROUP"},
	{"cap-add", 0, "CAP", OPTION_LIST, AT(cap_add), NULL,
	 "add a capability, or ALL"},
	{"cap-drop", 0, "CAP", OPTION_LIST, AT(cap_drop), NULL,
	 "remove a capability, or ALL"},
	{"privileged", 0, NULL, OPTION_FLAG, AT(privileged), NULL,
	 "all capabilities, hide nothing in /proc and /sys"},
	{"security-opt", 0, "OPTION", OPTION_LIST, AT(security), NULL,
	 "no-new-privileges, or seccomp=FILE, a filter of calls"},
	{"ulimit", 0, "NAME=SOFT[:HARD]", OPTION_LIST, AT(ulimits), NULL,
	 "set a limit: nofile=1024:4096"},
	{"pids-limit", 0, "N", OPTION_TEXT, AT(pids_limit), NULL,
	 "at most N processes; -1: no limit [2 for each MiB]"},
	{"init", 0, NULL, OPTION_FLAG, AT(init), NULL,
	 "run below a process that reaps orphans"},
	{"stop-signal", 0, "SIGNAL", OPTION_TEXT, AT(stop_signal), NULL,
	 "`bulkhead stop` sends it [the image's, else TERM]"},

	{"name", 0, "NAME", OPTION_TEXT, AT(name), "The container",
	 "its name [12 random digits]"},
	{"bundle", 0, "DIR", OPTION_TEXT, AT(bundle), NULL,
	 "run the OCI bundle DIR as its config.json says"},
	{"rm", 0, NULL, OPTION_FLAG, AT(remove), NULL,
	 "remove its status and log when it ends"},
	{"label", 'l', "NAME[=VALUE]", OPTION_LIST, AT(labels), NULL,
	 "label it, for `ps --filter` and `inspect`"},
	{"hostname", 'h', "NAME", OPTION_TEXT, AT(hostname), NULL,
	 "its host name [its name]"},
	{"read-only", 0, NULL, OPTION_FLAG, AT(readonly), NULL,
	 "let nobody write to its root"},
	{"rootfs-write", 0, NULL, OPTION_FLAG, AT(rootfs_write), NULL,
	 "write changes to ROOT [lose them at the end]"},
	{"volume", 'v', "SRC:DST[:ro,shared]", OPTION_LIST, AT(volumes), NULL,
	 "show the host's directory, file or volume SRC as DST"},
	{"mount", 0, "KEY=VALUE,...", OPTION_LIST, AT(mounts), NULL,
	 "type=bind|volume|tmpfs,src=,dst=,readonly,shared,locks="},
	{"tmpfs", 0, "DIR[:OPTIONS]", OPTION_LIST, AT(tmpfs), NULL,
	 "an empty directory in memory: size=64m,mode=1777"},
	{"shm-size", 0, "SIZE", OPTION_TEXT, AT(shm_size), NULL,
	 "size of /dev/shm [64M]"},
	{"sysctl", 0, "NAME=VALUE", OPTION_LIST, AT(sysctls), NULL,
	 "set a parameter of its kernel"},

	{"network", 0, "none|user|namespace|tap=NAME", OPTION_TEXT, AT(network),
	 "The network", "[user with passt and a default route, else none]"},
	{"net", 0, "NETWORK", OPTION_TEXT, AT(network), NULL,
	 "the same as --network"},
	{"publish", 'p', "[IP:][HOST:]PORT", OPTION_LIST, AT(publish), NULL,
	 "forward the host's port HOST [a free one]"},
	{"dns", 0, "ADDRESS", OPTION_LIST, AT(dns), NULL,
	 "a name server [as the host]"},
	{"dns-search", 0, "DOMAIN", OPTION_LIST, AT(search), NULL,
	 "a domain to search names in"},
	{"add-host", 0, "NAME:ADDRESS", OPTION_LIST, AT(hosts), NULL,
	 "a line of /etc/hosts"},

	{"memory", 'm', "SIZE", OPTION_TEXT, AT(memory), "The machine",
	 "its memory [512M]"},
	{"cpus", 0, "N", OPTION_TEXT, AT(cpus), NULL,
	 "its CPUs, also in part, as in 1.5 [1]"},
	{"max-image-size", 0, "SIZE", OPTION_TEXT, AT(max_image), NULL,
	 "unpack no image that is larger [32G]"},
	{"kernel", 0, "FILE", OPTION_TEXT, AT(kernel), NULL,
	 "its kernel; distro: the system's [the project's]"},
	{"guest-runtime", 0, "direct|crun", OPTION_TEXT, AT(guest_runtime),
	 NULL, "program that starts the container [direct]"},
	{"cold", 0, NULL, OPTION_FLAG, AT(cold), NULL,
	 "boot it, instead of going on from a template"},
	{"append", 0, "TEXT", OPTION_TEXT, AT(append), NULL,
	 "add TEXT to the kernel command line"},
	{"no-sandbox", 0, NULL, OPTION_FLAG, AT(no_sandbox), NULL,
	 "do not confine the monitor (for debugging it)"},
	{"trace", 0, "boot", OPTION_TEXT, AT(trace), NULL,
	 "print where its time goes, at the end"},
	{"log-level", 0, "LEVEL", OPTION_TEXT, AT(log_level), NULL,
	 "error, warn, info or debug [warn]"},
	{0},
};

static const char synopsis[] =
	"usage: bulkhead run [OPTION]... ROOT [--] [COMMAND [ARGUMENT]...]\n"
	"       bulkhead run [OPTION]... --bundle DIR\n"
	"\n"
	"Runs a command in a virtual machine of its own. ROOT is a directory, "
	"an OCI\n"
	"layout, an archive of 'docker save', or the name of an image that was "
	"used\n"
	"before (bulkhead images).\n";

static const char notes[] =
	"\n"
	"Changes to ROOT are lost when the machine ends, unless "
	"--rootfs-write\n"
	"is given. Changes to volumes are kept.\n"
	"\n"
	"Exit status: the command's; 125 it could not be started by bulkhead, "
	"126 it\n"
	"cannot be executed, 127 it was not found.\n"
	"\n"
	"Examples:\n"
	"  bulkhead run --rm debian/ cat /etc/os-release\n"
	"  bulkhead run --rm -it alpine.tar sh\n"
	"  bulkhead run -d --name web -p 8080:80 -v $PWD:/www:ro nginx.tar\n"
	"  bulkhead logs -f web; bulkhead exec -it web sh; bulkhead stop web\n"
	"  bulkhead run --rm --network tap=tap0,address=10.0.0.2/24,"
	"gateway=10.0.0.1 \\\n"
	"      debian/ ping -c 1 10.0.0.1\n";

static const struct option_table table = {
	.command = "run",
	.synopsis = synopsis,
	.entries = entries,
	.notes = notes,
	.refused = docker_option,
};

int run_options_parse(struct run_options *opt, int argc, char **argv)
{
	int n = options_parse(&table, opt, argc, argv);

	if (n < 0)
		return n;
	if (opt->bundle && n != argc) {
		usage_error("run",
			    "'%s': --bundle names root and command, nothing "
			    "follows",
			    argv[n]);
		return OPTIONS_ERROR;
	}
	if (opt->bundle)
		return 0;
	if (n == argc) {
		usage_error("run", "no root: give a directory or an image");
		return OPTIONS_ERROR;
	}
	opt->root = argv[n++];
	if (n < argc && strcmp(argv[n], "--") == 0)
		n++;
	opt->args = &argv[n];
	return 0;
}

void run_options_done(struct run_options *opt)
{
	struct option_list *const lists[] = {
		&opt->env,     &opt->env_files, &opt->volumes,  &opt->tmpfs,
		&opt->publish, &opt->cap_add,   &opt->cap_drop, &opt->groups,
		&opt->ulimits, &opt->security,  &opt->dns,      &opt->search,
		&opt->hosts,   &opt->sysctls,   &opt->mounts,   &opt->labels,
	};

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
		option_list_done(lists[i]);
}
