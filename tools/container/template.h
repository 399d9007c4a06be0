/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A machine that has come as far as its agent and knows of no container yet:
 * saved once, others of its shape go on from there and need not boot. And one
 * that has made the container of an image, and waits for its program: saved
 * once, others of that container go on from there.
 *
 * The shape is all that a guest has found out by then: CPUs, memory, kernel,
 * and which devices there are. A start brings with it what is behind the
 * devices: shares are not mounted yet, and networks have no addresses. So there
 * is one template for each shape that is used, made by the first machine that
 * has it.
 */
#ifndef TOOLS_CONTAINER_TEMPLATE_H
#define TOOLS_CONTAINER_TEMPLATE_H

#include "tools/guest/initrd.h"

#include <stdbool.h>

struct agent_config;
struct config;
struct config_device;
struct instance;
struct pool_taken;
struct snapshot;

struct template;

/* A container that the machine is for, of an image. */
struct template_container {
	const char *digest; /* NULL: none that can be in a template */
	const char *root;   /* the image's tree, or the directory */
	const struct agent_config *agent;
};

/* The machine that is to start; all of it borrowed. */
struct template_wish {
	const struct config *cfg;
	const char *distro;               /* its kernel's version; NULL */
	const struct initrd_files *files; /* besides the agent */
	struct template_container container;
	const char *dir; /* NULL: the image store's templates */
	/* It takes a machine that waits (pool.h), if there is one; NULL: none.
	 */
	const struct instance *instance;
	bool now; /* `template make`: nothing else is run */
};

/*
 * Looks for the template of WISH's machine, with its container if there is such
 * a one. Where there is none, this machine is to become it, unless another one
 * does just now. A machine that can have none (its memory is in huge pages,
 * say) has neither. 0; or -errno, logged: the user asked for what cannot be, or
 * -ENOMEM. Other errors are logged, and no reason for the machine not to run.
 */
int template_new(const struct template_wish *wish, struct template **ret);
void template_free(struct template *t); /* NULL is fine */

/* Its name, or the one that it will have; NULL: there can be none. */
const char *template_name(const struct template *t);
/*
 * From which the machine goes on; NULL: it boots, or was taken. T may be NULL.
 */
const struct snapshot *template_snapshot(const struct template *t);
/* One that waited, and is this start's; NULL: none. T may be NULL. */
struct pool_taken *template_taken(struct template *t);
/* Its directory of all templates; -1: there is none. */
int template_dir(const struct template *t);
/* Whether this start of it is the one that is recorded. T may be NULL. */
bool template_records(const struct template *t);
/* The record goes on until template_end_record(). */
void template_record_long(struct template *t);
/* Whether it is to become one. T may be NULL. */
bool template_is_wanted(const struct template *t);
/* Whether the one from which the machine goes on has its container. */
bool template_has_container(const struct template *t);
/*
 * Which machines of a pool are T's: those that have its container, or a start
 * of any.
 */
const char *template_pool(const struct template *t, bool prepared);
/* Whether that is one with its container, see agent_prepare(). */
bool template_is_prepared(const struct template *t);
/* Whether there could be one with its container, which it has no part in. */
bool template_lacks_container(const struct template *t);

/*
 * Has the machine whose CONTROL socket that is (vm-socket.h) become it: its
 * agent has told that it is there, and was told nothing, or its container is
 * prepared. -errno, logged, is no reason for the machine to end; nor is there
 * anything left of a template then. -ECONNRESET, not logged: GONE_FD has become
 * readable.
 */
int template_save(struct template *t, const char *control, int gone_fd);

/*
 * Whether NET, a network device of a machine that becomes one, has to be hidden
 * (vm_hide()) until it is saved: machines that go on from it have others there.
 */
bool template_hides(const struct config_device *net);
/*
 * Shows them, whether or not it was saved. 0 or -errno, logged: the guest will
 * not find them. -ECONNRESET as above.
 */
int template_show(const char *control, int gone_fd);

/* The machine has started; the rest is not recorded. GONE_FD ends the wait. */
void template_end_record(const char *control, int gone_fd);

/*
 * For the monitor, which is handed what it may write to when that is due: the
 * first before it builds its machine, the second behind that. T may be NULL.
 */
void template_close_writable(struct template *t);
void template_close_record(struct template *t);

/* From now on it is never removed by template_drop(). T may be NULL. */
void template_leave(struct template *t);

/*
 * The container could not be made: T does not become one that has it, and the
 * next start makes none. The one that the machine went on from is as good as it
 * was. NULL is fine, here and below.
 */
void template_distrust(struct template *t);

/* Whether the machine has its container from T, or from a pool's machine. */
bool template_made_container(const struct template *t);
/*
 * The program could not be started: true, if T had its container, which may be
 * the reason. If it starts without, that was: template_blame() removes it.
 */
bool template_suspect(struct template *t);
void template_blame(struct template *t);

/* It cannot be used: removes it. */
void template_drop(struct template *t);
/*
 * The same, unless one of the above has come before. True: there is one to be
 * used, without a container.
 */
bool template_fall_back(struct template *t);

#endif
