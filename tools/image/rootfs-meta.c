/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a source to an image's configuration and layers: an OCI layout's index
 * and manifests (image-spec image-layout.md, manifest.md), or the manifest.json
 * of `docker save`. Each document is compared with its digest before it is
 * parsed.
 */
#include "tools/image/rootfs-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* An index of indexes is allowed; one of itself is impossible, by digest. */
#define INDEX_DEPTH_MAX 4
#define BLOB_NAME_MAX   (sizeof("blobs/sha256/") + SHA256_HEX)

#define REF_NAME   "org.opencontainers.image.ref.name"
#define IMAGE_NAME "io.containerd.image.name"

static void json_unref(json_t **json)
{
	json_decref(*json);
}
#define autojson __attribute__((cleanup(json_unref)))

static const char *text_of(json_t *object, const char *key)
{
	return json_string_value(json_object_get(object, key));
}

static int bad(const struct source *src, const char *what)
{
	return log_ret(-EINVAL, "image '%s': %s", src->path, what);
}

static int no_memory(const struct source *src)
{
	return log_ret(-ENOMEM, "image '%s': no memory", src->path);
}

/* ---- documents */

static int parse(const struct source *src, const char *name, const char *text,
		 size_t len, json_t **ret)
{
	json_error_t error;
	json_t *json = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);

	if (!json)
		return log_ret(-EINVAL, "image '%s': '%s', line %d: %s",
			       src->path, name, error.line, error.text);
	*ret = json;
	return 0;
}

/* A document that has to be there. */
static int load_file(const struct source *src, const char *name, json_t **ret)
{
	autofree char *text = NULL;
	size_t len;
	int r = source_text(src, name, &text, &len);

	if (r == -ENOENT)
		return log_ret(-EINVAL, "image '%s': has no '%s'", src->path,
			       name);
	return r < 0 ? r : parse(src, name, text, len, ret);
}

/* Checks a descriptor's digest and gives it, and the name of its blob. */
static int blob_name(const struct source *src, json_t *desc,
		     const char **ret_digest, char ret_name[BLOB_NAME_MAX])
{
	const char *digest = text_of(desc, "digest");

	if (!digest)
		return bad(src, "a descriptor has no digest");
	if (strncmp(digest, "sha512:", 7) == 0)
		return log_ret(-ENOTSUP,
			       "image '%s': has SHA-512 digests, which are not "
			       "supported",
			       src->path);
	if (!digest_valid(digest))
		return log_ret(-EINVAL, "image '%s': '%s' is not a digest",
			       src->path, digest);
	snprintf(ret_name, BLOB_NAME_MAX, "blobs/sha256/%s", digest + 7);
	*ret_digest = digest;
	return 0;
}

/* The text that a descriptor describes, compared with it. */
static int load_text(const struct source *src, json_t *desc, char **ret_text,
		     size_t *ret_len)
{
	autofree char *text = NULL;
	char name[BLOB_NAME_MAX], hex[SHA256_HEX];
	json_t *size = json_object_get(desc, "size");
	const char *digest;
	size_t len;
	int r = blob_name(src, desc, &digest, name);

	if (r == 0)
		r = source_text(src, name, &text, &len);
	if (r == -ENOENT)
		return log_ret(-EINVAL, "image '%s': '%s' is missing",
			       src->path, name);
	if (r < 0)
		return r;
	sha256_hex(text, len, hex);
	if (strcmp(hex, digest + 7) != 0 ||
	    (size && json_integer_value(size) != (json_int_t)len))
		return log_ret(
			-EINVAL,
			"image '%s': '%s' is not what its digest or size "
			"says: it is damaged or was tampered with",
			src->path, name);
	*ret_text = take_ptr(text);
	*ret_len = len;
	return 0;
}

static int load_described(const struct source *src, json_t *desc, json_t **ret)
{
	autofree char *text = NULL;
	size_t len;
	int r = load_text(src, desc, &text, &len);

	if (r == 0)
		r = parse(src, text_of(desc, "digest"), text, len, ret);
	if (r == 0 && text_of(*ret, "mediaType") &&
	    text_of(desc, "mediaType") &&
	    strcmp(text_of(*ret, "mediaType"), text_of(desc, "mediaType")) !=
		    0) {
		json_decref(*ret);
		r = bad(src, "a manifest is of another type than its "
			     "descriptor says");
	}
	return r;
}

/* ---- choosing */

static bool same_name(const char *candidate, const char *wanted)
{
	char a[IMAGE_NAME_MAX + 1], b[IMAGE_NAME_MAX + 1];

	return candidate && (strcmp(candidate, wanted) == 0 ||
			     (name_normalize(candidate, a) &&
			      name_normalize(wanted, b) && strcmp(a, b) == 0));
}

static bool has_name(json_t *desc, const char *wanted)
{
	json_t *notes = json_object_get(desc, "annotations");

	return same_name(text_of(notes, REF_NAME), wanted) ||
	       same_name(text_of(notes, IMAGE_NAME), wanted);
}

static bool platform_fits(json_t *desc)
{
	json_t *platform = json_object_get(desc, "platform");
	const char *os = text_of(platform, "os");
	const char *cpu = text_of(platform, "architecture");

	return (!os || strcmp(os, "linux") == 0) &&
	       (!cpu || strcmp(cpu, "amd64") == 0);
}

/* The error that says what there is to choose from. */
static int not_one(const struct source *src, json_t *list, const char *wanted)
{
	char names[400] = "";
	size_t len = 0;
	json_t *desc;
	size_t i;

	json_array_foreach(list, i, desc) {
		const char *name =
			text_of(json_object_get(desc, "annotations"), REF_NAME);

		if (name && len < sizeof(names) - 1)
			len += (size_t)snprintf(names + len,
						sizeof(names) - len, "%s%.80s",
						len > 0 ? ", " : "", name);
	}
	if (wanted)
		return log_ret(-ENOENT, "image '%s': has no '%s', but: %s",
			       src->path, wanted,
			       names[0] ? names : "no names");
	return log_ret(-EINVAL,
		       "image '%s': has several, choose one with '%s:NAME': %s",
		       src->path, src->path, names[0] ? names : "no names");
}

/*
 * The one descriptor of an index that is wanted. At the top several are a
 * question to the user; further down the first that fits is meant.
 */
static int choose(const struct source *src, json_t *index, const char *wanted,
		  bool top, json_t **ret)
{
	json_t *list = json_object_get(index, "manifests");
	json_t *found = NULL, *desc;
	const char *a, *b;
	size_t i;

	json_array_foreach(list, i, desc) {
		if (!platform_fits(desc) || (wanted && !has_name(desc, wanted)))
			continue;
		a = found ? text_of(found, "digest") : NULL;
		b = text_of(desc, "digest");
		if (top && a && b && strcmp(a, b) != 0)
			return not_one(src, list, NULL);
		if (!found)
			found = desc;
	}
	if (!found && wanted)
		return not_one(src, list, wanted);
	if (!found)
		return log_ret(-ENOTSUP,
			       "image '%s': has nothing for linux/amd64",
			       src->path);
	*ret = found;
	return 0;
}

/* ---- OCI layouts */

/*
 * A document that can be read as an index and as a manifest is one thing to one
 * program and another to the next (CVE-2021-41190).
 */
static int is_index(const struct source *src, json_t *doc, bool *ret)
{
	bool index = json_is_array(json_object_get(doc, "manifests"));
	bool manifest = json_object_get(doc, "layers") ||
			json_object_get(doc, "config");

	if (index == manifest)
		return bad(src, index ? "a document is both an index and a "
					"manifest"
				      : "a document is neither an index nor a "
					"manifest");
	*ret = index;
	return 0;
}

static int find_manifest(const struct source *src, const char *wanted,
			 json_t **ret_manifest, char **ret_name)
{
	autojson json_t *doc = NULL;
	bool index;
	int r = load_file(src, "index.json", &doc);

	for (unsigned depth = 0; r == 0; depth++) {
		json_t *desc = NULL, *next = NULL, *notes;
		const char *name;

		r = is_index(src, doc, &index);
		if (r < 0)
			return r;
		if (!index && depth == 0)
			return bad(src, "'index.json' is no index");
		if (!index) {
			*ret_manifest = take_ptr(doc);
			return 0;
		}
		if (depth == INDEX_DEPTH_MAX)
			return bad(src, "indexes are nested too deep");
		r = choose(src, doc, depth == 0 ? wanted : NULL, depth == 0,
			   &desc);
		if (r < 0)
			return r;
		notes = json_object_get(desc, "annotations");
		name = text_of(notes, IMAGE_NAME);
		if (!name)
			name = text_of(notes, REF_NAME);
		if (depth == 0 && name) {
			*ret_name = strdup(name);
			if (!*ret_name)
				return no_memory(src);
		}
		r = load_described(src, desc, &next);
		if (r < 0)
			return r;
		json_decref(doc);
		doc = next;
	}
	return r;
}

/* Makes META of a configuration's text, which becomes META's. */
static int take_config(const struct source *src, char *text, size_t len,
		       struct meta *meta)
{
	memcpy(meta->digest, "sha256:", 7);
	sha256_hex(text, len, meta->digest + 7);
	meta->config_text = text;
	meta->config_len = len;
	return config_parse(src->path, text, len, &meta->config, &meta->layers,
			    &meta->nlayers);
}

static int check_layer_count(const struct source *src, const struct meta *meta,
			     json_t *layers)
{
	if (json_array_size(layers) != meta->nlayers)
		return log_ret(-EINVAL,
			       "image '%s': its manifest has %zu layers, its "
			       "configuration %u",
			       src->path, json_array_size(layers),
			       meta->nlayers);
	return 0;
}

static int read_oci_layer(const struct source *src, json_t *desc,
			  struct layer *layer)
{
	const char *type = text_of(desc, "mediaType");
	json_t *size = json_object_get(desc, "size");
	const char *digest;
	char name[BLOB_NAME_MAX];
	int r = blob_name(src, desc, &digest, name);

	if (r < 0)
		return r;
	if (size && (!json_is_integer(size) || json_integer_value(size) < 0))
		return bad(src, "a layer has a size that is none");
	if (type && strstr(type, "+encrypted"))
		return log_ret(-ENOTSUP, "image '%s': has encrypted layers",
			       src->path);
	memcpy(layer->digest, digest, IMAGE_DIGEST_MAX);
	layer->bytes = size ? json_integer_value(size) : -1;
	layer->member = strdup(name);
	return layer->member ? 0 : no_memory(src);
}

static bool is_image_config(const char *type)
{
	return !type ||
	       strcmp(type, "application/vnd.oci.image.config.v1+json") == 0 ||
	       strcmp(type, "application/vnd.docker.container.image.v1+json") ==
		       0;
}

static int read_oci(const struct source *src, const char *wanted,
		    struct meta *meta)
{
	autojson json_t *manifest = NULL;
	json_t *config, *layers, *desc;
	char *text;
	size_t i, len;
	int r = find_manifest(src, wanted, &manifest, &meta->name);

	if (r < 0)
		return r;
	config = json_object_get(manifest, "config");
	layers = json_object_get(manifest, "layers");
	if (!is_image_config(text_of(config, "mediaType")))
		return log_ret(-ENOTSUP,
			       "image '%s': is no container image but an "
			       "artifact of type '%s'",
			       src->path, text_of(config, "mediaType"));
	r = load_text(src, config, &text, &len);
	if (r == 0)
		r = take_config(src, text, len, meta);
	if (r == 0)
		r = check_layer_count(src, meta, layers);
	if (r < 0)
		return r;
	json_array_foreach(layers, i, desc) {
		r = read_oci_layer(src, desc, &meta->layers[i]);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- docker save */

static bool has_tag(json_t *image, const char *wanted)
{
	json_t *tag;
	size_t i;

	json_array_foreach(json_object_get(image, "RepoTags"), i, tag)
		if (same_name(json_string_value(tag), wanted))
			return true;
	return false;
}

static int choose_docker(const struct source *src, json_t *list,
			 const char *wanted, json_t **ret)
{
	json_t *found = NULL, *image;
	size_t i;

	if (!json_is_array(list) || json_array_size(list) == 0)
		return bad(src, "'manifest.json' lists no image");
	json_array_foreach(list, i, image)
		if (!found && (!wanted || has_tag(image, wanted)))
			found = image;
	if (!found)
		return log_ret(-ENOENT, "image '%s': has no '%s'", src->path,
			       wanted);
	if (!wanted && json_array_size(list) > 1)
		return log_ret(-EINVAL,
			       "image '%s': has %zu, choose one with '%s:NAME'",
			       src->path, json_array_size(list), src->path);
	*ret = found;
	return 0;
}

/* The configuration's file is named after its digest, in a layout's way too. */
static int check_config_name(const struct source *src, const char *name,
			     const char *digest)
{
	const char *base = strrchr(name, '/');
	size_t len;

	base = base ? base + 1 : name;
	len = strspn(base, "0123456789abcdef");
	if (len == 64 && memcmp(base, digest + 7, 64) != 0)
		return log_ret(-EINVAL,
			       "image '%s': '%s' is not what its name says: it "
			       "is damaged or was tampered with",
			       src->path, name);
	return 0;
}

static int read_docker(const struct source *src, const char *wanted,
		       struct meta *meta)
{
	autojson json_t *list = NULL;
	json_t *image = NULL, *layers, *item;
	const char *name, *tag;
	char *text;
	size_t i, len;
	int r = load_file(src, "manifest.json", &list);

	if (r == 0)
		r = choose_docker(src, list, wanted, &image);
	if (r < 0)
		return r;
	name = text_of(image, "Config");
	layers = json_object_get(image, "Layers");
	if (!name)
		return bad(src, "'manifest.json' names no configuration");
	r = source_text(src, name, &text, &len);
	if (r == -ENOENT)
		return log_ret(-EINVAL, "image '%s': has no '%s'", src->path,
			       name);
	if (r < 0)
		return r;
	r = take_config(src, text, len, meta);
	if (r == 0)
		r = check_config_name(src, name, meta->digest);
	if (r == 0)
		r = check_layer_count(src, meta, layers);
	if (r < 0)
		return r;
	json_array_foreach(layers, i, item) {
		if (!json_is_string(item))
			return bad(src, "'manifest.json' has a layer without a "
					"name");
		meta->layers[i].member = strdup(json_string_value(item));
		if (!meta->layers[i].member)
			return no_memory(src);
	}
	tag = wanted ? wanted
		     : json_string_value(json_array_get(
			       json_object_get(image, "RepoTags"), 0));
	meta->name = tag ? strdup(tag) : NULL;
	return tag && !meta->name ? no_memory(src) : 0;
}

/* ---- both */

/*
 * "NAME:TAG" as it is kept. A layout may tell a tag only: then its own file
 * name stands before it.
 */
static int settle_name(const struct source *src, struct meta *meta)
{
	const char *base = strrchr(src->path, '/');
	char text[2 * IMAGE_NAME_MAX], name[IMAGE_NAME_MAX + 1];
	autofree char *told = take_ptr(meta->name);
	const bool whole = told && strpbrk(told, ":/");
	int len;

	if (whole && name_normalize(told, name)) {
		meta->name = strdup(name);
		return meta->name ? 0 : no_memory(src);
	}
	if (whole) {
		log_warn("'%s': calls itself '%s', which is no name for an "
			 "image or could be a digest: it is known by its own",
			 src->path, told);
		return 0;
	}
	base = base ? base + 1 : src->path;
	len = (int)strcspn(base, ".:");
	snprintf(text, sizeof(text), "%.*s:%s", len, base,
		 told && told[0] ? told : "latest");
	if (!name_normalize(text, name))
		return 0;
	meta->name = strdup(name);
	return meta->name ? 0 : no_memory(src);
}

int meta_read(const struct source *src, const char *name, struct meta *ret)
{
	autofd int fd = -1;
	struct blob blob;
	struct meta meta = {0};
	int r = source_find(src, "index.json", &blob, &fd);

	if (r == 0) {
		r = read_oci(src, name, &meta);
	} else if (r == -ENOENT) {
		r = source_find(src, "manifest.json", &blob, &fd);
		if (r == -ENOENT)
			r = bad(src, "neither an OCI layout (index.json) nor "
				     "made by docker save (manifest.json)");
		else if (r == 0)
			r = read_docker(src, name, &meta);
	}
	if (r == 0)
		r = settle_name(src, &meta);
	if (r < 0) {
		meta_done(&meta);
		return r;
	}
	*ret = meta;
	return 0;
}

void meta_done(struct meta *meta)
{
	for (unsigned i = 0; i < meta->nlayers; i++)
		free(meta->layers[i].member);
	free(meta->layers);
	free(meta->config_text);
	free(meta->name);
	rootfs_config_done(&meta->config);
	memset(meta, 0, sizeof(*meta));
}
