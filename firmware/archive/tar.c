/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tar reader: headers of POSIX.1-1988 (ustar), extended ones of
 * POSIX.1-2001 (pax), and what GNU tar adds. Sparse files and volumes of
 * several parts are refused: half of them would be worse than nothing.
 */
#include "firmware/archive/tar.h"

#include "firmware/archive/tar-header.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/*
 * The size of an extended header; a capability or an ACL has some hundred
 * bytes.
 */
#define PAX_MAX (1 * MIB)

void tar_init(struct tar *tar, const struct tar_input *in)
{
	memset(tar, 0, sizeof(*tar));
	tar->in = *in;
	tar->size = tar->uid = tar->gid = -1;
}

/* Forgets what was kept for the last entry. */
static void forget(struct tar *tar)
{
	free(tar->path);
	free(tar->link);
	free(tar->pax);
	tar->path = tar->link = tar->pax = NULL;
	tar->size = tar->uid = tar->gid = -1;
	tar->has_mtime = false;
	memset(&tar->entry, 0, sizeof(tar->entry));
}

void tar_done(struct tar *tar)
{
	forget(tar);
}

static int bad(const struct tar *tar, const char *what)
{
	return log_ret(-EINVAL, "%s: damaged archive: header %" PRIu64 " %s",
		       tar->in.name, tar->number, what);
}

static int unsupported(const struct tar *tar, const char *what)
{
	return log_ret(-ENOTSUP,
		       "%s: header %" PRIu64 " is of %s, which is "
		       "not supported",
		       tar->in.name, tar->number, what);
}

static int no_memory(const struct tar *tar)
{
	return log_ret(-ENOMEM, "%s: no memory", tar->in.name);
}

/* ---- input */

/* How many of LEN bytes there were before the end; or -errno. */
static ssize_t read_up_to(struct tar *tar, void *buf, size_t len)
{
	size_t done = 0;

	while (done < len) {
		ssize_t n = tar->in.read(tar->in.arg, (char *)buf + done,
					 len - done);

		if (n < 0)
			return n;
		if (n == 0)
			break;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

static int skip(struct tar *tar, uint64_t len)
{
	char buf[4096];

	if (tar->in.skip)
		return len > 0 ? tar->in.skip(tar->in.arg, len) : 0;
	while (len > 0) {
		ssize_t n = tar->in.read(tar->in.arg, buf,
					 min_u64(len, sizeof(buf)));

		if (n < 0)
			return (int)n;
		if (n == 0)
			return bad(tar, "is followed by too little data");
		len -= (uint64_t)n;
	}
	return 0;
}

static void begin_data(struct tar *tar, uint64_t bytes)
{
	tar->left = bytes;
	tar->padding = (unsigned)(-bytes % BLOCK);
}

static int end_data(struct tar *tar)
{
	int r = skip(tar, tar->left);

	if (r == 0)
		r = skip(tar, tar->padding);
	tar->left = tar->padding = 0;
	return r;
}

ssize_t tar_read(struct tar *tar, void *buf, size_t len)
{
	ssize_t n;

	len = min_u64(len, tar->left);
	if (len == 0)
		return 0;
	n = tar->in.read(tar->in.arg, buf, len);
	if (n == 0)
		return bad(tar, "is followed by too little data");
	if (n > 0)
		tar->left -= (uint64_t)n;
	return n;
}

/* ---- fields of a header */

/* Octal digits, or GNU's base 256. False when it is neither, or negative. */
static bool number(const char *field, size_t len, uint64_t *ret)
{
	const uint8_t *p = (const uint8_t *)field;
	uint64_t value = 0;
	size_t i = 0;

	if (p[0] & 0x80) {
		value = p[0] & 0x7f;
		for (i = 1; i < len; i++) {
			if (value >> 55 != 0)
				return false;
			value = value << 8 | p[i];
		}
		*ret = value;
		return true;
	}
	while (i < len && p[i] == ' ')
		i++;
	for (; i < len && p[i] >= '0' && p[i] <= '7'; i++)
		value = value << 3 | (p[i] - '0');
	for (; i < len; i++)
		if (p[i] != ' ' && p[i] != '\0')
			return false;
	*ret = value;
	return true;
}

/* The sum of a header's bytes, its own field taken as spaces. */
static bool checksum_fits(const struct header *h)
{
	const uint8_t *p = (const uint8_t *)h;
	const size_t at = offsetof(struct header, checksum);
	int64_t plain = 0, with_sign = 0;
	uint64_t stored;

	for (size_t i = 0; i < BLOCK; i++) {
		uint8_t c = i - at < sizeof(h->checksum) ? ' ' : p[i];

		plain += c;
		with_sign += (int8_t)c;
	}
	/* Some old archivers added signed characters. */
	return number(h->checksum, sizeof(h->checksum), &stored) &&
	       ((int64_t)stored == plain || (int64_t)stored == with_sign);
}

/* Allocated; what is not terminated ends with its field. */
static char *text(const char *field, size_t len)
{
	return strndup(field, len);
}

/* A ustar name: prefix, slash, name. GNU's header has other things there. */
static char *full_name(const struct header *h)
{
	char joined[sizeof(h->prefix) + 1 + sizeof(h->name) + 1];
	size_t n = strnlen(h->prefix, sizeof(h->prefix));
	size_t name = strnlen(h->name, sizeof(h->name));

	if (memcmp(h->magic, "ustar\0", 6) != 0 || n == 0)
		return text(h->name, sizeof(h->name));
	memcpy(joined, h->prefix, n);
	joined[n++] = '/';
	memcpy(joined + n, h->name, name);
	joined[n + name] = '\0';
	return strdup(joined);
}

/* ---- extended headers */

/* All data of the current header, allocated, with a NUL behind it. */
static int read_data(struct tar *tar, uint64_t bytes, uint64_t max,
		     char **ret_data)
{
	autofree char *data = NULL;
	ssize_t n;
	int r;

	if (bytes > max)
		return bad(tar, "has too much to say");
	data = malloc(bytes + 1);
	if (!data)
		return no_memory(tar);
	begin_data(tar, bytes);
	n = read_up_to(tar, data, bytes);
	if (n < 0)
		return (int)n;
	if ((uint64_t)n < bytes)
		return bad(tar, "is followed by too little data");
	data[bytes] = '\0';
	tar->left = 0;
	r = end_data(tar);
	if (r < 0)
		return r;
	*ret_data = take_ptr(data);
	return 0;
}

static int replace(struct tar *tar, char **dest, const char *value, size_t len)
{
	char *copy;

	if (len > TAR_NAME_MAX || memchr(value, '\0', len))
		return bad(tar, "has a name that no file can have");
	copy = strndup(value, len);
	if (!copy)
		return no_memory(tar);
	free(*dest);
	*dest = copy;
	return 0;
}

/* GNU's 'L' and 'K': the data is the next entry's name, with a NUL. */
static int read_long_name(struct tar *tar, uint64_t bytes, char **dest)
{
	autofree char *data = NULL;
	int r = read_data(tar, bytes, TAR_NAME_MAX + 1, &data);

	return r < 0 ? r : replace(tar, dest, data, strlen(data));
}

/* Seconds, maybe with a sign and a fraction. */
static bool parse_time(const char *value, struct timespec *ret)
{
	char *end;
	long scale = 100000000;
	long nsec = 0;
	time_t sec;

	errno = 0;
	sec = strtoll(value, &end, 10);
	if (end == value || errno != 0)
		return false;
	if (*end == '.') {
		for (end++; isdigit((unsigned char)*end); end++) {
			nsec += scale * (*end - '0');
			scale /= 10;
		}
	}
	if (*end != '\0')
		return false;
	if (value[0] == '-' && nsec > 0) {
		if (sec == INT64_MIN)
			return false;
		sec--;
		nsec = 1000000000 - nsec;
	}
	*ret = (struct timespec){.tv_sec = sec, .tv_nsec = nsec};
	return true;
}

static int pax_number(struct tar *tar, const char *value, int64_t *ret)
{
	uint64_t n;

	if (!isdigit((unsigned char)value[0]) || value[1] == 'x' ||
	    util_parse_number(value, 0, INT64_MAX, &n) < 0)
		return bad(tar, "has a number that is none");
	*ret = (int64_t)n;
	return 0;
}

static int pax_xattr(struct tar *tar, const char *name, const char *value,
		     size_t len)
{
	if (tar->entry.nxattrs == TAR_XATTRS_MAX)
		return bad(tar, "has too many extended attributes");
	tar->xattr[tar->entry.nxattrs++] = (struct tar_xattr){
		.name = name,
		.value = value,
		.bytes = len,
	};
	return 0;
}

/* One record; KEY and VALUE end with a NUL. Unknown keys change nothing. */
static int pax_record(struct tar *tar, const char *key, const char *value,
		      size_t len)
{
	static const char xattr[] = "SCHILY.xattr.";

	if (strncmp(key, xattr, sizeof(xattr) - 1) == 0)
		return pax_xattr(tar, key + sizeof(xattr) - 1, value, len);
	if (strncmp(key, "GNU.sparse.", 11) == 0)
		return unsupported(tar, "a sparse file");
	/* An empty value takes back an earlier one. */
	if (strcmp(key, "path") == 0 && len > 0)
		return replace(tar, &tar->path, value, len);
	if (strcmp(key, "linkpath") == 0 && len > 0)
		return replace(tar, &tar->link, value, len);
	if (strcmp(key, "size") == 0 && len > 0)
		return pax_number(tar, value, &tar->size);
	if (strcmp(key, "uid") == 0 && len > 0)
		return pax_number(tar, value, &tar->uid);
	if (strcmp(key, "gid") == 0 && len > 0)
		return pax_number(tar, value, &tar->gid);
	if (strcmp(key, "mtime") == 0 && len > 0) {
		if (!parse_time(value, &tar->mtime))
			return bad(tar, "has a time that is none");
		tar->has_mtime = true;
	}
	return 0;
}

/* "LENGTH KEY=VALUE\n", again and again; LENGTH counts all of it. */
static int read_pax(struct tar *tar, uint64_t bytes)
{
	char *p, *end;
	int r;

	free(take_ptr(tar->pax));
	tar->entry.nxattrs = 0; /* their memory is gone */
	r = read_data(tar, bytes, PAX_MAX, &tar->pax);
	if (r < 0)
		return r;
	for (p = tar->pax, end = p + bytes; p < end;) {
		char *key, *equals, *last;
		uint64_t length;

		errno = 0;
		length = isdigit((unsigned char)*p) ? strtoull(p, &key, 10) : 0;
		if (length == 0 || errno != 0 || *key != ' ' ||
		    length > (uint64_t)(end - p))
			return bad(tar, "has a record without a length");
		key++;
		last = p + length - 1;
		if (last < key || *last != '\n')
			return bad(tar, "has a record without an end");
		equals = memchr(key, '=', (size_t)(last - key));
		if (!equals || equals == key ||
		    memchr(key, '\0', (size_t)(equals - key)))
			return bad(tar, "has a record without a key");
		*equals = *last = '\0';
		r = pax_record(tar, key, equals + 1,
			       (size_t)(last - equals - 1));
		if (r < 0)
			return r;
		p = last + 1;
	}
	return 0;
}

/* ---- entries */

/* The next header: 1, 0 at the archive's end, or -errno. */
static int read_header(struct tar *tar, struct header *h)
{
	static const char zeros[BLOCK];
	ssize_t n = read_up_to(tar, h, sizeof(*h));

	if (n <= 0)
		return (int)n;
	tar->number++;
	if (n < BLOCK)
		return bad(tar, "is cut off");
	if (memcmp(h, zeros, BLOCK) == 0)
		return 0;
	if (!checksum_fits(h))
		return bad(tar, "has a wrong checksum");
	return 1;
}

/* Where the format leaves a choice, a name tells a directory from a file. */
static int entry_type(const struct tar *tar, char flag, enum tar_type *ret)
{
	static const struct {
		char flag;
		enum tar_type type;
	} types[] = {
		{'0', TAR_FILE},  {'\0', TAR_FILE},   {'7', TAR_FILE},
		{'1', TAR_LINK},  {'2', TAR_SYMLINK}, {'3', TAR_CHAR},
		{'4', TAR_BLOCK}, {'5', TAR_DIR},     {'6', TAR_FIFO},
	};
	const size_t len = strlen(tar->path);

	if (len > 0 && tar->path[len - 1] == '/' &&
	    (flag == '0' || flag == '\0')) {
		*ret = TAR_DIR;
		return 0;
	}
	for (unsigned i = 0; i < ARRAY_LEN(types); i++) {
		if (types[i].flag == flag) {
			*ret = types[i].type;
			return 0;
		}
	}
	if (flag == 'S')
		return unsupported(tar, "a sparse file");
	if (flag == 'M' || flag == 'V')
		return unsupported(tar, "an archive in several parts");
	return unsupported(tar, "an unknown type");
}

/* An owner, from the extended header or the plain one. */
static int owner(const struct tar *tar, int64_t extended, const char field[8],
		 uint32_t *ret)
{
	uint64_t value = (uint64_t)extended;

	if (extended < 0 && !number(field, 8, &value))
		return bad(tar, "has an owner that is no number");
	/* To chown() the highest one means "leave it". */
	if (value >= UINT32_MAX)
		return bad(tar, "has an owner that does not exist");
	*ret = (uint32_t)value;
	return 0;
}

static int read_names(struct tar *tar, const struct header *h)
{
	struct tar_entry *e = &tar->entry;
	int r;

	if (!tar->path)
		tar->path = full_name(h);
	if (!tar->path)
		return no_memory(tar);
	if (tar->path[0] == '\0')
		return bad(tar, "has no name");
	r = entry_type(tar, h->type, &e->type);
	if (r < 0)
		return r;
	e->path = tar->path;
	if (e->type != TAR_LINK && e->type != TAR_SYMLINK)
		return 0;
	if (!tar->link)
		tar->link = text(h->linkname, sizeof(h->linkname));
	if (!tar->link)
		return no_memory(tar);
	if (tar->link[0] == '\0')
		return bad(tar, "is a link to nothing");
	e->link = tar->link;
	return 0;
}

/* Only nodes have a number; others may have anything in those fields. */
static int read_device(struct tar *tar, const struct header *h)
{
	uint64_t major, minor;

	if (tar->entry.type != TAR_CHAR && tar->entry.type != TAR_BLOCK)
		return 0;
	if (!number(h->devmajor, 8, &major) ||
	    !number(h->devminor, 8, &minor) || major >= 1u << 12 ||
	    minor >= 1u << 20)
		return bad(tar, "has a device number that is none");
	tar->entry.major = (uint32_t)major;
	tar->entry.minor = (uint32_t)minor;
	return 0;
}

static int read_entry(struct tar *tar, const struct header *h, uint64_t size)
{
	struct tar_entry *e = &tar->entry;
	uint64_t mode, mtime;
	int r = read_names(tar, h);

	if (r == 0)
		r = owner(tar, tar->uid, h->uid, &e->uid);
	if (r == 0)
		r = owner(tar, tar->gid, h->gid, &e->gid);
	if (r == 0)
		r = read_device(tar, h);
	if (r < 0)
		return r;
	if (!number(h->mode, sizeof(h->mode), &mode))
		return bad(tar, "has a mode that is no number");
	e->mode = (uint32_t)mode & 07777;
	e->mtime = tar->mtime;
	if (!tar->has_mtime) {
		/* Before 1970, as base 256 can say it: nobody misses it. */
		if (!number(h->mtime, sizeof(h->mtime), &mtime) ||
		    mtime > INT64_MAX)
			mtime = 0;
		e->mtime = (struct timespec){.tv_sec = (time_t)mtime};
	}
	/* Some archivers give a link its file's size, but no data. */
	e->bytes = e->type == TAR_FILE ? size : 0;
	e->xattrs = tar->xattr;
	begin_data(tar, e->bytes);
	return 1;
}

int tar_next(struct tar *tar)
{
	struct header h;
	uint64_t size;
	int r = end_data(tar);

	forget(tar);
	while (r == 0) {
		r = read_header(tar, &h);
		if (r <= 0)
			return r;
		if (!number(h.size, sizeof(h.size), &size) || size > INT64_MAX)
			return bad(tar, "has a size that is none");
		switch (h.type) {
		case 'x':
		case 'X': /* Solaris, the same */
			r = read_pax(tar, size);
			break;
		case 'g': /* for all that follow: comments, in practice */
			begin_data(tar, size);
			r = end_data(tar);
			break;
		case 'L':
			r = read_long_name(tar, size, &tar->path);
			break;
		case 'K':
			r = read_long_name(tar, size, &tar->link);
			break;
		default:
			if (tar->size >= 0)
				size = (uint64_t)tar->size;
			return read_entry(tar, &h, size);
		}
	}
	return r;
}
