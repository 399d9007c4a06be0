/* SPDX-License-Identifier: Apache-2.0 */
/* CONFIGURE and START: the caller's settings as items of a request. */
#include "tools/agent/agent.h"

#include "firmware/agent/agent-names.h"
#include "tools/agent/agent-parts.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/trace.h"
#include "vmm/base/util.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

/* The first version with containers besides the machine's own. */
#define CONTAINER_MINOR 8
/* The first that changes their limits. */
#define LIMIT_MINOR 11
/* The first that takes random bytes. */
#define ENTROPY_MINOR 12

static void add_flags(struct agent_items *items, enum agent_key key,
		      uint32_t flags, const char *text)
{
	const struct agent_flags wire = {.flags = htole32(flags)};

	agent_items_add(items, key, &wire, sizeof(wire), &text, text ? 1 : 0);
}

static void add_text(struct agent_items *items, enum agent_key key,
		     const char *text)
{
	if (text)
		agent_items_add(items, key, NULL, 0, &text, 1);
}

static void add_list(struct agent_items *items, enum agent_key key,
		     const char *const *list)
{
	for (; list && *list; list++)
		add_text(items, key, *list);
}

static void add_time(struct agent_items *items)
{
	const struct agent_time wire = agent_time_now();

	agent_items_add(items, AGENT_ITEM_TIME, &wire, sizeof(wire), NULL, 0);
}

/* -errno, logged. */
static int add_entropy(struct agent_items *items)
{
	struct agent_entropy wire;

	if (getrandom(&wire, sizeof(wire), 0) != sizeof(wire))
		return log_ret(-errno, "getrandom: %s", strerror(errno));
	agent_items_add(items, AGENT_ITEM_ENTROPY, &wire, sizeof(wire), NULL,
			0);
	explicit_bzero(&wire, sizeof(wire));
	return 0;
}

static void add_mount(struct agent_items *items, const struct agent_mount *m)
{
	const struct agent_mount_item wire = {
		.kind = htole32(m->tag ? AGENT_MOUNT_SHARE
				       : AGENT_MOUNT_FILESYSTEM),
	};
	const char *const text[] = {m->tag ? m->tag : m->type, m->subpath,
				    m->target, m->options};

	agent_items_add(items, AGENT_ITEM_MOUNT, &wire, sizeof(wire), text,
			ARRAY_LEN(text));
}

static void add_device(struct agent_items *items, const struct spec_device *d)
{
	const struct agent_device wire = {
		.type = htole32((uint32_t)d->type),
		.major = htole32(d->major),
		.minor = htole32(d->minor),
		.mode = htole32(d->mode),
		.uid = htole32(d->uid),
		.gid = htole32(d->gid),
	};
	const char *const path = d->path;

	agent_items_add(items, AGENT_ITEM_DEVICE, &wire, sizeof(wire), &path,
			1);
}

static void add_rule(struct agent_items *items,
		     const struct spec_device_rule *r)
{
	const struct agent_device_rule wire = {
		.allow = htole32(r->allow),
		.type = htole32((uint32_t)r->type),
		.major = htole32((uint32_t)r->major),
		.minor = htole32((uint32_t)r->minor),
		.access = htole32(
			(r->access & SPEC_ACCESS_MKNOD ? AGENT_ACCESS_MKNOD
						       : 0U) |
			(r->access & SPEC_ACCESS_READ ? AGENT_ACCESS_READ
						      : 0U) |
			(r->access & SPEC_ACCESS_WRITE ? AGENT_ACCESS_WRITE
						       : 0U)),
	};

	agent_items_add(items, AGENT_ITEM_RULE, &wire, sizeof(wire), NULL, 0);
}

/* "10.0.2.15/24", or without the prefix for a gateway. 0 or -EINVAL, logged. */
static int add_address(struct agent_items *items, const char *text,
		       bool gateway)
{
	struct agent_address wire = {0};
	const char *slash = strchr(text, '/');
	char address[INET6_ADDRSTRLEN];
	uint64_t bits = 0;

	snprintf(address, sizeof(address), "%.*s",
		 (int)(slash ? slash - text : (long)strlen(text)), text);
	if (inet_pton(AF_INET, address, wire.address) == 1)
		wire.family = 4;
	else if (inet_pton(AF_INET6, address, wire.address) == 1)
		wire.family = 6;
	if (!wire.family || gateway != !slash ||
	    (slash && util_parse_number(slash + 1, 0,
					wire.family == 4 ? 32 : 128, &bits)))
		return log_ret(-EINVAL, "'%s': not %s", text,
			       gateway ? "an address"
				       : "an address with its prefix, as in "
					 "10.0.2.15/24");
	wire.prefix = (uint8_t)bits;
	agent_items_add(items,
			gateway ? AGENT_ITEM_GATEWAY : AGENT_ITEM_ADDRESS,
			&wire, sizeof(wire), NULL, 0);
	return 0;
}

static void add_exact(struct agent_items *items, const struct agent_exact *e)
{
	struct agent_mac mac = {.flags = e->gone ? AGENT_GONE : 0};

	memcpy(mac.mac, e->mac, sizeof(mac.mac));
	agent_items_add(items, AGENT_ITEM_MAC, &mac, sizeof(mac), NULL, 0);
	for (size_t i = 0; i < e->naddresses; i++)
		agent_items_add(items, AGENT_ITEM_ADDRESS, &e->addresses[i],
				sizeof(e->addresses[i]), NULL, 0);
	for (size_t i = 0; i < e->nroutes; i++)
		agent_items_add(items, AGENT_ITEM_ROUTE, &e->routes[i],
				sizeof(e->routes[i]), NULL, 0);
	for (size_t i = 0; i < e->nneighbours; i++)
		agent_items_add(items, AGENT_ITEM_NEIGHBOUR, &e->neighbours[i],
				sizeof(e->neighbours[i]), NULL, 0);
}

static void begin_link(struct agent_items *items, const struct agent_link *link)
{
	const struct agent_link_item wire = {.mtu = htole32(link->mtu)};

	agent_items_add(items, AGENT_ITEM_LINK, &wire, sizeof(wire),
			&link->name, 1);
}

void agent_add_exact_link(struct agent_items *items,
			  const struct agent_link *link)
{
	begin_link(items, link);
	add_exact(items, link->exact);
}

static int add_link(struct agent_items *items, const struct agent_link *link)
{
	const char *const *p;
	int r = 0;

	if (link->exact) {
		agent_add_exact_link(items, link);
		return 0;
	}
	begin_link(items, link);
	for (p = link->addresses; r == 0 && p && *p; p++)
		r = add_address(items, *p, false);
	for (p = link->gateways; r == 0 && p && *p; p++)
		r = add_address(items, *p, true);
	return r;
}

static void add_number(struct agent_items *items, enum agent_key key,
		       uint64_t number)
{
	const struct agent_number wire = {htole64(number)};

	if (number)
		agent_items_add(items, key, &wire, sizeof(wire), NULL, 0);
}

static void add_limits(struct agent_items *items, const struct agent_limits *l)
{
	const struct agent_cpu cpu = {htole64(l->cpu_quota),
				      htole64(l->cpu_period)};

	add_number(items, AGENT_ITEM_PIDS, l->pids_max);
	add_number(items, AGENT_ITEM_MEMORY, l->memory_max);
	if (l->cpu_quota)
		agent_items_add(items, AGENT_ITEM_CPU, &cpu, sizeof(cpu), NULL,
				0);
}

/* These make a container, wherever and whenever it runs. */
static void container_items(struct agent_items *items,
			    const struct agent_config *c)
{
	add_flags(items, AGENT_ITEM_FLAGS,
		  (c->host_bound ? AGENT_CONFIG_HOST_BOUND : 0U) |
			  (c->keep_etc ? AGENT_CONFIG_KEEP_ETC : 0U) |
			  (c->share_uts ? AGENT_CONFIG_SHARE_UTS : 0U) |
			  (c->share_ipc ? AGENT_CONFIG_SHARE_IPC : 0U) |
			  (c->share_pid ? AGENT_CONFIG_SHARE_PID : 0U),
		  NULL);
	add_text(items, AGENT_ITEM_HOSTNAME, c->hostname);
	if (c->root_tag)
		add_flags(items, AGENT_ITEM_ROOT,
			  (c->root_overlay ? AGENT_ROOT_OVERLAY : 0U) |
				  (c->root_readonly ? AGENT_ROOT_READONLY : 0U),
			  c->root_tag);
	for (size_t i = 0; i < c->nmounts; i++)
		add_mount(items, &c->mounts[i]);
	add_list(items, AGENT_ITEM_DNS, c->dns);
	add_list(items, AGENT_ITEM_SEARCH, c->search);
	add_list(items, AGENT_ITEM_HOST, c->hosts);
	add_list(items, AGENT_ITEM_SYSCTL, c->sysctls);
	add_list(items, AGENT_ITEM_MASKED, c->masked);
	add_list(items, AGENT_ITEM_READONLY, c->readonly);
	for (size_t i = 0; i < c->ndevices; i++)
		add_device(items, &c->devices[i]);
	for (size_t i = 0; i < c->nrules; i++)
		add_rule(items, &c->rules[i]);
	add_limits(items, &(const struct agent_limits){
				  .memory_max = c->memory_max,
				  .pids_max = c->pids_max,
				  .cpu_quota = c->cpu_quota,
				  .cpu_period = c->cpu_period,
			  });
}

static int config_items(struct agent_items *items, const struct agent_config *c)
{
	int r = c->entropy ? add_entropy(items) : 0;

	if (r < 0)
		return r;
	add_text(items, AGENT_ITEM_CONTAINER, c->container);
	add_text(items, AGENT_ITEM_TREE, c->root_tree);
	if (!c->container)
		add_time(items);
	container_items(items, c);
	for (size_t i = 0; i < c->nlinks; i++) {
		r = add_link(items, &c->links[i]);
		if (r < 0)
			return r;
	}
	add_text(items, AGENT_ITEM_OCI, c->oci);
	return 0;
}

static int check_container(const struct agent_session *agent,
			   const char *container)
{
	return container && agent->minor < CONTAINER_MINOR
		       ? log_ret(-ENOTSUP,
				 "container '%s': the machine was started by "
				 "an older bulkhead, whose agent knows one "
				 "container only",
				 container)
		       : 0;
}

static const char configuration[] = "the guest's configuration";

int agent_configure_begin(struct agent_session *agent,
			  const struct agent_config *config)
{
	struct agent_items items = {0};
	int r = check_container(agent, config->container);

	if (r == 0 && config->entropy && agent->minor < ENTROPY_MINOR)
		r = log_ret(-ENOTSUP,
			    "the machine was started by an older bulkhead, "
			    "whose agent takes no random numbers");
	if (r == 0)
		r = config_items(&items, config);
	if (r == 0)
		r = agent_put_items(agent, &items, AGENT_CONFIGURE,
				    configuration);
	agent_items_done(&items);
	trace_mark(agent->trace, TRACE_CONFIGURE);
	agent->configures = r == 0;
	return r;
}

/* 0 also where nothing was begun. */
static int configure_end(struct agent_session *agent)
{
	int r;

	if (!agent->configures)
		return 0;
	agent->configures = false;
	r = agent_await_done(agent, AGENT_MACHINE_MS, configuration);
	trace_mark(agent->trace, TRACE_CONFIGURED);
	/* That one says that START has been refused, and why. */
	return r == -EREMOTEIO ? -EIO : r;
}

int agent_configure(struct agent_session *agent,
		    const struct agent_config *config)
{
	int r = agent_configure_begin(agent, config);

	if (r == 0)
		r = agent_flush_all(agent, AGENT_MACHINE_MS);
	return r < 0 ? r : configure_end(agent);
}

/* An answer that is no FAILED. -EREMOTEIO: it is one, and nothing is logged. */
static int await_success(struct agent_session *agent, struct agent_message *ret,
			 struct agent_failure *ret_failure)
{
	int r = agent_await(agent, AGENT_MACHINE_MS, ret);

	if (r < 0 || ret->type != AGENT_FAILED)
		return r;
	r = agent_read_failed(ret, ret_failure);
	return r < 0 ? r : -EREMOTEIO;
}

/* ---- a container that is made before its run */

/* These are of an interface, which comes later, or of all that there are. */
static bool needs_links(const char *sysctl)
{
	return strncmp(sysctl, "net", 3) == 0 &&
	       (strstr(sysctl, "conf") || strstr(sysctl, "neigh"));
}

/* It would have to come behind the name that the run has. */
static bool names_host(const char *sysctl)
{
	return strncmp(sysctl, "kernel.hostname", 15) == 0 ||
	       strncmp(sysctl, "kernel/hostname", 15) == 0;
}

bool agent_can_prepare(const struct agent_config *c)
{
	for (size_t i = 0; i < c->nmounts; i++) {
		if (c->mounts[i].tag)
			return false;
	}
	for (size_t i = 0; c->sysctls && c->sysctls[i]; i++) {
		if (needs_links(c->sysctls[i]) || names_host(c->sysctls[i]))
			return false;
	}
	return !c->container && !c->oci && !c->keep_etc && c->root_tag &&
	       c->root_overlay;
}

/* Names and addresses, which differ from run to run, are words of ours. */
static void prepare_items(struct agent_items *items,
			  const struct agent_config *config)
{
	static const char *const address[] = {"127.0.0.1", NULL};
	static const char *const domain[] = {"invalid", NULL};
	struct agent_config c = *config;

	c.hostname = c.hostname ? "prepared" : NULL;
	c.dns = c.dns && *c.dns ? address : NULL;
	c.search = !c.dns && c.search && *c.search ? domain : NULL;
	c.hosts = NULL;
	container_items(items, &c);
}

int agent_prepare_bytes(const struct agent_config *config, uint8_t **ret,
			size_t *ret_bytes)
{
	struct agent_items items = {0};

	prepare_items(&items, config);
	if (items.error) {
		agent_items_done(&items);
		return log_ret(items.error, "a container's configuration: %s",
			       strerror(-items.error));
	}
	*ret = items.data;
	*ret_bytes = items.bytes;
	return 0;
}

int agent_prepare(struct agent_session *agent,
		  const struct agent_config *config, const char *const *warm,
		  struct agent_failure *ret_failure)
{
	struct agent_items items = {0};
	struct agent_message m;
	int r;

	prepare_items(&items, config);
	add_list(&items, AGENT_ITEM_WARM, warm);
	r = agent_send_items(agent, &items, AGENT_PREPARE, "the container");
	agent_items_done(&items);
	if (r == 0)
		r = await_success(agent, &m, ret_failure);
	if (r < 0)
		return r;
	return m.type == AGENT_DONE && m.bytes == 0
		       ? 0
		       : agent_violation("an answer to PREPARE");
}

static_assert(AGENT_LIMITS_NONE == AGENT_NO_LIMIT, "as on the wire");

int agent_limit(struct agent_session *agent, const char *container,
		const struct agent_limits *limits)
{
	static const char what[] = "the container's limits";
	struct agent_items items = {0};
	int r;

	if (agent->minor < LIMIT_MINOR)
		return log_ret(-ENOTSUP,
			       "container '%s': the machine was started by an "
			       "older bulkhead, whose agent changes no limits: "
			       "start the pod again",
			       container);
	add_text(&items, AGENT_ITEM_CONTAINER, container);
	add_limits(&items, limits);
	r = agent_send_items(agent, &items, AGENT_LIMIT, what);
	agent_items_done(&items);
	return r < 0 ? r : agent_await_done(agent, AGENT_MACHINE_MS, what);
}

/* ---- a process */

/* The user is 0, or named: not 0, it has the bounding capabilities alone. */
static bool may_be_root(const struct spec_process *p)
{
	return p->user.username || p->user.uid == 0;
}

/* Guests of versions before 1.4 know this form alone: it is used if it can. */
static bool has_simple_caps(const struct spec_process *p)
{
	const struct spec_capabilities *c = &p->capabilities;

	return may_be_root(p) && c->effective == c->bounding &&
	       c->permitted == c->bounding && !c->inheritable && !c->ambient;
}

static void add_caps(struct agent_items *items, const struct spec_process *p)
{
	const struct spec_capabilities *c = &p->capabilities;
	const struct agent_caps simple = {htole64(c->bounding)};
	const struct agent_cap_sets sets = {
		.bounding = htole64(c->bounding),
		.effective = htole64(c->effective),
		.permitted = htole64(c->permitted),
		.inheritable = htole64(c->inheritable),
		.ambient = htole64(c->ambient),
	};

	if (has_simple_caps(p))
		agent_items_add(items, AGENT_ITEM_CAPS, &simple, sizeof(simple),
				NULL, 0);
	else
		agent_items_add(items, AGENT_ITEM_CAP_SETS, &sets, sizeof(sets),
				NULL, 0);
}

/*
 * An older agent runs a container with a filter by crun alone, which has that
 * from config.json.
 */
#define FILTER_MINOR 6

static void add_filter(struct agent_items *items, const struct spec_filter *f)
{
	struct agent_filter wire = {.flags = htole32(f->flags)};

	if (f->count > AGENT_FILTER_MAX) {
		items->error = -E2BIG;
		return;
	}
	for (size_t i = 0; i < f->count; i++)
		wire.code[i] = (struct agent_filter_code){
			.code = htole16(f->code[i].code),
			.jt = f->code[i].jt,
			.jf = f->code[i].jf,
			.k = htole32(f->code[i].k),
		};
	agent_items_add(items, AGENT_ITEM_FILTER, &wire,
			offsetof(struct agent_filter, code[f->count]), NULL, 0);
}

static void add_rlimits(struct agent_items *items, const struct spec_process *p)
{
	for (size_t i = 0; i < p->nrlimits; i++) {
		const struct spec_rlimit *l = &p->rlimits[i];
		const struct agent_rlimit wire = {
			.resource = htole32((uint32_t)l->type),
			.soft = htole64(l->soft),
			.hard = htole64(l->hard),
		};

		agent_items_add(items, AGENT_ITEM_RLIMIT, &wire, sizeof(wire),
				NULL, 0);
	}
}

static void add_oom(struct agent_items *items, int score_adj)
{
	const struct agent_oom wire = {htole32((uint32_t)score_adj)};

	agent_items_add(items, AGENT_ITEM_OOM, &wire, sizeof(wire), NULL, 0);
}

static void add_size(struct agent_items *items, const struct spec_process *p)
{
	const struct agent_size wire = {
		.rows = htole16(p->console_height),
		.columns = htole16(p->console_width),
	};

	agent_items_add(items, AGENT_ITEM_SIZE, &wire, sizeof(wire), NULL, 0);
}

static void process_items(struct agent_items *items,
			  const struct spec_process *p,
			  const struct agent_start_options *o, unsigned minor)
{
	const bool root_caps = !o->own && may_be_root(p) && !has_simple_caps(p);
	char number[24];

	add_flags(
		items, AGENT_ITEM_FLAGS,
		(o->main ? AGENT_START_MAIN : 0U) |
			(o->input ? AGENT_START_STDIN : 0U) |
			(p->terminal ? AGENT_START_TTY : 0U) |
			(p->no_new_privileges ? AGENT_START_NO_NEW_PRIVS : 0U) |
			(o->init ? AGENT_START_INIT : 0U) |
			(o->own ? AGENT_START_OWN : 0U) |
			(o->bound ? AGENT_START_BOUND : 0U) |
			(root_caps ? AGENT_START_ROOT_CAPS : 0U),
		NULL);
	add_text(items, AGENT_ITEM_CONTAINER, o->container);
	add_list(items, AGENT_ITEM_ARG, text_list_items(&p->args));
	if (o->own)
		return;
	add_list(items, AGENT_ITEM_ENV, text_list_items(&p->env));
	add_text(items, AGENT_ITEM_CWD, p->cwd);
	add_text(items, AGENT_ITEM_USER, spec_user_text(&p->user, number));
	add_list(items, AGENT_ITEM_GROUP,
		 text_list_items(&p->user.additional_gids));
	add_caps(items, p);
	add_rlimits(items, p);
	/* The agent's own is 022; older ones know no item. */
	if (p->user.has_umask && p->user.umask != 022)
		add_flags(items, AGENT_ITEM_UMASK, p->user.umask, NULL);
	if (p->has_oom_score_adj && p->oom_score_adj != 0)
		add_oom(items, p->oom_score_adj);
	if (o->filter && o->filter->code && minor >= FILTER_MINOR)
		add_filter(items, o->filter);
	if (p->terminal)
		add_size(items, p);
}

/* From here on the session is the process's. */
static int take_started(struct agent_session *agent,
			const struct agent_message *m,
			const struct agent_start_options *options, int *ret_pid)
{
	struct agent_started started;

	if (m->type != AGENT_STARTED ||
	    agent_message_copy(m, &started, sizeof(started)))
		return agent_violation("an answer to no question");
	trace_mark(agent->trace, TRACE_STARTED);
	agent->started = true;
	agent->input = options->input;
	agent->window = AGENT_STDIN_WINDOW;
	if (ret_pid)
		*ret_pid = (int)(le32toh(started.pid) & INT32_MAX);
	return 0;
}

int agent_start(struct agent_session *agent, const struct spec_process *process,
		const struct agent_start_options *options,
		struct agent_failure *ret_failure, int *ret_pid)
{
	struct agent_items items = {0};
	struct agent_message m;
	int r;

	r = check_container(agent, options->container);
	if (r < 0)
		return r;
	process_items(&items, process, options, agent->minor);
	r = agent_send_items(agent, &items, AGENT_START, "the command");
	trace_mark(agent->trace, TRACE_START);
	agent_items_done(&items);
	if (r == 0)
		r = configure_end(agent);
	if (r == 0)
		r = await_success(agent, &m, ret_failure);
	return r < 0 ? r : take_started(agent, &m, options, ret_pid);
}

static void add_clone(struct agent_items *items,
		      const struct agent_clone_facts *clone)
{
	const struct agent_clone wire = {
		.number = htole32(clone->number),
		.signal = htole32((uint32_t)clone->signal),
	};
	const char *const names[] = {clone->name, clone->source};

	agent_items_add(items, AGENT_ITEM_CLONE, &wire, sizeof(wire), names,
			ARRAY_LEN(names));
}

int agent_attach(struct agent_session *agent, const char *hostname,
		 const struct agent_clone_facts *clone,
		 const struct agent_start_options *options, int *ret_pid)
{
	static const char what[] = "the container";
	struct agent_items items = {0};
	struct agent_failure failure;
	struct agent_message m;
	int r;

	if (agent->minor < HOLD_MINOR)
		return log_ret(-ENOTSUP,
			       "the container was saved by an older bulkhead, "
			       "whose agent does not go on");
	if (clone && agent->minor < CLONE_MINOR)
		return log_ret(-ENOTSUP,
			       "the container was started by an older "
			       "bulkhead, whose agent has no clones: start it "
			       "again");
	r = add_entropy(&items);
	add_time(&items);
	add_text(&items, AGENT_ITEM_HOSTNAME, hostname);
	if (clone)
		add_clone(&items, clone);
	if (r == 0)
		r = agent_send_items(agent, &items, AGENT_ATTACH, what);
	agent_items_done(&items);
	trace_mark(agent->trace, TRACE_ATTACH);
	if (r == 0)
		r = agent_await(agent, AGENT_MACHINE_MS, &m);
	if (r < 0)
		return r;
	if (m.type == AGENT_FAILED) {
		r = agent_read_failed(&m, &failure);
		return r < 0 ? r
			     : log_ret(failure.error ? -failure.error
						     : -EREMOTEIO,
				       "%s: %s", what, failure.text);
	}
	r = take_started(agent, &m, options, ret_pid);
	/* The first STDIN_MORE opens it. */
	agent->window = 0;
	return r;
}

/* ---- names */

int agent_capability(const char *name)
{
	if (strncasecmp(name, "CAP_", 4) == 0)
		name += 4;
	for (unsigned i = 0; agent_capability_name(i); i++) {
		if (strcasecmp(name, agent_capability_name(i)) == 0)
			return (int)i;
	}
	return -EINVAL;
}

int agent_signal_number(const char *name)
{
	uint64_t number;

	if (util_parse_number(name, 1, 64, &number) == 0)
		return (int)number;
	if (strncasecmp(name, "SIG", 3) == 0)
		name += 3;
	for (int n = 1; n < 32; n++) {
		const char *known = sigabbrev_np(n);

		if (known && strcasecmp(name, known) == 0)
			return n;
	}
	if (strncasecmp(name, "RTMIN+", 6) == 0 &&
	    util_parse_number(name + 6, 0, 30, &number) == 0)
		return 34 + (int)number;
	return -EINVAL;
}
