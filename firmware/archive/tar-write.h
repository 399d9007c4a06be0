/* SPDX-License-Identifier: Apache-2.0 */
/* Writes tar archives: ustar, with pax records for what does not fit there. */
#ifndef FIRMWARE_ARCHIVE_TAR_WRITE_H
#define FIRMWARE_ARCHIVE_TAR_WRITE_H

#include "firmware/archive/tar.h"

/*
 * The header of ENTRY, without extended attributes; of a file its data follows
 * (entry->bytes of it), and tar_write_padding(). 0 or -errno of write(2),
 * -ENOMEM; not logged.
 */
int tar_write_entry(int fd, const struct tar_entry *entry);
/* Zeros behind BYTES of data, up to the next whole block. */
int tar_write_padding(int fd, uint64_t bytes);
/* The archive's end. */
int tar_write_end(int fd);

#endif
