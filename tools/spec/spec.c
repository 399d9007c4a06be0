/* SPDX-License-Identifier: Apache-2.0 */
/* Making and freeing. */
#include "tools/spec/spec.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

void spec_process_done(struct spec_process *process)
{
	free(process->user.username);
	text_list_done(&process->user.additional_gids);
	text_list_done(&process->args);
	text_list_done(&process->env);
	free(process->cwd);
	free(process->apparmor_profile);
	free(process->selinux_label);
	*process = (struct spec_process){0};
}

static void mount_done(struct spec_mount *mount)
{
	free(mount->destination);
	free(mount->type);
	free(mount->source);
	text_list_done(&mount->options);
}

void spec_linux_done(struct spec_linux *l)
{
	text_list_done(&l->sysctl);
	text_list_done(&l->masked_paths);
	text_list_done(&l->readonly_paths);
	free(l->cgroups_path);
	for (size_t i = 0; i < l->ndevices; i++)
		free(l->devices[i].path);
	free(l->devices);
	free(l->rules);
	json_decref(l->seccomp);
	*l = (struct spec_linux){0};
}

void spec_done(struct spec *spec)
{
	free(spec->oci_version);
	free(spec->root_path);
	free(spec->hostname);
	spec_process_done(&spec->process);
	for (size_t i = 0; i < spec->nmounts; i++)
		mount_done(&spec->mounts[i]);
	free(spec->mounts);
	text_list_done(&spec->annotations);
	spec_linux_done(&spec->linux_part);
	*spec = (struct spec){0};
}

void spec_set_rlimit(struct spec_process *process, struct spec_rlimit limit)
{
	size_t i = 0;

	assert(limit.type >= 0 && limit.type < SPEC_RLIMITS_MAX);
	while (i < process->nrlimits && process->rlimits[i].type != limit.type)
		i++;
	process->rlimits[i] = limit;
	process->nrlimits += i == process->nrlimits;
}

/*
 * ARRAY of *COUNT elements of SIZE with an empty one more. NULL (logged): MAX
 * are there, or no memory; the array is as it was.
 */
static void *grow(void *array, size_t *count, size_t size, size_t max,
		  const char *what)
{
	char *more;

	if (*count == max) {
		log_error("more than %zu %s", max, what);
		return NULL;
	}
	more = reallocarray(array, *count + 1, size);
	if (!more) {
		log_error("out of memory");
		return NULL;
	}
	memset(more + *count * size, 0, size);
	++*count;
	return more;
}

struct spec_mount *spec_new_mount(struct spec *spec)
{
	struct spec_mount *more =
		grow(spec->mounts, &spec->nmounts, sizeof(*more),
		     SPEC_MOUNTS_MAX, "mounts");

	if (!more)
		return NULL;
	spec->mounts = more;
	return &more[spec->nmounts - 1];
}

struct spec_device *spec_new_device(struct spec_linux *l)
{
	struct spec_device *more = grow(l->devices, &l->ndevices, sizeof(*more),
					SPEC_DEVICES_MAX, "devices");

	if (!more)
		return NULL;
	l->devices = more;
	return &more[l->ndevices - 1];
}

struct spec_device_rule *spec_new_rule(struct spec_linux *l)
{
	struct spec_device_rule *more =
		grow(l->rules, &l->nrules, sizeof(*more), SPEC_DEVICES_MAX,
		     "rules for devices");

	if (!more)
		return NULL;
	l->rules = more;
	return &more[l->nrules - 1];
}

int spec_add_mount(struct spec *spec, const char *destination, const char *type,
		   const char *source, const char *options)
{
	struct spec_mount *m = spec_new_mount(spec);
	int r = m ? spec_set_text(&m->destination, destination) : -ENOMEM;

	if (r == 0)
		r = spec_set_text(&m->type, type);
	if (r == 0)
		r = spec_set_text(&m->source, source);
	while (r == 0 && *options) {
		const size_t n = strcspn(options, ",");
		autofree char *word = strndup(options, n);

		r = word ? text_list_add(&m->options, word)
			 : log_ret(-ENOMEM, "out of memory");
		options += n + (options[n] == ',');
	}
	return r;
}

void spec_remove_mounts(struct spec *spec, const char *destination)
{
	size_t n = 0;

	for (size_t i = 0; i < spec->nmounts; i++) {
		if (strcmp(spec->mounts[i].destination, destination) == 0)
			mount_done(&spec->mounts[i]);
		else
			spec->mounts[n++] = spec->mounts[i];
	}
	spec->nmounts = n;
}

bool spec_is_bind(const struct spec_mount *mount)
{
	if (mount->type && strcmp(mount->type, "bind") == 0)
		return true;
	for (unsigned i = 0; i < mount->options.count; i++)
		if (strcmp(mount->options.item[i], "bind") == 0 ||
		    strcmp(mount->options.item[i], "rbind") == 0)
			return true;
	return false;
}

int spec_set_text(char **to, const char *text)
{
	char *copy = text ? strdup(text) : NULL;

	if (text && !copy)
		return log_ret(-ENOMEM, "out of memory");
	free(*to);
	*to = copy;
	return 0;
}

const char *spec_user_text(const struct spec_user *user, char number[24])
{
	if (user->username)
		return user->username;
	snprintf(number, 24, "%u:%u", user->uid, user->gid);
	return number;
}
