/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds the root file system that the user names: a directory as it is, or an
 * image, which is looked up in the store and unpacked when it is not there.
 */
#include "tools/image/rootfs.h"

#include "tools/image/rootfs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

/* With less than this to be had nothing can be unpacked. */
#define FULL_BYTES (64 * KIB)

/* Without O_NONBLOCK a FIFO would wait for a writer. */
#define OPEN_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC)

/* The user's request, taken apart. */
struct request {
	const char *what;
	char *path;       /* of the file or directory */
	const char *name; /* after the colon, in WHAT; or NULL */
	int fd;           /* of it */
	struct stat st;
	const struct rootfs_options *options;
	uint64_t max_bytes, max_files;
	char name_given[IMAGE_NAME_MAX + 1]; /* by the user; "": none */
};

void rootfs_close(struct rootfs *rootfs)
{
	free(rootfs->path);
	free(rootfs->name);
	free(rootfs->digest);
	rootfs_config_done(&rootfs->config);
	util_close(&rootfs->hold);
	*rootfs = (struct rootfs){.hold = -1};
}

static int no_memory(const char *what)
{
	return log_ret(-ENOMEM, "'%s': no memory", what);
}

/* ---- images */

/*
 * Fills in RET from a stored image and what META knows of it, both of which are
 * emptied. FALLBACK: what it is called when it has no name.
 */
static int finish(const struct store *store, struct stored *image,
		  struct meta *meta, const char *fallback, struct rootfs *ret)
{
	struct rootfs rootfs = {
		.owner_xattr = store->owner_xattr,
		.no_xattrs = !stored_has_xattrs(image),
		.hold = image->hold,
		.config = meta->config,
	};

	memset(&meta->config, 0, sizeof(meta->config));
	image->hold = -1;
	rootfs.name = text_printable(meta->name ? meta->name : fallback);
	if (asprintf(&rootfs.path, "%s/%s/tree", store->path, image->id) < 0)
		rootfs.path = NULL;
	if (asprintf(&rootfs.digest, "sha256:%s", image->id) < 0)
		rootfs.digest = NULL;
	if (!rootfs.path || !rootfs.digest || !rootfs.name) {
		rootfs_close(&rootfs);
		return no_memory(fallback);
	}
	*ret = rootfs;
	return 0;
}

/*
 * The name that the user gives, or else the one that META has, if it is free.
 * In META is then what the image is called, or NULL.
 */
static int give_name(const struct request *rq, struct store *store,
		     const struct stored *image, struct meta *meta)
{
	const bool by_user = rq->name_given[0] != '\0';
	int r;

	if (by_user) {
		free(meta->name);
		meta->name = strdup(rq->name_given);
		if (!meta->name)
			return no_memory(rq->what);
	}
	if (!meta->name)
		return 0;
	r = store_name(store, image, meta->name, by_user);
	if (r != -EEXIST)
		return r;
	log_warn("'%s': calls itself '%s', as does another image, which keeps "
		 "the name: this one is %.12s ('bulkhead tag %.12s %s' gives "
		 "it the name)",
		 rq->what, meta->name, image->id, image->id, meta->name);
	free(take_ptr(meta->name));
	return 0;
}

/* An image that is in the store: all that is known is there. */
static int finish_stored(const struct request *rq, struct store *store,
			 struct stored *image, struct rootfs *ret)
{
	struct meta meta = {0};
	int r = stored_read(store, image, &meta.config, &meta.name);

	if (r == 0 && rq->name_given[0])
		r = give_name(rq, store, image, &meta);
	if (r == 0)
		r = finish(store, image, &meta, rq->what, ret);
	meta_done(&meta);
	stored_close(image);
	return r;
}

/* The limits, and no more than the disk has: some is left for the others. */
static int make_budget(const struct request *rq, const struct store *store,
		       struct budget *ret)
{
	struct statvfs fs;
	uint64_t left;

	if (fstatvfs(store->dir, &fs) < 0)
		return log_ret(-errno, "image store '%s': %s", store->path,
			       strerror(errno));
	left = (uint64_t)fs.f_bavail * fs.f_frsize;
	left -= min_u64(left / 20, GIB);
	*ret = (struct budget){
		.bytes = min_u64(rq->max_bytes, left),
		.files = rq->max_files,
		.disk = left < rq->max_bytes,
	};
	ret->max_bytes = ret->bytes;
	return 0;
}

/*
 * The process that unpacks knows no more than what it could not write. That of
 * a quota is not seen here.
 */
static void tell_full(const struct store *store)
{
	struct statvfs fs;

	if (fstatvfs(store->dir, &fs) < 0 ||
	    (fs.f_bavail * fs.f_frsize >= FULL_BYTES &&
	     (fs.f_files == 0 || fs.f_favail > 0)))
		return;
	log_error("image store '%s': its file system is full: 'bulkhead rmi' "
		  "removes images, BULKHEAD_STORE names another place",
		  store->path);
}

static int fill(const struct request *rq, const struct source *src,
		struct store *store, const struct meta *meta,
		struct stored *image)
{
	struct unpacked unpacked = {0};
	struct budget budget;
	uint64_t start = util_now_ns();
	autofd int tree = -1;
	int r = make_budget(rq, store, &budget);

	if (r < 0)
		return r;
	if (mkdirat(image->dir, "tree", 0700) == 0)
		tree = openat(image->dir, "tree",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (tree < 0)
		return log_ret(-errno, "image store '%s': %s", store->path,
			       strerror(errno));
	log_info("image '%s': unpacking %u layers", src->path, meta->nlayers);
	r = unpack(src, meta, tree, store->owner_xattr, &budget, &unpacked);
	if (r < 0 && r != -EFBIG)
		tell_full(store);
	if (r == 0)
		r = record_create(store, image, meta, &unpacked);
	if (r == 0)
		r = store_commit(store, image);
	if (r == 0)
		log_info("image '%s': %" PRIu64 " MiB, %" PRIu64
			 " files in %" PRIu64 " ms",
			 src->path, unpacked.bytes / MIB, unpacked.files,
			 (util_now_ns() - start) / 1000000);
	return r;
}

/* An image from outside, which is in the store now or later. */
static int open_source(const struct request *rq, const struct source *src,
		       struct store *store, const char *key, struct rootfs *ret)
{
	struct stored image;
	struct meta meta;
	bool new;
	int r = meta_read(src, rq->name, &meta);

	if (r < 0)
		return r;
	r = store_enter(store, meta.digest, &image, &new);
	if (r < 0) {
		meta_done(&meta);
		return r;
	}
	if (new) {
		r = fill(rq, src, store, &meta, &image);
		if (r < 0)
			store_abort(store, &image);
	}
	if (r == 0)
		r = give_name(rq, store, &image, &meta);
	if (r == 0 && key)
		store_remember(store, &image, key);
	if (r == 0)
		r = finish(store, &image, &meta, rq->what, ret);
	stored_close(&image);
	meta_done(&meta);
	return r;
}

/* ---- archives */

/*
 * The key by which an archive is known without reading it all. A file that was
 * changed just now may change again within the same tick of the clock: no key.
 */
static bool archive_key(const struct request *rq, char ret_key[SHA256_HEX])
{
	const struct stat *st = &rq->st;
	autofree char *text = NULL;
	int len;

	if (time(NULL) - st->st_ctim.tv_sec < 2)
		return false;
	len = asprintf(&text, "%ju:%ju:%ju:%jd.%09ld:%jd.%09ld:%s",
		       (uintmax_t)st->st_dev, (uintmax_t)st->st_ino,
		       (uintmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
		       st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec,
		       st->st_ctim.tv_nsec, rq->name ? rq->name : "");
	if (len < 0) {
		text = NULL;
		return false;
	}
	sha256_hex(text, (size_t)len, ret_key);
	return true;
}

struct inflate_job {
	const struct request *rq;
	const struct store *store;
	struct budget budget;
	int out;
};

/* Copies what the archive inflates to. RESULT: 0 or -errno, logged. */
static void inflate_walled(void *arg, void *result)
{
	struct inflate_job *job = arg;
	const struct blob blob = {
		.fd = job->rq->fd,
		.bytes = (uint64_t)job->rq->st.st_size,
	};
	autofree char *buf = malloc(TREE_BUF_BYTES);
	struct stream *stream =
		buf ? stream_open(job->rq->path, &blob, &job->budget) : NULL;
	int *ret = result;
	ssize_t n;

	*ret = stream ? 0 : no_memory(job->rq->path);
	while (*ret == 0) {
		n = stream_read(stream, buf, TREE_BUF_BYTES);
		if (n <= 0) {
			*ret = (int)n;
			break;
		}
		*ret = util_write_all(job->out, buf, (size_t)n);
		if (*ret < 0)
			log_error("image store '%s': temporary file: %s",
				  job->store->path, strerror(-*ret));
	}
	stream_close(stream);
}

/*
 * A packed archive has no places to read from: a copy without name has. Nothing
 * of the archive was compared with a digest yet: its bytes are read behind
 * walls with no file inside.
 */
static int inflate_archive(const struct request *rq, struct store *store,
			   int *ret_fd)
{
	struct inflate_job job = {.rq = rq, .store = store};
	autofd int out =
		openat(store->dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	autofd int nowhere = -1;
	int result;
	int r = out < 0 ? log_ret(-errno,
				  "image store '%s': temporary file: %s",
				  store->path, strerror(errno))
			: make_budget(rq, store, &job.budget);

	if (r < 0)
		return r;
	nowhere = store_nowhere(store);
	if (nowhere < 0)
		return nowhere;
	job.out = out;
	r = walled(rq->path, nowhere, -1, inflate_walled, &job, &result,
		   sizeof(result));
	if (r == 0)
		r = result;
	if (r == 0)
		*ret_fd = take_fd(&out);
	return r;
}

static int open_image(struct request *rq, struct store *store, bool packed,
		      struct rootfs *ret)
{
	char key[SHA256_HEX];
	const bool has_key = packed && archive_key(rq, key);
	struct stored image;
	struct source src;
	int fd = -1, r;

	if (has_key && store_recall(store, key, &image) == 0)
		return finish_stored(rq, store, &image, ret);
	if (packed) {
		r = inflate_archive(rq, store, &fd);
		if (r < 0)
			return r;
	} else {
		fd = take_fd(&rq->fd);
	}
	r = source_open(&src, rq->path, fd);
	if (r == 0)
		r = open_source(rq, &src, store, has_key ? key : NULL, ret);
	source_close(&src);
	return r;
}

/* ---- what is there */

/*
 * Takes the longest start of the path that exists; after a colon comes a name.
 */
static int split(struct request *rq)
{
	const char *colon = rq->what;

	rq->path = strdup(rq->what);
	if (!rq->path)
		return -ENOMEM;
	rq->fd = open(rq->path, OPEN_FLAGS);
	while (rq->fd < 0 && (errno == ENOENT || errno == ENOTDIR)) {
		colon = strchr(colon, ':');
		if (!colon)
			return -ENOENT;
		memcpy(rq->path, rq->what, strlen(rq->what) + 1);
		rq->path[colon++ - rq->what] = '\0';
		rq->name = colon;
		rq->fd = open(rq->path, OPEN_FLAGS);
	}
	return rq->fd < 0 || fstat(rq->fd, &rq->st) < 0 ? -errno : 0;
}

static int open_directory(const struct request *rq, struct rootfs *ret)
{
	struct rootfs rootfs = {.hold = -1};

	if (rq->name_given[0])
		return log_ret(-EINVAL,
			       "'%s': a plain directory is no image: it cannot "
			       "have the name '%s'",
			       rq->what, rq->name_given);
	if (rq->name)
		return log_ret(-EINVAL,
			       "'%s': '%s' is no OCI layout, there is no '%s' "
			       "in it",
			       rq->what, rq->path, rq->name);
	rootfs.path = realpath(rq->path, NULL);
	rootfs.name = text_printable(rq->what);
	if (!rootfs.path || !rootfs.name || !config_empty(&rootfs.config)) {
		rootfs_close(&rootfs);
		return no_memory(rq->what);
	}
	*ret = rootfs;
	return 0;
}

static int not_there(const struct request *rq)
{
	if (strchr(rq->what, '@') && name_is_digest(rq->what))
		return log_ret(-ENOENT,
			       "'%s': no image in the store has this digest; "
			       "it has them by their configuration's digest "
			       "('bulkhead images'), not by a registry's",
			       rq->what);
	if (name_is_digest(rq->what))
		return log_ret(-ENOENT,
			       "'%s': no image in the store has this digest "
			       "('bulkhead images' lists them); a file of that "
			       "name is './%s'",
			       rq->what, rq->what);
	if (name_digits(rq->what))
		return log_ret(-ENOENT,
			       "'%s': neither a file nor the start of an "
			       "image's digest ('bulkhead images' lists them); "
			       "an image's name of such digits needs its tag: "
			       "'%s:latest'",
			       rq->what, rq->what);
	return log_ret(-ENOENT,
		       "'%s': neither a directory, an OCI layout or an "
		       "archive, nor an image that was used before "
		       "('bulkhead images' lists them); nothing is "
		       "fetched: 'skopeo copy docker://NAME "
		       "docker-archive:FILE.tar' gets one",
		       rq->what);
}

/* By name or digest. */
static int open_stored(const struct request *rq, struct rootfs *ret)
{
	struct stored image;
	struct store store;
	int r = -ENOENT;

	/* A text that looks like a path is meant as one. */
	if (rq->what[0] != '/' && rq->what[0] != '.') {
		r = store_open(&store, rq->options->store, false);
		if (r == 0) {
			r = store_find(&store, rq->what, &image);
			if (r == 0)
				r = finish_stored(rq, &store, &image, ret);
			store_close(&store);
		}
	}
	return r == -ENOENT ? not_there(rq) : r;
}

/* The kind of archive it is: -EINVAL, logged, when it is none. */
static int look_at(const struct request *rq, bool *ret_packed)
{
	uint8_t head[TAR_MAGIC_AT + 5] = {0};
	const size_t len = min_u64((uint64_t)rq->st.st_size, sizeof(head));
	const struct packing *packing;

	if (!S_ISREG(rq->st.st_mode))
		return log_ret(-EINVAL, "'%s': neither a directory nor a file",
			       rq->path);
	if (util_read_at(rq->fd, head, len, 0) < 0)
		memset(head, 0, sizeof(head));
	packing = packing_find(head, len);
	*ret_packed = packing != NULL;
	if (!packing && memcmp(head + TAR_MAGIC_AT, "ustar", 5) == 0)
		return 0;
	if (!packing)
		return log_ret(-EINVAL,
			       "'%s': not an image: neither a tar archive nor "
			       "one packed with gzip, zstd or xz",
			       rq->path);
	if (!packing_supported(packing))
		return log_ret(-ENOTSUP,
			       "'%s': packed with %s, which is not supported; "
			       "unpack it first",
			       rq->path, packing_name(packing));
	return 0;
}

static int open_file(struct request *rq, struct rootfs *ret)
{
	const bool is_dir = S_ISDIR(rq->st.st_mode);
	bool packed = false;
	struct store store;
	int r;

	if (is_dir && faccessat(rq->fd, "oci-layout", F_OK, 0) < 0)
		return open_directory(rq, ret);
	r = is_dir ? 0 : look_at(rq, &packed);
	if (r == 0)
		r = store_open(&store, rq->options->store, true);
	if (r < 0)
		return r;
	r = open_image(rq, &store, packed, ret);
	store_close(&store);
	return r;
}

int rootfs_open(const char *what, const struct rootfs_options *options,
		struct rootfs *ret)
{
	struct request rq = {
		.what = what,
		.fd = -1,
		.options = options,
		.max_bytes = options->max_bytes ? options->max_bytes
						: ROOTFS_MAX_BYTES,
		.max_files = options->max_files ? options->max_files
						: ROOTFS_MAX_FILES,
	};
	int r = 0;

	if (options->name && !name_normalize(options->name, rq.name_given))
		return log_ret(-EINVAL,
			       "'%s': not a name for an image: letters, digits "
			       "and '._-/', a ':' before the tag, and nothing "
			       "that could be a digest",
			       options->name);
	r = name_is_digest(what) ? -ENOENT : split(&rq);
	if (r == 0)
		r = open_file(&rq, ret);
	else if (r == -ENOENT || r == -ENOTDIR)
		r = open_stored(&rq, ret);
	else
		log_error("'%s': %s", what, strerror(-r));
	free(rq.path);
	util_close(&rq.fd);
	return r;
}
