/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The state of a machine's parts, saved to bytes and loaded from them. Each
 * part has one function for both ways: it hands its fields, by name, to a
 * visitor, which copies them out of the part or into it. So the two lists
 * cannot differ, and what was saved by another version, or was changed since,
 * is found by the first name or size that is not the expected one.
 *
 *	void serial_visit(struct serial *s, struct visitor *v)
 *	{
 *		VISIT(v, s, ier);
 *		VISIT(v, s, line);
 *		if (visit_loads(v) && s->rx.count > SERIAL_FIFO)
 *			visit_wrong(v, "more input than the FIFO takes");
 *	}
 *
 * The first error stays: after it nothing is copied, and the part has to be
 * thrown away with its machine. A file may say anything: each part's function
 * checks the values on which memory safety rests.
 *
 * One thread at a time.
 */
#ifndef VMM_BASE_VISIT_H
#define VMM_BASE_VISIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VISIT_DEPTH_MAX 4 /* parts within parts */

struct visitor {
	bool loads;
	int error;           /* 0, or the first -errno */
	uint8_t *saved;      /* owned; what was saved so far */
	const uint8_t *from; /* borrowed; what is loaded */
	size_t bytes, room;  /* of the one or the other */
	size_t at;           /* where the next record is loaded from */
	const char *part[VISIT_DEPTH_MAX]; /* borrowed names, for messages */
	unsigned depth;
	char why[512]; /* the error, as it was logged; "": none */
};

/* One that saves; visit_done() frees it. */
void visit_save(struct visitor *v);
/* One that loads BYTES at FROM, borrowed until visit_done(). */
void visit_load(struct visitor *v, const void *from, size_t bytes);
/*
 * 0 if all went well and, of one that loads, nothing is left over; -EINVAL:
 * what was loaded does not fit; -ENOMEM; all of them logged. Once.
 */
int visit_end(struct visitor *v);
void visit_done(struct visitor *v);

static inline bool visit_loads(const struct visitor *v)
{
	return v->loads;
}

/* True while there was no error. */
static inline bool visit_goes_on(const struct visitor *v)
{
	return v->error == 0;
}

/* Fields from here to the end belong to the part NAME, a borrowed text. */
void visit_part(struct visitor *v, const char *name);
void visit_part_end(struct visitor *v);

/* BYTES at DATA, always as many. */
void visit_bytes(struct visitor *v, const char *name, void *data, size_t bytes);
/* Loads nothing but the two values of a bool. */
void visit_bool(struct visitor *v, const char *name, bool *value);
/* A number of things that follow, MAX at most. */
void visit_count(struct visitor *v, const char *name, unsigned *count,
		 unsigned max);
/*
 * As many bytes as there are, in ROOM for MAX. Loading sets *BYTES, to 0 after
 * an error.
 */
void visit_room(struct visitor *v, const char *name, void *room, size_t *bytes,
		size_t max);
/*
 * The same without room. Loading allocates *DATA, which the
 * caller frees; it is NULL for none, and after an error.
 */
void visit_buffer(struct visitor *v, const char *name, uint8_t **data,
		  size_t *bytes, size_t max);
/*
 * A value that has to be the same in the part that is saved and in the one that
 * is loaded: copied when saving, compared when loading.
 */
void visit_same(struct visitor *v, const char *name, const void *data,
		size_t bytes);

/*
 * The part cannot be saved, or be as what was loaded says: -EINVAL, logged with
 * the part's name. Only the first one counts.
 */
void visit_wrong(struct visitor *v, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* A field of OBJECT: an integer or an enumeration, or an array of bytes. */
#define VISIT(v, object, field)                                                \
	_Generic(&(object)->field, bool *: visit_bool_field,                   \
		 default: visit_bytes)(v, #field, &(object)->field,            \
				       sizeof((object)->field))

/* For VISIT() alone. */
static inline void visit_bool_field(struct visitor *v, const char *name,
				    void *value, size_t bytes)
{
	(void)bytes;
	visit_bool(v, name, value);
}

#endif
