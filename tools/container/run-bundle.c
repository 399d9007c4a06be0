/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A bundle of OCI's runtime specification: a directory with config.json, which
 * says all of the container. The options that remain are the machine's.
 */
#include "tools/container/run.h"

#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* The name of an option that is given and that config.json says; NULL: none. */
static const char *find_option(const struct run_options *opt)
{
	const struct {
		const char *name;
		bool given;
	} options[] = {
		{"--tty", opt->tty},
		{"--entrypoint", opt->entrypoint},
		{"--env", opt->env.count},
		{"--env-file", opt->env_files.count},
		{"--workdir", opt->workdir},
		{"--user", opt->user},
		{"--group-add", opt->groups.count},
		{"--cap-add", opt->cap_add.count},
		{"--cap-drop", opt->cap_drop.count},
		{"--privileged", opt->privileged},
		{"--ulimit", opt->ulimits.count},
		{"--pids-limit", opt->pids_limit},
		{"--hostname", opt->hostname},
		{"--read-only", opt->readonly},
		{"--rootfs-write", opt->rootfs_write},
		{"--volume", opt->volumes.count},
		{"--mount", opt->mounts.count},
		{"--tmpfs", opt->tmpfs.count},
		{"--shm-size", opt->shm_size},
		{"--sysctl", opt->sysctls.count},
		{"--max-image-size", opt->max_image},
	};

	for (unsigned i = 0; i < ARRAY_LEN(options); i++)
		if (options[i].given)
			return options[i].name;
	return NULL;
}

/* Walls that a bundle asks for may be given up, but not changed. */
static int check_security(const struct run_options *opt)
{
	static const char *const known[][2] = {
		{"seccomp", "unconfined"},
		{"apparmor", "unconfined"},
		{"label", "disable"},
	};

	for (unsigned i = 0; i < opt->security.count; i++) {
		bool found = false;
		const struct run_options one = {
			.security = {&opt->security.item[i], 1}};

		for (unsigned k = 0; k < ARRAY_LEN(known); k++)
			found |= run_has_security(&one, known[k][0],
						  known[k][1]);
		if (!found)
			return log_ret(-EINVAL,
				       "--security-opt '%s': with --bundle "
				       "known are seccomp=unconfined, "
				       "apparmor=unconfined and label=disable",
				       opt->security.item[i]);
	}
	return 0;
}

static int check_options(const struct run_options *opt)
{
	const char *name = find_option(opt);

	if (name)
		return log_ret(-EINVAL,
			       "%s: with --bundle its config.json says that",
			       name);
	return check_security(opt);
}

/* ---- the file */

bool run_has_security(const struct run_options *opt, const char *name,
		      const char *value)
{
	const size_t n = strlen(name);

	for (unsigned i = 0; i < opt->security.count; i++) {
		const char *text = opt->security.item[i];

		if (strncmp(text, name, n) == 0 &&
		    (text[n] == '=' || text[n] == ':') &&
		    strcmp(text + n + 1, value) == 0)
			return true;
	}
	return false;
}

int run_check_walls(const struct spec_process *p, const struct run_options *opt)
{
	const struct {
		const char *key, *text, *name, *value;
	} walls[] = {
		{"apparmorProfile", p->apparmor_profile, "apparmor",
		 "unconfined"},
		{"selinuxLabel", p->selinux_label, "label", "disable"},
	};

	for (unsigned i = 0; i < ARRAY_LEN(walls); i++) {
		if (!walls[i].text || !walls[i].text[0] ||
		    (opt &&
		     run_has_security(opt, walls[i].name, walls[i].value)))
			continue;
		return log_ret(-ENOTSUP,
			       "process.%s: '%s' is not supported in a "
			       "guest%s%s%s%s%s",
			       walls[i].key, walls[i].text,
			       opt ? "; --security-opt " : "",
			       opt ? walls[i].name : "", opt ? "=" : "",
			       opt ? walls[i].value : "",
			       opt ? " runs without it" : "");
	}
	return 0;
}

int run_check_namespaces(unsigned given)
{
	static const struct {
		const char *name;
		unsigned bit;
	} wanted[] = {
		{"pid", SPEC_NS_PID},     {"network", SPEC_NS_NETWORK},
		{"mount", SPEC_NS_MOUNT}, {"ipc", SPEC_NS_IPC},
		{"uts", SPEC_NS_UTS},
	};

	for (unsigned i = 0; i < ARRAY_LEN(wanted); i++)
		if (!(given & wanted[i].bit))
			return log_ret(
				-ENOTSUP,
				"linux.namespaces: without '%s' the "
				"container would share the host's, which "
				"a machine of its own cannot",
				wanted[i].name);
	return 0;
}

static int check_limits(const struct spec_linux *l,
			const struct run_options *opt)
{
	if (opt->memory && l->memory_limit)
		return log_ret(-EINVAL,
			       "--memory: config.json has "
			       "linux.resources.memory.limit, which is the "
			       "machine's memory");
	if (opt->cpus && l->cpu_quota)
		return log_ret(-EINVAL,
			       "--cpus: config.json has "
			       "linux.resources.cpu.quota, which makes the "
			       "machine's CPUs");
	return 0;
}

/* Paths of the file are relative to its directory. */
static int make_absolute(const char *bundle, char **path)
{
	char *whole;

	if ((*path)[0] == '/')
		return 0;
	if (asprintf(&whole, "%s/%s", bundle, *path) < 0)
		return log_ret(-ENOMEM, "out of memory");
	free(*path);
	*path = whole;
	return 0;
}

static int find_root(struct spec *spec, const char *bundle, struct rootfs *root)
{
	struct stat st;
	int r = make_absolute(bundle, &spec->root_path);

	if (r < 0)
		return r;
	root->path = realpath(spec->root_path, NULL);
	if (!root->path || stat(root->path, &st) < 0)
		return log_ret(-errno, "root.path: '%s': %s", spec->root_path,
			       strerror(errno));
	if (!S_ISDIR(st.st_mode))
		return log_ret(-ENOTDIR, "root.path: '%s': not a directory",
			       spec->root_path);
	root->name = text_printable(bundle);
	return root->name ? spec_set_text(&spec->root_path, root->path)
			  : log_ret(-ENOMEM, "out of memory");
}

static int find_sources(struct spec *spec, const char *bundle)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < spec->nmounts; i++)
		if (spec_is_bind(&spec->mounts[i]) && spec->mounts[i].source)
			r = make_absolute(bundle, &spec->mounts[i].source);
	return r;
}

/* An empty one is none, as for other runtimes. */
static int check_hostname(struct spec *spec)
{
	if (spec->hostname && spec->hostname[0] == '\0')
		return spec_set_text(&spec->hostname, NULL);
	return spec->hostname ? run_check_hostname("hostname", spec->hostname)
			      : 0;
}

static bool has_mount(const struct spec *spec, const char *destination)
{
	for (size_t i = 0; i < spec->nmounts; i++)
		if (strcmp(spec->mounts[i].destination, destination) == 0)
			return true;
	return false;
}

/* The last mount becomes the first: others may be below it. */
static void move_to_front(struct spec *spec)
{
	const size_t last = spec->nmounts - 1;
	const struct spec_mount mount = spec->mounts[last];

	memmove(&spec->mounts[1], &spec->mounts[0],
		last * sizeof(*spec->mounts));
	spec->mounts[0] = mount;
}

/*
 * Every container has device nodes and terminals. Other runtimes make them in
 * the root where there is no /dev; here the root may be the host's files, which
 * have no devices.
 */
static int add_dev(struct spec *spec)
{
	int r = 0;

	if (has_mount(spec, "/dev"))
		return 0;
	if (!has_mount(spec, "/dev/pts")) {
		r = spec_add_mount(spec, "/dev/pts", "devpts", "devpts",
				   "nosuid,noexec,newinstance,ptmxmode=0666,"
				   "mode=0620,gid=5");
		if (r == 0)
			move_to_front(spec);
	}
	if (r == 0)
		r = spec_add_mount(spec, "/dev", "tmpfs", "tmpfs",
				   "nosuid,strictatime,mode=755,size=65536k");
	if (r == 0)
		move_to_front(spec);
	return r;
}

/* As engines keep what the image says. */
static int find_stop_signal(const struct spec *spec, struct rootfs *root)
{
	static const char name[] = "org.opencontainers.image.stopSignal=";

	for (unsigned i = 0; i < spec->annotations.count; i++) {
		const char *text = spec->annotations.item[i];

		if (strncmp(text, name, sizeof(name) - 1) == 0)
			return spec_set_text(&root->config.stop_signal,
					     text + sizeof(name) - 1);
	}
	return 0;
}

static int give_up_walls(struct spec *spec, const struct run_options *opt)
{
	int r = run_check_walls(&spec->process, opt);

	if (r == 0)
		r = spec_set_text(&spec->process.apparmor_profile, NULL);
	if (r == 0)
		r = spec_set_text(&spec->process.selinux_label, NULL);
	if (run_has_security(opt, "seccomp", "unconfined")) {
		json_decref(spec->linux_part.seccomp);
		spec->linux_part.seccomp = NULL;
	}
	return r;
}

int run_bundle_load(struct spec *spec, struct run_options *opt,
		    struct rootfs *root)
{
	autofree char *bundle = realpath(opt->bundle, NULL);
	autofree char *path = NULL;
	int r = check_options(opt);

	if (r < 0)
		return r;
	if (!bundle)
		return log_ret(-errno, "--bundle '%s': %s", opt->bundle,
			       strerror(errno));
	if (asprintf(&path, "%s/config.json", bundle) < 0) {
		path = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	r = spec_read_file(path, spec);
	if (r == 0 && !spec->has_process)
		r = log_ret(-EINVAL, "'%s': it has no process", path);
	if (r == 0)
		r = run_check_namespaces(spec->linux_part.namespaces);
	if (r == 0)
		r = check_limits(&spec->linux_part, opt);
	if (r == 0)
		r = give_up_walls(spec, opt);
	if (r == 0)
		r = find_root(spec, bundle, root);
	if (r == 0)
		r = find_sources(spec, bundle);
	if (r == 0)
		r = find_stop_signal(spec, root);
	if (r == 0)
		r = check_hostname(spec);
	if (r == 0)
		r = add_dev(spec);
	if (r == 0)
		r = run_size_make(&spec->linux_part, opt);
	opt->tty = spec->process.terminal;
	return r < 0 ? r : run_terminal_make(&spec->process, opt);
}
