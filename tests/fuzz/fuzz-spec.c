/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OCI's JSON: a container, and a process. Whatever the readers accept must come
 * back as the same when it was written and is read again.
 */
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <jansson.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* JSON's text, allocated; the reference is taken. */
static char *print(json_t *json)
{
	char *text = json ? json_dumps(json, JSON_SORT_KEYS) : NULL;

	json_decref(json);
	if (!text)
		abort();
	return text;
}

static void check_spec(struct spec *spec)
{
	autofree char *first = print(spec_json(spec));
	autofree char *second = NULL;
	struct spec again = {0};
	struct spec_filter filter;

	if (spec_filter_make("fuzz", &spec->linux_part, &filter) == 0) {
		if (filter.count > 4096 || !filter.code != !filter.count)
			abort();
		spec_filter_done(&filter);
	}
	if (spec_read("again", first, strlen(first), &again) < 0)
		abort();
	second = print(spec_json(&again));
	if (strcmp(first, second) != 0)
		abort();
	spec_done(&again);
}

static void check_process(struct spec_process *process)
{
	autofree char *first = print(spec_process_json(process));
	autofree char *second = NULL;
	struct spec_process again = {0};

	if (spec_process_read("again", first, strlen(first), &again) < 0)
		abort();
	second = print(spec_process_json(&again));
	if (strcmp(first, second) != 0)
		abort();
	spec_process_done(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct spec_process process = {0};
	struct spec spec = {0};

	log_setup(LOG_ERROR, false);
	if (spec_read("fuzz", (const char *)data, size, &spec) == 0)
		check_spec(&spec);
	if (spec_process_read("fuzz", (const char *)data, size, &process) == 0)
		check_process(&process);
	spec_done(&spec);
	spec_process_done(&process);
	return 0;
}
