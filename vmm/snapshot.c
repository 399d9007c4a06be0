/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The files of a snapshot. Numbers are little-endian, as in memory.
 *
 * The memory's checksum is the sum of the checksums of each page that is not
 * zero, of its offset and its content: holes cost nothing, and one page can be
 * replaced without the others being read.
 */
#include "vmm/snapshot.h"

#include "vmm/base/log.h"
#include "vmm/base/mem.h"
#include "vmm/base/util.h"
#include "vmm/pagemap.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define PAGE_BYTES    4096
#define STATE_VERSION 4 /* changes with what any part visits */
#define STATE_MAX     (64 * MIB)
#define RUN_BYTES     MIB /* written at once; asked whether to stop */

static const char magic[8] = "BULKHEAD";

struct head {
	char magic[8];
	uint32_t version;
	uint32_t crc; /* of all that follows, in the whole file */
	uint8_t id[SNAPSHOT_ID_BYTES];
	uint64_t saved_ns;
	uint64_t memory_bytes;
	uint64_t memory_sum;
	uint32_t directory_bytes, config_bytes, state_bytes;
	uint32_t compressed; /* the memory's file: 1, or 0 */
};
#define HEAD_SUMMED offsetof(struct head, id)

/* The page behind the RAM. */
struct tail {
	char magic[8];
	uint8_t id[SNAPSHOT_ID_BYTES];
	uint64_t memory_bytes;
	uint8_t zero[PAGE_BYTES - 32];
};

static uint32_t add_crc(uint32_t crc, const void *data, size_t bytes)
{
	return (uint32_t)crc32_z(crc, data, bytes);
}

/* ---- writing */

static bool is_zero(const uint8_t *page)
{
	/* Most pages that are not zero differ within the first words. */
	return page[0] == 0 && memcmp(page, page + 1, PAGE_BYTES - 1) == 0;
}

/* 0 of a page of zeros. */
static uint64_t page_sum(uint64_t offset, const uint8_t *page)
{
	uint32_t crc;

	if (is_zero(page))
		return 0;
	crc = add_crc(0, &offset, sizeof(offset));
	return add_crc(crc, page, PAGE_BYTES);
}

struct writer {
	int fd, pagemap_fd;
	int file_fd; /* the memory is mapped from it; -1: from none */
	uint64_t data_from, data_end; /* the part of it that has data */
	bool has_base;
	uint64_t sum, written;
};

#define RUN_PAGES (RUN_BYTES / PAGE_BYTES)

/*
 * Whether a page may be other than zero, or than the base's, by its bits in the
 * pagemap. One that the host has swapped out was written to.
 */
static bool is_touched(const struct writer *w, uint64_t bits)
{
	if (w->has_base && (bits & PAGEMAP_FILE))
		return false;
	return bits & (PAGEMAP_PRESENT | PAGEMAP_SWAPPED);
}

/*
 * Whether the file that the memory is mapped from has data at OFFSET. To read a
 * hole through the mapping would cost a fault, and a page of the host's cache.
 */
static bool has_data(struct writer *w, uint64_t offset)
{
	off_t from, end;

	if (w->file_fd < 0 || w->has_base)
		return false;
	if (offset < w->data_end)
		return offset >= w->data_from;
	from = lseek(w->file_fd, (off_t)offset, SEEK_DATA);
	end = from < 0 ? -1 : lseek(w->file_fd, from, SEEK_HOLE);
	/* ENXIO: there is none up to the end; else it may be anywhere. */
	if (from < 0)
		w->data_from = errno == ENXIO ? UINT64_MAX : offset;
	else
		w->data_from = (uint64_t)from;
	w->data_end = end < 0 ? UINT64_MAX : (uint64_t)end;
	return offset >= w->data_from;
}

/* Which pages of a run at HOST are. */
static int find_touched(const struct writer *w, const uint8_t *host,
			bool touched[RUN_PAGES])
{
	const off_t at =
		(off_t)((uintptr_t)host / PAGE_BYTES * sizeof(uint64_t));
	uint64_t bits[RUN_PAGES];

	if (w->pagemap_fd >= 0 &&
	    pread(w->pagemap_fd, bits, sizeof(bits), at) == sizeof(bits)) {
		for (size_t i = 0; i < RUN_PAGES; i++)
			touched[i] = is_touched(w, bits[i]);
		return 0;
	}
	memset(touched, true, RUN_PAGES * sizeof(touched[0]));
	return w->has_base ? -EIO : 0;
}

/* Whether the page has to be written; its sum takes the place of the old one.
 */
static int compare(struct writer *w, const uint8_t *page, uint64_t offset,
		   bool *ret_differs)
{
	uint8_t old[PAGE_BYTES];
	int r = 0;

	*ret_differs = !is_zero(page);
	if (w->has_base) {
		r = util_read_at(w->fd, old, sizeof(old), offset);
		*ret_differs = r == 0 && memcmp(old, page, PAGE_BYTES) != 0;
		if (*ret_differs)
			w->sum -= page_sum(offset, old);
	}
	if (*ret_differs) {
		w->sum += page_sum(offset, page);
		w->written += PAGE_BYTES;
	}
	return r;
}

/* The pages of BYTES at HOST, a run at most, in as few writes as can be. */
static int write_run(struct writer *w, const uint8_t *host, size_t bytes,
		     uint64_t offset)
{
	bool touched[RUN_PAGES];
	size_t from = 0, end = 0;
	int r = find_touched(w, host, touched);

	for (size_t at = 0; r == 0 && at < bytes; at += PAGE_BYTES) {
		bool differs = false;

		if (touched[at / PAGE_BYTES] || has_data(w, offset + at))
			r = compare(w, host + at, offset + at, &differs);
		if (r < 0 || !differs)
			continue;
		if (at != end) {
			r = util_write_at(w->fd, host + from, end - from,
					  offset + from);
			from = at;
		}
		end = at + PAGE_BYTES;
	}
	return r < 0 ? r
		     : util_write_at(w->fd, host + from, end - from,
				     offset + from);
}

int snapshot_write_memory(struct snapshot *snapshot, int fd,
			  const struct mem *mem, int pagemap_fd, int file_fd,
			  bool (*stops)(void *arg), void *arg,
			  uint64_t *ret_written)
{
	struct writer w = {
		.fd = fd,
		.pagemap_fd = pagemap_fd,
		.file_fd = file_fd,
		.has_base = snapshot->has_base,
		.sum = snapshot->has_base ? snapshot->memory_sum : 0,
	};
	struct tail tail = {.memory_bytes = mem->bytes};
	uint64_t offset = 0;
	int r = 0;

	for (unsigned i = 0; i < mem->nregions; i++) {
		const struct mem_region *region = &mem->region[i];

		for (uint64_t at = 0; r == 0 && at < region->bytes;
		     at += RUN_BYTES) {
			const uint64_t left = region->bytes - at;

			r = stops(arg) ? -EINTR
				       : write_run(&w, region->host + at,
						   min_u64(RUN_BYTES, left),
						   offset + at);
		}
		offset += region->bytes;
	}
	memcpy(tail.magic, magic, sizeof(tail.magic));
	memcpy(tail.id, snapshot->id, sizeof(tail.id));
	if (r == 0)
		r = util_write_at(fd, &tail, sizeof(tail), offset);
	snapshot->memory_bytes = mem->bytes;
	snapshot->memory_sum = w.sum;
	*ret_written = w.written;
	return r;
}

int snapshot_write_state(const struct snapshot *snapshot, int fd)
{
	struct head head = {
		.version = STATE_VERSION,
		.saved_ns = snapshot->saved_ns,
		.memory_bytes = snapshot->memory_bytes,
		.memory_sum = snapshot->memory_sum,
		.directory_bytes = (uint32_t)strlen(snapshot->directory),
		.config_bytes = (uint32_t)strlen(snapshot->config),
		.state_bytes = (uint32_t)snapshot->state_bytes,
		.compressed = snapshot->compressed,
	};
	const struct {
		const void *data;
		size_t bytes;
	} part[] = {
		{snapshot->directory, head.directory_bytes},
		{snapshot->config, head.config_bytes},
		{snapshot->state, head.state_bytes},
	};
	uint64_t offset = sizeof(head);
	int r = 0;

	if (snapshot->state_bytes > STATE_MAX)
		return -EFBIG;
	memcpy(head.magic, magic, sizeof(head.magic));
	memcpy(head.id, snapshot->id, sizeof(head.id));
	head.crc = add_crc(0, (const uint8_t *)&head + HEAD_SUMMED,
			   sizeof(head) - HEAD_SUMMED);
	for (unsigned i = 0; i < ARRAY_LEN(part); i++)
		head.crc = add_crc(head.crc, part[i].data, part[i].bytes);
	for (unsigned i = 0; r == 0 && i < ARRAY_LEN(part); i++) {
		r = util_write_at(fd, part[i].data, part[i].bytes, offset);
		offset += part[i].bytes;
	}
	/* Last: a file that was cut off has none. */
	return r < 0 ? r : util_write_at(fd, &head, sizeof(head), 0);
}

/* Where the next data of FD is from AT on, END if there is none: or AT itself.
 */
static uint64_t next_data(int fd, uint64_t at, uint64_t end)
{
	const off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data >= 0)
		return min_u64((uint64_t)data, end);
	return errno == ENXIO ? end : at;
}

int snapshot_copy_memory(const struct snapshot *base, int fd,
			 bool (*stops)(void *arg), void *arg)
{
	const int from = base->memory_fd;
	const uint64_t end = base->memory_bytes;
	autofree uint8_t *run = NULL;
	uint64_t at = 0;
	int r = 0;

	if (ioctl(fd, FICLONE, from) == 0)
		return 0;
	run = malloc(RUN_BYTES);
	if (!run)
		return -ENOMEM;
	while (r == 0 && (at = next_data(from, at, end)) < end) {
		const size_t bytes = min_u64(RUN_BYTES, end - at);

		r = stops(arg) ? -EINTR : util_read_at(from, run, bytes, at);
		for (size_t i = 0; r == 0 && i < bytes; i += PAGE_BYTES) {
			if (!is_zero(run + i))
				r = util_write_at(fd, run + i, PAGE_BYTES,
						  at + i);
		}
		at += bytes;
	}
	return r < 0 ? r : ftruncate(fd, (off_t)end) < 0 ? -errno : 0;
}

int snapshot_compress(struct snapshot *snapshot, int fd,
		      bool (*stops)(void *arg), void *arg, uint64_t *ret_bytes)
{
	const int r = chunks_write(snapshot->memory_fd, snapshot->memory_bytes,
				   snapshot->id, fd, stops, arg, ret_bytes);

	snapshot->compressed = r == 0;
	return r;
}

/* ---- reading */

static int open_file(const char *dir, const char *name, uint64_t *ret_bytes)
{
	autofree char *path = NULL;
	autofd int fd = -1;
	struct stat st;

	if (asprintf(&path, "%s/%s", dir, name) < 0) {
		path = NULL;
		return log_ret(-ENOMEM, "out of memory");
	}
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
	if (fd < 0 || fstat(fd, &st) < 0)
		return log_ret(-errno, "'%s': %s: not a snapshot, or not whole",
			       path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return log_ret(-EINVAL, "'%s': not a regular file", path);
	/* It names disks and directories, which are opened as this user. */
	if (st.st_uid != 0 && st.st_uid != geteuid())
		return log_ret(
			-EPERM,
			"'%s': user %u's, whose files would be opened as "
			"yours: if you trust it, chown it",
			path, (unsigned)st.st_uid);
	*ret_bytes = (uint64_t)st.st_size;
	return take_fd(&fd);
}

/* A text of BYTES at FROM, or NULL. */
static char *copy_text(const uint8_t *from, size_t bytes)
{
	char *text = malloc(bytes + 1);

	if (text) {
		memcpy(text, from, bytes);
		text[bytes] = '\0';
	}
	return text;
}

/* The state file's BYTES are all at DATA. */
static int take_state(struct snapshot *s, const char *path, const uint8_t *data,
		      size_t bytes)
{
	const uint8_t *at = data + sizeof(struct head);
	struct head head;
	uint32_t crc;

	if (bytes < sizeof(head) || memcmp(data, magic, sizeof(magic)))
		return log_ret(-EINVAL,
			       "'%s/%s': not a snapshot of this "
			       "program's",
			       path, SNAPSHOT_STATE_FILE);
	memcpy(&head, data, sizeof(head));
	if (head.version != STATE_VERSION)
		return log_ret(-EINVAL,
			       "'%s': a snapshot of version %u, this program "
			       "has %u: restore it with the one that saved it",
			       path, head.version, STATE_VERSION);
	crc = add_crc(0, data + HEAD_SUMMED, bytes - HEAD_SUMMED);
	if (crc != head.crc || (uint64_t)head.directory_bytes +
					       head.config_bytes +
					       head.state_bytes !=
				       bytes - sizeof(head))
		return log_ret(-EBADMSG,
			       "'%s/%s': damaged or cut off: its checksum is "
			       "not that of its content",
			       path, SNAPSHOT_STATE_FILE);
	memcpy(s->id, head.id, sizeof(s->id));
	s->saved_ns = head.saved_ns;
	s->memory_bytes = head.memory_bytes;
	s->memory_sum = head.memory_sum;
	s->compressed = head.compressed != 0;
	s->state_bytes = head.state_bytes;
	s->directory = copy_text(at, head.directory_bytes);
	s->config = copy_text(at + head.directory_bytes, head.config_bytes);
	s->state = (uint8_t *)copy_text(at + head.directory_bytes +
						head.config_bytes,
					head.state_bytes);
	return s->directory && s->config && s->state
		       ? 0
		       : log_ret(-ENOMEM, "out of memory");
}

/* BYTES of the file FD; PATH is for messages. */
static int read_state(struct snapshot *s, const char *path, int fd,
		      uint64_t bytes)
{
	autofree uint8_t *data = NULL;
	int r;

	if (bytes > STATE_MAX)
		return log_ret(-EINVAL, "'%s/%s': too large for a state", path,
			       SNAPSHOT_STATE_FILE);
	data = malloc(bytes + 1);
	if (!data)
		return log_ret(-ENOMEM, "out of memory");
	r = util_read_at(fd, data, bytes, 0);
	return r < 0 ? log_ret(r, "'%s/%s': %s", path, SNAPSHOT_STATE_FILE,
			       strerror(-r))
		     : take_state(s, path, data, bytes);
}

static int set_name(struct snapshot *s, const char *path)
{
	if (asprintf(&s->name, "%s/%s", path, SNAPSHOT_MEMORY_FILE) >= 0)
		return 0;
	s->name = NULL;
	return log_ret(-ENOMEM, "out of memory");
}

static int open_chunks(struct snapshot *s, const char *path)
{
	const int r =
		chunks_open(&s->chunks, s->memory_fd, s->id, s->memory_bytes);

	if (r == -EBADMSG)
		return log_ret(r, "'%s/%s': damaged or cut off", path,
			       SNAPSHOT_MEMORY_FILE);
	if (r == -ESTALE)
		return log_ret(r, "'%s/%s': of another snapshot", path,
			       SNAPSHOT_MEMORY_FILE);
	return r < 0 ? log_ret(r, "'%s/%s': %s", path, SNAPSHOT_MEMORY_FILE,
			       strerror(-r))
		     : 0;
}

/* It is whole, and the one that goes with the state. */
static int check_memory(struct snapshot *s, const char *path, uint64_t bytes)
{
	struct tail tail;
	int r;

	r = set_name(s, path);
	if (r < 0 || s->compressed)
		return r < 0 ? r : open_chunks(s, path);
	if (bytes < sizeof(tail) || bytes - sizeof(tail) != s->memory_bytes)
		return log_ret(
			-EBADMSG, "'%s/%s': has %llu bytes, not %llu: cut off",
			path, SNAPSHOT_MEMORY_FILE, (unsigned long long)bytes,
			(unsigned long long)(s->memory_bytes + sizeof(tail)));
	r = util_read_at(s->memory_fd, &tail, sizeof(tail), s->memory_bytes);
	if (r < 0)
		return log_ret(r, "'%s/%s': %s", path, SNAPSHOT_MEMORY_FILE,
			       strerror(-r));
	if (memcmp(tail.magic, magic, sizeof(magic)) ||
	    memcmp(tail.id, s->id, sizeof(s->id)) ||
	    tail.memory_bytes != s->memory_bytes)
		return log_ret(-EBADMSG, "'%s/%s': of another snapshot", path,
			       SNAPSHOT_MEMORY_FILE);
	return 0;
}

int snapshot_open_state(struct snapshot *snapshot, const char *path)
{
	uint64_t bytes = 0;
	autofd int fd = -1;

	*snapshot = (struct snapshot){.memory_fd = -1};
	fd = open_file(path, SNAPSHOT_STATE_FILE, &bytes);
	return fd < 0 ? fd : read_state(snapshot, path, fd, bytes);
}

int snapshot_open(struct snapshot *snapshot, const char *path)
{
	const int r = snapshot_open_state(snapshot, path);
	uint64_t bytes = 0;

	if (r < 0)
		return r;
	snapshot->memory_fd = open_file(path, SNAPSHOT_MEMORY_FILE, &bytes);
	return snapshot->memory_fd < 0 ? snapshot->memory_fd
				       : check_memory(snapshot, path, bytes);
}

int snapshot_take(struct snapshot *snapshot, const char *name, int state_fd,
		  int memory_fd)
{
	struct stat state, memory;
	int r;

	*snapshot = (struct snapshot){.memory_fd = memory_fd};
	if (fstat(state_fd, &state) < 0 || fstat(memory_fd, &memory) < 0)
		return log_ret(-errno, "'%s': %s", name, strerror(errno));
	r = read_state(snapshot, name, state_fd, (uint64_t)state.st_size);
	return r < 0 ? r
		     : check_memory(snapshot, name, (uint64_t)memory.st_size);
}

void snapshot_close(struct snapshot *snapshot)
{
	free(snapshot->name);
	free(snapshot->config);
	free(snapshot->directory);
	free(snapshot->state);
	util_close(&snapshot->memory_fd);
	chunks_close(&snapshot->chunks);
	working_set_close(&snapshot->working_set);
	*snapshot = (struct snapshot){.memory_fd = -1};
}

/* The sum of what is at RUN, BYTES of the RAM from AT on. */
static uint64_t run_sum(uint64_t at, const uint8_t *run, size_t bytes)
{
	uint64_t sum = 0;

	for (size_t page = 0; page < bytes; page += PAGE_BYTES)
		sum += page_sum(at + page, run + page);
	return sum;
}

static int sum_plain(const struct snapshot *s, uint8_t *run, uint64_t *ret_sum)
{
	for (uint64_t at = 0; at < s->memory_bytes; at += RUN_BYTES) {
		const size_t bytes = min_u64(RUN_BYTES, s->memory_bytes - at);
		const int r = util_read_at(s->memory_fd, run, bytes, at);

		if (r < 0)
			return log_ret(r, "the memory at %llu: %s",
				       (unsigned long long)at, strerror(-r));
		*ret_sum += run_sum(at, run, bytes);
	}
	return 0;
}

static int sum_chunks(const struct snapshot *s, uint8_t *run, uint64_t *ret_sum)
{
	const struct chunks *chunks = &s->chunks;
	struct chunk_reader reader;
	int r = chunk_reader_init(&reader);

	for (uint32_t i = 0; r == 0 && i < chunks->count; i++) {
		const uint32_t number = chunks->chunk[i].number;
		const uint64_t at = (uint64_t)number * CHUNK_BYTES;

		r = chunk_read(&reader, chunks, s->memory_fd, i, run);
		if (r == -EBADMSG)
			log_error("the memory is damaged, at %llu",
				  (unsigned long long)at);
		else if (r < 0)
			log_error("the memory at %llu: %s",
				  (unsigned long long)at, strerror(-r));
		else
			*ret_sum +=
				run_sum(at, run, chunks_room(chunks, number));
	}
	chunk_reader_done(&reader);
	return r;
}

int snapshot_verify(const struct snapshot *snapshot)
{
	autofree uint8_t *run = malloc(RUN_BYTES);
	uint64_t sum = 0;
	int r;

	if (!run)
		return log_ret(-ENOMEM, "out of memory");
	r = snapshot->compressed ? sum_chunks(snapshot, run, &sum)
				 : sum_plain(snapshot, run, &sum);
	if (r < 0)
		return r;
	return sum == snapshot->memory_sum
		       ? 0
		       : log_ret(-EBADMSG, "the memory is damaged: its "
					   "checksum is not the saved one");
}
