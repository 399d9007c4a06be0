/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The container that options and image make: Docker's default specification,
 * and what the user changes of it. The machine's size is its limits of memory
 * and CPUs.
 */
#include "tools/container/run.h"

#include "tools/container/oci-seccomp.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define MEMORY_DEFAULT (512 * MIB)
#define CPU_PERIOD_US  100000

/* A small process costs the guest so much, roughly. */
#define PIDS_BYTES   (512 * KIB)
#define PIDS_LEAST   64
#define PIDS_MOST    16384
#define PIDS_LARGEST 4194304 /* Linux has no more numbers */

static int make_defaults(struct spec *spec, const struct run_options *opt)
{
	struct spec_defaults defaults = {.privileged = opt->privileged};

	if (opt->shm_size &&
	    util_parse_size(opt->shm_size, &defaults.shm_bytes) < 0)
		return log_ret(-EINVAL,
			       "--shm-size '%s': not a size: use a number with "
			       "K, M or G",
			       opt->shm_size);
	return spec_add_defaults(spec, &defaults);
}

/* The last value of a parameter counts, as with Docker. */
static int make_sysctls(struct spec *spec, const struct run_options *opt)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < opt->sysctls.count; i++) {
		const char *text = opt->sysctls.item[i];

		if (!strchr(text, '=') || text[0] == '=')
			return log_ret(-EINVAL,
				       "--sysctl '%s': expected NAME=VALUE",
				       text);
		r = text_list_set(&spec->linux_part.sysctl, text);
	}
	return r;
}

int run_check_hostname(const char *what, const char *name)
{
	static const char allowed[] = "abcdefghijklmnopqrstuvwxyz"
				      "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
				      "0123456789._-";

	if (name[0] != '\0' && strlen(name) <= HOST_NAME_MAX &&
	    name[0] != '-' && name[strspn(name, allowed)] == '\0')
		return 0;
	return log_ret(-EINVAL,
		       "%s '%s': use up to %d letters, digits, '.', '_' and "
		       "'-'",
		       what, name, HOST_NAME_MAX);
}

/* ---- limits */

/* "1.5", with up to three decimals, as us of each CPU_PERIOD_US. */
static int parse_cpus(const char *text, uint64_t *ret_quota)
{
	const size_t n = strcspn(text, ".");
	char number[32];
	uint64_t milli;
	int bytes;

	if (text[n] && (strlen(text + n) < 2 || strlen(text + n) > 4))
		return -EINVAL;
	/* Without its point: thousandths. */
	bytes = snprintf(number, sizeof(number), "%.*s%s%.*s", (int)n, text,
			 text[n] ? text + n + 1 : "",
			 text[n] ? 4 - (int)strlen(text + n) : 3, "000");
	if (bytes >= (int)sizeof(number) ||
	    number[strspn(number, "0123456789")] ||
	    util_parse_number(number + strspn(number, "0"), 10,
			      CONFIG_CPUS_MAX * UINT64_C(1000), &milli) < 0)
		return -EINVAL;
	*ret_quota = milli * (CPU_PERIOD_US / 1000);
	return 0;
}

int run_size_make(struct spec_linux *l, const struct run_options *opt)
{
	uint64_t quota = CPU_PERIOD_US;

	if (l->memory_limit == 0)
		l->memory_limit = MEMORY_DEFAULT;
	if (opt->memory &&
	    (util_parse_size(opt->memory, &l->memory_limit) < 0 ||
	     l->memory_limit == 0 || l->memory_limit > INT64_MAX))
		return log_ret(-EINVAL,
			       "--memory '%s': not a size: use a number with "
			       "K, M or G",
			       opt->memory);
	if (opt->cpus && parse_cpus(opt->cpus, &quota) < 0)
		return log_ret(-EINVAL,
			       "--cpus '%s': must be 0.01 to %d, as in 2 or "
			       "1.5",
			       opt->cpus, CONFIG_CPUS_MAX);
	if (l->cpu_quota == 0) {
		l->cpu_period = CPU_PERIOD_US;
		l->cpu_quota = quota;
	}
	return 0;
}

/*
 * The machine's memory is what processes cost, and what the agent needs to be
 * able to end them; user 0 is bound by no other limit.
 */
static uint64_t default_pids(uint64_t memory_bytes)
{
	const uint64_t n = memory_bytes / PIDS_BYTES;

	return n < PIDS_LEAST ? PIDS_LEAST : min_u64(n, PIDS_MOST);
}

/* Docker's: 0 and -1 are no limit. */
static int make_pids(struct spec_linux *l, const struct run_options *opt)
{
	const char *text = opt->pids_limit;

	l->pids_limit = 0;
	if (!text)
		l->pids_limit = default_pids(l->memory_limit);
	else if (strcmp(text, "-1") != 0 &&
		 util_parse_number(text, 0, PIDS_LARGEST, &l->pids_limit) < 0)
		return log_ret(-EINVAL,
			       "--pids-limit '%s': not a number of processes, "
			       "up to %d, or -1 for any",
			       text, PIDS_LARGEST);
	return 0;
}

static int make_seccomp(struct spec *spec, const struct run_options *opt)
{
	const char *file = run_seccomp_file(opt);

	if (!file)
		return 0;
	spec->linux_part.seccomp =
		oci_seccomp_load(file, spec->process.capabilities.bounding);
	return spec->linux_part.seccomp ? 0 : -EINVAL;
}

int run_spec_make(struct spec *spec, const struct run_options *opt,
		  const struct rootfs *root)
{
	int r = spec_set_text(&spec->root_path, root->path);

	spec->root_readonly = opt->readonly;
	spec->has_process = true;
	if (r == 0)
		r = run_process_make(&spec->process, opt, &root->config);
	if (r == 0)
		r = make_defaults(spec, opt);
	if (r == 0)
		r = run_mounts_make(spec, opt);
	if (r == 0)
		r = make_sysctls(spec, opt);
	if (r == 0)
		r = run_size_make(&spec->linux_part, opt);
	if (r == 0)
		r = make_pids(&spec->linux_part, opt);
	if (r == 0)
		r = make_seccomp(spec, opt);
	if (r == 0 && opt->hostname)
		r = run_check_hostname("--hostname", opt->hostname);
	return r < 0 ? r : spec_set_text(&spec->hostname, opt->hostname);
}
