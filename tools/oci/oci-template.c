/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Templates of an engine's machines (tools/container/template.h). `init` looks
 * for them where the host's files are out of sight, so that their directory is
 * mounted there by `create`, which alone knows where it is.
 */
#include "tools/oci/oci.h"

#include "tools/instance/template-store.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* With "true": this container's machine boots. */
#define ANNOTATION "bulkhead.cold"

/* 1, 0, or -EINVAL, logged. */
static int is_cold(json_t *config)
{
	const char *text =
		oci_text(json_object_get(config, "annotations"), ANNOTATION);

	if (!text[0] || strcmp(text, "false") == 0)
		return 0;
	if (strcmp(text, "true") == 0)
		return 1;
	return log_ret(-EINVAL,
		       "annotation '" ANNOTATION "': '%s' is neither true nor "
		       "false",
		       text);
}

bool oci_is_for_root(void)
{
	const char *user = getenv("USER");

	return geteuid() == 0 && (!util_in_user_namespace() ||
				  (user && strcmp(user, "root") == 0));
}

/*
 * The image store of `bulkhead run`'s; an ordinary user's engine is root in a
 * user namespace. Allocated; NULL: there is no place for one.
 */
static char *find_home(void)
{
	const char *named = getenv("BULKHEAD_STORE");
	const char *data = getenv("XDG_DATA_HOME");
	const char *home = getenv("HOME");
	char *path = NULL;

	if (named && named[0])
		return strdup(named);
	if (oci_is_for_root())
		return strdup("/var/lib/bulkhead");
	if (data && data[0] == '/')
		return asprintf(&path, "%s/bulkhead", data) < 0 ? NULL : path;
	if (!home || home[0] != '/')
		return NULL;
	return asprintf(&path, "%s/.local/share/bulkhead", home) < 0 ? NULL
								     : path;
}

int oci_templates_find(const struct oci *oci, json_t *config, char **ret_path)
{
	struct template_store store;
	autofree char *home = NULL;
	uint64_t limit;
	uid_t uid;
	gid_t gid;
	int r = is_cold(config);

	*ret_path = NULL;
	if (r == 0 && oci->cold)
		r = 1;
	if (r == 0)
		r = templates_limit(&limit);
	if (r < 0)
		return r;
	if (r > 0 || limit == 0 || oci_users_root(config, &uid, &gid) < 0 ||
	    uid != geteuid())
		return 0;
	home = find_home();
	/* An error, which is logged, means that there is none. */
	if (!home || template_store_open(home, true, &store) < 0)
		return 0;
	*ret_path = strdup(store.path);
	template_store_close(&store);
	return *ret_path ? 0 : log_ret(-ENOMEM, "out of memory");
}
