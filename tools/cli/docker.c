/* SPDX-License-Identifier: Apache-2.0 */
/* The words, and a line about each. */
#include "tools/cli/docker.h"

#include "vmm/base/util.h"

#include <string.h>

static const char own_kernel[] =
	"the command has a kernel of its own and shares no namespace with the "
	"host";
static const char no_device[] = "the machine has no devices of the host, those "
				"of its own are used with "
				"--privileged; files are shared with -v";
static const char no_limit[] =
	"bulkhead sets no limits on the host: start it with one, as in "
	"'systemd-run --scope -p CPUQuota=150% bulkhead run ...'";
static const char no_fetch[] =
	"images are not fetched: 'skopeo copy docker://NAME "
	"docker-archive:FILE.tar', then 'bulkhead run FILE.tar'";
static const char no_bridge[] =
	"instances have no network in common: reach each by its published "
	"ports (-p), or use a tap";
static const char no_health[] =
	"health checks do not run by themselves: use 'bulkhead exec NAME "
	"COMMAND'";
static const char no_restart[] =
	"an instance is not started again by itself: a service manager can do "
	"that, or 'bulkhead restart'";
static const char one_log[] =
	"there is only one log driver: see 'bulkhead logs'";
static const char no_build[] = "images are not made here: use buildah, podman "
			       "or docker, and 'bulkhead "
			       "run' what they save";

struct word {
	const char *name;
	int letter;
	const char *why;
};

static const struct word options[] = {
	{"annotation", 0, "use --label"},
	{"attach", 'a', "use -i, -t and -d"},
	{"blkio-weight", 0, no_limit},
	{"cgroup-parent", 0, no_limit},
	{"cgroupns", 0, own_kernel},
	{"cidfile", 0, "there is no ID: --name gives it a name"},
	{"cpu-count", 0, "use --cpus"},
	{"cpu-period", 0, no_limit},
	{"cpu-quota", 0, no_limit},
	{"cpu-shares", 'c', no_limit},
	{"cpuset-cpus", 0, "use 'taskset -c LIST bulkhead run ...'"},
	{"device", 0, no_device},
	{"device-cgroup-rule", 0, no_device},
	{"domainname", 0, "use --hostname NAME.DOMAIN"},
	{"expose", 0, "publish a port with -p; it need not be exposed"},
	{"gpus", 0, no_device},
	{"health-cmd", 0, no_health},
	{"health-interval", 0, no_health},
	{"health-retries", 0, no_health},
	{"health-timeout", 0, no_health},
	{"ip", 0, "an address is given to a tap: --network tap=NAME,address="},
	{"ipc", 0, own_kernel},
	{"isolation", 0, "each container is a virtual machine"},
	{"link", 0, no_bridge},
	{"log-driver", 0, one_log},
	{"log-opt", 0, one_log},
	{"mac-address", 0,
	 "an address is given to a tap: --network tap=NAME,mac="},
	{"memory-reservation", 0, no_limit},
	{"memory-swap", 0, "the host's memory is what --memory says, no more"},
	{"memory-swappiness", 0,
	 "the host's memory is what --memory says, no more"},
	{"network-alias", 0, no_bridge},
	{"oom-kill-disable", 0, no_limit},
	{"oom-score-adj", 0, "use 'choom -n NUMBER bulkhead run ...'"},
	{"pid", 0, own_kernel},
	{"platform", 0, "guests are x86-64"},
	{"publish-all", 'P', "name the ports: -p HOST:PORT"},
	{"pull", 0, no_fetch},
	{"restart", 0, no_restart},
	{"runtime", 0, "there is only one runtime: a virtual machine"},
	{"stop-timeout", 0, "use 'bulkhead stop --time SECONDS'"},
	{"storage-opt", 0, "changes are kept in the guest's memory: --memory"},
	{"userns", 0, own_kernel},
	{"uts", 0, own_kernel},
	{"volume-driver", 0, "volumes are directories of the host"},
	{"volumes-from", 0, "name each volume with -v"},
};

static const struct word commands[] = {
	{"build", 0, no_build},
	{"commit", 0, no_build},
	{"compose", 0, no_bridge},
	{"container", 0, "leave the word out: 'bulkhead ps', 'bulkhead rm'"},
	{"create", 0,
	 "'bulkhead run -d' makes and starts it, 'start' starts it again"},
	{"diff", 0, "changes are in the guest's memory"},
	{"export", 0,
	 "'bulkhead cp NAME:/ - >FILE.tar' has /proc and volumes in it, too"},
	{"history", 0, "an image is unpacked as one tree"},
	{"image", 0, "use 'bulkhead images', 'tag' and 'rmi'"},
	{"import", 0, "'bulkhead run' takes directories and archives as such"},
	{"info", 0, "use 'bulkhead check'"},
	{"load", 0,
	 "'bulkhead run' takes archives as such; 'bulkhead tag FILE NAME' "
	 "unpacks one and gives it a name"},
	{"login", 0, no_fetch},
	{"network", 0, no_bridge},
	{"port", 0, "'bulkhead ps' lists them"},
	{"pull", 0, no_fetch},
	{"push", 0, no_build},
	{"rename", 0, "--name gives a name at the start"},
	{"save", 0, no_build},
	{"search", 0, no_fetch},
	{"update", 0, "the machine's size is fixed when it starts"},
};

const char *docker_option(const char *name, int letter)
{
	for (unsigned i = 0; i < ARRAY_LEN(options); i++)
		if (name ? strcmp(options[i].name, name) == 0
			 : options[i].letter && options[i].letter == letter)
			return options[i].why;
	return NULL;
}

const char *docker_command(const char *name)
{
	for (unsigned i = 0; i < ARRAY_LEN(commands); i++)
		if (strcmp(commands[i].name, name) == 0)
			return commands[i].why;
	return NULL;
}
