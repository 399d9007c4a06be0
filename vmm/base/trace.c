/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/base/trace.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

struct trace {
	uint64_t at_ns[TRACE_POINTS]; /* CLOCK_MONOTONIC; 0: not yet */
};

enum process { SUPERVISOR, MONITOR, AGENT, RUNTIME };

/* The agent's are when the supervisor reads its message. */
static const struct {
	const char *name;
	enum process process;
} points[TRACE_POINTS] = {
	[TRACE_EXEC] = {"exec", SUPERVISOR},
	[TRACE_OPTIONS] = {"options read", SUPERVISOR},
	[TRACE_BUNDLE] = {"bundle written", RUNTIME},
	[TRACE_CREATED] = {"created", RUNTIME},
	[TRACE_BEGUN] = {"start called", RUNTIME},
	[TRACE_INIT] = {"init executed", SUPERVISOR},
	[TRACE_ROOT] = {"root ready", SUPERVISOR},
	[TRACE_SAVED] = {"source saved", SUPERVISOR},
	[TRACE_SNAPSHOT] = {"snapshot opened", SUPERVISOR},
	[TRACE_CLONE] = {"clone forked", SUPERVISOR},
	[TRACE_TAKEN] = {"machine taken", SUPERVISOR},
	[TRACE_INITRD] = {"initrd made", SUPERVISOR},
	[TRACE_INSTANCE] = {"instance made", SUPERVISOR},
	[TRACE_KEEPER] = {"keeper started", SUPERVISOR},
	[TRACE_FORKED] = {"monitor forked", SUPERVISOR},
	[TRACE_RECORDED] = {"monitor recorded", SUPERVISOR},
	[TRACE_MONITOR] = {"process ready", MONITOR},
	[TRACE_RAM] = {"RAM mapped", MONITOR},
	[TRACE_KVM] = {"/dev/kvm opened", MONITOR},
	[TRACE_VM] = {"VM created", MONITOR},
	[TRACE_REGISTERED] = {"RAM registered", MONITOR},
	[TRACE_KERNEL] = {"kernel loaded", MONITOR},
	[TRACE_DEVICES] = {"devices opened", MONITOR},
	[TRACE_VCPUS] = {"vCPUs created", MONITOR},
	[TRACE_ATTACHED] = {"devices attached", MONITOR},
	[TRACE_FIRMWARE] = {"firmware written", MONITOR},
	[TRACE_LOADED_VCPUS] = {"vCPUs loaded", MONITOR},
	[TRACE_SANDBOX] = {"sandbox entered", MONITOR},
	[TRACE_LOADED_DEVICES] = {"devices loaded", MONITOR},
	[TRACE_RUN] = {"first KVM_RUN", MONITOR},
	[TRACE_EXIT] = {"first exit", MONITOR},
	[TRACE_CONSOLE] = {"first console output", MONITOR},
	[TRACE_CONNECTED] = {"vsock connected", SUPERVISOR},
	[TRACE_GREETED] = {"agent greeted", AGENT},
	[TRACE_PREPARED] = {"container prepared", SUPERVISOR},
	[TRACE_TEMPLATE] = {"template saved", SUPERVISOR},
	[TRACE_CONFIGURE] = {"CONFIGURE sent", SUPERVISOR},
	[TRACE_CONFIGURED] = {"CONFIGURE done", AGENT},
	[TRACE_START] = {"START sent", SUPERVISOR},
	[TRACE_ATTACH] = {"ATTACH sent", SUPERVISOR},
	[TRACE_STARTED] = {"STARTED", AGENT},
	[TRACE_OUTPUT] = {"first output", AGENT},
	[TRACE_ENDED] = {"EXIT", AGENT},
	[TRACE_GONE] = {"monitor gone", MONITOR},
	[TRACE_END] = {"end", SUPERVISOR},
};

const char *trace_name(enum trace_point point)
{
	return points[point].name;
}

uint64_t trace_get(const struct trace *trace, enum trace_point point)
{
	return __atomic_load_n(&trace->at_ns[point], __ATOMIC_RELAXED);
}

void trace_set(struct trace *trace, enum trace_point point, uint64_t at_ns)
{
	__atomic_store_n(&trace->at_ns[point], at_ns, __ATOMIC_RELAXED);
}

static struct trace *make(void)
{
	struct trace *trace = mmap(NULL, sizeof(*trace), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (trace != MAP_FAILED)
		return trace;
	log_error("--trace: %s", strerror(errno));
	return NULL;
}

struct trace *trace_new(void)
{
	const uint64_t now = util_now_ns();
	struct trace *trace = make();
	struct timespec used = {0};

	if (!trace)
		return NULL;
	/* The kernel tells of no exec; up to here nothing waits for much. */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	trace->at_ns[TRACE_EXEC] = now - ((uint64_t)used.tv_sec * 1000000000 +
					  (uint64_t)used.tv_nsec);
	return trace;
}

struct trace *trace_copy(const struct trace *of)
{
	struct trace *trace = of ? make() : NULL;

	for (unsigned i = 0; trace && i < TRACE_POINTS; i++)
		trace_set(trace, i, trace_get(of, i));
	return trace;
}

void trace_free(struct trace *trace)
{
	if (trace)
		munmap(trace, sizeof(*trace));
}

void trace_mark_now(struct trace *trace, enum trace_point point)
{
	uint64_t none = 0;

	__atomic_compare_exchange_n(&trace->at_ns[point], &none, util_now_ns(),
				    false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

void trace_restart(struct trace *trace)
{
	for (unsigned i = TRACE_FORKED; trace && i < TRACE_POINTS; i++)
		trace_set(trace, i, 0);
}

static const char *process_name(const struct trace *trace,
				enum trace_point point)
{
	static const char *const names[] = {
		[SUPERVISOR] = "supervisor",
		[MONITOR] = "monitor",
		[AGENT] = "agent",
		[RUNTIME] = "runtime",
	};
	enum process process = points[point].process;

	/* An engine's runtime begins; `boot` has one process for both. */
	if (point <= TRACE_OPTIONS && trace_get(trace, TRACE_BUNDLE))
		process = RUNTIME;
	else if (process == SUPERVISOR && !trace_get(trace, TRACE_FORKED))
		process = MONITOR;
	return names[process];
}

size_t trace_lines(const struct trace *trace, struct trace_line *ret)
{
	const uint64_t exec_ns = trace_get(trace, TRACE_EXEC);
	size_t n = 0;

	for (unsigned i = 0; i < TRACE_POINTS; i++) {
		const uint64_t at_ns = trace_get(trace, i);
		struct trace_line line = {
			.name = points[i].name,
			.process = process_name(trace, i),
		};
		size_t place = n;

		if (at_ns < exec_ns || at_ns == 0)
			continue;
		line.at_us = (at_ns - exec_ns) / 1000;
		for (; place > 0 && ret[place - 1].at_us > line.at_us; place--)
			ret[place] = ret[place - 1];
		ret[place] = line;
		n++;
	}
	for (size_t i = 1; i < n; i++)
		ret[i].took_us = ret[i].at_us - ret[i - 1].at_us;
	return n;
}
