/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records, one after the other: what it is (one byte), the length of its name
 * (one byte), its length (four bytes, little-endian), the name, the bytes.
 */
#include "vmm/base/visit.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 64
#define GROWTH         16384

enum record { RECORD_FIELD = 1, RECORD_PART, RECORD_PART_END };

struct head {
	uint8_t record;
	uint8_t name_bytes;
	uint32_t bytes;
} __attribute__((packed));

void visit_save(struct visitor *v)
{
	*v = (struct visitor){.loads = false};
}

void visit_load(struct visitor *v, const void *from, size_t bytes)
{
	*v = (struct visitor){.loads = true, .from = from, .bytes = bytes};
}

void visit_done(struct visitor *v)
{
	free(v->saved);
	*v = (struct visitor){0};
}

static void fail(struct visitor *v, int error, const char *why)
{
	char where[VISIT_DEPTH_MAX * (NAME_MAX_BYTES + 2)] = "";
	size_t n = 0;

	if (v->error)
		return;
	v->error = error;
	for (unsigned i = 0; i < v->depth && i < VISIT_DEPTH_MAX; i++)
		n += (size_t)snprintf(where + n, sizeof(where) - n,
				      "%.*s: ", NAME_MAX_BYTES, v->part[i]);
	snprintf(v->why, sizeof(v->why), "%s%s", where, why);
	log_error("%s state: %s", v->loads ? "loading" : "saving", v->why);
}

void visit_wrong(struct visitor *v, const char *format, ...)
{
	char why[160];
	va_list ap;

	va_start(ap, format);
	vsnprintf(why, sizeof(why), format, ap);
	va_end(ap);
	fail(v, -EINVAL, why);
}

/* ---- saving */

static uint8_t *grow(struct visitor *v, size_t bytes)
{
	const size_t needed = v->bytes + bytes;

	if (needed > v->room) {
		const size_t room = needed + needed / 2 + GROWTH;
		uint8_t *saved = realloc(v->saved, room);

		if (!saved) {
			fail(v, -ENOMEM, "out of memory");
			return NULL;
		}
		v->saved = saved;
		v->room = room;
	}
	v->bytes = needed;
	return v->saved + needed - bytes;
}

static void put(struct visitor *v, enum record record, const char *name,
		const void *data, size_t bytes)
{
	const struct head head = {
		.record = (uint8_t)record,
		.name_bytes = (uint8_t)strlen(name),
		.bytes = htole32((uint32_t)bytes),
	};
	uint8_t *to;

	assert(strlen(name) <= NAME_MAX_BYTES && bytes <= UINT32_MAX);
	to = grow(v, sizeof(head) + head.name_bytes + bytes);
	if (!to)
		return;
	memcpy(to, &head, sizeof(head));
	memcpy(to + sizeof(head), name, head.name_bytes);
	if (bytes > 0)
		memcpy(to + sizeof(head) + head.name_bytes, data, bytes);
}

/* ---- loading */

static void unexpected(struct visitor *v, const char *name,
		       const struct head *head)
{
	const char *found = (const char *)v->from + v->at + sizeof(*head);
	int printable = 0;

	while (printable < head->name_bytes && found[printable] > ' ' &&
	       found[printable] < 127)
		printable++;
	visit_wrong(v,
		    "'%s' is expected where '%.*s' is: it is of another "
		    "version of this program, or damaged",
		    name, printable, found);
}

/* The bytes of the next record, which is to be this one; or NULL, failed. */
static const uint8_t *get(struct visitor *v, enum record record,
			  const char *name, size_t *ret_bytes)
{
	struct head head;
	const uint8_t *data;
	size_t left = v->bytes - v->at;

	if (left < sizeof(head)) {
		visit_wrong(v, "it ends where '%s' is expected", name);
		return NULL;
	}
	memcpy(&head, v->from + v->at, sizeof(head));
	head.bytes = le32toh(head.bytes);
	left -= sizeof(head);
	if (head.name_bytes > left || head.bytes > left - head.name_bytes) {
		visit_wrong(v, "it ends within what should be '%s'", name);
		return NULL;
	}
	if (head.record != (uint8_t)record || head.name_bytes != strlen(name) ||
	    memcmp(v->from + v->at + sizeof(head), name, head.name_bytes)) {
		unexpected(v, name, &head);
		return NULL;
	}
	data = v->from + v->at + sizeof(head) + head.name_bytes;
	v->at += sizeof(head) + head.name_bytes + head.bytes;
	*ret_bytes = head.bytes;
	return data;
}

/* The same of BYTES, or NULL. */
static const uint8_t *get_sized(struct visitor *v, const char *name,
				size_t bytes)
{
	size_t found = 0;
	const uint8_t *data = get(v, RECORD_FIELD, name, &found);

	if (data && found != bytes) {
		visit_wrong(v, "'%s' has %zu bytes, not %zu", name, found,
			    bytes);
		return NULL;
	}
	return data;
}

/* ---- fields */

void visit_part(struct visitor *v, const char *name)
{
	size_t bytes;

	assert(v->depth < VISIT_DEPTH_MAX);
	v->part[v->depth++] = name;
	if (v->error)
		return;
	if (v->loads)
		(void)get(v, RECORD_PART, name, &bytes);
	else
		put(v, RECORD_PART, name, NULL, 0);
}

void visit_part_end(struct visitor *v)
{
	const char *name = v->part[v->depth - 1];
	size_t bytes;

	if (!v->error && v->loads)
		(void)get(v, RECORD_PART_END, name, &bytes);
	else if (!v->error)
		put(v, RECORD_PART_END, name, NULL, 0);
	v->depth--;
}

/* Saves BYTES at DATA: NULL. Or loads: as many, where they stand; or NULL. */
static const uint8_t *field(struct visitor *v, const char *name,
			    const void *data, size_t bytes)
{
	if (v->error)
		return NULL;
	if (v->loads)
		return get_sized(v, name, bytes);
	put(v, RECORD_FIELD, name, data, bytes);
	return NULL;
}

void visit_bytes(struct visitor *v, const char *name, void *data, size_t bytes)
{
	const uint8_t *from = field(v, name, data, bytes);

	if (from)
		memcpy(data, from, bytes);
}

void visit_bool(struct visitor *v, const char *name, bool *value)
{
	uint8_t byte = *value;

	visit_bytes(v, name, &byte, sizeof(byte));
	if (v->error)
		return;
	if (byte > 1)
		visit_wrong(v, "'%s' is %u, neither true nor false", name,
			    byte);
	else
		*value = byte;
}

void visit_count(struct visitor *v, const char *name, unsigned *count,
		 unsigned max)
{
	unsigned n = *count;

	visit_bytes(v, name, &n, sizeof(n));
	if (v->error)
		return;
	if (n > max)
		visit_wrong(v, "'%s' is %u, more than %u", name, n, max);
	else
		*count = n;
}

/* The same for a field of MAX bytes at most: it sets *BYTES, 0 if there are
 * none. */
static const uint8_t *field_up_to(struct visitor *v, const char *name,
				  const void *data, size_t *bytes, size_t max)
{
	const uint8_t *from = NULL;
	size_t n = 0;

	if (!v->loads) {
		if (!v->error)
			put(v, RECORD_FIELD, name, data, *bytes);
		return NULL;
	}
	if (!v->error)
		from = get(v, RECORD_FIELD, name, &n);
	if (from && n > max) {
		visit_wrong(v, "'%s' has %zu bytes, more than %zu", name, n,
			    max);
		from = NULL;
	}
	*bytes = from ? n : 0;
	return from;
}

void visit_room(struct visitor *v, const char *name, void *room, size_t *bytes,
		size_t max)
{
	const uint8_t *from = field_up_to(v, name, room, bytes, max);

	if (from)
		memcpy(room, from, *bytes);
}

void visit_buffer(struct visitor *v, const char *name, uint8_t **data,
		  size_t *bytes, size_t max)
{
	const uint8_t *from = field_up_to(v, name, *data, bytes, max);

	if (!v->loads)
		return;
	*data = *bytes > 0 ? malloc(*bytes) : NULL;
	if (*data) {
		memcpy(*data, from, *bytes);
	} else if (*bytes > 0) {
		*bytes = 0;
		fail(v, -ENOMEM, "out of memory");
	}
}

void visit_same(struct visitor *v, const char *name, const void *data,
		size_t bytes)
{
	const uint8_t *from = field(v, name, data, bytes);

	if (from && memcmp(from, data, bytes))
		visit_wrong(v, "'%s' is not what it was when it was saved",
			    name);
}

int visit_end(struct visitor *v)
{
	if (!v->error && v->loads && v->at != v->bytes)
		visit_wrong(v, "%zu bytes follow its end", v->bytes - v->at);
	return v->error;
}
