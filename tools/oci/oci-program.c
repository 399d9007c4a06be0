/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whether a container's program is there, before anything is made. Engines tell
 * by the text which exit status their user gets: 127 or 126. Only the guest can
 * say it for certain, so this refuses nothing that it cannot know.
 */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

/* As the guest's agent looks where the process has no PATH. */
#define DEFAULT_PATH                                                           \
	"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/*
 * A directory that is mounted somewhere may have the program, by whatever links
 * lead there; and so may a file of its name. Those of the engines below /dev,
 * /proc and /sys have none.
 */
static bool may_be_mounted(json_t *config, const char *program)
{
	static const char *const known[] = {"/dev", "/proc", "/sys"};
	json_t *mount;
	size_t i;

	json_array_foreach(json_object_get(config, "mounts"), i, mount) {
		const char *to = oci_text(mount, "destination");
		struct stat st;
		bool none = false;

		for (unsigned k = 0; k < ARRAY_LEN(known); k++)
			none |= oci_is_below(to, known[k]);
		if (none)
			continue;
		if (stat(oci_text(mount, "source"), &st) < 0 ||
		    !S_ISREG(st.st_mode) ||
		    strcmp(base_name(to), base_name(program)) == 0)
			return true;
	}
	return false;
}

/* 0: it can be executed; -errno. */
static int look_at(int root, const char *path)
{
	autofd int fd = util_openat2(root, path, O_PATH, RESOLVE_IN_ROOT);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode) && (st.st_mode & 0111) ? 0 : -EACCES;
}

/* As execvp(3) does: a file that cannot be executed is passed over, and told.
 */
static int look_in(int root, const char *places, const char *program)
{
	int found = -ENOENT;

	for (const char *p = places; *p;) {
		const size_t n = strcspn(p, ":");
		autofree char *path = NULL;
		int r;

		if (asprintf(&path, "%.*s/%s", (int)n, p, program) < 0) {
			path = NULL;
			return -ENOMEM;
		}
		r = n > 0 ? look_at(root, path) : -ENOENT;
		if (r == 0)
			return 0;
		if (r == -EACCES)
			found = r;
		p += n + (p[n] == ':');
	}
	return found;
}

static const char *find_path(json_t *process)
{
	const char *places = DEFAULT_PATH;
	json_t *value;
	size_t i;

	json_array_foreach(json_object_get(process, "env"), i, value) {
		const char *text = json_string_value(value);

		if (text && strncmp(text, "PATH=", 5) == 0)
			places = text + 5;
	}
	return places;
}

int oci_check_program(json_t *config, const char *root)
{
	json_t *process = json_object_get(config, "process");
	const char *program = json_string_value(
		json_array_get(json_object_get(process, "args"), 0));
	autofd int fd = open(root, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return log_ret(-errno, "root.path: '%s': %s", root,
			       strerror(errno));
	/* A relative path depends on the directory, which the guest may make.
	 */
	if (!program || !program[0] ||
	    (program[0] != '/' && strchr(program, '/')) ||
	    may_be_mounted(config, program))
		return 0;
	r = program[0] == '/' ? look_at(fd, program)
			      : look_in(fd, find_path(process), program);
	if (r == -EACCES)
		return log_ret(r, "exec: \"%s\": permission denied", program);
	if (r == -ENOENT && program[0] == '/')
		return log_ret(r,
			       "exec: \"%s\": stat %s: no such file or "
			       "directory",
			       program, program);
	if (r == -ENOENT)
		return log_ret(r,
			       "exec: \"%s\": executable file not found in "
			       "$PATH",
			       program);
	return 0;
}
