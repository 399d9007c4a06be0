/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A host's words to bulkhead-init: the input is a session's bytes behind a
 * proper HELLO. Nothing is done with the machine; a process that is started is
 * a pair of pipes. It ends when all was sent.
 */
#include "firmware/init/oci.h"
#include "firmware/init/session.h"
#include "tests/agent.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FAKE_PID  0x3fffffff
#define STEPS_MAX 4096
#define INPUT_MAX (1 << 20)

static int fake_configure(const struct init_config *config,
			  struct init_failure *f)
{
	for (size_t i = 0; i < config->nmounts; i++) {
		if (strlen(config->mounts[i].target) == 0)
			abort();
	}
	for (size_t i = 0; i < config->ndevices; i++) {
		if (config->devices[i].path[0] != '/')
			abort();
	}
	for (size_t i = 0; i < config->masked.n; i++) {
		if (config->masked.list[i][0] != '/')
			abort();
	}
	for (size_t i = 0; i < config->nroutes; i++) {
		const struct init_route *r = &config->routes[i];

		if (r->link >= config->nlinks ||
		    !config->links[r->link].has_mac ||
		    r->wire.prefix > (r->wire.family == 4 ? 32 : 128))
			abort();
	}
	for (size_t i = 0; i < config->nneighbours; i++) {
		if (config->neighbours[i].link >= config->nlinks)
			abort();
	}
	if (config->nrules > AGENT_RULES_MAX)
		abort();
	if (config->naddresses > 7)
		return init_fail(f, INIT_STATUS_SETUP, ENOSPC, "addresses");
	return 0;
}

/* The process that crun would get. */
static void print_oci(const char *config, const struct init_start *start)
{
	const struct init_user user = {.ngroups = 1};
	char *text = NULL;
	size_t bytes = 0;
	FILE *file = open_memstream(&text, &bytes);

	if (!file)
		abort();
	oci_print_config(file, config, start, &user, start->env.list);
	if (fclose(file) != 0 || bytes < strlen(config) + 2 ||
	    strlen(text) != bytes)
		abort();
	free(text);
}

/*
 * Standard input and output of nothing: a loop of one pipe. The process that
 * has to report that the program runs has done so, or has died of it ("die").
 */
static int fake_start(struct container *box, const struct init_start *start,
		      struct process_starting *ret, struct init_failure *f)
{
	int fd[2], report[2];

	for (size_t i = 0; i < start->args.n; i++) {
		if (strlen(start->args.list[i]) >= AGENT_REQUEST_MAX)
			abort();
	}
	if (start->args.list[start->args.n])
		abort();
	if (box->config->oci)
		print_oci(box->config->oci, start);
	if (strcmp(start->args.list[0], "fail") == 0)
		return init_fail(f, INIT_STATUS_NOT_FOUND, ENOENT, "%s",
				 start->args.list[0]);
	if (pipe2(fd, O_CLOEXEC | O_NONBLOCK) < 0 ||
	    socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, report) < 0)
		abort();
	close(report[1]);
	*ret = PROCESS_STARTING_NONE;
	ret->report_fd = report[0];
	ret->ready = strcmp(start->args.list[0], "die") != 0;
	ret->is_main = start->flags & AGENT_START_MAIN;
	ret->child.pid = ret->ready ? FAKE_PID : 0;
	ret->child.in_fd = fd[1];
	ret->child.out_fd = fd[0];
	if (ret->is_main)
		box->main_pid = FAKE_PID;
	return 0;
}

static int fake_prepare(struct container *box, struct process_starting *ret,
			struct init_failure *f)
{
	const struct process_report report = {.kind = PROCESS_PREPARED};
	int pair[2];

	(void)f;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ||
	    process_tell(pair[1], &report, (const int[]){-1, -1}) < 0)
		abort();
	close(pair[1]);
	*ret = PROCESS_STARTING_NONE;
	ret->report_fd = pair[0];
	ret->is_main = ret->prepares = true;
	box->main_pid = FAKE_PID;
	return 0;
}

static void fake_kill(pid_t pid, int number)
{
	if (pid != FAKE_PID || number < 1 || number > 64)
		abort();
}

static const struct server_actions fake_actions = {
	.configure = fake_configure,
	.prepare = fake_prepare,
	.start = fake_start,
	.set_clock = agent_leave_clock,
	.add_entropy = agent_take_entropy,
	.hold = agent_hold_none,
	.rename = agent_rename_none,
	.kill = fake_kill,
};

static void send_hello(int fd)
{
	const struct agent_first hello = agent_first_words(AGENT_MAJOR);

	if (send(fd, &hello, sizeof(hello), MSG_NOSIGNAL) != sizeof(hello))
		abort();
}

/* The agent must send frames. */
static void check_answers(struct agent_reader *reader, int fd)
{
	struct agent_message m;
	int r;

	do {
		while ((r = agent_reader_next(reader, &m)) > 0) {
			if (m.type < AGENT_DONE && m.type != AGENT_HELLO &&
			    m.type != AGENT_INFO && m.type != AGENT_STATS)
				abort();
		}
		if (r < 0)
			abort();
	} while (agent_reader_fill(reader, fd) > 0);
}

static void run(struct server *server, int host, const uint8_t *data,
		size_t size)
{
	struct agent_reader reader;
	size_t sent = 0;

	if (agent_reader_init(&reader) < 0)
		abort();
	for (unsigned i = 0; i < STEPS_MAX; i++) {
		ssize_t n = sent < size ? send(host, data + sent, size - sent,
					       MSG_DONTWAIT | MSG_NOSIGNAL)
					: 0;

		sent += n > 0 ? (size_t)n : 0;
		if (server_step(server, 0) != 1)
			break;
		check_answers(&reader, host);
		if (sent == size && i % 3 == 2) {
			for (struct session *s = server->sessions; s;
			     s = s->next) {
				if (s->has_child && !s->exited)
					session_reaped(s, s->child.pid,
						       (int)size & 0x7f, false);
			}
			for (struct server_container *c = &server->first; c;
			     c = c->next)
				process_main_ended(&c->box);
			shutdown(host, SHUT_WR);
		}
		if (!server->sessions)
			break;
	}
	agent_reader_done(&reader);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct server server;
	int fd[2];

	if (size > INPUT_MAX)
		return 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) < 0 ||
	    fcntl(fd[0], F_SETFL, O_NONBLOCK) < 0 ||
	    server_init(&server, &fake_actions, -1) < 0 ||
	    server_add(&server, fd[1]) < 0)
		abort();
	send_hello(fd[0]);
	run(&server, fd[0], data, size);
	close(fd[0]);
	server_done(&server);
	return 0;
}
