/* SPDX-License-Identifier: Apache-2.0 */
/* See print.h. */
#include "tools/cli/print.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <time.h>

int print_json(const json_t *json, size_t flags)
{
	autofree char *text = json ? json_dumps(json, flags) : NULL;
	autofree char *safe = text_json(text);

	if (!safe)
		return log_ret(-ENOMEM, "out of memory");
	puts(safe);
	return 0;
}

void print_format_date(int64_t seconds, char ret[PRINT_DATE])
{
	const time_t t = (time_t)seconds;
	struct tm tm;

	if (!localtime_r(&t, &tm) ||
	    strftime(ret, PRINT_DATE, "%Y-%m-%d %H:%M", &tm) == 0)
		snprintf(ret, PRINT_DATE, "?");
}
