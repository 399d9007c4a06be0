/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The configuration as data: setting it from text, checking it, looking at a
 * device's values. JSON is config-json.c's job.
 */
#include "vmm/config/config.h"

#include "vmm/config/config-fields.h"
#include "vmm/base/log.h"
#include "vmm/base/mem.h"
#include "vmm/base/suggest.h"
#include "vmm/base/util.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NAME_MAX_CHARS 63

#define FIELD(key, kind_, member, choices_)                                    \
	{                                                                      \
		.name = key, .kind = kind_,                                    \
		.offset = offsetof(struct config, member), .choices = choices_ \
	}

static const struct config_field fields[] = {
	FIELD("name", CONFIG_TEXT, name, NULL),
	FIELD("kernel", CONFIG_TEXT, kernel, NULL),
	FIELD("initrd", CONFIG_TEXT, initrd, NULL),
	FIELD("append", CONFIG_TEXT, append, NULL),
	FIELD("memory", CONFIG_SIZE, memory_bytes, NULL),
	FIELD("cpus", CONFIG_NUMBER, cpus, NULL),
	FIELD("hugetlb", CONFIG_FLAG, hugetlb, NULL),
	FIELD("prefault", CONFIG_FLAG, prefault, NULL),
	FIELD("console", CONFIG_CHOICE, console, "auto|serial|virtio|none"),
	FIELD("entry", CONFIG_CHOICE, entry, "auto|linux|pvh"),
	FIELD("assist", CONFIG_CHOICE, assist, "auto|on|off"),
	FIELD("on-reboot", CONFIG_CHOICE, on_reboot, "exit|restart"),
	FIELD("reboot-status", CONFIG_NUMBER, reboot_status, NULL),
	FIELD("sandbox", CONFIG_FLAG, sandbox, NULL),
	FIELD("control", CONFIG_TEXT, control, NULL),
	FIELD("dump-dtb", CONFIG_TEXT, dump_dtb, NULL),
	{NULL, CONFIG_TEXT, 0, NULL},
};

const struct config_field *config_fields(void)
{
	return fields;
}

void config_init(struct config *cfg)
{
	*cfg = (struct config){
		.memory_bytes = 256 * MIB,
		.cpus = 1,
		.sandbox = true,
	};
}

void config_device_done(struct config_device *dev)
{
	for (unsigned i = 0; i < dev->nparams; i++) {
		free(dev->param[i].key);
		free(dev->param[i].value);
	}
	free(dev->type);
	*dev = (struct config_device){0};
}

void config_done(struct config *cfg)
{
	for (unsigned i = 0; i < cfg->ndevices; i++)
		config_device_done(&cfg->device[i]);
	free(cfg->name);
	free(cfg->kernel);
	free(cfg->initrd);
	free(cfg->append);
	free(cfg->dump_dtb);
	free(cfg->control);
	*cfg = (struct config){0};
}

/* ---- values */

/* Which of "a|b|c" TEXT is, or -EINVAL. */
static int parse_choice(const char *choices, const char *text)
{
	size_t length = strlen(text);

	for (int n = 0;; n++) {
		size_t len = strcspn(choices, "|");

		if (len == length && memcmp(choices, text, len) == 0)
			return n;
		if (choices[len] == '\0')
			return -EINVAL;
		choices += len + 1;
	}
}

static int parse_flag(const char *text, bool *ret_flag)
{
	int n = parse_choice("false|true|off|on|no|yes", text);

	if (n < 0)
		return n;
	*ret_flag = n & 1;
	return 0;
}

static int bad_choice(const char *prefix, const char *name, const char *value,
		      const char *choices)
{
	char list[256];
	size_t n = 0;

	for (const char *p = choices; *p && n + 4 < sizeof(list); p++) {
		if (*p == '|') {
			list[n++] = ',';
			list[n++] = ' ';
		} else {
			list[n++] = *p;
		}
	}
	list[n] = '\0';
	return log_ret(-EINVAL, "%s%s '%s': not one of %s", prefix, name, value,
		       list);
}

int config_set(struct config *cfg, const char *prefix, const char *name,
	       const char *value)
{
	const struct config_field *f = fields;
	uint64_t number;
	char *copy;
	void *to;
	int n;

	while (f->name && strcmp(f->name, name) != 0)
		f++;
	if (!f->name)
		return -ENOENT;
	to = (char *)cfg + f->offset;
	switch (f->kind) {
	case CONFIG_SIZE:
		if (util_parse_size(value, &number) < 0)
			return log_ret(-EINVAL,
				       "%s%s '%s': not a size: use a number "
				       "with K, M or G",
				       prefix, name, value);
		*(uint64_t *)to = number;
		return 0;
	case CONFIG_NUMBER:
		if (util_parse_number(value, 0, UINT32_MAX, &number) < 0)
			return log_ret(-EINVAL, "%s%s '%s': not a whole number",
				       prefix, name, value);
		*(unsigned *)to = (unsigned)number;
		return 0;
	case CONFIG_FLAG:
		if (parse_flag(value, to) < 0)
			return log_ret(-EINVAL, "%s%s '%s': not true or false",
				       prefix, name, value);
		return 0;
	case CONFIG_CHOICE:
		n = parse_choice(f->choices, value);
		if (n < 0)
			return bad_choice(prefix, name, value, f->choices);
		*(unsigned *)to = (unsigned)n;
		return 0;
	default:
		if (value[0] == '\0')
			return log_ret(-EINVAL, "%s%s '': must not be empty",
				       prefix, name);
		copy = strdup(value);
		if (!copy)
			return -ENOMEM;
		free(*(char **)to);
		*(char **)to = copy;
		return 0;
	}
}

/* ---- devices */

static const struct config_key *find_key(const struct config_type *type,
					 const char *name)
{
	for (const struct config_key *k = type->keys; k && k->name; k++)
		if (strcmp(k->name, name) == 0 ||
		    (k->alias && strcmp(k->alias, name) == 0))
			return k;
	return NULL;
}

int config_unknown(const char *what, const char *name, const char *const *known)
{
	const char *near = suggest(name, known);
	char list[512];
	size_t n = 0;

	list[0] = '\0';
	for (unsigned i = 0; known[i] && n < sizeof(list); i++)
		n += (size_t)snprintf(list + n, sizeof(list) - n, "%s%s",
				      i ? ", " : "", known[i]);
	if (near)
		return log_ret(-EINVAL,
			       "%s '%s': did you mean '%s'? known are: %s",
			       what, name, near, list);
	return log_ret(-EINVAL, "%s '%s': known are: %s", what, name,
		       list[0] ? list : "none");
}

static int unknown_key(const struct config_type *type, const char *name)
{
	const char *known[CONFIG_PARAMS_MAX + 1] = {NULL};
	char what[64];

	for (unsigned i = 0;
	     i < CONFIG_PARAMS_MAX && type->keys && type->keys[i].name; i++)
		known[i] = type->keys[i].name;
	snprintf(what, sizeof(what), "%s: unknown key", type->name);
	return config_unknown(what, name, known);
}

static const char *param(const struct config_device *dev, const char *key)
{
	for (unsigned i = 0; i < dev->nparams; i++)
		if (strcmp(dev->param[i].key, key) == 0)
			return dev->param[i].value;
	return NULL;
}

/* One more value of a list. */
static int append_value(struct config_device *dev, const char *key,
			const char *value)
{
	for (unsigned i = 0; i < dev->nparams; i++) {
		struct config_param *p = &dev->param[i];
		char *joined;

		if (strcmp(p->key, key) != 0)
			continue;
		if (asprintf(&joined, "%s,%s", p->value, value) < 0)
			return -ENOMEM;
		free(p->value);
		p->value = joined;
	}
	return 0;
}

int config_device_add_param(struct config_device *dev,
			    const struct config_type *type, const char *key,
			    const char *value)
{
	struct config_param *p = &dev->param[dev->nparams];
	const struct config_key *k = find_key(type, key);
	bool flag;

	if (!k)
		return unknown_key(type, key);
	key = k->name;
	if (param(dev, key) && k->list)
		return append_value(dev, key, value);
	if (param(dev, key))
		return log_ret(-EINVAL, "%s: key '%s' is given twice",
			       type->name, key);
	/*
	 * Every key is known and given once: only a type with too many keys
	 * fails.
	 */
	assert(dev->nparams < CONFIG_PARAMS_MAX);
	if (k->kind == CONFIG_FLAG && parse_flag(value, &flag) == 0)
		value = flag ? "true" : "false";
	p->key = strdup(key);
	p->value = strdup(value);
	if (!p->key || !p->value) {
		free(p->key);
		free(p->value);
		*p = (struct config_param){NULL, NULL};
		return -ENOMEM;
	}
	dev->nparams++;
	return 0;
}

int config_new_device(struct config *cfg, const struct config_type *type,
		      struct config_device **ret_dev)
{
	struct config_device *dev = &cfg->device[cfg->ndevices];

	if (cfg->ndevices == CONFIG_DEVICES_MAX)
		return log_ret(-EINVAL,
			       "%s: there are %d devices already, as "
			       "many as a configuration can have",
			       type->name, CONFIG_DEVICES_MAX);
	dev->type = strdup(type->name);
	if (!dev->type)
		return -ENOMEM;
	*ret_dev = dev;
	return 0;
}

/* The next item of "a,b,,c": copied to ITEM with ",," made ",". */
static const char *next_item(const char *text, char *item)
{
	for (; *text; text++) {
		if (*text == ',') {
			if (text[1] != ',')
				return text + 1;
			text++;
		}
		*item++ = *text;
		*item = '\0';
	}
	return NULL;
}

static int add_item(struct config_device *dev, const struct config_type *type,
		    char *item, bool first)
{
	static const char key_chars[] =
		"abcdefghijklmnopqrstuvwxyz0123456789-_";
	const struct config_key *k;
	char *equals = strchr(item, '=');

	if (equals) {
		/* "./a=b.img" is a file's name: no key is called "./a". */
		bool is_key =
			strspn(item, key_chars) >= (size_t)(equals - item);

		*equals = '\0';
		if (!first || is_key)
			return config_device_add_param(dev, type, item,
						       equals + 1);
		*equals = '=';
	}
	k = find_key(type, item);
	if (k && k->kind == CONFIG_FLAG)
		return config_device_add_param(dev, type, item, "true");
	if (first)
		for (const struct config_key *b = type->keys; b && b->name; b++)
			if (b->bare)
				return config_device_add_param(dev, type,
							       b->name, item);
	if (k)
		return log_ret(-EINVAL, "%s: key '%s' needs a value: %s=...",
			       type->name, item, item);
	return unknown_key(type, item);
}

int config_add_device(struct config *cfg, const struct config_type *type,
		      const char *text)
{
	autofree char *item = malloc(strlen(text) + 1);
	struct config_device *dev = NULL;
	bool first = true;
	int r;

	if (!item)
		return -ENOMEM;
	r = config_new_device(cfg, type, &dev);
	if (r < 0)
		return r;
	if (text[0] == '\0')
		text = NULL;
	while (text && r == 0) {
		item[0] = '\0';
		text = next_item(text, item);
		if (item[0] == '\0')
			r = log_ret(-EINVAL, "%s: an item is empty",
				    type->name);
		else
			r = add_item(dev, type, item, first);
		first = false;
	}
	if (r < 0)
		config_device_done(dev);
	else
		cfg->ndevices++;
	return r;
}

int config_add_pairs(struct config *cfg, const struct config_type *type,
		     const struct config_pair *pairs, size_t n)
{
	struct config_device *dev = NULL;
	int r = config_new_device(cfg, type, &dev);

	if (r < 0)
		return r;
	for (size_t i = 0; r == 0 && i < n; i++)
		if (pairs[i].value)
			r = config_device_add_param(dev, type, pairs[i].key,
						    pairs[i].value);
	if (r < 0)
		config_device_done(dev);
	else
		cfg->ndevices++;
	return r;
}

/* ---- checks */

static int check_number(const char *type, const struct config_key *key,
			const char *text)
{
	bool size = key->kind == CONFIG_SIZE;
	uint64_t max = key->max ? key->max : UINT64_MAX;
	uint64_t value;
	int r = size ? util_parse_size(text, &value)
		     : util_parse_number(text, 0, UINT64_MAX, &value);

	if (r < 0)
		return log_ret(-EINVAL, "%s: %s '%s': not a %s", type,
			       key->name, text,
			       size ? "size: use a number with K, M or G"
				    : "whole number");
	if (value < key->min)
		return log_ret(-EINVAL, "%s: %s '%s': at least %" PRIu64, type,
			       key->name, text, key->min);
	if (value > max)
		return log_ret(-EINVAL, "%s: %s '%s': at most %" PRIu64, type,
			       key->name, text, max);
	return 0;
}

static int check_value(const char *type, const struct config_key *key,
		       const char *text)
{
	char prefix[40];
	uint8_t mac[6];
	bool flag;

	switch (key->kind) {
	case CONFIG_FLAG:
		if (parse_flag(text, &flag) < 0)
			return log_ret(-EINVAL,
				       "%s: %s '%s': not true or false", type,
				       key->name, text);
		return 0;
	case CONFIG_SIZE:
	case CONFIG_NUMBER:
		return check_number(type, key, text);
	case CONFIG_MAC:
		if (util_parse_mac(text, mac) < 0 || mac[0] & 1)
			return log_ret(-EINVAL,
				       "%s: %s '%s': not a station's address "
				       "like 02:00:00:00:00:01",
				       type, key->name, text);
		return 0;
	case CONFIG_CHOICE:
		if (parse_choice(key->choices, text) >= 0)
			return 0;
		snprintf(prefix, sizeof(prefix), "%s: ", type);
		return bad_choice(prefix, key->name, text, key->choices);
	default:
		if (text[0] == '\0')
			return log_ret(-EINVAL, "%s: %s '': must not be empty",
				       type, key->name);
		return 0;
	}
}

const struct config_type *
config_find_type(const char *name, const struct config_type *const *types)
{
	for (; *types; types++)
		if (strcmp((*types)->name, name) == 0)
			return *types;
	return NULL;
}

static int check_device(const struct config_device *dev,
			const struct config_type *const *types)
{
	const struct config_type *type = config_find_type(dev->type, types);

	if (!type)
		return log_ret(-EINVAL, "device type '%s' is unknown",
			       dev->type);
	for (unsigned i = 0; i < dev->nparams; i++) {
		const struct config_key *k = find_key(type, dev->param[i].key);
		int r = k ? check_value(type->name, k, dev->param[i].value)
			  : unknown_key(type, dev->param[i].key);

		if (r < 0)
			return r;
	}
	for (const struct config_key *k = type->keys; k && k->name; k++)
		if (k->required && !param(dev, k->name))
			return log_ret(-EINVAL, "%s: key '%s' (%s) is missing",
				       type->name, k->name, k->help);
	return type->check ? type->check(dev) : 0;
}

static int check_name(const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";

	if (strlen(name) <= NAME_MAX_CHARS && name[0] != '-' &&
	    name[strspn(name, allowed)] == '\0')
		return 0;
	return log_ret(-EINVAL,
		       "name '%s': use up to %d letters, digits, '.', '_', '-'",
		       name, NAME_MAX_CHARS);
}

int config_check(const struct config *cfg,
		 const struct config_type *const *types)
{
	char size[24];

	if (!cfg->kernel)
		return log_ret(-EINVAL, "no kernel is given");
	if (cfg->cpus < 1 || cfg->cpus > CONFIG_CPUS_MAX)
		return log_ret(-EINVAL, "cpus '%u': must be 1 to %d", cfg->cpus,
			       CONFIG_CPUS_MAX);
	if (cfg->reboot_status > 255)
		return log_ret(-EINVAL, "reboot-status '%u': must be 0 to 255",
			       cfg->reboot_status);
	config_format_size(size, cfg->memory_bytes);
	if (cfg->memory_bytes < MEM_MIN_BYTES ||
	    cfg->memory_bytes > MEM_MAX_BYTES)
		return log_ret(-EINVAL,
			       "memory '%s': must be %" PRIu64 "M to %" PRIu64
			       "G",
			       size, MEM_MIN_BYTES / MIB, MEM_MAX_BYTES / GIB);
	if (cfg->memory_bytes % 4096)
		return log_ret(-EINVAL, "memory '%s': must be a multiple of 4K",
			       size);
	if (cfg->name && check_name(cfg->name) < 0)
		return -EINVAL;
	for (unsigned i = 0; i < cfg->ndevices; i++)
		if (check_device(&cfg->device[i], types) < 0)
			return -EINVAL;
	for (unsigned i = 0; i < cfg->ndevices; i++) {
		const struct config_device *dev = &cfg->device[i];
		const struct config_type *type =
			config_find_type(dev->type, types);

		if (type->check_all && type->check_all(cfg, dev) < 0)
			return -EINVAL;
	}
	return 0;
}

void config_format_size(char ret_text[24], uint64_t bytes)
{
	static const char suffixes[] = "KMG";
	unsigned n = 0;

	while (n < 3 && bytes && bytes % 1024 == 0) {
		bytes /= 1024;
		n++;
	}
	if (n == 0)
		snprintf(ret_text, 24, "%" PRIu64, bytes);
	else
		snprintf(ret_text, 24, "%" PRIu64 "%c", bytes, suffixes[n - 1]);
}

/* ---- a device's values */

const char *config_text(const struct config_device *dev, const char *key)
{
	return param(dev, key);
}

bool config_flag(const struct config_device *dev, const char *key)
{
	const char *text = param(dev, key);
	bool flag = false;

	if (text)
		(void)parse_flag(text, &flag);
	return flag;
}

uint64_t config_number(const struct config_device *dev, const char *key,
		       uint64_t fallback)
{
	const char *text = param(dev, key);
	uint64_t value = fallback;

	/* A number is a size without a suffix. */
	if (text)
		(void)util_parse_size(text, &value);
	return value;
}

bool config_mac(const struct config_device *dev, const char *key,
		uint8_t ret_mac[6])
{
	const char *text = param(dev, key);

	return text && util_parse_mac(text, ret_mac) == 0;
}

static int begin_in(char **path, const char *directory)
{
	char *whole;

	if (**path == '/')
		return 0;
	if (asprintf(&whole, "%s/%s", directory, *path) < 0)
		return log_ret(-ENOMEM, "out of memory");
	free(*path);
	*path = whole;
	return 0;
}

int config_set_directory(struct config *cfg, const char *directory,
			 const struct config_type *const *types)
{
	int r = 0;

	for (unsigned i = 0; i < cfg->ndevices; i++) {
		struct config_device *dev = &cfg->device[i];
		const struct config_type *type =
			config_find_type(dev->type, types);

		for (unsigned p = 0; r == 0 && p < dev->nparams; p++) {
			const struct config_key *key =
				find_key(type, dev->param[p].key);

			if (key && key->path)
				r = begin_in(&dev->param[p].value, directory);
		}
	}
	return r;
}
