/* SPDX-License-Identifier: Apache-2.0 */
/* See print.h. */
#include "tools/cli/print.h"

#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>

int print_json(const json_t *json, size_t flags)
{
	autofree char *text = json ? json_dumps(json, flags) : NULL;
	autofree char *safe = text_json(text);

	if (!safe)
		return log_ret(-ENOMEM, "out of memory");
	puts(safe);
	return 0;
}
