/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An image's configuration (OCI image-spec config.md; Docker's is the same):
 * how its process is to be run, and what its layers are.
 */
#include "tools/image/rootfs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <string.h>

static void json_unref(json_t **json)
{
	json_decref(*json);
}
#define autojson __attribute__((cleanup(json_unref)))

/* ---- lists of texts */

static void free_list(char **list)
{
	for (char **p = list; p && *p; p++)
		free(*p);
	free(list);
}

bool config_empty(struct rootfs_config *config)
{
	char ***lists[] = {&config->entrypoint, &config->cmd, &config->env,
			   &config->ports, &config->volumes};

	memset(config, 0, sizeof(*config));
	for (unsigned i = 0; i < ARRAY_LEN(lists); i++) {
		*lists[i] = calloc(1, sizeof(char *));
		if (!*lists[i]) {
			rootfs_config_done(config);
			return false;
		}
	}
	return true;
}

void rootfs_config_done(struct rootfs_config *config)
{
	free_list(config->entrypoint);
	free_list(config->cmd);
	free_list(config->env);
	free_list(config->ports);
	free_list(config->volumes);
	free(config->workdir);
	free(config->user);
	free(config->stop_signal);
	memset(config, 0, sizeof(*config));
}

/* ---- reading */

struct reader {
	const char *path;
	json_t *object;
};

static int wrong(const struct reader *rd, const char *key, const char *want)
{
	return log_ret(-EINVAL,
		       "image '%s': its configuration's %s: expected "
		       "%s",
		       rd->path, key, want);
}

static int no_memory(const struct reader *rd)
{
	return log_ret(-ENOMEM, "image '%s': no memory", rd->path);
}

/* A text, NULL where it is missing, null or empty. */
static int read_text(const struct reader *rd, const char *key, char **ret)
{
	json_t *value = json_object_get(rd->object, key);

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_string(value))
		return wrong(rd, key, "a text");
	if (json_string_length(value) == 0)
		return 0;
	*ret = strdup(json_string_value(value));
	return *ret ? 0 : no_memory(rd);
}

/* RET is an empty list, and replaced. */
static int read_list(const struct reader *rd, const char *key, char ***ret)
{
	json_t *value = json_object_get(rd->object, key);
	json_t *item;
	char **list;
	size_t i;

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_array(value))
		return wrong(rd, key, "a list of texts");
	list = calloc(json_array_size(value) + 1, sizeof(*list));
	if (!list)
		return no_memory(rd);
	free_list(*ret);
	*ret = list;
	json_array_foreach(value, i, item) {
		if (!json_is_string(item))
			return wrong(rd, key, "a list of texts");
		list[i] = strdup(json_string_value(item));
		if (!list[i])
			return no_memory(rd);
	}
	return 0;
}

/* The keys of an object: Go's way to write a set. */
static int read_keys(const struct reader *rd, const char *key, char ***ret)
{
	json_t *value = json_object_get(rd->object, key);
	json_t *ignored;
	const char *name;
	char **list;
	size_t i = 0;

	if (!value || json_is_null(value))
		return 0;
	if (!json_is_object(value))
		return wrong(rd, key, "an object");
	list = calloc(json_object_size(value) + 1, sizeof(*list));
	if (!list)
		return no_memory(rd);
	free_list(*ret);
	*ret = list;
	json_object_foreach(value, name, ignored) {
		list[i] = strdup(name);
		if (!list[i++])
			return no_memory(rd);
	}
	return 0;
}

static int read_process(const struct reader *rd, struct rootfs_config *config)
{
	int r = read_list(rd, "Entrypoint", &config->entrypoint);

	if (r == 0)
		r = read_list(rd, "Cmd", &config->cmd);
	if (r == 0)
		r = read_list(rd, "Env", &config->env);
	if (r == 0)
		r = read_keys(rd, "ExposedPorts", &config->ports);
	if (r == 0)
		r = read_keys(rd, "Volumes", &config->volumes);
	if (r == 0)
		r = read_text(rd, "WorkingDir", &config->workdir);
	if (r == 0)
		r = read_text(rd, "User", &config->user);
	if (r == 0)
		r = read_text(rd, "StopSignal", &config->stop_signal);
	return r;
}

/* Where the image says for which machines it is, it has to be this one. */
static int check_platform(const struct reader *rd)
{
	const char *os = json_string_value(json_object_get(rd->object, "os"));
	const char *cpu =
		json_string_value(json_object_get(rd->object, "architecture"));

	if ((os && strcmp(os, "linux") != 0) ||
	    (cpu && strcmp(cpu, "amd64") != 0))
		return log_ret(-ENOTSUP,
			       "image '%s': is for %s/%s, not for linux/amd64",
			       rd->path, os ? os : "linux",
			       cpu ? cpu : "amd64");
	return 0;
}

static int read_layers(const struct reader *rd, struct layer **ret_layers,
		       unsigned *ret_nlayers)
{
	json_t *ids = json_object_get(json_object_get(rd->object, "rootfs"),
				      "diff_ids");
	struct layer *layers;
	json_t *item;
	size_t i;

	if (!json_is_array(ids))
		return wrong(rd, "rootfs.diff_ids", "a list of digests");
	if (json_array_size(ids) > IMAGE_LAYERS_MAX)
		return log_ret(-EINVAL, "image '%s': more than %d layers",
			       rd->path, IMAGE_LAYERS_MAX);
	layers = calloc(json_array_size(ids) + 1, sizeof(*layers));
	if (!layers)
		return no_memory(rd);
	json_array_foreach(ids, i, item) {
		const char *digest = json_string_value(item);

		if (!digest || !digest_valid(digest)) {
			free(layers);
			return wrong(rd, "rootfs.diff_ids", "SHA-256 digests");
		}
		memcpy(layers[i].diff_id, digest, IMAGE_DIGEST_MAX);
		layers[i].bytes = -1;
	}
	*ret_layers = layers;
	*ret_nlayers = (unsigned)json_array_size(ids);
	return 0;
}

static int parse(const char *path, json_t *root, struct rootfs_config *config,
		 struct layer **ret_layers, unsigned *ret_nlayers)
{
	struct reader rd = {.path = path, .object = root};
	int r;

	if (!json_is_object(root))
		return wrong(&rd, "text", "an object");
	r = check_platform(&rd);
	if (r == 0) {
		rd.object = json_object_get(root, "config");
		r = read_process(&rd, config);
	}
	rd.object = root;
	return r == 0 && ret_layers ? read_layers(&rd, ret_layers, ret_nlayers)
				    : r;
}

int config_parse(const char *path, const char *text, size_t len,
		 struct rootfs_config *ret, struct layer **ret_layers,
		 unsigned *ret_nlayers)
{
	struct rootfs_config config;
	json_error_t error;
	autojson json_t *root =
		json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
	int r;

	if (!root)
		return log_ret(-EINVAL, "image '%s': its configuration: %s",
			       path, error.text);
	if (!config_empty(&config))
		return log_ret(-ENOMEM, "image '%s': no memory", path);
	r = parse(path, root, &config, ret_layers, ret_nlayers);
	if (r < 0) {
		rootfs_config_done(&config);
		return r;
	}
	*ret = config;
	return 0;
}
