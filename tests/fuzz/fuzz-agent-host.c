/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A guest's agent's words to the host: the input is its side of a session, from
 * the first byte. The host configures, starts a process with a terminal or
 * without, and relays until the end.
 */
#include "tests/agent.h"
#include "tools/agent/agent.h"

#include "tools/agent/agent-parts.h"
#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* More would fill the socket: the other side reads nothing. */
#define INPUT_MAX 65536
/* More than the window, less than the socket takes. */
#define STDIN_BYTES 100000

struct sums {
	size_t bytes;
};

static void check_memory(void *arg, const struct agent_memory *memory)
{
	(void)arg;
	if (memory->what < AGENT_MEMORY_SHORT ||
	    memory->what > AGENT_MEMORY_KILLED)
		abort();
}

static int count(void *arg, int stream, const void *data, size_t bytes)
{
	struct sums *sums = arg;
	const uint8_t *p = data;

	if ((stream != 1 && stream != 2) || bytes == 0 ||
	    bytes > AGENT_PAYLOAD_MAX)
		abort();
	/* Reads all of it, for ASan. */
	for (size_t i = 0; i < bytes; i++)
		sums->bytes += p[i];
	return 0;
}

/* Asks for the processes, and checks the list. */
static void use_own(struct agent_session *agent)
{
	struct agent_stats stats;
	struct agent_top top;

	if (agent->minor >= 5 && agent_get_stats(agent, &stats) < 0)
		return;
	if (agent_get_top(agent, &top) < 0)
		return;
	for (size_t i = 0; i < top.count; i++) {
		const struct agent_top_process *p = &top.list[i];

		if ((i > 0 && p->pid <= p[-1].pid) || !p->user[0] ||
		    strlen(p->command) > AGENT_TOP_COMMAND)
			abort();
		for (const char *c = p->command; *c; c++) {
			if ((unsigned char)*c < ' ')
				abort();
		}
	}
	agent_top_done(&top);
}

static void use(struct agent_session *agent, bool input)
{
	static const char *const argv[] = {"command", NULL};
	static const char *const dns[] = {"10.0.2.3", NULL};
	const struct agent_config config = {
		.hostname = "box", .root_tag = "rootfs", .dns = dns};
	const struct spec_process process = {AGENT_COMMAND(argv)};
	const struct agent_start_options options = {.main = true,
						    .input = input};
	struct sums sums = {0};
	struct agent_relay relay = {
		.in_fd = -1,
		.out_fd = -1,
		.err_fd = -1,
		.output = count,
		.memory = check_memory,
		.arg = &sums,
		.gone_fd = -1,
	};
	struct agent_failure failure;
	struct agent_status status = {.status = -1};
	struct agent_facts facts;

	if (agent->minor >= 3) {
		use_own(agent);
		return;
	}
	if ((input && agent_watch(agent, 10) < 0) ||
	    agent_get_facts(agent, &facts) < 0 ||
	    agent_configure(agent, &config) < 0)
		return;
	if (agent_start(agent, &process, &options, &failure, NULL) < 0)
		return;
	if (input) {
		relay.in_fd = memfd_create("input", MFD_CLOEXEC);
		if (ftruncate(relay.in_fd, STDIN_BYTES) < 0)
			abort();
	}
	if (agent_relay(agent, &relay, &status) == 0 &&
	    (status.status < 0 || status.status > 255))
		abort();
	if (input)
		close(relay.in_fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct agent_session *agent;
	int fd[2];

	if (size > INPUT_MAX)
		return 0;
	log_setup(LOG_ERROR, false);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0)
		abort();
	if (send(fd[1], data, size, MSG_DONTWAIT) != (ssize_t)size)
		abort();
	shutdown(fd[1], SHUT_WR);
	if (agent_open(fd[0], 1000, &agent) == 0) {
		use(agent, size & 1);
		agent_free(agent);
	}
	close(fd[1]);
	return 0;
}
