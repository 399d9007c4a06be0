/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Taking apart and putting together what firmware/agent/agent.h describes:
 * frames of a stream, items of a request. Both sides use it; it knows no
 * session.
 */
#ifndef FIRMWARE_AGENT_AGENT_WIRE_H
#define FIRMWARE_AGENT_AGENT_WIRE_H

#include "firmware/agent/agent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The frames of one direction of one connection. */
struct agent_reader {
	uint8_t *buf; /* owned: room for the largest frame */
	size_t start, end;
};

/* A frame that came whole. */
struct agent_message {
	uint16_t type;
	const uint8_t *payload; /* borrowed, until the next fill */
	size_t bytes;
};

/* 0 or -ENOMEM. */
int agent_reader_init(struct agent_reader *r);
/* Accepts a zeroed reader. */
void agent_reader_done(struct agent_reader *r);

/*
 * Receives once from a socket: the number of bytes, 0 at the end, -errno. To be
 * called when agent_reader_next() has no frame.
 */
ssize_t agent_reader_fill(struct agent_reader *r, int fd);

/* 1: a frame; 0: not all of it is here yet; -EPROTO: it cannot be one. */
int agent_reader_next(struct agent_reader *r, struct agent_message *ret);

/* Copies a payload that must be BYTES long. 0 or -EPROTO. */
int agent_message_copy(const struct agent_message *m, void *to, size_t bytes);

/* The header of a frame. */
struct agent_frame agent_frame_make(enum agent_type type, size_t bytes);

/* One item of a request. */
struct agent_item_view {
	uint16_t key;
	const uint8_t *data; /* borrowed */
	size_t bytes;
};

/*
 * The item at *POS of what is *LEFT, and beyond it. 1, 0 at the end, or
 * -EPROTO.
 */
int agent_item_next(const uint8_t **pos, size_t *left,
		    struct agent_item_view *ret);

/*
 * The N strings behind the first FIXED bytes of an item; nothing may follow. 0
 * or -EPROTO. They are borrowed.
 */
int agent_item_strings(const struct agent_item_view *item, size_t fixed,
		       unsigned n, const char **ret);

/* A request that is put together. Zeroed is empty. */
struct agent_items {
	uint8_t *data; /* owned */
	size_t bytes, room;
	int error; /* the first thing that went wrong: -ENOMEM or -E2BIG */
};

/* A structure (or NULL) and N strings (NULL is an empty one). */
void agent_items_add(struct agent_items *items, enum agent_key key,
		     const void *fixed, size_t fixed_bytes,
		     const char *const *strings, unsigned n);
void agent_items_done(struct agent_items *items);

#endif
