/* SPDX-License-Identifier: Apache-2.0 */
/* Loads modules by finit_module(2). */
#include "firmware/init/modules.h"

#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

int modules_open_log(void)
{
	return open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
}

void modules_say_to(int log_fd, const char *format, ...)
{
	char line[512], text[480];
	va_list ap;
	int n;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	/*
	 * <3>: an error, which "quiet" lets through. A line has to come in one
	 * write(2), and dprintf(3) fails here, as there is nothing to seek in.
	 */
	n = snprintf(line, sizeof(line), "<3>bulkhead-init: %s\n", text);
	if (write(log_fd < 0 ? STDERR_FILENO : log_fd, line, (size_t)n) < 0)
		return;
}

static void load(const char *path)
{
	autofd int fd = open(path, O_RDONLY | O_CLOEXEC);

	/* One that is there already has been asked for by two lists. */
	if (fd < 0 ||
	    (syscall(SYS_finit_module, fd, "", 0) < 0 && errno != EEXIST))
		modules_say("module '%s': %s", path,
			    errno == ENOEXEC ? "not one of this kernel's"
			    : errno == EKEYREJECTED
				    ? "its signature is not this kernel's"
				    : strerror(errno));
}

int modules_load(const char *list, int remove)
{
	char path[PATH_MAX], line[NAME_MAX + 2];
	FILE *file;

	snprintf(path, sizeof(path), "/modules/%s", list);
	file = fopen(path, "re");
	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file)) {
		line[strcspn(line, "\n")] = '\0';
		snprintf(path, sizeof(path), "/modules/%s", line);
		load(path);
		if (remove)
			unlink(path);
	}
	fclose(file);
	return 0;
}
