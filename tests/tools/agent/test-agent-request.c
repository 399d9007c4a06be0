/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How bulkhead-init reads requests: items, and users of a passwd file. Requests
 * that lie are refused, whatever their length says.
 */
#include "firmware/agent/agent-wire.h"
#include "firmware/init/oci.h"
#include "firmware/init/request.h"
#include "firmware/init/users.h"
#include "tests/tempdir.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <jansson.h>
#include <linux/filter.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static struct init_failure failure;

/* ---- items */

static void text(struct agent_items *items, enum agent_key key,
		 const char *value)
{
	agent_items_add(items, key, NULL, 0, &value, 1);
}

static void flags(struct agent_items *items, enum agent_key key, uint32_t value,
		  const char *more)
{
	const struct agent_flags wire = {htole32(value)};

	agent_items_add(items, key, &wire, sizeof(wire), &more, more ? 1 : 0);
}

static int parse_config(struct agent_items *items, struct init_config *ret)
{
	assert_int_equal(items->error, 0);
	return init_config_parse(items->data, items->bytes, ret, &failure);
}

static int parse_start(struct agent_items *items, struct init_start *ret)
{
	assert_int_equal(items->error, 0);
	return init_start_parse(items->data, items->bytes, ret, &failure);
}

static void add_address(struct agent_items *items, enum agent_key key,
			uint8_t family, uint8_t prefix, uint8_t last)
{
	struct agent_address wire = {.family = family, .prefix = prefix};

	wire.address[15] = last;
	agent_items_add(items, key, &wire, sizeof(wire), NULL, 0);
}

static void test_config(void **state)
{
	const struct agent_mount_item mount = {htole32(AGENT_MOUNT_SHARE)};
	const char *const share[] = {"vol0", "a/b", "/data", "ro,nosuid"};
	const struct agent_device node = {.type = htole32('c'),
					  .minor = htole32(3),
					  .mode = htole32(0666)};
	const struct agent_device_rule rule = {.type = htole32('a'),
					       .major = htole32(UINT32_MAX),
					       .minor = htole32(UINT32_MAX)};
	const struct agent_cpu cpu = {htole64(150000), htole64(100000)};
	const struct agent_entropy entropy = {{1, [63] = 64}};
	const char *const path = "/dev/null";
	const struct agent_link_item link = {htole32(1500)};
	const char *const eth0 = "eth0";
	struct agent_items items = {0};
	struct init_config c;

	(void)state;
	flags(&items, AGENT_ITEM_FLAGS, AGENT_CONFIG_HOST_BOUND, NULL);
	text(&items, AGENT_ITEM_HOSTNAME, "box");
	flags(&items, AGENT_ITEM_ROOT, AGENT_ROOT_OVERLAY, "rootfs");
	for (int i = 0; i < 5; i++)
		agent_items_add(&items, AGENT_ITEM_MOUNT, &mount, sizeof(mount),
				share, 4);
	agent_items_add(&items, AGENT_ITEM_LINK, &link, sizeof(link), &eth0, 1);
	add_address(&items, AGENT_ITEM_ADDRESS, 6, 64, 1);
	add_address(&items, AGENT_ITEM_GATEWAY, 6, 0, 2);
	text(&items, AGENT_ITEM_DNS, "10.0.2.3");
	text(&items, AGENT_ITEM_SYSCTL, "net.ipv4.ip_forward=1");
	text(&items, AGENT_ITEM_MASKED, "/proc/kcore");
	text(&items, AGENT_ITEM_READONLY, "/proc/sys");
	text(&items, AGENT_ITEM_READONLY, "/proc/bus");
	agent_items_add(&items, AGENT_ITEM_DEVICE, &node, sizeof(node), &path,
			1);
	agent_items_add(&items, AGENT_ITEM_RULE, &rule, sizeof(rule), NULL, 0);
	agent_items_add(&items, AGENT_ITEM_CPU, &cpu, sizeof(cpu), NULL, 0);
	agent_items_add(&items, AGENT_ITEM_ENTROPY, &entropy, sizeof(entropy),
			NULL, 0);
	assert_int_equal(parse_config(&items, &c), 0);
	assert_int_equal(c.cpu_quota, 150000);
	assert_int_equal(c.cpu_period, 100000);
	assert_memory_equal(c.entropy, &entropy, sizeof(entropy));
	assert_int_equal(c.flags, AGENT_CONFIG_HOST_BOUND);
	assert_string_equal(c.hostname, "box");
	assert_string_equal(c.root_tag, "rootfs");
	assert_int_equal(c.nmounts, 5);
	assert_string_equal(c.mounts[4].target, "/data");
	assert_string_equal(c.mounts[4].subpath, "a/b");
	assert_string_equal(c.mounts[4].type, "vol0");
	assert_string_equal(c.mounts[4].options, "ro,nosuid");
	assert_string_equal(c.masked.list[0], "/proc/kcore");
	assert_int_equal(c.readonly.n, 2);
	assert_string_equal(c.devices[0].path, "/dev/null");
	assert_int_equal(c.ndevices, 1);
	assert_int_equal(c.nrules, 1);
	assert_int_equal(c.links[0].mtu, 1500);
	assert_int_equal(c.naddresses, 2);
	assert_true(c.addresses[1].gateway);
	assert_int_equal(c.dns.n, 1);
	assert_null(c.dns.list[1]);
	init_config_done(&c);
}

static void add_number(struct agent_items *items, enum agent_key key,
		       uint32_t number)
{
	const struct agent_flags wire = {htole32(number)};

	agent_items_add(items, key, &wire, sizeof(wire), NULL, 0);
}

/* The kernel's bits and limits, no others. */
static void test_umask_and_oom(void **state)
{
	static const struct {
		uint32_t umask;
		int32_t oom;
		int result;
	} cases[] = {
		{0, 0, 0},           {0777, 1000, 0},    {027, -1000, 0},
		{01000, 0, -1},      {0, 1001, -1},      {0, -1001, -1},
		{UINT32_MAX, 0, -1}, {0, INT32_MIN, -1},
	};

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		struct agent_items items = {0};
		struct init_start s;

		text(&items, AGENT_ITEM_ARG, "x");
		add_number(&items, AGENT_ITEM_UMASK, cases[i].umask);
		add_number(&items, AGENT_ITEM_OOM, (uint32_t)cases[i].oom);
		assert_int_equal(parse_start(&items, &s), cases[i].result);
		if (cases[i].result < 0)
			continue;
		assert_int_equal(s.umask, cases[i].umask);
		assert_int_equal(s.oom_score_adj, cases[i].oom);
		init_start_done(&s);
	}
}

/* A program of system calls: whole instructions, at least one. */
static void test_filter(void **state)
{
	static struct agent_filter wire;
	static const struct {
		size_t bytes;
		uint32_t flags;
		int result;
	} cases[] = {
		{0, 0, -1},
		{4, 0, -1},
		{12, 0, 0},
		{19, 0, -1},
		{20, AGENT_FILTER_FLAGS, 0},
		{20, AGENT_FILTER_FLAGS + 1, -1},
		{sizeof(wire), 0, 0},
	};
	const char *const more[] = {"", "", "", "", "", "", "", ""};
	struct agent_items items = {0};
	struct init_start s;

	(void)state;
	wire.code[1] = (struct agent_filter_code){htole16(6), 2, 3, htole32(9)};
	for (unsigned i = 0; i < ARRAY_LEN(cases); i++) {
		items = (struct agent_items){0};
		wire.flags = htole32(cases[i].flags);
		text(&items, AGENT_ITEM_ARG, "x");
		agent_items_add(&items, AGENT_ITEM_FILTER, &wire,
				cases[i].bytes, NULL, 0);
		assert_int_equal(parse_start(&items, &s), cases[i].result);
		if (cases[i].result < 0)
			continue;
		assert_int_equal(s.nfilter, (cases[i].bytes - 4) / 8);
		assert_int_equal(s.filter_flags, cases[i].flags);
		if (s.nfilter > 1) {
			assert_int_equal(s.filter[1].code, 6);
			assert_int_equal(s.filter[1].jf, 3);
			assert_int_equal(s.filter[1].k, 9);
		}
		init_start_done(&s);
	}
	/* One more than Linux takes. */
	items = (struct agent_items){0};
	text(&items, AGENT_ITEM_ARG, "x");
	agent_items_add(&items, AGENT_ITEM_FILTER, &wire, sizeof(wire), more,
			ARRAY_LEN(more));
	assert_int_equal(parse_start(&items, &s), -1);
}

static void test_start(void **state)
{
	const struct agent_rlimit limit = {.resource = htole32(RLIMIT_NOFILE),
					   .soft = htole64(10),
					   .hard = htole64(UINT64_MAX)};
	struct agent_items items = {0};
	struct init_start s;
	char number[16];

	(void)state;
	for (int i = 0; i < 1000; i++) {
		snprintf(number, sizeof(number), "%d", i);
		text(&items, AGENT_ITEM_ARG, number);
	}
	text(&items, AGENT_ITEM_ENV, "");
	agent_items_add(&items, AGENT_ITEM_RLIMIT, &limit, sizeof(limit), NULL,
			0);
	assert_int_equal(parse_start(&items, &s), 0);
	assert_int_equal(s.args.n, 1000);
	assert_string_equal(s.args.list[999], "999");
	assert_null(s.args.list[1000]);
	assert_int_equal(s.caps.bounding, AGENT_CAPS_DEFAULT);
	assert_int_equal(s.caps.permitted, AGENT_CAPS_DEFAULT);
	assert_int_equal(s.caps.ambient, 0);
	assert_int_equal(init_start_caps(&s, 0).permitted, AGENT_CAPS_DEFAULT);
	assert_int_equal(init_start_caps(&s, 5).permitted, 0);
	assert_int_equal(init_start_caps(&s, 5).bounding, AGENT_CAPS_DEFAULT);
	assert_int_equal(s.rlimits[0].limit.rlim_cur, 10);
	assert_int_equal(s.rlimits[0].limit.rlim_max, RLIM_INFINITY);
	init_start_done(&s);
}

/* The sets are for everybody, or with the flag for user 0 alone. */
static void test_caps(void **state)
{
	const struct agent_caps simple = {htole64(3)};
	const struct agent_cap_sets sets = {.bounding = htole64(7),
					    .permitted = htole64(1)};

	(void)state;
	for (int i = 0; i < 3; i++) {
		struct agent_items items = {0};
		struct init_start s;

		flags(&items, AGENT_ITEM_FLAGS,
		      i == 2 ? AGENT_START_ROOT_CAPS : 0, NULL);
		text(&items, AGENT_ITEM_ARG, "x");
		if (i == 0)
			agent_items_add(&items, AGENT_ITEM_CAPS, &simple,
					sizeof(simple), NULL, 0);
		else
			agent_items_add(&items, AGENT_ITEM_CAP_SETS, &sets,
					sizeof(sets), NULL, 0);
		assert_int_equal(parse_start(&items, &s), 0);
		assert_int_equal(init_start_caps(&s, 5).bounding, i ? 7 : 3);
		assert_int_equal(init_start_caps(&s, 5).permitted, i == 1);
		assert_int_equal(init_start_caps(&s, 0).permitted, i ? 1 : 3);
		init_start_done(&s);
	}
}

/* ---- a link that has exactly what is given */

static void add_mac(struct agent_items *items, const char *name, uint8_t last)
{
	const struct agent_link_item link = {0};
	const struct agent_mac mac = {.mac = {2, 0, 0, 0, 0, last}};

	agent_items_add(items, AGENT_ITEM_LINK, &link, sizeof(link), &name, 1);
	agent_items_add(items, AGENT_ITEM_MAC, &mac, sizeof(mac), NULL, 0);
}

static void add_route(struct agent_items *items, struct agent_route route)
{
	agent_items_add(items, AGENT_ITEM_ROUTE, &route, sizeof(route), NULL,
			0);
}

static void add_neighbour(struct agent_items *items,
			  struct agent_neighbour neighbour)
{
	agent_items_add(items, AGENT_ITEM_NEIGHBOUR, &neighbour,
			sizeof(neighbour), NULL, 0);
}

static void test_exact(void **state)
{
	struct agent_items items = {0};
	struct init_config c;

	(void)state;
	add_mac(&items, "eth0", 1);
	add_address(&items, AGENT_ITEM_ADDRESS, 6, 64, 1);
	add_route(&items, (struct agent_route){.family = 6,
					       .flags = AGENT_ROUTE_GATEWAY,
					       .gateway = {0xfe, 0x80},
					       .metric = htole32(5)});
	add_mac(&items, "eth1", 2);
	add_route(&items, (struct agent_route){.family = 4,
					       .prefix = 32,
					       .destination = {10, 0, 0, 1}});
	add_neighbour(&items,
		      (struct agent_neighbour){.family = 4,
					       .mac = {2},
					       .address = {10, 0, 0, 1}});
	assert_int_equal(parse_config(&items, &c), 0);
	assert_int_equal(c.nlinks, 2);
	assert_true(c.links[0].has_mac && c.links[1].has_mac);
	assert_int_equal(c.links[1].mac[5], 2);
	assert_int_equal(c.nroutes, 2);
	assert_int_equal(c.routes[0].link, 0);
	assert_int_equal(c.routes[1].link, 1);
	assert_int_equal(c.routes[1].wire.prefix, 32);
	assert_int_equal(c.nneighbours, 1);
	assert_int_equal(c.neighbours[0].link, 1);
	init_config_done(&c);
}

/* Each one alone must be refused. */
static void refuse_config(void (*add)(struct agent_items *items))
{
	struct agent_items items = {0};
	struct init_config c;

	add(&items);
	assert_int_equal(parse_config(&items, &c), -1);
	assert_int_equal(failure.status, 125);
	assert_true(failure.text[0]);
}

static void twice(struct agent_items *items)
{
	text(items, AGENT_ITEM_HOSTNAME, "a");
	text(items, AGENT_ITEM_HOSTNAME, "a");
}

static void mac_of_none(struct agent_items *items)
{
	const struct agent_mac mac = {0};

	agent_items_add(items, AGENT_ITEM_MAC, &mac, sizeof(mac), NULL, 0);
}

static void mac_twice(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	mac_of_none(items);
}

static void mac_of_another(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_mac(items, "eth1", 1);
}

static void mac_late(struct agent_items *items)
{
	const struct agent_link_item link = {0};
	const char *const name = "eth0";

	agent_items_add(items, AGENT_ITEM_LINK, &link, sizeof(link), &name, 1);
	add_address(items, AGENT_ITEM_ADDRESS, 6, 64, 1);
	mac_of_none(items);
}

static void route_of_none(struct agent_items *items)
{
	add_route(items, (struct agent_route){.family = 4});
}

static void route_family(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_route(items, (struct agent_route){.family = 5});
}

static void route_prefix(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_route(items, (struct agent_route){.family = 4, .prefix = 33});
}

static void route_flags(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_route(items, (struct agent_route){.family = 4, .flags = 8});
}

/* An address that no flag speaks of; and one of IPv4 that is too long. */
static void route_gateway(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_route(items, (struct agent_route){.family = 4, .gateway = {1}});
}

static void route_long(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_route(items, (struct agent_route){.family = 4,
					      .flags = AGENT_ROUTE_SOURCE,
					      .source = {1, 2, 3, 4, 5}});
}

static void neighbour_of_none(struct agent_items *items)
{
	add_neighbour(items, (struct agent_neighbour){.family = 4});
}

static void neighbour_family(struct agent_items *items)
{
	add_mac(items, "eth0", 1);
	add_neighbour(items, (struct agent_neighbour){.family = 0});
}

static void entropy_of_half(struct agent_items *items)
{
	const uint8_t half[sizeof(struct agent_entropy) / 2] = {0};

	agent_items_add(items, AGENT_ITEM_ENTROPY, half, sizeof(half), NULL, 0);
}

static void entropy_of_container(struct agent_items *items)
{
	const struct agent_entropy wire = {{0}};

	text(items, AGENT_ITEM_CONTAINER, "one");
	text(items, AGENT_ITEM_TREE, "one");
	flags(items, AGENT_ITEM_ROOT, 0, "rootfs");
	agent_items_add(items, AGENT_ITEM_ENTROPY, &wire, sizeof(wire), NULL,
			0);
}

static void unknown_key(struct agent_items *items)
{
	text(items, 63, "a");
}

static void key_of_start(struct agent_items *items)
{
	text(items, AGENT_ITEM_ARG, "a");
}

static void unknown_flag(struct agent_items *items)
{
	flags(items, AGENT_ITEM_FLAGS, 0x80, NULL);
}

static void hostname_of_lines(struct agent_items *items)
{
	text(items, AGENT_ITEM_HOSTNAME, "a\n10.0.0.1 evil");
}

static void dns_of_lines(struct agent_items *items)
{
	text(items, AGENT_ITEM_DNS, "10.0.0.1\noptions debug");
}

static void address_of_no_link(struct agent_items *items)
{
	add_address(items, AGENT_ITEM_ADDRESS, 6, 64, 1);
}

static void sysctl_outside(struct agent_items *items)
{
	text(items, AGENT_ITEM_SYSCTL, "../../etc/passwd=x");
}

static void relative_mount(struct agent_items *items)
{
	const struct agent_mount_item mount = {htole32(AGENT_MOUNT_FILESYSTEM)};
	const char *const strings[] = {"tmpfs", "", "data", ""};

	agent_items_add(items, AGENT_ITEM_MOUNT, &mount, sizeof(mount), strings,
			4);
}

static void mount_of_three(struct agent_items *items)
{
	const struct agent_mount_item mount = {htole32(AGENT_MOUNT_FILESYSTEM)};
	const char *const strings[] = {"tmpfs", "", "/data"};

	agent_items_add(items, AGENT_ITEM_MOUNT, &mount, sizeof(mount), strings,
			3);
}

static void mount_of_no_type(struct agent_items *items)
{
	const struct agent_mount_item mount = {htole32(AGENT_MOUNT_FILESYSTEM)};
	const char *const strings[] = {"", "", "/data", ""};

	agent_items_add(items, AGENT_ITEM_MOUNT, &mount, sizeof(mount), strings,
			4);
}

static void relative_mask(struct agent_items *items)
{
	text(items, AGENT_ITEM_MASKED, "proc");
}

static void add_device(struct agent_items *items, char type, uint32_t mode,
		       const char *path)
{
	const struct agent_device node = {.type = htole32((uint32_t)type),
					  .mode = htole32(mode)};

	agent_items_add(items, AGENT_ITEM_DEVICE, &node, sizeof(node), &path,
			1);
}

static void device_of_no_type(struct agent_items *items)
{
	add_device(items, 'x', 0666, "/dev/x");
}

static void device_of_no_name(struct agent_items *items)
{
	add_device(items, 'c', 0666, "/dev/");
}

static void device_of_odd_mode(struct agent_items *items)
{
	add_device(items, 'c', 0100666, "/dev/x");
}

static void rule_of_large_number(struct agent_items *items)
{
	const struct agent_device_rule rule = {.type = htole32('c'),
					       .major = htole32(1U << 31)};

	agent_items_add(items, AGENT_ITEM_RULE, &rule, sizeof(rule), NULL, 0);
}

/* The program that they become has an end. */
static void too_many_rules(struct agent_items *items)
{
	const struct agent_device_rule rule = {.type = htole32('a')};

	for (int i = 0; i <= AGENT_RULES_MAX; i++)
		agent_items_add(items, AGENT_ITEM_RULE, &rule, sizeof(rule),
				NULL, 0);
}

static void long_prefix(struct agent_items *items)
{
	const struct agent_link_item link = {0};
	const char *const eth0 = "eth0";

	agent_items_add(items, AGENT_ITEM_LINK, &link, sizeof(link), &eth0, 1);
	add_address(items, AGENT_ITEM_ADDRESS, 4, 33, 0);
}

static void test_refused_configs(void **state)
{
	(void)state;
	refuse_config(twice);
	refuse_config(mac_of_none);
	refuse_config(mac_twice);
	refuse_config(mac_of_another);
	refuse_config(mac_late);
	refuse_config(route_of_none);
	refuse_config(route_family);
	refuse_config(route_prefix);
	refuse_config(route_flags);
	refuse_config(route_gateway);
	refuse_config(route_long);
	refuse_config(neighbour_of_none);
	refuse_config(neighbour_family);
	refuse_config(entropy_of_half);
	refuse_config(entropy_of_container);
	refuse_config(unknown_key);
	refuse_config(key_of_start);
	refuse_config(unknown_flag);
	refuse_config(hostname_of_lines);
	refuse_config(dns_of_lines);
	refuse_config(address_of_no_link);
	refuse_config(sysctl_outside);
	refuse_config(relative_mount);
	refuse_config(mount_of_three);
	refuse_config(mount_of_no_type);
	refuse_config(relative_mask);
	refuse_config(device_of_no_type);
	refuse_config(device_of_no_name);
	refuse_config(device_of_odd_mode);
	refuse_config(rule_of_large_number);
	refuse_config(too_many_rules);
	refuse_config(long_prefix);
}

/* A request that was cut, wherever: the end is never passed (ASan looks). */
static void test_cut_requests(void **state)
{
	struct agent_items items = {0};

	(void)state;
	text(&items, AGENT_ITEM_ARG, "command");
	text(&items, AGENT_ITEM_ENV, "A=B");
	for (size_t n = 0; n < items.bytes; n++) {
		uint8_t *part = malloc(n ? n : 1);
		struct init_start s;
		int r;

		assert_non_null(part);
		memcpy(part, items.data, n);
		r = init_start_parse(part, n, &s, &failure);
		/* After the first item the rest may be missing. */
		if (r == 0) {
			assert_int_equal(n, sizeof(struct agent_item) + 8);
			init_start_done(&s);
		}
	}
	agent_items_done(&items);
}

static void test_no_end_of_string(void **state)
{
	struct agent_items items = {0};
	struct init_start s;

	(void)state;
	agent_items_add(&items, AGENT_ITEM_ARG, "abc", 3, NULL, 0);
	assert_int_equal(parse_start(&items, &s), -1);
	items = (struct agent_items){0};
	agent_items_add(&items, AGENT_ITEM_ARG, "a\0b", 4, NULL, 0);
	assert_int_equal(parse_start(&items, &s), -1);
}

static void test_too_much(void **state)
{
	struct agent_items items = {0};
	char *large = malloc(AGENT_REQUEST_MAX);

	(void)state;
	assert_non_null(large);
	memset(large, 'x', AGENT_REQUEST_MAX - 1);
	large[AGENT_REQUEST_MAX - 1] = 0;
	text(&items, AGENT_ITEM_ARG, large);
	assert_int_equal(items.error, -E2BIG);
	free(large);
	agent_items_done(&items);
}

/* ---- users */

#define PASSWD                                                                 \
	"root:x:0:0:root:/root:/bin/sh\n"                                      \
	"broken line\n"                                                        \
	"odd:x:abc:1:::\n"                                                     \
	"minus:x:-1:1:::\n"                                                    \
	"all:x:4294967295:1:::\n"                                              \
	"joe:x:1000:1001:Joe:/home/joe:/bin/sh\n"                              \
	"relative:x:7:7::home:\n"                                              \
	"last:x:8:8::/last:/bin/sh"
#define GROUP "root:x:0:\nwheel:x:10:root,joe\njoes:x:1001:joe\nno:x:11:joey\n"

struct files {
	char passwd[TEMPDIR_ROOM], group[TEMPDIR_ROOM];
};

static void write_file(const char *path, const char *content)
{
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	fputs(content, file);
	assert_int_equal(fclose(file), 0);
}

static int setup(void **state)
{
	struct files *f = calloc(1, sizeof(*f));

	assert_non_null(f);
	tempdir_name(f->passwd);
	tempdir_name(f->group);
	close(mkstemp(f->passwd));
	close(mkstemp(f->group));
	write_file(f->passwd, PASSWD);
	write_file(f->group, GROUP);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct files *f = *state;

	unlink(f->passwd);
	unlink(f->group);
	free(f);
	return 0;
}

static int resolve(void **state, const char *spec, struct init_user *ret)
{
	const struct files *f = *state;

	return users_resolve(f->passwd, f->group, spec, NULL, ret, &failure);
}

static void test_users(void **state)
{
	struct init_user u;

	assert_int_equal(resolve(state, NULL, &u), 0);
	assert_int_equal(u.uid, 0);
	assert_string_equal(u.home, "/root");
	assert_int_equal(resolve(state, "joe", &u), 0);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1001);
	assert_string_equal(u.home, "/home/joe");
	assert_int_equal(u.ngroups, 2);
	assert_int_equal(u.groups[0], 10);
	assert_int_equal(resolve(state, "1000", &u), 0);
	assert_int_equal(u.gid, 1001);
	assert_int_equal(resolve(state, "joe:wheel", &u), 0);
	assert_int_equal(u.gid, 10);
	assert_int_equal(u.ngroups, 1);
	assert_int_equal(resolve(state, "4711", &u), 0);
	assert_int_equal(u.uid, 4711);
	assert_int_equal(u.gid, 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(resolve(state, "4711:4712", &u), 0);
	assert_int_equal(u.gid, 4712);
	assert_int_equal(resolve(state, "relative", &u), 0);
	assert_string_equal(u.home, "/");
	assert_int_equal(resolve(state, "last", &u), 0);
	assert_string_equal(u.home, "/last");
}

static void test_no_such_users(void **state)
{
	static const char *const specs[] = {
		"nobody",     "odd",        "minus", "all", "broken line",
		"4294967295", "4294967296", "-1",    "+1",  "joe:nogroup",
		"joe:-1",     "0x10",       "1000 ",
	};
	struct init_user u;

	for (unsigned i = 0; i < ARRAY_LEN(specs); i++)
		assert_int_equal(resolve(state, specs[i], &u), -1);
}

static void test_more_groups(void **state)
{
	const struct files *f = *state;
	const char *const more[] = {"no", "77", "wheel", NULL};
	const char *const wrong[] = {"nogroup", NULL};
	struct init_user u;

	assert_int_equal(
		users_resolve(f->passwd, f->group, "joe", more, &u, &failure),
		0);
	assert_int_equal(u.ngroups, 4);
	assert_int_equal(
		users_resolve(f->passwd, f->group, "joe", wrong, &u, &failure),
		-1);
}

/*
 * A name in the image's files that looks like a number must not stand for
 * another number.
 */
static void test_number_as_name(void **state)
{
	const struct files *f = *state;
	FILE *file = fopen(f->passwd, "we");
	struct init_user u;

	assert_non_null(file);
	fputs("1000:x:0:0::/:/bin/sh\n", file);
	assert_int_equal(fclose(file), 0);
	file = fopen(f->group, "we");
	assert_non_null(file);
	fputs("1000:x:0:\n", file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(resolve(state, "1000:1000", &u), 0);
	assert_int_equal(u.uid, 1000);
	assert_int_equal(u.gid, 1000);
}

static void test_too_many_groups(void **state)
{
	const struct files *f = *state;
	const char *more[USERS_GROUPS_MAX + 1] = {NULL};
	char number[USERS_GROUPS_MAX][12];
	struct init_user u;

	for (int i = 0; i < USERS_GROUPS_MAX; i++) {
		snprintf(number[i], sizeof(number[i]), "%d", 5000 + i);
		more[i] = number[i];
	}
	assert_int_equal(
		users_resolve(f->passwd, f->group, "1:1", more, &u, &failure),
		-1);
	assert_non_null(strstr(failure.text, "more than 128 groups"));
	more[USERS_GROUPS_MAX - 1] = NULL;
	assert_int_equal(
		users_resolve(f->passwd, f->group, "1:1", more, &u, &failure),
		0);
	assert_int_equal(u.ngroups, USERS_GROUPS_MAX);
}

/* A file that is not regular counts as empty; opening it does not block. */
static void test_odd_files(void **state)
{
	struct files *f = *state;
	struct init_user u;

	unlink(f->passwd);
	assert_int_equal(resolve(state, "5", &u), 0);
	assert_int_equal(resolve(state, "joe", &u), -1);
	assert_int_equal(mkfifo(f->passwd, 0600), 0);
	assert_int_equal(resolve(state, "joe", &u), -1);
}

/* A line of any length is skipped, and what follows is found. */
static void test_long_line(void **state)
{
	struct files *f = *state;
	FILE *file = fopen(f->passwd, "we");
	struct init_user u;

	assert_non_null(file);
	for (int i = 0; i < 100000; i++)
		fputs("joe:x:1:1", file);
	fputs("\njoe:x:1000:1001::/home/joe:\n", file);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(resolve(state, "joe", &u), 0);
	assert_int_equal(u.uid, 1000);
}

/* ---- crun's side */

/* No limit is 2^64-1, which Jansson has no integers for. */
#define OCI_JSON (JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL)

static json_t *print_oci(struct agent_items *items, const char *config,
			 const struct init_user *user)
{
	static const char *const env[] = {"A=1", "B=\"\\\n\t\x01", NULL};
	struct init_start s;
	char *json = NULL;
	size_t bytes;
	FILE *file = open_memstream(&json, &bytes);
	json_t *object;

	assert_non_null(file);
	assert_int_equal(parse_start(items, &s), 0);
	if (config)
		oci_print_config(file, config, &s, user, env);
	else
		oci_print_process(file, &s, user, env);
	assert_int_equal(fclose(file), 0);
	object = json_loads(json, OCI_JSON, NULL);
	assert_non_null(object);
	init_start_done(&s);
	free(json);
	return object;
}

static const char *text_at(json_t *list, size_t at)
{
	return json_string_value(json_array_get(list, at));
}

static void test_oci_process(void **state)
{
	const struct init_user user = {
		.uid = 1000, .gid = 5, .groups = {5, 7}, .ngroups = 2};
	const struct agent_cap_sets caps = {.bounding = htole64(0x201),
					    .inheritable = htole64(0x1),
					    .ambient = htole64(0x1)};
	const struct agent_size size = {htole16(24), htole16(80)};
	const struct agent_rlimit limit = {
		.resource = htole32(RLIMIT_NOFILE),
		.soft = htole64(10),
		.hard = htole64(UINT64_MAX),
	};
	struct agent_items items = {0};
	json_t *p, *caps_of, *list;

	(void)state;
	flags(&items, AGENT_ITEM_FLAGS, AGENT_START_TTY | AGENT_START_INIT,
	      NULL);
	text(&items, AGENT_ITEM_ARG, "sh");
	text(&items, AGENT_ITEM_ARG, "\"},{");
	text(&items, AGENT_ITEM_CWD, "/a \\b");
	agent_items_add(&items, AGENT_ITEM_CAP_SETS, &caps, sizeof(caps), NULL,
			0);
	agent_items_add(&items, AGENT_ITEM_SIZE, &size, sizeof(size), NULL, 0);
	agent_items_add(&items, AGENT_ITEM_RLIMIT, &limit, sizeof(limit), NULL,
			0);
	p = print_oci(&items, NULL, &user);
	items = (struct agent_items){0};
	assert_true(json_is_true(json_object_get(p, "terminal")));
	list = json_object_get(p, "args");
	assert_int_equal(json_array_size(list), 4);
	assert_string_equal(text_at(list, 0), AGENT_OCI_REAPER);
	assert_string_equal(text_at(list, 3), "\"},{");
	assert_string_equal(text_at(json_object_get(p, "env"), 1),
			    "B=\"\\\n\t\x01");
	assert_string_equal(json_string_value(json_object_get(p, "cwd")),
			    "/a \\b");
	list = json_object_get(json_object_get(p, "user"), "additionalGids");
	assert_true(json_real_value(json_array_get(list, 1)) == 7);
	caps_of = json_object_get(p, "capabilities");
	list = json_object_get(caps_of, "bounding");
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text_at(list, 1), "CAP_LINUX_IMMUTABLE");
	list = json_object_get(caps_of, "effective");
	assert_int_equal(json_array_size(list), 0);
	list = json_object_get(caps_of, "ambient");
	assert_string_equal(text_at(list, 0), "CAP_CHOWN");
	json_decref(p);
}

static void test_oci_config(void **state)
{
	const struct init_user user = {.home = "/"};
	struct agent_items items = {0};
	json_t *config, *process, *list;

	(void)state;
	text(&items, AGENT_ITEM_ARG, "x");
	config = print_oci(&items, "{\"hostname\":\"h\"}", &user);
	assert_string_equal(
		json_string_value(json_object_get(config, "hostname")), "h");
	process = json_object_get(config, "process");
	assert_true(json_is_false(json_object_get(process, "terminal")));
	list = json_object_get(process, "rlimits");
	assert_int_equal(json_array_size(list), 2);
	list = json_object_get(json_object_get(process, "capabilities"),
			       "permitted");
	assert_int_equal(json_array_size(list),
			 __builtin_popcountll(AGENT_CAPS_DEFAULT));
	json_decref(config);
}

static void test_oci_refused(void **state)
{
	static const char *const texts[] = {"", "[]", "{}", " {\"a\":1}"};
	struct init_config c;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(texts); i++) {
		struct agent_items items = {0};

		text(&items, AGENT_ITEM_OCI, texts[i]);
		assert_int_equal(parse_config(&items, &c), -1);
	}
}

#define WITH_FILES(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_filter),
		cmocka_unit_test(test_umask_and_oom),
		cmocka_unit_test(test_start),
		cmocka_unit_test(test_caps),
		cmocka_unit_test(test_exact),
		cmocka_unit_test(test_refused_configs),
		cmocka_unit_test(test_cut_requests),
		cmocka_unit_test(test_no_end_of_string),
		cmocka_unit_test(test_too_much),
		cmocka_unit_test(test_oci_process),
		cmocka_unit_test(test_oci_config),
		cmocka_unit_test(test_oci_refused),
		WITH_FILES(test_users),
		WITH_FILES(test_no_such_users),
		WITH_FILES(test_more_groups),
		WITH_FILES(test_number_as_name),
		WITH_FILES(test_too_many_groups),
		WITH_FILES(test_odd_files),
		WITH_FILES(test_long_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
