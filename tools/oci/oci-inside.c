/* SPDX-License-Identifier: Apache-2.0 */
/* `init`, `join` and `relay`, in the outer container, have these in common. */
#include "tools/oci/oci.h"

#include "tools/agent/agent.h"
#include "tools/container/run.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#define LOOK_MS 5
#define KILLED  137 /* as after SIGKILL */

bool oci_has_input(void)
{
	struct stat st;

	return fstat(STDIN_FILENO, &st) < 0 || !S_ISCHR(st.st_mode) ||
	       st.st_rdev != makedev(1, 3);
}

/* The share's device names what is not there, if it matters. */
static int check_no_link(const char *path)
{
	autofree char *real = realpath(path, NULL);

	return !real || strcmp(real, path) == 0
		       ? 0
		       : log_ret(-EPERM, "the image has '%s' in place of '%s'",
				 real, path);
}

/* The guest gets none of the files that are here for the monitor. */
int oci_check_sources(const struct spec *spec)
{
	static const char *const ours[] = {OCI_INSIDE, "/proc", "/sys"};
	int r = 0;

	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(ours); i++)
		r = check_no_link(ours[i]);
	for (size_t i = 0; r == 0 && i < spec->nmounts; i++) {
		const struct spec_mount *mount = &spec->mounts[i];
		autofree char *path = NULL;

		if (!spec_is_bind(mount) || !mount->source)
			continue;
		path = realpath(mount->source, NULL);
		if (path)
			r = oci_bundle_check_source(mount->destination, path);
	}
	return r;
}

void oci_find_size(struct spec_process *process)
{
	struct winsize size;

	if (!process->terminal || ioctl(STDIN_FILENO, TIOCGWINSZ, &size) < 0)
		return;
	process->console_height = size.ws_row;
	process->console_width = size.ws_col;
}

void oci_note_started(void)
{
	const int fd = open(OCI_INSIDE_VM "/" OCI_STARTED_FILE,
			    O_WRONLY | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		log_warn("'" OCI_INSIDE_VM "/" OCI_STARTED_FILE "': %s",
			 strerror(errno));
	else
		close(fd);
}

int oci_await_machine(const char *started, int gone_fd)
{
	struct pollfd pfd = {.fd = gone_fd, .events = POLLIN};

	for (int ms = 0; ms < OCI_MACHINE_MS; ms += LOOK_MS) {
		if (access(started, F_OK) == 0)
			return 0;
		if (poll(&pfd, 1, LOOK_MS) > 0)
			return log_ret(-ECONNRESET,
				       "the machine ended as it started");
	}
	return log_ret(-ETIME, "the machine still starts");
}

int oci_relay(struct agent_session *agent, const struct spec_process *process,
	      bool input, bool *ret_oom)
{
	const struct agent_relay relay = {
		.in_fd = input ? STDIN_FILENO : -1,
		.out_fd = STDOUT_FILENO,
		.err_fd = STDERR_FILENO,
		.tty = process->terminal && input,
		.forward_signals = true,
		.every_signal = true,
		.gone_fd = -1,
	};
	struct agent_status status;
	int r = agent_relay(agent, &relay, &status);

	/* The machine has ended, and what ran in it. */
	if (r == -ECONNRESET || r == -EINTR)
		return KILLED;
	if (r < 0)
		return RUN_EXIT_FAILED;
	if (ret_oom && status.oom)
		*ret_oom = true;
	return status.status;
}
