/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `update`. The control group on the host is what can change; the guest's size
 * cannot while it runs, and is not to be promised. A container in another's
 * machine has limits that are a control group's in the guest, which can.
 */
#include "tools/oci/oci.h"

#include "tools/agent/agent.h"
#include "tools/container/run.h"
#include "tools/oci/oci-options.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#define PERIOD_DEFAULT 100000 /* us, Linux's */

struct request {
	const char *resources; /* a file, or "-" */
	const char *blkio_weight, *cpu_period, *cpu_quota, *cpu_share;
	const char *cpu_rt_period, *cpu_rt_runtime, *cpus, *mems;
	const char *memory, *reservation, *swap, *pids;
};

static const struct oci_option options[] = {
	{"resources", 'r', OCI_OWN_VALUE, offsetof(struct request, resources)},
	{"blkio-weight", 0, OCI_OWN_VALUE,
	 offsetof(struct request, blkio_weight)},
	{"cpu-period", 0, OCI_OWN_VALUE, offsetof(struct request, cpu_period)},
	{"cpu-quota", 0, OCI_OWN_VALUE, offsetof(struct request, cpu_quota)},
	{"cpu-share", 0, OCI_OWN_VALUE, offsetof(struct request, cpu_share)},
	{"cpu-rt-period", 0, OCI_OWN_VALUE,
	 offsetof(struct request, cpu_rt_period)},
	{"cpu-rt-runtime", 0, OCI_OWN_VALUE,
	 offsetof(struct request, cpu_rt_runtime)},
	{"cpuset-cpus", 0, OCI_OWN_VALUE, offsetof(struct request, cpus)},
	{"cpuset-mems", 0, OCI_OWN_VALUE, offsetof(struct request, mems)},
	{"memory", 0, OCI_OWN_VALUE, offsetof(struct request, memory)},
	{"memory-reservation", 0, OCI_OWN_VALUE,
	 offsetof(struct request, reservation)},
	{"memory-swap", 0, OCI_OWN_VALUE, offsetof(struct request, swap)},
	{"pids-limit", 0, OCI_OWN_VALUE, offsetof(struct request, pids)},
	{0},
};

/* ---- what is asked for, in the specification's own form */

/* "-1", or a number that may have a unit. */
static int parse(const char *text, json_int_t *ret)
{
	uint64_t bytes;
	int r = 0;

	if (strcmp(text, "-1") == 0) {
		*ret = -1;
		return 0;
	}
	r = util_parse_size(text, &bytes);
	if (r == 0 && bytes > INT64_MAX)
		r = -ERANGE;
	if (r == 0)
		*ret = (json_int_t)bytes;
	return r;
}

static int put(json_t *json, const char *part, const char *key, json_t *value)
{
	json_t *to = json_object_get(json, part);

	if (!to) {
		to = json_object();
		if (json_object_set_new(json, part, to) < 0)
			to = NULL;
	}
	if (!to || json_object_set_new(to, key, value) < 0)
		return log_ret(-ENOMEM, "update: '%s' cannot be a text of JSON",
			       key);
	return 0;
}

static int from_options(const struct request *req, json_t *json)
{
	const struct {
		const char *option, *text, *part, *key;
		bool is_text;
	} list[] = {
		{"blkio-weight", req->blkio_weight, "blockIO", "weight", false},
		{"cpu-period", req->cpu_period, "cpu", "period", false},
		{"cpu-quota", req->cpu_quota, "cpu", "quota", false},
		{"cpu-share", req->cpu_share, "cpu", "shares", false},
		{"cpu-rt-period", req->cpu_rt_period, "cpu", "realtimePeriod",
		 false},
		{"cpu-rt-runtime", req->cpu_rt_runtime, "cpu",
		 "realtimeRuntime", false},
		{"cpuset-cpus", req->cpus, "cpu", "cpus", true},
		{"cpuset-mems", req->mems, "cpu", "mems", true},
		{"memory", req->memory, "memory", "limit", false},
		{"memory-reservation", req->reservation, "memory",
		 "reservation", false},
		{"memory-swap", req->swap, "memory", "swap", false},
		{"pids-limit", req->pids, "pids", "limit", false},
	};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(list); i++) {
		json_int_t n = 0;

		if (!list[i].text)
			continue;
		if (!list[i].is_text && parse(list[i].text, &n) < 0)
			return log_ret(-EINVAL,
				       "update: --%s '%s': not a number",
				       list[i].option, list[i].text);
		r = put(json, list[i].part, list[i].key,
			list[i].is_text ? json_string(list[i].text)
					: json_integer(n));
	}
	return r;
}

/* A new reference; NULL: logged. */
static json_t *read_request(const struct request *req)
{
	json_error_t error;
	json_t *json;

	if (!req->resources) {
		json = json_object();
		if (json && from_options(req, json) == 0)
			return json;
		json_decref(json);
		return NULL;
	}
	json = strcmp(req->resources, "-") == 0
		       ? json_loadf(stdin, 0, &error)
		       : json_load_file(req->resources, 0, &error);
	if (json_is_object(json))
		return json;
	log_error("update: --resources '%s': %s", req->resources,
		  json ? "not a JSON object" : error.text);
	json_decref(json);
	return NULL;
}

/* ---- what of it can be */

static json_int_t number(json_t *json, const char *part, const char *key)
{
	return json_integer_value(
		json_object_get(json_object_get(json, part), key));
}

static int change_memory(json_t *wanted, json_t *made)
{
	const json_int_t given = number(made, "memory", "limit");
	const json_int_t now =
		given > 0 ? given : (json_int_t)RUN_MEMORY_DEFAULT;
	const json_int_t limit = number(wanted, "memory", "limit");

	if (limit != 0 && limit != now)
		return log_ret(-ENOTSUP,
			       "memory: the machine has %lld MiB, which cannot "
			       "change while it runs: update the container "
			       "when it is stopped",
			       (long long)now >> 20);
	oci_bundle_raise(json_object_get(wanted, "memory"), false);
	return 0;
}

/* The guest can use no more than it was made for. */
static int change_cpus(json_t *wanted, json_t *made)
{
	json_int_t had_quota = number(made, "cpu", "quota");
	json_int_t had_period = number(made, "cpu", "period");
	json_int_t quota = number(wanted, "cpu", "quota");
	json_int_t period = number(wanted, "cpu", "period");
	const bool had = had_quota > 0;

	if (had_period <= 0)
		had_period = PERIOD_DEFAULT;
	if (period <= 0)
		period = had_period;
	/* One CPU is the usual machine's. */
	if (!had)
		had_quota = had_period;
	if (quota == 0)
		quota = number(wanted, "cpu", "period") > 0 ? had_quota : 0;
	if (quota == 0 || (quota < 0 && !had))
		return 0;
	if (quota > 0 && (double)quota / (double)period <=
				 (double)had_quota / (double)had_period + 1e-9)
		return 0;
	return log_ret(-ENOTSUP,
		       "cpu: the machine was made for %.2f CPUs, and gets no "
		       "more while it runs: update the container when it is "
		       "stopped",
		       (double)had_quota / (double)had_period);
}

static int change_pids(json_t *wanted, json_t *made)
{
	const json_int_t limit = number(wanted, "pids", "limit");
	const json_int_t had = number(made, "pids", "limit");

	if (limit != 0 && limit != had && (limit > 0 || had > 0))
		return log_ret(-ENOTSUP,
			       "pids: the limit holds in the guest, and cannot "
			       "change while it runs: update the container "
			       "when it is stopped");
	(void)json_object_del(wanted, "pids");
	return 0;
}

static int change(json_t *wanted, json_t *made)
{
	int r = oci_bundle_check_unified(wanted);

	if (r == 0)
		r = change_memory(wanted, made);
	if (r == 0)
		r = change_cpus(wanted, made);
	return r < 0 ? r : change_pids(wanted, made);
}

/* ---- the host's runtime */

static int hand_over(struct oci *oci, const char *id, json_t *resources)
{
	const struct text_list none = {0};
	char name[40];
	autofree char *path = NULL;
	const char *args[3] = {"--resources"};
	int status = OCI_EXIT_FAILED;

	oci_bundle_drop_unset(resources);
	snprintf(name, sizeof(name), "update-%d", (int)getpid());
	path = oci_path(oci, id, name);
	args[1] = path;
	if (path && oci_store_write(oci, id, name, resources) == 0)
		status = oci_host_call(oci, "update", args, &none, id);
	if (path)
		(void)unlink(path);
	return status;
}

/* ---- in another's machine */

/* In the protocol's form; 0 is none given, and what is below none at all. */
static uint64_t limit_of(json_int_t n)
{
	return n < 0 ? AGENT_LIMITS_NONE : (uint64_t)n;
}

static struct agent_limits find_limits(json_t *wanted, json_t *made)
{
	json_int_t quota = number(wanted, "cpu", "quota");
	json_int_t period = number(wanted, "cpu", "period");

	if (quota == 0 && period > 0)
		quota = number(made, "cpu", "quota");
	if (period <= 0)
		period = number(made, "cpu", "period");
	return (struct agent_limits){
		.memory_max = limit_of(number(wanted, "memory", "limit")),
		.pids_max = limit_of(number(wanted, "pids", "limit")),
		.cpu_quota = limit_of(quota),
		.cpu_period = period > 0 ? (uint64_t)period : PERIOD_DEFAULT,
	};
}

/* `start` and `exec` read what is noted, and take no other numbers. */
static int check_limits(json_t *wanted)
{
	static const struct {
		const char *part, *key;
		json_int_t least;
	} list[] = {
		{"memory", "limit", -1},
		{"cpu", "quota", -1},
		{"cpu", "period", 0},
		{"pids", "limit", -1},
	};

	for (unsigned i = 0; i < ARRAY_LEN(list); i++) {
		const json_int_t n = number(wanted, list[i].part, list[i].key);

		if (n < list[i].least)
			return log_ret(-EINVAL,
				       "update: %s.%s: %lld is below %lld",
				       list[i].part, list[i].key, (long long)n,
				       (long long)list[i].least);
	}
	return 0;
}

/* One that is created reads its limits when it starts. */
static int change_guest(struct oci *oci, const char *id,
			const struct agent_limits *limits)
{
	struct agent_session *agent = NULL;
	const char *container;
	int r;

	if (oci_host_is(oci, id, "created"))
		return 0;
	if (oci_stands_still(oci, id))
		return log_ret(-EBUSY,
			       "container '%s' is paused, and hears of no "
			       "limits: resume it before",
			       id);
	r = oci_agent(oci, id, &agent, &container);
	if (r == 0)
		r = agent_limit(agent, container, limits);
	agent_free(agent);
	return r;
}

/* Notes in SPEC those limits of WANTED that the guest keeps. */
static int note(struct oci *oci, const char *id, json_t *spec, json_t *wanted)
{
	static const struct {
		const char *part, *key;
	} kept[] = {
		{"memory", "limit"},
		{"cpu", "quota"},
		{"cpu", "period"},
		{"pids", "limit"},
	};
	static const char part_file[] = "vm/" OCI_SPEC_FILE ".part";
	autofree char *part = oci_path(oci, id, part_file);
	autofree char *path = oci_path(oci, id, "vm/" OCI_SPEC_FILE);
	json_t *made = json_object_get(spec, "linux");
	int r = part && path ? 0 : -ENOMEM;

	if (!json_object_get(made, "resources"))
		(void)json_object_set_new(made, "resources", json_object());
	made = json_object_get(made, "resources");
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(kept); i++) {
		const json_int_t n = number(wanted, kept[i].part, kept[i].key);

		if (n != 0)
			r = put(made, kept[i].part, kept[i].key,
				json_integer(n));
	}
	/* All at once: `exec` reads it at any time. */
	if (r == 0)
		r = oci_store_write(oci, id, part_file, spec);
	if (r == 0 && rename(part, path) < 0)
		r = log_ret(-errno, "'%s': %s", path, strerror(errno));
	return r;
}

static int update_member(struct oci *oci, const char *id, json_t *spec,
			 json_t *wanted)
{
	json_t *made =
		json_object_get(json_object_get(spec, "linux"), "resources");
	const struct agent_limits limits = find_limits(wanted, made);
	int r = oci_bundle_check_unified(wanted);

	if (r == 0)
		r = check_limits(wanted);
	if (r == 0)
		r = change_guest(oci, id, &limits);
	if (r == 0)
		r = note(oci, id, spec, wanted);
	if (r < 0)
		return OCI_EXIT_FAILED;
	(void)json_object_del(wanted, "pids");
	oci_bundle_raise(json_object_get(wanted, "memory"), true);
	return hand_over(oci, id, wanted);
}

/* ---- the command */

static int update_own(struct oci *oci, const char *id, json_t *spec,
		      json_t *wanted)
{
	json_t *made =
		json_object_get(json_object_get(spec, "linux"), "resources");

	return change(wanted, made) < 0 ? OCI_EXIT_FAILED
					: hand_over(oci, id, wanted);
}

static int update(struct oci *oci, const char *id, const struct request *req)
{
	autofree char *machine = NULL;
	json_t *spec, *wanted;
	int status = OCI_EXIT_FAILED;
	int r = oci_check_id(id);

	if (r < 0)
		return status;
	spec = oci_store_read(oci, id, "vm/" OCI_SPEC_FILE);
	if (!spec)
		return log_ret(status, "container '%s' does not exist", id);
	r = oci_pod_machine(oci, id, &machine);
	wanted = r < 0 ? NULL : read_request(req);
	if (wanted)
		status = machine ? update_member(oci, id, spec, wanted)
				 : update_own(oci, id, spec, wanted);
	json_decref(wanted);
	json_decref(spec);
	return status;
}

int oci_cmd_update(struct oci *oci, int argc, char **argv)
{
	struct request req = {0};
	struct text_list pass = {0};
	int n = oci_options_parse(options, &req, &pass, argc, argv);

	if (n < 0)
		return OCI_EXIT_FAILED;
	if (argc - n != 1)
		return log_ret(OCI_EXIT_FAILED,
			       "update: give one container id");
	return update(oci, argv[n], &req);
}
