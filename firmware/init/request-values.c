/* SPDX-License-Identifier: Apache-2.0 */
/* A configuration that was taken apart: compared with another one, and freed.
 */
#include "firmware/init/request.h"

#include <stdlib.h>
#include <string.h>

static bool is_same_list(const struct init_strings *a,
			 const struct init_strings *b)
{
	bool same = a->n == b->n;

	for (size_t i = 0; same && i < a->n; i++)
		same = strcmp(a->list[i], b->list[i]) == 0;
	return same;
}

static bool is_same_text(const char *a, const char *b)
{
	return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_same_mount(const struct init_mount *a,
			  const struct init_mount *b)
{
	return a->kind == b->kind && strcmp(a->type, b->type) == 0 &&
	       strcmp(a->subpath, b->subpath) == 0 &&
	       strcmp(a->target, b->target) == 0 &&
	       strcmp(a->options, b->options) == 0;
}

bool init_config_fits(const struct init_config *p, const struct init_config *c)
{
	bool same =
		!c->container && !c->tree && !c->oci && p->flags == c->flags &&
		p->root_flags == c->root_flags &&
		is_same_text(p->root_tag, c->root_tag) &&
		p->pids_max == c->pids_max && p->cpu_quota == c->cpu_quota &&
		p->cpu_period == c->cpu_period && p->nmounts == c->nmounts &&
		p->ndevices == c->ndevices && p->nrules == c->nrules &&
		is_same_list(&p->sysctls, &c->sysctls) &&
		is_same_list(&p->masked, &c->masked) &&
		is_same_list(&p->readonly, &c->readonly);

	for (size_t i = 0; same && i < p->nmounts; i++)
		same = is_same_mount(&p->mounts[i], &c->mounts[i]);
	for (size_t i = 0; same && i < p->ndevices; i++)
		same = memcmp(&p->devices[i].wire, &c->devices[i].wire,
			      sizeof(p->devices[i].wire)) == 0 &&
		       strcmp(p->devices[i].path, c->devices[i].path) == 0;
	return same &&
	       (p->nrules == 0 ||
		memcmp(p->rules, c->rules, p->nrules * sizeof(*p->rules)) == 0);
}

void init_config_done(struct init_config *c)
{
	free(c->mounts);
	free(c->links);
	free(c->addresses);
	free(c->routes);
	free(c->neighbours);
	free(c->dns.list);
	free(c->search.list);
	free(c->hosts.list);
	free(c->sysctls.list);
	free(c->masked.list);
	free(c->readonly.list);
	free(c->warm.list);
	free(c->devices);
	free(c->rules);
	free(c->bytes);
	*c = (struct init_config){0};
}

struct init_caps init_start_caps(const struct init_start *s, uint32_t uid)
{
	const bool root_only = s->root_caps || s->flags & AGENT_START_ROOT_CAPS;

	if (uid == 0 || !root_only)
		return s->caps;
	return (struct init_caps){.bounding = s->caps.bounding};
}

void init_start_done(struct init_start *s)
{
	free(s->args.list);
	free(s->env.list);
	free(s->groups.list);
	free(s->rlimits);
	free(s->filter);
	free(s->bytes);
	*s = (struct init_start){0};
}
