/* SPDX-License-Identifier: Apache-2.0 */
/* The directories of containers below --root. */
#include "tools/oci/oci.h"

#include "tools/image/rootfs-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

/* For others to leave a directory that is removed. */
#define BUSY_TRIES 500
#define BUSY_MS    10

/* More than any description of a container: SPEC_FILE_MAX. */
#define FILE_MAX (4 << 20)

int oci_check_id(const char *id)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789_+-.";
	const size_t n = strlen(id);

	if (n > NAME_MAX)
		return log_ret(-EINVAL,
			       "'%.20s...': invalid container id: it has %zu "
			       "bytes, and may have %d",
			       id, n, NAME_MAX);
	if (n > 0 && strspn(id, letters) == n && strcmp(id, ".") != 0 &&
	    strcmp(id, "..") != 0)
		return 0;
	return log_ret(-EINVAL,
		       "'%s': invalid container id: it has letters, digits and "
		       "_+-. alone",
		       id);
}

char *oci_path(const struct oci *oci, const char *id, const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s%s%s", oci->root, id, name ? "/" : "",
		     name ? name : "") < 0) {
		log_error("out of memory");
		return NULL;
	}
	return path;
}

bool oci_store_has(const struct oci *oci, const char *id, const char *name)
{
	autofree char *path = oci_path(oci, id, name);

	return path && access(path, F_OK) == 0;
}

int oci_check_container(const struct oci *oci, const char *id)
{
	int r = oci_check_id(id);

	if (r < 0 || oci_store_has(oci, id, "vm"))
		return r;
	return log_ret(-ENOENT, "container '%s' does not exist", id);
}

/* With the directories above it, as `mkdir -p`. */
static int make_root(const char *root)
{
	autofree char *path = strdup(root);

	if (!path)
		return log_ret(-ENOMEM, "out of memory");
	for (char *p = path + 1;; p++) {
		const char c = *p;

		if (c != '/' && c != '\0')
			continue;
		*p = '\0';
		if (mkdir(path, c ? 0755 : 0700) < 0 && errno != EEXIST)
			return log_ret(-errno, "--root '%s': %s", path,
				       strerror(errno));
		*p = c;
		if (!c)
			return 0;
	}
}

static int make_dir(const struct oci *oci, const char *id, const char *name)
{
	autofree char *path = oci_path(oci, id, name);

	if (!path)
		return -ENOMEM;
	if (mkdir(path, 0700) == 0)
		return 0;
	if (errno == EEXIST && !name)
		return log_ret(-EEXIST,
			       "container with id exists already: '%s'", id);
	return log_ret(-errno, "'%s': %s", path, strerror(errno));
}

int oci_store_make(const struct oci *oci, const char *id)
{
	int r = make_root(oci->root);

	if (r == 0)
		r = make_dir(oci, id, NULL);
	if (r < 0)
		return r;
	r = make_dir(oci, id, "bundle");
	if (r == 0)
		r = make_dir(oci, id, "vm");
	if (r < 0)
		(void)oci_store_remove(oci, id);
	return r;
}

/* By one of these a container's directory is known. */
static const char *const marks[] = {"vm", "bundle", "container.json"};

/*
 * `delete --force` takes any ID, and below --root may be what others keep:
 * whether there is anything of oci_store_make()'s.
 */
static bool is_ours(const struct oci *oci, const char *id)
{
	bool found = false;

	for (unsigned i = 0; !found && i < ARRAY_LEN(marks); i++) {
		autofree char *path = oci_path(oci, id, marks[i]);

		found = path && access(path, F_OK) == 0;
	}
	return found;
}

static bool is_mark(const char *name)
{
	unsigned i = 0;

	while (i < ARRAY_LEN(marks) && strcmp(marks[i], name) != 0)
		i++;
	return i < ARRAY_LEN(marks);
}

/*
 * The marks last: whoever is killed in the midst of it leaves a directory that
 * the next `delete --force` takes for a container's. 0 or -errno.
 */
static int remove_all(const char *path)
{
	DIR *dir = opendir(path);
	const struct dirent *entry;
	int r = 0;

	if (!dir)
		return errno == ENOENT ? 0 : -errno;
	while (r == 0 && (entry = readdir(dir))) {
		if (strcmp(entry->d_name, ".") != 0 &&
		    strcmp(entry->d_name, "..") != 0 && !is_mark(entry->d_name))
			r = tree_remove(dirfd(dir), entry->d_name);
	}
	closedir(dir);
	return r < 0 ? r : tree_remove(AT_FDCWD, path);
}

int oci_store_remove(const struct oci *oci, const char *id)
{
	const struct timespec pause = {.tv_nsec = BUSY_MS * 1000000};
	autofree char *path = oci_path(oci, id, NULL);
	int r;

	if (!path)
		return -ENOMEM;
	if (rmdir(path) == 0 || errno == ENOENT)
		return 0;
	if (!is_ours(oci, id))
		return log_ret(-EEXIST, "'%s': not a container's directory",
			       path);
	r = remove_all(path);
	/* An engine calls `delete` twice at once, or a process still ends. */
	for (unsigned i = 0; r == -ENOTEMPTY && i < BUSY_TRIES; i++) {
		nanosleep(&pause, NULL);
		r = remove_all(path);
	}
	return r < 0 ? log_ret(r, "cannot remove '%s': %s", path, strerror(-r))
		     : 0;
}

int oci_store_give(const struct oci *oci, const char *id, uid_t uid, gid_t gid)
{
	autofree char *path = oci_path(oci, id, "vm");

	if (!path)
		return -ENOMEM;
	if (uid == geteuid() && gid == getegid())
		return 0;
	return lchown(path, uid, gid) < 0
		       ? log_ret(-errno,
				 "'%s': cannot be given to the container's "
				 "root, user %u and group %u of the host: %s",
				 path, (unsigned)uid, (unsigned)gid,
				 strerror(errno))
		       : 0;
}

/* A file in a directory that oci_store_give() has given goes with it. */
static int follow_owner(int fd, const char *path)
{
	autofree char *dir = strdup(path);
	struct stat st;

	if (!dir)
		return -ENOMEM;
	*strrchr(dir, '/') = '\0';
	if (stat(dir, &st) < 0)
		return -errno;
	if (st.st_uid == geteuid() && st.st_gid == getegid())
		return 0;
	return fchown(fd, st.st_uid, st.st_gid) < 0 ? -errno : 0;
}

int oci_store_write(const struct oci *oci, const char *id, const char *name,
		    json_t *json)
{
	autofree char *path = oci_path(oci, id, name);
	autofree char *text = json_dumps(json, JSON_COMPACT);
	autofd int fd = -1;
	int r;

	if (!path || !text)
		return log_ret(-ENOMEM, "out of memory");
	/* A pipe may be there, put by the container: it is not waited for. */
	fd = open(path,
		  O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_NONBLOCK |
			  O_CLOEXEC,
		  0600);
	r = fd < 0 ? -errno : follow_owner(fd, path);
	if (r == 0)
		r = util_write_all(fd, text, strlen(text));
	return r < 0 ? log_ret(r, "'%s': %s", path, strerror(-r)) : 0;
}

/*
 * The container's root, or a monitor that was taken over, can put anything in
 * the place of a file in `vm`: a pipe that nobody writes to, a link to a file
 * of the host's, one without an end.
 */
static int read_file(const char *path, char **ret_text, size_t *ret_bytes)
{
	autofd int fd =
		open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	return S_ISREG(st.st_mode)
		       ? util_read_file(fd, FILE_MAX, ret_text, ret_bytes)
		       : -EINVAL;
}

/* 0, and *RET is NULL where there is no file; or -errno and WHY. */
static int read_json(const char *path, json_t **ret, json_error_t *why)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	int r = read_file(path, &text, &bytes);

	*ret = NULL;
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	snprintf(why->text, sizeof(why->text), "%s", strerror(-r));
	why->line = 0;
	if (r < 0)
		return r;
	*ret = json_loadb(text, bytes, 0, why);
	return *ret ? 0 : -EBADMSG;
}

json_t *oci_store_read(const struct oci *oci, const char *id, const char *name)
{
	autofree char *path = oci_path(oci, id, name);
	json_error_t error;
	json_t *json = NULL;
	int r = path ? read_json(path, &json, &error) : 0;

	if (r == -EBADMSG)
		log_error("'%s': line %d: %s", path, error.line, error.text);
	else if (r < 0)
		log_error("'%s': %s", path, error.text);
	return json;
}

static bool are_notes(json_t *json)
{
	json_t *host = json_object_get(json, "host");

	return json_is_object(json) && (!host || json_is_string(host));
}

int oci_store_own(const struct oci *oci, const char *id, bool tells,
		  json_t **ret)
{
	autofree char *path = oci_path(oci, id, "container.json");
	json_error_t error;
	json_t *json = NULL;
	int r = path ? read_json(path, &json, &error) : -ENOMEM;

	if (r == 0 && json && !are_notes(json)) {
		json_decref(json);
		r = -EBADMSG;
		snprintf(error.text, sizeof(error.text),
			 "no notes of a container");
	}
	if (r == 0)
		*ret = json;
	else if (tells && path)
		log_error("container '%s' is damaged: '%s': %s: 'delete "
			  "--force' removes it",
			  id, path, error.text);
	return r;
}

bool oci_is_paused(const struct oci *oci, const char *id)
{
	autofree char *path = oci_path(oci, id, OCI_PAUSED_FILE);

	return path && access(path, F_OK) == 0;
}
