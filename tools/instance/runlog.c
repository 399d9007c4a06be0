/* SPDX-License-Identifier: Apache-2.0 */
/* The log's two files: appending, turning over, and reading behind that. */
#include "tools/instance/runlog.h"

#include "vmm/base/log.h"
#include "vmm/base/util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>

static int create(int dir_fd)
{
	int fd = openat(dir_fd, RUNLOG_FILE,
			O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_NOFOLLOW |
				O_CLOEXEC,
			0600);

	return fd < 0 ? -errno : fd;
}

/* Behind the last whole record: its writer may have been killed at any time. */
static uint64_t whole_bytes(int fd)
{
	struct runlog_record record;
	uint64_t end = 0;
	struct stat st;

	while (fstat(fd, &st) == 0 &&
	       util_read_at(fd, &record, sizeof(record), end) == 0 &&
	       record.bytes <= RUNLOG_RECORD_MAX &&
	       range_fits(end, sizeof(record) + record.bytes,
			  (uint64_t)st.st_size))
		end += sizeof(record) + record.bytes;
	return end;
}

/* The log of an instance that starts again goes on. */
static int open_last(struct runlog *log)
{
	int fd = openat(log->dir_fd, RUNLOG_FILE,
			O_RDWR | O_APPEND | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return create(log->dir_fd);
	log->bytes = whole_bytes(fd);
	if (ftruncate(fd, (off_t)log->bytes) < 0) {
		close(fd);
		return -errno;
	}
	return fd;
}

static void give_up(struct runlog *log, int error)
{
	log_warn("log: %s; `bulkhead logs` will lack what comes now",
		 strerror(-error));
	util_close(&log->fd);
}

void runlog_open(struct runlog *log, int dir_fd)
{
	*log = (struct runlog){.dir_fd = dir_fd};
	log->fd = open_last(log);
	if (log->fd < 0)
		give_up(log, log->fd);
}

void runlog_close(struct runlog *log)
{
	util_close(&log->fd);
}

static int turn_over(struct runlog *log)
{
	int fd;

	if (renameat(log->dir_fd, RUNLOG_FILE, log->dir_fd, RUNLOG_OLDER) < 0)
		return -errno;
	fd = create(log->dir_fd);
	if (fd < 0)
		return fd;
	close(log->fd);
	log->fd = fd;
	log->bytes = 0;
	return 0;
}

/* The whole record or, as far as a reader can tell, nothing. */
static int append(struct runlog *log, const struct runlog_record *head,
		  const void *data)
{
	const struct iovec iov[2] = {
		{.iov_base = (void *)head, .iov_len = sizeof(*head)},
		{.iov_base = (void *)data, .iov_len = head->bytes},
	};
	const size_t all = sizeof(*head) + head->bytes;
	ssize_t n;

	do {
		n = writev(log->fd, iov, 2);
	} while (n < 0 && errno == EINTR);
	if (n == (ssize_t)all) {
		log->bytes += all;
		return 0;
	}
	if (n >= 0 && ftruncate(log->fd, (off_t)log->bytes) == 0)
		return -ENOSPC;
	return -errno;
}

void runlog_write(struct runlog *log, enum runlog_stream stream,
		  const void *data, size_t bytes)
{
	const char *at = data;
	struct timespec now;
	int r = 0;

	clock_gettime(CLOCK_REALTIME, &now);
	while (log->fd >= 0 && bytes > 0) {
		const struct runlog_record head = {
			.bytes = (uint32_t)min_u64(bytes, RUNLOG_RECORD_MAX),
			.stream = stream,
			.time_ns =
				now.tv_sec * INT64_C(1000000000) + now.tv_nsec,
		};

		if (log->bytes >= RUNLOG_FILE_MAX)
			r = turn_over(log);
		if (r == 0)
			r = append(log, &head, at);
		if (r < 0) {
			give_up(log, r);
			return;
		}
		at += head.bytes;
		bytes -= head.bytes;
	}
}

/* ---- reading */

void runlog_reader_init(struct runlog_reader *reader, int dir_fd)
{
	*reader = (struct runlog_reader){.dir_fd = dir_fd, .fd = -1};
}

void runlog_reader_done(struct runlog_reader *reader)
{
	util_close(&reader->fd);
}

static int open_file(struct runlog_reader *reader, const char *name)
{
	util_close(&reader->fd);
	reader->fd =
		openat(reader->dir_fd, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	reader->offset = 0;
	return reader->fd < 0 ? -errno : 0;
}

static int open_first(struct runlog_reader *reader)
{
	int r = open_file(reader, RUNLOG_OLDER);

	reader->older = r == 0;
	return r == -ENOENT ? open_file(reader, RUNLOG_FILE) : r;
}

/* The file that is read was the newer one; is it still? */
static bool has_turned(const struct runlog_reader *reader)
{
	struct stat ours, newer;

	return !reader->older && fstat(reader->fd, &ours) == 0 &&
	       fstatat(reader->dir_fd, RUNLOG_FILE, &newer,
		       AT_SYMLINK_NOFOLLOW) == 0 &&
	       ours.st_ino != newer.st_ino;
}

/* 1, 0: the file ends here (for now), or -errno. */
static int read_record(struct runlog_reader *reader, struct runlog_record *head,
		       void *data)
{
	int r = util_read_at(reader->fd, head, sizeof(*head), reader->offset);

	if (r == 0 && (head->bytes > RUNLOG_RECORD_MAX || head->bytes == 0))
		return -EINVAL;
	if (r == 0)
		r = util_read_at(reader->fd, data, head->bytes,
				 reader->offset + sizeof(*head));
	if (r == -ENODATA)
		return 0;
	if (r < 0)
		return r;
	reader->offset += sizeof(*head) + head->bytes;
	return 1;
}

int runlog_next(struct runlog_reader *reader, struct runlog_record *ret,
		void *data)
{
	bool turned;
	int r;

	if (reader->fd < 0) {
		r = open_first(reader);
		if (r < 0)
			return r == -ENOENT ? 0 : r;
	}
	/* Asked first: what is written between the two is not missed. */
	turned = has_turned(reader);
	r = read_record(reader, ret, data);
	if (r != 0 || (!reader->older && !turned))
		return r;
	reader->older = false;
	r = open_file(reader, RUNLOG_FILE);
	return r < 0 ? (r == -ENOENT ? 0 : r) : read_record(reader, ret, data);
}
