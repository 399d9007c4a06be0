/* SPDX-License-Identifier: Apache-2.0 */
/* Frames and items of the agent's protocol; see docs/AGENT. */
#include "firmware/agent/agent-wire.h"

#include "vmm/base/util.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define READER_ROOM (sizeof(struct agent_frame) + AGENT_PAYLOAD_MAX)

int agent_reader_init(struct agent_reader *r)
{
	*r = (struct agent_reader){.buf = malloc(READER_ROOM)};
	return r->buf ? 0 : -ENOMEM;
}

void agent_reader_done(struct agent_reader *r)
{
	free(r->buf);
	*r = (struct agent_reader){0};
}

ssize_t agent_reader_fill(struct agent_reader *r, int fd)
{
	ssize_t n;

	if (r->start > 0) {
		r->end -= r->start;
		memmove(r->buf, r->buf + r->start, r->end);
		r->start = 0;
	}
	do {
		n = recv(fd, r->buf + r->end, READER_ROOM - r->end, 0);
	} while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	r->end += (size_t)n;
	return n;
}

int agent_reader_next(struct agent_reader *r, struct agent_message *ret)
{
	const size_t have = r->end - r->start;
	struct agent_frame frame;
	size_t bytes;

	if (have < sizeof(frame))
		return 0;
	memcpy(&frame, r->buf + r->start, sizeof(frame));
	bytes = le32toh(frame.bytes);
	if (bytes > AGENT_PAYLOAD_MAX || frame.reserved != 0)
		return -EPROTO;
	if (have - sizeof(frame) < bytes)
		return 0;
	*ret = (struct agent_message){
		.type = le16toh(frame.type),
		.payload = r->buf + r->start + sizeof(frame),
		.bytes = bytes,
	};
	r->start += sizeof(frame) + bytes;
	return 1;
}

int agent_message_copy(const struct agent_message *m, void *to, size_t bytes)
{
	if (m->bytes != bytes)
		return -EPROTO;
	memcpy(to, m->payload, bytes);
	return 0;
}

struct agent_frame agent_frame_make(enum agent_type type, size_t bytes)
{
	return (struct agent_frame){
		.bytes = htole32((uint32_t)bytes),
		.type = htole16((uint16_t)type),
	};
}

int agent_item_next(const uint8_t **pos, size_t *left,
		    struct agent_item_view *ret)
{
	struct agent_item item;
	size_t bytes;

	if (*left == 0)
		return 0;
	if (*left < sizeof(item))
		return -EPROTO;
	memcpy(&item, *pos, sizeof(item));
	bytes = le32toh(item.bytes);
	if (item.reserved != 0 || bytes > *left - sizeof(item))
		return -EPROTO;
	*ret = (struct agent_item_view){
		.key = le16toh(item.key),
		.data = *pos + sizeof(item),
		.bytes = bytes,
	};
	*pos += sizeof(item) + bytes;
	*left -= sizeof(item) + bytes;
	return 1;
}

int agent_item_strings(const struct agent_item_view *item, size_t fixed,
		       unsigned n, const char **ret)
{
	const uint8_t *pos = item->data;
	size_t left = item->bytes;

	if (left < fixed)
		return -EPROTO;
	pos += fixed;
	left -= fixed;
	for (unsigned i = 0; i < n; i++) {
		const uint8_t *nul = left ? memchr(pos, 0, left) : NULL;

		if (!nul)
			return -EPROTO;
		ret[i] = (const char *)pos;
		left -= (size_t)(nul + 1 - pos);
		pos = nul + 1;
	}
	return left == 0 ? 0 : -EPROTO;
}

/* Where BYTES more go, or NULL and the error noted. */
static uint8_t *items_room(struct agent_items *items, size_t bytes)
{
	uint8_t *at;

	if (items->error)
		return NULL;
	if (bytes > AGENT_REQUEST_MAX - items->bytes) {
		items->error = -E2BIG;
		return NULL;
	}
	if (bytes > items->room - items->bytes) {
		const size_t room = (size_t)min_u64(
			AGENT_REQUEST_MAX, 2 * (items->bytes + bytes) + 1024);
		uint8_t *data = realloc(items->data, room);

		if (!data) {
			items->error = -ENOMEM;
			return NULL;
		}
		items->data = data;
		items->room = room;
	}
	at = items->data + items->bytes;
	items->bytes += bytes;
	return at;
}

void agent_items_add(struct agent_items *items, enum agent_key key,
		     const void *fixed, size_t fixed_bytes,
		     const char *const *strings, unsigned n)
{
	struct agent_item item = {.key = htole16((uint16_t)key)};
	size_t bytes = fixed_bytes;
	uint8_t *at;

	for (unsigned i = 0; i < n; i++) {
		bytes += strings[i] ? strlen(strings[i]) + 1 : 1;
		if (bytes > AGENT_REQUEST_MAX) {
			items->error = -E2BIG;
			return;
		}
	}
	item.bytes = htole32((uint32_t)bytes);
	at = items_room(items, sizeof(item) + bytes);
	if (!at)
		return;
	memcpy(at, &item, sizeof(item));
	at += sizeof(item);
	if (fixed_bytes > 0)
		memcpy(at, fixed, fixed_bytes);
	at += fixed_bytes;
	for (unsigned i = 0; i < n; i++) {
		const char *text = strings[i] ? strings[i] : "";
		const size_t len = strlen(text) + 1;

		memcpy(at, text, len);
		at += len;
	}
}

void agent_items_done(struct agent_items *items)
{
	free(items->data);
	*items = (struct agent_items){0};
}
