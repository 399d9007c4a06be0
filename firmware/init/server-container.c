/* SPDX-License-Identifier: Apache-2.0 */
/* The containers of the machine: one of its own, and others beside it. */
#include "firmware/init/server.h"

#include "firmware/init/session.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

struct server_container *server_find(struct server *server, const char *id)
{
	struct server_container *c = &server->first;

	if (!id)
		return c;
	while ((c = c->next)) {
		if (strcmp(c->config.container, id) == 0)
			return c;
	}
	return NULL;
}

struct server_container *server_add_container(struct server *server,
					      struct init_config *config,
					      struct init_failure *f)
{
	const char *id = config->container;
	struct server_container *c = NULL;
	int error = 0;

	/* crun's container cannot be joined. */
	if (!server->first.configured || server->first.config.oci)
		error = ENOTSUP;
	else if (server_find(server, id))
		error = EEXIST;
	else if (server->ncontainers == AGENT_CONTAINERS_MAX)
		error = E2BIG;
	if (!error)
		c = calloc(1, sizeof(*c));
	if (!c) {
		init_fail(f, INIT_STATUS_SETUP, error ? error : ENOMEM,
			  "container '%s'", id);
		return NULL;
	}
	c->config = *config;
	*config = (struct init_config){0};
	c->box = CONTAINER_NONE;
	c->box.plain = server->first.box.plain;
	c->box.config = &c->config;
	c->box.first = &server->first.box;
	c->configured = true;
	c->next = server->first.next;
	server->first.next = c;
	server->ncontainers++;
	return c;
}

bool server_is_leaving(const struct server *server,
		       const struct server_container *c)
{
	return c != &server->first && !c->box.main_pid &&
	       process_shares_pids(&c->box) &&
	       cgroup_has_processes(&c->box.group);
}

void server_container_ended(struct server *server, pid_t pid)
{
	const bool machine = pid == server->first.box.main_pid;

	for (struct server_container *c = &server->first; c; c = c->next) {
		/* Nothing runs without the machine's own. */
		if (machine && c->box.main_pid && c->box.main_pid != pid)
			server->actions->kill(c->box.main_pid, SIGKILL);
		if (c->box.main_pid != pid)
			continue;
		process_main_ended(&c->box);
		/* In a PID namespace of its own they have ended with it. */
		if (c != &server->first && process_shares_pids(&c->box))
			cgroup_kill(&c->box.group);
	}
}

static bool is_over(const struct server *server,
		    const struct server_container *c)
{
	if (c->box.main_pid)
		return false;
	for (const struct session *s = server->sessions; s; s = s->next) {
		if (s->container == c)
			return false;
	}
	return true;
}

static void free_container(struct server_container *c)
{
	process_main_ended(&c->box);
	cgroup_done(&c->box.group);
	util_close(&c->box.mounts_fd);
	init_config_done(&c->config);
	free(c->hostname);
}

void server_sweep(struct server *server)
{
	struct server_container **at = &server->first.next;

	while (*at) {
		struct server_container *c = *at;

		if (!is_over(server, c) ||
		    cgroup_has_processes(&c->box.group)) {
			at = &c->next;
			continue;
		}
		server->gone_kills += cgroup_oom_kills(&c->box.group);
		cgroup_remove(&c->box.group);
		*at = c->next;
		free_container(c);
		free(c);
		server->ncontainers--;
	}
}

bool server_is_sweeping(const struct server *server)
{
	for (const struct server_container *c = server->first.next; c;
	     c = c->next) {
		if (is_over(server, c) || server_is_leaving(server, c))
			return true;
	}
	return false;
}

void server_free_containers(struct server *server)
{
	while (server->first.next) {
		struct server_container *c = server->first.next;

		server->first.next = c->next;
		free_container(c);
		free(c);
	}
	free_container(&server->first);
}
