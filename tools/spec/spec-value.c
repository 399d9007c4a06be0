/* SPDX-License-Identifier: Apache-2.0 */
/* Objects by tables of keys, and values that many keys have. */
#include "tools/spec/spec-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void print_place(const struct spec_place *at, char *text, size_t bytes)
{
	size_t n;

	if (!at->up) {
		text[0] = '\0';
		return;
	}
	print_place(at->up, text, bytes);
	n = strlen(text);
	if (at->name)
		snprintf(text + n, bytes - n, "%s%.40s", n ? "." : "",
			 at->name);
	else
		snprintf(text + n, bytes - n, "[%zu]", at->index);
}

static const char *file_of(const struct spec_place *at)
{
	while (at->up)
		at = at->up;
	return at->name;
}

/* WHAT names the fault. */
int spec_fail(const struct spec_place *at, int error, const char *what)
{
	char where[256];

	print_place(at, where, sizeof(where));
	return log_ret(error, "'%s': %s%s%s", file_of(at), where,
		       where[0] ? ": " : "", what);
}

void spec_warn(const struct spec_place *at, const char *what)
{
	char where[256];

	print_place(at, where, sizeof(where));
	log_warn("'%s': %s: %s", file_of(at), where, what);
}

/* Null, false, 0, "", and lists and objects of nothing else. */
bool spec_says_nothing(json_t *json)
{
	const char *name;
	json_t *value;
	size_t i;

	switch (json_typeof(json)) {
	case JSON_NULL:
	case JSON_FALSE:
		return true;
	case JSON_INTEGER:
		return json_integer_value(json) == 0;
	case JSON_STRING:
		return json_string_length(json) == 0;
	case JSON_ARRAY:
		json_array_foreach(json, i, value) {
			if (!spec_says_nothing(value))
				return false;
		}
		return true;
	case JSON_OBJECT:
		json_object_foreach(json, name, value) {
			if (!spec_says_nothing(value))
				return false;
		}
		return true;
	default:
		return false;
	}
}

static const struct spec_key *find_key(const struct spec_key *keys,
				       const char *name)
{
	for (; keys->name; keys++)
		if (strcmp(keys->name, name) == 0)
			return keys;
	return NULL;
}

/* STRICT: an unknown key might mean less isolation than somebody relies on. */
int spec_read_object(const struct spec_place *at, json_t *json,
		     const struct spec_key *keys, bool strict, void *to)
{
	const char *name;
	json_t *value;
	int r = 0;

	if (!json_is_object(json))
		return spec_fail(at, -EINVAL, "expected an object");
	json_object_foreach(json, name, value) {
		const struct spec_place here = {at, name, 0};
		const struct spec_key *key = find_key(keys, name);

		if (json_is_null(value))
			continue;
		if (key && key->read)
			r = key->read(&here, value, (char *)to + key->to);
		else if (key && !spec_says_nothing(value))
			r = spec_fail(&here, -ENOTSUP, "is not supported");
		else if (!key && strict)
			r = spec_fail(&here, -EINVAL, "unknown, so refused");
		else if (!key)
			spec_warn(&here, "unknown, so ignored");
		if (r < 0)
			return r;
	}
	return 0;
}

/* Each item of the list by FN, with the same TO. */
int spec_read_list(const struct spec_place *at, json_t *json, spec_read_fn *fn,
		   void *to)
{
	json_t *value;
	size_t i;

	if (!json_is_array(json))
		return spec_fail(at, -EINVAL, "expected a list");
	json_array_foreach(json, i, value) {
		const struct spec_place here = {at, NULL, i};
		int r = fn(&here, value, to);

		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- values */

/* The byte that "xNN" stands for; -1: none. */
static int read_escape(const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const char *high, *low;

	if (text[0] != 'x' || !text[1] || !text[2])
		return -1;
	high = strchr(digits, text[1]);
	low = strchr(digits, text[2]);
	if (!high || !low || (high == digits && low == digits))
		return -1;
	return (int)(high - digits) * 16 + (int)(low - digits);
}

/* TEXT as text_json_string() of spec-write.c made it. 0 or -EINVAL, logged. */
static int unescape(const struct spec_place *at, char *text)
{
	char *to = text;

	while (*text) {
		int byte = *text++;

		if (byte == '\\') {
			byte = read_escape(text);
			if (byte < 0)
				return spec_fail(at, -EINVAL,
						 "expected \\xNN behind a "
						 "backslash");
			text += 3;
		}
		*to++ = (char)byte;
	}
	*to = '\0';
	return 0;
}

int spec_get_text(const struct spec_place *at, json_t *json, char **ret)
{
	const bool escaped =
		json_is_object(json) && json_object_size(json) == 1;
	const char *text = json_string_value(
		escaped ? json_object_get(json, SPEC_ESCAPED) : json);
	autofree char *copy = NULL;
	int r = 0;

	if (!text)
		return spec_fail(at, -EINVAL, "expected a string");
	copy = strdup(text);
	if (!copy)
		return log_ret(-ENOMEM, "out of memory");
	if (escaped)
		r = unescape(at, copy);
	if (r < 0)
		return r;
	*ret = copy;
	copy = NULL;
	return 0;
}

int spec_read_text(const struct spec_place *at, json_t *json, void *to)
{
	char *text;
	int r = spec_get_text(at, json, &text);

	if (r < 0)
		return r;
	free(*(char **)to);
	*(char **)to = text;
	return 0;
}

int spec_read_flag(const struct spec_place *at, json_t *json, void *to)
{
	if (!json_is_boolean(json))
		return spec_fail(at, -EINVAL, "expected true or false");
	*(bool *)to = json_is_true(json);
	return 0;
}

int spec_get_number(const struct spec_place *at, json_t *json, int64_t max,
		    uint64_t *ret)
{
	const json_int_t n = json_integer_value(json);

	if (!json_is_integer(json) || n < 0 || n > max)
		return spec_fail(at, -EINVAL,
				 "expected a whole number that fits");
	*ret = (uint64_t)n;
	return 0;
}

int spec_read_u16(const struct spec_place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = spec_get_number(at, json, UINT16_MAX, &n);

	if (r == 0)
		*(uint16_t *)to = (uint16_t)n;
	return r;
}

int spec_read_u64(const struct spec_place *at, json_t *json, void *to)
{
	return spec_get_number(at, json, INT64_MAX, to);
}

int spec_read_wide(const struct spec_place *at, json_t *json, void *to)
{
	if (!json_is_integer(json))
		return spec_fail(at, -EINVAL, "expected a whole number");
	*(uint64_t *)to = (uint64_t)json_integer_value(json);
	return 0;
}

/* 0 and -1 are no limit. */
int spec_read_limit(const struct spec_place *at, json_t *json, void *to)
{
	if (json_is_integer(json) && json_integer_value(json) == -1) {
		*(uint64_t *)to = 0;
		return 0;
	}
	return spec_read_u64(at, json, to);
}

/* (uid_t)-1 is none. */
int spec_read_id(const struct spec_place *at, json_t *json, void *to)
{
	uint64_t n = 0;
	int r = spec_get_number(at, json, UINT32_MAX - 1, &n);

	if (r == 0)
		*(uint32_t *)to = (uint32_t)n;
	return r;
}

static int add_text(const struct spec_place *at, json_t *json, void *to)
{
	autofree char *text = NULL;
	int r = spec_get_text(at, json, &text);

	return r < 0 ? r : text_list_add(to, text);
}

int spec_read_texts(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_text, to);
}

static int add_path(const struct spec_place *at, json_t *json, void *to)
{
	autofree char *text = NULL;
	int r = spec_get_text(at, json, &text);

	if (r == 0 && text[0] != '/')
		r = spec_fail(at, -EINVAL,
			      "expected a path that begins with /");
	return r < 0 ? r : text_list_add(to, text);
}

int spec_read_paths(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_path, to);
}

/* {"name": "value"} as "name=value". */
int spec_read_map(const struct spec_place *at, json_t *json, void *to)
{
	const char *name;
	json_t *value;
	int r = 0;

	if (!json_is_object(json))
		return spec_fail(at, -EINVAL, "expected an object");
	json_object_foreach(json, name, value) {
		const struct spec_place here = {at, name, 0};
		autofree char *content = NULL;
		autofree char *text = NULL;

		r = spec_get_text(&here, value, &content);
		if (r < 0)
			return r;
		if (name[0] == '\0' || strchr(name, '='))
			return spec_fail(&here, -EINVAL, "no such name can be");
		if (asprintf(&text, "%s=%s", name, content) < 0) {
			text = NULL;
			return log_ret(-ENOMEM, "out of memory");
		}
		r = text_list_add(to, text);
		if (r < 0)
			return r;
	}
	return 0;
}

/* For keys that change nothing in a machine of the container's own. */
int spec_skip(const struct spec_place *at, json_t *json, void *to)
{
	(void)at;
	(void)json;
	(void)to;
	return 0;
}
