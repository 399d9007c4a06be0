/* SPDX-License-Identifier: Apache-2.0 */
/* Descriptions of containers and processes in files. */
#include "tools/spec/spec-parts.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

/* Pipes, too: there is no size to ask for. Allocated. */
static int read_file(const char *path, char **ret_text, size_t *ret_bytes)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC);
	autofree char *text = malloc(SPEC_FILE_MAX + 1);
	size_t used = 0;

	if (fd < 0)
		return log_ret(-errno, "'%s': %s", path, strerror(errno));
	if (!text)
		return log_ret(-ENOMEM, "out of memory");
	while (used <= SPEC_FILE_MAX) {
		ssize_t n = read(fd, text + used, SPEC_FILE_MAX + 1 - used);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return log_ret(-errno, "'%s': %s", path,
				       strerror(errno));
		if (n == 0)
			break;
		used += (size_t)n;
	}
	if (used > SPEC_FILE_MAX)
		return log_ret(-EFBIG,
			       "'%s': more than %d KiB: this is no description "
			       "of a container",
			       path, SPEC_FILE_MAX >> 10);
	*ret_text = take_ptr(text);
	*ret_bytes = used;
	return 0;
}

json_t *spec_load_file(const char *path)
{
	autofree char *text = NULL;
	size_t bytes = 0;

	return read_file(path, &text, &bytes) < 0
		       ? NULL
		       : spec_parse(path, text, bytes);
}

int spec_read_file(const char *path, struct spec *ret)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	int r = read_file(path, &text, &bytes);

	return r < 0 ? r : spec_read(path, text, bytes, ret);
}

int spec_process_read_file(const char *path, struct spec_process *ret)
{
	autofree char *text = NULL;
	size_t bytes = 0;
	int r = read_file(path, &text, &bytes);

	return r < 0 ? r : spec_process_read(path, text, bytes, ret);
}
