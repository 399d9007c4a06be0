/* SPDX-License-Identifier: Apache-2.0 */
#include "tools/cli/trace-option.h"

#include "tools/cli/usage.h"
#include "vmm/base/trace.h"
#include "vmm/vm.h"

#include <stdio.h>
#include <string.h>

int trace_option(const char *command, const char *value, struct trace **ret)
{
	if (!value)
		return 0;
	if (strcmp(value, "boot") != 0)
		return usage_error(command,
				   "--trace '%s': not known; there is boot",
				   value);
	*ret = trace_new();
	trace_mark(*ret, TRACE_OPTIONS);
	return *ret ? 0 : VM_EXIT_HOST;
}

static void print_table(FILE *to, const struct trace_line *line, size_t n)
{
	fprintf(to, "%-22s %10s %10s  %s\n", "phase ends with", "at us",
		"took us", "process");
	for (; n > 0; n--, line++)
		fprintf(to, "%-22s %10llu %10llu  %s\n", line->name,
			(unsigned long long)line->at_us,
			(unsigned long long)line->took_us, line->process);
}

static void print_json(FILE *to, const struct trace_line *line, size_t n)
{
	fputs("{\"trace\":[", to);
	for (size_t i = 0; i < n; i++)
		fprintf(to,
			"%s{\"phase\":\"%s\",\"at_us\":%llu,\"took_us\":%llu,"
			"\"process\":\"%s\"}",
			i ? "," : "", line[i].name,
			(unsigned long long)line[i].at_us,
			(unsigned long long)line[i].took_us, line[i].process);
	fputs("]}\n", to);
}

void trace_print(const struct trace *trace, FILE *to, bool json)
{
	struct trace_line lines[TRACE_POINTS];
	const size_t n = trace_lines(trace, lines);

	if (json)
		print_json(to, lines, n);
	else
		print_table(to, lines, n);
}

void trace_finish(struct trace *trace, bool json)
{
	if (!trace)
		return;
	trace_mark(trace, TRACE_END);
	trace_print(trace, stderr, json);
	trace_free(trace);
}
