/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The test guest's disk measurements: sequential passes and random reads at a
 * queue depth, by the kernel's own asynchronous I/O, past the page cache.
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define DEPTH_MAX 64

struct run {
	int fd;
	unsigned depth;
	size_t block;
	uint64_t bytes, done, next;   /* of the pass */
	uint64_t disk_blocks, random; /* random: state, 0 for sequential */
	uint16_t opcode;
	char *buf;
	struct iocb iocb[DEPTH_MAX];
};

static uint64_t run_offset(struct run *r)
{
	if (!r->random)
		return r->next;
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return r->random % r->disk_blocks * r->block;
}

static int run_submit(struct run *r, aio_context_t ctx, unsigned slot)
{
	struct iocb *cb = &r->iocb[slot];

	if (r->next >= r->bytes)
		return 0;
	memset(cb, 0, sizeof(*cb));
	cb->aio_data = slot;
	cb->aio_lio_opcode = r->opcode;
	cb->aio_fildes = (uint32_t)r->fd;
	cb->aio_buf = (uintptr_t)(r->buf + slot * r->block);
	cb->aio_nbytes = r->block;
	cb->aio_offset = (int64_t)run_offset(r);
	r->next += r->block;
	return syscall(SYS_io_submit, ctx, 1, &cb) == 1 ? 0 : -1;
}

static int run_pass(struct run *r)
{
	struct io_event event[DEPTH_MAX];
	aio_context_t ctx = 0;
	int error = 0;

	if (syscall(SYS_io_setup, r->depth, &ctx))
		return guest_fail("io_setup");
	for (unsigned i = 0; i < r->depth; i++)
		error |= run_submit(r, ctx, i);
	while (!error && r->done < r->bytes) {
		const long n = syscall(SYS_io_getevents, ctx, 1, r->depth,
				       event, NULL);

		for (long i = 0; i < n && !error; i++) {
			error = event[i].res != (int64_t)r->block;
			r->done += r->block;
			error |= run_submit(r, ctx, (unsigned)event[i].data);
		}
	}
	syscall(SYS_io_destroy, ctx);
	return error ? guest_fail("transfer") : 0;
}

/* NAME:read|write|random:SIZE:BLOCK:DEPTH */
static int do_blk(char **arg)
{
	struct run r = {
		.depth = (unsigned)guest_number(arg[4]),
		.block = guest_number(arg[3]),
		.bytes = guest_number(arg[2]),
		.opcode = IOCB_CMD_PREAD,
	};
	char path[64];
	double start, seconds;
	int error;

	if (r.depth < 1 || r.depth > DEPTH_MAX || r.block < 512)
		return guest_fail("blk: depth or block");
	guest_mounts();
	snprintf(path, sizeof(path), "/dev/%s", arg[0]);
	r.fd = open(path, O_RDWR | O_DIRECT | O_CLOEXEC);
	if (r.fd < 0)
		return guest_fail("blk: %s", path);
	r.buf = aligned_alloc(4096, r.depth * r.block);
	if (!r.buf)
		return guest_fail("blk: memory");
	memset(r.buf, 0x5a, r.depth * r.block);
	r.disk_blocks = (uint64_t)lseek(r.fd, 0, SEEK_END) / r.block;
	if (strcmp(arg[1], "write") == 0)
		r.opcode = IOCB_CMD_PWRITE;
	else if (strcmp(arg[1], "random") == 0)
		r.random = 88172645463325252u;
	start = guest_now();
	error = run_pass(&r);
	if (!error && r.opcode == IOCB_CMD_PWRITE && fsync(r.fd))
		error = guest_fail("blk: fsync");
	seconds = guest_now() - start;
	say("fact blk %s %.1f MiB/s %.0f IOPS", arg[1],
	    (double)r.bytes / (1 << 20) / seconds,
	    (double)r.bytes / (double)r.block / seconds);
	free(r.buf);
	close(r.fd);
	return error;
}

const struct action bench_actions[] = {
	{"blk", 5, do_blk, "NAME:read|write|random:SIZE:BLOCK:DEPTH"},
	{NULL, 0, NULL, NULL},
};
