/* SPDX-License-Identifier: Apache-2.0 */
/* `create` and `run`: a bundle in, the host's runtime's bundle out. */
#include "tools/oci/oci.h"

#include "tools/container/run.h"
#include "tools/guest/kernel.h"
#include "tools/oci/oci-options.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/config/config.h"
#include "vmm/kernel/kimage.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

struct request {
	const char *bundle; /* as given; "." */
	const char *config; /* the file's name in it */
	const char *id, *fds;
	bool run, detach, keep;
	struct text_list pass;
	char *path, *program, *kernel; /* owned: absolute paths */
	struct oci_pod pod;            /* owned */
};

static const struct oci_option options[] = {
	{"bundle", 'b', OCI_OWN_VALUE, offsetof(struct request, bundle)},
	{"config", 'f', OCI_OWN_VALUE, offsetof(struct request, config)},
	{"console-socket", 0, OCI_PASS_PATH, 0},
	{"pidfd-socket", 0, OCI_PASS_PATH, 0},
	{"pid-file", 0, OCI_PASS_PATH, 0},
	{"no-pivot", 0, OCI_PASS_FLAG, 0},
	{"no-new-keyring", 0, OCI_PASS_FLAG, 0},
	{"no-subreaper", 0, OCI_PASS_FLAG, 0},
	{"preserve-fds", 0, OCI_OWN_VALUE, offsetof(struct request, fds)},
	{"detach", 'd', OCI_OWN_FLAG, offsetof(struct request, detach)},
	{"keep", 0, OCI_OWN_FLAG, offsetof(struct request, keep)},
	{0},
};

/*
 * The guest's kernel is a file that the container can have as it is: the
 * distribution's has its drivers in other files.
 */
static int find_kernel(struct request *req)
{
	struct config cfg;
	struct distro distro = {0};
	int r = 0;

	config_init(&cfg);
	cfg.kernel = kernel_own();
	if (!cfg.kernel || strcmp(cfg.kernel, KERNEL_DISTRO) == 0)
		r = log_ret(-ENOENT,
			    "no guest kernel that an engine can use: build and "
			    "install the project's, as root: make "
			    "install-kernel (for this user alone: "
			    "'" BULKHEAD_DATADIR "/kernel/build', in the "
			    "source tree ./bootstrap kernel)");
	if (r == 0)
		r = kernel_open(&cfg, &distro);
	distro_done(&distro);
	if (r == 0)
		r = kimage_check(cfg.kernel);
	if (r == 0) {
		req->kernel = realpath(cfg.kernel, NULL);
		if (!req->kernel)
			r = log_ret(-errno, "guest kernel '%s': %s", cfg.kernel,
				    strerror(errno));
	}
	config_done(&cfg);
	return r;
}

static int find_paths(struct request *req)
{
	req->path = realpath(req->bundle, NULL);
	if (!req->path)
		return log_ret(-errno, "--bundle '%s': %s", req->bundle,
			       strerror(errno));
	req->program = realpath("/proc/self/exe", NULL);
	if (!req->program)
		return log_ret(-errno, "'/proc/self/exe': %s", strerror(errno));
	return find_kernel(req);
}

static json_t *read_config(const struct request *req)
{
	autofree char *path = NULL;
	const bool absolute = req->config[0] == '/';
	struct stat st;
	json_t *json;

	if (asprintf(&path, "%s%s%s", absolute ? "" : req->path,
		     absolute ? "" : "/", req->config) < 0) {
		path = NULL;
		log_error("out of memory");
		return NULL;
	}
	/* Not to wait for whoever writes to a pipe. */
	if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
		log_error("'%s': not a regular file", path);
		return NULL;
	}
	json = spec_load_file(path);
	if (json_is_object(json))
		return json;
	if (json)
		log_error("'%s': not a JSON object", path);
	json_decref(json);
	return NULL;
}

/* The user hears now what the guest cannot do, not when it starts. */
static int check_guest(const struct request *req, json_t *guest)
{
	struct spec_filter filter = {0};
	struct spec spec = {0};
	int r = spec_from_json("config.json", guest, &spec);

	if (r == 0 && !spec.has_process)
		r = log_ret(-EINVAL, "config.json: it has no process");
	/* oci_network_check() says what is wrong with networks. */
	if (r == 0)
		r = run_check_namespaces(spec.linux_part.namespaces |
					 SPEC_NS_NETWORK);
	if (r == 0)
		r = spec_filter_make("config.json", &spec.linux_part, &filter);
	/* Limits in another one's machine are not a machine's size. */
	if (req->pod.id) {
		spec.linux_part.memory_limit = 0;
		spec.linux_part.cpu_quota = 0;
	}
	if (r == 0)
		r = run_machine_check(&spec, req->kernel);
	spec_filter_done(&filter);
	spec_done(&spec);
	return r;
}

/* A machine for the containers of a pod, and for this one. */
static int place_sandbox(struct oci *oci, struct request *req, json_t *config,
			 json_t *guest)
{
	json_t *none = json_object();
	int r = oci_pod_size(config, OCI_GROUPS, guest);

	if (r == 0)
		r = none ? oci_store_write(oci, req->id, "vm/" OCI_SANDBOX_FILE,
					   none)
			 : log_ret(-ENOMEM, "out of memory");
	json_decref(none);
	return r;
}

/* Where the container runs: in a machine of its own or another's. */
static int place(struct oci *oci, struct request *req, json_t *config,
		 json_t *guest)
{
	json_t *json;
	int r;

	if (!req->pod.id) {
		r = oci_network_check(config);
		return r == 0 && oci_pod_is_sandbox(config)
			       ? place_sandbox(oci, req, config, guest)
			       : r;
	}
	json = oci_pod_json(&req->pod, req->id);
	r = json ? oci_store_write(oci, req->id, "vm/" OCI_POD_FILE, json)
		 : log_ret(-ENOMEM, "out of memory");
	json_decref(json);
	return r;
}

/*
 * This program's own notes. Another one's network is left to that one, as is a
 * control group that there was before: others may be in it.
 */
static json_t *make_own(const struct oci *oci, const struct request *req,
			json_t *config)
{
	const char *group =
		oci_text(json_object_get(config, "linux"), "cgroupsPath");
	json_t *own = json_pack(
		"{s:s, s:s, s:s, s:s}", "bundle", req->path, "network",
		req->pod.id ? "" : oci_network_path(config), "cgroup",
		oci_group_exists(OCI_GROUPS, group) ? "" : group, "host",
		oci->host);

	/* A path can be anything, a text of JSON cannot. */
	if (!own)
		log_error("--bundle '%s', or --host-runtime '%s': not UTF-8",
			  req->path, oci->host);
	return own;
}

static int split(struct oci *oci, struct request *req, json_t *config,
		 json_t **ret_host, json_t **ret_guest)
{
	autofree char *vm = oci_path(oci, req->id, "vm");
	autofree char *pod = NULL, *templates = NULL;
	struct oci_bundle bundle = {
		.path = req->path,
		.program = req->program,
		.kernel = req->kernel,
		.vm = vm,
		.has_kvm = oci->kvm_fd > 0,
	};
	int r = vm ? oci_pod_find(oci, req->id, config, &req->pod) : -ENOMEM;

	if (r == 0 && req->pod.id) {
		pod = oci_path(oci, req->pod.id, "vm");
		bundle.pod = pod;
		bundle.has_kvm = false;
		util_close(&oci->kvm_fd);
		r = pod ? 0 : -ENOMEM;
	} else if (r == 0) {
		r = oci_templates_find(oci, config, &templates);
		bundle.templates = templates;
	}
	return r < 0 ? r
		     : oci_bundle_split(&bundle, config, ret_host, ret_guest);
}

/* The outer container's root writes to the directory. */
static int give(struct oci *oci, const struct request *req, json_t *config)
{
	uid_t uid;
	gid_t gid;
	int r = oci_users_root(config, &uid, &gid);

	return r < 0 ? r : oci_store_give(oci, req->id, uid, gid);
}

static int write_files(struct oci *oci, struct request *req)
{
	json_t *config = read_config(req);
	json_t *host = NULL, *guest = NULL, *own = NULL;
	int r = config ? split(oci, req, config, &host, &guest) : -EINVAL;

	if (r == 0) {
		own = make_own(oci, req, config);
		r = own ? 0 : -EINVAL;
	}
	if (r == 0)
		r = give(oci, req, config);
	if (r == 0)
		r = place(oci, req, config, guest);
	if (r == 0)
		r = check_guest(req, guest);
	if (r == 0)
		r = oci_check_program(
			config,
			json_string_value(json_object_get(
				json_object_get(host, "root"), "path")));
	if (r == 0)
		r = oci_store_write(oci, req->id, "vm/" OCI_SPEC_FILE, guest);
	if (r == 0)
		r = oci_store_write(oci, req->id, "bundle/config.json", host);
	if (r == 0)
		r = oci_store_write(oci, req->id, "container.json", own);
	json_decref(own);
	json_decref(guest);
	json_decref(host);
	json_decref(config);
	return r;
}

/* With the bundle that was made; the exit status. */
static int hand_over(struct oci *oci, const struct request *req)
{
	autofree char *bundle = oci_path(oci, req->id, "bundle");
	autofree char *maker = oci_path(oci, req->id, OCI_MAKER_FILE);
	const char *args[7] = {"--bundle", bundle};
	unsigned n = 2;
	int status;

	if (!bundle || !maker)
		return OCI_EXIT_FAILED;
	if (req->detach)
		args[n++] = "--detach";
	if (req->keep)
		args[n++] = "--keep";
	if (oci->kvm_fd > 0) {
		args[n++] = "--preserve-fds";
		args[n++] = "1";
	}
	oci->maker = maker;
	oci->maker_stays = req->run && !req->detach;
	status = oci_host_call(oci, req->run ? "run" : "create", args,
			       &req->pass, req->id);
	oci->maker = NULL;
	return status;
}

/* By --keep, unless it was never made: the status tells nothing. */
static bool is_kept(const struct oci *oci, const struct request *req)
{
	autofree char *host = oci_path(oci, "@host", req->id);

	return req->keep && host && access(host, F_OK) == 0;
}

static int create(struct oci *oci, struct request *req)
{
	int r = oci_check_id(req->id);
	int status;

	if (r == 0)
		r = oci_check_fds(req->fds);
	if (r == 0)
		r = find_paths(req);
	if (r == 0)
		r = oci_host_find(oci);
	if (r == 0)
		r = oci_store_make(oci, req->id);
	if (r < 0)
		return OCI_EXIT_FAILED;
	/* If it cannot be opened, `init` says why. */
	oci->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	status = write_files(oci, req) == 0 ? 0 : OCI_EXIT_FAILED;
	if (status == 0) {
		oci_trace_note(oci, req->id, TRACE_BUNDLE);
		status = hand_over(oci, req);
	}
	util_close(&oci->kvm_fd);
	/* `init` of `run` has the file by now. */
	if (status == 0 && !req->run)
		oci_trace_note(oci, req->id, TRACE_CREATED);
	if (req->run && !req->detach)
		oci_trace_print(oci, req->id);
	/* `run` in the foreground has deleted what the host's runtime kept. */
	if ((req->run && !req->detach && !is_kept(oci, req)) ||
	    ((!req->run || req->detach) && status != 0))
		(void)oci_forget(oci, req->id);
	return status;
}

int oci_cmd_create(struct oci *oci, int argc, char **argv)
{
	struct request req = {.bundle = ".",
			      .config = "config.json",
			      .run = strcmp(argv[0], "run") == 0};
	int status = OCI_EXIT_FAILED;
	int n = oci_options_parse(options, &req, &req.pass, argc, argv);

	if (n >= 0 && argc - n != 1)
		log_error("%s: give one container id", argv[0]);
	else if (n >= 0) {
		req.id = argv[n];
		status = create(oci, &req);
	}
	text_list_done(&req.pass);
	oci_pod_done(&req.pod);
	free(req.path);
	free(req.program);
	free(req.kernel);
	return status;
}
