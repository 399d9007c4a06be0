/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the unpacking of layers in a directory of its own: whatever names
 * and links the entries have, what is beside the tree stays as it was. (Without
 * the walls around the process that unpacks: this is about what is within.)
 *
 * Input: entries, three bytes each: what, where, and a link's target. The names
 * are few, so that entries meet each other.
 */
#include "tests/archive.h"
#include "tests/tempdir.h"
#include "tools/image/rootfs-parts.h"
#include "firmware/archive/tar.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILES_MAX   4096 /* more than it ever makes */
#define ENTRIES_MAX 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct place {
	char path[TEMPDIR_ROOM];
	char secret[80];
	int dir, root;
};

static void must(bool condition)
{
	if (!condition)
		abort();
}

static void prepare(struct place *p)
{
	/* It is made anew each time. */
	tempdir_name_in_memory(p->path);
	must(mkdtemp(p->path) != NULL);
	snprintf(p->secret, sizeof(p->secret), "%s/out/a", p->path);
	write_below(p->path, "out/a", "secret", 6);
	p->dir = open(p->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(p->dir >= 0 && mkdirat(p->dir, "tree", 0700) == 0);
	p->root = openat(p->dir, "tree", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	must(p->root >= 0);
}

/* Files outside are as they were; then all goes. */
static void finish(struct place *p)
{
	char content[16] = "";
	struct stat st;
	int fd = open(p->secret, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	must(fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink == 1 &&
	     (st.st_mode & 07777) == 0644 &&
	     read(fd, content, sizeof(content)) == 6 &&
	     memcmp(content, "secret", 6) == 0);
	close(fd);
	must(fstatat(p->dir, "out", &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	     st.st_nlink == 2 && (st.st_mode & 07777) == 0755);
	must(tree_remove(p->dir, "tree") == 0 &&
	     tree_remove(p->dir, "out") == 0);
	close(p->root);
	close(p->dir);
	/* Fails when something else was made there. */
	must(rmdir(p->path) == 0);
}

static void add(struct bytes *tar, const struct place *p, const uint8_t in[3])
{
	static const char *const names[] = {
		"a",
		"b",
		"a/b",
		"a/a",
		"b/a",
		"a/b/c",
		"./",
		"b/../a",
		"a/.wh.b",
		".wh.a",
		"a/.wh..wh..opq",
		".wh..wh..opq",
		"../out/a",
		"/a",
		"a/./b//",
		"b/.wh..",
	};
	const char *const targets[] = {
		p->secret,
		p->path,
		"../out",
		"../out/a",
		"..",
		"/",
		".",
		"a",
		"b",
		"a/b",
		"../../../../../tmp",
		"/proc/self/root",
		"b/a",
		"../a",
		"a/../..",
		"/proc/self/cwd",
	};
	static const char types[] = "0011225550226341";
	const struct archive_file file = {
		.type = types[in[0] & 15],
		.path = names[in[1] & 15],
		.link = targets[in[2] & 15],
		.mode = in[0] & 16 ? 07777 : 0700,
		.uid = in[1] >> 4,
		.content = types[in[0] & 15] == '0' ? "evil" : NULL,
	};

	tar_add(tar, &file);
}

struct feed {
	const struct bytes *bytes;
	size_t at;
};

static ssize_t feed_read(void *arg, void *buf, size_t len)
{
	struct feed *feed = arg;

	len = min_u64(len, feed->bytes->len - feed->at);
	if (len > 0)
		memcpy(buf, feed->bytes->data + feed->at, len);
	feed->at += len;
	return (ssize_t)len;
}

static void apply(struct tree *tree, const struct bytes *bytes)
{
	struct feed feed = {.bytes = bytes};
	const struct tar_input in = {
		.name = "fuzz",
		.arg = &feed,
		.read = feed_read,
	};
	struct tar tar;

	tree->made = inodes_new();
	must(tree->made != NULL);
	tar_init(&tar, &in);
	/* Refused values are left out here, so that the rest is tried too. */
	while (tar_next(&tar) > 0)
		(void)tree_apply(tree, &tar);
	tree_leave_parent(tree);
	tar_done(&tar);
	inodes_free(tree->made);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char buf[TREE_BUF_BYTES];
	struct tree tree = {.name = "fuzz",
			    .parent_fd = -1,
			    .buf = buf,
			    .files = FILES_MAX};
	struct bytes layer[2] = {{0}};
	struct place place;
	size_t entries = min_u64(size / 3, ENTRIES_MAX);

	prepare(&place);
	for (size_t i = 0; i < entries; i++)
		add(&layer[i > entries / 2], &place, data + 3 * i);
	tree.root = place.root;
	for (unsigned i = 0; i < ARRAY_LEN(layer); i++) {
		apply(&tree, &layer[i]);
		bytes_free(&layer[i]);
	}
	finish(&place);
	return 0;
}
