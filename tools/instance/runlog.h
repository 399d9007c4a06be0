/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An instance's log: what its command wrote, when, and on which stream. Two
 * files of a bounded size each; the older is thrown away when the newer is
 * full. A log that cannot be written is lost, never the command's output.
 *
 * A file is a sequence of records in the host's byte order: struct
 * runlog_record and its bytes.
 */
#ifndef TOOLS_INSTANCE_RUNLOG_H
#define TOOLS_INSTANCE_RUNLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RUNLOG_FILE       "log"
#define RUNLOG_OLDER      "log.1"
#define RUNLOG_FILE_MAX   (UINT64_C(8) << 20)
#define RUNLOG_RECORD_MAX 65536

enum runlog_stream { RUNLOG_STDOUT = 1, RUNLOG_STDERR = 2 };

struct runlog_record {
	uint32_t bytes;  /* that follow, up to RUNLOG_RECORD_MAX */
	uint32_t stream; /* enum runlog_stream */
	int64_t time_ns; /* since 1970 */
};

struct runlog {
	int dir_fd;     /* borrowed */
	int fd;         /* owned; -1: closed, or given up */
	uint64_t bytes; /* in the newer file */
};

/*
 * Goes on behind what is there. A failure is said once and makes the log one
 * that keeps nothing.
 */
void runlog_open(struct runlog *log, int dir_fd);
void runlog_write(struct runlog *log, enum runlog_stream stream,
		  const void *data, size_t bytes);
void runlog_close(struct runlog *log);

/* ---- reading, while another process may be writing */

struct runlog_reader {
	int dir_fd; /* borrowed */
	int fd;     /* owned; -1: nothing there yet */
	bool older; /* FD is the older file */
	uint64_t offset;
};

void runlog_reader_init(struct runlog_reader *reader, int dir_fd);
void runlog_reader_done(struct runlog_reader *reader);

/*
 * The next record; DATA has room for RUNLOG_RECORD_MAX. 1; 0 when there is none
 * (now); -EINVAL for a damaged file, other -errno. Not logged.
 */
int runlog_next(struct runlog_reader *reader, struct runlog_record *ret,
		void *data);

#endif
