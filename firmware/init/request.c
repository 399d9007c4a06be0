/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Items to structures, by two tables. An item that is not known is refused:
 * nobody should believe that something was done which was not.
 */
#include "firmware/init/request.h"

#include "firmware/agent/agent-wire.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <linux/filter.h>
#include <stdlib.h>
#include <string.h>

#define STRINGS_MAX 4
/* In place of a number of strings: FIXED is the item's view, of any size. */
#define WHOLE_ITEM UINT8_MAX

struct rule {
	uint16_t key;
	uint16_t fixed; /* bytes of the structure in front */
	uint8_t strings;
	bool many;
	/* 0, -EINVAL or -ENOMEM */
	int (*take)(void *target, const void *fixed, const char *const *text);
};

/*
 * ARRAY of N elements with one more at its end, zeroed; NULL without memory,
 * and ARRAY is as it was. Grows at powers of two.
 */
static void *grow(void *array, size_t n, size_t size)
{
	if ((n & (n - 1)) == 0)
		array = reallocarray(array, n ? 2 * n : 1, size);
	if (array)
		memset((char *)array + n * size, 0, size);
	return array;
}

static int strings_add(struct init_strings *s, const char *text)
{
	/* The NULL at the end is an element, too. */
	const char **list = grow(s->list, s->n + 1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	list[s->n++] = text;
	s->list = list;
	return 0;
}

static uint32_t get_flags(const void *fixed)
{
	struct agent_flags flags;

	memcpy(&flags, fixed, sizeof(flags));
	return le32toh(flags.flags);
}

/* ---- CONFIGURE */

static int take_config_flags(void *target, const void *fixed,
			     const char *const *text)
{
	struct init_config *c = target;

	(void)text;
	c->flags = get_flags(fixed);
	return c->flags & ~(uint32_t)AGENT_CONFIG_FLAGS ? -EINVAL : 0;
}

static int take_hostname(void *target, const void *fixed,
			 const char *const *text)
{
	struct init_config *c = target;
	const size_t n = strlen(text[0]);

	(void)fixed;
	c->hostname = text[0];
	/* It becomes a line of /etc/hosts. */
	return n == 0 || n > 64 || strpbrk(text[0], " \t\r\n#/") ? -EINVAL : 0;
}

static int take_root(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	c->root_flags = get_flags(fixed);
	c->root_tag = text[0];
	return c->root_flags & ~(uint32_t)AGENT_ROOT_FLAGS || !text[0][0]
		       ? -EINVAL
		       : 0;
}

static int take_mount(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_mount_item item;
	struct init_mount *m = grow(c->mounts, c->nmounts, sizeof(*m));

	if (!m)
		return -ENOMEM;
	c->mounts = m;
	m += c->nmounts++;
	memcpy(&item, fixed, sizeof(item));
	m->kind = le32toh(item.kind);
	m->type = text[0];
	m->subpath = text[1];
	m->target = text[2];
	m->options = text[3];
	if (m->target[0] != '/' || !m->type[0])
		return -EINVAL;
	return m->kind == AGENT_MOUNT_SHARE ||
			       (m->kind == AGENT_MOUNT_FILESYSTEM &&
				!m->subpath[0])
		       ? 0
		       : -EINVAL;
}

static int add_path(struct init_strings *s, const char *text)
{
	return text[0] == '/' ? strings_add(s, text) : -EINVAL;
}

static int take_masked(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	return add_path(&c->masked, text[0]);
}

static int take_readonly(void *target, const void *fixed,
			 const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	return add_path(&c->readonly, text[0]);
}

static int take_device(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct init_device *d = grow(c->devices, c->ndevices, sizeof(*d));
	uint32_t type;

	if (!d)
		return -ENOMEM;
	c->devices = d;
	d += c->ndevices++;
	memcpy(&d->wire, fixed, sizeof(d->wire));
	d->path = text[0];
	type = le32toh(d->wire.type);
	return (type == 'c' || type == 'b') && text[0][0] == '/' &&
			       strrchr(text[0], '/')[1] &&
			       le32toh(d->wire.mode) <= 07777
		       ? 0
		       : -EINVAL;
}

/* The numbers are compared as the kernel's 32 bits with signed ones. */
static bool is_device_number(uint32_t n)
{
	return n == UINT32_MAX || n <= INT32_MAX;
}

static int take_rule(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_device_rule *r = grow(c->rules, c->nrules, sizeof(*r));
	uint32_t type;

	(void)text;
	if (!r)
		return -ENOMEM;
	c->rules = r;
	r += c->nrules++;
	memcpy(r, fixed, sizeof(*r));
	type = le32toh(r->type);
	return c->nrules <= AGENT_RULES_MAX && le32toh(r->allow) <= 1 &&
			       (type == 'a' || type == 'c' || type == 'b') &&
			       is_device_number(le32toh(r->major)) &&
			       is_device_number(le32toh(r->minor)) &&
			       le32toh(r->access) <= AGENT_ACCESS_ALL
		       ? 0
		       : -EINVAL;
}

static int take_link(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_link_item item;
	struct init_link *l = grow(c->links, c->nlinks, sizeof(*l));
	const size_t n = strlen(text[0]);

	if (!l)
		return -ENOMEM;
	c->links = l;
	l += c->nlinks++;
	memcpy(&item, fixed, sizeof(item));
	l->mtu = le32toh(item.mtu);
	l->name = text[0];
	return n == 0 || n > 15 || l->mtu > 65535 ? -EINVAL : 0;
}

/* Bytes of an address; 0: it is of no family. */
static size_t family_bytes(uint8_t family)
{
	return family == 4 ? 4 : family == 6 ? 16 : 0;
}

/* One of FAMILY; zeros follow one of IPv4. */
static bool is_address(uint8_t family, const uint8_t address[16])
{
	static const uint8_t zero[16];
	const size_t bytes = family_bytes(family);

	return bytes > 0 && memcmp(address + bytes, zero, 16 - bytes) == 0;
}

static int add_address(struct init_config *c, const void *fixed, bool gateway)
{
	struct init_address *a = grow(c->addresses, c->naddresses, sizeof(*a));
	const struct agent_address *w;

	if (!a)
		return -ENOMEM;
	c->addresses = a;
	a += c->naddresses++;
	memcpy(&a->wire, fixed, sizeof(a->wire));
	a->gateway = gateway;
	if (c->nlinks == 0)
		return -EINVAL;
	a->link = (unsigned)c->nlinks - 1;
	w = &a->wire;
	c->has_gone |= w->flags & AGENT_GONE;
	if (!is_address(w->family, w->address) || w->flags & ~AGENT_GONE ||
	    w->reserved)
		return -EINVAL;
	return w->prefix > 8 * family_bytes(w->family) ||
			       (gateway && w->prefix != 0)
		       ? -EINVAL
		       : 0;
}

static int take_address(void *target, const void *fixed,
			const char *const *text)
{
	(void)text;
	return add_address(target, fixed, false);
}

static int take_gateway(void *target, const void *fixed,
			const char *const *text)
{
	(void)text;
	return add_address(target, fixed, true);
}

/* The link that has a MAC and what is to follow belongs to; or NULL. */
static struct init_link *last_exact(struct init_config *c)
{
	struct init_link *l = c->nlinks ? &c->links[c->nlinks - 1] : NULL;

	return l && l->has_mac ? l : NULL;
}

/* Before the link's addresses, which it says more about. */
static int take_mac(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct init_link *l = c->nlinks ? &c->links[c->nlinks - 1] : NULL;
	struct agent_mac wire;

	(void)text;
	memcpy(&wire, fixed, sizeof(wire));
	if (!l || l->has_mac || wire.flags & ~AGENT_GONE || wire.reserved)
		return -EINVAL;
	l->gone = wire.flags & AGENT_GONE;
	c->has_gone |= l->gone;
	if (c->naddresses &&
	    c->addresses[c->naddresses - 1].link == (unsigned)c->nlinks - 1)
		return -EINVAL;
	for (size_t i = 0; i + 1 < c->nlinks; i++) {
		if (c->links[i].has_mac &&
		    memcmp(c->links[i].mac, wire.mac, sizeof(wire.mac)) == 0)
			return -EINVAL;
	}
	memcpy(l->mac, wire.mac, sizeof(l->mac));
	l->has_mac = true;
	return 0;
}

/* An address that is there as a flag says, or else all zero. */
static bool is_optional(uint8_t family, const uint8_t address[16], bool there)
{
	static const uint8_t zero[16];

	return there ? is_address(family, address)
		     : memcmp(address, zero, sizeof(zero)) == 0;
}

static int take_route(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct init_route *route = grow(c->routes, c->nroutes, sizeof(*route));
	const struct agent_route *w;

	(void)text;
	if (!route)
		return -ENOMEM;
	c->routes = route;
	route += c->nroutes++;
	w = &route->wire;
	memcpy(&route->wire, fixed, sizeof(route->wire));
	if (!last_exact(c))
		return -EINVAL;
	route->link = (unsigned)c->nlinks - 1;
	c->has_gone |= (w->flags & AGENT_ROUTE_GONE) != 0;
	return is_address(w->family, w->destination) &&
			       w->prefix <= 8 * family_bytes(w->family) &&
			       !(w->flags & ~AGENT_ROUTE_FLAGS) &&
			       is_optional(w->family, w->gateway,
					   w->flags & AGENT_ROUTE_GATEWAY) &&
			       is_optional(w->family, w->source,
					   w->flags & AGENT_ROUTE_SOURCE)
		       ? 0
		       : -EINVAL;
}

static int take_neighbour(void *target, const void *fixed,
			  const char *const *text)
{
	struct init_config *c = target;
	struct init_neighbour *n =
		grow(c->neighbours, c->nneighbours, sizeof(*n));

	(void)text;
	if (!n)
		return -ENOMEM;
	c->neighbours = n;
	n += c->nneighbours++;
	memcpy(&n->wire, fixed, sizeof(n->wire));
	if (!last_exact(c))
		return -EINVAL;
	n->link = (unsigned)c->nlinks - 1;
	c->has_gone |= n->wire.flags & AGENT_GONE;
	return is_address(n->wire.family, n->wire.address) &&
			       !(n->wire.flags & ~AGENT_GONE)
		       ? 0
		       : -EINVAL;
}

/* A line of a file cannot hold the next one. */
static int add_line(struct init_strings *s, const char *text)
{
	return strpbrk(text, "\r\n") ? -EINVAL : strings_add(s, text);
}

static int take_dns(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	return add_line(&c->dns, text[0]);
}

static int take_search(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	return add_line(&c->search, text[0]);
}

static int take_host(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	return add_line(&c->hosts, text[0]);
}

static int take_sysctl(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	const char *equal = strchr(text[0], '=');

	(void)fixed;
	/* It becomes a path below /proc/sys. */
	if (!equal || equal == text[0] || text[0][0] == '/' ||
	    strstr(text[0], ".."))
		return -EINVAL;
	return strings_add(&c->sysctls, text[0]);
}

static int take_time(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)text;
	memcpy(&c->time, fixed, sizeof(c->time));
	c->has_time = true;
	return 0; /* the clock's own setting checks it */
}

static int take_entropy(void *target, const void *fixed,
			const char *const *text)
{
	struct init_config *c = target;

	(void)text;
	/* In the request's bytes, which are the configuration's own. */
	c->entropy = (struct agent_entropy *)(uintptr_t)fixed;
	return 0;
}

static int take_pids(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_number wire;

	(void)text;
	memcpy(&wire, fixed, sizeof(wire));
	c->pids_max = le64toh(wire.number);
	return 0; /* the kernel checks it */
}

static int take_cpu(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_cpu wire;

	(void)text;
	memcpy(&wire, fixed, sizeof(wire));
	c->cpu_quota = le64toh(wire.quota);
	c->cpu_period = le64toh(wire.period);
	/* 0 would be none here; the kernel checks the rest. */
	return c->cpu_quota && c->cpu_period ? 0 : -EINVAL;
}

/* crun reads it; only where "process" goes is this side's. */
static int take_oci(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	c->oci = text[0];
	return text[0][0] == '{' && text[0][1] == '"' ? 0 : -EINVAL;
}

static int take_memory(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_number wire;

	(void)text;
	memcpy(&wire, fixed, sizeof(wire));
	c->memory_max = le64toh(wire.number);
	return 0; /* the kernel checks it */
}

static bool is_file_name(const char *text, size_t most)
{
	return text[0] && strlen(text) <= most && !strchr(text, '/') &&
	       strcmp(text, ".") != 0 && strcmp(text, "..") != 0;
}

static int take_tree(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	c->tree = text[0];
	return is_file_name(text[0], NAME_MAX) ? 0 : -EINVAL;
}

/* It names a directory of control groups. */
static int check_container(const char *text)
{
	return is_file_name(text, AGENT_CONTAINER_NAME) &&
			       !strpbrk(text, "\r\n")
		       ? 0
		       : -EINVAL;
}

static int take_config_container(void *target, const void *fixed,
				 const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	c->container = text[0];
	return check_container(text[0]);
}

/* They are lines of a file. */
static int take_clone(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;
	struct agent_clone wire;

	memcpy(&wire, fixed, sizeof(wire));
	if (check_container(text[0]) < 0 || check_container(text[1]) < 0 ||
	    wire.number == 0 || le32toh(wire.signal) > 64)
		return -EINVAL;
	c->clone.name = text[0];
	c->clone.source = text[1];
	c->clone.number = le32toh(wire.number);
	c->clone.signal = (int)le32toh(wire.signal);
	return 0;
}

static int take_warm(void *target, const void *fixed, const char *const *text)
{
	struct init_config *c = target;

	(void)fixed;
	return strings_add(&c->warm, text[0]);
}

/* A configuration may have these, a change of a machine that runs no others. */
#define NETWORK_RULES                                                          \
	{AGENT_ITEM_LINK, sizeof(struct agent_link_item), 1, true, take_link}, \
		{AGENT_ITEM_ADDRESS, sizeof(struct agent_address), 0, true,    \
		 take_address},                                                \
		{AGENT_ITEM_MAC, sizeof(struct agent_mac), 0, true, take_mac}, \
		{AGENT_ITEM_ROUTE, sizeof(struct agent_route), 0, true,        \
		 take_route},                                                  \
	{                                                                      \
		AGENT_ITEM_NEIGHBOUR, sizeof(struct agent_neighbour), 0, true, \
			take_neighbour                                         \
	}

/* A machine may have these at first, and others where it goes on. */
#define MACHINE_RULES                                                          \
	{AGENT_ITEM_HOSTNAME, 0, 1, false, take_hostname},                     \
		{AGENT_ITEM_TIME, sizeof(struct agent_time), 0, false,         \
		 take_time},                                                   \
	{                                                                      \
		AGENT_ITEM_ENTROPY, sizeof(struct agent_entropy), 0, false,    \
			take_entropy                                           \
	}

/* A container may have these at first, and others later. */
#define LIMIT_RULES                                                            \
	{AGENT_ITEM_CONTAINER, 0, 1, false, take_config_container},            \
		{AGENT_ITEM_MEMORY, sizeof(struct agent_number), 0, false,     \
		 take_memory},                                                 \
		{AGENT_ITEM_PIDS, sizeof(struct agent_number), 0, false,       \
		 take_pids},                                                   \
	{                                                                      \
		AGENT_ITEM_CPU, sizeof(struct agent_cpu), 0, false, take_cpu   \
	}

static const struct rule network_rules[] = {NETWORK_RULES, {0}};
static const struct rule limit_rules[] = {LIMIT_RULES, {0}};
static const struct rule attach_rules[] = {
	MACHINE_RULES,
	{AGENT_ITEM_CLONE, sizeof(struct agent_clone), 2, false, take_clone},
	{0},
};

/* These make a container, wherever and whenever it runs. */
#define CONTAINER_RULES                                                        \
	{AGENT_ITEM_FLAGS, sizeof(struct agent_flags), 0, false,               \
	 take_config_flags},                                                   \
		{AGENT_ITEM_ROOT, sizeof(struct agent_flags), 1, false,        \
		 take_root},                                                   \
		{AGENT_ITEM_MOUNT, sizeof(struct agent_mount_item), 4, true,   \
		 take_mount},                                                  \
		{AGENT_ITEM_DNS, 0, 1, true, take_dns},                        \
		{AGENT_ITEM_SEARCH, 0, 1, true, take_search},                  \
		{AGENT_ITEM_HOST, 0, 1, true, take_host},                      \
		{AGENT_ITEM_SYSCTL, 0, 1, true, take_sysctl},                  \
		{AGENT_ITEM_MASKED, 0, 1, true, take_masked},                  \
		{AGENT_ITEM_READONLY, 0, 1, true, take_readonly},              \
		{AGENT_ITEM_DEVICE, sizeof(struct agent_device), 1, true,      \
		 take_device},                                                 \
	{                                                                      \
		AGENT_ITEM_RULE, sizeof(struct agent_device_rule), 0, true,    \
			take_rule                                              \
	}

static const struct rule config_rules[] = {
	NETWORK_RULES,
	LIMIT_RULES,
	MACHINE_RULES,
	CONTAINER_RULES,
	{AGENT_ITEM_TREE, 0, 1, false, take_tree},
	{AGENT_ITEM_GATEWAY, sizeof(struct agent_address), 0, true,
	 take_gateway},
	{AGENT_ITEM_OCI, 0, 1, false, take_oci},
	{0},
};

static const struct rule prepare_rules[] = {
	CONTAINER_RULES,
	{AGENT_ITEM_HOSTNAME, 0, 1, false, take_hostname},
	{AGENT_ITEM_PIDS, sizeof(struct agent_number), 0, false, take_pids},
	{AGENT_ITEM_CPU, sizeof(struct agent_cpu), 0, false, take_cpu},
	{AGENT_ITEM_WARM, 0, 1, true, take_warm},
	{0},
};

/* ---- START */

static int take_start_flags(void *target, const void *fixed,
			    const char *const *text)
{
	struct init_start *s = target;

	(void)text;
	s->flags = get_flags(fixed);
	return s->flags & ~(uint32_t)AGENT_START_FLAGS ? -EINVAL : 0;
}

static int take_arg(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)fixed;
	return strings_add(&s->args, text[0]);
}

static int take_env(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)fixed;
	return strings_add(&s->env, text[0]);
}

static int take_group(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)fixed;
	return strings_add(&s->groups, text[0]);
}

static int take_cwd(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)fixed;
	s->cwd = text[0];
	return text[0][0] == '/' ? 0 : -EINVAL;
}

static int take_user(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)fixed;
	s->user = text[0];
	return 0;
}

static int take_caps(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;
	struct agent_caps caps;

	(void)text;
	memcpy(&caps, fixed, sizeof(caps));
	s->caps = (struct init_caps){
		.bounding = le64toh(caps.mask),
		.effective = le64toh(caps.mask),
		.permitted = le64toh(caps.mask),
	};
	s->root_caps = true;
	return 0;
}

static int take_cap_sets(void *target, const void *fixed,
			 const char *const *text)
{
	struct init_start *s = target;
	struct agent_cap_sets caps;

	(void)text;
	memcpy(&caps, fixed, sizeof(caps));
	s->root_caps = false;
	s->caps = (struct init_caps){
		.bounding = le64toh(caps.bounding),
		.effective = le64toh(caps.effective),
		.permitted = le64toh(caps.permitted),
		.inheritable = le64toh(caps.inheritable),
		.ambient = le64toh(caps.ambient),
	};
	return 0; /* the kernel checks them */
}

static int take_rlimit(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;
	struct agent_rlimit wire;
	struct init_rlimit *l = grow(s->rlimits, s->nrlimits, sizeof(*l));

	(void)text;
	if (!l)
		return -ENOMEM;
	s->rlimits = l;
	l += s->nrlimits++;
	memcpy(&wire, fixed, sizeof(wire));
	if (le32toh(wire.resource) >= RLIM_NLIMITS || wire.reserved != 0)
		return -EINVAL;
	l->resource = (int)le32toh(wire.resource);
	l->limit.rlim_cur = le64toh(wire.soft);
	l->limit.rlim_max = le64toh(wire.hard);
	return 0;
}

static int take_filter(void *target, const void *fixed, const char *const *text)
{
	const struct agent_item_view *item = fixed;
	const size_t head = sizeof(struct agent_flags);
	struct init_start *s = target;
	struct agent_filter_code wire;
	size_t n;

	(void)text;
	if (item->bytes <= head || (item->bytes - head) % sizeof(wire) != 0)
		return -EINVAL;
	n = (item->bytes - head) / sizeof(wire);
	s->filter_flags = get_flags(item->data);
	if (n > AGENT_FILTER_MAX ||
	    s->filter_flags & ~(uint32_t)AGENT_FILTER_FLAGS)
		return -EINVAL;
	s->filter = calloc(n, sizeof(*s->filter));
	if (!s->filter)
		return -ENOMEM;
	s->nfilter = (unsigned short)n;
	for (size_t i = 0; i < n; i++) {
		memcpy(&wire, item->data + head + i * sizeof(wire),
		       sizeof(wire));
		s->filter[i] = (struct sock_filter){
			.code = le16toh(wire.code),
			.jt = wire.jt,
			.jf = wire.jf,
			.k = le32toh(wire.k),
		};
	}
	return 0; /* the kernel checks the program */
}

static int take_size(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)text;
	memcpy(&s->size, fixed, sizeof(s->size));
	return 0;
}

static int take_umask(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;

	(void)text;
	s->umask = get_flags(fixed);
	return s->umask & ~(uint32_t)0777 ? -EINVAL : 0;
}

static int take_oom(void *target, const void *fixed, const char *const *text)
{
	struct init_start *s = target;
	struct agent_oom wire;

	(void)text;
	memcpy(&wire, fixed, sizeof(wire));
	s->oom_score_adj = (int)le32toh(wire.score_adj);
	return s->oom_score_adj < -1000 || s->oom_score_adj > 1000 ? -EINVAL
								   : 0;
}

static int take_start_container(void *target, const void *fixed,
				const char *const *text)
{
	struct init_start *s = target;

	(void)fixed;
	s->container = text[0];
	return check_container(text[0]);
}

static const struct rule start_rules[] = {
	{AGENT_ITEM_CONTAINER, 0, 1, false, take_start_container},
	{AGENT_ITEM_FLAGS, sizeof(struct agent_flags), 0, false,
	 take_start_flags},
	{AGENT_ITEM_ARG, 0, 1, true, take_arg},
	{AGENT_ITEM_ENV, 0, 1, true, take_env},
	{AGENT_ITEM_CWD, 0, 1, false, take_cwd},
	{AGENT_ITEM_USER, 0, 1, false, take_user},
	{AGENT_ITEM_GROUP, 0, 1, true, take_group},
	{AGENT_ITEM_CAPS, sizeof(struct agent_caps), 0, false, take_caps},
	{AGENT_ITEM_CAP_SETS, sizeof(struct agent_cap_sets), 0, false,
	 take_cap_sets},
	{AGENT_ITEM_RLIMIT, sizeof(struct agent_rlimit), 0, true, take_rlimit},
	{AGENT_ITEM_SIZE, sizeof(struct agent_size), 0, false, take_size},
	{AGENT_ITEM_FILTER, 0, WHOLE_ITEM, false, take_filter},
	{AGENT_ITEM_UMASK, sizeof(struct agent_flags), 0, false, take_umask},
	{AGENT_ITEM_OOM, sizeof(struct agent_oom), 0, false, take_oom},
	{0},
};

/* ---- what has no other items */

static int take_target(void *target, const void *fixed, const char *const *text)
{
	(void)fixed;
	*(const char **)target = text[0];
	return check_container(text[0]);
}

static const struct rule target_rules[] = {
	{AGENT_ITEM_CONTAINER, 0, 1, false, take_target},
	{0},
};

/* ---- all */

static const struct rule *rule_find(const struct rule *rules, uint16_t key)
{
	for (; rules->take; rules++) {
		if (rules->key == key)
			return rules;
	}
	return NULL;
}

static int parse(const struct rule *rules, void *target, const uint8_t *pos,
		 size_t left, struct init_failure *f)
{
	struct agent_item_view item;
	uint64_t seen = 0;
	int r;

	while ((r = agent_item_next(&pos, &left, &item)) > 0) {
		const struct rule *rule = rule_find(rules, item.key);
		const bool whole = rule && rule->strings == WHOLE_ITEM;
		const char *text[STRINGS_MAX];

		if (!rule)
			return init_fail(f, INIT_STATUS_SETUP, ENOTSUP,
					 "item %u of the request", item.key);
		if ((seen & UINT64_C(1) << rule->key && !rule->many) ||
		    (!whole && agent_item_strings(&item, rule->fixed,
						  rule->strings, text)))
			return init_fail(f, INIT_STATUS_SETUP, EBADMSG,
					 "item %u of the request", item.key);
		seen |= UINT64_C(1) << rule->key;
		r = rule->take(target, whole ? (const void *)&item : item.data,
			       text);
		if (r < 0)
			return init_fail(f, INIT_STATUS_SETUP, -r,
					 "item %u of the request", item.key);
	}
	if (r < 0)
		return init_fail(f, INIT_STATUS_SETUP, EBADMSG, "request");
	return 0;
}

/* A network, a clock, a kernel and its keys: the machine has one of each. */
static int check_scope(const struct init_config *c, struct init_failure *f)
{
	const bool machine = c->nlinks || c->has_time || c->entropy || c->oci;
	const bool other =
		c->tree || c->memory_max || c->flags & AGENT_CONFIG_SHARED;

	if (c->has_gone)
		return init_fail(f, INIT_STATUS_SETUP, EINVAL,
				 "configure what is gone");
	if (c->container ? machine || !c->tree || !c->root_tag : other)
		return init_fail(f, INIT_STATUS_SETUP, EINVAL,
				 c->container ? "configure a container"
					      : "configure the machine");
	return 0;
}

/* 0, or -1 with the failure filled in, and BYTES are freed. */
static int parse_config(const struct rule *rules, uint8_t *bytes, size_t n,
			struct init_config *ret, struct init_failure *f)
{
	struct init_config c = {.bytes = bytes, .nbytes = n};

	if (parse(rules, &c, bytes, n, f)) {
		init_config_done(&c);
		return -1;
	}
	*ret = c;
	return 0;
}

int init_config_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		      struct init_failure *f)
{
	if (parse_config(config_rules, bytes, n, ret, f))
		return -1;
	if (check_scope(ret, f) == 0)
		return 0;
	init_config_done(ret);
	return -1;
}

int init_prepare_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		       struct init_failure *f)
{
	return parse_config(prepare_rules, bytes, n, ret, f);
}

int init_network_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		       struct init_failure *f)
{
	struct init_config c = {0};

	if (parse(network_rules, &c, bytes, n, f)) {
		init_config_done(&c);
		return -1;
	}
	for (size_t i = 0; i < c.nlinks; i++) {
		if (c.links[i].has_mac)
			continue;
		init_config_done(&c);
		return init_fail(f, INIT_STATUS_SETUP, EINVAL,
				 "a link without its address");
	}
	*ret = c;
	ret->bytes = bytes;
	return 0;
}

int init_limits_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		      struct init_failure *f)
{
	if (parse_config(limit_rules, bytes, n, ret, f))
		return -1;
	if (ret->container)
		return 0;
	init_config_done(ret);
	return init_fail(f, INIT_STATUS_SETUP, EINVAL,
			 "limits of the machine's own container");
}

int init_attach_parse(uint8_t *bytes, size_t n, struct init_config *ret,
		      struct init_failure *f)
{
	return parse_config(attach_rules, bytes, n, ret, f);
}

int init_start_parse(uint8_t *bytes, size_t n, struct init_start *ret,
		     struct init_failure *f)
{
	struct init_start s = {
		.bytes = bytes,
		.nbytes = n,
		.caps = {.bounding = AGENT_CAPS_DEFAULT,
			 .effective = AGENT_CAPS_DEFAULT,
			 .permitted = AGENT_CAPS_DEFAULT},
		.root_caps = true,
		.umask = 022,
	};
	int r = parse(start_rules, &s, bytes, n, f);

	if (r == 0 && s.args.n == 0)
		r = init_fail(f, INIT_STATUS_SETUP, 0, "no command given");
	if (r) {
		init_start_done(&s);
		return -1;
	}
	*ret = s;
	return 0;
}

int init_target_parse(const uint8_t *bytes, size_t n, const char **ret,
		      struct init_failure *f)
{
	*ret = NULL;
	return parse(target_rules, ret, bytes, n, f);
}
