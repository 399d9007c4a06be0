/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --trace boot: when a container's start came to each of its points. `create`,
 * `start` and `init` share no memory: their times are in a file in the
 * directory `vm`, which the last command of a container prints.
 */
#include "tools/oci/oci.h"

#include "tools/cli/trace-option.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BOOT "boot"

int oci_trace_begin(struct oci *oci, const char *value)
{
	const char *rest = value + strlen(BOOT);

	if (strncmp(value, BOOT, strlen(BOOT)) != 0 ||
	    (rest[0] && (rest[0] != '=' || !rest[1])))
		return log_ret(-EINVAL,
			       "--trace '%s': not known; there are boot and "
			       "boot=FILE",
			       value);
	oci->trace_file = rest[0] ? rest + 1 : NULL;
	oci->trace = trace_new();
	trace_mark(oci->trace, TRACE_OPTIONS);
	return oci->trace ? 0 : -ENOMEM;
}

/* ---- the file */

static void write_file(const struct oci *oci, const char *id, const char *name,
		       const struct trace *trace)
{
	json_t *json = json_object();

	for (unsigned i = 0; i < TRACE_POINTS; i++) {
		const uint64_t at_ns = trace_get(trace, i);

		if (at_ns > 0)
			(void)json_object_set_new(
				json, trace_name(i),
				json_integer((json_int_t)at_ns));
	}
	(void)oci_store_write(oci, id, name, json);
	json_decref(json);
}

/* NULL: there is none. A monitor that was taken over may have written it. */
static struct trace *read_file(const struct oci *oci, const char *id,
			       const char *name)
{
	json_t *json = oci_store_read(oci, id, name);
	struct trace *trace = json_is_object(json) ? trace_new() : NULL;

	for (unsigned i = 0; trace && i < TRACE_POINTS; i++) {
		const json_int_t at_ns = json_integer_value(
			json_object_get(json, trace_name(i)));

		trace_set(trace, i, at_ns > 0 ? (uint64_t)at_ns : 0);
	}
	json_decref(json);
	return trace;
}

/* ---- on the host */

void oci_trace_note(const struct oci *oci, const char *id,
		    enum trace_point point)
{
	struct trace *trace;

	if (!oci->trace)
		return;
	trace = read_file(oci, id, "vm/" OCI_TRACE_FILE);
	trace_mark(oci->trace, point);
	trace_mark(trace, point);
	/* None: `create` is the first. */
	write_file(oci, id, "vm/" OCI_TRACE_FILE, trace ? trace : oci->trace);
	trace_free(trace);
}

/* Several may write to the file at once: it gets each in one piece. */
static int append(const char *path, const char *text, size_t bytes)
{
	autofd int fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);

	return fd < 0 ? -errno : util_write_all(fd, text, bytes);
}

void oci_trace_print(const struct oci *oci, const char *id)
{
	struct trace *trace =
		oci->trace ? read_file(oci, id, "vm/" OCI_TRACE_FILE) : NULL;
	autofree char *text = NULL;
	size_t bytes = 0;
	FILE *file = trace ? open_memstream(&text, &bytes) : NULL;
	int r;

	if (file) {
		fprintf(file, "%s:\n", id);
		trace_print(trace, file, false);
		r = fclose(file) != 0 ? -ENOMEM
		    : oci->trace_file
			    ? append(oci->trace_file, text, bytes)
			    : util_write_all(STDERR_FILENO, text, bytes);
		if (r < 0)
			log_error("--trace: '%s': %s",
				  oci->trace_file ? oci->trace_file
						  : "standard error",
				  strerror(-r));
	}
	trace_free(trace);
}

/* ---- in the outer container */

struct trace *oci_trace_inside(void)
{
	const struct oci oci = {.root = (char[]){OCI_INSIDE}};
	struct trace *trace = read_file(&oci, "vm", OCI_TRACE_FILE);

	trace_mark(trace, TRACE_INIT);
	return trace;
}

void oci_trace_keep(const struct trace *trace)
{
	const struct oci oci = {.root = (char[]){OCI_INSIDE}};

	if (trace)
		write_file(&oci, "vm", OCI_TRACE_FILE, trace);
}
