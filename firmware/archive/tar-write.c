/* SPDX-License-Identifier: Apache-2.0 */
/* Headers as POSIX.1-2001 has them ("pax Interchange Format"). */
#include "firmware/archive/tar-write.h"

#include "firmware/archive/tar-header.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* The most that octal digits to the left of a NUL can say. */
#define MAX_8  UINT64_C(07777777)
#define MAX_12 UINT64_C(077777777777)
/* Two names, and some numbers. */
#define PAX_ROOM (2 * (TAR_NAME_MAX + 32) + 256)

struct pax {
	char text[PAX_ROOM];
	size_t bytes;
};

/* "LENGTH KEY=VALUE\n": the length has its own digits in it. */
static void pax_add(struct pax *pax, const char *key, const char *value)
{
	const size_t rest = strlen(key) + strlen(value) + 3;
	size_t length = rest + 1;
	char digits[24];

	while (rest + (size_t)snprintf(digits, sizeof(digits), "%zu", length) !=
	       length)
		length++;
	if (length >= sizeof(pax->text) - pax->bytes)
		return; /* cannot be: names have a limit */
	pax->bytes += (size_t)snprintf(pax->text + pax->bytes,
				       sizeof(pax->text) - pax->bytes,
				       "%zu %s=%s\n", length, key, value);
}

static void pax_add_number(struct pax *pax, const char *key, uint64_t value)
{
	char text[24];

	snprintf(text, sizeof(text), "%" PRIu64, value);
	pax_add(pax, key, text);
}

/* A name that fits, or the beginning of one that a record has. */
static void put_name(struct pax *pax, const char *key, char field[100],
		     const char *name)
{
	const size_t n = strlen(name);

	memcpy(field, name, n < 100 ? n : 100);
	if (n > 100)
		pax_add(pax, key, name);
}

static void put_number(struct pax *pax, const char *key, char *field,
		       size_t room, uint64_t value)
{
	const uint64_t max = room == 8 ? MAX_8 : MAX_12;
	char text[24];

	if (value > max)
		pax_add_number(pax, key, value);
	snprintf(text, sizeof(text), "%0*" PRIo64, (int)room - 1,
		 value > max ? 0 : value);
	memcpy(field, text, room - 1);
}

static void put_time(struct pax *pax, char field[12],
		     const struct timespec *time)
{
	const bool plain = time->tv_sec >= 0 && time->tv_nsec == 0 &&
			   (uint64_t)time->tv_sec <= MAX_12;
	const bool back = time->tv_sec < 0 && time->tv_nsec > 0;
	char text[48];

	put_number(pax, "", field, 12,
		   time->tv_sec < 0 || (uint64_t)time->tv_sec > MAX_12
			   ? 0
			   : (uint64_t)time->tv_sec);
	if (plain)
		return;
	/* Before 1970 the fraction goes backwards, too. */
	snprintf(text, sizeof(text), "%s%" PRId64 ".%09ld",
		 back && time->tv_sec == -1 ? "-" : "",
		 (int64_t)time->tv_sec + back,
		 back ? 1000000000 - time->tv_nsec : time->tv_nsec);
	pax_add(pax, "mtime", text);
}

static void put_checksum(struct header *h)
{
	const uint8_t *p = (const uint8_t *)h;
	unsigned sum = 0;

	memset(h->checksum, ' ', sizeof(h->checksum));
	for (size_t i = 0; i < BLOCK; i++)
		sum += p[i];
	snprintf(h->checksum, sizeof(h->checksum), "%06o", sum & 0777777);
}

static void begin(struct header *h, char type)
{
	memset(h, 0, sizeof(*h));
	memcpy(h->magic, "ustar", 6);
	memcpy(h->version, "00", 2);
	h->type = type;
}

int tar_write_padding(int fd, uint64_t bytes)
{
	static const char zeros[BLOCK];

	return util_write_all(fd, zeros, (size_t)(-bytes % BLOCK));
}

int tar_write_end(int fd)
{
	static const char zeros[2 * BLOCK];

	return util_write_all(fd, zeros, sizeof(zeros));
}

static int write_pax(int fd, const struct pax *pax)
{
	struct pax none = {.bytes = 0};
	struct header h;
	int r;

	begin(&h, 'x');
	memcpy(h.name, "pax", 3);
	put_number(&none, "", h.mode, 8, 0644);
	put_number(&none, "", h.uid, 8, 0);
	put_number(&none, "", h.gid, 8, 0);
	put_number(&none, "", h.size, 12, pax->bytes);
	put_number(&none, "", h.mtime, 12, 0);
	put_checksum(&h);
	r = util_write_all(fd, &h, sizeof(h));
	if (r == 0)
		r = util_write_all(fd, pax->text, pax->bytes);
	return r == 0 ? tar_write_padding(fd, pax->bytes) : r;
}

int tar_write_entry(int fd, const struct tar_entry *e)
{
	static const char types[] = {
		[TAR_FILE] = '0', [TAR_LINK] = '1',  [TAR_SYMLINK] = '2',
		[TAR_CHAR] = '3', [TAR_BLOCK] = '4', [TAR_DIR] = '5',
		[TAR_FIFO] = '6',
	};
	struct pax pax = {.bytes = 0};
	struct header h;
	int r = 0;

	begin(&h, types[e->type]);
	put_name(&pax, "path", h.name, e->path);
	if (e->link)
		put_name(&pax, "linkpath", h.linkname, e->link);
	put_number(&pax, "", h.mode, 8, e->mode & 07777);
	put_number(&pax, "uid", h.uid, 8, e->uid);
	put_number(&pax, "gid", h.gid, 8, e->gid);
	put_number(&pax, "size", h.size, 12, e->bytes);
	put_number(&pax, "", h.devmajor, 8, e->major);
	put_number(&pax, "", h.devminor, 8, e->minor);
	put_time(&pax, h.mtime, &e->mtime);
	put_checksum(&h);
	if (pax.bytes > 0)
		r = write_pax(fd, &pax);
	return r == 0 ? util_write_all(fd, &h, sizeof(h)) : r;
}
