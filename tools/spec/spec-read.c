/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one reader of OCI's JSON (config.md of the runtime specification): the
 * file as a whole. spec-process.c and spec-linux.c have the two large objects
 * in it, spec-value.c what all have in common.
 */
#include "tools/spec/spec-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define AT(member) offsetof(struct spec, member)

static int read_root(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"path", spec_read_text, AT(root_path)},
		{"readonly", spec_read_flag, AT(root_readonly)},
		{0},
	};

	return spec_read_object(at, json, keys, true, to);
}

/*
 * Takes empty parts and "." out of PATH. False: it does not begin with "/", has
 * "..", or is the root itself, which a mount cannot be on.
 */
static bool tidy_destination(char *path)
{
	char *to = path;

	if (!path || path[0] != '/')
		return false;
	for (const char *p = path; *p;) {
		const size_t n = strcspn(p, "/");

		if (n == 2 && memcmp(p, "..", 2) == 0)
			return false;
		if (n > 0 && !(n == 1 && p[0] == '.')) {
			*to++ = '/';
			memmove(to, p, n);
			to += n;
		}
		p += n + (p[n] == '/');
	}
	*to = '\0';
	return to > path;
}

static int add_mount(const struct spec_place *at, json_t *json, void *to)
{
	static const struct spec_key keys[] = {
		{"destination", spec_read_text,
		 offsetof(struct spec_mount, destination)},
		{"type", spec_read_text, offsetof(struct spec_mount, type)},
		{"source", spec_read_text, offsetof(struct spec_mount, source)},
		{"options", spec_read_texts,
		 offsetof(struct spec_mount, options)},
		{"uidMappings", NULL, 0},
		{"gidMappings", NULL, 0},
		{0},
	};
	struct spec_mount *mount = spec_new_mount(to);
	int r = mount ? spec_read_object(at, json, keys, true, mount) : -E2BIG;

	if (r == 0 && !tidy_destination(mount->destination))
		r = spec_fail(at, -EINVAL,
			      "destination: expected a path that begins with "
			      "/, is not the root, and has no '..'");
	return r;
}

static int read_mounts(const struct spec_place *at, json_t *json, void *to)
{
	return spec_read_list(at, json, add_mount, to);
}

static int read_own_process(const struct spec_place *at, json_t *json, void *to)
{
	struct spec *spec = to;

	spec->has_process = true;
	return spec_read_process_object(at, json, &spec->process);
}

static int check_spec(const struct spec_place *at, const struct spec *spec)
{
	if (!spec->oci_version || strncmp(spec->oci_version, "1.", 2) != 0)
		return spec_fail(
			at, -EINVAL,
			"ociVersion: expected a version like " SPEC_VERSION);
	if (!spec->root_path || spec->root_path[0] == '\0')
		return spec_fail(at, -EINVAL,
				 "root.path: expected a directory");
	return 0;
}

static int read_spec(const struct spec_place *at, json_t *json,
		     struct spec *spec)
{
	static const struct spec_key keys[] = {
		{"ociVersion", spec_read_text, AT(oci_version)},
		{"root", read_root, 0},
		{"process", read_own_process, 0},
		{"hostname", spec_read_text, AT(hostname)},
		{"domainname", NULL, 0},
		{"mounts", read_mounts, 0},
		{"hooks", NULL, 0},
		{"annotations", spec_read_map, AT(annotations)},
		{"linux", spec_read_linux_object, AT(linux_part)},
		{"solaris", NULL, 0},
		{"windows", NULL, 0},
		{"vm", NULL, 0},
		{"zos", NULL, 0},
		{0},
	};
	int r = spec_read_object(at, json, keys, false, spec);

	return r < 0 ? r : check_spec(at, spec);
}

int spec_from_json(const char *name, json_t *json, struct spec *ret)
{
	const struct spec_place at = {NULL, name, 0};
	struct spec spec = {0};
	int r = read_spec(&at, json, &spec);

	if (r < 0)
		spec_done(&spec);
	else
		*ret = spec;
	return r;
}

json_t *spec_parse(const char *name, const char *text, size_t bytes)
{
	autofree char *narrow = spec_narrow(text, &bytes);
	json_error_t error;
	json_t *json;

	if (!narrow) {
		log_error("out of memory");
		return NULL;
	}
	json = json_loadb(narrow, bytes, JSON_REJECT_DUPLICATES, &error);
	if (!json)
		log_error("'%s': line %d: %s", name, error.line, error.text);
	return json;
}

int spec_read(const char *name, const char *text, size_t bytes,
	      struct spec *ret)
{
	json_t *json = spec_parse(name, text, bytes);
	int r = json ? spec_from_json(name, json, ret) : -EINVAL;

	json_decref(json);
	return r;
}

int spec_process_read(const char *name, const char *text, size_t bytes,
		      struct spec_process *ret)
{
	const struct spec_place at = {NULL, name, 0};
	struct spec_process process = {0};
	json_t *json = spec_parse(name, text, bytes);
	int r = json ? spec_read_process_object(&at, json, &process) : -EINVAL;

	json_decref(json);
	if (r < 0)
		spec_process_done(&process);
	else
		*ret = process;
	return r;
}
