/* SPDX-License-Identifier: Apache-2.0 */
/* Docker's default specification, and OCI's, as tables. */
#include "tools/spec/spec.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define SHM_BYTES (64 * MIB)

/* In the order in which they are mounted. */
static const struct {
	const char *type, *target, *options;
	bool guarded; /* read-only, unless the container is privileged */
} filesystems[] = {
	{"proc", "/proc", "nosuid,nodev,noexec", false},
	{"tmpfs", "/dev", "nosuid,strictatime,mode=755,size=64m", false},
	{"devpts", "/dev/pts",
	 "nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5", false},
	{"mqueue", "/dev/mqueue", "nosuid,nodev,noexec", false},
	{"sysfs", "/sys", "nosuid,nodev,noexec", true},
	{"cgroup", "/sys/fs/cgroup", "nosuid,nodev,noexec", true},
};

static const char *const masked_paths[] = {
	"/proc/acpi",
	"/proc/asound",
	"/proc/interrupts",
	"/proc/kcore",
	"/proc/keys",
	"/proc/latency_stats",
	"/proc/sched_debug",
	"/proc/scsi",
	"/proc/timer_list",
	"/proc/timer_stats",
	"/sys/firmware",
	"/sys/devices/virtual/powercap",
	NULL,
};

static const char *const readonly_paths[] = {
	"/proc/bus",           "/proc/fs", "/proc/irq", "/proc/sys",
	"/proc/sysrq-trigger", NULL,
};

/* The network is the container's own, so any user may use all of it. */
static const char *const sysctls[] = {
	"net.ipv4.ip_unprivileged_port_start=0",
	"net.ipv4.ping_group_range=0 2147483647",
	NULL,
};

static int add_mounts(struct spec *spec, const struct spec_defaults *defaults)
{
	char options[80];

	for (unsigned i = 0; i < ARRAY_LEN(filesystems); i++) {
		const bool ro = filesystems[i].guarded && !defaults->privileged;
		int r;

		snprintf(options, sizeof(options), "%s%s",
			 filesystems[i].options, ro ? ",ro" : "");
		r = spec_add_mount(spec, filesystems[i].target,
				   filesystems[i].type, filesystems[i].type,
				   options);
		if (r < 0)
			return r;
	}
	snprintf(options, sizeof(options),
		 "nosuid,nodev,noexec,mode=1777,size=%llu",
		 (unsigned long long)(defaults->shm_bytes ? defaults->shm_bytes
							  : SHM_BYTES));
	return spec_add_mount(spec, "/dev/shm", "tmpfs", "shm", options);
}

int spec_add_defaults(struct spec *spec, const struct spec_defaults *defaults)
{
	struct spec_linux *l = &spec->linux_part;
	struct spec_device_rule *rule = spec_new_rule(l);
	int r = rule ? add_mounts(spec, defaults) : -ENOMEM;

	if (rule)
		*rule = (struct spec_device_rule){defaults->privileged, 'a', -1,
						  -1, SPEC_ACCESS_ALL};
	l->namespaces = SPEC_NS_PID | SPEC_NS_NETWORK | SPEC_NS_MOUNT |
			SPEC_NS_IPC | SPEC_NS_UTS | SPEC_NS_CGROUP;
	if (r == 0)
		r = text_list_add_all(&l->sysctl, sysctls);
	if (r == 0 && !defaults->privileged)
		r = text_list_add_all(&l->masked_paths, masked_paths);
	if (r == 0 && !defaults->privileged)
		r = text_list_add_all(&l->readonly_paths, readonly_paths);
	return r;
}

/* ---- every container's */

static const struct {
	const char *path;
	uint32_t major, minor;
} nodes[] = {
	{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
	{"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

/*
 * Without the one with which other runtimes allow /dev/console (5:1), too: it
 * leads to the machine's console, and the container's own is a terminal like
 * others.
 */
static const struct spec_device_rule rules[] = {
	{true, 'c', -1, -1, SPEC_ACCESS_MKNOD},
	{true, 'b', -1, -1, SPEC_ACCESS_MKNOD},
	{true, 'c', 1, 3, SPEC_ACCESS_ALL},
	{true, 'c', 1, 5, SPEC_ACCESS_ALL},
	{true, 'c', 1, 7, SPEC_ACCESS_ALL},
	{true, 'c', 1, 8, SPEC_ACCESS_ALL},
	{true, 'c', 1, 9, SPEC_ACCESS_ALL},
	{true, 'c', 5, 0, SPEC_ACCESS_ALL},
	{true, 'c', 5, 2, SPEC_ACCESS_ALL},
	{true, 'c', 136, -1, SPEC_ACCESS_ALL},
};

static int add_node(struct spec_linux *to, const struct spec_device *from,
		    const char *path)
{
	struct spec_device *d = spec_new_device(to);

	if (!d)
		return -ENOMEM;
	*d = *from;
	d->path = NULL;
	return spec_set_text(&d->path, path);
}

static int add_rule(struct spec_linux *to, const struct spec_device_rule *from)
{
	struct spec_device_rule *rule = spec_new_rule(to);

	if (rule)
		*rule = *from;
	return rule ? 0 : -ENOMEM;
}

/* Other runtimes' rule for every container that is missing above. */
static bool is_console(const struct spec_device_rule *r)
{
	return r->allow && r->type == 'c' && r->major == 5 && r->minor == 1;
}

int spec_all_devices(const struct spec_linux *l, struct spec_linux *to)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->ndevices; i++)
		r = add_node(to, &l->devices[i], l->devices[i].path);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(nodes); i++)
		r = add_node(to,
			     &(struct spec_device){.type = 'c',
						   .major = nodes[i].major,
						   .minor = nodes[i].minor,
						   .mode = 0666},
			     nodes[i].path);
	for (size_t i = 0; r == 0 && i < l->nrules; i++)
		if (!is_console(&l->rules[i]))
			r = add_rule(to, &l->rules[i]);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(rules); i++)
		r = add_rule(to, &rules[i]);
	return r;
}
