/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where an image's blobs are: files of a directory, or members of a tar archive
 * that are read where they lie. Nothing outside of the directory is opened,
 * whatever links are in it.
 */
#include "tools/image/rootfs-parts.h"
#include "firmware/archive/tar.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>

/* An image has a few members a layer. */
#define MEMBERS_MAX 16384
#define LINKS_MAX   8

struct member {
	char *path;
	char *link; /* to another member; NULL: a file */
	uint64_t offset, bytes;
};

/*
 * PATH without empty parts, "." and "..", seen from the directory that FROM is
 * in (NULL: the root). Allocated; NULL when there is no memory or it leads out.
 */
static char *clean(const char *from, const char *path)
{
	const char *slash = from ? strrchr(from, '/') : NULL;
	const size_t base = slash ? (size_t)(slash - from) : 0;
	char *out = malloc(base + strlen(path) + 2);
	size_t len = base;

	if (!out)
		return NULL;
	memcpy(out, from ? from : "", base);
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && memcmp(path, "..", 2) == 0) {
			if (len == 0) {
				free(out);
				return NULL;
			}
			while (len > 0 && out[--len] != '/')
				;
		} else if (n > 0 && !(n == 1 && path[0] == '.')) {
			if (len > 0)
				out[len++] = '/';
			memcpy(out + len, path, n);
			len += n;
		}
		path += n + (path[n] == '/');
	}
	out[len] = '\0';
	return out;
}

/* ---- an archive's members */

struct cursor {
	const char *name;
	int fd;
	uint64_t at, end;
};

static ssize_t cursor_read(void *arg, void *buf, size_t len)
{
	struct cursor *c = arg;
	int r;

	len = min_u64(len, c->end - c->at);
	r = util_read_at(c->fd, buf, len, c->at);
	if (r < 0)
		return log_ret(r, "%s: %s", c->name, strerror(-r));
	c->at += len;
	return (ssize_t)len;
}

static int cursor_skip(void *arg, uint64_t len)
{
	struct cursor *c = arg;

	if (len > c->end - c->at)
		return log_ret(-EINVAL, "image '%s': the archive is cut off",
			       c->name);
	c->at += len;
	return 0;
}

static int add_member(struct source *src, const struct tar_entry *e,
		      uint64_t offset)
{
	const bool is_link = e->type == TAR_LINK || e->type == TAR_SYMLINK;
	struct member *m;

	if (e->type != TAR_FILE && !is_link)
		return 0;
	if (src->nmembers == MEMBERS_MAX)
		return log_ret(-EINVAL,
			       "'%s': not an image: the archive has more than "
			       "%d members",
			       src->path, MEMBERS_MAX);
	m = reallocarray(src->members, src->nmembers + 1, sizeof(*m));
	if (!m)
		return log_ret(-ENOMEM, "image '%s': no memory", src->path);
	src->members = m;
	m += src->nmembers;
	*m = (struct member){.offset = offset, .bytes = e->bytes};
	m->path = clean(NULL, e->path);
	/* A hard link's name begins at the root, a symlink's beside it. */
	if (m->path && is_link)
		m->link = clean(e->type == TAR_LINK ? NULL : m->path, e->link);
	if (!m->path || (is_link && !m->link)) {
		/* It leads out: no member. */
		free(m->path);
		return 0;
	}
	src->nmembers++;
	return 0;
}

static int read_members(struct source *src, uint64_t bytes)
{
	struct cursor cursor = {
		.name = src->path,
		.fd = src->file,
		.end = bytes,
	};
	const struct tar_input in = {
		.name = src->path,
		.arg = &cursor,
		.read = cursor_read,
		.skip = cursor_skip,
	};
	struct tar tar;
	int r;

	tar_init(&tar, &in);
	while ((r = tar_next(&tar)) > 0) {
		r = add_member(src, &tar.entry, cursor.at);
		if (r == 0 && !range_fits(cursor.at, tar.entry.bytes, bytes))
			r = log_ret(-EINVAL,
				    "image '%s': the archive is cut off",
				    src->path);
		if (r < 0)
			break;
	}
	tar_done(&tar);
	return r;
}

int source_open(struct source *src, const char *path, int fd)
{
	struct stat st;

	*src = (struct source){.path = path, .dir = -1, .file = -1};
	if (fstat(fd, &st) < 0) {
		close(fd);
		return log_ret(-errno, "image '%s': %s", path, strerror(errno));
	}
	if (S_ISDIR(st.st_mode)) {
		src->dir = fd;
		return 0;
	}
	src->file = fd;
	return read_members(src, (uint64_t)st.st_size);
}

void source_close(struct source *src)
{
	for (size_t i = 0; i < src->nmembers; i++) {
		free(src->members[i].path);
		free(src->members[i].link);
	}
	free(src->members);
	src->members = NULL;
	src->nmembers = 0;
	util_close(&src->dir);
	util_close(&src->file);
}

/* ---- finding */

/* Where two have one name the last counts, as when unpacked in turn. */
static const struct member *find_member(const struct source *src,
					const char *name)
{
	for (unsigned hops = 0; hops <= LINKS_MAX; hops++) {
		size_t i = src->nmembers;

		while (i > 0 && strcmp(src->members[i - 1].path, name) != 0)
			i--;
		if (i == 0)
			return NULL;
		if (!src->members[i - 1].link)
			return &src->members[i - 1];
		name = src->members[i - 1].link;
	}
	return NULL;
}

static int find_file(const struct source *src, const char *name,
		     struct blob *ret_blob, int *ret_fd)
{
	struct stat st;
	autofd int fd = -1;
	int r = tree_open(src->dir, name, O_RDONLY | O_NONBLOCK | O_NOCTTY,
			  RESOLVE_BENEATH);

	if (r == -ENOENT)
		return r;
	if (r < 0)
		return log_ret(r, "image '%s': open '%s': %s", src->path, name,
			       strerror(-r));
	fd = r;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return log_ret(-EINVAL, "image '%s': '%s' is not a file",
			       src->path, name);
	*ret_blob = (struct blob){.fd = fd, .bytes = (uint64_t)st.st_size};
	*ret_fd = take_fd(&fd);
	return 0;
}

int source_find(const struct source *src, const char *name,
		struct blob *ret_blob, int *ret_fd)
{
	autofree char *cleaned = clean(NULL, name);
	const struct member *m;

	if (!cleaned || cleaned[0] == '\0')
		return -ENOENT;
	if (src->dir >= 0)
		return find_file(src, cleaned, ret_blob, ret_fd);
	m = find_member(src, cleaned);
	if (!m)
		return -ENOENT;
	*ret_blob = (struct blob){
		.fd = src->file,
		.offset = m->offset,
		.bytes = m->bytes,
	};
	*ret_fd = -1;
	return 0;
}

int source_text(const struct source *src, const char *name, char **ret_text,
		size_t *ret_len)
{
	autofree char *text = NULL;
	autofd int fd = -1;
	struct blob blob;
	int r = source_find(src, name, &blob, &fd);

	if (r < 0)
		return r;
	if (blob.bytes > IMAGE_JSON_MAX)
		return log_ret(-EINVAL,
			       "image '%s': '%s' has more than %u bytes",
			       src->path, name, IMAGE_JSON_MAX);
	text = malloc(blob.bytes + 1);
	if (!text)
		return log_ret(-ENOMEM, "image '%s': no memory", src->path);
	r = util_read_at(blob.fd, text, blob.bytes, blob.offset);
	if (r < 0)
		return log_ret(r, "image '%s': read '%s': %s", src->path, name,
			       strerror(-r));
	text[blob.bytes] = '\0';
	*ret_text = take_ptr(text);
	*ret_len = blob.bytes;
	return 0;
}
