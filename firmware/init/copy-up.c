/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The archive that `cp` uses goes through a pipe: a tree's types, owners and
 * hostile names are dealt with in one place.
 */
#include "firmware/init/copy-up.h"

#include "firmware/archive/pack.h"
#include "firmware/archive/unpack.h"
#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

bool copy_up_wanted(char *options)
{
	const size_t n = strlen(COPY_UP_OPTION);
	bool wanted = false;
	char *word = options;

	while (*word) {
		const size_t len = strcspn(word, ",");
		char *next = word + len + (word[len] == ',');

		if (len == n && strncmp(word, COPY_UP_OPTION, n) == 0) {
			memmove(word, next, strlen(next) + 1);
			wanted = true;
		} else {
			word = next;
		}
	}
	/* The last word's comma. */
	if (wanted && word > options && word[-1] == ',')
		word[-1] = '\0';
	return wanted;
}

static void pack_and_exit(int from, int out)
{
	const struct pack_source source = {
		.root = from,
		.resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
		.path = "/.",
	};

	_exit(pack_tree(&source, out) < 0);
}

static int wait_for(pid_t pid)
{
	int status;

	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return status ? -EIO : 0;
}

/* Unless the file system's options name one. */
static int copy_owner(int from, int to)
{
	struct stat was, st;

	if (fstat(from, &was) < 0 || fstat(to, &st) < 0)
		return -errno;
	if (st.st_uid || st.st_gid)
		return 0;
	return fchown(to, was.st_uid, was.st_gid) < 0 ? -errno : 0;
}

/* 0 or -errno. */
static int copy(int from, int mount)
{
	const struct unpack_options options = {
		.as_is = true,
		.owners = true,
		.mode = 07777,
	};
	struct unpack_place place = {.into = true, .must_be = true};
	autofd int in = -1;
	autofd int out = -1;
	int ends[2], r, packed;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0)
		return -errno;
	in = ends[0];
	out = ends[1];
	place.dir = openat(mount, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (place.dir < 0)
		return -errno;
	r = copy_owner(from, place.dir);
	pid = r < 0 ? -1 : fork();
	if (pid == 0) {
		close(in);
		pack_and_exit(from, out);
	}
	if (r == 0 && pid < 0)
		r = -errno;
	util_close(&out);
	if (r == 0)
		r = unpack_archive(&place, &options, in);
	util_close(&place.dir);
	/* A reader that failed leaves the writer without one. */
	util_close(&in);
	packed = pid < 0 ? 0 : wait_for(pid);
	return r < 0 && r != -ENODATA ? r : packed;
}

int copy_up(int root, const char *path, int mount, struct init_failure *f)
{
	autofd int from = root_open(root, path, O_RDONLY | O_DIRECTORY);
	int r = from < 0 ? from : copy(from, mount);

	return r < 0 && r != -ENOENT && r != -ENOTDIR
		       ? init_fail_path(f, -r, "copy to its tmpfs", path)
		       : 0;
}
