/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as JSON (Jansson). One object: the options' names as keys,
 * and "devices", a list of objects with a "type".
 */
#include "vmm/config/config.h"

#include "vmm/config/config-fields.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_MAX_BYTES (1 * MIB)
#define FIELDS_MAX     24

static void json_unref(json_t **json)
{
	json_decref(*json);
}
#define autojson __attribute__((cleanup(json_unref)))

struct reader {
	struct config *cfg;
	const char *path;
	const struct config_type *const *types;
};

/* ---- reading */

/* A string, number or truth value as the command line would have it. */
static int scalar_text(const struct reader *reader, const char *key,
		       json_t *value, char number[24], const char **ret_text)
{
	switch (json_typeof(value)) {
	case JSON_STRING:
		*ret_text = json_string_value(value);
		return 0;
	case JSON_TRUE:
	case JSON_FALSE:
		*ret_text = json_is_true(value) ? "true" : "false";
		return 0;
	case JSON_INTEGER:
		snprintf(number, 24, "%" JSON_INTEGER_FORMAT,
			 json_integer_value(value));
		*ret_text = number;
		return 0;
	default:
		return log_ret(-EINVAL,
			       "config '%s': %s: expected a string, a whole "
			       "number, true or false",
			       reader->path, key);
	}
}

static int read_device(const struct reader *reader, size_t index, json_t *json)
{
	const char *name = json_string_value(json_object_get(json, "type"));
	const struct config_type *type;
	struct config_device *dev;
	const char *key, *text;
	char number[24];
	json_t *value;
	int r;

	if (!name)
		return log_ret(-EINVAL,
			       "config '%s': devices[%zu]: expected an object "
			       "with a \"type\"",
			       reader->path, index);
	type = config_find_type(name, reader->types);
	if (!type) {
		const char *known[32] = {NULL};

		for (unsigned i = 0; i < 31 && reader->types[i]; i++)
			known[i] = reader->types[i]->name;
		return config_unknown("unknown device type", name, known);
	}
	r = config_new_device(reader->cfg, type, &dev);
	if (r < 0)
		return r;
	json_object_foreach(json, key, value) {
		if (strcmp(key, "type") == 0)
			continue;
		r = scalar_text(reader, key, value, number, &text);
		if (r == 0)
			r = config_device_add_param(dev, type, key, text);
		if (r < 0) {
			config_device_done(dev);
			return r;
		}
	}
	reader->cfg->ndevices++;
	return 0;
}

static int read_devices(const struct reader *reader, json_t *list)
{
	json_t *json;
	size_t i;

	if (!json_is_array(list))
		return log_ret(-EINVAL, "config '%s': devices: expected a list",
			       reader->path);
	json_array_foreach(list, i, json) {
		int r = read_device(reader, i, json);

		if (r < 0)
			return r;
	}
	return 0;
}

static int unknown_field(const struct reader *reader, const char *key)
{
	const struct config_field *f = config_fields();
	const char *known[FIELDS_MAX + 2] = {"devices"};
	char what[256];

	for (unsigned n = 1; f->name && n <= FIELDS_MAX; f++)
		known[n++] = f->name;
	snprintf(what, sizeof(what), "config '%s': unknown key", reader->path);
	return config_unknown(what, key, known);
}

static int read_field(const struct reader *reader, const char *key,
		      json_t *value)
{
	char prefix[256], number[24];
	const char *text;
	int r;

	if (strcmp(key, "devices") == 0)
		return read_devices(reader, value);
	for (const struct config_field *f = config_fields();; f++) {
		if (!f->name)
			return unknown_field(reader, key);
		if (strcmp(f->name, key) == 0)
			break;
	}
	r = scalar_text(reader, key, value, number, &text);
	if (r < 0)
		return r;
	snprintf(prefix, sizeof(prefix), "config '%s': ", reader->path);
	return config_set(reader->cfg, prefix, key, text);
}

int config_read_json_bytes(struct config *cfg, const char *path,
			   const void *data, size_t bytes,
			   const struct config_type *const *types)
{
	const struct reader reader = {cfg, path, types};
	autojson json_t *root = NULL;
	json_error_t error;
	const char *key;
	json_t *value;

	root = json_loadb(data, bytes, JSON_REJECT_DUPLICATES, &error);
	if (!root)
		return log_ret(-EINVAL, "config '%s': line %d: %s", path,
			       error.line, error.text);
	if (!json_is_object(root))
		return log_ret(-EINVAL,
			       "config '%s': expected an object: {...}", path);
	json_object_foreach(root, key, value) {
		int r = read_field(&reader, key, value);

		if (r < 0)
			return r;
	}
	return 0;
}

int config_read_json(struct config *cfg, const char *path,
		     const struct config_type *const *types)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	autofree char *data = NULL;
	struct stat st;
	size_t bytes;
	int r;

	if (fd < 0 || fstat(fd, &st) < 0)
		return log_ret(-errno, "config '%s': %s", path,
			       strerror(errno));
	if (!S_ISREG(st.st_mode))
		return log_ret(-EINVAL, "config '%s': not a regular file",
			       path);
	r = util_read_file(fd, FILE_MAX_BYTES, &data, &bytes);
	if (r == -EFBIG)
		return log_ret(-EINVAL, "config '%s': larger than %" PRIu64 "K",
			       path, FILE_MAX_BYTES / KIB);
	if (r < 0)
		return log_ret(r, "config '%s': %s", path, strerror(-r));
	return config_read_json_bytes(cfg, path, data, bytes, types);
}

/* ---- writing */

static json_t *choice_json(const char *choices, unsigned n)
{
	size_t len;

	for (; n > 0; n--)
		choices += strcspn(choices, "|") + 1;
	len = strcspn(choices, "|");
	return json_stringn(choices, len);
}

/* NULL: not set, or out of memory; the latter shows in the object later. */
static json_t *field_json(const struct config *cfg,
			  const struct config_field *f)
{
	const void *from = (const char *)cfg + f->offset;
	char size[24];

	switch (f->kind) {
	case CONFIG_SIZE:
		config_format_size(size, *(const uint64_t *)from);
		return json_string(size);
	case CONFIG_NUMBER:
		return json_integer(*(const unsigned *)from);
	case CONFIG_FLAG:
		return json_boolean(*(const bool *)from);
	case CONFIG_CHOICE:
		return choice_json(f->choices, *(const unsigned *)from);
	default:
		return json_string(*(char *const *)from);
	}
}

static json_t *param_json(const struct config_type *type,
			  const struct config_param *p)
{
	enum config_kind kind = CONFIG_TEXT;
	uint64_t number;

	for (const struct config_key *k = type ? type->keys : NULL;
	     k && k->name; k++)
		if (strcmp(k->name, p->key) == 0)
			kind = k->kind;
	if (kind == CONFIG_FLAG && strcmp(p->value, "true") == 0)
		return json_true();
	if (kind == CONFIG_FLAG && strcmp(p->value, "false") == 0)
		return json_false();
	if (kind == CONFIG_NUMBER &&
	    util_parse_number(p->value, 0, INT64_MAX, &number) == 0)
		return json_integer((json_int_t)number);
	return json_string(p->value);
}

/* Takes VALUE; true when it could be put into OBJECT. */
static bool put(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

static json_t *device_json(const struct config_device *dev,
			   const struct config_type *const *types)
{
	const struct config_type *type = config_find_type(dev->type, types);
	json_t *json = json_object();
	bool ok = put(json, "type", json_string(dev->type));

	for (unsigned i = 0; i < dev->nparams; i++)
		ok = ok && put(json, dev->param[i].key,
			       param_json(type, &dev->param[i]));
	if (!ok) {
		json_decref(json);
		return NULL;
	}
	return json;
}

static bool is_unset(const struct config *cfg, const struct config_field *f)
{
	return f->kind == CONFIG_TEXT &&
	       !*(char *const *)((const char *)cfg + f->offset);
}

char *config_json(const struct config *cfg,
		  const struct config_type *const *types)
{
	autojson json_t *root = json_object();
	json_t *devices = json_array();
	bool ok = true;
	autofree char *plain = NULL;
	char *text;

	for (const struct config_field *f = config_fields(); f->name; f++)
		if (!is_unset(cfg, f))
			ok = ok && put(root, f->name, field_json(cfg, f));
	for (unsigned i = 0; i < cfg->ndevices; i++)
		ok = ok &&
		     json_array_append_new(
			     devices, device_json(&cfg->device[i], types)) == 0;
	ok = put(root, "devices", devices) && ok;
	if (ok)
		plain = json_dumps(root, JSON_INDENT(2));
	text = text_json(plain);
	/* Only text that is not UTF-8 or a lack of memory gets here. */
	if (!text)
		log_error("the configuration has no JSON form: a value is not "
			  "UTF-8");
	return text;
}

int config_write_json(const struct config *cfg, int fd,
		      const struct config_type *const *types)
{
	autofree char *text = config_json(cfg, types);
	int r = text ? util_write_all(fd, text, strlen(text)) : -EINVAL;

	return r < 0 ? r : util_write_all(fd, "\n", 1);
}
