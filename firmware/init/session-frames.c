/* SPDX-License-Identifier: Apache-2.0 */
/* The frames of a session: into its buffer, to the host, out of messages. */
#include "firmware/init/session-parts.h"

#include <assert.h>
#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

void session_put(struct session *s, enum agent_type type, const void *payload,
		 size_t bytes)
{
	const struct agent_frame frame = agent_frame_make(type, bytes);

	assert(SESSION_OUT_ROOM - s->out_end >= SESSION_HEADER + bytes);
	memcpy(s->out + s->out_end, &frame, SESSION_HEADER);
	if (bytes > 0)
		memcpy(s->out + s->out_end + SESSION_HEADER, payload, bytes);
	s->out_end += SESSION_HEADER + bytes;
}

bool session_flush(struct session *s)
{
	while (s->fd >= 0 && s->out_start < s->out_end) {
		ssize_t n = send(s->fd, s->out + s->out_start,
				 s->out_end - s->out_start,
				 MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return true;
		if (n < 0)
			return false;
		s->out_start += (size_t)n;
	}
	s->out_start = 0;
	s->out_end = 0;
	return true;
}

void session_put_failed(struct session *s, const struct init_failure *f)
{
	const size_t text = strlen(f->text) + 1;
	struct {
		struct agent_failed head;
		char text[AGENT_TEXT_MAX];
	} failed;

	failed.head.status = htole32((uint32_t)f->status);
	failed.head.error = htole32((uint32_t)f->error);
	memcpy(failed.text, f->text, text);
	session_put(s, AGENT_FAILED, &failed, sizeof(failed.head) + text);
}

bool session_read_signal(const struct agent_message *m, int *ret)
{
	struct agent_signal wire;

	if (agent_message_copy(m, &wire, sizeof(wire)) ||
	    le32toh(wire.signal) < 1 || le32toh(wire.signal) > 64)
		return false;
	*ret = (int)le32toh(wire.signal);
	return true;
}
