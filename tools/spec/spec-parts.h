/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Between the files that read OCI's JSON. Each object has a table of the keys
 * that the specification gives it: a key with a function is read by it, one
 * without is refused unless its value says nothing, as Go's writers leave many.
 *
 * Functions give 0 or -errno, logged with the place in the file.
 */
#ifndef TOOLS_SPEC_SPEC_PARTS_H
#define TOOLS_SPEC_SPEC_PARTS_H

#include "tools/spec/spec.h"

#include <jansson.h>

/* The one key of a text that is not UTF-8. */
#define SPEC_ESCAPED "escaped"

/* Where in the file something is, for messages. */
struct spec_place {
	const struct spec_place *up; /* NULL: the file itself */
	const char *name;            /* NULL: an item of a list */
	size_t index;
};

typedef int spec_read_fn(const struct spec_place *at, json_t *json, void *to);

struct spec_key {
	const char *name;   /* NULL ends a table */
	spec_read_fn *read; /* NULL: not done here */
	size_t to;          /* the member's place in the object's structure */
};

/* WHAT names the fault. Gives ERROR. */
int spec_fail(const struct spec_place *at, int error, const char *what);
void spec_warn(const struct spec_place *at, const char *what);

/* Null, false, 0, "", and lists and objects of nothing else. */
bool spec_says_nothing(json_t *json);

/* STRICT: an unknown key might mean less isolation than somebody relies on. */
int spec_read_object(const struct spec_place *at, json_t *json,
		     const struct spec_key *keys, bool strict, void *to);
/* Each item of the list by FN, with the same TO. */
int spec_read_list(const struct spec_place *at, json_t *json, spec_read_fn *fn,
		   void *to);

/*
 * TEXT, JSON of *BYTES (which is updated), with the numbers from 2^63 to
 * 2^64 - 1 as the negative ones of the same bits. Allocated; NULL: no memory.
 */
char *spec_narrow(const char *text, size_t *bytes);

/* TEXT with such numbers. A new reference; NULL: logged, with NAME. */
json_t *spec_parse(const char *name, const char *text, size_t bytes);

/* A copy in *RET, owned. */
int spec_get_text(const struct spec_place *at, json_t *json, char **ret);

/* Values: TO is a char *, bool, uint16_t, uint64_t, uint32_t. */
int spec_read_text(const struct spec_place *at, json_t *json, void *to);
int spec_read_flag(const struct spec_place *at, json_t *json, void *to);
int spec_read_u16(const struct spec_place *at, json_t *json, void *to);
int spec_read_u64(const struct spec_place *at, json_t *json, void *to);
/* 64 bits without a sign; Jansson's are signed ones. */
int spec_read_wide(const struct spec_place *at, json_t *json, void *to);
int spec_read_limit(const struct spec_place *at, json_t *json, void *to);
int spec_read_id(const struct spec_place *at, json_t *json, void *to);
int spec_get_number(const struct spec_place *at, json_t *json, int64_t max,
		    uint64_t *ret);
/* TO is a struct text_list; of a map "name=value". */
int spec_read_texts(const struct spec_place *at, json_t *json, void *to);
int spec_read_paths(const struct spec_place *at, json_t *json, void *to);
int spec_read_map(const struct spec_place *at, json_t *json, void *to);
/* For keys that change nothing in a machine of the container's own. */
int spec_skip(const struct spec_place *at, json_t *json, void *to);

/* TO is a struct spec_process, and a struct spec_linux. */
int spec_read_process_object(const struct spec_place *at, json_t *json,
			     void *to);
int spec_read_linux_object(const struct spec_place *at, json_t *json, void *to);

#endif
