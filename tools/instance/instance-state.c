/* SPDX-License-Identifier: Apache-2.0 */
/* state.json: what later commands need to know of an instance. */
#include "tools/instance/instance.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define STATE_FILE "state.json"
#define STATE_TEMP ".state.json"

static const char *const phases[] = {
	[INSTANCE_CREATED] = "created",
	[INSTANCE_RUNNING] = "running",
	[INSTANCE_PAUSED] = "paused",
	[INSTANCE_EXITED] = "exited",
};

static void free_list(char **list)
{
	for (char **item = list; item && *item; item++)
		free(*item);
	free(list);
}

void instance_state_done(struct instance_state *state)
{
	free(state->name);
	free(state->image);
	free(state->ports);
	free(state->error);
	free(state->network);
	free_list(state->labels);
	spec_done(&state->spec);
	json_decref(state->run);
	*state = (struct instance_state){0};
}

/* ---- writing */

static json_t *list_json(char *const *list)
{
	json_t *json = json_array();

	for (; list && *list; list++)
		/* Arguments may be any bytes, JSON's strings may not. */
		json_array_append_new(json, json_string(*list));
	return json;
}

json_t *instance_state_json(const struct instance *instance,
			    const struct instance_state *state)
{
	return json_pack("{s:s, s:s, s:i, s:I, s:I, s:I, s:I, s:i, s:b, s:i,"
			 " s:s*, s:s*, s:s*, s:s*, s:o, s:O*, s:o}",
			 "name", instance->name, "status", phases[state->phase],
			 "pid", (int)state->pid, "pid_start",
			 (json_int_t)state->pid_start, "created",
			 (json_int_t)state->created_s, "started",
			 (json_int_t)state->started_s, "finished",
			 (json_int_t)state->finished_s, "exit_status",
			 state->status, "remove", state->remove, "stop_signal",
			 state->stop_signal, "image", state->image, "ports",
			 state->ports, "error", state->error, "network",
			 state->network, "labels", list_json(state->labels),
			 "run", state->run, "spec", spec_json(&state->spec));
}

/* Whole or not at all: a reader never sees half a file. */
static int replace_file(int dir_fd, const char *name, const char *text)
{
	autofd int fd = openat(
		dir_fd, STATE_TEMP,
		O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
	int r = fd < 0 ? -errno : util_write_all(fd, text, strlen(text));

	if (r == 0 && renameat(dir_fd, STATE_TEMP, dir_fd, name) < 0)
		r = -errno;
	if (r < 0)
		(void)unlinkat(dir_fd, STATE_TEMP, 0);
	return r;
}

int instance_write_copy(int dir_fd, const char *path, const char *name,
			const struct instance *instance,
			const struct instance_state *state)
{
	json_t *json = instance_state_json(instance, state);
	autofree char *text = json ? json_dumps(json, JSON_INDENT(2)) : NULL;
	int r;

	json_decref(json);
	if (!text)
		return log_ret(-EINVAL,
			       "instance '%s': its state has no JSON form: a "
			       "name is not UTF-8",
			       instance->name);
	r = replace_file(dir_fd, name, text);
	return r < 0 ? log_ret(r, "'%s/%s': %s%s", path, name, strerror(-r),
			       r == -ENOSPC || r == -EDQUOT
				       ? "; BULKHEAD_RUNTIME_DIR names another "
					 "place for instances"
				       : "")
		     : 0;
}

int instance_save(const struct instance *instance,
		  const struct instance_state *state)
{
	return instance_write_copy(instance->dir_fd, instance->path, STATE_FILE,
				   instance, state);
}

/* ---- reading */

static enum instance_phase find_phase(const char *name)
{
	for (unsigned i = 0; name && i < ARRAY_LEN(phases); i++)
		if (strcmp(name, phases[i]) == 0)
			return (enum instance_phase)i;
	return INSTANCE_EXITED;
}

/* 0, or -ENOMEM when there is a text that could not be copied. */
static int get_text(json_t *json, const char *key, char **ret)
{
	const char *text = json_string_value(json_object_get(json, key));

	if (!text)
		return 0;
	*ret = strdup(text);
	return *ret ? 0 : -ENOMEM;
}

static int64_t get_number(json_t *json, const char *key)
{
	return json_integer_value(json_object_get(json, key));
}

static int get_list(json_t *json, const char *key, char ***ret)
{
	json_t *list = json_object_get(json, key);
	size_t count = json_array_size(list), n = 0;
	char **copy = calloc(count + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++) {
		const char *text = json_string_value(json_array_get(list, i));

		if (!text)
			continue;
		copy[n] = strdup(text);
		if (!copy[n++]) {
			free_list(copy);
			return -ENOMEM;
		}
	}
	*ret = copy;
	return 0;
}

static int get_state(json_t *json, struct instance_state *state)
{
	const struct {
		const char *key;
		char **to;
	} texts[] = {
		{"name", &state->name},       {"image", &state->image},
		{"ports", &state->ports},     {"error", &state->error},
		{"network", &state->network},
	};
	json_t *spec = json_object_get(json, "spec");
	int r = 0;

	state->phase =
		find_phase(json_string_value(json_object_get(json, "status")));
	state->pid = (pid_t)get_number(json, "pid");
	state->pid_start = (uint64_t)get_number(json, "pid_start");
	state->created_s = get_number(json, "created");
	state->started_s = get_number(json, "started");
	state->finished_s = get_number(json, "finished");
	state->status = (int)get_number(json, "exit_status");
	state->remove = json_is_true(json_object_get(json, "remove"));
	state->stop_signal = (int)get_number(json, "stop_signal");
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
		r = get_text(json, texts[i].key, texts[i].to);
	if (r == 0)
		r = get_list(json, "labels", &state->labels);
	state->run = json_incref(json_object_get(json, "run"));
	if (r == 0 && spec)
		r = spec_from_json(STATE_FILE, spec, &state->spec);
	return r;
}

int instance_read_copy(int dir_fd, const char *path, const char *name,
		       struct instance_state *ret)
{
	/* It may be anything; to open a FIFO would wait for its writer. */
	autofd int fd = openat(dir_fd, name,
			       O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
	struct instance_state state = {0};
	json_error_t error;
	struct stat st;
	json_t *json;
	int r;

	if (fd < 0 && errno == ENOENT)
		return -ENOENT;
	if (fd < 0)
		return log_ret(-errno, "'%s/%s': %s", path, name,
			       strerror(errno));
	/* It names directories, which are opened as this user. */
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode) ||
	    (st.st_uid != 0 && st.st_uid != geteuid()))
		return log_ret(-EPERM,
			       "'%s/%s': not a file of this user's, or of "
			       "root's",
			       path, name);
	json = json_loadfd(fd, 0, &error);
	if (!json)
		return log_ret(-EINVAL, "'%s/%s': line %d: %s", path, name,
			       error.line, error.text);
	r = get_state(json, &state);
	json_decref(json);
	if (r < 0) {
		instance_state_done(&state);
		return r;
	}
	*ret = state;
	return 0;
}

int instance_load(const struct instance *instance, struct instance_state *ret)
{
	int r = instance_read_copy(instance->dir_fd, instance->path, STATE_FILE,
				   ret);

	/* The file is its supervisor's alone, which others' pauses do not ask.
	 */
	if (r == 0 && ret->phase == INSTANCE_RUNNING &&
	    faccessat(instance->dir_fd, INSTANCE_PAUSED_FILE, F_OK,
		      AT_SYMLINK_NOFOLLOW) == 0)
		ret->phase = INSTANCE_PAUSED;
	return r;
}

char *instance_command(const struct instance_state *state)
{
	autofree char *all = text_list_join(&state->spec.process.args, " ");

	return all ? text_printable(all) : NULL;
}

/* ---- the status that outlives the rest */

void instance_status_write(const struct instance *instance, int status)
{
	autofd int fd =
		openat(instance->dir_fd, INSTANCE_STATUS_FILE,
		       O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", status);

	/* INSTANCE_NO_STATUS only makes the file: it is opened before. */
	if (fd >= 0 && status >= 0)
		(void)util_write_all(fd, text, (size_t)n);
}

int instance_status_read(int fd)
{
	char text[16] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	return n > 0 ? atoi(text) : INSTANCE_KILLED;
}
