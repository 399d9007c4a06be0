/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs of the agent's own, and what they tell. All of it comes from the
 * guest: lengths, numbers and texts are checked, and there is an end to
 * patience.
 */
#include "tools/agent/agent.h"

#include "tools/agent/agent-parts.h"
#include "tools/spec/spec.h"
#include "vmm/base/log.h"
#include "vmm/base/text.h"
#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The first minor version that has them. */
#define OWN_MINOR 3
/* For all of an answer; it comes in pieces. */
#define COLLECT_MS  90000
#define COLLECT_MAX (32 * MIB)
#define ERROR_MAX   512
#define ACK_MS      5000
/* Linux gives no higher number. */
#define TOP_PID_MAX (1 << 22)

int agent_own(struct agent_session *agent, const char *const *argv, bool input)
{
	const struct agent_start_options options = {.own = true,
						    .input = input};
	struct spec_process process = {.args.item = (char **)(uintptr_t)argv};
	struct agent_failure failure;
	int r;

	if (agent->minor < OWN_MINOR)
		return log_ret(-ENOTSUP,
			       "the instance was started by an older bulkhead, "
			       "whose agent cannot do that: start it again");
	while (argv[process.args.count])
		process.args.count++;
	r = agent_start(agent, &process, &options, &failure, NULL);
	if (r == -EREMOTEIO)
		return log_ret(failure.error ? -failure.error : r,
			       "the guest's agent: %s", failure.text);
	return r;
}

/* ---- all that one writes */

struct collected {
	char *text; /* owned; ends with a NUL */
	size_t bytes, room;
	char error[ERROR_MAX]; /* the beginning of its standard error */
	size_t error_bytes;
};

static int take_output(struct collected *c, const struct agent_message *m)
{
	if (m->bytes == 0 || m->bytes > COLLECT_MAX - c->bytes)
		return agent_violation("more output than there can be");
	if (c->room - c->bytes <= m->bytes) {
		const size_t room = 2 * (c->bytes + m->bytes) + 1;
		char *more = realloc(c->text, room);

		if (!more)
			return log_ret(-ENOMEM, "out of memory");
		c->text = more;
		c->room = room;
	}
	memcpy(c->text + c->bytes, m->payload, m->bytes);
	c->bytes += m->bytes;
	c->text[c->bytes] = 0;
	return 0;
}

static void take_error(struct collected *c, const struct agent_message *m)
{
	const size_t n = (size_t)min_u64(m->bytes,
					 sizeof(c->error) - 1 - c->error_bytes);

	memcpy(c->error + c->error_bytes, m->payload, n);
	c->error_bytes += n;
}

/* It has ended. 1, or -errno, logged. */
static int take_end(struct agent_session *agent, struct collected *c,
		    const struct agent_message *m, const char *what)
{
	struct agent_exit wire;
	int r;

	if (agent_message_copy(m, &wire, sizeof(wire)))
		return agent_violation("an end that is none");
	agent->started = false;
	agent_put(agent, AGENT_EXIT_ACK, NULL, 0);
	r = agent_flush_all(agent, ACK_MS);
	if (r < 0)
		return r;
	c->error[strcspn(c->error, "\n")] = 0;
	text_make_printable(c->error);
	if (wire.status || wire.signal)
		return log_ret(-EREMOTEIO, "%s: in the guest: %s", what,
			       c->error[0] ? c->error : "it was killed");
	return 1;
}

/* Until its end. 0 or -errno, logged. */
static int collect(struct agent_session *agent, const char *what,
		   struct collected *c)
{
	const uint64_t end = util_now_ns() + COLLECT_MS * UINT64_C(1000000);
	int r = 0;

	while (r == 0) {
		const uint64_t now = util_now_ns();
		struct agent_message m;

		r = agent_await(agent,
				now < end ? (int)((end - now) / 1000000) : 0,
				&m);
		if (r < 0)
			return r;
		if (m.type == AGENT_STDOUT)
			r = take_output(c, &m);
		else if (m.type == AGENT_STDERR)
			take_error(c, &m);
		else if (m.type == AGENT_EXIT)
			r = take_end(agent, c, &m, what);
		else if (m.type == AGENT_STDIN_MORE && agent->input)
			r = agent_take_credit(agent, &m);
		else if (m.type == AGENT_STDIN_CLOSED && agent->input)
			agent->input = false;
		else
			r = agent_violation("a frame out of place");
	}
	return r < 0 ? r : 0;
}

/* ---- networks */

int agent_change_network(struct agent_session *agent,
			 const struct agent_link *links, size_t nlinks)
{
	static const char *const argv[] = {AGENT_OWN_NETWORK, NULL};
	struct agent_items items = {0};
	struct collected c = {0};
	int r;

	for (size_t i = 0; i < nlinks; i++)
		agent_add_exact_link(&items, &links[i]);
	r = items.error;
	if (r == 0 && items.bytes > AGENT_STDIN_WINDOW)
		r = -E2BIG;
	r = r < 0 ? log_ret(r, "the guest's network: %s", strerror(-r))
		  : agent_own(agent, argv, true);
	if (r == 0) {
		agent_put(agent, AGENT_STDIN, items.data, items.bytes);
		agent->window -= items.bytes;
		agent_put(agent, AGENT_STDIN_EOF, NULL, 0);
		r = agent_flush_all(agent, COLLECT_MS);
	}
	if (r == 0)
		r = collect(agent, "change the network", &c);
	agent_items_done(&items);
	free(c.text);
	return r;
}

/* ---- processes */

void agent_top_done(struct agent_top *top)
{
	for (size_t i = 0; i < top->count; i++) {
		free(top->list[i].user);
		free(top->list[i].command);
	}
	free(top->list);
	*top = (struct agent_top){0};
}

/* The next field of *AT that ends with END, which is cut off; or NULL. */
static char *next_field(char **at, char end)
{
	char *field = *at;
	char *stop = field ? strchr(field, end) : NULL;

	if (!stop)
		return NULL;
	*stop = 0;
	*at = stop + 1;
	return field;
}

static bool next_number(char **at, uint64_t max, uint64_t *ret)
{
	const char *field = next_field(at, ' ');

	return field && util_parse_number(field, 0, max, ret) == 0;
}

/* A line, without its end. 0, -EPROTO or -ENOMEM; P has what it was given. */
static int parse_process(char *line, struct agent_top_process *p)
{
	uint64_t pid, ppid, uid;
	const char *tty, *user;

	if (!next_number(&line, TOP_PID_MAX, &pid) ||
	    !next_number(&line, TOP_PID_MAX, &ppid) ||
	    !next_number(&line, UINT32_MAX, &uid) ||
	    !next_number(&line, UINT64_MAX, &p->age_ms) ||
	    !next_number(&line, UINT64_MAX, &p->cpu_ms) ||
	    !(tty = next_field(&line, '\t')) ||
	    !(user = next_field(&line, '\t')))
		return -EPROTO;
	p->pid = (unsigned)pid;
	p->ppid = (unsigned)ppid;
	p->uid = (unsigned)uid;
	if (pid == 0 || !tty[0] || strlen(tty) >= sizeof(p->tty) || !user[0] ||
	    strlen(line) > AGENT_TOP_COMMAND)
		return -EPROTO;
	strcpy(p->tty, tty);
	text_make_printable(p->tty);
	p->user = text_printable(user);
	p->command = text_printable(line);
	return p->user && p->command ? 0 : -ENOMEM;
}

static int add_process(struct agent_top *top, size_t *room, char *line)
{
	struct agent_top_process *p;
	int r;

	if (top->count == *room) {
		*room = *room ? 2 * *room : 32;
		p = reallocarray(top->list, *room, sizeof(*p));
		if (!p)
			return -ENOMEM;
		top->list = p;
	}
	p = &top->list[top->count++];
	*p = (struct agent_top_process){0};
	r = parse_process(line, p);
	if (r == 0 && top->count > 1 && p->pid <= p[-1].pid)
		r = -EPROTO;
	return r;
}

static int parse_top(char *text, size_t bytes, struct agent_top *ret)
{
	struct agent_top top = {0};
	size_t room = 0;
	char *line;
	int r = 0;

	if (text && strlen(text) != bytes)
		r = -EPROTO;
	while (r == 0 && text && *text) {
		line = next_field(&text, '\n');
		r = line ? add_process(&top, &room, line) : -EPROTO;
	}
	if (r == 0) {
		*ret = top;
		return 0;
	}
	agent_top_done(&top);
	return r == -EPROTO ? agent_violation("processes that cannot be")
			    : log_ret(r, "out of memory");
}

int agent_get_top(struct agent_session *agent, struct agent_top *ret)
{
	static const char *const argv[] = {AGENT_OWN_TOP, NULL};
	struct collected c = {0};
	int r = agent_own(agent, argv, false);

	if (r == 0)
		r = collect(agent, "list processes", &c);
	if (r == 0)
		r = parse_top(c.text, c.bytes, ret);
	free(c.text);
	return r;
}
