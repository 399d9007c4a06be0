/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `exec`: the host's runtime starts a process in the outer container, which has
 * the guest's agent start the one that was asked for, and is its stand-in.
 */
#include "tools/oci/oci.h"

#include "tools/oci/oci-options.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

struct request {
	const char *id, *fds, *process; /* the file of --process */
	const char *cwd, *user;
	bool tty, detach, no_new_privs, ignore_paused;
	struct text_list env, caps, groups, pass;
	char *const *args; /* what follows the id */
	char file[40];     /* in the directory `vm`, for the stand-in */
	char host[40];     /* in the container's directory */
};

static const struct oci_option options[] = {
	{"process", 'p', OCI_OWN_VALUE, offsetof(struct request, process)},
	{"cwd", 0, OCI_OWN_VALUE, offsetof(struct request, cwd)},
	{"env", 'e', OCI_OWN_LIST, offsetof(struct request, env)},
	{"user", 'u', OCI_OWN_VALUE, offsetof(struct request, user)},
	{"additional-gids", 'g', OCI_OWN_LIST,
	 offsetof(struct request, groups)},
	{"cap", 'c', OCI_OWN_LIST, offsetof(struct request, caps)},
	{"tty", 't', OCI_OWN_FLAG, offsetof(struct request, tty)},
	{"detach", 'd', OCI_OWN_FLAG, offsetof(struct request, detach)},
	{"no-new-privs", 0, OCI_OWN_FLAG,
	 offsetof(struct request, no_new_privs)},
	{"console-socket", 0, OCI_PASS_PATH, 0},
	{"pidfd-socket", 0, OCI_PASS_PATH, 0},
	{"pid-file", 0, OCI_PASS_PATH, 0},
	{"preserve-fds", 0, OCI_OWN_VALUE, offsetof(struct request, fds)},
	{"cgroup", 0, OCI_PASS_VALUE, 0},
	{"ignore-paused", 0, OCI_OWN_FLAG,
	 offsetof(struct request, ignore_paused)},
	{0},
};

/* ---- the process */

static int add_texts(json_t *process, const char *name,
		     const struct text_list *list, bool numbers)
{
	json_t *to = json_object_get(process, name);

	if (list->count && !json_is_array(to)) {
		to = json_array();
		if (json_object_set_new(process, name, to) < 0)
			return log_ret(-ENOMEM, "out of memory");
	}
	for (unsigned i = 0; i < list->count; i++) {
		json_t *value = json_string(list->item[i]);
		uint64_t n;

		if (!value)
			return log_ret(-EINVAL, "exec: '%s' is not UTF-8",
				       list->item[i]);
		if (numbers &&
		    util_parse_number(list->item[i], 0, UINT32_MAX, &n) < 0) {
			json_decref(value);
			return log_ret(-EINVAL, "exec: '%s' is not a number",
				       list->item[i]);
		}
		if (numbers) {
			json_decref(value);
			value = json_integer((json_int_t)n);
		}
		if (json_array_append_new(to, value) < 0)
			return log_ret(-ENOMEM, "out of memory");
	}
	return 0;
}

/* The object NAME of PROCESS, made where there is none; NULL: no memory. */
static json_t *part_of(json_t *process, const char *name)
{
	json_t *part = json_object_get(process, name);

	if (json_is_object(part))
		return part;
	part = json_object();
	return json_object_set_new(process, name, part) == 0 ? part : NULL;
}

/* "uid[:gid]", which runc takes; a group that is not given stays. */
static int set_user(json_t *user, const struct request *req)
{
	const char *gid = strchr(req->user, ':');
	char uid[16];
	uint64_t n, m = 0;
	int r = snprintf(uid, sizeof(uid), "%.*s", (int)strcspn(req->user, ":"),
			 req->user);

	if (r >= (int)sizeof(uid) ||
	    util_parse_number(uid, 0, UINT32_MAX - 1, &n) < 0 ||
	    (gid && util_parse_number(gid + 1, 0, UINT32_MAX - 1, &m) < 0))
		return log_ret(-EINVAL,
			       "exec: --user '%s': expected numbers, UID or "
			       "UID:GID",
			       req->user);
	r = json_object_set_new(user, "uid", json_integer((json_int_t)n));
	if (r == 0 && gid)
		r = json_object_set_new(user, "gid",
					json_integer((json_int_t)m));
	return r == 0 ? 0 : log_ret(-ENOMEM, "out of memory");
}

static int add_caps(json_t *process, const struct request *req)
{
	static const char *const sets[] = {"bounding", "effective",
					   "permitted"};
	json_t *caps = part_of(process, "capabilities");
	int r = caps ? 0 : log_ret(-ENOMEM, "out of memory");

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(sets); i++)
		r = add_texts(caps, sets[i], &req->caps, false);
	return r;
}

/* The container's own process, with the command that is asked for. */
static int change_process(json_t *process, const struct request *req)
{
	json_t *args = json_array();
	json_t *user = part_of(process, "user");
	int r = args && user ? 0 : log_ret(-ENOMEM, "out of memory");

	for (unsigned i = 0; r == 0 && req->args[i]; i++)
		if (json_array_append_new(args, json_string(req->args[i])) < 0)
			r = log_ret(-EINVAL, "exec: '%s' is not UTF-8",
				    req->args[i]);
	if (r == 0)
		(void)json_object_set(process, "args", args);
	json_decref(args);
	(void)json_object_set_new(process, "terminal", json_boolean(req->tty));
	if (r == 0 && req->cwd &&
	    json_object_set_new(process, "cwd", json_string(req->cwd)) < 0)
		r = log_ret(-EINVAL, "exec: --cwd '%s' is not UTF-8", req->cwd);
	if (r == 0 && req->no_new_privs)
		(void)json_object_set_new(process, "noNewPrivileges",
					  json_true());
	if (r == 0)
		r = add_texts(process, "env", &req->env, false);
	if (r == 0 && req->user)
		r = set_user(user, req);
	if (r == 0 && req->groups.count)
		r = add_texts(user, "additionalGids", &req->groups, true);
	return r == 0 && req->caps.count ? add_caps(process, req) : r;
}

/* A new reference, or NULL: logged. */
static json_t *make_process(struct oci *oci, const struct request *req)
{
	json_t *spec, *process;

	if (req->process)
		return spec_load_file(req->process);
	spec = oci_store_read(oci, req->id, "vm/" OCI_SPEC_FILE);
	process = json_incref(json_object_get(spec, "process"));
	json_decref(spec);
	if (!process) {
		log_error("container '%s' does not exist", req->id);
		return NULL;
	}
	if (change_process(process, req) == 0)
		return process;
	json_decref(process);
	return NULL;
}

/* Those of its walls that are the host's are not the guest's. */
static int check_process(json_t *process)
{
	static const char *const walls[] = {"oomScoreAdj", "selinuxLabel",
					    "apparmorProfile"};
	autofree char *text = NULL;
	struct spec_process read = {0};
	int r;

	for (unsigned i = 0; i < ARRAY_LEN(walls); i++)
		(void)json_object_del(process, walls[i]);
	text = json_dumps(process, 0);
	if (!text)
		return log_ret(-ENOMEM, "out of memory");
	r = spec_process_read("process", text, strlen(text), &read);
	spec_process_done(&read);
	return r;
}

/* ---- the stand-in */

static int name_files(struct request *req)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		return log_ret(-errno, "getrandom: %s", strerror(errno));
	snprintf(req->file, sizeof(req->file), "vm/" OCI_EXEC_PREFIX "%016llx",
		 (unsigned long long)number);
	snprintf(req->host, sizeof(req->host), "host-%016llx",
		 (unsigned long long)number);
	return 0;
}

static int write_files(struct oci *oci, struct request *req, json_t *process)
{
	const char *const args[] = {"relay", req->file + strlen("vm/"), NULL};
	json_t *host = NULL;
	int r = name_files(req);

	if (r == 0)
		host = oci_bundle_process(process, args);
	if (r == 0)
		r = host ? check_process(process) : -ENOMEM;
	if (r == 0)
		r = oci_store_write(oci, req->id, req->file, process);
	if (r == 0)
		r = oci_store_write(oci, req->id, req->host, host);
	json_decref(host);
	return r;
}

static void remove_file(const struct oci *oci, const struct request *req,
			const char *name)
{
	autofree char *path = oci_path(oci, req->id, name);

	if (path)
		(void)unlink(path);
}

/* The exit status. */
static int hand_over(struct oci *oci, const struct request *req)
{
	autofree char *path = oci_path(oci, req->id, req->host);
	const char *const args[] = {"--process", path,
				    req->detach ? "--detach" : NULL, NULL};

	/* As if the host's runtime had been killed itself. */
	oci->bound = true;
	return path ? oci_host_call(oci, "exec", args, &req->pass, req->id)
		    : OCI_EXIT_FAILED;
}

/*
 * An engine may call this before `start`, or as soon as it has returned: the
 * guest has its container a little later, and the stand-in waits for it.
 */
static int check_container(struct oci *oci, const struct request *req)
{
	const char *id = req->id;
	int r = oci_check_container(oci, id);

	if (r == 0 && !req->ignore_paused && oci_stands_still(oci, id))
		return log_ret(-EBUSY, "cannot exec in a paused container (use "
				       "--ignore-paused to override)");
	if (r < 0 || oci_store_has(oci, id, "vm/" OCI_STARTED_FILE) ||
	    !oci_host_is(oci, id, "created"))
		return r;
	return log_ret(-EBUSY,
		       "exec: container '%s' is created and not started: its "
		       "machine is booted by start",
		       id);
}

static int run(struct oci *oci, struct request *req)
{
	json_t *process;
	int status = OCI_EXIT_FAILED;

	if (check_container(oci, req) < 0)
		return status;
	process = make_process(oci, req);
	if (process && write_files(oci, req, process) == 0)
		status = hand_over(oci, req);
	json_decref(process);
	if (req->host[0])
		remove_file(oci, req, req->host);
	/* The stand-in has removed it, if it got that far. */
	if (req->file[0] && status != 0)
		remove_file(oci, req, req->file);
	return status;
}

int oci_cmd_exec(struct oci *oci, int argc, char **argv)
{
	struct request req = {0};
	int status = OCI_EXIT_FAILED;
	int n = oci_options_parse(options, &req, &req.pass, argc, argv);

	if (n >= 0 && argc - n < (req.process ? 1 : 2)) {
		log_error("exec: give a container id and %s",
			  req.process ? "nothing else" : "a command");
	} else if (n >= 0) {
		req.id = argv[n];
		req.args = &argv[n + 1];
		status = run(oci, &req);
	}
	text_list_done(&req.env);
	text_list_done(&req.caps);
	text_list_done(&req.groups);
	text_list_done(&req.pass);
	return status;
}
