/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store's records of its images: names, sizes, dates; listing, finding and
 * removing by them.
 */
#include "tools/image/rootfs-record.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#define RECORD   "image.json"
#define CONFIG   "config.json"
#define FROM_MAX (sizeof("from-") + SHA256_HEX)

static void json_unref(json_t **json)
{
	json_decref(*json);
}
#define autojson __attribute__((cleanup(json_unref)))

static int failed(const struct store *store, const char *id, int error)
{
	return log_ret(-error, "image store '%s': %.12s: %s", store->path, id,
		       strerror(error));
}

/* ---- files of an image */

/* A file of the store's own, whole; 0 or -errno. */
static int read_file(int dir, const char *name, char **ret_text,
		     size_t *ret_len)
{
	autofd int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

	return fd < 0 ? -errno
		      : util_read_file(fd, IMAGE_JSON_MAX, ret_text, ret_len);
}

/* The old content or the new, never half of one. */
static int write_file(int dir, const char *name, const char *text, size_t len)
{
	char temporary[64];
	int r;

	snprintf(temporary, sizeof(temporary), ".new-%s", name);
	{
		autofd int fd = openat(dir, temporary,
				       O_WRONLY | O_CREAT | O_TRUNC |
					       O_NOFOLLOW | O_CLOEXEC,
				       0600);

		r = fd < 0 ? -errno : util_write_all(fd, text, len);
	}
	if (r == 0 && renameat(dir, temporary, dir, name) < 0)
		r = -errno;
	return r;
}

/*
 * Older programs took names that could be meant as digests, or that a terminal
 * would obey. Readers of a record do not get to see them.
 */
static void drop_odd_names(json_t *names)
{
	for (size_t i = json_array_size(names); i > 0; i--) {
		const char *name =
			json_string_value(json_array_get(names, i - 1));

		if (!name || !name_is_normal(name))
			json_array_remove(names, i - 1);
	}
}

static int read_record(int dir, json_t **ret)
{
	autofree char *text = NULL;
	json_t *names;
	size_t len;
	int r = read_file(dir, RECORD, &text, &len);

	if (r < 0)
		return r;
	*ret = json_loadb(text, len, JSON_REJECT_DUPLICATES, NULL);
	names = json_object_get(*ret, "names");
	if (json_is_array(names)) {
		drop_odd_names(names);
		return 0;
	}
	json_decref(*ret);
	return -EUCLEAN;
}

static int write_record(int dir, json_t *record)
{
	autofree char *text =
		record ? json_dumps(record, JSON_INDENT(2)) : NULL;

	return text ? write_file(dir, RECORD, text, strlen(text)) : -ENOMEM;
}

int record_create(const struct store *store, const struct stored *image,
		  const struct meta *meta, const struct unpacked *unpacked)
{
	autojson json_t *record = json_pack(
		"{s:[], s:I, s:I, s:I, s:s, s:b}", "names", "bytes",
		(json_int_t)unpacked->bytes, "files",
		(json_int_t)unpacked->files, "unpacked", (json_int_t)time(NULL),
		"ownership", store->owner_xattr ? "xattr" : "host", "xattrs",
		unpacked->has_xattrs);
	int r = write_record(image->dir, record);

	if (r == 0)
		r = write_file(image->dir, CONFIG, meta->config_text,
			       meta->config_len);
	return r < 0 ? failed(store, image->id, -r) : 0;
}

int stored_read(const struct store *store, const struct stored *image,
		struct rootfs_config *ret_config, char **ret_name)
{
	autofree char *text = NULL;
	autojson json_t *record = NULL;
	const char *name;
	size_t len;
	int r = read_record(image->dir, &record);

	if (r == 0)
		r = read_file(image->dir, CONFIG, &text, &len);
	if (r < 0)
		return failed(store, image->id, -r);
	name = json_string_value(
		json_array_get(json_object_get(record, "names"), 0));
	r = config_parse(image->id, text, len, ret_config, NULL, NULL);
	if (r < 0)
		return r;
	*ret_name = name ? strdup(name) : NULL;
	if (name && !*ret_name) {
		rootfs_config_done(ret_config);
		return log_ret(-ENOMEM, "image '%s': no memory", name);
	}
	return 0;
}

bool stored_has_xattrs(const struct stored *image)
{
	autojson json_t *record = NULL;

	/* An older program's record does not say. */
	return read_record(image->dir, &record) < 0 ||
	       !json_is_false(json_object_get(record, "xattrs"));
}

/* ---- going through the images */

static bool is_id(const char *name)
{
	return strlen(name) == 64 && strspn(name, "0123456789abcdef") == 64;
}

/* All digests, allocated, NULL at the end. With the store locked. */
static int list_ids(const struct store *store, char ***ret_ids)
{
	const struct dirent *entry;
	char **ids = calloc(1, sizeof(*ids));
	size_t n = 0;
	int copy = openat(store->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = copy < 0 ? NULL : fdopendir(copy);

	if (!dir || !ids) {
		free(ids);
		util_close(&copy);
		return failed(store, "images", dir ? ENOMEM : errno);
	}
	while ((entry = readdir(dir))) {
		char **more;

		if (!is_id(entry->d_name))
			continue;
		more = reallocarray(ids, n + 2, sizeof(*ids));
		if (!more)
			break;
		ids = more;
		ids[n] = strdup(entry->d_name);
		if (!ids[n])
			break;
		ids[++n] = NULL;
	}
	closedir(dir);
	*ret_ids = ids;
	return 0;
}

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

static bool list_has(json_t *names, const char *name, size_t *ret_index)
{
	json_t *item;
	size_t i;

	json_array_foreach(names, i, item) {
		if (json_string_value(item) &&
		    strcmp(json_string_value(item), name) == 0) {
			*ret_index = i;
			return true;
		}
	}
	return false;
}

/*
 * The record of the image ID, and its directory open: -1 where either cannot be
 * read. A damaged one has no name.
 */
static int open_record(const struct store *store, const char *id, json_t **ret)
{
	autofd int dir =
		openat(store->dir, id,
		       O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	return dir >= 0 && read_record(dir, ret) == 0 ? take_fd(&dir) : -1;
}

static bool is_called(const struct store *store, const char *id,
		      const char *name)
{
	autojson json_t *record = NULL;
	autofd int dir = open_record(store, id, &record);
	size_t index;

	return dir >= 0 &&
	       list_has(json_object_get(record, "names"), name, &index);
}

/*
 * The image of which DIGITS are the digest's first, or where they are NULL the
 * one that is called NAME. 0, -ENOENT, -ENOTUNIQ or what was logged. With the
 * store locked.
 */
static int find_id(const struct store *store, const char *digits,
		   const char *name, char ret_id[SHA256_HEX])
{
	const size_t len = digits ? strlen(digits) : 0;
	unsigned found = 0;
	char **ids;
	int r = list_ids(store, &ids);

	if (r < 0)
		return r;
	for (char **id = ids; *id; id++) {
		if (digits ? strncmp(*id, digits, len) != 0
			   : !is_called(store, *id, name))
			continue;
		found++;
		snprintf(ret_id, SHA256_HEX, "%s", *id);
	}
	free_list(ids);
	if (found > 1 && digits)
		return log_ret(-ENOTUNIQ,
			       "image '%s': several digests begin with it",
			       name);
	return found > 0 ? 0 : -ENOENT;
}

/*
 * The image that TEXT means. A digest comes first and is the last word: no name
 * is looked at then. *RET_BY_NAME: it is a name. As find_id().
 */
static int resolve(const struct store *store, const char *text,
		   char ret_id[SHA256_HEX], bool *ret_by_name)
{
	const char *digits = name_digits(text);
	char normal[IMAGE_NAME_MAX + 1];

	*ret_by_name = !digits;
	if (digits)
		return digits[0] ? find_id(store, digits, text, ret_id)
				 : -ENOENT;
	return name_normalize(text, normal)
		       ? find_id(store, NULL, normal, ret_id)
		       : -ENOENT;
}

int store_find(struct store *store, const char *name, struct stored *ret)
{
	char id[SHA256_HEX];
	bool by_name;
	int r = store_lock(store);

	if (r < 0)
		return r;
	r = resolve(store, name, id, &by_name);
	if (r == 0) {
		r = store_get(store, id, LOCK_SH | LOCK_NB, ret);
		if (r < 0)
			failed(store, id, -r);
	}
	store_unlock(store);
	return r;
}

/* ---- archives that were seen before */

int store_recall(struct store *store, const char *key, struct stored *ret)
{
	char path[SHA256_HEX + 1 + FROM_MAX];
	char **ids;
	int r = store_lock(store);

	if (r < 0)
		return r;
	r = list_ids(store, &ids);
	if (r < 0) {
		store_unlock(store);
		return r;
	}
	r = -ENOENT;
	for (char **id = ids; *id && r == -ENOENT; id++) {
		snprintf(path, sizeof(path), "%s/from-%s", *id, key);
		if (faccessat(store->dir, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
			r = store_get(store, *id, LOCK_SH | LOCK_NB, ret);
	}
	store_unlock(store);
	free_list(ids);
	return r;
}

void store_remember(struct store *store, const struct stored *image,
		    const char *key)
{
	char name[FROM_MAX];
	autofd int fd = -1;

	snprintf(name, sizeof(name), "from-%s", key);
	fd = openat(image->dir, name,
		    O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		log_debug("image store '%s': %s: %s", store->path, name,
			  strerror(errno));
}

/* ---- names */

/* Takes the name from the image if it has it. With the store locked. */
static int remove_name(const struct store *store, const char *id,
		       const char *name)
{
	autojson json_t *record = NULL;
	autofd int dir = open_record(store, id, &record);
	json_t *names;
	size_t index;
	int r;

	if (dir < 0)
		return 0;
	names = json_object_get(record, "names");
	if (!list_has(names, name, &index))
		return 0;
	json_array_remove(names, index);
	r = write_record(dir, record);
	return r < 0 ? failed(store, id, -r) : 0;
}

/*
 * Moves the name to the image from the one that has it. With the store locked.
 */
static int move_name(const struct store *store, const struct stored *image,
		     json_t *record, const char *name)
{
	char **ids;
	int r = list_ids(store, &ids);

	if (r < 0)
		return r;
	for (char **id = ids; *id && r == 0; id++)
		if (strcmp(*id, image->id) != 0)
			r = remove_name(store, *id, name);
	free_list(ids);
	if (r < 0)
		return r;
	json_array_append_new(json_object_get(record, "names"),
			      json_string(name));
	r = write_record(image->dir, record);
	return r < 0 ? failed(store, image->id, -r) : 0;
}

static int name_locked(const struct store *store, const struct stored *image,
		       const char *name, bool move)
{
	autojson json_t *record = NULL;
	char id[SHA256_HEX];
	size_t index;
	int r = read_record(image->dir, &record);

	if (r < 0)
		return failed(store, image->id, -r);
	if (list_has(json_object_get(record, "names"), name, &index))
		return 0;
	r = find_id(store, NULL, name, id);
	if (r == 0 && !move)
		return -EEXIST;
	return r == 0 || r == -ENOENT ? move_name(store, image, record, name)
				      : r;
}

int store_name(struct store *store, const struct stored *image,
	       const char *name, bool move)
{
	int r = store_lock(store);

	if (r < 0)
		return r;
	r = name_locked(store, image, name, move);
	store_unlock(store);
	return r;
}

/* ---- listing */

static bool copy_names(json_t *names, char ***ret)
{
	json_t *item;
	size_t i;

	*ret = calloc(json_array_size(names) + 1, sizeof(**ret));
	if (!*ret)
		return false;
	json_array_foreach(names, i, item) {
		const char *name = json_string_value(item);

		(*ret)[i] = strdup(name ? name : "");
		if (!(*ret)[i])
			return false;
	}
	return true;
}

static uint64_t number(json_t *record, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(record, key));
}

/* 0, -EAGAIN: there is nothing to be said of it, or -ENOMEM. */
static int describe(struct store *store, const char *id,
		    struct rootfs_image *ret)
{
	struct stored image;
	autojson json_t *record = NULL;
	int r = store_get(store, id, LOCK_EX | LOCK_NB, &image);

	*ret = (struct rootfs_image){.used = r == -EWOULDBLOCK};
	if (ret->used)
		r = store_get(store, id, LOCK_SH | LOCK_NB, &image);
	if (r < 0)
		return -EAGAIN;
	r = read_record(image.dir, &record);
	stored_close(&image);
	if (r < 0)
		return -EAGAIN;
	ret->bytes = number(record, "bytes");
	ret->files = number(record, "files");
	ret->unpacked = (int64_t)number(record, "unpacked");
	if (asprintf(&ret->digest, "sha256:%s", id) < 0)
		ret->digest = NULL;
	if (!copy_names(json_object_get(record, "names"), &ret->names) ||
	    !ret->digest)
		return -ENOMEM;
	return 0;
}

static int newest_first(const void *a, const void *b)
{
	const struct rootfs_image *x = a, *y = b;

	return (x->unpacked < y->unpacked) - (x->unpacked > y->unpacked);
}

static int list_locked(struct store *store, struct rootfs_image **ret_images,
		       size_t *ret_count)
{
	struct rootfs_image *images;
	size_t count = 0, n = 0;
	char **ids;
	int r = list_ids(store, &ids);

	if (r < 0)
		return r;
	while (ids[n])
		n++;
	images = calloc(n + 1, sizeof(*images));
	if (!images)
		r = failed(store, "images", ENOMEM);
	for (size_t i = 0; i < n && r == 0; i++) {
		r = describe(store, ids[i], &images[count]);
		count += r != -EAGAIN;
		if (r == -ENOMEM)
			failed(store, ids[i], ENOMEM);
		else
			r = 0;
	}
	free_list(ids);
	if (r < 0) {
		rootfs_list_free(images, count);
		return r;
	}
	qsort(images, count, sizeof(*images), newest_first);
	*ret_images = images;
	*ret_count = count;
	return 0;
}

int rootfs_list(const char *path, struct rootfs_image **ret_images,
		size_t *ret_count)
{
	struct store store;
	int r = store_open(&store, path, false);

	*ret_images = NULL;
	*ret_count = 0;
	if (r < 0)
		return r == -ENOENT ? 0 : r;
	store_sweep(&store);
	r = store_lock(&store);
	if (r == 0) {
		r = list_locked(&store, ret_images, ret_count);
		store_unlock(&store);
	}
	store_close(&store);
	return r;
}

void rootfs_list_free(struct rootfs_image *images, size_t count)
{
	for (size_t i = 0; images && i < count; i++) {
		free(images[i].digest);
		free_list(images[i].names);
	}
	free(images);
}

/* ---- removing */

/* Out of sight, if nobody uses it. With the store locked. */
static int discard_image(struct store *store, const char *name, const char *id,
			 char ret_trash[STORE_TRASH_MAX])
{
	struct stored image;
	int r = store_get(store, id, LOCK_EX | LOCK_NB, &image);

	if (r == -EWOULDBLOCK)
		return log_ret(-EBUSY,
			       "image '%s': is in use; stop its containers "
			       "first",
			       name);
	/* A damaged one, without hold, can go as well. */
	if (r < 0 && r != -ENOENT)
		return failed(store, id, -r);
	if (r == 0)
		stored_close(&image);
	r = store_discard(store, id, ret_trash);
	return r < 0 ? failed(store, id, -r) : 0;
}

static bool has_other_names(const struct store *store, const char *id)
{
	autojson json_t *record = NULL;
	autofd int dir = open_record(store, id, &record);

	return dir >= 0 &&
	       json_array_size(json_object_get(record, "names")) > 1;
}

static int remove_locked(struct store *store, const char *name,
			 char ret_trash[STORE_TRASH_MAX])
{
	char id[SHA256_HEX], normal[IMAGE_NAME_MAX + 1];
	bool by_name;
	int r = resolve(store, name, id, &by_name);

	if (r == -ENOENT && !by_name && !name_is_digest(name))
		return log_ret(r,
			       "image '%s': no digest in the store '%s' begins "
			       "with it; if it is a name, give its tag: "
			       "'%s:latest'",
			       name, store->path, name);
	if (r == -ENOENT)
		return log_ret(r, "image '%s': not in the store '%s'", name,
			       store->path);
	if (r < 0)
		return r;
	if (by_name && has_other_names(store, id) &&
	    name_normalize(name, normal))
		return remove_name(store, id, normal);
	return discard_image(store, name, id, ret_trash);
}

int rootfs_remove(const char *path, const char *name)
{
	char trash[STORE_TRASH_MAX] = "";
	struct store store;
	int r = store_open(&store, path, false);

	if (r == -ENOENT)
		return log_ret(r, "image '%s': there is no image store yet",
			       name);
	if (r < 0)
		return r;
	store_sweep(&store);
	r = store_lock(&store);
	if (r == 0) {
		r = remove_locked(&store, name, trash);
		store_unlock(&store);
	}
	if (r == 0 && trash[0]) {
		r = tree_remove(store.dir, trash);
		if (r < 0)
			failed(&store, trash, -r);
	}
	store_close(&store);
	return r;
}
