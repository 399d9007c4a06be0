/* SPDX-License-Identifier: Apache-2.0 */
/* The facts about this machine, and whether it has other work. */
#include "tools/bench/bench.h"

#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>

/* More of the processors' time, in percent, is a busy machine. */
#define BUSY_PERCENT  10
#define STEAL_PERCENT 1

void bench_host_look(struct bench_host *host)
{
	unsigned long long v[8] = {0};
	FILE *stat = fopen("/proc/stat", "re");

	*host = (struct bench_host){0};
	/* user nice system idle iowait irq softirq steal */
	if (stat &&
	    fscanf(stat, "cpu %llu %llu %llu %llu %llu %llu %llu %llu", &v[0],
		   &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]) == 8) {
		for (unsigned i = 0; i < 8; i++)
			host->jiffies += v[i];
		host->steal = v[7];
		host->busy = host->jiffies - v[3] - v[4] - v[7];
	}
	if (stat)
		fclose(stat);
	if (getloadavg(&host->load1, 1) != 1)
		host->load1 = -1;
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* The value of a line "NAME : VALUE" of FILE. Allocated, or NULL. */
static char *find_value(const char *file, const char *name)
{
	FILE *f = fopen(file, "re");
	char line[512];
	char *value = NULL;

	while (f && !value && fgets(line, sizeof(line), f)) {
		char *colon = strchr(line, ':');

		if (strncmp(line, name, strlen(name)) != 0 || !colon)
			continue;
		line[strcspn(line, "\n")] = '\0';
		value = strdup(colon + 1 + strspn(colon + 1, " \t"));
	}
	if (f)
		fclose(f);
	return value;
}

static json_t *text_or_null(const char *text)
{
	return text ? json_string(text) : json_null();
}

/* Whether this machine is a virtual one itself. */
static bool is_virtual(void)
{
	autofree char *flags = find_value("/proc/cpuinfo", "flags");

	return flags && strstr(flags, " hypervisor");
}

static const char *kvm_kind(void)
{
	if (access("/dev/kvm", R_OK | W_OK) < 0)
		return "none";
	if (access("/sys/module/kvm_pvm", F_OK) == 0)
		return "PVM, which has guest kernels interpreted";
	return "hardware";
}

/*
 * Why figures of this run mean little; NULL: nothing is known against them. The
 * user may know what cannot be seen here, as in a virtual machine.
 */
static char *why_busy(double other, double steal, double load)
{
	const char *known = getenv("BULKHEAD_BENCH_BUSY");
	char *why = NULL;

	if (known && known[0])
		return text_printable(known);
	if (other > BUSY_PERCENT || steal > STEAL_PERCENT) {
		if (asprintf(&why,
			     "before the first run other work had %.0f %% of "
			     "the processors' time; the host of this machine "
			     "took %.1f %%; load %.2f",
			     other, steal, load) < 0)
			return NULL;
	}
	return why;
}

json_t *bench_host_json(const struct bench_result *result)
{
	const struct bench_host *from = result->idle_from;
	const struct bench_host *to = result->idle_to, *end = result->end;
	const double other =
		percent(to->busy - from->busy, to->jiffies - from->jiffies);
	/* Until the end, as the host of this machine takes what it is given. */
	const double steal =
		percent(end->steal - from->steal, end->jiffies - from->jiffies);
	autofree char *cpu = find_value("/proc/cpuinfo", "model name");
	autofree char *busy = why_busy(other, steal, from->load1);
	struct utsname name = {0};

	(void)uname(&name);
	return json_pack(
		"{s:s, s:s, s:o, s:i, s:I, s:b, s:s, s:f, s:f, s:f, s:f, s:o}",
		"kernel", name.release, "machine", name.machine, "cpu",
		text_or_null(cpu), "cpus", (int)sysconf(_SC_NPROCESSORS_ONLN),
		"memory_bytes",
		(json_int_t)sysconf(_SC_PHYS_PAGES) * sysconf(_SC_PAGESIZE),
		"virtual", is_virtual(), "kvm", kvm_kind(), "load_before",
		from->load1, "load_after", end->load1, "other_work_percent",
		other, "steal_percent", steal, "busy", text_or_null(busy));
}
