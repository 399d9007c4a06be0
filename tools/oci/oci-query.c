/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Engines ask by `state`, `list` and `features`; `delete`, and commands that
 * the host's runtime does alone. Its answers are about the bundle that was made
 * for it: engines get their own back.
 */
#include "tools/oci/oci.h"

#include "tools/oci/oci-options.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/*
 * COMMAND NAME ARGUMENTS ID, with standard output in RET. ID may be NULL. The
 * exit status.
 */
static int ask(struct oci *oci, const char *name, const char *const *args,
	       const char *id, char **ret)
{
	struct text_list command = {0};
	int r = oci_host_command(oci, name, id, &command);

	for (; r == 0 && *args; args++)
		r = text_list_add(&command, *args);
	if (r == 0 && id)
		r = text_list_add(&command, id);
	if (r == 0)
		r = oci_host_run(&command, ret);
	text_list_done(&command);
	return r < 0 ? OCI_EXIT_FAILED : r;
}

/* The host's half has a note that is the host's runtime's alone. */
static void restore_notes(json_t *state)
{
	json_t *notes = json_object_get(state, "annotations");

	if (!oci_text(notes, OCI_SUBGROUP)[0])
		(void)json_object_del(notes, OCI_SUBGROUP);
	if (json_is_object(notes) && json_object_size(notes) == 0)
		(void)json_object_del(state, "annotations");
}

/* The host's runtime does not know the engine's bundle, nor pauses. */
static void restore(struct oci *oci, json_t *state)
{
	const char *id = json_string_value(json_object_get(state, "id"));
	json_t *own = id ? oci_store_read(oci, id, "container.json") : NULL;
	json_t *bundle = json_object_get(own, "bundle");

	if (bundle)
		(void)json_object_set(state, "bundle", bundle);
	restore_notes(state);
	/* To the host's runtime a machine that stands still is one that runs.
	 */
	if (id && strcmp(oci_text(state, "status"), "running") == 0 &&
	    oci_is_paused(oci, id))
		(void)json_object_set_new(state, "status",
					  json_string("paused"));
	json_decref(own);
}

static int print(json_t *json)
{
	if (json_dumpf(json, stdout, JSON_INDENT(2)) < 0 || putchar('\n') < 0)
		return log_ret(OCI_EXIT_FAILED,
			       "standard output: cannot write");
	return 0;
}

int oci_host_state(struct oci *oci, const char *id, json_t **ret)
{
	static const char *const none[] = {NULL};
	autofree char *text = NULL;
	json_t *state;
	int status = ask(oci, "state", none, id, &text);

	if (status != 0)
		return status;
	state = json_loads(text, 0, NULL);
	if (!state)
		return log_ret(OCI_EXIT_FAILED,
			       "container '%s': the host's runtime gave no "
			       "JSON for its state",
			       id);
	*ret = state;
	return 0;
}

int oci_cmd_state(struct oci *oci, int argc, char **argv)
{
	json_t *state = NULL;
	int status;

	if (argc != 2)
		return log_ret(OCI_EXIT_FAILED, "state: give one container id");
	if (oci_check_container(oci, argv[1]) < 0)
		return OCI_EXIT_FAILED;
	status = oci_host_state(oci, argv[1], &state);
	if (status != 0)
		return status;
	restore(oci, state);
	status = print(state);
	json_decref(state);
	return status;
}

/* Whether PROCESS_FD's process has ended. */
static bool has_ended(int process_fd)
{
	struct pollfd pfd = {.fd = process_fd, .events = POLLIN};

	return poll(&pfd, 1, 0) > 0;
}

int oci_host_group(struct oci *oci, const char *id, int *ret_process_fd,
		   int *ret_group)
{
	json_t *state = NULL;
	autofd int process_fd = -1, group = -1;
	char file[64];
	pid_t pid;
	int r = oci_check_container(oci, id);

	if (r == 0 && oci_host_state(oci, id, &state) != 0)
		r = -ENOENT;
	if (r < 0)
		return r;
	pid = (pid_t)json_integer_value(json_object_get(state, "pid"));
	if (strcmp(oci_text(state, "status"), "stopped") == 0)
		pid = 0;
	json_decref(state);
	process_fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
	snprintf(file, sizeof(file), "/proc/%d/cgroup", (int)pid);
	r = process_fd < 0 ? -ESRCH : oci_group_open(OCI_GROUPS, file, &group);
	/* In that moment, too: its number may be another's by now. */
	if (process_fd < 0 || has_ended(process_fd))
		return log_ret(-ESRCH, "container '%s' is not running", id);
	if (r < 0)
		return log_ret(r, "container '%s': its control group: %s", id,
			       r == -EXDEV ? "it has none of its own"
					   : strerror(-r));
	*ret_process_fd = take_fd(&process_fd);
	*ret_group = take_fd(&group);
	return 0;
}

bool oci_host_is(struct oci *oci, const char *id, const char *name)
{
	json_t *state = NULL;
	bool is;

	(void)oci_host_state(oci, id, &state);
	is = strcmp(oci_text(state, "status"), name) == 0;
	json_decref(state);
	return is;
}

/* ---- list */

struct list_request {
	const char *format;
	bool quiet;
};

static int print_table(json_t *list, bool quiet)
{
	json_t *state;
	size_t i;

	if (!quiet)
		printf("%-36s %-8s %-9s %s\n", "ID", "PID", "STATUS", "BUNDLE");
	json_array_foreach(list, i, state) {
		const char *id, *status, *bundle;
		json_int_t pid;

		if (json_unpack(state, "{s:s, s:I, s:s, s:s}", "id", &id, "pid",
				&pid, "status", &status, "bundle", &bundle) < 0)
			continue;
		if (quiet)
			puts(id);
		else
			printf("%-36s %-8lld %-9s %s\n", id, (long long)pid,
			       status, bundle);
	}
	return 0;
}

/*
 * Which of the host's runtimes has made the containers: becomes OCI's. One that
 * has no note of it is of the runtime that is found, or named. False: there may
 * be more than one, or it is not known of each.
 */
static bool find_maker(struct oci *oci)
{
	DIR *dir = opendir(oci->root);
	const struct dirent *entry;
	bool same = true;
	char *found = NULL;

	while (dir && same && (entry = readdir(dir))) {
		const char *id = entry->d_name;
		json_t *own = NULL;

		if (id[0] == '.' || id[0] == '@' ||
		    !oci_store_has(oci, "@host", id))
			continue;
		/* It is told when it is asked for. */
		if (oci_store_own(oci, id, false, &own) < 0)
			same = false;
		else if (!found)
			found = strdup(oci_text(own, "host"));
		else
			same = strcmp(oci_text(own, "host"), found) == 0;
		json_decref(own);
	}
	if (dir)
		closedir(dir);
	if (same && found && found[0]) {
		free(oci->host);
		oci->host = take_ptr(found);
	}
	free(found);
	return same;
}

static int list_of_one(struct oci *oci, json_t **ret)
{
	static const char *const args[] = {"--format", "json", NULL};
	autofree char *text = NULL;
	const int status = ask(oci, "list", args, NULL, &text);

	*ret = status == 0 ? json_loads(text, JSON_DECODE_ANY, NULL) : NULL;
	return status;
}

/* Each lists its own alone: so all are asked one by one. */
static int list_of_several(struct oci *oci, json_t **ret)
{
	DIR *dir = opendir(oci->root);
	const struct dirent *entry;

	*ret = json_array();
	while (dir && (entry = readdir(dir))) {
		const char *id = entry->d_name;
		json_t *state = NULL;

		if (id[0] != '.' && id[0] != '@' &&
		    oci_store_has(oci, "@host", id) &&
		    oci_host_state(oci, id, &state) == 0)
			(void)json_array_append_new(*ret, state);
	}
	if (dir)
		closedir(dir);
	return *ret ? 0 : log_ret(OCI_EXIT_FAILED, "out of memory");
}

int oci_cmd_list(struct oci *oci, int argc, char **argv)
{
	static const struct oci_option options[] = {
		{"format", 'f', OCI_OWN_VALUE,
		 offsetof(struct list_request, format)},
		{"quiet", 'q', OCI_OWN_FLAG,
		 offsetof(struct list_request, quiet)},
		{0},
	};
	struct list_request req = {.format = "table"};
	struct text_list pass = {0};
	json_t *list, *state;
	size_t i;
	int status;

	if (oci_options_parse(options, &req, &pass, argc, argv) != argc)
		return log_ret(OCI_EXIT_FAILED,
			       "list: it takes --format and --quiet alone");
	if (strcmp(req.format, "json") != 0 && strcmp(req.format, "table") != 0)
		return log_ret(OCI_EXIT_FAILED,
			       "list: --format '%s': known are table and json",
			       req.format);
	status = find_maker(oci) ? list_of_one(oci, &list)
				 : list_of_several(oci, &list);
	if (status != 0)
		return status;
	json_array_foreach(list, i, state) {
		restore(oci, state);
	}
	if (strcmp(req.format, "json") == 0 && !req.quiet)
		status = json_is_array(list) ? print(list) : puts("null") < 0;
	else
		status = print_table(list, req.quiet);
	json_decref(list);
	return status;
}

/* ---- delete */

/* The host's runtime does not know it, or not any more. */
static bool only_ours(const struct oci *oci, const char *id)
{
	return oci_store_has(oci, id, NULL) && !oci_store_has(oci, "@host", id);
}

int oci_cmd_delete(struct oci *oci, int argc, char **argv)
{
	struct request {
		bool force;
	} req = {0};
	static const struct oci_option options[] = {
		{"force", 'f', OCI_OWN_FLAG, offsetof(struct request, force)},
		{0},
	};
	struct text_list pass = {0};
	int n = oci_options_parse(options, &req, &pass, argc, argv);
	int status;

	if (n < 0)
		return OCI_EXIT_FAILED;
	if (argc - n != 1)
		return log_ret(OCI_EXIT_FAILED,
			       "delete: give one container id");
	if (oci_check_id(argv[n]) < 0)
		return OCI_EXIT_FAILED;
	if (oci_host_await_maker(oci, argv[n], req.force) < 0)
		return OCI_EXIT_FAILED;
	/* `create` was killed before the host's runtime knew of it. */
	if (only_ours(oci, argv[n])) {
		status = 0;
	} else {
		const char *const args[] = {req.force ? "--force" : NULL, NULL};

		status = ask(oci, "delete", args, argv[n], NULL);
		/* runc says so where a group is busy, and has forgotten it. */
		if (status != 0 && only_ours(oci, argv[n]))
			status = 0;
	}
	if (status == 0)
		oci_trace_print(oci, argv[n]);
	if (status == 0 && oci_forget(oci, argv[n]) < 0)
		status = OCI_EXIT_FAILED;
	return status;
}

/* ---- the rest */

/*
 * The id in a command line of the host's runtime's: the last of those whose
 * options have values, else the first that is no option. NULL: none.
 */
static const char *find_id(int argc, char **argv)
{
	static const char *const last[] = {"update", "events"};
	int i = 1;

	for (unsigned n = 0; n < ARRAY_LEN(last); n++)
		if (strcmp(argv[0], last[n]) == 0)
			return argc > 1 && argv[argc - 1][0] != '-'
				       ? argv[argc - 1]
				       : NULL;
	for (; i < argc && argv[i][0] == '-'; i++) {
		if (strcmp(argv[i], "--") == 0)
			return argv[i + 1];
		if (strcmp(argv[i], "-f") == 0 ||
		    strcmp(argv[i], "--format") == 0)
			i++;
	}
	return i < argc ? argv[i] : NULL;
}

/*
 * In this program's words: those of the host's runtimes differ. *RET is NULL
 * where no container is meant.
 */
static int check_id_of(const struct oci *oci, int argc, char **argv,
		       const char **ret)
{
	*ret = NULL;
	if (strcmp(argv[0], "spec") == 0)
		return 0;
	*ret = find_id(argc, argv);
	if (!*ret)
		return log_ret(-EINVAL, "%s: give a container id", argv[0]);
	return oci_check_container(oci, *ret);
}

int oci_cmd_pass(struct oci *oci, int argc, char **argv)
{
	struct text_list command = {0};
	const char *id;
	int r = check_id_of(oci, argc, argv, &id);

	if (r == 0)
		r = oci_host_command(oci, argv[0], id, &command);

	for (int i = 1; r == 0 && i < argc; i++)
		r = text_list_add(&command, argv[i]);
	r = r == 0 ? oci_host_exec(&command) : OCI_EXIT_FAILED;
	text_list_done(&command);
	return r;
}

int oci_cmd_start(struct oci *oci, int argc, char **argv)
{
	if (argc == 2 && oci_check_container(oci, argv[1]) == 0)
		oci_trace_note(oci, argv[1], TRACE_BEGUN);
	return oci_cmd_pass(oci, argc, argv);
}

static json_t *texts(const char *const *list)
{
	json_t *json = json_array();

	for (; json && *list; list++)
		(void)json_array_append_new(json, json_string(*list));
	return json;
}

/* features.md of the specification. */
int oci_cmd_features(struct oci *oci, int argc, char **argv)
{
	static const char *const hooks[] = {"prestart",
					    "createRuntime",
					    "createContainer",
					    "startContainer",
					    "poststart",
					    "poststop",
					    NULL};
	static const char *const mount_options[] = {
		"bind",     "rbind",       "private", "rprivate", "slave",
		"rslave",   "ro",          "rw",      "nosuid",   "suid",
		"nodev",    "dev",         "noexec",  "exec",     "noatime",
		"relatime", "strictatime", NULL};
	static const char *const namespaces[] = {"cgroup",  "ipc", "mount",
						 "network", "pid", "uts",
						 "user",    NULL};
	json_t *json;
	int status;

	(void)argv;
	if (argc != 1)
		return log_ret(OCI_EXIT_FAILED, "features: it takes nothing");
	if (oci_host_find(oci) < 0)
		return OCI_EXIT_FAILED;
	json = json_pack("{s:s, s:s, s:o, s:o, s:{s:o, s:{s:b}}, s:{s:s, s:s}}",
			 "ociVersionMin", "1.0.0", "ociVersionMax",
			 SPEC_VERSION, "hooks", texts(hooks), "mountOptions",
			 texts(mount_options), "linux", "namespaces",
			 texts(namespaces), "seccomp", "enabled", 1,
			 "annotations", "org.bulkhead.host-runtime", oci->host,
			 "org.bulkhead.version", BULKHEAD_VERSION);
	if (!json)
		return log_ret(OCI_EXIT_FAILED, "out of memory");
	status = print(json);
	json_decref(json);
	return status;
}
