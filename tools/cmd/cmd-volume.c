/* SPDX-License-Identifier: Apache-2.0 */
/* `bulkhead volume`: which named volumes there are. */
#include "tools/cmd/cmd.h"

#include "tools/instance/instance.h"
#include "tools/cli/options.h"
#include "tools/cli/usage.h"
#include "tools/instance/volume.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"
#include "vmm/vm.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct request {
	bool quiet;
};

static const struct option_entry entries[] = {
	{"quiet", 'q', NULL, OPTION_FLAG, offsetof(struct request, quiet), NULL,
	 "print names only"},
	{0},
};

static const struct option_table table = {
	.command = "volume",
	.synopsis = "usage: bulkhead volume [ls] [OPTION]...\n"
		    "       bulkhead volume create NAME...\n"
		    "       bulkhead volume rm NAME...\n"
		    "\n"
		    "Lists, makes or removes named volumes. 'bulkhead run -v "
		    "NAME:DIR' makes one, too.\n"
		    "They are plain directories.\n",
	.entries = entries,
};

static int print_one(const char *name, const char *path, void *arg)
{
	const struct request *req = arg;
	autofree char *shown = text_printable(name);
	autofree char *where = text_printable(path);

	if (!shown || !where)
		return log_ret(-ENOMEM, "out of memory");
	if (req->quiet)
		puts(shown);
	else
		printf("%-20s  %s\n", shown, where);
	return 0;
}

static int list(struct request *req)
{
	if (!req->quiet)
		printf("%-20s  %s\n", "NAME", "DIRECTORY");
	return volume_each(print_one, req) < 0 ? VM_EXIT_HOST : VM_EXIT_OK;
}

static int create(const char *name)
{
	char *path = NULL;
	int fd = -1;
	int r = volume_open(name, &path, &fd);

	free(path);
	util_close(&fd);
	return r;
}

static int each(int (*act)(const char *name), char **names)
{
	int status = VM_EXIT_OK;

	for (; *names; names++) {
		if (act(*names) < 0)
			status = INSTANCE_EXIT_FAILED;
		else
			puts(*names);
	}
	return status;
}

int cmd_volume(int argc, char **argv)
{
	const char *verb = argc > 1 && argv[1][0] != '-' ? argv[1] : NULL;
	struct request req = {0};
	int skip = verb != NULL;
	int n = options_parse(&table, &req, argc - skip, argv + skip);

	if (n == OPTIONS_HELP)
		return VM_EXIT_OK;
	if (n < 0)
		return VM_EXIT_USAGE;
	n += skip;
	if (!verb || strcmp(verb, "ls") == 0)
		return n == argc ? list(&req)
				 : usage_error("volume",
					       "'%s': unexpected argument",
					       argv[n]);
	if (strcmp(verb, "create") != 0 && strcmp(verb, "rm") != 0)
		return usage_error("volume", "'%s': neither ls, create nor rm",
				   verb);
	if (n == argc)
		return usage_error("volume", "give the name of a volume");
	return each(strcmp(verb, "rm") == 0 ? volume_remove : create, &argv[n]);
}
