/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container's own view: its root, the file systems below it, its name.
 * Runs in a process that is already in new namespaces, before its command.
 */
#ifndef FIRMWARE_INIT_CONTAINER_H
#define FIRMWARE_INIT_CONTAINER_H

#include "firmware/init/request.h"

/*
 * Makes the container's file systems. A descriptor of its root, or -1 with the
 * failure filled in.
 */
int container_make(const struct init_config *config, struct init_failure *f);
/*
 * Makes the ROOT that container_make() has made this process's. Where that was
 * for the configuration BEFORE (else NULL), the host name and the files of /etc
 * become CONFIG's. 0, or -1 with the failure filled in.
 */
int container_finish(int root, const struct init_config *before,
		     const struct init_config *config, struct init_failure *f);

/*
 * In the agent: mounts the shares of trees that CONFIG names (agent.h,
 * AGENT_ITEM_CONTAINER) where container_enter() finds them, unless they are
 * there. 0, or -1 with the failure filled in.
 */
int container_prepare(const struct init_config *config, struct init_failure *f);

/*
 * Attaches the whole share of the mount NUMBER, of which one part is mounted
 * later, at AGENT_OCI_VOLUME NUMBER, in the agent's own root: for all NUMBERs
 * that are shares, in this order. A descriptor of the mount, or -1 with the
 * failure filled in.
 */
int container_mount_share(const struct init_config *c, unsigned number,
			  struct init_failure *f);

/*
 * ---- container-tree.c: shares of trees. The agent mounts each once: once the
 * kernel has mounted a tree in it, it would take that for the share, which has
 * the same tag.
 */

/*
 * A copy of the mount of what PATH of the share TAG is, in which a tree's name
 * comes first. A descriptor, or -1 with the failure filled in.
 */
int container_tree(const char *tag, const char *path, struct init_failure *f);
/* Hides CONFIG's shares from the container. */
void container_hide_trees(const struct init_config *config);

/* ---- */

/*
 * The root, with our files of /etc, attached at AGENT_OCI_ROOT. A descriptor,
 * or -1 with the failure filled in.
 */
int container_root(const struct init_config *config, struct init_failure *f);

/*
 * The files of /etc below ROOT, as BEFORE made them, become what C makes. One
 * that is out of reach there stays as it is. 0, or -1 with the failure filled
 * in: such as for a file that BEFORE had not.
 */
int container_write_etc(int root, const struct init_config *before,
			const struct init_config *c, struct init_failure *f);
/*
 * Another host name in the files of /etc below ROOT that are as C made them,
 * and can be written.
 */
void container_rename(int root, const struct init_config *c,
		      const char *hostname);
/*
 * Writes AGENT_CLONE_FILE below ROOT, the container's. 0, or -1 with the
 * failure filled in.
 */
int container_mark(int root, const struct init_clone *clone,
		   struct init_failure *f);

/* 0, or -1 with the failure filled in. */
int container_sysctls(int root, const struct init_config *config,
		      struct init_failure *f);

/* Gives /dev/console of the container this terminal. 0 or -errno. */
int container_console(int tty);

#endif
