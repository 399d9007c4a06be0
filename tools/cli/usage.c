/* SPDX-License-Identifier: Apache-2.0 */
/* How every subcommand answers a wrong command line. */
#include "tools/cli/usage.h"

#include "vmm/base/log.h"
#include "vmm/base/suggest.h"
#include "vmm/vm.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

int usage_error(const char *command, const char *format, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	if (command)
		log_error("%s (see bulkhead %s --help)", text, command);
	else
		log_error("%s (see bulkhead --help)", text);
	return VM_EXIT_USAGE;
}

static bool is_exact(const char *arg, const struct option *longs)
{
	const size_t len = strcspn(arg, "=");

	for (; longs->name; longs++)
		if (strlen(longs->name) == len &&
		    memcmp(longs->name, arg, len) == 0)
			return true;
	return false;
}

int usage_next(int argc, char **argv, const char *letters,
	       const struct option *longs)
{
	const int at = optind > 0 ? optind : 1;

	if (at < argc && strncmp(argv[at], "--", 2) == 0 &&
	    argv[at][2] != '\0' && !is_exact(argv[at] + 2, longs)) {
		optind = at + 1;
		optopt = 0;
		return '?';
	}
	return getopt_long(argc, argv, letters, longs, NULL);
}

int usage_getopt(const char *command, int result, char **argv,
		 const char *const *names)
{
	const char *arg = argv[optind - 1];
	char name[64];
	const char *near;

	if (result == ':')
		return usage_error(command, "%s: needs a value", arg);
	if (strncmp(arg, "--", 2) != 0)
		return usage_error(command, "'-%c': unknown option", optopt);
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(arg + 2, "="),
		 arg + 2);
	/* getopt_long() tells a known option by its value in optopt. */
	if (optopt)
		return usage_error(command, "--%s: takes no value", name);
	near = suggest(name, names);
	if (near)
		return usage_error(command,
				   "'--%s': unknown option; did you mean "
				   "--%s?",
				   name, near);
	return usage_error(command, "'--%s': unknown option", name);
}
