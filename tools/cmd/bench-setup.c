/* SPDX-License-Identifier: Apache-2.0 */
/* The root, the command and the drivers of a measurement. */
#include "tools/cmd/bench-parts.h"

#include "tools/cli/print.h"
#include "tools/cli/text-list.h"
#include "tools/cli/usage.h"
#include "tools/guest/kernel.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define IDLE_NS 500000000

static int out_of_memory(void)
{
	return log_ret(VM_EXIT_HOST, "out of memory");
}

/* The name in ONLY that no driver has, allocated; NULL: none, or no memory. */
static char *find_unknown(const struct bench_drivers *drivers, const char *only)
{
	while (*only) {
		const size_t len = strcspn(only, ",");
		char *name = strndup(only, len);

		if (!name || !bench_drivers_get(drivers, name))
			return name;
		free(name);
		only += len + (only[len] == ',');
	}
	return NULL;
}

static char *names_of(const struct bench_drivers *drivers)
{
	struct text_list names = {0};
	char *text;

	for (unsigned i = 0; i < drivers->count; i++)
		if (text_list_add(&names, drivers->item[i].name) < 0)
			break;
	text = names.count > 0 ? text_list_join(&names, ", ") : NULL;
	text_list_done(&names);
	return text;
}

int bench_setup_find(struct bench_setup *setup, const struct option_list *files,
		     const char *only)
{
	struct text_list list = {0};
	autofree char *unknown = NULL;
	int r = 0;

	setup->root = (struct rootfs){.hold = -1};
	setup->what.only = only;
	for (unsigned i = 0; r == 0 && i < files->count; i++)
		r = text_list_add(&list, files->item[i]);
	if (r == 0)
		r = bench_drivers_find(&setup->drivers,
				       (const char *const *)list.item);
	text_list_done(&list);
	if (r < 0)
		return VM_EXIT_USAGE;
	if (only && (unknown = find_unknown(&setup->drivers, only))) {
		autofree char *names = names_of(&setup->drivers);

		text_make_printable(unknown);
		return usage_error("bench", "--only '%s': known are %s",
				   unknown, names ? names : "none");
	}
	return VM_EXIT_OK;
}

/* The file of bulkhead-runtime beside this program's, if it is there. */
static int find_programs(struct bench_setup *setup)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	self[n > 0 ? n : 0] = '\0';
	setup->self = strdup(self);
	if (!setup->self || asprintf(&setup->runtime, "%s-runtime", self) < 0) {
		setup->runtime = NULL;
		return out_of_memory();
	}
	if (access(setup->runtime, X_OK) < 0) {
		free(setup->runtime);
		setup->runtime = NULL;
	}
	return VM_EXIT_OK;
}

static int join_arguments(struct bench_setup *setup, char *const *command)
{
	struct text_list list = {0};

	if (text_list_add(&list, "") == 0 &&
	    text_list_add_all(&list, (const char *const *)command + 1) == 0)
		setup->arguments = text_list_join(&list, " ");
	text_list_done(&list);
	return setup->arguments ? VM_EXIT_OK : out_of_memory();
}

int bench_setup_open(struct bench_setup *setup, const char *root,
		     char *const *command)
{
	const struct rootfs_options usual = {0};
	struct bench_what *what = &setup->what;
	int status = find_programs(setup);

	if (status == VM_EXIT_OK)
		status = join_arguments(setup, command);
	if (status != VM_EXIT_OK)
		return status;
	if (rootfs_open(root, &usual, &setup->root) < 0)
		return VM_EXIT_USAGE;
	setup->kernel = kernel_own();
	snprintf(setup->tag, sizeof(setup->tag), "bulkhead-bench-%d",
		 (int)getpid());
	what->root = root;
	what->tree = setup->root.path;
	what->command = command;
	what->arguments = setup->arguments;
	what->self = setup->self;
	what->runtime = setup->runtime;
	what->kernel = setup->kernel;
	what->tag = setup->tag;
	if (!what->signals) {
		what->signals = &setup->signals;
		bench_signals_take(&setup->signals);
	}
	return VM_EXIT_OK;
}

void bench_setup_done(struct bench_setup *setup)
{
	bench_peers_done(&setup->peers, &setup->what);
	if (setup->what.tree)
		rootfs_close(&setup->root);
	bench_drivers_done(&setup->drivers);
	free(setup->self);
	free(setup->runtime);
	free(setup->kernel);
	free(setup->arguments);
}

bool bench_number(const char *option, const char *text, uint64_t min,
		  uint64_t max, uint64_t *ret)
{
	if (!text || util_parse_number(text, min, max, ret) == 0)
		return true;
	(void)usage_error("bench", "--%s '%s': not a number from %llu to %llu",
			  option, text, (unsigned long long)min,
			  (unsigned long long)max);
	return false;
}

void bench_watch_host(struct bench_host *from, struct bench_host *to)
{
	const struct timespec ns = {.tv_nsec = IDLE_NS};

	bench_host_look(from);
	(void)nanosleep(&ns, NULL);
	bench_host_look(to);
}

int bench_check_measured(const struct bench_setup *setup)
{
	const struct bench_peer *missing = NULL;
	bool any = false;

	for (unsigned i = 0; i < setup->peers.count; i++) {
		const struct bench_peer *peer = &setup->peers.item[i];

		any = any || !peer->why_not;
		if (peer->why_not && setup->what.only &&
		    bench_is_named(setup->what.only, peer->driver->name))
			missing = peer;
	}
	if (missing)
		return log_ret(VM_EXIT_HOST, "%s: %s", missing->driver->name,
			       missing->why_not);
	return any ? VM_EXIT_OK
		   : log_ret(VM_EXIT_HOST, "nothing could be measured");
}

int bench_show_document(const struct bench_options *options,
			const json_t *document)
{
	/* A file that cannot be written costs none of the other forms. */
	const int csv =
		options->csv ? bench_write_csv(document, options->csv) : 0;
	const int html =
		options->html ? bench_write_html(document, options->html) : 0;
	const int r =
		options->json
			? print_json(document,
				     JSON_INDENT(1) | JSON_REAL_PRECISION(9))
			: bench_print(document);

	return csv < 0 || html < 0 || r < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}

/* A pipe's reader would see its end: only a file can be tried. */
static int try_file(const char *file)
{
	autofd int fd = -1;
	struct stat st;
	int r;

	if (!file || (stat(file, &st) == 0 && !S_ISREG(st.st_mode)))
		return VM_EXIT_OK;
	fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
	r = fd < 0 ? errno : 0;
	return r == 0 ? VM_EXIT_OK
		      : log_ret(VM_EXIT_USAGE,
				"'%s' cannot be written: %s: nothing was "
				"measured",
				file, strerror(r));
}

int bench_check_files(const struct bench_options *options)
{
	const int status = try_file(options->csv);

	return status == VM_EXIT_OK ? try_file(options->html) : status;
}

int bench_show_result(const struct bench_options *options,
		      const struct bench_setup *setup,
		      const struct bench_result *result, int r)
{
	json_t *document;
	int status;

	if (setup->signals.came)
		return 128 + setup->signals.came;
	if (r < 0)
		return VM_EXIT_HOST;
	document = bench_document(result);
	if (!document)
		return out_of_memory();
	status = bench_show_document(options, document);
	json_decref(document);
	return status == VM_EXIT_OK ? bench_check_measured(setup) : status;
}
