/* SPDX-License-Identifier: Apache-2.0 */
/* The files that crun finds in the agent's own root; see AGENT_ITEM_OCI. */
#include "firmware/init/crun.h"

#include "firmware/init/container.h"
#include "firmware/init/mount.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Below another mount it is for crun to be made, there. */
static bool is_nested(const struct init_config *c, const char *target)
{
	for (size_t i = 0; i < c->nmounts; i++) {
		const char *outer = c->mounts[i].target;
		const size_t n = strlen(outer);

		if (strncmp(target, outer, n) == 0 && target[n] == '/')
			return true;
	}
	return false;
}

/* Also where the root's links lead to nowhere, which crun does not make. */
static int make_point(int root, const struct init_config *c, unsigned number,
		      struct init_failure *f)
{
	const struct init_mount *m = &c->mounts[number];
	char path[32];
	struct stat st = {.st_mode = S_IFDIR};
	autofd int share = -1;
	autofd int source = -1;
	autofd int at = -1;

	/* crun makes places below other mounts; here are those of the root. */
	if (is_nested(c, m->target))
		return 0;
	if (m->kind == AGENT_MOUNT_SHARE) {
		snprintf(path, sizeof(path), AGENT_OCI_VOLUME "%u", number);
		share = open(path, O_PATH | O_CLOEXEC);
		source = root_open_source(share, m->subpath);
		if (source < 0 || fstat(source, &st) < 0)
			return init_fail_path(f, errno, "open in the share",
					      m->subpath);
	}
	at = root_make(root, m->target, S_ISDIR(st.st_mode));
	return at < 0 ? init_fail_path(f, -at, "make mount point", m->target)
		      : 0;
}

static int mount_share(const struct init_config *c, unsigned number,
		       struct init_failure *f)
{
	autofd int share = container_mount_share(c, number, f);

	return share < 0 ? -1 : 0;
}

int crun_root(const struct init_config *c, struct init_failure *f)
{
	autofd int root = -1;
	autofd int own = open("/", O_PATH | O_CLOEXEC);

	if (!c->root_tag)
		return init_fail(f, INIT_STATUS_SETUP, 0, "no root is given");
	umask(0);
	root = container_root(c, f);
	for (unsigned i = 0; root >= 0 && i < c->nmounts; i++) {
		if (c->mounts[i].kind == AGENT_MOUNT_SHARE &&
		    mount_share(c, i, f))
			return -1;
		if (make_point(root, c, i, f))
			return -1;
	}
	umask(022);
	return root < 0 || container_sysctls(own, c, f) ? -1 : take_fd(&root);
}
