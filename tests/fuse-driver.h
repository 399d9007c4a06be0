/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the file system device as a guest's FUSE would: one request at a time,
 * and its answer.
 */
#ifndef TESTS_FUSE_DRIVER_H
#define TESTS_FUSE_DRIVER_H

#include "tests/descriptors.h"
#include "tests/vdriver.h"
#include "tests/tempdir.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/virtio_ids.h>
#include <linux/virtio_mmio.h>
#include <linux/virtio_ring.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

extern const struct virtio_ops virtio_fs;

#define REQUESTS 1
#define OUT_MAX  (80u << 10)
#define IN_MAX   (128u << 10)
#define BROKEN   (-1000000) /* no answer: the device needs a reset */
#define NOFILE   1024       /* descriptors, on every machine */

struct rig {
	char dir[TEMPDIR_ROOM];
	struct vdriver *v;
	struct iovec out, in; /* of every request */
	const void *answer;   /* behind the header, of the last one */
	uint64_t unique;
};

static inline void host_file(const struct rig *r, const char *name,
			     const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", r->dir, name);
	f = fopen(path, "we");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static inline void up_with(struct rig *r, uint64_t features)
{
	assert_true(vdriver_up(r->v, features));
	r->out = vdriver_buf(r->v, NULL, OUT_MAX);
	r->in = vdriver_buf(r->v, NULL, IN_MAX);
	r->answer = (char *)r->in.iov_base + sizeof(struct fuse_out_header);
}

static inline void up(struct rig *r)
{
	up_with(r, UINT64_MAX);
}

/* Exactly these bytes, whatever their header says. */
static inline int64_t send_raw(struct rig *r, size_t bytes, size_t room)
{
	const struct iovec out = {r->out.iov_base, bytes};
	const struct iovec in = {r->in.iov_base, room};
	const struct fuse_out_header *header = r->in.iov_base;
	int64_t written;

	memset(r->in.iov_base, 0xee, room + 1 < IN_MAX ? room + 1 : IN_MAX);
	vdriver_add(r->v, REQUESTS, &out, 1, &in, room ? 1 : 0);
	vdriver_kick(r->v, REQUESTS);
	for (unsigned i = 0; i < PATIENCE_MS; i++) {
		uint32_t n;

		if (vdriver_needs_reset(r->v))
			return BROKEN;
		if (vdriver_wait_used(r->v, REQUESTS, &n, 1) < 0)
			continue;
		written = n;
		if (room == 0)
			return written;
		assert_true(written >= (int64_t)sizeof(*header));
		assert_int_equal(written, header->len);
		assert_true(header->len <= room);
		assert_int_equal(header->unique, r->unique);
		if (room < IN_MAX)
			assert_int_equal(((uint8_t *)r->in.iov_base)[room],
					 0xee);
		if (header->error)
			assert_int_equal(header->len, sizeof(*header));
		return header->error ? header->error
				     : written - (int64_t)sizeof(*header);
	}
	fail_msg("no answer");
	return 0;
}

struct ask {
	uint32_t opcode;
	uint64_t node;
	const void *arg;
	size_t arg_bytes;
	const char *text; /* zero-terminated parts, TEXT_BYTES in all */
	size_t text_bytes;
	size_t room; /* for the answer's payload; 0: plenty */
	bool no_answer;
};

/* Bytes of the answer, or the error. */
static inline int64_t ask(struct rig *r, const struct ask *a)
{
	struct fuse_in_header *header = r->out.iov_base;
	uint8_t *at = r->out.iov_base;
	const size_t bytes = sizeof(*header) + a->arg_bytes + a->text_bytes;
	const size_t room = a->no_answer ? 0
			    : a->room ? a->room + sizeof(struct fuse_out_header)
				      : IN_MAX;

	assert_true(bytes <= OUT_MAX);
	*header = (struct fuse_in_header){
		.len = (uint32_t)bytes,
		.opcode = a->opcode,
		.unique = ++r->unique,
		.nodeid = a->node,
		.uid = geteuid(),
		.gid = getegid(),
	};
	if (a->arg_bytes)
		memcpy(at + sizeof(*header), a->arg, a->arg_bytes);
	if (a->text_bytes)
		memcpy(at + sizeof(*header) + a->arg_bytes, a->text,
		       a->text_bytes);
	return send_raw(r, bytes, room);
}

#define ASK(op, node_, arg_, ...)                                              \
	ask(r, &(struct ask){.opcode = (op),                                   \
			     .node = (node_),                                  \
			     .arg = &(arg_),                                   \
			     .arg_bytes = sizeof(arg_),                        \
			     __VA_ARGS__})
#define NAME(literal) .text = (literal), .text_bytes = sizeof(literal)

static inline int64_t ask_name(struct rig *r, uint32_t opcode, uint64_t node,
			       const char *name)
{
	return ask(r, &(struct ask){.opcode = opcode,
				    .node = node,
				    .text = name,
				    .text_bytes = strlen(name) + 1});
}

static inline int64_t start(struct rig *r)
{
	const struct fuse_init_in init = {.major = 7,
					  .minor = 41,
					  .max_readahead = 131072,
					  .flags = UINT32_MAX,
					  .flags2 = UINT32_MAX};

	return ASK(FUSE_INIT, 0, init);
}

static inline void new_device(struct rig *r, const char *options)
{
	char text[128];

	snprintf(text, sizeof(text), "%s,tag=a-tag%s", r->dir, options);
	vdriver_free(r->v);
	r->v = vdriver_new(&virtio_fs, text);
	assert_non_null(r->v);
	up(r);
	assert_int_equal(start(r), sizeof(struct fuse_init_out));
}

static inline int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	tempdir_name_on_disk(r->dir);
	if (!mkdtemp(r->dir))
		return -1;
	host_file(r, "file", "some text");
	*state = r;
	new_device(r, "");
	return 0;
}

static inline int teardown(void **state)
{
	struct rig *r = *state;
	char command[128];

	vdriver_free(r->v);
	snprintf(command, sizeof(command), "rm -rf %s", r->dir);
	assert_int_equal(system(command), 0);
	free(r);
	return 0;
}

static inline uint64_t look(struct rig *r, uint64_t dir, const char *name)
{
	assert_int_equal(ask_name(r, FUSE_LOOKUP, dir, name),
			 sizeof(struct fuse_entry_out));
	return ((const struct fuse_entry_out *)r->answer)->nodeid;
}

static inline uint64_t open_node(struct rig *r, uint64_t node, uint32_t flags)
{
	const struct fuse_open_in in = {.flags = flags};

	assert_int_equal(ASK(FUSE_OPEN, node, in),
			 sizeof(struct fuse_open_out));
	return ((const struct fuse_open_out *)r->answer)->fh;
}

#endif
