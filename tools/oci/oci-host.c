/* SPDX-License-Identifier: Apache-2.0 */
/* Finding the host's runtime, and running it. */
#include "tools/oci/oci.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#define OUTPUT_MAX (16 << 20)

/* Engines call with a short PATH, or none. */
#define PLACES "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

static char *find_in(const char *places, const char *name)
{
	for (const char *p = places; p && *p;) {
		const size_t n = strcspn(p, ":");
		char *path;

		if (asprintf(&path, "%.*s/%s", (int)n, p, name) < 0)
			return NULL;
		if (n > 0 && access(path, X_OK) == 0)
			return path;
		free(path);
		p += n + (p[n] == ':');
	}
	return NULL;
}

int oci_host_find(struct oci *oci)
{
	static const char *const names[] = {"runc", "crun"};

	for (unsigned i = 0; !oci->host && i < ARRAY_LEN(names); i++) {
		oci->host = find_in(getenv("PATH"), names[i]);
		if (!oci->host)
			oci->host = find_in(PLACES, names[i]);
	}
	return oci->host ? 0
			 : log_ret(-ENOENT,
				   "neither runc nor crun is installed, and "
				   "one of them makes the host's half of a "
				   "container: install one (Debian: apt-get "
				   "install runc)");
}

int oci_host_command(struct oci *oci, const char *name, struct text_list *ret)
{
	autofree char *root = NULL;
	int r = oci_host_find(oci);

	if (r < 0)
		return r;
	root = oci_path(oci, "@host", NULL);
	if (!root)
		return -ENOMEM;
	r = text_list_add(ret, oci->host);
	if (r == 0)
		r = text_list_add(ret, "--root");
	if (r == 0)
		r = text_list_add(ret, root);
	for (unsigned i = 0; r == 0 && i < oci->pass.count; i++)
		r = text_list_add(ret, oci->pass.item[i]);
	return r < 0 ? r : text_list_add(ret, name);
}

int oci_host_exec(const struct text_list *command)
{
	/* Else its hooks would not hear of these, either. */
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	execv(command->item[0], command->item);
	return log_ret(OCI_EXIT_FAILED, "cannot execute '%s': %s",
		       command->item[0], strerror(errno));
}

/* All that comes from FD, as a text. */
static int read_all(int fd, char **ret)
{
	size_t used = 0, room = 4096;
	char *text = malloc(room);
	ssize_t n = 0;

	while (text && used < OUTPUT_MAX) {
		n = read(fd, text + used, room - used - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		used += (size_t)n;
		if (room - used < 2) {
			char *more = realloc(text, room * 2);

			if (!more)
				free(text);
			text = more;
			room *= 2;
		}
	}
	if (!text || n < 0 || used >= OUTPUT_MAX) {
		free(text);
		return !text ? -ENOMEM : n < 0 ? -errno : -EFBIG;
	}
	text[used] = '\0';
	*ret = text;
	return 0;
}

int oci_host_run(const struct text_list *command, char **ret_output)
{
	int ends[2] = {-1, -1};
	int status, r = 0;
	pid_t pid;

	if (ret_output && pipe2(ends, O_CLOEXEC) < 0)
		return log_ret(-errno, "pipe: %s", strerror(errno));
	pid = fork();
	if (pid == 0) {
		if (ret_output && dup2(ends[1], STDOUT_FILENO) < 0)
			_exit(OCI_EXIT_FAILED);
		_exit(oci_host_exec(command));
	}
	util_close(&ends[1]);
	if (pid < 0)
		r = -errno;
	else if (ret_output)
		r = read_all(ends[0], ret_output);
	util_close(&ends[0]);
	if (pid < 0)
		return log_ret(r, "fork: %s", strerror(-r));
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return log_ret(-errno, "waiting for '%s': %s",
				       command->item[0], strerror(errno));
	if (r < 0)
		return log_ret(r, "output of '%s': %s", command->item[0],
			       strerror(-r));
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
