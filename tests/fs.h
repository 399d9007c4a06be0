/* SPDX-License-Identifier: Apache-2.0 */
/* A shared tree (devices/fs/fs.h) in a directory of a test's own. */
#ifndef TESTS_FS_H
#define TESTS_FS_H

#include "devices/fs/fs.h"
#include "tests/descriptors.h"
#include "tests/tempdir.h"
#include "vmm/base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#define FEW 16 /* descriptors */

struct rig {
	char top[TEMPDIR_ROOM], share[80], outside[80];
	struct fs *fs;
};

#define ME (&(struct fs_who){geteuid(), getegid(), 0})

static inline const char *path(const struct rig *r, const char *name)
{
	static char buf[PATH_MAX];

	snprintf(buf, sizeof(buf), "%s/%s", r->share, name);
	return buf;
}

static inline void host_file(const char *name, const char *text)
{
	FILE *f = fopen(name, "we");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline int open_fs(struct rig *r, const struct fs_options *options)
{
	struct fs_options o = *options;

	o.path = r->share;
	if (o.ownership == FS_OWNER_AUTO)
		o.ownership = FS_OWNER_HOST;
	fs_close(r->fs);
	r->fs = NULL;
	return fs_open("test", &o, &r->fs);
}

static inline int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	assert_non_null(r);
	tempdir_name_on_disk(r->top);
	assert_non_null(mkdtemp(r->top));
	snprintf(r->share, sizeof(r->share), "%s/share", r->top);
	snprintf(r->outside, sizeof(r->outside), "%s/outside", r->top);
	assert_int_equal(mkdir(r->share, 0755), 0);
	assert_int_equal(mkdir(r->outside, 0755), 0);
	*state = r;
	return open_fs(r, &(struct fs_options){.max_paths = FEW});
}

static inline int teardown(void **state)
{
	struct rig *r = *state;
	char command[128];

	fs_close(r->fs);
	snprintf(command, sizeof(command), "rm -rf %s", r->top);
	assert_int_equal(system(command), 0);
	free(r);
	return 0;
}

/* Where most requests begin, and so the one before has ended. */
static inline struct fs_inode *root(struct rig *r)
{
	fs_settle(r->fs);
	return fs_inode(r->fs, FS_ROOT);
}

static inline struct fs_inode *look(struct rig *r, struct fs_inode *dir,
				    const char *name)
{
	struct fs_entry e;

	fs_settle(r->fs);
	assert_int_equal(fs_lookup(r->fs, dir, name, &e), 0);
	return e.inode;
}

static inline int looking(struct rig *r, struct fs_inode *dir, const char *name)
{
	struct fs_entry e;

	fs_settle(r->fs);
	return fs_lookup(r->fs, dir, name, &e);
}

static inline ssize_t contents(struct rig *r, struct fs_inode *inode,
			       char buf[64])
{
	const struct iovec iov = {buf, 63};
	uint64_t id;
	ssize_t n;
	int e;

	fs_settle(r->fs);
	e = fs_open_file(r->fs, inode, O_RDONLY, &id);
	if (e < 0)
		return e;
	n = fs_read(fs_handle(r->fs, id, inode, false), &iov, 1, 0);
	buf[n > 0 ? n : 0] = '\0';
	fs_release(r->fs, fs_handle(r->fs, id, inode, false));
	fs_settle(r->fs);
	return n;
}

#endif
