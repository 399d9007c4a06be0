/* SPDX-License-Identifier: Apache-2.0 */
/* Messages of bulkhead-init. */
#include "firmware/init/failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int init_fail(struct init_failure *f, int status, int error, const char *format,
	      ...)
{
	va_list ap;
	size_t n;

	f->status = status;
	f->error = error;
	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	n = strlen(f->text);
	if (error)
		snprintf(f->text + n, sizeof(f->text) - n, ": %s",
			 strerror(error));
	return -1;
}

int init_fail_path(struct init_failure *f, int error, const char *what,
		   const char *path)
{
	return init_fail(f, INIT_STATUS_SETUP, error, "%s '%s'", what, path);
}

void init_say(const char *format, ...)
{
	char line[512];
	va_list ap;
	int n;

	va_start(ap, format);
	n = vsnprintf(line, sizeof(line), format, ap);
	va_end(ap);
	if (n > (int)sizeof(line) - 1)
		n = sizeof(line) - 1;
	dprintf(STDERR_FILENO, "bulkhead-init: %.*s\n", n, line);
}
