/* SPDX-License-Identifier: Apache-2.0 */
/* Making and freeing; files. */
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
	*process = (struct spec_process){0};
}

void spec_done(struct spec *spec)
{
	free(spec->oci_version);
	free(spec->root_path);
	free(spec->hostname);
	spec_process_done(&spec->process);
	for (size_t i = 0; i < spec->nmounts; i++) {
		free(spec->mounts[i].destination);
		free(spec->mounts[i].type);
		free(spec->mounts[i].source);
		text_list_done(&spec->mounts[i].options);
	}
	free(spec->mounts);
	text_list_done(&spec->annotations);
	text_list_done(&spec->linux_part.sysctl);
	text_list_done(&spec->linux_part.masked_paths);
	text_list_done(&spec->linux_part.readonly_paths);
	free(spec->linux_part.cgroups_path);
	json_decref(spec->linux_part.seccomp);
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

struct spec_mount *spec_new_mount(struct spec *spec)
{
	struct spec_mount *more;

	if (spec->nmounts == SPEC_MOUNTS_MAX) {
		log_error("more than %d mounts", SPEC_MOUNTS_MAX);
		return NULL;
	}
	more = reallocarray(spec->mounts, spec->nmounts + 1, sizeof(*more));
	if (!more) {
		log_error("out of memory");
		return NULL;
	}
	spec->mounts = more;
	more[spec->nmounts] = (struct spec_mount){0};
	return &more[spec->nmounts++];
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

/* ---- files */

/* Pipes, too: there is no size to ask for. Allocated. */
static int read_file(const char *path, char **ret_text, size_t *ret_bytes)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	autofree char *text = malloc(SPEC_FILE_MAX + 1);
	size_t used = 0;

	if (fd < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	if (!text)
		return log_ret(-ENOMEM, "out of memory");
	while (used <= SPEC_FILE_MAX) {
		ssize_t n = read(fd, text + used, SPEC_FILE_MAX + 1 - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return log_ret(-errno, "'%s': %s", path,
				       strerror(errno));
		if (n == 0)
			break;
		used += (size_t)n;
	}
	if (used > SPEC_FILE_MAX)
		return log_ret(-EFBIG,
			       "'%s': more than %d KiB: this is no description "
			       "of a container",
			       path, SPEC_FILE_MAX >> 10);
	*ret_text = take_ptr(text);
	*ret_bytes = used;
	return 0;
}

int spec_read_file(const char *path, struct spec *ret)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	int r = read_file(path, &text, &bytes);

	return r < 0 ? r : spec_read(path, text, bytes, ret);
}

int spec_process_read_file(const char *path, struct spec_process *ret)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	int r = read_file(path, &text, &bytes);

	return r < 0 ? r : spec_process_read(path, text, bytes, ret);
}
