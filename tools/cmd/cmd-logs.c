/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead logs`: what an instance's command wrote. */
#include "tools/cmd/cmd.h"

#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/instance/runlog.h"
#include "tools/cli/usage.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FOLLOW_STEP_MS 50

struct request {
	bool follow, timestamps;
	const char *tail_text;
	bool has_tail;
	uint64_t tail; /* lines from the end */
	char *data;    /* RUNLOG_RECORD_MAX bytes */
	/* per stream: the next byte begins a line */
	bool line_start[RUNLOG_STDERR + 1];
};

static const struct option_entry entries[] = {
	{"follow", 'f', NULL, OPTION_FLAG, offsetof(struct request, follow),
	 NULL, "keep printing until the instance ends"},
	{"tail", 'n', "N", OPTION_TEXT, offsetof(struct request, tail_text),
	 NULL, "print only the last N lines [all]"},
	{"timestamps", 't', NULL, OPTION_FLAG,
	 offsetof(struct request, timestamps), NULL,
	 "begin each line with its time"},
	{0},
};

static const struct option_table table = {
	.command = "logs",
	.synopsis = "usage: bulkhead logs [OPTION]... NAME\n"
		    "\n"
		    "Prints what the instance's command wrote: its standard "
		    "output here on\n"
		    "standard output, its standard error on standard error. "
		    "The last 8 to 16\n"
		    "MiB are kept.\n",
	.entries = entries,
};

static uint64_t count_lines(const char *data, size_t bytes)
{
	uint64_t lines = 0;

	for (size_t i = 0; i < bytes; i++)
		lines += data[i] == '\n';
	return lines;
}

/* How many lines there are now; a last one without its end counts. */
static uint64_t all_lines(const struct instance *instance, char *data)
{
	struct runlog_reader reader;
	struct runlog_record record;
	uint64_t lines = 0;
	bool open_line = false;

	runlog_reader_init(&reader, instance->dir_fd);
	while (runlog_next(&reader, &record, data) == 1) {
		lines += count_lines(data, record.bytes);
		open_line = data[record.bytes - 1] != '\n';
	}
	runlog_reader_done(&reader);
	return lines + open_line;
}

static int print_time(int fd, int64_t time_ns)
{
	const time_t seconds = (time_t)(time_ns / 1000000000);
	char text[64], date[32];
	struct tm tm;
	int n;

	gmtime_r(&seconds, &tm);
	strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%S", &tm);
	n = snprintf(text, sizeof(text), "%s.%09lldZ ", date,
		     (long long)(time_ns % 1000000000));
	return util_write_all(fd, text, (size_t)n);
}

/* With times, line by line; 0 or -errno. */
static int print_lines(struct request *req, const struct runlog_record *record,
		       const char *data, size_t bytes)
{
	const int fd = (int)record->stream;
	int r = 0;

	while (bytes > 0 && r == 0) {
		const char *end = memchr(data, '\n', bytes);
		size_t n = end ? (size_t)(end - data) + 1 : bytes;

		if (req->line_start[fd])
			r = print_time(fd, record->time_ns);
		if (r == 0)
			r = util_write_all(fd, data, n);
		req->line_start[fd] = end != NULL;
		data += n;
		bytes -= n;
	}
	return r;
}

/* Leaves out what lies before the last lines wanted. */
static size_t skip_lines(uint64_t *skip, const char *data, size_t bytes)
{
	size_t at = 0;

	while (*skip > 0 && at < bytes)
		*skip -= data[at++] == '\n';
	return at;
}

static int print_record(struct request *req, const struct runlog_record *record,
			uint64_t *skip)
{
	size_t at = skip_lines(skip, req->data, record->bytes);

	if (record->stream != RUNLOG_STDOUT && record->stream != RUNLOG_STDERR)
		return -EINVAL;
	if (!req->timestamps)
		return util_write_all((int)record->stream, req->data + at,
				      record->bytes - at);
	return print_lines(req, record, req->data + at, record->bytes - at);
}

static int print_log(struct request *req, const struct instance *instance)
{
	uint64_t skip = 0;
	struct runlog_reader reader;
	struct runlog_record record;
	int r = 0;

	if (req->has_tail) {
		uint64_t lines = all_lines(instance, req->data);

		skip = lines > req->tail ? lines - req->tail : 0;
	}
	runlog_reader_init(&reader, instance->dir_fd);
	while (r == 0) {
		/* Ask before the last look, or the last output is missed. */
		bool alive = req->follow && instance_is_alive(instance);

		while ((r = runlog_next(&reader, &record, req->data)) == 1) {
			r = print_record(req, &record, &skip);
			if (r < 0)
				break;
		}
		if (r < 0 || !alive)
			break;
		poll(NULL, 0, FOLLOW_STEP_MS);
	}
	runlog_reader_done(&reader);
	return r;
}

static int run(struct request *req, const char *name)
{
	struct instance instance;
	int r;

	if (req->tail_text && strcmp(req->tail_text, "all") != 0) {
		if (util_parse_number(req->tail_text, 0, UINT32_MAX,
				      &req->tail) < 0)
			return usage_error("logs",
					   "--tail '%s': neither a whole "
					   "number nor 'all'",
					   req->tail_text);
		req->has_tail = true;
	}
	instance_sweep();
	if (instance_open(name, &instance) < 0)
		return INSTANCE_EXIT_FAILED;
	req->data = malloc(RUNLOG_RECORD_MAX);
	r = req->data ? print_log(req, &instance) : -ENOMEM;
	/* Nobody reads any more: `logs | head` is no error. */
	if (r < 0 && r != -EPIPE)
		log_error("log of '%s': %s", name,
			  r == -EINVAL ? "the file is damaged" : strerror(-r));
	free(req->data);
	instance_done(&instance);
	return r < 0 && r != -EPIPE ? INSTANCE_EXIT_FAILED : VM_EXIT_OK;
}

int cmd_logs(int argc, char **argv)
{
	struct request req = {
		.line_start = {[RUNLOG_STDOUT] = true, [RUNLOG_STDERR] = true},
	};
	int n = options_parse(&table, &req, argc, argv);

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	if (n != argc - 1)
		return usage_error("logs", "give the name of one instance");
	return run(&req, argv[n]);
}
