/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `ps`: the host's processes in a container's control group, in the form of
 * runc's. crun prints their numbers alone. A group of version 1 is spread over
 * hierarchies: there the host's runtime is asked.
 */
#include "tools/oci/oci.h"

#include "tools/oci/oci-options.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Groups within groups, which the container's root may have made. */
#define DEPTH_MAX 32

struct request {
	const char *format; /* NULL: a table */
	char **args;        /* of ps(1), as many as there are */
	int count;
};

static const struct oci_option options[] = {
	{"format", 'f', OCI_OWN_VALUE, offsetof(struct request, format)},
	{0},
};

/* ---- the processes */

static void add_processes(int group, json_t *pids)
{
	const int fd = openat(group, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	long long pid;

	/* One that this process cannot see is listed as 0. */
	while (file && fscanf(file, "%lld", &pid) == 1)
		if (pid > 0)
			(void)json_array_append_new(pids, json_integer(pid));
	if (file)
		(void)fclose(file);
	else if (fd >= 0)
		close(fd);
}

/* Those of GROUP and of all groups in it. Takes the descriptor. */
static void add_group(int group, unsigned depth, json_t *pids)
{
	DIR *list = fdopendir(group);
	struct dirent *entry;

	if (!list) {
		close(group);
		return;
	}
	add_processes(group, pids);
	while (depth > 0 && (entry = readdir(list))) {
		int fd = -1;

		if (entry->d_type == DT_DIR && entry->d_name[0] != '.')
			fd = openat(group, entry->d_name,
				    O_RDONLY | O_DIRECTORY | O_NOFOLLOW |
					    O_CLOEXEC);
		if (fd >= 0)
			add_group(fd, depth - 1, pids);
	}
	closedir(list);
}

static bool is_in(json_t *pids, json_int_t pid)
{
	json_t *one;
	size_t i;

	json_array_foreach(pids, i, one) {
		if (json_integer_value(one) == pid)
			return true;
	}
	return false;
}

/* ---- the table, by ps(1) */

/* The word of LINE, from 0, that says "PID"; -1: none does. */
static int find_column(const char *line)
{
	for (int i = 0; *line; i++) {
		const char *word = line + strspn(line, " ");
		const size_t n = strcspn(word, " ");

		if (n == 3 && strncmp(word, "PID", n) == 0)
			return i;
		line = word + n;
	}
	return -1;
}

/* The number that is LINE's word COLUMN; 0: it is none. */
static json_int_t number_at(const char *line, int column)
{
	for (; column > 0; column--) {
		line += strspn(line, " ");
		line += strcspn(line, " ");
	}
	return (json_int_t)strtoll(line, NULL, 10);
}

static int print_lines(char *text, json_t *pids)
{
	const char *line = strsep(&text, "\n");
	const int column = line ? find_column(line) : -1;

	if (column < 0)
		return log_ret(-EINVAL,
			       "ps: its table has no column PID, by which a "
			       "container's processes are found");
	puts(line);
	while ((line = strsep(&text, "\n")))
		if (line[0] && is_in(pids, number_at(line, column)))
			puts(line);
	return fflush(stdout) == 0 ? 0
				   : log_ret(-EIO, "ps: standard output: "
						   "cannot write");
}

static int print_table(const struct request *req, json_t *pids)
{
	struct text_list command = {0};
	autofree char *text = NULL;
	int r = text_list_add(&command, "/bin/ps");

	for (int i = 0; r == 0 && i < req->count; i++)
		r = text_list_add(&command, req->args[i]);
	if (r == 0 && req->count == 0)
		r = text_list_add(&command, "-ef");
	if (r == 0)
		r = oci_host_run(&command, &text);
	text_list_done(&command);
	if (r > 0)
		return log_ret(-EINVAL, "ps: /bin/ps ended with status %d", r);
	return r < 0 ? r : print_lines(text, pids);
}

static int print(const struct request *req, json_t *pids)
{
	if (!req->format || strcmp(req->format, "table") == 0)
		return print_table(req, pids);
	if (strcmp(req->format, "json") != 0)
		return log_ret(-EINVAL,
			       "ps: --format '%s': known are table and json",
			       req->format);
	return json_dumpf(pids, stdout, JSON_COMPACT) == 0 &&
			       putchar('\n') >= 0 && fflush(stdout) == 0
		       ? 0
		       : log_ret(-EIO, "ps: standard output: cannot write");
}

int oci_cmd_ps(struct oci *oci, int argc, char **argv)
{
	struct request req = {0};
	struct text_list pass = {0};
	autofd int process_fd = -1;
	json_t *pids;
	int group, r, n;

	if (!oci_group_is_unified(OCI_GROUPS))
		return oci_cmd_pass(oci, argc, argv);
	n = oci_options_parse(options, &req, &pass, argc, argv);
	if (n < 0)
		return OCI_EXIT_FAILED;
	if (n == argc)
		return log_ret(OCI_EXIT_FAILED, "ps: give a container id");
	req.args = argv + n + 1;
	req.count = argc - n - 1;
	if (oci_host_group(oci, argv[n], &process_fd, &group) < 0)
		return OCI_EXIT_FAILED;
	pids = json_array();
	add_group(group, DEPTH_MAX, pids);
	r = pids ? print(&req, pids) : log_ret(-ENOMEM, "out of memory");
	json_decref(pids);
	return r < 0 ? OCI_EXIT_FAILED : 0;
}
